"""Sparse data: what is computed without a dense copy, and what with dense copies of some rows at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np
from scipy.sparse import issparse

from fnn import _checks, _dispatch
from fnn._estimator_problem import Problem
from fnn._layout import Layout
from fnn._optimizers import Rule

DENSE_BYTES = 1 << 26  # of the largest dense copy of all rows that a fit makes; the system takes long to hand out more
# With so few products for each number of a dense copy SciPy's sparse product of the first layer is the faster one:
# measured with 32, 100 and 512 neurons, in float32 and float64.
TERMS_FOR_A_NUMBER = 12
PRODUCTS_FOR_A_THREAD = 1e6  # to start it takes as long as some 100,000


def stays_sparse(X: Any, dtype: np.dtype) -> bool:
    """Whether a dense copy of all rows is too large for a fit."""
    return bool(issparse(X)) and X.shape[0] * X.shape[1] * dtype.itemsize > DENSE_BYTES


def dense(X: Any, dtype: np.dtype) -> np.ndarray:
    """Return X as the kernels take it."""
    return np.require(X.toarray() if issparse(X) else X, dtype, ["C", "A"])


def outputs_of(layout: Layout, parameters: np.ndarray, X: Any, threads: int) -> np.ndarray:
    """Return the outputs (N, O) for the rows of X, an array or a CSR matrix, some rows at a time."""
    predict, dtype = _dispatch.kernels.predict, parameters.dtype
    outputs = np.empty((X.shape[0], layout.sizes[-1]), dtype)
    if issparse(X) and X.nnz * layout.sizes[1] < TERMS_FOR_A_NUMBER * X.shape[0] * X.shape[1]:
        threads = min(threads, max(1, int(X.nnz * layout.sizes[1] / PRODUCTS_FOR_A_THREAD)))
        pieces = deque(_checks.row_chunks(X.shape[0], sum(layout.sizes[1:]), threads))

        def next_piece() -> slice | None:
            try:
                return pieces.popleft()
            except IndexError:  # another thread took the last one
                return None

        def by_terms() -> None:
            with np.errstate(over="ignore", invalid="ignore"):  # of this thread
                for rows in iter(next_piece, None):
                    outputs[rows] = _outputs_by_terms(layout, parameters, X[rows].astype(dtype, copy=False))

        _have_done(by_terms, threads, pieces.clear)
    else:
        for rows in _checks.row_chunks(X.shape[0], sum(layout.sizes)):
            outputs[rows] = predict(layout, parameters, dense(X[rows], dtype), threads)
    return outputs


def _have_done(share: Callable[[], None], threads: int, call_off: Callable[[], None]) -> None:
    """Call `share` in this thread and, for SciPy's product needs no GIL, in up to `threads` - 1 others.

    As many as are to be had: where a process may start no more, or while the interpreter ends, this one does all.
    """
    helpers = []
    with ThreadPoolExecutor(threads) as team:
        try:
            with suppress(RuntimeError):
                for _ in range(threads - 1):
                    helpers.append(team.submit(share))  # noqa: PERF401 - those of before an error count
            share()
        finally:
            call_off()  # after Ctrl-C the others need not go on
    for helper in helpers:
        helper.result()


def _outputs_by_terms(layout: Layout, parameters: np.ndarray, X: Any) -> np.ndarray:
    """Return the outputs (N, O) for all rows of X, a CSR matrix, by its product with the first layer's weights."""
    z = X @ layout.weights(parameters)[0] + layout.biases(parameters)[0]
    v: np.ndarray = _dispatch.kernels.activate(z, layout.activations[0])
    if layout.n_layers == 1:
        return v
    above = Layout(layout.sizes[1:], layout.activations[1:])
    outputs: np.ndarray = _dispatch.kernels.predict(above, parameters[layout.offsets[1] :], v, 1)
    return outputs


def train_epoch(
    problem: Problem,
    work: Any,
    order: np.ndarray,
    rule: Rule,
    tick: Callable[[int], object] | None,
    weights: np.ndarray | None,
    through_updated: bool,
) -> tuple[float, float]:
    """Train once on the rows `order`; return the sum of the batches' losses, and what of it is the penalty's.

    Of a CSR matrix as many batches are copied at a time as make a few megabytes, at least one.
    """
    train, loss = _dispatch.kernels.train_epoch, problem.loss
    if not issparse(problem.x):
        total = train(work, problem.x, problem.y, order, loss, rule, True, tick, weights, through_updated)
        return total, work.penalties
    total = penalties = 0.0
    for batches in _checks.row_chunks(-(-len(order) // work.batch_size), work.batch_size * problem.x.shape[1]):
        done = batches.start * work.batch_size
        rows = order[done : batches.stop * work.batch_size]
        x = dense(problem.x[rows], problem.parameters.dtype)
        of_rows = None if weights is None else weights[rows]
        tell = None if tick is None else lambda more, done=done: tick(done + more)
        of_x = np.arange(len(rows), dtype=np.intp)
        total += train(work, x, problem.y[rows], of_x, loss, rule, True, tell, of_rows, through_updated)
        penalties += work.penalties
    return total, penalties
