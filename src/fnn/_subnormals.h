/* Numbers below the smallest normal one, for _backprop.pyx.  x86 takes some 150 cycles for every vector that makes or
   reads one, and training makes more and more of them: what momentum keeps of a neuron that is off shrinks until it
   rounds to itself, and the square of a small gradient is there at once.  While they train, threads round such results
   to 0.  What they read counts in full: data and weights may be subnormal.  Other CPUs keep them. */

#ifndef FNN_SUBNORMALS_H
#define FNN_SUBNORMALS_H

#if defined(__SSE2__) || defined(_M_X64)
#include <xmmintrin.h>

/* Have this thread's subnormal results rounded to 0, or not; what it did before. */
static int fnn_flush_subnormals(int flush) {
    const unsigned before = _mm_getcsr(), bit = _MM_FLUSH_ZERO_ON;
    if (flush != !!(before & bit)) _mm_setcsr(before ^ bit);
    return !!(before & bit);
}

#else
static int fnn_flush_subnormals(int flush) {
    (void)flush;
    return 0;
}
#endif
#endif
