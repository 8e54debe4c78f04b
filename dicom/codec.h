/* One compressed frame, and the libraries that decode it. Runs inside a worker process only (worker.h). */
#ifndef SU_DICOM_CODEC_H
#define SU_DICOM_CODEC_H

#include "base/error.h"
#include "dicom/syntax.h"
#include <stdbool.h>
#include <stdint.h>

/* Checked by whoever asks: the head of the codestream says the same (codestream.h). Plain data: it crosses a
 * socket. */
typedef struct {
    su_codec codec; /* JPEG, JPEG_LS, JPEG_2000 */
    int32_t rows, columns, samples;
    int32_t bytes;        /* of a decoded value: 1, 2 or 4 */
    int32_t precision;    /* bits of a sample in the codestream */
    bool is_signed;       /* Pixel Representation */
    uint64_t length;      /* of the compressed frame, its fragments joined */
    uint64_t frame_bytes; /* of the decoded one: rows * columns * samples * bytes */
} su_codec_job;

/* data: [length]; out: [frame_bytes], values by pixel. Messages do not name a file. SU_EFORMAT (damaged, or
 * another picture than the job says), SU_ENOMEM. */
su_status su_codec_run(const su_codec_job *job, const uint8_t *data, void *out, su_error *err);

/* Before a worker gives up its right to open files. */
void su_codec_prepare(void);

/* Reads the elements of a data set [length] as su_dicom_open would. SU_EFORMAT, SU_ENOMEM. */
su_status su_codec_vet(const void *data, uint64_t length, bool implicit, bool big, su_error *err);

#endif
