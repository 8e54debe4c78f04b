/* The small models of the golden files, and batches for them. */
#ifndef SU_TESTS_ALIGN_MODELS_H
#define SU_TESTS_ALIGN_MODELS_H

#include "tests/align/golden.h"
#include "align/objective.h"
#include "base/memory.h"

enum { GOLDEN_BATCH = 9, GOLDEN_BATCHES = 3, GOLDEN_TOKENS = 12 };

static const su_tower_config golden_vit = {.kind = SU_TOWER_VIT,
                                           .width = 24,
                                           .depth = 2,
                                           .heads = 3,
                                           .mlp = 36,
                                           .act = SU_ACT_GELU,
                                           .eps = 1e-6,
                                           .image_size = 24,
                                           .patch = 8,
                                           .channels = 1,
                                           .mean = {0.5},
                                           .std = {0.25}};
static const su_tower_config golden_bert = {.kind = SU_TOWER_BERT,
                                            .width = 20,
                                            .depth = 2,
                                            .heads = 2,
                                            .mlp = 36,
                                            .act = SU_ACT_GELU,
                                            .eps = 1e-12,
                                            .vocabulary = 53,
                                            .positions = 14,
                                            .types = 2,
                                            .max_tokens = GOLDEN_TOKENS};

static void add_stream(su_model_config *c, const char *name, const su_tower_config *tower, su_pooling pooling)
{
    su_stream_config *s = &c->stream[c->streams++];
    snprintf(s->name, sizeof s->name, "%s", name);
    s->tower = *tower;
    s->tower.pooling = pooling;
    s->lr_factor = 1.0;
}

/* image + text, or frontal + lateral + text; anchor text. */
CHECK_UNUSED static su_model_config golden_config(int streams)
{
    su_model_config c = {.dim = 16, .anchor = streams - 1};
    if (streams == 2) {
        add_stream(&c, "image", &golden_vit, SU_POOLING_MEAN);
        add_stream(&c, "text", &golden_bert, SU_POOLING_CLS);
    } else {
        add_stream(&c, "frontal", &golden_vit, SU_POOLING_CLS);
        add_stream(&c, "lateral", &golden_vit, SU_POOLING_MEAN);
        c.stream[1].tower.act = SU_ACT_QUICK_GELU;
        add_stream(&c, "text", &golden_bert, SU_POOLING_MEAN);
    }
    return c;
}

/* 53 tokens: the five special ones, the letters, and some words. */
CHECK_UNUSED static su_wordpiece *small_vocabulary(void)
{
    char text[1024] = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n";
    static const char *const words[] = {
        "chest", "x",      "ray",  "lung",  "heart", "left", "right",    "ct",    "mri", "of",    "the",
        "no",    "nodule", "mass", "upper", "lobe",  "with", "effusion", "shows", "and", "large", "small"};
    su_wordpiece *wp = NULL;
    su_error err = {0};
    for (char c = 'a'; c <= 'z'; c++) snprintf(text + strlen(text), sizeof text - strlen(text), "##%c\n", c);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s\n", words[i]);
    ok(su_wordpiece_parse(text, strlen(text), "test vocabulary", &wp, &err), &err);
    assert_int_equal(su_wordpiece_size(wp), 53);
    return wp;
}

CHECK_UNUSED static su_model *new_model(const su_model_config *c, su_device *d, bool training, uint64_t seed)
{
    su_model *m = NULL;
    su_error err = {0};
    ok(su_model_new(c, d, small_vocabulary(), training, seed, &m, &err), &err);
    return m;
}

CHECK_UNUSED static su_step_batch golden_batch(const su_model_config *c, const su_safetensors *file,
                                               int number)
{
    su_step_batch b = {.count = GOLDEN_BATCH, .train = true, .seed = 1, .step = 1};
    char front[32];
    snprintf(front, sizeof front, "batch%d/", number);
    for (int m = 0; m < c->streams; m++) {
        if (c->stream[m].tower.kind == SU_TOWER_VIT) {
            b.images[m] = golden_raw(file, front, c->stream[m].name);
        } else {
            b.ids[m] = golden_raw(file, front, "ids");
            b.lengths[m] = golden_raw(file, front, "lengths");
        }
    }
    return b;
}

/* n random samples: images of each ViT stream; texts of 3 to max_tokens ids. */
CHECK_UNUSED static su_step_batch random_batch(const su_model_config *c, int32_t n, uint64_t seed)
{
    su_step_batch b = {.count = n, .seed = seed, .step = 1};
    for (int m = 0; m < c->streams; m++) {
        const su_tower_config *t = &c->stream[m].tower;
        su_rng_key key = {.seed = seed, .layer = (uint32_t)m};
        if (t->kind == SU_TOWER_VIT) {
            int64_t count = (int64_t)n * t->image_size * t->image_size * t->channels;
            uint8_t *x = check_alloc(count, 1);
            for (int64_t i = 0; i < count; i++) x[i] = (uint8_t)su_rng_below(key, (uint64_t)i, 256);
            b.images[m] = x;
            continue;
        }
        int32_t *ids = check_alloc((int64_t)n * t->max_tokens, sizeof *ids),
                *lengths = check_alloc(n, sizeof *lengths);
        for (int32_t i = 0; i < n; i++) {
            lengths[i] = 3 + (int32_t)su_rng_below(key, (uint64_t)i, (uint64_t)t->max_tokens - 2);
            for (int32_t j = 0; j < lengths[i]; j++)
                ids[i * t->max_tokens + j] = (int32_t)su_rng_below(key, (uint64_t)(n + i * t->max_tokens + j),
                                                                   (uint64_t)t->vocabulary);
        }
        b.ids[m] = ids;
        b.lengths[m] = lengths;
    }
    return b;
}

CHECK_UNUSED static su_step *new_step(su_model *m, int32_t batch, int32_t micro)
{
    su_step *s = NULL;
    su_error err = {0};
    size_t bytes = 0;
    ok(su_step_new(m, batch, micro, &s, &bytes, &err), &err);
    assert_true(bytes > 0);
    return s;
}

#endif
