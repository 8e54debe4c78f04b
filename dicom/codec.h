/* One compressed frame, and the libraries that decode it. Runs inside a worker process only (worker.h). */
#ifndef SU_DICOM_CODEC_H
#define SU_DICOM_CODEC_H

#include "base/error.h"
#include <stdbool.h>
#include <stdint.h>

typedef enum { SU_CODEC_DCMTK, SU_CODEC_JPEG_LS, SU_CODEC_JPEG_2000 } su_codec;

/* The Image Pixel Module's values, checked by whoever asks [PS3.3 C.7.6.3]. Plain data: it crosses a socket.
 */
typedef struct {
    su_codec codec;
    char syntax[65], photometric[20];
    int32_t rows, columns, samples, allocated, stored, high;
    bool is_signed, planar;
    uint64_t length;      /* of the compressed frame, its fragments joined */
    uint64_t frame_bytes; /* of the decoded one */
} su_codec_job;

enum { SU_CODEC_SPARE = 2 }; /* bytes that must lie behind `data` and behind `out`: lengths are made even */

/* out: [frame_bytes], values by pixel. SU_EFORMAT (damaged, or another picture than the job says), SU_ENOMEM.
 */
su_status su_codec_run(const su_codec_job *job, uint8_t *data, void *out, const char *name, su_error *err);

/* DCMTK's part of it: JPEG and RLE. */
su_status su_dcmtk_codec(const su_codec_job *job, uint8_t *data, void *out, const char *name, su_error *err);
/* Loads what DCMTK reads from the disk (its dictionary): before a worker gives up its right to open files. */
void su_dcmtk_prepare(void);
/* Reads a data set's structure from memory as su_dicom_open would. SU_EFORMAT, SU_ENOMEM. */
su_status su_dcmtk_vet(const void *data, uint64_t length, const char *name, su_error *err);

#endif
