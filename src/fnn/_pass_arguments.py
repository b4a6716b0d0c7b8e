"""What a FloatNeuralNet is called with: checked, and as the kernels take it.

Every error says which argument, what was expected and what came.  Nothing here changes what it is given, but for the
effective counts that `Samples.hand_back` returns to their owner.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fnn import _checks
from fnn._formulas import is_finite_real
from fnn._pass_options import LARGEST, Options

FLOAT32 = np.dtype(np.float32)


class Samples(NamedTuple):
    """Samples and what they are trained with, in the order in which the kernels take it."""

    inputs: np.ndarray  # (N, I)
    targets: np.ndarray  # (N, O)
    rate: np.float32
    counts: np.ndarray  # (N,) of uint32
    effective_counts: np.ndarray | None  # (N,), on which the kernels work

    def hand_back(self, effective_count: np.ndarray | None) -> None:
        """Copy what became of the effective counts to where they came from."""
        if self.effective_counts is not None and effective_count is not None:
            effective_count[...] = self.effective_counts.reshape(effective_count.shape)


def checked_samples(
    levels: tuple[int, ...],
    options: Options,
    inputs: Any,
    targets: Any,
    rate: Any,
    count: Any,
    effective_count: Any,
    names: tuple[str, str] = ("inputs", "targets"),
) -> Samples:
    """Return samples for a network of these sizes; `names` are the first two arguments' in errors."""
    x, y = _checks.real_array(inputs, names[0]), _checks.real_array(targets, names[1])
    if x.ndim != 2 and y.ndim < 2:
        x, y = np.atleast_2d(x), np.atleast_2d(y)
    x, y = _checks.table(x, levels[0], names[0]), _checks.table(y, levels[-1], names[1])
    if len(x) != len(y):
        raise ValueError(f"{names[1]}: expected {len(x)} rows, as many as {names[0]} has, got shape {y.shape}")
    rate32 = np.float32(0) if options.auto_rate else checked_rate(rate, "rate")
    if options.momentum and rate32 != 0:
        raise ValueError(f"rate: expected 0 with momentum, got {rate!r}")
    counts, effective = _counts(count, len(x)), _effective_counts(effective_count, len(x))
    return Samples(
        _checks.as_finite(x, FLOAT32, names[0]),
        _checks.as_finite(y, FLOAT32, names[1]),
        rate32,
        counts,
        effective,
    )


def checked_level(level: Any, levels: tuple[int, ...], first: int = 1) -> int:
    """Return the number of a level, from `first` to the last."""
    if isinstance(level, bool | np.bool) or not isinstance(level, int | np.integer):
        raise ValueError(f"level: expected an integer, got {level!r}")
    if not first <= level < len(levels):
        raise ValueError(f"level: expected {first} to {len(levels) - 1}, got {level}")
    return int(level)


def checked_rate(rate: Any, argument: str) -> np.float32:
    """Return a rate as the class holds it."""
    if not is_finite_real(rate) or abs(rate) > LARGEST:
        raise ValueError(f"{argument}: expected a number that float32 can hold, got {rate!r}")
    return np.float32(rate)


def checked_unused(max_unused: Any) -> int:
    """Return how many samples a neuron may have been on for that counts as unused."""
    if isinstance(max_unused, bool | np.bool) or not isinstance(max_unused, int | np.integer):
        raise ValueError(f"max_unused: expected an integer >= 0, got {max_unused!r}")
    if not 0 <= max_unused < 1 << 32:
        raise ValueError(f"max_unused: expected an integer from 0 to {(1 << 32) - 1}, got {max_unused!r}")
    return int(max_unused)


def fitting(values: Any, shape: tuple[int, ...], argument: str) -> np.ndarray:
    """Return numbers as an array of float32 of this shape."""
    array = _checks.real_array(values, argument)
    if array.shape != shape:
        raise ValueError(f"{argument}: expected shape {shape}, got {array.shape}")
    return _checks.as_finite(array, FLOAT32, argument)


def _counts(count: Any, n: int) -> np.ndarray:
    """Counts (n,) of uint32, from one number for all or from n of them."""
    counts = _checks.real_array(count, "count")
    if counts.dtype.kind not in "iu" or counts.shape not in ((), (n,)):
        raise ValueError(f"count: expected an integer or {n} of them, got {counts.dtype} of shape {counts.shape}")
    if counts.min() < 1 or counts.max() >= 1 << 32:
        raise ValueError(f"count: expected integers from 1 to {(1 << 32) - 1}, got {counts.min()} to {counts.max()}")
    return np.full(n, counts, np.uint32)


def _effective_counts(effective_count: Any, n: int) -> np.ndarray | None:
    """A copy (n,) of the effective counts, on which the kernels work."""
    if effective_count is None:
        return None
    if not isinstance(effective_count, np.ndarray) or effective_count.dtype != FLOAT32:
        got = getattr(effective_count, "dtype", type(effective_count).__name__)
        raise ValueError(f"effective_count: expected an array of float32, which changes in place, got {got}")
    if effective_count.shape != (n,) and (n > 1 or effective_count.shape != ()):
        raise ValueError(f"effective_count: expected shape ({n},), got {effective_count.shape}")
    if not effective_count.flags.writeable:
        raise ValueError("effective_count: expected an array that can be written to, got a read-only one")
    if not (np.isfinite(effective_count) & (effective_count >= 1)).all():
        raise ValueError(f"effective_count: expected finite numbers >= 1, got {effective_count.min()}")
    return np.array(effective_count, np.float32).reshape(n)
