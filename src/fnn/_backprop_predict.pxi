# Prediction: many rows in panels, as the sweep goes forward, and a few straight from the flat parameters.

cdef void output_values(real *out, real *z, Py_ssize_t n, int code, double slope) noexcept nogil:
    """Eq. 2 for one row of the last layer; z (n,) has room for whole vectors."""
    cdef Py_ssize_t j, whole = padded(n, lanes(z))
    if code == FNN_SOFTMAX and go_together(n, lanes(z)):  # in the order in which several rows take the sum
        activate_rows(out, z, n, 2 * lanes(z), 1, n, code, slope)
    elif code == FNN_SOFTMAX:
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


cdef void predicted_rows(real *out, real *arena, const Plan *plan, Py_ssize_t begin, Py_ssize_t end,
                         int thread) noexcept nogil:
    """Eq. 2 for rows of the last layer, from its panels: out (end, O)."""
    cdef const Layer *layer = &plan.layers[plan.n_layers - 1]
    cdef Py_ssize_t r, group, n = layer.outputs, panel = 2 * plan.lanes
    cdef real *z = arena + plan.row_buffers + thread * 3 * plan.row_buffer
    if go_together(n, plan.lanes):
        for group in range(pieces(end - begin, plan.lanes)):
            r = begin + group * plan.lanes
            activate_rows(out + r * n, arena + layer.v + r * panel, panel, plan.room * panel, min(plan.lanes, end - r),
                          n, layer.code, layer.slope)
        return
    for r in range(begin, end):
        panels_to_row(z, arena + layer.v, plan.room, r, n)
        output_values(out + r * n, z, n, layer.code, layer.slope)


cdef void predict_epoch(real *arena, const Plan *plan, Job *job, int thread) noexcept nogil:
    """The outputs for all rows, as one of the team's threads: each has a part of the panels' rows to itself, and takes
    rows for them until none are left, so that a thread that starts late or is slow does less."""
    cdef Py_ssize_t l, start, outputs = plan.layers[plan.n_layers - 1].outputs
    cdef real *out = <real *>job.out
    cdef Job chunk = job[0]  # as the losses of a chunk's rows see it
    cdef Rows span
    cdef Share share
    span.begin = share.begin = plan.rows * thread // job.threads
    span.end = plan.rows * (thread + 1) // job.threads
    share.first = 0
    while not job.stop:
        start = fnn_take(&job.rows_taken, span.end - span.begin)
        if start >= job.n_rows:
            return
        span.end = share.end = min(span.end, span.begin + job.n_rows - start)
        read_rows(arena, plan, job, start - span.begin, span, thread)
        for l in range(plan.n_layers):
            share.last = pieces(plan.layers[l].outputs, 2 * plan.lanes)
            forward_share(arena, plan, l, &share, thread, NULL if l else rows_of(plan, thread))
        predicted_rows(out + (start - span.begin) * outputs, arena, plan, span.begin, span.end, thread)
        if job.evaluates:
            chunk.row_losses = job.row_losses + start - span.begin
            loss_rows(arena, plan, &chunk, thread, job.order + start - span.begin, 1, span.begin, span.end)
        if thread == 0:
            look_at_clock(job, start, (span.end - span.begin) * job.threads * job.operations)
