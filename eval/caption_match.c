#include "eval/caption_match.h"

static int64_t count_texts(const su_captions *c)
{
    int64_t n = 0;
    for (int64_t i = 0; c && i < c->count; i++) n += c->items[i].count;
    return n;
}

/* The numbers of an item's references; its hypothesis has none yet. */
static su_caption_pair add_references(su_caption_match *m, const su_caption_item *item)
{
    su_caption_pair pair = {.hypothesis = m->texts, .reference = m->texts, .references = item->count};
    for (int64_t r = 0; r < item->count; r++) m->text[m->texts++] = item->text[r];
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
    m->text = su_alloc(texts + 3, sizeof *m->text); /* 3: the ends of the files */
    m->id = su_alloc((size_t)r->count + 1, sizeof *m->id);
    m->pair = su_alloc((size_t)r->count + 1, sizeof *m->pair);
    if (o) m->other = su_alloc((size_t)r->count + 1, sizeof *m->other);
    if (corpus) m->corpus = su_alloc((size_t)corpus->count + 1, sizeof *m->corpus);
    return m->text && m->id && m->pair && (!o || m->other) && (!corpus || m->corpus)
               ? SU_OK
               : su_fail(err, SU_ENOMEM, "no memory to match the captions");
}

static void add_texts(su_caption_match *m, const su_captions *h, const su_captions *r, const su_captions *o,
                      const su_captions *corpus)
{
    for (int64_t i = 0; i < r->count; i++) {
        const char *id = r->items[i].id;
        const su_caption_item *mine = su_captions_find(h, id);
        if (!mine || (o && !su_captions_find(o, id))) continue;
        m->id[m->pairs++] = id;
        m->text[m->texts++] = mine->text[0];
    }
    m->text[m->texts++] = NULL;
    for (int64_t i = 0; i < m->pairs; i++) {
        m->pair[i] = add_references(m, su_captions_find(r, m->id[i]));
        m->pair[i].hypothesis = i;
    }
    m->text[m->texts++] = NULL;
    for (int64_t i = 0; o && i < m->pairs; i++) {
        m->other[i] = m->pair[i];
        m->other[i].hypothesis = m->texts;
        m->text[m->texts++] = su_captions_find(o, m->id[i])->text[0];
    }
    if (o) m->text[m->texts++] = NULL;
    for (int64_t i = 0; corpus && i < corpus->count; i++)
        m->corpus[m->documents++] = add_references(m, &corpus->items[i]);
}

su_status su_caption_match_make(su_captions *h, su_captions *r, su_captions *o, const su_captions *corpus,
                                su_caption_match *m, su_error *err)
{
    *m = (su_caption_match){0};
    su_status status = allocate(m, h, r, o, corpus, err);
    if (!status) add_texts(m, h, r, o, corpus);
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
