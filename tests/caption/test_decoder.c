/* The decoder's logits, loss and gradients against transformers and against differences. */
#include "tests/caption/decoders.h"

static su_decoder_input golden_input(const su_safetensors *file)
{
    return (su_decoder_input){.batch = 4,
                              .tokens = 13,
                              .ids = golden_raw(file, "", "ids"),
                              .position = golden_raw(file, "", "position"),
                              .type = golden_raw(file, "", "type"),
                              .lengths = golden_raw(file, "", "lengths"),
                              .targets = golden_raw(file, "", "targets"),
                              .train = true}; /* all rates are zero */
}

static void equals_transformers(const char *tolerance, su_dtype type, int threads, su_checkpointing level)
{
    su_safetensors *file = golden_open(CAPTIONS "decoder.safetensors");
    su_decoder_input in = golden_input(file);
    fixture f;
    su_error err = {0};
    int64_t n = 0, wanted = 0, count = 0, memory_size = 0;
    begin(&f, &decoder_golden, type, threads, true);
    golden_set(&f.params, file);
    f.level = level;
    plan(&f, 5, 14, 8, true); /* for more than the call brings */
    double *memory = golden_values(file, "", "memory", &memory_size);
    double *want = golden_values(file, "", "logits", &n), loss = 0;
    void *m = check_upload(f.device, memory, memory_size), *dm = check_upload(f.device, NULL, memory_size);
    void *logits = check_upload(f.device, NULL, n);
    ok(su_decoder_logits(f.decoder, &in, m, 7, logits, &wanted, &err), &err);
    assert_int_equal(wanted * decoder_golden.vocabulary, n);
    check_close("logits", check_take(f.device, logits, n), want, n, su_tolerance(tolerance));
    ok(su_decoder_loss(f.decoder, &in, m, 7, 0.1, 0.25, true, dm, &loss, &count, &err), &err);
    assert_int_equal(count, wanted);
    loss *= 4;
    check_close("loss", &loss, golden_values(file, "", "loss", NULL), 1, su_tolerance(tolerance));
    golden_gradients(&f.params, file, "grad/", su_tolerance(tolerance));
    check_close("d_memory", check_take(f.device, dm, memory_size),
                golden_values(file, "grad/", "memory", NULL), memory_size, su_tolerance(tolerance));
    check_take(f.device, m, 0);
    su_safetensors_close(file);
    end(&f);
}

static void logits_loss_and_all_gradients_equal_transformers(void **state)
{
    (void)state;
    for (int level = 0; level < SU_CHECKPOINTING_LEVELS; level++) {
        equals_transformers("align.f32", SU_DTYPE_F32, 2, (su_checkpointing)level);
        equals_transformers("align.f64", SU_DTYPE_F64, 1, (su_checkpointing)level);
    }
}

/* --- by differences, with dropout and image tokens of another width ------------------------------------- */

enum { BATCH = 3, ROW = 9, MEMORY = 5 };

typedef struct {
    fixture *f;
    su_decoder_input in;
    double *memory;
    int64_t memory_size, index; /* of the parameter that is moved; -1: memory */
    double *values;
} difference;

static double loss_of(difference *c, bool learn, double **d_memory)
{
    su_error err = {0};
    double loss = 0;
    int64_t count = 0;
    void *m = check_upload(c->f->device, c->memory, c->memory_size),
         *dm = learn ? check_upload(c->f->device, NULL, c->memory_size) : NULL;
    ok(su_decoder_loss(c->f->decoder, &c->in, m, MEMORY, 0.2, 0.05, learn, dm, &loss, &count, &err), &err);
    c->f->device->ops->release(c->f->device, m);
    if (learn) *d_memory = check_take(c->f->device, dm, c->memory_size);
    return loss;
}

static double moved(void *context)
{
    difference *c = context;
    su_error err = {0};
    if (c->index >= 0) ok(su_params_set(&c->f->params, c->index, c->values, &err), &err);
    return loss_of(c, false, NULL);
}

static void gradients_equal_differences_under_dropout(void **state)
{
    (void)state;
    su_decoder_config k = decoder_golden;
    k.memory_width = 10;
    k.dropout = 0.2;
    k.attention_dropout = 0.1;
    fixture f;
    begin(&f, &k, SU_DTYPE_F64, 1, true);
    f.level = SU_CHECKPOINTING_FULL;
    plan(&f, BATCH, ROW, MEMORY, true);
    int32_t *lists[4], *lengths = check_alloc(BATCH, sizeof *lengths);
    const int32_t limits[4] = {k.vocabulary, k.positions, k.types, k.vocabulary};
    for (int l = 0; l < 4; l++) {
        lists[l] = check_alloc(BATCH * ROW, sizeof(int32_t));
        for (int32_t i = 0; i < BATCH * ROW; i++)
            lists[l][i] = (int32_t)su_rng_below((su_rng_key){.seed = 7, .layer = (uint32_t)l}, (uint64_t)i,
                                                (uint64_t)limits[l]);
    }
    for (int32_t b = 0; b < BATCH; b++) {
        lengths[b] = ROW - 3 * b;
        for (int32_t t = lengths[b]; t < ROW; t++) lists[3][b * ROW + t] = -1;
    }
    lists[3][0] = lists[3][4] = -1;
    difference c = {.f = &f,
                    .in = {.batch = BATCH,
                           .tokens = ROW,
                           .ids = lists[0],
                           .position = lists[1],
                           .type = lists[2],
                           .targets = lists[3],
                           .lengths = lengths,
                           .train = true,
                           .key = {.seed = 9, .step = 2, .layer = 64}},
                    .memory_size = BATCH * MEMORY * 10,
                    .memory = check_normal(5, BATCH * MEMORY * 10, 1)};
    for (int64_t i = 0; i < f.params.count; i++) { /* large enough that attention is not uniform */
        su_error err = {0};
        const su_param *q = &f.params.items[i];
        double *x = check_normal(100 + (uint64_t)i, q->count, q->rank == 2 ? 0.3 : 0.2);
        if (q->init == SU_INIT_ONE)
            for (int64_t j = 0; j < q->count; j++) x[j] += 1;
        ok(su_params_set(&f.params, i, x, &err), &err);
    }
    double *d_memory = NULL, *gradients[128];
    double with = loss_of(&c, true, &d_memory), without = loss_of(&c, false, NULL);
    assert_true(with == without);
    for (int64_t i = 0; i < f.params.count; i++) gradients[i] = gradient_values(&f.params, i);
    c.index = -1;
    check_gradient("memory", moved, &c, c.memory, d_memory, c.memory_size, su_tolerance("align.difference"));
    for (int64_t i = 0; i < f.params.count; i++) {
        c.index = i;
        c.values = weight_values(&f.params, i);
        check_gradient(f.params.items[i].name, moved, &c, c.values, gradients[i], f.params.items[i].count,
                       su_tolerance("align.difference"));
        moved(&c);
    }
    end(&f);
}

static void what_does_not_fit_the_tables_is_refused(void **state)
{
    (void)state;
    fixture f;
    su_error err = {0};
    begin(&f, &decoder_golden, SU_DTYPE_F32, 1, false);
    plan(&f, 2, 4, 3, false);
    int32_t ids[4] = {1, 2, 3, 4}, position[4] = {0, 1, 2, 3}, type[4] = {0}, targets[4] = {2, 3, 4, -1},
            length = 4;
    su_decoder_input in = {.batch = 1,
                           .tokens = 4,
                           .ids = ids,
                           .position = position,
                           .type = type,
                           .targets = targets,
                           .lengths = &length};
    double loss = 0;
    int64_t count = 0;
    void *m = check_upload(f.device, check_normal(1, 3 * 24, 1), 3 * 24);
    ok(su_decoder_loss(f.decoder, &in, m, 3, 0, 1, false, NULL, &loss, &count, &err), &err);
    assert_int_equal(count, 3);
    int32_t *cells[] = {ids, position, type, targets};
    for (int i = 0; i < 4; i++) {
        int32_t keep = cells[i][2];
        cells[i][2] = 61;
        assert_int_equal(su_decoder_loss(f.decoder, &in, m, 3, 0, 1, false, NULL, &loss, &count, &err),
                         SU_EINVAL);
        cells[i][2] = keep;
    }
    assert_int_equal(su_decoder_loss(f.decoder, &in, m, 4, 0, 1, false, NULL, &loss, &count, &err),
                     SU_EINVAL);
    assert_int_equal(su_decoder_loss(f.decoder, &in, m, 3, 0, 1, true, NULL, &loss, &count, &err), SU_EINVAL);
    assert_non_null(strstr(err.message, "without a backward pass"));
    su_decoder_config bad = decoder_golden;
    bad.heads = 5;
    su_decoder *none = NULL;
    assert_int_equal(su_decoder_new(&bad, "x.", 0, &f.params, &none, &err), SU_EINVAL);
    assert_null(none);
    check_take(f.device, m, 0);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_loss_and_all_gradients_equal_transformers),
        cmocka_unit_test(gradients_equal_differences_under_dropout),
        cmocka_unit_test(what_does_not_fit_the_tables_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
