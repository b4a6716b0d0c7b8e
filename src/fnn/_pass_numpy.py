"""The passes of the C++ class FloatNeuralNet in NumPy: the reference, and the fallback where nothing was compiled.

`_pass.pyx` holds the same functions in the same order, to read side by side.  Both do the class's own float32
operations, each rounded by itself, in the class's own order, so that their results are the class's, bit for bit.
Hence no matrix product and no `sum`, which choose an order of their own: `np.add.accumulate` adds from the first term
to the last.

docs/float-neural-net.md describes the arithmetic; shape letters: N samples, I neurons of the level below, O of the
level.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fnn._pass_state import CORNER, RELU, State

quiet = np.errstate(all="ignore")  # overflow and what follows from it are the caller's, on every backend
NONE = -1  # the class of outputs that share their maximum


# ---- One sample ----------------------------------------------------------------------------------


def limited(new: np.ndarray, old: np.ndarray, settings: np.void) -> tuple[np.ndarray, np.ndarray]:
    """The limiter: `new` inside the saturation limit and, where asked for, outside the floor; and where it was hit."""
    limit, floor = settings["weight_saturation"], settings["weight_floor"]
    hit = (new > limit) | (new < -limit)
    value = np.where(new > limit, limit, np.where(new < -limit, -limit, new))
    if settings["enable_weight_floor"]:
        falls, rises = ~hit & (old > 0) & (new < floor), ~hit & (old <= 0) & (new > -floor)
        # A weight stops at the floor first; one that stands on it is thrown to the other side of zero.
        value = np.where(falls, np.where(old > floor, floor, -floor), value)
        value = np.where(rises, np.where(old < -floor, -floor, floor), value)
        hit |= falls | rises
    return value, hit


def in_order(terms: np.ndarray, axis: int) -> np.ndarray:
    """Sum along an axis from 0 on, one term after the other; the first term is the 0."""
    total: np.ndarray = np.add.accumulate(terms, axis=axis).take(-1, axis=axis)
    return total


def activate(state: State, level: int, z: np.ndarray) -> np.ndarray:
    """The outputs (O,) of a level from its raw values (O,)."""
    if state.kind == CORNER:
        left, offset, right = state.levels.corner_blocks(state.corners)[level - 1].T
        bent: np.ndarray = np.where(z < 0, z * left, np.where(z > 0, z * right, z)) + offset
        return bent
    if level == len(state.levels.sizes) - 1:
        return z
    return np.where(z < 0, np.float32(0) if state.kind == RELU else z * state.settings[0]["relu_leakiness"], z)


def forward(state: State, row: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Raw values and outputs of every level for one sample; level 0 has outputs only."""
    raw, outputs = [row], [row]
    for level, block in enumerate(state.levels.blocks(state.weights), start=1):
        terms = np.zeros((len(block) + 1, block.shape[1]), np.float32)
        np.multiply(outputs[-1][:, None], block[:-1], out=terms[1:-1])
        terms[-1] = block[-1]
        raw.append(in_order(terms, 0))
        outputs.append(activate(state, level, raw[-1]))
    return raw, outputs


def unsigned(passes: np.int64) -> int:
    """Completed passes as the class takes them; an undone pass after a restart can leave fewer than none."""
    return int(passes) % (1 << 64)


def winner(values: np.ndarray) -> int:
    """Index of the strictly highest value, NONE if the maximum is shared."""
    highest = np.flatnonzero(values == values.max())
    return int(highest[0]) if len(highest) == 1 else NONE


def judge(
    state: State, outputs: np.ndarray, z: np.ndarray, targets: np.ndarray, count: np.uint32, scale: np.float32
) -> np.float32:
    """Count a sample as correct or not, and return its effective count after that; `scale` is the one before."""
    settings, tally = state.settings[0], state.tally[0]
    predicted, expected = winner(outputs), winner(targets)
    if predicted == expected:
        tally["correct"] += count
        # Where all is shared, the class looks at what lies before its outputs, the last raw value.
        tally["above" if (z[-1] if predicted == NONE else outputs[predicted]) > 0 else "not_above"] += count
        if scale > count:
            return max(np.float32(scale - np.float32(count) * settings["effective_decrease_rate"]), np.float32(count))
        return scale
    tally["incorrect"] += count
    tally["not_above"] += count
    late = unsigned(tally["training_pass"]) > settings["min_pass_effective_adj"]
    if late and float(scale) < float(count) * float(settings["max_multiplier"]):
        return scale + np.float32(count)
    return scale


def output_errors(
    state: State, outputs: np.ndarray, targets: np.ndarray, count: np.uint32, scale: np.float32
) -> np.ndarray:
    """Add the errors of one sample to the tally and return the sensitivity (O,) of its outputs."""
    tally = state.tally[0]
    errors = (outputs - targets).astype(np.float64)
    n = len(outputs)
    for error in errors:  # double, in the class's order
        tally["abs_sum"] += abs(error) * float(count)
        tally["squared_sum"] += error * error * float(count)
        tally["effective_squared_sum"] += error * error * float(scale)
    tally["cases"] += count
    tally["effective_cases"] += scale
    tally["error_cases"] += np.uint32(n) * count
    tally["effective_error_cases"] += np.float32(n) * scale
    sigma: np.ndarray = (2 * errors * float(scale)).astype(np.float32)
    return sigma


def bend(state: State, level: int, z: np.ndarray, sigma: np.ndarray, rate: np.float32) -> np.ndarray:
    """CORNER: the derivatives (O,) of a level; its corners get their gradient and, at once, their step."""
    corners = state.levels.corner_blocks(state.corners)[level - 1]
    left, _, right = corners.T
    derivatives: np.ndarray = np.where(z < 0, left, np.where(z > 0, right, (left + right) / np.float32(2)))
    g = np.column_stack([z * sigma, sigma, z * sigma])
    active = np.column_stack([z < 0, np.ones(len(z), bool), z > 0])
    if len(state.corner_gradient):
        total = state.levels.corner_blocks(state.corner_gradient)[level - 1]
        total[active] += g[active]
    if rate != 0:
        corners[active] = limited(corners - rate * g, corners, state.settings[0])[0][active]
    return derivatives


def backward(
    state: State, raw: list[np.ndarray], outputs: list[np.ndarray], sigma: np.ndarray, rate: np.float32
) -> None:
    """One sample backward from the sensitivity of its outputs: gradients into the total, and the steps of `rate`."""
    levels, settings = state.levels, state.settings[0]
    blocks = levels.blocks(state.weights)
    totals = levels.blocks(state.gradient) if len(state.gradient) else []
    last = len(blocks)
    for level in range(last, 0, -1):
        block, z, below = blocks[level - 1], raw[level], outputs[level - 1]
        if state.kind == CORNER:
            derivatives = bend(state, level, z, sigma, rate)
        elif level == last:
            derivatives = np.ones_like(z)
        else:
            slope = np.float32(0) if state.kind == RELU else settings["relu_leakiness"]
            derivatives = np.where(z < 0, slope, np.float32(1))
            if state.kind == RELU:
                start = sum(levels.sizes[:level])
                state.usage[start : start + len(z)] += z >= 0
        terms = np.zeros((len(below), len(z) + 1), np.float32)
        terms[:, 1:] = block[:-1] * sigma * derivatives
        passed = in_order(terms, 1)
        g = np.empty_like(block)
        g[:-1] = below[:, None] * sigma * derivatives
        g[-1] = z * np.abs(sigma) if state.kind == CORNER else sigma * derivatives
        if totals:
            totals[level - 1][:] += g
        if rate != 0:
            block[:] = limited(block - rate * g, block, settings)[0]
        if settings["auto_rate"] and level == last:
            state.input_sums[0] += below
            state.input_sums[1] += passed
        sigma = passed


# ---- Many samples --------------------------------------------------------------------------------


@quiet
def compute(state: State, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Outputs (N, O) for inputs (N, I), and of each sample the index of the highest, the first one on a tie."""
    outputs = np.array([forward(state, row)[1][-1] for row in inputs])
    return outputs, outputs.argmax(axis=1)


@quiet
def train(
    state: State,
    inputs: np.ndarray,
    targets: np.ndarray,
    rate: np.float32,
    counts: np.ndarray,
    effective_counts: np.ndarray | None,
) -> None:
    """Samples (N, I), (N, O) in order, with their counts (N,) and effective counts (N,), which may change."""
    for n, (row, wanted) in enumerate(zip(inputs, targets, strict=True)):
        raw, outputs = forward(state, row)
        count = counts[n]
        scale = np.float32(count) if effective_counts is None else effective_counts[n]
        if state.settings[0]["is_classifier"]:
            judged = judge(state, outputs[-1], raw[-1], wanted, count, scale)
            if effective_counts is not None:
                scale = effective_counts[n] = judged
        sigma = output_errors(state, outputs[-1], wanted, count, scale)
        backward(state, raw, outputs, sigma, rate)


# ---- The bounds of a pass ------------------------------------------------------------------------


def parameters(state: State, weights: np.ndarray, corners: np.ndarray) -> list[np.ndarray]:
    """Views of all weights, level after level, and then of all corners."""
    return [*state.levels.blocks(weights), *state.levels.corner_blocks(corners)]


@quiet
def start_pass(state: State) -> None:
    """Zero what a pass adds up; then momentum moves every parameter."""
    settings, tally = state.settings[0], state.tally[0]
    for name in ("correct", "incorrect", "above", "not_above", "abs_sum", "squared_sum", "effective_squared_sum"):
        tally[name] = 0
    for name in ("cases", "error_cases", "effective_cases", "effective_error_cases", "to_apply"):
        tally[name] = 0
    for sums in (state.usage, state.gradient, state.corner_gradient, state.input_sums):
        sums[:] = 0
    if not settings["momentum"]:
        return
    passes, t = tally["training_pass"], tally["momentum_t"]
    if settings["momentum_fixed_nu"]:
        nu = 0.0 if passes < 2 else 1.0
    else:
        following = (1 + np.sqrt(1 + t * t * 4)) / 2
        nu = (t - 1) / following
        tally["momentum_t"] = following if passes != 0 else 1
    momenta = parameters(state, state.momentum, state.corner_momentum)
    for values, momentum in zip(parameters(state, state.weights, state.corners), momenta, strict=True):
        moved = (values.astype(np.float64) + nu * momentum.astype(np.float64)).astype(np.float32)
        moved, hit = limited(moved, values, settings)
        momentum[hit] = (moved - values)[hit]
        values[:] = moved


@quiet
def end_pass(state: State) -> None:
    """Compute the norms of the gradient and count the pass."""
    tally, norms = state.tally[0], state.norms
    norms[:] = np.nan
    if len(state.gradient):
        cases = tally["cases"]
        ratio = float(cases) / float(tally["effective_cases"]) if cases else 1.0
        blocks, corners = state.levels.blocks(state.gradient), state.levels.corner_blocks(state.corner_gradient)
        total: Any = 0.0
        for level, block in enumerate(blocks):
            entries = np.concatenate([block.ravel(), corners[level].ravel()]).astype(np.float64)
            squares = entries * entries
            norms[level] = np.sqrt(in_order(np.append(0.0, squares), 0)) * ratio
            total = in_order(np.append(total, squares), 0)
        norms[-1] = np.sqrt(total) * ratio
    tally["training_pass"] += 1
    tally["to_apply"] = 1


def squared_change(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Sum in double of the squares of float32 differences, in order."""
    changes = np.concatenate([(new - old).ravel() for new, old in pairs]).astype(np.float64)
    return float(in_order(np.append(0.0, changes * changes), 0))


def adapt_rate(state: State) -> bool:
    """auto_rate: choose the training rate from what the last pass did to the last level; True if it undoes it."""
    settings, tally, levels = state.settings[0], state.tally[0], state.levels
    lowest = 0.0001 / float(tally["cases"])
    if tally["training_rate"] <= 0:
        tally["training_rate"] = 0.001 / float(tally["cases"])
    if tally["redo"]:
        tally["redo"], tally["after_redo"] = 0, 1
        return False
    corners = levels.corner_blocks(state.corners)[-1].ravel()
    gradient, corner_gradient = (
        levels.blocks(state.gradient)[-1],
        levels.corner_blocks(state.corner_gradient)[-1].ravel(),
    )
    saved_gradient = state.saved_gradient.reshape(len(gradient), -1)[:, : gradient.shape[1]]
    if tally["has_saved"] and not tally["after_redo"]:
        rate = float(tally["training_rate"])
        # A slip of the class, kept: the last level's corners are compared with the first ones that were saved.
        changed = squared_change(
            [
                (state.input_sums[0], state.saved_input_sums[0]),
                (levels.blocks(state.weights)[-1], levels.blocks(state.saved_weights)[-1]),
                (corners, state.saved_corners[: len(corners)]),
            ]
        )
        gradient_changed = squared_change(
            [
                (state.input_sums[1], state.saved_input_sums[1]),
                (gradient, saved_gradient),
                (corner_gradient, state.saved_corner_gradient),
            ]
        )
        if changed != 0 and gradient_changed != 0:
            best = np.sqrt(changed / gradient_changed) * float(settings["training_rate_scale"])
            low, high = best * (0.1 * 2 / 3), best * (0.1 * 5 / 6)
            if rate < low:
                tally["training_rate"] = min(np.float32(2 * rate), np.float32(low))
            elif rate > lowest and rate > high:
                tally["training_rate"] = low
                if float(tally["training_rate"]) < lowest:
                    tally["training_rate"] = lowest
                if rate > best * (15 / 16):
                    state.weights[:], state.corners[:] = state.saved_weights, state.saved_corners
                    tally["redo"] = 1
                    tally["training_pass"] -= 2
                    return True
    tally["after_redo"], tally["has_saved"] = 0, 1
    state.saved_input_sums[:] = state.input_sums
    state.saved_weights[:], state.saved_corners[:] = state.weights, state.corners
    saved_gradient[:], state.saved_corner_gradient[:] = gradient, corner_gradient
    return False


def adapt_multiplier(state: State) -> np.float32:
    """auto_rate2: choose the multiplier of the rate from the signs and sizes of this gradient and the last."""
    tally = state.tally[0]
    now, last = (
        np.concatenate([block.ravel() for block in parameters(state, gradient, corner_gradient)])
        for gradient, corner_gradient in (
            (state.gradient, state.corner_gradient),
            (state.last, state.corner_last),
        )
    )
    turned = now * last < 0
    kept = ~turned & (last != 0)
    n_turned, n_kept = max(int(turned.sum()), 1), max(int(kept.sum()), 1)
    now_turned, last_turned, last_kept = (
        np.sqrt(in_order(np.append(0.0, (values * values).astype(np.float64)), 0) / n)
        for values, n in ((now[turned], n_turned), (last[turned], n_turned), (last[kept], n_kept))
    )
    if now_turned > last_turned and now_turned * n_turned > 2 * last_kept * n_kept:
        factor = 0.2 if now_turned > 2 * last_turned or n_turned > 0.7 * (n_turned + n_kept) else 0.67
    elif now_turned > last_turned and now_turned > 3 * last_kept:
        factor = 0.8
    else:
        factor = 1.2
    tally["auto_rate2_adj"] = float(tally["auto_rate2_adj"]) * factor
    adapted: np.float32 = tally["auto_rate2_adj"]
    return adapted


def move(state: State, rate: np.float32) -> None:
    """Move all parameters against the total gradient."""
    settings, levels = state.settings[0], state.levels
    n_levels = len(levels.shapes)
    values = parameters(state, state.weights, state.corners)
    gradients = parameters(state, state.gradient, state.corner_gradient)
    momenta = parameters(state, state.momentum, state.corner_momentum) if settings["momentum"] else values
    period = 3 * levels.sizes[0]
    step = settings["tweak_rate"] / np.float32(period)
    passes, before = unsigned(state.tally[0]["training_pass"]), 0
    for place, (value, gradient, momentum) in enumerate(zip(values, gradients, momenta, strict=True)):
        level = place % n_levels
        if place == n_levels:
            before = 0  # the corners count anew
        if settings["scale_rate_per_layer"]:
            own = rate if level == n_levels - 1 else rate / np.float32(levels.sizes[level + 2])
            stepped = value - own * gradient
        else:
            k = (np.arange(before, before + value.size, dtype=np.uint64) + np.uint64(passes % period)) % np.uint64(
                period
            )
            if before == 0:
                k[:1] = passes  # the first one beyond the period too
            counter = k.astype(np.float32).reshape(value.shape)
            stepped = value - rate * (gradient - gradient * counter * step)
        before += value.size
        new, hit = limited(stepped, value, settings)
        gradient[hit] = 0
        if settings["momentum"]:
            momentum += new - value
        value[:] = new


@quiet
def apply_gradient(state: State, rate: np.float32) -> bool:
    """Move the parameters by the pass's gradient; True if auto_rate has undone the last such move instead."""
    settings, tally = state.settings[0], state.tally[0]
    tally["to_apply"] = 0
    if settings["auto_rate"]:
        if adapt_rate(state):
            return True
        rate = tally["training_rate"]
    else:
        cases = np.float32(tally["cases"])
        if cases != tally["effective_cases"]:
            rate = rate * cases / tally["effective_cases"]
        if settings["auto_rate2"] and tally["has_last"]:
            rate = rate * adapt_multiplier(state)
    move(state, rate)
    if settings["momentum"] and settings["momentum_fast_brake"] and tally["has_last"]:
        state.momentum[state.last * state.gradient < 0] = 0
        state.corner_momentum[state.corner_last * state.corner_gradient < 0] = 0
    if state.with_momentum:
        state.last[:], state.corner_last[:] = state.gradient, state.corner_gradient
        tally["has_last"] = 1
    return False


def reclaim(state: State, max_unused: int) -> int:
    """Turn round the neurons that at most `max_unused` samples of the pass have used; how many those were."""
    levels, tally = state.levels, state.tally[0]
    if state.kind != RELU or tally["redo"]:
        return 0
    blocks = levels.blocks(state.weights)
    start, found = levels.sizes[0], 0
    for level in range(1, len(blocks)):
        dead = state.usage[start : start + levels.sizes[level]] <= max_unused
        blocks[level - 1][:, dead] *= np.float32(-1)
        blocks[level][:-1][dead] = 0
        start += levels.sizes[level]
        found += int(dead.sum())
    if found:
        tally["training_rate"], tally["has_saved"] = -1, 0
    return found


def train_pass(
    state: State,
    inputs: np.ndarray,
    targets: np.ndarray,
    rate: np.float32,
    counts: np.ndarray,
    effective_counts: np.ndarray | None,
    apply_rate: np.float32,
    max_unused: int | None,
) -> tuple[bool, int]:
    """A whole pass: start, every sample, end, apply unless its rate is 0, reclaim unless None: (undone, reclaimed)."""
    start_pass(state)
    train(state, inputs, targets, rate, counts, effective_counts)
    end_pass(state)
    undone = apply_rate != 0 and apply_gradient(state, apply_rate)
    return bool(undone), 0 if max_unused is None else reclaim(state, max_unused)
