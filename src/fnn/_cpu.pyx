# cython: language_level=3, freethreading_compatible=True, binding=True
"""What this CPU can run.  Compiled with baseline flags only: an AVX build already executes AVX while it is imported."""

cdef extern from *:
    """
    /* x86-64-v3 and v4 as the psABI defines them, less what no kernel uses.  __builtin_cpu_supports also asks whether
       the operating system saves the wide registers. */
    #if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
    static int fnn_level(void) {
        __builtin_cpu_init();
        if (!(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2")
              && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("popcnt"))) return 2;
        if (!(__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
              && __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq")
              && __builtin_cpu_supports("avx512vl"))) return 3;
        return 4;
    }
    #else
    static int fnn_level(void) { return 0; }
    #endif
    """
    int fnn_level()


def levels():
    """Names of the x86-64 levels that this CPU and operating system can run.

    Returns
    -------
    frozenset of str
        Among "x86-64-v3" and "x86-64-v4".
    """
    level = fnn_level()
    return frozenset(name for name, needs in (("x86-64-v3", 3), ("x86-64-v4", 4)) if level >= needs)
