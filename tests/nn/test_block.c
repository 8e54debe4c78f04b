/* The transformer block: every gradient against central differences, in every form that a model uses, three
 * blocks deep, so that the stream's deferred addition, shared buffers and what lies between the first and the
 * last block are exercised too; and the same bits at every level of checkpointing. */
#include "tests/nn/check.h"
#include "nn/stack.h"

enum { DEPTH = 3 };

typedef struct {
    const char *what;
    su_block_config config;
    int32_t batch, tokens, memory_tokens;
    const int32_t *lengths, *memory_lengths;
    bool train;
} form;

static const int32_t short_rows[] = {3, 5, 1}, short_memory[] = {2, 4, 1};

static const form forms[] = {
    {"pre-norm",
     {.width = 6, .heads = 2, .mlp = 9, .pre_norm = true, .act = SU_ACT_GELU, .eps = 1e-6},
     .batch = 2,
     .tokens = 5},
    {"post-norm, padded",
     {.width = 9, .heads = 3, .mlp = 7, .act = SU_ACT_GELU, .eps = 1e-12},
     .batch = 3,
     .tokens = 5,
     .lengths = short_rows},
    {"pre-norm, causal, one head of odd size",
     {.width = 7,
      .heads = 1,
      .mlp = 17,
      .pre_norm = true,
      .causal = true,
      .act = SU_ACT_QUICK_GELU,
      .eps = 1e-5},
     .batch = 1,
     .tokens = 9},
    {"post-norm, causal, padded, cross",
     {.width = 8,
      .heads = 4,
      .mlp = 5,
      .causal = true,
      .cross = true,
      .memory_width = 5,
      .act = SU_ACT_GELU_TANH,
      .eps = 1e-12},
     .batch = 3,
     .tokens = 5,
     .memory_tokens = 4,
     .lengths = short_rows,
     .memory_lengths = short_memory},
    {"pre-norm, cross, more memory than rows",
     {.width = 6,
      .heads = 3,
      .mlp = 4,
      .pre_norm = true,
      .cross = true,
      .memory_width = 9,
      .act = SU_ACT_GELU,
      .eps = 1e-6},
     .batch = 2,
     .tokens = 1,
     .memory_tokens = 11},
    {"pre-norm, all noise",
     {.width = 6,
      .heads = 2,
      .mlp = 9,
      .pre_norm = true,
      .act = SU_ACT_GELU,
      .eps = 1e-6,
      .dropout = 0.2,
      .attention_dropout = 0.3,
      .drop_path = 0.3},
     .batch = 4,
     .tokens = 3,
     .train = true},
    {"post-norm, cross, all noise, padded",
     {.width = 6,
      .heads = 2,
      .mlp = 5,
      .cross = true,
      .memory_width = 6,
      .act = SU_ACT_GELU,
      .eps = 1e-12,
      .dropout = 0.2,
      .attention_dropout = 0.2,
      .drop_path = 0.3},
     .batch = 3,
     .tokens = 5,
     .memory_tokens = 4,
     .lengths = short_rows,
     .memory_lengths = short_memory,
     .train = true},
};

typedef struct {
    const form *form;
    su_device *device;
    su_params params;
    su_block blocks[DEPTH];
    su_block_stack stack;
    su_checkpointing level;
    size_t bytes; /* planned */
    void *arena, *x, *memory;
    int32_t *lengths, *memory_lengths;
    double *host_x, *host_memory, *weight; /* weight: of each output value in the loss */
    int64_t values, memory_values;
    /* what differences move: a parameter, or one of the inputs */
    int64_t moved;
    const double *moved_values;
} stack;

enum { MOVE_INPUT = -1, MOVE_MEMORY = -2 };

static void plan(stack *s, su_arena *a)
{
    const form *f = s->form;
    int64_t rows = (int64_t)f->batch * f->tokens, memory = (int64_t)f->batch * f->memory_tokens;
    su_block_stack_plan(&s->stack, a, s->device, s->blocks, DEPTH, rows, rows, memory, true, s->level);
}

static void begin_at(stack *s, const form *f, su_dtype type, int threads, su_checkpointing level)
{
    su_error err = {0};
    *s = (stack){.form = f, .device = check_device(type, threads), .level = level};
    su_params_init(&s->params, s->device);
    for (int i = 0; i < DEPTH; i++) {
        char prefix[32];
        snprintf(prefix, sizeof prefix, "layer.%d.", i);
        if (su_block_add(&s->params, &f->config,
                         f->config.pre_norm ? &su_block_names_vit : &su_block_names_bert, prefix, 0,
                         &s->blocks[i], &err))
            fail_msg("%s", err.message);
    }
    if (su_params_commit(&s->params, true, &err)) fail_msg("%s", err.message);
    for (int64_t i = 0; i < s->params.count; i++) {
        double *w = check_normal((uint64_t)(200 + i), s->params.items[i].count, 0.4);
        if (strstr(s->params.items[i].name, "orm") && strstr(s->params.items[i].name, ".weight"))
            for (int64_t j = 0; j < s->params.items[i].count; j++) w[j] += 1;
        if (su_params_set(&s->params, i, w, &err)) fail_msg("%s", err.message);
    }
    su_params_refresh(&s->params);
    s->values = (int64_t)f->batch * f->tokens * f->config.width;
    s->memory_values = (int64_t)f->batch * f->memory_tokens * f->config.memory_width;
    s->host_x = check_normal(1, s->values, 1);
    s->host_memory = check_normal(2, s->memory_values, 1);
    s->weight = check_normal(3, s->values, 1);
    s->x = check_upload(s->device, s->host_x, s->values);
    s->memory = check_upload(s->device, s->host_memory, s->memory_values);
    s->lengths = check_upload_int(s->device, f->lengths, f->batch);
    s->memory_lengths = check_upload_int(s->device, f->memory_lengths, f->batch);
    su_arena a;
    su_arena_measure(&a);
    plan(s, &a);
    s->bytes = a.peak;
    s->arena = check_room(s->device, s->bytes);
    su_arena_init(&a, s->arena, s->bytes);
    plan(s, &a);
    assert_false(a.overflow);
    assert_int_equal(a.used, s->bytes);
}

static void begin(stack *s, const form *f, su_dtype type, int threads)
{
    begin_at(s, f, type, threads, SU_CHECKPOINTING_NONE);
}

static void end(stack *s)
{
    const su_device_ops *ops = s->device->ops;
    ops->release(s->device, s->arena);
    ops->release(s->device, s->x);
    ops->release(s->device, s->memory);
    ops->release(s->device, s->lengths);
    ops->release(s->device, s->memory_lengths);
    su_block_stack_free(&s->stack);
    su_params_free(&s->params);
    su_device_close(s->device);
}

static su_block_call call_of(const stack *s)
{
    return (su_block_call){.batch = s->form->batch,
                           .tokens = s->form->tokens,
                           .lengths = s->lengths,
                           .memory_tokens = s->form->memory_tokens,
                           .memory_lengths = s->memory_lengths,
                           .train = s->form->train,
                           .key = {.seed = 12, .step = 3, .layer = 16}};
}

/* The stack's output as doubles. */
static double *forward(stack *s)
{
    void *sum = check_upload(s->device, NULL, s->values);
    su_block_call call = call_of(s);
    su_stream stream = su_block_stack_forward(&s->stack, &s->params, &call, s->x, s->memory);
    if (stream.delta)
        s->device->ops->add(s->device, sum, stream.x, stream.delta, s->values);
    else
        s->device->ops->copy(s->device, sum, stream.x, (size_t)s->values * su_dtype_size(s->device->act));
    return check_take(s->device, sum, s->values);
}

static void upload(su_device *d, void *to, const double *x, int64_t n)
{
    assert_true(d->act == SU_DTYPE_F64);
    d->ops->upload(d, to, x, (size_t)n * sizeof *x);
}

static double moved_loss(void *context)
{
    stack *s = context;
    su_error err = {0};
    if (s->moved == MOVE_INPUT)
        upload(s->device, s->x, s->moved_values, s->values);
    else if (s->moved == MOVE_MEMORY)
        upload(s->device, s->memory, s->moved_values, s->memory_values);
    else if (su_params_set(&s->params, s->moved, s->moved_values, &err))
        fail_msg("%s", err.message);
    su_params_refresh(&s->params);
    int blocks = check_block_count;
    double *y = forward(s), sum = 0;
    for (int64_t i = 0; i < s->values; i++) sum += s->weight[i] * y[i];
    while (check_block_count > blocks) free(check_blocks[--check_block_count]);
    return sum;
}

/* Gradients of the last forward: dx, d_memory (which started at `start` everywhere) and the table's. */
static void backward(stack *s, double start, double **dx, double **d_memory)
{
    void *d_x = check_upload(s->device, s->weight, s->values), *d_m = NULL;
    if (s->memory_values) {
        double *ones = check_zeros(s->memory_values);
        for (int64_t i = 0; i < s->memory_values; i++) ones[i] = start;
        d_m = check_upload(s->device, ones, s->memory_values);
    }
    su_block_call call = call_of(s);
    su_block_stack_backward(&s->stack, &s->params, &call, d_x, s->memory, d_m);
    *dx = check_take(s->device, d_x, s->values);
    *d_memory = d_m ? check_take(s->device, d_m, s->memory_values) : NULL;
    for (int64_t i = 0; d_m && i < s->memory_values; i++) (*d_memory)[i] -= start;
}

static double *gradient(const stack *s, int64_t index)
{
    return check_read(s->device, su_param_grad(&s->params, index), s->params.items[index].count);
}

static void every_gradient_equals_differences(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof forms / sizeof *forms; k++) {
        stack s;
        double *dx, *d_memory, tolerance = su_tolerance("nn.block.difference");
        char what[160];
        begin(&s, &forms[k], SU_DTYPE_F64, 1);
        forward(&s);
        backward(&s, 0.25, &dx, &d_memory);
        s.moved = MOVE_INPUT;
        s.moved_values = s.host_x;
        snprintf(what, sizeof what, "%s: dx", forms[k].what);
        check_gradient(what, moved_loss, &s, s.host_x, dx, s.values, tolerance);
        moved_loss(&s);
        s.moved = MOVE_MEMORY;
        s.moved_values = s.host_memory;
        snprintf(what, sizeof what, "%s: d_memory", forms[k].what);
        if (d_memory)
            check_gradient(what, moved_loss, &s, s.host_memory, d_memory, s.memory_values, tolerance);
        moved_loss(&s);
        for (int64_t i = 0; i < s.params.count; i++) {
            double *w = check_zeros(s.params.items[i].count);
            su_error err = {0};
            if (su_params_get(&s.params, i, w, &err)) fail_msg("%s", err.message);
            s.moved = i;
            s.moved_values = w;
            snprintf(what, sizeof what, "%s: %s", forms[k].what, s.params.items[i].name);
            check_gradient(what, moved_loss, &s, w, gradient(&s, i), s.params.items[i].count, tolerance);
            moved_loss(&s);
        }
        end(&s);
        check_free_all();
    }
}

static void float32_follows_float64(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof forms / sizeof *forms; k++) {
        stack s, t;
        double *y[2], *dx[2], *d_memory[2];
        begin(&s, &forms[k], SU_DTYPE_F64, 1);
        begin(&t, &forms[k], SU_DTYPE_F32, 2);
        y[0] = forward(&s);
        y[1] = forward(&t);
        backward(&s, 0, &dx[0], &d_memory[0]);
        backward(&t, 0, &dx[1], &d_memory[1]);
        double tolerance = su_tolerance("nn.block.f32");
        check_close(forms[k].what, y[1], y[0], s.values, tolerance);
        check_close(forms[k].what, dx[1], dx[0], s.values, tolerance);
        if (d_memory[0]) check_close(forms[k].what, d_memory[1], d_memory[0], s.memory_values, tolerance);
        for (int64_t i = 0; i < s.params.count; i++) {
            const char *name = s.params.items[i].name;
            if (strstr(name, "key.bias")) continue; /* zero but for rounding */
            double *got = gradient(&t, i), *want = gradient(&s, i), most = 0;
            const int64_t n = s.params.items[i].count;
            for (int64_t j = 0; j < n; j++) most = fmax(most, fabs(want[j]));
            if (most == 0) /* of a single key: p is 1 whatever the query; some devices leave its rounding */
                for (int64_t j = 0; j < n; j++) assert_true(fabs(got[j]) <= tolerance);
            else
                check_close(name, got, want, n, tolerance);
        }
        end(&s);
        end(&t);
        check_free_all();
    }
}

static void threads_do_not_change_a_bit(void **state)
{
    (void)state;
    form big = forms[6];
    big.config.width = 48;
    big.config.heads = 4;
    big.config.mlp = 100;
    big.config.memory_width = 33;
    big.tokens = 5;
    stack s[3];
    double *y[3], *dx[3], *d_memory[3];
    for (int k = 0; k < 3; k++) {
        begin(&s[k], &big, SU_DTYPE_F32, k + 1);
        y[k] = forward(&s[k]);
        backward(&s[k], 0, &dx[k], &d_memory[k]);
        check_same_bits("y", y[k], y[0], s[0].values);
        check_same_bits("dx", dx[k], dx[0], s[0].values);
        check_same_bits("d_memory", d_memory[k], d_memory[0], s[0].memory_values);
        for (int64_t i = 0; i < s[k].params.count; i++)
            check_same_bits(s[k].params.items[i].name, gradient(&s[k], i), gradient(&s[0], i),
                            s[k].params.items[i].count);
    }
    for (int k = 0; k < 3; k++) end(&s[k]);
    check_free_all();
}

static void checkpointing_does_not_change_a_bit(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof forms / sizeof *forms; k++) {
        stack s[SU_CHECKPOINTING_LEVELS];
        double *y, *y0 = NULL, *dx, *dx0 = NULL, *d_memory, *d_memory0 = NULL;
        for (int level = 0; level < SU_CHECKPOINTING_LEVELS; level++) {
            begin_at(&s[level], &forms[k], SU_DTYPE_F32, 1, (su_checkpointing)level);
            for (int step = 0; step < 2; step++) { /* on used buffers too; gradients are added twice */
                y = forward(&s[level]);
                backward(&s[level], 0.5, &dx, &d_memory);
                if (!y0) y0 = y, dx0 = dx, d_memory0 = d_memory;
                check_same_bits("y", y, y0, s[0].values);
                check_same_bits("dx", dx, dx0, s[0].values);
                if (d_memory) check_same_bits("d_memory", d_memory, d_memory0, s[0].memory_values);
            }
            for (int64_t i = 0; i < s[0].params.count; i++)
                check_same_bits(s[0].params.items[i].name, gradient(&s[level], i), gradient(&s[0], i),
                                s[0].params.items[i].count);
            if (level > 0 && forms[k].tokens > 1) assert_true(s[level].bytes < s[level - 1].bytes);
        }
        for (int level = 0; level < SU_CHECKPOINTING_LEVELS; level++) end(&s[level]);
        check_free_all();
    }
}

static void padding_and_the_future_are_not_seen(void **state)
{
    (void)state;
    form f = forms[3]; /* causal, padded, cross */
    stack s;
    begin(&s, &f, SU_DTYPE_F64, 1);
    double *before = forward(&s);
    int32_t w = f.config.width;
    /* The last token of sample 1 (length 5), the padding of sample 0 (length 3), sample 2's memory past 1. */
    s.host_x[(1 * 5 + 4) * w] += 1;
    s.host_x[(0 * 5 + 3) * w + 2] += 1;
    s.host_memory[(2 * 4 + 1) * f.config.memory_width] += 1;
    upload(s.device, s.x, s.host_x, s.values);
    upload(s.device, s.memory, s.host_memory, s.memory_values);
    double *after = forward(&s);
    for (int b = 0; b < 3; b++) {
        for (int t = 0; t < 5; t++) {
            bool moved = (b == 1 && t == 4) || (b == 0 && t == 3);
            bool same = !memcmp(before + (b * 5 + t) * w, after + (b * 5 + t) * w, (size_t)w * sizeof *after);
            if (same == moved)
                fail_msg("sample %d, token %d: %s", b, t, moved ? "did not change" : "changed");
        }
    }
    end(&s);
    check_free_all();
}

static void names_are_those_of_hugging_face_and_shapes_must_fit(void **state)
{
    (void)state;
    su_device *d = check_device(SU_DTYPE_F32, 1);
    su_params p;
    su_block b;
    su_error err = {0};
    su_block_config c = {
        .width = 8, .heads = 2, .mlp = 5, .cross = true, .memory_width = 3, .act = SU_ACT_GELU};
    su_params_init(&p, d);
    assert_int_equal(su_block_add(&p, &c, &su_block_names_bert, "l.", 0, &b, &err), SU_OK);
    assert_int_equal(su_params_find(&p, "l.attention.self.query.weight"), b.qkv_w);
    assert_int_equal(p.items[b.qkv_w + 2].offset, p.items[b.qkv_w].offset + 2 * 64); /* packed: q, k, v */
    assert_int_equal(p.items[b.qkv_b + 1].offset, p.items[b.qkv_b].offset + 8);
    assert_true(su_params_find(&p, "l.crossattention.self.value.bias") >= 0);
    assert_int_equal(p.items[b.ckv_w].shape[1], 3);
    assert_true(p.items[b.in_w].decay && !p.items[b.in_b].decay && !p.items[b.norm_w[0]].decay);
    assert_true(p.items[b.qkv_w].scale == 0.02 && p.items[b.ckv_w].scale == 0.02);
    c.scaled_start = true;
    assert_int_equal(su_block_add(&p, &c, &su_block_names_bert, "m.", 0, &b, &err), SU_OK);
    const int64_t linear[] = {b.qkv_w, b.qkv_w + 2, b.out_w, b.cq_w, b.ckv_w + 1, b.cout_w, b.in_w, b.mlp_w};
    const double inputs[] = {8, 8, 8, 8, 3, 8, 8, 5};
    for (int i = 0; i < 8; i++) assert_true(p.items[linear[i]].scale == 1.0 / sqrt(inputs[i]));
    assert_int_equal(p.items[b.in_b].init, SU_INIT_ZERO);
    assert_int_equal(p.items[b.norm_w[0]].init, SU_INIT_ONE);
    c.heads = 3;
    assert_int_equal(su_block_add(&p, &c, &su_block_names_bert, "l.", 0, &b, &err), SU_EINVAL);
    su_params_free(&p);
    su_device_close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_gradient_equals_differences),
        cmocka_unit_test(float32_follows_float64),
        cmocka_unit_test(threads_do_not_change_a_bit),
        cmocka_unit_test(checkpointing_does_not_change_a_bit),
        cmocka_unit_test(padding_and_the_future_are_not_seen),
        cmocka_unit_test(names_are_those_of_hugging_face_and_shapes_must_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
