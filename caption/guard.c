#include "caption/guard.h"
#include "base/memory.h"
#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

const char *su_flag_name(su_flag_kind kind)
{
    return kind == SU_FLAG_NEGATION ? "negation" : "laterality";
}

/* --- words and clauses --------------------------------------------------------------------------------- */

enum { WORD = 48, SIDE_NONE = 0, SIDE_LEFT = 1, SIDE_RIGHT = 2, SIDE_BOTH = 3 };

typedef struct {
    char text[WORD];
    int32_t clause;
    bool content; /* neither a small word nor a negation nor a side */
    bool negated;
    int side;
} word;

typedef struct {
    word *words;
    int32_t count;
} text;

static bool listed(const char *const *list, const char *w)
{
    for (; *list; list++)
        if (!strcmp(*list, w)) return true;
    return false;
}

/* Lower case; a hyphen or a slash parts words, so that "left-sided" has a side. Anything else ends a word,
 * and . ; : ( ) end a clause; a point or comma between digits does not. */
static su_status read_words(const char *s, text *t, su_error *err)
{
    size_t length = strlen(s);
    *t = (text){.words = su_calloc(length / 2 + 2, sizeof *t->words)};
    if (!t->words) return su_fail(err, SU_ENOMEM, "no memory to compare a caption with its evidence");
    int32_t clause = 0;
    size_t n = 0;
    for (size_t i = 0; i <= length; i++) {
        unsigned char c = (unsigned char)s[i];
        if (isalnum(c) || c >= 0x80) {
            word *w = &t->words[t->count];
            if (n + 1 < WORD) w->text[n++] = (char)tolower(c);
            continue;
        }
        if (n) {
            t->words[t->count++].clause = clause;
            n = 0;
        }
        bool number = c && i && isdigit((unsigned char)s[i - 1]) && isdigit((unsigned char)s[i + 1]);
        if (c && strchr(".;:()", c) && !number) clause++;
    }
    return SU_OK;
}

static void replace_end(char *w, size_t cut, const char *end)
{
    size_t n = strlen(w) - cut;
    snprintf(w + n, WORD - n, "%s", end);
}

static bool ends_with(const char *w, const char *end)
{
    size_t n = strlen(w), m = strlen(end);
    return n > m + 1 && !strcmp(w + n - m, end);
}

static const char *const no_plurals[] = {"ascites", "diabetes", "herpes", "series", "caries", NULL};

/* The plural of findings and structures: opacities, masses, metastases, nodules. */
static void singular(char *w)
{
    if (listed(no_plurals, w)) return;
    if (ends_with(w, "ies"))
        replace_end(w, 3, "y");
    else if (ends_with(w, "sses") || ends_with(w, "xes"))
        replace_end(w, 2, "");
    else if (!ends_with(w, "eases") && (ends_with(w, "ases") || ends_with(w, "oses") || ends_with(w, "eses")))
        replace_end(w, 2, "is");
    else if (ends_with(w, "s") && !ends_with(w, "ss") && !ends_with(w, "us") && !ends_with(w, "is"))
        replace_end(w, 1, "");
}

/* --- negation ------------------------------------------------------------------------------------------ */

static const char *const before_it[] = {"no",       "without",  "not",    "nor",  "neither",
                                        "never",    "absence",  "lack",   "free", "negative",
                                        "excludes", "excluded", "denies", NULL};
static const char *const after_it[] = {"absent",      "resolved",     "excluded", "negative",
                                       "disappeared", "unremarkable", "cleared",  NULL};
static const char *const ends_it[] = {"but",       "however", "although", "though",        "except",
                                      "with",      "showing", "shows",    "demonstrating", "demonstrates",
                                      "revealing", "reveals", "which",    "because",       "despite",
                                      "while",     "whereas", "yet",      "aside",         "apart",
                                      "besides",   "after",   "before",   "following",     NULL};
static const char *const is_words[] = {"is",   "are", "was", "were",  "has",    "have", "had",
                                       "been", "be",  "can", "could", "cannot", NULL};
static const char *const seen_words[] = {"seen",    "visible",     "visualized",   "visualised", "identified",
                                         "present", "detected",    "noted",        "observed",   "found",
                                         "evident", "appreciated", "demonstrated", "shown",      NULL};
/* "no change", "no longer", "not only": these say nothing of the words that follow as findings. */
static const char *const not_negating[] = {"change",   "changes",     "only", "increase",
                                           "decrease", "significant", NULL};

static bool negates_nothing(const text *t, int32_t i)
{
    const word *next =
        i + 1 < t->count && t->words[i + 1].clause == t->words[i].clause ? &t->words[i + 1] : NULL;
    const word *second =
        next && i + 2 < t->count && t->words[i + 2].clause == next->clause ? &t->words[i + 2] : NULL;
    if (!next) return false;
    if (!strcmp(next->text, "significant") || !strcmp(next->text, "interval") ||
        !strcmp(next->text, "further"))
        return second && (!strncmp(second->text, "change", 6) || !strcmp(second->text, "increase"));
    return listed(not_negating, next->text);
}

/* Forwards from a negation to the end of its clause or to a word that ends its reach. */
static void negate_after(text *t, int32_t from)
{
    for (int32_t i = from + 1; i < t->count && t->words[i].clause == t->words[from].clause; i++) {
        if (listed(ends_it, t->words[i].text)) return;
        t->words[i].negated = true;
    }
}

/* Backwards over the subject of "... is not seen", to a comma's worth of words: at most five. */
static void negate_before(text *t, int32_t to)
{
    int32_t reach = 0;
    for (int32_t i = to - 1; i >= 0 && t->words[i].clause == t->words[to].clause && reach < 5; i--, reach++) {
        if (listed(ends_it, t->words[i].text)) return;
        t->words[i].negated = true;
    }
}

static void mark_negation(text *t)
{
    for (int32_t i = 0; i < t->count; i++) {
        const char *w = t->words[i].text;
        bool same_next = i + 1 < t->count && t->words[i + 1].clause == t->words[i].clause;
        bool after_is =
            i && t->words[i - 1].clause == t->words[i].clause && listed(is_words, t->words[i - 1].text);
        if (!strcmp(w, "no") && same_next && !strcmp(t->words[i + 1].text, "longer")) {
            negate_before(t, i); /* "is no longer seen" */
        } else if (!strcmp(w, "not") || !strcmp(w, "cannot")) {
            if (same_next &&
                (listed(seen_words, t->words[i + 1].text) || !strcmp(t->words[i + 1].text, "be")))
                negate_before(t, i);
            else if (!negates_nothing(t, i))
                negate_after(t, i);
        } else if (after_is && listed(after_it, w)) {
            negate_before(t, i);
        } else if (!strcmp(w, "free")) {
            if (same_next && !strcmp(t->words[i + 1].text, "of"))
                negate_after(t, i); /* "free air" is there */
        } else if (!strcmp(w, "negative")) {
            if (same_next && !strcmp(t->words[i + 1].text, "for")) negate_after(t, i);
        } else if (listed(before_it, w) && !negates_nothing(t, i)) {
            negate_after(t, i);
        }
    }
}

/* --- sides --------------------------------------------------------------------------------------------- */

static const char *const small_words[] = {"a",
                                          "an",
                                          "the",
                                          "of",
                                          "in",
                                          "on",
                                          "at",
                                          "to",
                                          "for",
                                          "and",
                                          "or",
                                          "by",
                                          "from",
                                          "as",
                                          "it",
                                          "its",
                                          "this",
                                          "that",
                                          "these",
                                          "there",
                                          "is",
                                          "are",
                                          "was",
                                          "were",
                                          "has",
                                          "have",
                                          "had",
                                          "been",
                                          "be",
                                          "into",
                                          "within",
                                          "near",
                                          "over",
                                          "under",
                                          "after",
                                          "before",
                                          "between",
                                          "during",
                                          "seen",
                                          "noted",
                                          "arrow",
                                          "arrows",
                                          "arrowhead",
                                          "arrowheads",
                                          "image",
                                          "images",
                                          "figure",
                                          "view",
                                          "views",
                                          "scan",
                                          "scans",
                                          "axial",
                                          "coronal",
                                          "sagittal",
                                          "showing",
                                          "shows",
                                          "show",
                                          "shown",
                                          "demonstrating",
                                          "demonstrates",
                                          "demonstrate",
                                          "revealing",
                                          "reveals",
                                          "ct",
                                          "mri",
                                          "x",
                                          "ray",
                                          "radiograph",
                                          "radiography",
                                          "ultrasound",
                                          "patient",
                                          "year",
                                          "old",
                                          "white",
                                          "black",
                                          "red",
                                          "yellow",
                                          "side",
                                          "sided",
                                          "large",
                                          "small",
                                          "mild",
                                          "moderate",
                                          "severe",
                                          "massive",
                                          "new",
                                          "upper",
                                          "lower",
                                          "middle",
                                          "evidence",
                                          "sign",
                                          "signs",
                                          "day",
                                          "days",
                                          "contrast",
                                          "enhanced",
                                          "which",
                                          "also",
                                          "both",
                                          "any",
                                          "other",
                                          "we",
                                          "post",
                                          "pre",
                                          "with",
                                          "but",
                                          "aspect",
                                          "part",
                                          "region",
                                          "area",
                                          "level",
                                          "cm",
                                          "mm",
                                          "size",
                                          "suggestive",
                                          "suspicious",
                                          "consistent",
                                          "compatible",
                                          "due",
                                          "normal",
                                          "abnormal",
                                          "left",
                                          "right",
                                          "bilateral",
                                          "bilaterally",
                                          "computed",
                                          "tomography",
                                          "chest",
                                          "abdominal",
                                          "abdomen",
                                          "plain",
                                          "film",
                                          "initial",
                                          "follow",
                                          "up",
                                          NULL};
/* Named by a side, whatever is the matter: another side is another structure. */
static const char *const named_by_side[] = {
    "atrium", "atrial", "ventricle", "ventricular", "coronary",   "artery",    "arteries",   "ventricles",
    "vein",   "veins",  "heart",     "hepatic",     "subclavian", "anterior",  "descending", "circumflex",
    "main",   "aortic", "oblique",   "angle",       "lateral",    "decubitus", NULL};
static const char *const both_sides[] = {"bilateral", "bilaterally", "both", NULL};
/* What a side word says ends here, backwards; and forwards at a preposition as well. */
static const char *const ends_thought[] = {"and", "or",   "but",     "with", "which",   "that",
                                           "is",  "are",  "was",     "were", "showing", "shows",
                                           "has", "have", "without", "no",   "versus",  NULL};
static const char *const prepositions[] = {"of", "in", "at", "to", "from", "on", "within", NULL};

static int side_of_word(const char *w)
{
    if (!strcmp(w, "left")) return SIDE_LEFT;
    if (!strcmp(w, "right")) return SIDE_RIGHT;
    return listed(both_sides, w) ? SIDE_BOTH : SIDE_NONE;
}

static const char *const pictures[] = {"image", "figure", "panel", "picture", "photograph", "screen", NULL};

/* "the left side of the image", "left panel": where something is printed, not where it is in the patient. */
static bool of_the_picture(const text *t, int32_t i)
{
    for (int32_t j = i + 1; j < t->count && j <= i + 4 && t->words[j].clause == t->words[i].clause; j++) {
        const char *w = t->words[j].text;
        if (listed(pictures, w)) return true;
        if (strcmp(w, "side") && strcmp(w, "of") && strcmp(w, "the") && strcmp(w, "this")) return false;
    }
    return false;
}

/* A side word gives its side to what follows it in its phrase, and, through "of", "in" or "on", to what
 * stands before: "mass in the left lung" has both words on the left. */
static void mark_sides(text *t)
{
    for (int32_t i = 0; i < t->count; i++) {
        int side = side_of_word(t->words[i].text);
        if (!side) continue;
        int32_t clause = t->words[i].clause;
        if (of_the_picture(t, i)) continue;
        for (int32_t j = i + 1; j < t->count && t->words[j].clause == clause; j++) {
            const char *w = t->words[j].text;
            if (side_of_word(w) || listed(ends_thought, w) || listed(prepositions, w)) break;
            t->words[j].side |= side;
        }
        bool reaches_back = false;
        for (int32_t j = i - 1; j >= 0 && t->words[j].clause == clause && j > i - 4; j--) {
            const char *w = t->words[j].text;
            if (!strcmp(w, "the") || !strcmp(w, "a") || !strcmp(w, "side")) continue;
            reaches_back = !strcmp(w, "of") || !strcmp(w, "in") || !strcmp(w, "on") || !strcmp(w, "within");
            break;
        }
        for (int32_t j = i - 1; reaches_back && j >= 0 && t->words[j].clause == clause && j > i - 8; j--) {
            if (side_of_word(t->words[j].text) || listed(ends_thought, t->words[j].text)) break;
            t->words[j].side |= side;
        }
    }
}

static su_status read_text(const char *s, text *t, su_error *err)
{
    su_status st = read_words(s, t, err);
    if (st) return st;
    mark_negation(t);
    mark_sides(t);
    for (int32_t i = 0; i < t->count; i++) {
        word *w = &t->words[i];
        w->content = strlen(w->text) > 2 && !isdigit((unsigned char)w->text[0]) &&
                     !listed(small_words, w->text) && !listed(before_it, w->text) &&
                     !listed(after_it, w->text) && !listed(seen_words, w->text) && !listed(ends_it, w->text);
        singular(w->text);
    }
    return SU_OK;
}

/* --- comparison ---------------------------------------------------------------------------------------- */

typedef struct {
    bool found, negated, affirmed, named;
    int side; /* of all mentions together; SIDE_NONE when one has none */
} mention;

static mention mention_of(const text *t, const char *w)
{
    mention m = {0};
    bool unsided = false;
    for (int32_t i = 0; i < t->count; i++) {
        if (!t->words[i].content || strcmp(t->words[i].text, w)) continue;
        m.found = true;
        m.negated |= t->words[i].negated;
        m.affirmed |= !t->words[i].negated;
        m.side |= t->words[i].side;
        unsided |= t->words[i].side == SIDE_NONE;
        for (int32_t j = i - 3; j <= i + 5; j++)
            if (j >= 0 && j < t->count && t->words[j].clause == t->words[i].clause)
                m.named |= listed(named_by_side, t->words[j].text);
    }
    if (unsided) m.side = SIDE_NONE;
    return m;
}

static void add_flag(su_flag *flags, int32_t room, int32_t *count, su_flag_kind kind, int32_t evidence,
                     const char *w, const char *mine, const char *theirs)
{
    if (*count < room) {
        su_flag *f = &flags[*count];
        *f = (su_flag){.kind = kind, .evidence = evidence};
        snprintf(f->word, sizeof f->word, "%s", w);
        snprintf(f->caption, sizeof f->caption, "%s", mine);
        snprintf(f->other, sizeof f->other, "%s", theirs);
    }
    ++*count;
}

static void compare(const text *caption, const text *other, int32_t evidence, su_flag *flags, int32_t room,
                    int32_t *count)
{
    for (int32_t i = 0; i < caption->count; i++) {
        const word *w = &caption->words[i];
        bool first = w->content;
        for (int32_t j = 0; j < i && first; j++) first = strcmp(caption->words[j].text, w->text) != 0;
        if (!first) continue;
        mention mine = mention_of(caption, w->text), theirs = mention_of(other, w->text);
        if (!mine.found || !theirs.found) continue;
        if (mine.negated != theirs.negated && mine.affirmed != theirs.affirmed)
            add_flag(flags, room, count, SU_FLAG_NEGATION, evidence, w->text,
                     mine.negated ? "absent" : "present", theirs.negated ? "absent" : "present");
        else if (mine.affirmed && theirs.affirmed && mine.side + theirs.side == SIDE_BOTH && mine.side &&
                 theirs.side && !mine.named && !theirs.named)
            add_flag(flags, room, count, SU_FLAG_LATERALITY, evidence, w->text,
                     mine.side == SIDE_LEFT ? "left" : "right", theirs.side == SIDE_LEFT ? "left" : "right");
    }
}

su_status su_guard(const char *caption, const char *const *evidence, int32_t pieces, su_flag *flags,
                   int32_t room, int32_t *count, su_error *err)
{
    text mine = {0};
    *count = 0;
    su_status st = read_text(caption, &mine, err);
    for (int32_t i = 0; i < pieces && !st; i++) {
        text theirs = {0};
        st = read_text(evidence[i], &theirs, err);
        if (!st) compare(&mine, &theirs, i, flags, room, count);
        su_free(theirs.words);
    }
    su_free(mine.words);
    return st;
}
