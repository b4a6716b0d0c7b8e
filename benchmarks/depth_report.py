"""Tables and plots of depth_study.py, from its runs alone."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from curves import STYLES, need_matplotlib

LOOKS = (*STYLES, ("#7A3E9D", "*", "-"), ("#7F7F7F", "x", "--"))
UNITS = {"digits": "accuracy", "tent": "r2"}


@dataclass(frozen=True)
class Run:
    """One row of the table: what was run, and what came of it.

    Attributes
    ----------
    study : str
        "ways", "largest", "curvature", "flow before" or "flow after".
    rate : float
        Learning rate: tried, or of "largest" and "curvature" found.  Of a flow the layer, from 1.
    first, last : float
        Loss of the first and the last epoch.  Of a flow the norms of gradient and delta.
    score : float
        Accuracy or r2 on rows not trained on.  Of a flow the cosine between batches.
    microseconds : float
        Time a sample, of the runs that were timed: `depth_study.py --times`.
    """

    study: str
    problem: str
    way: str
    depth: int
    seed: int
    rate: float
    first: float = float("nan")
    last: float = float("nan")
    score: float = float("nan")
    microseconds: float = float("nan")


class Table:
    """The runs in a file of comma-separated values, one a row, appended as they are done."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.runs: list[Run] = []
        names = [field.name for field in fields(Run)]
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                rows = csv.reader(file)
                if next(rows, None) != names:
                    raise SystemExit(f"{path}: expected the columns {', '.join(names)}")
                self.runs = [
                    Run(*row[:3], *map(int, row[3:5]), *map(float, row[5:]))
                    for row in rows
                    if len(row) == len(names)  # a row that an interrupt cut short is run again
                ]
        else:
            with path.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file, lineterminator="\n").writerow(names)

    def add(self, runs: Iterable[Run]) -> None:
        """Append runs to the file."""
        new = list(runs)
        with self._path.open("a", newline="", encoding="utf-8") as file:
            for run in new:
                *names, rate, first, last, score, microseconds = astuple(run)
                found = (f"{value:.6g}" for value in (first, last, score, microseconds))
                csv.writer(file, lineterminator="\n").writerow(
                    [*names, repr(rate), *found]
                )  # a rate identifies its run
        self.runs += new

    def replace(self, runs: Iterable[Run]) -> None:
        """Write other runs in place of these."""
        whole = self._path.with_suffix(".new")
        whole.unlink(missing_ok=True)
        fresh = Table(whole)
        fresh.add(runs)
        whole.replace(self._path)
        self.runs = fresh.runs


def ordered(values: Iterable[Any]) -> list[Any]:
    """Each value once, in the order of appearance."""
    return list(dict.fromkeys(values))


def best(runs: Iterable[Run]) -> list[Run]:
    """Of one way at one depth: the runs, a seed each, at the rate whose last loss is the least in the median."""
    by_rate: dict[float, list[Run]] = {}
    for run in runs:
        by_rate.setdefault(run.rate, []).append(run)
    seeds = max(len(some) for some in by_rate.values())
    whole = [some for some in by_rate.values() if len(some) == seeds]
    return min(whole, key=lambda some: float(np.median([run.last for run in some])))


def spread(values: Sequence[float], form: str = "{:.3g}") -> str:
    """The median, and the least and the largest in brackets."""
    low, middle, high = (form.format(f(values)) for f in (np.min, np.median, np.max))
    return f"{middle} ({low} to {high})"


def exponent(runs: Sequence[Run]) -> list[float]:
    """For each seed the power of the depth that the rate follows, by least squares of the logarithms."""
    found = []
    for seed in ordered(run.seed for run in runs):
        points = [(np.log(run.depth), np.log(run.rate)) for run in runs if run.seed == seed and run.rate > 0]
        if len(points) > 1:
            found.append(float(np.polyfit(*zip(*points, strict=True), 1)[0]))
    return found


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def pick(runs: Iterable[Run], **wanted: Any) -> list[Run]:
    """The runs that have these values."""
    return [run for run in runs if all(getattr(run, name) == value for name, value in wanted.items())]


def scores(runs: Sequence[Run], problem: str) -> str:
    """Score of every way at every depth, each at its best rate."""
    found = pick(runs, study="ways", problem=problem)
    depths = sorted({run.depth for run in found})

    def cell(way: str, depth: int) -> str:
        some = pick(found, way=way, depth=depth)
        if not some:
            return ""
        chosen = best(some)
        return f"{spread([run.score for run in chosen], '{:.2f}')}, rate {chosen[0].rate:.3g}"

    rows = [[way, *(cell(way, depth) for depth in depths)] for way in ordered(run.way for run in found)]
    return markdown([f"{UNITS[problem]}, layers", *map(str, depths)], rows)


def largest_rates(runs: Sequence[Run], problem: str) -> str:
    """The largest rate with which a plain network learns, and that which its curvature allows."""
    depths = sorted({run.depth for run in pick(runs, study="curvature", problem=problem)})
    rows = []
    for study, title in (("largest", "learns with at most"), ("curvature", "curvature allows")):
        found = pick(runs, study=study, problem=problem)
        cells = []
        for depth in depths:
            some = [run.rate for run in pick(found, depth=depth)]
            some_learnt = [rate for rate in some if rate > 0]
            none = f", {len(some) - len(some_learnt)} of {len(some)} never" if len(some_learnt) < len(some) else ""
            cells.append((spread(some_learnt) if some_learnt else "") + none)
        powers = exponent(found)
        rows.append([title, *cells, spread(powers, "{:.2f}") if powers else ""])
    return markdown([f"{problem}, layers", *map(str, depths), "power of the depth"], rows)


def through_updated(runs: Sequence[Run], problem: str) -> str:
    """Online training the ordinary way and through updated weights: each at its best rate, and both at the same."""
    found = pick(runs, study="ways", problem=problem)
    rows = []
    for depth in sorted({run.depth for run in found}):
        sides = [pick(found, way=way, depth=depth) for way in ("online", "online, updated")]
        if not all(sides):
            continue
        chosen = [best(side) for side in sides]
        times = [np.median([run.microseconds for run in some]) for some in chosen]
        same = [pick(sides[1], rate=chosen[0][0].rate), pick(sides[0], rate=chosen[1][0].rate)]
        rows.append(
            [
                str(depth),
                *(f"{spread([run.first for run in some])} at {some[0].rate:.3g}" for some in chosen),
                *(spread([run.last for run in some]) for some in chosen),
                *(spread([run.first for run in some]) for some in same),
                "" if np.isnan(times).any() else f"{times[0]:.2f}, {times[1]:.2f}",
            ]
        )
    return markdown(
        [
            f"{problem}, layers",
            "first epoch's loss, ordinary",
            "updated",
            "last epoch's, ordinary",
            "updated",
            "first epoch's, updated at the ordinary rate",
            "ordinary at the updated rate",
            "us a sample",
        ],
        rows,
    )


def same_rates(runs: Sequence[Run], problem: str) -> str:
    """The first epoch's loss through updated weights over that of the ordinary way at the same rate."""
    found = pick(runs, study="ways", problem=problem)
    ordinary = {(run.depth, run.rate, run.seed): run.first for run in pick(found, way="online")}
    ratios: dict[tuple[int, float], list[float]] = {}
    for run in pick(found, way="online, updated"):
        before = ordinary.get((run.depth, run.rate, run.seed), np.inf)
        if np.isfinite(before):
            ratios.setdefault((run.depth, run.rate), []).append(run.first / before)
    rates = sorted({rate for _, rate in ratios}, reverse=True)
    rows = [
        [str(depth), *(f"{np.median(ratios[depth, rate]):.3f}" if (depth, rate) in ratios else "" for rate in rates)]
        for depth in sorted({depth for depth, _ in ratios})
    ]
    return markdown([f"{problem}, layers", *(f"{rate:.2g}" for rate in rates)], rows)


def flows(runs: Sequence[Run], problem: str) -> str:
    """Norms and alignment at five layers, before and after training."""
    rows = []
    found = [run for run in runs if run.study.startswith("flow") and run.problem == problem]
    for way, depth, study in ordered((run.way, run.depth, run.study) for run in found):
        some = pick(found, way=way, depth=depth, study=study)
        for layer in sorted({run.rate for run in some}):
            at = pick(some, rate=layer)
            values = [spread([getattr(run, name) for run in at], "{:.2g}") for name in ("first", "last", "score")]
            rows.append([way, str(depth), study.split()[1], f"{layer:.0f}", *values])
    rows.sort(key=lambda row: (row[0], int(row[1]), row[2] == "after", int(row[3])))
    return markdown(
        [f"{problem}: way", "layers", "training", "layer", "gradient norm", "delta norm", "alignment"], rows
    )


SECTIONS: list[tuple[str, Callable[[Sequence[Run], str], str]]] = [
    ("Score on rows not trained on, every way at its best rate", scores),
    ("The largest learning rate of a plain network", largest_rates),
    ("Deltas through updated weights, online", through_updated),
    ("First epoch's loss at the same rate, through updated weights over ordinary", same_rates),
    ("Gradients on their way back", flows),
]


def write(runs: Sequence[Run], folder: Path) -> None:
    """Write depth.md and the plots."""
    seeds = len({run.seed for run in runs})
    text = [f"# Depth\n\nMedian over {seeds} seeds (least to largest). Made by `python benchmarks/depth_study.py`.\n"]
    for title, section in SECTIONS:
        text.append(f"\n## {title}\n\n" + "\n".join(section(runs, problem) for problem in UNITS))
    (folder / "depth.md").write_text("".join(text), encoding="utf-8")
    need_matplotlib()
    plot_scores(runs, folder / "depth-scores.svg")
    plot_rates(runs, folder / "depth-rates.svg")


def save(figure: Any, path: Path) -> None:
    """Write an SVG that says nothing of when it was made."""
    figure.savefig(path, format="svg", metadata={"Date": None})


def banded(axes: Any, points: Sequence[tuple[int, Sequence[float]]], style: tuple[str, str, str], label: str) -> None:
    """Draw medians over the depth, and the seeds' range around them."""
    colour, marker, dashes = style
    depths = [depth for depth, _ in points]
    values = [values for _, values in points]
    axes.plot(depths, [np.median(v) for v in values], color=colour, marker=marker, linestyle=dashes, label=label)
    axes.fill_between(depths, [min(v) for v in values], [max(v) for v in values], color=colour, alpha=0.12, linewidth=0)


def plot_scores(runs: Sequence[Run], path: Path) -> None:
    """Score over depth, a panel for every problem."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 5.5), layout="constrained")
    for axes, (problem, unit) in zip(figure.subplots(1, 2), UNITS.items(), strict=True):
        found = pick(runs, study="ways", problem=problem)
        for way, style in zip(ordered(run.way for run in found), LOOKS, strict=False):
            depths = sorted({run.depth for run in pick(found, way=way)})
            points = [
                (depth, [max(0.0, run.score) for run in best(pick(found, way=way, depth=depth))]) for depth in depths
            ]
            banded(axes, points, style, way)
        if found:
            axes.set(xscale="log")
        axes.set(xlabel="layers", ylabel=unit, title=problem, ylim=(0, 1.02))
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
    save(figure, path)


def plot_rates(runs: Sequence[Run], path: Path) -> None:
    """Largest rates over depth, and a line that falls as one over it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    for axes, problem in zip(figure.subplots(1, 2), UNITS, strict=True):
        for study, label, style in (
            ("largest", "learns with at most", STYLES[0]),
            ("curvature", "curvature allows", STYLES[1]),
        ):
            found = [run for run in pick(runs, study=study, problem=problem) if run.rate > 0]
            depths = sorted({run.depth for run in found})
            banded(axes, [(depth, [run.rate for run in pick(found, depth=depth)]) for depth in depths], style, label)
        depths = sorted({run.depth for run in found})  # of the curvature
        if depths:
            start = np.median([run.rate for run in pick(found, depth=depths[0])])
            line = [start * depths[0] / depth for depth in depths]
            axes.plot(depths, line, color="#777777", label="one over the depth")
            axes.set(xscale="log", yscale="log")
        axes.set(xlabel="layers", ylabel="learning rate", title=problem)
    axes.legend(frameon=False)
    save(figure, path)
