"""The layout of a network's parameters in one flat vector.

All parameters live in one contiguous 1-D array, layer after layer, each layer a C-ordered block of shape (I + 1, O)
whose last row is the bias.  A layer with a corner has three rows more behind it: left slope, offset, right slope.  Only
the table in this file knows the offsets; everything else asks for views.

Shape letters used in every docstring of the package: B rows of a batch, I fan-in of a layer, O its fan-out, L layers,
P parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from fnn._formulas import CORNER, Activation

SKIP_MODES = ("add", "concat")
CORNER_ROWS = 3  # left slope, offset, right slope


class Skip(NamedTuple):
    """How a layer reads an earlier activation beside the one below it (docs/backprop.md, eq. 1a)."""

    distance: int = 0  # k: it also reads the activation k layers earlier; 0: it does not
    mode: str = "add"  # or "concat"


def fan_ins(sizes: Sequence[int], skips: Sequence[Skip]) -> list[int]:
    """Fan-in of every layer: what it reads, counted once where two activations are added."""
    return [
        sizes[layer] + (sizes[layer - skip.distance] if skip.distance and skip.mode == "concat" else 0)
        for layer, skip in enumerate(skips)
    ]


def block_heights(sizes: Sequence[int], skips: Sequence[Skip], activations: Sequence[Activation]) -> list[int]:
    """Rows of every layer's parameters, each O wide: I of weights, the biases and, with a corner, its three."""
    return [
        fan_in + 1 + CORNER_ROWS * (activation.code == CORNER)
        for fan_in, activation in zip(fan_ins(sizes, skips), activations, strict=True)
    ]


def parameter_count(sizes: Sequence[int], skips: Sequence[Skip], activations: Sequence[Activation]) -> int:
    """P in Python's integers: of absurd sizes too, which must not wrap around."""
    heights = block_heights(sizes, skips, activations)
    return sum(height * fan_out for height, fan_out in zip(heights, sizes[1:], strict=True))


def skip_fault(sizes: Sequence[int], skips: Sequence[Skip]) -> str:
    """What keeps the skips from fitting the sizes; nothing if they fit."""
    for layer, (distance, mode) in enumerate(skips):
        if distance > layer:
            return f"layer {layer + 1}: expected a skip of at most {layer}, which reaches the input, got {distance}"
        here, there = sizes[layer], sizes[layer - distance]
        if mode == "add" and here != there:
            return (
                f"layer {layer + 1}: expected two activations of equal width to add, got {here} and {there}; "
                'skip_mode="concat" takes any'
            )
    return ""


@dataclass(frozen=True)
class Layout:
    """Sizes and activations of a chain of dense layers, and where each layer lies in the flat vector.

    Parameters
    ----------
    sizes : tuple of int
        Width of the input followed by the width of every layer: L + 1 numbers.
    activations : tuple of Activation
        One for each of the L layers.
    skips : tuple of Skip, optional
        One for each of the L layers; none of them skips unless given.
    rate_scales : tuple of float, optional
        What each of the L layers multiplies the learning rate by; 1 unless given.
    dropouts : tuple of float, optional
        Which share of the input and of each layer's activation training drops, in [0, 1): L + 1 numbers, the last of
        them 0; all are unless given.
    """

    sizes: tuple[int, ...]
    activations: tuple[Activation, ...]
    skips: tuple[Skip, ...] = ()
    rate_scales: tuple[float, ...] = ()
    dropouts: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "skips", self.skips or (Skip(),) * self.n_layers)
        object.__setattr__(self, "rate_scales", self.rate_scales or (1.0,) * self.n_layers)
        object.__setattr__(self, "dropouts", self.dropouts or (0.0,) * len(self.sizes))

    @property
    def n_layers(self) -> int:
        """Number of dense layers L; the input is not one."""
        return len(self.activations)

    @cached_property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """Shape (I, O) of every layer's weights."""
        return tuple(zip(fan_ins(self.sizes, self.skips), self.sizes[1:], strict=True))

    @cached_property
    def has_skips(self) -> bool:
        """Whether any layer reads more than the activation below it."""
        return any(skip.distance for skip in self.skips)

    @cached_property
    def bends(self) -> tuple[bool, ...]:
        """Of every layer, whether its activation is a corner."""
        return tuple(activation.code == CORNER for activation in self.activations)

    @cached_property
    def drops(self) -> bool:
        """Whether training drops anything."""
        return any(self.dropouts)

    @cached_property
    def is_plain(self) -> bool:
        """Whether there are neither skips nor corners, which the paths for single rows leave out."""
        return not self.has_skips and not any(self.bends)

    @cached_property
    def skipped_to(self) -> frozenset[int]:
        """Layers, the input being 0, whose activation more layers read than the one above."""
        return frozenset(layer - skip.distance for layer, skip in enumerate(self.skips) if skip.distance)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Start of every layer's block in the flat vector, and P at the end: L + 1 numbers."""
        heights = block_heights(self.sizes, self.skips, self.activations)
        ends = np.cumsum([height * fan_out for height, fan_out in zip(heights, self.sizes[1:], strict=True)])
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
            flat[start : start + (fan_in + 1) * fan_out].reshape(fan_in + 1, fan_out)
            for start, (fan_in, fan_out) in zip(self.offsets[:-1], self.shapes, strict=True)
        ]

    def corners(self, flat: np.ndarray) -> list[np.ndarray]:
        """Views (3, O) of every layer's left slopes, offsets, right slopes in a flat vector (P,); (0, O) without."""
        return [
            flat[start + (fan_in + 1) * fan_out : end].reshape(-1, fan_out)
            for start, end, (fan_in, fan_out) in zip(self.offsets[:-1], self.offsets[1:], self.shapes, strict=True)
        ]

    def weights(self, flat: np.ndarray) -> list[np.ndarray]:
        """Views (I, O) of every layer's weights in a flat vector (P,)."""
        return [block[:-1] for block in self.blocks(flat)]

    def biases(self, flat: np.ndarray) -> list[np.ndarray]:
        """Views (O,) of every layer's biases in a flat vector (P,)."""
        return [block[-1] for block in self.blocks(flat)]
