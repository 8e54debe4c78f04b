/* The audit of a packed dataset: does what is tested leak into what is trained on, and is everything
 * readable?
 *
 *   groups      an article or patient with samples in more than one split                        a leak
 *   images      the same stored pixels (SHA-256), or the same picture (datasets/phash.h), in
 *               more than one split                                                              a leak
 *   texts       the same text, case and white space folded, in more than one split: short
 *               captions ("Chest X-ray") recur honestly, so this is a note, and with `strict`    a leak
 *   empty       a text without a word, an image of one grey level                                a note
 *   damaged     a file whose SHA-256 is not the manifest's                                       a finding
 *
 * Duplicates within a split are counted and listed, never a leak. */
#ifndef SU_DATASETS_AUDIT_H
#define SU_DATASETS_AUDIT_H

#include "datasets/dataset.h"

typedef struct {
    bool strict; /* identical texts across splits count as a leak */
    int threads; /* 0: one per core */
} su_audit_options;

/* *report, dropped with json_decref:
 * {"schema":"suture.data.audit/1","dataset","sha256","samples","splits":{NAME:n},
 *  "leak":bool,"damage":bool,"strict":bool,
 *  "groups":{"leak","count","across","samples":{SPLIT:n},"share":{SPLIT:x},"train_samples":{SPLIT:n},
 *            "train_share":{SPLIT:x},"items":[{"group","splits":{NAME:n}}]},
 *  "identical_images":{"leak","across","within","samples":{SPLIT:n},"sets":[{"across","items":[{"id","split","stream"}]}]},
 *  "near_images":{"leak","distance","agreement","across","within","samples":{SPLIT:n},
 *                 "pairs":[{"across","a":{"id","split","stream"},"b":{...},"distance","agreement"}],"pairs_left_out"},
 *  "identical_texts":{"leak","across","within","samples":{SPLIT:n},"sets":[...]},
 *  "empty":{"texts","images","items":[{"id","split","what"}]},
 *  "skipped":{"items","reasons"},"damaged":[{"file","reason"}]}
 * "samples": how many of a split take part in something across splits; "share": that over the split's
 * samples. */
su_status su_audit(const su_dataset *ds, const su_audit_options *options, json_t **report, su_error *err);

/* The "groups" part alone, which needs no pixels: what an import warns of. */
su_status su_audit_groups(const su_dataset *ds, json_t **groups, su_error *err);

#endif
