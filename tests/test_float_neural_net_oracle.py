"""FloatNeuralNet against a slow scalar oracle, bit for bit, on every backend: random options, networks and data."""

import math

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fnn
from class_oracle import Oracle
from fnn import _dispatch
from trajectories import same

VALUES = st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 0.3, -0.7, 2.5, 1e-3, 1e-30, 30.0, 1e20])
RATES = st.sampled_from([0.0, 1e-4, 0.003, 0.02, 0.3])


@st.composite
def problems(draw):
    """Sizes, activation, options, starting parameters and passes of samples."""
    sizes = draw(st.lists(st.sampled_from([1, 2, 3, 5, 8, 17]), min_size=2, max_size=4))
    activation = draw(st.sampled_from(["relu", "leaky_relu", "corner"]))
    flags = {
        name: draw(st.booleans())
        for name in (
            "total_gradient",
            "scale_rate_per_layer",
            "enable_weight_floor",
            "is_classifier",
            "momentum_fast_brake",
            "momentum_fixed_nu",
        )
    }
    rare = {name: draw(st.integers(0, 2)) == 0 for name in ("auto_rate", "auto_rate2", "momentum")}
    options = fnn.Options(
        **flags,
        **rare,
        training_rate_scale=draw(st.sampled_from([0.01, 0.5, 1e-5, 10])),
        training_rate=draw(st.sampled_from([-1, 0.02, 5])),
        weight_saturation=draw(st.sampled_from([1, 0.2, 3, 1e10, 0])),
        weight_floor=draw(st.sampled_from([1e-4, 0.05, 0.3, 0])),
        relu_leakiness=draw(st.sampled_from([0.01, 0.3])),
        max_multiplier=draw(st.sampled_from([100, 2])),
        min_pass_effective_adj=draw(st.sampled_from([0, 1, 50])),
        tweak_rate=draw(st.sampled_from([0.01, 0])),
    )
    seed = draw(st.integers(0, 1000))
    rng = np.random.default_rng(seed)
    rows, odd = draw(st.integers(1, 4)), draw(st.lists(VALUES, max_size=4))
    x, y = rng.normal(0, 1, (rows, sizes[0])), rng.normal(0, 1, (rows, sizes[-1]))
    x[rng.random(x.shape) < 0.3] = 0
    for value in odd:  # ones that an average sample does not have
        where = rng.choice([x, y]) if x.shape == y.shape else (x if rng.random() < 0.5 else y)
        where.flat[rng.integers(where.size)] = value
    counts = rng.integers(1, 4, rows) if draw(st.booleans()) else np.ones(rows, int)
    effective = (counts * 1.75).astype(np.float32) if draw(st.booleans()) else None
    zeros = draw(st.sampled_from([0.0, 0.2]))
    spread = draw(st.sampled_from([0.5, 2.0, 1e15]))
    rate = 0.0 if options.momentum else draw(RATES)
    passes = draw(st.integers(1, 4))
    return sizes, activation, options, rng, (x, y, counts, effective), (zeros, spread), rate, draw(RATES), passes


def starting_values(network, rng, zeros, spread):
    weights, corners = [[]], [[]]
    for level in range(1, len(network.levels)):
        block = rng.normal(0, spread, network.get_level(level).shape).astype(np.float32)
        block[rng.random(block.shape) < zeros] = rng.choice([0.0, -0.0])
        network.set_level(level, block)
        weights.append([list(row) for row in block])
        corners.append([list(row) for row in network.get_corners(level)] if network.activation == "corner" else [])
    return weights, corners


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(problems())
def test_agrees_with_the_oracle_bit_for_bit(backend, problem):
    sizes, activation, options, rng, (x, y, counts, given_effective), start, rate, apply_rate, passes = problem
    network = fnn.FloatNeuralNet(sizes, activation, options)
    with np.errstate(all="ignore"):
        oracle = Oracle(sizes, activation, options, *starting_values(network, rng, *start))
        effective = None if given_effective is None else given_effective.copy()
        judged = None if effective is None else list(effective)
        applies = apply_rate if options.total_gradient or options.auto_rate or options.momentum else 0.0
        for number in range(passes):
            reclaim = number % 2 == 1
            got = network.train_pass(
                x, y, rate=rate, apply_rate=applies, reclaim=reclaim, count=counts, effective_count=effective
            )
            oracle.start_pass()
            for n, (inputs, targets) in enumerate(zip(x, y, strict=True)):
                scale = oracle.train(inputs, targets, rate, int(counts[n]), None if judged is None else judged[n])
                if judged is not None:
                    judged[n] = scale
            oracle.end_pass()
            undone = applies != 0 and oracle.apply_gradient(applies)
            reclaimed = oracle.reclaim(0) if reclaim else 0
            assert got == (undone, reclaimed)
            compare(network, oracle, effective, judged)
        same(network.compute(x)[0], np.array([oracle.forward(row)[1][-1] for row in x]), "outputs")
    assert _dispatch.backend() == backend


def flat(parameters):
    return np.array([value for level in parameters for row in level for value in row], np.float32)


def compare(network, oracle, effective, judged):
    gradient = oracle.total_on
    pairs = {
        "weights": (network.weights, flat(oracle.weights)),
        "corners": (network.corners, flat(oracle.corners)),
        "total gradient": (network.total_gradient, flat(oracle.gradient if gradient else [])),
        "corners' gradient": (network.total_corners_gradient, flat(oracle.corner_gradient if gradient else [])),
        "norms": (
            [network.all_gradient_norm2(), *map(network.level_gradient_norm2, range(1, len(network.levels)))],
            oracle.norms,
        ),
        "passes": (network.training_pass, oracle.passes),
        "rate": (network.training_rate, oracle.training_rate),
        "multiplier": (network.auto_rate2_adj, oracle.multiplier),
        "t": (network.momentum_t, oracle.t),
        "errors": (
            [network.abs_error, network.squared_error, network.effective_squared_error],
            [
                oracle.abs_sum / oracle.error_cases,
                root(oracle.sq_sum / oracle.error_cases),
                root(oracle.effective_sq_sum / float(oracle.effective_error_cases)),
            ],
        ),
        "sizes": ([network.pass_size, network.effective_pass_size], [oracle.cases, float(oracle.effective_cases)]),
        "classes": (
            [network.pass_correct, network.pass_incorrect, network.pass_above, network.pass_not_above],
            [oracle.correct, oracle.incorrect, oracle.above, oracle.not_above],
        ),
        "effective counts": (effective if judged else [], judged or []),
    }
    if network.activation == "relu":
        usage = np.concatenate([network.usage(level) for level in range(len(network.levels))])
        pairs["usage"] = (usage, [used for level in oracle.usage for used in level])
    for what, (got, want) in pairs.items():
        same(got, np.asarray(want), what)


def root(value):
    return math.sqrt(value) if value >= 0 else math.nan
