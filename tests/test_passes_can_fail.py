"""Every check of FloatNeuralNet turns red on kernels that were broken on purpose, as in test_can_fail.py.

What is broken is in pass_breakages.py.  The checks are golden trajectories and `odd`, what those do not reach.
"""

from functools import cache
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import fnn
import trajectories
from class_oracle import Oracle
from compiling import compiled
from fnn import _dispatch
from fnn import _pass_numpy as twin
from pass_breakages import HEADER, NUMPY, PYX
from test_can_fail import SWITCH, broken_sources, replaced, write_kernels

# ---- The checks ----------------------------------------------------------------------------------


def odd_cases():
    """Options, activation, data, rate, and the weights to start from."""
    rng = np.random.default_rng(3)

    def data(n_inputs, n_outputs, zeros=0.3, rows=5):
        x, y = rng.normal(0, 1, (rows, n_inputs)), rng.normal(0, 1, (rows, n_outputs))
        x[rng.random(x.shape) < zeros] = 0
        return x.astype(np.float32), y.astype(np.float32)

    def blocks(*sizes, minus_zeros=0.0):
        made = [rng.normal(0, 0.3, (below + 1, own)).astype(np.float32) for below, own in pairwise(sizes)]
        for block in made:
            block[rng.random(block.shape) < minus_zeros] = -0.0
        return made

    for activation in ("relu", "leaky_relu", "corner"):
        for sizes in ((5, 42, 35, 3), (40, 23, 18), (3, 170)):  # several vectors, none of them whole
            few, all_there = data(sizes[0], sizes[-1]), data(sizes[0], sizes[-1], 0)
            yield fnn.Options(weight_saturation=0.2), activation, few, 0.01, blocks(*sizes)
            yield fnn.Options(weight_saturation=2), activation, few, 0.01, blocks(*sizes, minus_zeros=0.1)
            yield fnn.Options(weight_saturation=2), activation, all_there, 0.001, blocks(*sizes)
            many = data(sizes[0], sizes[-1], rows=47)  # more than are taken at once, and tiles that are not whole
            yield fnn.Options(weight_saturation=2), activation, many, 0.0, blocks(*sizes)
        many = data(3, 170, rows=47)
        yield fnn.Options(weight_saturation=2), activation, many, 0.001, blocks(3, 170)
        floor = fnn.Options(enable_weight_floor=True, weight_floor=0.1, weight_saturation=3)
        for minus_zeros in (0, 0.1):  # which stand inside the floor
            yield floor, activation, data(4, 2), 0.01, blocks(4, 16, 2, minus_zeros=minus_zeros)
    for activation in ("relu", "leaky_relu"):  # products that float32 cannot hold
        (x, y), start = data(6, 3), blocks(6, 19, 5, 3)
        x[:, 0], x[-1, 0], start[0][0] = 0, 3e38, 0  # of an input that nothing hears
        yield fnn.Options(weight_saturation=50), activation, (x, 100 * y), 1e-3, start
        x, y = data(6, 3)
        y[-1, 0] = 3e38
        yield fnn.Options(weight_saturation=50), activation, (x, y), 1e-3, blocks(6, 19, 5, 3)
    for rate in (0.0, 1e-4):  # enough to turn the total gradient round, and back when a sample is too large
        x, y = data(20, 2, 0, rows=165)
        yield fnn.Options(weight_saturation=2), "relu", (x, y), rate, blocks(20, 36, 2)
        x[150, 3] = 1e25
        yield fnn.Options(weight_saturation=2), "relu", (x, y), rate, blocks(20, 36, 2)
    tie = np.zeros((2, 2), np.float32), np.zeros((2, 3), np.float32)  # of all outputs, not of the raw values
    start = np.array([[0, 0, 0], [0, 0, 0], [-1, 1, 1]], np.float32)
    yield fnn.Options(is_classifier=True), "corner", tie, 0.0, [start]


@cache
def odd_answers():
    """What the scalar oracle makes of each odd case: after each pass the weights, the gradient and who was above."""
    return [[*answers(*case)] for case in odd_cases()]


def answers(options, activation, data, rate, start):
    network = odd_network(options, activation, start)
    corners = [rows(network.get_corners(level + 1)) if activation == "corner" else [] for level in range(len(start))]
    oracle = Oracle(network.levels, activation, options, [[], *map(rows, start)], [[], *corners])
    for _ in range(2):
        oracle.start_pass()
        for inputs, targets in zip(*data, strict=True):
            oracle.train(inputs, targets, rate, 1, None)
        oracle.end_pass()
        oracle.apply_gradient(0.001)
        yield flat(oracle.weights), flat(oracle.gradient), oracle.above, oracle.not_above


def odd_network(options, activation, start):
    network = fnn.FloatNeuralNet([len(start[0]) - 1, *(block.shape[1] for block in start)], activation, options)
    for level, block in enumerate(start, start=1):
        network.set_level(level, block)
        if options.is_classifier:
            network.set_corners(level, np.zeros((block.shape[1], 3)))
    return network


def odd():
    """Kernels and the scalar oracle agree bit for bit where no golden trajectory looks."""
    for (options, activation, (x, y), rate, start), wanted in zip(odd_cases(), odd_answers(), strict=True):
        network = odd_network(options, activation, start)
        for weights, gradient, above, not_above in wanted:
            network.train_pass(x, y, rate=rate, apply_rate=0.001)
            trajectories.same(network.weights, weights, f"weights of {network}")
            trajectories.same(network.total_gradient, gradient, f"gradient of {network}")
            assert (network.pass_above, network.pass_not_above) == (above, not_above), network


def flat(parameters):
    return np.array([value for level in parameters for row in level for value in row], np.float32)


def rows(block):
    return [list(row) for row in block]


def passes(check, kernels, folder, monkeypatch):
    """Whether a check is green with these kernels; only an AssertionError counts as red."""
    monkeypatch.setattr(_dispatch, "pass_kernels", lambda: kernels)
    try:
        with np.errstate(all="ignore"):
            if check == "odd":
                odd()
            else:
                trajectories.replay(check, trajectories.run_by_calls, folder)
                if kernels.__name__ == "_pass_broken":  # these look at the next sample where they are given several
                    trajectories.replay(check, trajectories.run_as_whole, folder)
    except AssertionError:
        return False
    return True


def checks(breakages):
    return sorted({check for breakage in breakages for check in breakage.checks.split()})


# ---- The NumPy twin ------------------------------------------------------------------------------


@pytest.mark.parametrize("check", checks(NUMPY))
def test_checks_are_green_on_the_twin(check, tmp_path, monkeypatch):
    assert passes(check, twin, tmp_path, monkeypatch)


@pytest.mark.parametrize("breakage", NUMPY, ids=lambda breakage: breakage.name)
def test_checks_turn_red_on_a_broken_twin(breakage, tmp_path, monkeypatch):
    source = replaced(Path(twin.__file__).read_text(encoding="utf-8"), breakage.old, breakage.new, "_pass_numpy.py")
    kernels = ModuleType(breakage.name)
    exec(compile(source, breakage.name, "exec"), kernels.__dict__)
    assert [check for check in breakage.checks.split() if passes(check, kernels, tmp_path, monkeypatch)] == []


# ---- The compiled kernels ------------------------------------------------------------------------

NUMBERED = list(enumerate(HEADER + PYX, start=1))


@pytest.fixture(scope="module")
def breakable(tmp_path_factory):
    """Build the compiled kernels with all breakages in them, each behind a switch."""
    folder = tmp_path_factory.mktemp("broken_passes")
    header = broken_sources(["_pass.h"], NUMBERED[: len(HEADER)])["_pass.h"]
    (folder / "_pass.h").write_text(SWITCH + header, encoding="utf-8")
    source = write_kernels(folder, "_pass", "    const int PASS_LANES\n", NUMBERED[len(HEADER) :])
    return compiled(source, "-O1 -ffp-contract=off")


if len(fnn.available_backends()) > 1:  # where nothing was compiled there is nothing to break

    @pytest.mark.parametrize("check", checks(HEADER + PYX))
    def test_checks_are_green_with_all_breakages_off(breakable, check, tmp_path, monkeypatch):
        breakable.break_kernel(0)
        assert passes(check, breakable, tmp_path, monkeypatch)

    @pytest.mark.parametrize(("number", "breakage"), NUMBERED, ids=[breakage.name for _, breakage in NUMBERED])
    def test_checks_turn_red_on_a_broken_build(breakable, number, breakage, tmp_path, monkeypatch):
        breakable.break_kernel(number)
        assert [check for check in breakage.checks.split() if passes(check, breakable, tmp_path, monkeypatch)] == []
