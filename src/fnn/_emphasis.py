"""More weight for rows that are classified wrong: FloatNeuralNet's effective counts for `fit`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fnn import _checks
from fnn._formulas import is_finite_real
from fnn._plan import BeforeEpoch, EpochPlan
from fnn._train import threshold

if TYPE_CHECKING:
    from fnn._network import Network


class Emphasis(BeforeEpoch):
    """Callback: rows count more, the longer they are classified wrong; a classifier's boosting by row.

    Before every epoch each row's class is predicted.  The effective count of a row starts at its `sample_weight` (1
    without one), grows by as much while the answer is wrong, and shrinks by `effective_decrease_rate` of it, down to
    where it began, while it is right.  The epoch then weighs the rows by their effective counts, scaled so that all of
    them together weigh as much as before.

    This is is_classifier of `FloatNeuralNet`, with max_multiplier, min_pass_effective_adj and effective_decrease_rate;
    the class looks at each sample when its turn comes, which with a batch of all rows is the same.

    Parameters
    ----------
    max_multiplier : int, default 100
        An effective count stops growing at max_multiplier times the `sample_weight`.
    min_pass_effective_adj : int, default 50
        Effective counts grow only after more than so many epochs.
    effective_decrease_rate : float, default 0.3
        Finite and >= 0.

    Attributes
    ----------
    effective_count : numpy.ndarray, shape (N,)
        Of the last epoch, not scaled; None before the first.
    """

    def __init__(
        self, max_multiplier: int = 100, min_pass_effective_adj: int = 50, effective_decrease_rate: float = 0.3
    ) -> None:
        self.max_multiplier = _checks.whole_number(max_multiplier, "max_multiplier", at_least=0)
        self.min_pass_effective_adj = _checks.whole_number(min_pass_effective_adj, "min_pass_effective_adj", at_least=0)
        if not is_finite_real(effective_decrease_rate) or effective_decrease_rate < 0:
            raise ValueError(f"effective_decrease_rate: expected a finite number >= 0, got {effective_decrease_rate!r}")
        self.effective_decrease_rate = float(effective_decrease_rate)
        self.effective_count: np.ndarray | None = None

    def before_epoch(self, network: Network, plan: EpochPlan) -> None:
        """Weigh the rows of an epoch."""
        dtype = plan.x.dtype
        count = np.ones(len(plan.x), dtype) if plan.sample_weight is None else plan.sample_weight
        if plan.number == 1 or self.effective_count is None:
            self.effective_count = count.copy()
        effective, right = self.effective_count, _right(plan)
        with np.errstate(over="ignore"):  # a count that is too large for the dtype is the largest number that it has
            shrunk = np.maximum(effective - count * dtype.type(self.effective_decrease_rate), count)
            grown = np.minimum(effective + count, np.finfo(dtype).max)
            cap = count * dtype.type(self.max_multiplier)
        if plan.number - 1 > self.min_pass_effective_adj:
            grows = ~right & (effective < cap)
            effective[grows] = grown[grows]
        effective[right] = shrunk[right]
        total = effective.sum(dtype=np.float64)
        plan.sample_weight = effective * dtype.type(count.sum(dtype=np.float64) / total)


def _right(plan: EpochPlan) -> np.ndarray:
    """Whether each row's answer (N,) is right: its one highest output that of its class, or on its target's side."""
    outputs, y = plan.outputs(), plan.y
    right: np.ndarray
    if outputs.shape[1] == 1:
        middle = threshold(plan.layout)
        right = (outputs[:, 0] > middle) == (y[:, 0] > middle)
    else:
        right = _winner(outputs) == (y if y.ndim == 1 else _winner(y))
    return right


def _winner(values: np.ndarray) -> np.ndarray:
    """Index (N,) of each row's strictly highest value, -1 where that is shared."""
    shared = (values == values.max(axis=1, keepdims=True)).sum(axis=1) != 1
    return np.where(shared, -1, values.argmax(axis=1))
