# Neurons that were hardly used are turned round: weights into them change their sign, those out of them become 0.

cdef Py_ssize_t turn_round(Net *net, int64_t max_unused) noexcept nogil:
    cdef const Level *level
    cdef const Level *above
    cdef Py_ssize_t l, i, j, found = 0
    cdef float *incoming
    if net.kind != RELU or net.tally.redo:
        return 0
    for l in range(net.n_levels - 1):
        level, above = &net.levels[l], &net.levels[l + 1]
        for j in range(level.outputs):
            if net.usage[level.usage + j] > max_unused:
                continue
            incoming = net.weights + level.weights + j
            for i in range(level.inputs + 1):
                incoming[i * level.stride] = -incoming[i * level.stride]
            clear(net.weights + above.weights + j * above.stride, above.outputs)
            found += 1
    if found:
        net.tally.training_rate, net.tally.has_saved = -1, 0
    return found
