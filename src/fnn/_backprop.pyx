# cython: language_level=3, boundscheck=False, initializedcheck=False, cdivision=True
# cython: freethreading_compatible=True, binding=True, embedsignature=True
"""The backward sweep, compiled.  `_backprop_numpy.py` holds the same functions in the same order, to read side by side.

A. The only kernel source: setup.py builds it once per instruction set, for float and double.  What Cython cannot
   express, the tiles that live in vector registers, is in `_simd.h`; the loops over layers, batches and tiles are here.
B. A `Workspace` holds one working copy of the parameters and all scratch, in one block of memory.  Every matrix in it
   is stored in panels (`_simd.h`, C), so that a tile that one product writes is a tile that the next one reads.
C. A step: of each layer the threads share the neurons or the batch's rows, forward, to the loss and backward, and meet
   only where one needs what another has computed.  Then each takes its own tiles of the layer's gradient, which become
   the saturated update while they are still in registers, as soon as all have read the weights: while they are in cache.
D. No number's sum is split, but into the two halves of a batch that one thread takes as well, so any number of threads
   gives the same bits.

Equation numbers refer to docs/backprop.md.  Shape letters: B rows of a batch, I fan-in, O fan-out, L layers,
P parameters, N rows of the data set; R rows that a panel has room for.
"""

from math import gcd

import numpy as np

from fnn._formulas import LOSSES
from fnn._layout import Layout
from fnn._optimizers import fista_t

from cpython.exc cimport PyErr_CheckSignals
from libc.math cimport INFINITY, exp, fabs, fmax, fmin, log1p, pow, sqrt
from libc.stdint cimport int32_t, uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

ctypedef fused real:
    float
    double

cdef extern from "_simd.h" nogil:
    const int FNN_ROWS
    const int FNN_IDENTITY, FNN_RELU, FNN_SIGMOID, FNN_SOFTMAX, FNN_EXP
    const int SQUARED_ERROR "FNN_SQUARED_ERROR"
    const int BINARY_CROSS_ENTROPY "FNN_BINARY_CROSS_ENTROPY"
    const int POISSON "FNN_POISSON"
    const int FNN_STORE, FNN_ADD, FNN_PLAIN, FNN_MOMENTUM, FNN_NESTEROV, FNN_ADAM, FNN_FISTA
    ctypedef struct fnn_rule:
        double rate, momentum, beta_2, epsilon, saturation, decay, floor
        Py_ssize_t second, carried
        int kind, brakes, fixed_nu
    # Macros that choose the float or the double kernel by the pointer's type, hence `void *`.
    Py_ssize_t lanes(void *)
    void activate_values(void *out, const void *z, Py_ssize_t n, int code, double slope)
    void factor_values(void *out, const void *d, const void *v, Py_ssize_t n, int code, double slope)
    double softmax_row(void *row, Py_ssize_t n)
    double squared_error_row(void *g, const void *v, const void *y, Py_ssize_t n, double scale)
    double matched_row(void *g, const void *z, const void *v, const void *y, Py_ssize_t n, double scale, bint poisson)
    double cross_entropy_row(void *g, const void *z, const void *v, const void *y, Py_ssize_t n, double scale,
                             double log_sum)
    void output_rows(void *g, double *losses, const void *z, Py_ssize_t stride, const void *y,
                     const Py_ssize_t *labels, const Py_ssize_t *order, const void *weights, Py_ssize_t rows,
                     Py_ssize_t n, int loss, int code, double slope, double scale, double ceiling)
    double sum_of_squares(void *w, Py_ssize_t n)
    void limit_values(void *w, Py_ssize_t n, double limit)
    bint all_finite(const void *w, Py_ssize_t n)
    void forward_tile(void *c, Py_ssize_t rows, Py_ssize_t vecs, const void *a, Py_ssize_t a_panel, Py_ssize_t inner,
                      const void *w, const void *bias, bint finish, int code, double slope)
    void forward_tile_of_rows(void *c, Py_ssize_t rows, Py_ssize_t vecs, const void *x, Py_ssize_t first,
                              Py_ssize_t inner, const void *w, const void *bias, bint finish, int code, double slope)
    void backward_tile(void *c, Py_ssize_t rows, Py_ssize_t vecs, const void *g, Py_ssize_t g_panel, Py_ssize_t inner,
                       const void *wt, bint first, bint finish, const void *activation, int code, double slope)
    void gradient_tile(void *w, void *state, Py_ssize_t rows, Py_ssize_t vecs, const void *a, const void *g,
                       Py_ssize_t batch, const fnn_rule *rule)
    void gradient_tile_of_rows(void *w, void *state, Py_ssize_t rows, Py_ssize_t vecs, const void *x, Py_ssize_t first,
                               const void *g, Py_ssize_t batch, const fnn_rule *rule)
    void bias_tile(void *w, void *state, Py_ssize_t vecs, const void *g, Py_ssize_t batch, const fnn_rule *rule)
    void update_values(void *w, void *state, const void *gradient, Py_ssize_t n, const fnn_rule *rule)
    void transpose_block(void *to, Py_ssize_t to_stride, const void *frm, Py_ssize_t from_stride, Py_ssize_t rows)
    void fetch_line(const void *next)
    void fetch_ahead(const void *next, Py_ssize_t n, Py_ssize_t part, Py_ssize_t parts)
    Py_ssize_t list_nonzero(int32_t *index, const void *u, Py_ssize_t n)
    Py_ssize_t list_fresh(int32_t *index, const void *u, const void *before, Py_ssize_t n)
    void online_transposed(void *delta, void *wt, Py_ssize_t inputs, Py_ssize_t outputs, const void *u,
                           const void *g, double rate, double limit, bint after, int code, double slope)
    void online_bias(void *bias, Py_ssize_t vecs, const void *g, double rate, double limit)
    void online_forward(void *out, Py_ssize_t vecs, const void *w, const void *bias, const void *u,
                        const int32_t *index, Py_ssize_t count, int code, double slope)
    void flat_forward(void *z, const void *w, const void *u, Py_ssize_t inputs, Py_ssize_t outputs)
    void narrow_forward(void *v, const void *w, const void *u, Py_ssize_t inputs, int code, double slope)
    double narrow_turn(void *below, void *w, void *wt, const void *u, Py_ssize_t inputs, Py_ssize_t outputs, int code,
                       double slope, const void *y, double scale, double rate, bint limited, double limit,
                       int code_below, double slope_below)
    void narrow_backward(void *below, void *w, void *wt, const void *u, Py_ssize_t inputs, const void *g,
                         Py_ssize_t outputs, double rate, bint limited, double limit, int code_below,
                         double slope_below)
    void online_update_forward(void *out, Py_ssize_t vecs, void *w, const void *bias, const void *before,
                               const int32_t *listed, Py_ssize_t n_listed, const void *g, double rate, double limit,
                               const void *u, const int32_t *fresh, Py_ssize_t n_fresh, int code, double slope)
    void online_backward(void *w, Py_ssize_t inputs, Py_ssize_t outputs, const void *u, const int32_t *index,
                         Py_ssize_t count, const void *g, double rate, double limit, void *delta, bint after)

cdef extern from "_team.h" nogil:
    const int FNN_MOST_THREADS
    ctypedef struct fnn_meeting:
        pass
    ctypedef struct fnn_team:
        pass
    fnn_team *fnn_assemble()
    int fnn_muster(fnn_team *team, int threads)
    void fnn_work(fnn_team *team, int threads, void (*work)(const void *task, int thread) noexcept nogil, const void *task)
    void fnn_dismiss(fnn_team *team)
    void fnn_meet(fnn_meeting *meeting, int threads)
    double fnn_seconds()
    Py_ssize_t second_level_cache()

cdef enum:
    FEWEST_ROWS = 64
    CHUNK_ROWS = 256  # most rows taken through the sweep at once: their panels stay in cache, memory stays bounded
    MOST_HALVED = 4096  # rows of a batch that is taken as two halves: only at its end the threads look whether to stop
    MOST_LEFT = 64  # rows of a batch that are read where they lie: the first-level TLB holds the pages of no more
    LINES_OF_A_SET = 8  # of theirs, in the first-level cache, at most: the others are for W
    FEW_PREDICTED = 4  # rows for which packing all weights does not pay, however many they are
    CHOICES = 16  # one in so many tries whether one thread, or the team, has become the faster
    FEW_INPUTS = 16  # of so few the zeros cost less than the branches that skipping them mispredicts
    INNER = 256  # terms summed between two stores of a tile: a panel of W of this height fills two thirds of L1

cdef double FEW_OPERATIONS = 3e6  # below that many packing the weights and gathering a team take longer
cdef double TICK_SECONDS = 0.02
cdef double CHUNK_SECONDS = 0.25  # of one thread's work at most between two looks at signals, unless it is FEWEST_ROWS
cdef double OPERATIONS_BETWEEN_CLOCKS = 1e6  # a look at the clock costs as much as a few thousand operations
# What decides how many threads a step is worth: the rate of one of them for each number in a vector, the rate at which one
# core takes over what another has written, the price of the barriers.  The last two are no measurements: they were chosen
# so that the rule picks the faster of one and two threads on the five mini-batch workloads of benchmarks/ (2-core Xeon).
# Measured alone there, a core reads what the other wrote at 20 GB/s and a barrier takes 0.08 us; why two threads gain less
# than these allow is not known yet.
cdef double OPERATIONS_A_SECOND = 7.5e9
cdef double BYTES_A_SECOND = 1e10
cdef double SECONDS_TO_MEET = 5e-7
cdef double SECONDS_TO_START = 1e-5  # an epoch of a team that is still awake; to start its threads takes longer, once
cdef double HALVING_GAIN = 0.9  # what taking halves has to make of the time of a step to be worth two gradients
cdef double SHORT_EPOCH = 5e-3  # seconds of an epoch that may be tried with fewer threads than the estimate says
cdef double ONLINE_BYTES_A_SECOND = 9e10  # read and written from the second-level cache


cdef struct Layer:
    Py_ssize_t inputs, outputs  # I, O
    Py_ssize_t height  # rows of a panel of its parameters: I of weights, the biases and, with a corner, its three
    int code  # activation
    double slope
    Py_ssize_t units  # blocks of weights, a panel of inputs by a panel of neurons, in the layers below
    Py_ssize_t weights  # offset in the parameters, the state and the gradient: panels of `height` rows
    Py_ssize_t transposed  # offset in the arena (online): W^T in panels of O rows, where O is small; else 0
    Py_ssize_t u, v, g  # offsets in the arena: the layer's input, its output, its delta, in panels of R rows
    # Offset in the arena, with a corner: three matrices in panels of R rows, of which the first holds z until, on the way
    # back, all take what each row adds to the gradient of left slope, offset and right slope; else 0.
    Py_ssize_t bend
    Py_ssize_t index  # offset in the index list of its inputs (online)
    bint listed  # whether it lists those that are not zero, or takes all
    bint by_columns  # whether the team's threads share its neurons, or the rows of the batch
    double rate_scale, rate  # what it multiplies the rule's rate by, and what comes out of that (online)
    Py_ssize_t skip  # k: it also reads the activation k layers earlier, then u has panels of its own; else 0
    bint concat  # whether that activation stands beside the one below, or is added to it
    bint heads  # whether it is the first, on the way back, to hand a share to that activation
    bint gathers  # whether layers above have handed shares to the activation below it


cdef struct Plan:
    Py_ssize_t n_layers, lanes  # L and the numbers in a vector
    Py_ssize_t rows, room  # rows of a chunk at most; R, the rows that a panel of u, v and g has room for
    Py_ssize_t n_padded  # P with the padding of the panels
    Py_ssize_t state, gradient  # offsets in the arena; the parameters are at 0; 0 where there is none
    Py_ssize_t row_buffers, row_buffer  # offset in the arena of each thread's three rows of outputs, and a row's length
    bint halves  # whether a batch goes through as two halves, each by one thread, whose gradients are added at its end
    Py_ssize_t input_copies, own_input  # of the gathered inputs: room for so many; from one thread's to the next, or 0
    const void **row_table  # of each thread, where a chunk's inputs lie in x; NULL where they are gathered in panels
    Py_ssize_t input_delta  # offset in the arena of the slope of the loss by the input of a layer that skips
    Py_ssize_t block_bytes  # of a layer's input that the gradient takes at once
    Py_ssize_t block  # offset in the arena of each thread's block of W^T: a panel of INNER rows
    Layer *layers
    bint narrow  # whether every layer fits one vector, its padding zero (online)
    Py_ssize_t list_room  # of a list of the first layer's inputs: each thread has three at the start of `index`
    int32_t *index


cdef struct Job:
    const void *x
    const void *y
    void *out  # outputs, where they are what is wanted
    const Py_ssize_t *labels  # class labels, or NULL where y holds rows
    const Py_ssize_t *order
    const void *row_weights  # of the rows of x, or NULL where each counts as 1
    Py_ssize_t n_rows, batch_size
    int loss
    double ceiling  # the most that a row's loss, or an output's, counts as
    bint mean, train
    bint through_updated  # whether deltas go back through weights that have stepped already
    double scale  # of the loss, where not the mean over each batch
    fnn_rule rule
    double alpha  # of the penalty
    double *squares  # the sum of those of each unit's weights, before the batch's update
    Py_ssize_t updates  # done since the states were zero
    double t  # FISTA's, after those updates
    double *row_losses  # of the chunk
    double total, penalties
    double half_losses[2]  # of the batch's rows
    int threads
    bint stop
    fnn_meeting meeting
    double operations, last_tick, operations_left  # of one row; when the clock was last looked at
    void *tick
    void *errors


# ---- Where things lie --------------------------------------------------------------------------------------------

cdef inline Py_ssize_t padded(Py_ssize_t n, Py_ssize_t vector) noexcept nogil:
    return (n + vector - 1) // vector * vector


cdef inline Py_ssize_t vectors(Py_ssize_t columns, Py_ssize_t vector) noexcept nogil:
    """Vectors in a weight panel that starts `columns` before the matrix's end."""
    return 1 if columns <= vector else 2


cdef inline Py_ssize_t pieces(Py_ssize_t n, Py_ssize_t size) noexcept nogil:
    """Pieces of at most `size` that n divides into: panels of columns, tiles of rows, batches of samples."""
    return (n + size - 1) // size


cdef Py_ssize_t roomy(Py_ssize_t rows, Py_ssize_t row_bytes) noexcept nogil:
    """Rows that panels get room for, so that one tile's rows in neighbouring panels lie in different sets of the cache:
    were panels a multiple of 4 KiB apart, a tile of many panels would push itself out of L1."""
    cdef Py_ssize_t aside = FNN_ROWS * row_bytes
    if rows >= 2 * FNN_ROWS:
        while not aside <= rows * row_bytes % 4096 <= 4096 - aside:
            rows += 1
    return rows


cdef void rows_to_panels(real *panels, Py_ssize_t room, Py_ssize_t row, const real *source,
                         Py_ssize_t columns) noexcept nogil:
    """Write one row of a matrix into row `row` of its panels of `room` rows."""
    cdef Py_ssize_t panel = 2 * lanes(panels), j
    panels += row * panel
    for j in range(columns // panel):
        memcpy(panels, source, <size_t>(2 * lanes(panels)) * sizeof(real))
        panels += room * panel
        source += panel
    if columns % panel:
        memcpy(panels, source, <size_t>(columns % panel) * sizeof(real))


cdef void panels_to_row(real *target, const real *panels, Py_ssize_t room, Py_ssize_t row,
                        Py_ssize_t columns) noexcept nogil:
    """Read row `row` of a matrix from its panels of `room` rows."""
    cdef Py_ssize_t panel = 2 * lanes(target), j
    panels += row * panel
    for j in range(pieces(columns, panel)):
        memcpy(target, panels, <size_t>min(panel, columns - j * panel) * sizeof(real))
        panels += room * panel
        target += panel


cdef void copy_parameters(real *flat, real *arena, const Plan *plan, bint into) noexcept nogil:
    """Copy the flat vector (P,) into weight panels (`into`), or back."""
    cdef Py_ssize_t vector = plan.lanes, panel = 2 * vector, l, i, o, p, width, count
    cdef Layer *layer
    cdef real *inside
    for l in range(plan.n_layers):
        layer = &plan.layers[l]
        for i in range(layer.height):
            for p in range(pieces(layer.outputs, panel)):
                o = p * panel
                width = vector * vectors(layer.outputs - o, vector)
                count = min(panel, layer.outputs - o)
                inside = arena + layer.weights + o * layer.height + i * width
                if into:
                    memcpy(inside, flat + o, <size_t>count * sizeof(real))
                    memset(inside + count, 0, <size_t>(width - count) * sizeof(real))
                else:
                    memcpy(flat + o, inside, <size_t>count * sizeof(real))
            flat += layer.outputs


cdef void transpose_block_of(real *wt, const real *arena, const Plan *plan, const Layer *layer, Py_ssize_t i,
                             Py_ssize_t o, Py_ssize_t end) noexcept nogil:
    """Write the rows [o, end) of panel i of W^T into `wt`, from the panels of W; o starts a panel of W."""
    cdef Py_ssize_t vector = plan.lanes, panel = 2 * vector, a, b, p, q, c, width
    cdef Py_ssize_t t_width = vector * vectors(layer.inputs - i, vector)
    cdef const real *w
    for c in range(pieces(end - o, panel)):
        width = vector * vectors(layer.outputs - o, vector)
        w = arena + layer.weights + o * layer.height + i * width
        for p in range(pieces(width, vector)):
            b = p * vector
            for q in range(pieces(t_width, vector)):
                a = q * vector
                transpose_block(
                    wt + b * t_width + a, t_width, w + a * width + b, width, min(vector, layer.inputs - i - a))
        wt += width * t_width
        o += panel


cdef void transpose_small(real *arena, const Plan *plan) noexcept nogil:
    """Refresh the W^T that online training keeps of the layers with few outputs."""
    cdef Py_ssize_t vector = plan.lanes, l, p, i
    cdef Layer *layer
    for l in range(plan.n_layers):
        layer = &plan.layers[l]
        if layer.transposed:
            for p in range(pieces(layer.inputs, 2 * vector)):
                i = p * 2 * vector
                transpose_block_of(
                    arena + layer.transposed + i * padded(layer.outputs, vector), arena, plan, layer, i, 0,
                    layer.outputs)


# ---- The sweep, each thread's share of it ------------------------------------------------------------------------

cdef struct Share:  # what one of the team's threads computes of a layer: rows [begin, end), panels [first, last)
    Py_ssize_t begin, end, first, last


cdef Share share_of(const Plan *plan, const Layer *layer, Py_ssize_t rows, int thread, int threads) noexcept nogil:
    """A thread's share of a layer's v and g: all rows of its own neurons, or all neurons of its own rows."""
    cdef Share share
    cdef Py_ssize_t panels = pieces(layer.outputs, 2 * plan.lanes)
    share.begin, share.end, share.first, share.last = 0, rows, 0, panels
    if layer.by_columns:
        share.first, share.last = panels * thread // threads, panels * (thread + 1) // threads
    else:
        share.begin, share.end = rows * thread // threads, rows * (thread + 1) // threads
    return share


cdef struct Chunk:  # rows that go through the sweep at once: a batch, or a piece of one
    Py_ssize_t start, rows  # in the epoch's order
    Py_ssize_t batch_start, batch_rows


cdef Chunk next_chunk(const Plan *plan, const Job *job, Chunk chunk) noexcept nogil:
    """The chunk after this one; of no rows after the last."""
    chunk.start += chunk.rows
    if chunk.start == chunk.batch_start + chunk.batch_rows:
        chunk.batch_start = chunk.start
        chunk.batch_rows = min(job.batch_size, job.n_rows - chunk.start)
    chunk.rows = min(plan.rows, chunk.batch_start + chunk.batch_rows - chunk.start)
    return chunk


cdef struct Rows:  # [begin, end) of a chunk
    Py_ssize_t begin, end


cdef Rows rows_read_by(const Plan *plan, Py_ssize_t rows, int thread, int threads) noexcept nogil:
    """The rows of x that a thread reads: to gather its own, or all of them, into a copy of its own or where they lie: to
    take over what another core has just written costs more than to read the data a second time."""
    cdef Rows found
    found.begin, found.end = 0, rows
    if not plan.own_input and plan.row_table is NULL:
        found.begin, found.end = rows * thread // threads, rows * (thread + 1) // threads
    return found


cdef inline const void **rows_of(const Plan *plan, int thread) noexcept nogil:
    """A thread's table of where the chunk's inputs lie, if they are not gathered."""
    return NULL if plan.row_table is NULL else plan.row_table + thread * plan.rows


cdef void gather_at(real *arena, const Plan *plan, const Job *job, Py_ssize_t start, Rows rows,
                    int thread) noexcept nogil:
    """Copy inputs from `start` on in the epoch's order, `rows` of them, into those rows of the first layer's panels."""
    cdef Py_ssize_t r, p, column, panel = 2 * plan.lanes, width = plan.layers[0].inputs
    cdef real *u = arena + plan.layers[0].u + thread * plan.own_input
    for p in range(width // panel):  # panel after panel, for all rows write the same column of it
        for r in range(rows.begin, rows.end):
            memcpy(u + r * panel, <const real *>job.x + job.order[start + r] * width + p * panel,
                   <size_t>(2 * lanes(u)) * sizeof(real))
        u += plan.room * panel
    column = width // panel * panel
    if column < width:
        for r in range(rows.begin, rows.end):
            memcpy(u + r * panel, <const real *>job.x + job.order[start + r] * width + column,
                   <size_t>(width - column) * sizeof(real))


cdef void gather_rows(real *arena, const Plan *plan, const Job *job, const Chunk *chunk, int thread) noexcept nogil:
    """Copy what this thread reads of the chunk into the panels of the first layer's input, or note where it lies."""
    cdef Py_ssize_t r
    cdef Rows rows = rows_read_by(plan, chunk.rows, thread, job.threads)
    cdef const void **table = rows_of(plan, thread)
    if table is NULL:
        gather_at(arena, plan, job, chunk.start, rows, thread)
        return
    for r in range(rows.begin, rows.end):
        table[r] = <const real *>job.x + job.order[chunk.start + r] * plan.layers[0].inputs


cdef struct Fetch:  # the inputs of a chunk that are still to be asked for, cache line by cache line
    Py_ssize_t row, last_row, line, quota  # the next line of the next row; lines to ask for at a time


cdef Fetch fetch_of(const Plan *plan, const Job *job, const Chunk *chunk, int thread, Py_ssize_t width,
                    Py_ssize_t times) noexcept nogil:
    """What a thread reads of the chunk, `width` lines a row, to be asked for in so many parts: evenly spread, for the
    tiles wait while too many are under way."""
    cdef Rows rows = rows_read_by(plan, chunk.rows, thread, job.threads)
    cdef Fetch fetch
    fetch.row, fetch.last_row, fetch.line = chunk.start + rows.begin, chunk.start + rows.end, 0
    fetch.quota = pieces((rows.end - rows.begin) * width, max(1, times))
    return fetch


cdef inline void fetch_rows(Fetch *fetch, const real *x, const Py_ssize_t *order, Py_ssize_t inputs,
                            Py_ssize_t width) noexcept nogil:
    """Ask for the next lines of the rows of x (N, inputs)."""
    cdef Py_ssize_t count
    for count in range(fetch.quota):
        if fetch.row == fetch.last_row:
            return
        fetch_line(x + order[fetch.row] * inputs + fetch.line * (64 // <Py_ssize_t>sizeof(real)))
        fetch.line += 1
        if fetch.line == width:
            fetch.row, fetch.line = fetch.row + 1, 0


cdef void move_columns(real *to, Py_ssize_t to_first, const real *source, Py_ssize_t first, Py_ssize_t columns,
                       Py_ssize_t room, Share share, bint add) noexcept nogil:
    """Copy columns of a matrix in panels into another's, or add them there, in the rows of `share`."""
    cdef Py_ssize_t panel = 2 * lanes(to), count, r, j
    cdef real *t
    cdef const real *s
    while columns > 0:
        count = min(columns, min(panel - to_first % panel, panel - first % panel))
        t = to + to_first // panel * room * panel + to_first % panel
        s = source + first // panel * room * panel + first % panel
        for r in range(share.begin, share.end):
            if add:
                for j in range(r * panel, r * panel + count):
                    t[j] = t[j] + s[j]
            else:
                memcpy(t + r * panel, s + r * panel, <size_t>count * sizeof(real))
        to_first, first, columns = to_first + count, first + count, columns - count


cdef void join_share(real *arena, const Plan *plan, Py_ssize_t l, Share share) noexcept nogil:
    """Eq. 1a: the input of a layer that skips, from the activations that it reads."""
    cdef const Layer *layer = &plan.layers[l]
    cdef const Layer *below = &plan.layers[l - 1]
    cdef Py_ssize_t source = l - layer.skip  # v_source; 0 is the network's input
    cdef Py_ssize_t width = plan.layers[source - 1].outputs if source else plan.layers[0].inputs
    move_columns(arena + layer.u, 0, arena + below.v, 0, below.outputs, plan.room, share, False)
    move_columns(arena + layer.u, below.outputs if layer.concat else 0,
                 arena + (plan.layers[source - 1].v if source else plan.layers[0].u), 0, width, plan.room, share,
                 not layer.concat)


cdef void spread_share(real *arena, const Plan *plan, Py_ssize_t l, Share share) noexcept nogil:
    """Eq. 5a and 6: what the input of a layer that skips hands back to the activations that it reads."""
    cdef const Layer *layer = &plan.layers[l]
    cdef const Layer *below = &plan.layers[l - 1]
    cdef const Layer *source
    cdef Py_ssize_t panel = 2 * plan.lanes, p, at
    cdef real *s = arena + plan.input_delta
    cdef real *g = arena + below.g
    if layer.skip < l:  # the network's input needs no delta
        source = &plan.layers[l - layer.skip - 1]
        move_columns(arena + source.g, 0, s, below.outputs if layer.concat else 0, source.outputs, plan.room, share,
                     not layer.heads)
    move_columns(g, 0, s, 0, below.outputs, plan.room, share, layer.gathers)
    for p in range(pieces(below.outputs, panel)):
        at = (p * plan.room + share.begin) * panel
        factor_values(g + at, g + at, arena + below.v + at, (share.end - share.begin) * panel, below.code, below.slope)


cdef void bend_share(real *arena, const Plan *plan, Py_ssize_t l, Share share) noexcept nogil:
    """Eq. 2a for one layer: v, which is z still, becomes phi(z), and z is kept beside it."""
    cdef const Layer *layer = &plan.layers[l]
    cdef Py_ssize_t panel = 2 * plan.lanes, p, r, j, o, at, width
    cdef const real *left
    cdef real *v
    cdef real *z
    for p in range(share.first, share.last):
        o = p * panel
        width = plan.lanes * vectors(layer.outputs - o, plan.lanes)
        left = arena + layer.weights + o * layer.height + (layer.inputs + 1) * width
        for r in range(share.begin, share.end):
            at = o * plan.room + r * panel
            v, z = arena + layer.v + at, arena + layer.bend + at
            for j in range(width):
                z[j] = v[j]
                v[j] = z[j] * (left[j] if z[j] < 0 else left[2 * width + j]) + left[width + j]


cdef void bend_back_share(real *arena, const Plan *plan, Py_ssize_t l, Share share) noexcept nogil:
    """Eq. 6a for one layer: its g, which is the slope by v still, becomes that by z, and what each row adds to the gradient
    of the corners takes the place of z."""
    cdef const Layer *layer = &plan.layers[l]
    cdef Py_ssize_t panel = 2 * plan.lanes, p, r, j, o, at, width, matrix = plan.room * padded(layer.outputs, panel)
    cdef const real *left
    cdef real *g
    cdef real *shares
    cdef real z
    for p in range(share.first, share.last):
        o = p * panel
        width = plan.lanes * vectors(layer.outputs - o, plan.lanes)
        left = arena + layer.weights + o * layer.height + (layer.inputs + 1) * width
        for r in range(share.begin, share.end):
            at = o * plan.room + r * panel
            g, shares = arena + layer.g + at, arena + layer.bend + at
            for j in range(width):
                z = shares[j]
                shares[j] = z * g[j] if z < 0 else 0
                shares[matrix + j] = g[j]
                shares[2 * matrix + j] = 0 if z < 0 else z * g[j]
                g[j] = g[j] * (left[j] if z < 0 else left[2 * width + j] if z > 0 else
                               (left[j] + left[2 * width + j]) / 2)


cdef void forward_share(real *arena, const Plan *plan, Py_ssize_t l, Share share, int thread,
                        const void **x) noexcept nogil:
    """Eq. 1 and 2 for one layer: v = phi(u W + b); the output layer keeps z unless it has a corner.  x: the input rows of
    the first layer where they lie, or NULL."""
    cdef const Layer *layer = &plan.layers[l]
    cdef Py_ssize_t vector = plan.lanes, panel = 2 * vector, room = plan.room * panel, vecs, k, inner, o, r, next_r
    cdef Py_ssize_t slab, p, tile, rows = share.end - share.begin, tiles = pieces(rows, FNN_ROWS)
    cdef int code = FNN_IDENTITY if l == plan.n_layers - 1 else layer.code
    cdef real *u = arena + layer.u + (0 if l else thread * plan.own_input)
    cdef real *v
    cdef real *w
    cdef real *bias
    if layer.skip:
        join_share(arena, plan, l, share)
    for slab in range(pieces(layer.inputs, INNER)):
        k = slab * INNER
        inner = min(INNER, layer.inputs - k)
        for p in range(share.first, share.last):
            o = p * panel
            vecs = vectors(layer.outputs - o, vector)
            w = arena + layer.weights + o * layer.height
            bias = w + layer.inputs * vecs * vector if k == 0 else NULL
            w += k * vecs * vector
            for tile in range(tiles):
                r = share.begin + rows * tile // tiles
                next_r = share.begin + rows * (tile + 1) // tiles
                if p + 1 < share.last:  # the next panel of W comes into the cache meanwhile
                    fetch_ahead(w + panel * layer.height, inner * panel, tile, tiles)
                v = arena + layer.v + o * plan.room + r * panel
                if x is NULL:
                    forward_tile(v, next_r - r, vecs, u + k * plan.room + r * panel, room, inner, w, bias,
                                 k + INNER >= layer.inputs, code, layer.slope)
                else:
                    forward_tile_of_rows(v, next_r - r, vecs, x + r, k, inner, w, bias,
                                         k + INNER >= layer.inputs, code, layer.slope)
    if layer.bend:
        bend_share(arena, plan, l, share)


cdef double output_row(real *g, const real *z, const real *y, Py_ssize_t label, real *v, Py_ssize_t n, int loss,
                       const Layer *layer, double scale) noexcept nogil:
    """Eq. 4 for one row of n outputs: g = scale * dloss/dz, and the row's loss.  z, v and g have room for n, padded."""
    cdef Py_ssize_t j, whole = padded(n, lanes(g))
    cdef double row_loss
    if loss == SQUARED_ERROR:
        if layer.code == FNN_IDENTITY:
            return squared_error_row(g, z, y, n, scale)
        activate_values(v, z, whole, layer.code, layer.slope)
        row_loss = squared_error_row(g, v, y, n, scale)
        factor_values(g, g, v, whole, layer.code, layer.slope)
        return row_loss
    if loss == BINARY_CROSS_ENTROPY:
        activate_values(v, z, whole, FNN_SIGMOID, 0)
        return matched_row(g, z, v, y, n, scale, False)
    if loss == POISSON:
        activate_values(v, z, whole, FNN_EXP, 0)
        return matched_row(g, z, v, y, n, scale, True)
    memcpy(v, z, <size_t>n * sizeof(real))
    for j in range(n, whole):
        v[j] = -INFINITY
    row_loss = softmax_row(v, whole)
    if y is not NULL:
        return cross_entropy_row(g, z, v, y, n, scale, row_loss)
    v[label] = v[label] - 1
    for j in range(n):
        g[j] = <real>scale * v[j]
    return row_loss - z[label]


cdef inline double capped(double row_loss, const real *z, const real *y, Py_ssize_t n, int loss,
                          double ceiling) noexcept nogil:
    """Eq. 4: a row's loss as it counts, each output's term for itself where they are losses of their own."""
    cdef Py_ssize_t j
    if not row_loss > ceiling:
        return row_loss
    if loss != BINARY_CROSS_ENTROPY:
        return ceiling
    row_loss = 0
    for j in range(n):
        row_loss += fmin(ceiling, fmax(z[j], 0) - <double>z[j] * y[j] + log1p(exp(-fabs(z[j]))))
    return row_loss


cdef double scale_of(const real *row_weights, const Job *job, const Py_ssize_t *order, Py_ssize_t rows) noexcept nogil:
    """What the summed loss of a batch's rows is multiplied by: for their mean 1 over what they weigh, 0 if nothing."""
    cdef Py_ssize_t r
    cdef double total = 0
    if not job.mean:
        return job.scale
    if row_weights is NULL:
        return 1.0 / rows
    for r in range(rows):
        total += row_weights[order[r]]
    return 1 / total if total else 0


cdef inline double counted(const Job *job, double scale, Py_ssize_t rows) noexcept nogil:
    """How often a batch's summed loss counts in that of the epoch: a weighted mean once for each of its rows."""
    return scale * rows if job.mean and job.row_weights is not NULL else 1


cdef void output_delta_rows(real *arena, const Plan *plan, const Job *job, int thread, const Py_ssize_t *order,
                            double scale, Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    """Eq. 4: the rows' losses and the output layer's g, behind its corner if it has one."""
    cdef const Layer *layer = &plan.layers[plan.n_layers - 1]
    cdef Share share
    loss_rows(arena, plan, job, thread, order, scale, begin, end)
    if layer.bend:
        share.begin, share.end, share.first, share.last = begin, end, 0, pieces(layer.outputs, 2 * plan.lanes)
        bend_back_share(arena, plan, plan.n_layers - 1, share)


cdef void loss_rows(real *arena, const Plan *plan, const Job *job, int thread, const Py_ssize_t *order, double scale,
                    Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    """Eq. 4: the rows' losses, and scale times their slope by what the output layer's v panels hold.  Rows of few outputs
    go together, one a lane of a vector, as one of them fills none; row by row training takes each as it is, the sooner."""
    cdef const Layer *layer = &plan.layers[plan.n_layers - 1]
    cdef Py_ssize_t r, group, n = layer.outputs, panel = 2 * plan.lanes, label = -1
    cdef real *v = arena + plan.row_buffers + thread * 3 * plan.row_buffer
    cdef real *z = v + plan.row_buffer
    cdef real *g = z + plan.row_buffer
    cdef const real *y = NULL
    cdef double row_loss, weight = 1
    if n <= plan.lanes and plan.rows > 1:
        for group in range(pieces(end - begin, plan.lanes)):
            r = begin + group * plan.lanes
            output_rows(arena + layer.g + r * panel, job.row_losses + r, arena + layer.v + r * panel, panel, job.y,
                        job.labels, order + r, job.row_weights, min(plan.lanes, end - r), n, job.loss, layer.code,
                        layer.slope, scale, job.ceiling)
        return
    for r in range(begin, end):
        if job.row_weights is not NULL:
            weight = (<const real *>job.row_weights)[order[r]]
        if job.labels is not NULL:
            label = job.labels[order[r]]
        else:
            y = <const real *>job.y + order[r] * n
        if n <= panel:  # a row is one piece of memory already
            z = arena + layer.v + r * panel
            g = arena + layer.g + r * panel
            row_loss = output_row(g, z, y, label, v, n, job.loss, layer, scale * weight)
        else:
            panels_to_row(z, arena + layer.v, plan.room, r, n)
            row_loss = output_row(g, z, y, label, v, n, job.loss, layer, scale * weight)
            rows_to_panels(arena + layer.g, plan.room, r, g, n)
        job.row_losses[r] = weight * capped(row_loss, z, y, n, job.loss, job.ceiling)


cdef void backward_share(real *arena, const Plan *plan, Py_ssize_t l, Share share, int thread) noexcept nogil:
    """Eq. 5 and 6 from layer l to the layer below, of which `share` is: g_below = (g W^T) * phi'.

    A layer that skips puts g W^T elsewhere first; on an activation that others read too the sum goes on (eq. 5a).
    """
    cdef const Layer *layer = &plan.layers[l]
    cdef const Layer *below = &plan.layers[l - 1]
    cdef Py_ssize_t vector = plan.lanes, panel = 2 * vector, room = plan.room * panel, vecs, k, inner, i, r, next_r
    cdef Py_ssize_t slab, p, tile, rows = share.end - share.begin, tiles = pieces(rows, FNN_ROWS)
    cdef Py_ssize_t last = pieces(layer.inputs, panel) if layer.skip else share.last
    cdef real *to = arena + (plan.input_delta if layer.skip else below.g)
    cdef bint goes_on = layer.gathers and not layer.skip
    cdef real *wt = arena + plan.block + thread * INNER * panel
    if rows == 0:
        return
    for slab in range(pieces(layer.outputs, INNER)):
        k = slab * INNER
        inner = min(INNER, layer.outputs - k)
        for p in range(share.first, last):
            i = p * panel
            vecs = vectors(layer.inputs - i, vector)
            transpose_block_of(wt, arena, plan, layer, i, k, k + inner)
            for tile in range(tiles):
                r = share.begin + rows * tile // tiles
                next_r = share.begin + rows * (tile + 1) // tiles
                backward_tile(
                    to + i * plan.room + r * panel, next_r - r, vecs,
                    arena + layer.g + k * plan.room + r * panel, room, inner, wt,
                    k == 0 and not goes_on, k + INNER >= layer.outputs and not layer.skip,
                    arena + layer.u + i * plan.room + r * panel, below.code, below.slope)
    if layer.skip:
        spread_share(arena, plan, l, share)
    if below.bend:
        bend_back_share(arena, plan, l - 1, share)


cdef inline fnn_rule rule_of(const fnn_rule *rule, const Layer *layer) noexcept nogil:
    """The rule with the layer's own rate."""
    cdef fnn_rule found = rule[0]
    found.rate = rule.rate * layer.rate_scale
    return found


cdef inline fnn_rule without_decay(const fnn_rule *rule) noexcept nogil:
    """The rule for biases, which the penalty leaves out."""
    cdef fnn_rule found = rule[0]
    found.decay = 0
    return found


cdef void gradient_share(real *arena, const Plan *plan, Py_ssize_t l, Rows span, const fnn_rule *rule, int thread,
                         int threads, const Job *job, const Chunk *next, const void **x) noexcept nogil:
    """Eq. 7 to 9 for this thread's tiles of one layer: the gradient over the rows `span`, and what `rule` makes of it.
    x: the input rows of the first layer where they lie, or NULL.

    The inputs are taken in blocks that stay in the second-level cache while all neurons pass by.  Meanwhile this thread's
    inputs of the `next` chunk, if there is one, come into the cache.
    """
    cdef const Layer *layer = &plan.layers[l]
    cdef Py_ssize_t vector = plan.lanes, panel = 2 * vector, vecs, i, o, p, q, tile, r, next_r, height, tiles, at
    cdef Py_ssize_t block, begin, end, width, k, matrix = plan.room * padded(layer.outputs, panel)
    cdef Fetch fetch
    cdef Py_ssize_t rows = span.end - span.begin
    cdef Py_ssize_t together = max(1, plan.block_bytes // (max(1, rows) * panel * <Py_ssize_t>sizeof(real)))
    cdef Py_ssize_t inner_panels = pieces(layer.inputs, panel)
    cdef Py_ssize_t panels = pieces(layer.outputs, panel), units = inner_panels * panels
    cdef Py_ssize_t first = units * thread // threads, last = units * (thread + 1) // threads
    cdef bint updates = rule.kind != FNN_STORE and rule.kind != FNN_ADD
    cdef fnn_rule own = rule_of(rule, layer), bias_rule = without_decay(&own)
    cdef real *state = arena + (plan.state if updates else plan.gradient)  # plain SGD has none and touches none
    cdef real *u = arena + layer.u + (0 if l else thread * plan.own_input) + span.begin * panel
    cdef real *g
    if layer.by_columns:  # the weights stay with the thread that reads them forward
        first, last = panels * thread // threads * inner_panels, panels * (thread + 1) // threads * inner_panels
    if next is not NULL:
        width = pieces(layer.inputs * <Py_ssize_t>sizeof(real), 64)
        fetch = fetch_of(plan, job, next, thread, width, (last - first) * pieces(panel, FNN_ROWS))
    for block in range(pieces(inner_panels, together)):
        for p in range(first // inner_panels, pieces(last, inner_panels)):
            begin = max(block * together, first - p * inner_panels)
            end = min(inner_panels, (block + 1) * together, last - p * inner_panels)
            o = p * panel
            vecs = vectors(layer.outputs - o, vector)
            g = arena + layer.g + o * plan.room + span.begin * panel
            for q in range(begin, end):
                i = q * panel
                height = min(panel, layer.inputs - i)
                tiles = pieces(height, FNN_ROWS)
                if updates and job.alpha:
                    at = layer.weights + o * layer.height + i * vecs * vector
                    job.squares[layer.units + p * inner_panels + q] = sum_of_squares(arena + at, height * vecs * vector)
                for tile in range(tiles):
                    if next is not NULL:
                        fetch_rows(&fetch, <const real *>job.x, job.order, layer.inputs, width)
                    r = height * tile // tiles
                    at = layer.weights + o * layer.height + (i + r) * vecs * vector
                    next_r = height * (tile + 1) // tiles
                    if x is NULL:
                        gradient_tile(arena + at, state + at, next_r - r, vecs, u + i * plan.room + r, g, rows, &own)
                    else:
                        gradient_tile_of_rows(arena + at, state + at, next_r - r, vecs, x, i + r, g, rows, &own)
                if i == 0:
                    at = layer.weights + o * layer.height + layer.inputs * vecs * vector
                    bias_tile(arena + at, state + at, vecs, g, rows, &bias_rule)
                    for k in range(layer.height - layer.inputs - 1):  # a corner's three rows, which are sums as well
                        at += vecs * vector
                        bias_tile(arena + at, state + at, vecs,
                                  arena + layer.bend + k * matrix + o * plan.room + span.begin * panel, rows, &bias_rule)


cdef void update_share(real *arena, const Plan *plan, const fnn_rule *rule, const Job *job, int thread) noexcept nogil:
    """Eq. 8 and 9 for this thread's share of the parameters, from the gradient of several chunks, or of two halves."""
    cdef Py_ssize_t vector = plan.lanes, panel = 2 * vector, l, i, o, unit, units, width, count, at, inner_panels
    cdef const Layer *layer
    cdef fnn_rule own, bias_rule
    cdef real *state = arena + (plan.state if job.train else plan.gradient)
    cdef real *gradient = arena + plan.gradient + plan.halves * plan.n_padded
    for l in range(plan.n_layers):
        layer = &plan.layers[l]
        own = rule_of(rule, layer)
        bias_rule = without_decay(&own)
        inner_panels = pieces(layer.inputs, panel)
        units = inner_panels * pieces(layer.outputs, panel)
        for unit in range(units * thread // job.threads, units * (thread + 1) // job.threads):
            i, o = unit % inner_panels * panel, unit // inner_panels * panel
            width = vector * vectors(layer.outputs - o, vector)
            count = min(panel, layer.inputs - i) * width
            at = layer.weights + o * layer.height + i * width
            if job.alpha:
                job.squares[layer.units + unit] = sum_of_squares(arena + at, count)
            update_values(arena + at, state + at, gradient + at, count, &own)
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

cdef bint poll(Job *job, Py_ssize_t rows_done) noexcept with gil:
    """Let Python handle signals and call the tick; True if either raised, which ends the epoch."""
    try:
        PyErr_CheckSignals()
        if job.tick is not NULL:
            (<object>job.tick)(rows_done)
    except BaseException as error:
        (<list>job.errors).append(error)
        return True
    return False


cdef inline void look_at_clock(Job *job, Py_ssize_t rows_done, double operations) noexcept nogil:
    """Count operations; poll when the clock says so."""
    cdef double now
    job.operations_left -= operations
    if job.operations_left <= 0:
        job.operations_left = OPERATIONS_BETWEEN_CLOCKS
        now = fnn_seconds()
        if now - job.last_tick >= TICK_SECONDS:
            job.last_tick = now
            job.stop = poll(job, rows_done)


cdef bint chunk_step(real *arena, const Plan *plan, Job *job, int thread, const Chunk *chunk, const fnn_rule *rule,
                     double scale) noexcept nogil:
    """One chunk, whose inputs have been gathered, through the sweep, as one of the team's threads; False if training is
    to stop before it.

    The threads meet where one needs what another has computed.  A layer is updated once all have met after reading its
    weights backward: as soon as that may be, while it is in cache.
    """
    cdef int threads = job.threads
    cdef Py_ssize_t rows = chunk.rows, l, r, to_update = plan.n_layers - 1
    cdef Chunk next = next_chunk(plan, job, chunk[0])
    cdef double times = counted(job, scale, chunk.batch_rows)
    cdef const void **x = rows_of(plan, thread)
    cdef Rows whole
    whole.begin, whole.end = 0, rows
    for l in range(plan.n_layers):
        if (plan.layers[l].by_columns or plan.layers[l - 1].by_columns) if l else (
                plan.layers[0].by_columns and not plan.own_input and x is NULL):
            fnn_meet(&job.meeting, threads)
        forward_share(arena, plan, l, share_of(plan, &plan.layers[l], rows, thread, threads), thread, NULL if l else x)
    if plan.layers[plan.n_layers - 1].by_columns:
        fnn_meet(&job.meeting, threads)
    output_delta_rows(arena, plan, job, thread, job.order + chunk.start, scale, rows * thread // threads,
                      rows * (thread + 1) // threads)
    if thread == 0:
        look_at_clock(job, chunk.start, rows * job.operations)
    for l in range(plan.n_layers - 1, -1, -1):
        # Eq. 5 needs all of g: its rows are this thread's own unless a layer shares out its neurons.
        if threads == 1 or l == 0 or plan.layers[l - 1].by_columns or (
                l < plan.n_layers - 1 and plan.layers[l].by_columns):
            fnn_meet(&job.meeting, threads)
            if job.stop:  # thread 0 writes it only between the last meeting and the first, so all read the same
                return False
            while to_update > l:
                gradient_share(arena, plan, to_update, whole, rule, thread, threads, job, NULL, NULL)
                to_update -= 1
        if l > 0:
            backward_share(arena, plan, l, share_of(plan, &plan.layers[l - 1], rows, thread, threads), thread)
    gradient_share(arena, plan, 0, whole, rule, thread, threads, job, &next, x)
    if thread == 0:
        for r in range(rows):
            job.total += times * job.row_losses[r]
    return True


cdef inline double next_t(double t) noexcept nogil:
    return (1 + sqrt(1 + 4 * t * t)) / 2


cdef inline fnn_rule rule_at(const Job *job, Py_ssize_t update, double t, double scale) noexcept nogil:
    """The rule of an update, counted from 1; t is FISTA's of before, `scale` what the batch's losses count with.

    Adam's rate makes up for moments that start at zero; FISTA repeats more and more of the moves so far.
    """
    cdef const fnn_rule *rule = &job.rule
    cdef fnn_rule found = rule[0]
    found.decay = job.alpha * scale
    if rule.kind == FNN_ADAM:
        found.rate = rule.rate * sqrt(1 - pow(rule.beta_2, update)) / (1 - pow(rule.momentum, update))
    if rule.kind == FNN_FISTA:
        found.momentum = (update > 1) if rule.fixed_nu else (t - 1) / next_t(t)
    return found


cdef void minibatch_epoch(real *arena, const Plan *plan, Job *job, int thread) noexcept nogil:
    """All batches, as one of the team's threads."""
    cdef Chunk chunk
    cdef fnn_rule step, rule
    cdef Py_ssize_t updates = job.updates
    cdef bint whole, last
    cdef double scale = 0, t = job.t
    chunk.start = chunk.rows = chunk.batch_start = chunk.batch_rows = 0
    chunk = next_chunk(plan, job, chunk)
    while chunk.rows:
        gather_rows(arena, plan, job, &chunk, thread)
        whole = job.train and chunk.batch_rows <= plan.rows
        last = chunk.start + chunk.rows == chunk.batch_start + chunk.batch_rows
        if chunk.start == chunk.batch_start:
            scale = scale_of(<const real *>job.row_weights, job, job.order + chunk.batch_start, chunk.batch_rows)
        step = rule_at(job, updates + 1, t, scale)
        rule = step
        rule.kind = step.kind if whole else FNN_STORE if chunk.start == chunk.batch_start else FNN_ADD
        if not chunk_step(arena, plan, job, thread, &chunk, &rule, scale):
            return
        fnn_meet(&job.meeting, job.threads)
        if job.train and not whole and last:
            update_share(arena, plan, &step, job, thread)
            fnn_meet(&job.meeting, job.threads)
        updates += last
        t = next_t(t) if last else t
        if thread == 0:
            job.updates = updates
            if last and job.alpha:  # before anybody's next update, for that waits for this thread's next meeting
                job.penalties += counted(job, scale, chunk.batch_rows) * penalty(plan, job)
        chunk = next_chunk(plan, job, chunk)


cdef double half_sweep(real *arena, const Plan *plan, Job *job, int thread, int half, const Chunk *batch,
                       const fnn_rule *rule, double scale) noexcept nogil:
    """One half of a batch through the sweep, in chunks that have half of the panels' rows to themselves, and its share of
    the epoch's loss.  rule: of the last of the gradient's sums, where the half is one chunk; else NULL."""
    cdef Py_ssize_t l, r, rows, start = batch.batch_start, end = start + batch.batch_rows
    cdef Py_ssize_t middle = start + (batch.batch_rows + 1) // 2
    cdef double total = 0
    cdef bint first = True
    cdef fnn_rule own
    cdef Plan own_plan = plan[0]
    cdef Share share
    cdef Rows span
    span.begin = half * ((plan.rows + 1) // 2)
    share.first = 0
    if half:
        start, own_plan.gradient = middle, plan.gradient + plan.n_padded
    else:
        end = middle
    memset(&own, 0, sizeof(own))
    own.kind = FNN_STORE
    while first or start < end:
        rows = min(end - start, (plan.rows + 1 - half) // 2)
        span.end = span.begin + rows
        share.begin, share.end = span.begin, span.end
        gather_at(arena, plan, job, start - span.begin, span, 0)
        for l in range(plan.n_layers):
            share.last = pieces(plan.layers[l].outputs, 2 * plan.lanes)
            forward_share(arena, plan, l, share, thread, NULL)
        output_delta_rows(arena, plan, job, thread, job.order + start - span.begin, scale, span.begin, span.end)
        for l in range(plan.n_layers - 1, -1, -1):
            if l > 0:
                share.last = pieces(plan.layers[l - 1].outputs, 2 * plan.lanes)
                backward_share(arena, plan, l, share, thread)
            gradient_share(arena, &own_plan, l, span, rule if rule is not NULL else &own, 0, 1, job, NULL, NULL)
        for r in range(span.begin, span.end):
            total += job.row_losses[r]
        own.kind, first = FNN_ADD, False
        start += rows
    return total


cdef void halved_epoch(real *arena, const Plan *plan, Job *job, int thread) noexcept nogil:
    """All batches, each as two halves that need nothing of each other until their gradients are added up: between two
    cores go no activations, only that sum and the weights.  One thread gets the same bits from both halves in turn."""
    cdef Chunk batch
    cdef fnn_rule step
    cdef Py_ssize_t updates = job.updates
    cdef double scale, t = job.t
    cdef int half
    cdef bint at_once, stop
    batch.batch_start = 0
    while batch.batch_start < job.n_rows:
        batch.batch_rows = min(job.batch_size, job.n_rows - batch.batch_start)
        scale = scale_of(<const real *>job.row_weights, job, job.order + batch.batch_start, batch.batch_rows)
        step = rule_at(job, updates + 1, t, scale)
        step.carried = plan.gradient - plan.state
        at_once = job.threads == 1 and job.train and batch.batch_rows <= plan.rows
        for half in range(2):
            if half % job.threads == thread:
                job.half_losses[half] = half_sweep(
                    arena, plan, job, thread, half, &batch, &step if at_once and half else NULL, scale)
        if thread == 0:
            look_at_clock(job, batch.batch_start + batch.batch_rows, batch.batch_rows * job.operations)
        fnn_meet(&job.meeting, job.threads)
        stop = job.stop  # thread 0 writes it between the last meeting and the first, so all read the same
        if thread == 0:
            job.total += counted(job, scale, batch.batch_rows) * (job.half_losses[0] + job.half_losses[1])
        if not at_once:
            if not job.train:
                step.kind, step.carried = FNN_ADD, 0
            update_share(arena, plan, &step, job, thread)
            fnn_meet(&job.meeting, job.threads)
        updates += 1
        t = next_t(t)
        if thread == 0:
            job.updates = updates
            if job.alpha:
                job.penalties += counted(job, scale, batch.batch_rows) * penalty(plan, job)
        if stop:
            return
        batch.batch_start += batch.batch_rows


cdef void updated_epoch(real *arena, const Plan *plan, Job *job) noexcept nogil:
    """Every sample in order, eq. 21 to 23, where layers skip: the last layer steps, the output is computed anew, and
    deltas go through weights that have stepped already."""
    cdef Py_ssize_t l, r, last = plan.n_layers - 1
    cdef double scale
    cdef Share row
    cdef Chunk chunk
    cdef const void **x = rows_of(plan, 0)
    cdef Rows one
    one.begin, one.end = 0, 1
    chunk.batch_rows, chunk.rows = 1, 1
    for r in range(job.n_rows):
        chunk.start = chunk.batch_start = r
        scale = scale_of(<const real *>job.row_weights, job, job.order + r, 1)
        gather_rows(arena, plan, job, &chunk, 0)
        for l in range(plan.n_layers):
            forward_share(arena, plan, l, share_of(plan, &plan.layers[l], 1, 0, 1), 0, x if l == 0 else NULL)
        row = share_of(plan, &plan.layers[last], 1, 0, 1)
        output_delta_rows(arena, plan, job, 0, job.order + r, scale, 0, 1)
        job.total += counted(job, scale, 1) * job.row_losses[0]
        gradient_share(arena, plan, last, one, &job.rule, 0, 1, job, NULL, NULL if last else x)
        forward_share(arena, plan, last, row, 0, NULL if last else x)
        output_delta_rows(arena, plan, job, 0, job.order + r, scale, 0, 1)
        for l in range(last, 0, -1):
            backward_share(arena, plan, l, share_of(plan, &plan.layers[l - 1], 1, 0, 1), 0)
            gradient_share(arena, plan, l - 1, one, &job.rule, 0, 1, job, NULL, x if l == 1 else NULL)
        look_at_clock(job, r + 1, job.operations)
        if job.stop:
            break


cdef void online_output(real *arena, const Plan *plan, Py_ssize_t l, Py_ssize_t *counts) noexcept nogil:
    """Eq. 1 and 2 for one sample and one layer above the first, from the inputs that are listed."""
    cdef const Layer *layer = &plan.layers[l]
    cdef Py_ssize_t vector = plan.lanes, panel = 2 * vector, p, o, vecs
    cdef real *w
    for p in range(pieces(layer.outputs, panel)):
        o = p * panel
        vecs = vectors(layer.outputs - o, vector)
        w = arena + layer.weights + o * (layer.inputs + 1)
        online_forward(
            arena + layer.v + o, vecs, w, w + layer.inputs * vecs * vector, arena + layer.u, plan.index + layer.index,
            counts[l], FNN_IDENTITY if l == plan.n_layers - 1 else layer.code, layer.slope)


cdef void online_back(real *arena, const Plan *plan, const Job *job, Py_ssize_t l, Py_ssize_t count,
                      double rate) noexcept nogil:
    """Eq. 5 to 9 for one sample and one layer above the first: its step, and the delta of the layer below."""
    cdef const Layer *layer = &plan.layers[l]
    cdef const Layer *under = &plan.layers[l - 1]
    cdef Py_ssize_t vector = plan.lanes, panel = 2 * vector, p, o, vecs
    cdef double limit = job.rule.saturation
    cdef real *g = arena + layer.g
    cdef real *u = arena + layer.u
    cdef real *below = NULL
    cdef real *w
    if layer.transposed:
        online_transposed(arena + under.g, arena + layer.transposed, layer.inputs, layer.outputs, u, g, rate, limit,
                          job.through_updated, under.code, under.slope)
    else:
        below = arena + under.g
        if layer.listed:  # an input that is not listed is a ReLU that is off
            memset(below, 0, <size_t>padded(layer.inputs, vector) * sizeof(real))
    online_backward(arena + layer.weights, layer.inputs, layer.outputs, u, plan.index + layer.index, count, g, rate,
                    limit, below, job.through_updated)
    if below is not NULL and not layer.listed:  # the factor of a listed ReLU is 1
        factor_values(below, below, u, padded(layer.inputs, vector), under.code, under.slope)
    for p in range(pieces(layer.outputs, panel)):
        o = p * panel
        vecs = vectors(layer.outputs - o, vector)
        w = arena + layer.weights + o * (layer.inputs + 1) + layer.inputs * vecs * vector
        online_bias(w, vecs, g + o, rate, limit)


cdef void online_upper(real *arena, const Plan *plan, Job *job, Py_ssize_t row, Py_ssize_t *counts) noexcept nogil:
    """One sample from the first layer's v forward, and back to its g; the weights of all layers above move at once.  A
    ReLU that is off contributes nothing forward and receives nothing backward (docs/backprop.md, online training)."""
    cdef Py_ssize_t vector = plan.lanes, l, last = plan.n_layers - 1
    cdef const Layer *layer
    cdef const Py_ssize_t *order = &row
    cdef double scale = 1.0 if job.mean else job.scale, times = 1
    for l in range(plan.n_layers):
        layer = &plan.layers[l]
        if l > 0:
            if layer.listed:
                counts[l] = list_nonzero(plan.index + layer.index, arena + layer.u, layer.inputs)
            online_output(arena, plan, l, counts)
        if layer.code == FNN_SIGMOID:  # sigmoid(0) is not 0, and the padding must be
            memset(arena + layer.v + layer.outputs, 0,
                   <size_t>(padded(layer.outputs, vector) - layer.outputs) * sizeof(real))
    if job.row_weights is not NULL:
        scale = scale_of(<const real *>job.row_weights, job, order, 1)
        times = counted(job, scale, 1)
    output_delta_rows(arena, plan, job, 0, order, scale, 0, 1)
    job.total += times * job.row_losses[0]
    if job.through_updated and last:  # eq. 21 and 22; the delta below is computed again, without a step
        online_back(arena, plan, job, last, counts[last], plan.layers[last].rate)
        online_output(arena, plan, last, counts)
        output_delta_rows(arena, plan, job, 0, order, scale, 0, 1)
    for l in range(last, 0, -1):
        online_back(arena, plan, job, l, counts[l], 0 if job.through_updated and l == last else plan.layers[l].rate)


cdef void online_first(real *arena, const Plan *plan, const Job *job, int thread, const real *u, const int32_t *listed,
                       Py_ssize_t n_listed, const real *before, const int32_t *fresh, Py_ssize_t n_fresh) noexcept nogil:
    """This thread's neurons of the first layer: the update (eq. 7 to 9) that the row `before` left to be done, then the
    row u forward (eq. 1 and 2), in one pass over the weights.

    `listed` are the inputs of `before` that are not zero, `fresh` those of u that are not among them.  Without a row
    before, `listed` are those of u; without u, only the update is done.
    """
    cdef const Layer *layer = &plan.layers[0]
    cdef Py_ssize_t vector = plan.lanes, panel = 2 * vector, panels = pieces(layer.outputs, panel), p, o, vecs
    cdef int code = FNN_IDENTITY if plan.n_layers == 1 else layer.code
    cdef double rate = layer.rate, limit = job.rule.saturation
    cdef real *w
    cdef real *bias
    cdef real *v
    cdef real *g
    for p in range(panels * thread // job.threads, panels * (thread + 1) // job.threads):
        o = p * panel
        vecs = vectors(layer.outputs - o, vector)
        w = arena + layer.weights + o * (layer.inputs + 1)
        bias = w + layer.inputs * vecs * vector
        v = arena + layer.v + o
        g = arena + layer.g + o
        if before is NULL:
            online_forward(v, vecs, w, bias, u, listed, n_listed, code, layer.slope)
            continue
        online_bias(bias, vecs, g, rate, limit)
        if u is NULL:
            online_backward(w, layer.inputs, min(panel, layer.outputs - o), before, listed, n_listed, g, rate, limit,
                            <real *>NULL, False)
        else:
            online_update_forward(v, vecs, w, bias, before, listed, n_listed, g, rate, limit, u, fresh, n_fresh, code,
                                  layer.slope)


cdef inline double narrow_row(real *arena, const Layer *layers, Py_ssize_t n_layers, const real *x, const real *y,
                              double scale, bint limited, double limit) noexcept nogil:
    """One sample forward and backward through layers of one vector each, and its loss."""
    cdef Py_ssize_t l, last = n_layers - 1
    cdef const Layer *layer
    cdef const Layer *below
    cdef real *to
    cdef const real *u = x
    cdef double loss = 0
    for l in range(last):
        layer = &layers[l]
        narrow_forward(arena + layer.v, arena + layer.weights, u, layer.inputs, layer.code, layer.slope)
        u = arena + layer.v
    for l in range(last, -1, -1):
        layer = &layers[l]
        below = &layers[l - 1 if l else 0]
        to = arena + below.g if l else NULL
        u = arena + layer.u if l else x
        if l == last:
            loss = narrow_turn(
                to, arena + layer.weights, arena + layer.transposed, u, layer.inputs, layer.outputs, layer.code,
                layer.slope, y, scale, layer.rate, limited, limit, below.code, below.slope)
        else:
            narrow_backward(to, arena + layer.weights, arena + layer.transposed, u, layer.inputs, arena + layer.g,
                            layer.outputs, layer.rate, limited, limit, below.code, below.slope)
    return loss


cdef void narrow_epoch(real *arena, const Plan *plan, Job *job) noexcept nogil:
    """Every sample in order, where every layer fits one vector and the loss is squared_error."""
    cdef Py_ssize_t r, done = 0, inputs = plan.layers[0].inputs, outputs = plan.layers[plan.n_layers - 1].outputs
    cdef Py_ssize_t piece = max(1, <Py_ssize_t>(OPERATIONS_BETWEEN_CLOCKS / job.operations))
    cdef const real *x = <const real *>job.x
    cdef const real *y = <const real *>job.y
    cdef double scale = 1.0 if job.mean else job.scale, limit = job.rule.saturation, total = 0
    while done < job.n_rows and not job.stop:
        piece = min(piece, job.n_rows - done)
        if limit == INFINITY:
            for r in range(done, done + piece):
                total += narrow_row(arena, plan.layers, plan.n_layers, x + job.order[r] * inputs,
                                    y + job.order[r] * outputs, scale, False, limit)
        else:
            for r in range(done, done + piece):
                total += narrow_row(arena, plan.layers, plan.n_layers, x + job.order[r] * inputs,
                                    y + job.order[r] * outputs, scale, True, limit)
        done += piece
        look_at_clock(job, done, piece * job.operations)
    job.total = total


cdef void online_epoch(real *arena, const Plan *plan, Job *job, Py_ssize_t *counts, int thread) noexcept nogil:
    """Every sample in order, as one of the team's threads: they share the first layer's neurons, thread 0 does the rest.

    The first layer's weights move when the next row comes: each is then read and written once for two rows.
    """
    cdef Py_ssize_t r, l, inputs = plan.layers[0].inputs, n_now = inputs, n_listed = 0, n_fresh = 0
    cdef bint chosen = plan.layers[0].listed
    cdef int32_t *listed = plan.index + 3 * thread * plan.list_room
    cdef int32_t *now = listed + plan.list_room
    cdef int32_t *fresh = now + plan.list_room
    cdef const real *before = NULL
    cdef const real *u = <const real *>job.x + job.order[0] * inputs
    if plan.narrow and job.loss == SQUARED_ERROR and job.row_weights is NULL and not job.through_updated:
        if thread == 0:
            narrow_epoch(arena, plan, job)
        return
    if thread == 0:
        for l in range(plan.n_layers):
            counts[l] = plan.layers[l].inputs
    n_listed = list_nonzero(listed, u, inputs) if chosen else inputs
    for r in range(job.n_rows):
        online_first(arena, plan, job, thread, u, listed, n_listed, before, fresh, n_fresh)
        if before is not NULL and chosen:
            n_listed = n_now
            listed, now = now, listed
        fnn_meet(&job.meeting, job.threads)
        if thread == 0:
            online_upper(arena, plan, job, job.order[r], counts)
            look_at_clock(job, r + 1, job.operations)
            fnn_meet(&job.meeting, job.threads)
        before = u
        if r + 1 < job.n_rows:
            u = <const real *>job.x + job.order[r + 1] * inputs
            if chosen:
                n_now = list_nonzero(now, u, inputs)
                n_fresh = list_fresh(fresh, u, before, inputs)
        if thread > 0:  # the lists are made while thread 0 is in the layers above
            fnn_meet(&job.meeting, job.threads)
        if job.stop:
            break
    online_first(arena, plan, job, thread, <const real *>NULL, listed, n_listed, before, fresh, 0)


# ---- Prediction --------------------------------------------------------------------------------------------------

cdef void output_values(real *out, real *z, Py_ssize_t n, int code, double slope) noexcept nogil:
    """Eq. 2 for one row of the last layer; z (n,) has room for whole vectors."""
    cdef Py_ssize_t j, whole = padded(n, lanes(z))
    if code == FNN_SOFTMAX:
        for j in range(n, whole):
            z[j] = -INFINITY
        softmax_row(z, whole)
        memcpy(out, z, <size_t>n * sizeof(real))
    else:
        activate_values(out, z, n, code, slope)


cdef void predict_few(real *out, const real *parameters, const real *x, Py_ssize_t rows, const double *table,
                      Py_ssize_t n_layers, real *scratch, Py_ssize_t room) noexcept nogil:
    """The outputs for some rows of x from the flat vector.  table: I, O, activation and slope of every layer."""
    cdef Py_ssize_t r, l, inputs, outputs
    cdef const real *w
    cdef const real *u
    cdef real *z
    for r in range(rows):
        w, u = parameters, x + r * <Py_ssize_t>table[0]
        for l in range(n_layers):
            inputs, outputs = <Py_ssize_t>table[4 * l], <Py_ssize_t>table[4 * l + 1]
            z = scratch + l % 2 * room
            flat_forward(z, w, u, inputs, outputs)
            if l == n_layers - 1:
                output_values(out + r * outputs, z, outputs, <int>table[4 * l + 2], table[4 * l + 3])
            else:
                activate_values(z, z, outputs, <int>table[4 * l + 2], table[4 * l + 3])
            w += (inputs + 1) * outputs
            u = z


cdef void predict_epoch(real *arena, const Plan *plan, Job *job, int thread) noexcept nogil:
    """The outputs for all rows, as one of the team's threads: each takes its own rows of every chunk."""
    cdef const Layer *layer = &plan.layers[plan.n_layers - 1]
    cdef Py_ssize_t l, r, rows, n = layer.outputs
    cdef real *z = arena + plan.row_buffers + thread * 3 * plan.row_buffer
    cdef real *out = <real *>job.out
    cdef Chunk chunk
    cdef Share share
    chunk.start = chunk.rows = chunk.batch_start = chunk.batch_rows = 0
    chunk = next_chunk(plan, job, chunk)
    rows = chunk.rows
    while chunk.rows:
        if chunk.rows != rows:  # shared out at other places: what is one thread's now was another's
            fnn_meet(&job.meeting, job.threads)
            rows = chunk.rows
        if not job.stop:  # threads may see it at different chunks; they all come to the same meetings
            gather_rows(arena, plan, job, &chunk, thread)
            for l in range(plan.n_layers):
                share = share_of(plan, &plan.layers[l], chunk.rows, thread, job.threads)
                forward_share(arena, plan, l, share, thread, NULL if l else rows_of(plan, thread))
            for r in range(share.begin, share.end):
                panels_to_row(z, arena + layer.v, plan.room, r, n)
                output_values(out + (chunk.start + r) * n, z, n, layer.code, layer.slope)
            if thread == 0:
                look_at_clock(job, chunk.start, chunk.rows * job.operations)
        chunk = next_chunk(plan, job, chunk)


# ---- The functions of _backprop_numpy.py, in its order -----------------------------------------------------------

cdef void _activate(real[::1] out, real[::1] z, Py_ssize_t width, int code, double slope):
    cdef Py_ssize_t r, vector = lanes(&z[0]), n = z.shape[0]
    cdef real[::1] row
    if code != FNN_SOFTMAX:
        activate_values(&out[0], &z[0], n, code, slope)
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


def forward(layout, parameters, x, bends=None):
    """Eq. 1 and 2 for every layer: [x, v_1, ..., v_(L-1), z_L].

    The last entry is the output layer's pre-activation, from which both the output and the loss are computed; of a
    corner it is v_L.  `bends` (L entries) takes the z of layers with a corner.
    """
    cdef Workspace work = Workspace(layout, parameters.dtype, len(x), 0, 1)
    work.load(parameters, INFINITY)
    layers = [np.ascontiguousarray(x)] + [np.empty((len(x), width), parameters.dtype) for width in layout.sizes[1:]]
    bent = [l for l in range(layout.n_layers) if layout.bends[l] and bends is not None]
    for l in bent:
        bends[l] = np.empty_like(layers[l + 1])
    for start in range(0, len(x), work.plan.rows):
        rows = slice(start, start + work.plan.rows)
        work.put("u", 0, layers[0][rows])
        work.forward(len(layers[0][rows]))
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
    if n <= vector and z.shape[0] > 1:
        for group in range(pieces(z.shape[0], vector)):
            r = group * vector
            output_rows(&g[r, 0], &row_losses[r], &z[r, 0], n, NULL if y is None else &y[0, 0],
                        NULL if labels is None else &labels[0], &order[r], NULL, min(vector, z.shape[0] - r), n, loss,
                        layer.code, layer.slope, scale, ceiling)
        return
    for r in range(z.shape[0]):
        padded_row[0, :n] = z[r]
        row_losses[r] = output_row(
            &padded_row[1, 0], &padded_row[0, 0], NULL if y is None else &y[r, 0], -1 if y is not None else labels[r],
            &padded_row[2, 0], n, loss, &work.plan.layers[work.plan.n_layers - 1], scale)
        row_losses[r] = capped(row_losses[r], &padded_row[0, 0], NULL if y is None else &y[r, 0], n, loss, ceiling)
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


def backward(layout, parameters, layers, g, bends=None):
    """Eq. 5 and 6: [g_1, ..., g_L], each (B, O), from the output layer's g (B, O) and the weights before the update.

    `bends`: what `forward` has put there; it takes the rows' shares in the gradient of the corners.
    """
    cdef Workspace work = Workspace(layout, parameters.dtype, len(g), 0, 1)
    work.load(parameters, INFINITY)
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
    cdef Workspace work = Workspace(layout, out.dtype, len(layers[0]), 0, 1, keep_gradient=True)
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


cdef class Workspace:
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
    threads : int
        Threads it may use; fewer are used where a step has too little work to share.
    keep_gradient : bool, default False
        Whether there is room for a gradient even where one chunk is a whole batch.
    halves : bool, optional
        Whether a batch goes through as two halves that a thread each may take; unless given, where that should save time.
        It changes the order of the gradient's sums, so it depends on nothing but the shape.
    """

    cdef Plan plan
    cdef object layout, arena, index, row_losses, squares, row_table
    cdef char *memory
    cdef bint single, online
    cdef public Py_ssize_t updates  # since the states were zero
    cdef readonly double penalties  # what they make of the sum that the last epoch returned
    cdef fnn_team *helpers
    cdef double paces[2]
    cdef Py_ssize_t choices  # between one thread and the team
    cdef readonly int used  # threads that did the last epoch
    cdef int asked_threads, most_threads, team
    cdef double gain  # seconds that the team should save at a step
    cdef readonly Py_ssize_t batch_size

    def __cinit__(self, layout, dtype, batch_size, states, threads, *, keep_gradient=False, halves=None):
        cdef Plan *plan = &self.plan
        cdef Layer *layer
        cdef Py_ssize_t l, at, inputs = 0, units = 0, vector, panel
        self.layout, self.batch_size = layout, batch_size
        self.online = batch_size == 1 and not states and not keep_gradient and layout.is_plain
        self.asked_threads, self.most_threads = threads, min(threads, FNN_MOST_THREADS)
        self.single = np.dtype(dtype) == np.float32
        vector = lanes(<float *>NULL) if self.single else lanes(<double *>NULL)
        panel = 2 * vector
        plan.narrow = (
            self.online and layout.sizes[0] <= FEW_INPUTS and max(layout.sizes[1:]) <= vector
            and FNN_SIGMOID not in [activation.code for activation in layout.activations])  # sigmoid(0) is not 0
        quick = CHUNK_SECONDS * OPERATIONS_A_SECOND * vector / layout.operations
        plan.n_layers, plan.lanes = layout.n_layers, vector
        plan.rows = min(batch_size, CHUNK_ROWS, max(FEWEST_ROWS, int(quick)))
        plan.block_bytes = second_level_cache() // 4
        plan.room = plan.rows
        if max(layout.sizes) > 4 * panel:
            plan.room = roomy(plan.rows, panel * (4 if self.single else 8))
        plan.layers = <Layer *>calloc(<size_t>plan.n_layers, sizeof(Layer))
        self.helpers = fnn_assemble()
        if plan.layers is NULL or self.helpers is NULL:
            raise MemoryError("workspace: no memory for the tables of layers and threads")
        at = 0
        for l in range(plan.n_layers):
            layer = &plan.layers[l]
            layer.inputs, layer.outputs = layout.shapes[l]
            layer.height = (layout.offsets[l + 1] - layout.offsets[l]) // layer.outputs
            layer.code, layer.slope = layout.activations[l].code, layout.activations[l].slope
            if layout.bends[l]:
                layer.code = FNN_IDENTITY  # `bend_share` does the rest
            layer.weights, layer.index, layer.units = at, inputs, units
            units += pieces(layer.inputs, panel) * pieces(layer.outputs, panel)
            layer.rate_scale = layout.rate_scales[l]
            layer.skip, layer.concat = layout.skips[l].distance, layout.skips[l].mode == "concat"
            layer.gathers = l in layout.skipped_to
            layer.heads = all(l - layer.skip != m - layout.skips[m].distance for m in range(l + 1, layout.n_layers))
            layer.listed = layer.inputs > FEW_INPUTS and (l == 0 or plan.layers[l - 1].code == FNN_RELU)
            at += layer.height * padded(layer.outputs, vector)
            if l == 0:
                plan.list_room = padded(layer.inputs, 16) + 16  # a vector is stored where the last number goes
                inputs = 3 * self.most_threads * plan.list_room
            else:
                inputs += padded(layer.inputs, 16) + 16
        plan.n_padded = at
        if states:
            plan.state = at
            at += states * plan.n_padded
        plan.halves = self._halving_pays() if halves is None else halves
        for l in range(plan.n_layers):
            plan.layers[l].by_columns = False
        if keep_gradient or batch_size > plan.rows or plan.halves:
            plan.gradient = at
            at += plan.n_padded * (1 + plan.halves)
        plan.layers[0].u = at
        # All that is kept of a batch is at most three times its activations, the inputs among them.
        plan.input_copies = max(1, min(threads, (sum(layout.sizes) + 2 * layout.sizes[0]) // layout.sizes[0]))
        at += plan.input_copies * plan.room * padded(layout.sizes[0], panel)
        for l in range(plan.n_layers):
            layer = &plan.layers[l]
            if l > 0:
                layer.u = plan.layers[l - 1].v
                if layer.skip:
                    layer.u = at
                    at += plan.room * padded(layer.inputs, panel)
                if self.online and layer.outputs <= panel:
                    layer.transposed = at
                    at += padded(layer.inputs, vector) * padded(layer.outputs, vector)
            layer.v = at
            layer.g = at + plan.room * padded(layer.outputs, panel)
            at += 2 * plan.room * padded(layer.outputs, panel)
            if layout.bends[l]:
                layer.bend = at
                at += 3 * plan.room * padded(layer.outputs, panel)
        if layout.has_skips:
            plan.input_delta = at
            at += plan.room * max(padded(layout.shapes[l][0], panel) for l in range(plan.n_layers) if layout.skips[l][0])
        plan.row_buffers, plan.row_buffer = at, padded(layout.sizes[-1], panel)
        at += 3 * plan.row_buffer * self.most_threads
        plan.block = at
        if plan.n_layers > 1:
            at += INNER * panel * self.most_threads
        self._reserve(at)
        self._leave_inputs_where_they_are()
        self.threads = self._best_team()
        self.gain = self._seconds(1) - self._seconds(self.team)

    def _halving_pays(self):
        """Whether two threads should be the faster with a half of each batch, and there is room for a second gradient.

        Nothing but the shape decides, so that every number of threads takes the sums in the same order.
        """
        sizes = self.layout.sizes
        room = self.plan.rows * (sum(sizes) + sizes[0])  # three batches of activations hold this beside what is kept
        if self.online or self.layout.has_skips or not FEWEST_ROWS <= self.batch_size <= MOST_HALVED:
            return False
        if 4 * self.plan.n_padded > room:  # to write and read the gradients would cost one thread more than two save
            return False
        return self._halved_seconds(2) < HALVING_GAIN * min(self._seconds(1), self._seconds(2))

    cdef double _halved_seconds(self, int team):
        """Estimate the time of a step of all rows, as two halves: half of the gradient and of the weights cross cores."""
        cdef Layer *layer
        cdef Py_ssize_t l
        cdef double alone = 0, crossing
        for l in range(self.plan.n_layers):
            layer = &self.plan.layers[l]
            alone += (6.0 if l else 4.0) * layer.inputs * layer.outputs
        alone *= self.plan.rows / (OPERATIONS_A_SECOND * self.plan.lanes)
        crossing = <double>self.plan.n_padded * (4 if self.single else 8) * self.plan.rows / self.batch_size
        return alone if team == 1 else alone / 2 + crossing / BYTES_A_SECOND + 2 * SECONDS_TO_MEET

    cdef double _seconds(self, int team) except -1:
        """Estimate the time of a step of all rows, and choose what the threads share of each layer."""
        if self.online:
            return self._online_seconds(team)
        if self.plan.halves:
            return self._halved_seconds(team)
        cdef Plan *plan = &self.plan
        cdef Layer *layer
        cdef Py_ssize_t l, panels, width = 4 if self.single else 8
        cdef double total = 0, others = (team - 1.0) / team, alone, rows, columns, weights, meet
        for l in range(plan.n_layers):
            layer = &plan.layers[l]
            panels = pieces(layer.outputs, 2 * plan.lanes)
            alone = (6.0 if l else 4.0) * layer.inputs * layer.outputs * plan.rows / (OPERATIONS_A_SECOND * plan.lanes)
            weights = others * (2.0 if l else 1.0) * layer.inputs * layer.outputs
            values = others * plan.rows * ((2.0 if l else 0.0) * layer.inputs + layer.outputs)
            rows = alone / team + width * (weights + values) / BYTES_A_SECOND
            columns = (alone * pieces(panels, team) / panels + width * values / BYTES_A_SECOND + 2 * SECONDS_TO_MEET)
            layer.by_columns = team > 1 and columns < rows and not plan.input_delta
            total += (columns if layer.by_columns else rows) if team > 1 else alone
        return total + 2 * SECONDS_TO_MEET * (team > 1)

    cdef double _online_seconds(self, int team):
        """Estimate the time of a row in the first layer, which is all that the threads share."""
        cdef Layer *layer = &self.plan.layers[0]
        cdef Py_ssize_t panels = pieces(layer.outputs, 2 * self.plan.lanes)
        cdef double weights = (4 if self.single else 8) * (layer.inputs + 1) * layer.outputs
        return 2 * weights * pieces(panels, team) / panels / ONLINE_BYTES_A_SECOND + 5 * SECONDS_TO_MEET * (team > 1)

    cdef bint better_alone(self, Py_ssize_t rows):
        """Whether to leave a short epoch to one thread, because that was faster lately: another program, or a library's
        spinning threads, may have taken the other cores.  Whichever way is slower is tried again now and then."""
        cdef bint alone = 0 < self.paces[0] < self.paces[1]
        cdef double best = self.paces[0] if alone else self.paces[1]
        if self.gain == INFINITY or best == 0 or best * rows > SHORT_EPOCH:
            return False
        self.choices += 1
        return alone != (self.choices % CHOICES == 1)

    cdef void note_pace(self, bint helped, double seconds):
        """Remember how long a row took; a hiccup counts little."""
        self.paces[helped] = min(seconds, 1.1 * self.paces[helped]) if self.paces[helped] else seconds

    def _best_team(self):
        """Number of threads with which a step should take the least time; any number gives the same result."""
        best, least = 1, float("inf")
        for team in range(1, self.most_threads + 1):
            seconds = self._seconds(team)
            if seconds < least:
                best, least = team, seconds
        return best

    def _reserve(self, Py_ssize_t numbers):
        """Allocate the arena, its start on a cache line, and the lists."""
        cdef unsigned char[::1] raw
        cdef int32_t[::1] index
        self.arena = np.zeros(numbers * (4 if self.single else 8) + 64, np.uint8)
        raw = self.arena
        self.memory = <char *>&raw[0] + (-<uintptr_t>&raw[0]) % 64
        lists = [np.arange(padded(width, 16) + 16, dtype=np.int32) for width in self.layout.sizes[:-1]]
        self.index = np.concatenate(lists[:1] * (3 * self.most_threads) + lists[1:])
        index = self.index
        self.plan.index = &index[0]
        self.row_losses = np.zeros(self.plan.rows)

    def _leave_inputs_where_they_are(self):
        """Read the inputs of small batches in x itself, unless a skip joins them or so many rows lie a multiple of 4 KiB
        apart that they would push each other out of the first-level cache."""
        cdef Plan *plan = &self.plan
        cdef Py_ssize_t[::1] table
        in_a_set = plan.rows * gcd(plan.layers[0].inputs * (4 if self.single else 8), 4096) / 4096
        if not plan.input_delta and not plan.halves and plan.rows <= MOST_LEFT and in_a_set <= LINES_OF_A_SET:
            self.row_table = np.zeros(plan.rows * self.most_threads, np.intp)
            table = self.row_table
            plan.row_table = <const void **>&table[0]

    def __dealloc__(self):
        free(self.plan.layers)
        fnn_dismiss(self.helpers)

    @property
    def threads(self):
        """Threads in use; may be set from 1 to those that were asked for; one where the compiler has no others."""
        return self.team

    @threads.setter
    def threads(self, int count):
        if not 1 <= count <= self.asked_threads:
            raise ValueError(f"threads: expected 1 to {self.asked_threads}, got {count}")
        self.team = min(count, self.most_threads)
        self._seconds(self.team)
        self.gain = INFINITY  # whoever sets it wants it
        self._place_inputs()

    @property
    def pace(self):
        """Seconds that a row took lately, by one thread and by the team; 0 where not known.  May be set to compare."""
        return self.paces[0], self.paces[1]

    @pace.setter
    def pace(self, seconds):
        self.paces[0], self.paces[1] = seconds

    @property
    def halves(self):
        """Whether a batch goes through as two halves."""
        return bool(self.plan.halves)

    @property
    def by_columns(self):
        """Of each layer, whether the threads share its neurons; else they share the batch's rows.  `threads` sets it to
        what should take the least time; it may be set to compare.  With skips they always share rows: what a skip joins
        and spreads is then each thread's own."""
        return [bool(self.plan.layers[l].by_columns) for l in range(self.plan.n_layers)]

    @by_columns.setter
    def by_columns(self, chosen):
        if self.plan.input_delta and any(chosen):
            raise ValueError("by_columns: a network with skips shares rows only")
        for l in range(self.plan.n_layers):
            self.plan.layers[l].by_columns = chosen[l]
        self._place_inputs()

    def _place_inputs(self):
        """Give each thread inputs of its own where that is possible and worth it."""
        cdef Plan *plan = &self.plan
        plan.own_input = 0
        if plan.layers[0].by_columns and self.team <= plan.input_copies:
            plan.own_input = plan.room * padded(plan.layers[0].inputs, 2 * plan.lanes)

    def load(self, parameters, double saturation):
        """Copy the parameters (P,) in, brought inside the saturation limit."""
        if self.single:
            _copy_parameters[float](self, parameters, True, saturation)
        else:
            _copy_parameters[double](self, parameters, True, saturation)

    def store(self, parameters):
        """Copy the working parameters out to `parameters` (P,)."""
        if self.single:
            _copy_parameters[float](self, parameters, False, INFINITY)
        else:
            _copy_parameters[double](self, parameters, False, INFINITY)

    def load_state(self, state):
        """Copy the optimiser's state in: `states` vectors (P,), one after the other."""
        _copy_state(self, np.ascontiguousarray(state), True)

    def store_state(self, state):
        """Copy the optimiser's state out to `state` (states * P,)."""
        _copy_state(self, state, False)

    def is_finite(self):
        """Whether no working parameter is NaN or infinite."""
        if self.single:
            return all_finite(<float *>self.memory, self.plan.n_padded)
        return all_finite(<double *>self.memory, self.plan.n_padded)

    cdef void refresh_transposed(self):
        """Bring what online training keeps beside the weights up to them."""
        if self.single:
            transpose_small(<float *>self.memory, &self.plan)
        else:
            transpose_small(<double *>self.memory, &self.plan)

    def put(self, str which, Py_ssize_t l, values, Py_ssize_t number=0):
        """Copy rows (B, width) into the panels of layer l's input "u", output "v", delta "g", or a matrix of "bend"."""
        _panels(self, which, l, np.ascontiguousarray(values), True, number)

    def put_layers(self, layers, rows):
        """Copy some rows of [x, v_1, ..., v_(L-1)] into the panels that layers read, and join what some of them read."""
        cdef Py_ssize_t l
        cdef Share share
        self.put("u", 0, layers[0][rows])
        for l in range(1, self.plan.n_layers):
            self.put("v", l - 1, layers[l][rows])
            share = share_of(&self.plan, &self.plan.layers[l], len(layers[0][rows]), 0, 1)
            if self.plan.layers[l].skip and self.single:
                join_share(<float *>self.memory, &self.plan, l, share)
            elif self.plan.layers[l].skip:
                join_share(<double *>self.memory, &self.plan, l, share)

    def take(self, str which, Py_ssize_t l, values, Py_ssize_t number=0):
        """Copy rows out of the panels of layer l's output "v", delta "g" or matrix `number` of "bend" into `values`."""
        _panels(self, which, l, values, False, number)

    def forward(self, Py_ssize_t rows):
        """Run the forward kernels on the first `rows` rows."""
        cdef Py_ssize_t l
        for l in range(self.plan.n_layers):
            share = share_of(&self.plan, &self.plan.layers[l], rows, 0, 1)
            if self.single:
                forward_share(<float *>self.memory, &self.plan, l, share, 0, NULL)
            else:
                forward_share(<double *>self.memory, &self.plan, l, share, 0, NULL)

    def backward(self, Py_ssize_t rows):
        """Run the backward kernels on the first `rows` rows."""
        cdef Py_ssize_t l, last = self.plan.n_layers - 1
        if self.plan.layers[last].bend:
            share = share_of(&self.plan, &self.plan.layers[last], rows, 0, 1)
            if self.single:
                bend_back_share(<float *>self.memory, &self.plan, last, share)
            else:
                bend_back_share(<double *>self.memory, &self.plan, last, share)
        for l in range(self.plan.n_layers - 1, 0, -1):
            share = share_of(&self.plan, &self.plan.layers[l - 1], rows, 0, 1)
            if self.single:
                backward_share(<float *>self.memory, &self.plan, l, share, 0)
            else:
                backward_share(<double *>self.memory, &self.plan, l, share, 0)

    def add_gradient(self, Py_ssize_t rows, bint first):
        """Put the gradient over the first `rows` rows in the place of the gradient, or add it there."""
        cdef Py_ssize_t l
        cdef fnn_rule rule
        cdef Rows span
        memset(&rule, 0, sizeof(rule))
        span.begin, span.end = 0, rows
        rule.kind = FNN_STORE if first else FNN_ADD
        for l in range(self.plan.n_layers):
            if self.single:
                gradient_share(<float *>self.memory, &self.plan, l, span, &rule, 0, 1, NULL, NULL, NULL)
            else:
                gradient_share(<double *>self.memory, &self.plan, l, span, &rule, 0, 1, NULL, NULL, NULL)

    def store_gradient(self, out):
        """Copy the gradient out to `out` (P,)."""
        if self.single:
            _copy_gradient[float](self, out)
        else:
            _copy_gradient[double](self, out)


cdef void _copy_parameters(Workspace work, real[::1] flat, bint into, double limit):
    cdef real *arena = <real *>work.memory
    with nogil:
        copy_parameters(&flat[0], arena, &work.plan, into)
        if into:
            limit_values(arena, work.plan.n_padded, limit)
            transpose_small(arena, &work.plan)


def _copy_state(Workspace work, state, bint into):
    cdef Py_ssize_t n = work.layout.n_parameters, at
    cdef float[::1] singles
    cdef double[::1] doubles
    for which in range(len(state) // n):
        at = work.plan.state + which * work.plan.n_padded
        if work.single:
            singles = state[which * n:(which + 1) * n]
            copy_parameters(&singles[0], <float *>work.memory + at, &work.plan, into)
        else:
            doubles = state[which * n:(which + 1) * n]
            copy_parameters(&doubles[0], <double *>work.memory + at, &work.plan, into)


cdef void _copy_gradient(Workspace work, real[::1] out):
    copy_parameters(&out[0], <real *>work.memory + work.plan.gradient, &work.plan, False)


def _panels(Workspace work, str which, Py_ssize_t l, values, bint into, Py_ssize_t number):
    cdef Layer *layer = &work.plan.layers[l]
    cdef Py_ssize_t r, at = layer.u if which == "u" else layer.g if which == "g" else layer.v
    if which == "bend":
        at = layer.bend + number * work.plan.room * padded(layer.outputs, 2 * work.plan.lanes)
    cdef float[:, ::1] singles
    cdef double[:, ::1] doubles
    if work.single:
        singles = values
        for r in range(singles.shape[0]):
            if into:
                rows_to_panels(<float *>work.memory + at, work.plan.room, r, &singles[r, 0], singles.shape[1])
            else:
                panels_to_row(&singles[r, 0], <float *>work.memory + at, work.plan.room, r, singles.shape[1])
    else:
        doubles = values
        for r in range(doubles.shape[0]):
            if into:
                rows_to_panels(<double *>work.memory + at, work.plan.room, r, &doubles[r, 0], doubles.shape[1])
            else:
                panels_to_row(&doubles[r, 0], <double *>work.memory + at, work.plan.room, r, doubles.shape[1])


cdef struct Task:  # an epoch, as each thread of the team sees it
    char *memory
    const Plan *plan
    Job *job
    Py_ssize_t *counts
    bint single, online, predicts


cdef void take_part(const void *epoch, int thread) noexcept nogil:
    """Do this thread's share of an epoch."""
    cdef const Task *task = <const Task *>epoch
    if task.predicts and task.single:
        predict_epoch(<float *>task.memory, task.plan, task.job, thread)
    elif task.predicts:
        predict_epoch(<double *>task.memory, task.plan, task.job, thread)
    elif task.online and task.single:
        online_epoch(<float *>task.memory, task.plan, task.job, task.counts, thread)
    elif task.online:
        online_epoch(<double *>task.memory, task.plan, task.job, task.counts, thread)
    elif task.job.through_updated and task.single:
        updated_epoch(<float *>task.memory, task.plan, task.job)
    elif task.job.through_updated:
        updated_epoch(<double *>task.memory, task.plan, task.job)
    elif task.plan.halves and task.single:
        halved_epoch(<float *>task.memory, task.plan, task.job, thread)
    elif task.plan.halves:
        halved_epoch(<double *>task.memory, task.plan, task.job, thread)
    elif task.single:
        minibatch_epoch(<float *>task.memory, task.plan, task.job, thread)
    else:
        minibatch_epoch(<double *>task.memory, task.plan, task.job, thread)


cdef class Epoch:
    """One run over the rows by the workspace's team of threads."""

    cdef Workspace work
    cdef Job job
    cdef bint online, predicts
    cdef Py_ssize_t[::1] counts
    cdef object x, y, order, tick, errors, weights

    cdef penalise(self, double alpha):
        """Add a penalty to every batch's loss."""
        cdef double[::1] squares
        if self.work.squares is None:
            panel = 2 * self.work.plan.lanes
            shapes = self.work.layout.shapes
            self.work.squares = np.zeros(sum(pieces(i, panel) * pieces(o, panel) for i, o in shapes))
        squares = self.work.squares
        self.job.alpha, self.job.squares = alpha, &squares[0]

    cdef double run(self) except? -1:
        """Work with the team, and return the sum of the rows' losses; raise what ended the epoch."""
        cdef Job *job = &self.job
        cdef Task task
        task.memory, task.plan, task.job, task.counts = self.work.memory, &self.work.plan, job, &self.counts[0]
        task.single, task.online, task.predicts = self.work.single, self.online, self.predicts
        if job.threads > 1 and self.work.better_alone(job.n_rows):
            job.threads = 1
        cdef double begin = fnn_seconds()
        with nogil:
            # Where no more threads are to be had those that started do the work, with the same result.
            job.threads = fnn_muster(self.work.helpers, job.threads)
            fnn_work(self.work.helpers, job.threads, take_part, &task)
        self.work.used = job.threads
        self.work.note_pace(job.threads > 1, (fnn_seconds() - begin) / job.n_rows)
        if self.errors:
            raise self.errors[0]
        return job.total


cdef void _point(Job *job, const real[:, ::1] x, const real[:, ::1] y, real[:, ::1] out=None,
                 const real[::1] weights=None):
    """Point the job at the data; the views check type and contiguity."""
    job.x = &x[0, 0]
    if weights is not None:
        job.row_weights = &weights[0]
    if out is not None:
        job.out = &out[0, 0]
    if y is not None:
        job.y = &y[0, 0]


cdef Epoch new_epoch(Workspace work, x, y, order, loss, double scale, bint mean, bint train, tick, weights=None):
    cdef Epoch epoch = Epoch.__new__(Epoch)
    cdef Job *job = &epoch.job
    cdef const Py_ssize_t[::1] rows = order
    cdef const Py_ssize_t[::1] labels
    cdef double[::1] row_losses = work.row_losses
    memset(job, 0, sizeof(Job))
    if x.shape[1] != work.layout.sizes[0] or (y.ndim == 2 and y.shape[1] != work.layout.sizes[-1]):
        raise ValueError(f"x, y: expected {work.layout.sizes[0]} and {work.layout.sizes[-1]} columns, "
                         f"got shapes {x.shape} and {y.shape}")
    if weights is not None and len(weights) != len(x):
        raise ValueError(f"weights: expected {len(x)}, as many as x has rows, got {len(weights)}")
    epoch.work, epoch.x, epoch.y, epoch.order, epoch.tick, epoch.errors = work, x, y, order, tick, []
    epoch.weights = weights
    epoch.counts = np.zeros(work.plan.n_layers, np.intp)
    if work.single:
        _point[float](job, x, None if y.ndim == 1 else y, None, weights)
    else:
        _point[double](job, x, None if y.ndim == 1 else y, None, weights)
    if y.ndim == 1:
        labels = y
        job.labels = &labels[0]
    job.order, job.n_rows, job.batch_size = &rows[0], rows.shape[0], work.batch_size
    job.loss, job.ceiling, job.mean, job.train, job.scale = loss.code, loss.ceiling, mean, train, scale
    job.row_losses = &row_losses[0]
    job.threads, job.operations = work.team, work.layout.operations
    if work.gain * pieces(job.n_rows, work.plan.rows) < SECONDS_TO_START:
        job.threads = 1
    job.last_tick, job.operations_left = fnn_seconds(), OPERATIONS_BETWEEN_CLOCKS
    job.tick = NULL if tick is None else <void *>tick
    job.errors = <void *>epoch.errors
    return epoch


cdef void _predict_few(real[:, ::1] out, const real[::1] parameters, const real[:, ::1] x, const double[:, ::1] layers,
                       real[::1] scratch):
    predict_few(&out[0, 0], &parameters[0], &x[0, 0], x.shape[0], &layers[0, 0], layers.shape[0], &scratch[0],
                scratch.shape[0] // 2)


def predict(layout, parameters, x, threads):
    """The outputs (N, O) for the rows of x (N, I): the same bits for a row whatever other rows are predicted with it."""
    cdef Workspace work
    cdef Epoch epoch
    cdef Py_ssize_t n = len(x)
    sizes = layout.sizes
    out = np.empty((n, sizes[-1]), parameters.dtype)
    if layout.is_plain and (n <= FEW_PREDICTED or n * <double>layout.operations < FEW_OPERATIONS):
        scratch = np.empty(2 * (layout.widest + 16), parameters.dtype)
        if parameters.dtype == np.float32:
            _predict_few[float](out, parameters, x, layout.table, scratch)
        else:
            _predict_few[double](out, parameters, x, layout.table, scratch)
        return out
    work = Workspace(layout, parameters.dtype, min(n, CHUNK_ROWS), 0, threads, halves=False)
    work.by_columns = [False] * layout.n_layers  # each thread its own rows: nobody waits for anybody
    work.load(parameters, INFINITY)
    epoch = new_epoch(work, x, out, np.arange(n), LOSSES["squared_error"], 1.0, False, False, None)
    if work.single:
        _point[float](&epoch.job, x, None, out)
    else:
        _point[double](&epoch.job, x, None, out)
    epoch.predicts = True
    epoch.run()
    return out


def loss_and_gradient(layout, parameters, x, y, loss, scale, threads, weights=None):
    """The rows' summed loss times `scale`, and its gradient (P,).

    x (N, I), y (N, O) or (N,) class labels; `weights` (N,) that the rows count with, each 1 without them.
    """
    work = Workspace(layout, parameters.dtype, len(x), 0, threads, keep_gradient=True)
    work.load(parameters, INFINITY)
    out = np.empty_like(parameters)
    total = new_epoch(work, x, y, np.arange(len(x)), loss, scale, False, False, None, weights).run()
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
