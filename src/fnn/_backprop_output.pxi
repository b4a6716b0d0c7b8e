# The output layer (eq. 4): the rows' losses, what they count, and g = scale * dloss/dz, from which the way back starts.

cdef inline double at_most(double ceiling, double row_loss) noexcept nogil:
    """NaN stays."""
    return ceiling if row_loss > ceiling else row_loss


cdef double output_row(real *g, const real *z, const real *y, Py_ssize_t label, real *v, Py_ssize_t n, int loss,
                       const Layer *layer, double scale, double ceiling) noexcept nogil:
    """Eq. 4 for one row of n outputs: g = scale * dloss/dz, and the row's loss as it counts, up to the ceiling, each
    output's term for itself where they are losses of their own.  z, v and g have room for n, padded."""
    cdef Py_ssize_t j, whole = padded(n, lanes(g))
    cdef double row_loss
    if loss == SQUARED_ERROR:
        if layer.code == FNN_IDENTITY:
            return at_most(ceiling, squared_error_row(g, z, y, n, scale))
        activate_values(v, z, whole, layer.code, layer.slope)
        row_loss = squared_error_row(g, v, y, n, scale)
        factor_values(g, g, v, whole, layer.code, layer.slope)
        return at_most(ceiling, row_loss)
    if loss == BINARY_CROSS_ENTROPY:
        activate_values(v, z, whole, FNN_SIGMOID, 0)
        return matched_row(g, z, v, y, n, scale, ceiling, False)
    if loss == POISSON:
        activate_values(v, z, whole, FNN_EXP, 0)
        return at_most(ceiling, matched_row(g, z, v, y, n, scale, INFINITY, True))
    memcpy(v, z, <size_t>n * sizeof(real))
    for j in range(n, whole):
        v[j] = -INFINITY
    row_loss = softmax_row(v, whole)
    if y is not NULL:
        return at_most(ceiling, cross_entropy_row(g, z, v, y, n, scale, row_loss))
    v[label] = v[label] - 1
    for j in range(n):
        g[j] = <real>scale * v[j]
    return at_most(ceiling, row_loss - z[label])


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
        bend_back_share(arena, plan, plan.n_layers - 1, &share)


cdef inline bint go_together(Py_ssize_t outputs, Py_ssize_t vector) noexcept nogil:
    """Whether several rows of outputs go through the loss at once, one a lane: of at most two vectors, a panel, or of 16
    numbers each by itself would leave lanes empty, or spend its time on sums across them."""
    return outputs <= max(2 * vector, FNN_TOGETHER)


cdef void loss_rows(real *arena, const Plan *plan, const Job *job, int thread, const Py_ssize_t *order, double scale,
                    Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    """Eq. 4: the rows' losses, and scale times their slope by what the output layer's v panels hold.  Row by
    row training takes each as it is."""
    cdef const Layer *layer = &plan.layers[plan.n_layers - 1]
    cdef Py_ssize_t r, group, n = layer.outputs, panel = 2 * plan.lanes, label = -1
    cdef real *v = arena + plan.row_buffers + thread * 3 * plan.row_buffer
    cdef real *z = v + plan.row_buffer
    cdef real *g = z + plan.row_buffer
    cdef const real *y = NULL
    cdef double row_loss, weight = 1
    if go_together(n, plan.lanes) and plan.rows > 1:
        for group in range(pieces(end - begin, plan.lanes)):
            r = begin + group * plan.lanes
            output_rows(arena + layer.g + r * panel, job.row_losses + r, arena + layer.v + r * panel, panel,
                        plan.room * panel, job.y, job.labels, order + r, job.row_weights, min(plan.lanes, end - r), n,
                        job.loss, layer.code, layer.slope, scale, job.ceiling)
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
            row_loss = output_row(g, z, y, label, v, n, job.loss, layer, scale * weight, job.ceiling)
        else:
            panels_to_row(z, arena + layer.v, plan.room, r, n)
            row_loss = output_row(g, z, y, label, v, n, job.loss, layer, scale * weight, job.ceiling)
            rows_to_panels(arena + layer.g, plan.room, r, g, n)
        job.row_losses[r] = weight * row_loss
