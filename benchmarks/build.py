"""Build the wheel afresh, and print how long that took and how large it is: python benchmarks/build.py [REVISION].

Ends with status 1 if it took longer than 3 minutes or the wheel is larger than 4 MB.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

import report

ROOT = Path(__file__).parents[1]
MOST_SECONDS, MOST_MB = 180, 4
BINARIES = (".so", ".pyd")


class BuildError(Exception):
    """A revision is unknown or does not build; the message says why."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(description="Build the wheel afresh: seconds and megabytes.")
    parser.add_argument("revision", nargs="?", help="a commit; the working tree unless given")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        try:
            sources = take_sources(options.revision, Path(folder, "sources"))
            start = time.perf_counter()
            wheel = build_wheel(sources, Path(folder, "wheel"))
        except BuildError as error:
            print(error, file=sys.stderr)
            return 2
        seconds = time.perf_counter() - start
        print(extensions_table(wheel), end="\n\n")
        faults = verdict(seconds, wheel.stat().st_size / 1e6)
    print("\n".join(faults))
    return int(any(line.startswith("TOO") for line in faults))


def take_sources(revision: str | None, folder: Path, root: Path = ROOT) -> Path:
    """Copy a commit's files into the folder, or the working tree's without what git ignores; no builds of before."""
    folder.mkdir(parents=True)
    if revision is not None:
        archive = _output(["git", "-C", str(root), "archive", "--format=tar", revision])
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            files.extractall(folder, filter="data")
        return folder
    listed = _output(["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"])
    for name in listed.decode().split("\0"):
        if name and (root / name).is_file():  # a tracked file may have been deleted
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, folder / name)
    return folder


def build_wheel(sources: Path, folder: Path) -> Path:
    """Build a wheel with the Cython and setuptools that are installed, all extensions required, and return its path."""
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-cache-dir"]
    _output([*command, "--wheel-dir", str(folder), str(sources)], {**os.environ, "FNN_REQUIRE_EXT": "1"})
    (wheel,) = folder.glob("*.whl")
    return wheel


def extensions_table(wheel: Path) -> str:
    """Size of every extension, as it is and compressed in the wheel, and of all the other files."""
    with zipfile.ZipFile(wheel) as file:
        entries = file.infolist()
    sizes = {e.filename: (e.file_size, e.compress_size) for e in entries if e.filename.endswith(BINARIES)}
    others = [e for e in entries if e.filename not in sizes]
    sizes["all other files"] = (sum(e.file_size for e in others), sum(e.compress_size for e in others))
    rows = [[name, f"{size / 1e6:.3f}", f"{packed / 1e6:.3f}"] for name, (size, packed) in sizes.items()]
    return report.table([wheel.name, "MB", "in the wheel, MB"], rows)


def verdict(seconds: float, megabytes: float) -> list[str]:
    """The two figures on a line each; the line starts with TOO where a bound is exceeded."""
    slow, large = seconds > MOST_SECONDS, megabytes > MOST_MB
    return [
        f"{'TOO SLOW: ' if slow else ''}built in {seconds:.1f} s, at most {MOST_SECONDS} s",
        f"{'TOO LARGE: ' if large else ''}a wheel of {megabytes:.2f} MB, at most {MOST_MB} MB",
    ]


def _output(command: list[str], environment: dict[str, str] | None = None) -> bytes:
    done = subprocess.run(command, capture_output=True, env=environment)
    if done.returncode:
        last = "\n".join((done.stderr or done.stdout).decode(errors="replace").strip().splitlines()[-40:])
        raise BuildError(f"{' '.join(command[:4])} ... ended with status {done.returncode}:\n{last}")
    return done.stdout


if __name__ == "__main__":
    raise SystemExit(main())
