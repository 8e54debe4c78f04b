#include "nn/stack.h"

enum { SELF, CROSS, MLP };

const char *const su_checkpointing_names[] = {"none", "selective", "full", NULL};

/* --- buffers -------------------------------------------------------------------------------------------- */

/* What block i keeps for itself where all others of its buffers are block 0's. */
static void plan_kept(su_arena *a, const su_device *d, const su_block_config *c, size_t rows,
                      su_block_saved *s)
{
    size_t act = su_dtype_size(d->act), acc = su_dtype_size(d->acc), w = (size_t)c->width;
    if (c->pre_norm) {
        s->input[SELF] = su_arena_take(a, rows * w, act);
    } else {
        s->input[MLP] = su_arena_take(a, rows * w, act);
        s->mean[MLP] = su_arena_take(a, rows, acc);
        s->rstd[MLP] = su_arena_take(a, rows, acc);
    }
}

void su_block_stack_plan(su_block_stack *s, su_arena *a, const su_device *d, const su_block *blocks,
                         int32_t depth, int64_t rows, int64_t last, int64_t memory_rows, bool backward,
                         su_checkpointing level)
{
    const su_block_config *c = &blocks[0].config;
    su_block_saved *list = su_realloc(s->saved, (size_t)depth, sizeof *list);
    if (!list) {
        a->overflow = true;
        return;
    }
    bool lean = !backward || level != SU_CHECKPOINTING_NONE;
    bool own = backward && level != SU_CHECKPOINTING_FULL; /* each block has all its buffers */
    s->blocks = blocks;
    s->depth = depth;
    s->level = level;
    s->saved = list;
    su_block_plan_scratch(a, d, c, rows, memory_rows, lean, &s->scratch);
    su_block_plan(a, d, c, rows, depth == 1 ? last : rows, memory_rows, lean, backward, &s->scratch, &list[0]);
    for (int32_t i = 1; i < depth; i++) {
        bool first = i == 1 && c->pre_norm; /* without backward the others share its input */
        list[i] = list[i - 1];
        if (own)
            su_block_plan(a, d, c, rows, i == depth - 1 ? last : rows, memory_rows, lean, backward, &s->scratch,
                          &list[i]);
        if (own ? c->pre_norm : backward || first) plan_kept(a, d, c, (size_t)rows, &list[i]);
    }
}

void su_block_stack_free(su_block_stack *s)
{
    su_free(s->saved);
    s->saved = NULL;
}

/* --- forward, backward ---------------------------------------------------------------------------------- */

static su_block_call call_of(const su_block_stack *s, const su_block_call *first, int32_t block)
{
    su_block_call call = *first;
    if (block < s->depth - 1) call.wanted = NULL;
    call.key.layer += 16u * (uint32_t)block;
    return call;
}

su_stream su_block_stack_forward(su_block_stack *s, const su_params *p, const su_block_call *call, void *x,
                                 const void *memory)
{
    su_stream stream = {.x = x};
    if (s->blocks[0].config.pre_norm) s->saved[0].input[SELF] = x;
    for (int32_t i = 0; i < s->depth; i++) {
        su_block_call one = call_of(s, call, i);
        void *next = s->blocks[i].config.pre_norm && i + 1 < s->depth ? s->saved[i + 1].input[SELF] : NULL;
        su_block_forward(&s->blocks[i], p, &one, &stream, memory, next, &s->saved[i], &s->scratch);
    }
    return stream;
}

void su_block_stack_backward(su_block_stack *s, su_params *p, const su_block_call *call, void *dx,
                             const void *memory, void *d_memory)
{
    int64_t rows = (int64_t)call->batch * call->tokens;
    bool summed = false;
    for (int32_t i = s->depth - 1; i >= 0; i--) {
        const su_block *b = &s->blocks[i];
        su_block_saved *saved = &s->saved[i];
        su_block_call one = call_of(s, call, i);
        if (saved->lean && !b->config.pre_norm && i > 0)
            su_block_output_again(b - 1, p, rows, saved - 1, saved->normed[SELF]);
        if (s->level == SU_CHECKPOINTING_FULL && i < s->depth - 1) /* the last block's are still there */
            su_block_again(b, p, &one, memory, saved, &s->scratch);
        void *sums = i > 0 && b->config.pre_norm && !one.wanted ? su_block_end_bias(b - 1, p, call) : NULL;
        su_block_backward(b, p, &one, dx, memory, d_memory, summed, sums, saved, &s->scratch);
        summed = sums != NULL;
        if (call->final) su_params_ready(p, b->qkv_w, b->norm_b[MLP] + 1); /* a block's first and last */
    }
}
