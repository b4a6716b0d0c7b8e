# The step of one sample through a level's weights, and the next sample's look ahead meanwhile (note D).

cdef void step(Net *net, Py_ssize_t l, Py_ssize_t s) noexcept nogil:
    """The step of the rate against the gradient of the sample in seat s, and a narrow level's into the total.

    In the first level it also sums the next sample's raw values, while some rows are near: as they are stepped, where
    both samples have about the same inputs that are not 0, or else after that.
    """
    cdef const Level *level = &net.seats[s * net.n_levels + l]
    cdef float *weights = net.weights + level.weights
    cdef float *total = NULL
    cdef float *z = NULL
    cdef const float *d = level.d if level.factored else NULL
    cdef const float *u
    cdef const float *next
    cdef const int32_t *index
    cdef bint all_rows = level.index == net.all, together
    cdef Py_ssize_t rows = level.inputs + (net.kind != CORNER)  # whose bias has a rule of its own
    cdef Py_ssize_t near = max(1, NEAR // level.stride), start = 0, n, count, both
    if net.gradient is not NULL and level.vecs <= PASS_NARROW:
        total = net.gradient + level.weights
    if l == 0:
        net.ahead = net.has_next and net.quick and net.kind != CORNER
    if l == 0 and net.ahead:
        s = (s + 1) % SEATS if waits(net) else s  # who comes next
        z = net.seats[s * net.n_levels].z
        memset(z, 0, <size_t>level.outputs * sizeof(float))
    net.step.is_tame = net.quick
    while start < rows:
        n, u, next = min(near, rows - start), level.u + start, net.next + start
        together = z is not NULL and not net.step.has_floor
        if together:
            count, both = pass_either(u, u, n), pass_either(u, next, n)
            together = both <= count + count // 4
        if together:
            index = net.all
            if both < n:
                index, both = net.both, pass_list_either(net.both, u, next, net.sizes, n)
            pass_steps(weights, total, level.stride, level.vecs, u, index, both, level.sigma, d, &net.step, next, z)
        else:
            index, count = net.all, n
            if not all_rows:
                index, count = net.listed, list_nonzero_f32(net.listed, u, n)
            pass_steps(weights, total, level.stride, level.vecs, u, index, count, level.sigma, d, &net.step, NULL, NULL)
            if z is not NULL:
                count = list_nonzero_f32(net.listed, next, n)
                pass_forward(z, level.vecs, weights, level.stride, next, net.listed, count)
        start += n
        weights += n * level.stride
        if total is not NULL:
            total += n * level.stride
