/* What decode.c takes from DCMTK. For it only. */
#ifndef SU_DICOM_DECODE_DCMTK_H
#define SU_DICOM_DECODE_DCMTK_H

#include "dicom/file.h"

typedef enum { SU_PIXELS_NONE, SU_PIXELS_INTEGER, SU_PIXELS_FLOAT, SU_PIXELS_DOUBLE } su_pixels_kind;

/* Which pixel data element there is, how long it is, and whether it is in fragments. */
su_pixels_kind su_dcmtk_pixels(su_dicom_file *file, uint64_t *bytes, bool *fragments);
/* Bytes of native pixel data, in the machine's order. */
su_status su_dcmtk_native(su_dicom_file *file, su_pixels_kind kind, uint64_t offset, uint64_t bytes,
                          void *out, su_error *err);
/* A frame's compressed bytes, its fragments joined; freed with su_free. */
su_status su_dcmtk_fragments(su_dicom_file *file, int frame, int frames, uint8_t **data, size_t *length,
                             su_error *err);

#endif
