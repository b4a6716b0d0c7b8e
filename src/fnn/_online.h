/* Row by row: online training, and the prediction of a few rows, part of _simd.h, which includes this file once for
   float and once for double.

   A. A row meets each weight once, which no register keeps for another row: what counts is how often the weight is read
      and written, and that it is not where the input is zero.
   B. Several chains of sums, each over terms of its own, hide the latency of one operation after the other.
   C. Layers that fit one vector have kernels without lists. */

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

/* List where one of `rows` rows is not zero, and all of those before are (if given), without a branch to mispredict; NaN is
   not zero.  `index` has room for n and a vector. */
FNN_INLINE ptrdiff_t FN(list_inputs)(int32_t *index, const int rows, const REAL *const *u, const REAL *const *before,
                                     ptrdiff_t n) {
    ptrdiff_t count = 0, i = 0;
#if FNN_BYTES == 64 && (REAL_SIZE == 4 || defined(__AVX512VL__))
#if REAL_SIZE == 4
#define NOT_ZERO(row) _mm512_cmp_ps_mask(_mm512_loadu_ps((row) + i), _mm512_setzero_ps(), _CMP_NEQ_UQ)
    __m512i places = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
#else
#define NOT_ZERO(row) _mm512_cmp_pd_mask(_mm512_loadu_pd((row) + i), _mm512_setzero_pd(), _CMP_NEQ_UQ)
    __m256i places = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
#endif
    for (; i + LANES <= n; i += LANES) {
        unsigned found = 0, known = 0;
        FNN_UNROLL for (int r = 0; r < rows; r++) {
            found |= NOT_ZERO(u[r]);
            if (before) known |= NOT_ZERO(before[r]);
        }
        found &= ~known;
#if REAL_SIZE == 4
        _mm512_storeu_si512(index + count, _mm512_maskz_compress_epi32((__mmask16)found, places));
        places = _mm512_add_epi32(places, _mm512_set1_epi32(LANES));
#else
        _mm256_storeu_si256((__m256i *)(index + count), _mm256_maskz_compress_epi32((__mmask8)found, places));
        places = _mm256_add_epi32(places, _mm256_set1_epi32(LANES));
#endif
        count += __builtin_popcount(found);
    }
#undef NOT_ZERO
#elif defined(FNN_LISTS_BY_FOUR)
    __m128i first = _mm_setzero_si128();
#if FNN_BYTES == 32 && REAL_SIZE == 4
#define NOT_ZERO(row) _mm256_cmp_ps(_mm256_loadu_ps((row) + i), _mm256_setzero_ps(), _CMP_NEQ_UQ)
    for (; i + 8 <= n; i += 8) {
        __m256 wanted = NOT_ZERO(u[0]), known = _mm256_setzero_ps();
        FNN_UNROLL for (int r = 0; r < rows; r++) {
            wanted = _mm256_or_ps(wanted, NOT_ZERO(u[r]));
            if (before) known = _mm256_or_ps(known, NOT_ZERO(before[r]));
        }
        const int found = _mm256_movemask_ps(_mm256_andnot_ps(known, wanted));
        const __m256i places = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)&fnn_places_of_eight[found]));
        _mm256_storeu_si256((__m256i *)(index + count), _mm256_add_epi32(_mm256_set1_epi32((int)i), places));
        count += __builtin_popcount((unsigned)found);
    }
    first = _mm_set1_epi32((int)i);
#undef NOT_ZERO
#endif
    for (; i + 4 <= n; i += 4, first = _mm_add_epi32(first, _mm_set1_epi32(4))) {
        int found = 0, known = 0;
        FNN_UNROLL for (int r = 0; r < rows; r++) {
            found |= FN(not_zero)(u[r] + i);
            if (before) known |= FN(not_zero)(before[r] + i);
        }
        found &= ~known;
        _mm_storeu_si128((__m128i *)(index + count), _mm_add_epi32(first, fnn_places_of(found)));
        count += fnn_counts[found];
    }
#endif
    for (; i < n; i++) {
        int found = 0, known = 0;
        FNN_UNROLL for (int r = 0; r < rows; r++) {
            found |= u[r][i] != 0;
            if (before) known |= before[r][i] != 0;
        }
        index[count] = (int32_t)i;
        count += found & !known;
    }
    return count;
}
static ptrdiff_t FN(list_nonzero)(int32_t *index, const REAL *u, ptrdiff_t n) {
    return FN(list_inputs)(index, 1, &u, NULL, n);
}
static ptrdiff_t FN(list_after)(int32_t *index, const REAL *u, const REAL *before, ptrdiff_t n) {
    return FN(list_inputs)(index, 1, &u, &before, n);
}
static ptrdiff_t FN(list_any)(int32_t *index, const REAL *const *u, ptrdiff_t n) {
    return FN(list_inputs)(index, FNN_GROUP, u, NULL, n);
}
static ptrdiff_t FN(list_fresh)(int32_t *index, const REAL *const *u, const REAL *const *before, ptrdiff_t n) {
    return FN(list_inputs)(index, FNN_GROUP, u, before, n);
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
FNN_INLINE void FN(online_step)(const int vecs, VEC sum[2], REAL *w, REAL step, const VEC g[2], VEC limit,
                                REAL input) {
    for (int v = 0; v < vecs; v++) {
        const VEC stepped = FN(saturated)(FN(load)(w + v * LANES) - step * g[v], 1, limit);
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
            FN(online_step)(vecs, sums[r], w + (ptrdiff_t)index[r] * vecs * LANES, rate * before[index[r]], delta,
                            limit, u[index[r]]);
    FNN_UNROLL for (int r = 0; r < chains - 1; r++)
        if (r < count)
            FN(online_step)(vecs, sums[r], w + (ptrdiff_t)index[r] * vecs * LANES, rate * before[index[r]], delta,
                            limit, u[index[r]]);
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
        FN(online_update_forward_body)(1, out, w, bias, before, listed, n_listed, g, (REAL)rate, limit, u, fresh, n_fresh);
    else
        FN(online_update_forward_body)(2, out, w, bias, before, listed, n_listed, g, (REAL)rate, limit, u, fresh, n_fresh);
    if (code != FNN_IDENTITY) FN(activate_values)(out, out, vecs * LANES, code, slope);
}

/* What goes back through the weights: nothing, or g through those of before, or of after, their step. */
#define NOTHING 0
#define BEFORE 1
#define AFTER 2

/* `together` listed rows of one panel: adds W g to the sums, if `propagate`, and W = saturate(W - rate u g). */
FNN_INLINE void FN(online_rows)(const int together, const int propagate, const int vecs, REAL *w, const REAL *u,
                                const int32_t *index, const REAL *g, VEC *sums, REAL rate, const int limited,
                                VEC limit) {
    VEC delta[2];
    for (int v = 0; v < vecs; v++) delta[v] = FN(load)(g + v * LANES);
    FNN_UNROLL for (int r = 0; r < together; r++) {
        REAL *row = w + (ptrdiff_t)index[r] * vecs * LANES;
        const REAL step = rate * u[index[r]];
        for (int v = 0; v < vecs; v++) {
            VEC old = FN(load)(row + v * LANES);
            VEC stepped = FN(saturated)(old - step * delta[v], limited, limit);
            if (propagate) sums[r] += (propagate == AFTER ? stepped : old) * delta[v];
            FN(store)(row + v * LANES, stepped);
        }
    }
}

/* The same for all panels of `together` rows, whose back-propagated sums then are complete. */
FNN_INLINE void FN(online_propagate)(const int together, const int propagate, REAL *w, ptrdiff_t inputs,
                                     ptrdiff_t outputs, const REAL *u, const int32_t *index, const REAL *g,
                                     REAL rate, const int limited, VEC limit, REAL *delta) {
    VEC sums[4];
    for (int r = 0; r < together; r++) sums[r] = FN(splat)(0);
    for (; outputs > 0; outputs -= PANEL, g += PANEL, w += PANEL * (inputs + 1)) {
        if (outputs > LANES)
            FN(online_rows)(together, propagate, 2, w, u, index, g, sums, rate, limited, limit);
        else
            FN(online_rows)(together, propagate, 1, w, u, index, g, sums, rate, limited, limit);
    }
    for (int r = 0; r < together; r++) delta[index[r]] = FN(sum)(sums[r]);
}

/* Eq. 5 and 6 for one row through the panels of W^T, where O is small: delta = (g W^T) * phi'(z) of the layer below,
   whose activation is u; and W^T itself steps as W does, with the same roundings.  No sum crosses lanes. */
FNN_INLINE void FN(online_transposed_body)(const int propagate, const int vecs, REAL *delta, REAL *wt,
                                           ptrdiff_t outputs, const REAL *u, const REAL *g, REAL rate,
                                           const int limited, VEC limit, int code, REAL slope) {
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
                    VEC stepped = FN(saturated)(old - steps[v] * share, limited, limit);
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
#define ONLINE_TRANSPOSED(propagate, vecs, limited)                                                                 \
    FN(online_transposed_body)(propagate, vecs, delta, wt, outputs, u, g, (REAL)rate, limited, limit, code,         \
                               (REAL)slope);
        if (after)
            ONLINE_TRANSPOSED(AFTER, inputs > LANES ? 2 : 1, 1)
        else if (inputs <= LANES)
            ONLINE_TRANSPOSED(BEFORE, 1, 1)
        else if (saturation == INFINITY)
            ONLINE_TRANSPOSED(BEFORE, 2, 0)
        else
            ONLINE_TRANSPOSED(BEFORE, 2, 1)
#undef ONLINE_TRANSPOSED
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
FNN_INLINE void FN(online_backward_body)(const int propagate, const int limited, REAL *w, ptrdiff_t inputs,
                                         ptrdiff_t outputs, const REAL *u, const int32_t *index, ptrdiff_t count,
                                         const REAL *g, REAL rate, VEC limit, REAL *delta) {
    ptrdiff_t j = 0;
    if (propagate) {
        for (; j + 4 <= count; j += 4)
            FN(online_propagate)(4, propagate, w, inputs, outputs, u, index + j, g, rate, limited, limit, delta);
        for (; j < count; j++)
            FN(online_propagate)(1, propagate, w, inputs, outputs, u, index + j, g, rate, limited, limit, delta);
        return;
    }
    for (; outputs > 0; outputs -= PANEL, g += PANEL, w += PANEL * (inputs + 1)) {
        if (outputs > LANES)
            for (j = 0; j < count; j++)
                FN(online_rows)(1, NOTHING, 2, w, u, index + j, g, NULL, rate, limited, limit);
        else
            for (j = 0; j < count; j++)
                FN(online_rows)(1, NOTHING, 1, w, u, index + j, g, NULL, rate, limited, limit);
    }
}
static void FN(online_backward)(REAL *w, ptrdiff_t inputs, ptrdiff_t outputs, const REAL *u, const int32_t *index,
                                ptrdiff_t count, const REAL *g, double rate, double saturation, REAL *delta, int after) {
    const VEC limit = FN(splat)((REAL)saturation);
#define ONLINE_BACKWARD(propagate, limited)                                                                         \
    FN(online_backward_body)(propagate, limited, w, inputs, outputs, u, index, count, g, (REAL)rate, limit, delta);
    if (delta && after)
        ONLINE_BACKWARD(AFTER, 1)
    else if (delta && saturation == INFINITY)
        ONLINE_BACKWARD(BEFORE, 0)
    else if (delta)
        ONLINE_BACKWARD(BEFORE, 1)
    else if (saturation == INFINITY)
        ONLINE_BACKWARD(NOTHING, 0)
    else
        ONLINE_BACKWARD(NOTHING, 1)
#undef ONLINE_BACKWARD
}

#undef CHAINS
#undef NOTHING
#undef BEFORE
#undef AFTER
