import os
import re
import signal
import subprocess
import sys
import time
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, r2_score

import fnn
from fnn import _plan, _train

SOURCE = str(Path(fnn.__file__).parent.parent)
RNG = np.random.default_rng(11)
X = RNG.normal(size=(90, 4)).astype("f4")
Y = np.stack([X[:, 0] - X[:, 1], np.abs(X[:, 2])], axis=1)
LABELS = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0)


def regression(**options):
    return fnn.Network([4, 8, 2], **options)


def classifier():
    return fnn.Network([4, 8, 3], output="softmax")


def test_training_lowers_the_loss(backend):
    for net, y, loss in (
        (regression(), Y, "squared_error"),
        (classifier(), LABELS, "cross_entropy"),
        (fnn.Network([4, 8, 1], output="sigmoid"), LABELS > 0, "binary_cross_entropy"),
    ):
        before = net.loss_and_gradient(X, y, loss)[0]
        history = net.fit(X, y, loss=loss, epochs=60, batch_size=8, optimizer=fnn.SGD(0.02, momentum=0.5))
        assert net.loss_and_gradient(X, y, loss)[0] < before / 3
        assert history.loss[-1] < history.loss[0] / 2
        assert history.epochs == len(history.loss) == len(history.seconds) == 60


def test_the_digits_reach_96_percent(backend):
    x, labels = fnn.load_digits()
    order = np.random.default_rng(0).permutation(len(x))
    train, test = order[360:], order[:360]
    net = fnn.Network([64, 32, 10], output="softmax")
    net.fit(
        x[train],
        labels[train],
        loss="cross_entropy",
        epochs=40,
        batch_size=16,
        optimizer=fnn.SGD(0.1, 0.9),
        saturation=1,
    )
    assert accuracy_score(labels[test], net.predict_class(x[test])) >= 0.96


def test_the_reported_loss_is_that_before_each_update(backend):
    net = regression(dtype="float64")
    before = net.loss_and_gradient(X, Y)[0]
    frozen = fnn.SGD(1e-300)
    for reduction, factor in (("mean", 1), ("sum", len(X))):
        history = net.fit(X, Y, epochs=2, optimizer=frozen, reduction=reduction, batch_size=7)
        assert history.loss == pytest.approx([before * factor] * 2, rel=1e-12)


def test_a_sum_is_a_mean_times_the_batch(backend):
    nets = [regression(dtype="float64") for _ in range(2)]
    nets[0].fit(X, Y, batch_size=9, optimizer=fnn.SGD(0.09), reduction="mean", epochs=2)
    nets[1].fit(X, Y, batch_size=9, optimizer=fnn.SGD(0.01), reduction="sum", epochs=2)
    np.testing.assert_allclose(nets[0].parameters, nets[1].parameters, rtol=1e-9, atol=1e-12)


def test_one_full_batch_is_one_step_down_the_gradient(backend):
    net = regression(dtype="float64")
    expected = net.parameters - 0.1 * net.loss_and_gradient(X, Y)[1]
    net.fit(X, Y, epochs=1, batch_size=10**9, optimizer=fnn.SGD(0.1))
    np.testing.assert_allclose(net.parameters, expected, rtol=1e-9, atol=1e-12)


def test_the_same_seed_gives_the_same_weights(backend):
    def trained(seed, **options):
        net = classifier()
        net.fit(X, LABELS, loss="cross_entropy", seed=seed, epochs=3, **options)
        return net.parameters

    np.testing.assert_array_equal(trained(1), trained(1))
    np.testing.assert_array_equal(trained(1), trained(np.random.default_rng(1)))
    np.testing.assert_array_equal(trained(1, threads=1), trained(1, threads=4))
    np.testing.assert_array_equal(trained(1, shuffle=False), trained(2, shuffle=False))
    assert (trained(1) != trained(2)).any()
    assert (trained(None) != trained(None)).any()
    assert (trained(1) != trained(1, shuffle=False)).any()


def test_shuffling_takes_every_row_once_in_an_order_of_the_generator(backend):
    net, other = regression(), regression()
    net.fit(X, Y, epochs=2, batch_size=8, seed=3)
    rng = np.random.default_rng(3)
    for _ in range(2):
        order = rng.permutation(len(X))
        other.fit(X[order], Y[order], epochs=1, batch_size=8, shuffle=False)
    np.testing.assert_array_equal(net.parameters, other.parameters)


def test_saturation_holds_from_the_start(backend):
    net = regression()
    net.parameters[:] = 5
    seen = []
    net.fit(
        X,
        Y,
        epochs=3,
        saturation=0.25,
        callbacks=[lambda net, history: seen.append(np.abs(net.parameters).max()) or False],
    )
    assert len(seen) == 3
    assert all(0.2 < largest <= 0.25 for largest in seen)


def test_validation_and_its_metrics_agree_with_scikit_learn(backend):
    xv, yv, labels = X[60:], Y[60:], LABELS[60:]
    net = regression()
    history = net.fit(X[:60], Y[:60], validation=(xv, yv), epochs=3)
    assert history.metric_name == "r2"
    assert len(history.metric) == len(history.validation_loss) == 3
    assert history.metric[-1] == pytest.approx(r2_score(yv, net.predict(xv)), rel=1e-5)
    assert history.validation_loss[-1] == pytest.approx(net.loss_and_gradient(xv, yv)[0], rel=1e-5)

    net = classifier()
    history = net.fit(X[:60], LABELS[:60], loss="cross_entropy", validation=[xv, labels], epochs=3, reduction="sum")
    assert history.metric_name == "accuracy"
    assert history.metric[-1] == accuracy_score(labels, net.predict_class(xv))
    expected = net.loss_and_gradient(xv, labels, "cross_entropy", reduction="sum")[0]
    assert history.validation_loss[-1] == pytest.approx(expected, rel=1e-5)
    rows = net.fit(X[:60], LABELS[:60], loss="cross_entropy", validation=(xv, np.eye(3)[labels]), epochs=1)
    assert rows.metric[-1] == accuracy_score(labels, net.predict_class(xv))


def test_validation_does_not_change_training(backend):
    nets = [regression() for _ in range(2)]
    nets[0].fit(X, Y, epochs=3)
    nets[1].fit(X, Y, epochs=3, validation=(X[:5], Y[:5]), callbacks=lambda *_: None)
    np.testing.assert_array_equal(nets[0].parameters, nets[1].parameters)


def test_a_metric_of_one_s_own():
    def worst(y, outputs):
        return np.abs(y - outputs).max()

    net = regression()
    history = net.fit(X, Y, validation=(X, Y), metric=worst, epochs=2)
    assert history.metric_name == "worst"
    assert history.metric[-1] == np.abs(Y - net.predict(X)).max()
    assert type(history.metric[-1]) is float
    assert net.fit(X, Y, validation=(X, Y), metric=None, epochs=2).metric == []
    without = net.fit(X, Y, metric="accuracy", epochs=1)
    assert (without.metric, without.metric_name, without.validation_loss) == ([], "", [])


def test_accuracy_of_rows_and_of_single_outputs():
    rows = np.array([[1, 0], [0, 1], [1, 0]])
    outputs = np.array([[0.9, 0.2], [0.7, 0.4], [0.5, 0.5]])
    _, by_row = _train.find_metric("accuracy", fnn.losses.squared_error, fnn.Network([1, 2]).layout)
    assert by_row(rows, outputs) == 2 / 3
    _, by_entry = _train.find_metric(
        "auto", fnn.losses.binary_cross_entropy, fnn.Network([1, 2], output="sigmoid").layout
    )
    assert by_entry(rows, outputs) == 3 / 6
    _, around_zero = _train.find_metric("accuracy", fnn.losses.squared_error, fnn.Network([1, 1], output="tanh").layout)
    assert around_zero(np.array([[-1], [1], [1]]), np.array([[-0.1], [0.1], [-0.9]])) == 2 / 3


@pytest.mark.parametrize(
    ("y", "outputs"),
    [
        ([[1, 2], [2, 2], [4, 2]], [[1, 2], [3, 2], [4, 2]]),
        ([[1, 2], [2, 2], [4, 2]], [[1, 2], [3, 2], [4, 3]]),
        ([[0.5], [0.5]], [[0.5], [0.5]]),
        ([[1], [2], [3]], [[3], [2], [1]]),
    ],
)
def test_r2_is_scikit_learns(y, outputs):
    y, outputs = np.array(y, float), np.array(outputs, float)
    assert _train.r2(y, outputs) == pytest.approx(r2_score(y, outputs), rel=1e-12)


def test_callbacks_see_every_epoch_and_may_end_training(backend):
    calls = []

    def watch(net, history):
        calls.append((history.epochs, net.parameters.copy()))

    def enough(net, history):
        return history.epochs == 4

    net = regression()
    history = net.fit(X, Y, epochs=50, callbacks=(enough, watch))
    assert [epochs for epochs, _ in calls] == [1, 2, 3, 4]
    assert history.epochs == 4
    np.testing.assert_array_equal(net.parameters, calls[-1][1])
    assert (calls[0][1] != calls[1][1]).any()
    other = regression()
    other.fit(X, Y, epochs=4)
    np.testing.assert_array_equal(net.parameters, other.parameters)


def test_training_goes_on_from_what_a_callback_wrote(backend):
    def overwrite(net, history):
        if history.epochs == 1:
            net.parameters[:] = 0.125

    net = regression()
    net.fit(X, Y, epochs=2, optimizer=fnn.SGD(1e-12), callbacks=[overwrite])
    assert np.abs(net.parameters - 0.125).max() < 1e-6


def test_an_error_in_a_callback_or_metric_comes_out_and_leaves_an_epochs_end(backend):
    ends = []

    def fail(net, history):
        ends.append(net.parameters.copy())
        raise RuntimeError("mine")

    net = regression()
    with pytest.raises(RuntimeError, match="mine"):
        net.fit(X, Y, callbacks=[fail])
    np.testing.assert_array_equal(net.parameters, ends[0])

    with pytest.raises(ZeroDivisionError):
        net.fit(X, Y, validation=(X, Y), metric=lambda y, outputs: 1 / 0)
    np.testing.assert_array_equal(net.parameters, ends[0])


@pytest.mark.parametrize("wrong", ["good", "0.5", b"1", np.ones(2), [[1], [1, 2]], None, 1j, np.complex64(1)], ids=repr)
def test_a_metric_that_is_no_number_is_refused_and_leaves_its_epochs_end(wrong):
    net, expected = regression(), regression()
    expected.fit(X, Y, epochs=2)
    measured = iter([0.5, wrong])
    message = f"metric: expected a callable that returns a number, got {wrong!r} from it"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        net.fit(X, Y, validation=(X, Y), metric=lambda y, outputs: next(measured))
    np.testing.assert_array_equal(net.parameters, expected.parameters)


@pytest.mark.parametrize("number", [2, True, np.float32(2), np.array(2.5), Fraction(1, 2), np.nan], ids=repr)
def test_a_metric_may_be_any_real_number(number):
    history = regression().fit(X, Y, epochs=1, validation=(X, Y), metric=lambda y, outputs: number)
    assert type(history.metric[0]) is float
    np.testing.assert_equal(history.metric, [float(number)])


def test_divergence_leaves_the_last_finite_epochs_end(backend):
    net, ends = regression(), []
    with pytest.raises(fnn.DivergenceError) as caught:
        net.fit(
            X,
            1e6 * Y,
            epochs=1000,
            optimizer=fnn.SGD(0.3),
            batch_size=90,
            callbacks=[lambda net, history: ends.append(net.parameters.copy())],
        )
    assert isinstance(caught.value, ArithmeticError)
    assert len(ends) > 1
    np.testing.assert_array_equal(net.parameters, ends[-1])
    assert np.isfinite(net.parameters).all()
    message = str(caught.value)
    assert re.match(
        rf"epoch {len(ends) + 1}: (the loss became (inf|nan)|a parameter became infinite or NaN); ", message
    )
    for words in ("learning_rate than 0.3", "saturation", "scaled", f"of the end of epoch {len(ends)}"):
        assert words in message


def test_divergence_in_the_first_epoch_leaves_the_network_as_it_was(backend):
    net = regression()
    before = net.parameters.copy()
    with pytest.raises(fnn.DivergenceError, match=r"^epoch 1: .*from before the call$"):
        net.fit(X, Y, optimizer=fnn.SGD(1e30))
    np.testing.assert_array_equal(net.parameters, before)


def test_a_last_update_that_diverges_is_noticed_though_the_loss_was_finite(backend):
    net = fnn.Network([1, 1])
    before = net.parameters.copy()
    with pytest.raises(fnn.DivergenceError, match=r"^epoch 1: a parameter became infinite or NaN; "):
        net.fit([[1e10]], [1e10], epochs=1, optimizer=fnn.SGD(1e30))
    np.testing.assert_array_equal(net.parameters, before)


def test_a_validation_loss_that_overflows_is_a_divergence(backend):
    net = regression(dtype="float64")
    before = net.parameters.copy()
    with pytest.raises(fnn.DivergenceError, match=r"^epoch 1: the validation loss became inf"):
        net.fit(X, Y, validation=(1e300 * X.astype(float), Y))
    np.testing.assert_array_equal(net.parameters, before)


def test_saturation_keeps_a_wild_learning_rate_from_diverging(backend):
    net = regression()
    net.fit(X, Y, optimizer=fnn.SGD(1e3), saturation=1)
    assert np.abs(net.parameters).max() <= 1


def test_history_describes_itself():
    history = fnn.History(
        loss=[0.5, 0.25], validation_loss=[1, 0.75], metric=[0.5, 0.875], metric_name="r2", seconds=[1, 2]
    )
    assert repr(history) == "<History: 2 epochs, loss 0.25, validation loss 0.75, r2 0.875, 3 s>"
    assert repr(fnn.History()) == "<History: 0 epochs, 0 s>"


# Every weight and bias of this network moves alike, and by the same step each update: torn updates would show.
INTERRUPTED = """
import signal, time
import numpy as np, fnn
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start with none
fnn.set_backend({backend!r})
x = np.ones((20_000, 64), np.float32)
y = np.full((20_000, 48), 2.0**20, np.float32)
net = fnn.Network([64, 48], init="zeros")
fit = dict(epochs=10**6, batch_size={batch_size}, optimizer=fnn.SGD(2.0**-40))
for _ in range(3):
    print("ready", flush=True)
    try:
        net.fit(x, y, **fit)
    except KeyboardInterrupt:
        caught = time.monotonic()
    p = net.parameters
    print(caught, np.isfinite(p).all() and p.min() > 0 and p.max() - p.min() < 2.0**-20, flush=True)
"""


@pytest.mark.parametrize("batch_size", [1, 32])
def test_ctrl_c_ends_training_at_once_and_between_updates(backend, batch_size):
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED.format(backend=backend, batch_size=batch_size)],
        env=os.environ | {"PYTHONPATH": SOURCE},
        stdout=subprocess.PIPE,
        text=True,
    )
    delays = []
    with process:
        for _ in range(3):
            assert process.stdout.readline() == "ready\n"
            time.sleep(0.3)
            sent = time.monotonic()
            process.send_signal(signal.SIGINT)
            caught, consistent = process.stdout.readline().split()
            assert consistent == "True"
            delays.append(float(caught) - sent)
    assert process.returncode == 0
    assert min(delays) < 0.1, delays  # the best of three: the machine may be busy with something else


def test_ctrl_c_keeps_what_was_trained_unless_it_is_not_finite(backend, monkeypatch):
    from fnn import _dispatch

    def interrupted(value, work, *rest):
        work.load(np.full(net.layout.n_parameters, value, net.dtype), np.inf)
        raise KeyboardInterrupt

    net = regression()
    for value, expected in ((0.5, 0.5), (np.nan, 0.5), (np.inf, 0.5), (0.25, 0.25)):
        monkeypatch.setattr(_dispatch.kernels, "train_epoch", partial(interrupted, value))
        with pytest.raises(KeyboardInterrupt):
            net.fit(X, Y)
        assert (net.parameters == expected).all()


def test_labels_changed_by_a_callback_do_not_reach_the_kernels(backend):
    x, labels = fnn.load_digits()
    nets = [fnn.Network([64, 8, 10], output="softmax") for _ in range(2)]
    nets[0].fit(x, labels, epochs=3, loss="cross_entropy")
    changed = labels.copy()
    nets[1].fit(x, changed, epochs=3, loss="cross_entropy", callbacks=lambda *_: changed.fill(10**9))
    np.testing.assert_array_equal(nets[0].parameters, nets[1].parameters)


def test_a_plan_does_not_let_labels_be_changed(backend):
    class Change(_plan.BeforeEpoch):
        def before_epoch(self, network, plan):
            plan.y[:] = 0

    net = classifier()
    before = net.parameters.copy()
    with pytest.raises(ValueError, match="read-only"):
        net.fit(X, LABELS, loss="cross_entropy", callbacks=Change())
    np.testing.assert_array_equal(net.parameters, before)


def test_a_backend_chosen_by_a_callback_waits_for_the_next_fit(backend):
    nets = [regression(), regression()]
    nets[0].fit(X, Y, epochs=3)
    nets[1].fit(X, Y, epochs=3, callbacks=lambda *_: fnn.set_backend("numpy"))
    np.testing.assert_array_equal(nets[0].parameters, nets[1].parameters)


def test_a_callback_that_writes_nan_is_an_error_and_undone(backend):
    net, ends = regression(), []

    def spoil(network, history):
        ends.append(network.parameters.copy())
        network.parameters[3] = np.nan

    with pytest.raises(ValueError, match=r"^callbacks: expected the parameters to stay finite"):
        net.fit(X, Y, callbacks=spoil)
    np.testing.assert_array_equal(net.parameters, ends[0])


def test_ctrl_c_during_validation_keeps_the_epoch(backend):
    nets = [regression(), regression()]
    nets[0].fit(X, Y, epochs=1)

    def interrupted(y, outputs):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        nets[1].fit(X, Y, epochs=1, validation=(X, Y), metric=interrupted)
    np.testing.assert_array_equal(nets[0].parameters, nets[1].parameters)


def test_sample_weight_counts_a_row_as_often_as_it_says(backend):
    """Two networks, one with a row weighing 2, one with the row twice: all in one batch."""
    weights = np.resize([1, 2, 0, 3], len(X))
    rows = np.repeat(np.arange(len(X)), weights)
    one, other = (fnn.Network([4, 8, 3], output="softmax", dtype="float64") for _ in range(2))
    arguments = {"loss": "cross_entropy", "epochs": 5, "batch_size": 10**6, "optimizer": fnn.SGD(0.1)}
    history = one.fit(X, LABELS, sample_weight=weights, **arguments)
    expected = other.fit(X[rows], LABELS[rows], **arguments)
    np.testing.assert_allclose(history.loss, expected.loss, rtol=1e-12)
    np.testing.assert_allclose(one.parameters, other.parameters, rtol=1e-9, atol=1e-12)
    value, slope = one.loss_and_gradient(X, LABELS, "cross_entropy", sample_weight=weights)
    wanted, slopes = one.loss_and_gradient(X[rows], LABELS[rows], "cross_entropy")
    assert value == pytest.approx(wanted, rel=1e-12)
    np.testing.assert_allclose(slope, slopes, rtol=1e-9, atol=1e-12)


def test_poisson_finds_a_rate(backend):
    """Counts with a rate that is the exponential of a line: the one weight and bias are found."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (4000, 1))
    y = rng.poisson(np.exp(0.5 + 0.8 * x[:, 0]))
    network = fnn.Network([1, 1], output="exp", dtype="float64", init="zeros")
    network.fit(x, y, loss="poisson", epochs=40, optimizer=fnn.SGD(0.05), batch_size=100)
    np.testing.assert_allclose(network.parameters, [0.8, 0.5], atol=0.05)


def test_what_a_callback_writes_is_brought_inside_the_limit(backend):
    network = fnn.Network([4, 8, 3], output="softmax")

    def grow(network, history):
        network.parameters *= 10

    network.fit(X, LABELS, loss="cross_entropy", epochs=3, saturation=0.2, callbacks=grow)
    assert np.abs(network.parameters).max() == np.float32(0.2)


def test_a_divergence_names_the_rate_it_had_and_what_to_scale():
    class Fast(_plan.BeforeEpoch):
        def before_epoch(self, network, plan):
            plan.rate = 1e20

    with pytest.raises(fnn.DivergenceError, match=r"smaller learning_rate than 0\.01, .* or x and y scaled to about"):
        regression().fit(X, 1e6 * Y)
    with pytest.raises(fnn.DivergenceError, match=r"smaller learning_rate than 1e\+20, .* or x scaled to about"):
        classifier().fit(1e20 * X, LABELS, loss="cross_entropy", callbacks=Fast())


def test_a_plan_alone_is_no_callback():
    class Planner:
        def before_epoch(self, network, plan):
            pass

    with pytest.raises(ValueError, match=r"^callbacks: expected callables, .*; beside before_epoch it needs __call__"):
        regression().fit(X, Y, callbacks=Planner())


def test_a_class_is_no_callback():
    network = fnn.Network([4, 3], output="softmax")
    with pytest.raises(ValueError, match=r"^callbacks: expected callables, got the class AutoRate; make one of it"):
        network.fit(X, LABELS, loss="cross_entropy", callbacks=fnn.AutoRate)


def test_tiny_weights_count_as_any_others(backend):
    """One over their sum is beyond float32."""
    networks = [fnn.Network([4, 8, 3], output="softmax") for _ in range(2)]
    losses = [
        network.fit(X, LABELS, loss="cross_entropy", epochs=2, sample_weight=np.full(len(X), weight, "f4")).loss
        for network, weight in zip(networks, (1e-40, 1.0), strict=True)
    ]
    np.testing.assert_allclose(*losses, rtol=1e-4)
