#include "align/embed.h"
#include "align/feed.h"
#include "base/log.h"
#include <string.h>

int su_embed_image_slot(const su_model *m, const su_dataset *ds, int stream)
{
    if (m->config.stream[stream].tower.kind != SU_TOWER_VIT) return -1;
    for (int i = 0; i < su_dataset_streams(ds); i++) /* image streams come first, "text" last */
        if (!strcmp(su_dataset_stream(ds, i), m->config.stream[stream].name)) return i;
    return -1;
}

su_status su_embed_loader_options(const su_model *m, su_loader_options *o, su_error *err)
{
    enum { THREADS = 16 };
    const su_model_config *c = &m->config;
    const int workers = su_pool_workers(m->device->pool);
    o->threads = workers < THREADS ? workers : THREADS;
    o->image_size = 0;
    o->max_tokens = 0;
    for (int i = 0; i < c->streams; i++) {
        const su_tower_config *t = &c->stream[i].tower;
        if (t->kind == SU_TOWER_BERT) {
            if (o->max_tokens)
                return su_fail(err, SU_EUNSUPPORTED,
                               "a dataset has one text stream, the model has two text towers");
            o->max_tokens = t->max_tokens;
        } else if (o->image_size && o->image_size != t->image_size) {
            return su_fail(err, SU_EUNSUPPORTED,
                           "all image towers must take the same image size, not %d and %d px", o->image_size,
                           t->image_size);
        } else {
            o->image_size = t->image_size;
        }
    }
    return SU_OK;
}

su_status su_embed_items(su_model *m, const su_dataset *ds, const int64_t *items, int64_t count,
                         const bool *wanted, const char *what, float **z, su_error *err)
{
    enum { BATCH = 64 };
    su_feed *feed = NULL;
    su_loader_options options = {.batch = BATCH};
    size_t width = (size_t)su_model_width(m), host = 0, device = 0;
    su_comm *comm = m->device->comm;
    int64_t start = 0, own = su_comm_share(comm, count, &start), part = su_comm_part(comm, count);
    for (int s = 0; s < m->config.streams; s++) z[s] = NULL;
    su_status st = su_model_check_dataset(m, ds, err);
    if (!st) st = su_feed_plan(m, ds, &options, &host, &device, err);
    if (!st && own) st = su_feed_new(m, ds, items + start, own, &options, &feed, err);
    for (int s = 0; s < m->config.streams && !st; s++) {
        if (wanted && !wanted[s]) continue;
        z[s] = su_alloc((size_t)part * (size_t)su_comm_ranks(comm) * width, sizeof **z);
        if (!z[s]) st = su_fail(err, SU_ENOMEM, "no memory for %lld embeddings", (long long)count);
    }
    su_progress *progress = what ? su_progress_new(what, "samples", own) : NULL;
    for (int64_t first = 0; first < own && !st;) {
        su_fed fed;
        st = su_feed_next(feed, &fed, err);
        const su_batch *b = fed.batch;
        if (st || !b) break;
        for (int s = 0; s < m->config.streams && !st; s++) {
            if (!z[s]) continue;
            float *out = z[s] + (size_t)(start + first) * width;
            int slot = su_embed_image_slot(m, ds, s);
            su_tower_input in = {.batch = b->count};
            if (slot >= 0) {
                in.images = fed.images[slot];
                in.on_device = fed.on_device;
            } else {
                in.ids = b->ids;
                in.lengths = b->lengths;
            }
            st = su_model_encode(m, s, &in, out, err);
        }
        first += b->count;
        if (progress) su_progress_step(progress, first, NULL);
    }
    if (progress) su_progress_free(progress);
    su_feed_free(feed);
    st = su_comm_agree(comm, st, err);
    for (int s = 0; s < m->config.streams && !st; s++)
        if (z[s]) st = su_comm_gather_host(comm, z[s], (size_t)part * width * sizeof **z, err);
    for (int s = 0; s < m->config.streams && st; s++) {
        su_free(z[s]);
        z[s] = NULL;
    }
    return st;
}
