#include "dicom/codec.h"
#include "dicom/decoder/j2k.h"
#include "dicom/decoder/jls.h"
#include "dicom/decoder/jpeg.h"

su_status su_codec_run(const su_codec_job *job, const uint8_t *data, void *out, su_error *err)
{
    const size_t length = (size_t)job->length;
    switch (job->codec) {
    case SU_CODEC_JPEG:
        return su_jpeg_decode(data, length, job->rows, job->columns, job->samples, job->bytes, job->precision,
                              out, err);
    case SU_CODEC_JPEG_LS:
        return su_jls_decode(data, length, job->rows, job->columns, job->samples, job->bytes, out, err);
    case SU_CODEC_JPEG_2000:
        return su_j2k_decode(data, length, job->rows, job->columns, job->samples, job->bytes, job->is_signed,
                             out, err);
    default:
        return su_fail(err, SU_EUNSUPPORTED, "no decoder for it");
    }
}
