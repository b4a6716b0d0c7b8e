# The workspace of a training run: all memory in one block, how the team should share a layer by an estimate of the time
# that it takes, and the copies into the panels and out of them.

cdef class Workspace:
    """A working copy of the parameters with the scratch of one training run; allocated once, nothing per step.

    Parameters
    ----------
    layout : Layout
    dtype : numpy.dtype
        float32 or float64.
    batch_size : int
        Rows of a mini-batch at most.
    states : int
        Vectors of P numbers that the optimiser keeps.
    threads : int
        Threads it may use; fewer are used where a step has too little work to share.
    keep_gradient : bool, default False
        Whether there is room for a gradient even where one chunk is a whole batch.
    halves : bool, optional
        Whether a batch goes through as two halves that a thread each may take; unless given, where that should save
        time. It changes the order of the gradient's sums, so it depends on nothing but the shape.
    stages : bool, optional
        Whether two threads or more share out the layers, each with some of them to itself; unless given, where that
        should save time. It changes no bit.
    flat : numpy.ndarray of shape (P,), optional
        Parameters that the way forward packs block by block each time it comes to them, instead of those that `load`
        copies: less work for few rows.  The layout has no corners.
    """

    cdef Plan plan
    cdef object layout, flat, arena, index, squares, row_table, stage_table, relays, ranges
    cdef bint may_stage, wants_stages  # whether there is room for stages; whether they are taken whatever they should gain
    cdef double[::1] row_losses
    cdef Py_ssize_t[::1] counts  # of what each layer's list holds (online)
    cdef char *memory
    cdef bint single, online
    cdef public Py_ssize_t updates  # since the states were zero
    cdef public uint64_t mask_seed  # of dropout
    cdef readonly double penalties  # what they make of the sum that the last epoch returned
    cdef fnn_team *helpers
    cdef double paces[2]
    cdef bint alone  # whether one thread was the faster lately
    cdef Py_ssize_t settled, since  # epochs to leave to the faster way before the other is tried, and those since a try
    cdef readonly int used  # threads that did the last epoch
    cdef int asked_threads, most_threads, team
    cdef double gain  # seconds that the team should save at a step
    cdef readonly bint close  # whether that is so little that one thread may be as fast
    cdef readonly Py_ssize_t batch_size

    def __cinit__(self, layout, dtype, batch_size, states, threads, *, keep_gradient=False, halves=None,
                  stages=None, flat=None):
        cdef Plan *plan = &self.plan
        cdef Layer *layer
        cdef Py_ssize_t l, at, start, inputs = 0, units = 0, vector, panel
        self.layout, self.batch_size = layout, batch_size
        self.online = batch_size == 1 and not states and not keep_gradient and layout.is_plain and not layout.drops
        self.asked_threads, self.most_threads = threads, min(threads, FNN_MOST_THREADS)
        self.single = np.dtype(dtype) == np.float32
        if flat is not None:
            self._pack_late(flat)
        vector = lanes(<float *>NULL) if self.single else lanes(<double *>NULL)
        panel = 2 * vector
        widest = max(layout.sizes[1:])
        if (self.online and layout.sizes[0] <= FEW_INPUTS and widest <= vector
                and FNN_SIGMOID not in [activation.code for activation in layout.activations]):  # sigmoid(0) is not 0
            plan.narrow = min(bytes for bytes in (16, 32, 64) if bytes >= widest * (4 if self.single else 8))
            plan.chain = <fnn_layer *>calloc(<size_t>layout.n_layers, sizeof(fnn_layer))
            if plan.chain is NULL:
                raise MemoryError("workspace: no memory for the table of narrow layers")
        quick = CHUNK_SECONDS * OPERATIONS_A_SECOND * vector / layout.operations
        plan.n_layers, plan.lanes = layout.n_layers, vector
        plan.rows = min(batch_size, CHUNK_ROWS, max(FEWEST_ROWS, int(quick)))
        plan.block_bytes = second_level_cache() // 4
        plan.layers = <Layer *>calloc(2 * <size_t>plan.n_layers, sizeof(Layer))
        self.helpers = fnn_assemble()
        if plan.layers is NULL or self.helpers is NULL:
            raise MemoryError("workspace: no memory for the tables of layers and threads")
        at = 0
        for l in range(plan.n_layers):
            layer = &plan.layers[l]
            layer.inputs, layer.outputs = layout.shapes[l]
            layer.height = (layout.offsets[l + 1] - layout.offsets[l]) // layer.outputs
            layer.code, layer.slope = layout.activations[l].code, layout.activations[l].slope
            if layout.bends[l]:
                layer.code = FNN_IDENTITY  # `bend_share` does the rest
            layer.weights, layer.index, layer.units, layer.flat = at, inputs, units, layout.offsets[l]
            units += pieces(layer.inputs, panel) * pieces(layer.outputs, panel)
            layer.wide = layer.inputs * layer.outputs * (4 if self.single else 8) > WIDE_CACHES * 4 * plan.block_bytes
            layer.rate_scale = layout.rate_scales[l]
            layer.dropout = dropout_of(layout.dropouts[l + 1])
            layer.skip, layer.concat = layout.skips[l].distance, layout.skips[l].mode == "concat"
            layer.gathers = l in layout.skipped_to
            layer.heads = all(l - layer.skip != m - layout.skips[m].distance for m in range(l + 1, layout.n_layers))
            layer.listed = layer.inputs > FEW_INPUTS and (l == 0 or plan.layers[l - 1].code == FNN_RELU)
            if flat is None:
                at += layer.height * padded(layer.outputs, vector)
            if l == 0:
                plan.list_room = padded(layer.inputs, 16) + 16  # a vector is stored where the last number goes
                inputs = 3 * plan.list_room
            else:
                inputs += padded(layer.inputs, 16) + 16
        plan.n_padded = at
        plan.input_dropout = dropout_of(layout.dropouts[0])
        if states:
            plan.state = at
            at += states * plan.n_padded
        plan.halves = self._halving_pays() if halves is None else halves
        plan.room = pieces(plan.rows, 1 + plan.halves)
        if max(layout.sizes) > 4 * panel:
            plan.room = roomy(plan.room, panel * (4 if self.single else 8))
        for l in range(plan.n_layers):
            plan.layers[l].by_columns = False
        self.wants_stages = bool(stages)
        self.may_stage = self._may_stage(keep_gradient, stages)
        if keep_gradient or batch_size > plan.rows or plan.halves:
            plan.gradient = at
            at += plan.n_padded * (1 + plan.halves)
        start = at
        at = self._place_panels(plan.layers, at)
        if self.online:
            plan.group_sums, plan.group_deltas = at, at + GROUP * padded(layout.sizes[1], panel)
            at += 2 * GROUP * padded(layout.sizes[1], panel)
        if layout.has_skips:
            plan.input_delta = at
            at += plan.room * max(padded(layout.shapes[l][0], panel) for l in range(plan.n_layers) if layout.skips[l][0])
        plan.row_buffers, plan.row_buffer = at, padded(layout.sizes[-1], panel)
        at += 3 * plan.row_buffer * self.most_threads
        plan.block = at
        if plan.n_layers > 1 or flat is not None:
            at += tile_panels(FNN_VECS) * block_panel(plan) * self.most_threads
        # All that is kept of a batch is at most three times its activations, the inputs among them.
        at += self._plan_inputs(at, 3 * plan.rows * sum(layout.sizes) - (at - start))
        if plan.halves:
            memcpy(&plan.layers[plan.n_layers], plan.layers, <size_t>plan.n_layers * sizeof(Layer))
            at = self._place_panels(&plan.layers[plan.n_layers], at)
            plan.layers[plan.n_layers].u = at
            at += plan.room * padded(layout.sizes[0], panel)
        self._reserve(at)
        self._leave_inputs_where_they_are()
        self._point_at_relays()
        self._point_at_ranges()
        self.threads = self._best_team()
        alone, together = self._seconds(1), self._seconds(self.team)
        self.gain, self.close = alone - together, alone < CLOSE * together

    cdef Py_ssize_t _place_panels(self, Layer *layers, Py_ssize_t at):
        """Find room for what is kept of a batch, or of a half, at offset `at`; return where it ends."""
        cdef Py_ssize_t l, vector = self.plan.lanes, panel = 2 * vector, room = self.plan.room
        cdef Layer *layer
        for l in range(self.plan.n_layers):
            layer = &layers[l]
            if l > 0:
                layer.u = layers[l - 1].v
                if layer.skip:
                    layer.u = at
                    at += room * padded(layer.inputs, panel)
                if self.online and layer.outputs <= panel or self.may_stage:
                    layer.transposed = at
                    at += padded(layer.inputs, vector) * padded(layer.outputs, vector)
            layer.v = at
            layer.g = at + room * padded(layer.outputs, panel)
            at += 2 * room * padded(layer.outputs, panel)
            if self.layout.bends[l]:
                layer.bend = at
                at += 3 * room * padded(layer.outputs, panel)
        return at

    def _pack_late(self, parameters):
        """Point the plan at the flat vector (P,), which `forward_share` packs."""
        cdef const float[::1] singles
        cdef const double[::1] doubles
        self.flat = parameters
        if self.single:
            singles = parameters
            self.plan.flat = &singles[0]
        else:
            doubles = parameters
            self.plan.flat = &doubles[0]

    def _plan_inputs(self, Py_ssize_t at, Py_ssize_t spare):
        """Find room for the gathered inputs at offset `at`, and for the lists of products that skip zeros, in what is
        left of three batches of activations; return the numbers that they take.

        Lists come before inputs of each thread's own: to take over inputs from another core should cost a step less
        than its zeros do (docs/engine.md).
        """
        cdef Plan *plan = &self.plan
        cdef Py_ssize_t l, copies, one = plan.room * padded(plan.layers[0].inputs, 2 * plan.lanes), lists, fewest
        plan.layers[0].u = at
        if self._plan_lists():
            for copies, fewest in ((self.most_threads, plan.rows), (1, pieces(plan.rows, FNN_TERMS) * 2 * plan.lanes)):
                plan.input_copies = copies
                lists = self._fit_lists(at + copies * one, spare - copies * one, max(fewest, FNN_TERMS))
                if lists:
                    return copies * one + lists
        for l in range(plan.n_layers):
            plan.layers[l].may_list = plan.layers[l].sparse_input = plan.layers[l].sparse_delta = False
        inputs, others = self.layout.sizes[0], sum(self.layout.sizes[1:])
        plan.input_copies = 1 if plan.halves else min(self.most_threads, (others + 3 * inputs) // inputs)
        return plan.input_copies * one

    def _plan_lists(self):
        """Find the products that may skip zeros; return whether there are any."""
        cdef Plan *plan = &self.plan
        cdef Layer *layer
        cdef Py_ssize_t l, least = LISTED_BYTES // (4 if self.single else 8)
        cdef bint wanted = False
        if plan.rows <= MOST_LEFT or self.online or plan.halves or self.layout.has_skips or self.flat is not None:
            return False
        if self.may_stage:  # of rows that pass in waves few would be listed at a time
            return False
        for l in range(plan.n_layers):
            layer = &plan.layers[l]
            layer.may_list = layer.outputs >= least and (l == 0 or plan.layers[l - 1].code == FNN_RELU)
            layer.may_list = layer.may_list or (l == 0 and layer.outputs >= FNN_QUAD * 2 * plan.lanes)
            layer.sparse_input = l > 0 and layer.may_list
            layer.sparse_delta = layer.inputs >= least and layer.code == FNN_RELU and l < plan.n_layers - 1
            wanted = wanted or layer.may_list or layer.sparse_delta
        return wanted

    def _fit_lists(self, Py_ssize_t at, Py_ssize_t spare, Py_ssize_t fewest):
        """Find room for each thread's lists at offset `at`, as many of them as there is room for; return the numbers
        that they take, 0 where not even the fewest fit."""
        cdef Plan *plan = &self.plan
        cdef Py_ssize_t width = 4 if self.single else 8
        plan.lists, plan.list_rows = at, max(plan.rows, FNN_TERMS) * pieces(LISTED_INPUTS, FNN_TERMS)
        while plan.list_rows > fewest and list_numbers(plan, width) * self.most_threads > spare:
            plan.list_rows = max(fewest, plan.list_rows - 2 * plan.lanes)
        plan.lists_room = list_numbers(plan, width)
        return plan.lists_room * self.most_threads if plan.lists_room * self.most_threads <= spare else 0

    def _halving_pays(self):
        """Whether two threads should be the faster with a half of each batch, and there is room for a second gradient.

        Nothing but the shape decides, so that every number of threads takes the sums in the same order.
        """
        sizes = self.layout.sizes
        room = self.plan.rows * (sum(sizes) + sizes[0])  # three batches of activations hold this beside what is kept
        if self.online or self.layout.has_skips or not FEWEST_ROWS <= self.batch_size <= MOST_HALVED:
            return False
        if 4 * self.plan.n_padded > room:  # to write and read the gradients would cost one thread more than two save
            return False
        return self._halved_seconds(2) < HALVING_GAIN * min(self._seconds(1), self._seconds(2))

    cdef double _halved_seconds(self, int team):
        """Estimate the time of a step of all rows, as two halves: half of the gradient and the weights cross cores."""
        cdef Layer *layer
        cdef Py_ssize_t l
        cdef double alone = 0, crossing
        for l in range(self.plan.n_layers):
            layer = &self.plan.layers[l]
            alone += (6.0 if l else 4.0) * layer.inputs * layer.outputs
        alone *= self.plan.rows / (OPERATIONS_A_SECOND * self.plan.lanes)
        crossing = <double>self.plan.n_padded * (4 if self.single else 8) * self.plan.rows / self.batch_size
        return alone if team == 1 else alone / 2 + crossing / BYTES_A_SECOND + 2 * SECONDS_TO_MEET

    def _may_stage(self, keeps_gradient, asked):
        """Whether batches are whole and plain enough for stages, and with some number of threads worth them; of wide
        layers products may skip zeros instead."""
        cdef Plan *plan = &self.plan
        if asked == False or self.online or plan.halves or self.layout.has_skips or self.flat is not None:
            return False
        if keeps_gradient or self.batch_size > plan.rows or self.batch_size == 1 or self.most_threads == 1:
            return False
        self.stage_table = np.zeros(self.most_threads, np.intp)
        cdef Py_ssize_t[::1] table = self.stage_table
        plan.stage_ends = &table[0]
        if asked or max(self.layout.sizes[1:]) * (4 if self.single else 8) >= LISTED_BYTES:
            return bool(asked)
        return any(self._staged_seconds(team) < self._shared_seconds(team) for team in range(2, self.most_threads + 1))

    cdef double _staged_seconds(self, int team) except -1:
        """Estimate the time of a step of all rows in stages, and choose each thread's layers: those whose middle lies in
        its part of all operations, and thread 0's the first, as it gathers the rows."""
        cdef Plan *plan = &self.plan
        cdef Layer *layer
        cdef Py_ssize_t l, product
        cdef int stage, waves = waves_of(plan.rows, team)
        cdef double all = 0, before = 0, passing, gradient, longest = 0, longest_gradient = 0
        for l in range(plan.n_layers):
            all += (6.0 if l else 4.0) * plan.layers[l].inputs * plan.layers[l].outputs
        l = 0
        for stage in range(team):
            passing = gradient = 0
            while l < plan.n_layers:
                layer = &plan.layers[l]
                product = layer.inputs * layer.outputs
                if l and stage < team - 1 and (before + 3.0 * product) * team > all * (stage + 1):
                    break
                before += (6.0 if l else 4.0) * product
                passing += ((4.0 if l else 2.0) * product * plan.rows / (OPERATIONS_A_SECOND * plan.lanes)
                            + waves * SECONDS_A_WAVE)
                gradient += 2.0 * product * plan.rows / (OPERATIONS_A_SECOND * plan.lanes)
                l += 1
            plan.stage_ends[stage] = l
            longest, longest_gradient = max(longest, passing), max(longest_gradient, gradient)
        if plan.n_layers < STAGE_LAYERS * team and not self.wants_stages:
            return INFINITY
        return (longest * (waves + team - 1) / waves + longest_gradient
                + 2 * (waves + team) * SECONDS_TO_MEET)

    cdef double _seconds(self, int team) except -1:
        """Estimate the time of a step of all rows, and choose what the threads share."""
        cdef double shared, staged
        self.plan.stages = 0
        if self.online:
            return self._online_seconds(team)
        if self.plan.halves:
            return self._halved_seconds(team)
        shared = self._shared_seconds(team)
        if team == 1 or not self.may_stage:
            return shared
        staged = self._staged_seconds(team)
        if staged >= shared and not self.wants_stages:
            return shared
        self._stage(team)
        return staged

    cdef void _stage(self, int team):
        """Have so many threads share out the layers."""
        self.plan.stages = team
        for l in range(self.plan.n_layers):
            self.plan.layers[l].by_columns = False

    cdef double _shared_seconds(self, int team) except -1:
        """Estimate the time of a step of all rows, and choose what the threads share of each layer."""
        cdef Plan *plan = &self.plan
        cdef Layer *layer
        cdef Py_ssize_t l, panels, width = 4 if self.single else 8
        cdef double total = 0, others = (team - 1.0) / team, alone, rows, columns, weights, meet
        for l in range(plan.n_layers):
            layer = &plan.layers[l]
            panels = pieces(layer.outputs, 2 * plan.lanes)
            alone = (6.0 if l else 4.0) * layer.inputs * layer.outputs * plan.rows / (OPERATIONS_A_SECOND * plan.lanes)
            weights = others * (2.0 if l else 1.0) * layer.inputs * layer.outputs
            values = others * plan.rows * ((2.0 if l else 0.0) * layer.inputs + layer.outputs)
            rows = alone / team + width * (weights + values) / BYTES_A_SECOND
            columns = (alone * pieces(panels, team) / panels + width * values / BYTES_A_SECOND + 2 * SECONDS_TO_MEET)
            layer.by_columns = team > 1 and columns < rows and not plan.input_delta
            total += (columns if layer.by_columns else rows) if team > 1 else alone
        return total + 2 * SECONDS_TO_MEET * (team > 1)

    cdef double _online_seconds(self, int team):
        """Estimate the time of a row in the first layer, which is all that the threads share, where rows go in groups."""
        cdef Layer *layer = &self.plan.layers[0]
        cdef Py_ssize_t panels = pieces(layer.outputs, 2 * self.plan.lanes)
        cdef double weights = (4 if self.single else 8) * (layer.inputs + 1) * layer.outputs
        return 1.4 * weights * pieces(panels, team) / panels / ONLINE_BYTES_A_SECOND + 0.8 * SECONDS_TO_MEET * (team > 1)

    cdef bint better_alone(self, Py_ssize_t rows):
        """Whether to leave an epoch to one thread, because that was faster lately: another program, or a library's
        spinning threads, may have taken the other cores, or what crosses them costs more than estimated.  Whichever way
        is slower is tried again ever more seldom, where a try costs little."""
        cdef bint alone = 0 < self.paces[0] < self.paces[1]
        cdef double best = self.paces[0] if alone else self.paces[1]
        if self.gain == INFINITY or best == 0 or best * rows > SHORT_EPOCH and not self.close:
            return False
        self.since += 1
        if self.since > self.settled + TRIED:
            self.settled, self.since = min(max(2 * self.settled, FEWEST_SETTLED), MOST_SETTLED), 1
        if self.since > self.settled:
            return not self.alone
        self.alone = alone
        return alone

    cdef void note_pace(self, bint helped, double seconds):
        """Remember how long a row took: on average, in which a hiccup counts little, or in a try at last."""
        cdef double lately = self.paces[helped]
        if lately == 0 or self.since > self.settled:
            self.paces[helped] = seconds
        else:
            self.paces[helped] += (min(seconds, 3 * lately) - lately) / 4

    def _best_team(self):
        """Number of threads with which a step should take the least time; any number gives the same result."""
        best, least = 1, float("inf")
        for team in range(1, self.most_threads + 1):
            seconds = self._seconds(team)
            if seconds < least:
                best, least = team, seconds
        return best

    def _reserve(self, Py_ssize_t numbers):
        """Allocate the arena, its start on a cache line and all behind the parameters zero, and the lists."""
        cdef unsigned char[::1] raw
        cdef int32_t[::1] index
        cdef Py_ssize_t width = 4 if self.single else 8
        self.arena = np.empty(numbers * width + 64, np.uint8)
        raw = self.arena
        self.memory = <char *>&raw[0] + (-<uintptr_t>&raw[0]) % 64
        memset(self.memory + self.plan.n_padded * width, 0, <size_t>((numbers - self.plan.n_padded) * width))
        lists = [np.arange(padded(width, 16) + 16, dtype=np.int32) for width in self.layout.sizes[:-1]]
        self.index = np.concatenate(lists[:1] * 3 + lists[1:])
        index = self.index
        self.plan.index = &index[0]
        self.row_losses = np.zeros(self.plan.rows)
        self.counts = np.zeros(self.plan.n_layers, np.intp)

    def _leave_inputs_where_they_are(self):
        """Read the inputs of small batches in x itself, unless a skip joins them, dropout changes them or so many rows
        lie a multiple of 4 KiB apart that they would push each other out of the first-level cache."""
        cdef Plan *plan = &self.plan
        cdef Py_ssize_t[::1] table
        in_a_set = plan.rows * gcd(plan.layers[0].inputs * (4 if self.single else 8), 4096) / 4096
        where_they_lie = plan.rows <= MOST_LEFT and in_a_set <= LINES_OF_A_SET and not self.layout.dropouts[0]
        if where_they_lie and not plan.input_delta and not plan.halves:
            self.row_table = np.zeros(plan.rows * self.most_threads, np.intp)
            table = self.row_table
            plan.row_table = <const void **>&table[0]

    def _point_at_relays(self):
        """Give each thread its two counts of what it has handed on, each on a cache line."""
        cdef char[::1] raw
        if self.may_stage:
            self.relays = np.zeros((2 * self.most_threads + 1) * sizeof(fnn_relay), np.int8)
            raw = self.relays
            self.plan.relays = <fnn_relay *>(&raw[0] + (-<uintptr_t>&raw[0]) % sizeof(fnn_relay))

    def _point_at_ranges(self):
        """Give each thread the ranges of wide layers that it takes in pieces, each on a cache line."""
        cdef char[::1] raw
        self.plan.most_threads = self.most_threads
        if any(self.plan.layers[l].wide for l in range(self.plan.n_layers)):
            self.ranges = np.zeros((PHASES * self.plan.n_layers * self.most_threads + 1) * sizeof(fnn_range), np.int8)
            raw = self.ranges
            self.plan.ranges = <fnn_range *>(&raw[0] + (-<uintptr_t>&raw[0]) % sizeof(fnn_range))

    def __dealloc__(self):
        free(self.plan.chain)
        free(self.plan.layers)
        fnn_dismiss(self.helpers)

    @property
    def threads(self):
        """Threads in use; may be set from 1 to those that were asked for; one where the compiler has no others."""
        return self.team

    @threads.setter
    def threads(self, int count):
        if not 1 <= count <= self.asked_threads:
            raise ValueError(f"threads: expected 1 to {self.asked_threads}, got {count}")
        self.team = min(count, self.most_threads)
        self._seconds(self.team)
        self.gain = INFINITY  # whoever sets it wants it
        self._place_inputs()

    @property
    def pace(self):
        """Seconds that a row took lately, by one thread and by the team; 0 where not known.  May be set to compare."""
        return self.paces[0], self.paces[1]

    @pace.setter
    def pace(self, seconds):
        self.paces[0], self.paces[1] = seconds

    @property
    def halves(self):
        """Whether a batch goes through as two halves."""
        return bool(self.plan.halves)

    @property
    def stages(self):
        """The layer behind the last of each thread, where the threads share out the layers; else none.  Whatever sets
        `by_columns` ends that."""
        return [self.plan.stage_ends[stage] for stage in range(self.plan.stages)]

    @property
    def sparse(self):
        """Of each layer, whether its products may skip zeros of its input, and of its delta; may be taken from them, to
        compare."""
        return [(bool(self.plan.layers[l].may_list), bool(self.plan.layers[l].sparse_delta))
                for l in range(self.plan.n_layers)]

    @sparse.setter
    def sparse(self, chosen):
        if any(new > old for news, olds in zip(chosen, self.sparse) for new, old in zip(news, olds)):
            raise ValueError(f"sparse: expected at most {self.sparse}, got {chosen}")
        for l in range(self.plan.n_layers):
            self.plan.layers[l].may_list, self.plan.layers[l].sparse_delta = chosen[l]
            self.plan.layers[l].sparse_input = l > 0 and chosen[l][0]

    @property
    def by_columns(self):
        """Of each layer, whether the threads share its neurons; else they share the batch's rows.  `threads` sets it to
        what should take the least time; it may be set to compare.  With skips they always share rows: what a skip joins
        and spreads is then each thread's own.  Where a batch goes through as two halves each is one thread's."""
        return [bool(self.plan.layers[l].by_columns) for l in range(self.plan.n_layers)]

    @by_columns.setter
    def by_columns(self, chosen):
        if self.plan.input_delta and any(chosen):
            raise ValueError("by_columns: a network with skips shares rows only")
        if self.plan.halves and any(chosen):
            raise ValueError("by_columns: batches that go through as two halves share rows only")
        for l in range(self.plan.n_layers):
            self.plan.layers[l].by_columns = chosen[l]
        self.plan.stages = 0
        self._place_inputs()

    @property
    def wide(self):
        """Of each layer, whether its weights take more than a few second-level caches: then its neurons, where the
        threads share them, are taken in pieces.  May be set to compare."""
        return [bool(self.plan.layers[l].wide) for l in range(self.plan.n_layers)]

    @wide.setter
    def wide(self, chosen):
        for l in range(self.plan.n_layers):
            self.plan.layers[l].wide = chosen[l]
        self._point_at_ranges()

    def _place_inputs(self):
        """Give each thread inputs of its own where that is possible and worth it."""
        cdef Plan *plan = &self.plan
        plan.own_input = 0
        if plan.layers[0].by_columns and self.team <= plan.input_copies:
            plan.own_input = plan.room * padded(plan.layers[0].inputs, 2 * plan.lanes)

    def load(self, parameters, double saturation):
        """Copy the parameters (P,) in, brought inside the saturation limit."""
        if self.single:
            _load_parameters[float](self, parameters, saturation)
        else:
            _load_parameters[double](self, parameters, saturation)

    def store(self, parameters):
        """Copy the working parameters out to `parameters` (P,)."""
        if self.single:
            _store_parameters[float](self, parameters)
        else:
            _store_parameters[double](self, parameters)

    def load_state(self, state):
        """Copy the optimiser's state in: `states` vectors (P,), one after the other."""
        _copy_state(self, np.ascontiguousarray(state), True)

    def store_state(self, state):
        """Copy the optimiser's state out to `state` (states * P,)."""
        _copy_state(self, state, False)

    def is_finite(self):
        """Whether no working parameter is NaN or infinite."""
        if self.single:
            return all_finite(<float *>self.memory, self.plan.n_padded)
        return all_finite(<double *>self.memory, self.plan.n_padded)

    cdef void refresh_transposed(self):
        """Bring what online training keeps beside the weights up to them."""
        if self.single:
            transpose_kept(<float *>self.memory, &self.plan, 0, self.plan.n_layers)
        else:
            transpose_kept(<double *>self.memory, &self.plan, 0, self.plan.n_layers)

    def put(self, str which, Py_ssize_t l, values, Py_ssize_t number=0):
        """Copy rows (B, width) into the panels of layer l's input "u", output "v", delta "g", or a matrix of "bend"."""
        _panels(self, which, l, np.ascontiguousarray(values), True, number)

    def put_layers(self, layers, rows):
        """Copy some rows of [x, v_1, ..., v_(L-1)] into the panels that layers read; join what some of them read."""
        cdef Py_ssize_t l
        cdef Share share
        self.put("u", 0, layers[0][rows])
        for l in range(1, self.plan.n_layers):
            self.put("v", l - 1, layers[l][rows])
            share = share_of(&self.plan, &self.plan.layers[l], len(layers[0][rows]), 0, 1)
            if self.plan.layers[l].skip and self.single:
                join_share(<float *>self.memory, &self.plan, l, &share)
            elif self.plan.layers[l].skip:
                join_share(<double *>self.memory, &self.plan, l, &share)

    def take(self, str which, Py_ssize_t l, values, Py_ssize_t number=0):
        """Copy rows out of the panels of layer l's output "v", delta "g" or matrix `number` of "bend" into `values`."""
        _panels(self, which, l, values, False, number)

    cdef void drop(self, bint on):
        """Let the sweep drop what the layout says, or nothing."""
        self.plan.input_dropout.on = on and self.plan.input_dropout.kept < 1
        for l in range((1 + self.plan.halves) * self.plan.n_layers):
            self.plan.layers[l].dropout.on = on and self.plan.layers[l].dropout.kept < 1

    cdef void forward(self, Py_ssize_t rows, Draw draw):
        """Run the forward kernels on the first `rows` rows."""
        cdef Py_ssize_t l
        cdef Rows span
        span.begin, span.end = 0, rows
        if self.single:
            drop_inputs(<float *>self.memory, &self.plan, span, &draw, 0)
        else:
            drop_inputs(<double *>self.memory, &self.plan, span, &draw, 0)
        for l in range(self.plan.n_layers):
            share = share_of(&self.plan, &self.plan.layers[l], rows, 0, 1)
            if self.single:
                forward_share(<float *>self.memory, &self.plan, l, &share, 0, NULL)
                drop_share(<float *>self.memory, &self.plan, l, &share, &draw)
            else:
                forward_share(<double *>self.memory, &self.plan, l, &share, 0, NULL)
                drop_share(<double *>self.memory, &self.plan, l, &share, &draw)

    def backward(self, Py_ssize_t rows):
        """Run the backward kernels on the first `rows` rows."""
        cdef Py_ssize_t l, last = self.plan.n_layers - 1
        if self.plan.layers[last].bend:
            share = share_of(&self.plan, &self.plan.layers[last], rows, 0, 1)
            if self.single:
                bend_back_share(<float *>self.memory, &self.plan, last, &share)
            else:
                bend_back_share(<double *>self.memory, &self.plan, last, &share)
        for l in range(self.plan.n_layers - 1, 0, -1):
            share = share_of(&self.plan, &self.plan.layers[l - 1], rows, 0, 1)
            if self.single:
                backward_share(<float *>self.memory, &self.plan, l, &share, 0, False)
            else:
                backward_share(<double *>self.memory, &self.plan, l, &share, 0, False)

    def add_gradient(self, Py_ssize_t rows, bint first):
        """Put the gradient over the first `rows` rows in the place of the gradient, or add it there."""
        cdef Py_ssize_t l
        cdef fnn_rule rule
        memset(&rule, 0, sizeof(rule))
        rule.kind = FNN_STORE if first else FNN_ADD
        for l in range(self.plan.n_layers):
            if self.single:
                gradient_share(<float *>self.memory, &self.plan, l, rows, &rule, 0, 1, NULL, NULL, NULL, NULL)
            else:
                gradient_share(<double *>self.memory, &self.plan, l, rows, &rule, 0, 1, NULL, NULL, NULL, NULL)

    def store_gradient(self, out):
        """Copy the gradient out to `out` (P,)."""
        if self.single:
            _copy_gradient[float](self, out)
        else:
            _copy_gradient[double](self, out)


cdef void _load_parameters(Workspace work, const real[::1] flat, double limit):
    cdef real *arena = <real *>work.memory
    with nogil:
        copy_parameters(<real *>&flat[0], arena, &work.plan, True)  # which are only read
        if limit != INFINITY:
            limit_values(arena, work.plan.n_padded, limit)
        transpose_kept(arena, &work.plan, 0, work.plan.n_layers)


cdef void _store_parameters(Workspace work, real[::1] flat):
    with nogil:
        copy_parameters(&flat[0], <real *>work.memory, &work.plan, False)


def _copy_state(Workspace work, state, bint into):
    cdef Py_ssize_t n = work.layout.n_parameters, at
    cdef float[::1] singles
    cdef double[::1] doubles
    for which in range(len(state) // n):
        at = work.plan.state + which * work.plan.n_padded
        if work.single:
            singles = state[which * n:(which + 1) * n]
            copy_parameters(&singles[0], <float *>work.memory + at, &work.plan, into)
        else:
            doubles = state[which * n:(which + 1) * n]
            copy_parameters(&doubles[0], <double *>work.memory + at, &work.plan, into)


cdef void _copy_gradient(Workspace work, real[::1] out):
    copy_parameters(&out[0], <real *>work.memory + work.plan.gradient, &work.plan, False)


def _panels(Workspace work, str which, Py_ssize_t l, values, bint into, Py_ssize_t number):
    cdef Layer *layer = &work.plan.layers[l]
    cdef Py_ssize_t r, at = layer.u if which == "u" else layer.g if which == "g" else layer.v
    if which == "bend":
        at = layer.bend + number * work.plan.room * padded(layer.outputs, 2 * work.plan.lanes)
    cdef float[:, ::1] singles
    cdef double[:, ::1] doubles
    if work.single:
        singles = values
        for r in range(singles.shape[0]):
            if into:
                rows_to_panels(<float *>work.memory + at, work.plan.room, r, &singles[r, 0], singles.shape[1])
            else:
                panels_to_row(&singles[r, 0], <float *>work.memory + at, work.plan.room, r, singles.shape[1])
    else:
        doubles = values
        for r in range(doubles.shape[0]):
            if into:
                rows_to_panels(<double *>work.memory + at, work.plan.room, r, &doubles[r, 0], doubles.shape[1])
            else:
                panels_to_row(&doubles[r, 0], <double *>work.memory + at, work.plan.room, r, doubles.shape[1])
