"""The backward sweep in NumPy: the reference that the compiled backend is checked against, and the fallback without it.

`_backprop.pyx` holds the same functions in the same order.  Equation numbers refer to docs/backprop.md.  Shape letters:
B rows of a batch, I fan-in, O fan-out, L layers, P parameters, N rows of the data set.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from fnn._dropout import NUMBERS, Draw, is_dropped
from fnn._formulas import (
    BINARY_CROSS_ENTROPY,
    CROSS_ENTROPY,
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

Bends = list[np.ndarray | None]  # of each layer: None without a corner; z (B, O), after `backward` terms (3, B, O)

CHUNK_ROWS = 256  # rows taken through the sweep at once: bounds the memory of a large batch
TICK_SECONDS = 0.02
quiet = np.errstate(over="ignore", invalid="ignore")  # whoever calls tells of infinities, on every backend


def activate(z: np.ndarray, activation: Activation) -> np.ndarray:
    """Eq. 2: v = phi(z), shape (B, O) in, a new array (B, O) out."""
    code = activation.code
    v: np.ndarray = z.copy()
    if code == RELU:
        v[z < 0] = 0
    elif code == LEAKY_RELU:
        v[z < 0] *= z.dtype.type(activation.slope)
    elif code == TANH:
        v = np.tanh(z)
    elif code == SIGMOID:
        e = np.exp(-np.abs(z))  # never overflows
        v = np.where(z < 0, e, z.dtype.type(1)) / (1 + e)
    elif code == SOFTMAX:
        e = np.exp(z - z.max(axis=1, keepdims=True))
        v = e / e.sum(axis=1, keepdims=True)
    elif code == EXP:
        with np.errstate(over="ignore"):  # infinity is the answer
            v = np.exp(z)
    return v


def derivative_factor(v: np.ndarray, activation: Activation) -> np.ndarray:
    """Eq. 3: phi'(z) written with the activation v = phi(z), shape (B, O) in and out."""
    code = activation.code
    factor: np.ndarray = np.ones_like(v)
    if code in (RELU, LEAKY_RELU):
        factor[~(v > 0)] = activation.slope
    elif code == TANH:
        factor = 1 - v * v
    elif code == SIGMOID:
        factor = v * (1 - v)
    return factor


def bend(z: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """Eq. 2a: v = phi(z), shape (B, O) in, a new array (B, O) out, for a layer's corners (3, O)."""
    left, offset, right = corner
    v: np.ndarray = z * np.where(z < 0, left, right) + offset
    return v


def bend_back(z: np.ndarray, corner: np.ndarray, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eq. 6a: the delta g (B, O), from the slope s (B, O) by v, and the rows' shares in eq. 7b (3, B, O)."""
    left, _, right = corner
    below, share = z < 0, z * s
    factor = np.where(below, left, np.where(z > 0, right, (left + right) / 2))
    return s * factor, np.stack([np.where(below, share, 0), s, np.where(below, 0, share)])


def drop(v: np.ndarray, share: float, draw: Draw, layer: int) -> np.ndarray:
    """Eq. 2b: activation `layer` with a share of it dropped, shape (B, O) in, a new array (B, O) out.

    A minus zero stands where something was dropped, and nowhere else: on the way back it tells so.
    """
    kind = v.dtype.type
    kept: np.ndarray = v * kind(1 / (1 - share)) + 0  # + 0 makes a zero of a minus zero
    kept[is_dropped(draw, layer, v.shape, share)] = -0.0
    return kept


def drop_back(s: np.ndarray, v: np.ndarray, share: float, activation: Activation) -> np.ndarray:
    """Eq. 6b: the delta g (B, O), from the slope s (B, O) by v, of which `drop` has dropped a share."""
    kind = v.dtype.type
    g: np.ndarray = s * derivative_factor(v * kind(1 - share), activation) * kind(1 / (1 - share))
    g[(v == 0) & np.signbit(v)] = 0
    return g


def layer_input(layout: Layout, layers: list[np.ndarray], index: int) -> np.ndarray:
    """Eq. 1a: what layer `index` (from 0) reads of [x, v_1, ...]: (B, I)."""
    distance, mode = layout.skips[index]
    if not distance:
        return layers[index]
    below, earlier = layers[index], layers[index - distance]
    joined: np.ndarray = below + earlier if mode == "add" else np.hstack([below, earlier])
    return joined


def forward(
    layout: Layout, parameters: np.ndarray, x: np.ndarray, bends: Bends | None = None, draw: Draw | None = None
) -> list[np.ndarray]:
    """Eq. 1 and 2 for every layer: [x, v_1, ..., v_(L-1), z_L].

    The last entry is the output layer's pre-activation, from which both the output and the loss are computed; of a
    corner it is v_L.  `bends` (L entries) takes the z of layers with a corner.  With `draw` x, v_1, ... are what
    dropout leaves of them.
    """
    shares = (0.0,) * len(layout.dropouts) if draw is None else layout.dropouts
    layers, corners = [x], layout.corners(parameters)
    if shares[0]:
        assert draw is not None
        layers[0] = drop(x, shares[0], draw, 0)
    for index, (block, activation) in enumerate(zip(layout.blocks(parameters), layout.activations, strict=True)):
        u = layer_input(layout, layers, index)
        z = u @ block[:-1] + block[-1]
        if layout.bends[index]:
            if bends is not None:
                bends[index] = z
            z = bend(z, corners[index])
        v = z if len(layers) == layout.n_layers else activate(z, activation)
        if shares[index + 1]:
            assert draw is not None
            v = drop(v, shares[index + 1], draw, index + 1)
        layers.append(v)
    return layers


def output_delta(
    z: np.ndarray, y: np.ndarray, loss: Loss, activation: Activation, scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """Eq. 4: the loss of every row (B,) in float64, and g = scale * dloss/dz (B, O).

    `y` has shape (B, O), or (B,) of integers for cross_entropy with class labels.  Of a corner z is v_L and g the slope
    by it.
    """
    v = activate(z, activation)
    if loss.code == SQUARED_ERROR:
        error = v - y
        g = scale * (2 * error * derivative_factor(v, activation))
        return np.minimum(np.square(error, dtype=np.float64).sum(axis=1), loss.ceiling), g
    z64 = z.astype(np.float64)
    if loss.code == BINARY_CROSS_ENTROPY:
        terms = np.maximum(z64, 0) - z64 * y + np.log1p(np.exp(-np.abs(z64)))
        return np.minimum(terms, loss.ceiling).sum(axis=1), scale * (v - y)
    if loss.code == POISSON:
        y64 = y.astype(np.float64)
        entropy = y64 * np.log(np.where(y64 > 0, y64, 1))
        deviance = (np.exp(z64) - z64 * y64 + entropy - y64).sum(axis=1)
        return np.minimum(deviance, loss.ceiling), scale * (v - y)
    assert loss.code == CROSS_ENTROPY
    peak = z64.max(axis=1)
    log_sum = peak + np.log(np.exp(z64 - peak[:, None]).sum(axis=1))
    if y.ndim == 1:
        rows = np.arange(len(y))
        v[rows, y] -= 1
        return np.minimum(log_sum - z64[rows, y], loss.ceiling), scale * v
    total = y.sum(axis=1, keepdims=True)
    row_losses = log_sum * y.sum(axis=1, dtype=np.float64) - (z64 * y).sum(axis=1)
    return np.minimum(row_losses, loss.ceiling), scale * (v * total - y)


def propagate(
    layout: Layout,
    block: np.ndarray,
    layers: list[np.ndarray],
    index: int,
    g: np.ndarray,
    skipped: list[np.ndarray],
    dropping: bool = False,
) -> np.ndarray:
    """Eq. 5 and 6, or 6b, from layer `index` (from 0), whose g is (B, O), to the layer below: its g.

    Eq. 5a: what a skip hands to an earlier activation waits in `skipped`, one sum for each of [x, v_1, ...].
    """
    back_propagated = g @ block[:-1].T
    distance, mode = layout.skips[index]
    if distance:
        width = layout.sizes[index]
        share = back_propagated if mode == "add" else back_propagated[:, width:]
        skipped[index - distance] = skipped[index - distance] + share
        back_propagated = back_propagated[:, :width]
    if index in layout.skipped_to:
        back_propagated = back_propagated + skipped[index]
    below = layout.activations[index - 1]
    if dropping and layout.dropouts[index]:
        return drop_back(back_propagated, layers[index], layout.dropouts[index], below)
    delta: np.ndarray = back_propagated * derivative_factor(layers[index], below)
    return delta


def through_corner(corners: list[np.ndarray], index: int, s: np.ndarray, bends: Bends | None) -> np.ndarray:
    """Eq. 6a for layer `index`, whose z in `bends` makes room for the rows' shares; without a corner s is g already."""
    if not len(corners[index]):
        return s
    assert bends is not None
    z = bends[index]
    assert z is not None
    g, bends[index] = bend_back(z, corners[index], s)
    return g


def backward(
    layout: Layout,
    parameters: np.ndarray,
    layers: list[np.ndarray],
    g: np.ndarray,
    bends: Bends | None = None,
    dropping: bool = False,
) -> list[np.ndarray]:
    """Eq. 5 and 6: [g_1, ..., g_L], each (B, O), from the output layer's g (B, O) and the weights before the update.

    `bends`: what `forward` has put there; it takes the rows' shares in the gradient of the corners.  `dropping`: the
    layers are what dropout has left of them.
    """
    blocks, corners = layout.blocks(parameters), layout.corners(parameters)
    skipped = [np.zeros_like(g, shape=())] * layout.n_layers
    deltas = [through_corner(corners, layout.n_layers - 1, g, bends)]
    for index in range(layout.n_layers - 1, 0, -1):
        s = propagate(layout, blocks[index], layers, index, deltas[0], skipped, dropping)
        deltas.insert(0, through_corner(corners, index - 1, s, bends))
    return deltas


def gradient(
    layout: Layout, layers: list[np.ndarray], deltas: list[np.ndarray], out: np.ndarray, bends: Bends | None = None
) -> np.ndarray:
    """Eq. 7: the gradient (P,), every weight's `sum_b u[b, i] g[b, o]` and every bias's `sum_b g[b, o]`, in `out`.

    `bends`: what `backward` has put there, which is added up for the corners.
    """
    for index, (block, corner, g) in enumerate(zip(layout.blocks(out), layout.corners(out), deltas, strict=True)):
        u = layer_input(layout, layers, index)
        np.matmul(u.T, g, out=block[:-1])
        np.sum(g, axis=0, out=block[-1])
        if len(corner):
            assert bends is not None
            shares = bends[index]
            assert shares is not None
            np.sum(shares, axis=1, out=corner)
    return out


def penalty(layout: Layout, parameters: np.ndarray, alpha: float) -> float:
    """Eq. 7a: alpha / 2 times the sum of the squared weights, biases left out, in float64."""
    return alpha / 2 * sum(float(np.square(w, dtype=np.float64).sum()) for w in layout.weights(parameters))


def limited(stepped: np.ndarray, old: np.ndarray, rule: Rule) -> np.ndarray:
    """Eq. 9 in place: `stepped` inside the saturation limit and, where there is one, outside the floor."""
    if rule.floor:
        floor = stepped.dtype.type(rule.floor)
        inside = np.abs(stepped) <= rule.saturation
        falls, rises = inside & (old > 0) & (stepped < floor), inside & (old <= 0) & (stepped > -floor)
        # A weight stops at the floor first; one that stands on it is thrown to the other side of zero.
        stepped[falls] = np.where(old[falls] > floor, floor, -floor)
        stepped[rises] = np.where(old[rises] < -floor, -floor, floor)
    return np.clip(stepped, -rule.saturation, rule.saturation, out=stepped)


def fista_update(parameters: np.ndarray, state: np.ndarray, gradient: np.ndarray, rule: Rule) -> np.ndarray:
    """Eq. 8 and 9, FISTA, as in `saturated_update`."""
    moves, last = np.split(state, [len(parameters)])
    stepped = parameters - rule.rate * gradient
    new = limited(stepped.copy(), parameters, rule)
    gradient[new != stepped] = 0
    moves += new - parameters
    if rule.fast_brake:
        moves[last * gradient < 0] = 0
        last[:] = gradient
    carried = new + rule.momentum * moves
    gradient[:] = carried
    limited(gradient, new, rule)
    stopped = gradient != carried
    moves[stopped] = (gradient - new)[stopped]
    return gradient


def saturated_update(parameters: np.ndarray, state: np.ndarray, gradient: np.ndarray, rule: Rule) -> np.ndarray:
    """Eq. 8 and 9: the saturated update.  Turns `gradient` (P,) into the new parameters and returns it.

    `state` changes in place: the velocity (P,), Adam's two moments (2 P,), FISTA's moves (P,) with the last gradient
    (P,) for the brake, or empty.
    """
    if rule.fista:
        return fista_update(parameters, state, gradient, rule)
    if rule.adam:
        mean, squares = state.reshape(2, -1)
        mean *= rule.momentum
        mean += (1 - rule.momentum) * gradient
        squares *= rule.beta_2
        squares += (1 - rule.beta_2) * gradient * gradient
        gradient[:] = -rule.rate * mean / (np.sqrt(squares) + rule.epsilon)
    else:
        gradient *= -rule.rate
    if rule.momentum and not rule.adam:
        velocity = state
        velocity *= rule.momentum
        velocity += gradient
        if rule.nesterov:
            gradient += rule.momentum * velocity
        else:
            gradient[:] = velocity
    gradient += parameters
    return limited(gradient, parameters, rule)


@quiet
def is_finite(values: np.ndarray) -> bool:
    """Whether no number of a C-contiguous array (N, I) is NaN or infinite."""
    return bool(np.isfinite(values.sum()) or np.isfinite(values).all())  # a finite sum that overflows is no sign


class Workspace:
    """A working copy of the parameters with the scratch of one training run; allocated once, nothing per step.

    Parameters
    ----------
    layout : Layout
    dtype : numpy.dtype
        float32 or float64.
    batch_size : int
        Rows of a mini-batch at most.
    states : int
        Vectors of P numbers that the optimiser keeps.
    threads, halves, stages
        Ignored here: NumPy's own threads compute the products, from whole batches.
    """

    def __init__(
        self,
        layout: Layout,
        dtype: np.dtype,
        batch_size: int,
        states: int,
        threads: int,
        *,
        halves: bool | None = None,
        stages: bool | None = None,
    ) -> None:
        self.layout = layout
        self.batch_size = batch_size
        self.threads = 1
        self.by_columns, self.halves = [False] * layout.n_layers, False
        self.wide = [False] * layout.n_layers
        self.stages: list[int] = []
        self.sparse = [(False, False)] * layout.n_layers
        self.parameters = np.zeros(layout.n_parameters, dtype)
        self.gradient = np.zeros_like(self.parameters)
        self.partial = np.zeros_like(self.parameters) if batch_size > CHUNK_ROWS else None
        self.state = np.zeros(states * layout.n_parameters, dtype)
        self.updates = 0
        self.mask_seed = 0  # of dropout, below NUMBERS
        self.penalties = 0.0  # what they make of the sum that the last epoch returned
        scales = np.array(layout.rate_scales)
        self.rate_scales = None if np.all(scales == 1) else np.repeat(scales, np.diff(layout.offsets))

    def load(self, parameters: np.ndarray, saturation: float) -> None:
        """Copy the parameters (P,) in, brought inside the saturation limit."""
        np.clip(parameters, -saturation, saturation, out=self.parameters)

    def store(self, parameters: np.ndarray) -> None:
        """Copy the working parameters out to `parameters` (P,)."""
        parameters[:] = self.parameters

    def load_state(self, state: np.ndarray) -> None:
        """Copy the optimiser's state in: `states` vectors (P,), one after the other."""
        self.state[:] = state

    def store_state(self, state: np.ndarray) -> None:
        """Copy the optimiser's state out to `state` (states * P,)."""
        state[:] = self.state

    def is_finite(self) -> bool:
        """Whether no working parameter is NaN or infinite."""
        return bool(np.isfinite(self.parameters).all())


@quiet
def predict(layout: Layout, parameters: np.ndarray, x: np.ndarray, threads: int) -> np.ndarray:
    """The outputs (N, O) for the rows of x (N, I).  `threads`: NumPy's own compute the products."""
    outputs = np.empty((len(x), layout.sizes[-1]), parameters.dtype)
    for start in range(0, len(x), CHUNK_ROWS):
        rows = slice(start, start + CHUNK_ROWS)
        outputs[rows] = activate(forward(layout, parameters, x[rows])[-1], layout.activations[-1])
    return outputs


@quiet
def evaluate(
    layout: Layout, parameters: np.ndarray, x: np.ndarray, y: np.ndarray, loss: Loss, threads: int
) -> tuple[np.ndarray, np.ndarray]:
    """The loss of every row (N,) in float64, and the outputs (N, O), for the rows of x (N, I).

    y (N, O) or (N,) class labels.  `threads`: NumPy's own compute the products.
    """
    row_losses, output = np.empty(len(x)), layout.activations[-1]
    outputs = np.empty((len(x), layout.sizes[-1]), parameters.dtype)
    for start in range(0, len(x), CHUNK_ROWS):
        rows = slice(start, start + CHUNK_ROWS)
        z = forward(layout, parameters, x[rows])[-1]
        row_losses[rows] = output_delta(z, y[rows], loss, output, 1.0)[0]
        outputs[rows] = activate(z, output)
    return row_losses, outputs


@quiet
def loss_and_gradient(
    layout: Layout,
    parameters: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    loss: Loss,
    scale: float,
    threads: int,
    weights: np.ndarray | None = None,
) -> tuple[float, np.ndarray]:
    """The rows' summed loss times `scale`, and its gradient (P,).

    x (N, I), y (N, O) or (N,) class labels; `weights` (N,) that the rows count with, each 1 without them.
    """
    work = Workspace(layout, parameters.dtype, len(x), 0, threads)
    work.load(parameters, np.inf)
    total = _batch_gradient(work, x, y, np.arange(len(x)), loss, scale, weights)
    return scale * total, work.gradient


@quiet
def train_epoch(
    work: Workspace,
    x: np.ndarray,
    y: np.ndarray,
    order: np.ndarray,
    loss: Loss,
    rule: Rule,
    mean: bool,
    tick: Callable[[int], None] | None,
    weights: np.ndarray | None = None,
    through_updated: bool = False,
) -> float:
    """Train once on the rows `order` of x and y, batch after batch, and return the sum of the batches' losses.

    A batch's loss is that before its update, `rule`'s penalty included.  It is the sum over its rows, each as often as
    `weights` (N,) says; with `mean` the batch steps along their weighted mean, which counts once for every row in the
    returned sum.  A batch whose weights add up to zero stands still.  `through_updated`: eq. 21 to 23, for batches of
    one row and plain SGD without a penalty.  `tick(rows_done)` is called every 0.02 s; what it raises, and Ctrl-C, ends
    the epoch with the working parameters as of a completed update.
    """
    total, penalties, last = 0.0, 0.0, time.monotonic()
    for start in range(0, len(order), work.batch_size):
        rows = order[start : start + work.batch_size]
        whole = len(rows) if weights is None else float(weights[rows].sum(dtype=np.float64))
        scale = 1.0 if not mean else 1 / whole if whole else 0.0
        if through_updated:
            total += _step_through_updated(work, x[rows], y[rows], loss, rule, scale * whole)
        else:
            times = len(rows) * scale if mean and weights is not None else 1.0
            number = (work.mask_seed + work.updates) % NUMBERS if work.layout.drops else None
            total += times * _batch_gradient(work, x, y, rows, loss, scale, weights, number)
            if rule.alpha:
                penalties += times * penalty(work.layout, work.parameters, rule.alpha)
                for w, slope in zip(*map(work.layout.weights, (work.parameters, work.gradient)), strict=True):
                    slope += rule.alpha * scale * w
            step: Any = rule.at(work.updates + 1)
            if work.rate_scales is not None:  # a rate for every parameter
                step = step._replace(rate=(step.rate * work.rate_scales).astype(work.parameters.dtype))
            work.gradient = saturated_update(work.parameters, work.state, work.gradient, step)
        # The old parameters' memory takes the next gradient; an interrupt before this line leaves the old parameters.
        work.parameters, work.gradient, work.updates = work.gradient, work.parameters, work.updates + 1
        if tick is not None and time.monotonic() - last >= TICK_SECONDS:
            tick(start + len(rows))
            last = time.monotonic()
    work.penalties = penalties
    return total + penalties


def _batch_gradient(
    work: Workspace,
    x: np.ndarray,
    y: np.ndarray,
    rows: np.ndarray,
    loss: Loss,
    scale: float,
    weights: np.ndarray | None,
    number: int | None = None,
) -> float:
    """Put the gradient of the batch `rows` into work.gradient, chunk by chunk; return the sum of the rows' losses.

    `number`: of what dropout draws; without, nothing is dropped.
    """
    layout, total = work.layout, 0.0
    for start in range(0, len(rows), CHUNK_ROWS):
        chunk = rows[start : start + CHUNK_ROWS]
        bends: Bends = [None] * layout.n_layers
        draw = None if number is None else Draw(number, start)
        layers = forward(layout, work.parameters, x[chunk], bends, draw)
        output = layout.activations[-1]
        row_losses, g = output_delta(layers[-1], y[chunk], loss, output, scale if weights is None else 1.0)
        if weights is not None:
            counts = weights[chunk].astype(np.float64)  # one over the sum of tiny weights overflows in float32
            row_losses *= counts
            g *= (scale * counts).astype(g.dtype)[:, None]
        deltas = backward(layout, work.parameters, layers, g, bends, draw is not None)
        if start == 0:
            gradient(layout, layers, deltas, work.gradient, bends)
        else:
            assert work.partial is not None
            work.gradient += gradient(layout, layers, deltas, work.partial, bends)
        total += float(row_losses.sum())
    return total


def _step_through_updated(work: Workspace, x: np.ndarray, y: np.ndarray, loss: Loss, rule: Rule, scale: float) -> float:
    """Eq. 21 to 23 for one row: put the new parameters into work.gradient; return the row's loss before the update.

    The loss counts `scale` times.
    """
    layout, output = work.layout, work.layout.activations[-1]
    np.copyto(work.gradient, work.parameters)
    blocks, corners = layout.blocks(work.gradient), layout.corners(work.gradient)
    bends: Bends = [None] * layout.n_layers
    layers = forward(layout, work.parameters, x, bends)
    row_losses, g = output_delta(layers[-1], y, loss, output, scale)
    g = through_corner(corners, layout.n_layers - 1, g, bends)
    skipped = [np.zeros_like(g, shape=())] * layout.n_layers
    for index in range(layout.n_layers - 1, -1, -1):
        block, corner, bent = blocks[index], corners[index], bends[index]
        u = layer_input(layout, layers, index)
        scaled = rule._replace(rate=rule.rate * layout.rate_scales[index])
        block[:] = saturated_update(block, work.state, np.vstack([u.T @ g, g]), scaled)
        if bent is not None:
            corner[:] = saturated_update(corner, work.state, bent.sum(axis=1), scaled)
        if index == layout.n_layers - 1:
            anew = u @ block[:-1] + block[-1]
            if bent is not None:
                anew, bends[index] = bend(anew, corner), anew
            g = through_corner(corners, index, output_delta(anew, y, loss, output, scale)[1], bends)
        if index > 0:
            g = through_corner(corners, index - 1, propagate(layout, block, layers, index, g, skipped), bends)
    return scale * float(row_losses.sum())
