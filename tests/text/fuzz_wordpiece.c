/* Properties of WordPiece on any bytes whatever. gcc: a driver with N seeded inputs; clang with libFuzzer:
 *
 *   clang -fsanitize=fuzzer,address -DSU_LIBFUZZER -I. tests/text/fuzz_wordpiece.c text/<all>.c libsu_base.a
 * ... SUTURE_VOCAB=datasets/sample/bert-base-uncased-vocab.txt ./a.out
 *
 * The first byte chooses: the rest is a text, or an edit of a vocabulary. */
#include "base/memory.h"
#include "base/rng.h"
#include "text/wordpiece.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { IDS_MAX = 4096, ROW = 24, INPUT_MAX = 512 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static su_wordpiece *vocabulary;

static void must(bool holds, const char *what)
{
    if (holds) return;
    fprintf(stderr, "fuzz_wordpiece: does not hold: %s\n", what);
    abort();
}

static void check_text(const su_wordpiece *wp, const char *text, size_t length)
{
    static int32_t all[IDS_MAX], some[IDS_MAX];
    int64_t count, again;
    must(!su_wordpiece_encode(wp, text, length, all, IDS_MAX, &count, NULL), "encode succeeds");
    must(count <= (int64_t)length, "there are no more tokens than bytes");
    if (count > IDS_MAX) count = IDS_MAX;
    for (int64_t i = 0; i < count; i++) {
        must(su_wordpiece_token(wp, all[i]), "an id has a token");
        must(all[i] != su_wordpiece_cls(wp) && all[i] != su_wordpiece_sep(wp) &&
                 all[i] != su_wordpiece_pad(wp) && all[i] != su_wordpiece_mask(wp),
             "no text becomes a control token");
    }

    int64_t part = count / 2;
    memset(some, 0x55, sizeof some);
    su_wordpiece_encode(wp, text, length, some, part, &again, NULL);
    must(again == count || count == IDS_MAX, "the count does not depend on the room");
    must(!memcmp(some, all, (size_t)part * sizeof *all) && some[part] == 0x55555555,
         "nothing is written beyond max");

    /* A space may be put wherever there is one: two halves give the two halves' tokens. */
    const char *space = memchr(text, ' ', length);
    if (space) {
        int64_t left, right;
        size_t at = (size_t)(space - text);
        su_wordpiece_encode(wp, text, at, some, IDS_MAX, &left, NULL);
        su_wordpiece_encode(wp, space, length - at, some + left, IDS_MAX - left, &right, NULL);
        must(left + right == again && !memcmp(some, all, (size_t)count * sizeof *all), "a space separates");
    }

    int32_t row[ROW + 1], used;
    row[ROW] = 0x55555555;
    must(!su_wordpiece_row(wp, text, length, row, ROW, &used, NULL), "row succeeds");
    must(row[0] == su_wordpiece_cls(wp) && row[used - 1] == su_wordpiece_sep(wp) && row[ROW] == 0x55555555,
         "a row is framed");

    char *decoded = su_wordpiece_decode(wp, all, count);
    must(decoded, "decode succeeds");
    su_free(decoded);
}

/* The special tokens with the input behind or in front of them, as a vocabulary, and the input as its first
 * text. */
static void check_vocabulary(const char *edit, size_t length)
{
    static const char special[] = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n##a\nb\n##ab\n";
    char text[INPUT_MAX + sizeof special];
    size_t n = sizeof special - 1, cut = length ? (uint8_t)edit[0] % (n + 1) : 0;
    memcpy(text, special, cut);
    memcpy(text + cut, edit, length);
    memcpy(text + cut + length, special + cut, n - cut);
    char *exact = su_alloc(n + length, 1);
    must(exact, "there is memory");
    memcpy(exact, text, n + length);
    su_wordpiece *wp;
    if (!su_wordpiece_parse(exact, n + length, "fuzz", &wp, NULL)) {
        check_text(wp, edit, length);
        size_t again;
        const char *saved = su_wordpiece_text(wp, &again);
        su_wordpiece *copy;
        must(!su_wordpiece_parse(saved, again, "copy", &copy, NULL), "parse reads what text wrote");
        must(!strcmp(su_wordpiece_sha256(wp), su_wordpiece_sha256(copy)), "the copy has the same name");
        su_wordpiece_free(copy);
        su_wordpiece_free(wp);
    }
    su_free(exact);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!vocabulary && su_wordpiece_open(getenv("SUTURE_VOCAB"), &vocabulary, NULL)) abort();
    if (!size || size > INPUT_MAX) return 0;
    if (data[0] < 200)
        check_text(vocabulary, (const char *)data + 1, size - 1);
    else
        check_vocabulary((const char *)data + 1, size - 1);
    return 0;
}

#ifndef SU_LIBFUZZER
/* Random pieces that are near to something: well-formed characters of every length, marks, words, and noise. */
static size_t make_input(uint64_t number, uint8_t *out)
{
    static const char *const pieces[] = {"fracture",
                                         "Pleural ",
                                         "[SEP]",
                                         "##",
                                         "\n",
                                         " ",
                                         "\r\n",
                                         "\xCC\x81",
                                         "\xE3\x80\xAE",
                                         "\xE3\x80\xAF",
                                         "\xED\x95\x9C",
                                         "\xE4\xB8\xAD",
                                         "\xF0\x9D\x85\xA0",
                                         "\xF0\x9F\x99\x82",
                                         "\xED\xA0\x80",
                                         "\xEF\xBF\xBD",
                                         "\xC4\xB0",
                                         "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                                         "ab"};
    su_rng_key key = {.seed = number, .layer = 1};
    uint64_t draw = 0;
    size_t length = su_rng_below(key, draw++, INPUT_MAX), n = 0;
    while (n < length) {
        uint64_t kind = su_rng_below(key, draw++, 4);
        if (kind == 0 || n == 0) {
            out[n++] = (uint8_t)su_rng_below(key, draw++, 256);
        } else if (kind == 1) {
            out[n++] = (uint8_t)su_rng_below(key, draw++, 128);
        } else if (kind == 2) {
            const char *piece = pieces[su_rng_below(key, draw++, sizeof pieces / sizeof *pieces)];
            for (; *piece && n < length; piece++) out[n++] = (uint8_t)*piece;
        } else if (n + 3 <= length) { /* U+0800..U+FFFF, surrogates too */
            out[n++] = (uint8_t)(0xE0 + su_rng_below(key, draw++, 16));
            out[n++] = (uint8_t)(0x80 + su_rng_below(key, draw++, 64));
            out[n++] = (uint8_t)(0x80 + su_rng_below(key, draw++, 64));
        } else {
            break;
        }
    }
    return n;
}

int main(int argc, char **argv)
{
    if (argc < 3) return fprintf(stderr, "usage: fuzz_wordpiece COUNT VOCAB [FIRST-SEED]\n"), 2;
    setenv("SUTURE_VOCAB", argv[2], 1);
    uint64_t count = strtoull(argv[1], NULL, 10), first = argc > 3 ? strtoull(argv[3], NULL, 10) : 1;
    for (uint64_t i = 0; i < count; i++) {
        static uint8_t made[INPUT_MAX];
        size_t n = make_input(first + i, made);
        uint8_t *input = su_alloc(n, 1); /* exactly as long, for AddressSanitizer */
        if (!input) return 1;
        memcpy(input, made, n);
        LLVMFuzzerTestOneInput(input, n);
        su_free(input);
    }
    su_wordpiece_free(vocabulary);
    printf("%llu inputs\n", (unsigned long long)count);
    return 0;
}
#endif
