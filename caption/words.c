#include "caption/words.h"
#include "base/memory.h"
#include <ctype.h>
#include <string.h>

/* --- detokenisation ------------------------------------------------------------------------------------ */

static bool one_of(const char *token, const char *set)
{
    return token[0] && !token[1] && strchr(set, token[0]) != NULL;
}

static bool starts_alnum(const char *token)
{
    return isalnum((unsigned char)token[0]) || (unsigned char)token[0] >= 0x80;
}

static bool digits_only(const char *token)
{
    if (!*token) return false;
    for (; *token; token++)
        if (!isdigit((unsigned char)*token)) return false;
    return true;
}

/* Without the mark of a continued word. */
static const char *bare(const char *token)
{
    return !strncmp(token, "##", 2) && token[2] ? token + 2 : token;
}

/* Is there a space between `left` and `right`? before: what stands before left, after: what follows right; ""
 * at the ends. */
static bool spaced(const char *before, const char *left, const char *right, const char *after)
{
    if (one_of(right, ".,;:?!)]}%") || one_of(left, "([{")) return false;
    if (one_of(left, ".,") && digits_only(before) && digits_only(right)) return false;
    if (one_of(right, "-/") && starts_alnum(left) && starts_alnum(after)) return false;
    if (one_of(left, "-/") && starts_alnum(before) && starts_alnum(right)) return false;
    if (one_of(right, "'") && starts_alnum(left) && starts_alnum(after)) return false;
    if (one_of(left, "'") && starts_alnum(before) && starts_alnum(right)) return false;
    return true;
}

static bool is_control(const su_wordpiece *wp, int32_t id)
{
    return id == su_wordpiece_pad(wp) || id == su_wordpiece_unk(wp) || id == su_wordpiece_cls(wp) ||
           id == su_wordpiece_sep(wp) || id == su_wordpiece_mask(wp) || !su_wordpiece_token(wp, id);
}

char *su_caption_text(const su_wordpiece *wp, const int32_t *ids, int32_t count)
{
    su_buffer text;
    su_buffer_init(&text, 1 << 20);
    const char **words = su_alloc((size_t)count + 4, sizeof *words);
    int32_t n = 0;
    su_status st = words ? SU_OK : SU_ENOMEM;
    if (!st) {
        for (int32_t i = 0; i < count; i++)
            if (!is_control(wp, ids[i])) words[n++] = su_wordpiece_token(wp, ids[i]);
        words[n] = words[n + 1] = "";
    }
    for (int32_t i = 0; i < n && !st; i++) {
        bool piece = !strncmp(words[i], "##", 2) && words[i][2];
        if (i && !piece &&
            spaced(i > 1 ? bare(words[i - 2]) : "", bare(words[i - 1]), words[i], bare(words[i + 1])))
            st = su_buffer_add(&text, " ", 1, NULL);
        const char *word = bare(words[i]);
        if (!st) st = su_buffer_add(&text, word, strlen(word), NULL);
    }
    su_free(words);
    if (!st && text.length) return text.data;
    su_buffer_free(&text);
    return st ? NULL : su_strdup("");
}

/* --- phrases ------------------------------------------------------------------------------------------- */

void su_phrases_free(su_phrases *p)
{
    su_free(p->tokens);
    su_free(p->start);
    *p = (su_phrases){0};
}

su_status su_phrases_new(const su_wordpiece *wp, const char *const *words, int32_t count, bool control,
                         su_phrases *p, su_error *err)
{
    const int32_t controls[] = {su_wordpiece_pad(wp), su_wordpiece_unk(wp), su_wordpiece_cls(wp),
                                su_wordpiece_mask(wp)};
    enum { CONTROLS = sizeof controls / sizeof *controls };
    size_t room = control ? CONTROLS : 0;
    for (int32_t i = 0; i < count; i++) room += strlen(words[i]);
    *p = (su_phrases){.tokens = su_alloc(room + 1, sizeof *p->tokens),
                      .start = su_calloc((size_t)count + CONTROLS + 1, sizeof *p->start)};
    if (!p->tokens || !p->start) {
        su_phrases_free(p);
        return su_fail(err, SU_ENOMEM, "no memory for a list of phrases");
    }
    int32_t n = 0;
    for (int32_t i = 0; control && i < CONTROLS; i++) {
        p->tokens[n++] = controls[i];
        p->start[++p->count] = n;
    }
    for (int32_t i = 0; i < count; i++) {
        int64_t tokens = 0;
        bool unknown = false;
        su_status st = su_wordpiece_encode(wp, words[i], strlen(words[i]), p->tokens + n,
                                           (int64_t)room - n + 1, &tokens, err);
        for (int64_t t = 0; t < tokens && !st; t++) unknown |= p->tokens[n + t] == su_wordpiece_unk(wp);
        if (!st && (tokens == 0 || unknown))
            st = su_fail(err, SU_EINVAL, "\"%s\" cannot be written with this model's vocabulary", words[i]);
        if (st) {
            su_phrases_free(p);
            return st;
        }
        n += (int32_t)tokens;
        p->start[++p->count] = n;
    }
    return SU_OK;
}
