"""benchmarks/: the floor by hand, agreement that rivals broken on purpose fail, the command and what it writes."""

import csv
import gzip
import itertools
import json
import os
import re
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import fnn

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))  # its files import each other as the command `python benchmarks/run.py` does

import build  # noqa: E402
import calls  # noqa: E402
import compare  # noqa: E402
import counts  # noqa: E402
import curves  # noqa: E402
import depth_report  # noqa: E402
import depth_study  # noqa: E402
import estimators  # noqa: E402
import fashion  # noqa: E402
import machine  # noqa: E402
import passes  # noqa: E402
import race  # noqa: E402
import report  # noqa: E402
import run  # noqa: E402
import session  # noqa: E402
import sweep  # noqa: E402
from equivalence import disagreement  # noqa: E402
from problems import FASHION_IMAGES, PROBLEMS, of_shape  # noqa: E402
from rivals import FAMILIES, PEERS, Contestant, Fnn, MissingError, chosen_contestants, contestants  # noqa: E402

HERE = partial(ThreadPoolExecutor, max_workers=1)  # instead of a process for every contestant
LIMITS = machine.Limits(
    peak_gflops={1: 250.0, 2: 500.0},
    read_gbs={n: {4096: n * 900.0, 16384: n * 482.0, 1 << 20: n * 100.0} for n in (1, 2)},
    update_gbs={n: {4096: n * 900.0, 16384: n * 241.0, 1 << 20: n * 80.0} for n in (1, 2)},
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


def test_images_are_read_as_they_lie(monkeypatch, tmp_path):
    pixels = np.random.default_rng(3).integers(0, 256, (5, 784), np.uint8)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(bytes(16) + pixels.tobytes()))
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(bytes(8) + bytes([3, 1, 4, 1, 5])))
    monkeypatch.setattr(fashion, "FOLDER", tmp_path)
    assert fashion.is_installed()
    np.testing.assert_array_equal(fashion.labels("train"), [3, 1, 4, 1, 5])
    x, y = replace(FASHION_IMAGES, samples=4).data()
    np.testing.assert_array_equal(x, (pixels[:4] / 255).astype("f4"))
    assert x.dtype == np.float32
    assert y.shape == (4, 10)


@pytest.mark.parametrize("name", PROBLEMS)
def test_agreement_admits_rounding_and_nothing_near_a_fault(name):
    small = PROBLEMS[name].quick().check()
    start = small.initial_blocks()
    reference = race.reference(PROBLEMS[name].quick(), "relu")
    assert (
        disagreement(small, start, reference, in_double(small, start, race.check_rate(PROBLEMS[name].quick()))) is None
    )
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
                trained = place.submit(race.trained_check, contestant, problem, race.check_rate(problem)).result()
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
    assert run.parse([]).output == session.RESULTS
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


NUMPY = Contestant("fnn", "fnn numpy", Fnn, {"backend": "numpy"})
COMPILED = Contestant("fnn", "fnn x86-64-v3", Fnn, {"backend": "x86-64-v3"})
TORCH = next(peer for peer in PEERS if peer.family == "torch")


def took(problem, contestant, *microseconds):
    """A result by hand: rounds of one epoch."""
    seconds = tuple(1e-6 * one * problem.samples for one in microseconds)
    return race.Result(problem, contestant, "timed", seconds=seconds, epochs=1)


def a_report(results, **more):
    sides = tuple({result.contestant.label: replace(result.contestant, cpus=None) for result in results}.values())
    versions = {side.label: side.family for side in sides}
    return report.Report({"cores": 2}, LIMITS, "", sides, versions, {}, list(results), "By hand.", **more)


def table_rows(text):
    """Cells of the rows of a Markdown table."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()[2:]]


def test_floor_of_fewer_threads_and_of_float64_by_hand():
    problem = PROBLEMS["fashion-b32"]
    assert problem.floor(LIMITS, 1) == pytest.approx(409_088 / 250e9 * 1e6)
    assert replace(problem, dtype="float64").floor(LIMITS) == pytest.approx(409_088 / 250e9 * 1e6)
    online = replace(PROBLEMS["digits-online"], dtype="float64")
    assert online.parameter_bytes == 2 * 9640  # more than 16 KiB, so the rate of 1 MiB counts
    assert online.floor(LIMITS) == pytest.approx((19_280 / 100 + 2 * 19_280 / 80) / 1e3)


def test_layers_on_one_line_and_epochs_of_a_shape():
    assert PROBLEMS["wide-b256"].layers == "784-2048x2-10"
    assert of_shape("small", (2, 2), 8).samples == 8 * 256
    deep = of_shape("deep", [4] * 201, 16, "float64")
    assert deep.samples == 16 * 4
    assert {array.dtype for array in (*deep.data(), *deep.initial_blocks())} == {np.dtype("float64")}


def test_threads_to_compare_are_powers_of_two_and_all_cores(monkeypatch):
    for cores, expected in ((1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])):
        monkeypatch.setattr(machine, "cores", lambda cores=cores: cores)
        assert machine.thread_counts() == expected


def test_a_restricted_contestant_runs_on_so_many_cpus():
    if not machine.can_restrict():  # not on this system: nothing that needs it is offered
        assert "cpus" not in curves.curves()
        assert run.on_more_cpus([COMPILED]) == []
        return
    before, seen = os.sched_getaffinity(0), []

    class Looking(Fnn):
        def train(self, epochs):
            seen.append(len(os.sched_getaffinity(0)))
            super().train(epochs)

    race.race(PROBLEMS["digits-b32"].quick(), [Contestant("fnn", "one CPU", Looking, cpus=1)], 1, 1e-9, HERE)
    assert set(seen) == {1}
    assert os.sched_getaffinity(0) == before
    with pytest.raises(ValueError, match=f"cpus: expected 1 to {len(before)}, got 0"), machine.restricted(0):
        pass


def test_limits_of_a_build_take_its_options(monkeypatch):
    commands = []

    def output(command):
        commands.append(command)
        return f"peak {command[1] if len(command) > 1 else 0}.5\n"

    monkeypatch.setattr(machine, "_output", output)
    limits = machine.measure_limits(1, (), machine.BUILD_FLAGS["x86-64-v3"], [1, 2, 4])
    assert "-march=x86-64-v3" in commands[0]
    assert "-march=native" not in commands[0]
    assert limits.peak_gflops == {1: 1.5, 2: 2.5, 4: 4.5}


class WrongFromOneStart(Fnn):
    def __init__(self, problem, rate, hidden="relu", backend="numpy"):
        super().__init__(problem, rate * (2 if problem.start == 1 else 1), hidden, backend)


def test_a_side_that_differs_from_one_start_only_is_timed():
    (result,) = race.race(
        PROBLEMS["digits-b32"].quick(), [Contestant("fnn", "unlucky", WrongFromOneStart)], 1, 1e-9, HERE
    )
    assert result.status == "timed"


def test_check_rate_is_smaller_where_training_would_diverge():
    assert race.check_rate(PROBLEMS["digits-b32"].quick()) == race.CHECK_RATE
    steep = of_shape("steep", (484, *[781] * 3, 2686), 1)
    rate = race.check_rate(steep)
    assert rate < race.CHECK_RATE / 10
    small = steep.check()
    reference = race.reference(steep, "relu")
    assert (
        disagreement(small, small.initial_blocks(), reference, in_double(small, small.initial_blocks(), rate)) is None
    )


def test_float64_is_checked_to_its_own_rounding():
    problem = replace(PROBLEMS["digits-b32"].quick(), dtype="float64")
    small, start = problem.check(), problem.initial_blocks()
    reference = race.reference(problem, "relu")
    assert disagreement(small, start, reference, in_double(small, start, race.check_rate(problem))) is None
    in_single = [block.astype(np.float32).astype(np.float64) for block in reference]
    assert disagreement(small, start, reference, in_single) is not None


def test_builds_and_scaling_by_hand():
    problem = PROBLEMS["fashion-b32"]
    floor = 409_088 / 500e3  # microseconds on two cores
    half = replace(LIMITS, peak_gflops={1: 125.0, 2: 250.0})
    scaling = [took(problem, replace(COMPILED, label=f"on {n}", cpus=n), 4 * floor / n) for n in (1, 2)]
    failed = replace(scaling[0], contestant=replace(COMPILED, cpus=2), status="failed", note="no room")
    whole = a_report(
        [took(problem, COMPILED, 4 * floor), took(problem, NUMPY, 9.0)],
        build_limits={COMPILED.label: half}, scaling=[*scaling, failed],
    )  # fmt: skip
    assert table_rows(report.builds_table(whole)) == [["fashion-b32", "50 %"]]
    assert table_rows(report.peaks_table(whole.build_limits)) == [["fnn x86-64-v3", "125", "250"]]
    times = [report.number(4 * floor), report.number(2 * floor)]
    assert table_rows(report.scaling_table(whole)) == [
        ["fashion-b32", "1", times[0], "1.00x", "50 %"],
        ["fashion-b32", "2", times[1], "2.00x", "50 %"],
        ["fashion-b32", "2", "failed", "-", "-"],
    ]
    text = report.markdown(whole)
    assert report.builds_table(whole) in text
    assert report.scaling_table(whole) in text
    assert "Not timed: fnn x86-64-v3 on fashion-b32 failed: no room." in text
    records = report.records(whole)
    assert [record["cpus"] for record in records] == [None, None, 1, 2, 2]
    assert records[0]["build_floor_us"] == pytest.approx(2 * floor)
    assert records[0]["share_of_build_floor"] == pytest.approx(0.5)
    assert records[1]["build_floor_us"] is None


def test_scaling_takes_the_best_compiled_backend(monkeypatch):
    monkeypatch.setattr(machine, "cores", lambda: 4)
    baseline = Contestant("fnn", "fnn baseline", Fnn, {"backend": "baseline"})
    found = run.on_more_cpus([COMPILED, baseline, NUMPY, TORCH])
    assert [(c.label, c.cpus, c.options) for c in found] == [
        (f"fnn x86-64-v3 on {n} CPUs", n, COMPILED.options) for n in (1, 2, 4)
    ]
    assert run.on_more_cpus([NUMPY, TORCH]) == []


def test_curves_and_sweep_race_the_chosen_backend_and_numpy():
    found = [contestant.label for contestant in chosen_contestants(("fnn", "torch"))]
    assert found == [*dict.fromkeys((f"fnn {fnn.backend()}", "fnn numpy")), "PyTorch"]


def test_a_curve_is_raced_written_and_drawn(tmp_path, monkeypatch, capsys):
    tiny = curves.Curve(
        "width", "w-2 network, online", "width w", {w: of_shape(f"width {w}", (w, 2), 1) for w in (2, 4)}
    )
    cpus = curves.Curve("cpus", "8-2 network", "CPUs", {1: of_shape("cpus 1", (8, 2), 8)}, over_cpus=True)
    monkeypatch.setattr(curves, "curves", lambda: {"width": tiny, "cpus": cpus})
    monkeypatch.setattr(session, "measured_limits", lambda quick, threads: (LIMITS, ""))
    assert curves.main(["--quick", "--rounds", "1", "--output", str(tmp_path)], lambda families: [NUMPY], HERE) == 0
    stem = f"{machine.slug(machine.describe())}-curves"
    output = capsys.readouterr().out
    page = (tmp_path / f"{stem}.md").read_text(encoding="utf-8")
    rows = read_csv(tmp_path / f"{stem}.csv")
    assert [(row["workload"], row["cpus"]) for row in rows] == [("width 2", ""), ("width 4", ""), ("cpus 1", "1")]
    for name, curve in (("width", tiny), ("cpus", cpus)):
        drawn = (tmp_path / f"{stem}-{name}.svg").read_text(encoding="utf-8")
        for text in (curve.axis, curve.title, "microseconds per training sample", "share of the floor", "fnn numpy"):
            assert text in drawn
        assert f"({stem}-{name}.svg)" in page
    for row in rows:
        assert report.number(float(row["best_us"])) in output
        assert report.number(float(row["best_us"])) in page


def test_points_of_a_curve_are_numbers_times_and_shares():
    curve = curves.Curve(
        "cpus", "", "CPUs", {n: replace(PROBLEMS["fashion-b32"], name=f"cpus {n}") for n in (1, 2)}, True
    )
    own = [took(curve.points[n], replace(COMPILED, cpus=n), 8.0 / n) for n in (1, 2)]
    whole = a_report([*own, replace(own[0], contestant=TORCH, status="failed")])
    floor = 409_088 / 250e3
    (points,) = curves.series(curve, whole).values()
    assert points == [(1, 8.0, pytest.approx(floor / 8)), (2, 4.0, pytest.approx(floor / 8))]


def test_curves_are_what_they_say():
    found = curves.curves()
    assert {"width", "width-online", "depth", "batch"} <= set(found)
    for number, problem in found["depth"].points.items():
        assert len(problem.shapes) == number
    for number, problem in found["batch"].points.items():
        assert problem.batch == number
    for name in ("width", "width-online"):
        assert all(problem.sizes == (number,) * 3 for number, problem in found[name].points.items())
    assert list(curves.thinned(found["width"].points)) == [4, 128, 2048]


def test_without_matplotlib_curves_name_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SystemExit, match=r"pip install '\.\[bench\]'"):
        curves.parse([])
    assert curves.parse(["--quick"]).output is None


def test_shapes_are_many_bounded_and_the_same():
    found = sweep.shapes()
    assert found == sweep.shapes()
    assert len(found) >= 60
    assert len({problem.name for problem in found}) == len(found)
    for problem in found:
        assert 1 <= min(problem.sizes) <= max(problem.sizes) <= 4096
        assert 1 <= problem.batch <= 1024
        assert 1 <= len(problem.shapes) <= 200
        assert problem.batch * problem.operations <= 1e9
        assert problem.parameters <= 20e6
    assert {problem.batch == 1 for problem in found if problem.dtype == "float64"} == {True, False}
    assert {problem.batch == 1 for problem in found if problem.dtype == "float32"} == {True, False}
    assert max(len(problem.shapes) for problem in found) > 100
    assert max(max(problem.sizes) for problem in found) > 3000


@pytest.mark.parametrize(("others", "status"), [((30.0, 20.0), 0), ((30.0, 9.0), 1)])
def test_a_sweep_lists_losses_and_ends_with_their_status(others, status, monkeypatch, capsys):
    monkeypatch.setattr(session, "measured_limits", lambda quick: (LIMITS, ""))
    times = iter((others, (11.0, 50.0)))

    def raced(problem, sides, rounds, seconds, place):
        return [took(problem, side, time) for side, time in zip(sides, (10.0, *next(times)), strict=True)]

    monkeypatch.setattr(sweep, "race", raced)
    sides = [replace(COMPILED, label="fnn best"), NUMPY, replace(NUMPY, family="torch", label="PyTorch")]
    assert sweep.main(["--only", "1..2"], lambda families: sides, HERE) == status
    output = capsys.readouterr().out
    rows = table_rows("\n".join(line for line in output.splitlines() if line.startswith("|")))
    first, second = ("01", "3.00", f"{others[1] / 10:.2f}"), ("02", "1.10", "5.00")
    assert [(row[0], row[5], row[6]) for row in rows] == ([first, second] if status else [second, first])
    assert f"fnn is slower than another side on {status} of 2 shapes." in output
    assert ("1.11x SLOWER than PyTorch" in output) == bool(status)


def test_a_sweep_in_which_fnn_disagrees_fails(monkeypatch, capsys):
    monkeypatch.setattr(session, "measured_limits", lambda quick: (None, "not here"))
    monkeypatch.setattr(report, "NUMPY", "another")
    sides = [Contestant("fnn", "fnn wrong", TwiceTheRate), replace(NUMPY, family="torch", label="PyTorch")]
    assert sweep.main(["--only", "3", "--quick", "--rounds", "1"], lambda families: sides, HERE) == 1
    assert " disagrees |" in capsys.readouterr().out


def test_parts_of_a_sweep():
    assert sweep.parse([]).output == session.RESULTS
    assert sweep.parse([]).only == slice(0, sweep.COUNT)
    assert sweep.parse(["--only", "2..4"]).only == slice(1, 4)
    assert sweep.parse(["--only", "7"]).only == slice(6, 7)
    assert sweep.parse(["--only", "7"]).output is sweep.parse(["--quick"]).output is None
    for wrong in ("0", "4..2", f"1..{sweep.COUNT + 1}", "x"):
        with pytest.raises(SystemExit):
            sweep.parse(["--only", wrong])


def counting(per_sample):
    """A stand-in for valgrind: a start that costs a million, and so much a sample."""
    return lambda name, build, epochs: 1_000_000 + epochs * counts.COUNTED[name].samples * per_sample[build]


def test_counts_are_written_and_checked(tmp_path, capsys):
    page = tmp_path / "counts.md"
    assert counts.main(["--check"], counting({"x86-64-v3": 100, "baseline": 300}), page) == 2
    assert counts.main(["--workloads", "xor-online"], counting({"x86-64-v3": 100, "baseline": 300}), page) == 0
    assert not page.exists()
    assert counts.main([], counting({"x86-64-v3": 100, "baseline": 300}), page) == 0
    assert counts.read(page) == {(n, b): c for n in counts.COUNTED for b, c in (("x86-64-v3", 100), ("baseline", 300))}
    before = page.read_text(encoding="utf-8")
    capsys.readouterr()
    assert counts.main(["--check"], counting({"x86-64-v3": 80, "baseline": 301}), page) == 0
    rows = table_rows(capsys.readouterr().out)
    assert rows[:2] == [
        ["xor-online", "x86-64-v3", "100.0", "80.0", "-20.00 %"],
        ["xor-online", "baseline", "300.0", "301.0", "+0.33 %"],
    ]
    assert counts.main(["--check"], counting({"x86-64-v3": 102, "baseline": 300}), page) == 1
    assert "+2.00 % GREW" in capsys.readouterr().out
    assert page.read_text(encoding="utf-8") == before


def test_instructions_are_what_valgrind_prints(tmp_path, monkeypatch):
    program = tmp_path / "valgrind"
    program.write_text('#!/bin/sh\necho "==1== I   refs:      1,234,567" >&2\n[ $PYTHONHASHSEED = 0 ]\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert counts.instructions("xor-online", "baseline", 2) == 1_234_567
    program.write_text("#!/bin/sh\necho no >&2\n")
    with pytest.raises(counts.CountError, match="printed no 'I refs'"):
        counts.instructions("xor-online", "baseline", 2)
    program.write_text("#!/bin/sh\necho unhandled instruction >&2\nexit 3\n")
    with pytest.raises(counts.CountError, match="status 3:\nunhandled instruction"):
        counts.instructions("xor-online", "baseline", 2)
    program.unlink()
    with pytest.raises(counts.CountError, match="there is no valgrind"):
        counts.instructions("xor-online", "baseline", 2)


@pytest.mark.parametrize("name", counts.COUNTED)
def test_what_is_counted_trains(name, monkeypatch):
    trained = []
    monkeypatch.setattr(fnn.Network, "fit", lambda self, *data, **options: trained.append(options["epochs"]))
    counts.train(name, "numpy", 3)
    assert trained == [3]


def test_calls_are_timed(capsys, monkeypatch):
    monkeypatch.setattr(calls, "SECONDS", 0)
    monkeypatch.setattr(calls, "SETTLE_SECONDS", 0)
    monkeypatch.setattr(calls, "words", calls.digits)
    names = ("predict, 1 row, 64-100-10", "partial_fit, 32 rows", *list(calls.CALLS)[-2:])  # of each kind the shortest
    monkeypatch.setattr(calls, "CALLS", {name: calls.CALLS[name] for name in names})
    assert calls.main(["--quick"]) == 0
    head, line, *rows = capsys.readouterr().out.splitlines()
    assert head == f"| {fnn.backend()}, us a call | scikit-learn | fnn | ratio |"
    assert line == "|---|---|---|---|"
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows] == [*calls.CALLS]
    figures = np.array([[float(value) for value in row.removesuffix(" |").split(" | ")[1:]] for row in rows])
    np.testing.assert_allclose(figures[:, 2], figures[:, 0] / figures[:, 1], rtol=0.06)


def test_passes_are_timed(capsys):
    assert passes.main(["--quick"]) == 0
    tables = capsys.readouterr().out.split("\n\n")
    heads = [fnn.backend(), f"of the time of {passes.FIT}", "times as fast as the C++ class"]
    figures = []
    for table, head, names in zip(tables, heads, ([*passes.WAYS, passes.FIT], passes.WAYS, passes.WAYS), strict=True):
        first, line, *rows = table.splitlines()
        assert first == f"| {head} | 64-32-10 | 64-32-10, half zeros | 784-128-10 | 784-128-10, half zeros |"
        assert line == "|---|---|---|---|---|"
        assert [row.split(" | ")[0].removeprefix("| ") for row in rows] == [*names]
        figures.append(np.array([[float(value) for value in row.removesuffix(" |").split(" | ")[1:]] for row in rows]))
    assert all((values > 0).all() for values in figures)
    np.testing.assert_allclose(figures[0][:-1] * figures[2], [[3.5, 3.5, 132, 132]] * len(passes.WAYS), rtol=0.02)


def test_two_commits_are_compared(monkeypatch, capsys):
    monkeypatch.setattr(sys, "path", [*sys.path])
    source = Path(fnn.__file__).parents[1]
    asked = []

    def install(revision, folder):
        asked.append(revision)
        return source

    command = ["before", "--quick", "--workloads", "xor-online", "digits-b32", "--backend", "numpy", "--rounds", "2"]
    assert compare.main(command, install, HERE) == 0
    assert asked == ["before", None]
    output = capsys.readouterr().out
    assert "A: before; B: working tree." in output
    rows = table_rows("\n".join(line for line in output.splitlines() if line.startswith("|")))
    assert [row[0] for row in rows] == ["xor-online", "digits-b32"]
    assert all(float(row[3]) > 0 for row in rows)


def test_fnn_from_elsewhere_than_the_built_folder_fails(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "path", [*sys.path])
    command = ["a", "b", "--quick", "--workloads", "xor-online"]
    assert compare.main(command, lambda revision, folder: tmp_path, HERE) == 1
    assert "Not timed: A on xor-online failed: ImportError: expected fnn from" in capsys.readouterr().out


def test_a_commit_that_does_not_build_ends_the_comparison(capsys):
    def install(revision, folder):
        raise build.BuildError(f"no such commit: {revision}")

    assert compare.main(["nowhere"], install, HERE) == 2
    assert "no such commit: nowhere" in capsys.readouterr().err


def test_ratios_are_taken_round_by_round():
    problem = PROBLEMS["digits-b32"]
    a = took(problem, replace(COMPILED, label="A"), 2.0, 4.0, 6.0, 8.0, 10.0)
    b = replace(took(problem, replace(COMPILED, label="B"), 4.0, 4.0, 4.0, 4.0, 4.0), epochs=2)
    assert compare.ratios(a, b) == pytest.approx((2.0, 3.0, 4.0))
    assert compare.ratios(took(problem, COMPILED, 3.0), took(problem, NUMPY, 2.0)) == pytest.approx((1.5,) * 3)
    failed = replace(b, status="failed")
    rows = table_rows(compare.table([(a, b), (a, failed)]))
    assert rows[0][1:] == ["2.00", "2.00", "3.000", "2.000 to 4.000"]
    assert rows[1][1:] == ["2.00", "failed", "-", "-"]


def test_sources_are_those_of_the_commit_or_of_the_working_tree(tmp_path):
    root = tmp_path / "root"

    def git(*words):
        names = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
        subprocess.run(["git", "-C", str(root), *names, *words], check=True, capture_output=True)

    (root / "src").mkdir(parents=True)
    for name, text in ((".gitignore", "*.so\n"), ("src/kept.py", "old"), ("gone.py", "old")):
        (root / name).write_text(text)
    git("init")
    git("add", "-A")
    git("commit", "-m", "first")
    (root / "src" / "kept.py").write_text("new")
    (root / "gone.py").unlink()
    for name in ("added.py", "built.so"):
        (root / name).write_text("new")

    def taken(revision):
        folder = build.take_sources(revision, tmp_path / f"from {revision}", root)
        return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}

    assert taken("HEAD") == {".gitignore": "*.so\n", "src/kept.py": "old", "gone.py": "old"}
    assert taken(None) == {".gitignore": "*.so\n", "src/kept.py": "new", "added.py": "new"}
    with pytest.raises(build.BuildError, match="ended with status 128"):
        taken("nowhere")


def stand_in_wheel(folder, kilobytes):
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "fnn-1-any.whl", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("fnn/_fast.so", np.random.default_rng(0).bytes(1000 * kilobytes))
        file.writestr("fnn/__init__.py", "x" * 500_000)
    return folder / "fnn-1-any.whl"


@pytest.mark.parametrize(("kilobytes", "most_seconds", "status"), [(20, 180, 0), (4100, 180, 1), (20, -1, 1)])
def test_a_wheel_beyond_its_bounds_fails(kilobytes, most_seconds, status, monkeypatch, capsys):
    monkeypatch.setattr(build, "take_sources", lambda revision, folder: folder)
    monkeypatch.setattr(build, "build_wheel", lambda sources, folder: stand_in_wheel(folder, kilobytes))
    monkeypatch.setattr(build, "MOST_SECONDS", most_seconds)
    assert build.main([]) == status
    output = capsys.readouterr().out
    (library, others) = table_rows("\n".join(line for line in output.splitlines() if line.startswith("|")))
    assert library[:2] == ["fnn/_fast.so", f"{kilobytes / 1000:.3f}"]
    assert others[:2] == ["all other files", "0.500"]
    assert ("TOO LARGE: a wheel of 4.10 MB" in output) == (kilobytes > 4000)
    assert ("TOO SLOW: built in" in output) == (most_seconds < 0)


def test_sources_that_do_not_build_say_why(monkeypatch, capsys, tmp_path):
    (tmp_path / "setup.py").write_text("raise SystemExit('nothing here compiles')")
    monkeypatch.setattr(build, "take_sources", lambda revision, folder: tmp_path)
    assert build.main([]) == 2
    assert "nothing here compiles" in capsys.readouterr().err


# ---- depth_study.py ------------------------------------------------------------------------------


@pytest.fixture
def small_study(monkeypatch):
    """Everything of the study, of nearly nothing."""
    monkeypatch.setattr(depth_study, "QUICK_DEPTHS", (2, 6))
    monkeypatch.setattr(depth_study, "QUICK_SEEDS", (0,))
    monkeypatch.setattr(depth_study, "FLOW_DEPTHS", (6,))
    monkeypatch.setattr(depth_study, "DRAWN_FLOW", ("digits", 6, 0))
    for name in ("RATES", "ONLINE_RATES", "FINE_RATES"):
        monkeypatch.setattr(depth_study, name, (0.0625, 0.0009765625))
    for name, make in depth_study.PROBLEMS.items():
        data = make()
        few = replace(data, x=data.x[:256], y=data.y[:256], epochs=2)
        monkeypatch.setitem(depth_study.PROBLEMS, name, lambda few=few: few)
    monkeypatch.setattr(depth_study, "ProcessPoolExecutor", ThreadPoolExecutor)


def test_a_study_of_depth_goes_on_where_it_ended(small_study, tmp_path, capsys):
    command = ["--quick", "--workers", "1", "--output", str(tmp_path)]
    assert depth_study.main([*command, "--seconds", "0"]) == 0
    everything = len(list(depth_study.tasks((2, 6), (0,))))
    assert f"{everything} runs are missing" in capsys.readouterr().out
    assert depth_study.main(command) == 0
    assert "0 runs are missing" in capsys.readouterr().out
    table = (tmp_path / "depth.csv").read_text(encoding="utf-8")
    (tmp_path / "depth.csv").write_text(table[: table.rindex(",")], encoding="utf-8")  # cut short in its last row
    assert depth_study.main(command) == 0
    text = (tmp_path / "depth.md").read_text(encoding="utf-8")
    assert all(f"| {way} |" in text for way in depth_study.WAYS)
    assert len(list(tmp_path.glob("depth-flow-*.svg"))) == 3
    assert depth_study.main([*command, "--times"]) == 0
    timed = [run for run in depth_report.Table(tmp_path / "depth.csv").runs if run.microseconds > 0]
    assert {(run.problem, run.depth, run.way) for run in timed} == {
        *itertools.product(depth_study.PROBLEMS, (2, 6), depth_study.TIMED_WAYS)
    }
    assert len(timed) == 8
    times = re.findall(r"\| (\S+), (\S+) \|$", (tmp_path / "depth.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert times == [
        tuple(f"{run.microseconds:.2f}" for run in sorted(pair, key=lambda run: run.way))
        for _, pair in itertools.groupby(timed, key=lambda run: (run.problem, run.depth))
    ]
    for name in ("depth-scores.svg", "depth-rates.svg"):
        assert (tmp_path / name).read_text(encoding="utf-8").startswith("<?xml")


def test_networks_of_the_study_are_what_they_say():
    data = depth_study.digits()
    net = depth_study.network(data, depth_study.WAYS["skip to the first layer"], 10, 0)
    assert [skip.distance for skip in net.layout.skips] == [0, 0, 0, 0, 3, 0, 0, 0, 7, 0]
    net = depth_study.network(data, depth_study.WAYS["skip, added"], 10, 0)
    assert [skip for skip in net.layout.skips if skip.distance] == [(3, "add"), (3, "add")]
    net = depth_study.network(data, depth_study.WAYS["rates, geometric"], 3, 0)
    assert net.layout.rate_scales == pytest.approx((100, 10, 1))


def test_curvature_is_the_largest_eigenvalue(monkeypatch):
    """One linear layer and squared error: the second derivatives are 2 E x x^T, the constant input among x."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 3)), rng.normal(size=(50, 1))
    data = depth_study.Data(x, y, x, y, "identity", "squared_error", 1.0, 1)
    monkeypatch.setitem(depth_study.PROBLEMS, "line", lambda: data)
    monkeypatch.setattr(depth_study, "POWER_STEPS", 200)
    (run,) = depth_study.by_curvature("line", 1, 0)
    inputs = np.hstack([x, np.ones((50, 1))])
    assert run.rate == pytest.approx(2 / np.linalg.eigvalsh(2 * inputs.T @ inputs / 50).max(), rel=1e-4)


def test_the_best_rate_has_the_least_median_loss_and_powers_are_fitted():
    runs = [
        depth_report.Run("ways", "digits", "plain", 2, seed, rate, last=rate * seed)
        for seed in (1, 2)
        for rate in (3, 5)
    ]
    assert {run.rate for run in depth_report.best(runs)} == {3}
    falls = [depth_report.Run("largest", "digits", "plain", depth, 0, 7 / depth) for depth in (2, 10, 50)]
    assert depth_report.exponent([*falls, replace(falls[0], depth=100, rate=0.0)]) == pytest.approx([-1])


# ---- estimators.py -------------------------------------------------------------------------------


def without_penalty(kind):
    return partial(getattr(fnn, kind), alpha=1.0)


def without_estimators(kind):
    raise MemoryError("no room")


def test_estimators_are_checked_raced_and_written(tmp_path, capsys):
    names = ["wine-adam", "diabetes-sgd"]
    command = ["--quick", "--output", str(tmp_path), "--workloads"]
    assert estimators.main([*command, names[0]], place=HERE) == 0
    assert estimators.main([*command, names[1]], place=HERE) == 0
    rows = estimators.read(tmp_path / "estimators.csv")
    assert [(row.workload, row.status) for row in rows] == [(name, "timed") for name in names]
    assert [(row.layers, row.rows, row.sklearn_epochs) for row in rows] == [("13-100-3", 133, 2), ("10-100-1", 331, 2)]
    for row in rows:
        assert row.ratio == pytest.approx(row.sklearn_seconds / row.fnn_seconds)
        assert row.sklearn_score == pytest.approx(row.fnn_score)
    page = (tmp_path / "estimators.md").read_text(encoding="utf-8")
    assert estimators.table(rows) in page
    assert "version of scikit-learn" in page
    assert estimators.table(rows[1:]) in capsys.readouterr().out


@pytest.mark.parametrize(
    ("broken", "status", "note"),
    [(without_penalty, "disagrees", "losses differ by"), (without_estimators, "failed", "MemoryError: no room")],
)
def test_estimators_that_differ_or_fail_are_not_timed(broken, status, note, capsys):
    finders = (estimators.theirs, broken)
    assert estimators.main(["--quick", "--workloads", "wine-sgd"], finders, HERE) == 1
    output = capsys.readouterr().out
    assert table_rows(output)[0][5] == status
    assert f"Not timed: wine-sgd {status}: {note}" in output


@pytest.mark.parametrize(("limit", "seeds"), [("0", 1), ("1000", 3)])
def test_estimators_begin_no_seed_after_the_limit(limit, seeds, tmp_path):
    command = ["--quick", "--rounds", "3", "--limit", limit, "--workloads", "wine-sgd", "--output", str(tmp_path)]
    assert estimators.main(command, place=HERE) == 0
    (row,) = estimators.read(tmp_path / "estimators.csv")
    assert (row.seeds, row.status) == (seeds, "timed")


def test_estimators_that_were_timed_stay_if_the_run_is_ended(tmp_path, monkeypatch):
    original = estimators.raced

    def interrupted(workload, *arguments):
        if workload.name == "wine-adam":
            raise KeyboardInterrupt
        return original(workload, *arguments)

    monkeypatch.setattr(estimators, "raced", interrupted)
    with pytest.raises(KeyboardInterrupt):
        estimators.main(["--quick", "--output", str(tmp_path), "--workloads", "wine-sgd", "wine-adam"], place=HERE)
    assert [row.workload for row in estimators.read(tmp_path / "estimators.csv")] == ["wine-sgd"]


def test_estimators_are_compared_in_few_updates_where_rounding_grows():
    single, double = (estimators.WORKLOADS[f"fashion-512-512-adam{ending}"] for ending in ("-float32", ""))
    assert estimators.checked_first(single) == replace(single, max_iter=1, rows=2_000)
    assert estimators.checked_first(double) == replace(double, max_iter=1)
    small = estimators.WORKLOADS["wine-adam"]
    assert estimators.checked_first(small) == replace(small, max_iter=20)
    few = replace(small, max_iter=2, rows=40)
    assert estimators.fitted(estimators.ours, few, 0).rows == 40


def test_short_fits_of_estimators_are_repeated(monkeypatch):
    fits, clock = [], itertools.count()

    class Counted(estimators.ours("MLPClassifier")):
        def fit(self, x, y):
            fits.append(len(x))
            return super().fit(x, y)

    monkeypatch.setattr(estimators.time, "perf_counter", lambda: next(clock) * 0.25)
    few = replace(estimators.WORKLOADS["wine-sgd"], max_iter=2, rows=40)
    assert estimators.fitted(lambda kind: Counted, few, 0, least_seconds=0.6).seconds == 0.25
    assert fits == [40, 40, 40]
    assert estimators.fitted(lambda kind: Counted, few, 0).seconds == 0.25
    assert fits == [40, 40, 40, 40]


def test_estimators_that_lose_are_named():
    row = estimators.Row("wine-adam", "adam", "float64", "cpu", ratio=0.5, seeds=3)
    assert "0.50 SLOWER" in estimators.table([row])
    assert "fnn is slower on 1 of 2 workloads: wine-adam." in estimators.notes([row, replace(row, ratio=2.0)])
    a = estimators.Fitted(1.0, 0.9, [0.5, 0.4], 2, 9, (2, 1))
    workload = estimators.WORKLOADS["wine-adam"]
    assert estimators.difference(workload, a, replace(a, seconds=2.0)) == ""
    assert "scores 0.9000 and 0.8000" in estimators.difference(workload, a, replace(a, score=0.8))
    assert "2 epochs of scikit-learn, 1 of fnn" in estimators.difference(workload, a, replace(a, losses=[0.5]))
    assert "losses differ by nan" in estimators.difference(workload, a, replace(a, losses=[0.5, float("nan")]))


def test_estimators_without_fashion_mnist_take_data_of_its_size(monkeypatch, tmp_path):
    monkeypatch.setattr(fashion, "FOLDER", tmp_path / "nowhere")
    made = []

    def make(*size, **_):
        made.append(size)
        return np.zeros((70_000, 1)), np.zeros(70_000)

    monkeypatch.setattr(estimators.datasets, "make_classification", make)
    assert [len(array) for array in estimators.clothes()] == [60_000, 60_000, 10_000, 10_000]
    assert made == [(70_000, 784)]
