# Online training without a limit for the weights: a group of rows at a time through the first layer, each weight of which
# is then read and written once for the group (docs/backprop.md, a few rows at a time).

cdef enum:
    COUNTED_GROUPS = 8  # whose inputs are counted before an epoch, at most
    ROWS_A_COUNTED_GROUP = 64  # for each of which one of them may be, so that counting is no part of the work

cdef double MOST_TOGETHER = 0.78  # of a group's inputs: each takes so much longer than a single row's
cdef double DENSE = 0.96  # of them all: to list so many takes longer than to visit the others too


cdef void rows_of_group(const real **u, const Job *job, Py_ssize_t start, Py_ssize_t inputs) noexcept nogil:
    """Where a group's rows lie; in the place of what is missing in the last group its last row."""
    cdef Py_ssize_t k
    for k in range(GROUP):
        u[k] = <const real *>job.x + job.order[min(start + k, job.n_rows - 1)] * inputs


cdef void choose_lists(const real *x, const Plan *plan, Job *job) noexcept nogil:
    """Choose from the first rows x: groups, where to visit the inputs of any row of a group once takes less time than to visit
    each row's own; and lists of what is not zero, unless that is nearly all.  Lay out what the epoch starts with."""
    cdef const Layer *layer = &plan.layers[0]
    cdef Py_ssize_t inputs = layer.inputs, counted = min(COUNTED_GROUPS, 1 + job.n_rows // ROWS_A_COUNTED_GROUP)
    cdef Py_ssize_t together = 0, apart = 0, group, k, i
    cdef int32_t *listed = plan.index
    cdef int32_t *now = listed + plan.list_room
    cdef const real *u[GROUP]
    for group in range(counted if layer.listed else 0):
        rows_of_group(u, job, group * GROUP, inputs)
        together += list_any(now, u, inputs)
        for k in range(GROUP):
            apart += list_nonzero(now, u[k], inputs)
    job.in_groups = job.rule.saturation == INFINITY and together <= MOST_TOGETHER * apart
    job.dense = not layer.listed or (GROUP * together if job.in_groups else apart) >= DENSE * GROUP * counted * inputs
    job.ahead.now, job.ahead.fresh = inputs, 0
    if job.dense:
        for i in range(inputs):
            listed[i] = now[i] = <int32_t>i
    elif not job.in_groups:
        job.ahead.now = list_nonzero(listed, x + job.order[0] * inputs, inputs)


cdef void first_of_groups(real *arena, const Plan *plan, const Job *job, int thread, const real **before,
                          const int32_t *listed, Py_ssize_t n_listed, const real **u, const int32_t *fresh,
                          Py_ssize_t n_fresh) noexcept nogil:
    """This thread's neurons of the first layer: the updates (eq. 7 and 8) that the group `before` left to be done, then
    the rows u forward (eq. 1), through weights that none of them has moved yet.

    `listed` are the inputs of which one of `before` is not zero, `fresh` those of u that are not among them.  Without
    rows before, `fresh` are those of u; without u, only the updates are done.
    """
    cdef const Layer *layer = &plan.layers[0]
    cdef Py_ssize_t vector = plan.lanes, panel = 2 * vector, panels = pieces(layer.outputs, panel), p, o, vecs, k
    cdef Py_ssize_t whole = padded(layer.outputs, panel)
    cdef const real *g[GROUP]
    cdef real *z[GROUP]
    cdef real *w
    cdef real *bias
    for p in range(panels * thread // job.threads, panels * (thread + 1) // job.threads):
        o = p * panel
        vecs = vectors(layer.outputs - o, vector)
        w = arena + layer.weights + o * (layer.inputs + 1)
        bias = w + layer.inputs * vecs * vector
        for k in range(GROUP):
            g[k] = arena + plan.group_deltas + k * whole + o
            z[k] = arena + plan.group_sums + k * whole + o
            if before is not NULL:
                online_bias(bias, vecs, g[k], layer.rate, INFINITY)
            if u is NULL:
                online_backward(w, layer.inputs, min(panel, layer.outputs - o), before[k], listed, n_listed, g[k],
                                layer.rate, INFINITY, <real *>NULL, False)
        if u is not NULL:
            group_forward(w, vecs, bias, z, before, listed, n_listed, g, layer.rate, u, fresh, n_fresh)


cdef void look_ahead(const Plan *plan, Job *job, const real **u, const real **before, int32_t *now,
                     int32_t *fresh) noexcept nogil:
    """What depends on nothing but the next group's rows u: which inputs are not zero in one of them, which of those in none
    of the rows before, if there are some, and what each of u has in common with those before it in the group."""
    cdef Py_ssize_t inputs = plan.layers[0].inputs, j, k
    cdef Ahead *ahead = &job.ahead
    ahead.fresh = 0
    if not job.dense:
        # Where all were listed, none is fresh.
        if before is not NULL and ahead.now < inputs:
            ahead.fresh = list_fresh(fresh, u, before, inputs)
        ahead.now = list_any(now, u, inputs)
    for k in range(GROUP):
        for j in range(k):
            ahead.in_common[k][j] = in_common(u[j], u[k], inputs)


cdef void upper_of_group(real *arena, const Plan *plan, Job *job, Py_ssize_t start, const Ahead *ahead,
                         Py_ssize_t *counts) noexcept nogil:
    """The group's rows one after the other, from the first layer's sums to its v, put right by what the rows before have
    moved (eq. 7c), forward, and back to its g."""
    cdef const Layer *layer = &plan.layers[0]
    cdef Py_ssize_t whole = padded(layer.outputs, 2 * plan.lanes), n = padded(layer.outputs, plan.lanes), j, k
    cdef int code = FNN_IDENTITY if plan.n_layers == 1 else layer.code
    cdef real *v = arena + layer.v
    cdef real *deltas = arena + plan.group_deltas
    for k in range(GROUP):
        if start + k >= job.n_rows:
            memset(deltas + k * whole, 0, <size_t>n * sizeof(real))
            continue
        memcpy(v, arena + plan.group_sums + k * whole, <size_t>n * sizeof(real))
        for j in range(k):
            put_right(v, deltas + j * whole, layer.rate * ahead.in_common[k][j], n)
        activate_values(v, v, n, code, layer.slope)
        online_upper(arena, plan, job, job.order[start + k], counts)
        memcpy(deltas + k * whole, arena + layer.g, <size_t>n * sizeof(real))


cdef void groups_epoch(real *arena, const Plan *plan, Job *job, Py_ssize_t *counts, int thread) noexcept nogil:
    """Every sample in order, as one of the team's threads: they share the first layer's neurons, thread 0 does the rest, and
    the last looks ahead meanwhile.  A group's weights move when the next group comes."""
    cdef Py_ssize_t r = 0, row, inputs = plan.layers[0].inputs, n_listed = 0
    cdef int last = job.threads - 1
    cdef int32_t *listed = plan.index
    cdef int32_t *now = listed + plan.list_room
    cdef int32_t *fresh = now + plan.list_room
    cdef const real *groups[2 * GROUP]
    cdef const real **before = groups + GROUP
    cdef const real **u = groups
    cdef Ahead ahead
    rows_of_group(u, job, 0, inputs)
    if thread == last:
        look_ahead(plan, job, u, <const real **>NULL, now, fresh)
    fnn_meet(&job.meeting, job.threads)
    ahead = job.ahead
    while r < job.n_rows:
        for row in range(r + GROUP, min(r + 2 * GROUP, job.n_rows)):
            fetch_ahead(<const real *>job.x + job.order[row] * inputs, inputs, 0, 1)
        if r:
            first_of_groups(arena, plan, job, thread, before, listed, n_listed, u, fresh, ahead.fresh)
        else:
            first_of_groups(arena, plan, job, thread, <const real **>NULL, listed, 0, u, now, ahead.now)
        listed, now, n_listed = now, listed, ahead.now
        before, u = u, before
        rows_of_group(u, job, r + GROUP, inputs)
        fnn_meet(&job.meeting, job.threads)
        if thread == 0:
            upper_of_group(arena, plan, job, r, &ahead, counts)
            row = min(GROUP, job.n_rows - r)
            look_at_clock(job, r + row, row * job.operations)
        r += GROUP
        if thread == last and r < job.n_rows:
            look_ahead(plan, job, u, before, now, fresh)
        fnn_meet(&job.meeting, job.threads)
        ahead = job.ahead
        if job.stop:
            break
    first_of_groups(arena, plan, job, thread, before, listed, n_listed, <const real **>NULL, fresh, 0)
