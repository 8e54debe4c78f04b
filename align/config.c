#include "align/config.h"
#include "base/fields.h"
#include "base/json.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

/* --- presets -------------------------------------------------------------------------------------------- */

static const su_tower_config vit_base = {
    .kind = SU_TOWER_VIT,
    .width = 768,
    .depth = 12,
    .heads = 12,
    .mlp = 3072,
    .pooling = SU_POOLING_CLS,
    .act = SU_ACT_GELU,
    .eps = 1e-6,
    .image_size = 224,
    .patch = 16,
    .channels = 3,
    .mean = {0.5, 0.5, 0.5, 0.5},
    .std = {0.25, 0.25, 0.25, 0.25},
};

static const su_tower_config bert_base = {
    .kind = SU_TOWER_BERT,
    .width = 768,
    .depth = 12,
    .heads = 12,
    .mlp = 3072,
    .pooling = SU_POOLING_CLS,
    .act = SU_ACT_GELU,
    .eps = 1e-12,
    .vocabulary = 30522,
    .positions = 512,
    .types = 2,
    .max_tokens = 77,
    .dropout = 0.1,
    .attention_dropout = 0.1,
};

static su_tower_config sized(su_tower_config c, int32_t width, int32_t depth, int32_t heads, int32_t mlp)
{
    c.width = width;
    c.depth = depth;
    c.heads = heads;
    c.mlp = mlp;
    return c;
}

su_status su_config_preset(const char *preset, su_train_config *c, su_error *err)
{
    su_tower_config image = vit_base, text = bert_base;
    *c = (su_train_config){
        .epochs = 30,
        .batch = 256,
        .lr = 5e-4,
        .weight_decay = 0.05,
        .beta1 = 0.9,
        .beta2 = 0.98,
        .eps = 1e-8,
        .warmup = 0.1,
        .clip_norm = 1.0,
        .seed = 1,
        .holdout = 0.1,
        .keep_best = true,
    };
    if (!strcmp(preset, "tiny")) {
        image = sized(image, 128, 4, 4, 512);
        image.image_size = 96;
        image.pooling = SU_POOLING_MEAN;
        text = sized(text, 128, 3, 4, 512);
        text.max_tokens = 40;
        text.pooling = SU_POOLING_MEAN;
        c->batch = 128;
        c->lr = 1e-3;
    } else if (!strcmp(preset, "small")) {
        image = sized(image, 384, 12, 6, 1536);
        text = sized(text, 384, 6, 12, 1536);
        text.max_tokens = 64;
    } else if (!strcmp(preset, "base")) {
        c->lr = 1e-4;
    } else if (!strcmp(preset, "eva-g")) {
        image = sized(image, 1408, 40, 16, 6144);
        image.patch = 14;
        text.max_tokens = 128;
        c->lr = 1e-4;
    } else {
        return su_fail(err, SU_EINVAL, "no preset '%s': choose tiny, small, base or eva-g", preset);
    }
    snprintf(c->preset, sizeof c->preset, "%s", preset);
    su_augment_defaults(&c->augment);
    c->model.streams = 2;
    c->model.anchor = 1;
    c->model.dim = 512;
    c->model.stream[0] = (su_stream_config){.name = "image", .tower = image, .lr_factor = 1.0};
    c->model.stream[1] = (su_stream_config){.name = "text", .tower = text, .lr_factor = 1.0};
    return su_config_objective("closegap", &c->objective, err);
}

su_status su_config_objective(const char *name, su_objective *o, su_error *err)
{
    bool lt = !strcmp(name, "clip-lt"), ft = !strcmp(name, "clip-ft"), close = !strcmp(name, "closegap");
    if (!lt && !ft && !close)
        return su_fail(err, SU_EINVAL, "no objective '%s': choose clip-lt, clip-ft or closegap", name);
    *o = (su_objective){.lambda_infonce = 1.0,
                        .lambda_atp = close ? 1.0 : 0.0,
                        .lambda_cu = close ? 1.0 : 0.0,
                        .temperature = 0.07,
                        .learn_temperature = lt,
                        .atp_end = -1.0,
                        .cu_end = -1.0};
    snprintf(o->name, sizeof o->name, "%s", name);
    return SU_OK;
}

/* --- JSON: one table serves reading and writing --------------------------------------------------------- */

static const su_field vit_fields[] = {
    SU_FIELD(su_tower_config, "width", width, SU_FIELD_INT32, 1, 16384),
    SU_FIELD(su_tower_config, "depth", depth, SU_FIELD_INT32, 1, 256),
    SU_FIELD(su_tower_config, "heads", heads, SU_FIELD_INT32, 1, 1024),
    SU_FIELD(su_tower_config, "mlp", mlp, SU_FIELD_INT32, 1, 65536),
    SU_FIELD(su_tower_config, "eps", eps, SU_FIELD_NUMBER, 0, 1),
    SU_FIELD(su_tower_config, "dropout", dropout, SU_FIELD_NUMBER, 0, 0.99),
    SU_FIELD(su_tower_config, "attention_dropout", attention_dropout, SU_FIELD_NUMBER, 0, 0.99),
    SU_FIELD(su_tower_config, "drop_path", drop_path, SU_FIELD_NUMBER, 0, 0.99),
    SU_FIELD(su_tower_config, "image_size", image_size, SU_FIELD_INT32, 1, 2048),
    SU_FIELD(su_tower_config, "patch", patch, SU_FIELD_INT32, 1, 2048),
    SU_FIELD(su_tower_config, "channels", channels, SU_FIELD_INT32, 1, 3),
    SU_FIELD(su_tower_config, "patch_dropout", patch_dropout, SU_FIELD_NUMBER, 0, 0.99),
    {0},
};

static const su_field bert_fields[] = {
    SU_FIELD(su_tower_config, "width", width, SU_FIELD_INT32, 1, 16384),
    SU_FIELD(su_tower_config, "depth", depth, SU_FIELD_INT32, 1, 256),
    SU_FIELD(su_tower_config, "heads", heads, SU_FIELD_INT32, 1, 1024),
    SU_FIELD(su_tower_config, "mlp", mlp, SU_FIELD_INT32, 1, 65536),
    SU_FIELD(su_tower_config, "eps", eps, SU_FIELD_NUMBER, 0, 1),
    SU_FIELD(su_tower_config, "dropout", dropout, SU_FIELD_NUMBER, 0, 0.99),
    SU_FIELD(su_tower_config, "attention_dropout", attention_dropout, SU_FIELD_NUMBER, 0, 0.99),
    SU_FIELD(su_tower_config, "drop_path", drop_path, SU_FIELD_NUMBER, 0, 0.99),
    SU_FIELD(su_tower_config, "vocabulary", vocabulary, SU_FIELD_INT32, 5, 1 << 24),
    SU_FIELD(su_tower_config, "positions", positions, SU_FIELD_INT32, 3, 65536),
    SU_FIELD(su_tower_config, "types", types, SU_FIELD_INT32, 1, 1024),
    SU_FIELD(su_tower_config, "max_tokens", max_tokens, SU_FIELD_INT32, 3, 65536),
    {0},
};

static const su_field stream_fields[] = {
    SU_FIELD(su_stream_config, "name", name, SU_FIELD_TEXT, 0, 0),
    SU_FIELD(su_stream_config, "lr_factor", lr_factor, SU_FIELD_NUMBER, 0, 1000),
    SU_FIELD(su_stream_config, "init", init, SU_FIELD_TEXT, 0, 0),
    {0},
};

static const su_field objective_fields[] = {
    SU_FIELD(su_objective, "lambda_infonce", lambda_infonce, SU_FIELD_NUMBER, 0, 1e6),
    SU_FIELD(su_objective, "lambda_atp", lambda_atp, SU_FIELD_NUMBER, 0, 1e6),
    SU_FIELD(su_objective, "lambda_cu", lambda_cu, SU_FIELD_NUMBER, 0, 1e6),
    SU_FIELD(su_objective, "temperature", temperature, SU_FIELD_NUMBER, 0.01, 100),
    SU_FIELD(su_objective, "learn_temperature", learn_temperature, SU_FIELD_BOOL, 0, 0),
    SU_FIELD(su_objective, "temperature_lr", temperature_lr, SU_FIELD_NUMBER, 0, 10),
    SU_FIELD(su_objective, "atp_end", atp_end, SU_FIELD_NUMBER, -1, 1e6),
    SU_FIELD(su_objective, "cu_end", cu_end, SU_FIELD_NUMBER, -1, 1e6),
    SU_FIELD(su_objective, "atp_from", atp_from, SU_FIELD_NUMBER, 0, 1),
    SU_FIELD(su_objective, "cu_from", cu_from, SU_FIELD_NUMBER, 0, 1),
    {0},
};

static const su_field augment_fields[] = {
    SU_FIELD(su_augment, "on", on, SU_FIELD_BOOL, 0, 0),
    SU_FIELD(su_augment, "min_area", min_area, SU_FIELD_NUMBER, 0.01, 1),
    SU_FIELD(su_augment, "max_aspect", max_aspect, SU_FIELD_NUMBER, 1, 10),
    SU_FIELD(su_augment, "max_rotation", max_rotation, SU_FIELD_NUMBER, 0, 180),
    SU_FIELD(su_augment, "brightness", brightness, SU_FIELD_NUMBER, 0, 1),
    SU_FIELD(su_augment, "contrast", contrast, SU_FIELD_NUMBER, 0, 1),
    {0},
};

static const su_field train_fields[] = {
    SU_FIELD(su_train_config, "epochs", epochs, SU_FIELD_INT64, 1, 1e9),
    SU_FIELD(su_train_config, "batch", batch, SU_FIELD_INT32, 2, 1 << 24),
    SU_FIELD(su_train_config, "micro_batch", micro_batch, SU_FIELD_INT32, 0, 1 << 24),
    SU_FIELD(su_train_config, "lr", lr, SU_FIELD_NUMBER, 0, 10),
    SU_FIELD(su_train_config, "weight_decay", weight_decay, SU_FIELD_NUMBER, 0, 10),
    SU_FIELD(su_train_config, "beta1", beta1, SU_FIELD_NUMBER, 0, 0.999999),
    SU_FIELD(su_train_config, "beta2", beta2, SU_FIELD_NUMBER, 0, 0.999999),
    SU_FIELD(su_train_config, "eps", eps, SU_FIELD_NUMBER, 0, 1),
    SU_FIELD(su_train_config, "warmup", warmup, SU_FIELD_NUMBER, 0, 1),
    SU_FIELD(su_train_config, "clip_norm", clip_norm, SU_FIELD_NUMBER, 0, 1e9),
    SU_FIELD(su_train_config, "seed", seed, SU_FIELD_UINT64, 0, 9e15),
    SU_FIELD(su_train_config, "holdout", holdout, SU_FIELD_NUMBER, 0, 0.5),
    SU_FIELD(su_train_config, "keep_best", keep_best, SU_FIELD_BOOL, 0, 0),
    SU_FIELD(su_train_config, "checkpoint_steps", checkpoint_steps, SU_FIELD_INT64, 0, 1e9),
    {0},
};

static const char *const kind_names[] = {"vit", "bert", NULL};
static const char *const pooling_names[] = {"cls", "mean", NULL};
static const char *const start_names[] = {"normal", "scaled", NULL};
static const char *const act_names[] = {"none", "gelu", "gelu_tanh", "quick_gelu", "tanh", NULL};
static const char *const centroid_names[] = {"normalised", "raw", NULL};

static json_t *stream_json(const su_stream_config *s)
{
    const su_tower_config *c = &s->tower;
    bool vit = c->kind == SU_TOWER_VIT;
    json_t *o = su_fields_json(vit ? vit_fields : bert_fields, c), *own = su_fields_json(stream_fields, s);
    if (o) json_object_set_new(o, "kind", json_string(kind_names[c->kind]));
    if (o) json_object_set_new(o, "pooling", json_string(pooling_names[c->pooling]));
    if (o) json_object_set_new(o, "start", json_string(start_names[c->start]));
    if (o) json_object_set_new(o, "activation", json_string(act_names[c->act]));
    if (o && vit) {
        json_t *mean = json_array(), *std = json_array();
        for (int i = 0; i < c->channels; i++) {
            json_array_append_new(mean, json_real(c->mean[i]));
            json_array_append_new(std, json_real(c->std[i]));
        }
        json_object_set_new(o, "mean", mean);
        json_object_set_new(o, "std", std);
    }
    if (o && own) json_object_update(o, own);
    json_decref(own);
    return o;
}

static su_status parse_numbers(const json_t *o, const char *key, const char *where, double low, double *out,
                               su_error *err)
{
    const json_t *list = json_object_get(o, key);
    if (!list) return SU_OK;
    size_t n = json_array_size(list);
    if (n < 1 || n > 3) return su_fail(err, SU_EINVAL, "%s: %s must be a list of 1 to 3 numbers", where, key);
    for (size_t i = 0; i < 3; i++) {
        const json_t *x = json_array_get(list, i < n ? i : n - 1);
        if (!json_is_number(x) || !(json_number_value(x) > low))
            return su_fail(err, SU_EINVAL, "%s: %s must hold numbers above %g", where, key, low);
        out[i] = json_number_value(x);
    }
    return SU_OK;
}

static su_status stream_parse(const json_t *o, const char *where, su_stream_config *s, su_error *err)
{
    static const char *const more[] = {"kind", "pooling", "start", "activation", "mean", "std", NULL};
    if (!json_is_object(o)) return su_fail(err, SU_EINVAL, "%s: a stream must be an object", where);
    int kind = s->tower.kind, pooling = s->tower.pooling, start = s->tower.start, act = s->tower.act;
    su_status st = su_choice_parse(o, "kind", where, kind_names, &kind, err);
    if (!st && kind != (int)s->tower.kind) s->tower = kind == SU_TOWER_VIT ? vit_base : bert_base;
    const su_field *fields = kind == SU_TOWER_VIT ? vit_fields : bert_fields;
    if (!st) st = su_fields_only(o, fields, stream_fields, more, where, err);
    if (!st) st = su_choice_parse(o, "pooling", where, pooling_names, &pooling, err);
    if (!st) st = su_choice_parse(o, "start", where, start_names, &start, err);
    if (!st) st = su_choice_parse(o, "activation", where, act_names, &act, err);
    if (!st) st = su_fields_parse(fields, o, where, &s->tower, err);
    if (!st) st = su_fields_parse(stream_fields, o, where, s, err);
    if (!st) st = parse_numbers(o, "mean", where, -1e9, s->tower.mean, err);
    if (!st) st = parse_numbers(o, "std", where, 0.0, s->tower.std, err);
    s->tower.kind = (su_tower_kind)kind;
    s->tower.pooling = (su_pooling)pooling;
    s->tower.start = (su_tower_start)start;
    s->tower.act = (su_activation)act;
    return st;
}

json_t *su_model_config_json(const su_model_config *c)
{
    json_t *o = json_object(), *list = json_array();
    for (int i = 0; i < c->streams; i++) json_array_append_new(list, stream_json(&c->stream[i]));
    json_object_set_new(o, "streams", list);
    json_object_set_new(o, "dim", json_integer(c->dim));
    json_object_set_new(o, "anchor", json_string(c->stream[c->anchor].name));
    json_object_set_new(o, "recipe", c->recipe.size ? su_image_recipe_json(&c->recipe) : json_null());
    return o;
}

su_status su_model_config_parse(const json_t *json, const char *where, su_model_config *c, su_error *err)
{
    su_status st = SU_OK;
    const json_t *list = json_object_get(json, "streams"), *recipe = json_object_get(json, "recipe");
    if (list) {
        /* A list of the same length as before overrides stream by stream; another length starts afresh. */
        size_t n = json_array_size(list);
        if (n < 1 || n > SU_MAX_STREAMS)
            return su_fail(err, SU_EINVAL, "%s: streams must list 1 to %d towers", where, SU_MAX_STREAMS);
        for (size_t i = (size_t)c->streams; i < n; i++)
            c->stream[i] = (su_stream_config){.tower = vit_base, .lr_factor = 1.0};
        c->streams = (int)n;
        for (size_t i = 0; i < n && !st; i++)
            st = stream_parse(json_array_get(list, i), where, &c->stream[i], err);
    }
    int64_t dim = c->dim;
    if (!st) st = su_json_int_or(json, "dim", where, 0, 65536, c->dim, &dim, err);
    c->dim = (int32_t)dim;
    const char *anchor = NULL;
    if (!st) st = su_json_string_or(json, "anchor", where, NULL, &anchor, err);
    if (!st && anchor) {
        c->anchor = -1;
        for (int i = 0; i < c->streams; i++)
            if (!strcmp(c->stream[i].name, anchor)) c->anchor = i;
        if (c->anchor < 0) return su_fail(err, SU_EINVAL, "%s: anchor '%s' is no stream", where, anchor);
    }
    if (!st && recipe && !json_is_null(recipe)) st = su_image_recipe_parse(recipe, where, &c->recipe, err);
    return st;
}

json_t *su_config_json(const su_train_config *c)
{
    json_t *o = su_fields_json(train_fields, c), *objective = su_fields_json(objective_fields, &c->objective);
    if (!o || !objective) {
        json_decref(o);
        json_decref(objective);
        return NULL;
    }
    json_object_set_new(objective, "name", json_string(c->objective.name));
    json_object_set_new(objective, "centroids", json_string(centroid_names[c->objective.centroids]));
    json_object_set_new(o, "schema", json_string("suture.config/1"));
    json_object_set_new(o, "preset", json_string(c->preset));
    json_object_set_new(o, "objective", objective);
    json_object_set_new(o, "augment", su_fields_json(augment_fields, &c->augment));
    json_object_set_new(o, "model", su_model_config_json(&c->model));
    return o;
}

su_status su_config_merge(const json_t *json, const char *where, su_train_config *c, su_error *err)
{
    static const char *const more[] = {"schema", "preset", "objective", "augment", "model", NULL};
    static const char *const objective_more[] = {"name", "centroids", NULL};
    static const char *const model_known[] = {"streams", "dim", "anchor", "recipe", NULL};
    if (!json_is_object(json)) return su_fail(err, SU_EFORMAT, "%s: a configuration is a JSON object", where);
    const json_t *objective = json_object_get(json, "objective"), *augment = json_object_get(json, "augment"),
                 *model = json_object_get(json, "model");
    su_status st = su_fields_only(json, train_fields, NULL, more, where, err);
    const char *preset = NULL, *name = NULL;
    if (!st) st = su_json_string_or(json, "preset", where, NULL, &preset, err);
    if (!st && preset && *preset && strcmp(preset, c->preset)) st = su_config_preset(preset, c, err);
    if (!st) st = su_fields_parse(train_fields, json, where, c, err);
    if (!st && objective) {
        int centroids = c->objective.centroids;
        st = su_fields_only(objective, objective_fields, NULL, objective_more, where, err);
        if (!st) st = su_json_string_or(objective, "name", where, NULL, &name, err);
        if (!st && name && !strcmp(name, "custom"))
            snprintf(c->objective.name, sizeof c->objective.name, "%s", name);
        else if (!st && name && strcmp(name, c->objective.name))
            st = su_config_objective(name, &c->objective, err);
        if (!st) st = su_fields_parse(objective_fields, objective, where, &c->objective, err);
        if (!st) st = su_choice_parse(objective, "centroids", where, centroid_names, &centroids, err);
        c->objective.centroids = (su_centroids)centroids;
    }
    if (!st && augment) st = su_fields_only(augment, augment_fields, NULL, NULL, where, err);
    if (!st && augment) st = su_fields_parse(augment_fields, augment, where, &c->augment, err);
    if (!st && model) st = su_json_only(model, model_known, where, err);
    if (!st && model) st = su_model_config_parse(model, where, &c->model, err);
    return st;
}

su_status su_config_check(const su_train_config *c, su_error *err)
{
    const su_model_config *m = &c->model;
    if (m->streams < 2) return su_fail(err, SU_EINVAL, "training needs at least two streams");
    for (int i = 0; i < m->streams; i++) {
        const su_stream_config *s = &m->stream[i];
        if (!*s->name) return su_fail(err, SU_EINVAL, "stream %d has no name", i);
        for (int j = 0; j < i; j++)
            if (!strcmp(s->name, m->stream[j].name))
                return su_fail(err, SU_EINVAL, "two streams are named '%s'", s->name);
        if (m->dim == 0 && s->tower.width != m->stream[0].tower.width)
            return su_fail(err, SU_EINVAL, "without a projection (dim 0) all towers need the same width");
        if (s->tower.width % s->tower.heads)
            return su_fail(err, SU_EINVAL, "%s: width %d is not a multiple of heads %d", s->name,
                           s->tower.width, s->tower.heads);
    }
    if (m->anchor < 0 || m->anchor >= m->streams) return su_fail(err, SU_EINVAL, "the anchor is no stream");
    if (c->batch < 2)
        return su_fail(err, SU_EINVAL, "batch must be at least 2: a contrastive loss compares pairs");
    if (c->epochs < 1) return su_fail(err, SU_EINVAL, "epochs must be at least 1");
    return SU_OK;
}
