"""Weights to start from as the C++ class FloatNeuralNet draws them, with POSIX drand48."""

from __future__ import annotations

import math

import numpy as np


def draw_weights(blocks: list[np.ndarray], seed: int) -> None:
    """Draw the weights of every level, (I + 1, O) with the biases last, into its block.

    They are uniform in ±1/sqrt(I) with the middle tenth left out.
    """
    draws = drand48(seed, sum(block.size for block in blocks))
    start = 0
    for block in blocks:
        limit = np.float32(1 / math.sqrt(len(block) - 1))
        gap = np.float32(0.1 * float(limit))
        drawn = ((2 * draws[start : start + block.size] - 1) * float(limit - gap)).astype(np.float32)
        block[:] = np.where(drawn < 0, drawn - gap, drawn + gap).reshape(block.shape)
        start += block.size


def drand48(seed: int, n: int) -> np.ndarray:
    """The first n numbers in [0, 1) of POSIX drand48 after srand48(seed)."""
    state, draws = ((seed & 0xFFFFFFFF) << 16) | 0x330E, np.empty(n)
    for i in range(n):
        state = (state * 0x5DEECE66D + 0xB) & 0xFFFFFFFFFFFF
        draws[i] = state / (1 << 48)
    return draws
