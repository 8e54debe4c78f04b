/* Properties of the tokenizers, the readers of caption files and the metrics on any bytes whatever. gcc: a
 * driver with N seeded inputs; clang with libFuzzer:
 *
 *   clang -fsanitize=fuzzer,address -DSU_LIBFUZZER -I. tests/eval/fuzz_captions.c eval/<all>.c libsu_base.a
 * ...
 *
 * The first byte chooses: the rest is a caption, or an edit of a file. */
#include "base/memory.h"
#include "base/rng.h"
#include "eval/caption_match.h"
#include "eval/meteor.h"
#include "eval/meteor_words.h"
#include "eval/ptb.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { INPUT_MAX = 512 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds, const char *what)
{
    if (holds) return;
    fprintf(stderr, "fuzz_captions: does not hold: %s\n", what);
    abort();
}

static void check_tokens(const char *text, size_t length)
{
    static const char *const dropped[] = {"''", "'", "``", "`",  ".",   "?", "!",
                                          ",",  ":", "-",  "--", "...", ";"};
    if (memchr(text, 0, length)) return; /* captions hold none */
    su_ptb *ptb = su_ptb_new();
    must(ptb, "there is memory");
    size_t half = length / 2; /* the second half is the next line */
    su_buffer out;
    su_buffer_init(&out, 1 << 20);
    must(!su_buffer_add(&out, "before", 6, NULL) &&
             !su_ptb_line(ptb, text, half, text + half, length - half, SU_PTB_CAPTION, &out, NULL),
         "a line is tokenised");
    must(!memcmp(out.data, "before", 6) && out.length <= 6 + 6 * length,
         "a line is appended, and not too long");
    for (char *token = out.data + 6, *end; *token; token = *end ? end + 1 : end) {
        end = token + strcspn(token, " ");
        must(end > token, "no token is empty");
        must(!*end || end[1], "nothing follows the last token");
        for (size_t k = 0; k < sizeof dropped / sizeof *dropped; k++)
            must(strlen(dropped[k]) != (size_t)(end - token) ||
                     memcmp(dropped[k], token, strlen(dropped[k])) != 0,
                 "punctuation is dropped");
        for (char *c = token; c < end; c++) must(*c < 'A' || *c > 'Z', "tokens are lower case");
    }
    su_buffer_free(&out);
    su_ptb_free(ptb);
}

static void check_meteor_words(const char *text, size_t length)
{
    su_buffer out;
    su_buffer_init(&out, 1 << 20);
    must(!su_buffer_add(&out, "", 0, NULL) && !su_meteor_line(text, length, &out, NULL), "a line is split");
    must(out.length <= 4 * length, "and is not too long"); /* U+FFFD and a space for each byte */
    for (size_t i = 0; i < out.length; i++) {
        must(out.data[i] < 'A' || out.data[i] > 'Z', "its words are lower case");
        must(out.data[i] != ' ' || (i && i + 1 < out.length && out.data[i - 1] != ' '),
             "single spaces stand between them");
    }
    su_buffer_free(&out);
}

static bool in_range(double x, double high)
{
    return x >= 0 && x <= high + 1e-9;
}

static void check_meteor(const su_sentences *s, const su_caption_match *m, su_caption_counts *counts)
{
    su_meteor *meteor;
    must(!su_meteor_new(s, &(su_meteor_options){0}, NULL, &meteor, NULL), "METEOR knows the words");
    must(!su_meteor_score(meteor, m->pair, m->pairs, NULL, counts, NULL), "METEOR scores captions");
    su_meteor_free(meteor);
}

static void check_scores(su_captions *h, su_captions *r)
{
    su_caption_match m;
    su_sentences s;
    su_caption_figures whole;
    if (su_caption_match_make(h, r, NULL, r, &m, NULL)) return;
    su_caption_counts *counts = su_alloc((size_t)m.pairs, sizeof *counts);
    must(counts, "there is memory");
    for (int tokenizer = 0; tokenizer < 2; tokenizer++) {
        must(!su_sentences_make(m.text, m.texts, (su_caption_tokenizer)tokenizer, NULL, &s, NULL),
             "captions are numbered");
        for (int corpus = 0; corpus < 2; corpus++) {
            must(!su_caption_score(&s, m.pair, m.pairs, corpus ? m.corpus : NULL, m.documents, NULL, counts,
                                   NULL),
                 "captions are scored");
            if (corpus) check_meteor(&s, &m, counts);
            su_caption_totals(counts, m.pairs, NULL, &whole);
            for (int k = 0; k < SU_NGRAMS; k++) must(in_range(whole.bleu[k], 1), "BLEU is a share");
            must(in_range(whole.rouge_l, 1) && in_range(whole.cider, 10) &&
                     in_range(whole.cider_original, 10) && (!corpus || in_range(whole.meteor, 1)),
                 "scores are in their ranges");
        }
        su_sentences_free(&s);
    }
    su_free(counts);
    su_caption_match_free(&m);
}

/* A good file with the input behind, in front of or over a part of it. */
static void check_files(const char *edit, size_t length)
{
    static const char *const files[] = {
        "{\"id\":\"1\",\"caption\":\"a b c\"}\n{\"id\":2,\"caption\":\"no effusion.\"}\n",
        "{\"id\":\"1\",\"captions\":[\"a b\",\"\"]}\n{\"id\":\"2\",\"captions\":[\"an effusion (x)\"]}\n",
        "[{\"image_id\":1,\"caption\":\"a b c\"},{\"image_id\":2,\"caption\":\"x\"}]",
        "{\"annotations\":[{\"image_id\":1,\"caption\":\"a b c\"},{\"image_id\":1,\"caption\":\"x\"}]}",
    };
    if (length < 2) return;
    const char *file = files[edit[0] & 3];
    size_t n = strlen(file), cut = (unsigned char)edit[1] % (n + 1);
    size_t over = (edit[0] & 4) ? (length - 2 < n - cut ? length - 2 : n - cut) : 0;
    size_t total = n - over + length - 2;
    char *text = su_alloc(total + 1, 1);
    must(text, "there is memory");
    memcpy(text, file, cut);
    memcpy(text + cut, edit + 2, length - 2);
    memcpy(text + cut + length - 2, file + cut + over, n - cut - over);
    text[total] = 0;
    su_captions a, b, good;
    must(!su_captions_parse(files[0], strlen(files[0]), "good", SU_CAPTION_HYPOTHESES, NULL, &good, NULL),
         "a good file is read");
    if (!su_captions_parse(text, total, "h", SU_CAPTION_HYPOTHESES, NULL, &a, NULL)) su_captions_free(&a);
    if (!su_captions_parse(text, total, "r", SU_CAPTION_REFERENCES, NULL, &b, NULL)) {
        check_scores(&good, &b);
        su_captions_free(&b);
    }
    su_captions_free(&good);
    su_free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size || size > INPUT_MAX) return 0;
    if (data[0] < 160) {
        check_tokens((const char *)data + 1, size - 1);
        check_meteor_words((const char *)data + 1, size - 1);
    } else {
        check_files((const char *)data + 1, size - 1);
    }
    return 0;
}

#ifndef SU_LIBFUZZER
static size_t make_input(uint64_t number, uint8_t *out)
{
    static const char *const pieces[] = {"fracture",
                                         "T1-weighted",
                                         "'s",
                                         "n't",
                                         "\xE2\x80\x99",
                                         "Fig. ",
                                         "1/2",
                                         " 1",
                                         "3.5",
                                         "x",
                                         "http://",
                                         "www.",
                                         ".com",
                                         "@",
                                         "<a b=\"c\">",
                                         "<",
                                         "(555) 123-4567",
                                         "(",
                                         ")",
                                         ":-)",
                                         "...",
                                         ". ",
                                         "--",
                                         "&amp;",
                                         "U.S.",
                                         "O'",
                                         "\xC2\xBD",
                                         "\xC2\xAD",
                                         "\xE2\x80\x9C",
                                         "\xCE\xA3",
                                         "\xC4\xB0",
                                         "\xF0\x9F\x99\x82",
                                         "\xED\xA0\x80",
                                         "\"",
                                         "{\"id\":",
                                         "\"captions\":[",
                                         "],",
                                         "}\n",
                                         "\n",
                                         "\\u0000",
                                         "gonna",
                                         "\t",
                                         "_",
                                         "#",
                                         "$",
                                         "a-b/c",
                                         "A. The "};
    su_rng_key key = {.seed = number, .layer = 1};
    uint64_t draw = 0;
    size_t length = su_rng_below(key, draw++, number % 50 ? 64 : INPUT_MAX), n = 0;
    while (n < length) {
        uint64_t kind = su_rng_below(key, draw++, 5);
        if (kind == 0 || n < 3) {
            out[n++] = (uint8_t)su_rng_below(key, draw++, 256);
        } else if (kind == 1) {
            out[n++] = (uint8_t)(32 + su_rng_below(key, draw++, 95));
        } else {
            const char *piece = pieces[su_rng_below(key, draw++, sizeof pieces / sizeof *pieces)];
            for (; *piece && n < length; piece++) out[n++] = (uint8_t)*piece;
        }
    }
    return n;
}

int main(int argc, char **argv)
{
    if (argc < 2) return fprintf(stderr, "usage: fuzz_captions COUNT [FIRST-SEED]\n"), 2;
    uint64_t count = strtoull(argv[1], NULL, 10), first = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    for (uint64_t i = 0; i < count; i++) {
        static uint8_t made[INPUT_MAX];
        size_t n = make_input(first + i, made);
        uint8_t *input = su_alloc(n ? n : 1, 1); /* exactly as long, for AddressSanitizer */
        if (!input) return 1;
        memcpy(input, made, n);
        LLVMFuzzerTestOneInput(input, n);
        su_free(input);
    }
    printf("%llu inputs\n", (unsigned long long)count);
    return 0;
}
#endif
