/* Caption trainings: stopped, killed, continued, on any number of threads; what is frozen stays; what is
 * learned can be written again. */
#include "tests/align/runs.h"
#include "caption/train.h"
#include "caption/words.h"
#include "caption/write.h"
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

static char *data;

enum { FROZEN, AUGMENTED, IMAGE_LEARNS, JOINT, EVIDENCE, KINDS };

static su_caption_config caption_config(int kind, int64_t epochs)
{
    su_caption_config c;
    su_error err = {0};
    ok(su_caption_config_from(at("align"), &c, &err), &err);
    assert_true(c.warm && c.decoder.width == 20 && c.decoder.depth == 2);
    c.train.epochs = epochs;
    c.train.batch = 8;
    c.train.micro_batch = 3;
    c.train.lr = 3e-3;
    c.train.holdout = 0.25;
    c.train.seed = 5;
    c.train.augment.on = kind == AUGMENTED || kind == IMAGE_LEARNS;
    c.max_tokens = 12;
    c.evidence_tokens = 6;
    if (kind == IMAGE_LEARNS || kind == JOINT) c.train.model.stream[0].lr_factor = 0.3;
    if (kind == JOINT) {
        c.joint = true;
        c.train.model.stream[1].lr_factor = 0.1;
        c.train.objective.lambda_infonce = 0.5;
    }
    if (kind == EVIDENCE) c.evidence = 2;
    return c;
}

static su_status run_caption(const char *out, const su_caption_config *c, int threads, bool resume,
                             const volatile sig_atomic_t *stop, su_caption_result *result, su_error *err)
{
    su_device *d = check_device(SU_DTYPE_F32, threads);
    su_caption_options o = {
        .data = data, .out = out, .config = *c, .resume = resume, .device = d, .stop = stop};
    su_status st = su_caption_train(&o, result, err);
    su_device_close(d);
    return st;
}

static void assert_same_caption_run(const char *a, const char *b, bool evidence)
{
    static const char *const names[] = {"caption.json", "caption_vocab.txt", "evidence.jsonl",
                                        "evidence.safetensors"};
    assert_same_run(a, b);
    for (size_t i = 0; i < (evidence ? 4 : 2); i++) {
        size_t n = 0, m = 0;
        const char *x = run_file(a, names[i], &n), *y = run_file(b, names[i], &m);
        if (n != m || memcmp(x, y, n)) fail_msg("%s differs between %s and %s", names[i], a, b);
    }
}

static void resume_after_every_step_equals_an_uninterrupted_run(void **state)
{
    (void)state;
    for (int kind = 0; kind < KINDS; kind++) {
        char whole[32], steps[32];
        snprintf(whole, sizeof whole, "whole%d", kind);
        snprintf(steps, sizeof steps, "steps%d", kind);
        su_caption_config c = caption_config(kind, 3);
        su_error err = {0};
        su_caption_result all, part;
        volatile sig_atomic_t stop = 1;
        ok(run_caption(at(whole), &c, 2, false, NULL, &all, &err), &err);
        su_status st = run_caption(at(steps), &c, 1, false, &stop, &part, &err);
        for (int64_t done = 1; done < all.steps; done++) {
            assert_int_equal(st, SU_EINTERRUPTED);
            assert_int_equal(part.steps, done);
            st = run_caption(at(steps), &c, 1 + (int)(done % 3), true, &stop, &part, &err);
        }
        ok(st, &err);
        assert_true(part.best_loss == all.best_loss && part.best_epoch == all.best_epoch);
        assert_same_caption_run(at(steps), at(whole), kind == EVIDENCE);
        check_free_all();
    }
}

/* A checkpoint at every step, kills at moments all over the run, each followed by --resume. */
static void killed_at_any_moment_the_run_goes_on_to_the_same_bytes(void **state)
{
    (void)state;
    su_caption_config c = caption_config(EVIDENCE, 3);
    su_error err = {0};
    int kills = 0, status = 0;
    c.train.checkpoint_steps = 1;
    ok(run_caption(at("quiet"), &c, 2, false, NULL, NULL, &err), &err);
    for (long wait = 8;; wait += 9) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            su_status st = run_caption(at("killed"), &c, 2, true, NULL, NULL, &err);
            if (st) fprintf(stderr, "%s\n", err.message);
            _exit(st);
        }
        nanosleep(&(struct timespec){wait / 1000, wait % 1000 * 1000000}, NULL);
        kill(child, SIGKILL);
        assert_int_equal(waitpid(child, &status, 0), child);
        if (WIFEXITED(status)) break;
        assert_true(++kills < 2000);
    }
    assert_int_equal(WEXITSTATUS(status), SU_OK);
    assert_true(kills >= 3);
    assert_same_caption_run(at("killed"), at("quiet"), true);
    check_free_all();
}

static float *tensor(const su_safetensors *file, const char *name, int64_t *n)
{
    const su_tensor_view *view = su_safetensors_find(file, name);
    assert_non_null(view);
    *n = (int64_t)(view->bytes / sizeof(float));
    float *x = check_alloc(*n, sizeof *x);
    memcpy(x, view->data, view->bytes);
    return x;
}

static void what_is_frozen_keeps_its_weights_and_the_run_is_still_an_alignment(void **state)
{
    (void)state;
    for (int kind = 0; kind < KINDS; kind++) {
        char name[32];
        snprintf(name, sizeof name, "whole%d/model.safetensors", kind);
        su_safetensors *before = golden_open(at("align/model.safetensors")), *after = golden_open(at(name));
        for (int64_t i = 0; i < su_safetensors_count(before); i++) {
            const char *part = su_safetensors_at(before, i)->name;
            int64_t n = 0, m = 0;
            float *x = tensor(before, part, &n), *y = tensor(after, part, &m);
            assert_int_equal(n, m);
            bool same = !memcmp(x, y, (size_t)n * sizeof *x), image = !strncmp(part, "image.", 6),
                 projection = strstr(part, "projection.weight") && !strstr(part, "patch"),
                 learns = kind == JOINT ? strcmp(part, "logit_scale") != 0
                                        : kind == IMAGE_LEARNS && image && !projection;
            learns = learns && !strstr(part, "key.bias"); /* no attention sees it */
            if (!learns && !same) fail_msg("kind %d: %s moved", kind, part);
            if (learns && same && n > 1) fail_msg("kind %d: %s did not move", kind, part);
        }
        su_safetensors_close(before);
        su_safetensors_close(after);
        su_device *d = check_device(SU_DTYPE_F32, 1);
        su_model *m = NULL;
        su_error err = {0};
        snprintf(name, sizeof name, "whole%d", kind);
        ok(su_model_open(at(name), d, false, &m, &err), &err);
        su_model_free(m);
        su_device_close(d);
        check_free_all();
    }
}

static void a_warm_decoder_starts_with_the_text_towers_weights(void **state)
{
    (void)state;
    su_caption_config c = caption_config(FROZEN, 1);
    su_error err = {0};
    su_device *d = check_device(SU_DTYPE_F32, 1);
    su_captioner *cap = NULL;
    ok(su_caption_config_check(&c, &err), &err);
    su_wordpiece *own = NULL;
    const char *few = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nlung\nleft\nzebra\n";
    ok(su_wordpiece_parse(few, strlen(few), "few", &own, &err), &err);
    c.decoder.vocabulary = su_wordpiece_size(own);
    ok(su_captioner_new(&c, own, d, &cap, &err), &err);
    const su_params *p = &cap->model->params;
    double *text = weight_values(p, su_params_find(p, "text.embeddings.word_embeddings.weight")),
           *mine = weight_values(p, cap->decoder->word);
    int32_t lung = su_wordpiece_id(cap->model->tokenizer, "lung");
    assert_memory_equal(mine + 5 * 20, text + lung * 20, 20 * sizeof *mine);
    double zebra =
        largest(mine + 7 * 20, 20); /* the text tower has none: drawn, within two deviations of 0.02 */
    assert_true(zebra > 0 && zebra <= 0.04 + 1e-9);
    static const char *const parts[] = {"encoder.layer.1.attention.self.key.weight",
                                        "encoder.layer.0.output.dense.bias", "embeddings.LayerNorm.weight"};
    for (int i = 0; i < 3; i++) {
        char from[128], to[128];
        snprintf(from, sizeof from, "text.%s", parts[i]);
        snprintf(to, sizeof to, "decoder.%s", parts[i]);
        int64_t a = su_params_find(p, from), b = su_params_find(p, to);
        assert_memory_equal(weight_values(p, a), weight_values(p, b),
                            (size_t)p->items[a].count * sizeof *mine);
    }
    su_captioner_free(cap);
    su_device_close(d);
    check_free_all();
}

/* --- what is learned is written ------------------------------------------------------------------------- */

typedef struct {
    const su_dataset *ds;
    su_captioner *c;
    int64_t next, count, right, named;
} quiz;

static su_status ask(void *context, int32_t room, uint8_t *pixels, int64_t *numbers, su_identity *who,
                     int32_t *count, su_error *err)
{
    quiz *q = context;
    (void)err;
    *count = 0;
    const su_tower_config *t = &q->c->model->config.stream[q->c->stream].tower;
    size_t image = (size_t)t->image_size * (size_t)t->image_size;
    for (; *count < room && q->next < q->count; q->next++) {
        const su_raster in = {(uint8_t *)(uintptr_t)su_dataset_pixels(q->ds, 0, q->next), PACKED_SIZE,
                              PACKED_SIZE, 1, PACKED_SIZE};
        const su_raster out = {pixels + (size_t)*count * image, t->image_size, t->image_size, 1,
                               t->image_size};
        assert_int_equal(su_resize(&in, NULL, &out, NULL), SU_OK);
        numbers[*count] = q->next;
        who[(*count)++] = su_identity_of(q->ds, q->next, "image");
    }
    return SU_OK;
}

static su_status mark(void *context, const su_written *w, su_error *err)
{
    quiz *q = context;
    (void)err;
    int64_t i = w->generated->number;
    q->right += !strcmp(w->text, su_dataset_record(q->ds, i)->text);
    su_identity who = su_identity_of(q->ds, i, "image");
    for (int32_t k = 0; k < w->pieces; k++) { /* evidence is never the image itself, nor a copy of it */
        const su_identity *e = &su_evidence_at(q->c->evidence, w->evidence[k])->identity;
        assert_string_not_equal(e->id, who.id);
        assert_string_not_equal(e->group, who.group);
        assert_true(__builtin_popcountll(e->phash ^ who.phash) > SU_PHASH_NEAR);
        q->named++;
    }
    return SU_OK;
}

static quiz asked(const char *run, const su_dataset *ds, int threads)
{
    su_device *d = check_device(SU_DTYPE_F32, threads);
    su_error err = {0};
    quiz q = {.ds = ds, .count = su_dataset_count(ds)};
    su_generation g;
    su_generation_defaults(&g);
    g.max_tokens = 12;
    ok(su_captioner_open(run, d, &q.c, &err), &err);
    ok(su_phrases_new(q.c->tokenizer, NULL, 0, true, &g.forbidden, &err), &err);
    su_caption_work work = {ask, mark, &q};
    ok(su_caption_write(q.c, &g, 5, q.c->pieces, &work, &err), &err);
    su_phrases_free(&g.forbidden);
    su_captioner_free(q.c);
    su_device_close(d);
    return q;
}

/* Eight kinds of picture, each with its words. Evidence is always of other kinds, so it must be told from the
 * image. */
static void captions_that_were_trained_on_are_written_again(void **state)
{
    (void)state;
    su_dataset *ds = NULL;
    su_error err = {0};
    ok(su_dataset_open(data, &ds, &err), &err);
    for (int evidence = 0; evidence < 2; evidence++) {
        su_caption_config c = caption_config(evidence ? EVIDENCE : FROZEN, 70);
        c.train.holdout = 0;
        c.train.micro_batch = 0;
        c.train.lr = 1e-2;
        c.train.model.stream[0].lr_factor = evidence ? 0 : 0.3; /* the little alignment knows little */
        c.decoder.dropout = c.decoder.attention_dropout = 0;
        const char *run = at(evidence ? "learned-evidence" : "learned");
        ok(run_caption(run, &c, 2, false, NULL, NULL, &err), &err);
        quiz q = asked(run, ds, 2);
        assert_true(q.right >= (evidence ? 20 : 28)); /* of 32 */
        assert_int_equal(q.named, evidence ? 64 : 0);
    }
    su_dataset_close(ds);
    check_free_all();
}

static void configurations_that_cannot_be_are_refused(void **state)
{
    (void)state;
    static const char *const words[] = {"\"joint\"",   "frozen image tower", "does not go with \"joint\"",
                                        "starts warm", "multiple of heads",  "must be above 0"};
    for (int i = 0; i < 6; i++) {
        su_caption_config c = caption_config(FROZEN, 1);
        su_error err = {0};
        ok(su_caption_config_check(&c, &err), &err);
        if (i == 0) c.train.model.stream[1].lr_factor = 1;
        if (i == 1) c.evidence = 1, c.train.model.stream[0].lr_factor = 1;
        if (i == 2) c.evidence = 1, c.joint = true;
        if (i == 3) c.decoder.width = 40;
        if (i == 4) c.warm = false, c.decoder.heads = 3;
        if (i == 5) c.weight = 0;
        assert_int_not_equal(su_caption_config_check(&c, &err), SU_OK);
        assert_contains(err.message, words[i]);
    }
    check_free_all();
}

static int begin(void **state)
{
    if (scratch_setup(state)) return -1;
    run_vocabulary();
    data = run_dataset(RUN_SAMPLES);
    su_train_config c = run_config(3);
    su_error err = {0};
    if (run_train(data, at("align"), &c, 2, false, NULL, NULL, &err)) {
        fprintf(stderr, "%s\n", err.message);
        return -1;
    }
    return 0;
}

static int end(void **state)
{
    packed_remove(data);
    return scratch_teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resume_after_every_step_equals_an_uninterrupted_run),
        cmocka_unit_test(killed_at_any_moment_the_run_goes_on_to_the_same_bytes),
        cmocka_unit_test(what_is_frozen_keeps_its_weights_and_the_run_is_still_an_alignment),
        cmocka_unit_test(a_warm_decoder_starts_with_the_text_towers_weights),
        cmocka_unit_test(captions_that_were_trained_on_are_written_again),
        cmocka_unit_test(configurations_that_cannot_be_are_refused),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
