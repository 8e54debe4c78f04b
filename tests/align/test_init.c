/* Starting points: a BERT from Hugging Face's folder, and towers from models of ours. */
#include "tests/align/models.h"
#include "tests/base/scratch.h"
#include "align/init.h"
#include "base/file.h"
#include "base/json.h"

#define FOLDER TOWERS "bert_folder"

/* A copy of Hugging Face's folder that a test may damage. */
static void copy_folder(const char *name)
{
    static const char *const files[] = {"config.json", "model.safetensors", "vocab.txt",
                                        "1_Pooling/config.json", "sentence_bert_config.json"};
    su_error err = {0};
    char path[300];
    snprintf(path, sizeof path, "%s/1_Pooling", at(name));
    ok(su_mkdirs(path, &err), &err);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char *data = NULL;
        size_t length = 0;
        snprintf(path, sizeof path, FOLDER "/%s", files[i]);
        ok(su_file_read(path, 1 << 20, &data, &length, &err), &err);
        snprintf(path, sizeof path, "%s/%s", at(name), files[i]);
        put_bytes(path, data, length);
        su_free(data);
    }
}

static const char *inside(const char *folder, const char *file)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, file);
    return at(path);
}

/* Imports `folder` and compares the embeddings of texts.txt with the reference's, z = normalise(mean of
 * tokens). */
static void embeds_as_the_reference(const char *folder, const char *out)
{
    su_device *d = check_device(SU_DTYPE_F32, 1);
    su_model *m = NULL;
    su_error err = {0};
    ok(su_import_bert(folder, out, d, &err), &err);
    ok(su_model_open(out, d, false, &m, &err), &err);
    const su_tower_config *t = &m->config.stream[0].tower;
    assert_int_equal(m->config.streams, 1);
    assert_int_equal(m->config.dim, 0);
    assert_int_equal(t->pooling, SU_POOLING_MEAN);
    assert_int_equal(t->max_tokens, 16);
    assert_int_equal(t->positions, 24);
    assert_int_equal(su_model_width(m), 20);
    su_safetensors *file = golden_open(FOLDER "/texts.safetensors");
    const int32_t *ids = golden_raw(file, "", "ids"), *lengths = golden_raw(file, "", "lengths");
    char *text = NULL;
    size_t size = 0;
    ok(su_file_read(FOLDER "/texts.txt", 1 << 20, &text, &size, &err), &err);
    const char *lines[5];
    char *rest = text;
    for (int i = 0; i < 5; i++) {
        lines[i] = rest;
        rest = strchr(rest, '\n');
        *rest++ = '\0';
        int32_t row[16], n = 0;
        ok(su_wordpiece_row(m->tokenizer, lines[i], strlen(lines[i]), row, 16, &n, &err), &err);
        assert_int_equal(n, lengths[i]);
        assert_memory_equal(row, ids + i * 16, sizeof row);
    }
    float z[5 * 20];
    double wide[5 * 20];
    ok(su_model_encode_texts(m, 0, lines, 5, z, &err), &err);
    for (int i = 0; i < 100; i++) wide[i] = (double)z[i];
    check_close("sentence embeddings", wide, golden_values(file, "", "z", NULL), 100,
                su_tolerance("align.f32"));
    su_free(text);
    su_safetensors_close(file);
    su_model_free(m);
    su_device_close(d);
    check_free_all();
}

static void an_imported_bert_embeds_sentences_as_the_reference(void **state)
{
    (void)state;
    embeds_as_the_reference(FOLDER, at("imported"));
}

/* "bert." in front of every name, and gamma and beta for LayerNorm's weight and bias. */
static void names_of_older_checkpoints_are_understood(void **state)
{
    (void)state;
    static const char *const fronts[] = {"bert.", "", "0.auto_model."};
    su_safetensors *file = golden_open(FOLDER "/model.safetensors");
    su_tensor_view views[64];
    char names[64][160];
    int64_t count = su_safetensors_count(file);
    assert_true(count <= 64);
    for (int k = 0; k < 3; k++) {
        su_error err = {0};
        for (int64_t i = 0; i < count; i++) {
            views[i] = *su_safetensors_at(file, i);
            snprintf(names[i], sizeof names[i], "%s%s", fronts[k], views[i].name);
            char *norm = k < 2 ? strstr(names[i], "LayerNorm.") : NULL;
            if (norm) snprintf(norm + 10, 8, "%s", norm[10] == 'w' ? "gamma" : "beta");
            views[i].name = names[i];
        }
        copy_folder("older");
        ok(su_safetensors_write(at("older/model.safetensors"), views, count, NULL, &err), &err);
        embeds_as_the_reference(at("older"), at("older-imported"));
    }
    su_safetensors_close(file);
}

static void what_is_no_bert_is_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *key, *value, *part;
        su_status status;
    } cases[] = {
        {"model_type", "\"roberta\"", "roberta", SU_EUNSUPPORTED},
        {"hidden_act", "\"relu\"", "relu", SU_EUNSUPPORTED},
        {"position_embedding_type", "\"relative_key\"", "relative_key", SU_EUNSUPPORTED},
        {"hidden_size", "24", "", SU_EMISMATCH},
        {"num_hidden_layers", "2", "encoder.layer.1", SU_ENOTFOUND},
        {"num_attention_heads", "3", "heads", SU_EINVAL},
        {"vocab_size", "\"many\"", "vocab_size", SU_EFORMAT},
    };
    su_device *d = check_device(SU_DTYPE_F32, 1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        su_error err = {0};
        json_t *root = NULL;
        copy_folder("other");
        ok(su_json_read(at("other/config.json"), 1 << 20, &root, &err), &err);
        json_object_set_new(root, cases[i].key, json_loads(cases[i].value, JSON_DECODE_ANY, NULL));
        ok(su_json_write(at("other/config.json"), root, &err), &err);
        json_decref(root);
        su_status st = su_import_bert(at("other"), at("other-imported"), d, &err);
        if (st != cases[i].status || !strstr(err.message, cases[i].part))
            fail_msg("%s = %s: %s: %s", cases[i].key, cases[i].value, su_status_name(st), err.message);
        assert_false(su_file_exists(at("other-imported/model.json")));
    }
    static const char *const files[] = {"config.json", "model.safetensors", "vocab.txt"};
    for (int i = 0; i < 3; i++) {
        su_error err = {0};
        copy_folder("other");
        unlink(inside("other", files[i]));
        assert_int_equal(su_import_bert(at("other"), at("other-imported"), d, &err), SU_ENOTFOUND);
        assert_contains(err.message, files[i]);
    }
    su_device_close(d);
}

/* --- towers of ours ------------------------------------------------------------------------------------- */

static double *values(const su_model *m, const char *name)
{
    int64_t i = su_params_find(&m->params, name);
    if (i < 0) fail_msg("no parameter %s", name);
    return weight_values(&m->params, i);
}

static void a_stream_starts_from_an_imported_bert(void **state)
{
    (void)state;
    su_device *d = check_device(SU_DTYPE_F32, 1);
    su_error err = {0};
    ok(su_import_bert(FOLDER, at("start"), d, &err), &err);
    su_model_config c = golden_config(2);
    c.stream[1].tower.dropout = 0.2;
    c.stream[1].tower.max_tokens = 100;
    snprintf(c.stream[1].name, sizeof c.stream[1].name, "report"); /* another name than "text" */
    snprintf(c.stream[1].init, sizeof c.stream[1].init, "%s", at("start"));
    char *vocabulary = NULL;
    ok(su_init_configure(&c, &vocabulary, &err), &err);
    const su_tower_config *t = &c.stream[1].tower;
    assert_int_equal(t->heads, 4);
    assert_int_equal(t->depth, 1);
    assert_int_equal(t->mlp, 28);
    assert_int_equal(t->pooling, SU_POOLING_MEAN);
    assert_true(t->dropout == 0.2);               /* training's own */
    assert_int_equal(t->max_tokens, 24);          /* as many as there are positions */
    assert_int_equal(c.stream[0].tower.depth, 2); /* the other stream is left alone */
    assert_non_null(strstr(vocabulary, "vocab.txt"));
    su_wordpiece *wp = NULL;
    su_model *m = NULL, *source = NULL;
    ok(su_wordpiece_open(vocabulary, &wp, &err), &err);
    ok(su_model_new(&c, d, wp, true, 3, &m, &err), &err);
    double *projection = values(m, "report.projection.weight");
    ok(su_init_load(m, &err), &err);
    ok(su_model_open(at("start"), d, false, &source, &err), &err);
    for (int64_t i = 0; i < source->params.count; i++) {
        const su_param *q = &source->params.items[i];
        if (strncmp(q->name, "text.", 5)) continue;
        char name[200];
        snprintf(name, sizeof name, "report.%s", q->name + 5);
        check_same_bits(name, values(m, name), weight_values(&source->params, i), q->count);
    }
    check_same_bits("projection", values(m, "report.projection.weight"), projection, 16 * 20);
    su_free(vocabulary);
    su_model_free(source);
    su_model_free(m);
    su_device_close(d);
    check_free_all();
}

static void a_vits_positions_are_interpolated_to_another_image_size(void **state)
{
    (void)state;
    su_device *d = check_device(SU_DTYPE_F32, 1);
    su_error err = {0};
    su_model_config c = golden_config(3);
    su_model *source = new_model(&c, d, false, 5), *m = NULL;
    ok(su_model_save(source, at("vit"), &err), &err);
    su_model_config larger = golden_config(2);
    larger.stream[0].tower.image_size = 40;
    larger.stream[0].tower.width = 99; /* taken from the source */
    snprintf(larger.stream[0].init, sizeof larger.stream[0].init, "%s", at("vit"));
    char *vocabulary = NULL;
    ok(su_init_configure(&larger, &vocabulary, &err), &err);
    assert_null(vocabulary);
    assert_int_equal(larger.stream[0].tower.width, 24);
    assert_int_equal(larger.stream[0].tower.image_size, 40);
    ok(su_model_new(&larger, d, small_vocabulary(), false, 6, &m, &err), &err);
    ok(su_init_load(m, &err), &err);
    double *to = check_zeros(26 * 24);
    su_vit_interpolate_positions(values(source, "frontal.embeddings.position_embeddings"), 3, to, 5, 24);
    check_close("positions", values(m, "image.embeddings.position_embeddings"), to, 26 * 24,
                su_tolerance("nn.f32.one"));
    check_same_bits("patches", values(m, "image.embeddings.patch_embeddings.projection.weight"),
                    values(source, "frontal.embeddings.patch_embeddings.projection.weight"), 24 * 64);
    su_model_free(m);

    /* What does not fit says so. */
    larger.stream[0].tower.channels = 3;
    assert_int_equal(su_init_configure(&larger, &vocabulary, &err), SU_EMISMATCH);
    assert_contains(err.message, "channels");
    snprintf(larger.stream[0].init, sizeof larger.stream[0].init, "%s", at("nowhere"));
    assert_int_equal(su_init_configure(&larger, &vocabulary, &err), SU_ENOTFOUND);
    assert_contains(err.message, "suture model import");
    ok(su_import_bert(FOLDER, at("text-only"), d, &err), &err);
    snprintf(larger.stream[0].init, sizeof larger.stream[0].init, "%s", at("text-only"));
    assert_int_equal(su_init_configure(&larger, &vocabulary, &err), SU_EMISMATCH);
    assert_contains(err.message, "image tower");
    su_model_free(source);
    su_device_close(d);
    check_free_all();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_imported_bert_embeds_sentences_as_the_reference),
        cmocka_unit_test(names_of_older_checkpoints_are_understood),
        cmocka_unit_test(what_is_no_bert_is_refused_by_name),
        cmocka_unit_test(a_stream_starts_from_an_imported_bert),
        cmocka_unit_test(a_vits_positions_are_interpolated_to_another_image_size),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
