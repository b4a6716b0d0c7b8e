/* The vectors that SIMD kernels are written in, which Cython cannot express, and the order in which the kernels' own
   headers are read; the sweep that calls them is _backprop.pyx.

   A. One source for every build.  GCC's and Clang's vector extensions take the width that the compiler's flags allow:
      64 bytes with AVX-512, 32 with AVX, 16 with SSE2 or NEON.  Other compilers get "vectors" of one number, in plain
      C.
   B. One source for float and double.  The file includes itself once for each (_both_types.h), and so _vector_math.h,
      _formulas.h, _dropout.h, _tiles.h, _sparse.h, _online.h, _group.h and _narrow.h.  FN(name) is name_f32 or
      name_f64, and the macros at the end of the common part choose between the two by the type of a pointer.
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
#define FNN_VECS 4  /* 6 x 4 sums fill 29 */
#define FNN_INNER 128
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

/* Four terms of a tile's sums, or rows of a group's panel, between two jumps, where a term is so few instructions that
   counting terms shows. */
#if FNN_BYTES == 32
#define FNN_FOURS _Pragma("GCC unroll 4")
#define FNN_COUNTLESS(n) __asm__("" : "+r"(n)) /* GCC takes one by one what it knows to be eight at most */
#else
#define FNN_FOURS
#define FNN_COUNTLESS(n) (void)n
#endif

/* Rows of so many outputs, or of as many as a panel holds, go through softmax and the loss together, one a lane. */
#define FNN_TOGETHER 16

/* Rows that a tile of one vector has at most: as many sums as hide the latency of one. */
#define FNN_TALLEST (FNN_ROWS == 6 ? 8 : FNN_ROWS)

/* Columns of a thin panel at most: it has less than a vector of them. */
#define FNN_THIN 4

/* Vectors that a tile has at most, and terms summed between two stores of it: so many rows of its panels of W fill two
 * thirds of the first-level cache. */
#ifndef FNN_VECS
#define FNN_VECS 2
#define FNN_INNER 256
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

/* Ask for a cache line that is to be written soon: another core may have a copy, to call in which takes a while.  GCC
 * spells that prefetchw only where told of it, though every CPU with AVX2 takes it, at worst as nothing. */
FNN_INLINE void fetch_to_write(const void *next) {
#if FNN_BYTES == 32 && defined(__x86_64__)
    __asm__ volatile("prefetchw %0" : : "m"(*(const char *)next));
#elif FNN_BYTES
    __builtin_prefetch(next, 1, 3);
#else
    (void)next;
#endif
}

/* Eight vectors that a loop adds to: GCC moves them from register to register unless they must be in one at its end. */
#if FNN_BYTES && defined(__x86_64__)
#define FNN_KEEP(v) \
    __asm__("" : "+x"(v[0]), "+x"(v[1]), "+x"(v[2]), "+x"(v[3]), "+x"(v[4]), "+x"(v[5]), "+x"(v[6]), "+x"(v[7]))
#elif FNN_BYTES && defined(__aarch64__)
#define FNN_KEEP(v) \
    __asm__("" : "+w"(v[0]), "+w"(v[1]), "+w"(v[2]), "+w"(v[3]), "+w"(v[4]), "+w"(v[5]), "+w"(v[6]), "+w"(v[7]))
#else
#define FNN_KEEP(v) (void)v
#endif

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
    int brakes, fixed_nu; /* FISTA: is there a second state, the last gradient; are all moves repeated */
} fnn_rule;

#define FNN_GROUP 3 /* rows that go through the first layer of online training at once */
#define FNN_QUAD 4 /* panels, of eight vectors, that a list is multiplied with at once */
#if FNN_BYTES == 64
#define FNN_TERMS 64 /* in a list at most: so many rows of four panels fill two thirds of the first-level cache */
#else
#define FNN_TERMS 128
#endif

/* Without AVX-512's compressing stores, what is not zero is listed four numbers at a time. */
#if defined(__SSE2__) && FNN_BYTES && FNN_BYTES < 64
#define FNN_LISTS_BY_FOUR
static const int32_t fnn_places[16][4] = { /* of the bits of a mask that are set, one after the other */
    {0}, {0}, {1}, {0, 1}, {2}, {0, 2}, {1, 2}, {0, 1, 2},
    {3}, {0, 3}, {1, 3}, {0, 1, 3}, {2, 3}, {0, 2, 3}, {1, 2, 3}, {0, 1, 2, 3}};
static const uint8_t fnn_counts[16] = {0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4}; /* how many there are */
FNN_INLINE __m128i fnn_places_of(int mask) { return _mm_loadu_si128((const __m128i *)fnn_places[mask]); }
#endif

#if FNN_BYTES == 32 /* or eight at a time */
#define PLACE_OF(mask, bit) \
    ((uint64_t)((mask) >> (bit) & 1) * (bit) << 8 * __builtin_popcount((mask) & ((1 << (bit)) - 1)))
#define PLACES_OF(mask)                                                                             \
    (PLACE_OF(mask, 1) | PLACE_OF(mask, 2) | PLACE_OF(mask, 3) | PLACE_OF(mask, 4) | PLACE_OF(mask, 5) | \
     PLACE_OF(mask, 6) | PLACE_OF(mask, 7))
#define FOUR_MASKS(mask) PLACES_OF(mask), PLACES_OF(mask + 1), PLACES_OF(mask + 2), PLACES_OF(mask + 3)
#define MASKS_FROM(mask) FOUR_MASKS(mask), FOUR_MASKS(mask + 4), FOUR_MASKS(mask + 8), FOUR_MASKS(mask + 12)
static const uint64_t fnn_places_of_eight[256] = { /* a byte each */
    MASKS_FROM(0), MASKS_FROM(16), MASKS_FROM(32), MASKS_FROM(48), MASKS_FROM(64), MASKS_FROM(80), MASKS_FROM(96),
    MASKS_FROM(112), MASKS_FROM(128), MASKS_FROM(144), MASKS_FROM(160), MASKS_FROM(176), MASKS_FROM(192),
    MASKS_FROM(208), MASKS_FROM(224), MASKS_FROM(240)};
#undef PLACE_OF
#undef PLACES_OF
#undef FOUR_MASKS
#undef MASKS_FROM
#endif

typedef struct { /* what of some rows is not zero, row after row; see _sparse.h */
    void *values;
    uint32_t *places; /* of the values' factors, in bytes from the start of a panel */
    int32_t *ends; /* of the rows' lists */
    ptrdiff_t rows;
} fnn_lists;

typedef struct { /* of a network whose every layer fits one vector */
    ptrdiff_t inputs, outputs; /* I, O */
    ptrdiff_t weights, transposed, v; /* offsets in the arena */
    double slope, rate;
    int code;
} fnn_layer;

#define FNN_KIND _
#include "_both_types.h"
#undef FNN_KIND

/* The kernels of _narrow.h once more, in shorter vectors. */
#if FNN_BYTES == 64
#define FNN_WHOLE 64
#elif FNN_BYTES == 32
#define FNN_WHOLE 32
#endif
#ifdef FNN_WHOLE
#define FNN_SHORT
#undef FNN_BYTES
#define FNN_BYTES 16
#define FNN_KIND _of_16_
#include "_both_types.h"
#undef FNN_KIND
#if FNN_WHOLE == 64
#undef FNN_BYTES
#define FNN_BYTES 32
#define FNN_KIND _of_32_
#include "_both_types.h"
#undef FNN_KIND
#endif
#undef FNN_SHORT
#undef FNN_BYTES
#define FNN_BYTES FNN_WHOLE
#endif

/* Cython passes typed pointers through parameters declared `void *`; these choose the kernel by that type. */
#define FNN_TYPED(name, pointer) _Generic((pointer), float *: name##_f32, double *: name##_f64)
#define lanes(pointer) _Generic((pointer), float *: lanes_f32, double *: lanes_f64)
#define activate_values(out, ...) FNN_TYPED(activate_values, out)(out, __VA_ARGS__)
#define factor_values(out, ...) FNN_TYPED(factor_values, out)(out, __VA_ARGS__)
#define drop_values(v, ...) FNN_TYPED(drop_values, v)(v, __VA_ARGS__)
#define drop_back_values(g, ...) FNN_TYPED(drop_back_values, g)(g, __VA_ARGS__)
#define softmax_row(out, ...) FNN_TYPED(softmax_row, out)(out, __VA_ARGS__)
#define squared_error_row(g, ...) FNN_TYPED(squared_error_row, g)(g, __VA_ARGS__)
#define matched_row(g, ...) FNN_TYPED(matched_row, g)(g, __VA_ARGS__)
#define cross_entropy_row(g, ...) FNN_TYPED(cross_entropy_row, g)(g, __VA_ARGS__)
#define output_rows(g, ...) FNN_TYPED(output_rows, g)(g, __VA_ARGS__)
#define activate_rows(out, ...) FNN_TYPED(activate_rows, out)(out, __VA_ARGS__)
#define sum_of_squares(w, ...) FNN_TYPED(sum_of_squares, w)(w, __VA_ARGS__)
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
#define pack_rows(panel, ...) FNN_TYPED(pack_rows, panel)(panel, __VA_ARGS__)
#define unpack_rows(to, ...) FNN_TYPED(unpack_rows, to)(to, __VA_ARGS__)
#define thin_gradient(w, ...) FNN_TYPED(thin_gradient, w)(w, __VA_ARGS__)
#define transpose_block(to, ...) FNN_TYPED(transpose_block, to)(to, __VA_ARGS__)
#define list_rows(lists, begin, end, rows, ...) FNN_TYPED(list_rows, rows)(lists, begin, end, rows, __VA_ARGS__)
#define sparse_forward(c, ...) FNN_TYPED(sparse_forward, c)(c, __VA_ARGS__)
#define sparse_backward(c, ...) FNN_TYPED(sparse_backward, c)(c, __VA_ARGS__)
#define sparse_gradient(w, ...) FNN_TYPED(sparse_gradient, w)(w, __VA_ARGS__)
#define settle_turned(w, ...) FNN_TYPED(settle_turned, w)(w, __VA_ARGS__)
#define fetch_to_update(next, n) FNN_TYPED(fetch_to_update, next)(next, n)
#define fetch_ahead(next, ...) \
    _Generic((next), float *: fetch_ahead_f32, const float *: fetch_ahead_f32, double *: fetch_ahead_f64, \
             const double *: fetch_ahead_f64)(next, __VA_ARGS__)
#define list_nonzero(index, u, n) \
    _Generic((u), float *: list_nonzero_f32, const float *: list_nonzero_f32, double *: list_nonzero_f64, \
             const double *: list_nonzero_f64)(index, u, n)
#define list_after(index, u, ...) \
    _Generic((u), const float *: list_after_f32, const double *: list_after_f64)(index, u, __VA_ARGS__)
#define list_any(index, u, n) \
    _Generic((u), const float **: list_any_f32, const double **: list_any_f64)(index, u, n)
#define list_fresh(index, u, ...) \
    _Generic((u), const float **: list_fresh_f32, const double **: list_fresh_f64)(index, u, __VA_ARGS__)
#define in_common(x, ...) _Generic((x), const float *: in_common_f32, const double *: in_common_f64)(x, __VA_ARGS__)
#define group_forward(w, ...) FNN_TYPED(group_forward, w)(w, __VA_ARGS__)
#define put_right(v, ...) FNN_TYPED(put_right, v)(v, __VA_ARGS__)
#define online_update_forward(out, ...) FNN_TYPED(online_update_forward, out)(out, __VA_ARGS__)
#define flat_forward(z, ...) FNN_TYPED(flat_forward, z)(z, __VA_ARGS__)
#define FNN_CALL(name, pointer, ...) FNN_TYPED(name, pointer)(pointer, __VA_ARGS__)
#if FNN_BYTES == 64
#define FNN_NARROW(name, bytes, p, ...)                           \
    (bytes == 16   ? FNN_CALL(name##_of_16, p, __VA_ARGS__)       \
     : bytes == 32 ? FNN_CALL(name##_of_32, p, __VA_ARGS__)       \
                   : FNN_CALL(name, p, __VA_ARGS__))
#elif FNN_BYTES == 32
#define FNN_NARROW(name, bytes, p, ...) \
    (bytes == 16 ? FNN_CALL(name##_of_16, p, __VA_ARGS__) : FNN_CALL(name, p, __VA_ARGS__))
#else
#define FNN_NARROW(name, bytes, p, ...) FNN_CALL(name, p, __VA_ARGS__)
#endif
#define narrow_rows(arena, bytes, ...) FNN_NARROW(narrow_rows, bytes, arena, __VA_ARGS__)
#define online_transposed(delta, ...) FNN_TYPED(online_transposed, delta)(delta, __VA_ARGS__)
#define online_bias(w, ...) FNN_TYPED(online_bias, w)(w, __VA_ARGS__)
#define online_forward(out, ...) FNN_TYPED(online_forward, out)(out, __VA_ARGS__)
#define online_backward(w, ...) FNN_TYPED(online_backward, w)(w, __VA_ARGS__)

#endif
#else /* ------------------------------------------------------ for float and for double, see _both_types.h */

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

/* Eq. 9 where `limited`, a literal: without a limit the two operations would only wait. */
FNN_INLINE VEC FN(saturated)(VEC w, const int limited, VEC limit) {
    return limited ? FN(larger)(-limit, FN(smaller)(limit, w)) : w;
}

#ifdef FNN_LISTS_BY_FOUR
/* A mask of which of four numbers are not zero; NaN is not. */
FNN_INLINE int FN(not_zero)(const REAL *p) {
#if REAL_SIZE == 4
    return _mm_movemask_ps(_mm_cmpneq_ps(_mm_loadu_ps(p), _mm_setzero_ps()));
#elif defined(__AVX__)
    return _mm256_movemask_pd(_mm256_cmp_pd(_mm256_loadu_pd(p), _mm256_setzero_pd(), _CMP_NEQ_UQ));
#else
    const __m128d zero = _mm_setzero_pd();
    return _mm_movemask_pd(_mm_cmpneq_pd(_mm_loadu_pd(p), zero)) |
           _mm_movemask_pd(_mm_cmpneq_pd(_mm_loadu_pd(p + 2), zero)) << 2;
#endif
}
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
#undef BETWEEN
#define ITSELF(j, s) (j)
#define ACROSS(j, s) ((j) ^ (s))                          /* the lane that halves of a sum meet in */
/* To swap s x s blocks of two rows: where the upper row's new lanes are, and the lower row's. */
#define UPPER(j, s) (((j) & (s)) ? LANES + (j) - (s) : (j))
#define LOWER(j, s) (((j) & (s)) ? LANES + (j) : (j) + (s))
/* Of every four lanes the two from s on, those of two rows by turns: what each CPU has an instruction for. */
#define BETWEEN(j, s) (((j) & 1 ? LANES : 0) + ((j) & ~3) + (((j) & 3) >> 1) + (s))
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

#ifndef FNN_SHORT
/* Doubles, in which losses and squares are summed. */
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

#endif

#include "_vector_math.h"
#include "_formulas.h"
#ifndef FNN_SHORT
#include "_dropout.h"
#include "_tiles.h"
#include "_sparse.h"
#include "_online.h"
#include "_group.h"
#endif
#include "_narrow.h"

#undef LANES
#undef VEC
#undef INTS
#undef PANEL
#undef WIDE
#undef WIDE_LANES
#endif
