/* Canonical licence names; see licence.h.
 *
 * A name is Creative Commons only when it says so and every word of it is known: "used by permission" must
 * not pass for BY, nor "CC BY, figures all rights reserved". */
#include "datasets/licence.h"
#include <ctype.h>
#include <stdio.h>
#include <string.h>

enum { BY = 1, NC = 2, ND = 4, SA = 8, ZERO = 16, CC = 32, NEUTRAL = 64 };

static const struct {
    const char *word;
    int meaning;
} words[] = {
    {"cc", CC},
    {"creative", CC},
    {"commons", NEUTRAL},
    {"creativecommons", CC},
    {"by", BY},
    {"attribution", BY},
    {"nc", NC},
    {"noncommercial", NC},
    {"nd", ND},
    {"noderivatives", ND},
    {"noderivs", ND},
    {"sa", SA},
    {"sharealike", SA},
    {"cc0", CC | ZERO},
    {"zero", ZERO},
    {"https", NEUTRAL},
    {"http", NEUTRAL},
    {"www", NEUTRAL},
    {"org", NEUTRAL},
    {"licenses", NEUTRAL},
    {"license", NEUTRAL},
    {"licence", NEUTRAL},
    {"publicdomain", NEUTRAL},
    {"universal", NEUTRAL},
    {"international", NEUTRAL},
    {"unported", NEUTRAL},
    {"generic", NEUTRAL},
    {"deed", NEUTRAL},
    {"legalcode", NEUTRAL},
};

static int meaning_of(const char *word)
{
    if (word[strspn(word, "0123456789")] == '\0') return NEUTRAL; /* of a version number */
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!strcmp(word, words[i].word)) return words[i].meaning;
    return 0;
}

static void canonical_of(const char *name, size_t length, char canonical[SU_LICENCE_MAX])
{
    int said = 0;
    bool known = true;
    size_t used = 0, i = 0;
    canonical[0] = '\0';
    for (;;) {
        char word[32];
        size_t n = 0;
        while (i < length && !isalnum((unsigned char)name[i])) i++;
        if (i == length) break;
        for (; i < length && isalnum((unsigned char)name[i]); i++)
            if (n + 1 < sizeof word) word[n++] = (char)tolower((unsigned char)name[i]);
        word[n] = '\0';
        int meaning = meaning_of(word);
        known = known && meaning != 0;
        said |= meaning;
        if (used + n + 2 < SU_LICENCE_MAX)
            used += (size_t)snprintf(canonical + used, SU_LICENCE_MAX - used, "%s%s", used ? "-" : "", word);
    }
    if (!known || !(said & CC)) return;
    if (said & ZERO && !(said & (BY | NC | ND | SA)))
        snprintf(canonical, SU_LICENCE_MAX, "cc0");
    else if (said & BY && !(said & ZERO))
        snprintf(canonical, SU_LICENCE_MAX, "cc-by%s%s%s", said & NC ? "-nc" : "", said & ND ? "-nd" : "",
                 said & SA ? "-sa" : "");
}

void su_licence_canonical(const char *name, char canonical[SU_LICENCE_MAX])
{
    canonical_of(name, strlen(name), canonical);
}

bool su_licence_in(const char *list, const char *licence)
{
    char wanted[SU_LICENCE_MAX], given[SU_LICENCE_MAX];
    su_licence_canonical(licence, given);
    if (!given[0]) return false;
    while (*list) {
        size_t length = strcspn(list, ",");
        canonical_of(list, length, wanted);
        if (!strcmp(wanted, given)) return true;
        list += length + (list[length] == ',');
    }
    return false;
}
