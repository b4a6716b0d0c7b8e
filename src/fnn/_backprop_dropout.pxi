# Dropout (eq. 2b): activations that a training step leaves out, in loops of their own over what a thread has just
# computed.  Networks without it never come here.

cdef struct Draw:  # what is drawn for the rows of a chunk
    uint64_t number  # the training's seed plus the updates before this one
    Py_ssize_t first_row  # position in the batch of what stands in the panels' first row


cdef Dropout dropout_of(double share):
    """What a layout says about an activation; nothing is dropped yet."""
    cdef Dropout found
    found.on, found.below, found.kept = False, threshold(share), 1 - share
    return found


cdef void drop_rows(real *panels, Py_ssize_t room, const Share *share, const Dropout *dropout, Py_ssize_t layer,
                    const Draw *draw) noexcept nogil:
    """Eq. 2b for a share of the activation `layer`, which counts from the input, 0."""
    cdef Py_ssize_t panel = 2 * lanes(panels), r, p
    cdef uint64_t key
    for r in range(share.begin, share.end):
        key = row_key(draw.number, layer, draw.first_row + r)
        for p in range(share.first, share.last):
            drop_values(panels + (p * room + r) * panel, panel, p * panel, key, dropout.below, dropout.kept)


cdef void drop_share(real *arena, const Plan *plan, Py_ssize_t l, const Share *share, const Draw *draw) noexcept nogil:
    """Eq. 2b for a share of one layer's v, if it drops any."""
    cdef const Layer *layer = &plan.layers[l]
    if layer.dropout.on:
        drop_rows(arena + layer.v, plan.room, share, &layer.dropout, l + 1, draw)


cdef void drop_inputs(real *arena, const Plan *plan, Rows rows, const Draw *draw, int thread) noexcept nogil:
    """Eq. 2b for rows of the input that this thread has gathered, if it drops any."""
    cdef Share share
    if plan.input_dropout.on:
        share.begin, share.end, share.first = rows.begin, rows.end, 0
        share.last = pieces(plan.layers[0].inputs, 2 * plan.lanes)
        drop_rows(arena + plan.layers[0].u + thread * plan.own_input, plan.room, &share, &plan.input_dropout, 0, draw)


cdef inline int factor_code(const Layer *layer) noexcept nogil:
    """The activation whose derivative comes right behind eq. 5: where dropout is in between, none yet."""
    return FNN_IDENTITY if layer.dropout.on else layer.code


cdef void drop_back_share(real *arena, const Plan *plan, Py_ssize_t l, const Share *share) noexcept nogil:
    """Eq. 6b for one layer: its g, which is the slope by what dropout has left of v, becomes that by z, or by a
    corner's v."""
    cdef const Layer *layer = &plan.layers[l]
    cdef Py_ssize_t panel = 2 * plan.lanes, p, at
    for p in range(share.first, share.last):
        at = (p * plan.room + share.begin) * panel
        drop_back_values(arena + layer.g + at, arena + layer.v + at, (share.end - share.begin) * panel,
                         layer.dropout.kept, layer.code, layer.slope)
