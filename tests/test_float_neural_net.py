"""FloatNeuralNet: options, checks of arguments, readings, checkpoints, and what a user may do between passes."""

import copy
import dataclasses
import os
import pickle
import signal
import struct
import threading

import numpy as np
import pytest

import fnn
from trajectories import NAMES, camel, read, same

SIZES = [3, 5, 2]
X = np.random.default_rng(0).normal(0, 1, (7, 3)).astype(np.float32)
Y = np.random.default_rng(1).normal(0, 1, (7, 2)).astype(np.float32)


def network(activation="leaky_relu", sizes=SIZES, **options):
    made = fnn.FloatNeuralNet(sizes, activation, fnn.Options(**options))
    made.randomize(1)
    return made


def everything(net):
    """All that a call may change, as bytes."""
    return [value.tobytes() for value in vars(net._state).values() if isinstance(value, np.ndarray)]


# ---- Options and construction --------------------------------------------------------------------


def test_options_are_the_class_s_in_snake_case():
    names = [field.name for field in dataclasses.fields(fnn.Options)]
    config, _ = read(NAMES[0])
    assert {camel(name.replace("effective_decrease", "effecttive_decrease")) for name in names} <= set(config)
    assert len(names) == 18


def test_option_numbers_are_float32():
    assert fnn.Options(weight_floor=0.1).weight_floor == float(np.float32(0.1))
    assert fnn.Options(weight_saturation=np.float32(2)) == fnn.Options(weight_saturation=2)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("momentum", 1, r"^momentum: expected True or False, got 1$"),
        ("max_multiplier", 2.5, r"^max_multiplier: expected an integer >= 0, got 2.5$"),
        ("max_multiplier", True, r"^max_multiplier: expected an integer >= 0, got True$"),
        ("min_pass_effective_adj", -1, r"^min_pass_effective_adj: expected an integer from 0 to 2147483647, got -1$"),
        ("weight_saturation", -1, r"^weight_saturation: expected a number that float32 can hold, >= 0, got -1$"),
        ("weight_floor", "x", r"^weight_floor: expected a number that float32 can hold, >= 0, got 'x'$"),
        ("tweak_rate", float("nan"), r"^tweak_rate: expected a number that float32 can hold, got nan$"),
        ("training_rate", 1e39, r"^training_rate: expected a number that float32 can hold, got 1e\+39$"),
    ],
)
def test_options_are_checked(name, value, message):
    with pytest.raises(ValueError, match=message):
        fnn.Options(**{name: value})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("abc",), r"^levels: expected a list of sizes, got 'abc'$"),
        ((b"abc",), r"^levels: expected a list of sizes, got b'abc'$"),
        (([2, 10**30],), r"^levels: expected weights that fit in memory, got 3000000000000000000000000000000 for the "),
        (([3],), r"^levels: expected two levels at least, got \[3\]$"),
        (([3, 0],), r"^levels\[1\]: expected an integer >= 1, got 0$"),
        (([3, 2], "tanh"), r"^activation: expected one of relu, leaky_relu, corner, got 'tanh'$"),
        (([3, 2], "relu", {"momentum": True}), r"^options: expected fnn.Options or None, got \{'momentum': True\}$"),
    ],
)
def test_the_constructor_checks(arguments, message):
    with pytest.raises(ValueError, match=message):
        fnn.FloatNeuralNet(*arguments)


def test_a_new_network_is_zeros_and_straight_corners():
    net = fnn.FloatNeuralNet(SIZES, "corner", fnn.Options(relu_leakiness=0.25))
    assert not net.weights.any()
    same(net.get_corners(2), np.array([[0.25, 0, 1]] * 2, np.float32), "corners")
    assert (net.levels, net.activation, net.training_pass) == (tuple(SIZES), "corner", 0)
    assert repr(net) == "FloatNeuralNet([3, 5, 2], 'corner', passes=0)"


def test_options_may_change_between_passes(backend):
    net = network()
    net.options = dataclasses.replace(net.options, weight_saturation=0.125)
    net.train_pass(X, Y, rate=0.01)
    assert np.abs(net.weights).max() == 0.125
    assert net.options.weight_saturation == 0.125
    net.options = dataclasses.replace(net.options, total_gradient=False)
    assert net.total_gradient.size == 0
    net.options = dataclasses.replace(net.options, auto_rate=True)
    net.train_pass(X, Y, apply_rate=1)
    assert net.training_rate == net.options.training_rate == float(np.float32(0.001 / len(X)))
    assert net.total_gradient.size == net.weights.size


def test_momentum_without_its_arrays_does_nothing(backend):
    plain, late = network(), network()
    late.options = fnn.Options(momentum=True)
    for _ in range(4):
        plain.train_pass(X, Y, apply_rate=0.01)
        late.train_pass(X, Y, apply_rate=0.01)
    same(late.weights, plain.weights, "weights")
    with pytest.raises(ValueError, match=r"^rate: expected 0 with momentum, got 0.1$"):
        late.train(X, Y, 0.1)


# ---- Levels and corners --------------------------------------------------------------------------


def test_levels_go_in_and_out():
    net = network("corner")
    block = np.arange(20, dtype=np.float32).reshape(4, 5)
    net.set_level(1, block)
    same(net.get_level(1), block, "level 1")
    same(net.weights[:20], block.ravel(), "weights")
    corners = np.arange(6, dtype=np.float32).reshape(2, 3)
    net.set_corners(2, corners)
    same(net.get_corners(2), corners, "corners of level 2")
    same(net.corners[15:], corners.ravel(), "corners")
    net.get_level(1)[:] = 7
    net.weights[:] = 7
    net.corners[:] = 7
    same(net.get_level(1), block, "level 1")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda net: net.set_level(0, [[1]]), r"^level: expected 1 to 2, got 0$"),
        (lambda net: net.get_level(3), r"^level: expected 1 to 2, got 3$"),
        (lambda net: net.get_level("1"), r"^level: expected an integer, got '1'$"),
        (lambda net: net.set_level(1, [[1]]), r"^values: expected shape \(4, 5\), got \(1, 1\)$"),
        (lambda net: net.set_level(2, np.full((6, 2), np.inf)), r"^values: expected finite numbers, got inf in row 0"),
        (lambda net: net.get_corners(1), r"^level: expected activation corner for corners, got leaky_relu$"),
        (lambda net: net.usage(-1), r"^level: expected 0 to 2, got -1$"),
        (lambda net: net.level_gradient_norm2(0), r"^level: expected 1 to 2, got 0$"),
        (lambda net: net.randomize(1.5), r"^seed: expected an integer, got 1.5$"),
        (lambda net: net.reclaim(-1), r"^max_unused: expected an integer from 0 to 4294967295, got -1$"),
        (lambda net: net.reclaim("few"), r"^max_unused: expected an integer >= 0, got 'few'$"),
        (lambda net: net.compute(X[:, :2]), r"^inputs: expected shape \(rows, 3\), got \(7, 2\)$"),
        (lambda net: net.compute([0, np.nan, 0]), r"^inputs: expected finite numbers, got nan in row 0, column 1$"),
    ],
)
def test_calls_are_checked(backend, call, message):
    net = network()
    before = everything(net)
    with pytest.raises(ValueError, match=message):
        call(net)
    assert everything(net) == before


def test_seeds_are_those_of_srand48():
    one, other = network(), network()
    one.randomize(5)
    other.randomize(5 + (1 << 32))
    same(other.weights, one.weights, "weights")


def test_the_dump_names_every_number():
    net = fnn.FloatNeuralNet([2, 1], "corner")
    net.set_level(1, [[0.5], [-1.25], [3]])
    assert net.simple_dump() == (
        "level 1: 2 -> 1\n  weights 0: 0.5\n  weights 1: -1.25\n  bias: 3\n"
        "  left: 0.00999999978\n  offset: 0\n  right: 1\n"
    )


# ---- Passes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "corner"])
def test_a_batch_is_its_samples_in_order(backend, activation):
    one, many = network(activation, is_classifier=True), network(activation, is_classifier=True)
    counts, effective = np.array([1, 2, 1, 3, 1, 1, 1]), np.full(7, 3.5, np.float32)
    apart = effective.copy()
    for net in (one, many):
        net.start_training_pass()
    many.train(X, Y, 0.01, counts, effective)
    for n in range(7):
        one.train(X[n].tolist(), Y[n], 0.01, int(counts[n]), apart[n : n + 1])
    same(many.weights, one.weights, "weights")
    same(many.total_gradient, one.total_gradient, "gradient")
    same(effective, apart, "effective counts")
    assert (effective != 3.5).any()
    outputs, highest = many.compute(X)
    assert outputs.shape == (7, 2)
    assert highest.shape == (7,)
    single, index = many.compute(X[3])
    same(single, outputs[3], "outputs")
    assert index == highest[3]


def test_an_effective_count_may_be_a_single_number_or_strided(backend):
    net = network(is_classifier=True)
    single, strided = np.array(3.5, np.float32), np.full((7, 2), 3.5, np.float32)
    net.train(X[0], Y[0], 0, 1, single)
    net.train(X, Y, 0, 1, strided[:, 0])
    assert single == strided[0, 0]
    assert (strided[:, 1] == 3.5).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((X[:, :2], Y, 0), r"^inputs: expected shape \(rows, 3\), got \(7, 2\)$"),
        ((X, Y[:6], 0), r"^targets: expected 7 rows, as many as inputs has, got shape \(6, 2\)$"),
        ((X[0], Y[0, :1], 0), r"^targets: expected shape \(rows, 2\), got \(1, 1\)$"),
        ((X, Y * np.nan, 0), r"^targets: expected finite numbers, got nan in row 0, column 0$"),
        ((X, Y, "fast"), r"^rate: expected a number that float32 can hold, got 'fast'$"),
        ((X, Y, 0, 0), r"^count: expected integers from 1 to 4294967295, got 0 to 0$"),
        ((X, Y, 0, 1.5), r"^count: expected an integer or 7 of them, got float64 of shape \(\)$"),
        ((X, Y, 0, [1, 2]), r"^count: expected an integer or 7 of them, got int64 of shape \(2,\)$"),
        ((X, Y, 0, 1, 2.0), r"^effective_count: expected an array of float32, which changes in place, got float$"),
        ((X, Y, 0, 1, np.ones(7)), r"^effective_count: expected an array of float32, .* got float64$"),
        ((X, Y, 0, 1, np.ones(6, np.float32)), r"^effective_count: expected shape \(7,\), got \(6,\)$"),
        ((X, Y, 0, 1, np.full(7, 0.5, np.float32)), r"^effective_count: expected finite numbers >= 1, got 0.5$"),
        ((X, Y, 0, 1, np.broadcast_to(np.float32(1), 7)), r"^effective_count: expected an array that can be written"),
    ],
)
def test_training_is_refused_without_effect(backend, arguments, message):
    net = network(is_classifier=True)
    before = everything(net)
    with pytest.raises(ValueError, match=message):
        net.train(*arguments)
    assert everything(net) == before


def test_train_pass_is_refused_without_effect(backend):
    net = network(total_gradient=False)
    before = everything(net)
    for arguments, message in (
        ({"apply_rate": 0.1}, r"^apply_gradient: expected the option total_gradient on, got it off$"),
        ({"apply_rate": None}, r"^apply_rate: expected a number that float32 can hold, got None$"),
        ({"reclaim": 1}, r"^reclaim: expected True or False, got 1$"),
        ({"max_unused": -1}, r"^max_unused: expected an integer from 0"),
    ):
        with pytest.raises(ValueError, match=message):
            net.train_pass(X, Y, **arguments)
    with pytest.raises(ValueError, match=r"^x: expected shape \(rows, 3\), got \(3,\); for a single row pass x\["):
        net.train_pass(X[0], Y[0])
    assert everything(net) == before


def test_apply_gradient_needs_a_pass(backend):
    net = network()
    message = r"^apply_gradient: expected a pass with samples that has ended since the last call, got none$"
    with pytest.raises(ValueError, match=message):
        net.apply_gradient(0.1)
    net.start_training_pass()
    net.end_training_pass()
    with pytest.raises(ValueError, match=message):
        net.apply_gradient(0.1)
    net.train_pass(X, Y)
    before = net.weights
    assert not net.apply_gradient(0.1)
    assert (net.weights != before).any()
    with pytest.raises(ValueError, match=message):
        net.apply_gradient(0.1)


def test_readings_without_a_sample_are_no_numbers(backend):
    net = network()
    net.start_training_pass()
    net.end_training_pass()
    assert np.isnan([net.abs_error, net.squared_error, net.effective_squared_error]).all()
    assert (net.pass_size, net.effective_pass_size, net.training_pass) == (0, 0, 1)
    assert net.all_gradient_norm2() == 0


def test_the_norm_of_the_last_level_is_its_own(backend):
    net = network("corner")
    net.train_pass(X, Y)
    assert net.last_gradient_norm2() == net.level_gradient_norm2(2)
    parts = [net.level_gradient_norm2(level) for level in (1, 2)]
    assert net.all_gradient_norm2() == pytest.approx(np.hypot(*parts))
    gradient = np.concatenate([net.total_gradient[20:], net.total_corners_gradient[15:]])
    assert net.last_gradient_norm2() == pytest.approx(np.linalg.norm(gradient), rel=1e-6)


def test_usage_is_relu_s(backend):
    net = network("relu")
    net.train_pass(X, Y)
    assert net.usage(1).max() <= len(X)
    assert net.usage(1).sum() > 0
    assert not net.usage(0).any()
    assert not net.usage(2).any()
    assert network("corner").usage(1).size == 0


def test_reclaim_waits_for_a_sample(backend):
    net = network("relu")
    for begin in (lambda: None, net.start_training_pass):
        begin()
        before = everything(net)
        with pytest.raises(ValueError, match=r"^reclaim: expected a pass with samples, got none$"):
            net.reclaim()
        assert everything(net) == before
    net.train(X, Y, 0)
    net.reclaim()
    assert network("leaky_relu").reclaim() == 0


def test_networks_can_be_copied_and_pickled(backend):
    net = network("corner", momentum=True)
    net.train_pass(X, Y, apply_rate=0.01)
    copies = copy.deepcopy(net), pickle.loads(pickle.dumps(net))
    for each in (net, *copies):
        for _ in range(3):
            each.train_pass(X, Y, apply_rate=0.01)
    for each in copies:
        same(each.weights, net.weights, "weights")


def test_backends_may_change_between_passes(backend):
    net, before = network("relu", momentum=True), fnn.backend()
    other = copy.deepcopy(net)
    for number in range(6):
        fnn.set_backend("numpy" if number % 2 else before)
        net.train_pass(X, Y, apply_rate=0.01, reclaim=True)
    fnn.set_backend("numpy")
    for _ in range(6):
        other.train_pass(X, Y, apply_rate=0.01, reclaim=True)
    same(net.weights, other.weights, "weights")


def test_data_of_any_kind_are_taken_and_left_alone(backend):
    plain, other = network(), network()
    strided = np.zeros((7, 6))[:, ::2]
    strided[:] = X
    strided.flags.writeable = False
    plain.train_pass(X, Y, rate=0.01)
    other.train_pass(strided, np.asfortranarray(Y), rate=0.01)
    same(other.weights, plain.weights, "weights")


def test_a_pass_can_be_interrupted(backend):
    """Between two samples; the effective counts of those that were done are handed back."""
    net, n = network("leaky_relu", [100, 1000, 1000, 2], is_classifier=True), 20_000
    x, y, effective = np.ones((n, 100), np.float32), np.ones((n, 2), np.float32), np.full(n, 3.5, np.float32)
    y[:, 0] = 2
    net.set_level(3, np.eye(1001, 2, -1000))  # every answer is right, so that every effective count shrinks

    def interrupt(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            net.train_pass(x, y, effective_count=effective)
    finally:
        signal.signal(signal.SIGTERM, before)
        timer.join()
    done = net.pass_size
    assert 0 < done < n
    assert net.training_pass == 0
    assert abs(int((effective != 3.5).sum()) - done) <= 1  # NumPy may be stopped within a sample
    fresh = network("leaky_relu", [100, 1000, 1000, 2], is_classifier=True)
    fresh.set_level(3, net.get_level(3))
    for each in (net, fresh):
        each.train_pass(x[:2], y[:2], rate=1e-6)
    same(net.weights, fresh.weights, "weights")


def refused(call):
    """Whether a call says that another is inside."""
    try:
        call()
    except RuntimeError as error:
        return str(error).startswith("FloatNeuralNet: expected one call at a time")
    return False


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_call_while_another_trains_is_refused(backend):
    """From a signal's handler, which runs in the middle; a forked child is free, and so is who comes later."""
    net, found = network("relu", [100, 1000, 1000, 2], momentum=True), []
    x, y = np.ones((20_000, 100), np.float32), np.ones((20_000, 2), np.float32)

    def meanwhile(number, frame):
        found.append(
            [
                refused(net.start_training_pass),
                refused(lambda: net.train(x[0], y[0], 0)),
                refused(lambda: net.train_pass(x[:2], y[:2])),
                refused(net.end_training_pass),
                refused(net.reclaim),
            ]
        )
        net.compute(x[:2])
        child = os.fork()
        if child == 0:
            os._exit(refused(net.start_training_pass))
        found.append(os.waitpid(child, 0)[1])
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, meanwhile)
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            net.train_pass(x, y)
    finally:
        signal.signal(signal.SIGTERM, before)
        timer.join()
    assert found == [[True] * 5, 0]
    net.train_pass(x[:2], y[:2], apply_rate=0.01)


def test_threads_that_share_a_network_do_it_no_harm(backend):
    net, refusals = network("relu", [64, 32, 10]), []
    x, y = np.ones((500, 64), np.float32), np.ones((500, 10), np.float32)

    def train():
        refusals.extend([refused(lambda: net.train_pass(x, y, rate=1e-5)) for _ in range(20)])

    threads = [threading.Thread(target=train) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refusals) == 80
    assert net.training_pass == 80 - sum(refusals)


# ---- Checkpoints ---------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["relu", "corner"])
def test_a_checkpoint_restores_passes_weights_and_corners(tmp_path, backend, activation):
    net, other = network(activation), network(activation)
    net.train_pass(X, Y, rate=0.01)
    net.checkpoint(tmp_path / "a")
    other.uncheckpoint(str(tmp_path / "a"))
    same(other.weights, net.weights, "weights")
    same(other.corners, net.corners, "corners")
    assert other.training_pass == 1
    other.checkpoint(tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == (tmp_path / "a").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_a_checkpoint_is_what_the_format_says(tmp_path):
    net = network("corner")
    net.checkpoint(tmp_path / "a")
    start = b"FNNC" + struct.pack("<Iq", 1, 0)
    assert (tmp_path / "a").read_bytes() == start + net.weights.astype("<f4").tobytes() + net.corners.tobytes()


@pytest.mark.parametrize("name", ["corner_counts_restore", "relu_dead_neurons_reclaim"])
def test_the_class_s_own_files_are_read(tmp_path, name):
    config, run = read(name)
    (tmp_path / "a").write_bytes(run["checkpoint_final"].tobytes())
    net = fnn.FloatNeuralNet(config["levels"], config["activation"].lower())
    net.uncheckpoint(tmp_path / "a")
    same(net.weights, run["weights"][-1], "weights")
    same(net.corners, run["corners"][-1], "corners")
    assert net.training_pass == run["training_pass"][-1]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: b"", r"expected a checkpoint that starts with b'FNNC', got b''$"),
        (lambda data: b"FNNX" + data[4:], r"expected a checkpoint that starts with b'FNNC', got b'FNNX'$"),
        (lambda data: data[:10], r"cut short: expected 144 bytes, got 10$"),
        (lambda data: data[:4] + b"\2\0\0\0" + data[8:], r"expected version 1, got 2$"),
        (lambda data: data[:8] + b"\xff" * 8 + data[16:], r"expected passes >= 0, got -1$"),
        (lambda data: data[:-1], r"expected 144 bytes for a network of these levels, got 143$"),
        (lambda data: data + b"\0", r"expected 144 bytes for a network of these levels, got more$"),
        (lambda data: data[:-4] + struct.pack("<f", np.nan), r"expected finite numbers, got nan$"),
        (lambda data: data[:16] + struct.pack("<f", -np.inf) + data[20:], r"expected finite numbers, got -inf$"),
    ],
)
def test_a_damaged_checkpoint_changes_nothing(tmp_path, damage, message):
    net = network()
    net.train_pass(X, Y, rate=0.01)
    net.checkpoint(tmp_path / "a")
    (tmp_path / "a").write_bytes(damage((tmp_path / "a").read_bytes()))
    net.train_pass(X, Y, rate=0.01)
    before = everything(net)
    with pytest.raises(fnn.ModelFileError, match=message):
        net.uncheckpoint(tmp_path / "a")
    assert everything(net) == before


def test_only_files_are_read_and_written(tmp_path):
    with pytest.raises(fnn.ModelFileError, match=r"expected a file or nothing there, got a directory or a device$"):
        network().checkpoint(tmp_path)
    with pytest.raises(FileNotFoundError):
        network().uncheckpoint(tmp_path / "missing")
