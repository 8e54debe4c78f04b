#include "dicom/decode.h"
#include "base/memory.h"
#include "dicom/decode_dcmtk.h"
#include "dicom/display.h"
#include "dicom/worker.h"
#include <stdio.h>
#include <string.h>

/* What the Image Pixel Module says [PS3.3 C.7.6.3], checked. */
typedef struct {
    int32_t rows, columns, samples, allocated, stored, high;
    bool is_signed, planar, subsampled; /* subsampled: YBR_FULL_422 as it is stored natively */
    int frames;
    su_pixels_kind kind;
    uint64_t length; /* of native data; 0: fragments */
    bool fragments;
    su_dicom_type type;
    uint64_t frame_bytes; /* decoded */
    char photometric[20];
} layout;

static int64_t integer_or(su_dicom_item *ds, uint32_t tag, int64_t fallback)
{
    int64_t v = fallback;
    return su_dicom_integer(ds, tag, 0, &v) ? v : fallback;
}

static su_status read_layout(su_dicom_file *file, layout *l, su_error *err)
{
    const char *path = su_dicom_path(file);
    su_dicom_item *ds = su_dicom_dataset(file);
    su_status st = su_dicom_frames(file, &l->frames, err);
    if (st) return st;
    l->kind = su_dcmtk_pixels(file, &l->length, &l->fragments);
    if (l->kind == SU_PIXELS_NONE) return su_fail(err, SU_ENOTFOUND, "%s: it has no pixel data", path);
    const int64_t rows = integer_or(ds, SU_TAG(0x28, 0x10), 0),
                  columns = integer_or(ds, SU_TAG(0x28, 0x11), 0);
    const int64_t samples = integer_or(ds, SU_TAG(0x28, 0x02), 1),
                  allocated = integer_or(ds, SU_TAG(0x28, 0x100), 0);
    const int64_t stored = integer_or(ds, SU_TAG(0x28, 0x101), allocated);
    const int64_t high = integer_or(ds, SU_TAG(0x28, 0x102), stored - 1);
    if (rows < 1 || rows > 65535 || columns < 1 || columns > 65535)
        return su_fail(err, SU_EFORMAT, "%s: %lld rows of %lld columns", path, (long long)rows,
                       (long long)columns);
    if (samples != 1 && samples != 3)
        return su_fail(err, SU_EUNSUPPORTED, "%s: %lld samples a pixel; 1 and 3 are read", path,
                       (long long)samples);
    if (allocated != 1 && allocated != 8 && allocated != 16 && allocated != 32 && allocated != 64)
        return su_fail(err, SU_EUNSUPPORTED, "%s: %lld bits allocated", path, (long long)allocated);
    if (stored < 1 || stored > allocated || high < stored - 1 || high >= allocated)
        return su_fail(err, SU_EFORMAT, "%s: %lld bits stored, high bit %lld, in %lld", path,
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
    l->subsampled =
        samples == 3 && allocated == 8 && !l->fragments && strcmp(l->photometric, "YBR_FULL_422") == 0;
    if (l->kind == SU_PIXELS_FLOAT && allocated == 32)
        l->type = SU_DICOM_F32;
    else if (l->kind == SU_PIXELS_DOUBLE && allocated == 64)
        l->type = SU_DICOM_F64;
    else if (l->kind == SU_PIXELS_INTEGER && allocated <= 32)
        l->type = (allocated <= 8    ? SU_DICOM_U8
                   : allocated == 16 ? SU_DICOM_U16
                                     : SU_DICOM_U32) +
                  (l->is_signed ? 1 : 0);
    else
        return su_fail(err, SU_EUNSUPPORTED, "%s: pixel data of %d bits of that kind", path, l->allocated);
    l->frame_bytes = (uint64_t)l->rows * (uint64_t)l->columns * (uint64_t)l->samples *
                     (uint64_t)(allocated < 8 ? 1 : allocated / 8);
    if (l->frame_bytes > (uint64_t)SU_DICOM_MAX_FRAME_BYTES)
        return su_fail(err, SU_ELIMIT, "%s: %d x %d pixels a frame; at most %lld bytes are read", path,
                       l->columns, l->rows, (long long)SU_DICOM_MAX_FRAME_BYTES);
    return SU_OK;
}

/* ---- native ---- */

static void unpack_bits(const uint8_t *in, uint64_t first, uint8_t *out, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) out[i] = in[(first + i) / 8] >> ((first + i) % 8) & 1;
}

/* Y1 Y2 Cb Cr a pair of pixels. */
static void spread_422(const uint8_t *in, uint8_t *out, uint64_t pairs)
{
    for (uint64_t i = 0; i < pairs; i++, in += 4, out += 6) {
        const uint8_t pair[6] = {in[0], in[2], in[3], in[1], in[2], in[3]};
        memcpy(out, pair, sizeof pair);
    }
}

/* DCMTK turns words of 16 bits; of a big endian file, values of 32 bits still stand high word first, and
 * bytes are read two by two. */
static su_status read_bytes(su_dicom_file *file, const layout *l, uint64_t offset, uint64_t bytes,
                            uint8_t *out, su_error *err)
{
    const bool big = strcmp(su_dicom_transfer_syntax(file), "1.2.840.10008.1.2.2") == 0;
    if (!big || l->kind != SU_PIXELS_INTEGER) return su_dcmtk_native(file, l->kind, offset, bytes, out, err);
    const uint64_t before = offset % 2, length = (before + bytes + 1) / 2 * 2;
    uint8_t *words = su_alloc((size_t)length, 1);
    if (!words) return su_fail(err, SU_ENOMEM, "%s: no memory to decode it", su_dicom_path(file));
    su_status st = su_dcmtk_native(file, l->kind, offset - before, length, words, err);
    if (!st) memcpy(out, words + before, (size_t)bytes);
    su_free(words);
    if (!st && l->allocated == 32)
        for (uint64_t i = 0; i + 4 <= bytes; i += 4) {
            const uint8_t swapped[4] = {out[i + 2], out[i + 3], out[i], out[i + 1]};
            memcpy(out + i, swapped, 4);
        }
    return st;
}

static su_status read_native(su_dicom_file *file, const layout *l, int frame, uint8_t *out, su_error *err)
{
    const char *path = su_dicom_path(file);
    const uint64_t values = (uint64_t)l->rows * (uint64_t)l->columns * (uint64_t)l->samples;
    uint64_t offset = l->frame_bytes * (uint64_t)frame, bytes = l->frame_bytes, bit = 0;
    if (l->allocated == 1) {
        bit = values * (uint64_t)frame;
        offset = bit / 8;
        bytes = (bit + values + 7) / 8 - offset;
        bit %= 8;
    } else if (l->subsampled) {
        if (l->columns % 2) return su_fail(err, SU_EFORMAT, "%s: YBR_FULL_422 of an odd width", path);
        bytes = values / 3 * 2;
        offset = bytes * (uint64_t)frame;
        if (l->length >= l->frame_bytes * (uint64_t)l->frames) { /* says so, and is not */
            offset = l->frame_bytes * (uint64_t)frame;
            return read_bytes(file, l, offset, l->frame_bytes, out, err);
        }
    }
    if (offset + bytes > l->length)
        return su_fail(err, SU_EFORMAT,
                       "%s: truncated: %llu bytes of pixel data, where frame %d ends at %llu", path,
                       (unsigned long long)l->length, frame + 1, (unsigned long long)(offset + bytes));
    if (l->allocated != 1 && !l->subsampled) return read_bytes(file, l, offset, bytes, out, err);
    uint8_t *packed = su_alloc((size_t)bytes, 1);
    if (!packed) return su_fail(err, SU_ENOMEM, "%s: no memory to decode it", path);
    su_status st = read_bytes(file, l, offset, bytes, packed, err);
    if (!st && l->allocated == 1) unpack_bits(packed, bit, out, values);
    if (!st && l->subsampled) spread_422(packed, out, values / 6);
    su_free(packed);
    return st;
}

/* Planes [3][n] to pixels [n][3]. */
static su_status by_pixel(const layout *l, uint8_t *values, su_error *err)
{
    const size_t size = (size_t)l->allocated / 8, n = (size_t)l->rows * (size_t)l->columns;
    uint8_t *made = su_alloc(3 * n, size);
    if (!made) return su_fail(err, SU_ENOMEM, "no memory for a colour picture");
    for (size_t k = 0; k < 3; k++)
        for (size_t i = 0; i < n; i++) memcpy(made + (3 * i + k) * size, values + (k * n + i) * size, size);
    memcpy(values, made, 3 * n * size);
    su_free(made);
    return SU_OK;
}

/* ---- values ---- */

void su_dicom_pixels_mask(su_dicom_pixels *p)
{
    static const int words[] = {8, 8, 16, 16, 32, 32};
    const uint64_t n = (uint64_t)p->frame.rows * (uint64_t)p->frame.columns * (uint64_t)p->frame.samples;
    if (p->frame.type > SU_DICOM_S32 || p->stored == words[p->frame.type] || p->stored < 2) return;
    const int up = words[p->frame.type] - 1 - p->high, down = words[p->frame.type] - p->stored;
#define MASK(T, U)                   \
    for (uint64_t i = 0; i < n; i++) \
        ((T *)p->memory)[i] = (T)((T)(U)((uint32_t)((U *)p->memory)[i] << up) >> down);
    switch (p->frame.type) {
    case SU_DICOM_U8:
        MASK(uint8_t, uint8_t)
        break;
    case SU_DICOM_S8:
        MASK(int8_t, uint8_t)
        break;
    case SU_DICOM_U16:
        MASK(uint16_t, uint16_t)
        break;
    case SU_DICOM_S16:
        MASK(int16_t, uint16_t)
        break;
    case SU_DICOM_U32:
        MASK(uint32_t, uint32_t)
        break;
    default:
        MASK(int32_t, uint32_t)
        break;
    }
#undef MASK
}

static bool is_one_of(const char *syntax, const char *const *uids)
{
    for (; *uids; uids++)
        if (strcmp(*uids, syntax) == 0) return true;
    return false;
}

static const char *const jpeg2000[] = {"1.2.840.10008.1.2.4.90",  "1.2.840.10008.1.2.4.91",
                                       "1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202",
                                       "1.2.840.10008.1.2.4.203", NULL};
static const char *const jpeg_ls[] = {"1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81", NULL};

static su_status read_fragments(su_dicom_file *file, const layout *l, int frame, uint8_t *out, su_error *err)
{
    const char *syntax = su_dicom_transfer_syntax(file);
    uint8_t *data = NULL;
    size_t length = 0;
    su_codec_job job = {.codec = is_one_of(syntax, jpeg2000)  ? SU_CODEC_JPEG_2000
                                 : is_one_of(syntax, jpeg_ls) ? SU_CODEC_JPEG_LS
                                                              : SU_CODEC_DCMTK,
                        .rows = l->rows,
                        .columns = l->columns,
                        .samples = l->samples,
                        .allocated = l->allocated,
                        .stored = l->stored,
                        .high = l->high,
                        .is_signed = l->is_signed,
                        .planar = l->planar,
                        .frame_bytes = l->frame_bytes};
    snprintf(job.syntax, sizeof job.syntax, "%s", syntax);
    snprintf(job.photometric, sizeof job.photometric, "%s", l->photometric);
    su_status st = su_dcmtk_fragments(file, frame, l->frames, &data, &length, err);
    job.length = length;
    if (!st) st = su_worker_decode(&job, data, out, su_dicom_path(file), err);
    su_free(data);
    return st;
}

su_status su_dicom_decode(su_dicom_file *file, int frame, su_dicom_pixels *pixels, su_error *err)
{
    layout l = {0};
    *pixels = (su_dicom_pixels){0};
    su_status st = read_layout(file, &l, err);
    if (st) return st;
    if (frame < 0 || frame >= l.frames)
        return su_fail(err, SU_ENOTFOUND, "%s: there is no frame %d; it has %d", su_dicom_path(file),
                       frame + 1, l.frames);
    if (l.fragments && l.allocated < 8 && !is_one_of(su_dicom_transfer_syntax(file), jpeg2000))
        return su_fail(err, SU_EUNSUPPORTED, "%s: compressed pixels of 1 bit", su_dicom_path(file));
    uint8_t *values = su_alloc((size_t)l.frame_bytes, 1);
    if (!values) return su_fail(err, SU_ENOMEM, "%s: no memory to decode it", su_dicom_path(file));
    if (l.fragments) {
        st = read_fragments(file, &l, frame, values, err);
    } else {
        st = read_native(file, &l, frame, values, err);
        if (!st && l.planar && !l.subsampled) st = by_pixel(&l, values, err);
    }
    if (st) {
        su_free(values);
        return st;
    }
    *pixels = (su_dicom_pixels){{values, l.type, l.rows, l.columns, l.samples}, values, l.stored, l.high};
    return SU_OK;
}

void su_dicom_pixels_free(su_dicom_pixels *pixels)
{
    if (!pixels) return;
    su_free(pixels->memory);
    *pixels = (su_dicom_pixels){0};
}
