/* su_ptb_match asks the patterns that can begin with c[i] and takes the one that saw farthest; of two that saw equally far,
 * the one asked first. */
#include "eval/ptb_patterns.h"

/* ---- the choice ------------------------------------------------------------------------------------ */

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

/* Are two tokens each: can not, gon na. */
static const char cannot[] = "cannot", *const split3[] = {"gonna", "gotta", "lemme", "gimme", "wanna", NULL};

static void match_word(const cp *c, const uint16_t *k, int i, su_ptb_token *t)
{
    int end, reach;
    end = literal(c, i, cannot);
    offer(t, end ? end - 3 : 0, end, SU_PTB_WORD, NULL);
    end = one_of(c, i, split3);
    offer(t, end ? end - 2 : 0, end, SU_PTB_WORD, NULL);

    end = su_ptb_word(c, k, i);
    reach = end ? su_ptb_reduced_verb(c, end) : 0;
    offer(t, reach ? end : 0, reach, SU_PTB_WORD, NULL);
    int negative = su_ptb_negated(c, i, &reach);
    offer(t, negative, reach, SU_PTB_WORD, NULL);
    offer(t, end, end, SU_PTB_WORD, NULL);

    end = su_ptb_known_with_apostrophe(c, i, &reach);
    offer(t, end, reach, SU_PTB_RAW, NULL);
    end = su_ptb_irish(c, k, i);
    offer(t, end, end, SU_PTB_RAW, NULL);
    end = su_ptb_polynesian(c, k, i);
    offer(t, end, end, SU_PTB_RAW, NULL);
    end = su_ptb_reduced_not(c, i);
    offer(t, end, end, SU_PTB_QUOTED, NULL);

    end = su_ptb_url(c, i);
    offer(t, end, end, SU_PTB_RAW, NULL);
    end = su_ptb_www(c, i);
    offer(t, end, end, SU_PTB_RAW, NULL);

    end = su_ptb_mail(c, i);
    offer(t, end, end, SU_PTB_RAW, NULL);

    int dotted = su_ptb_acronym(c, i);
    if (dotted) {
        reach = su_ptb_sentence_after_acronym(c, dotted);
        offer_sentence_end(t, reach ? dotted : 0, reach, SU_PTB_RAW);
        offer(t, dotted, dotted, SU_PTB_RAW, NULL);
    }
    if (alpha(c[i]) && c[i + 1] == '.') {
        reach = su_ptb_sentence_after_acronym(c, i + 2);
        offer(t, reach ? i + 1 : 0, reach, SU_PTB_RAW, NULL);
        offer(t, i + 2, i + 2, SU_PTB_RAW, NULL);
    }
    end = su_ptb_abbreviation(c, i, su_ptb_ending_abbreviations);
    if (end) {
        reach = su_ptb_sentence_after(c, k, end);
        offer_sentence_end(t, reach ? end : 0, reach, SU_PTB_WORD);
        reach = c[end] != SU_PTB_END && c[end + 1] != SU_PTB_END ? end + 2 : 0;
        offer(t, reach ? end : 0, reach, SU_PTB_WORD, NULL);
        offer_sentence_end(t, end, end, SU_PTB_WORD);
    }
    end = su_ptb_word(c, k, i);
    offer(t, end && inside_sentence(c, end) ? end + 1 : 0, end + 2, SU_PTB_WORD, NULL);
    end = su_ptb_abbreviation(c, i, su_ptb_leading_abbreviations);
    offer(t, end, end, SU_PTB_WORD, NULL);
    end = su_ptb_abbreviation(c, i, su_ptb_numbered_abbreviations);
    if (end) {
        reach = end + space_or_newline(c[end]);
        offer(t, k[reach] & SU_PTB_DIGIT ? end : 0, reach + 1, SU_PTB_WORD, NULL);
    }
    end = su_ptb_ampersand(c, i);
    offer(t, end, end, SU_PTB_QUOTED, NULL);
    offer(t, end && inside_sentence(c, end) ? end + 1 : 0, end + 2, SU_PTB_QUOTED, NULL);
    if (among(c[i], "cCfF") && c[i + 1] == '#') offer(t, i + 2, i + 2, SU_PTB_RAW, NULL);
    if (among(c[i], "cC") && c[i + 1] == '+' && c[i + 2] == '+') offer(t, i + 3, i + 3, SU_PTB_RAW, NULL);
}

static void match_number(const cp *c, const uint16_t *k, int i, su_ptb_token *t)
{
    int end = su_ptb_date(c, k, i);
    offer(t, end, end, SU_PTB_WORD, NULL);
    end = su_ptb_number(c, k, i);
    offer(t, end, end, SU_PTB_WORD, NULL);
    end = su_ptb_fraction(c, k, i);
    offer(t, end, end, SU_PTB_SPACED, NULL);
    end = su_ptb_phone(c, i);
    offer(t, end, end, SU_PTB_SPACED, NULL);
}

/* What letters and digits begin alike. */
static void match_mixed(const cp *c, const uint16_t *k, int i, su_ptb_token *t)
{
    int end = su_ptb_hyphenated(c, k, i);
    offer(t, end, end, SU_PTB_RAW, NULL);
    offer(t, end && inside_sentence(c, end) ? end + 1 : 0, end + 2, SU_PTB_RAW, NULL);
    end = su_ptb_slashed(c, i);
    offer(t, end, end, SU_PTB_RAW, NULL);
    end = su_ptb_hyphenated_number(c, i);
    offer(t, end, end, SU_PTB_WORD, NULL);
    offer(t, end && inside_sentence(c, end) ? end + 1 : 0, end + 2, SU_PTB_WORD, NULL);
    end = su_ptb_mail(c, i);
    offer(t, end, end, SU_PTB_RAW, NULL);
    end = su_ptb_asian_face(c, i);
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
    int verb = su_ptb_reduced_verb(c, i);
    if (verb && c[verb] != SU_PTB_END && !alpha(c[verb])) offer(t, verb, verb + 1, SU_PTB_QUOTED, NULL);
    end = su_ptb_known_with_apostrophe(c, i, &reach);
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
    if (su_ptb_curly_quote(c[i])) {
        int end = i + 1 + (su_ptb_curly_quote(c[i + 1]) || c[i + 1] == '`');
        offer(t, end, end, SU_PTB_QUOTED, NULL);
    }
    int end = su_ptb_superscript(c, i);
    offer(t, end, end, SU_PTB_RAW, NULL);
    if (k[i] & SU_PTB_SYMBOL) offer(t, i + 1, i + 1, SU_PTB_RAW, NULL);
}

static void match_entity(const cp *c, int i, su_ptb_token *t)
{
    static const struct {
        const char *name, *text;
    } names[] = {{"&amp;", "&"},    {"&lt;", "<"},  {"&gt;", ">"},   {"&mdash;", "--"},
                 {"&ndash;", "--"}, {"&md;", "--"}, {"&nbsp;", NULL}};
    int end = su_ptb_mail(c, i);
    offer(t, end, end, SU_PTB_RAW, NULL);
    for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
        end = literal(c, i, names[n].name);
        offer(t, end, end, names[n].text ? SU_PTB_TEXT : SU_PTB_NONE, names[n].text);
    }
    end = literal(c, i, "&quot;");
    bool exact = end && c[i + 1] == 'q' && c[i + 2] == 'u' && c[i + 3] == 'o' && c[i + 4] == 't';
    if (end && su_ptb_opens(c[end])) offer(t, end, end + 1, exact ? SU_PTB_TEXT : SU_PTB_RAW, "``");
    offer(t, end, end, exact ? SU_PTB_TEXT : SU_PTB_RAW, "''");
    end = su_ptb_entity(c, i);
    offer(t, end, end, SU_PTB_RAW, NULL);
}

static void match_ascii(const cp *c, const uint16_t *k, int i, su_ptb_token *t)
{
    int end;
    switch (c[i]) {
    case '"':
        if (su_ptb_opens(c[i + 1])) offer(t, i + 1, i + 2, SU_PTB_TEXT, "``");
        offer(t, i + 1, i + 1, SU_PTB_TEXT, "''");
        break;
    case '`':
        end = i + 1 + (c[i + 1] == '`' || su_ptb_curly_quote(c[i + 1]));
        offer(t, end, end, SU_PTB_QUOTED, NULL);
        break;
    case '&':
        match_entity(c, i, t);
        break;
    case '.':
        end = su_ptb_ellipsis(c, i);
        offer(t, end, end, SU_PTB_TEXT, "...");
        break;
    case '!':
    case '?':
        end = su_ptb_run_of(c, i, "!?");
        offer(t, end, end, SU_PTB_RAW, NULL);
        break;
    case '-':
        end = su_ptb_run_of(c, i, "-");
        offer(t, end, end, end - i == 1 || end - i > 4 ? SU_PTB_RAW : SU_PTB_TEXT, "--");
        break;
    case '#':
        end = su_ptb_topic(c, k, i);
        offer(t, end, end, SU_PTB_RAW, NULL);
        end = su_ptb_run_of(c, i, "#");
        offer(t, end, end, SU_PTB_RAW, NULL);
        break;
    case '\\':
        for (end = i; end < i + 6 && c[end] == '\\' && c[end + 1] == '*';) end += 2;
        offer(t, end > i ? end : 0, end, SU_PTB_RAW, NULL);
        break;
    case '*':
        end = su_ptb_run_of(c, i, "*");
        offer(t, end, end, SU_PTB_RAW, NULL);
        break;
    case '_':
        end = su_ptb_run_of(c, i, "_");
        offer(t, end, end, SU_PTB_RAW, NULL);
        break;
    case '@':
        end = su_ptb_account(c, i);
        offer(t, end, end, SU_PTB_RAW, NULL);
        end = su_ptb_run_of(c, i, "@");
        offer(t, end, end, SU_PTB_RAW, NULL);
        break;
    case '<':
    case '>':
        end = su_ptb_tag(c, i);
        offer(t, end, end, SU_PTB_TAG, NULL);
        end = c[i] == '<' ? su_ptb_mail(c, i) : 0;
        offer(t, end, end, SU_PTB_RAW, NULL);
        end = i + 1 + (c[i + 1] == c[i]);
        offer(t, end, end, SU_PTB_RAW, NULL);
        break;
    default:
        break;
    }
    end = su_ptb_smiley(c, i);
    offer(t, end, end + 1, SU_PTB_SPACED, NULL);
    end = su_ptb_asian_face(c, i);
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
    if (!space(c[i])) return i;
    int end = i, address = su_ptb_site(c, i);
    while (space(c[end])) end++;
    return address > end ? i : end;
}

/* The end of a plain word, ASCII letters in front of a space; 0 when there is none at i, or a part of it may be a token.
 * Most tokens are plain, and no pattern sees farther than they end: each that begins with letters goes on behind them only
 * with one of ' . : @ & + - / # $ _ and the like. */
static int plain_word(const cp *c, int i)
{
    int end = i;
    while (alpha(c[end])) end++;
    if (end == i || c[end] != ' ') return 0;
    return (end - i == 5 && one_of(c, i, split3)) || (end - i == 6 && literal(c, i, cannot)) ? 0 : end;
}

su_ptb_token su_ptb_match(const uint32_t *c, const uint16_t *k, int i)
{
    su_ptb_token t = {i + 1, i + 1, i, SU_PTB_NONE, NULL};
    int plain = plain_word(c, i);
    if (plain) return (su_ptb_token){plain, plain, plain, SU_PTB_WORD, NULL};
    if (word_char(k[i], c[i]) || c[i] == '&') match_word(c, k, i, &t);
    if (apostrophe(c, i)) match_apostrophe(c, k, i, &t);
    if (k[i] & SU_PTB_DIGIT || among(c[i], "-+.:,(") || c[i] == 0x66B || c[i] == 0x66C || c[i] == SOFT_HYPHEN)
        match_number(c, k, i, &t);
    if (word_char(k[i], c[i]) || k[i] & SU_PTB_DIGIT || c[i] == '&') {
        int end = su_ptb_file_name(c, k, i);
        offer(&t, end, end + 1, SU_PTB_RAW, NULL);
    }
    if (letter_or_digit(k[i])) match_mixed(c, k, i, &t);
    if (upper(c[i]) || c[i] == '$') {
        int end = dollar(c, i);
        offer(&t, end, end, SU_PTB_RAW, NULL);
    }
    if (c[i] < 128 && !alnum(c[i])) match_ascii(c, k, i, &t);
    match_punctuation(c, k, i, &t);
    int end = su_ptb_site(c, i);
    offer(&t, end, end, SU_PTB_RAW, NULL);
    return t;
}
