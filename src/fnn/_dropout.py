"""Which activations a training pass drops: random bits that are a function of where they are used, and of nothing else.

A generator that is counted instead of advanced (Salmon et al., Parallel random numbers: as easy as 1, 2, 3, 2011): no
state to share, so that any thread may ask for any bit, in any order, as often as it likes.  It mixes with the two
finalisers of MurmurHash3 (Appleby 2011, public domain), of 64 bits once a row and of 32 bits twice a neuron:

    key = mix64(mix64(number) ^ (layer << 32 | row))          bits = mix32(mix32(neuron + key mod 2**32) ^ key >> 32)

all modulo the power of two.  `layer` counts as activations do, the input's being 0; `row` is the position in the batch.
Equation numbers refer to docs/backprop.md.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

NUMBERS = 1 << 64  # of draws


class Draw(NamedTuple):
    """What is drawn for some rows of a batch."""

    number: int  # the training's seed plus the updates before this one, below NUMBERS
    first_row: int = 0  # position in the batch of the first of the rows


def threshold(share: float) -> int:
    """Below which of the 2**32 numbers a neuron is dropped."""
    return int(share * (1 << 32))


def mix_64(h: np.ndarray) -> np.ndarray:
    """MurmurHash3's fmix64 of every number of an array of uint64."""
    h = (h ^ (h >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    h = (h ^ (h >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    mixed: np.ndarray = h ^ (h >> np.uint64(33))
    return mixed


def mix_32(h: np.ndarray) -> np.ndarray:
    """MurmurHash3's fmix32 of every number of an array of uint32."""
    h = (h ^ (h >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    h = (h ^ (h >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    mixed: np.ndarray = h ^ (h >> np.uint32(16))
    return mixed


def is_dropped(draw: Draw, layer: int, shape: tuple[int, int], share: float) -> np.ndarray:
    """Eq. 2c: whether each neuron of activation `layer` is dropped, shape (B, O) as given."""
    rows, neurons = shape
    places = np.arange(draw.first_row, draw.first_row + rows, dtype=np.uint64) | np.uint64(layer << 32)
    keys = mix_64(mix_64(np.array([draw.number], np.uint64)) ^ places)[:, None]
    numbers = np.arange(neurons, dtype=np.uint32) + keys.astype(np.uint32)
    dropped: np.ndarray = mix_32(mix_32(numbers) ^ (keys >> np.uint64(32)).astype(np.uint32)) < threshold(share)
    return dropped
