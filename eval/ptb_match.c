/* Each pattern is a function: it gives the end of its longest match at c[i], or 0. su_ptb_match asks those
 * that can begin with c[i] and takes the one that saw farthest; of two that saw equally far, the one asked
 * first.
 *
 * Letters in patterns are ASCII unless the name says "letter"; words that are written out match in any case,
 * sets of letters only as written: "Tex." is Texas, "tex." is not. */
#include "eval/ptb_match.h"
#include <stddef.h>
#include <string.h>

typedef uint32_t cp;

enum { SOFT_HYPHEN = 0xAD, NO_BREAK_SPACE = 0xA0 };

/* ---- sets -------------------------------------------------------------------------------------------- */

static bool lower(cp c)
{
    return c >= 'a' && c <= 'z';
}
static bool upper(cp c)
{
    return c >= 'A' && c <= 'Z';
}
static bool alpha(cp c)
{
    return lower(c | 32) && c < 128;
}
static bool digit09(cp c)
{
    return c >= '0' && c <= '9';
}
static bool alnum(cp c)
{
    return alpha(c) || digit09(c);
}
static bool among(cp c, const char *set)
{
    return c && c < 128 && strchr(set, (int)c);
}
static bool vowel(cp c)
{
    return among(c, "aeiouAEIOU");
}

bool su_ptb_is_newline(uint32_t c)
{
    return c == '\n' || c == '\r' || c == 0x0B || c == 0x0C || c == 0x85 || c == 0x2028 || c == 0x2029;
}

static bool space(cp c)
{
    return c == ' ' || c == '\t' || c == NO_BREAK_SPACE || (c >= 0x2000 && c <= 0x200A) || c == 0x3000;
}

static bool space_or_newline(cp c)
{
    return space(c) || su_ptb_is_newline(c);
}
static bool word_char(uint16_t k, cp c)
{
    return k & (SU_PTB_LETTER | SU_PTB_MARK) || c == SOFT_HYPHEN;
}
static bool letter_or_digit(uint16_t k)
{
    return k & (SU_PTB_LETTER | SU_PTB_DIGIT);
}
static bool hyphen(cp c)
{
    return c == '-' || c == '_' || c == 0x58A || c == 0x2010 || c == 0x2011;
}
static bool dash(cp c)
{
    return c == 0x96 || c == 0x97 || (c >= 0x2013 && c <= 0x2015);
}

/* ---- literals ---------------------------------------------------------------------------------------- */

/* The end of `text` (lower case) at i in any case, or 0. */
static int literal(const cp *c, int i, const char *text)
{
    for (; *text; text++, i++)
        if (c[i] >= 128 || (upper(c[i]) ? c[i] + 32 : c[i]) != (cp)*text) return 0;
    return i;
}

/* The first of a NULL-terminated list that stands at i and is the longest; 0 when none does. */
static int one_of(const cp *c, int i, const char *const *list)
{
    int best = 0;
    for (; *list; list++) {
        int end = literal(c, i, *list);
        if (end > best) best = end;
    }
    return best;
}

/* ' and its kin: the end, or 0 */
static int apostrophe(const cp *c, int i)
{
    if (c[i] == '\'' || c[i] == 0x92 || c[i] == 0x2019) return i + 1;
    return c[i] == '&' ? literal(c, i, "&apos;") : 0;
}

static int quote_in_word(const cp *c, int i)
{
    if (c[i] == '`' || c[i] == 0x91 || c[i] == 0x2018 || c[i] == 0x201B) return i + 1;
    return apostrophe(c, i);
}

/* ---- words ------------------------------------------------------------------------------------------- */

/* One letter of a word; also "&eacute;" and its kin. */
static int word_letter(const cp *c, const uint16_t *k, int i)
{
    static const char *const marks[] = {"acute;", "grave;", "uml;", NULL};
    if (word_char(k[i], c[i])) return i + 1;
    return c[i] == '&' && vowel(c[i + 1]) ? one_of(c, i + 2, marks) : 0;
}

/* letter (letter | digit)* */
static int word_run(const cp *c, const uint16_t *k, int i)
{
    int end = word_letter(c, k, i);
    for (int next = end; next; next = k[end] & SU_PTB_DIGIT ? end + 1 : word_letter(c, k, end)) end = next;
    return end;
}

/* run ([.!?] run)*: "a.b" and "no!yes" are one word */
static int word(const cp *c, const uint16_t *k, int i)
{
    int end = word_run(c, k, i);
    for (int next = end; next; next = among(c[end], ".!?") ? word_run(c, k, end + 1) : 0) end = next;
    return end;
}

/* 's 'd 'm 're 've 'll */
static int reduced_verb(const cp *c, int i)
{
    static const char *const pairs[] = {"re", "ve", "ll", NULL};
    int end = apostrophe(c, i);
    if (!end) return 0;
    if (among(c[end], "msdMSD")) return end + 1;
    return one_of(c, end, pairs);
}

/* n't */
static int reduced_not(const cp *c, int i)
{
    int end = (c[i] | 32) == 'n' ? quote_in_word(c, i + 1) : 0;
    return end && (c[end] | 32) == 't' ? end + 1 : 0;
}

/* A word in front of n't: letters of which the last, soft hyphens apart, is no n. Its end is given, and
 * *reach behind the t. */
static int negated(const cp *c, int i, int *reach)
{
    int n = i;
    while (alpha(c[n]) || c[n] == SOFT_HYPHEN) n++;
    n--;
    *reach = n > i ? reduced_not(c, n) : 0;
    int last = n - 1;
    while (last > i && c[last] == SOFT_HYPHEN) last--;
    return *reach && alpha(c[last]) && (c[last] | 32) != 'n' ? n : 0;
}

/* O'Brien: a capital (or n) in front of two letters at least. I and Y are left to I'm and y'all. */
static int irish(const cp *c, const uint16_t *k, int i)
{
    if (!(c[i] == 'n' || (upper(c[i]) && c[i] != 'I' && c[i] != 'Y'))) return 0;
    int end = quote_in_word(c, i + 1), n = 0;
    if (!end) return 0;
    for (; k[end] & SU_PTB_LETTER; end++) n++;
    return n >= 2 ? end : 0;
}

/* Hawai'i: letters, a vowel, an apostrophe, a vowel or a capital, letters */
static int polynesian(const cp *c, const uint16_t *k, int i)
{
    int end = i;
    while (k[end] & SU_PTB_LETTER) end++;
    if (end - i < 2 || !among(c[end - 1], "aeiouyAEIOUY")) return 0;
    int tail = quote_in_word(c, end);
    if (!tail || !(among(c[tail], "aeiou") || upper(c[tail]))) return 0;
    while (k[tail] & SU_PTB_LETTER) tail++;
    return tail;
}

/* Words with an apostrophe that are known one by one. */
static int known_with_apostrophe(const cp *c, int i, int *reach)
{
    /* A ' in them stands for any apostrophe, a ` for any quotation mark, a * for ' alone. */
    static const char *const words[] = {"'n'",   "'n",   "dunkin'", "somethin'", "ol'",   "'em",     "'cause",
                                        "'till", "'til", "c*mon",   "s*mores",   "ma`am", "o`clock", "c'est",
                                        "o'o",   "l'",   "d'",      "j'",        NULL};
    int best = 0;
    for (const char *const *w = words; *w; w++) {
        int at = i;
        bool all = true;
        for (const char *p = *w; *p && all; p++) {
            if (*p == '\'')
                at = apostrophe(c, at);
            else if (*p == '`')
                at = quote_in_word(c, at);
            else if (*p == '*')
                at = c[at] == '\'' ? at + 1 : 0;
            else
                at = c[at] < 128 && (upper(c[at]) ? c[at] + 32 : c[at]) == (cp)*p ? at + 1 : 0;
            all = at > 0;
        }
        if (all && at > best) best = at;
    }
    int decade = apostrophe(c, i); /* '90s */
    if (decade && c[decade] >= '2' && c[decade] <= '9' && c[decade + 1] == '0' && (c[decade + 2] | 32) == 's')
        best = decade + 3;
    *reach = best;
    int you = (c[i] | 32) == 'y' ? apostrophe(c, i + 1) : 0; /* y' in front of a letter: y'all */
    if (you && alpha(c[you]) && you + 1 > best) {
        *reach = you + 1;
        best = you;
    }
    return best;
}

/* ---- hyphens, slashes, ampersands -------------------------------------------------------------------- */

/* A piece of `hyphenated`: letters and digits, with d' l' o' in front perhaps */
static int piece(const cp *c, const uint16_t *k, int i)
{
    if (among(c[i], "dDoOlL")) {
        int after = quote_in_word(c, i + 1);
        if (after && letter_or_digit(k[after]) && letter_or_digit(k[after + 1])) i = after + 1;
    }
    int end = i;
    while (letter_or_digit(k[end])) end++;
    return end > i ? end : 0;
}

/* T1-weighted, 12-year-old, x_1 */
static int hyphenated(const cp *c, const uint16_t *k, int i)
{
    int end = piece(c, k, i);
    for (int next = end; next; next = hyphen(c[end]) ? piece(c, k, end + 1) : 0) end = next;
    return end;
}

/* a.b. (pairs of a letter and a period), at least two letters: the end behind the last period or letter */
static int acronym(const cp *c, int i)
{
    int end = i;
    while (alpha(c[end]) && c[end + 1] == '.') end += 2;
    return end - i >= 4 ? end : 0;
}

/* 1,000-ton, e.g.-like, U.S.-led, 5-a.m. */
static int hyphenated_number(const cp *c, int i)
{
    if (!alnum(c[i])) return 0;
    int at = i + 1, end = 0;
    while (alnum(c[at]) || c[at] == '.' || c[at] == ',' || c[at] == SOFT_HYPHEN) at++;
    while (c[at] == '-') {
        int run = at + 1, dotted = acronym(c, at + 1);
        while (alnum(c[run]) || c[run] == SOFT_HYPHEN) run++;
        if (run == at + 1 && !dotted) break;
        at = end = dotted > run ? dotted : run;
    }
    return end;
}

/* alphanumerics, then up to two "-letters" */
static int slash_piece(const cp *c, int i)
{
    int end = i;
    while (alnum(c[end])) end++;
    if (end == i) return 0;
    for (int n = 0; n < 2 && c[end] == '-' && alpha(c[end + 1]); n++)
        for (end++; alpha(c[end]);) end++;
    return end;
}

/* and/or, 1/2/3, a-b/c; with \/ for / as well */
static int slashed(const cp *c, int i)
{
    int at = slash_piece(c, i), end = 0;
    for (int n = 0; at && n < 2; n++) {
        int slash = at + (c[at] == '\\');
        if (c[slash] != '/') break;
        at = slash_piece(c, slash + 1);
        if (at) end = at;
    }
    return end;
}

/* AT&T, A+B */
static int ampersand(const cp *c, int i)
{
    int at = i, end = 0;
    while (upper(c[at])) at++;
    while (at > i && (c[at] == '&' || c[at] == '+')) {
        int amp = literal(c, at, "&amp;"), next = amp ? amp : at + 1, run = next;
        while (upper(c[run])) run++;
        if (run == next) break;
        at = end = run;
    }
    return end;
}

/* scan.2.png: pieces between periods, of which the last is a known ending. The pattern looks one farther, at
 * white space or . ? ! , */
static int file_name(const cp *c, const uint16_t *k, int i)
{
    static const char *const endings[] = {"bat", "bmp", "c",   "cgi", "class", "cpp",  "dll", "doc",  "docx",
                                          "exe", "gif", "gz",  "h",   "htm",   "html", "jar", "java", "jpeg",
                                          "jpg", "mov", "mp3", "pdf", "php",   "pl",   "png", "ppt",  "ps",
                                          "py",  "sql", "tar", "txt", "wav",   "x",    "xml", "zip",  NULL};
    int end = 0;
    for (int at = i;;) {
        int run = at, next;
        while ((next = k[run] & SU_PTB_DIGIT ? run + 1 : word_letter(c, k, run))) run = next;
        if (run == at) break;
        at = run;
        if (c[at] != '.') break;
        for (const char *const *e = endings; *e; e++) {
            int ending = literal(c, at + 1, *e);
            if (ending && (space_or_newline(c[ending]) || among(c[ending], ".?!,")) && ending > end)
                end = ending;
        }
        at++;
    }
    return end;
}

/* ---- abbreviations ----------------------------------------------------------------------------------- */

/* May end a sentence: then the period is a token of its own once more. A capital in the list must be one in
 * the text; the rest may be in any case, but for y and e in front of the end of pty and pte. */
static const char *const ending_abbreviations[] = {
    "al",   "Az",   "co",   "ct",   "ga",    "jr",    "ky",    "La",    "md",   "mo",   "Pa",   "rd",
    "rt",   "sq",   "sr",   "va",   "vt",    "ala",   "apr",   "Ark",   "aug",  "bhd",  "cos",  "dak",
    "dec",  "Del",  "esq",  "est",  "etc",   "ext",   "feb",   "fla",   "fri",  "Ill",  "inc",  "ind",
    "jan",  "jul",  "jun",  "kan",  "ltd",   "mar",   "mon",   "neb",   "nev",  "nov",  "oct",  "Ore",
    "plc",  "pte",  "pty",  "sep",  "seq",   "sys",   "tel",   "Tex",   "thu",  "tue",  "wed",  "wis",
    "wyo",  "ariz", "assn", "bldg", "blvd",  "bros",  "colo",  "conn",  "corp", "intl", "kans", "Mass",
    "mich", "minn", "Miss", "mont", "okla",  "penn",  "ppte",  "ppty",  "ptes", "ptys", "sept", "tenn",
    "tues", "univ", "Wash", "wisc", "calif", "pptes", "pptys", "thurs", "ed.d", "ph.d", NULL};

/* Are followed by a name as a rule, and never end one. */
static const char *const leading_abbreviations[] = {
    "cf",    "dr",    "ft",    "lt",    "mr",    "ms",     "mt",   "ph",   "st",   "vs",   "wm",    "adj",
    "adm",   "adv",   "ave",   "cie",   "col",   "cpl",    "det",  "drs",  "ens",  "gen",  "gov",   "hon",
    "jos",   "maj",   "mfg",   "mme",   "mrs",   "mtg",    "pfc",  "pvt",  "rep",  "rev",  "sen",   "sfc",
    "sgt",   "spc",   "ste",   "alex",  "asst",  "atty",   "brig", "capt", "cmdr", "dept", "elec",  "govs",
    "insp",  "invt",  "mlle",  "msgr",  "natl",  "pres",   "prof", "reps", "sens", "supt", "assoc", "attys",
    "comdr", "lieut", "profs", "supts", "treas", "messrs", NULL};

/* Only in front of a number. */
static const char *const numbered_abbreviations[] = {"art", "ca", "fig", "figs", "no",
                                                     "nos", "op", "pp",  "prop", NULL};

/* The end behind the period that follows one of the list, or 0. */
static int abbreviation(const cp *c, int i, const char *const *list)
{
    int n = 0;
    while (alpha(c[i + n])) n++;
    if (literal(c, i, "ph.d") || literal(c, i, "ed.d")) n = 4;
    if (n > 6 || n < 2 || c[i + n] != '.') return 0;
    for (; *list; list++) {
        const char *text = *list;
        int at = 0;
        for (; text[at] && at < n; at++) {
            bool exact = upper((cp)text[at]) || (text[0] == 'p' && at >= 2 &&
                                                 (text[at] == 'y' || text[at] == 'e') && text[at - 1] == 't');
            if (exact ? c[i + at] != (cp)text[at]
                      : (c[i + at] | 32) != (cp)text[at] && c[i + at] != (cp)text[at])
                break;
        }
        if (at == n && !text[at]) return i + n + 1;
    }
    return 0;
}

static const char *const sentence_starters[] = {
    "A",    "About", "According", "Additionally", "After", "An",    "As",    "At",    "But",   "Earlier",
    "He",   "Her",   "Here",      "However",      "If",    "In",    "It",    "Last",  "Many",  "More",
    "Mr.",  "Ms.",   "Now",       "Once",         "One",   "Other", "Our",   "She",   "Since", "So",
    "Some", "Such",  "That",      "The",          "Their", "Then",  "There", "These", "They",  "This",
    "We",   "What",  "When",      "While",        "Yet",   "You",   NULL};

static int tag(const cp *c, int i);

/* The end of what tells that a sentence begins behind an acronym's period at i, or 0: white space and a word
 * that begins sentences, or a tag. */
static int sentence_after_acronym(const cp *c, int i)
{
    int at = i;
    while (space_or_newline(c[at])) at++;
    if (at == i) return 0;
    if (c[at] == '<') {
        int end = tag(c, at);
        return end && space_or_newline(c[end]) ? end + 1 : 0;
    }
    for (const char *const *w = sentence_starters; *w; w++) {
        if (c[at] != (cp) * *w) continue;
        int end = literal(c, at + 1, *w + 1);
        if (end && space_or_newline(c[end])) return end + 1;
    }
    return 0;
}

/* The same behind another abbreviation: white space and more of it, a capital, a tag. */
static int sentence_after(const cp *c, const uint16_t *k, int i)
{
    if (!space_or_newline(c[i])) return 0;
    if (space_or_newline(c[i + 1]) || k[i + 1] & SU_PTB_UPPER) return i + 2;
    return c[i + 1] == '<' ? tag(c, i + 1) : 0;
}

/* ---- numbers ----------------------------------------------------------------------------------------- */

static int digits(const uint16_t *k, int i, int most)
{
    int end = i;
    while (end - i < most && k[end] & SU_PTB_DIGIT) end++;
    return end;
}

/* 1 -1.5 +1,000 .5 10:30 */
static int number(const cp *c, const uint16_t *k, int i)
{
    int at = i + (c[i] == '-' || c[i] == '+'), end = digits(k, at, SU_PTB_END);
    if (end == at) end = 0;
    int here = end ? end : at;
    while (among(c[here], ".:,") || c[here] == SOFT_HYPHEN || c[here] == 0x66B || c[here] == 0x66C) {
        int next = digits(k, here + 1, SU_PTB_END);
        if (next == here + 1) break;
        end = here = next;
    }
    return end;
}

/* 1/2, 1 1/2, 1-1/2 */
static int fraction(const cp *c, const uint16_t *k, int i)
{
    int best = 0;
    for (int whole = 0; whole < 2; whole++) {
        int at = i;
        if (whole) {
            at = digits(k, i, 4);
            if (at == i || !(c[at] == ' ' || c[at] == '-' || c[at] == NO_BREAK_SPACE)) break;
            at++;
        }
        int over = digits(k, at, 4);
        if (over == at) continue;
        int slash = c[over] == 0x2044 ? over : over + (c[over] == '\\');
        if (c[slash] != '/' && c[slash] != 0x2044) continue;
        int under = digits(k, slash + 1, 4);
        if (under > slash + 1 && under > best) best = under;
    }
    return best;
}

/* 5/6/2010, 05-06-10 */
static int date(const cp *c, const uint16_t *k, int i)
{
    int at = digits(k, i, 2);
    for (int n = 0; n < 2; n++) {
        if (at == i || (c[at] != '-' && c[at] != '/')) return 0;
        int next = digits(k, at + 1, n ? 4 : 2);
        if (next - at - 1 < (n ? 2 : 1)) return 0;
        at = next;
    }
    return at;
}

static int superscript(const cp *c, int i)
{
    int at = i + (c[i] == 0x207A || c[i] == 0x207B || c[i] == 0x208A || c[i] == 0x208B), end = at;
    while (c[end] == 0x2070 || c[end] == 0xB9 || c[end] == 0xB2 || c[end] == 0xB3 ||
           (c[end] >= 0x2074 && c[end] <= 0x2079))
        end++;
    if (end > at) return end;
    while (c[end] >= 0x2080 && c[end] <= 0x2089) end++;
    return end > at ? end : 0;
}

/* low to high digits 0 to 9, and a separator of the set behind them when the set is given: every end that is
 * possible is tried by the caller, so `count` of them are asked for. 0: not possible. */
static int group(const cp *c, int i, int count, const char *separators)
{
    for (int n = 0; n < count; n++)
        if (!digit09(c[i + n])) return 0;
    int end = i + count;
    if (!separators) return end;
    return among(c[end], separators) || (c[end] == NO_BREAK_SPACE && strchr(separators, ' ')) ? end + 1 : 0;
}

/* The last two groups of a telephone number: 3 to 4 digits, a separator perhaps, 3 to 5 digits. */
static int phone_tail(const cp *c, int i, const char *separators, bool optional)
{
    int best = 0;
    for (int first = 3; first <= 4; first++) {
        int starts[2] = {group(c, i, first, separators), optional ? group(c, i, first, NULL) : 0};
        for (int s = 0; s < 2; s++)
            for (int last = 3; starts[s] && last <= 5; last++) {
                int end = group(c, starts[s], last, NULL);
                if (end > best) best = end;
            }
    }
    return best;
}

/* (555) 555-1234, +44 20 7946 0958, 555-1234, 555.555.1234 */
static int phone(const cp *c, int i)
{
    int best = 0, end;
    if (c[i] == '(') {
        for (int n = 2; n <= 3; n++) {
            int close = group(c, i + 1, n, NULL);
            if (!close || c[close] != ')') continue;
            close++;
            if (c[close] == ' ' || c[close] == NO_BREAK_SPACE) close++;
            end = phone_tail(c, close, " -", true);
            if (end > best) best = end;
        }
        return best;
    }
    int at = i;
    while (c[at] == '+' && at < i + 2) at++;
    for (int country = 0; country <= 4; country++) { /* digits of the country's group, 0: none */
        if (country == 1) continue;
        for (int kind = 0; kind < 2; kind++) {
            const char *separators = kind ? "." : " -";
            int first = country ? group(c, at, country, separators) : at;
            for (int area = 2; (first || !country) && area <= 4; area++) {
                int next = group(c, first, area, separators);
                if (!next) continue;
                end = phone_tail(c, next, separators, !kind);
                if (end > best) best = end;
            }
        }
    }
    return best;
}

/* ---- addresses and tags ------------------------------------------------------------------------------ */

static bool blank_in_address(cp c)
{
    return c == SU_PTB_END || c == ' ' || c == '\t' || c == '\n' || c == '\f' || c == '\r';
}

/* Java counts it as two characters, of which a pattern may ask for two. */
static bool astral(cp c)
{
    return c > 0xFFFF && c != SU_PTB_END;
}

/* http://... */
static int url(const cp *c, int i)
{
    int at = literal(c, i, "http");
    if (!at) return 0;
    at = literal(c, at + ((c[at] | 32) == 's'), "://");
    if (!at) return 0;
    int run = at, end = 0;
    for (; !blank_in_address(c[run]) && !among(c[run], "\"<>|(){}"); run++)
        if ((run > at || astral(c[run])) && !among(c[run], ".!?,-")) end = run + 1;
    return end;
}

static int url_path(const cp *c, int i)
{
    if (c[i] != '/') return i;
    int end = i;
    for (int run = i + 1; !blank_in_address(c[run]) && !among(c[run], "\"<>|()"); run++)
        if ((run > i + 1 || astral(c[run])) && !among(c[run], ".!?{},-")) end = run + 1;
    return end;
}

/* www.a.org/b */
static int www(const cp *c, int i)
{
    int at = literal(c, i, "www."), best = 0;
    if (!at) return 0;
    for (int labels = 0;; labels++) {
        if (labels) { /* a country or a domain: two to four letters */
            int n = 0;
            while (n < 4 && alpha(c[at + n])) n++;
            for (; n >= 2; n--) {
                int end = url_path(c, at + n);
                if (end > best) best = end;
            }
        }
        int run = at;
        while (!blank_in_address(c[run]) && !among(c[run], "\"<>|.!?(){},")) run++;
        if (run == at || c[run] != '.') return best;
        at = run + 1;
    }
}

/* a.org/b: labels of which no character lies between , and _ in ASCII */
static int site(const cp *c, int i)
{
    static const char *const domains[] = {"com", "net", "org", "edu", NULL};
    int best = 0;
    for (int at = i;;) {
        int run = at;
        while (!blank_in_address(c[run]) && !among(c[run], "\"`'<>|.!?(){}$") &&
               !(c[run] >= ',' && c[run] <= '_'))
            run++;
        if (run == at || c[run] != '.') return best;
        at = run + 1;
        int domain = one_of(c, at, domains);
        if (!domain) continue;
        int end = url_path(c, domain);
        if (end > best) best = end;
    }
}

static bool in_mail(cp c)
{
    return !blank_in_address(c) && c != NO_BREAK_SPACE && !among(c, "\"<>|(){}");
}

/* labels between periods, the last without one */
static int mail_domain(const cp *c, int i)
{
    int end = 0;
    for (int at = i;; at++) {
        int run = at;
        while (in_mail(c[run]) && c[run] != '.') run++;
        if (run == at) return end;
        end = at = run;
        if (c[run] != '.') return end;
    }
}

/* a.b@c.org, with < and > around it perhaps */
static int mail(const cp *c, int i)
{
    int at = i, best = 0;
    if (c[i] == '<')
        at = i + 1;
    else if (c[i] == '&')
        at = literal(c, i, "&lt;");
    if ((at == 0 && c[i] == '&') || !alnum(c[at])) return 0;
    for (int run = at + 1; in_mail(c[run]); run++) {
        int end = c[run] == '@' ? mail_domain(c, run + 1) : 0;
        if (!end) continue;
        int close = c[end] == '>' ? end + 1 : 0;
        if (close) end = close;
        if (end > best) best = end;
    }
    return best;
}

/* @name */
static int account(const cp *c, int i)
{
    if (c[i] != '@' || !(alpha(c[i + 1]) || c[i + 1] == '_')) return 0;
    int end = i + 2;
    while (alnum(c[end]) || c[end] == '_') end++;
    return end;
}

/* #letters */
static int topic(const cp *c, const uint16_t *k, int i)
{
    if (c[i] != '#') return 0;
    int end = i + 1;
    for (int next; (next = word_letter(c, k, end)); end = next) {
    }
    return end > i + 1 ? end : 0;
}

static int tag_name(const cp *c, int i)
{
    if (!alpha(c[i])) return 0;
    int end = i + 1;
    while (alnum(c[end]) || among(c[end], "_:.-")) end++;
    return end;
}

/* <a>, </a>, <a href="x">, <br />, <!DOCTYPE ...>, <?xml ...> */
static int tag(const cp *c, int i)
{
    if (c[i] != '<') return 0;
    int at = i + 1;
    if (c[at] == '!' || c[at] == '?') {
        if (!alpha(c[at + 1]) && c[at + 1] != '-') return 0;
        for (at++; c[at] != '>'; at++)
            if (c[at] == SU_PTB_END || c[at] == '\r' || c[at] == '\n') return 0;
        return at + 1;
    }
    at = tag_name(c, at + (c[at] == '/'));
    while (at && c[at] == ' ') {
        int name = at;
        while (c[name] == ' ') name++;
        name = tag_name(c, name);
        if (!name) break;
        at = name;
        int value = at;
        while (c[value] == ' ') value++;
        if (c[value] != '=') continue;
        for (value++; c[value] == ' ';) value++;
        cp quote = c[value];
        if (quote != '"' && quote != '\'') return 0;
        for (value++; c[value] != quote; value++)
            if (c[value] == SU_PTB_END || c[value] == '\r' || c[value] == '\n') return 0;
        at = value + 1;
    }
    if (!at) return 0;
    while (c[at] == ' ') at++;
    if (c[at] == '/') at++;
    while (c[at] == ' ') at++;
    return c[at] == '>' ? at + 1 : 0;
}

/* &#176; and newswire's &UR; */
static int entity(const cp *c, int i)
{
    static const char *const names[] = {"ht;", "tl;", "ur;",  "lr;",  "qc;",
                                        "ql;", "qr;", "odq;", "cdq;", NULL};
    if (c[i + 1] != '#') return one_of(c, i + 1, names);
    int end = i + 2;
    while (digit09(c[end])) end++;
    return end > i + 2 && c[end] == ';' ? end + 1 : 0;
}

/* ---- faces ------------------------------------------------------------------------------------------- */

/* :-) in front of anything but a letter or a digit; the end is given, the pattern looked one farther */
static int smiley(const cp *c, int i)
{
    int at = i + (c[i] == '<' || c[i] == '>');
    if (!among(c[at], ":;=")) return 0;
    for (int nose = 1; nose >= 0; nose--) {
        if (nose && !among(c[at + 1], "-o*'")) continue;
        int end = at + 1 + nose;
        if (among(c[end], "()DPdpO\\{@|[]") && c[end + 1] != SU_PTB_END && !alnum(c[end + 1])) return end + 1;
    }
    return 0;
}

/* ^_^ (^^) (x.x) */
static int asian_face(const cp *c, int i)
{
    static const char eyes[] = "-^x=~<>'";
    if (among(c[i], eyes) && c[i + 1] == '_' && among(c[i + 2], eyes)) return i + 3;
    if (c[i] != '(') return 0;
    if (among(c[i + 1], eyes)) {
        int at = i + 2 + (c[i + 2] == '_' || c[i + 2] == '.');
        if (among(c[at], eyes) && c[at + 1] == ')') return at + 2;
    }
    if (among(c[i + 1], "^x=~<>'") && c[i + 2] == '-' && among(c[i + 3], "^x=~<>'`") && c[i + 4] == ')')
        return i + 5;
    return 0;
}

/* ---- punctuation ------------------------------------------------------------------------------------- */

static int run_of(const cp *c, int i, const char *set)
{
    while (among(c[i], set)) i++;
    return i;
}

/* ... and . . . */
static int ellipsis(const cp *c, int i)
{
    int end = i, n = 0;
    while (c[end] == '.' && n < 5) end++, n++;
    int close = n >= 3 ? end : 0;
    for (end = i, n = 1; n < 5 && (c[end + 1] == ' ' || c[end + 1] == NO_BREAK_SPACE) && c[end + 2] == '.';
         n++)
        end += 2;
    int spaced = n >= 3 ? end + 1 : 0;
    return spaced > close ? spaced : close;
}

static bool curly_quote(cp c)
{
    return (c >= 0x91 && c <= 0x94) || (c >= 0x2018 && c <= 0x201F) || c == 0xAB || c == 0xBB ||
           c == 0x2039 || c == 0x203A;
}

/* Which of two quotation marks a straight one is: an opening one stands in front of a word. */
static bool opens(cp c)
{
    return alnum(c) || c == '$';
}

/* ---- all together ------------------------------------------------------------------------------------ */

static void offer(su_ptb_token *best, int end, int reach, su_ptb_kind kind, const char *text)
{
    if (end && reach > best->reach) *best = (su_ptb_token){end, end, reach, kind, text};
}

/* A token whose period is also the next token. */
static void offer_sentence_end(su_ptb_token *best, int end, int reach, su_ptb_kind kind)
{
    if (end && reach > best->reach) *best = (su_ptb_token){end, end - 1, reach, kind, NULL};
}

/* A period that ends no sentence, since a comma or the like follows it: "3 mm., then" */
static bool inside_sentence(const cp *c, int i)
{
    return c[i] == '.' && (among(c[i + 1], ",;:") || c[i + 1] == 0x3001);
}

static void match_word(const cp *c, const uint16_t *k, int i, su_ptb_token *t)
{
    static const char *const split3[] = {"gonna", "gotta", "lemme", "gimme", "wanna", NULL};
    int end, reach;
    end = literal(c, i, "cannot");
    offer(t, end ? end - 3 : 0, end, SU_PTB_WORD, NULL);
    end = one_of(c, i, split3);
    offer(t, end ? end - 2 : 0, end, SU_PTB_WORD, NULL);

    end = word(c, k, i);
    reach = end ? reduced_verb(c, end) : 0;
    offer(t, reach ? end : 0, reach, SU_PTB_WORD, NULL);
    int negative = negated(c, i, &reach);
    offer(t, negative, reach, SU_PTB_WORD, NULL);
    offer(t, end, end, SU_PTB_WORD, NULL);

    end = known_with_apostrophe(c, i, &reach);
    offer(t, end, reach, SU_PTB_RAW, NULL);
    end = irish(c, k, i);
    offer(t, end, end, SU_PTB_RAW, NULL);
    end = polynesian(c, k, i);
    offer(t, end, end, SU_PTB_RAW, NULL);
    end = reduced_not(c, i);
    offer(t, end, end, SU_PTB_QUOTED, NULL);

    end = url(c, i);
    offer(t, end, end, SU_PTB_RAW, NULL);
    end = www(c, i);
    offer(t, end, end, SU_PTB_RAW, NULL);

    end = mail(c, i);
    offer(t, end, end, SU_PTB_RAW, NULL);

    int dotted = acronym(c, i);
    if (dotted) {
        reach = sentence_after_acronym(c, dotted);
        offer_sentence_end(t, reach ? dotted : 0, reach, SU_PTB_RAW);
        offer(t, dotted, dotted, SU_PTB_RAW, NULL);
    }
    if (alpha(c[i]) && c[i + 1] == '.') {
        reach = sentence_after_acronym(c, i + 2);
        offer(t, reach ? i + 1 : 0, reach, SU_PTB_RAW, NULL);
        offer(t, i + 2, i + 2, SU_PTB_RAW, NULL);
    }
    end = abbreviation(c, i, ending_abbreviations);
    if (end) {
        reach = sentence_after(c, k, end);
        offer_sentence_end(t, reach ? end : 0, reach, SU_PTB_WORD);
        reach = c[end] != SU_PTB_END && c[end + 1] != SU_PTB_END ? end + 2 : 0;
        offer(t, reach ? end : 0, reach, SU_PTB_WORD, NULL);
        offer_sentence_end(t, end, end, SU_PTB_WORD);
    }
    end = word(c, k, i);
    offer(t, end && inside_sentence(c, end) ? end + 1 : 0, end + 2, SU_PTB_WORD, NULL);
    end = abbreviation(c, i, leading_abbreviations);
    offer(t, end, end, SU_PTB_WORD, NULL);
    end = abbreviation(c, i, numbered_abbreviations);
    if (end) {
        reach = end + space_or_newline(c[end]);
        offer(t, k[reach] & SU_PTB_DIGIT ? end : 0, reach + 1, SU_PTB_WORD, NULL);
    }
    end = ampersand(c, i);
    offer(t, end, end, SU_PTB_QUOTED, NULL);
    offer(t, end && inside_sentence(c, end) ? end + 1 : 0, end + 2, SU_PTB_QUOTED, NULL);
    if (among(c[i], "cCfF") && c[i + 1] == '#') offer(t, i + 2, i + 2, SU_PTB_RAW, NULL);
    if (among(c[i], "cC") && c[i + 1] == '+' && c[i + 2] == '+') offer(t, i + 3, i + 3, SU_PTB_RAW, NULL);
}

static void match_number(const cp *c, const uint16_t *k, int i, su_ptb_token *t)
{
    int end = date(c, k, i);
    offer(t, end, end, SU_PTB_WORD, NULL);
    end = number(c, k, i);
    offer(t, end, end, SU_PTB_WORD, NULL);
    end = fraction(c, k, i);
    offer(t, end, end, SU_PTB_SPACED, NULL);
    end = phone(c, i);
    offer(t, end, end, SU_PTB_SPACED, NULL);
}

/* What letters and digits begin alike. */
static void match_mixed(const cp *c, const uint16_t *k, int i, su_ptb_token *t)
{
    int end = hyphenated(c, k, i);
    offer(t, end, end, SU_PTB_RAW, NULL);
    offer(t, end && inside_sentence(c, end) ? end + 1 : 0, end + 2, SU_PTB_RAW, NULL);
    end = slashed(c, i);
    offer(t, end, end, SU_PTB_RAW, NULL);
    end = hyphenated_number(c, i);
    offer(t, end, end, SU_PTB_WORD, NULL);
    offer(t, end && inside_sentence(c, end) ? end + 1 : 0, end + 2, SU_PTB_WORD, NULL);
    end = mail(c, i);
    offer(t, end, end, SU_PTB_RAW, NULL);
    end = asian_face(c, i);
    offer(t, end, end, SU_PTB_SPACED, NULL);
}

/* White space that leaves "'n" a word of its own; other white space makes it ` and n. */
static bool blank_behind_quote(cp c)
{
    return c == SU_PTB_END || among(c, " \t\r\n") || c == NO_BREAK_SPACE;
}

static void match_apostrophe(const cp *c, const uint16_t *k, int i, su_ptb_token *t)
{
    int end, reach;
    if (c[i] == '\'' && (c[i + 1] | 32) == 't' && (literal(c, i + 2, "is") || literal(c, i + 2, "was"))) {
        reach = literal(c, i + 2, "is");
        offer(t, i + 2, reach ? reach : i + 5, SU_PTB_WORD, NULL);
    }
    int verb = reduced_verb(c, i);
    if (verb && c[verb] != SU_PTB_END && !alpha(c[verb])) offer(t, verb, verb + 1, SU_PTB_QUOTED, NULL);
    end = known_with_apostrophe(c, i, &reach);
    offer(t, end, reach, SU_PTB_RAW, NULL);
    if (c[i] == '\'' && c[i + 1] == '\'') offer(t, i + 2, i + 2, SU_PTB_TEXT, "''");
    if (c[i] == '\'' && alpha(c[i + 1]) && !blank_behind_quote(c[i + 2]))
        offer(t, i + 1, i + 3, SU_PTB_TEXT, "`");
    offer(t, verb, verb, SU_PTB_QUOTED, NULL);
    end = apostrophe(c, i);
    if (digit09(c[end]) && digit09(c[end + 1]) && space_or_newline(c[end + 2])) /* '90 */
        offer(t, end + 2, end + 3, SU_PTB_RAW, NULL);
    offer(t, end, end, SU_PTB_TEXT, "'");
    (void)k;
}

static void match_punctuation(const cp *c, const uint16_t *k, int i, su_ptb_token *t)
{
    static const struct {
        cp c;
        const char *text;
    } single[] = {{'(', "-lrb-"},  {')', "-rrb-"},  {'[', "-lsb-"}, {']', "-rsb-"}, {'{', "-lcb-"},
                  {'}', "-rcb-"},  {0xA2, "cents"}, {0xA3, "#"},    {0x80, "$"},    {0xA4, "$"},
                  {0x20A0, "$"},   {0x20AC, "$"},   {0xBC, "1/4"},  {0xBD, "1/2"},  {0xBE, "3/4"},
                  {0x2153, "1/3"}, {0x2154, "2/3"}, {0x2026, "..."}};
    for (size_t n = 0; n < sizeof single / sizeof *single; n++)
        if (c[i] == single[n].c) offer(t, i + 1, i + 1, SU_PTB_TEXT, single[n].text);
    if (dash(c[i])) offer(t, i + 1, i + 1, SU_PTB_TEXT, "--");
    if (curly_quote(c[i])) {
        int end = i + 1 + (curly_quote(c[i + 1]) || c[i + 1] == '`');
        offer(t, end, end, SU_PTB_QUOTED, NULL);
    }
    int end = superscript(c, i);
    offer(t, end, end, SU_PTB_RAW, NULL);
    if (k[i] & SU_PTB_SYMBOL) offer(t, i + 1, i + 1, SU_PTB_RAW, NULL);
}

static void match_entity(const cp *c, int i, su_ptb_token *t)
{
    static const struct {
        const char *name, *text;
    } names[] = {{"&amp;", "&"},    {"&lt;", "<"},  {"&gt;", ">"},   {"&mdash;", "--"},
                 {"&ndash;", "--"}, {"&md;", "--"}, {"&nbsp;", NULL}};
    int end = mail(c, i);
    offer(t, end, end, SU_PTB_RAW, NULL);
    for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
        end = literal(c, i, names[n].name);
        offer(t, end, end, names[n].text ? SU_PTB_TEXT : SU_PTB_NONE, names[n].text);
    }
    end = literal(c, i, "&quot;");
    bool exact = end && c[i + 1] == 'q' && c[i + 2] == 'u' && c[i + 3] == 'o' && c[i + 4] == 't';
    if (end && opens(c[end])) offer(t, end, end + 1, exact ? SU_PTB_TEXT : SU_PTB_RAW, "``");
    offer(t, end, end, exact ? SU_PTB_TEXT : SU_PTB_RAW, "''");
    end = entity(c, i);
    offer(t, end, end, SU_PTB_RAW, NULL);
}

static void match_ascii(const cp *c, const uint16_t *k, int i, su_ptb_token *t)
{
    int end;
    switch (c[i]) {
    case '"':
        if (opens(c[i + 1])) offer(t, i + 1, i + 2, SU_PTB_TEXT, "``");
        offer(t, i + 1, i + 1, SU_PTB_TEXT, "''");
        break;
    case '`':
        end = i + 1 + (c[i + 1] == '`' || curly_quote(c[i + 1]));
        offer(t, end, end, SU_PTB_QUOTED, NULL);
        break;
    case '&':
        match_entity(c, i, t);
        break;
    case '.':
        end = ellipsis(c, i);
        offer(t, end, end, SU_PTB_TEXT, "...");
        break;
    case '!':
    case '?':
        end = run_of(c, i, "!?");
        offer(t, end, end, SU_PTB_RAW, NULL);
        break;
    case '-':
        end = run_of(c, i, "-");
        offer(t, end, end, end - i == 1 || end - i > 4 ? SU_PTB_RAW : SU_PTB_TEXT, "--");
        break;
    case '#':
        end = topic(c, k, i);
        offer(t, end, end, SU_PTB_RAW, NULL);
        end = run_of(c, i, "#");
        offer(t, end, end, SU_PTB_RAW, NULL);
        break;
    case '\\':
        for (end = i; end < i + 6 && c[end] == '\\' && c[end + 1] == '*';) end += 2;
        offer(t, end > i ? end : 0, end, SU_PTB_RAW, NULL);
        break;
    case '*':
        end = run_of(c, i, "*");
        offer(t, end, end, SU_PTB_RAW, NULL);
        break;
    case '_':
        end = run_of(c, i, "_");
        offer(t, end, end, SU_PTB_RAW, NULL);
        break;
    case '@':
        end = account(c, i);
        offer(t, end, end, SU_PTB_RAW, NULL);
        end = run_of(c, i, "@");
        offer(t, end, end, SU_PTB_RAW, NULL);
        break;
    case '<':
    case '>':
        end = tag(c, i);
        offer(t, end, end, SU_PTB_TAG, NULL);
        end = c[i] == '<' ? mail(c, i) : 0;
        offer(t, end, end, SU_PTB_RAW, NULL);
        end = i + 1 + (c[i + 1] == c[i]);
        offer(t, end, end, SU_PTB_RAW, NULL);
        break;
    default:
        break;
    }
    end = smiley(c, i);
    offer(t, end, end + 1, SU_PTB_SPACED, NULL);
    end = asian_face(c, i);
    offer(t, end, end, SU_PTB_SPACED, NULL);
}

/* US$ */
static int dollar(const cp *c, int i)
{
    int end = i;
    while (upper(c[end])) end++;
    return c[end] == '$' ? end + 1 : 0;
}

int su_ptb_blank(const uint32_t *c, int i)
{
    int end = i, address = site(c, i);
    while (space(c[end])) end++;
    return address > end ? i : end;
}

su_ptb_token su_ptb_match(const uint32_t *c, const uint16_t *k, int i)
{
    su_ptb_token t = {i + 1, i + 1, i, SU_PTB_NONE, NULL};
    if (word_char(k[i], c[i]) || c[i] == '&') match_word(c, k, i, &t);
    if (apostrophe(c, i)) match_apostrophe(c, k, i, &t);
    if (k[i] & SU_PTB_DIGIT || among(c[i], "-+.:,(") || c[i] == 0x66B || c[i] == 0x66C || c[i] == SOFT_HYPHEN)
        match_number(c, k, i, &t);
    if (word_char(k[i], c[i]) || k[i] & SU_PTB_DIGIT || c[i] == '&') {
        int end = file_name(c, k, i);
        offer(&t, end, end + 1, SU_PTB_RAW, NULL);
    }
    if (letter_or_digit(k[i])) match_mixed(c, k, i, &t);
    if (upper(c[i]) || c[i] == '$') {
        int end = dollar(c, i);
        offer(&t, end, end, SU_PTB_RAW, NULL);
    }
    if (c[i] < 128 && !alnum(c[i])) match_ascii(c, k, i, &t);
    match_punctuation(c, k, i, &t);
    int end = site(c, i);
    offer(&t, end, end, SU_PTB_RAW, NULL);
    return t;
}
