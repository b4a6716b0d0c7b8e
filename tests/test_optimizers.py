import numpy as np
import pytest

import fnn
from fnn._optimizers import find_optimizer


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"learning_rate": 0}, "learning_rate: expected a finite number > 0, got 0"),
        ({"learning_rate": -1.0}, "learning_rate: expected a finite number > 0, got -1.0"),
        ({"learning_rate": float("nan")}, "learning_rate: expected a finite number > 0, got nan"),
        ({"learning_rate": float("inf")}, "learning_rate: expected a finite number > 0, got inf"),
        ({"learning_rate": True}, "learning_rate: expected a finite number > 0, got True"),
        ({"learning_rate": "fast"}, "learning_rate: expected 'depth_scaled' or a finite number > 0, got 'fast'"),
        ({"momentum": 1}, r"momentum: expected a number in \[0, 1\), got 1"),
        ({"momentum": -0.1}, r"momentum: expected a number in \[0, 1\), got -0.1"),
        ({"momentum": float("nan")}, r"momentum: expected a number in \[0, 1\), got nan"),
        ({"momentum": None}, r"momentum: expected a number in \[0, 1\), got None"),
        ({"nesterov": 1}, "nesterov: expected True or False, got 1"),
        ({"nesterov": True}, "nesterov: needs momentum > 0, got momentum=0"),
    ],
)
def test_values_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        fnn.SGD(**arguments)


def test_a_name_stands_for_the_defaults():
    assert find_optimizer("sgd") == fnn.SGD(learning_rate=0.01, momentum=0, nesterov=False)
    assert find_optimizer("adam") == fnn.Adam(learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-8)
    assert find_optimizer("fista") == fnn.FISTA(learning_rate=0.01, fast_brake=True, fixed_nu=False)
    with pytest.raises(ValueError, match=r"^optimizer: expected .* or one of sgd, adam, fista, got 'adagrad'$"):
        find_optimizer("adagrad")
    with pytest.raises(ValueError, match=r"^optimizer: expected .* got None$"):
        find_optimizer(None)
    with pytest.raises(ValueError, match=r"^optimizer: expected .* got array\(\[0\., 0\.\]\)$"):
        find_optimizer(np.zeros(2))


def test_numpy_numbers_will_do():
    assert fnn.SGD(np.float32(0.5), np.float64(0.25)).rule(1.0)[:4] == (0.5, 0.25, False, 1.0)
    assert fnn.SGD(momentum=0.5, nesterov=np.True_).rule(1.0).nesterov is True
    assert fnn.FISTA(fast_brake=np.False_, fixed_nu=np.True_).rule(1.0)[-3:-1] == (False, True)
    assert fnn.Adam(np.float32(0.5), np.float64(0.25)).rule(1.0)[:7] == (0.5, 0.25, False, 1.0, True, 0.999, 1e-8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"learning_rate": 0}, "learning_rate: expected a finite number > 0, got 0"),
        ({"epsilon": 0.0}, "epsilon: expected a finite number > 0, got 0.0"),
        ({"epsilon": 1e-50}, r"epsilon: expected at least 2\*\*-126 \(1.2e-38\), got 1e-50"),
        ({"epsilon": "small"}, "epsilon: expected a finite number > 0, got 'small'"),
        ({"beta_1": 1}, r"beta_1: expected a number in \[0, 1\), got 1"),
        ({"beta_2": -0.5}, r"beta_2: expected a number in \[0, 1\), got -0.5"),
        ({"beta_2": None}, r"beta_2: expected a number in \[0, 1\), got None"),
    ],
)
def test_adam_refuses_values_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        fnn.Adam(**arguments)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_adam_s_steps_on_a_linear_neuron(backend, batch_size):
    """By hand: m and v from 0, the corrected rate, through two epochs."""
    rows = [(0.5, 1.0), (-1.5, 0.25), (2.0, -0.5), (1.0, 1.0)]
    net = fnn.Network([1, 1], dtype="float64", init="zeros")
    net.parameters = [0.4, -0.2]
    net.fit(
        [[u] for u, _ in rows],
        [y for _, y in rows],
        epochs=2,
        batch_size=batch_size,
        optimizer=fnn.Adam(0.05, beta_1=0.8, beta_2=0.95),
        shuffle=False,
    )
    want, m, v, update = np.array([0.4, -0.2]), np.zeros(2), np.zeros(2), 0
    for start in [*range(0, 4, batch_size)] * 2:
        batch = rows[start : start + batch_size]
        g = np.mean([2 * (want @ [u, 1] - y) * np.array([u, 1]) for u, y in batch], axis=0)
        m, v, update = 0.8 * m + 0.2 * g, 0.95 * v + 0.05 * g**2, update + 1
        want = want - 0.05 * np.sqrt(1 - 0.95**update) / (1 - 0.8**update) * m / (np.sqrt(v) + 1e-8)
    assert net.parameters == pytest.approx(want, rel=1e-9)


@pytest.mark.parametrize("batch_size", [1, 2])
@pytest.mark.parametrize(
    "optimizer", [fnn.SGD(0.05), fnn.SGD(0.05, momentum=0.8), fnn.SGD(0.05, momentum=0.8, nesterov=True)]
)
@pytest.mark.parametrize("limit", [None, 0.3])
def test_the_steps_of_a_linear_neuron_follow_the_equations(backend, optimizer, limit, batch_size):
    rows = [(0.5, 1.0), (-1.5, 0.25), (2.0, -0.5), (1.0, 1.0)]
    net = fnn.Network([1, 1], dtype="float64", init="zeros")
    net.parameters = [0.4, -0.2]
    net.fit(
        [[u] for u, _ in rows],
        [y for _, y in rows],
        epochs=3,
        batch_size=batch_size,
        optimizer=optimizer,
        saturation=limit,
        shuffle=False,
    )

    def clip(value):
        return value if limit is None else max(-limit, min(limit, value))

    p, v = [clip(0.4), clip(-0.2)], [0.0, 0.0]
    for _ in range(3):
        for start in range(0, 4, batch_size):
            batch = rows[start : start + batch_size]
            errors = [2 * (p[0] * u + p[1] - y) / batch_size for u, y in batch]
            gradient = [sum(e * u for e, (u, _) in zip(errors, batch, strict=True)), sum(errors)]
            for i in range(2):
                v[i] = optimizer.momentum * v[i] - optimizer.learning_rate * gradient[i]
                step = v[i]
                if optimizer.nesterov:
                    step = optimizer.momentum * v[i] - optimizer.learning_rate * gradient[i]
                p[i] = clip(p[i] + step)
    np.testing.assert_allclose(net.parameters, p, rtol=1e-12, atol=0)


@pytest.mark.parametrize("fixed_nu", [False, True])
def test_fista_repeats_more_and_more(fixed_nu):
    """The first parts by hand, the last one as the t's grow: about 1 - 3 / update."""
    rule = fnn.FISTA(fixed_nu=fixed_nu).rule(1.0)
    parts = [rule.at(update).momentum for update in (1, 2, 3, 4, 2)]
    if fixed_nu:
        assert parts == [0, 1, 1, 1, 1]
    else:
        assert parts == pytest.approx([0, 0.2817535, 0.4340428, 0.5310634, 0.2817535], rel=1e-6)
        assert rule.at(3000).momentum == pytest.approx(1 - 3 / 3000, abs=1e-5)
    assert (rule.states, rule._replace(fast_brake=False).states) == (2, 1)


@pytest.mark.parametrize(("fast_brake", "states"), [(True, 2), (False, 1)])
def test_fista_s_steps_on_a_linear_neuron(backend, fast_brake, states):
    """By hand, in batches of two, through three epochs."""
    rows = [(0.5, 1.0), (-1.5, 0.25), (2.0, -0.5), (1.0, 1.0)]
    net = fnn.Network([1, 1], dtype="float64", init="zeros")
    net.parameters = [0.4, -0.2]
    net.fit(
        [[u] for u, _ in rows],
        [y for _, y in rows],
        epochs=3,
        batch_size=2,
        optimizer=fnn.FISTA(0.1, fast_brake=fast_brake),
        shuffle=False,
    )
    want, moves, last, t, brakes = np.array([0.4, -0.2]), np.zeros(2), np.zeros(2), 1.0, 0
    for start in [0, 2] * 3:
        batch = rows[start : start + 2]
        g = np.mean([2 * (want @ [u, 1] - y) * np.array([u, 1]) for u, y in batch], axis=0)
        moves = moves - 0.1 * g
        if fast_brake:
            brakes += (last * g < 0).sum()
            moves[last * g < 0] = 0
        following = (1 + np.sqrt(1 + 4 * t**2)) / 2
        want, last, t = want - 0.1 * g + (t - 1) / following * moves, g, following
    assert net.parameters == pytest.approx(want, rel=1e-9)
    assert bool(brakes) == fast_brake
