/* The perceptual hash, the agreement of pictures, the search for near hashes, folding. */
#include "packed.h"
#include "datasets/fold.h"
#include "datasets/near.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static su_patch patch_of(const uint8_t *pixels)
{
    return (su_patch){pixels, PACKED_SIZE, PACKED_SIZE, 1, PACKED_SIZE};
}

static int hash_distance(const su_patch *a, const su_patch *b)
{
    uint64_t x = 0, y = 0;
    assert_true(su_phash(a, &x));
    assert_true(su_phash(b, &y));
    return __builtin_popcountll(x ^ y);
}

static void the_same_picture_larger_and_brighter_is_found(void **state)
{
    (void)state;
    enum { LARGE = 4 * PACKED_SIZE };
    static uint8_t small[PACKED_BYTES], bright[PACKED_BYTES], large[LARGE * LARGE * 3];
    for (uint64_t number = 1; number <= 50; number++) {
        packed_picture(number, 1, small);
        packed_picture(number, 1.2, bright);
        for (int y = 0; y < LARGE; y++)
            for (int x = 0; x < LARGE; x++)
                memset(large + (y * LARGE + x) * 3, small[y / 4 * PACKED_SIZE + x / 4], 3);
        su_patch a = patch_of(small), b = patch_of(bright), c = {large, LARGE, LARGE, 3, LARGE * 3};
        assert_in_range(hash_distance(&a, &b), 0, SU_PHASH_NEAR);
        assert_in_range(hash_distance(&a, &c), 0, 2);
        assert_true(su_picture_agreement(&a, &b) > SU_PICTURE_SAME);
        assert_true(su_picture_agreement(&a, &c) > 0.99);
    }
}

static void other_pictures_are_far(void **state)
{
    (void)state;
    static uint8_t pixels[PACKED_MAX][PACKED_BYTES];
    int total = 0, pairs = 0;
    for (int i = 0; i < PACKED_MAX; i++) packed_picture((uint64_t)i + 1, 1, pixels[i]);
    for (int i = 0; i < PACKED_MAX; i++)
        for (int j = 0; j < i; j++, pairs++) {
            su_patch a = patch_of(pixels[i]), b = patch_of(pixels[j]);
            total += hash_distance(&a, &b);
            assert_true(su_picture_agreement(&a, &b) < SU_PICTURE_SAME);
        }
    assert_in_range(total / pairs, 28, 36);
}

static void one_grey_level_has_no_hash(void **state)
{
    (void)state;
    uint8_t pixels[PACKED_BYTES] = {0};
    uint64_t hash = 7;
    su_patch patch = patch_of(pixels);
    memset(pixels, 200, sizeof pixels);
    pixels[5] = 202;
    assert_false(su_phash(&patch, &hash));
    assert_int_equal(hash, 0);
    assert_true(su_picture_agreement(&patch, &patch) >= 0);
}

static void padding_does_not_count(void **state)
{
    (void)state;
    /* A 64 x 16 picture in a 64 x 64 square: rows 24..39. What is around it may be anything. */
    enum { SIDE = 64 };
    static uint8_t dark[SIDE * SIDE], light[SIDE * SIDE];
    su_image_recipe recipe = {.size = SIDE, .channels = 1}, crop = {.size = SIDE, .channels = 1, .crop = true};
    memset(light, 255, sizeof light);
    for (int y = 24; y < 40; y++)
        for (int x = 0; x < SIDE; x++) dark[y * SIDE + x] = light[y * SIDE + x] = (uint8_t)(x * y * 7 % 251);
    su_patch a = su_patch_stored(dark, &recipe, 640, 160), b = su_patch_stored(light, &recipe, 640, 160);
    assert_int_equal(a.width, 64);
    assert_int_equal(a.height, 16);
    assert_ptr_equal(a.pixels, dark + 24 * SIDE);
    assert_int_equal(hash_distance(&a, &b), 0);
    a = su_patch_stored(dark, &recipe, 160, 640);
    assert_int_equal(a.width, 16);
    assert_ptr_equal(a.pixels, dark + 24);
    a = su_patch_stored(dark, &crop, 640, 160);
    assert_int_equal(a.height, 64);
    a = su_patch_stored(dark, &recipe, 60000, 1);
    uint64_t hash = 0;
    assert_int_equal(a.height, 1);
    su_phash(&a, &hash);
}

/* ---- near ---- */

typedef struct {
    int64_t a, b;
    int distance;
} found;

typedef struct {
    found items[20000];
    int count;
} found_list;

static void take(void *context, int64_t a, int64_t b, int distance)
{
    found_list *list = context;
    assert_true(list->count < 20000);
    list->items[list->count++] = (found){a, b, distance};
}

static int by_pair(const void *a, const void *b)
{
    const found *x = a, *y = b;
    if (x->a != y->a) return x->a < y->a ? -1 : 1;
    return (x->b > y->b) - (x->b < y->b);
}

static void near_pairs_are_those_of_brute_force(void **state)
{
    (void)state;
    enum { N = 900 };
    static uint64_t hashes[N];
    static found_list fast, slow;
    su_rng_key key = {.seed = 5};
    /* Families: a random hash, and others that differ in up to 13 of its bits. */
    for (int i = 0; i < N; i++) {
        uint32_t words[4];
        su_rng_block(key, (uint64_t)(i / 9), words);
        hashes[i] = (uint64_t)words[0] << 32 | words[1];
        for (int k = 0; k < i % 9 * 3 / 2; k++)
            hashes[i] ^= UINT64_C(1) << su_rng_below(key, (uint64_t)(1000000 + i * 64 + k), 64);
    }
    for (int distance = 0; distance <= 11; distance++) {
        fast.count = slow.count = 0;
        assert_int_equal(su_near_pairs(hashes, N, distance, take, &fast, NULL), SU_OK);
        for (int a = 0; a < N; a++)
            for (int b = a + 1; b < N; b++) {
                int d = __builtin_popcountll(hashes[a] ^ hashes[b]);
                if (d <= distance) take(&slow, a, b, d);
            }
        qsort(fast.items, (size_t)fast.count, sizeof *fast.items, by_pair);
        assert_int_equal(fast.count, slow.count);
        for (int i = 0; i < fast.count; i++) {
            assert_int_equal(fast.items[i].a, slow.items[i].a);
            assert_int_equal(fast.items[i].b, slow.items[i].b);
            assert_int_equal(fast.items[i].distance, slow.items[i].distance);
        }
    }
    assert_true(slow.count > 500);
    su_error err = {0};
    assert_int_equal(su_near_pairs(hashes, N, 12, take, &fast, &err), SU_EINVAL);
    assert_int_equal(su_near_pairs(hashes, 0, 8, take, &fast, &err), SU_OK);
}

/* ---- fold ---- */

static void expect_fold(const char *text, const char *expected)
{
    char *folded = NULL;
    assert_int_equal(su_text_fold(text, &folded, NULL), SU_OK);
    assert_string_equal(folded, expected);
    su_free(folded);
}

static void texts_fold_case_and_space(void **state)
{
    (void)state;
    expect_fold("Chest X-ray", "chest x-ray");
    expect_fold("  chest \t\n x-RAY ", "chest x-ray");
    expect_fold("chest\xc2\xa0x-ray", "chest x-ray");     /* no-break space */
    expect_fold("chest\xe2\x80\x83x-ray", "chest x-ray"); /* em space */
    expect_fold("R\xc3\x96NTGEN", "r\xc3\xb6ntgen");      /* composed */
    expect_fold("RO\xcc\x88NTGEN", "r\xc3\xb6ntgen");     /* decomposed */
    expect_fold("Stra\xc3\x9f"
                "e",
                "strasse");
    expect_fold(" \n", "");
    expect_fold("", "");
}

static void utf8_is_checked_strictly(void **state)
{
    (void)state;
    static const char *const bad[] = {"\xff",         "\xc0\x80",         "\xe2\x82",
                                      "\xed\xa0\x80", "\xf5\x80\x80\x80", "a\x80"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_false(su_utf8_valid(bad[i], strlen(bad[i])));
    assert_false(su_utf8_valid("a\0b", 3));
    assert_true(su_utf8_valid("\xf0\x9f\xa9\xbb \xe2\x82\xac \xc3\xa4 a", 13));
    assert_true(su_utf8_valid("", 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_picture_larger_and_brighter_is_found),
        cmocka_unit_test(other_pictures_are_far),
        cmocka_unit_test(one_grey_level_has_no_hash),
        cmocka_unit_test(padding_does_not_count),
        cmocka_unit_test(near_pairs_are_those_of_brute_force),
        cmocka_unit_test(texts_fold_case_and_space),
        cmocka_unit_test(utf8_is_checked_strictly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
