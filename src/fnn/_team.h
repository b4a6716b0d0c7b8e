/* A team of threads for _backprop.pyx: the caller and its helpers, who know nothing of Python, for one that had to get
   the GIL would keep the others waiting for milliseconds.

   A. Helpers start when they are first needed and stay with their team.  Between two calls of fnn_work they look out
      for the next one for FNN_LOOKOUT_SECONDS, as the epochs of a small data set follow each other, and then sleep.
      When the team is dismissed they end by themselves: nobody waits for that, and whoever leaves last frees the team.
   B. Within a call, threads that meet every few microseconds meet at a barrier that spins.  Where one was put off its
      core the others yield theirs, and soon sleep: a core that is idle takes over what waits at another.
   C. A forked child has no helpers: fnn_muster notices and starts new ones.
   D. Where threads or atomics are not to be had there is a team of one. */

#ifndef FNN_TEAM_H
#define FNN_TEAM_H

#include <stdlib.h>
#include <time.h>

typedef struct { int arrived, phase, asleep; } fnn_meeting; /* phase: meetings held; asleep: how many wait for one so */
typedef void (*fnn_part)(const void *task, int thread);

#if defined(__GNUC__) && !defined(FNN_PLAIN_C)
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>
#if defined(__linux__) && defined(__LP64__)
#include <linux/futex.h>
#include <sys/syscall.h>
#endif

#define FNN_MOST_THREADS 1024
#define FNN_PATIENCE 4096 /* looks before a waiting thread yields its core; a pause is about 16 of them */
#define FNN_YIELD_SECONDS 1e-3 /* of yields before it sleeps: others who wait until it has woken should not fall asleep too */
#define FNN_NAP_SECONDS 1e-3 /* after which a sleeper looks by itself */
#define FNN_LOOKOUT_SECONDS 1.5e-4 /* about what it takes to wake a thread whose core sleeps too */

typedef struct fnn_team fnn_team;
typedef struct {
    fnn_team *team;
    int thread, seen; /* its number, and the last call it answered */
} fnn_helper;
struct fnn_team {
    int call, finished; /* the number of the current call, 0 for none yet; helpers who are done with it */
    int waits; /* 1 while the caller sleeps until they are */
    int started, threads, asleep, over; /* helpers; threads that the call wants; helpers to be woken; dismissed */
    int members; /* helpers who have not left yet, and the owner */
    fnn_part work;
    const void *task;
    pthread_mutex_t lock; /* of `asleep`, and of `call` where it is written */
    pthread_cond_t woken;
    pid_t owner; /* the process that its helpers live in */
    fnn_helper helpers[FNN_MOST_THREADS - 1];
};

/* Bytes of a core's second-level cache; 1 MiB where nobody knows. */
static ptrdiff_t second_level_cache(void) {
    long bytes = -1;
#if defined(_SC_LEVEL2_CACHE_SIZE)
    bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);
#endif
    return bytes > 0 ? bytes : 1 << 20;
}

static double fnn_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

/* Let some cycles go by; false after 10 us or so, when the one that is waited for may need this very core. */
static int fnn_pause(int tries) {
#if defined(__x86_64__)
    if (tries >= FNN_PATIENCE / 16) return 0;
    __builtin_ia32_pause();
    return 1;
#else
    return tries < FNN_PATIENCE;
#endif
}

/* Sleep until fnn_wake, or for a while, if the word still has the value that it had. */
static void fnn_nap(int *word, int value, int *asleep) {
#if defined(SYS_futex)
    const struct timespec nap = {0, (long)(1e9 * FNN_NAP_SECONDS)};
    __atomic_add_fetch(asleep, 1, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, &nap, NULL, 0);
    __atomic_sub_fetch(asleep, 1, __ATOMIC_SEQ_CST);
#else
    const struct timespec nap = {0, (long)(1e9 * FNN_LOOKOUT_SECONDS)};
    (void)word; (void)value; (void)asleep;
    nanosleep(&nap, NULL);
#endif
}

/* Wake who sleeps over a word that has just changed.  Without a fence before the look at `asleep` it may miss one, who
   then wakes by himself. */
static void fnn_wake(int *word, const int *asleep) {
#if defined(SYS_futex)
    if (__atomic_load_n(asleep, __ATOMIC_RELAXED))
        syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, FNN_MOST_THREADS, NULL, NULL, 0);
#else
    (void)word; (void)asleep;
#endif
}

/* Wait while the word has this value: looking, then yielding, then asleep. */
static void fnn_wait_while(int *word, int value, int *asleep) {
    double since = 0;
    for (int tries = 0; __atomic_load_n(word, __ATOMIC_ACQUIRE) == value; tries++) {
        if (fnn_pause(tries)) continue;
        tries = FNN_PATIENCE;
        if (since == 0) since = fnn_seconds();
        if (fnn_seconds() - since < FNN_YIELD_SECONDS) sched_yield();
        else fnn_nap(word, value, asleep);
    }
}

static void fnn_meet(fnn_meeting *m, int threads) {
    int phase = __atomic_load_n(&m->phase, __ATOMIC_RELAXED);
    if (threads == 1) return;
    if (__atomic_add_fetch(&m->arrived, 1, __ATOMIC_ACQ_REL) < threads) {
        fnn_wait_while(&m->phase, phase, &m->asleep);
        return;
    }
    m->arrived = 0;
    __atomic_store_n(&m->phase, phase + 1, __ATOMIC_RELEASE);
    fnn_wake(&m->phase, &m->asleep);
}

/* How many things one thread has handed on, to those who wait for them; on a cache line of its own. */
typedef struct { int handed, asleep; char apart[56]; } fnn_relay;

static void fnn_hand_on(fnn_relay *r) {
    __atomic_store_n(&r->handed, r->handed + 1, __ATOMIC_RELEASE);
    fnn_wake(&r->handed, &r->asleep);
}

/* Wait until there were so many; counts may wrap around. */
static void fnn_await(fnn_relay *r, int count) {
    int handed;
    while ((int)((unsigned)count - (unsigned)(handed = __atomic_load_n(&r->handed, __ATOMIC_ACQUIRE))) > 0)
        fnn_wait_while(&r->handed, handed, &r->asleep);
}

static int fnn_called(fnn_team *team, int seen) { return __atomic_load_n(&team->call, __ATOMIC_ACQUIRE) != seen; }

/* Wait for the call after the one that was `seen`: awake for a while, then asleep. */
static void fnn_wait_for_call(fnn_team *team, int seen) {
    const double since = fnn_seconds();
    do {
        for (int tries = 0; tries < 64; tries++) {
            if (fnn_called(team, seen)) return;
            fnn_pause(tries);
        }
    } while (fnn_seconds() - since < FNN_LOOKOUT_SECONDS);
    pthread_mutex_lock(&team->lock);
    team->asleep++;
    while (!fnn_called(team, seen)) pthread_cond_wait(&team->woken, &team->lock);
    team->asleep--;
    pthread_mutex_unlock(&team->lock);
}

static void fnn_leave(fnn_team *team) {
    if (__atomic_sub_fetch(&team->members, 1, __ATOMIC_ACQ_REL)) return;
    pthread_mutex_destroy(&team->lock);
    pthread_cond_destroy(&team->woken);
    free(team);
}

static void *fnn_help(void *self) {
    fnn_helper *helper = (fnn_helper *)self;
    fnn_team *team = helper->team;
    for (;;) {
        fnn_wait_for_call(team, helper->seen);
        helper->seen++; /* nobody calls again before all have answered */
        if (team->over) break;
        if (helper->thread < team->threads) team->work(team->task, helper->thread);
        __atomic_add_fetch(&team->finished, 1, __ATOMIC_ACQ_REL);
        fnn_wake(&team->finished, &team->waits);
    }
    fnn_leave(team);
    return NULL;
}

static void fnn_call(fnn_team *team) {
    pthread_mutex_lock(&team->lock);
    __atomic_add_fetch(&team->call, 1, __ATOMIC_ACQ_REL);
    if (team->asleep) pthread_cond_broadcast(&team->woken);
    pthread_mutex_unlock(&team->lock);
}

static void fnn_new_process(fnn_team *team) {
    team->call = team->started = team->asleep = team->over = 0;
    team->members = 1;
    team->owner = getpid();
    pthread_mutex_init(&team->lock, NULL);
    pthread_cond_init(&team->woken, NULL);
}

/* A team of the caller alone; NULL if there is no memory. */
static fnn_team *fnn_assemble(void) {
    fnn_team *team = (fnn_team *)calloc(1, sizeof(fnn_team));
    if (team) fnn_new_process(team);
    return team;
}

/* Bring the team up to so many threads; returns how many there are now, for there may be no more to be had.  Signals
   are the other threads' business. */
static int fnn_muster(fnn_team *team, int threads) {
    sigset_t others, before;
    pthread_t helper_id;
    if (team->owner != getpid()) fnn_new_process(team);
    if (threads <= team->started + 1) return threads;
    sigfillset(&others);
    sigdelset(&others, SIGSEGV);
    sigdelset(&others, SIGBUS);
    sigdelset(&others, SIGFPE);
    sigdelset(&others, SIGILL);
    pthread_sigmask(SIG_SETMASK, &others, &before);
    while (team->started + 1 < threads && team->started < FNN_MOST_THREADS - 1) {
        fnn_helper *helper = &team->helpers[team->started];
        helper->team = team;
        helper->thread = team->started + 1;
        helper->seen = team->call;
        __atomic_add_fetch(&team->members, 1, __ATOMIC_ACQ_REL);
        if (pthread_create(&helper_id, NULL, fnn_help, helper)) {
            fnn_leave(team);
            break;
        }
        pthread_detach(helper_id);
        team->started++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return team->started + 1;
}

/* Have `threads` of the team do the task, the caller as number 0, and return when all are done. */
static void fnn_work(fnn_team *team, int threads, fnn_part work, const void *task) {
    if (threads == 1) {
        work(task, 0);
        return;
    }
    team->work = work;
    team->task = task;
    team->threads = threads;
    team->finished = 0;
    fnn_call(team);
    work(task, 0);
    for (;;) {
        const int finished = __atomic_load_n(&team->finished, __ATOMIC_ACQUIRE);
        if (finished == team->started) return;
        fnn_wait_while(&team->finished, finished, &team->waits);
    }
}

/* End the helpers, and the team. */
static void fnn_dismiss(fnn_team *team) {
    if (team == NULL) return;
    if (team->owner != getpid()) { /* its helpers are another process's */
        free(team);
        return;
    }
    team->over = 1;
    fnn_call(team);
    fnn_leave(team);
}

/* Take the next `count` of what the team shares out one piece after the other; where they begin. */
static ptrdiff_t fnn_take(ptrdiff_t *next, ptrdiff_t count) {
    return __atomic_fetch_add(next, count, __ATOMIC_RELAXED);
}

/* What a thread has still to do, [first, last) in the halves of one word, so that its owner takes from the front and
   others from the back; on a cache line of its own. */
typedef struct { size_t left; char apart[64 - sizeof(size_t)]; } fnn_range;
enum { FNN_HALF_A_WORD = 4 * sizeof(size_t) }; /* bits */

static void fnn_open(fnn_range *r, ptrdiff_t first, ptrdiff_t last) {
    __atomic_store_n(&r->left, (size_t)first << FNN_HALF_A_WORD | (size_t)last, __ATOMIC_RELEASE);
}

/* Take up to `count`, from the back or the front: [where they begin, *last), empty where nothing is left. */
static ptrdiff_t fnn_claim(fnn_range *r, ptrdiff_t count, int back, ptrdiff_t *last) {
    size_t left = __atomic_load_n(&r->left, __ATOMIC_ACQUIRE), rest;
    ptrdiff_t first, end;
    do {
        first = (ptrdiff_t)(left >> FNN_HALF_A_WORD);
        end = (ptrdiff_t)(left & (((size_t)1 << FNN_HALF_A_WORD) - 1));
        if (count > end - first) count = end - first;
        rest = back ? left - (size_t)count : left + ((size_t)count << FNN_HALF_A_WORD);
    } while (count && !__atomic_compare_exchange_n(&r->left, &left, rest, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE));
    *last = back ? end : first + count;
    return *last - count;
}

#else /* one thread */
#define FNN_MOST_THREADS 1
typedef struct { int alone; } fnn_team;
static ptrdiff_t second_level_cache(void) { return 1 << 20; }
static double fnn_seconds(void) { return (double)clock() / CLOCKS_PER_SEC; }
static void fnn_meet(fnn_meeting *m, int threads) { (void)m; (void)threads; }
typedef struct { int handed; } fnn_relay;
static void fnn_hand_on(fnn_relay *r) { r->handed++; }
static void fnn_await(fnn_relay *r, int count) { (void)r; (void)count; }
typedef struct { ptrdiff_t first, last; } fnn_range;
static void fnn_open(fnn_range *r, ptrdiff_t first, ptrdiff_t last) { r->first = first, r->last = last; }
static ptrdiff_t fnn_claim(fnn_range *r, ptrdiff_t count, int back, ptrdiff_t *last) {
    if (count > r->last - r->first) count = r->last - r->first;
    *last = back ? r->last : r->first + count;
    if (back) r->last -= count;
    else r->first += count;
    return *last - count;
}
static fnn_team *fnn_assemble(void) { return (fnn_team *)calloc(1, sizeof(fnn_team)); }
static int fnn_muster(fnn_team *team, int threads) { (void)team; (void)threads; return 1; }
static void fnn_work(fnn_team *team, int threads, fnn_part work, const void *task) {
    (void)team; (void)threads;
    work(task, 0);
}
static void fnn_dismiss(fnn_team *team) { free(team); }
static ptrdiff_t fnn_take(ptrdiff_t *next, ptrdiff_t count) { return (*next += count) - count; }
#endif
#endif
