"""The GradientFlow callback: its figures beside those of loss_and_gradient, and its plot."""

import re
import sys
import xml.etree.ElementTree

import numpy as np
import pytest

import fnn
from fnn._gradient_flow import mean_cosine

ROWS, BATCH, BATCHES = 40, 8, 3


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(ROWS, 5)), rng.integers(0, 3, ROWS)


def network():
    return fnn.Network(
        [
            fnn.Input(5),
            fnn.Dense(6, "tanh"),
            fnn.Dense(6, "tanh"),
            fnn.Dense(6, "tanh", skip=1),
            fnn.Dense(3, "softmax", skip=3, skip_mode="concat"),
        ],
        dtype="float64",
    )


def test_figures_are_those_of_the_gradients(backend, data):
    x, y = data
    net, flow = network(), fnn.GradientFlow(x, y, "cross_entropy", BATCH, BATCHES)
    flow(net)
    batches = [slice(start, start + BATCH) for start in range(0, BATCH * BATCHES, BATCH)]
    gradients = [net.loss_and_gradient(x[rows], y[rows], "cross_entropy")[1] for rows in batches]
    for layer, (start, end) in enumerate(zip(net.layout.offsets[:-1], net.layout.offsets[1:], strict=True)):
        parts = [gradient[start:end] for gradient in gradients]
        assert flow.gradient_norms[0, layer] == pytest.approx(np.mean([np.linalg.norm(part) for part in parts]))
        units = [part / np.linalg.norm(part) for part in parts]
        cosines = [units[a] @ units[b] for a in range(BATCHES) for b in range(a)]
        assert flow.alignment[0, layer] == pytest.approx(np.mean(cosines))
    # A row's delta is the slope by the biases of a batch of that row alone.
    norms = []
    for row in range(BATCH * BATCHES):
        slope = net.loss_and_gradient(x[row : row + 1], y[row : row + 1], "cross_entropy")[1]
        norms.append([np.linalg.norm(bias) for bias in net.layout.biases(slope)])
    assert flow.delta_norms[0] == pytest.approx(np.mean(norms, axis=0))


def test_fit_records_every_epoch_and_trains_as_without_it(backend, data):
    x, y = data
    nets = [network(), network()]
    flow = fnn.GradientFlow(x, y, "cross_entropy", BATCH, BATCHES)
    flow(nets[0])
    nets[0].fit(x, y, loss="cross_entropy", epochs=2, callbacks=flow)
    nets[1].fit(x, y, loss="cross_entropy", epochs=2)
    assert np.array_equal(nets[0].parameters, nets[1].parameters)
    for record in (flow.gradient_norms, flow.delta_norms, flow.alignment):
        assert record.shape == (3, 4)
        assert not np.array_equal(record[0], record[1])


def test_mean_cosine():
    v = np.array([3.0, 4.0])
    assert mean_cosine(np.array([v, 2 * v])) == pytest.approx(1)
    assert mean_cosine(np.array([v, -v])) == pytest.approx(-1)
    assert mean_cosine(np.array([v, 0 * v])) == 0
    assert mean_cosine(np.array([[1.0, 0], [0, 1], [1, 0]])) == pytest.approx(1 / 3)


def test_plot_is_a_picture_with_three_panels(data, tmp_path):
    flow = fnn.GradientFlow(*data, "cross_entropy", BATCH, BATCHES)
    flow(network())
    flow.plot(tmp_path / "flow.svg")
    root = xml.etree.ElementTree.parse(tmp_path / "flow.svg").getroot()
    assert sum(group.get("id", "").startswith("axes_") for group in root.iter()) == 6  # and their colour bars


def test_plot_without_matplotlib_names_the_extra(data, tmp_path, monkeypatch):
    flow = fnn.GradientFlow(*data, "cross_entropy", BATCH, BATCHES)
    flow(network())
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=re.escape("GradientFlow.plot needs matplotlib: pip install 'fnn[plot]'")):
        flow.plot(tmp_path / "flow.svg")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda x, y: fnn.GradientFlow(x, y, batches=1), "batches: expected an integer >= 2, got 1"),
        (lambda x, y: fnn.GradientFlow(x, y, batch_size=0), "batch_size: expected an integer >= 1, got 0"),
        (
            lambda x, y: fnn.GradientFlow(x, y, "cross_entropy")(network()),
            "x: expected 256 rows for 8 batches of 32, got 40",
        ),
        (
            lambda x, y: fnn.GradientFlow(x, y).plot("flow.svg"),
            "plot: expected a record, got none: pass this object to fit as a callback first",
        ),
    ],
)
def test_errors(data, act, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        act(*data)


def test_another_network_is_an_error(data):
    flow = fnn.GradientFlow(*data, "cross_entropy", BATCH, BATCHES)
    flow(network())
    with pytest.raises(ValueError, match=r"^network: expected 4 layers as before, got 1$"):
        flow(fnn.Network([5, 3], output="softmax"))
