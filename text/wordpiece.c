/* WordPiece in one pass over the bytes: a word is collected, already folded, in a buffer on the stack until a
 * space, a punctuation mark or the end closes it, and is then cut by longest match in the vocabulary's trie.
 *
 * ASCII goes through a table of 256 bytes; anything else is decoded and folded by text/unicode.h. Nothing is
 * allocated and nothing in the vocabulary is written while encoding. */
#include "text/wordpiece.h"
#include "base/checksum.h"
#include "base/file.h"
#include "base/memory.h"
#include "text/trie.h"
#include "text/unicode.h"
#include <string.h>

enum { VOCABULARY_MAX = 16 << 20 };

struct su_wordpiece {
    char *text;        /* every token and a '\n' */
    char *strings;     /* the same with NUL instead of '\n' */
    uint32_t *offsets; /* by id, into strings */
    size_t length;
    int32_t size, pad, unk, cls, sep, mask;
    su_trie trie;
    uint32_t inside; /* the trie's node of "##", where a word's second and later pieces begin */
    char sha256[SU_SHA256_HEX];
};

/* One code point of UTF-8, p < end. An ill-formed sequence gives U+FFFD for each of its maximal subparts
 * [Unicode 3.9, D93b], as Python's errors="replace" does. */
static const uint8_t *decode_utf8(const uint8_t *p, const uint8_t *end, uint32_t *cp)
{
    uint8_t first = *p++, low = 0x80, high = 0xBF;
    int more;
    *cp = 0xFFFD;
    if (first < 0x80) {
        *cp = first;
        return p;
    }
    if (first >= 0xC2 && first <= 0xDF) {
        more = 1;
    } else if (first >= 0xE0 && first <= 0xEF) {
        more = 2;
        if (first == 0xE0) low = 0xA0;  /* overlong below */
        if (first == 0xED) high = 0x9F; /* surrogates above */
    } else if (first >= 0xF0 && first <= 0xF4) {
        more = 3;
        if (first == 0xF0) low = 0x90;  /* overlong below */
        if (first == 0xF4) high = 0x8F; /* beyond U+10FFFF above */
    } else {
        return p;
    }
    uint32_t value = first & (0x3Fu >> more);
    for (; more; more--) {
        if (p == end || *p < low || *p > high) return p;
        value = value << 6 | (*p++ & 0x3F);
        low = 0x80, high = 0xBF;
    }
    *cp = value;
    return p;
}

static size_t encode_utf8(uint32_t cp, uint8_t out[4])
{
    if (cp < 0x80) {
        out[0] = (uint8_t)cp;
        return 1;
    }
    size_t n = cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, cp >>= 6) out[i] = (uint8_t)(0x80 | (cp & 0x3F));
    out[0] = (uint8_t)((0xF00u >> n & 0xF0) | cp);
    return n;
}

/* ---- the vocabulary ---- */

static su_status check_line(const char *line, size_t length, int64_t number, const char *name, su_error *err)
{
    const uint8_t *p = (const uint8_t *)line, *end = p + length;
    while (p < end) {
        uint32_t cp;
        const uint8_t *from = p;
        p = decode_utf8(p, end, &cp);
        if (cp == 0 || (cp == 0xFFFD && (p - from != 3 || memcmp(from, "\xEF\xBF\xBD", 3) != 0)))
            return su_fail_at(err, SU_EFORMAT, number,
                              "%s: line %lld is not UTF-8 text: this is no WordPiece vocabulary (vocab.txt)",
                              name, (long long)number);
    }
    return SU_OK;
}

static su_status read_lines(su_wordpiece *wp, const char *text, size_t length, const char *name,
                            su_error *err)
{
    const char *end = text + length;
    for (const char *line = text; line < end;) {
        const char *newline = memchr(line, '\n', (size_t)(end - line));
        const char *next = newline ? newline + 1 : end;
        size_t n = (size_t)((newline ? newline : end) - line);
        while (n && line[n - 1] == '\r') n--;
        su_status s = check_line(line, n, wp->size + 1, name, err);
        if (!s) s = su_trie_add(&wp->trie, line, n, wp->size, NULL, err);
        if (s) return s;
        wp->offsets[wp->size++] = (uint32_t)wp->length;
        memcpy(wp->strings + wp->length, line, n);
        wp->length += n;
        wp->strings[wp->length++] = '\0';
        line = next;
    }
    return SU_OK;
}

static su_status build(su_wordpiece *wp, const char *text, size_t length, const char *name, su_error *err)
{
    size_t lines = 1;
    for (const char *p = text; (p = memchr(p, '\n', length - (size_t)(p - text))); p++) lines++;
    wp->strings = su_alloc(length + 1, 1);
    wp->text = su_alloc(length + 1, 1);
    wp->offsets = su_alloc(lines, sizeof *wp->offsets);
    if (!wp->strings || !wp->text || !wp->offsets)
        return su_fail(err, SU_ENOMEM, "%s: no memory for it", name);
    su_status s = su_trie_init(&wp->trie, err);
    if (!s) s = read_lines(wp, text, length, name, err);
    if (!s) s = su_trie_add(&wp->trie, "##", 2, -1, &wp->inside, err);
    if (s) return s;

    memcpy(wp->text, wp->strings, wp->length);
    for (char *p = wp->text, *end = p + wp->length; (p = memchr(p, '\0', (size_t)(end - p))); p++) *p = '\n';
    if (wp->length) su_sha256_hex(wp->text, wp->length - 1, wp->sha256);

    const struct {
        const char *token;
        int32_t *id;
    } special[] = {{"[PAD]", &wp->pad},
                   {"[UNK]", &wp->unk},
                   {"[CLS]", &wp->cls},
                   {"[SEP]", &wp->sep},
                   {"[MASK]", &wp->mask}};
    for (size_t i = 0; i < sizeof special / sizeof *special; i++) {
        *special[i].id = su_wordpiece_id(wp, special[i].token);
        if (*special[i].id < 0)
            return su_fail(
                err, SU_EFORMAT,
                "%s: there is no token %s among its %d lines: give BERT's vocab.txt, one token a line", name,
                special[i].token, (int)wp->size);
    }
    return SU_OK;
}

su_status su_wordpiece_parse(const char *text, size_t length, const char *name, su_wordpiece **wp,
                             su_error *err)
{
    *wp = NULL;
    if (length > VOCABULARY_MAX)
        return su_fail(err, SU_ELIMIT, "%s: a vocabulary of %zu bytes is above the limit of %d", name, length,
                       VOCABULARY_MAX);
    su_wordpiece *made = su_calloc(1, sizeof *made);
    if (!made) return su_fail(err, SU_ENOMEM, "%s: no memory for it", name);
    su_status s = build(made, text, length, name, err);
    if (s) {
        su_wordpiece_free(made);
        return s;
    }
    *wp = made;
    return SU_OK;
}

su_status su_wordpiece_open(const char *vocab_path, su_wordpiece **wp, su_error *err)
{
    char *text;
    size_t length;
    *wp = NULL;
    su_status s = su_file_read(vocab_path, VOCABULARY_MAX, &text, &length, err);
    if (s) return s;
    s = su_wordpiece_parse(text, length, vocab_path, wp, err);
    su_free(text);
    return s;
}

void su_wordpiece_free(su_wordpiece *wp)
{
    if (!wp) return;
    su_trie_free(&wp->trie);
    su_free(wp->text);
    su_free(wp->strings);
    su_free(wp->offsets);
    su_free(wp);
}

int32_t su_wordpiece_size(const su_wordpiece *wp)
{
    return wp->size;
}
const char *su_wordpiece_sha256(const su_wordpiece *wp)
{
    return wp->sha256;
}
int32_t su_wordpiece_pad(const su_wordpiece *wp)
{
    return wp->pad;
}
int32_t su_wordpiece_unk(const su_wordpiece *wp)
{
    return wp->unk;
}
int32_t su_wordpiece_cls(const su_wordpiece *wp)
{
    return wp->cls;
}
int32_t su_wordpiece_sep(const su_wordpiece *wp)
{
    return wp->sep;
}
int32_t su_wordpiece_mask(const su_wordpiece *wp)
{
    return wp->mask;
}

const char *su_wordpiece_token(const su_wordpiece *wp, int32_t id)
{
    return id < 0 || id >= wp->size ? NULL : wp->strings + wp->offsets[id];
}

int32_t su_wordpiece_id(const su_wordpiece *wp, const char *token)
{
    uint32_t node = 0;
    for (; *token; token++) {
        uint64_t edge = su_trie_step(&wp->trie, node, (uint8_t)*token);
        if (!edge) return -1;
        node = su_trie_child(edge);
    }
    return wp->trie.ids[node];
}

const char *su_wordpiece_text(const su_wordpiece *wp, size_t *length)
{
    *length = wp->length;
    return wp->text;
}

/* ---- encoding ---- */

typedef struct {
    const su_wordpiece *wp;
    int32_t *ids;
    int64_t max, count;
    size_t length, run; /* bytes of the word; where its last run of marks begins */
    int chars; /* SU_WORD_MAX + 1 when there are more than SU_WORD_MAX, and then the bytes are incomplete */
    uint8_t bytes[4 * SU_WORD_MAX];
} encoder;

static inline void emit(encoder *e, int32_t id)
{
    if (e->count < e->max) e->ids[e->count] = id;
    e->count++;
}

/* Cuts the word by longest match; a word with a part that matches nothing is [UNK] as a whole. */
static void end_word(encoder *e)
{
    if (!e->chars) return;
    const su_trie *trie = &e->wp->trie;
    int64_t before = e->count;
    size_t from = 0;
    bool known = e->chars <= SU_WORD_MAX;
    while (known && from < e->length) {
        uint32_t node = from ? e->wp->inside : 0, longest = 0;
        size_t end = from;
        for (size_t i = from; i < e->length; i++) {
            uint64_t edge = su_trie_step(trie, node, e->bytes[i]);
            if (!edge) break;
            node = su_trie_child(edge);
            if (su_trie_ends(edge)) longest = node, end = i + 1;
        }
        known = longest != 0;
        if (known) emit(e, trie->ids[longest]);
        from = end;
    }
    if (!known) {
        e->count = before;
        emit(e, e->wp->unk);
    }
    e->length = e->run = 0;
    e->chars = 0;
}

static void add_char(encoder *e, uint32_t cp)
{
    if (e->chars < SU_WORD_MAX) e->length += encode_utf8(cp, e->bytes + e->length);
    if (e->chars <= SU_WORD_MAX) e->chars++;
}

/* A kept mark moves in front of the marks of higher class that end the word: NFD's canonical order. In a word
 * that is too long the order no longer matters. */
static void add_mark(encoder *e, uint32_t cp, unsigned rank)
{
    uint8_t mark[4];
    size_t at = e->length, n = encode_utf8(cp, mark);
    while (at > e->run) {
        size_t start = at - 1;
        uint32_t previous;
        while ((e->bytes[start] & 0xC0) == 0x80) start--;
        decode_utf8(e->bytes + start, e->bytes + at, &previous);
        if (su_unicode_class(previous) - SU_UNICODE_MARK <= rank) break;
        at = start;
    }
    size_t tail = e->length - at;
    add_char(e, cp);
    if (e->chars > SU_WORD_MAX) return;
    memmove(e->bytes + at + n, e->bytes + at, tail);
    memcpy(e->bytes + at, mark, n);
}

/* A code point that is left as it is. */
static void add_kept(encoder *e, uint32_t cp)
{
    unsigned class = su_unicode_class(cp);
    if (class >= SU_UNICODE_MARK) {
        add_mark(e, cp, class - SU_UNICODE_MARK);
        return;
    }
    if (class == SU_UNICODE_ALONE) end_word(e);
    add_char(e, cp);
    if (class == SU_UNICODE_ALONE) end_word(e);
    e->run = e->length;
}

static void add_hangul(encoder *e, uint32_t cp)
{
    uint32_t s = cp - 0xAC00, trailing = s % 28;
    add_char(e, 0x1100 + s / 588);
    add_char(e, 0x1161 + s % 588 / 28);
    if (trailing) add_char(e, 0x11A7 + trailing);
    e->run = e->length;
}

static void add_unicode(encoder *e, uint32_t cp)
{
    unsigned class = su_unicode_class(cp);
    if (class >= SU_UNICODE_MAP) {
        int i = (int)class - SU_UNICODE_MAP;
        if (i < su_unicode_deltas) {
            add_kept(e, cp + (uint32_t)su_unicode_delta[i]);
            return;
        }
        const uint32_t *sequence = su_unicode_sequence[i - su_unicode_deltas];
        for (int k = 0; k < 3 && sequence[k]; k++) add_kept(e, sequence[k]);
    } else if (class == SU_UNICODE_SPACE) {
        end_word(e);
    } else if (class == SU_UNICODE_BREAK) {
        e->run = e->length;
    } else if (class == SU_UNICODE_HANGUL) {
        add_hangul(e, cp);
    } else if (class != SU_UNICODE_DROP) {
        add_kept(e, cp);
    }
}

/* ASCII: the byte's lower case for a letter or digit (all of them '0' or above), else what to do. */
enum { ASCII_OTHER, ASCII_DROP, ASCII_SPACE, ASCII_ALONE };

static const uint8_t ascii[256] = {
    [0 ... 8] = ASCII_DROP,
    ['\t'] = ASCII_SPACE,
    ['\n'] = ASCII_SPACE,
    [11 ... 12] = ASCII_DROP,
    ['\r'] = ASCII_SPACE,
    [14 ... 31] = ASCII_DROP,
    [' '] = ASCII_SPACE,
    ['!' ... '/'] = ASCII_ALONE,
    [':' ... '@'] = ASCII_ALONE,
    ['[' ... '`'] = ASCII_ALONE,
    ['{' ... '~'] = ASCII_ALONE,
    [0x7F] = ASCII_DROP,
#define SAME(c) [c] = c
#define LOWER(c) [c] = c, [c - 'a' + 'A'] = c
    SAME('0'),
    SAME('1'),
    SAME('2'),
    SAME('3'),
    SAME('4'),
    SAME('5'),
    SAME('6'),
    SAME('7'),
    SAME('8'),
    SAME('9'),
    LOWER('a'),
    LOWER('b'),
    LOWER('c'),
    LOWER('d'),
    LOWER('e'),
    LOWER('f'),
    LOWER('g'),
    LOWER('h'),
    LOWER('i'),
    LOWER('j'),
    LOWER('k'),
    LOWER('l'),
    LOWER('m'),
    LOWER('n'),
    LOWER('o'),
    LOWER('p'),
    LOWER('q'),
    LOWER('r'),
    LOWER('s'),
    LOWER('t'),
    LOWER('u'),
    LOWER('v'),
    LOWER('w'),
    LOWER('x'),
    LOWER('y'),
    LOWER('z'),
#undef SAME
#undef LOWER
};

su_status su_wordpiece_encode(const su_wordpiece *wp, const char *text, size_t length, int32_t *ids,
                              int64_t max, int64_t *count, su_error *err)
{
    (void)err;
    encoder e;
    e.wp = wp, e.ids = ids, e.max = max, e.count = 0;
    e.length = e.run = 0;
    e.chars = 0;
    const uint8_t *p = (const uint8_t *)text, *end = p + length;
    while (p < end) {
        uint8_t class = ascii[*p];
        if (class >= '0') {
            do {
                if (e.chars < SU_WORD_MAX) e.bytes[e.length++] = class;
                if (e.chars <= SU_WORD_MAX) e.chars++;
                p++;
            } while (p < end && (class = ascii[*p]) >= '0');
            e.run = e.length;
        } else if (class == ASCII_SPACE) {
            end_word(&e);
            p++;
        } else if (class == ASCII_ALONE) {
            end_word(&e);
            e.bytes[0] = *p++;
            e.length = 1;
            e.chars = 1;
            end_word(&e);
        } else if (class == ASCII_DROP) {
            p++;
        } else {
            uint32_t cp;
            p = decode_utf8(p, end, &cp);
            add_unicode(&e, cp);
        }
    }
    end_word(&e);
    *count = e.count;
    return SU_OK;
}

su_status su_wordpiece_row(const su_wordpiece *wp, const char *text, size_t length, int32_t *ids, int32_t max,
                           int32_t *row_length, su_error *err)
{
    if (max < 3) return su_fail(err, SU_EINVAL, "a row of %d tokens is too short: 3 at least", (int)max);
    int64_t count;
    su_status s = su_wordpiece_encode(wp, text, length, ids + 1, max - 2, &count, err);
    if (s) return s;
    int32_t used = count < max - 2 ? (int32_t)count : max - 2;
    ids[0] = wp->cls;
    ids[used + 1] = wp->sep;
    for (int32_t i = used + 2; i < max; i++) ids[i] = wp->pad;
    *row_length = used + 2;
    return SU_OK;
}

char *su_wordpiece_decode(const su_wordpiece *wp, const int32_t *ids, int64_t count)
{
    char *out = NULL;
    size_t length = 0;
    for (int pass = 0; pass < 2; pass++) { /* measure, then write */
        if (pass && !(out = su_alloc(length + 1, 1))) return NULL;
        length = 0;
        for (int64_t i = 0; i < count; i++) {
            int32_t id = ids[i];
            const char *token = su_wordpiece_token(wp, id);
            if (!token || id == wp->pad || id == wp->unk || id == wp->cls || id == wp->sep || id == wp->mask)
                continue;
            if (length && !strncmp(token, "##", 2)) {
                token += 2;
            } else if (length && !strchr(".,?!", token[0])) {
                if (out) out[length] = ' ';
                length++;
            }
            size_t n = strlen(token);
            if (out) memcpy(out + length, token, n);
            length += n;
        }
    }
    out[length] = '\0';
    return out;
}
