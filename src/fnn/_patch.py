"""patch_sklearn, unpatch_sklearn, sklearn_is_patched: scikit-learn's names for its MLP lead to fnn's training."""

from __future__ import annotations

import copyreg
from collections.abc import Iterable

from fnn._sklearn_extra import needed_by

NAMES = ("MLPClassifier", "MLPRegressor")
_patched_names: set[str] = set()


def patch_sklearn(name: str | Iterable[str] | None = None, verbose: int = 1) -> None:
    """Let scikit-learn's MLPClassifier and MLPRegressor train with fnn, in this process from now on.

    What imports them afterwards, from sklearn.neural_network or from within scikit-learn, gets subclasses of them with
    the same parameters, methods and numbers.  Names imported before stay what they were.  To patch again does no harm.

    Parameters
    ----------
    name : str or iterable of str, optional
        MLPClassifier, MLPRegressor or both; both unless given.
    verbose : {0, 1}, default 1
        Whether a training that is left to scikit-learn, because fnn does not know what it asks for, is told of: as a
        warning of the logger ``fnn``, which Python prints on stderr unless logging is set up otherwise.

    Raises
    ------
    ImportError
        scikit-learn is not installed.
    ValueError
        An argument that is not one of those above.

    Examples
    --------
    >>> fnn.patch_sklearn()
    >>> from sklearn.neural_network import MLPClassifier
    >>> fnn.sklearn_is_patched()
    True
    >>> fnn.unpatch_sklearn()
    """
    chosen = _chosen(name)
    if verbose not in (0, 1):
        raise ValueError(f"verbose: expected 0 or 1, got {verbose!r}")
    with needed_by("patch_sklearn"):
        from fnn import _patched
    _patched.Accelerated.verbosity = int(verbose)
    for one in chosen:
        _install(one, getattr(_patched, one))
        copyreg.pickle(_patched.STOCK[one], _patched.reduce_stock)
        _patched_names.add(one)


def unpatch_sklearn(name: str | Iterable[str] | None = None) -> None:
    """Give scikit-learn's names their own classes back; patched estimators that were made meanwhile go on to work.

    Parameters
    ----------
    name : str or iterable of str, optional
        As for `patch_sklearn`.

    Raises
    ------
    ValueError
        `name` is not one of those.
    """
    for one in _patched_names.intersection(_chosen(name)):
        from fnn import _patched

        _install(one, _patched.STOCK[one])
        del copyreg.dispatch_table[_patched.STOCK[one]]
        _patched_names.remove(one)


def sklearn_is_patched(name: str | Iterable[str] | None = None) -> bool:
    """Tell whether `patch_sklearn` is in force, for all of the names.

    Parameters
    ----------
    name : str or iterable of str, optional
        As for `patch_sklearn`.

    Returns
    -------
    bool

    Raises
    ------
    ValueError
        `name` is not one of those.
    """
    return _patched_names.issuperset(_chosen(name))


def _install(name: str, estimator: type) -> None:
    """Put a class under its name where scikit-learn keeps it."""
    from sklearn import neural_network
    from sklearn.neural_network import _multilayer_perceptron

    for module in (neural_network, _multilayer_perceptron):
        setattr(module, name, estimator)


def _chosen(name: str | Iterable[str] | None) -> tuple[str, ...]:
    if name is None:
        return NAMES
    chosen = tuple(name) if isinstance(name, Iterable) and not isinstance(name, str) else (name,)
    for one in chosen:
        if not isinstance(one, str) or one not in NAMES:
            raise ValueError(f"name: expected {' or '.join(NAMES)}, got {one!r}")
    return chosen
