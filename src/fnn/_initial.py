"""How the parameters of a network start."""

from __future__ import annotations

import numpy as np

from fnn._formulas import CORNER_START
from fnn._layout import Layout

INITS = ("reference", "glorot", "he", "zeros")


def initial_parameters(layout: Layout, dtype: np.dtype, init: str, rng: np.random.Generator) -> np.ndarray:
    """Draw the starting parameters (P,), in double and layer after layer, so that both dtypes start alike."""
    parameters = np.zeros(layout.n_parameters, dtype)
    for block, (fan_in, fan_out) in zip(layout.blocks(parameters), layout.shapes, strict=True):
        if init == "reference":  # weights first, then the biases, by the same rule
            gap = 0.1 / np.sqrt(fan_in)
            draw = (2 * rng.random((fan_in + 1, fan_out)) - 1) * (1 / np.sqrt(fan_in) - gap)
            block[:] = np.where(draw < 0, draw - gap, draw + gap)
        elif init == "glorot":
            limit = np.sqrt(6 / (fan_in + fan_out))
            block[:-1] = rng.uniform(-limit, limit, (fan_in, fan_out))
        elif init == "he":
            block[:-1] = rng.normal(0, np.sqrt(2 / fan_in), (fan_in, fan_out))
    for corner, bends in zip(layout.corners(parameters), layout.bends, strict=True):
        if bends:
            corner.T[:] = CORNER_START
    return parameters
