"""The library's own callbacks, which plan epochs, on the estimators: they see a network that shares the weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from fnn import _checks, _dispatch
from fnn._estimator_problem import Problem
from fnn._network import Network
from fnn._optimizers import Rule
from fnn._plan import EpochPlan
from fnn._train import History, take_in


class Planners:
    """Those of an estimator's callbacks that have a method before_epoch.

    Parameters
    ----------
    estimator : BaseMLP
    callbacks : list
    problem : Problem
        All of its rows are trained on.
    """

    def __init__(self, estimator: Any, callbacks: list[Any], problem: Problem) -> None:
        self._callbacks, self._problem = callbacks, problem
        self._network = Network.around(problem.layout, problem.parameters)
        scores = estimator.validation_scores_
        self._history = History(  # the estimator's own lists, which grow
            loss=estimator.loss_curve_,
            validation_loss=estimator.validation_loss_curve_,
            metric=[] if scores is None else scores,
        )

    def plan(self, number: int, rule: Rule, work: Any) -> tuple[Rule, np.ndarray | None]:
        """Return the rule and the rows' weights of the epoch of this number, the first being 1."""
        problem = self._problem
        plan = EpochPlan(
            number,
            rule.rate,
            problem.weights,
            problem.x,
            problem.y,
            True,
            problem.layout,
            problem.parameters,
            problem.loss,
            _dispatch.kernels,
            problem.threads,
        )
        for callback in self._callbacks:
            callback.before_epoch(self._network, plan)
        take_in(problem.parameters, work, rule)
        if plan.sample_weight is problem.weights:
            weights = problem.weights  # scikit-learn's may be negative
        else:
            weights = _checks.row_weights(
                plan.sample_weight, len(problem.x), problem.x.dtype, "callbacks: plan.sample_weight"
            )
        return rule._replace(rate=_checks.planned_rate(plan.rate)), weights

    def look_back(self, rule: Rule, work: Any) -> list[object]:
        """Call them after the epoch; a true value among those returned ends training."""
        wishes = [callback(self._network, self._history) for callback in self._callbacks]
        take_in(self._problem.parameters, work, rule)
        return wishes
