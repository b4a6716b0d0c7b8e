"""How scikit-learn's solvers train a network here: whole epochs of SGD and Adam in the kernels, and L-BFGS.

What decides the numbers follows scikit-learn 1.9's MLP step by step: which random numbers are drawn when, what an
epoch's loss is, when training stops.  The kernels' squared error is neither halved nor averaged over the outputs, so
its gradient is twice scikit-learn's: half the rate, twice the penalty and twice Adam's epsilon make up for it, and
factors of two round nothing.
"""

from __future__ import annotations

import math
import threading
import time
import warnings
from collections.abc import Iterable
from contextlib import nullcontext
from functools import lru_cache
from typing import Any

import numpy as np
from joblib.parallel import get_active_backend
from scipy.optimize import minimize
from scipy.special import xlogy
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils.fixes import _get_additional_lbfgs_options_dict
from sklearn.utils.optimize import _check_optimize_result
from sklearn.utils.parallel import _get_threadpool_controller

from fnn import _checks, _dispatch, _threads
from fnn._dropout import NUMBERS
from fnn._estimator_callbacks import FitTask
from fnn._estimator_plans import Planners
from fnn._estimator_problem import HeldOut, Problem
from fnn._estimator_sparse import outputs_of, train_epoch
from fnn._formulas import CROSS_ENTROPY, POISSON, SQUARED_ERROR, Loss
from fnn._layout import Layout
from fnn._optimizers import SGD, Rule
from fnn._progress import Progress

SMALLEST_ADAPTIVE_RATE = 1e-6
ADAPTIVE_DIVISOR = 5.0
MOST_AUTOMATIC_ROWS = 200  # of a batch, where batch_size is "auto"


class StochasticSolver:
    """SGD or Adam with all that it remembers from one `partial_fit` to the next.

    Like scikit-learn's, it keeps the parameters that it was made with, whatever `set_params` does later.

    Attributes
    ----------
    learning_rate : float
        The rate of the next epoch, before Adam's correction.
    state : numpy.ndarray, shape (states * P,)
        Velocity, or Adam's two moments, each laid out as the parameters.
    updates, epochs : int
        Of them so far.
    mask_seed : int
        Of dropout.
    """

    def __init__(self, estimator: Any, problem: Problem, random_state: Any) -> None:
        given = estimator.solver
        if isinstance(given, str):
            self._rule = _rule_by_name(estimator)
        else:
            fitting = given.at_depth(problem.layout.n_layers) if isinstance(given, SGD) else given
            self._rule = fitting.rule(math.inf)
        self._schedule, self._power = estimator.learning_rate, estimator.power_t
        if isinstance(given, str) and given == "adam":
            self._schedule = "constant"  # scikit-learn's knows no other
        self.learning_rate = self._initial_rate = self._rule.rate
        self.state = np.zeros(self._rule.states * problem.layout.n_parameters, problem.parameters.dtype)
        self.updates = self.epochs = self.mask_seed = 0
        if (
            problem.layout.drops
        ):  # a warm start has seen rows, at least as many as it has done updates: none is repeated
            self.mask_seed = (int(random_state.randint(0, NUMBERS, dtype=np.uint64)) + estimator.t_) % NUMBERS

    def rule(self, gradient_factor: int, estimator: Any) -> Rule:
        """Return the next epoch's rule, for gradients that are `gradient_factor` times scikit-learn's."""
        alpha, saturation, floor = estimator.alpha, estimator.saturation, estimator.weight_floor
        return _rule_for_kernels(self._rule, self.learning_rate, gradient_factor, alpha, saturation, floor)

    def workspace(self, problem: Problem, batch_size: int, saturation: float) -> Any:
        """Return a workspace of the kernels that goes on where this solver stands."""
        states = self._rule.states
        parameters = problem.parameters
        work = _dispatch.kernels.Workspace(problem.layout, parameters.dtype, batch_size, states, problem.threads)
        work.load(parameters, saturation)
        work.mask_seed = self.mask_seed
        if self.updates:
            if self.state.size != states * parameters.size or self.state.dtype != parameters.dtype:
                raise ValueError(
                    f"partial_fit: expected the {self.state.size // max(states, 1)} parameters of the call before, "
                    f"got coefs_ and intercepts_ of {parameters.size}"
                )
            if not self.state.flags.writeable:  # a memory map
                self.state = np.array(self.state)
            work.load_state(self.state)
            work.updates = self.updates
        return work

    def remember(self, work: Any) -> None:
        """Keep what the workspace knows."""
        work.store_state(self.state)
        self.updates = work.updates

    def epoch_ends(self, rows_seen: int) -> None:
        """Set the rate of the next epoch after `rows_seen` rows in all."""
        self.epochs += 1
        if self._schedule == "invscaling":
            self.learning_rate = self._initial_rate / (rows_seen + 1) ** self._power

    def stops(self, message: str, verbose: bool) -> bool:
        """Whether training ends where it makes no progress any more; the adaptive schedule divides the rate first."""
        ends = self._schedule != "adaptive" or self.learning_rate <= SMALLEST_ADAPTIVE_RATE
        if not ends:
            self.learning_rate /= ADAPTIVE_DIVISOR
        if verbose:
            if not ends:
                print(f"{message} Setting learning rate to {self.learning_rate:f}")
            elif self._schedule == "adaptive":
                print(f"{message} Learning rate too small. Stopping.")
            else:
                print(f"{message} Stopping.")
        return ends


def _rule_by_name(estimator: Any) -> Rule:
    """Return the rule of scikit-learn's adam or sgd, from the estimator's parameters."""
    rate = float(estimator.learning_rate_init)
    if estimator.solver == "adam":
        beta_1, beta_2 = float(estimator.beta_1), float(estimator.beta_2)
        return Rule(rate, beta_1, False, math.inf, True, beta_2, float(estimator.epsilon))
    momentum = float(estimator.momentum)
    return Rule(rate, momentum, bool(estimator.nesterovs_momentum and momentum), math.inf)


@lru_cache(maxsize=1)  # from epoch to epoch it is the same, unless a schedule or a callback changes something
def _rule_for_kernels(
    own: Rule, rate: float, gradient_factor: int, alpha: float, saturation: float | None, floor: float | None
) -> Rule:
    """Return the rule with this rate, in scikit-learn's terms, for the kernels' gradients."""
    limit = math.inf if saturation is None else float(saturation)
    return own._replace(
        rate=rate if own.adam else rate / gradient_factor,
        epsilon=gradient_factor * own.epsilon,
        alpha=gradient_factor * float(alpha),
        saturation=limit,
        floor=_checks.weight_floor(floor, limit),
    )


def thread_count(n_threads: int | None) -> int:
    """Return how many threads a fit or a prediction may use: one where joblib already runs it in one of its threads."""
    if n_threads is None and threading.current_thread() is not threading.main_thread():
        backend, _ = get_active_backend()
        if backend.nesting_level:
            return 1
    return _threads.thread_count(n_threads)


def split_off(estimator: Any, n_rows: int, stratify: np.ndarray | None, random_state: Any) -> list[np.ndarray]:
    """Return the row numbers of the training and of the validation part that early stopping asks for."""
    parts = train_test_split(
        np.arange(n_rows), random_state=random_state, test_size=estimator.validation_fraction, stratify=stratify
    )
    if len(parts[1]) < 2:
        raise ValueError("The validation set is too small. Increase 'validation_fraction' or the size of your dataset.")
    return [part.astype(np.intp, copy=False) for part in parts]


def fit_stochastic(
    estimator: Any,
    problem: Problem,
    rows: np.ndarray,
    held_out: HeldOut | None,
    random_state: Any,
    first_pass: bool,
    epochs: int | None,
    task: FitTask,
) -> None:
    """Train on the `rows` of the problem: until it stops by itself, or `epochs` times in partial_fit.

    Sets the estimator's loss_, loss_curve_, n_iter_, t_ and their kin as scikit-learn does.
    """
    incremental = epochs is not None
    if not incremental or not hasattr(estimator, "_optimizer"):
        estimator._optimizer = StochasticSolver(estimator, problem, random_state)
    solver: StochasticSolver = estimator._optimizer
    parameters, factor = problem.parameters, problem.gradient_factor
    early_stopping = estimator.early_stopping
    # In a warm start without progress scikit-learn "restores" arrays that are the trained ones themselves.
    best = parameters.copy() if early_stopping and first_pass else None
    callbacks, planners = _sorted_callbacks(estimator.callbacks)
    plans = None
    if planners:
        problem = problem.made_dense()
        if held_out is not None and len(rows) < problem.n_rows:
            problem, rows = problem.part(rows), np.arange(len(rows))
        plans = Planners(estimator, planners, problem)
    order = np.array(rows)
    batch_size = _batch_size(estimator, len(order))
    rule = solver.rule(factor, estimator)
    through_updated = _through_updated(estimator, batch_size, rule, problem.layout)
    work = solver.workspace(problem, batch_size, rule.saturation)
    looks = bool(held_out is not None or callbacks or planners or task.is_watched)
    last_epoch = estimator.max_iter if epochs is None else epochs
    deadline = _deadline(estimator)
    estimator.n_iter_ = 0
    try:
        with Progress(last_epoch, len(order)) if estimator.progress else nullcontext() as line:
            tick = None if line is None else line.tick
            for _ in range(last_epoch):
                task.begin_part()
                if estimator.shuffle and len(order) > 1:
                    random_state.shuffle(order)
                rule, weights = solver.rule(factor, estimator), problem.weights
                if plans is not None:
                    rule, weights = plans.plan(solver.epochs + 1, rule, work)
                total, penalties = train_epoch(problem, work, order, rule, tick, weights, through_updated)
                estimator.n_iter_ += 1
                estimator.t_ += len(order)
                estimator.loss_ = problem.mean_loss(total, penalties, len(order))
                estimator.loss_curve_.append(estimator.loss_)
                if estimator.verbose:
                    print(f"Iteration {estimator.n_iter_}, loss = {estimator.loss_:.8f}")
                if looks:
                    work.store(parameters)
                if held_out is not None:
                    _evaluate(estimator, problem, held_out)
                    if estimator.verbose:
                        print(f"Validation score: {estimator.validation_scores_[-1]:f}")
                if _improves(estimator) and early_stopping:
                    best = parameters.copy()
                solver.epoch_ends(estimator.t_)
                if line is not None:
                    line.epoch(f"loss {estimator.loss_:.4g}")
                wishes = [task.end(), *(callback(estimator) for callback in callbacks)]
                if plans is not None:
                    wishes += plans.look_back(rule, work)
                if estimator._no_improvement_count > estimator.n_iter_no_change:
                    if solver.stops(_without_progress(estimator), estimator.verbose):
                        break
                    estimator._no_improvement_count = 0
                if any(wishes) or time.monotonic() >= deadline:
                    break
                if not early_stopping and not math.isfinite(total) and not work.is_finite():
                    break  # no update makes such parameters finite again, and the fit ends with an error
                if not incremental and estimator.n_iter_ == last_epoch:
                    warnings.warn(
                        f"Stochastic Optimizer: Maximum iterations ({last_epoch}) reached and the optimization hasn't "
                        "converged yet.",
                        ConvergenceWarning,
                        stacklevel=2,
                    )
    except KeyboardInterrupt:
        warnings.warn("Training interrupted by user.", stacklevel=2)
    finally:
        work.store(parameters)
        solver.remember(work)
    if best is not None:
        parameters[:] = best


def fit_lbfgs(estimator: Any, problem: Problem, task: FitTask) -> None:
    """Train by SciPy's L-BFGS-B on all rows at once: it steps in double, the kernels compute in the data's type.

    So does scikit-learn, whose vector of weights SciPy rounds to float32 before it asks for their loss.
    """
    problem = problem.made_dense()
    penalised_loss, halted = PenalisedLoss(problem, estimator.alpha), False
    callbacks, _ = _sorted_callbacks(estimator.callbacks)
    looks = bool(callbacks or estimator.max_seconds is not None or task.is_watched)
    deadline = _deadline(estimator)
    estimator.n_iter_ = 0

    def loss_and_gradient(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        task.begin_part()  # with its first evaluation
        return penalised_loss(parameters)

    def iteration_ends(intermediate_result: Any) -> None:  # SciPy looks for this name
        nonlocal halted
        problem.parameters[:] = intermediate_result.x
        estimator.loss_ = float(intermediate_result.fun)
        estimator.n_iter_ += 1
        wishes = [task.end(), *(callback(estimator) for callback in callbacks)]
        halted = any(wishes) or time.monotonic() >= deadline
        if halted:
            raise StopIteration

    with _get_threadpool_controller().limit(
        limits=1, user_api="blas"
    ):  # SciPy's short products: no threads beside ours
        result = minimize(
            loss_and_gradient if task.is_watched else penalised_loss,
            problem.parameters,
            method="L-BFGS-B",
            jac=True,
            callback=iteration_ends if looks else None,
            options={
                "maxfun": estimator.max_fun,
                "maxiter": estimator.max_iter,
                "gtol": estimator.tol,
                **_get_additional_lbfgs_options_dict("iprint", 1 if estimator.verbose >= 1 else -1),
            },
        )
    estimator.n_iter_ = result.nit if halted else _check_optimize_result("lbfgs", result, estimator.max_iter)
    estimator.loss_ = result.fun
    problem.parameters[:] = result.x


class PenalisedLoss:
    """scikit-learn's loss over all rows, the penalty included, and its gradient, for any parameters.

    One workspace computes them all.  The gradient, with the penalty's, is the velocity of a step of SGD that starts at
    rest; where the step leads to does not matter.

    Parameters
    ----------
    problem : Problem
    alpha : float
        Strength of the penalty.
    """

    def __init__(self, problem: Problem, alpha: float) -> None:
        factor = problem.gradient_factor
        layout = Layout(problem.layout.sizes, problem.layout.activations)  # without rates by layer
        self._problem, self._kernels = problem, _dispatch.kernels
        self._rule = Rule(-1 / factor, 1.0, False, math.inf, alpha=factor * float(alpha))
        self._work = self._kernels.Workspace(
            layout, problem.x.dtype, len(problem.x), self._rule.states, problem.threads
        )
        self._rest = np.zeros_like(problem.parameters, problem.x.dtype)
        self._order = np.arange(len(problem.x), dtype=np.intp)

    def __call__(self, parameters: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the loss and its gradient (P,), at the parameters as the data's type can hold them."""
        problem, work = self._problem, self._work
        work.load(parameters.astype(problem.x.dtype, copy=False), math.inf)
        work.load_state(self._rest)
        total = self._kernels.train_epoch(
            work, problem.x, problem.y, self._order, problem.loss, self._rule, True, None, problem.weights
        )
        gradient = np.empty_like(self._rest)
        work.store_state(gradient)
        return problem.mean_loss(total, work.penalties, len(self._order)), gradient


def _batch_size(estimator: Any, n_rows: int) -> int:
    if estimator.batch_size == "auto":
        return min(MOST_AUTOMATIC_ROWS, n_rows)
    if estimator.batch_size > n_rows:
        warnings.warn(
            "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped", stacklevel=2
        )
    return min(int(estimator.batch_size), n_rows)


def _deadline(estimator: Any) -> float:
    """Return when training is to end, as `time.monotonic` counts."""
    return math.inf if estimator.max_seconds is None else time.monotonic() + float(estimator.max_seconds)


def _sorted_callbacks(callbacks: Any) -> tuple[list[Any], list[Any]]:
    """Return the callbacks that are called with the estimator, and those of the library's kind, which plan epochs."""
    found = [] if callbacks is None else list(callbacks) if isinstance(callbacks, Iterable) else [callbacks]
    for callback in found:
        if not callable(callback) or isinstance(callback, type):
            raise ValueError(f"callbacks: expected callables, got {callback!r}")
    plain = [callback for callback in found if not hasattr(callback, "before_epoch")]
    return plain, [callback for callback in found if hasattr(callback, "before_epoch")]


def _through_updated(estimator: Any, batch_size: int, rule: Rule, layout: Layout) -> bool:
    """Whether deltas go through weights that have stepped already, if that goes with the other parameters."""
    if estimator.propagate == "before":
        return False
    if batch_size != 1 or rule.adam or rule.fista or rule.momentum or rule.alpha:
        raise ValueError(
            "propagate: updated expects batch_size=1, alpha=0 and sgd without momentum, got "
            f"batch_size={batch_size}, alpha={estimator.alpha}, solver={estimator.solver!r}, "
            f"momentum={rule.momentum:g}"
        )
    if layout.drops:
        raise ValueError(f"propagate: updated expects no dropout, got {estimator.dropout!r}")
    return True


def _improves(estimator: Any) -> bool:
    """Count the epochs without progress; whether the last one is the best so far."""
    if estimator.early_stopping:
        score = estimator.validation_scores_[-1]
        stalls = score < estimator.best_validation_score_ + estimator.tol
        improves = score > estimator.best_validation_score_
        if improves:
            estimator.best_validation_score_ = score
    else:
        loss = estimator.loss_curve_[-1]
        stalls = loss > estimator.best_loss_ - estimator.tol
        improves = loss < estimator.best_loss_
        if improves:
            estimator.best_loss_ = loss
    estimator._no_improvement_count = estimator._no_improvement_count + 1 if stalls else 0
    return bool(improves)


def _without_progress(estimator: Any) -> str:
    what = "Validation score" if estimator.early_stopping else "Training loss"
    return (
        f"{what} did not improve more than tol={estimator.tol:f} for {estimator.n_iter_no_change} consecutive epochs."
    )


def _evaluate(estimator: Any, problem: Problem, held_out: HeldOut) -> None:
    """Append the score, and the loss without its penalty, on the rows held out."""
    with np.errstate(over="ignore", invalid="ignore"):
        outputs = outputs_of(problem.layout, problem.parameters, held_out.x, problem.threads)
        row_losses = _row_losses(outputs, held_out.y, problem.loss)
        estimator.validation_loss_curve_.append(held_out.mean(row_losses))
        estimator.validation_scores_.append(estimator._score_of(outputs, held_out))


def _row_losses(outputs: np.ndarray, y: np.ndarray, loss: Loss) -> np.ndarray:
    """Return scikit-learn's loss of every row (N,) from the outputs (N, O), without the penalty."""
    if loss.code == SQUARED_ERROR:
        halves: np.ndarray = np.square(outputs - y).mean(axis=1) / 2
        return halves
    if loss.code == POISSON:
        deviances: np.ndarray = (xlogy(y, y / outputs) - y + outputs).sum(axis=1)
        return deviances
    tiny = np.finfo(outputs.dtype).eps
    logarithms: np.ndarray
    if y.ndim == 1:
        logarithms = np.log(outputs[np.arange(len(y)), y].clip(tiny, 1 - tiny))
    elif loss.code == CROSS_ENTROPY:
        logarithms = (y * np.log(outputs.clip(tiny, 1 - tiny))).sum(axis=1)
    else:
        likely = outputs.clip(tiny, 1 - tiny)
        logarithms = (y * np.log(likely) + (1 - y) * np.log1p(-likely)).sum(axis=1)
    return -logarithms
