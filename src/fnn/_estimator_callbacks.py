"""scikit-learn's callbacks (SLEP 23) on the estimators: a fit is a task, each epoch or iteration a part of it."""

from __future__ import annotations

from typing import Any

import numpy as np


class FitTask:
    """What `set_callbacks` asked for during one fit; nothing is done, nor computed, where it asked for nothing.

    Parameters
    ----------
    estimator : BaseMLP
    parts : int
        How many of the task there are at most.
    part_name : str
        What they are.
    X, y, sample_weight
        What the estimator is fitted to.
    """

    def __init__(
        self, estimator: Any, parts: int, part_name: str, X: Any, y: np.ndarray, sample_weight: np.ndarray | None
    ) -> None:
        self._estimator, self._part_name = estimator, part_name
        self._data = {
            "X": X,
            "y": y,
            "metadata": None if sample_weight is None else {"sample_weight": sample_weight},
        }
        self._contexts = []
        if hasattr(estimator, "_skl_callbacks"):
            self._contexts.append(estimator._init_callback_context(max_subtasks=parts))
            self._begin()

    @property
    def is_watched(self) -> bool:
        """Whether there is a callback."""
        return bool(self._contexts)

    def begin_part(self) -> None:
        """Call what a part begins with, unless it has begun."""
        if len(self._contexts) == 1:
            self._contexts.append(self._contexts[0].subcontext(task_name=self._part_name))
            self._begin()

    def end(self) -> bool:
        """Call what the part, or else the fit, ends with, and return whether training is to stop."""
        return self.is_watched and bool(
            self._contexts.pop().call_on_fit_task_end(
                estimator=self._estimator, **self._data, reconstruction_attributes=self._weights
            )
        )

    def close(self) -> None:
        """End the fit, and before it a part that was interrupted."""
        while self.is_watched:
            self.end()

    def _begin(self) -> None:
        self._contexts[-1].call_on_fit_task_begin(
            estimator=self._estimator, **self._data, reconstruction_attributes=self._weights
        )

    def _weights(self) -> dict[str, list[np.ndarray]]:
        """Copies that stay as they are while training goes on."""
        return {name: [array.copy() for array in getattr(self._estimator, name)] for name in ("coefs_", "intercepts_")}
