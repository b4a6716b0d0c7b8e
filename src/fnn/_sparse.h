/* Mini-batch products that skip zeros, part of _simd.h, which includes this file once for float and once for double.

   A. Half of what a ReLU lets through is zero, and so is half of what comes back through it; inputs have zeros too.
      What is not zero in FNN_TERMS terms of each row is listed once, with the places of its factors, and multiplied
      with every four panels of the other matrix: eight sums of one row are enough to hide the latency of each.
   B. A factor is loaded for every term, where a tile of _tiles.h has it in a register for many rows: FNN_TERMS rows of
      four panels stay in the first-level cache meanwhile, and lists pay where enough is zero.
   C. A gradient behind dense inputs goes by lists of the deltas: it is summed neuron by neuron and turned into rows of
      W.
   D. A sum takes its terms in the order in which a tile would: the same bits, for zeros add nothing. */

#if FNN_BYTES == 32 && defined(__AVX2__)
/* The chosen ones of four numbers, one after the other. */
FNN_INLINE void FN(store_chosen)(REAL *to, const REAL *from, __m128i chosen) {
#if REAL_SIZE == 4
    _mm_storeu_ps(to, _mm_permutevar_ps(_mm_loadu_ps(from), chosen));
#else
    const __m256i low = _mm256_slli_epi64(_mm256_cvtepi32_epi64(chosen), 1); /* of a double's halves, its place of eight */
    const __m256i high = _mm256_slli_epi64(_mm256_add_epi64(low, _mm256_set1_epi64x(1)), 32);
    const __m256 halves = _mm256_castpd_ps(_mm256_loadu_pd(from));
    _mm256_storeu_pd(to, _mm256_castps_pd(_mm256_permutevar8x32_ps(halves, _mm256_or_si256(low, high))));
#endif
}
#endif

/* List what is not zero in the first `terms` numbers of the rows [begin, end), which lie in panels `panel` numbers
 * apart, behind the lists of the rows before them.  A zero makes the number of a row's terms even. */
static void FN(list_rows)(const fnn_lists *lists, ptrdiff_t begin, ptrdiff_t end, const REAL *rows, ptrdiff_t panel,
                          ptrdiff_t terms) {
    REAL *values = lists->values;
    uint32_t *places = lists->places;
    ptrdiff_t count = begin ? lists->ends[begin - 1] : 0;
    for (ptrdiff_t r = begin; r < end; r++, rows += PANEL) {
        const REAL *from = rows;
#if FNN_BYTES == 64
#if REAL_SIZE == 4
        const __m512i step = _mm512_set1_epi32(LANES * PANEL * REAL_SIZE);
        __m512i place = _mm512_mullo_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                                           _mm512_set1_epi32(PANEL * REAL_SIZE));
#else
        const __m256i step = _mm256_set1_epi32(LANES * PANEL * REAL_SIZE);
        __m256i place = _mm256_mullo_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7),
                                           _mm256_set1_epi32(PANEL * REAL_SIZE));
#endif
        for (ptrdiff_t left = terms; left > 0; left -= PANEL, from += panel)
            FNN_UNROLL for (int v = 0; v < 2; v++) {
                const VEC some = FN(load_first)(from + v * LANES, left > v * LANES ? left - v * LANES : 0);
#if REAL_SIZE == 4
                const __mmask16 found = _mm512_cmp_ps_mask((__m512)some, _mm512_setzero_ps(), _CMP_NEQ_UQ);
                _mm512_storeu_ps(values + count, _mm512_maskz_compress_ps(found, (__m512)some));
                _mm512_storeu_si512(places + count, _mm512_maskz_compress_epi32(found, place));
                place = _mm512_add_epi32(place, step);
#else
                const __mmask8 found = _mm512_cmp_pd_mask((__m512d)some, _mm512_setzero_pd(), _CMP_NEQ_UQ);
                _mm512_storeu_pd(values + count, _mm512_maskz_compress_pd(found, (__m512d)some));
                _mm256_storeu_si256((__m256i *)(places + count), _mm256_maskz_compress_epi32(found, place));
                place = _mm256_add_epi32(place, step);
#endif
                count += __builtin_popcount(found);
            }
#elif FNN_BYTES == 32 && defined(__AVX2__)
        const __m128i step = _mm_set1_epi32(4 * PANEL * REAL_SIZE);
        __m128i place = _mm_setzero_si128();
        for (ptrdiff_t left = terms; left > 0; left -= PANEL, from += panel)
            for (ptrdiff_t j = 0; j < (left < PANEL ? left : PANEL); j += 4) {
                const int found = FN(not_zero)(from + j) & (left - j < 4 ? (1 << (left - j)) - 1 : 15);
                const __m128i chosen = fnn_places_of(found);
                FN(store_chosen)(values + count, from + j, chosen);
                _mm_storeu_si128((__m128i *)(places + count), /* a row of a panel is two vectors of 32 bytes */
                                 _mm_add_epi32(place, _mm_slli_epi32(chosen, 6)));
                place = _mm_add_epi32(place, step);
                count += fnn_counts[found];
            }
#else
        uint32_t place = 0;
        for (ptrdiff_t left = terms; left > 0; left -= PANEL, from += panel)
            for (ptrdiff_t j = 0; j < (left < PANEL ? left : PANEL); j++, place += PANEL * REAL_SIZE) {
                values[count] = from[j]; /* the next takes its place if it is zero */
                places[count] = place;
                count += from[j] != 0;
            }
#endif
        values[count] = 0; /* overwritten unless the number is odd: no branch to mispredict */
        places[count] = 0;
        count += count & 1;
        lists->ends[r] = (int32_t)count;
    }
}

/* sums += value times its row of four panels, `step` numbers apart, for the list's terms [k, end). */
FNN_INLINE void FN(add_listed)(VEC sums[2 * FNN_QUAD], const fnn_lists *lists, ptrdiff_t k, ptrdiff_t end,
                               const REAL *panels, ptrdiff_t step) {
    const REAL *values = lists->values;
    for (; k < end; k += 2)
        FNN_UNROLL for (int j = 0; j < 2; j++) {
            const REAL *row = (const REAL *)((const char *)panels + lists->places[k + j]);
            const VEC value = FN(splat)(values[k + j]);
            FNN_UNROLL for (int p = 0; p < FNN_QUAD; p++, row += step) {
                sums[2 * p] += value * FN(load)(row);
                sums[2 * p + 1] += value * FN(load)(row + LANES);
            }
            FNN_KEEP(sums);
        }
}

/* Eq. 1 and 2 for listed rows: c = phi(u W + bias) in four panels, `panel` numbers apart.  w: `terms` rows of as many
 * panels, `step` numbers apart like those of bias.  bias NULL: goes on from the sums in c; finish 0: leaves sums.
 * goes_on: the four panels of W behind these are next. */
static void FN(sparse_forward)(REAL *c, ptrdiff_t panel, const fnn_lists *lists, const REAL *w, ptrdiff_t step,
                               ptrdiff_t terms, const REAL *bias, int finish, int code, double slope, int goes_on) {
    const ptrdiff_t line = 64 / REAL_SIZE, lines = goes_on ? terms * PANEL / line : 0;
    const ptrdiff_t share = (lines + lists->rows - 1) / lists->rows;
    const REAL *next = w + FNN_QUAD * step;
    ptrdiff_t k = 0;
    for (ptrdiff_t r = 0; r < lists->rows; k = lists->ends[r++], c += PANEL) {
        VEC sums[2 * FNN_QUAD];
        for (ptrdiff_t j = r * share; j < (r + 1) * share && j < lines; j++)
            for (int p = 0; p < FNN_QUAD; p++) fetch_line(next + p * step + j * line);
        if (bias)
            FNN_UNROLL for (int p = 0; p < FNN_QUAD; p++) FN(fetch_outputs)(1, c + p * panel);
        FNN_UNROLL for (int v = 0; v < 2 * FNN_QUAD; v++)
            sums[v] = FN(load)(bias ? PLACE(bias, v, step) : PLACE(c, v, panel));
        FN(add_listed)(sums, lists, k, lists->ends[r], w, step);
        if (finish && code == FNN_RELU)
            FNN_UNROLL for (int v = 0; v < 2 * FNN_QUAD; v++) sums[v] = FN(activated)(sums[v], FNN_RELU, 0);
        FNN_UNROLL for (int v = 0; v < 2 * FNN_QUAD; v++) FN(store)(PLACE(c, v, panel), sums[v]);
        if (finish && code > FNN_RELU)
            for (int p = 0; p < FNN_QUAD; p++) FN(activate_values)(c + p * panel, c + p * panel, PANEL, code, slope);
    }
}

/* Eq. 5 and 6 for listed rows: c = (g W^T) * phi'(z) in four panels, `panel` numbers apart like those of `activation`.
 * start: from zero, else from the sums that c holds; finish 0: leaves sums.  wt: rows of as many panels of W^T. */
static void FN(sparse_backward)(REAL *c, ptrdiff_t panel, const fnn_lists *lists, const REAL *wt, ptrdiff_t step,
                                int start, int finish, const REAL *activation, int code, double slope) {
    ptrdiff_t k = 0;
    for (ptrdiff_t r = 0; r < lists->rows; k = lists->ends[r++], c += PANEL, activation += PANEL) {
        VEC sums[2 * FNN_QUAD];
        FNN_UNROLL for (int v = 0; v < 2 * FNN_QUAD; v++) sums[v] = start ? FN(splat)(0) : FN(load)(PLACE(c, v, panel));
        if (start)
            FNN_UNROLL for (int p = 0; p < FNN_QUAD; p++) FN(fetch_outputs)(1, c + p * panel);
        FN(add_listed)(sums, lists, k, lists->ends[r], wt, step);
        if (finish)
            FNN_UNROLL for (int v = 0; v < 2 * FNN_QUAD; v++)
                sums[v] = FN(times_factor)(sums[v], FN(load)(PLACE(activation, v, panel)), code, (REAL)slope);
        FNN_UNROLL for (int v = 0; v < 2 * FNN_QUAD; v++) FN(store)(PLACE(c, v, panel), sums[v]);
    }
}

/* Eq. 8 and 9 for a finished row of a panel of weights. */
FNN_INLINE void FN(settle_row)(REAL *w, REAL *state, VEC first, VEC second, const fnn_rule *rule) {
    VEC gradient[2] = {FN(both_halves)(first, state, rule), FN(both_halves)(second, state + LANES, rule)};
    FN(settle_all)(w, state, gradient, 2, rule);
}

/* Eq. 7 to 9 for the listed inputs [begin, end), whose weights are rows of four panels, `step` numbers apart.  Their
 * gradient over rows of g, in as many panels `panel` numbers apart, is added to `partial`, a row of four panels for
 * each input, unless start; it stays there unless finish. */
static void FN(sparse_gradient)(REAL *w, REAL *state, ptrdiff_t step, const fnn_lists *lists, ptrdiff_t begin,
                                ptrdiff_t end, const REAL *g, ptrdiff_t panel, REAL *partial, int start, int finish,
                                const fnn_rule *rule) {
    const int simple = FN(steps_freely)(rule) && !rule->carried;
    const REAL rate = (REAL)rule->rate;
    ptrdiff_t k = begin ? lists->ends[begin - 1] : 0;
    w += begin * PANEL, state += begin * PANEL, partial += begin * FNN_QUAD * PANEL;
    for (ptrdiff_t i = begin; i < end; k = lists->ends[i++], w += PANEL, state += PANEL, partial += FNN_QUAD * PANEL) {
        VEC sums[2 * FNN_QUAD];
#if FNN_BYTES
        if (finish) /* the next row's weights come into the cache meanwhile */
            FNN_UNROLL for (int v = 0; v < 2 * FNN_QUAD; v++)
                fetch_to_write(PLACE(w + PANEL, v, step));
#endif
        FNN_UNROLL for (int v = 0; v < 2 * FNN_QUAD; v++)
            sums[v] = start ? FN(splat)(0) : FN(load)(partial + v * LANES);
        FN(add_listed)(sums, lists, k, lists->ends[i], g, panel);
        if (!finish)
            FNN_UNROLL for (int v = 0; v < 2 * FNN_QUAD; v++) FN(store)(partial + v * LANES, sums[v]);
        else if (simple)
            FNN_UNROLL for (int v = 0; v < 2 * FNN_QUAD; v++) {
                REAL *at = PLACE(w, v, step);
                FN(store)(at, FN(load)(at) - rate * sums[v]);
            }
        else
            FNN_UNROLL for (int p = 0; p < FNN_QUAD; p++)
                FN(settle_row)(w + p * step, state + p * step, sums[2 * p], sums[2 * p + 1], rule);
    }
}

/* Eq. 8 and 9 for the weights from four panels of inputs to `count` neurons of one panel, `vecs` vectors wide.
 * partial: the gradient of each neuron's weights, rows of four panels, which turn into rows of W here. */
static void FN(settle_turned)(REAL *w, REAL *state, int vecs, const REAL *partial, ptrdiff_t count,
                              const fnn_rule *rule) {
    const int simple = FN(steps_freely)(rule) && !rule->carried;
    const ptrdiff_t step = FNN_QUAD * PANEL, n = vecs * LANES * LANES;
    const REAL rate = (REAL)rule->rate;
    REAL turned[LANES * PANEL];
    for (ptrdiff_t i = 0; i < step; i += LANES, w += n, state += n) {
        for (int v = 0; v < vecs; v++) {
            const ptrdiff_t left = count - v * LANES;
            FN(transpose_block)(turned + v * LANES, vecs * LANES, partial + v * LANES * step + i, step,
                                left < LANES ? (int)left : LANES);
        }
        if (simple)
            for (ptrdiff_t j = 0; j < n; j += LANES) FN(store)(w + j, FN(load)(w + j) - rate * FN(load)(turned + j));
        else
            FN(update_values)(w, state, turned, n, rule);
    }
}
