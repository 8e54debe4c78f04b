#include "align/model.h"
#include "base/checksum.h"
#include "base/file.h"
#include "base/json.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

/* --- table ---------------------------------------------------------------------------------------------- */

int32_t su_model_width(const su_model *m)
{
    return m->config.dim ? m->config.dim : m->config.stream[0].tower.width;
}

int su_model_stream(const su_model *m, const char *name)
{
    for (int i = 0; i < m->config.streams; i++)
        if (!strcmp(m->config.stream[i].name, name)) return i;
    return -1;
}

int su_model_stream_of(const su_model *m, su_tower_kind kind)
{
    for (int i = 0; i < m->config.streams; i++)
        if (m->config.stream[i].tower.kind == kind) return i;
    return -1;
}

bool su_model_frozen(const su_model *m, int stream)
{
    return m->config.stream[stream].lr_factor == 0.0;
}

static su_status add_towers(su_model *m, su_error *err)
{
    su_model_config *c = &m->config;
    su_status st = SU_OK;
    for (int i = 0; i < c->streams && !st; i++) {
        char prefix[80], name[128];
        snprintf(prefix, sizeof prefix, "%s.", c->stream[i].name);
        st = su_tower_new(&c->stream[i].tower, prefix, SU_GROUP_STREAM + i, &m->params, &m->tower[i], err);
        if (st || !c->dim) continue;
        int32_t width = c->stream[i].tower.width;
        snprintf(name, sizeof name, "%sprojection.weight", prefix);
        m->projection[i] =
            su_params_add(&m->params, name, 2, (int64_t[]){c->dim, width}, true, SU_GROUP_PROJECTION,
                          SU_INIT_NORMAL, 1.0 / sqrt((double)width), false);
    }
    m->logit_scale = su_params_add(&m->params, "logit_scale", 1, (int64_t[]){1}, false, SU_GROUP_LOGIT_SCALE,
                                   SU_INIT_CONSTANT, log(1.0 / 0.07), false);
    return st;
}

su_status su_model_table(const su_model_config *config, su_device *device, su_wordpiece *tokenizer,
                         su_model **model, su_error *err)
{
    *model = NULL;
    su_model *m = su_calloc(1, sizeof *m);
    if (!m) {
        su_wordpiece_free(tokenizer);
        return su_fail(err, SU_ENOMEM, "no memory for a model");
    }
    m->config = *config;
    m->device = device;
    m->tokenizer = tokenizer;
    su_params_init(&m->params, device);
    su_status st = SU_OK;
    if (config->streams > SU_MAX_TRAINED_STREAMS)
        st = su_fail(err, SU_EUNSUPPORTED, "a model has at most %d streams, not %d", SU_MAX_TRAINED_STREAMS,
                     config->streams);
    for (int i = 0; i < config->streams && !st; i++) {
        const su_stream_config *s = &config->stream[i];
        if (s->tower.kind != SU_TOWER_BERT) continue;
        if (!tokenizer)
            st = su_fail(err, SU_EINVAL, "stream '%s' needs a vocabulary", s->name);
        else if (su_wordpiece_size(tokenizer) > s->tower.vocabulary)
            st = su_fail(err, SU_EMISMATCH, "the vocabulary has %d tokens, stream '%s' only %d embeddings",
                         su_wordpiece_size(tokenizer), s->name, s->tower.vocabulary);
    }
    if (!st) st = add_towers(m, err);
    for (int i = 0; i < config->streams && !st; i++)
        if (su_model_frozen(m, i)) su_params_freeze(&m->params, SU_GROUP_STREAM + i);
    if (st)
        su_model_free(m);
    else
        *model = m;
    return st;
}

su_status su_model_start(su_model *m, bool training, uint64_t seed, su_error *err)
{
    su_status st = su_params_commit(&m->params, training, err);
    return st ? st : su_params_randomise(&m->params, seed, err);
}

su_status su_model_new(const su_model_config *config, su_device *device, su_wordpiece *tokenizer,
                       bool training, uint64_t seed, su_model **model, su_error *err)
{
    su_status st = su_model_table(config, device, tokenizer, model, err);
    if (!st) st = su_model_start(*model, training, seed, err);
    if (st) {
        su_model_free(*model);
        *model = NULL;
    }
    return st;
}

void su_model_free(su_model *m)
{
    if (!m) return;
    if (m->arena_memory) m->device->ops->release(m->device, m->arena_memory);
    for (int i = 0; i < m->config.streams && i < SU_MAX_STREAMS; i++) su_tower_free(m->tower[i]);
    su_params_free(&m->params);
    su_wordpiece_free(m->tokenizer);
    su_free(m);
}

/* --- folder --------------------------------------------------------------------------------------------- */

su_status su_model_save(const su_model *m, const char *folder, su_error *err)
{
    su_status st = su_mkdirs(folder, err);
    char *weights = su_path_join(folder, "model.safetensors"), *vocab = su_path_join(folder, "vocab.txt"),
         *json = su_path_join(folder, "model.json");
    json_t *root = json_object();
    if (!st && (!weights || !vocab || !json || !root))
        st = su_fail(err, SU_ENOMEM, "no memory to save %s", folder);
    if (!st && m->tokenizer) {
        size_t length = 0;
        const char *text = su_wordpiece_text(m->tokenizer, &length);
        st = su_file_write(vocab, text, length, err);
    }
    if (!st)
        st = su_params_save(&m->params, weights, false,
                            (const char *const[]){"format", "suture.model/1", NULL}, err);
    if (!st) {
        json_object_set_new(root, "schema", json_string("suture.model/1"));
        json_object_set_new(root, "model", su_model_config_json(&m->config));
        if (m->tokenizer)
            json_object_set_new(root, "vocabulary_sha256", json_string(su_wordpiece_sha256(m->tokenizer)));
        st = su_json_write_sealed(json, root, err);
    }
    json_decref(root);
    su_free(weights);
    su_free(vocab);
    su_free(json);
    return st;
}

/* What would be a wrong option is, in a file of ours, damage: the message is kept, behind the file's name. */
static su_status not_a_model(const char *path, su_error *err)
{
    if (err) err->code = SU_EFORMAT;
    if (err && strncmp(err->message, path, strlen(path)) != 0)
        return su_fail_context(err, SU_EFORMAT, "%s", path);
    return SU_EFORMAT;
}

static su_status read_config(const char *path, su_model_config *config, char vocabulary[65], su_error *err)
{
    json_t *root = NULL;
    const char *schema = NULL, *hash = NULL;
    su_status st = su_json_read_sealed(path, 1 << 20, &root, err);
    if (!st) st = su_json_string(root, "schema", path, &schema, err);
    if (!st && strcmp(schema, "suture.model/1"))
        st = su_fail(err, SU_EFORMAT, "%s: schema '%s' is not suture.model/1", path, schema);
    *config = (su_model_config){0};
    if (!st) {
        const json_t *model = json_object_get(root, "model");
        st = model ? su_model_config_parse(model, path, config, err)
                   : su_fail(err, SU_EFORMAT, "%s: \"model\" is missing", path);
        if (st == SU_EINVAL) st = not_a_model(path, err);
    }
    if (!st && config->streams < 1) st = su_fail(err, SU_EFORMAT, "%s: the model has no streams", path);
    if (!st) st = su_json_string_or(root, "vocabulary_sha256", path, "", &hash, err);
    if (!st) snprintf(vocabulary, 65, "%s", hash);
    json_decref(root);
    return st;
}

/* Before anything of a stated size is allocated: the weights are there, in the shapes that model.json makes. */
static su_status check_shapes(const su_params *p, int64_t count, const su_safetensors *file, su_error *err)
{
    su_status st = SU_OK;
    for (int64_t i = 0; i < count && !st; i++) {
        const su_tensor_view *view = NULL;
        st = su_safetensors_get(file, p->items[i].name, SU_DTYPE_F32, p->items[i].rank, p->items[i].shape,
                                &view, err);
    }
    return st;
}

static su_status read_folder(const char *folder, su_model_config *config, char vocabulary[65], char **json,
                             su_error *err)
{
    *json = su_path_join(folder, "model.json");
    if (!*json) return su_fail(err, SU_ENOMEM, "no memory to open %s", folder);
    if (!su_file_exists(*json))
        return su_fail(err, SU_ENOTFOUND,
                       "%s holds no model (no model.json): give the folder of a run, or import one first "
                       "with 'suture model import'",
                       folder);
    return read_config(*json, config, vocabulary, err);
}

su_status su_model_read_config(const char *folder, su_model_config *config, su_error *err)
{
    char *json = NULL, vocabulary[65];
    su_status st = read_folder(folder, config, vocabulary, &json, err);
    su_free(json);
    return st;
}

su_status su_model_read(const char *folder, const su_model_config *other, su_device *device, su_model **model,
                        su_error *err)
{
    *model = NULL;
    char *vocab = su_path_join(folder, "vocab.txt"), *json = NULL, expected[65] = "";
    su_model_config config;
    su_wordpiece *tokenizer = NULL;
    su_status st = read_folder(folder, &config, expected, &json, err);
    if (!st && !vocab) st = su_fail(err, SU_ENOMEM, "no memory to open %s", folder);
    if (!st && *expected) {
        st = su_wordpiece_open(vocab, &tokenizer, err);
        if (!st && strcmp(su_wordpiece_sha256(tokenizer), expected))
            st =
                su_fail(err, SU_EMISMATCH, "%s is not the vocabulary that the model was trained with", vocab);
    }
    if (!st) {
        st = su_model_table(other ? other : &config, device, tokenizer, model, err);
        if (st && st != SU_ENOMEM && !other) st = not_a_model(json, err);
        tokenizer = NULL;
    }
    su_wordpiece_free(tokenizer);
    su_free(vocab);
    su_free(json);
    return st;
}

su_status su_model_load(su_model *m, const char *folder, int64_t count, bool training, uint64_t seed,
                        su_error *err)
{
    char *weights = su_path_join(folder, "model.safetensors");
    su_safetensors *file = NULL;
    su_status st = weights ? SU_OK : su_fail(err, SU_ENOMEM, "no memory to open %s", folder);
    if (!st) st = su_safetensors_open(weights, &file, err);
    if (!st) st = check_shapes(&m->params, count, file, err);
    if (!st) st = su_safetensors_verify(file, err);
    if (!st) st = su_params_commit(&m->params, training, err);
    if (!st && count < m->params.count) st = su_params_randomise(&m->params, seed, err);
    if (!st) st = su_params_load_first(&m->params, count, file, err);
    if (!st) st = su_sha256_file(weights, m->sha256, err);
    su_safetensors_close(file);
    su_free(weights);
    return st;
}

su_status su_model_open(const char *folder, su_device *device, bool training, su_model **model, su_error *err)
{
    su_status st = su_model_read(folder, NULL, device, model, err);
    if (!st) st = su_model_load(*model, folder, (*model)->params.count, training, 0, err);
    if (st) {
        su_model_free(*model);
        *model = NULL;
    }
    return st;
}

su_status su_model_check_dataset(const su_model *m, const su_dataset *ds, su_error *err)
{
    const su_image_recipe *a = &m->config.recipe, *b = su_dataset_recipe(ds);
    bool pixels_fit = a->size == b->size && a->channels == b->channels;
    if (a->size && !(m->any_recipe && pixels_fit) && !su_image_recipe_equal(a, b)) {
        char packed[128], trained[128];
        su_image_recipe_text(b, packed);
        su_image_recipe_text(a, trained);
        return su_fail(err, SU_EMISMATCH,
                       "%s was packed as %s; the model was trained on %s: import the dataset again with the "
                       "model's recipe%s",
                       su_dataset_folder(ds), packed, trained, pixels_fit ? " (or --force-recipe)" : "");
    }
    for (int i = 0; i < m->config.streams; i++) {
        bool found = false;
        for (int j = 0; j < su_dataset_streams(ds); j++)
            found |= !strcmp(su_dataset_stream(ds, j), m->config.stream[i].name);
        if (!found)
            return su_fail(err, SU_EMISMATCH, "%s has no stream '%s', which the model has",
                           su_dataset_folder(ds), m->config.stream[i].name);
    }
    return SU_OK;
}

/* --- buffers -------------------------------------------------------------------------------------------- */

static void plan(su_model *m, su_arena *a, int32_t batch, bool backward)
{
    su_device *d = m->device;
    size_t width = (size_t)su_model_width(m), n = (size_t)batch;
    int32_t widest = 0;
    size_t start = su_arena_mark(a), end = start;
    for (int i = 0; i < m->config.streams; i++) {
        /* Without a backward pass one tower runs at a time, so all share the same memory. */
        if (!backward) su_arena_release(a, start);
        su_tower_plan(m->tower[i], a, batch, backward && !su_model_frozen(m, i), m->checkpointing, m->tokens[i]);
        if (a->used > end) end = a->used;
        if (m->config.stream[i].tower.width > widest) widest = m->config.stream[i].tower.width;
    }
    if (!backward) su_arena_take(a, end - a->used, 1);
    if (width < (size_t)widest) width = (size_t)widest;
    m->projected = su_arena_take(a, n * width, su_dtype_size(d->act));
    m->z = su_arena_take(a, n * width, su_dtype_size(d->acc));
    m->norm = su_arena_take(a, n, su_dtype_size(d->acc));
}

size_t su_model_bytes(su_model *m, int32_t batch, bool backward)
{
    su_arena a;
    su_arena_measure(&a);
    plan(m, &a, batch, backward);
    return a.peak;
}

su_status su_model_plan(su_model *m, int32_t batch, bool backward, size_t *bytes, su_error *err)
{
    su_device *d = m->device;
    if (m->arena_memory) d->ops->release(d, m->arena_memory);
    m->arena_memory = NULL;
    m->planned = 0;
    su_arena a;
    size_t size = su_model_bytes(m, batch, backward);
    su_status st = d->ops->alloc(d, size, &m->arena_memory, err);
    if (st)
        return su_fail_context(
            err, st, "activations for %d samples a call need %.1f MB (a smaller --micro-batch needs less)",
            batch, (double)size / 1e6);
    su_arena_init(&a, m->arena_memory, size);
    plan(m, &a, batch, backward);
    if (a.overflow) return su_fail(err, SU_ENOMEM, "no memory for the buffers of %d samples a call", batch);
    m->planned = batch;
    if (bytes) *bytes = size;
    return SU_OK;
}

/* --- forward, backward ---------------------------------------------------------------------------------- */

su_status su_model_forward(su_model *m, int stream, const su_tower_input *in, void *z, void *norm,
                           su_error *err)
{
    su_device *d = m->device;
    void *pooled = NULL;
    su_status st = su_tower_forward(m->tower[stream], in, &pooled, err);
    if (st) return st;
    int32_t width = m->config.stream[stream].tower.width, dim = su_model_width(m);
    if (m->config.dim) {
        d->ops->linear(d, m->projected, NULL, pooled, su_param_weight(&m->params, m->projection[stream]),
                       NULL, SU_ACT_NONE, in->batch, dim, width);
        pooled = m->projected;
    }
    d->ops->normalise(d, z, norm, pooled, in->batch, dim);
    return SU_OK;
}

su_status su_model_backward(su_model *m, int stream, const su_tower_input *in, const void *dz, const void *z,
                            const void *norm, const void *d_tokens, su_error *err)
{
    su_device *d = m->device;
    const su_tower_config *c = &m->config.stream[stream].tower;
    int32_t dim = su_model_width(m);
    d->ops->normalise_backward(d, m->projected, dz, z, norm, in->batch, dim);
    bool frozen = su_model_frozen(m, stream);
    if (!m->config.dim)
        return frozen ? SU_OK : su_tower_backward(m->tower[stream], in, m->projected, d_tokens, err);
    const void *pooled = su_tower_pooled(m->tower[stream]);
    void *d_pooled = frozen ? NULL : su_tower_d_pooled(m->tower[stream]);
    d->ops->linear_backward(d, d_pooled, false, su_param_grad(&m->params, m->projection[stream]), NULL,
                            m->projected, pooled, su_param_weight(&m->params, m->projection[stream]),
                            in->batch, dim, c->width);
    return frozen ? SU_OK : su_tower_backward(m->tower[stream], in, d_pooled, d_tokens, err);
}

su_status su_model_temperature(const su_model *m, double *tau, su_error *err)
{
    double s = 0.0;
    su_status st = su_params_get(&m->params, m->logit_scale, &s, err);
    *tau = exp(-s);
    return st;
}

/* --- encoding ------------------------------------------------------------------------------------------- */

enum { ENCODE_BATCH = 64 };

su_status su_model_encode(su_model *m, int stream, const su_tower_input *all, float *z, su_error *err)
{
    su_device *d = m->device;
    const su_tower_config *c = &m->config.stream[stream].tower;
    int32_t width = su_model_width(m);
    size_t image = (size_t)c->image_size * (size_t)c->image_size * (size_t)c->channels;
    su_status st = m->planned ? SU_OK : su_model_plan(m, ENCODE_BATCH, false, NULL, err);
    for (int32_t first = 0; first < all->batch && !st; first += m->planned) {
        int32_t n = all->batch - first < m->planned ? all->batch - first : m->planned;
        su_tower_input in = {.batch = n, .on_device = all->on_device};
        if (all->pooled) in.pooled = all->pooled + (size_t)first * (size_t)c->width;
        if (all->images) in.images = all->images + (size_t)first * image;
        if (all->ids) {
            in.ids = all->ids + (size_t)first * (size_t)c->max_tokens;
            in.lengths = all->lengths + first;
        }
        st = su_model_forward(m, stream, &in, m->z, m->norm, err);
        if (st) break;
        int64_t count = (int64_t)n * width;
        float *out = z + (size_t)first * (size_t)width;
        if (d->acc == SU_DTYPE_F32) {
            d->ops->download(d, out, m->z, (size_t)count * sizeof *out);
        } else {
            double *wide = su_alloc((size_t)count, sizeof *wide);
            if (!wide) return su_fail(err, SU_ENOMEM, "no memory for embeddings");
            d->ops->download(d, wide, m->z, (size_t)count * sizeof *wide);
            for (int64_t i = 0; i < count; i++) out[i] = (float)wide[i];
            su_free(wide);
        }
        st = d->ops->sync(d, err);
    }
    return st;
}

su_status su_model_encode_images(su_model *m, int stream, const uint8_t *images, int32_t batch, float *z,
                                 su_error *err)
{
    if (m->config.stream[stream].tower.kind != SU_TOWER_VIT)
        return su_fail(err, SU_EINVAL, "stream '%s' does not take images", m->config.stream[stream].name);
    return su_model_encode(m, stream, &(su_tower_input){.batch = batch, .images = images}, z, err);
}

su_status su_model_encode_ids(su_model *m, int stream, const int32_t *ids, const int32_t *lengths,
                              int32_t batch, float *z, su_error *err)
{
    if (m->config.stream[stream].tower.kind != SU_TOWER_BERT)
        return su_fail(err, SU_EINVAL, "stream '%s' does not take texts", m->config.stream[stream].name);
    return su_model_encode(m, stream, &(su_tower_input){.batch = batch, .ids = ids, .lengths = lengths}, z,
                           err);
}

su_status su_model_encode_pooled(su_model *m, int stream, const float *pooled, int32_t batch, float *z,
                                 su_error *err)
{
    return su_model_encode(m, stream, &(su_tower_input){.batch = batch, .pooled = pooled}, z, err);
}

su_status su_model_encode_texts(su_model *m, int stream, const char *const *texts, int32_t count, float *z,
                                su_error *err)
{
    int32_t max = m->config.stream[stream].tower.max_tokens;
    if (m->config.stream[stream].tower.kind != SU_TOWER_BERT)
        return su_fail(err, SU_EINVAL, "stream '%s' does not take texts", m->config.stream[stream].name);
    int32_t *ids = su_alloc((size_t)count * (size_t)max, sizeof *ids),
            *lengths = su_alloc((size_t)count, sizeof *lengths);
    su_status st = ids && lengths ? SU_OK : su_fail(err, SU_ENOMEM, "no memory for %d texts", count);
    for (int32_t i = 0; i < count && !st; i++)
        st = su_wordpiece_row(m->tokenizer, texts[i], strlen(texts[i]), ids + (size_t)i * (size_t)max, max,
                              &lengths[i], err);
    if (!st) st = su_model_encode_ids(m, stream, ids, lengths, count, z, err);
    su_free(ids);
    su_free(lengths);
    return st;
}
