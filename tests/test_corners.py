"""Corners in `Network`: how they start, what the class makes of the same numbers, and what goes with them."""

from itertools import pairwise

import numpy as np
import pytest

import fnn
from fnn._formulas import CORNER_START
from small_regression import ROWS, SIZES


def network(seed=1):
    """A network with a corner everywhere, each neuron's its own."""
    net = fnn.Network(SIZES, activation="corner", output="corner", init="reference", seed=seed)
    rng = np.random.default_rng(seed)
    net.corners = [rng.uniform(-1, 1, corner.shape) for corner in net.corners]
    return net


# ---- The network -----------------------------------------------------------------------------------


@pytest.mark.parametrize("init", ["glorot", "he", "reference", "zeros"])
def test_it_starts_as_leaky_relu(data, init):
    net = fnn.Network([5, 7, 3], activation="corner", output="corner", init=init)
    for corner in net.corners:
        assert corner.T.tolist() == [[float(np.float32(number)) for number in CORNER_START]] * corner.shape[1]
    leaky = fnn.Network([5, 7, 3], activation="leaky_relu", output="leaky_relu", init=init)
    np.testing.assert_array_equal(net.weights[0], leaky.weights[0])
    np.testing.assert_array_equal(net.forward(data[0]), leaky.forward(data[0]))


def test_the_views_are_of_the_vector():
    net = fnn.Network([fnn.Input(2), fnn.Dense(3, "corner"), fnn.Dense(1)])
    assert [corner.shape for corner in net.corners] == [(3, 3), (0, 1)]
    net.corners[0] = np.arange(9).reshape(3, 3)
    assert net.parameters[9:18].tolist() == list(range(9))
    with pytest.raises(ValueError, match=r"layer 1 corners: expected \(3, 3\), got \(3,\)"):
        net.corners[0] = [1, 2, 3]


def test_none_are_assigned_where_there_are_none():
    net = fnn.Network([3, 4, 2])
    net.corners = net.corners
    net.corners[1] = np.empty((0, 2))


def test_repr_and_summary():
    net = fnn.Network(SIZES, activation="corner", output="corner")
    assert repr(net) == "Network([5, 7, 6, 3], activation='corner', output='corner', dtype='float32')"
    assert [line.split()[-1] for line in net.summary().splitlines()] == ["parameters", "0", "63", "66", "30", "159"]
    with pytest.raises(ValueError, match="only leaky_relu has a slope"):
        fnn.Dense(3, "corner", 0.3)


def test_it_goes_with_squared_error_only(data):
    with pytest.raises(ValueError, match="goes with output activation sigmoid; this network's is corner"):
        network().fit(data[0], np.abs(data[1]), loss="binary_cross_entropy")


def test_scikit_learn_has_none():
    pytest.importorskip("sklearn")
    with pytest.raises(ValueError, match="in layer 1, as scikit-learn has it, got corner"):
        fnn.to_sklearn(fnn.Network([2, 3, 1], activation="corner"))
    with pytest.raises(ValueError, match="as output, got corner"):
        fnn.to_sklearn(fnn.Network([2, 3, 1], output="corner"))


# ---- The class --------------------------------------------------------------------------------------


def the_class(net):
    """A FloatNeuralNet with the numbers of a Network."""
    made = fnn.FloatNeuralNet(SIZES, "corner", fnn.Options(total_gradient=True, weight_saturation=9.0))
    for level, block in enumerate(zip(net.weights, net.biases, strict=True), start=1):
        made.set_level(level, np.vstack(block))
        made.set_corners(level, net.corners[level - 1].T)
    return made


def test_outputs_and_slopes_are_those_of_the_class(backend, data):
    """All but the biases' slopes: what the class takes for them is no derivative."""
    x, y = data
    net = network()
    other = the_class(net)
    np.testing.assert_allclose(net.predict(x), other.compute(x)[0], rtol=1e-5, atol=1e-6)
    _, gradient = net.loss_and_gradient(x, y, reduction="sum")
    other.start_training_pass()
    other.train(x, y, 0.0)
    other.end_training_pass()
    weights, corners, start, corner_start = other.total_gradient, other.total_corners_gradient, 0, 0
    for ours, our_corners in zip(net.layout.blocks(gradient), net.layout.corners(gradient), strict=True):
        theirs = weights[start : start + ours.size].reshape(ours.shape)
        np.testing.assert_allclose(ours[:-1], theirs[:-1], rtol=1e-4, atol=1e-4)
        assert not np.allclose(ours[-1], theirs[-1], rtol=1e-2)
        their_corners = corners[corner_start : corner_start + our_corners.size].reshape(-1, 3)
        np.testing.assert_allclose(our_corners.T, their_corners, rtol=1e-4, atol=1e-4)
        start, corner_start = start + ours.size, corner_start + our_corners.size


# ---- What trains with it ----------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 8, ROWS])
@pytest.mark.parametrize("optimizer", [fnn.SGD(0.01), fnn.SGD(0.001, momentum=0.9), fnn.Adam(0.01), fnn.FISTA(0.005)])
def test_every_optimizer_trains_slopes_and_offsets(backend, data, optimizer, batch_size):
    net = fnn.Network(SIZES, activation="corner", output="corner", init="reference")
    before = [corner.copy() for corner in net.corners]
    history = net.fit(*data, epochs=5, batch_size=batch_size, optimizer=optimizer)
    assert history.loss[-1] < history.loss[0]
    for corner, old in zip(net.corners, before, strict=True):
        assert (corner != old).any(axis=1).all()


@pytest.mark.parametrize(
    "callback",
    [fnn.AutoRate(), fnn.AutoRate2(), fnn.ReclaimDeadNeurons(), fnn.Emphasis(), fnn.TweakGradient()],
    ids=lambda callback: type(callback).__name__,
)
def test_callbacks_that_plan_epochs(backend, data, callback):
    net = network()
    before = [corner.copy() for corner in net.corners]
    history = net.fit(*data, epochs=6, batch_size=ROWS, callbacks=callback, optimizer=fnn.SGD(0.005))
    assert history.loss[-1] < history.loss[0]
    assert all((corner != old).any() for corner, old in zip(net.corners, before, strict=True))


def test_limits_hold_for_corners_too(backend, data):
    net = network()
    net.fit(*data, epochs=3, saturation=0.5, weight_floor=0.125)
    for corner in net.corners:
        assert np.abs(corner).max() <= 0.5
        assert np.abs(corner).min() >= 0.125


def test_gradient_flow_counts_corners(backend, data):
    net, (x, y) = network(), data
    flow = fnn.GradientFlow(x, y, "squared_error", ROWS // 2, 2)
    flow(net)
    gradients = [net.loss_and_gradient(x[rows], y[rows])[1] for rows in (slice(0, ROWS // 2), slice(ROWS // 2, ROWS))]
    ends = pairwise(net.layout.offsets)
    expected = [np.mean([np.linalg.norm(gradient[start:end]) for gradient in gradients]) for start, end in ends]
    np.testing.assert_allclose(flow.gradient_norms[0], expected, rtol=1e-5)


def test_a_saved_network_is_the_same(data, tmp_path):
    net = network()
    net.save(tmp_path / "net.fnn")
    again = fnn.load(tmp_path / "net.fnn")
    assert repr(again) == repr(net)
    np.testing.assert_array_equal(again.parameters, net.parameters)
    np.testing.assert_array_equal(again.predict(data[0]), net.predict(data[0]))
