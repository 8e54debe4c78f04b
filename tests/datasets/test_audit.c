/* The audit: every kind of leak is found, and nothing else is called one. */
#include "packed.h"
#include "datasets/audit.h"
#include "datasets/info.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static json_t *audit(const packed_sample *samples, int count, bool strict)
{
    char *folder = packed_make(samples, count, NULL);
    su_dataset *ds = NULL;
    json_t *report = NULL;
    su_error err = {0};
    if (su_dataset_open(folder, &ds, &err)) fail_msg("%s", err.message);
    if (su_audit(ds, &(su_audit_options){.strict = strict, .threads = 2}, &report, &err))
        fail_msg("%s", err.message);
    su_dataset_close(ds);
    packed_remove(folder);
    return report;
}

static json_t *at(const json_t *report, const char *check, const char *key)
{
    return json_object_get(json_object_get(report, check), key);
}

static void expect(const json_t *report, const char *check, int across, int within, bool leak)
{
    if (json_integer_value(at(report, check, "across")) != across ||
        json_integer_value(at(report, check, "within")) != within ||
        json_is_true(at(report, check, "leak")) != leak)
        fail_msg("%s: across %lld, within %lld, leak %d", check,
                 (long long)json_integer_value(at(report, check, "across")),
                 (long long)json_integer_value(at(report, check, "within")),
                 json_is_true(at(report, check, "leak")));
}

static void a_clean_dataset_is_clean(void **state)
{
    (void)state;
    static const packed_sample samples[] = {
        {"a", "g1", "train", "one", 1, 1},
        {"b", "g1", "train", "two", 2, 1},
        {"c", "g2", "val", "three", 3, 1},
        {"d", "g3", "test", "four", 4, 1},
    };
    json_t *report = audit(samples, 4, true);
    expect(report, "groups", 0, 0, false);
    expect(report, "identical_images", 0, 0, false);
    expect(report, "near_images", 0, 0, false);
    expect(report, "identical_texts", 0, 0, false);
    assert_true(json_is_false(json_object_get(report, "leak")));
    assert_true(json_is_false(json_object_get(report, "damage")));
    assert_string_equal(json_string_value(json_object_get(report, "schema")), "suture.data.audit/1");
    assert_int_equal(json_integer_value(at(report, "groups", "count")), 3);
    json_decref(report);
}

static void a_group_in_two_splits_is_a_leak(void **state)
{
    (void)state;
    static const packed_sample samples[] = {
        {"a", "g1", "train", "one", 1, 1},  {"b", "g1", "test", "two", 2, 1},
        {"c", "g2", "test", "three", 3, 1}, {"d", "g3", "val", "four", 4, 1},
        {"e", "g3", "test", "five", 5, 1},  {"f", "g4", "test", "six", 6, 1},
        {"g", "", "train", "seven", 7, 1},  {"h", "", "test", "eight", 8, 1},
    };
    json_t *report = audit(samples, 8, false);
    expect(report, "groups", 2, 0, true);
    assert_true(json_is_true(json_object_get(report, "leak")));
    assert_int_equal(json_integer_value(json_object_get(at(report, "groups", "samples"), "test")), 2);
    assert_int_equal(json_integer_value(json_object_get(at(report, "groups", "train_samples"), "test")), 1);
    assert_null(json_object_get(at(report, "groups", "train_samples"), "train"));
    assert_true(fabs(json_real_value(json_object_get(at(report, "groups", "share"), "test")) - 2.0 / 5) <
                1e-12);
    assert_true(fabs(json_real_value(json_object_get(at(report, "groups", "train_share"), "test")) -
                     1.0 / 5) < 1e-12);
    assert_int_equal(json_array_size(at(report, "groups", "items")), 2);
    json_decref(report);
}

static void the_same_image_in_two_splits_is_a_leak(void **state)
{
    (void)state;
    static const packed_sample samples[] = {
        {"a", "g1", "train", "one", 1, 1},   {"b", "g2", "test", "two", 1, 1},
        {"c", "g3", "train", "three", 3, 1}, {"d", "g4", "train", "four", 3, 1},
        {"e", "g5", "test", "five", 5, 1},
    };
    json_t *report = audit(samples, 5, false);
    expect(report, "identical_images", 1, 1, true);
    expect(report, "near_images", 0, 0, false);
    assert_int_equal(json_integer_value(json_object_get(at(report, "identical_images", "samples"), "train")),
                     1);
    json_decref(report);
}

static void nearly_the_same_image_in_two_splits_is_a_leak(void **state)
{
    (void)state;
    /* Picture 1 is in train twice, pixel for pixel, and brightened in test: one near pair for the content. */
    static const packed_sample samples[] = {
        {"a", "g1", "train", "one", 1, 1},     {"b", "g2", "train", "two", 1, 1},
        {"c", "g3", "test", "three", 1, 1.1},  {"d", "g4", "train", "four", 2, 1},
        {"e", "g5", "train", "five", 2, 1.15}, {"f", "g6", "test", "six", 3, 1},
    };
    json_t *report = audit(samples, 6, false);
    expect(report, "identical_images", 0, 1, false);
    expect(report, "near_images", 1, 1, true);
    const json_t *pair = json_array_get(at(report, "near_images", "pairs"), 0);
    assert_true(json_is_true(json_object_get(pair, "across")));
    assert_string_equal(json_string_value(json_object_get(json_object_get(pair, "a"), "id")), "a");
    assert_string_equal(json_string_value(json_object_get(json_object_get(pair, "b"), "id")), "c");
    assert_true(json_real_value(json_object_get(pair, "agreement")) > SU_PICTURE_SAME);
    json_decref(report);
}

static void a_copy_does_not_hide_a_near_image_in_another_split(void **state)
{
    (void)state;
    /* One content in test and train: its brightened form in val is near both. */
    static const packed_sample samples[] = {
        {"a", "g1", "val", "one", 1, 1.1},
        {"b", "g2", "test", "two", 1, 1},
        {"c", "g3", "train", "three", 1, 1},
    };
    json_t *report = audit(samples, 3, false);
    expect(report, "near_images", 2, 0, true);
    json_decref(report);
}

static void the_same_text_is_a_note_and_a_leak_when_strict(void **state)
{
    (void)state;
    static const packed_sample samples[] = {
        {"a", "g1", "train", "Chest  X-ray", 1, 1},
        {"b", "g2", "test", "chest x-ray ", 2, 1},
        {"c", "g3", "train", "Other", 3, 1},
        {"d", "g4", "train", "other", 4, 1},
    };
    json_t *report = audit(samples, 4, false);
    expect(report, "identical_texts", 1, 1, false);
    assert_true(json_is_false(json_object_get(report, "leak")));
    json_decref(report);
    report = audit(samples, 4, true);
    expect(report, "identical_texts", 1, 1, true);
    assert_true(json_is_true(json_object_get(report, "leak")));
    json_decref(report);
}

static void empty_items_are_listed_and_blank_images_are_not_near(void **state)
{
    (void)state;
    static const packed_sample samples[] = {
        {"a", "g1", "train", " \xc2\xa0", 1, 1},
        {"b", "g2", "train", "two", 0, 1},
        {"c", "g3", "test", "three", 0, 1.01},
    };
    json_t *report = audit(samples, 3, false);
    assert_int_equal(json_integer_value(at(report, "empty", "texts")), 1);
    assert_int_equal(json_integer_value(at(report, "empty", "images")), 2);
    expect(report, "near_images", 0, 0, false);
    json_decref(report);
}

static void damage_is_found(void **state)
{
    (void)state;
    static const packed_sample samples[] = {{"a", "g1", "train", "one", 1, 1},
                                            {"b", "g2", "test", "two", 2, 1}};
    char *folder = packed_make(samples, 2, NULL);
    su_dataset *ds = NULL;
    json_t *report = NULL;
    packed_write(folder, "skipped.jsonl", "{}\n");
    assert_int_equal(su_dataset_open(folder, &ds, NULL), SU_OK);
    assert_int_equal(su_audit(ds, &(su_audit_options){.threads = 1}, &report, NULL), SU_OK);
    assert_true(json_is_true(json_object_get(report, "damage")));
    assert_int_equal(json_array_size(json_object_get(report, "damaged")), 1);
    json_decref(report);
    su_dataset_close(ds);
    packed_remove(folder);
}

static void info_counts(void **state)
{
    (void)state;
    static const packed_sample samples[] = {
        {"a", "g1", "train", "one two three", 1, 1},
        {"b", "g1", "train", "one", 2, 1},
        {"c", "g2", "train", "a b", 3, 1},
        {"d", "g2", "test", "a  b c d", 4, 1},
        {"e", "g3", "test", "x", 5, 1},
    };
    char *folder = packed_make(samples, 5, NULL);
    su_dataset *ds = NULL;
    json_t *info = NULL;
    assert_int_equal(su_dataset_open(folder, &ds, NULL), SU_OK);
    assert_int_equal(su_dataset_info(ds, &info, NULL), SU_OK);
    assert_int_equal(json_integer_value(json_object_get(info, "groups")), 3);
    const json_t *train = json_object_get(json_object_get(info, "splits"), "train");
    assert_int_equal(json_integer_value(json_object_get(train, "samples")), 3);
    assert_int_equal(json_integer_value(json_object_get(train, "groups")), 2);
    const json_t *words = json_object_get(json_object_get(info, "text"), "words");
    assert_int_equal(json_integer_value(json_object_get(words, "min")), 1);
    assert_int_equal(json_integer_value(json_object_get(words, "p50")), 2);
    assert_int_equal(json_integer_value(json_object_get(words, "max")), 4);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(info, "licences"), "unknown")), 5);
    json_decref(info);
    su_dataset_close(ds);
    packed_remove(folder);
}

static void every_failed_allocation_is_reported(void **state)
{
    (void)state;
    static const packed_sample samples[] = {{"a", "g1", "train", "one", 1, 1},
                                            {"b", "g2", "test", "one", 1, 1.1},
                                            {"c", "g2", "val", "two", 1, 1}};
    char *folder = packed_make(samples, 3, NULL);
    su_dataset *ds = NULL;
    int failures = 0;
    assert_int_equal(su_dataset_open(folder, &ds, NULL), SU_OK);
    for (int64_t n = 1;; n++) {
        json_t *report = NULL;
        su_error err = {0};
        su_alloc_fail_after(n);
        su_status s = su_audit(ds, &(su_audit_options){.threads = 1}, &report, &err);
        su_alloc_fail_after(0);
        /* A file that could not be hashed for want of memory is listed as damaged: then the audit goes on. */
        bool whole = s == SU_OK && json_array_size(json_object_get(report, "damaged")) == 0;
        json_decref(report);
        if (whole) break;
        if (s) assert_int_equal(s, SU_ENOMEM);
        failures++;
    }
    assert_true(failures > 5);
    su_dataset_close(ds);
    packed_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_clean_dataset_is_clean),
        cmocka_unit_test(a_group_in_two_splits_is_a_leak),
        cmocka_unit_test(the_same_image_in_two_splits_is_a_leak),
        cmocka_unit_test(nearly_the_same_image_in_two_splits_is_a_leak),
        cmocka_unit_test(a_copy_does_not_hide_a_near_image_in_another_split),
        cmocka_unit_test(the_same_text_is_a_note_and_a_leak_when_strict),
        cmocka_unit_test(empty_items_are_listed_and_blank_images_are_not_near),
        cmocka_unit_test(damage_is_found),
        cmocka_unit_test(info_counts),
        cmocka_unit_test(every_failed_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
