# Products that skip zeros (`_sparse.h`): those of wide layers, of inputs that have zeros or come from a ReLU and of
# deltas that go back through one, in batches of many rows.  Each thread lists what it needs itself, as many terms at a
# time as a list holds.  Whatever is not sparse enough, and the panels that make no FNN_QUAD, are left to the tiles:
# each of the products below returns how many panels of its share it has done.

cdef double MOST_LISTED = 0.65  # of the terms of some rows: with more of them tiles may take less time
cdef double FEW_LISTED = 0.25  # of the data, where rows of weights are shorter than LISTED_BYTES
cdef enum:
    LISTED_BYTES = 2048  # of a row of the other matrix, at least: lists for fewer, and for half of them, do not pay
    LISTED_INPUTS = 256  # whose gradient is summed together where there is room: each time all of g passes by
    LEAST_LISTED = 32  # rows: of fewer a list is used too seldom
    PROBED = 8  # rows that are listed first, to see whether there are zeros enough
    COUNTED = 32  # rows of the data whose zeros are counted before an epoch


cdef bint has_zeros(const real *x, const Py_ssize_t *order, Py_ssize_t rows, const Layer *layer) noexcept nogil:
    """Whether of the first rows of x (N, I), in an epoch's order, so few numbers are not zero that lists pay in this
    layer, the first."""
    cdef Py_ssize_t r, i, count = 0, inputs = layer.inputs
    cdef bint wide = layer.outputs * <Py_ssize_t>sizeof(real) >= LISTED_BYTES
    rows = min(rows, COUNTED)
    for r in range(rows):
        for i in range(inputs):
            count += x[order[r] * inputs + i] != 0
    return count <= (MOST_LISTED if wide else FEW_LISTED) * rows * inputs


cdef inline Py_ssize_t listed_terms(const Plan *plan) noexcept nogil:
    """Numbers that a thread's lists have room for: a vector is stored where the last number goes."""
    return plan.list_rows * FNN_TERMS + 16


cdef inline Py_ssize_t block_numbers(const Plan *plan) noexcept nogil:
    """Numbers behind a thread's lists: a row of FNN_QUAD panels for each, and a panel of FNN_TERMS rows."""
    return 2 * plan.lanes * (FNN_QUAD * plan.list_rows + FNN_TERMS)


cdef Py_ssize_t list_numbers(const Plan *plan, Py_ssize_t width) noexcept nogil:
    """Numbers of `width` bytes, a multiple of 16 of them, that a thread needs to multiply by lists."""
    cdef Py_ssize_t terms = listed_terms(plan)
    return padded(terms + pieces(4 * (terms + plan.list_rows), width) + block_numbers(plan), 16)


cdef fnn_lists lists_of(real *arena, const Plan *plan, int thread, Py_ssize_t first, Py_ssize_t rows) noexcept nogil:
    """So many of a thread's lists, from the list `first` on."""
    cdef fnn_lists lists
    cdef real *values = arena + plan.lists + thread * plan.lists_room
    cdef uint32_t *places = <uint32_t *>(values + listed_terms(plan))
    lists.values, lists.places = values + first * FNN_TERMS, places + first * FNN_TERMS
    lists.ends = <int32_t *>(places + listed_terms(plan)) + first
    lists.rows = rows
    return lists


cdef real *block_of(real *arena, const Plan *plan, int thread) noexcept nogil:
    """A thread's room behind its lists, which ends where the next thread's lists start."""
    return arena + plan.lists + (thread + 1) * plan.lists_room - block_numbers(plan)


cdef inline Py_ssize_t quads_of(const Plan *plan, Py_ssize_t first, Py_ssize_t last, Py_ssize_t columns) noexcept nogil:
    """How many times FNN_QUAD panels of two vectors there are among the panels [first, last) of so many columns."""
    return max(0, min(last, (columns + plan.lanes - 1) // (2 * plan.lanes)) - first) // FNN_QUAD


cdef inline bint is_sparse(const fnn_lists *lists, Py_ssize_t rows, Py_ssize_t terms) noexcept nogil:
    """Whether of the terms of the first rows so few are listed that lists pay."""
    return lists.ends[rows - 1] <= MOST_LISTED * rows * terms


cdef bint list_sparse(const fnn_lists *lists, real *rows, Py_ssize_t room, Py_ssize_t terms) noexcept nogil:
    """List the rows of a matrix in panels of `room` rows, of its first `terms` columns, if it pays; return whether."""
    cdef Py_ssize_t panel = 2 * lanes(rows)
    if lists.rows < LEAST_LISTED:
        return False
    list_rows(lists, 0, PROBED, rows, room * panel, terms)
    if not is_sparse(lists, PROBED, terms):
        return False
    list_rows(lists, PROBED, lists.rows, rows + PROBED * panel, room * panel, terms)
    return True


cdef void list_columns(const fnn_lists *lists, Py_ssize_t first, Py_ssize_t columns, real *rows, Py_ssize_t terms,
                       real *turned) noexcept nogil:
    """List columns of one panel over `terms` of its rows, from the list `first` on.  turned: room for them."""
    cdef Py_ssize_t vector = lanes(rows), panel = 2 * vector, q, b, c
    for q in range(pieces(terms, vector)):
        b = q * vector
        for c in range(2):
            transpose_block(turned + (b // panel * panel + c * vector) * panel + b % panel, panel,
                            rows + b * panel + c * vector, panel, min(vector, terms - b))
    list_rows(lists, first, first + columns, turned, panel * panel, terms)


cdef fnn_lists lists_of_part(real *arena, const Plan *plan, const Share *share, int thread, Py_ssize_t part,
                             Py_ssize_t *row) noexcept nogil:
    """Lists of one of the parts of a share's rows that there are lists for, and the first of these rows."""
    cdef Py_ssize_t rows = share.end - share.begin, parts = pieces(rows, plan.list_rows)
    row[0] = share.begin + rows * part // parts
    return lists_of(arena, plan, thread, 0, share.begin + rows * (part + 1) // parts - row[0])


cdef bint list_part(const fnn_lists *lists, real *rows, Py_ssize_t room, Py_ssize_t terms,
                    Py_ssize_t part) noexcept nogil:
    """List a part of the rows of a matrix; return whether that pays, on which the first part decides."""
    if part == 0:
        return list_sparse(lists, rows, room, terms)
    list_rows(lists, 0, lists.rows, rows, room * 2 * lanes(rows), terms)
    return True


cdef Py_ssize_t sparse_forward_slab(real *arena, const Plan *plan, const Layer *layer, const Share *share, int thread,
                                    real *u, Py_ssize_t k, Py_ssize_t terms, int code) noexcept nogil:
    """Eq. 1 and 2 over the inputs [k, k + terms)."""
    cdef Py_ssize_t panel = 2 * plan.lanes, step = panel * layer.height, quad, p, part, r
    cdef Py_ssize_t quads = quads_of(plan, share.first, share.last, layer.outputs)
    cdef fnn_lists lists
    cdef real *w
    if not quads:
        return 0
    for part in range(pieces(share.end - share.begin, plan.list_rows)):
        lists = lists_of_part(arena, plan, share, thread, part, &r)
        if not list_part(&lists, u + k * plan.room + r * panel, plan.room, terms, part):
            return 0
        for quad in range(quads):
            p = share.first + quad * FNN_QUAD
            w = arena + layer.weights + p * step
            sparse_forward(
                arena + layer.v + (p * plan.room + r) * panel, plan.room * panel, &lists, w + k * panel, step, terms,
                NULL if k else w + layer.inputs * panel, k + terms == layer.inputs, code, layer.slope, quad + 1 < quads)
    return quads * FNN_QUAD


cdef Py_ssize_t sparse_backward_slab(real *arena, const Plan *plan, const Layer *layer, const Layer *below,
                                     const Share *share, int thread, Py_ssize_t k, Py_ssize_t terms) noexcept nogil:
    """Eq. 5 and 6 over the neurons [k, k + terms)."""
    cdef Py_ssize_t panel = 2 * plan.lanes, quad, p, q, at, part, r
    cdef Py_ssize_t quads = quads_of(plan, share.first, share.last, layer.inputs)
    cdef fnn_lists lists
    cdef real *wt = block_of(arena, plan, thread)
    if not quads:
        return 0
    for part in range(pieces(share.end - share.begin, plan.list_rows)):
        lists = lists_of_part(arena, plan, share, thread, part, &r)
        if not list_part(&lists, arena + layer.g + k * plan.room + r * panel, plan.room, terms, part):
            return 0
        for quad in range(quads):
            p = share.first + quad * FNN_QUAD
            for q in range(FNN_QUAD):
                transpose_block_of(wt + q * panel * FNN_TERMS, arena, plan, layer, (p + q) * panel, k, k + terms)
            at = (p * plan.room + r) * panel
            sparse_backward(arena + below.g + at, plan.room * panel, &lists, wt, panel * FNN_TERMS, k == 0,
                            k + terms == layer.outputs, arena + layer.u + at, factor_code(below), below.slope)
    return quads * FNN_QUAD


cdef Py_ssize_t panels_listed(const Plan *plan, Py_ssize_t rows) noexcept nogil:
    """Panels of inputs whose terms over so many rows there are lists for."""
    return plan.list_rows // (pieces(rows, FNN_TERMS) * 2 * plan.lanes)


cdef Py_ssize_t sparse_gradient_block(real *arena, const Plan *plan, const Layer *layer, real *u, Py_ssize_t begin,
                                      Py_ssize_t end, Py_ssize_t first, Py_ssize_t last, Py_ssize_t rows, int thread,
                                      real *state, const fnn_rule *rule, bint updates, const Job *job,
                                      Fetch *fetch) noexcept nogil:
    """Eq. 7 to 9 for the weights from the panels [begin, end) of inputs u to the panels [first, last) of neurons.
    fetch: what is to be asked for meanwhile, or NULL."""
    cdef Py_ssize_t panel = 2 * plan.lanes, step = panel * layer.height, quad, p, q, i, at, part, b, terms, count
    cdef Py_ssize_t parts = pieces(rows, FNN_TERMS)
    cdef Py_ssize_t columns = min(layer.inputs, end * panel) - begin * panel, together = FNN_ROWS if fetch else columns
    cdef Py_ssize_t quads = quads_of(plan, first, last, layer.outputs)
    cdef fnn_lists lists
    cdef real *sums = block_of(arena, plan, thread)
    cdef real *turned = sums + FNN_QUAD * panel * plan.list_rows
    if not quads:
        return 0
    for part in range(parts):
        b = rows * part // parts
        terms = rows * (part + 1) // parts - b
        lists = lists_of(arena, plan, thread, part * columns, columns)
        for q in range(begin, end):
            i = (q - begin) * panel
            list_columns(&lists, i, min(panel, columns - i), u + (q * plan.room + b) * panel, terms, turned)
            if part == 0 and q == begin and not is_sparse(&lists, min(panel, columns), terms):
                return 0
    for quad in range(quads):
        p = first + quad * FNN_QUAD
        at = layer.weights + p * step + begin * panel * panel
        if updates and job.alpha:
            for q in range(FNN_QUAD):
                note_squares(arena, plan, layer, p + q, begin, end, job)
        for part in range(parts):
            lists = lists_of(arena, plan, thread, part * columns, columns)
            for q in range(pieces(columns, together)):
                i = q * together
                if fetch:
                    for count in range(pieces(FNN_QUAD, parts)):
                        fetch_rows(fetch, <const real *>job.x, job.order, layer.inputs)
                sparse_gradient(arena + at, state + at, step, &lists, i, min(columns, i + together),
                                arena + layer.g + (p * plan.room + rows * part // parts) * panel,
                                plan.room * panel, sums, part == 0, part == parts - 1, rule)
    return quads * FNN_QUAD


cdef void list_deltas(real *arena, const Plan *plan, const Layer *layer, const fnn_lists *lists, Py_ssize_t first,
                      Py_ssize_t columns, Py_ssize_t row, Py_ssize_t terms, real *turned) noexcept nogil:
    """List so many neurons of a layer from the panel `first` on, over `terms` rows of its g.  turned: room for them."""
    cdef Py_ssize_t panel = 2 * plan.lanes, p, o
    for p in range(pieces(columns, panel)):
        o = p * panel
        list_columns(lists, o, min(panel, columns - o), arena + layer.g + ((first + p) * plan.room + row) * panel, terms,
                     turned)


cdef void turned_gradient_block(real *arena, const Plan *plan, const Layer *layer, real *u, Py_ssize_t first,
                                Py_ssize_t last, Py_ssize_t begin, Py_ssize_t end, Py_ssize_t rows, int thread, real *state,
                                const fnn_rule *rule, bint updates, const Job *job, Fetch *fetch) noexcept nogil:
    """Eq. 7 to 9 for the weights from FNN_QUAD panels of inputs at a time, [begin, end) of those, to the panels
    [first, last) of neurons, whose deltas are listed.  Each neuron's gradient lies in a row until it is complete."""
    cdef Py_ssize_t panel = 2 * plan.lanes, step = FNN_QUAD * panel, quad, p, q, o, at, part, b, vecs, count
    cdef Py_ssize_t parts = pieces(rows, FNN_TERMS)
    cdef Py_ssize_t columns = min(layer.outputs, last * panel) - first * panel, together
    cdef fnn_lists lists
    cdef real *sums = block_of(arena, plan, thread)
    together = FNN_ROWS if fetch else columns
    for part in range(parts):
        b = rows * part // parts
        lists = lists_of(arena, plan, thread, part * columns, columns)
        list_deltas(arena, plan, layer, &lists, first, columns, b, rows * (part + 1) // parts - b,
                    sums + step * plan.list_rows)
    for quad in range(begin, end):
        for part in range(parts):
            lists = lists_of(arena, plan, thread, part * columns, columns)
            b = quad * FNN_QUAD * plan.room + rows * part // parts
            for q in range(pieces(columns, together)):
                o = q * together
                if fetch:
                    for count in range(pieces(FNN_QUAD, parts)):
                        fetch_rows(fetch, <const real *>job.x, job.order, layer.inputs)
                sparse_gradient(sums, sums, 0, &lists, o, min(columns, o + together), u + b * panel, plan.room * panel,
                                sums, part == 0, False, rule)  # no weights yet
        for p in range(first, last):
            o = (p - first) * panel
            vecs = vectors(layer.outputs - p * panel, plan.lanes)
            at = layer.weights + p * panel * layer.height + quad * step * vecs * plan.lanes
            if updates and job.alpha:
                note_squares(arena, plan, layer, p, quad * FNN_QUAD, (quad + 1) * FNN_QUAD, job)
            settle_turned(arena + at, state + at, vecs, sums + o * step, min(panel, columns - o), rule)


cdef Py_ssize_t turned_gradient(real *arena, const Plan *plan, const Layer *layer, real *u, Py_ssize_t rows, int thread,
                                int threads, const Share *piece, real *state, const fnn_rule *rule,
                                const fnn_rule *bias_rule, bint updates, const Job *job, Fetch *fetch) noexcept nogil:
    """Eq. 7 to 9 for this thread's share, or a piece, of all weights from as many panels of inputs as make FNN_QUADs, and for the
    biases, by lists of the deltas; return how many panels those are, none if lists do not pay."""
    cdef Py_ssize_t panel = 2 * plan.lanes, p, block
    cdef Py_ssize_t quads = layer.inputs // (FNN_QUAD * panel), begin = 0, end = quads
    cdef Py_ssize_t probed = min(panel, layer.outputs), terms = min(FNN_TERMS, rows)
    cdef Py_ssize_t together = max(1, panels_listed(plan, rows))
    cdef Share share = share_of(plan, layer, rows, thread, threads)
    cdef fnn_lists lists = lists_of(arena, plan, thread, 0, probed)
    if piece is not NULL:
        share.first, share.last = piece.first, piece.last
    list_deltas(arena, plan, layer, &lists, 0, probed, 0, terms,
                block_of(arena, plan, thread) + FNN_QUAD * panel * plan.list_rows)
    if not is_sparse(&lists, probed, terms):  # on which all threads agree
        return 0
    if not layer.by_columns:
        begin, end = quads * thread // threads, quads * (thread + 1) // threads
    for block in range(pieces(share.last - share.first, together)):
        p = share.first + block * together
        turned_gradient_block(arena, plan, layer, u, p, min(share.last, p + together), begin, end, rows, thread, state,
                              rule, updates, job, fetch)
    if layer.by_columns or thread == 0:
        for p in range(share.first, share.last):
            bias_tiles(arena, plan, layer, p, rows, state, bias_rule)
    return FNN_QUAD * quads
