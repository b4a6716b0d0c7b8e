# Activations with a corner (eq. 2a), whose slopes and offset are learnt: v from z, and back g and the corner's
# gradient.

cdef void bend_share(real *arena, const Plan *plan, Py_ssize_t l, const Share *share) noexcept nogil:
    """Eq. 2a for one layer: v, which is z still, becomes phi(z), and z is kept beside it."""
    cdef const Layer *layer = &plan.layers[l]
    cdef Py_ssize_t panel = 2 * plan.lanes, p, r, j, o, at, width
    cdef const real *left
    cdef real *v
    cdef real *z
    for p in range(share.first, share.last):
        o = p * panel
        width = plan.lanes * vectors(layer.outputs - o, plan.lanes)
        left = arena + layer.weights + o * layer.height + (layer.inputs + 1) * width
        for r in range(share.begin, share.end):
            at = o * plan.room + r * panel
            v, z = arena + layer.v + at, arena + layer.bend + at
            for j in range(width):
                z[j] = v[j]
                v[j] = z[j] * (left[j] if z[j] < 0 else left[2 * width + j]) + left[width + j]


cdef void bend_back_share(real *arena, const Plan *plan, Py_ssize_t l, const Share *share) noexcept nogil:
    """Eq. 6a for one layer: its g, which is the slope by v still, becomes that by z, and what each row adds to the
    gradient of the corners takes the place of z."""
    cdef const Layer *layer = &plan.layers[l]
    cdef Py_ssize_t panel = 2 * plan.lanes, p, r, j, o, at, width, matrix = plan.room * padded(layer.outputs, panel)
    cdef const real *left
    cdef real *g
    cdef real *shares
    cdef real z
    for p in range(share.first, share.last):
        o = p * panel
        width = plan.lanes * vectors(layer.outputs - o, plan.lanes)
        left = arena + layer.weights + o * layer.height + (layer.inputs + 1) * width
        for r in range(share.begin, share.end):
            at = o * plan.room + r * panel
            g, shares = arena + layer.g + at, arena + layer.bend + at
            for j in range(width):
                z = shares[j]
                shares[j] = z * g[j] if z < 0 else 0
                shares[matrix + j] = g[j]
                shares[2 * matrix + j] = 0 if z < 0 else z * g[j]
                g[j] = g[j] * (left[j] if z < 0 else left[2 * width + j] if z > 0 else
                               (left[j] + left[2 * width + j]) / 2)
