"""The guard of a FloatNeuralNet against calls by several threads at once."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

_Result = TypeVar("_Result")


class OneAtATime:
    """Makes one call at a time; one that comes meanwhile, from a thread or a signal's handler, is refused.

    The kernels have one scratch for all calls of a pass: two at once would write beyond its ends.
    """

    def __init__(self) -> None:
        self._inside: dict[int, object] = {}  # by process: a thread that a forked child has not got keeps nobody out

    def __call__(self, function: Callable[..., _Result], *arguments: object) -> _Result:
        """Return what the function returns."""
        inside, process, call = self._inside, os.getpid(), object()
        try:
            if inside.setdefault(process, call) is not call:  # one step, with or without a GIL
                raise RuntimeError("FloatNeuralNet: expected one call at a time, got a second; copy it for each thread")
            return function(*arguments)
        finally:
            try:
                if inside[process] is call:  # nothing is called from here on, so that Ctrl-C finds no way in between
                    del inside[process]
            except KeyError:
                pass

    def __reduce__(self) -> tuple[type[OneAtATime], tuple[()]]:
        return OneAtATime, ()
