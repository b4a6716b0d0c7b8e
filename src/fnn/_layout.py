"""The layout of a network's parameters in one flat vector.

All weights and biases live in one contiguous 1-D array, layer after layer, each layer a C-ordered block of shape
(I + 1, O) whose last row is the bias.  Only the table in this file knows the offsets; everything else asks for views.

Shape letters used in every docstring of the package: B rows of a batch, I fan-in of a layer, O its fan-out, L layers,
P parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fnn._formulas import Activation


@dataclass(frozen=True)
class Layout:
    """Sizes and activations of a chain of dense layers, and where each layer lies in the flat vector.

    Parameters
    ----------
    sizes : tuple of int
        Width of the input followed by the width of every layer: L + 1 numbers.
    activations : tuple of Activation
        One for each of the L layers.
    """

    sizes: tuple[int, ...]
    activations: tuple[Activation, ...]

    @property
    def n_layers(self) -> int:
        """Number of dense layers L; the input is not one."""
        return len(self.activations)

    @cached_property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """Shape (I, O) of every layer's weights."""
        return tuple(zip(self.sizes[:-1], self.sizes[1:], strict=True))

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Start of every layer's block in the flat vector, and P at the end: L + 1 numbers."""
        ends = np.cumsum([(fan_in + 1) * fan_out for fan_in, fan_out in self.shapes])
        return (0, *(int(end) for end in ends))

    @property
    def n_parameters(self) -> int:
        """Length P of the flat vector."""
        return self.offsets[-1]

    @cached_property
    def table(self) -> np.ndarray:
        """Fan-in, fan-out, activation code and slope of every layer (L, 4): what the kernels read without Python."""
        rows = zip(self.shapes, self.activations, strict=True)
        return np.array([(*shape, activation.code, activation.slope) for shape, activation in rows], np.float64)

    @cached_property
    def widest(self) -> int:
        """Neurons of the widest layer, the input included."""
        return max(self.sizes)

    @cached_property
    def operations(self) -> int:
        """Floating-point operations of one training sample: 4 I O in the first layer, 6 I O in every other."""
        products = [fan_in * fan_out for fan_in, fan_out in self.shapes]
        return 6 * sum(products) - 2 * products[0]

    def blocks(self, flat: np.ndarray) -> list[np.ndarray]:
        """Views (I + 1, O) of every layer's block of a flat vector (P,): weights, then the bias row."""
        return [
            flat[start:end].reshape(fan_in + 1, fan_out)
            for start, end, (fan_in, fan_out) in zip(self.offsets[:-1], self.offsets[1:], self.shapes, strict=True)
        ]

    def weights(self, flat: np.ndarray) -> list[np.ndarray]:
        """Views (I, O) of every layer's weights in a flat vector (P,)."""
        return [block[:-1] for block in self.blocks(flat)]

    def biases(self, flat: np.ndarray) -> list[np.ndarray]:
        """Views (O,) of every layer's biases in a flat vector (P,)."""
        return [block[-1] for block in self.blocks(flat)]
