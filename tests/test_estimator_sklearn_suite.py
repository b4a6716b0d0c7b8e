"""scikit-learn's own tests of its MLP, as they are installed, on fnn's estimators instead.

Only the import of the estimators is exchanged, and what reads private attributes gets a shim, named with its reason:

- `_loss_grad_lbfgs` (test_gradient) takes and returns vectors in scikit-learn's order, all weights before all biases,
  and scratch of its own: here a subclass translates to the flat vector and to the kernels' own loss and gradient.
- `_optimizer.learning_rate` (test_learning_rate_warmstart, test_adaptive_learning_rate) and `_no_improvement_count`
  (test_n_iter_no_change, test_n_iter_no_change_inf): fnn's estimators have attributes of these names and meaning.
"""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest

import fnn
from fnn._estimator_base import reported_loss
from fnn._estimator_problem import Problem
from fnn._estimator_solvers import PenalisedLoss

THEIR_IMPORT = "from sklearn.neural_network import MLPClassifier, MLPRegressor\n"
FUNCTIONS, CASES = 43, 59  # of scikit-learn 1.9.1
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # some let it be


class WithGradientInTheirOrder(fnn.MLPClassifier):
    """The gradient of fnn's L-BFGS under scikit-learn's private name and in its order."""

    def _loss_grad_lbfgs(self, packed, x, y, sample_weight, *scratch):
        layout = self._layout
        parameters, position = np.empty(layout.n_parameters), 0
        for view in (*layout.weights(parameters), *layout.biases(parameters)):
            view[...] = packed[position : position + view.size].reshape(view.shape)
            position += view.size
        problem = Problem(
            layout,
            parameters,
            *self._as_kernels_take(x, y, sample_weight),
            reported_loss(self._loss_name(), layout, parameters.dtype),
            1,
        )
        value, gradient = PenalisedLoss(problem, self.alpha)(parameters)
        parts = [*layout.weights(gradient), *layout.biases(gradient)]
        return value, np.concatenate([part.ravel() for part in parts])


def their_tests():
    """Run the source of scikit-learn's test_mlp.py with the import switched, and return the names that it defines."""
    path = Path(importlib.util.find_spec("sklearn.neural_network").origin).parent / "tests" / "test_mlp.py"
    source = path.read_text(encoding="utf-8")
    assert source.count(THEIR_IMPORT) == 1
    ours = {"MLPClassifier": WithGradientInTheirOrder, "MLPRegressor": fnn.MLPRegressor}
    namespace = {"__name__": __name__, **ours}
    exec(compile(source.replace(THEIR_IMPORT, "\n"), str(path), "exec"), namespace)
    assert ours.items() <= namespace.items()
    return {name: value for name, value in namespace.items() if name.startswith("test_")}


@pytest.fixture
def global_random_seed():
    """scikit-learn's fixture, with its default."""
    return 42


globals().update(their_tests())


def test_all_cases_are_here():
    """None of them is missed, not even where a name is taken twice."""
    functions = their_tests()
    sets = [
        [mark for mark in getattr(test, "pytestmark", []) if mark.name == "parametrize"] for test in functions.values()
    ]
    cases = sum(math.prod(len(mark.args[1]) for mark in marks) for marks in sets)
    assert (len(functions), cases) >= (FUNCTIONS, CASES)
    assert all(globals()[name].__code__ == test.__code__ for name, test in functions.items())
