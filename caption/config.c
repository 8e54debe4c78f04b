#include "caption/config.h"
#include "align/model.h"
#include "base/fields.h"
#include "base/file.h"
#include "base/json.h"
#include <stdio.h>
#include <string.h>

static const su_field decoder_fields[] = {
    SU_FIELD(su_decoder_config, "width", width, SU_FIELD_INT32, 1, 16384),
    SU_FIELD(su_decoder_config, "depth", depth, SU_FIELD_INT32, 1, 256),
    SU_FIELD(su_decoder_config, "heads", heads, SU_FIELD_INT32, 1, 1024),
    SU_FIELD(su_decoder_config, "mlp", mlp, SU_FIELD_INT32, 1, 65536),
    SU_FIELD(su_decoder_config, "memory_width", memory_width, SU_FIELD_INT32, 0, 16384),
    SU_FIELD(su_decoder_config, "vocabulary", vocabulary, SU_FIELD_INT32, 0, 1 << 24),
    SU_FIELD(su_decoder_config, "positions", positions, SU_FIELD_INT32, 0, 65536),
    SU_FIELD(su_decoder_config, "types", types, SU_FIELD_INT32, 0, 1024),
    SU_FIELD(su_decoder_config, "eps", eps, SU_FIELD_NUMBER, 0, 1),
    SU_FIELD(su_decoder_config, "dropout", dropout, SU_FIELD_NUMBER, 0, 0.99),
    SU_FIELD(su_decoder_config, "attention_dropout", attention_dropout, SU_FIELD_NUMBER, 0, 0.99),
    {0},
};

static const su_field caption_fields[] = {
    SU_FIELD(su_caption_config, "from", from, SU_FIELD_TEXT, 0, 0),
    SU_FIELD(su_caption_config, "from_sha256", from_sha256, SU_FIELD_TEXT, 0, 0),
    SU_FIELD(su_caption_config, "warm", warm, SU_FIELD_BOOL, 0, 0),
    SU_FIELD(su_caption_config, "whole_vocabulary", whole_vocabulary, SU_FIELD_BOOL, 0, 0),
    SU_FIELD(su_caption_config, "max_tokens", max_tokens, SU_FIELD_INT32, 2, 4096),
    SU_FIELD(su_caption_config, "evidence", evidence, SU_FIELD_INT32, 0, 16),
    SU_FIELD(su_caption_config, "evidence_tokens", evidence_tokens, SU_FIELD_INT32, 1, 4096),
    SU_FIELD(su_caption_config, "label_smoothing", label_smoothing, SU_FIELD_NUMBER, 0, 0.9),
    SU_FIELD(su_caption_config, "weight", weight, SU_FIELD_NUMBER, 0, 1e6),
    SU_FIELD(su_caption_config, "joint", joint, SU_FIELD_BOOL, 0, 0),
    {0},
};

static const char *const act_names[] = {"none", "gelu", "gelu_tanh", "quick_gelu", "tanh", NULL};

json_t *su_decoder_config_json(const su_decoder_config *c)
{
    json_t *o = su_fields_json(decoder_fields, c);
    if (o) json_object_set_new(o, "activation", json_string(act_names[c->act]));
    return o;
}

su_status su_decoder_config_parse(const json_t *o, const char *where, su_decoder_config *c, su_error *err)
{
    static const char *const more[] = {"activation", NULL};
    int act = c->act;
    if (!json_is_object(o)) return su_fail(err, SU_EFORMAT, "%s: \"decoder\" must be an object", where);
    su_status st = su_fields_only(o, decoder_fields, NULL, more, where, err);
    if (!st) st = su_fields_parse(decoder_fields, o, where, c, err);
    if (!st) st = su_choice_parse(o, "activation", where, act_names, &act, err);
    c->act = (su_activation)act;
    return st;
}

json_t *su_caption_config_json(const su_caption_config *c)
{
    json_t *o = su_config_json(&c->train), *own = su_fields_json(caption_fields, c);
    if (own) json_object_set_new(own, "decoder", su_decoder_config_json(&c->decoder));
    if (!o || !own || json_object_set_new(o, "caption", own)) {
        json_decref(o);
        return NULL;
    }
    return o;
}

su_status su_caption_config_merge(const json_t *json, const char *where, su_caption_config *c, su_error *err)
{
    static const char *const more[] = {"decoder", NULL};
    if (!json_is_object(json)) return su_fail(err, SU_EFORMAT, "%s: a configuration is a JSON object", where);
    json_t *rest = json_copy((json_t *)(uintptr_t)json);
    if (!rest) return su_fail(err, SU_ENOMEM, "no memory for %s", where);
    json_object_del(rest, "caption");
    const json_t *own = json_object_get(json, "caption"), *decoder = json_object_get(own, "decoder");
    su_status st = su_config_merge(rest, where, &c->train, err);
    if (!st && own && !json_is_object(own))
        st = su_fail(err, SU_EFORMAT, "%s: \"caption\" must be an object", where);
    if (!st && own) st = su_fields_only(own, caption_fields, NULL, more, where, err);
    if (!st && own) st = su_fields_parse(caption_fields, own, where, c, err);
    if (!st && decoder) st = su_decoder_config_parse(decoder, where, &c->decoder, err);
    json_decref(rest);
    return st;
}

static const su_tower_config *tower_of(const su_model_config *m, su_tower_kind kind)
{
    for (int i = 0; i < m->streams; i++)
        if (m->stream[i].tower.kind == kind) return &m->stream[i].tower;
    return NULL;
}

/* The alignment's own objective and augmentation, where it left its configuration. */
static su_status read_run(const char *folder, su_train_config *c, su_error *err)
{
    char *path = su_path_join(folder, "config.json");
    json_t *json = NULL;
    su_status st = path ? SU_OK : su_fail(err, SU_ENOMEM, "no memory to read %s", folder);
    if (!st && su_file_exists(path)) {
        st = su_json_read(path, 1 << 20, &json, err);
        if (!st) json_object_del(json, "data_sha256");
        if (!st) json_object_del(json, "caption");
        if (!st) st = su_config_merge(json, path, c, err);
    }
    json_decref(json);
    su_free(path);
    return st;
}

su_status su_caption_config_from(const char *folder, su_caption_config *c, su_error *err)
{
    *c = (su_caption_config){0};
    if (strlen(folder) >= sizeof c->from)
        return su_fail(err, SU_EINVAL, "%.60s...: a folder's name of more than %zu bytes", folder,
                       sizeof c->from - 1);
    su_status st = su_config_preset("tiny", &c->train, err);
    if (!st) st = read_run(folder, &c->train, err);
    if (!st) st = su_model_read_config(folder, &c->train.model, err);
    if (st) return st;
    const su_tower_config *image = tower_of(&c->train.model, SU_TOWER_VIT),
                          *text = tower_of(&c->train.model, SU_TOWER_BERT);
    if (!image) return su_fail(err, SU_EINVAL, "%s has no image tower: a caption needs an image", folder);
    snprintf(c->from, sizeof c->from, "%s", folder);
    for (int i = 0; i < c->train.model.streams; i++) c->train.model.stream[i].lr_factor = 0.0;
    const su_tower_config *like = text ? text : image;
    c->decoder = (su_decoder_config){.width = like->width,
                                     .depth = like->depth,
                                     .heads = like->heads,
                                     .mlp = like->mlp,
                                     .act = like->act,
                                     .eps = 1e-12,
                                     .dropout = 0.1,
                                     .attention_dropout = 0.1};
    c->warm = text != NULL;
    c->max_tokens = 40;
    c->evidence_tokens = 32;
    c->label_smoothing = 0.1;
    c->weight = 1.0;
    c->train.epochs = 20;
    c->train.batch = 64;
    c->train.micro_batch = 0;
    c->train.lr = 1e-3;
    c->train.holdout = 0.1;
    c->train.keep_best = true;
    return SU_OK;
}

su_status su_caption_config_check(su_caption_config *c, su_error *err)
{
    su_model_config *m = &c->train.model;
    const su_tower_config *image = tower_of(m, SU_TOWER_VIT), *text = tower_of(m, SU_TOWER_BERT);
    int images = 0;
    for (int i = 0; i < m->streams; i++) images += m->stream[i].tower.kind == SU_TOWER_VIT;
    if (images != 1)
        return su_fail(err, SU_EUNSUPPORTED,
                       "a caption is written from one image, this model has %d image streams", images);
    if (c->weight <= 0.0) return su_fail(err, SU_EINVAL, "the weight of the caption loss must be above 0");
    for (int i = 0; i < m->streams; i++)
        if (!c->joint && m->stream[i].tower.kind == SU_TOWER_BERT && m->stream[i].lr_factor != 0.0)
            return su_fail(
                err, SU_EINVAL,
                "the caption loss does not reach the text tower: leave \"lr_factor\" of stream '%s' at 0, "
                "or train jointly (\"joint\")",
                m->stream[i].name);
    if (c->joint) {
        su_status st = su_config_check(&c->train, err);
        if (st) return st;
        if (c->evidence)
            return su_fail(err, SU_EUNSUPPORTED,
                           "evidence is found in a space that stays as it is: it does not go with \"joint\"");
    }
    bool image_learns = false;
    for (int i = 0; i < m->streams; i++)
        image_learns |= m->stream[i].tower.kind == SU_TOWER_VIT && m->stream[i].lr_factor != 0.0;
    if (c->evidence && image_learns)
        return su_fail(err, SU_EUNSUPPORTED,
                       "evidence is found in a space that stays as it is: it goes with a frozen image tower");
    const su_decoder_config *d = &c->decoder;
    if (c->warm && (!text || text->width != d->width || text->heads != d->heads || text->mlp != d->mlp ||
                    text->act != d->act || text->depth < d->depth))
        return su_fail(
            err, SU_EINVAL,
            "a decoder that starts warm has the text tower's width, heads, mlp and activation, and at most "
            "its depth: set \"warm\" to false, or change the decoder");
    if (d->width % d->heads)
        return su_fail(err, SU_EINVAL, "decoder width %d is not a multiple of heads %d", d->width, d->heads);
    int32_t longest = c->evidence && c->evidence_tokens > c->max_tokens ? c->evidence_tokens : c->max_tokens;
    c->decoder.memory_width = image->width;
    c->decoder.positions = longest + 1;
    c->decoder.types = 1 + c->evidence;
    return SU_OK;
}
