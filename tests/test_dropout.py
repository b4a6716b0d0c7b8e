"""Dropout: what is drawn, that it is random and the same wherever it is drawn, and what it does to `Network`."""

import re
from dataclasses import replace

import numpy as np
import pytest

import fnn
import oracle
from agreement import PLAIN, make_case
from fnn import _dispatch, _dropout
from fnn._dropout import NUMBERS, Draw, is_dropped
from small_regression import ROWS, SIZES
from test_can_fail import CHECKS
from test_gradients import H, check_slope


def network(hidden="relu", share=0.3, of_input=0.1, dtype="float32"):
    layers = [fnn.Input(5, of_input), fnn.Dense(7, hidden, dropout=share), fnn.Dense(6, hidden, dropout=share)]
    return fnn.Network([*layers, fnn.Dense(3, "identity")], dtype=dtype)


# ---- What is drawn ----------------------------------------------------------------------------------


def test_the_mixers_are_those_of_murmurhash():
    """Numbers of Appleby's own code."""
    assert _dropout.mix_32(np.array([0, 1, 0xFFFFFFFF], np.uint32)).tolist() == [0, 0x514E28B7, 0x81F16F39]
    assert _dropout.mix_64(np.array([0, 1], np.uint64)).tolist() == [0, 0xB456BCFC34C2CB2C]


def test_every_backend_draws_what_the_oracle_draws(backend):
    """Wide rows, far rows, every layer, numbers of 64 bits: minus zeros stand where something was dropped."""
    shares = (0.2, 0.5, 0.9, 1e-3, 0.0)
    for dtype, number in (("float32", 2**64 - 1), ("float64", 2**33 + 7), ("float32", 0)):
        case = make_case((70, 33, 17, 300, 2), 9, hidden="sigmoid", dtype=dtype, dropouts=shares)
        draw = Draw(number, 2**20 - 4)
        layers = _dispatch.kernels.forward(case.layout, case.parameters, case.x, None, draw)
        for row in range(9):
            factors = oracle.dropout_factors(shares, case.layout.sizes, number, draw.first_row + row)
            for layer, of_layer, share in zip(layers, factors, shares, strict=True):
                dropped = (layer[row] == 0) & np.signbit(layer[row])
                assert not share or np.array_equal(dropped, np.array(of_layer) == 0)


def test_the_rows_of_a_batch_are_drawn_the_same_in_pieces(backend):
    case = make_case((5, 40, 3), 600, hidden="tanh", dropouts=(0.5, 0.5, 0.0))
    whole = _dispatch.kernels.forward(case.layout, case.parameters, case.x, None, Draw(9))
    part = _dispatch.kernels.forward(case.layout, case.parameters, case.x[550:], None, Draw(9, 550))
    for one, other in zip(whole[:2], part[:2], strict=True):
        assert np.array_equal(one[550:] == 0, other == 0)


def test_extreme_shares(backend):
    """None of a share below 2**-32, and in a share of almost 1 what is left stays finite."""
    for share in (1e-12, 1 - 2.0**-53):
        case = make_case((3, 50, 2), 20, hidden="sigmoid", dropouts=(0.0, share, 0.0))
        hidden = _dispatch.kernels.forward(case.layout, case.parameters, case.x, None, Draw(1))[1]
        assert np.isfinite(hidden).all()
        assert (hidden == 0).all() == (share > 0.5)
        assert (hidden != 0).all() == (share < 0.5)


# ---- Whether it is random: sums of squares that are a few of their degrees of freedom at most ----------


def masks(share, number=77, layer=1, shape=(1000, 256), first_row=0):
    return is_dropped(Draw(number, first_row), layer, shape, share)


def surprise(counts, expected):
    """How many deviations Pearson's statistic lies above its mean; its square over k classes has about 2 k of them."""
    statistic = (np.square(counts - expected) / expected).sum()
    freedom = counts.size - 1
    return (statistic - freedom) / np.sqrt(2 * freedom)


def surprise_of_pairs(one, other):
    """Of the four things that two places may do together, if they know nothing of each other."""
    share = (one.mean() + other.mean()) / 2
    counts = np.bincount((2 * one + other).ravel(), minlength=4)
    odds = np.array([1 - share, share])
    return surprise(counts, one.size * np.outer(odds, odds).ravel())


SHARES = [0.1, 0.3, 0.5, 0.8]
FEW = 6  # deviations: by chance once in a million of these tests, and the numbers are always the same


@pytest.mark.parametrize("share", SHARES)
def test_the_share_is_that_asked_for_in_every_neuron_and_row(share):
    drawn = masks(share)
    assert abs(drawn.mean() - share) < FEW * np.sqrt(share * (1 - share) / drawn.size)
    for axis in (0, 1):
        counts, n = drawn.sum(axis=axis), drawn.shape[axis]
        kept_or_not = np.array([counts, n - counts])
        assert surprise(kept_or_not, n * np.array([[share], [1 - share]])) < FEW


# How many rows, neurons, updates and layers two masks are apart.
DISTANCES = [
    *((0, lag, 0, 0) for lag in (1, 2, 3, 8, 16, 32, 64)),
    *((lag, 0, 0, 0) for lag in (1, 2, 16, 256)),
    *((0, 0, lag, 0) for lag in (1, 2, 1000, 2**32, 2**63)),
    *((0, 0, 0, lag) for lag in (1, 2)),
    (1, 1, 0, 0),
    (1, 0, 1, 0),
    (0, 0, 1, 1),
    (1, 1, 1, 1),
]


def surprise_of_places(share, rows, neurons, updates, layers):
    """Of what is dropped in one place, if it knows nothing of the other."""
    one, other = masks(share), masks(share, number=77 + updates, layer=1 + layers)
    height, width = one.shape
    return surprise_of_pairs(one[rows:, neurons:], other[: height - rows, : width - neurons])


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("distance", DISTANCES, ids=str)
def test_places_know_nothing_of_each_other(distance, share):
    assert abs(surprise_of_places(share, *distance)) < FEW


def test_every_pattern_of_neighbours_is_as_frequent_as_any():
    """Twelve neurons side by side, and twelve rows one above the other, at 0.5."""
    drawn = masks(0.5, shape=(4096, 240))
    for way in (drawn, drawn[:4080].T):
        patterns = way.reshape(-1, 12) @ (1 << np.arange(12))
        assert surprise(np.bincount(patterns, minlength=4096), np.full(4096, len(patterns) / 4096)) < FEW


@pytest.mark.parametrize("broken", ["mix_32", "mix_64"])
def test_these_statistics_can_fail(monkeypatch, broken):
    monkeypatch.setattr(_dropout, broken, lambda h: h)
    assert max(abs(surprise_of_places(0.5, *distance)) for distance in DISTANCES) > 100


# ---- The gradient, with the mask held fast ------------------------------------------------------------


@pytest.mark.parametrize("hidden", ["identity", "relu", "leaky_relu", "tanh", "sigmoid", "corner"])
def test_gradient_with_a_fixed_mask(backend, hidden):
    kernels, draw = _dispatch.kernels, Draw(5, 3)
    case = make_case((3, 9, 8, 3), 7, hidden=hidden, dtype="float64", dropouts=(0.2, 0.5, 0.3, 0.0), seed=1)
    output = case.layout.activations[-1]

    def loss(parameters):
        z = kernels.forward(case.layout, parameters, case.x, None, draw)[-1]
        return kernels.output_delta(z, case.y, case.loss, output, 1.0)[0].sum()

    bends = [None] * 3
    layers = kernels.forward(case.layout, case.parameters, case.x, bends, draw)
    g = kernels.output_delta(layers[-1], case.y, case.loss, output, 1.0)[1]
    deltas = kernels.backward(case.layout, case.parameters, layers, g, bends, True)
    gradient = kernels.gradient(case.layout, layers, deltas, np.empty_like(case.parameters), bends)
    assert np.abs(gradient).max() > 0.05
    for index, slope in enumerate(gradient):

        def along(h, index=index):
            moved = case.parameters.copy()
            moved[index] += h
            return loss(moved)

        check_slope(along, slope, H / 100, f"parameter {index}")


def test_every_way_of_training_drops_as_the_oracle(backend):
    """The check that breakages turn red: chunks, halves, neurons shared, single rows, skips."""
    CHECKS["dropout"](_dispatch.kernels)


def test_what_is_kept_makes_up_for_what_is_dropped(backend):
    """The mean over many draws is the whole activation; of a linear network the outputs too."""
    case = make_case((4, 30, 2), 3, hidden="identity", dtype="float64", dropouts=(0.2, 0.5, 0.0))
    draws = [_dispatch.kernels.forward(case.layout, case.parameters, case.x, None, Draw(n)) for n in range(3000)]
    whole = _dispatch.kernels.forward(case.layout, case.parameters, case.x)
    for layer, plain in enumerate(whole):
        drawn = np.array([layers[layer] for layers in draws])
        assert (np.abs(drawn.mean(axis=0) - plain) <= 5 * drawn.std(axis=0) / np.sqrt(len(draws))).all()


# ---- The network --------------------------------------------------------------------------------------


def test_only_updates_drop(backend, data):
    """Outputs, losses and gradients are those of the same network without dropout, to the bit."""
    net, plain = network(), network(share=0.0, of_input=0.0)
    assert np.array_equal(net.parameters, plain.parameters)
    for ask in ("predict", "forward"):
        assert np.array_equal(getattr(net, ask)(data[0]), getattr(plain, ask)(data[0]))
    (loss, gradient), (other, other_gradient) = (each.loss_and_gradient(*data) for each in (net, plain))
    assert loss == other
    assert np.array_equal(gradient, other_gradient)
    history = net.fit(*data, epochs=2, validation=data)
    plain.parameters = net.parameters
    assert history.validation_loss[-1] == pytest.approx(plain.loss_and_gradient(*data)[0], rel=1e-5)
    assert history.loss[0] > loss


@pytest.mark.parametrize("batch_size", [1, 8, ROWS])
def test_dropout_0_is_none(backend, data, batch_size):
    results = []
    for net in (network(share=0.0, of_input=0.0), fnn.Network(SIZES)):
        net.fit(*data, epochs=2, batch_size=batch_size)
        results.append((repr(net), net.parameters.tobytes(), net.draws))
    assert results[0] == results[1]


@pytest.mark.parametrize("batch_size", [1, 8, ROWS])
@pytest.mark.parametrize("hidden", ["relu", "tanh", "corner"])
@pytest.mark.parametrize("optimizer", [fnn.SGD(0.01), fnn.SGD(0.01, momentum=0.5), fnn.Adam(0.01), fnn.FISTA(0.0002)])
def test_every_optimizer_trains(backend, data, optimizer, hidden, batch_size):
    net = network(hidden, of_input=0.0)
    before = net.loss_and_gradient(*data)[0]
    net.fit(*data, epochs=30, batch_size=batch_size, optimizer=optimizer)
    assert net.loss_and_gradient(*data)[0] < before


def test_it_learns_the_digits(backend):
    x, labels = fnn.load_digits()
    net = fnn.Network([fnn.Input(64), fnn.Dense(64, "relu", dropout=0.5), fnn.Dense(10, "softmax")])
    net.fit(x[:1437], labels[:1437], epochs=30, loss="cross_entropy", optimizer=fnn.SGD(0.05, momentum=0.9))
    assert (net.predict_class(x[1437:]) == labels[1437:]).mean() > 0.9


def losses(net, data, **options):
    """The loss of every epoch of a training that moves nothing and takes the rows in order: it tells the masks."""
    usual = {"epochs": 1, "batch_size": 8, "shuffle": False, "optimizer": fnn.SGD(1e-30)}
    return net.fit(*data, **usual | options).loss


def test_no_mask_comes_twice(backend, data):
    net = network()
    first = losses(net, data, epochs=3)
    again = losses(net, data, epochs=2)
    assert net.draws == 25
    assert len(set(first + again)) == 5
    assert losses(network(), data, epochs=5) == first + again  # to go on is to go on, with the same seed
    assert losses(network(), data, seed=1)[0] not in first
    assert losses(network(), data, seed=None) != losses(network(), data, seed=None)
    generator = np.random.default_rng(4)
    assert losses(network(), data, seed=generator) != losses(network(), data, seed=generator)
    assert len(set(losses(network(), data, epochs=40, batch_size=1))) == 40


def test_each_update_has_a_mask_of_its_own(backend, data):
    """Five batches of the same rows."""
    x, y = (np.tile(part[:8], (5, 1)) for part in data)
    singles = [losses(network(), (x[:8], y[:8]), epochs=n)[-1] for n in range(1, 6)]
    assert len(set(singles)) == 5
    assert np.mean(singles) == pytest.approx(losses(network(), (x, y))[0], rel=1e-6)


def test_one_seed_is_one_run(backend, data):
    runs = []
    for threads in (1, 2):
        net = network()
        net.fit(*data, epochs=3, threads=threads, optimizer=fnn.Adam(0.01), sample_weight=np.arange(ROWS))
        net.fit(*data, epochs=2, batch_size=7, threads=threads)
        runs.append(net.parameters.tobytes())
    assert runs[0] == runs[1]


def test_an_interrupt_counts_what_was_drawn(backend, data):
    def interrupt(network, history):
        raise KeyboardInterrupt

    net = network()
    with pytest.raises(KeyboardInterrupt):
        net.fit(*data, epochs=3, batch_size=8, callbacks=interrupt)
    assert net.draws == 5


def test_backends_agree(data):
    nets = []
    before = fnn.backend()
    for name in fnn.available_backends():
        fnn.set_backend(name)
        nets.append(network("tanh", dtype="float64"))
        nets[-1].fit(*data, epochs=5, batch_size=8)
    fnn.set_backend(before)
    for net in nets[1:]:
        np.testing.assert_allclose(net.parameters, nets[0].parameters, rtol=1e-11, atol=1e-13)


def test_callbacks_see_the_whole_network(backend, data):
    seen = []

    class Watch:
        def before_epoch(self, net, plan):
            seen.append((plan.gradient(), plan.outputs(), net.loss_and_gradient(*data)[1], net.predict(data[0])))

        def __call__(self, net, history):
            return False

    network().fit(*data, epochs=2, callbacks=[Watch(), fnn.ReclaimDeadNeurons(), fnn.AutoRate()])
    for gradient, outputs, want_gradient, want_outputs in seen:
        assert np.array_equal(gradient, want_gradient)
        assert np.array_equal(outputs, want_outputs)


def test_a_saved_network_is_the_same(data, tmp_path):
    net = network("corner")
    net.save(tmp_path / "net.fnn")
    again = fnn.load(tmp_path / "net.fnn")
    assert repr(again) == repr(net)
    assert again.layout == net.layout
    assert losses(again, data) == losses(net, data)


def test_repr_and_summary():
    net = network()
    assert repr(net) == (
        "Network([Input(5, dropout=0.1), Dense(7, 'relu', dropout=0.3), Dense(6, 'relu', dropout=0.3), "
        "Dense(3, 'identity')], dtype='float32')"
    )
    assert net.summary().splitlines()[1:3] == [
        "input  (5,)    dropout 0.1                 0",
        "1      (5, 7)  relu, dropout 0.3          42",
    ]


@pytest.mark.parametrize("bad", [-0.1, 1, 1.0, 1.5, np.nan, np.inf, "half", None, True, [0.5]])
def test_a_bad_share_is_refused(bad):
    for make in (lambda: fnn.Dense(3, dropout=bad), lambda: fnn.Input(3, dropout=bad)):
        with pytest.raises(ValueError, match=re.escape(f"dropout: expected a number in [0, 1), got {bad!r}")):
            make()


def test_what_it_does_not_go_with(data):
    with pytest.raises(ValueError, match=r"dropout: expected none on the output layer, got 0\.5"):
        fnn.Network([fnn.Input(3), fnn.Dense(2, "identity", dropout=0.5)])
    net = network()
    before = net.parameters.copy()
    with pytest.raises(ValueError, match="propagate: updated expects a network without dropout"):
        net.fit(*data, batch_size=1, propagate="updated")
    assert np.array_equal(net.parameters, before)


def test_scikit_learn_gets_the_whole_network(data):
    pytest.importorskip("sklearn")
    net = network()
    np.testing.assert_allclose(fnn.to_sklearn(net).predict(data[0]), net.predict(data[0]), rtol=1e-5, atol=1e-6)


def test_a_neuron_that_is_zero_still_learns(backend, data):
    """A zero that is kept is not one that was dropped: all weights start at 0, and only the biases can move."""
    for hidden in ("identity", "tanh", "leaky_relu"):
        net = network(hidden, of_input=0.0)
        net.parameters = np.zeros_like(net.parameters)
        net.weights[2] = np.ones((6, 3))
        net.fit(*data, epochs=1, batch_size=ROWS)
        assert (net.biases[1] != 0).all()


def test_minus_zeros_that_were_not_dropped_are_none(backend):
    case = make_case((2, 40, 1), 5, hidden="identity", dropouts=(0.5, 0.5, 0.0))
    case = replace(case, x=np.full_like(case.x, -0.0), parameters=np.full_like(case.parameters, -0.0))
    layers = _dispatch.kernels.forward(case.layout, case.parameters, case.x, None, Draw(3))
    for depth in (0, 1):
        dropped = is_dropped(Draw(3), depth, layers[depth].shape, 0.5)
        assert np.array_equal(np.signbit(layers[depth]), dropped)


def test_the_seed_counts_on_and_wraps_around(backend):
    kernels = _dispatch.kernels
    case = make_case((4, 9, 2), 6, hidden="tanh", dropouts=(0.0, 0.5, 0.0))
    work = kernels.Workspace(case.layout, case.parameters.dtype, 3, 0, 1)
    work.mask_seed = NUMBERS - 1  # and on from 0
    work.load(case.parameters, np.inf)
    order, still = np.arange(6), PLAIN._replace(rate=1e-30)
    total = kernels.train_epoch(work, case.x, case.y, order, case.loss, still, True, None)
    want = 0.0
    for rows, number in ((order[:3], NUMBERS - 1), (order[3:], 0)):
        z = kernels.forward(case.layout, case.parameters, case.x[rows], None, Draw(number))[-1]
        want += kernels.output_delta(z, case.y[rows], case.loss, case.layout.activations[-1], 1.0)[0].sum()
    assert total == pytest.approx(want, rel=1e-12)
