"""benchmarks/: the floor by hand, agreement that rivals broken on purpose fail, the command and what it writes."""

import csv
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import fnn

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))  # its files import each other as the command `python benchmarks/run.py` does

import machine  # noqa: E402
import race  # noqa: E402
import report  # noqa: E402
import run  # noqa: E402
from equivalence import disagreement  # noqa: E402
from problems import CHECK_RATE, PROBLEMS  # noqa: E402
from rivals import FAMILIES, PEERS, Contestant, Fnn, MissingError, contestants  # noqa: E402

HERE = partial(ThreadPoolExecutor, max_workers=1)  # instead of a process for every contestant
LIMITS = machine.Limits(
    peak_gflops={1: 250.0, 2: 500.0},
    read_gbs={1: {4096: 900.0, 16384: 482.0, 1 << 20: 100.0}, 2: {}},
    update_gbs={1: {4096: 900.0, 16384: 241.0, 1 << 20: 80.0}, 2: {}},
)


@pytest.fixture(autouse=True)
def _same_backend_afterwards():
    before = fnn.backend()
    yield
    fnn.set_backend(before)


@pytest.fixture
def no_compiler(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)


class NoTraining(Fnn):
    def train(self, epochs):
        pass


class TwiceTheRate(Fnn):
    def __init__(self, problem, rate, hidden="relu", backend="numpy"):
        super().__init__(problem, 2 * rate, hidden, backend)


class FrozenBiases(Fnn):
    def train(self, epochs):
        before = [biases.copy() for biases in self._network.biases]
        super().train(epochs)
        self._network.biases = before


class FrozenColumn(Fnn):
    """The last of ten outputs, as a kernel does that forgets a ragged edge."""

    def train(self, epochs):
        before = self._network.weights[-1][:, -1].copy()
        super().train(epochs)
        self._network.weights[-1][:, -1] = before


class LastRowSkipped(Fnn):
    def __init__(self, problem, rate, hidden="relu", backend="numpy"):
        super().__init__(problem, rate, hidden, backend)
        keep = np.arange(problem.samples) % problem.batch != problem.batch - 1
        self._data = tuple(array[keep] for array in self._data)
        self._options["batch_size"] = problem.batch - 1


class NotANumber(Fnn):
    def blocks(self):
        found = super().blocks()
        found[0][0, 0] = np.nan
        return found


class OtherShapes(Fnn):
    def blocks(self):
        return [block.T for block in super().blocks()]


class Crashing(Fnn):
    def train(self, epochs):
        raise MemoryError("no room")


class Absent(Fnn):
    @staticmethod
    def describe():
        raise MissingError("No module named 'jax'")


BROKEN = (NoTraining, TwiceTheRate, FrozenBiases, FrozenColumn, LastRowSkipped, NotANumber, OtherShapes)


def in_double(problem, blocks, rate):
    """One epoch in float64, from the equations, sharing no code with fnn."""
    x, y = (array.astype(np.float64) for array in problem.data())
    blocks = [block.astype(np.float64) for block in blocks]
    for start in range(0, problem.samples, problem.batch):
        layers = [x[start : start + problem.batch]]
        for block in blocks:
            z = layers[-1] @ block[:-1] + block[-1]
            layers.append(z if block is blocks[-1] else np.maximum(z, 0))
        g = 2 / problem.batch * (layers[-1] - y[start : start + problem.batch])
        for block, layer in zip(blocks[::-1], layers[-2::-1], strict=True):
            below = (g @ block[:-1].T) * (layer > 0)
            block[:-1] -= rate * layer.T @ g
            block[-1] -= rate * g.sum(axis=0)
            g = below
    return blocks


def read_csv(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_floor_of_a_mini_batch_by_hand():
    problem = PROBLEMS["fashion-b32"]
    assert problem.operations == 4 * 784 * 128 + 6 * 128 * 10 == 409_088
    assert problem.floor(LIMITS) == pytest.approx(409_088 / 500e9 * 1e6)  # the peak of both cores


def test_floor_of_online_training_by_hand():
    problem = PROBLEMS["digits-online"]
    size = 4 * (65 * 32 + 33 * 10)  # 9,640 bytes: more than 4 KiB, so the rate of 16 KiB counts
    assert problem.parameter_bytes == size
    assert problem.floor(LIMITS) == pytest.approx((size / 482e9 + 2 * size / 241e9) * 1e6)
    touched = size - 4 * 32 * 32  # of 64 rows of 32 weights half are touched
    assert PROBLEMS["digits-online-sparse"].floor(LIMITS) == pytest.approx((touched / 482 + 2 * touched / 241) / 1e3)


def test_weights_larger_than_every_measured_array_take_the_last_rate():
    assert LIMITS.bandwidth(1 << 30) == (100.0, 80.0)


def test_the_higher_of_two_measurements_counts():
    busy = machine.Limits({1: 260.0, 2: 300.0}, {1: {4096: 800.0}, 2: {}}, {1: {4096: 950.0}, 2: {}})
    idle = machine.Limits({1: 250.0, 2: 500.0}, {1: {4096: 900.0}, 2: {}}, {1: {4096: 900.0}, 2: {}})
    expected = machine.Limits({1: 260.0, 2: 500.0}, {1: {4096: 900.0}, 2: {}}, {1: {4096: 950.0}, 2: {}})
    assert busy.best(idle) == expected


def test_measured_limits_are_plausible():
    limits = machine.measure_limits(0.5, (1 << 14, 1 << 22))
    assert set(limits.peak_gflops) == {1, machine.cores()}
    for threads, peak in limits.peak_gflops.items():
        assert 1 < peak < 1000 * threads  # from a slow emulator to beyond any CPU of today
        for rates in (limits.read_gbs[threads], limits.update_gbs[threads]):
            assert set(rates) == {1 << 14, 1 << 22}
            assert all(0.1 < rate < 5000 * threads for rate in rates.values())


@pytest.mark.usefixtures("no_compiler")
def test_without_a_compiler_there_are_no_limits():
    with pytest.raises(machine.LimitsError, match="no C compiler"):
        machine.measure_limits()


def test_a_compiler_that_fails_says_so(monkeypatch):
    monkeypatch.setenv("CC", "false")
    with pytest.raises(machine.LimitsError, match="false ended with status 1"):
        machine.measure_limits()


def test_data_and_weights_are_the_same_for_everyone():
    problem = PROBLEMS["digits-online-sparse"]
    np.testing.assert_equal((problem.data(), problem.initial_blocks()), (problem.data(), problem.initial_blocks()))
    x, _ = problem.data()
    assert 0.48 < np.mean(x == 0) < 0.52
    assert not np.any(PROBLEMS["digits-online"].data()[0] == 0)


@pytest.mark.parametrize("name", PROBLEMS)
def test_agreement_admits_rounding_and_nothing_near_a_fault(name):
    small = PROBLEMS[name].quick().check()
    start = small.initial_blocks()
    reference = race.reference(PROBLEMS[name].quick(), "relu")
    assert disagreement(small, start, reference, in_double(small, start, CHECK_RATE)) is None
    for layer in range(len(start)):
        for what, rows in (("weights", slice(None, -1)), ("biases", slice(-1, None))):
            candidate = [block.copy() for block in reference]
            candidate[layer][rows] += 0.03 * (reference[layer] - start[layer])[rows]
            found = disagreement(small, start, reference, candidate)
            assert found is not None
            assert found.startswith(f"layer {layer + 1} {what}")


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_a_rival_broken_on_purpose_is_reported_and_not_timed(broken):
    problem = PROBLEMS["digits-b32"].quick()
    honest = Contestant("fnn", "fnn numpy", Fnn, {"backend": "numpy"})
    results = race.race(problem, [Contestant("fnn", "broken", broken), honest], 1, 1e-4, HERE)
    assert [result.status for result in results] == ["disagrees", "timed"]
    assert ("shapes" if broken is OtherShapes else "layer") in results[0].note
    assert results[0].seconds == ()


def test_a_rival_that_fails_is_reported_and_ends_nothing():
    problem = PROBLEMS["digits-b32"].quick()
    honest = Contestant("fnn", "fnn numpy", Fnn, {"backend": "numpy"})
    results = race.race(problem, [Contestant("torch", "PyTorch", Crashing), honest], 2, 1e-4, HERE)
    assert [result.status for result in results] == ["failed", "timed"]
    assert results[0].note == "MemoryError: no room"
    assert len(results[1].seconds) == 2


@pytest.mark.parametrize("name", ["xor-online", "digits-online-sparse", "digits-b32"])
def test_every_backend_and_every_installed_peer_agrees(name):
    field = contestants(FAMILIES)
    present, missing = race.find_missing(field)
    assert {*present, *missing} == {contestant.label for contestant in field}
    assert {f"fnn {backend}" for backend in fnn.available_backends()} <= set(present)
    problem, small = PROBLEMS[name], PROBLEMS[name].check()
    for contestant in field:
        if contestant.label in present and contestant.rival.takes(problem):
            with (HERE if contestant.family == "fnn" else race.own_process)() as place:
                trained = place.submit(race.trained_check, contestant, problem).result()
            reference = race.reference(problem, contestant.rival.checked_with)
            assert disagreement(small, small.initial_blocks(), reference, trained) is None, contestant.label


def test_rounds_are_interleaved_and_every_round_starts_from_the_same_weights(monkeypatch):
    monkeypatch.setattr(race, "SETTLE_SECONDS", 0)
    calls = []

    class Recording(Fnn):
        def __init__(self, problem, rate, hidden="relu", name=""):
            super().__init__(problem, rate, hidden)
            self._name = name

        def train(self, epochs):
            calls.append((self._name, float(self._network.parameters.sum())))
            super().train(epochs)

    field = [Contestant("torch", name, Recording, {"name": name}) for name in ("a", "b")]
    results = race.race(PROBLEMS["digits-b32"].quick(), field, 3, 1e-9, HERE)
    assert [name for name, _ in calls[-6:]] == ["a", "b", "b", "a", "a", "b"]
    assert len({total for _, total in calls}) == 1
    assert [len(result.seconds) for result in results] == [3, 3]
    assert all(0 < result.best <= result.median for result in results)


@pytest.mark.parametrize(("family", "status"), [("fnn", 1), ("torch", 0)])
@pytest.mark.usefixtures("no_compiler")
def test_only_a_disagreeing_backend_of_fnn_fails_the_run(family, status, tmp_path, capsys):
    field = [Contestant("fnn", "fnn numpy", Fnn, {"backend": "numpy"}), Contestant(family, "wrong", TwiceTheRate)]
    command = ["--quick", "--workloads", "digits-b32", "--rounds", "1", "--output", str(tmp_path)]
    assert run.main(command, lambda families: field, HERE) == status
    output = capsys.readouterr().out
    assert "Not timed: wrong on digits-b32 disagrees: layer 1 weights" in output
    assert "No floor: there is no C compiler" in output
    (path,) = tmp_path.glob("*.csv")
    rows = read_csv(path)
    assert [(row["rival"], row["status"]) for row in rows] == [("fnn numpy", "timed"), ("wrong", "disagrees")]
    assert rows[1]["best_us"] == rows[0]["floor_us"] == ""


def test_the_command_writes_what_it_prints(tmp_path):
    command = [sys.executable, str(BENCHMARKS / "run.py"), "--quick", "--workloads", "xor-online", "digits-b32",
               "--rivals", "fnn", "fann", "--rounds", "2", "--output", str(tmp_path)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (table,), (description,), (page,) = (list(tmp_path.glob(f"*.{ending}")) for ending in ("csv", "json", "md"))
    assert {path.stem for path in (table, description, page)} == {machine.slug(machine.describe())}

    rows = read_csv(table)
    labels = [f"fnn {name}" for name in fnn.available_backends()]
    for name in ("xor-online", "digits-b32"):
        own = [row for row in rows if row["workload"] == name and row["rival"] in labels]
        assert [row["rival"] for row in own] == labels
        for row in own:
            assert row["status"] == "timed"
            assert 0 < float(row["best_us"]) <= float(row["median_us"])
            assert float(row["share_of_floor"]) == pytest.approx(float(row["floor_us"]) / float(row["best_us"]))
            assert row["layers"] == "-".join(map(str, PROBLEMS[name].sizes))
            assert row["rounds"] == "2"
            printed = next(line for line in done.stdout.splitlines() if line.startswith(f"| {name} "))
            assert report.number(float(row["best_us"])) in printed.replace("*", "").split()

    facts = json.loads(description.read_text(encoding="utf-8"))
    assert facts["machine"]["numpy"] == np.__version__
    assert facts["versions"]["fnn numpy"] == f"fnn {fnn.__version__}"
    assert float(facts["limits"]["peak_gflops"]["1"]) > 1
    assert ("FANN" in facts["versions"]) != ("FANN" in facts["missing"])
    text = page.read_text(encoding="utf-8")
    for part in done.stdout.split("\n\n"):
        if part.startswith("|"):
            assert part in text
    assert "NOT figures to quote" in text


def test_a_missing_peer_is_reported_and_is_no_error(capsys):
    field = [Contestant("fnn", "fnn numpy", Fnn, {"backend": "numpy"}), Contestant("jax", "JAX", Absent)]
    assert run.main(["--quick", "--workloads", "xor-online", "--rounds", "1"], lambda families: field, HERE) == 0
    output = capsys.readouterr().out
    assert "Missing: JAX: No module named 'jax'." in output
    assert "JAX" not in output.splitlines()[2]


def test_with_no_side_left_there_is_no_race(capsys):
    field = [Contestant("jax", "JAX", Absent)]
    assert run.main(["--quick"], lambda families: field, HERE) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "JAX: missing (No module named 'jax')\nnothing to race\n"


def test_only_a_full_run_writes_into_results_unasked():
    assert run.parse([]).output == run.RESULTS
    for partial_run in (["--quick"], ["--workloads", "xor-online"], ["--rivals", "fnn"]):
        assert run.parse(partial_run).output is None


def test_noise_names_the_usual_and_the_worst_side():
    def timed(label, *seconds):
        return race.Result(PROBLEMS["digits-b32"], Contestant("jax", label, Fnn), "timed", seconds=seconds, epochs=1)

    (line,) = report.noise([timed("a", 1.0, 1.0, 1.5), timed("b", 1.0, 3.0, 4.0), timed("c", 1.0, 1.02, 9.0)])
    assert line == (
        "Noise: the median round took 2.0 % longer than the best for the usual side, "
        "200 % for the worst, b on digits-b32."
    )
    assert report.noise([]) == []


def test_ratios_name_wins_and_losses():
    problem = PROBLEMS["digits-b32"]

    def timed(seconds):
        return race.Result(problem, PEERS[0], "timed", seconds=(seconds,), epochs=1)

    assert report.ratio(timed(1.0), timed(3.0)) == "3.00x faster"
    assert report.ratio(timed(3.0), timed(1.5)) == "2.00x SLOWER"
    assert report.ratio(timed(3.0), None) == "-"


@pytest.mark.parametrize(
    ("value", "text"),
    [(1234.5, "1234"), (123.4, "123"), (12.34, "12.3"), (1.234, "1.23"), (0.1234, "0.123"), (0.01, "0.0100")],
)
def test_numbers_show_three_figures(value, text):
    assert report.number(value) == text
