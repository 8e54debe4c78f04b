/* A packed dataset, as every importer writes it and training, evaluation and indexing read it.
 *
 *   DS/manifest.json             schema "suture.dataset/1", recipe, streams, splits, shards and their
 * SHA-256, source DS/records.jsonl             one object a sample: id, group, split, text, licence, source,
 * and under "images" each image stream's {file, width, height, channels, sha256, phash} DS/skipped.jsonl one
 * object an item that was not imported: {"item","line","reason","detail"} DS/STREAM-00000.safetensors
 * "pixels" U8 [n, height, width, channels], in record order
 *
 * A sample has M >= 2 streams in the manifest's order: image streams (in shards), then "text" (in the
 * records). The manifest is written last: a folder without one is an import that did not finish. */
#ifndef SU_DATASETS_DATASET_H
#define SU_DATASETS_DATASET_H

#include "base/error.h"
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum { SU_DICOM_RECIPE_MAX = 32 };

/* How an image became a stored square; travels with every model trained on it. */
typedef struct {
    int32_t size;     /* side of the stored square, pixels: 32..1024 */
    int32_t channels; /* 3 (RGB) or 1 (grey) */
    bool crop;      /* false: the whole image, padded with black to a square; true: centre crop to a square */
    double spacing; /* mm: a stored pixel shows so much, neither fitted nor cropped to size; 0: fitted */
    char dicom[SU_DICOM_RECIPE_MAX]; /* how DICOM files were rendered, "ct-lung/1"; "": "dicom-standard/1" */
} su_image_recipe; /* always: antialiased bicubic (a = -0.5, support scaled by the reduction), 8 bits */

/* {"size":224,"channels":3,"fit":"pad"|"crop","resample":"bicubic-antialias/1","dicom":"dicom-standard/1"},
 * and "spacing" where there is one; new reference, NULL without memory. Without "dicom" the standard one is
 * meant. */
json_t *su_image_recipe_json(const su_image_recipe *r);
/* Sets r->dicom: "ct-lung" or "ct-lung/1" (dicom/recipe.h); NULL: the standard rendering. SU_EINVAL names
 * those that there are; SU_EUNSUPPORTED in a build without DICOM. */
su_status su_image_recipe_render_by(su_image_recipe *r, const char *name, su_error *err);
const char *su_image_recipe_dicom(const su_image_recipe *r); /* never "" */
/* In words, for messages: "224 px, 3 channels, padded, DICOM by dicom-standard/1". */
void su_image_recipe_text(const su_image_recipe *r, char text[128]);
bool su_image_recipe_equal(const su_image_recipe *a, const su_image_recipe *b);
su_status su_image_recipe_parse(const json_t *o, const char *where, su_image_recipe *r, su_error *err);

typedef struct {
    const char *id, *group, *split, *text, *licence,
        *source;        /* never NULL; "" when unknown. source: file name as given, no PHI */
    const json_t *json; /* the whole record, for what is not listed here */
} su_record;

typedef struct su_dataset su_dataset;

su_status su_dataset_open(const char *folder, su_dataset **ds, su_error *err);
void su_dataset_close(su_dataset *ds);
const char *su_dataset_folder(const su_dataset *ds);
const char *
su_dataset_sha256(const su_dataset *ds); /* of manifest.json, which holds the hashes of everything else */
const su_image_recipe *su_dataset_recipe(const su_dataset *ds);
const json_t *su_dataset_manifest(const su_dataset *ds);
int64_t su_dataset_count(const su_dataset *ds);
int su_dataset_streams(const su_dataset *ds);                    /* M, "text" included */
const char *su_dataset_stream(const su_dataset *ds, int stream); /* "image", ..., "text" (always the last) */
const su_record *su_dataset_record(const su_dataset *ds, int64_t i);
/* Stored pixels [size, size, channels] of image stream s of sample i, in the map. */
const uint8_t *su_dataset_pixels(const su_dataset *ds, int stream, int64_t i);
/* Reads the shards that hold these samples once and compares them with their checksums: SU_EFORMAT names a
 * damaged one. Not for two threads at a time. */
su_status su_dataset_check_pixels(const su_dataset *ds, const int64_t *items, int64_t count, su_error *err);
/* Indexes of the samples of a split, ascending, freed with su_free. SU_ENOTFOUND names the splits that there
 * are. split NULL or "all": every sample. */
su_status su_dataset_split(const su_dataset *ds, const char *split, int64_t **items, int64_t *count,
                           su_error *err);
/* Reads every byte and compares it with the manifest's SHA-256. *damaged: a list of {"file","reason"}, empty
 * when all is well; drop it with json_decref. Fails only when the check itself could not be made. */
su_status su_dataset_verify(const su_dataset *ds, json_t **damaged, su_error *err);

#endif
