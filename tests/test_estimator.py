"""MLPClassifier and MLPRegressor: what they are to scikit-learn, what they keep, and what they can beyond it."""

import copy
import inspect
import math
import pickle
import re
import warnings

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from scipy.sparse import csr_array
from sklearn import neural_network as theirs
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.callback import ScoringMonitor
from sklearn.datasets import load_diabetes, load_wine, make_multilabel_classification
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_validate
from sklearn.neural_network import _stochastic_optimizers
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler, scale
from sklearn.utils import shuffle

import fnn
from fnn import _dispatch, _estimator_base, _estimator_solvers
from fnn._estimator_problem import Problem
from fnn._estimator_solvers import StochasticSolver
from interpreter import python

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
ESTIMATORS = [fnn.MLPClassifier, fnn.MLPRegressor]


def wine():
    x, y = load_wine(return_X_y=True)
    return scale(x), y


def diabetes():
    x, y = load_diabetes(return_X_y=True)
    return scale(x), scale(y)


def classifier(**parameters):
    return fnn.MLPClassifier(**{"hidden_layer_sizes": (8,), "random_state": 0, "max_iter": 20} | parameters)


def regressor(**parameters):
    return fnn.MLPRegressor(**{"hidden_layer_sizes": (8,), "random_state": 0, "max_iter": 20} | parameters)


# ---- Importing -----------------------------------------------------------------------------------


def test_import_leaves_scikit_learn_alone():
    code = """
import sys, fnn
assert "MLPClassifier" in dir(fnn)
assert not {"sklearn", "scipy", "joblib", "pandas"} & set(sys.modules)
assert fnn.MLPClassifier is fnn.MLPClassifier
assert "sklearn" in sys.modules
"""
    done = python(code)
    assert done.returncode == 0, done.stderr


def test_without_scikit_learn():
    """The error names the extra, and `from fnn import *` goes without."""
    code = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "sklearn":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "sklearn" else found(name, package)
sys.meta_path.insert(0, Missing())
from fnn import *
import fnn
assert Network is fnn.Network and "MLPClassifier" not in fnn.__all__
try:
    fnn.MLPClassifier
except ImportError as error:
    print(error)
"""
    done = python(code)
    assert done.stdout == "fnn.MLPClassifier needs scikit-learn: pip install 'fnn[sklearn]'\n", done.stderr


def test_unknown_name():
    with pytest.raises(AttributeError, match="module 'fnn' has no attribute 'MLPTransformer'"):
        _ = fnn.MLPTransformer


# ---- The same face -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["MLPClassifier", "MLPRegressor"])
def test_signature(name):
    """Theirs first, in their order and with their defaults; more behind it, by keyword."""
    ours, expected = (inspect.signature(getattr(package, name)).parameters for package in (fnn, theirs))
    assert list(ours)[: len(expected)] == list(expected)
    for parameter in expected.values():
        assert (ours[parameter.name].default, ours[parameter.name].kind) == (parameter.default, parameter.kind)
    assert all(ours[extra].kind is inspect.Parameter.KEYWORD_ONLY for extra in set(ours) - set(expected))
    for method in ("fit", "partial_fit", "predict", "score"):
        mine, other = (
            list(inspect.signature(getattr(getattr(package, name), method)).parameters) for package in (fnn, theirs)
        )
        assert mine[: len(other)] == other


@pytest.mark.parametrize(
    ("ours", "expected"), [(fnn.MLPClassifier, theirs.MLPClassifier), (fnn.MLPRegressor, theirs.MLPRegressor)]
)
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_public_attributes(ours, expected, solver):
    x, y = wine()
    fitted = [kind(solver=solver, max_iter=3).fit(x, y) for kind in (ours, expected)]
    mine, other = ({name for name in vars(model) if not name.startswith("_")} for model in fitted)
    added = set(fitted[0].get_params()) - set(fitted[1].get_params())
    assert not other - mine
    assert mine - other <= added | {"validation_loss_curve_"}
    assert fitted[0].loss == fitted[1].loss


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"hidden_layer_sizes": (3, 0)}, r"hidden_layer_sizes must be > 0, got \[3, 0\]\."),
        ({"solver": "newton"}, "The 'solver' parameter of MLP.* must be a str among"),
        ({"momentum": 1.5}, "The 'momentum' parameter of MLP"),
        ({"saturation": 0}, "The 'saturation' parameter of MLP"),
        ({"callbacks": [3]}, "callbacks: expected callables, got 3"),
    ],
)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_wrong_parameters(estimator, parameters, message):
    with pytest.raises(ValueError, match=message):
        estimator(**parameters).fit(*wine())


def test_subclass_has_its_own_parameters():
    class Named(fnn.MLPRegressor):
        def __init__(self, name="", alpha=0.5):
            super().__init__(alpha=alpha)
            self.name = name

    before = regressor().get_params()
    assert Named("a").get_params() == {"name": "a", "alpha": 0.5}
    assert regressor().get_params() == before


def test_partial_fit_is_absent_for_lbfgs():
    for estimator in ESTIMATORS:
        assert not hasattr(estimator(solver="lbfgs"), "partial_fit")
        assert hasattr(estimator(), "partial_fit")


@pytest.mark.parametrize("method", ["predict", "transform", "predict_proba"])
def test_not_fitted(method):
    with pytest.raises(NotFittedError):
        getattr(fnn.MLPClassifier(), method)(wine()[0])


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("dtype", ["datetime64[D]", "timedelta64[s]", "U2"])
def test_targets_of_a_regression_are_numbers(method, dtype):
    """Times and text, which NumPy would turn into numbers, are refused, as by scikit-learn, and nothing is fitted."""
    model = fnn.MLPRegressor(max_iter=2)
    with pytest.raises(TypeError, match=rf"y: expected numbers, got dtype .*{re.escape(dtype)}"):
        getattr(model, method)(np.eye(5), np.arange(5).astype(dtype))
    assert not hasattr(model, "coefs_")


def test_poisson_refuses_negative_targets():
    x, y = diabetes()
    with pytest.raises(ValueError, match=r"y: expected numbers >= 0 for loss='poisson', got -1"):
        regressor(loss="poisson").fit(x, y)


@pytest.mark.parametrize("early_stopping", [False, True])
def test_divergence(early_stopping):
    """Without early stopping the fit ends with the epoch that diverged; with it the best weights come back."""
    x, y = diabetes()
    seen = []
    model = regressor(
        solver="sgd",
        learning_rate_init=50,
        early_stopping=early_stopping,
        callbacks=lambda model: seen.append(model.loss_),
    )
    if early_stopping:
        model.fit(x, y)
        assert math.isnan(model.validation_scores_[-1])
        assert np.isfinite(model.predict(x)).all()
    else:
        with pytest.raises(ValueError, match="Solver produced non-finite parameter weights"):
            model.fit(x, y)
        assert len(seen) < 20


def test_ctrl_c_keeps_the_weights():
    x, y = wine()

    def interrupt(model):
        if model.n_iter_ == 3:
            raise KeyboardInterrupt

    with pytest.warns(UserWarning, match=r"Training interrupted by user\."):
        model = classifier(callbacks=interrupt).fit(x, y)
    reference = classifier(max_iter=3).fit(x, y)
    np.testing.assert_array_equal(model.coefs_[0], reference.coefs_[0])
    assert len(model.loss_curve_) == 3


def test_verbose_prints_what_theirs_does(capsys):
    x, y = wine()
    printed = []
    for package in (theirs, fnn):
        package.MLPClassifier(
            solver="sgd",
            learning_rate="adaptive",
            tol=1.0,
            n_iter_no_change=1,
            max_iter=40,
            random_state=0,
            verbose=True,
        ).fit(x, y)
        package.MLPClassifier(early_stopping=True, tol=1.0, n_iter_no_change=2, random_state=0, verbose=True).fit(x, y)
        printed.append(capsys.readouterr().out)
    assert printed[1] == printed[0]
    assert "Learning rate too small. Stopping." in printed[0]


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_warnings_are_theirs(solver):
    x, y = wine()
    caught = []
    for package in (theirs, fnn):
        with warnings.catch_warnings(record=True) as record:
            warnings.simplefilter("always")
            package.MLPClassifier(solver=solver, max_iter=2, batch_size=1000, random_state=0).fit(x, y[:, None])
        caught.append([(warning.category, str(warning.message)) for warning in record])
    assert caught[1] == caught[0]
    assert ConvergenceWarning in [category for category, _ in caught[0]]


@pytest.mark.parametrize("schedule", ["constant", "invscaling", "adaptive"])
@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_a_solver_without_progress(solver, schedule):
    """As in scikit-learn's test_stochastic_optimizers.py, whose subjects are private classes."""
    model = classifier(solver=solver, learning_rate=schedule, learning_rate_init=0.3, power_t=0.7).fit(*wine())
    problem = Problem(model._layout, model._parameters, *[None] * 3, fnn.losses.cross_entropy, 1)
    ours = StochasticSolver(model, problem, None)
    expected = (
        _stochastic_optimizers.SGDOptimizer([], 0.3, schedule, power_t=0.7)
        if solver == "sgd"
        else _stochastic_optimizers.AdamOptimizer([], 0.3)
    )
    for rows_seen in range(0, 1000, 50):
        ours.epoch_ends(rows_seen)
        expected.iteration_ends(rows_seen)
        assert ours.learning_rate == expected.learning_rate
        assert ours.stops("", False) == expected.trigger_stopping("", False)
        assert ours.learning_rate == expected.learning_rate


# ---- L-BFGS --------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("outputs", [1, 2])
def test_lbfgs_agrees_with_theirs(backend, outputs, weighted):
    """A few steps, before the line search makes much of rounding."""
    x, y = diabetes()
    weights = np.random.default_rng(0).uniform(0.2, 2, len(x)) if weighted else None
    targets = y if outputs == 1 else np.column_stack([y, y**2])
    models = [
        package.MLPRegressor(hidden_layer_sizes=(7,), solver="lbfgs", alpha=0.5, max_iter=8, random_state=0).fit(
            x, targets, weights
        )
        for package in (fnn, theirs)
    ]
    assert models[0].n_iter_ == models[1].n_iter_
    assert models[0].loss_ == pytest.approx(models[1].loss_, rel=1e-6)
    np.testing.assert_allclose(models[0].predict(x), models[1].predict(x), rtol=1e-4, atol=1e-4)


def test_lbfgs_converges_to_theirs():
    x, y = wine()
    models = [
        package.MLPClassifier((), solver="lbfgs", alpha=1.0, random_state=0, tol=1e-8, max_iter=2000).fit(x, y)
        for package in (fnn, theirs)
    ]
    np.testing.assert_allclose(models[0].predict_proba(x), models[1].predict_proba(x), atol=1e-6)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_lbfgs_computes_in_the_datas_type_as_theirs_does(dtype, monkeypatch):
    """Though it steps in double, and leaves that."""
    x, y = wine()
    seen = []
    original = theirs.MLPClassifier._loss_grad_lbfgs
    monkeypatch.setattr(
        theirs.MLPClassifier,
        "_loss_grad_lbfgs",
        lambda self, packed, *a: seen.append(packed.dtype) or original(self, packed, *a),
    )
    kernels, made = _dispatch.kernels, _dispatch.kernels.Workspace
    monkeypatch.setattr(kernels, "Workspace", lambda layout, kind, *a: seen.append(kind) or made(layout, kind, *a))
    ours, expected = (
        p.MLPClassifier(solver="lbfgs", max_iter=2, random_state=0).fit(x.astype(dtype), y) for p in (fnn, theirs)
    )
    assert set(seen) == {np.dtype(dtype)}
    assert {coef.dtype for coef in ours.coefs_} == {coef.dtype for coef in expected.coefs_} == {np.dtype("f8")}
    assert ours.loss_ == pytest.approx(expected.loss_, rel=1e-7 if dtype == "f4" else 1e-12)


# ---- Weights and memory --------------------------------------------------------------------------


def test_weights_are_views_of_one_vector():
    model = classifier(hidden_layer_sizes=(8, 5)).fit(*wine())
    for array in (*model.coefs_, *model.intercepts_):
        assert np.shares_memory(array, model._parameters)
    x = wine()[0]
    before = model.predict_proba(x)
    model.coefs_[-1][:] = 0
    model.intercepts_[-1][:] = 0
    np.testing.assert_allclose(model.predict_proba(x), 1 / 3)
    assert not np.allclose(before, 1 / 3)


def test_foreign_arrays_are_taken():
    """Also what happens inside them later; training takes them over."""
    x, y = wine()
    model, other = classifier().fit(x, y), classifier(random_state=1).fit(x, y)
    mine = other.coefs_[0].copy()
    model.coefs_[0] = mine
    mine *= 2
    expected = copy.deepcopy(model)
    expected.coefs_ = [2 * other.coefs_[0], model.coefs_[1].copy()]
    np.testing.assert_array_equal(model.predict_proba(x), expected.predict_proba(x))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict_proba(x), expected.predict_proba(x))
    before = mine.copy()
    model.partial_fit(x, y)
    expected.partial_fit(x, y)
    np.testing.assert_array_equal(mine, before)
    np.testing.assert_array_equal(model.coefs_[0], expected.coefs_[0])
    assert np.shares_memory(model.coefs_[0], model._parameters)


def test_another_shape_does_not_go_on():
    x, y = diabetes()
    model = regressor().fit(x, y)
    with pytest.raises(ValueError, match="y: expected 1 outputs, as many as the network of the call before has, got 2"):
        model.partial_fit(x, np.column_stack([y, y]))
    model.coefs_ = [np.ones((10, 3)), np.ones((3, 1))]
    model.intercepts_ = [np.ones(3), np.ones(1)]
    with pytest.raises(ValueError, match=r"partial_fit: expected the 97 parameters of the call before, got .* of 37"):
        model.partial_fit(x, y)


@pytest.mark.parametrize(("solver", "times"), [("adam", 3), ("sgd", 2), ("lbfgs", 1)])
def test_pickles_hold_the_weights_once_and_what_partial_fit_needs(solver, times):
    x, y = wine()
    model = classifier(hidden_layer_sizes=(400, 100), solver=solver, max_iter=3).fit(x, y)
    written = pickle.dumps(model)
    assert len(written) < times * model._parameters.nbytes + 10_000
    again = pickle.loads(written)
    np.testing.assert_array_equal(again.predict_proba(x), model.predict_proba(x))
    assert np.shares_memory(again.coefs_[0], again._parameters)
    if solver != "lbfgs":
        np.testing.assert_array_equal(again.partial_fit(x, y).coefs_[0], model.partial_fit(x, y).coefs_[0])


@pytest.mark.parametrize("hidden", [8, 1000])
def test_joblib_memory_map(tmp_path, backend, hidden):
    """Read-only weights predict, by the way of few operations and by that of many, and train in a copy."""
    x, y = wine()
    model = classifier(hidden_layer_sizes=(hidden,)).fit(x, y)
    joblib.dump(model, tmp_path / "model.joblib")
    mapped = joblib.load(tmp_path / "model.joblib", mmap_mode="r")
    np.testing.assert_array_equal(mapped.predict_proba(x), model.predict_proba(x))
    np.testing.assert_array_equal(mapped.partial_fit(x, y).coefs_[1], model.partial_fit(x, y).coefs_[1])


def test_a_large_prediction_comes_in_chunks(backend, monkeypatch):
    x, y = wine()
    model = classifier().fit(x, y)
    expected = model.predict_proba(x)
    seen = []
    original = _dispatch.kernels.predict
    monkeypatch.setattr(_dispatch.kernels, "predict", lambda *args: (seen.append(len(args[2])), original(*args))[1])
    monkeypatch.setattr("fnn._checks.CHUNK_VALUES", 1000)
    monkeypatch.setattr("fnn._estimator_sparse.TERMS_FOR_A_NUMBER", 0)
    for rows in (x, csr_array(x), np.asfortranarray(x), x.astype("f4")):
        seen.clear()
        np.testing.assert_allclose(model.predict_proba(rows), expected, rtol=1e-4)
        assert len(seen) == math.ceil(len(x) / (1000 // 24))
    assert max(seen) <= 1000 // 24


# ---- Among scikit-learn's tools ------------------------------------------------------------------


def test_names_of_features():
    x, y = wine()
    names = [f"feature {number}" for number in range(x.shape[1])]
    frame = pd.DataFrame(x, columns=names)
    model = classifier(early_stopping=True).fit(frame, pd.Series(y))
    assert list(model.feature_names_in_) == names
    np.testing.assert_array_equal(model.predict(frame), classifier(early_stopping=True).fit(x, y).predict(x))
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(frame.rename(columns={"feature 0": "another"}))
    with pytest.raises(ValueError, match="X has 3 features, but MLPClassifier is expecting 13"):
        classifier().fit(x, y).predict(x[:, :3])


def test_pipeline_calibration_and_clone():
    x, y = load_wine(return_X_y=True)
    model = CalibratedClassifierCV(make_pipeline(StandardScaler(), classifier(max_iter=300)), cv=3).fit(x, y)
    assert model.score(x, y) > 0.9
    again = clone(classifier(alpha=0.7, saturation=2.0).fit(*wine()))
    assert (again.alpha, again.saturation) == (0.7, 2.0)
    assert not hasattr(again, "coefs_")


def test_metadata_routing():
    x, y = wine()
    weights = np.r_[np.ones(100), np.zeros(len(x) - 100)]
    with sklearn.config_context(enable_metadata_routing=True):
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        routed = make_pipeline(scaler, classifier().set_fit_request(sample_weight=True))
        assert not np.allclose(routed.fit(x, y, sample_weight=weights)[-1].coefs_[0], routed.fit(x, y)[-1].coefs_[0])
        asked = regressor().set_partial_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        assert asked.get_metadata_routing().partial_fit.requests["sample_weight"] is True


def test_validation_rows_go_through_a_pipeline():
    x, y = load_wine(return_X_y=True)
    x, y = shuffle(x, y, random_state=0)
    with sklearn.config_context(enable_metadata_routing=True):
        model = classifier(early_stopping=True).set_fit_request(X_val=True, y_val=True)
        pipeline = Pipeline([("scale", StandardScaler()), ("mlp", model)], transform_input=["X_val"])
        pipeline.fit(x[:120], y[:120], X_val=x[120:], y_val=y[120:])
        assert pipeline.score(x[120:], y[120:]) == pytest.approx(pipeline["mlp"].best_validation_score_)


def test_grid_search_with_processes():
    """The same choice and scores as one after the other; each process keeps to its share of the cores."""
    x, y = wine()
    results = []
    for jobs in (1, 2):
        search = GridSearchCV(
            classifier(), {"alpha": [1e-4, 10.0], "hidden_layer_sizes": [(3,), (9,)]}, cv=2, n_jobs=jobs
        )
        search.fit(x, y)
        results.append((search.best_params_, search.cv_results_["mean_test_score"].tolist()))
    assert results[0] == results[1]


def used_threads():
    return _estimator_solvers.thread_count(None), _estimator_solvers.thread_count(3)


def test_joblib_threads_do_not_oversubscribe(monkeypatch):
    """joblib says nothing to the threads that it starts: there a fit takes one, unless asked for more."""
    monkeypatch.setattr("fnn._threads._wish", 5)
    assert used_threads() == (5, 3)
    with joblib.parallel_backend("threading", n_jobs=2):
        assert set(joblib.Parallel()(joblib.delayed(used_threads)() for _ in range(6))) == {(1, 3)}
    monkeypatch.setattr("fnn._threads._wish", None)
    limits = joblib.Parallel(n_jobs=2, backend="loky")(joblib.delayed(used_threads)() for _ in range(2))
    assert {default for default, _ in limits} == {max(1, joblib.cpu_count() // 2)}


@pytest.mark.parametrize("parallel", ["threading", "loky"])
def test_parallel_fits_give_the_same(parallel):
    x, y = diabetes()
    one = cross_val_predict(regressor(), x, y, cv=4)
    with joblib.parallel_backend(parallel, n_jobs=2):
        np.testing.assert_array_equal(cross_val_predict(regressor(), x, y, cv=4), one)


def test_transform_and_set_output():
    x, y = wine()
    model = classifier(hidden_layer_sizes=(8, 5), activation="tanh").fit(x, y)
    first = np.tanh(x @ model.coefs_[0] + model.intercepts_[0])
    second = np.tanh(first @ model.coefs_[1] + model.intercepts_[1])
    np.testing.assert_allclose(model.transform(x, layer=0), first, rtol=1e-12)
    np.testing.assert_allclose(model.transform(x, layer=-2), first, rtol=1e-12)
    np.testing.assert_allclose(model.transform(x), second, rtol=1e-12)
    frame = model.set_output(transform="pandas").transform(x)
    assert list(frame.columns) == [f"mlpclassifier{number}" for number in range(5)]
    for layer in (2, -3):
        with pytest.raises(ValueError, match=f"layer: expected a number from -2 to 1, got {layer}"):
            model.transform(x, layer=layer)
    with pytest.raises(ValueError, match="transform: expected a network with a hidden layer"):
        classifier(hidden_layer_sizes=()).fit(x, y).transform(x)


# ---- More than theirs ----------------------------------------------------------------------------


def test_class_weight():
    x, y = wine()
    weights = {0: 1.0, 1: 3.0, 2: 0.5}
    by_row = np.array([weights[label] for label in y])
    rows = np.random.default_rng(0).uniform(0.5, 2, len(y))
    for sample_weight in (None, rows):
        model = classifier(class_weight=weights).fit(x, y, sample_weight)
        expected = classifier().fit(x, y, by_row if sample_weight is None else by_row * rows)
        np.testing.assert_array_equal(model.coefs_[0], expected.coefs_[0])
    counts = np.bincount(y)
    balanced = classifier(class_weight="balanced").fit(x, y)
    expected = classifier().fit(x, y, (len(y) / (3 * counts))[y])
    np.testing.assert_array_equal(balanced.coefs_[0], expected.coefs_[0])
    with pytest.raises(ValueError, match="class_weight: expected a dict or None for partial_fit"):
        classifier(class_weight="balanced").partial_fit(x, y, classes=[0, 1, 2])


def test_validation_rows_of_ones_own():
    x, y = diabetes()
    parts = {"X_val": x[300:], "y_val": y[300:], "sample_weight_val": np.linspace(0.1, 1, len(x) - 300)}
    model = regressor(early_stopping=True, tol=1e-3, max_iter=200, learning_rate_init=0.01).fit(
        x[:300], y[:300], **parts
    )
    assert model.n_iter_ < 200
    score = model.score(x[300:], y[300:], parts["sample_weight_val"])
    assert score == pytest.approx(model.best_validation_score_)
    assert max(model.validation_scores_) == model.best_validation_score_
    only_watched = regressor().fit(x[:300], y[:300], **parts)
    np.testing.assert_array_equal(only_watched.coefs_[0], regressor().fit(x[:300], y[:300]).coefs_[0])
    error = np.square(only_watched.predict(x[300:]) - y[300:])
    expected = np.average(error, weights=parts["sample_weight_val"]) / 2
    assert only_watched.validation_loss_curve_[-1] == pytest.approx(expected)
    assert len(only_watched.validation_loss_curve_) == len(only_watched.validation_scores_) == 20


@pytest.mark.parametrize("data", ["binary", "classes", "labels", "counts"])
def test_validation_loss_is_that_of_the_training(data):
    """On the training rows it is the next epoch's loss, if that takes all rows at once."""
    x, y = wine()
    y = {"binary": y > 0, "classes": y, "labels": np.eye(3, dtype=int)[y], "counts": y}[data]
    make = regressor if data == "counts" else classifier
    model = make(**({"loss": "poisson"} if data == "counts" else {}), alpha=0, batch_size=len(x))
    model.fit(x, y, X_val=x, y_val=y)
    np.testing.assert_allclose(model.validation_loss_curve_[:-1], model.loss_curve_[1:], rtol=1e-10)
    assert model.validation_scores_[-1] == pytest.approx(model.score(x, y))


def test_wrong_validation_rows():
    x, y = wine()
    for arguments, message in [
        ({"X_val": x}, "y_val: expected one beside the other arguments _val, got None"),
        ({"y_val": y}, "X_val: expected one beside"),
        ({"X_val": x, "y_val": y + 1}, "`y` has classes not in `self.classes_`"),
        ({"X_val": x[:, 1:], "y_val": y}, "X has 12 features"),
    ]:
        with pytest.raises(ValueError, match=message):
            classifier().fit(x, y, **arguments)
    with pytest.raises(ValueError, match="y_val: expected 1 columns, as many as y has, got 2"):
        regressor().fit(x, y, X_val=x, y_val=np.column_stack([y, y]))


def test_epochs_of_partial_fit():
    """Several epochs in one call go on as those of a fit do."""
    x, y = diabetes()
    model = regressor().partial_fit(x, y, epochs=6)
    np.testing.assert_array_equal(model.coefs_[0], regressor(max_iter=6).fit(x, y).coefs_[0])
    assert model.n_iter_ == len(model.loss_curve_) == 6
    with pytest.raises(ValueError, match="epochs: expected an integer >= 1, got 0"):
        model.partial_fit(x, y, epochs=0)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_max_seconds_ends_after_an_epoch(solver):
    model = classifier(solver=solver, max_seconds=1e-9).fit(*wine())
    assert model.n_iter_ == 1
    assert classifier(solver=solver, max_seconds=1e9, max_iter=3).fit(*wine()).n_iter_ == 3


def test_saturation_keeps_weights_inside():
    model = classifier(saturation=0.05).fit(*wine())
    assert max(np.abs(array).max() for array in (*model.coefs_, *model.intercepts_)) == 0.05


def test_dtype_of_ones_own():
    x, y = wine()
    model = classifier(dtype="float32").fit(x, y)
    assert model.coefs_[0].dtype == np.float32
    np.testing.assert_array_equal(model.coefs_[0], classifier().fit(x.astype("f4"), y).coefs_[0])
    assert classifier(dtype="float64").fit(x.astype("f4"), y).coefs_[0].dtype == np.float64


def test_threads_do_not_change_the_result():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(600, 200)), rng.integers(0, 5, 600)
    one, two = (classifier(hidden_layer_sizes=(300,), max_iter=3, n_threads=n).fit(x, y) for n in (1, 2))
    np.testing.assert_array_equal(one.coefs_[0], two.coefs_[0])


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_callbacks_see_each_epoch_and_may_end_training(solver):
    seen = []

    def look(model):
        seen.append((model.n_iter_, model.coefs_[0].copy()))
        return model.n_iter_ == 4

    model = classifier(solver=solver, callbacks=[look]).fit(*wine())
    assert [number for number, _ in seen] == [1, 2, 3, 4]
    np.testing.assert_array_equal(seen[-1][1], model.coefs_[0])
    assert not np.array_equal(seen[0][1], seen[1][1])


class Recorder:
    """A callback of scikit-learn's kind."""

    def __init__(self, last=None):
        self.last, self.calls, self.models = last, [], []

    def setup(self, estimator, context):
        self.calls.append("setup")

    def teardown(self, estimator, context):
        self.calls.append("teardown")

    def on_fit_task_begin(self, estimator, context, *, X=None, y=None):
        self.calls.append(f"begin {context.task_name} {context.task_id}")
        assert len(X) == len(y)

    def on_fit_task_end(self, estimator, context, *, y=None, metadata=None, fitted_estimator=None):
        self.calls.append(f"end {context.task_name} {context.task_id}")
        self.models.append(fitted_estimator)
        assert metadata is None
        return context.task_id == self.last


def test_callbacks_of_scikit_learn():
    x, y = wine()
    names = np.array(["a", "b", "c"])[y]
    recorder, seen = Recorder(last=2), []
    model = (
        classifier(callbacks=lambda model: seen.append(model.predict_proba(x))).set_callbacks(recorder).fit(x, names)
    )
    epochs = [f"{what} epoch {number}" for number in range(3) for what in ("begin", "end")]
    assert recorder.calls == ["setup", "begin fit 0", *epochs, "end fit 0", "teardown"]
    assert model.n_iter_ == 3
    for fitted, expected in zip(recorder.models, [*seen, seen[-1]], strict=True):  # kept while training went on
        np.testing.assert_array_equal(fitted.predict_proba(x), expected)
    assert recorder.models[-1].predict(x)[0] in names
    interrupted = Recorder()

    def interrupt(model):
        raise KeyboardInterrupt

    with pytest.warns(UserWarning, match="interrupted"):
        classifier(callbacks=interrupt).set_callbacks(interrupted).fit(x, names)
    assert interrupted.calls == ["setup", "begin fit 0", "begin epoch 0", "end epoch 0", "end fit 0", "teardown"]
    plain = classifier(max_iter=3).fit(x, names)
    np.testing.assert_array_equal(model.coefs_[0], plain.coefs_[0])


def test_callbacks_of_scikit_learn_in_lbfgs():
    """Each iteration is a task; a callback may halt it, with no word about convergence."""
    x, y = diabetes()
    recorder = Recorder()
    model = regressor(solver="lbfgs", max_iter=3).set_callbacks(recorder).fit(x, y)
    iterations = [f"{what} iteration {number}" for number in range(3) for what in ("begin", "end")]
    assert recorder.calls == ["setup", "begin fit 0", *iterations, "end fit 0", "teardown"]
    for steps, fitted in enumerate([*recorder.models[:3], recorder.models[2]], start=1):
        expected = regressor(solver="lbfgs", max_iter=min(steps, 3)).fit(x, y)
        np.testing.assert_array_equal(fitted.predict(x), expected.predict(x))
    np.testing.assert_array_equal(model.coefs_[0], regressor(solver="lbfgs", max_iter=3).fit(x, y).coefs_[0])
    halting = Recorder(last=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = regressor(solver="lbfgs").set_callbacks(halting).fit(x, y)
    assert model.n_iter_ == 2
    assert halting.calls == ["setup", "begin fit 0", *iterations[:4], "end fit 0", "teardown"]
    np.testing.assert_array_equal(model.coefs_[0], regressor(solver="lbfgs", max_iter=2).fit(x, y).coefs_[0])
    assert model.loss_ == regressor(solver="lbfgs", max_iter=2).fit(x, y).loss_


@pytest.mark.parametrize(("solver", "part"), [("adam", "epoch"), ("lbfgs", "iteration")])
def test_scoring_monitor(solver, part):
    x, y = diabetes()
    monitor = ScoringMonitor(scoring="r2")
    model = regressor(solver=solver).set_callbacks(monitor).fit(x, y)
    log = monitor.get_logs().data_as_pandas
    last = log[log["task_name"] == part].iloc[-1]
    assert last["r2"] == pytest.approx(model.score(x, y))


def test_progress_shows_a_line(capsys):
    classifier(progress=True).fit(*wine())
    assert "epoch 20/20" in capsys.readouterr().err


def test_leaky_relu():
    x, y = wine()
    model = classifier(activation="leaky_relu").fit(x, y)
    z = x @ model.coefs_[0] + model.intercepts_[0]
    np.testing.assert_allclose(model.transform(x), np.where(z < 0, 0.01 * z, z), rtol=1e-12)


def test_a_batch_without_weight_stands_still():
    """scikit-learn raises a ZeroDivisionError in the middle of training."""
    x, y = wine()
    weights = np.r_[np.zeros(50), np.ones(len(x) - 50)]
    model = classifier(shuffle=False, batch_size=50).fit(x, y, weights)
    assert np.isfinite(model.loss_)
    with pytest.raises(ZeroDivisionError):
        theirs.MLPClassifier(shuffle=False, batch_size=50).fit(x, y, weights)


def test_early_stopping_may_be_switched_on_in_a_warm_start():
    """scikit-learn then meets a None where it expects a list or a number."""
    x, y = wine()
    model = classifier(warm_start=True).fit(x, y).set_params(early_stopping=True).fit(x, y)
    assert len(model.validation_scores_) == model.n_iter_
    model.set_params(early_stopping=False).fit(x, y)
    assert model.best_loss_ <= model.loss_curve_[-1]


@pytest.mark.parametrize("call", ["fit", "partial_fit"])
def test_another_solver_may_go_on_after_lbfgs(call):
    """scikit-learn then misses loss_curve_."""
    x, y = wine()
    model = classifier(solver="lbfgs", warm_start=True).fit(x, y).set_params(solver="sgd")
    getattr(model, call)(x, y)
    assert len(model.loss_curve_) == model.n_iter_


LABELS = {
    "strings": np.array(["no", "yes", "perhaps"]),
    "objects": np.array(["no", "yes", "perhaps"], dtype=object),
    "booleans": np.array([False, True, True]),
    "floats": np.array([-1.0, 2.0, 7.0]),
    "unsigned": np.array([3, 200, 255], dtype=np.uint8),
    "one class": np.array([4, 4, 4]),
}


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_labels_of_every_type(labels):
    x, y = wine()
    models = [package.MLPClassifier(max_iter=5, random_state=0).fit(x, labels[y]) for package in (fnn, theirs)]
    for model in models:
        model.partial_fit(x, labels[y])
    ours, expected = (model.predict(x) for model in models)
    assert ours.dtype == expected.dtype
    np.testing.assert_array_equal(ours, expected)
    np.testing.assert_allclose(models[0].loss_curve_, models[1].loss_curve_, rtol=1e-9)


@pytest.mark.parametrize(
    "others", [np.array(["no", "maybe"]), np.array([0, 1]), np.array([0.5, 1.5]), np.array([None, 1])]
)
def test_unknown_labels_are_refused_as_theirs(others):
    x, y = wine()
    messages = []
    for package in (fnn, theirs):
        model = package.MLPClassifier(max_iter=2, random_state=0).fit(x, LABELS["strings"][y])
        with pytest.raises((TypeError, ValueError)) as error:
            model.partial_fit(x[:2], others)
        messages.append((error.type, str(error.value)))
    assert messages[0] == messages[1]


def test_several_labels_a_row():
    x, y = make_multilabel_classification(n_samples=100, n_classes=3, random_state=0)
    model = classifier(max_iter=300, learning_rate_init=0.01).fit(x, y)
    assert model.predict(x).shape == model.predict_proba(x).shape == y.shape
    assert model.predict_log_proba(x).max() <= 0
    assert cross_validate(model, x, y, cv=2)["test_score"].mean() > 0.3


@pytest.mark.parametrize("method", ["predict", "predict_proba", "transform"])
def test_outputs_that_overflow_are_told_of_alike_on_every_backend(backend, method):
    x, y = (wine if method != "predict" else diabetes)()
    model = (classifier if method != "predict" else regressor)(max_iter=1).fit(x, y)
    for weights in model.coefs_:
        weights[:] = 1e200
    message = (
        "overflow: predict gave NaN or infinity for some rows, the first of them row 0; are x or the parameters too "
        "large for float64?"
    )
    large = np.full((1, x.shape[1]), 1e200)
    with pytest.warns(RuntimeWarning) as caught:
        getattr(model, method)(np.concatenate([large, -large]))
    assert [str(warning.message) for warning in caught] == [message]
    getattr(model, method)(-large)  # any warning would be an error


# ---- What is beyond doubt is not validated again -------------------------------------------------


@pytest.fixture
def validated(monkeypatch):
    """What scikit-learn's validation is asked about."""
    seen = []
    original = _estimator_base.validate_data
    monkeypatch.setattr(_estimator_base, "validate_data", lambda *a, **k: (seen.append(a[1]), original(*a, **k))[1])
    return seen


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_plain_rows_are_taken_as_they_are(backend, validated, dtype):
    x, y = wine()
    x = x.astype(dtype)
    model = classifier().fit(x, y)
    validated.clear()
    plain = model.predict_proba(x)
    model.partial_fit(x, y)
    assert validated == []
    np.testing.assert_array_equal(classifier().fit(x, y).predict_proba(np.asfortranarray(x)), plain)
    assert len(validated) == 2


DOUBTFUL = {
    "a list": lambda x: x.tolist(),
    "integers": lambda x: np.rint(x).astype(int),
    "half precision": lambda x: x.astype("f2"),
    "the other byte order": lambda x: x.astype(x.dtype.newbyteorder()),
    "columns": np.asfortranarray,
    "not aligned": lambda x: np.frombuffer(b"x" + x.tobytes(), x.dtype, offset=1).reshape(x.shape),
    "a subclass": lambda x: x.view(np.matrix),
    "NaN": lambda x: np.where(x == x[3, 2], np.nan, x),
    "infinity": lambda x: np.where(x == x[3, 2], np.inf, x),
    "one column less": lambda x: x[:, 1:].copy(),
    "one dimension": lambda x: x[0].copy(),
    "no row": lambda x: x[:0].copy(),
}


@pytest.mark.parametrize("call", ["predict", "partial_fit"])
@pytest.mark.parametrize("what", DOUBTFUL)
def test_other_rows_meet_scikit_learns_validation(validated, what, call):
    x, y = wine()
    models = [package.MLPClassifier(max_iter=2, hidden_layer_sizes=(3,)).fit(x, y) for package in (fnn, theirs)]
    validated.clear()
    rows, told = DOUBTFUL[what](x), []
    for model in models:
        try:
            getattr(model, call)(*((rows, y) if call == "partial_fit" else (rows,)))
            told.append("")
        except (TypeError, ValueError) as error:
            told.append(str(error))
    assert len(validated) == 1
    assert told[0] == told[1].replace("MLPClassifier", type(models[0]).__name__)


def test_a_subclass_says_whether_it_is_fitted():
    class Doubter(fnn.MLPRegressor):
        def __sklearn_is_fitted__(self):
            return False

    x, y = diabetes()
    with pytest.raises(NotFittedError, match="This Doubter instance is not fitted yet"):
        Doubter(max_iter=1).fit(x, y).predict(x)


def test_a_row_after_the_weights_were_replaced():
    """The layout is that of the weights of now, in a copy that went through a pickle too."""
    x, y = diabetes()
    model = regressor(warm_start=True).fit(x, y)
    model.coefs_[0] = 2 * model.coefs_[0]
    again = pickle.loads(pickle.dumps(model)).partial_fit(x[:1], y[:1])
    np.testing.assert_array_equal(again.coefs_[0], model.partial_fit(x[:1], y[:1]).coefs_[0])
    model.set_params(dropout=0.5, max_iter=1).coefs_ = [coef.copy() for coef in model.coefs_]
    model.fit(x[:1], y[:1])
    assert model.n_iter_ == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, "one less", "a column"])
def test_other_targets_meet_scikit_learns_validation(validated, bad):
    x, y = diabetes()
    model = regressor().fit(x, y)
    validated.clear()
    spoilt = y[:-1] if bad == "one less" else y[:, None] if bad == "a column" else np.where(y == y[5], bad, y)
    if bad == "a column":
        with pytest.warns(UserWarning, match="A column-vector y was passed"):
            model.partial_fit(x, spoilt)
    else:
        with pytest.raises(ValueError, match=r"Input y contains|inconsistent numbers of samples"):
            model.partial_fit(x, spoilt)
        assert len(validated) == 1


@pytest.mark.parametrize(
    ("shape", "told"), [((-1, 0), r"Found array with 0 feature\(s\)"), ((-1, 1, 1), "Found array with dim 3")]
)
def test_targets_of_another_shape_meet_scikit_learns_validation(shape, told):
    x, y = diabetes()
    model = regressor().fit(x, y)
    with pytest.raises(ValueError, match=told):
        model.partial_fit(x, np.empty((len(x), 0)) if 0 in shape else y.reshape(shape))


@pytest.mark.parametrize("call", ["predict", "partial_fit"])
def test_rows_without_the_names_that_were_known_are_told_of(call):
    x, y = wine()
    model = classifier().fit(pd.DataFrame(x, columns=[f"feature {number}" for number in range(x.shape[1])]), y)
    with pytest.warns(UserWarning, match="X does not have valid feature names, but MLPClassifier was fitted with"):
        getattr(model, call)(*((x, y) if call == "partial_fit" else (x,)))


def test_a_row_is_trained_on_as_by_scikit_learn(backend):
    """No random numbers are drawn for a row alone, nor does one go another way."""
    x, y = diabetes()
    models = [package.MLPRegressor(random_state=0, hidden_layer_sizes=(7,)) for package in (fnn, theirs)]
    for model in models:
        for row in range(30):
            model.partial_fit(x[row : row + 1], y[row : row + 1])
        model.partial_fit(x[:50], y[:50])
    np.testing.assert_allclose(models[0].coefs_[0], models[1].coefs_[0], rtol=1e-7)
