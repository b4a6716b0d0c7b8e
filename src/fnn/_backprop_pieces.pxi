# Wide layers whose neurons the threads share, piece by piece: a thread that is done with its own goes on with what
# others have left, so that nobody waits for the slowest core.  Whose a sum is makes no difference to its bits.

cdef enum Phase:  # of a step, between meetings
    FORWARD
    BACKWARD  # of the neurons whose delta it computes
    UPDATE
    PHASES


cdef inline bint in_pieces(const Layer *layer) noexcept nogil:
    """Whether a layer's neurons are taken in pieces: where they are shared, and no core's cache keeps its own weights."""
    return layer.by_columns and layer.wide


cdef inline fnn_range *range_of(const Plan *plan, int phase, Py_ssize_t l, int thread) noexcept nogil:
    return plan.ranges + (phase * plan.n_layers + l) * plan.most_threads + thread


cdef void open_ranges(const Plan *plan, int first, int last, int thread, int threads) noexcept nogil:
    """Lay out a thread's own panels of every layer for the phases [first, last).

    Nobody may be in one of these phases, and all have to meet before anybody can be: else what another has taken would
    be there once more.
    """
    cdef Py_ssize_t l
    cdef int phase
    cdef Share share
    for l in range(plan.n_layers):
        if in_pieces(&plan.layers[l]):
            share = share_of(plan, &plan.layers[l], 0, thread, threads)
            for phase in range(first, last):
                fnn_open(range_of(plan, phase, l, thread), share.first, share.last)


cdef bint next_share(const Plan *plan, int phase, Py_ssize_t l, Py_ssize_t rows, int thread, int threads, bint first,
                     Share *share) noexcept nogil:
    """What a thread does next of a layer, if there is something: its whole share at first, or one piece after the other.

    Of its own neurons it takes all but the last piece at once, since each time the inputs pass by, and are listed anew
    where products skip zeros; then what is left of its own, and at last what others have left.
    """
    cdef const Layer *layer = &plan.layers[l]
    cdef Py_ssize_t own, piece
    cdef int other = thread
    if not in_pieces(layer):
        if first:
            share[0] = share_of(plan, layer, rows, thread, threads)
        return first
    own = pieces(pieces(layer.outputs, 2 * plan.lanes), threads)
    piece = pieces(own, PIECES * FNN_QUAD) * FNN_QUAD
    share.begin, share.end = 0, rows
    share.first = fnn_claim(range_of(plan, phase, l, thread), max(piece, own - piece) if first else piece, False,
                            &share.last)
    while share.first == share.last:
        other = (other + 1) % threads
        if other == thread:
            return False
        share.first = fnn_claim(range_of(plan, phase, l, other), piece, True, &share.last)
    return True
