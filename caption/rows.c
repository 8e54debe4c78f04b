#include "caption/rows.h"
#include <string.h>

/* --- texts --------------------------------------------------------------------------------------------- */

su_status su_texts_new(int64_t count, int32_t max, su_texts *t, su_error *err)
{
    *t = (su_texts){.count = count, .max = max};
    t->tokens = su_alloc((size_t)(count > 0 ? count : 1) * (size_t)max, sizeof *t->tokens);
    t->lengths = su_calloc((size_t)(count > 0 ? count : 1), sizeof *t->lengths);
    if (t->tokens && t->lengths) return SU_OK;
    su_texts_free(t);
    return su_fail(err, SU_ENOMEM, "no memory for the tokens of %lld texts", (long long)count);
}

su_status su_texts_set(su_texts *t, int64_t i, const su_wordpiece *wp, const char *text, su_error *err)
{
    int64_t count = 0;
    su_status st = su_wordpiece_encode(wp, text, strlen(text), t->tokens + (size_t)i * (size_t)t->max, t->max,
                                       &count, err);
    t->lengths[i] = count < t->max ? (int32_t)count : t->max;
    return st;
}

void su_texts_free(su_texts *t)
{
    su_free(t->tokens);
    su_free(t->lengths);
    *t = (su_texts){0};
}

/* --- evidence ------------------------------------------------------------------------------------------ */

su_status su_evidence_row_new(int32_t pieces, int32_t max, su_evidence_row *r, su_error *err)
{
    *r = (su_evidence_row){.max = max, .room = pieces * (max + 1)};
    size_t n = r->room > 0 ? (size_t)r->room : 1;
    r->ids = su_alloc(n, sizeof *r->ids);
    r->position = su_alloc(n, sizeof *r->position);
    r->type = su_alloc(n, sizeof *r->type);
    r->prefix = (su_prefix){.ids = r->ids, .position = r->position, .type = r->type};
    if (r->ids && r->position && r->type) return SU_OK;
    su_evidence_row_free(r);
    return su_fail(err, SU_ENOMEM, "no memory for evidence");
}

void su_evidence_row_free(su_evidence_row *r)
{
    su_free(r->ids);
    su_free(r->position);
    su_free(r->type);
    *r = (su_evidence_row){0};
}

void su_evidence_row_clear(su_evidence_row *r)
{
    r->prefix.length = r->pieces = 0;
}

void su_evidence_row_add(su_evidence_row *r, const int32_t *tokens, int32_t count, int32_t sep)
{
    int32_t n = count < r->max ? count : r->max, at = r->prefix.length;
    r->pieces++;
    for (int32_t t = 0; t <= n && at < r->room; t++, at++) {
        r->ids[at] = t < n ? tokens[t] : sep;
        r->position[at] = t;
        r->type[at] = r->pieces;
    }
    r->prefix.length = at;
}

/* --- rows
 * ---------------------------------------------------------------------------------------------------------
 */

enum { ID, POSITION, TYPE, TARGET, LISTS };

struct su_rows {
    int32_t max_batch, wide, max_tokens, batch;
    int32_t *list[LISTS], *packed[LISTS]; /* [max_batch][wide], and as given out: [batch][longest] */
    int32_t *lengths;
};

su_status su_rows_new(int32_t max_batch, int32_t max_prefix, int32_t max_tokens, su_rows **rows,
                      su_error *err)
{
    *rows = NULL;
    su_rows *r = su_calloc(1, sizeof *r);
    if (!r) return su_fail(err, SU_ENOMEM, "no memory for a batch of captions");
    *r = (su_rows){.max_batch = max_batch, .wide = max_prefix + max_tokens, .max_tokens = max_tokens};
    size_t n = (size_t)max_batch * (size_t)r->wide;
    bool all = (r->lengths = su_calloc((size_t)max_batch, sizeof *r->lengths)) != NULL;
    for (int i = 0; i < LISTS; i++) {
        r->list[i] = su_calloc(n, sizeof(int32_t));
        r->packed[i] = su_calloc(n, sizeof(int32_t));
        all &= r->list[i] && r->packed[i];
    }
    if (!all) {
        su_rows_free(r);
        return su_fail(err, SU_ENOMEM, "no memory for a batch of captions");
    }
    *rows = r;
    return SU_OK;
}

void su_rows_free(su_rows *r)
{
    if (!r) return;
    for (int i = 0; i < LISTS; i++) {
        su_free(r->list[i]);
        su_free(r->packed[i]);
    }
    su_free(r->lengths);
    su_free(r);
}

void su_rows_clear(su_rows *r)
{
    r->batch = 0;
}

static void put(su_rows *r, int32_t id, int32_t position, int32_t type, int32_t target)
{
    size_t at = (size_t)r->batch * (size_t)r->wide + (size_t)r->lengths[r->batch]++;
    r->list[ID][at] = id;
    r->list[POSITION][at] = position;
    r->list[TYPE][at] = type;
    r->list[TARGET][at] = target;
}

void su_rows_add(su_rows *r, const su_prefix *prefix, const int32_t *tokens, int32_t count, int32_t cls,
                 int32_t sep)
{
    if (r->batch == r->max_batch) return;
    r->lengths[r->batch] = 0;
    for (int32_t t = 0; prefix && t < prefix->length; t++)
        put(r, prefix->ids[t], prefix->position[t], prefix->type[t], -1);
    for (int32_t t = 0; t < r->max_tokens && t <= count; t++)
        put(r, t ? tokens[t - 1] : cls, t, 0, t < count ? tokens[t] : sep);
    r->batch++;
}

su_decoder_input su_rows_input(su_rows *r, int32_t tokens)
{
    int32_t longest = tokens > 1 ? tokens : 1;
    for (int32_t b = 0; b < r->batch; b++) longest = r->lengths[b] > longest ? r->lengths[b] : longest;
    for (int i = 0; i < LISTS; i++) {
        for (int32_t b = 0; b < r->batch; b++) {
            int32_t *to = r->packed[i] + (size_t)b * (size_t)longest;
            memcpy(to, r->list[i] + (size_t)b * (size_t)r->wide, (size_t)r->lengths[b] * sizeof *to);
            for (int32_t t = r->lengths[b]; t < longest; t++) to[t] = i == TARGET ? -1 : 0;
        }
    }
    return (su_decoder_input){.batch = r->batch,
                              .tokens = longest,
                              .ids = r->packed[ID],
                              .position = r->packed[POSITION],
                              .type = r->packed[TYPE],
                              .targets = r->packed[TARGET],
                              .lengths = r->lengths};
}

/* --- vocabulary ---------------------------------------------------------------------------------------- */

static bool always_kept(const su_wordpiece *wp, int32_t id)
{
    const char *token = su_wordpiece_token(wp, id);
    if (id == su_wordpiece_pad(wp) || id == su_wordpiece_unk(wp) || id == su_wordpiece_cls(wp) ||
        id == su_wordpiece_sep(wp) || id == su_wordpiece_mask(wp))
        return true;
    if (!strncmp(token, "##", 2)) token += 2;
    return strlen(token) == 1;
}

su_status su_vocabulary_used(const su_wordpiece *whole, const su_texts *texts, su_wordpiece **used,
                             su_error *err)
{
    *used = NULL;
    int32_t n = su_wordpiece_size(whole);
    bool *keep = su_calloc((size_t)n, sizeof *keep);
    su_buffer lines;
    su_buffer_init(&lines, 16 << 20);
    su_status st = keep ? SU_OK : su_fail(err, SU_ENOMEM, "no memory for a vocabulary");
    for (int64_t i = 0; i < texts->count && !st; i++)
        for (int32_t t = 0; t < texts->lengths[i]; t++) keep[texts->tokens[i * texts->max + t]] = true;
    for (int32_t id = 0; id < n && !st; id++)
        if (keep[id] || always_kept(whole, id))
            st = su_buffer_printf(&lines, err, "%s\n", su_wordpiece_token(whole, id));
    if (!st) st = su_wordpiece_parse(lines.data, lines.length, "the captions' vocabulary", used, err);
    su_buffer_free(&lines);
    su_free(keep);
    return st;
}
