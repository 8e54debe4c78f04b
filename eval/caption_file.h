/* Files of captions: hypotheses (one caption an id) and references (one or more an id).
 *
 *   JSON Lines   {"id":"7","caption":"..."}                 {"id":"7","captions":["...",...]}
 *   COCO         [{"image_id":7,"caption":"..."},...] {"annotations":[{"image_id":7,"caption":"..."},...]}
 *
 * The form is seen from the content. An id is a string or a whole number (7 and "7" are the same id); in JSON
 * Lines it may be called "id", "image_id" or "file" (what `suture caption` writes), and references may have
 * one "caption". What the field does with odd input is done here: an empty caption is scored as it is,
 * further references of an id are added to it. What cannot be used is left out, counted and listed as a flaw;
 * only a file in which nothing can be told apart (no JSON at all, a truncated COCO document) is an error. */
#ifndef SU_EVAL_CAPTION_FILE_H
#define SU_EVAL_CAPTION_FILE_H

#include "base/error.h"
#include "base/memory.h"
#include "base/threads.h"
#include <stdint.h>

enum {
    SU_CAPTION_MAX = 1 << 20, /* bytes of a caption */
    SU_CAPTION_FILE_MAX = 1 << 30,
    SU_CAPTION_ID_MAX = 1024, /* bytes */
};

typedef enum { SU_CAPTION_HYPOTHESES, SU_CAPTION_REFERENCES } su_caption_kind;

typedef struct {
    const char *id;    /* UTF-8, never empty */
    const char **text; /* UTF-8 without NUL */
    int64_t count;     /* 1 for hypotheses, at least 1 for references */
} su_caption_item;

typedef struct {
    int64_t place;    /* line, or entry of the COCO array; from 1; 0: of the id as a whole */
    const char *id;   /* NULL when not known */
    char reason[192]; /* never quotes a caption */
    bool used;        /* the caption is scored all the same: the reason is a remark */
} su_caption_flaw;

typedef struct {
    su_caption_item *items; /* in the order of their first appearance */
    int64_t count;
    su_caption_flaw *flaws;
    int64_t flaw_count;
    const char *form; /* "JSON Lines" or "COCO" */
    struct su_caption_store *store;
} su_captions;

/* Lines are parsed by all threads of the pool (NULL: by the caller); what comes out does not depend on their number.
 * SU_EFORMAT, SU_ELIMIT, SU_ENOTFOUND, SU_EIO, SU_ENOMEM; nothing is left behind then. */
su_status su_captions_read(const char *path, su_caption_kind kind, su_pool *pool, su_captions *captions,
                           su_error *err);
/* The same from memory; name is used in messages. */
su_status su_captions_parse(const char *text, size_t length, const char *name, su_caption_kind kind,
                            su_pool *pool, su_captions *captions, su_error *err);
void su_captions_free(su_captions *captions);

const su_caption_item *su_captions_find(const su_captions *captions, const char *id); /* NULL: not there */

/* Adds a flaw of an id as a whole, such as one that the other file lacks. */
su_status su_captions_note(su_captions *captions, const char *id, const char *reason, su_error *err);

#endif
