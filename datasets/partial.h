/* The folder of an import that has not finished: OUT.partial, which becomes OUT by one rename.
 *
 *   OUT.partial/import.json                 what is being imported and how; the right to go on is that this
 * is equal OUT.partial/STREAM-00000.safetensors    part 0: pixels of each image stream
 *   OUT.partial/part-00000.records.jsonl            its records, one a sample
 *   OUT.partial/part-00000.skipped.jsonl            what was left out meanwhile
 *   OUT.partial/part-00000.json                     its counts and hashes; written last
 *   OUT.partial/part-00001...
 *
 * Every file appears whole or not at all (base/file.h), and a part counts once part-N.json is there. So after
 * a kill at any moment the folder holds parts 0..k-1, which are kept, and perhaps some files of part k, which
 * are written again: the same bytes, because an item's result depends on nothing but the item. The last step
 * joins the parts' records, writes the manifest, removes the part files and renames the folder; a kill in
 * between repeats that step. */
#ifndef SU_DATASETS_PARTIAL_H
#define SU_DATASETS_PARTIAL_H

#include "base/memory.h"
#include "datasets/dataset.h"

/* What one part adds. Everything belongs to the caller. */
typedef struct {
    int64_t items;   /* of the source, skipped ones included, since the last part */
    int64_t samples; /* may be 0: then there are no pixels */
    const char *const *streams;
    int image_streams;
    uint8_t *const *pixels; /* per image stream: [samples, size, size, channels] */
    const su_image_recipe *recipe;
    const su_buffer *records, *skipped; /* JSON Lines */
    const json_t *splits, *reasons;     /* {"train":n}, {"missing-file":n} */
} su_part;

typedef struct su_partial su_partial;

/* Makes or takes up OUT.partial, and locks it against a second process. import: kept by reference. OUT that
 * this very import has made is found whole, with nothing left to do. SU_EINVAL: OUT is there already and is
 * something else, or OUT.partial is of another import. SU_EIO: another process is writing
 * it. */
su_status su_partial_open(const char *out, json_t *import, su_partial **partial, su_error *err);
int64_t su_partial_items(const su_partial *p); /* of the source that the parts so far stand for */
int64_t su_partial_samples(const su_partial *p);
bool su_partial_is_whole(const su_partial *p); /* only su_partial_finish was left to do */
const json_t *su_partial_reasons(const su_partial *p);

su_status su_partial_add(su_partial *p, const su_part *part, su_error *err);
/* Writes the manifest (streams and recipe from `manifest`, the rest from the parts) and renames to OUT. */
su_status su_partial_finish(su_partial *p, json_t *manifest, su_error *err);
void su_partial_discard(su_partial *p); /* removes the folder and closes */
void su_partial_close(su_partial *p);   /* leaves the folder as it is; NULL accepted */

#endif
