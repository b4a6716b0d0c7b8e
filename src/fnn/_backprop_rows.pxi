# Which rows go through the sweep at once, which of them and of the neurons are whose among the team's threads, and how
# inputs come there: gathered in panels or read where they lie, and asked for before they are needed.

# What one of the team's threads computes of a layer: rows [begin, end), panels [first, last).  Functions get a pointer:
# a copy, as wide as a vector, of what was just written number by number waits until all stores before it are in the
# cache.
cdef struct Share:
    Py_ssize_t begin, end, first, last


cdef Share share_of(const Plan *plan, const Layer *layer, Py_ssize_t rows, int thread, int threads) noexcept nogil:
    """A thread's share of a layer's v and g: all rows of its own neurons, or all neurons of its own rows."""
    cdef Share share
    cdef Py_ssize_t panels = pieces(layer.outputs, 2 * plan.lanes)
    share.begin, share.end, share.first, share.last = 0, rows, 0, panels
    if layer.by_columns:
        share.first, share.last = panels * thread // threads, panels * (thread + 1) // threads
    else:
        share.begin, share.end = rows * thread // threads, rows * (thread + 1) // threads
    return share


cdef struct Chunk:  # rows that go through the sweep at once: a batch, or a piece of one
    Py_ssize_t start, rows  # in the epoch's order
    Py_ssize_t batch_start, batch_rows


cdef Chunk next_chunk(const Plan *plan, const Job *job, Chunk chunk) noexcept nogil:
    """The chunk after this one; of no rows after the last."""
    chunk.start += chunk.rows
    if chunk.start == chunk.batch_start + chunk.batch_rows:
        chunk.batch_start = chunk.start
        chunk.batch_rows = min(job.batch_size, job.n_rows - chunk.start)
    chunk.rows = min(plan.rows, chunk.batch_start + chunk.batch_rows - chunk.start)
    return chunk


cdef struct Rows:  # [begin, end) of a chunk
    Py_ssize_t begin, end


cdef inline bint are_stages(const Plan *plan, int threads) noexcept nogil:
    """Whether so many threads share out the layers: each has some of them to itself."""
    return threads > 1 and threads == plan.stages


cdef inline int waves_of(Py_ssize_t rows, int stages) noexcept nogil:
    """The pieces in which so many rows pass through so many stages."""
    return <int>max(1, min(WAVES * stages, (rows + WAVE_ROWS // 2) // WAVE_ROWS))


cdef Rows rows_read_by(const Plan *plan, Py_ssize_t rows, int thread, int threads) noexcept nogil:
    """The rows of x that a thread reads: to gather its own, or all of them, into a copy of its own or where they lie:
    to take over what another core has just written costs more than to read the data a second time."""
    cdef Rows found
    found.begin, found.end = 0, rows
    if are_stages(plan, threads):
        found.end = 0 if thread else rows
    elif not plan.own_input and plan.row_table is NULL:
        found.begin, found.end = rows * thread // threads, rows * (thread + 1) // threads
    return found


cdef inline const void **rows_of(const Plan *plan, int thread) noexcept nogil:
    """A thread's table of where the chunk's inputs lie, if they are not gathered."""
    return NULL if plan.row_table is NULL else plan.row_table + thread * plan.rows


cdef void gather_at(real *arena, const Plan *plan, const Job *job, Py_ssize_t start, Rows rows,
                    int thread) noexcept nogil:
    """Copy inputs from `start` on in the epoch's order, `rows` of them, into those rows of the first layer's panels."""
    cdef Py_ssize_t panel = 2 * plan.lanes, width = plan.layers[0].inputs, whole = width // panel, r, p, block, column
    cdef real *u = arena + plan.layers[0].u + thread * plan.own_input
    cdef const real *row
    for block in range(pieces(whole, GATHERED)):
        for r in range(rows.begin, rows.end):
            row = <const real *>job.x + job.order[start + r] * width
            for p in range(GATHERED * block, min(GATHERED * (block + 1), whole)):
                memcpy(u + (p * plan.room + r) * panel, row + p * panel, <size_t>(2 * lanes(u)) * sizeof(real))
    u += whole * plan.room * panel
    column = whole * panel
    if column < width:
        for r in range(rows.begin, rows.end):
            memcpy(u + r * panel, <const real *>job.x + job.order[start + r] * width + column,
                   <size_t>(width - column) * sizeof(real))


cdef void gather_rows(real *arena, const Plan *plan, const Job *job, const Chunk *chunk, int thread) noexcept nogil:
    """Copy what this thread reads of the chunk into the panels of the first layer's input, or note where it lies."""
    read_rows(arena, plan, job, chunk.start, rows_read_by(plan, chunk.rows, thread, job.threads), thread)


cdef void read_rows(real *arena, const Plan *plan, const Job *job, Py_ssize_t start, Rows rows,
                    int thread) noexcept nogil:
    """Copy inputs from `start` on in the epoch's order, `rows` of them, to this thread's, or note where they lie."""
    cdef Py_ssize_t r
    cdef const void **table = rows_of(plan, thread)
    if table is NULL:
        gather_at(arena, plan, job, start, rows, thread)
        return
    for r in range(rows.begin, rows.end):
        table[r] = <const real *>job.x + job.order[start + r] * plan.layers[0].inputs


cdef struct Fetch:  # the inputs of a chunk that are still to be asked for, cache line by cache line
    Py_ssize_t row, last_row, line, width, quota  # the next line of the next row's; lines to ask for at a time


cdef Fetch fetch_of(const real *arena, const Plan *plan, const Job *job, const Chunk *chunk, int thread) noexcept nogil:
    """What a thread reads of the chunk, to be asked for tile by tile of its share of the first layer's gradient: evenly
    spread, for the tiles wait while too many lines are under way."""
    cdef const Layer *layer = &plan.layers[0]
    cdef Py_ssize_t panel = 2 * plan.lanes, units = pieces(layer.inputs, panel) * pieces(layer.outputs, panel), times
    cdef Rows rows = rows_read_by(plan, chunk.rows, thread, job.threads)
    cdef Fetch fetch
    times = (units // (1 if are_stages(plan, job.threads) else job.threads)
             * pieces(panel, tile_rows(FNN_VECS)) // tile_panels(FNN_VECS))
    fetch.row, fetch.last_row, fetch.line = chunk.start + rows.begin, chunk.start + rows.end, 0
    fetch.width = pieces(layer.inputs * <Py_ssize_t>sizeof(real), 64)
    fetch.quota = pieces((rows.end - rows.begin) * fetch.width, max(1, times))
    return fetch


cdef inline void fetch_rows(Fetch *fetch, const real *x, const Py_ssize_t *order, Py_ssize_t inputs) noexcept nogil:
    """Ask for the next lines of the rows of x (N, inputs)."""
    cdef Py_ssize_t count
    for count in range(fetch.quota):
        if fetch.row == fetch.last_row:
            return
        fetch_line(x + order[fetch.row] * inputs + fetch.line * (64 // <Py_ssize_t>sizeof(real)))
        fetch.line += 1
        if fetch.line == fetch.width:
            fetch.row, fetch.line = fetch.row + 1, 0
