"""Race fnn's estimators against scikit-learn's on real data: python benchmarks/estimators.py [--quick] [--help].

Both fit from the same random_state.  Ends with status 1 if they disagreed or fnn failed.
"""

from __future__ import annotations

import argparse
import csv
import math
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import sklearn
from sklearn import datasets
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import scale

import fashion
import fnn
import machine
import report
import session
from race import SETTLE_SECONDS, brief, own_process

ROUNDS, QUICK_ROUNDS, QUICK_EPOCHS = 3, 1, 2
LEAST_SECONDS = 0.3  # of a side's fits from one seed, which begin again until then: a single one of 10 ms tells little
LIMIT = 60.0  # seconds of a workload, its check included, after which no further seed of it is begun
CHECK_EPOCHS = {"adam": 20, "sgd": 20, "lbfgs": 5}  # of the check; one on Fashion-MNIST
CHECK_ROWS = 2_000  # of Fashion-MNIST in float32: in more updates rounding carries the two apart (docs/scikit-learn.md)
TOLERANCES = {("float64", False): 1e-9, ("float32", False): 1e-4, ("float64", True): 1e-6, ("float32", True): 1e-4}
SCORE_TOLERANCE = 0.005  # of the check: on float32 data, a row of a few hundred may lie on the boundary

Data = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
Finder = Callable[[str], type]


@dataclass(frozen=True)
class Workload:
    """What both fit: data, hidden layers, solver; everything else is at its default."""

    data: str
    solver: str
    hidden: tuple[int, ...] = (100,)
    dtype: str = "float64"
    max_iter: int = 200
    rows: int | None = None  # the first ones of the data; None: all

    @property
    def name(self) -> str:
        """Such as ``fashion-512-512-adam-float32``."""
        sizes = "" if self.hidden == (100,) else "-" + "-".join(map(str, self.hidden))
        return f"{self.data}{sizes}-{self.solver}{'' if self.dtype == 'float64' else '-' + self.dtype}"


@dataclass(frozen=True)
class Fitted:
    """What came of one fit, or of several alike."""

    seconds: float  # of one, their mean
    score: float
    losses: list[float]
    epochs: int
    rows: int
    layers: tuple[int, ...]


@dataclass
class Row:
    """A line of the results; seconds, epochs and scores are means over the seeds."""

    workload: str
    solver: str
    dtype: str
    cpu: str
    layers: str = "-"
    rows: int = 0
    status: str = "timed"
    sklearn_seconds: float = math.nan
    fnn_seconds: float = math.nan
    ratio: float = math.nan
    sklearn_score: float = math.nan
    fnn_score: float = math.nan
    score_spread: float = math.nan
    sklearn_epochs: float = math.nan
    fnn_epochs: float = math.nan
    seeds: int = 0
    note: str = ""


SOLVERS = ("adam", "sgd", "lbfgs")
WORKLOADS = {
    workload.name: workload
    for workload in (
        *(Workload(data, solver) for data in ("digits", "breast_cancer", "wine", "diabetes") for solver in SOLVERS),
        *(Workload("digits", solver, dtype="float32") for solver in SOLVERS),
        *(Workload("california", solver, max_iter=30) for solver in SOLVERS),
        *(Workload("fashion", s, (100,), dtype, 4) for dtype in ("float64", "float32") for s in SOLVERS),
        *(Workload("fashion", s, (512, 512), dtype, 2) for dtype in ("float64", "float32") for s in SOLVERS),
    )
}  # fmt: skip


@dataclass
class Side:
    """An estimator library, and the process that it runs in."""

    label: str
    find: Finder
    place: Executor

    def fit(self, workload: Workload, seed: int, least_seconds: float = 0.0) -> Fitted:
        """Fit in that process."""
        return self.place.submit(fitted, self.find, workload, seed, least_seconds).result()


def theirs(kind: str) -> type:
    """Scikit-learn's estimator."""
    from sklearn import neural_network

    found: type = getattr(neural_network, kind)
    return found


def ours(kind: str) -> type:
    """fnn's estimator."""  # noqa: D403 - its name is in lower case
    found: type = getattr(fnn, kind)
    return found


def main(
    arguments: Sequence[str] | None = None,
    finders: tuple[Finder, Finder] = (theirs, ours),
    place: Callable[[], Executor] = own_process,
) -> int:
    """Run the command and return its exit status."""
    options = parse(arguments)
    description = session.describe_machine()
    begin = time.monotonic()
    with ExitStack() as stack:
        labels = ("scikit-learn", "fnn")
        sides = [Side(label, find, stack.enter_context(place())) for label, find in zip(labels, finders, strict=True)]
        results = []
        for count, name in enumerate(options.workloads, start=1):
            workload = WORKLOADS[name]
            if options.quick:
                workload = replace(workload, max_iter=min(QUICK_EPOCHS, workload.max_iter))
            row_begin = time.monotonic()
            row = raced(workload, sides, options.rounds, options.limit, machine.slug(description))
            results.append(row)
            session.say(
                f"[{count}/{len(options.workloads)}] {name}: {row.status} {row.note}, {row.seeds} seeds, "
                f"{time.monotonic() - row_begin:.0f} s"
            )
            if options.output is not None:  # after each: what has been timed stays if the run is ended
                write(results, description, options.output)
    description["load after"] = machine.load()
    description["seconds in all"] = round(time.monotonic() - begin)
    print(table(results), end="\n\n")
    print("\n".join(notes(results)), end="\n\n")
    if options.output is not None:
        for path in write(results, description, options.output):
            print(f"wrote {path}")
    return int(any(row.status != "timed" for row in results))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Race fnn's estimators against scikit-learn's on real data.")
    session.add_choice(parser, "--workloads", tuple(WORKLOADS))
    session.add_rounds(parser, ROUNDS, QUICK_ROUNDS)
    parser.add_argument(
        "--limit",
        type=float,
        default=LIMIT,
        help=f"seconds after which no further seed of a workload is begun: {LIMIT:g} unless given",
    )
    parser.add_argument(
        "--output",
        type=Path,
        help="folder for estimators.csv and .md: results/ unless --quick.  Workloads that are not run keep the figures "
        "that are there, if they are of this machine",
    )
    options = parser.parse_args(arguments)
    session.settle_rounds(parser, options, ROUNDS, QUICK_ROUNDS)
    if options.output is None and not options.quick:
        options.output = session.RESULTS
    return options


@lru_cache(maxsize=1)
def load(data: str) -> Data:
    """Rows to fit and to score, X and y of each, scaled as a user would; in float64, as scikit-learn loads them."""
    if data == "fashion":
        return clothes()
    if data == "california":  # as many rows and columns as the census data, which would have to be downloaded
        x, y = datasets.make_friedman1(20_640, 8, noise=1.0, random_state=0)
    else:
        x, y = getattr(datasets, f"load_{data}")(return_X_y=True)
    x = x / 16 if data == "digits" else scale(x)
    if data in ("california", "diabetes"):
        y = scale(y)
    x_train, x_test, y_train, y_test = train_test_split(x, y, random_state=0)
    return x_train, y_train, x_test, y_test


def clothes() -> Data:
    """Fashion-MNIST where Debian's package is installed, else data of its size."""
    if not fashion.is_installed():
        x, y = datasets.make_classification(70_000, 784, n_informative=50, n_classes=10, random_state=0)
        return x[:60_000], y[:60_000], x[60_000:], y[60_000:]
    x_train, x_test = (fashion.images(part) / 255 for part in ("train", "t10k"))
    return x_train, fashion.labels("train"), x_test, fashion.labels("t10k")


def fitted(find: Finder, workload: Workload, seed: int, least_seconds: float = 0.0) -> Fitted:
    """Fit, again from the same seed until fits have taken so many seconds, and time it."""
    x_train, y_train, x_test, y_test = load(workload.data)
    x_train, y_train = x_train[: workload.rows], y_train[: workload.rows]
    x_train, x_test = (x.astype(workload.dtype, copy=False) for x in (x_train, x_test))
    estimator = find("MLPRegressor" if y_train.dtype.kind == "f" else "MLPClassifier")
    options = {"solver": workload.solver, "max_iter": workload.max_iter, "random_state": seed}
    seconds: list[float] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        while not seconds or sum(seconds) < least_seconds:
            model = estimator(hidden_layer_sizes=workload.hidden, **options)
            start = time.perf_counter()
            model.fit(x_train, y_train)
            seconds.append(time.perf_counter() - start)
    return Fitted(
        statistics.fmean(seconds),
        model.score(x_test, y_test),
        getattr(model, "loss_curve_", [model.loss_]),
        model.n_iter_,
        len(x_train),
        (x_train.shape[1], *(coef.shape[1] for coef in model.coefs_)),
    )


def raced(workload: Workload, sides: Sequence[Side], rounds: int, limit: float, cpu: str) -> Row:
    """Check that both sides agree, then time fits from as many seeds as there are rounds, the sides in turn.

    After `limit` seconds no further seed is begun; one always is.
    """
    end = time.monotonic() + limit
    row = Row(workload.name, workload.solver, workload.dtype, cpu)
    check = checked_first(workload)
    try:
        first, second = (side.fit(check, 0) for side in sides)
        row.layers = "-".join(map(str, first.layers))
        row.note = difference(check, first, second)
        if row.note:
            row.status = "disagrees"
            return row
        fits: dict[str, list[Fitted]] = {side.label: [] for side in sides}
        for seed in range(rounds):
            if seed and time.monotonic() >= end:
                break
            row.seeds = seed + 1
            for side in sides if seed % 2 == 0 else reversed(sides):
                time.sleep(SETTLE_SECONDS)
                fits[side.label].append(side.fit(workload, seed, LEAST_SECONDS))
    except Exception as error:  # whatever ends a fit is a fact about its row, and the others go on
        row.status, row.note = "failed", brief(error)
        return row
    a, b = fits.values()
    row.rows = a[0].rows
    row.sklearn_seconds, row.fnn_seconds = (statistics.fmean(fit.seconds for fit in side) for side in (a, b))
    row.ratio = row.sklearn_seconds / row.fnn_seconds
    row.sklearn_score, row.fnn_score = (statistics.fmean(fit.score for fit in side) for side in (a, b))
    row.score_spread = statistics.pstdev(fit.score for fit in a)
    row.sklearn_epochs, row.fnn_epochs = (statistics.fmean(fit.epochs for fit in side) for side in (a, b))
    return row


def checked_first(workload: Workload) -> Workload:
    """What both fit to be compared: the workload, cut short."""
    is_fashion = workload.data == "fashion"
    few = 1 if is_fashion else CHECK_EPOCHS[workload.solver]
    rows = CHECK_ROWS if is_fashion and workload.dtype == "float32" else workload.rows
    return replace(workload, max_iter=min(workload.max_iter, few), rows=rows)


def difference(workload: Workload, a: Fitted, b: Fitted) -> str:
    """What two fits from one seed differ in beyond rounding; nothing where they agree.

    The tolerances are those of docs/scikit-learn.md; lbfgs magnifies rounding in its line search, so only its last loss
    is compared, and less closely.
    """
    tolerance = TOLERANCES[workload.dtype, workload.solver == "lbfgs"]
    if len(a.losses) != len(b.losses):
        return f"{len(a.losses)} epochs of scikit-learn, {len(b.losses)} of fnn"
    p, q = np.array(a.losses), np.array(b.losses)
    worst = np.max(np.abs(p - q) / np.abs(p))  # NaN where one is
    if not worst <= tolerance:
        return f"losses differ by {worst:.1e}, more than {tolerance:.0e}"
    if not abs(a.score - b.score) <= SCORE_TOLERANCE:
        return f"scores {a.score:.4f} and {b.score:.4f}"
    return ""


def table(rows: Sequence[Row]) -> str:
    """Seconds of both, their ratio, and scores of both."""
    lines = []
    for row in rows:
        head = [row.workload, row.layers, f"{row.rows:,}"]
        if row.status != "timed":
            lines.append([*head, *["-"] * 2, row.status, *["-"] * 3])
            continue
        epochs = f"{row.sklearn_epochs:.0f}" + (
            "" if row.sklearn_epochs == row.fnn_epochs else f", {row.fnn_epochs:.0f}"
        )
        seconds = [f"{value:.3g}" for value in (row.sklearn_seconds, row.fnn_seconds)]
        ratio = f"**{row.ratio:.1f}**" if row.ratio >= 1 else f"{row.ratio:.2f} SLOWER"
        scores = [f"{row.sklearn_score:.4f} ± {row.score_spread:.4f}", f"{row.fnn_score:.4f}"]
        lines.append([*head, *seconds, ratio, epochs, *scores])
    heading = ["workload", "layers", "rows", "scikit-learn, s", "fnn, s", "ratio", "epochs", "its score", "fnn's"]
    return report.table(heading, lines)


def notes(rows: Sequence[Row]) -> list[str]:
    """What a reader of the table must know."""
    slower = [row.workload for row in rows if row.ratio < 1]
    return [
        "Fit time of scikit-learn over fnn's from the same random_state, each in a process of its own, in turn; means "
        f"over {max((row.seeds for row in rows), default=0)} seeds at most, short fits repeated for "
        f"{LEAST_SECONDS:g} s each. Accuracy or R2 on rows apart; ± is its deviation over the seeds. Before, both had "
        "fitted up to 20 epochs (lbfgs: 5) from seed 0 with the same losses and score.",
        f"fnn is slower on {len(slower)} of {len(rows)} workloads{': ' + ', '.join(slower) if slower else ''}.",
        *(f"Not timed: {row.workload} {row.status}: {row.note}." for row in rows if row.status != "timed"),
    ]  # fmt: skip


def write(results: Sequence[Row], description: dict[str, object], folder: Path) -> list[Path]:
    """Write estimators.csv and .md, with the rows that the CSV there holds of other workloads on this machine."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"estimators.{ending}" for ending in ("csv", "md")]
    known = {row.workload: row for row in (read(paths[0]) if paths[0].exists() else []) if row.cpu == results[0].cpu}
    known |= {row.workload: row for row in results}
    rows = [known[name] for name in WORKLOADS if name in known]
    with paths[0].open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [column.name for column in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(map(asdict, rows))
    versions = {"scikit-learn": f"{sklearn.__version__}", "fnn": f"{fnn.__version__}, {fnn.backend()}"}
    whole = report.Report(description, None, "", (), versions, {}, [], "")
    parts = [table(rows), "\n".join(f"- {line}" for line in notes(rows))]
    paths[1].write_text(report.page(whole, "Estimators", "estimators.py", parts), encoding="utf-8")
    return paths


def read(path: Path) -> list[Row]:
    """Read what `write` wrote."""
    kinds = {"str": str, "int": int, "float": float}
    with path.open(newline="", encoding="utf-8") as file:
        return [Row(**{c.name: kinds[str(c.type)](line[c.name]) for c in fields(Row)}) for line in csv.DictReader(file)]


if __name__ == "__main__":
    raise SystemExit(main())
