/* Importing: image files and texts become a packed dataset (datasets/dataset.h).
 *
 *   source -> items, in order -> [decode, resize, hash: all threads] -> shards, records, skipped -> manifest
 *
 * An importer is a source: an iterator that names files and texts. Everything else is here, once: checks,
 * threads, shards, splits, the licence filter, the list of what was skipped, resuming after a kill. The
 * dataset's bytes depend on the source and the options, never on the number of threads or on interruptions. */
#ifndef SU_DATASETS_IMPORT_H
#define SU_DATASETS_IMPORT_H

#include "base/image.h"
#include "datasets/dataset.h"
#include "datasets/split.h"

typedef struct {
    su_image_recipe recipe;
    su_split_rule rule;
    bool split_by_group;   /* true: by su_split_of_group even where the source names a split */
    const char *licences;  /* wanted ones, by commas (datasets/licence.h); NULL: all */
    int threads;           /* 0: one per core */
    int64_t shard_samples; /* 0: as many as make 128 MiB, 16 to 2,048 */
} su_import_options;

/* 224 x 224 x 3, padded; the source's split; all licences. */
void su_import_defaults(su_import_options *options);

/* Every importer writes the dataset to the folder `out`, or fails: SU_EINVAL when out is something else
 * already, or when OUT.partial holds an unfinished import of something else; SU_ENOTFOUND when no item at all
 * was good. After any failure or kill, the same call goes on where the last one stopped; after the end it
 * does nothing. */

typedef struct {
    const char *image;   /* one column, or several by commas: several image streams, named by their columns */
    const char *text;    /* columns' names; image and text have the defaults "image" and "text" */
    const char *group;   /* NULL: the first there is of group, patient, patient_id, subject, subject_id,
                          * article;   without any, an image's own file name is its group */
    const char *split;   /* NULL: "split" when there is one, else by the group's hash */
    const char *licence; /* NULL: "licence" or "license" when there is one */
    const char *id;      /* NULL: the first image's file name, with ":LINE" where it has been seen before */
} su_csv_columns;

/* A CSV file as spreadsheets write them: quotes, commas and line ends inside quotes, CRLF, a byte-order mark.
 * The first row names the columns. Image files are relative to the CSV's folder. */
su_status su_import_csv(const char *csv, const su_csv_columns *columns, const char *out,
                        const su_import_options *options, su_error *err);

/* ROCO as its authors distribute it: SPLIT/radiology/{captions.txt,licences.txt,dlinks.txt,images/} for SPLIT
 * train, validation and test. folder: the repository's data/ (or what holds it), one SPLIT, or one folder
 * with a captions.txt. Without options->split_by_group the folders' split is kept, which shares articles
 * between splits. */
su_status su_import_roco(const char *folder, const char *out, const su_import_options *options,
                         su_error *err);

enum { SU_DICOM_SLICES_MAX = 64 };

typedef struct {
    const char *const
        *paths; /* folders or files of DICOM, structured reports and .txt or .xml reports among them */
    int path_count;
    const char *const *reports; /* further files or folders of reports, .csv too */
    int report_count;
    const char *key;     /* the pseudonyms' key file; NULL: OUT.key. Made when there is none */
    int slices;          /* a volume is shown by so many of its slices, 1 .. SU_DICOM_SLICES_MAX */
    bool keep_burned_in; /* false: images with burned-in annotation are left out */
} su_dicom_import;

/* DICOM studies and their reports (datasets/dicom/study.h, report.h). Samples of a patient stay in one split.
 * Records hold pseudonyms (datasets/dicom/pseudonym.h) in the place of identifiers, and reports without the
 * words that the study's header says of people. SU_EUNSUPPORTED in a build without DICOM. */
su_status su_import_dicom(const su_dicom_import *how, const char *out, const su_import_options *options,
                          su_error *err);

/* ---- for importers ---- */

typedef struct {
    const char *id, *text, *group, *split, *licence, *source; /* never NULL, any bytes; "" when unknown */
    const char *const *files;    /* per image stream; below the source's folder */
    int64_t line;                /* 1-based; 0: none */
    const char *reason, *detail; /* not NULL: the source knows that this item is bad, and why */
    int64_t handle;              /* for the source's own load */
    const json_t *extra;         /* an object whose members the record gets as well; NULL: none */
} su_import_item;

typedef struct {
    const char *kind;           /* "csv" */
    const json_t *description;  /* what names this source: files with their SHA-256, columns */
    const char *folder;         /* of the image files */
    const char *const *streams; /* image streams */
    int image_streams;
    int64_t total; /* items; 0: unknown */
    /* Sets *item to the next one, valid until the next call, or to NULL after the last. */
    su_status (*next)(void *self, const su_import_item **item, su_error *err);
    /* The picture of an item, in any thread; NULL: the item's file, by su_image_load. Messages must not name
     * what the record hides. */
    su_status (*load)(void *self, int64_t handle, int stream, const su_image_recipe *recipe, su_image *image,
                      su_error *err);
    void *self;
} su_import_source;

enum { SU_IMPORT_STREAMS_MAX = 8, SU_STREAM_NAME_MAX = 64 };

su_status su_import_run(const su_import_source *source, const char *out, const su_import_options *options,
                        su_error *err);

#endif
