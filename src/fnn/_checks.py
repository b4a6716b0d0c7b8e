"""Checks of data and options: what comes in becomes an array or a number that the kernels take, or is refused.

Every error says which argument, what was expected and what came.  Nothing here changes what it is given.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from numbers import Real
from typing import Any

import numpy as np

from fnn import _dispatch
from fnn._formulas import BINARY_CROSS_ENTROPY, CROSS_ENTROPY, POISSON, Loss, is_finite_real

CHUNK_VALUES = 1 << 20  # values looked at or computed at a time: a few megabytes, however large the data


class BadValueError(ValueError):
    """A value of an array is not as expected.

    Attributes
    ----------
    argument : str
    fault : str
        What was expected and what came.
    place : tuple of int
        The row and, where there are columns, the column of the first such value, counted from 0 as NumPy does.
    hint : str
    """

    def __init__(self, argument: str, fault: str, place: tuple[int, ...], hint: str = "") -> None:
        super().__init__(argument, fault, place, hint)  # which pickling makes it from
        self.argument, self.fault, self.place, self.hint = argument, fault, place, hint

    def __str__(self) -> str:
        where = ", ".join(f"{name} {index}" for name, index in zip(("row", "column"), self.place, strict=False))
        return f"{self.argument}: {self.fault} in {where}{self.hint}"


def row_chunks(n_rows: int, values_per_row: int, at_least: int = 1) -> Iterator[slice]:
    """Yield the slices that cut `n_rows` into `at_least` so many pieces, each of about CHUNK_VALUES values at most."""
    step = max(1, min(CHUNK_VALUES // values_per_row, -(-n_rows // at_least)))
    for start in range(0, n_rows, step):
        yield slice(start, min(start + step, n_rows))


def whole_number(value: Any, argument: str, at_least: int = 1) -> int:
    """Return `value` as an int if it is a whole number, and not less than `at_least`."""
    if isinstance(value, bool | np.bool) or not isinstance(value, int | np.integer) or value < at_least:
        raise ValueError(f"{argument}: expected an integer >= {at_least}, got {value!r}")
    return int(value)


def flag(value: Any, argument: str) -> bool:
    """Return `value` as a bool if it is True or False."""
    if not isinstance(value, bool | np.bool):
        raise ValueError(f"{argument}: expected True or False, got {value!r}")
    return bool(value)


def dropout_share(value: Any) -> float:
    """Return the share that dropout drops as a float."""
    if not is_finite_real(value) or not 0 <= value < 1:
        raise ValueError(f"dropout: expected a number in [0, 1), got {value!r}")
    return float(value)


def hidden_dropouts(dropout: Any, count: int) -> tuple[float, ...]:
    """Return the share that is dropped of each of `count` hidden layers, given one for all or one for each."""
    listed = [dropout] * count if isinstance(dropout, Real) else list(dropout)
    if len(listed) != count:
        raise ValueError(f"dropout: expected one number, or {count}, one a hidden layer, got {len(listed)}")
    return tuple(dropout_share(share) for share in listed)


def planned_rate(value: Any) -> float:
    """Return the learning rate that callbacks have planned for an epoch."""
    if not is_finite_real(value) or value < 0:
        raise ValueError(f"callbacks: plan.rate: expected a finite number >= 0, got {value!r}")
    return float(value)


def weight_floor(value: Any, saturation: float) -> float:
    """Return the floor under the magnitude of every weight, 0 for none."""
    if value is None:
        return 0.0
    if not is_finite_real(value) or not 0 < value <= saturation:
        raise ValueError(f"weight_floor: expected a finite number > 0 and at most saturation, or None, got {value!r}")
    return float(value)


def saturation_limit(value: Any) -> float:
    """Return the saturation limit as a float, infinity for None."""
    if value is None:
        return math.inf
    if not is_finite_real(value) or value <= 0:
        raise ValueError(f"saturation: expected None or a finite number > 0, got {value!r}")
    return float(value)


def generator(seed: Any) -> np.random.Generator:
    """Return the random generator that a seed stands for: an int >= 0, None for a fresh one, or a Generator itself."""
    if isinstance(seed, np.random.Generator):
        return seed
    if seed is None:
        return np.random.default_rng()
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(f"seed: expected an integer >= 0, None or a numpy Generator, got {seed!r}")
    return np.random.default_rng(int(seed))


def is_mean(reduction: Any) -> bool:
    """Whether the loss of a batch is averaged over its rows ("mean") rather than summed ("sum")."""
    if not isinstance(reduction, str) or reduction not in ("mean", "sum"):
        raise ValueError(f"reduction: expected 'mean' or 'sum', got {reduction!r}")
    return reduction == "mean"


def real_array(data: Any, argument: str) -> np.ndarray:
    """Return `data` as an array of booleans, integers or floats, whatever its shape; no copy of an array."""
    array = data if type(data) is np.ndarray else _as_array(data, argument)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{argument}: expected real numbers, got {type(data).__name__} of dtype {array.dtype}")
    return array


def _as_array(data: Any, argument: str) -> np.ndarray:
    if np.ma.is_masked(data):
        raise ValueError(f"{argument}: expected no masked values, got {np.ma.getmaskarray(data).sum()}")
    try:
        return np.asarray(data)
    except ValueError as error:  # rows of different lengths
        raise ValueError(f"{argument}: expected an array of numbers, got {type(data).__name__}: {error}") from None


def table(data: Any, n_columns: int, argument: str) -> np.ndarray:
    """Return `data` as a 2-D array with `n_columns` columns and at least one row, not yet cast."""
    array = real_array(data, argument)
    if array.ndim != 2 or array.shape[1] != n_columns:
        hint = ""
        if array.ndim == 1 and array.size == n_columns:
            hint = f"; for a single row pass {argument.split()[-1]}[None, :]"
        elif array.ndim == 1 and n_columns == 1:
            hint = f"; for a single column pass {argument.split()[-1]}[:, None]"
        raise ValueError(f"{argument}: expected shape (rows, {n_columns}), got {array.shape}{hint}")
    if len(array) == 0:
        raise ValueError(f"{argument}: expected at least one row, got shape {array.shape}")
    return array


def is_ready(array: np.ndarray, dtype: np.dtype) -> bool:
    """Whether the kernels can take an array as it lies: C-contiguous, aligned and of `dtype`."""
    flags = array.flags
    return array.dtype == dtype and flags.c_contiguous and flags.aligned


def as_finite(array: np.ndarray, dtype: np.dtype, argument: str, first_row: int = 0) -> np.ndarray:
    """Return an array (N,) or (N, C) C-contiguous, aligned and of `dtype`: itself if it is so already, else one copy.

    `first_row` is added to the row number in the error that names the first value which is not finite.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # a float64 beyond float32 turns into inf, found just below
        result = np.require(array, dtype, ["C", "A"])
    if array.dtype.kind != "f" or not result.size:
        return result
    for rows in row_chunks(len(result), result[0].size):
        part = result[rows]
        if not _dispatch.kernels.is_finite(part.reshape(len(part), -1)):
            bad = ~np.isfinite(part)
            row, *column = np.unravel_index(int(bad.argmax()), bad.shape)
            value = array[(rows.start + row, *column)]
            hint = f"; it is beyond {dtype}" if np.isfinite(value) else ""
            place = (first_row + rows.start + int(row), *map(int, column))
            raise BadValueError(argument, f"expected finite numbers, got {value}", place, hint)
    return result


def warn_of_overflow(outputs: np.ndarray, stacklevel: int) -> None:
    """Warn that predicted outputs (N, O) are not all finite, with the same words on every backend."""
    row = int(np.isfinite(outputs).all(axis=1).argmin())
    warnings.warn(
        f"overflow: predict gave NaN or infinity for some rows, the first of them row {row}; are x or the parameters "
        f"too large for {outputs.dtype}?",
        RuntimeWarning,
        stacklevel + 1,
    )


def targets(
    data: Any, n_rows: int, n_outputs: int, loss: Loss, dtype: np.dtype, argument: str, x_argument: str
) -> np.ndarray:
    """Return the targets that go with `loss`: (N, O) of `dtype`, or (N,) of intp where they are class labels."""
    y = real_array(data, argument)
    if y.ndim and len(y) != n_rows:
        raise ValueError(f"{argument}: expected {n_rows} rows, as many as {x_argument} has, got shape {y.shape}")
    integers = y.dtype.kind in "biu"
    if loss.code == CROSS_ENTROPY and integers and y.shape in ((n_rows,), (n_rows, 1)):
        return _labels(y.reshape(-1), n_outputs, argument)
    if y.ndim == 1 and n_outputs == 1:
        y = y[:, None]
    if y.shape != (n_rows, n_outputs):
        hint = ""
        if loss.code == CROSS_ENTROPY:
            hint = f" or integer class labels ({n_rows},)"
        got = f"{y.shape} of dtype {y.dtype}"
        if loss.code != CROSS_ENTROPY and integers and y.ndim == 1:
            got += f"; rows for class labels are np.eye({n_outputs})[{argument.split()[-1]}]"
        raise ValueError(f"{argument}: expected shape ({n_rows}, {n_outputs}){hint}, got {got}")
    y = as_finite(y, dtype, argument)
    if loss.code == CROSS_ENTROPY:
        _check_range(y, 0.0, math.inf, "numbers >= 0", argument)
    elif loss.code == BINARY_CROSS_ENTROPY:
        _check_range(y, 0.0, 1.0, "numbers in [0, 1]", argument)
    elif loss.code == POISSON:
        _check_range(y, 0.0, math.inf, "numbers >= 0", argument)
    return y


def row_weights(data: Any, n_rows: int, dtype: np.dtype, argument: str) -> np.ndarray | None:
    """Return how often each row counts as (N,) of `dtype`, None for none: finite, >= 0, not all 0.

    What they add up to must have an inverse, which a mean needs: neither infinite nor subnormal.
    """
    if data is None:
        return None
    array = real_array(data, argument)
    if array.shape != (n_rows,):
        raise ValueError(f"{argument}: expected shape ({n_rows},), one number a row, got {array.shape}")
    weights = as_finite(array, dtype, argument)
    _check_range(weights, 0.0, math.inf, "numbers >= 0", argument)
    if not weights.any():
        raise ValueError(f"{argument}: expected a number > 0 among them, got {n_rows} zeros")
    with np.errstate(over="ignore"):
        total = weights.sum(dtype=np.float64)
    low, high = np.finfo(np.float64).tiny, np.finfo(np.float64).max
    if not low <= total <= high:
        raise ValueError(
            f"{argument}: expected numbers that add up to {low:.2g} to {high:.2g}, got the sum {total:.2g}"
        )
    return weights


def _labels(y: np.ndarray, n_outputs: int, argument: str) -> np.ndarray:
    # The kernels index with these numbers: a copy of our own, checked itself, stays as it is whatever the caller does.
    own = np.array(y, np.intp)
    for labels in (y, own):  # the first before the cast, which might wrap around
        if labels.min() < 0 or labels.max() >= n_outputs:
            row = int(((labels < 0) | (labels >= n_outputs)).argmax())
            fault = f"expected class labels from 0 to {n_outputs - 1}, got {labels[row]}"
            raise BadValueError(argument, fault, (row,))
    own.flags.writeable = False  # callbacks see it as plan.y
    return own


def _check_range(y: np.ndarray, low: float, high: float, expected: str, argument: str) -> None:
    if y.min() < low or y.max() > high:
        place = np.unravel_index(int(((y < low) | (y > high)).argmax()), y.shape)
        raise BadValueError(argument, f"expected {expected}, got {y[place]}", tuple(map(int, place)))
