"""Fixtures for all tests, and the rule that no build may be missing unnoticed."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:  # NumPy's threads spin after a product, on CPUs that other workers need
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest
from hypothesis import settings

import fnn
import small_regression
from fnn import _dispatch

settings.register_profile("fnn", deadline=None)  # a busy machine is no failure
settings.load_profile("fnn")


def pytest_sessionstart(session):
    """End the session if FNN_EXPECT_BACKENDS (names, separated by commas) lists a backend that cannot run."""
    expected = {name.strip() for name in os.environ.get("FNN_EXPECT_BACKENDS", "").split(",")} - {""}
    missing = expected - set(fnn.available_backends())
    if missing:
        names = ", ".join(sorted(missing))
        pytest.exit(f"FNN_EXPECT_BACKENDS: {names} cannot run here\n{_dispatch.config()}", returncode=3)


@pytest.fixture(params=fnn.available_backends())
def backend(request):
    """Every backend that runs here, in turn; the one before comes back afterwards."""
    before = fnn.backend()
    fnn.set_backend(request.param)
    yield request.param
    fnn.set_backend(before)


@pytest.fixture
def data():
    """The small regression, where a file of tests has no data of its own."""
    return small_regression.rows()
