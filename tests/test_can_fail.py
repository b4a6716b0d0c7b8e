"""Every agreement check turns red on a kernel that was broken on purpose.

What is broken is in breakages.py.  The NumPy twin is broken one breakage at a time.  The compiled kernels are built
once with all their breakages in them, each guarded by a switch; with the switch off that build must pass.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import agreement
import elementary
import fnn
from agreement import PAIRS, ByTwin, make_case
from breakages import NUMPY, PYX, SIMD, VECTOR_MATH
from compiling import PACKAGE, compiled
from fnn import _backprop_numpy as twin
from fnn._dropout import Draw
from fnn._formulas import ACTIVATIONS
from fnn._layout import Skip
from fnn._optimizers import Rule

PLAIN = Rule(0.02, 0.0, False, np.inf)
SATURATED = Rule(0.02, 0.0, False, 0.1)
MOMENTUM = Rule(0.01, 0.9, False, np.inf)
NESTEROV = Rule(0.01, 0.9, True, 0.1)
ADAM = Rule(0.01, 0.9, False, np.inf, True, 0.99, 0.1)
FISTA = Rule(0.002, 0.0, False, 0.5, fista=True, fast_brake=True)
FISTA_FIXED = Rule(0.002, 0.0, False, 0.5, fista=True, fast_brake=True, fixed_nu=True)
FLOORED = Rule(0.05, 0.0, False, np.inf, floor=0.0625)
FISTA_FLOORED = FISTA._replace(floor=0.03125)
INNER = ["identity", "relu", "leaky_relu", "tanh", "sigmoid", "corner"]


# ---- The checks, each on cases that reach every line it is to guard ------------------------------


def activate(kernels):
    z = np.linspace(-110, 110, 606).reshape(6, 101)
    z[5] = [np.nan, *np.geomspace(1e-9, 1, 100)]
    for name in INNER:
        for dtype in ("float32", "float64"):
            agreement.check_activate(kernels, (z * (1 if dtype == "float32" else 7)).astype(dtype), ACTIVATIONS[name])
    z = np.array([[3, -2, 0.5, 1, 0], [-3, 900, 899, 1, 0], [-900, -901, -899, -890, -900]])
    agreement.check_activate(kernels, z, ACTIVATIONS["softmax"])
    agreement.check_activate(kernels, z[:, :3].copy(), ACTIVATIONS["softmax"])
    agreement.check_activate(kernels, np.hstack([z[:, ::-1] - 2, z, z - 1, z[:, 1:] - 3]), ACTIVATIONS["softmax"])


def derivative_factor(kernels):
    v = np.array([[0.0, -0.0, 0.3, 0.7, 1.0]])
    for name in ("identity", "relu", "sigmoid"):
        agreement.check_derivative_factor(kernels, v, ACTIVATIONS[name])
    for name in ("identity", "leaky_relu", "tanh"):
        agreement.check_derivative_factor(kernels, np.hstack([v, -v]), ACTIVATIONS[name])


def shapes():
    """Several tiles, panels and chunks, none of them whole."""
    for hidden in INNER:
        yield make_case((5, 13, 23, 3), 19, hidden=hidden, output="tanh", seed=2)
    yield make_case((270, 11, 3), 3)
    yield make_case((2, 11, 270), 3)
    yield make_case((7, 5), 261)
    for thin in (1, 2, 4):
        yield make_case((7, 70, thin), 5)


def over_shapes(kernels, check):
    for case in shapes():
        check(kernels, case)


def output_delta(kernels):
    """Rows of more than 16, one at a time, and rows of one vector, of two and of two panels, several together."""
    kinds = [(*pair, False) for pair in PAIRS] + [("cross_entropy", "softmax", True)]
    for (loss, output, labels), width in product(kinds, (19, 11, 7, 3)):
        case = make_case((2, width), 9, output=output, loss=loss, labels=labels, seed=3)
        for spread in (1, 40):
            z = np.random.default_rng(4).normal(0, spread, (9, width)).astype("float32")
            agreement.check_output_delta(kernels, case, z, 0.3)
        capped = replace(case, loss=replace(case.loss, ceiling=0.9))
        agreement.check_output_delta(kernels, capped, z / 40, 0.3)
        z = np.full((9, width), 300, "float32")
        agreement.check_output_delta(kernels, case, z + np.arange(width, dtype="float32"), 0.3)


def ceiling(kernels):
    """As training counts losses, on outputs of one panel and of more."""
    for output, loss in (("sigmoid", "binary_cross_entropy"), ("softmax", "cross_entropy")):
        for outputs in (3, 70):
            case = make_case((7, outputs), 9, output=output, loss=loss, labels=output == "softmax")
            agreement.check_ceiling(kernels, replace(case, loss=replace(case.loss, ceiling=0.6)))


def saturated_update(kernels):
    for rule in (PLAIN, SATURATED, MOMENTUM, NESTEROV, ADAM, FISTA, FISTA_FIXED, FLOORED, FISTA_FLOORED):
        for size in (37, 48):
            agreement.check_saturated_update(kernels, size, "float32", rule._replace(rate=0.3))


def workspace(kernels):
    for sizes in ((5, 13, 3), (13, 270)):
        agreement.check_workspace(kernels, make_case(sizes, 1), 0.3)


def loss_and_gradient(kernels):
    for (loss, output), width in product(PAIRS, (4, 9, 19)):
        case = make_case((7, 13, width), 9, hidden="tanh", output=output, loss=loss)
        agreement.check_loss_and_gradient(kernels, case, 0.3)
    agreement.check_loss_and_gradient(kernels, make_case((300, 200, 4), 261), 0.3)  # too wide for halves
    agreement.check_loss_and_gradient(kernels, make_case((64, 90, 10), 67), 0.3, threads=3)


def batches(kernels):
    order = np.array([3, 1, 4, 1, 5, 9, 2, 6, 5, 3], np.intp)
    for hidden in ("relu", "tanh"):
        case = make_case((7, 13, 17, 3), 11, hidden=hidden)
        for rule in (PLAIN, SATURATED, MOMENTUM, NESTEROV, ADAM):
            agreement.check_train_epoch(kernels, case, order, rule, 4)
            agreement.check_train_epoch(kernels, case, order, rule, 4, mean=False, threads=3)
    for rule in (FISTA, FISTA_FIXED, FLOORED):
        agreement.check_train_epoch(kernels, case, order, rule, 4)
    agreement.check_train_epoch(kernels, case, order, FLOORED, 1)
    case = make_case((300, 13, 3), 11)  # sums of more than 256 terms
    agreement.check_train_epoch(kernels, case, order, PLAIN, 4)
    case = make_case((7, 13, 3), 600, hidden="tanh")
    order = np.random.default_rng(2).permutation(600)
    for rule, threads in product((SATURATED, NESTEROV), (1, 2)):
        agreement.check_train_epoch(kernels, case, order, rule, 270, threads=threads, halves=False)


def halves(kernels):
    """Batches of two chunks and of more; the gradient alone."""
    case = make_case((7, 13, 3), 600, hidden="tanh")
    for rule, threads in product((PLAIN, SATURATED, ADAM), (1, 2)):
        for batch_size in (101, 270):
            agreement.check_train_epoch(kernels, case, np.arange(600), rule, batch_size, threads=threads, halves=True)
    agreement.check_loss_and_gradient(kernels, case, 0.3)


def stages(kernels):
    """Two threads and more of them than layers; several waves, layers of a thread, and blocks of W^T; a penalty."""
    for dtype in ("float32", "float64"):
        case = make_case((7, 13, 40, 5, 3), 50, hidden="tanh", dtype=dtype)
        for rule, threads in product((PLAIN, NESTEROV._replace(alpha=0.3)), (2, 3, 7)):
            agreement.check_train_epoch(kernels, case, np.arange(50), rule, 33, threads=threads, stages=True)
    for sizes, rows in (((3, 4, 300, 2), 5), ((6, 9, 8, 7, 9, 8, 5, 3), 50)):
        case = make_case(sizes, rows, hidden="tanh")
        agreement.check_train_epoch(kernels, case, np.arange(rows), PLAIN, rows - 1, threads=2, stages=True)


def online(kernels):
    order = np.array([3, 1, 4, 1, 5, 9], np.intp)
    for hidden in INNER:
        for rule in (PLAIN, SATURATED):
            case = make_case((19, 23, 18, 3), 11, hidden=hidden)  # more inputs than are all taken
            agreement.check_train_epoch(kernels, case, order, rule, 1, threads=2)
            agreement.check_train_epoch(kernels, agreement.with_zeros(case, 0.5), order[:5], rule, 1)
            case = make_case((3, 4, 3, 2), 11, hidden=hidden, output="tanh")  # each layer in one vector
            agreement.check_train_epoch(kernels, case, order, rule, 1)
    case = make_case((19, 23, 18, 3), 11)
    agreement.check_train_epoch(kernels, case, order, SATURATED._replace(saturation=0.02), 1)  # all layers come to it
    agreement.check_rows_apart(kernels, agreement.with_zeros(make_case((70, 23, 3), 30), 0.9), PLAIN)
    for rule in (PLAIN, SATURATED):  # of so few zeros there are no lists
        case = agreement.with_one_zero(make_case((40, 23, 3), 11), 4, 5)
        agreement.check_train_epoch(kernels, case, order, rule, 1, threads=2)


def weighted(kernels):
    """Online, in batches of one chunk and of several; outputs of one panel and of more; narrow networks."""
    weights = np.resize([0.5, 0, 2, 1, 0, 0], 600).astype("f4")
    order = np.random.default_rng(1).permutation(600)
    wide, slender, narrow = (make_case(sizes, 600, hidden="tanh") for sizes in ((7, 13, 70), (19, 23, 3), (3, 4, 2)))
    for case, rows, batch_size in ((wide, 10, 4), (slender, 20, 4), (slender, 600, 270), (slender, 12, 1)):
        for mean in (True, False):
            rule = SATURATED._replace(rate=0.01 / (1 if mean else batch_size))
            agreement.check_train_epoch(
                kernels, case, order[:rows], rule, batch_size, mean=mean, threads=2, halves=False, weights=weights
            )
    # With the mean, a weight says nothing to training row by row, unless it is 0.
    agreement.check_train_epoch(kernels, narrow, np.arange(6), PLAIN, 1, mean=False, weights=weights)


def penalised(kernels):
    """Batches of one chunk and of several; row by row, and then without a penalty; a floor, on which padding stands."""
    case = make_case((40, 70, 35, 3), 600, hidden="tanh")
    for rule in (PLAIN, SATURATED, NESTEROV, ADAM):
        agreement.check_train_epoch(kernels, case, np.arange(10), rule._replace(alpha=0.3), 4, threads=2)
    small = make_case((7, 33, 35, 3), 600, hidden="tanh")
    for threads in (1, 2):
        for taken in (False, True):
            agreement.check_train_epoch(
                kernels, small, np.arange(600), NESTEROV._replace(alpha=9), 270, threads=threads, halves=taken
            )
    for batch_size in (4, 270):
        rule = SATURATED._replace(alpha=9, floor=0.03125)
        agreement.check_train_epoch(kernels, small, np.arange(2 * batch_size), rule, batch_size)
    rule = SATURATED._replace(alpha=0.3)
    agreement.check_train_epoch(kernels, small, np.arange(4), rule, 1)
    agreement.check_penalty_may_end(kernels, small, rule)


SKIPPING = {
    "sizes": (21, 37, 37, 37, 37, 23, 3),
    "skips": (Skip(), Skip(1, "concat"), Skip(), Skip(2, "concat"), Skip(3, "add"), Skip(3, "concat")),
}


def skips(kernels):
    """Two skips to one layer, some to the input, activations that start inside a panel."""
    case = make_case(**SKIPPING, rows=9, hidden="tanh")
    agreement.check_forward(kernels, case)
    agreement.check_backward(kernels, case)
    agreement.check_gradient(kernels, case)
    for batch_size in (1, 4):
        agreement.check_train_epoch(kernels, case, np.arange(6), PLAIN, batch_size, threads=2)


def rates(kernels):
    for sizes in ((19, 23, 18, 3), (3, 4, 3, 2)):
        case = make_case(sizes, 300, hidden="tanh", rate_scales=(4.0, 0.5, 0.25))
        agreement.check_train_epoch(kernels, case, np.arange(6), SATURATED, 1, threads=2)
        for batch_size in (4, 270):
            agreement.check_train_epoch(kernels, case, np.arange(max(batch_size, 6)), MOMENTUM, batch_size)


def updated(kernels):
    weights = np.array([0, 1, 0.5, 2, 1, 0], "float32")
    for shape in ({"sizes": (19, 23, 18, 3)}, SKIPPING):
        layers = len(shape["sizes"]) - 1
        case = make_case(**shape, rows=6, hidden="tanh", rate_scales=(4.0, 0.5, 0.25, 1.0, 1.0, 2.0)[:layers])
        agreement.check_train_through_updated(kernels, case, np.arange(6), SATURATED)
        agreement.check_train_through_updated(kernels, case, np.arange(6), PLAIN, weights, mean=False)
    case = make_case((19, 23, 18, 7, 3), 9, hidden="tanh")  # some layers keep W^T beside W
    agreement.check_train_through_updated(kernels, case, np.arange(2), PLAIN._replace(rate=0.3))
    agreement.check_updated_may_end(kernels, case, PLAIN)


def corners(kernels):
    """Inside and at the output: each part, batches of one chunk, of several, of one row, as halves, by neurons."""
    shape = {"hidden": "corner", "output": "corner", "dtype": "float64", "rate_scales": (2.0, 0.5, 1.0)}
    case = make_case((7, 13, 40, 5), 300, **shape)
    small = replace(case, x=case.x[:9], y=case.y[:9])
    at_zero = replace(small, x=0 * small.x, parameters=small.parameters.copy())
    case.layout.biases(at_zero.parameters)[0][:] = 0
    for each in (small, at_zero):
        agreement.check_forward(kernels, each)
        agreement.check_backward(kernels, each)
        agreement.check_gradient(kernels, each)
    for rule in (SATURATED, NESTEROV._replace(alpha=0.3), ADAM):
        for batch_size in (1, 4):
            agreement.check_train_epoch(kernels, small, np.arange(9), rule, batch_size, threads=2)
        for way in ({}, {"halves": True}, {"by_columns": True}):
            agreement.check_train_epoch(kernels, case, np.arange(300), rule, 270, threads=2, **way)
    agreement.check_train_through_updated(kernels, small, np.arange(5), SATURATED)
    agreement.check_predict(kernels, small)


def dropout(kernels):
    """Every activation; batches of one chunk, of several, of one row, as halves, by neurons; beside skips."""
    shape, draw = {"dropouts": (0.2, 0.5, 0.3, 0.0), "rate_scales": (2.0, 0.5, 1.0)}, Draw(2**40 + 7, 5)
    for hidden in INNER:
        case = make_case((7, 13, 40, 5), 9, hidden=hidden, **shape)
        at_zero = replace(case, x=0 * case.x, parameters=case.parameters.copy())
        case.layout.biases(at_zero.parameters)[0][:] = 0
        for each in (case, at_zero):
            agreement.check_forward(kernels, each, draw=draw)
            agreement.check_backward(kernels, each, draw=draw)
    case = make_case((7, 13, 40, 5), 600, hidden="tanh", dtype="float64", **shape)
    small = replace(case, x=case.x[:9], y=case.y[:9])
    for rule in (SATURATED, NESTEROV._replace(alpha=0.3), ADAM):
        for batch_size in (1, 4):
            agreement.check_train_epoch(kernels, small, np.arange(9), rule, batch_size, threads=2, mask_seed=2**64 - 2)
    for way in ({}, {"halves": True}, {"by_columns": True}):
        for batch_size in (67, 270):
            agreement.check_train_epoch(
                kernels, case, np.arange(600), SATURATED, batch_size, threads=2, mask_seed=9, judge=ByTwin, **way
            )
    skipping = make_case(**SKIPPING, rows=9, hidden="tanh", dropouts=(0.2, 0.5, 0.0, 0.3, 0.5, 0.3, 0.0))
    agreement.check_forward(kernels, skipping, draw=draw)
    agreement.check_backward(kernels, skipping, draw=draw)
    agreement.check_train_epoch(kernels, skipping, np.arange(9), PLAIN, 4, threads=2, mask_seed=9)
    agreement.check_loss_and_gradient(kernels, replace(case, layout=replace(case.layout, dropouts=())), 0.3)
    agreement.check_predict(kernels, small)


def columns(kernels):
    """Layers whose neurons the threads share, each gathering all rows or its own."""
    for sizes in ((40, 300, 19, 13), (7, 65, 30), (300, 65, 33)):
        case = make_case(sizes, 67)
        for rule in (PLAIN, NESTEROV):
            agreement.check_train_epoch(kernels, case, np.arange(67), rule, 67, threads=3, by_columns=True)


def pieces(kernels):
    """Wide layers, of which threads take pieces, their own and others': by tiles and by lists, of which each piece has
    its own; several steps, and of a batch several chunks."""
    for sizes in ((40, 300, 19, 300), (300, 265, 33)):
        case = make_case(sizes, 300, hidden="tanh", dtype="float64")
        way = {"by_columns": True, "wide": True, "judge": ByTwin}
        for threads in (2, 7):
            for rule, batch_size in ((PLAIN, 67), (NESTEROV._replace(alpha=0.3), 270)):
                agreement.check_train_epoch(kernels, case, np.arange(300), rule, batch_size, threads=threads, **way)
    case = agreement.with_zeros(make_case((530, 570, 610, 2), 331), 0.6)
    agreement.check_lists_change_nothing(kernels, case, PLAIN, 131, 3, by_columns=True, wide=True)
    dense = make_case((1311, 143, 2), 131, dtype="float64")
    agreement.check_lists_change_nothing(kernels, dense, PLAIN, 131, 3, by_columns=True, wide=True)


def sparse(kernels):
    """Lists of each product, that end within a vector, a panel and a slab of terms, beside panels that make no four
    and a narrow one that would make four with others."""
    for dtype, sizes in (("float32", (530, 570, 610, 2)), ("float64", (297, 301, 313, 2))):
        case = agreement.with_zeros(make_case(sizes, 331, dtype=dtype), 0.6)
        few = replace(case, x=case.x[:93], y=case.y[:93])
        agreement.check_forward(kernels, few, ByTwin)
        agreement.check_backward(kernels, few, ByTwin)
        agreement.check_gradient(kernels, few, ByTwin)
        for threads in (1, 2):
            agreement.check_loss_and_gradient(kernels, case, 0.3, threads, ByTwin)
        for rule, batch_size in ((PLAIN._replace(alpha=9), 67), (SATURATED, 131), (NESTEROV, 331)):
            agreement.check_lists_change_nothing(kernels, case, rule, batch_size, threads=2)
        agreement.check_lists_change_nothing(kernels, case, PLAIN, 331, threads=7, by_columns=True)  # in parts
    for sizes in ((1311, 70, 2), (1311, 143, 2)):  # dense data; of the deltas behind them half are zero
        dense = make_case(sizes, 131, dtype="float64")
        for by_columns in (False, True):
            for rule in (PLAIN, PLAIN._replace(alpha=9), ADAM):
                agreement.check_lists_change_nothing(kernels, dense, rule, 131, threads=2, by_columns=by_columns)


def nan(kernels):
    for hidden in ("relu", "tanh"):
        for batch_size in (1, 3):
            case = make_case((5, 18, 17, 4), 3, hidden=hidden)
            agreement.check_nan_is_seen(kernels, case, batch_size)
    for dtype in ("float32", "float64"):
        agreement.check_overflow_moves_nothing(kernels, dtype)


def golden(kernels):
    agreement.check_golden(kernels, "relu_no_total_gradient", 1, 6)
    agreement.check_golden(kernels, "digits_64_32_10_relu_online", 2, 6)


def predict(kernels):
    for output in ("identity", "tanh", "softmax"):
        for sizes in ((5, 13, 3), (3, 1), (2, 5, 40), (9, 7, 2, 31)):
            agreement.check_predict(kernels, make_case(sizes, 5, hidden="tanh", output=output))
    for threads in (1, 3):
        agreement.check_predict(kernels, make_case((300, 333, 19), 301, output="softmax"), threads)
        agreement.check_predict(kernels, make_case((30, 33, 19), 1100), threads)  # weights packed once
    for output, width in product(("tanh", "softmax"), (3, 11)):  # rows of so few outputs go together
        agreement.check_predict(kernels, make_case((300, 333, width), 99, output=output))


def subnormals(kernels):
    flushes = agreement.FLUSHES and kernels.__name__ != twin.__name__
    with ThreadPoolExecutor(1) as thread:  # whose way with subnormal numbers, should it be changed, ends with it
        for dtype, threads in product(("float32", "float64"), (1, 2)):
            thread.submit(agreement.check_subnormals, kernels, dtype, threads, flushes).result()


CHECKS = {
    "activate": activate,
    "derivative_factor": derivative_factor,
    "forward": partial(over_shapes, check=agreement.check_forward),
    "output_delta": output_delta,
    "backward": partial(over_shapes, check=agreement.check_backward),
    "gradient": partial(over_shapes, check=agreement.check_gradient),
    "saturated_update": saturated_update,
    "workspace": workspace,
    "loss_and_gradient": loss_and_gradient,
    "batches": batches,
    "halves": halves,
    "stages": stages,
    "online": online,
    "weighted": weighted,
    "penalised": penalised,
    "subnormals": subnormals,
    "ceiling": ceiling,
    "columns": columns,
    "pieces": pieces,
    "sparse": sparse,
    "corners": corners,
    "dropout": dropout,
    "skips": skips,
    "rates": rates,
    "updated": updated,
    "predict": predict,
    "nan": nan,
    "golden": golden,
}


def passes(check, kernels):
    """Whether a check is green; only an AssertionError counts as red."""
    try:
        with np.errstate(all="ignore"):
            CHECKS[check](kernels)
    except AssertionError:
        return False
    return True


def replaced(source, old, new, where):
    """Return the source with one place changed."""
    assert source.count(old) == 1, f"{where}: expected once, found {source.count(old)} times: {old}"
    return source.replace(old, new)


# ---- The NumPy twin ------------------------------------------------------------------------------


def broken_twin(breakage):
    source = replaced(Path(twin.__file__).read_text(encoding="utf-8"), breakage.old, breakage.new, "_backprop_numpy.py")
    module = ModuleType(twin.__name__)
    exec(compile(source, breakage.name, "exec"), module.__dict__)
    return module


@pytest.mark.parametrize("check", CHECKS)
def test_checks_are_green_on_the_twin(check):
    assert passes(check, twin)


@pytest.mark.parametrize("breakage", NUMPY, ids=lambda breakage: breakage.name)
def test_checks_turn_red_on_a_broken_twin(breakage):
    kernels = broken_twin(breakage)
    assert [check for check in breakage.checks.split() if passes(check, kernels)] == []


# ---- The compiled kernels ------------------------------------------------------------------------

SWITCH = """#ifndef FNN_BROKEN
#define FNN_BROKEN
static int fnn_broken; /* the breakage that is switched on */
#endif
"""
NUMBERED = list(enumerate(VECTOR_MATH + SIMD + PYX, start=1))
OTHERS = ("_team.h", "_subnormals.h", "_pass.h")
HEADERS = sorted(path.name for path in PACKAGE.glob("*.h") if path.name not in OTHERS)  # of vectors
SETTER = """

def break_kernel(int number):
    global fnn_broken
    fnn_broken = number
"""


def with_breakages(source, breakages, where):
    """Return the source with every breakage in it; several of one statement of C become one chain of switches."""
    changes = {}
    for number, breakage in breakages:
        switched = breakage.new.replace("BROKEN", f"(fnn_broken == {number})")
        changes.setdefault(breakage.old, []).append((number, switched))
    for old, news in changes.items():
        text = news[0][1]
        if len(news) > 1:
            text = " else ".join(
                [*(f"if (fnn_broken == {number}) {{ {new} }}" for number, new in news), f"{{ {old} }}"]
            )
        source = replaced(source, old, text, where)
    return source


def broken_sources(names, numbered):
    """Return the text of some sources by their names, every breakage in the only one that has what it changes."""
    sources, found = {}, []
    for name in names:
        source = (PACKAGE / name).read_text(encoding="utf-8")
        here = [(number, breakage) for number, breakage in numbered if breakage.old in source]
        sources[name] = with_breakages(source, here, name)
        found += here
    assert sorted(found) == numbered, f"{', '.join(names)}: expected each breakage in one of them"
    return sources


def write_headers(folder):
    """Write the headers of vectors with all their breakages in them."""
    for name, header in broken_sources(HEADERS, NUMBERED[: -len(PYX)]).items():
        (folder / name).write_text(SWITCH + header, encoding="utf-8")


def write_kernels(folder, name, known, numbered):
    """Write a kernel source, and what it includes, with breakages in them and, after `known`, the switch; its path."""
    parts = sorted(path.name for path in PACKAGE.glob(f"{name}_*.pxi"))
    sources = broken_sources([f"{name}.pyx", *parts], numbered)
    kernels = f"{name}_kernels.pxi"
    sources[kernels] = replaced(sources[kernels], known, known + "    int fnn_broken\n", kernels)
    sources[f"{name}_broken.pyx"] = sources.pop(f"{name}.pyx") + SETTER
    for file, source in sources.items():
        (folder / file).write_text(source, encoding="utf-8")
    return folder / f"{name}_broken.pyx"


@pytest.fixture(scope="module")
def breakable(tmp_path_factory):
    """Build the compiled kernels with all breakages in them, without much optimisation: what counts is how soon."""
    folder = tmp_path_factory.mktemp("broken")
    write_headers(folder)
    source = write_kernels(folder, "_backprop", "    const int FNN_ROWS\n", NUMBERED[-len(PYX) :])
    return compiled(source, "-O1 -DFNN_VECS=4 -DFNN_INNER=128")  # tiles of two panels as well


@pytest.fixture(scope="module")
def breakable_functions(tmp_path_factory):
    """Build the elementary functions alone with all their breakages in them."""
    folder = tmp_path_factory.mktemp("broken_functions")
    write_headers(folder)
    source = (Path(__file__).parent / "vector_math.pyx").read_text(encoding="utf-8")
    known = "    void values_f32("
    source = replaced(source, known, "    int fnn_broken\n" + known, "vector_math.pyx") + SETTER
    (folder / "vector_math_broken.pyx").write_text(source, encoding="utf-8")
    return compiled(folder / "vector_math_broken.pyx", "-O1")


def keeps_its_bounds(function, module):
    """Whether an elementary function is green for both types."""
    try:
        for dtype in ("float32", "float64"):
            elementary.check(module, function, dtype)
    except AssertionError:
        return False
    return True


if len(fnn.available_backends()) > 1:  # where nothing was compiled there is nothing to break

    @pytest.mark.parametrize("check", CHECKS)
    def test_checks_are_green_on_the_build_with_all_breakages_off(breakable, check):
        breakable.break_kernel(0)
        assert passes(check, breakable)

    @pytest.mark.parametrize("function", elementary.BOUNDS)
    def test_functions_are_green_with_all_breakages_off(breakable_functions, function):
        breakable_functions.break_kernel(0)
        assert keeps_its_bounds(function, breakable_functions)

    @pytest.mark.parametrize(("number", "breakage"), NUMBERED, ids=[breakage.name for _, breakage in NUMBERED])
    def test_checks_turn_red_on_a_broken_build(breakable, breakable_functions, number, breakage):
        breakable.break_kernel(number)
        breakable_functions.break_kernel(number)
        names = breakage.checks.split()
        green = [name for name in names if name in CHECKS and passes(name, breakable)]
        green += [name for name in names if name not in CHECKS and keeps_its_bounds(name, breakable_functions)]
        assert green == []
