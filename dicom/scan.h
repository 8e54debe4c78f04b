/* The structure of a DICOM file, walked once before anything else reads it: where the data set and the pixel
 * data are, how they are encoded, and that no length, nesting or count is beyond reason.
 *
 *   preamble   meta header (0002,..)   data set ......................   (7FE0,..) pixel data   ...
 *   may be missing                     |begin                        |end
 *                                      checked, then given to DCMTK  located, not read
 *
 * How a data set is really encoded is looked up in it: files that say explicit and are implicit, or the
 * reverse, or say nothing, are read as they are. A deflated data set is inflated first. */
#ifndef SU_DICOM_SCAN_H
#define SU_DICOM_SCAN_H

#include "dicom/source.h"
#include "dicom/syntax.h"

enum {
    SU_SCAN_DEPTH_MAX = 64,                /* sequences within sequences */
    SU_SCAN_ELEMENTS_MAX = 2000000,        /* of all items together */
    SU_SCAN_BYTES_MAX = 256 * 1024 * 1024, /* of a data set without its pixel data */
    SU_SCAN_INFLATED_MAX = 128 * 1024 * 1024,
};

typedef enum { SU_PIXELS_NONE, SU_PIXELS_INTEGER, SU_PIXELS_FLOAT, SU_PIXELS_DOUBLE } su_pixels_kind;

typedef struct {
    uint64_t at, offset,
        length;     /* header, value, its length as it is said (0 when undefined); at 0: not there */
    bool undefined; /* fragments follow [PS3.5 A.4] */
    char vr[3];     /* "" in an implicit data set */
} su_scan_element;

typedef struct {
    char syntax[65];        /* transfer syntax UID of the meta header; "" when it says none */
    const su_syntax *known; /* what that means; of a file that says none, what it is; NULL: unknown UID */
    bool implicit, big;     /* as the data set is */
    bool plain;             /* nothing in it that another reader might take for something else */
    uint64_t begin, end;
    su_pixels_kind kind;
    su_scan_element pixels, table, lengths; /* (7FE0,0001), (7FE0,0002): extended offset table */
} su_scan;

/* *source may be exchanged for its inflated data set. SU_EFORMAT: no DICOM file, or a damaged one: the
 * message says which element and byte. SU_ELIMIT, SU_EIO, SU_ENOMEM. */
su_status su_scan_file(su_source **source, su_scan *scan, su_error *err);

#endif
