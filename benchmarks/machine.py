"""The machine: what it is, and what it can do at most, measured by limits.c.

The multiply-add peak and the bandwidths are measured and not looked up: clock rates under vector load are not
published, and a virtual machine seldom gets the whole of its CPU.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SOURCE = Path(__file__).with_name("limits.c")
SIZES = tuple(1 << power for power in range(12, 27))  # 4 KiB to 64 MiB
NATIVE = ("-march=native",)
BUILD_FLAGS = {"x86-64-v4": ("-march=x86-64-v4",), "x86-64-v3": ("-march=x86-64-v3",), "baseline": ()}  # as in setup.py
STEERING = re.compile(r"(OMP|GOMP|KMP|OPENBLAS|MKL|BLIS|XLA|JAX|TORCH|FNN)_")  # they change threads or kernels


class LimitsError(Exception):
    """The limits could not be measured; the message says why."""


@dataclass(frozen=True)
class Limits:
    """Measured rates, by the number of threads, each thread on an array of its own.

    Attributes
    ----------
    peak_gflops : dict
        Multiply-adds from registers, 1e9 floating-point operations a second.
    read_gbs, update_gbs : dict of dict
        1e9 bytes a second by threads, then by the bytes of the array.  An update counts what it reads and writes.
    """

    peak_gflops: dict[int, float]
    read_gbs: dict[int, dict[int, float]]
    update_gbs: dict[int, dict[int, float]]

    def best(self, other: Limits) -> Limits:
        """The higher of two measurements of the same rates: whatever else the machine did made one of them lower."""
        return Limits(
            {threads: max(rate, other.peak_gflops[threads]) for threads, rate in self.peak_gflops.items()},
            _higher(self.read_gbs, other.read_gbs),
            _higher(self.update_gbs, other.update_gbs),
        )

    def bandwidth(self, size: int) -> tuple[float, float]:
        """One thread's read and update rates for `size` bytes: the best seen on any array that is no smaller."""
        held = [measured for measured in self.read_gbs[1] if measured >= size] or [max(self.read_gbs[1])]
        return max(self.read_gbs[1][s] for s in held), max(self.update_gbs[1][s] for s in held)


def _higher(one: dict[int, dict[int, float]], two: dict[int, dict[int, float]]) -> dict[int, dict[int, float]]:
    return {t: {size: max(rate, two[t][size]) for size, rate in rates.items()} for t, rates in one.items()}


def cores() -> int:
    """CPUs that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def thread_counts() -> list[int]:
    """Numbers of threads to compare: 1, 2, 4, ... and all cores."""
    return sorted({cores(), *(1 << power for power in range(cores().bit_length()))})


def can_restrict() -> bool:
    """Whether a process can be held to some of the CPUs here."""
    return hasattr(os, "sched_setaffinity")


@contextmanager
def restricted(cpus: int | None) -> Iterator[None]:
    """Hold the processes and threads that are started meanwhile to so many CPUs; None leaves all.

    Libraries count the CPUs that they may run on when they are loaded, so this limits the threads of every one.
    """
    if cpus is None:
        yield
        return
    allowed = os.sched_getaffinity(0)
    if not 1 <= cpus <= len(allowed):
        raise ValueError(f"cpus: expected 1 to {len(allowed)}, got {cpus}")
    os.sched_setaffinity(0, sorted(allowed)[-cpus:])  # the first CPU is the one that serves most interrupts
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def measure_limits(
    milliseconds: float = 10,
    sizes: Sequence[int] = SIZES,
    flags: Sequence[str] = NATIVE,
    threads: Sequence[int] | None = None,
) -> Limits:
    """Compile limits.c and run it.

    Parameters
    ----------
    milliseconds : float, default 10
        Length of a try.
    sizes : sequence of int
        Bytes of the arrays.
    flags : sequence of str
        Options of the compiler: for this CPU, or those of a build of fnn (`BUILD_FLAGS`), whose code the CPU must run.
    threads : sequence of int, optional
        Numbers of threads, one and all cores unless given; one is always among them.

    Raises
    ------
    LimitsError
        There is no C compiler, or the program does not build or run.
    """
    compiler = next((command for command in _compilers() if shutil.which(command[0])), None)
    if compiler is None:
        raise LimitsError("there is no C compiler (cc, gcc or clang, or what CC names)")
    with tempfile.TemporaryDirectory() as folder:
        program = str(Path(folder, "limits"))
        _output([*compiler, "-O3", *flags, "-pthread", "-o", program, str(SOURCE)])
        outputs = {
            count: _output([program, str(count), str(milliseconds), *map(str, sizes)])
            for count in sorted({1, *(threads or (cores(),))})
        }
    peak, read, update = {}, {}, {}
    for count, output in outputs.items():
        lines = [line.split() for line in output.splitlines()]
        peak[count] = float(next(line[1] for line in lines if line[0] == "peak"))
        read[count] = {int(line[1]): float(line[2]) for line in lines if line[0] == "read"}
        update[count] = {int(line[1]): float(line[2]) for line in lines if line[0] == "update"}
    return Limits(peak, read, update)


def _compilers() -> list[list[str]]:
    return [command for command in (shlex.split(os.environ.get("CC", "")), ["cc"], ["gcc"], ["clang"]) if command]


def _output(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip() or "no message").splitlines()[-1]
        raise LimitsError(f"{Path(command[0]).name} ended with status {error.returncode}: {last}") from error


def describe() -> dict[str, object]:
    """What the figures depend on: CPU, caches, versions, load, and the variables that steer threads and kernels."""
    cpu = _cpu_facts()
    return {
        "cpu": cpu.get("model name") or _darwin_model() or platform.processor() or platform.machine(),
        "family, model, stepping": " ".join(cpu.get(key, "?") for key in ("cpu family", "model", "stepping")),
        "vector extensions": [flag for flag in ("avx2", "fma", "avx512f", "asimd", "sve") if flag in _flags(cpu)],
        "cores": cores(),
        "caches": _caches(),
        "memory": _memory(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "environment": {name: value for name, value in sorted(os.environ.items()) if STEERING.match(name)},
        "blas": _blas(),
    }


def load() -> list[float] | None:
    """Load averages over 1, 5 and 15 minutes, where the system tells."""
    return [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None


def slug(description: dict[str, object]) -> str:
    """File name for the results of such a machine: ``intel-xeon-processor-6-207-2-2-cores``."""
    words = re.sub(r"\((r|tm)\)|\bcpu\b|@.*", " ", str(description["cpu"]).lower())
    return re.sub(
        r"[^a-z0-9]+", "-", f"{words} {description['family, model, stepping']} {description['cores']} cores"
    ).strip("-")


def _cpu_facts() -> dict[str, str]:
    """The first CPU's entries of /proc/cpuinfo."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return {}
    lines = path.read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}


def _flags(cpu: dict[str, str]) -> list[str]:
    return cpu.get("flags", cpu.get("Features", "")).split()


def _darwin_model() -> str:
    if sys.platform != "darwin":
        return ""
    return subprocess.run(["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True).stdout.strip()


def _caches() -> list[str]:
    """Caches of the first CPU, such as ``L1 Data 48K``."""
    folders = sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"))
    entries = [[(folder / name).read_text().strip() for name in ("level", "type", "size")] for folder in folders]
    return [f"L{level} {kind} {size}" for level, kind, size in entries]


def _memory() -> str:
    path = Path("/proc/meminfo")
    if not path.exists():
        return "unknown"
    return f"{int(path.read_text().split()[1]) / 2**20:.0f} GiB"


def _blas() -> str:
    """NumPy's BLAS: library, version, the kernels it chose, threads."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return "unknown (threadpoolctl is not installed)"
    found = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    return "; ".join(
        f"{p['internal_api']} {p['version']}, {p.get('architecture', 'unknown')} kernels, {p['num_threads']} threads"
        for p in found
    )
