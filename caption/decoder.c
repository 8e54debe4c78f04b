#include "caption/decoder.h"
#include <stdio.h>

/* The head works on HEAD_ROWS positions at a time: logits of a whole batch would be the largest buffer by
 * far. */
enum { HEAD_ROWS = 512 };
enum { LIST_ID, LIST_POSITION, LIST_TYPE, LIST_ROW, LIST_TARGET, LISTS };

/* --- parameters ---------------------------------------------------------------------------------------- */

static int64_t add(su_decoder *d, const char *prefix, const char *name, int64_t rows, int64_t columns,
                   int group, bool decay, su_init init)
{
    char full[256];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    int64_t shape[2] = {rows, columns};
    return su_params_add(d->params, full, columns ? 2 : 1, shape, decay, group, init, 0.02, false);
}

static su_status check(const su_decoder_config *c, su_error *err)
{
    if (c->depth < 1 || c->depth > 256)
        return su_fail(err, SU_EINVAL, "decoder depth %d is not within 1..256", c->depth);
    if (c->vocabulary < 5 || c->positions < 2 || c->types < 1 || c->memory_width < 1)
        return su_fail(
            err, SU_EINVAL,
            "a decoder needs a vocabulary (%d), at least two positions (%d), a type (%d) and image "
            "tokens (%d wide)",
            c->vocabulary, c->positions, c->types, c->memory_width);
    return SU_OK;
}

su_status su_decoder_new(const su_decoder_config *config, const char *prefix, int group, su_params *params,
                         su_decoder **decoder, su_error *err)
{
    *decoder = NULL;
    su_status st = check(config, err);
    if (st) return st;
    su_decoder *d = su_calloc(1, sizeof *d);
    if (d) d->blocks = su_calloc((size_t)config->depth, sizeof *d->blocks);
    if (!d || !d->blocks) {
        su_decoder_free(d);
        return su_fail(err, SU_ENOMEM, "no memory for the decoder");
    }
    d->config = *config;
    d->params = params;
    d->device = params->device;
    const su_decoder_config *c = &d->config;
    int64_t w = c->width;
    d->word =
        add(d, prefix, "embeddings.word_embeddings.weight", c->vocabulary, w, group, true, SU_INIT_NORMAL);
    d->position =
        add(d, prefix, "embeddings.position_embeddings.weight", c->positions, w, group, true, SU_INIT_NORMAL);
    d->type =
        add(d, prefix, "embeddings.token_type_embeddings.weight", c->types, w, group, true, SU_INIT_NORMAL);
    d->norm_w = add(d, prefix, "embeddings.LayerNorm.weight", w, 0, group, false, SU_INIT_ONE);
    d->norm_b = add(d, prefix, "embeddings.LayerNorm.bias", w, 0, group, false, SU_INIT_ZERO);
    su_block_config b = {.width = c->width,
                         .heads = c->heads,
                         .mlp = c->mlp,
                         .causal = true,
                         .cross = true,
                         .memory_width = c->memory_width,
                         .act = c->act,
                         .eps = c->eps,
                         .dropout = c->dropout,
                         .attention_dropout = c->attention_dropout};
    for (int32_t i = 0; i < c->depth && !st; i++) {
        char name[256];
        snprintf(name, sizeof name, "%sencoder.layer.%d.", prefix, i);
        st = su_block_add(params, &b, &su_block_names_bert, name, group, &d->blocks[i], err);
    }
    d->dense_w = add(d, prefix, "cls.predictions.transform.dense.weight", w, w, group, true, SU_INIT_NORMAL);
    d->dense_b = add(d, prefix, "cls.predictions.transform.dense.bias", w, 0, group, false, SU_INIT_ZERO);
    d->head_norm_w =
        add(d, prefix, "cls.predictions.transform.LayerNorm.weight", w, 0, group, false, SU_INIT_ONE);
    d->head_norm_b =
        add(d, prefix, "cls.predictions.transform.LayerNorm.bias", w, 0, group, false, SU_INIT_ZERO);
    d->bias = add(d, prefix, "cls.predictions.bias", c->vocabulary, 0, group, false, SU_INIT_ZERO);
    if (st)
        su_decoder_free(d);
    else
        *decoder = d;
    return st;
}

void su_decoder_free(su_decoder *d)
{
    if (!d) return;
    su_free(d->blocks);
    su_block_stack_free(&d->stack);
    su_free(d->host);
    su_free(d);
}

/* --- buffers ------------------------------------------------------------------------------------------- */

void su_decoder_plan(su_decoder *d, su_arena *a, int32_t max_batch, int32_t max_tokens, int32_t memory_tokens,
                     bool backward, su_checkpointing level)
{
    const su_decoder_config *c = &d->config;
    size_t act = su_dtype_size(d->device->act), acc = su_dtype_size(d->device->acc), w = (size_t)c->width;
    int64_t rows = (int64_t)max_batch * max_tokens, memory_rows = (int64_t)max_batch * memory_tokens;
    size_t n = (size_t)rows, head = n < HEAD_ROWS ? n : HEAD_ROWS;
    d->max_batch = max_batch;
    d->max_tokens = max_tokens;
    d->memory_tokens = memory_tokens;
    d->backward = backward;
    int32_t *host = su_realloc(d->host, n * 2, sizeof *host);
    if (host) d->host = host;
    if (!host) a->overflow = true;
    d->tokens = su_arena_take(a, n * w, act);
    d->sum = su_arena_take(a, n * w, act);
    d->mean = su_arena_take(a, n, acc);
    d->rstd = su_arena_take(a, n, acc);
    d->lists = su_arena_take(a, n * LISTS, sizeof(int32_t));
    d->lengths = su_arena_take(a, (size_t)max_batch, sizeof(int32_t));
    d->head = su_arena_take(a, head * w, act);
    d->head_pre = su_arena_take(a, head * w, act);
    d->head_act = su_arena_take(a, head * w, act);
    d->head_norm = su_arena_take(a, head * w, act);
    d->head_mean = su_arena_take(a, head, acc);
    d->head_rstd = su_arena_take(a, head, acc);
    d->d_head = su_arena_take(a, head * w, act);
    d->loss = su_arena_take(a, 1, acc);
    d->logits = su_arena_take(a, head * (size_t)c->vocabulary, act);
    if (backward) d->d_tokens = su_arena_take(a, n * w, act);
    su_block_stack_plan(&d->stack, a, d->device, d->blocks, c->depth, rows, rows, memory_rows, backward,
                        level);
}

/* --- forward ------------------------------------------------------------------------------------------- */

static int32_t *list_of(const su_decoder *d, int which)
{
    return d->lists + (size_t)which * (size_t)d->max_batch * (size_t)d->max_tokens;
}

static su_status upload(su_decoder *d, const su_decoder_input *in, int32_t memory_tokens, int64_t *wanted,
                        su_error *err)
{
    const su_decoder_config *c = &d->config;
    int64_t rows = (int64_t)in->batch * in->tokens, n = 0;
    int32_t *row = d->host, *target = d->host + (size_t)d->max_batch * (size_t)d->max_tokens;
    if (in->batch < 1 || in->batch > d->max_batch || in->tokens < 1 || in->tokens > d->max_tokens ||
        memory_tokens < 1 || memory_tokens > d->memory_tokens)
        return su_fail(err, SU_EINVAL,
                       "%d rows of %d tokens over %d image tokens do not fit the planned %d, %d and %d",
                       in->batch, in->tokens, memory_tokens, d->max_batch, d->max_tokens, d->memory_tokens);
    for (int64_t i = 0; i < rows; i++) {
        if (in->ids[i] < 0 || in->ids[i] >= c->vocabulary || in->position[i] < 0 ||
            in->position[i] >= c->positions || in->type[i] < 0 || in->type[i] >= c->types ||
            in->targets[i] >= c->vocabulary)
            return su_fail(err, SU_EINVAL,
                           "token %d at position %d of type %d with target %d is beyond the decoder's tables",
                           in->ids[i], in->position[i], in->type[i], in->targets[i]);
        if (in->targets[i] < 0) continue;
        row[n] = (int32_t)i;
        target[n++] = in->targets[i];
    }
    size_t bytes = (size_t)rows * sizeof(int32_t);
    const su_device_ops *ops = d->device->ops;
    ops->upload(d->device, list_of(d, LIST_ID), in->ids, bytes);
    ops->upload(d->device, list_of(d, LIST_POSITION), in->position, bytes);
    ops->upload(d->device, list_of(d, LIST_TYPE), in->type, bytes);
    ops->upload(d->device, list_of(d, LIST_ROW), row, (size_t)n * sizeof(int32_t));
    ops->upload(d->device, list_of(d, LIST_TARGET), target, (size_t)n * sizeof(int32_t));
    ops->upload(d->device, d->lengths, in->lengths, (size_t)in->batch * sizeof(int32_t));
    *wanted = n;
    return SU_OK;
}

static su_block_call block_call(const su_decoder *d, const su_decoder_input *in, int32_t memory_tokens)
{
    su_rng_key key = in->key;
    key.layer += 16; /* what comes before the blocks draws by the first ids */
    return (su_block_call){.batch = in->batch,
                           .tokens = in->tokens,
                           .lengths = d->lengths,
                           .memory_tokens = memory_tokens,
                           .train = in->train,
                           .final = in->final,
                           .key = key,
                           .first = in->first};
}

static void embed_dropout(const su_decoder *d, const su_decoder_input *in, void *x)
{
    if (!in->train || d->config.dropout <= 0.0) return;
    int64_t row = (int64_t)in->tokens * d->config.width;
    su_rng_key key = in->key;
    key.first = (uint64_t)(in->first * row / 4);
    d->device->ops->dropout(d->device, x, x, d->config.dropout, key, in->batch * row);
}

/* What the head reads: act [rows, width]. */
static const void *run_blocks(su_decoder *d, const su_decoder_input *in, const void *memory,
                              int32_t memory_tokens)
{
    const su_decoder_config *c = &d->config;
    const su_params *p = d->params;
    const su_device_ops *ops = d->device->ops;
    int64_t rows = (int64_t)in->batch * in->tokens;
    ops->gather(d->device, d->sum, false, su_param_weight(p, d->word), list_of(d, LIST_ID), rows, c->width);
    ops->gather(d->device, d->sum, true, su_param_weight(p, d->position), list_of(d, LIST_POSITION), rows,
                c->width);
    ops->gather(d->device, d->sum, true, su_param_weight(p, d->type), list_of(d, LIST_TYPE), rows, c->width);
    ops->norm(d->device, d->tokens, NULL, d->mean, d->rstd, d->sum, NULL, su_param_weight(p, d->norm_w),
              su_param_weight(p, d->norm_b), c->eps, rows, c->width);
    embed_dropout(d, in, d->tokens);
    su_block_call call = block_call(d, in, memory_tokens);
    return su_block_stack_forward(&d->stack, p, &call, d->tokens, memory).x;
}

/* logits of n wanted positions, from the first-th. */
static void head_forward(su_decoder *d, const void *x, int64_t first, int64_t n, void *logits)
{
    const su_params *p = d->params;
    const su_device_ops *ops = d->device->ops;
    int32_t w = d->config.width;
    ops->gather(d->device, d->head, false, x, list_of(d, LIST_ROW) + first, n, w);
    ops->linear(d->device, d->head_act, d->head_pre, d->head, su_param_weight(p, d->dense_w),
                su_param_weight(p, d->dense_b), d->config.act, n, w, w);
    ops->norm(d->device, d->head_norm, NULL, d->head_mean, d->head_rstd, d->head_act, NULL,
              su_param_weight(p, d->head_norm_w), su_param_weight(p, d->head_norm_b), d->config.eps, n, w);
    ops->linear(d->device, logits, NULL, d->head_norm, su_param_weight(p, d->word),
                su_param_weight(p, d->bias), SU_ACT_NONE, n, d->config.vocabulary, w);
}

su_status su_decoder_logits(su_decoder *d, const su_decoder_input *in, const void *memory,
                            int32_t memory_tokens, void *logits, int64_t *count, su_error *err)
{
    su_status st = upload(d, in, memory_tokens, count, err);
    if (st) return st;
    const void *x = run_blocks(d, in, memory, memory_tokens);
    for (int64_t first = 0; first < *count; first += HEAD_ROWS)
        head_forward(d, x, first, *count - first < HEAD_ROWS ? *count - first : HEAD_ROWS,
                     su_act_at(d->device, logits, first * d->config.vocabulary));
    return d->device->ops->sync(d->device, err);
}

/* --- loss and backward --------------------------------------------------------------------------------- */

/* The logits' gradient stands in d->logits; adds the head's gradients and writes its input's rows into dx. */
static void head_backward(su_decoder *d, int64_t first, int64_t n, void *dx)
{
    su_params *p = d->params;
    const su_device_ops *ops = d->device->ops;
    int32_t w = d->config.width;
    ops->linear_backward(d->device, d->d_head, false, su_param_grad(p, d->word), su_param_grad(p, d->bias),
                         d->logits, d->head_norm, su_param_weight(p, d->word), n, d->config.vocabulary, w);
    ops->norm_backward(d->device, d->d_head, false, NULL, su_param_grad(p, d->head_norm_w),
                       su_param_grad(p, d->head_norm_b), d->d_head, d->head_act, d->head_mean, d->head_rstd,
                       su_param_weight(p, d->head_norm_w), n, w);
    ops->act_backward(d->device, d->d_head, NULL, su_param_grad(p, d->dense_b), d->d_head, d->head_pre,
                      d->config.act, n, w);
    ops->linear_backward(d->device, d->head_act, false, su_param_grad(p, d->dense_w), NULL, d->d_head,
                         d->head, su_param_weight(p, d->dense_w), n, w, w);
    ops->scatter(d->device, dx, d->head_act, list_of(d, LIST_ROW) + first, n, w);
}

static void embed_backward(su_decoder *d, const su_decoder_input *in, void *dx)
{
    su_params *p = d->params;
    const su_device_ops *ops = d->device->ops;
    int64_t rows = (int64_t)in->batch * in->tokens;
    int32_t w = d->config.width;
    embed_dropout(d, in, dx);
    ops->norm_backward(d->device, dx, false, NULL, su_param_grad(p, d->norm_w), su_param_grad(p, d->norm_b), dx,
                       d->sum, d->mean, d->rstd, su_param_weight(p, d->norm_w), rows, w);
    ops->scatter_add(d->device, su_param_grad(p, d->word), d->config.vocabulary, true, dx, list_of(d, LIST_ID), rows, w);
    ops->scatter_add(d->device, su_param_grad(p, d->position), d->config.positions, true, dx, list_of(d, LIST_POSITION), rows, w);
    ops->scatter_add(d->device, su_param_grad(p, d->type), d->config.types, true, dx, list_of(d, LIST_TYPE), rows, w);
}

static double read_loss(su_device *d, const void *value)
{
    double wide = 0.0;
    float narrow = 0.0F;
    if (d->acc == SU_DTYPE_F64) {
        d->ops->download(d, &wide, value, sizeof wide);
        return wide;
    }
    d->ops->download(d, &narrow, value, sizeof narrow);
    return (double)narrow;
}

su_status su_decoder_loss(su_decoder *d, const su_decoder_input *in, const void *memory,
                          int32_t memory_tokens, double smoothing, double weight, bool learn, void *d_memory,
                          double *loss, int64_t *count, su_error *err)
{
    const su_decoder_config *c = &d->config;
    su_device *device = d->device;
    const su_device_ops *ops = device->ops;
    size_t act = su_dtype_size(device->act);
    if (learn && !d->backward)
        return su_fail(err, SU_EINVAL, "the decoder was planned without a backward pass");
    su_status st = upload(d, in, memory_tokens, count, err);
    if (st) return st;
    int64_t rows = (int64_t)in->batch * in->tokens;
    const void *x = run_blocks(d, in, memory, memory_tokens);
    void *dx = d->d_tokens;
    if (learn) ops->zero(device, dx, (size_t)(rows * c->width) * act);
    ops->zero(device, d->loss, su_dtype_size(device->acc));
    for (int64_t first = 0; first < *count; first += HEAD_ROWS) {
        int64_t n = *count - first < HEAD_ROWS ? *count - first : HEAD_ROWS;
        head_forward(d, x, first, n, d->logits);
        ops->cross_entropy(device, d->loss, NULL, learn ? d->logits : NULL, d->logits,
                           list_of(d, LIST_TARGET) + first, smoothing, weight, n, c->vocabulary);
        if (learn) head_backward(d, first, n, dx);
    }
    *loss += read_loss(device, d->loss);
    if (!learn) return ops->sync(device, err);
    if (d_memory)
        ops->zero(device, d_memory,
                  (size_t)in->batch * (size_t)memory_tokens * (size_t)c->memory_width * act);
    su_block_call call = block_call(d, in, memory_tokens);
    su_block_stack_backward(&d->stack, d->params, &call, dx, memory, d_memory);
    embed_backward(d, in, dx);
    if (in->final) su_params_ready(d->params, d->word, d->blocks[0].qkv_w); /* all before the blocks */
    return ops->sync(device, err);
}
