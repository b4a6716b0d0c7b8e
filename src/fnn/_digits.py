"""The handwritten digits that come with the package."""

from __future__ import annotations

from importlib import resources

import numpy as np


def load_digits() -> tuple[np.ndarray, np.ndarray]:
    """Load 1,797 real images of handwritten digits, 8 by 8 pixels.

    The test part of *Optical Recognition of Handwritten Digits* (E. Alpaydin and C. Kaynak, UCI Machine Learning
    Repository, 1998, doi 10.24432/C50P49), under CC BY 4.0: the same images as in ``sklearn.datasets.load_digits``.

    Returns
    -------
    x : numpy.ndarray of float32, shape (1797, 64)
        An image a row, its pixels row by row, 0 (white) to 1 (black) in steps of 1/16.
    labels : numpy.ndarray of intp, shape (1797,)
        The digit that each image shows, 0 to 9.

    Examples
    --------
    >>> x, labels = fnn.load_digits()
    >>> x.shape, labels[:5].tolist()
    ((1797, 64), [0, 1, 2, 3, 4])
    """
    with (
        resources.files("fnn").joinpath("data/digits.npz").open("rb") as file,
        np.load(file, allow_pickle=False) as packed,
    ):
        return packed["pixels"].astype(np.float32) / np.float32(16), packed["labels"].astype(np.intp)
