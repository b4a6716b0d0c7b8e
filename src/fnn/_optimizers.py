"""Optimisers: how a gradient moves the parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from fnn._formulas import is_finite_real

DEPTH_SCALED = "depth_scaled"
BASE_RATE = 0.1  # that it divides


class Rule(NamedTuple):
    """What the update kernels need to know (docs/backprop.md, eq. 8 and 9)."""

    rate: float
    momentum: float  # Adam's beta_1
    nesterov: bool
    saturation: float  # infinity: no limit
    adam: bool = False
    beta_2: float = 0.0
    epsilon: float = 0.0
    alpha: float = 0.0  # a batch's summed loss includes alpha / 2 times the sum of the squared weights
    fista: bool = False  # `momentum` is then what of the last moves is repeated
    fast_brake: bool = False
    fixed_nu: bool = False
    floor: float = 0.0  # no weight comes nearer to 0; 0: as near as it likes

    @property
    def states(self) -> int:
        """Vectors of P numbers that are kept from one update to the next."""
        return 2 if self.adam else 1 + self.fast_brake if self.fista else int(self.momentum > 0)

    def at(self, update: int) -> Rule:
        """Return the rule of an update, counted from 1.

        Adam's rate makes up for moments that start at zero; FISTA repeats more and more of the moves so far.
        """
        if self.fista:
            nu = float(update > 1) if self.fixed_nu else (fista_t(update - 1) - 1) / fista_t(update)
            return self._replace(momentum=nu)
        if not self.adam:
            return self
        return self._replace(rate=self.rate * math.sqrt(1 - self.beta_2**update) / (1 - self.momentum**update))


_reached = (0, 1.0)  # where fista_t has stopped: the updates of a training run come one after the other


def fista_t(update: int) -> float:
    """FISTA's t after an update, counted from 1: t <- (1 + sqrt(1 + 4 t**2)) / 2, from 1."""
    global _reached
    done, t = _reached if _reached[0] <= update else (0, 1.0)
    for _ in range(done, update):
        t = (1 + math.sqrt(1 + 4 * t * t)) / 2
    _reached = (update, t)
    return t


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent, with momentum if asked for.

    Plain: ``W -= learning_rate * gradient``.  With momentum ``m``: ``v = m * v - learning_rate * gradient; W += v``; in
    Nesterov's form ``W += m * v - learning_rate * gradient`` (Sutskever et al. 2013, as scikit-learn and Keras write
    it).  The velocity ``v`` starts at zero in every call of `fit`.

    Parameters
    ----------
    learning_rate : float or "depth_scaled", default 0.01
        Step size, > 0 and finite.  depth_scaled: `base_rate` divided by the number L of the network's dense layers (the
        input is not one), since all of them step at once and so move the output L times as far as one alone would.
    momentum : float, default 0
        In [0, 1).
    nesterov : bool, default False
        Use Nesterov's form; needs momentum > 0.
    base_rate : float, optional
        What depth_scaled divides, > 0 and finite; 0.1 without it. For depth_scaled alone.

    Raises
    ------
    ValueError
        A value outside its range.
    """

    learning_rate: float | str = 0.01
    momentum: float = 0.0
    nesterov: bool = False
    base_rate: float | None = None

    def __post_init__(self) -> None:
        rate, momentum = self.learning_rate, self.momentum
        if isinstance(rate, str):
            if rate != DEPTH_SCALED:
                raise ValueError(f"learning_rate: expected {DEPTH_SCALED!r} or a finite number > 0, got {rate!r}")
        elif not is_finite_real(rate) or rate <= 0:
            raise ValueError(f"learning_rate: expected a finite number > 0, got {rate!r}")
        if self.base_rate is not None:
            if not is_finite_real(self.base_rate) or self.base_rate <= 0:
                raise ValueError(f"base_rate: expected a finite number > 0, got {self.base_rate!r}")
            if rate != DEPTH_SCALED:
                raise ValueError(f"base_rate: needs learning_rate={DEPTH_SCALED!r}, got learning_rate={rate!r}")
        if not is_finite_real(momentum) or not 0 <= momentum < 1:
            raise ValueError(f"momentum: expected a number in [0, 1), got {momentum!r}")
        if not isinstance(self.nesterov, bool | np.bool):
            raise ValueError(f"nesterov: expected True or False, got {self.nesterov!r}")
        if self.nesterov and not momentum:
            raise ValueError("nesterov: needs momentum > 0, got momentum=0")

    def at_depth(self, n_layers: int) -> SGD:
        """Return the optimiser with the rate for a network of so many dense layers."""
        if self.learning_rate == DEPTH_SCALED:
            base_rate = BASE_RATE if self.base_rate is None else self.base_rate
            return replace(self, learning_rate=base_rate / n_layers, base_rate=None)
        return self

    def rule(self, saturation: float) -> Rule:
        """Return the numbers that the update kernels take."""
        return Rule(float(self.learning_rate), float(self.momentum), bool(self.nesterov), saturation)


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba 2015), in the form of the last lines of their section 2, as scikit-learn and Keras write it.

    ``m = beta_1 * m + (1 - beta_1) * gradient``, ``v = beta_2 * v + (1 - beta_2) * gradient**2``,
    ``W -= learning_rate * sqrt(1 - beta_2**t) / (1 - beta_1**t) * m / (sqrt(v) + epsilon)`` at the update t = 1, 2, ...
    The moments ``m`` and ``v`` start at zero, and t at 1, in every call of `fit`.

    Parameters
    ----------
    learning_rate : float, default 0.001
        Step size, > 0 and finite.
    beta_1, beta_2 : float, default 0.9 and 0.999
        In [0, 1).
    epsilon : float, default 1e-8
        Finite, at least 2**-126, float32's smallest normal number.

    Raises
    ------
    ValueError
        A value outside its range.
    """

    learning_rate: float = 0.001
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        for name in ("learning_rate", "epsilon"):
            value = getattr(self, name)
            if not is_finite_real(value) or value <= 0:
                raise ValueError(f"{name}: expected a finite number > 0, got {value!r}")
        if self.epsilon < 2.0**-126:  # in float32 it would be 0 or nearly so, and 0 / 0 where a gradient is 0
            raise ValueError(f"epsilon: expected at least 2**-126 (1.2e-38), got {self.epsilon!r}")
        for name in ("beta_1", "beta_2"):
            value = getattr(self, name)
            if not is_finite_real(value) or not 0 <= value < 1:
                raise ValueError(f"{name}: expected a number in [0, 1), got {value!r}")

    def rule(self, saturation: float) -> Rule:
        """Return the numbers that the update kernels take."""
        return Rule(
            float(self.learning_rate),
            float(self.beta_1),
            False,
            saturation,
            True,
            float(self.beta_2),
            float(self.epsilon),
        )


@dataclass(frozen=True)
class FISTA:
    """Nesterov's momentum with the weights of FISTA (Beck and Teboulle 2009), and a brake for each weight.

    An update takes the step ``z = W - learning_rate * gradient``, adds it to the moves so far, ``m += z - W``, and
    repeats a part of those, ``W = z + nu * m``, where the next gradient is taken.  With ``t = 1`` and then
    ``t' = (1 + sqrt(1 + 4 t**2)) / 2`` that part is ``nu = (t - 1) / t'``: none after the first update, then 0.28, 0.43
    and on to 1.  ``m`` starts at zero, and t at 1, in every call of `fit`.  It is meant for large batches: what one
    batch moves is repeated for long.

    It is the momentum of `FloatNeuralNet` (momentum, momentum_fast_brake, momentum_fixed_nu), whose passes it repeats
    if a batch is the whole data and reduction is "sum"; the class carries the weights on at the start of a pass, `fit`
    at the end of an update.

    Parameters
    ----------
    learning_rate : float, default 0.01
        Step size, > 0 and finite.
    fast_brake : bool, default True
        Clear ``m`` for a weight whose gradient has changed its sign since the last update.  A weight that the
        saturation limit or the weight floor has stopped counts as one without a gradient.
    fixed_nu : bool, default False
        Repeat all of the moves from the second update on; only the brake, the limit and the floor then end them.

    Raises
    ------
    ValueError
        A value outside its range.
    """

    learning_rate: float = 0.01
    fast_brake: bool = True
    fixed_nu: bool = False

    def __post_init__(self) -> None:
        rate = self.learning_rate
        if not is_finite_real(rate) or rate <= 0:
            raise ValueError(f"learning_rate: expected a finite number > 0, got {rate!r}")
        for name in ("fast_brake", "fixed_nu"):
            if not isinstance(getattr(self, name), bool | np.bool):
                raise ValueError(f"{name}: expected True or False, got {getattr(self, name)!r}")

    def rule(self, saturation: float) -> Rule:
        """Return the numbers that the update kernels take."""
        return Rule(
            float(self.learning_rate),
            0.0,
            False,
            saturation,
            fista=True,
            fast_brake=bool(self.fast_brake),
            fixed_nu=bool(self.fixed_nu),
        )


Optimizer = SGD | Adam | FISTA
OPTIMIZERS: dict[str, type[Optimizer]] = {"sgd": SGD, "adam": Adam, "fista": FISTA}


def find_optimizer(optimizer: str | Optimizer) -> Optimizer:
    """Return an optimiser given itself or its name (then with its defaults)."""
    if isinstance(optimizer, SGD | Adam | FISTA):
        return optimizer
    if isinstance(optimizer, str) and optimizer in OPTIMIZERS:
        return OPTIMIZERS[optimizer]()
    scaled = isinstance(optimizer, str) and optimizer == DEPTH_SCALED
    hint = f"; that learning rate is fnn.SGD({DEPTH_SCALED!r})" if scaled else ""
    raise ValueError(
        f"optimizer: expected fnn.SGD(...), fnn.Adam(...), fnn.FISTA(...) or one of {', '.join(OPTIMIZERS)}, "
        f"got {optimizer!r}{hint}"
    )
