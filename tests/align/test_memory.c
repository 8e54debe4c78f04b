/* Which level of activation checkpointing a training takes. */
#include "tests/align/golden.h"
#include "align/memory.h"
#include "base/memory.h"

static size_t free_bytes;

static size_t room(su_device *d)
{
    (void)d;
    return free_bytes;
}

/* 3,000 MB, 2,000 MB, 1,000 MB. */
static size_t plan(void *context, su_checkpointing level)
{
    ++*(int *)context;
    return (size_t)(3 - (int)level) * 1000000000;
}

static su_status choose(const char *name, double gigabytes, size_t taken, su_checkpointing *level,
                        su_error *err)
{
    su_device_ops ops = {.room = room};
    su_device d = {.ops = &ops};
    su_memory_limit limit = {.checkpointing = name, .gigabytes = gigabytes};
    int asked = 0;
    su_status st = su_memory_choose(&limit, &d, taken, plan, &asked, level, err);
    assert_true(st == SU_EINVAL || asked > 0);
    return st;
}

static void the_lowest_level_that_fits_is_taken(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        double gigabytes;
        size_t free, taken;
        su_checkpointing level;
    } cases[] = {
        {NULL, 0, SIZE_MAX, 0, SU_CHECKPOINTING_NONE},
        {NULL, 0, SIZE_MAX, 5, SU_CHECKPOINTING_NONE},
        {"auto", 0, 3000000000, 0, SU_CHECKPOINTING_NONE}, /* exactly */
        {"auto", 0, 2999999999, 0, SU_CHECKPOINTING_SELECTIVE},
        {"auto", 0, 2500000000, 500000000, SU_CHECKPOINTING_NONE}, /* some of it is there already */
        {"auto", 0, 1999999999, 0, SU_CHECKPOINTING_FULL},
        {"auto", 0, 5, 0, SU_CHECKPOINTING_FULL},        /* the device will tell */
        {"auto", 2.5, 1, 0, SU_CHECKPOINTING_SELECTIVE}, /* what is allowed counts, not what is free */
        {"auto", 1, SIZE_MAX, 9, SU_CHECKPOINTING_FULL},
        {"none", 0, 5, 0, SU_CHECKPOINTING_NONE},
        {"selective", 0, SIZE_MAX, 0, SU_CHECKPOINTING_SELECTIVE},
        {"full", 3, SIZE_MAX, 0, SU_CHECKPOINTING_FULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        su_checkpointing level;
        su_error err = {0};
        free_bytes = cases[i].free;
        ok(choose(cases[i].name, cases[i].gigabytes, cases[i].taken, &level, &err), &err);
        if (level != cases[i].level) fail_msg("case %zu: %s", i, su_checkpointing_names[level]);
    }
}

static void what_cannot_be_kept_is_refused_in_words(void **state)
{
    (void)state;
    su_checkpointing level;
    su_error err = {0};
    free_bytes = SIZE_MAX;
    assert_int_equal(choose(NULL, 0.9, 0, &level, &err), SU_ENOMEM);
    assert_string_equal(err.message,
                        "1000.0 MB are planned with --checkpointing full, more than --memory 0.9 (GB) "
                        "allows; a smaller --micro-batch needs less");
    assert_int_equal(choose("none", 2.9, 0, &level, &err), SU_ENOMEM);
    assert_non_null(strstr(err.message, "3000.0 MB are planned with --checkpointing none"));
    assert_int_equal(choose("light", 0, 0, &level, &err), SU_EINVAL);
    assert_non_null(strstr(err.message, "--checkpointing light: choose auto, none, selective or full"));
    assert_int_equal(choose("", 0, 0, &level, &err), SU_EINVAL);
}

static void the_cpu_knows_what_is_free(void **state)
{
    (void)state;
    check_cpu_only();
    su_device *d = check_device(SU_DTYPE_F32, 1);
    size_t available = su_memory_available(), left = d->ops->room(d);
    assert_true(available == SIZE_MAX ? left == SIZE_MAX : left > 0);
    if (available < SIZE_MAX) assert_true(left < 2 * available); /* others take and give meanwhile */
    su_device_close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_lowest_level_that_fits_is_taken),
        cmocka_unit_test(what_cannot_be_kept_is_refused_in_words),
        cmocka_unit_test(the_cpu_knows_what_is_free),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
