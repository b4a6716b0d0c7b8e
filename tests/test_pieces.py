"""The pieces of FloatNeuralNet in `Network.fit`, against the class: with a batch of all rows both do the same."""

import numpy as np
import pytest

import fnn

SIZES, ROWS, RATE, EPOCHS = (6, 9, 7, 3), 40, 0.002, 8
CLOSE = {"rtol": 2e-5, "atol": 2e-6}


@pytest.fixture
def data():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(ROWS, SIZES[0])).astype("f4")
    classes = (x[:, 0] > 0).astype(int) + (x[:, 1] * x[:, 2] > 0.3)
    return x, np.eye(3, dtype="f4")[classes]


def the_class(network, **options):
    """A FloatNeuralNet with the weights of a Network."""
    made = fnn.FloatNeuralNet(SIZES, "relu", fnn.Options(**({"tweak_rate": 0.0, "weight_saturation": 9.0} | options)))
    for level, block in enumerate(zip(network.weights, network.biases, strict=True), start=1):
        made.set_level(level, np.vstack(block))
    return made


def trained(network, x, y, *callbacks, **given):
    """The parameters after every epoch of `fit`, all rows in one batch unless told otherwise."""
    seen = []
    settings = {"batch_size": ROWS, "reduction": "sum", "shuffle": False, "epochs": EPOCHS, "optimizer": fnn.SGD(RATE)}
    after = [*callbacks, lambda net, history: seen.append(net.parameters.copy())]
    network.fit(x, y, callbacks=after, saturation=given.pop("saturation", 9.0), **(settings | given))
    return np.array(seen)


# ---- FISTA and the floor ----------------------------------------------------------------------------


@pytest.mark.parametrize("limits", [(9.0, None), (0.35, None), (0.5, 0.05)], ids=["free", "limited", "floored"])
@pytest.mark.parametrize(("fast_brake", "fixed_nu"), [(True, False), (False, False), (True, True)], ids=str)
def test_fista_is_the_momentum_of_the_class(backend, data, fast_brake, fixed_nu, limits):
    """The class carries the weights on when the next pass starts, `fit` when the update ends."""
    (limit, floor), (x, y) = limits, data
    net = fnn.Network(SIZES, seed=1)
    net.parameters = np.clip(net.parameters, -limit, limit)  # the class takes them as they are
    if floor is not None:  # and throws what lies inside the floor as the first pass starts
        net.parameters = np.where(np.abs(net.parameters) < floor, floor + 0.01, net.parameters)
    other = the_class(
        net,
        momentum=True,
        momentum_fast_brake=fast_brake,
        momentum_fixed_nu=fixed_nu,
        weight_saturation=limit,
        enable_weight_floor=floor is not None,
        weight_floor=floor or 0,
    )
    optimizer = fnn.FISTA(RATE, fast_brake=fast_brake, fixed_nu=fixed_nu)
    other.start_training_pass()
    ours = trained(net, x, y, optimizer=optimizer, saturation=limit, weight_floor=floor)
    for parameters in ours:
        other.train(x, y, 0.0)
        other.end_training_pass()
        other.apply_gradient(RATE)
        other.start_training_pass()
        np.testing.assert_allclose(parameters, other.weights, **CLOSE)


@pytest.mark.parametrize("batch_size", [1, ROWS])
def test_the_floor_is_that_of_the_class(backend, data, batch_size):
    """Online as well as with all rows at once; some weights start inside it, some at 0."""
    x, y = data
    net = fnn.Network(SIZES, seed=1)
    other = the_class(net, enable_weight_floor=True, weight_floor=0.125, total_gradient=batch_size > 1)
    ours = trained(net, x, y, batch_size=batch_size, weight_floor=0.125)
    for parameters in ours:
        other.train_pass(x, y, **({"rate": RATE} if batch_size == 1 else {"apply_rate": RATE}))
        np.testing.assert_allclose(parameters, other.weights, **CLOSE)
    assert np.abs(ours[-1]).min() >= 0.125
    assert (np.abs(ours[-1]) == 0.125).any()


def test_without_a_floor_weights_come_as_near_to_zero_as_they_like(backend, data):
    net = fnn.Network(SIZES, seed=1)
    assert np.abs(trained(net, *data)[-1]).min() < 0.01


# ---- Rates --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("start", "undoes"), [(None, False), (0.02, True)])
def test_auto_rate_is_that_of_the_class(backend, data, start, undoes):
    """An undone epoch is repeated at once; in the class that takes two passes."""
    x, y = data
    net = fnn.Network(SIZES, seed=1)
    other = the_class(net, auto_rate=True, training_rate_scale=0.1, training_rate=start or -1.0)
    callback = fnn.AutoRate(0.1, start)
    rates = []
    ours = trained(net, x, y, callback, lambda *_: rates.append(callback.training_rate), epochs=20)
    undone = []
    for epoch, (parameters, rate) in enumerate(zip(ours, rates, strict=True), start=1):
        if other.train_pass(x, y, apply_rate=1.0)[0]:
            undone.append(epoch - 1)
            assert not other.train_pass(x, y, apply_rate=1.0)[0]
        assert rate == pytest.approx(other.training_rate, rel=1e-3)
        np.testing.assert_allclose(parameters, other.weights, rtol=1e-3, atol=1e-4)
    assert callback.undone == undone
    assert bool(undone) == undoes


def test_auto_rate_s_mean_is_its_sum(backend, data):
    """The same steps, at a rate as many times as large as there are rows."""
    rates = {}
    for reduction in ("sum", "mean"):
        callback = fnn.AutoRate(1.0)
        rates[reduction] = [trained(fnn.Network(SIZES, seed=1), *data, callback, reduction=reduction)[-1]]
        rates[reduction].append(callback.training_rate * (ROWS if reduction == "sum" else 1))
    np.testing.assert_allclose(rates["sum"][0], rates["mean"][0], rtol=1e-3, atol=1e-5)
    assert rates["sum"][1] == pytest.approx(rates["mean"][1], rel=1e-3)


def test_auto_rate_starts_from_the_rate_that_it_is_given(backend, data):
    net = fnn.Network(SIZES, seed=1)
    given = trained(net, *data, fnn.AutoRate(training_rate=RATE), epochs=1)
    assert np.array_equal(given, trained(fnn.Network(SIZES, seed=1), *data, epochs=1))


def test_auto_rate2_is_that_of_the_class(backend, data):
    (x, y), rate = data, 0.02
    net = fnn.Network(SIZES, seed=1)
    net.parameters *= 0.3
    other, callback = the_class(net, auto_rate2=True, weight_saturation=99.0), fnn.AutoRate2()
    factors = []
    after = lambda *_: factors.append(callback.auto_rate2_adj)  # noqa: E731
    ours = trained(net, x, y, callback, after, epochs=16, saturation=99.0, optimizer=fnn.SGD(rate))
    for parameters, factor in zip(ours, factors, strict=True):
        other.train_pass(x, y, apply_rate=rate)
        assert factor == pytest.approx(other.auto_rate2_adj, rel=1e-5)
        np.testing.assert_allclose(parameters, other.weights, rtol=1e-3, atol=1e-4)
    assert min(np.diff(factors)) < 0 < max(np.diff(factors))


# ---- Neurons and rows ---------------------------------------------------------------------------------


def test_dead_neurons_are_turned_round_as_in_the_class(backend, data):
    x, y = data
    net = fnn.Network(SIZES, seed=1)
    net.biases[0][[2, 5]] = -8
    net.biases[1][4] = -9
    other, callback = the_class(net, weight_saturation=99.0), fnn.ReclaimDeadNeurons()
    ours = trained(net, x, y, callback, saturation=99.0, epochs=3, optimizer=fnn.SGD(1e-6))
    for parameters in ours:
        other.train_pass(x, y, apply_rate=1e-6, reclaim=True)
        # The class has looked already, `fit` will before the next epoch.
        planned = fnn.Network(SIZES)
        planned.parameters = parameters
        fnn.ReclaimDeadNeurons().before_epoch(planned, plan_of(planned, x, y))
        np.testing.assert_allclose(planned.parameters, other.weights, **CLOSE)
    assert callback.reclaimed == [3, 0]


def plan_of(network, x, y):
    """The plan of a second epoch."""
    plans = []

    class Catcher(fnn.ReclaimDeadNeurons):
        def before_epoch(self, network, plan):
            plans.append(plan)

    before = network.parameters.copy()
    network.fit(x, y, epochs=2, optimizer=fnn.SGD(1e-30), callbacks=Catcher())
    network.parameters = before
    return plans[1]


def test_neurons_that_are_hardly_used_and_layers_that_are_not_relu(backend, data):
    x, y = data
    net = fnn.Network([fnn.Input(6), fnn.Dense(3), fnn.Dense(2, "tanh"), fnn.Dense(3)], seed=1)
    net.biases[1][:] = -50  # off, were it a relu
    on = (net.activations(x)[1] > 0).sum(axis=0)
    for unused in range(ROWS + 1):
        callback = fnn.ReclaimDeadNeurons(unused)
        copy = fnn.Network([fnn.Input(6), fnn.Dense(3), fnn.Dense(2, "tanh"), fnn.Dense(3)])
        copy.parameters = net.parameters
        copy.fit(x, y, epochs=2, optimizer=fnn.SGD(1e-30), callbacks=callback)
        assert callback.reclaimed == [(on <= unused).sum()]


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("weighted", [False, True])
def test_emphasis_is_that_of_the_class(backend, data, weighted, reduction):
    x, y = data
    counts = np.random.default_rng(4).integers(1, 4, ROWS) if weighted else np.ones(ROWS, int)
    net = fnn.Network(SIZES, seed=1)
    other = the_class(net, is_classifier=True, max_multiplier=4, min_pass_effective_adj=2, effective_decrease_rate=0.4)
    effective, callback = counts.astype("f4"), fnn.Emphasis(4, 2, 0.4)
    given = {"sample_weight": counts} if weighted else {}
    rate, seen = RATE * (counts.sum() if reduction == "mean" else 1), []
    after = lambda *_: seen.append(callback.effective_count.copy())  # noqa: E731
    ours = trained(net, x, y, callback, after, epochs=14, reduction=reduction, optimizer=fnn.SGD(float(rate)), **given)
    for parameters, own in zip(ours, seen, strict=True):
        other.train_pass(x, y, apply_rate=RATE, count=counts, effective_count=effective)
        np.testing.assert_allclose(own, effective, rtol=1e-6)
        np.testing.assert_allclose(parameters, other.weights, rtol=1e-4, atol=1e-5)
    assert (seen[-1] > counts).any()
    assert (np.diff(seen, axis=0) < 0).any()
    assert (seen[-1] == counts).any()
    assert (seen[-1] >= 4 * counts).any()


@pytest.mark.parametrize("kind", ["labels", "one output"])
def test_emphasis_of_labels_and_of_one_output(backend, data, kind):
    x, y = data
    if kind == "labels":
        net, targets, loss = fnn.Network([6, 5, 3], output="softmax", seed=1), y.argmax(axis=1), "cross_entropy"
        wrong = net.predict_class(x) != targets
    else:
        net, targets, loss = fnn.Network([6, 5, 1], output="sigmoid", seed=1), y[:, 0], "binary_cross_entropy"
        wrong = (net.predict(x)[:, 0] > 0.5) != (targets > 0.5)
    callback = fnn.Emphasis(min_pass_effective_adj=0)
    net.fit(x, targets, epochs=2, loss=loss, optimizer=fnn.SGD(1e-30), callbacks=callback)
    assert np.array_equal(callback.effective_count, np.where(wrong, 2, 1))
    assert 0 < wrong.sum() < ROWS


def test_the_tweak_is_that_of_the_class(backend, data):
    """And two neurons that start equal part."""
    x, y = data
    net = fnn.Network(SIZES, seed=1)
    net.weights[0][:, 1], net.biases[0][1], net.weights[1][1] = (
        net.weights[0][:, 0],
        net.biases[0][0],
        net.weights[1][0],
    )
    other = the_class(net, tweak_rate=0.2)
    for parameters in trained(net, x, y, fnn.TweakGradient(0.2), epochs=25):
        other.train_pass(x, y, apply_rate=RATE)
        np.testing.assert_allclose(parameters, other.weights, **CLOSE)
    assert np.abs(net.weights[0][:, 1] - net.weights[0][:, 0]).max() > 1e-5


# ---- Plans and arguments ------------------------------------------------------------------------------


def test_a_plan_may_be_changed(backend, data):
    """The rate and the weights of the rows hold for its epoch only; what is written into the parameters stays."""
    x, y = data
    plans = []

    class Planner(fnn.ReclaimDeadNeurons):
        def before_epoch(self, network, plan):
            plans.append((plan.number, plan.rate, plan.sample_weight, plan.mean))
            if plan.number == 1:
                network.parameters[:] = 0.25
                plan.rate, plan.sample_weight = 1e-3, np.arange(ROWS, dtype="f4")

    net, same = fnn.Network(SIZES, seed=1), fnn.Network(SIZES, seed=1)
    ours = trained(net, x, y, Planner(), epochs=2)
    assert plans == [(1, RATE, None, False), (2, RATE, None, False)]
    same.parameters = np.full_like(same.parameters, 0.25)
    first = trained(same, x, y, epochs=1, optimizer=fnn.SGD(1e-3), sample_weight=np.arange(ROWS))
    assert np.array_equal(ours[0], first[0])
    assert np.array_equal(ours[1], trained(same, x, y, epochs=1)[0])


def test_a_plan_s_numbers(backend, data):
    """Its gradient, outputs and activations are those of the network."""
    x, y = data
    net = fnn.Network(SIZES, seed=1)
    weights = np.linspace(0.5, 2, ROWS).astype("f4")
    plans = []

    class Looker(fnn.ReclaimDeadNeurons):
        def before_epoch(self, network, plan):
            plans.append((plan.gradient(), plan.outputs(), [*plan.activations()]))

    for reduction in ("mean", "sum"):
        wanted = net.loss_and_gradient(x, y, reduction=reduction, sample_weight=weights)[1]
        outputs, layers = net.predict(x), net.activations(x)
        net.fit(x, y, epochs=1, reduction=reduction, sample_weight=weights, callbacks=Looker())
        gradient, got, (parts,) = plans.pop()
        np.testing.assert_allclose(gradient, wanted, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(got, outputs, rtol=1e-6)
        assert [np.array_equal(*pair) for pair in zip(parts, layers, strict=False)] == [True] * 3


@pytest.mark.parametrize("ways", ["all wrong", "all right"])
def test_emphasis_of_rows_at_the_ends_of_the_dtype(backend, ways):
    x = np.ones((20, 3), np.float32)
    net = fnn.Network([3, 2], output="softmax")
    labels = np.full(20, net.predict_class(x[:1])[0] ^ (ways == "all wrong"))
    counts = np.geomspace(1e-38, 1e38, 20, dtype=np.float32)
    callback = fnn.Emphasis(min_pass_effective_adj=0, effective_decrease_rate=50.0)
    options = {"loss": "cross_entropy", "optimizer": fnn.SGD(1e-9), "callbacks": callback}
    net.fit(x, labels, epochs=6, sample_weight=counts, **options)
    grown = np.minimum(counts.astype(np.float64) * (6 if ways == "all wrong" else 1), np.finfo(np.float32).max)
    np.testing.assert_allclose(callback.effective_count, grown, rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rate": -1.0}, r"plan.rate: expected a finite number >= 0, got -1.0"),
        ({"rate": float("nan")}, r"plan.rate: expected a finite number >= 0, got nan"),
        ({"sample_weight": np.ones(ROWS - 1)}, r"plan.sample_weight: expected shape \(40,\), one number a row, got .*"),
        ({"sample_weight": np.full(ROWS, -1.0)}, r"plan.sample_weight: expected numbers >= 0, got -1.0 in row 0.*"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(backend, data, change, message):
    class Planner(fnn.ReclaimDeadNeurons):
        def before_epoch(self, network, plan):
            for name, value in change.items():
                setattr(plan, name, value)

    net = fnn.Network(SIZES, seed=1)
    before = net.parameters.copy()
    with pytest.raises(ValueError, match=f"^callbacks: {message}$"):
        net.fit(*data, callbacks=Planner())
    assert np.array_equal(net.parameters, before)


def test_parameters_that_are_not_finite_before_an_epoch_are_refused(backend, data):
    class Spoiler(fnn.ReclaimDeadNeurons):
        def before_epoch(self, network, plan):
            network.parameters[3] = np.nan

    net = fnn.Network(SIZES, seed=1)
    before = net.parameters.copy()
    with pytest.raises(ValueError, match=r"^callbacks: expected the parameters to stay finite, got NaN or infinity"):
        net.fit(*data, callbacks=Spoiler())
    assert np.array_equal(net.parameters, before)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fnn.FISTA(0), "learning_rate: expected a finite number > 0, got 0"),
        (lambda: fnn.FISTA(fast_brake=1), "fast_brake: expected True or False, got 1"),
        (lambda: fnn.FISTA(fixed_nu=None), "fixed_nu: expected True or False, got None"),
        (lambda: fnn.AutoRate(0), "training_rate_scale: expected a finite number > 0, got 0"),
        (lambda: fnn.AutoRate(training_rate=-1), "training_rate: expected a finite number > 0 or None, got -1"),
        (lambda: fnn.ReclaimDeadNeurons(-1), "max_unused: expected an integer >= 0, got -1"),
        (lambda: fnn.Emphasis(1.5), "max_multiplier: expected an integer >= 0, got 1.5"),
        (lambda: fnn.Emphasis(1, -1), "min_pass_effective_adj: expected an integer >= 0, got -1"),
        (lambda: fnn.Emphasis(1, 1, -1), "effective_decrease_rate: expected a finite number >= 0, got -1"),
        (lambda: fnn.TweakGradient(0), "tweak_rate: expected a finite number > 0, got 0"),
    ],
)
def test_values_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        make()


@pytest.mark.parametrize("floor", [0, -1, float("nan"), 0.6, "low"])
def test_a_floor_that_is_none_or_above_the_limit_is_refused(data, floor):
    message = r"^weight_floor: expected a finite number > 0 and at most saturation, or None, got "
    with pytest.raises(ValueError, match=message):
        fnn.Network(SIZES).fit(*data, saturation=0.5, weight_floor=floor)
