"""Race two commits of fnn against each other: python benchmarks/compare.py REV_A [REV_B].

For before and after a change: both are built afresh, trained in turns in one run, and compared round by round.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from pathlib import Path

import report
import session
from build import BuildError, build_wheel, take_sources
from problems import PROBLEMS, Problem
from race import Result, own_process, race
from rivals import Contestant, Fnn

ROUNDS, QUICK_ROUNDS = 15, 5
WORKING_TREE = "working tree"


class BuiltFnn(Fnn):
    """The fnn in a folder, on the backend that it chooses unless one is named.  One folder a process."""

    def __init__(
        self, problem: Problem, rate: float, hidden: str = "relu", folder: str = "", backend: str = ""
    ) -> None:
        if sys.path[0] != folder:
            sys.path.insert(0, folder)
        fnn = importlib.import_module("fnn")
        if not Path(fnn.__file__ or "").is_relative_to(folder):
            raise ImportError(f"expected fnn from {folder}, got {fnn.__file__}")
        super().__init__(problem, rate, hidden, backend or fnn.backend())


def main(
    arguments: Sequence[str] | None = None,
    install: Callable[[str | None, Path], Path] | None = None,
    place: Callable[[], Executor] = own_process,
) -> int:
    """Run the command and return its exit status: 1 if a side was not timed, 2 if one was not built."""
    options = parse(arguments)
    with tempfile.TemporaryDirectory() as folder:
        sides = []
        for letter, revision in zip("AB", options.revisions, strict=True):
            session.say(f"building {letter}: {revision or WORKING_TREE}")
            try:
                built = (install or install_revision)(revision, Path(folder, letter))
            except BuildError as error:
                session.say(str(error))
                return 2
            sides.append(Contestant("fnn", letter, BuiltFnn, {"folder": str(built), "backend": options.backend}))
        seconds = session.QUICK_SECONDS if options.quick else session.ROUND_SECONDS
        results = []
        for name in options.workloads:
            session.say(f"{name}: {options.rounds} rounds")
            problem = PROBLEMS[name].quick() if options.quick else PROBLEMS[name]
            results.append(race(problem, sides, options.rounds, seconds, place))
    a, b = (revision or WORKING_TREE for revision in options.revisions)
    print(f"A: {a}; B: {b}. Microseconds per training sample, best of the rounds; above 1, B is faster:\n")
    print(table(results), end="\n\n")
    print(session.setting(options.rounds, options.quick))
    for result in (result for pair in results for result in pair if result.status != "timed"):
        print(f"Not timed: {result.contestant.label} on {result.problem.name} {result.status}: {result.note}.")
    return int(any(result.status != "timed" for pair in results for result in pair))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Race two commits of fnn against each other.")
    parser.add_argument("a", metavar="REV_A", help="a commit, such as HEAD or main")
    parser.add_argument("b", metavar="REV_B", nargs="?", help="another; the working tree unless given")
    parser.add_argument("--backend", default="", help="of fnn, such as x86-64-v3; the one that it chooses unless given")
    session.add_choice(parser, "--workloads", tuple(PROBLEMS))
    session.add_rounds(parser, ROUNDS, QUICK_ROUNDS)
    options = parser.parse_args(arguments)
    session.settle_rounds(parser, options, ROUNDS, QUICK_ROUNDS)
    options.revisions = (options.a, options.b)
    return options


def install_revision(revision: str | None, folder: Path) -> Path:
    """Build a revision, or the working tree, and unpack its wheel: the folder to import it from."""
    wheel = build_wheel(take_sources(revision, folder / "sources"), folder / "wheel")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(folder / "installed")
    return folder / "installed"


def table(results: Sequence[Sequence[Result]]) -> str:
    """A line for every workload: the best times, and the ratio A/B with the quarter and three-quarter points."""
    rows = []
    for a, b in results:
        times = [report.number(r.best) if r.status == "timed" else r.status for r in (a, b)]
        if a.status == b.status == "timed":
            low, middle, high = ratios(a, b)
            rows.append([a.problem.name, *times, f"{middle:.3f}", f"{low:.3f} to {high:.3f}"])
        else:
            rows.append([a.problem.name, *times, "-", "-"])
    return report.table(["workload", "A", "B", "A/B, median", "middle half of the rounds"], rows)


def ratios(a: Result, b: Result) -> tuple[float, float, float]:
    """First quartile, median and third quartile of A's time over B's in the same round."""
    scale = b.epochs / a.epochs
    found = [scale * first / second for first, second in zip(a.seconds, b.seconds, strict=True)]
    if len(found) == 1:
        return found[0], found[0], found[0]
    low, middle, high = statistics.quantiles(found, n=4, method="inclusive")
    return low, middle, high


if __name__ == "__main__":
    raise SystemExit(main())
