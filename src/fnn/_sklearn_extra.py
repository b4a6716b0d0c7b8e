"""What needs the extra `sklearn` says so where it is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def needed_by(name: str) -> Iterator[None]:
    """Within, a missing scikit-learn, or what it needs, is an ImportError that says what to install for fnn.`name`."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("sklearn", "scipy", "joblib"):
            raise
        raise ImportError(f"fnn.{name} needs scikit-learn: pip install 'fnn[sklearn]'") from error
