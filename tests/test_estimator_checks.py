"""scikit-learn's checks of what an estimator must be able to do."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

import fnn


@pytest.mark.filterwarnings("default")  # the checks train too little to converge, on purpose
@parametrize_with_checks(
    [fnn.MLPClassifier(max_iter=100), fnn.MLPRegressor(max_iter=100)],
)
def test_check(estimator, check):
    check(estimator)
