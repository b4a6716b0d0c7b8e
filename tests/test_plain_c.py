"""The kernels in plain C, as compilers without GCC's vector extensions build them: they pass the checks of the others.

They are built with the compiler at hand, told to use no extension of C11.
"""

import shutil

import numpy as np
import pytest

import fnn
import trajectories
from compiling import PACKAGE, compiled
from fnn import _dispatch
from test_can_fail import CHECKS
from test_passes_can_fail import odd

PLAIN_C = "-O1 -DFNN_PLAIN_C -std=c11 -pedantic-errors"

if len(fnn.available_backends()) > 1:  # where nothing was compiled there is nothing to build

    @pytest.fixture(scope="module")
    def build(tmp_path_factory):
        """Build a kernel source in a folder of its own, under a name of its own."""

        def built(name, flags):
            folder = tmp_path_factory.mktemp(name)
            shutil.copyfile(PACKAGE / f"{name}.pyx", folder / f"{name}_plain_c.pyx")
            for part in PACKAGE.glob(f"{name}_*.pxi"):  # which it includes
                shutil.copy(part, folder)
            return compiled(folder / f"{name}_plain_c.pyx", flags)

        return built

    @pytest.fixture(scope="module")
    def kernels(build):
        return build("_backprop", PLAIN_C)

    @pytest.fixture(scope="module")
    def pass_kernels(build):
        return build("_pass", f"{PLAIN_C} -ffp-contract=off")

    @pytest.mark.parametrize("check", CHECKS)
    def test_kernels(kernels, check):
        with np.errstate(all="ignore"):
            CHECKS[check](kernels)

    @pytest.mark.parametrize("name", trajectories.NAMES)
    def test_trajectories(pass_kernels, name, monkeypatch, tmp_path):
        monkeypatch.setattr(_dispatch, "pass_kernels", lambda: pass_kernels)
        trajectories.replay(name, trajectories.run_as_whole, tmp_path)

    def test_what_no_trajectory_reaches(pass_kernels, monkeypatch):
        monkeypatch.setattr(_dispatch, "pass_kernels", lambda: pass_kernels)
        with np.errstate(all="ignore"):
            odd()
