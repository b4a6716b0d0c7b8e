/* The three products of mini-batch training in tiles, part of _simd.h, which includes this file once for float and once
   for double.

   A. A tile is `rows` by `vecs` vectors, one sum a register, from the first term to the last: 1 .. FNN_ROWS rows by 2
      vectors of one panel, or FNN_TALLEST by 1, and half as many by 4 vectors of two panels where registers suffice
      (FNN_VECS).
      Of two panels 10 numbers are loaded for 24 multiply-adds, of one 14, which shows while others use the core's
      caches too.
   B. A finished tile of an activation or a delta leaves through phi or its derivative, one of the gradient through the
      saturated update: no product is read again for it.
   C. What else passes over parameters as a whole is here too: their update from a gradient in memory, their limit, the
      transposition of W. */

/* Vector v of a row of one panel or of several, `step` numbers apart; numbers in a row of a panel of weights. */
#undef PLACE
#undef WIDTH
#define PLACE(row, v, step) ((row) + ((v) & 1) * LANES + ((v) >> 1) * (step))
#define WIDTH(vecs) ((vecs) > 1 ? PANEL : LANES)

/* sums[r] += a[r] b for one term.  a: numbers `step` apart; b: a row of `vecs` vectors, its panels `b_panel` apart. */
FNN_INLINE void FN(add_products)(const int rows, const int vecs, VEC sums[FNN_TALLEST][FNN_VECS], const REAL *a,
                                 ptrdiff_t step, const REAL *b, ptrdiff_t b_panel) {
    VEC factors[FNN_VECS];
    FNN_UNROLL for (int v = 0; v < vecs; v++) factors[v] = FN(load)(PLACE(b, v, b_panel));
    FNN_UNROLL for (int r = 0; r < rows; r++) {
        const VEC shared = FN(splat)(a[r * step]);
        FNN_UNROLL for (int v = 0; v < vecs; v++) sums[r][v] += shared * factors[v];
    }
}

/* sums[r] += sum_k a[r, k] b[k, :].  a, b: panels `a_panel` and `b_panel` numbers apart. */
FNN_INLINE void FN(multiply)(const int rows, const int vecs, VEC sums[FNN_TALLEST][FNN_VECS], const REAL *a,
                             ptrdiff_t a_panel, ptrdiff_t inner, const REAL *b, ptrdiff_t b_panel) {
    for (; inner > 0; inner -= PANEL, a += a_panel) {
        ptrdiff_t most = inner < PANEL ? inner : PANEL;
        FNN_COUNTLESS(most);
        FNN_FOURS for (ptrdiff_t k = 0; k < most; k++, b += WIDTH(vecs))
            FN(add_products)(rows, vecs, sums, a + k, PANEL, b, b_panel);
    }
}

/* The same with the rows of a where they lie: sums[r] += sum_k x[r][first + k] b[k, :]. */
FNN_INLINE void FN(multiply_rows)(const int rows, const int vecs, VEC sums[FNN_TALLEST][FNN_VECS], const REAL *const *x,
                                  ptrdiff_t first, ptrdiff_t inner, const REAL *b, ptrdiff_t b_panel) {
    const REAL *row[FNN_TALLEST];
    FNN_UNROLL for (int r = 0; r < rows; r++) row[r] = x[r] + first;
    FNN_FOURS for (ptrdiff_t k = 0; k < inner; k++, b += WIDTH(vecs)) {
        VEC factors[FNN_VECS];
        FNN_UNROLL for (int v = 0; v < vecs; v++) factors[v] = FN(load)(PLACE(b, v, b_panel));
        FNN_UNROLL for (int r = 0; r < rows; r++) {
            const VEC number = FN(splat)(row[r][k]);
            FNN_UNROLL for (int v = 0; v < vecs; v++) sums[r][v] += number * factors[v];
        }
    }
}

/* Calls body(rows, vecs, ...) with literal rows and vecs, so that every tile shape has its sums in registers. */
#undef EACH_SHAPE
#undef ROWS_CASE
#undef MORE_ROWS
#undef PAIR_CASE
#undef PAIRS
#define ROWS_CASE(n, body, ...)                \
    case 8 * n + 1: body(n, 1, __VA_ARGS__); break; \
    case 8 * n + 2: body(n, 2, __VA_ARGS__); break;
#define PAIR_CASE(n, body, ...) case 8 * n + 4: body(n, 4, __VA_ARGS__); break;
#if FNN_ROWS == 12
#define MORE_ROWS(body, ...)                                                                                    \
    ROWS_CASE(5, body, __VA_ARGS__) ROWS_CASE(6, body, __VA_ARGS__) ROWS_CASE(7, body, __VA_ARGS__)             \
    ROWS_CASE(8, body, __VA_ARGS__) ROWS_CASE(9, body, __VA_ARGS__) ROWS_CASE(10, body, __VA_ARGS__)            \
    ROWS_CASE(11, body, __VA_ARGS__) ROWS_CASE(12, body, __VA_ARGS__)
#elif FNN_ROWS == 6
#define MORE_ROWS(body, ...)                                              \
    ROWS_CASE(5, body, __VA_ARGS__) ROWS_CASE(6, body, __VA_ARGS__)       \
    case 8 * 7 + 1: body(7, 1, __VA_ARGS__); break;                       \
    case 8 * 8 + 1: body(8, 1, __VA_ARGS__); break;
#else
#define MORE_ROWS(body, ...)
#endif
#if FNN_VECS == 4
#define PAIRS(body, ...)                                                                                        \
    PAIR_CASE(1, body, __VA_ARGS__) PAIR_CASE(2, body, __VA_ARGS__) PAIR_CASE(3, body, __VA_ARGS__)             \
    PAIR_CASE(4, body, __VA_ARGS__) PAIR_CASE(5, body, __VA_ARGS__) PAIR_CASE(6, body, __VA_ARGS__)
#else
#define PAIRS(body, ...)
#endif
#define EACH_SHAPE(rows, vecs, body, ...)                                                                       \
    switch (8 * (rows) + (vecs)) {                                                                              \
        ROWS_CASE(1, body, __VA_ARGS__) ROWS_CASE(2, body, __VA_ARGS__) ROWS_CASE(3, body, __VA_ARGS__)         \
        ROWS_CASE(4, body, __VA_ARGS__) MORE_ROWS(body, __VA_ARGS__) PAIRS(body, __VA_ARGS__)                   \
    }

/* Ask for the lines that a tile will be written to, one a row: with AVX2, where it was measured. */
FNN_INLINE void FN(fetch_outputs)(const int rows, const REAL *c) {
#if FNN_BYTES == 32
    FNN_UNROLL for (int r = 0; r < rows; r++) fetch_to_write(c + r * PANEL);
#else
    (void)rows, (void)c;
#endif
}

/* Eq. 1 and 2: c = phi(a W + bias).  a: panels `step` numbers apart, or where x is given its rows from number `step`
 * on. bias NULL: goes on from the sums that c holds.  finish 0: leaves sums in c.  Two panels of c lie `c_panel`
 * numbers apart, those of W and of their biases `w_panel`. */
FNN_INLINE void FN(forward_body)(const int rows, const int vecs, REAL *c, ptrdiff_t c_panel, const REAL *a,
                                 const REAL *const *x, ptrdiff_t step, ptrdiff_t inner, const REAL *w,
                                 ptrdiff_t w_panel, const REAL *bias, int finish, int code, REAL slope) {
    VEC sums[FNN_TALLEST][FNN_VECS];
    FNN_UNROLL for (int r = 0; r < rows; r++)
        FNN_UNROLL for (int v = 0; v < vecs; v++)
            sums[r][v] = FN(load)(bias ? PLACE(bias, v, w_panel) : PLACE(c + r * PANEL, v, c_panel));
    if (bias) FN(fetch_outputs)(rows, c);
    if (x)
        FN(multiply_rows)(rows, vecs, sums, x, step, inner, w, w_panel);
    else
        FN(multiply)(rows, vecs, sums, a, step, inner, w, w_panel);
    if (finish && code == FNN_RELU)
        FNN_UNROLL for (int r = 0; r < rows; r++)
            FNN_UNROLL for (int v = 0; v < vecs; v++) sums[r][v] = FN(activated)(sums[r][v], FNN_RELU, 0);
    FNN_UNROLL for (int r = 0; r < rows; r++)
        FNN_UNROLL for (int v = 0; v < vecs; v++) FN(store)(PLACE(c + r * PANEL, v, c_panel), sums[r][v]);
    if (finish && code > FNN_RELU)
        for (int v = 0; v < vecs; v += 2)
            for (int r = 0; r < rows; r++) {
                REAL *row = PLACE(c + r * PANEL, v, c_panel);
                FN(activate_values)(row, row, WIDTH(vecs), code, slope);
            }
}
static void FN(forward_tile)(REAL *c, ptrdiff_t c_panel, int rows, int vecs, const REAL *a, ptrdiff_t a_panel,
                             ptrdiff_t inner, const REAL *w, ptrdiff_t w_panel, const REAL *bias, int finish, int code,
                             double slope) {
    EACH_SHAPE(rows, vecs, FN(forward_body), c, c_panel, a, NULL, a_panel, inner, w, w_panel, bias, finish, code,
               (REAL)slope)
}
static void FN(forward_tile_of_rows)(REAL *c, ptrdiff_t c_panel, int rows, int vecs, const void *x, ptrdiff_t first,
                                     ptrdiff_t inner, const REAL *w, ptrdiff_t w_panel, const REAL *bias, int finish,
                                     int code, double slope) {
    EACH_SHAPE(rows, vecs, FN(forward_body), c, c_panel, NULL, x, first, inner, w, w_panel, bias, finish, code,
               (REAL)slope)
}

/* Eq. 5 and 6: c = (g W^T) * phi'(z).  first: starts from zero, else from c; finish: multiplies by the factor of v,
 * whose panels are as far apart as those of c. */
FNN_INLINE void FN(backward_body)(const int rows, const int vecs, REAL *c, ptrdiff_t c_panel, const REAL *g,
                                  ptrdiff_t g_panel, ptrdiff_t inner, const REAL *wt, ptrdiff_t wt_panel, int first,
                                  int finish, const REAL *activation, int code, REAL slope) {
    VEC sums[FNN_TALLEST][FNN_VECS];
    FNN_UNROLL for (int r = 0; r < rows; r++)
        FNN_UNROLL for (int v = 0; v < vecs; v++)
            sums[r][v] = first ? FN(splat)(0) : FN(load)(PLACE(c + r * PANEL, v, c_panel));
    if (first) FN(fetch_outputs)(rows, c);
    FN(multiply)(rows, vecs, sums, g, g_panel, inner, wt, wt_panel);
    if (finish)
        FNN_UNROLL for (int r = 0; r < rows; r++)
            FNN_UNROLL for (int v = 0; v < vecs; v++)
                sums[r][v] = FN(times_factor)(sums[r][v], FN(load)(PLACE(activation + r * PANEL, v, c_panel)), code, slope);
    FNN_UNROLL for (int r = 0; r < rows; r++)
        FNN_UNROLL for (int v = 0; v < vecs; v++) FN(store)(PLACE(c + r * PANEL, v, c_panel), sums[r][v]);
}
static void FN(backward_tile)(REAL *c, ptrdiff_t c_panel, int rows, int vecs, const REAL *g, ptrdiff_t g_panel,
                              ptrdiff_t inner, const REAL *wt, ptrdiff_t wt_panel, int first, int finish,
                              const REAL *activation, int code, double slope) {
    EACH_SHAPE(rows, vecs, FN(backward_body), c, c_panel, g, g_panel, inner, wt, wt_panel, first, finish, activation,
               code, (REAL)slope)
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

/* Eq. 9 for one vector: a weight stops at the floor first; one that stands on it is thrown to the other side of 0. */
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

/* Whether a weight's step is all that an update is. */
FNN_INLINE int FN(steps_freely)(const fnn_rule *rule) {
    return rule->kind == FNN_PLAIN && rule->saturation == INFINITY && rule->decay == 0 && rule->floor == 0;
}

/* The same for n vectors. */
static void FN(settle_all)(REAL *w, REAL *state, const VEC *gradient, int n, const fnn_rule *rule) {
    const fnn_rule own = *rule; /* which no store can change, so its numbers stay in registers */
    for (int j = 0; j < n; j++) FN(settle)(w + j * LANES, state + j * LANES, gradient[j], &own);
}

/* Eq. 7 to 9: rows of one panel of weights, or of two, from sum_b a[b, r] g[b, :].  w, state: panels `w_panel` numbers
 * apart; a, g: rows of panels, those of g `g_panel` apart; where x is given a[b] are its rows from number `first`
 * on. */
FNN_INLINE void FN(gradient_body)(const int rows, const int vecs, REAL *w, REAL *state, ptrdiff_t w_panel,
                                  const REAL *a, const REAL *const *x, ptrdiff_t first, const REAL *g, ptrdiff_t g_panel,
                                  ptrdiff_t batch, const fnn_rule *rule) {
    const int width = WIDTH(vecs), across = vecs > 1 ? 2 : 1; /* numbers and vectors in a row of a panel of weights */
    VEC sums[FNN_TALLEST][FNN_VECS];
    FNN_UNROLL for (int r = 0; r < rows; r++)
        FNN_UNROLL for (int v = 0; v < vecs; v++) sums[r][v] = FN(splat)(0);
#if FNN_BYTES /* what is written comes into the cache meanwhile: with AVX2 this tile's, for the next may be another core's */
    const REAL *to = (rule->kind == FNN_STORE || rule->kind == FNN_ADD ? state : w) + (FNN_BYTES == 32 ? 0 : rows * width);
    FNN_UNROLL for (int r = 0; r < rows; r++)
        FNN_UNROLL for (int v = 0; v < vecs; v += FNN_BYTES < 64 ? 2 : 1)
            fetch_to_write(PLACE(to + r * width, v, w_panel));
#endif
    if (x)
        FNN_FOURS for (ptrdiff_t b = 0; b < batch; b++, g += PANEL)
            FN(add_products)(rows, vecs, sums, x[b] + first, 1, g, g_panel);
    else
        FNN_FOURS for (ptrdiff_t b = 0; b < batch; b++, a += PANEL, g += PANEL)
            FN(add_products)(rows, vecs, sums, a, 1, g, g_panel);
    if (rule->carried)
        FNN_UNROLL for (int r = 0; r < rows; r++)
            FNN_UNROLL for (int v = 0; v < vecs; v++)
                sums[r][v] = FN(both_halves)(sums[r][v], PLACE(state + r * width, v, w_panel), rule);
    /* What a small batch would wait for. */
    if (FN(steps_freely)(rule)) {
        const REAL rate = (REAL)rule->rate;
        FNN_UNROLL for (int r = 0; r < rows; r++)
            FNN_UNROLL for (int v = 0; v < vecs; v++) {
                REAL *at = PLACE(w + r * width, v, w_panel);
                FN(store)(at, FN(load)(at) - rate * sums[r][v]);
            }
        return;
    }
    for (int p = 0; p < vecs; p += 2) {
        VEC gradient[2 * FNN_ROWS];
        FNN_UNROLL for (int r = 0; r < rows; r++)
            FNN_UNROLL for (int v = 0; v < across; v++) gradient[r * across + v] = sums[r][p + v];
        FN(settle_all)(PLACE(w, p, w_panel), PLACE(state, p, w_panel), gradient, rows * across, rule);
    }
}
static void FN(gradient_tile)(REAL *w, REAL *state, ptrdiff_t w_panel, int rows, int vecs, const REAL *a, const REAL *g,
                              ptrdiff_t g_panel, ptrdiff_t batch, const fnn_rule *rule) {
    EACH_SHAPE(rows, vecs, FN(gradient_body), w, state, w_panel, a, NULL, 0, g, g_panel, batch, rule)
}
static void FN(gradient_tile_of_rows)(REAL *w, REAL *state, ptrdiff_t w_panel, int rows, int vecs, const void *x,
                                      ptrdiff_t first, const REAL *g, ptrdiff_t g_panel, ptrdiff_t batch,
                                      const fnn_rule *rule) {
    EACH_SHAPE(rows, vecs, FN(gradient_body), w, state, w_panel, NULL, x, first, g, g_panel, batch, rule)
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

/* Eq. 7a: the sum of the squares of the first `columns` numbers in rows of a weight panel, in double.  Those of padding
 * do not count: a floor throws them out of zero like any other. */
static double FN(sum_of_squares)(const REAL *w, ptrdiff_t rows, ptrdiff_t columns) {
    const int vecs = columns > LANES ? 2 : 1;
    const INTS counted[2] = {FN(first_lanes)(columns), FN(first_lanes)(columns - LANES)};
    WIDE total = splat_f64(0), wide[LANES / WIDE_LANES];
    for (ptrdiff_t r = 0; r < rows; r++)
        for (int v = 0; v < vecs; v++, w += LANES) {
            const VEC some = FN(choose)(counted[v], FN(load)(w), FN(splat)(0));
            for (int h = FN(widen)(wide, some, LANES) - 1; h >= 0; h--) total += wide[h] * wide[h];
        }
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

/* Ask for n numbers that are to be written next. */
static void FN(fetch_to_update)(const REAL *next, ptrdiff_t n) {
    for (ptrdiff_t j = 0; j < n; j += 64 / REAL_SIZE) fetch_to_write(next + j);
}

/* Ask for the `part`th of `parts` of the n numbers that are needed next, so that they are in cache by then. */
static void FN(fetch_ahead)(const REAL *next, ptrdiff_t n, ptrdiff_t part, ptrdiff_t parts) {
    const ptrdiff_t line = 64 / REAL_SIZE, end = n * (part + 1) / parts;
    for (ptrdiff_t j = n * part / parts; j < end; j += line) fetch_line(next + j);
}

/* Copy rows of `columns` numbers, a panel's at most, from a matrix with rows `stride` numbers apart into a panel of
 * weights, whose padding becomes zero. */
static void FN(pack_rows)(REAL *panel, const REAL *from, ptrdiff_t stride, ptrdiff_t rows, ptrdiff_t columns) {
    if (columns == PANEL)
        for (ptrdiff_t r = 0; r < rows; r++, panel += PANEL, from += stride) {
            FN(store)(panel, FN(load)(from));
            FN(store)(panel + LANES, FN(load)(from + LANES));
        }
    else
        for (ptrdiff_t r = 0; r < rows; r++, from += stride)
            for (ptrdiff_t left = columns; left > 0; left -= LANES, panel += LANES)
                FN(store)(panel, FN(load_first)(from + columns - left, left));
}

/* Copy them back. */
static void FN(unpack_rows)(REAL *to, ptrdiff_t stride, const REAL *panel, ptrdiff_t rows, ptrdiff_t columns) {
    const ptrdiff_t width = columns > LANES ? PANEL : LANES;
    if (columns == PANEL)
        for (ptrdiff_t r = 0; r < rows; r++, panel += PANEL, to += stride) {
            FN(store)(to, FN(load)(panel));
            FN(store)(to + LANES, FN(load)(panel + LANES));
        }
    else
        for (ptrdiff_t r = 0; r < rows; r++, panel += width, to += stride)
            memcpy(to, panel, (size_t)columns * sizeof(REAL));
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
#if LANES >= 4 && REAL_SIZE == 4
    FNN_UNROLL for (int i = 0; i < LANES; i += 4) { /* and four by four */
        const VEC a = SHUFFLE(t[i], t[i + 2], INDICES(BETWEEN, 0)), c = SHUFFLE(t[i], t[i + 2], INDICES(BETWEEN, 2));
        const VEC b = SHUFFLE(t[i + 1], t[i + 3], INDICES(BETWEEN, 0));
        const VEC d = SHUFFLE(t[i + 1], t[i + 3], INDICES(BETWEEN, 2));
        t[i] = SHUFFLE(a, b, INDICES(BETWEEN, 0));
        t[i + 1] = SHUFFLE(a, b, INDICES(BETWEEN, 2));
        t[i + 2] = SHUFFLE(c, d, INDICES(BETWEEN, 0));
        t[i + 3] = SHUFFLE(c, d, INDICES(BETWEEN, 2));
    }
#else
#if LANES >= 4
    SWAP_BLOCKS(2)
#endif
#if LANES >= 2
    SWAP_BLOCKS(1)
#endif
#endif
    FNN_UNROLL for (int i = 0; i < LANES; i++) FN(store)(to + i * to_stride, t[i]);
}

/* Eq. 7 for the neurons of a thin panel, by `vecs` vectors of inputs: turned[o, :] = sum_b g[b, o] u[b, :].
 * u: panels `u_panel` numbers apart; turned: rows of FNN_QUAD panels. */
FNN_INLINE void FN(thin_sums)(const int outputs, const int vecs, REAL *turned, const REAL *u, ptrdiff_t u_panel,
                              const REAL *g, ptrdiff_t batch) {
    VEC sums[FNN_THIN][2 * FNN_QUAD], deltas[FNN_THIN];
    FNN_UNROLL for (int o = 0; o < outputs; o++)
        FNN_UNROLL for (int v = 0; v < vecs; v++) sums[o][v] = FN(splat)(0);
    for (ptrdiff_t b = 0; b < batch; b++, u += PANEL, g += PANEL) {
        FNN_UNROLL for (int o = 0; o < outputs; o++) deltas[o] = FN(splat)(g[o]);
        FNN_UNROLL for (int v = 0; v < vecs; v++) {
            const VEC input = FN(load)(PLACE(u, v, u_panel));
            FNN_UNROLL for (int o = 0; o < outputs; o++) sums[o][v] += deltas[o] * input;
        }
    }
    FNN_UNROLL for (int o = 0; o < outputs; o++)
        FNN_UNROLL for (int v = 0; v < vecs; v++) FN(store)(turned + (o * 2 * FNN_QUAD + v) * LANES, sums[o][v]);
}

/* Eq. 7 to 9 for the weights of a thin panel: in a tile most lanes would be padding, in rows of the gradient's
 * transpose none is.  w, state: of `inputs` inputs; u, g: rows of panels, those of u `u_panel` numbers apart. */
static void FN(thin_gradient)(REAL *w, REAL *state, int outputs, ptrdiff_t inputs, const REAL *u, ptrdiff_t u_panel,
                              const REAL *g, ptrdiff_t batch, const fnn_rule *rule) {
    const int stores = rule->kind == FNN_STORE || rule->kind == FNN_ADD;
    int panels = outputs == 1 ? 4 : outputs < 4 ? 2 : 1; /* at once: as many sums as registers hold */
    REAL turned[FNN_THIN * FNN_QUAD * PANEL], rows[LANES * LANES];
    for (; inputs > 0; u += panels * u_panel) {
        while (inputs <= (panels - 1) * PANEL) panels /= 2;
        FN(fetch_to_update)(stores ? state : w, (inputs < panels * PANEL ? inputs : panels * PANEL) * LANES);
#define THIN_CASE(n, panels) \
    case 8 * n + panels: FN(thin_sums)(n, 2 * panels, turned, u, u_panel, g, batch); break;
        switch (8 * outputs + panels) {
            THIN_CASE(1, 4) THIN_CASE(1, 2) THIN_CASE(1, 1) THIN_CASE(2, 2) THIN_CASE(2, 1)
            THIN_CASE(3, 2) THIN_CASE(3, 1) THIN_CASE(4, 1)
        }
#undef THIN_CASE
        for (int v = 0; v < 2 * panels && inputs > 0; v++, inputs -= LANES, w += LANES * LANES, state += LANES * LANES) {
            FN(transpose_block)(rows, LANES, turned + v * LANES, FNN_QUAD * PANEL, outputs);
            FN(update_values)(w, state, rows, (inputs < LANES ? inputs : LANES) * LANES, rule);
        }
    }
}
