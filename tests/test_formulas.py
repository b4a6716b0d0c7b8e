import numpy as np
import pytest

import fnn
from fnn import _backprop_numpy
from fnn._formulas import ACTIVATIONS, LOSSES, find_activation, find_loss

# By hand, from the definitions.
EXPECTED = {
    "identity": ([-2, 0, 3], [1, 1, 1]),
    "relu": ([0, 0, 3], [0, 0, 1]),
    "leaky_relu": ([-0.02, 0, 3], [0.01, 0.01, 1]),
    "tanh": ([-0.9640275800758169, 0, 0.9950547536867305], [0.07065082485316447, 1, 0.009866037165440192]),
    "sigmoid": ([0.11920292202211755, 0.5, 0.9525741268224334], [0.1049935854035065, 0.25, 0.04517665973091214]),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_activation_and_derivative(name):
    v = _backprop_numpy.activate(np.array([[-2.0, 0.0, 3.0]]), ACTIVATIONS[name])
    np.testing.assert_allclose(v, [EXPECTED[name][0]], rtol=1e-15)
    np.testing.assert_allclose(_backprop_numpy.derivative_factor(v, ACTIVATIONS[name]), [EXPECTED[name][1]], rtol=1e-13)


def test_a_corner_and_its_derivative():
    z, corner, s = (
        np.array([[-2.0, 0.0, 3.0]]),
        np.array([[0.5] * 3, [0.25] * 3, [2.0] * 3]),
        np.array([[1.0, 2.0, 4.0]]),
    )
    np.testing.assert_array_equal(_backprop_numpy.bend(z, corner), [[-0.75, 0.25, 6.25]])
    g, shares = _backprop_numpy.bend_back(z, corner, s)
    np.testing.assert_array_equal(g, [[0.5, 2.5, 8]])
    np.testing.assert_array_equal(shares, [[[-2, 0, 0]], s, [[0, 0, 12]]])


def test_softmax_of_a_row():
    z = np.log(np.array([[1.0, 2.0, 5.0]])) + 1000
    np.testing.assert_allclose(_backprop_numpy.activate(z, fnn.activations.softmax), [[0.125, 0.25, 0.625]], rtol=1e-12)


def test_every_formula_says_what_it_is_and_where_it_comes_from():
    for known in (*ACTIVATIONS.values(), *LOSSES.values()):
        assert all((known.formula, known.derivative, known.domain, known.source))
    assert [a.code for a in ACTIVATIONS.values()] == list(range(8))
    assert [loss.code for loss in LOSSES.values()] == list(range(4))
    assert set(EXPECTED) | {"softmax", "exp", "corner"} == set(ACTIVATIONS)


def test_names_and_members_find_the_same():
    assert find_activation("relu", "activation") is fnn.activations.relu
    assert find_activation(fnn.activations.tanh, "activation") is fnn.activations.tanh
    assert find_loss("cross_entropy") is fnn.losses.cross_entropy
    assert find_loss(fnn.losses.squared_error) is fnn.losses.squared_error


@pytest.mark.parametrize("wrong", ["rely", "", None, 3, ["relu"], fnn.losses.squared_error])
def test_an_unknown_activation_is_refused_with_the_choices(wrong):
    with pytest.raises(
        ValueError,
        match=r"^output: expected one of identity, relu, leaky_relu, tanh, sigmoid, softmax, exp, corner, got",
    ):
        find_activation(wrong, "output")


@pytest.mark.parametrize("wrong", ["mse", None, 0, fnn.activations.relu])
def test_an_unknown_loss_is_refused_with_the_choices(wrong):
    with pytest.raises(
        ValueError, match=r"^loss: expected one of squared_error, cross_entropy, binary_cross_entropy, poisson, got"
    ):
        find_loss(wrong)


def test_only_leaky_relu_has_a_slope_to_set():
    steep = fnn.activations.leaky_relu.with_slope(np.float32(0.5))
    assert steep.slope == 0.5
    assert fnn.activations.leaky_relu.slope == 0.01
    np.testing.assert_array_equal(_backprop_numpy.activate(np.array([[-2.0, 2.0]]), steep), [[-1, 2]])
    with pytest.raises(ValueError, match=r"slope: only leaky_relu has a slope, got slope=0.1 for relu"):
        fnn.activations.relu.with_slope(0.1)


@pytest.mark.parametrize("wrong", [-0.1, float("nan"), float("inf"), "0.1", None])
def test_a_slope_out_of_range_is_refused(wrong):
    with pytest.raises(ValueError, match=r"^slope: expected a finite number >= 0, got"):
        fnn.activations.leaky_relu.with_slope(wrong)
