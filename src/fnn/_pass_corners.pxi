# What a level of CORNER has of its own: slopes and offsets that learn, and a rule for its biases.

cdef void bend(Net *net, Level *level) noexcept nogil:
    """CORNER: the derivatives (O) of a level; its corners get their gradient and, at once, their step."""
    cdef Py_ssize_t j
    cdef float *corner = net.corners + level.corners
    cdef float *total = net.corner_gradient + level.corners
    cdef float z, sigma, rate = net.step.rate
    cdef int side
    cdef bint hit
    for j in range(level.outputs):
        z, sigma = level.z[j], level.sigma[j]
        level.d[j] = corner[0] if z < 0 else corner[2] if z > 0 else (corner[0] + corner[2]) / 2
        side = 0 if z < 0 else 2
        if net.gradient is not NULL:
            total[1] += sigma
            if z < 0 or z > 0:
                total[side] += z * sigma
        if rate != 0:
            corner[1] = limited(corner[1] - rate * sigma, corner[1], &net.step, &hit)
            if z < 0 or z > 0:
                corner[side] = limited(corner[side] - rate * (z * sigma), corner[side], &net.step, &hit)
        corner += 3
        total += 3


cdef void bend_bias(Net *net, Level *level) noexcept nogil:
    """CORNER: the gradient of a level's biases into the total, and their step; the raw values have served."""
    cdef Py_ssize_t j
    cdef const int32_t *bias = net.all + level.inputs
    for j in range(level.outputs):
        level.z[j] *= fabsf(level.sigma[j])
    if net.gradient is not NULL:
        pass_add(net.gradient + level.weights + level.inputs * level.stride, level.vecs, level.z)
    if net.step.rate != 0:
        pass_steps(net.weights + level.weights, NULL, level.stride, level.vecs, level.u, bias, 1, level.z, NULL,
                   &net.step, NULL, NULL)
