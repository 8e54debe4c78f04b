#include "eval/paraphrases.h"
#include <errno.h>
#include <string.h>
#include <zlib.h>

enum { PHRASE_MAX = 64 /* words */, LINE_BYTES = 1 << 16 };

typedef struct {
    bool whole;
    su_numbers of;
} node;

/* A phrase is the pair (number of its first n-1 words, last word). */
struct su_paraphrases {
    su_pairs phrases;
    node *node; /* [phrases] */
    int32_t room;
};

/* The phrase of the line before, which most lines have again. */
typedef struct {
    char line[LINE_BYTES];
    int32_t word[PHRASE_MAX], count, phrase; /* phrase: its number, -1: not in the table yet */
} source;

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

static su_status add_phrase(su_paraphrases *t, const int32_t *words, int32_t count, int32_t *phrase,
                            su_error *err)
{
    *phrase = -1;
    for (int32_t i = 0; i < count; i++) {
        su_status status = su_pairs_add(&t->phrases, *phrase, words[i], phrase, err);
        if (status) return status;
        if (*phrase < t->room) continue;
        int32_t room = t->room ? t->room * 2 : 1024;
        node *larger = su_realloc(t->node, (size_t)room, sizeof *larger);
        if (!larger) return su_fail(err, SU_ENOMEM, "no memory for paraphrases");
        memset(larger + t->room, 0, (size_t)(room - t->room) * sizeof *larger);
        t->node = larger;
        t->room = room;
    }
    t->node[*phrase].whole = true;
    return SU_OK;
}

static su_status add_pair(su_paraphrases *t, const su_words *vocabulary, const char *from, source *last,
                          const char *to, su_error *err)
{
    int32_t word[PHRASE_MAX], count, second;
    if (strcmp(from, last->line)) {
        strcpy(last->line, from);
        last->count = numbers_of(vocabulary, from, last->word);
        last->phrase = -1;
    }
    count = last->count > 0 ? numbers_of(vocabulary, to, word) : last->count;
    if (count < 0) return su_fail(err, SU_EFORMAT, "has more than %d words", PHRASE_MAX);
    if (!count) return SU_OK;
    su_status status = SU_OK;
    if (last->phrase < 0) status = add_phrase(t, last->word, last->count, &last->phrase, err);
    if (!status) status = add_phrase(t, word, count, &second, err);
    return status ? status : su_numbers_add(&t->node[last->phrase].of, second, err);
}

static bool is_weight(const char *line)
{
    return *line && !line[strspn(line, "0123456789.eE+-")];
}

static su_status read_lines(su_paraphrases *t, gzFile file, char *lines, source *last, const char *path,
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
            status = add_pair(t, vocabulary, lines + LINE_BYTES, last, at, err);
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
    source *last = su_calloc(1, sizeof *last);
    if (t) su_pairs_init(&t->phrases);
    su_status status = t && lines && last ? read_lines(t, file, lines, last, path, vocabulary, err)
                                          : su_fail(err, SU_ENOMEM, "no memory for paraphrases");
    gzclose(file);
    su_free(last);
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
    for (int32_t i = 0; i < t->room; i++) su_numbers_free(&t->node[i].of);
    su_free(t->node);
    su_pairs_free(&t->phrases);
    su_free(t);
}

int32_t su_paraphrases_count(const su_paraphrases *t)
{
    return t->phrases.count;
}

int32_t su_paraphrases_longer(const su_paraphrases *t, int32_t phrase, int32_t word)
{
    return su_pairs_find(&t->phrases, phrase, word);
}

bool su_paraphrases_is_whole(const su_paraphrases *t, int32_t phrase)
{
    return t->node[phrase].whole;
}

const su_numbers *su_paraphrases_of(const su_paraphrases *t, int32_t phrase)
{
    return &t->node[phrase].of;
}
