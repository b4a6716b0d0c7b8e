"""MLPRegressor: numbers as targets, of the ranges that the losses ask for, and outputs as numbers."""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np
from sklearn.base import RegressorMixin, _fit_context
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import available_if

from fnn._checks import whole_number
from fnn._estimator_base import BaseMLP, held_out_rows
from fnn._estimator_problem import HeldOut
from fnn._formulas import LOSSES
from fnn._train import r2


class MLPRegressor(RegressorMixin, BaseMLP):
    """A multi-layer perceptron for numbers: scikit-learn's MLPRegressor, with its numbers, trained by fnn's kernels.

    The parameters down to max_fun are those of scikit-learn 1.9 and mean the same; docs/scikit-learn.md
    tells the differences.

    Parameters
    ----------
    loss : {"squared_error", "poisson", "binary_cross_entropy", "cross_entropy"}, default "squared_error"
        Half the squared error, averaged over the outputs where it is reported; or half the Poisson deviance, of
        predictions that are exp of the output layer's sums, and targets >= 0.  Not scikit-learn's: binary_cross_entropy
        for targets in [0, 1], each a sigmoid's; cross_entropy for rows of shares, >= 0, of one softmax.
    hidden_layer_sizes : int or sequence of int, default (100,)
        Neurons of every hidden layer; ``()`` makes a linear model.
    activation : {"identity", "logistic", "tanh", "relu", "leaky_relu"}, Activation or a sequence, default "relu"
        Of the hidden layers: a name, a member of `fnn.activations`, which leaky_relu's slope may be set of, or one such
        for every layer.  leaky_relu by name has slope 0.01; sigmoid is another name of logistic.
    solver : {"adam", "sgd", "lbfgs"}, SGD, Adam or FISTA, default "adam"
        By name with the parameters below.  An optimiser of `fnn` brings its own rate, momentum, betas and epsilon; the
        schedule learning_rate applies to each of them.
    alpha : float, default 0.0001
        Strength of the L2 penalty on the weights: alpha / 2 times the sum of their squares, divided by a batch's rows.
    batch_size : int or "auto", default "auto"
        Rows to an update; auto is 200, or all where there are fewer.  Not for lbfgs, which takes all.
    learning_rate : {"constant", "invscaling", "adaptive"}, default "constant"
        Schedule of sgd and of optimisers of `fnn`.  invscaling: after an epoch the first rate is divided by
        (t_ + 1) ** power_t.  adaptive: the rate is divided by 5 where training would stop for lack of progress, until
        it is 1e-6.
    learning_rate_init : float, default 0.001
        Of sgd and adam.
    power_t : float, default 0.5
        Of invscaling.
    max_iter : int, default 200
        Epochs at most; iterations of lbfgs.
    shuffle : bool, default True
        Take the rows in a new random order each epoch.
    random_state : int, RandomState or None, default None
        What initial weights, validation split and order of rows come from, drawn as scikit-learn draws them.
    tol : float, default 1e-4
        Less improvement than this is none; lbfgs stops at such a gradient.
    verbose : bool or int, default False
        Print the loss of each epoch.
    warm_start : bool, default False
        Let `fit` start from the weights of the `fit` before.
    momentum : float, default 0.9
        Of sgd, in [0, 1].
    nesterovs_momentum : bool, default True
        Use Nesterov's form of it.
    early_stopping : bool, default False
        Set validation_fraction of the rows aside, stop when R2 on them does not improve, keep the best weights.
    validation_fraction : float, default 0.1
        In [0, 1).
    beta_1, beta_2 : float, default 0.9 and 0.999
        Decay of Adam's moments, in [0, 1).
    epsilon : float, default 1e-8
        Of adam.
    n_iter_no_change : int or inf, default 10
        Epochs without improvement that are allowed.
    max_fun : int, default 15000
        Evaluations of the loss by lbfgs at most.
    dtype : {"auto", "float32", "float64"}, default "auto"
        Type of the weights and of training.  auto: float32 where X is, else float64.  lbfgs steps in float64 and leaves
        that, whatever it computes in.
    n_threads : int, optional
        Threads to use at most; unless given what `fnn.get_threads` says, and one within a thread of joblib's.  No
        result depends on it.
    max_seconds : float, optional
        End training after the epoch, or iteration of lbfgs, in which this time has passed.
    out_activation : str or Activation, optional
        Of the output layer, among those that the loss goes with (`fnn.losses`); what scikit-learn takes unless given.
    rate_scale : {"linear", "geometric"} or sequence of float, optional
        What each layer, the output's among them, multiplies the learning rate by; a name is a law of
        `fnn.rate_by_depth`.  Not for lbfgs.
    saturation : float, optional
        Keep every weight and bias inside plus and minus this, after every update.  Not for lbfgs.
    weight_floor : float, optional
        Keep every weight and bias that moves outside plus and minus this, as `fnn.Network.fit` does.  Not for lbfgs.
    propagate : {"before", "updated"}, default "before"
        updated: deltas go back through weights that have stepped already; for batch_size=1, alpha=0 and sgd without
        momentum.  Not for lbfgs.
    dropout : float or sequence of float, default 0
        Share of the outputs of every hidden layer, or of each of them, that training drops, in [0, 1), as `fnn.Dense`
        does; predictions and validation use the whole network, loss_curve_ is of what was trained.  An error with
        lbfgs.
    callbacks : callable or list of callables, optional
        Each is called with the estimator after every epoch, or iteration of lbfgs; a true return value ends training.
        One with a method before_epoch, like `fnn.AutoRate`, plans the epoch, and is called with a network and its
        history, as `fnn.Network.fit` does; not for lbfgs.
    progress : bool, default False
        Show one line of progress on stderr.  Not for lbfgs.

    Attributes
    ----------
    coefs_, intercepts_ : list of numpy.ndarray
        Weights (I, O) and biases (O,) of every layer, views of one vector.
    loss_ : float
        Loss of the last epoch, with the penalty.
    best_loss_ : float or None
        Lowest loss; None with early_stopping.  Not of lbfgs, like the next five.
    loss_curve_ : list of float
        Loss of every epoch.
    validation_scores_ : list of float or None
        R2 on the validation rows after every epoch.
    validation_loss_curve_ : list of float
        Loss on the validation rows after every epoch, without the penalty; empty without such rows.
    best_validation_score_ : float or None
        Highest of the scores.
    t_ : int
        Rows seen.
    n_iter_ : int
        Epochs, or iterations, of the last call.
    n_features_in_, n_layers_, n_outputs_ : int
    feature_names_in_ : numpy.ndarray of str
        Where X has such names.
    out_activation_ : str
        Of the output layer.

    Examples
    --------
    >>> x = np.linspace(-1, 1, 200)[:, None]
    >>> model = fnn.MLPRegressor(solver="lbfgs", random_state=0).fit(x, x[:, 0] ** 2)
    >>> model.score(x, x[:, 0] ** 2) > 0.99
    True
    """

    _parameter_constraints = {  # noqa: RUF012 - scikit-learn reads it from the class
        **BaseMLP._parameter_constraints,
        "loss": [StrOptions(set(LOSSES))],
    }

    def __init__(
        self,
        loss: Any = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: Any = "adam",
        alpha: Any = 0.0001,
        batch_size: Any = "auto",
        learning_rate: Any = "constant",
        learning_rate_init: Any = 0.001,
        power_t: Any = 0.5,
        max_iter: Any = 200,
        shuffle: Any = True,
        random_state: Any = None,
        tol: Any = 1e-4,
        verbose: Any = False,
        warm_start: Any = False,
        momentum: Any = 0.9,
        nesterovs_momentum: Any = True,
        early_stopping: Any = False,
        validation_fraction: Any = 0.1,
        beta_1: Any = 0.9,
        beta_2: Any = 0.999,
        epsilon: Any = 1e-8,
        n_iter_no_change: Any = 10,
        max_fun: Any = 15000,
        dtype: Any = "auto",
        n_threads: Any = None,
        max_seconds: Any = None,
        out_activation: Any = None,
        rate_scale: Any = None,
        saturation: Any = None,
        weight_floor: Any = None,
        propagate: Any = "before",
        dropout: Any = 0.0,
        callbacks: Any = None,
        progress: Any = False,
    ) -> None:
        super().__init__(
            hidden_layer_sizes=hidden_layer_sizes,
            activation=activation,
            solver=solver,
            alpha=alpha,
            batch_size=batch_size,
            learning_rate=learning_rate,
            learning_rate_init=learning_rate_init,
            power_t=power_t,
            max_iter=max_iter,
            shuffle=shuffle,
            random_state=random_state,
            tol=tol,
            verbose=verbose,
            warm_start=warm_start,
            momentum=momentum,
            nesterovs_momentum=nesterovs_momentum,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            n_iter_no_change=n_iter_no_change,
            max_fun=max_fun,
            dtype=dtype,
            n_threads=n_threads,
            max_seconds=max_seconds,
            out_activation=out_activation,
            rate_scale=rate_scale,
            saturation=saturation,
            weight_floor=weight_floor,
            propagate=propagate,
            dropout=dropout,
            callbacks=callbacks,
            progress=progress,
        )
        self.loss = loss

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> Self:
        """Train on the rows of X and the numbers y.

        Parameters
        ----------
        X : {array-like, sparse matrix}, shape (N, I)
        y : array-like, shape (N,) or (N, O)
        sample_weight : array-like, shape (N,), optional
            How often each row counts.  With dropout the copies of a row would drop different neurons, which a weight
            does not.
        X_val, y_val, sample_weight_val : as X, y and sample_weight, optional
            Rows to validate on, instead of a part of X where early_stopping is set.  Without it they only fill
            validation_scores_ and validation_loss_curve_.

        Returns
        -------
        MLPRegressor
            The estimator itself.
        """
        return self._fit(X, y, sample_weight, held_out=held_out_rows(X_val, y_val, sample_weight_val))

    @available_if(lambda estimator: estimator._check_solver())
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, *, epochs: int = 1) -> Self:
        """Go on training: `epochs` times through the rows of X.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.
        epochs : int, default 1

        Returns
        -------
        MLPRegressor
            The estimator itself.
        """
        return self._fit(X, y, sample_weight, epochs=whole_number(epochs, "epochs"))

    def predict(self, X: Any) -> np.ndarray:
        """Predict the numbers for every row of X.

        Parameters
        ----------
        X : {array-like, sparse matrix}, shape (N, I)

        Returns
        -------
        numpy.ndarray, shape (N,) or (N, O)
        """
        self._check_is_fitted()
        outputs = self._outputs(X)
        return outputs.ravel() if outputs.shape[1] == 1 else outputs

    def _targets(self, y: np.ndarray, incremental: bool) -> np.ndarray:
        return self._known_targets(y)

    def _known_targets(self, y: np.ndarray) -> np.ndarray:
        if y.dtype.kind not in "fiub":  # scikit-learn fails to subtract predictions from times and text
            raise TypeError(f"y: expected numbers, got dtype {y.dtype}")
        if self.loss != "squared_error" and y.min() < 0:
            raise ValueError(f"y: expected numbers >= 0 for loss={self.loss!r}, got {y.min()}")
        if self.loss == "binary_cross_entropy" and y.max() > 1:
            raise ValueError(f"y: expected numbers in [0, 1] for loss={self.loss!r}, got {y.max()}")
        return y

    def _loss_name(self) -> str:
        return str(self.loss)

    def _score_of(self, outputs: np.ndarray, held_out: HeldOut) -> float:
        return r2(held_out.y, outputs, held_out.weights) if np.isfinite(outputs).all() else math.nan
