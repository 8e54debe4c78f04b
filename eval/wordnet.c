#include "eval/wordnet.h"
#include "base/file.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_MAX_BYTES = 64 << 20 };

struct su_wordnet {
    su_words words;
    su_numbers *sets;  /* [words] offsets */
    su_numbers *bases; /* [words] numbers of the words that it is an irregular form of */
    int32_t room;
};

static su_status number_of(su_wordnet *w, const char *word, int32_t *number, su_error *err)
{
    su_status status = su_words_add(&w->words, word, strlen(word), number, err);
    if (status || *number < w->room) return status;
    int32_t room = w->room ? w->room * 2 : 1 << 16;
    su_numbers *sets = su_realloc(w->sets, (size_t)room, sizeof *sets);
    if (sets) w->sets = sets;
    su_numbers *bases = sets ? su_realloc(w->bases, (size_t)room, sizeof *bases) : NULL;
    if (!bases) return su_fail(err, SU_ENOMEM, "no memory for WordNet");
    w->bases = bases;
    memset(sets + w->room, 0, (size_t)(room - w->room) * sizeof *sets);
    memset(bases + w->room, 0, (size_t)(room - w->room) * sizeof *bases);
    w->room = room;
    return SU_OK;
}

/* ---- files --------------------------------------------------------------------------------------------- */

/* Debian corrects a word in one verb's and in one adjective's gloss, so that the sets behind lie further back
 * than in Princeton's files, which METEOR's copy was made from. `first` is an offset that only Debian's have.
 */
static const struct {
    const char *file;
    int32_t first, behind, distance;
} moved[] = {{"index.verb", 613036, 2422967, 18}, {"index.adj", 1681478, INT32_MAX, 1}};
enum { MOVED = sizeof moved / sizeof *moved };

/* Which of `moved` a file needs; MOVED: none. */
static int find_move(const char *name, const char *text)
{
    for (int k = 0; k < MOVED; k++) {
        char offset[16];
        snprintf(offset, sizeof offset, " %08d", (int)moved[k].first);
        if (!strcmp(moved[k].file, name)) return strstr(text, offset) ? k : MOVED;
    }
    return MOVED;
}

static char *next_field(char **line)
{
    char *field = *line + strspn(*line, " ");
    char *end = field + strcspn(field, " ");
    *line = *end ? end + 1 : end;
    *end = 0;
    return *field ? field : NULL;
}

/* lemma pos set_count ... offset[set_count]; offsets have eight digits. */
static su_status read_index(su_wordnet *w, char *line, size_t length, int move, su_error *err)
{
    int32_t word;
    while (length && line[length - 1] == ' ') length--;
    char *end = line + length, *lemma = next_field(&line), *part = next_field(&line),
         *count = next_field(&line);
    int sets = count ? atoi(count) : 0;
    if (!part || sets < 1 || sets > (end - line) / 9)
        return su_fail(err, SU_EFORMAT, "is no entry of a WordNet index");
    su_status status = number_of(w, lemma, &word, err);
    for (char *at = end - 9 * (ptrdiff_t)sets; !status && at < end; at += 9) {
        char *rest;
        int32_t offset = (int32_t)strtol(at, &rest, 10);
        if (rest != at + 9 || offset <= 0)
            return su_fail(err, SU_EFORMAT, "has no offset of eight digits where one belongs");
        if (move < MOVED && offset >= moved[move].first && offset < moved[move].behind)
            offset -= moved[move].distance;
        status = su_numbers_add(&w->sets[word], offset, err);
    }
    return status;
}

/* form base... */
static su_status read_exception(su_wordnet *w, char *line, su_error *err)
{
    int32_t form, base;
    char *field = next_field(&line);
    su_status status = field ? number_of(w, field, &form, err) : SU_OK;
    while (!status && field && (field = next_field(&line))) {
        status = number_of(w, field, &base, err);
        if (!status) status = su_numbers_add(&w->bases[form], base, err);
    }
    return status;
}

static su_status read_lines(su_wordnet *w, const char *name, const char *path, char *text, size_t length,
                            su_error *err)
{
    bool index = !strncmp(name, "index", 5);
    int move = index ? find_move(name, text) : MOVED;
    int64_t number = 1;
    su_status status = SU_OK;
    for (char *line = text, *end; !status && line < text + length; line = end + 1, number++) {
        end = memchr(line, '\n', (size_t)(text + length - line));
        if (!end) end = text + length;
        *end = 0;
        if (*line == ' ' || !*line) continue; /* the licence */
        status = index ? read_index(w, line, (size_t)(end - line), move, err) : read_exception(w, line, err);
        if (status) status = su_fail_context(err, status, "%s: line %lld", path, (long long)number);
    }
    return status;
}

static su_status read_file(su_wordnet *w, const char *folder, const char *name, su_error *err)
{
    char *text = NULL, *path = su_path_join(folder, name);
    size_t length = 0;
    if (!path) return su_fail(err, SU_ENOMEM, "no memory for WordNet");
    su_status status = su_file_read(path, FILE_MAX_BYTES, &text, &length, err);
    if (!status) status = read_lines(w, name, path, text, length, err);
    su_free(text);
    su_free(path);
    return status;
}

su_status su_wordnet_open(const char *folder, su_wordnet **wordnet, su_error *err)
{
    static const char *const files[] = {"index.noun", "index.verb", "index.adj", "index.adv", "noun.exc",
                                        "verb.exc",   "adj.exc",    "adv.exc",   NULL};
    su_wordnet *w = su_calloc(1, sizeof *w);
    *wordnet = NULL;
    if (!w) return su_fail(err, SU_ENOMEM, "no memory for WordNet");
    su_words_init(&w->words);
    su_status status = SU_OK;
    for (int k = 0; !status && files[k]; k++) status = read_file(w, folder, files[k], err);
    if (status)
        su_wordnet_close(w);
    else
        *wordnet = w;
    return status;
}

void su_wordnet_close(su_wordnet *w)
{
    if (!w) return;
    for (int32_t i = 0; i < w->room; i++) {
        su_numbers_free(&w->sets[i]);
        su_numbers_free(&w->bases[i]);
    }
    su_free(w->sets);
    su_free(w->bases);
    su_words_free(&w->words);
    su_free(w);
}

/* ---- looking up ---------------------------------------------------------------------------------------- */

static su_status add_sets(const su_wordnet *w, int32_t word, su_numbers *out, su_error *err)
{
    su_status status = SU_OK;
    for (int32_t k = 0; word >= 0 && !status && k < w->sets[word].count; k++)
        status = su_numbers_add(out, w->sets[word].item[k], err);
    return status;
}

/* The word that is left without its ending; -1: none. The rules of morphy(7WN), in METEOR's order. */
static int32_t regular_base(const su_wordnet *w, const char *word, size_t length)
{
    static const char *const endings[][2] = {
        {"s", ""},      {"ses", "s"}, {"xes", "x"}, {"zes", "z"}, {"ches", "ch"}, {"shes", "sh"},
        {"men", "man"}, {"ies", "y"}, {"es", "e"},  {"es", ""},   {"ed", "e"},    {"ed", ""},
        {"ing", "e"},   {"ing", ""},  {"er", ""},   {"est", ""},  {"er", "e"},    {"est", "e"}};
    char base[128];
    if (length <= 2 || !memcmp(word + length - 2, "ss", 2)) return -1;
    for (size_t k = 0; k < sizeof endings / sizeof *endings; k++) {
        size_t n = strlen(endings[k][0]), m = strlen(endings[k][1]);
        if (length < n || length + m >= sizeof base || memcmp(word + length - n, endings[k][0], n)) continue;
        memcpy(base, word, length - n);
        memcpy(base + length - n, endings[k][1], m);
        int32_t number = su_words_find(&w->words, base, length - n + m);
        if (number >= 0 && w->sets[number].count) return number;
    }
    return -1;
}

static int ascending(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

su_status su_wordnet_sets(const su_wordnet *w, const char *word, size_t length, su_numbers *sets,
                          su_error *err)
{
    int32_t number = su_words_find(&w->words, word, length), n = 0;
    su_status status = add_sets(w, number, sets, err);
    if (number >= 0 && w->bases[number].count) {
        for (int32_t k = 0; !status && k < w->bases[number].count; k++)
            status = add_sets(w, w->bases[number].item[k], sets, err);
    } else if (!status) {
        status = add_sets(w, regular_base(w, word, length), sets, err);
    }
    if (sets->count) qsort(sets->item, (size_t)sets->count, sizeof *sets->item, ascending);
    for (int32_t k = 0; k < sets->count; k++)
        if (!n || sets->item[k] != sets->item[n - 1]) sets->item[n++] = sets->item[k];
    sets->count = n;
    return status;
}
