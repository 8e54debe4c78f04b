/* Embeddings of packed samples, every stream, in item order. */
#ifndef SU_ALIGN_EMBED_H
#define SU_ALIGN_EMBED_H

#include "align/model.h"
#include "datasets/loader.h"

/* Several ranks (the device's comm) embed a part of the samples each, and all get all: collective.
 * z[m]: float [count, width], allocated here, freed with su_free (NULL for streams of the model that are not
 * asked for: wanted[m] false; wanted NULL: all). Reports progress under `what` unless it is NULL. */
su_status su_embed_items(su_model *m, const su_dataset *ds, const int64_t *items, int64_t count,
                         const bool *wanted, const char *what, float **z, su_error *err);

/* Which of the dataset's image streams feeds stream m of the model: index into su_batch.images; -1 for the
 * text stream. */
int su_embed_image_slot(const su_model *m, const su_dataset *ds, int stream);

/* image_size, max_tokens and threads that the loader should use for this model: as many threads as its device
 * has of the host, at most 16. SU_EUNSUPPORTED when image towers differ in size. */
su_status su_embed_loader_options(const su_model *m, su_loader_options *o, su_error *err);

#endif
