/* A few rows at a time through the first layer of online training, part of _simd.h, which includes this file once for
   float and once for double (docs/backprop.md, a few rows at a time).

   A. A row x' meets the weights that the rows x before it have moved, W - rate x^T g: its sums are those with W, less
      rate (1 + x x') g for each of them.  So a group of rows goes forward through one W, which then takes all of their
      steps: each weight is read and written once for the group.
   B. Without a limit only, for a weight that stops there is no longer a sum of steps.
   C. Three rows: their sums and their steps in two vectors of neurons just fit in 16 registers, and 12 multiply-adds take
      about as long as to read and write a row of a panel in the second-level cache. */

typedef const REAL *FN(group)[FNN_GROUP]; /* where its rows lie */

/* For one row of one panel: W[i, :] += the steps times `before`[i] unless that is NULL, then each row's sums
   += u[i] W[i, :].  One factor at a time: registers are few. */
FNN_INLINE void FN(group_row)(const int vecs, VEC sums[FNN_GROUP][2], REAL *w, const VEC step[FNN_GROUP][2],
                              const REAL *const *before, const REAL *const *u, int32_t i) {
    VEC row[2], factor;
    w += (ptrdiff_t)i * vecs * LANES;
    for (int v = 0; v < vecs; v++) row[v] = FN(load)(w + v * LANES);
    if (before) {
        FNN_UNROLL for (int r = 0; r < FNN_GROUP; r++) {
            factor = FN(splat)(before[r][i]);
            for (int v = 0; v < vecs; v++) row[v] += factor * step[r][v];
        }
        for (int v = 0; v < vecs; v++) FN(store)(w + v * LANES, row[v]);
    }
    FNN_UNROLL for (int r = 0; r < FNN_GROUP; r++) {
        factor = FN(splat)(u[r][i]);
        for (int v = 0; v < vecs; v++) sums[r][v] += factor * row[v];
    }
}

/* The same for the listed rows; where panels have one vector, even and odd ones apart, which hides the latency of sums. */
FNN_INLINE void FN(group_rows)(const int vecs, VEC sums[2][FNN_GROUP][2], REAL *w, const VEC step[FNN_GROUP][2],
                               const REAL *const *before, const REAL *const *u, const int32_t *index, ptrdiff_t count) {
    if (vecs == 2)
        FNN_FOURS for (ptrdiff_t j = 0; j < count; j++) FN(group_row)(vecs, sums[0], w, step, before, u, index[j]);
    else {
        for (; count > 1; count -= 2, index += 2)
            FNN_UNROLL for (int c = 0; c < 2; c++) FN(group_row)(vecs, sums[c], w, step, before, u, index[c]);
        if (count) FN(group_row)(vecs, sums[0], w, step, before, u, index[0]);
    }
}

FNN_INLINE void FN(group_forward_body)(const int vecs, REAL *w, const REAL *bias, REAL *const *z,
                                       const REAL *const *before, const int32_t *listed, ptrdiff_t n_listed,
                                       const REAL *const *g, REAL rate, const REAL *const *u, const int32_t *fresh,
                                       ptrdiff_t n_fresh) {
    VEC sums[2][FNN_GROUP][2], step[FNN_GROUP][2] = {{{0}}};
    FN(group) rows, rows_before;
    FNN_UNROLL for (int r = 0; r < FNN_GROUP; r++) {
        rows[r] = u[r];
        for (int v = 0; v < vecs; v++) {
            sums[0][r][v] = FN(load)(bias + v * LANES);
            sums[1][r][v] = FN(splat)(0);
        }
    }
    if (before) {
        FNN_UNROLL for (int r = 0; r < FNN_GROUP; r++) {
            rows_before[r] = before[r];
            for (int v = 0; v < vecs; v++) step[r][v] = -rate * FN(load)(g[r] + v * LANES);
        }
        FN(group_rows)(vecs, sums, w, step, rows_before, rows, listed, n_listed);
    }
    FN(group_rows)(vecs, sums, w, step, NULL, rows, fresh, n_fresh);
    FNN_UNROLL for (int r = 0; r < FNN_GROUP; r++)
        for (int v = 0; v < vecs; v++) FN(store)(z[r] + v * LANES, sums[0][r][v] + sums[1][r][v]);
}

/* Eq. 7 for the rows `before`, of deltas g, and the weights of their listed inputs, then eq. 1 for the rows u, whose other
   inputs that are not zero are `fresh`: one panel, its sums to z.  The bias has stepped.  before NULL: there are none, nor
   are there listed inputs. */
static void FN(group_forward)(REAL *w, int vecs, const REAL *bias, REAL *const *z, const REAL *const *before,
                              const int32_t *listed, ptrdiff_t n_listed, const REAL *const *g, double rate,
                              const REAL *const *u, const int32_t *fresh, ptrdiff_t n_fresh) {
    if (vecs == 1)
        FN(group_forward_body)(1, w, bias, z, before, listed, n_listed, g, (REAL)rate, u, fresh, n_fresh);
    else
        FN(group_forward_body)(2, w, bias, z, before, listed, n_listed, g, (REAL)rate, u, fresh, n_fresh);
}

/* What one row's bias and inputs and another's have in common: 1 + x x'. */
static double FN(in_common)(const REAL *x, const REAL *other, ptrdiff_t n) {
    VEC sums[4];
    FNN_UNROLL for (int c = 0; c < 4; c++) sums[c] = FN(splat)(0);
    for (; n >= 4 * LANES; n -= 4 * LANES, x += 4 * LANES, other += 4 * LANES)
        FNN_UNROLL for (int c = 0; c < 4; c++) sums[c] += FN(load)(x + c * LANES) * FN(load)(other + c * LANES);
    for (; n > 0; n -= LANES, x += LANES, other += LANES)
        sums[0] += FN(load_first)(x, n < LANES ? n : LANES) * FN(load_first)(other, n < LANES ? n : LANES);
    return 1 + (double)FN(sum)((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

/* v -= moved g for n numbers, a whole vector of them or more.  Where g is 0 nothing has moved, also if x x' overflowed. */
static void FN(put_right)(REAL *v, const REAL *g, double moved, ptrdiff_t n) {
    for (ptrdiff_t j = 0; j < n; j += LANES) {
        const VEC sum = FN(load)(v + j), delta = FN(load)(g + j);
        FN(store)(v + j, FN(choose)(delta != FN(splat)(0), sum - (REAL)moved * delta, sum));
    }
}
