/* What one machine can do at most in code of one instruction set, that of the compiler's options: multiply-adds from
   registers, and bandwidth by the size of the array.

   limits THREADS MILLISECONDS BYTES...

   prints "peak GFLOP/s", and for every array size "read BYTES GB/s" and "update BYTES GB/s" (an update reads and writes
   the array in place; both directions are counted).  Every thread works on an array of its own; rates are the threads'
   sum, the best of several tries of the given length. */

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#if defined(__AVX512F__)
#define WIDTH 64
#elif defined(__AVX__)
#define WIDTH 32
#else
#define WIDTH 16
#endif

/* One multiply-add has 4 cycles of latency and up to 4 start in a cycle.  AVX2 has 16 registers, two are constants. */
#if defined(__AVX512F__) || defined(__aarch64__)
#define CHAINS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15) X(16) X(17)
#define CHAIN_COUNT 18
#else
#define CHAINS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#define CHAIN_COUNT 12
#endif

#define STREAMS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)
#define STREAM_COUNT 16

enum { LANES = WIDTH / 4, TRIES = 7, MAX_THREADS = 1024 };

typedef float floats __attribute__((vector_size(WIDTH)));
typedef double kernel(void *memory, size_t bytes, long repeats); /* returns operations or bytes done */

typedef struct {
    pthread_t thread;
    kernel *run;
    void *memory;
    size_t bytes;
    long repeats;
    double done;
} job;

static pthread_barrier_t barrier;
static volatile float sink;

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

static double multiply_add(void *memory, size_t bytes, long repeats) {
    const volatile float *constants = memory; /* read at run time: nothing can be folded */
    floats factor, term;
    (void)bytes;
    for (int i = 0; i < LANES; i++) {
        factor[i] = constants[0];
        term[i] = constants[1];
    }
#define DECLARE(i) floats a##i = term + (float)i;
    CHAINS(DECLARE)
    for (long k = 0; k < repeats; k++) {
#define STEP(i) a##i = a##i * factor + term;
        CHAINS(STEP)
    }
    floats sum = term;
#define ADD(i) sum += a##i;
    CHAINS(ADD)
    sink = sum[0];
    return 2.0 * LANES * CHAIN_COUNT * repeats;
}

static double read_array(void *memory, size_t bytes, long repeats) {
    const floats *array = memory;
    const size_t n = bytes / WIDTH;
#define ZERO(i) floats a##i = {0};
    STREAMS(ZERO)
    for (long k = 0; k < repeats; k++) {
        for (size_t i = 0; i < n; i += STREAM_COUNT) {
#define ADD_FROM(j) a##j += array[i + j];
            STREAMS(ADD_FROM)
        }
        __asm__ volatile("" ::: "memory"); /* the next pass must read again */
    }
    floats sum = {0};
    STREAMS(ADD)
    sink = sum[0];
    return (double)bytes * repeats;
}

static double update_array(void *memory, size_t bytes, long repeats) {
    floats *array = memory;
    const size_t n = bytes / WIDTH;
    for (long k = 0; k < repeats; k++) {
        for (size_t i = 0; i < n; i += STREAM_COUNT) {
#define UPDATE(j) array[i + j] += 1e-9f;
            STREAMS(UPDATE)
        }
        __asm__ volatile("" ::: "memory");
    }
    return 2.0 * bytes * repeats;
}

static void *work(void *argument) {
    job *j = argument;
    pthread_barrier_wait(&barrier);
    j->done = j->run(j->memory, j->bytes, j->repeats);
    pthread_barrier_wait(&barrier);
    return NULL;
}

static double once(job *jobs, int threads, long repeats, double *elapsed) {
    double done = 0;
    pthread_barrier_init(&barrier, NULL, threads);
    for (int i = 0; i < threads; i++) jobs[i].repeats = repeats;
    for (int i = 1; i < threads; i++)
        if (pthread_create(&jobs[i].thread, NULL, work, &jobs[i])) exit(1);
    pthread_barrier_wait(&barrier);
    const double start = seconds();
    jobs[0].done = jobs[0].run(jobs[0].memory, jobs[0].bytes, repeats);
    pthread_barrier_wait(&barrier);
    *elapsed = seconds() - start;
    for (int i = 1; i < threads; i++) pthread_join(jobs[i].thread, NULL);
    pthread_barrier_destroy(&barrier);
    for (int i = 0; i < threads; i++) done += jobs[i].done;
    return done;
}

/* Rate in 1e9 a second.  The repeats are doubled until one try lasts long enough: that also warms the caches. */
static double rate(kernel *run, job *jobs, int threads, size_t bytes, double length) {
    double best = 0, elapsed = 0;
    long repeats = 1;
    for (int i = 0; i < threads; i++) {
        jobs[i].run = run;
        jobs[i].bytes = bytes;
    }
    while (once(jobs, threads, repeats, &elapsed), elapsed < length) repeats *= 2;
    for (int i = 0; i < TRIES; i++) {
        const double done = once(jobs, threads, repeats, &elapsed);
        if (done / elapsed > best) best = done / elapsed;
    }
    return best / 1e9;
}

int main(int argc, char **argv) {
    static job jobs[MAX_THREADS];
    const int threads = argc > 1 ? atoi(argv[1]) : 0;
    const double length = argc > 2 ? atof(argv[2]) / 1e3 : 0;
    size_t largest = WIDTH;
    if (threads < 1 || threads > MAX_THREADS || length <= 0) return 2;
    for (int i = 3; i < argc; i++) {
        const size_t bytes = strtoul(argv[i], NULL, 10);
        if (bytes == 0 || bytes % (WIDTH * STREAM_COUNT)) return 2;
        if (bytes > largest) largest = bytes;
    }
    for (int i = 0; i < threads; i++) {
        float *memory = aligned_alloc(4096, (largest + 4095) / 4096 * 4096);
        if (!memory) return 1;
        for (size_t k = 0; k < largest / sizeof(float); k++) memory[k] = 1.0f;
        memory[0] = 0.999f;
        memory[1] = 1e-3f;
        jobs[i].memory = memory;
    }
    printf("peak %.3f\n", rate(multiply_add, jobs, threads, WIDTH, length));
    for (int i = 3; i < argc; i++) {
        const size_t bytes = strtoul(argv[i], NULL, 10);
        printf("read %zu %.3f\n", bytes, rate(read_array, jobs, threads, bytes, length));
        printf("update %zu %.3f\n", bytes, rate(update_array, jobs, threads, bytes, length));
    }
    return 0;
}
