"""Plain online training reproduces what the published C++ class did, pass by pass.

The class adds every sum from the first term to the last, a backend in its own order, so that the weights differ by
roundings.  How far roundings alone move them is recorded beside each pass: the class built with fused multiply-add
against the class built without.  Ten times that is allowed, after every pass, with nothing corrected in between.
"""

import numpy as np
import pytest

import agreement
import fnn
import oracle
from fnn import _dispatch

# The class reclaims a dead neuron after the first pass over the digits, which is no part of plain training.
RUNS = [("relu_no_total_gradient", 1, 6), ("digits_64_32_10_relu_online", 2, 6)]


@pytest.mark.parametrize(("name", "first", "last"), RUNS)
def test_kernels(backend, name, first, last):
    agreement.check_golden(_dispatch.kernels, name, first, last)


@pytest.mark.parametrize(("name", "first", "last"), RUNS)
def test_fit(backend, name, first, last):
    run = agreement.golden(name)
    network = fnn.Network(list(run.layout.sizes), activation="relu", output="identity", init="zeros")
    network.parameters = run.before(first)
    passes = []
    history = network.fit(
        run.x,
        run.y,
        epochs=last + 1 - first,
        batch_size=1,
        loss="squared_error",
        reduction="sum",
        optimizer=fnn.SGD(run.rule.rate),
        saturation=run.rule.saturation,
        shuffle=False,
        callbacks=[lambda network, history: passes.append(network.parameters.copy())],
    )
    assert history.epochs == len(passes) == last + 1 - first
    for number, parameters in enumerate(passes, start=first):
        bound = 10 * run.deviation[number - 1]
        agreement.agree(parameters, run.passes[number - 1], bound, f"pass {number} of {name}")


@pytest.mark.parametrize(("name", "first", "last"), RUNS)
def test_oracle(name, first, last):
    """The judge itself: sums in float64, the weights after every sample as float32, as the class keeps them."""
    run = agreement.golden(name)
    rule = oracle.Rule(float(np.float32(run.rule.rate)), saturation=run.rule.saturation)
    network = as_network(run, run.before(first))
    for number in range(first, last + 1):
        for x, y in zip(run.x.tolist(), run.y.tolist(), strict=True):
            step = next(oracle.train(network, [x], [y], [0], run.loss.name, rule, batch_size=1, mean=False))
            parameters = np.concatenate([agreement.block_of(layer).ravel() for layer in step.network])
            network = as_network(run, parameters.astype(np.float32))
        bound = 10 * run.deviation[number - 1]
        agreement.agree(parameters, run.passes[number - 1], bound, f"pass {number} of {name}")


def as_network(run, parameters):
    blocks = zip(run.layout.blocks(parameters), run.layout.activations, strict=True)
    return [oracle.Layer(block[:-1].tolist(), block[-1].tolist(), phi.name) for block, phi in blocks]
