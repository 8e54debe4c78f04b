#include "nn/block.h"
#include <math.h>
#include <stdio.h>

const su_block_names su_block_names_vit = {
    .query = "attention.attention.query",
    .key = "attention.attention.key",
    .value = "attention.attention.value",
    .attention_out = "attention.output.dense",
    .attention_norm = "layernorm_before",
    .cross_query = "crossattention.attention.query",
    .cross_key = "crossattention.attention.key",
    .cross_value = "crossattention.attention.value",
    .cross_out = "crossattention.output.dense",
    .cross_norm = "layernorm_cross",
    .mlp_in = "intermediate.dense",
    .mlp_out = "output.dense",
    .mlp_norm = "layernorm_after",
};

const su_block_names su_block_names_bert = {
    .query = "attention.self.query",
    .key = "attention.self.key",
    .value = "attention.self.value",
    .attention_out = "attention.output.dense",
    .attention_norm = "attention.output.LayerNorm",
    .cross_query = "crossattention.self.query",
    .cross_key = "crossattention.self.key",
    .cross_value = "crossattention.self.value",
    .cross_out = "crossattention.output.dense",
    .cross_norm = "crossattention.output.LayerNorm",
    .mlp_in = "intermediate.dense",
    .mlp_out = "output.dense",
    .mlp_norm = "output.LayerNorm",
};

enum { SELF, CROSS, MLP };
enum {
    KEY_ATTENTION = 0,
    KEY_BRANCH = 4,
    KEY_PATH = 8
}; /* offsets into a block's 16 random streams, plus the branch */

/* --- parameters ----------------------------------------------------------------------------------------- */

static int64_t add_named(su_params *p, const char *prefix, const char *part, const char *suffix, int rank,
                         const int64_t *shape, bool decay, int group, su_init init, bool packed)
{
    char name[256];
    snprintf(name, sizeof name, "%s%s%s", prefix, part, suffix);
    return su_params_add(p, name, rank, shape, decay, group, init, 0.02, packed);
}

/* `parts` linear layers with the same input whose weights, and whose biases, lie one behind the other. */
static void add_linear(su_params *p, const char *prefix, const char *const *parts, int count, int32_t out,
                       int32_t in, int group, int64_t *w, int64_t *b)
{
    for (int i = 0; i < count; i++) {
        int64_t at = add_named(p, prefix, parts[i], ".weight", 2, (int64_t[]){out, in}, true, group,
                               SU_INIT_NORMAL, i > 0);
        if (i == 0) *w = at;
    }
    for (int i = 0; i < count; i++) {
        int64_t at =
            add_named(p, prefix, parts[i], ".bias", 1, (int64_t[]){out}, false, group, SU_INIT_ZERO, i > 0);
        if (i == 0) *b = at;
    }
}

static void add_norm(su_params *p, const char *prefix, const char *part, int32_t width, int group, int64_t *w,
                     int64_t *b)
{
    *w = add_named(p, prefix, part, ".weight", 1, (int64_t[]){width}, false, group, SU_INIT_ONE, false);
    *b = add_named(p, prefix, part, ".bias", 1, (int64_t[]){width}, false, group, SU_INIT_ZERO, false);
}

su_status su_block_add(su_params *p, const su_block_config *c, const su_block_names *names,
                       const char *prefix, int group, su_block *block, su_error *err)
{
    if (c->width < 1 || c->heads < 1 || c->mlp < 1 || c->width % c->heads)
        return su_fail(err, SU_EINVAL,
                       "%s: width %d must be a positive multiple of heads %d, and mlp %d positive", prefix,
                       c->width, c->heads, c->mlp);
    *block = (su_block){.config = *c};
    int64_t first = p->count;
    add_linear(p, prefix, (const char *const[]){names->query, names->key, names->value}, 3, c->width,
               c->width, group, &block->qkv_w, &block->qkv_b);
    add_linear(p, prefix, &names->attention_out, 1, c->width, c->width, group, &block->out_w, &block->out_b);
    add_norm(p, prefix, names->attention_norm, c->width, group, &block->norm_w[SELF], &block->norm_b[SELF]);
    if (c->cross) {
        add_linear(p, prefix, &names->cross_query, 1, c->width, c->width, group, &block->cq_w, &block->cq_b);
        add_linear(p, prefix, (const char *const[]){names->cross_key, names->cross_value}, 2, c->width,
                   c->memory_width, group, &block->ckv_w, &block->ckv_b);
        add_linear(p, prefix, &names->cross_out, 1, c->width, c->width, group, &block->cout_w,
                   &block->cout_b);
        add_norm(p, prefix, names->cross_norm, c->width, group, &block->norm_w[CROSS], &block->norm_b[CROSS]);
    }
    add_linear(p, prefix, &names->mlp_in, 1, c->mlp, c->width, group, &block->in_w, &block->in_b);
    add_linear(p, prefix, &names->mlp_out, 1, c->width, c->mlp, group, &block->mlp_w, &block->mlp_b);
    add_norm(p, prefix, names->mlp_norm, c->width, group, &block->norm_w[MLP], &block->norm_b[MLP]);
    for (int64_t i = first; i < p->count; i++)
        if (c->scaled_start && p->items[i].init == SU_INIT_NORMAL)
            p->items[i].scale = 1.0 / sqrt((double)p->items[i].shape[1]);
    return SU_OK;
}

/* --- buffers -------------------------------------------------------------------------------------------- */

void su_block_plan(su_arena *a, const su_device *d, const su_block_config *c, int64_t rows, int64_t behind,
                   int64_t memory_rows, bool lean, bool backward, const su_block_scratch *scratch, su_block_saved *s)
{
    size_t act = su_dtype_size(d->act), acc = su_dtype_size(d->acc);
    size_t all = (size_t)rows, n = (size_t)behind, w = (size_t)c->width, heads = (size_t)c->heads;
    *s = (su_block_saved){.lean = lean};
    for (int i = SELF; i <= MLP; i++) {
        if (i == CROSS && !c->cross) continue;
        if (!c->pre_norm || i != SELF) s->input[i] = su_arena_take(a, n * w, act);
        size_t normed = c->pre_norm && i == SELF ? all : n;
        s->mean[i] = su_arena_take(a, normed, acc);
        s->rstd[i] = su_arena_take(a, normed, acc);
        if (c->pre_norm || i != SELF) s->normed[i] = lean ? scratch->narrow : su_arena_take(a, normed * w, act);
    }
    s->qkv = su_arena_take(a, (2 * all + n) * w, act);
    s->attended = su_arena_take(a, n * w, act);
    s->lse = su_arena_take(a, n * heads, acc);
    if (c->cross) {
        s->cq = su_arena_take(a, n * w, act);
        s->ckv = su_arena_take(a, (size_t)memory_rows * w * 2, act);
        s->cattended = su_arena_take(a, n * w, act);
        s->clse = su_arena_take(a, n * heads, acc);
    }
    if (backward) s->pre = su_arena_take(a, n * (size_t)c->mlp, act);
    s->hidden = lean ? scratch->wide : su_arena_take(a, n * (size_t)c->mlp, act);
    if (!c->pre_norm) s->output = lean ? scratch->output : su_arena_take(a, n * w, act);
}

void su_block_plan_scratch(su_arena *a, const su_device *d, const su_block_config *c, int64_t rows,
                           int64_t memory_rows, bool lean, su_block_scratch *s)
{
    size_t act = su_dtype_size(d->act), n = (size_t)rows, w = (size_t)c->width;
    size_t wide = n * w * 3, mlp = n * (size_t)c->mlp;
    if (mlp > wide) wide = mlp;
    if (c->cross && n * w + (size_t)memory_rows * w * 2 > wide) wide = n * w + (size_t)memory_rows * w * 2;
    s->branch = su_arena_take(a, n * w, act);
    s->wide = su_arena_take(a, wide, act);
    s->narrow = su_arena_take(a, n * w, act);
    s->output = lean && !c->pre_norm ? su_arena_take(a, n * w, act) : NULL;
}

/* --- forward -------------------------------------------------------------------------------------------- */

void su_stream_norm(su_device *d, const su_stream *s, void *y, void *sum, void *mean, void *rstd,
                    const void *gamma, const void *beta, double eps, int64_t rows, int32_t width)
{
    if (s->delta) {
        d->ops->norm(d, y, sum, mean, rstd, s->delta, s->x, gamma, beta, eps, rows, width);
    } else {
        if (sum != s->x) d->ops->copy(d, sum, s->x, (size_t)(rows * width) * su_dtype_size(d->act));
        d->ops->norm(d, y, NULL, mean, rstd, sum, NULL, gamma, beta, eps, rows, width);
    }
}

/* Rows behind the block's attention. */
static int64_t rows_behind(const su_block_call *call)
{
    return call->wanted ? call->batch : (int64_t)call->batch * call->tokens;
}

/* elements: of a sample; a counter serves four of them (stochastic depth takes a counter a sample). */
static su_rng_key key_of(const su_block_call *call, int offset, int branch, int64_t elements)
{
    su_rng_key key = call->key;
    key.layer += (uint32_t)(offset + branch);
    key.first = (uint64_t)(call->first * elements / 4);
    return key;
}

static su_attention self_attention(const su_block_config *c, const su_block_call *call)
{
    int32_t queries = call->wanted ? 1 : call->tokens;
    return (su_attention){.batch = call->batch,
                          .heads = c->heads,
                          .dim = c->width / c->heads,
                          .tq = queries,
                          .tk = call->tokens,
                          .q_stride = (call->wanted ? 1 : 3) * (int64_t)c->width,
                          .kv_stride = (call->wanted ? 2 : 3) * (int64_t)c->width,
                          .o_stride = c->width,
                          .lengths = call->lengths,
                          .causal = c->causal,
                          .scale = 1.0 / sqrt((double)c->width / c->heads),
                          .dropout = call->train ? c->attention_dropout : 0.0,
                          .key = key_of(call, KEY_ATTENTION, SELF,
                                        (int64_t)c->heads * queries * call->tokens)};
}

static su_attention cross_attention(const su_block_config *c, const su_block_call *call)
{
    return (su_attention){.batch = call->batch,
                          .heads = c->heads,
                          .dim = c->width / c->heads,
                          .tq = call->tokens,
                          .tk = call->memory_tokens,
                          .q_stride = c->width,
                          .kv_stride = 2 * (int64_t)c->width,
                          .o_stride = c->width,
                          .lengths = call->memory_lengths,
                          .scale = 1.0 / sqrt((double)c->width / c->heads),
                          .dropout = call->train ? c->attention_dropout : 0.0,
                          .key = key_of(call, KEY_ATTENTION, CROSS,
                                        (int64_t)c->heads * call->tokens * call->memory_tokens)};
}

/* Where queries, keys and values begin in a buffer for the three, or their gradients. */
typedef struct {
    void *q, *k, *v;
} heads_of;

static heads_of heads_at(const su_device *d, const su_block_config *c, const su_block_call *call, void *qkv)
{
    int64_t w = c->width, kv = 2 * w * call->batch * call->tokens;
    return call->wanted ? (heads_of){su_act_at(d, qkv, kv), qkv, su_act_at(d, qkv, w)}
                        : (heads_of){qkv, su_act_at(d, qkv, w), su_act_at(d, qkv, 2 * w)};
}

/* y = x W^T + b, and residual unless that is NULL. */
static void branch_end(su_device *d, void *y, const void *residual, const void *x, const void *w, const void *b,
                       int64_t rows, int32_t out, int32_t in)
{
    if (residual)
        d->ops->linear_add(d, y, residual, x, w, b, rows, out, in);
    else
        d->ops->linear(d, y, NULL, x, w, b, SU_ACT_NONE, rows, out, in);
}

/* branch = f(in) for one of the three, without dropout, and residual unless that is NULL. again: of the MLP no more than
 * backward reads. */
static void branch_forward(const su_block *b, const su_params *p, const su_block_call *call, int which,
                           const void *in, const void *memory, void *branch, const void *residual,
                           su_block_saved *s, const su_block_scratch *scratch, bool again)
{
    su_device *d = p->device;
    const su_block_config *c = &b->config;
    int64_t all = (int64_t)call->batch * call->tokens, rows = rows_behind(call);
    int32_t w = c->width;
#define WEIGHT(index) su_param_weight(p, b->index)
    if (which == SELF) {
        su_attention a = self_attention(c, call);
        heads_of h = heads_at(d, c, call, s->qkv);
        if (call->wanted) {
            d->ops->gather(d, scratch->wide, false, in, call->wanted, rows, w);
            d->ops->linear(d, h.q, NULL, scratch->wide, WEIGHT(qkv_w), WEIGHT(qkv_b), SU_ACT_NONE, rows, w, w);
            d->ops->linear(d, h.k, NULL, in, WEIGHT(qkv_w + 1), WEIGHT(qkv_b + 1), SU_ACT_NONE, all, 2 * w, w);
        } else {
            d->ops->linear(d, s->qkv, NULL, in, WEIGHT(qkv_w), WEIGHT(qkv_b), SU_ACT_NONE, rows, 3 * w, w);
        }
        d->ops->attention(d, &a, s->attended, s->lse, h.q, h.k, h.v);
        branch_end(d, branch, residual, s->attended, WEIGHT(out_w), WEIGHT(out_b), rows, w, w);
    } else if (which == CROSS) {
        su_attention a = cross_attention(c, call);
        int64_t memory_rows = (int64_t)call->batch * call->memory_tokens;
        d->ops->linear(d, s->cq, NULL, in, WEIGHT(cq_w), WEIGHT(cq_b), SU_ACT_NONE, rows, w, w);
        d->ops->linear(d, s->ckv, NULL, memory, WEIGHT(ckv_w), WEIGHT(ckv_b), SU_ACT_NONE, memory_rows, 2 * w,
                       c->memory_width);
        d->ops->attention(d, &a, s->cattended, s->clse, s->cq, s->ckv, su_act_at(d, s->ckv, w));
        branch_end(d, branch, residual, s->cattended, WEIGHT(cout_w), WEIGHT(cout_b), rows, w, w);
    } else if (again) {
        d->ops->linear(d, s->pre, NULL, in, WEIGHT(in_w), WEIGHT(in_b), SU_ACT_NONE, rows, c->mlp, w);
    } else {
        d->ops->linear(d, s->hidden, s->pre, in, WEIGHT(in_w), WEIGHT(in_b), c->act, rows, c->mlp, w);
        branch_end(d, branch, residual, s->hidden, WEIGHT(mlp_w), WEIGHT(mlp_b), rows, w, c->mlp);
    }
}

/* Whether dropout or stochastic depth stand between a branch and the stream. */
static bool noisy(const su_block *b, const su_block_call *call)
{
    return call->train && (b->config.dropout > 0.0 || b->config.drop_path > 0.0);
}

/* Dropout and stochastic depth of a branch, in place; its own backward. */
static void branch_noise(const su_block *b, su_device *d, const su_block_call *call, int which, void *branch)
{
    if (!call->train) return;
    int64_t sample = rows_behind(call) / call->batch * b->config.width;
    if (b->config.dropout > 0.0)
        d->ops->dropout(d, branch, branch, b->config.dropout, key_of(call, KEY_BRANCH, which, sample),
                        call->batch * sample);
    if (b->config.drop_path > 0.0)
        d->ops->drop_path(d, branch, branch, b->config.drop_path, key_of(call, KEY_PATH, which, 4),
                          call->batch, sample);
}

/* The stream behind the block, of which `again` leaves the MLP's end out. next: see su_block_forward. */
static su_stream run(const su_block *b, const su_params *p, const su_block_call *call, su_stream at,
                     const void *memory, void *next, su_block_saved *s, const su_block_scratch *scratch, bool again)
{
    su_device *d = p->device;
    const su_block_config *c = &b->config;
    const int64_t all = (int64_t)call->batch * call->tokens, behind = rows_behind(call);
    const bool noise = noisy(b, call);
    if (!c->pre_norm) s->normed[SELF] = at.x;
    for (int i = SELF; i <= MLP; i++) {
        if (i == CROSS && !c->cross) continue;
        const void *gamma = su_param_weight(p, b->norm_w[i]), *beta = su_param_weight(p, b->norm_b[i]);
        const bool end = again && i == MLP, picks = i == SELF && call->wanted; /* the stream has the wanted rows alone
                                                                                  from here on */
        const int after = i == SELF && c->cross ? CROSS : MLP;
        if (c->pre_norm)
            su_stream_norm(d, &at, s->normed[i], s->input[i], s->mean[i], s->rstd[i], gamma, beta, c->eps,
                           i == SELF ? all : behind, c->width);
        void *residual = c->pre_norm ? s->input[i] : s->normed[i];
        void *sum = !c->pre_norm ? s->input[i] : i == MLP ? next : s->input[after];
        if (picks) {
            d->ops->gather(d, sum, false, residual, call->wanted, behind, c->width);
            residual = sum;
        }
        const bool joined = !noise && sum; /* the branch's last product adds the stream */
        void *branch = joined ? sum : scratch->branch;
        branch_forward(b, p, call, i, s->normed[i], memory, branch, joined ? residual : NULL, s, scratch, again);
        if (end) break;
        branch_noise(b, d, call, i, branch);
        at = joined ? (su_stream){.x = sum} : (su_stream){.x = residual, .delta = branch};
        if (!c->pre_norm) {
            void *y = i == MLP ? s->output : s->normed[after];
            su_stream_norm(d, &at, y, sum, s->mean[i], s->rstd[i], gamma, beta, c->eps, behind, c->width);
            at = (su_stream){.x = y};
        }
    }
    return at;
}

void su_block_forward(const su_block *b, const su_params *p, const su_block_call *call, su_stream *stream,
                      const void *memory, void *next, su_block_saved *s, const su_block_scratch *scratch)
{
    *stream = run(b, p, call, *stream, memory, next, s, scratch, false);
}

void su_block_again(const su_block *b, const su_params *p, const su_block_call *call, const void *memory,
                    su_block_saved *s, const su_block_scratch *scratch)
{
    su_stream at = {.x = b->config.pre_norm ? s->input[SELF] : s->normed[SELF]};
    run(b, p, call, at, memory, NULL, s, scratch, true);
}

/* y = the output of norm `which`, from its input. */
static void norm_again(const su_block *b, const su_params *p, int64_t rows, int which,
                       const su_block_saved *s, void *y)
{
    const su_block_config *c = &b->config;
    p->device->ops->norm(p->device, y, NULL, NULL, NULL, s->input[which], NULL,
                         su_param_weight(p, b->norm_w[which]), su_param_weight(p, b->norm_b[which]), c->eps,
                         rows, c->width);
}

void su_block_output_again(const su_block *b, const su_params *p, int64_t rows, const su_block_saved *s,
                           void *y)
{
    norm_again(b, p, rows, MLP, s, y);
}

/* --- backward ------------------------------------------------------------------------------------------- */

/* What a branch read, kept or formed again in scratch->branch. */
static const void *branch_input(const su_block *b, const su_params *p, int64_t rows, int which,
                                const su_block_saved *s, const su_block_scratch *scratch)
{
    const su_block_config *c = &b->config;
    if (!s->lean || (!c->pre_norm && which == SELF)) return s->normed[which];
    int norm = c->pre_norm ? which : which == MLP && c->cross ? CROSS : SELF;
    norm_again(b, p, rows, norm, s, scratch->branch);
    return scratch->branch;
}

/* d_in (+)= gradient of one branch at its input, given `dy` at its output (dy may be scratch->branch). Where rows are
 * wanted, self-attention's d_in has all rows, and what it is added to, in its place, the wanted ones. summed: the last
 * bias has its gradient. */
static void branch_backward(const su_block *b, const su_params *p, const su_block_call *call, int which,
                            void *d_in, bool add, const void *dy, bool summed, const void *memory, void *d_memory,
                            const su_block_saved *s, const su_block_scratch *scratch)
{
    su_device *d = p->device;
    const su_block_config *c = &b->config;
    int64_t all = (int64_t)call->batch * call->tokens, rows = rows_behind(call);
    int32_t w = c->width;
#define GRAD(index) su_param_grad(p, b->index)
    if (which == SELF) {
        su_attention a = self_attention(c, call);
        heads_of h = heads_at(d, c, call, s->qkv), dh = heads_at(d, c, call, scratch->wide);
        d->ops->linear_backward(d, scratch->narrow, false, GRAD(out_w), summed ? NULL : GRAD(out_b), dy, s->attended,
                                WEIGHT(out_w), rows, w, w);
        d->ops->attention_backward(d, &a, dh.q, dh.k, dh.v, GRAD(qkv_b), GRAD(qkv_b + 2), scratch->narrow, s->attended,
                                   s->lse, h.q, h.k, h.v);
        const void *in = branch_input(b, p, all, which, s, scratch); /* dy is not needed any more */
        if (!call->wanted) {
            d->ops->linear_backward(d, d_in, add, GRAD(qkv_w), NULL, dh.q, in, WEIGHT(qkv_w), rows, 3 * w, w);
            return;
        }
        void *picked = scratch->narrow, *d_picked = s->attended; /* neither is needed any more */
        d->ops->gather(d, picked, false, in, call->wanted, rows, w);
        d->ops->linear_backward(d, d_picked, false, GRAD(qkv_w), NULL, dh.q, picked, WEIGHT(qkv_w), rows, w, w);
        if (add) d->ops->add(d, d_picked, d_picked, d_in, rows * w);
        d->ops->linear_backward(d, d_in, false, GRAD(qkv_w + 1), NULL, dh.k, in, WEIGHT(qkv_w + 1), all, 2 * w, w);
        d->ops->gather(d, d_picked, true, d_in, call->wanted, rows, w);
        d->ops->scatter(d, d_in, d_picked, call->wanted, rows, w);
    } else if (which == CROSS) {
        su_attention a = cross_attention(c, call);
        int64_t memory_rows = (int64_t)call->batch * call->memory_tokens;
        void *dq = scratch->wide, *dkv = su_act_at(d, scratch->wide, rows * w);
        d->ops->linear_backward(d, scratch->narrow, false, GRAD(cout_w), summed ? NULL : GRAD(cout_b), dy, s->cattended,
                                WEIGHT(cout_w), rows, w, w);
        d->ops->attention_backward(d, &a, dq, dkv, su_act_at(d, dkv, w), GRAD(cq_b), GRAD(ckv_b + 1),
                                   scratch->narrow, s->cattended,
                                   s->clse, s->cq, s->ckv, su_act_at(d, s->ckv, w));
        const void *in = branch_input(b, p, rows, which, s, scratch);
        d->ops->linear_backward(d, d_in, add, GRAD(cq_w), NULL, dq, in, WEIGHT(cq_w), rows, w, w);
        d->ops->linear_backward(d, d_memory, true, GRAD(ckv_w), NULL, dkv, memory, WEIGHT(ckv_w),
                                memory_rows, 2 * w, c->memory_width);
    } else {
        void *again = s->lean ? s->pre : NULL; /* hidden takes pre's place */
        d->ops->linear_act_backward(d, scratch->wide, again, GRAD(in_b), dy, WEIGHT(mlp_w), s->pre, c->act, rows,
                                    w, c->mlp);
        d->ops->linear_backward(d, NULL, false, GRAD(mlp_w), summed ? NULL : GRAD(mlp_b), dy, again ? again : s->hidden,
                                WEIGHT(mlp_w), rows, w, c->mlp);
        const void *in = branch_input(b, p, rows, which, s, scratch);
        d->ops->linear_backward(d, d_in, add, GRAD(in_w), NULL, scratch->wide, in, WEIGHT(in_w), rows,
                                c->mlp, w);
    }
#undef WEIGHT
#undef GRAD
}

void *su_block_end_bias(const su_block *b, const su_params *p, const su_block_call *call)
{
    return noisy(b, call) ? NULL : su_param_grad(p, b->mlp_b);
}

void su_block_backward(const su_block *b, const su_params *p, const su_block_call *call, void *dx,
                       const void *memory, void *d_memory, bool summed, void *sums, const su_block_saved *s,
                       const su_block_scratch *scratch)
{
    su_device *d = p->device;
    const su_block_config *c = &b->config;
    int64_t all = (int64_t)call->batch * call->tokens, behind = rows_behind(call), n = behind * c->width;
    const bool noise = noisy(b, call);
    const int64_t bias[] = {b->out_b, c->cross ? b->cout_b : 0, b->mlp_b}; /* a branch's last */
    for (int i = MLP; i >= SELF; i--) {
        if (i == CROSS && !c->cross) continue;
        const void *gamma = su_param_weight(p, b->norm_w[i]);
        void *dgamma = su_param_grad(p, b->norm_w[i]), *dbeta = su_param_grad(p, b->norm_b[i]);
        if (!c->pre_norm) /* dx becomes the gradient at the sum, which both the branch and the residual path
                             receive */
            d->ops->norm_backward(d, dx, false, noise ? NULL : su_param_grad(p, bias[i]), dgamma, dbeta, dx,
                                  s->input[i], s->mean[i], s->rstd[i], gamma, behind, c->width);
        const void *dy = dx;
        if (noise) {
            d->ops->copy(d, scratch->branch, dx, (size_t)n * su_dtype_size(d->act));
            branch_noise(b, d, call, i, scratch->branch);
            dy = scratch->branch;
        }
        if (c->pre_norm) { /* d_in goes to narrow: it is free again when the branch's last product is formed
                            */
            branch_backward(b, p, call, i, scratch->narrow, false, dy, summed, memory, d_memory, s, scratch);
            bool picks = i == SELF && call->wanted;
            if (picks) d->ops->copy(d, scratch->branch, dx, (size_t)n * su_dtype_size(d->act));
            int next = i == MLP && c->cross ? CROSS : SELF; /* whose branch gets this dx */
            void *to = i == SELF ? sums : noise ? NULL : su_param_grad(p, bias[next]);
            d->ops->norm_backward(d, dx, !picks, to, dgamma, dbeta, scratch->narrow, s->input[i], s->mean[i],
                                  s->rstd[i], gamma, i == SELF ? all : behind, c->width);
            summed = to != NULL;
            if (picks) {
                d->ops->gather(d, scratch->branch, true, dx, call->wanted, behind, c->width);
                d->ops->scatter(d, dx, scratch->branch, call->wanted, behind, c->width);
            }
        } else {
            branch_backward(b, p, call, i, dx, true, dy, !noise, memory, d_memory, s, scratch);
        }
    }
}
