"""Optimisers: how a gradient moves the parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from fnn._formulas import is_finite_real


class Rule(NamedTuple):
    """What the update kernels need to know (docs/backprop.md, eq. 8 and 9)."""

    rate: float
    momentum: float
    nesterov: bool
    saturation: float  # infinity: no limit


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent, with momentum if asked for.

    Plain: ``W -= learning_rate * gradient``.  With momentum ``m``: ``v = m * v - learning_rate * gradient; W += v``; in
    Nesterov's form ``W += m * v - learning_rate * gradient`` (Sutskever et al. 2013, as scikit-learn and Keras write
    it).  The velocity ``v`` starts at zero in every call of `fit`.

    Parameters
    ----------
    learning_rate : float, default 0.01
        Step size, > 0 and finite.
    momentum : float, default 0
        In [0, 1).
    nesterov : bool, default False
        Use Nesterov's form; needs momentum > 0.

    Raises
    ------
    ValueError
        A value outside its range.
    """

    learning_rate: float = 0.01
    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        rate, momentum = self.learning_rate, self.momentum
        if not is_finite_real(rate) or rate <= 0:
            raise ValueError(f"learning_rate: expected a finite number > 0, got {rate!r}")
        if not is_finite_real(momentum) or not 0 <= momentum < 1:
            raise ValueError(f"momentum: expected a number in [0, 1), got {momentum!r}")
        if not isinstance(self.nesterov, bool):
            raise ValueError(f"nesterov: expected True or False, got {self.nesterov!r}")
        if self.nesterov and not momentum:
            raise ValueError("nesterov: needs momentum > 0, got momentum=0")

    def rule(self, saturation: float) -> Rule:
        """Return the numbers that the update kernels take."""
        return Rule(float(self.learning_rate), float(self.momentum), self.nesterov, saturation)


OPTIMIZERS = {"sgd": SGD}


def find_optimizer(optimizer: str | SGD) -> SGD:
    """Return an optimiser given itself or its name (then with its defaults)."""
    if isinstance(optimizer, SGD):
        return optimizer
    if isinstance(optimizer, str) and optimizer in OPTIMIZERS:
        return OPTIMIZERS[optimizer]()
    raise ValueError(f"optimizer: expected fnn.SGD(...) or one of {', '.join(OPTIMIZERS)}, got {optimizer!r}")
