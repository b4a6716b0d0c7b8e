"""Views of the flat vector by layer, into which values are copied that fit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, SupportsIndex

import numpy as np

from fnn import _checks


class LayerViews(list[np.ndarray]):
    """The weights, biases or corners of every layer: views of the flat vector.  Assigning to one copies into it."""

    def __init__(self, views: Iterable[np.ndarray], kind: str) -> None:
        super().__init__(views)
        self._kind = kind

    def __setitem__(self, index: SupportsIndex | slice, value: Any) -> None:
        chosen = range(len(self))[index]
        if not isinstance(chosen, int) and not np.iterable(value):
            raise ValueError(f"{self._kind}: expected {len(chosen)} arrays, one a layer, got {value!r}")
        numbers, entries = ([chosen], [value]) if isinstance(chosen, int) else (list(chosen), list(value))
        if len(entries) != len(numbers):
            raise ValueError(f"{self._kind}: expected {len(numbers)} arrays, one a layer, got {len(entries)}")
        views = [self[number] for number in numbers]
        names = [f"layer {number + 1} {self._kind}" for number in numbers]
        checked = [fitting(entry, view, name) for entry, view, name in zip(entries, views, names, strict=True)]
        for view, values in zip(views, checked, strict=True):
            view[...] = values


def fitting(values: Any, target: np.ndarray, argument: str) -> np.ndarray:
    """Return `values` as an array that may be copied over `target`."""
    array = _checks.real_array(values, argument)
    if array.shape != target.shape:
        raise ValueError(f"{argument}: expected {target.shape}, got {array.shape}")
    # As one row or as it is: the check knows two dimensions.
    return _checks.as_finite(np.atleast_2d(array), target.dtype, argument).reshape(target.shape)
