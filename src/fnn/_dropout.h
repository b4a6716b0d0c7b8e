/* Dropout (eq. 2b, 2c and 6b), part of _simd.h, which includes this file once for float and once for double.

   A. What is dropped is a function of where it is: the numbers of _dropout.py, a vector of 32 bits each at a time.
   B. A minus zero stands where something was dropped, and nowhere else, so that the way back draws nothing again. */

#if REAL_SIZE == 8
#if FNN_BYTES
typedef uint32_t fnn_numbers __attribute__((vector_size(FNN_BYTES)));
typedef int32_t fnn_answers __attribute__((vector_size(FNN_BYTES)));
typedef int32_t fnn_half_answers __attribute__((vector_size(FNN_BYTES / 2)));
#else
typedef uint32_t fnn_numbers;
typedef int32_t fnn_answers;
#endif
enum { FNN_NUMBERS = sizeof(fnn_numbers) / sizeof(uint32_t) };
static const uint32_t fnn_counters[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

/* MurmurHash3's fmix32 and fmix64. */
FNN_INLINE fnn_numbers mix_32(fnn_numbers h) {
    h = (h ^ h >> 16) * 0x85EBCA6Bu;
    h = (h ^ h >> 13) * 0xC2B2AE35u;
    return h ^ h >> 16;
}
FNN_INLINE uint64_t mix_64(uint64_t h) {
    h = (h ^ h >> 33) * UINT64_C(0xFF51AFD7ED558CCD);
    h = (h ^ h >> 33) * UINT64_C(0xC4CEB9FE1A85EC53);
    return h ^ h >> 33;
}

/* Eq. 2c: the key of a row of the batch, from the draw's number and the activation. */
FNN_INLINE uint64_t row_key(uint64_t number, uint64_t layer, uint64_t row) {
    return mix_64(mix_64(number) ^ (layer << 32 | row));
}
#endif

/* Answers of 32 bits as masks of the lanes, of doubles in two vectors. */
FNN_INLINE void FN(masks_of)(INTS masks[FNN_NUMBERS / LANES], fnn_answers answers) {
#if FNN_BYTES && REAL_SIZE == 8
    fnn_half_answers halves[2];
    memcpy(halves, &answers, sizeof halves);
    for (int h = 0; h < 2; h++) masks[h] = __builtin_convertvector(halves[h], INTS);
#else
    masks[0] = answers;
#endif
}

/* Eq. 2b for n neurons of a row, from number `first` on: those whose random number is less than `below` are dropped,
   the others divided by the share that is kept.  n is a multiple of the panel. */
FNN_INLINE void FN(drop_values)(REAL *v, ptrdiff_t n, uint32_t first, uint64_t key, uint32_t below, double kept) {
    const fnn_numbers limit = (fnn_numbers){0} + below;
    const REAL scale = (REAL)(1 / kept);
    fnn_numbers counters;
    memcpy(&counters, fnn_counters, sizeof counters);
    counters += (uint32_t)key + first;
    for (ptrdiff_t j = 0; j < n; j += FNN_NUMBERS, counters += (uint32_t)FNN_NUMBERS) {
        INTS drops[FNN_NUMBERS / LANES];
        FN(masks_of)(drops, mix_32(mix_32(counters) ^ (uint32_t)(key >> 32)) < limit);
        for (int h = 0; h < FNN_NUMBERS / LANES; h++) {
            REAL *at = v + j + h * LANES;
            const VEC whole = FN(load)(at) * scale + (REAL)0; /* + 0 makes a zero of a minus zero */
            FN(store)(at, FN(choose)(drops[h], FN(splat)((REAL)-0.0), whole));
        }
    }
}

/* Eq. 6b: of g, the slope by what dropout has left of v, that by z.  n is a multiple of the vector. */
FNN_INLINE void FN(drop_back_values)(REAL *g, const REAL *v, ptrdiff_t n, double kept, int code, double slope) {
    const REAL share = (REAL)kept, scale = (REAL)(1 / kept);
    const INTS dropped = FN(bits)(FN(splat)((REAL)-0.0));
    for (ptrdiff_t j = 0; j < n; j += LANES) {
        const VEC left = FN(load)(v + j), d = FN(times_factor)(FN(load)(g + j), left * share, code, (REAL)slope);
        FN(store)(g + j, FN(choose)(FN(bits)(left) == dropped, FN(splat)(0), d * scale));
    }
}
