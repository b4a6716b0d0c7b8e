"""Time the passes of FloatNeuralNet against online training by Network.fit: python benchmarks/passes.py [--quick].

Prints microseconds a sample, on one thread, the fastest of some rounds that take turns; how many times as long as
Network.fit each way takes, the median of the rounds; and how many times as long the C++ class took.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Sequence

import numpy as np

import fnn

SHAPES = ((64, 32, 10), (784, 128, 10))
CLASS_TIMES = (
    3.5,
    132.0,
)  # microseconds a sample of the C++ class, built with -O3 -march=native, on a machine of this kind
ZEROS = (0.0, 0.5)  # parts of the inputs
RATE = 1e-6  # the weights, and which ReLUs are on, hardly change
WAYS: dict[str, tuple[fnn.Options, dict[str, float]]] = {
    "the gradient is added up, then applied": (fnn.Options(), {"apply_rate": RATE}),
    "the same with momentum": (fnn.Options(momentum=True), {"apply_rate": RATE}),
    "every sample moves the weights, and the gradient is added up": (fnn.Options(), {"rate": RATE}),
    "every sample moves the weights, total_gradient off": (fnn.Options(total_gradient=False), {"rate": RATE}),
    "the first, as a classifier": (fnn.Options(is_classifier=True), {"apply_rate": RATE}),
}
FIT = "Network.fit(batch_size=1)"


def contestants(sizes: Sequence[int], zeros: float, samples: int) -> dict[str, Callable[[], object]]:
    """Return what trains once on all samples, by name."""
    rng = np.random.default_rng(0)
    x = rng.random((samples, sizes[0]), dtype=np.float32)
    x[rng.random(x.shape) < zeros] = 0
    y = np.eye(sizes[-1], dtype=np.float32)[rng.integers(0, sizes[-1], samples)]
    net = fnn.Network(sizes, init="reference")
    optimizer = fnn.SGD(RATE)
    found: dict[str, Callable[[], object]] = {
        FIT: lambda: net.fit(x, y, epochs=1, batch_size=1, optimizer=optimizer, saturation=1.0, threads=1)
    }
    for name, (options, rates) in WAYS.items():
        passes = fnn.FloatNeuralNet(sizes, "relu", options)
        passes.randomize(1)
        found[name] = lambda passes=passes, rates=rates: passes.train_pass(x, y, **rates)
    return found


def table(head: str, columns: Sequence[str], rows: dict[str, list[float]]) -> None:
    """Print a table."""
    print(f"| {head} | " + " | ".join(columns) + " |\n|---" + "|---" * len(columns) + "|")
    for name, values in rows.items():
        print(f"| {name} | " + " | ".join(f"{value:.3g}" for value in values) + " |")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few samples and rounds: rough figures")
    options = parser.parse_args(arguments)
    samples, rounds = (50, 2) if options.quick else (1000, 60)
    columns: list[str] = []
    best: dict[str, list[float]] = {name: [] for name in (*WAYS, FIT)}
    of_fit: dict[str, list[float]] = {name: [] for name in WAYS}
    of_class: dict[str, list[float]] = {name: [] for name in WAYS}
    for (sizes, class_time), zeros in itertools.product(zip(SHAPES, CLASS_TIMES, strict=True), ZEROS):
        columns.append("-".join(map(str, sizes)) + (", half zeros" if zeros else ""))
        found = contestants(sizes, zeros, samples)
        times: dict[str, list[float]] = {name: [] for name in found}
        for _ in range(1 + rounds):  # the first warms up
            for name, train in found.items():
                begin = time.perf_counter()
                train()
                times[name].append((time.perf_counter() - begin) / samples * 1e6)
        for name in best:
            best[name].append(min(times[name][1:]))
        for name in WAYS:
            of_fit[name].append(float(np.median(np.divide(times[name], times[FIT])[1:])))
            of_class[name].append(class_time / best[name][-1])
    table(fnn.backend(), columns, best)
    print()
    table(f"of the time of {FIT}", columns, of_fit)
    print()
    table("times as fast as the C++ class", columns, of_class)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
