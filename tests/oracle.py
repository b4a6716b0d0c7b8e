"""The slow judge: the equations of docs/backprop.md as scalar loops over Python floats (float64).

It shares no code with the package and knows nothing of its flat vector, tiles or chunks.  A layer is its weights (I
lists of O numbers, one list an input), its biases (O numbers) and its activation; a network is a list of layers.  To
know whether a kernel is right, compare it with this file; to know whether this file is right, read it beside the
equations.
Letters: B rows of a batch, I fan-in, O fan-out, L layers.
"""

import math
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

Row = list[float]
Matrix = list[Row]

LARGEST_EXPONENT = math.log(sys.float_info.max)  # beyond it exp is infinite


class Layer(NamedTuple):
    """One dense layer, and anything shaped like its parameters: a gradient, a velocity, a moment."""

    weights: Matrix  # (I, O)
    biases: Row  # (O,)
    activation: str = ""
    slope: float = 0.0  # of leaky_relu, below zero
    skip: int = 0  # it also reads the activation so many layers earlier
    concat: bool = False  # and has weights for it of its own, or adds it
    rate_scale: float = 1.0
    corner: Sequence[Row] = ()  # left slopes, offsets, right slopes (3, O), where the activation is one
    dropout: float = 0.0  # share of its outputs that is dropped

    def rows(self) -> list[Row]:
        """All that is trained."""
        return [*self.weights, self.biases, *self.corner]

    def with_rows(self, rows: list[Row]) -> "Layer":
        """The same layer, or what is shaped like it, with other numbers."""
        height = len(self.weights)
        return self._replace(weights=rows[:height], biases=rows[height], corner=rows[height + 1 :])


class Rule(NamedTuple):
    """How a gradient moves the parameters."""

    rate: float
    momentum: float = 0.0
    nesterov: bool = False
    saturation: float = math.inf
    adam: bool = False
    beta_2: float = 0.0
    epsilon: float = 0.0
    alpha: float = 0.0  # of the penalty
    fista: bool = False
    fast_brake: bool = False
    fixed_nu: bool = False
    floor: float = 0.0

    @property
    def states(self) -> int:
        """How many numbers are kept for each parameter, for plain steps as well."""
        return 1 + (self.adam or self.fast_brake)


class Step(NamedTuple):
    """Everything that happened to one batch."""

    layers: list[Matrix]  # [x, v_1, ..., v_(L-1), z_L], each (B, width), before the update
    losses: Row  # (B,), before the update, each as often as its row counts
    deltas: list[Matrix]  # [g_1, ..., g_L], each (B, O)
    gradient: list[Layer]
    states: list[list[Layer]]  # of every layer, after the update: its velocity, or Adam's two moments
    network: list[Layer]  # after the update
    loss: float  # what the epoch's sum gets: of all rows, with the penalty
    factors: list[Matrix]  # what dropout multiplies each of [x, v_1, ...] by, (B, width)


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z)) if z > 0 else math.exp(z) / (1 + math.exp(z))


def softplus(z: float) -> float:
    return max(z, 0.0) + math.log1p(math.exp(-abs(z)))


def activate(z: Row, activation: str, slope: float = 0.0) -> Row:
    """Eq. 2 for one row: v = phi(z)."""
    if activation == "relu":
        return [0.0 if number < 0 else number for number in z]
    if activation == "leaky_relu":
        return [slope * number if number < 0 else number for number in z]
    if activation == "tanh":
        return [math.tanh(number) for number in z]
    if activation == "sigmoid":
        return [sigmoid(number) for number in z]
    if activation == "softmax":
        peak = max(z)
        shares = [math.exp(number - peak) for number in z]
        return [share / sum(shares) for share in shares]
    if activation == "exp":
        return [math.exp(number) if number <= LARGEST_EXPONENT else number + math.inf for number in z]
    assert activation in ("identity", "corner")  # a corner has been bent already
    return list(z)


def derivative_factor(v: Row, activation: str, slope: float = 0.0) -> Row:
    """Eq. 3 for one row: phi'(z), written with v = phi(z)."""
    if activation == "relu":
        return [1.0 if number > 0 else 0.0 for number in v]
    if activation == "leaky_relu":
        return [1.0 if number > 0 else slope for number in v]
    if activation == "tanh":
        return [(1 - number) * (1 + number) for number in v]
    if activation == "sigmoid":
        return [number - number * number for number in v]
    assert activation in ("identity", "corner")
    return [1.0] * len(v)


def bend(z: Row, corner: Sequence[Row]) -> Row:
    """Eq. 2a for one row: v = phi(z)."""
    return [
        number * (left if number < 0 else right) + offset
        for number, left, offset, right in zip(z, *corner, strict=True)
    ]


def bend_back(z: Row, corner: Sequence[Row], s: Row) -> tuple[Row, Matrix]:
    """Eq. 6a and 7b for one row: from the slope by v that by z, and its share in the gradient of the corner (3, O)."""
    left, _, right = corner
    factors = [
        a if number < 0 else b if number > 0 else (a + b) / 2 for number, a, b in zip(z, left, right, strict=True)
    ]
    g = [slope * factor for slope, factor in zip(s, factors, strict=True)]
    shares = [number * slope for number, slope in zip(z, s, strict=True)]
    return g, [
        [share if number < 0 else 0.0 for share, number in zip(shares, z, strict=True)],
        list(s),
        [share if not number < 0 else 0.0 for share, number in zip(shares, z, strict=True)],
    ]


def mixed(number: int, bits: int, shifts: Sequence[int], odds: Sequence[int]) -> int:
    """MurmurHash3's finaliser of 32 or 64 bits: shift, multiply, shift, multiply, shift."""
    for shift, odd in zip(shifts, [*odds, 1], strict=True):
        number = (number ^ number >> shift) * odd % 2**bits
    return number


def mixed_32(number: int) -> int:
    return mixed(number, 32, (16, 13, 16), (0x85EBCA6B, 0xC2B2AE35))


def mixed_64(number: int) -> int:
    return mixed(number, 64, (33, 33, 33), (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53))


def random_number(number: int, layer: int, row: int, neuron: int) -> int:
    """Eq. 2c: 32 bits that are a function of the draw, the activation (0 is the input), the batch's row, the neuron."""
    key = mixed_64(mixed_64(number) ^ (layer * 2**32 + row))
    return mixed_32(mixed_32((neuron + key) % 2**32) ^ key // 2**32)


def dropout_factors(shares: Sequence[float], widths: Sequence[int], number: int, row: int) -> list[Row]:
    """Eq. 2b for one row: what each of [x, v_1, ...] is multiplied by; `row` is its position in the batch."""
    return [
        [
            0.0 if share > 0 and random_number(number, layer, row, neuron) < int(share * 2**32) else 1 / (1 - share)
            for neuron in range(width)
        ]
        for layer, (share, width) in enumerate(zip(shares, widths, strict=True))
    ]


def times(factors: Row, values: Row) -> Row:
    return [factor * value for factor, value in zip(factors, values, strict=True)]


def layer_input(layer: Layer, layers: Sequence[Row], depth: int) -> Row:
    """Eq. 1a for one row: what the layer at `depth` (from 0) reads of [x, v_1, ...]."""
    if not layer.skip:
        return layers[depth]
    if layer.concat:
        return [*layers[depth], *layers[depth - layer.skip]]
    return [a + b for a, b in zip(layers[depth], layers[depth - layer.skip], strict=True)]


def pre_activation(layer: Layer, u: Row) -> Row:
    """Eq. 1 for one row: z = u W + b."""
    z = list(layer.biases)
    for number, weights in zip(u, layer.weights, strict=True):
        for o, weight in enumerate(weights):
            z[o] += number * weight
    return z


def forward(network: Sequence[Layer], x: Row, factors: Sequence[Row] = ()) -> list[Row]:
    """Eq. 1 and 2 for one row: [x, v_1, ..., v_(L-1), z_L]; of a corner v_L.  `factors`: of dropout."""
    layers = [times(factors[0], x) if factors else x]
    for depth, layer in enumerate(network):
        z = pre_activation(layer, layer_input(layer, layers, depth))
        if layer.corner:
            z = bend(z, layer.corner)
        v = z if layer is network[-1] else activate(z, layer.activation, layer.slope)
        layers.append(times(factors[depth + 1], v) if factors else v)
    return layers


def row_loss(z: Row, y: Row, loss: str, output: Layer, ceiling: float = math.inf) -> float:
    """Eq. 4: the loss of one row, or of each output that has its own, counting as no more than the ceiling."""
    if loss == "binary_cross_entropy":
        return sum(min(b * softplus(-a) + (1 - b) * softplus(a), ceiling) for a, b in zip(z, y, strict=True))
    return min(joint_loss(z, y, loss, output), ceiling)


def joint_loss(z: Row, y: Row, loss: str, output: Layer) -> float:
    """Eq. 4: the loss of one row, other than a sum of losses that each output has of its own."""
    if loss == "squared_error":
        v = activate(z, output.activation, output.slope)
        return sum((a - b) ** 2 for a, b in zip(v, y, strict=True))
    if loss == "poisson":
        return sum(math.exp(a) - a * b + (b * math.log(b) if b else 0.0) - b for a, b in zip(z, y, strict=True))
    assert loss == "cross_entropy"
    peak = max(z)
    log_sum = peak + math.log(sum(math.exp(number - peak) for number in z))
    return sum(b * (log_sum - a) for a, b in zip(z, y, strict=True))


def output_delta(z: Row, y: Row, loss: str, output: Layer) -> Row:
    """Eq. 4: g_L = dloss/dz of one row; of a corner z is v_L, and this is the slope by it."""
    v = activate(z, output.activation, output.slope)
    if loss == "squared_error":
        factors = derivative_factor(v, output.activation, output.slope)
        return [2 * (a - b) * factor for a, b, factor in zip(v, y, factors, strict=True)]
    total = sum(y) if loss == "cross_entropy" else 1.0
    return [a * total - b for a, b in zip(v, y, strict=True)]


def hand_back(layer: Layer, depth: int, g: Row, slopes: Matrix) -> None:
    """Eq. 5 and 5a for one row: add what the layer at `depth` says about every activation that it reads."""
    for i, weights in enumerate(layer.weights):
        share = sum(weight * delta for weight, delta in zip(weights, g, strict=True))
        width = len(slopes[depth])
        if i < width:
            slopes[depth][i] += share
        if layer.skip and (i >= width or not layer.concat):
            slopes[depth - layer.skip][i - width if layer.concat else i] += share


def through_corner(layer: Layer, layers: Sequence[Row], depth: int, s: Row) -> tuple[Row, Matrix]:
    """Eq. 6a and 7b for one row: g and the corner's gradient of the layer at `depth`; without a corner s is g."""
    if not layer.corner:
        return s, []
    return bend_back(pre_activation(layer, layer_input(layer, layers, depth)), layer.corner, s)


def backward(
    network: Sequence[Layer], layers: Sequence[Row], g: Row, dropped: Sequence[Row] = ()
) -> tuple[list[Row], list[Matrix]]:
    """Eq. 5, 5a, 6, 6a and 6b for one row: [g_1, ..., g_L], and every corner's gradient, from `output_delta`.

    `dropped`: the factors of dropout, which the layers have been multiplied by.
    """
    last = len(network) - 1
    g, shares = through_corner(network[last], layers, last, g)
    deltas, of_corners = [g], [shares]
    slopes = [[0.0] * len(layer) for layer in layers]
    for depth in range(len(network) - 1, 0, -1):
        below = network[depth - 1]
        hand_back(network[depth], depth, deltas[0], slopes)
        v, s = layers[depth], slopes[depth]
        if dropped:
            v = [value / factor if factor else 0.0 for value, factor in zip(v, dropped[depth], strict=True)]
            s = times(dropped[depth], s)
        g, shares = through_corner(
            below, layers, depth - 1, times(derivative_factor(v, below.activation, below.slope), s)
        )
        deltas.insert(0, g)
        of_corners.insert(0, shares)
    return deltas, of_corners


def layer_gradient(inputs: Matrix, deltas: Matrix, of_corner: Sequence[Matrix] = ()) -> Layer:
    """Eq. 7 and 7b for one layer: the sums over the batch of u_i g_o, of g_o and of the rows' shares.

    inputs (B, I), deltas (B, O), of_corner (B, 3, O).
    """
    width = len(deltas[0])
    weights = [[0.0] * width for _ in inputs[0]]
    biases = [0.0] * width
    for u, g in zip(inputs, deltas, strict=True):
        for o, delta in enumerate(g):
            biases[o] += delta
            for i, number in enumerate(u):
                weights[i][o] += number * delta
    corner = [[sum(column) for column in zip(*rows, strict=True)] for rows in zip(*of_corner, strict=True)]
    return Layer(weights, biases, corner=corner or ())


def adam_moved(
    layer: Layer, states: list[Layer], gradient: Layer, rule: Rule, update: int
) -> tuple[Layer, list[Layer]]:
    """Eq. 8 and 9 for one layer, Adam, at an update counted from 1: new parameters and new moments."""
    rows: list[list[Row]] = [[], [], []]
    for numbers, means, squares, slopes in zip(*(part.rows() for part in (layer, *states, gradient)), strict=True):
        for row in rows:
            row.append([])
        for w, m, v, g in zip(numbers, means, squares, slopes, strict=True):
            m_new = rule.momentum * m + (1 - rule.momentum) * g
            v_new = rule.beta_2 * v + (1 - rule.beta_2) * g**2
            correction = math.sqrt(1 - rule.beta_2**update) / (1 - rule.momentum**update)
            step = -rule.rate * correction * m_new / (math.sqrt(v_new) + rule.epsilon)
            for row, number in zip(rows, (limited(w + step, w, rule), m_new, v_new), strict=True):
                row[-1].append(number)
    after, mean, square = rows
    return layer.with_rows(after), [gradient.with_rows(s) for s in (mean, square)]


def fista_moved(
    layer: Layer, states: list[Layer], gradient: Layer, rule: Rule, update: int
) -> tuple[Layer, list[Layer]]:
    """Eq. 8 and 9 for one layer, FISTA, at an update counted from 1: new parameters, moves so far and last gradient."""
    t = [1.0]
    for _ in range(update):
        t.append((1 + math.sqrt(1 + 4 * t[-1] ** 2)) / 2)
    nu = (t[-2] - 1) / t[-1]
    if rule.fixed_nu:
        nu = 0.0 if update == 1 else 1.0
    rows: list[list[Row]] = [[] for _ in range(1 + len(states))]
    for parts in zip(*(part.rows() for part in (layer, *states, gradient)), strict=True):
        for row in rows:
            row.append([])
        for w, moves, *last, g in zip(*parts, strict=True):
            to = limited(w - rule.rate * g, w, rule)
            if to != w - rule.rate * g:
                g = 0.0
            moves += to - w
            if last and last[0] * g < 0:
                moves = 0.0
            end = limited(to + nu * moves, to, rule)
            if end != to + nu * moves:
                moves = end - to
            for row, number in zip(rows, (end, moves, g), strict=False):
                row[-1].append(number)
    after, *kept = rows
    return layer.with_rows(after), [gradient.with_rows(s) for s in kept]


def moved(layer: Layer, states: list[Layer], gradient: Layer, rule: Rule, update: int = 1) -> tuple[Layer, list[Layer]]:
    """Eq. 8 and 9 for one layer: its new parameters, and its new velocity or moments."""
    rule = rule._replace(rate=rule.rate * layer.rate_scale)
    if rule.adam:
        return adam_moved(layer, states, gradient, rule, update)
    if rule.fista:
        return fista_moved(layer, states, gradient, rule, update)
    (velocity,) = states
    rows, velocities = [], []
    for numbers, speeds, slopes in zip(layer.rows(), velocity.rows(), gradient.rows(), strict=True):
        velocities.append([rule.momentum * v - rule.rate * g for v, g in zip(speeds, slopes, strict=True)])
        steps = velocities[-1]
        if rule.nesterov:
            steps = [rule.momentum * v - rule.rate * g for v, g in zip(velocities[-1], slopes, strict=True)]
        rows.append([limited(w + step, w, rule) for w, step in zip(numbers, steps, strict=True)])
    return layer.with_rows(rows), [gradient.with_rows(velocities)]


def saturated(weight: float, limit: float) -> float:
    """Eq. 9; a NaN stays one."""
    if weight > limit:
        return limit
    return -limit if weight < -limit else weight


def limited(weight: float, old: float, rule: Rule) -> float:
    """Eq. 9 with a floor: a weight stops there, and one that stood there is thrown to the other side of zero."""
    value = saturated(weight, rule.saturation)
    if value != weight or rule.floor == 0:
        return value
    if old > 0 and weight < rule.floor:
        return rule.floor if old > rule.floor else -rule.floor
    if old <= 0 and weight > -rule.floor:
        return -rule.floor if old < -rule.floor else rule.floor
    return weight


def row_of(y: Row | int, width: int) -> Row:
    """A class label as a row of zeros with a one."""
    return [float(j == y) for j in range(width)] if isinstance(y, int) else y


def zeros_like(layer: Layer) -> Layer:
    return layer.with_rows([[0.0] * len(layer.biases) for _ in layer.rows()])


def sweep(
    network: Sequence[Layer],
    x: Matrix,
    y: Sequence[Row | int],
    counts: Row,
    loss: str,
    scale: float,
    factors: Sequence[Sequence[Row]],
) -> Step:
    """Eq. 1 to 7 for one batch whose loss counts `scale` times, and each row as often as `counts` says; nothing moves
    yet.  `factors`: of dropout, row by row."""
    output = network[-1]
    targets = [row_of(target, len(output.biases)) for target in y]
    layers = [forward(network, *row) for row in zip(x, factors, strict=True)]
    rows = list(zip(layers, targets, counts, factors, strict=True))
    losses = [count * row_loss(row[-1], target, loss, output) for row, target, count, _ in rows]
    back = [
        backward(
            network, row, [scale * count * number for number in output_delta(row[-1], target, loss, output)], dropped
        )
        for row, target, count, dropped in rows
    ]
    deltas, of_corners = ([row[part] for row in back] for part in (0, 1))
    layers_by_depth = [list(column) for column in zip(*layers, strict=True)]
    deltas_by_depth = [list(column) for column in zip(*deltas, strict=True)]
    corners_by_depth = [list(column) for column in zip(*of_corners, strict=True)]
    gradient = [
        layer_gradient([layer_input(layer, row, depth) for row in layers], *parts)
        for depth, (layer, *parts) in enumerate(zip(network, deltas_by_depth, corners_by_depth, strict=True))
    ]
    factors_by_depth = [list(column) for column in zip(*factors, strict=True)]
    return Step(layers_by_depth, losses, deltas_by_depth, gradient, [], list(network), sum(losses), factors_by_depth)


def penalty(network: Sequence[Layer], alpha: float) -> float:
    """Eq. 7a: alpha / 2 for every squared weight, none for the biases."""
    return alpha / 2 * sum(weight**2 for layer in network for row in layer.weights for weight in row)


def penalised(layer: Layer, gradient: Layer, decay: float) -> Layer:
    """Eq. 7a for one layer: its gradient with that of the penalty."""
    rows = zip(gradient.weights, layer.weights, strict=True)
    return gradient._replace(weights=[[g + decay * w for g, w in zip(*row, strict=True)] for row in rows])


def train(
    network: Sequence[Layer],
    x: Matrix,
    y: Sequence[Row | int],
    order: Sequence[int],
    loss: str,
    rule: Rule,
    batch_size: int,
    mean: bool,
    counts: Row | None = None,
    input_dropout: float = 0.0,
    mask_seed: int = 0,
) -> Iterator[Step]:
    """Eq. 1 to 9, batch after batch of the rows in `order`; with batch_size 1 the article's online training.

    `counts` says how often each row of x counts, `input_dropout` which share of the input is dropped.
    """
    shares, widths = [input_dropout], [len(x[0])]
    for layer in network:
        shares.append(layer.dropout)
        widths.append(len(layer.biases))
    states = [[zeros_like(layer) for _ in range(rule.states)] for layer in network]
    for update, start in enumerate(range(0, len(order), batch_size), start=1):
        rows = order[start : start + batch_size]
        weights = [1.0 if counts is None else counts[row] for row in rows]
        scale = 1.0
        if mean:
            scale = 1 / sum(weights) if sum(weights) else 0.0
        number = (mask_seed + update - 1) % 2**64
        factors = [dropout_factors(shares, widths, number, place) for place in range(len(rows))]
        now = sweep(network, [x[row] for row in rows], [y[row] for row in rows], weights, loss, scale, factors)
        gradient = [penalised(*pair, rule.alpha * scale) for pair in zip(network, now.gradient, strict=True)]
        batch_loss = sum(now.losses) + penalty(network, rule.alpha)
        after = [moved(*parts, rule, update) for parts in zip(network, states, gradient, strict=True)]
        network = [layer for layer, _ in after]
        states = [state for _, state in after]
        yield now._replace(
            gradient=gradient, states=states, network=network, loss=batch_loss * (len(rows) * scale if mean else 1.0)
        )


class UpdatedStep(NamedTuple):
    """Everything that happened to one row whose deltas went through updated weights."""

    layers: list[Row]  # [x, v_1, ..., v_(L-1), z_L], before the update
    loss: float  # before the update
    first_delta: Row  # g_L, from the output before the update
    output: Row  # z_L, after the last layer's step
    deltas: list[Row]  # [g_1, ..., g_(L-1), g_L], the last from the output after the last layer's step
    corner_slopes: list[Matrix]  # of every layer, what its corner has moved along; empty without one
    network: list[Layer]  # after the update


def train_through_updated(
    network: Sequence[Layer],
    x: Matrix,
    y: Sequence[Row | int],
    order: Sequence[int],
    scales: Row,
    loss: str,
    rule: Rule,
) -> Iterator[UpdatedStep]:
    """Eq. 21 to 23, row after row; the loss of each counts as often as `scales` says."""
    for row in order:
        target = row_of(y[row], len(network[-1].biases))
        layers, last = forward(network, x[row]), len(network) - 1
        s = [scales[row] * slope for slope in output_delta(layers[-1], target, loss, network[-1])]
        g, shares = through_corner(network[last], layers, last, s)
        first = g
        slopes = [[0.0] * len(layer) for layer in layers]
        after, deltas, corner_slopes, z = list(network), [], [], layers[-1]
        for depth in range(last, -1, -1):
            u = layer_input(network[depth], layers, depth)
            slope = layer_gradient([u], [g], [shares])
            corner_slopes.insert(0, shares)
            after[depth], _ = moved(network[depth], [zeros_like(network[depth])], slope, rule._replace(momentum=0.0))
            if depth == last:
                z, corner = pre_activation(after[last], u), after[last].corner
                out = bend(z, corner) if corner else z
                g = [scales[row] * slope for slope in output_delta(out, target, loss, network[-1])]
                if corner:
                    g, _ = bend_back(z, corner, g)
            deltas.insert(0, g)
            if depth > 0:
                hand_back(after[depth], depth, g, slopes)
                below = network[depth - 1]
                factors = derivative_factor(layers[depth], below.activation, below.slope)
                s = [factor * total for factor, total in zip(factors, slopes[depth], strict=True)]
                g, shares = through_corner(below, layers, depth - 1, s)
        yield UpdatedStep(
            layers, row_loss(layers[-1], target, loss, network[-1]), first, z, deltas, corner_slopes, after
        )
        network = after
