"""FloatNeuralNet: the C++ class from which this library descends, pass by pass and bit for bit.

Here are its settings, passes and readings.  The arithmetic is in _pass_numpy.py and _pass.pyx, what it works on in
_pass_state.py, the options in _pass_options.py, the checks of arguments in _pass_arguments.py, the files in
_checkpoint.py.  docs/float-neural-net.md says how the C++ names map and what differs.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from fnn import _checkpoint, _checks, _dispatch
from fnn._drand48 import draw_weights
from fnn._pass_arguments import FLOAT32, checked_level, checked_rate, checked_samples, checked_unused, fitting
from fnn._pass_options import Options, checked_options
from fnn._pass_state import ACTIVATIONS, CORNER, SETTINGS, Levels, State

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


class FloatNeuralNet:
    """A network trained pass by pass, as the C++ class of the same name does, with its results bit for bit.

    A pass is `start_training_pass`, `train` for every sample, `end_training_pass`, and where the gradient of the whole
    pass is to move the weights, `apply_gradient`; `train_pass` does all of that at once.  Both backends give the
    class's own results to the last bit, the compiled ones as well.

    One thread at a time trains a network: a call while another is inside is a RuntimeError.  Any number may `compute`.

    Parameters
    ----------
    levels : iterable of int
        Neurons of every level, the inputs first; two levels at least.
    activation : {"relu", "leaky_relu", "corner"}, default "relu"
        Of all levels but the last one, whose outputs are as they are; corner acts on the last level too.
    options : Options, optional
        The class's defaults unless given.

    Examples
    --------
    >>> net = fnn.FloatNeuralNet([2, 3, 1], "leaky_relu", fnn.Options(weight_saturation=2))
    >>> net.randomize(1)
    >>> x, y = [[0, 0], [0, 1], [1, 0], [1, 1]], [[0], [1], [1], [0]]
    >>> for _ in range(10):
    ...     _ = net.train_pass(x, y, rate=0.02)
    >>> outputs, highest = net.compute(x)
    """

    def __init__(self, levels: Iterable[int], activation: str = "relu", options: Options | None = None) -> None:
        if isinstance(levels, str | bytes) or not np.iterable(levels):
            raise ValueError(f"levels: expected a list of sizes, got {levels!r}")
        sizes = tuple(_checks.whole_number(size, f"levels[{index}]") for index, size in enumerate(levels))
        if len(sizes) < 2:
            raise ValueError(f"levels: expected two levels at least, got {list(sizes)}")
        if not isinstance(activation, str) or activation not in ACTIVATIONS:
            raise ValueError(f"activation: expected one of {', '.join(ACTIVATIONS)}, got {activation!r}")
        options = checked_options(Options() if options is None else options)
        count = sum((below + 1) * own for below, own in pairwise(sizes))
        if count * FLOAT32.itemsize > sys.maxsize:
            raise ValueError(f"levels: expected weights that fit in memory, got {count} for the sizes {list(sizes)}")
        self._activation, self._levels = activation, Levels(sizes)
        self._state = State(self._levels, ACTIVATIONS[activation], options.momentum or options.auto_rate2)
        self.options = options
        self._state.corners.reshape(-1, 3)[:] = options.relu_leakiness, 0, 1

    # ---- Settings --------------------------------------------------------------------------------

    @property
    def options(self) -> Options:
        """The options, training_rate as auto_rate has left it.

        Assigned ones hold from now on.  The arrays of momentum and of the last gradient are made by the constructor
        only, as in the C++ class: without auto_rate2 or momentum there, neither has an effect later.
        """
        return replace(self._options, training_rate=self.training_rate)

    @options.setter
    def options(self, options: Options) -> None:
        self._options = checked_options(options)
        settings = self._state.settings[0]
        for name in SETTINGS.names or ():
            settings[name] = getattr(options, name)
        settings["momentum"] = options.momentum and self._state.with_momentum
        settings["total_gradient"] = options.total_gradient or options.auto_rate or options.momentum
        self._state.tally["training_rate"] = options.training_rate
        self._state.make_room()

    @property
    def levels(self) -> tuple[int, ...]:
        """Neurons of every level, the inputs first."""
        return self._levels.sizes

    @property
    def activation(self) -> str:
        """Name of the activation."""
        return self._activation

    def randomize(self, seed: int) -> None:
        """Draw new weights as the class does with POSIX drand48 after srand48(seed); corners stay as they are.

        Parameters
        ----------
        seed : int
            Its low 32 bits count, as for srand48.
        """
        if isinstance(seed, bool | np.bool) or not isinstance(seed, int | np.integer):
            raise ValueError(f"seed: expected an integer, got {seed!r}")
        draw_weights(self._levels.blocks(self._state.weights), int(seed))

    def set_level(self, level: int, values: ArrayLike) -> None:
        """Replace the weights of a level.

        Parameters
        ----------
        level : int
            1 for the first one after the inputs.
        values : array_like, shape (I + 1, O)
            A row per neuron of the level below, and the biases as the last row.
        """
        block = self._levels.blocks(self._state.weights)[self._index(level)]
        block[:] = fitting(values, block.shape, "values")

    def get_level(self, level: int) -> np.ndarray:
        """Return a copy of the weights of a level, laid out as `set_level` takes them.

        Parameters
        ----------
        level : int
            1 for the first one after the inputs.

        Returns
        -------
        numpy.ndarray of float32, shape (I + 1, O)
        """
        return self._levels.blocks(self._state.weights)[self._index(level)].copy()

    def set_corners(self, level: int, values: ArrayLike) -> None:
        """Replace the corners of a level; only with activation corner.

        Parameters
        ----------
        level : int
            1 for the first one after the inputs.
        values : array_like, shape (O, 3)
            Left slope, offset and right slope of every neuron.
        """
        corners = self._corners(level)
        corners[:] = fitting(values, corners.shape, "values")

    def get_corners(self, level: int) -> np.ndarray:
        """Return a copy of the corners of a level, laid out as `set_corners` takes them.

        Parameters
        ----------
        level : int
            1 for the first one after the inputs.

        Returns
        -------
        numpy.ndarray of float32, shape (O, 3)
        """
        return self._corners(level).copy()

    # ---- Passes ----------------------------------------------------------------------------------

    def start_training_pass(self) -> None:
        """Zero the sums, the counters and the total gradient; momentum moves the parameters."""
        self._state.alone(_dispatch.pass_kernels().start_pass, self._state)

    def train(
        self,
        inputs: ArrayLike,
        targets: ArrayLike,
        rate: float,
        count: ArrayLike = 1,
        effective_count: np.ndarray | None = None,
    ) -> None:
        """Train on one sample, or on several in order.

        All arguments are checked first: after a ValueError everything is as it was.

        Parameters
        ----------
        inputs : array_like, shape (I,) or (N, I)
        targets : array_like, shape (O,) or (N, O)
        rate : float
            Every sample moves the weights at once by this rate; 0 only adds to the total gradient.  It must be 0 with
            momentum, and is ignored with auto_rate.
        count : int or array_like of int, shape (N,), default 1
            How many times the sample stands in the data, >= 1.
        effective_count : numpy.ndarray of float32, shape () or (1,), or (N,), optional
            How many times it counts, >= 1.  With is_classifier it grows while the answer is wrong and shrinks when it
            is right, in place.

        Raises
        ------
        ValueError
            An argument that is not one of those above.
        """
        samples = checked_samples(self.levels, self._options, inputs, targets, rate, count, effective_count)
        try:
            self._state.alone(_dispatch.pass_kernels().train, self._state, *samples)
        finally:  # after Ctrl-C too
            samples.hand_back(effective_count)

    def end_training_pass(self) -> None:
        """Compute the norms of the total gradient and count the pass."""
        self._state.alone(_dispatch.pass_kernels().end_pass, self._state)

    def apply_gradient(self, rate: float) -> bool:
        """Move the parameters by the total gradient of the pass that has ended.

        Parameters
        ----------
        rate : float
            Ignored with auto_rate.

        Returns
        -------
        bool
            Whether auto_rate has undone the last move instead.

        Raises
        ------
        ValueError
            `rate` is no number, the total gradient is off, or no pass with a sample has ended since the last call.
        """
        rate32 = checked_rate(rate, "rate")
        self._needs_gradient()
        if not self._state.tally[0]["to_apply"] or not self._state.tally[0]["cases"]:
            raise ValueError(
                "apply_gradient: expected a pass with samples that has ended since the last call, got none"
            )
        return bool(self._state.alone(_dispatch.pass_kernels().apply_gradient, self._state, rate32))

    def reclaim(self, max_unused: int = 0) -> int:
        """Turn round the neurons that were hardly used in the pass, so that they may become useful; relu only.

        The weights and the bias into such a neuron change their sign, those out of it become 0.

        Parameters
        ----------
        max_unused : int, default 0
            A neuron that was on for so many samples or fewer is reclaimed.

        Returns
        -------
        int
            How many were.

        Raises
        ------
        ValueError
            `max_unused` is not one of those, or the pass has had no sample yet.
        """
        unused = checked_unused(max_unused)
        if self._state.usage.size and not self._state.tally[0]["cases"]:
            raise ValueError("reclaim: expected a pass with samples, got none")
        return int(self._state.alone(_dispatch.pass_kernels().reclaim, self._state, unused))

    def train_pass(
        self,
        x: ArrayLike,
        y: ArrayLike,
        *,
        rate: float = 0.0,
        apply_rate: float = 0.0,
        reclaim: bool = False,
        max_unused: int = 0,
        count: ArrayLike = 1,
        effective_count: np.ndarray | None = None,
    ) -> tuple[bool, int]:
        """Run a whole pass: start, every sample in order, end, `apply_gradient` and `reclaim`.

        Parameters
        ----------
        x : array_like, shape (N, I)
        y : array_like, shape (N, O)
        rate : float, default 0
            As in `train`.
        apply_rate : float, default 0
            As in `apply_gradient`; 0 leaves that out, with auto_rate too.
        reclaim : bool, default False
            Whether to reclaim after the pass.
        max_unused : int, default 0
            As in `reclaim`.
        count, effective_count
            As in `train`.

        Returns
        -------
        undone : bool
            Whether auto_rate has undone the last move.
        reclaimed : int

        Raises
        ------
        ValueError
            An argument that is not one of those above; everything is as it was.
        """
        rows = _checks.table(x, self.levels[0], "x")
        samples = checked_samples(self.levels, self._options, rows, y, rate, count, effective_count, ("x", "y"))
        rate32, unused = checked_rate(apply_rate, "apply_rate"), checked_unused(max_unused)
        if rate32 != 0:
            self._needs_gradient()
        most = unused if _checks.flag(reclaim, "reclaim") else None
        try:
            undone, reclaimed = self._state.alone(
                _dispatch.pass_kernels().train_pass, self._state, *samples, rate32, most
            )
        finally:  # after Ctrl-C too
            samples.hand_back(effective_count)
        return bool(undone), int(reclaimed)

    def compute(self, inputs: ArrayLike) -> tuple[np.ndarray, Any]:
        """Compute the outputs for one sample or several.

        Parameters
        ----------
        inputs : array_like, shape (I,) or (N, I)

        Returns
        -------
        outputs : numpy.ndarray of float32, shape (O,) or (N, O)
        highest : int, or numpy.ndarray of intp, shape (N,)
            Index of the highest output, the first one on a tie.
        """
        array = _checks.real_array(inputs, "inputs")
        rows = _checks.as_finite(_checks.table(np.atleast_2d(array), self.levels[0], "inputs"), FLOAT32, "inputs")
        outputs, highest = _dispatch.pass_kernels().compute(self._state, rows)
        return (outputs[0], int(highest[0])) if array.ndim == 1 else (outputs, highest)

    # ---- Readings --------------------------------------------------------------------------------

    @property
    def weights(self) -> np.ndarray:
        """Copy of all weights (P,), level after level, each row after row, its biases last."""
        return self._levels.flat(self._state.weights)

    @property
    def corners(self) -> np.ndarray:
        """Copy of all corners (C,), level after level, three numbers a neuron; empty unless activation is corner."""
        return self._state.corners.copy()

    @property
    def total_gradient(self) -> np.ndarray:
        """Copy of the pass's total gradient (P,), laid out as `weights`; empty where it is off."""
        return self._levels.flat(self._state.gradient)

    @property
    def total_corners_gradient(self) -> np.ndarray:
        """Copy of the pass's total gradient of the corners (C,)."""
        return self._state.corner_gradient.copy()

    @property
    def training_pass(self) -> int:
        """Passes completed; a checkpoint restores it, an undone move takes two off."""
        return int(self._state.tally[0]["training_pass"])

    @property
    def abs_error(self) -> float:
        """Mean absolute error of an output in the pass; NaN without samples."""
        return self._mean("abs_sum", "error_cases")

    @property
    def squared_error(self) -> float:
        """Root of the mean squared error of an output in the pass; NaN without samples."""
        return math.sqrt(self._mean("squared_sum", "error_cases"))

    @property
    def effective_squared_error(self) -> float:
        """As `squared_error`, every sample weighted by its effective count."""
        return math.sqrt(self._mean("effective_squared_sum", "effective_error_cases"))

    @property
    def pass_size(self) -> int:
        """Sum of the counts of the pass's samples."""
        return int(self._state.tally[0]["cases"])

    @property
    def effective_pass_size(self) -> float:
        """Sum of the effective counts of the pass's samples, in float32."""
        return float(self._state.tally[0]["effective_cases"])

    @property
    def pass_correct(self) -> int:
        """Samples of the pass that were classified as their targets say, by count."""
        return int(self._state.tally[0]["correct"])

    @property
    def pass_incorrect(self) -> int:
        """Samples of the pass that were classified otherwise, by count."""
        return int(self._state.tally[0]["incorrect"])

    @property
    def pass_above(self) -> int:
        """Samples classified right whose highest output was above 0, by count."""
        return int(self._state.tally[0]["above"])

    @property
    def pass_not_above(self) -> int:
        """All other samples, by count."""
        return int(self._state.tally[0]["not_above"])

    @property
    def training_rate(self) -> float:
        """The rate that auto_rate has arrived at."""
        return float(self._state.tally[0]["training_rate"])

    @property
    def auto_rate2_adj(self) -> float:
        """The multiplier that auto_rate2 has arrived at."""
        return float(self._state.tally[0]["auto_rate2_adj"])

    @property
    def momentum_t(self) -> float:
        """FISTA's t, from which the part of the momentum follows where momentum_fixed_nu is off."""
        return float(self._state.tally[0]["momentum_t"])

    def level_gradient_norm2(self, level: int) -> float:
        """Euclidean norm of a level's total gradient in the pass that has ended; NaN where it is off.

        Parameters
        ----------
        level : int
            1 for the first one after the inputs.

        Returns
        -------
        float
        """
        return float(self._state.norms[self._index(level)])

    def last_gradient_norm2(self) -> float:
        """Euclidean norm of the last level's total gradient, as `level_gradient_norm2`."""
        return self.level_gradient_norm2(len(self.levels) - 1)

    def all_gradient_norm2(self) -> float:
        """Euclidean norm of the whole total gradient in the pass that has ended; NaN where it is off."""
        return float(self._state.norms[-1])

    def usage(self, level: int) -> np.ndarray:
        """How many samples of the pass each neuron of a level was on for; empty unless activation is relu.

        Parameters
        ----------
        level : int
            From 0, the inputs, which count as unused, as the outputs do.

        Returns
        -------
        numpy.ndarray of uint32, shape (O,)
        """
        start = sum(self.levels[: checked_level(level, self.levels, first=0)])
        return self._state.usage[start : start + self.levels[level]].copy()

    def simple_dump(self) -> str:
        """Return all weights, and all corners, as text: level after level, a line per row.

        Returns
        -------
        str
        """
        lines = []
        for level in range(1, len(self.levels)):
            *rows, bias = self.get_level(level).tolist()
            lines.append(f"level {level}: {self.levels[level - 1]} -> {self.levels[level]}")
            lines += [f"  weights {row}: {_words(row_values)}" for row, row_values in enumerate(rows)]
            lines.append(f"  bias: {_words(bias)}")
            if self._state.kind == CORNER:
                corners = self.get_corners(level).T.tolist()
                names = ("left", "offset", "right")
                lines += [f"  {name}: {_words(values)}" for name, values in zip(names, corners, strict=True)]
        return "\n".join(lines) + "\n"

    # ---- Checkpoints -----------------------------------------------------------------------------

    def checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Write the passes completed, weights and corners to a file of the class's format.

        Parameters
        ----------
        path : str or path-like
            Written beside it and renamed.

        Raises
        ------
        OSError
            The file cannot be written.
        """
        _checkpoint.write(path, self.training_pass, self.weights, self.corners)

    def uncheckpoint(self, path: str | os.PathLike[str]) -> None:
        """Read what `checkpoint`, or the C++ class, wrote of a network of the same levels and activation.

        Nothing else is in the file: options, momentum and what auto_rate has saved stay as they are.

        Parameters
        ----------
        path : str or path-like

        Raises
        ------
        ModelFileError
            The file is no checkpoint, one of another size or version, or holds NaN or infinity; the network stays as it
            was.
        OSError
            The file cannot be read.
        """
        passes, weights, corners = _checkpoint.read(path, self._levels.n_weights, len(self._state.corners))
        self._state.tally["training_pass"] = passes
        self._levels.fill(self._state.weights, weights)
        self._state.corners[:] = corners

    def __repr__(self) -> str:
        return f"FloatNeuralNet({list(self.levels)}, {self._activation!r}, passes={self.training_pass})"

    # ---- Checks ----------------------------------------------------------------------------------

    def _index(self, level: Any) -> int:
        return checked_level(level, self.levels) - 1

    def _corners(self, level: Any) -> np.ndarray:
        index = self._index(level)
        if self._state.kind != CORNER:
            raise ValueError(f"level: expected activation corner for corners, got {self._activation}")
        return self._levels.corner_blocks(self._state.corners)[index]

    def _needs_gradient(self) -> None:
        if not self._state.settings[0]["total_gradient"]:
            raise ValueError("apply_gradient: expected the option total_gradient on, got it off")

    def _mean(self, total: str, cases: str) -> float:
        tally = self._state.tally[0]
        return float(tally[total]) / float(tally[cases]) if tally[cases] else math.nan


def _words(values: list[float]) -> str:
    return " ".join(f"{value:.9g}" for value in values)
