/* Encapsulated pixel data [PS3.5 A.4]: which fragments make which frame.
 *
 *   (7FE0,0010)  | offset table | fragment | fragment | ... | delimiter
 *
 * One fragment a frame needs no table. Else the extended offset table says, else the basic one, else the
 * places where a codestream begins, of which there must be one a frame. A table that points outside of the
 * pixel data, or a fragment that ends there, is an error. */
#ifndef SU_DICOM_FRAGMENTS_H
#define SU_DICOM_FRAGMENTS_H

#include "dicom/scan.h"

enum { SU_FRAGMENTS_MAX = 4000000 };

typedef enum {
    SU_FRAMES_ONE,
    SU_FRAMES_EACH,
    SU_FRAMES_EXTENDED,
    SU_FRAMES_BASIC,
    SU_FRAMES_MARKERS
} su_frames_by;

typedef struct {
    uint64_t at, offset; /* of its item's header, of its bytes */
    uint32_t length;
} su_fragment;

typedef struct su_fragments {
    su_fragment *items; /* [count]; the offset table is none of them */
    int64_t count;
    int64_t *first; /* [frames + 1]: frame f is made of items first[f] .. first[f + 1] - 1 */
    int frames;
    su_frames_by by;
    bool delimited; /* false: the file ends where the delimiter should be */
} su_fragments;

/* SU_EFORMAT: damaged, or fewer fragments than frames, or which belong to which cannot be told; SU_ELIMIT,
 * SU_EIO, SU_ENOMEM. */
su_status su_fragments_read(su_source *source, const su_scan *scan, int frames, su_fragments **fragments,
                            su_error *err);
void su_fragments_free(su_fragments *fragments); /* NULL accepted */

/* The compressed bytes of a frame, from 0: how many, and a copy of them, joined. */
uint64_t su_fragments_length(const su_fragments *fragments, int frame);
su_status su_fragments_copy(const su_fragments *fragments, int frame, su_source *source, uint8_t *out,
                            su_error *err);

const char *su_frames_by_name(su_frames_by by); /* "basic offset table"; never NULL */

#endif
