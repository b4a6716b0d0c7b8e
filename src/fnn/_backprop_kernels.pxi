# What _backprop.pyx calls in C: the kernels of _simd.h, each for float and double, the team of threads of _team.h,
# and what _subnormals.h does about numbers that slow a CPU down.

cdef extern from "_simd.h" nogil:
    const int FNN_ROWS
    const int FNN_TALLEST
    const int FNN_THIN
    const int FNN_VECS
    const int FNN_TOGETHER
    const int INNER "FNN_INNER"
    const int FNN_IDENTITY, FNN_RELU, FNN_SIGMOID, FNN_SOFTMAX, FNN_EXP
    const int SQUARED_ERROR "FNN_SQUARED_ERROR"
    const int BINARY_CROSS_ENTROPY "FNN_BINARY_CROSS_ENTROPY"
    const int POISSON "FNN_POISSON"
    const int FNN_STORE, FNN_ADD, FNN_PLAIN, FNN_MOMENTUM, FNN_NESTEROV, FNN_ADAM, FNN_FISTA
    ctypedef struct fnn_rule:
        double rate, momentum, beta_2, epsilon, saturation, decay, floor
        Py_ssize_t second, carried
        int kind, brakes, fixed_nu
    # Macros that choose the float or the double kernel by the pointer's type, hence `void *`.
    Py_ssize_t lanes(void *)
    void activate_values(void *out, const void *z, Py_ssize_t n, int code, double slope)
    void factor_values(void *out, const void *d, const void *v, Py_ssize_t n, int code, double slope)
    uint64_t row_key(uint64_t number, uint64_t layer, uint64_t row)
    void drop_values(void *v, Py_ssize_t n, uint32_t first, uint64_t key, uint32_t below, double kept)
    void drop_back_values(void *g, const void *v, Py_ssize_t n, double kept, int code, double slope)
    double softmax_row(void *row, Py_ssize_t n)
    double squared_error_row(void *g, const void *v, const void *y, Py_ssize_t n, double scale)
    double matched_row(void *g, const void *z, const void *v, const void *y, Py_ssize_t n, double scale, double ceiling,
                       bint poisson)
    double cross_entropy_row(void *g, const void *z, const void *v, const void *y, Py_ssize_t n, double scale,
                             double log_sum)
    void output_rows(void *g, double *losses, const void *z, Py_ssize_t stride, Py_ssize_t panel, const void *y,
                     const Py_ssize_t *labels, const Py_ssize_t *order, const void *weights, Py_ssize_t rows,
                     Py_ssize_t n, int loss, int code, double slope, double scale, double ceiling)
    void activate_rows(void *out, const void *z, Py_ssize_t stride, Py_ssize_t panel, Py_ssize_t rows, Py_ssize_t n,
                       int code, double slope)
    double sum_of_squares(void *w, Py_ssize_t rows, Py_ssize_t columns)
    void limit_values(void *w, Py_ssize_t n, double limit)
    bint all_finite(const void *w, Py_ssize_t n)
    void forward_tile(void *c, Py_ssize_t c_panel, Py_ssize_t rows, Py_ssize_t vecs, const void *a, Py_ssize_t a_panel,
                      Py_ssize_t inner, const void *w, Py_ssize_t w_panel, const void *bias, bint finish, int code,
                      double slope)
    void forward_tile_of_rows(void *c, Py_ssize_t c_panel, Py_ssize_t rows, Py_ssize_t vecs, const void *x,
                              Py_ssize_t first, Py_ssize_t inner, const void *w, Py_ssize_t w_panel, const void *bias,
                              bint finish, int code, double slope)
    void backward_tile(void *c, Py_ssize_t c_panel, Py_ssize_t rows, Py_ssize_t vecs, const void *g, Py_ssize_t g_panel,
                       Py_ssize_t inner, const void *wt, Py_ssize_t wt_panel, bint first, bint finish,
                       const void *activation, int code, double slope)
    void gradient_tile(void *w, void *state, Py_ssize_t w_panel, Py_ssize_t rows, Py_ssize_t vecs, const void *a,
                       const void *g, Py_ssize_t g_panel, Py_ssize_t batch, const fnn_rule *rule)
    void gradient_tile_of_rows(void *w, void *state, Py_ssize_t w_panel, Py_ssize_t rows, Py_ssize_t vecs,
                               const void *x, Py_ssize_t first, const void *g, Py_ssize_t g_panel, Py_ssize_t batch,
                               const fnn_rule *rule)
    void thin_gradient(void *w, void *state, Py_ssize_t outputs, Py_ssize_t inputs, const void *u, Py_ssize_t u_panel,
                       const void *g, Py_ssize_t batch, const fnn_rule *rule)
    void bias_tile(void *w, void *state, Py_ssize_t vecs, const void *g, Py_ssize_t batch, const fnn_rule *rule)
    void update_values(void *w, void *state, const void *gradient, Py_ssize_t n, const fnn_rule *rule)
    const int FNN_TERMS
    const int FNN_QUAD
    ctypedef struct fnn_lists:
        void *values
        uint32_t *places
        int32_t *ends
        Py_ssize_t rows
    void list_rows(const fnn_lists *lists, Py_ssize_t begin, Py_ssize_t end, const void *rows, Py_ssize_t panel,
                   Py_ssize_t terms)
    void sparse_forward(void *c, Py_ssize_t panel, const fnn_lists *lists, const void *w, Py_ssize_t step,
                        Py_ssize_t terms, const void *bias, bint finish, int code, double slope, bint goes_on)
    void sparse_backward(void *c, Py_ssize_t panel, const fnn_lists *lists, const void *wt, Py_ssize_t step, bint start,
                         bint finish, const void *activation, int code, double slope)
    void sparse_gradient(void *w, void *state, Py_ssize_t step, const fnn_lists *lists, Py_ssize_t begin,
                         Py_ssize_t end, const void *g, Py_ssize_t panel, void *partial, bint start, bint finish, const fnn_rule *rule)
    void settle_turned(void *w, void *state, Py_ssize_t vecs, const void *partial, Py_ssize_t count,
                       const fnn_rule *rule)
    void pack_rows(void *panel, const void *frm, Py_ssize_t stride, Py_ssize_t rows, Py_ssize_t columns)
    void unpack_rows(void *to, Py_ssize_t stride, const void *panel, Py_ssize_t rows, Py_ssize_t columns)
    void transpose_block(void *to, Py_ssize_t to_stride, const void *frm, Py_ssize_t from_stride, Py_ssize_t rows)
    void fetch_line(const void *next)
    void fetch_to_update(const void *next, Py_ssize_t n)
    void fetch_ahead(const void *next, Py_ssize_t n, Py_ssize_t part, Py_ssize_t parts)
    Py_ssize_t list_nonzero(int32_t *index, const void *u, Py_ssize_t n)
    enum: GROUP "FNN_GROUP"
    Py_ssize_t list_after(int32_t *index, const void *u, const void *before, Py_ssize_t n)
    Py_ssize_t list_any(int32_t *index, const void *u, Py_ssize_t n)
    Py_ssize_t list_fresh(int32_t *index, const void *u, const void *before, Py_ssize_t n)
    void group_forward(void *w, Py_ssize_t vecs, const void *bias, void *z, const void *before, const int32_t *listed,
                       Py_ssize_t n_listed, void *g, double rate, const void *u, const int32_t *fresh, Py_ssize_t n_fresh)
    double in_common(const void *x, const void *other, Py_ssize_t n)
    void put_right(void *v, const void *g, double moved, Py_ssize_t n)
    void online_transposed(void *delta, void *wt, Py_ssize_t inputs, Py_ssize_t outputs, const void *u,
                           const void *g, double rate, double limit, bint after, int code, double slope)
    void online_bias(void *bias, Py_ssize_t vecs, const void *g, double rate, double limit)
    void online_forward(void *out, Py_ssize_t vecs, const void *w, const void *bias, const void *u,
                        const int32_t *index, Py_ssize_t count, int code, double slope)
    void flat_forward(void *z, const void *w, const void *u, Py_ssize_t inputs, Py_ssize_t outputs)
    ctypedef struct fnn_layer:
        Py_ssize_t inputs, outputs, weights, transposed, v
        double slope, rate
        int code
    # bytes: of the shortest vector that holds every layer, 16, 32 or 64.
    double narrow_rows(void *arena, int bytes, const fnn_layer *layers, Py_ssize_t n_layers, const void *x,
                       const void *y, const Py_ssize_t *order, Py_ssize_t count, double scale, double limit)
    void online_update_forward(void *out, Py_ssize_t vecs, void *w, const void *bias, const void *before,
                               const int32_t *listed, Py_ssize_t n_listed, const void *g, double rate, double limit,
                               const void *u, const int32_t *fresh, Py_ssize_t n_fresh, int code, double slope)
    void online_backward(void *w, Py_ssize_t inputs, Py_ssize_t outputs, const void *u, const int32_t *index,
                         Py_ssize_t count, const void *g, double rate, double limit, void *delta, bint after)

cdef extern from "_team.h" nogil:
    const int FNN_MOST_THREADS
    ctypedef struct fnn_meeting:
        pass
    ctypedef struct fnn_team:
        pass
    fnn_team *fnn_assemble()
    int fnn_muster(fnn_team *team, int threads)
    void fnn_work(fnn_team *team, int threads, void (*work)(const void *task, int thread) noexcept nogil,
                  const void *task)
    void fnn_dismiss(fnn_team *team)
    void fnn_meet(fnn_meeting *meeting, int threads)
    ctypedef struct fnn_relay:
        pass
    void fnn_hand_on(fnn_relay *relay)
    void fnn_await(fnn_relay *relay, int count)
    ctypedef struct fnn_range:
        pass
    void fnn_open(fnn_range *own, Py_ssize_t first, Py_ssize_t last)
    Py_ssize_t fnn_claim(fnn_range *left, Py_ssize_t count, bint back, Py_ssize_t *last)
    Py_ssize_t fnn_take(Py_ssize_t *next, Py_ssize_t count)
    double fnn_seconds()
    Py_ssize_t second_level_cache()

cdef extern from "_subnormals.h" nogil:
    bint fnn_flush_subnormals(bint flush)
