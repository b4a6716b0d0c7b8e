"""Checkpoints of the C++ class FloatNeuralNet: its FNNC files, byte for byte (docs/float-neural-net.md).

They say nothing of the network's levels, so that their length is all there is to compare with it.
"""

from __future__ import annotations

import os
import struct

import numpy as np

from fnn import _modelfile
from fnn._modelfile import ModelFileError

MAGIC = b"FNNC"
VERSION = 1
START = struct.Struct("<4sIq")  # magic, version, completed passes
FLOAT32 = np.dtype("<f4")


def write(path: str | os.PathLike[str], passes: int, weights: np.ndarray, corners: np.ndarray) -> None:
    """Write a checkpoint beside `path` and rename it."""
    _modelfile.replace_file(path, START.pack(MAGIC, VERSION, passes), *(a.astype(FLOAT32) for a in (weights, corners)))


def read(path: str | os.PathLike[str], n_weights: int, n_corners: int) -> tuple[int, np.ndarray, np.ndarray]:
    """Return the passes, weights (P,) and corners (C,) that a checkpoint of a network of that size holds."""
    expected = START.size + FLOAT32.itemsize * (n_weights + n_corners)
    with _modelfile.open_regular(path) as file:
        data = file.read(expected + 1)
    name = os.fspath(path)
    if data[:4] != MAGIC:
        raise ModelFileError(f"{name}: expected a checkpoint that starts with {MAGIC!r}, got {data[:4]!r}")
    if len(data) < START.size:
        raise ModelFileError(f"{name}: cut short: expected {expected} bytes, got {len(data)}")
    _, version, passes = START.unpack_from(data)
    if version != VERSION:
        raise ModelFileError(f"{name}: expected version {VERSION}, got {version}")
    if passes < 0:
        raise ModelFileError(f"{name}: expected passes >= 0, got {passes}")
    if len(data) != expected:
        got = f"{len(data)}" if len(data) < expected else "more"
        raise ModelFileError(f"{name}: expected {expected} bytes for a network of these levels, got {got}")
    values = np.frombuffer(data, FLOAT32, offset=START.size).astype(np.float32)
    finite = np.isfinite(values)
    if not finite.all():
        raise ModelFileError(f"{name}: expected finite numbers, got {values[int(finite.argmin())]}")
    return passes, values[:n_weights], values[n_weights:]
