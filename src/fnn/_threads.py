"""How many threads a training may use, and which reason decided.  docs/threads.md says it in the user's words.

The kernels take the number as the most they may start, and start fewer where a step has too little work to share.

What is kept here between calls is replaced whole by one assignment, and there is no lock: calls from several threads do
at worst the same work twice, with or without a GIL, and a forked child never finds a lock that nobody will release.
"""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from fnn import _checks

MOST_THREADS = 256  # started at most, whoever asks: a slip of the keyboard must not start a million
MEMBERSHIP = Path("/proc/self/cgroup")  # control groups of this process, one a line: number:controllers:path
CGROUPS = Path("/sys/fs/cgroup")
OPENMP_COUNTS = re.compile(r"\s*0*([1-9][0-9]{0,8})\s*(,\s*0*[1-9][0-9]{0,8}\s*)*")  # one a nesting level
SERIAL_LAYERS = ("disabled", "sequential")  # what threadpoolctl calls a BLAS that was built without threads
# Of these threadpoolctl reports one thread both where they were limited to it and where nobody ever told them a number.
# The OpenMP runtime that they use, or the BLAS behind FlexiBLAS, is a pool of its own.
SILENT_POOLS = ("blis", "flexiblas")

_wish: int | None = None  # what set_threads asked for
_pools: tuple[int, tuple[Any, ...]] = (0, ())  # how many modules were imported when these pools were looked for


def thread_count(threads: Any) -> int:
    """Return the number of threads that an argument `threads` allows, the default for None."""
    return get_threads() if threads is None else min(_checks.whole_number(threads, "threads"), MOST_THREADS)


def get_threads() -> int:
    """Number of threads that ``threads=None`` allows at this moment, in this thread.

    Returns
    -------
    int
        What `set_threads` asked for, else the smallest of: the CPUs that this process may run on, the CPU quota of its
        control group, OMP_NUM_THREADS, and what threadpoolctl has limited the BLAS and OpenMP libraries to.  Never more
        than 256.

    Examples
    --------
    >>> fnn.set_threads(1)
    >>> fnn.get_threads()
    1
    >>> fnn.set_threads(None)
    """
    return decision()[0]


def set_threads(count: int | None) -> None:
    """Use up to `count` threads from now on, in this process, wherever ``threads=None``.

    It goes before OMP_NUM_THREADS and threadpoolctl; an argument ``threads`` goes before it.  The results of a training
    do not depend on it.

    Parameters
    ----------
    count : int or None
        At least 1; no more than 256 are ever started.  None goes back to the automatic choice that `get_threads`
        describes.

    Raises
    ------
    ValueError
        `count` is neither; the default stays as it was.
    """
    global _wish
    _wish = None if count is None else _checks.whole_number(count, "count")


def decision() -> tuple[int, str]:
    """Return the number of threads that ``threads=None`` allows and what decided it."""
    wish = _wish
    limits = _limits() if wish is None else [(wish, "set_threads asked for it")]
    count, reason = min(limits, key=lambda limit: limit[0])  # the first of equals
    if count > MOST_THREADS:
        return MOST_THREADS, f"the most that fnn starts; {reason}: {count}"
    return count, reason


def _limits() -> Iterator[tuple[int, str]]:
    """Yield what the automatic choice is the smallest of."""
    yield _cpus(), "the CPUs that this process may run on"
    quota = cpu_quota()
    if quota is not None:
        yield quota, "the CPU quota of this process's control group"
    openmp = OPENMP_COUNTS.fullmatch(os.environ.get("OMP_NUM_THREADS", ""))
    if openmp is not None:
        yield int(openmp[1]), "OMP_NUM_THREADS"
    for pool in _controlled_pools():
        count = pool.num_threads
        if count is not None:
            yield max(1, count), f"{pool.prefix} is limited to it, says threadpoolctl"


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache  # reading it takes longer than training a small network, and a quota hardly ever changes
def cpu_quota() -> int | None:
    """Return the CPUs' worth of time that the control groups allow, rounded up; None where there is no limit.

    The group of this process and all groups around it count.  In a container whose own group is mounted as the root,
    the paths in MEMBERSHIP do not exist, and the root's limit is the one.
    """
    try:
        memberships = MEMBERSHIP.read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return None
    quotas = []
    for membership in memberships:
        _, controllers, path = membership.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = CGROUPS / "cpu" if controllers else CGROUPS  # version 2 has one hierarchy and names no controller
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            quotas.append(_group_quota(folder))
            if folder == root:
                break
    return min((quota for quota in quotas if quota is not None), default=None)


def _group_quota(folder: Path) -> int | None:
    """Return the quota of one control group in CPUs, in the words of either version."""
    for names in (["cpu.max"], ["cpu.cfs_quota_us", "cpu.cfs_period_us"]):
        try:
            quota, period = map(int, " ".join((folder / name).read_text(encoding="utf-8") for name in names).split())
        except (OSError, ValueError):  # no such file, or "max"
            continue
        if quota > 0 and period > 0:  # version 1 writes -1 for no limit
            return math.ceil(quota / period)
    return None


def _controlled_pools() -> tuple[Any, ...]:
    """Return the thread pools that threadpoolctl can limit, none where nobody imported it.

    They are looked for again whenever a module has been imported since, for it may have brought a library; one that
    ctypes loads shows from the next import on.
    """
    global _pools
    controller = getattr(sys.modules.get("threadpoolctl"), "ThreadpoolController", None)
    if controller is None:
        return ()
    modules, pools = _pools
    if modules != len(sys.modules):
        modules = len(sys.modules)
        pools = tuple(
            pool
            for pool in controller().lib_controllers
            if pool.internal_api not in SILENT_POOLS and getattr(pool, "threading_layer", "") not in SERIAL_LAYERS
        )
        _pools = modules, pools
    return pools
