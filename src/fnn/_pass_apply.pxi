# The move of all parameters against the total gradient, at the rate that the options make of the caller's.

cdef struct Tweak:  # what makes the rates of neighbours differ a little
    uint64_t k, period
    float step


cdef void move_values(const Net *net, float *values, float *gradient, float *momentum, Py_ssize_t n, float rate,
                      Tweak *tweak) noexcept nogil:
    """Move n parameters; `tweak` NULL: all by the same rate."""
    cdef Py_ssize_t i
    cdef float g, new
    cdef bint hit
    for i in range(n):
        g = gradient[i]
        if tweak is not NULL:
            g = g - g * <float>tweak.k * tweak.step
            tweak.k = (tweak.k + 1) % tweak.period
        new = limited(values[i] - rate * g, values[i], &net.step, &hit)
        if hit:
            gradient[i] = 0
        if momentum is not NULL:
            momentum[i] += new - values[i]
        values[i] = new


cdef void move(Net *net, float rate) noexcept nogil:
    """Move all parameters against the total gradient."""
    cdef const Level *level
    cdef Tweak tweak
    cdef Tweak *tweaked = NULL if net.settings.scale_rate_per_layer else &tweak
    cdef float *momentum = net.momentum if net.settings.momentum else NULL
    cdef float *corner_momentum = net.corner_momentum if net.settings.momentum else NULL
    cdef Py_ssize_t l, i, at
    cdef float own = rate
    tweak.period = 3 * <uint64_t>net.levels[0].inputs
    tweak.step = net.settings.tweak_rate / <float>tweak.period
    tweak.k = <uint64_t>net.tally.training_pass
    for l in range(net.n_levels):
        level = &net.levels[l]
        if net.settings.scale_rate_per_layer:
            own = rate if l == net.n_levels - 1 else rate / <float>net.levels[l + 1].outputs
        for i in range(level.inputs + 1):
            at = level.weights + i * level.stride
            move_values(net, net.weights + at, net.gradient + at, NULL if momentum is NULL else momentum + at,
                        level.outputs, own, tweaked)
    tweak.k = <uint64_t>net.tally.training_pass  # the corners count anew
    if net.kind == CORNER:
        for l in range(net.n_levels):
            level, at = &net.levels[l], net.levels[l].corners
            if net.settings.scale_rate_per_layer:
                own = rate if l == net.n_levels - 1 else rate / <float>net.levels[l + 1].outputs
            move_values(net, net.corners + at, net.corner_gradient + at,
                        NULL if momentum is NULL else corner_momentum + at, 3 * level.outputs, own, tweaked)


cdef void brake(float *momentum, const float *last, const float *now, Py_ssize_t n) noexcept nogil:
    """Clear the momentum where the gradient has changed its sign."""
    cdef Py_ssize_t i
    for i in range(n):
        if last[i] * now[i] < 0:
            momentum[i] = 0


cdef bint apply(Net *net, float rate) noexcept nogil:
    cdef Tally *tally = net.tally
    cdef float cases = <float>tally.cases
    tally.to_apply = 0
    if net.settings.auto_rate:
        if adapt_rate(net):
            return True
        rate = tally.training_rate
    else:
        if cases != tally.effective_cases:
            rate = rate * cases / tally.effective_cases
        if net.settings.auto_rate2 and tally.has_last:
            rate = rate * adapt_multiplier(net)
    move(net, rate)
    if net.settings.momentum and net.settings.momentum_fast_brake and tally.has_last:
        brake(net.momentum, net.last, net.gradient, net.n_weights)
        brake(net.corner_momentum, net.corner_last, net.corner_gradient, net.n_corners)
    if net.last is not NULL:
        keep_floats(net.last, net.gradient, net.n_weights)
        keep_floats(net.corner_last, net.corner_gradient, net.n_corners)
        tally.has_last = 1
    return False
