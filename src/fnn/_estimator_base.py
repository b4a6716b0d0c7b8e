"""What MLPClassifier and MLPRegressor share: parameters, weights, predictions, and the order of steps of a fit."""

from __future__ import annotations

import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin, is_classifier
from sklearn.callback import CallbackSupportMixin
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from fnn import _checks, _dispatch
from fnn._depth import LAWS, rate_by_depth
from fnn._estimator_callbacks import FitTask
from fnn._estimator_problem import HeldOut, Problem
from fnn._estimator_solvers import fit_lbfgs, fit_stochastic, split_off, thread_count
from fnn._estimator_sparse import dense, outputs_of, stays_sparse
from fnn._formulas import (
    ACTIVATIONS,
    BINARY_CROSS_ENTROPY,
    CORNER,
    CROSS_ENTROPY,
    OUTPUT_ONLY,
    Activation,
    Loss,
    is_finite_real,
)
from fnn._layout import Layout
from fnn._optimizers import FISTA, SGD, Adam
from fnn._train import PROPAGATIONS, fitting_loss

# coefs_ and intercepts_ have no place for what a corner trains.
ACTIVATION_NAMES = frozenset({"logistic", *ACTIVATIONS}) - {"corner"}
INNER_NAMES = frozenset(name for name in ACTIVATION_NAMES if name not in ("softmax", "exp"))
DEFAULT_OUTPUTS = {"poisson": "exp", "cross_entropy": "softmax", "binary_cross_entropy": "logistic"}


def find_activation(activation: str | Activation) -> Activation:
    """Return the activation that scikit-learn, or this library, calls so, or that is given itself."""
    if isinstance(activation, Activation):
        return activation
    return ACTIVATIONS["sigmoid" if activation == "logistic" else activation]


def hidden_activations(activation: str | Activation | Sequence[str | Activation], count: int) -> list[Activation]:
    """Return the activation of each of `count` hidden layers, given one for all or one for each."""
    listed = [activation] * count if isinstance(activation, str | Activation) else list(activation)
    if len(listed) != count:
        raise ValueError(f"activation: expected one, or {count}, one a hidden layer, got {len(listed)}")
    for one in listed:
        if one not in INNER_NAMES and (not isinstance(one, Activation) or one.code in (*OUTPUT_ONLY, CORNER)):
            expected = f"{', '.join(sorted(INNER_NAMES))}, or such a member of fnn.activations"
            raise ValueError(f"activation: expected {expected} in hidden layers, got {one!r}")
    return [find_activation(one) for one in listed]


def layer_rate_scales(rate_scale: str | Sequence[float] | None, n_layers: int) -> tuple[float, ...]:
    """Return what each layer multiplies the learning rate by, given that, a law of `rate_by_depth` or None."""
    if rate_scale is None:
        return ()
    scales = rate_by_depth(n_layers, rate_scale) if isinstance(rate_scale, str) else list(rate_scale)
    if len(scales) != n_layers:
        raise ValueError(f"rate_scale: expected {n_layers} numbers, one a layer with the output's, got {len(scales)}")
    for scale in scales:
        if not is_finite_real(scale) or scale <= 0:
            raise ValueError(f"rate_scale: expected finite numbers > 0, got {scale!r}")
    return tuple(map(float, scales))


def reported_loss(name: str, layout: Layout, dtype: np.dtype) -> Loss:
    """Return the loss of a name, if it goes with the outputs; scikit-learn's takes no probability for less than eps."""
    loss = fitting_loss(name, layout)
    if loss.code in (CROSS_ENTROPY, BINARY_CROSS_ENTROPY):
        return replace(loss, ceiling=-math.log(np.finfo(dtype).eps))
    return loss


class BaseMLP(CallbackSupportMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator, ABC):
    """What both estimators share.  Parameters and attributes are described there.

    The weights of a fitted estimator lie in one flat vector, `_parameters`, as `_layout` says; coefs_ and intercepts_
    are lists of views of it.  Arrays that someone else puts into these lists are taken as they are.
    """

    loss_curve_: list[float]
    validation_loss_curve_: list[float]
    validation_scores_: list[float] | None
    best_validation_score_: float | None
    best_loss_: float | None
    _layout: Layout
    _parameters: np.ndarray

    _parameter_constraints: dict[str, list[Any]] = {  # noqa: RUF012 - scikit-learn reads it from the class
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions(set(INNER_NAMES)), Activation, "array-like"],
        "solver": [StrOptions({"lbfgs", "sgd", "adam"}), SGD, Adam, FISTA],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"})],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "power_t": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "momentum": [Interval(Real, 0, 1, closed="both")],
        "nesterovs_momentum": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "beta_1": [Interval(Real, 0, 1, closed="left")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), Options(Real, {np.inf})],
        "max_fun": [Interval(Integral, 1, None, closed="left")],
        "dtype": [StrOptions({"auto", "float32", "float64"})],
        "n_threads": [None, Interval(Integral, 1, None, closed="left")],
        "max_seconds": [None, Interval(Real, 0, None, closed="neither")],
        "out_activation": [None, StrOptions(set(ACTIVATION_NAMES)), Activation],
        "rate_scale": [None, StrOptions(set(LAWS)), "array-like"],
        "saturation": [None, Interval(Real, 0, None, closed="neither")],
        "weight_floor": [None, Interval(Real, 0, None, closed="neither")],
        "propagate": [StrOptions(set(PROPAGATIONS))],
        "dropout": [Interval(Real, 0, 1, closed="left"), "array-like"],
        "callbacks": [None, callable, "array-like"],
        "progress": ["boolean"],
    }

    @abstractmethod
    def __init__(
        self,
        *,
        hidden_layer_sizes: Any,
        activation: Any,
        solver: Any,
        alpha: Any,
        batch_size: Any,
        learning_rate: Any,
        learning_rate_init: Any,
        power_t: Any,
        max_iter: Any,
        shuffle: Any,
        random_state: Any,
        tol: Any,
        verbose: Any,
        warm_start: Any,
        momentum: Any,
        nesterovs_momentum: Any,
        early_stopping: Any,
        validation_fraction: Any,
        beta_1: Any,
        beta_2: Any,
        epsilon: Any,
        n_iter_no_change: Any,
        max_fun: Any,
        dtype: Any,
        n_threads: Any,
        max_seconds: Any,
        out_activation: Any,
        rate_scale: Any,
        saturation: Any,
        weight_floor: Any,
        propagate: Any,
        dropout: Any,
        callbacks: Any,
        progress: Any,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.dtype = dtype
        self.n_threads = n_threads
        self.max_seconds = max_seconds
        self.out_activation = out_activation
        self.rate_scale = rate_scale
        self.saturation = saturation
        self.weight_floor = weight_floor
        self.propagate = propagate
        self.dropout = dropout
        self.callbacks = callbacks
        self.progress = progress

    @classmethod
    @cache
    def _get_param_names(cls) -> list[str]:
        """Return the parameters' names, once for all; scikit-learn would read the signature again at every fit."""
        names: list[str] = super()._get_param_names()
        return names

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def transform(self, X: Any, layer: int | None = None) -> np.ndarray:
        """Compute what a hidden layer makes of every row of X.

        Parameters
        ----------
        X : {array-like, sparse matrix}, shape (N, I)
        layer : int, optional
            Which one, counted from 0, or from the end if below; the last unless given.

        Returns
        -------
        numpy.ndarray, shape (N, neurons of that layer)
        """
        self._check_is_fitted()
        hidden = len(self.coefs_) - 1
        if not hidden:
            raise ValueError("transform: expected a network with a hidden layer, got hidden_layer_sizes=()")
        chosen = -1 if layer is None else operator.index(layer)
        if not -hidden <= chosen < hidden:
            raise ValueError(f"layer: expected a number from {-hidden} to {hidden - 1}, got {chosen}")
        return self._outputs(X, chosen % hidden + 1)

    @property
    def _n_features_out(self) -> int:
        """How many columns `transform` makes of the last hidden layer."""
        return int(self.coefs_[-1].shape[0])

    @abstractmethod
    def _targets(self, y: np.ndarray, incremental: bool) -> np.ndarray:
        """Return y as what the outputs should be, (N,) or (N, O), and learn the classes where they are new.

        Of several classes it is the number of each row's, (N,) of intp.
        """

    @abstractmethod
    def _known_targets(self, y: np.ndarray) -> np.ndarray:
        """Return y as `_targets` does, refusing what the network has no output for."""

    def _count_outputs(self, targets: np.ndarray) -> int:
        """Return how many outputs the network needs for targets as `_targets` returns them."""
        return 1 if targets.ndim == 1 else targets.shape[1]

    @abstractmethod
    def _loss_name(self) -> str:
        """Return the library's name of the loss that the parameter `loss` and the data ask for."""

    @abstractmethod
    def _score_of(self, outputs: np.ndarray, held_out: HeldOut) -> float:
        """Return what `score` would be of outputs (N, O) for these rows."""

    def _output_activation(self) -> str | Activation:
        """Return the activation of the output layer, if it has one by scikit-learn's name."""
        asked = self.out_activation
        if isinstance(asked, Activation) and asked.code == CORNER:
            raise ValueError("out_activation: expected no corner, which coefs_ and intercepts_ have no place for")
        if asked is None:
            return DEFAULT_OUTPUTS.get(self._loss_name(), "identity")
        if isinstance(asked, Activation) and asked != ACTIVATIONS.get(asked.name):
            return asked  # a slope of its own
        name = find_activation(asked).name
        return "logistic" if name == "sigmoid" else name

    def _check_solver(self) -> bool:
        if self.solver == "lbfgs":
            raise AttributeError(
                f"partial_fit is only available for stochastic optimizers. {self.solver} is not stochastic."
            )
        return True

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        epochs: int | None = None,
        held_out: tuple[Any, Any, Any] | None = None,
    ) -> Self:
        """Train: a whole fit, or `epochs` of partial_fit; on other validation data than a part of X with `held_out`."""
        incremental = epochs is not None
        hidden = _hidden_sizes(self.hidden_layer_sizes)
        if self.solver == "lbfgs" and any(_checks.hidden_dropouts(self.dropout, len(hidden))):
            raise ValueError(f"dropout: expected none with solver='lbfgs', got {self.dropout!r}")
        first_pass = not hasattr(self, "coefs_") or not (self.warm_start or incremental)
        X, labels = self._validated(X, y, reset=first_pass)
        y = self._targets(labels, incremental)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X)
        sample_weight = self._row_weights(labels, sample_weight, incremental)
        self.n_outputs_ = self._count_outputs(y)
        if not first_pass:
            self._take_over()
        # To make one from a seed takes as long as to train on a row, which is not shuffled.
        draws = first_pass or X.shape[0] > 1 or self._layout.drops
        random_state = check_random_state(self.random_state) if draws else None
        if first_pass:
            self._initialize((X.shape[1], *hidden, self.n_outputs_), self._training_dtype(X), random_state)
        if self._layout.sizes[0] != X.shape[1] or self._layout.sizes[-1] != self.n_outputs_:
            raise ValueError(
                f"y: expected {self._layout.sizes[-1]} outputs, as many as the network of the call before has, "
                f"got {self.n_outputs_}"
            )
        loss = reported_loss(self._loss_name(), self._layout, self._parameters.dtype)
        data = self._as_kernels_take(X, y, sample_weight)
        if self.solver == "lbfgs":
            self._install(self._layout, self._parameters.astype(np.float64, copy=False))
        problem = Problem(self._layout, self._parameters, *data, loss, thread_count(self.n_threads))
        parts = self.max_iter if epochs is None else epochs
        task = FitTask(self, parts, "iteration" if self.solver == "lbfgs" else "epoch", X, labels, sample_weight)
        if self.solver == "lbfgs":
            fit_lbfgs(self, problem, task)
        else:
            self._fit_in_epochs(problem, y, random_state, first_pass, epochs, held_out, task)
        task.close()
        if not np.isfinite(self._parameters).all():
            raise ValueError(
                "Solver produced non-finite parameter weights. The input data may contain large values and need to be "
                "preprocessed."
            )
        return self

    def _fit_in_epochs(
        self,
        problem: Problem,
        y: np.ndarray,
        random_state: Any,
        first_pass: bool,
        epochs: int | None,
        held_out: tuple[Any, Any, Any] | None,
        task: FitTask,
    ) -> None:
        if self.early_stopping and epochs is not None:
            raise ValueError("partial_fit does not support early_stopping=True")
        rows, apart = np.arange(problem.n_rows, dtype=np.intp), None
        if held_out is not None:
            apart = self._held_out(*held_out)
        elif self.early_stopping:
            stratified = is_classifier(self) and self.n_outputs_ == 1
            rows, out = split_off(self, len(rows), y if stratified else None, random_state)
            weights = None if problem.weights is None else problem.weights[out]
            apart = HeldOut(problem.x[out], problem.y[out], weights)
        if not hasattr(self, "loss_curve_"):  # the fit before was one of lbfgs
            self._start_history()
        if apart is not None and getattr(self, "validation_scores_", None) is None:
            self.validation_scores_ = []  # also where a warm start adds validation to a fit that had none
        if self.early_stopping and self.best_validation_score_ is None:
            self.best_validation_score_ = -np.inf
        if not self.early_stopping and self.best_loss_ is None:
            self.best_loss_ = np.inf
        fit_stochastic(self, problem, rows, apart, random_state, first_pass, epochs, task)

    def _initialize(self, sizes: tuple[int, ...], dtype: np.dtype, random_state: Any) -> None:
        """Start a new network: Glorot's uniform weights, then biases, layer by layer, as scikit-learn draws them."""
        self.n_iter_ = 0
        self.t_ = 0
        self.n_layers_ = len(sizes)
        self.out_activation_ = self._output_activation()
        layout = self._layout_of(sizes)
        parameters = np.empty(layout.n_parameters, dtype)
        inner = layout.activations[:-1]
        deciding = (*inner, *(inner[-1:] or [find_activation(self.activation)]))  # of the output the hidden one before
        for weights, biases, activation in zip(
            layout.weights(parameters), layout.biases(parameters), deciding, strict=True
        ):
            bound = np.sqrt((2.0 if activation.name == "sigmoid" else 6.0) / sum(weights.shape))
            weights[:] = random_state.uniform(-bound, bound, weights.shape)
            biases[:] = random_state.uniform(-bound, bound, biases.shape)
        self._install(layout, parameters)
        if self.solver != "lbfgs":
            self._start_history()

    def _start_history(self) -> None:
        self.loss_curve_ = []
        self.validation_loss_curve_ = []
        self._no_improvement_count = 0
        self.validation_scores_ = [] if self.early_stopping else None
        self.best_validation_score_ = -np.inf if self.early_stopping else None
        self.best_loss_ = None if self.early_stopping else np.inf

    def _training_dtype(self, X: Any) -> np.dtype:
        dtype: np.dtype = X.dtype if self.dtype == "auto" else np.dtype(self.dtype)
        return dtype

    def _row_weights(self, y: np.ndarray, sample_weight: np.ndarray | None, incremental: bool) -> np.ndarray | None:
        """Return the weights of the rows, with what else weighs on them."""
        return sample_weight

    def _validated(self, X: Any, y: Any, reset: bool) -> tuple[Any, np.ndarray]:
        if reset or not (self._is_beyond_doubt(X) and _are_plain_targets(y, len(X))):
            X, y = validate_data(
                self,
                X,
                y,
                accept_sparse=["csr", "csc"],
                multi_output=True,
                y_numeric=not is_classifier(self),
                dtype=(np.float64, np.float32),
                reset=reset,
            )
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        return X, y

    def _held_out(self, X: Any, y: Any, sample_weight: Any) -> HeldOut:
        """Return rows to validate on, as the kernels take them."""
        X, y = self._validated(X, y, reset=False)
        targets = self._known_targets(y)
        if self._count_outputs(targets) != self.n_outputs_:
            raise ValueError(
                f"y_val: expected {self.n_outputs_} columns, as many as y has, got {self._count_outputs(targets)}"
            )
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X)
        return HeldOut(*self._as_kernels_take(X, targets, sample_weight))

    def _as_kernels_take(
        self, X: Any, y: np.ndarray, sample_weight: np.ndarray | None
    ) -> tuple[Any, np.ndarray, np.ndarray | None]:
        dtype = self._parameters.dtype
        x = X.tocsr().astype(dtype, copy=False) if stays_sparse(X, dtype) else dense(X, dtype)
        targets = self._kernel_targets(y)
        return x, targets, None if sample_weight is None else np.ascontiguousarray(sample_weight, dtype)

    def _kernel_targets(self, y: np.ndarray) -> np.ndarray:
        """Return what `_targets` makes of y as the kernels take it."""
        return np.require(y.reshape(len(y), -1), self._parameters.dtype, ["C", "A"])

    def _layout_of(self, sizes: tuple[int, ...]) -> Layout:
        inner = hidden_activations(self.activation, len(sizes) - 2)
        scales = layer_rate_scales(self.rate_scale, len(sizes) - 1)
        dropouts = (0.0, *_checks.hidden_dropouts(self.dropout, len(inner)), 0.0)
        return Layout(sizes, (*inner, find_activation(self.out_activation_)), rate_scales=scales, dropouts=dropouts)

    def _install(self, layout: Layout, parameters: np.ndarray) -> None:
        """Make this flat vector the estimator's, with coefs_ and intercepts_ as views of it."""
        self._layout, self._parameters = layout, parameters
        self.coefs_, self.intercepts_ = layout.weights(parameters), layout.biases(parameters)
        self._views = (*self.coefs_, *self.intercepts_)

    def _network(self) -> tuple[Layout, np.ndarray]:
        """Return the layout and the flat vector of what coefs_ and intercepts_ hold at this moment."""
        arrays = (*self.coefs_, *self.intercepts_)
        ours = getattr(self, "_views", ())
        if len(arrays) == len(ours) and all(map(operator.is_, arrays, ours)):
            return self._layout, self._parameters
        coefs = [np.asarray(coef) for coef in self.coefs_]
        layout = self._layout_of((coefs[0].shape[0], *(coef.shape[1] for coef in coefs)))
        parameters = np.empty(layout.n_parameters, _float_type(*map(np.asarray, arrays)))
        for block, coef, intercept in zip(layout.blocks(parameters), coefs, self.intercepts_, strict=True):
            block[:-1], block[-1] = coef, intercept
        return layout, parameters

    def _take_over(self) -> None:
        """Make what coefs_ and intercepts_ hold the flat vector, one that may be written into."""
        layout, parameters = self._network()
        if parameters is not getattr(self, "_parameters", None) or not parameters.flags.writeable:
            self._install(layout, np.array(parameters))

    def _check_is_fitted(self) -> None:
        # Scikit-learn looks at the names of all attributes, unless a subclass answers itself.
        if not hasattr(self, "coefs_") or hasattr(self, "__sklearn_is_fitted__"):
            check_is_fitted(self)

    def _is_beyond_doubt(self, X: Any) -> bool:
        """Whether scikit-learn's validation, which takes many times as long as a row's outputs, would find nothing."""
        return (
            type(X) is np.ndarray
            and X.dtype in (np.float32, np.float64)
            and X.ndim == 2
            and len(X) > 0
            and X.shape[1] == getattr(self, "n_features_in_", None)
            and not hasattr(self, "feature_names_in_")
            and X.flags.c_contiguous
            and X.flags.aligned
            and _dispatch.kernels.is_finite(X)
        )

    def _outputs(self, X: Any, depth: int | None = None) -> np.ndarray:
        """Compute the outputs (N, O) in the wider of the types of X and the weights, some rows at a time.

        With `depth` they are those of the layer of this number, the first being 1.
        """
        if not self._is_beyond_doubt(X):
            X = validate_data(self, X, accept_sparse=["csr", "csc"], reset=False)
        layout, parameters = self._network()
        if depth is not None:
            layout = Layout(layout.sizes[: depth + 1], layout.activations[:depth])
            parameters = parameters[: layout.n_parameters]
        dtype = _float_type(X, parameters)
        parameters = parameters.astype(dtype, copy=False)
        threads = 1 if X.shape[0] == 1 else thread_count(self.n_threads)  # which takes longer than one row
        with np.errstate(over="ignore", invalid="ignore"):
            outputs = outputs_of(layout, parameters, X.tocsr() if issparse(X) else X, threads)
        if not _dispatch.kernels.is_finite(outputs):
            _checks.warn_of_overflow(outputs, stacklevel=3)
        return outputs

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the views of the flat vector, which it would be written twice for."""
        state: dict[str, Any] = dict(super().__getstate__())
        if "_views" in state:
            views_hold = self._network()[1] is self._parameters
            for name in ("_views", *(("coefs_", "intercepts_") if views_hold else ("_layout", "_parameters"))):
                del state[name]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "_parameters" in state and "coefs_" not in state:
            self._install(self._layout, self._parameters)


def _are_plain_targets(y: Any, n_rows: int) -> bool:
    """Whether scikit-learn's validation would leave y as it is, beside so many rows."""
    return (
        type(y) is np.ndarray
        and y.dtype.kind in "biuf"
        and y.ndim in (1, 2)
        and len(y) == n_rows
        and y.size > 0
        and bool(np.isfinite(y).all())
    )


def _hidden_sizes(sizes: Any) -> list[int]:
    listed = list(sizes) if hasattr(sizes, "__iter__") else [sizes]
    if np.any(np.array(listed) <= 0):
        raise ValueError(f"hidden_layer_sizes must be > 0, got {listed}.")
    return [operator.index(size) for size in listed]


def _float_type(*arrays: Any) -> np.dtype:
    """Return float32 where the arrays call for no wider type, else float64."""
    return np.dtype(np.float32 if np.result_type(*(array.dtype for array in arrays)) == np.float32 else np.float64)


def held_out_rows(X: Any, y: Any, sample_weight: Any) -> tuple[Any, Any, Any] | None:
    """Return the arguments for validation of `fit`, or None where there are none."""
    if X is None and y is None and sample_weight is None:
        return None
    if X is None or y is None:
        raise ValueError(f"{'X_val' if X is None else 'y_val'}: expected one beside the other arguments _val, got None")
    return X, y, sample_weight
