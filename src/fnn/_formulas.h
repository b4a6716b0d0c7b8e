/* The activations and the losses of _formulas.py (eq. 2 to 4), part of _simd.h, which includes this file once for float
   and once for double.

   A. Activations and their derivatives are functions of vectors, inlined where a tile is finished, and of rows.
   B. A row of outputs is taken vector by vector; rows that fill none go together, one a lane, and no row's sums depend
      on the others.
   C. z, v and g have room for whole vectors, y ends where the data may end.  The loss is summed in double: a chain in
      every lane of a vector of doubles, then across. */

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

#ifndef FNN_SHORT
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
   dloss/dz, and the loss, each output's up to its ceiling. */
static double FN(matched_row)(REAL *g, const REAL *z, const REAL *v, const REAL *y, ptrdiff_t n, double scale,
                              double ceiling, int poisson) {
    WIDE loss = splat_f64(0), z_wide[LANES / WIDE_LANES], y_wide[LANES / WIDE_LANES];
    for (; n > 0; n -= LANES, g += LANES, z += LANES, v += LANES, y += LANES) {
        const INTS here = FN(first_lanes)(n);
        VEC target = FN(load_first)(y, n), none = FN(splat)(-1000); /* exp(-1000) is 0 and so is the loss */
        FN(store)(g, FN(choose)(here, (REAL)scale * (FN(load)(v) - target), FN(splat)(0)));
        FN(widen)(y_wide, target, n);
        for (int h = FN(widen)(z_wide, FN(choose)(here, FN(load)(z), none), n) - 1; h >= 0; h--)
            loss += smaller_f64(splat_f64(ceiling), matched_loss(z_wide[h], y_wide[h], poisson));
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

/* Of a row in each lane: e_j = exp(z_j - peak), the peak, and what the e_j add up to; n numbers, a vector apart. */
FNN_INLINE VEC FN(exponentials)(REAL *e, const REAL *z, ptrdiff_t n, VEC *peak) {
    VEC total = FN(splat)(0);
    *peak = FN(load)(z);
    for (ptrdiff_t j = 1; j < n; j++) *peak = FN(larger)(*peak, FN(load)(z + j * LANES));
    for (ptrdiff_t j = 0; j < n; j++) {
        VEC each = FN(exp)(FN(load)(z + j * LANES) - *peak);
        FN(store)(e + j * LANES, each);
        total += each;
    }
    return total;
}

/* Rows that go together have so many outputs at most.  Output j of row r in panels, or in rows of their own, which are
   `stride` numbers apart. */
#undef MOST_TOGETHER
#undef OUTPUT
#define MOST_TOGETHER (PANEL > FNN_TOGETHER ? PANEL : FNN_TOGETHER)
#define OUTPUT(z, r, j, stride, panel) ((z)[(r) * (stride) + (j) / PANEL * (panel) + (j) % PANEL])

/* Eq. 2 for up to a vector of rows of at most MOST_TOGETHER outputs, one row a lane: out (rows, n), z with rows `stride`
   numbers apart and panels of them `panel`.  A row's sums do not depend on what other rows are with it. */
static void FN(activate_rows)(REAL *out, const REAL *z, ptrdiff_t stride, ptrdiff_t panel, ptrdiff_t rows, ptrdiff_t n,
                              int code, double slope) {
    REAL lanes[MOST_TOGETHER * LANES];
    memset(lanes, 0, (size_t)n * LANES * sizeof(REAL));
    for (ptrdiff_t r = 0; r < rows; r++)
        for (ptrdiff_t j = 0; j < n; j++) lanes[j * LANES + r] = OUTPUT(z, r, j, stride, panel);
    if (code == FNN_SOFTMAX) {
        VEC peak, total = FN(exponentials)(lanes, lanes, n, &peak);
        for (ptrdiff_t j = 0; j < n; j++) FN(store)(lanes + j * LANES, FN(load)(lanes + j * LANES) / total);
    } else {
        for (ptrdiff_t j = 0; j < n; j++)
            FN(store)(lanes + j * LANES, FN(activated)(FN(load)(lanes + j * LANES), code, (REAL)slope));
    }
    for (ptrdiff_t r = 0; r < rows; r++)
        for (ptrdiff_t j = 0; j < n; j++) out[r * n + j] = lanes[j * LANES + r];
}

/* Eq. 4 for up to a vector of rows of at most MOST_TOGETHER outputs, one row a lane: g = scale * dloss/dz, and the
   losses.  z and g have rows `stride` numbers apart and panels of them `panel`; y (N, n) or labels (N,), and the rows'
   weights unless NULL, are those of `order`.  A row's sums do not depend on what other rows are with it. */
static void FN(output_rows)(REAL *g, double *losses, const REAL *z, ptrdiff_t stride, ptrdiff_t panel, const REAL *y,
                            const ptrdiff_t *labels, const ptrdiff_t *order, const REAL *weights, ptrdiff_t rows,
                            ptrdiff_t n, int loss, int code, double slope, double scale, double ceiling) {
    enum { WIDES = LANES / WIDE_LANES };
    REAL z_lanes[MOST_TOGETHER * LANES], y_lanes[MOST_TOGETHER * LANES], v_lanes[MOST_TOGETHER * LANES];
    REAL scales[LANES] = {0};
    double sums[LANES];
    WIDE z_wide[WIDES], y_wide[WIDES], sum[WIDES], targets[WIDES], total_wide[WIDES];
    VEC peak = FN(splat)(0), total = FN(splat)(0), target = FN(splat)(0), each;
    memset(z_lanes, 0, (size_t)n * LANES * sizeof(REAL));
    memset(y_lanes, 0, (size_t)n * LANES * sizeof(REAL));
    for (ptrdiff_t r = 0; r < rows; r++) {
        for (ptrdiff_t j = 0; j < n; j++) z_lanes[j * LANES + r] = OUTPUT(z, r, j, stride, panel);
        if (labels) y_lanes[labels[order[r]] * LANES + r] = 1;
        else for (ptrdiff_t j = 0; j < n; j++) y_lanes[j * LANES + r] = y[order[r] * n + j];
        scales[r] = (REAL)(scale * (weights ? (double)weights[order[r]] : 1));
    }
    each = FN(load)(scales);
    for (int h = 0; h < WIDES; h++) sum[h] = targets[h] = splat_f64(0);
    if (loss == FNN_CROSS_ENTROPY) {
        total = FN(exponentials)(v_lanes, z_lanes, n, &peak);
        for (ptrdiff_t j = 0; j < n; j++) target += FN(load)(y_lanes + j * LANES);
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
        for (ptrdiff_t j = 0; j < n; j++) OUTPUT(g, r, j, stride, panel) = v_lanes[j * LANES + r];
    }
}
#endif
