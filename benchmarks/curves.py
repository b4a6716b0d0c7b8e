"""Time and share of the floor over width, depth, batch size and CPUs, as tables and plots: python benchmarks/curves.py.

fnn's chosen backend against its NumPy backend, and against the peers that --rivals names.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import machine
import report
import session
from problems import PROBLEMS, Problem, of_shape
from race import Result, own_process, race
from rivals import FAMILIES, Contestant, MissingError, chosen_contestants

ROUNDS, QUICK_ROUNDS = 5, 2
# The colours of Okabe and Ito, which the colour-blind tell apart, and a marker each for print in grey.
STYLES = (
    ("#0072B2", "o", "-"),
    ("#D55E00", "s", "--"),
    ("#009E73", "^", "-."),
    ("#CC79A7", "D", ":"),
    ("#E69F00", "v", "--"),
    ("#56B4E9", "P", "-."),
    ("#000000", "X", ":"),
)


@dataclass(frozen=True)
class Curve:
    """Workloads that differ in one number.

    Attributes
    ----------
    name : str
        Part of the file's name.
    title, axis : str
        What all have in common, and the number.
    points : dict of Problem
        By the number.
    over_cpus : bool
        The number is that of the CPUs which every side may run on.
    """

    name: str
    title: str
    axis: str
    points: dict[int, Problem]
    over_cpus: bool = False


def curves() -> dict[str, Curve]:
    """The curves by name."""
    widths = [1 << power for power in range(2, 12)]

    def over(
        name: str, numbers: Sequence[int], sizes: Callable[[int], Sequence[int]], batch: int = 0
    ) -> dict[int, Any]:
        return {n: of_shape(f"{name} {n}", sizes(n), batch or n) for n in numbers}

    found = (
        Curve("width", "w-w-w network, batch 32", "width w", over("width", widths, lambda w: (w, w, w), 32)),
        Curve(
            "width-online", "w-w-w network, online", "width w", over("width-online", widths, lambda w: (w, w, w), 1)
        ),
        Curve(
            "depth", "layers of 32 neurons, batch 32", "number of layers",
            over("depth", (1, 2, 5, 10, 20, 50, 100, 200), lambda n: [32] * (n + 1), 32),
        ),
        Curve(
            "batch", "784-128-10 network", "batch size",
            over("batch", [1 << power for power in range(11)], lambda _: (784, 128, 10)),
        ),
        Curve(
            "cpus", f"{PROBLEMS['wide-b256'].layers} network, batch 256", "CPUs",
            {n: replace(PROBLEMS["wide-b256"], name=f"cpus {n}") for n in machine.thread_counts()},
            over_cpus=True,
        ),
    )  # fmt: skip
    return {curve.name: curve for curve in found if machine.can_restrict() or not curve.over_cpus}


def main(
    arguments: Sequence[str] | None = None,
    find: Callable[[Sequence[str]], list[Contestant]] = chosen_contestants,
    place: Callable[[], Executor] = own_process,
) -> int:
    """Run the command and return its exit status: 1 if fnn was not timed somewhere."""
    options = parse(arguments)
    try:
        field = session.gather(find(("fnn", *options.rivals)), place)
    except MissingError as error:
        session.say(f"{error}; install fnn first: python -m pip install .")
        return 2
    description = session.describe_machine()
    limits, no_limits = session.measured_limits(options.quick, threads=machine.thread_counts())
    chosen = [curve for name, curve in curves().items() if name in options.curves]
    if options.quick:  # the first, the middle and the last point
        chosen = [replace(curve, points=thinned(curve.points)) for curve in chosen]
    raced = {curve.name: race_curve(curve, field.installed, options, place) for curve in chosen}
    description["load after"] = machine.load()

    results = [result for found in raced.values() for result in found]
    setting = session.setting(options.rounds, options.quick)
    whole = report.Report(
        description, limits, no_limits, field.contestants, field.versions, field.missing, results, setting
    )
    name = f"{machine.slug(description)}-curves"
    parts = []
    for curve in chosen:
        alone = replace(whole, results=raced[curve.name])
        parts += [f"## Over the {curve.axis}: {curve.title}"]
        if options.output is not None:
            parts += [f"![time and share of the floor over the {curve.axis}]({name}-{curve.name}.svg)"]
        parts += ["Microseconds per training sample:", report.times_table(alone)]
        parts += ["fnn against the rest, and its floor:", report.verdict_table(alone)]
    parts += ["\n".join(f"- {line}" for line in report.notes(whole))]
    print("\n\n".join(part for part in parts if not part.startswith("![")), end="\n\n")
    if options.output is not None:
        text = report.page(whole, "Width, depth, batch size, CPUs", "curves.py", parts)
        paths = report.write(whole, options.output, name, text)
        for curve in chosen:
            paths.append(options.output / f"{name}-{curve.name}.svg")
            plot(curve, replace(whole, results=raced[curve.name]), str(description["cpu"]), paths[-1])
        for path in paths:
            print(f"wrote {path}")
    return int(any(result.status != "timed" for result in results if result.contestant.family == "fnn"))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line.  Only a full run writes into results/ unasked."""
    parser = argparse.ArgumentParser(description="fnn over width, depth, batch size and CPUs.")
    session.add_choice(parser, "--curves", tuple(curves()))
    peers = [family for family in FAMILIES if family != "fnn"]
    parser.add_argument(
        "--rivals", nargs="*", choices=peers, default=[], metavar="NAME", help=f"of {', '.join(peers)}; none by default"
    )
    session.add_rounds(parser, ROUNDS, QUICK_ROUNDS)
    parser.add_argument("--output", type=Path, help="folder for tables and plots: results/ for a full run, else none")
    options = parser.parse_args(arguments)
    session.settle_rounds(parser, options, ROUNDS, QUICK_ROUNDS)
    if options.output is None and set(options.curves) == set(curves()) and not options.quick:
        options.output = session.RESULTS
    if options.output is not None:
        need_matplotlib()
    return options


def thinned(points: dict[int, Problem]) -> dict[int, Problem]:
    """The first, the middle and the last point, cut short."""
    numbers = list(points)
    kept = dict.fromkeys((numbers[0], numbers[len(numbers) // 2], numbers[-1]))
    return {n: points[n].quick() for n in kept}


def race_curve(
    curve: Curve, installed: Sequence[Contestant], options: argparse.Namespace, place: Callable[[], Executor]
) -> list[Result]:
    """Race all points of a curve."""
    seconds = session.QUICK_SECONDS if options.quick else session.ROUND_SECONDS
    results = []
    for number, problem in curve.points.items():
        session.say(f"{curve.title}, {curve.axis} {number}")
        sides = [replace(c, cpus=number) for c in installed] if curve.over_cpus else installed
        results += race(problem, sides, options.rounds, seconds, place)
    return results


def need_matplotlib() -> Any:
    """matplotlib, of the extra `bench`, drawing into files only."""
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise SystemExit(f"{error}; plots need the extra bench: python -m pip install '.[bench]'") from error
    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "fnn", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 11})
    return mpl


def series(curve: Curve, whole: report.Report) -> dict[str, list[tuple[int, float, float | None]]]:
    """By the label of the side: the number, the microseconds per sample and the share of the floor of every point."""
    numbers = {problem.name: number for number, problem in curve.points.items()}
    found: dict[str, list[tuple[int, float, float | None]]] = {}
    for result in whole.results:
        if result.status == "timed":
            floor = whole.floor(result)
            point = numbers[result.problem.name], result.best, floor / result.best if floor else None
            found.setdefault(result.contestant.label, []).append(point)
    return found


def plot(curve: Curve, whole: report.Report, cpu: str, path: Path) -> None:
    """Two panels side by side, all axes logarithmic: time, with the floor as a grey line, and share of the floor."""
    need_matplotlib()
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    lines = series(curve, whole)
    figure = Figure(figsize=(11, 5.2), layout="constrained")
    time, share = figure.subplots(1, 2)
    styles = {c.label: style for c, style in zip(whole.contestants, STYLES * 2, strict=False)}
    for label, points in lines.items():
        colour, marker, dashes = styles[label]
        look = {"color": colour, "marker": marker, "linestyle": dashes, "linewidth": 2, "markersize": 6, "label": label}
        numbers, times, shares = zip(*points, strict=True)
        time.plot(numbers, times, **look)
        if shares[0] is not None:
            share.plot(numbers, [100 * one for one in shares], **look)
    if whole.limits is not None:
        on = {n: n if curve.over_cpus else None for n in curve.points}
        floors = [problem.floor(whole.limits, on[n]) for n, problem in curve.points.items()]
        time.plot(list(curve.points), floors, color="#777777", linewidth=1.5, label="floor", zorder=1)
        share.axhline(100, color="#777777", linewidth=1.5, zorder=1)
    for axes, label in ((time, "microseconds per training sample"), (share, "share of the floor, %")):
        axes.set(xscale="log", yscale="log", xlabel=curve.axis, ylabel=label)
        axes.set_xticks(list(curve.points), [str(n) for n in curve.points])
        axes.xaxis.set_minor_locator(NullLocator())
        bottom, top = axes.get_ylim()
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if top < 50 * bottom else (1,)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.grid(which="major", color="#dddddd", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"Over the {curve.axis}: {curve.title} ({cpu}, {whole.machine['cores']} cores)", fontsize=12)
    handles, labels = time.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path, format="svg", metadata={"Date": None})


if __name__ == "__main__":
    raise SystemExit(main())
