# Layers that also read an activation from further below (eq. 1a): their input is joined, and on the way back what they
# hand to it is spread over the activations that they read (eq. 5a).

cdef void move_columns(real *to, Py_ssize_t to_first, const real *source, Py_ssize_t first, Py_ssize_t columns,
                       Py_ssize_t room, const Share *share, bint add) noexcept nogil:
    """Copy columns of a matrix in panels into another's, or add them there, in the rows of `share`."""
    cdef Py_ssize_t panel = 2 * lanes(to), count, r, j
    cdef real *t
    cdef const real *s
    while columns > 0:
        count = min(columns, min(panel - to_first % panel, panel - first % panel))
        t = to + to_first // panel * room * panel + to_first % panel
        s = source + first // panel * room * panel + first % panel
        for r in range(share.begin, share.end):
            if add:
                for j in range(r * panel, r * panel + count):
                    t[j] = t[j] + s[j]
            else:
                memcpy(t + r * panel, s + r * panel, <size_t>count * sizeof(real))
        to_first, first, columns = to_first + count, first + count, columns - count


cdef void join_share(real *arena, const Plan *plan, Py_ssize_t l, const Share *share) noexcept nogil:
    """Eq. 1a: the input of a layer that skips, from the activations that it reads."""
    cdef const Layer *layer = &plan.layers[l]
    cdef const Layer *below = &plan.layers[l - 1]
    cdef Py_ssize_t source = l - layer.skip  # v_source; 0 is the network's input
    cdef Py_ssize_t width = plan.layers[source - 1].outputs if source else plan.layers[0].inputs
    move_columns(arena + layer.u, 0, arena + below.v, 0, below.outputs, plan.room, share, False)
    move_columns(arena + layer.u, below.outputs if layer.concat else 0,
                 arena + (plan.layers[source - 1].v if source else plan.layers[0].u), 0, width, plan.room, share,
                 not layer.concat)


cdef void spread_share(real *arena, const Plan *plan, Py_ssize_t l, const Share *share) noexcept nogil:
    """Eq. 5a and 6: what the input of a layer that skips hands back to the activations that it reads."""
    cdef const Layer *layer = &plan.layers[l]
    cdef const Layer *below = &plan.layers[l - 1]
    cdef const Layer *source
    cdef Py_ssize_t panel = 2 * plan.lanes, p, at
    cdef int code = factor_code(below)
    cdef real *s = arena + plan.input_delta
    cdef real *g = arena + below.g
    if layer.skip < l:  # the network's input needs no delta
        source = &plan.layers[l - layer.skip - 1]
        move_columns(arena + source.g, 0, s, below.outputs if layer.concat else 0, source.outputs, plan.room, share,
                     not layer.heads)
    move_columns(g, 0, s, 0, below.outputs, plan.room, share, layer.gathers)
    for p in range(pieces(below.outputs, panel)):
        at = (p * plan.room + share.begin) * panel
        factor_values(g + at, g + at, arena + below.v + at, (share.end - share.begin) * panel, code, below.slope)
