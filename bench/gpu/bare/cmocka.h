/* As much of cmocka as tests/cuda/test_ops.c and test_captions.c use, for a machine without it: each test runs until its first failure. */
#ifndef SU_BENCH_GPU_CMOCKA_H
#define SU_BENCH_GPU_CMOCKA_H

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct CMUnitTest {
    const char *name;
    void (*run)(void **state);
};

static jmp_buf cmocka_end;

#define cmocka_unit_test(f) {#f, f}
#define print_message printf
#define fail_msg(...) (printf(__VA_ARGS__), printf("\n    %s:%d\n", __FILE__, __LINE__), longjmp(cmocka_end, 1))
#define skip() longjmp(cmocka_end, 2)
#define assert_true(x) ((x) ? (void)0 : fail_msg("not so: %s", #x))
#define assert_non_null(x) assert_true((x) != NULL)
#define assert_null(x) assert_true((x) == NULL)
#define assert_int_equal(a, b) assert_true((long long)(a) == (long long)(b))
#define assert_memory_equal(a, b, n) assert_true(memcmp(a, b, n) == 0)

static inline int cmocka_run(const struct CMUnitTest *tests, size_t count)
{
    volatile int failed = 0;
    for (size_t i = 0; i < count; i++) {
        int end = setjmp(cmocka_end);
        if (end == 0) tests[i].run(NULL);
        failed += end == 1;
        printf("[%s] %s\n", end == 0 ? "OK" : end == 1 ? "FAILED" : "SKIPPED", tests[i].name);
        fflush(stdout);
    }
    return failed;
}
#define _cmocka_run_group_tests(name, tests, count, setup, teardown) cmocka_run(tests, (size_t)(count))
#define cmocka_run_group_tests(tests, setup, teardown) cmocka_run(tests, sizeof(tests) / sizeof *(tests))

#endif
