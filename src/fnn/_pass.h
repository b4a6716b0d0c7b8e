/* SIMD kernels of _pass.pyx: one sample through one level of a FloatNeuralNet, in float32 as the C++ class rounds it.

   A. Every product and every sum is rounded by itself: this header and _pass.pyx are compiled without contraction into
      fused multiply-adds (setup.py).  A vector holds neurons, or inputs, whose sums are independent; the terms of a
      sum are added one after the other, from the first to the last.  So any width gives the class's own bits.
   B. Rows of weights start on a cache line and are padded to whole ones (_pass_state.py).  The padding may be read and
      written; no result depends on it.
   C. `index` lists the rows to visit.  _pass.pyx leaves those of a zero input out only where they change nothing.
   D. While the weights stay, rows meet several samples at once, or one after the other while they are near; and the
      rows of a wide level's total gradient always do, from registers.  Of these `who` has a bit for each sample that
      is not zero there.  The terms of every sum stay in the order of the samples.

   Letters: I rows of a block, the bias's being the last; O neurons, in `vecs` vectors; `stride` from row to row,
   `room` from the numbers of a sample to those of the next. */

#ifndef FNN_PASS_H
#define FNN_PASS_H

#include "_simd.h"

enum {
    PASS_LANES = lanes_f32,
    PASS_NARROW = 2, /* vectors of a level whose rows meet several samples at once */
    PASS_HELD = FNN_BYTES == 64 ? 8 : 2, /* vectors that are the same for every row and stay in registers */
};

typedef struct {
    float rate, limit, floor;
    int has_floor;
    int is_tame; /* the limit is positive, and no weight and no gradient is NaN */
} pass_step;

/* The limiter's ways: with a floor, without one, and without one for what is tame. */
enum { PASS_FLOORED, PASS_LIMITED, PASS_CLAMPED };

/* Have an address in one register: where a load adds two, x86 parts it from the operation that it is for. */
#if FNN_BYTES
#define PASS_ADDRESS(p) __asm__("" : "+r"(p))
#else
#define PASS_ADDRESS(p) (void)p
#endif

/* Ask for `vecs` vectors of a row that are soon at hand in the first-level cache; beyond the last row no harm. */
FNN_INLINE void pass_fetch(const int vecs, const float *row) {
#if FNN_BYTES
    FNN_UNROLL for (int v = 0; v < vecs; v += 64 / FNN_BYTES) __builtin_prefetch(row + v * PASS_LANES, 1, 3);
#else
    (void)vecs, (void)row;
#endif
}

/* Where the lowest bit that is set stands. */
FNN_INLINE ptrdiff_t lowest_bit(uint32_t bits) {
#if FNN_BYTES
    return __builtin_ctz(bits);
#else
    ptrdiff_t at = 0;
    for (; !(bits & 1); bits >>= 1) at++;
    return at;
#endif
}

/* Whether a comparison holds in any lane. */
FNN_INLINE int pass_any(ints_f32 mask) {
#if FNN_BYTES == 64
    return _mm512_movepi32_mask((__m512i)mask) != 0;
#elif FNN_BYTES == 32
    return _mm256_movemask_ps((__m256)mask) != 0;
#elif FNN_BYTES == 16 && defined(__SSE2__)
    return _mm_movemask_ps((__m128)mask) != 0;
#elif FNN_BYTES
    ints_f32 none = {0};
    return memcmp(&mask, &none, sizeof mask) != 0;
#else
    return mask;
#endif
}

/* Whether products of two such numbers stay far inside float32, for all of n; NaN does not. */
static int pass_tame(const float *v, ptrdiff_t n) {
    const vec_f32 most = splat_f32(0x1p60f);
    ints_f32 wild = bits_f32(splat_f32(0));
    for (ptrdiff_t j = 0; j < n; j += PASS_LANES) {
        const vec_f32 size = magnitude_f32(load_f32(v + j));
        wild |= (size >= most) | (size != size);
    }
    return !pass_any(wild);
}

/* Whether a step of 0 changes none of n weights: inside the limit, outside the floor, and no -0, which -(-0) moves. */
static int pass_settled(const float *w, ptrdiff_t n, const pass_step *step) {
    const vec_f32 limit = splat_f32(step->limit), floor = splat_f32(step->has_floor ? step->floor : 0);
    const ints_f32 minus_zero = bits_f32(splat_f32(-0.0f));
    ints_f32 moved = bits_f32(splat_f32(0));
    if (!(step->limit > 0 && step->limit < 0x1p60f)) return 0;
    if (step->has_floor && !(step->floor > 0 && step->floor <= step->limit)) return 0;
    for (ptrdiff_t j = 0; j < n; j += PASS_LANES) {
        vec_f32 v = load_f32(w + j), size = magnitude_f32(v);
        moved |= (size > limit) | (size < floor) | (v != v) | (bits_f32(v) == minus_zero);
    }
    return !pass_any(moved);
}

/* z += sum over the listed rows of u[i] W[i, :], for `vecs` vectors of neurons. */
FNN_INLINE void pass_forward_block(const int vecs, float *z, const float *w, ptrdiff_t stride, const float *u,
                                   const int32_t *index, ptrdiff_t count) {
    vec_f32 sums[8];
    FNN_UNROLL for (int v = 0; v < vecs; v++) sums[v] = load_f32(z + v * PASS_LANES);
    for (ptrdiff_t i = 0; i < count; i++) {
        const float *row = w + index[i] * stride;
        const vec_f32 input = splat_f32(u[index[i]]);
        PASS_ADDRESS(row);
        FNN_UNROLL for (int v = 0; v < vecs; v++) sums[v] += input * load_f32(row + v * PASS_LANES);
    }
    FNN_UNROLL for (int v = 0; v < vecs; v++) store_f32(z + v * PASS_LANES, sums[v]);
}
static void pass_forward(float *z, ptrdiff_t vecs, const float *w, ptrdiff_t stride, const float *u,
                         const int32_t *index, ptrdiff_t count) {
    for (; vecs >= 8; vecs -= 8, z += 8 * PASS_LANES, w += 8 * PASS_LANES)
        pass_forward_block(8, z, w, stride, u, index, count);
    if (vecs & 4) {
        pass_forward_block(4, z, w, stride, u, index, count);
        z += 4 * PASS_LANES, w += 4 * PASS_LANES;
    }
    if (vecs & 2) {
        pass_forward_block(2, z, w, stride, u, index, count);
        z += 2 * PASS_LANES, w += 2 * PASS_LANES;
    }
    if (vecs & 1) pass_forward_block(1, z, w, stride, u, index, count);
}

/* z += sum over the I rows of u[i] W[i, :], for 8 vectors of sums: 8 samples, or 4 of two vectors each. */
FNN_INLINE void pass_forward_tile(const int vecs, float *z, const float *w, ptrdiff_t stride, const float *u,
                                  ptrdiff_t room, ptrdiff_t rows) {
    vec_f32 sums[8], weights[PASS_NARROW];
    FNN_UNROLL for (int t = 0; t < 8; t++) sums[t] = load_f32(z + t / vecs * room + t % vecs * PASS_LANES);
    for (ptrdiff_t i = 0; i < rows; i++) {
        FNN_UNROLL for (int v = 0; v < vecs; v++) weights[v] = load_f32(w + i * stride + v * PASS_LANES);
        FNN_UNROLL for (int t = 0; t < 8; t++) sums[t] += splat_f32(u[t / vecs * room + i]) * weights[t % vecs];
    }
    FNN_UNROLL for (int t = 0; t < 8; t++) store_f32(z + t / vecs * room + t % vecs * PASS_LANES, sums[t]);
}
/* The first samples of a narrow level, as many as make whole tiles; how many those are. */
static ptrdiff_t pass_forward_tiles(float *z, int vecs, const float *w, ptrdiff_t stride, const float *u,
                                    ptrdiff_t room, ptrdiff_t rows, ptrdiff_t samples) {
    const ptrdiff_t at_once = 8 / vecs, whole = samples - samples % at_once;
    for (ptrdiff_t s = 0; s < whole; s += at_once) {
        if (vecs == 1)
            pass_forward_tile(1, z + s * room, w, stride, u + s * room, room, rows);
        else
            pass_forward_tile(2, z + s * room, w, stride, u + s * room, room, rows);
    }
    return whole;
}

/* s[i] = sum over the O neurons j of W[i, j] sigma[j], times d[j] if `factored`; LANES rows at a time, turned. */
FNN_INLINE void pass_sensitivity_block(const int samples, const int factored, float *s, const float *w,
                                       ptrdiff_t stride, ptrdiff_t inputs, ptrdiff_t outputs, const float *sigma,
                                       const float *d, ptrdiff_t room) {
    float tile[PASS_LANES * PASS_LANES];
    vec_f32 sums[8];
    for (ptrdiff_t i = 0; i < inputs; i += PASS_LANES) {
        const int rows = (int)(inputs - i < PASS_LANES ? inputs - i : PASS_LANES);
        FNN_UNROLL for (int n = 0; n < samples; n++) sums[n] = splat_f32(0);
        for (ptrdiff_t j = 0; j < outputs; j += PASS_LANES) {
            const int columns = (int)(outputs - j < PASS_LANES ? outputs - j : PASS_LANES);
            transpose_block_f32(tile, PASS_LANES, w + i * stride + j, stride, rows);
            for (int k = 0; k < columns; k++) {
                const vec_f32 weights = load_f32(tile + k * PASS_LANES);
                FNN_UNROLL for (int n = 0; n < samples; n++) {
                    vec_f32 term = weights * sigma[n * room + j + k];
                    if (factored) term *= d[n * room + j + k];
                    sums[n] += term;
                }
            }
        }
        FNN_UNROLL for (int n = 0; n < samples; n++) store_f32(s + n * room + i, sums[n]);
    }
}
/* `d` NULL: not factored. */
static void pass_sensitivity(float *s, const float *w, ptrdiff_t stride, ptrdiff_t inputs, ptrdiff_t outputs,
                             const float *sigma, const float *d, ptrdiff_t room, ptrdiff_t samples) {
#define PASS_SAMPLES(n, factored) pass_sensitivity_block(n, factored, s, w, stride, inputs, outputs, sigma, d, room)
    while (samples > 0) {
        const int at_once = samples >= 8 ? 8 : 1;
        if (at_once == 8 && d)
            PASS_SAMPLES(8, 1);
        else if (at_once == 8)
            PASS_SAMPLES(8, 0);
        else if (d)
            PASS_SAMPLES(1, 1);
        else
            PASS_SAMPLES(1, 0);
        samples -= at_once;
        s += at_once * room, sigma += at_once * room;
        if (d) d += at_once * room;
    }
#undef PASS_SAMPLES
}

/* total += g, of one row. */
static void pass_add(float *total, ptrdiff_t vecs, const float *g) {
    for (ptrdiff_t v = 0; v < vecs; v++)
        store_f32(total + v * PASS_LANES, load_f32(total + v * PASS_LANES) + load_f32(g + v * PASS_LANES));
}

/* who[i] gets `bit` where u[i] is not zero; how many those are. */
static ptrdiff_t pass_mark(uint32_t *who, uint32_t bit, const float *u, ptrdiff_t n) {
    int32_t count = 0;
    for (ptrdiff_t i = 0; i < n; i++) {
        who[i] |= u[i] != 0 ? bit : 0;
        count += u[i] != 0;
    }
    return count;
}

/* total[i, :] += u[i] sigma, times d if `factored`, of the samples that the bits of who[i] name, the lowest first. */
FNN_INLINE void pass_add_marked_body(const int vecs, const int factored, float *total, ptrdiff_t stride,
                                     ptrdiff_t rows, const float *u, const uint32_t *who, const float *sigma,
                                     const float *d, ptrdiff_t room) {
    for (ptrdiff_t i = 0; i < rows; i++, total += stride) {
        vec_f32 sums[8];
        pass_fetch(vecs, total + 2 * stride);
        FNN_UNROLL for (int v = 0; v < vecs; v++) sums[v] = load_f32(total + v * PASS_LANES);
        for (uint32_t left = who[i]; left; left &= left - 1) {
            const ptrdiff_t at = lowest_bit(left) * room;
            const vec_f32 input = splat_f32(u[at + i]);
            const float *own = sigma + at;
            PASS_ADDRESS(own);
            FNN_UNROLL for (int v = 0; v < vecs; v++) {
                vec_f32 g = input * load_f32(own + v * PASS_LANES);
                if (factored) g *= load_f32(d + at + v * PASS_LANES);
                sums[v] += g;
            }
        }
        FNN_UNROLL for (int v = 0; v < vecs; v++) store_f32(total + v * PASS_LANES, sums[v]);
    }
}
/* `d` NULL: not factored. */
static void pass_add_marked(float *total, ptrdiff_t stride, ptrdiff_t vecs, ptrdiff_t rows, const float *u,
                            const uint32_t *who, const float *sigma, const float *d, ptrdiff_t room) {
#define PASS_WIDTH(vecs)                                                            \
    if (d)                                                                          \
        pass_add_marked_body(vecs, 1, total, stride, rows, u, who, sigma, d, room); \
    else                                                                            \
        pass_add_marked_body(vecs, 0, total, stride, rows, u, who, sigma, d, room)
    while (vecs > 0) {
        const int width = vecs >= 8 ? 8 : vecs >= 4 ? 4 : vecs >= 2 ? 2 : 1;
        switch (width) {
        case 8: PASS_WIDTH(8); break;
        case 4: PASS_WIDTH(4); break;
        case 2: PASS_WIDTH(2); break;
        default: PASS_WIDTH(1);
        }
        vecs -= width;
        total += width * PASS_LANES, sigma += width * PASS_LANES;
        if (d) d += width * PASS_LANES;
    }
#undef PASS_WIDTH
}

/* to[j, i] = of[i, j], of whole vectors of rows: the padding of `to` gets zeros. */
static void pass_turn(float *to, ptrdiff_t to_stride, const float *of, ptrdiff_t stride, ptrdiff_t rows,
                      ptrdiff_t columns) {
    float block[PASS_LANES * PASS_LANES];
    for (ptrdiff_t i = 0; i < rows; i += PASS_LANES)
        for (ptrdiff_t j = 0; j < columns; j += PASS_LANES) {
            const int here = (int)(rows - i < PASS_LANES ? rows - i : PASS_LANES);
            transpose_block_f32(block, PASS_LANES, of + i * stride + j, stride, here);
            for (ptrdiff_t k = 0; k < PASS_LANES && j + k < columns; k++)
                store_f32(to + (j + k) * to_stride + i, load_f32(block + k * PASS_LANES));
        }
}

/* total[i, :] += the same, of several samples one after the other, for some rows of a narrow level. */
FNN_INLINE void pass_add_tile(const int rows, const int vecs, const int factored, float *total, ptrdiff_t stride,
                              const float *u, const float *sigma, const float *d, ptrdiff_t room, ptrdiff_t samples) {
    vec_f32 sums[8], sigmas[PASS_NARROW], ds[PASS_NARROW];
    FNN_UNROLL for (int t = 0; t < rows * vecs; t++)
        sums[t] = load_f32(total + t / vecs * stride + t % vecs * PASS_LANES);
    for (ptrdiff_t n = 0; n < samples; n++, u += room, sigma += room) {
        FNN_UNROLL for (int v = 0; v < vecs; v++) {
            sigmas[v] = load_f32(sigma + v * PASS_LANES);
            if (factored) ds[v] = load_f32(d + n * room + v * PASS_LANES);
        }
        FNN_UNROLL for (int t = 0; t < rows * vecs; t++) {
            vec_f32 g = splat_f32(u[t / vecs]) * sigmas[t % vecs];
            if (factored) g *= ds[t % vecs];
            sums[t] += g;
        }
    }
    FNN_UNROLL for (int t = 0; t < rows * vecs; t++)
        store_f32(total + t / vecs * stride + t % vecs * PASS_LANES, sums[t]);
}
/* `d` NULL: not factored. */
static void pass_add_tiles(float *total, ptrdiff_t stride, int vecs, ptrdiff_t rows, const float *u,
                           const float *sigma, const float *d, ptrdiff_t room, ptrdiff_t samples) {
#define PASS_TILE(rows, vecs)                                                             \
    if (d)                                                                                \
        pass_add_tile(rows, vecs, 1, total + i * stride, stride, u + i, sigma, d, room, samples); \
    else                                                                                  \
        pass_add_tile(rows, vecs, 0, total + i * stride, stride, u + i, sigma, d, room, samples)
    const int at_once = 8 / vecs;
    ptrdiff_t i = 0;
    for (; i + at_once <= rows; i += at_once)
        if (vecs == 1) {
            PASS_TILE(8, 1);
        } else {
            PASS_TILE(4, 2);
        }
    for (; i < rows; i++)
        if (vecs == 1) {
            PASS_TILE(1, 1);
        } else {
            PASS_TILE(1, 2);
        }
#undef PASS_TILE
}

/* How many of a list's rows come before `end`. */
static ptrdiff_t pass_before(const int32_t *index, ptrdiff_t count, ptrdiff_t end) {
    ptrdiff_t i = 0;
    while (i + 8 <= count && index[i + 7] < end) i += 8;
    while (i < count && index[i] < end) i++;
    return i;
}

/* The limiter. */
FNN_INLINE vec_f32 pass_limited(const int way, vec_f32 new, vec_f32 old, vec_f32 limit, vec_f32 floor) {
    vec_f32 value = larger_f32(-limit, smaller_f32(limit, new)), zero = splat_f32(0);
    if (way == PASS_FLOORED) {
        const ints_f32 inside = (new <= limit) & (new >= -limit);
        const ints_f32 falls = inside & (old > zero) & (new < floor), rises = inside & (old <= zero) & (new > -floor);
        value = choose_f32(falls, choose_f32(old > floor, floor, -floor), value);
        value = choose_f32(rises, choose_f32(old < -floor, -floor, floor), value);
    }
    return value;
}

/* The limiter without a floor, for a positive limit and no NaN. */
FNN_INLINE vec_f32 pass_clamped(vec_f32 new, vec_f32 limit) {
#if FNN_BYTES == 64
    return (vec_f32)_mm512_range_ps((__m512)new, (__m512)limit, 2); /* the smaller magnitude with the sign of `new` */
#else
    return larger_f32(-limit, smaller_f32(limit, new));
#endif
}

/* The step of the rate against gradients u[i] sigma, times d if `factored`, of the listed rows, and where it `adds`
   those into the total.  `ahead`: also z += sum of next[i] W[i, :], the next sample's raw values, while a row is at
   hand. */
FNN_INLINE void pass_step_body(const int vecs, const int factored, const int adds, const int way, const int ahead,
                               float *w, float *total, ptrdiff_t stride, const float *u, const int32_t *index,
                               ptrdiff_t count, const float *sigma, const float *d, const pass_step *step,
                               const float *next, float *z) {
    const vec_f32 rate = splat_f32(step->rate), limit = splat_f32(step->limit), floor = splat_f32(step->floor);
    const int held = vecs * (1 + factored) <= PASS_HELD;
    vec_f32 sigmas[PASS_HELD], ds[PASS_HELD], sums[8];
    FNN_UNROLL for (int v = 0; v < vecs; v++) {
        if (held) sigmas[v] = load_f32(sigma + v * PASS_LANES);
        if (held && factored) ds[v] = load_f32(d + v * PASS_LANES);
        if (ahead) sums[v] = load_f32(z + v * PASS_LANES);
    }
    for (ptrdiff_t i = 0; i < count; i++) {
        const ptrdiff_t at = index[i] * stride;
        float *row = w + at;
        PASS_ADDRESS(row);
        const vec_f32 input = splat_f32(u[index[i]]), follower = ahead ? splat_f32(next[index[i]]) : input;
        FNN_UNROLL for (int v = 0; v < vecs; v++) {
            vec_f32 g = input * (held ? sigmas[v] : load_f32(sigma + v * PASS_LANES));
            if (factored) g *= held ? ds[v] : load_f32(d + v * PASS_LANES);
            if (adds) store_f32(total + at + v * PASS_LANES, load_f32(total + at + v * PASS_LANES) + g);
            const vec_f32 old = load_f32(row + v * PASS_LANES);
            const vec_f32 stepped = old - rate * g;
            const vec_f32 new =
                way == PASS_CLAMPED ? pass_clamped(stepped, limit) : pass_limited(way, stepped, old, limit, floor);
            store_f32(row + v * PASS_LANES, new);
            if (ahead) sums[v] += follower * new;
        }
    }
    FNN_UNROLL for (int v = 0; v < vecs; v++)
        if (ahead) store_f32(z + v * PASS_LANES, sums[v]);
}
#define PASS_STEP(vecs, factored, adds, way, ahead)                                                            \
    pass_step_body(vecs, factored, adds, way, ahead, w, total, stride, u, index, count, sigma, d, step, next, z)
#define PASS_WIDTH(vecs, adds, way, ahead)       \
    if (d)                                       \
        PASS_STEP(vecs, 1, adds, way, ahead);    \
    else                                         \
        PASS_STEP(vecs, 0, adds, way, ahead)
#define PASS_NARROW_WIDTH(vecs, way, ahead)      \
    if (total) {                                 \
        PASS_WIDTH(vecs, 1, way, ahead);         \
    } else {                                     \
        PASS_WIDTH(vecs, 0, way, ahead);         \
    }
#define PASS_ROWS(way, ahead)                      \
    switch (width) {                               \
    case 8: PASS_WIDTH(8, 0, way, ahead); break;   \
    case 4: PASS_WIDTH(4, 0, way, ahead); break;   \
    case 2: PASS_NARROW_WIDTH(2, way, ahead) break; \
    default: PASS_NARROW_WIDTH(1, way, ahead)      \
    }
/* `total` NULL: nothing is added; else `vecs` is PASS_NARROW or less.  `d` NULL: not factored.  `next` NULL: not ahead;
   it goes with what is tame, and without a floor, only. */
static void pass_steps(float *w, float *total, ptrdiff_t stride, int vecs, const float *u, const int32_t *index,
                       ptrdiff_t count, const float *sigma, const float *d, const pass_step *step, const float *next,
                       float *z) {
    while (vecs > 0) {
        const int width = vecs >= 8 ? 8 : vecs >= 4 ? 4 : vecs >= 2 ? 2 : 1;
        if (next) {
            PASS_ROWS(PASS_CLAMPED, 1)
        } else if (step->has_floor) {
            PASS_ROWS(PASS_FLOORED, 0)
        } else if (step->is_tame) {
            PASS_ROWS(PASS_CLAMPED, 0)
        } else {
            PASS_ROWS(PASS_LIMITED, 0)
        }
        vecs -= width;
        w += width * PASS_LANES, sigma += width * PASS_LANES;
        if (total) total += width * PASS_LANES;
        if (d) d += width * PASS_LANES;
        if (next) z += width * PASS_LANES;
    }
}
#undef PASS_STEP
#undef PASS_NARROW_WIDTH
#undef PASS_ROWS
#undef PASS_WIDTH

/* How many places there are where u or next is not zero. */
static ptrdiff_t pass_either(const float *u, const float *next, ptrdiff_t n) {
    int32_t count = 0;
    for (ptrdiff_t i = 0; i < n; i++) count += (u[i] != 0) | (next[i] != 0);
    return count;
}

/* List where u or next is not zero; `sizes` has room for the sums of their magnitudes.  As list_nonzero. */
static ptrdiff_t pass_list_either(int32_t *index, const float *u, const float *next, float *sizes, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; i += PASS_LANES)
        store_f32(sizes + i, magnitude_f32(load_f32(u + i)) + magnitude_f32(load_f32(next + i)));
    return list_nonzero_f32(index, sizes, n);
}

#endif
