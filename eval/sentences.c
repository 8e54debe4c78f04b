#include "eval/sentences.h"
#include "eval/meteor_words.h"
#include "eval/ptb.h"
#include <stdatomic.h>
#include <string.h>

enum { TASK = 256 }; /* captions */

struct su_sentence_store {
    su_buffer *lines; /* [tasks] the lines of a task, each with its NUL */
    int32_t **ids;    /* [tasks] */
    int64_t tasks;
};

typedef struct {
    const char *const *text;
    int64_t count;
    su_caption_tokenizer tokenizer;
    su_sentences *out;
    _Atomic int failed; /* a su_status */
} making;

int su_space_length(const char *text)
{
    const unsigned char *t = (const unsigned char *)text;
    if (*t == ' ' || (*t >= 9 && *t <= 13) || (*t >= 0x1C && *t <= 0x1F)) return 1;
    if (*t == 0xC2) return t[1] == 0x85 || t[1] == 0xA0 ? 2 : 0;
    if (*t == 0xE1) return t[1] == 0x9A && t[2] == 0x80 ? 3 : 0;
    if (*t == 0xE3) return t[1] == 0x80 && t[2] == 0x80 ? 3 : 0;
    if (*t != 0xE2) return 0;
    if (t[1] == 0x80)
        return (t[2] >= 0x80 && t[2] <= 0x8A) || t[2] == 0xA8 || t[2] == 0xA9 || t[2] == 0xAF ? 3 : 0;
    return t[1] == 0x81 && t[2] == 0x9F ? 3 : 0;
}

static void make_lines(void *context, int64_t task, int worker)
{
    (void)worker;
    making *m = context;
    su_buffer *b = &m->out->store->lines[task];
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
    if (status) m->failed = (int)status;
}

/* Splits at white space (pieces: at single spaces) and numbers the parts behind `ids`. */
static su_status number_parts(su_words *words, const char *line, bool pieces, int32_t *ids, int32_t *count,
                              su_error *err)
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
        su_status status = su_words_add(words, at, (size_t)(end - at), &ids[(*count)++], err);
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

static su_status number_task(su_sentences *s, int64_t task, su_error *err)
{
    su_buffer *b = &s->store->lines[task];
    int64_t first = task * TASK, last = first + TASK < s->count ? first + TASK : s->count;
    /* A line of n bytes has at most n / 2 + 1 words and n + 1 pieces. */
    int32_t *ids = su_alloc(b->length * 2 + 2, sizeof *ids);
    s->store->ids[task] = ids;
    if (!ids) return su_fail(err, SU_ENOMEM, "no memory for the tokens");
    int32_t used = 0;
    for (int64_t i = first; i < last; i++) {
        su_sentence *x = &s->sentence[i];
        x->line = b->data + x->words;
        bool plain = is_plain(x->line);
        x->word = ids + used;
        su_status status = number_parts(&s->words, x->line, false, ids + used, &x->words, err);
        if (status) return status;
        used += x->words;
        x->piece = x->word;
        x->pieces = x->words;
        if (plain) continue;
        x->piece = ids + used;
        status = number_parts(&s->words, x->line, true, ids + used, &x->pieces, err);
        if (status) return status;
        used += x->pieces;
    }
    int32_t *exact = su_realloc(ids, (size_t)used + 1, sizeof *ids);
    if (!exact || exact == ids) return SU_OK;
    for (int64_t i = first; i < last; i++) {
        s->sentence[i].word = exact + (s->sentence[i].word - ids);
        s->sentence[i].piece = exact + (s->sentence[i].piece - ids);
    }
    s->store->ids[task] = exact;
    return SU_OK;
}

su_status su_sentences_make(const char *const *text, int64_t count, su_caption_tokenizer tokenizer,
                            su_pool *pool, su_sentences *s, su_error *err)
{
    *s = (su_sentences){.count = count};
    su_words_init(&s->words);
    int64_t tasks = (count + TASK - 1) / TASK;
    s->sentence = su_calloc((size_t)count + 1, sizeof *s->sentence);
    s->store = su_calloc(1, sizeof *s->store);
    if (s->store) {
        s->store->lines = su_calloc((size_t)tasks + 1, sizeof *s->store->lines);
        s->store->ids = su_calloc((size_t)tasks + 1, sizeof *s->store->ids);
    }
    su_status status = SU_OK;
    if (!s->sentence || !s->store || !s->store->lines || !s->store->ids)
        status = su_fail(err, SU_ENOMEM, "no memory for %lld captions", (long long)count);
    if (!status) {
        s->store->tasks = tasks;
        for (int64_t t = 0; t < tasks; t++) su_buffer_init(&s->store->lines[t], INT32_MAX / 4);
        making m = {.text = text, .count = count, .tokenizer = tokenizer, .out = s};
        su_pool_run(pool, tasks, make_lines, &m);
        if (m.failed)
            status = su_fail(err, (su_status)m.failed, "%s",
                             m.failed == SU_ELIMIT ? "256 captions have more than 512 MiB of tokens"
                                                   : "no memory for the tokens");
    }
    for (int64_t t = 0; !status && t < tasks; t++) status = number_task(s, t, err);
    if (status) su_sentences_free(s);
    return status;
}

void su_sentences_free(su_sentences *s)
{
    for (int64_t t = 0; s->store && t < s->store->tasks; t++) {
        su_buffer_free(&s->store->lines[t]);
        su_free(s->store->ids[t]);
    }
    if (s->store) {
        su_free(s->store->lines);
        su_free(s->store->ids);
    }
    su_free(s->store);
    su_free(s->sentence);
    su_words_free(&s->words);
    s->sentence = NULL;
    s->store = NULL;
    s->count = 0;
}
