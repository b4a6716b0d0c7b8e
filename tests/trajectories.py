"""Golden trajectories replayed: the class's own runs (data/README.md), compared in every recorded array, bit for bit.

`replay` goes through the public class, so that what is checked is the backend in use; test_can_fail.py puts kernels
that were broken on purpose in its place.
"""

import json
import re
from pathlib import Path

import numpy as np

import fnn

DATA = Path(__file__).with_name("data")
NAMES = sorted(path.stem for path in DATA.glob("*.npz"))
RENAMED = {"effective_decrease_rate": "effecttiveDecreaseRate"}  # the class's spelling
FINAL = {"outputs_final", "highest_final", "checkpoint_final"}
GIVEN = {"config", "inputs", "targets", "weights_initial", "corners_initial", "counts", "effective_counts_initial"}


def read(name):
    with np.load(DATA / f"{name}.npz") as data:
        return json.loads(str(data["config"])), {key: data[key] for key in data.files}


def options(config):
    """fnn.Options from the C++ names of a config."""
    fields = fnn.Options.__dataclass_fields__
    return fnn.Options(**{name: config[RENAMED.get(name, camel(name))] for name in fields})


def camel(name):
    return re.sub(r"_(\w)", lambda match: match[1].upper(), name)


def new_network(config, run):
    network = fnn.FloatNeuralNet(config["levels"], config["activation"].lower(), options(config))
    start = 0
    for level in range(1, len(config["levels"])):
        shape = (config["levels"][level - 1] + 1, config["levels"][level])
        network.set_level(level, run["weights_initial"][start : start + shape[0] * shape[1]].reshape(shape))
        start += shape[0] * shape[1]
    if "corners_initial" in run:
        corners, start = run["corners_initial"].reshape(-1, 3), 0
        for level, own in enumerate(config["levels"][1:], start=1):
            network.set_corners(level, corners[start : start + own])
            start += own
    return network


def at_end(network):
    """What is recorded between the end of a pass and apply_gradient."""
    return {
        "total_gradient": network.total_gradient,
        "total_corners_gradient": network.total_corners_gradient,
        **readings(network),
    }


def readings(network):
    """What is recorded at the end of a pass and stays so until the next one."""
    return {
        "abs_error": network.abs_error,
        "squared_error": network.squared_error,
        "effective_squared_error": network.effective_squared_error,
        "gradient_norm2_all": network.all_gradient_norm2(),
        "gradient_norm2_level": [0.0, *map(network.level_gradient_norm2, range(1, len(network.levels)))],
        "correct": network.pass_correct,
        "incorrect": network.pass_incorrect,
        "above": network.pass_above,
        "not_above": network.pass_not_above,
        "pass_size": network.pass_size,
        "effective_pass_size": network.effective_pass_size,
    }


def after_all(network, effective):
    """What is recorded after everything that a pass does."""
    usage = [network.usage(level) for level in range(len(network.levels))]
    return {
        "weights": network.weights,
        "corners": network.corners,
        "training_pass": network.training_pass,
        "usage": np.concatenate(usage),
        "training_rate": network.training_rate,
        "auto_rate2_adj": network.auto_rate2_adj,
        "momentum_t": network.momentum_t,
        **({} if effective is None else {"effective_counts": effective.copy()}),
    }


def run_by_calls(network, config, run, effective):
    """One pass, a call per sample and per step."""
    counts = run.get("counts")
    network.start_training_pass()
    for n, (x, y) in enumerate(zip(run["inputs"], run["targets"], strict=True)):
        given = {} if counts is None else {"count": counts[n]}
        if effective is not None:
            given["effective_count"] = effective[n : n + 1]
        network.train(x, y, config["train_rate"], **given)
    network.end_training_pass()
    record = at_end(network)
    undone = config["apply_rate"] != 0 and network.apply_gradient(config["apply_rate"])
    reclaimed = network.reclaim(config["reclaim_max_unused"]) if config["reclaim"] else 0
    return record | {"undone": undone, "reclaimed": reclaimed}


def run_as_whole(network, config, run, effective):
    """One pass in one call; its gradient can no longer be seen as it was before it was applied."""
    undone, reclaimed = network.train_pass(
        run["inputs"],
        run["targets"],
        rate=config["train_rate"],
        apply_rate=config["apply_rate"],
        reclaim=config["reclaim"],
        max_unused=config["reclaim_max_unused"],
        count=run.get("counts", 1),
        effective_count=effective,
    )
    return readings(network) | {"undone": undone, "reclaimed": reclaimed}


def replay(name, run_pass, folder):
    """Assert that a run repeats a golden trajectory in every array that was recorded of it."""
    config, run = read(name)
    network = new_network(config, run)
    effective = run["effective_counts_initial"].copy() if "effective_counts_initial" in run else None
    seen = set()
    for number in range(config["n_passes"]):
        record = run_pass(network, config, run, effective) | after_all(network, effective)
        for key, value in record.items():
            same(value, run[key][number], f"{name}: {key} of pass {number + 1}")
        seen |= set(record)
        if config["restore_at_pass"] == number + 1:
            network.checkpoint(folder / "restore")
            network = fnn.FloatNeuralNet(config["levels"], config["activation"].lower(), options(config))
            network.uncheckpoint(folder / "restore")
    outputs, highest = network.compute(run["inputs"])
    same(outputs, run["outputs_final"], f"{name}: outputs")
    same(highest, run["highest_final"], f"{name}: highest")
    network.checkpoint(folder / "final")
    assert (folder / "final").read_bytes() == run["checkpoint_final"].tobytes(), f"{name}: checkpoint"
    return set(run) - seen - FINAL - GIVEN  # what was not compared


def same(got, want, what):
    """Assert that two arrays hold the same numbers, bit for bit; -0 is not 0, and NaN is any NaN."""
    got, want = np.asarray(got, want.dtype), np.asarray(want)
    assert got.shape == want.shape, f"{what}: expected shape {want.shape}, got {got.shape}"
    right = got == want
    if want.dtype.kind == "f":
        right = (right & (np.signbit(got) == np.signbit(want))) | (np.isnan(got) & np.isnan(want))
    assert right.all(), f"{what}: {np.sum(~right)} of {right.size} differ: expected {want[~right]}, got {got[~right]}"
