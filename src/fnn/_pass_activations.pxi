# Activations: the outputs of a level from its raw values, and the derivatives of those whose slopes are fixed.

cdef void activate(const Net *net, Level *level) noexcept nogil:
    """The outputs (O) of a level from its raw values (O)."""
    cdef Py_ssize_t j, n = level.outputs
    cdef const float *z = level.z
    cdef float *out = level.out
    cdef const float *corner = net.corners + level.corners
    cdef float leakiness = net.settings.relu_leakiness
    if net.kind == CORNER:
        for j in range(n):
            out[j] = (z[j] * corner[0] if z[j] < 0 else z[j] * corner[2] if z[j] > 0 else z[j]) + corner[1]
            corner += 3
    elif level == &net.levels[net.n_levels - 1]:
        memcpy(out, z, <size_t>n * sizeof(float))
    elif net.kind == RELU:
        for j in range(n):
            out[j] = 0 if z[j] < 0 else z[j]
    else:
        for j in range(n):
            out[j] = z[j] * leakiness if z[j] < 0 else z[j]


cdef void derivatives(Net *net, Level *level) noexcept nogil:
    """The derivatives (O) of a level below the last, of RELU or LEAKY_RELU; RELU counts who is used."""
    cdef Py_ssize_t j, n = level.outputs
    cdef const float *z = level.z
    cdef float *d = level.d
    cdef float slope = 0 if net.kind == RELU else net.settings.relu_leakiness
    cdef uint32_t *usage = net.usage + level.usage
    for j in range(n):
        d[j] = slope if z[j] < 0 else 1
    if net.kind == RELU:
        for j in range(n):
            usage[j] += z[j] >= 0
