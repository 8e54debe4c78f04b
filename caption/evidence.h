/* Evidence: captions of training images that look like the one at hand, named so that a reader can check.
 *
 *   RUN/evidence.safetensors    "embeddings" F32 [n, width]: the images', unit rows
 *   RUN/evidence.jsonl          an object a row: id, group, file, text, sha256, phash of the stored picture
 *
 * An image is never shown its own report: what has its id, its group (article, patient), its pixels, or a
 * picture that looks the same (datasets/phash.h) is passed over. */
#ifndef SU_CAPTION_EVIDENCE_H
#define SU_CAPTION_EVIDENCE_H

#include "align/model.h"
#include "datasets/dataset.h"

/* Who an image is: "" and hashed false where it is not known. */
typedef struct {
    const char *id, *group, *sha256;
    uint64_t phash;
    bool hashed;
} su_identity;

typedef struct {
    su_identity identity;
    const char *file, *text;
} su_evidence_item;

typedef struct su_evidence su_evidence;

/* Of the dataset's record i, image stream `stream` (its name). */
su_identity su_identity_of(const su_dataset *ds, int64_t i, const char *stream);

/* Embeds the images of these samples with the model's image stream. */
su_status su_evidence_build(su_model *model, int stream, const su_dataset *ds, const int64_t *items,
                            int64_t count, su_evidence **evidence, su_error *err);
/* sha256: of evidence.jsonl, which has no checksum of its own. */
su_status su_evidence_save(const su_evidence *e, const char *folder, char sha256[65], su_error *err);
su_status su_evidence_open(const char *folder, int32_t width, const char *sha256, su_evidence **evidence,
                           su_error *err);
void su_evidence_free(su_evidence *e);
int64_t su_evidence_count(const su_evidence *e);
const su_evidence_item *su_evidence_at(const su_evidence *e, int64_t row);
const float *su_evidence_embedding(const su_evidence *e, int64_t row);

/* The k nearest rows of each of n queries that are not the query itself: rows [n][k], scores [n][k] (the
 * cosine; may be NULL), found [n]. z: float [n, width], host. Free it before the
 * device. */
su_status su_evidence_find(su_evidence *e, su_device *device, const float *z, const su_identity *who,
                           int32_t n, int32_t k, int64_t *rows, float *scores, int32_t *found, su_error *err);

#endif
