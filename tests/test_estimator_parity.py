"""The estimators compute scikit-learn's numbers: from the same random_state the same losses, scores and weights.

float64 sums in another order differ by some 1e-16 each; 20 epochs let that grow to 1e-9 at most (issue of the drop-in).
"""

import warnings

import numpy as np
import pytest
from scipy.sparse import csc_array, csr_array, csr_matrix
from sklearn import neural_network as theirs
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine, make_multilabel_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import scale

import fnn

EPOCHS = 20
RELATIVE = 1e-9


def digits():
    x, y = load_digits(return_X_y=True)
    return x[:600] / 16, y[:600]


def cancer():
    x, y = load_breast_cancer(return_X_y=True)
    return scale(x), np.array(["benign", "malignant"])[y]


def wine():
    x, y = load_wine(return_X_y=True)
    return scale(x), 2.0 * y - 1


def multilabel():
    return make_multilabel_classification(n_samples=150, n_classes=4, random_state=3)


def diabetes():
    x, y = load_diabetes(return_X_y=True)
    return scale(x), scale(y)


def two_outputs():
    x, y = diabetes()
    return x, np.column_stack([y, np.sin(3 * x[:, 2])])


def counts():
    x, _ = diabetes()
    return x, np.random.default_rng(5).poisson(np.exp(0.3 * x[:, 2] + 0.2 * x[:, 8])).astype(float)


CLASSIFICATION = [digits, cancer, wine, multilabel]
REGRESSION = [diabetes, two_outputs, counts]


def both(data, call=lambda model, x, y: model.fit(x, y), **parameters):
    """Fit scikit-learn's estimator and ours alike and return both."""
    x, y = data()
    kind = "MLPClassifier" if data in CLASSIFICATION else "MLPRegressor"
    if data is counts:
        parameters = {"loss": "poisson"} | parameters
    models = []
    for package in (theirs, fnn):
        model = getattr(package, kind)(**{"max_iter": EPOCHS, "random_state": 7} | parameters)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            call(model, x, y)
        models.append(model)
    return *models, x


def assert_same(reference, model, x, relative=RELATIVE, same_type=True):
    assert model.n_iter_ == reference.n_iter_
    assert model.t_ == reference.t_
    assert type(model.loss_curve_) is list
    np.testing.assert_allclose(model.loss_curve_, reference.loss_curve_, rtol=relative)
    np.testing.assert_allclose(model.loss_, reference.loss_, rtol=relative)
    for name in ("best_loss_", "best_validation_score_", "validation_scores_"):
        ours, expected = getattr(model, name), getattr(reference, name)
        assert (ours is None) == (expected is None)
        if expected is not None:
            np.testing.assert_allclose(ours, expected, rtol=relative)
    for ours, expected in zip(model.coefs_ + model.intercepts_, reference.coefs_ + reference.intercepts_, strict=True):
        assert ours.dtype == expected.dtype
        np.testing.assert_allclose(ours, expected, rtol=1e3 * relative, atol=1e3 * relative)
    assert model.out_activation_ == reference.out_activation_
    assert (model.n_layers_, model.n_outputs_) == (reference.n_layers_, reference.n_outputs_)
    if hasattr(reference, "classes_"):
        np.testing.assert_array_equal(model.classes_, reference.classes_)
        np.testing.assert_array_equal(model.predict(x), reference.predict(x))
        ours, expected = model.predict_proba(x), reference.predict_proba(x)
    else:
        ours, expected = model.predict(x), reference.predict(x)
    assert ours.shape == expected.shape
    if same_type:
        assert ours.dtype == expected.dtype
    np.testing.assert_allclose(ours, expected, rtol=1e3 * relative, atol=1e3 * relative)


@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize("data", CLASSIFICATION + REGRESSION)
def test_every_kind_of_data(backend, data, solver):
    rate = 0.01 if solver == "sgd" else 0.001
    assert_same(*both(data, solver=solver, learning_rate_init=rate, hidden_layer_sizes=(30,)))


@pytest.mark.parametrize("data", [digits, cancer, wine, multilabel, diabetes])
def test_to_the_end(data):
    """Default settings but for the rate: training stops after the same epoch, with the same answers."""
    reference, model, x = both(data, max_iter=1000, learning_rate_init=0.01)
    assert_same(reference, model, x, relative=1e-6)
    assert 20 < model.n_iter_ < 1000


@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize("load", [load_wine, load_digits])
def test_data_that_nobody_scaled(backend, load, solver):
    """Losses that scikit-learn cuts off: it takes no probability for less than eps."""

    def fit(model, x, y):
        data = load(return_X_y=True)
        model.fit(data[0][:500], data[1][:500])

    reference, model, _ = both(digits, fit, solver=solver, learning_rate_init=1e-4, hidden_layer_sizes=20)
    assert_same(reference, model, load(return_X_y=True)[0])
    assert model.loss_curve_[0] > 5


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("hidden", [(), 7, (20, 5), (3, 3, 3)], ids=str)
@pytest.mark.parametrize("data", [wine, two_outputs])
def test_shapes_and_activations(data, hidden, activation):
    assert_same(*both(data, hidden_layer_sizes=hidden, activation=activation, alpha=0.1, batch_size=32))


@pytest.mark.parametrize(
    "parameters",
    [
        {"learning_rate": "invscaling", "power_t": 0.3},
        {"learning_rate": "adaptive", "tol": 0.1, "n_iter_no_change": 2},
        {"momentum": 0},
        {"momentum": 0.5, "nesterovs_momentum": False},
        {"momentum": 1.0, "learning_rate_init": 1e-3},
        {"shuffle": False},
        {"batch_size": 1, "learning_rate_init": 0.001},
        {"batch_size": 17, "alpha": 1.0},
        {"solver": "adam", "beta_1": 0.0, "beta_2": 0.9, "epsilon": 1e-3},
        {"solver": "adam", "tol": 0.05, "n_iter_no_change": 1},
        {"early_stopping": True},
        {"early_stopping": True, "tol": 0.02, "n_iter_no_change": 2, "validation_fraction": 0.3},
        {"early_stopping": True, "learning_rate": "adaptive", "tol": 0.1, "n_iter_no_change": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("data", [cancer, wine, multilabel, diabetes])
def test_parameters(data, parameters):
    assert_same(*both(data, **{"solver": "sgd", "learning_rate_init": 0.02, "hidden_layer_sizes": 10} | parameters))


def weights_for(x):
    return np.random.default_rng(1).uniform(0.1, 3, len(x))


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("data", [cancer, digits, multilabel, two_outputs, counts])
def test_sample_weight(backend, data, early_stopping):
    def fit(model, x, y):
        model.fit(x, y, sample_weight=weights_for(x))

    assert_same(*both(data, fit, hidden_layer_sizes=12, batch_size=50, early_stopping=early_stopping, alpha=0.01))


@pytest.mark.parametrize("parameters", [{}, {"solver": "sgd", "learning_rate": "invscaling"}, {"early_stopping": True}])
@pytest.mark.parametrize("data", [wine, diabetes])
def test_warm_start(data, parameters):
    def twice(model, x, y):
        model.fit(x, y)
        model.set_params(max_iter=8).fit(x[::-1], y[::-1])

    assert_same(*both(data, twice, warm_start=True, max_iter=6, hidden_layer_sizes=9, **parameters))


@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize("data", [cancer, wine, multilabel, diabetes])
def test_partial_fit(data, solver):
    def in_parts(model, x, y):
        classes = np.arange(y.shape[1]) if data is multilabel else np.unique(y)
        first = {"classes": classes} if data in CLASSIFICATION else {}
        model.partial_fit(x[:50], y[:50], **first)
        for part in (slice(50, 90), slice(90, None), slice(0, 40)):
            model.partial_fit(x[part], y[part], sample_weight=weights_for(x[part]))
        model.learning_rate_init = 100  # the solver keeps what it was made with

        model.partial_fit(x, y)

    assert_same(*both(data, in_parts, solver=solver, hidden_layer_sizes=9, learning_rate="invscaling"))


@pytest.mark.parametrize("data", [wine, diabetes])
def test_partial_fit_after_fit(data):
    def on(model, x, y):
        model.fit(x, y)
        for _ in range(3):
            model.partial_fit(x, y)

    assert_same(*both(data, on, hidden_layer_sizes=9))


def test_random_state_that_goes_on():
    def twice(model, x, y):
        generator = np.random.RandomState(4)
        model.set_params(random_state=generator).fit(x, y)
        model.fit(x, y)
        model.drawn = generator.randint(1 << 30)

    reference, model, x = both(wine, twice)
    assert_same(reference, model, x)
    assert model.drawn == reference.drawn


@pytest.mark.parametrize("container", [csr_matrix, csr_array, csc_array])
@pytest.mark.parametrize("data", [digits, diabetes])
def test_sparse(data, container):
    reference, model, x = both(data, lambda model, x, y: model.fit(container(x), y), hidden_layer_sizes=9)
    assert_same(reference, model, container(x))


@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize("data", [digits, two_outputs])
def test_float32(backend, data, solver):
    """float32 rounds to 6e-8; scikit-learn adds up some of it in double, where y is."""

    def fit(model, x, y):
        model.fit(x.astype("f4"), y if data is digits else y.astype("f4"))

    reference, model, x = both(data, fit, solver=solver, hidden_layer_sizes=9)
    assert_same(reference, model, x.astype("f4"), relative=1e-5)
    assert_same(reference, model, x, relative=1e-5)  # float64 rows: both answer in float64
