# What the passes work on: the records of _pass_state.py, the tables of levels and of a whole network, which point into
# the arrays of a State, and how many samples are taken at once.

cdef enum:  # as in _pass_state.py
    RELU
    LEAKY_RELU
    CORNER

cdef enum:
    NONE = -1  # the class of outputs that share their maximum
    SEATS = 32  # samples at once
    MANY = 128  # samples to come that are worth turning a total gradient
    NEAR = 6144  # weights that stay in the first-level cache while a group of samples meets them

cdef double WEIGHTS_BETWEEN_SIGNALS = 1e7  # looked at in about 10 ms

cdef packed struct Settings:
    float training_rate_scale, weight_saturation, weight_floor, relu_leakiness, effective_decrease_rate, tweak_rate
    int64_t max_multiplier, min_pass_effective_adj
    uint8_t total_gradient, auto_rate, auto_rate2, scale_rate_per_layer, enable_weight_floor, is_classifier
    uint8_t momentum, momentum_fast_brake, momentum_fixed_nu

cdef packed struct Tally:
    int64_t training_pass, correct, incorrect, above, not_above
    double abs_sum, squared_sum, effective_squared_sum, momentum_t
    uint32_t cases, error_cases
    float effective_cases, effective_error_cases, training_rate, auto_rate2_adj
    uint8_t has_last, has_saved, redo, after_redo, to_apply

cdef struct Level:  # one that has weights; all of its scratch is padded with zeros to whole cache lines
    Py_ssize_t inputs, outputs, stride  # I, O
    int vecs
    Py_ssize_t weights, corners, usage  # where its own start
    float *u  # what comes in (I + 1), 1 for the bias as the last
    float *z  # raw values (O)
    float *out  # outputs (O): the next level's u
    float *sigma  # sensitivity of the outputs (O)
    float *d  # derivatives (O)
    float *below  # sensitivity of the inputs (I)
    int32_t *listed  # room for the inputs that are not zero, and the bias
    const int32_t *index  # the inputs to visit: the listed ones or all, and the bias
    Py_ssize_t count
    Py_ssize_t done  # how many of those have been visited
    bint factored  # whether the gradient is u sigma d; else d is in sigma already, or 1
    float *turned  # in the first seat, of a wide level: room for its total gradient turned round, (O, I + 1)
    Py_ssize_t turned_stride
    bint is_turned  # whether the total is there at present

cdef struct Net:
    Settings *settings
    Tally *tally
    Level *seats  # a table of levels for each sample at once; they differ in their scratch
    Level *levels  # of the sample at hand
    Py_ssize_t room  # from the scratch of a sample to that of the next
    Py_ssize_t waiting  # samples whose gradients have not been added to the total
    bint has_wide  # a level whose total gradient waits for a group
    Py_ssize_t n_levels, n_weights, n_corners, n_usage  # levels with weights; numbers in the arrays, padding included
    Py_ssize_t n_inputs, n_last, n_corners_last  # of the last level: inputs, weights, corners
    int kind
    bint quick
    pass_step step
    float *weights
    float *corners
    float *gradient  # NULL, as the arrays below, where there is none
    float *corner_gradient
    float *last
    float *corner_last
    float *momentum
    float *corner_momentum
    float *input_sums  # two rows (n_inputs): inputs, and what comes back to them
    float *saved_input_sums
    float *saved_weights
    float *saved_corners
    float *saved_gradient
    float *saved_corner_gradient
    uint32_t *usage
    double *norms
    const int32_t *all  # 0, 1, 2, ...
    float *next  # the next sample's inputs, and 1 for the bias
    float *sizes  # room for as many numbers
    int32_t *listed  # room to list one sample's inputs
    int32_t *both  # and two samples'
    uint32_t *with_input  # which of the samples at once have an input that is not zero, as bits; for every input
    uint32_t *with_sigma  # and which a sensitivity; for every neuron
    bint has_next
    bint ahead  # the first level's raw values are those of the next sample already
    double weights_looked_at  # since the last look at signals


cdef inline void take_seat(Net *net, Py_ssize_t s) noexcept nogil:
    """The sample at hand is now the one in seat s."""
    net.levels = net.seats + s * net.n_levels
