# cython: language_level=3
"""The functions of _vector_math.h on arrays, for test_vector_math.py; nothing of it ships.

Built once per instruction set, under another name each time.
"""

cdef extern from *:
    """
    #include "_simd.h"

    #define VALUES(type, s) \\
        static void values_##s(int which, type *out, const type *x, ptrdiff_t n) { \\
            switch (which) { \\
            case 0: OVER(s, exp) \\
            case 1: OVER(s, log) \\
            case 2: OVER(s, log1p) \\
            case 3: OVER(s, tanh) \\
            case 4: OVER(s, sigmoid) \\
            } \\
        }
    #define OVER(s, name) \\
        for (; n > 0; n -= lanes_##s, x += lanes_##s, out += lanes_##s) store_##s(out, name##_##s(load_##s(x))); \\
        break;
    VALUES(float, f32)
    VALUES(double, f64)
    """
    void values_f32(int which, float *out, const float *x, Py_ssize_t n) nogil
    void values_f64(int which, double *out, const double *x, Py_ssize_t n) nogil

FUNCTIONS = ["exp", "log", "log1p", "tanh", "sigmoid"]


def apply(str function, bint is_float, size_t out, size_t x, Py_ssize_t n):
    """Write a function of n numbers, a multiple of 16, from address to address."""
    cdef int which = FUNCTIONS.index(function)
    with nogil:
        if is_float:
            values_f32(which, <float *>out, <const float *>x, n)
        else:
            values_f64(which, <double *>out, <const double *>x, n)
