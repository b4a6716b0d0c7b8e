"""Race fnn's backends and other libraries over the workloads: python benchmarks/run.py [--quick] [--help].

Ends with status 1 if a backend of fnn disagreed with the NumPy backend or failed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from pathlib import Path

import machine
import report
from problems import PROBLEMS
from race import find_missing, own_process, race
from rivals import FAMILIES, Contestant, MissingError, contestants

RESULTS = Path(__file__).with_name("results")
ROUNDS, ROUND_SECONDS = 9, 0.2
QUICK_ROUNDS, QUICK_SECONDS = 3, 0.01
QUICK_SIZES = (1 << 14, 1 << 19, 1 << 23)


def main(
    arguments: Sequence[str] | None = None,
    find: Callable[[Sequence[str]], list[Contestant]] = contestants,
    place: Callable[[], Executor] = own_process,
) -> int:
    """Run the command and return its exit status."""
    options = parse(arguments)
    try:
        field = find(options.rivals)
    except MissingError as error:
        say(f"{error}; install fnn first: python -m pip install .")
        return 2
    versions, missing = find_missing(field, place)
    installed = [contestant for contestant in field if contestant.label in versions]
    for label in versions:
        say(f"{label}: {versions[label]}")
    for label in missing:
        say(f"{label}: missing ({missing[label]})")
    if not installed:
        say("nothing to race")
        return 0

    description = {"time": time.strftime("%Y-%m-%d %H:%M %Z"), **machine.describe(), "load before": machine.load()}
    warn_of_slow_blas(description)
    limits, no_limits = measured_limits(options.quick)
    results = []
    for count, name in enumerate(options.workloads, start=1):
        problem = PROBLEMS[name].quick() if options.quick else PROBLEMS[name]
        say(f"[{count}/{len(options.workloads)}] {name}: {len(installed)} sides, {options.rounds} rounds")
        seconds = QUICK_SECONDS if options.quick else ROUND_SECONDS
        results += race(problem, installed, options.rounds, seconds, place)
    if limits is not None:  # whatever else ran meanwhile lowers what is measured: the higher of two counts
        limits = limits.best(measured_limits(options.quick)[0] or limits)
    description["load after"] = machine.load()

    setting = f"Best of {options.rounds} rounds, the sides in turn" + (
        ", on epochs cut short (--quick): NOT figures to quote." if options.quick else "."
    )
    whole = report.Report(description, limits, no_limits, tuple(field), versions, missing, results, setting)
    print("Microseconds per training sample, best of the rounds:\n")
    print(report.times_table(whole), end="\n\n")
    print("fnn's compiled backend against the rest:\n")
    print(report.verdict_table(whole), end="\n\n")
    print("\n".join(report.notes(whole)), end="\n\n")
    if options.output is not None:
        for path in report.write(whole, options.output, machine.slug(description)):
            print(f"wrote {path}")
    return int(any(result.contestant.family == "fnn" and result.status != "timed" for result in results))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line.  Only a full run writes into results/ unasked: a partial one would replace its figures."""
    parser = argparse.ArgumentParser(description="Race fnn's backends and every other library that is installed.")

    def choice(option: str, names: Sequence[str]) -> None:
        help_text = f"of {', '.join(names)}; all unless given"
        parser.add_argument(option, nargs="+", choices=names, default=names, metavar="NAME", help=help_text)

    parser.add_argument("--quick", action="store_true", help="short epochs, few rounds: to try it out, not for figures")
    choice("--workloads", tuple(PROBLEMS))
    choice("--rivals", FAMILIES)
    parser.add_argument("--rounds", type=int, help=f"rounds of each side: {ROUNDS}, or {QUICK_ROUNDS} with --quick")
    parser.add_argument(
        "--output", type=Path, help="folder for the CSV, JSON and Markdown files: results/ for a full run, else none"
    )
    options = parser.parse_args(arguments)
    options.workloads = list(dict.fromkeys(options.workloads))
    if options.rounds is None:
        options.rounds = QUICK_ROUNDS if options.quick else ROUNDS
    elif options.rounds < 1:
        parser.error(f"--rounds: expected a number >= 1, got {options.rounds}")
    full = set(options.workloads) == set(PROBLEMS) and set(options.rivals) == set(FAMILIES) and not options.quick
    if options.output is None and full:
        options.output = RESULTS
    return options


def measured_limits(quick: bool) -> tuple[machine.Limits | None, str]:
    """The machine's limits, or None and the reason."""
    say("measuring the multiply-add peak and the bandwidths")
    try:
        return (machine.measure_limits(1, QUICK_SIZES) if quick else machine.measure_limits()), ""
    except machine.LimitsError as error:
        say(f"no floor: {error}")
        return None, str(error)


def warn_of_slow_blas(description: dict[str, object]) -> None:
    """OPENBLAS_CORETYPE forces kernels on NumPy and scikit-learn that are not those OpenBLAS would choose."""
    environment = description["environment"]
    assert isinstance(environment, dict)
    forced = [f"{name}={value}" for name, value in environment.items() if name.startswith("OPENBLAS_")]
    if forced:
        say(f"note: {', '.join(forced)} changes what NumPy and scikit-learn run; unset it for figures to quote")


def say(text: str) -> None:
    """Tell how far the run is, apart from the tables."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
