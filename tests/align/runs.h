/* A small dataset, a configuration and a vocabulary file for whole trainings, all below the scratch folder. */
#ifndef SU_TESTS_ALIGN_RUNS_H
#define SU_TESTS_ALIGN_RUNS_H

#include "tests/align/models.h"
#include "tests/base/scratch.h"
#include "tests/datasets/packed.h"
#include "align/train.h"

enum { RUN_SAMPLES = 2 * PACKED_MAX };

/* Eight kinds of picture at several brightnesses, each kind with its own words; every group is one sample. */
CHECK_UNUSED static char *run_dataset(int count)
{
    static const char *const texts[8] = {"chest x ray no effusion", "large left effusion",
                                         "small nodule upper lobe", "ct of the right lung",
                                         "mri of the heart",        "mass right upper lobe",
                                         "left lung with nodule",   "no mass and no nodule"};
    static packed_sample samples[RUN_SAMPLES];
    static char names[RUN_SAMPLES][16];
    assert_true(count <= RUN_SAMPLES);
    for (int i = 0; i < count; i++) {
        snprintf(names[i], sizeof names[i], "s%02d", i);
        samples[i] = (packed_sample){.id = names[i],
                                     .group = names[i],
                                     .split = "train",
                                     .text = texts[i % 8],
                                     .picture = (uint64_t)(1 + i % 8),
                                     .gain = 0.8 + 0.02 * (i / 8)};
    }
    return packed_make(samples, count, NULL);
}

CHECK_UNUSED static const char *run_vocabulary(void)
{
    const char *path = at("vocab.txt");
    su_wordpiece *wp = small_vocabulary();
    size_t length = 0;
    const char *text = su_wordpiece_text(wp, &length);
    put_bytes(path, text, length);
    su_wordpiece_free(wp);
    return path;
}

/* 32 samples: about 24 to train on, in 2 or 3 batches of 8 an epoch. All dropouts and augmentation are on. */
CHECK_UNUSED static su_train_config run_config(int64_t epochs)
{
    su_train_config c;
    su_error err = {0};
    ok(su_config_preset("tiny", &c, &err), &err);
    su_model_config m = golden_config(2);
    m.stream[0].tower.image_size = 24;
    m.stream[0].tower.patch_dropout = 0.2;
    m.stream[0].tower.drop_path = 0.1;
    m.stream[1].tower.dropout = 0.1;
    m.stream[1].tower.attention_dropout = 0.1;
    c.model = m;
    c.epochs = epochs;
    c.batch = 8;
    c.micro_batch = 3;
    c.lr = 3e-3;
    c.holdout = 0.25;
    c.seed = 5;
    return c;
}

/* One call of su_train on a device of its own. */
CHECK_UNUSED static su_status run_train(const char *data, const char *out, const su_train_config *c,
                                        int threads, bool resume, const volatile sig_atomic_t *stop,
                                        su_train_result *result, su_error *err)
{
    su_device *d = check_device(SU_DTYPE_F32, threads);
    su_train_options o = {.data = data,
                          .out = out,
                          .vocabulary = at("vocab.txt"),
                          .config = *c,
                          .resume = resume,
                          .device = d,
                          .stop = stop};
    su_status st = su_train(&o, result, err);
    su_device_close(d);
    return st;
}

CHECK_UNUSED static char *run_file(const char *run, const char *name, size_t *length)
{
    char path[512], *data = NULL;
    su_error err = {0};
    snprintf(path, sizeof path, "%s/%s", run, name);
    ok(su_file_read(path, 1 << 26, &data, length, &err), &err);
    char *copy = check_alloc((int64_t)*length + 1, 1);
    memcpy(copy, data, *length);
    su_free(data);
    return copy;
}

/* Everything that a run leaves but run.json, which tells the time: the same bytes. */
CHECK_UNUSED static void assert_same_run(const char *a, const char *b)
{
    static const char *const names[] = {"config.json", "log.jsonl",         "checkpoint.safetensors",
                                        "model.json",  "model.safetensors", "vocab.txt"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        size_t n = 0, m = 0;
        const char *x = run_file(a, names[i], &n), *y = run_file(b, names[i], &m);
        if (n != m || memcmp(x, y, n)) fail_msg("%s differs between %s and %s", names[i], a, b);
    }
}

#endif
