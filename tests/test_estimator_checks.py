"""scikit-learn's checks of what an estimator must be able to do."""

from unittest import SkipTest

import pytest
from sklearn.utils.estimator_checks import check_sample_weight_equivalence_on_dense_data, parametrize_with_checks

import fnn

LEFT_OUT = ("SCIPY_ARRAY_API is not set", "does not have a decision_function method")  # of scikit-learn's own MLP too
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # they train too little


BEYOND_SCIKIT_LEARN = [
    fnn.MLPClassifier(max_iter=100, loss="squared_error", activation=["tanh"], solver=fnn.Adam(0.01)),
    fnn.MLPClassifier(max_iter=100, loss="poisson"),
    fnn.MLPClassifier(max_iter=100, loss="binary_cross_entropy"),
    fnn.MLPRegressor(max_iter=100, solver=fnn.FISTA(0.001), rate_scale="linear", weight_floor=1e-4),
]


@parametrize_with_checks([fnn.MLPClassifier(max_iter=100), fnn.MLPRegressor(max_iter=100), *BEYOND_SCIKIT_LEARN])
def test_check(estimator, check):
    try:
        check(estimator)
    except SkipTest as reason:
        if not any(text in str(reason) for text in LEFT_OUT):
            raise


@pytest.mark.parametrize(
    "estimator",
    [fnn.MLPClassifier(solver="lbfgs"), fnn.MLPRegressor(solver="sgd", tol=1e-2, random_state=42)],
    ids=["classifier", "regressor"],
)
def test_weights_are_repetitions(estimator):
    """With the parameters that scikit-learn checks its own MLP with."""
    check_sample_weight_equivalence_on_dense_data(type(estimator).__name__, estimator)
