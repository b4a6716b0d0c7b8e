"""Learning rates that follow from the gradient of all rows: FloatNeuralNet's auto_rate and auto_rate2 for `fit`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fnn._formulas import is_finite_real
from fnn._plan import BeforeEpoch, EpochPlan

if TYPE_CHECKING:
    from fnn._network import Network


class AutoRate(BeforeEpoch):
    """Callback: the learning rate from how far the last epoch changed the gradient, and a bad epoch undone.

    Before every epoch the gradient of all rows is taken.  With the changes since the epoch before, of the last layer's
    parameters and summed inputs (V), and of its gradient and what comes back to those inputs (G),
    ``q = training_rate_scale * |V| / |G|`` estimates the largest rate that converges, as in the steps of Barzilai and
    Borwein (1988).  A rate below 0.067 q doubles, up to that; one above 0.083 q falls to 0.067 q; and if it was above
    0.94 q, the epoch before is undone: the parameters go back to where it began.  The optimiser's state does not.

    This is auto_rate of `FloatNeuralNet`, there for passes that end in one update: with a batch of all rows and plain
    SGD both take the same steps.  With smaller batches the estimate holds for an epoch as a whole.  It costs the
    gradient of all rows once more an epoch.  The rate of the optimiser does not matter.

    Parameters
    ----------
    training_rate_scale : float, default 0.01
        Above 0.
    training_rate : float, optional
        The first rate, > 0; 0.001 unless given, and with reduction "sum" that divided by the number of rows.

    Attributes
    ----------
    training_rate : float
        The rate of the last epoch; None before the first.
    undone : list of int
        Epochs that were undone, 1 for the first.
    """

    def __init__(self, training_rate_scale: float = 0.01, training_rate: float | None = None) -> None:
        if not is_finite_real(training_rate_scale) or training_rate_scale <= 0:
            raise ValueError(f"training_rate_scale: expected a finite number > 0, got {training_rate_scale!r}")
        if training_rate is not None and (not is_finite_real(training_rate) or training_rate <= 0):
            raise ValueError(f"training_rate: expected a finite number > 0 or None, got {training_rate!r}")
        self.training_rate_scale = float(training_rate_scale)
        self.training_rate = None if training_rate is None else float(training_rate)
        self.undone: list[int] = []
        self._saved: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None  # parameters, what V and G compare

    def before_epoch(self, network: Network, plan: EpochPlan) -> None:
        """Choose the rate of an epoch."""
        if plan.number == 1:
            self._saved = None
        unit = 1.0 if plan.mean else 1 / len(plan.x)
        rate = 0.001 * unit if self.training_rate is None else self.training_rate
        place, slope = _last_layer(plan)
        undoes = False
        if self._saved is not None:
            before, old_place, old_slope = self._saved
            changed, slope_changed = _squares(place - old_place), _squares(slope - old_slope)
            if changed and slope_changed:
                best = self.training_rate_scale * np.sqrt(changed / slope_changed)
                low, high = best * (0.1 * 2 / 3), best * (0.1 * 5 / 6)
                undoes = rate > high and rate > 0.0001 * unit and rate > best * (15 / 16)
                if rate < low:
                    rate = min(2 * rate, low)
                elif rate > high and rate > 0.0001 * unit:
                    rate = max(low, 0.0001 * unit)
        self.training_rate = plan.rate = float(rate)
        if undoes:
            self.undone.append(plan.number - 1)
            network.parameters[:] = before
            self._saved = None  # the epoch that takes its place is not compared with
        else:
            self._saved = network.parameters.copy(), place, slope


class AutoRate2(BeforeEpoch):
    """Callback: the learning rate times a factor that follows from the signs of this gradient and the last.

    Before every epoch the gradient of all rows is taken.  The factor starts at 1 and grows by 1.2 as long as few and
    small entries of the gradient change their sign.  Where those that do have grown and outweigh twice the others, it
    falls to 0.67 of itself, or to 0.2 if they have more than doubled or are most; where they have only grown, to three
    times the others' size, to 0.8.  The idea is that of Silva and Almeida (1990), with one factor for all weights.

    This is auto_rate2 of `FloatNeuralNet`: with a batch of all rows both take the same steps, except that for the
    class a weight stopped by a limit has a gradient of 0.  It costs the gradient of all rows once more an epoch.

    Attributes
    ----------
    auto_rate2_adj : float
        The factor of the last epoch.
    """

    def __init__(self) -> None:
        self.auto_rate2_adj = 1.0
        self._last: np.ndarray | None = None

    def before_epoch(self, network: Network, plan: EpochPlan) -> None:
        """Choose the rate of an epoch."""
        if plan.number == 1:
            self.auto_rate2_adj, self._last = 1.0, None
        gradient = plan.gradient()
        if self._last is not None:
            self.auto_rate2_adj *= _factor(gradient, self._last)
        plan.rate *= self.auto_rate2_adj
        self._last = gradient


def _last_layer(plan: EpochPlan) -> tuple[np.ndarray, np.ndarray]:
    """What V and G of `AutoRate` are changes of.

    The last layer's parameters with the sum over all rows of its inputs, and the derivatives of the loss by both.
    """
    if plan.layout.skips[-1].distance:
        raise ValueError("AutoRate: expected a last layer without a skip")
    gradient = plan.gradient()
    weights, corners = (views(plan.parameters)[-1] for views in (plan.layout.blocks, plan.layout.corners))
    slopes, corner_slopes = (views(gradient)[-1] for views in (plan.layout.blocks, plan.layout.corners))
    inputs = sum(layers[-1].sum(axis=0, dtype=np.float64) for layers in plan.activations())
    came_back = weights[:-1] @ slopes[-1]  # the biases' gradient is the sum of the last layer's deltas
    return (
        np.concatenate([weights.ravel(), corners.ravel(), inputs]),
        np.concatenate([slopes.ravel(), corner_slopes.ravel(), came_back]),
    )


def _factor(now: np.ndarray, last: np.ndarray) -> float:
    """How the sizes of those entries of a gradient that have turned, and of the others, change the rate."""
    turned = now * last < 0
    kept = ~turned & (last != 0)
    n_turned, n_kept = max(int(turned.sum()), 1), max(int(kept.sum()), 1)
    now_turned, last_turned = (np.sqrt(_squares(values[turned]) / n_turned) for values in (now, last))
    last_kept = np.sqrt(_squares(last[kept]) / n_kept)
    if now_turned > last_turned and now_turned * n_turned > 2 * last_kept * n_kept:
        return 0.2 if now_turned > 2 * last_turned or n_turned > 0.7 * (n_turned + n_kept) else 0.67
    return 0.8 if now_turned > last_turned and now_turned > 3 * last_kept else 1.2


def _squares(values: np.ndarray) -> float:
    return float(np.square(values, dtype=np.float64).sum())
