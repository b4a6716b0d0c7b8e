"""The elementary functions keep the bounds of docs/vector-math.md on every build, and the check of that can fail."""

import re
from pathlib import Path

import numpy as np
import pytest

import elementary
from elementary import BOUNDS

DTYPES = ["float32", "float64"]
DOCS = Path(__file__).parents[1] / "docs" / "vector-math.md"


@pytest.fixture(scope="module", params=elementary.builds())
def module(request, tmp_path_factory):
    """The functions, built for each instruction set in turn."""
    return elementary.built(tmp_path_factory.mktemp("math"), request.param, "-O2 " + elementary.builds()[request.param])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("function", BOUNDS)
def test_bounds_over_the_whole_range(module, function, dtype):
    elementary.check(module, function, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("function", "x", "v"),
    [
        ("exp", [-np.inf, -0.0, 0, np.inf, np.nan], [0, 1, 1, np.inf, np.nan]),
        ("log", [-np.inf, -1, -0.0, 0, 1, np.inf, np.nan], [np.nan, np.nan, -np.inf, -np.inf, 0, np.inf, np.nan]),
        ("log1p", [-np.inf, -2, -1, -0.0, 0, np.inf, np.nan], [np.nan, np.nan, -np.inf, -0.0, 0, np.inf, np.nan]),
        ("tanh", [-np.inf, -0.0, 0, np.inf, np.nan], [-1, -0.0, 0, 1, np.nan]),
        ("sigmoid", [-np.inf, -0.0, 0, np.inf, np.nan], [0, 0.5, 0.5, 1, np.nan]),
    ],
)
def test_special_values(module, function, x, v, dtype):
    got = elementary.values(module, function, np.array(x, dtype))
    assert np.array_equal(got, np.array(v, dtype), equal_nan=True)
    assert np.array_equal(np.signbit(got[~np.isnan(got)]), np.signbit(np.array(v))[~np.isnan(v)])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("function", BOUNDS)
def test_a_value_does_not_depend_on_its_lane(module, function, dtype):
    x = np.linspace(-3, 3, 7).astype(dtype)
    alone = [elementary.values(module, function, np.repeat(number, 16))[5] for number in x]
    assert np.array_equal(elementary.values(module, function, x), alone, equal_nan=True)


@pytest.mark.parametrize("function", ["exp", "tanh", "sigmoid", "log1p", "log"])
def test_the_judge_in_decimals_agrees_with_libm(function):
    x = np.concatenate([np.geomspace(1e-300, 700, 500), np.geomspace(1e-13, 1e-9, 50)])
    high, low = elementary.exactly(function, x)
    np.testing.assert_allclose(high, elementary.in_double(function, x), rtol=8 * 2.0**-52)
    assert (np.abs(low) <= 0.5).all()


def test_ulps_are_those_of_the_definition():
    info = np.finfo(np.float32)
    got = np.array([1 + info.eps, 1, 0, info.smallest_subnormal, np.inf, info.max, np.nan, 0.0, 2.0], np.float32)
    want = np.array([1, 1 + info.eps, -0.0, 0, info.max, 2.0**128, 1, np.nan, 2 - float(info.eps) / 2], np.float64)
    off = elementary.ulps(got, want, np.zeros(9))
    assert off.tolist() == [1, 1, np.inf, 1, 1, np.inf, np.inf, np.inf, 0.5]


def test_the_documented_bounds_are_those_tested():
    rows = re.findall(r"^\| (\w+) \| ([\d.]+) \|", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    assert {name: float(bound) for name, bound in rows} == BOUNDS
