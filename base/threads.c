/* The pool: helpers that wait for a loop, and the caller that works along.
 *
 *   remaining   tasks that nobody has claimed; a claim is one fetch_sub, and only a claim that saw a positive
 * number may read the loop's other fields. They change only when no task is claimed or left, so a helper that
 *               wakes up late either finds nothing or joins the loop that is running now.
 *   unfinished  tasks that have not ended; the caller returns at 0. A helper that is asleep or descheduled
 * does not hold up the caller: nobody waits for threads, only for tasks. generation  bumped by each loop;
 * helpers sleep on it (futex). waiting     1 while the caller sleeps; helpers wake it through it (futex).
 *
 * Helpers and caller look at memory for SPIN_NS before they sleep: a training step is thousands of short
 * loops with short pauses, and a futex round trip costs more than most pauses. With more workers than cores
 * nobody spins. */
#include "base/threads.h"
#include "base/memory.h"
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { MAX_THREADS = 1024, SPIN_NS = 50000, SPINS_PER_CLOCK = 64, LINE = 64 };

typedef struct {
    su_pool *pool;
    int worker;
} su_helper;

struct su_pool {
    int workers, started; /* helpers started: workers - 1 */
    bool spin;
    pthread_t *threads;
    su_helper *helpers;
    su_task *task;
    void *context;
    int64_t tasks;
    _Alignas(LINE) _Atomic int64_t remaining;
    _Alignas(LINE) _Atomic int64_t unfinished;
    _Alignas(LINE) _Atomic uint32_t generation;
    _Atomic uint32_t sleepers;
    _Atomic uint32_t waiting;
    _Atomic bool stop;
};

static void futex_wait(_Atomic uint32_t *word, uint32_t value)
{
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word, int count)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
}

static void pause_cpu(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Claims tasks until none is left; returns how many it ran. */
static int64_t work(su_pool *p, int worker)
{
    int64_t ran = 0, left;
    while ((left = atomic_fetch_sub_explicit(&p->remaining, 1, memory_order_acquire)) > 0) {
        p->task(p->context, p->tasks - left, worker);
        ran++;
    }
    return ran;
}

/* Spins until the generation differs from seen; false when it took too long. */
static bool spin_for_work(su_pool *p, uint32_t seen)
{
    int64_t end = now_ns() + SPIN_NS;
    do {
        for (int i = 0; i < SPINS_PER_CLOCK; i++) {
            if (atomic_load_explicit(&p->generation, memory_order_acquire) != seen) return true;
            pause_cpu();
        }
    } while (now_ns() < end);
    return false;
}

static void *helper_main(void *argument)
{
    su_helper *h = argument;
    su_pool *p = h->pool;
    uint32_t seen = 0;
    for (;;) {
        if (!p->spin || !spin_for_work(p, seen)) {
            atomic_fetch_add(&p->sleepers, 1);
            while (atomic_load(&p->generation) == seen) futex_wait(&p->generation, seen);
            atomic_fetch_sub(&p->sleepers, 1);
        }
        seen = atomic_load(&p->generation);
        if (atomic_load(&p->stop)) return NULL;
        int64_t ran = work(p, h->worker);
        /* The last to finish sees unfinished become 0 and wakes a caller that went to sleep meanwhile. */
        if (ran && atomic_fetch_sub(&p->unfinished, ran) == ran && atomic_exchange(&p->waiting, 0))
            futex_wake(&p->waiting, 1);
    }
}

static void announce(su_pool *p, int64_t wanted)
{
    atomic_fetch_add(&p->generation, 1);
    uint32_t asleep = atomic_load(&p->sleepers);
    if (asleep) futex_wake(&p->generation, wanted < (int64_t)asleep ? (int)wanted : (int)asleep);
}

static void wait_for_tasks(su_pool *p)
{
    if (p->spin) {
        int64_t end = now_ns() + SPIN_NS;
        do {
            for (int i = 0; i < SPINS_PER_CLOCK; i++) {
                if (atomic_load_explicit(&p->unfinished, memory_order_acquire) == 0) return;
                pause_cpu();
            }
        } while (now_ns() < end);
    }
    for (;;) {
        atomic_store(&p->waiting, 1);
        if (atomic_load(&p->unfinished) == 0) break;
        futex_wait(&p->waiting, 1);
    }
    atomic_store(&p->waiting, 0);
}

void su_pool_run(su_pool *p, int64_t tasks, su_task *task, void *context)
{
    if (tasks <= 0) return;
    if (!p || p->workers == 1 || tasks == 1) {
        for (int64_t i = 0; i < tasks; i++) task(context, i, 0);
        return;
    }
    p->task = task;
    p->context = context;
    p->tasks = tasks;
    atomic_store(&p->unfinished, tasks);
    atomic_store(&p->remaining, tasks);
    announce(p, tasks - 1);
    int64_t ran = work(p, 0);
    if (atomic_fetch_sub(&p->unfinished, ran) != ran) wait_for_tasks(p);
}

su_status su_pool_new(int threads, su_pool **pool, su_error *err)
{
    *pool = NULL;
    if (threads < 0 || threads > MAX_THREADS)
        return su_fail(err, SU_EINVAL, "%d threads: give 1 to %d, or 0 for one per core", threads,
                       MAX_THREADS);
    int cores = su_cpu_count();
    if (threads == 0) threads = cores < MAX_THREADS ? cores : MAX_THREADS;
    su_pool *p = su_alloc_aligned(1, sizeof *p);
    if (!p) return su_fail(err, SU_ENOMEM, "no memory for a pool of %d threads", threads);
    memset(p, 0, sizeof *p);
    p->workers = threads;
    p->spin = threads <= cores;
    p->threads = su_calloc((size_t)threads, sizeof *p->threads);
    p->helpers = su_calloc((size_t)threads, sizeof *p->helpers);
    su_status st = SU_OK;
    if (!p->threads || !p->helpers)
        st = su_fail(err, SU_ENOMEM, "no memory for a pool of %d threads", threads);
    /* Signals go to the program's own threads. */
    sigset_t all, kept;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &kept);
    while (!st && p->started < threads - 1) {
        su_helper *h = &p->helpers[p->started];
        *h = (su_helper){.pool = p, .worker = p->started + 1};
        int error = pthread_create(&p->threads[p->started], NULL, helper_main, h);
        if (error)
            st = su_fail(err, SU_ENOMEM, "thread %d of %d cannot be started: %s: ask for fewer threads",
                         p->started + 2, threads, strerror(error));
        else
            p->started++;
    }
    pthread_sigmask(SIG_SETMASK, &kept, NULL);
    if (st) {
        su_pool_free(p);
        return st;
    }
    *pool = p;
    return SU_OK;
}

void su_pool_free(su_pool *p)
{
    if (!p) return;
    atomic_store(&p->stop, true);
    announce(p, p->started);
    for (int i = 0; i < p->started; i++) pthread_join(p->threads[i], NULL);
    su_free(p->threads);
    su_free(p->helpers);
    su_free(p);
}

int su_pool_workers(const su_pool *p)
{
    return p ? p->workers : 1;
}
