"""How far a correct kernel may lie from the oracle: the bounds that docs/backprop.md derives, not tuned.

Each function takes the oracle's values, each with the distance that a kernel's own value may have from it, and returns
that distance for the values that are computed from them.  Every array is float64.  Equation numbers refer to
docs/backprop.md.  Letters: B rows of a batch, I fan-in, O fan-out, L layers, P parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fnn._formulas import (
    BINARY_CROSS_ENTROPY,
    EXP,
    LEAKY_RELU,
    POISSON,
    RELU,
    SIGMOID,
    SOFTMAX,
    SQUARED_ERROR,
    TANH,
    Activation,
    Loss,
)
from fnn._layout import Layout
from fnn._optimizers import Rule

FUNCTION_ULPS = 4  # promised of exp, tanh and sigmoid on every backend, NumPy's too; an ulp is at most 2 u |value|

Bounded = tuple[np.ndarray, np.ndarray]  # values, and how far from them a kernel's may lie
Moves = Sequence[tuple[np.ndarray, Bounded]]  # of rows (1, I): by what each one's delta moves the biases (1, O)
Factors = list[np.ndarray] | None  # what dropout multiplies each of [x, v_1, ..., z_L] by, (B, width); None: by 1


class Precision(NamedTuple):
    """What one operation may lose."""

    u: float  # relatively: the kernel's unit roundoff and the oracle's own
    eta: float  # absolutely, where a product is subnormal
    lost: float = 0.0  # absolutely, where a sum is: one that is kept is exact

    @classmethod
    def of(cls, dtype: np.dtype) -> Precision:
        """Return the precision of float32 or float64."""
        info = np.finfo(dtype)
        return cls(float(info.eps) / 2 + 2.0**-53, float(info.smallest_subnormal))

    @classmethod
    def flushing(cls, dtype: np.dtype) -> Precision:
        """Return the precision of float32 or float64 where a result that is subnormal may be rounded to 0."""
        smallest = float(np.finfo(dtype).smallest_normal)
        return cls.of(dtype)._replace(eta=smallest, lost=smallest)

    def gamma(self, n: int) -> float:
        """Eq. 10: what n operations in a row may lose, relatively."""
        return n * self.u / (1 - n * self.u)


DOUBLE = Precision.of(np.dtype(np.float64))


def product(a: np.ndarray, da: np.ndarray, b: np.ndarray, db: np.ndarray, p: Precision) -> np.ndarray:
    """Eq. 11: of the matrix product a b, every sum taken in any order, with or without fused multiply-add."""
    most_a, most_b = np.abs(a) + da, np.abs(b) + db
    terms = (most_a != 0).astype(float) @ (most_b != 0).astype(float)
    return p.gamma(a.shape[1]) * (most_a @ most_b) + da @ most_b + np.abs(a) @ db + (p.eta + p.lost) * terms


def elementwise(a: np.ndarray, da: np.ndarray, b: np.ndarray, db: np.ndarray, n: int, p: Precision) -> np.ndarray:
    """Eq. 12: of the elementwise product a b, computed with n multiplications."""
    most = (np.abs(a) + da) * (np.abs(b) + db)
    return da * (np.abs(b) + db) + np.abs(a) * db + p.gamma(n) * most + p.eta * (most != 0)


def pre_activation(u: np.ndarray, du: np.ndarray, block: np.ndarray, dblock: np.ndarray, p: Precision) -> Bounded:
    """Eq. 13: z = u W + b, shape (B, O), for u (B, I) and the block (I + 1, O); the bias is one more term."""
    u, du = with_ones(u, du)
    return u @ block, product(u, du, block, dblock, p)


def of_group(u: np.ndarray, before: Moves, block: np.ndarray, dblock: np.ndarray, p: Precision) -> np.ndarray:
    """Eq. 13a: what z = u W + b of one row may lose more, taken with the W of before the steps of the rows `before`."""
    u, _ = with_ones(u, np.zeros_like(u))
    n = u.shape[1]
    gamma = p.gamma(n + len(before) + 2)
    more = (gamma - p.gamma(n)) * (np.abs(u) @ (np.abs(block) + dblock))
    for row, (move, dmove) in before:
        row, _ = with_ones(row, np.zeros_like(row))
        most = np.abs(move) + dmove
        more = more + 2 * gamma * (np.abs(u) @ np.abs(row).T) * most
        more = more + (p.eta + p.lost) * (np.count_nonzero(u * row) * most + 3 * (most != 0))
    return more


def with_ones(u: np.ndarray, du: np.ndarray) -> Bounded:
    """The layer's input (B, I) with the exact 1 that feeds the bias: (B, I + 1)."""
    return np.hstack([u, np.ones((len(u), 1))]), np.hstack([du, np.zeros((len(u), 1))])


def activation(z: np.ndarray, dz: np.ndarray, v: np.ndarray, phi: Activation, p: Precision) -> np.ndarray:
    """Eq. 14: of v = phi(z)."""
    if phi.code == RELU:
        return np.where(z + dz > 0, dz, 0.0)
    if phi.code == LEAKY_RELU:
        steepest = np.where(z + dz <= 0, phi.slope, np.where(z - dz >= 0, 1.0, max(1.0, phi.slope)))
        rounded = (z - dz < 0) & (phi.slope > 0)
        return steepest * dz + np.where(rounded, p.gamma(1) * (np.abs(v) + phi.slope * dz) + p.eta, 0.0)
    if phi.code in (TANH, SIGMOID):
        steepest = 1.0 if phi.code == TANH else 0.25
        return steepest * dz + FUNCTION_ULPS * (2 * p.u * (np.abs(v) + dz) + p.eta)
    if phi.code == EXP:
        return np.where(v < np.inf, v * np.expm1(dz) + FUNCTION_ULPS * (2 * p.u * v * np.exp(dz) + p.eta), 0.0)
    if phi.code == SOFTMAX:
        depth = np.where(v > 0, z.max(axis=1, keepdims=True) - z, 0.0)  # each argument of exp, its sign turned
        rounding = p.u * (depth + (v * depth).sum(axis=1, keepdims=True))
        rounding += 4 * FUNCTION_ULPS * p.u + p.gamma(z.shape[1] + 1)
        spread = np.expm1(dz + dz.max(axis=1, keepdims=True))
        return v * (spread + (1 + spread) * rounding) + FUNCTION_ULPS * p.eta
    return dz


def derivative_factor(v: np.ndarray, dv: np.ndarray, phi: Activation, p: Precision) -> Bounded:
    """Eq. 15: phi'(z), written with v; where v may lie on either side of a kink, so may the factor."""
    if phi.code in (RELU, LEAKY_RELU):
        either = (v - dv <= 0) & (v + dv > 0)
        return np.where(v > 0, 1.0, phi.slope), np.where(either, abs(1 - phi.slope), 0.0)
    if phi.code in (TANH, SIGMOID):
        d, slope = (1 - v * v, 2 * v) if phi.code == TANH else (v - v * v, 1 - 2 * v)
        return d, (np.abs(slope) + dv) * dv + p.gamma(2) * (np.square(np.abs(v) + dv) + np.abs(d))
    return np.ones_like(v), np.zeros_like(v)


def bend(z: np.ndarray, dz: np.ndarray, corner: np.ndarray, dcorner: np.ndarray, p: Precision) -> Bounded:
    """Eq. 14a: v = phi(z) for corners (3, O); a z that may lie on either side of 0 is small on both."""
    (left, offset, right), (dleft, doffset, dright) = corner, dcorner
    slope, dslope = np.where(z < 0, left, right), np.where(z < 0, dleft, dright)
    steepest = np.maximum(np.abs(left) + dleft, np.abs(right) + dright)
    either = np.abs(z * slope) + (1 + p.gamma(1)) * (np.abs(z) + dz) * steepest + p.eta
    bent, dbent = z * slope, np.where(unsure(z, dz), either, elementwise(z, dz, slope, dslope, 1, p))
    v = bent + offset
    return v, dbent + doffset + p.gamma(1) * (np.abs(v) + dbent + doffset) + p.lost * (v != 0)


def unsure(z: np.ndarray, dz: np.ndarray) -> np.ndarray:
    """Where z may lie on either side of 0."""
    return (np.abs(z) <= dz) & (dz > 0)


def bend_back(z: Bounded, corner: np.ndarray, dcorner: np.ndarray, s: Bounded, p: Precision) -> np.ndarray:
    """Eq. 15a: of the delta g = s * phi'(z) for corners (3, O)."""
    (left, _, right), (dleft, _, dright) = corner, dcorner
    factor = np.where(z[0] < 0, left, np.where(z[0] > 0, right, (left + right) / 2))
    dfactor = np.where(z[0] < 0, dleft, np.where(z[0] > 0, dright, (dleft + dright) / 2))
    of_mean = p.gamma(1) * (np.abs(left) + dleft + np.abs(right) + dright) + p.eta + p.lost
    dfactor = dfactor + np.where(z[0] == 0, of_mean, 0)
    either = np.abs(left - right) + np.maximum(dleft, dright) + of_mean
    return elementwise(*s, factor, np.where(unsure(*z), either, dfactor), 1, p)


def corner_gradient(z: Bounded, s: Bounded, p: Precision) -> np.ndarray:
    """Eq. 19b: of the gradient (3, O) of corners, sums over the rows of min(z, 0) s, of s and of max(z, 0) s."""
    out = []
    for side in (np.minimum(z[0], 0), np.ones_like(z[0]), np.maximum(z[0], 0)):
        reached = (side != 0) | unsure(*z)  # what is certainly 0 adds nothing
        dside = np.zeros_like(side) if len(out) == 1 else np.where(reached, z[1], 0)
        most_side, most_s = np.abs(side) + dside, np.abs(s[0]) + s[1]
        terms = (most_side != 0) & (most_s != 0)
        roundings = p.gamma(len(side)) * most_side * most_s + (p.eta + p.lost) * terms
        out.append((roundings + dside * most_s + np.abs(side) * s[1]).sum(axis=0))
    return np.array(out)


def output_delta(
    z: np.ndarray,
    dz: np.ndarray,
    v: np.ndarray,
    y: np.ndarray,
    loss: Loss,
    phi: Activation,
    scale: float | np.ndarray,
    p: Precision,
) -> tuple[np.ndarray, np.ndarray]:
    """Eq. 16: of the rows' losses (B,), summed in double, and of g = scale * dloss/dz (B, O); y (B, O).

    `scale` is one number, or (B, 1) where the rows have weights, which cost a rounding more.
    """
    of_weights = int(np.ndim(scale) > 0)
    dv = activation(z, dz, v, phi, p)
    if loss.code == SQUARED_ERROR:
        error = v - y
        derror = dv + p.gamma(1) * (np.abs(error) + dv) + p.lost * (error != 0)
        dsquares = (2 * np.abs(error) + derror) * derror
        dlosses = dsquares + DOUBLE.gamma(y.shape[1] + 1) * (np.square(error) + dsquares)
        factor, dfactor = derivative_factor(v, dv, phi, p)
        slope, dslope = 2 * scale * error, 2 * scale * derror + p.lost * (error != 0)
        return dlosses.sum(axis=1), elementwise(slope, dslope, factor, dfactor, 3 + of_weights, p)
    if loss.code == POISSON:
        entropy = y * np.abs(np.log(np.where(y > 0, y, 1)))
        terms = v + y * np.abs(z) + entropy + y
        dlosses = (v * np.expm1(dz) + y * dz + DOUBLE.gamma(y.shape[1] + 4 + 2 * FUNCTION_ULPS) * terms).sum(axis=1)
        return dlosses, scale * (dv + p.gamma(3 + of_weights) * (v + dv + y)) + 2 * p.eta + p.lost
    total = np.ones((len(y), 1)) if loss.code == BINARY_CROSS_ENTROPY else y.sum(axis=1, keepdims=True)
    slope = np.abs(v * total - y)
    terms = (np.abs(y) + total) * np.abs(z).max(axis=1, keepdims=True) + total
    dlosses = ((slope + total * dz) * dz + DOUBLE.gamma(y.shape[1] + 8) * terms).sum(axis=1)
    if loss.code != BINARY_CROSS_ENTROPY:
        depth = z.max(axis=1, keepdims=True) - z
        of_sum = p.u * (v * depth).sum(axis=1) + 2 * FUNCTION_ULPS * p.u + p.gamma(y.shape[1])
        dlosses += total[:, 0] * of_sum
    dslope = dv * total + p.gamma(y.shape[1] + 4 + of_weights) * ((v + dv) * total + np.abs(y))
    return dlosses, scale * dslope + p.eta + p.lost


def dropped(v: np.ndarray, dv: np.ndarray, factors: np.ndarray | None, n: int, p: Precision) -> np.ndarray:
    """Eq. 14b and 15b: of v times what dropout multiplies it by, with n roundings; what is dropped is 0 exactly."""
    if factors is None or (factors == 1).all():
        return dv
    most = np.abs(v) + dv
    return np.where((factors > 0) & (most != 0), factors * (dv + p.gamma(n) * most) + p.eta, 0.0)


def undropped(v: np.ndarray, dv: np.ndarray, factors: np.ndarray | None, p: Precision) -> Bounded:
    """Eq. 15b: v as it was before dropout; 0 where it was dropped."""
    if factors is None or (factors == 1).all():
        return v, dv
    inverse = np.where(factors > 0, 1 / np.where(factors > 0, factors, 1), 0)
    return v * inverse, elementwise(v, dv, inverse, np.zeros_like(v), 2, p)


def joined(layout: Layout, layers: list[np.ndarray], errors: list[np.ndarray], index: int, p: Precision) -> Bounded:
    """Eq. 1a: what layer `index` (from 0) reads of [x, v_1, ...]; a sum of two activations is rounded once."""
    (distance, mode), here, dhere = layout.skips[index], layers[index], errors[index]
    if not distance:
        return here, dhere
    there, dthere = layers[index - distance], errors[index - distance]
    if mode == "concat":
        return np.concatenate([here, there], axis=1), np.concatenate([dhere, dthere], axis=1)
    total, dtotal = here + there, dhere + dthere
    return total, dtotal + p.gamma(1) * (np.abs(total) + dtotal) + p.lost * (total != 0)


def readers(layout: Layout, index: int) -> list[tuple[int, slice]]:
    """Every layer (from 0) that reads activation `index` of [x, v_1, ...], and which rows of its weights do."""
    width, found = layout.sizes[index], []
    for layer, (distance, mode) in enumerate(layout.skips):
        below = layout.sizes[layer]
        if layer == index:
            found.append((layer, slice(0, width)))
        if distance and layer - distance == index:
            found.append((layer, slice(below, below + width) if mode == "concat" else slice(0, width)))
    return found


def read_weights(layout: Layout, flat: np.ndarray, index: int) -> np.ndarray:
    """The weights of all that read activation `index`, side by side: with their deltas so too, eq. 5 and 5a are one
    product."""
    weights = layout.weights(flat)
    return np.concatenate([weights[layer][rows] for layer, rows in readers(layout, index)], axis=1)


def forward(
    layout: Layout,
    flat: Bounded,
    layers: list[np.ndarray],
    p: Precision,
    factors: Factors = None,
    before: Moves = (),
) -> list[np.ndarray]:
    """Eq. 17: of every layer's values [x, v_1, ..., v_(L-1), z_L], for parameters `flat`; the input is exact.

    `factors`: of dropout, which the values have been multiplied by.  `before`: rows whose steps may be made up for
    instead of being waited for.
    """
    of = [None] * len(layers) if factors is None else factors
    x = undropped(layers[0], np.zeros_like(layers[0]), of[0], p)[0]
    errors = [dropped(x, np.zeros_like(x), of[0], 2, p)]
    for depth, phi in enumerate(layout.activations, start=1):
        block, dblock = layout.blocks(flat[0])[depth - 1], layout.blocks(flat[1])[depth - 1]
        z, dz = pre_activation(*joined(layout, layers, errors, depth - 1, p), block, dblock, p)
        if before and depth == 1:
            dz = dz + of_group(layers[0], before, block, dblock, p)
        if layout.bends[depth - 1]:
            dz = bend(z, dz, *corner_of(layout, flat, depth - 1), p)[1]
        v, _ = undropped(layers[depth], dz, of[depth], p)
        dv = dz if depth == layout.n_layers else activation(z, dz, v, phi, p)
        errors.append(dropped(v, dv, of[depth], 2, p))
    return errors


def corner_of(layout: Layout, flat: Bounded, index: int) -> Bounded:
    """The corners (3, O) of layer `index` (from 0)."""
    return layout.corners(flat[0])[index], layout.corners(flat[1])[index]


def bent(
    layout: Layout,
    flat: Bounded,
    layers: list[np.ndarray],
    errors: list[np.ndarray],
    index: int,
    s: Bounded,
    p: Precision,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Eq. 15a and 19b for layer `index` (from 0): of its g, and of its corners' gradient (3, O) if it has some."""
    if not layout.bends[index]:
        return s[1], None
    u, block = joined(layout, layers, errors, index, p), (layout.blocks(part)[index] for part in flat)
    z = pre_activation(*u, *block, p)
    return bend_back(z, *corner_of(layout, flat, index), s, p), corner_gradient(z, s, p)


def backward(
    layout: Layout,
    flat: Bounded,
    layers: list[np.ndarray],
    errors: list[np.ndarray],
    deltas: list[np.ndarray],
    s: Bounded,
    p: Precision,
    factors: Factors = None,
) -> tuple[list[np.ndarray], list[np.ndarray | None]]:
    """Eq. 18: of every layer's delta [g_1, ..., g_L], and of every layer's corners' gradient.

    `errors` go with `layers`; `s` is what the loss hands to the output layer: g_L, or the slope by v_L of a corner.
    `factors`: of dropout.
    """
    dg, dcorner = bent(layout, flat, layers, errors, layout.n_layers - 1, s, p)
    derrors, dcorners = [dg], [dcorner]
    for depth in range(layout.n_layers - 1, 0, -1):
        below = [np.empty(0)] * depth
        dg, dcorner = delta(layout, flat, layers, errors, deltas, [*below, *derrors], depth, flat, p, factors)
        derrors.insert(0, dg)
        dcorners.insert(0, dcorner)
    return derrors, dcorners


def delta(
    layout: Layout,
    flat: Bounded,
    layers: list[np.ndarray],
    errors: list[np.ndarray],
    deltas: list[np.ndarray],
    derrors: list[np.ndarray],
    depth: int,
    own: Bounded,
    p: Precision,
    factors: Factors = None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Eq. 18 for one layer: of g_depth, from the deltas [g_1, ..., g_L] of all layers that read its activation; and of
    its corners' gradient.  `flat` are the parameters above, `own` those that its activation was computed with."""
    above = [layer for layer, _ in readers(layout, depth)]
    g, dg = (np.concatenate([lists[layer] for layer in above], axis=1) for lists in (deltas, derrors))
    w, dw = (read_weights(layout, part, depth).T for part in flat)
    sums, dsums = g @ w, product(g, dg, w, dw, p)
    of_dropout = None if factors is None else factors[depth]
    most = 1.0 if of_dropout is None else of_dropout
    if layout.bends[depth - 1]:
        s = sums * most, dropped(sums, dsums, of_dropout, 2, p)
        return bent(layout, own, layers, errors, depth - 1, s, p)
    v, dv = undropped(layers[depth], errors[depth], of_dropout, p)
    factor, dfactor = derivative_factor(v, dv, layout.activations[depth - 1], p)
    return dropped(sums * factor, elementwise(sums, dsums, factor, dfactor, 1, p), of_dropout, 2, p), None


def gradient(
    layout: Layout,
    layers: list[np.ndarray],
    errors: list[np.ndarray],
    deltas: list[np.ndarray],
    derrors: list[np.ndarray],
    dcorners: list[np.ndarray | None],
    p: Precision,
) -> np.ndarray:
    """Eq. 19: of the gradient (P,), one product a layer; the bias is fed by a constant 1.  `dcorners`: eq. 19b."""
    out = np.empty(layout.n_parameters)
    for index, (block, g, dg) in enumerate(zip(layout.blocks(out), deltas, derrors, strict=True)):
        ones, exact = with_ones(*joined(layout, layers, errors, index, p))
        block[:] = product(ones.T, exact.T, g, dg, p)
        if dcorners[index] is not None:
            layout.corners(out)[index][:] = dcorners[index]
    return out


def penalised(layout: Layout, flat: Bounded, slope: Bounded, decay: float, p: Precision) -> np.ndarray:
    """Eq. 19a: of the gradient (P,) with decay * W added to that of the weights, from the gradient without."""
    dslope = slope[1].copy()
    for w, dw, g, dg in zip(*(layout.weights(vector) for vector in (*flat, slope[0], dslope)), strict=True):
        dg += decay * dw + p.gamma(3) * (np.abs(g) + dg + decay * (np.abs(w) + dw)) + p.eta + p.lost
    return dslope


def penalty(layout: Layout, flat: Bounded, alpha: float) -> float:
    """Eq. 19a: of alpha / 2 times the sum of the squared weights, taken in double."""
    total = 0.0
    for w, dw in zip(*(layout.weights(vector) for vector in flat), strict=True):
        dsquares = (2 * np.abs(w) + dw) * dw
        total += float((dsquares + DOUBLE.gamma(w.size + len(layout.shapes) + 3) * (w**2 + dsquares)).sum())
    return alpha / 2 * total


def update(flat: Bounded, velocity: Bounded, slope: Bounded, rule: Rule, p: Precision) -> tuple[np.ndarray, np.ndarray]:
    """Eq. 20: of the new parameters (P,) and of the new velocity (P,), from the old ones and the gradient; with Adam of
    both moments (2 P,), and the rule is that of the update."""
    if rule.adam:
        return adam_update(flat, velocity, slope, rule, p)
    if rule.fista:
        return fista_update(flat, velocity, slope, rule, p)
    (w, dw), (v, dv), (g, dg) = flat, velocity, slope
    kept, most, tiny = rule.momentum * v, rule.rate * (np.abs(g) + dg), 2 * p.eta + p.lost
    dvelocity = rule.momentum * dv + rule.rate * dg + p.gamma(3) * (np.abs(kept) + rule.momentum * dv + most) + tiny
    step, dstep = kept - rule.rate * g, dvelocity
    if rule.nesterov:
        again = rule.momentum * (np.abs(step) + dvelocity)
        dstep = rule.momentum * dvelocity + rule.rate * dg + p.gamma(3) * (again + most) + tiny
        step = rule.momentum * step - rule.rate * g
    return stepped((w, dw), (step, dstep), rule, p), dvelocity


def stepped(flat: Bounded, step: Bounded, rule: Rule, p: Precision) -> np.ndarray:
    """The last line of eq. 20: what the limits leave of the error of W + step."""
    return limited(flat, step, rule, p)[1]


def limited(flat: Bounded, step: Bounded, rule: Rule, p: Precision) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Eq. 9 for W + step: its value, the error that is left, and where it is in doubt whether a limit has stopped it.

    A weight that may or may not be thrown to the other side of zero is in error by all of that way.
    """
    (w, dw), (step_, dstep) = flat, step
    moved = w + step_
    error = dw + dstep + p.gamma(1) * (np.abs(moved) + dw + dstep) + p.lost
    error[(dw == 0) & (np.abs(step_) + dstep < 2.0**-60 * np.abs(w)) & (np.abs(w) >= p.lost)] = 0  # it moves nothing
    low, value, high = (
        np.clip(end, -rule.saturation, rule.saturation) for end in (moved - error, moved, moved + error)
    )
    left = np.maximum(high - value, value - low)
    doubt = (np.abs(np.abs(moved) - rule.saturation) <= error) & (error > 0)
    if rule.floor:
        f, inside = rule.floor, np.abs(moved) <= rule.saturation
        falls, rises = inside & (w > 0) & (moved < f), inside & (w <= 0) & (moved > -f)
        value = np.where(falls, np.where(w > f, f, -f), np.where(rises, np.where(w < -f, -f, f), value))
        unsure = (np.abs(w) <= dw) & (dw > 0) | (np.abs(np.abs(w) - f) <= dw) & (dw > 0)
        unsure |= (np.abs(np.abs(moved) - f) <= error) & (error > 0)
        left = np.where(unsure, left + error + 2 * f, np.where(falls | rises, 0, left))
        doubt |= unsure
    return value, left, doubt


def fista_update(
    flat: Bounded, states: Bounded, slope: Bounded, rule: Rule, p: Precision
) -> tuple[np.ndarray, np.ndarray]:
    """Eq. 20 for FISTA: where a limit, or the brake, may or may not have acted, its whole effect is in doubt."""
    (w, dw), (g, dg) = flat, slope
    kept, dkept = (part.reshape(rule.states, -1) for part in states)
    step, dstep = -rule.rate * g, rule.rate * dg + p.gamma(2) * rule.rate * (np.abs(g) + dg)
    dstep += p.eta * (dstep > 0)
    to, dto, doubt = limited(flat, (step, dstep), rule, p)
    hit = to != w + step
    moves = kept[0] + (to - w)
    dmove = np.where(hit | doubt, dto + dw, dstep + p.gamma(1) * (np.abs(to) + dto) + p.lost)
    dmoves = dkept[0] + dmove + p.gamma(2) * (np.abs(kept[0]) + dkept[0] + np.abs(to - w) + dmove) + 2 * p.lost
    dstates = []
    if rule.fast_brake:
        last, dlast = kept[1], dkept[1]
        g_left, dg_left = np.where(hit, 0, g), np.where(doubt, np.abs(g) + dg, np.where(hit, 0, dg))
        sure = (np.abs(last) > dlast) & (np.abs(g_left) > dg_left) | (last == 0) & (dlast == 0)
        sure |= (g_left == 0) & (dg_left == 0)
        brakes = last * g_left < 0
        dmoves = np.where(sure, np.where(brakes, 0, dmoves), np.abs(moves) + dmoves)
        moves = np.where(brakes, 0, moves)
        dstates.append(dg_left)
    carry, dcarry = rule.momentum * moves, rule.momentum * dmoves
    dcarry = dcarry + p.gamma(2) * (np.abs(carry) + dcarry)
    dcarry = dcarry + p.eta * (dcarry > 0)
    end, dend, doubt = limited((to, dto), (carry, dcarry), rule, p)
    stopped = end - to, dend + dto + p.gamma(1) * (np.abs(end - to) + dend + dto) + p.lost
    either = np.abs(stopped[0] - moves) + np.maximum(stopped[1], dmoves)
    dmoves = np.where(doubt, either, np.where(end != to + carry, stopped[1], dmoves))
    return dend, np.concatenate([dmoves, *dstates])


def adam_update(
    flat: Bounded, moments: Bounded, slope: Bounded, rule: Rule, p: Precision
) -> tuple[np.ndarray, np.ndarray]:
    """Eq. 20 for Adam, moment by moment, then the root and the quotient."""
    (m, v), (dm, dv), (g, dg) = moments[0].reshape(2, -1), moments[1].reshape(2, -1), slope
    new_1, new_2 = 1 - rule.momentum, 1 - rule.beta_2
    most, most_square = np.abs(g) + dg, (np.abs(g) + dg) ** 2
    mean, square = rule.momentum * m + new_1 * g, rule.beta_2 * v + new_2 * g**2
    dmean = rule.momentum * dm + new_1 * dg + p.gamma(3) * (rule.momentum * (np.abs(m) + dm) + new_1 * most)
    dmean += 2 * p.eta + p.lost
    dsquare = rule.beta_2 * dv + new_2 * (most_square - g**2)
    dsquare += p.gamma(4) * (rule.beta_2 * (v + dv) + new_2 * most_square) + 3 * p.eta + p.lost
    root, least = np.sqrt(square), np.sqrt(np.maximum(square - dsquare, 0))
    droot = np.maximum(np.sqrt(square + dsquare) - root, root - least) + p.gamma(1) * np.sqrt(square + dsquare)
    below, dbelow = root + rule.epsilon, droot + p.gamma(2) * (root + droot + rule.epsilon)
    with np.errstate(divide="ignore", invalid="ignore"):
        smallest = np.where(below > dbelow, below - dbelow, 0)
        above = rule.rate * np.abs(mean)
        dabove = rule.rate * dmean + p.gamma(2) * rule.rate * (np.abs(mean) + dmean) + p.eta
        dstep = dabove / smallest + above * dbelow / (below * smallest) + p.gamma(1) * (above + dabove) / smallest
    step = -rule.rate * mean / below
    return stepped(flat, (step, dstep + p.eta), rule, p), np.concatenate([dmean, dsquare])
