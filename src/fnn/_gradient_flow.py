"""GradientFlow: what becomes of the gradient on its way back through the layers, recorded while a network trains."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from fnn import _checks, _dispatch, _train
from fnn._formulas import Loss

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from fnn._backprop_numpy import Bends
    from fnn._network import Network


class GradientFlow:
    """A callback of `Network.fit` that records how large, and how much of one mind, each layer's gradients are.

    After every epoch it takes the same few batches through the network, which stays as it is.  Called by hand,
    ``flow(network)``, it records the network as it is then, for example before training.

    Parameters
    ----------
    x : array_like, shape (N, I)
        Rows to measure with; the first ``batches * batch_size`` of them are used.
    y : array_like, shape (N, O)
        Their targets, as for `Network.fit`.
    loss : str or Loss, default "squared_error"
        Name or member of `fnn.losses`, averaged over a batch.
    batch_size : int, default 32
        Rows of a batch.
    batches : int, default 8
        Batches to compare, >= 2.

    Attributes
    ----------
    gradient_norms : numpy.ndarray, shape (records, L)
        Length of each layer's gradient, weights and biases together, averaged over the batches.
    delta_norms : numpy.ndarray, shape (records, L)
        Length of each layer's delta, the slope of a row's loss by the layer's pre-activations, averaged over the rows.
    alignment : numpy.ndarray, shape (records, L)
        Cosine between the gradients of two batches, averaged over all pairs: 1 where all batches pull a layer the same
        way, about 0 where each pulls another way.  A gradient of zero has no way and counts as 0.

    Raises
    ------
    ValueError
        An argument that is not one of those above; what does not fit the network is found at the first call.

    Examples
    --------
    >>> x, labels = fnn.load_digits()
    >>> net = fnn.Network([64, *[16] * 20, 10], "tanh", "softmax")
    >>> flow = fnn.GradientFlow(x, labels, loss="cross_entropy")
    >>> history = net.fit(x, labels, loss="cross_entropy", epochs=3, callbacks=flow)
    >>> flow.gradient_norms.shape
    (3, 21)
    """

    def __init__(
        self, x: ArrayLike, y: ArrayLike, loss: str | Loss = "squared_error", batch_size: int = 32, batches: int = 8
    ) -> None:
        self._x, self._y, self._loss = x, y, loss
        self._batch_size = _checks.whole_number(batch_size, "batch_size")
        self._batches = _checks.whole_number(batches, "batches", 2)
        self._records: list[np.ndarray] = []  # (3, L) each

    def __call__(self, network: Network, history: object = None) -> None:
        """Record the network as it is now."""
        layout, kernels = network.layout, _dispatch.kernels
        loss = _train.fitting_loss(self._loss, layout)
        x, y = _train.checked_data(self._x, self._y, layout, network.dtype, loss)
        if self._records and self._records[0].shape[1] != layout.n_layers:
            raise ValueError(f"network: expected {self._records[0].shape[1]} layers as before, got {layout.n_layers}")
        if len(x) < self._batches * self._batch_size:
            raise ValueError(
                f"x: expected {self._batches * self._batch_size} rows for {self._batches} batches of "
                f"{self._batch_size}, got {len(x)}"
            )
        parameters = network.parameters
        gradients, delta_norms = np.empty((self._batches, layout.n_parameters), network.dtype), []
        for number in range(self._batches):
            rows = slice(number * self._batch_size, (number + 1) * self._batch_size)
            bends: Bends = [None] * layout.n_layers
            layers = kernels.forward(layout, parameters, x[rows], bends)
            _, g = kernels.output_delta(layers[-1], y[rows], loss, layout.activations[-1], 1.0)
            deltas = kernels.backward(layout, parameters, layers, g, bends)
            gradients[number] = kernels.gradient(layout, layers, deltas, np.empty_like(parameters), bends)
            delta_norms.append([np.linalg.norm(delta.astype(np.float64), axis=1).mean() for delta in deltas])
        ends = zip(layout.offsets[:-1], layout.offsets[1:], strict=True)
        by_layer = [gradients[:, start:end].astype(np.float64) / self._batch_size for start, end in ends]
        self._records.append(
            np.array(
                [
                    [np.linalg.norm(gradient, axis=1).mean() for gradient in by_layer],
                    np.mean(delta_norms, axis=0),
                    [mean_cosine(gradient) for gradient in by_layer],
                ]
            )
        )

    @property
    def gradient_norms(self) -> np.ndarray:
        """Length of each layer's gradient, (records, L)."""
        return self._record(0)

    @property
    def delta_norms(self) -> np.ndarray:
        """Length of each layer's delta, (records, L)."""
        return self._record(1)

    @property
    def alignment(self) -> np.ndarray:
        """Mean cosine between the gradients of two batches, (records, L)."""
        return self._record(2)

    def _record(self, which: int) -> np.ndarray:
        return np.array([record[which] for record in self._records])

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw the three records over depth and time into a file; its name's ending says in which format.

        Parameters
        ----------
        path : str or path-like
            For example ``flow.svg`` or ``flow.png``.

        Raises
        ------
        ImportError
            matplotlib is not installed.
        ValueError
            Nothing has been recorded yet, or matplotlib knows no format of that ending.
        """
        if not self._records:
            raise ValueError("plot: expected a record, got none: pass this object to fit as a callback first")
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError("GradientFlow.plot needs matplotlib: pip install 'fnn[plot]'") from error
        figure = Figure(figsize=(12, 4), layout="constrained")
        panels: Any = figure.subplots(1, 3, sharex=True, sharey=True)
        tiny = np.finfo(np.float64).tiny
        drawn = [
            ("gradient norm, log10", np.log10(np.maximum(self.gradient_norms, tiny)), {}),
            ("delta norm, log10", np.log10(np.maximum(self.delta_norms, tiny)), {}),
            ("cosine between batches", self.alignment, {"vmin": -1, "vmax": 1, "cmap": "RdBu"}),
        ]
        layers, records = self._records[0].shape[1], len(self._records)
        for axes, (title, values, style) in zip(panels, drawn, strict=True):
            image = axes.imshow(
                values,
                origin="lower",
                aspect="auto",
                interpolation="nearest",
                extent=(0.5, layers + 0.5, 0.5, records + 0.5),
                **style,
            )
            axes.set(title=title, xlabel="layer")
            figure.colorbar(image, ax=axes)
        panels[0].set_ylabel("record")
        figure.savefig(os.fspath(path))


def mean_cosine(vectors: np.ndarray) -> float:
    """Average the cosine over all pairs of rows (at least two); with a row of zeros it is 0."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    directions = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    count = len(vectors)
    total = np.square(directions.sum(axis=0)).sum() - np.square(directions).sum()  # over ordered pairs of two
    return float(total / (count * (count - 1)))
