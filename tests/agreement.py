"""The agreement checks: each puts a function of a backend beside a judge, within the bounds that `bounds.py` derives.

A check takes the module with the kernels as its first argument, so that the very check that passes on every backend can
be shown to fail on a kernel that was broken on purpose (test_can_fail.py).  Where a function hands out its intermediate
values, every layer is judged from the kernel's own values of the layer before, so that no error hides behind another.
Letters: B rows of a batch, I fan-in, O fan-out, L layers, P parameters, N rows of the data.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import platform
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np

import bounds
import oracle
from bounds import Precision
from fnn import _backprop_numpy as twin
from fnn._dropout import NUMBERS, Draw
from fnn._formulas import ACTIVATIONS, LOSSES, Activation, Loss
from fnn._layout import Layout, Skip
from fnn._optimizers import Rule

DATA = Path(__file__).with_name("data")
GROUP = 3  # rows that online training without a limit may take at once: FNN_GROUP
LOOSEST = 1e-3  # a bound above this part of the largest value would forgive too much

PAIRS = [(loss.name, output) for loss in LOSSES.values() for output in loss.outputs]
PLAIN = Rule(0.05, 0.0, False, np.inf)
FLUSHES = platform.machine().lower() in ("x86_64", "amd64")  # compiled backends, what is subnormal, while they train
FLUSHED_LOSSES = 1e6 * float(np.finfo(np.float64).smallest_normal)  # of up to a million terms that are subnormal


@dataclass(frozen=True)
class Case:
    """A network and data on which kernels are judged."""

    layout: Layout
    parameters: np.ndarray  # (P,)
    x: np.ndarray  # (N, I)
    y: np.ndarray  # (N, O), or (N,) class labels
    loss: Loss

    @property
    def precision(self) -> Precision:
        """What an operation of the kernels may lose."""
        return Precision.of(self.parameters.dtype)

    @property
    def training_precision(self) -> Precision:
        """The same while they train."""
        return Precision.flushing(self.parameters.dtype)

    def in_double(self) -> Case:
        """Return the same case in float64, the slopes as the kernels round them, for a judge."""
        kind = self.parameters.dtype.type
        layout = replace(
            self.layout, activations=tuple(replace(a, slope=float(kind(a.slope))) for a in self.layout.activations)
        )
        y = self.y if self.y.ndim == 1 else self.y.astype(np.float64)
        return Case(layout, self.parameters.astype(np.float64), self.x.astype(np.float64), y, self.loss)

    def targets(self, rows: np.ndarray) -> np.ndarray:
        """Return the targets of some rows as (B, O)."""
        return np.eye(self.layout.sizes[-1])[self.y[rows]] if self.y.ndim == 1 else self.y[rows]


def make_case(
    sizes: tuple[int, ...],
    rows: int,
    *,
    hidden: str = "relu",
    output: str = "identity",
    loss: str = "squared_error",
    dtype: str = "float32",
    labels: bool = False,
    slope: float = 0.01,
    seed: int = 0,
    skips: tuple[Skip, ...] = (),
    rate_scales: tuple[float, ...] = (),
    dropouts: tuple[float, ...] = (),
) -> Case:
    """Draw a case.  Some inputs are exactly 0, in a third of the rows all of them.

    The weights into a neuron add up to about 1 in magnitude, which keeps the bounds tight through many layers.
    """
    rng = np.random.default_rng(seed)
    known = ACTIVATIONS | {"leaky_relu": replace(ACTIVATIONS["leaky_relu"], slope=slope)}
    activations = tuple(known[name] for name in [hidden] * (len(sizes) - 2) + [output])
    layout = Layout(sizes, activations, skips, rate_scales, dropouts)
    parameters = np.empty(layout.n_parameters, dtype)
    for block, (fan_in, fan_out) in zip(layout.blocks(parameters), layout.shapes, strict=True):
        block[:-1] = rng.uniform(-2, 2, (fan_in, fan_out)) / fan_in
        block[-1] = rng.uniform(-0.5, 0.5, fan_out)
    for corner in layout.corners(parameters):
        if len(corner):
            corner[:] = rng.uniform(-1, 1, corner.shape)
    x = rng.normal(size=(rows, sizes[0]))
    x[rng.random(x.shape) < 0.3] = 0
    x[rows // 2 : rows // 2 + rows // 3] = 0
    if labels:
        y = rng.integers(0, sizes[-1], rows).astype(np.intp)
    elif loss == "squared_error":
        y = rng.normal(size=(rows, sizes[-1])).astype(dtype)
    else:
        y = (rng.random((rows, sizes[-1])) * (rng.random((rows, sizes[-1])) < 0.7)).astype(dtype)
    return Case(layout, parameters, x.astype(dtype), y, LOSSES[loss])


# ---- The judges: the oracle for everything, the twin in float64 where scalar loops would take too


class Judged(NamedTuple):
    """A judge's values for one batch, in float64."""

    rows: np.ndarray  # (B,)
    scale: float
    layers: list[np.ndarray]  # [x, v_1, ..., v_(L-1), z_L], each (B, width)
    losses: np.ndarray  # (B,), each times its row's weight
    deltas: list[np.ndarray]  # [g_1, ..., g_L], each (B, O)
    gradient: np.ndarray  # (P,)
    state: np.ndarray  # after the update: velocity (P,), or Adam's moments (2 P,)
    parameters: np.ndarray  # (P,), after the update
    loss: float  # of all rows, with the penalty
    factors: bounds.Factors = None  # of dropout


class Frozen(NamedTuple):
    """An array's type, shape and content, by which a call of the oracle is known again."""

    dtype: str
    shape: tuple[int, ...]
    content: bytes

    @staticmethod
    def of(array: np.ndarray) -> Frozen:
        return Frozen(array.dtype.str, array.shape, array.tobytes())

    def thawed(self) -> np.ndarray:
        return np.frombuffer(self.content, self.dtype).reshape(self.shape)


@lru_cache(maxsize=256)
def steps_by_oracle(
    layout: Layout,
    parameters: Frozen,
    x: Frozen,
    y: Frozen,
    loss: Loss,
    order: Frozen,
    rule: Rule,
    batch_size: int,
    mean: bool,
    weights: Frozen | None,
    mask_seed: int,
) -> tuple[Judged, ...]:
    """Let the oracle train; kept for the next backend, and for all the breakages, that are judged on the same case."""
    case = Case(layout, parameters.thawed(), x.thawed(), y.thawed(), loss)
    counts, rows_in_order = None if weights is None else weights.thawed(), order.thawed()
    steps = oracle.train(
        network_of(case),
        case.x.tolist(),
        case.y.tolist(),
        rows_in_order.tolist(),
        loss.name,
        oracle.Rule(*rule),
        batch_size,
        mean,
        None if counts is None else counts.tolist(),
        layout.dropouts[0],
        mask_seed,
    )
    return tuple(
        Judged(
            rows,
            scale_of(rows, counts, mean),
            [np.array(layer) for layer in step.layers],
            np.array(step.losses),
            [np.array(delta) for delta in step.deltas],
            flat_of(step.gradient),
            np.concatenate([flat_of(state) for state in zip(*step.states, strict=True)]),
            flat_of(step.network),
            step.loss,
            [np.array(factors) for factors in step.factors] if layout.drops else None,
        )
        for rows, step in zip(batches(rows_in_order, batch_size), steps, strict=True)
    )


class ByOracle:
    """oracle.py, spoken to in arrays."""

    @staticmethod
    def activate(z: np.ndarray, phi: Activation) -> np.ndarray:
        return np.array([oracle.activate(row, phi.name, phi.slope) for row in z.tolist()])

    @staticmethod
    def derivative_factor(v: np.ndarray, phi: Activation) -> np.ndarray:
        return np.array([oracle.derivative_factor(row, phi.name, phi.slope) for row in v.tolist()])

    @staticmethod
    def pre_activation(u: np.ndarray, block: np.ndarray) -> np.ndarray:
        network = [oracle.Layer(block[:-1].tolist(), block[-1].tolist())]
        return np.array([oracle.forward(network, row)[-1] for row in u.tolist()])

    @staticmethod
    def output_delta(z: np.ndarray, y: np.ndarray, loss: Loss, phi: Activation) -> tuple[np.ndarray, np.ndarray]:
        output = oracle.Layer([], [], phi.name, phi.slope)
        pairs = [(row, target) for row, target in zip(z.tolist(), y.tolist(), strict=True)]
        losses = [oracle.row_loss(row, target, loss.name, output, loss.ceiling) for row, target in pairs]
        return np.array(losses), np.array(
            [oracle.output_delta(row, target, loss.name, output) for row, target in pairs]
        )

    @staticmethod
    def backward(block: np.ndarray, v: np.ndarray, phi: Activation, g: np.ndarray) -> np.ndarray:
        network = [oracle.Layer([], [], phi.name, phi.slope), oracle.Layer(block[:-1].tolist(), block[-1].tolist())]
        pairs = zip(v.tolist(), g.tolist(), strict=True)
        return np.array([oracle.backward(network, [[], row, []], delta)[0][0] for row, delta in pairs])

    @staticmethod
    def bend(z: np.ndarray, corner: np.ndarray) -> np.ndarray:
        return np.array([oracle.bend(row, corner.tolist()) for row in z.tolist()])

    @staticmethod
    def bend_back(z: np.ndarray, corner: np.ndarray, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        pairs = zip(z.tolist(), s.tolist(), strict=True)
        deltas, shares = zip(*(oracle.bend_back(row, corner.tolist(), slope) for row, slope in pairs), strict=True)
        return np.array(deltas), np.array(shares).transpose(1, 0, 2)

    @staticmethod
    def gradient(u: np.ndarray, g: np.ndarray) -> np.ndarray:
        return block_of(oracle.layer_gradient(u.tolist(), g.tolist()))

    @staticmethod
    def train(
        case: Case,
        order: np.ndarray,
        rule: Rule,
        batch_size: int,
        mean: bool,
        weights: np.ndarray | None = None,
        mask_seed: int = 0,
    ) -> Iterator[Judged]:
        yield from steps_by_oracle(
            case.layout,
            Frozen.of(case.parameters),
            Frozen.of(case.x),
            Frozen.of(case.y),
            case.loss,
            Frozen.of(order),
            rule,
            batch_size,
            mean,
            None if weights is None else Frozen.of(weights),
            mask_seed,
        )


class ByTwin:
    """The NumPy twin in float64, itself judged by the oracle on smaller shapes."""

    @staticmethod
    def pre_activation(u: np.ndarray, block: np.ndarray) -> np.ndarray:
        return u @ block[:-1] + block[-1]

    @staticmethod
    def activate(z: np.ndarray, phi: Activation) -> np.ndarray:
        return twin.activate(z, phi)

    @staticmethod
    def backward(block: np.ndarray, v: np.ndarray, phi: Activation, g: np.ndarray) -> np.ndarray:
        return g @ block[:-1].T * twin.derivative_factor(v, phi)

    @staticmethod
    def bend(z: np.ndarray, corner: np.ndarray) -> np.ndarray:
        return twin.bend(z, corner)

    @staticmethod
    def bend_back(z: np.ndarray, corner: np.ndarray, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return twin.bend_back(z, corner, s)

    @staticmethod
    def gradient(u: np.ndarray, g: np.ndarray) -> np.ndarray:
        return np.vstack([u.T @ g, g.sum(axis=0)])

    @staticmethod
    def train(
        case: Case,
        order: np.ndarray,
        rule: Rule,
        batch_size: int,
        mean: bool,
        weights: np.ndarray | None = None,
        mask_seed: int = 0,
    ) -> Iterator[Judged]:
        layout, flat = case.layout, case.parameters
        state = np.zeros(len(flat) * max(1, rule.states))
        for update, rows in enumerate(batches(order, batch_size), start=1):
            scale, counts = scale_of(rows, weights, mean), np.ones(len(rows)) if weights is None else weights[rows]
            bends: twin.Bends = [None] * layout.n_layers
            draw = Draw((mask_seed + update - 1) % NUMBERS)
            layers = twin.forward(layout, flat, case.x[rows], bends, draw)
            losses, g = twin.output_delta(layers[-1], case.y[rows], case.loss, layout.activations[-1], scale)
            deltas = twin.backward(layout, flat, layers, g * counts[:, None], bends, dropping=True)
            slope = twin.gradient(layout, layers, deltas, np.empty_like(flat), bends)
            for w, into in zip(layout.weights(flat), layout.weights(slope), strict=True):
                into += rule.alpha * scale * w
            losses, times = losses * counts, len(rows) * scale if mean else 1.0
            loss = float(losses.sum() + rule.alpha / 2 * sum((w**2).sum() for w in layout.weights(flat))) * times
            state = state.copy()
            flat = twin.saturated_update(flat, state, slope.copy(), scaled(layout, rule.at(update)))
            factors = dropout_factors(layout, draw, len(rows))
            yield Judged(rows, scale, layers, losses, deltas, slope, state, flat, loss, factors)


Judge = type[ByOracle] | type[ByTwin]


def batches(order: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """Cut the rows into batches; the last may be smaller."""
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def scale_of(rows: np.ndarray, weights: np.ndarray | None, mean: bool) -> float:
    """Return what the summed loss of a batch is multiplied by."""
    total = len(rows) if weights is None else weights[rows].sum()
    return 1.0 if not mean else 1 / total if total else 0.0


@lru_cache(maxsize=1024)
def dropout_factors(layout: Layout, draw: Draw | None, rows: int) -> bounds.Factors:
    """Return what dropout multiplies each of [x, v_1, ..., z_L] by, (B, width), as the oracle draws it."""
    if draw is None or not layout.drops:
        return None
    by_row = [
        oracle.dropout_factors(layout.dropouts, layout.sizes, draw.number, draw.first_row + row) for row in range(rows)
    ]
    return [np.array(factors) for factors in zip(*by_row, strict=True)]


def network_of(case: Case) -> list[oracle.Layer]:
    """Return the case's network as the oracle knows it."""
    layout = case.layout
    blocks, corners = layout.blocks(case.parameters), layout.corners(case.parameters)
    described = layout.activations, layout.skips, layout.rate_scales, layout.dropouts[1:]
    parts = zip(blocks, corners, *described, strict=True)
    return [
        oracle.Layer(
            block[:-1].tolist(),
            block[-1].tolist(),
            phi.name,
            phi.slope,
            skip.distance,
            skip.mode == "concat",
            scale,
            corner.tolist(),
            share,
        )
        for block, corner, phi, skip, scale, share in parts
    ]


def scaled(layout: Layout, rule: Rule) -> Rule:
    """Return a rule with a rate (P,) for every parameter."""
    return rule._replace(rate=rule.rate * np.repeat(layout.rate_scales, np.diff(layout.offsets)))


def block_of(layer: oracle.Layer) -> np.ndarray:
    """Return the oracle's layer, or its gradient or velocity, as a block (I + 1, O), or (I + 4, O) with corners."""
    return np.array(layer.rows())


def flat_of(layers: Iterable[oracle.Layer]) -> np.ndarray:
    """Return layers, or what is shaped like them, as a flat vector (P,)."""
    return np.concatenate([block_of(layer).ravel() for layer in layers])


# ---- The golden runs -----------------------------------------------------------------------------


class Golden(NamedTuple):
    """A run of the published C++ class (data/README.md)."""

    layout: Layout
    x: np.ndarray  # (N, I)
    y: np.ndarray  # (N, O)
    loss: Loss
    rule: Rule
    initial: np.ndarray  # (P,)
    passes: np.ndarray  # (passes, P), float64: the parameters after each
    deviation: np.ndarray  # (passes,): what fused multiply-add alone changed

    def before(self, number: int) -> np.ndarray:
        """Return the parameters (P,) that pass `number`, counted from 1, starts from."""
        return self.passes[number - 2].astype(np.float32) if number > 1 else self.initial


def golden(name: str) -> Golden:
    """Read a golden run: ReLU inside, the output as it is, every sample updating at once."""
    with np.load(DATA / f"{name}.npz") as data:
        config = json.loads(str(data["config"]))
        assert config["activation"] == "RELU"
        assert config["apply_rate"] == 0
        sizes = tuple(config["levels"])
        names = ["relu"] * (len(sizes) - 2) + ["identity"]
        return Golden(
            Layout(sizes, tuple(ACTIVATIONS[name] for name in names)),
            data["inputs"],
            data["targets"],
            LOSSES["squared_error"],
            Rule(config["train_rate"], 0.0, False, config["weightSaturation"]),
            data["weights_initial"],
            data["weights"].astype(np.float64),
            data["fma_deviation"],
        )


# ---- The comparison ------------------------------------------------------------------------------


def agree(got: np.ndarray, want: np.ndarray, bound: np.ndarray, what: str) -> None:
    """Assert that `got` lies within `bound` of `want`, entry by entry; NaN agrees with NaN, infinity with itself."""
    assert got.shape == want.shape, f"{what}: expected shape {want.shape}, got {got.shape}"
    with np.errstate(invalid="ignore"):
        right = (np.abs(got.astype(np.float64) - want) <= bound) & (bound < np.inf)
    right |= (np.isnan(got) & np.isnan(want)) | (np.isinf(got) & (got == want))
    if not right.all():
        first = np.unravel_index(int(np.argmin(right)), right.shape)
        raise AssertionError(
            f"{what}: {np.sum(~right)} of {right.size} entries differ, the first at {tuple(map(int, first))}: "
            f"expected {want[first]!r} within {np.broadcast_to(bound, want.shape)[first]:.3g}, got {got[first]!r}"
        )


class UnsuitableCaseError(Exception):
    """A case on which even a correct kernel may be so far off that the check would say little."""


def tight(bound: np.ndarray, want: np.ndarray, what: str) -> None:
    """Refuse a bound that grew too loose on its way through a network, as where a ReLU is almost at its kink."""
    limit = LOOSEST * np.abs(want).max()
    if not bound.max() <= limit:
        raise UnsuitableCaseError(f"{what}: the bound is {bound.max():.3g}, more than {limit:.3g}; choose another case")


@contextlib.contextmanager
def within_doubles(what: str) -> Iterator[None]:
    """Refuse a training that runs away until doubles hold neither what it should be nor the bound on it."""
    try:
        yield
    except (OverflowError, RuntimeWarning) as error:
        raise UnsuitableCaseError(f"{what}: {error}; choose another case") from error


def same_kind(got: np.ndarray, dtype: np.dtype, what: str) -> None:
    """Assert that a kernel kept the dtype."""
    assert got.dtype == dtype, f"{what}: expected {dtype}, got {got.dtype}"


# ---- The checks, in the order of the kernels -----------------------------------------------------


def check_activate(kernels: ModuleType, z: np.ndarray, activation: Activation) -> None:
    """Eq. 2 for given pre-activations (B, O): within FUNCTION_ULPS, NaN where z has one."""
    phi = replace(activation, slope=float(z.dtype.type(activation.slope)))
    before = z.copy()
    got = kernels.activate(z, activation)
    same_kind(got, z.dtype, activation.name)
    assert not np.shares_memory(got, z), f"{activation.name}: expected a new array"
    assert np.array_equal(z, before, equal_nan=True), f"{activation.name}: changed its argument"
    z64 = z.astype(np.float64)
    want = ByOracle.activate(z64, phi)
    with np.errstate(invalid="ignore"):
        bound = bounds.activation(z64, np.zeros_like(z64), want, phi, Precision.of(z.dtype))
    want[want > np.finfo(z.dtype).max] = np.inf  # exp overflows
    agree(got, want, bound, f"{activation.name} of {z.dtype}")


def check_derivative_factor(kernels: ModuleType, v: np.ndarray, activation: Activation) -> None:
    """Eq. 3 for given activations (B, O)."""
    phi = replace(activation, slope=float(v.dtype.type(activation.slope)))
    got = kernels.derivative_factor(v, activation)
    same_kind(got, v.dtype, activation.name)
    v64 = v.astype(np.float64)
    bound = bounds.derivative_factor(v64, np.zeros_like(v64), phi, Precision.of(v.dtype))[1]
    agree(got, ByOracle.derivative_factor(v64, phi), bound, f"derivative of {activation.name} in {v.dtype}")


def check_forward(kernels: ModuleType, case: Case, judge: Judge = ByOracle, draw: Draw | None = None) -> None:
    """Eq. 1 and 2, each layer from the kernel's own output of the layer below; with `draw` dropout in between."""
    judged, p = case.in_double(), case.precision
    bends: twin.Bends = [None] * case.layout.n_layers
    layers = kernels.forward(case.layout, case.parameters, case.x, bends, draw)
    assert len(layers) == case.layout.n_layers + 1
    factors = dropout_factors(case.layout, draw, len(case.x))
    check_marks(case, layers, factors)
    want, bound = after_dropout(judged.x, np.zeros_like(judged.x), factors, 0, p)
    agree(layers[0], want, bound, "layer 0")
    blocks, corners = judged.layout.blocks(judged.parameters), judged.layout.corners(judged.parameters)
    for depth, (block, phi) in enumerate(zip(blocks, judged.layout.activations, strict=True), start=1):
        same_kind(layers[depth], case.x.dtype, f"layer {depth}")
        read = [layer.astype(np.float64) for layer in layers[:depth]]
        u, du = bounds.joined(judged.layout, read, [np.zeros_like(layer) for layer in read], depth - 1, p)
        want = judge.pre_activation(u, block)
        bound = bounds.pre_activation(u, du, block, np.zeros_like(block), p)[1]
        if case.layout.bends[depth - 1]:
            agree(bends[depth - 1], want, bound, f"z of layer {depth} of {case.layout.sizes}")
            z, corner = bends[depth - 1].astype(np.float64), corners[depth - 1]
            want, bound = judge.bend(z, corner), bounds.bend(z, np.zeros_like(z), corner, np.zeros_like(corner), p)[1]
        elif depth < case.layout.n_layers:
            z, want = want, judge.activate(want, phi)
            bound = bounds.activation(z, bound, want, phi, p)
        want, bound = after_dropout(want, bound, factors, depth, p)
        agree(layers[depth], want, bound, f"layer {depth} of {case.layout.sizes}")


def after_dropout(v: np.ndarray, dv: np.ndarray, factors: bounds.Factors, depth: int, p: Precision) -> bounds.Bounded:
    """Eq. 2b: the activation `depth` of [x, v_1, ...] after dropout."""
    if factors is None:
        return v, dv
    return v * factors[depth], bounds.dropped(v, dv, factors[depth], 2, p)


def check_marks(case: Case, layers: list[np.ndarray], factors: bounds.Factors) -> None:
    """Minus zeros stand where the oracle drops, and in what drops nowhere else."""
    if factors is None:
        return
    for depth, share in enumerate(case.layout.dropouts):
        marks = (layers[depth] == 0) & np.signbit(layers[depth])
        assert not share or np.array_equal(marks, factors[depth] == 0), f"activation {depth} of {case.layout.sizes}"


def check_output_delta(kernels: ModuleType, case: Case, z: np.ndarray, scale: float) -> None:
    """Eq. 4 for given pre-activations (N, O) of the output layer."""
    if case.loss.name == "poisson":
        z = np.minimum(z, 80)  # the exponential of more is infinite in float32
    phi, p = case.in_double().layout.activations[-1], case.precision
    losses, g = kernels.output_delta(z, case.y, case.loss, case.layout.activations[-1], scale)
    same_kind(losses, np.dtype(np.float64), "row losses")
    same_kind(g, z.dtype, "output delta")
    z64, y = z.astype(np.float64), case.in_double().targets(np.arange(len(z)))
    want_losses, want_g = ByOracle.output_delta(z64, y, case.loss, phi)
    v = ByOracle.activate(z64, phi)
    dlosses, dg = bounds.output_delta(z64, np.zeros_like(z64), v, y, case.loss, phi, scale, p)
    what = f"{case.loss.name} of {phi.name}"
    agree(losses, want_losses, dlosses, f"losses, {what}")
    agree(g, scale * want_g, dg, f"output delta, {what}")


def check_backward(kernels: ModuleType, case: Case, judge: Judge = ByOracle, draw: Draw | None = None) -> None:
    """Eq. 5 and 6, each layer from the kernel's own delta of the layer above; with `draw` through dropout, eq. 6b."""
    judged, p = case.in_double(), case.precision
    bends: twin.Bends = [None] * case.layout.n_layers
    layers = twin.forward(case.layout, case.parameters, case.x, bends, draw)
    factors = dropout_factors(case.layout, draw, len(case.x))
    zs = list(bends)
    g = np.random.default_rng(len(layers[-1])).normal(size=layers[-1].shape).astype(case.x.dtype)
    deltas = kernels.backward(case.layout, case.parameters, layers, g, bends, draw is not None)
    assert len(deltas) == case.layout.n_layers
    for depth, (z, shares, corner) in enumerate(
        zip(zs, bends, judged.layout.corners(judged.parameters), strict=True), start=1
    ):
        if z is not None:  # from the kernel's own slope by v, which is the offset's share
            check_bend_back(judge, z, corner, shares, deltas[depth - 1], f"corners {depth} of {case.layout.sizes}")
    output_slope = deltas[-1] if zs[-1] is None else bends[-1][1]
    agree(output_slope, g.astype(np.float64), np.zeros(1), "output delta")
    for depth in range(case.layout.n_layers - 1, 0, -1):
        same_kind(deltas[depth - 1], case.x.dtype, f"delta {depth}")
        phi, v = judged.layout.activations[depth - 1], layers[depth].astype(np.float64)
        above = np.hstack([deltas[layer].astype(np.float64) for layer, _ in bounds.readers(judged.layout, depth)])
        w = bounds.read_weights(judged.layout, judged.parameters, depth)
        dsums = bounds.product(above, np.zeros_like(above), w.T, np.zeros_like(w.T), p)
        v, dv = bounds.undropped(v, np.zeros_like(v), None if factors is None else factors[depth], p)
        bound = bounds.elementwise(above @ w.T, dsums, *bounds.derivative_factor(v, dv, phi, p), 1, p)
        want = judge.backward(np.vstack([w, np.zeros(w.shape[1])]), v, phi, above)
        want, bound = after_dropout(want, bound, factors, depth, p)
        got = deltas[depth - 1] if zs[depth - 1] is None else bends[depth - 1][1]
        agree(got, want, bound, f"delta {depth} of {case.layout.sizes}")


def check_bend_back(
    judge: Judge, z: np.ndarray, corner: np.ndarray, shares: np.ndarray, g: np.ndarray, what: str
) -> None:
    """Eq. 6a and the rows' shares in eq. 7b, from the kernel's own slope by v."""
    p, z64, s, zero = Precision.of(z.dtype), z.astype(np.float64), shares[1].astype(np.float64), np.zeros(z.shape)
    want_g, want_shares = judge.bend_back(z64, corner, s)
    same_kind(shares, z.dtype, what)
    agree(g, want_g, bounds.bend_back((z64, zero), corner, np.zeros_like(corner), (s, zero), p), f"delta, {what}")
    for side in (0, 2):
        limit = np.where(want_shares[side] != 0, bounds.elementwise(z64, zero, s, zero, 1, p), 0)
        agree(shares[side], want_shares[side], limit, f"shares, {what}")


def check_gradient(kernels: ModuleType, case: Case, judge: Judge = ByOracle) -> None:
    """Eq. 7 for given layers and deltas."""
    layout = case.layout
    layers = twin.forward(layout, case.parameters, case.x)
    rng = np.random.default_rng(len(case.x))
    deltas = [rng.normal(size=layer.shape).astype(case.x.dtype) for layer in layers[1:]]
    bends = [
        rng.normal(size=(3, *delta.shape)).astype(case.x.dtype) if bends else None
        for delta, bends in zip(deltas, layout.bends, strict=True)
    ]
    out = np.full_like(case.parameters, np.nan)
    assert kernels.gradient(layout, layers, deltas, out, bends) is out
    sums = [None if shares is None else shares.astype(np.float64).sum(axis=1) for shares in bends]
    limits = [
        None if shares is None else case.precision.gamma(len(case.x)) * np.abs(shares.astype(np.float64)).sum(axis=1)
        for shares in bends
    ]
    layers64, deltas64 = ([values.astype(np.float64) for values in lists] for lists in (layers, deltas))
    exact = [[np.zeros_like(values) for values in lists] for lists in (layers64, deltas64)]
    bound = bounds.gradient(layout, layers64, exact[0], deltas64, exact[1], limits, case.precision)
    for depth, corner in enumerate(layout.corners(out)):
        if layout.bends[depth]:
            agree(corner, sums[depth], limits[depth], f"gradient of corners {depth + 1} of {layout.sizes}")
    for depth, (got, limit) in enumerate(zip(layout.blocks(out), layout.blocks(bound), strict=True)):
        u, _ = bounds.joined(layout, layers64, exact[0], depth, case.precision)
        agree(got, judge.gradient(u, deltas64[depth]), limit, f"gradient {depth + 1} of {layout.sizes}")


def check_saturated_update(kernels: ModuleType, size: int, dtype: str, rule: Rule, seed: int = 0) -> None:
    """Eq. 8 and 9 for `size` parameters, some of which the limit stops."""
    rng = np.random.default_rng(seed)
    w, slope, *states = rng.normal(size=(4, size)).astype(dtype)
    state = np.concatenate([states[0], states[1] ** 2])[: rule.states * size]
    old_w, old_state, old_slope = (array.astype(np.float64) for array in (w, state, slope))
    got = kernels.saturated_update(w, state, slope, rule.at(3))
    assert np.shares_memory(got, slope), "expected the new parameters in the gradient's memory"
    agree(w, old_w, np.zeros(1), "the old parameters")
    rule = rule._replace(saturation=float(np.dtype(dtype).type(rule.saturation)))
    old_state = old_state if rule.states else np.zeros(size)
    after, after_states = oracle.moved(
        oracle.Layer([], old_w.tolist()),
        [oracle.Layer([], part.tolist()) for part in old_state.reshape(-1, size)],
        oracle.Layer([], old_slope.tolist()),
        oracle.Rule(*rule),
        3,
    )
    zero, exact = np.zeros(size), (old_state, np.zeros_like(old_state))
    dw, dstate = bounds.update((old_w, zero), exact, (old_slope, zero), rule.at(3), Precision.of(np.dtype(dtype)))
    agree(got, np.array(after.biases), dw, f"parameters after {rule}")
    if rule.states:
        want = np.concatenate([part.biases for part in after_states])
        agree(state, want, dstate, f"state after {rule}")


def check_workspace(kernels: ModuleType, case: Case, saturation: float, batch_size: int = 1) -> None:
    """`load` brings every parameter inside the limit, `store` gives back the same bits, NaN is found."""
    wild = case.parameters.copy()
    wild[::3] *= 100
    kept = wild.copy()
    work = kernels.Workspace(case.layout, wild.dtype, batch_size, False, 1)
    work.load(wild, saturation)
    out = np.full_like(wild, np.nan)
    work.store(out)
    agree(wild, kept.astype(np.float64), np.zeros(1), "the loaded array")
    limit = float(wild.dtype.type(saturation))
    want = np.array([oracle.saturated(weight, limit) for weight in wild.tolist()])
    agree(out, want, np.zeros(1), "stored parameters")
    assert work.is_finite()
    for bad in (np.nan, np.inf, -np.inf):
        for place in {0, len(wild) // 2, len(wild) - 1}:
            spoilt = kept.copy()
            spoilt[place] = bad
            work.load(spoilt, np.inf)
            work.store(out)
            agree(out, spoilt.astype(np.float64), np.zeros(1), f"parameters with {bad}")
            assert not work.is_finite(), f"{bad} at {place} of {len(wild)} passes for finite"


def check_loss_and_gradient(
    kernels: ModuleType, case: Case, scale: float, threads: int = 1, judge: Judge = ByOracle
) -> None:
    """Eq. 1 to 7 in one call, over all rows."""
    got_loss, got = kernels.loss_and_gradient(case.layout, case.parameters, case.x, case.y, case.loss, scale, threads)
    same_kind(got, case.parameters.dtype, "gradient")
    assert isinstance(got_loss, float)
    judged = case.in_double()
    exact = np.zeros_like(judged.parameters)
    step = next(judge.train(judged, np.arange(len(case.x)), PLAIN, len(case.x), mean=False))
    step = step._replace(scale=scale, deltas=[scale * delta for delta in step.deltas])
    dlosses, dslope = sweep_bounds(judged, step, (judged.parameters, exact), case.precision)
    what = f"of {case.layout.sizes} on {len(case.x)} rows"
    tight(dslope, scale * step.gradient, f"gradient {what}")
    agree(np.array(got_loss), scale * step.losses.sum(), scale * total_bound(step.losses, dlosses), f"loss {what}")
    agree(got, scale * step.gradient, dslope, f"gradient {what}")


def check_ceiling(kernels: ModuleType, case: Case) -> None:
    """Eq. 4 with a ceiling, as it is summed over all rows."""
    judged, p = case.in_double(), case.precision
    z = twin.forward(judged.layout, judged.parameters, judged.x)
    errors = bounds.forward(judged.layout, (judged.parameters, np.zeros_like(judged.parameters)), z, p)[-1]
    phi, y = judged.layout.activations[-1], judged.targets(np.arange(len(case.x)))
    want, _ = ByOracle.output_delta(z[-1], y, case.loss, phi)
    dlosses, _ = bounds.output_delta(z[-1], errors, ByOracle.activate(z[-1], phi), y, case.loss, phi, 1.0, p)
    got, _ = kernels.loss_and_gradient(case.layout, case.parameters, case.x, case.y, case.loss, 1.0, 1)
    agree(np.array(got), want.sum(), total_bound(want, dlosses), f"{case.loss.name} with a ceiling")


def check_train_epoch(
    kernels: ModuleType,
    case: Case,
    order: np.ndarray,
    rule: Rule,
    batch_size: int,
    *,
    mean: bool = True,
    threads: int = 1,
    by_columns: bool | None = None,
    wide: bool = False,
    halves: bool | None = None,
    stages: bool | None = None,
    weights: np.ndarray | None = None,
    judge: Judge = ByOracle,
    mask_seed: int = 0,
) -> None:
    """Eq. 1 to 9 over the batches of `order`; the bounds go through every step.

    `by_columns` says whether the threads share each layer's neurons or the batch's rows, `wide` whether they take
    neurons in pieces, `halves` whether a batch goes through as two halves instead, `stages` whether the threads share
    out the layers; None leaves it to the kernels.
    """
    halves = False if by_columns is not None or stages else halves
    work = kernels.Workspace(
        case.layout, case.parameters.dtype, batch_size, rule.states, threads, halves=halves, stages=stages
    )
    work.threads = threads  # also where there is too little work to share
    if by_columns is not None:
        work.by_columns = [by_columns] * case.layout.n_layers
    work.wide = [wide] * case.layout.n_layers
    work.mask_seed = mask_seed
    work.load(case.parameters, rule.saturation)
    got_total = kernels.train_epoch(work, case.x, case.y, order, case.loss, rule, mean, None, weights)
    got = np.empty_like(case.parameters)
    work.store(got)

    rule = rule._replace(saturation=float(got.dtype.type(rule.saturation)))
    judged, p = case.in_double(), case.training_precision
    start = np.array([oracle.saturated(weight, rule.saturation) for weight in judged.parameters.tolist()])
    zero = np.zeros(len(start) * max(1, rule.states))
    flat, state = (start, np.zeros_like(start)), (zero, zero)
    total, dtotal, penalties = 0.0, 0.0, 0.0
    counts = None if weights is None else weights.astype(np.float64)
    steps = judge.train(replace(judged, parameters=start), order, rule, batch_size, mean, counts, mask_seed)
    in_groups = batch_size == 1 and not rule.states and not rule.alpha and rule.saturation == np.inf
    in_groups = in_groups and kernels.__name__ != twin.__name__  # which takes rows one by one
    before: list[tuple[np.ndarray, bounds.Bounded]] = []
    what = f"{case.layout.sizes} after {len(order)} rows in batches of {batch_size}, {rule}"
    with within_doubles(what):
        for update, step in enumerate(steps, start=1):
            dlosses, dslope = sweep_bounds(judged, step, flat, p, counts, before)
            times = len(step.rows) * step.scale if mean else 1.0
            total += step.loss
            penalties += step.loss - times * float(step.losses.sum())
            dtotal += times * (total_bound(step.losses, dlosses) + bounds.penalty(judged.layout, flat, rule.alpha))
            if rule.alpha:
                dslope = bounds.penalised(judged.layout, flat, (step.gradient, dslope), rule.alpha * step.scale, p)
            own = scaled(case.layout, rule.at(update))
            dflat, dstate = bounds.update(flat, state, (step.gradient, dslope), own, p)
            if in_groups:  # a row's biases move by rate times its delta
                move, dmove = (case.layout.blocks(own.rate * part)[0][-1:] for part in (step.gradient, dslope))
                before = [*before, (step.layers[0], (move, dmove))] if update % GROUP else []
            flat, state = (step.parameters, dflat), (step.state, dstate)
    tight(flat[1], flat[0] - start, f"step of {what}")
    dtotal += bounds.DOUBLE.gamma(2 * len(order) + 2) * abs(total) + FLUSHED_LOSSES
    agree(np.array(got_total), np.array(total), dtotal, f"loss of {what}")
    agree(np.array(work.penalties), np.array(penalties), dtotal, f"penalties of {what}")
    agree(got, *flat, what)


def with_zeros(case: Case, zeros: float, seed: int = 1) -> Case:
    """Return the case with so many of its inputs, at other places in every row, exactly 0."""
    x = case.x.copy()
    x[np.random.default_rng(seed).random(x.shape) < zeros] = 0
    return replace(case, x=x)


def with_one_zero(case: Case, row: int, column: int) -> Case:
    """Return the case with one input exactly 0 and no other."""
    x = np.where(case.x == 0, case.x.dtype.type(0.5), case.x)
    x[row, column] = 0
    return replace(case, x=x)


def check_lists_change_nothing(
    kernels: ModuleType,
    case: Case,
    rule: Rule,
    batch_size: int,
    threads: int = 1,
    by_columns: bool | None = None,
    wide: bool = False,
) -> None:
    """Two epochs give the same bits whether products skip zeros, where they may, or not.

    by_columns: what the threads share, if given; wide: whether they take neurons in pieces.
    """
    ends = []
    for tiles in (False, True):
        work = kernels.Workspace(case.layout, case.parameters.dtype, batch_size, rule.states, threads)
        work.threads = threads
        if by_columns is not None:
            work.by_columns = [by_columns] * case.layout.n_layers
        work.wide = [wide] * case.layout.n_layers
        if tiles:
            work.sparse = [(False, False)] * case.layout.n_layers
        work.load(case.parameters, rule.saturation)
        totals = [
            kernels.train_epoch(work, case.x, case.y, order, case.loss, rule, True, None)
            for order in (np.arange(len(case.x)), np.arange(len(case.x))[::-1].copy())
        ]
        parameters, state = np.empty_like(case.parameters), np.empty(rule.states * case.parameters.size, case.x.dtype)
        work.store(parameters)
        work.store_state(state)
        ends.append((totals, work.penalties, parameters, state))
    (totals, penalties, *arrays), (want_totals, want_penalties, *wanted) = ends
    assert totals == want_totals
    assert penalties == want_penalties
    for got, want, what in zip(arrays, wanted, ("parameters", "state"), strict=True):
        agree(got, want.astype(np.float64), np.zeros(1), f"{what} of {case.layout.sizes} by lists")


def check_rows_apart(kernels: ModuleType, case: Case, rule: Rule) -> None:
    """Rows with little in common go one by one through online training: to the bit as below a limit out of reach."""
    ends = []
    for limit in (np.inf, 1e30):
        work = kernels.Workspace(case.layout, case.parameters.dtype, 1, rule.states, 2)
        work.threads = 2
        work.load(case.parameters, limit)
        own = rule._replace(saturation=limit)
        total = kernels.train_epoch(work, case.x, case.y, np.arange(len(case.x)), case.loss, own, True, None)
        parameters = np.empty_like(case.parameters)
        work.store(parameters)
        ends.append((total, parameters.tobytes()))
    assert ends[0] == ends[1]


def check_overflow_moves_nothing(kernels: ModuleType, dtype: str) -> None:
    """Rows whose product overflows go together through online training while what they saturate stands still."""
    case = make_case((20, 40, 3), 12, hidden="tanh", dtype=dtype)
    case.x[3:5, 7] = 3 * np.sqrt(np.finfo(dtype).max)
    work = kernels.Workspace(case.layout, case.parameters.dtype, 1, 0, 1)
    work.load(case.parameters, np.inf)
    with np.errstate(over="ignore"):
        total = kernels.train_epoch(work, case.x, case.y, np.arange(12), case.loss, PLAIN, True, None)
    assert np.isfinite(total), total
    assert work.is_finite()


def check_penalty_may_end(kernels: ModuleType, case: Case, rule: Rule) -> None:
    """A workspace that trains online with a penalty, then without, does as a fresh one that starts from there."""
    results = []
    parameters = case.parameters
    for epochs in ([rule, rule._replace(alpha=0.0)], [rule._replace(alpha=0.0)]):
        work = kernels.Workspace(case.layout, case.parameters.dtype, 1, 0, 1)
        work.load(parameters, rule.saturation)
        for each in epochs:
            parameters = np.empty_like(case.parameters)
            work.store(parameters)
            kernels.train_epoch(work, case.x, case.y, np.arange(4), case.loss, each, True, None)
        result = np.empty_like(parameters)
        work.store(result)
        results.append(result)
    assert np.array_equal(*results), f"{case.layout.sizes}: training without a penalty depends on that with one"


def check_train_through_updated(
    kernels: ModuleType, case: Case, order: np.ndarray, rule: Rule, weights: np.ndarray | None = None, mean: bool = True
) -> None:
    """Eq. 21 to 23 for the rows of `order`; the bounds go through every step."""
    work = kernels.Workspace(case.layout, case.parameters.dtype, 1, 0, 2)
    work.load(case.parameters, rule.saturation)
    got_total = kernels.train_epoch(work, case.x, case.y, order, case.loss, rule, mean, None, weights, True)
    got = np.empty_like(case.parameters)
    work.store(got)

    rule = rule._replace(saturation=float(got.dtype.type(rule.saturation)))
    judged = case.in_double()
    start = np.clip(judged.parameters, -rule.saturation, rule.saturation)
    flat, total, dtotal = (start, np.zeros_like(start)), 0.0, 0.0
    network = network_of(replace(judged, parameters=start))
    counts = [1.0] * len(judged.x) if weights is None else weights.tolist()
    scales = [float(count > 0) if mean else count for count in counts]
    data = (judged.x.tolist(), judged.y.tolist(), order.tolist(), scales)
    what = f"{case.layout.sizes} after {len(order)} rows through updated weights, {rule}"
    steps = oracle.train_through_updated(network, *data, case.loss.name, oracle.Rule(*rule))
    with within_doubles(what):
        for row, step in zip(order, steps, strict=True):
            targets = judged.targets(np.array([row]))
            dlosses, dflat = updated_bounds(judged, step, flat, targets, scales[row], rule, case.training_precision)
            flat = (flat_of(step.network), dflat)
            total += scales[row] * step.loss
            dtotal += scales[row] * total_bound(np.array([step.loss]), dlosses)
    tight(flat[1], flat[0] - start, f"step of {what}")
    dtotal += bounds.DOUBLE.gamma(len(order)) * abs(total) + FLUSHED_LOSSES
    agree(np.array(got_total), np.array(total), dtotal, f"loss of {what}")
    agree(got, *flat, what)


def check_subnormals(kernels: ModuleType, dtype: str, threads: int, flushes: bool) -> None:
    """Training rounds results that are subnormal to 0 where it `flushes`; it reads those that it is given, and nobody
    else's results are rounded: not those of a tick, of other functions, of what comes afterwards."""
    smallest = np.finfo(dtype).smallest_normal
    layout = make_case((8, 16), 1, dtype=dtype).layout
    parameters, state = (np.zeros(layout.n_parameters, dtype) for _ in range(2))
    layout.weights(state)[0][:] = 5 * smallest
    seen: list[bool] = []

    def tick(rows_done: int) -> None:
        seen.append(smallest * np.dtype(dtype).type(0.5) > 0)

    rows = 1024
    while len(seen) < 3:  # the velocity of inputs that are 0 falls below the smallest number after 7 ticks of 10
        rows *= 2
        seen.clear()
        rule = Rule(1e-3, 10.0 ** (-8 / rows), False, np.inf)
        work = kernels.Workspace(layout, np.dtype(dtype), 8, 1, threads)
        work.threads = threads
        work.load(parameters, np.inf)
        work.load_state(state)
        x, y = np.zeros((rows, 8), dtype), np.ones((rows, 16), dtype)
        kernels.train_epoch(work, x, y, np.arange(rows), LOSSES["squared_error"], rule, True, tick)
    after = np.empty_like(state)
    work.store_state(after)
    velocity = np.abs(layout.weights(after)[0])
    assert velocity.max() < smallest, "expected the velocity to have become subnormal"
    assert (velocity == 0).all() == flushes, f"expected {'0' if flushes else 'subnormal numbers'}, got {velocity}"
    assert all(seen), "a tick's results are rounded to 0"
    assert smallest * np.dtype(dtype).type(0.5) > 0, "the process's results are rounded to 0"

    case = make_case((1, 1), 1, dtype=dtype)
    case.x[:], case.y[:], case.parameters[:] = smallest / 7, 0, [1 / smallest, 0]
    work = kernels.Workspace(case.layout, np.dtype(dtype), 1, 0, 1)
    work.load(case.parameters, np.inf)
    loss = kernels.train_epoch(work, case.x, case.y, np.arange(1), case.loss, PLAIN, True, None)
    assert loss > 0.02, "a number of the data that is subnormal counts for 0"
    case.x[:], case.parameters[:] = smallest / 2, [1, 0]
    _, gradient = kernels.loss_and_gradient(case.layout, case.parameters, case.x, case.y, case.loss, 1.0, 1)
    assert gradient[1] > 0, "a gradient that is asked for is rounded to 0"


def run_updated(kernels: ModuleType, case: Case, rule: Rule, order: np.ndarray) -> np.ndarray:
    """Return the parameters after the rows of `order`, deltas going through updated weights."""
    work = kernels.Workspace(case.layout, case.parameters.dtype, 1, 0, 1)
    work.load(case.parameters, rule.saturation)
    kernels.train_epoch(work, case.x, case.y, order, case.loss, rule, True, None, None, True)
    after = np.empty_like(case.parameters)
    work.store(after)
    return after


def check_each_step_through_updated(kernels: ModuleType, case: Case, order: np.ndarray, rule: Rule) -> None:
    """Eq. 21 to 23 for each row of `order` from where the kernels' own steps have come to, so that no error grows."""
    for row in order:
        one = np.array([row])
        check_train_through_updated(kernels, case, one, rule)
        case = replace(case, parameters=run_updated(kernels, case, rule, one))


def check_updated_may_end(kernels: ModuleType, case: Case, rule: Rule) -> None:
    """A workspace whose deltas went through updated weights, then through old ones, does as a fresh one from there."""
    results, parameters = [], case.parameters
    for epochs in ((True, False), (False,)):
        work = kernels.Workspace(case.layout, case.parameters.dtype, 1, 0, 1)
        work.load(parameters, rule.saturation)
        for through_updated in epochs:
            parameters = np.empty_like(case.parameters)
            work.store(parameters)
            order = np.arange(len(case.x))
            kernels.train_epoch(work, case.x, case.y, order, case.loss, rule, True, None, None, through_updated)
        results.append(np.empty_like(parameters))
        work.store(results[-1])
    assert np.array_equal(*results), f"{case.layout.sizes}: ordinary training depends on that through updated weights"


def check_predict(kernels: ModuleType, case: Case, threads: int = 1) -> None:
    """Eq. 1, 2 and 4 to the outputs and losses: the bits of `forward`, `activate` and `output_delta`.

    The outputs for all rows together and for each alone.
    """
    layout, output = case.layout, case.layout.activations[-1]
    is_twin = kernels.__name__ == twin.__name__  # whose BLAS sums a row in another order among more rows, or alone
    chunks = range(0, len(case.x), twin.CHUNK_ROWS if is_twin else len(case.x))
    z = np.concatenate([kernels.forward(layout, case.parameters, case.x[at : at + chunks.step])[-1] for at in chunks])
    want = kernels.activate(z, output)
    got = kernels.predict(layout, case.parameters, case.x, threads)
    same_kind(got, case.x.dtype, "outputs")
    assert np.array_equal(got, want), f"{case.layout.sizes}: outputs of {len(case.x)} rows differ from those of forward"
    if not is_twin:
        for row in range(min(len(case.x), 5)):
            alone = kernels.predict(layout, case.parameters, case.x[row : row + 1], 1)
            assert np.array_equal(alone[0], want[row]), f"{case.layout.sizes}: outputs of row {row} alone differ"
    loss = LOSSES["cross_entropy"] if output.name == "softmax" else case.loss
    row_losses, outputs = kernels.evaluate(layout, case.parameters, case.x, case.y, loss, threads)
    same_kind(row_losses, np.dtype("float64"), "losses")
    assert np.array_equal(outputs, want), f"{case.layout.sizes}: outputs beside losses differ"
    want_losses = kernels.output_delta(z, case.y, loss, output, 1.0)[0]
    assert np.array_equal(row_losses, want_losses), f"{case.layout.sizes}: the losses of {len(case.x)} rows differ"


def check_nan_is_seen(kernels: ModuleType, case: Case, batch_size: int) -> None:
    """A NaN in the data or a bias reaches the loss and the parameters; no ReLU that is on and no limit stops it."""
    for victim, limit in itertools.product(("x", "y", "first bias", "last bias"), (4.0, np.inf)):
        x, y, parameters = case.x.copy(), case.y.copy(), case.parameters.copy()
        case.layout.biases(parameters)[-1][:] = 3  # a ReLU that is off receives nothing backward, not even a NaN
        if victim == "x":
            x[1, -1] = np.nan
        elif victim == "y":
            y[1, -1] = np.nan
        else:
            case.layout.biases(parameters)[0 if victim == "first bias" else -1][-1] = np.nan
        work = kernels.Workspace(case.layout, parameters.dtype, batch_size, False, 1)
        work.load(parameters, limit)
        with np.errstate(invalid="ignore"):
            total = kernels.train_epoch(
                work, x, y, np.arange(len(x)), case.loss, Rule(1e-3, 0.0, False, limit), True, None
            )
        assert np.isnan(total), f"NaN in {victim}: the loss is {total}"
        assert not work.is_finite(), f"NaN in {victim}: the parameters are finite"
        work.store(parameters)
        if case.layout.activations[-1].name == "relu":
            continue  # where v is NaN it is not above 0, so that a ReLU passes nothing back
        *weights, bias = case.layout.blocks(parameters)[-1][:, -1]
        assert np.isnan(weights).any(), f"NaN in {victim}: the last output's weights are {weights}"
        assert np.isnan(bias), f"NaN in {victim}: the last output's bias is {bias}"


def check_golden(kernels: ModuleType, name: str, first: int, last: int) -> None:
    """Plain online training repeats passes `first` to `last` of a golden run within ten times its `fma_deviation`."""
    run = golden(name)
    work = kernels.Workspace(run.layout, np.dtype(np.float32), 1, False, 1)
    work.load(run.before(first), run.rule.saturation)
    parameters = np.empty_like(run.initial)
    for number in range(first, last + 1):
        kernels.train_epoch(work, run.x, run.y, np.arange(len(run.x)), run.loss, run.rule, False, None)
        work.store(parameters)
        agree(parameters, run.passes[number - 1], 10 * run.deviation[number - 1], f"pass {number} of {name}")


def sweep_bounds(
    case: Case,
    step: Judged,
    flat: bounds.Bounded,
    p: Precision,
    weights: np.ndarray | None = None,
    before: bounds.Moves = (),
) -> tuple[np.ndarray, np.ndarray]:
    """Return the bounds of the rows' losses (B,) and of the gradient (P,) of one batch, without a penalty's.

    `before`: see `bounds.forward`.
    """
    layout, phi = case.layout, case.layout.activations[-1]
    errors = bounds.forward(layout, flat, step.layers, p, step.factors, before)
    z, y = step.layers[-1], case.targets(step.rows)
    v = ByTwin.activate(z, phi)
    scale = step.scale if weights is None else step.scale * weights[step.rows, None]
    dlosses, dslope = bounds.output_delta(z, errors[-1], v, y, case.loss, phi, scale, p)
    if weights is not None:
        dlosses = weights[step.rows] * dlosses + bounds.DOUBLE.gamma(1) * np.abs(step.losses)
    slope = 2 * scale * (v - y) if layout.bends[-1] else step.deltas[-1]
    derrors, dcorners = bounds.backward(
        layout, flat, step.layers, errors, step.deltas, (slope, dslope), p, step.factors
    )
    return dlosses, bounds.gradient(layout, step.layers, errors, step.deltas, derrors, dcorners, p)


def updated_bounds(
    case: Case, step: oracle.UpdatedStep, flat: bounds.Bounded, y: np.ndarray, scale: float, rule: Rule, p: Precision
) -> tuple[np.ndarray, np.ndarray]:
    """Return the bounds of the row's loss (1,) and of the new parameters (P,), for deltas through updated weights."""
    layout, phi, last = case.layout, case.layout.activations[-1], case.layout.n_layers - 1
    layers, deltas = ([np.array([row]) for row in rows] for rows in (step.layers, step.deltas))
    errors = bounds.forward(layout, flat, layers, p)

    def output(v: np.ndarray, dv: np.ndarray) -> tuple[np.ndarray, bounds.Bounded]:
        dlosses, dslope = bounds.output_delta(v, dv, ByTwin.activate(v, phi), y, case.loss, phi, scale, p)
        return dlosses, (2 * scale * (v - y), dslope)  # the slope is of use for a corner, whose loss is squared_error

    after = (flat_of(step.network), np.empty_like(flat[1]))
    old, dold, new, dnew = (layout.blocks(part) for part in (*flat, *after))
    corners, dcorners, _, dnew_corners = (layout.corners(part) for part in (*flat, *after))
    dlosses, s = output(layers[-1], errors[-1])
    dg, dcorner = bounds.bent(layout, flat, layers, errors, last, s, p)
    g, derrors = np.array([step.first_delta]), [np.empty(0)] * layout.n_layers
    for depth in range(last, -1, -1):
        u, du = bounds.joined(layout, layers, errors, depth, p)
        ones, exact = bounds.with_ones(u, du)
        slope = ones.T @ g, bounds.product(ones.T, exact.T, g, dg, p)
        own = rule._replace(rate=rule.rate * layout.rate_scales[depth])
        dnew[depth][:] = updated(old[depth], dold[depth], slope, own, p)
        if dcorner is not None:
            slope = np.array(step.corner_slopes[depth]), dcorner
            dnew_corners[depth][:] = updated(corners[depth], dcorners[depth], slope, own, p)
        if depth == last:
            z = np.array([step.output])
            dz = bounds.pre_activation(u, du, new[depth], dnew[depth], p)[1]
            if layout.bends[last]:
                corner = bounds.corner_of(layout, after, last)
                v, dv = bounds.bend(z, dz, *corner, p)
                dg = bounds.bend_back((z, dz), *corner, output(v, dv)[1], p)
            else:
                dg = output(z, dz)[1][1]
        derrors[depth] = dg
        if depth > 0:
            g = deltas[depth - 1]
            dg, dcorner = bounds.delta(layout, after, layers, errors, deltas, derrors, depth, flat, p)
    return dlosses, after[1]


def updated(w: np.ndarray, dw: np.ndarray, slope: bounds.Bounded, rule: Rule, p: Precision) -> np.ndarray:
    """Return the bound of parameters that have moved along a slope by plain SGD."""
    still = np.zeros_like(w), np.zeros_like(w)
    return bounds.update((w, dw), still, slope, rule, p)[0]


def total_bound(losses: np.ndarray, dlosses: np.ndarray) -> float:
    """Return the bound of the sum of the rows' losses, taken in double."""
    return float(dlosses.sum() + bounds.DOUBLE.gamma(len(losses)) * np.abs(losses).sum())
