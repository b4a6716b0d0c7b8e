"""Equal neurons that part: FloatNeuralNet's tweak_rate for `fit`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fnn._formulas import is_finite_real
from fnn._plan import EpochPlan

if TYPE_CHECKING:
    from fnn._network import Network
    from fnn._train import History


class TweakGradient:
    """Callback: rates that differ a little from parameter to parameter, so that neurons with equal weights part.

    Equal neurons have equal gradients and stay equal for ever.  Here the gradient of parameter i counts ``1 -
    tweak_rate * k / period`` times, where ``k = (i + epoch) % period`` and ``period`` is three times the number of
    inputs: for the gradient of all rows, taken before the epoch, that part is given back after it.  It costs that
    gradient once more an epoch.

    This is tweak_rate of `FloatNeuralNet`: with a batch of all rows and plain SGD both take the same steps.

    Parameters
    ----------
    tweak_rate : float, default 0.01
        Finite and > 0.
    """

    def __init__(self, tweak_rate: float = 0.01) -> None:
        if not is_finite_real(tweak_rate) or tweak_rate <= 0:
            raise ValueError(f"tweak_rate: expected a finite number > 0, got {tweak_rate!r}")
        self.tweak_rate = float(tweak_rate)
        self._back: np.ndarray | None = None

    def before_epoch(self, network: Network, plan: EpochPlan) -> None:
        """Take the part of the gradient that is given back."""
        period = 3 * plan.layout.sizes[0]
        k = (np.arange(plan.layout.n_parameters) + plan.number) % period
        k[0] = plan.number  # beyond the period too, as in the class
        self._back = (plan.rate * self.tweak_rate / period * k * plan.gradient()).astype(plan.x.dtype)

    def __call__(self, network: Network, history: History) -> None:
        """Give it back."""
        network.parameters[:] += self._back
