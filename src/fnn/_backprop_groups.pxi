# Online training without a limit for the weights: a group of rows at a time through the first layer, each weight of which
# is then read and written once for the group (docs/backprop.md, a few rows at a time).

cdef enum:
    COUNTED_GROUPS = 8  # whose inputs are counted before an epoch, at most
    ROWS_A_COUNTED_GROUP = 64  # for each of which one of them may be, so that counting is no part of the work

cdef double MOST_TOGETHER = 0.78  # of a group's inputs: each takes so much longer than a single row's


cdef void rows_of_group(const real **u, const Job *job, Py_ssize_t start, Py_ssize_t inputs) noexcept nogil:
    """Where a group's rows lie; in the place of what is missing in the last group its last row."""
    cdef Py_ssize_t k
    for k in range(GROUP):
        u[k] = <const real *>job.x + job.order[min(start + k, job.n_rows - 1)] * inputs


cdef bint groups_pay(const Plan *plan, const Job *job, const real **u, int32_t *list) noexcept nogil:
    """Whether the first groups' rows have so many inputs in common that to visit those of any of them, once, takes less
    time than to visit each row's own.  u, list: room for a group, and for a list."""
    cdef const Layer *layer = &plan.layers[0]
    cdef Py_ssize_t group, k, together = 0, apart = 0
    if not layer.listed:
        return True
    for group in range(min(COUNTED_GROUPS, 1 + job.n_rows // ROWS_A_COUNTED_GROUP)):
        rows_of_group(u, job, group * GROUP, layer.inputs)
        together += list_any(list, u, layer.inputs)
        for k in range(GROUP):
            apart += list_nonzero(list, u[k], layer.inputs)
    return together <= MOST_TOGETHER * apart


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


cdef void upper_of_group(real *arena, const Plan *plan, Job *job, Py_ssize_t start, const real **u,
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
            put_right(v, deltas + j * whole, layer.rate * in_common(u[j], u[k], layer.inputs), n)
        activate_values(v, v, n, code, layer.slope)
        online_upper(arena, plan, job, job.order[start + k], counts)
        memcpy(deltas + k * whole, arena + layer.g, <size_t>n * sizeof(real))


cdef void groups_epoch(real *arena, const Plan *plan, Job *job, Py_ssize_t *counts, int thread) noexcept nogil:
    """Every sample in order, as one of the team's threads: they share the first layer's neurons, thread 0 does the rest.
    A group's weights move when the next group comes."""
    cdef Py_ssize_t r = 0, row, inputs = plan.layers[0].inputs, n_listed = 0, n_fresh, n_now = inputs
    cdef bint chosen = plan.layers[0].listed
    cdef int32_t *listed = plan.index + 3 * thread * plan.list_room
    cdef int32_t *now = listed + plan.list_room
    cdef int32_t *fresh = now + plan.list_room
    cdef const real *groups[2 * GROUP]
    cdef const real **before = groups + GROUP
    cdef const real **u = groups
    rows_of_group(u, job, 0, inputs)
    if chosen:
        n_now = list_any(now, u, inputs)
    n_fresh = n_now
    while r < job.n_rows:
        for row in range(r + GROUP, min(r + 2 * GROUP, job.n_rows)):
            fetch_ahead(<const real *>job.x + job.order[row] * inputs, inputs, 0, 1)
        first_of_groups(arena, plan, job, thread, before if r else NULL, listed, n_listed, u, fresh if r else now, n_fresh)
        listed, now, n_listed = now, listed, n_now
        fnn_meet(&job.meeting, job.threads)
        if thread == 0:
            upper_of_group(arena, plan, job, r, u, counts)
            row = min(GROUP, job.n_rows - r)
            look_at_clock(job, r + row, row * job.operations)
            fnn_meet(&job.meeting, job.threads)
        before, u = u, before
        r += GROUP
        if r < job.n_rows:
            rows_of_group(u, job, r, inputs)
            n_fresh = 0
            if chosen:
                n_now = list_any(now, u, inputs)
                n_fresh = list_fresh(fresh, u, before, inputs)
        if thread > 0:  # the lists are made while thread 0 is in the layers above
            fnn_meet(&job.meeting, job.threads)
        if job.stop:
            break
    first_of_groups(arena, plan, job, thread, before, listed, n_listed, <const real **>NULL, fresh, 0)
