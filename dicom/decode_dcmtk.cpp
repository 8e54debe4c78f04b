// DCMTK's side of decode.c. No type and no exception of C++ leaves this file.
#include <cstring>
#include <new>

#include <dcmtk/config/osconfig.h>
#include <dcmtk/dcmdata/dcpixel.h>
#include <dcmtk/dcmdata/dcpixseq.h>
#include <dcmtk/dcmdata/dcpxitem.h>
#include <dcmtk/dcmdata/dctk.h>

extern "C" {
#include "base/memory.h"
#include "dicom/decode_dcmtk.h"
}

namespace
{

DcmItem *dataset(su_dicom_file *file)
{
    return reinterpret_cast<DcmItem *>(su_dicom_dataset(file));
}

template <class F> su_status guarded(su_dicom_file *file, su_error *err, F &&body)
{
    try {
        return body();
    } catch (const std::bad_alloc &) {
        return su_fail(err, SU_ENOMEM, "%s: no memory to decode it", su_dicom_path(file));
    } catch (...) {
        return su_fail(err, SU_EFORMAT, "%s: its pixel data cannot be decoded", su_dicom_path(file));
    }
}

DcmElement *element(su_dicom_file *file, su_pixels_kind kind)
{
    const DcmTagKey keys[] = {DCM_UndefinedTagKey, DCM_PixelData, DCM_FloatPixelData,
                              DCM_DoubleFloatPixelData};
    DcmElement *e = nullptr;
    if (dataset(file)->findAndGetElement(keys[kind], e).bad()) return nullptr;
    return e;
}

DcmPixelSequence *sequence(su_dicom_file *file)
{
    DcmPixelData *pixels = dynamic_cast<DcmPixelData *>(element(file, SU_PIXELS_INTEGER));
    DcmPixelSequence *found = nullptr;
    E_TransferSyntax syntax = EXS_Unknown;
    const DcmRepresentationParameter *parameter = nullptr;
    if (!pixels) return nullptr;
    pixels->getOriginalRepresentationKey(syntax, parameter);
    if (pixels->getEncapsulatedRepresentation(syntax, parameter, found).bad()) return nullptr;
    return found;
}

// A codestream of JPEG or JPEG-LS (SOI) or JPEG 2000 (SOC) begins in this fragment.
bool begins_picture(DcmPixelItem *item)
{
    Uint8 *p = nullptr;
    return item->getLength() >= 4 && item->getUint8Array(p).good() && p && p[0] == 0xff &&
           ((p[1] == 0xd8 && p[2] == 0xff) || (p[1] == 0x4f && p[2] == 0xff));
}

// By the offset table, which has an entry a frame.
bool frame_by_table(DcmPixelSequence *all, int frame, int frames, unsigned long *first, unsigned long *end)
{
    DcmPixelItem *table = nullptr, *item = nullptr;
    Uint8 *raw = nullptr;
    if (all->getItem(table, 0).bad() || table->getLength() != 4u * static_cast<Uint32>(frames) ||
        table->getUint8Array(raw).bad() || !raw)
        return false;
    const auto offset = [&](int f) { // little endian, as all encapsulated data
        const Uint8 *p = raw + 4 * f;
        return static_cast<uint64_t>(p[0]) | static_cast<uint64_t>(p[1]) << 8 |
               static_cast<uint64_t>(p[2]) << 16 | static_cast<uint64_t>(p[3]) << 24;
    };
    const uint64_t from = offset(frame), to = frame + 1 < frames ? offset(frame + 1) : UINT64_MAX;
    const unsigned long items = all->card();
    uint64_t at = 0;
    *first = 0;
    *end = items;
    for (unsigned long i = 1; i < items; i++) {
        if (at == from) *first = i;
        if (at == to) *end = i;
        if (all->getItem(item, i).bad()) return false;
        at += 8 + item->getLength();
    }
    return *first > 0 && *end > *first;
}

// By the places where a codestream begins: there must be one a frame.
bool frame_by_marker(DcmPixelSequence *all, int frame, int frames, unsigned long *first, unsigned long *end)
{
    const unsigned long items = all->card();
    int begun = 0;
    *end = items;
    for (unsigned long i = 1; i < items; i++) {
        DcmPixelItem *item = nullptr;
        if (all->getItem(item, i).bad()) return false;
        if (!begins_picture(item)) continue;
        if (begun == frame) *first = i;
        if (begun == frame + 1) *end = i;
        begun++;
    }
    return begun == frames;
}

// Fragments first .. end - 1 (item 0 is the offset table) make the frame.
bool frame_fragments(DcmPixelSequence *all, int frame, int frames, unsigned long *first, unsigned long *end)
{
    const unsigned long items = all->card();
    if (frames == 1 || items == static_cast<unsigned long>(frames) + 1) {
        *first = frames == 1 ? 1 : static_cast<unsigned long>(frame) + 1;
        *end = frames == 1 ? items : *first + 1;
        return items > 1;
    }
    return frame_by_table(all, frame, frames, first, end) || frame_by_marker(all, frame, frames, first, end);
}

su_status no_fragments(su_dicom_file *file, int frame, su_error *err)
{
    return su_fail(err, SU_EFORMAT, "%s: which fragments of pixel data make frame %d cannot be told",
                   su_dicom_path(file), frame + 1);
}

} // namespace

su_pixels_kind su_dcmtk_pixels(su_dicom_file *file, uint64_t *bytes, bool *fragments)
{
    *bytes = 0;
    *fragments = false;
    try {
        for (int k = SU_PIXELS_INTEGER; k <= SU_PIXELS_DOUBLE; k++) {
            DcmElement *e = element(file, static_cast<su_pixels_kind>(k));
            if (!e) continue;
            *fragments = k == SU_PIXELS_INTEGER && sequence(file) != nullptr;
            *bytes = *fragments ? 0 : e->getLengthField();
            return static_cast<su_pixels_kind>(k);
        }
    } catch (...) {
    }
    return SU_PIXELS_NONE;
}

su_status su_dcmtk_native(su_dicom_file *file, su_pixels_kind kind, uint64_t offset, uint64_t bytes,
                          void *out, su_error *err)
{
    return guarded(file, err, [&] {
        DcmElement *e = element(file, kind);
        const OFCondition c =
            e ? e->getPartialValue(out, static_cast<Uint32>(offset), static_cast<Uint32>(bytes))
              : EC_TagNotFound;
        return c.good() ? SU_OK
                        : su_fail(err, SU_EFORMAT, "%s: pixel data: %s", su_dicom_path(file), c.text());
    });
}

su_status su_dcmtk_fragments(su_dicom_file *file, int frame, int frames, uint8_t **data, size_t *length,
                             su_error *err)
{
    *data = nullptr;
    *length = 0;
    return guarded(file, err, [&]() -> su_status {
        DcmPixelSequence *all = sequence(file);
        unsigned long first = 0, end = 0;
        if (!all || all->card() < 2)
            return su_fail(err, SU_EFORMAT, "%s: pixel data without a fragment", su_dicom_path(file));
        if (!frame_fragments(all, frame, frames, &first, &end)) return no_fragments(file, frame, err);
        const auto bytes_of = [all](unsigned long i, uint64_t *bytes) -> const Uint8 * {
            DcmPixelItem *item = nullptr;
            Uint8 *value = nullptr;
            *bytes = 0;
            if (all->getItem(item, i).bad() || item->getUint8Array(value).bad() || !value) return nullptr;
            *bytes = item->getLength();
            return value;
        };
        uint64_t sum = 0, n = 0;
        for (unsigned long i = first; i < end; i++) {
            bytes_of(i, &n);
            sum += n;
        }
        *data = static_cast<uint8_t *>(su_alloc(sum + 1, 1));
        if (!*data) return su_fail(err, SU_ENOMEM, "%s: no memory to decode it", su_dicom_path(file));
        for (unsigned long i = first; i < end; i++) {
            const Uint8 *value = bytes_of(i, &n);
            if (n) std::memcpy(*data + *length, value, n);
            *length += n;
        }
        return SU_OK;
    });
}
