/* exp, log, log1p, tanh and sigmoid of vectors, part of _simd.h, which includes this file once for float and once for
   double.

   A. No function calls the C library: the bits depend on the build alone.  Error bounds in ulp, measured over the whole
      range, are in docs/vector-math.md; tests/test_vector_math.py holds every build to them.
   B. NaN gives NaN, infinities and zeros of either sign give the limits, subnormal numbers are neither flushed nor made
      worse.  No branches: lanes whose case is special are replaced at the end.
   C. Nothing here relies on whether the compiler fuses a multiplication and an addition. */

#undef ROUNDER
#undef MANTISSA_BITS
#undef EXPONENT_BIAS
#undef LOG2_E
#undef LOG_2_HIGH
#undef LOG_2_LOW
#undef EXP_LEAST
#undef EXP_MOST
#undef TANH_MOST
#undef LEAST_NORMAL
#undef SUBNORMAL_SHIFT
#if REAL_SIZE == 4
#define ROUNDER 12582912.0f
#define MANTISSA_BITS 23
#define EXPONENT_BIAS 127
#define LOG2_E 1.44269504088896341f
#define LOG_2_HIGH 0.693359375f
#define LOG_2_LOW -2.12194440e-4f
#define EXP_LEAST -104.0f
#define EXP_MOST 89.0f
#define TANH_MOST 10.0f
#define LEAST_NORMAL 1.17549435e-38f
#define SUBNORMAL_SHIFT 25
#else
#define ROUNDER 6755399441055744.0
#define MANTISSA_BITS 52
#define EXPONENT_BIAS 1023
#define LOG2_E 1.4426950408889634074
#define LOG_2_HIGH 6.93145751953125e-1
#define LOG_2_LOW 1.42860682030941723212e-6
#define EXP_LEAST -746.0
#define EXP_MOST 710.0
#define TANH_MOST 20.0
#define LEAST_NORMAL 2.2250738585072014e-308
#define SUBNORMAL_SHIFT 54
#endif

/* x >> n for an x that is not negative: few instruction sets shift the sign of 64 bits in. */
FNN_INLINE INTS FN(shifted_down)(INTS x, int n) { return (INTS)((FN(natural))x >> n); }

FNN_INLINE VEC FN(power_of_two)(INTS n) { return FN(from_bits)((n + EXPONENT_BIAS) << MANTISSA_BITS); }

/* The sign bits of x, and x without them. */
FNN_INLINE INTS FN(sign)(VEC x) { return FN(bits)(x) & FN(bits)(FN(splat)((REAL)-0.0)); }
FNN_INLINE VEC FN(magnitude)(VEC x) { return FN(from_bits)(FN(bits)(x) ^ FN(sign)(x)); }

/* ---- exp.  x = n log(2) + r with |r| <= log(2) / 2; log(2) in two parts, the first exact when multiplied by n (Cody
   and Waite 1980); exp(r) - 1 by a polynomial: for float Cephes' (Moshier 1992), for double Taylor's to degree 13, the
   remainder of which is below 2^-57.  Adding 1.5 * 2^(mantissa bits) rounds to the integer n and leaves it in the low
   bits. */

/* exp(r) - 1 for the reduced r, and n. */
FNN_INLINE VEC FN(expm1_reduced)(VEC x, INTS *n) {
    VEC shifted = x * LOG2_E + ROUNDER, whole = shifted - ROUNDER;
    VEC r = (x - whole * LOG_2_HIGH) - whole * LOG_2_LOW, p;
    *n = FN(bits)(shifted) - FN(bits)(FN(splat)(ROUNDER));
#if REAL_SIZE == 4
    p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
#else
    p = r * (1.0 / 6227020800) + 1.0 / 479001600;
    p = p * r + 1.0 / 39916800;
    p = p * r + 1.0 / 3628800;
    p = p * r + 1.0 / 362880;
    p = p * r + 1.0 / 40320;
    p = p * r + 1.0 / 5040;
    p = p * r + 1.0 / 720;
    p = p * r + 1.0 / 120;
    p = p * r + 1.0 / 24;
    p = p * r + 1.0 / 6;
    p = p * r + 0.5;
#endif
    return p * r * r + r;
}

/* exp: infinity above the range; the power of two in two factors, so that subnormals come out.  Below the range, 0 is
   put in place of exp(0): a product that underflows takes a hundred cycles, and softmax pads rows with -infinity. */
FNN_INLINE VEC FN(exp)(VEC x) {
    const VEC zero = FN(splat)(0);
    const INTS below = x < FN(splat)(EXP_LEAST);
    INTS n, half;
    VEC p;
    x = FN(smaller)(FN(splat)(EXP_MOST), FN(choose)(below, zero, x));
    p = FN(expm1_reduced)(x, &n) + (REAL)1;
    half = FN(shifted_down)(n + 2 * EXPONENT_BIAS, 1) - EXPONENT_BIAS;
    return FN(choose)(below, zero, p * FN(power_of_two)(half) * FN(power_of_two)(n - half));
}

/* tanh a = e / (e + 2) with e = exp(2 a) - 1, accurate near zero too; odd. */
FNN_INLINE VEC FN(tanh)(VEC x) {
    INTS n;
    VEC a = FN(smaller)(FN(splat)(TANH_MOST), FN(magnitude)(x)), scale, e;
    e = FN(expm1_reduced)(a + a, &n);
    scale = FN(power_of_two)(n);
    e = e * scale + (scale - (REAL)1);
    return FN(from_bits)(FN(bits)(e / (e + (REAL)2)) | FN(sign)(x));
}

/* sigmoid with exp(-|x|), which never overflows. */
FNN_INLINE VEC FN(sigmoid)(VEC x) {
    VEC one = FN(splat)(1), e = FN(exp)(-FN(magnitude)(x));
    return FN(choose)(x < FN(splat)(0), e, one) / (one + e);
}

/* ---- log.  x = 2^k m with sqrt(1/2) <= m < sqrt(2), which adding the distance from sqrt(1/2) to 1 to the bits of x
   finds; log(m) for f = m - 1 with s = f / (2 + f) and a polynomial in s^2, for double fdlibm's e_log.c (Sun 1993,
   error below 2^-58), for float FreeBSD's e_logf.c (below 2^-34); log(2) in two parts again, which are theirs too. */

/* log(1 + f) + k log(2) + c for the reduced f and a c that is far smaller. */
FNN_INLINE VEC FN(log_reduced)(VEC f, VEC k, VEC c) {
    VEC s = f / (f + (REAL)2), z = s * s, w = z * z, square = (REAL)0.5 * f * f, even, odd;
#if REAL_SIZE == 4
    even = z * (w * 2.8498786688e-1f + 6.6666662693e-1f);
    odd = w * (w * 2.4279078841e-1f + 4.0000972152e-1f);
    return s * (square + (even + odd)) + (k * 9.0580006145e-6f + c) - square + f + k * 6.9313812256e-1f;
#else
    even = w * 1.479819860511658591e-1 + 1.818357216161805012e-1;
    even = w * even + 2.857142874366239149e-1;
    even = z * (w * even + 6.666666666666735130e-1);
    odd = w * 1.531383769920937332e-1 + 2.222219843214978396e-1;
    odd = w * (w * odd + 3.999999999940941908e-1);
    return s * (square + (even + odd)) + (k * 1.90821492927058770002e-10 + c) - square + f +
           k * 6.93147180369123816490e-1;
#endif
}

/* m and k of a positive normal x. */
FNN_INLINE VEC FN(split)(VEC x, INTS *k) {
    const INTS root = FN(bits)(FN(splat)((REAL)0.70710678118654752440));
    const INTS moved = FN(bits)(x) - root + FN(bits)(FN(splat)(1));
    *k = FN(shifted_down)(moved, MANTISSA_BITS) - EXPONENT_BIAS;
    return FN(from_bits)((moved & (((INTEGER)1 << MANTISSA_BITS) - 1)) + root);
}

/* A small integer as a number: the way back from ROUNDER, since not every instruction set converts 64 bits. */
FNN_INLINE VEC FN(number)(INTS n) { return FN(from_bits)(n + FN(bits)(FN(splat)(ROUNDER))) - ROUNDER; }

/* What replaces log's result where x, of which the logarithm is taken, is infinite, zero, negative or NaN. */
FNN_INLINE VEC FN(log_limits)(VEC x, VEC result) {
    const VEC zero = FN(splat)(0), infinity = FN(splat)((REAL)INFINITY);
    result = FN(choose)(x == infinity, x, result);
    return FN(choose)(x > zero, result, FN(choose)(x == zero, -infinity, FN(splat)((REAL)NAN)));
}

/* log: -infinity for either zero, NaN below zero; subnormals are scaled up first. */
FNN_INLINE VEC FN(log)(VEC x) {
    const INTS subnormal = x < FN(splat)(LEAST_NORMAL);
    INTS whole;
    VEC m = FN(split)(FN(choose)(subnormal, x * (REAL)((INTEGER)1 << SUBNORMAL_SHIFT), x), &whole);
    VEC k = FN(number)(whole) - FN(choose)(subnormal, FN(splat)(SUBNORMAL_SHIFT), FN(splat)(0));
    return FN(log_limits)(x, FN(log_reduced)(m - (REAL)1, k, FN(splat)(0)));
}

/* log1p: log of the rounded u = 1 + x = 2^k m, and c / u for the c that rounding left out, with 1 - f for 1 / m; where
   u needs no reduction, log of 1 + f with f = x itself.  Up to ROUNDER u - 1 and c are exact; beyond, c no longer
   counts, and 2^-k may not exist.  -0 gives -0. */
FNN_INLINE VEC FN(log1p)(VEC x) {
    const VEC zero = FN(splat)(0), one = FN(splat)(1), u = one + x;
    INTS whole;
    VEC f = FN(split)(u, &whole) - one, k = FN(number)(whole), c;
    c = (x - (u - one)) * FN(power_of_two)(-whole) * (one - f);
    c = FN(choose)((k == zero) | (x > FN(splat)(ROUNDER)), zero, c);
    f = FN(choose)(k == zero, x, f);
    return FN(from_bits)(FN(bits)(FN(log_limits)(u, FN(log_reduced)(f, k, c))) | FN(sign)(x));
}
