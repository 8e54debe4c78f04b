/* Batches from a packed dataset, made ahead by prefetch threads, the same for any number of threads.
 *
 * Training order: every epoch is a permutation keyed by (seed, epoch); augmentation is keyed by (seed, epoch,
 * sample). The last incomplete batch of a training epoch is dropped (contrastive losses want whole batches).
 * Evaluation order is ascending, nothing is augmented, and the last batch may be short. */
#ifndef SU_DATASETS_LOADER_H
#define SU_DATASETS_LOADER_H

#include "datasets/augment.h"
#include "datasets/dataset.h"
#include "text/wordpiece.h"

typedef struct {
    int32_t batch;
    int32_t image_size; /* what the tower wants; stored pixels are resampled to it, antialiased */
    int32_t max_tokens; /* length of an id row, [CLS] and [SEP] included */
    bool train;         /* shuffle, augment, drop the short batch */
    uint64_t seed;
    su_augment augment;
    int threads, ahead; /* prefetch threads (0: one) and batches kept ready (0: two) */
    /* Where images are made; NULL: in the program's own memory. take: SU_ALIGN-aligned, NULL when there is
     * none. */
    void *(*take)(void *context, size_t bytes);
    void (*give)(void *context, void *memory);
    void *context;
    int64_t first_batch; /* where to start, counted over all epochs: how a resumed run finds its place */
    int part, parts; /* training: of each batch only part 0..parts-1, samples part * batch / parts and so on;
                            parts divides the batch. 0 parts: the whole */
} su_loader_options;

typedef struct {
    int64_t number;               /* over all epochs, from 0 */
    int64_t epoch, in_epoch;      /* in_epoch: number within its epoch */
    int32_t count;                /* samples in this batch */
    const int64_t *items;         /* [count] dataset indexes */
    const uint8_t *const *images; /* per image stream: [count, image_size, image_size, channels] */
    const int32_t *ids, *lengths; /* [count, max_tokens], [count] */
} su_batch;                       /* belongs to the loader until su_loader_release */

typedef struct su_loader su_loader;

/* items: which samples (copied). tokenizer: used here only, to tokenise every text once. SU_EINVAL: options
 * out of range, a training split smaller than a batch. SU_EFORMAT: damaged pixels. */
su_status su_loader_new(const su_dataset *ds, const int64_t *items, int64_t count,
                        const su_wordpiece *tokenizer, const su_loader_options *options, su_loader **loader,
                        su_error *err);
void su_loader_free(su_loader *loader);
/* What the batches that it keeps will take, texts and the list of samples apart. */
size_t su_loader_bytes(const su_dataset *ds, const su_loader_options *options);
int64_t su_loader_batches(const su_loader *loader); /* an epoch's */
/* The next batch. Training goes on for ever; evaluation gives *batch = NULL after the last. What a prefetch
 * thread could not do is returned here. A caller may hold several batches, at most `ahead` + 1: SU_EINVAL
 * beyond. */
su_status su_loader_next(su_loader *loader, const su_batch **batch, su_error *err);
void su_loader_release(su_loader *loader, const su_batch *batch);

/* What identifies a picture, as records of a dataset do: SHA-256 of the stored square, and its perceptual hash
 * (hashed false: of one grey level). */
typedef struct {
    char sha256[65];
    uint64_t phash;
    bool hashed;
} su_picture_facts;

/* One image as evaluation would present it to a tower: decoded file -> recipe -> image_size. out [S, S,
 * channels]. facts may be NULL. */
su_status su_image_prepare(const char *path, const su_image_recipe *recipe, int32_t image_size, uint8_t *out,
                           su_picture_facts *facts, su_error *err);

#endif
