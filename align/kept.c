#include "align/kept.h"
#include "align/embed.h"
#include "align/feed.h"
#include "base/log.h"
#include <string.h>

enum { KEPT_LIMIT = 1 << 30 }; /* bytes */

void su_kept_free(su_kept *k)
{
    su_free(k->rows);
    su_free(k->row_of);
    *k = (su_kept){0};
}

const float *su_kept_row(const su_kept *k, int64_t item)
{
    return k->rows + (size_t)k->row_of[item] * k->width;
}

void su_kept_read(const su_kept *k, const int64_t *items, int64_t count, float *out)
{
    for (int64_t i = 0; i < count; i++)
        memcpy(out + (size_t)i * k->width, su_kept_row(k, items[i]), k->width * sizeof *out);
}

/* One batch, from row `first` on. */
static su_status keep_batch(su_model *m, int stream, su_keep what, int slot, const su_fed *fed, int64_t first,
                            su_kept *k, su_error *err)
{
    su_device *d = m->device;
    const su_batch *b = fed->batch;
    su_tower_input in = {.batch = b->count};
    if (slot >= 0) {
        in.images = fed->images[slot];
        in.on_device = fed->on_device;
    } else {
        in.ids = b->ids;
        in.lengths = b->lengths;
    }
    void *pooled = NULL;
    int32_t tokens = 0;
    su_status st = su_tower_forward(m->tower[stream], &in, &pooled, err);
    if (st) return st;
    const void *from = what == SU_KEEP_TOKENS ? su_tower_output(m->tower[stream], &tokens) : pooled;
    d->ops->download(d, k->rows + (size_t)first * k->width, from,
                     (size_t)b->count * k->width * sizeof *k->rows);
    return d->ops->sync(d, err);
}

su_status su_kept_fill(su_model *m, int stream, su_keep what, const su_dataset *ds, const int64_t *items,
                       int64_t count, const su_augment *augment, su_kept *k, su_error *err)
{
    *k = (su_kept){0};
    const su_tower_config *c = &m->config.stream[stream].tower;
    bool vit = c->kind == SU_TOWER_VIT;
    size_t tokens = what == SU_KEEP_TOKENS ? (size_t)su_tower_tokens(m->tower[stream]) : 1;
    size_t width = (size_t)c->width * tokens;
    bool fits = (double)width * (double)count * sizeof(float) <= (double)KEPT_LIMIT;
    if (what == SU_KEEP_TOKENS && !vit) return SU_OK;
    if (!su_model_frozen(m, stream) || (vit && augment->on) || m->device->act != SU_DTYPE_F32 || !fits)
        return SU_OK;
    k->width = width;
    su_comm *comm = m->device->comm;
    int64_t start = 0, own = su_comm_share(comm, count, &start), part = su_comm_part(comm, count);
    k->rows = su_alloc((size_t)part * (size_t)su_comm_ranks(comm), width * sizeof *k->rows);
    k->row_of = su_alloc((size_t)su_dataset_count(ds) + 1, sizeof *k->row_of);
    if (!k->rows || !k->row_of) return su_fail(err, SU_ENOMEM, "no memory to keep what a frozen tower gives");
    for (int64_t i = 0; i < su_dataset_count(ds); i++) k->row_of[i] = -1;
    for (int64_t i = 0; i < count; i++) k->row_of[items[i]] = i;
    su_feed *feed = NULL;
    su_loader_options o = {.batch = m->planned};
    size_t host = 0, device = 0;
    su_status st = su_feed_plan(m, ds, &o, &host, &device, err);
    if (!st && own) st = su_feed_new(m, ds, items + start, own, &o, &feed, err);
    char label[96];
    snprintf(label, sizeof label, "frozen %s tower", m->config.stream[stream].name);
    su_progress *progress = su_progress_new(label, "samples", own);
    for (int64_t done = 0; done < own && !st;) {
        su_fed fed;
        st = su_feed_next(feed, &fed, err);
        if (st || !fed.batch) break;
        st = keep_batch(m, stream, what, su_embed_image_slot(m, ds, stream), &fed, start + done, k, err);
        done += fed.batch->count;
        su_progress_step(progress, done, NULL);
    }
    su_progress_free(progress);
    su_feed_free(feed);
    st = su_comm_agree(comm, st, err);
    return st ? st : su_comm_gather_host(comm, k->rows, (size_t)part * width * sizeof *k->rows, err);
}
