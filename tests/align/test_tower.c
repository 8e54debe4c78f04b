/* ViT and BERT towers against transformers, and what golden files cannot show: dropout, plans, odd calls. */
#include "tests/align/golden.h"
#include "align/tower.h"
#include "base/memory.h"

typedef struct {
    su_device *device;
    su_params params;
    su_tower *tower;
    su_checkpointing level;
    bool tokens; /* planned for su_tower_output */
    void *memory;
} fixture;

static const su_tower_config vit_golden = {.kind = SU_TOWER_VIT,
                                           .width = 36,
                                           .depth = 3,
                                           .heads = 3,
                                           .mlp = 52,
                                           .act = SU_ACT_GELU,
                                           .eps = 1e-6,
                                           .image_size = 40,
                                           .patch = 8,
                                           .channels = 3,
                                           .mean = {0.5, 0.4375, 0.53125},
                                           .std = {0.25, 0.28125, 0.234375}};
static const su_tower_config bert_golden = {.kind = SU_TOWER_BERT,
                                            .width = 40,
                                            .depth = 3,
                                            .heads = 5,
                                            .mlp = 52,
                                            .act = SU_ACT_GELU,
                                            .eps = 1e-12,
                                            .vocabulary = 97,
                                            .positions = 24,
                                            .types = 2,
                                            .max_tokens = 20};

static void plan(fixture *f, int32_t batch, bool backward)
{
    su_arena a;
    f->device->ops->release(f->device, f->memory);
    su_arena_measure(&a);
    su_tower_plan(f->tower, &a, batch, backward, f->level, f->tokens);
    size_t size = a.peak;
    f->memory = check_room(f->device, size);
    su_arena_init(&a, f->memory, size);
    su_tower_plan(f->tower, &a, batch, backward, f->level, f->tokens);
    assert_false(a.overflow);
    assert_int_equal(a.used, size);
}

/* The tower keeps a pointer to f->params: f stays where it is. */
static void begin(fixture *f, const su_tower_config *c, su_dtype type, int threads)
{
    su_error err = {0};
    *f = (fixture){.device = check_device(type, threads)};
    su_params_init(&f->params, f->device);
    ok(su_tower_new(c, c->kind == SU_TOWER_VIT ? "image." : "text.", 0, &f->params, &f->tower, &err), &err);
    ok(su_params_commit(&f->params, true, &err), &err);
    ok(su_params_randomise(&f->params, 4, &err), &err);
}

static void end(fixture *f)
{
    su_tower_free(f->tower);
    su_params_free(&f->params);
    f->device->ops->release(f->device, f->memory);
    su_device_close(f->device);
    check_free_all();
}

/* The pooled rows as doubles. */
static double *pooled_values(fixture *f, const su_tower_input *in)
{
    su_error err = {0};
    void *pooled = NULL;
    ok(su_tower_forward(f->tower, in, &pooled, &err), &err);
    assert_ptr_equal(pooled, su_tower_pooled(f->tower));
    return check_read(f->device, pooled, (int64_t)in->batch * su_tower_configuration(f->tower)->width);
}

static void backward(fixture *f, const su_tower_input *in, const double *upstream)
{
    su_error err = {0};
    int64_t n = (int64_t)in->batch * su_tower_configuration(f->tower)->width;
    void *dy = check_upload(f->device, upstream, n);
    ok(su_tower_backward(f->tower, in, dy, NULL, &err), &err);
    ok(f->device->ops->sync(f->device, &err), &err);
    f->device->ops->release(f->device, dy);
}

/* --- against transformers --------------------------------------------------------------------------------- */

static void equals_transformers(const char *path, su_tower_config c, const char *tolerance, su_dtype type,
                                int threads)
{
    static const struct {
        su_pooling pooling;
        bool tokens;
        su_checkpointing level;
    } cases[] = {{SU_POOLING_CLS, true, SU_CHECKPOINTING_NONE},
                 {SU_POOLING_CLS, false, SU_CHECKPOINTING_NONE},
                 {SU_POOLING_CLS, false, SU_CHECKPOINTING_SELECTIVE},
                 {SU_POOLING_CLS, false, SU_CHECKPOINTING_FULL},
                 {SU_POOLING_MEAN, false, SU_CHECKPOINTING_NONE}};
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        su_safetensors *file = golden_open(path);
        fixture f;
        const char *pooling = cases[k].pooling == SU_POOLING_CLS ? "cls/" : "mean/";
        c.pooling = cases[k].pooling;
        begin(&f, &c, type, threads);
        f.tokens = cases[k].tokens;
        f.level = cases[k].level;
        golden_set(&f.params, file);
        bool vit = c.kind == SU_TOWER_VIT;
        su_tower_input in = {.batch = vit ? 3 : 4, .train = true}; /* train: all rates are zero */
        if (vit)
            in.images = golden_raw(file, "", "images");
        else
            in.ids = golden_raw(file, "", "ids"), in.lengths = golden_raw(file, "", "lengths");
        plan(&f, 5, true); /* planned for more than the call brings */
        check_close("pooled", pooled_values(&f, &in), golden_values(file, pooling, "pooled", NULL),
                    (int64_t)in.batch * c.width, su_tolerance(tolerance));
        backward(&f, &in, golden_values(file, pooling, "upstream", NULL));
        char front[32];
        snprintf(front, sizeof front, "%sgrad/", pooling);
        golden_gradients(&f.params, file, front, su_tolerance(tolerance));
        su_safetensors_close(file);
        end(&f);
    }
}

static void vit_and_all_its_gradients_equal_transformers(void **state)
{
    (void)state;
    equals_transformers(TOWERS "vit.safetensors", vit_golden, "align.f32", SU_DTYPE_F32, 2);
    equals_transformers(TOWERS "vit.safetensors", vit_golden, "align.f64", SU_DTYPE_F64, 1);
}

static void bert_and_all_its_gradients_equal_transformers(void **state)
{
    (void)state;
    equals_transformers(TOWERS "bert.safetensors", bert_golden, "align.f32", SU_DTYPE_F32, 2);
    equals_transformers(TOWERS "bert.safetensors", bert_golden, "align.f64", SU_DTYPE_F64, 1);
}

/* A gradient at the tokens, shaped as the pooling's would be: alone it gives the pooling's parameter
 * gradients, and half of it beside half the pooling's gives them too. */
static void gradients_enter_at_the_tokens_as_they_do_through_the_pooling(void **state)
{
    (void)state;
    for (int k = 0; k < 4; k++) {
        bool vit = k < 2, mean = k % 2;
        su_tower_config c = vit ? vit_golden : bert_golden;
        c.pooling = mean ? SU_POOLING_MEAN : SU_POOLING_CLS;
        su_safetensors *file = golden_open(vit ? TOWERS "vit.safetensors" : TOWERS "bert.safetensors");
        fixture f;
        begin(&f, &c, SU_DTYPE_F64, 1);
        f.tokens = true;
        golden_set(&f.params, file);
        su_tower_input in = {.batch = vit ? 3 : 4, .train = true};
        if (vit)
            in.images = golden_raw(file, "", "images");
        else
            in.ids = golden_raw(file, "", "ids"), in.lengths = golden_raw(file, "", "lengths");
        plan(&f, 5, true);
        double *pooled = golden_values(file, mean ? "mean/" : "cls/", "upstream", NULL);
        for (int half = 0; half < 2; half++) {
            int32_t tokens = 0, w = c.width;
            pooled_values(&f, &in);
            assert_non_null(su_tower_output(f.tower, &tokens));
            assert_int_equal(tokens, vit ? 26 : 17); /* of the longest text */
            double *d_tokens = check_zeros((int64_t)in.batch * tokens * w), share = half ? 0.5 : 1;
            for (int32_t b = 0; b < in.batch; b++) {
                int32_t first = mean && vit, last = !mean ? 1 : vit ? tokens : in.lengths[b];
                for (int32_t t = first; t < last; t++)
                    for (int32_t i = 0; i < w; i++)
                        d_tokens[(b * tokens + t) * w + i] = share * pooled[b * w + i] / (last - first);
            }
            double *rest = check_zeros((int64_t)in.batch * w);
            for (int32_t i = 0; i < in.batch * w; i++) rest[i] = (1 - share) * pooled[i];
            void *dt = check_upload(f.device, d_tokens, (int64_t)in.batch * tokens * w),
                 *dy = half ? check_upload(f.device, rest, (int64_t)in.batch * w) : NULL;
            su_error err = {0};
            zero_gradients(&f.params);
            ok(su_tower_backward(f.tower, &in, dy, dt, &err), &err);
            golden_gradients(&f.params, file, mean ? "mean/grad/" : "cls/grad/", su_tolerance("align.f64"));
            f.device->ops->release(f.device, dt);
            f.device->ops->release(f.device, dy);
        }
        su_safetensors_close(file);
        end(&f);
    }
}

static void positions_are_interpolated_as_pytorch_does(void **state)
{
    (void)state;
    static const int32_t sizes[][2] = {{3, 5}, {5, 3}, {4, 7}, {6, 6}};
    enum { WIDTH = 5 };
    su_safetensors *file = golden_open(TOWERS "positions.safetensors");
    for (int i = 0; i < 4; i++) {
        int32_t g = sizes[i][0], h = sizes[i][1];
        int64_t n = (1 + (int64_t)h * h) * WIDTH;
        char front[32];
        snprintf(front, sizeof front, "%dto%d/", g, h);
        double *to = check_zeros(n);
        su_vit_interpolate_positions(golden_values(file, front, "from", NULL), g, to, h, WIDTH);
        check_close(front, to, golden_values(file, front, "to", NULL), n, su_tolerance("align.f64"));
    }
    su_safetensors_close(file);
    check_free_all();
}

/* --- gradients by differences, with all the noise of training ------------------------------------------- */

typedef struct {
    fixture *f;
    const su_tower_input *in;
    const double *weight; /* of the pooled values in the loss */
    int64_t index;        /* the parameter that is moved */
    const double *values;
} difference;

static double moved_loss(void *context)
{
    difference *c = context;
    su_error err = {0};
    const int32_t width = su_tower_configuration(c->f->tower)->width;
    ok(su_params_set(&c->f->params, c->index, c->values, &err), &err);
    su_params_refresh(&c->f->params);
    const int blocks = check_block_count;
    double *pooled = pooled_values(c->f, c->in), sum = 0;
    for (int64_t i = 0; i < (int64_t)c->in->batch * width; i++) sum += c->weight[i] * pooled[i];
    while (check_block_count > blocks) free(check_blocks[--check_block_count]);
    return sum;
}

static void check_all_gradients(const su_tower_config *c, su_tower_input in, su_checkpointing level)
{
    fixture f;
    begin(&f, c, SU_DTYPE_F64, 1);
    f.level = level;
    for (int64_t i = 0; i < f.params.count; i++) { /* away from the small start: every path counts */
        su_error err = {0};
        double *x = check_normal((uint64_t)(50 + i), f.params.items[i].count, 0.3);
        ok(su_params_set(&f.params, i, x, &err), &err);
    }
    plan(&f, in.batch, true);
    double *weight = check_normal(1, (int64_t)in.batch * c->width, 1);
    pooled_values(&f, &in);
    backward(&f, &in, weight);
    for (int64_t i = 0; i < f.params.count; i++) {
        double *x = weight_values(&f.params, i), *gradient = gradient_values(&f.params, i);
        difference context = {&f, &in, weight, i, x};
        check_gradient(f.params.items[i].name, moved_loss, &context, x, gradient, f.params.items[i].count,
                       su_tolerance("align.difference"));
        moved_loss(&context);
    }
    end(&f);
}

static uint8_t *random_images(int64_t n, uint64_t seed)
{
    uint8_t *x = check_alloc(n, 1);
    for (int64_t i = 0; i < n; i++)
        x[i] = (uint8_t)su_rng_below((su_rng_key){.seed = seed}, (uint64_t)i, 256);
    return x;
}

static const struct {
    su_pooling pooling;
    su_checkpointing level;
    int32_t depth;
} dropout_cases[] = {{SU_POOLING_CLS, SU_CHECKPOINTING_NONE, 2},
                     {SU_POOLING_CLS, SU_CHECKPOINTING_FULL, 2},
                     {SU_POOLING_CLS, SU_CHECKPOINTING_SELECTIVE, 1},
                     {SU_POOLING_MEAN, SU_CHECKPOINTING_FULL, 2}};

static void vit_gradients_equal_differences_under_all_dropouts(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof dropout_cases / sizeof *dropout_cases; k++) {
        su_tower_config c = {.kind = SU_TOWER_VIT,
                             .width = 10,
                             .depth = dropout_cases[k].depth,
                             .heads = 2,
                             .mlp = 13,
                             .pooling = dropout_cases[k].pooling,
                             .act = k % 2 ? SU_ACT_QUICK_GELU : SU_ACT_GELU_TANH,
                             .eps = 1e-6,
                             .image_size = 15,
                             .patch = 5,
                             .channels = 1,
                             .mean = {0.5},
                             .std = {0.25},
                             .dropout = 0.2,
                             .attention_dropout = 0.1,
                             .drop_path = 0.4,
                             .patch_dropout = 0.4};
        check_all_gradients(&c,
                            (su_tower_input){.batch = 3,
                                             .images = random_images(3 * 15 * 15, 3),
                                             .train = true,
                                             .key = {.seed = 5, .step = 8, .layer = 1 << 13}},
                            dropout_cases[k].level);
    }
}

static void bert_gradients_equal_differences_under_all_dropouts(void **state)
{
    (void)state;
    static const int32_t ids[] = {2, 5, 8, 3, 0, 0, 0, 2, 3, 0, 0, 0, 0, 0, 2, 5, 5, 10, 9, 3, 0};
    static const int32_t lengths[] = {4, 2, 6};
    for (size_t k = 0; k < sizeof dropout_cases / sizeof *dropout_cases; k++) {
        su_tower_config c = {.kind = SU_TOWER_BERT,
                             .width = 12,
                             .depth = dropout_cases[k].depth,
                             .heads = 3,
                             .mlp = 11,
                             .pooling = dropout_cases[k].pooling,
                             .act = SU_ACT_GELU,
                             .eps = 1e-12,
                             .vocabulary = 11,
                             .positions = 9,
                             .types = 1,
                             .max_tokens = 7,
                             .dropout = 0.1,
                             .attention_dropout = 0.2,
                             .drop_path = 0.3};
        check_all_gradients(&c,
                            (su_tower_input){.batch = 3,
                                             .ids = ids,
                                             .lengths = lengths,
                                             .train = true,
                                             .key = {.seed = 6, .step = 1, .layer = 0}},
                            dropout_cases[k].level);
    }
}

/* What the class token reads, alone, is what it reads among all tokens, in less memory; the tokens are not to be had. */
static void the_class_token_alone_is_what_it_is_among_all(void **state)
{
    (void)state;
    for (int k = 0; k < 4; k++) {
        bool vit = k % 2, learns = k / 2;
        su_safetensors *file = golden_open(vit ? TOWERS "vit.safetensors" : TOWERS "bert.safetensors");
        su_tower_config c = vit ? vit_golden : bert_golden;
        su_tower_input in = {.batch = vit ? 3 : 4};
        if (vit)
            in.images = golden_raw(file, "", "images");
        else
            in.ids = golden_raw(file, "", "ids"), in.lengths = golden_raw(file, "", "lengths");
        fixture f;
        begin(&f, &c, SU_DTYPE_F64, 1);
        golden_set(&f.params, file);
        su_arena with, without;
        su_arena_measure(&with);
        su_tower_plan(f.tower, &with, 4, learns, SU_CHECKPOINTING_NONE, true);
        su_arena_measure(&without);
        su_tower_plan(f.tower, &without, 4, learns, SU_CHECKPOINTING_NONE, false);
        assert_true(learns ? without.peak < with.peak : without.peak <= with.peak);
        f.tokens = true;
        plan(&f, 4, learns);
        double *among = pooled_values(&f, &in);
        f.tokens = false;
        plan(&f, 4, learns);
        check_close("alone", pooled_values(&f, &in), among, (int64_t)in.batch * c.width, su_tolerance("align.f64"));
        int32_t tokens = 0;
        assert_null(su_tower_output(f.tower, &tokens));
        su_error err = {0};
        if (learns) assert_int_equal(su_tower_backward(f.tower, &in, among, among, &err), SU_EINVAL);
        su_safetensors_close(file);
        end(&f);
    }
}

/* --- calls ---------------------------------------------------------------------------------------------- */

static void planning_without_backward_gives_the_same_bits_in_less_memory(void **state)
{
    (void)state;
    su_safetensors *files[2] = {golden_open(TOWERS "vit.safetensors"),
                                golden_open(TOWERS "bert.safetensors")};
    for (int k = 0; k < 2; k++) {
        fixture f;
        su_arena with, without;
        begin(&f, k ? &bert_golden : &vit_golden, SU_DTYPE_F32, 1);
        golden_set(&f.params, files[k]);
        su_tower_input in = {.batch = k ? 4 : 3};
        if (k)
            in.ids = golden_raw(files[k], "", "ids"), in.lengths = golden_raw(files[k], "", "lengths");
        else
            in.images = golden_raw(files[k], "", "images");
        su_arena_measure(&with);
        su_tower_plan(f.tower, &with, 4, true, SU_CHECKPOINTING_FULL, true);
        su_arena_measure(&without);
        su_tower_plan(f.tower, &without, 4, false, SU_CHECKPOINTING_NONE, true);
        assert_true(without.peak < with.peak);
        plan(&f, 4, true);
        double *kept = pooled_values(&f, &in);
        plan(&f, 4, false);
        check_same_bits("pooled", pooled_values(&f, &in), kept, (int64_t)in.batch * (k ? 40 : 36));
        su_error err = {0};
        assert_int_equal(su_tower_backward(f.tower, &in, kept, NULL, &err), SU_EINVAL);
        end(&f);
        su_safetensors_close(files[k]);
    }
}

static void a_text_gives_the_same_bits_alone_and_among_longer_ones(void **state)
{
    (void)state;
    su_safetensors *file = golden_open(TOWERS "bert.safetensors");
    fixture f;
    begin(&f, &bert_golden, SU_DTYPE_F64, 1);
    golden_set(&f.params, file);
    plan(&f, 4, false);
    const int32_t *ids = golden_raw(file, "", "ids"), *lengths = golden_raw(file, "", "lengths");
    double *all = pooled_values(&f, &(su_tower_input){.batch = 4, .ids = ids, .lengths = lengths});
    for (int i = 0; i < 4; i++)
        check_close(
            "alone",
            pooled_values(&f, &(su_tower_input){.batch = 1, .ids = ids + i * 20, .lengths = lengths + i}),
            all + i * 40, 40, su_tolerance("align.f64"));
    su_safetensors_close(file);
    end(&f);
}

static void patch_dropout_keeps_its_share_in_training_only(void **state)
{
    (void)state;
    fixture f;
    su_tower_config c = vit_golden;
    c.patch_dropout = 0.6; /* 10 of 25 patches stay */
    begin(&f, &c, SU_DTYPE_F64, 1);
    plan(&f, 2, true);
    su_tower_input in = {
        .batch = 2, .images = random_images(2 * 40 * 40 * 3, 9), .train = true, .key = {.seed = 1}};
    double *one = check_normal(1, 72, 1), *first = pooled_values(&f, &in);
    backward(&f, &in, one);
    int64_t at = su_params_find(&f.params, "image.embeddings.position_embeddings");
    double *gradient = gradient_values(&f.params, at);
    int touched = 0;
    for (int i = 1; i < 26; i++) touched += largest(gradient + i * 36, 36) > 0;
    assert_true(touched >= 10 && touched < 20); /* two images' choices, mostly different ones */
    check_same_bits("same key", pooled_values(&f, &in), first, 72);
    in.key.step = 2;
    assert_memory_not_equal(pooled_values(&f, &in), first, 72 * sizeof *first);
    in.train = false;
    double *whole = pooled_values(&f, &in);
    zero_gradients(&f.params);
    backward(&f, &in, one);
    gradient = gradient_values(&f.params, at);
    for (int i = 0; i < 26; i++) assert_true(largest(gradient + i * 36, 36) > 0);
    assert_memory_not_equal(whole, first, 72 * sizeof *first);
    end(&f);
}

static void a_scaled_start_is_that_of_blocks_and_image_positions(void **state)
{
    (void)state;
    for (int k = 0; k < 4; k++) {
        fixture f;
        su_tower_config c = k % 2 ? vit_golden : bert_golden;
        c.start = k / 2 ? SU_START_SCALED : SU_START_NORMAL;
        begin(&f, &c, SU_DTYPE_F64, 1);
        su_error err = {0};
        const char *last =
            k % 2 ? "image.encoder.layer.1.output.dense.weight" : "text.encoder.layer.1.output.dense.weight";
        int64_t at = su_params_find(&f.params, last);
        assert_true(at >= 0);
        const su_param *q = &f.params.items[at];
        assert_true(q->scale == (k / 2 ? 1.0 / sqrt((double)c.mlp) : 0.02));
        double *x = check_normal(1, q->count, 1), top = 0; /* drawn, and cut at two deviations */
        ok(su_params_get(&f.params, at, x, &err), &err);
        for (int64_t i = 0; i < q->count; i++) top = fmax(top, fabs(x[i]));
        assert_true(top > 1.8 * q->scale && top <= 2.0 * q->scale);
        at = su_params_find(&f.params, k % 2 ? "image.embeddings.position_embeddings"
                                             : "text.embeddings.position_embeddings.weight");
        assert_true(at >= 0);
        assert_int_equal(f.params.items[at].init, k == 3 ? SU_INIT_GRID : SU_INIT_NORMAL);
        end(&f);
    }
}

static void threads_do_not_change_a_bit(void **state)
{
    (void)state;
    su_safetensors *file = golden_open(TOWERS "vit.safetensors");
    double *pooled[3], *gradient[3][64];
    fixture f[3];
    su_tower_config c = vit_golden;
    c.dropout = c.attention_dropout = c.drop_path = c.patch_dropout = 0.2;
    for (int k = 0; k < 3; k++) {
        begin(&f[k], &c, SU_DTYPE_F32, k + 1);
        golden_set(&f[k].params, file);
        plan(&f[k], 3, true);
        su_tower_input in = {
            .batch = 3, .images = golden_raw(file, "", "images"), .train = true, .key = {.seed = 3}};
        pooled[k] = pooled_values(&f[k], &in);
        backward(&f[k], &in, golden_values(file, "cls/", "upstream", NULL));
        assert_true(f[k].params.count <= 64);
        for (int64_t i = 0; i < f[k].params.count; i++) gradient[k][i] = gradient_values(&f[k].params, i);
    }
    for (int k = 1; k < 3; k++) {
        check_same_bits("pooled", pooled[k], pooled[0], 3 * 36);
        for (int64_t i = 0; i < f[0].params.count; i++)
            check_same_bits(f[0].params.items[i].name, gradient[k][i], gradient[0][i],
                            f[0].params.items[i].count);
    }
    su_safetensors_close(file);
    for (int k = 0; k < 3; k++) end(&f[k]);
}

static void calls_and_configurations_that_cannot_be_are_refused(void **state)
{
    (void)state;
    fixture f;
    su_error err = {0};
    void *pooled = NULL;
    begin(&f, &bert_golden, SU_DTYPE_F32, 1);
    plan(&f, 2, false);
    int32_t ids[60] = {2, 3}, lengths[3] = {2, 1, 1};
    su_tower_input in = {.batch = 3, .ids = ids, .lengths = lengths};
    assert_int_equal(su_tower_forward(f.tower, &in, &pooled, &err), SU_EINVAL);
    in.batch = 2;
    assert_int_equal(su_tower_forward(f.tower, &in, &pooled, &err), SU_OK);
    for (int bad = 0; bad < 2; bad++) {
        ids[1] = bad ? 97 : -1;
        assert_int_equal(su_tower_forward(f.tower, &in, &pooled, &err), SU_EINVAL);
        ids[1] = 3;
        lengths[1] = bad ? 21 : 0;
        assert_int_equal(su_tower_forward(f.tower, &in, &pooled, &err), SU_EINVAL);
        lengths[1] = 1;
    }
    for (int bad = 0; bad < 8; bad++) {
        su_tower_config c = bad < 5 ? vit_golden : bert_golden;
        su_tower *t = NULL;
        su_params p;
        if (bad == 0) c.image_size = 41;
        if (bad == 1) c.heads = 5;
        if (bad == 2) c.channels = 2;
        if (bad == 3) c.patch_dropout = 1.0;
        if (bad == 4) c.depth = 0;
        if (bad == 5) c.max_tokens = 25;
        if (bad == 6) c.types = 0;
        if (bad == 7) c.vocabulary = 4;
        su_params_init(&p, f.device);
        err.message[0] = '\0';
        assert_int_equal(su_tower_new(&c, "x.", 0, &p, &t, &err), SU_EINVAL);
        assert_null(t);
        assert_non_null(strstr(err.message, "x."));
        su_params_free(&p);
    }
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vit_and_all_its_gradients_equal_transformers),
        cmocka_unit_test(bert_and_all_its_gradients_equal_transformers),
        cmocka_unit_test(gradients_enter_at_the_tokens_as_they_do_through_the_pooling),
        cmocka_unit_test(positions_are_interpolated_as_pytorch_does),
        cmocka_unit_test(vit_gradients_equal_differences_under_all_dropouts),
        cmocka_unit_test(bert_gradients_equal_differences_under_all_dropouts),
        cmocka_unit_test(the_class_token_alone_is_what_it_is_among_all),
        cmocka_unit_test(planning_without_backward_gives_the_same_bits_in_less_memory),
        cmocka_unit_test(a_text_gives_the_same_bits_alone_and_among_longer_ones),
        cmocka_unit_test(patch_dropout_keeps_its_share_in_training_only),
        cmocka_unit_test(a_scaled_start_is_that_of_blocks_and_image_positions),
        cmocka_unit_test(threads_do_not_change_a_bit),
        cmocka_unit_test(calls_and_configurations_that_cannot_be_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
