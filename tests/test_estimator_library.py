"""What the estimators take from the library beyond scikit-learn's: they train as Network.fit does, bit for bit."""

import inspect
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from sklearn import neural_network
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_wine, make_multilabel_classification
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import minmax_scale, scale

import fnn
from fnn._estimator_base import BaseMLP
from fnn._optimizers import OPTIMIZERS

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
X, LABELS = scale(load_wine().data), load_wine().target
ONE_HOT = np.eye(3)[LABELS]
SHARES = ONE_HOT * 0.9 + 0.1 / 3
ROWS, NUMBERS = scale(load_diabetes().data), minmax_scale(load_diabetes().target)
SETTING = {"hidden_layer_sizes": (6, 6), "alpha": 0, "batch_size": 50, "shuffle": False, "max_iter": 4}


def initial(model, x, y):
    """The parameters that a fit of the estimator starts from."""
    start = clone(model).set_params(solver=fnn.SGD(5e-324), saturation=None, weight_floor=None, max_iter=1)
    start.set_params(callbacks=None, propagate="before").fit(x, y)
    return start._parameters


def trained_network(model, x, y, targets, activations, scales=(1, 1, 1), **arguments):
    """A network that starts as the estimator does, after Network.fit."""
    layers = [
        fnn.Dense(units, activation, rate_scale=s)
        for units, activation, s in zip((6, 6, targets.shape[1]), activations, scales, strict=True)
    ]
    network = fnn.Network([fnn.Input(x.shape[1]), *layers], dtype="float64")
    network.parameters = initial(model, x, y)
    network.fit(x, targets, batch_size=model.batch_size, epochs=model.max_iter, shuffle=False, **arguments)
    return network


def same(model, network):
    np.testing.assert_array_equal(model._parameters, network.parameters)
    return True


@pytest.mark.parametrize(
    "optimizer",
    [
        fnn.SGD(0.05),
        fnn.SGD(0.05, momentum=0.9, nesterov=True),
        fnn.SGD("depth_scaled", base_rate=0.2),
        fnn.Adam(0.01, beta_1=0.8, beta_2=0.95, epsilon=1e-4),
        fnn.FISTA(0.01),
        fnn.FISTA(0.01, fast_brake=False, fixed_nu=True),
    ],
    ids=repr,
)
def test_optimizers(backend, optimizer):
    model = fnn.MLPClassifier(**SETTING, solver=optimizer, random_state=0).fit(X, LABELS)
    network = trained_network(
        model, X, LABELS, ONE_HOT, ["relu", "relu", "softmax"], loss="cross_entropy", optimizer=optimizer
    )
    same(model, network)
    assert {type(optimizer) for optimizer in BaseMLP._parameter_constraints["solver"][1:]} == {type}
    assert set(OPTIMIZERS.values()) == set(BaseMLP._parameter_constraints["solver"][1:])


LOSS_CASES = [
    *(("classifier", "squared_error", output, ONE_HOT) for output in ("sigmoid", "identity", "relu", "leaky_relu")),
    ("classifier", "squared_error", "tanh", 2 * ONE_HOT - 1),
    ("classifier", "binary_cross_entropy", "sigmoid", ONE_HOT),
    ("classifier", "poisson", "exp", ONE_HOT),
    *(
        ("regressor", "squared_error", output, ONE_HOT)
        for output in fnn.losses.squared_error.outputs
        if output != "corner"  # is refused
    ),
    ("regressor", "poisson", "exp", ONE_HOT),
    ("regressor", "binary_cross_entropy", "sigmoid", SHARES),
    ("regressor", "cross_entropy", "softmax", SHARES),
]


@pytest.mark.parametrize(("kind", "loss", "output", "targets"), LOSS_CASES, ids=lambda case: str(case)[:20])
def test_losses_and_outputs(kind, loss, output, targets):
    """Of the squared error scikit-learn takes a half, so that the same rate is half as much to the network."""
    estimator, y = (fnn.MLPClassifier, LABELS) if kind == "classifier" else (fnn.MLPRegressor, targets)
    options = {**SETTING, "activation": "tanh", "loss": loss, "random_state": 0}
    model = estimator(**options, out_activation=output, solver=fnn.SGD(0.02)).fit(X, y)
    rate = 0.01 if loss == "squared_error" else 0.02
    network = trained_network(model, X, y, targets, ["tanh", "tanh", output], loss=loss, optimizer=fnn.SGD(rate))
    same(model, network)
    outputs = network.predict(X)
    if kind == "regressor":
        np.testing.assert_array_equal(model.predict(X), outputs)
    else:
        np.testing.assert_array_equal(model.predict(X), outputs.argmax(axis=1))
        probabilities = model.predict_proba(X)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)
        assert probabilities.min() >= 0
    assert fnn.from_sklearn(model).predict(X).tolist() == outputs.tolist()
    watched = estimator(**{**options, "batch_size": len(X)}, out_activation=output).fit(X, y, X_val=X, y_val=y)
    np.testing.assert_allclose(watched.validation_loss_curve_[:-1], watched.loss_curve_[1:], rtol=1e-10)
    assert watched.validation_scores_[-1] == pytest.approx(watched.score(X, y), rel=1e-12)
    default = estimator(**options).fit(X, y)
    assert np.isfinite(default.loss_)


def test_every_loss_and_activation_is_there():
    assert {(loss, output) for _, loss, output, _ in LOSS_CASES} == {
        (loss.name, output) for loss in vars(fnn.losses).values() for output in loss.outputs if output != "corner"
    }
    for activation in vars(fnn.activations).values():
        if activation.name not in ("softmax", "exp", "corner"):
            model = fnn.MLPRegressor("squared_error", (4,), activation.name, max_iter=1, random_state=0).fit(
                ROWS, NUMBERS
            )
            assert model._layout.activations[0] == activation


@pytest.mark.parametrize("corner", ["corner", fnn.activations.corner])
def test_a_corner_is_refused(corner):
    """coefs_ and intercepts_ have no place for it."""
    with pytest.raises(ValueError, match="activation"):
        fnn.MLPRegressor("squared_error", (4,), corner).fit(ROWS, NUMBERS)
    with pytest.raises(ValueError, match="out_activation"):
        fnn.MLPRegressor("squared_error", (4,), out_activation=corner).fit(ROWS, NUMBERS)


@pytest.mark.parametrize("output", ["logistic", "tanh", "identity"])
def test_two_classes_and_several_labels(output):
    """Targets of tanh are -1 and 1, and what lies between the two is split in the middle."""
    options = {"loss": "squared_error", "out_activation": output, "max_iter": 300, "random_state": 0}
    two = fnn.MLPClassifier((8,), "tanh", **options, learning_rate_init=0.01).fit(X, LABELS == 1)
    assert two.score(X, LABELS == 1) > 0.95
    np.testing.assert_array_equal(two.predict(X), two.predict_proba(X)[:, 1] > 0.5)
    np.testing.assert_array_equal(two.predict(X), fnn.from_sklearn(two).predict_class(X))
    x, y = make_multilabel_classification(n_samples=100, n_classes=3, random_state=0)
    several = fnn.MLPClassifier((8,), "tanh", **options, learning_rate_init=0.01).fit(scale(x), y)
    assert several.score(scale(x), y) > 0.6
    np.testing.assert_array_equal(several.predict(scale(x)), several.predict_proba(scale(x)) > 0.5)


@pytest.mark.parametrize("output", ["relu", "identity", "logistic"])
def test_rows_without_any_probability_get_equal_ones(output):
    model = fnn.MLPClassifier((2,), loss="squared_error", out_activation=output, max_iter=1).fit(X, LABELS)
    model.coefs_[-1][:] = 0
    model.intercepts_[-1][:] = -1000
    np.testing.assert_allclose(model.predict_proba(X), 1 / 3, rtol=1e-15)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("targets", [LABELS, LABELS == 1, np.eye(3, dtype=int)[LABELS]], ids=["3", "2", "several"])
def test_no_probability_is_0_or_1(targets, dtype):
    """Each has a logarithm, however far the outputs lie beyond what they are trained towards."""
    model = fnn.MLPClassifier((2,), loss="squared_error", out_activation="identity", max_iter=1, dtype=dtype)
    model.fit(X.astype(dtype), targets)
    for beyond in (-9, 9):
        model.coefs_[-1][:] = 0
        model.intercepts_[-1][:] = 0.5
        model.intercepts_[-1][-1] = beyond
        probabilities = model.predict_proba(X.astype(dtype))
        assert probabilities.dtype == dtype
        assert probabilities.min() > 0
        assert probabilities.max() < 1
        assert np.isfinite(model.predict_log_proba(X.astype(dtype))).all()


def test_the_class_predicted_is_the_most_probable_one_also_of_outputs_above_1():
    model = fnn.MLPClassifier((2,), loss="poisson", max_iter=1).fit(X, LABELS)
    model.coefs_[-1][:] = 0
    for logarithms in ([0.1, 0.5, 0.3], [0.0, 1.0, 30.0], [700.0, 0.0, -700.0]):
        model.intercepts_[-1][:] = logarithms
        np.testing.assert_array_equal(model.predict(X), np.argmax(logarithms))
        np.testing.assert_array_equal(model.predict_proba(X).argmax(axis=1), np.argmax(logarithms))
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1)


def test_activations_by_layer_rates_by_depth_and_limits(backend):
    steep = fnn.activations.leaky_relu.with_slope(0.3)
    model = fnn.MLPClassifier(
        **SETTING,
        activation=["sigmoid", steep],
        solver=fnn.SGD(0.1, momentum=0.5),
        rate_scale="linear",
        saturation=0.4,
        weight_floor=0.01,
        random_state=0,
    ).fit(X, LABELS)
    network = trained_network(
        model,
        X,
        LABELS,
        ONE_HOT,
        ["sigmoid", steep, "softmax"],
        scales=fnn.rate_by_depth(3),
        loss="cross_entropy",
        optimizer=fnn.SGD(0.1, momentum=0.5),
        saturation=0.4,
        weight_floor=0.01,
    )
    same(model, network)
    listed = clone(model).set_params(rate_scale=[3, 2, 1]).fit(X, LABELS)
    np.testing.assert_array_equal(listed._parameters, model._parameters)
    assert np.abs(model._parameters).max() == 0.4
    other = clone(model).set_params(rate_scale=None).fit(X, LABELS)
    assert not np.array_equal(other._parameters, model._parameters)
    by_lbfgs = [clone(model).set_params(solver="lbfgs", rate_scale=s).fit(X, LABELS) for s in (None, "linear")]
    np.testing.assert_array_equal(by_lbfgs[0]._parameters, by_lbfgs[1]._parameters)
    one_layer = clone(model).set_params(hidden_layer_sizes=6, activation=[steep], rate_scale=[2.0, 1.0])
    assert one_layer.fit(X, LABELS)._layout.activations[0].slope == 0.3


def test_initial_weights_by_layer():
    """Those of a sigmoid are scikit-learn's, and the output's follow the last hidden layer."""
    drawn = np.random.RandomState(0).uniform(-1, 1, (13 + 1) * 6 + (6 + 1) * 6 + (6 + 1) * 3)
    bounds = [np.sqrt(6 / 19)] * 84 + [np.sqrt(2 / 12)] * 42 + [np.sqrt(2 / 9)] * 21
    model = fnn.MLPClassifier(**SETTING, activation=("relu", "logistic"), random_state=0)
    np.testing.assert_allclose(initial(model, X, LABELS), drawn * bounds, rtol=1e-13)


@pytest.mark.parametrize(
    "make",
    [
        fnn.AutoRate,
        fnn.AutoRate2,
        lambda: fnn.ReclaimDeadNeurons(max_unused=80),
        lambda: fnn.Emphasis(min_pass_effective_adj=1),
        lambda: fnn.TweakGradient(0.1),
        lambda: [fnn.AutoRate2(), fnn.Emphasis(min_pass_effective_adj=0), lambda *seen: len(seen) > 2],
    ],
)
def test_callbacks_that_plan(make):
    """A callback without before_epoch is called with the estimator, another with a network, as Network.fit does it."""
    model = fnn.MLPClassifier(**{**SETTING, "max_iter": 8}, solver=fnn.SGD(0.2), callbacks=make(), random_state=0)
    model.fit(X, LABELS)
    network = trained_network(
        model,
        X,
        LABELS,
        ONE_HOT,
        ["relu", "relu", "softmax"],
        loss="cross_entropy",
        optimizer=fnn.SGD(0.2),
        callbacks=make(),
    )
    same(model, network)
    plain = clone(model).set_params(callbacks=None).fit(X, LABELS)
    assert not np.array_equal(plain._parameters, model._parameters)


def test_gradient_flow():
    """As docs/scikit-learn.md says."""
    flow = fnn.GradientFlow(X, LABELS, loss="cross_entropy", batch_size=20)
    fnn.MLPClassifier((4, 4), max_iter=3, callbacks=lambda model: flow(fnn.from_sklearn(model))).fit(X, LABELS)
    assert flow.gradient_norms.shape == (3, 3)


class Plans:
    """A callback of the library's kind that keeps what it sees."""

    def __init__(self):
        self.plans, self.histories = [], []

    def before_epoch(self, network, plan):
        self.plans.append((plan.number, len(plan.x), plan.rate, network.parameters.copy()))

    def __call__(self, network, history):
        self.histories.append((history.loss[-1], *history.validation_loss[-1:], *history.metric[-1:]))
        return len(self.histories) == 3


def test_plans_see_the_rows_trained_on_and_may_end_training():
    plans = Plans()
    model = fnn.MLPRegressor("squared_error", (4,), early_stopping=True, callbacks=plans, random_state=0).fit(
        ROWS, NUMBERS
    )
    assert [number for number, *_ in plans.plans] == [1, 2, 3]
    assert {rows for _, rows, *_ in plans.plans} == {397}
    assert plans.histories == list(
        zip(model.loss_curve_, model.validation_loss_curve_, model.validation_scores_, strict=True)
    )
    assert not np.array_equal(plans.plans[0][3], plans.plans[1][3])
    plain = fnn.MLPRegressor("squared_error", (4,), early_stopping=True, max_iter=3, random_state=0).fit(ROWS, NUMBERS)
    np.testing.assert_array_equal(model._parameters, plain._parameters)
    again = Plans()
    model = fnn.MLPRegressor("squared_error", (4,), callbacks=again, random_state=0).partial_fit(ROWS, NUMBERS)
    model.partial_fit(ROWS, NUMBERS)
    assert [number for number, *_ in again.plans] == [1, 2]
    negative = np.r_[-0.1, np.ones(len(ROWS) - 1)]
    model.set_params(callbacks=Plans()).fit(ROWS, NUMBERS, negative)  # as scikit-learn takes them


@pytest.mark.parametrize("values", [[-1.0], [np.nan]])
def test_wrong_plans(values):
    class Wrong:
        def before_epoch(self, network, plan):
            plan.sample_weight = np.r_[values, np.ones(len(plan.x) - 1)]

        def __call__(self, network, history):
            return None

    with pytest.raises(ValueError, match=r"callbacks: plan\.sample_weight: expected"):
        fnn.MLPRegressor(callbacks=Wrong()).fit(ROWS, NUMBERS)


def test_updated_propagation():
    model = fnn.MLPClassifier(**{**SETTING, "batch_size": 1}, solver="sgd", momentum=0, propagate="updated")
    model.set_params(learning_rate_init=0.02, random_state=0).fit(X, LABELS)
    network = trained_network(
        model,
        X,
        LABELS,
        ONE_HOT,
        ["relu", "relu", "softmax"],
        loss="cross_entropy",
        optimizer=fnn.SGD(0.02),
        propagate="updated",
    )
    same(model, network)
    for wrong in ({"batch_size": 2}, {"alpha": 0.1}, {"momentum": 0.5}, {"solver": "adam"}, {"solver": fnn.FISTA()}):
        with pytest.raises(ValueError, match="propagate: updated expects batch_size=1, alpha=0 and sgd without"):
            clone(model).set_params(**wrong).fit(X, LABELS)


class Fixed(np.random.Generator):
    """Draws one number only: what an estimator's dropout has drawn."""

    def __init__(self, number):
        super().__init__(np.random.PCG64(0))
        self.number = number

    def integers(self, *limits, **options):
        return self.number


@pytest.mark.parametrize(
    ("dropout", "shares"), [(0.5, (0.5, 0.5)), ([0.25, 0.5], (0.25, 0.5)), (np.float32(0.5), None)]
)
@pytest.mark.parametrize("solver", ["sgd", "adam", fnn.FISTA(0.01)])
def test_dropout(backend, solver, dropout, shares):
    """Where it drops the estimator trains as Network.fit does, and predicts with the whole network."""
    named = {"sgd": fnn.SGD(0.001, momentum=0.9, nesterov=True), "adam": fnn.Adam()}
    model = fnn.MLPClassifier(**SETTING, solver=solver, dropout=dropout, random_state=3).fit(X, LABELS)
    layers = [fnn.Dense(6, "relu", dropout=share) for share in shares or (0.5, 0.5)]
    network = fnn.Network([fnn.Input(X.shape[1]), *layers, fnn.Dense(3, "softmax")], dtype="float64")
    network.parameters = initial(model, X, LABELS)
    network.fit(
        X,
        LABELS,
        loss="cross_entropy",
        optimizer=named.get(solver, solver) if isinstance(solver, str) else solver,
        batch_size=model.batch_size,
        epochs=model.max_iter,
        shuffle=False,
        seed=Fixed(model._optimizer.mask_seed),
    )
    same(model, network)
    np.testing.assert_array_equal(model.predict_proba(X), network.predict(X))
    whole = clone(model).set_params(dropout=0.0).fit(X, LABELS)
    assert not np.array_equal(whole._parameters, model._parameters)


def test_dropout_draws_nothing_where_it_is_0():
    """scikit-learn's numbers stay."""
    none, zeros = (
        fnn.MLPRegressor(hidden_layer_sizes=(6, 6), random_state=0, max_iter=5, dropout=dropout).fit(ROWS, NUMBERS)
        for dropout in (0.0, [0, 0])
    )
    np.testing.assert_array_equal(none._parameters, zeros._parameters)
    linear, plain = (
        fnn.MLPRegressor(hidden_layer_sizes=(), random_state=0, max_iter=5, dropout=dropout).fit(ROWS, NUMBERS)
        for dropout in (0.5, 0.0)
    )
    np.testing.assert_array_equal(linear._parameters, plain._parameters)


def losses_of_still_training(way, **options):
    """The losses of epochs that move nothing: they tell what was dropped."""
    still = {"solver": fnn.SGD(5e-324), "alpha": 0, "shuffle": False, "tol": 0}
    return way(fnn.MLPRegressor(hidden_layer_sizes=6, dropout=0.5, random_state=5, **still, **options))


def test_no_mask_of_dropout_comes_twice(backend):
    """From epoch to epoch, from `partial_fit` to `partial_fit`, from one warm start to the next."""

    def fit(model):
        return model.set_params(max_iter=6).fit(ROWS, NUMBERS).loss_curve_

    def partial_fit(model):
        for epochs in (1, 2, 1, 2):
            model.partial_fit(ROWS, NUMBERS, epochs=epochs)
        return model.loss_curve_

    def warm_start(model):
        for _ in range(3):
            model.set_params(max_iter=2).fit(ROWS, NUMBERS)
        return model.loss_curve_

    curves = [losses_of_still_training(fit), losses_of_still_training(partial_fit)]
    assert curves[0] == curves[1]
    curves += [losses_of_still_training(warm_start, warm_start=True, batch_size=size) for size in (1, 50, 442)]
    for curve in curves:
        assert len(set(curve)) == len(curve) == 6
    assert losses_of_still_training(fit) == curves[0]  # the same random_state, the same masks


def test_dropout_with_early_stopping():
    """It validates with the whole network; what it keeps is the best of them."""
    options = {"dropout": 0.5, "learning_rate_init": 0.02, "random_state": 0, "max_iter": 60}
    model = fnn.MLPClassifier((30,), early_stopping=True, **options).fit(X, LABELS)
    assert max(model.validation_scores_) == model.best_validation_score_ > 0.9
    assert model.score(X, LABELS) > 0.9
    watched = fnn.MLPClassifier((30,), **options).fit(X, LABELS, X_val=X, y_val=LABELS)
    assert watched.validation_scores_[-1] == watched.score(X, LABELS)


def test_schedules_of_optimizers():
    """They apply to whatever optimiser is given itself; scikit-learn's "adam" knows none."""
    rates = Plans()
    options = {"learning_rate": "invscaling", "power_t": 0.25, "random_state": 0, "callbacks": rates}
    fnn.MLPClassifier((4,), solver=fnn.Adam(0.5), **options).fit(X, LABELS)
    assert [rate for _, _, rate, _ in rates.plans] == [0.5 / (rows + 1) ** 0.25 for rows in (0, 178, 356)]
    by_name = fnn.MLPClassifier((4,), learning_rate="adaptive", solver="sgd", momentum=0, tol=1.0, random_state=0)
    given = clone(by_name).set_params(solver=fnn.SGD(0.001))
    for model in (by_name, given):
        model.set_params(n_iter_no_change=1, max_iter=30).fit(X, LABELS)
    np.testing.assert_array_equal(given._parameters, by_name._parameters)
    assert given._optimizer.learning_rate == by_name._optimizer.learning_rate < 0.001


def test_they_clone_pickle_and_are_searched():
    model = fnn.MLPClassifier(
        (5, 4),
        ["tanh", fnn.activations.leaky_relu.with_slope(0.2)],
        solver=fnn.FISTA(0.01),
        rate_scale="geometric",
        weight_floor=1e-3,
        dropout=[0.5, 0.25],
        random_state=0,
        max_iter=5,
    )
    again = pickle.loads(pickle.dumps(clone(model).fit(X, LABELS)))
    np.testing.assert_array_equal(again.predict_proba(X), model.fit(X, LABELS).predict_proba(X))
    np.testing.assert_array_equal(again.partial_fit(X, LABELS).coefs_[0], model.partial_fit(X, LABELS).coefs_[0])
    search = GridSearchCV(
        model, {"solver": [fnn.SGD(1e-9), fnn.Adam(0.05)], "activation": ["relu", ["tanh", "sigmoid"]]}
    )
    assert search.fit(X, LABELS).best_params_["solver"] == fnn.Adam(0.05)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"activation": ["relu"]}, "activation: expected one, or 2, one a hidden layer, got 1"),
        ({"activation": ["relu", "softmax"]}, "activation: expected identity, leaky_relu, .* in hidden layers, got 's"),
        ({"activation": fnn.activations.exp}, "activation: expected .* in hidden layers, got Activation"),
        ({"activation": "softmax"}, "The 'activation' parameter of MLPClassifier must be"),
        ({"out_activation": "tanh"}, "loss: cross_entropy goes with output activation softmax; this network's is tanh"),
        ({"rate_scale": [1.0]}, "rate_scale: expected 3 numbers, one a layer with the output's, got 1"),
        ({"rate_scale": [1.0, 0.0, 1.0]}, "rate_scale: expected finite numbers > 0, got 0"),
        ({"rate_scale": "cubic"}, "The 'rate_scale' parameter of MLPClassifier must be"),
        ({"weight_floor": 0.5, "saturation": 0.1}, "weight_floor: expected a finite number > 0 and at most saturation"),
        ({"dropout": 1.0}, "The 'dropout' parameter of MLPClassifier must be"),
        ({"dropout": -0.1}, "The 'dropout' parameter of MLPClassifier must be"),
        ({"dropout": [0.5]}, "dropout: expected one number, or 2, one a hidden layer, got 1"),
        ({"dropout": [0.5, 1.0]}, r"dropout: expected a number in \[0, 1\), got 1.0"),
        ({"dropout": [0.5, "much"]}, r"dropout: expected a number in \[0, 1\), got 'much'"),
        ({"dropout": 0.5, "solver": "lbfgs"}, "dropout: expected none with solver='lbfgs', got 0.5"),
        (
            {"dropout": 0.5, "solver": fnn.SGD(0.1), "alpha": 0, "batch_size": 1, "propagate": "updated"},
            "propagate: updated expects no dropout, got 0.5",
        ),
        ({"solver": "fista"}, "The 'solver' parameter of MLPClassifier must be"),
        ({"callbacks": fnn.AutoRate}, "callbacks: expected callables, got <class"),
        ({"loss": "hinge"}, "The 'loss' parameter of MLPClassifier must be"),
    ],
)
def test_wrong_parameters(parameters, message):
    with pytest.raises(ValueError, match=message):
        fnn.MLPClassifier((4, 4), **parameters).fit(X, LABELS)


def test_wrong_targets():
    with pytest.raises(ValueError, match=r"y: expected numbers in \[0, 1\] for loss='binary_cross_entropy', got 1\."):
        fnn.MLPRegressor("binary_cross_entropy").fit(ROWS, NUMBERS * 1.5)
    with pytest.raises(ValueError, match="y: expected numbers >= 0 for loss='cross_entropy', got -1"):
        fnn.MLPRegressor("cross_entropy").fit(X, ONE_HOT - 1)
    with pytest.raises(ValueError, match="loss: cross_entropy expects two outputs or more, got 1"):
        fnn.MLPRegressor("cross_entropy").fit(ROWS, NUMBERS)


@pytest.mark.parametrize("name", ["MLPClassifier", "MLPRegressor"])
def test_every_parameter_is_described(name):
    """In the docstring, and what scikit-learn has not got in the table of docs/scikit-learn.md as well."""
    ours, expected = (list(inspect.signature(getattr(package, name)).parameters) for package in (fnn, neural_network))
    described = inspect.getdoc(getattr(fnn, name)).partition("Attributes\n")[0]
    page = (Path(__file__).parents[1] / "docs" / "scikit-learn.md").read_text(encoding="utf-8")
    for parameter in ours:
        assert re.search(rf"^(\w+, )*{parameter}(, \w+)* : ", described, re.MULTILINE), parameter
        assert parameter in expected or re.search(rf"^\| .*`{parameter}", page, re.MULTILINE), parameter
