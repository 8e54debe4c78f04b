#include "eval/paraphrases.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { PHRASE_MAX = 64 /* words */, LINE_BYTES = 1 << 16 };

struct su_paraphrases {
    su_words phrases; /* the bytes of the words' numbers */
    su_numbers *of;   /* [phrases] */
    int32_t room, longest;
};

/* The phrase's words as numbers; 0: one is not in the vocabulary, or there are none; -1: too many. */
static int32_t numbers_of(const su_words *vocabulary, const char *line, int32_t *words)
{
    int32_t count = 0;
    for (const char *at = line; *(at += strspn(at, " \t")); at += strcspn(at, " \t")) {
        int32_t word = su_words_find(vocabulary, at, strcspn(at, " \t"));
        if (word < 0) return 0;
        if (count == PHRASE_MAX) return -1;
        words[count++] = word;
    }
    return count;
}

static su_status add_phrase(su_paraphrases *t, const int32_t *words, int32_t count, int32_t *number,
                            su_error *err)
{
    su_status status =
        su_words_add(&t->phrases, (const char *)words, (size_t)count * sizeof *words, number, err);
    if (status) return status;
    if (count > t->longest) t->longest = count;
    if (*number < t->room) return SU_OK;
    int32_t room = t->room ? t->room * 2 : 1024;
    su_numbers *of = su_realloc(t->of, (size_t)room, sizeof *of);
    if (!of) return su_fail(err, SU_ENOMEM, "no memory for paraphrases");
    memset(of + t->room, 0, (size_t)(room - t->room) * sizeof *of);
    t->of = of;
    t->room = room;
    return SU_OK;
}

static su_status add_pair(su_paraphrases *t, const su_words *vocabulary, const char *from, const char *to,
                          su_error *err)
{
    int32_t a[PHRASE_MAX], b[PHRASE_MAX], first, second;
    int32_t an = numbers_of(vocabulary, from, a), bn = an ? numbers_of(vocabulary, to, b) : 0;
    if (an < 0 || bn < 0) return su_fail(err, SU_EFORMAT, "has more than %d words", PHRASE_MAX);
    if (!bn) return SU_OK;
    su_status status = add_phrase(t, a, an, &first, err);
    if (!status) status = add_phrase(t, b, bn, &second, err);
    return status ? status : su_numbers_add(&t->of[first], second, err);
}

static bool is_weight(const char *line)
{
    char *end;
    double p = strtod(line, &end);
    return end > line && !*end && p >= 0; /* some are above 1 */
}

static su_status read_lines(su_paraphrases *t, gzFile file, char *lines, const char *path,
                            const su_words *vocabulary, su_error *err)
{
    su_status status = SU_OK;
    int64_t number = 0;
    for (; !status; number++) {
        char *at = lines + number % 3 * LINE_BYTES;
        if (!gzgets(file, at, LINE_BYTES)) break;
        size_t length = strcspn(at, "\r\n");
        if (length == LINE_BYTES - 1)
            status = su_fail(err, SU_EFORMAT, "is longer than %d bytes", LINE_BYTES - 2);
        at[length] = 0;
        if (!status && number % 3 == 0 && !is_weight(at))
            status = su_fail(err, SU_EFORMAT,
                             "is no number; a table of paraphrases has a weight, a phrase and its paraphrase "
                             "on every three lines");
        else if (!status && number % 3 == 2)
            status = add_pair(t, vocabulary, lines + LINE_BYTES, at, err);
        if (status) return su_fail_context(err, status, "%s: line %lld", path, (long long)number + 1);
    }
    int broken = 0;
    gzerror(file, &broken);
    if (broken != Z_OK || number % 3 || !number)
        return su_fail(err, SU_EFORMAT, "%s: is cut off after line %lld, or damaged", path,
                       (long long)number);
    return SU_OK;
}

su_status su_paraphrases_read(const char *path, const su_words *vocabulary, su_paraphrases **table,
                              su_error *err)
{
    *table = NULL;
    errno = 0;
    gzFile file = gzopen(path, "rb");
    if (!file)
        return su_fail(err,
                       errno == ENOENT ? SU_ENOTFOUND
                       : errno         ? SU_EIO
                                       : SU_ENOMEM,
                       "%s: cannot be opened: %s", path, strerror(errno ? errno : ENOMEM));
    gzbuffer(file, 1 << 18);
    su_paraphrases *t = su_calloc(1, sizeof *t);
    char *lines = su_alloc(3, LINE_BYTES); /* weight, phrase, paraphrase */
    if (t) su_words_init(&t->phrases);
    su_status status = t && lines ? read_lines(t, file, lines, path, vocabulary, err)
                                  : su_fail(err, SU_ENOMEM, "no memory for paraphrases");
    gzclose(file);
    su_free(lines);
    if (status)
        su_paraphrases_free(t);
    else
        *table = t;
    return status;
}

void su_paraphrases_free(su_paraphrases *t)
{
    if (!t) return;
    for (int32_t i = 0; i < t->room; i++) su_numbers_free(&t->of[i]);
    su_free(t->of);
    su_words_free(&t->phrases);
    su_free(t);
}

int32_t su_paraphrases_count(const su_paraphrases *t)
{
    return t->phrases.count;
}

int32_t su_paraphrases_longest(const su_paraphrases *t)
{
    return t->longest;
}

int32_t su_paraphrases_find(const su_paraphrases *t, const int32_t *words, int32_t count)
{
    return su_words_find(&t->phrases, (const char *)words, (size_t)count * sizeof *words);
}

const su_numbers *su_paraphrases_of(const su_paraphrases *t, int32_t phrase)
{
    return &t->of[phrase];
}
