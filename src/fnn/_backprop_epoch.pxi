# An epoch as Python starts it: the job from the arrays that it is about, the team's work, and what ended it.

cdef struct Task:  # an epoch, as each thread of the team sees it
    char *memory
    const Plan *plan
    Job *job
    Py_ssize_t *counts
    bint single, online, predicts


cdef void take_part(const void *epoch, int thread) noexcept nogil:
    """Do this thread's share of an epoch."""
    cdef const Task *task = <const Task *>epoch
    cdef bint flushed = fnn_flush_subnormals(task.job.train)
    if task.predicts and task.single:
        predict_epoch(<float *>task.memory, task.plan, task.job, thread)
    elif task.predicts:
        predict_epoch(<double *>task.memory, task.plan, task.job, thread)
    elif task.online and task.single:
        online_epoch(<float *>task.memory, task.plan, task.job, task.counts, thread)
    elif task.online:
        online_epoch(<double *>task.memory, task.plan, task.job, task.counts, thread)
    elif task.job.through_updated and task.single:
        updated_epoch(<float *>task.memory, task.plan, task.job)
    elif task.job.through_updated:
        updated_epoch(<double *>task.memory, task.plan, task.job)
    elif task.plan.halves and task.single:
        halved_epoch(<float *>task.memory, task.plan, task.job, thread)
    elif task.plan.halves:
        halved_epoch(<double *>task.memory, task.plan, task.job, thread)
    elif task.single:
        minibatch_epoch(<float *>task.memory, task.plan, task.job, thread)
    else:
        minibatch_epoch(<double *>task.memory, task.plan, task.job, thread)
    fnn_flush_subnormals(flushed)


cdef class Epoch:
    """One run over the rows by the workspace's team of threads."""

    cdef Workspace work
    cdef Job job
    cdef bint online, predicts
    cdef object x, y, order, tick, errors, weights

    cdef penalise(self, double alpha):
        """Add a penalty to every batch's loss."""
        cdef double[::1] squares
        if self.work.squares is None:
            panel = 2 * self.work.plan.lanes
            shapes = self.work.layout.shapes
            self.work.squares = np.zeros(sum(pieces(i, panel) * pieces(o, panel) for i, o in shapes))
        squares = self.work.squares
        self.job.alpha, self.job.squares = alpha, &squares[0]

    cdef go_alone_if_short(self):
        """Have one thread do all if a team would save less than it takes to start and to end it for this one call."""
        if self.work.gain * pieces(self.job.n_rows, self.work.plan.rows) < SECONDS_FOR_A_TEAM:
            self.job.threads = 1

    cdef double run(self) except? -1:
        """Work with the team, and return the sum of the rows' losses; raise what ended the epoch."""
        cdef Job *job = &self.job
        cdef Task task
        task.memory, task.plan, task.job, task.counts = self.work.memory, &self.work.plan, job, &self.work.counts[0]
        task.single, task.online, task.predicts = self.work.single, self.online, self.predicts
        if job.threads > 1 and self.work.better_alone(job.n_rows):
            job.threads = 1
        if self.work.plan.relays is not NULL:
            memset(self.work.plan.relays, 0, 2 * <size_t>self.work.most_threads * sizeof(fnn_relay))
        cdef double begin = fnn_seconds()
        cdef int thread
        with nogil:
            # Where no more threads are to be had those that started do the work, with the same result.
            job.threads = fnn_muster(self.work.helpers, job.threads)
            for thread in range(job.threads):
                open_ranges(&self.work.plan, FORWARD, PHASES, thread, job.threads)
            fnn_work(self.work.helpers, job.threads, take_part, &task)
        self.work.used = job.threads
        self.work.note_pace(job.threads > 1, (fnn_seconds() - begin) / job.n_rows)
        if self.errors:
            raise self.errors[0]
        return job.total


cdef void _point(Job *job, const real[:, ::1] x, const real[:, ::1] y, real[:, ::1] out=None,
                 const real[::1] weights=None):
    """Point the job at the data; the views check type and contiguity."""
    job.x = &x[0, 0]
    if weights is not None:
        job.row_weights = &weights[0]
    if out is not None:
        job.out = &out[0, 0]
    if y is not None:
        job.y = &y[0, 0]


cdef Epoch new_epoch(Workspace work, x, y, order, loss, double scale, bint mean, bint train, tick, weights=None):
    cdef Epoch epoch = Epoch.__new__(Epoch)
    cdef Job *job = &epoch.job
    cdef Layer *first = &work.plan.layers[0]
    cdef const Py_ssize_t[::1] rows = order
    cdef const Py_ssize_t[::1] labels
    memset(job, 0, sizeof(Job))
    if x.shape[1] != work.layout.sizes[0] or (y.ndim == 2 and y.shape[1] != work.layout.sizes[-1]):
        raise ValueError(f"x, y: expected {work.layout.sizes[0]} and {work.layout.sizes[-1]} columns, "
                         f"got shapes {x.shape} and {y.shape}")
    if weights is not None and len(weights) != len(x):
        raise ValueError(f"weights: expected {len(x)}, as many as x has rows, got {len(weights)}")
    epoch.work, epoch.x, epoch.y, epoch.order, epoch.tick, epoch.errors = work, x, y, order, tick, []
    epoch.weights = weights
    if work.single:
        _point[float](job, x, None if y.ndim == 1 else y, None, weights)
    else:
        _point[double](job, x, None if y.ndim == 1 else y, None, weights)
    if y.ndim == 1:
        labels = y
        job.labels = &labels[0]
    job.order, job.n_rows, job.batch_size = &rows[0], rows.shape[0], work.batch_size
    if first.may_list and work.single:
        first.sparse_input = has_zeros[float](<const float *>job.x, job.order, job.n_rows, first)
    elif first.may_list:
        first.sparse_input = has_zeros[double](<const double *>job.x, job.order, job.n_rows, first)
    job.loss, job.ceiling, job.mean, job.train, job.scale = loss.code, loss.ceiling, mean, train, scale
    job.row_losses = &work.row_losses[0]
    job.threads, job.operations = work.team, work.layout.operations
    if work.gain * pieces(job.n_rows, work.plan.rows) < SECONDS_TO_START:
        job.threads = 1
    job.last_tick, job.operations_left = fnn_seconds(), OPERATIONS_BETWEEN_CLOCKS
    job.tick = NULL if tick is None else <void *>tick
    job.errors = <void *>epoch.errors
    return epoch
