# Online training: every sample a step of its own (docs/backprop.md, online training).
#
# A. Plain layers: what is zero is left out, inputs by a list and ReLUs that are off; the team shares the first layer,
#    each of whose weights is read and written once a row, or without a limit once in three (_backprop_groups.pxi).
# B. A network whose every layer fits one vector goes through one function, without lists, calls or a team.
# C. Layers that skip take the mini-batch kernels, a row at a time.

cdef void updated_epoch(real *arena, const Plan *plan, Job *job) noexcept nogil:
    """Every sample in order, eq. 21 to 23, where layers skip: the last layer steps, the output is computed anew, and
    deltas go through weights that have stepped already."""
    cdef Py_ssize_t l, r, last = plan.n_layers - 1
    cdef double scale
    cdef Share share
    cdef Chunk chunk
    cdef const void **x = rows_of(plan, 0)
    chunk.batch_rows, chunk.rows = 1, 1
    for r in range(job.n_rows):
        chunk.start = chunk.batch_start = r
        scale = scale_of(<const real *>job.row_weights, job, job.order + r, 1)
        gather_rows(arena, plan, job, &chunk, 0)
        for l in range(plan.n_layers):
            share = share_of(plan, &plan.layers[l], 1, 0, 1)
            forward_share(arena, plan, l, &share, 0, x if l == 0 else NULL)
        output_delta_rows(arena, plan, job, 0, job.order + r, scale, 0, 1)
        job.total += counted(job, scale, 1) * job.row_losses[0]
        gradient_share(arena, plan, last, 1, &job.rule, 0, 1, NULL, job, NULL, NULL if last else x)
        forward_share(arena, plan, last, &share, 0, NULL if last else x)
        output_delta_rows(arena, plan, job, 0, job.order + r, scale, 0, 1)
        for l in range(last, 0, -1):
            share = share_of(plan, &plan.layers[l - 1], 1, 0, 1)
            backward_share(arena, plan, l, &share, 0, False)
            gradient_share(arena, plan, l - 1, 1, &job.rule, 0, 1, NULL, job, NULL, x if l == 1 else NULL)
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


cdef void narrow_epoch(real *arena, const Plan *plan, Job *job) noexcept nogil:
    """Every sample in order, where every layer fits one vector and the loss is squared_error."""
    cdef Py_ssize_t l, done = 0, piece = max(1, <Py_ssize_t>(OPERATIONS_BETWEEN_CLOCKS / job.operations))
    cdef const Layer *layer
    cdef fnn_layer *narrow
    cdef double scale = 1.0 if job.mean else job.scale, total = 0
    for l in range(plan.n_layers):
        layer, narrow = &plan.layers[l], &plan.chain[l]
        narrow.inputs, narrow.outputs, narrow.code = layer.inputs, layer.outputs, layer.code
        narrow.weights, narrow.transposed, narrow.v = layer.weights, layer.transposed, layer.v
        narrow.slope, narrow.rate = layer.slope, layer.rate
    while done < job.n_rows and not job.stop:
        piece = min(piece, job.n_rows - done)
        total += narrow_rows(arena, plan.narrow, plan.chain, plan.n_layers, <const real *>job.x, <const real *>job.y,
                             job.order + done, piece, scale, job.rule.saturation)
        done += piece
        look_at_clock(job, done, piece * job.operations)
    job.total = total


cdef void online_epoch(real *arena, const Plan *plan, Job *job, Py_ssize_t *counts, int thread) noexcept nogil:
    """Every sample in order, as one of the team's threads: they share the first layer's neurons, thread 0 does the rest, and
    the last lists the next row's inputs meanwhile.

    The first layer's weights move when the next row comes: each is then read and written once for two rows.
    """
    cdef Py_ssize_t r, l, inputs = plan.layers[0].inputs, n_listed
    cdef int last = job.threads - 1
    cdef int32_t *listed = plan.index
    cdef int32_t *now = listed + plan.list_room
    cdef int32_t *fresh = now + plan.list_room
    cdef const real *before = NULL
    cdef const real *u = <const real *>job.x + job.order[0] * inputs
    cdef Ahead ahead
    if plan.narrow and job.loss == SQUARED_ERROR and job.row_weights is NULL and not job.through_updated:
        if thread == 0:
            narrow_epoch(arena, plan, job)
        return
    if thread == 0:
        for l in range(plan.n_layers):
            counts[l] = plan.layers[l].inputs
        choose_lists(<const real *>job.x, plan, job)
    fnn_meet(&job.meeting, job.threads)
    if job.in_groups:
        groups_epoch(arena, plan, job, counts, thread)
        return
    ahead = job.ahead
    n_listed = ahead.now
    for r in range(job.n_rows):
        if r + 1 < job.n_rows:
            fetch_ahead(<const real *>job.x + job.order[r + 1] * inputs, inputs, 0, 1)
        online_first(arena, plan, job, thread, u, listed, n_listed, before, fresh, ahead.fresh)
        if before is not NULL and not job.dense:
            n_listed = ahead.now
            listed, now = now, listed
        fnn_meet(&job.meeting, job.threads)
        if thread == 0:
            online_upper(arena, plan, job, job.order[r], counts)
            look_at_clock(job, r + 1, job.operations)
        before = u
        if r + 1 < job.n_rows:
            u = <const real *>job.x + job.order[r + 1] * inputs
            if thread == last and not job.dense:
                job.ahead.now = list_nonzero(now, u, inputs)
                job.ahead.fresh = list_after(fresh, u, before, inputs)
        fnn_meet(&job.meeting, job.threads)
        ahead = job.ahead
        if job.stop:
            break
    online_first(arena, plan, job, thread, <const real *>NULL, listed, n_listed, before, fresh, 0)
