"""Activations and losses: formula, domain, derivative and source, in one place.

The integer codes are what the compiled kernels branch on; `_simd.h` and `_backprop_kernels.pxi` name the same ones.
Equations are those of docs/backprop.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from numbers import Real
from types import SimpleNamespace
from typing import TypeVar

import numpy as np


def is_finite_real(value: object) -> bool:
    """Whether a value is a real number, no bool, that a float can hold."""
    try:
        return isinstance(value, Real) and not isinstance(value, bool | np.bool_) and math.isfinite(value)
    except OverflowError:  # an integer beyond the largest float
        return False


@dataclass(frozen=True)
class Activation:
    """An activation function phi, applied to a layer's pre-activation z.

    Attributes
    ----------
    name : str
        Name by which it is chosen.
    code : int
        Number by which the compiled kernels know it.
    formula, derivative, domain, source : str
        What it computes; its derivative, written with the activation v = phi(z); the values v takes; its origin.
    slope : float
        Slope below zero.  Only leaky_relu has one that may be set; a corner's two slopes are parameters.
    """

    name: str
    code: int
    formula: str
    derivative: str
    domain: str
    source: str
    slope: float = 0.0

    def with_slope(self, slope: float) -> Activation:
        """Return the same activation with another slope below zero (leaky_relu only; finite and >= 0)."""
        if self.name != "leaky_relu":
            raise ValueError(f"slope: only leaky_relu has a slope, got slope={slope!r} for {self.name}")
        if not is_finite_real(slope) or slope < 0:
            raise ValueError(f"slope: expected a finite number >= 0, got {slope!r}")
        return replace(self, slope=float(slope))


IDENTITY, RELU, LEAKY_RELU, TANH, SIGMOID, SOFTMAX, EXP, CORNER = range(8)

identity = Activation("identity", IDENTITY, "z", "1", "all reals", "a linear layer")
relu = Activation(
    "relu", RELU, "0 if z < 0 else z", "1 if v > 0 else 0", "[0, inf)", "Nair and Hinton 2010; derivative 0 at z = 0"
)
leaky_relu = Activation(
    "leaky_relu",
    LEAKY_RELU,
    "slope * z if z < 0 else z",
    "1 if v > 0 else slope",
    "all reals (slope > 0)",
    "Maas, Hannun and Ng 2013; derivative `slope` at z = 0",
    slope=0.01,
)
tanh = Activation("tanh", TANH, "tanh(z)", "1 - v**2", "(-1, 1)", "LeCun et al., Efficient BackProp, 1998")
sigmoid = Activation("sigmoid", SIGMOID, "1 / (1 + exp(-z))", "v * (1 - v)", "(0, 1)", "Rumelhart et al. 1986")
softmax = Activation(
    "softmax",
    SOFTMAX,
    "exp(z_j) / sum_k exp(z_k)",
    "v_j * (1[j=k] - v_k); only the combination with cross_entropy, softmax(z) - y, is used",
    "(0, 1), a row sums to 1",
    "Bridle 1990; the row's maximum is subtracted before exp",
)

exp = Activation(
    "exp",
    EXP,
    "exp(z)",
    "v; only the combination with poisson, exp(z) - y, is used",
    "(0, inf)",
    "the inverse of the log link of Nelder and Wedderburn 1972; overflows to infinity",
)

# Its three numbers a neuron are parameters, so that the kernels leave it out where they apply an activation, and bend
# what they get there (`bend`): as an activation without parameters it is the identity.
corner = Activation(
    "corner",
    CORNER,
    "z * left + offset if z < 0 else z * right + offset",
    "left if z < 0, right if z > 0, their mean at z = 0",
    "all reals",
    "the C++ class FloatNeuralNet; without the offset and with right = 1 the PReLU of He et al. 2015",
)
CORNER_START = (0.01, 0.0, 1.0)  # left, offset, right, as the class starts: leaky_relu

ACTIVATIONS: dict[str, Activation] = {
    a.name: a for a in (identity, relu, leaky_relu, tanh, sigmoid, softmax, exp, corner)
}
OUTPUT_ONLY = (SOFTMAX, EXP)  # whose derivative appears only together with a loss


@dataclass(frozen=True)
class Loss:
    """A loss of one row, as a function of the output layer's pre-activation z (O,) and the target y (O,).

    Attributes
    ----------
    name : str
        Name by which it is chosen.
    code : int
        Number by which the compiled kernels know it.
    formula, derivative, domain, source : str
        What it computes; its derivative by z; the targets it accepts; where it comes from.
    outputs : tuple of str
        Output activations it goes with.
    metric : str
        Validation metric reported unless another is asked for.
    ceiling : float
        The most that the loss of a row, of binary_cross_entropy that of an output, counts as.  The gradient knows no
        ceiling.
    """

    name: str
    code: int
    formula: str
    derivative: str
    domain: str
    source: str
    outputs: tuple[str, ...]
    metric: str
    ceiling: float = math.inf


SQUARED_ERROR, CROSS_ENTROPY, BINARY_CROSS_ENTROPY, POISSON = range(4)

squared_error = Loss(
    "squared_error",
    SQUARED_ERROR,
    "sum_j (v_j - y_j)**2",
    "2 (v_j - y_j) phi'(z_j)",
    "all reals",
    "the article's loss: summed over the outputs, neither halved nor averaged",
    ("identity", "relu", "leaky_relu", "tanh", "sigmoid", "corner"),
    "r2",
)
cross_entropy = Loss(
    "cross_entropy",
    CROSS_ENTROPY,
    "log(sum_k exp(z_k)) sum_j y_j - sum_j y_j z_j",
    "softmax(z)_j sum_k y_k - y_j",
    "class labels 0 .. O-1, or rows with entries >= 0 (a row of probabilities sums to 1)",
    "-sum_j y_j log softmax(z)_j, written without the logarithm of a rounded probability",
    ("softmax",),
    "accuracy",
)
binary_cross_entropy = Loss(
    "binary_cross_entropy",
    BINARY_CROSS_ENTROPY,
    "sum_j max(z_j, 0) - z_j y_j + log(1 + exp(-|z_j|))",
    "sigmoid(z_j) - y_j",
    "[0, 1]",
    "-y log v - (1 - y) log(1 - v) with v = sigmoid(z), written so that neither logarithm overflows",
    ("sigmoid",),
    "accuracy",
)
poisson = Loss(
    "poisson",
    POISSON,
    "sum_j exp(z_j) - z_j y_j + y_j log y_j - y_j",
    "exp(z_j) - y_j",
    "[0, inf)",
    "half the deviance of a Poisson distribution with mean v = exp(z), 0 where v = y; 0 log 0 is 0",
    ("exp",),
    "r2",
)

LOSSES: dict[str, Loss] = {loss.name: loss for loss in (squared_error, cross_entropy, binary_cross_entropy, poisson)}


class Activations(SimpleNamespace):
    """The activation functions by name; wherever one is asked for, its name will do.

    identity, relu, leaky_relu (with another slope: ``fnn.activations.leaky_relu.with_slope(0.2)``), tanh, sigmoid and
    corner go on any layer, softmax and exp on the last one only.  Each has its `formula`, `derivative`, `domain` and
    `source` as text.

    Examples
    --------
    >>> fnn.activations.relu.formula
    '0 if z < 0 else z'
    """


class Losses(SimpleNamespace):
    """The losses by name; wherever one is asked for, its name will do.

    squared_error goes with every output activation but softmax and exp, cross_entropy with softmax,
    binary_cross_entropy with sigmoid, poisson with exp.  Each has its `formula`, `derivative`, `domain` (of the
    targets) and `source` as text, the names of its `outputs` and of its `metric`.

    Examples
    --------
    >>> fnn.losses.cross_entropy.outputs
    ('softmax',)
    """


activations = Activations(**ACTIVATIONS)
losses = Losses(**LOSSES)


_Formula = TypeVar("_Formula", Activation, Loss)


def find_activation(activation: str | Activation, argument: str) -> Activation:
    """Return an activation given itself or its name; the error names the `argument` it came from."""
    return _find(activation, Activation, ACTIVATIONS, argument)


def find_loss(loss: str | Loss) -> Loss:
    """Return a loss given itself or its name."""
    return _find(loss, Loss, LOSSES, "loss")


def _find(wanted: object, kind: type[_Formula], known: dict[str, _Formula], argument: str) -> _Formula:
    if isinstance(wanted, kind):
        return wanted
    if isinstance(wanted, str) and wanted in known:
        return known[wanted]
    raise ValueError(f"{argument}: expected one of {', '.join(known)}, got {wanted!r}")
