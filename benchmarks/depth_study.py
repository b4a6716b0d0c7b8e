"""What depth does to training, and what helps: python benchmarks/depth_study.py.

Networks of 2 to 200 layers on the digits and on a function that needs depth, the tent map composed with itself, trained
in the ways that docs/depth.md compares.  Every run is a row of results/depth.csv: a study that was interrupted goes on
where it ended, and its tables and plots (depth_report.py) come from that file alone.  `--times`, where nothing else
computes, adds what a sample costs, of the runs whose times the tables compare.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

import depth_report
import fnn
from depth_report import Run

DEPTHS, SEEDS = (2, 5, 10, 20, 50, 100, 200), tuple(range(5))
QUICK_DEPTHS, QUICK_SEEDS = (2, 10, 50), (0, 1)
WIDTH = 16
RATES = tuple(4.0**-power for power in range(8))  # of a layer alone, or of all, as the way has it
ONLINE_RATES = tuple(2.0**-power for power in range(2, 16))  # finer: here two ways are to be told apart
FINE_RATES = tuple(2.0 ** (2 - power / 2) for power in range(32))  # to find the largest in
LEARNT = 0.95  # of the loss of the best constant: a network that ends above it has learnt nothing
POWER_STEPS = 30  # of the search for the sharpest direction
SKIP = 3  # layers that a skip passes; every fourth layer has one
STEEPEST = 100.0  # how many times faster the first layer moves than the last, by the geometric law
TENTS = 3  # times that the tent map is applied: 2 ** (TENTS - 1) peaks
FLOW_DEPTHS = (10, 50, 200)
FLOW_RATE = 4.0**-3
FLOW_BATCHES = 8
TIMED_WAYS = ("online", "online, updated")
TIMED_EPOCHS, TIMED_ROUNDS = 5, 9
DRAWN_FLOW = ("digits", 50, 0)  # problem, layers, seed


@dataclass(frozen=True)
class Data:
    """Rows to train on and rows to judge by."""

    x: np.ndarray
    y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    output: str
    loss: str
    constant_loss: float  # of the best constant output
    epochs: int


@dataclass(frozen=True)
class Way:
    """A way of building and training a deep network."""

    skip_mode: str = ""
    to_first: bool = False  # the skips all start at the first layer
    law: str = ""  # of the rates by depth
    depth_scaled: bool = False
    batch_size: int = 32
    propagate: str = "before"


WAYS = {
    "plain": Way(),
    "skip, added": Way(skip_mode="add"),
    "skip, beside": Way(skip_mode="concat"),
    "skip to the first layer": Way(skip_mode="concat", to_first=True),
    "rates, linear": Way(law="linear"),
    "rates, geometric": Way(law="geometric"),
    "depth-scaled": Way(depth_scaled=True),
    "online": Way(batch_size=1),
    "online, updated": Way(batch_size=1, propagate="updated"),
}


@cache
def digits() -> Data:
    """Return the digits, a quarter of them to judge by."""
    x, labels = fnn.load_digits()
    rows = np.random.default_rng(0).permutation(len(x))
    test, train = rows[: len(x) // 4], rows[len(x) // 4 :]
    return Data(x[train], labels[train], x[test], labels[test], "softmax", "cross_entropy", np.log(10), 10)


@cache
def tent() -> Data:
    """Return the composed tent map: every layer of two neurons folds all there is; one layer has a fold a neuron."""
    rng = np.random.default_rng(0)
    x = rng.random((1500, 1))
    y = x
    for _ in range(TENTS):
        y = 1 - np.abs(2 * y - 1)
    x = (2 * x - 1).astype(np.float32)
    y = y.astype(np.float32)
    return Data(x[:1000], y[:1000], x[1000:], y[1000:], "identity", "squared_error", float(y[:1000].var()), 80)


PROBLEMS: dict[str, Callable[[], Data]] = {"digits": digits, "tent": tent}


def network(data: Data, way: Way, depth: int, seed: int, dtype: str = "float32") -> fnn.Network:
    """Build `depth` layers, relu inside.

    Where two activations are added the weights start smaller: what they add up to is as large, in the mean of its
    square, as one alone is elsewhere.
    """
    scales = [1.0] * depth
    if way.law:
        scales = fnn.rate_by_depth(depth, way.law, STEEPEST ** (1 / max(1, depth - 1)))
    layers: list[fnn.Input | fnn.Dense] = [fnn.Input(data.x.shape[1])]
    for layer, scale in enumerate(scales):
        skip = 0
        if way.skip_mode and layer > SKIP and layer % (SKIP + 1) == 0 and layer < depth - 1:
            skip = layer - 1 if way.to_first else SKIP
        units, activation = WIDTH, "relu"
        if layer == depth - 1:
            units, activation = (10 if data.output == "softmax" else 1), data.output
        layers.append(fnn.Dense(units, activation, skip=skip, skip_mode=way.skip_mode or "add", rate_scale=scale))
    net = fnn.Network(layers, init="he", seed=seed, dtype=dtype)
    for layer, skips in enumerate(net.layout.skips):
        if skips.distance and skips.mode == "add":
            net.weights[layer][:] /= np.sqrt(2 + 2 / np.pi)  # E (a + b)^2 / E a^2 for two halves of normal numbers
    return net


def train(data: Data, way: Way, net: fnn.Network, seed: int, rate: float, epochs: int) -> list[float]:
    """Train; return every epoch's loss, infinite from where it diverged."""
    optimizer = fnn.SGD("depth_scaled", base_rate=rate) if way.depth_scaled else fnn.SGD(rate)
    losses: list[float] = []
    try:
        net.fit(
            data.x,
            data.y,
            epochs=epochs,
            batch_size=way.batch_size,
            loss=data.loss,
            optimizer=optimizer,
            seed=seed,
            threads=1,
            propagate=way.propagate,
            callbacks=lambda _, history: losses.append(history.loss[-1]),
        )
    except fnn.DivergenceError:
        return losses + [np.inf] * (epochs - len(losses))
    return losses


def score(data: Data, net: fnn.Network) -> float:
    """Return accuracy for labels, else r2 against the mean of the rows to judge by."""
    outputs = net.predict(data.test_x)
    if data.output == "softmax":
        return float(np.mean(outputs.argmax(axis=1) == data.test_y))
    return float(1 - np.square(outputs - data.test_y, dtype=np.float64).mean() / data.test_y.var())


def try_way(problem: str, name: str, depth: int, seed: int, rate: float) -> list[Run]:
    """Train once; one that diverged scores nothing."""
    data, way = PROBLEMS[problem](), WAYS[name]
    net = network(data, way, depth, seed)
    losses = train(data, way, net, seed, rate, data.epochs)
    result = score(data, net) if np.isfinite(losses[-1]) else 0.0
    return [Run("ways", problem, name, depth, seed, rate, losses[0], losses[-1], result)]


def largest_learning(problem: str, depth: int, seed: int) -> list[Run]:
    """Find the largest rate with which a plain network learns at all; 0 if none does."""
    data, way = PROBLEMS[problem](), WAYS["plain"]
    for rate in FINE_RATES:
        losses = train(data, way, network(data, way, depth, seed), seed, rate, data.epochs // 2)
        if losses[-1] <= LEARNT * data.constant_loss:
            return [Run("largest", problem, "plain", depth, seed, rate, losses[0], losses[-1])]
    return [Run("largest", problem, "plain", depth, seed, 0.0)]


def by_curvature(problem: str, depth: int, seed: int) -> list[Run]:
    """Find the rate beyond which a step on all rows overshoots, before training: 2 over the largest curvature.

    That is the largest eigenvalue in magnitude of the loss's second derivatives, by the power method: their product
    with a direction is the difference of two gradients.
    """
    data = PROBLEMS[problem]()
    net = network(data, WAYS["plain"], depth, seed, "float64")
    start, rng, curvature = net.parameters.copy(), np.random.default_rng(seed), 0.0
    direction = rng.normal(size=start.shape)
    for _ in range(POWER_STEPS):
        direction /= np.linalg.norm(direction)
        slopes = []
        for side in (1e-5, -1e-5):
            net.parameters = start + side * direction
            slopes.append(net.loss_and_gradient(data.x, data.y, data.loss, threads=1)[1])
        direction = (slopes[0] - slopes[1]) / 2e-5
        curvature = float(np.linalg.norm(direction))
        if not curvature:
            break
    return [Run("curvature", problem, "plain", depth, seed, 2 / curvature if curvature else 0.0)]


def flow(problem: str, name: str, depth: int, seed: int, folder: Path) -> list[Run]:
    """Record the gradients of five layers before and after training; draw those of the first seed."""
    data, way = PROBLEMS[problem](), WAYS[name]
    net = network(data, way, depth, seed)
    record = fnn.GradientFlow(data.x, data.y, data.loss, batches=FLOW_BATCHES)
    record(net)
    try:
        net.fit(data.x, data.y, epochs=10, loss=data.loss, optimizer=fnn.SGD(FLOW_RATE), threads=1, callbacks=record)
    except fnn.DivergenceError:
        return []
    if (problem, depth, seed) == DRAWN_FLOW:
        record.plot(folder / f"depth-flow-{name.replace(',', '').replace(' ', '-')}.svg")
    found = []
    for when, at in (("before", 0), ("after", -1)):
        for layer in sorted({round(part * (depth - 1) / 4) for part in range(5)}):
            values = (record.gradient_norms[at, layer], record.delta_norms[at, layer], record.alignment[at, layer])
            found.append(Run(f"flow {when}", problem, name, depth, seed, float(layer + 1), *map(float, values)))
    return found


@dataclass(frozen=True)
class Task:
    """What to run, and the name that its rows have in the table."""

    study: str
    problem: str
    way: str
    depth: int
    seed: int
    rate: float = 0.0

    def is_done(self, done: set[tuple]) -> bool:
        """Whether the table has it; only of the ways does the rate say which run it was."""
        name = "flow before" if self.study == "flow" else self.study
        return (name, self.problem, self.way, self.depth, self.seed, self.rate) in done

    def run(self, folder: Path) -> list[Run]:
        """Do it."""
        if self.study == "ways":
            return try_way(self.problem, self.way, self.depth, self.seed, self.rate)
        if self.study == "flow":
            return flow(self.problem, self.way, self.depth, self.seed, folder)
        return (largest_learning if self.study == "largest" else by_curvature)(self.problem, self.depth, self.seed)


def tasks(depths: Iterable[int], seeds: Iterable[int]) -> Iterator[Task]:
    """All there is to do, seed after seed, so that an unfinished study has something of everything."""
    for seed, problem, depth in itertools.product(seeds, PROBLEMS, depths):
        yield Task("largest", problem, "plain", depth, seed)
        yield Task("curvature", problem, "plain", depth, seed)
        for name, way in WAYS.items():
            if not way.skip_mode or depth > SKIP + 2:  # shallower ones have none
                for rate in ONLINE_RATES if way.batch_size == 1 else RATES:
                    yield Task("ways", problem, name, depth, seed, rate)
        if depth in FLOW_DEPTHS:
            for name in ("plain", "skip, beside", "skip to the first layer"):
                yield Task("flow", problem, name, depth, seed)


def done_in(runs: Iterable[Run]) -> set[tuple]:
    """What the table has already, as `Task.is_done` asks for it."""
    return {(r.study, r.problem, r.way, r.depth, r.seed, r.rate if r.study == "ways" else 0.0) for r in runs}


def seconds_of(run: Run) -> float:
    """Time the first TIMED_EPOCHS epochs of a run."""
    data, way = PROBLEMS[run.problem](), WAYS[run.way]
    net = network(data, way, run.depth, run.seed)
    begin = time.perf_counter()
    train(data, way, net, run.seed, run.rate, TIMED_EPOCHS)
    return time.perf_counter() - begin


def with_times(runs: list[Run]) -> list[Run]:
    """Return the runs, those of online training at their best rates with a time and all others without.

    It is the fastest of some rounds in which the ways take turns.
    """
    runs = [replace(run, microseconds=np.nan) for run in runs]
    chosen: list[Run] = []
    for problem, depth in depth_report.ordered((run.problem, run.depth) for run in runs):
        ways = [depth_report.pick(runs, study="ways", problem=problem, depth=depth, way=way) for way in TIMED_WAYS]
        chosen += [run for some in ways if some for run in depth_report.best(some)]
    seconds = np.min([[seconds_of(run) for run in chosen] for _ in range(TIMED_ROUNDS)], axis=0)
    samples = [TIMED_EPOCHS * len(PROBLEMS[run.problem]().x) for run in chosen]
    found = dict(zip(chosen, (seconds / samples * 1e6).tolist(), strict=True))
    return [replace(run, microseconds=found.get(run, np.nan)) for run in runs]


def main(arguments: list[str] | None = None) -> int:
    """Run what is missing, then write tables and plots."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer depths and seeds, into a new folder")
    parser.add_argument("--seconds", type=float, default=np.inf, help="start no run after so long; go on another time")
    parser.add_argument("--workers", type=int, default=2, help="processes, of one thread each; default: 2")
    parser.add_argument("--times", action="store_true", help="run nothing, but time what the tables compare; a minute")
    parser.add_argument("--output", type=Path, help="folder; default: benchmarks/results")
    options = parser.parse_args(arguments)
    folder = options.output
    if folder is None:
        folder = Path(tempfile.mkdtemp()) if options.quick else Path(__file__).with_name("results")
    depths, seeds = (QUICK_DEPTHS, QUICK_SEEDS) if options.quick else (DEPTHS, SEEDS)
    table, end = depth_report.Table(folder / "depth.csv"), time.monotonic() + options.seconds
    done = done_in(table.runs)
    missing = [task for task in tasks(depths, seeds) if not task.is_done(done)]
    if options.times:
        table.replace(with_times(table.runs))
        end = 0
    with ProcessPoolExecutor(options.workers) as pool:
        while missing and time.monotonic() < end:
            some, missing = missing[: 8 * options.workers], missing[8 * options.workers :]
            for runs in pool.map(Task.run, some, itertools.repeat(folder)):
                table.add(runs)
    depth_report.write(table.runs, folder)
    print(f"{len(missing)} runs are missing; {folder / 'depth.md'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
