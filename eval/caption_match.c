#include "eval/caption_match.h"

static int64_t count_texts(const su_captions *c)
{
    int64_t n = 0;
    for (int64_t i = 0; c && i < c->count; i++) n += c->items[i].count;
    return n;
}

static su_caption_pair add_texts(su_caption_match *m, const char *hypothesis,
                                 const su_caption_item *references)
{
    su_caption_pair pair = {.hypothesis = m->texts, .reference = m->texts, .references = references->count};
    if (hypothesis) {
        m->text[m->texts++] = hypothesis;
        pair.reference = m->texts;
    }
    for (int64_t r = 0; r < references->count; r++) m->text[m->texts++] = references->text[r];
    return pair;
}

static su_status note_unmatched(su_captions *these, const su_captions *those, const char *reason,
                                su_error *err)
{
    su_status status = SU_OK;
    for (int64_t i = 0; !status && i < these->count; i++)
        if (!su_captions_find(those, these->items[i].id))
            status = su_captions_note(these, these->items[i].id, reason, err);
    return status;
}

static su_status allocate(su_caption_match *m, const su_captions *h, const su_captions *r,
                          const su_captions *o, const su_captions *corpus, su_error *err)
{
    size_t texts = (size_t)(count_texts(h) + count_texts(r) + count_texts(o) + count_texts(corpus));
    m->text = su_alloc(texts + 1, sizeof *m->text);
    m->id = su_alloc((size_t)r->count + 1, sizeof *m->id);
    m->pair = su_alloc((size_t)r->count + 1, sizeof *m->pair);
    if (o) m->other = su_alloc((size_t)r->count + 1, sizeof *m->other);
    if (corpus) m->corpus = su_alloc((size_t)corpus->count + 1, sizeof *m->corpus);
    return m->text && m->id && m->pair && (!o || m->other) && (!corpus || m->corpus)
               ? SU_OK
               : su_fail(err, SU_ENOMEM, "no memory to match the captions");
}

su_status su_caption_match_make(su_captions *h, su_captions *r, su_captions *o, const su_captions *corpus,
                                su_caption_match *m, su_error *err)
{
    *m = (su_caption_match){0};
    su_status status = allocate(m, h, r, o, corpus, err);
    for (int64_t i = 0; !status && i < r->count; i++) {
        const su_caption_item *item = &r->items[i], *mine = su_captions_find(h, item->id),
                              *theirs = o ? su_captions_find(o, item->id) : NULL;
        if (!mine || (o && !theirs)) continue;
        m->id[m->pairs] = item->id;
        m->pair[m->pairs] = add_texts(m, mine->text[0], item);
        if (o) {
            m->other[m->pairs] = m->pair[m->pairs];
            m->other[m->pairs].hypothesis = m->texts;
            m->text[m->texts++] = theirs->text[0];
        }
        m->pairs++;
    }
    for (int64_t i = 0; !status && corpus && i < corpus->count; i++)
        m->corpus[m->documents++] = add_texts(m, NULL, &corpus->items[i]);
    if (!status) status = note_unmatched(h, r, "no reference has this id", err);
    if (!status) status = note_unmatched(r, h, "no hypothesis has this id", err);
    if (!status && o) status = note_unmatched(h, o, "the other system has no caption for this id", err);
    if (!status && o) status = note_unmatched(o, h, "only the other system has a caption for this id", err);
    if (!status && !m->pairs)
        status = su_fail(err, SU_EMISMATCH,
                         "nothing to score: of %lld hypotheses and %lld references none share an id",
                         (long long)h->count, (long long)r->count);
    if (status) su_caption_match_free(m);
    return status;
}

void su_caption_match_free(su_caption_match *m)
{
    su_free(m->text);
    su_free(m->id);
    su_free(m->pair);
    su_free(m->other);
    su_free(m->corpus);
    *m = (su_caption_match){0};
}
