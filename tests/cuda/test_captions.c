/* Captions on the CUDA device: a decoder's steps are recorded (caption/cache.h), and what a recording gives is what the
 * operations give.
 *
 *     test_cuda_captions DEVICE */
#include "tests/nn/check.h"
#include "caption/generate.h"
#include "nn/cuda/emulate/host.h"
#include "tests/cuda/open.h"
#include "tests/tolerance.h"
#include <dlfcn.h>

enum { TOKENS = 5, IMAGES = 6, ROUNDS = 3, LONGEST = 12, VOCABULARY = 61, START = 2, END = 3 };

static const su_decoder_config small = {.width = 32,
                                        .depth =
                                            3, /* odd: the last norm leaves its result in the other buffer */
                                        .heads = 2,
                                        .mlp = 48,
                                        .memory_width = 16,
                                        .vocabulary = VOCABULARY,
                                        .positions = 20,
                                        .types = 2,
                                        .act = SU_ACT_GELU,
                                        .eps = 1e-12};
static const char *device_name;

typedef struct {
    su_device *device;
    su_params params;
    su_decoder *decoder;
    su_generator *generator;
    void *memory; /* of the images: other ones every round */
} captioner;

typedef struct {
    int32_t length, tokens[LONGEST];
    float log_probs[LONGEST];
} caption;

/* Weights large enough that captions differ, and end at different times. */
static void draw_weights(su_params *p)
{
    su_error err = {0};
    for (int64_t i = 0; i < p->count; i++) {
        const su_param *q = &p->items[i];
        double *x =
            check_normal(40 + (uint64_t)i, q->count, q->rank == 1 ? 0.1 : 1.5 / sqrt((double)q->shape[1]));
        for (int64_t j = 0; q->init == SU_INIT_ONE && j < q->count; j++) x[j] = 1;
        if (strstr(q->name, "predictions.bias")) x[END] += 1;
        if (su_params_set(p, i, x, &err)) fail_msg("%s", err.message);
    }
    su_params_refresh(p);
}

static void open_captioner(captioner *c, const su_generation *rules, int32_t prefix)
{
    su_error err = {0};
    *c = (captioner){.device = open_cuda(device_name)};
    su_params_init(&c->params, c->device);
    su_status st = su_decoder_new(&small, "decoder.", 0, &c->params, &c->decoder, &err);
    if (!st) st = su_params_commit(&c->params, false, &err);
    if (!st) st = su_params_randomise(&c->params, 3, &err);
    if (st) fail_msg("%s", err.message);
    draw_weights(&c->params);
    const int64_t n = (int64_t)ROUNDS * IMAGES * TOKENS * small.memory_width;
    c->memory = check_room(c->device, (size_t)n * su_dtype_size(c->device->act));
    const double *x = check_normal(5, n, 2);
    float *values = check_alloc(n, sizeof *values);
    for (int64_t i = 0; i < n; i++) values[i] = (float)x[i];
    void *floats = check_room(c->device, (size_t)n * sizeof *values);
    c->device->ops->upload(c->device, floats, values, (size_t)n * sizeof *values);
    c->device->ops->convert(c->device, c->memory, c->device->act, floats, SU_DTYPE_F32, n);
    c->device->ops->release(c->device, floats);
    st = su_generator_new(c->decoder, rules, IMAGES, TOKENS, prefix, &c->generator, &err);
    if (st) fail_msg("%s", err.message);
}

static void close_captioner(captioner *c)
{
    su_error err = {0};
    su_generator_free(c->generator);
    c->device->ops->release(c->device, c->memory);
    su_decoder_free(c->decoder);
    su_params_free(&c->params);
    assert_int_equal(c->device->ops->sync(c->device, &err), SU_OK);
    su_device_close(c->device);
    check_free_all();
}

/* One batch of images. */
static su_status write_round(captioner *c, int round, const su_prefix *prefix, caption *out, su_error *err)
{
    su_status st = SU_OK;
    memset(out, 0, IMAGES * sizeof *out);
    for (int32_t i = 0; i < IMAGES && !st; i++) {
        const int64_t at = (int64_t)(round * IMAGES + i) * TOKENS * small.memory_width;
        st = su_generator_add(c->generator, i, su_act_at(c->device, c->memory, at), prefix, err);
    }
    while (!st && su_generator_active(c->generator)) {
        const su_generated *g;
        st = su_generator_step(c->generator, err);
        while (!st && (g = su_generator_take(c->generator))) {
            caption *to = &out[g->number];
            to->length = g->length;
            memcpy(to->tokens, g->tokens, (size_t)g->length * sizeof *g->tokens);
            memcpy(to->log_probs, g->log_probs, (size_t)g->length * sizeof *g->log_probs);
        }
    }
    return st;
}

static su_generation rules_of(int32_t beams)
{
    su_generation g;
    su_generation_defaults(&g);
    g.beams = beams;
    g.max_tokens = LONGEST;
    g.start = START;
    g.end = END;
    return g;
}

/* The emulator's counts; on a GPU, zeros. */
static su_emulate_counts counted(void)
{
    const char *path = getenv("SUTURE_CUDA_LIBRARY");
    void *library = path ? dlopen(path, RTLD_NOW | RTLD_NOLOAD) : NULL;
    void *symbol = library ? dlsym(library, "su_emulate_counted") : NULL;
    su_emulate_counts (*count)(void) = NULL;
    memcpy(&count, &symbol, sizeof count);
    const su_emulate_counts counts = count ? count() : (su_emulate_counts){0};
    if (library) dlclose(library);
    return counts;
}

/* All batches, one after the other; evidence in front of the second. fails: which part of a recording, on the emulator. */
static su_emulate_counts write_all(int32_t beams, const char *fails, caption (*out)[IMAGES])
{
    const su_generation rules = rules_of(beams);
    const int32_t ids[] = {7, 8, 9, 7}, position[] = {0, 1, 2, 3}, type[] = {1, 1, 1, 1};
    const su_prefix evidence = {ids, position, type, 4};
    su_emulate_counts before = {0}, after = {0};
    su_error err = {0};
    captioner c;
    setenv("SUTURE_EMULATE_RECORD", fails, 1);
    open_captioner(&c, &rules, evidence.length);
    for (int r = 0; r < ROUNDS; r++) {
        before = counted();
        if (write_round(&c, r, r == 1 ? &evidence : NULL, out[r], &err)) fail_msg("%s", err.message);
        after = counted();
    }
    close_captioner(&c);
    unsetenv("SUTURE_EMULATE_RECORD");
    return (su_emulate_counts){after.launched - before.launched, after.kept - before.kept,
                               after.runs - before.runs};
}

static void captions_of_later_batches_come_from_recordings_with_the_same_bits(void **state)
{
    (void)state;
    for (int32_t beams = 1; beams <= 3; beams += 2) {
        caption plain[ROUNDS][IMAGES], got[ROUNDS][IMAGES];
        int lengths = 0;
        const su_emulate_counts launches = write_all(beams, "begin", plain), runs = write_all(beams, "", got);
        assert_memory_equal(got, plain, sizeof got);
        for (int i = 0; i < ROUNDS * IMAGES; i++) lengths |= 1 << got[i / IMAGES][i % IMAGES].length;
        assert_true(lengths & (lengths - 1)); /* not all of one length */
        print_message("beams %d, last batch: %d launches, or %d and %d recordings\n", (int)beams,
                      (int)launches.launched, (int)runs.launched, (int)runs.runs);
        if (!launches.launched) continue; /* a GPU, which counts nothing */
        assert_int_equal(launches.runs, 0);
        assert_int_equal(runs.launched, 2 * small.depth); /* keys and values of the images */
        assert_int_equal(runs.kept, 0);
        assert_true(runs.runs > 4);
    }
}

/* Rows that fill a call up leave no trace. */
static void captions_in_float32_are_those_of_the_cpu(void **state)
{
    (void)state;
    const char *name = device_name;
    caption cpu[ROUNDS][IMAGES], got[ROUNDS][IMAGES];
    if (!strstr(name, "f32")) skip();
    write_all(3, "", got);
    device_name = "cpu";
    write_all(3, "", cpu);
    device_name = name;
    for (int i = 0; i < ROUNDS * IMAGES; i++) {
        const caption *a = &got[i / IMAGES][i % IMAGES], *b = &cpu[i / IMAGES][i % IMAGES];
        assert_int_equal(a->length, b->length);
        assert_memory_equal(a->tokens, b->tokens, sizeof a->tokens);
        for (int t = 0; t < a->length; t++)
            assert_true(fabsf(a->log_probs[t] - b->log_probs[t]) <
                        (float)su_tolerance("caption.f32.log_prob"));
    }
}

static void a_recording_that_fails_changes_no_caption(void **state)
{
    (void)state;
    static const char *const parts[] = {"begin", "end", "run"};
    caption plain[ROUNDS][IMAGES], got[ROUNDS][IMAGES];
    write_all(2, "", plain);
    for (int i = 0; i < 3; i++) {
        const su_emulate_counts counts = write_all(2, parts[i], got);
        assert_memory_equal(got, plain, sizeof got);
        assert_int_equal(counts.runs, 0);
        assert_int_equal(counts.kept, 0); /* tried once a number of rows, in earlier batches */
    }
}

int main(int argc, char **argv)
{
    device_name = argc > 1 ? argv[1] : "cuda,bf16";
    su_device_close(open_cuda(device_name)); /* or the tests are skipped */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(captions_of_later_batches_come_from_recordings_with_the_same_bits),
        cmocka_unit_test(captions_in_float32_are_those_of_the_cpu),
        cmocka_unit_test(a_recording_that_fails_changes_no_caption),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
