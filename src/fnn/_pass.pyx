# cython: language_level=3, boundscheck=False, initializedcheck=False, cdivision=True
# cython: freethreading_compatible=True, binding=True, embedsignature=True
"""The passes of the C++ class FloatNeuralNet, compiled.  `_pass_numpy.py` holds the same functions in the same order.

A. Built once per instruction set, without contraction into fused multiply-adds: every operation is rounded by itself
   and every sum taken in the class's own order, so that these results too are the class's, bit for bit.  Where the
   order leaves room for vectors, over neurons and over inputs, `_pass.h` holds the loops.
B. Here are the way of samples through the levels, forward and backward, and the functions that are called; every other
   idea has its own `.pxi` file, included as text.  The parameters are worked on where they lie, in the arrays of
   `_pass_state.State`; a `Bound` points at them.
C. A zero input changes no sum, and no weight that is settled: inside the limit, outside the floor, not -0.  A ReLU that
   is off lets nothing through.  `Net.quick` says that both hold and that no product can leave float32, whose infinity
   times zero would be NaN; then such inputs are left out.  Else the class's operations are done to the letter.
D. The next sample is known: its raw values of the first level are summed while this sample's step goes through the same
   weights (`Net.ahead`), which saves one walk of two over the largest matrix.
E. While the weights stay as they are (a rate of 0), SEATS samples go through a level together.  A wide level's total
   gradient takes the samples in such groups also when they have moved the weights one by one: what it adds is known by
   then.  A narrow one's waits for nothing: its sums are done while others are still to come.
F. A vector of a wide level's total holds neurons, and inputs that are zero are left out; or the total is turned round
   for the time, its vectors hold inputs, and neurons that are off are left out, where those are more.

docs/float-neural-net.md describes the arithmetic; shape letters: N samples, I neurons of the level below, O of the
level.
"""

import numpy as np

from fnn._pass_state import LINE

from cpython.exc cimport PyErr_CheckSignals
from libc.math cimport NAN, fabs, fabsf, sqrt
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

include "_pass_kernels.pxi"
include "_pass_tables.pxi"
include "_pass_bound.pxi"


# ---- One sample, or several with the same weights -----------------------------------------------------------------

cdef inline float limited(float new, float old, const pass_step *step, bint *hit) noexcept nogil:
    """The limiter: `new` inside the saturation limit, where asked for outside the floor; and whether it was hit."""
    hit[0] = True
    if new > step.limit:
        return step.limit
    if new < -step.limit:
        return -step.limit
    if step.has_floor:  # a weight stops at the floor first; one that stands on it is thrown to the other side of zero
        if old > 0 and new < step.floor:
            return step.floor if old > step.floor else -step.floor
        if old <= 0 and new > -step.floor:
            return -step.floor if old < -step.floor else step.floor
    hit[0] = False
    return new


include "_pass_activations.pxi"


cdef inline Py_ssize_t pieces(Py_ssize_t total, Py_ssize_t size) noexcept nogil:
    """How many pieces of at most `size` make up a total."""
    return (total + size - 1) // size


cdef void raw_values(Net *net, Py_ssize_t l, Py_ssize_t first, Py_ssize_t n) noexcept nogil:
    """The raw values of a level for the n samples from seat `first` on."""
    cdef Level *level = &net.seats[first * net.n_levels + l]
    cdef const float *weights = net.weights + level.weights
    cdef Py_ssize_t s, start = 0, end, count, near, rows = level.inputs + 1
    for s in range(first, first + n):
        level = &net.seats[s * net.n_levels + l]
        level.done = 0
        memset(level.z, 0, <size_t>level.outputs * sizeof(float))
    level = &net.seats[first * net.n_levels + l]
    if n == 1:
        pass_forward(level.z, level.vecs, weights, level.stride, level.u, level.index, level.count)
        return
    if level.vecs <= PASS_NARROW:
        count = pass_forward_tiles(level.z, level.vecs, weights, level.stride, level.u, net.room, rows, n)
        first += count
        n -= count
    near = max(1, NEAR // level.stride)  # some rows after the other, for all samples
    while start < rows and n > 0:
        end = min(start + near, rows)
        for s in range(first, first + n):
            level = &net.seats[s * net.n_levels + l]
            count = pass_before(level.index + level.done, level.count - level.done, end)
            pass_forward(
                level.z, level.vecs, weights, level.stride, level.u, level.index + level.done, count)
            level.done += count
        start = end


cdef void forward(Net *net, Py_ssize_t first, Py_ssize_t n, const float *rows) noexcept nogil:
    """Raw values and outputs of every level for the n samples (n, I), which take the seats from `first` on."""
    cdef Level *level
    cdef Py_ssize_t s, l
    for l in range(net.n_levels):
        for s in range(first, first + n):
            level = &net.seats[s * net.n_levels + l]
            if l == 0:
                memcpy(level.u, rows + (s - first) * level.inputs, <size_t>level.inputs * sizeof(float))
            if l == 0 and net.ahead:  # `step` lists them some at a time
                level.index = level.listed
            elif net.quick and (l == 0 or net.kind == RELU) and (n == 1 or level.vecs > PASS_NARROW):
                level.index, level.count = level.listed, list_nonzero_f32(level.listed, level.u, level.inputs + 1)
            else:
                level.index, level.count = net.all, level.inputs + 1
        if l > 0 or not net.ahead:
            raw_values(net, l, first, n)
        for s in range(first, first + n):
            take_seat(net, s)
            level = &net.levels[l]
            activate(net, level)
            net.quick = net.quick and pass_tame(level.u, level.inputs + 1)


include "_pass_output.pxi"
include "_pass_corners.pxi"
include "_pass_step.pxi"


cdef void backward(Net *net, Py_ssize_t first, Py_ssize_t n) noexcept nogil:
    """Samples backward from the sensitivity of their outputs; a rate, which one sample alone has, makes its steps."""
    cdef Level *level
    cdef Py_ssize_t l, s, j
    for l in range(net.n_levels - 1, -1, -1):
        for s in range(first, first + n):
            level = &net.seats[s * net.n_levels + l]
            net.quick = net.quick and pass_tame(level.sigma, level.outputs)
        for s in range(first, first + n):
            take_seat(net, s)
            level = &net.levels[l]
            if not net.quick:
                level.index, level.count = net.all, level.inputs + 1
            level.factored = True
            if net.kind == CORNER:
                bend(net, level)
            elif l == net.n_levels - 1:
                level.factored = False
            else:
                derivatives(net, level)
                if net.kind == RELU and net.quick:  # times 0 or 1 now is the same as later
                    for j in range(level.outputs):
                        level.sigma[j] *= level.d[j]
                    level.factored = False
        level = &net.seats[first * net.n_levels + l]
        if l > 0 or net.settings.auto_rate:
            pass_sensitivity(level.below, net.weights + level.weights, level.stride, level.inputs, level.outputs,
                             level.sigma, level.d if level.factored else NULL, net.room, n)
        if net.step.rate != 0:
            step(net, l, first)
        for s in range(first, first + n):
            level = &net.seats[s * net.n_levels + l]
            if net.kind == CORNER:
                bend_bias(net, level)
            if net.settings.auto_rate and l == net.n_levels - 1:
                for j in range(level.inputs):
                    net.input_sums[j] += level.u[j]
                    net.input_sums[level.inputs + j] += level.below[j]


include "_pass_total.pxi"


# ---- Many samples ------------------------------------------------------------------------------------------------

cdef bint interrupted(Net *net, Py_ssize_t samples) except True nogil:
    """Count the weights looked at; raise what Python makes of a signal."""
    net.weights_looked_at += <double>net.n_weights * samples
    if net.weights_looked_at > WEIGHTS_BETWEEN_SIGNALS:
        net.weights_looked_at = 0
        with gil:
            PyErr_CheckSignals()
    return False


def compute(state, const float[:, ::1] inputs):
    """Outputs (N, O) for inputs (N, I), and of each sample the index of the highest, the first one on a tie."""
    cdef Bound bound = Bound(state, 1)  # with scratch of its own: several threads may compute at once
    cdef Net *net = &bound.net
    cdef const Level *level = &net.levels[net.n_levels - 1]
    cdef Py_ssize_t n
    outputs = np.empty((inputs.shape[0], level.outputs), np.float32)
    cdef float[:, ::1] rows = outputs
    with nogil:
        for n in range(inputs.shape[0]):
            forward(net, 0, 1, &inputs[n, 0])
            memcpy(&rows[n, 0], level.out, <size_t>level.outputs * sizeof(float))
            interrupted(net, 1)
    return outputs, outputs.argmax(axis=1)


cdef bint train_samples(Net *net, const float[:, ::1] inputs, const float[:, ::1] targets, float rate,
                        const uint32_t[::1] counts, float[::1] effective_counts) except True nogil:
    cdef Py_ssize_t n = 0, s, here, samples = inputs.shape[0]
    cdef uint32_t count
    cdef float scale, judged
    cdef bint effective = effective_counts is not None
    net.step.rate = rate
    net.waiting = 0
    net.ahead = False
    for s in range(net.n_levels):
        net.seats[s].is_turned = False
    net.quick = pass_tame(net.weights, net.n_weights)
    if rate != 0:
        net.quick = net.quick and pass_settled(net.weights, net.n_weights, &net.step)
    while n < samples:
        here = 1 if rate != 0 else min(<Py_ssize_t>SEATS, samples - n)
        forward(net, net.waiting, here, &inputs[n, 0])
        for s in range(here):
            take_seat(net, net.waiting + s)
            count = counts[n + s]
            scale = effective_counts[n + s] if effective else <float>count
            if net.settings.is_classifier:
                judged = judge(net, &targets[n + s, 0], count, scale)
                if effective:
                    scale = effective_counts[n + s] = judged
            output_errors(net, &targets[n + s, 0], count, scale)
        net.has_next = rate != 0 and n + 1 < samples
        if net.has_next:
            memcpy(net.next, &inputs[n + 1, 0], <size_t>inputs.shape[1] * sizeof(float))
        backward(net, net.waiting, here)
        n += here
        if waits(net):
            net.waiting += here
            if net.waiting < SEATS and n < samples:
                continue
            here = net.waiting
            add_gradients(net, samples - n)
        interrupted(net, here)
    return False


def train(state, const float[:, ::1] inputs, const float[:, ::1] targets, float rate, const uint32_t[::1] counts,
          float[::1] effective_counts):
    """Samples (N, I), (N, O) in order, with their counts (N,) and effective counts (N,), which may change."""
    cdef Bound bound = bound_to(state)
    with nogil:
        train_samples(&bound.net, inputs, targets, rate, counts, effective_counts)


# ---- The bounds of a pass ----------------------------------------------------------------------------------------

cdef void clear(float *values, Py_ssize_t n) noexcept nogil:
    if values is not NULL:
        memset(values, 0, <size_t>n * sizeof(float))


cdef void keep_floats(float *to, const float *frm, Py_ssize_t n) noexcept nogil:
    if n:
        memcpy(to, frm, <size_t>n * sizeof(float))


include "_pass_start_end.pxi"


def start_pass(state):
    """Zero what a pass adds up; then momentum moves every parameter."""
    start(&bound_to(state).net)


def end_pass(state):
    """Compute the norms of the gradient and count the pass."""
    end(&bound_to(state).net)


include "_pass_auto_rate.pxi"
include "_pass_auto_rate2.pxi"
include "_pass_apply.pxi"


def apply_gradient(state, float rate):
    """Move the parameters by the pass's gradient; True if auto_rate has undone the last such move instead."""
    return apply(&bound_to(state).net, rate)


include "_pass_reclaim.pxi"


def reclaim(state, int64_t max_unused):
    """Turn round the neurons that at most `max_unused` samples of the pass have used; how many those were."""
    return turn_round(&bound_to(state).net, max_unused)


def train_pass(state, const float[:, ::1] inputs, const float[:, ::1] targets, float rate, const uint32_t[::1] counts,
               float[::1] effective_counts, float apply_rate, max_unused):
    """A whole pass: start, every sample, end, apply unless its rate is 0, reclaim unless None: (undone, reclaimed)."""
    cdef Bound bound = bound_to(state)
    cdef Net *net = &bound.net
    cdef bint undone = False, reclaims = max_unused is not None
    cdef Py_ssize_t reclaimed = 0
    cdef int64_t most = max_unused if reclaims else 0
    with nogil:
        start(net)
        train_samples(net, inputs, targets, rate, counts, effective_counts)
        end(net)
        if apply_rate != 0:
            undone = apply(net, apply_rate)
        if reclaims:
            reclaimed = turn_round(net, most)
    return undone, reclaimed
