"""Runs code in a fresh interpreter, with a time limit, so that what hangs fails."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import fnn

SOURCE = str(Path(fnn.__file__).parent.parent)
PATH = os.pathsep.join([SOURCE, str(Path(__file__).parent)])


def python(code, *arguments, timeout=120, **environment):
    """Run `code`, or with a Path the file there, and return what it did; a limit in time ends its children too."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("FNN_")}
    program = [str(code)] if isinstance(code, Path) else ["-c", code]
    command = [sys.executable, "-W", "error", *arguments, *program]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command,
        env=clean | {"PYTHONPATH": PATH} | environment,
        stdout=pipe,
        stderr=pipe,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, errors = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, errors = process.communicate()
            raise AssertionError(f"hangs: not done after {timeout} s\n{output}\n{errors}") from None
    return subprocess.CompletedProcess(command, process.returncode, output, errors)
