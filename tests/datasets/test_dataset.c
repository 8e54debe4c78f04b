/* The reader of packed datasets: what it gives, and what it refuses. */
#include "packed.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static const packed_sample five[] = {
    {"a", "g1", "train", "one", 1, 1}, {"b", "g1", "train", "two", 2, 1},  {"c", "g2", "val", "three", 3, 1},
    {"d", "g3", "test", "four", 4, 1}, {"e", "g4", "train", "five", 5, 1},
};

static void gives_records_and_pixels_in_order(void **state)
{
    (void)state;
    char *folder = packed_make(five, 5, NULL);
    su_dataset *ds = NULL;
    su_error err = {0};
    uint8_t pixels[PACKED_BYTES];
    assert_int_equal(su_dataset_open(folder, &ds, &err), SU_OK);
    assert_int_equal(su_dataset_count(ds), 5);
    assert_int_equal(su_dataset_streams(ds), 2);
    assert_string_equal(su_dataset_stream(ds, 0), "image");
    assert_string_equal(su_dataset_stream(ds, 1), "text");
    assert_int_equal(su_dataset_recipe(ds)->size, PACKED_SIZE);
    assert_int_equal(strlen(su_dataset_sha256(ds)), 64);
    for (int i = 0; i < 5; i++) {
        const su_record *r = su_dataset_record(ds, i);
        assert_string_equal(r->id, five[i].id);
        assert_string_equal(r->group, five[i].group);
        assert_string_equal(r->split, five[i].split);
        assert_string_equal(r->text, five[i].text);
        assert_string_equal(r->licence, "");
        packed_picture(five[i].picture, 1, pixels);
        assert_memory_equal(su_dataset_pixels(ds, 0, i), pixels, PACKED_BYTES);
    }
    su_dataset_close(ds);
    packed_remove(folder);
}

static void lists_a_split_and_names_those_there_are(void **state)
{
    (void)state;
    char *folder = packed_make(five, 5, NULL);
    su_dataset *ds = NULL;
    su_error err = {0};
    int64_t *items = NULL, count = 0;
    assert_int_equal(su_dataset_open(folder, &ds, &err), SU_OK);
    assert_int_equal(su_dataset_split(ds, "train", &items, &count, &err), SU_OK);
    assert_int_equal(count, 3);
    assert_int_equal(items[0], 0);
    assert_int_equal(items[1], 1);
    assert_int_equal(items[2], 4);
    su_free(items);
    assert_int_equal(su_dataset_split(ds, "all", &items, &count, &err), SU_OK);
    assert_int_equal(count, 5);
    su_free(items);
    assert_int_equal(su_dataset_split(ds, "dev", &items, &count, &err), SU_ENOTFOUND);
    assert_non_null(strstr(err.message, "train"));
    assert_non_null(strstr(err.message, "test"));
    su_dataset_close(ds);
    packed_remove(folder);
}

/* A change of the manifest, and a word of the complaint that must follow. */
static void expect_refusal(void (*change)(json_t *manifest), su_status status, const char *word)
{
    json_t *manifest = NULL;
    char *folder = packed_make(five, 5, &manifest), *path = packed_path(folder, "manifest.json");
    su_dataset *ds = NULL;
    su_error err = {0};
    change(manifest);
    assert_int_equal(su_json_write(path, manifest, NULL), SU_OK);
    assert_int_equal(su_dataset_open(folder, &ds, &err), status);
    assert_null(ds);
    if (!strstr(err.message, word)) fail_msg("'%s' does not say '%s'", err.message, word);
    json_decref(manifest);
    su_free(path);
    packed_remove(folder);
}

static json_t *shard_of(json_t *m, size_t i)
{
    return json_array_get(json_object_get(m, "shards"), i);
}

static void other_schema(json_t *m)
{
    json_object_set_new(m, "schema", json_string("suture.dataset/9"));
}
static void no_samples(json_t *m)
{
    json_object_del(m, "samples");
}
static void too_many_samples(json_t *m)
{
    json_object_set_new(m, "samples", json_integer(6));
}
static void zero_samples(json_t *m)
{
    json_object_set_new(m, "samples", json_integer(0));
}
static void huge_samples(json_t *m)
{
    json_object_set_new(m, "samples", json_integer(INT64_MAX));
}
static void text_not_last(json_t *m)
{
    json_object_set_new(m, "streams", json_pack("[s,s]", "text", "image"));
}
static void one_stream(json_t *m)
{
    json_object_set_new(m, "streams", json_pack("[s]", "text"));
}
static void twin_streams(json_t *m)
{
    json_object_set_new(m, "streams", json_pack("[s,s,s]", "image", "image", "text"));
}
static void other_size(json_t *m)
{
    json_object_set_new(json_object_get(m, "recipe"), "size", json_integer(64));
}
static void bad_size(json_t *m)
{
    json_object_set_new(json_object_get(m, "recipe"), "size", json_integer(1 << 20));
}
static void two_channels(json_t *m)
{
    json_object_set_new(json_object_get(m, "recipe"), "channels", json_integer(2));
}
static void other_resample(json_t *m)
{
    json_object_set_new(json_object_get(m, "recipe"), "resample", json_string("nearest/1"));
}
static void long_dicom_recipe(json_t *m)
{
    json_object_set_new(json_object_get(m, "recipe"), "dicom",
                        json_string("a-name-that-is-longer-than-a-recipe's/1"));
}
static void negative_spacing(json_t *m)
{
    json_object_set_new(json_object_get(m, "recipe"), "spacing", json_real(-1));
}
static void unknown_recipe_key(json_t *m)
{
    json_object_set_new(json_object_get(m, "recipe"), "colour", json_string("red"));
}
static void shard_too_long(json_t *m)
{
    json_object_set_new(shard_of(m, 0), "samples", json_integer(3));
}
static void shard_gone(json_t *m)
{
    json_array_remove(json_object_get(m, "shards"), 1);
}
static void shard_elsewhere(json_t *m)
{
    json_object_set_new(shard_of(m, 0), "file", json_string("../image-00000.safetensors"));
}
static void shard_missing(json_t *m)
{
    json_object_set_new(shard_of(m, 0), "file", json_string("none.safetensors"));
}
static void shard_of_nothing(json_t *m)
{
    json_object_set_new(shard_of(m, 0), "stream", json_string("video"));
}

static void refuses_a_manifest_that_does_not_fit(void **state)
{
    (void)state;
    expect_refusal(other_schema, SU_EUNSUPPORTED, "suture.dataset/9");
    expect_refusal(no_samples, SU_EFORMAT, "samples");
    expect_refusal(zero_samples, SU_EFORMAT, "samples");
    expect_refusal(huge_samples, SU_EFORMAT, "samples");
    expect_refusal(too_many_samples, SU_EFORMAT, "5 of 6");
    expect_refusal(text_not_last, SU_EFORMAT, "streams");
    expect_refusal(one_stream, SU_EFORMAT, "streams");
    expect_refusal(twin_streams, SU_EFORMAT, "0 of 5");
    expect_refusal(other_size, SU_EMISMATCH, "image-00000.safetensors");
    expect_refusal(bad_size, SU_EFORMAT, "size");
    expect_refusal(two_channels, SU_EFORMAT, "channels");
    expect_refusal(other_resample, SU_EUNSUPPORTED, "nearest/1");
    expect_refusal(long_dicom_recipe, SU_EFORMAT, "dicom");
    expect_refusal(negative_spacing, SU_EFORMAT, "spacing");
    expect_refusal(unknown_recipe_key, SU_EINVAL, "colour");
    expect_refusal(shard_too_long, SU_EMISMATCH, "image-00000.safetensors");
    expect_refusal(shard_gone, SU_EFORMAT, "2 of 5");
    expect_refusal(shard_elsewhere, SU_EFORMAT, "leaves the folder");
    expect_refusal(shard_missing, SU_ENOTFOUND, "none.safetensors");
    expect_refusal(shard_of_nothing, SU_EFORMAT, "video");
}

/* Writes `content` over a file of a good dataset; opening must fail and say `word`. */
static void expect_broken(const char *name, const char *content, const char *word)
{
    char *folder = packed_make(five, 5, NULL);
    su_dataset *ds = NULL;
    su_error err = {0};
    packed_write(folder, name, content);
    assert_int_not_equal(su_dataset_open(folder, &ds, &err), SU_OK);
    if (!strstr(err.message, word)) fail_msg("'%s' does not say '%s'", err.message, word);
    packed_remove(folder);
}

static void refuses_records_that_do_not_fit(void **state)
{
    (void)state;
    const char *line = "{\"id\":\"x\",\"split\":\"train\",\"text\":\"t\"}\n";
    char six[512] = "", four[512] = "";
    for (int i = 0; i < 6; i++) strcat(six, line);
    for (int i = 0; i < 4; i++) strcat(four, line);
    expect_broken("records.jsonl", six, "more records");
    expect_broken("records.jsonl", four, "4 records");
    expect_broken("records.jsonl", "{\"id\":\"x\",\"split\":\"train\"}\n", "text");
    expect_broken("records.jsonl", "{\"id\":7,\"split\":\"train\",\"text\":\"t\"}\n", "id");
    expect_broken("records.jsonl", "not JSON\n", "records.jsonl");
    expect_broken("records.jsonl", "", "0 records");
    expect_broken("image-00001.safetensors", "short", "image-00001.safetensors");
    expect_broken("manifest.json", "{", "manifest.json");
}

static void an_unfinished_folder_is_no_dataset(void **state)
{
    (void)state;
    char *folder = packed_make(five, 5, NULL), *path = packed_path(folder, "manifest.json");
    su_dataset *ds = NULL;
    su_error err = {0};
    unlink(path);
    assert_int_equal(su_dataset_open(folder, &ds, &err), SU_ENOTFOUND);
    assert_non_null(strstr(err.message, "did its import finish"));
    assert_int_equal(su_dataset_open("/no/such/folder", &ds, &err), SU_ENOTFOUND);
    su_free(path);
    packed_remove(folder);
}

static void verification_finds_a_changed_byte(void **state)
{
    (void)state;
    char *folder = packed_make(five, 5, NULL), *path = packed_path(folder, "image-00001.safetensors");
    su_dataset *ds = NULL;
    su_error err = {0};
    json_t *damaged = NULL;
    assert_int_equal(su_dataset_open(folder, &ds, &err), SU_OK);
    assert_int_equal(su_dataset_verify(ds, &damaged, &err), SU_OK);
    assert_int_equal(json_array_size(damaged), 0);
    json_decref(damaged);
    FILE *f = fopen(path, "r+b");
    fseek(f, -1, SEEK_END);
    int last = fgetc(f);
    fseek(f, -1, SEEK_END);
    fputc(last ^ 1, f);
    fclose(f);
    assert_int_equal(su_dataset_verify(ds, &damaged, &err), SU_OK);
    assert_int_equal(json_array_size(damaged), 1);
    assert_string_equal(json_string_value(json_object_get(json_array_get(damaged, 0), "file")),
                        "image-00001.safetensors");
    json_decref(damaged);
    su_dataset_close(ds);
    su_free(path);
    packed_remove(folder);
}

static void every_failed_allocation_is_reported(void **state)
{
    (void)state;
    char *folder = packed_make(five, 5, NULL);
    int failures = 0;
    for (int64_t n = 1;; n++) {
        su_dataset *ds = NULL;
        su_error err = {0};
        su_alloc_fail_after(n);
        su_status s = su_dataset_open(folder, &ds, &err);
        su_alloc_fail_after(0);
        if (s == SU_OK) {
            su_dataset_close(ds);
            break;
        }
        assert_int_equal(s, SU_ENOMEM);
        assert_null(ds);
        failures++;
    }
    assert_true(failures > 5);
    packed_remove(folder);
}

static void a_recipe_without_a_dicom_rendering_means_the_standard_one(void **state)
{
    (void)state;
    su_image_recipe old, same, other, spaced;
    json_t *o = json_pack("{s:i,s:i,s:s,s:s}", "size", 64, "channels", 1, "fit", "pad", "resample",
                          "bicubic-antialias/1");
    assert_int_equal(su_image_recipe_parse(o, "r", &old, NULL), SU_OK);
    assert_string_equal(su_image_recipe_dicom(&old), "dicom-standard/1");
    json_object_set_new(o, "dicom", json_string("dicom-standard/1"));
    assert_int_equal(su_image_recipe_parse(o, "r", &same, NULL), SU_OK);
    json_object_set_new(o, "dicom", json_string("ct-lung/1"));
    assert_int_equal(su_image_recipe_parse(o, "r", &other, NULL), SU_OK);
    json_object_set_new(o, "spacing", json_real(0.75));
    assert_int_equal(su_image_recipe_parse(o, "r", &spaced, NULL), SU_OK);
    json_decref(o);
    assert_true(su_image_recipe_equal(&old, &same));
    assert_true(su_image_recipe_equal(&old, &(su_image_recipe){.size = 64, .channels = 1}));
    assert_false(su_image_recipe_equal(&old, &other));
    assert_false(su_image_recipe_equal(&other, &spaced));
    su_image_recipe again;
    o = su_image_recipe_json(&spaced);
    assert_int_equal(su_image_recipe_parse(o, "r", &again, NULL), SU_OK);
    assert_true(su_image_recipe_equal(&spaced, &again));
    json_decref(o);
    char text[128];
    su_image_recipe_text(&spaced, text);
    assert_string_equal(text, "64 px, 1 channel, 0.75 mm a pixel, DICOM by ct-lung/1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_records_and_pixels_in_order),
        cmocka_unit_test(lists_a_split_and_names_those_there_are),
        cmocka_unit_test(refuses_a_manifest_that_does_not_fit),
        cmocka_unit_test(refuses_records_that_do_not_fit),
        cmocka_unit_test(an_unfinished_folder_is_no_dataset),
        cmocka_unit_test(verification_finds_a_changed_byte),
        cmocka_unit_test(every_failed_allocation_is_reported),
        cmocka_unit_test(a_recipe_without_a_dicom_rendering_means_the_standard_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
