"""The article's small example worked by hand: three inputs, one inner neuron, two outputs, one sample, one update.

Every number below was computed on paper, in the article's words, and is a short binary fraction: float32 holds it
exactly, so that every backend must give it to the last bit.

    inputs               1      0.5     -2
    weights of N         0.5    2        0.25     bias  0.5         LEAKY_RELU, slope 0.5
    weights of O1, O2    0.5   -1                 biases 0.25  0.5  no activation function
    targets             -0.5    0.5               rate 0.25, saturation 1.5

Forward.
    N:   s = 1*0.5 + 0.5*2 - 2*0.25 + 0.5 = 1.5                       above zero, so v = 1.5 and der = 1
    O1:  1.5*0.5 + 0.25 = 1.0
    O2:  1.5*(-1) + 0.5 = -1.0
Loss: (1 - (-0.5))**2 + (-1 - 0.5)**2 = 2.25 + 2.25 = 4.5

Backward at the outputs, where der = 1.
    sigma of O1 = 2*(1 - (-0.5)) = 3            sigma of O2 = 2*(-1 - 0.5) = -3
    wsigma of N = 0.5*3*1 + (-1)*(-3)*1 = 4.5   with the weights of before the update
    gradient of the weights = v*sigma*der = 4.5 and -4.5; of the biases 3 and -3
    weights: 0.5 - 0.25*4.5 = -0.625            -1 + 0.25*4.5 = 0.125
    biases:  0.25 - 0.25*3 = -0.5               0.5 + 0.25*3 = 1.25

Backward at N, whose sigma is the wsigma 4.5 and whose der is 1.
    gradient of the weights = input*sigma*der = 4.5, 2.25, -9; of the bias 4.5
    weights: 0.5 - 0.25*4.5 = -0.625     2 - 0.25*2.25 = 1.4375     0.25 + 0.25*9 = 2.5, saturated at 1.5
    bias:    0.5 - 0.25*4.5 = -0.625

Had the outputs been updated first, wsigma would have been -0.625*3 + 0.125*(-3) = -2.25, and N would have gone astray.

With the bias of N at -2.5 the neuron is below zero.
    N:   s = 0.5 + 1 - 0.5 - 2.5 = -1.5                               v = -0.75, der = 0.5
    O1:  -0.75*0.5 + 0.25 = -0.125              O2:  0.75 + 0.5 = 1.25
Loss: 0.375**2 + 0.75**2 = 0.140625 + 0.5625 = 0.703125
    sigma of O1 = 2*0.375 = 0.75                sigma of O2 = 2*0.75 = 1.5
    wsigma of N = 0.5*0.75 - 1*1.5 = -1.125     times der: -0.5625
    gradients of N's weights = -0.5625, -0.28125, 1.125; of its bias -0.5625
    gradients of the outputs' weights = -0.5625, -1.125; of their biases 0.75, 1.5
"""

import numpy as np
import pytest

import fnn
import oracle
from fnn import _dispatch
from fnn._formulas import identity, leaky_relu, squared_error
from fnn._layout import Layout
from fnn._optimizers import Rule

LAYOUT = Layout((3, 1, 2), (leaky_relu.with_slope(0.5), identity))
X, Y = [[1.0, 0.5, -2.0]], [[-0.5, 0.5]]
RATE, SATURATION = 0.25, 1.5

#        w1,     w2,     w3,   bias of N,  O1,     O2,    their biases
BEFORE = [0.5, 2.0, 0.25, 0.5, 0.5, -1.0, 0.25, 0.5]
GRADIENT = [4.5, 2.25, -9.0, 4.5, 4.5, -4.5, 3.0, -3.0]
AFTER = [-0.625, 1.4375, 1.5, -0.625, -0.625, 0.125, -0.5, 1.25]

BELOW_ZERO = [0.5, 2.0, 0.25, -2.5, 0.5, -1.0, 0.25, 0.5]
GRADIENT_BELOW_ZERO = [-0.5625, -0.28125, 1.125, -0.5625, -0.5625, -1.125, 0.75, 1.5]

CASES = [
    # parameters, s, v, outputs, loss, sigma, wsigma * der, gradient
    (BEFORE, 1.5, 1.5, [1.0, -1.0], 4.5, [3.0, -3.0], 4.5, GRADIENT),
    (BELOW_ZERO, -1.5, -0.75, [-0.125, 1.25], 0.703125, [0.75, 1.5], -0.5625, GRADIENT_BELOW_ZERO),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("start", "s", "v", "outputs", "loss", "sigma", "delta", "slopes"), CASES, ids=["above", "below"]
)
def test_sweep(backend, dtype, start, s, v, outputs, loss, sigma, delta, slopes):
    kernels = _dispatch.kernels
    flat, x, y = (np.array(values, dtype) for values in (start, X, Y))
    assert kernels.activate(np.array([[s]], dtype), LAYOUT.activations[0]).tolist() == [[v]]
    layers = kernels.forward(LAYOUT, flat, x)
    assert [layer.tolist() for layer in layers] == [X, [[v]], [outputs]]
    losses, g = kernels.output_delta(layers[-1], y, squared_error, identity, 1.0)
    assert losses.tolist() == [loss]
    assert g.tolist() == [sigma]
    deltas = kernels.backward(LAYOUT, flat, layers, g)
    assert [each.tolist() for each in deltas] == [[[delta]], [sigma]]
    assert kernels.gradient(LAYOUT, layers, deltas, np.empty_like(flat)).tolist() == slopes
    total, gradient = kernels.loss_and_gradient(LAYOUT, flat, x, y, squared_error, 1.0, 1)
    assert total == loss
    assert gradient.tolist() == slopes


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_update(backend, dtype):
    flat, slopes = np.array(BEFORE, dtype), np.array(GRADIENT, dtype)
    rule = Rule(RATE, 0.0, False, SATURATION)
    assert _dispatch.kernels.saturated_update(flat, flat[:0], slopes, rule).tolist() == AFTER


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_training(backend, dtype, batch_size):
    """Online and as a batch of one row; 2 is above the limit before the first step, so it starts from 1.5."""
    network = fnn.Network([fnn.Input(3), fnn.Dense(1, "leaky_relu", slope=0.5), fnn.Dense(2, "identity")], dtype=dtype)
    network.parameters = np.array(BEFORE, dtype)
    options = {"loss": "squared_error", "optimizer": fnn.SGD(RATE), "batch_size": batch_size, "epochs": 1}
    history = network.fit(X, Y, **options)
    assert history.loss == [4.5]
    unlimited = [w - RATE * slope for w, slope in zip(BEFORE, GRADIENT, strict=True)]
    assert network.parameters.tolist() == unlimited
    network.parameters = np.array(BEFORE, dtype)
    network.biases[0][:] = 0.75  # N then still sums up to 1.5, now that the limit takes 0.5 from its second weight
    network.fit(X, Y, saturation=SATURATION, **options)
    assert network.parameters.tolist() == [-0.625, 0.9375, 1.5, -0.375, -0.625, 0.125, -0.5, 1.25]


def test_oracle():
    network = [
        oracle.Layer([[0.5], [2.0], [0.25]], [0.5], "leaky_relu", 0.5),
        oracle.Layer([[0.5, -1.0]], [0.25, 0.5], "identity"),
    ]
    (step,) = oracle.train(network, X, Y, [0], "squared_error", oracle.Rule(RATE, 0.0, False, SATURATION), 1, mean=True)
    assert step.layers == [X, [[1.5]], [[1.0, -1.0]]]
    assert step.losses == [4.5]
    assert step.deltas == [[[4.5]], [[3.0, -3.0]]]
    assert step.gradient == [oracle.Layer([[4.5], [2.25], [-9.0]], [4.5]), oracle.Layer([[4.5, -4.5]], [3.0, -3.0])]
    after = [number for layer in step.network for row in [*layer.weights, layer.biases] for number in row]
    assert after == AFTER
