/* One file for both towers: they differ in how tokens are made from the input and in where the first and last
 * norms stand; what follows is shared. */
#include "align/tower.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

struct su_tower {
    su_tower_config config;
    su_params *params;
    su_device *device;
    su_block *blocks;
    /* parameters */
    int64_t cls, position, patch_w, patch_b; /* ViT */
    int64_t word, type;                      /* BERT (position as well) */
    int64_t norm_w, norm_b;                  /* ViT: last norm; BERT: embedding norm */
    /* buffers (device), planned */
    int32_t max_batch;
    bool backward;
    bool whole; /* the last block forms all tokens; else only what is pooled, the class token */
    su_block_stack stack;
    uint8_t *images;
    void *patches, *embedded; /* ViT: [B*kept, C*P*P], [B*kept + 1, width] */
    void *tokens;             /* [B*T, width]: what enters the blocks */
    void *norm_sum, *norm_mean, *norm_rstd, *norm_out;
    void *output;             /* of the last forward: [B*T, width] */
    void *pooled, *d_pooled;  /* [B, width] */
    void *d_tokens, *d_small; /* forward is done with norm_out and embedded: their places */
    int32_t *index;           /* device: five lists of at most B*T, see `lists` */
    int32_t *lengths;
    /* host staging of the lists */
    int32_t *host;
    int32_t tokens_now; /* T of the last forward */
};

/* Index lists, each of max_batch * T entries. */
enum { LIST_SOURCE, LIST_POSITION, LIST_ZERO, LIST_PATCH_ROW, LIST_CLS_ROW, LIST_KEEP, LISTS };

static int32_t grid(const su_tower_config *c)
{
    return c->image_size / c->patch;
}

static int32_t all_patches(const su_tower_config *c)
{
    return grid(c) * grid(c);
}

int32_t su_tower_tokens(const su_tower *t)
{
    return t->config.kind == SU_TOWER_VIT ? 1 + all_patches(&t->config) : t->config.max_tokens;
}

void *su_tower_pooled(const su_tower *t)
{
    return t->pooled;
}

void *su_tower_d_pooled(const su_tower *t)
{
    return t->d_pooled;
}

const void *su_tower_output(const su_tower *t, int32_t *tokens)
{
    *tokens = t->tokens_now;
    return t->output;
}

const su_tower_config *su_tower_configuration(const su_tower *t)
{
    return &t->config;
}

/* --- parameters ----------------------------------------------------------------------------------------- */

static su_status check(const su_tower_config *c, const char *prefix, su_error *err)
{
    if (c->depth < 1 || c->depth > 256)
        return su_fail(err, SU_EINVAL, "%s depth %d is not within 1..256", prefix, c->depth);
    if (c->kind == SU_TOWER_VIT) {
        if (c->patch < 1 || c->image_size < c->patch || c->image_size % c->patch || c->image_size > 2048)
            return su_fail(err, SU_EINVAL, "%s image size %d must be a multiple of patch %d, at most 2048",
                           prefix, c->image_size, c->patch);
        if (c->channels != 1 && c->channels != 3)
            return su_fail(err, SU_EINVAL, "%s channels must be 1 or 3, not %d", prefix, c->channels);
        if (c->patch_dropout < 0.0 || c->patch_dropout >= 1.0)
            return su_fail(err, SU_EINVAL, "%s patch_dropout %g is not within [0, 1)", prefix,
                           c->patch_dropout);
    } else if (c->vocabulary < 5 || c->types < 1 || c->max_tokens < 3 || c->max_tokens > c->positions) {
        return su_fail(err, SU_EINVAL,
                       "%s max_tokens %d must be within 3..positions %d, with a vocabulary and types", prefix,
                       c->max_tokens, c->positions);
    }
    return SU_OK;
}

static int64_t add(su_tower *t, const char *prefix, const char *name, int rank, const int64_t *shape,
                   bool decay, int group, su_init init)
{
    char full[256];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    return su_params_add(t->params, full, rank, shape, decay, group, init, 0.02, false);
}

su_status su_tower_new(const su_tower_config *config, const char *prefix, int group, su_params *params,
                       su_tower **tower, su_error *err)
{
    *tower = NULL;
    su_status st = check(config, prefix, err);
    if (st) return st;
    su_tower *t = su_calloc(1, sizeof *t);
    if (t) t->blocks = su_calloc((size_t)config->depth, sizeof *t->blocks);
    if (!t || !t->blocks) {
        su_tower_free(t);
        return su_fail(err, SU_ENOMEM, "no memory for the %s tower", prefix);
    }
    t->config = *config;
    t->params = params;
    t->device = params->device;
    const su_tower_config *c = &t->config;
    int64_t w = c->width;
    bool vit = c->kind == SU_TOWER_VIT;
    if (vit) {
        t->cls =
            add(t, prefix, "embeddings.cls_token", 3, (int64_t[]){1, 1, w}, false, group, SU_INIT_NORMAL);
        t->position =
            add(t, prefix, "embeddings.position_embeddings", 3, (int64_t[]){1, 1 + all_patches(c), w}, false,
                group, c->start == SU_START_SCALED ? SU_INIT_GRID : SU_INIT_NORMAL);
        t->patch_w = add(t, prefix, "embeddings.patch_embeddings.projection.weight", 4,
                         (int64_t[]){w, c->channels, c->patch, c->patch}, true, group, SU_INIT_NORMAL);
        t->patch_b =
            add(t, prefix, "embeddings.patch_embeddings.projection.bias", 1, &w, false, group, SU_INIT_ZERO);
    } else {
        t->word = add(t, prefix, "embeddings.word_embeddings.weight", 2, (int64_t[]){c->vocabulary, w}, true,
                      group, SU_INIT_NORMAL);
        t->position = add(t, prefix, "embeddings.position_embeddings.weight", 2, (int64_t[]){c->positions, w},
                          true, group, SU_INIT_NORMAL);
        t->type = add(t, prefix, "embeddings.token_type_embeddings.weight", 2, (int64_t[]){c->types, w}, true,
                      group, SU_INIT_NORMAL);
        t->norm_w = add(t, prefix, "embeddings.LayerNorm.weight", 1, &w, false, group, SU_INIT_ONE);
        t->norm_b = add(t, prefix, "embeddings.LayerNorm.bias", 1, &w, false, group, SU_INIT_ZERO);
    }
    for (int32_t i = 0; i < c->depth && !st; i++) {
        su_block_config b = {.width = c->width,
                             .heads = c->heads,
                             .mlp = c->mlp,
                             .pre_norm = vit,
                             .scaled_start = c->start == SU_START_SCALED,
                             .act = c->act,
                             .eps = c->eps,
                             .dropout = c->dropout,
                             .attention_dropout = c->attention_dropout,
                             .drop_path = c->depth > 1 ? c->drop_path * i / (c->depth - 1) : c->drop_path};
        char name[256];
        snprintf(name, sizeof name, "%sencoder.layer.%d.", prefix, i);
        st = su_block_add(params, &b, vit ? &su_block_names_vit : &su_block_names_bert, name, group,
                          &t->blocks[i], err);
    }
    if (vit) {
        t->norm_w = add(t, prefix, "layernorm.weight", 1, &w, false, group, SU_INIT_ONE);
        t->norm_b = add(t, prefix, "layernorm.bias", 1, &w, false, group, SU_INIT_ZERO);
    }
    if (st)
        su_tower_free(t);
    else
        *tower = t;
    return st;
}

void su_tower_free(su_tower *t)
{
    if (!t) return;
    su_free(t->blocks);
    su_block_stack_free(&t->stack);
    su_free(t->host);
    su_free(t);
}

/* --- buffers -------------------------------------------------------------------------------------------- */

void su_tower_plan(su_tower *t, su_arena *a, int32_t max_batch, bool backward, su_checkpointing level, bool tokens)
{
    const su_tower_config *c = &t->config;
    su_device *d = t->device;
    size_t act = su_dtype_size(d->act), acc = su_dtype_size(d->acc);
    size_t batch = (size_t)max_batch, w = (size_t)c->width, rows = batch * (size_t)su_tower_tokens(t);
    bool vit = c->kind == SU_TOWER_VIT;
    t->max_batch = max_batch;
    t->backward = backward;
    t->whole = tokens || c->pooling != SU_POOLING_CLS;
    int32_t *host = su_realloc(t->host, rows * LISTS, sizeof *host);
    if (host) t->host = host;
    if (!host) a->overflow = true;
    if (vit) {
        size_t patches = batch * (size_t)all_patches(c),
               cut = (size_t)c->channels * (size_t)c->patch * (size_t)c->patch;
        t->images =
            su_arena_take(a, batch * (size_t)c->image_size * (size_t)c->image_size, (size_t)c->channels);
        t->patches = su_arena_take(a, patches * cut, act);
        t->embedded = su_arena_take(a, (patches + 1) * w, act);
    }
    t->tokens = su_arena_take(a, rows * w, act);
    t->norm_sum = su_arena_take(a, rows * w, act);
    t->norm_mean = su_arena_take(a, rows, acc);
    t->norm_rstd = su_arena_take(a, rows, acc);
    if (vit || backward) t->norm_out = t->d_tokens = su_arena_take(a, rows * w, act);
    t->d_small = t->embedded;
    t->pooled = su_arena_take(a, batch * w, act);
    if (backward) t->d_pooled = su_arena_take(a, batch * w, act);
    t->index = su_arena_take(a, rows * LISTS, sizeof(int32_t));
    t->lengths = su_arena_take(a, batch, sizeof(int32_t));
    su_block_stack_plan(&t->stack, a, d, t->blocks, c->depth, (int64_t)rows, (int64_t)(t->whole ? rows : batch), 0, backward,
                        level);
}

/* --- indexes -------------------------------------------------------------------------------------------- */

static int32_t *host_list(su_tower *t, int which)
{
    return t->host + (size_t)which * (size_t)t->max_batch * (size_t)su_tower_tokens(t);
}

static int32_t *device_list(const su_tower *t, int which)
{
    return t->index + (size_t)which * (size_t)t->max_batch * (size_t)su_tower_tokens(t);
}

/* Chooses `kept` of all patches, ascending: a selection scan with the exact probability at each patch. */
static void choose_patches(su_rng_key key, int64_t sample, int32_t all, int32_t kept, int32_t *out)
{
    int32_t n = 0;
    for (int32_t i = 0; i < all && n < kept; i++) {
        double u = su_rng_uniform(key, (uint64_t)sample * (uint64_t)all + (uint64_t)i);
        if (u * (all - i) < kept - n) out[n++] = i;
    }
}

static int32_t kept_patches(const su_tower_config *c, bool train)
{
    int32_t all = all_patches(c);
    if (!train || c->patch_dropout <= 0.0) return all;
    int32_t kept = (int32_t)lround(all * (1.0 - c->patch_dropout));
    return kept < 1 ? 1 : kept;
}

static void upload_lists(su_tower *t, int64_t entries)
{
    for (int i = 0; i < LISTS; i++)
        t->device->ops->upload(t->device, device_list(t, i), host_list(t, i),
                               (size_t)entries * sizeof(int32_t));
}

static void vit_lists(su_tower *t, const su_tower_input *in, int32_t kept)
{
    int32_t tokens = 1 + kept, all = all_patches(&t->config);
    su_rng_key key = in->key;
    key.layer += 1;
    for (int32_t b = 0; b < in->batch; b++) {
        int32_t *keep = host_list(t, LIST_KEEP) + (size_t)b * (size_t)kept;
        if (kept < all)
            choose_patches(key, in->first + b, all, kept, keep);
        else
            for (int32_t i = 0; i < kept; i++) keep[i] = i;
        for (int32_t i = 0; i < tokens; i++) {
            int32_t row = b * tokens + i;
            host_list(t, LIST_SOURCE)[row] = i == 0 ? in->batch * kept : b * kept + i - 1;
            host_list(t, LIST_POSITION)[row] = i == 0 ? 0 : 1 + keep[i - 1];
            host_list(t, LIST_ZERO)[row] = 0;
            if (i > 0) host_list(t, LIST_PATCH_ROW)[b * kept + i - 1] = row;
        }
        host_list(t, LIST_CLS_ROW)[b] = b * tokens;
    }
    upload_lists(t, (int64_t)in->batch * tokens);
}

static su_status bert_lists(su_tower *t, const su_tower_input *in, int32_t tokens, su_error *err)
{
    const su_tower_config *c = &t->config;
    for (int32_t b = 0; b < in->batch; b++) {
        for (int32_t i = 0; i < tokens; i++) {
            int32_t row = b * tokens + i, id = in->ids[(size_t)b * (size_t)c->max_tokens + (size_t)i];
            if (id < 0 || id >= c->vocabulary)
                return su_fail(err, SU_EINVAL, "token id %d is outside the tower's vocabulary of %d", id,
                               c->vocabulary);
            host_list(t, LIST_SOURCE)[row] = id;
            host_list(t, LIST_POSITION)[row] = i;
            host_list(t, LIST_ZERO)[row] = 0;
        }
        host_list(t, LIST_CLS_ROW)[b] = b * tokens;
    }
    upload_lists(t, (int64_t)in->batch * tokens);
    t->device->ops->upload(t->device, t->lengths, in->lengths, (size_t)in->batch * sizeof(int32_t));
    return SU_OK;
}

/* --- forward -------------------------------------------------------------------------------------------- */

static su_block_call block_call(const su_tower *t, const su_tower_input *in)
{
    su_rng_key key = in->key;
    key.layer += 16; /* what comes before the blocks draws by the first ids */
    return (su_block_call){.batch = in->batch,
                           .tokens = t->tokens_now,
                           .train = in->train,
                           .final = in->final,
                           .key = key,
                           .first = in->first,
                           .wanted = t->whole ? NULL : device_list(t, LIST_CLS_ROW),
                           .lengths = t->config.kind == SU_TOWER_BERT ? t->lengths : NULL};
}

/* Rows behind the last block. */
static int64_t rows_behind(const su_tower *t, const su_tower_input *in)
{
    return t->whole ? (int64_t)in->batch * t->tokens_now : in->batch;
}

static void embed_dropout(const su_tower *t, const su_tower_input *in, void *x)
{
    if (!in->train || t->config.dropout <= 0.0) return;
    int64_t sample = (int64_t)t->tokens_now * t->config.width;
    su_rng_key key = in->key;
    key.first = (uint64_t)(in->first * sample / 4);
    t->device->ops->dropout(t->device, x, x, t->config.dropout, key, in->batch * sample);
}

static void vit_embed(su_tower *t, const su_tower_input *in)
{
    const su_tower_config *c = &t->config;
    su_device *d = t->device;
    const su_params *p = t->params;
    int32_t kept = kept_patches(c, in->train), cut = c->channels * c->patch * c->patch;
    int64_t patches = (int64_t)in->batch * kept, rows = patches + in->batch;
    t->tokens_now = 1 + kept;
    vit_lists(t, in, kept);
    const uint8_t *images = in->on_device ? in->images : t->images;
    if (!in->on_device)
        d->ops->upload(d, t->images, in->images,
                       (size_t)in->batch * (size_t)c->image_size * (size_t)c->image_size *
                           (size_t)c->channels);
    su_patches cutting = {.batch = in->batch,
                          .channels = c->channels,
                          .height = c->image_size,
                          .width = c->image_size,
                          .patch = c->patch,
                          .keep = device_list(t, LIST_KEEP),
                          .kept = kept};
    for (int i = 0; i < c->channels; i++) {
        cutting.mean[i] = (float)c->mean[i];
        cutting.std[i] = (float)c->std[i];
    }
    d->ops->patches(d, t->patches, images, &cutting);
    d->ops->linear(d, t->embedded, NULL, t->patches, su_param_weight(p, t->patch_w),
                   su_param_weight(p, t->patch_b), SU_ACT_NONE, patches, c->width, cut);
    d->ops->copy(d, su_act_at(d, t->embedded, patches * c->width), su_param_weight(p, t->cls),
                 (size_t)c->width * su_dtype_size(d->act));
    d->ops->gather(d, t->tokens, false, t->embedded, device_list(t, LIST_SOURCE), rows, c->width);
    d->ops->gather(d, t->tokens, true, su_param_weight(p, t->position), device_list(t, LIST_POSITION), rows,
                   c->width);
    embed_dropout(t, in, t->tokens);
}

static su_status bert_embed(su_tower *t, const su_tower_input *in, su_error *err)
{
    const su_tower_config *c = &t->config;
    su_device *d = t->device;
    const su_params *p = t->params;
    int32_t tokens = in->tokens > 1 ? in->tokens : 1;
    if (tokens > c->max_tokens)
        return su_fail(err, SU_EINVAL, "rows of %d tokens are more than the tower's %d", tokens,
                       c->max_tokens);
    for (int32_t b = 0; b < in->batch; b++) {
        if (in->lengths[b] < 1 || in->lengths[b] > c->max_tokens)
            return su_fail(err, SU_EINVAL, "text %d has %d tokens, the tower takes 1..%d", b, in->lengths[b],
                           c->max_tokens);
        if (in->lengths[b] > tokens) tokens = in->lengths[b];
    }
    t->tokens_now = tokens;
    su_status st = bert_lists(t, in, tokens, err);
    if (st) return st;
    int64_t rows = (int64_t)in->batch * tokens;
    d->ops->gather(d, t->norm_sum, false, su_param_weight(p, t->word), device_list(t, LIST_SOURCE), rows,
                   c->width);
    d->ops->gather(d, t->norm_sum, true, su_param_weight(p, t->position), device_list(t, LIST_POSITION), rows,
                   c->width);
    d->ops->gather(d, t->norm_sum, true, su_param_weight(p, t->type), device_list(t, LIST_ZERO), rows,
                   c->width);
    d->ops->norm(d, t->tokens, NULL, t->norm_mean, t->norm_rstd, t->norm_sum, NULL,
                 su_param_weight(p, t->norm_w), su_param_weight(p, t->norm_b), c->eps, rows, c->width);
    embed_dropout(t, in, t->tokens);
    return SU_OK;
}

su_status su_tower_forward(su_tower *t, const su_tower_input *in, void **pooled, su_error *err)
{
    const su_tower_config *c = &t->config;
    su_device *d = t->device;
    bool vit = c->kind == SU_TOWER_VIT;
    if (in->batch < 1 || in->batch > t->max_batch)
        return su_fail(err, SU_EINVAL, "a batch of %d does not fit the %d that buffers were planned for",
                       in->batch, t->max_batch);
    *pooled = t->pooled;
    if (in->pooled) {
        d->ops->upload(d, t->pooled, in->pooled, (size_t)in->batch * (size_t)c->width * sizeof *in->pooled);
        return SU_OK;
    }
    if (vit) {
        vit_embed(t, in);
    } else {
        su_status st = bert_embed(t, in, err);
        if (st) return st;
    }
    su_block_call call = block_call(t, in);
    su_stream stream = su_block_stack_forward(&t->stack, t->params, &call, t->tokens, NULL);
    void *out = stream.x;
    if (vit) {
        out = t->whole ? t->norm_out : t->pooled;
        su_stream_norm(d, &stream, out, t->norm_sum, t->norm_mean, t->norm_rstd,
                       su_param_weight(t->params, t->norm_w), su_param_weight(t->params, t->norm_b), c->eps,
                       rows_behind(t, in), c->width);
    } else if (!t->whole) {
        d->ops->copy(d, t->pooled, out, (size_t)in->batch * (size_t)c->width * su_dtype_size(d->act));
    }
    t->output = t->whole ? out : NULL;
    if (!t->whole) return SU_OK;
    if (c->pooling == SU_POOLING_CLS)
        d->ops->gather(d, t->pooled, false, out, device_list(t, LIST_CLS_ROW), in->batch, c->width);
    else
        d->ops->mean_pool(d, t->pooled, out, vit ? NULL : t->lengths, in->batch, t->tokens_now, vit ? 1 : 0,
                          c->width);
    return SU_OK;
}

/* --- backward ------------------------------------------------------------------------------------------- */

su_status su_tower_backward(su_tower *t, const su_tower_input *in, const void *d_pooled, const void *d_tokens,
                            su_error *err)
{
    const su_tower_config *c = &t->config;
    su_device *d = t->device;
    su_params *p = t->params;
    bool vit = c->kind == SU_TOWER_VIT;
    if (!t->backward) return su_fail(err, SU_EINVAL, "the tower was planned without a backward pass");
    if (!t->whole && d_tokens) return su_fail(err, SU_EINVAL, "the tower was planned without its tokens");
    int64_t rows = (int64_t)in->batch * t->tokens_now, behind = rows_behind(t, in);
    void *dx = t->d_tokens;
    if (!t->whole && d_pooled) {
        d->ops->copy(d, dx, d_pooled, (size_t)(behind * c->width) * su_dtype_size(d->act));
    } else if (!d_pooled || c->pooling == SU_POOLING_CLS) {
        d->ops->zero(d, dx, (size_t)(behind * c->width) * su_dtype_size(d->act));
        if (d_pooled)
            d->ops->scatter_add(d, dx, rows, false, d_pooled, device_list(t, LIST_CLS_ROW), in->batch, c->width);
    } else {
        d->ops->mean_pool_backward(d, dx, d_pooled, vit ? NULL : t->lengths, in->batch, t->tokens_now,
                                   vit ? 1 : 0, c->width);
    }
    if (d_tokens) d->ops->add(d, dx, dx, d_tokens, rows * c->width);
    if (vit)
        d->ops->norm_backward(d, dx, false, NULL, su_param_grad(p, t->norm_w), su_param_grad(p, t->norm_b), dx,
                              t->norm_sum, t->norm_mean, t->norm_rstd, su_param_weight(p, t->norm_w), behind,
                              c->width);
    if (vit && in->final) su_params_ready(p, t->norm_w, t->norm_b + 1);
    su_block_call call = block_call(t, in);
    su_block_stack_backward(&t->stack, p, &call, dx, NULL, NULL);
    embed_dropout(t, in, dx);
    if (vit) {
        int32_t kept = t->tokens_now - 1, cut = c->channels * c->patch * c->patch;
        int64_t patches = (int64_t)in->batch * kept;
        d->ops->scatter_add(d, su_param_grad(p, t->position), 1 + all_patches(c), true, dx, device_list(t, LIST_POSITION), rows,
                            c->width);
        d->ops->gather(d, t->d_small, false, dx, device_list(t, LIST_CLS_ROW), in->batch, c->width);
        d->ops->scatter_add(d, su_param_grad(p, t->cls), 1, true, t->d_small, device_list(t, LIST_ZERO),
                            in->batch, c->width);
        d->ops->gather(d, t->d_small, false, dx, device_list(t, LIST_PATCH_ROW), patches, c->width);
        d->ops->linear_backward(d, NULL, false, su_param_grad(p, t->patch_w), su_param_grad(p, t->patch_b),
                                t->d_small, t->patches, su_param_weight(p, t->patch_w), patches, c->width,
                                cut);
    } else {
        d->ops->norm_backward(d, dx, false, NULL, su_param_grad(p, t->norm_w), su_param_grad(p, t->norm_b), dx,
                              t->norm_sum, t->norm_mean, t->norm_rstd, su_param_weight(p, t->norm_w), rows,
                              c->width);
        d->ops->scatter_add(d, su_param_grad(p, t->word), c->vocabulary, true, dx, device_list(t, LIST_SOURCE), rows,
                            c->width);
        d->ops->scatter_add(d, su_param_grad(p, t->position), c->positions, true, dx, device_list(t, LIST_POSITION), rows,
                            c->width);
        d->ops->scatter_add(d, su_param_grad(p, t->type), c->types, true, dx, device_list(t, LIST_ZERO), rows,
                            c->width);
    }
    if (in->final) su_params_ready(p, vit ? t->cls : t->word, t->blocks[0].qkv_w); /* all before the blocks */
    return SU_OK;
}

/* --- positions ------------------------------------------------------------------------------------------ */

static double cubic(double x) /* Keys' kernel, a = -0.75, as PyTorch's bicubic interpolation uses it */
{
    const double a = -0.75;
    x = fabs(x);
    if (x <= 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
    if (x < 2.0) return a * (((x - 5.0) * x + 8.0) * x - 4.0);
    return 0.0;
}

void su_vit_interpolate_positions(const double *from, int32_t g, double *to, int32_t h, int32_t width)
{
    memcpy(to, from, (size_t)width * sizeof *to);
    for (int32_t y = 0; y < h; y++) {
        for (int32_t x = 0; x < h; x++) {
            double *out = to + (1 + (size_t)y * (size_t)h + (size_t)x) * (size_t)width;
            double sy = (y + 0.5) * g / h - 0.5, sx = (x + 0.5) * g / h - 0.5;
            int32_t y0 = (int32_t)floor(sy), x0 = (int32_t)floor(sx);
            for (int32_t k = 0; k < width; k++) out[k] = 0.0;
            for (int32_t j = -1; j <= 2; j++) {
                for (int32_t i = -1; i <= 2; i++) {
                    int32_t yy = y0 + j < 0 ? 0 : y0 + j >= g ? g - 1 : y0 + j;
                    int32_t xx = x0 + i < 0 ? 0 : x0 + i >= g ? g - 1 : x0 + i;
                    double weight = cubic(sy - (y0 + j)) * cubic(sx - (x0 + i));
                    const double *row = from + (1 + (size_t)yy * (size_t)g + (size_t)xx) * (size_t)width;
                    for (int32_t k = 0; k < width; k++) out[k] += weight * row[k];
                }
            }
        }
    }
}
