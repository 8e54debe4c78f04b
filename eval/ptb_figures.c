#include "eval/ptb_patterns.h"

/* ---- numbers ----------------------------------------------------------------------------------------- */

static int digits(const uint16_t *k, int i, int most)
{
    int end = i;
    while (end - i < most && k[end] & SU_PTB_DIGIT) end++;
    return end;
}

/* 1 -1.5 +1,000 .5 10:30 */
int su_ptb_number(const cp *c, const uint16_t *k, int i)
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
int su_ptb_fraction(const cp *c, const uint16_t *k, int i)
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
int su_ptb_date(const cp *c, const uint16_t *k, int i)
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

int su_ptb_superscript(const cp *c, int i)
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
int su_ptb_phone(const cp *c, int i)
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
    if (!digit09(c[at])) return 0;
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
int su_ptb_url(const cp *c, int i)
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
int su_ptb_www(const cp *c, int i)
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
int su_ptb_site(const cp *c, int i)
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
int su_ptb_mail(const cp *c, int i)
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
int su_ptb_account(const cp *c, int i)
{
    if (c[i] != '@' || !(alpha(c[i + 1]) || c[i + 1] == '_')) return 0;
    int end = i + 2;
    while (alnum(c[end]) || c[end] == '_') end++;
    return end;
}

/* #letters */
int su_ptb_topic(const cp *c, const uint16_t *k, int i)
{
    if (c[i] != '#') return 0;
    int end = i + 1;
    for (int next; (next = su_ptb_word_letter(c, k, end)); end = next) {
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
int su_ptb_tag(const cp *c, int i)
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
int su_ptb_entity(const cp *c, int i)
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
int su_ptb_smiley(const cp *c, int i)
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
int su_ptb_asian_face(const cp *c, int i)
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

int su_ptb_run_of(const cp *c, int i, const char *set)
{
    while (among(c[i], set)) i++;
    return i;
}

/* ... and . . . */
int su_ptb_ellipsis(const cp *c, int i)
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

bool su_ptb_curly_quote(cp c)
{
    return (c >= 0x91 && c <= 0x94) || (c >= 0x2018 && c <= 0x201F) || c == 0xAB || c == 0xBB ||
           c == 0x2039 || c == 0x203A;
}

/* Which of two quotation marks a straight one is: an opening one stands in front of a word. */
bool su_ptb_opens(cp c)
{
    return alnum(c) || c == '$';
}
