/* A chain of rewritings of an array of code points, each reading the last one's result. Their order is that
 * of the Java program's regular expressions, and so is what one match keeps from the next: the characters on
 * both sides of a mark are used up. */
#include "eval/meteor_words.h"
#include "eval/ptb_match.h"
#include "eval/utf8.h"
#include <string.h>

typedef struct {
    uint32_t *c;
    int32_t n, room;
    bool commas, hyphens, quotes; /* whether there are any */
    bool failed;
} points;

static void put(points *p, uint32_t c)
{
    if (p->n == p->room) {
        int32_t room = p->room ? p->room * 2 : 256;
        uint32_t *larger = room > 0 ? su_realloc(p->c, (size_t)room, sizeof *larger) : NULL;
        if (!larger) {
            p->failed = true;
            return;
        }
        p->c = larger;
        p->room = room;
    }
    p->c[p->n++] = c;
}

static void put_apart(points *p, uint32_t c)
{
    put(p, ' ');
    put(p, c);
    put(p, ' ');
}

static uint32_t at(const points *p, int32_t i)
{
    return i >= 0 && i < p->n ? p->c[i] : ' ';
}

/* ---- characters ---------------------------------------------------------------------------------------- */

static bool is_digit(uint32_t c)
{
    return c >= '0' && c <= '9';
}

/* METEOR's letters: Latin to U+017E, Cyrillic, phonetic extensions. Greek ones are marks to it. */
static bool is_letter(uint32_t c)
{
    if (c < 128) return (c | 32) >= 'a' && (c | 32) <= 'z';
    return (c >= 0xC0 && c <= 0x17E && c != 0xD7 && c != 0xF7) || (c >= 0x400 && c <= 0x527) ||
           (c >= 0x1D00 && c <= 0x1D7F) || (c >= 0xA640 && c <= 0xA66E) || (c >= 0xA67E && c <= 0xA697);
}

static bool is_small(uint32_t c)
{
    return c >= 'a' && c <= 'z';
}

static bool is_ascii_space(uint32_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Dropped at the end only: until then it is a word, and ends a sentence as one. */
static bool is_wide_space(uint32_t c)
{
    return c == 0xA0 || (c >= 0x2000 && c <= 0x200A) || c == 0x202F || c == 0x205F || c == 0x3000;
}

static bool is_quote(uint32_t c)
{
    return c == '\'' || c == '`' || c == 0x2018 || c == 0x2019;
}

/* ---- marks --------------------------------------------------------------------------------------------- */

/* Whatever is no letter or digit stands apart, but for single points, commas, quotes and hyphens. */
static void separate(const char *text, size_t length, points *to)
{
    for (size_t i = 0, used; i < length; i += used) {
        uint32_t c = su_utf8_decode(text + i, length - i, &used);
        if (c == '.' && i + 1 < length && text[i + 1] == '.') {
            put(to, ' ');
            for (used = 0; i + used < length && text[i + used] == '.'; used++) put(to, '.');
            put(to, ' ');
            continue;
        }
        to->commas |= c == ',';
        to->hyphens |= c == '-' || c == 0x2013;
        to->quotes |= is_quote(c) || c == 0x201C || c == 0x201D;
        if (is_ascii_space(c))
            put(to, ' ');
        else if (is_letter(c) || is_digit(c) || is_quote(c) || c == '.' || c == ',' || c == '-')
            put(to, c);
        else
            put_apart(to, c);
    }
}

/* Single quotes are ', double ones and '' are ", dashes and -- are -. */
static void unify(const points *p, points *to)
{
    for (int32_t i = 0; i < p->n; i++) {
        uint32_t c = p->c[i];
        if (is_quote(c) && is_quote(at(p, i + 1))) {
            put_apart(to, '"');
            i++;
        } else if (is_quote(c)) {
            put(to, '\'');
        } else if (c == 0x201C || c == 0x201D) {
            put(to, '"');
        } else if (c == 0x2013) {
            put(to, '-');
        } else {
            put(to, c);
            if (c == '-' && at(p, i + 1) == '-') i++;
        }
    }
}

enum { LETTER = 1, S = 2, DIGIT = 4, POINT = 8, OTHER = 16, LETTERS = LETTER | S, ANY = 31 };

static int kind(uint32_t c)
{
    if (is_letter(c)) return c == 's' ? S : LETTER;
    return is_digit(c) ? DIGIT : c == '.' ? POINT : OTHER;
}

typedef struct {
    char mark;
    int left, right; /* kinds of its neighbours */
    const char *with;
} rule;

static const rule comma_rules[] = {
    {',', ANY & ~DIGIT, ANY & ~DIGIT, " , "},
    {',', DIGIT, ANY & ~DIGIT, " , "},
    {',', ANY & ~DIGIT, DIGIT, " , "},
    {0},
};

static const rule hyphen_rules[] = {
    {'-', LETTERS | DIGIT | POINT, LETTERS | DIGIT, " "},
    {0},
};

/* The last one: the 1990's */
static const rule quote_rules[] = {
    {'\'', ANY & ~LETTERS, ANY & ~LETTERS, " ' "},
    {'\'', POINT | OTHER, LETTERS, " ' "},
    {'\'', LETTERS, ANY & ~LETTERS, " ' "},
    {'\'', LETTERS, LETTERS, " '"},
    {'\'', DIGIT, S, " '"},
    {0},
};

static void rewrite(const points *p, const rule *r, points *to)
{
    for (int32_t i = -1; i <= p->n; i++) {
        uint32_t left = at(p, i), right = at(p, i + 2);
        bool here = at(p, i + 1) == (unsigned char)r->mark && kind(left) & r->left && kind(right) & r->right;
        if (here || (i >= 0 && i < p->n)) put(to, left);
        if (!here) continue;
        for (const char *c = r->with; *c; c++) put(to, (unsigned char)*c);
        put(to, right);
        i += 2;
    }
}

/* ---- points at the ends of words ----------------------------------------------------------------------- */

/* Words that keep their point. METEOR's list has 70 more that begin with a capital (Dr, Prof, No); tokenizers
 * of captions leave none. */
static bool keeps_point(const uint32_t *word, int32_t n, uint32_t next)
{
    static const char *const kept[] = {"v", "vs", "rev", "pp", NULL};
    if (n == 1 && word[0] >= 'A' && word[0] <= 'Z') return true;
    for (int k = 0; kept[k]; k++) {
        int32_t i = 0;
        while (i < n && kept[k][i] && word[i] == (unsigned char)kept[k][i]) i++;
        if (i == n && !kept[k][i]) return strcmp(kept[k], "pp") || is_digit(next);
    }
    return false;
}

static void put_lower(points *to, uint32_t c)
{
    put(to, c == 0x130 ? 'i' : su_ptb_lower(c));
    if (c == 0x130) put(to, 0x307);
}

/* One word; next: the first character of the following one. Initials lose their points (U.S.), other words
 * theirs to a word of its own, unless the sentence goes on. */
static void put_word(const uint32_t *word, int32_t n, uint32_t next, points *to)
{
    bool only_points = true, points_inside = false, letters = false;
    for (int32_t i = 0; i + 1 < n; i++) {
        only_points &= word[i] == '.';
        points_inside |= word[i] == '.';
        letters |= is_letter(word[i]);
    }
    bool ends = word[n - 1] == '.' && !only_points;
    bool initials = ends && points_inside && letters;
    bool apart = ends && !initials && !keeps_point(word, n - 1, next) && !is_small(next);
    if (n == 1 && is_wide_space(word[0])) return;
    for (int32_t i = 0; i < n - apart; i++)
        if (!initials || word[i] != '.') put_lower(to, word[i]);
    put(to, ' ');
    if (apart) {
        put(to, '.');
        put(to, ' ');
    }
}

static void split_points(const points *p, points *to)
{
    for (int32_t i = 0, end; i < p->n; i = end) {
        while (i < p->n && p->c[i] == ' ') i++;
        for (end = i; end < p->n && p->c[end] != ' ';) end++;
        int32_t next = end;
        while (next < p->n && p->c[next] == ' ') next++;
        if (end > i) put_word(p->c + i, end - i, at(p, next), to);
    }
}

/* ---- the whole ----------------------------------------------------------------------------------------- */

typedef struct {
    points a, b; /* the last result, and room for the next */
} chain;

static points *next_of(chain *c)
{
    c->b.n = 0;
    return &c->b;
}

static void step(chain *c)
{
    points swap = c->a;
    c->a = c->b;
    c->b = swap;
}

static void apply(chain *c, const rule *rules)
{
    for (; rules->mark; rules++) {
        rewrite(&c->a, rules, next_of(c));
        step(c);
    }
}

su_status su_meteor_line(const char *text, size_t length, su_buffer *out, su_error *err)
{
    if (length > INT32_MAX / 8) return su_fail(err, SU_ELIMIT, "a caption of %zu bytes is too long", length);
    chain c = {0};
    separate(text, length, &c.a);
    bool hyphens = c.a.hyphens, quotes = c.a.quotes;
    if (c.a.commas) apply(&c, comma_rules);
    if (hyphens || quotes) {
        unify(&c.a, next_of(&c));
        step(&c);
    }
    if (hyphens) apply(&c, hyphen_rules);
    if (quotes) apply(&c, quote_rules);
    split_points(&c.a, next_of(&c));
    su_status status =
        c.a.failed || c.b.failed ? su_fail(err, SU_ENOMEM, "no memory for a caption's words") : SU_OK;
    int32_t n = c.b.n ? c.b.n - 1 : 0; /* without the last space */
    for (int32_t i = 0; !status && i < n; i++) status = su_utf8_add(out, c.b.c[i], err);
    su_free(c.a.c);
    su_free(c.b.c);
    return status;
}
