#include "align/feed.h"
#include "align/embed.h"
#include "base/memory.h"
#include <time.h>

enum { BUFFERS = 2, AHEAD = 3 /* batches of the loader: one on its way, two being made */ };

struct su_feed {
    su_device *device;
    su_loader *loader;
    const su_batch *now, *ahead; /* held; ahead: its images are on their way */
    int streams;                 /* of images */
    size_t image;                /* bytes */
    uint8_t **buffers;           /* [BUFFERS][streams] on the device; NULL: images stay where they are made */
    double waited;
};

static bool sends(const su_device *d)
{
    return d->ops->send != NULL;
}

static size_t image_bytes(const su_dataset *ds, const su_loader_options *o)
{
    return (size_t)o->image_size * (size_t)o->image_size * (size_t)su_dataset_recipe(ds)->channels;
}

static size_t share(const su_loader_options *o)
{
    return (size_t)(o->batch / (o->parts ? o->parts : 1));
}

static void *take(void *context, size_t bytes)
{
    su_device *d = context;
    void *memory = NULL;
    return d->ops->host_alloc(d, bytes, &memory, NULL) ? NULL : memory;
}

static void give(void *context, void *memory)
{
    su_device *d = context;
    d->ops->host_release(d, memory);
}

su_status su_feed_plan(const su_model *m, const su_dataset *ds, su_loader_options *o, size_t *host,
                       size_t *device, su_error *err)
{
    su_status st = su_embed_loader_options(m, o, err);
    if (st) return st;
    *device = 0;
    if (sends(m->device)) {
        o->ahead = AHEAD;
        o->take = take;
        o->give = give;
        o->context = m->device;
        *device = BUFFERS * (size_t)(su_dataset_streams(ds) - 1) * share(o) * image_bytes(ds, o);
    }
    *host = su_loader_bytes(ds, o);
    return SU_OK;
}

static void release_buffers(su_feed *f)
{
    for (int i = 0; f->buffers && i < BUFFERS * f->streams; i++)
        f->device->ops->release(f->device, f->buffers[i]);
    su_free(f->buffers);
    f->buffers = NULL;
}

/* Without memory for them there are none, and towers upload images themselves: the holdout of an epoch that has
 * taken hours is scored a little slower rather than not. */
static void take_buffers(su_feed *f, size_t bytes)
{
    su_status st = SU_OK;
    f->buffers = su_calloc(BUFFERS * (size_t)f->streams, sizeof *f->buffers);
    for (int i = 0; f->buffers && i < BUFFERS * f->streams && !st; i++) {
        void *memory = NULL;
        st = f->device->ops->alloc(f->device, bytes, &memory, NULL);
        f->buffers[i] = memory;
    }
    if (st) release_buffers(f);
}

su_status su_feed_new(const su_model *m, const su_dataset *ds, const int64_t *items, int64_t count,
                      const su_loader_options *o, su_feed **feed, su_error *err)
{
    *feed = NULL;
    su_device *d = m->device;
    su_feed *f = su_calloc(1, sizeof *f);
    if (!f) return su_fail(err, SU_ENOMEM, "no memory for the batches");
    *f = (su_feed){.device = d, .streams = su_dataset_streams(ds) - 1, .image = image_bytes(ds, o)};
    if (sends(d)) take_buffers(f, share(o) * f->image);
    su_status st = su_loader_new(ds, items, count, m->tokenizer, o, &f->loader, err);
    if (st)
        su_feed_free(f);
    else
        *feed = f;
    return st;
}

void su_feed_free(su_feed *f)
{
    if (!f) return;
    if (f->ahead) f->device->ops->sync(f->device, NULL);
    su_loader_free(f->loader);
    release_buffers(f);
    su_free(f);
}

static su_status wait_for(su_feed *f, const su_batch **batch, su_error *err)
{
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    su_status st = su_loader_next(f->loader, batch, err);
    clock_gettime(CLOCK_MONOTONIC, &to);
    f->waited += (double)(to.tv_sec - from.tv_sec) + 1e-9 * (double)(to.tv_nsec - from.tv_nsec);
    return st;
}

static uint8_t **buffers_of(const su_feed *f, const su_batch *b)
{
    return f->buffers + b->number % BUFFERS * f->streams;
}

static void send(su_feed *f, const su_batch *b)
{
    for (int i = 0; i < f->streams; i++)
        f->device->ops->send(f->device, buffers_of(f, b)[i], b->images[i], (size_t)b->count * f->image);
}

su_status su_feed_next(su_feed *f, su_fed *fed, su_error *err)
{
    su_device *d = f->device;
    *fed = (su_fed){.on_device = f->buffers != NULL};
    su_status st = f->buffers ? d->ops->sync(d, err) : SU_OK;
    if (st) return st;
    su_loader_release(f->loader, f->now);
    f->now = f->ahead;
    f->ahead = NULL;
    if (!f->now) {
        st = wait_for(f, &f->now, err);
        if (st || !f->now) return st;
        if (f->buffers) {
            send(f, f->now);
            st = d->ops->sync(d, err);
        }
    }
    if (st) return st;
    fed->batch = f->now;
    fed->images = f->buffers ? (const uint8_t *const *)buffers_of(f, f->now) : f->now->images;
    /* What the loader could not do is told when it is that batch's turn. */
    if (f->buffers && !wait_for(f, &f->ahead, NULL) && f->ahead) send(f, f->ahead);
    return SU_OK;
}

double su_feed_waited(const su_feed *f)
{
    return f->waited;
}
