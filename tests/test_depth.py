"""Skips, rates by layer, and deltas through updated weights: every kernel beside the oracle, on every backend."""

import itertools
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import agreement
import fnn
from agreement import PAIRS, make_case
from fnn import _backprop_numpy, _dispatch
from fnn._layout import Skip
from fnn._optimizers import Rule
from test_backprop import ALL_RULES, DTYPES, EDGES, HIDDEN, RULES, quick, suitable
from test_gradients import CASES, H, check_directions, check_slope

thorough = settings(quick, max_examples=120)
ADDS, CONCATS = Skip(1, "add"), Skip(2, "concat")


@st.composite
def deep_cases(draw, fewest_layers=2):
    """Networks of some layers, of which about half skip and half have a rate of their own, on a few rows."""
    depth = draw(st.integers(fewest_layers, 6))
    largest = {2: 49, 3: 33}.get(depth, 19)
    widths = st.sampled_from([size for size in EDGES if size <= largest])
    sizes, skips = [draw(widths)], []
    for layer in range(depth):
        skip = Skip()
        if layer and draw(st.booleans()):
            distance = draw(st.integers(1, layer))
            same = sizes[layer] == sizes[layer - distance]
            skip = Skip(distance, draw(st.sampled_from(["add", "concat"] if same else ["concat"])))
        skips.append(skip)
        wide = draw(st.booleans())  # half of all layers are as wide as one before, which can be added
        sizes.append(draw(widths) if wide else draw(st.sampled_from(sizes)))
    loss, output = draw(st.sampled_from(PAIRS))
    products = sum(fan_in * fan_out for fan_in, fan_out in itertools.pairwise(sizes))
    return make_case(
        tuple(sizes),
        min(draw(st.sampled_from(EDGES)), max(1, 10_000 // products)),
        hidden=draw(st.sampled_from(HIDDEN)),
        output=output,
        loss=loss,
        dtype=draw(st.sampled_from(DTYPES)),
        labels=loss == "cross_entropy" and draw(st.booleans()),
        slope=0.3,
        seed=draw(st.integers(0, 2**32 - 1)),
        skips=tuple(skips),
        rate_scales=tuple(draw(st.sampled_from([1.0, 0.25, 1.7])) for _ in range(depth)),
    )


@thorough
@given(case=deep_cases())
def test_forward_backward_and_gradient(backend, case):
    agreement.check_forward(_dispatch.kernels, case)
    agreement.check_backward(_dispatch.kernels, case)
    agreement.check_gradient(_dispatch.kernels, case)


@thorough
@given(case=deep_cases(), threads=st.integers(1, 3))
def test_loss_and_gradient(backend, case, threads):
    with suitable():
        agreement.check_loss_and_gradient(_dispatch.kernels, case, 0.3, threads)


@thorough
@given(case=deep_cases(1), batch_size=st.integers(1, 5), threads=st.integers(1, 3), rule=st.sampled_from(list(RULES)))
def test_training(backend, case, batch_size, threads, rule):
    order = np.arange(min(len(case.x), 9)).repeat(2)[:9]
    with suitable():
        agreement.check_train_epoch(_dispatch.kernels, case, order, RULES[rule], batch_size, threads=threads)


@thorough
@given(case=deep_cases(1), rule=st.sampled_from(["plain", "saturated", "floored"]))
def test_training_through_updated_weights(backend, case, rule):
    order = np.arange(min(len(case.x), 5))[::-1].copy()
    with suitable():
        agreement.check_train_through_updated(_dispatch.kernels, case, order, ALL_RULES[rule])


# Wider than a panel of any build, and two activations that do not start where a panel does.
WIDE = {
    "sizes": (45, 37, 37, 37, 70, 37, 5),
    "skips": (Skip(), Skip(), ADDS, CONCATS, Skip(3, "concat"), Skip(5, "concat")),
}


@pytest.mark.parametrize("rule", ["plain", "nesterov", "adam"])
@pytest.mark.parametrize("batch_size", [1, 20, 270])
def test_skips_wider_than_a_panel(backend, rule, batch_size):
    """Batches of one row, of one chunk and of two, each layer with a rate of its own."""
    rows = 5 if batch_size == 1 else max(30, batch_size)  # over many steps bounds grow too loose
    case = make_case(**WIDE, rows=rows, hidden="tanh", rate_scales=(3.0, 1.0, 0.5, 2.0, 1.5, 0.25))
    for threads in (1, 3):
        agreement.check_train_epoch(
            _dispatch.kernels, case, np.arange(rows), RULES[rule], batch_size, threads=threads, judge=agreement.ByTwin
        )


@pytest.mark.parametrize("sizes", [(19, 23, 18, 3), (3, 4, 3, 2), (40, 70, 5)])
@pytest.mark.parametrize("batch_size", [1, 4, 270])
def test_rates_by_layer_on_every_path(backend, sizes, batch_size):
    """Online with lists of inputs, online where each layer is one vector, batches of a chunk and of several."""
    rows = max(9, batch_size)
    case = make_case(sizes, rows, hidden="tanh", rate_scales=(4.0, 0.5, 1.0, 0.1)[: len(sizes) - 1])
    for rule in ("saturated", "momentum"):
        agreement.check_train_epoch(_dispatch.kernels, case, np.arange(rows), RULES[rule], batch_size, threads=2)


@pytest.mark.parametrize("sizes", [(7, 13, 3), (40, 37, 5), (5, 4)])
def test_updated_weights_without_skips(backend, sizes):
    for hidden in ("relu", "sigmoid"):
        case = make_case(sizes, 6, hidden=hidden, output="tanh", seed=3)
        for rule in ("plain", "saturated"):
            agreement.check_train_through_updated(_dispatch.kernels, case, np.arange(6), RULES[rule])


def four_layers(skip, dtype):
    return make_case((6, 8, 8, 8, 2), 256, hidden="tanh", dtype=dtype, skips=(Skip(), Skip(), skip, skip))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("floor", [0.0, 0.03125])
@pytest.mark.parametrize("skip", [ADDS, CONCATS])
def test_runs_through_updated_weights_stay_together_where_training_is_stable(backend, skip, floor, dtype):
    case, order = four_layers(skip, dtype), np.tile(np.arange(256), 3)
    rule = Rule(0.02, 0.0, False, 1.0, floor=floor)
    runs = [agreement.run_updated(kernels, case, rule, order) for kernels in (_dispatch.kernels, _backprop_numpy)]
    assert np.abs(runs[0] - runs[1]).max() < 100 * np.finfo(dtype).eps


@pytest.mark.parametrize("floor", [0.0, 0.03125])
@pytest.mark.parametrize("skip", [ADDS, CONCATS])
def test_unstable_training_through_updated_weights_parts_by_rounding_alone(backend, skip, floor):
    """At ten times that rate a rounding grows until two runs of one backend have nothing in common, tanh or relu, with
    a floor or without; two backends part likewise.  Yet every step is right from where it starts."""
    case, order = four_layers(skip, "float64"), np.arange(256)
    rule = Rule(0.2, 0.0, False, 1.0, floor=floor)
    nudges = np.where(np.arange(len(case.parameters)) % 2, 1, -1) * np.finfo(np.float64).eps
    nudged = replace(case, parameters=case.parameters * (1 + nudges))
    runs = [agreement.run_updated(_dispatch.kernels, each, rule, np.tile(order, 3)) for each in (case, nudged)]
    assert np.abs(runs[0] - runs[1]).max() > 0.1
    agreement.check_each_step_through_updated(_dispatch.kernels, case, order, rule)


def test_weighted_rows_through_updated_weights(backend):
    case = make_case((7, 13, 3), 6, hidden="tanh", skips=(Skip(), CONCATS._replace(distance=1)), rate_scales=(2.0, 0.5))
    weights = np.array([0, 1, 0.5, 2, 1, 0], case.x.dtype)
    for mean in (True, False):
        agreement.check_train_through_updated(_dispatch.kernels, case, np.arange(6), RULES["saturated"], weights, mean)


def test_skips_and_rates_with_weights_and_a_penalty(backend):
    case = make_case(**WIDE, rows=300, hidden="tanh", rate_scales=(3.0, 1.0, 0.5, 2.0, 1.5, 0.25))
    weights = np.random.default_rng(0).uniform(0, 2, 300).astype(case.x.dtype)
    for batch_size in (40, 290):
        agreement.check_train_epoch(
            _dispatch.kernels,
            case,
            np.arange(300),
            RULES["plain"]._replace(alpha=0.5),
            batch_size,
            threads=3,
            weights=weights,
            judge=agreement.ByTwin,
        )


def test_epochs_through_updated_weights_follow_ordinary_ones(backend):
    """What online training keeps beside the weights moves with them."""
    case = make_case((19, 23, 18, 3), 9, hidden="tanh", dtype="float64")
    agreement.check_updated_may_end(_dispatch.kernels, case, RULES["plain"])


@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.parametrize(("loss", "output", "labels"), CASES)
def test_gradients_beside_differences(backend, hidden, loss, output, labels):
    shape = {"sizes": (3, 4, 4, 3, 3), "skips": (Skip(), Skip(1, "concat"), ADDS, Skip(3, "concat"))}
    seeds = (
        make_case(**shape, rows=5, hidden=hidden, output=output, loss=loss, labels=labels, dtype="float64", seed=seed)
        for seed in range(200)
    )
    case = next(case for case in seeds if hidden not in ("relu", "leaky_relu") or far_from_kinks(case, 30 * H))
    scale = 1 / 5
    _, gradient = _dispatch.kernels.loss_and_gradient(case.layout, case.parameters, case.x, case.y, case.loss, scale, 1)
    assert np.abs(gradient).max() > 0.05
    for index, slope in enumerate(gradient):

        def along(h, index=index):
            moved = case.parameters.copy()
            moved[index] += h
            return _dispatch.kernels.loss_and_gradient(case.layout, moved, case.x, case.y, case.loss, scale, 1)[0]

        check_slope(along, slope, H, f"parameter {index}")


def far_from_kinks(case, reach):
    layers = _dispatch.kernels.forward(case.layout, case.parameters, case.x)
    weights = zip(case.layout.blocks(case.parameters), range(case.layout.n_layers - 1), strict=False)
    inputs = (agreement.bounds.joined(case.layout, layers, layers, index, case.precision)[0] for _, index in weights)
    blocks = case.layout.blocks(case.parameters)
    return all(np.abs(u @ block[:-1] + block[-1]).min() > reach for u, block in zip(inputs, blocks, strict=False))


def test_random_directions_in_a_wide_net(backend):
    case = make_case(**WIDE, rows=20, hidden="tanh", output="softmax", loss="cross_entropy", dtype="float64")
    check_directions(case, _dispatch.kernels.loss_and_gradient, H, 5)


def test_any_number_of_threads_gives_the_same_bits(backend):
    case = make_case(**WIDE, rows=300, hidden="tanh")
    results = []
    for threads in (1, 2, 3):
        work = _dispatch.kernels.Workspace(case.layout, case.x.dtype, 64, 1, threads)
        work.threads = 1 if backend == "numpy" else threads
        work.load(case.parameters, np.inf)
        for _ in range(2):
            _dispatch.kernels.train_epoch(
                work, case.x, case.y, np.arange(300), case.loss, RULES["momentum"], True, None
            )
        results.append(np.empty_like(case.parameters))
        work.store(results[-1])
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])


def test_predict(backend):
    for rows in (1, 5, 200):
        agreement.check_predict(_dispatch.kernels, make_case(**WIDE, rows=rows, hidden="tanh"), 2)


def test_threads_of_a_net_with_skips_share_rows(backend):
    work = _dispatch.kernels.Workspace(make_case(**WIDE, rows=1).layout, np.dtype("float32"), 64, 0, 2)
    assert work.by_columns == [False] * 6
    if backend != "numpy":
        with pytest.raises(ValueError, match="by_columns: a network with skips shares rows only"):
            work.by_columns = [True] * 6


# ---- The network ---------------------------------------------------------------------------------


def skipping():
    return fnn.Network(
        [
            fnn.Input(4),
            fnn.Dense(4, "tanh", rate_scale=3),
            fnn.Dense(4, "tanh", skip=1),
            fnn.Dense(2, "identity", skip=2, skip_mode="concat"),
        ]
    )


def test_a_layer_reads_two_activations(backend):
    net = skipping()
    x = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    v = net.activations(x)
    assert [w.shape for w in net.weights] == [(4, 4), (4, 4), (8, 2)]
    assert np.allclose(v[1], np.tanh(x @ net.weights[0]), atol=1e-6)
    assert np.allclose(v[2], np.tanh((v[1] + x) @ net.weights[1]), atol=1e-6)
    assert np.allclose(v[3], np.hstack([v[2], x]) @ net.weights[2], atol=1e-6)
    assert np.allclose(net.predict(x), v[3], atol=1e-6)


def test_repr_and_file_tell_all(tmp_path):
    net = skipping()
    assert repr(net) == (
        "Network([Input(4), Dense(4, 'tanh', rate_scale=3.0), Dense(4, 'tanh', skip=1, skip_mode='add'), "
        "Dense(2, 'identity', skip=2, skip_mode='concat')], dtype='float32')"
    )
    net.save(tmp_path / "net.fnn")
    loaded = fnn.load(tmp_path / "net.fnn")
    assert loaded.layout == net.layout
    assert np.array_equal(loaded.parameters, net.parameters)
    assert repr(loaded) == repr(net)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fnn.Dense(3, skip=-1), "skip: expected an integer >= 0, got -1"),
        (lambda: fnn.Dense(3, skip_mode="sum"), "skip_mode: expected one of add, concat, got 'sum'"),
        (lambda: fnn.Dense(3, rate_scale=0), "rate_scale: expected a finite number > 0, got 0"),
        (
            lambda: fnn.Network([fnn.Input(3), fnn.Dense(3, skip=1)]),
            "skip: layer 1: expected a skip of at most 0, which reaches the input, got 1",
        ),
        (
            lambda: fnn.Network([fnn.Input(3), fnn.Dense(4), fnn.Dense(2, skip=1)]),
            'skip: layer 2: expected two activations of equal width to add, got 4 and 3; skip_mode="concat" takes any',
        ),
        (lambda: fnn.rate_by_depth(0), "n_layers: expected an integer >= 1, got 0"),
        (lambda: fnn.rate_by_depth(3, "square"), "law: expected one of linear, geometric, got 'square'"),
        (lambda: fnn.rate_by_depth(3, ratio=0), "ratio: expected a finite number > 0, got 0"),
        (
            lambda: fnn.rate_by_depth(2000, "geometric", 2),
            "ratio: expected scales that a float can hold, got 2 for 2000 layers",
        ),
    ],
)
def test_errors_say_what_is_wrong(make, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make()


def test_rate_by_depth():
    assert fnn.rate_by_depth(3) == [3.0, 2.0, 1.0]
    assert fnn.rate_by_depth(3, "geometric", ratio=2) == [4.0, 2.0, 1.0]
    assert fnn.rate_by_depth(1, "geometric") == [1.0]


def test_scaled_rates_move_layers_as_rates_of_their_own_would(backend):
    x, labels = fnn.load_digits()
    x, labels = x[:200], labels[:200]
    for optimizer in (fnn.SGD(0.02), fnn.SGD(0.02, momentum=0.9)):
        nets = [
            fnn.Network([fnn.Input(64), fnn.Dense(8, "tanh", rate_scale=s), fnn.Dense(10, "softmax", rate_scale=s)])
            for s in (1.0, 0.5)
        ]
        nets[0].fit(x, labels, epochs=2, loss="cross_entropy", optimizer=replace(optimizer, learning_rate=0.01))
        nets[1].fit(x, labels, epochs=2, loss="cross_entropy", optimizer=optimizer)
        assert np.allclose(nets[0].parameters, nets[1].parameters, atol=1e-6)


@pytest.mark.parametrize(
    ("callback", "message"),
    [
        (fnn.ReclaimDeadNeurons, "ReclaimDeadNeurons: expected a network without skips, whose neurons one layer reads"),
        (fnn.AutoRate, "AutoRate: expected a last layer without a skip"),
    ],
)
def test_what_looks_at_the_layer_below_refuses_skips(callback, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        skipping().fit(np.zeros((4, 4)), np.zeros((4, 2)), callbacks=callback())


# ---- Arguments of fit ----------------------------------------------------------------------------


def test_depth_scaled_rate_is_divided_by_the_layers(backend):
    x, labels = fnn.load_digits()
    nets = [fnn.Network([64, 8, 8, 10], "tanh", "softmax") for _ in range(2)]
    scaled = fnn.SGD("depth_scaled", base_rate=0.3, momentum=0.5)
    for net, optimizer in zip(nets, (scaled, fnn.SGD(0.3 / 3, momentum=0.5)), strict=True):
        net.fit(x[:200], labels[:200], epochs=2, loss="cross_entropy", optimizer=optimizer)
    assert np.array_equal(nets[0].parameters, nets[1].parameters)


def test_a_base_rate_may_be_left_out(backend):
    x, labels = fnn.load_digits()
    nets = [fnn.Network([64, 8, 8, 10], "tanh", "softmax") for _ in range(2)]
    for net, optimizer in zip(nets, (fnn.SGD("depth_scaled"), fnn.SGD("depth_scaled", base_rate=0.1)), strict=True):
        net.fit(x[:200], labels[:200], epochs=2, loss="cross_entropy", optimizer=optimizer)
    assert np.array_equal(nets[0].parameters, nets[1].parameters)


def test_a_base_rate_that_nothing_divides_is_an_error():
    with pytest.raises(ValueError, match=r"^base_rate: needs learning_rate='depth_scaled', got learning_rate=0.1$"):
        fnn.SGD(0.1, base_rate=0.1)


def test_depth_scaled_is_no_optimizer_of_its_own():
    net = fnn.Network([2, 1])
    with pytest.raises(ValueError, match=r"^optimizer: .*got 'depth_scaled'; .*fnn\.SGD\('depth_scaled'\)$"):
        net.fit(np.ones((3, 2)), np.ones((3, 1)), optimizer="depth_scaled")


@pytest.mark.parametrize("rate", ["fast", -1, 0, np.inf])
def test_a_base_rate_out_of_range_is_an_error(rate):
    with pytest.raises(ValueError, match=r"^base_rate: expected a finite number > 0, got"):
        fnn.SGD("depth_scaled", base_rate=rate)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"propagate": "after"}, "propagate: expected one of before, updated, got 'after'"),
        ({"propagate": "updated"}, "propagate: updated expects batch_size=1, got 32"),
        (
            {"propagate": "updated", "batch_size": 1, "optimizer": fnn.SGD(0.1, 0.9)},
            "propagate: updated expects fnn.SGD without momentum, got SGD(",
        ),
        (
            {"propagate": "updated", "batch_size": 1, "optimizer": "adam"},
            "propagate: updated expects fnn.SGD without momentum, got Adam(",
        ),
    ],
)
def test_propagation_that_does_not_go_with_the_rest(arguments, message):
    net = skipping()
    before = net.parameters.copy()
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        net.fit(np.zeros((4, 4)), np.zeros((4, 2)), **arguments)
    assert np.array_equal(net.parameters, before)


def test_training_through_updated_weights_learns(backend):
    x, labels = fnn.load_digits()
    net = fnn.Network([64, 16, 10], output="softmax")
    x, labels, steps = x[:500], labels[:500], fnn.SGD(0.02)
    history = net.fit(x, labels, epochs=5, batch_size=1, loss="cross_entropy", optimizer=steps, propagate="updated")
    assert history.loss[-1] < 0.5 * history.loss[0]
