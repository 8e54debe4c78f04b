#include "caption/cache.h"
#include <math.h>
#include <string.h>

enum { IMAGES_AT_ONCE = 16, FULL = 16 /* rows of a repeated call are a multiple of it */ };

/* Lists of a call, max_rows each. */
enum {
    LIST_ID,
    LIST_POSITION,
    LIST_TYPE,
    LIST_PLACE,
    LIST_LENGTH,
    LIST_IMAGE,
    LIST_TOKENS,
    LIST_WANTED,
    LISTS
};

struct su_cache {
    const su_decoder *decoder;
    su_device *device;
    int32_t slots, places, memory_tokens, max_rows, max_keys, k; /* max_rows: with those that fill up */
    size_t bytes;
    void *memory;         /* of all that follows */
    void **text, **image; /* [depth]: act [slots*places, 2w], [slots*memory_tokens, 2w] */
    void *x, *next, *y, *q, *kv, *attended, *wide, *logits; /* act [max_rows, ...] */
    void *narrow;                                           /* F32 copy of logits where act is not */
    void *seen;       /* act [slots][memory_tokens][memory_width]: images as they came */
    bool *fresh;      /* [slots], host: set, and keys and values not computed yet */
    int32_t at_once;  /* images whose keys and values are computed together */
    void *staged;     /* act [at_once][memory_tokens][2w]: as they are computed */
    int32_t *by_head; /* their order in the cache: see order_heads */
    int32_t *lists, *keys;
    int32_t *host_lists;      /* [LISTS][max_rows] */
    char *found, *host_found; /* of n rows: int32 tokens [n][k], float values [n][k], float log-sums [n] */
    su_recorded **recorded;   /* of (i + 1) * FULL rows; NULL: nothing is repeated */
    int64_t rows, asked;      /* of the call under way */
};

static size_t found_bytes(const su_cache *c, int64_t rows)
{
    return (size_t)rows * (2 * (size_t)c->k + 1) * sizeof(int32_t);
}

static void plan(su_cache *c, su_arena *a)
{
    const su_decoder_config *k = &c->decoder->config;
    size_t act = su_dtype_size(c->device->act), w = (size_t)k->width;
    size_t n = (size_t)c->max_rows, wide = (size_t)k->mlp > 2 * w ? (size_t)k->mlp : 2 * w;
    for (int32_t i = 0; i < k->depth; i++) {
        c->text[i] = su_arena_take(a, ((size_t)c->slots * (size_t)c->places + FULL) * 2 * w, act);
        c->image[i] = su_arena_take(a, (size_t)c->slots * (size_t)c->memory_tokens * 2 * w, act);
    }
    c->x = su_arena_take(a, n * w, act);
    c->next = su_arena_take(a, n * w, act);
    c->y = su_arena_take(a, n * w, act);
    c->q = su_arena_take(a, n * w, act);
    c->kv = su_arena_take(a, n * 2 * w, act);
    c->attended = su_arena_take(a, n * w, act);
    c->wide = su_arena_take(a, n * wide, act);
    c->logits = su_arena_take(a, n * (size_t)k->vocabulary, act);
    c->narrow = c->device->act == SU_DTYPE_F32 ? c->logits : su_arena_take(a, n * (size_t)k->vocabulary, 4);
    const size_t images = (size_t)c->at_once * (size_t)c->memory_tokens;
    c->seen = su_arena_take(a, (size_t)c->slots * (size_t)c->memory_tokens * (size_t)k->memory_width, act);
    c->staged = su_arena_take(a, images * 2 * w, act);
    c->by_head = su_arena_take(a, images * 2 * (size_t)k->heads, sizeof(int32_t));
    c->lists = su_arena_take(a, n * LISTS, sizeof(int32_t));
    c->keys = su_arena_take(a, n * (size_t)c->max_keys, sizeof(int32_t));
    c->found = su_arena_take(a, found_bytes(c, c->max_rows), 1);
}

/* An image's keys and values lie head by head: [2][heads][memory_tokens][dim]. Every beam of every step reads
 * all of them, and a head's are then neighbours. Row r of that order, images one after the other, is row
 * by_head[r] of [images][memory_tokens][2][heads][dim]. */
static su_status order_heads(su_cache *c, su_error *err)
{
    int32_t heads = 2 * c->decoder->config.heads, n = c->memory_tokens * heads;
    int32_t *order = su_alloc((size_t)c->at_once * (size_t)n, sizeof *order);
    if (!order) return su_fail(err, SU_ENOMEM, "no memory for a cache");
    for (int32_t i = 0; i < c->at_once; i++)
        for (int32_t r = 0; r < n; r++)
            order[i * n + r] = i * n + r % c->memory_tokens * heads + r / c->memory_tokens;
    c->device->ops->upload(c->device, c->by_head, order, (size_t)c->at_once * (size_t)n * sizeof *order);
    su_status st = c->device->ops->sync(c->device, err);
    su_free(order);
    return st;
}

su_status su_cache_new(const su_decoder *decoder, const su_cache_size *size, su_cache **cache, su_error *err)
{
    *cache = NULL;
    if (size->k < 1 || size->k > decoder->config.vocabulary)
        return su_fail(err, SU_EINVAL, "cannot take the %d largest of %d logits", size->k,
                       decoder->config.vocabulary);
    su_cache *c = su_calloc(1, sizeof *c);
    if (!c) return su_fail(err, SU_ENOMEM, "no memory for a cache");
    const bool repeats = decoder->device->ops->repeat != NULL;
    const int32_t fulls = (size->max_rows + FULL - 1) / FULL;
    *c = (su_cache){.decoder = decoder,
                    .device = decoder->device,
                    .slots = size->slots,
                    .places = size->places,
                    .memory_tokens = size->memory_tokens,
                    .max_rows = repeats ? fulls * FULL : size->max_rows,
                    .max_keys = size->max_keys,
                    .k = size->k,
                    .at_once = size->slots < IMAGES_AT_ONCE ? size->slots : IMAGES_AT_ONCE};
    c->text = su_calloc((size_t)decoder->config.depth, sizeof *c->text);
    c->image = su_calloc((size_t)decoder->config.depth, sizeof *c->image);
    c->fresh = su_calloc((size_t)c->slots, sizeof *c->fresh);
    c->host_lists = su_calloc((size_t)c->max_rows * LISTS, sizeof *c->host_lists);
    c->host_found = su_alloc(found_bytes(c, c->max_rows), 1);
    if (repeats) c->recorded = su_calloc((size_t)fulls, sizeof *c->recorded);
    su_status st =
        c->text && c->image && c->fresh && c->host_lists && c->host_found && (c->recorded || !repeats)
            ? SU_OK
            : su_fail(err, SU_ENOMEM, "no memory for a cache");
    su_arena a;
    if (!st) {
        su_arena_measure(&a);
        plan(c, &a);
        c->bytes = a.peak;
        st = c->device->ops->alloc(c->device, c->bytes, &c->memory, err);
        if (st)
            st = su_fail_context(err, st, "%d captions at a time need %.1f MB (a smaller --batch needs less)",
                                 c->slots, (double)c->bytes / 1e6);
    }
    if (!st) {
        su_arena_init(&a, c->memory, c->bytes);
        plan(c, &a);
        c->device->ops->zero(c->device, c->memory, c->bytes);
        st = order_heads(c, err);
    }
    if (st)
        su_cache_free(c);
    else
        *cache = c;
    return st;
}

void su_cache_free(su_cache *c)
{
    if (!c) return;
    for (int32_t i = 0; c->recorded && i < c->max_rows / FULL; i++)
        c->device->ops->forget(c->device, c->recorded[i]);
    if (c->memory) c->device->ops->release(c->device, c->memory);
    su_free(c->text);
    su_free(c->image);
    su_free(c->fresh);
    su_free(c->host_lists);
    su_free(c->host_found);
    su_free(c->recorded);
    su_free(c);
}

size_t su_cache_bytes(const su_cache *c)
{
    return c->bytes;
}

void su_cache_set_image(su_cache *c, int32_t slot, const void *memory)
{
    const int64_t size = (int64_t)c->memory_tokens * c->decoder->config.memory_width;
    c->device->ops->copy(c->device, su_act_at(c->device, c->seen, slot * size), memory,
                         (size_t)size * su_dtype_size(c->device->act));
    c->fresh[slot] = true;
}

/* Keys and values of images first .. first + n - 1. */
static void see(su_cache *c, int32_t first, int32_t n)
{
    const su_decoder *d = c->decoder;
    const su_device_ops *ops = c->device->ops;
    const int32_t w = d->config.width, dim = w / d->config.heads, in = d->config.memory_width;
    const int64_t tokens = (int64_t)n * c->memory_tokens, at = (int64_t)first * c->memory_tokens;
    for (int32_t i = 0; i < d->config.depth; i++) {
        const su_block *b = &d->blocks[i];
        ops->linear(c->device, c->staged, NULL, su_act_at(c->device, c->seen, at * in),
                    su_param_weight(d->params, b->ckv_w), su_param_weight(d->params, b->ckv_b), SU_ACT_NONE,
                    tokens, 2 * w, in);
        ops->gather(c->device, su_act_at(c->device, c->image[i], at * 2 * w), false, c->staged, c->by_head,
                    tokens * 2 * d->config.heads, dim);
    }
}

/* Fresh images, as many neighbours at once as may be. */
static void see_all(su_cache *c)
{
    for (int32_t first = 0, n; first<c->slots; first += n> 0 ? n : 1) {
        for (n = 0; n < c->at_once && first + n < c->slots && c->fresh[first + n]; n++)
            c->fresh[first + n] = false;
        if (n > 0) see(c, first, n);
    }
}

static int32_t *list_of(const su_cache *c, int which)
{
    return c->lists + (size_t)which * (size_t)c->max_rows;
}

static su_status check(const su_cache *c, const su_cache_call *call, su_error *err)
{
    const su_decoder_config *k = &c->decoder->config;
    const int32_t n = call->rows;
    if (n < 1 || n > c->max_rows || call->asked < 0 || call->asked > n)
        return su_fail(err, SU_EINVAL, "%d rows do not fit the planned %d", n, c->max_rows);
    for (int32_t r = 0; r < n; r++) {
        if (call->ids[r] < 0 || call->ids[r] >= k->vocabulary || call->position[r] < 0 ||
            call->position[r] >= k->positions || call->type[r] < 0 || call->type[r] >= k->types)
            return su_fail(err, SU_EINVAL,
                           "token %d at position %d of type %d is beyond the decoder's tables", call->ids[r],
                           call->position[r], call->type[r]);
        if (call->slot[r] < 0 || call->slot[r] >= c->slots || call->place[r] < 0 ||
            call->place[r] >= c->slots * c->places || call->lengths[r] < 1 || call->lengths[r] > c->max_keys)
            return su_fail(err, SU_EINVAL, "row %d lies beyond the cache", r);
    }
    return SU_OK;
}

/* The lists of the call in one piece, and the keys in another: what a copy costs is that it is one. */
static void upload(su_cache *c, const su_cache_call *call)
{
    int32_t *list[LISTS];
    for (int i = 0; i < LISTS; i++) list[i] = c->host_lists + (size_t)i * (size_t)c->max_rows;
    const size_t n = (size_t)call->rows * sizeof **list;
    memcpy(list[LIST_ID], call->ids, n);
    memcpy(list[LIST_POSITION], call->position, n);
    memcpy(list[LIST_TYPE], call->type, n);
    memcpy(list[LIST_PLACE], call->place, n);
    memcpy(list[LIST_LENGTH], call->lengths, n);
    memcpy(list[LIST_WANTED], call->wanted, (size_t)call->asked * sizeof **list);
    for (int32_t r = 0; r < call->rows; r++) {
        list[LIST_IMAGE][r] =
            call->slot[r] * c->memory_tokens * 2 * c->decoder->config.heads; /* in rows of one head */
        list[LIST_TOKENS][r] = c->memory_tokens;
    }
    for (int32_t r = call->rows; r < c->rows; r++) { /* rows that fill up */
        list[LIST_ID][r] = list[LIST_POSITION][r] = list[LIST_TYPE][r] = 0;
        list[LIST_PLACE][r] = c->slots * c->places + r - call->rows;
        list[LIST_LENGTH][r] = list[LIST_IMAGE][r] = list[LIST_TOKENS][r] = 0;
        list[LIST_WANTED][r] = r;
    }
    const su_device_ops *ops = c->device->ops;
    ops->upload(c->device, c->lists, c->host_lists, (size_t)c->max_rows * LISTS * sizeof *c->lists);
    ops->upload(c->device, c->keys, call->keys, (size_t)call->rows * (size_t)c->max_keys * sizeof *c->keys);
}

static void dense(const su_cache *c, void *y, const void *x, int64_t w, int64_t w_at, int64_t b, int64_t b_at,
                  su_activation f, int64_t rows, int32_t out, int32_t in)
{
    const su_params *p = c->decoder->params;
    c->device->ops->linear(c->device, y, NULL, x, su_act_at(c->device, su_param_weight(p, w), w_at),
                           su_act_at(c->device, su_param_weight(p, b), b_at), f, rows, out, in);
}

/* x = LayerNorm(x + y) */
static void close_branch(su_cache *c, const su_block *b, int which, int64_t rows)
{
    const su_params *p = c->decoder->params;
    void *x = c->x;
    c->device->ops->norm(c->device, c->next, c->y, NULL, NULL, c->y, x, su_param_weight(p, b->norm_w[which]),
                         su_param_weight(p, b->norm_b[which]), b->config.eps, rows, b->config.width);
    c->x = c->next;
    c->next = x;
}

static void run_block(su_cache *c, int32_t layer, int64_t n)
{
    const su_block *b = &c->decoder->blocks[layer];
    su_device *d = c->device;
    const int32_t w = b->config.width;
    su_attend a = {.rows = (int32_t)n,
                   .heads = b->config.heads,
                   .dim = w / b->config.heads,
                   .q_stride = w,
                   .kv_stride = 2 * (int64_t)w,
                   .kv_head = w / b->config.heads,
                   .o_stride = w,
                   .index = c->keys,
                   .index_stride = c->max_keys,
                   .lengths = list_of(c, LIST_LENGTH),
                   .scale = 1.0 / sqrt((double)w / b->config.heads)};
    dense(c, c->q, c->x, b->qkv_w, 0, b->qkv_b, 0, SU_ACT_NONE, n, w, w);
    dense(c, c->kv, c->x, b->qkv_w, (int64_t)w * w, b->qkv_b, w, SU_ACT_NONE, n, 2 * w, w);
    d->ops->scatter(d, c->text[layer], c->kv, list_of(c, LIST_PLACE), n, 2 * w);
    d->ops->attend(d, &a, c->attended, c->q, c->text[layer], su_act_at(d, c->text[layer], w));
    dense(c, c->y, c->attended, b->out_w, 0, b->out_b, 0, SU_ACT_NONE, n, w, w);
    close_branch(c, b, 0, n);

    a.index = NULL;
    a.first = list_of(c, LIST_IMAGE);
    a.lengths = list_of(c, LIST_TOKENS);
    a.kv_stride = a.dim;
    a.kv_head = (int64_t)c->memory_tokens * a.dim;
    dense(c, c->q, c->x, b->cq_w, 0, b->cq_b, 0, SU_ACT_NONE, n, w, w);
    d->ops->attend(d, &a, c->attended, c->q, c->image[layer],
                   su_act_at(d, c->image[layer], (int64_t)c->memory_tokens * w));
    dense(c, c->y, c->attended, b->cout_w, 0, b->cout_b, 0, SU_ACT_NONE, n, w, w);
    close_branch(c, b, 1, n);

    dense(c, c->wide, c->x, b->in_w, 0, b->in_b, 0, b->config.act, n, b->config.mlp, w);
    dense(c, c->y, c->wide, b->mlp_w, 0, b->mlp_b, 0, SU_ACT_NONE, n, w, b->config.mlp);
    close_branch(c, b, 2, n);
}

/* All between the lists and the answer. The addresses are the same in every call: norms change x and next places. */
static void decode(void *context)
{
    su_cache *c = context;
    const su_decoder *dec = c->decoder;
    const su_decoder_config *k = &dec->config;
    const su_params *p = dec->params;
    su_device *d = c->device;
    const int64_t n = c->rows, asked = c->asked;
    void *const x = c->x, *const next = c->next;
    d->ops->gather(d, c->y, false, su_param_weight(p, dec->word), list_of(c, LIST_ID), n, k->width);
    d->ops->gather(d, c->y, true, su_param_weight(p, dec->position), list_of(c, LIST_POSITION), n, k->width);
    d->ops->gather(d, c->y, true, su_param_weight(p, dec->type), list_of(c, LIST_TYPE), n, k->width);
    d->ops->norm(d, c->x, NULL, NULL, NULL, c->y, NULL, su_param_weight(p, dec->norm_w),
                 su_param_weight(p, dec->norm_b), k->eps, n, k->width);
    for (int32_t i = 0; i < k->depth; i++) run_block(c, i, n);
    if (asked > 0) {
        char *values = c->found + (size_t)(asked * c->k) * sizeof(float);
        d->ops->gather(d, c->q, false, c->x, list_of(c, LIST_WANTED), asked, k->width);
        dense(c, c->y, c->q, dec->dense_w, 0, dec->dense_b, 0, k->act, asked, k->width, k->width);
        d->ops->norm(d, c->q, NULL, NULL, NULL, c->y, NULL, su_param_weight(p, dec->head_norm_w),
                     su_param_weight(p, dec->head_norm_b), k->eps, asked, k->width);
        dense(c, c->logits, c->q, dec->word, 0, dec->bias, 0, SU_ACT_NONE, asked, k->vocabulary, k->width);
        d->ops->largest(d, (void *)c->found, (void *)values,
                        (void *)(values + (size_t)(asked * c->k) * sizeof(float)), c->logits, asked,
                        k->vocabulary, c->k);
    }
    c->x = x;
    c->next = next;
}

/* What `largest` found of the call's first `asked` rows. */
static void download(su_cache *c, const su_cache_answer *answer, size_t asked)
{
    const size_t rows = (size_t)c->asked, k = (size_t)c->k, size = sizeof(float);
    const char *found = c->host_found;
    c->device->ops->download(c->device, c->host_found, c->found, found_bytes(c, c->asked));
    memcpy(answer->tokens, found, asked * k * size);
    memcpy(answer->values, found + rows * k * size, asked * k * size);
    memcpy(answer->log_sums, found + 2 * rows * k * size, asked * size);
}

su_status su_cache_run(su_cache *c, const su_cache_call *call, const su_cache_answer *answer, su_error *err)
{
    const int64_t vocabulary = c->decoder->config.vocabulary;
    su_device *d = c->device;
    su_status st = check(c, call, err);
    if (st) return st;
    const bool repeated = c->recorded && call->asked == call->rows;
    const int32_t fulls = (call->rows + FULL - 1) / FULL;
    c->rows = repeated ? fulls * FULL : call->rows;
    c->asked = repeated ? c->rows : call->asked;
    upload(c, call);
    see_all(c);
    if (repeated)
        d->ops->repeat(d, &c->recorded[fulls - 1], decode, c);
    else
        decode(c);
    if (call->asked) download(c, answer, (size_t)call->asked);
    if (call->asked && answer->logits) {
        if (c->narrow != c->logits)
            d->ops->convert(d, c->narrow, SU_DTYPE_F32, c->logits, d->act, call->asked * vocabulary);
        d->ops->download(d, answer->logits, c->narrow,
                         (size_t)(call->asked * vocabulary) * sizeof *answer->logits);
    }
    return d->ops->sync(d, err);
}
