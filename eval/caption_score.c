/* N-grams get numbers order by order: an n-gram is the pair (number of its first n-1 words, last word). So
 * one array with a number for every position is overwritten as n goes from 1 to 4, and within a sentence
 * equal n-grams are neighbours once its numbers are sorted. Numbering runs on one thread, in the order of the
 * sentences; everything else in tasks of TASK items. */
#include "eval/caption_score.h"
#include "eval/meteor.h"
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { TASK = 64 };

typedef struct {
    int32_t *id, *count;
    int32_t length;
} bag; /* different n-grams of a sentence in order of their numbers, and how often each comes */

typedef struct {
    bag hypothesis, reference, clip, merged;
    int32_t room;
    int32_t *row;
} scratch;

typedef struct {
    const su_sentences *sentences;
    const su_caption_pair *pair;
    int64_t pairs;
    su_caption_counts *counts;
    int64_t *at;      /* [sentences] of a sentence's first n-gram in gram */
    int32_t *gram;    /* numbers of the n-grams of the order at hand, by their first word's place */
    int32_t *seen;    /* [different n-grams] documents that hold it */
    int32_t order;    /* n */
    double *rarity;   /* [documents + 1] log of documents / those that hold an n-gram */
    scratch *scratch; /* [workers] */
    _Atomic bool failed;
} scoring;

/* ---- n-grams of a sentence ----------------------------------------------------------------------------- */

static int ascending(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

static void sort_numbers(int32_t *x, int32_t n)
{
    if (n > 48) {
        qsort(x, (size_t)n, sizeof *x, ascending);
        return;
    }
    for (int32_t i = 1; i < n; i++) {
        int32_t value = x[i], j = i;
        for (; j > 0 && x[j - 1] > value; j--) x[j] = x[j - 1];
        x[j] = value;
    }
}

static void fill_bag(const scoring *s, int64_t sentence, bag *b)
{
    int32_t n = s->sentences->sentence[sentence].words - (s->order - 1);
    b->length = 0;
    if (n <= 0) return;
    memcpy(b->id, s->gram + s->at[sentence], (size_t)n * sizeof *b->id);
    sort_numbers(b->id, n);
    for (int32_t i = 0; i < n;) {
        int32_t first = i, id = b->id[i];
        while (i < n && b->id[i] == id) i++;
        b->id[b->length] = id;
        b->count[b->length++] = i - first;
    }
}

/* to: the larger count of each n-gram of two bags. */
static void merge_bags(const bag *a, const bag *b, bag *to)
{
    int32_t i = 0, j = 0, n = 0;
    while (i < a->length || j < b->length) {
        bool left = j == b->length || (i < a->length && a->id[i] <= b->id[j]);
        bool both = left && j < b->length && i < a->length && a->id[i] == b->id[j];
        to->id[n] = left ? a->id[i] : b->id[j];
        to->count[n++] = both ? (a->count[i] > b->count[j] ? a->count[i] : b->count[j])
                              : (left ? a->count[i] : b->count[j]);
        i += left;
        j += !left || both;
    }
    to->length = n;
}

/* ---- the metrics of one item, one order ---------------------------------------------------------------- */

static double weight(const scoring *s, const bag *b, int32_t i)
{
    return (double)b->count[i] * s->rarity[s->seen[b->id[i]]];
}

static double norm(const scoring *s, const bag *b)
{
    double sum = 0;
    for (int32_t i = 0; i < b->length; i++) {
        double w = weight(s, b, i);
        sum += w * w;
    }
    return sqrt(sum);
}

/* Adds the cosines of hypothesis and reference, clipped and not. */
static void add_cosines(const scoring *s, const bag *h, double h_norm, const bag *r, double penalty,
                        double *clipped, double *plain)
{
    double r_norm = norm(s, r), c = 0, p = 0;
    for (int32_t i = 0, j = 0; i < h->length && j < r->length;) {
        if (h->id[i] != r->id[j]) {
            if (h->id[i] < r->id[j])
                i++;
            else
                j++;
            continue;
        }
        double x = weight(s, h, i++), y = weight(s, r, j++);
        c += (x < y ? x : y) * y;
        p += x * y;
    }
    if (h_norm != 0 && r_norm != 0) {
        c /= h_norm * r_norm;
        p /= h_norm * r_norm;
    }
    *clipped += c * penalty;
    *plain += p;
}

static void score_order(const scoring *s, int64_t item, scratch *w)
{
    const su_caption_pair *p = &s->pair[item];
    const su_sentence *h = &s->sentences->sentence[p->hypothesis];
    su_caption_counts *c = &s->counts[item];
    double clipped = 0, plain = 0;
    fill_bag(s, p->hypothesis, &w->hypothesis);
    double h_norm = norm(s, &w->hypothesis);
    bag *clip = &w->clip, *merged = &w->merged;
    clip->length = 0;
    for (int64_t i = 0; i < p->references; i++) {
        fill_bag(s, p->reference + i, &w->reference);
        merge_bags(clip, &w->reference, merged);
        bag *swap = clip;
        clip = merged;
        merged = swap;
        /* The lengths that the penalty compares are counts of bigrams, as the released scorer takes them. */
        int32_t a = h->words - 1, b = s->sentences->sentence[p->reference + i].words - 1;
        double delta = (double)((a > 0 ? a : 0) - (b > 0 ? b : 0));
        add_cosines(s, &w->hypothesis, h_norm, &w->reference, exp(-(delta * delta) / (2 * 6.0 * 6.0)),
                    &clipped, &plain);
    }
    c->cider += clipped / (SU_NGRAMS * (double)p->references) * 10;
    c->cider_original += plain / (SU_NGRAMS * (double)p->references) * 10;

    int32_t n = s->order, correct = 0;
    for (int32_t i = 0, j = 0; i < w->hypothesis.length && j < clip->length;) {
        int32_t x = w->hypothesis.id[i], y = clip->id[j];
        if (x == y)
            correct += w->hypothesis.count[i] < clip->count[j] ? w->hypothesis.count[i] : clip->count[j];
        i += x <= y;
        j += y <= x;
    }
    c->correct[n - 1] = correct;
    c->guess[n - 1] = h->words - n + 1 > 0 ? h->words - n + 1 : 0;
}

/* Length of the longest common subsequence, by rows; row: [b's length + 1]. */
static int32_t common(const int32_t *a, int32_t an, const int32_t *b, int32_t bn, int32_t *row)
{
    memset(row, 0, ((size_t)bn + 1) * sizeof *row);
    for (int32_t i = 0; i < an; i++) {
        int32_t diagonal = 0, left = 0;
        for (int32_t j = 1; j <= bn; j++) {
            int32_t above = row[j];
            int32_t best = a[i] == b[j - 1] ? diagonal + 1 : (above > left ? above : left);
            diagonal = above;
            row[j] = left = best;
        }
    }
    return row[bn];
}

static void score_lines(const scoring *s, int64_t item, scratch *w)
{
    const su_caption_pair *p = &s->pair[item];
    const su_sentence *h = &s->sentences->sentence[p->hypothesis];
    su_caption_counts *c = &s->counts[item];
    double precision = 0, recall = 0;
    c->length = h->words;
    for (int64_t i = 0; i < p->references; i++) {
        const su_sentence *r = &s->sentences->sentence[p->reference + i];
        double lcs = common(h->piece, h->pieces, r->piece, r->pieces, w->row);
        if (lcs / h->pieces > precision) precision = lcs / h->pieces;
        if (lcs / r->pieces > recall) recall = lcs / r->pieces;
        int32_t best = abs(c->reference_length - h->words), here = abs(r->words - h->words);
        if (i == 0 || here < best || (here == best && r->words < c->reference_length))
            c->reference_length = r->words;
    }
    double beta = 1.2 * 1.2;
    if (precision != 0 && recall != 0)
        c->rouge_l = (1 + beta) * precision * recall / (recall + beta * precision);
}

/* ---- scratch memory ------------------------------------------------------------------------------------ */

static bool room_for(scratch *w, int64_t tokens)
{
    if (tokens < w->room) return true;
    if (tokens > INT32_MAX / 2) return false;
    bag *bags[] = {&w->hypothesis, &w->reference, &w->clip, &w->merged};
    for (int i = 0; i < 4; i++) {
        int32_t *id = su_realloc(bags[i]->id, (size_t)tokens + 1, sizeof *id);
        if (id) bags[i]->id = id;
        int32_t *count = su_realloc(bags[i]->count, (size_t)tokens + 1, sizeof *count);
        if (count) bags[i]->count = count;
        if (!id || !count) return false;
    }
    int32_t *row = su_realloc(w->row, (size_t)tokens + 1, sizeof *row);
    if (!row) return false;
    w->row = row;
    w->room = (int32_t)tokens + 1;
    return true;
}

static void free_scratch(scratch *w)
{
    bag *bags[] = {&w->hypothesis, &w->reference, &w->clip, &w->merged};
    for (int i = 0; i < 4; i++) {
        su_free(bags[i]->id);
        su_free(bags[i]->count);
    }
    su_free(w->row);
}

static void score_task(void *context, int64_t task, int worker)
{
    scoring *s = context;
    scratch *w = &s->scratch[worker];
    int64_t first = task * TASK, last = first + TASK < s->pairs ? first + TASK : s->pairs;
    for (int64_t i = first; i < last; i++) {
        const su_caption_pair *p = &s->pair[i];
        int64_t tokens = s->sentences->sentence[p->hypothesis].pieces, all = 0;
        if (tokens < s->sentences->sentence[p->hypothesis].words)
            tokens = s->sentences->sentence[p->hypothesis].words;
        for (int64_t r = 0; r < p->references; r++) {
            const su_sentence *x = &s->sentences->sentence[p->reference + r];
            if (x->pieces > tokens) tokens = x->pieces;
            all += x->words;
        }
        if (!room_for(w, tokens > all ? tokens : all)) {
            s->failed = true;
            return;
        }
        if (s->order == 0)
            score_lines(s, i, w);
        else
            score_order(s, i, w);
    }
}

/* ---- numbering and document frequency ------------------------------------------------------------------- */

static su_status number_grams(scoring *s, int32_t *different, su_error *err)
{
    const su_sentences *all = s->sentences;
    if (s->order == 1) {
        for (int64_t i = 0; i < all->count; i++)
            if (all->sentence[i].words)
                memcpy(s->gram + s->at[i], all->sentence[i].word,
                       (size_t)all->sentence[i].words * sizeof *s->gram);
        *different = all->words.count;
        return SU_OK;
    }
    su_pairs pairs;
    su_pairs_init(&pairs);
    su_status status = SU_OK;
    for (int64_t i = 0; !status && i < all->count; i++) {
        const su_sentence *x = &all->sentence[i];
        int32_t *gram = s->gram + s->at[i];
        for (int32_t k = 0; k + s->order <= x->words; k++)
            su_pairs_prefetch(&pairs, gram[k], x->word[k + s->order - 1]);
        for (int32_t k = 0; !status && k + s->order <= x->words; k++)
            status = su_pairs_add(&pairs, gram[k], x->word[k + s->order - 1], &gram[k], err);
    }
    *different = pairs.count;
    su_pairs_free(&pairs);
    return status;
}

static su_status count_documents(scoring *s, const su_caption_pair *document, int64_t documents,
                                 int32_t different, su_error *err)
{
    s->seen = su_calloc((size_t)different + 1, sizeof *s->seen);
    int64_t *last = su_calloc((size_t)different + 1, sizeof *last); /* document that was counted last, + 1 */
    su_status status =
        s->seen && last ? SU_OK : su_fail(err, SU_ENOMEM, "no memory for document frequencies");
    for (int64_t d = 0; !status && d < documents; d++)
        for (int64_t r = 0; r < document[d].references; r++) {
            int64_t sentence = document[d].reference + r;
            const int32_t *gram = s->gram + s->at[sentence];
            for (int32_t k = 0; k + s->order <= s->sentences->sentence[sentence].words; k++) {
                if (last[gram[k]] == d + 1) continue;
                last[gram[k]] = d + 1;
                s->seen[gram[k]]++;
            }
        }
    su_free(last);
    return status;
}

/* ---- the whole ----------------------------------------------------------------------------------------- */

static void bleu(const double *correct, const double *guess, double length, double reference_length,
                 double out[SU_NGRAMS])
{
    double small = 1e-9, tiny = 1e-15, product = 1;
    for (int k = 0; k < SU_NGRAMS; k++) {
        product *= (correct[k] + tiny) / (guess[k] + small);
        out[k] = pow(product, 1.0 / (k + 1));
    }
    double ratio = (length + tiny) / (reference_length + small);
    for (int k = 0; k < SU_NGRAMS && ratio < 1; k++) out[k] *= exp(1 - 1 / ratio);
}

void su_caption_whole(const su_caption_sums *sums, double n, su_caption_figures *figures)
{
    bleu(sums->correct, sums->guess, sums->length, sums->reference_length, figures->bleu);
    figures->rouge_l = sums->rouge_l / n;
    figures->cider = sums->cider / n;
    figures->cider_original = sums->cider_original / n;
    figures->meteor = sums->meteor_items > 0 ? su_meteor_value(sums->meteor) : NAN;
}

void su_caption_add(su_caption_sums *sums, const su_caption_counts *c)
{
    for (int k = 0; k < SU_NGRAMS; k++) {
        sums->correct[k] += c->correct[k];
        sums->guess[k] += c->guess[k];
    }
    sums->length += c->length;
    sums->reference_length += c->reference_length;
    sums->rouge_l += c->rouge_l;
    sums->cider += c->cider;
    sums->cider_original += c->cider_original;
    sums->meteor_items += c->meteor_items;
    for (int k = 0; k < SU_METEOR_COUNTS; k++) sums->meteor[k] += c->meteor[k];
}

void su_caption_totals(const su_caption_counts *counts, int64_t n, su_caption_figures *items,
                       su_caption_figures *whole)
{
    su_caption_sums all = {0};
    for (int64_t i = 0; i < n; i++) {
        su_caption_sums one = {0};
        su_caption_add(&one, &counts[i]);
        su_caption_add(&all, &counts[i]);
        if (items) su_caption_whole(&one, 1, &items[i]);
    }
    su_caption_whole(&all, (double)n, whole);
}

static su_status score_all(scoring *s, const su_caption_pair *corpus, int64_t documents, su_pool *pool,
                           su_error *err)
{
    int64_t tasks = (s->pairs + TASK - 1) / TASK;
    su_pool_run(pool, tasks, score_task, s); /* order 0: lengths and subsequences */
    for (s->order = 1; s->order <= SU_NGRAMS; s->order++) {
        int32_t different;
        su_status status = number_grams(s, &different, err);
        if (!status) status = count_documents(s, corpus, documents, different, err);
        if (!status) su_pool_run(pool, tasks, score_task, s);
        su_free(s->seen);
        s->seen = NULL;
        if (status) return status;
        if (s->failed) return su_fail(err, SU_ENOMEM, "no memory to score the captions");
    }
    return SU_OK;
}

su_status su_caption_score(const su_sentences *sentences, const su_caption_pair *pair, int64_t pairs,
                           const su_caption_pair *corpus, int64_t documents, su_pool *pool,
                           su_caption_counts *counts, su_error *err)
{
    for (int64_t i = 0; i < pairs; i++)
        if (pair[i].references < 1)
            return su_fail_at(err, SU_EINVAL, i, "item %lld has no reference", (long long)i);
    if (!corpus) {
        corpus = pair;
        documents = pairs;
    }
    int64_t grams = 0;
    int workers = su_pool_workers(pool);
    scoring s = {.sentences = sentences, .pair = pair, .pairs = pairs, .counts = counts};
    memset(counts, 0, (size_t)pairs * sizeof *counts);
    s.at = su_alloc((size_t)sentences->count + 1, sizeof *s.at);
    for (int64_t i = 0; s.at && i < sentences->count; i++) {
        s.at[i] = grams;
        grams += sentences->sentence[i].words;
    }
    s.gram = su_alloc((size_t)grams + 1, sizeof *s.gram);
    s.scratch = su_calloc((size_t)workers, sizeof *s.scratch);
    s.rarity = su_alloc((size_t)documents + 1, sizeof *s.rarity);
    for (int64_t k = 0; s.rarity && k <= documents; k++)
        s.rarity[k] = log((double)documents) - log(k > 1 ? (double)k : 1.0); /* as if seen once when never */
    su_status status = s.at && s.gram && s.scratch && s.rarity
                           ? score_all(&s, corpus, documents, pool, err)
                           : su_fail(err, SU_ENOMEM, "no memory to score %lld captions", (long long)pairs);
    for (int i = 0; s.scratch && i < workers; i++) free_scratch(&s.scratch[i]);
    su_free(s.scratch);
    su_free(s.rarity);
    su_free(s.gram);
    su_free(s.at);
    return status;
}
