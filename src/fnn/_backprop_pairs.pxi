# Online training without a limit for the weights: two rows at a time through the first layer, each weight of which is
# then read and written once for two rows (docs/backprop.md, two rows at a time).

cdef void first_of_pairs(real *arena, const Plan *plan, const Job *job, int thread, const real **before,
                         const int32_t *listed, Py_ssize_t n_listed, const real **u, const int32_t *fresh,
                         Py_ssize_t n_fresh) noexcept nogil:
    """This thread's neurons of the first layer: the updates (eq. 7 and 8) that the two rows `before` left to be done,
    then the two rows u forward, the second through weights that the first has not moved yet (eq. 1; eq. 2 for the
    first).

    `listed` are the inputs of which one of `before` is not zero, `fresh` those of u that are not among them.  Without
    rows before, `fresh` are those of u; without u, only the updates are done.
    """
    cdef const Layer *layer = &plan.layers[0]
    cdef Py_ssize_t vector = plan.lanes, panel = 2 * vector, panels = pieces(layer.outputs, panel), p, o, vecs, row
    cdef int code = FNN_IDENTITY if plan.n_layers == 1 else layer.code
    cdef real *g[2]
    cdef real *w
    cdef real *bias
    cdef real *v
    for p in range(panels * thread // job.threads, panels * (thread + 1) // job.threads):
        o = p * panel
        vecs = vectors(layer.outputs - o, vector)
        w = arena + layer.weights + o * (layer.inputs + 1)
        bias = w + layer.inputs * vecs * vector
        v = arena + layer.v + o
        g[0], g[1] = arena + plan.first_delta + o, arena + layer.g + o
        if before[0] is not NULL:
            for row in range(2):
                online_bias(bias, vecs, g[row], layer.rate, INFINITY)
        if u[0] is not NULL:
            pair_forward(v, arena + plan.second_sums + o, vecs, w, bias, before[0], before[1], listed, n_listed, g[0],
                         g[1], layer.rate, u[0], u[1], fresh, n_fresh)
            activate_values(v, v, vecs * vector, code, layer.slope)
            continue
        for row in range(2):
            online_backward(w, layer.inputs, min(panel, layer.outputs - o), before[row], listed, n_listed, g[row],
                            layer.rate, INFINITY, <real *>NULL, False)


cdef void upper_of_pair(real *arena, const Plan *plan, Job *job, Py_ssize_t start, const real **u,
                        Py_ssize_t *counts) noexcept nogil:
    """The two rows, or the last one, from the first layer's v forward and back to its g, one after the other."""
    cdef const Layer *layer = &plan.layers[0]
    cdef Py_ssize_t whole = padded(layer.outputs, plan.lanes)
    cdef int code = FNN_IDENTITY if plan.n_layers == 1 else layer.code
    online_upper(arena, plan, job, job.order[start], counts)
    memcpy(arena + plan.first_delta, arena + layer.g, <size_t>whole * sizeof(real))
    if start + 1 == job.n_rows:
        memset(arena + layer.g, 0, <size_t>whole * sizeof(real))
        return
    second_of_pair(arena + layer.v, arena + plan.second_sums, arena + plan.first_delta,
                   layer.rate * in_common(u[0], u[1], layer.inputs), whole, code, layer.slope)
    online_upper(arena, plan, job, job.order[start + 1], counts)


cdef void pairs_epoch(real *arena, const Plan *plan, Job *job, Py_ssize_t *counts, int thread) noexcept nogil:
    """Every sample in order, as one of the team's threads: they share the first layer's neurons, thread 0 does the rest.
    The weights of two rows move when the next two come.  A last row without another stands for both, with a g of 0."""
    cdef Py_ssize_t r = 0, row, inputs = plan.layers[0].inputs, n_listed = 0, n_fresh, n_now = inputs
    cdef bint chosen = plan.layers[0].listed
    cdef int32_t *listed = plan.index + 3 * thread * plan.list_room
    cdef int32_t *now = listed + plan.list_room
    cdef int32_t *fresh = now + plan.list_room
    cdef const real *before[2]
    cdef const real *u[2]
    before[0] = before[1] = NULL
    rows_of_pair(u, job, 0, inputs)
    if chosen:
        n_now = list_either(now, u[0], u[1], inputs)
    n_fresh = n_now
    while r < job.n_rows:
        for row in range(r + 2, min(r + 4, job.n_rows)):
            fetch_ahead(<const real *>job.x + job.order[row] * inputs, inputs, 0, 1)
        first_of_pairs(arena, plan, job, thread, before, listed, n_listed, u, fresh if r else now, n_fresh)
        listed, now, n_listed = now, listed, n_now
        fnn_meet(&job.meeting, job.threads)
        if thread == 0:
            upper_of_pair(arena, plan, job, r, u, counts)
            row = min(2, job.n_rows - r)
            look_at_clock(job, r + row, row * job.operations)
            fnn_meet(&job.meeting, job.threads)
        before[0], before[1] = u[0], u[1]
        r += 2
        if r < job.n_rows:
            rows_of_pair(u, job, r, inputs)
            n_fresh = 0
            if chosen:
                n_now = list_either(now, u[0], u[1], inputs)
                n_fresh = list_fresh(fresh, u[0], u[1], before[0], before[1], inputs)
        if thread > 0:  # the lists are made while thread 0 is in the layers above
            fnn_meet(&job.meeting, job.threads)
        if job.stop:
            break
    u[0] = u[1] = NULL
    first_of_pairs(arena, plan, job, thread, before, listed, n_listed, u, fresh, 0)


cdef void rows_of_pair(const real **u, const Job *job, Py_ssize_t start, Py_ssize_t inputs) noexcept nogil:
    cdef Py_ssize_t row
    for row in range(2):
        u[row] = <const real *>job.x + job.order[min(start + row, job.n_rows - 1)] * inputs
