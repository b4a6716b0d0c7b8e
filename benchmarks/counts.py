"""Count the instructions of training, a measure that no other program disturbs: python benchmarks/counts.py [--check].

Every training runs under valgrind with N and with 2 N epochs: the difference is training alone, without the start of
Python.  Times are another matter: this says what changed, not how fast it is.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import machine
import report
import session
from problems import PROBLEMS, Problem
from rivals import Fnn

RATE = 1e-6  # the weights, and which ReLUs are on, hardly change
PAGE = session.RESULTS / "counts.md"
EPOCHS = 16
BUILDS = ("x86-64-v3", "baseline")  # valgrind knows no AVX-512
COUNTED = {
    problem.name: problem
    for problem in (
        PROBLEMS["xor-online"].quick(),
        PROBLEMS["digits-online"].quick(),
        PROBLEMS["digits-online-sparse"].quick(),
        PROBLEMS["digits-b32"].quick(),
        replace(PROBLEMS["deep-b32"], name="deep40-b32", sizes=(*[32] * 40, 1), samples=128),
    )
}
GROWTH = 0.01  # of a count, beyond which --check ends with status 1
REFERENCES = re.compile(r"I\s+refs:\s+([\d,]+)")
ROW = re.compile(r"^\| (?P<name>[\w-]+) +\| +(?P<build>[\w-]+) \| +(?P<count>[\d.]+) \|$", re.MULTILINE)
# Whatever may differ between two runs of the same training: hashes, threads, and where memory begins, by the
# environment's length.
ENVIRONMENT = {
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "LC_ALL": "C",
}

Counts = dict[tuple[str, str], float]


class CountError(Exception):
    """Nothing could be counted; the message says why."""


def main(
    arguments: Sequence[str] | None = None, count: Callable[[str, str, int], int] | None = None, tracked: Path = PAGE
) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(description="Count the instructions of training under valgrind.")
    session.add_choice(parser, "--workloads", tuple(COUNTED))
    session.add_choice(parser, "--builds", BUILDS)
    parser.add_argument("--check", action="store_true", help=f"compare with {PAGE.name} instead of writing it")
    options = parser.parse_args(arguments)
    pairs = [(name, build) for name in COUNTED if name in options.workloads for build in options.builds]
    try:
        found = count_all(pairs, count or instructions)
        before = read(tracked) if options.check else {}
    except CountError as error:
        session.say(str(error))
        return 2
    if options.check:
        print(moves_table(found, before))
        return int(any(grown(found[pair], before.get(pair)) for pair in found))
    print(counts_table(found))
    if set(pairs) == {(name, build) for name in COUNTED for build in BUILDS}:
        tracked.write_text(page(found), encoding="utf-8")
        print(f"\nwrote {tracked}")
    return 0


def count_all(pairs: Sequence[tuple[str, str]], count: Callable[[str, str, int], int]) -> Counts:
    """Instructions per sample of these workloads and builds; two trainings at a time disturb no count."""
    asked = [(name, build, epochs) for name, build in pairs for epochs in (EPOCHS, 2 * EPOCHS)]
    with ThreadPoolExecutor(machine.cores()) as pool:
        counted = dict(zip(asked, pool.map(lambda one: count(*one), asked), strict=True))
    return {
        (name, build): (counted[name, build, 2 * EPOCHS] - counted[name, build, EPOCHS])
        / (EPOCHS * COUNTED[name].samples)
        for name, build in pairs
    }


def instructions(name: str, build: str, epochs: int) -> int:
    """All instructions of a process that trains so many epochs, as cachegrind counts them without simulating caches."""
    if shutil.which("valgrind") is None:
        raise CountError("there is no valgrind: apt-get install valgrind")
    session.say(f"{name} on {build}, {epochs} epochs")
    with tempfile.TemporaryDirectory() as folder:
        command = ["valgrind", "--tool=cachegrind", "--cache-sim=no", f"--cachegrind-out-file={folder}/out"]
        code = f"import counts; counts.train({name!r}, {build!r}, {epochs})"
        done = subprocess.run(
            [*command, sys.executable, "-c", code],
            cwd=Path(__file__).parent,
            env={"PATH": os.environ["PATH"], **ENVIRONMENT},
            capture_output=True,
            text=True,
        )
    if done.returncode:
        raise CountError(f"{name} on {build} under valgrind ended with status {done.returncode}:\n{done.stderr[-800:]}")
    match = REFERENCES.search(done.stderr)
    if match is None:
        raise CountError(f"valgrind printed no 'I refs':\n{done.stderr[-800:]}")
    return int(match[1].replace(",", ""))


def train(name: str, build: str, epochs: int) -> None:
    """What is counted."""
    problem: Problem = COUNTED[name]
    rival = Fnn(problem, RATE, backend=build)
    rival.load(problem.initial_blocks())
    rival.train(epochs)


def counts_table(counts: Counts) -> str:
    """A line for every workload and build."""
    rows = [[name, build, f"{count:.1f}"] for (name, build), count in counts.items()]
    return report.table(["workload", "build", "instructions per sample"], rows)


def moves_table(counts: Counts, before: Counts) -> str:
    """The same with the tracked figures, and by how much each moved."""
    rows = []
    for (name, build), count in counts.items():
        old = before.get((name, build))
        moved = "new" if old is None else f"{100 * (count / old - 1):+.2f} %{' GREW' if grown(count, old) else ''}"
        rows.append([name, build, "-" if old is None else f"{old:.1f}", f"{count:.1f}", moved])
    return report.table(["workload", "build", "tracked", "now", "moved"], rows)


def grown(count: float, before: float | None) -> bool:
    """Whether there are more instructions than a detail of the data or of Python's own work explains."""
    return before is not None and count > (1 + GROWTH) * before


def read(path: Path) -> Counts:
    """The counts of a page."""
    if not path.exists():
        raise CountError(f"there are no tracked counts ({path}); write them without --check")
    return {(m["name"], m["build"]): float(m["count"]) for m in ROW.finditer(path.read_text(encoding="utf-8"))}


def page(counts: Counts) -> str:
    """The counts as a page, with what they depend on."""
    compiler = subprocess.run(["cc", "--version"], capture_output=True, text=True).stdout.splitlines()
    facts = {"compiler here": compiler[0] if compiler else "unknown", "python": platform.python_version()}
    lines = [f"- {key}: {value}" for key, value in facts.items()]
    head = "Written by `python benchmarks/counts.py`; `--check` compares with these; benchmarks/README.md says more."
    return "\n\n".join(["# Instructions of training", head, counts_table(counts), "\n".join(lines)]) + "\n"


if __name__ == "__main__":
    raise SystemExit(main())
