#include "base/checksum.h"
#include "tests/base/scratch.h"

static void crc32_gives_the_check_value(void **state)
{
    (void)state;
    assert_int_equal(su_crc32(0, "123456789", 9), 0xcbf43926);
    assert_int_equal(su_crc32(su_crc32(0, "1234", 4), "56789", 5), 0xcbf43926);
    assert_int_equal(su_crc32(7, NULL, 0), 7);
}

/* FIPS 180-4 examples. */
static void sha256_gives_the_published_digests(void **state)
{
    (void)state;
    char hex[SU_SHA256_HEX];
    su_sha256_hex("abc", 3, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    su_sha256_hex(NULL, 0, hex);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    su_sha256 *h = su_sha256_new();
    char block[1000];
    memset(block, 'a', sizeof block);
    for (int i = 0; i < 1000; i++) su_sha256_add(h, block, sizeof block);
    su_sha256_end(h, hex);
    assert_string_equal(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

static void a_file_has_the_digest_of_its_bytes(void **state)
{
    (void)state;
    char hex[SU_SHA256_HEX], expected[SU_SHA256_HEX];
    enum { N = 600001 }; /* more than two read blocks */
    char *bytes = su_alloc(N, 1);
    for (int i = 0; i < N; i++) bytes[i] = (char)(i * 7);
    put_bytes(at("file"), bytes, N);
    su_sha256_hex(bytes, N, expected);
    assert_int_equal(su_sha256_file(at("file"), hex, NULL), SU_OK);
    assert_string_equal(hex, expected);
    su_free(bytes);
    su_error err = {0};
    assert_int_equal(su_sha256_file(at("missing"), hex, &err), SU_ENOTFOUND);
    assert_contains(err.message, "missing");
    assert_int_equal(su_sha256_file(scratch, hex, &err), SU_EIO);
}

static void hash64_is_the_head_of_sha256(void **state)
{
    (void)state;
    assert_int_equal(su_hash64("abc", 3), 0xba7816bf8f01cfea);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc32_gives_the_check_value),
        cmocka_unit_test(sha256_gives_the_published_digests),
        cmocka_unit_test(a_file_has_the_digest_of_its_bytes),
        cmocka_unit_test(hash64_is_the_head_of_sha256),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
