/* Batches of a training, their images where the device computes.
 *
 * Where the host's memory is the device's, they are the loader's. Otherwise the loader's threads write the
 * images into page-locked memory, and while the caller computes with batch n, the images of batch n + 1 are
 * on their way to the device, into the other of two buffers.
 *
 *      loader:   make n + 2, n + 3     make n + 3, n + 4
 *      copies:   n + 1                 n + 2
 *      device:   compute n             compute n + 1 */
#ifndef SU_ALIGN_FEED_H
#define SU_ALIGN_FEED_H

#include "align/model.h"
#include "datasets/loader.h"

typedef struct {
    const su_batch *batch;        /* the loader's; its images are not to be touched when on_device */
    const uint8_t *const *images; /* per image stream: [count, image_size, image_size, channels] */
    bool on_device;
} su_fed;

typedef struct su_feed su_feed;

/* What will be taken for one: *host, and *device beside it. Sets in o what the model and its device decide. */
su_status su_feed_plan(const su_model *m, const su_dataset *ds, su_loader_options *o, size_t *host,
                       size_t *device, su_error *err);
/* o: as su_feed_plan left it; first_batch may be set since. */
su_status su_feed_new(const su_model *m, const su_dataset *ds, const int64_t *items, int64_t count,
                      const su_loader_options *o, su_feed **feed, su_error *err);
void su_feed_free(su_feed *f);
/* The next batch, valid until the next call, for which the device is waited for. fed->batch NULL after the
 * last one. */
su_status su_feed_next(su_feed *f, su_fed *fed, su_error *err);
double su_feed_waited(const su_feed *f); /* seconds, in all, that callers waited for the loader */

#endif
