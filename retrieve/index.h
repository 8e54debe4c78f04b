/* An index: embeddings of images and texts together, searched exactly.
 *
 *   IDX/vectors.safetensors   "vectors" F32 [n, width], unit rows
 *   IDX/items.jsonl           an object a row: id, kind ("image", "text"), stream, split, group, licence,
 *                             file, text
 *   IDX/index.json            schema "suture.index/1": rows, width, the model's folder and SHA-256, the
 *                             datasets, the items' SHA-256; written last
 *
 * The score is the inner product of unit vectors (the cosine). Equal scores are ordered by row. */
#ifndef SU_RETRIEVE_INDEX_H
#define SU_RETRIEVE_INDEX_H

#include "align/model.h"
#include "datasets/dataset.h"

typedef struct {
    const char *id, *kind, *stream, *split, *group, *licence, *file,
        *text; /* never NULL; kind "image" or "text" */
} su_index_item;

typedef struct {
    int64_t row;
    double score;
} su_hit;

typedef struct su_index su_index;

/* Embeds `split` (NULL: everything) of every dataset with the model and writes the index. model_folder is
 * recorded, so that a search finds the towers again. SU_EINVAL when out already holds an index. Texts that
 * repeat (after nothing is changed) stay separate items. */
su_status su_index_build(su_model *model, const char *model_folder, const char *const *datasets, int count,
                         const char *split, const char *out, int64_t *rows, su_error *err);

su_status su_index_open(const char *folder, su_index **index, su_error *err);
void su_index_close(su_index *index);
int64_t su_index_rows(const su_index *index);
int32_t su_index_width(const su_index *index);
const su_index_item *su_index_at(const su_index *index, int64_t row);
const char *su_index_model(const su_index *index);        /* folder as recorded (absolute) */
const char *su_index_model_sha256(const su_index *index); /* of the weights that made the vectors */

/* What a search may return.
 * kind: "image", "text" or "any" (NULL). where: NULL or conditions joined by "and": FIELD=VALUE,
 * FIELD!=VALUE, FIELD~VALUE (contains, letters' case ignored); FIELD is id, kind, stream, split, group,
 * licence, file or text; VALUE may stand in single quotes. */
typedef struct {
    const char *kind, *where;
} su_index_filter;

/* The k best rows that pass the filter (fewer when fewer pass). query: float [width], host. hits: [k],
 * *found: how many. SU_EINVAL for an expression that cannot be read, naming the place. */
su_status su_index_search(const su_index *index, su_device *device, const float *query,
                          const su_index_filter *filter, int32_t k, su_hit *hits, int32_t *found,
                          su_error *err);

#endif
