#include "dicom/codec.h"
#include "dicom/j2k.h"
#include "dicom/jls.h"

su_status su_codec_run(const su_codec_job *job, uint8_t *data, void *out, const char *name, su_error *err)
{
    const int bytes = job->allocated < 8 ? 1 : job->allocated / 8;
    const size_t length = (size_t)job->length;
    switch (job->codec) {
    case SU_CODEC_JPEG_2000:
        return su_j2k_decode(data, length, job->rows, job->columns, job->samples, bytes, name, out, err);
    case SU_CODEC_JPEG_LS:
        return su_jls_decode(data, length, job->rows, job->columns, job->samples, bytes, name, out, err);
    case SU_CODEC_DCMTK:
        return su_dcmtk_codec(job, data, out, name, err);
    }
    return su_fail(err, SU_EUNSUPPORTED, "%s: no such decoder", name);
}
