# cython: language_level=3, boundscheck=False, initializedcheck=False, cdivision=True
# cython: freethreading_compatible=True, binding=True, embedsignature=True
"""The backward sweep, compiled.  `_backprop_numpy.py` holds the same functions in the same order, to read side by side.

A. The only kernel source, with the `.pxi` files that it includes as text: setup.py builds it once per instruction set,
   for float and double.  What Cython cannot express, the tiles that live in vector registers, is in `_simd.h` and the
   headers that it includes; the loops over layers, batches and tiles are here.
B. A `Workspace` holds one working copy of the parameters and all scratch, in one block of memory.  Every matrix in it
   is stored in panels (`_simd.h`, C), so that a tile that one product writes is a tile that the next one reads.
C. A step: of each layer the threads share the neurons or the batch's rows, forward, to the loss and backward, and meet
   only where one needs what another has computed.  Then each takes its own tiles of the layer's gradient, which become
   the saturated update while they are still in registers, as soon as all have read the weights: while they are in
   cache. Products of wide layers skip zeros where there are enough of them, with the same bits
   (`_backprop_sparse.pxi`).
D. No number's sum is split, but into the two halves of a batch that one thread takes as well, so any number of threads
   gives the same bits.

Equation numbers refer to docs/backprop.md.  Shape letters: B rows of a batch, I fan-in, O fan-out, L layers,
P parameters, N rows of the data set; R rows that a panel has room for.
"""

from math import gcd

import numpy as np

from fnn._dropout import threshold
from fnn._formulas import LOSSES
from fnn._layout import Layout
from fnn._optimizers import fista_t

from cpython.exc cimport PyErr_CheckSignals
from libc.math cimport INFINITY, pow, sqrt
from libc.stdint cimport int32_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

ctypedef fused real:
    float
    double

include "_backprop_kernels.pxi"
include "_backprop_plan.pxi"
include "_backprop_panels.pxi"


# ---- The sweep, each thread's share of it ------------------------------------------------------------------------

include "_backprop_rows.pxi"
include "_backprop_pieces.pxi"
include "_backprop_skips.pxi"
include "_backprop_corners.pxi"
include "_backprop_dropout.pxi"
include "_backprop_sparse.pxi"
include "_backprop_forward.pxi"
include "_backprop_output.pxi"


cdef void backward_share(real *arena, const Plan *plan, Py_ssize_t l, const Share *share, int thread,
                         bint kept) noexcept nogil:
    """Eq. 5 and 6 from layer l to the layer below, of which `share` is: g_below = (g W^T) * phi'.  kept: by the W^T that
    is kept, and not by blocks of it.

    A layer that skips puts g W^T elsewhere first; on an activation that others read too the sum goes on (eq. 5a).
    """
    cdef const Layer *layer = &plan.layers[l]
    cdef const Layer *below = &plan.layers[l - 1]
    cdef Py_ssize_t vector = plan.lanes, panel = 2 * vector, room = plan.room * panel, vecs, k = 0, inner, i, r, next_r
    cdef Py_ssize_t p, q, done, tile, tiles, low, taller, rows = share.end - share.begin
    cdef Py_ssize_t step = panel * padded(layer.outputs, vector) if kept else block_panel(plan)
    cdef Py_ssize_t last = pieces(layer.inputs, panel) if layer.skip else share.last
    cdef real *to = arena + (plan.input_delta if layer.skip else below.g)
    cdef bint goes_on = layer.gathers and not layer.skip
    cdef int code = factor_code(below)
    cdef real *wt = block_of_weights(arena, plan, thread)
    if rows == 0:
        return
    while k < layer.outputs:
        inner, done = min(FNN_TERMS, layer.outputs - k), 0
        if layer.sparse_delta:
            done = sparse_backward_slab(arena, plan, layer, below, share, thread, k, inner)
        if not done:
            inner = min(INNER, layer.outputs - k)
        p = share.first + done
        while p < last:
            i = p * panel
            vecs = tile_vectors(layer.inputs - i, last - p, vector)
            tiles = pieces(rows, tile_rows(vecs))
            low, taller, next_r = rows // tiles, rows % tiles, share.begin
            if kept:
                wt = arena + layer.transposed + p * step + k * min(panel, vecs * vector)
            else:
                for q in range(tile_panels(vecs)):
                    transpose_block_of(wt + q * step, arena, plan, layer, i + q * panel, k, k + inner)
            p += tile_panels(vecs)
            for tile in range(tiles):
                r = next_r
                next_r += low + (tile < taller)
                backward_tile(
                    to + i * plan.room + r * panel, room, next_r - r, vecs,
                    arena + layer.g + k * plan.room + r * panel, room, inner, wt, step,
                    k == 0 and not goes_on, k + inner == layer.outputs and not layer.skip,
                    arena + layer.u + i * plan.room + r * panel, code, below.slope)
        k += inner
    if layer.skip:
        spread_share(arena, plan, l, share)
    if below.dropout.on:
        drop_back_share(arena, plan, l - 1, share)
    if below.bend:
        bend_back_share(arena, plan, l - 1, share)


cdef inline fnn_rule rule_of(const fnn_rule *rule, const Layer *layer) noexcept nogil:
    """The rule with the layer's own rate."""
    cdef fnn_rule found = rule[0]
    found.rate = rule.rate * layer.rate_scale
    return found


cdef inline fnn_rule bias_rule_of(const fnn_rule *rule, const Layer *layer) noexcept nogil:
    """The rule for its biases, which the penalty leaves out; no copy of `rule_of`'s, which would wait (Share)."""
    cdef fnn_rule found = rule_of(rule, layer)
    found.decay = 0
    return found


cdef void bias_tiles(real *arena, const Plan *plan, const Layer *layer, Py_ssize_t p, Py_ssize_t rows,
                     real *state, const fnn_rule *rule) noexcept nogil:
    """Eq. 7 to 9 for the biases of panel p, and for the three rows of its corners, which are sums as well."""
    cdef Py_ssize_t panel = 2 * plan.lanes, o = p * panel, vecs = vectors(layer.outputs - o, plan.lanes), k
    cdef Py_ssize_t width = vecs * plan.lanes, at = layer.weights + o * layer.height + layer.inputs * width
    cdef Py_ssize_t matrix = plan.room * padded(layer.outputs, panel), begin = o * plan.room
    bias_tile(arena + at, state + at, vecs, arena + layer.g + begin, rows, rule)
    for k in range(layer.height - layer.inputs - 1):
        at += width
        bias_tile(arena + at, state + at, vecs, arena + layer.bend + k * matrix + begin, rows, rule)


cdef void note_squares(real *arena, const Plan *plan, const Layer *layer, Py_ssize_t p, Py_ssize_t begin,
                       Py_ssize_t end, const Job *job) noexcept nogil:
    """Sum the squared weights, unit by unit, from the panels [begin, end) of inputs to panel p of neurons."""
    cdef Py_ssize_t vector = plan.lanes, panel = 2 * vector, q
    cdef Py_ssize_t width = vector * vectors(layer.outputs - p * panel, vector)
    for q in range(begin, end):
        job.squares[layer.units + p * pieces(layer.inputs, panel) + q] = sum_of_squares(
            arena + layer.weights + p * panel * layer.height + q * panel * width,
            min(panel, layer.inputs - q * panel), min(panel, layer.outputs - p * panel))


cdef void gradient_share(real *arena, const Plan *plan, Py_ssize_t l, Py_ssize_t rows, const fnn_rule *rule,
                         int thread, int threads, const Share *share, const Job *job, Fetch *fetch,
                         const void **x) noexcept nogil:
    """Eq. 7 to 9 for this thread's tiles of one layer: the gradient over so many rows, and what `rule` makes of it.
    share: the piece of the neurons to do, or NULL for all that are this thread's.  x: the input rows of the first layer
    where they lie, or NULL.

    The inputs are taken in blocks that stay in the second-level cache while all neurons pass by.  Meanwhile what there
    is to `fetch`, or NULL, comes into the cache.
    """
    cdef const Layer *layer = &plan.layers[l]
    cdef Py_ssize_t vector = plan.lanes, panel = 2 * vector, vecs, i, o, p, q, tile, r, next_r, height, tiles, at
    cdef Py_ssize_t low, taller  # rows of a tile, and tiles that have one more
    cdef Py_ssize_t block, begin, end, done, step = panel * layer.height, room = plan.room * panel, each
    cdef Py_ssize_t together = max(1, plan.block_bytes // (max(1, rows) * panel * <Py_ssize_t>sizeof(real)))
    cdef Py_ssize_t inner_panels = pieces(layer.inputs, panel), turned = 0, first, last
    cdef Py_ssize_t panels = pieces(layer.outputs, panel)
    cdef bint updates = rule.kind != FNN_STORE and rule.kind != FNN_ADD
    cdef bint sparse = layer.sparse_input and rows >= LEAST_LISTED
    cdef fnn_rule own = rule_of(rule, layer), bias_rule = bias_rule_of(rule, layer)
    cdef real *state = arena + (plan.state if updates else plan.gradient)  # plain SGD has none and touches none
    cdef real *u = arena + layer.u + (0 if l else thread * plan.own_input)
    cdef real *g
    if sparse:
        together = panels_listed(plan, rows)
    if not sparse and layer.sparse_delta and rows >= LEAST_LISTED:
        turned = turned_gradient(arena, plan, layer, u, rows, thread, threads, share, state, &own, &bias_rule, updates,
                                 job, fetch)
        inner_panels -= turned
        if inner_panels == 0:
            return
    if share is not NULL:
        first, last = share.first * inner_panels, share.last * inner_panels
    elif sparse or layer.by_columns:  # the weights stay with the thread that reads them forward
        first, last = panels * thread // threads * inner_panels, panels * (thread + 1) // threads * inner_panels
    else:
        first, last = panels * inner_panels * thread // threads, panels * inner_panels * (thread + 1) // threads
    for block in range(pieces(inner_panels, together)):
        done = 0
        if sparse:
            done = sparse_gradient_block(
                arena, plan, layer, u, block * together, min(inner_panels, (block + 1) * together),
                first // inner_panels, last // inner_panels, rows, thread, state, &own, updates, job, fetch)
            if block == 0:
                for p in range(done):
                    bias_tiles(arena, plan, layer, first // inner_panels + p, rows, state, &bias_rule)
        p = first // inner_panels + done
        while p < pieces(last, inner_panels):
            begin = max(block * together, first - p * inner_panels)
            end = min(inner_panels, (block + 1) * together, last - p * inner_panels)
            o = p * panel
            vecs = vectors(layer.outputs - o, vector)
            if begin == block * together and end == min(
                    inner_panels, (block + 1) * together, last - (p + 1) * inner_panels):
                vecs = tile_vectors(layer.outputs - o, 2, vector)  # the same inputs of two panels
            g = arena + layer.g + o * plan.room
            if updates and job.alpha:
                for each in range(p, p + tile_panels(vecs)):
                    note_squares(arena, plan, layer, each, turned + begin, turned + end, job)
            if x is NULL and fetch is NULL and is_thin(layer.outputs - o, vector):
                i = (turned + begin) * panel
                at = layer.weights + o * layer.height + i * vector
                thin_gradient(arena + at, state + at, layer.outputs - o, min(layer.inputs, (turned + end) * panel) - i,
                              u + i * plan.room, room, g, rows, &own)
                begin = end
                if i == 0:
                    bias_tiles(arena, plan, layer, p, rows, state, &bias_rule)
            for q in range(turned + begin, turned + end):
                i = q * panel
                height = min(panel, layer.inputs - i)
                tiles = pieces(height, tile_rows(vecs))
                low, taller, next_r = height // tiles, height % tiles, 0
                for tile in range(tiles):
                    if fetch is not NULL:
                        fetch_rows(fetch, <const real *>job.x, job.order, layer.inputs)
                    r = next_r
                    next_r += low + (tile < taller)
                    at = layer.weights + o * layer.height + (i + r) * min(panel, vecs * vector)
                    if x is NULL:
                        gradient_tile(arena + at, state + at, step, next_r - r, vecs, u + i * plan.room + r, g, room,
                                      rows, &own)
                    else:
                        gradient_tile_of_rows(arena + at, state + at, step, next_r - r, vecs, x, i + r, g, room,
                                              rows, &own)
                if i == 0:
                    for each in range(p, p + tile_panels(vecs)):
                        bias_tiles(arena, plan, layer, each, rows, state, &bias_rule)
            p += tile_panels(vecs)


cdef void update_share(real *arena, const Plan *plan, const fnn_rule *rule, const Job *job, int thread) noexcept nogil:
    """Eq. 8 and 9 for this thread's share of the parameters, from the gradient of several chunks, or of two halves."""
    cdef Py_ssize_t vector = plan.lanes, panel = 2 * vector, l, i, o, unit, units, width, height, at, inner_panels
    cdef const Layer *layer
    cdef fnn_rule own, bias_rule
    cdef real *state = arena + (plan.state if job.train else plan.gradient)
    cdef real *gradient = arena + plan.gradient + plan.halves * plan.n_padded
    for l in range(plan.n_layers):
        layer = &plan.layers[l]
        own = rule_of(rule, layer)
        bias_rule = bias_rule_of(rule, layer)
        inner_panels = pieces(layer.inputs, panel)
        units = inner_panels * pieces(layer.outputs, panel)
        for unit in range(units * thread // job.threads, units * (thread + 1) // job.threads):
            i, o = unit % inner_panels * panel, unit // inner_panels * panel
            width = vector * vectors(layer.outputs - o, vector)
            height = min(panel, layer.inputs - i)
            at = layer.weights + o * layer.height + i * width
            if job.alpha:
                job.squares[layer.units + unit] = sum_of_squares(
                    arena + at, height, min(panel, layer.outputs - o))
            if unit + 1 < units * (thread + 1) // job.threads:  # the next, before the other threads' copies are called in
                fetch_to_update(arena + at + height * width, height * width)
            update_values(arena + at, state + at, gradient + at, height * width, &own)
            if unit % inner_panels == 0:
                at += layer.inputs * width
                update_values(arena + at, state + at, gradient + at, (layer.height - layer.inputs) * width, &bias_rule)


cdef double penalty(const Plan *plan, const Job *job) noexcept nogil:
    """Eq. 7a: alpha / 2 times the sum of the squared weights of before the batch's update."""
    cdef const Layer *last = &plan.layers[plan.n_layers - 1]
    cdef Py_ssize_t unit, panel = 2 * plan.lanes
    cdef double total = 0
    for unit in range(last.units + pieces(last.inputs, panel) * pieces(last.outputs, panel)):
        total += job.squares[unit]
    return job.alpha / 2 * total


# ---- Steps and epochs --------------------------------------------------------------------------------------------

include "_backprop_clock.pxi"
include "_backprop_stages.pxi"
include "_backprop_minibatch.pxi"
include "_backprop_groups.pxi"
include "_backprop_online.pxi"
include "_backprop_predict.pxi"


# ---- The functions of _backprop_numpy.py, in its order -----------------------------------------------------------

cdef void _activate(real[::1] out, real[::1] z, Py_ssize_t width, int code, double slope):
    cdef Py_ssize_t r, vector = lanes(&z[0]), n = z.shape[0]
    cdef real[::1] row
    if code != FNN_SOFTMAX:
        activate_values(&out[0], &z[0], n, code, slope)
        return
    if go_together(width, vector):
        for r in range(pieces(n, width * vector)):
            activate_rows(&out[r * width * vector], &z[r * width * vector], width, 2 * vector,
                          min(vector, n // width - r * vector), width, code, slope)
        return
    row = np.empty(padded(width, vector), np.asarray(z).dtype)
    for r in range(0, n, width):
        row[:width] = z[r:r + width]
        row[width:] = -INFINITY
        softmax_row(&row[0], row.shape[0])
        out[r:r + width] = row[:width]


def activate(z, activation):
    """Eq. 2: v = phi(z), shape (B, O) in, a new array (B, O) out."""
    source = np.ascontiguousarray(z)
    out = np.empty_like(source)
    if source.dtype == np.float32:
        _activate[float](out.reshape(-1), source.reshape(-1), z.shape[-1], activation.code, activation.slope)
    else:
        _activate[double](out.reshape(-1), source.reshape(-1), z.shape[-1], activation.code, activation.slope)
    return out


cdef void _derivative_factor(real[::1] out, real[::1] v, int code, double slope):
    factor_values(&out[0], &out[0], &v[0], v.shape[0], code, slope)


def derivative_factor(v, activation):
    """Eq. 3: phi'(z) written with the activation v = phi(z), shape (B, O) in and out."""
    source = np.ascontiguousarray(v)
    out = np.ones_like(source)
    if source.dtype == np.float32:
        _derivative_factor[float](out.reshape(-1), source.reshape(-1), activation.code, activation.slope)
    else:
        _derivative_factor[double](out.reshape(-1), source.reshape(-1), activation.code, activation.slope)
    return out


def forward(layout, parameters, x, bends=None, draw=None):
    """Eq. 1 and 2 for every layer: [x, v_1, ..., v_(L-1), z_L].

    The last entry is the output layer's pre-activation, from which both the output and the loss are computed; of a
    corner it is v_L.  `bends` (L entries) takes the z of layers with a corner.  With `draw` x, v_1, ... are what
    dropout leaves of them.
    """
    cdef Workspace work = Workspace(layout, parameters.dtype, len(x), 0, 1, halves=False)
    cdef Draw drawn
    drawn.number, first_row = (0, 0) if draw is None else draw
    work.load(parameters, INFINITY)
    work.drop(draw is not None)
    layers = [np.array(x, order="C")] + [np.empty((len(x), width), parameters.dtype) for width in layout.sizes[1:]]
    bent = [l for l in range(layout.n_layers) if layout.bends[l] and bends is not None]
    for l in bent:
        bends[l] = np.empty_like(layers[l + 1])
    for start in range(0, len(x), work.plan.rows):
        rows = slice(start, start + work.plan.rows)
        drawn.first_row = first_row + start
        work.put("u", 0, layers[0][rows])
        work.forward(len(layers[0][rows]), drawn)
        work.take("u", 0, layers[0][rows])
        for l in range(layout.n_layers):
            work.take("v", l, layers[l + 1][rows])
        for l in bent:
            work.take("bend", l, bends[l][rows])
    return layers


cdef void _output_delta(Workspace work, real[:, ::1] z, const real[:, ::1] y, const Py_ssize_t[::1] labels,
                        real[:, ::1] g, double[::1] row_losses, int loss, double scale, double ceiling):
    cdef Py_ssize_t r, group, n = z.shape[1], vector = lanes(&z[0, 0])
    cdef real[:, ::1] padded_row = np.zeros((3, padded(n, vector)), np.asarray(z).dtype)
    cdef const Layer *layer = &work.plan.layers[0]
    cdef const Py_ssize_t[::1] order = np.arange(z.shape[0])
    if go_together(n, vector) and z.shape[0] > 1:
        for group in range(pieces(z.shape[0], vector)):
            r = group * vector
            output_rows(&g[r, 0], &row_losses[r], &z[r, 0], n, 2 * vector, NULL if y is None else &y[0, 0],
                        NULL if labels is None else &labels[0], &order[r], NULL, min(vector, z.shape[0] - r), n, loss,
                        layer.code, layer.slope, scale, ceiling)
        return
    for r in range(z.shape[0]):
        padded_row[0, :n] = z[r]
        row_losses[r] = output_row(
            &padded_row[1, 0], &padded_row[0, 0], NULL if y is None else &y[r, 0], -1 if y is not None else labels[r],
            &padded_row[2, 0], n, loss, &work.plan.layers[work.plan.n_layers - 1], scale, ceiling)
        g[r] = padded_row[1, :n]


def output_delta(z, y, loss, activation, scale):
    """Eq. 4: the loss of every row (B,) in float64, and g = scale * dloss/dz (B, O).

    `y` has shape (B, O), or (B,) of integers for cross_entropy with class labels.  Of a corner z is v_L and g the slope
    by it.
    """
    work = Workspace(Layout((1, z.shape[1]), (activation,)), z.dtype, 1, 0, 1)
    z = np.ascontiguousarray(z)
    g = np.empty_like(z)
    row_losses = np.empty(len(z))
    rows, labels = (None, y) if y.ndim == 1 else (np.ascontiguousarray(y), None)
    if z.dtype == np.float32:
        _output_delta[float](work, z, rows, labels, g, row_losses, loss.code, scale, loss.ceiling)
    else:
        _output_delta[double](work, z, rows, labels, g, row_losses, loss.code, scale, loss.ceiling)
    return row_losses, g


def backward(layout, parameters, layers, g, bends=None, dropping=False):
    """Eq. 5 and 6: [g_1, ..., g_L], each (B, O), from the output layer's g (B, O) and the weights before the update.

    `bends`: what `forward` has put there; it takes the rows' shares in the gradient of the corners.  `dropping`: the
    layers are what dropout has left of them.
    """
    cdef Workspace work = Workspace(layout, parameters.dtype, len(g), 0, 1, halves=False)
    work.load(parameters, INFINITY)
    work.drop(dropping)
    deltas = [np.empty((len(g), width), parameters.dtype) for width in layout.sizes[1:-1]] + [np.array(g, order="C")]
    bent = [l for l in range(layout.n_layers) if layout.bends[l]]
    shares = {l: np.empty((3, *deltas[l].shape), parameters.dtype) for l in bent}
    for start in range(0, len(g), work.plan.rows):
        rows = slice(start, start + work.plan.rows)
        work.put("g", layout.n_layers - 1, deltas[-1][rows])
        work.put_layers(layers, rows)
        for l in bent:
            work.put("bend", l, bends[l][rows])
        work.backward(len(deltas[-1][rows]))
        for l in range(layout.n_layers):
            work.take("g", l, deltas[l][rows])
        for l in bent:
            for k in range(3):
                work.take("bend", l, shares[l][k, rows], k)
    for l in bent:
        bends[l] = shares[l]
    return deltas


def gradient(layout, layers, deltas, out, bends=None):
    """Eq. 7: the gradient (P,), every weight's `sum_b u[b, i] g[b, o]` and every bias's `sum_b g[b, o]`, in `out`.

    `bends`: what `backward` has put there, which is added up for the corners.
    """
    cdef Workspace work = Workspace(layout, out.dtype, len(layers[0]), 0, 1, keep_gradient=True, halves=False)
    for start in range(0, len(layers[0]), work.plan.rows):
        rows = slice(start, start + work.plan.rows)
        work.put_layers(layers, rows)
        for l in range(layout.n_layers):
            work.put("g", l, deltas[l][rows])
            if layout.bends[l]:
                for k in range(3):
                    work.put("bend", l, bends[l][k, rows], k)
        work.add_gradient(len(layers[0][rows]), start == 0)
    work.store_gradient(out)
    return out


cdef fnn_rule c_rule(rule, Py_ssize_t second):
    cdef fnn_rule made
    made.rate, made.momentum, made.saturation = rule.rate, rule.momentum, rule.saturation
    made.beta_2, made.epsilon, made.decay = rule.beta_2, rule.epsilon, 0
    made.second, made.carried = second, 0
    made.kind = FNN_PLAIN if not rule.momentum else FNN_NESTEROV if rule.nesterov else FNN_MOMENTUM
    made.floor, made.brakes, made.fixed_nu = rule.floor, rule.fast_brake, rule.fixed_nu
    if rule.adam:
        made.kind = FNN_ADAM
    if rule.fista:
        made.kind = FNN_FISTA
    return made


cdef void _saturated_update(real[::1] parameters, real[::1] state, const real[::1] gradient, const fnn_rule *rule):
    update_values(&parameters[0], &state[0], &gradient[0], parameters.shape[0], rule)


def saturated_update(parameters, state, gradient, rule):
    """Eq. 8 and 9: the saturated update.  Turns `gradient` (P,) into the new parameters and returns it.

    `state` changes in place: the velocity (P,), Adam's two moments (2 P,), FISTA's moves (P,) with the last gradient
    (P,) for the brake, or empty.
    """
    cdef fnn_rule made
    n = len(parameters)
    block = np.zeros((4, padded(n, 16)), parameters.dtype)  # padded to whole vectors of any build
    states = block[2:2 + len(state) // n, :n]
    block[0, :n], block[1, :n], states[...] = parameters, gradient, state.reshape(-1, n)
    made = c_rule(rule, block.shape[1])
    if block.dtype == np.float32:
        _saturated_update[float](block[0], block[2:].reshape(-1), block[1], &made)
    else:
        _saturated_update[double](block[0], block[2:].reshape(-1), block[1], &made)
    state.reshape(-1, n)[...] = states
    gradient[:] = block[0, :n]
    return gradient


cdef bint _is_finite(const real[:, ::1] values):
    return all_finite(&values[0, 0], values.shape[0] * values.shape[1])


def is_finite(values):
    """Whether no number of a C-contiguous array (N, I) is NaN or infinite."""
    return _is_finite[float](values) if values.dtype == np.float32 else _is_finite[double](values)


include "_backprop_workspace.pxi"
include "_backprop_epoch.pxi"


cdef void _predict_few(real[:, ::1] out, const real[::1] parameters, const real[:, ::1] x, const double[:, ::1] layers,
                       real[::1] scratch):
    predict_few(&out[0, 0], &parameters[0], &x[0, 0], x.shape[0], &layers[0, 0], layers.shape[0], &scratch[0],
                scratch.shape[0] // 2)


cdef Epoch prediction(layout, parameters, x, y, loss, out, threads):
    """The epoch that puts the outputs for the rows of x (N, I) into `out` (N, O)."""
    flat = parameters if layout.is_plain and len(x) <= MOST_PACKED_LATE else None
    work = Workspace(layout, parameters.dtype, min(len(x), CHUNK_ROWS), 0, threads, halves=False, flat=flat)
    work.by_columns = [False] * layout.n_layers  # each thread its own rows: nobody waits for anybody
    if flat is None:
        work.load(parameters, INFINITY)
    epoch = new_epoch(work, x, y, np.arange(len(x)), loss, 1.0, False, False, None)
    if epoch.work.single:
        _point[float](&epoch.job, x, None, out)
    else:
        _point[double](&epoch.job, x, None, out)
    epoch.predicts = True
    epoch.job.threads = min(epoch.job.threads, epoch.work.plan.rows)  # each has rows: the first sees signals
    epoch.go_alone_if_short()
    return epoch


def predict(layout, parameters, x, threads):
    """The outputs (N, O) for the rows of x (N, I): the same bits for a row whatever others are predicted with it."""
    cdef Py_ssize_t n = len(x)
    sizes = layout.sizes
    out = np.empty((n, sizes[-1]), parameters.dtype)
    if layout.is_plain and (n == 1 or n * <double>layout.operations < FEW_OPERATIONS * 4 / parameters.itemsize):
        scratch = np.empty(2 * (layout.widest + 16), parameters.dtype)
        if parameters.dtype == np.float32:
            _predict_few[float](out, parameters, x, layout.table, scratch)
        else:
            _predict_few[double](out, parameters, x, layout.table, scratch)
        return out
    prediction(layout, parameters, x, out, LOSSES["squared_error"], out, threads).run()
    return out


def evaluate(layout, parameters, x, y, loss, threads):
    """The loss of every row (N,) in float64, and the outputs (N, O), for the rows of x (N, I).

    y (N, O) or (N,) class labels.
    """
    cdef double[::1] row_losses = np.empty(len(x))
    cdef Epoch epoch
    out = np.empty((len(x), layout.sizes[-1]), parameters.dtype)
    epoch = prediction(layout, parameters, x, y, loss, out, threads)
    epoch.job.evaluates, epoch.job.row_losses = True, &row_losses[0]
    epoch.run()
    return np.asarray(row_losses), out


def loss_and_gradient(layout, parameters, x, y, loss, scale, threads, weights=None):
    """The rows' summed loss times `scale`, and its gradient (P,).

    x (N, I), y (N, O) or (N,) class labels; `weights` (N,) that the rows count with, each 1 without them.
    """
    cdef Epoch epoch
    work = Workspace(layout, parameters.dtype, len(x), 0, threads, keep_gradient=True)
    work.load(parameters, INFINITY)
    out = np.empty_like(parameters)
    epoch = new_epoch(work, x, y, np.arange(len(x)), loss, scale, False, False, None, weights)
    epoch.go_alone_if_short()
    total = epoch.run()
    work.store_gradient(out)
    return scale * total, out


def train_epoch(Workspace work, x, y, order, loss, rule, mean, tick, weights=None, through_updated=False):
    """Train once on the rows `order` of x and y, batch after batch, and return the sum of the batches' losses.

    A batch's loss is that before its update, `rule`'s penalty included.  It is the sum over its rows, each as often as
    `weights` (N,) says; with `mean` the batch steps along their weighted mean, which counts once for every row in the
    returned sum.  A batch whose weights add up to zero stands still.  `through_updated`: eq. 21 to 23, for batches of
    one row and plain SGD without a penalty.  `tick(rows_done)` is called every 0.02 s; what it raises, and Ctrl-C, ends
    the epoch with the working parameters as of a completed update.
    """
    cdef Epoch epoch = new_epoch(work, x, y, order, loss, 1.0, mean, True, tick, weights)
    epoch.job.rule, epoch.job.updates = c_rule(rule, work.plan.n_padded), work.updates
    epoch.job.mask_seed = work.mask_seed
    work.drop(not through_updated)
    if rule.fista:
        epoch.job.t = fista_t(work.updates)
    # A penalty moves all weights at every row, and a floor may.
    epoch.online = work.online and not rule.alpha and not rule.floor
    epoch.job.through_updated = through_updated
    if rule.alpha:
        epoch.penalise(rule.alpha)
    if through_updated and not epoch.online:
        epoch.job.threads = 1
    for l in range(work.plan.n_layers):
        work.plan.layers[l].rate = rule.rate * work.plan.layers[l].rate_scale
    try:
        total = epoch.run()
    finally:  # after Ctrl-C too
        work.updates, work.penalties = epoch.job.updates, epoch.job.penalties
        if work.online and not epoch.online:
            work.refresh_transposed()
    return total + work.penalties
