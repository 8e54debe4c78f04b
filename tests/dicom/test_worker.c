/* Worker processes, against a program that misbehaves on demand (fake_decode.c). argv[1]: that program,
 * argv[2]: the real one, argv[3]: "full" or "". */
#include "dicom/worker.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *fake, *real;
static uint8_t data[4096], out[4096];

static su_status decode(int what, uint64_t bytes, su_error *err)
{
    const su_codec_job job = {.codec = SU_CODEC_JPEG_LS,
                              .rows = what,
                              .columns = 16,
                              .samples = 1,
                              .bytes = 1,
                              .precision = 8,
                              .length = 100,
                              .frame_bytes = bytes};
    return su_worker_decode(&job, data, out, "folder/a.dcm", err);
}

static void assert_decodes(void)
{
    su_error err = {0};
    memset(out, 0, sizeof out);
    assert_int_equal(decode(1, 4096, &err), SU_OK);
    assert_int_equal(out[0], 7);
    assert_int_equal(out[4095], 7);
}

static void assert_fails(int what, su_status code, const char *words)
{
    su_error err = {0};
    assert_int_equal(decode(what, 4096, &err), code);
    assert_non_null(strstr(err.message, "folder/a.dcm: "));
    if (!strstr(err.message, words)) fail_msg("\"%s\" does not say \"%s\"", err.message, words);
    assert_decodes();
}

static int with_fake(void **state)
{
    (void)state;
    return setenv("SUTURE_DECODE", fake, 1);
}

static int close_workers(void **state)
{
    (void)state;
    su_workers_close();
    return 0;
}

static void a_crash_costs_one_frame(void **state)
{
    (void)state;
    assert_decodes();
    assert_fails(2, SU_EFORMAT, "its decoder crashed (Aborted)");
    assert_fails(3, SU_EFORMAT, "ended without an answer");
    assert_fails(7, SU_EFORMAT, "ended without an answer");
}

static void a_refusal_is_passed_on_with_the_files_name(void **state)
{
    (void)state;
    assert_fails(6, SU_EFORMAT, "folder/a.dcm: xxx");
}

static void memory_is_limited(void **state)
{
    (void)state;
#ifdef __SANITIZE_ADDRESS__
    skip(); /* which maps terabytes */
#else
    assert_fails(4, SU_ELIMIT, "needs more memory to decode than a picture of its size may");
#endif
}

static void processor_time_is_limited(void **state)
{
    (void)state;
    assert_fails(5, SU_ELIMIT, "given up after 10 s of processor time");
}

/* A frame of 1 GiB in 16 bits: 10 s and 32 for its values, and more for code that is as long. What is mapped
 * may stand in it twice. */
static void limits_follow_values_and_code(void **state)
{
    (void)state;
    for (uint64_t length = 1; length <= (uint64_t)64 << 20; length += ((uint64_t)64 << 20) - 1) {
        su_error err = {0};
        unsigned long long seconds = 0, mib = 0;
        uint8_t *code = calloc(length, 1);
        const su_codec_job job = {.rows = 8,
                                  .columns = 1 << 26,
                                  .samples = 1,
                                  .bytes = 2,
                                  .length = length,
                                  .frame_bytes = (uint64_t)1 << 30};
        su_workers_close();
        assert_int_equal(su_worker_decode(&job, code, out, "a", &err), SU_EFORMAT);
        free(code);
        assert_int_equal(sscanf(err.message, "a: %llu s %llu MiB", &seconds, &mib), 2);
        assert_in_range(seconds, length > 1 ? 170 : 42, length > 1 ? 172 : 44);
#ifndef __SANITIZE_ADDRESS__
        const uint64_t least = 512 + 2 * 1024 + 8 * 512 + 6 * (length >> 20);
        assert_in_range(mib, least, least + 3);
#endif
    }
}

static void shared_memory_grows_with_the_frames(void **state)
{
    (void)state;
    su_error err = {0};
    assert_int_equal(decode(1, 16, &err), SU_OK);
    const uint64_t large = 3 << 20;
    uint8_t *pixels = malloc(large);
    const su_codec_job job = {.rows = 1, .columns = 1, .samples = 1, .length = 1, .frame_bytes = large};
    assert_int_equal(su_worker_decode(&job, data, pixels, "a", &err), SU_OK);
    assert_int_equal(pixels[large - 1], 7);
    free(pixels);
    assert_decodes();
}

static void *decode_often(void *failed)
{
    uint8_t mine[64];
    su_error err = {0};
    for (int i = 0; i < 50; i++) {
        const su_codec_job job = {
            .rows = i % 10 == 9 ? 2 : 1, .columns = 1, .samples = 1, .length = 1, .frame_bytes = 64};
        memset(mine, 0, sizeof mine);
        const su_status st = su_worker_decode(&job, data, mine, "a", &err);
        if (st != (job.rows == 2 ? SU_EFORMAT : SU_OK) || (!st && mine[63] != 7)) *(int *)failed = 1;
    }
    return NULL;
}

static void threads_have_workers_of_their_own(void **state)
{
    (void)state;
    pthread_t thread[4];
    int failed[4] = {0};
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, decode_often, &failed[i]), 0);
    for (int i = 0; i < 4; i++) pthread_join(thread[i], NULL);
    for (int i = 0; i < 4; i++) assert_int_equal(failed[i], 0);
}

static void without_the_program_the_message_says_where_it_was_looked_for(void **state)
{
    (void)state;
    su_error err = {0};
    su_workers_close();
    unsetenv("SUTURE_DECODE");
    assert_int_equal(decode(1, 16, &err), SU_ENOTFOUND);
    assert_non_null(strstr(err.message, "suture-decode"));
    assert_non_null(strstr(err.message, "SUTURE_DECODE"));
    setenv("SUTURE_DECODE", "/nowhere/suture-decode", 1);
    assert_int_equal(decode(1, 16, &err), SU_EIO);
    assert_non_null(strstr(err.message, "/nowhere/suture-decode"));
}

static void the_real_one_holds_its_limits_and_refuses_noise(void **state)
{
    (void)state;
    su_error err = {0};
    su_workers_close();
    setenv("SUTURE_DECODE", real, 1);
    const char *missing = su_worker_limits(&err);
    if (!missing) fail_msg("%s", err.message);
    if (missing[0]) print_message("not in force here: %s\n", missing);
    const su_codec codecs[] = {SU_CODEC_JPEG, SU_CODEC_JPEG_LS, SU_CODEC_JPEG_2000};
    for (int k = 0; k < 3; k++) {
        const su_codec_job job = {.codec = codecs[k],
                                  .rows = 16,
                                  .columns = 16,
                                  .samples = 1,
                                  .bytes = 2,
                                  .precision = 12,
                                  .length = 101,
                                  .frame_bytes = 512};
        for (int i = 0; i < 101; i++) data[i] = (uint8_t)(i * 37 + k);
        const su_status st = su_worker_decode(&job, data, out, "a", &err);
        if (st != SU_EFORMAT) fail_msg("%s: %d %s", su_codec_name(codecs[k]), st, err.message);
    }
}

int main(int argc, char **argv)
{
    if (argc < 3) return 2;
    fake = argv[1];
    real = argv[2];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_crash_costs_one_frame),
        cmocka_unit_test(a_refusal_is_passed_on_with_the_files_name),
        cmocka_unit_test(memory_is_limited),
        cmocka_unit_test(limits_follow_values_and_code),
        cmocka_unit_test(shared_memory_grows_with_the_frames),
        cmocka_unit_test(threads_have_workers_of_their_own),
        cmocka_unit_test(without_the_program_the_message_says_where_it_was_looked_for),
        cmocka_unit_test(the_real_one_holds_its_limits_and_refuses_noise),
    };
    const struct CMUnitTest slow[] = {cmocka_unit_test(processor_time_is_limited)};
    const int failed = cmocka_run_group_tests(tests, with_fake, close_workers);
    return failed || argc < 4 || strcmp(argv[3], "full") != 0
               ? failed
               : cmocka_run_group_tests(slow, with_fake, close_workers);
}
