#include "eval/ptb_patterns.h"

/* ---- words ------------------------------------------------------------------------------------------- */

/* One letter of a word; also "&eacute;" and its kin. */
int su_ptb_word_letter(const cp *c, const uint16_t *k, int i)
{
    static const char *const marks[] = {"acute;", "grave;", "uml;", NULL};
    if (word_char(k[i], c[i])) return i + 1;
    return c[i] == '&' && vowel(c[i + 1]) ? one_of(c, i + 2, marks) : 0;
}

/* letter (letter | digit)* */
static int word_run(const cp *c, const uint16_t *k, int i)
{
    int end = su_ptb_word_letter(c, k, i);
    for (int next = end; next; next = k[end] & SU_PTB_DIGIT ? end + 1 : su_ptb_word_letter(c, k, end))
        end = next;
    return end;
}

/* run ([.!?] run)*: "a.b" and "no!yes" are one word */
int su_ptb_word(const cp *c, const uint16_t *k, int i)
{
    int end = word_run(c, k, i);
    for (int next = end; next; next = among(c[end], ".!?") ? word_run(c, k, end + 1) : 0) end = next;
    return end;
}

/* 's 'd 'm 're 've 'll */
int su_ptb_reduced_verb(const cp *c, int i)
{
    static const char *const pairs[] = {"re", "ve", "ll", NULL};
    int end = apostrophe(c, i);
    if (!end) return 0;
    if (among(c[end], "msdMSD")) return end + 1;
    return one_of(c, end, pairs);
}

/* n't */
int su_ptb_reduced_not(const cp *c, int i)
{
    int end = (c[i] | 32) == 'n' ? quote_in_word(c, i + 1) : 0;
    return end && (c[end] | 32) == 't' ? end + 1 : 0;
}

/* A word in front of n't: letters of which the last, soft hyphens apart, is no n. Its end is given, and
 * *reach behind the t. */
int su_ptb_negated(const cp *c, int i, int *reach)
{
    int n = i;
    while (alpha(c[n]) || c[n] == SOFT_HYPHEN) n++;
    n--;
    *reach = n > i ? su_ptb_reduced_not(c, n) : 0;
    int last = n - 1;
    while (last > i && c[last] == SOFT_HYPHEN) last--;
    return *reach && alpha(c[last]) && (c[last] | 32) != 'n' ? n : 0;
}

/* O'Brien: a capital (or n) in front of two letters at least. I and Y are left to I'm and y'all. */
int su_ptb_irish(const cp *c, const uint16_t *k, int i)
{
    if (!(c[i] == 'n' || (upper(c[i]) && c[i] != 'I' && c[i] != 'Y'))) return 0;
    int end = quote_in_word(c, i + 1), n = 0;
    if (!end) return 0;
    for (; k[end] & SU_PTB_LETTER; end++) n++;
    return n >= 2 ? end : 0;
}

/* Hawai'i: letters, a vowel, an apostrophe, a vowel or a capital, letters */
int su_ptb_polynesian(const cp *c, const uint16_t *k, int i)
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
int su_ptb_known_with_apostrophe(const cp *c, int i, int *reach)
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
int su_ptb_hyphenated(const cp *c, const uint16_t *k, int i)
{
    int end = piece(c, k, i);
    for (int next = end; next; next = hyphen(c[end]) ? piece(c, k, end + 1) : 0) end = next;
    return end;
}

/* a.b. (pairs of a letter and a period), at least two letters: the end behind the last period or letter */
int su_ptb_acronym(const cp *c, int i)
{
    int end = i;
    while (alpha(c[end]) && c[end + 1] == '.') end += 2;
    return end - i >= 4 ? end : 0;
}

/* 1,000-ton, e.g.-like, U.S.-led, 5-a.m. */
int su_ptb_hyphenated_number(const cp *c, int i)
{
    if (!alnum(c[i])) return 0;
    int at = i + 1, end = 0;
    while (alnum(c[at]) || c[at] == '.' || c[at] == ',' || c[at] == SOFT_HYPHEN) at++;
    while (c[at] == '-') {
        int run = at + 1, dotted = su_ptb_acronym(c, at + 1);
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
int su_ptb_slashed(const cp *c, int i)
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
int su_ptb_ampersand(const cp *c, int i)
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
int su_ptb_file_name(const cp *c, const uint16_t *k, int i)
{
    static const char *const endings[] = {"bat", "bmp", "c",   "cgi", "class", "cpp",  "dll", "doc",  "docx",
                                          "exe", "gif", "gz",  "h",   "htm",   "html", "jar", "java", "jpeg",
                                          "jpg", "mov", "mp3", "pdf", "php",   "pl",   "png", "ppt",  "ps",
                                          "py",  "sql", "tar", "txt", "wav",   "x",    "xml", "zip",  NULL};
    int end = 0;
    for (int at = i;;) {
        int run = at, next;
        while ((next = k[run] & SU_PTB_DIGIT ? run + 1 : su_ptb_word_letter(c, k, run))) run = next;
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
const char *const su_ptb_ending_abbreviations[] = {
    "al",   "Az",   "co",   "ct",   "ga",    "jr",    "ky",    "La",    "md",   "mo",   "Pa",   "rd",
    "rt",   "sq",   "sr",   "va",   "vt",    "ala",   "apr",   "Ark",   "aug",  "bhd",  "cos",  "dak",
    "dec",  "Del",  "esq",  "est",  "etc",   "ext",   "feb",   "fla",   "fri",  "Ill",  "inc",  "ind",
    "jan",  "jul",  "jun",  "kan",  "ltd",   "mar",   "mon",   "neb",   "nev",  "nov",  "oct",  "Ore",
    "plc",  "pte",  "pty",  "sep",  "seq",   "sys",   "tel",   "Tex",   "thu",  "tue",  "wed",  "wis",
    "wyo",  "ariz", "assn", "bldg", "blvd",  "bros",  "colo",  "conn",  "corp", "intl", "kans", "Mass",
    "mich", "minn", "Miss", "mont", "okla",  "penn",  "ppte",  "ppty",  "ptes", "ptys", "sept", "tenn",
    "tues", "univ", "Wash", "wisc", "calif", "pptes", "pptys", "thurs", "ed.d", "ph.d", NULL};

/* Are followed by a name as a rule, and never end one. */
const char *const su_ptb_leading_abbreviations[] = {
    "cf",    "dr",    "ft",    "lt",    "mr",    "ms",     "mt",   "ph",   "st",   "vs",   "wm",    "adj",
    "adm",   "adv",   "ave",   "cie",   "col",   "cpl",    "det",  "drs",  "ens",  "gen",  "gov",   "hon",
    "jos",   "maj",   "mfg",   "mme",   "mrs",   "mtg",    "pfc",  "pvt",  "rep",  "rev",  "sen",   "sfc",
    "sgt",   "spc",   "ste",   "alex",  "asst",  "atty",   "brig", "capt", "cmdr", "dept", "elec",  "govs",
    "insp",  "invt",  "mlle",  "msgr",  "natl",  "pres",   "prof", "reps", "sens", "supt", "assoc", "attys",
    "comdr", "lieut", "profs", "supts", "treas", "messrs", NULL};

/* Only in front of a number. */
const char *const su_ptb_numbered_abbreviations[] = {"art", "ca", "fig", "figs", "no",
                                                     "nos", "op", "pp",  "prop", NULL};

/* The end behind the period that follows one of the list, or 0. */
int su_ptb_abbreviation(const cp *c, int i, const char *const *list)
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

/* The end of what tells that a sentence begins behind an acronym's period at i, or 0: white space and a word
 * that begins sentences, or a tag. */
int su_ptb_sentence_after_acronym(const cp *c, int i)
{
    int at = i;
    while (space_or_newline(c[at])) at++;
    if (at == i) return 0;
    if (c[at] == '<') {
        int end = su_ptb_tag(c, at);
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
int su_ptb_sentence_after(const cp *c, const uint16_t *k, int i)
{
    if (!space_or_newline(c[i])) return 0;
    if (space_or_newline(c[i + 1]) || k[i + 1] & SU_PTB_UPPER) return i + 2;
    return c[i + 1] == '<' ? su_ptb_tag(c, i + 1) : 0;
}
