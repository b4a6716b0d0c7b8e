/* Online training of networks whose every layer fits one vector, part of _simd.h, which includes this file once for
   float and once for double, and again for each width of shorter vectors.

   A. A step is bounded by the latency of one operation after the other, so nothing is listed, called or branched on
      that need not be.
   B. The shortest vector that holds every layer is taken: its operations end sooner.  The rows of W and W^T lie APART
      as in the panels, which are made of whole vectors. */

#undef APART
#ifdef FNN_SHORT
#define APART (FNN_WHOLE / REAL_SIZE)
#else
#define APART LANES
#endif

#undef LANE
#if FNN_BYTES
#define LANE(v, i) (v)[i]
#else
#define LANE(v, i) (v)
#endif

FNN_INLINE VEC FN(narrow_activated)(VEC z, int code, REAL slope) {
    if (code == FNN_RELU) return FN(activated)(z, FNN_RELU, 0); /* the usual one, without the switch */
    return FN(activated)(z, code, slope);
}

/* Eq. 1 and 2 of the first layer: phi(x W + b). */
FNN_INLINE VEC FN(narrow_first)(const REAL *w, const REAL *x, ptrdiff_t inputs, int code, REAL slope) {
    VEC even = FN(load)(w + inputs * APART), odd = FN(splat)(0);
    ptrdiff_t i = 0;
    for (; i + 2 <= inputs; i += 2) {
        even += x[i] * FN(load)(w + i * APART);
        odd += x[i + 1] * FN(load)(w + (i + 1) * APART);
    }
    if (i < inputs) even += x[i] * FN(load)(w + i * APART);
    return FN(narrow_activated)(even + odd, code, slope);
}

/* The same of the others, whose input is still in its register: memory would hand it back some eight cycles later. */
FNN_INLINE VEC FN(narrow_next)(const REAL *w, VEC u, ptrdiff_t inputs, int code, REAL slope) {
    VEC sums[2] = {FN(load)(w + inputs * APART), FN(splat)(0)};
    FNN_UNROLL for (ptrdiff_t i = 0; i < LANES; i++) {
        if (i == inputs) break;
        sums[i & 1] += LANE(u, i) * FN(load)(w + i * APART);
    }
    return FN(narrow_activated)(sums[0] + sums[1], code, slope);
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

/* Eq. 5 to 9 through W^T, and its step: (g W^T) * phi'(z) of the layer below, whose activation is u. */
FNN_INLINE VEC FN(narrow_back)(REAL *wt, const REAL *u, VEC g, ptrdiff_t outputs, REAL rate, const int limited,
                               VEC limit, int code, REAL slope) {
    const VEC step = rate * FN(load)(u);
    VEC sum, odd = FN(splat)(0), old = FN(load)(wt);
    REAL each[LANES];
    sum = LANE(g, 0) * old;
    FN(store)(wt, FN(saturated)(old - step * LANE(g, 0), limited, limit));
    if (outputs > 1) {
        FN(store)(each, g);
        for (ptrdiff_t o = 1; o < outputs; o++) {
            old = FN(load)(wt + o * APART);
            if (o & 1)
                odd += each[o] * old;
            else
                sum += each[o] * old;
            FN(store)(wt + o * APART, FN(saturated)(old - step * each[o], limited, limit));
        }
        sum += odd;
    }
    return FN(times_factor)(sum, FN(load)(u), code, slope);
}

/* Eq. 7 and 9: W = saturate(W - rate u g), the bias with it. */
FNN_INLINE void FN(narrow_step)(REAL *w, const REAL *u, ptrdiff_t inputs, VEC g, REAL rate, const int limited,
                                VEC limit) {
    for (ptrdiff_t i = 0; i < inputs; i++, w += APART)
        FN(store)(w, FN(saturated)(FN(load)(w) - rate * u[i] * g, limited, limit));
    FN(store)(w, FN(saturated)(FN(load)(w) - rate * g, limited, limit));
}

/* One sample forward and backward, and its loss. */
FNN_INLINE double FN(narrow_row)(REAL *arena, const fnn_layer *layers, ptrdiff_t n_layers, const REAL *x,
                                 const REAL *y, double scale, const int limited, VEC limit) {
    const fnn_layer *last = layers + n_layers - 1, *layer = layers;
    const REAL *u = x;
    double loss = 0;
    VEC v = FN(narrow_first)(arena + layer->weights, x, layer->inputs, layer->code, (REAL)layer->slope);
    for (; layer < last; u = arena + layer->v, layer++) {
        FN(store)(arena + layer->v, v);
        v = FN(narrow_next)(arena + layer[1].weights, v, layer[1].inputs, layer[1].code, (REAL)layer[1].slope);
    }
    VEC g = FN(narrow_output)(&loss, v, y, layer->outputs, scale, layer->code, (REAL)layer->slope);
    for (;; layer--) {
        const VEC above = g;
        if (layer > layers)
            g = FN(narrow_back)(arena + layer->transposed, u, above, layer->outputs, (REAL)layer->rate, limited, limit,
                                layer[-1].code, (REAL)layer[-1].slope);
        FN(narrow_step)(arena + layer->weights, u, layer->inputs, above, (REAL)layer->rate, limited, limit);
        if (layer == layers) return loss;
        u = layer - 1 > layers ? arena + layer[-2].v : x;
    }
}

/* `count` samples in order, and the sum of their losses. */
static double FN(narrow_rows)(REAL *arena, const fnn_layer *layers, ptrdiff_t n_layers, const REAL *x, const REAL *y,
                              const ptrdiff_t *order, ptrdiff_t count, double scale, double limit) {
    const ptrdiff_t inputs = layers[0].inputs, outputs = layers[n_layers - 1].outputs;
    const VEC most = FN(splat)((REAL)limit);
    const int limited = limit != INFINITY;
    double total = 0;
    for (ptrdiff_t r = 0; r < count; r++) {
        const REAL *row = x + order[r] * inputs, *target = y + order[r] * outputs;
        if (limited) /* a literal each, for code of its own */
            total += FN(narrow_row)(arena, layers, n_layers, row, target, scale, 1, most);
        else
            total += FN(narrow_row)(arena, layers, n_layers, row, target, scale, 0, most);
    }
    return total;
}
