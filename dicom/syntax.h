/* Transfer syntaxes: what a UID means for reading, and why some are refused [PS3.5 A; PS3.6 A]. */
#ifndef SU_DICOM_SYNTAX_H
#define SU_DICOM_SYNTAX_H

#include <stdbool.h>

typedef enum {
    SU_CODEC_NATIVE,         /* the values themselves, in the element or (A.4.11) in fragments */
    SU_CODEC_DEFLATED_FRAME, /* every frame a raw DEFLATE stream of its native form [A.4.13] */
    SU_CODEC_RLE,
    SU_CODEC_JPEG,    /* ITU-T T.81, any process that IJG's library knows */
    SU_CODEC_JPEG_LS, /* ITU-T T.87 */
    SU_CODEC_JPEG_2000,
    SU_CODEC_NONE, /* refused */
} su_codec;

typedef struct {
    const char *uid, *name;
    su_codec codec;
    bool implicit, big, deflated; /* of the data set; explicit little endian where all are false */
    const char *refusal;          /* NONE: why, as the end of a sentence */
} su_syntax;

/* NULL for a UID that is not known here, "" included. */
const su_syntax *su_syntax_find(const char *uid);

const char *su_codec_name(su_codec codec); /* "JPEG 2000"; never NULL */

#endif
