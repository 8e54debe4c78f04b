/* The control group's files are parsed by static functions, so the source itself is included. */
#include "base/cpu.c"
#include "tests/base/scratch.h"
#include <sys/stat.h>

static void the_affinity_mask_is_respected(void **state)
{
    (void)state;
    cpu_set_t kept, one;
    assert_int_equal(sched_getaffinity(0, sizeof kept, &kept), 0);
    assert_int_equal(affinity_cores(), CPU_COUNT(&kept));
    assert_in_range(su_cpu_count(), 1, CPU_COUNT(&kept));
    int first = 0;
    while (!CPU_ISSET(first, &kept)) first++;
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    assert_int_equal(su_cpu_count(), 1);
    assert_int_equal(sched_setaffinity(0, sizeof kept, &kept), 0);
}

static int quota(const char *text)
{
    put_text(at("cpu.max"), text);
    return quota_cores(at("cpu.max"));
}

static void a_started_core_of_the_quota_counts(void **state)
{
    (void)state;
    assert_int_equal(quota("200000 100000\n"), 2);
    assert_int_equal(quota("150000 100000\n"), 2);
    assert_int_equal(quota("10000 100000\n"), 1);
    assert_int_equal(quota("max 100000\n"), INT_MAX);
    assert_int_equal(quota(""), INT_MAX);
    assert_int_equal(quota("-1 100000\n"), INT_MAX);
    assert_int_equal(quota("5 0\n"), INT_MAX);
    assert_int_equal(quota_cores(at("missing")), INT_MAX);
}

static void the_smallest_quota_on_the_way_up_counts(void **state)
{
    (void)state;
    mkdir(at("a"), 0777);
    mkdir(at("a/b"), 0777);
    put_text(at("cpu.max"), "800000 100000\n");
    put_text(at("a/cpu.max"), "300000 100000\n");
    put_text(at("a/b/cpu.max"), "max 100000\n");
    put_text(at("membership"), "12:cpu:/other\n0::/a/b\n");
    assert_int_equal(group_cores(at("membership"), scratch), 3);
    put_text(at("membership"), "0::/\n");
    assert_int_equal(group_cores(at("membership"), scratch), 8);
    assert_int_equal(group_cores(at("missing"), scratch), INT_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_affinity_mask_is_respected),
        cmocka_unit_test(a_started_core_of_the_quota_counts),
        cmocka_unit_test(the_smallest_quota_on_the_way_up_counts),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
