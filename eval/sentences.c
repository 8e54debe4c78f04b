#include "eval/sentences.h"
#include "eval/meteor_words.h"
#include "eval/ptb.h"
#include <stdatomic.h>
#include <string.h>

enum { TASK = 256, ROUND = 64 }; /* captions of a part; parts that are numbered at a time */

/* What is made of TASK captions. Words are numbered within each part, then the words of the parts in their order: each gets
 * the number that it would have if all were numbered one behind the other. */
typedef struct {
    su_buffer lines; /* each with its NUL */
    int32_t *ids;    /* [used] of words and pieces */
    int32_t used;
    su_words words;  /* of this part; empty once all are numbered */
    int32_t *number; /* [words.count] of each among all; the same */
} part;

struct su_sentence_store {
    part *part;
    int64_t parts;
};

typedef struct {
    const char *const *text;
    int64_t count;
    su_caption_tokenizer tokenizer;
    su_sentences *out;
    int64_t first;      /* part of the round at hand */
    _Atomic int failed; /* a su_status */
} making;

int su_space_length(const char *text)
{
    const unsigned char *t = (const unsigned char *)text;
    if (*t > ' ' && *t < 0xC2) return 0;
    if (*t == ' ' || (*t >= 9 && *t <= 13) || (*t >= 0x1C && *t <= 0x1F)) return 1;
    if (*t == 0xC2) return t[1] == 0x85 || t[1] == 0xA0 ? 2 : 0;
    if (*t == 0xE1) return t[1] == 0x9A && t[2] == 0x80 ? 3 : 0;
    if (*t == 0xE3) return t[1] == 0x80 && t[2] == 0x80 ? 3 : 0;
    if (*t != 0xE2) return 0;
    if (t[1] == 0x80)
        return (t[2] >= 0x80 && t[2] <= 0x8A) || t[2] == 0xA8 || t[2] == 0xA9 || t[2] == 0xAF ? 3 : 0;
    return t[1] == 0x81 && t[2] == 0x9F ? 3 : 0;
}

static su_status make_lines(const making *m, int64_t task)
{
    su_buffer *b = &m->out->store->part[task].lines;
    int64_t first = task * TASK, last = first + TASK < m->count ? first + TASK : m->count;
    su_ptb *ptb = m->tokenizer == SU_TOKENIZER_PTB ? su_ptb_new() : NULL;
    su_status status = m->tokenizer == SU_TOKENIZER_PTB && !ptb ? SU_ENOMEM : SU_OK;
    for (int64_t i = first; !status && i < last; i++) {
        const char *text = m->text[i], *next = "";
        for (int64_t n = i + 1; next && !*next; n++) next = n < m->count ? m->text[n] : NULL;
        m->out->sentence[i].words = (int32_t)b->length; /* the line's offset, until its words are numbered */
        if (text && ptb)
            status =
                su_ptb_line(ptb, text, strlen(text), next, next ? strlen(next) : 0, SU_PTB_CAPTION, b, NULL);
        else if (text && m->tokenizer == SU_TOKENIZER_METEOR)
            status = su_meteor_line(text, strlen(text), b, NULL);
        else if (text)
            status = su_buffer_add(b, text, strlen(text), NULL);
        if (!status) status = su_buffer_add(b, "", 1, NULL);
    }
    su_ptb_free(ptb);
    return status;
}

/* Splits at white space (pieces: at single spaces) and numbers the parts behind `ids`. */
static su_status number_parts(su_words *words, const char *line, bool pieces, int32_t *ids, int32_t *count)
{
    *count = 0;
    for (const char *at = line;;) {
        int space;
        if (!pieces)
            while ((space = su_space_length(at))) at += space;
        if (!pieces && !*at) return SU_OK;
        const char *end = at;
        if (pieces)
            end += strcspn(at, " ");
        else
            while (*end && !su_space_length(end)) end++;
        su_status status = su_words_add(words, at, (size_t)(end - at), &ids[(*count)++], NULL);
        if (status) return status;
        if (pieces && !*end) return SU_OK;
        at = end + (pieces ? 1 : 0);
    }
}

/* Whether both ways of splitting give the same parts: single spaces inside, no other white space. */
static bool is_plain(const char *line)
{
    if (!*line || *line == ' ') return false;
    for (const char *at = line; *at; at++) {
        if (*at == ' ' && (at[1] == ' ' || !at[1])) return false;
        if (*at != ' ' && su_space_length(at)) return false;
    }
    return true;
}

static su_status number_words(su_sentences *s, int64_t task)
{
    part *p = &s->store->part[task];
    int64_t first = task * TASK, last = first + TASK < s->count ? first + TASK : s->count;
    /* A line of n bytes has at most n / 2 + 1 words and n + 1 pieces. */
    int32_t *ids = su_alloc(p->lines.length * 2 + 2, sizeof *ids), used = 0;
    if (!ids) return SU_ENOMEM;
    p->ids = ids;
    for (int64_t i = first; i < last; i++) {
        su_sentence *x = &s->sentence[i];
        x->line = p->lines.data + x->words;
        bool plain = is_plain(x->line);
        x->word = ids + used;
        su_status status = number_parts(&p->words, x->line, false, ids + used, &x->words);
        if (status) return status;
        used += x->words;
        x->piece = x->word;
        x->pieces = x->words;
        if (plain) continue;
        x->piece = ids + used;
        status = number_parts(&p->words, x->line, true, ids + used, &x->pieces);
        if (status) return status;
        used += x->pieces;
    }
    p->used = used;
    int32_t *exact = su_realloc(ids, (size_t)used + 1, sizeof *ids);
    if (!exact || exact == ids) return SU_OK;
    for (int64_t i = first; i < last; i++) {
        s->sentence[i].word = exact + (s->sentence[i].word - ids);
        s->sentence[i].piece = exact + (s->sentence[i].piece - ids);
    }
    p->ids = exact;
    return SU_OK;
}

static void make_task(void *context, int64_t task, int worker)
{
    (void)worker;
    making *m = context;
    su_status status = make_lines(m, m->first + task);
    if (!status) status = number_words(m->out, m->first + task);
    if (status) m->failed = (int)status;
}

static su_status merge_words(su_words *all, part *p, su_error *err)
{
    p->number = su_alloc((size_t)p->words.count + 1, sizeof *p->number);
    su_status status = p->number ? SU_OK : su_fail(err, SU_ENOMEM, "no memory for the tokens");
    for (int32_t i = 0; !status && i < p->words.count; i++) {
        size_t length;
        const char *text = su_words_text(&p->words, i, &length);
        status = su_words_add(all, text, length, &p->number[i], err);
    }
    return status;
}

static void forget_words(part *p)
{
    su_words_free(&p->words);
    su_free(p->number);
    p->number = NULL;
}

static void renumber_task(void *context, int64_t task, int worker)
{
    (void)worker;
    making *m = context;
    part *p = &m->out->store->part[m->first + task];
    for (int32_t k = 0; k < p->used; k++) p->ids[k] = p->number[p->ids[k]];
    forget_words(p);
}

static su_status make_round(making *m, int64_t parts, su_pool *pool, su_error *err)
{
    su_pool_run(pool, parts, make_task, m);
    if (m->failed)
        return su_fail(err, (su_status)m->failed, "%s",
                       m->failed == SU_ELIMIT
                           ? "256 captions have more than 512 MiB of tokens, or a token more than 16"
                           : "no memory for the tokens");
    for (int64_t t = 0; t < parts; t++) {
        su_status status = merge_words(&m->out->words, &m->out->store->part[m->first + t], err);
        if (status) return status;
    }
    su_pool_run(pool, parts, renumber_task, m);
    return SU_OK;
}

su_status su_sentences_make(const char *const *text, int64_t count, su_caption_tokenizer tokenizer,
                            su_pool *pool, su_sentences *s, su_error *err)
{
    *s = (su_sentences){.count = count};
    su_words_init(&s->words);
    int64_t parts = (count + TASK - 1) / TASK;
    s->sentence = su_calloc((size_t)count + 1, sizeof *s->sentence);
    s->store = su_calloc(1, sizeof *s->store);
    if (s->store) s->store->part = su_calloc((size_t)parts + 1, sizeof *s->store->part);
    su_status status = SU_OK;
    if (!s->sentence || !s->store || !s->store->part)
        status = su_fail(err, SU_ENOMEM, "no memory for %lld captions", (long long)count);
    else
        s->store->parts = parts;
    for (int64_t t = 0; !status && t < parts; t++) {
        su_buffer_init(&s->store->part[t].lines, INT32_MAX / 4);
        su_words_init(&s->store->part[t].words);
    }
    making m = {.text = text, .count = count, .tokenizer = tokenizer, .out = s};
    for (; !status && m.first < parts; m.first += ROUND)
        status = make_round(&m, parts - m.first < ROUND ? parts - m.first : ROUND, pool, err);
    if (status) su_sentences_free(s);
    return status;
}

void su_sentences_free(su_sentences *s)
{
    for (int64_t t = 0; s->store && t < s->store->parts; t++) {
        part *p = &s->store->part[t];
        su_buffer_free(&p->lines);
        su_free(p->ids);
        forget_words(p);
    }
    if (s->store) su_free(s->store->part);
    su_free(s->store);
    su_free(s->sentence);
    su_words_free(&s->words);
    s->sentence = NULL;
    s->store = NULL;
    s->count = 0;
}
