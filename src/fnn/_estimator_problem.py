"""What an estimator trains, and on what, as the kernels take it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.sparse import issparse

from fnn._formulas import SQUARED_ERROR, Loss
from fnn._layout import Layout


@dataclass
class Problem:
    """What is to be trained, and on what, as the kernels take it.

    Attributes
    ----------
    layout : Layout
    parameters : numpy.ndarray, shape (P,)
        Changed in place.
    x : numpy.ndarray, shape (N, I), or CSR matrix of SciPy
        C-contiguous, of the parameters' dtype; of lbfgs it may be float32 where they are float64.
    y : numpy.ndarray, shape (N, O), or (N,) of class indices for cross_entropy
    weights : numpy.ndarray, shape (N,), or None
    loss : Loss
    threads : int
    """

    layout: Layout
    parameters: np.ndarray
    x: Any
    y: np.ndarray
    weights: np.ndarray | None
    loss: Loss
    threads: int

    def part(self, rows: np.ndarray) -> Problem:
        """Return the problem of some of the rows."""
        weights = None if self.weights is None else self.weights[rows]
        return replace(self, x=self.x[rows], y=self.y[rows], weights=weights)

    def made_dense(self) -> Problem:
        """Return the same problem on an array."""
        return replace(self, x=self.x.toarray()) if issparse(self.x) else self

    @property
    def n_rows(self) -> int:
        """How many rows there are."""
        return int(self.x.shape[0])

    @property
    def gradient_factor(self) -> int:
        """How many times scikit-learn's gradient the kernels' is."""
        return 2 if self.loss.code == SQUARED_ERROR else 1

    def mean_loss(self, total: float, penalties: float, rows: int) -> float:
        """Return scikit-learn's loss over `rows` rows of what the kernels have added up, the penalties among it.

        Scikit-learn averages a squared error over the outputs in the loss that it reports, though not in the gradient.
        """
        averaged = self.layout.sizes[-1] if self.loss.code == SQUARED_ERROR else 1
        return ((total - penalties) / averaged + penalties) / self.gradient_factor / rows


@dataclass
class HeldOut:
    """Rows that training does not see: as in `Problem`."""

    x: Any
    y: np.ndarray
    weights: np.ndarray | None

    def mean(self, values: np.ndarray) -> float:
        """Return the mean of one number a row, as much of each as its row counts."""
        if self.weights is None:
            return float(values.sum() / len(values))  # np.average takes four times as long for few rows
        return float(np.average(values, weights=self.weights))
