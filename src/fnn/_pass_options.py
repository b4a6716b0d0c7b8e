"""The options of a FloatNeuralNet: those of the C++ class, checked when they are made."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from fnn import _checks
from fnn._formulas import is_finite_real

LARGEST = float(np.finfo(np.float32).max)
AT_LEAST = {  # the least value of the options that have one
    "weight_saturation": 0.0,
    "weight_floor": 0.0,
    "max_multiplier": 0,
    "min_pass_effective_adj": 0,
}


@dataclass(frozen=True)
class Options:
    """The options of a `FloatNeuralNet`: those of the C++ class, its names in snake case.

    Numbers are float32, as in the class.

    Parameters
    ----------
    total_gradient : bool, default True
        Add up the gradient over a pass, for `apply_gradient` and the norms; auto_rate and momentum turn it on.
    auto_rate : bool, default False
        Choose the rate of `apply_gradient` from how far the last move changed the gradient, and undo a move that
        overshot.
    auto_rate2 : bool, default False
        Multiply the rate of `apply_gradient` by a factor that follows from the signs of this gradient and the last.
    scale_rate_per_layer : bool, default False
        Divide the rate of every level but the last by the size of the next level.
    training_rate_scale : float, default 0.01
        What auto_rate multiplies its estimate of the best rate with.
    training_rate : float, default -1
        The rate that auto_rate starts from; 0 or less: 0.001 / samples of the first pass.
    weight_saturation : float, default 1
        Every weight and corner that moves is kept inside [-weight_saturation, weight_saturation].
    enable_weight_floor : bool, default False
        Keep them outside (-weight_floor, weight_floor): they stop there once and are then thrown to the other side.
    weight_floor : float, default 0.0001
    relu_leakiness : float, default 0.01
        Slope below zero of leaky_relu, and the left slope that corners start with.
    is_classifier : bool, default False
        Count right and wrong answers, and adapt the effective counts to them.
    max_multiplier : int, default 100
        An effective count stops growing at max_multiplier times the count.
    min_pass_effective_adj : int, default 50
        Effective counts grow only after so many passes.
    effective_decrease_rate : float, default 0.3
        By what part of the count an effective count shrinks when the answer was right.
    momentum : bool, default False
        Move the parameters at the start of each pass by the sum of their moves.
    momentum_fast_brake : bool, default True
        Clear the momentum of a parameter whose gradient changed its sign.
    momentum_fixed_nu : bool, default True
        Take all of the momentum from the third pass on, rather than FISTA's growing part.
    tweak_rate : float, default 0.01
        By what part at most the gradients differ, from one parameter to the next, so that equal neurons part.

    Raises
    ------
    ValueError
        A value of the wrong type or outside its range.
    """

    total_gradient: bool = True
    auto_rate: bool = False
    auto_rate2: bool = False
    scale_rate_per_layer: bool = False
    training_rate_scale: float = 0.01
    training_rate: float = -1.0
    weight_saturation: float = 1.0
    enable_weight_floor: bool = False
    weight_floor: float = 0.0001
    relu_leakiness: float = 0.01
    is_classifier: bool = False
    max_multiplier: int = 100
    min_pass_effective_adj: int = 50
    effective_decrease_rate: float = 0.3
    momentum: bool = False
    momentum_fast_brake: bool = True
    momentum_fixed_nu: bool = True
    tweak_rate: float = 0.01

    def __post_init__(self) -> None:
        for field in fields(self):
            name, value, default = field.name, getattr(self, field.name), field.default
            least = AT_LEAST.get(name, -math.inf)
            if isinstance(default, bool):
                value = _checks.flag(value, name)
            elif isinstance(default, int):
                if isinstance(value, bool | np.bool) or not isinstance(value, int | np.integer):
                    raise ValueError(f"{name}: expected an integer >= 0, got {value!r}")
                if not least <= value < 1 << 31:
                    raise ValueError(f"{name}: expected an integer from 0 to {(1 << 31) - 1}, got {value!r}")
                value = int(value)
            else:
                expected = "a number that float32 can hold" + (f", >= {least:g}" if least >= 0 else "")
                if not is_finite_real(value) or abs(value) > LARGEST or value < least:
                    raise ValueError(f"{name}: expected {expected}, got {value!r}")
                value = float(np.float32(value))
            object.__setattr__(self, name, value)


def checked_options(options: Any) -> Options:
    """Return `options` if they are an Options."""
    if not isinstance(options, Options):
        raise ValueError(f"options: expected fnn.Options or None, got {options!r}")
    return options
