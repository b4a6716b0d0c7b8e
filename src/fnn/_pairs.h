/* Two rows at a time through the first layer of online training, part of _simd.h, which includes this file once for float
   and once for double (docs/backprop.md, two rows at a time).

   A. Of two rows x and x' the second meets the weights that the first has moved, W - rate x^T g: its sums are those with W
      less rate (x x') g, and one of the bias.  So both go forward through one W, which then takes both of their steps:
      each weight is read and written once for two rows.
   B. Without a limit only, for a weight that stops there is no longer a sum of the two steps.
   C. As many multiplications and additions as loads and stores can feed: 8 in 4 cycles for two vectors, where a row by
      itself takes 4 in as many. */

/* For one row of one panel: W[i, :] += step[0] by[0] + step[1] by_second[0] unless by is NULL, then the two rows' sums
   += u[0] W[i, :] and second[0] W[i, :].  One factor at a time: with sums and steps, more do not fit in 16 registers. */
FNN_INLINE void FN(pair_row)(const int vecs, VEC sums[2][2], REAL *w, const VEC step[2][2], const REAL *by,
                             const REAL *by_second, const REAL *u, const REAL *second) {
    VEC row[2], factor;
    for (int v = 0; v < vecs; v++) row[v] = FN(load)(w + v * LANES);
    if (by) {
        factor = FN(splat)(*by);
        for (int v = 0; v < vecs; v++) row[v] += factor * step[0][v];
        factor = FN(splat)(*by_second);
        for (int v = 0; v < vecs; v++) row[v] += factor * step[1][v];
        for (int v = 0; v < vecs; v++) FN(store)(w + v * LANES, row[v]);
    }
    factor = FN(splat)(*u);
    for (int v = 0; v < vecs; v++) sums[0][v] += factor * row[v];
    factor = FN(splat)(*second);
    for (int v = 0; v < vecs; v++) sums[1][v] += factor * row[v];
}

/* The same for the listed rows, in chains that hide the latency of a sum; before NULL: without a step. */
FNN_INLINE void FN(pair_rows)(const int vecs, VEC sums[4][2][2], REAL *w, const VEC step[2][2], const REAL *before,
                              const REAL *before_second, const REAL *u, const REAL *second, const int32_t *index,
                              ptrdiff_t count) {
    const int chains = 4 / vecs;
#define PAIR_ROW(c, i) \
    FN(pair_row)(vecs, sums[c], w + (ptrdiff_t)(i) * vecs * LANES, step, before ? before + (i) : NULL, \
                 before ? before_second + (i) : NULL, u + (i), second + (i))
    for (; count >= chains; count -= chains, index += chains)
        FNN_UNROLL for (int c = 0; c < chains; c++) PAIR_ROW(c, index[c]);
    FNN_UNROLL for (int c = 0; c < chains - 1; c++)
        if (c < count) PAIR_ROW(c, index[c]);
#undef PAIR_ROW
}

FNN_INLINE void FN(pair_forward_body)(const int vecs, REAL *z, REAL *z_second, REAL *w, const REAL *bias,
                                      const REAL *before, const REAL *before_second, const int32_t *listed,
                                      ptrdiff_t n_listed, const REAL *g, const REAL *g_second, REAL rate, const REAL *u,
                                      const REAL *second, const int32_t *fresh, ptrdiff_t n_fresh) {
    const int chains = 4 / vecs;
    VEC sums[4][2][2], step[2][2] = {{{0}}};
    FNN_UNROLL for (int c = 0; c < chains; c++)
        for (int v = 0; v < vecs; v++) sums[c][0][v] = sums[c][1][v] = c ? FN(splat)(0) : FN(load)(bias + v * LANES);
    if (before) {
        for (int v = 0; v < vecs; v++) {
            step[0][v] = -rate * FN(load)(g + v * LANES);
            step[1][v] = -rate * FN(load)(g_second + v * LANES);
        }
        FN(pair_rows)(vecs, sums, w, step, before, before_second, u, second, listed, n_listed);
    }
    FN(pair_rows)(vecs, sums, w, step, NULL, NULL, u, second, fresh, n_fresh);
    FNN_UNROLL for (int v = 0; v < vecs; v++) {
        VEC both[2];
        for (int row = 0; row < 2; row++)
            both[row] = vecs == 2 ? sums[0][row][v] + sums[1][row][v]
                                  : (sums[0][row][v] + sums[1][row][v]) + (sums[2][row][v] + sums[3][row][v]);
        FN(store)(z + v * LANES, both[0]);
        FN(store)(z_second + v * LANES, both[1]);
    }
}

/* Eq. 7 for the two rows `before` and the weights of their listed inputs, then eq. 1 for the two rows u, whose other
   inputs that are not zero are `fresh`: one panel.  The bias has stepped.  before NULL: there are none, nor are there
   listed inputs. */
static void FN(pair_forward)(REAL *z, REAL *z_second, int vecs, REAL *w, const REAL *bias, const REAL *before,
                             const REAL *before_second, const int32_t *listed, ptrdiff_t n_listed, const REAL *g,
                             const REAL *g_second, double rate, const REAL *u, const REAL *second, const int32_t *fresh,
                             ptrdiff_t n_fresh) {
    if (vecs == 1)
        FN(pair_forward_body)(1, z, z_second, w, bias, before, before_second, listed, n_listed, g, g_second, (REAL)rate,
                              u, second, fresh, n_fresh);
    else
        FN(pair_forward_body)(2, z, z_second, w, bias, before, before_second, listed, n_listed, g, g_second, (REAL)rate,
                              u, second, fresh, n_fresh);
}

/* What one row's bias and inputs and another's have in common: 1 + x x'. */
static double FN(in_common)(const REAL *x, const REAL *second, ptrdiff_t n) {
    VEC sums[4];
    FNN_UNROLL for (int c = 0; c < 4; c++) sums[c] = FN(splat)(0);
    for (; n >= 4 * LANES; n -= 4 * LANES, x += 4 * LANES, second += 4 * LANES)
        FNN_UNROLL for (int c = 0; c < 4; c++) sums[c] += FN(load)(x + c * LANES) * FN(load)(second + c * LANES);
    for (; n > 0; n -= LANES, x += LANES, second += LANES)
        sums[0] += FN(load_first)(x, n < LANES ? n : LANES) * FN(load_first)(second, n < LANES ? n : LANES);
    return 1 + (double)FN(sum)((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

/* Eq. 2 for the second of two rows, from its sums z with the weights of before the first row's step: v = phi(z - moved g)
   for n numbers, a whole vector of them or more. */
static void FN(second_of_pair)(REAL *v, const REAL *z, const REAL *g, double moved, ptrdiff_t n, int code, double slope) {
    for (ptrdiff_t j = 0; j < n; j += LANES) FN(store)(v + j, FN(load)(z + j) - (REAL)moved * FN(load)(g + j));
    if (code != FNN_IDENTITY) FN(activate_values)(v, v, n, code, slope);
}
