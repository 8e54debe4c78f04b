#include "caption/write.h"
#include "base/memory.h"
#include "caption/words.h"
#include <string.h>

enum { ENCODE = 16 }; /* images that go through the tower together */

typedef struct {
    su_captioner *c;
    const su_caption_work *work;
    su_generation rules;
    su_generator *generator;
    su_texts texts;      /* of the evidence, tokenised */
    su_evidence_row row; /* under construction */
    int32_t evidence, at_once;
    uint8_t *pixels;
    int64_t numbers[ENCODE];
    su_identity who[ENCODE];
    float *z; /* embeddings of the images in hand */
    void *device_z, *device_norm;
    /* What was offered to each caption under way: a table by slot of `number`, of which few are alive. */
    struct offer {
        int64_t number;
        bool used;
        int32_t count;
        int64_t rows[16];
        float scores[16];
    } * offers;
    int32_t offer_count;
} writing;

static su_status open_writing(writing *w, int32_t slots, su_error *err)
{
    su_captioner *c = w->c;
    su_device *d = c->model->device;
    const su_tower_config *t = &c->model->config.stream[c->stream].tower;
    size_t width = (size_t)su_model_width(c->model), acc = su_dtype_size(d->acc);
    w->at_once = slots < ENCODE ? slots : ENCODE;
    w->offer_count = slots;
    w->pixels =
        su_alloc((size_t)w->at_once * (size_t)t->image_size * (size_t)t->image_size, (size_t)t->channels);
    w->z = su_alloc((size_t)w->at_once * width, sizeof *w->z);
    w->offers = su_calloc((size_t)slots, sizeof *w->offers);
    su_status st =
        w->pixels && w->z && w->offers ? SU_OK : su_fail(err, SU_ENOMEM, "no memory to write captions");
    if (!st) st = d->ops->alloc(d, (size_t)w->at_once * width * acc, &w->device_z, err);
    if (!st) st = d->ops->alloc(d, (size_t)w->at_once * acc, &w->device_norm, err);
    if (!st) st = su_model_plan(c->model, w->at_once, false, NULL, err);
    if (!st) st = su_evidence_row_new(w->evidence, c->evidence_tokens, &w->row, err);
    if (!st)
        st = su_generator_new(c->decoder, &w->rules, slots, su_captioner_memory(c), w->row.room,
                              &w->generator, err);
    int64_t n = w->evidence ? su_evidence_count(c->evidence) : 0;
    if (!st) st = su_texts_new(n, c->evidence_tokens, &w->texts, err);
    for (int64_t i = 0; i < n && !st; i++)
        st = su_texts_set(&w->texts, i, c->tokenizer, su_evidence_at(c->evidence, i)->text, err);
    return st;
}

static void close_writing(writing *w)
{
    su_device *d = w->c->model->device;
    su_generator_free(w->generator);
    su_texts_free(&w->texts);
    su_evidence_row_free(&w->row);
    d->ops->release(d, w->device_z);
    d->ops->release(d, w->device_norm);
    su_free(w->pixels);
    su_free(w->z);
    su_free(w->offers);
}

static struct offer *offer_of(writing *w, int64_t number, bool used)
{
    for (int32_t i = 0; i < w->offer_count; i++)
        if (w->offers[i].used == used && (!used || w->offers[i].number == number)) return &w->offers[i];
    return NULL;
}

/* Nearest training images, and their captions as the decoder reads them. */
static su_status offer_evidence(writing *w, int32_t i, struct offer *o, su_error *err)
{
    size_t width = (size_t)su_model_width(w->c->model);
    su_evidence_row_clear(&w->row);
    if (!w->evidence) return SU_OK;
    su_status st = su_evidence_find(w->c->evidence, w->c->model->device, w->z + (size_t)i * width, &w->who[i],
                                    1, w->evidence, o->rows, o->scores, &o->count, err);
    for (int32_t k = 0; k < o->count && !st; k++)
        su_evidence_row_add(&w->row, w->texts.tokens + o->rows[k] * w->texts.max,
                            w->texts.lengths[o->rows[k]], su_wordpiece_sep(w->c->tokenizer));
    return st;
}

/* The next images through the tower and into free slots. */
static su_status admit(writing *w, int32_t room, bool *more, su_error *err)
{
    su_captioner *c = w->c;
    su_device *d = c->model->device;
    int32_t n = 0, tokens = 0;
    int64_t width = su_model_width(c->model);
    memset(w->who, 0, sizeof w->who);
    su_status st = w->work->next(w->work->context, room < w->at_once ? room : w->at_once, w->pixels,
                                 w->numbers, w->who, &n, err);
    *more = n > 0;
    if (st || !n) return st;
    su_tower_input in = {.batch = n, .images = w->pixels};
    st = su_model_forward(c->model, c->stream, &in, w->device_z, w->device_norm, err);
    if (st) return st;
    const void *memory = su_tower_output(c->model->tower[c->stream], &tokens);
    if (w->evidence && d->acc == SU_DTYPE_F32)
        d->ops->download(d, w->z, w->device_z, (size_t)(n * width) * sizeof *w->z);
    int64_t row = (int64_t)tokens * c->decoder->config.memory_width;
    for (int32_t i = 0; i < n && !st; i++) {
        struct offer *o = offer_of(w, 0, false);
        *o = (struct offer){.number = w->numbers[i], .used = true};
        st = offer_evidence(w, i, o, err);
        if (!st)
            st = su_generator_add(w->generator, w->numbers[i], su_act_at(d, memory, (int64_t)i * row),
                                  &w->row.prefix, err);
    }
    return st;
}

static su_status hand_over(writing *w, su_error *err)
{
    const su_generated *g;
    su_status st = SU_OK;
    while (!st && (g = su_generator_take(w->generator))) {
        struct offer *o = offer_of(w, g->number, true);
        char *text = su_caption_text(w->c->tokenizer, g->tokens, g->length);
        su_written written = {
            .generated = g, .text = text, .evidence = o->rows, .scores = o->scores, .pieces = o->count};
        st = text ? w->work->written(w->work->context, &written, err)
                  : su_fail(err, SU_ENOMEM, "no memory for a caption");
        o->used = false;
        su_free(text);
    }
    return st;
}

su_status su_caption_write(su_captioner *c, const su_generation *rules, int32_t slots, int32_t evidence,
                           const su_caption_work *work, su_error *err)
{
    writing w = {.c = c, .work = work, .rules = *rules, .evidence = evidence};
    if (evidence > c->pieces)
        return su_fail(err, SU_EINVAL, "this model was trained with %d pieces of evidence, not %d", c->pieces,
                       evidence);
    if (evidence && c->model->device->acc != SU_DTYPE_F32)
        return su_fail(err, SU_EUNSUPPORTED, "evidence is looked for in float32");
    if (rules->max_tokens > c->max_tokens)
        return su_fail(err, SU_EINVAL, "this model was trained on captions of at most %d tokens, not %d",
                       c->max_tokens, rules->max_tokens);
    w.rules.start = su_wordpiece_cls(c->tokenizer);
    w.rules.end = su_wordpiece_sep(c->tokenizer);
    su_status st = open_writing(&w, slots, err);
    for (bool more = true; !st && (more || su_generator_active(w.generator));) {
        int32_t room = su_generator_room(w.generator);
        /* A few images at a time go through the tower faster than one, a caption that waits for them loses
         * little. */
        if (more && (room >= (slots + 3) / 4 || room == slots)) st = admit(&w, room, &more, err);
        if (!st) st = su_generator_step(w.generator, err);
        if (!st) st = hand_over(&w, err);
    }
    close_writing(&w);
    return st;
}
