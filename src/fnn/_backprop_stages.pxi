# Deep networks: each thread has some of the layers to itself, one stage after the other, and a batch's rows pass through
# them in waves, forward and then back.  Between two cores go the rows of one activation and of one delta for each
# boundary, no weights; sums are those of one thread, so the bits are too.

cdef bint staged_step(real *arena, const Plan *plan, Job *job, int thread, const Chunk *chunk, const fnn_rule *rule,
                      double scale, const Draw *draw, int turn) noexcept nogil:
    """One chunk through the sweep and its updates, as one of the threads that share out the layers; False if training is
    to stop before it.  turn: waves that have passed in the epoch before.

    W^T is made once for all waves, while a thread waits for the first one.  Thread 0, for which no other waits on the way
    back, updates a layer while its deltas are in the cache.
    """
    cdef int threads = job.threads, waves = waves_of(chunk.rows, threads), wave
    cdef Py_ssize_t l, r, first = plan.stage_ends[thread - 1] if thread else 0, last = plan.stage_ends[thread]
    cdef fnn_relay *forward = plan.relays
    cdef fnn_relay *back = plan.relays + threads
    cdef Chunk next = next_chunk(plan, job, chunk[0])
    cdef double times = counted(job, scale, chunk.batch_rows)
    cdef const void **x = rows_of(plan, thread)
    cdef Share share
    cdef Fetch fetch
    share.first = 0
    if thread == 0:
        look_at_clock(job, chunk.start, chunk.rows * job.operations)
    else:
        transpose_kept(arena, plan, first, last)
    for wave in range(waves):
        share.begin, share.end = chunk.rows * wave // waves, chunk.rows * (wave + 1) // waves
        if thread:
            fnn_await(&forward[thread - 1], turn + wave + 1)
        if job.stop:  # thread 0 writes it before the first wave only, so all read the same
            fnn_hand_on(&forward[thread])
            return False
        for l in range(first, last):
            share.last = pieces(plan.layers[l].outputs, 2 * plan.lanes)
            forward_share(arena, plan, l, &share, thread, NULL if l else x)
            drop_share(arena, plan, l, &share, draw)
        fnn_hand_on(&forward[thread])
    if thread == 0:
        transpose_kept(arena, plan, first, last)
    for wave in range(waves):
        share.begin, share.end = chunk.rows * wave // waves, chunk.rows * (wave + 1) // waves
        if thread == threads - 1:
            output_delta_rows(arena, plan, job, thread, job.order + chunk.start, scale, share.begin, share.end)
        else:
            fnn_await(&back[thread + 1], turn + wave + 1)
        for l in range(last - 1, max(first, 1) - 1, -1):
            share.last = pieces(plan.layers[l - 1].outputs, 2 * plan.lanes)
            backward_share(arena, plan, l, &share, thread, True)
            if thread == 0 and wave == waves - 1:
                gradient_share(arena, plan, l, chunk.rows, rule, 0, 1, NULL, job, NULL, NULL)
        fnn_hand_on(&back[thread])
    if thread == 0:
        fetch = fetch_of(arena, plan, job, &next, 0)
        gradient_share(arena, plan, 0, chunk.rows, rule, 0, 1, NULL, job, &fetch, x)
    else:
        for l in range(first, last):
            gradient_share(arena, plan, l, chunk.rows, rule, 0, 1, NULL, job, NULL, NULL)
    if thread == 0:
        for r in range(chunk.rows):
            job.total += times * job.row_losses[r]
    return True
