#include "caption/generate.h"
#include "caption/cache.h"
#include <math.h>
#include <string.h>

/* Places of a slot in the cache:   prefix, [CLS]  |  step 1: beam 0 .. beams-1  |  step 2: ...
 * A beam's list of places is its path through them; a beam that branches hands the list on. */
typedef struct {
    su_search *search;
    bool used, fresh;               /* fresh: its prefix was not read yet */
    int32_t prefix;                 /* tokens before [CLS] */
    int32_t *ids, *position, *type; /* of the prefix and [CLS] */
    int32_t *keys, *next_keys;      /* [beams][max_keys] */
    int32_t first_row, first_asked; /* of this slot in the call under way; -1: not in it */
} slot;

struct su_generator {
    const su_decoder *decoder;
    const su_generation *rules;
    su_cache *cache;
    slot *slots;
    int32_t count, places, max_prefix, max_keys, max_rows, used;
    /* of one call */
    int32_t *lists,
        *keys; /* ids, position, type, slot, place, lengths, wanted: [max_rows] each; [max_rows][max_keys] */
    bool all;  /* every logit is needed */
    int32_t k; /* else: how many of a row's largest */
    int32_t *tokens;
    float *values, *logits,
        *log_sums; /* logits [slots * beams][vocabulary]: -INFINITY between steps, unless all are asked for */
    int32_t *memory; /* of the slots' lists */
    su_generated taken;
};

enum { CALL_ID, CALL_POSITION, CALL_TYPE, CALL_SLOT, CALL_PLACE, CALL_LENGTH, CALL_WANTED, CALL_LISTS };

static int32_t *list_of(const su_generator *g, int which)
{
    return g->lists + (size_t)which * (size_t)g->max_rows;
}

su_status su_generator_new(const su_decoder *decoder, const su_generation *rules, int32_t slots,
                           int32_t memory_tokens, int32_t max_prefix, su_generator **generator, su_error *err)
{
    *generator = NULL;
    const su_decoder_config *c = &decoder->config;
    su_status st = su_generation_check(rules, c->vocabulary, err);
    if (!st && (rules->max_tokens > c->positions || max_prefix < 0 || slots < 1))
        st = su_fail(err, SU_EINVAL, "captions of %d tokens are longer than the decoder's %d positions",
                     rules->max_tokens, c->positions);
    if (st) return st;
    su_generator *g = su_calloc(1, sizeof *g);
    if (!g) return su_fail(err, SU_ENOMEM, "no memory to generate captions");
    size_t beams = (size_t)rules->beams, n = (size_t)slots;
    *g = (su_generator){.decoder = decoder, .rules = rules, .count = slots, .max_prefix = max_prefix};
    g->places = max_prefix + 1 + rules->max_tokens * rules->beams;
    g->max_keys = max_prefix + 1 + rules->max_tokens;
    g->max_rows = slots * rules->beams + max_prefix; /* so that one new image's prefix always fits */
    size_t own = 3 * (size_t)(max_prefix + 1) + 2 * beams * (size_t)g->max_keys;
    g->slots = su_calloc(n, sizeof *g->slots);
    g->memory = su_calloc(n * own, sizeof *g->memory);
    g->lists = su_calloc((size_t)g->max_rows * CALL_LISTS, sizeof *g->lists);
    g->keys = su_calloc((size_t)g->max_rows * (size_t)g->max_keys, sizeof *g->keys);
    g->k = su_search_candidates(rules, c->vocabulary);
    g->all = g->k == c->vocabulary;
    if (g->all) g->k = 1;
    g->tokens = su_alloc(n * beams * (size_t)g->k, sizeof *g->tokens);
    g->values = su_alloc(n * beams * (size_t)g->k, sizeof *g->values);
    g->logits = su_alloc(n * beams * (size_t)c->vocabulary, sizeof *g->logits);
    g->log_sums = su_alloc(n * beams, sizeof *g->log_sums);
    if (!g->slots || !g->memory || !g->lists || !g->keys || !g->tokens || !g->values || !g->logits ||
        !g->log_sums)
        st = su_fail(err, SU_ENOMEM, "no memory to generate %d captions at a time", slots);
    for (size_t i = 0; i < n * beams * (size_t)c->vocabulary && !st && !g->all; i++) g->logits[i] = -INFINITY;
    for (int32_t i = 0; i < slots && !st; i++) {
        slot *s = &g->slots[i];
        s->ids = g->memory + (size_t)i * own;
        s->position = s->ids + max_prefix + 1;
        s->type = s->position + max_prefix + 1;
        s->keys = s->type + max_prefix + 1;
        s->next_keys = s->keys + beams * (size_t)g->max_keys;
        st = su_search_new(rules, c->vocabulary, &s->search, err);
    }
    if (!st)
        st = su_cache_new(decoder,
                          &(su_cache_size){.slots = slots,
                                           .places = g->places,
                                           .memory_tokens = memory_tokens,
                                           .max_rows = g->max_rows,
                                           .max_keys = g->max_keys,
                                           .k = g->k},
                          &g->cache, err);
    if (st)
        su_generator_free(g);
    else
        *generator = g;
    return st;
}

void su_generator_free(su_generator *g)
{
    if (!g) return;
    for (int32_t i = 0; i < g->count && g->slots; i++) su_search_free(g->slots[i].search);
    su_cache_free(g->cache);
    su_free(g->slots);
    su_free(g->memory);
    su_free(g->lists);
    su_free(g->keys);
    su_free(g->tokens);
    su_free(g->values);
    su_free(g->logits);
    su_free(g->log_sums);
    su_free(g);
}

size_t su_generator_bytes(const su_generator *g)
{
    return su_cache_bytes(g->cache);
}

int32_t su_generator_room(const su_generator *g)
{
    return g->count - g->used;
}

int32_t su_generator_active(const su_generator *g)
{
    return g->used;
}

su_status su_generator_add(su_generator *g, int64_t number, const void *memory, const su_prefix *prefix,
                           su_error *err)
{
    int32_t length = prefix ? prefix->length : 0, i = 0;
    while (i < g->count && g->slots[i].used) i++;
    if (i == g->count) return su_fail(err, SU_EINVAL, "no free slot: take a finished caption first");
    if (length > g->max_prefix)
        return su_fail(err, SU_EINVAL, "%d tokens of evidence, planned for %d", length, g->max_prefix);
    slot *s = &g->slots[i];
    for (int32_t t = 0; t < length; t++) {
        s->ids[t] = prefix->ids[t];
        s->position[t] = prefix->position[t];
        s->type[t] = prefix->type[t];
    }
    s->ids[length] = g->rules->start;
    s->position[length] = s->type[length] = 0;
    s->prefix = length;
    s->used = s->fresh = true;
    g->used++;
    su_search_begin(s->search, number);
    su_cache_set_image(g->cache, i, memory);
    return SU_OK;
}

/* --- one call ------------------------------------------------------------------------------------------ */

static void add_row(su_generator *g, su_cache_call *call, int32_t slot_number, int32_t id, int32_t position,
                    int32_t type, int32_t place, const int32_t *keys, int32_t length)
{
    int32_t r = call->rows++;
    list_of(g, CALL_ID)[r] = id;
    list_of(g, CALL_POSITION)[r] = position;
    list_of(g, CALL_TYPE)[r] = type;
    list_of(g, CALL_SLOT)[r] = slot_number;
    list_of(g, CALL_PLACE)[r] = slot_number * g->places + place;
    list_of(g, CALL_LENGTH)[r] = length;
    int32_t *to = g->keys + (size_t)r * (size_t)g->max_keys;
    for (int32_t j = 0; j < length; j++) to[j] = slot_number * g->places + keys[j];
}

/* The prefix and [CLS], a row each; the last one's logits are asked for. */
static void add_prefix(su_generator *g, su_cache_call *call, int32_t number)
{
    slot *s = &g->slots[number];
    for (int32_t t = 0; t <= s->prefix; t++) s->keys[t] = t;
    for (int32_t t = 0; t <= s->prefix; t++)
        add_row(g, call, number, s->ids[t], s->position[t], s->type[t], t, s->keys, t + 1);
    list_of(g, CALL_WANTED)[call->asked++] = call->rows - 1;
    s->fresh = false;
}

/* The last token of every beam, whose list of places is its parent's and its own. */
static void add_beams(su_generator *g, su_cache_call *call, int32_t number)
{
    slot *s = &g->slots[number];
    const su_search *search = s->search;
    int32_t length = search->running[0].length,
            before = s->prefix + length; /* places that a parent has seen */
    int32_t first = s->prefix + 1 + (length - 1) * g->rules->beams;
    for (int32_t b = 0; b < search->live; b++) {
        const su_beam *beam = &search->running[b];
        int32_t *keys = s->next_keys + (size_t)b * (size_t)g->max_keys;
        memcpy(keys, s->keys + (size_t)beam->parent * (size_t)g->max_keys, (size_t)before * sizeof *keys);
        keys[before] = first + b;
        add_row(g, call, number, beam->tokens[length - 1], length, 0, first + b, keys, before + 1);
        list_of(g, CALL_WANTED)[call->asked++] = call->rows - 1;
    }
    int32_t *swap = s->keys;
    s->keys = s->next_keys;
    s->next_keys = swap;
}

/* Sorts a row's tokens, and puts their logits in their places. */
static void spread(float *logits, int32_t *tokens, float *values, int32_t k)
{
    for (int32_t i = 0; i < k; i++) {
        const int32_t token = tokens[i];
        int32_t at = i;
        logits[token] = values[i];
        for (; at > 0 && tokens[at - 1] > token; at--) tokens[at] = tokens[at - 1];
        tokens[at] = token;
    }
}

static void advance_slot(void *context, int64_t task, int worker)
{
    (void)worker;
    su_generator *g = context;
    slot *s = &g->slots[task];
    if (s->first_asked < 0) return;
    const size_t first = (size_t)s->first_asked, k = (size_t)g->k,
                 vocabulary = (size_t)g->decoder->config.vocabulary;
    const int32_t live = s->search->live;
    su_search_rows rows = {.logits = g->logits + first * vocabulary, .log_sums = g->log_sums + first};
    int32_t *tokens = g->tokens + first * k;
    if (g->all) {
        su_search_advance(s->search, &rows);
        return;
    }
    rows.tokens = tokens;
    rows.count = g->k;
    for (size_t b = 0; b < (size_t)live; b++)
        spread(rows.logits + b * vocabulary, tokens + b * k, g->values + (first + b) * k, g->k);
    su_search_advance(s->search, &rows);
    for (size_t b = 0; b < (size_t)live; b++)
        for (size_t i = 0; i < k; i++) rows.logits[b * vocabulary + (size_t)tokens[b * k + i]] = -INFINITY;
}

su_status su_generator_step(su_generator *g, su_error *err)
{
    su_cache_call call = {.ids = list_of(g, CALL_ID),
                          .position = list_of(g, CALL_POSITION),
                          .type = list_of(g, CALL_TYPE),
                          .slot = list_of(g, CALL_SLOT),
                          .place = list_of(g, CALL_PLACE),
                          .keys = g->keys,
                          .lengths = list_of(g, CALL_LENGTH),
                          .wanted = list_of(g, CALL_WANTED)};
    for (int32_t i = 0; i < g->count; i++) {
        slot *s = &g->slots[i];
        s->first_asked = -1;
        if (!s->used || s->search->over) continue;
        int32_t rows = s->fresh ? s->prefix + 1 : s->search->live;
        if (call.rows + rows > g->max_rows) continue; /* its turn comes with the next call */
        s->first_asked = call.asked;
        if (s->fresh)
            add_prefix(g, &call, i);
        else
            add_beams(g, &call, i);
    }
    if (!call.rows) return SU_OK;
    const su_cache_answer answer = {.tokens = g->tokens,
                                    .values = g->values,
                                    .log_sums = g->log_sums,
                                    .logits = g->all ? g->logits : NULL};
    su_status st = su_cache_run(g->cache, &call, &answer, err);
    if (st) return st;
    su_pool_run(g->decoder->device->pool, g->count, advance_slot, g);
    return SU_OK;
}

const su_generated *su_generator_take(su_generator *g)
{
    for (int32_t i = 0; i < g->count; i++) {
        slot *s = &g->slots[i];
        if (!s->used || !s->search->over) continue;
        const su_beam *best = &s->search->finished[0];
        bool any = s->search->done > 0;
        g->taken = (su_generated){.number = s->search->number,
                                  .length = any ? best->length : 0,
                                  .tokens = best->tokens,
                                  .log_probs = best->log_probs,
                                  .score = any ? best->score : 0.0};
        for (int32_t t = 0; t < g->taken.length; t++) g->taken.log_prob += (double)best->log_probs[t];
        s->used = false;
        g->used--;
        return &g->taken;
    }
    return NULL;
}
