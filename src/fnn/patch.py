"""Run a program with scikit-learn patched: ``python -m fnn.patch [-q] script.py [args]``, or ``-m module [args]``."""

from __future__ import annotations

import argparse
import runpy
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from fnn._patch import patch_sklearn


def main(arguments: Sequence[str] | None = None) -> None:
    """Patch scikit-learn, then run the program as Python would."""
    parser = argparse.ArgumentParser(
        prog="python -m fnn.patch",
        description="Run a program in which scikit-learn's MLPClassifier and MLPRegressor train with fnn.",
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="do not tell of what is left to scikit-learn")
    parser.add_argument("-m", dest="module", action="store_true", help="run a module instead of a script")
    parser.add_argument("program", help="script or, after -m, module")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="of the program")
    options = parser.parse_args(arguments)
    if not options.module:
        _check_script(parser, Path(options.program))
    patch_sklearn(verbose=0 if options.quiet else 1)
    sys.argv = [options.program, *options.arguments]
    if options.module:
        sys.path.insert(0, "")
        _run_module(parser, options.program)
    else:
        sys.path.insert(0, str(Path(options.program).resolve().parent))
        runpy.run_path(options.program, run_name="__main__")


def _check_script(parser: argparse.ArgumentParser, script: Path) -> None:
    """End with Python's own words and status where it could not open the script; a folder is run by what is in it."""
    if script.is_dir():
        return
    try:
        script.open("rb").close()
    except OSError as error:
        place = f"'{script.absolute()}': [Errno {error.errno}] {error.strerror}"
        parser.exit(2, f"{parser.prog}: can't open file {place}\n")


def _run_module(parser: argparse.ArgumentParser, name: str) -> None:
    """Run a module; end with Python's own words and status where there is none to run."""
    try:
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    except ImportError as error:
        _here, *inner = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
        if any(frame.f_globals is not vars(runpy) for frame in inner):
            raise  # it is the program's own
        parser.exit(1, f"{parser.prog}: {error}\n")


if __name__ == "__main__":
    main()
