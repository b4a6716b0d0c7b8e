"""Network: a chain of dense layers whose parameters lie in one flat vector."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from fnn import _backprop_numpy, _checks, _dispatch, _modelfile, _summary, _threads, _train
from fnn._formulas import Activation, Loss
from fnn._initial import INITS, initial_parameters
from fnn._layer_views import LayerViews, fitting
from fnn._layers import Dense, Input, layers_of, layout_of
from fnn._layout import Layout
from fnn._optimizers import SGD, Optimizer

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike

Callback = Callable[["Network", _train.History], object]


class Network:
    """A feed-forward network of dense layers.

    Parameters
    ----------
    layers : sequence of int, or of Input and Dense
        Either the sizes, inputs first: ``[64, 32, 10]``; or ``[Input(64), Dense(32, "relu"), Dense(10, "softmax")]``.
    activation : str or Activation, default "relu"
        Activation of the inner layers.  Only with sizes.
    output : str or Activation, default "identity"
        Activation of the last layer, the only one that may be softmax or exp.  Only with sizes.
    dtype : {"float32", "float64"}, default "float32"
        Type of the parameters and of all computation.
    init : {"glorot", "he", "reference", "zeros"}, default "glorot"
        How the parameters start.  glorot: weights uniform in ±sqrt(6 / (I + O)), biases 0 (Glorot and Bengio 2010).
        he: weights normal with deviation sqrt(2 / I), biases 0 (He et al. 2015).  reference: as the C++ class does it,
        weights and biases uniform in ±1/sqrt(I) with the middle tenth left out.  zeros: all 0.  Corners start as left
        slope 0.01, offset 0, right slope 1, whatever `init` says.
    seed : int, None or numpy.random.Generator, default 0
        What the random numbers come from; None takes new ones every time.

    Attributes
    ----------
    layout : Layout
        Sizes, activations and offsets.
    dtype : numpy.dtype
        Type of the parameters.
    draws : int
        Updates with dropout that `fit` has done: the next call draws what comes after them.

    Raises
    ------
    ValueError
        A size, name or value that is not one of those above.

    Examples
    --------
    >>> net = fnn.Network([64, 32, 10], output="softmax")
    >>> net.parameters.shape
    (2410,)
    >>> net.weights[0].shape, net.biases[0].shape
    ((64, 32), (32,))
    """

    def __init__(
        self,
        layers: Sequence[int] | Sequence[Input | Dense],
        activation: str | Activation | None = None,
        output: str | Activation | None = None,
        dtype: DTypeLike = "float32",
        init: str = "glorot",
        seed: int | np.random.Generator | None = 0,
    ) -> None:
        found_dtype = _float_dtype(dtype)
        if not isinstance(init, str) or init not in INITS:
            raise ValueError(f"init: expected one of {', '.join(INITS)}, got {init!r}")
        rng = _checks.generator(seed)
        self._layout = layout_of(layers, activation, output, found_dtype)
        self._parameters = initial_parameters(self._layout, found_dtype, init, rng)
        self.draws = 0

    @classmethod
    def around(cls, layout: Layout, parameters: np.ndarray) -> Network:
        """Make a network whose parameters (P,) are this vector itself, not a copy."""
        network = cls.__new__(cls)
        network._layout, network._parameters, network.draws = layout, parameters, 0
        return network

    @property
    def layout(self) -> Layout:
        """Sizes, activations and offsets of the layers."""
        return self._layout

    @property
    def dtype(self) -> np.dtype:
        """Type of the parameters: float32 or float64."""
        return self._parameters.dtype

    @property
    def parameters(self) -> np.ndarray:
        """All weights and biases, shape (P,): layer after layer, each (I + 1, O) row by row, the bias row last.

        Behind the biases of a layer with corners come its left slopes, offsets and right slopes: (I + 4, O).
        Writable in place.  Assigning copies a finite vector of the same shape into it.
        """
        return self._parameters

    @parameters.setter
    def parameters(self, values: ArrayLike) -> None:
        self._parameters[:] = fitting(values, self._parameters, "parameters")

    @property
    def weights(self) -> LayerViews:
        """Weights of every layer, views (I, O) of `parameters`: row per input, column per neuron."""
        return LayerViews(self._layout.weights(self._parameters), "weights")

    @weights.setter
    def weights(self, values: Sequence[ArrayLike]) -> None:
        self.weights[:] = values

    @property
    def biases(self) -> LayerViews:
        """Biases of every layer, views (O,) of `parameters`."""
        return LayerViews(self._layout.biases(self._parameters), "biases")

    @biases.setter
    def biases(self, values: Sequence[ArrayLike]) -> None:
        self.biases[:] = values

    @property
    def corners(self) -> LayerViews:
        """Corners of every layer, views (3, O) of `parameters`: left slopes, offsets, right slopes; (0, O) without."""
        return LayerViews(self._layout.corners(self._parameters), "corners")

    @corners.setter
    def corners(self, values: Sequence[ArrayLike]) -> None:
        self.corners[:] = values

    def forward(self, x: ArrayLike) -> np.ndarray:
        """Compute the outputs for every row of x.

        Parameters
        ----------
        x : array_like, shape (B, I)

        Returns
        -------
        numpy.ndarray, shape (B, O)
            A new array of the network's dtype.

        Raises
        ------
        ValueError
            x has a wrong shape, no rows, or values that are not finite.
        """
        return self.activations(x)[-1]

    def activations(self, x: ArrayLike) -> list[np.ndarray]:
        """Compute the output of every layer for every row of x.

        Parameters
        ----------
        x : array_like, shape (B, I)

        Returns
        -------
        list of numpy.ndarray
            x itself (B, I) in the network's dtype, then the output of every layer; the last is `forward(x)`.

        Raises
        ------
        ValueError
            As `forward`.
        """
        rows = _checks.as_finite(_checks.table(x, self._layout.sizes[0], "x"), self.dtype, "x")
        layers = _backprop_numpy.forward(self._layout, self._parameters, rows)
        layers[-1] = _backprop_numpy.activate(layers[-1], self._layout.activations[-1])
        return layers

    def predict(self, x: ArrayLike) -> np.ndarray:
        """Compute the outputs for every row of x, some rows at a time: beyond its result it needs a few megabytes.

        Parameters
        ----------
        x : array_like, shape (N, I)

        Returns
        -------
        numpy.ndarray, shape (N, O)

        Raises
        ------
        ValueError
            As `forward`.

        Warns
        -----
        RuntimeWarning
            An output is NaN or infinite.
        """
        layout, parameters, kernels = self._layout, self._parameters, _dispatch.kernels
        rows = _checks.table(x, layout.sizes[0], "x")
        if _checks.is_ready(rows, parameters.dtype) and kernels.is_finite(rows):  # no copy, and no time to lose
            threads = 1 if len(rows) == 1 else _threads.get_threads()
            outputs: np.ndarray = kernels.predict(layout, parameters, rows, threads)
        else:
            outputs = np.empty((len(rows), layout.sizes[-1]), parameters.dtype)
            for chunk in _checks.row_chunks(len(rows), sum(layout.sizes)):
                finite = _checks.as_finite(rows[chunk], parameters.dtype, "x", chunk.start)
                outputs[chunk] = kernels.predict(layout, parameters, finite, _threads.get_threads())
        if not kernels.is_finite(outputs):
            _checks.warn_of_overflow(outputs, stacklevel=2)
        return outputs

    def predict_class(self, x: ArrayLike) -> np.ndarray:
        """Compute the class of every row of x: the index of the highest output, the first one on a tie.

        With a single output the classes are 0 and 1, and 1 means above the middle: above 0 if the output is tanh, above
        0.5 otherwise.  Where every output answers a question of its own, take ``net.predict(x) > 0.5`` instead.

        Parameters
        ----------
        x : array_like, shape (N, I)

        Returns
        -------
        numpy.ndarray of intp, shape (N,)

        Raises
        ------
        ValueError
            As `forward`.

        Warns
        -----
        RuntimeWarning
            As `predict`.
        """
        outputs = self.predict(x)
        if outputs.shape[1] == 1:
            return (outputs[:, 0] > _train.threshold(self._layout)).astype(np.intp)
        highest: np.ndarray = outputs.argmax(axis=1)
        return highest

    def loss_and_gradient(
        self,
        x: ArrayLike,
        y: ArrayLike,
        loss: str | Loss = "squared_error",
        reduction: str = "mean",
        threads: int | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> tuple[float, np.ndarray]:
        """Compute the loss over the rows of x and y and its gradient; the network stays as it is.  Nothing is dropped.

        Parameters
        ----------
        x : array_like, shape (N, I)
        y : array_like, shape (N, O)
            Or (N,) if O is 1; or (N,) class labels for cross_entropy.
        loss : str or Loss, default "squared_error"
            Name or member of `fnn.losses`; it must go with the output activation.
        reduction : {"mean", "sum"}, default "mean"
            Average or add up the losses of the rows.
        threads : int, optional
            Threads to use at most; what `fnn.get_threads` says unless given.
        sample_weight : array_like, shape (N,), optional
            How often each row counts, >= 0 and not all 0; the mean is the weighted one.  Their sum is neither infinite
            nor below the least normal float64.

        Returns
        -------
        loss : float
        gradient : numpy.ndarray, shape (P,)
            Laid out as `parameters`.

        Raises
        ------
        ValueError
            An argument that is not one of those above, or data that are empty or not finite.
        """
        found = _train.fitting_loss(loss, self._layout)
        mean, n_threads = _checks.is_mean(reduction), _threads.thread_count(threads)
        rows, targets = _train.checked_data(x, y, self._layout, self.dtype, found)
        weights = _checks.row_weights(sample_weight, len(rows), self.dtype, "sample_weight")
        total = len(rows) if weights is None else weights.sum(dtype=np.float64)
        scale = 1 / total if mean else 1.0
        value, gradient = _dispatch.kernels.loss_and_gradient(
            self._layout, self._parameters, rows, targets, found, scale, n_threads, weights
        )
        return float(value), gradient

    def fit(
        self,
        x: ArrayLike,
        y: ArrayLike,
        *,
        epochs: int = 10,
        batch_size: int = 32,
        loss: str | Loss = "squared_error",
        optimizer: str | Optimizer = SGD(0.01),  # noqa: B008 - frozen
        saturation: float | None = None,
        weight_floor: float | None = None,
        sample_weight: ArrayLike | None = None,
        validation: tuple[ArrayLike, ArrayLike] | None = None,
        metric: str | Callable[[np.ndarray, np.ndarray], float] | None = "auto",
        reduction: str = "mean",
        shuffle: bool = True,
        seed: int | np.random.Generator | None = 0,
        threads: int | None = None,
        callbacks: Iterable[Callback] | Callback = (),
        progress: bool = False,
        propagate: str = "before",
    ) -> _train.History:
        """Train the network on the rows of x and y.

        Everything is checked first: after a ValueError the network is as it was, but for what callbacks have done,
        whose plans are checked epoch by epoch, and for the epochs up to a metric that is no number.  Ctrl-C ends
        training between two updates, and the network keeps what the updates before have done.

        Parameters
        ----------
        x : array_like, shape (N, I)
            A C-contiguous array of the network's dtype is used in place, anything else copied once.
        y : array_like, shape (N, O)
            Or (N,) if O is 1; or (N,) integer class labels for cross_entropy.
        epochs : int, default 10
            Times to go through the rows, >= 1.
        batch_size : int, default 32
            Rows to an update, >= 1; 1 is online training, where every sample updates the weights.  More than N means N.
        loss : str or Loss, default "squared_error"
            Name or member of `fnn.losses`; it must go with the output activation.
        optimizer : SGD, Adam, FISTA or str, default SGD(0.01)
        saturation : float, optional
            Keep every weight, bias and corner inside ±saturation, after every update.
        weight_floor : float, optional
            Keep every weight, bias and corner that moves outside ±weight_floor: it stops there once, and the next time
            is thrown to the other side of zero.  So no weight dies at zero; it may slow down online training, which
            then goes through all weights at every row.
        sample_weight : array_like, shape (N,), optional
            How often each row counts, >= 0 and not all 0, their sum neither infinite nor below the least normal
            float64.  With reduction "mean" a batch's loss is the weighted mean of its rows, and a batch of zeros stands
            still; the history has the mean over the batches, each counting as its number of rows.  With dropout the
            copies of a row would drop different neurons, which a weight does not.
        validation : pair of array_like, optional
            Data (x, y) to evaluate after every epoch.
        metric : {"auto", "accuracy", "r2"}, callable or None, default "auto"
            What to compute on the validation data beside the loss.  auto: accuracy for cross_entropy and
            binary_cross_entropy, r2 for squared_error and poisson.  A callable is given the targets and the outputs
            and returns a number.
        reduction : {"mean", "sum"}, default "mean"
            Average or add up the losses of a batch, and those that the history reports over an epoch's rows.
        shuffle : bool, default True
            Take the rows in a new random order each epoch.
        seed : int, None or numpy.random.Generator, default 0
            What the order comes from, and what dropout draws; None takes a new one every time.  With the same seed a
            second call takes the rows in the order of the first, but drops anew: no two updates of a network drop the
            same (`draws`).
        threads : int, optional
            Threads to use at most; what `fnn.get_threads` says unless given.  The result does not depend on it.
        callbacks : iterable of callable, or one callable, default ()
            Each is called as ``callback(network, history)`` after every epoch; a true return value ends training.  What
            it writes into the parameters, the next epoch starts from.
            One with a method ``before_epoch(network, plan)`` is also asked before every epoch (`fnn.EpochPlan`):
            `fnn.AutoRate`, `fnn.AutoRate2`, `fnn.ReclaimDeadNeurons`, `fnn.Emphasis`, `fnn.TweakGradient`.
        progress : bool, default False
            Show one line of progress on stderr.
        propagate : {"before", "updated"}, default "before"
            The weights that deltas go back through: those from before the step; or, in online training by plain SGD,
            those that have stepped already: the last layer steps first, the output is computed anew, and every layer
            below gets its delta through weights that have moved (docs/backprop.md, section 8); not with dropout.

        Returns
        -------
        History
            Losses, metrics and times by epoch.

        Raises
        ------
        ValueError
            An argument that is not one of those above, or data that are empty, of a wrong shape or not finite.
        DivergenceError
            The loss or a parameter became infinite or NaN; the network holds the parameters of the last epoch's end at
            which all was finite.

        Examples
        --------
        >>> x, labels = fnn.load_digits()
        >>> net = fnn.Network([64, 32, 10], output="softmax")
        >>> history = net.fit(x, labels, loss="cross_entropy", optimizer=fnn.SGD(0.05, momentum=0.9))
        >>> history.epochs
        10
        """
        return _train.fit(
            self,
            x,
            y,
            epochs=epochs,
            batch_size=batch_size,
            loss=loss,
            optimizer=optimizer,
            saturation=saturation,
            weight_floor=weight_floor,
            sample_weight=sample_weight,
            validation=validation,
            metric=metric,
            reduction=reduction,
            shuffle=shuffle,
            seed=seed,
            threads=threads,
            callbacks=callbacks,
            progress=progress,
            propagate=propagate,
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network to a file, completely or not at all (docs/model-file.md describes the format).

        Parameters
        ----------
        path : str or path-like
            An existing file is replaced; through a symbolic link, the file that it points to.

        Raises
        ------
        ModelFileError
            `path` is something other than a file, or a parameter is not finite.
        OSError
            The file cannot be written.
        """
        _modelfile.write(path, self._layout, self._parameters)

    def summary(self) -> str:
        """Return a table of the layers: shape of the weights, activation, number of parameters.

        Returns
        -------
        str

        Examples
        --------
        >>> print(fnn.Network([64, 32, 10], output="softmax").summary())
        layer  shape     activation  parameters
        input  (64,)                          0
        1      (64, 32)  relu             2,080
        2      (32, 10)  softmax            330
        total                             2,410
        """
        return _summary.summary(self._layout)

    def __repr__(self) -> str:
        return _summary.constructor(self._layout, self.dtype)


def load(path: str | os.PathLike[str]) -> Network:
    """Read a network that `Network.save` wrote.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    Network

    Raises
    ------
    ModelFileError
        The file is damaged, is not a model file, or is of a version that this release does not know.
    OSError
        The file cannot be read.
    """
    layout, parameters = _modelfile.read(path)
    network = Network(layers_of(layout), dtype=parameters.dtype, init="zeros")
    network.parameters = parameters
    return network


def _float_dtype(dtype: Any) -> np.dtype:
    for known in (np.dtype(np.float32), np.dtype(np.float64)):
        with suppress(TypeError, ValueError, SyntaxError):  # what NumPy cannot take for a dtype
            if dtype is not None and np.dtype(dtype) == known:
                return known
    raise ValueError(f"dtype: expected float32 or float64, got {dtype!r}")
