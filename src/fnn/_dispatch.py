"""Chooses the backend once, at import, by what was built and what this CPU can run.

``FNN_BACKEND=numpy|baseline|x86-64-v3|x86-64-v4`` forces one; `set_backend` switches later.
"""

from __future__ import annotations

import importlib
import os
import platform
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import numpy as np

from fnn import _threads

# Best first.  Each compiled name is one build of _backprop.pyx for an instruction set, and of _pass.pyx beside it.
MODULES = {
    "x86-64-v4": "fnn._backprop_x86_64_v4",
    "x86-64-v3": "fnn._backprop_x86_64_v3",
    "baseline": "fnn._backprop_baseline",
    "numpy": "fnn._backprop_numpy",
}
PASS_MODULES = {module: module.replace("_backprop", "_pass") for module in MODULES.values()}
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
    if find_spec(MODULES[name]) is None or find_spec(PASS_MODULES[MODULES[name]]) is None:
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
    importlib.import_module(PASS_MODULES[MODULES[name]])
    return importlib.import_module(MODULES[name])


def _choose() -> tuple[ModuleType, str]:
    forced = os.environ.get("FNN_BACKEND")
    if forced:
        return _load(forced, "FNN_BACKEND"), "FNN_BACKEND asks for it"
    return _load(available_backends()[0], "backend"), "the best that was built and that this CPU can run"


kernels, _reason = _choose()  # the name is the module's, so that threads which switch at once cannot tear them apart


def pass_kernels() -> ModuleType:
    """Return the kernels of FloatNeuralNet that belong to the backend in use."""
    return sys.modules[PASS_MODULES[kernels.__name__]]


def backend() -> str:
    """Name of the backend in use: ``"numpy"`` or the instruction set of the compiled one.

    Returns
    -------
    str
    """
    return next(name for name, module in MODULES.items() if module == kernels.__name__)


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
    global kernels, _reason
    kernels = _load(name, "name")
    _reason = "set_backend asked for it"


def config() -> str:
    """Describe which backend runs and why, what the others lack, and how many threads a training may use and why."""
    from fnn import __version__

    name, (threads, reason) = backend(), _threads.decision()
    unused = "; the numpy backend leaves it to NumPy" if name == "numpy" else ""
    lines = [
        f"fnn {__version__}, NumPy {np.__version__}, Python {platform.python_version()}, {platform.platform()}",
        f"backend: {name} ({INSTRUCTION_SETS[name]}), {_reason}",
        *(f"  {other:10} {obstacle(other) or 'available'}" for other in MODULES),
        f"threads: {threads} at most ({reason}){unused}",
    ]
    return "\n".join(lines)


def show_config() -> None:
    """Print which backend runs, why, why the others do not, and how many threads a training may use and why.

    Examples
    --------
    >>> fnn.show_config()  # doctest: +SKIP
    fnn 0.1.0, NumPy 2.4.6, Python 3.11.7, Linux-6.1-x86_64
    backend: x86-64-v4 (AVX-512), the best that was built and that this CPU can run
      x86-64-v4  available
      x86-64-v3  available
      baseline   available
      numpy      available
    threads: 2 at most (the CPUs that this process may run on)
    """
    print(config())
