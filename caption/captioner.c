#include "caption/captioner.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include <string.h>

void su_captioner_free(su_captioner *c)
{
    if (!c) return;
    su_evidence_free(c->evidence);
    su_decoder_free(c->decoder);
    su_wordpiece_free(c->tokenizer);
    su_model_free(c->model);
    su_free(c);
}

int32_t su_captioner_memory(const su_captioner *c)
{
    return su_tower_tokens(c->model->tower[c->stream]);
}

static su_status captioner_new(su_wordpiece *tokenizer, su_captioner **captioner, su_error *err)
{
    *captioner = su_calloc(1, sizeof **captioner);
    if (*captioner) {
        (*captioner)->tokenizer = tokenizer;
        return SU_OK;
    }
    su_wordpiece_free(tokenizer);
    return su_fail(err, SU_ENOMEM, "no memory for a captioner");
}

static su_status add_decoder(su_captioner *c, const su_decoder_config *config, su_error *err)
{
    c->stream = su_model_stream_of(c->model, SU_TOWER_VIT);
    if (c->stream < 0) return su_fail(err, SU_EINVAL, "the model has no image tower");
    c->model->tokens[c->stream] = true;
    if (config->memory_width != c->model->config.stream[c->stream].tower.width)
        return su_fail(err, SU_EMISMATCH, "the decoder reads image tokens %d wide, the tower's are %d wide",
                       config->memory_width, c->model->config.stream[c->stream].tower.width);
    if (config->vocabulary != su_wordpiece_size(c->tokenizer))
        return su_fail(err, SU_EMISMATCH, "the decoder has %d tokens, its vocabulary %d", config->vocabulary,
                       su_wordpiece_size(c->tokenizer));
    return su_decoder_new(config, "decoder.", SU_GROUP_DECODER, &c->model->params, &c->decoder, err);
}

/* --- files --------------------------------------------------------------------------------------------- */

su_status su_captioner_save(const su_captioner *c, const char *folder, su_error *err)
{
    char *vocab = su_path_join(folder, "caption_vocab.txt"), *json = su_path_join(folder, "caption.json");
    su_status st =
        vocab && json ? su_mkdirs(folder, err) : su_fail(err, SU_ENOMEM, "no memory to save %s", folder);
    size_t length = 0;
    const char *text = su_wordpiece_text(c->tokenizer, &length);
    if (!st) st = su_file_write(vocab, text, length, err);
    char hash[65] = "";
    if (!st && c->evidence) st = su_evidence_save(c->evidence, folder, hash, err);
    if (!st) {
        json_t *root =
            json_pack("{s:s,s:o?,s:i,s:i,s:i,s:s}", "schema", "suture.caption/1", "decoder",
                      su_decoder_config_json(&c->decoder->config), "max_tokens", (int)c->max_tokens,
                      "evidence", (int)c->pieces, "evidence_tokens", (int)c->evidence_tokens,
                      "vocabulary_sha256", su_wordpiece_sha256(c->tokenizer));
        if (root && c->evidence) json_object_set_new(root, "evidence_sha256", json_string(hash));
        st = root ? su_json_write_sealed(json, root, err)
                  : su_fail(err, SU_ENOMEM, "no memory to save %s", folder);
        json_decref(root);
    }
    if (!st) st = su_model_save(c->model, folder, err);
    su_free(vocab);
    su_free(json);
    return st;
}

typedef struct {
    su_decoder_config decoder;
    int64_t max_tokens, evidence, evidence_tokens;
    char vocabulary[65], evidence_sha256[65];
} description;

static su_status read_description(const char *path, description *d, su_error *err)
{
    json_t *root = NULL;
    const char *schema = NULL, *hash = NULL;
    *d = (description){0};
    su_status st = su_json_read_sealed(path, 1 << 20, &root, err);
    if (!st) st = su_json_string(root, "schema", path, &schema, err);
    if (!st && strcmp(schema, "suture.caption/1"))
        st = su_fail(err, SU_EFORMAT, "%s: schema '%s' is not suture.caption/1", path, schema);
    if (!st) st = su_json_string(root, "vocabulary_sha256", path, &hash, err);
    if (!st) st = su_json_int(root, "max_tokens", path, 2, 4096, &d->max_tokens, err);
    if (!st) st = su_json_int(root, "evidence", path, 0, 16, &d->evidence, err);
    if (!st) st = su_json_int(root, "evidence_tokens", path, 1, 4096, &d->evidence_tokens, err);
    if (!st) {
        st = su_decoder_config_parse(json_object_get(root, "decoder"), path, &d->decoder, err);
        if (st == SU_EINVAL) { /* a wrong option, were it one; here the file is damaged */
            if (err) err->code = SU_EFORMAT;
            st = SU_EFORMAT;
        }
    }
    if (!st) snprintf(d->vocabulary, sizeof d->vocabulary, "%s", hash);
    if (!st) st = su_json_string_or(root, "evidence_sha256", path, "", &hash, err);
    if (!st) snprintf(d->evidence_sha256, sizeof d->evidence_sha256, "%s", hash);
    json_decref(root);
    return st;
}

su_status su_captioner_open(const char *folder, su_device *device, su_captioner **captioner, su_error *err)
{
    *captioner = NULL;
    char *vocab = su_path_join(folder, "caption_vocab.txt"), *json = su_path_join(folder, "caption.json");
    su_wordpiece *tokenizer = NULL;
    su_captioner *c = NULL;
    description d;
    su_status st = vocab && json ? SU_OK : su_fail(err, SU_ENOMEM, "no memory to open %s", folder);
    if (!st && !su_file_exists(json))
        st = su_fail(
            err, SU_ENOTFOUND,
            "%s has no caption decoder (no caption.json): train one with 'suture train --caption --from RUN'",
            folder);
    if (!st) st = read_description(json, &d, err);
    if (!st) st = su_wordpiece_open(vocab, &tokenizer, err);
    if (!st && strcmp(su_wordpiece_sha256(tokenizer), d.vocabulary)) {
        st = su_fail(err, SU_EMISMATCH, "%s is not the vocabulary that the decoder was trained with", vocab);
        su_wordpiece_free(tokenizer);
    }
    if (!st) st = captioner_new(tokenizer, &c, err);
    if (!st) st = su_model_read(folder, NULL, device, &c->model, err);
    if (!st) st = add_decoder(c, &d.decoder, err);
    if (!st) st = su_model_load(c->model, folder, c->model->params.count, false, 0, err);
    if (!st) {
        c->max_tokens = (int32_t)d.max_tokens;
        c->pieces = (int32_t)d.evidence;
        c->evidence_tokens = (int32_t)d.evidence_tokens;
    }
    if (!st && c->pieces)
        st = su_evidence_open(folder, su_model_width(c->model), d.evidence_sha256, &c->evidence, err);
    su_free(vocab);
    su_free(json);
    if (st)
        su_captioner_free(c);
    else
        *captioner = c;
    return st;
}

/* --- start of a training ------------------------------------------------------------------------------- */

/* Rows of the text tower's word embeddings go to the tokens that are spelled the same. */
static su_status warm_words(su_captioner *c, int64_t from, const su_wordpiece *whole, su_error *err)
{
    su_params *p = &c->model->params;
    size_t w = (size_t)c->decoder->config.width;
    double *all = su_alloc((size_t)p->items[from].count, sizeof *all),
           *own = su_alloc((size_t)p->items[c->decoder->word].count, sizeof *own);
    su_status st =
        all && own ? su_params_get(p, from, all, err) : su_fail(err, SU_ENOMEM, "no memory to start warm");
    if (!st)
        st = su_params_get(p, c->decoder->word, own,
                           err); /* a token that is spelled as no other stays random */
    for (int32_t id = 0; id < c->decoder->config.vocabulary && !st; id++) {
        int32_t old = su_wordpiece_id(whole, su_wordpiece_token(c->tokenizer, id));
        if (old >= 0) memcpy(own + (size_t)id * w, all + (size_t)old * w, w * sizeof *own);
    }
    if (!st) st = su_params_set(p, c->decoder->word, own, err);
    su_free(all);
    su_free(own);
    return st;
}

/* Everything else that the two have in common by name; of a longer table the first rows. */
static su_status warm_start(su_captioner *c, su_error *err)
{
    su_params *p = &c->model->params;
    int text = su_model_stream_of(c->model, SU_TOWER_BERT);
    const char *stream = c->model->config.stream[text].name;
    su_status st = SU_OK;
    for (int64_t i = 0; i < p->count && !st; i++) {
        const su_param *q = &p->items[i];
        char name[512];
        if (strncmp(q->name, "decoder.", 8)) continue;
        snprintf(name, sizeof name, "%s.%s", stream, q->name + 8);
        int64_t from = su_params_find(p, name);
        if (from < 0) continue;
        if (i == c->decoder->word) {
            st = warm_words(c, from, c->model->tokenizer, err);
            continue;
        }
        int64_t n = q->count < p->items[from].count ? q->count : p->items[from].count;
        int64_t room = q->count > p->items[from].count ? q->count : p->items[from].count;
        double *values = su_alloc((size_t)room, sizeof *values), *old = su_alloc((size_t)room, sizeof *old);
        st = values && old ? su_params_get(p, i, values, err)
                           : su_fail(err, SU_ENOMEM, "no memory to start warm");
        if (!st) st = su_params_get(p, from, old, err);
        if (!st) memcpy(values, old, (size_t)n * sizeof *values);
        if (!st) st = su_params_set(p, i, values, err);
        su_free(values);
        su_free(old);
    }
    su_params_refresh(p);
    return st;
}

su_status su_captioner_new(const su_caption_config *config, su_wordpiece *tokenizer, su_device *device,
                           su_captioner **captioner, su_error *err)
{
    *captioner = NULL;
    su_captioner *c = NULL;
    su_status st = captioner_new(tokenizer, &c, err);
    if (!st) st = su_model_read(config->from, &config->train.model, device, &c->model, err);
    int64_t towers = st ? 0 : c->model->params.count;
    if (!st) st = add_decoder(c, &config->decoder, err);
    if (!st && !config->joint) {
        su_params_freeze(&c->model->params, SU_GROUP_PROJECTION);
        su_params_freeze(&c->model->params, SU_GROUP_LOGIT_SCALE);
    }
    if (!st) st = su_model_load(c->model, config->from, towers, true, config->train.seed, err);
    if (!st && *config->from_sha256 && strcmp(config->from_sha256, c->model->sha256))
        st = su_fail(err, SU_EMISMATCH,
                     "%s is not the alignment that this training was started on (its weights differ)",
                     config->from);
    if (!st && config->warm) st = warm_start(c, err);
    if (st) {
        su_captioner_free(c);
        return st;
    }
    c->max_tokens = config->max_tokens;
    c->pieces = config->evidence;
    c->evidence_tokens = config->evidence_tokens;
    *captioner = c;
    return SU_OK;
}
