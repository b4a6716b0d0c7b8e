"""What a callback may see and change before an epoch of `Network.fit`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fnn import _backprop_numpy, _checks
from fnn._formulas import Loss
from fnn._layout import Layout

if TYPE_CHECKING:
    from fnn._network import Network
    from fnn._train import History


@dataclass
class EpochPlan:
    """An epoch that is about to begin, given to every callback that has a method ``before_epoch(network, plan)``.

    Attributes
    ----------
    number : int
        1 for the first epoch.
    rate : float
        The learning rate; the optimiser's own at the start of every epoch.  May be changed.
    sample_weight : numpy.ndarray, shape (N,), or None
        How often each row counts, as given to `fit`.  May be replaced by another such array, of the network's dtype.
    x, y : numpy.ndarray, shape (N, I), and (N, O) or (N,)
        The training data as the kernels take them; not to be changed.
    mean : bool
        Whether the losses of a batch are averaged.

    Examples
    --------
    A schedule: the rate falls by 5 % an epoch.  It is called after each epoch too, like every callback.

    >>> class Decay:
    ...     def before_epoch(self, network, plan):
    ...         plan.rate *= 0.95 ** (plan.number - 1)
    ...
    ...     def __call__(self, network, history):
    ...         return False
    >>> x, labels = fnn.load_digits()
    >>> net = fnn.Network([64, 32, 10], output="softmax")
    >>> history = net.fit(x, labels, loss="cross_entropy", optimizer="adam", callbacks=Decay())
    """

    number: int
    rate: float
    sample_weight: np.ndarray | None
    x: np.ndarray
    y: np.ndarray
    mean: bool
    layout: Layout
    parameters: np.ndarray
    loss: Loss
    kernels: Any
    threads: int

    def gradient(self) -> np.ndarray:
        """Compute the gradient (P,) over all rows, at the parameters as they are.

        It costs about as much as an epoch of large batches.
        """
        total = len(self.x) if self.sample_weight is None else float(self.sample_weight.sum(dtype=np.float64))
        scale = 1 / total if self.mean else 1.0
        _, gradient = self.kernels.loss_and_gradient(
            self.layout, self.parameters, self.x, self.y, self.loss, scale, self.threads, self.sample_weight
        )
        found: np.ndarray = gradient
        return found

    def outputs(self) -> np.ndarray:
        """Compute the outputs (N, O) of all rows, at the parameters as they are."""
        outputs: np.ndarray = self.kernels.predict(self.layout, self.parameters, self.x, self.threads)
        return outputs

    def activations(self) -> Iterator[list[np.ndarray]]:
        """Compute [x, v_1, ..., v_(L-1)], each (B, width), at the parameters as they are, rows (B) after rows."""
        for rows in _checks.row_chunks(len(self.x), sum(self.layout.sizes)):
            yield _backprop_numpy.forward(self.layout, self.parameters, self.x[rows])[:-1]


class BeforeEpoch:
    """Base of the callbacks that act before an epoch; after it they have nothing to do."""

    def before_epoch(self, network: Network, plan: EpochPlan) -> None:
        """Change the plan, or the parameters."""
        raise NotImplementedError

    def __call__(self, network: Network, history: History) -> object:
        """Let training go on."""
        return None
