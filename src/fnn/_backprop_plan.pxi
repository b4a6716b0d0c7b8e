# What a step is made from: the sizes and prices that decide how it is taken, and the tables of its layers, of the whole
# arena, and of what one epoch is to do.

cdef enum:
    FEWEST_ROWS = 64
    CHUNK_ROWS = 256  # most rows taken through the sweep at once: their panels stay in cache, memory stays bounded
    WIDE_CACHES = 4  # second-level caches that the weights of a wide layer fill at least: of less, pieces save nothing
    PIECES = 4  # that a thread's own neurons of a wide layer make, of FNN_QUAD panels at least
    MOST_HALVED = 4096  # rows of a batch that is taken as two halves: only at its end the threads look whether to stop
    WAVE_ROWS = 10  # about so many go through a thread's layers at once, where each thread has some of the layers
    WAVES = 4  # in which a batch goes through them at most, for each such thread
    STAGE_LAYERS = 4  # layers for each thread, at least, before it has some to itself
    MOST_LEFT = 64  # rows of a batch that are read where they lie: the first-level TLB holds the pages of no more
    GATHERED = 8  # panels that a row is copied to before the next row: lines read in turn, and few to write to at once
    LINES_OF_A_SET = 8  # of theirs, in the first-level cache, at most: the others are for W
    MOST_PACKED_LATE = 1024  # rows predicted with weights that are packed block by block, each time that a chunk passes
    FEWEST_SETTLED = 16  # epochs by the faster way before the slower one is tried again, twice as many after every try
    MOST_SETTLED = 256
    TRIED = 2  # such epochs in a row: in the first a thread may have to wake
    FEW_INPUTS = 16  # of so few the zeros cost less than the branches that skipping them mispredicts

cdef double FEW_OPERATIONS = 3e6  # of float32, half of float64: below that a workspace takes longer than it saves
cdef double TICK_SECONDS = 0.02
cdef double CHUNK_SECONDS = 0.25  # of one thread's work at most between two looks at signals, unless it is FEWEST_ROWS
cdef double OPERATIONS_BETWEEN_CLOCKS = 1e6  # a look at the clock costs as much as a few thousand operations
# What decides how many threads a step is worth: the rate of one of them for each number in a vector, the rate at which
# one core takes over what another has written, the price of the barriers.  The last two are no measurements: they were
# chosen so that the rule picks the faster of one and two threads on the five mini-batch workloads of benchmarks/
# (2-core Xeon). Measured alone there, a core reads what the other wrote at 20 GB/s and a barrier takes 0.08 us; why two
# threads gain less than these allow is not known yet.
cdef double OPERATIONS_A_SECOND = 7.5e9
cdef double BYTES_A_SECOND = 1e10
cdef double SECONDS_TO_MEET = 5e-7
cdef double SECONDS_A_WAVE = 5e-8  # that a piece of a batch takes in each layer, once forward and once back
cdef double SECONDS_FOR_A_TEAM = 1.5e-4  # to start its threads for one call, and to end them
cdef double SECONDS_TO_START = 1e-5  # an epoch of a team that is still awake; to start its threads takes longer, once
cdef double HALVING_GAIN = 0.9  # what taking halves has to make of the time of a step to be worth two gradients
cdef double SHORT_EPOCH = 5e-3  # seconds of an epoch that may be tried with one thread whatever the estimate says
cdef double CLOSE = 1.3  # times that one thread should take at most to be tried in longer epochs too
cdef double ONLINE_BYTES_A_SECOND = 9e10  # read and written from the second-level cache


cdef struct Dropout:  # of an activation
    bint on  # whether something is dropped now
    uint32_t below  # of the 2**32 random numbers those that drop
    double kept  # the share that is not dropped


cdef struct Layer:
    Py_ssize_t inputs, outputs  # I, O
    Py_ssize_t height  # rows of a panel of its parameters: I of weights, the biases and, with a corner, its three
    int code  # activation
    double slope
    Py_ssize_t flat  # offset in the flat vector (P,)
    Py_ssize_t units  # blocks of weights, a panel of inputs by a panel of neurons, in the layers below
    Py_ssize_t weights  # offset in the parameters, the state and the gradient: panels of `height` rows
    # Offset in the arena: W^T in panels of O rows, online where O is small, and where threads share the layers; else 0.
    Py_ssize_t transposed
    Py_ssize_t u, v, g  # offsets in the arena: the layer's input, its output, its delta, in panels of R rows
    # Offset in the arena, with a corner: three matrices in panels of R rows, of which the first holds z until, on the
    # way back, all take what each row adds to the gradient of left slope, offset and right slope; else 0.
    Py_ssize_t bend
    Py_ssize_t index  # offset in the index list of its inputs (online)
    bint may_list  # whether its shape lets its products skip zeros of u
    bint sparse_input, sparse_delta  # whether they do skip zeros of u, and of g, where those are many enough
    bint listed  # whether it lists those that are not zero, or takes all
    bint wide  # whether its weights take more than a few second-level caches, and its neurons are taken in pieces
    bint by_columns  # whether the team's threads share its neurons, or the rows of the batch
    double rate_scale, rate  # what it multiplies the rule's rate by, and what comes out of that (online)
    Py_ssize_t skip  # k: it also reads the activation k layers earlier, then u has panels of its own; else 0
    bint concat  # whether that activation stands beside the one below, or is added to it
    bint heads  # whether it is the first, on the way back, to hand a share to that activation
    bint gathers  # whether layers above have handed shares to the activation below it
    Dropout dropout  # of its v


cdef struct Plan:
    Py_ssize_t n_layers, lanes  # L and the numbers in a vector
    Py_ssize_t rows, room  # rows of a chunk at most; R, the rows that a panel of u, v and g has room for
    Py_ssize_t n_padded  # P with the padding of the panels
    Py_ssize_t state, gradient  # offsets in the arena; the parameters are at 0; 0 where there is none
    Py_ssize_t row_buffers, row_buffer  # offset in the arena of each thread's three rows of outputs, and a row's length
    bint halves  # whether a batch goes through as two halves, each by one thread, whose gradients are added at its end
    int stages  # threads that share out the layers, or 0
    Py_ssize_t *stage_ends  # of each of them, the layer behind its last
    int most_threads  # that may be asked for
    fnn_range *ranges  # of each phase, layer and thread: the panels left of its own; NULL where no layer is wide
    fnn_relay *relays  # of each thread: rows handed on forward, and back
    Py_ssize_t input_copies, own_input  # of the gathered inputs: room for so many; from one thread's to the next, or 0
    const void **row_table  # of each thread, where a chunk's inputs lie in x; NULL where they are gathered in panels
    Py_ssize_t input_delta  # offset in the arena of the slope of the loss by the input of a layer that skips
    const void *flat  # parameters (P,) that a prediction for few rows packs as it needs them; else NULL
    Py_ssize_t block_bytes  # of a layer's input that the gradient takes at once
    Py_ssize_t block  # offset in the arena of each thread's panels of W^T, or of W: INNER rows and one of biases
    Py_ssize_t list_rows  # rows of which there are lists at a time
    Py_ssize_t lists, lists_room  # offset in the arena of each thread's lists of a product that skips zeros; their room
    Layer *layers  # of the first half, where batches go through as two, with those of the second behind them
    Dropout input_dropout
    Py_ssize_t group_sums, group_deltas  # offsets in the arena (online): of a group's rows, in the first layer
    int narrow  # bytes of the vector that every layer fits, 16, 32 or 64, its padding zero (online); else 0
    fnn_layer *chain  # those layers, as the kernels for them see them
    Py_ssize_t list_room  # of a list of the first layer's inputs, three of which are at the start of `index`
    int32_t *index


cdef struct Ahead:  # what one thread finds out about the next rows of online training, while another is in the upper layers
    Py_ssize_t now, fresh  # listed inputs: that are not zero, and those of them that were zero in the rows before
    double in_common[GROUP][GROUP]  # of each row of a group with each before it, eq. 7c


cdef struct Job:
    const void *x
    const void *y
    void *out  # outputs, where they are what is wanted
    const Py_ssize_t *labels  # class labels, or NULL where y holds rows
    const Py_ssize_t *order
    const void *row_weights  # of the rows of x, or NULL where each counts as 1
    Py_ssize_t n_rows, batch_size
    Py_ssize_t rows_taken  # of a prediction, by one thread or another
    bint evaluates  # whether the rows' losses are wanted beside their outputs
    int loss
    double ceiling  # the most that a row's loss, or an output's, counts as
    bint mean, train
    bint in_groups, dense  # whether rows go through the first layer in groups, and all its inputs are taken (online)
    Ahead ahead
    bint through_updated  # whether deltas go back through weights that have stepped already
    double scale  # of the loss, where not the mean over each batch
    fnn_rule rule
    double alpha  # of the penalty
    double *squares  # the sum of those of each unit's weights, before the batch's update
    Py_ssize_t updates  # done since the states were zero
    uint64_t mask_seed  # of dropout
    double t  # FISTA's, after those updates
    double *row_losses  # of the chunk; of all rows, where it evaluates
    double total, penalties
    double half_losses[2]  # of the batch's rows
    int threads
    bint stop
    fnn_meeting meeting
    double operations, last_tick, operations_left  # of one row; when the clock was last looked at
    void *tick
    void *errors
