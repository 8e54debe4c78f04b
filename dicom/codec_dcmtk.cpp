// DCMTK's part of codec.h. No type and no exception of C++ leaves this file.
#include <mutex>
#include <new>

#include <dcmtk/config/osconfig.h>
#include <dcmtk/dcmdata/dcdict.h>
#include <dcmtk/dcmdata/dcistrmb.h>
#include <dcmtk/dcmdata/dcpixel.h>
#include <dcmtk/dcmdata/dcpixseq.h>
#include <dcmtk/dcmdata/dcpxitem.h>
#include <dcmtk/dcmdata/dcrledrg.h>
#include <dcmtk/dcmdata/dctk.h>
#include <dcmtk/dcmjpeg/djdecode.h>
#include <dcmtk/oflog/oflog.h>

extern "C" {
#include "dicom/codec.h"
}

namespace
{

template <class F> su_status guarded(const char *name, su_error *err, F &&body)
{
    try {
        return body();
    } catch (const std::bad_alloc &) {
        return su_fail(err, SU_ENOMEM, "%s: no memory to decode it", name);
    } catch (...) {
        return su_fail(err, SU_EFORMAT, "%s: its pixel data cannot be decoded", name);
    }
}

void describe(const su_codec_job *job, DcmDataset *ds)
{
    const auto put = [ds](const DcmTagKey &tag, int32_t value) {
        ds->putAndInsertUint16(tag, static_cast<Uint16>(value));
    };
    put(DCM_Rows, job->rows);
    put(DCM_Columns, job->columns);
    put(DCM_SamplesPerPixel, job->samples);
    put(DCM_BitsAllocated, job->allocated);
    put(DCM_BitsStored, job->stored);
    put(DCM_HighBit, job->high);
    put(DCM_PixelRepresentation, job->is_signed);
    if (job->samples > 1) put(DCM_PlanarConfiguration, job->planar);
    ds->putAndInsertString(DCM_PhotometricInterpretation, job->photometric);
}

} // namespace

void su_dcmtk_prepare(void)
{
    static std::once_flag once;
    std::call_once(once, [] {
        OFLog::configure(OFLogger::OFF_LOG_LEVEL);
        dcmDataDict.rdlock();
        dcmDataDict.rdunlock();
        dcmEnableUnknownVRConversion.set(OFTrue);
        DJDecoderRegistration::registerCodecs(EDC_never, EUC_default, EPC_colorByPixel);
        DcmRLEDecoderRegistration::registerCodecs();
    });
}

su_status su_dcmtk_codec(const su_codec_job *job, uint8_t *data, void *out, const char *name, su_error *err)
{
    su_dcmtk_prepare();
    return guarded(name, err, [&] {
        DcmDataset ds;
        describe(job, &ds);
        DcmPixelSequence *sequence = new DcmPixelSequence(DcmTag(DCM_PixelData, EVR_OB));
        DcmPixelItem *table = new DcmPixelItem(DcmTag(DCM_Item, EVR_OB)), *item = nullptr;
        sequence->insert(table);
        item = new DcmPixelItem(DcmTag(DCM_Item, EVR_OB));
        sequence->insert(item);
        DcmPixelData *pixels = new DcmPixelData(DCM_PixelData);
        pixels->putOriginalRepresentation(DcmXfer(job->syntax).getXfer(), nullptr, sequence);
        ds.insert(pixels);
        data[job->length] = 0;
        OFCondition c = item->putUint8Array(data, static_cast<unsigned long>(job->length + job->length % 2));
        Uint32 fragment = 1;
        OFString model;
        if (c.good())
            c = pixels->getUncompressedFrame(
                &ds, 0, fragment, out, static_cast<Uint32>(job->frame_bytes + job->frame_bytes % 2), model);
        return c.good() ? SU_OK : su_fail(err, SU_EFORMAT, "%s: pixel data: %s", name, c.text());
    });
}

su_status su_dcmtk_vet(const void *data, uint64_t length, const char *name, su_error *err)
{
    su_dcmtk_prepare();
    return guarded(name, err, [&] {
        DcmInputBufferStream stream;
        DcmFileFormat format;
        stream.setBuffer(data, static_cast<offile_off_t>(length));
        stream.setEos();
        format.transferInit();
        const OFCondition c = format.read(stream, EXS_Unknown, EGL_noChange, DCM_MaxReadLength);
        format.transferEnd();
        return c.good() ? SU_OK
                        : su_fail(err, SU_EFORMAT, "%s: no DICOM file, or a damaged one: %s", name, c.text());
    });
}
