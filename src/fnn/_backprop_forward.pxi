# Forward through one layer: a thread's share of v in tiles, of two panels at once where there are two, or by lists of
# what is not zero.  The weights lie in panels, or in the flat vector, from which they are packed block by block.

cdef void forward_share(real *arena, const Plan *plan, Py_ssize_t l, const Share *share, int thread,
                        const void **x) noexcept nogil:
    """Eq. 1 and 2 for one layer: v = phi(u W + b); the output layer keeps z unless it has a corner.  x: the input rows
    of the first layer where they lie, or NULL."""
    cdef const Layer *layer = &plan.layers[l]
    cdef Py_ssize_t vector = plan.lanes, panel = 2 * vector, room = plan.room * panel, vecs, k = 0, inner, o, r, next_r
    cdef Py_ssize_t p, q, done, tile, tiles, low, taller, rows = share.end - share.begin, step, across
    cdef int code = FNN_IDENTITY if l == plan.n_layers - 1 else layer.code
    cdef real *u = arena + layer.u + (0 if l else thread * plan.own_input)
    cdef real *v
    cdef real *w
    cdef real *bias
    cdef real *block = block_of_weights(arena, plan, thread)
    if rows == 0:
        return
    if layer.skip:
        join_share(arena, plan, l, share)
    while k < layer.inputs:
        inner, done = min(FNN_TERMS, layer.inputs - k), 0
        if layer.sparse_input:
            done = sparse_forward_slab(arena, plan, layer, share, thread, u, k, inner, code)
        if not done:
            inner = min(INNER, layer.inputs - k)
        p = share.first + done
        while p < share.last:
            o = p * panel
            vecs = tile_vectors(layer.outputs - o, share.last - p, vector)
            across, tiles = min(panel, vecs * vector), pieces(rows, tile_rows(vecs))
            low, taller, next_r = rows // tiles, rows % tiles, share.begin
            p += tile_panels(vecs)
            if plan.flat is NULL:
                w, step = arena + layer.weights + o * layer.height, panel * layer.height
                bias = w + layer.inputs * across if k == 0 else NULL
                w += k * across
            else:
                w, step = block, block_panel(plan)
                for q in range(tile_panels(vecs)):
                    pack_block(w + q * step, plan, layer, o + q * panel, k, inner)
                bias = w + INNER * panel if k == 0 else NULL
            for tile in range(tiles):
                r = next_r
                next_r += low + (tile < taller)
                if plan.flat is NULL:  # the next panels of W come into the cache meanwhile
                    for q in range(min(tile_panels(vecs), share.last - p)):
                        fetch_ahead(w + (tile_panels(vecs) + q) * step, inner * panel, tile, tiles)
                v = arena + layer.v + o * plan.room + r * panel
                if x is NULL:
                    forward_tile(v, room, next_r - r, vecs, u + k * plan.room + r * panel, room, inner, w, step, bias,
                                 k + inner == layer.inputs, code, layer.slope)
                else:
                    forward_tile_of_rows(v, room, next_r - r, vecs, x + r, k, inner, w, step, bias,
                                         k + inner == layer.inputs, code, layer.slope)
        k += inner
    if layer.bend:
        bend_share(arena, plan, l, share)
