"""from_sklearn and to_sklearn: fitted estimators of scikit-learn and networks, one made from the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fnn._layers import Dense, Input
from fnn._network import Network
from fnn._sklearn_extra import needed_by

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

OURS_TO_THEIRS = {"identity": "identity", "relu": "relu", "tanh": "tanh", "sigmoid": "logistic"}


def from_sklearn(estimator: Any) -> Network:
    """Make a network of a fitted MLPClassifier or MLPRegressor, of scikit-learn or of fnn.

    Its outputs are `predict_proba` of several classes or labels; of two classes the probability of the second; the
    prediction of a regressor.  They stand in the order of the estimator's `classes_`, so of one label a row
    ``estimator.classes_[network.predict_class(x)]`` is what the estimator predicts.  Of a classifier of fnn whose
    loss is not log_loss they are what `predict_proba` makes probabilities of.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
        Fitted.  Its weights are copied.

    Returns
    -------
    Network
        float32 if all weights are, else float64.

    Raises
    ------
    ImportError
        scikit-learn is not installed.
    ValueError
        `estimator` is something else, or is not fitted (scikit-learn's NotFittedError).

    Examples
    --------
    >>> x, labels = fnn.load_digits()
    >>> model = fnn.MLPClassifier(max_iter=20, random_state=0).fit(x, labels)  # doctest: +SKIP
    >>> fnn.from_sklearn(model)  # doctest: +SKIP
    Network([64, 100, 10], activation='relu', output='softmax', dtype='float32')
    """
    with needed_by("from_sklearn"):
        from sklearn.utils.validation import check_is_fitted

        from fnn._estimator_base import BaseMLP, find_activation, hidden_activations
        from fnn._patched import STOCK
    kinds: tuple[type, ...] = (BaseMLP, *STOCK.values())
    if not isinstance(estimator, kinds):
        raise ValueError(
            f"estimator: expected a fitted MLPClassifier or MLPRegressor of scikit-learn or fnn, got {estimator!r}"
        )
    check_is_fitted(estimator, "coefs_")
    model: Any = estimator
    coefs, intercepts = model.coefs_, model.intercepts_
    chosen = [*hidden_activations(model.activation, len(coefs) - 1), find_activation(model.out_activation_)]
    layers = [Dense(coef.shape[1], activation) for coef, activation in zip(coefs, chosen, strict=True)]
    dtype = np.result_type(*coefs, *intercepts, np.float32)
    entries: list[Input | Dense] = [Input(coefs[0].shape[0]), *layers]
    network = Network(entries, dtype=dtype, init="zeros")
    network.weights, network.biases = coefs, intercepts
    return network


def to_sklearn(network: Network, classes: ArrayLike | None = None) -> Any:
    """Make a fitted MLPClassifier or MLPRegressor, of scikit-learn itself, of a network.

    The output activation decides.  identity: a regressor.  exp: a regressor with loss="poisson".  softmax: a
    classifier; of two outputs one is left, their difference.  sigmoid: a classifier, of two classes with one output,
    otherwise of so many labels a row.  `partial_fit` and `warm_start` go on from there.  Dropout is left out, which
    scikit-learn does not know: it changes no prediction.

    Parameters
    ----------
    network : Network
        Its parameters are copied.
    classes : array_like, optional
        The class of every output, or the two of a single one, in ascending order; 0, 1, 2, ... unless given.  For
        classifiers only.

    Returns
    -------
    sklearn.neural_network.MLPClassifier or sklearn.neural_network.MLPRegressor

    Raises
    ------
    ImportError
        scikit-learn is not installed.
    ValueError
        scikit-learn has no such network: another activation, hidden layers that differ in theirs, or skips; or
        `classes` do not go with the outputs.

    Examples
    --------
    >>> net = fnn.Network([4, 8, 3], output="softmax")
    >>> fnn.to_sklearn(net, classes=["a", "b", "c"]).predict(np.zeros((1, 4)))
    array(['a'], dtype='<U1')
    """
    with needed_by("to_sklearn"):
        from fnn._patched import STOCK
    if not isinstance(network, Network):
        raise ValueError(f"network: expected a Network, got {network!r}")
    if network.layout.has_skips:
        skipping = [number for number, skip in enumerate(network.layout.skips, start=1) if skip.distance]
        raise ValueError(f"network: expected layers without skips, as scikit-learn's are, got skips in {skipping}")
    *inner, last = (activation.name for activation in network.layout.activations)
    for number, name in enumerate(inner, start=1):
        if name not in OURS_TO_THEIRS or name != inner[0]:
            expected = ", ".join(OURS_TO_THEIRS) if name not in OURS_TO_THEIRS else f"{inner[0]}, that of layer 1,"
            raise ValueError(f"network: expected {expected} in layer {number}, as scikit-learn has it, got {name}")
    coefs = [weights.copy() for weights in network.weights]
    intercepts = [biases.copy() for biases in network.biases]
    parameters: dict[str, Any] = {
        "hidden_layer_sizes": network.layout.sizes[1:-1],
        "activation": OURS_TO_THEIRS[inner[0]] if inner else "identity",
    }
    if last in ("identity", "exp"):
        if classes is not None:
            raise ValueError(f"classes: expected none for a network with {last} outputs, got {classes!r}")
        loss = "poisson" if last == "exp" else "squared_error"
        model = STOCK["MLPRegressor"](loss=loss, **parameters)
        output = last
    elif last in ("softmax", "sigmoid"):
        if last == "softmax" and network.layout.sizes[-1] == 2:
            coefs[-1] = np.ascontiguousarray(coefs[-1][:, 1:] - coefs[-1][:, :1])
            intercepts[-1] = intercepts[-1][1:] - intercepts[-1][:1]
            last = "sigmoid"
        model = STOCK["MLPClassifier"](**parameters)
        model._label_binarizer = _binarizer(last, coefs[-1].shape[1], classes)
        model.classes_ = model._label_binarizer.classes_
        output = "logistic" if last == "sigmoid" else last
    else:
        raise ValueError(f"network: expected identity, exp, softmax or sigmoid as output, got {last}")
    model.coefs_, model.intercepts_ = coefs, intercepts
    model.n_features_in_, model.n_outputs_ = network.layout.sizes[0], coefs[-1].shape[1]
    model.n_layers_, model.out_activation_ = len(coefs) + 1, output
    model.n_iter_ = model.t_ = model._no_improvement_count = 0
    model.loss_curve_, model.best_loss_ = [], np.inf
    model.validation_scores_ = model.best_validation_score_ = None
    return model


def _binarizer(output: str, units: int, classes: ArrayLike | None) -> Any:
    """Return what a classifier of scikit-learn keeps of its labels."""
    from sklearn.preprocessing import LabelBinarizer

    count = 2 if units == 1 else units
    if units == 1 and output == "softmax":
        raise ValueError("network: expected two or more softmax outputs, got 1, which is always 1")
    found = np.arange(count) if classes is None else np.asarray(classes)
    if found.shape != (count,) or len(np.unique(found)) != count or (np.unique(found) != found).any():
        raise ValueError(f"classes: expected {count} different ones in ascending order, got {classes!r}")
    if units > 1 and output == "sigmoid":
        if classes is not None and (found != np.arange(count)).any():
            raise ValueError(f"classes: expected none for several labels a row, which are numbered, got {classes!r}")
        return LabelBinarizer().fit(np.eye(count, dtype=int))
    return LabelBinarizer().fit(found)
