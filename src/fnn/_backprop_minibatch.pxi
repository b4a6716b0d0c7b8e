# Mini-batch training: a chunk of rows through the sweep and its update, and an epoch of such steps, the batches whole
# or as two halves that need nothing of each other until their gradients are added.

cdef void gradient_shares(real *arena, const Plan *plan, Py_ssize_t l, Py_ssize_t rows, const fnn_rule *rule, int thread,
                          int threads, const Job *job, Fetch *fetch, const void **x) noexcept nogil:
    """`gradient_share` for all that this thread takes of a layer."""
    cdef bint first = True
    cdef Share share
    while next_share(plan, UPDATE, l, rows, thread, threads, first, &share):
        gradient_share(arena, plan, l, rows, rule, thread, threads, &share if in_pieces(&plan.layers[l]) else NULL, job,
                       fetch, x)
        first = False


cdef bint chunk_step(real *arena, const Plan *plan, Job *job, int thread, const Chunk *chunk, const fnn_rule *rule,
                     double scale, const Draw *draw) noexcept nogil:
    """One chunk, whose inputs have been gathered, through the sweep, as one of the team's threads; False if training is
    to stop before it.

    The threads meet where one needs what another has computed.  A layer is updated once all have met after reading its
    weights backward: as soon as that may be, while it is in cache.
    """
    cdef int threads = job.threads
    cdef Py_ssize_t rows = chunk.rows, l, r, to_update = plan.n_layers - 1
    cdef Chunk next = next_chunk(plan, job, chunk[0])
    cdef double times = counted(job, scale, chunk.batch_rows)
    cdef const void **x = rows_of(plan, thread)
    cdef Share share
    cdef Fetch fetch
    cdef bint first
    open_ranges(plan, UPDATE, PHASES, thread, threads)
    for l in range(plan.n_layers):
        if (plan.layers[l].by_columns or plan.layers[l - 1].by_columns) if l else (
                plan.layers[0].by_columns and not plan.own_input and x is NULL):
            fnn_meet(&job.meeting, threads)
        first = True
        while next_share(plan, FORWARD, l, rows, thread, threads, first, &share):
            forward_share(arena, plan, l, &share, thread, NULL if l else x)
            drop_share(arena, plan, l, &share, draw)
            first = False
    if plan.layers[plan.n_layers - 1].by_columns:
        fnn_meet(&job.meeting, threads)
    output_delta_rows(arena, plan, job, thread, job.order + chunk.start, scale, rows * thread // threads,
                      rows * (thread + 1) // threads)
    if thread == 0:
        look_at_clock(job, chunk.start, rows * job.operations)
    for l in range(plan.n_layers - 1, -1, -1):
        # Eq. 5 needs all of g: its rows are this thread's own unless a layer shares out its neurons.
        if threads == 1 or l == 0 or plan.layers[l - 1].by_columns or (
                l < plan.n_layers - 1 and plan.layers[l].by_columns):
            fnn_meet(&job.meeting, threads)
            if job.stop:  # thread 0 writes it only between the last meeting and the first, so all read the same
                return False
            while to_update > l:
                gradient_shares(arena, plan, to_update, rows, rule, thread, threads, job, NULL, NULL)
                to_update -= 1
        if l > 0:
            first = True
            while next_share(plan, BACKWARD, l - 1, rows, thread, threads, first, &share):
                backward_share(arena, plan, l, &share, thread, False)
                first = False
    fetch = fetch_of(arena, plan, job, &next, thread)
    gradient_shares(arena, plan, 0, rows, rule, thread, threads, job, &fetch, x)
    open_ranges(plan, FORWARD, UPDATE, thread, threads)
    if thread == 0:
        for r in range(rows):
            job.total += times * job.row_losses[r]
    return True


cdef inline double next_t(double t) noexcept nogil:
    return (1 + sqrt(1 + 4 * t * t)) / 2


cdef inline fnn_rule rule_at(const Job *job, Py_ssize_t update, double t, double scale) noexcept nogil:
    """The rule of an update, counted from 1; t is FISTA's of before, `scale` what the batch's losses count with.

    Adam's rate makes up for moments that start at zero; FISTA repeats more and more of the moves so far.
    """
    cdef const fnn_rule *rule = &job.rule
    cdef fnn_rule found = rule[0]
    found.decay = job.alpha * scale
    if rule.kind == FNN_ADAM:
        found.rate = rule.rate * sqrt(1 - pow(rule.beta_2, update)) / (1 - pow(rule.momentum, update))
    if rule.kind == FNN_FISTA:
        found.momentum = (update > 1) if rule.fixed_nu else (t - 1) / next_t(t)
    return found


cdef void minibatch_epoch(real *arena, const Plan *plan, Job *job, int thread) noexcept nogil:
    """All batches, as one of the team's threads."""
    cdef Chunk chunk
    cdef fnn_rule step, rule
    cdef Py_ssize_t updates = job.updates
    cdef bint whole, last, goes_on
    cdef int turn = 0  # waves so far, where threads share out the layers
    cdef double scale = 0, t = job.t
    cdef Draw draw
    chunk.start = chunk.rows = chunk.batch_start = chunk.batch_rows = 0
    chunk = next_chunk(plan, job, chunk)
    while chunk.rows:
        gather_rows(arena, plan, job, &chunk, thread)
        draw.number, draw.first_row = job.mask_seed + <uint64_t>updates, chunk.start - chunk.batch_start
        drop_inputs(arena, plan, rows_read_by(plan, chunk.rows, thread, job.threads), &draw, thread)
        whole = job.train and chunk.batch_rows <= plan.rows
        last = chunk.start + chunk.rows == chunk.batch_start + chunk.batch_rows
        if chunk.start == chunk.batch_start:
            scale = scale_of(<const real *>job.row_weights, job, job.order + chunk.batch_start, chunk.batch_rows)
        step = rule_at(job, updates + 1, t, scale)
        rule = step
        rule.kind = step.kind if whole else FNN_STORE if chunk.start == chunk.batch_start else FNN_ADD
        if are_stages(plan, job.threads):
            goes_on = staged_step(arena, plan, job, thread, &chunk, &rule, scale, &draw, turn)
            turn += waves_of(chunk.rows, job.threads)
        else:
            goes_on = chunk_step(arena, plan, job, thread, &chunk, &rule, scale, &draw)
        if not goes_on:
            return
        fnn_meet(&job.meeting, job.threads)
        if job.train and not whole and last:
            update_share(arena, plan, &step, job, thread)
            fnn_meet(&job.meeting, job.threads)
        updates += last
        t = next_t(t) if last else t
        if thread == 0:
            job.updates = updates
            if last and job.alpha:  # before anybody's next update, for that waits for this thread's next meeting
                job.penalties += counted(job, scale, chunk.batch_rows) * penalty(plan, job)
        chunk = next_chunk(plan, job, chunk)


cdef double half_sweep(real *arena, const Plan *plan, Job *job, int thread, int half, const Chunk *batch,
                       const fnn_rule *rule, double scale, Draw draw) noexcept nogil:
    """One half of a batch through the sweep, in chunks, and its share of the epoch's loss.  rule: of the last of the
    gradient's sums, where the half is one chunk; else NULL.

    Each half has panels of its own: a core asks for what lies behind the rows that it reads, up to 2 KiB of it, which
    the other must not be writing just then.
    """
    cdef Py_ssize_t l, r, rows, start = batch.batch_start, end = start + batch.batch_rows
    cdef Py_ssize_t middle = start + (batch.batch_rows + 1) // 2
    cdef double total = 0
    cdef bint first = True
    cdef fnn_rule own
    cdef Plan own_plan = plan[0]
    cdef Job own_job = job[0]
    cdef Share share
    cdef Rows span
    own_plan.layers += half * plan.n_layers
    own_job.row_losses += half * ((plan.rows + 1) // 2)
    span.begin = share.begin = share.first = 0
    if half:
        start, own_plan.gradient = middle, plan.gradient + plan.n_padded
    else:
        end = middle
    memset(&own, 0, sizeof(own))
    own.kind = FNN_STORE
    while first or start < end:
        rows = min(end - start, (plan.rows + 1 - half) // 2)
        span.end = share.end = rows
        draw.first_row = start - batch.batch_start
        gather_at(arena, &own_plan, job, start, span, 0)
        drop_inputs(arena, &own_plan, span, &draw, 0)
        for l in range(plan.n_layers):
            share.last = pieces(plan.layers[l].outputs, 2 * plan.lanes)
            forward_share(arena, &own_plan, l, &share, thread, NULL)
            drop_share(arena, &own_plan, l, &share, &draw)
        output_delta_rows(arena, &own_plan, &own_job, thread, job.order + start, scale, 0, rows)
        for l in range(plan.n_layers - 1, -1, -1):
            if l > 0:
                share.last = pieces(plan.layers[l - 1].outputs, 2 * plan.lanes)
                backward_share(arena, &own_plan, l, &share, thread, False)
            gradient_share(arena, &own_plan, l, rows, rule if rule is not NULL else &own, 0, 1, NULL, job, NULL,
                           NULL)
        for r in range(rows):
            total += own_job.row_losses[r]
        own.kind, first = FNN_ADD, False
        start += rows
    return total


cdef void halved_epoch(real *arena, const Plan *plan, Job *job, int thread) noexcept nogil:
    """All batches, each as two halves that need nothing of each other until their gradients are added up: between two
    cores go no activations, only that sum and the weights.  One thread gets the same bits from both halves in turn."""
    cdef Chunk batch
    cdef fnn_rule step
    cdef Py_ssize_t updates = job.updates
    cdef double scale, t = job.t
    cdef int half
    cdef bint at_once, stop
    cdef Draw draw
    batch.batch_start = 0
    while batch.batch_start < job.n_rows:
        batch.batch_rows = min(job.batch_size, job.n_rows - batch.batch_start)
        scale = scale_of(<const real *>job.row_weights, job, job.order + batch.batch_start, batch.batch_rows)
        step = rule_at(job, updates + 1, t, scale)
        step.carried = plan.gradient - plan.state
        draw.number = job.mask_seed + <uint64_t>updates
        at_once = job.threads == 1 and job.train and batch.batch_rows <= plan.rows
        for half in range(2):
            if half % job.threads == thread:
                job.half_losses[half] = half_sweep(
                    arena, plan, job, thread, half, &batch, &step if at_once and half else NULL, scale, draw)
        if thread == 0:
            look_at_clock(job, batch.batch_start + batch.batch_rows, batch.batch_rows * job.operations)
        fnn_meet(&job.meeting, job.threads)
        stop = job.stop  # thread 0 writes it between the last meeting and the first, so all read the same
        if thread == 0:
            job.total += counted(job, scale, batch.batch_rows) * (job.half_losses[0] + job.half_losses[1])
        if not at_once:
            if not job.train:
                step.kind, step.carried = FNN_ADD, 0
            update_share(arena, plan, &step, job, thread)
            fnn_meet(&job.meeting, job.threads)
        updates += 1
        t = next_t(t)
        if thread == 0:
            job.updates = updates
            if job.alpha:
                job.penalties += counted(job, scale, batch.batch_rows) * penalty(plan, job)
        if stop:
            return
        batch.batch_start += batch.batch_rows
