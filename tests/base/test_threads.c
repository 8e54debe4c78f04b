#include "base/threads.h"
#include "tests/base/scratch.h"
#include <stdatomic.h>
#include <time.h>

enum { MOST_TASKS = 5000, MOST_WORKERS = 7 };

typedef struct {
    _Atomic int runs[MOST_TASKS];
    _Atomic int inside[MOST_WORKERS]; /* tasks that run now as this worker */
    _Atomic int faults;
    int workers;
} tally;

static void count(void *context, int64_t task, int worker)
{
    tally *t = context;
    if (worker < 0 || worker >= t->workers) {
        atomic_fetch_add(&t->faults, 1);
        return;
    }
    if (atomic_fetch_add(&t->inside[worker], 1) != 0) atomic_fetch_add(&t->faults, 1);
    atomic_fetch_add(&t->runs[task], 1);
    atomic_fetch_sub(&t->inside[worker], 1);
}

static void every_task_runs_once_and_no_worker_runs_two_at_once(void **state)
{
    (void)state;
    static const int64_t sizes[] = {0, 1, 2, 3, 7, 64, MOST_TASKS};
    static tally t;
    for (int workers = 1; workers <= MOST_WORKERS; workers++) {
        su_pool *pool;
        assert_int_equal(su_pool_new(workers, &pool, NULL), SU_OK);
        assert_int_equal(su_pool_workers(pool), workers);
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            memset(&t, 0, sizeof t);
            t.workers = workers;
            su_pool_run(pool, sizes[s], count, &t);
            assert_int_equal(t.faults, 0);
            for (int64_t i = 0; i < MOST_TASKS; i++) assert_int_equal(t.runs[i], i < sizes[s]);
        }
        su_pool_free(pool);
    }
}

static void add(void *context, int64_t task, int worker)
{
    (void)worker;
    int64_t *cells = context;
    cells[task] += task + 1; /* no atomics: the pool orders loop after loop */
}

static void what_a_loop_wrote_is_seen_by_the_next(void **state)
{
    (void)state;
    for (int workers = 2; workers <= 4; workers++) {
        su_pool *pool;
        int64_t cells[16] = {0};
        assert_int_equal(su_pool_new(workers, &pool, NULL), SU_OK);
        enum { ROUNDS = 20000 };
        for (int r = 0; r < ROUNDS; r++) su_pool_run(pool, 2 + r % 15, add, cells);
        int64_t expected[16] = {0};
        for (int r = 0; r < ROUNDS; r++)
            for (int i = 0; i < 2 + r % 15; i++) expected[i] += i + 1;
        assert_memory_equal(cells, expected, sizeof cells);
        su_pool_free(pool);
    }
}

static void a_loop_after_a_long_pause_wakes_the_sleepers(void **state)
{
    (void)state;
    su_pool *pool;
    assert_int_equal(su_pool_new(3, &pool, NULL), SU_OK);
    int64_t cells[16] = {0};
    for (int r = 0; r < 200; r++) {
        nanosleep(&(struct timespec){.tv_nsec = r % 2 ? 300000 : 1000}, NULL);
        su_pool_run(pool, 16, add, cells);
    }
    for (int i = 0; i < 16; i++) assert_int_equal(cells[i], 200 * (i + 1));
    su_pool_free(pool);
}

typedef struct {
    _Atomic unsigned workers; /* one bit each */
    _Atomic int ended;
} naps;

static void nap(void *context, int64_t task, int worker)
{
    naps *n = context;
    nanosleep(&(struct timespec){.tv_nsec = 1000000 * (1 + task % 3)}, NULL);
    atomic_fetch_or(&n->workers, 1u << worker);
    atomic_fetch_add(&n->ended, 1);
}

static void tasks_are_shared_and_a_slow_one_is_waited_for(void **state)
{
    (void)state;
    su_pool *pool;
    naps n = {0};
    assert_int_equal(su_pool_new(3, &pool, NULL), SU_OK);
    for (int r = 1; r <= 10; r++) {
        su_pool_run(pool, 5, nap, &n);
        assert_int_equal(n.ended, 5 * r);
    }
    assert_int_equal(n.workers, 7);
    su_pool_free(pool);
}

static void a_null_pool_runs_the_tasks_in_order(void **state)
{
    (void)state;
    int64_t cells[4] = {0};
    su_pool_run(NULL, 4, add, cells);
    assert_int_equal(cells[3], 4);
    assert_int_equal(su_pool_workers(NULL), 1);
    su_pool_free(NULL);
}

static void zero_threads_means_one_per_core(void **state)
{
    (void)state;
    su_pool *pool;
    assert_int_equal(su_pool_new(0, &pool, NULL), SU_OK);
    assert_int_equal(su_pool_workers(pool), su_cpu_count());
    su_pool_free(pool);
}

static void an_impossible_number_of_threads_is_refused(void **state)
{
    (void)state;
    su_pool *pool;
    su_error err = {0};
    assert_int_equal(su_pool_new(-1, &pool, &err), SU_EINVAL);
    assert_int_equal(su_pool_new(100000, &pool, &err), SU_EINVAL);
    assert_null(pool);
    assert_contains(err.message, "100000");
}

static su_status make_and_free(su_error *err)
{
    su_pool *pool;
    su_status st = su_pool_new(3, &pool, err);
    su_pool_free(pool);
    return st;
}

static void a_pool_without_memory_is_an_error(void **state)
{
    (void)state;
    assert_int_equal(fail_every_allocation(make_and_free), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_task_runs_once_and_no_worker_runs_two_at_once),
        cmocka_unit_test(what_a_loop_wrote_is_seen_by_the_next),
        cmocka_unit_test(a_loop_after_a_long_pause_wakes_the_sleepers),
        cmocka_unit_test(tasks_are_shared_and_a_slow_one_is_waited_for),
        cmocka_unit_test(a_null_pool_runs_the_tasks_in_order),
        cmocka_unit_test(zero_threads_means_one_per_core),
        cmocka_unit_test(an_impossible_number_of_threads_is_refused),
        cmocka_unit_test(a_pool_without_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
