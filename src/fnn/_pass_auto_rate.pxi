# auto_rate: the training rate from two passes' change of the last level, and of its gradient.

cdef void add_squared_change(const float *new, const float *old, Py_ssize_t n, double *total) noexcept nogil:
    """Add in double the squares of float32 differences, in order."""
    cdef Py_ssize_t i
    cdef double change
    for i in range(n):
        change = new[i] - old[i]
        total[0] += change * change


cdef bint adapt_rate(Net *net) noexcept nogil:
    """auto_rate: choose the training rate from what the last pass did to the last level; True if it undoes it."""
    cdef Tally *tally = net.tally
    cdef const Level *level = &net.levels[net.n_levels - 1]
    cdef double lowest = 0.0001 / tally.cases, rate, best, low, high, changed = 0, gradient_changed = 0
    cdef float *gradient = net.gradient + level.weights
    cdef float *corners = net.corners + level.corners
    cdef float *corner_gradient = net.corner_gradient + level.corners
    cdef Py_ssize_t i, at
    if tally.training_rate <= 0:
        tally.training_rate = <float>(0.001 / tally.cases)
    if tally.redo:
        tally.redo, tally.after_redo = 0, 1
        return False
    if tally.has_saved and not tally.after_redo:
        rate = tally.training_rate
        add_squared_change(net.input_sums, net.saved_input_sums, net.n_inputs, &changed)
        add_squared_change(
            net.input_sums + net.n_inputs, net.saved_input_sums + net.n_inputs, net.n_inputs, &gradient_changed)
        for i in range(level.inputs + 1):
            at = i * level.stride
            add_squared_change(
                net.weights + level.weights + at, net.saved_weights + level.weights + at, level.outputs, &changed)
            add_squared_change(gradient + at, net.saved_gradient + at, level.outputs, &gradient_changed)
        # A slip of the class, kept: the last level's corners are compared with the first ones that were saved.
        add_squared_change(corners, net.saved_corners, net.n_corners_last, &changed)
        add_squared_change(corner_gradient, net.saved_corner_gradient, net.n_corners_last, &gradient_changed)
        if changed != 0 and gradient_changed != 0:
            best = sqrt(changed / gradient_changed) * net.settings.training_rate_scale
            low, high = best * (0.1 * 2 / 3), best * (0.1 * 5 / 6)
            if rate < low:
                tally.training_rate = min(<float>(2 * rate), <float>low)
            elif rate > lowest and rate > high:
                tally.training_rate = <float>low
                if tally.training_rate < lowest:
                    tally.training_rate = <float>lowest
                if rate > best * (15.0 / 16):
                    keep_floats(net.weights, net.saved_weights, net.n_weights)
                    keep_floats(net.corners, net.saved_corners, net.n_corners)
                    tally.redo = 1
                    tally.training_pass -= 2
                    return True
    tally.after_redo, tally.has_saved = 0, 1
    keep_floats(net.saved_input_sums, net.input_sums, 2 * net.n_inputs)
    keep_floats(net.saved_weights, net.weights, net.n_weights)
    keep_floats(net.saved_corners, net.corners, net.n_corners)
    keep_floats(net.saved_gradient, gradient, net.n_last)
    keep_floats(net.saved_corner_gradient, corner_gradient, net.n_corners_last)
    return False
