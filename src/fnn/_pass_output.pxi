# The output level: whether a sample is classified right, its effective count, its errors, and the sensitivity of its
# outputs.

cdef Py_ssize_t winner(const float *values, Py_ssize_t n) noexcept nogil:
    """Index of the strictly highest value, NONE if the maximum is shared, or with NaN."""
    cdef Py_ssize_t j, best = NONE, found = 0
    cdef float highest = values[0]
    cdef bint ordered = True
    for j in range(n):
        highest = values[j] if values[j] > highest else highest
        ordered = ordered & (values[j] == values[j])
    for j in range(n):
        best = j if values[j] == highest else best
        found += values[j] == highest
    return best if ordered and found == 1 else NONE


cdef float judge(Net *net, const float *targets, uint32_t count, float scale) noexcept nogil:
    """Count a sample as correct or not, and return its effective count after that; `scale` is the one before."""
    cdef const Level *level = &net.levels[net.n_levels - 1]
    cdef Tally *tally = net.tally
    cdef Py_ssize_t predicted = winner(level.out, level.outputs), expected = winner(targets, level.outputs)
    cdef float less
    if predicted == expected:
        tally.correct += count
        # Where all is shared, the class looks at what lies before its outputs, the last raw value.
        if (level.z[level.outputs - 1] if predicted == NONE else level.out[predicted]) > 0:
            tally.above += count
        else:
            tally.not_above += count
        if <double>scale > <double>count:
            less = scale - <float>count * net.settings.effective_decrease_rate
            return less if less > <float>count else <float>count
        return scale
    tally.incorrect += count
    tally.not_above += count
    if (<uint64_t>tally.training_pass > <uint64_t>net.settings.min_pass_effective_adj
            and <double>scale < <double>count * <double>net.settings.max_multiplier):
        return scale + <float>count
    return scale


cdef void output_errors(Net *net, const float *targets, uint32_t count, float scale) noexcept nogil:
    """Add the errors of one sample to the tally and compute the sensitivity (O) of its outputs."""
    cdef const Level *level = &net.levels[net.n_levels - 1]
    cdef Tally *tally = net.tally
    cdef Py_ssize_t j, n = level.outputs
    cdef double error, absolute = tally.abs_sum, squared = tally.squared_sum, effective = tally.effective_squared_sum
    for j in range(n):
        error = level.out[j] - targets[j]  # float32, then widened
        absolute += fabs(error) * count
        squared += error * error * count
        effective += error * error * scale
        level.sigma[j] = <float>(2 * error * scale)
    tally.abs_sum, tally.squared_sum, tally.effective_squared_sum = absolute, squared, effective
    tally.cases += count
    tally.effective_cases += scale
    tally.error_cases += <uint32_t>n * count
    tally.effective_error_cases += <float>n * scale
