"""Networks of fitted estimators of scikit-learn, and the other way: the same outputs, or an error that says why not."""

import numpy as np
import pytest
from sklearn import neural_network
from sklearn.datasets import load_diabetes, load_wine
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import scale

import fnn

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
X, LABELS = load_wine(return_X_y=True)
X = scale(X)
ROWS, NUMBERS = load_diabetes(return_X_y=True)
SKIPPING = [fnn.Input(2), fnn.Dense(2), fnn.Dense(2, skip=1), fnn.Dense(1)]
MIXED = [fnn.Input(2), fnn.Dense(3), fnn.Dense(3, "tanh"), fnn.Dense(1)]
TARGETS = {
    "classes": np.array(["a", "b", "c"])[LABELS],
    "two": np.array(["no", "yes"])[(LABELS > 0).astype(int)],
    "labels": np.stack([LABELS > 0, LABELS > 1, LABELS == 1], axis=1).astype(int),
}


@pytest.mark.parametrize("library", [neural_network, fnn])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", TARGETS)
def test_a_classifier_becomes_a_network_and_comes_back(library, dtype, kind):
    x, y = X.astype(dtype), TARGETS[kind]
    model = library.MLPClassifier((7, 5), activation="logistic", max_iter=5, random_state=0).fit(x, y)
    net = fnn.from_sklearn(model)
    assert net.dtype == dtype
    assert [a.name for a in net.layout.activations[:-1]] == ["sigmoid"] * 2
    expected, tolerance = model.predict_proba(x), 1e-12 if dtype == "float64" else 1e-5
    outputs = net.predict(x)
    np.testing.assert_allclose(
        outputs[:, 0] if kind == "two" else outputs, expected[:, 1] if kind == "two" else expected, rtol=tolerance
    )
    if kind != "labels":
        assert (model.classes_[net.predict_class(x)] == model.predict(x)).all()
    back = fnn.to_sklearn(net, None if kind == "labels" else model.classes_)
    assert type(back) is neural_network.MLPClassifier
    assert back.coefs_[0].dtype == dtype
    np.testing.assert_allclose(back.predict_proba(x), expected, rtol=tolerance)
    assert (back.predict(x) == model.predict(x)).all()
    back.partial_fit(x, y)
    net.parameters[:] = 0
    assert back.coefs_[0].any()
    assert model.coefs_[0].any()


@pytest.mark.parametrize("library", [neural_network, fnn])
@pytest.mark.parametrize("loss", ["squared_error", "poisson"])
@pytest.mark.parametrize("hidden", [(), (6,)])
def test_a_regressor_becomes_a_network_and_comes_back(library, loss, hidden):
    y = np.stack([NUMBERS, NUMBERS[::-1]], axis=1) / 100
    model = library.MLPRegressor(loss, hidden, "tanh", max_iter=5, random_state=0).fit(ROWS, y)
    net = fnn.from_sklearn(model)
    np.testing.assert_allclose(net.predict(ROWS), model.predict(ROWS), rtol=1e-12)
    back = fnn.to_sklearn(net)
    assert type(back) is neural_network.MLPRegressor
    assert back.loss == loss
    np.testing.assert_allclose(back.predict(ROWS), model.predict(ROWS), rtol=1e-12)
    back.set_params(warm_start=True, max_iter=1).fit(ROWS, y)
    assert back.n_iter_ == 1


def test_two_softmax_outputs_become_one():
    net = fnn.Network([13, 4, 2], output="softmax", dtype="float64", seed=3)
    model = fnn.to_sklearn(net, ["no", "yes"])
    np.testing.assert_allclose(model.predict_proba(X), net.predict(X), rtol=1e-12)
    assert (model.predict(X) == np.array(["no", "yes"])[net.predict_class(X)]).all()


def test_while_patched_scikit_learns_own_class_comes_out():
    stock = neural_network.MLPRegressor
    fnn.patch_sklearn()
    try:
        assert type(fnn.to_sklearn(fnn.Network([3, 1]))) is stock
        patched = neural_network.MLPRegressor(max_iter=2).fit(ROWS, NUMBERS)
        assert fnn.from_sklearn(patched).predict(ROWS)[:, 0] == pytest.approx(patched.predict(ROWS))
    finally:
        fnn.unpatch_sklearn()


def test_what_is_no_fitted_mlp_is_refused():
    for other in (LogisticRegression(), fnn.Network([2, 1]), None):
        with pytest.raises(ValueError, match=r"^estimator: expected a fitted MLPClassifier or MLPRegressor"):
            fnn.from_sklearn(other)
    for library in (neural_network, fnn):
        with pytest.raises(NotFittedError, match="This MLPRegressor instance is not fitted yet"):
            fnn.from_sklearn(library.MLPRegressor())


@pytest.mark.parametrize(
    ("layers", "options", "classes", "message"),
    [
        ([2, 3, 1], {"activation": "leaky_relu"}, None, "expected identity, .*, sigmoid in layer 1, .* got leaky_relu"),
        (SKIPPING, {}, None, r"expected layers without skips, as scikit-learn's are, got skips in \[2\]"),
        (MIXED, {}, None, "expected relu, that of layer 1, in layer 2, as scikit-learn has it, got tanh"),
        ([2, 1], {"output": "tanh"}, None, "expected identity, exp, softmax or sigmoid as output, got tanh"),
        ([2, 1], {"output": "softmax"}, None, "expected two or more softmax outputs, got 1"),
        ([2, 1], {}, [0, 1], "classes: expected none for a network with identity outputs"),
        ([2, 3], {"output": "softmax"}, [0, 1], "classes: expected 3 different ones in ascending order"),
        ([2, 3], {"output": "softmax"}, ["c", "b", "a"], "classes: expected 3 different ones in ascending order"),
        ([2, 3], {"output": "sigmoid"}, ["a", "b", "c"], "classes: expected none for several labels a row"),
    ],
)  # fmt: skip
def test_what_scikit_learn_has_not_got_is_refused(layers, options, classes, message):
    with pytest.raises(ValueError, match=message):
        fnn.to_sklearn(fnn.Network(layers, **options), classes)
    with pytest.raises(ValueError, match=r"^network: expected a Network, got 3$"):
        fnn.to_sklearn(3)
