#include "eval/meteor.h"
#include "eval/meteor_align.h"
#include "eval/paraphrases.h"
#include "eval/utf8.h"
#include "eval/wordnet.h"
#include <libstemmer.h>
#include <math.h>
#include <stdatomic.h>
#include <string.h>

_Static_assert(sizeof(su_meteor_counts) == SU_METEOR_COUNTS * sizeof(int32_t), "counts are an array");

enum { TASK = 32 };

typedef struct {
    int32_t key, stem; /* of the word, of its stem: what METEOR compares in their place */
    bool function;
    su_numbers sets;
    uint64_t some; /* a bit for each set, shared by others: no common bit, no common set */
} word;

struct su_meteor {
    su_sentences words; /* of METEOR's own splitting */
    word *word;         /* [words.words] */
    su_paraphrases *paraphrases;
};

typedef struct {
    int32_t start, length, phrase;
    int32_t next; /* place of the same phrase, further right; -1: last */
} place;

/* Where the table's phrases stand in a sentence, by start, then length. */
typedef struct {
    place *place;
    int32_t count, room;
    int32_t *first; /* [phrases] -1: nowhere */
} places;

typedef struct {
    su_meteor_aligner aligner;
    places hypothesis, reference;
    word *word; /* [SU_METEOR_WORDS_MAX] of the hypothesis */
} scratch;

typedef struct {
    const su_meteor *meteor;
    const su_caption_pair *pair;
    int64_t pairs;
    su_caption_counts *counts;
    scratch *scratch; /* [workers] */
    _Atomic bool failed;
} scoring;

/* The words of a sentence, as far as they are looked at. */
typedef struct {
    const int32_t *word;
    int32_t n;
} line;

static line line_of(const su_meteor *m, int64_t sentence)
{
    const su_sentence *s = &m->words.sentence[sentence];
    int32_t n = *s->line ? s->pieces : 0;
    return (line){.word = s->piece, .n = n < SU_METEOR_WORDS_MAX ? n : SU_METEOR_WORDS_MAX};
}

/* ---- matches of words ---------------------------------------------------------------------------------- */

static bool share_a_set(const su_numbers *a, const su_numbers *b)
{
    for (int32_t i = 0, j = 0; i < a->count && j < b->count;) {
        if (a->item[i] == b->item[j]) return true;
        if (a->item[i] < b->item[j])
            i++;
        else
            j++;
    }
    return false;
}

static bool words_match(su_meteor_stage stage, const word *x, const word *y)
{
    if (stage == SU_METEOR_EXACT) return x->key == y->key;
    if (stage == SU_METEOR_STEM) return x->stem == y->stem && x->key != y->key;
    return x->some & y->some && x->key != y->key && share_a_set(&x->sets, &y->sets);
}

static bool lines_match(const su_meteor *m, line a, line b)
{
    bool equal = a.n == b.n;
    for (int32_t i = 0; equal && i < a.n; i++) equal = m->word[a.word[i]].key == m->word[b.word[i]].key;
    return equal;
}

static su_status add_words(const su_meteor *m, scratch *w, line h, line r, su_meteor_stage stages,
                           su_error *err)
{
    su_status status = SU_OK;
    for (int32_t i = 0; i < h.n; i++) w->word[i] = m->word[h.word[i]];
    for (int32_t j = 0; j < r.n; j++) {
        const word x = m->word[r.word[j]];
        for (su_meteor_stage stage = SU_METEOR_EXACT; stage < stages; stage++)
            for (int32_t i = 0; !status && i < h.n; i++) {
                if (!words_match(stage, &w->word[i], &x)) continue;
                su_meteor_match match = {
                    .start = j, .length = 1, .other = i, .others = 1, .stage = (int32_t)stage};
                status = su_meteor_aligner_add(&w->aligner, match, err);
            }
    }
    return status;
}

/* ---- matches of phrases -------------------------------------------------------------------------------- */

static su_status add_place(places *p, place at, su_error *err)
{
    if (p->count == p->room) {
        int32_t room = p->room ? p->room * 2 : 256;
        place *larger = su_realloc(p->place, (size_t)room, sizeof *larger);
        if (!larger) return su_fail(err, SU_ENOMEM, "no memory for phrases");
        p->place = larger;
        p->room = room;
    }
    p->place[p->count++] = at;
    return SU_OK;
}

static su_status find_places(const su_paraphrases *table, line l, places *p, su_error *err)
{
    p->count = 0;
    for (int32_t i = 0; i < l.n; i++)
        for (int32_t end = i, phrase = -1; end < l.n; end++) {
            phrase = su_paraphrases_longer(table, phrase, l.word[end]);
            if (phrase < 0) break;
            if (!su_paraphrases_is_whole(table, phrase)) continue;
            su_status status =
                add_place(p, (place){.start = i, .length = end + 1 - i, .phrase = phrase}, err);
            if (status) return status;
        }
    for (int32_t k = p->count - 1; k >= 0; k--) {
        p->place[k].next = p->first[p->place[k].phrase];
        p->first[p->place[k].phrase] = k;
    }
    return SU_OK;
}

static void forget_places(places *p)
{
    for (int32_t k = 0; k < p->count; k++) p->first[p->place[k].phrase] = -1;
}

/* Every phrase of `from` with every place in `to` of every paraphrase of it. */
static su_status add_paraphrases(const su_paraphrases *table, su_meteor_aligner *a, const places *from,
                                 const places *to, bool from_reference, su_error *err)
{
    su_status status = SU_OK;
    for (int32_t k = 0; k < from->count; k++) {
        const place *x = &from->place[k];
        const su_numbers *of = su_paraphrases_of(table, x->phrase);
        for (int32_t i = 0; i < of->count; i++)
            for (int32_t at = to->first[of->item[i]]; !status && at >= 0; at = to->place[at].next) {
                const place *y = &to->place[at], *r = from_reference ? x : y, *h = from_reference ? y : x;
                su_meteor_match match = {.start = r->start,
                                         .length = r->length,
                                         .other = h->start,
                                         .others = h->length,
                                         .stage = SU_METEOR_PARAPHRASE};
                status = su_meteor_aligner_add(a, match, err);
            }
    }
    return status;
}

/* Both ways: a pair that the table holds both ways matches twice, and is never certain. */
static su_status add_phrases(const su_meteor *m, scratch *w, line h, line r, su_error *err)
{
    su_status status = find_places(m->paraphrases, h, &w->hypothesis, err);
    if (!status) status = find_places(m->paraphrases, r, &w->reference, err);
    if (!status)
        status = add_paraphrases(m->paraphrases, &w->aligner, &w->reference, &w->hypothesis, true, err);
    if (!status)
        status = add_paraphrases(m->paraphrases, &w->aligner, &w->hypothesis, &w->reference, false, err);
    forget_places(&w->hypothesis);
    forget_places(&w->reference);
    return status;
}

/* ---- scores -------------------------------------------------------------------------------------------- */

static void count_words(const su_meteor *m, const int32_t *words, int32_t n, int32_t *content,
                        int32_t *function)
{
    for (int32_t k = 0; k < n; k++) (*(m->word[words[k]].function ? function : content))++;
}

static su_status score_reference(const su_meteor *m, scratch *w, line h, line r, su_meteor_counts *c,
                                 su_error *err)
{
    su_meteor_aligner *a = &w->aligner;
    bool equal = lines_match(m, h, r);
    int32_t rest[2] = {0};
    *c = (su_meteor_counts){.length = {h.n, r.n}};
    count_words(m, h.word, h.n, &rest[0], &c->function_words[0]);
    count_words(m, r.word, r.n, &rest[1], &c->function_words[1]);
    su_status status = su_meteor_aligner_start(a, r.n, h.n, err);
    if (!status) status = add_words(m, w, h, r, equal ? SU_METEOR_STEM : SU_METEOR_PARAPHRASE, err);
    if (!status && !equal && m->paraphrases) status = add_phrases(m, w, h, r, err);
    if (!status) status = su_meteor_align(a, err);
    for (int32_t j = 0; !status && j < r.n; j++) {
        if (a->chosen[j] < 0) continue;
        const su_meteor_match *x = &a->match[a->chosen[j]];
        count_words(m, h.word + x->other, x->others, &c->content[x->stage][0], &c->function[x->stage][0]);
        count_words(m, r.word + x->start, x->length, &c->content[x->stage][1], &c->function[x->stage][1]);
        c->matched[0] += x->others;
        c->matched[1] += x->length;
    }
    /* A whole match is not fragmented, neither here nor in a sum. */
    bool whole = c->matched[0] == h.n && c->matched[1] == r.n && a->chunks == 1;
    c->chunks = whole ? 0 : a->chunks;
    return status;
}

double su_meteor_value(const double *c)
{
    static const double weight[SU_METEOR_STAGES] = {1.0, 0.6, 0.8, 0.6};
    const double alpha = 0.85, beta = 0.2, gamma = 0.6, delta = 0.75;
    /* the members of su_meteor_counts */
    const double *length = c, *function_words = length + 2, *content = function_words + 2,
                 *function = content + 2 * SU_METEOR_STAGES, *chunks = function + 2 * SU_METEOR_STAGES,
                 *matched = chunks + 1;
    double share[2], mean = (matched[0] + matched[1]) / 2;
    for (int side = 0; side < 2; side++) {
        double sum = 0,
               all = delta * (length[side] - function_words[side]) + (1 - delta) * function_words[side];
        for (int k = 0; k < SU_METEOR_STAGES; k++) sum += content[2 * k + side] * weight[k] * delta;
        for (int k = 0; k < SU_METEOR_STAGES; k++) sum += function[2 * k + side] * weight[k] * (1 - delta);
        share[side] = all > 0 ? sum / all : 0;
    }
    if (share[0] == 0 || share[1] == 0) return 0;
    double f = 1 / ((1 - alpha) / share[0] + alpha / share[1]);
    return f * (1 - gamma * pow(*chunks / mean, beta));
}

static double value_of(const int32_t *counts)
{
    double as_double[SU_METEOR_COUNTS];
    for (int k = 0; k < SU_METEOR_COUNTS; k++) as_double[k] = counts[k];
    return su_meteor_value(as_double);
}

static void score_task(void *context, int64_t task, int worker)
{
    scoring *s = context;
    int64_t first = task * TASK, last = first + TASK < s->pairs ? first + TASK : s->pairs;
    for (int64_t i = first; i < last; i++) {
        const su_caption_pair *p = &s->pair[i];
        double best = -1;
        for (int64_t r = 0; r < p->references; r++) {
            su_meteor_counts c;
            int32_t counts[SU_METEOR_COUNTS];
            if (score_reference(s->meteor, &s->scratch[worker], line_of(s->meteor, p->hypothesis),
                                line_of(s->meteor, p->reference + r), &c, NULL)) {
                s->failed = true;
                return;
            }
            memcpy(counts, &c, sizeof counts);
            double value = value_of(counts);
            if (value <= best) continue;
            best = value;
            memcpy(s->counts[i].meteor, counts, sizeof counts);
            s->counts[i].meteor_items = 1;
        }
    }
}

static void free_scratch(scratch *w)
{
    su_meteor_aligner_free(&w->aligner);
    su_free(w->word);
    su_free(w->hypothesis.place);
    su_free(w->hypothesis.first);
    su_free(w->reference.place);
    su_free(w->reference.first);
}

static su_status make_first(places *p, int32_t phrases, su_error *err)
{
    p->first = su_alloc((size_t)phrases + 1, sizeof *p->first);
    if (!p->first) return su_fail(err, SU_ENOMEM, "no memory for phrases");
    for (int32_t i = 0; i < phrases; i++) p->first[i] = -1;
    return SU_OK;
}

static su_status make_scratch(const su_meteor *m, scratch *w, su_error *err)
{
    w->word = su_alloc(SU_METEOR_WORDS_MAX, sizeof *w->word);
    if (!w->word) return su_fail(err, SU_ENOMEM, "no memory for METEOR");
    if (!m->paraphrases) return SU_OK;
    su_status status = make_first(&w->hypothesis, su_paraphrases_count(m->paraphrases), err);
    return status ? status : make_first(&w->reference, su_paraphrases_count(m->paraphrases), err);
}

su_status su_meteor_score(const su_meteor *meteor, const su_caption_pair *pair, int64_t pairs, su_pool *pool,
                          su_caption_counts *counts, su_error *err)
{
    int workers = su_pool_workers(pool);
    scoring s = {.meteor = meteor, .pair = pair, .pairs = pairs, .counts = counts};
    s.scratch = su_calloc((size_t)workers, sizeof *s.scratch);
    su_status status = s.scratch ? SU_OK : su_fail(err, SU_ENOMEM, "no memory for METEOR");
    for (int i = 0; !status && i < workers; i++) status = make_scratch(meteor, &s.scratch[i], err);
    if (!status) su_pool_run(pool, (pairs + TASK - 1) / TASK, score_task, &s);
    if (s.failed) status = su_fail(err, SU_ENOMEM, "no memory to align captions");
    for (int i = 0; s.scratch && i < workers; i++) free_scratch(&s.scratch[i]);
    su_free(s.scratch);
    return status;
}

/* ---- the vocabulary ------------------------------------------------------------------------------------ */

/* Words of more than a thousandth of English text, as METEOR 1.5 lists them. */
static const char function_words[] =
    "the , . to of and a in that for \" is on 's it with was as said at he by be from have has are his but "
    "an this "
    "not i will \xE2\x80\x99 they ) -rrb- ( -lrb- who their had we which were been more or s its would about "
    "new "
    "one after you : also up when there than $ all out her people she year two - can if last first "
    "\xE2\x80\x9C "
    "over other \xE2\x80\x9D into some what so -- no time years could ? 't \xE2\x80\x94 '";

static void mark_function_words(su_meteor *m)
{
    for (const char *at = function_words; *at; at += strspn(at, " ")) {
        size_t length = strcspn(at, " ");
        int32_t number = su_words_find(&m->words.words, at, length);
        if (number >= 0) m->word[number].function = true;
        at += length;
    }
}

/* Java's String.hashCode, which METEOR takes for the word. Two short words may share one: C6 is "at" to it. */
static int32_t key_of(const char *text, size_t length)
{
    uint32_t key = 0;
    for (size_t i = 0, used; i < length; i += used) {
        uint32_t c = su_utf8_decode(text + i, length - i, &used);
        if (c >= 0x10000) {
            key = key * 31 + 0xD7C0 + (c >> 10);
            c = 0xDC00 | (c & 0x3FF);
        }
        key = key * 31 + c;
    }
    return (int32_t)key;
}

static su_status find_keys(su_meteor *m, su_error *err)
{
    struct sb_stemmer *stemmer = sb_stemmer_new("english", "UTF_8");
    su_status status = stemmer ? SU_OK : su_fail(err, SU_ENOMEM, "no memory for a stemmer");
    for (int32_t i = 0; !status && i < m->words.words.count; i++) {
        size_t length;
        const char *text = su_words_text(&m->words.words, i, &length);
        const sb_symbol *stem = sb_stemmer_stem(stemmer, (const sb_symbol *)text, (int)length);
        if (!stem) status = su_fail(err, SU_ENOMEM, "no memory for a stem");
        if (status) break;
        m->word[i].key = key_of(text, length);
        m->word[i].stem = key_of((const char *)stem, (size_t)sb_stemmer_length(stemmer));
    }
    if (stemmer) sb_stemmer_delete(stemmer);
    return status;
}

static su_status find_synonyms(su_meteor *m, const char *folder, su_error *err)
{
    su_wordnet *wordnet;
    su_status status = su_wordnet_open(folder, &wordnet, err);
    if (status)
        return su_fail_context(err, status, "METEOR's synonyms need WordNet 3.0 (Debian: wordnet-base)");
    for (int32_t i = 0; !status && i < m->words.words.count; i++) {
        size_t length;
        const char *text = su_words_text(&m->words.words, i, &length);
        const su_numbers *sets = &m->word[i].sets;
        status = su_wordnet_sets(wordnet, text, length, &m->word[i].sets, err);
        for (int32_t k = 0; k < sets->count; k++) m->word[i].some |= (uint64_t)1 << (sets->item[k] % 61);
    }
    su_wordnet_close(wordnet);
    return status;
}

static su_status split_lines(su_meteor *m, const su_sentences *sentences, su_pool *pool, su_error *err)
{
    const char **text = su_alloc((size_t)sentences->count + 1, sizeof *text);
    if (!text) return su_fail(err, SU_ENOMEM, "no memory for METEOR");
    for (int64_t i = 0; i < sentences->count; i++) text[i] = sentences->sentence[i].line;
    su_status status = su_sentences_make(text, sentences->count, SU_TOKENIZER_METEOR, pool, &m->words, err);
    su_free(text);
    if (status) return status;
    m->word = su_calloc((size_t)m->words.words.count + 1, sizeof *m->word);
    return m->word ? SU_OK : su_fail(err, SU_ENOMEM, "no memory for a vocabulary");
}

su_status su_meteor_new(const su_sentences *sentences, const su_meteor_options *options, su_pool *pool,
                        su_meteor **meteor, su_error *err)
{
    su_meteor *m = su_calloc(1, sizeof *m);
    *meteor = NULL;
    if (!m) return su_fail(err, SU_ENOMEM, "no memory for METEOR");
    su_status status = split_lines(m, sentences, pool, err);
    if (!status) mark_function_words(m);
    if (!status) status = find_keys(m, err);
    if (!status && options->wordnet) status = find_synonyms(m, options->wordnet, err);
    if (!status && options->paraphrases)
        status = su_paraphrases_read(options->paraphrases, &m->words.words, &m->paraphrases, err);
    if (status)
        su_meteor_free(m);
    else
        *meteor = m;
    return status;
}

void su_meteor_free(su_meteor *m)
{
    if (!m) return;
    for (int32_t i = 0; m->word && i < m->words.words.count; i++) su_numbers_free(&m->word[i].sets);
    su_free(m->word);
    su_paraphrases_free(m->paraphrases);
    su_sentences_free(&m->words);
    su_free(m);
}
