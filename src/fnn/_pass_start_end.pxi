# The start of a pass, which zeroes what it adds up and lets momentum move the parameters; and its end, which takes the
# norms of the gradient.

cdef void carry(Net *net, float *values, float *momentum, Py_ssize_t n, double nu) noexcept nogil:
    """Momentum moves n parameters."""
    cdef Py_ssize_t i
    cdef float moved
    cdef bint hit
    for i in range(n):
        moved = limited(<float>(values[i] + nu * momentum[i]), values[i], &net.step, &hit)
        if hit:
            momentum[i] = moved - values[i]
        values[i] = moved


cdef void start(Net *net) noexcept nogil:
    cdef Tally *tally = net.tally
    cdef const Level *level
    cdef double nu, t = tally.momentum_t, following
    cdef Py_ssize_t l, i, at
    tally.correct = tally.incorrect = tally.above = tally.not_above = 0
    tally.abs_sum = tally.squared_sum = tally.effective_squared_sum = 0
    tally.cases = tally.error_cases = 0
    tally.effective_cases = tally.effective_error_cases = 0
    tally.to_apply = 0
    memset(net.usage, 0, <size_t>net.n_usage * sizeof(uint32_t))
    clear(net.gradient, net.n_weights)
    clear(net.corner_gradient, net.n_corners)
    clear(net.input_sums, 2 * net.n_inputs)
    if not net.settings.momentum:
        return
    if net.settings.momentum_fixed_nu:
        nu = 0 if tally.training_pass < 2 else 1
    else:
        following = (1 + sqrt(1 + t * t * 4)) / 2
        nu = (t - 1) / following
        tally.momentum_t = following if tally.training_pass != 0 else 1
    for l in range(net.n_levels):
        level = &net.levels[l]
        for i in range(level.inputs + 1):
            at = level.weights + i * level.stride
            carry(net, net.weights + at, net.momentum + at, level.outputs, nu)
    carry(net, net.corners, net.corner_momentum, net.n_corners, nu)


cdef void add_squares(const float *values, Py_ssize_t n, double *total, double *own) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        total[0] += <double>values[i] * values[i]
        own[0] += <double>values[i] * values[i]


cdef void end(Net *net) noexcept nogil:
    cdef const Level *level
    cdef Py_ssize_t l, i
    cdef double total = 0, own, ratio = 1
    for l in range(net.n_levels + 1):
        net.norms[l] = NAN
    if net.gradient is not NULL:
        if net.tally.cases:
            ratio = <double>net.tally.cases / net.tally.effective_cases
        for l in range(net.n_levels):
            level, own = &net.levels[l], 0
            for i in range(level.inputs + 1):
                add_squares(net.gradient + level.weights + i * level.stride, level.outputs, &total, &own)
            if net.kind == CORNER:
                add_squares(net.corner_gradient + level.corners, 3 * level.outputs, &total, &own)
            net.norms[l] = sqrt(own) * ratio
        net.norms[net.n_levels] = sqrt(total) * ratio
    net.tally.training_pass += 1
    net.tally.to_apply = 1
