"""Race fnn over shapes drawn at random, to find those on which it loses: python benchmarks/sweep.py [--only N..M].

Ends with status 1 if fnn was slower than its NumPy backend, PyTorch or scikit-learn on any shape, or not timed.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from pathlib import Path

import numpy as np

import machine
import report
import session
from problems import Problem, of_shape
from race import Result, own_process, race
from rivals import Contestant, MissingError, chosen_contestants

SEED, COUNT = 12, 64
MOST_WIDTH, MOST_BATCH, MOST_DEPTH = 4096, 1024, 200
MOST_OPERATIONS, MOST_PARAMETERS = 1e9, 20e6  # of a step
MIXED_DEPTH = 8  # deeper networks have one width inside: with widths of their own hardly any would be small enough
FAMILIES = ("fnn", "torch", "sklearn")
ROUNDS, QUICK_ROUNDS = 5, 2
ROUND_SECONDS = 0.1


def main(
    arguments: Sequence[str] | None = None,
    find: Callable[[Sequence[str]], list[Contestant]] = chosen_contestants,
    place: Callable[[], Executor] = own_process,
) -> int:
    """Run the command and return its exit status."""
    options = parse(arguments)
    try:
        field = session.gather(find(FAMILIES), place)
    except MissingError as error:
        session.say(f"{error}; install fnn first: python -m pip install .")
        return 2
    description = session.describe_machine()
    limits, no_limits = session.measured_limits(options.quick)
    seconds = session.QUICK_SECONDS if options.quick else ROUND_SECONDS
    results = []
    for problem in shapes()[options.only]:
        session.say(f"shape {problem.name}: {problem.layers}, batch {problem.batch}, {problem.dtype}")
        small = problem.quick() if options.quick else problem
        results += race(small, field.installed, options.rounds, seconds, place)
    description["load after"] = machine.load()

    setting = session.setting(options.rounds, options.quick)
    whole = report.Report(
        description, limits, no_limits, field.contestants, field.versions, field.missing, results, setting
    )
    parts = [sweep_table(whole), losses_text(whole), "\n".join(f"- {line}" for line in report.notes(whole))]
    print("\n\n".join(parts), end="\n\n")
    if options.output is not None:
        text = report.page(whole, "Shapes drawn at random", "sweep.py", parts)
        for path in report.write(whole, options.output, f"{machine.slug(description)}-sweep", text):
            print(f"wrote {path}")
    own = [result for result in results if result.contestant.family == "fnn"]
    return int(not own or any(result.status != "timed" for result in own) or bool(losses(whole)))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line.  Only a full run writes into results/ unasked."""
    parser = argparse.ArgumentParser(description="Race fnn over shapes drawn at random.")
    parser.add_argument("--only", metavar="N..M", help=f"shapes N to M of {COUNT}, or the shape N; all unless given")
    session.add_rounds(parser, ROUNDS, QUICK_ROUNDS)
    parser.add_argument(
        "--output", type=Path, help="folder for the CSV, JSON and Markdown files: results/ for a full run, else none"
    )
    options = parser.parse_args(arguments)
    session.settle_rounds(parser, options, ROUNDS, QUICK_ROUNDS)
    if options.output is None and options.only is None and not options.quick:
        options.output = session.RESULTS
    match = re.fullmatch(r"(\d+)(?:\.\.(\d+))?", options.only or f"1..{COUNT}")
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= first <= last <= COUNT:
        parser.error(f"--only: expected N or N..M between 1 and {COUNT}, got {options.only}")
    options.only = slice(first - 1, last)
    return options


def shapes() -> list[Problem]:
    """The shapes, the same in every call: every fourth is trained online, every fifth in float64."""
    rng = np.random.default_rng(SEED)
    found: list[Problem] = []
    while len(found) < COUNT:
        number = len(found) + 1
        layers = log_uniform(rng, MOST_DEPTH)
        inner = log_uniform(rng, MOST_WIDTH)
        hidden = [inner if layers > MIXED_DEPTH else log_uniform(rng, MOST_WIDTH) for _ in range(layers - 1)]
        sizes = [log_uniform(rng, MOST_WIDTH), *hidden, log_uniform(rng, MOST_WIDTH)]
        batch = 1 if number % 4 == 0 else log_uniform(rng, MOST_BATCH)
        problem = of_shape(f"{number:02d}", sizes, batch, "float64" if number % 5 == 0 else "float32")
        if batch * problem.operations <= MOST_OPERATIONS and problem.parameters <= MOST_PARAMETERS:
            found.append(problem)
    return found


def log_uniform(rng: np.random.Generator, most: int) -> int:
    """A whole number from 1 to `most`, all powers of two as likely."""
    return int(np.exp(rng.uniform(0, np.log(most + 1))))


def gains(results: dict[str, Result]) -> dict[str, float]:
    """How many times as long as fnn every other timed side took, by label; nothing if fnn was not timed."""
    timed = [result for result in results.values() if result.status == "timed"]
    own = next((result for result in timed if result.contestant.family == "fnn"), None)
    if own is None or own.contestant.label == report.NUMPY:
        return {}
    return {result.contestant.label: result.best / own.best for result in timed if result is not own}


def losses(whole: report.Report) -> dict[str, dict[str, float]]:
    """The sides that were faster than fnn, with their times as a share of fnn's, by shape."""
    found = {name: gains(results) for name, results in whole.workloads().items()}
    faster = {name: {side: gain for side, gain in sides.items() if gain < 1} for name, sides in found.items()}
    return {name: sides for name, sides in faster.items() if sides}


def sweep_table(whole: report.Report) -> str:
    """A line for every shape: fnn's time, and how many times as long the others took; the worst ratio first."""
    own, *others = [contestant.label for contestant in whole.contestants if contestant.label in whole.versions]
    ranked = []
    for name, results in whole.workloads().items():
        problem, found = next(iter(results.values())).problem, gains(results)
        first, floor = results[own], whole.floor(results[own])
        timed = first.status == "timed"
        time = report.number(first.best) if timed else first.status
        cells = [f"{found[label]:.2f}" if label in found else results[label].status for label in others]
        row = [
            name, problem.layers, str(problem.batch), problem.dtype, time, *cells,
            report.percent(floor / first.best) if timed and floor else "-",
        ]  # fmt: skip
        ranked.append((min(found.values(), default=0.0), row))
    ratios = [f"{label} / fnn" for label in others]
    heading = ["shape", "layers", "batch", "dtype", f"{own}, us", *ratios, "of the floor"]
    return report.table(heading, [row for _, row in sorted(ranked, key=lambda pair: pair[0])])


def losses_text(whole: report.Report) -> str:
    """Every shape on which fnn is slower than a side, in words."""
    found, count = losses(whole), len(whole.workloads())
    lines = [f"fnn is slower than another side on {len(found)} of {count} shapes."]
    for name, sides in sorted(found.items(), key=lambda item: min(item[1].values())):
        problem = next(iter(whole.workloads()[name].values())).problem
        slower = ", ".join(f"{1 / gain:.2f}x SLOWER than {side}" for side, gain in sides.items())
        lines.append(f"- shape {name} ({problem.layers}, batch {problem.batch}, {problem.dtype}): {slower}")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
