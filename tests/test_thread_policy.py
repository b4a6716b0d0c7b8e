"""How many threads a training may use: the argument, set_threads, and what the automatic choice is the smallest of."""

import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import fnn
from fnn import _dispatch, _threads
from fnn._cli import main
from interpreter import python

READ_QUOTA = _threads.cpu_quota.__wrapped__  # without the cache


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """Eight CPUs and nothing that limits them, whatever this machine is and whatever other tests have imported."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(8), raising=False)
    monkeypatch.setattr(_threads, "cpu_quota", lambda: None)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delitem(sys.modules, "threadpoolctl", raising=False)
    monkeypatch.setattr(_threads, "_pools", (0, ()))
    monkeypatch.setattr(_threads, "_wish", None)


@pytest.fixture
def allowed(monkeypatch):
    """What the kernels were told, by every training so far."""
    real, seen = _dispatch.kernels, []

    def workspace(layout, dtype, batch_size, momentum, threads):
        seen.append(threads)
        return real.Workspace(layout, dtype, batch_size, momentum, threads)

    def loss_and_gradient(*arguments):
        seen.append(arguments[6])
        return real.loss_and_gradient(*arguments)

    spy = SimpleNamespace(
        __name__=real.__name__,
        Workspace=workspace,
        train_epoch=real.train_epoch,
        loss_and_gradient=loss_and_gradient,
        is_finite=real.is_finite,
    )
    monkeypatch.setattr(_dispatch, "kernels", spy)
    return seen


def train(**options):
    fnn.Network([3, 2]).fit(np.ones((4, 3)), np.ones((4, 2)), epochs=1, **options)


def pools(*counts, internal_api="openblas", threading_layer="pthreads"):
    """A threadpoolctl that controls pools of so many threads."""
    found = [
        SimpleNamespace(
            num_threads=count, prefix=f"lib{number}", internal_api=internal_api, threading_layer=threading_layer
        )
        for number, count in enumerate(counts)
    ]
    return SimpleNamespace(ThreadpoolController=lambda: SimpleNamespace(lib_controllers=found))


def test_the_argument_goes_before_set_threads_and_that_before_the_automatic_choice(allowed, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    train()
    fnn.set_threads(5)
    train()
    train(threads=3)
    fnn.set_threads(None)
    train()
    network = fnn.Network([3, 2])
    network.loss_and_gradient(np.ones((4, 3)), np.ones((4, 2)))
    network.loss_and_gradient(np.ones((4, 3)), np.ones((4, 2)), threads=7)
    assert allowed == [2, 5, 3, 2, 2, 7]


@pytest.mark.parametrize("count", [1, 3, np.int64(12), 256])
def test_set_threads_is_obeyed(count):
    fnn.set_threads(count)
    assert fnn.get_threads() == count
    assert _threads.decision() == (count, "set_threads asked for it")


def test_nobody_starts_more_than_the_most(allowed, monkeypatch):
    train(threads=10**9)
    fnn.set_threads(1000)
    train()
    assert _threads.decision() == (256, "the most that fnn starts; set_threads asked for it: 1000")
    fnn.set_threads(None)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(300))
    train()
    assert _threads.decision() == (256, "the most that fnn starts; the CPUs that this process may run on: 300")
    assert allowed == [256, 256, 256]


@pytest.mark.parametrize("count", [0, -1, 1.5, "2", True, np.nan])
def test_set_threads_refuses_what_is_no_count(count):
    fnn.set_threads(3)
    with pytest.raises(ValueError, match=r"^count: expected an integer >= 1, got "):
        fnn.set_threads(count)
    assert fnn.get_threads() == 3


def test_the_cpus_are_those_that_the_process_may_run_on(monkeypatch):
    assert _threads.decision() == (8, "the CPUs that this process may run on")
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)  # as on macOS and Windows
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert fnn.get_threads() == 5
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert fnn.get_threads() == 1


@pytest.mark.parametrize(
    ("value", "count"),
    [
        ("3", 3),
        (" 3 ", 3),
        ("003", 3),
        ("4,2", 4),
        ("4 , 2,1 ", 4),
        ("1,8", 1),
        ("64", 8),  # of eight CPUs
        ("", 8),
        ("0", 8),
        ("-2", 8),
        ("2.5", 8),
        ("many", 8),
        ("2,many", 8),
        ("2,0", 8),
        (",2", 8),
        ("2,", 8),
        ("٢", 8),  # a digit, but not one that OpenMP knows
        ("9" * 5000, 8),
    ],
)
def test_openmp_s_variable(monkeypatch, value, count):
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert _threads.decision() == (count, "OMP_NUM_THREADS" if count < 8 else "the CPUs that this process may run on")


VERSION_2, VERSION_1 = "0::/a/b", "12:pids:/a/b\n4:cpu,cpuacct:/a/b\n1:name=systemd:/a/b\n0::/a/b"


@pytest.mark.parametrize(
    ("membership", "files", "quota"),
    [
        (VERSION_2, {"a/b/cpu.max": "150000 100000"}, 2),
        (VERSION_2, {"a/b/cpu.max": "400000 100000", "a/cpu.max": "max 100000"}, 4),
        (VERSION_2, {"a/b/cpu.max": "400000 100000", "a/cpu.max": "300000 100000"}, 3),
        (VERSION_2, {"a/b/cpu.max": "1000 100000"}, 1),
        (VERSION_2, {"cpu.max": "200000 100000"}, 2),  # a container: its group is mounted as the root
        (VERSION_2, {"a/b/cpu.max": "max 100000"}, None),
        (VERSION_2, {"a/b/cpu.max": "nonsense"}, None),
        (VERSION_2, {"a/b/cpu.max": "0 0"}, None),
        (VERSION_2, {"other/cpu.max": "100000 100000"}, None),
        (VERSION_2, {}, None),
        ("", {"cpu.max": "100000 100000"}, None),
        (VERSION_1, {"cpu/a/b/cpu.cfs_quota_us": "250000\n", "cpu/a/b/cpu.cfs_period_us": "100000\n"}, 3),
        (VERSION_1, {"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "50000\n"}, 1),
        (VERSION_1, {"cpu/a/b/cpu.cfs_quota_us": "-1\n", "cpu/a/b/cpu.cfs_period_us": "100000\n"}, None),
        (VERSION_1, {"cpu/a/b/cpu.cfs_quota_us": "100000\n"}, None),
    ],
)
def test_the_quota_of_the_control_groups(tmp_path, monkeypatch, membership, files, quota):
    (tmp_path / "membership").write_text(membership)
    for name, text in files.items():
        (tmp_path / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / name).write_text(text)
    monkeypatch.setattr(_threads, "MEMBERSHIP", tmp_path / "membership")
    monkeypatch.setattr(_threads, "CGROUPS", tmp_path / "groups")
    assert READ_QUOTA() == quota


def test_a_system_without_control_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(_threads, "MEMBERSHIP", tmp_path / "missing")
    assert READ_QUOTA() is None


def test_the_smallest_decides(monkeypatch):
    monkeypatch.setattr(_threads, "cpu_quota", lambda: 6)
    assert _threads.decision() == (6, "the CPU quota of this process's control group")
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert _threads.decision() == (5, "OMP_NUM_THREADS")
    monkeypatch.setitem(sys.modules, "threadpoolctl", pools(7, 4))
    assert _threads.decision() == (4, "lib1 is limited to it, says threadpoolctl")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(2), raising=False)
    assert _threads.decision() == (2, "the CPUs that this process may run on")


@pytest.mark.parametrize(
    "control",
    [
        pools(),
        pools(None, 9),
        pools(1, threading_layer="disabled"),  # an OpenBLAS that was built without threads
        pools(1, threading_layer="sequential", internal_api="mkl"),
        pools(1, internal_api="blis"),  # 1 unless it is told a number
        pools(1, internal_api="flexiblas"),
        SimpleNamespace(),  # version 2, or another thread is just importing it
        None,
    ],
)
def test_what_is_no_limit(monkeypatch, control):
    monkeypatch.setitem(sys.modules, "threadpoolctl", control)
    assert _threads.decision() == (8, "the CPUs that this process may run on")


def test_pools_are_looked_for_once_and_again_after_an_import(monkeypatch):
    looks = []

    def controller():
        looks.append(None)
        return pools(8 - len(looks), internal_api="openmp").ThreadpoolController()

    monkeypatch.setitem(sys.modules, "threadpoolctl", SimpleNamespace(ThreadpoolController=controller))
    assert [fnn.get_threads() for _ in range(3)] == [7, 7, 7]
    monkeypatch.setitem(sys.modules, "a_module_with_a_library", SimpleNamespace())
    assert [fnn.get_threads() for _ in range(3)] == [6, 6, 6]
    assert len(looks) == 2


def test_threadpoolctl_s_limit_is_kept():
    """The real one, over NumPy's BLAS and over a library that is loaded later (scikit-learn's OpenMP)."""
    done = python(
        "import os\n"
        "os.sched_getaffinity = lambda process: range(8)\n"
        "import fnn, sys, numpy\n"
        "from fnn import _dispatch\n"
        "real, seen = _dispatch.kernels.Workspace, []\n"
        "def workspace(*arguments):\n"
        "    seen.append(arguments[-1])\n"
        "    return real(*arguments)\n"
        "_dispatch.kernels.Workspace = workspace\n"
        "def fit(**options):\n"
        "    fnn.Network([2, 1]).fit([[1, 2]], [3], **options)\n"
        "fnn.get_threads()\n"
        "assert 'threadpoolctl' not in sys.modules\n"
        "from threadpoolctl import threadpool_limits\n"
        "for count in (3, 1, 2):\n"
        "    with threadpool_limits(count):\n"
        "        fit()\n"
        "        fit(threads=5)\n"
        "    print(seen[-2:])\n"
        "import sklearn.cluster\n"
        "threadpool_limits(7)\n"
        "with threadpool_limits(4, user_api='openmp'):\n"
        "    print(fnn._threads.decision()[1])\n"
        "    fit()\n"
        "print(seen[-1])\n"
        "with threadpool_limits(1):\n"
        "    fnn.set_threads(6)\n"
        "    fit()\n"
        "print(seen[-1])\n",
        OMP_NUM_THREADS="7",
        OPENBLAS_NUM_THREADS="7",
        FNN_BACKEND="numpy",  # whose Workspace can be replaced
    )
    assert done.returncode == 0, done.stderr
    *limited, reason, openmp, wished = done.stdout.splitlines()
    assert limited == ["[3, 5]", "[1, 5]", "[2, 5]"]
    assert "omp is limited to it, says threadpoolctl" in reason
    assert (openmp, wished) == ("4", "6")


def test_show_config_says_how_many_and_why(capsys, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3,1")
    fnn.show_config()
    assert "\nthreads: 3 at most (OMP_NUM_THREADS)" in capsys.readouterr().out
    fnn.set_threads(2)
    assert main(["config"]) == 0
    assert "\nthreads: 2 at most (set_threads asked for it)" in capsys.readouterr().out


def test_show_config_says_whose_threads_they_are(capsys, backend):
    fnn.show_config()
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith("threads: 8 at most (the CPUs that this process may run on)")
    assert line.endswith("; the numpy backend leaves it to NumPy") == (backend == "numpy")


def test_the_affinity_of_a_real_process_counts():
    done = python(
        "import os\n"
        "if hasattr(os, 'sched_setaffinity'):\n"
        "    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
        "else:\n"
        "    os.cpu_count = lambda: 1\n"
        "import fnn\n"
        "print(fnn.get_threads())"
    )
    assert done.stdout == "1\n", done.stderr
