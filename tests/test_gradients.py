"""Every gradient beside central differences of fourth order: each activation with each loss, in float64.

The difference quotient D(h) = (8 (f(h) - f(-h)) - (f(2h) - f(-2h))) / 12h misses the derivative by h**4/30 of the fifth
derivative, and by 18/12 of the rounding of f over h.  D(2h) misses it by 16 times as much of the former, so that
|D(2h) - D(h)| / 15 estimates the former; and 1.5 |df| / h bounds the latter, where f's own rounding df is some tens of
units of roundoff for the nets below.
"""

from dataclasses import replace

import numpy as np
import pytest

import fnn
from agreement import PAIRS, ByOracle, make_case
from fnn import _backprop_numpy, _dispatch

HIDDEN = ["identity", "relu", "leaky_relu", "tanh", "sigmoid", "corner"]
H = 1e-3
ROUNDINGS = 50  # units of roundoff in a loss of a few dozen terms
U = 2.0**-53

CASES = [(*pair, False) for pair in PAIRS] + [("cross_entropy", "softmax", True)]


def difference(function, h):
    """D(h) at 0."""
    return (8 * (function(h) - function(-h)) - (function(2 * h) - function(-2 * h))) / (12 * h)


def check_slope(function, slope, h, what):
    """Assert that `slope` is the derivative of `function` at 0, within what the difference quotient can tell."""
    found = difference(function, h)
    truncation = abs(difference(function, 2 * h) - found) / 15
    bound = 2 * truncation + 1.5 * ROUNDINGS * U / h * max(abs(function(0)), 1e-3)
    assert abs(found - slope) <= bound, f"{what}: expected {found!r} within {bound:.3g}, got {slope!r}"
    return bound


def kinks_within(case, reach):
    """Whether a step of `reach` in a parameter may carry a neuron across the kink of its activation."""
    layers, near = case.x, False
    parts = (case.layout.blocks(case.parameters), case.layout.corners(case.parameters), case.layout.activations)
    for block, corner, phi in zip(*parts, strict=True):
        z = layers @ block[:-1] + block[-1]
        near |= phi.name in ("relu", "leaky_relu", "corner") and bool(np.abs(z).min() < reach)
        layers = _backprop_numpy.bend(z, corner) if len(corner) else _backprop_numpy.activate(z, phi)
    return near


@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.parametrize(("loss", "output", "labels"), CASES)
def test_every_activation_with_every_loss(backend, loss, output, labels, hidden):
    seeds = (
        make_case((3, 4, 3, 3), 5, hidden=hidden, output=output, loss=loss, labels=labels, dtype="float64", seed=seed)
        for seed in range(100)
    )
    case = next(case for case in seeds if not kinks_within(case, 20 * H))
    scale = 1 / 5
    _, gradient = _dispatch.kernels.loss_and_gradient(case.layout, case.parameters, case.x, case.y, case.loss, scale, 1)
    assert np.abs(gradient).max() > 0.05
    for index, slope in enumerate(gradient):

        def along(h, index=index):
            moved = case.parameters.copy()
            moved[index] += h
            return _dispatch.kernels.loss_and_gradient(case.layout, moved, case.x, case.y, case.loss, scale, 1)[0]

        bound = check_slope(along, slope, H, f"parameter {index}")
        assert bound < 1e-7


def test_slope_of_leaky_relu(backend):
    for slope in (0.0, 0.3, 1.0, 2.5):
        seeds = (make_case((3, 5, 2), 4, hidden="leaky_relu", slope=slope, dtype="float64", seed=n) for n in range(100))
        case = next(case for case in seeds if not kinks_within(case, 20 * H))
        check_directions(case, _dispatch.kernels.loss_and_gradient, H, 10)


@pytest.mark.parametrize(("sizes", "rows"), [((784, 128, 10), 64), ((50, 70, 60, 50, 40, 30), 33), ((20,) * 12, 20)])
@pytest.mark.parametrize("hidden", ["relu", "tanh", "sigmoid"])
def test_random_directions_in_larger_nets(backend, sizes, rows, hidden):
    """The slope along a random direction of length 1: all parameters at once.

    A ReLU may cross its kink on the way, so that the steps are short there and the quotient a little less exact.
    """
    case = make_case(sizes, rows, hidden=hidden, output="softmax", loss="cross_entropy", labels=True, dtype="float64")
    check_directions(case, _dispatch.kernels.loss_and_gradient, 1e-6 if hidden == "relu" else H, 5)


def check_directions(case, loss_and_gradient, h, directions):
    args = case.x, case.y, case.loss, 1 / len(case.x), 2
    gradient = loss_and_gradient(case.layout, case.parameters, *args)[1]
    rng = np.random.default_rng(8)
    for _ in range(directions):
        direction = rng.normal(size=gradient.shape)
        direction /= np.linalg.norm(direction)

        def along(step, direction=direction):
            return loss_and_gradient(case.layout, case.parameters + step * direction, *args)[0]

        bound = check_slope(along, float(gradient @ direction), h, f"direction in {case.layout.sizes}")
        assert bound < 1e-3 * np.linalg.norm(gradient)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize(("loss", "output", "labels"), CASES)
def test_network(backend, loss, output, labels, reduction):
    """The same through the public method, which leaves the network as it is."""
    network = fnn.Network([4, 6, 3], activation="tanh", output=output, dtype="float64", init="reference")
    case = make_case((4, 6, 3), 7, output=output, loss=loss, labels=labels, dtype="float64", seed=1)
    before = network.parameters.copy()
    case = replace(case, layout=network.layout, parameters=before)
    assert not kinks_within(case, 20 * H)
    value, gradient = network.loss_and_gradient(case.x, case.y, loss=loss, reduction=reduction)
    assert np.array_equal(network.parameters, before)
    assert gradient.shape == before.shape
    assert gradient.dtype == before.dtype
    z, y = _backprop_numpy.forward(case.layout, before, case.x)[-1], case.targets(np.arange(7))
    losses, _ = ByOracle.output_delta(z, y, case.loss, case.layout.activations[-1])
    assert value == pytest.approx(losses.mean() if reduction == "mean" else losses.sum(), rel=1e-14)
    for index, slope in enumerate(gradient):

        def along(h, index=index):
            network.parameters[:] = before
            network.parameters[index] += h
            return network.loss_and_gradient(case.x, case.y, loss=loss, reduction=reduction)[0]

        check_slope(along, slope, H, f"parameter {index}")


def test_difference_can_fail():
    """A quotient of the right function with a slope that is off by a millionth."""
    check_slope(np.sin, 1.0, H, "sine")
    with pytest.raises(AssertionError, match="sine"):
        check_slope(np.sin, 1.000001, H, "sine")
