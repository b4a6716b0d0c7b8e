"""Race fnn's backends and other libraries over the workloads: python benchmarks/run.py [--quick] [--help].

Ends with status 1 if a backend of fnn disagreed with the NumPy backend or failed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path

import machine
import report
import session
from problems import PROBLEMS
from race import own_process, race
from rivals import FAMILIES, Contestant, MissingError, contestants

ROUNDS, QUICK_ROUNDS = 9, 3
SCALED = "wide-b256"  # the workload that is worth most threads


def main(
    arguments: Sequence[str] | None = None,
    find: Callable[[Sequence[str]], list[Contestant]] = contestants,
    place: Callable[[], Executor] = own_process,
) -> int:
    """Run the command and return its exit status."""
    options = parse(arguments)
    try:
        field = session.gather(find(options.rivals), place)
    except MissingError as error:
        session.say(f"{error}; install fnn first: python -m pip install .")
        return 2
    installed = field.installed
    if not installed:
        session.say("nothing to race")
        return 0

    description = session.describe_machine()
    seconds = session.QUICK_SECONDS if options.quick else session.ROUND_SECONDS
    limits, no_limits, build_limits = all_limits(installed, options.quick)
    results, scaling = [], []
    for count, name in enumerate(options.workloads, start=1):
        problem = PROBLEMS[name].quick() if options.quick else PROBLEMS[name]
        session.say(f"[{count}/{len(options.workloads)}] {name}: {len(installed)} sides, {options.rounds} rounds")
        results += race(problem, installed, options.rounds, seconds, place)
        if name == SCALED:
            scaling = race(problem, on_more_cpus(installed), options.rounds, seconds, place)
    if limits is not None:  # whatever else ran meanwhile lowers what is measured: the higher of two counts
        again, _, builds_again = all_limits(installed, options.quick)
        limits = limits.best(again or limits)
        build_limits = {label: one.best(builds_again.get(label, one)) for label, one in build_limits.items()}
    description["load after"] = machine.load()

    whole = report.Report(
        description, limits, no_limits, field.contestants, field.versions, field.missing, results,
        session.setting(options.rounds, options.quick), build_limits, scaling,
    )  # fmt: skip
    print("Microseconds per training sample, best of the rounds:\n")
    print(report.times_table(whole), end="\n\n")
    print("fnn's compiled backend against the rest:\n")
    print(report.verdict_table(whole), end="\n\n")
    if build_limits:
        print("Every build against the floor of its own instruction set:\n")
        print(report.builds_table(whole), end="\n\n")
    if scaling:
        print("fnn on more CPUs:\n")
        print(report.scaling_table(whole), end="\n\n")
    print("\n".join(report.notes(whole)), end="\n\n")
    if options.output is not None:
        for path in report.write(whole, options.output, machine.slug(description), report.markdown(whole)):
            print(f"wrote {path}")
    own = [result for result in (*results, *scaling) if result.contestant.family == "fnn"]
    return int(any(result.status != "timed" for result in own))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line.  Only a full run writes into results/ unasked: a partial one would replace its figures."""
    parser = argparse.ArgumentParser(description="Race fnn's backends and every other library that is installed.")
    session.add_choice(parser, "--workloads", tuple(PROBLEMS))
    session.add_choice(parser, "--rivals", FAMILIES)
    session.add_rounds(parser, ROUNDS, QUICK_ROUNDS)
    parser.add_argument(
        "--output", type=Path, help="folder for the CSV, JSON and Markdown files: results/ for a full run, else none"
    )
    options = parser.parse_args(arguments)
    session.settle_rounds(parser, options, ROUNDS, QUICK_ROUNDS)
    options.workloads = list(dict.fromkeys(options.workloads))
    full = set(options.workloads) == set(PROBLEMS) and set(options.rivals) == set(FAMILIES) and not options.quick
    if options.output is None and full:
        options.output = session.RESULTS
    return options


def all_limits(
    installed: Sequence[Contestant], quick: bool
) -> tuple[machine.Limits | None, str, dict[str, machine.Limits]]:
    """What the machine can do at most, the reason if that is unknown, and what code of each build of fnn can do."""
    threads = machine.thread_counts()
    limits, reason = session.measured_limits(quick, threads=threads)
    builds = {}
    for contestant in installed if limits is not None else ():
        flags = machine.BUILD_FLAGS.get(contestant.options.get("backend", ""))
        if flags is not None:
            one, _ = session.measured_limits(quick, flags, threads)
            builds |= {contestant.label: one} if one is not None else {}
    return limits, reason, builds


def on_more_cpus(installed: Sequence[Contestant]) -> list[Contestant]:
    """The best compiled backend of fnn on 1, 2, 4, ... CPUs; nothing where processes cannot be held to some CPUs."""
    best = next((c for c in installed if c.family == "fnn" and c.label != report.NUMPY), None)
    if best is None or not machine.can_restrict():
        return []
    return [replace(best, label=f"{best.label} on {n} CPUs", cpus=n) for n in machine.thread_counts()]


if __name__ == "__main__":
    raise SystemExit(main())
