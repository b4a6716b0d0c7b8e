"""Chooses the backend once, at import, by what was built and what this CPU can run.

``FNN_BACKEND=numpy|baseline|x86-64-v3|x86-64-v4`` forces one; `set_backend` switches later.
"""

from __future__ import annotations

import importlib
import os
import platform
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import numpy as np

# Best first.  Each compiled name is one build of _backprop.pyx for an instruction set.
MODULES = {
    "x86-64-v4": "fnn._backprop_x86_64_v4",
    "x86-64-v3": "fnn._backprop_x86_64_v3",
    "baseline": "fnn._backprop_baseline",
    "numpy": "fnn._backprop_numpy",
}
INSTRUCTION_SETS = {
    "x86-64-v4": "AVX-512",
    "x86-64-v3": "AVX2 and FMA",
    "baseline": "NEON" if platform.machine() in ("arm64", "aarch64") else "the compiler's baseline (SSE2 on x86-64)",
    "numpy": "NumPy's own",
}
BUILD_NOTE = Path(__file__).with_name("_build_note.txt")  # written by setup.py where a build failed


def obstacle(name: str) -> str | None:
    """Say why the backend `name` cannot run here, or None if it can."""
    if name == "numpy":
        return None
    if find_spec(MODULES[name]) is None:
        if BUILD_NOTE.exists():
            return f"not built: {BUILD_NOTE.read_text(encoding='utf-8').strip()}"
        return "not part of this installation"
    cpu = importlib.import_module("fnn._cpu")
    return None if name == "baseline" or name in cpu.levels() else f"this CPU lacks {INSTRUCTION_SETS[name]}"


def available_backends() -> tuple[str, ...]:
    """Names of the backends that can run here, the best first.

    Returns
    -------
    tuple of str
        Among ``"x86-64-v4"``, ``"x86-64-v3"``, ``"baseline"``, ``"numpy"``; the last is always there.
    """
    return tuple(name for name in MODULES if obstacle(name) is None)


def _load(name: object, argument: str) -> ModuleType:
    if not isinstance(name, str) or name not in MODULES:
        raise ValueError(f"{argument}: expected one of {', '.join(available_backends())}, got {name!r}")
    reason = obstacle(name)
    if reason is not None:
        raise ValueError(
            f"{argument}: {name} cannot run here ({reason}); expected one of {', '.join(available_backends())}"
        )
    return importlib.import_module(MODULES[name])


def _choose() -> tuple[str, ModuleType, str]:
    forced = os.environ.get("FNN_BACKEND")
    if forced:
        return forced, _load(forced, "FNN_BACKEND"), "FNN_BACKEND asks for it"
    best = available_backends()[0]
    return best, _load(best, "backend"), "the best that was built and that this CPU can run"


_name, kernels, _reason = _choose()


def backend() -> str:
    """Name of the backend in use: ``"numpy"`` or the instruction set of the compiled one.

    Returns
    -------
    str
    """
    return _name


def set_backend(name: str) -> None:
    """Use another backend from now on, in every network.

    Parameters
    ----------
    name : {"x86-64-v4", "x86-64-v3", "baseline", "numpy"}
        One of `available_backends`.

    Raises
    ------
    ValueError
        The name is unknown, or that backend was not built or does not run on this CPU; the backend stays as it was.
    """
    global _name, kernels, _reason
    kernels = _load(name, "name")
    _name, _reason = name, "set_backend asked for it"


def default_threads() -> int:
    """Threads a training run may use: OMP_NUM_THREADS if that is a number, else the CPUs this process may run on."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if first.isdecimal() and int(first) > 0:
        return int(first)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def config() -> str:
    """Describe which backend runs and why, and what the others lack."""
    from fnn import __version__

    lines = [
        f"fnn {__version__}, NumPy {np.__version__}, Python {platform.python_version()}, {platform.platform()}",
        f"backend: {_name} ({INSTRUCTION_SETS[_name]}), {_reason}",
        f"threads: {default_threads()} at most",
    ]
    return "\n".join(lines + [f"  {name:10} {obstacle(name) or 'available'}" for name in MODULES])


def show_config() -> None:
    """Print which backend runs, why, and why the others do not.

    Examples
    --------
    >>> fnn.show_config()  # doctest: +SKIP
    fnn 0.1.0, NumPy 2.4.6, Python 3.11.7, Linux-6.1-x86_64
    backend: x86-64-v4 (AVX-512), the best that was built and that this CPU can run
    threads: 2 at most
      x86-64-v4  available
      x86-64-v3  available
      baseline   available
      numpy      available
    """
    print(config())
