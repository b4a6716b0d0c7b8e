"""MLPClassifier and MLPRegressor: scikit-learn's estimators of the same names, trained here.

To import this is to import scikit-learn, which `fnn` does when it is first asked for one of them.
"""

from fnn._estimator_classifier import MLPClassifier
from fnn._estimator_regressor import MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]
