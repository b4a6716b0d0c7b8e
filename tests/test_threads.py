"""A training's own threads: the same bits from any number of them, how many are used, and Ctrl-C."""

from functools import partial
from itertools import cycle, islice, product

import numpy as np
import pytest

from agreement import PLAIN, make_case, with_one_zero
from fnn import _dispatch
from fnn._optimizers import Rule

THREADS = [1, 2, 3, 7]
MOMENTUM = Rule(0.001, 0.9, True, 0.3)
ADAM = Rule(0.001, 0.9, False, 0.3, True, 0.999, 1e-8)
NETS = {
    "wide": ((50, 300, 10), 64, 64),
    "ragged": ((37, 53, 29, 3), 101, 17),
    "deep": ((8, *[9] * 20, 1), 40, 13),
    "one row at a time": ((20, 30, 5), 40, 1),
    "fewer rows than threads": ((33, 65, 2), 9, 3),
    "several chunks": ((12, 40, 5), 900, 700),
    "one number": ((1, 1), 20, 8),
    "halves": ((20, 60, 5), 500, 151),
    "halves of several chunks": ((20, 60, 5), 900, 701),
}


def trained(case, batch_size, rule, threads, by_columns=None, halves=None, stages=None, wide=False):
    """Two epochs; the parameters and the losses as bytes."""
    kernels = _dispatch.kernels
    work = kernels.Workspace(
        case.layout, case.parameters.dtype, batch_size, rule.states, threads, halves=halves, stages=stages
    )
    work.threads = threads  # also where there is too little work to share
    if by_columns is not None:
        work.by_columns = list(islice(cycle(by_columns), case.layout.n_layers))
    work.wide = [wide] * case.layout.n_layers
    work.load(case.parameters, rule.saturation)
    rng = np.random.default_rng(9)
    totals = [
        kernels.train_epoch(work, case.x, case.y, rng.permutation(len(case.x)), case.loss, rule, True, None)
        for _ in range(2)
    ]
    parameters = np.empty_like(case.parameters)
    work.store(parameters)
    assert np.isfinite(parameters).all()
    assert not np.array_equal(parameters, case.parameters)
    return parameters.tobytes(), totals


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rule", [PLAIN._replace(rate=0.001), MOMENTUM, ADAM], ids=["plain", "momentum", "adam"])
@pytest.mark.parametrize("net", NETS)
def test_same_bits(backend, net, rule, dtype):
    sizes, rows, batch_size = NETS[net]
    case = make_case(sizes, rows, hidden="tanh", dtype=dtype)
    one, *others = [trained(case, batch_size, rule, threads) for threads in THREADS]
    for threads, other in zip(THREADS[1:], others, strict=True):
        assert other == one, f"{threads} threads"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("saturation", [np.inf, 1.0])
def test_same_bits_of_rows_without_zeros(backend, saturation, dtype):
    case = with_one_zero(make_case((40, 70, 5), 40, hidden="tanh", dtype=dtype), 3, 7)
    rule = PLAIN._replace(rate=0.001, saturation=saturation)
    assert len({str(trained(case, 1, rule, threads)) for threads in THREADS}) == 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "rule", [PLAIN._replace(rate=0.001, alpha=0.1), MOMENTUM, ADAM], ids=["plain", "momentum", "adam"]
)
@pytest.mark.parametrize("net", ["wide", "ragged", "deep", "fewer rows than threads", "one number"])
def test_same_bits_in_stages(backend, net, rule, dtype):
    """With fewer layers than threads some have none."""
    sizes, rows, batch_size = NETS[net]
    case = make_case(sizes, rows, hidden="tanh", dtype=dtype)
    one = trained(case, batch_size, rule, 1, halves=False)
    for threads in THREADS[1:]:
        assert trained(case, batch_size, rule, threads, stages=True, halves=False) == one, f"{threads} threads"


def test_who_has_which_layers(backend):
    """By itself where layers are many and narrow; each thread as many operations as the other."""
    if backend == "numpy":
        assert _dispatch.kernels.Workspace(make_case((32,) * 41, 1).layout, np.dtype("f4"), 32, 0, 2).stages == []
        return
    for sizes, expected in (((32,) * 41, [20, 40]), ((64, 64, 10), []), ((784, 512, 512, 10), []), ((1024,) * 9, [])):
        work = _dispatch.kernels.Workspace(make_case(sizes, 1).layout, np.dtype("f4"), 32, 0, 2)
        work.threads = 2
        assert work.stages == expected, sizes
    work = _dispatch.kernels.Workspace(make_case((32,) * 41, 1).layout, np.dtype("f4"), 32, 0, 2)
    work.by_columns = [False] * 40
    assert work.stages == []
    work.threads = 1
    assert work.stages == []


def test_halves_are_shared_by_rows_only(backend):
    case = make_case((20, 60, 5), 1)
    work = _dispatch.kernels.Workspace(case.layout, np.dtype("float32"), 151, 0, 2, halves=True)
    if backend != "numpy":
        work.by_columns = [False] * 2
        with pytest.raises(ValueError, match="by_columns: batches that go through as two halves share rows only"):
            work.by_columns = [True, False]
        assert work.by_columns == [False] * 2


@pytest.mark.parametrize("halves", [False, True])
@pytest.mark.parametrize("net", NETS)
def test_same_bits_of_corners(backend, net, halves):
    sizes, rows, batch_size = NETS[net]
    case = make_case(sizes, rows, hidden="corner", output="corner")
    for rule in (MOMENTUM, ADAM):
        one = trained(case, batch_size, rule, 1, halves=halves)
        for threads in (2, 3, 7):
            for sharing in ((False,), (True, False)) if not halves else (None,):
                assert trained(case, batch_size, rule, threads, sharing, halves, wide=True) == one, f"{threads} threads"


@pytest.mark.parametrize("halves", [False, True])
@pytest.mark.parametrize("net", NETS)
def test_same_bits_of_dropout(backend, net, halves):
    sizes, rows, batch_size = NETS[net]
    shares = (0.2, *[0.5] * (len(sizes) - 2), 0.0)
    case = make_case(sizes, rows, hidden="tanh", dropouts=shares)
    one = trained(case, batch_size, MOMENTUM, 1, halves=halves)
    for threads in (2, 3, 7):
        for sharing in ((False,), (True,), (True, False)) if not halves else (None,):
            for wide in (False, True):
                got = trained(case, batch_size, MOMENTUM, threads, sharing, halves, wide=wide)
                assert got == one, f"{threads} threads"


SHARINGS = {"neurons": (True,), "rows": (False,), "mixed": (True, False), "mixed, rows first": (False, True, True)}


@pytest.mark.parametrize("sharing", SHARINGS.values(), ids=SHARINGS)
@pytest.mark.parametrize("net", NETS)
def test_same_bits_however_the_layers_are_shared(backend, net, sharing):
    sizes, rows, batch_size = NETS[net]
    case = make_case(sizes, rows, hidden="tanh")
    one = trained(case, batch_size, MOMENTUM, 1, halves=False)
    for threads in (2, 3, 7):
        for wide in (False, True):
            got = trained(case, batch_size, MOMENTUM, threads, sharing, halves=False, wide=wide)
            assert got == one, f"{threads} threads"


@pytest.mark.parametrize("rule", [PLAIN._replace(rate=0.001), ADAM], ids=["plain", "adam"])
@pytest.mark.parametrize("net", NETS)
def test_same_bits_of_halves(backend, net, rule):
    """Also where halves of a batch would not be taken by themselves; batches of 1 train online."""
    sizes, rows, batch_size = NETS[net]
    case = make_case(sizes, rows, hidden="tanh")
    one = trained(case, batch_size, rule, 1, halves=True)
    for threads in (2, 3):
        assert trained(case, batch_size, rule, threads, halves=True) == one, f"{threads} threads"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_same_bits_where_zeros_are_skipped(backend, dtype):
    """Wide layers between ReLUs, and inputs of which half are zero, in batches of one chunk and of two.  One thread and
    two skip zeros; for the lists of seven there is room only where batches are large."""
    for rows, batch_size in ((150, 70), (300, 300)):
        case = make_case((300, 700, 600, 4), rows, hidden="relu", dtype=dtype)
        case.x[::2, ::3] = case.x[1::2, ::2] = 0
        for threads in (1, 2) if backend != "numpy" else ():
            work = _dispatch.kernels.Workspace(case.layout, case.parameters.dtype, batch_size, 0, threads)
            assert work.sparse == [(True, dtype == "float64"), (True, True), (False, False)]
        if batch_size == 300 and backend != "numpy":
            work = _dispatch.kernels.Workspace(case.layout, case.parameters.dtype, batch_size, 0, 7)
            assert work.sparse[1] == (True, True)
        one, *others = [trained(case, batch_size, PLAIN._replace(rate=0.0001), threads) for threads in THREADS]
        for threads, other in zip(THREADS[1:], others, strict=True):
            assert other == one, f"{threads} threads"
        for threads in THREADS[1:]:
            got = trained(case, batch_size, PLAIN._replace(rate=0.0001), threads, by_columns=(True,), wide=True)
            assert got == one, f"{threads} threads, in pieces"


def test_which_layers_are_taken_in_pieces(backend):
    """Those whose weights take more than four second-level caches: 64 MiB do, as long as none has 16 MiB."""
    layout = make_case((10, 4096, 4096, 10), 1).layout
    work = _dispatch.kernels.Workspace(layout, np.dtype("f4"), 64, 0, 2)
    assert work.wide == ([False] * 3 if backend == "numpy" else [False, True, False])


def test_where_halves_are_taken(backend):
    """Where activations are many and weights few; never by the number of threads."""
    layout = make_case((30, 100, 1), 1).layout
    for threads in (1, 2, 5):
        make = partial(_dispatch.kernels.Workspace, layout, np.dtype("f4"), states=2, threads=threads)
        assert [make(batch_size).halves for batch_size in (1, 32, 200, 1000, 10_000)] == [
            False, False, *[backend != "numpy"] * 2, False
        ]  # fmt: skip


def test_same_gradient_of_halves(backend):
    case = make_case((30, 50, 10), 1700, output="softmax", loss="cross_entropy", labels=True)
    args = case.layout, case.parameters, case.x, case.y, case.loss, 1 / 1700
    (loss, gradient), *others = [_dispatch.kernels.loss_and_gradient(*args, threads) for threads in THREADS]
    for threads, (other_loss, other_gradient) in zip(THREADS[1:], others, strict=True):
        assert other_gradient.tobytes() == gradient.tobytes(), f"{threads} threads"
        assert other_loss == loss, f"{threads} threads"


def test_same_gradient(backend):
    """Large enough that the backend shares the work out by itself."""
    case = make_case((400, 1000, 10), 300, output="softmax", loss="cross_entropy", labels=True)
    args = case.layout, case.parameters, case.x, case.y, case.loss, 1 / 300
    (loss, gradient), *others = [_dispatch.kernels.loss_and_gradient(*args, threads) for threads in THREADS]
    for threads, (other_loss, other_gradient) in zip(THREADS[1:], others, strict=True):
        assert other_gradient.tobytes() == gradient.tobytes(), f"{threads} threads"
        assert other_loss == loss, f"{threads} threads"


@pytest.mark.parametrize("threads", [2, 7])
@pytest.mark.parametrize(("sizes", "rows"), [((300, 333, 19), 257), ((40, 60, 60, 9), 2600)])
def test_same_predictions(backend, sizes, rows, threads):
    """The last rows are fewer than a thread takes at a time; what goes wrong does so now and then only."""
    case = make_case(sizes, rows)
    args = case.layout, case.parameters, case.x
    one = _dispatch.kernels.predict(*args, 1).tobytes()
    assert all(_dispatch.kernels.predict(*args, threads).tobytes() == one for _ in range(100))
    losses = _dispatch.kernels.evaluate(*args, case.y, case.loss, 1)[0].tobytes()
    assert all(_dispatch.kernels.evaluate(*args, case.y, case.loss, threads)[0].tobytes() == losses for _ in range(100))


def test_threads_in_use(backend):
    """A workspace says how many it uses, never more than were asked for, and one where there is little to do."""
    make = _dispatch.kernels.Workspace
    assert make(make_case((2, 4, 1), 1).layout, np.dtype("f4"), 1, False, 7).threads == 1
    large = make(make_case((500, 500, 10), 1).layout, np.dtype("f4"), 128, False, 3).threads
    assert large == (1 if backend == "numpy" else 3)


def test_short_epochs_go_the_way_that_was_faster_lately(backend):
    """First one by the team and two by one thread; later the other way twice in a row after 16, 32, 64 and so on."""
    case = make_case((64, 100, 10), 1000)
    work = _dispatch.kernels.Workspace(case.layout, np.dtype("f4"), 200, 0, 2)
    work.load(case.parameters, np.inf)

    def used(epochs):
        args = work, case.x, case.y, np.arange(1000), case.loss, PLAIN._replace(rate=1e-6), True, None
        return [(_dispatch.kernels.train_epoch(*args), work.used)[1] for _ in range(epochs)]

    if work.threads == 2:  # as NumPy's never has
        assert used(1) == [2]
        work.pace = 0, 1e-9  # seconds a row, lest a hiccup makes this a long epoch
        assert used(2) == [1, 1]
        work.pace = 1e-90, 1e-9
        assert used(16 + 2) == [1] * 16 + [2] * 2
        work.pace = 1e-9, 1e-90
        assert used(32 + 2 + 64 + 2) == [2] * 32 + [1] * 2 + [2] * 64 + [1] * 2
        work.threads = 2
        work.pace = 1e-90, 1e-9
        assert used(150) == [2] * 150


def test_pace_is_an_average_in_which_hiccups_count_little(backend):
    case = make_case((64, 100, 10), 1000)
    work = _dispatch.kernels.Workspace(case.layout, np.dtype("f4"), 200, 0, 2)
    work.load(case.parameters, np.inf)
    args = work, case.x, case.y, np.arange(1000), case.loss, PLAIN._replace(rate=1e-6), True, None
    if work.threads == 2:  # as NumPy's never has
        for _ in range(3):
            _dispatch.kernels.train_epoch(*args)
            work.pace = 1e-9, 1e-9  # lest a hiccup makes these long epochs, after which no way is tried
        work.pace = 1e-30, 1e-9
        _dispatch.kernels.train_epoch(*args)  # which takes far longer than three times as long
        assert work.pace == (pytest.approx(1.5e-30, rel=1e-6, abs=0), 1e-9)
        work.pace = 4e-6, 5e-6  # far slower than it is
        _dispatch.kernels.train_epoch(*args)
        assert 3e-6 <= work.pace[0] <= 6e-6  # whatever this machine is busy with
        assert work.pace[1] == 5e-6


def test_long_epochs_are_tried_with_one_thread_where_the_estimate_is_close(backend):
    """And with no other number of threads than the estimate's where it is not."""
    seen = set()
    for width in range(16, 240, 4):
        case = make_case((width,) * 20, 100)
        work = _dispatch.kernels.Workspace(case.layout, np.dtype("f4"), 32, 0, 2)
        if work.threads == 1:
            continue
        work.load(case.parameters, np.inf)
        work.pace = 2.0, 1.0  # seconds a row
        args = work, case.x, case.y, np.arange(100), case.loss, PLAIN._replace(rate=1e-9), True, None
        _dispatch.kernels.train_epoch(*args)
        assert work.used == (1 if work.close else 2)
        seen.add(work.used)
    assert seen == (set() if backend == "numpy" else {1, 2})


@pytest.mark.parametrize(
    ("batch_size", "threads", "stages", "wide"),
    [
        *product([1, 16, 300], [1, 3], [None], [False]),
        (16, 2, True, False),
        (16, 3, True, False),
        (16, 3, None, True),
    ],
)
def test_ctrl_c(backend, batch_size, threads, stages, wide):
    """KeyboardInterrupt in the tick ends the epoch at a completed update: the bits are those of the rows done."""
    case = make_case((30, 50, 10), 64)
    order = np.random.default_rng(10).integers(0, 64, 5_000_000)
    rule = PLAIN._replace(rate=1e-4, saturation=0.5)
    seen = []

    def tick(rows_done):
        seen.append(rows_done)
        if len(seen) == 2:
            raise KeyboardInterrupt

    work, again = (
        _dispatch.kernels.Workspace(case.layout, np.dtype("f4"), batch_size, False, threads, stages=stages)
        for _ in range(2)
    )
    interrupted, repeated = np.empty_like(case.parameters), np.empty_like(case.parameters)
    work.threads = threads
    if wide:
        work.by_columns = work.wide = [True] * 2
    work.load(case.parameters, rule.saturation)
    with pytest.raises(KeyboardInterrupt):
        _dispatch.kernels.train_epoch(work, case.x, case.y, order, case.loss, rule, True, tick)
    work.store(interrupted)
    assert 0 < seen[0] < seen[1] < len(order)
    done = seen[1] // batch_size * batch_size
    again.load(case.parameters, rule.saturation)
    _dispatch.kernels.train_epoch(again, case.x, case.y, order[:done], case.loss, rule, True, None)
    again.store(repeated)
    assert interrupted.tobytes() == repeated.tobytes()
    assert np.isfinite(_dispatch.kernels.train_epoch(work, case.x, case.y, order[:100], case.loss, rule, True, None))
