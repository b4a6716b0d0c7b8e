import os
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import fnn
from fnn import _dispatch
from interpreter import SOURCE, python

PROJECT = Path(__file__).parent.parent
KERNELS = sorted((PROJECT / "src" / "fnn").glob("*.pyx"))


@pytest.mark.parametrize("name", fnn.available_backends())
def test_the_variable_forces_a_backend(name):
    done = python("import fnn; print(fnn.backend()); fnn.show_config()", FNN_BACKEND=name)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == name
    assert "FNN_BACKEND asks for it" in done.stdout


def test_without_the_variable_the_best_is_chosen():
    done = python("import fnn; print(fnn.backend()); fnn.show_config()")
    assert done.stdout.splitlines()[0] == fnn.available_backends()[0]
    assert "the best that was built" in done.stdout
    assert all(name in done.stdout for name in _dispatch.MODULES)


def test_a_wrong_name_in_the_variable_lists_the_choices():
    done = python("import fnn", FNN_BACKEND="avx9000")
    assert done.returncode == 1
    choices = ", ".join(fnn.available_backends())
    assert f"ValueError: FNN_BACKEND: expected one of {choices}, got 'avx9000'" in done.stderr


def test_a_backend_that_was_not_built_says_so_and_numpy_runs():
    hide = (
        "import importlib.util as u, sys\n"
        "real = u.find_spec\n"
        "u.find_spec = lambda name: None if '_backprop_' in name and 'numpy' not in name else real(name)\n"
        "import fnn\n"
        "print(fnn.available_backends(), fnn.backend())\n"
        "fnn.show_config()\n"
    )
    done = python(hide)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "('numpy',) numpy"
    assert "not part of this installation" in done.stdout
    forced = python(hide, FNN_BACKEND="baseline")
    assert forced.returncode == 1
    assert (
        "FNN_BACKEND: baseline cannot run here (not part of this installation); expected one of numpy" in forced.stderr
    )


def test_a_failed_build_is_remembered(tmp_path, monkeypatch):
    note = tmp_path / "_build_note.txt"
    note.write_text("CompileError: no compiler\n")
    monkeypatch.setattr(_dispatch, "BUILD_NOTE", note)
    monkeypatch.setattr(_dispatch, "find_spec", lambda name: None)
    assert _dispatch.obstacle("baseline") == "not built: CompileError: no compiler"
    assert _dispatch.available_backends() == ("numpy",)


def test_set_backend_switches_and_refuses(backend):
    assert fnn.backend() == backend
    assert _dispatch.kernels.__name__ == _dispatch.MODULES[backend]
    with pytest.raises(ValueError, match=r"^name: expected one of .*numpy, got 'x86-64-v9'$"):
        fnn.set_backend("x86-64-v9")
    with pytest.raises(ValueError, match=r"^name: expected one of .*, got None$"):
        fnn.set_backend(None)
    assert fnn.backend() == backend


@pytest.mark.parametrize("name", fnn.available_backends())
def test_the_name_is_that_of_the_kernels(name, monkeypatch):
    """It is kept nowhere else, so that threads which switch at once cannot leave one with the other's name."""
    monkeypatch.setattr(_dispatch, "kernels", import_module(_dispatch.MODULES[name]))
    assert fnn.backend() == name


@pytest.mark.parametrize("source", KERNELS, ids=lambda path: path.name)
def test_the_compiled_modules_do_not_need_the_gil(source):
    """Else a free-threaded Python would switch its lock back on when it imports them."""
    directives = [line for line in source.read_text().splitlines() if line.startswith("# cython: ")]
    assert "freethreading_compatible=True" in " ".join(directives)


def test_the_directive_reaches_the_c_code(tmp_path):
    command = [
        sys.executable,
        "-m",
        "cython",
        "-o",
        str(tmp_path / "_cpu.c"),
        str(PROJECT / "src" / "fnn" / "_cpu.pyx"),
    ]
    subprocess.run(command, check=True, timeout=120)
    code = (tmp_path / "_cpu.c").read_text()
    declared = [line.split()[2] for line in code.splitlines() if "define __Pyx_FREETHREADING_COMPATIBLE" in line]
    assert declared[-1] == "Py_MOD_GIL_NOT_USED"  # the last is for CPython, those before for other interpreters
    assert "{Py_mod_gil, __Pyx_FREETHREADING_COMPATIBLE}" in code


def test_a_cpu_that_lacks_the_instructions_is_named(monkeypatch):
    if "baseline" not in fnn.available_backends():
        assert _dispatch.obstacle("x86-64-v4") is not None
        return
    from fnn import _cpu

    monkeypatch.setattr(_cpu, "levels", frozenset)
    monkeypatch.setattr(_dispatch, "find_spec", lambda name: object())
    assert _dispatch.obstacle("x86-64-v4") == "this CPU lacks AVX-512"
    assert _dispatch.available_backends() == ("baseline", "numpy")
    with pytest.raises(ValueError, match=r"name: x86-64-v3 cannot run here \(this CPU lacks AVX2 and FMA\)"):
        fnn.set_backend("x86-64-v3")


def test_import_takes_numpy_and_the_standard_library_only():
    done = python(
        "import sys, fnn\n"
        "fnn.Network([2, 1]).fit([[1, 2]], [3])\n"
        "fnn.show_config()\n"
        "outside = 'sklearn', 'scipy', 'joblib', 'threadpoolctl', 'matplotlib', 'pandas', 'torch', 'rich', 'argparse'\n"
        "print(sorted(set(outside) & set(sys.modules)))"
    )
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_the_version_is_pyproject_s():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert fnn.__version__ == project["version"]


def test_every_public_name_is_there_and_described():
    assert sorted(fnn.__all__) == sorted(set(fnn.__all__))
    for name in set(fnn.__all__) - {"activations", "losses", "__version__"}:
        assert getattr(fnn, name).__doc__


def test_the_session_ends_where_an_expected_backend_is_missing(tmp_path):
    tests = Path(__file__).parent  # conftest.py imports from there
    (tmp_path / "test_nothing.py").write_text("def test_nothing(): pass\n")
    (tmp_path / "conftest.py").write_text((tests / "conftest.py").read_text())
    for expected, status in (("numpy, avx9000", 3), ("numpy", 0)):
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
            env=os.environ | {"PYTHONPATH": f"{SOURCE}{os.pathsep}{tests}", "FNN_EXPECT_BACKENDS": expected},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        assert ("avx9000 cannot run here" in done.stdout + done.stderr) == (status == 3)
