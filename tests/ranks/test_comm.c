/* The communicator over MPI: what arrives, sums in the order of the ranks, agreement on failures. */
#include "tests/ranks/ranks.h"
#include <unistd.h>

static void ok(su_status st, const su_error *err)
{
    if (st) fail_msg("rank %d: %s", su_comm_rank(ranks_comm), err->message);
}

/* Element i of what rank r brings: sums of them depend on the order in float32. */
static double brought(int r, int64_t i)
{
    return (double)(float)su_rng_normal((su_rng_key){.seed = 3, .layer = (uint32_t)r}, (uint64_t)i);
}

static void all_blocks_arrive(void **state)
{
    (void)state;
    su_comm *c = ranks_comm;
    su_error err = {0};
    static const size_t sizes[] = {1, 3, 4, 1000, 4000001};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        size_t n = sizes[k];
        unsigned char *x = check_alloc((int64_t)n * c->ranks, 1);
        for (size_t i = 0; i < n; i++) x[(size_t)c->rank * n + i] = (unsigned char)(i * 7 + (size_t)c->rank);
        ok(su_comm_all_gather(c, x, n, &err), &err);
        for (int r = 0; r < c->ranks; r++)
            for (size_t i = 0; i < n; i++)
                if (x[(size_t)r * n + i] != (unsigned char)(i * 7 + (size_t)r))
                    fail_msg("byte %zu of rank %d", i, r);
        memset(x, c->rank, n);
        ok(su_comm_broadcast_host(c, x, n, &err), &err);
        for (size_t i = 0; i < n; i++) assert_int_equal(x[i], 0);
        check_free_all();
    }
}

static double element(const void *x, bool wide, int64_t i)
{
    return wide ? ((const double *)x)[i] : (double)((const float *)x)[i];
}

/* Ranges, one behind the other from the end on, of at most `most` elements: all but the last `kept` of them. */
static void sums_are_formed_in_the_order_of_the_ranks(bool wide, int64_t block, int64_t most, int64_t kept)
{
    su_comm *c = ranks_comm;
    su_error err = {0};
    int64_t n = block * c->ranks, size = 1;
    void *x = check_alloc(n, wide ? sizeof(double) : sizeof(float));
    for (int64_t i = 0; i < n; i++) {
        if (wide)
            ((double *)x)[i] = brought(c->rank, i);
        else
            ((float *)x)[i] = (float)brought(c->rank, i);
    }
    for (int64_t end = n - kept; end > 0; end -= size, size = 2 * size + 1) {
        if (size > most) size = most;
        if (size > end) size = end;
        su_comm_reduce(c, x, block, end - size, size);
    }
    ok(su_comm_wait(c, &err), &err);
    for (int64_t i = c->rank * block; i < (c->rank + 1) * block; i++) {
        double sum = brought(i < n - kept ? 0 : c->rank, i);
        for (int r = 1; r < c->ranks && i < n - kept; r++) sum += brought(r, i);
        if (element(x, wide, i) != (wide ? sum : (double)(float)sum))
            fail_msg("block %lld, ranges of %lld: element %lld", (long long)block, (long long)most, (long long)i);
    }
    ok(su_comm_wait(c, &err), &err); /* for nothing */
    check_free_all();
}

static void every_element_is_summed_by_the_rank_that_has_it(void **state)
{
    (void)state;
    static const int64_t blocks[] = {1, 5, 1 << 17, (1 << 17) + 1, 300007};
    for (int wide = 0; wide < 2; wide++) {
        su_device *d = check_device(wide ? SU_DTYPE_F64 : SU_DTYPE_F32, 1);
        ranks_lend(d);
        for (size_t k = 0; k < sizeof blocks / sizeof *blocks; k++) {
            int64_t n = blocks[k] * ranks_comm->ranks;
            sums_are_formed_in_the_order_of_the_ranks(wide, blocks[k], n, 0);
            sums_are_formed_in_the_order_of_the_ranks(wide, blocks[k], blocks[k] / 2 + 1, blocks[k] / 2);
            sums_are_formed_in_the_order_of_the_ranks(wide, blocks[k], n / 200 + 1, 1); /* more than wait at once */
        }
        ranks_lend(ranks_first);
        su_device_close(d);
    }
}

/* Rank 0 begins a sum and goes on, until the others begin it because it went on. */
static void a_sum_that_is_begun_holds_nobody_up(void **state)
{
    (void)state;
    su_comm *c = ranks_comm;
    su_error err = {0};
    char path[64];
    int starter = getpid();
    double sum = 0.0;
    ok(su_comm_broadcast_host(c, &starter, sizeof starter, &err), &err);
    snprintf(path, sizeof path, "/tmp/suture-ranks-%d-begun", starter);
    float *x = check_alloc(c->ranks, sizeof *x);
    for (int i = 0; i < c->ranks; i++) x[i] = (float)brought(c->rank, i);
    if (c->rank == 0) {
        su_comm_reduce(c, x, 1, 0, c->ranks);
        fclose(fopen(path, "w"));
    } else {
        for (int i = 0; access(path, F_OK) && i < 60000; i++) usleep(1000);
        assert_int_equal(access(path, F_OK), 0);
        su_comm_reduce(c, x, 1, 0, c->ranks);
    }
    double one = 1.0;
    ok(su_comm_sum(c, &one, 1, &err), &err); /* another call before the wait */
    ok(su_comm_wait(c, &err), &err);
    for (int r = 0; r < c->ranks; r++) sum += brought(r, c->rank);
    assert_true(x[c->rank] == (float)sum && one == c->ranks);
    if (c->rank == 0) unlink(path);
    check_free_all();
}

static void numbers_are_summed_and_compared(void **state)
{
    (void)state;
    su_comm *c = ranks_comm;
    su_error err = {0};
    double x[2] = {brought(c->rank, 0), c->rank == 1 ? 5.0 : -1.0}, largest[2] = {x[0], x[1]};
    ok(su_comm_sum(c, x, 2, &err), &err);
    ok(su_comm_max(c, largest, 2, &err), &err);
    double sum = brought(0, 0);
    for (int r = 1; r < c->ranks; r++) sum += brought(r, 0);
    assert_true(x[0] == sum && x[1] == 5.0 - (c->ranks - 1));
    assert_true(largest[1] == 5.0);
}

static void a_failure_of_one_rank_is_that_of_all(void **state)
{
    (void)state;
    su_comm *c = ranks_comm;
    for (int bad = 0; bad < c->ranks; bad++) {
        su_error err = {0};
        char expected[64];
        su_status st = SU_OK;
        if (c->rank == bad) st = su_fail_at(&err, SU_EFORMAT, 7, "pixels.bin: torn at sample %d", bad);
        c->agreed = false;
        assert_int_equal(su_comm_agree(c, st, &err), SU_EFORMAT);
        assert_true(c->agreed);
        snprintf(expected, sizeof expected, "rank %d: pixels.bin: torn at sample %d", bad, bad);
        assert_string_equal(err.message, expected);
        assert_int_equal(err.position, 7);
    }
    su_error err = {0};
    c->agreed = false;
    assert_int_equal(su_comm_agree(c, c->rank ? SU_EIO : SU_ENOMEM, NULL), SU_ENOMEM); /* the first one's */
    c->agreed = false;
    ok(su_comm_agree(c, SU_OK, &err), &err);
    assert_false(c->agreed);
    ok(su_comm_same(c, "configuration", "{\"a\":1}", &err), &err);
    assert_int_equal(su_comm_same(c, "dataset", c->rank == 1 ? "b" : "a", &err), SU_EMISMATCH);
    assert_string_equal(err.message, "rank 1: its dataset differs from rank 0's: all ranks need the same");
    c->agreed = false;
}

/* What a GPU's ranks do: host memory goes through the device's. */
static void host_memory_goes_through_the_device(void **state)
{
    ranks_comm->host = false;
    numbers_are_summed_and_compared(state);
    a_failure_of_one_rank_is_that_of_all(state);
    assert_non_null(ranks_comm->stage);
    ranks_comm->host = true;
}

static void items_are_divided_without_loss(void **state)
{
    (void)state;
    for (int ranks = 1; ranks <= 5; ranks++)
        for (int64_t count = 0; count < 12; count++) {
            int64_t next = 0;
            for (int r = 0; r < ranks; r++) {
                su_comm c = {.rank = r, .ranks = ranks};
                int64_t first = 0, n = su_comm_share(&c, count, &first);
                assert_true(n >= 0 && n <= su_comm_part(&c, count));
                assert_int_equal(first, n ? r * su_comm_part(&c, count) : first);
                assert_int_equal(first, next);
                next += n;
            }
            assert_int_equal(next, count);
        }
    int64_t first = 1;
    assert_int_equal(su_comm_share(NULL, 9, &first), 9);
    assert_int_equal(first, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_blocks_arrive),
        cmocka_unit_test(every_element_is_summed_by_the_rank_that_has_it),
        cmocka_unit_test(a_sum_that_is_begun_holds_nobody_up),
        cmocka_unit_test(numbers_are_summed_and_compared),
        cmocka_unit_test(a_failure_of_one_rank_is_that_of_all),
        cmocka_unit_test(host_memory_goes_through_the_device),
        cmocka_unit_test(items_are_divided_without_loss),
    };
    return ranks_main(tests, sizeof tests / sizeof *tests);
}
