/* The model as a folder and as an encoder. */
#include "tests/align/models.h"
#include "tests/base/scratch.h"
#include "base/file.h"
#include "base/json.h"

static const char *const texts[] = {
    "chest x ray", "a large left effusion, no nodule", "", "ct of the right upper lobe mass",
    "small small small small small small small small small small small small"};
enum { TEXTS = 5, IMAGES = 7 };

static void embed(su_model *m, float *z)
{
    su_error err = {0};
    int32_t width = su_model_width(m);
    su_step_batch b = random_batch(&m->config, IMAGES, 4);
    int image = su_model_stream_of(m, SU_TOWER_VIT), text = su_model_stream_of(m, SU_TOWER_BERT);
    ok(su_model_encode_images(m, image, b.images[image], IMAGES, z, &err), &err);
    ok(su_model_encode_texts(m, text, texts, TEXTS, z + IMAGES * width, &err), &err);
}

static void saved_and_opened_it_gives_the_same_bits(void **state)
{
    (void)state;
    for (int streams = 2; streams <= 3; streams++) {
        su_device *d = check_device(SU_DTYPE_F32, 2);
        su_model_config c = golden_config(streams);
        c.recipe = (su_image_recipe){.size = 32, .channels = 1};
        su_model *m = new_model(&c, d, true, 7), *opened = NULL;
        float before[(IMAGES + TEXTS) * 16], after[(IMAGES + TEXTS) * 16];
        su_error err = {0};
        double s = 3.25;
        ok(su_params_set(&m->params, m->logit_scale, &s, &err), &err);
        ok(su_model_save(m, at("model"), &err), &err);
        embed(m, before);
        ok(su_model_open(at("model"), d, false, &opened, &err), &err);
        embed(opened, after);
        assert_memory_equal(before, after, sizeof before);
        double tau = 0;
        ok(su_model_temperature(opened, &tau, &err), &err);
        assert_true(fabs(tau - exp(-3.25)) < 1e-9);
        assert_int_equal(strlen(opened->sha256), 64);
        json_t *a = su_model_config_json(&m->config), *b = su_model_config_json(&opened->config);
        assert_true(json_equal(a, b));
        json_decref(a);
        json_decref(b);
        assert_null(opened->params.grad);
        su_model_free(opened);
        ok(su_model_open(at("model"), d, true, &opened, &err), &err); /* to go on training */
        assert_non_null(opened->params.grad);
        embed(opened, after);
        assert_memory_equal(before, after, sizeof before);
        su_model_free(opened);
        su_model_free(m);
        su_device_close(d);
        check_free_all();
    }
}

static void embeddings_are_unit_and_hardly_depend_on_how_a_batch_is_cut(void **state)
{
    (void)state;
    su_device *d = check_device(SU_DTYPE_F32, 1);
    su_model_config c = golden_config(2);
    su_model *m = new_model(&c, d, false, 7);
    enum { N = 150 }; /* more than two calls of 64 */
    su_error err = {0};
    su_step_batch b = random_batch(&c, N, 4);
    float *whole = check_alloc(N * 16, sizeof *whole), *cut = check_alloc(N * 16, sizeof *cut);
    ok(su_model_encode_images(m, 0, b.images[0], N, whole, &err), &err);
    ok(su_model_plan(m, 7, false, NULL, &err), &err);
    ok(su_model_encode_images(m, 0, b.images[0], N, cut, &err), &err);
    double scale = 0;
    for (int i = 0; i < N * 16; i++) scale = fmax(scale, fabs((double)whole[i] - (double)cut[i]));
    assert_true(scale <= su_tolerance("nn.f32.sum"));
    ok(su_model_encode_ids(m, 1, b.ids[1], b.lengths[1], N, cut, &err), &err);
    for (int i = 0; i < N; i++) {
        double x = 0, y = 0;
        for (int j = 0; j < 16; j++) {
            x += (double)whole[i * 16 + j] * (double)whole[i * 16 + j];
            y += (double)cut[i * 16 + j] * (double)cut[i * 16 + j];
        }
        assert_true(fabs(x - 1) < 1e-5 && fabs(y - 1) < 1e-5);
    }
    assert_int_equal(su_model_encode_images(m, 1, b.images[0], 1, cut, &err), SU_EINVAL);
    assert_int_equal(su_model_encode_texts(m, 0, texts, 1, cut, &err), SU_EINVAL);
    ok(su_model_encode_texts(m, 1, texts, 0, cut, &err), &err); /* none is fine */
    su_model_free(m);
    su_device_close(d);
    check_free_all();
}

static void texts_are_tokenised_and_cut_as_the_tower_wants(void **state)
{
    (void)state;
    su_device *d = check_device(SU_DTYPE_F32, 1);
    su_model_config c = golden_config(2);
    su_model *m = new_model(&c, d, false, 7);
    int32_t ids[TEXTS * GOLDEN_TOKENS], lengths[TEXTS];
    float a[TEXTS * 16], b[TEXTS * 16];
    su_error err = {0};
    for (int i = 0; i < TEXTS; i++)
        ok(su_wordpiece_row(m->tokenizer, texts[i], strlen(texts[i]), ids + i * GOLDEN_TOKENS, GOLDEN_TOKENS,
                            &lengths[i], &err),
           &err);
    assert_int_equal(lengths[4], GOLDEN_TOKENS);
    assert_int_equal(lengths[2], 2);
    ok(su_model_encode_texts(m, 1, texts, TEXTS, a, &err), &err);
    ok(su_model_encode_ids(m, 1, ids, lengths, TEXTS, b, &err), &err);
    assert_memory_equal(a, b, sizeof a);
    su_model_free(m);
    su_device_close(d);
}

/* --- folders that are not right ------------------------------------------------------------------------- */

static void write_json(const char *path, json_t *root)
{
    su_error err = {0};
    json_object_del(root, "crc32"); /* as who edits it by hand does */
    ok(su_json_write(path, root, &err), &err);
    json_decref(root);
}

static json_t *read_json(const char *path)
{
    json_t *root = NULL;
    su_error err = {0};
    ok(su_json_read(path, 1 << 20, &root, &err), &err);
    return root;
}

static void a_folder_that_is_no_model_says_what_is_wrong(void **state)
{
    (void)state;
    su_device *d = check_device(SU_DTYPE_F32, 1);
    su_model_config c = golden_config(2);
    su_model *m = new_model(&c, d, false, 7), *opened = NULL;
    su_error err = {0};
    ok(su_model_save(m, at("whole"), &err), &err);
    assert_int_equal(su_model_open(at("nothing"), d, false, &opened, &err), SU_ENOTFOUND);
    assert_contains(err.message, "model.json");
    for (int bad = 0; bad < 6; bad++) {
        ok(su_model_save(m, at("bad"), &err), &err);
        json_t *root = read_json(at("bad/model.json")), *model = json_object_get(root, "model");
        const char *part = "";
        switch (bad) {
        case 0: /* another vocabulary */
            put_text(at("bad/vocab.txt"), "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nx\n");
            part = "vocab.txt";
            break;
        case 1: /* no weights */
            unlink(at("bad/model.safetensors"));
            part = "model.safetensors";
            break;
        case 2: /* other weights */
            json_object_set_new(model, "dim", json_integer(17));
            part = "projection.weight";
            break;
        case 3:
            json_object_set_new(root, "schema", json_string("other/1"));
            part = "other/1";
            break;
        case 4:
            json_object_del(root, "model");
            part = "model.json";
            break;
        case 5: /* more memory than there is, were it believed */
            json_object_set_new(json_array_get(json_object_get(model, "streams"), 1), "vocabulary",
                                json_integer(1 << 24));
            part = "word_embeddings";
            break;
        }
        write_json(at("bad/model.json"), root);
        err.message[0] = '\0';
        su_status st = su_model_open(at("bad"), d, false, &opened, &err);
        if (st == SU_OK || !strstr(err.message, part)) fail_msg("case %d: %s", bad, err.message);
        assert_null(opened);
    }
    /* One bit of the weights. */
    static char bytes[1 << 20];
    ok(su_model_save(m, at("bad"), &err), &err);
    FILE *f = fopen(at("bad/model.safetensors"), "rb");
    assert_non_null(f);
    size_t length = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    assert_true(length < sizeof bytes);
    bytes[length - 100] ^= 4;
    put_bytes(at("bad/model.safetensors"), bytes, length);
    assert_int_not_equal(su_model_open(at("bad"), d, false, &opened, &err), SU_OK);
    assert_contains(err.message, "model.safetensors");
    ok(su_model_open(at("whole"), d, false, &opened, &err), &err);
    su_model_free(opened);
    su_model_free(m);
    su_device_close(d);
}

static void a_model_needs_a_vocabulary_that_fits(void **state)
{
    (void)state;
    su_device *d = check_device(SU_DTYPE_F32, 1);
    su_model_config c = golden_config(2);
    su_model *m = NULL;
    su_error err = {0};
    assert_int_equal(su_model_new(&c, d, NULL, false, 1, &m, &err), SU_EINVAL);
    assert_contains(err.message, "vocabulary");
    c.stream[1].tower.vocabulary = 52;
    assert_int_equal(su_model_new(&c, d, small_vocabulary(), false, 1, &m, &err), SU_EMISMATCH);
    assert_contains(err.message, "53");
    assert_null(m);
    su_device_close(d);
}

/* --- no memory ------------------------------------------------------------------------------------------ */

static su_device *device;
static su_model *model;

static su_status build_and_encode(su_error *err)
{
    static const char vocabulary[] = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nx\n";
    su_model_config c = golden_config(2);
    su_model *m = NULL;
    su_wordpiece *wp = NULL;
    float z[16];
    su_status st = su_wordpiece_parse(vocabulary, sizeof vocabulary - 1, "v", &wp, err);
    if (!st) st = su_model_new(&c, device, wp, true, 1, &m, err);
    if (!st) st = su_model_encode_texts(m, 1, texts, 1, z, err);
    su_model_free(m);
    return st;
}

static su_status save(su_error *err)
{
    return su_model_save(model, at("saved"), err);
}

static su_status open_saved(su_error *err)
{
    su_model *m = NULL;
    su_status st = su_model_open(at("saved"), device, false, &m, err);
    su_model_free(m);
    return st;
}

static void every_allocation_that_fails_is_reported_and_leaks_nothing(void **state)
{
    (void)state;
    device = check_device(SU_DTYPE_F32, 1);
    su_model_config c = golden_config(2); /* small: every attempt to save syncs files */
    c.stream[0].tower.depth = c.stream[1].tower.depth = 1;
    model = new_model(&c, device, false, 1);
    assert_true(fail_every_allocation(build_and_encode) > 100);
    assert_true(fail_every_allocation(save) > 50);
    assert_true(fail_every_allocation(open_saved) > 100);
    su_model_free(model);
    su_device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(saved_and_opened_it_gives_the_same_bits),
        cmocka_unit_test(embeddings_are_unit_and_hardly_depend_on_how_a_batch_is_cut),
        cmocka_unit_test(texts_are_tokenised_and_cut_as_the_tower_wants),
        cmocka_unit_test(a_folder_that_is_no_model_says_what_is_wrong),
        cmocka_unit_test(a_model_needs_a_vocabulary_that_fits),
        cmocka_unit_test(every_allocation_that_fails_is_reported_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
