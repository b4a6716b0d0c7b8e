# What _pass.pyx calls in C: the loops over vectors of _pass.h, and one of _simd.h, which that includes.

cdef extern from "_pass.h" nogil:
    const int PASS_LANES
    const int PASS_NARROW
    ctypedef struct pass_step:
        float rate, limit, floor
        bint has_floor, is_tame
    bint pass_tame(const float *v, Py_ssize_t n)
    bint pass_settled(const float *w, Py_ssize_t n, const pass_step *step)
    void pass_forward(float *z, Py_ssize_t vecs, const float *w, Py_ssize_t stride, const float *u,
                      const int32_t *index, Py_ssize_t count)
    Py_ssize_t pass_forward_tiles(float *z, int vecs, const float *w, Py_ssize_t stride, const float *u,
                                  Py_ssize_t room, Py_ssize_t rows, Py_ssize_t samples)
    void pass_sensitivity(float *s, const float *w, Py_ssize_t stride, Py_ssize_t inputs, Py_ssize_t outputs,
                          const float *sigma, const float *d, Py_ssize_t room, Py_ssize_t samples)
    void pass_add(float *total, Py_ssize_t vecs, const float *g)
    Py_ssize_t pass_mark(uint32_t *who, uint32_t bit, const float *u, Py_ssize_t n)
    void pass_add_marked(float *total, Py_ssize_t stride, Py_ssize_t vecs, Py_ssize_t rows, const float *u,
                         const uint32_t *who, const float *sigma, const float *d, Py_ssize_t room)
    void pass_turn(float *to, Py_ssize_t to_stride, const float *of, Py_ssize_t stride, Py_ssize_t rows,
                   Py_ssize_t columns)
    void pass_add_tiles(float *total, Py_ssize_t stride, int vecs, Py_ssize_t rows, const float *u,
                        const float *sigma, const float *d, Py_ssize_t room, Py_ssize_t samples)
    Py_ssize_t pass_before(const int32_t *index, Py_ssize_t count, Py_ssize_t end)
    void pass_steps(float *w, float *total, Py_ssize_t stride, int vecs, const float *u, const int32_t *index,
                    Py_ssize_t count, const float *sigma, const float *d, const pass_step *step, const float *next,
                    float *z)
    Py_ssize_t pass_either(const float *u, const float *next, Py_ssize_t n)
    Py_ssize_t pass_list_either(int32_t *index, const float *u, const float *next, float *sizes, Py_ssize_t n)
    Py_ssize_t list_nonzero_f32(int32_t *index, const float *u, Py_ssize_t n)
