#include "eval/ptb.h"
#include "eval/ptb_match.h"
#include "eval/utf8.h"
#include <string.h>

enum {
    LOOKAHEAD = 512, /* code points of the next lines that patterns may see */
    SPELLED_MAX = 5, /* bytes of a token for each of its code points: "-lrb-" */
};

struct su_ptb {
    uint32_t *c; /* the line, a newline, the beginning of the next lines, SU_PTB_END */
    uint16_t *k;
    int length; /* of the line */
    size_t capacity;
    char *token; /* [1 + SPELLED_MAX * capacity] a space and a token as it is written */
    size_t token_length;
};

su_ptb *su_ptb_new(void)
{
    return su_calloc(1, sizeof(su_ptb));
}

void su_ptb_free(su_ptb *p)
{
    if (!p) return;
    su_free(p->c);
    su_free(p->k);
    su_free(p->token);
    su_free(p);
}

static void put(su_ptb *p, int *n, const char *text, size_t length, int most, bool line)
{
    for (size_t at = 0, used; at < length && most-- > 0; at += used) {
        uint32_t c = (unsigned char)text[at];
        used = 1;
        if (c >= 128) c = su_utf8_decode(text + at, length - at, &used);
        if (line && su_ptb_is_newline(c)) c = ' ';
        p->c[*n] = c;
        p->k[(*n)++] = (uint16_t)su_ptb_class(c);
    }
}

static su_status load(su_ptb *p, const char *text, size_t length, const char *next, size_t next_length,
                      su_error *err)
{
    enum { PADDING = 8 }; /* patterns look a few code points ahead without asking */
    size_t need = length + LOOKAHEAD + 1 + PADDING;
    if (length > INT32_MAX / 2) return su_fail(err, SU_ELIMIT, "a caption of more than a gigabyte");
    if (need > p->capacity) {
        size_t room = need + need / 2;
        uint32_t *c = su_realloc(p->c, room, sizeof *c);
        if (c) p->c = c;
        uint16_t *k = c ? su_realloc(p->k, room, sizeof *k) : NULL;
        if (k) p->k = k;
        char *token = k ? su_realloc(p->token, 1 + room * SPELLED_MAX, 1) : NULL;
        if (!token) return su_fail(err, SU_ENOMEM, "no memory to tokenize a caption of %zu bytes", length);
        p->token = token;
        p->capacity = room;
    }
    int n = 0;
    put(p, &n, text, length, SU_PTB_END, true);
    p->length = n;
    if (next) {
        p->c[n] = '\n';
        p->k[n++] = 0;
        put(p, &n, next, next_length, LOOKAHEAD, false);
    }
    for (int i = 0; i < PADDING; i++) {
        p->c[n] = SU_PTB_END;
        p->k[n++] = 0;
    }
    return SU_OK;
}

/* ---- writing ----------------------------------------------------------------------------------------- */

static void add(su_ptb *p, const char *text)
{
    size_t length = strlen(text);
    memcpy(p->token + p->token_length, text, length);
    p->token_length += length;
}

/* Latin to Armenian, Georgian capitals, the extensions of Latin and Greek, ligatures, full-width forms */
static bool has_case(const su_ptb *p, int i)
{
    uint32_t c = p->c[i];
    bool script = c < 0x590 || (c >= 0x10A0 && c < 0x10D0) || (c >= 0x1D00 && c < 0x2000) ||
                  (c >= 0x2C00 && c < 0x2DE0) || (c >= 0xFB00 && c < 0xFB18) || (c >= 0xFF21 && c < 0xFF5B);
    return script && p->k[i] & SU_PTB_LETTER;
}

/* Not there for Java's idea of a word */
static bool is_format(uint32_t c)
{
    return c == 0xAD || (c >= 0x200B && c <= 0x200F) || (c >= 0x202A && c <= 0x202E) || c == 0xFEFF;
}

/* One of them between two letters breaks no word. */
static bool joins_letters(uint32_t c)
{
    return c == '.' || c == '\'' || c == ':' || c == '-' || c == 0xB7 || (c >= 0x2010 && c <= 0x2011) ||
           (c >= 0x2018 && c <= 0x2019);
}

/* Whether a letter with case stands in the same word before (step -1) or behind (step 1) i. */
static bool case_beside(const su_ptb *p, int i, int step, int first, int end)
{
    for (int at = i + step; at >= first && at < end; at += step) {
        if (has_case(p, at)) return true;
        uint32_t c = p->c[at];
        if (joins_letters(c)) {
            int left = at - 1, right = at + 1;
            while (left > first && is_format(p->c[left])) left--;
            while (right + 1 < end && is_format(p->c[right])) right++;
            if (left < first || right >= end || !(p->k[left] & p->k[right] & SU_PTB_LETTER)) return false;
            continue;
        }
        bool cjk = (c >= 0x2E80 && c < 0xA000) || (c >= 0xF900 && c < 0xFB00) || (c >= 0xFF66 && c < 0xFFA0);
        bool inside = p->k[at] & (SU_PTB_LETTER | SU_PTB_MARK | SU_PTB_DIGIT) || c == '_' || is_format(c);
        if (cjk || !inside) return false;
    }
    return false;
}

/* Java's lower case has two rules that look beyond one letter: a sigma that ends a word, and I with a dot. */
static void put_lower(su_ptb *p, int i, int first, int end)
{
    uint32_t c = p->c[i];
    bool final = c == 0x3A3 && case_beside(p, i, -1, first, end) && !case_beside(p, i, 1, first, end);
    if (c == 0x130)
        add(p, "i\xCC\x87");
    else
        p->token_length +=
            (size_t)su_utf8_encode(final ? 0x3C2 : su_ptb_lower(c), p->token + p->token_length);
}

static const char *ascii_quote(uint32_t c)
{
    switch (c) {
    case '\'':
    case 0x92:
    case 0x2019:
    case 0x203A:
        return "'";
    case '`':
    case 0x91:
    case 0x2018:
    case 0x201B:
    case 0x2039:
        return "`";
    case 0x93:
    case 0x201C:
    case 0xAB:
        return "``";
    case 0x94:
    case 0x201D:
    case 0xBB:
        return "''";
    default:
        return NULL;
    }
}

static bool is_entity(const uint32_t *c, const char *name)
{
    do c++;
    while (*name && *c == (unsigned char)*name && name++);
    return !*name;
}

/* The token as it is written, behind the space in p->token. */
static void spell(su_ptb *p, int i, const su_ptb_token *t)
{
    p->token[0] = ' ';
    p->token_length = 1;
    if (t->kind == SU_PTB_TEXT) {
        add(p, t->text);
        return;
    }
    for (int at = i; at < t->stop; at++) {
        uint32_t c = p->c[at];
        if (t->kind == SU_PTB_QUOTED && c == '&') {
            if (is_entity(p->c + at, "apos;")) {
                c = '\'';
                at += 5;
            } else if (is_entity(p->c + at, "amp;")) {
                at += 4;
            }
        }
        const char *quote = t->kind == SU_PTB_QUOTED ? ascii_quote(c) : NULL;
        if (t->kind == SU_PTB_WORD && c == 0xAD) continue;
        if ((t->kind == SU_PTB_SPACED || t->kind == SU_PTB_TAG) && c == ' ')
            add(p, "\xC2\xA0");
        else if (t->kind == SU_PTB_SPACED && (c == '(' || c == ')'))
            add(p, c == '(' ? "-lrb-" : "-rrb-");
        else if (quote)
            add(p, quote);
        else if (c < 128)
            p->token[p->token_length++] = (char)(c >= 'A' && c <= 'Z' ? c + 32 : c);
        else
            put_lower(p, at, i, t->stop);
    }
    if (p->token_length == 1) add(p, "-"); /* nothing but soft hyphens */
}

static bool is_punctuation(const char *token, size_t length)
{
    /* The list of pycocoevalcap, in lower case: its -LRB- and the like are compared with lower-case tokens
     * there and never met. */
    static const char *const list[] = {"''", "'", "``", "`",  ".",   "?", "!",
                                       ",",  ":", "-",  "--", "...", ";", NULL};
    if (length > 3 || (*token >= 'a' && *token <= 'z')) return false;
    for (const char *const *w = list; *w; w++)
        if (strlen(*w) == length && !memcmp(token, *w, length)) return true;
    return false;
}

su_status su_ptb_line(su_ptb *p, const char *text, size_t length, const char *next, size_t next_length,
                      su_ptb_mode mode, su_buffer *out, su_error *err)
{
    su_status s = load(p, text, length, next, next_length, err);
    size_t space = 1; /* the first token goes without */
    for (int i = 0; i < p->length && !s;) {
        int blank = su_ptb_blank(p->c, i);
        if (blank > i) {
            i = blank;
            continue;
        }
        su_ptb_token t = su_ptb_match(p->c, p->k, i);
        if (t.kind != SU_PTB_NONE) {
            spell(p, i, &t);
            if (!(mode == SU_PTB_CAPTION && is_punctuation(p->token + 1, p->token_length - 1))) {
                s = su_buffer_add(out, p->token + space, p->token_length - space, err);
                space = 0;
            }
        }
        i = t.end;
    }
    return s;
}
