import copy
import pickle
import re

import numpy as np
import pytest

import fnn
from fnn import _checks
from fnn._initial import INITS

NAN = float("nan")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layers": []}, "layers: expected the input and at least one layer, got []"),
        ({"layers": [3]}, "layers: expected the input and at least one layer, got [3]"),
        ({"layers": 3}, "layers: expected a list of sizes, or of Input and Dense, got 3"),
        ({"layers": "3,2"}, "layers: expected a list of sizes, or of Input and Dense, got '3,2'"),
        ({"layers": b"32"}, "layers: expected a list of sizes, or of Input and Dense, got b'32'"),
        ({"layers": np.array(3)}, "layers: expected a list of sizes, or of Input and Dense, got array(3)"),
        ({"layers": [3, 0, 2]}, "layers[1]: expected an integer >= 1, got 0"),
        ({"layers": [3, 2.0]}, "layers[1]: expected an integer >= 1, got 2.0"),
        ({"layers": [True, 2]}, "layers[0]: expected an integer >= 1, got True"),
        ({"layers": [3, None]}, "layers[1]: expected an integer >= 1, got None"),
        (
            {"layers": [3, fnn.Dense(2)]},
            "layers: expected Input first and only Dense after it, got [3, Dense(2, 'relu')]",
        ),
        (
            {"layers": [fnn.Input(3), 2]},
            "layers: expected Input first and only Dense after it, got [Input(3), 2]",
        ),
        (
            {"layers": [fnn.Input(3), fnn.Input(2)]},
            "layers: expected Input first and only Dense after it, got [Input(3), Input(2)]",
        ),
        (
            {"layers": [fnn.Input(3), fnn.Dense(2)], "activation": "tanh"},
            "activation: expected none beside Dense layers, which have their own, got 'tanh'",
        ),
        (
            {"layers": [fnn.Input(3), fnn.Dense(2)], "output": "softmax"},
            "output: expected none beside Dense layers, which have their own, got 'softmax'",
        ),
        (
            {"layers": [3, 4, 2], "activation": "softmax"},
            "activation: softmax goes on the output layer only, got it on layer 1",
        ),
        (
            {"layers": [fnn.Input(3), fnn.Dense(3), fnn.Dense(2, "softmax"), fnn.Dense(2)]},
            "activation: softmax goes on the output layer only, got it on layer 2",
        ),
        (
            {"layers": [3, 2], "output": "softmin"},
            "output: expected one of identity, relu, leaky_relu, tanh, sigmoid, softmax, exp, corner, got 'softmin'",
        ),
        ({"layers": [3, 2], "dtype": "float16"}, "dtype: expected float32 or float64, got 'float16'"),
        ({"layers": [3, 2], "dtype": ">f4"}, "dtype: expected float32 or float64, got '>f4'"),
        ({"layers": [3, 2], "dtype": "single precision"}, "dtype: expected float32 or float64, got 'single precision'"),
        ({"layers": [3, 2], "dtype": None}, "dtype: expected float32 or float64, got None"),
        ({"layers": [3, 2], "dtype": int}, "dtype: expected float32 or float64, got <class 'int'>"),
        ({"layers": [3, 2], "init": "normal"}, "init: expected one of reference, glorot, he, zeros, got 'normal'"),
        ({"layers": [3, 2], "init": None}, "init: expected one of reference, glorot, he, zeros, got None"),
        ({"layers": [3, 2], "seed": -1}, "seed: expected an integer >= 0, None or a numpy Generator, got -1"),
        ({"layers": [3, 2], "seed": "x"}, "seed: expected an integer >= 0, None or a numpy Generator, got 'x'"),
        (
            {"layers": [2**40, 2**40]},
            f"layers: expected parameters that fit in memory, got {(2**40 + 1) * 2**40} for the sizes "
            f"[{2**40}, {2**40}]",
        ),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        fnn.Network(**arguments)


@pytest.mark.parametrize("wrong", [0, -1, 2.5, True, "8", None])
def test_wrong_units_are_refused(wrong):
    for layer in (fnn.Input, fnn.Dense):
        with pytest.raises(ValueError, match=f"^units: expected an integer >= 1, got {re.escape(repr(wrong))}$"):
            layer(wrong)


def test_a_slope_for_relu_is_refused():
    with pytest.raises(ValueError, match=r"^slope: only leaky_relu has a slope, got slope=0.1 for relu$"):
        fnn.Dense(3, "relu", slope=0.1)


def test_sizes_and_layers_make_the_same_network():
    sizes = fnn.Network(np.array([3, 4, 2]), activation="tanh", output="softmax", seed=7)
    layers = fnn.Network((fnn.Input(3), fnn.Dense(4, "tanh"), fnn.Dense(2, fnn.activations.softmax)), seed=7)
    assert sizes.layout == layers.layout
    np.testing.assert_array_equal(sizes.parameters, layers.parameters)
    assert sizes.layout.sizes == (3, 4, 2)
    assert [a.name for a in sizes.layout.activations] == ["tanh", "softmax"]


def test_relu_inside_and_identity_at_the_end_unless_told_otherwise():
    assert [a.name for a in fnn.Network([3, 4, 5, 2]).layout.activations] == ["relu", "relu", "identity"]
    assert [a.name for a in fnn.Network([3, 2], activation="tanh").layout.activations] == ["identity"]
    assert fnn.Network([3, 2]).dtype == np.float32


@pytest.mark.parametrize("dtype", ["float32", "float64", np.float32, np.dtype("f8"), float])
def test_both_types(dtype):
    net = fnn.Network([3, 4, 2], dtype=dtype)
    x = np.ones((5, 3))
    assert net.dtype == np.dtype(dtype)
    assert (
        net.forward(x).dtype == net.predict(x).dtype == net.loss_and_gradient(x, np.ones((5, 2)))[1].dtype == net.dtype
    )
    assert all(layer.dtype == net.dtype for layer in net.activations(x))


@pytest.mark.parametrize("init", INITS)
def test_a_seed_fixes_the_parameters(init):
    def make(seed, dtype="float32"):
        return fnn.Network([5, 4, 3], init=init, seed=seed, dtype=dtype).parameters

    np.testing.assert_array_equal(make(3), make(3))
    np.testing.assert_array_equal(make(3), make(np.random.default_rng(3)))
    np.testing.assert_array_equal(make(3), make(3, "float64").astype("f4"))
    if init != "zeros":
        assert (make(3) != make(4)).any()
        assert (make(None) != make(None)).any()


def test_reference_init_leaves_out_the_middle_tenth():
    net = fnn.Network([100, 400, 25], init="reference", dtype="float64")
    for values, fan_in in zip((*net.weights, *net.biases), (100, 400, 100, 400), strict=True):
        limit = 1 / np.sqrt(fan_in)
        size = np.abs(values)
        assert size.min() >= 0.1 * limit
        assert size.max() <= limit
        assert (values > 0).any()
        assert (values < 0).any()
        assert size.max() - size.min() > 0.5 * limit
    size = np.abs(net.weights[0])
    assert size.min() < 0.11 / 10
    assert size.max() > 0.99 / 10
    # The formula itself, on the first numbers of the same generator: REFERENCE.md, section 1.
    for u, v in zip(np.random.default_rng(0).random(50), net.weights[0].ravel()[:50], strict=True):
        scaled = (2 * u - 1) * (0.1 - 0.01)
        assert v == pytest.approx(scaled - 0.01 if scaled < 0 else scaled + 0.01, rel=1e-14)


def test_glorot_he_and_zeros():
    glorot, he = (fnn.Network([300, 200, 10], init=init, dtype="float64") for init in ("glorot", "he"))
    limit = np.sqrt(6 / 500)
    assert 0.99 * limit < np.abs(glorot.weights[0]).max() <= limit
    assert he.weights[0].std() == pytest.approx(np.sqrt(2 / 300), rel=0.01)
    assert abs(he.weights[0].mean()) < 0.01 * he.weights[0].std() * 2
    for net in (glorot, he):
        assert not any(bias.any() for bias in net.biases)
    assert not fnn.Network([3, 4, 2], init="zeros").parameters.any()


def test_views_and_assignment():
    net = fnn.Network([3, 4, 2])
    vector = net.parameters
    net.weights[0][:] = 1
    net.biases[1][:] = [2, 3]
    assert vector[:12].tolist() == [1] * 12
    assert vector[-2:].tolist() == [2, 3]
    net.weights[0] = np.full((3, 4), 5)
    net.biases[0] += 0.5
    net.weights[-1] *= 0
    assert vector.tolist() == [5] * 12 + [0.5] * 4 + [0] * 8 + [2, 3]
    net.weights = [np.full((3, 4), 6), np.full((4, 2), 7)]
    net.biases = np.zeros(4), [8, 9]
    assert vector.tolist() == [6] * 12 + [0] * 4 + [7] * 8 + [8, 9]
    net.weights[1:] = [np.zeros((4, 2))]
    assert vector.tolist() == [6] * 12 + [0] * 12 + [8, 9]
    net.parameters = np.arange(26)
    assert net.parameters is vector
    assert vector.tolist() == list(range(26))
    net.parameters *= 2
    assert net.parameters is vector
    assert vector[3] == 6


def test_assignment_refuses_what_does_not_fit_and_changes_nothing():
    net = fnn.Network([64, 10, 10])
    before = net.parameters.copy()

    def assign(name, value, index=None):
        if index is None:
            setattr(net, name, value)
        else:
            getattr(net, name)[index] = value

    good = np.ones((64, 10))
    for arguments, message in (
        (("weights", np.ones((10, 64)), 0), "layer 1 weights: expected (64, 10), got (10, 64)"),
        (("weights", [good, good]), "layer 2 weights: expected (10, 10), got (64, 10)"),
        (("weights", [good]), "weights: expected 2 arrays, one a layer, got 1"),
        (("weights", None), "weights: expected 2 arrays, one a layer, got None"),
        (("biases", 1.5), "biases: expected 2 arrays, one a layer, got 1.5"),
        (("corners", np.array(1)), "corners: expected 2 arrays, one a layer, got array(1)"),
        (("biases", [1, NAN] * 5, 1), "layer 2 biases: expected finite numbers, got nan in row 0, column 1"),
        (("biases", [np.ones(10), "no"]), "layer 2 biases: expected real numbers, got str of dtype <U2"),
        (("parameters", np.ones(3)), "parameters: expected (760,), got (3,)"),
        (("parameters", np.ones((1, 760))), "parameters: expected (760,), got (1, 760)"),
        (
            ("parameters", np.full(760, 1e39)),
            "parameters: expected finite numbers, got 1e+39 in row 0, column 0; it is beyond float32",
        ),
        (("parameters", np.ones(760, complex)), "parameters: expected real numbers, got ndarray of dtype complex128"),
        (("parameters", 1.0), "parameters: expected (760,), got ()"),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
            assign(*arguments)
        np.testing.assert_array_equal(net.parameters, before)
    with pytest.raises(IndexError):
        assign("weights", good, 2)


def test_forward_by_hand():
    net = fnn.Network([2, 2, 1], dtype="float64")
    net.weights = [[[1, -1], [2, 0.5]], [[3], [-2]]]
    net.biases = [[0.5, 0], [0.25]]
    layers = net.activations([[1, 1], [-1, 0]])
    assert [layer.tolist() for layer in layers] == [[[1, 1], [-1, 0]], [[3.5, 0], [0, 1]], [[10.75], [-1.75]]]
    assert net.forward([[1, 1]]).tolist() == [[10.75]]
    assert net.predict([[1, 1], [-1, 0]]).tolist() == [[10.75], [-1.75]]


def test_the_output_activation_is_applied():
    net = fnn.Network([2, 3], output="softmax", dtype="float64")
    outputs = net.forward([[1, 2]])
    z = np.array([1, 2]) @ net.weights[0]
    np.testing.assert_allclose(outputs[0], np.exp(z) / np.exp(z).sum(), rtol=1e-14)
    np.testing.assert_allclose(net.predict([[1, 2]]), outputs, rtol=1e-14)


def test_results_are_new_arrays():
    net = fnn.Network([3, 3], init="zeros")
    x = np.ones((2, 3), np.float32)
    net.forward(x)[:] = 9
    net.predict(x)[:] = 9
    assert not net.forward(x).any()
    assert (x == 1).all()


def test_predict_takes_some_rows_at_a_time(monkeypatch):
    net = fnn.Network([4, 8, 3], dtype="float64")
    x = np.random.default_rng(1).normal(size=(100, 4))
    whole = net.forward(x)
    monkeypatch.setattr(_checks, "CHUNK_VALUES", 15 * 7)
    np.testing.assert_allclose(net.predict(x), whole, rtol=1e-12, atol=1e-14)


def large_network(output="identity"):
    net = fnn.Network([1, 2, 2], activation="relu", output=output, init="zeros")
    net.weights = [[[1e30, 1]], [[1e30, 0], [0, 1]]]
    return net


@pytest.mark.parametrize("output", ["identity", "softmax", "exp"])
@pytest.mark.parametrize("dtype", ["float32", "float64"], ids=lambda dtype: f"x {dtype}")
@pytest.mark.parametrize("method", ["predict", "predict_class"])
def test_outputs_that_overflow_are_told_of_alike_on_every_backend(backend, output, dtype, method):
    net = large_network(output)
    predict = getattr(net, method)
    message = (
        "overflow: predict gave NaN or infinity for some rows, the first of them row {}; are x or the parameters too "
        "large for float32?"
    )
    for rows, first in (([[1]], 0), ([[-1], [-2], [1], [-1], [1]], 2)):
        with pytest.warns(RuntimeWarning) as caught:
            predict(np.array(rows, dtype))
        assert [str(warning.message) for warning in caught] == [message.format(first)]
    predict(np.array([[-1], [0]], dtype))  # any warning would be an error


def test_the_warning_of_overflow_names_the_line_that_predicts():
    with pytest.warns(RuntimeWarning, match=r"^overflow: predict gave NaN or infinity for some rows") as caught:
        large_network().predict([[1]])
    assert caught[0].filename == __file__


def test_an_overflow_that_the_outputs_do_not_show_is_silent(backend):
    net = fnn.Network([1, 1, 1], activation="relu", output="sigmoid", init="zeros")
    net.weights = [[[1e30]], [[1e30]]]
    assert net.predict([[1]]).tolist() == [[1]]


def test_predict_class_is_the_first_of_the_highest():
    net = fnn.Network([4, 4], init="zeros")
    net.weights[0] = np.eye(4)
    assert net.predict_class([[0, 2, 1, 2], [3, 3, 3, 3], [-1, -2, -3, -0.5]]).tolist() == [1, 0, 3]
    assert net.predict_class([[1, 0, 0, 0]]).dtype == np.intp


@pytest.mark.parametrize(("output", "expected"), [("sigmoid", [0, 0, 1]), ("identity", [0, 0, 0]), ("tanh", [0, 0, 1])])
def test_predict_class_of_a_single_output(output, expected):
    net = fnn.Network([1, 1], output=output, init="zeros")
    net.weights[0][:] = 1
    assert net.predict_class([[-1], [0], [0.4]]).tolist() == expected
    assert net.predict_class([[2]]).tolist() == [1]


def test_loss_and_gradient_by_hand(backend):
    net = fnn.Network([2, 1], dtype="float64", init="zeros")
    net.parameters = [1, -1, 0.5]
    x, y = [[1, 2], [3, 1]], [0.5, 1.5]
    # outputs -0.5 and 2.5, errors -1 and 1
    for reduction, divisor in (("sum", 1), ("mean", 2)):
        loss, gradient = net.loss_and_gradient(x, y, reduction=reduction, threads=1)
        assert loss == pytest.approx(2 / divisor, rel=1e-14)
        np.testing.assert_allclose(gradient, np.array([4, -2, 0]) / divisor, rtol=1e-14, atol=1e-14)
    assert net.parameters.tolist() == [1, -1, 0.5]


def test_the_gradient_is_a_new_array(backend):
    net = fnn.Network([2, 1])
    _, first = net.loss_and_gradient([[1, 2]], [3])
    kept = first.copy()
    _, second = net.loss_and_gradient([[5, 2]], [3])
    np.testing.assert_array_equal(first, kept)
    assert (first != second).any()


def test_an_infinite_loss_is_reported_without_a_warning(backend):
    net = fnn.Network([1, 1])
    net.parameters = [3e38, 0]
    loss, _ = net.loss_and_gradient([[3e38]], [0])
    assert loss == np.inf


@pytest.mark.parametrize(
    "net",
    [
        fnn.Network([64, 32, 10], output="softmax"),
        fnn.Network([3, 2], dtype="float64"),
        fnn.Network([3, 4, 4, 2], activation="tanh"),
        fnn.Network(
            [fnn.Input(3), fnn.Dense(4, "leaky_relu", slope=0.25), fnn.Dense(4, "tanh"), fnn.Dense(1, "sigmoid")]
        ),
        fnn.Network([3, 2], output="leaky_relu"),
    ],
)
def test_repr_makes_the_network_again(net):
    again = eval(repr(net), {"Network": fnn.Network, "Input": fnn.Input, "Dense": fnn.Dense})
    assert again.layout == net.layout
    assert again.dtype == net.dtype


def test_repr_and_summary_of_the_digits_network():
    net = fnn.Network([64, 32, 10], output="softmax")
    assert repr(net) == "Network([64, 32, 10], activation='relu', output='softmax', dtype='float32')"
    assert net.summary() == (
        "layer  shape     activation  parameters\n"
        "input  (64,)                          0\n"
        "1      (64, 32)  relu             2,080\n"
        "2      (32, 10)  softmax            330\n"
        "total                             2,410"
    )


def test_summary_shows_slopes_and_keeps_its_columns():
    lines = fnn.Network([fnn.Input(1000), fnn.Dense(2000, "leaky_relu", 0.2), fnn.Dense(1)]).summary().splitlines()
    assert lines[2] == "1      (1000, 2000)  leaky_relu(0.2)   2,002,000"
    assert len({len(line) for line in lines}) == 1


def test_layers_compare_and_describe_themselves():
    assert fnn.Dense(3) == fnn.Dense(3, "relu")
    assert fnn.Dense(3) != fnn.Dense(3, "tanh")
    assert (
        repr([fnn.Input(np.int64(2)), fnn.Dense(3, "leaky_relu")]) == "[Input(2), Dense(3, 'leaky_relu', slope=0.01)]"
    )


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_a_copy_is_a_network_of_its_own(copied):
    net = fnn.Network([3, 4, 2])
    other = copied(net)
    np.testing.assert_array_equal(other.forward(np.ones((1, 3))), net.forward(np.ones((1, 3))))
    other.parameters[:] = 0
    assert net.parameters.any()
