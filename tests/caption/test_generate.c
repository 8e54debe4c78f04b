/* Generation against transformers' generate(), and against itself: with and without the cache, alone and in
 * company. */
#include "tests/caption/decoders.h"
#include "base/json.h"
#include "caption/generate.h"

enum { TOKENS = 6, IMAGES = 7, START = 2, END = 3 };
static const int32_t always[] = {0, 1, 2, 4}; /* [PAD], [UNK], [CLS], [MASK]: no caption holds them */

static json_t *golden_json(void)
{
    json_t *root = NULL;
    su_error err = {0};
    ok(su_json_read(CAPTIONS "generate.json", 1 << 24, &root, &err), &err);
    return root;
}

/* Phrases of a JSON list of lists, behind the single tokens of `first`. */
static su_phrases phrases_of(const json_t *list, const int32_t *first, int32_t count)
{
    su_phrases p = {.count = count + (int32_t)json_array_size(list)};
    p.tokens = check_alloc(256, sizeof *p.tokens);
    p.start = check_alloc(p.count + 1, sizeof *p.start);
    int32_t n = 0;
    for (int32_t i = 0; i < p.count; i++) {
        p.start[i] = n;
        const json_t *phrase = i < count ? NULL : json_array_get(list, (size_t)(i - count));
        if (!phrase) p.tokens[n++] = first[i];
        for (size_t j = 0; phrase && j < json_array_size(phrase); j++)
            p.tokens[n++] = (int32_t)json_integer_value(json_array_get(phrase, j));
    }
    p.start[p.count] = n;
    return p;
}

static double number_or(const json_t *o, const char *key, double fallback)
{
    const json_t *x = json_object_get(o, key);
    return x ? json_number_value(x) : fallback;
}

static su_generation rules_of(const json_t *o)
{
    su_generation g;
    su_generation_defaults(&g);
    g.beams = (int32_t)number_or(o, "beams", 3);
    g.length_penalty = number_or(o, "length_penalty", 0.6);
    g.max_tokens = (int32_t)number_or(o, "max_tokens", 40);
    g.min_tokens = (int32_t)number_or(o, "min_tokens", 0);
    g.no_repeat_ngram = (int32_t)number_or(o, "no_repeat_ngram", 0);
    g.repetition_penalty = number_or(o, "repetition_penalty", 1);
    g.forbidden = phrases_of(json_object_get(o, "forbidden"), always, 4);
    g.start = START;
    g.end = END;
    return g;
}

typedef struct {
    int32_t length, tokens[64];
    float log_probs[64];
    double log_prob, score;
} caption;

/* Captions of `count` images [TOKENS, memory_width] each, `slots` at a time. prefixes may be NULL. */
static caption *captions_of(fixture *f, const su_generation *g, const double *memory, int32_t count,
                            int32_t slots, const su_prefix *prefixes)
{
    su_generator *generator = NULL;
    su_error err = {0};
    int64_t size = (int64_t)TOKENS * f->decoder->config.memory_width;
    caption *out = check_alloc(count, sizeof *out);
    void *device = check_upload(f->device, memory, count * size);
    int32_t longest = 0, next = 0, taken = 0;
    for (int32_t i = 0; prefixes && i < count; i++)
        if (prefixes[i].length > longest) longest = prefixes[i].length;
    ok(su_generator_new(f->decoder, g, slots, TOKENS, longest, &generator, &err), &err);
    while (next < count || su_generator_active(generator)) {
        for (; next < count && su_generator_room(generator); next++)
            ok(su_generator_add(generator, next, su_act_at(f->device, device, next * size),
                                prefixes ? &prefixes[next] : NULL, &err),
               &err);
        ok(su_generator_step(generator, &err), &err);
        const su_generated *c;
        while ((c = su_generator_take(generator))) {
            caption *to = &out[c->number];
            assert_int_equal(to->length, 0);
            to->length = c->length;
            memcpy(to->tokens, c->tokens, (size_t)c->length * sizeof *c->tokens);
            memcpy(to->log_probs, c->log_probs, (size_t)c->length * sizeof *c->log_probs);
            to->log_prob = c->log_prob;
            to->score = c->score;
            taken++;
        }
    }
    assert_int_equal(taken, count);
    su_generator_free(generator);
    f->device->ops->release(f->device, device);
    return out;
}

/* --- against transformers ------------------------------------------------------------------------------- */

static void every_setting_gives_the_tokens_and_scores_of_transformers(void **state)
{
    (void)state;
    json_t *root = golden_json();
    static const int32_t slots[] = {1, 3, IMAGES};
    for (int t = 0; t < 2; t++) {
        su_safetensors *file = golden_open(CAPTIONS "generate.safetensors");
        fixture f;
        begin(&f, &generate_golden, t ? SU_DTYPE_F64 : SU_DTYPE_F32, 2, false);
        golden_set(&f.params, file);
        double *memory = golden_values(file, "", "memory", NULL);
        double tolerance = su_tolerance(t ? "caption.f64.log_prob" : "caption.f32.log_prob");
        size_t i;
        json_t *one;
        json_array_foreach(json_object_get(root, "cases"), i, one)
        {
            su_generation g = rules_of(json_object_get(one, "settings"));
            caption *got = captions_of(&f, &g, memory, IMAGES, slots[i % 3], NULL);
            for (int32_t k = 0; k < IMAGES; k++) {
                const json_t *want = json_array_get(json_object_get(one, "images"), (size_t)k);
                const json_t *tokens = json_object_get(want, "tokens"),
                             *own = json_object_get(want, "log_probs");
                const json_t *score = json_object_get(want, "score");
                assert_int_equal(got[k].length, json_array_size(tokens));
                double sum = 0;
                for (int32_t j = 0; j < got[k].length; j++) {
                    double p = json_number_value(json_array_get(own, (size_t)j));
                    if (got[k].tokens[j] != json_integer_value(json_array_get(tokens, (size_t)j)))
                        fail_msg("case %zu, image %d: token %d is %d", i, k, j, got[k].tokens[j]);
                    assert_true(fabs((double)got[k].log_probs[j] - p) < tolerance);
                    sum += (double)got[k].log_probs[j];
                }
                assert_true(fabs(got[k].log_prob - sum) < 1e-9);
                if (json_is_number(score))
                    assert_true(fabs(got[k].score - json_number_value(score)) < tolerance * got[k].length);
            }
        }
        su_safetensors_close(file);
        end(&f);
    }
    json_decref(root);
}

static void sampling_draws_from_what_transformers_leaves(void **state)
{
    (void)state;
    json_t *root = golden_json(), *one;
    su_safetensors *file = golden_open(CAPTIONS "generate.safetensors");
    enum { ROWS = 6, VOCABULARY = 83 };
    double *rows = golden_values(file, "", "rows", NULL);
    size_t i;
    json_array_foreach(json_object_get(root, "filters"), i, one)
    {
        su_generation g;
        su_generation_defaults(&g);
        g.temperature = number_or(one, "temperature", 1);
        g.top_k = (int32_t)number_or(one, "top_k", 0);
        g.top_p = number_or(one, "top_p", 1);
        for (int r = 0; r < ROWS; r++) {
            float x[VOCABULARY];
            su_choice choices[VOCABULARY];
            double got[VOCABULARY] = {0}, want[VOCABULARY];
            const json_t *p = json_array_get(json_object_get(one, "probabilities"), (size_t)r);
            for (int t = 0; t < VOCABULARY; t++) {
                x[t] = (float)rows[r * VOCABULARY + t];
                want[t] = json_number_value(json_array_get(p, (size_t)t));
            }
            int32_t n = su_search_filter(&g, x, VOCABULARY, choices);
            for (int32_t k = 0; k < n; k++) got[choices[k].token] = choices[k].p;
            for (int t = 0; t < VOCABULARY; t++) assert_int_equal(got[t] > 0, want[t] > 0);
            check_close("probabilities", got, want, VOCABULARY, 1e-6); /* theirs are filtered in float32 */
        }
    }
    su_safetensors_close(file);
    json_decref(root);
    check_free_all();
}

/* --- against itself ------------------------------------------------------------------------------------- */

static const su_decoder_config large = {.width = 48,
                                        .depth = 3,
                                        .heads = 4,
                                        .mlp = 96,
                                        .memory_width = 20,
                                        .vocabulary = 301,
                                        .positions = 45,
                                        .types = 3,
                                        .act = SU_ACT_GELU,
                                        .eps = 1e-12};

/* Weights large enough that captions differ, and an ending that comes at different times. */
static void begin_large(fixture *f, int threads)
{
    su_error err = {0};
    begin(f, &large, SU_DTYPE_F32, threads, false);
    for (int64_t i = 0; i < f->params.count; i++) {
        const su_param *q = &f->params.items[i];
        bool embedding = strstr(q->name, "embeddings") != NULL;
        double *x = check_normal(900 + (uint64_t)i, q->count,
                                 q->rank == 1 ? 0.1
                                 : embedding  ? 0.5
                                              : 2.0 / sqrt((double)q->shape[1]));
        if (q->init == SU_INIT_ONE)
            for (int64_t j = 0; j < q->count; j++) x[j] = 1;
        if (strstr(q->name, "predictions.bias")) x[END] += 3;
        ok(su_params_set(&f->params, i, x, &err), &err);
    }
    su_params_refresh(&f->params);
}

/* Evidence of 0 to 24 tokens: two captions, types 1 and 2. */
static su_prefix *evidence(int32_t count)
{
    su_prefix *p = check_alloc(count, sizeof *p);
    for (int32_t i = 0; i < count; i++) {
        int32_t n = (i * 11) % 25, *lists = check_alloc(3 * 25, sizeof *lists);
        for (int32_t t = 0; t < n; t++) {
            lists[t] = 5 + (i * 31 + t * 7) % 290;
            lists[25 + t] = t < n / 2 ? t : t - n / 2;
            lists[50 + t] = t < n / 2 ? 1 : 2;
        }
        p[i] = (su_prefix){lists, lists + 25, lists + 50, n};
    }
    return p;
}

static double *images_of(int32_t count)
{
    return check_normal(77, (int64_t)count * TOKENS * large.memory_width, 2);
}

static su_generation plain_rules(int32_t beams)
{
    su_generation g;
    su_generation_defaults(&g);
    g.beams = beams;
    g.forbidden = phrases_of(NULL, always, 4);
    g.start = START;
    g.end = END;
    return g;
}

static void greedy_with_the_cache_equals_greedy_without_it(void **state)
{
    (void)state;
    enum { COUNT = 9, ROOM = 25 + 41 };
    fixture f;
    su_error err = {0};
    begin_large(&f, 1);
    plan(&f, 1, ROOM, TOKENS, false);
    su_generation g = plain_rules(1);
    su_prefix *prefixes = evidence(COUNT);
    double *memory = images_of(COUNT);
    caption *cached = captions_of(&f, &g, memory, COUNT, 4, prefixes);
    int lengths = 0;
    for (int32_t i = 0; i < COUNT; i++) {
        int64_t size = TOKENS * large.memory_width, asked = 0;
        int32_t ids[ROOM], position[ROOM], type[ROOM], targets[ROOM], n = prefixes[i].length, length = 0;
        void *m = check_upload(f.device, memory + i * size, size),
             *device = check_upload(f.device, NULL, 301);
        memcpy(ids, prefixes[i].ids, (size_t)n * sizeof *ids);
        memcpy(position, prefixes[i].position, (size_t)n * sizeof *ids);
        memcpy(type, prefixes[i].type, (size_t)n * sizeof *ids);
        for (int32_t next = START; next != END && length < g.max_tokens;) {
            float logits[301];
            ids[n] = next;
            position[n] = length;
            type[n++] = 0;
            for (int32_t t = 0; t < n; t++) targets[t] = t + 1 == n ? 0 : -1;
            su_decoder_input in = {.batch = 1,
                                   .tokens = n,
                                   .ids = ids,
                                   .position = position,
                                   .type = type,
                                   .targets = targets,
                                   .lengths = &n};
            ok(su_decoder_logits(f.decoder, &in, m, TOKENS, device, &asked, &err), &err);
            assert_int_equal(asked, 1);
            f.device->ops->download(f.device, logits, device, sizeof logits);
            for (int k = 0; k < 4; k++) logits[always[k]] = -INFINITY;
            next = 0;
            for (int32_t t = 1; t < 301; t++)
                if (logits[t] > logits[next]) next = t;
            if (cached[i].tokens[length] != next || length >= cached[i].length)
                fail_msg("image %d: token %d is %d with the cache, %d without", i, length,
                         cached[i].tokens[length], next);
            length++;
        }
        assert_int_equal(length, cached[i].length);
        lengths |= 1 << (length % 31);
        f.device->ops->release(f.device, m);
        f.device->ops->release(f.device, device);
    }
    assert_true(lengths & (lengths - 1)); /* not all of one length */
    end(&f);
}

static void a_caption_is_the_same_bits_alone_and_among_64(void **state)
{
    (void)state;
    enum { COUNT = 64 };
    static const int32_t slots[] = {64, 5, 64};
    for (int beams = 1; beams <= 3; beams += 2) {
        caption *alone = NULL;
        for (int k = 0; k < 4; k++) {
            fixture f;
            begin_large(&f, 1 + k % 3);
            su_generation g = plain_rules(beams);
            caption *c = captions_of(&f, &g, images_of(COUNT), COUNT, k ? slots[k - 1] : 1, evidence(COUNT));
            caption *kept = malloc(COUNT * sizeof *kept); /* beyond the fixture's end */
            assert_non_null(kept);
            memcpy(kept, c, COUNT * sizeof *kept);
            if (k) assert_memory_equal(kept, alone, COUNT * sizeof *kept);
            if (!k) alone = kept;
            if (k) free(kept);
            end(&f);
        }
        free(alone);
    }
}

static bool appears(const caption *c, const int32_t *phrase, int32_t n)
{
    for (int32_t i = 0; i + n <= c->length; i++)
        if (!memcmp(c->tokens + i, phrase, (size_t)n * sizeof *phrase)) return true;
    return false;
}

static void required_phrases_appear_and_forbidden_ones_do_not(void **state)
{
    (void)state;
    enum { COUNT = 12 };
    for (int beams = 1; beams <= 4; beams += 3) {
        fixture f;
        begin_large(&f, 1);
        su_generation g = plain_rules(beams);
        double *memory = images_of(COUNT);
        caption *before = captions_of(&f, &g, memory, COUNT, 4, NULL);
        json_t *required = json_pack("[[i,i,i],[i],[i,i]]", 50, 51, 50, 77, 50, 60);
        g.required = phrases_of(required, NULL, 0);
        g.forbidden.tokens = check_alloc(64, sizeof(int32_t));
        g.forbidden.start = check_alloc(COUNT + 5, sizeof(int32_t));
        g.forbidden.count = 0;
        for (int32_t i = 0; i < COUNT; i++) { /* every caption's first pair */
            if (before[i].length < 3) continue;
            int32_t at = 2 * g.forbidden.count;
            memcpy(g.forbidden.tokens + at, before[i].tokens, 2 * sizeof(int32_t));
            g.forbidden.start[g.forbidden.count++] = at;
        }
        g.forbidden.start[g.forbidden.count] = 2 * g.forbidden.count;
        assert_true(g.forbidden.count > 3);
        for (int tight = 0; tight < 2; tight++) {
            g.max_tokens = tight ? 6 : 30; /* six tokens are what the phrases need */
            caption *after = captions_of(&f, &g, memory, COUNT, 5, NULL);
            for (int32_t i = 0; i < COUNT; i++) {
                for (int32_t k = 0; k < 3; k++)
                    assert_true(appears(&after[i], g.required.tokens + g.required.start[k],
                                        g.required.start[k + 1] - g.required.start[k]));
                for (int32_t k = 0; k < g.forbidden.count; k++)
                    assert_false(appears(&after[i], g.forbidden.tokens + 2 * k, 2));
            }
        }
        json_decref(required);
        end(&f);
    }
}

static void sampling_is_keyed_by_seed_and_number_and_has_the_right_frequencies(void **state)
{
    (void)state;
    enum { COUNT = 2000, SHOWN = 12 };
    fixture f;
    begin_large(&f, 2);
    su_generation g = plain_rules(1);
    g.sample = true;
    g.top_k = SHOWN;
    g.temperature = 1.3;
    g.max_tokens = 1;
    g.seed = 5;
    double *one = images_of(1), *memory = check_zeros((int64_t)COUNT * TOKENS * large.memory_width);
    for (int64_t i = 0; i < COUNT * TOKENS * large.memory_width; i++)
        memory[i] = one[i % (TOKENS * large.memory_width)];
    caption *c = captions_of(&f, &g, memory, COUNT, 64, NULL),
            *again = captions_of(&f, &g, memory, COUNT, 7, NULL);
    assert_memory_equal(c, again, COUNT * sizeof *c);
    double seen[301] = {0};
    for (int32_t i = 0; i < COUNT; i++) seen[c[i].tokens[0]]++;
    /* What the decoder says of these tokens, sharpened as the rule asks, is how often they come. */
    double total = 0, p[301] = {0};
    int kinds = 0;
    for (int32_t i = 0; i < COUNT; i++) p[c[i].tokens[0]] = exp((double)c[i].log_probs[0] / g.temperature);
    for (int t = 0; t < 301; t++) total += p[t], kinds += p[t] > 0;
    assert_true(kinds > 5 && kinds <= SHOWN);
    for (int t = 0; t < 301; t++) {
        double expected = p[t] / total * COUNT;
        assert_true(fabs(seen[t] - expected) <= 5 * sqrt(expected) + 1);
    }
    g.seed = 6;
    caption *other = captions_of(&f, &g, memory, COUNT, 64, NULL);
    assert_memory_not_equal(c, other, COUNT * sizeof *c);
    end(&f);
}

static void settings_that_cannot_be_are_refused(void **state)
{
    (void)state;
    su_error err = {0};
    int32_t tokens[] = {5, 6, 7, 301}, starts[] = {0, 2, 3, 4};
    for (int i = 0; i < 10; i++) {
        su_generation g = plain_rules(3);
        ok(su_generation_check(&g, 301, &err), &err);
        if (i == 0) g.beams = 0;
        if (i == 1) g.beams = 65;
        if (i == 2) g.sample = true;
        if (i == 3) g.min_tokens = 40;
        if (i == 4) g.top_p = 0;
        if (i == 5) g.temperature = 0;
        if (i == 6) g.required = (su_phrases){tokens, starts, 3}; /* 301 is no token */
        if (i == 7) g.required = g.forbidden = (su_phrases){tokens, starts, 2};
        if (i == 8) g.required = (su_phrases){tokens, starts, 2}, g.max_tokens = 2;
        if (i == 9) g.repetition_penalty = (double)NAN;
        assert_int_equal(su_generation_check(&g, 301, &err), SU_EINVAL);
    }
    check_free_all();
}

static void without_memory_nothing_leaks_and_the_error_says_so(void **state)
{
    (void)state;
    fixture f;
    su_error err = {0};
    begin_large(&f, 1);
    su_generation g = plain_rules(2);
    g.sample = false;
    for (int64_t n = 1;; n++) {
        su_generator *generator = NULL;
        su_alloc_fail_after(n);
        su_status st = su_generator_new(f.decoder, &g, 3, TOKENS, 5, &generator, &err);
        su_alloc_fail_after(0);
        if (!st) {
            assert_true(n > 15);
            su_generator_free(generator);
            break;
        }
        assert_int_equal(st, SU_ENOMEM);
        assert_null(generator);
    }
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_setting_gives_the_tokens_and_scores_of_transformers),
        cmocka_unit_test(sampling_draws_from_what_transformers_leaves),
        cmocka_unit_test(greedy_with_the_cache_equals_greedy_without_it),
        cmocka_unit_test(a_caption_is_the_same_bits_alone_and_among_64),
        cmocka_unit_test(required_phrases_appear_and_forbidden_ones_do_not),
        cmocka_unit_test(sampling_is_keyed_by_seed_and_number_and_has_the_right_frequencies),
        cmocka_unit_test(settings_that_cannot_be_are_refused),
        cmocka_unit_test(without_memory_nothing_leaks_and_the_error_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
