"""Compiling a module of Cython for a test, and importing it."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

EXACT = "-g0 -w -fno-math-errno -fno-trapping-math"  # what setup.py also asks for, as far as it may change a result
PACKAGE = Path(__file__).parents[1] / "src" / "fnn"


def compiled(source: Path, flags: str) -> ModuleType:
    """Build `source`, a .pyx in a folder of its own, with the compiler's flags, and import it."""
    cythonize = [sys.executable, "-m", "Cython.Build.Cythonize", "--inplace", "-3", source.name]
    flags = f"{EXACT} {flags} -I{source.parent} -I{PACKAGE}"  # a header beside the source goes first
    built = subprocess.run(
        cythonize, cwd=source.parent, env=os.environ | {"CFLAGS": flags}, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stdout + built.stderr
    (library,) = [path for path in source.parent.iterdir() if path.suffix in (".so", ".pyd")]
    spec = importlib.util.spec_from_file_location(source.stem, library)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
