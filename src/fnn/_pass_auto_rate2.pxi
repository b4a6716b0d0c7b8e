# auto_rate2: a multiplier of the rate, from the signs and sizes of this pass's gradient and the last.

cdef struct Comparison:  # of this gradient with the last
    Py_ssize_t turned, kept
    double now_turned, last_turned, last_kept  # sums of squares


cdef void compare(const float *now, const float *last, Py_ssize_t n, Comparison *found) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        if now[i] * last[i] < 0:
            found.turned += 1
            found.now_turned += now[i] * now[i]
            found.last_turned += last[i] * last[i]
        elif last[i] != 0:
            found.kept += 1
            found.last_kept += last[i] * last[i]


cdef float adapt_multiplier(Net *net) noexcept nogil:
    """auto_rate2: choose the multiplier of the rate from the signs and sizes of this gradient and the last."""
    cdef Comparison found
    cdef const Level *level
    cdef Py_ssize_t l, i, at
    cdef double now_turned, last_turned, last_kept, n_turned, n_kept, factor
    memset(&found, 0, sizeof(Comparison))
    for l in range(net.n_levels):
        level = &net.levels[l]
        for i in range(level.inputs + 1):
            at = level.weights + i * level.stride
            compare(net.gradient + at, net.last + at, level.outputs, &found)
    compare(net.corner_gradient, net.corner_last, net.n_corners, &found)
    n_turned, n_kept = max(found.turned, 1), max(found.kept, 1)
    now_turned, last_turned = sqrt(found.now_turned / n_turned), sqrt(found.last_turned / n_turned)
    last_kept = sqrt(found.last_kept / n_kept)
    if now_turned > last_turned and now_turned * n_turned > 2 * last_kept * n_kept:
        factor = 0.2 if now_turned > 2 * last_turned or n_turned > 0.7 * (n_turned + n_kept) else 0.67
    elif now_turned > last_turned and now_turned > 3 * last_kept:
        factor = 0.8
    else:
        factor = 1.2
    net.tally.auto_rate2_adj = <float>(net.tally.auto_rate2_adj * factor)
    return net.tally.auto_rate2_adj
