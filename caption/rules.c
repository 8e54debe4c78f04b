#include "caption/rules.h"
#include <math.h>
#include <string.h>

int32_t su_rules_changes(const su_generation *g)
{
    return 2 * (g->max_tokens + 1) + g->forbidden.count + 1;
}

static void change(su_row *row, int32_t token, float value)
{
    if (token >= row->vocabulary || row->x[token] == value || row->changed == row->room) return;
    row->changes[row->changed++] = (su_change){token, row->x[token]};
    row->x[token] = value;
}

float su_row_raw(const su_row *row, int32_t token)
{
    for (int32_t i = 0; i < row->changed; i++)
        if (row->changes[i].token == token) return row->changes[i].value;
    return row->x[token];
}

/* The caption so far as the rules see it: [CLS] counts. */
static int32_t at(const su_generation *g, const su_beam *b, int32_t i)
{
    return i ? b->tokens[i - 1] : g->start;
}

static void penalise_repetition(const su_generation *g, const su_beam *b, su_row *row)
{
    float p = (float)g->repetition_penalty, shift = row->log_probs ? row->log_sum : 0.0F;
    for (int32_t i = 0; i <= b->length; i++) {
        int32_t token = at(g, b, i);
        bool before = false;
        for (int32_t j = 0; j < i && !before; j++) before = at(g, b, j) == token;
        if (before || token >= row->vocabulary) continue;
        float score = row->x[token] - shift;
        change(row, token, (score < 0.0F ? score * p : score / p) + shift);
    }
}

/* Tokens that would repeat the n-gram of the last n - 1 tokens and themselves. */
static void block_ngrams(const su_generation *g, const su_beam *b, su_row *row)
{
    int32_t n = g->no_repeat_ngram, length = b->length + 1;
    for (int32_t i = 0; i + n <= length; i++) {
        bool same = true;
        for (int32_t j = 0; j + 1 < n && same; j++) same = at(g, b, i + j) == at(g, b, length - n + 1 + j);
        if (same) change(row, at(g, b, i + n - 1), -INFINITY);
    }
}

static void forbid(const su_generation *g, const su_beam *b, su_row *row)
{
    const su_phrases *f = &g->forbidden;
    for (int32_t i = 0; i < f->count; i++) {
        const int32_t *phrase = f->tokens + f->start[i];
        int32_t before = f->start[i + 1] - f->start[i] - 1;
        bool same = before <= b->length + 1;
        for (int32_t j = 0; j < before && same; j++) same = at(g, b, b->length + 1 - before + j) == phrase[j];
        if (same) change(row, phrase[before], -INFINITY);
    }
}

/* --- required phrases ---------------------------------------------------------------------------------- */

static int32_t length_of(const su_phrases *p, int32_t i)
{
    return p->start[i + 1] - p->start[i];
}

void su_required_step(const su_generation *g, su_beam *b, int32_t token)
{
    const su_phrases *p = &g->required;
    if (!p->count) return;
    if (b->phrase < 0 || p->tokens[p->start[b->phrase] + b->progress] != token) {
        b->phrase = -1;
        b->progress = 0;
        for (int32_t i = 0; i < p->count && b->phrase < 0; i++)
            if (!(b->met >> i & 1) && p->tokens[p->start[i]] == token) b->phrase = i;
        if (b->phrase < 0) return;
    }
    if (++b->progress == length_of(p, b->phrase)) {
        b->met |= 1u << b->phrase;
        b->phrase = -1;
        b->progress = 0;
    }
}

int32_t su_required_missing(const su_generation *g, const su_beam *b)
{
    int32_t missing = -b->progress;
    for (int32_t i = 0; i < g->required.count; i++)
        if (!(b->met >> i & 1)) missing += length_of(&g->required, i);
    return missing;
}

/* Nothing may be chosen after which the missing phrases no longer fit; a caption does not end without them.
 */
static void require(const su_generation *g, const su_beam *b, su_row *row)
{
    const su_phrases *p = &g->required;
    if (!p->count || su_required_missing(g, b) == 0) return;
    change(row, g->end, -INFINITY);
    su_beam elsewhere = *b;
    elsewhere.phrase = -1;
    elsewhere.progress = 0;
    int32_t left = g->max_tokens - b->length - 1;
    if (su_required_missing(g, &elsewhere) <= left) return;
    int32_t useful[SU_REQUIRED_MAX + 1], n = 0;
    float value[SU_REQUIRED_MAX + 1];
    for (int32_t i = -1; i < p->count; i++) {
        if (i < 0 ? b->phrase < 0 : b->met >> i & 1) continue;
        int32_t token = i < 0 ? p->tokens[p->start[b->phrase] + b->progress] : p->tokens[p->start[i]];
        su_beam after = *b;
        su_required_step(g, &after, token);
        if (su_required_missing(g, &after) > left) continue;
        useful[n] = token;
        value[n++] = su_row_raw(row, token);
    }
    for (int32_t t = 0; t < row->vocabulary; t++) row->x[t] = -INFINITY;
    row->changed = 0;
    for (int32_t i = 0; i < n; i++) row->x[useful[i]] = value[i];
}

void su_rules_apply(const su_generation *g, const su_beam *b, su_row *row)
{
    row->changed = 0;
    if (g->repetition_penalty != 1.0) penalise_repetition(g, b, row);
    if (g->no_repeat_ngram > 0) block_ngrams(g, b, row);
    forbid(g, b, row);
    if (b->length < g->min_tokens) change(row, g->end, -INFINITY);
    require(g, b, row);
}
