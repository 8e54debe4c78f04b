/* Prefetching: a ring of batches that worker threads fill in order.
 *
 *            filling          done             held by the caller
 *   ... [ batch n+2 ]   [ batch n+1 ]   [ batch n ]      slot of batch n: n % slots
 *          ^ ^ threads claim one sample at a time
 *
 * A sample's bytes depend on (seed, epoch, sample) alone, so it does not matter which thread makes it. A slot
 * goes from free through filling and ready to held, and back to free by su_loader_release. One lock guards
 * all of it; a thread holds it to claim a sample and to say that it is done, never while it works on pixels. */
#include "datasets/loader.h"
#include "base/checksum.h"
#include "base/memory.h"
#include "datasets/image.h"
#include "datasets/phash.h"
#include "base/resize.h"
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>

enum { THREADS_MAX = 256, AHEAD_MAX = 64, IMAGE_SIZE_MAX = 1024, TOKENS_MAX = 8192 };

typedef enum { SLOT_FREE, SLOT_FILLING, SLOT_READY, SLOT_HELD } slot_state;

typedef struct {
    slot_state state;
    int32_t claimed, done; /* samples */
    su_batch batch;
    int64_t *items, *rows; /* [batch] dataset indexes, and positions among the loader's items */
    uint8_t **images;      /* [image streams][batch, image_size, image_size, channels] */
    int32_t *ids, *lengths;
} slot;

struct su_loader {
    const su_dataset *ds;
    su_loader_options options;
    int64_t *items, count, batches; /* batches: an epoch's */
    int32_t pad, share;             /* share: samples of a batch that are made here */
    int image_streams;

    int64_t *token_start; /* [count + 1]: row i's tokens are tokens[token_start[i] .. token_start[i + 1]) */
    int32_t *tokens;

    pthread_mutex_t lock;
    pthread_cond_t work, ready;
    pthread_t *threads;
    int started, slot_count;
    bool stop;
    slot *slots;
    int64_t filling,
        next; /* numbers of the batch whose samples are being claimed, and of the next to hand out */
    int64_t *order, order_epoch;
    su_error error; /* the first one that a thread met */
};

/* ---- making one sample ---- */

static int64_t bytes_of_image(const su_dataset *ds, const su_loader_options *o)
{
    return (int64_t)o->image_size * o->image_size * su_dataset_recipe(ds)->channels;
}

static int64_t image_bytes(const su_loader *l)
{
    return bytes_of_image(l->ds, &l->options);
}

static su_status make_image(const su_loader *l, const slot *s, int stream, int32_t i, su_error *err)
{
    const su_image_recipe *recipe = su_dataset_recipe(l->ds);
    const su_loader_options *o = &l->options;
    const int32_t channels = recipe->channels;
    /* The stored pixels are only read. */
    const su_raster in = {(uint8_t *)(uintptr_t)su_dataset_pixels(l->ds, stream, s->items[i]), recipe->size,
                          recipe->size, channels, (int64_t)recipe->size * channels};
    const su_raster out = {s->images[stream] + i * image_bytes(l), o->image_size, o->image_size, channels,
                           (int64_t)o->image_size * channels};
    if (!o->train || !o->augment.on) return su_resize(&in, NULL, &out, err);
    const su_rng_key key = {.seed = o->seed,
                            .step = (uint32_t)s->batch.epoch,
                            .layer = su_rng_name("augment") + (uint32_t)stream};
    const su_augment_draw draw =
        su_augment_pick(&o->augment, in.width, in.height, key, (uint64_t)s->items[i]);
    return su_augment_apply(&draw, &in, &out, err);
}

static su_status make_sample(const su_loader *l, const slot *s, int32_t i, su_error *err)
{
    const int32_t max = l->options.max_tokens;
    const int64_t from = l->token_start[s->rows[i]], n = l->token_start[s->rows[i] + 1] - from;
    int32_t *ids = s->ids + (int64_t)i * max;
    memcpy(ids, l->tokens + from, (size_t)n * sizeof *ids);
    for (int64_t t = n; t < max; t++) ids[t] = l->pad;
    s->lengths[i] = (int32_t)n;
    for (int stream = 0; stream < l->image_streams; stream++) {
        const su_status status = make_image(l, s, stream, i, err);
        if (status) return su_fail_context(err, status, "sample %" PRId64, s->items[i]);
    }
    return SU_OK;
}

/* ---- the ring; l->lock is held in all of these ---- */

static bool past_end(const su_loader *l, int64_t number)
{
    return !l->options.train && number >= l->batches;
}

/* Gives batch `filling` its slot and its samples. */
static void start_batch(su_loader *l, slot *s)
{
    const int64_t size = l->options.batch, epoch = l->filling / l->batches,
                  in_epoch = l->filling % l->batches;
    if (l->options.train && epoch != l->order_epoch) {
        for (int64_t i = 0; i < l->count; i++) l->order[i] = i;
        const su_rng_key key = {
            .seed = l->options.seed, .step = (uint32_t)epoch, .layer = su_rng_name("shuffle")};
        su_rng_shuffle(key, l->order, l->count);
        l->order_epoch = epoch;
    }
    const int64_t first = in_epoch * size + l->options.part * l->share, left = l->count - first;
    s->batch.number = l->filling;
    s->batch.epoch = epoch;
    s->batch.in_epoch = in_epoch;
    s->batch.count = (int32_t)(left < l->share ? left : l->share);
    for (int32_t i = 0; i < s->batch.count; i++) {
        s->rows[i] = l->order[first + i];
        s->items[i] = l->items[s->rows[i]];
    }
    s->claimed = s->done = 0;
    s->state = SLOT_FILLING;
}

/* The slot to take a sample from, *i its number in the batch; NULL when there is nothing to do now. */
static slot *claim(su_loader *l, int32_t *i)
{
    if (past_end(l, l->filling) || l->error.code) return NULL;
    slot *s = &l->slots[l->filling % l->slot_count];
    if (s->state == SLOT_FREE)
        start_batch(l, s);
    else if (s->state != SLOT_FILLING || s->batch.number != l->filling)
        return NULL; /* an older batch is still there: held, or its last samples are being made */
    *i = s->claimed++;
    if (s->claimed == s->batch.count) l->filling++;
    pthread_cond_signal(&l->work); /* the next thread may go on with the next sample */
    return s;
}

static void *work(void *context)
{
    su_loader *l = context;
    pthread_mutex_lock(&l->lock);
    while (!l->stop) {
        int32_t i = 0;
        slot *s = claim(l, &i);
        if (!s) {
            pthread_cond_wait(&l->work, &l->lock);
            continue;
        }
        pthread_mutex_unlock(&l->lock);
        su_error err = {0};
        const su_status status = make_sample(l, s, i, &err);
        pthread_mutex_lock(&l->lock);
        if (status && !l->error.code) {
            l->error = err;
            pthread_cond_broadcast(&l->ready);
        }
        if (++s->done == s->batch.count) {
            s->state = SLOT_READY;
            pthread_cond_broadcast(&l->ready);
        }
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

/* ---- making and ending a loader ---- */

static su_status check_options(const su_loader_options *o, const su_dataset *ds, const int64_t *items,
                               int64_t count, su_error *err)
{
    if (o->batch < 1 || o->image_size < 1 || o->image_size > IMAGE_SIZE_MAX || o->max_tokens < 3 ||
        o->max_tokens > TOKENS_MAX || o->threads < 0 || o->threads > THREADS_MAX || o->ahead < 0 ||
        o->ahead > AHEAD_MAX || o->first_batch < 0)
        return su_fail(
            err, SU_EINVAL,
            "loader: batch %d (at least 1), image size %d (1 to %d), tokens %d (3 to %d), threads %d (0 to "
            "%d), batches ahead %d (0 to %d), first batch %" PRId64 " (at least 0)",
            o->batch, o->image_size, IMAGE_SIZE_MAX, o->max_tokens, TOKENS_MAX, o->threads, THREADS_MAX,
            o->ahead, AHEAD_MAX, o->first_batch);
    const int parts = o->parts ? o->parts : 1;
    if (parts < 1 || o->part < 0 || o->part >= parts || o->batch % parts || (parts > 1 && !o->train))
        return su_fail(err, SU_EINVAL, "loader: part %d of %d of a batch of %d cannot be", o->part, parts,
                       o->batch);
    if (count < 1) return su_fail(err, SU_EINVAL, "%s: no samples to load", su_dataset_folder(ds));
    if (o->train && count < o->batch)
        return su_fail(err, SU_EINVAL,
                       "%s: %" PRId64
                       " samples make no whole batch of %d; choose a batch of at most %" PRId64,
                       su_dataset_folder(ds), count, o->batch, count);
    for (int64_t i = 0; i < count; i++)
        if (items[i] < 0 || items[i] >= su_dataset_count(ds))
            return su_fail(err, SU_EINVAL, "%s: there is no sample %" PRId64 " among %" PRId64,
                           su_dataset_folder(ds), items[i], su_dataset_count(ds));
    return o->train ? su_augment_check(&o->augment, err) : SU_OK;
}

static su_status tokenise(su_loader *l, const su_wordpiece *tokenizer, su_error *err)
{
    int64_t used = 0, room = 0;
    for (int64_t i = 0; i < l->count; i++) {
        if (room - used < l->options.max_tokens) {
            room = 2 * room + l->options.max_tokens;
            int32_t *grown = su_realloc(l->tokens, (size_t)room, sizeof *grown);
            if (!grown) return su_fail(err, SU_ENOMEM, "loader: no memory for the tokens");
            l->tokens = grown;
        }
        const char *text = su_dataset_record(l->ds, l->items[i])->text;
        int32_t length = 0;
        const su_status status = su_wordpiece_row(tokenizer, text, strlen(text), l->tokens + used,
                                                  l->options.max_tokens, &length, err);
        if (status) return status;
        l->token_start[i] = used;
        used += length;
    }
    l->token_start[l->count] = used;
    return SU_OK;
}

static int slots_of(const su_loader_options *o)
{
    return (o->ahead ? o->ahead : 2) + 1; /* one more for the caller to hold */
}

static int32_t share_of(const su_loader_options *o)
{
    return o->batch / (o->parts ? o->parts : 1);
}

size_t su_loader_bytes(const su_dataset *ds, const su_loader_options *o)
{
    const size_t images = (size_t)(su_dataset_streams(ds) - 1) * (size_t)bytes_of_image(ds, o);
    const size_t texts = ((size_t)o->max_tokens + 1) * sizeof(int32_t) + 2 * sizeof(int64_t);
    return (size_t)slots_of(o) * (size_t)share_of(o) * (images + texts);
}

static void *take(const su_loader_options *o, size_t bytes)
{
    return o->take ? o->take(o->context, bytes) : su_alloc_aligned(bytes, 1);
}

static void give(const su_loader_options *o, void *memory)
{
    if (!o->take)
        su_free(memory);
    else if (memory)
        o->give(o->context, memory);
}

static bool make_slot(const su_loader *l, slot *s)
{
    const size_t n = (size_t)l->share;
    s->items = su_alloc(n, sizeof *s->items);
    s->rows = su_alloc(n, sizeof *s->rows);
    s->ids = su_alloc(n * (size_t)l->options.max_tokens, sizeof *s->ids);
    s->lengths = su_alloc(n, sizeof *s->lengths);
    s->images = su_calloc((size_t)l->image_streams, sizeof *s->images);
    if (!s->items || !s->rows || !s->ids || !s->lengths || !s->images) return false;
    for (int stream = 0; stream < l->image_streams; stream++) {
        s->images[stream] = take(&l->options, n * (size_t)image_bytes(l));
        if (!s->images[stream]) return false;
    }
    s->batch.items = s->items;
    s->batch.images = (const uint8_t *const *)s->images;
    s->batch.ids = s->ids;
    s->batch.lengths = s->lengths;
    return true;
}

static void free_slot(const su_loader *l, slot *s)
{
    for (int stream = 0; s->images && stream < l->image_streams; stream++)
        give(&l->options, s->images[stream]);
    su_free(s->images);
    su_free(s->items);
    su_free(s->rows);
    su_free(s->ids);
    su_free(s->lengths);
}

/* Signals are the program's business: the threads are born with all of them blocked. */
static su_status start_threads(su_loader *l, su_error *err)
{
    const int wanted = l->options.threads ? l->options.threads : 1;
    l->threads = su_alloc((size_t)wanted, sizeof *l->threads);
    if (!l->threads) return su_fail(err, SU_ENOMEM, "loader: no memory");
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = 0;
    while (l->started < wanted && !failed) {
        failed = pthread_create(&l->threads[l->started], NULL, work, l);
        if (!failed) l->started++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed ? su_fail(err, SU_ENOMEM, "loader: the system refuses a thread: %s", strerror(failed))
                  : SU_OK;
}

su_status su_loader_new(const su_dataset *ds, const int64_t *items, int64_t count,
                        const su_wordpiece *tokenizer, const su_loader_options *options, su_loader **loader,
                        su_error *err)
{
    *loader = NULL;
    su_status status = check_options(options, ds, items, count, err);
    if (!status) status = su_dataset_check_pixels(ds, items, count, err);
    if (status) return status;
    su_loader *l = su_calloc(1, sizeof *l);
    if (!l) return su_fail(err, SU_ENOMEM, "loader: no memory");
    l->ds = ds;
    l->options = *options;
    l->count = count;
    l->share = share_of(options);
    l->batches = options->train ? count / options->batch : (count + options->batch - 1) / options->batch;
    l->pad = su_wordpiece_pad(tokenizer);
    l->image_streams = su_dataset_streams(ds) - 1;
    l->filling = l->next = options->first_batch;
    l->order_epoch = -1;
    l->slot_count = slots_of(options);
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->work, NULL);
    pthread_cond_init(&l->ready, NULL);

    l->items = su_alloc((size_t)count, sizeof *l->items);
    l->order = su_alloc((size_t)count, sizeof *l->order);
    l->token_start = su_alloc((size_t)count + 1, sizeof *l->token_start);
    l->slots = su_calloc((size_t)l->slot_count, sizeof *l->slots);
    bool ok = l->items && l->order && l->token_start && l->slots;
    for (int i = 0; ok && i < l->slot_count; i++) ok = make_slot(l, &l->slots[i]);
    if (ok) {
        memcpy(l->items, items, (size_t)count * sizeof *items);
        for (int64_t i = 0; i < count; i++) l->order[i] = i;
        status = tokenise(l, tokenizer, err);
        if (!status) status = start_threads(l, err);
    } else {
        status = su_fail(err, SU_ENOMEM, "loader: no memory for %d batches of %d samples", l->slot_count,
                         options->batch);
    }
    if (status) {
        su_loader_free(l);
        return status;
    }
    *loader = l;
    return SU_OK;
}

void su_loader_free(su_loader *l)
{
    if (!l) return;
    pthread_mutex_lock(&l->lock);
    l->stop = true;
    pthread_cond_broadcast(&l->work);
    pthread_mutex_unlock(&l->lock);
    for (int i = 0; i < l->started; i++) pthread_join(l->threads[i], NULL);
    for (int i = 0; l->slots && i < l->slot_count; i++) free_slot(l, &l->slots[i]);
    pthread_cond_destroy(&l->ready);
    pthread_cond_destroy(&l->work);
    pthread_mutex_destroy(&l->lock);
    su_free(l->slots);
    su_free(l->threads);
    su_free(l->tokens);
    su_free(l->token_start);
    su_free(l->order);
    su_free(l->items);
    su_free(l);
}

/* ---- using it ---- */

int64_t su_loader_batches(const su_loader *l)
{
    return l->batches;
}

su_status su_loader_next(su_loader *l, const su_batch **batch, su_error *err)
{
    *batch = NULL;
    su_status status = SU_OK;
    pthread_mutex_lock(&l->lock);
    if (!past_end(l, l->next)) {
        slot *s = &l->slots[l->next % l->slot_count];
        while (s->state != SLOT_READY && s->state != SLOT_HELD && !l->error.code)
            pthread_cond_wait(&l->ready, &l->lock);
        if (s->state == SLOT_READY) {
            s->state = SLOT_HELD;
            *batch = &s->batch;
            l->next++;
        } else if (l->error.code) {
            status = su_fail(err, l->error.code, "%s", l->error.message);
        } else {
            status =
                su_fail(err, SU_EINVAL, "loader: all %d batches are held; release one first", l->slot_count);
        }
    }
    pthread_mutex_unlock(&l->lock);
    return status;
}

void su_loader_release(su_loader *l, const su_batch *batch)
{
    if (!batch) return;
    pthread_mutex_lock(&l->lock);
    l->slots[batch->number % l->slot_count].state = SLOT_FREE;
    pthread_cond_signal(&l->work);
    pthread_mutex_unlock(&l->lock);
}

su_status su_image_prepare(const char *path, const su_image_recipe *recipe, int32_t image_size, uint8_t *out,
                           su_picture_facts *facts, su_error *err)
{
    su_image image;
    su_status status = su_image_load(path, recipe, &image, err);
    if (status) return status;
    const int64_t stride = (int64_t)recipe->size * recipe->channels;
    uint8_t *square = su_alloc((size_t)recipe->size, (size_t)stride);
    if (square)
        status = su_image_to_recipe(&image, recipe, square, err);
    else
        status = su_fail(err, SU_ENOMEM, "%s: no memory", path);
    if (!status && facts) {
        su_patch patch = su_patch_stored(square, recipe, image.width, image.height);
        facts->hashed = su_phash(&patch, &facts->phash);
        su_sha256_hex(square, (size_t)recipe->size * (size_t)stride, facts->sha256);
    }
    su_image_free(&image);
    if (!status) {
        const su_raster in = {square, recipe->size, recipe->size, recipe->channels, stride};
        const su_raster to = {out, image_size, image_size, recipe->channels,
                              (int64_t)image_size * recipe->channels};
        status = su_resize(&in, NULL, &to, err);
    }
    su_free(square);
    return status;
}
