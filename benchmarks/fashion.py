"""Fashion-MNIST as Debian's package dataset-fashion-mnist installs it: clothes, half of whose pixels are zero."""

import gzip
from pathlib import Path

import numpy as np

FOLDER = Path("/usr/share/datasets/fashion-mnist")


def is_installed() -> bool:
    """Whether the images are on this machine."""
    return FOLDER.is_dir()


def images(part: str) -> np.ndarray:
    """Pixels (N, 784), uint8, of "train" (60,000 images) or "t10k" (10,000)."""
    return _numbers(f"{part}-images-idx3-ubyte.gz", offset=16).reshape(-1, 784)


def labels(part: str) -> np.ndarray:
    """Classes (N,), uint8, 0 to 9."""
    return _numbers(f"{part}-labels-idx1-ubyte.gz", offset=8)


def _numbers(name: str, offset: int) -> np.ndarray:
    return np.frombuffer(gzip.decompress((FOLDER / name).read_bytes()), np.uint8, offset=offset)
