"""Sparse data: predictions without a dense copy, and fits whose dense copies are small."""

import threading
import tracemalloc
import warnings

import numpy as np
import pytest
import scipy.sparse as sparse
from sklearn.exceptions import ConvergenceWarning

import fnn
from fnn import _estimator_sparse

ROWS, INPUTS = 331, 60


def data(dtype="f8", density=0.1):
    """Rows of which most numbers are 0, and classes that depend on them."""
    rng = np.random.default_rng(0)
    x = sparse.random(ROWS, INPUTS, density, "csr", dtype=np.dtype(dtype), random_state=rng)
    return x, (x @ rng.normal(size=(INPUTS, 3))).argmax(axis=1)


def fitted(x, y, **parameters):
    """Return a classifier that was trained for some epochs; the validation part, where there is one, is X's own."""
    model = fnn.MLPClassifier(**{"hidden_layer_sizes": (9,), "max_iter": 4, "random_state": 0, **parameters})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(x, y)


@pytest.fixture
def in_pieces(monkeypatch):
    """Let no copy of all rows be small enough, and three batches of 20 rows go into one of some."""
    monkeypatch.setattr(_estimator_sparse, "DENSE_BYTES", 0)
    monkeypatch.setattr("fnn._checks.CHUNK_VALUES", 3 * 20 * INPUTS + 7)


WAYS = {
    "adam": {},
    "sgd": {"solver": "sgd"},
    "one row": {"solver": "sgd", "momentum": 0.5, "batch_size": 1},
    "ragged": {"batch_size": 23},
    "all rows": {"batch_size": ROWS},
    "early stopping": {"early_stopping": True},
    "dropout": {"dropout": 0.3},
    "float32": {"dtype": "float32"},
    "two layers": {"hidden_layer_sizes": (9, 7), "activation": "tanh"},
    "planned": {"callbacks": fnn.AutoRate2()},
    "lbfgs": {"solver": "lbfgs"},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csr_array, sparse.csc_matrix])
def test_training_in_pieces_is_training_on_the_whole(backend, request, kind, way):
    x, y = data()
    whole = fitted(x.toarray(), y, **{"batch_size": 20, **WAYS[way]})
    request.getfixturevalue("in_pieces")
    pieces = fitted(kind(x), y, **{"batch_size": 20, **WAYS[way]})
    for got, want in zip(pieces.coefs_ + pieces.intercepts_, whole.coefs_ + whole.intercepts_, strict=True):
        np.testing.assert_array_equal(got, want)
    np.testing.assert_allclose(getattr(pieces, "loss_curve_", pieces.loss_), getattr(whole, "loss_curve_", whole.loss_))
    assert pieces.n_iter_ == whole.n_iter_


def test_weights_go_with_their_rows(backend, in_pieces):
    x, y = data()
    weights = np.random.default_rng(1).uniform(0.1, 3, ROWS)
    models = [fnn.MLPClassifier((9,), random_state=0, batch_size=20) for _ in range(2)]
    for model, rows in zip(models, (x, x.toarray()), strict=True):
        for _ in range(3):
            model.partial_fit(rows, y, classes=[0, 1, 2], sample_weight=weights)
    np.testing.assert_array_equal(models[0].coefs_[0], models[1].coefs_[0])


def test_the_progress_line_goes_on_from_piece_to_piece(backend, in_pieces, monkeypatch):
    x, y = data()
    told = []

    def train_epoch(work, x, y, order, loss, rule, mean, tick, *rest):
        tick(len(order))
        return original(work, x, y, order, loss, rule, mean, tick, *rest)

    original = fnn._dispatch.kernels.train_epoch
    monkeypatch.setattr(fnn._dispatch.kernels, "train_epoch", train_epoch)
    monkeypatch.setattr("fnn._progress.Progress.tick", lambda self, rows: told.append(rows))
    fitted(x, y, max_iter=1, batch_size=20, progress=True)
    assert [rows for rows in told if rows == ROWS or rows % 60 == 0] == [60, 120, 180, 240, 300, ROWS]


@pytest.mark.parametrize("terms", [0, np.inf])
@pytest.mark.parametrize("hidden", [(), (9,), (9, 40)])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("kind", [sparse.csr_array, sparse.csc_matrix])
def test_predictions_are_those_of_dense_rows(backend, kind, dtype, hidden, terms, monkeypatch):
    x, y = data(dtype)
    model = fitted(x, y, hidden_layer_sizes=hidden)
    want = model.predict_proba(x.toarray())
    monkeypatch.setattr(_estimator_sparse, "TERMS_FOR_A_NUMBER", terms)
    monkeypatch.setattr("fnn._checks.CHUNK_VALUES", 999)
    got = model.predict_proba(kind(x))
    assert got.dtype == want.dtype
    np.testing.assert_allclose(got, want, rtol=1e-4 if dtype == "f4" else 1e-12)


@pytest.mark.parametrize("terms", [0, np.inf])
@pytest.mark.parametrize("kind", ["i1", "?", "i8", "g"])
def test_predictions_of_other_numbers(backend, kind, terms, monkeypatch):
    x, y = data()
    model = fitted(x, y)
    x = (3 * x).astype(kind)
    monkeypatch.setattr(_estimator_sparse, "TERMS_FOR_A_NUMBER", terms)
    got, want = model.predict_proba(x), model.predict_proba(x.toarray())
    assert got.dtype == want.dtype
    np.testing.assert_allclose(got, want, rtol=1e-12)


@pytest.mark.parametrize("started", [0, 1, 3])
def test_predictions_need_no_other_thread(monkeypatch, started):
    """Where the system starts no more threads, or the interpreter ends, those there are do all."""
    x, y = data()
    model = fitted(x, y, n_threads=4)
    want = model.predict_proba(x)
    left = [None] * started
    start = threading.Thread.start

    def start_some(self):
        if not left:
            raise RuntimeError("can't start new thread")
        left.pop()
        start(self)

    monkeypatch.setattr(_estimator_sparse, "PRODUCTS_FOR_A_THREAD", 1)
    monkeypatch.setattr("fnn._checks.CHUNK_VALUES", 99)
    monkeypatch.setattr(threading.Thread, "start", start_some)
    np.testing.assert_array_equal(model.predict_proba(x), want)


def test_what_a_thread_raises_ends_the_prediction(monkeypatch):
    x, y = data()
    model = fitted(x, y, n_threads=4)
    original = _estimator_sparse._outputs_by_terms

    def fails_in_others(*arguments):
        if threading.current_thread() is not threading.main_thread():
            other_failed.set()
            raise MemoryError("no room")
        assert other_failed.wait(60)
        return original(*arguments)

    other_failed = threading.Event()
    monkeypatch.setattr(_estimator_sparse, "PRODUCTS_FOR_A_THREAD", 1)
    monkeypatch.setattr("fnn._checks.CHUNK_VALUES", 99)
    monkeypatch.setattr(_estimator_sparse, "_outputs_by_terms", fails_in_others)
    with pytest.raises(MemoryError, match="no room"):
        model.predict(x)


def test_a_regressor_and_a_hidden_layer(backend):
    x, _ = data()
    y = np.asarray(x.sum(axis=1)).ravel()
    model = fnn.MLPRegressor(hidden_layer_sizes=(9,), random_state=0, max_iter=400, tol=1e-3).fit(x, y)
    np.testing.assert_allclose(model.predict(x), model.predict(x.toarray()), rtol=1e-10)
    np.testing.assert_allclose(model.transform(x), model.transform(x.toarray()), rtol=1e-10, atol=1e-12)


def test_large_sparse_data_stay_sparse(monkeypatch):
    """Fit and prediction take a small part of the memory of the dense array."""
    monkeypatch.setattr(_estimator_sparse, "DENSE_BYTES", 1 << 20)
    x = sparse.random(4_000, 5_000, 0.001, "csr", random_state=np.random.default_rng(0))
    y = np.arange(4_000) % 2
    tracemalloc.start()
    model = fitted(x, y, max_iter=1, hidden_layer_sizes=(2,), early_stopping=True, batch_size=50)
    model.predict(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4_000 * 5_000 * 8 / 4
