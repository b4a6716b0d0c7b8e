"""Bad data and bad options: what the errors say, and that the network is as it was."""

import copy
import pickle
import re

import numpy as np
import pytest

import fnn
from fnn import _checks

NAN, INF = float("nan"), float("inf")


def regression(dtype="float32"):
    return fnn.Network([3, 4, 2], dtype=dtype)


def classifier():
    return fnn.Network([3, 4, 2], output="softmax")


def binary():
    return fnn.Network([3, 4, 1], output="sigmoid")


def ones(*shape):
    return np.ones(shape, np.float32)


def with_value(value, row, column, dtype=np.float64, shape=(4, 3)):
    array = np.ones(shape, dtype)
    array[row, column] = value
    return array


BAD_X = {
    "one row too flat": (ones(3), "expected shape (rows, 3), got (3,); for a single row pass x[None, :]"),
    "one dimension": (ones(4), "expected shape (rows, 3), got (4,)"),
    "three dimensions": (ones(2, 3, 1), "expected shape (rows, 3), got (2, 3, 1)"),
    "a number": (1.0, "expected shape (rows, 3), got ()"),
    "columns": (ones(4, 2), "expected shape (rows, 3), got (4, 2)"),
    "transposed": (ones(3, 4), "expected shape (rows, 3), got (3, 4)"),
    "no rows": (ones(0, 3), "expected at least one row, got shape (0, 3)"),
    "an empty list": ([], "expected shape (rows, 3), got (0,)"),
    "complex": (np.ones((4, 3), complex), "expected real numbers, got ndarray of dtype complex128"),
    "objects": (np.ones((4, 3), object), "expected real numbers, got ndarray of dtype object"),
    "None": (None, "expected real numbers, got NoneType of dtype object"),
    "strings": ([["1", "2", "3"]], "expected real numbers, got list of dtype <U1"),
    "dates": (np.zeros((4, 3), "datetime64[s]"), "expected real numbers, got ndarray of dtype datetime64[s]"),
    "durations": (np.zeros((4, 3), "timedelta64[s]"), "expected real numbers, got ndarray of dtype timedelta64[s]"),
    "ragged": ([[1, 2, 3], [1, 2]], "expected an array of numbers, got list: "),
    "nan": (with_value(NAN, 2, 1), "expected finite numbers, got nan in row 2, column 1"),
    "inf": (with_value(INF, 0, 2, np.float32), "expected finite numbers, got inf in row 0, column 2"),
    "-inf, float16": (with_value(-INF, 3, 0, np.float16), "expected finite numbers, got -inf in row 3, column 0"),
    "both infinities": (np.array([[0, INF, -INF]]), "expected finite numbers, got inf in row 0, column 1"),
    "too large": (
        with_value(1e300, 1, 1),
        "expected finite numbers, got 1e+300 in row 1, column 1; it is beyond float32",
    ),
}


@pytest.mark.parametrize("case", BAD_X)
def test_bad_x_is_refused_everywhere(case):
    bad, message = BAD_X[case]
    net, y = regression(), ones(4, 2)
    before = net.parameters.copy()
    for name, call in {
        "x": lambda: net.fit(bad, y),
        "validation x": lambda: net.fit(ones(4, 3), y, validation=(bad, y)),
    }.items():
        with pytest.raises(ValueError, match=f"^{name}: {re.escape(message)}"):
            call()
    for call in (net.forward, net.activations, net.predict, net.predict_class, lambda x: net.loss_and_gradient(x, y)):
        with pytest.raises(ValueError, match=f"^x: {re.escape(message)}"):
            call(bad)
    np.testing.assert_array_equal(net.parameters, before)


def test_a_column_for_a_network_with_one_input():
    with pytest.raises(
        ValueError, match=r"^x: expected shape \(rows, 1\), got \(4,\); for a single column pass x\[:, None\]$"
    ):
        fnn.Network([1, 1]).predict(ones(4))
    with pytest.raises(ValueError, match=r"^validation x: .* pass x\[:, None\]$"):
        fnn.Network([1, 1]).fit(ones(4, 1), ones(4), validation=(ones(4), ones(4)))


BAD_Y = {
    "rows": (regression, "squared_error", ones(3, 2), "expected 4 rows, as many as x has, got shape (3, 2)"),
    "no rows": (regression, "squared_error", [], "expected 4 rows, as many as x has, got shape (0,)"),
    "columns": (regression, "squared_error", ones(4, 3), "expected shape (4, 2), got (4, 3) of dtype float32"),
    "flat": (regression, "squared_error", ones(4), "expected shape (4, 2), got (4,) of dtype float32"),
    "a number": (regression, "squared_error", 1.0, "expected shape (4, 2), got () of dtype float64"),
    "labels for squared_error": (
        regression,
        "squared_error",
        np.array([0, 1, 0, 1], np.int64),
        "expected shape (4, 2), got (4,) of dtype int64; rows for class labels are np.eye(2)[y]",
    ),
    "nan": (
        regression,
        "squared_error",
        with_value(NAN, 3, 1, shape=(4, 2)),
        "expected finite numbers, got nan in row 3, column 1",
    ),
    "nan in one column": (
        binary,
        "squared_error",
        [0, 1, NAN, 1],
        "expected finite numbers, got nan in row 2, column 0",
    ),
    "complex": (
        regression,
        "squared_error",
        np.ones((4, 2), complex),
        "expected real numbers, got ndarray of dtype complex",
    ),
    "strings": (classifier, "cross_entropy", list("abab"), "expected real numbers, got list of dtype <U1"),
    "a label too high": (
        classifier,
        "cross_entropy",
        [0, 1, 2, 1],
        "expected class labels from 0 to 1, got 2 in row 2",
    ),
    "a label below 0": (
        classifier,
        "cross_entropy",
        [[0], [-1], [1], [1]],
        "expected class labels from 0 to 1, got -1 in row 1",
    ),
    "a huge label": (
        classifier,
        "cross_entropy",
        np.array([0, 0, 0, 2**64 - 1], np.uint64),
        "expected class labels from 0 to 1, got 18446744073709551615 in row 3",
    ),
    "labels as floats": (
        classifier,
        "cross_entropy",
        [0.0, 1.0, 0.0, 1.0],
        "expected shape (4, 2) or integer class labels (4,), got (4,) of dtype float64",
    ),
    "a negative entry": (
        classifier,
        "cross_entropy",
        with_value(-0.5, 2, 0, shape=(4, 2)),
        "expected numbers >= 0, got -0.5 in row 2, column 0",
    ),
    "above 1": (
        binary,
        "binary_cross_entropy",
        [0, 1, 1.5, 2],
        "expected numbers in [0, 1], got 1.5 in row 2, column 0",
    ),
    "a negative count": (
        lambda: fnn.Network([3, 4, 2], output="exp"),
        "poisson",
        with_value(-0.5, 2, 0, shape=(4, 2)),
        "expected numbers >= 0, got -0.5 in row 2, column 0",
    ),
    "below 0": (
        binary,
        "binary_cross_entropy",
        [0, 1, -1, 1],
        "expected numbers in [0, 1], got -1.0 in row 2, column 0",
    ),
}


@pytest.mark.parametrize("case", BAD_Y)
def test_bad_y_is_refused_everywhere(case):
    make, loss, bad, message = BAD_Y[case]
    net, x = make(), ones(4, 3)
    good = np.zeros((4, net.layout.sizes[-1]))
    before = net.parameters.copy()
    with pytest.raises(ValueError, match=f"^y: {re.escape(message)}"):
        net.fit(x, bad, loss=loss)
    with pytest.raises(ValueError, match=f"^y: {re.escape(message)}"):
        net.loss_and_gradient(x, bad, loss=loss)
    message = message.replace("as x has", "as validation x has").replace("as many as x", "as many as validation x")
    with pytest.raises(ValueError, match=f"^validation y: {re.escape(message)}"):
        net.fit(x, good, loss=loss, validation=(x, bad))
    np.testing.assert_array_equal(net.parameters, before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs: expected an integer >= 1, got 0"),
        ({"epochs": 2.0}, "epochs: expected an integer >= 1, got 2.0"),
        ({"epochs": True}, "epochs: expected an integer >= 1, got True"),
        ({"batch_size": 0}, "batch_size: expected an integer >= 1, got 0"),
        ({"batch_size": "all"}, "batch_size: expected an integer >= 1, got 'all'"),
        ({"batch_size": -3}, "batch_size: expected an integer >= 1, got -3"),
        (
            {"loss": "mse"},
            "loss: expected one of squared_error, cross_entropy, binary_cross_entropy, poisson, got 'mse'",
        ),
        (
            {"loss": "cross_entropy"},
            "loss: cross_entropy goes with output activation softmax; this network's is identity, which goes with "
            "squared_error",
        ),
        (
            {"optimizer": "adamw"},
            "optimizer: expected fnn.SGD(...), fnn.Adam(...), fnn.FISTA(...) or one of sgd, adam, fista, got 'adamw'",
        ),
        ({"saturation": 0}, "saturation: expected None or a finite number > 0, got 0"),
        ({"saturation": -1.0}, "saturation: expected None or a finite number > 0, got -1.0"),
        ({"saturation": INF}, "saturation: expected None or a finite number > 0, got inf"),
        ({"saturation": NAN}, "saturation: expected None or a finite number > 0, got nan"),
        ({"saturation": True}, "saturation: expected None or a finite number > 0, got True"),
        ({"saturation": "1"}, "saturation: expected None or a finite number > 0, got '1'"),
        ({"validation": ones(4, 3)}, "validation: expected a pair (x, y), got ndarray"),
        ({"validation": (ones(4, 3),)}, "validation: expected a pair (x, y), got tuple"),
        ({"metric": "f1"}, "metric: expected 'auto', 'accuracy', 'r2', a callable or None, got 'f1'"),
        ({"metric": 3}, "metric: expected 'auto', 'accuracy', 'r2', a callable or None, got 3"),
        ({"reduction": "none"}, "reduction: expected 'mean' or 'sum', got 'none'"),
        ({"reduction": None}, "reduction: expected 'mean' or 'sum', got None"),
        ({"shuffle": "no"}, "shuffle: expected True or False, got 'no'"),
        ({"progress": 1}, "progress: expected True or False, got 1"),
        ({"seed": -1}, "seed: expected an integer >= 0, None or a numpy Generator, got -1"),
        ({"seed": 0.5}, "seed: expected an integer >= 0, None or a numpy Generator, got 0.5"),
        ({"seed": True}, "seed: expected an integer >= 0, None or a numpy Generator, got True"),
        ({"threads": 0}, "threads: expected an integer >= 1, got 0"),
        ({"threads": 1.5}, "threads: expected an integer >= 1, got 1.5"),
        ({"callbacks": [print, "stop"]}, "callbacks: expected callables, got 'stop'"),
        ({"callbacks": 7}, "callbacks: expected callables, got 7"),
    ],
)
def test_bad_options_of_fit(options, message):
    net = regression()
    before = net.parameters.copy()
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        net.fit(ones(4, 3), ones(4, 2), **options)
    np.testing.assert_array_equal(net.parameters, before)


def test_bad_options_of_loss_and_gradient():
    net = regression()
    for options, message in (
        ({"reduction": "avg"}, "reduction: expected 'mean' or 'sum', got 'avg'"),
        ({"threads": -1}, "threads: expected an integer >= 1, got -1"),
        ({"loss": 1}, "loss: expected one of squared_error, cross_entropy, binary_cross_entropy, poisson, got 1"),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            net.loss_and_gradient(ones(4, 3), ones(4, 2), **options)


@pytest.mark.parametrize(
    ("output", "loss", "right"),
    [
        ("softmax", "squared_error", "cross_entropy"),
        ("softmax", "binary_cross_entropy", "cross_entropy"),
        ("sigmoid", "cross_entropy", "squared_error, binary_cross_entropy"),
        ("tanh", "binary_cross_entropy", "squared_error"),
    ],
)
def test_a_loss_that_does_not_fit_the_output_names_the_right_one(output, loss, right):
    net = fnn.Network([3, 2], output=output)
    with pytest.raises(
        ValueError, match=f"^loss: {loss} goes with .*; this network's is {output}, which goes with {right}$"
    ):
        net.fit(ones(4, 3), ones(4, 2), loss=loss)


def test_softmax_over_one_output_is_refused():
    with pytest.raises(ValueError, match=r"^loss: cross_entropy expects two outputs or more, got 1; .*sigmoid.*binary"):
        fnn.Network([3, 1], output="softmax").fit(ones(4, 3), [0, 0, 0, 0], loss="cross_entropy")


def test_r2_of_class_labels_is_refused():
    with pytest.raises(ValueError, match=r"^metric: r2 does not go with cross_entropy"):
        classifier().fit(ones(4, 3), [0, 1, 0, 1], loss="cross_entropy", metric="r2")


def test_parameters_that_are_not_finite_are_refused_before_training():
    net = regression()
    net.weights[0][1, 1] = NAN
    with pytest.raises(ValueError, match=r"^parameters: expected finite numbers, got nan"):
        net.fit(ones(4, 3), ones(4, 2))


def test_read_only_parameters_are_read_and_not_trained(backend):
    """As joblib gives them to its processes, and `joblib.load` with mmap_mode."""
    net, own = fnn.Network([3, 40, 2]), fnn.Network([3, 40, 2])
    net.parameters.flags.writeable = False
    x, y = np.random.default_rng(0).random((300, 3), np.float32), ones(300, 2)
    for rows in (x, x[:1], x.astype("f8")):
        np.testing.assert_array_equal(net.predict(rows), own.predict(rows))
    np.testing.assert_array_equal(net.loss_and_gradient(x, y)[1], own.loss_and_gradient(x, y)[1])
    flows = fnn.GradientFlow(x, y), fnn.GradientFlow(x, y)
    for flow, network in zip(flows, (net, own), strict=True):
        flow(network)
    np.testing.assert_array_equal(flows[0].gradient_norms, flows[1].gradient_norms)
    with pytest.raises(ValueError, match=r"^parameters: expected an array that can be written to, got a read-only"):
        net.fit(x, y)
    copy.deepcopy(net).fit(x, y)
    np.testing.assert_array_equal(net.parameters, own.parameters)


def test_a_finite_sum_beyond_float32_is_no_error():
    x = np.full((4, 3), 3e38, np.float32)
    assert _checks.as_finite(x, np.dtype("f4"), "x") is x


def test_an_error_about_a_value_comes_out_of_a_process_as_it_went_in():
    with pytest.raises(ValueError, match="in row 1, column 2; it is beyond float32") as caught:
        _checks.as_finite(np.array([[0, 0, 0], [0, 0, 1e39]]), np.dtype("f4"), "x")
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), str(again), again.place) == (type(caught.value), str(caught.value), (1, 2))


def test_the_first_bad_row_is_named_beyond_the_first_chunk(monkeypatch):
    monkeypatch.setattr(_checks, "CHUNK_VALUES", 64)
    x = np.zeros((100, 7))
    x[77, 5], x[90, 1] = INF, NAN
    net = fnn.Network([7, 2])
    for call in (net.forward, net.predict):
        with pytest.raises(ValueError, match=r"^x: expected finite numbers, got inf in row 77, column 5$"):
            call(x)


def test_float64_networks_take_what_float32_cannot():
    assert np.isfinite(regression("float64").predict(with_value(1e300, 1, 1))).all()


RNG = np.random.default_rng(5)
X, Y = RNG.normal(size=(37, 3)).astype("f4"), RNG.normal(size=(37, 2)).astype("f4")


def misaligned(array):
    raw = np.empty(array.nbytes + 1, np.uint8)
    view = raw[1:].view(array.dtype).reshape(array.shape)
    view[:] = array
    assert not view.flags.aligned
    return view


def read_only(array):
    frozen = array.copy()
    frozen.flags.writeable = False
    return frozen


FORMS = {
    "Fortran": np.asfortranarray,
    "strided rows": lambda a: np.repeat(a, 2, axis=0)[::2],
    "strided columns": lambda a: np.repeat(a, 2, axis=1)[:, ::2],
    "backwards": lambda a: a[::-1].copy()[::-1],
    "misaligned": misaligned,
    "read-only": read_only,
    "big-endian": lambda a: a.astype(">f4"),
    "float64": lambda a: a.astype("f8"),
    "a list": lambda a: a.tolist(),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_same_data_gives_the_same_bits(backend, form):
    x, y = FORMS[form](X), FORMS[form](Y)
    net, other = regression(), regression()
    for each, (a, b) in ((net, (X, Y)), (other, (x, y))):
        each.fit(a, b, epochs=2, batch_size=5, validation=(a, b))
    np.testing.assert_array_equal(net.parameters, other.parameters)
    np.testing.assert_array_equal(net.predict(X), other.predict(x))
    np.testing.assert_array_equal(net.forward(X), other.forward(x))
    assert net.loss_and_gradient(X, Y)[0] == other.loss_and_gradient(x, y)[0]


def test_misaligned_data_are_copied():
    copied = _checks.as_finite(misaligned(X), np.dtype("f4"), "x")
    assert copied.flags.aligned
    np.testing.assert_array_equal(copied, X)


def test_contiguous_data_of_the_right_type_is_used_in_place():
    assert _checks.as_finite(X, np.dtype("f4"), "x") is X
    assert _checks.targets(Y, 37, 2, fnn.losses.squared_error, np.dtype("f4"), "y", "x") is Y
    column = _checks.targets(Y[:, 0].copy(), 37, 1, fnn.losses.squared_error, np.dtype("f4"), "y", "x")
    assert column.shape == (37, 1)


def test_labels_are_copied_for_the_kernels_index_with_them():
    labels = np.zeros(37, np.intp)
    own = _checks.targets(labels, 37, 2, fnn.losses.cross_entropy, np.dtype("f4"), "y", "x")
    assert not np.shares_memory(own, labels)
    assert not own.flags.writeable


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "int64", "uint64", "float16"])
def test_integers_and_booleans_are_data_too(backend, dtype):
    x, y = (X > 0).astype(dtype), (Y > 0).astype(dtype)
    net, other = regression(), regression()
    net.fit(x, y)
    other.fit(x.astype("f4"), y.astype("f4"))
    np.testing.assert_array_equal(net.parameters, other.parameters)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "int64", "uint64"])
def test_labels_of_any_integer_type(backend, dtype):
    labels = (Y[:, 0] > 0).astype(dtype)
    results = []
    for y in (labels, labels[:, None], labels.tolist(), np.repeat(labels, 3)[::3]):
        net = classifier()
        net.fit(X, y, loss="cross_entropy")
        results.append(net.parameters)
    for other in results[1:]:
        np.testing.assert_array_equal(results[0], other)


def test_labels_and_one_hot_rows_train_alike(backend):
    labels = (Y[:, 0] > 0).astype(int)
    net, other = classifier(), classifier()
    net.fit(X, labels, loss="cross_entropy")
    other.fit(X, np.eye(2)[labels], loss="cross_entropy")
    np.testing.assert_allclose(net.parameters, other.parameters, rtol=1e-5, atol=1e-6)


def test_targets_of_one_output_may_be_flat(backend):
    labels = Y[:, 0] > 0
    flat, column = binary(), binary()
    flat.fit(X, labels, loss="binary_cross_entropy")
    column.fit(X, labels[:, None].astype("f4"), loss="binary_cross_entropy")
    np.testing.assert_array_equal(flat.parameters, column.parameters)


def test_pieces_of_rows_cover_all(monkeypatch):
    monkeypatch.setattr(_checks, "CHUNK_VALUES", 10)
    assert [(s.start, s.stop) for s in _checks.row_chunks(7, 4)] == [(0, 2), (2, 4), (4, 6), (6, 7)]
    assert [(s.start, s.stop) for s in _checks.row_chunks(2, 99)] == [(0, 1), (1, 2)]


def test_masked_values_are_refused():
    masked = np.ma.masked_array(X, mask=X > 1)
    with pytest.raises(ValueError, match=rf"^x: expected no masked values, got {int((X > 1).sum())}$"):
        fnn.Network([3, 2]).fit(masked, Y)


@pytest.mark.parametrize("wrong", [10**400, True, "1", None, float("inf"), 1j])
def test_numbers_that_no_float_holds_are_refused_by_name(wrong):
    for call, name in (
        (lambda: fnn.SGD(wrong), "learning_rate"),
        (lambda: fnn.Dense(3, fnn.activations.leaky_relu.with_slope(wrong)), "slope"),
        (lambda: fnn.SGD(momentum=wrong), "momentum"),
    ):
        with pytest.raises(ValueError, match=f"^{name}: expected"):
            call()


@pytest.mark.parametrize("dtype", ["f4,,", "float16", None, 3])
def test_a_wrong_dtype_is_refused(dtype):
    with pytest.raises(ValueError, match=r"^dtype: expected float32 or float64"):
        fnn.Network([3, 2], dtype=dtype)


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ([1.0] * 36, "sample_weight: expected shape (37,), one number a row, got (36,)"),
        (np.ones((37, 1)), "sample_weight: expected shape (37,), one number a row, got (37, 1)"),
        ([1.0] * 36 + [-1], "sample_weight: expected numbers >= 0, got -1.0 in row 36"),
        ([1.0] * 36 + [np.nan], "sample_weight: expected finite numbers, got nan in row 36"),
        ([0] * 37, "sample_weight: expected a number > 0 among them, got 37 zeros"),
        (["a"] * 37, "sample_weight: expected real numbers, got list of dtype <U1"),
    ],
)
def test_sample_weight(weights, expected):
    network = regression()
    before = network.parameters.copy()
    for method in (network.fit, network.loss_and_gradient):
        with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
            method(np.ones((37, 3)), np.ones((37, 2)), sample_weight=weights)
    assert np.array_equal(network.parameters, before)


@pytest.mark.parametrize(("weight", "total"), [(1e308, "inf"), (1e-310, "4e-310"), (5e-324, "2e-323")])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_sample_weight_whose_sum_has_no_inverse(weight, total, reduction):
    network = fnn.Network([3, 2], dtype="float64")
    before = network.parameters.copy()
    expected = f"sample_weight: expected numbers that add up to 2.2e-308 to 1.8e+308, got the sum {total}"
    for method in (network.fit, network.loss_and_gradient):
        with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
            method(np.ones((4, 3)), np.ones((4, 2)), sample_weight=np.full(4, weight), reduction=reduction)
    assert np.array_equal(network.parameters, before)


@pytest.mark.parametrize("weight", [1e306, 1e-308])
def test_sample_weight_whose_sum_still_has_an_inverse(weight):
    network, x, y = fnn.Network([3, 2], dtype="float64"), np.ones((4, 3)), np.ones((4, 2))
    value, gradient = network.loss_and_gradient(x, y)
    weighted = network.loss_and_gradient(x, y, sample_weight=np.full(4, weight))
    np.testing.assert_allclose(weighted[0], value, rtol=1e-12)
    np.testing.assert_allclose(weighted[1], gradient, rtol=1e-12)
