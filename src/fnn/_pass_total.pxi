# The total gradient of a pass, from samples that have waited for each other (notes E and F).

cdef inline bint waits(const Net *net) noexcept nogil:
    """Whether the samples at hand are to be added to the total gradient when there are enough of them."""
    return net.gradient is not NULL and (net.step.rate == 0 or net.has_wide)


cdef Py_ssize_t mark(Net *net, Py_ssize_t l, Py_ssize_t rows) noexcept nogil:
    """Mark which waiting samples have an input, and which a sensitivity, that is not zero; how many vectors of the
    total the inputs' samples meet more than the neurons' would meet of the turned one."""
    cdef const Level *level
    cdef Py_ssize_t s, i, by_input = 0, by_neuron = 0
    cdef uint32_t bit
    memset(net.with_input, 0, <size_t>rows * sizeof(uint32_t))
    memset(net.with_sigma, 0, <size_t>net.levels[l].outputs * sizeof(uint32_t))
    for s in range(net.waiting):
        level, bit = &net.seats[s * net.n_levels + l], <uint32_t>1 << s
        by_neuron += pass_mark(net.with_sigma, bit, level.sigma, level.outputs)
        if level.index != net.all:
            by_input += pass_mark(net.with_input, bit, level.u, rows)
            continue
        by_input += rows
        for i in range(rows):
            net.with_input[i] |= bit
    return by_input * level.vecs - by_neuron * pieces(rows, PASS_LANES)


cdef void turn(Net *net, Level *level) noexcept nogil:
    """Turn a level's total gradient, or turn it back."""
    cdef float *total = net.gradient + level.weights
    cdef Py_ssize_t rows = level.inputs + 1
    if level.is_turned:
        pass_turn(total, level.stride, level.turned, level.turned_stride, level.outputs, rows)
    else:
        pass_turn(level.turned, level.turned_stride, total, level.stride, rows, level.outputs)
    level.is_turned = not level.is_turned


cdef bint factor_all(Net *net, Py_ssize_t l) noexcept nogil:
    """Whether a waiting sample's gradient has the factor d; then all get one."""
    cdef Level *level
    cdef Py_ssize_t s, j
    cdef bint factored = False
    for s in range(net.waiting):
        factored = factored or net.seats[s * net.n_levels + l].factored
    for s in range(net.waiting):
        level = &net.seats[s * net.n_levels + l]
        if factored and not level.factored:  # times 1 changes nothing
            for j in range(level.outputs):
                level.d[j] = 1
    return factored


cdef void add_gradients(Net *net, Py_ssize_t samples) noexcept nogil:
    """Add the gradients of the waiting samples to the total, one after the other, but for what `step` has added.

    `samples` are still to come.  Where a wide level has more neurons that are off than inputs that are 0, the total of
    many samples is kept turned round, a row for each neuron, for as long as they go on.
    """
    cdef Level *level
    cdef const float *d
    cdef float *total
    cdef Py_ssize_t l, rows, more
    for l in range(net.n_levels):
        level = &net.seats[l]
        if net.step.rate != 0 and level.vecs <= PASS_NARROW:
            continue
        total = net.gradient + level.weights
        rows = level.inputs + (net.kind != CORNER)
        d = level.d if factor_all(net, l) else NULL
        if level.vecs <= PASS_NARROW:
            pass_add_tiles(total, level.stride, level.vecs, rows, level.u, level.sigma, d, net.room, net.waiting)
            continue
        more = mark(net, l, rows)
        if d is NULL and net.quick:
            if not level.is_turned and more > 0 and samples >= MANY:
                turn(net, level)
        elif level.is_turned:
            turn(net, level)
        if level.is_turned:
            pass_add_marked(level.turned, level.turned_stride, pieces(rows, PASS_LANES), level.outputs, level.sigma,
                            net.with_sigma, level.u, NULL, net.room)
        else:
            pass_add_marked(total, level.stride, level.vecs, rows, level.u, net.with_input, level.sigma, d, net.room)
        if level.is_turned and samples == 0:
            turn(net, level)
    net.waiting = 0
