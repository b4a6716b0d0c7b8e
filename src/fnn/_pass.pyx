# cython: language_level=3, boundscheck=False, initializedcheck=False, cdivision=True
# cython: freethreading_compatible=True, binding=True, embedsignature=True
"""The passes of the C++ class FloatNeuralNet, compiled.  `_pass_numpy.py` holds the same functions in the same order.

A. Built once per instruction set, without contraction into fused multiply-adds: every operation is rounded by itself
   and every sum taken in the class's own order, so that these results too are the class's, bit for bit.  Where the order
   leaves room for vectors, over neurons and over inputs, `_pass.h` holds the loops.
B. The parameters are worked on where they lie, in the arrays of `_pass_state.State`; a `Bound` points at them.
C. A zero input changes no sum, and no weight that is settled: inside the limit, outside the floor, not -0.  A ReLU that
   is off lets nothing through.  `Net.quick` says that both hold and that no product can leave float32, whose infinity
   times zero would be NaN; then such inputs are left out.  Else the class's operations are done to the letter.
D. The next sample is known: its raw values of the first level are summed while this sample's step goes through the same
   weights (`looks_ahead`), which saves one walk of two over the largest matrix.
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

cdef extern from "_pass.h" nogil:
    const int PASS_LANES
    const int PASS_NARROW
    ctypedef struct pass_step:
        float rate, limit, floor
        bint has_floor
    bint pass_tame(const float *v, Py_ssize_t n)
    bint pass_settled(const float *w, Py_ssize_t n, const pass_step *step)
    void pass_forward(float *z, Py_ssize_t vecs, const float *w, Py_ssize_t stride, const float *u,
                      const int32_t *index, Py_ssize_t count)
    Py_ssize_t pass_forward_tiles(float *z, int vecs, const float *w, Py_ssize_t stride, const float *u,
                                  Py_ssize_t room, Py_ssize_t rows, Py_ssize_t samples)
    void pass_sensitivity(float *s, const float *w, Py_ssize_t stride, Py_ssize_t inputs, Py_ssize_t outputs,
                          const float *sigma, const float *d, Py_ssize_t room, Py_ssize_t samples)
    void pass_add(float *total, Py_ssize_t vecs, const float *g)
    Py_ssize_t pass_mark(uint32_t *who, uint32_t bit, const float *u, Py_ssize_t n)
    void pass_add_marked(float *total, Py_ssize_t stride, Py_ssize_t vecs, Py_ssize_t rows, const float *u,
                         const uint32_t *who, const float *sigma, const float *d, Py_ssize_t room)
    void pass_turn(float *to, Py_ssize_t to_stride, const float *of, Py_ssize_t stride, Py_ssize_t rows,
                   Py_ssize_t columns)
    void pass_add_tiles(float *total, Py_ssize_t stride, int vecs, Py_ssize_t rows, const float *u,
                        const float *sigma, const float *d, Py_ssize_t room, Py_ssize_t samples)
    Py_ssize_t pass_before(const int32_t *index, Py_ssize_t count, Py_ssize_t end)
    void pass_steps(float *w, float *total, Py_ssize_t stride, int vecs, const float *u, const int32_t *index,
                    Py_ssize_t count, const float *sigma, const float *d, const pass_step *step, const float *next,
                    float *z)
    Py_ssize_t pass_list_either(int32_t *index, const float *u, const float *next, float *sizes, Py_ssize_t n)
    Py_ssize_t list_nonzero_f32(int32_t *index, const float *u, Py_ssize_t n)

cdef enum:  # as in _pass_state.py
    RELU
    LEAKY_RELU
    CORNER

cdef enum:
    NONE = -1  # the class of outputs that share their maximum
    SEATS = 32  # samples at once
    MANY = 128  # samples to come that are worth turning a total gradient
    NEAR = 6144  # weights that stay in the first-level cache while a group of samples meets them

cdef double WEIGHTS_BETWEEN_SIGNALS = 1e7  # looked at in about 10 ms

cdef packed struct Settings:
    float training_rate_scale, weight_saturation, weight_floor, relu_leakiness, effective_decrease_rate, tweak_rate
    int64_t max_multiplier, min_pass_effective_adj
    uint8_t total_gradient, auto_rate, auto_rate2, scale_rate_per_layer, enable_weight_floor, is_classifier
    uint8_t momentum, momentum_fast_brake, momentum_fixed_nu

cdef packed struct Tally:
    int64_t training_pass, correct, incorrect, above, not_above
    double abs_sum, squared_sum, effective_squared_sum, momentum_t
    uint32_t cases, error_cases
    float effective_cases, effective_error_cases, training_rate, auto_rate2_adj
    uint8_t has_last, has_saved, redo, after_redo, to_apply

cdef struct Level:  # one that has weights; all of its scratch is padded with zeros to whole cache lines
    Py_ssize_t inputs, outputs, stride  # I, O
    int vecs
    Py_ssize_t weights, corners, usage  # where its own start
    float *u  # what comes in (I + 1), 1 for the bias as the last
    float *z  # raw values (O)
    float *out  # outputs (O): the next level's u
    float *sigma  # sensitivity of the outputs (O)
    float *d  # derivatives (O)
    float *below  # sensitivity of the inputs (I)
    int32_t *listed  # room for the inputs that are not zero, and the bias
    const int32_t *index  # the inputs to visit: the listed ones or all, and the bias
    Py_ssize_t count
    Py_ssize_t done  # how many of those have been visited
    bint factored  # whether the gradient is u sigma d; else d is in sigma already, or 1
    float *turned  # in the first seat, of a wide level: room for its total gradient turned round, (O, I + 1)
    Py_ssize_t turned_stride
    bint is_turned  # whether the total is there at present

cdef struct Net:
    Settings *settings
    Tally *tally
    Level *seats  # a table of levels for each sample at once; they differ in their scratch
    Level *levels  # of the sample at hand
    Py_ssize_t room  # from the scratch of a sample to that of the next
    Py_ssize_t waiting  # samples whose gradients have not been added to the total
    bint has_wide  # a level whose total gradient waits for a group
    Py_ssize_t n_levels, n_weights, n_corners, n_usage  # levels with weights; numbers in the arrays, padding included
    Py_ssize_t n_inputs, n_last, n_corners_last  # of the last level: inputs, weights, corners
    int kind
    bint quick
    pass_step step
    float *weights
    float *corners
    float *gradient  # NULL, as the arrays below, where there is none
    float *corner_gradient
    float *last
    float *corner_last
    float *momentum
    float *corner_momentum
    float *input_sums  # two rows (n_inputs): inputs, and what comes back to them
    float *saved_input_sums
    float *saved_weights
    float *saved_corners
    float *saved_gradient
    float *saved_corner_gradient
    uint32_t *usage
    double *norms
    const int32_t *all  # 0, 1, 2, ...
    float *next  # the next sample's inputs, and 1 for the bias
    float *sizes  # room for as many numbers
    int32_t *listed  # room to list one sample's inputs
    int32_t *both  # and two samples'
    uint32_t *with_input  # which of the samples at once have an input that is not zero, as bits; for every input
    uint32_t *with_sigma  # and which a sensitivity; for every neuron
    bint has_next
    bint ahead  # the first level's raw values are those of the next sample already
    double weights_looked_at  # since the last look at signals


cdef float *floats(array, list keep) except? NULL:
    """Where an array starts, NULL if it is empty; `keep` keeps it alive."""
    cdef float[::1] view = array.reshape(-1)
    keep.append(array)
    return &view[0] if view.shape[0] else NULL


cdef class Bound:
    """What a call works with: pointers into a State, and scratch for some samples."""

    cdef Net net
    cdef list keep

    def __cinit__(self, state, Py_ssize_t seats):
        cdef Net *net = &self.net
        cdef Settings[::1] settings = state.settings
        cdef Tally[::1] tally = state.tally
        cdef uint32_t[::1] usage = state.usage
        cdef double[::1] norms = state.norms
        keep = self.keep = [state.settings, state.tally, state.usage, state.norms]
        net.settings, net.tally, net.usage, net.norms = &settings[0], &tally[0], &usage[0], &norms[0]
        net.kind, net.n_usage = state.kind, usage.shape[0]
        net.n_weights, net.n_corners = len(state.weights), len(state.corners)
        net.weights, net.corners = floats(state.weights, keep), floats(state.corners, keep)
        net.gradient, net.corner_gradient = floats(state.gradient, keep), floats(state.corner_gradient, keep)
        net.last, net.corner_last = floats(state.last, keep), floats(state.corner_last, keep)
        net.momentum, net.corner_momentum = floats(state.momentum, keep), floats(state.corner_momentum, keep)
        net.input_sums, net.saved_input_sums = floats(state.input_sums, keep), floats(state.saved_input_sums, keep)
        net.saved_weights, net.saved_corners = floats(state.saved_weights, keep), floats(state.saved_corners, keep)
        net.saved_gradient = floats(state.saved_gradient, keep)
        net.saved_corner_gradient = floats(state.saved_corner_gradient, keep)
        net.step.limit, net.step.floor = settings[0].weight_saturation, settings[0].weight_floor
        net.step.has_floor = settings[0].enable_weight_floor
        self._lay_out(state.levels, seats)

    def _lay_out(self, levels, Py_ssize_t seats):
        """Fill the tables of levels and give each its scratch."""
        cdef Net *net = &self.net
        cdef Level *level
        cdef float *scratch
        cdef int32_t[::1] lists
        cdef uint32_t[::1] marks
        cdef Py_ssize_t s, l, room, usage
        cdef float *turned = NULL
        sizes = levels.sizes
        net.n_levels = len(sizes) - 1
        net.seats = net.levels = <Level *>calloc(<size_t>(seats * net.n_levels), sizeof(Level))
        if net.seats is NULL:
            raise MemoryError("no memory for the table of levels")
        padded = [-(-size // LINE) * LINE for size in sizes]
        wide = [(size // LINE + 1) * LINE for size in sizes]  # room for the bias's 1 as well
        net.room = sum(wide) + 3 * sum(padded) - 2 * padded[0]
        scratch = floats(np.zeros(seats * net.room + 2 * wide[0] + LINE, np.float32), self.keep)
        scratch += (-<uintptr_t>scratch) % 64 // sizeof(float)
        net.next, scratch = scratch, scratch + <Py_ssize_t>wide[0]
        net.sizes, scratch = scratch, scratch + <Py_ssize_t>wide[0]
        net.next[sizes[0]] = 1
        room = max(wide) + LINE  # a vector is stored where the last number goes
        lists = np.empty((seats * net.n_levels + 3) * room, np.int32)
        np.asarray(lists)[:room] = np.arange(room)
        marks = np.empty(2 * room, np.uint32)
        self.keep += [lists, marks]
        net.with_input, net.with_sigma = &marks[0], &marks[room]
        net.all, net.listed, net.both = &lists[0], &lists[room], &lists[2 * room]
        if net.gradient is not NULL and seats > 1:
            room_turned = sum(below * own for below, own in zip(wide, sizes[1:]))
            turned = floats(np.empty(room_turned + LINE, np.float32), self.keep)
            turned += (-<uintptr_t>turned) % 64 // sizeof(float)
        for s in range(seats):
            take_seat(net, s)
            usage = sizes[0]
            for l in range(net.n_levels):
                level = &net.levels[l]
                level.inputs, level.outputs, level.stride = sizes[l], sizes[l + 1], levels.strides[l]
                level.vecs = (level.outputs + PASS_LANES - 1) // PASS_LANES
                level.weights, level.corners, level.usage = levels.offsets[l], levels.corner_offsets[l], usage
                usage += level.outputs
                net.has_wide = net.has_wide or level.vecs > PASS_NARROW
                level.listed = &lists[(s * net.n_levels + l + 3) * room]
                level.u, scratch = scratch, scratch + <Py_ssize_t>wide[l]
                level.u[level.inputs] = 1
                if turned is not NULL and s == 0:
                    level.turned, level.turned_stride = turned, wide[l]
                    turned += level.turned_stride * level.outputs
                level.below, scratch = scratch, scratch + <Py_ssize_t>padded[l]
                level.z, scratch = scratch, scratch + <Py_ssize_t>padded[l + 1]
                level.d, scratch = scratch, scratch + <Py_ssize_t>padded[l + 1]
                if l > 0:
                    net.levels[l - 1].out, net.levels[l - 1].sigma = level.u, level.below
            level.out, scratch = scratch, scratch + <Py_ssize_t>wide[net.n_levels]
            level.sigma, scratch = scratch, scratch + <Py_ssize_t>padded[net.n_levels]
        take_seat(net, 0)
        level = &net.levels[net.n_levels - 1]
        net.n_inputs, net.n_corners_last = level.inputs, 3 * level.outputs if net.kind == CORNER else 0
        net.n_last = net.n_weights - level.weights

    def __dealloc__(self):
        free(self.net.seats)


cdef Bound bound_to(state):
    """The state's own Bound, made once; `make_room`, which alone gives a state other arrays, drops it."""
    if type(state.bound) is not Bound:
        state.bound = Bound(state, SEATS)
    return state.bound


# ---- One sample, or several with the same weights -----------------------------------------------------------------

cdef inline void take_seat(Net *net, Py_ssize_t s) noexcept nogil:
    """The sample at hand is now the one in seat s."""
    net.levels = net.seats + s * net.n_levels


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


cdef void activate(const Net *net, Level *level) noexcept nogil:
    """The outputs (O) of a level from its raw values (O)."""
    cdef Py_ssize_t j, n = level.outputs
    cdef const float *z = level.z
    cdef float *out = level.out
    cdef const float *corner = net.corners + level.corners
    cdef float leakiness = net.settings.relu_leakiness
    if net.kind == CORNER:
        for j in range(n):
            out[j] = (z[j] * corner[0] if z[j] < 0 else z[j] * corner[2] if z[j] > 0 else z[j]) + corner[1]
            corner += 3
    elif level == &net.levels[net.n_levels - 1]:
        memcpy(out, z, <size_t>n * sizeof(float))
    elif net.kind == RELU:
        for j in range(n):
            out[j] = 0 if z[j] < 0 else z[j]
    else:
        for j in range(n):
            out[j] = z[j] * leakiness if z[j] < 0 else z[j]


cdef inline bint waits(const Net *net) noexcept nogil:
    """Whether the samples at hand are to be added to the total gradient when there are enough of them."""
    return net.gradient is not NULL and (net.step.rate == 0 or net.has_wide)


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


cdef Py_ssize_t winner(const float *values, Py_ssize_t n) noexcept nogil:
    """Index of the strictly highest value, NONE if the maximum is shared, or with NaN."""
    cdef Py_ssize_t j, best = NONE, found = 0
    cdef float highest = values[0]
    cdef bint ordered = True
    for j in range(n):
        highest = values[j] if values[j] > highest else highest
        ordered = ordered & (values[j] == values[j])
    for j in range(n):
        best = j if values[j] == highest else best
        found += values[j] == highest
    return best if ordered and found == 1 else NONE


cdef float judge(Net *net, const float *targets, uint32_t count, float scale) noexcept nogil:
    """Count a sample as correct or not, and return its effective count after that; `scale` is the one before."""
    cdef const Level *level = &net.levels[net.n_levels - 1]
    cdef Tally *tally = net.tally
    cdef Py_ssize_t predicted = winner(level.out, level.outputs), expected = winner(targets, level.outputs)
    cdef float less
    if predicted == expected:
        tally.correct += count
        # Where all is shared, the class looks at what lies before its outputs, the last raw value.
        if (level.z[level.outputs - 1] if predicted == NONE else level.out[predicted]) > 0:
            tally.above += count
        else:
            tally.not_above += count
        if <double>scale > <double>count:
            less = scale - <float>count * net.settings.effective_decrease_rate
            return less if less > <float>count else <float>count
        return scale
    tally.incorrect += count
    tally.not_above += count
    if (<uint64_t>tally.training_pass > <uint64_t>net.settings.min_pass_effective_adj
            and <double>scale < <double>count * <double>net.settings.max_multiplier):
        return scale + <float>count
    return scale


cdef void output_errors(Net *net, const float *targets, uint32_t count, float scale) noexcept nogil:
    """Add the errors of one sample to the tally and compute the sensitivity (O) of its outputs."""
    cdef const Level *level = &net.levels[net.n_levels - 1]
    cdef Tally *tally = net.tally
    cdef Py_ssize_t j, n = level.outputs
    cdef double error, absolute = tally.abs_sum, squared = tally.squared_sum, effective = tally.effective_squared_sum
    for j in range(n):
        error = level.out[j] - targets[j]  # float32, then widened
        absolute += fabs(error) * count
        squared += error * error * count
        effective += error * error * scale
        level.sigma[j] = <float>(2 * error * scale)
    tally.abs_sum, tally.squared_sum, tally.effective_squared_sum = absolute, squared, effective
    tally.cases += count
    tally.effective_cases += scale
    tally.error_cases += <uint32_t>n * count
    tally.effective_error_cases += <float>n * scale


cdef void bend(Net *net, Level *level) noexcept nogil:
    """CORNER: the derivatives (O) of a level; its corners get their gradient and, at once, their step."""
    cdef Py_ssize_t j
    cdef float *corner = net.corners + level.corners
    cdef float *total = net.corner_gradient + level.corners
    cdef float z, sigma, rate = net.step.rate
    cdef int side
    cdef bint hit
    for j in range(level.outputs):
        z, sigma = level.z[j], level.sigma[j]
        level.d[j] = corner[0] if z < 0 else corner[2] if z > 0 else (corner[0] + corner[2]) / 2
        side = 0 if z < 0 else 2
        if net.gradient is not NULL:
            total[1] += sigma
            if z < 0 or z > 0:
                total[side] += z * sigma
        if rate != 0:
            corner[1] = limited(corner[1] - rate * sigma, corner[1], &net.step, &hit)
            if z < 0 or z > 0:
                corner[side] = limited(corner[side] - rate * (z * sigma), corner[side], &net.step, &hit)
        corner += 3
        total += 3


cdef void derivatives(Net *net, Level *level) noexcept nogil:
    """The derivatives (O) of a level below the last, of RELU or LEAKY_RELU; RELU counts who is used."""
    cdef Py_ssize_t j, n = level.outputs
    cdef const float *z = level.z
    cdef float *d = level.d
    cdef float slope = 0 if net.kind == RELU else net.settings.relu_leakiness
    cdef uint32_t *usage = net.usage + level.usage
    for j in range(n):
        d[j] = slope if z[j] < 0 else 1
    if net.kind == RELU:
        for j in range(n):
            usage[j] += z[j] >= 0


cdef void step(Net *net, Py_ssize_t l, Py_ssize_t s) noexcept nogil:
    """The step of the rate against the gradient of the sample in seat s, and a narrow level's into the total.

    In the first level it also sums the next sample's raw values, while some rows are near: as they are stepped, where
    both samples have about the same inputs that are not 0, or else after that.
    """
    cdef const Level *level = &net.seats[s * net.n_levels + l]
    cdef float *weights = net.weights + level.weights
    cdef float *total = NULL
    cdef float *z = NULL
    cdef const float *d = level.d if level.factored else NULL
    cdef const float *u
    cdef const float *next
    cdef bint all_rows = level.index == net.all, together
    cdef Py_ssize_t rows = level.inputs + (net.kind != CORNER)  # whose bias has a rule of its own
    cdef Py_ssize_t near = max(1, NEAR // level.stride), start = 0, n, count, both
    if net.gradient is not NULL and level.vecs <= PASS_NARROW:
        total = net.gradient + level.weights
    if l == 0:
        net.ahead = net.has_next and net.quick and net.kind != CORNER
    if l == 0 and net.ahead:
        s = (s + 1) % SEATS if waits(net) else s  # who comes next
        z = net.seats[s * net.n_levels].z
        memset(z, 0, <size_t>level.outputs * sizeof(float))
    while start < rows:
        n, u, next = min(near, rows - start), level.u + start, net.next + start
        count = n if all_rows else list_nonzero_f32(net.listed, u, n)
        together = z is not NULL and not net.step.has_floor
        if together:
            both = pass_list_either(net.both, u, next, net.sizes, n)
            together = both <= count + count // 4
        if together:
            pass_steps(weights, total, level.stride, level.vecs, u, net.both, both, level.sigma, d, &net.step, next, z)
        else:
            pass_steps(weights, total, level.stride, level.vecs, u, net.all if all_rows else net.listed, count,
                       level.sigma, d, &net.step, NULL, NULL)
            if z is not NULL:
                count = list_nonzero_f32(net.listed, next, n)
                pass_forward(z, level.vecs, weights, level.stride, next, net.listed, count)
        start += n
        weights += n * level.stride
        if total is not NULL:
            total += n * level.stride


cdef void bend_bias(Net *net, Level *level) noexcept nogil:
    """CORNER: the gradient of a level's biases into the total, and their step; the raw values have served."""
    cdef Py_ssize_t j
    cdef const int32_t *bias = net.all + level.inputs
    for j in range(level.outputs):
        level.z[j] *= fabsf(level.sigma[j])
    if net.gradient is not NULL:
        pass_add(net.gradient + level.weights + level.inputs * level.stride, level.vecs, level.z)
    if net.step.rate != 0:
        pass_steps(net.weights + level.weights, NULL, level.stride, level.vecs, level.u, bias, 1, level.z, NULL,
                   &net.step, NULL, NULL)


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


cdef Py_ssize_t mark(Net *net, Py_ssize_t l, Py_ssize_t rows) noexcept nogil:
    """Mark which waiting samples have an input, and which a sensitivity, that is not zero; how many vectors of the
    total the inputs' samples meet more than the neurons' would meet of the turned one."""
    cdef const Level *level
    cdef Py_ssize_t s, i, by_input = 0, by_neuron = 0
    cdef uint32_t bit
    memset(net.with_input, 0, <size_t>rows * sizeof(uint32_t))
    memset(net.with_sigma, 0, <size_t>net.levels[l].outputs * sizeof(uint32_t))
    for s in range(net.waiting):
        level, bit = &net.seats[s * net.n_levels + l], <uint32_t>1 << s
        by_neuron += pass_mark(net.with_sigma, bit, level.sigma, level.outputs)
        if level.index != net.all:
            by_input += pass_mark(net.with_input, bit, level.u, rows)
            continue
        by_input += rows
        for i in range(rows):
            net.with_input[i] |= bit
    return by_input * level.vecs - by_neuron * pieces(rows, PASS_LANES)


cdef void turn(Net *net, Level *level) noexcept nogil:
    """Turn a level's total gradient, or turn it back."""
    cdef float *total = net.gradient + level.weights
    cdef Py_ssize_t rows = level.inputs + 1
    if level.is_turned:
        pass_turn(total, level.stride, level.turned, level.turned_stride, level.outputs, rows)
    else:
        pass_turn(level.turned, level.turned_stride, total, level.stride, rows, level.outputs)
    level.is_turned = not level.is_turned


cdef bint factor_all(Net *net, Py_ssize_t l) noexcept nogil:
    """Whether a waiting sample's gradient has the factor d; then all get one."""
    cdef Level *level
    cdef Py_ssize_t s, j
    cdef bint factored = False
    for s in range(net.waiting):
        factored = factored or net.seats[s * net.n_levels + l].factored
    for s in range(net.waiting):
        level = &net.seats[s * net.n_levels + l]
        if factored and not level.factored:  # times 1 changes nothing
            for j in range(level.outputs):
                level.d[j] = 1
    return factored


cdef void add_gradients(Net *net, Py_ssize_t samples) noexcept nogil:
    """Add the gradients of the waiting samples to the total, one after the other, but for what `step` has added.

    `samples` are still to come.  Where a wide level has more neurons that are off than inputs that are 0, the total of
    many samples is kept turned round, a row for each neuron, for as long as they go on.
    """
    cdef Level *level
    cdef const float *d
    cdef float *total
    cdef Py_ssize_t l, rows, more
    for l in range(net.n_levels):
        level = &net.seats[l]
        if net.step.rate != 0 and level.vecs <= PASS_NARROW:
            continue
        total = net.gradient + level.weights
        rows = level.inputs + (net.kind != CORNER)
        d = level.d if factor_all(net, l) else NULL
        if level.vecs <= PASS_NARROW:
            pass_add_tiles(total, level.stride, level.vecs, rows, level.u, level.sigma, d, net.room, net.waiting)
            continue
        more = mark(net, l, rows)
        if d is NULL and net.quick:
            if not level.is_turned and more > 0 and samples >= MANY:
                turn(net, level)
        elif level.is_turned:
            turn(net, level)
        if level.is_turned:
            pass_add_marked(level.turned, level.turned_stride, pieces(rows, PASS_LANES), level.outputs, level.sigma,
                            net.with_sigma, level.u, NULL, net.room)
        else:
            pass_add_marked(total, level.stride, level.vecs, rows, level.u, net.with_input, level.sigma, d, net.room)
        if level.is_turned and samples == 0:
            turn(net, level)
    net.waiting = 0


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

cdef void carry(Net *net, float *values, float *momentum, Py_ssize_t n, double nu) noexcept nogil:
    """Momentum moves n parameters."""
    cdef Py_ssize_t i
    cdef float moved
    cdef bint hit
    for i in range(n):
        moved = limited(<float>(values[i] + nu * momentum[i]), values[i], &net.step, &hit)
        if hit:
            momentum[i] = moved - values[i]
        values[i] = moved


cdef void clear(float *values, Py_ssize_t n) noexcept nogil:
    if values is not NULL:
        memset(values, 0, <size_t>n * sizeof(float))


cdef void start(Net *net) noexcept nogil:
    cdef Tally *tally = net.tally
    cdef const Level *level
    cdef double nu, t = tally.momentum_t, following
    cdef Py_ssize_t l, i, at
    tally.correct = tally.incorrect = tally.above = tally.not_above = 0
    tally.abs_sum = tally.squared_sum = tally.effective_squared_sum = 0
    tally.cases = tally.error_cases = 0
    tally.effective_cases = tally.effective_error_cases = 0
    tally.to_apply = 0
    memset(net.usage, 0, <size_t>net.n_usage * sizeof(uint32_t))
    clear(net.gradient, net.n_weights)
    clear(net.corner_gradient, net.n_corners)
    clear(net.input_sums, 2 * net.n_inputs)
    if not net.settings.momentum:
        return
    if net.settings.momentum_fixed_nu:
        nu = 0 if tally.training_pass < 2 else 1
    else:
        following = (1 + sqrt(1 + t * t * 4)) / 2
        nu = (t - 1) / following
        tally.momentum_t = following if tally.training_pass != 0 else 1
    for l in range(net.n_levels):
        level = &net.levels[l]
        for i in range(level.inputs + 1):
            at = level.weights + i * level.stride
            carry(net, net.weights + at, net.momentum + at, level.outputs, nu)
    carry(net, net.corners, net.corner_momentum, net.n_corners, nu)


def start_pass(state):
    """Zero what a pass adds up; then momentum moves every parameter."""
    start(&bound_to(state).net)


cdef void add_squares(const float *values, Py_ssize_t n, double *total, double *own) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        total[0] += <double>values[i] * values[i]
        own[0] += <double>values[i] * values[i]


cdef void end(Net *net) noexcept nogil:
    cdef const Level *level
    cdef Py_ssize_t l, i
    cdef double total = 0, own, ratio = 1
    for l in range(net.n_levels + 1):
        net.norms[l] = NAN
    if net.gradient is not NULL:
        if net.tally.cases:
            ratio = <double>net.tally.cases / net.tally.effective_cases
        for l in range(net.n_levels):
            level, own = &net.levels[l], 0
            for i in range(level.inputs + 1):
                add_squares(net.gradient + level.weights + i * level.stride, level.outputs, &total, &own)
            if net.kind == CORNER:
                add_squares(net.corner_gradient + level.corners, 3 * level.outputs, &total, &own)
            net.norms[l] = sqrt(own) * ratio
        net.norms[net.n_levels] = sqrt(total) * ratio
    net.tally.training_pass += 1
    net.tally.to_apply = 1


def end_pass(state):
    """Compute the norms of the gradient and count the pass."""
    end(&bound_to(state).net)


cdef void add_squared_change(const float *new, const float *old, Py_ssize_t n, double *total) noexcept nogil:
    """Add in double the squares of float32 differences, in order."""
    cdef Py_ssize_t i
    cdef double change
    for i in range(n):
        change = new[i] - old[i]
        total[0] += change * change


cdef void keep_floats(float *to, const float *frm, Py_ssize_t n) noexcept nogil:
    if n:
        memcpy(to, frm, <size_t>n * sizeof(float))


cdef bint adapt_rate(Net *net) noexcept nogil:
    """auto_rate: choose the training rate from what the last pass did to the last level; True if it undoes it."""
    cdef Tally *tally = net.tally
    cdef const Level *level = &net.levels[net.n_levels - 1]
    cdef double lowest = 0.0001 / tally.cases, rate, best, low, high, changed = 0, gradient_changed = 0
    cdef float *gradient = net.gradient + level.weights
    cdef float *corners = net.corners + level.corners
    cdef float *corner_gradient = net.corner_gradient + level.corners
    cdef Py_ssize_t i, at
    if tally.training_rate <= 0:
        tally.training_rate = <float>(0.001 / tally.cases)
    if tally.redo:
        tally.redo, tally.after_redo = 0, 1
        return False
    if tally.has_saved and not tally.after_redo:
        rate = tally.training_rate
        add_squared_change(net.input_sums, net.saved_input_sums, net.n_inputs, &changed)
        add_squared_change(
            net.input_sums + net.n_inputs, net.saved_input_sums + net.n_inputs, net.n_inputs, &gradient_changed)
        for i in range(level.inputs + 1):
            at = i * level.stride
            add_squared_change(
                net.weights + level.weights + at, net.saved_weights + level.weights + at, level.outputs, &changed)
            add_squared_change(gradient + at, net.saved_gradient + at, level.outputs, &gradient_changed)
        # A slip of the class, kept: the last level's corners are compared with the first ones that were saved.
        add_squared_change(corners, net.saved_corners, net.n_corners_last, &changed)
        add_squared_change(corner_gradient, net.saved_corner_gradient, net.n_corners_last, &gradient_changed)
        if changed != 0 and gradient_changed != 0:
            best = sqrt(changed / gradient_changed) * net.settings.training_rate_scale
            low, high = best * (0.1 * 2 / 3), best * (0.1 * 5 / 6)
            if rate < low:
                tally.training_rate = min(<float>(2 * rate), <float>low)
            elif rate > lowest and rate > high:
                tally.training_rate = <float>low
                if tally.training_rate < lowest:
                    tally.training_rate = <float>lowest
                if rate > best * (15.0 / 16):
                    keep_floats(net.weights, net.saved_weights, net.n_weights)
                    keep_floats(net.corners, net.saved_corners, net.n_corners)
                    tally.redo = 1
                    tally.training_pass -= 2
                    return True
    tally.after_redo, tally.has_saved = 0, 1
    keep_floats(net.saved_input_sums, net.input_sums, 2 * net.n_inputs)
    keep_floats(net.saved_weights, net.weights, net.n_weights)
    keep_floats(net.saved_corners, net.corners, net.n_corners)
    keep_floats(net.saved_gradient, gradient, net.n_last)
    keep_floats(net.saved_corner_gradient, corner_gradient, net.n_corners_last)
    return False


cdef struct Comparison:  # of this gradient with the last
    Py_ssize_t turned, kept
    double now_turned, last_turned, last_kept  # sums of squares


cdef void compare(const float *now, const float *last, Py_ssize_t n, Comparison *found) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        if now[i] * last[i] < 0:
            found.turned += 1
            found.now_turned += now[i] * now[i]
            found.last_turned += last[i] * last[i]
        elif last[i] != 0:
            found.kept += 1
            found.last_kept += last[i] * last[i]


cdef float adapt_multiplier(Net *net) noexcept nogil:
    """auto_rate2: choose the multiplier of the rate from the signs and sizes of this gradient and the last."""
    cdef Comparison found
    cdef const Level *level
    cdef Py_ssize_t l, i, at
    cdef double now_turned, last_turned, last_kept, n_turned, n_kept, factor
    memset(&found, 0, sizeof(Comparison))
    for l in range(net.n_levels):
        level = &net.levels[l]
        for i in range(level.inputs + 1):
            at = level.weights + i * level.stride
            compare(net.gradient + at, net.last + at, level.outputs, &found)
    compare(net.corner_gradient, net.corner_last, net.n_corners, &found)
    n_turned, n_kept = max(found.turned, 1), max(found.kept, 1)
    now_turned, last_turned = sqrt(found.now_turned / n_turned), sqrt(found.last_turned / n_turned)
    last_kept = sqrt(found.last_kept / n_kept)
    if now_turned > last_turned and now_turned * n_turned > 2 * last_kept * n_kept:
        factor = 0.2 if now_turned > 2 * last_turned or n_turned > 0.7 * (n_turned + n_kept) else 0.67
    elif now_turned > last_turned and now_turned > 3 * last_kept:
        factor = 0.8
    else:
        factor = 1.2
    net.tally.auto_rate2_adj = <float>(net.tally.auto_rate2_adj * factor)
    return net.tally.auto_rate2_adj


cdef struct Tweak:  # what makes the rates of neighbours differ a little
    uint64_t k, period
    float step


cdef void move_values(const Net *net, float *values, float *gradient, float *momentum, Py_ssize_t n, float rate,
                      Tweak *tweak) noexcept nogil:
    """Move n parameters; `tweak` NULL: all by the same rate."""
    cdef Py_ssize_t i
    cdef float g, new
    cdef bint hit
    for i in range(n):
        g = gradient[i]
        if tweak is not NULL:
            g = g - g * <float>tweak.k * tweak.step
            tweak.k = (tweak.k + 1) % tweak.period
        new = limited(values[i] - rate * g, values[i], &net.step, &hit)
        if hit:
            gradient[i] = 0
        if momentum is not NULL:
            momentum[i] += new - values[i]
        values[i] = new


cdef void move(Net *net, float rate) noexcept nogil:
    """Move all parameters against the total gradient."""
    cdef const Level *level
    cdef Tweak tweak
    cdef Tweak *tweaked = NULL if net.settings.scale_rate_per_layer else &tweak
    cdef float *momentum = net.momentum if net.settings.momentum else NULL
    cdef float *corner_momentum = net.corner_momentum if net.settings.momentum else NULL
    cdef Py_ssize_t l, i, at
    cdef float own = rate
    tweak.period = 3 * <uint64_t>net.levels[0].inputs
    tweak.step = net.settings.tweak_rate / <float>tweak.period
    tweak.k = <uint64_t>net.tally.training_pass
    for l in range(net.n_levels):
        level = &net.levels[l]
        if net.settings.scale_rate_per_layer:
            own = rate if l == net.n_levels - 1 else rate / <float>net.levels[l + 1].outputs
        for i in range(level.inputs + 1):
            at = level.weights + i * level.stride
            move_values(net, net.weights + at, net.gradient + at, NULL if momentum is NULL else momentum + at,
                        level.outputs, own, tweaked)
    tweak.k = <uint64_t>net.tally.training_pass  # the corners count anew
    if net.kind == CORNER:
        for l in range(net.n_levels):
            level, at = &net.levels[l], net.levels[l].corners
            if net.settings.scale_rate_per_layer:
                own = rate if l == net.n_levels - 1 else rate / <float>net.levels[l + 1].outputs
            move_values(net, net.corners + at, net.corner_gradient + at,
                        NULL if momentum is NULL else corner_momentum + at, 3 * level.outputs, own, tweaked)


cdef void brake(float *momentum, const float *last, const float *now, Py_ssize_t n) noexcept nogil:
    """Clear the momentum where the gradient has changed its sign."""
    cdef Py_ssize_t i
    for i in range(n):
        if last[i] * now[i] < 0:
            momentum[i] = 0


cdef bint apply(Net *net, float rate) noexcept nogil:
    cdef Tally *tally = net.tally
    cdef float cases = <float>tally.cases
    tally.to_apply = 0
    if net.settings.auto_rate:
        if adapt_rate(net):
            return True
        rate = tally.training_rate
    else:
        if cases != tally.effective_cases:
            rate = rate * cases / tally.effective_cases
        if net.settings.auto_rate2 and tally.has_last:
            rate = rate * adapt_multiplier(net)
    move(net, rate)
    if net.settings.momentum and net.settings.momentum_fast_brake and tally.has_last:
        brake(net.momentum, net.last, net.gradient, net.n_weights)
        brake(net.corner_momentum, net.corner_last, net.corner_gradient, net.n_corners)
    if net.last is not NULL:
        keep_floats(net.last, net.gradient, net.n_weights)
        keep_floats(net.corner_last, net.corner_gradient, net.n_corners)
        tally.has_last = 1
    return False


def apply_gradient(state, float rate):
    """Move the parameters by the pass's gradient; True if auto_rate has undone the last such move instead."""
    return apply(&bound_to(state).net, rate)


cdef Py_ssize_t turn_round(Net *net, int64_t max_unused) noexcept nogil:
    cdef const Level *level
    cdef const Level *above
    cdef Py_ssize_t l, i, j, found = 0
    cdef float *incoming
    if net.kind != RELU or net.tally.redo:
        return 0
    for l in range(net.n_levels - 1):
        level, above = &net.levels[l], &net.levels[l + 1]
        for j in range(level.outputs):
            if net.usage[level.usage + j] > max_unused:
                continue
            incoming = net.weights + level.weights + j
            for i in range(level.inputs + 1):
                incoming[i * level.stride] = -incoming[i * level.stride]
            clear(net.weights + above.weights + j * above.stride, above.outputs)
            found += 1
    if found:
        net.tally.training_rate, net.tally.has_saved = -1, 0
    return found


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
