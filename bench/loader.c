/* What the loader gives: batches of training, augmented, from packed shards, as fast as it can.
 *
 *     bench_loader DS VOCAB.txt [SIZE [SECONDS]]
 *
 * DS: a packed dataset; where there is none, one of 2,048 pictures of noise, 224 px, is packed there first by
 * the importer. SIZE: what the tower takes (224). For 1, 2, 4, ... threads up to the cores there are, augmented
 * and not, SECONDS (3) each after a first batch: images by the clock, and by processor time of all threads. */
#include "base/file.h"
#include "base/image.h"
#include "base/memory.h"
#include "base/rng.h"
#include "base/threads.h"
#include "datasets/import.h"
#include "datasets/loader.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PICTURES = 2048, SIDE = 224, BATCH = 256, TOKENS = 77 };

static double seconds(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* --- pictures of noise --- */

typedef struct {
    int64_t made;
    char id[32];
    su_import_item item;
} maker;

static su_status next_picture(void *self, const su_import_item **item, su_error *err)
{
    static const char *const files[] = {"noise"};
    (void)err;
    maker *m = self;
    *item = NULL;
    if (m->made == PICTURES) return SU_OK;
    snprintf(m->id, sizeof m->id, "noise-%" PRId64, m->made);
    m->item = (su_import_item){.id = m->id,
                               .text = "a chest radiograph that shows nothing but noise",
                               .group = m->id,
                               .split = "train",
                               .licence = "",
                               .source = "",
                               .files = files,
                               .handle = m->made++};
    *item = &m->item;
    return SU_OK;
}

static su_status draw_picture(void *self, int64_t handle, int stream, const su_image_recipe *recipe,
                              su_image *image, su_error *err)
{
    (void)self;
    const size_t bytes = (size_t)recipe->size * (size_t)recipe->size * (size_t)recipe->channels;
    uint8_t *pixels = su_alloc(bytes, 1);
    if (!pixels) return su_fail(err, SU_ENOMEM, "no memory for a picture");
    const su_rng_key key = {.seed = (uint64_t)handle, .layer = (uint32_t)stream};
    for (size_t i = 0; i < bytes; i += 4) {
        const uint64_t r = (uint64_t)(su_rng_uniform(key, i / 4) * 0x1p32);
        for (size_t k = i; k < i + 4 && k < bytes; k++) pixels[k] = (uint8_t)(r >> (8 * (k - i)));
    }
    *image = (su_image){
        .pixels = pixels, .width = recipe->size, .height = recipe->size, .channels = recipe->channels};
    return SU_OK;
}

static su_status pack(const char *folder, su_error *err)
{
    static const char *const streams[] = {"image"};
    maker m = {0};
    json_t *description = json_pack("{s:s}", "pictures", "noise");
    const su_import_source source = {.kind = "noise",
                                     .description = description,
                                     .folder = ".",
                                     .streams = streams,
                                     .image_streams = 1,
                                     .total = PICTURES,
                                     .next = next_picture,
                                     .load = draw_picture,
                                     .self = &m};
    su_import_options o;
    su_import_defaults(&o);
    o.recipe.size = SIDE;
    const su_status status = su_import_run(&source, folder, &o, err);
    json_decref(description);
    return status;
}

/* --- the loader --- */

static su_status timed(const su_dataset *ds, const su_wordpiece *wp, const su_loader_options *o,
                       double length, su_error *err)
{
    su_loader *l = NULL;
    int64_t *items = NULL, count = 0, images = 0;
    double wall = 0, cpu = 0;
    su_status status = su_dataset_split(ds, "all", &items, &count, err);
    if (!status) status = su_loader_new(ds, items, count, wp, o, &l, err);
    for (int64_t i = 0; !status; i++) {
        const su_batch *b = NULL;
        if (i == 1) wall = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
        if (i > 1 && seconds(CLOCK_MONOTONIC) - wall > length) break;
        status = su_loader_next(l, &b, err);
        if (i > 0 && !status) images += (int64_t)b->count * (su_dataset_streams(ds) - 1);
        if (!status) su_loader_release(l, b);
    }
    wall = seconds(CLOCK_MONOTONIC) - wall;
    cpu = seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    if (!status)
        printf("%7d  %-9s  %10.0f  %22.0f\n", o->threads, o->augment.on ? "augmented" : "plain",
               (double)images / wall, (double)images / cpu);
    fflush(stdout);
    su_loader_free(l);
    su_free(items);
    return status;
}

int main(int argc, char **argv)
{
    if (argc < 3 || argc > 5)
        return fprintf(stderr, "usage: bench_loader DS VOCAB.txt [SIZE [SECONDS]]\n"), 2;
    su_error err = {0};
    su_dataset *ds = NULL;
    su_wordpiece *wp = NULL;
    su_status status = su_is_folder(argv[1]) ? SU_OK : pack(argv[1], &err);
    if (!status) status = su_dataset_open(argv[1], &ds, &err);
    if (!status) status = su_wordpiece_open(argv[2], &wp, &err);
    su_loader_options o = {.batch = BATCH,
                           .image_size = argc > 3 ? (int32_t)strtol(argv[3], NULL, 10) : SIDE,
                           .max_tokens = TOKENS,
                           .train = true,
                           .seed = 1};
    const int cores = su_cpu_count();
    if (!status) printf("threads  images     images/s  images/s of processor\n");
    for (int plain = 0; plain < 2 && !status; plain++) {
        su_augment_defaults(&o.augment);
        o.augment.on = !plain;
        for (o.threads = 1; o.threads <= cores && !status;
             o.threads = o.threads < cores && 2 * o.threads > cores ? cores : 2 * o.threads)
            status = timed(ds, wp, &o, argc > 4 ? strtod(argv[4], NULL) : 3, &err);
    }
    su_wordpiece_free(wp);
    su_dataset_close(ds);
    if (status) return fprintf(stderr, "bench_loader: %s\n", err.message), 1;
    return 0;
}
