"""The classes that `patch_sklearn` puts in the place of scikit-learn's: subclasses of them that train and predict here.

All that users see stays scikit-learn's code: parameters, their checks, methods, labels.  Only `_fit` and the forward
pass are replaced, by those of an estimator of fnn that shares the attributes of the patched one.  Pickles name the
classes of this module, so that processes which are not patched, such as joblib's workers, train with fnn too.
"""

from __future__ import annotations

import inspect
import logging
from typing import Any, ClassVar

import numpy as np
from sklearn.neural_network import _multilayer_perceptron as theirs
from sklearn.utils._param_validation import InvalidParameterError, validate_parameter_constraints

from fnn import _estimator
from fnn._estimator_base import BaseMLP
from fnn._estimator_solvers import StochasticSolver

STOCK: dict[str, type] = {"MLPClassifier": theirs.MLPClassifier, "MLPRegressor": theirs.MLPRegressor}
logger = logging.getLogger("fnn")


class Accelerated:
    """What both patched classes share; it stands before scikit-learn's class.

    Attributes
    ----------
    verbosity : int
        1 if trainings that are left to scikit-learn are told of.
    """

    verbosity: ClassVar[int] = 1
    _engine: ClassVar[type[BaseMLP]]
    _stock: ClassVar[type]

    @classmethod
    def __subclasshook__(cls, other: type) -> Any:
        """Estimators made before patching are instances too, as they were of the class that had this name."""
        stock = vars(cls).get("_stock")
        return True if stock in other.__mro__ else NotImplemented  # not issubclass, which asks here again

    def _fit(self, X: Any, y: Any, sample_weight: Any = None, incremental: bool = False) -> Any:
        reason = self._reason_for_stock(incremental)
        if reason is None:
            self._accelerator()._fit(X, y, sample_weight, epochs=1 if incremental else None)
            return self
        if self.verbosity:
            logger.warning("%s: scikit-learn trains this one, for %s", type(self).__name__, reason)
        if isinstance(getattr(self, "_optimizer", None), StochasticSolver):
            vars(self).pop("_optimizer")  # which scikit-learn cannot go on with
        return super()._fit(X, y, sample_weight=sample_weight, incremental=incremental)  # type: ignore[misc]

    def _forward_pass_fast(self, X: Any, check_input: bool = True) -> np.ndarray:
        if not check_input or self._overridden():  # called by scikit-learn's training, or a subclass's
            outputs: np.ndarray = super()._forward_pass_fast(X, check_input=check_input)  # type: ignore[misc]
            return outputs
        computed: np.ndarray = self._accelerator()._outputs(X)
        return computed

    def __getstate__(self) -> dict[str, Any]:
        """Hold the weights once, as fnn's estimators do."""
        state: dict[str, Any] = self._accelerator().__getstate__()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the state of a patched estimator, or of scikit-learn's, whose weights become one flat vector."""
        engine = self._accelerator()
        engine.__setstate__(state)
        if hasattr(engine, "coefs_"):
            engine._take_over()

    def _accelerator(self) -> Any:
        """Return fnn's estimator with the attributes of this one: what it sets is set here."""
        engine = object.__new__(self._engine)
        engine.__dict__ = self.__dict__
        return engine

    def _overridden(self) -> list[str]:
        """Return the names of scikit-learn's private methods that a subclass replaces."""
        patched = next(cls for cls in type(self).__mro__ if "_stock" in vars(cls))
        return [
            name for name in _private_methods(self._stock) if getattr(type(self), name) is not getattr(patched, name)
        ]

    def _reason_for_stock(self, incremental: bool) -> str | None:
        """Return why scikit-learn has to train, None if fnn can."""
        if overridden := self._overridden():
            return f"it overrides {', '.join(overridden)}"
        known = self._engine._parameter_constraints
        for name, default in _parameters(self._stock).items():
            value = getattr(self, name)
            if name in known:
                try:
                    validate_parameter_constraints({name: known[name]}, {name: value}, type(self).__name__)
                except InvalidParameterError as error:
                    return str(error)
            elif repr(value) != repr(default):
                return f"fnn does not know {name}={value!r}"
        solver = getattr(self, "_optimizer", None)
        if incremental and solver is not None and not isinstance(solver, StochasticSolver):
            return "it goes on with scikit-learn's optimizer"
        return None


def _engine_of(estimator: type[BaseMLP], stock: type) -> type[BaseMLP]:
    """Return fnn's estimator with the parameters that scikit-learn's has not got as attributes, at their defaults."""
    own, known = _parameters(estimator), _parameters(stock)
    return type(estimator.__name__, (estimator,), {name: own[name] for name in own.keys() - known})


def _parameters(estimator: type) -> dict[str, Any]:
    """Return the parameters of an estimator and their defaults."""
    return {name: parameter.default for name, parameter in inspect.signature(estimator).parameters.items()}


def _private_methods(stock: type) -> list[str]:
    methods = {
        name
        for cls in stock.__mro__
        if cls.__module__ == theirs.__name__
        for name, value in vars(cls).items()
        if inspect.isfunction(value)
    }
    return sorted(name for name in methods if name.startswith("_") and not name.startswith("__"))


class MLPClassifier(Accelerated, theirs.MLPClassifier):
    __doc__ = theirs.MLPClassifier.__doc__
    _engine = _engine_of(_estimator.MLPClassifier, theirs.MLPClassifier)
    _stock = theirs.MLPClassifier


class MLPRegressor(Accelerated, theirs.MLPRegressor):
    __doc__ = theirs.MLPRegressor.__doc__
    _engine = _engine_of(_estimator.MLPRegressor, theirs.MLPRegressor)
    _stock = theirs.MLPRegressor


def reduce_stock(estimator: Any) -> tuple[Any, ...]:
    """Pickle or copy an estimator of scikit-learn's own, whose class has lost its name to a patched one."""
    return revive_stock, (type(estimator).__name__,), estimator.__getstate__()


def revive_stock(name: str) -> Any:
    """Return an empty estimator of scikit-learn's own."""
    return object.__new__(STOCK[name])
