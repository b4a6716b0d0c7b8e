# While an epoch runs without the GIL one thread looks at the clock now and then, lets Python handle signals, and calls
# the tick; what either raises ends the epoch.

cdef bint poll(Job *job, Py_ssize_t rows_done) noexcept with gil:
    """Let Python handle signals and call the tick; True if either raised, which ends the epoch."""
    cdef bint flushed = fnn_flush_subnormals(False)
    try:
        PyErr_CheckSignals()
        if job.tick is not NULL:
            (<object>job.tick)(rows_done)
    except BaseException as error:
        (<list>job.errors).append(error)
        return True
    finally:
        fnn_flush_subnormals(flushed)
    return False


cdef inline void look_at_clock(Job *job, Py_ssize_t rows_done, double operations) noexcept nogil:
    """Count operations; poll when the clock says so."""
    cdef double now
    job.operations_left -= operations
    if job.operations_left <= 0:
        job.operations_left = OPERATIONS_BETWEEN_CLOCKS
        now = fnn_seconds()
        if now - job.last_tick >= TICK_SECONDS:
            job.last_tick = now
            job.stop = poll(job, rows_done)
