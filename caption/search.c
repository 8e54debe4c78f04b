#include "caption/search.h"
#include "base/memory.h"
#include "base/rng.h"
#include "caption/rules.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

void su_generation_defaults(su_generation *g)
{
    *g = (su_generation){.beams = 3,
                         .length_penalty = 0.6,
                         .max_tokens = 40,
                         .repetition_penalty = 1.0,
                         .temperature = 1.0,
                         .top_p = 1.0};
}

static su_status check_phrases(const su_phrases *p, const char *what, int32_t vocabulary, su_error *err)
{
    for (int32_t i = 0; i < p->count; i++) {
        if (p->start[i + 1] <= p->start[i]) return su_fail(err, SU_EINVAL, "a %s phrase has no tokens", what);
        for (int32_t j = p->start[i]; j < p->start[i + 1]; j++)
            if (p->tokens[j] < 0 || p->tokens[j] >= vocabulary)
                return su_fail(err, SU_EINVAL, "a %s phrase has token %d of %d", what, p->tokens[j],
                               vocabulary);
    }
    return SU_OK;
}

/* Does forbidden phrase f stand in required phrase r? */
static bool contains(const su_generation *g, int32_t r, int32_t f)
{
    const int32_t *in = g->required.tokens + g->required.start[r],
                  *what = g->forbidden.tokens + g->forbidden.start[f];
    int32_t n = g->required.start[r + 1] - g->required.start[r],
            m = g->forbidden.start[f + 1] - g->forbidden.start[f];
    for (int32_t i = 0; i + m <= n; i++)
        if (!memcmp(in + i, what, (size_t)m * sizeof *in)) return true;
    return false;
}

su_status su_generation_check(const su_generation *g, int32_t vocabulary, su_error *err)
{
    if (g->beams < 1 || g->beams > SU_BEAMS_MAX)
        return su_fail(err, SU_EINVAL, "%d beams are not within 1..%d", g->beams, SU_BEAMS_MAX);
    if (g->sample && g->beams > 1)
        return su_fail(err, SU_EINVAL, "sampling draws one caption: use it with 1 beam");
    if (g->max_tokens < 1 || g->min_tokens < 0 || g->min_tokens >= g->max_tokens)
        return su_fail(err, SU_EINVAL, "at least %d and at most %d tokens cannot both be", g->min_tokens,
                       g->max_tokens);
    if (!(g->repetition_penalty > 0.0) || !(g->temperature > 0.0) || !(g->top_p > 0.0 && g->top_p <= 1.0) ||
        g->top_k < 0 || g->no_repeat_ngram < 0 || !isfinite(g->length_penalty))
        return su_fail(
            err, SU_EINVAL,
            "repetition penalty %g and temperature %g must be above 0, top-p %g within 0..1, top-k %d and "
            "the n-gram %d not below 0",
            g->repetition_penalty, g->temperature, g->top_p, g->top_k, g->no_repeat_ngram);
    su_status st = check_phrases(&g->forbidden, "forbidden", vocabulary, err);
    if (!st) st = check_phrases(&g->required, "required", vocabulary, err);
    if (st) return st;
    if (g->required.count > SU_REQUIRED_MAX)
        return su_fail(err, SU_EINVAL, "%d required phrases are more than %d", g->required.count,
                       SU_REQUIRED_MAX);
    if (g->required.count && g->required.start[g->required.count] > g->max_tokens)
        return su_fail(err, SU_EINVAL, "the required phrases have %d tokens, a caption at most %d",
                       g->required.start[g->required.count], g->max_tokens);
    for (int32_t r = 0; r < g->required.count; r++)
        for (int32_t f = 0; f < g->forbidden.count; f++)
            if (contains(g, r, f))
                return su_fail(err, SU_EINVAL, "required phrase %d holds forbidden phrase %d", r + 1, f + 1);
    return SU_OK;
}

/* A token that a running beam may go on with. */
typedef struct {
    double score; /* of the longer beam */
    int32_t beam, token;
    float log_prob; /* the decoder's own */
} candidate;

/* --- memory -------------------------------------------------------------------------------------------- */

/* Twice the beams, so that enough are left when the best ones end; and every beam's way into a required
 * phrase. */
static int32_t candidate_room(const su_generation *g)
{
    return 2 * g->beams + g->beams * (g->required.count ? g->required.count + 1 : 0);
}

su_status su_search_new(const su_generation *g, int32_t vocabulary, su_search **search, su_error *err)
{
    *search = NULL;
    size_t beams = (size_t)g->beams * 3, tokens = (size_t)g->max_tokens;
    su_search *s = su_calloc(1, sizeof *s);
    if (!s) return su_fail(err, SU_ENOMEM, "no memory for the search of a caption");
    *s = (su_search){.rules = g, .vocabulary = vocabulary, .over = true};
    s->beams = su_calloc(beams, sizeof *s->beams);
    s->tokens = su_calloc(beams * tokens, sizeof *s->tokens);
    s->log_probs = su_calloc(beams * tokens, sizeof *s->log_probs);
    s->changes = su_calloc((size_t)su_rules_changes(g), sizeof(su_change));
    s->candidates = su_calloc((size_t)candidate_room(g), sizeof(candidate));
    if (g->sample) s->choices = su_calloc((size_t)vocabulary, sizeof *s->choices);
    if (!s->beams || !s->tokens || !s->log_probs || !s->changes || !s->candidates ||
        (g->sample && !s->choices)) {
        su_search_free(s);
        return su_fail(err, SU_ENOMEM, "no memory for the search of a caption");
    }
    for (size_t i = 0; i < beams; i++) {
        s->beams[i].tokens = s->tokens + i * tokens;
        s->beams[i].log_probs = s->log_probs + i * tokens;
    }
    s->running = s->beams;
    s->next = s->running + g->beams;
    s->finished = s->next + g->beams;
    *search = s;
    return SU_OK;
}

void su_search_free(su_search *s)
{
    if (!s) return;
    su_free(s->beams);
    su_free(s->tokens);
    su_free(s->log_probs);
    su_free(s->changes);
    su_free(s->candidates);
    su_free(s->choices);
    su_free(s);
}

void su_search_begin(su_search *s, int64_t number)
{
    s->number = number;
    s->live = 1;
    s->done = 0;
    s->over = false;
    s->running[0] =
        (su_beam){.tokens = s->running[0].tokens, .log_probs = s->running[0].log_probs, .phrase = -1};
}

/* --- beams --------------------------------------------------------------------------------------------- */

static void continue_beam(su_beam *to, const su_beam *from, const candidate *c, const su_generation *g)
{
    su_beam own = *to;
    memcpy(own.tokens, from->tokens, (size_t)from->length * sizeof *own.tokens);
    memcpy(own.log_probs, from->log_probs, (size_t)from->length * sizeof *own.log_probs);
    *to = *from;
    to->tokens = own.tokens;
    to->log_probs = own.log_probs;
    to->tokens[to->length] = c->token;
    to->log_probs[to->length++] = c->log_prob;
    to->score = c->score;
    to->parent = c->beam;
    su_required_step(g, to, c->token);
}

/* Puts a finished beam in its place among the best; the first come stays first among equals. */
static void finish(su_search *s, const candidate *c)
{
    const su_generation *g = s->rules;
    const su_beam *from = &s->running[c->beam];
    double score = c->score / pow((double)(from->length + 1), g->length_penalty);
    if (s->done == g->beams && s->finished[s->done - 1].score >= score) return;
    int32_t at = s->done < g->beams ? s->done++ : s->done - 1;
    continue_beam(&s->finished[at], from, c, g);
    s->finished[at].score = score;
    for (; at > 0 && s->finished[at - 1].score < s->finished[at].score; at--) {
        su_beam swap = s->finished[at];
        s->finished[at] = s->finished[at - 1];
        s->finished[at - 1] = swap;
    }
}

/* Keeps the best `room`, the best first; of equal ones the earlier offered. */
static void offer(candidate *best, int32_t *count, int32_t room, candidate c)
{
    int32_t i = *count < room ? (*count)++ : room;
    for (; i > 0 && best[i - 1].score < c.score; i--)
        if (i < room) best[i] = best[i - 1];
    if (i < room) best[i] = c;
}

static bool offered(const candidate *best, int32_t count, int32_t beam, int32_t token)
{
    for (int32_t i = 0; i < count; i++)
        if (best[i].beam == beam && best[i].token == token) return true;
    return false;
}

static int32_t missing_after(const su_search *s, const candidate *c)
{
    su_beam after = s->running[c->beam];
    su_required_step(s->rules, &after, c->token);
    return su_required_missing(s->rules, &after);
}

/* Sorted by score: the best 2 * beams over all rows; with required phrases also every beam's way into each.
 */
static int32_t collect(su_search *s, const su_search_rows *rows)
{
    const su_generation *g = s->rules;
    candidate *best = s->candidates;
    int32_t n = 0, room = 2 * g->beams, useful = 0, all = candidate_room(g);
    for (int32_t b = 0; b < s->live; b++) {
        const su_beam *beam = &s->running[b];
        su_row row = {.x = rows->logits + (size_t)b * (size_t)s->vocabulary,
                      .vocabulary = s->vocabulary,
                      .log_sum = rows->log_sums[b],
                      .log_probs = true,
                      .changes = s->changes,
                      .room = su_rules_changes(g)};
        su_rules_apply(g, beam, &row);
        /* A score below what is kept already needs no second look. */
        double shift = beam->score - (double)row.log_sum;
        float least = n < room ? -INFINITY : (float)(best[n - 1].score - shift - 1e-4);
        const int32_t *tokens = rows->tokens ? rows->tokens + (size_t)b * (size_t)rows->count : NULL;
        for (int32_t i = 0; i < (tokens ? rows->count : s->vocabulary); i++) {
            const int32_t t = tokens ? tokens[i] : i;
            if (!(row.x[t] > least)) continue;
            candidate c = {shift + (double)row.x[t], b, t, su_row_raw(&row, t) - row.log_sum};
            offer(best, &n, room, c);
            if (n == room) least = (float)(best[n - 1].score - shift - 1e-4);
        }
        for (int32_t i = -1; i < g->required.count && all > room; i++) { /* kept aside, behind the best */
            if (i < 0 ? beam->phrase < 0 : beam->met >> i & 1) continue;
            int32_t token = i < 0 ? g->required.tokens[g->required.start[beam->phrase] + beam->progress]
                                  : g->required.tokens[g->required.start[i]];
            if (row.x[token] == -INFINITY) continue;
            best[room + useful++] =
                (candidate){shift + (double)row.x[token], b, token, su_row_raw(&row, token) - row.log_sum};
        }
    }
    for (int32_t i = 0; i < useful; i++) {
        candidate c = best[room + i]; /* n never reaches it before it is read */
        if (!offered(best, n, c.beam, c.token)) offer(best, &n, all, c);
    }
    return n;
}

/* Which candidates run on. Without required phrases the best; with them every number of missing tokens has
 * its turn, the fewest first, so that a beam on its way into a phrase is not crowded out before it pays. */
static void choose_running(su_search *s, const candidate *c, const bool *ends, int32_t n)
{
    const su_generation *g = s->rules;
    bool taken[SU_BEAMS_MAX * (SU_REQUIRED_MAX + 3)] = {false};
    int32_t live = 0, total = g->required.count ? g->required.start[g->required.count] : 0;
    for (bool more = true; more && live < g->beams;) {
        more = false;
        for (int32_t missing = 0; missing <= total && live < g->beams; missing++)
            for (int32_t i = 0; i < n; i++) {
                if (taken[i] || ends[i] || (total && missing_after(s, &c[i]) != missing)) continue;
                taken[i] = more = true;
                continue_beam(&s->next[live++], &s->running[c[i].beam], &c[i], g);
                break;
            }
    }
    su_beam *swap = s->running;
    s->running = s->next;
    s->next = swap;
    s->live = live;
}

static void advance_beams(su_search *s, const su_search_rows *rows)
{
    const su_generation *g = s->rules;
    int32_t n = collect(s, rows), rank = 0, length = s->running[0].length + 1;
    const candidate *c = s->candidates;
    bool ends[SU_BEAMS_MAX * (SU_REQUIRED_MAX + 3)];
    for (int32_t i = 0; i < n; i++) {
        bool whole = !g->required.count || missing_after(s, &c[i]) == 0;
        ends[i] = c[i].token == g->end || length == g->max_tokens;
        if (ends[i] && whole && rank < g->beams) finish(s, &c[i]); /* the others are there to run on */
        rank += whole;
    }
    choose_running(s, c, ends, n);
    double best = -INFINITY;
    for (int32_t b = 0; b < s->live; b++) best = fmax(best, s->running[b].score);
    best /= pow((double)length, g->length_penalty);
    s->over = !s->live || (s->done == g->beams && !(best > s->finished[s->done - 1].score));
}

/* --- one token at a time: greedy, sampling ------------------------------------------------------------- */

static int by_score(const void *a, const void *b)
{
    const su_choice *x = a, *y = b;
    if (x->x != y->x) return x->x > y->x ? -1 : 1;
    return x->token < y->token ? -1 : x->token > y->token;
}

int32_t su_search_filter(const su_generation *g, const float *logits, int32_t vocabulary, su_choice *choices)
{
    float most = -INFINITY;
    double total = 0.0, sum = 0.0;
    int32_t n = 0;
    for (int32_t t = 0; t < vocabulary; t++) most = logits[t] > most ? logits[t] : most;
    if (most == -INFINITY) return 0;
    for (int32_t t = 0; t < vocabulary; t++)
        total += exp(((double)logits[t] - (double)most) / g->temperature);
    /* Only the likely ones are sorted: as many as it takes. */
    bool sorted = g->top_k > 0 || g->top_p < 1.0, enough = false;
    for (double least = sorted ? 1e-3 : 0.0; !enough; least = least > 1e-12 ? least * 1e-2 : 0.0) {
        n = 0;
        sum = 0.0;
        for (int32_t t = 0; t < vocabulary; t++) {
            double p = exp(((double)logits[t] - (double)most) / g->temperature) / total;
            if (logits[t] == -INFINITY || p < least) continue;
            choices[n++] = (su_choice){t, logits[t], p};
            sum += p;
        }
        enough = least == 0.0 || (g->top_k > 0 ? n >= g->top_k : sum > g->top_p);
    }
    if (sorted) qsort(choices, (size_t)n, sizeof *choices, by_score);
    if (g->top_k > 0 && n > g->top_k) { /* equals of the last one stay */
        int32_t k = g->top_k;
        while (k < n && choices[k].x == choices[g->top_k - 1].x) k++;
        n = k;
    }
    sum = 0.0;
    for (int32_t i = 0; i < n; i++) sum += choices[i].p;
    double whole = g->top_k > 0 ? sum : 1.0, before = 0.0;
    for (int32_t i = 0; i < n && g->top_p < 1.0; before += choices[i++].p / whole)
        if (i > 0 && before >= g->top_p) n = i; /* those in front hold top_p already */
    sum = 0.0;
    for (int32_t i = 0; i < n; i++) sum += choices[i].p;
    for (int32_t i = 0; i < n; i++) choices[i].p /= sum;
    return n;
}

static int32_t draw(su_search *s, const float *x)
{
    int32_t n = su_search_filter(s->rules, x, s->vocabulary, s->choices);
    if (!n) return -1;
    su_rng_key key = {
        .seed = s->rules->seed, .step = (uint32_t)s->running[0].length, .layer = su_rng_name("caption")};
    double u = su_rng_uniform(key, (uint64_t)s->number), below = 0.0;
    for (int32_t i = 0; i < n; i++) {
        below += s->choices[i].p;
        if (u < below) return s->choices[i].token;
    }
    return s->choices[n - 1].token;
}

/* Of the tokens listed; NULL: of all n. */
static int32_t largest(const float *x, const int32_t *tokens, int32_t n)
{
    int32_t best = -1;
    for (int32_t i = 0; i < n; i++) {
        const int32_t t = tokens ? tokens[i] : i;
        if (x[t] > (best < 0 ? -INFINITY : x[best])) best = t;
    }
    return best;
}

static void advance_one(su_search *s, const su_search_rows *rows)
{
    const su_generation *g = s->rules;
    su_beam *beam = &s->running[0];
    su_row row = {.x = rows->logits,
                  .vocabulary = s->vocabulary,
                  .log_sum = rows->log_sums[0],
                  .changes = s->changes,
                  .room = su_rules_changes(g)};
    su_rules_apply(g, beam, &row);
    int32_t token =
        g->sample ? draw(s, row.x) : largest(row.x, rows->tokens, rows->tokens ? rows->count : s->vocabulary);
    if (token >= 0) {
        float own = su_row_raw(&row, token) - row.log_sum;
        candidate c = {beam->score + (double)own, 0, token, own};
        continue_beam(&s->next[0], beam, &c, g);
        su_beam *swap = s->running;
        s->running = s->next;
        s->next = swap;
        beam = &s->running[0];
    }
    if (token >= 0 && token != g->end && beam->length < g->max_tokens) return;
    if (beam->length) {
        su_beam swap = s->finished[0];
        s->finished[0] = *beam;
        *beam = swap;
        s->done = 1;
        s->finished[0].score /= pow((double)s->finished[0].length, g->length_penalty);
    }
    s->live = 0;
    s->over = true;
}

void su_search_advance(su_search *s, const su_search_rows *rows)
{
    if (s->rules->beams == 1)
        advance_one(s, rows);
    else
        advance_beams(s, rows);
}

/* Where rules only lower logits, what wins afterwards was among the largest before, behind at most those lowered. */
int32_t su_search_candidates(const su_generation *g, int32_t vocabulary)
{
    if (g->sample || g->required.count || g->repetition_penalty < 1.0) return vocabulary;
    int64_t chosen = g->beams == 1 ? 1 : 2 * g->beams,
            lowered = (int64_t)g->forbidden.count + (g->min_tokens > 0);
    if (g->repetition_penalty > 1.0) lowered += g->max_tokens + 1;
    if (g->no_repeat_ngram > 0) lowered += g->max_tokens + 1;
    return chosen + lowered < vocabulary / 8 ? (int32_t)(chosen + lowered) : vocabulary;
}
