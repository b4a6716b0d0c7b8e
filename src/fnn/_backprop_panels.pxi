# Where things lie: matrices in panels (_simd.h, C), rows and flat parameters copied into them and back, and W^T.

cdef inline Py_ssize_t padded(Py_ssize_t n, Py_ssize_t vector) noexcept nogil:
    return (n + vector - 1) // vector * vector


cdef inline Py_ssize_t vectors(Py_ssize_t columns, Py_ssize_t vector) noexcept nogil:
    """Vectors in a weight panel that starts `columns` before the matrix's end."""
    return 1 if columns <= vector else 2


cdef inline Py_ssize_t tile_vectors(Py_ssize_t columns, Py_ssize_t panels, Py_ssize_t vector) noexcept nogil:
    """Vectors that a tile takes of so many weight panels, the first of which starts `columns` before the matrix's end:
    those of two panels if there are two of two vectors each."""
    return 4 if FNN_VECS == 4 and panels > 1 and columns > 3 * vector else vectors(columns, vector)


cdef inline Py_ssize_t tile_panels(Py_ssize_t vecs) noexcept nogil:
    return 2 if vecs == 4 else 1


cdef inline Py_ssize_t tile_rows(Py_ssize_t vecs) noexcept nogil:
    """Rows that a tile of so many vectors has at most."""
    return FNN_TALLEST if vecs == 1 else FNN_ROWS // tile_panels(vecs)


cdef inline bint is_thin(Py_ssize_t columns, Py_ssize_t vector) noexcept nogil:
    """Whether a weight panel that starts `columns` before the matrix's end has its gradient computed transposed."""
    return columns <= FNN_THIN and columns < vector


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
    cdef Py_ssize_t panel = 2 * plan.lanes, l, p, o
    cdef Layer *layer
    cdef real *inside
    for l in range(plan.n_layers):
        layer = &plan.layers[l]
        for p in range(pieces(layer.outputs, panel)):
            o = p * panel
            inside = arena + layer.weights + o * layer.height
            if into:
                pack_rows(inside, flat + o, layer.outputs, layer.height, min(panel, layer.outputs - o))
            else:
                unpack_rows(flat + o, layer.outputs, inside, layer.height, min(panel, layer.outputs - o))
        flat += layer.height * layer.outputs


cdef inline Py_ssize_t block_panel(const Plan *plan) noexcept nogil:
    """Numbers in a panel of a thread's block: INNER rows, and one for the biases."""
    return (INNER + 1) * 2 * plan.lanes


cdef inline real *block_of_weights(real *arena, const Plan *plan, int thread) noexcept nogil:
    """A thread's room for as many panels of W, or of W^T, as a tile takes at once."""
    return arena + plan.block + thread * tile_panels(FNN_VECS) * block_panel(plan)


cdef void pack_block(real *block, const Plan *plan, const Layer *layer, Py_ssize_t o, Py_ssize_t k,
                     Py_ssize_t inner) noexcept nogil:
    """Pack the weights from the inputs [k, k + inner), at most INNER, to the panel of neuron o from the flat vector,
    and with k = 0 their biases behind them."""
    cdef Py_ssize_t panel = 2 * plan.lanes, columns = min(panel, layer.outputs - o)
    cdef const real *w = <const real *>plan.flat + layer.flat + o
    pack_rows(block, w + k * layer.outputs, layer.outputs, inner, columns)
    if k == 0:
        pack_rows(block + INNER * panel, w + layer.inputs * layer.outputs, 0, 1, columns)


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


cdef void transpose_kept(real *arena, const Plan *plan, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    """Refresh the W^T that is kept of the layers [first, last)."""
    cdef Py_ssize_t vector = plan.lanes, l, p, i
    cdef Layer *layer
    for l in range(first, last):
        layer = &plan.layers[l]
        if layer.transposed:
            for p in range(pieces(layer.inputs, 2 * vector)):
                i = p * 2 * vector
                transpose_block_of(
                    arena + layer.transposed + i * padded(layer.outputs, vector), arena, plan, layer, i, 0,
                    layer.outputs)
