#include "tests/base/scratch.h"

static void a_product_that_overflows_is_refused(void **state)
{
    (void)state;
    size_t half = (size_t)1 << 33;
    assert_null(su_alloc(half, half));
    assert_null(su_calloc(half, half));
    assert_null(su_alloc_aligned(half, half));
    assert_null(su_alloc(SIZE_MAX, 1));
    assert_null(su_alloc_aligned(SIZE_MAX - 3, 1));
    char *p = su_alloc(4, 1);
    memcpy(p, "abc", 4);
    assert_null(su_realloc(p, half, half));
    assert_string_equal(p, "abc");
    su_free(p);
    su_free(NULL);
}

static void an_empty_array_is_not_null(void **state)
{
    (void)state;
    void *p[4] = {su_alloc(0, 8), su_calloc(8, 0), su_alloc_aligned(0, 0), su_realloc(NULL, 0, 4)};
    for (int i = 0; i < 4; i++) {
        assert_non_null(p[i]);
        su_free(p[i]);
    }
}

static void aligned_memory_is_aligned(void **state)
{
    (void)state;
    for (size_t n = 1; n < 300; n += 7) {
        char *p = su_alloc_aligned(n, 3);
        assert_int_equal((uintptr_t)p % SU_ALIGN, 0);
        memset(p, 1, 3 * n);
        su_free(p);
    }
}

static void the_nth_allocation_and_all_later_ones_fail(void **state)
{
    (void)state;
    su_alloc_fail_after(3);
    void *a = su_alloc(1, 1), *b = su_strdup("b"), *c = su_calloc(1, 1), *d = su_alloc_aligned(1, 1);
    su_alloc_fail_after(0);
    void *e = su_alloc(1, 1);
    assert_non_null(a);
    assert_non_null(b);
    assert_null(c);
    assert_null(d);
    assert_non_null(e);
    su_free(a);
    su_free(b);
    su_free(e);
}

static void strndup_stops_at_the_length_or_the_end(void **state)
{
    (void)state;
    char *a = su_strndup("abcdef", 3), *b = su_strndup("ab", 100);
    assert_string_equal(a, "abc");
    assert_string_equal(b, "ab");
    su_free(a);
    su_free(b);
}

static void a_buffer_grows_to_its_maximum_and_no_further(void **state)
{
    (void)state;
    su_buffer b;
    su_error err = {0};
    su_buffer_init(&b, 1000);
    assert_string_equal(b.data, "");
    for (int i = 0; i < 1000; i++) assert_int_equal(su_buffer_add(&b, "x", 1, &err), SU_OK);
    assert_int_equal(su_buffer_add(&b, "y", 1, &err), SU_ELIMIT);
    assert_int_equal(su_buffer_printf(&b, &err, "%d", 1), SU_ELIMIT);
    assert_int_equal(b.length, 1000);
    assert_int_equal(strlen(b.data), 1000);
    assert_true(b.capacity <= 1001);
    su_buffer_clear(&b);
    assert_string_equal(b.data, "");
    assert_int_equal(su_buffer_printf(&b, &err, "%s-%d", "a", 7), SU_OK);
    assert_string_equal(b.data, "a-7");
    su_buffer_free(&b);
    assert_string_equal(b.data, "");
    assert_int_equal(su_buffer_add(&b, NULL, 0, &err), SU_OK);
    assert_int_equal(su_buffer_add(&b, "again", 5, &err), SU_OK);
    assert_string_equal(b.data, "again");
    su_buffer_free(&b);
}

static void a_failed_append_leaves_the_buffer_usable(void **state)
{
    (void)state;
    su_buffer b;
    su_error err = {0};
    su_buffer_init(&b, SIZE_MAX);
    char big[200];
    memset(big, 'z', sizeof big);
    su_buffer_add(&b, "kept", 4, &err);
    su_alloc_fail_after(1);
    su_status st = su_buffer_add(&b, big, sizeof big, &err);
    su_alloc_fail_after(0);
    assert_int_equal(st, SU_ENOMEM);
    assert_string_equal(b.data, "kept");
    assert_int_equal(su_buffer_add(&b, big, sizeof big, &err), SU_OK);
    assert_int_equal(b.length, 204);
    su_buffer_free(&b);
}

/* Takes pieces as a model's plan does, with a loop whose scratch memory is released. */
static bool take_pieces(su_arena *a, char *pieces[4])
{
    pieces[0] = su_arena_take(a, 10, 4);
    size_t mark = su_arena_mark(a);
    pieces[1] = su_arena_take(a, 1000, 8);
    su_arena_release(a, mark);
    pieces[2] = su_arena_take(a, 3, 1);
    pieces[3] = su_arena_take(a, 65, 1);
    return !a->overflow;
}

static void the_measuring_pass_plans_what_the_real_pass_needs(void **state)
{
    (void)state;
    su_arena plan, real;
    char *pieces[4];
    su_arena_measure(&plan);
    assert_true(take_pieces(&plan, pieces));
    assert_null(pieces[0]);
    assert_int_equal(plan.peak, 64 + 8000);
    char *base = su_alloc_aligned(plan.peak, 1);
    su_arena_init(&real, base, plan.peak);
    assert_true(take_pieces(&real, pieces));
    assert_int_equal(real.peak, plan.peak);
    assert_int_equal(real.used, plan.used);
    assert_ptr_equal(pieces[0], base);
    assert_ptr_equal(pieces[1], base + 64);
    assert_ptr_equal(pieces[2], base + 64); /* the released piece's place */
    assert_ptr_equal(pieces[3], base + 128);
    su_arena_init(&real, base, plan.peak - 1);
    assert_false(take_pieces(&real, pieces));
    assert_null(pieces[1]);
    su_free(base);
}

static void an_arena_notices_a_size_that_overflows(void **state)
{
    (void)state;
    su_arena a;
    su_arena_measure(&a);
    su_arena_take(&a, SIZE_MAX / 2, 3);
    assert_true(a.overflow);
    su_arena_measure(&a);
    for (int i = 0; i < 3; i++) su_arena_take(&a, PTRDIFF_MAX, 1);
    assert_true(a.overflow);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_product_that_overflows_is_refused),
        cmocka_unit_test(an_empty_array_is_not_null),
        cmocka_unit_test(aligned_memory_is_aligned),
        cmocka_unit_test(the_nth_allocation_and_all_later_ones_fail),
        cmocka_unit_test(strndup_stops_at_the_length_or_the_end),
        cmocka_unit_test(a_buffer_grows_to_its_maximum_and_no_further),
        cmocka_unit_test(a_failed_append_leaves_the_buffer_usable),
        cmocka_unit_test(the_measuring_pass_plans_what_the_real_pass_needs),
        cmocka_unit_test(an_arena_notices_a_size_that_overflows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
