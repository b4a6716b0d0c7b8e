"""What a FloatNeuralNet remembers: its parameters and every array and number of its passes, for both backends.

The parameters lie as in the C++ class, each level a block of a row per input and then the biases, a column per
neuron; but here every row is padded to whole cache lines, so that vectors of any instruction set load it aligned.
Only `Levels` knows the offsets; NumPy works on its views of the true shapes, the compiled kernels on the same memory.
The padding holds nothing: it is never read into a result.

Shape letters: N samples, P weights, C corner parameters (3 for each neuron), W numbers of the padded weights.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from fnn._one_at_a_time import OneAtATime

RELU, LEAKY_RELU, CORNER = range(3)
ACTIVATIONS = {"relu": RELU, "leaky_relu": LEAKY_RELU, "corner": CORNER}
LINE = 16  # float32 in a cache line

# The records that both backends share; _pass_tables.pxi has the same as packed structs, and Cython compares the two.
SETTINGS = np.dtype(
    [
        ("training_rate_scale", np.float32),
        ("weight_saturation", np.float32),
        ("weight_floor", np.float32),
        ("relu_leakiness", np.float32),
        ("effective_decrease_rate", np.float32),
        ("tweak_rate", np.float32),
        ("max_multiplier", np.int64),
        ("min_pass_effective_adj", np.int64),
        ("total_gradient", np.uint8),
        ("auto_rate", np.uint8),
        ("auto_rate2", np.uint8),
        ("scale_rate_per_layer", np.uint8),
        ("enable_weight_floor", np.uint8),
        ("is_classifier", np.uint8),
        ("momentum", np.uint8),  # on, and its arrays exist
        ("momentum_fast_brake", np.uint8),
        ("momentum_fixed_nu", np.uint8),
    ]
)
TALLY = np.dtype(
    [
        ("training_pass", np.int64),  # completed passes
        ("correct", np.int64),
        ("incorrect", np.int64),
        ("above", np.int64),
        ("not_above", np.int64),
        ("abs_sum", np.float64),
        ("squared_sum", np.float64),
        ("effective_squared_sum", np.float64),
        ("momentum_t", np.float64),
        ("cases", np.uint32),
        ("error_cases", np.uint32),
        ("effective_cases", np.float32),
        ("effective_error_cases", np.float32),
        ("training_rate", np.float32),
        ("auto_rate2_adj", np.float32),
        ("has_last", np.uint8),  # a last gradient exists
        ("has_saved", np.uint8),  # auto_rate has saved a pass to compare with
        ("redo", np.uint8),  # auto_rate has undone a pass, the next one repeats it
        ("after_redo", np.uint8),
        ("to_apply", np.uint8),  # a pass has ended whose gradient has not been applied
    ]
)


class Levels:
    """The table of levels: their sizes, and where the weights and the corners of each lie.

    Parameters
    ----------
    sizes : tuple of int
        Neurons of every level, the inputs first.
    """

    def __init__(self, sizes: tuple[int, ...]) -> None:
        self.sizes = sizes
        self.shapes = [(below + 1, own) for below, own in pairwise(sizes)]  # of every block, the bias row included
        self.strides = [-(-own // LINE) * LINE for own in sizes[1:]]  # from row to row
        ends = np.cumsum([rows * stride for (rows, _), stride in zip(self.shapes, self.strides, strict=True)])
        self.offsets = [0, *map(int, ends)]  # W at the end
        self.corner_offsets = [0, *map(int, 3 * np.cumsum(sizes[1:]))]  # C at the end
        self.n_weights = sum(rows * own for rows, own in self.shapes)  # P

    def new(self) -> np.ndarray:
        """Return zeros (W,) for weights, their gradient or momentum, the first on a cache line."""
        raw = np.zeros(self.offsets[-1] + LINE, np.float32)
        start = -(raw.ctypes.data // raw.itemsize) % LINE
        return raw[start : start + self.offsets[-1]]

    def blocks(self, padded: np.ndarray) -> list[np.ndarray]:
        """Views (I + 1, O) of every level's weights in an array (W,)."""
        places = zip(self.offsets, self.offsets[1:], self.strides, self.shapes, strict=False)
        return [padded[start:end].reshape(-1, stride)[:, :own] for start, end, stride, (_, own) in places]

    def corner_blocks(self, corners: np.ndarray) -> list[np.ndarray]:
        """Views (O, 3) of every level's corners in an array (C,): left slope, offset, right slope."""
        return [corners[start:end].reshape(-1, 3) for start, end in pairwise(self.corner_offsets)]

    def flat(self, padded: np.ndarray) -> np.ndarray:
        """Return a copy (P,) of an array (W,) without its padding; an empty array is that of no gradient."""
        return np.concatenate([block.ravel() for block in self.blocks(padded)]) if len(padded) else padded.copy()

    def fill(self, padded: np.ndarray, flat: np.ndarray) -> None:
        """Copy a vector (P,) into an array (W,)."""
        start = 0
        for block in self.blocks(padded):
            block[:] = flat[start : start + block.size].reshape(block.shape)
            start += block.size


class State:
    """All arrays and numbers of a FloatNeuralNet.

    Parameters
    ----------
    levels : Levels
    kind : int
        RELU, LEAKY_RELU or CORNER.
    with_momentum : bool
        Whether there are arrays for momentum and for the last gradient.
    """

    def __init__(self, levels: Levels, kind: int, with_momentum: bool) -> None:
        self.levels, self.kind, self.with_momentum = levels, kind, with_momentum
        self.settings = np.zeros(1, SETTINGS)
        self.tally = np.zeros(1, TALLY)
        self.tally["momentum_t"] = self.tally["auto_rate2_adj"] = 1
        self.norms = np.full(len(levels.sizes), np.nan)  # of the gradient of every level, and of all
        self.usage = np.zeros(sum(levels.sizes) if kind == RELU else 0, np.uint32)
        self.weights, self.corners = levels.new(), self.new_corners()
        self.gradient, self.corner_gradient = self.weights[:0], self.corners[:0]  # the total gradient of a pass
        self.last, self.corner_last = self.gradient, self.corner_gradient
        self.momentum, self.corner_momentum = self.gradient, self.corner_gradient
        if with_momentum:
            self.last, self.corner_last = levels.new(), self.new_corners()
            self.momentum, self.corner_momentum = levels.new(), self.new_corners()
        # Of auto_rate: the sums of the last level's inputs and of what comes back to them, and what it saves of a pass.
        self.input_sums = self.saved_input_sums = np.zeros((2, 0), np.float32)
        self.saved_weights, self.saved_corners = self.gradient, self.corner_gradient
        self.saved_gradient, self.saved_corner_gradient = self.gradient, self.corner_gradient  # of the last level
        self.alone = OneAtATime()
        self.bound: object = None  # what the compiled kernels keep between calls: pointers at these arrays, and scratch

    def __getstate__(self) -> dict[str, object]:
        """Copy and pickle everything but the pointers."""
        return self.__dict__ | {"bound": None}

    def new_corners(self) -> np.ndarray:
        """Return zeros for corners (C,), of which only CORNER has any."""
        return np.zeros(self.levels.corner_offsets[-1] if self.kind == CORNER else 0, np.float32)

    def make_room(self) -> None:
        """Give a pass the arrays that its settings call for."""
        self.bound, settings = None, self.settings[0]
        if not settings["total_gradient"]:
            self.gradient, self.corner_gradient = self.weights[:0], self.corners[:0]
        elif not len(self.gradient):
            self.gradient, self.corner_gradient = self.levels.new(), self.new_corners()
        if settings["auto_rate"] and not len(self.saved_weights):
            self.input_sums, self.saved_input_sums = np.zeros((2, 2, self.levels.sizes[-2]), np.float32)
            self.saved_weights, self.saved_corners = self.levels.new(), self.new_corners()
            self.saved_gradient = np.zeros(self.levels.offsets[-1] - self.levels.offsets[-2], np.float32)
            self.saved_corner_gradient = self.corners[self.levels.corner_offsets[-2] :].copy()
