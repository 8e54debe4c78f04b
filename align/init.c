#include "align/init.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

/* --- towers from a folder of ours ----------------------------------------------------------------------- */

static const su_stream_config *stream_of_kind(const su_model_config *c, su_tower_kind kind)
{
    for (int i = 0; i < c->streams; i++)
        if (c->stream[i].tower.kind == kind) return &c->stream[i];
    return NULL;
}

su_status su_init_configure(su_model_config *c, char **vocabulary, su_error *err)
{
    *vocabulary = NULL;
    for (int i = 0; i < c->streams; i++) {
        su_stream_config *s = &c->stream[i];
        if (!*s->init) continue;
        su_model_config from;
        su_status st = su_model_read_config(s->init, &from, err);
        if (st) return st;
        const su_stream_config *source = stream_of_kind(&from, s->tower.kind);
        if (!source)
            return su_fail(err, SU_EMISMATCH, "%s has no %s tower for stream '%s' to start from", s->init,
                           s->tower.kind == SU_TOWER_VIT ? "image" : "text", s->name);
        su_tower_config t = source->tower;
        t.dropout = s->tower.dropout;
        t.attention_dropout = s->tower.attention_dropout;
        t.drop_path = s->tower.drop_path;
        t.patch_dropout = s->tower.patch_dropout;
        if (t.kind == SU_TOWER_VIT) {
            if (t.channels != s->tower.channels)
                return su_fail(err, SU_EMISMATCH, "%s takes %d channels, stream '%s' has %d", s->init,
                               t.channels, s->name, s->tower.channels);
            t.image_size = s->tower.image_size;
        } else {
            t.max_tokens = s->tower.max_tokens < t.positions ? s->tower.max_tokens : t.positions;
            su_free(*vocabulary);
            *vocabulary = su_path_join(s->init, "vocab.txt");
            if (!*vocabulary) return su_fail(err, SU_ENOMEM, "no memory to read %s", s->init);
        }
        s->tower = t;
    }
    return SU_OK;
}

static su_status set_from_view(su_params *p, int64_t index, const su_tensor_view *view, su_error *err)
{
    const su_param *q = &p->items[index];
    double *values = su_alloc((size_t)q->count, sizeof *values);
    if (!values) return su_fail(err, SU_ENOMEM, "no memory to load %s", q->name);
    for (int64_t j = 0; j < q->count; j++) {
        float x;
        memcpy(&x, (const char *)view->data + (size_t)j * sizeof x, sizeof x);
        values[j] = (double)x;
    }
    su_status st = su_params_set(p, index, values, err);
    su_free(values);
    return st;
}

/* Positions of another grid: both tables are [1, 1 + g*g, width]. */
static su_status set_positions(su_params *p, int64_t index, const su_tensor_view *view, su_error *err)
{
    const su_param *q = &p->items[index];
    int32_t g = (int32_t)lround(sqrt((double)view->shape[1] - 1)),
            h = (int32_t)lround(sqrt((double)q->shape[1] - 1));
    int32_t width = (int32_t)q->shape[2];
    if (view->rank != 3 || view->shape[2] != q->shape[2] || (int64_t)g * g + 1 != view->shape[1])
        return su_fail(err, SU_EMISMATCH, "%s cannot be interpolated: it is no square grid of the same width",
                       q->name);
    size_t count = (size_t)(view->shape[1] * view->shape[2]);
    double *from = su_alloc(count, sizeof *from), *to = su_alloc((size_t)q->count, sizeof *to);
    su_status st = from && to ? SU_OK : su_fail(err, SU_ENOMEM, "no memory to interpolate %s", q->name);
    for (size_t j = 0; j < count && !st; j++) {
        float x;
        memcpy(&x, (const char *)view->data + j * sizeof x, sizeof x);
        from[j] = (double)x;
    }
    if (!st) {
        su_vit_interpolate_positions(from, g, to, h, width);
        st = su_params_set(p, index, to, err);
    }
    su_free(from);
    su_free(to);
    return st;
}

static su_status load_tower(su_model *m, int stream, su_error *err)
{
    const su_stream_config *s = &m->config.stream[stream];
    su_model_config from;
    su_status st = su_model_read_config(s->init, &from, err);
    if (st) return st;
    const su_stream_config *source = stream_of_kind(&from, s->tower.kind);
    char *path = su_path_join(s->init, "model.safetensors"), prefix[80];
    su_safetensors *file = NULL;
    st = path && source ? su_safetensors_open(path, &file, err)
                        : su_fail(err, SU_ENOMEM, "no memory to read %s", s->init);
    if (!st) st = su_safetensors_verify(file, err);
    snprintf(prefix, sizeof prefix, "%s.", s->name);
    for (int64_t i = 0; i < m->params.count && !st; i++) {
        const su_param *q = &m->params.items[i];
        if (strncmp(q->name, prefix, strlen(prefix)) || i == m->projection[stream]) continue;
        char name[512];
        snprintf(name, sizeof name, "%s.%s", source->name, q->name + strlen(prefix));
        const su_tensor_view *view = su_safetensors_find(file, name);
        if (view && view->dtype == SU_DTYPE_F32 && strstr(name, "embeddings.position_embeddings") &&
            q->rank == 3 && view->shape[1] != q->shape[1]) {
            st = set_positions(&m->params, i, view, err);
            continue;
        }
        st = su_safetensors_get(file, name, SU_DTYPE_F32, q->rank, q->shape, &view, err);
        if (!st) st = set_from_view(&m->params, i, view, err);
    }
    su_safetensors_close(file);
    su_free(path);
    return st;
}

su_status su_init_load(su_model *m, su_error *err)
{
    for (int s = 0; s < m->config.streams; s++) {
        if (!*m->config.stream[s].init) continue;
        su_status st = load_tower(m, s, err);
        if (st)
            return su_fail_context(err, st, "starting stream '%s' from %s", m->config.stream[s].name,
                                   m->config.stream[s].init);
    }
    su_params_refresh(&m->params);
    return SU_OK;
}

/* --- a BERT from Hugging Face --------------------------------------------------------------------------- */

static su_status bert_config(const char *path, su_tower_config *t, su_error *err)
{
    json_t *root = NULL;
    const char *type = NULL, *act = NULL, *position = NULL;
    int64_t width = 0, depth = 0, heads = 0, mlp = 0, vocabulary = 0, positions = 0, types = 0;
    double eps = 0.0;
    su_status st = su_json_read(path, 1 << 20, &root, err);
    if (!st) st = su_json_string(root, "model_type", path, &type, err);
    if (!st && strcmp(type, "bert"))
        st = su_fail(err, SU_EUNSUPPORTED, "%s: model_type is '%s'; only 'bert' can be imported", path, type);
    if (!st) st = su_json_int(root, "hidden_size", path, 1, 16384, &width, err);
    if (!st) st = su_json_int(root, "num_hidden_layers", path, 1, 256, &depth, err);
    if (!st) st = su_json_int(root, "num_attention_heads", path, 1, 1024, &heads, err);
    if (!st) st = su_json_int(root, "intermediate_size", path, 1, 65536, &mlp, err);
    if (!st) st = su_json_int(root, "vocab_size", path, 5, 1 << 24, &vocabulary, err);
    if (!st) st = su_json_int(root, "max_position_embeddings", path, 3, 65536, &positions, err);
    if (!st) st = su_json_int_or(root, "type_vocab_size", path, 1, 1024, 2, &types, err);
    if (!st) st = su_json_number_or(root, "layer_norm_eps", path, 1e-12, &eps, err);
    if (!st) st = su_json_string_or(root, "hidden_act", path, "gelu", &act, err);
    if (!st) st = su_json_string_or(root, "position_embedding_type", path, "absolute", &position, err);
    if (!st && strcmp(position, "absolute"))
        st = su_fail(err, SU_EUNSUPPORTED,
                     "%s: position_embedding_type '%s'; only absolute ones are supported", path, position);
    su_activation a = SU_ACT_GELU;
    if (!st && (!strcmp(act, "gelu_new") || !strcmp(act, "gelu_pytorch_tanh")))
        a = SU_ACT_GELU_TANH;
    else if (!st && !strcmp(act, "quick_gelu"))
        a = SU_ACT_QUICK_GELU;
    else if (!st && strcmp(act, "gelu"))
        st = su_fail(err, SU_EUNSUPPORTED, "%s: hidden_act '%s' is not supported", path, act);
    *t = (su_tower_config){.kind = SU_TOWER_BERT,
                           .width = (int32_t)width,
                           .depth = (int32_t)depth,
                           .heads = (int32_t)heads,
                           .mlp = (int32_t)mlp,
                           .vocabulary = (int32_t)vocabulary,
                           .positions = (int32_t)positions,
                           .types = (int32_t)types,
                           .eps = eps,
                           .act = a,
                           .pooling = SU_POOLING_CLS,
                           .max_tokens = (int32_t)positions};
    json_decref(root);
    return st;
}

/* sentence-transformers says how it pools, and where it cuts a text. */
static su_status sentence_config(const char *folder, su_tower_config *t, su_error *err)
{
    char *pooling = su_path_join(folder, "1_Pooling/config.json"),
         *cut = su_path_join(folder, "sentence_bert_config.json");
    su_status st = pooling && cut ? SU_OK : su_fail(err, SU_ENOMEM, "no memory to read %s", folder);
    json_t *root = NULL;
    bool mean = false;
    int64_t max = t->max_tokens;
    if (!st && su_file_exists(pooling)) {
        st = su_json_read(pooling, 1 << 20, &root, err);
        if (!st) st = su_json_bool_or(root, "pooling_mode_mean_tokens", pooling, false, &mean, err);
        if (!st && mean) t->pooling = SU_POOLING_MEAN;
        json_decref(root);
        root = NULL;
    }
    if (!st && su_file_exists(cut)) {
        st = su_json_read(cut, 1 << 20, &root, err);
        if (!st) st = su_json_int_or(root, "max_seq_length", cut, 3, t->positions, t->max_tokens, &max, err);
        json_decref(root);
    }
    t->max_tokens = (int32_t)max;
    su_free(pooling);
    su_free(cut);
    return st;
}

/* Old checkpoints say gamma and beta for a norm's weight and bias, and some put "bert." in front of every
 * name. */
static const su_tensor_view *find_bert_tensor(const su_safetensors *file, const char *name)
{
    char alternative[512];
    static const char *const front[] = {"", "bert.", "0.auto_model.", NULL};
    for (int i = 0; front[i]; i++) {
        snprintf(alternative, sizeof alternative, "%s%s", front[i], name);
        const su_tensor_view *view = su_safetensors_find(file, alternative);
        if (view) return view;
        char *norm = strstr(alternative, "LayerNorm.");
        if (!norm) continue;
        norm += strlen("LayerNorm.");
        bool weight = !strcmp(norm, "weight");
        snprintf(norm, sizeof alternative - (size_t)(norm - alternative), "%s", weight ? "gamma" : "beta");
        view = su_safetensors_find(file, alternative);
        if (view) return view;
    }
    return NULL;
}

static su_status load_bert(su_model *m, const char *path, su_error *err)
{
    su_safetensors *file = NULL;
    su_status st = su_safetensors_open(path, &file, err);
    if (!st) st = su_safetensors_verify(file, err);
    for (int64_t i = 0; i < m->params.count && !st; i++) {
        const su_param *q = &m->params.items[i];
        if (strncmp(q->name, "text.", 5)) continue;
        const su_tensor_view *view = find_bert_tensor(file, q->name + 5);
        if (!view) {
            st = su_fail(err, SU_ENOTFOUND, "%s: tensor '%s' is missing", path, q->name + 5);
        } else {
            st = su_safetensors_get(file, view->name, SU_DTYPE_F32, q->rank, q->shape, &view, err);
            if (!st) st = set_from_view(&m->params, i, view, err);
        }
    }
    su_safetensors_close(file);
    return st;
}

su_status su_import_bert(const char *folder, const char *out, su_device *device, su_error *err)
{
    char *config = su_path_join(folder, "config.json"), *weights = su_path_join(folder, "model.safetensors"),
         *vocab = su_path_join(folder, "vocab.txt");
    su_model_config c = {.streams = 1};
    snprintf(c.stream[0].name, sizeof c.stream[0].name, "text");
    c.stream[0].lr_factor = 1.0;
    su_wordpiece *tokenizer = NULL;
    su_model *m = NULL;
    su_status st =
        config && weights && vocab ? SU_OK : su_fail(err, SU_ENOMEM, "no memory to import %s", folder);
    if (!st) st = bert_config(config, &c.stream[0].tower, err);
    if (!st) st = sentence_config(folder, &c.stream[0].tower, err);
    if (!st) st = su_wordpiece_open(vocab, &tokenizer, err);
    if (!st) st = su_model_new(&c, device, tokenizer, false, 0, &m, err);
    if (!st) st = load_bert(m, weights, err);
    if (!st) st = su_model_save(m, out, err);
    su_model_free(m);
    su_free(config);
    su_free(weights);
    su_free(vocab);
    return st;
}
