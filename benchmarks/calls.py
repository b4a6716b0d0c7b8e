"""Race single calls of fnn's estimators against scikit-learn's: python benchmarks/calls.py [--quick].

Prints microseconds a call, the median over rounds in which the sides take turns, and scikit-learn's over fnn's.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np
from scipy import sparse
from sklearn import neural_network
from sklearn.datasets import load_digits

import fnn
from race import SETTLE_SECONDS

ROUNDS, QUICK_ROUNDS = 7, 1
SECONDS = 0.2  # of calls in a round, at most as many as FEW
FEW = 200
CLASSES = np.arange(10)

Call = Callable[[], object]


def digits() -> tuple[np.ndarray, np.ndarray]:
    """The digits, scaled as a user would."""
    x, y = load_digits(return_X_y=True)
    return x / 16, y


def words() -> tuple[Any, np.ndarray]:
    """Rows like those of a text's words: 1 % of 5,000 numbers are not 0."""
    rng = np.random.default_rng(0)
    return sparse.random(5_000, 5_000, 0.01, "csr", random_state=rng), rng.integers(0, 20, 5_000)


def fitted(package: ModuleType, hidden: tuple[int, ...] = (100,), data: tuple[Any, np.ndarray] | None = None) -> Any:
    """Return a classifier that has seen the data for an epoch."""
    return package.MLPClassifier(hidden, max_iter=1, random_state=0).fit(*(digits() if data is None else data))


def predicts(rows: int, hidden: tuple[int, ...] = (100,)) -> Callable[[ModuleType], Call]:
    """Predict the classes of so many rows."""

    def prepare(package: ModuleType) -> Call:
        model, x = fitted(package, hidden), np.resize(digits()[0], (rows, 64))
        return lambda: model.predict(x)

    return prepare


def learns(rows: int, hidden: tuple[int, ...] = (100,)) -> Callable[[ModuleType], Call]:
    """Go on training on so many rows."""

    def prepare(package: ModuleType) -> Call:
        model, (x, y) = package.MLPClassifier(hidden, random_state=0), digits()
        x, y = x[:rows], y[:rows]
        model.partial_fit(x, y, classes=CLASSES)
        return lambda: model.partial_fit(x, y)

    return prepare


def predicts_words(package: ModuleType) -> Call:
    """Predict the classes of sparse rows."""
    data = words()
    model = fitted(package, data=data)
    return lambda: model.predict(data[0])


def learns_words(package: ModuleType) -> Call:
    """Train on sparse rows for an epoch."""
    data = words()
    model = package.MLPClassifier(max_iter=1, random_state=0)
    return lambda: model.fit(*data)


CALLS: dict[str, Callable[[ModuleType], Call]] = {
    "predict, 1 row, 64-100-10": predicts(1),
    "predict, 100 rows": predicts(100),
    "predict, 1,797 rows": predicts(1_797),
    "predict, 100,000 rows": predicts(100_000),
    "predict, 1,797 rows, 64-512-512-10": predicts(1_797, (512, 512)),
    "predict, 1 row, 64-512-512-10": predicts(1, (512, 512)),
    "predict, 32 rows, 64-512-512-10": predicts(32, (512, 512)),
    "partial_fit, 1 row, 64-100-10": learns(1),
    "partial_fit, 32 rows": learns(32),
    "partial_fit, 1,000 rows": learns(1_000),
    "partial_fit, 1 row, 64-512-512-10": learns(1, (512, 512)),
    "predict, 5,000 sparse rows, 5000-100-20": predicts_words,
    "fit, an epoch of them": learns_words,
}


def timed(call: Call) -> float:
    """Return the median of a round's calls, in microseconds."""
    time.sleep(SETTLE_SECONDS)
    seconds: list[float] = []
    while len(seconds) < 3 or (sum(seconds) < SECONDS and len(seconds) < FEW):
        begin = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begin)
    return float(np.median(seconds)) * 1e6


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round: rough figures")
    rounds = QUICK_ROUNDS if parser.parse_args(arguments).quick else ROUNDS
    print(f"| {fnn.backend()}, us a call | scikit-learn | fnn | ratio |\n|---|---|---|---|")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one epoch is not convergence
        for name, prepare in CALLS.items():
            sides = [prepare(package) for package in (neural_network, fnn)]
            times = np.array([[timed(side) for side in sides] for _ in range(rounds)])
            theirs, ours = np.median(times, axis=0)
            print(f"| {name} | {theirs:.3g} | {ours:.3g} | {np.median(times[:, 0] / times[:, 1]):.2g} |", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
