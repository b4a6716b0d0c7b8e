# What binds the tables to a State: pointers at its arrays, and scratch for some samples at once.

cdef float *floats(array, list keep) except? NULL:
    """Where an array starts, NULL if it is empty; `keep` keeps it alive."""
    cdef float[::1] view = array.reshape(-1)
    keep.append(array)
    return &view[0] if view.shape[0] else NULL


cdef class Bound:
    """What a call works with: pointers into a State, and scratch for some samples."""

    cdef Net net
    cdef list keep

    def __cinit__(self, state, Py_ssize_t seats):
        cdef Net *net = &self.net
        cdef Settings[::1] settings = state.settings
        cdef Tally[::1] tally = state.tally
        cdef uint32_t[::1] usage = state.usage
        cdef double[::1] norms = state.norms
        keep = self.keep = [state.settings, state.tally, state.usage, state.norms]
        net.settings, net.tally, net.usage, net.norms = &settings[0], &tally[0], &usage[0], &norms[0]
        net.kind, net.n_usage = state.kind, usage.shape[0]
        net.n_weights, net.n_corners = len(state.weights), len(state.corners)
        net.weights, net.corners = floats(state.weights, keep), floats(state.corners, keep)
        net.gradient, net.corner_gradient = floats(state.gradient, keep), floats(state.corner_gradient, keep)
        net.last, net.corner_last = floats(state.last, keep), floats(state.corner_last, keep)
        net.momentum, net.corner_momentum = floats(state.momentum, keep), floats(state.corner_momentum, keep)
        net.input_sums, net.saved_input_sums = floats(state.input_sums, keep), floats(state.saved_input_sums, keep)
        net.saved_weights, net.saved_corners = floats(state.saved_weights, keep), floats(state.saved_corners, keep)
        net.saved_gradient = floats(state.saved_gradient, keep)
        net.saved_corner_gradient = floats(state.saved_corner_gradient, keep)
        net.step.limit, net.step.floor = settings[0].weight_saturation, settings[0].weight_floor
        net.step.has_floor = settings[0].enable_weight_floor
        self._lay_out(state.levels, seats)

    def _lay_out(self, levels, Py_ssize_t seats):
        """Fill the tables of levels and give each its scratch."""
        cdef Net *net = &self.net
        cdef Level *level
        cdef float *scratch
        cdef int32_t[::1] lists
        cdef uint32_t[::1] marks
        cdef Py_ssize_t s, l, room, usage
        cdef float *turned = NULL
        sizes = levels.sizes
        net.n_levels = len(sizes) - 1
        net.seats = net.levels = <Level *>calloc(<size_t>(seats * net.n_levels), sizeof(Level))
        if net.seats is NULL:
            raise MemoryError("no memory for the table of levels")
        padded = [-(-size // LINE) * LINE for size in sizes]
        wide = [(size // LINE + 1) * LINE for size in sizes]  # room for the bias's 1 as well
        net.room = sum(wide) + 3 * sum(padded) - 2 * padded[0]
        scratch = floats(np.zeros(seats * net.room + 2 * wide[0] + LINE, np.float32), self.keep)
        scratch += (-<uintptr_t>scratch) % 64 // sizeof(float)
        net.next, scratch = scratch, scratch + <Py_ssize_t>wide[0]
        net.sizes, scratch = scratch, scratch + <Py_ssize_t>wide[0]
        net.next[sizes[0]] = 1
        room = max(wide) + LINE  # a vector is stored where the last number goes
        lists = np.empty((seats * net.n_levels + 3) * room, np.int32)
        np.asarray(lists)[:room] = np.arange(room)
        marks = np.empty(2 * room, np.uint32)
        self.keep += [lists, marks]
        net.with_input, net.with_sigma = &marks[0], &marks[room]
        net.all, net.listed, net.both = &lists[0], &lists[room], &lists[2 * room]
        if net.gradient is not NULL and seats > 1:
            room_turned = sum(below * own for below, own in zip(wide, sizes[1:]))
            turned = floats(np.empty(room_turned + LINE, np.float32), self.keep)
            turned += (-<uintptr_t>turned) % 64 // sizeof(float)
        for s in range(seats):
            take_seat(net, s)
            usage = sizes[0]
            for l in range(net.n_levels):
                level = &net.levels[l]
                level.inputs, level.outputs, level.stride = sizes[l], sizes[l + 1], levels.strides[l]
                level.vecs = (level.outputs + PASS_LANES - 1) // PASS_LANES
                level.weights, level.corners, level.usage = levels.offsets[l], levels.corner_offsets[l], usage
                usage += level.outputs
                net.has_wide = net.has_wide or level.vecs > PASS_NARROW
                level.listed = &lists[(s * net.n_levels + l + 3) * room]
                level.u, scratch = scratch, scratch + <Py_ssize_t>wide[l]
                level.u[level.inputs] = 1
                if turned is not NULL and s == 0:
                    level.turned, level.turned_stride = turned, wide[l]
                    turned += level.turned_stride * level.outputs
                level.below, scratch = scratch, scratch + <Py_ssize_t>padded[l]
                level.z, scratch = scratch, scratch + <Py_ssize_t>padded[l + 1]
                level.d, scratch = scratch, scratch + <Py_ssize_t>padded[l + 1]
                if l > 0:
                    net.levels[l - 1].out, net.levels[l - 1].sigma = level.u, level.below
            level.out, scratch = scratch, scratch + <Py_ssize_t>wide[net.n_levels]
            level.sigma, scratch = scratch, scratch + <Py_ssize_t>padded[net.n_levels]
        take_seat(net, 0)
        level = &net.levels[net.n_levels - 1]
        net.n_inputs, net.n_corners_last = level.inputs, 3 * level.outputs if net.kind == CORNER else 0
        net.n_last = net.n_weights - level.weights

    def __dealloc__(self):
        free(self.net.seats)


cdef Bound bound_to(state):
    """The state's own Bound, made once; `make_room`, which alone gives a state other arrays, drops it."""
    if type(state.bound) is not Bound:
        state.bound = Bound(state, SEATS)
    return state.bound
