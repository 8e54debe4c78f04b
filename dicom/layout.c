#include "dicom/layout.h"
#include "dicom/display.h"
#include <string.h>

static int64_t integer_or(su_dicom_item *ds, uint32_t tag, int64_t fallback)
{
    int64_t v = fallback;
    return su_dicom_integer(ds, tag, 0, &v) ? v : fallback;
}

int su_dicom_type_size(su_dicom_type type)
{
    static const int sizes[] = {1, 1, 2, 2, 4, 4, 4, 8};
    return sizes[type];
}

/* Attributes that a frame's size depends on. */
static su_status read_attributes(su_dicom_file *file, su_dicom_layout *l, su_error *err)
{
    const char *path = su_dicom_path(file);
    su_dicom_item *ds = su_dicom_dataset(file);
    const int64_t rows = integer_or(ds, SU_TAG(0x28, 0x10), 0),
                  columns = integer_or(ds, SU_TAG(0x28, 0x11), 0);
    const int64_t samples = integer_or(ds, SU_TAG(0x28, 0x02), 1),
                  allocated = integer_or(ds, SU_TAG(0x28, 0x100), 0);
    const int64_t stored = integer_or(ds, SU_TAG(0x28, 0x101), allocated);
    const int64_t high = integer_or(ds, SU_TAG(0x28, 0x102), stored - 1);
    if (rows < 1 || rows > 65535 || columns < 1 || columns > 65535)
        return su_fail(err, SU_EFORMAT,
                       "%s: pixel data of %lld rows (0028,0010) and %lld columns (0028,0011)", path,
                       (long long)rows, (long long)columns);
    if (samples != 1 && samples != 3)
        return su_fail(err, SU_EUNSUPPORTED, "%s: %lld samples a pixel (0028,0002); 1 and 3 are read", path,
                       (long long)samples);
    if (allocated != 1 && allocated != 8 && allocated != 16 && allocated != 32 && allocated != 64)
        return su_fail(err, SU_EUNSUPPORTED,
                       "%s: %lld bits allocated (0028,0100); 1, 8, 16, 32 and 64 are read", path,
                       (long long)allocated);
    if (stored < 1 || stored > allocated || high < stored - 1 || high >= allocated)
        return su_fail(err, SU_EFORMAT,
                       "%s: %lld bits stored (0028,0101), high bit %lld (0028,0102), in %lld", path,
                       (long long)stored, (long long)high, (long long)allocated);
    l->rows = (int32_t)rows;
    l->columns = (int32_t)columns;
    l->samples = (int32_t)samples;
    l->allocated = (int32_t)allocated;
    l->stored = (int32_t)stored;
    l->high = (int32_t)high;
    l->is_signed = integer_or(ds, SU_TAG(0x28, 0x103), 0) == 1;
    l->planar = samples == 3 && integer_or(ds, SU_TAG(0x28, 0x06), 0) == 1;
    su_dicom_text(ds, SU_TAG(0x28, 0x04), l->photometric, sizeof l->photometric);
    return SU_OK;
}

static su_status choose_type(su_dicom_file *file, su_dicom_layout *l, su_error *err)
{
    static const char *const kinds[] = {"", "integers", "floats (7fe0,0008)", "doubles (7fe0,0009)"};
    const su_pixels_kind kind = su_dicom_scan(file)->kind;
    if (kind == SU_PIXELS_FLOAT && l->allocated == 32)
        l->type = SU_DICOM_F32;
    else if (kind == SU_PIXELS_DOUBLE && l->allocated == 64)
        l->type = SU_DICOM_F64;
    else if (kind == SU_PIXELS_INTEGER && l->allocated <= 32)
        l->type = (l->allocated <= 8    ? SU_DICOM_U8
                   : l->allocated == 16 ? SU_DICOM_U16
                                        : SU_DICOM_U32) +
                  (l->is_signed && l->allocated > 1 ? 1 : 0);
    else
        return su_fail(err, SU_EUNSUPPORTED, "%s: pixels are %s of %d bits", su_dicom_path(file), kinds[kind],
                       l->allocated);
    return SU_OK;
}

/* rows x columns x frames x samples x bytes against the maxima, in 64 bits: at most 2^16 2^16 2^31 3 8 would
 * overflow, so that a frame is checked first. */
static su_status check_size(su_dicom_file *file, su_dicom_layout *l, su_error *err)
{
    const char *path = su_dicom_path(file);
    const int64_t values = (int64_t)l->rows * l->columns * l->samples;
    l->frame_bytes = values * su_dicom_type_size(l->type);
    if (l->frame_bytes > SU_DICOM_MAX_FRAME_BYTES)
        return su_fail(err, SU_ELIMIT, "%s: frames of %d x %d pixels are %lld bytes; at most %lld are read",
                       path, l->columns, l->rows, (long long)l->frame_bytes,
                       (long long)SU_DICOM_MAX_FRAME_BYTES);
    if (l->frame_bytes * l->frames > SU_DICOM_MAX_BYTES)
        return su_fail(err, SU_ELIMIT, "%s: %d frames of %lld bytes; at most %lld bytes are read", path,
                       l->frames, (long long)l->frame_bytes, (long long)SU_DICOM_MAX_BYTES);
    const uint64_t all = (uint64_t)values * (uint64_t)l->frames;
    l->stored_bytes = l->allocated == 1 ? (all + 7) / 8 : all * (uint64_t)(l->allocated / 8);
    return SU_OK;
}

/* Native data must all be there. */
static su_status check_native(su_dicom_file *file, su_dicom_layout *l, su_error *err)
{
    const char *path = su_dicom_path(file);
    const su_scan_element *p = &su_dicom_scan(file)->pixels;
    const uint64_t left = su_source_length(su_dicom_source(file)) - p->offset;
    if (l->samples == 3 && l->allocated == 8 && strcmp(l->photometric, "YBR_FULL_422") == 0 &&
        p->length < l->stored_bytes) {
        if (l->columns % 2)
            return su_fail(err, SU_EFORMAT, "%s: YBR_FULL_422 of an odd width, %d", path, l->columns);
        l->halved = true;
        l->stored_bytes = l->stored_bytes / 3 * 2;
    }
    if (p->length < l->stored_bytes)
        return su_fail_at(
            err, SU_EFORMAT, (int64_t)p->at,
            "%s: truncated: pixel data at byte %llu have %llu bytes, where %d frames of %d x %d pixels need "
            "%llu",
            path, (unsigned long long)p->at, (unsigned long long)p->length, l->frames, l->columns, l->rows,
            (unsigned long long)l->stored_bytes);
    if (left < l->stored_bytes)
        return su_fail_at(err, SU_EFORMAT, (int64_t)p->at,
                          "%s: truncated: pixel data at byte %llu should be %llu bytes, and %llu are there",
                          path, (unsigned long long)p->at, (unsigned long long)l->stored_bytes,
                          (unsigned long long)left);
    return SU_OK;
}

su_status su_dicom_layout_read(su_dicom_file *file, su_dicom_layout *l, su_error *err)
{
    const char *path = su_dicom_path(file), *uid = su_dicom_transfer_syntax(file);
    const su_scan *scan = su_dicom_scan(file);
    *l = (su_dicom_layout){0};
    if (scan->kind == SU_PIXELS_NONE) return su_fail(err, SU_ENOTFOUND, "%s: it has no pixel data", path);
    l->syntax = scan->known;
    l->fragments = scan->pixels.undefined;
    if (!l->syntax)
        return su_fail(err, SU_EUNSUPPORTED, "%s: its transfer syntax %s is not known here", path, uid);
    if (l->syntax->codec == SU_CODEC_NONE)
        return su_fail(err, SU_EUNSUPPORTED, "%s: %s: %s", path, l->syntax->name, l->syntax->refusal);
    su_status st = su_dicom_frames(file, &l->frames, err);
    if (!st) st = read_attributes(file, l, err);
    if (!st) st = choose_type(file, l, err);
    if (!st) st = check_size(file, l, err);
    if (st) return st;
    if (l->fragments && scan->kind != SU_PIXELS_INTEGER)
        return su_fail(err, SU_EFORMAT, "%s: floating point pixels in fragments", path);
    if (!l->fragments && l->syntax->codec != SU_CODEC_NATIVE)
        return su_fail(err, SU_EFORMAT,
                       "%s: its transfer syntax says %s, its pixel data are not in fragments", path,
                       l->syntax->name);
    return l->fragments ? SU_OK : check_native(file, l, err);
}
