/* SIMD micro-kernels that Cython cannot express; the sweep that calls them is _backprop.pyx.

   A. One source for every build.  GCC's and Clang's vector extensions take the width that the compiler's flags allow:
      64 bytes with AVX-512, 32 with AVX, 16 with SSE2 or NEON.  Other compilers get "vectors" of one number, in plain C.
   B. One source for float and double.  The file includes itself once for each, double first, for float's losses are
      summed in double; FN(name) is name_f32 or name_f64, and the macros at the end of the common part choose between the
      two by the type of a pointer.
   C. Panels.  A matrix of R rows and N columns is stored as panels of PANEL (two vectors) columns, each panel row after
      row, so that a tile of any product reads and writes memory in order and powers of two alias nothing.  A weight
      matrix's last panel is one vector wide if that holds its columns.  Columns of padding are zero.
   D. Every number of a result is summed in one order, which depends neither on the tile it falls in nor on the thread.

   Equation numbers refer to docs/backprop.md.  Letters: B rows of the batch, I fan-in, O fan-out. */

#ifndef REAL /* ------------------------------------------------------------------ common to float and double */
#ifndef FNN_SIMD_H
#define FNN_SIMD_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__GNUC__) && !defined(FNN_PLAIN_C)
#define FNN_INLINE static inline __attribute__((always_inline))
#define FNN_UNROLL _Pragma("GCC unroll 16")
#if defined(__SSE2__)
#include <immintrin.h>
#endif
#if defined(__AVX512F__)
#define FNN_BYTES 64
#define FNN_ROWS 12 /* 12 x 2 sums, two weights and a broadcast number fill 27 of 32 registers */
#elif defined(__AVX__)
#define FNN_BYTES 32
#define FNN_ROWS 6 /* 6 x 2 sums, two weights and a broadcast number fill 15 of 16 registers */
#elif defined(__aarch64__)
#define FNN_BYTES 16
#define FNN_ROWS 12 /* 12 x 2 sums, two weights and a number that fmla takes by element fill 27 of 32 registers */
#else
#define FNN_BYTES 16
#define FNN_ROWS 6
#endif
#else /* plain C */
#define FNN_INLINE static inline
#define FNN_UNROLL
#define FNN_BYTES 0
#define FNN_ROWS 4
#endif

/* Ask for a cache line that is needed soon. */
FNN_INLINE void fetch_line(const void *next) {
#if FNN_BYTES
    __builtin_prefetch(next, 0, 2);
    __asm__ volatile("" : : "r"(next)); /* GCC drops calls of a function that does nothing but this */
#else
    (void)next;
#endif
}

enum { FNN_IDENTITY, FNN_RELU, FNN_LEAKY_RELU, FNN_TANH, FNN_SIGMOID, FNN_SOFTMAX, FNN_EXP }; /* as in _formulas.py */

enum { FNN_SQUARED_ERROR, FNN_CROSS_ENTROPY, FNN_BINARY_CROSS_ENTROPY, FNN_POISSON }; /* as in _formulas.py */

/* What becomes of a finished tile of the gradient: stored, added to what is there, or one of the updates of eq. 8. */
enum { FNN_STORE, FNN_ADD, FNN_PLAIN, FNN_MOMENTUM, FNN_NESTEROV, FNN_ADAM, FNN_FISTA };

typedef struct {
    double rate, momentum, beta_2, epsilon, saturation;
    double decay; /* what of a weight is added to its gradient */
    double floor; /* 0: none */
    ptrdiff_t second; /* from a number of the first state (velocity, moment, moves) to that of the second */
    ptrdiff_t carried; /* from there to the gradient over the batch's other half, which is to be added; 0: none */
    int kind;
    int brakes, fixed_nu; /* FISTA: whether there is a second state, the last gradient; whether all moves are repeated */
} fnn_rule;

#define REAL double
#define REAL_SIZE 8
#define INTEGER int64_t
#define NATURAL uint64_t
#define FN(name) name##_f64
#include "_simd.h"
#undef REAL
#undef REAL_SIZE
#undef INTEGER
#undef NATURAL
#undef FN
#define REAL float
#define REAL_SIZE 4
#define INTEGER int32_t
#define NATURAL uint32_t
#define FN(name) name##_f32
#include "_simd.h"
#undef REAL
#undef REAL_SIZE
#undef INTEGER
#undef NATURAL
#undef FN

/* Cython passes typed pointers through parameters declared `void *`; these choose the kernel by that type. */
#define FNN_TYPED(name, pointer) _Generic((pointer), float *: name##_f32, double *: name##_f64)
#define lanes(pointer) _Generic((pointer), float *: lanes_f32, double *: lanes_f64)
#define activate_values(out, ...) FNN_TYPED(activate_values, out)(out, __VA_ARGS__)
#define factor_values(out, ...) FNN_TYPED(factor_values, out)(out, __VA_ARGS__)
#define softmax_row(out, ...) FNN_TYPED(softmax_row, out)(out, __VA_ARGS__)
#define squared_error_row(g, ...) FNN_TYPED(squared_error_row, g)(g, __VA_ARGS__)
#define matched_row(g, ...) FNN_TYPED(matched_row, g)(g, __VA_ARGS__)
#define cross_entropy_row(g, ...) FNN_TYPED(cross_entropy_row, g)(g, __VA_ARGS__)
#define output_rows(g, ...) FNN_TYPED(output_rows, g)(g, __VA_ARGS__)
#define sum_of_squares(w, n) FNN_TYPED(sum_of_squares, w)(w, n)
#define limit_values(w, ...) FNN_TYPED(limit_values, w)(w, __VA_ARGS__)
#define all_finite(w, n) \
    _Generic((w), float *: all_finite_f32, const float *: all_finite_f32, double *: all_finite_f64, \
             const double *: all_finite_f64)(w, n)
#define forward_tile(c, ...) FNN_TYPED(forward_tile, c)(c, __VA_ARGS__)
#define forward_tile_of_rows(c, ...) FNN_TYPED(forward_tile_of_rows, c)(c, __VA_ARGS__)
#define backward_tile(c, ...) FNN_TYPED(backward_tile, c)(c, __VA_ARGS__)
#define gradient_tile(w, ...) FNN_TYPED(gradient_tile, w)(w, __VA_ARGS__)
#define gradient_tile_of_rows(w, ...) FNN_TYPED(gradient_tile_of_rows, w)(w, __VA_ARGS__)
#define bias_tile(w, ...) FNN_TYPED(bias_tile, w)(w, __VA_ARGS__)
#define update_values(w, ...) FNN_TYPED(update_values, w)(w, __VA_ARGS__)
#define transpose_block(to, ...) FNN_TYPED(transpose_block, to)(to, __VA_ARGS__)
#define fetch_ahead(next, ...) FNN_TYPED(fetch_ahead, next)(next, __VA_ARGS__)
#define list_nonzero(index, u, n) \
    _Generic((u), float *: list_nonzero_f32, const float *: list_nonzero_f32, double *: list_nonzero_f64, \
             const double *: list_nonzero_f64)(index, u, n)
#define list_fresh(index, u, before, n) \
    _Generic((u), const float *: list_fresh_f32, const double *: list_fresh_f64)(index, u, before, n)
#define online_update_forward(out, ...) FNN_TYPED(online_update_forward, out)(out, __VA_ARGS__)
#define flat_forward(z, ...) FNN_TYPED(flat_forward, z)(z, __VA_ARGS__)
#define narrow_forward(v, ...) FNN_TYPED(narrow_forward, v)(v, __VA_ARGS__)
#define narrow_turn(below, ...) FNN_TYPED(narrow_turn, below)(below, __VA_ARGS__)
#define narrow_backward(below, ...) FNN_TYPED(narrow_backward, below)(below, __VA_ARGS__)
#define online_transposed(delta, ...) FNN_TYPED(online_transposed, delta)(delta, __VA_ARGS__)
#define online_bias(w, ...) FNN_TYPED(online_bias, w)(w, __VA_ARGS__)
#define online_forward(out, ...) FNN_TYPED(online_forward, out)(out, __VA_ARGS__)
#define online_backward(w, ...) FNN_TYPED(online_backward, w)(w, __VA_ARGS__)

#endif
#else /* --------------------------------------------------------------- once for float, once for double */

#if FNN_BYTES
#define LANES (FNN_BYTES / REAL_SIZE)
typedef REAL FN(vec) __attribute__((vector_size(FNN_BYTES)));
typedef REAL FN(loose) __attribute__((vector_size(FNN_BYTES), aligned(REAL_SIZE), may_alias));
typedef INTEGER FN(ints) __attribute__((vector_size(FNN_BYTES)));
typedef NATURAL FN(natural) __attribute__((vector_size(FNN_BYTES)));
#else
#define LANES 1
typedef REAL FN(vec);
typedef REAL FN(loose);
typedef INTEGER FN(ints);
typedef NATURAL FN(natural);
#endif
#define VEC FN(vec)
#define INTS FN(ints)
#define PANEL (2 * LANES)

enum { FN(lanes) = LANES };

FNN_INLINE VEC FN(load)(const REAL *p) { return *(const FN(loose) *)p; }
FNN_INLINE void FN(store)(REAL *p, VEC v) { *(FN(loose) *)p = v; }
#if FNN_BYTES
FNN_INLINE VEC FN(splat)(REAL x) { return x - (VEC){0}; }
#else
FNN_INLINE VEC FN(splat)(REAL x) { return x; }
#endif
FNN_INLINE INTS FN(bits)(VEC v) {
    INTS i;
    memcpy(&i, &v, sizeof i);
    return i;
}
FNN_INLINE VEC FN(from_bits)(INTS i) {
    VEC v;
    memcpy(&v, &i, sizeof v);
    return v;
}

/* mask ? a : b in every lane, for the result of a comparison. */
FNN_INLINE VEC FN(choose)(INTS mask, VEC a, VEC b) {
#if FNN_BYTES
    return FN(from_bits)((mask & FN(bits)(a)) | (~mask & FN(bits)(b)));
#else
    return mask ? a : b;
#endif
}

/* The larger and the smaller of two numbers; b where either is NaN, so that a NaN in b is never hidden. */
#if FNN_BYTES == 64 && REAL_SIZE == 4
FNN_INLINE VEC FN(larger)(VEC a, VEC b) { return (VEC)_mm512_max_ps((__m512)a, (__m512)b); }
FNN_INLINE VEC FN(smaller)(VEC a, VEC b) { return (VEC)_mm512_min_ps((__m512)a, (__m512)b); }
#elif FNN_BYTES == 64
FNN_INLINE VEC FN(larger)(VEC a, VEC b) { return (VEC)_mm512_max_pd((__m512d)a, (__m512d)b); }
FNN_INLINE VEC FN(smaller)(VEC a, VEC b) { return (VEC)_mm512_min_pd((__m512d)a, (__m512d)b); }
#elif FNN_BYTES == 32 && REAL_SIZE == 4
FNN_INLINE VEC FN(larger)(VEC a, VEC b) { return (VEC)_mm256_max_ps((__m256)a, (__m256)b); }
FNN_INLINE VEC FN(smaller)(VEC a, VEC b) { return (VEC)_mm256_min_ps((__m256)a, (__m256)b); }
#elif FNN_BYTES == 32
FNN_INLINE VEC FN(larger)(VEC a, VEC b) { return (VEC)_mm256_max_pd((__m256d)a, (__m256d)b); }
FNN_INLINE VEC FN(smaller)(VEC a, VEC b) { return (VEC)_mm256_min_pd((__m256d)a, (__m256d)b); }
#elif FNN_BYTES == 16 && defined(__SSE2__) && REAL_SIZE == 4
FNN_INLINE VEC FN(larger)(VEC a, VEC b) { return (VEC)_mm_max_ps((__m128)a, (__m128)b); }
FNN_INLINE VEC FN(smaller)(VEC a, VEC b) { return (VEC)_mm_min_ps((__m128)a, (__m128)b); }
#elif FNN_BYTES == 16 && defined(__SSE2__)
FNN_INLINE VEC FN(larger)(VEC a, VEC b) { return (VEC)_mm_max_pd((__m128d)a, (__m128d)b); }
FNN_INLINE VEC FN(smaller)(VEC a, VEC b) { return (VEC)_mm_min_pd((__m128d)a, (__m128d)b); }
#else
FNN_INLINE VEC FN(larger)(VEC a, VEC b) { return FN(choose)(a > b, a, b); }
FNN_INLINE VEC FN(smaller)(VEC a, VEC b) { return FN(choose)(a < b, a, b); }
#endif

#if FNN_BYTES
/* A shuffle of two vectors by literal indices 0 .. 2 LANES - 1, spelled as each compiler knows it. */
#undef SHUFFLE
#if defined(__clang__)
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (INTS){__VA_ARGS__})
#endif
#undef INDICES
#if LANES == 2
#define INDICES(F, s) F(0, s), F(1, s)
#elif LANES == 4
#define INDICES(F, s) F(0, s), F(1, s), F(2, s), F(3, s)
#elif LANES == 8
#define INDICES(F, s) F(0, s), F(1, s), F(2, s), F(3, s), F(4, s), F(5, s), F(6, s), F(7, s)
#else
#define INDICES(F, s)                                                                                      \
    F(0, s), F(1, s), F(2, s), F(3, s), F(4, s), F(5, s), F(6, s), F(7, s), F(8, s), F(9, s), F(10, s),    \
        F(11, s), F(12, s), F(13, s), F(14, s), F(15, s)
#endif
#undef ITSELF
#undef ACROSS
#undef UPPER
#undef LOWER
#define ITSELF(j, s) (j)
#define ACROSS(j, s) ((j) ^ (s))                          /* the lane that halves of a sum meet in */
/* To swap s x s blocks of two rows: where the upper row's new lanes are, and the lower row's. */
#define UPPER(j, s) (((j) & (s)) ? LANES + (j) - (s) : (j))
#define LOWER(j, s) (((j) & (s)) ? LANES + (j) : (j) + (s))
#endif

FNN_INLINE REAL FN(first)(VEC v) {
#if FNN_BYTES
    return v[0];
#else
    return v;
#endif
}

/* Sum of the lanes. */
FNN_INLINE REAL FN(sum)(VEC v) {
#if LANES >= 16
    v += SHUFFLE(v, v, INDICES(ACROSS, 8));
#endif
#if LANES >= 8
    v += SHUFFLE(v, v, INDICES(ACROSS, 4));
#endif
#if LANES >= 4
    v += SHUFFLE(v, v, INDICES(ACROSS, 2));
#endif
#if LANES >= 2
    v += SHUFFLE(v, v, INDICES(ACROSS, 1));
#endif
    return FN(first)(v);
}

/* The largest lane; some number if one is NaN. */
FNN_INLINE REAL FN(largest)(VEC v) {
#if LANES >= 16
    v = FN(larger)(v, SHUFFLE(v, v, INDICES(ACROSS, 8)));
#endif
#if LANES >= 8
    v = FN(larger)(v, SHUFFLE(v, v, INDICES(ACROSS, 4)));
#endif
#if LANES >= 4
    v = FN(larger)(v, SHUFFLE(v, v, INDICES(ACROSS, 2)));
#endif
#if LANES >= 2
    v = FN(larger)(v, SHUFFLE(v, v, INDICES(ACROSS, 1)));
#endif
    return FN(first)(v);
}

#include "_vector_math.h"

/* Eq. 2, phi(z); softmax needs its row and has a function of its own. */
FNN_INLINE VEC FN(activated)(VEC z, int code, REAL slope) {
    switch (code) {
    case FNN_RELU: return FN(larger)(FN(splat)(0), z); /* 0 if 0 > z else z */
    case FNN_LEAKY_RELU: return FN(choose)(z < FN(splat)(0), slope * z, z);
    case FNN_TANH: return FN(tanh)(z);
    case FNN_SIGMOID: return FN(sigmoid)(z);
    case FNN_EXP: return FN(exp)(z);
    }
    return z;
}

/* Eq. 3 and 6: d * phi'(z), written with v = phi(z). */
FNN_INLINE VEC FN(times_factor)(VEC d, VEC v, int code, REAL slope) {
    switch (code) {
    case FNN_RELU: return FN(choose)(v > FN(splat)(0), d, FN(splat)(0));
    case FNN_LEAKY_RELU: return FN(choose)(v > FN(splat)(0), d, slope * d);
    case FNN_TANH: return d * ((REAL)1 - v * v);
    case FNN_SIGMOID: return d * (v * ((REAL)1 - v));
    }
    return d;
}

static void FN(activate_values)(REAL *out, const REAL *z, ptrdiff_t n, int code, double slope) {
    REAL tail[LANES] = {0};
    for (; n >= LANES; n -= LANES, z += LANES, out += LANES)
        FN(store)(out, FN(activated)(FN(load)(z), code, (REAL)slope));
    if (n > 0) {
        memcpy(tail, z, (size_t)n * sizeof(REAL));
        FN(store)(tail, FN(activated)(FN(load)(tail), code, (REAL)slope));
        memcpy(out, tail, (size_t)n * sizeof(REAL));
    }
}

/* out = d * phi'(z), written with v = phi(z). */
static void FN(factor_values)(REAL *out, const REAL *d, const REAL *v, ptrdiff_t n, int code, double slope) {
    REAL tail[2][LANES] = {{0}};
    for (; n >= LANES; n -= LANES, d += LANES, v += LANES, out += LANES)
        FN(store)(out, FN(times_factor)(FN(load)(d), FN(load)(v), code, (REAL)slope));
    if (n > 0) {
        memcpy(tail[0], d, (size_t)n * sizeof(REAL));
        memcpy(tail[1], v, (size_t)n * sizeof(REAL));
        FN(store)(tail[0], FN(times_factor)(FN(load)(tail[0]), FN(load)(tail[1]), code, (REAL)slope));
        memcpy(out, tail[0], (size_t)n * sizeof(REAL));
    }
}

/* ---- Output rows of n numbers.  z, v and g have room for whole vectors, y ends where the data may end.  The loss is
   summed in double: a chain in every lane of a vector of doubles, then across. ---- */

#define WIDE vec_f64
#define WIDE_LANES (lanes_f64)

/* The lanes that the first n numbers are in; n may be more than there are. */
FNN_INLINE INTS FN(first_lanes)(ptrdiff_t n) {
#if FNN_BYTES
    return (INTS){INDICES(ITSELF, 0)} < (INTS){0} + (INTEGER)(n < LANES ? n : LANES);
#else
    return n > 0;
#endif
}

/* The first n numbers, read without touching what lies behind them, then zeros; n may be more than a vector holds. */
FNN_INLINE VEC FN(load_first)(const REAL *p, ptrdiff_t n) {
#if FNN_BYTES == 64 && REAL_SIZE == 4
    return (VEC)_mm512_maskz_loadu_ps((__mmask16)(n < LANES ? (1 << n) - 1 : -1), p);
#elif FNN_BYTES == 64
    return (VEC)_mm512_maskz_loadu_pd((__mmask8)(n < LANES ? (1 << n) - 1 : -1), p);
#elif FNN_BYTES == 32 && REAL_SIZE == 4
    return (VEC)_mm256_maskload_ps(p, (__m256i)FN(first_lanes)(n));
#elif FNN_BYTES == 32
    return (VEC)_mm256_maskload_pd(p, (__m256i)FN(first_lanes)(n));
#else
    REAL some[LANES] = {0};
    if (n >= LANES) return FN(load)(p);
    for (int j = 0; j < n; j++) some[j] = p[j];
    return FN(load)(some);
#endif
}

/* The numbers of a vector in vectors of doubles, as many as hold the first n. */
FNN_INLINE int FN(widen)(WIDE wide[LANES / WIDE_LANES], VEC v, ptrdiff_t n) {
#if FNN_BYTES && REAL_SIZE == 4
    typedef float half __attribute__((vector_size(FNN_BYTES / 2)));
    half halves[2];
    memcpy(halves, &v, sizeof halves);
    for (int h = 0; h < 2; h++) wide[h] = __builtin_convertvector(halves[h], WIDE);
    return n > WIDE_LANES ? 2 : 1;
#else
    (void)n;
    wide[0] = v;
    return 1;
#endif
}

/* Eq. 4, squared error: g = scale * dloss/dv, and the loss. */
static double FN(squared_error_row)(REAL *g, const REAL *v, const REAL *y, ptrdiff_t n, double scale) {
    WIDE loss = splat_f64(0), wide[LANES / WIDE_LANES];
    for (; n > 0; n -= LANES, g += LANES, v += LANES, y += LANES) {
        VEC error = FN(choose)(FN(first_lanes)(n), FN(load)(v) - FN(load_first)(y, n), FN(splat)(0));
        FN(store)(g, (REAL)2 * error * (REAL)scale);
        for (int h = FN(widen)(wide, error, n) - 1; h >= 0; h--) loss += wide[h] * wide[h];
    }
    return sum_f64(loss);
}

#if REAL_SIZE == 8
/* Eq. 4, the losses whose slope is v - y, of single outputs: binary cross-entropy, and Poisson, where 0 log 0 is 0. */
FNN_INLINE VEC matched_loss(VEC z, VEC y, int poisson) {
    if (poisson) return exp_f64(z) - z * y + y * log_f64(choose_f64(y > splat_f64(0), y, splat_f64(1))) - y;
    return larger_f64(splat_f64(0), z) - z * y + log1p_f64(exp_f64(-magnitude_f64(z)));
}
#endif

/* Eq. 4, the losses whose slope is v - y: binary cross-entropy, v = sigmoid(z), and Poisson, v = exp(z).  g = scale *
   dloss/dz, and the loss. */
static double FN(matched_row)(REAL *g, const REAL *z, const REAL *v, const REAL *y, ptrdiff_t n, double scale,
                              int poisson) {
    WIDE loss = splat_f64(0), z_wide[LANES / WIDE_LANES], y_wide[LANES / WIDE_LANES];
    for (; n > 0; n -= LANES, g += LANES, z += LANES, v += LANES, y += LANES) {
        const INTS here = FN(first_lanes)(n);
        VEC target = FN(load_first)(y, n), none = FN(splat)(-1000); /* exp(-1000) is 0 and so is the loss */
        FN(store)(g, FN(choose)(here, (REAL)scale * (FN(load)(v) - target), FN(splat)(0)));
        FN(widen)(y_wide, target, n);
        for (int h = FN(widen)(z_wide, FN(choose)(here, FN(load)(z), none), n) - 1; h >= 0; h--)
            loss += matched_loss(z_wide[h], y_wide[h], poisson);
    }
    return sum_f64(loss);
}

/* Eq. 4, cross-entropy, v = softmax(z), targets y: g = scale * dloss/dz, and the loss. */
static double FN(cross_entropy_row)(REAL *g, const REAL *z, const REAL *v, const REAL *y, ptrdiff_t n, double scale,
                                    double log_sum) {
    WIDE targets = splat_f64(0), reached = splat_f64(0), z_wide[LANES / WIDE_LANES], y_wide[LANES / WIDE_LANES];
    REAL total;
    for (ptrdiff_t j = 0; j < n; j += LANES) {
        FN(widen)(z_wide, FN(choose)(FN(first_lanes)(n - j), FN(load)(z + j), FN(splat)(0)), n - j);
        for (int h = FN(widen)(y_wide, FN(load_first)(y + j, n - j), n - j) - 1; h >= 0; h--) {
            targets += y_wide[h];
            reached += z_wide[h] * y_wide[h];
        }
    }
    total = (REAL)sum_f64(targets);
    for (ptrdiff_t j = 0; j < n; j += LANES) {
        VEC slope = FN(load)(v + j) * total - FN(load_first)(y + j, n - j);
        FN(store)(g + j, FN(choose)(FN(first_lanes)(n - j), (REAL)scale * slope, FN(splat)(0)));
    }
    return log_sum * sum_f64(targets) - sum_f64(reached);
}

/* Softmax of one row, in place; n is a multiple of the vector, the padding -infinity.  Returns log(sum_k exp(z_k)).  A
   NaN may miss the peak, but not the total, and so becomes every number of the row. */
static double FN(softmax_row)(REAL *row, ptrdiff_t n) {
    VEC peaks = FN(load)(row), total = FN(splat)(0), share;
    ptrdiff_t j;
    REAL peak;
    for (j = LANES; j < n; j += LANES) peaks = FN(larger)(peaks, FN(load)(row + j));
    peak = FN(largest)(peaks);
    for (j = 0; j < n; j += LANES) {
        VEC e = FN(exp)(FN(load)(row + j) - peak);
        FN(store)(row + j, e);
        total += e;
    }
    share = FN(splat)(FN(sum)(total));
    for (j = 0; j < n; j += LANES) FN(store)(row + j, FN(load)(row + j) / share);
    return (double)peak + first_f64(log_f64(splat_f64((double)FN(sum)(total))));
}

/* Eq. 4 for up to a vector of rows of at most as many outputs, one row a lane: g = scale * dloss/dz, and the losses.
   z and g have rows `stride` numbers apart; y (N, n) or labels (N,), and the rows' weights unless NULL, are those of
   `order`.  A row's sums do not depend on what other rows are with it. */
static void FN(output_rows)(REAL *g, double *losses, const REAL *z, ptrdiff_t stride, const REAL *y,
                            const ptrdiff_t *labels, const ptrdiff_t *order, const REAL *weights, ptrdiff_t rows,
                            ptrdiff_t n, int loss, int code, double slope, double scale, double ceiling) {
    enum { WIDES = LANES / WIDE_LANES };
    REAL z_lanes[LANES * LANES], y_lanes[LANES * LANES], v_lanes[LANES * LANES], scales[LANES] = {0};
    double sums[LANES];
    WIDE z_wide[WIDES], y_wide[WIDES], sum[WIDES], targets[WIDES], total_wide[WIDES];
    VEC peak = FN(splat)(0), total = FN(splat)(0), target = FN(splat)(0), each;
    memset(z_lanes, 0, (size_t)n * LANES * sizeof(REAL));
    memset(y_lanes, 0, (size_t)n * LANES * sizeof(REAL));
    for (ptrdiff_t r = 0; r < rows; r++) {
        for (ptrdiff_t j = 0; j < n; j++) z_lanes[j * LANES + r] = z[r * stride + j];
        if (labels) y_lanes[labels[order[r]] * LANES + r] = 1;
        else for (ptrdiff_t j = 0; j < n; j++) y_lanes[j * LANES + r] = y[order[r] * n + j];
        scales[r] = (REAL)(scale * (weights ? (double)weights[order[r]] : 1));
    }
    each = FN(load)(scales);
    for (int h = 0; h < WIDES; h++) sum[h] = targets[h] = splat_f64(0);
    if (loss == FNN_CROSS_ENTROPY) {
        peak = FN(load)(z_lanes);
        for (ptrdiff_t j = 1; j < n; j++) peak = FN(larger)(peak, FN(load)(z_lanes + j * LANES));
        for (ptrdiff_t j = 0; j < n; j++) {
            VEC e = FN(exp)(FN(load)(z_lanes + j * LANES) - peak);
            FN(store)(v_lanes + j * LANES, e);
            total += e;
            target += FN(load)(y_lanes + j * LANES);
        }
    }
    for (ptrdiff_t j = 0; j < n; j++) {
        VEC z_j = FN(load)(z_lanes + j * LANES), y_j = FN(load)(y_lanes + j * LANES), v, error;
        FN(widen)(y_wide, y_j, LANES);
        if (loss == FNN_SQUARED_ERROR) {
            v = FN(activated)(z_j, code, (REAL)slope);
            error = v - y_j;
            FN(store)(v_lanes + j * LANES, FN(times_factor)((REAL)2 * error * each, v, code, (REAL)slope));
            for (int h = FN(widen)(z_wide, error, LANES) - 1; h >= 0; h--) sum[h] += z_wide[h] * z_wide[h];
        } else if (loss == FNN_CROSS_ENTROPY) {
            v = FN(load)(v_lanes + j * LANES) / total;
            FN(store)(v_lanes + j * LANES, each * (v * target - y_j));
            for (int h = FN(widen)(z_wide, z_j, LANES) - 1; h >= 0; h--) {
                targets[h] += y_wide[h];
                sum[h] -= z_wide[h] * y_wide[h];
            }
        } else {
            v = FN(activated)(z_j, loss == FNN_POISSON ? FNN_EXP : FNN_SIGMOID, 0);
            FN(store)(v_lanes + j * LANES, each * (v - y_j));
            for (int h = FN(widen)(z_wide, z_j, LANES) - 1; h >= 0; h--) {
                WIDE one = matched_loss(z_wide[h], y_wide[h], loss == FNN_POISSON);
                sum[h] += loss == FNN_POISSON ? one : smaller_f64(splat_f64(ceiling), one);
            }
        }
    }
    if (loss == FNN_CROSS_ENTROPY) {
        FN(widen)(total_wide, total, LANES);
        for (int h = FN(widen)(z_wide, peak, LANES) - 1; h >= 0; h--)
            sum[h] += (z_wide[h] + log_f64(total_wide[h])) * targets[h];
    }
    for (int h = 0; h < WIDES; h++)
        store_f64(sums + h * WIDE_LANES,
                  loss == FNN_BINARY_CROSS_ENTROPY ? sum[h] : smaller_f64(splat_f64(ceiling), sum[h]));
    for (ptrdiff_t r = 0; r < rows; r++) {
        losses[r] = weights ? (double)weights[order[r]] * sums[r] : sums[r];
        for (ptrdiff_t j = 0; j < n; j++) g[r * stride + j] = v_lanes[j * LANES + r];
    }
}

/* ---- Mini-batch tiles: `rows` (1 .. FNN_ROWS) by `vecs` (1 or 2) vectors, one sum a register. ---- */

/* sums[r] += sum_k a[r, k] b[k, :].  a: panels `a_panel` numbers apart; b: a panel of `vecs` vectors. */
FNN_INLINE void FN(multiply)(const int rows, const int vecs, VEC sums[FNN_ROWS][2], const REAL *a, ptrdiff_t a_panel,
                             ptrdiff_t inner, const REAL *b) {
    for (; inner > 0; inner -= PANEL, a += a_panel) {
        const ptrdiff_t most = inner < PANEL ? inner : PANEL;
        for (ptrdiff_t k = 0; k < most; k++, b += vecs * LANES) {
            VEC b0 = FN(load)(b), b1 = vecs > 1 ? FN(load)(b + LANES) : b0;
            FNN_UNROLL for (int r = 0; r < rows; r++) {
                VEC shared = FN(splat)(a[r * PANEL + k]);
                sums[r][0] += shared * b0;
                if (vecs > 1) sums[r][1] += shared * b1;
            }
        }
    }
}

/* The same with the rows of a where they lie: sums[r] += sum_k x[r][first + k] b[k, :]. */
FNN_INLINE void FN(multiply_rows)(const int rows, const int vecs, VEC sums[FNN_ROWS][2], const REAL *const *x,
                                  ptrdiff_t first, ptrdiff_t inner, const REAL *b) {
    const REAL *row[FNN_ROWS];
    FNN_UNROLL for (int r = 0; r < rows; r++) row[r] = x[r] + first;
    for (ptrdiff_t k = 0; k < inner; k++, b += vecs * LANES) {
        VEC b0 = FN(load)(b), b1 = vecs > 1 ? FN(load)(b + LANES) : b0;
        FNN_UNROLL for (int r = 0; r < rows; r++) {
            VEC number = FN(splat)(row[r][k]);
            sums[r][0] += number * b0;
            if (vecs > 1) sums[r][1] += number * b1;
        }
    }
}

/* Calls body(rows, vecs, ...) with literal rows and vecs, so that every tile shape has its sums in registers. */
#undef EACH_SHAPE
#undef ROWS_CASE
#undef MORE_ROWS
#define ROWS_CASE(n, body, ...)                    \
    case 2 * n: body(n, 1, __VA_ARGS__); break;    \
    case 2 * n + 1: body(n, 2, __VA_ARGS__); break;
#if FNN_ROWS == 12
#define MORE_ROWS(body, ...)                                                                                    \
    ROWS_CASE(5, body, __VA_ARGS__) ROWS_CASE(6, body, __VA_ARGS__) ROWS_CASE(7, body, __VA_ARGS__)             \
    ROWS_CASE(8, body, __VA_ARGS__) ROWS_CASE(9, body, __VA_ARGS__) ROWS_CASE(10, body, __VA_ARGS__)            \
    ROWS_CASE(11, body, __VA_ARGS__) ROWS_CASE(12, body, __VA_ARGS__)
#elif FNN_ROWS == 6
#define MORE_ROWS(body, ...) ROWS_CASE(5, body, __VA_ARGS__) ROWS_CASE(6, body, __VA_ARGS__)
#else
#define MORE_ROWS(body, ...)
#endif
#define EACH_SHAPE(rows, vecs, body, ...)                                                                       \
    switch (2 * (rows) + (vecs) - 1) {                                                                          \
        ROWS_CASE(1, body, __VA_ARGS__) ROWS_CASE(2, body, __VA_ARGS__) ROWS_CASE(3, body, __VA_ARGS__)         \
        ROWS_CASE(4, body, __VA_ARGS__) MORE_ROWS(body, __VA_ARGS__)                                            \
    }

/* Eq. 1 and 2: c = phi(a W + bias).  a: panels `step` numbers apart, or where x is given its rows from number `step` on.
 * bias NULL: goes on from the sums that c holds.  finish 0: leaves sums in c. */
FNN_INLINE void FN(forward_body)(const int rows, const int vecs, REAL *c, const REAL *a, const REAL *const *x,
                                 ptrdiff_t step, ptrdiff_t inner, const REAL *w, const REAL *bias, int finish, int code,
                                 REAL slope) {
    VEC sums[FNN_ROWS][2];
    FNN_UNROLL for (int r = 0; r < rows; r++)
        for (int v = 0; v < vecs; v++) sums[r][v] = FN(load)((bias ? bias : c + r * PANEL) + v * LANES);
    if (x)
        FN(multiply_rows)(rows, vecs, sums, x, step, inner, w);
    else
        FN(multiply)(rows, vecs, sums, a, step, inner, w);
    if (finish && code == FNN_RELU)
        FNN_UNROLL for (int r = 0; r < rows; r++)
            for (int v = 0; v < vecs; v++) sums[r][v] = FN(activated)(sums[r][v], FNN_RELU, 0);
    FNN_UNROLL for (int r = 0; r < rows; r++)
        for (int v = 0; v < vecs; v++) FN(store)(c + r * PANEL + v * LANES, sums[r][v]);
    if (finish && code > FNN_RELU)
        for (int r = 0; r < rows; r++)
            FN(activate_values)(c + r * PANEL, c + r * PANEL, vecs * LANES, code, slope);
}
static void FN(forward_tile)(REAL *c, int rows, int vecs, const REAL *a, ptrdiff_t a_panel, ptrdiff_t inner,
                             const REAL *w, const REAL *bias, int finish, int code, double slope) {
    EACH_SHAPE(rows, vecs, FN(forward_body), c, a, NULL, a_panel, inner, w, bias, finish, code, (REAL)slope)
}
static void FN(forward_tile_of_rows)(REAL *c, int rows, int vecs, const void *x, ptrdiff_t first, ptrdiff_t inner,
                                     const REAL *w, const REAL *bias, int finish, int code, double slope) {
    EACH_SHAPE(rows, vecs, FN(forward_body), c, NULL, x, first, inner, w, bias, finish, code, (REAL)slope)
}

/* Eq. 5 and 6: c = (g W^T) * phi'(z).  first: starts from zero, else from c; finish: multiplies by the factor of v. */
FNN_INLINE void FN(backward_body)(const int rows, const int vecs, REAL *c, const REAL *g, ptrdiff_t g_panel,
                                  ptrdiff_t inner, const REAL *wt, int first, int finish, const REAL *activation,
                                  int code, REAL slope) {
    VEC sums[FNN_ROWS][2];
    FNN_UNROLL for (int r = 0; r < rows; r++)
        for (int v = 0; v < vecs; v++)
            sums[r][v] = first ? FN(splat)(0) : FN(load)(c + r * PANEL + v * LANES);
    FN(multiply)(rows, vecs, sums, g, g_panel, inner, wt);
    if (finish)
        FNN_UNROLL for (int r = 0; r < rows; r++)
            for (int v = 0; v < vecs; v++)
                sums[r][v] = FN(times_factor)(sums[r][v], FN(load)(activation + r * PANEL + v * LANES), code, slope);
    FNN_UNROLL for (int r = 0; r < rows; r++)
        for (int v = 0; v < vecs; v++) FN(store)(c + r * PANEL + v * LANES, sums[r][v]);
}
static void FN(backward_tile)(REAL *c, int rows, int vecs, const REAL *g, ptrdiff_t g_panel, ptrdiff_t inner,
                              const REAL *wt, int first, int finish, const REAL *activation, int code, double slope) {
    EACH_SHAPE(rows, vecs, FN(backward_body), c, g, g_panel, inner, wt, first, finish, activation, code, (REAL)slope)
}

FNN_INLINE VEC FN(root)(VEC x) {
#if FNN_BYTES
    REAL each[LANES];
    FN(store)(each, x);
    for (int j = 0; j < LANES; j++) each[j] = sizeof(REAL) == 4 ? (REAL)sqrtf((float)each[j]) : (REAL)sqrt((double)each[j]);
    return FN(load)(each);
#else
    return sizeof(REAL) == 4 ? (REAL)sqrtf((float)x) : (REAL)sqrt((double)x);
#endif
}

/* Eq. 9 for one vector: a weight stops at the floor first; one that stands on it is thrown to the other side of zero. */
FNN_INLINE VEC FN(limited)(VEC stepped, VEC old, const fnn_rule *rule) {
    const VEC limit = FN(splat)((REAL)rule->saturation), floor = FN(splat)((REAL)rule->floor), zero = FN(splat)(0);
    VEC value = FN(smaller)(limit, stepped);
    value = FN(larger)(-limit, value);
    if (rule->floor == 0) return value;
    const INTS inside = (stepped <= limit) & (stepped >= -limit);
    const INTS falls = inside & (old > zero) & (stepped < floor), rises = inside & (old <= zero) & (stepped > -floor);
    value = FN(choose)(falls, FN(choose)(old > floor, floor, -floor), value);
    return FN(choose)(rises, FN(choose)(old < -floor, -floor, floor), value);
}

/* Eq. 8 and 9 for one vector, FISTA: the step, the moves so far, and what of those is repeated. */
FNN_INLINE void FN(settle_fista)(REAL *w, REAL *state, VEC gradient, const fnn_rule *rule) {
    const VEC old = FN(load)(w), zero = FN(splat)(0), stepped = old - (REAL)rule->rate * gradient;
    const VEC new = FN(limited)(stepped, old, rule);
    VEC moves = FN(load)(state) + (new - old);
    if (rule->brakes) {
        gradient = FN(choose)(new != stepped, zero, gradient);
        moves = FN(choose)(FN(load)(state + rule->second) * gradient < zero, zero, moves);
        FN(store)(state + rule->second, gradient);
    }
    const VEC carried = new + (REAL)rule->momentum * moves, kept = FN(limited)(carried, new, rule);
    FN(store)(state, FN(choose)(kept != carried, kept - new, moves));
    FN(store)(w, kept);
}

/* Eq. 7, the last sum: the gradient over both halves of a batch. */
FNN_INLINE VEC FN(both_halves)(VEC gradient, const REAL *state, const fnn_rule *rule) {
    return rule->carried ? FN(load)(state + rule->carried) + gradient : gradient;
}

/* Eq. 8 and 9 for one vector: what a finished piece of the gradient does to the weights and to their state. */
FNN_INLINE void FN(settle)(REAL *w, REAL *state, VEC gradient, const fnn_rule *rule) {
    const REAL rate = (REAL)rule->rate, momentum = (REAL)rule->momentum;
    VEC stepped, velocity;
    if (rule->kind == FNN_STORE || rule->kind == FNN_ADD) {
        FN(store)(state, rule->kind == FNN_STORE ? gradient : FN(load)(state) + gradient);
        return;
    }
    if (rule->decay != 0) gradient += (REAL)rule->decay * FN(load)(w);
    if (rule->kind == FNN_FISTA) {
        FN(settle_fista)(w, state, gradient, rule);
        return;
    }
    if (rule->kind == FNN_PLAIN) {
        stepped = FN(load)(w) - rate * gradient;
    } else if (rule->kind == FNN_ADAM) {
        const REAL beta_2 = (REAL)rule->beta_2, new_1 = (REAL)(1 - rule->momentum), new_2 = (REAL)(1 - rule->beta_2);
        VEC squares = beta_2 * FN(load)(state + rule->second) + new_2 * gradient * gradient;
        VEC mean = momentum * FN(load)(state) + new_1 * gradient;
        FN(store)(state, mean);
        FN(store)(state + rule->second, squares);
        stepped = FN(load)(w) - rate * mean / (FN(root)(squares) + (REAL)rule->epsilon);
    } else {
        velocity = momentum * FN(load)(state) - rate * gradient;
        FN(store)(state, velocity);
        stepped = FN(load)(w) + (rule->kind == FNN_MOMENTUM ? velocity : momentum * velocity - rate * gradient);
    }
    FN(store)(w, FN(limited)(stepped, FN(load)(w), rule));
}

/* The same for n vectors. */
static void FN(settle_all)(REAL *w, REAL *state, const VEC *gradient, int n, const fnn_rule *rule) {
    for (int j = 0; j < n; j++) FN(settle)(w + j * LANES, state + j * LANES, gradient[j], rule);
}

/* sums[r] += a[r] g, for one row of the batch. */
FNN_INLINE void FN(add_products)(const int rows, const int vecs, VEC sums[FNN_ROWS][2], const REAL *a, const REAL *g) {
    VEC g0 = FN(load)(g), g1 = vecs > 1 ? FN(load)(g + LANES) : g0;
    FNN_UNROLL for (int r = 0; r < rows; r++) {
        VEC shared = FN(splat)(a[r]);
        sums[r][0] += shared * g0;
        if (vecs > 1) sums[r][1] += shared * g1;
    }
}

/* Eq. 7 to 9: rows of one weight panel from sum_b a[b, r] g[b, :].  w, state: rows of vecs vectors; a, g: of panels; where
 * x is given a[b] are its rows from number `first` on. */
FNN_INLINE void FN(gradient_body)(const int rows, const int vecs, REAL *w, REAL *state, const REAL *a,
                                  const REAL *const *x, ptrdiff_t first, const REAL *g, ptrdiff_t batch,
                                  const fnn_rule *rule) {
    VEC sums[FNN_ROWS][2];
    FNN_UNROLL for (int r = 0; r < rows; r++)
        for (int v = 0; v < vecs; v++) sums[r][v] = FN(splat)(0);
#if FNN_BYTES
    FNN_UNROLL for (int r = 0; r < rows; r++) /* the next tile's weights come into the cache meanwhile */
        for (int v = 0; v < vecs; v++) __builtin_prefetch(w + ((rows + r) * vecs + v) * LANES, 1, 3);
#endif
    if (x)
        for (ptrdiff_t b = 0; b < batch; b++, g += PANEL) FN(add_products)(rows, vecs, sums, x[b] + first, g);
    else
        for (ptrdiff_t b = 0; b < batch; b++, a += PANEL, g += PANEL) FN(add_products)(rows, vecs, sums, a, g);
    if (rule->carried)
        FNN_UNROLL for (int r = 0; r < rows; r++)
            for (int v = 0; v < vecs; v++)
                sums[r][v] = FN(both_halves)(sums[r][v], state + (r * vecs + v) * LANES, rule);
    /* What a small batch would wait for. */
    if (rule->kind == FNN_PLAIN && rule->saturation == INFINITY && rule->decay == 0 && rule->floor == 0) {
        const REAL rate = (REAL)rule->rate;
        FNN_UNROLL for (int r = 0; r < rows; r++)
            for (int v = 0; v < vecs; v++) {
                REAL *at = w + (r * vecs + v) * LANES;
                FN(store)(at, FN(load)(at) - rate * sums[r][v]);
            }
        return;
    }
    VEC gradient[2 * FNN_ROWS];
    FNN_UNROLL for (int r = 0; r < rows; r++)
        for (int v = 0; v < vecs; v++) gradient[r * vecs + v] = sums[r][v];
    FN(settle_all)(w, state, gradient, rows * vecs, rule);
}
static void FN(gradient_tile)(REAL *w, REAL *state, int rows, int vecs, const REAL *a, const REAL *g, ptrdiff_t batch,
                              const fnn_rule *rule) {
    EACH_SHAPE(rows, vecs, FN(gradient_body), w, state, a, NULL, 0, g, batch, rule)
}
static void FN(gradient_tile_of_rows)(REAL *w, REAL *state, int rows, int vecs, const void *x, ptrdiff_t first,
                                      const REAL *g, ptrdiff_t batch, const fnn_rule *rule) {
    EACH_SHAPE(rows, vecs, FN(gradient_body), w, state, NULL, x, first, g, batch, rule)
}

/* Eq. 7 to 9 for the bias row of one panel: the sum of g over the batch, four rows at a time. */
static void FN(bias_tile)(REAL *w, REAL *state, int vecs, const REAL *g, ptrdiff_t batch, const fnn_rule *rule) {
    for (int v = 0; v < vecs; v++) {
        VEC sums[4] = {FN(splat)(0), FN(splat)(0), FN(splat)(0), FN(splat)(0)};
        const REAL *row = g + v * LANES;
        ptrdiff_t b = 0;
        for (; b + 4 <= batch; b += 4, row += 4 * PANEL)
            FNN_UNROLL for (int r = 0; r < 4; r++) sums[r] += FN(load)(row + r * PANEL);
        for (; b < batch; b++, row += PANEL) sums[0] += FN(load)(row);
        sums[0] = (sums[0] + sums[1]) + (sums[2] + sums[3]);
        FN(settle)(w + v * LANES, state + v * LANES, FN(both_halves)(sums[0], state + v * LANES, rule), rule);
    }
}

/* Eq. 8 and 9 for n numbers, a multiple of the vector, whose gradient lies in memory. */
static void FN(update_values)(REAL *w, REAL *state, const REAL *gradient, ptrdiff_t n, const fnn_rule *rule) {
    for (ptrdiff_t j = 0; j < n; j += LANES)
        FN(settle)(w + j, state + j, FN(both_halves)(FN(load)(gradient + j), state + j, rule), rule);
}

/* Eq. 7a: the sum of the squares of n numbers, a multiple of the vector, in double. */
static double FN(sum_of_squares)(const REAL *w, ptrdiff_t n) {
    WIDE total = splat_f64(0), wide[LANES / WIDE_LANES];
    for (ptrdiff_t j = 0; j < n; j += LANES)
        for (int h = FN(widen)(wide, FN(load)(w + j), LANES) - 1; h >= 0; h--) total += wide[h] * wide[h];
    return sum_f64(total);
}

/* Eq. 9 alone for n numbers, a multiple of the vector. */
static void FN(limit_values)(REAL *w, ptrdiff_t n, double saturation) {
    const VEC limit = FN(splat)((REAL)saturation);
    for (ptrdiff_t j = 0; j < n; j += LANES)
        FN(store)(w + j, FN(larger)(-limit, FN(smaller)(limit, FN(load)(w + j))));
}

/* Whether none of n numbers is NaN or infinite: times 0 those are NaN and stay in the sum. */
static int FN(all_finite)(const REAL *w, ptrdiff_t n) {
    VEC doubt = FN(splat)(0);
    REAL rest = 0;
    ptrdiff_t j = 0;
    for (; j + LANES <= n; j += LANES) doubt += FN(load)(w + j) * (REAL)0;
    for (; j < n; j++) rest += w[j] * (REAL)0;
    return FN(sum)(doubt) + rest == 0;
}

/* Ask for the `part`th of `parts` of the n numbers that are needed next, so that they are in cache by then. */
static void FN(fetch_ahead)(const REAL *next, ptrdiff_t n, ptrdiff_t part, ptrdiff_t parts) {
    const ptrdiff_t line = 64 / REAL_SIZE, end = n * (part + 1) / parts;
    for (ptrdiff_t j = n * part / parts; j < end; j += line) fetch_line(next + j);
}

/* to[j, i] = from[i, j] for a block of LANES x LANES, of which `rows` of `from` exist; the others count as zero. */
static void FN(transpose_block)(REAL *to, ptrdiff_t to_stride, const REAL *from, ptrdiff_t from_stride, int rows) {
    VEC t[LANES];
    FNN_UNROLL for (int i = 0; i < LANES; i++) t[i] = i < rows ? FN(load)(from + i * from_stride) : FN(splat)(0);
#undef SWAP_BLOCKS
#define SWAP_BLOCKS(s)                                           \
    FNN_UNROLL for (int i = 0; i < LANES; i++) if (!(i & (s))) { \
        VEC upper = SHUFFLE(t[i], t[i + (s)], INDICES(UPPER, s)); \
        t[i + (s)] = SHUFFLE(t[i], t[i + (s)], INDICES(LOWER, s)); \
        t[i] = upper;                                            \
    }
#if LANES >= 16
    SWAP_BLOCKS(8)
#endif
#if LANES >= 8
    SWAP_BLOCKS(4)
#endif
#if LANES >= 4
    SWAP_BLOCKS(2)
#endif
#if LANES >= 2
    SWAP_BLOCKS(1)
#endif
    FNN_UNROLL for (int i = 0; i < LANES; i++) FN(store)(to + i * to_stride, t[i]);
}

/* ---- Prediction of a few rows, straight from the flat vector: a layer is (I + 1, O), row by row. ---- */

/* `vecs` vectors of columns of eq. 1 for one row: w points at the first of them, its rows are O numbers apart. */
FNN_INLINE void FN(flat_columns)(const int vecs, REAL *z, const REAL *w, const REAL *u, ptrdiff_t inputs,
                                 ptrdiff_t outputs) {
    VEC sums[4];
    FNN_UNROLL for (int v = 0; v < vecs; v++) sums[v] = FN(load)(w + inputs * outputs + v * LANES);
    for (ptrdiff_t i = 0; i < inputs; i++, w += outputs)
        FNN_UNROLL for (int v = 0; v < vecs; v++) sums[v] += u[i] * FN(load)(w + v * LANES);
    FNN_UNROLL for (int v = 0; v < vecs; v++) FN(store)(z + v * LANES, sums[v]);
}

/* Eq. 1 for one row; z has room for O numbers, and for a vector.  The last vector overlaps the one before it. */
static void FN(flat_forward)(REAL *z, const REAL *w, const REAL *u, ptrdiff_t inputs, ptrdiff_t outputs) {
    ptrdiff_t j = 0;
    for (; j + 4 * LANES <= outputs; j += 4 * LANES) FN(flat_columns)(4, z + j, w + j, u, inputs, outputs);
    for (; j + LANES <= outputs; j += LANES) FN(flat_columns)(1, z + j, w + j, u, inputs, outputs);
    if (j < outputs && outputs >= LANES) {
        FN(flat_columns)(1, z + outputs - LANES, w + outputs - LANES, u, inputs, outputs);
    } else if (j < outputs) { /* narrower than a vector: what would reach beyond the layer goes through a copy */
        REAL row[LANES] = {0};
        const ptrdiff_t beyond = (inputs + 1) * outputs - LANES; /* where the last vector inside the layer starts */
        VEC sum;
        memcpy(row, w + inputs * outputs, (size_t)outputs * sizeof(REAL));
        sum = FN(load)(row);
        ptrdiff_t i = 0;
        for (; i < inputs && i * outputs <= beyond; i++) sum += u[i] * FN(load)(w + i * outputs);
        for (; i < inputs; i++) {
            memcpy(row, w + i * outputs, (size_t)outputs * sizeof(REAL));
            sum += u[i] * FN(load)(row);
        }
        FN(store)(z, sum);
    }
}

/* ---- Online training: one row, only the inputs listed in `index`. ---- */

/* List where u is not zero, and `before` is (if given), without a branch to mispredict; NaN is not zero.  `index` has
   room for n and a vector. */
FNN_INLINE ptrdiff_t FN(list_inputs)(int32_t *index, const REAL *u, const REAL *before, ptrdiff_t n) {
    ptrdiff_t count = 0, i = 0;
#if FNN_BYTES == 64 && REAL_SIZE == 4
    __m512i places = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    for (; i + LANES <= n; i += LANES, places = _mm512_add_epi32(places, _mm512_set1_epi32(LANES))) {
        __mmask16 found = _mm512_cmp_ps_mask(_mm512_loadu_ps(u + i), _mm512_setzero_ps(), _CMP_NEQ_UQ);
        if (before) found &= _mm512_cmp_ps_mask(_mm512_loadu_ps(before + i), _mm512_setzero_ps(), _CMP_EQ_OQ);
        _mm512_storeu_si512(index + count, _mm512_maskz_compress_epi32(found, places));
        count += __builtin_popcount(found);
    }
#elif FNN_BYTES == 64 && defined(__AVX512VL__)
    __m256i places = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    for (; i + LANES <= n; i += LANES, places = _mm256_add_epi32(places, _mm256_set1_epi32(LANES))) {
        __mmask8 found = _mm512_cmp_pd_mask(_mm512_loadu_pd(u + i), _mm512_setzero_pd(), _CMP_NEQ_UQ);
        if (before) found &= _mm512_cmp_pd_mask(_mm512_loadu_pd(before + i), _mm512_setzero_pd(), _CMP_EQ_OQ);
        _mm256_storeu_si256((__m256i *)(index + count), _mm256_maskz_compress_epi32(found, places));
        count += __builtin_popcount(found);
    }
#endif
    for (; i < n; i++) {
        index[count] = (int32_t)i;
        count += before ? (u[i] != 0) & (before[i] == 0) : u[i] != 0;
    }
    return count;
}
static ptrdiff_t FN(list_nonzero)(int32_t *index, const REAL *u, ptrdiff_t n) {
    return FN(list_inputs)(index, u, NULL, n);
}
static ptrdiff_t FN(list_fresh)(int32_t *index, const REAL *u, const REAL *before, ptrdiff_t n) {
    return FN(list_inputs)(index, u, before, n);
}

/* Several chains of sums hide the latency of one: eight of one vector, or four of two. */
#define CHAINS(vecs) ((vecs) == 1 ? 8 : 4)

/* sums += u[i] W[i, :] over the listed rows of one panel. */
FNN_INLINE void FN(online_add)(const int vecs, VEC sums[8][2], const REAL *w, const REAL *u, const int32_t *index,
                               ptrdiff_t count) {
    const int chains = CHAINS(vecs);
    for (; count >= chains; count -= chains, index += chains)
        FNN_UNROLL for (int r = 0; r < chains; r++)
            for (int v = 0; v < vecs; v++)
                sums[r][v] += u[index[r]] * FN(load)(w + ((ptrdiff_t)index[r] * vecs + v) * LANES);
    FNN_UNROLL for (int r = 0; r < chains - 1; r++)
        if (r < count)
            for (int v = 0; v < vecs; v++)
                sums[r][v] += u[index[r]] * FN(load)(w + ((ptrdiff_t)index[r] * vecs + v) * LANES);
}

/* W[i, :] = saturate(W[i, :] - rate before[i] g), then sum += u[i] W[i, :], for one row of one panel. */
FNN_INLINE void FN(online_step)(const int vecs, VEC sum[2], REAL *w, REAL step, const VEC g[2], VEC limit, REAL input) {
    for (int v = 0; v < vecs; v++) {
        VEC stepped = FN(load)(w + v * LANES) - step * g[v];
        stepped = FN(larger)(-limit, FN(smaller)(limit, stepped));
        FN(store)(w + v * LANES, stepped);
        sum[v] += input * stepped;
    }
}

/* The same over the listed rows of one panel. */
FNN_INLINE void FN(online_step_rows)(const int vecs, VEC sums[8][2], REAL *w, const REAL *before, const int32_t *index,
                                     ptrdiff_t count, const REAL *g, REAL rate, VEC limit, const REAL *u) {
    const int chains = CHAINS(vecs);
    VEC delta[2];
    for (int v = 0; v < vecs; v++) delta[v] = FN(load)(g + v * LANES);
    for (; count >= chains; count -= chains, index += chains)
        FNN_UNROLL for (int r = 0; r < chains; r++)
            FN(online_step)(vecs, sums[r], w + (ptrdiff_t)index[r] * vecs * LANES, rate * before[index[r]], delta, limit,
                            u[index[r]]);
    FNN_UNROLL for (int r = 0; r < chains - 1; r++)
        if (r < count)
            FN(online_step)(vecs, sums[r], w + (ptrdiff_t)index[r] * vecs * LANES, rate * before[index[r]], delta, limit,
                            u[index[r]]);
}

/* Start the chains with the bias, and put their sum into out. */
FNN_INLINE void FN(online_start)(const int vecs, VEC sums[8][2], const REAL *bias) {
    const int chains = CHAINS(vecs);
    FNN_UNROLL for (int r = 0; r < chains; r++)
        for (int v = 0; v < vecs; v++) sums[r][v] = r ? FN(splat)(0) : FN(load)(bias + v * LANES);
}
FNN_INLINE void FN(online_finish)(const int vecs, VEC sums[8][2], REAL *out) {
    for (int v = 0; v < vecs; v++) {
        if (vecs == 1)
            FNN_UNROLL for (int r = 0; r < 4; r++) sums[r][v] += sums[r + 4][v];
        FN(store)(out + v * LANES, (sums[0][v] + sums[1][v]) + (sums[2][v] + sums[3][v]));
    }
}

FNN_INLINE void FN(online_forward_body)(const int vecs, REAL *out, const REAL *w, const REAL *bias, const REAL *u,
                                        const int32_t *index, ptrdiff_t count) {
    VEC sums[8][2];
    FN(online_start)(vecs, sums, bias);
    FN(online_add)(vecs, sums, w, u, index, count);
    FN(online_finish)(vecs, sums, out);
}

/* Eq. 1 and 2 for one row and one panel of O columns. */
static void FN(online_forward)(REAL *out, int vecs, const REAL *w, const REAL *bias, const REAL *u,
                               const int32_t *index, ptrdiff_t count, int code, double slope) {
    if (vecs == 1)
        FN(online_forward_body)(1, out, w, bias, u, index, count);
    else
        FN(online_forward_body)(2, out, w, bias, u, index, count);
    if (code != FNN_IDENTITY) FN(activate_values)(out, out, vecs * LANES, code, slope);
}

FNN_INLINE void FN(online_update_forward_body)(const int vecs, REAL *out, REAL *w, const REAL *bias, const REAL *before,
                                               const int32_t *listed, ptrdiff_t n_listed, const REAL *g, REAL rate,
                                               VEC limit, const REAL *u, const int32_t *fresh, ptrdiff_t n_fresh) {
    VEC sums[8][2];
    FN(online_start)(vecs, sums, bias);
    FN(online_step_rows)(vecs, sums, w, before, listed, n_listed, g, rate, limit, u);
    FN(online_add)(vecs, sums, w, u, fresh, n_fresh);
    FN(online_finish)(vecs, sums, out);
}

/* Eq. 7 and 9 for the row `before` and the weights of its listed inputs, then eq. 1 and 2 for the row u, whose other
   inputs that are not zero are `fresh`: one panel, each weight read and written once. */
static void FN(online_update_forward)(REAL *out, int vecs, REAL *w, const REAL *bias, const REAL *before,
                                      const int32_t *listed, ptrdiff_t n_listed, const REAL *g, double rate,
                                      double saturation, const REAL *u, const int32_t *fresh, ptrdiff_t n_fresh,
                                      int code, double slope) {
    const VEC limit = FN(splat)((REAL)saturation);
    if (vecs == 1)
        FN(online_update_forward_body)(1, out, w, bias, before, listed, n_listed, g, (REAL)rate, limit, u, fresh,
                                       n_fresh);
    else
        FN(online_update_forward_body)(2, out, w, bias, before, listed, n_listed, g, (REAL)rate, limit, u, fresh,
                                       n_fresh);
    if (code != FNN_IDENTITY) FN(activate_values)(out, out, vecs * LANES, code, slope);
}

/* What goes back through the weights: nothing, or g through those of before, or of after, their step. */
#define NOTHING 0
#define BEFORE 1
#define AFTER 2

/* `together` listed rows of one panel: adds W g to the sums, if `propagate`, and W = saturate(W - rate u g). */
FNN_INLINE void FN(online_rows)(const int together, const int propagate, const int vecs, REAL *w, const REAL *u,
                                const int32_t *index, const REAL *g, VEC *sums, REAL rate, VEC limit) {
    VEC delta[2];
    for (int v = 0; v < vecs; v++) delta[v] = FN(load)(g + v * LANES);
    FNN_UNROLL for (int r = 0; r < together; r++) {
        REAL *row = w + (ptrdiff_t)index[r] * vecs * LANES;
        const REAL step = rate * u[index[r]];
        for (int v = 0; v < vecs; v++) {
            VEC old = FN(load)(row + v * LANES);
            VEC stepped = FN(larger)(-limit, FN(smaller)(limit, old - step * delta[v]));
            if (propagate) sums[r] += (propagate == AFTER ? stepped : old) * delta[v];
            FN(store)(row + v * LANES, stepped);
        }
    }
}

/* The same for all panels of `together` rows, whose back-propagated sums then are complete. */
FNN_INLINE void FN(online_propagate)(const int together, const int propagate, REAL *w, ptrdiff_t inputs, ptrdiff_t outputs, const REAL *u,
                                     const int32_t *index, const REAL *g, REAL rate, VEC limit, REAL *delta) {
    VEC sums[4];
    for (int r = 0; r < together; r++) sums[r] = FN(splat)(0);
    for (; outputs > 0; outputs -= PANEL, g += PANEL, w += PANEL * (inputs + 1)) {
        if (outputs > LANES)
            FN(online_rows)(together, propagate, 2, w, u, index, g, sums, rate, limit);
        else
            FN(online_rows)(together, propagate, 1, w, u, index, g, sums, rate, limit);
    }
    for (int r = 0; r < together; r++) delta[index[r]] = FN(sum)(sums[r]);
}

/* Eq. 5 and 6 for one row through the panels of W^T, where O is small: delta = (g W^T) * phi'(z) of the layer below,
   whose activation is u; and W^T itself steps as W does, with the same roundings.  No sum crosses lanes. */
FNN_INLINE void FN(online_transposed_body)(const int propagate, const int vecs, REAL *delta, REAL *wt, ptrdiff_t outputs, const REAL *u,
                                           const REAL *g, REAL rate, VEC limit, int code, REAL slope) {
    VEC sums[2][2], steps[2];
    for (int v = 0; v < vecs; v++) {
        sums[0][v] = sums[1][v] = FN(splat)(0);
        steps[v] = rate * FN(load)(u + v * LANES);
    }
    for (; outputs > 0; outputs -= 2)
        FNN_UNROLL for (int chain = 0; chain < 2; chain++)
            if (chain < outputs) {
                const REAL share = *g++;
                for (int v = 0; v < vecs; v++, wt += LANES) {
                    VEC old = FN(load)(wt);
                    VEC stepped = FN(larger)(-limit, FN(smaller)(limit, old - steps[v] * share));
                    sums[chain][v] += share * (propagate == AFTER ? stepped : old);
                    FN(store)(wt, stepped);
                }
            }
    for (int v = 0; v < vecs; v++)
        FN(store)(delta + v * LANES,
                  FN(times_factor)(sums[0][v] + sums[1][v], FN(load)(u + v * LANES), code, slope));
}
static void FN(online_transposed)(REAL *delta, REAL *wt, ptrdiff_t inputs, ptrdiff_t outputs, const REAL *u,
                                  const REAL *g, double rate, double saturation, int after, int code, double slope) {
    const VEC limit = FN(splat)((REAL)saturation);
    const ptrdiff_t whole = (outputs + LANES - 1) / LANES * LANES;
    for (; inputs > 0; inputs -= PANEL, wt += PANEL * whole, u += PANEL, delta += PANEL) {
        if (after)
            FN(online_transposed_body)(AFTER, inputs > LANES ? 2 : 1, delta, wt, outputs, u, g, (REAL)rate, limit, code,
                                       (REAL)slope);
        else if (inputs > LANES)
            FN(online_transposed_body)(BEFORE, 2, delta, wt, outputs, u, g, (REAL)rate, limit, code, (REAL)slope);
        else
            FN(online_transposed_body)(BEFORE, 1, delta, wt, outputs, u, g, (REAL)rate, limit, code, (REAL)slope);
    }
}

/* Eq. 7 and 9 for one row's bias of one panel. */
FNN_INLINE void FN(online_bias)(REAL *bias, int vecs, const REAL *g, double rate, double saturation) {
    const VEC limit = FN(splat)((REAL)saturation);
    for (int v = 0; v < vecs; v++, bias += LANES, g += LANES)
        FN(store)(bias, FN(larger)(-limit, FN(smaller)(limit, FN(load)(bias) - (REAL)rate * FN(load)(g))));
}

/* Eq. 5, 7 and 9 for one row, in one pass over each listed row of W: delta[i] = sum_o W[i, o] g[o] with the weights of
   before its step, or of `after` it, and W[i, :] = saturate(W[i, :] - rate u[i] g).  delta NULL: it is not wanted, and
   panel follows panel. */
static void FN(online_backward)(REAL *w, ptrdiff_t inputs, ptrdiff_t outputs, const REAL *u, const int32_t *index,
                                ptrdiff_t count, const REAL *g, double rate, double saturation, REAL *delta, int after) {
    const VEC limit = FN(splat)((REAL)saturation);
    ptrdiff_t j = 0;
    if (delta && after) {
        for (; j + 4 <= count; j += 4)
            FN(online_propagate)(4, AFTER, w, inputs, outputs, u, index + j, g, (REAL)rate, limit, delta);
        for (; j < count; j++)
            FN(online_propagate)(1, AFTER, w, inputs, outputs, u, index + j, g, (REAL)rate, limit, delta);
        return;
    }
    if (delta) {
        for (; j + 4 <= count; j += 4)
            FN(online_propagate)(4, BEFORE, w, inputs, outputs, u, index + j, g, (REAL)rate, limit, delta);
        for (; j < count; j++)
            FN(online_propagate)(1, BEFORE, w, inputs, outputs, u, index + j, g, (REAL)rate, limit, delta);
        return;
    }
    for (; outputs > 0; outputs -= PANEL, g += PANEL, w += PANEL * (inputs + 1)) {
        if (outputs > LANES)
            for (j = 0; j < count; j++) FN(online_rows)(1, NOTHING, 2, w, u, index + j, g, NULL, (REAL)rate, limit);
        else
            for (j = 0; j < count; j++) FN(online_rows)(1, NOTHING, 1, w, u, index + j, g, NULL, (REAL)rate, limit);
    }
}

/* ---- Online training of networks whose every layer fits one vector: a step is bounded by the latency of one operation
   after the other, so that nothing is listed, called or branched on that need not be. ---- */

/* Eq. 9 where `limited`: without a limit the two operations would only wait. */
FNN_INLINE VEC FN(saturated)(VEC w, const int limited, VEC limit) {
    return limited ? FN(larger)(-limit, FN(smaller)(limit, w)) : w;
}

/* Eq. 1 and 2: phi(u W + b). */
FNN_INLINE VEC FN(narrow_activation)(const REAL *w, const REAL *u, ptrdiff_t inputs, int code, REAL slope) {
    VEC even = FN(load)(w + inputs * LANES), odd = FN(splat)(0), z;
    ptrdiff_t i = 0;
    for (; i + 2 <= inputs; i += 2) {
        even += u[i] * FN(load)(w + i * LANES);
        odd += u[i + 1] * FN(load)(w + (i + 1) * LANES);
    }
    if (i < inputs) even += u[i] * FN(load)(w + i * LANES);
    z = even + odd;
    if (code == FNN_RELU) return FN(activated)(z, FNN_RELU, 0); /* the usual one, without the switch */
    return FN(activated)(z, code, slope);
}

/* Eq. 4 for squared_error: 2 scale (v - y) phi'(z), and the row's loss. */
FNN_INLINE VEC FN(narrow_output)(double *loss, VEC v, const REAL *y, ptrdiff_t outputs, double scale, int code,
                                 REAL slope) {
    REAL padded[LANES] = {0};
    VEC target = {y[0]}, error;
    if (outputs > 1) { /* a single one need not go through memory */
        memcpy(padded, y, (size_t)outputs * sizeof(REAL));
        target = FN(load)(padded);
    }
    error = v - target;
    FN(store)(padded, error);
    for (ptrdiff_t j = 0; j < outputs; j++) *loss += (double)padded[j] * padded[j];
    return FN(times_factor)(error * (REAL)(2 * scale), v, code, slope);
}

/* Eq. 5 to 9 through W^T, and its step: below = (g W^T) * phi'(z) of the layer below, whose activation is u. */
FNN_INLINE void FN(narrow_back)(REAL *below, REAL *wt, const REAL *u, VEC g, ptrdiff_t outputs, REAL rate,
                                const int limited, VEC limit, int code, REAL slope) {
    const VEC step = rate * FN(load)(u);
    VEC sum, odd = FN(splat)(0), old = FN(load)(wt);
    REAL each[LANES];
#if FNN_BYTES
    const REAL first = g[0];
#else
    const REAL first = g;
#endif
    sum = first * old;
    FN(store)(wt, FN(saturated)(old - step * first, limited, limit));
    if (outputs > 1) {
        FN(store)(each, g);
        for (ptrdiff_t o = 1; o < outputs; o++) {
            old = FN(load)(wt + o * LANES);
            if (o & 1)
                odd += each[o] * old;
            else
                sum += each[o] * old;
            FN(store)(wt + o * LANES, FN(saturated)(old - step * each[o], limited, limit));
        }
        sum += odd;
    }
    FN(store)(below, FN(times_factor)(sum, FN(load)(u), code, slope));
}

/* Eq. 7 and 9: W = saturate(W - rate u g), the bias with it. */
FNN_INLINE void FN(narrow_step)(REAL *w, const REAL *u, ptrdiff_t inputs, VEC g, REAL rate, const int limited,
                                VEC limit) {
    for (ptrdiff_t i = 0; i < inputs; i++, w += LANES)
        FN(store)(w, FN(saturated)(FN(load)(w) - rate * u[i] * g, limited, limit));
    FN(store)(w, FN(saturated)(FN(load)(w) - rate * g, limited, limit));
}

/* An inner layer forward. */
FNN_INLINE void FN(narrow_forward)(REAL *v, const REAL *w, const REAL *u, ptrdiff_t inputs, int code, double slope) {
    FN(store)(v, FN(narrow_activation)(w, u, inputs, code, (REAL)slope));
}

/* The last layer forward and back, without a detour through memory; below NULL: it is the first too.  Returns the loss. */
FNN_INLINE double FN(narrow_turn)(REAL *below, REAL *w, REAL *wt, const REAL *u, ptrdiff_t inputs, ptrdiff_t outputs,
                                  int code, double slope, const REAL *y, double scale, double rate, const int limited,
                                  double limit, int code_below, double slope_below) {
    const VEC most = FN(splat)((REAL)limit), v = FN(narrow_activation)(w, u, inputs, code, (REAL)slope);
    double loss = 0;
    const VEC g = FN(narrow_output)(&loss, v, y, outputs, scale, code, (REAL)slope);
    if (below) FN(narrow_back)(below, wt, u, g, outputs, (REAL)rate, limited, most, code_below, (REAL)slope_below);
    FN(narrow_step)(w, u, inputs, g, (REAL)rate, limited, most);
    return loss;
}

/* An inner layer back; below NULL: it is the first. */
FNN_INLINE void FN(narrow_backward)(REAL *below, REAL *w, REAL *wt, const REAL *u, ptrdiff_t inputs, const REAL *g,
                                    ptrdiff_t outputs, double rate, const int limited, double limit, int code_below,
                                    double slope_below) {
    const VEC most = FN(splat)((REAL)limit), delta = FN(load)(g);
    if (below) FN(narrow_back)(below, wt, u, delta, outputs, (REAL)rate, limited, most, code_below, (REAL)slope_below);
    FN(narrow_step)(w, u, inputs, delta, (REAL)rate, limited, most);
}

#undef CHAINS
#undef NOTHING
#undef BEFORE
#undef AFTER
#undef LANES
#undef VEC
#undef INTS
#undef PANEL
#undef WIDE
#undef WIDE_LANES
#endif
