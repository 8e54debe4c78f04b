#include "dicom/decode.h"
#include "base/memory.h"
#include "dicom/codestream.h"
#include "dicom/fragments.h"
#include "dicom/jls_grey.h"
#include "dicom/native.h"
#include "dicom/rle.h"
#include "dicom/worker.h"
#include <string.h>
#include <zlib.h>

static su_status no_memory(su_dicom_file *file, su_error *err)
{
    return su_fail(err, SU_ENOMEM, "%s: no memory to decode it", su_dicom_path(file));
}

/* ---- frames in fragments ---- */

static su_status read_fragments(su_dicom_file *file, const su_dicom_layout *l, const su_fragments **f,
                                su_error *err)
{
    su_fragments **kept = su_dicom_fragments(file);
    su_status st = SU_OK;
    if (!*kept) st = su_fragments_read(su_dicom_source(file), su_dicom_scan(file), l->frames, kept, err);
    *f = *kept;
    return st;
}

/* The bytes of a frame as it is stored natively, alone. */
static uint64_t native_bytes(const su_dicom_layout *l)
{
    const uint64_t values = (uint64_t)l->rows * (uint64_t)l->columns * (uint64_t)l->samples;
    return l->allocated == 1 ? (values + 7) / 8 : values * (uint64_t)(l->allocated / 8);
}

/* How many bytes one of a codec unpacks to at the most. The others know no end, or a far one, for pictures of
 * one value (in JPEG a bit can be a block of 64 samples); there it is one of reason, where they are large. */
static uint64_t largest_expansion(const su_dicom_layout *l)
{
    enum { DEFLATE = 1032 /* zlib.net/zlib_tech.html */, LARGE = 64 << 20, FLAT = 4096, FLAT_2000 = 1024 };
    switch (l->syntax->codec) {
    case SU_CODEC_NATIVE:
        return 1;
    case SU_CODEC_RLE:
        return SU_RLE_EXPANSION_MAX;
    case SU_CODEC_DEFLATED_FRAME:
        return DEFLATE;
    case SU_CODEC_JPEG_2000: /* five bytes can be 88 passes over 64 x 64 samples, a millisecond */
        return l->frame_bytes > LARGE ? FLAT_2000 : UINT32_MAX;
    default:
        return l->frame_bytes > LARGE ? FLAT : UINT32_MAX;
    }
}

/* Before memory is taken for a frame: is there enough of it? */
static su_status check_plausible(su_dicom_file *file, const su_dicom_layout *l, int frame, su_error *err)
{
    const su_fragments *f = NULL;
    su_status st = read_fragments(file, l, &f, err);
    if (st) return st;
    const uint64_t length = su_fragments_length(f, frame), bytes = native_bytes(l);
    if (length > (uint64_t)SU_DICOM_MAX_FRAME_BYTES)
        return su_fail(err, SU_ELIMIT, "%s: a frame of %llu compressed bytes; at most %lld are read",
                       su_dicom_path(file), (unsigned long long)length, (long long)SU_DICOM_MAX_FRAME_BYTES);
    if (length * largest_expansion(l) >= bytes) return SU_OK;
    return su_fail(err, SU_EFORMAT,
                   "%s: truncated: frame %d has %llu bytes of %s, which cannot be a picture of %llu bytes",
                   su_dicom_path(file), frame + 1, (unsigned long long)length,
                   su_codec_name(l->syntax->codec), (unsigned long long)bytes);
}

/* A byte more than the picture may be there, to make its length even. */
static su_status inflate_frame(const uint8_t *data, size_t length, uint8_t *out, size_t bytes,
                               const char *name, su_error *err)
{
    uint8_t beyond[2];
    z_stream z = {.next_in = (z_const Bytef *)(uintptr_t)data,
                  .avail_in = (uInt)length,
                  .next_out = out,
                  .avail_out = (uInt)bytes};
    if (length > UINT32_MAX || inflateInit2(&z, -MAX_WBITS) != Z_OK)
        return su_fail(err, SU_ENOMEM, "%s: no memory to inflate it", name);
    int code = inflate(&z, Z_NO_FLUSH);
    const bool whole = z.avail_out == 0;
    if (whole && code == Z_OK) {
        z.next_out = beyond;
        z.avail_out = sizeof beyond;
        code = inflate(&z, Z_NO_FLUSH);
    }
    const bool more = whole && code != Z_STREAM_END && z.avail_out == 0;
    inflateEnd(&z);
    if (more)
        return su_fail(err, SU_EFORMAT, "%s: a deflated frame holds more than its picture's %zu bytes", name,
                       bytes);
    if (!whole || code == Z_DATA_ERROR)
        return su_fail(err, SU_EFORMAT, "%s: a deflated frame is damaged or truncated", name);
    return SU_OK;
}

/* Codecs that unpack a frame of native form: RLE (by pixel already), DEFLATE, or none. */
static su_status unpack(su_dicom_file *file, const su_dicom_layout *l, const uint8_t *data, size_t length,
                        uint8_t *out, su_error *err)
{
    const char *path = su_dicom_path(file);
    const size_t bytes = (size_t)native_bytes(l), pixels = (size_t)l->rows * (size_t)l->columns;
    const bool bits = l->allocated == 1, rle = l->syntax->codec == SU_CODEC_RLE,
               in_place = !bits && (rle || !l->planar);
    uint8_t *made = in_place ? out : su_alloc(bytes, 1);
    su_status st = made ? SU_OK : no_memory(file, err);
    if (!st && rle && bits)
        st = su_rle_decode(data, length, bytes, 1, 1, path, made, err);
    else if (!st && rle)
        st = su_rle_decode(data, length, pixels, l->samples, l->allocated / 8, path, made, err);
    else if (!st && l->syntax->codec == SU_CODEC_DEFLATED_FRAME)
        st = inflate_frame(data, length, made, bytes, path, err);
    else if (!st && length < bytes)
        st = su_fail(err, SU_EFORMAT, "%s: a frame of %zu bytes, where %zu are needed", path, length, bytes);
    else if (!st)
        memcpy(made, data, bytes);
    if (!st && bits)
        su_native_bits(made, 0, out, pixels * (size_t)l->samples);
    else if (!st && !in_place)
        su_native_by_pixel(made, pixels, l->allocated / 8, out);
    if (!in_place) su_free(made);
    return st;
}

/* The head of a codestream against the data set. */
static su_status check_codestream(su_dicom_file *file, const su_dicom_layout *l, const uint8_t *data,
                                  size_t length, su_codestream *c, su_error *err)
{
    const char *path = su_dicom_path(file), *codec = su_codec_name(l->syntax->codec);
    su_status st = su_codestream_read(l->syntax->codec, data, length, path, c, err);
    if (st) return st;
    if (c->rows != (uint32_t)l->rows || c->columns != (uint32_t)l->columns || c->samples != l->samples)
        return su_fail(
            err, SU_EFORMAT,
            "%s: its %s picture is of %u x %u pixels of %d samples, where the data set says %d x %d of %d",
            path, codec, c->columns, c->rows, c->samples, l->columns, l->rows, l->samples);
    if (c->precision > 8 * su_dicom_type_size(l->type))
        return su_fail(err, SU_EFORMAT,
                       "%s: its %s picture has samples of %d bits, where the data set says %d", path, codec,
                       c->precision, l->allocated);
    return SU_OK;
}

static su_status decode_codestream(su_dicom_file *file, const su_dicom_layout *l, const uint8_t *data,
                                   size_t length, uint8_t *out, su_error *err)
{
    su_codestream c;
    const int bytes = su_dicom_type_size(l->type);
    su_status st = check_codestream(file, l, data, length, &c, err);
    if (!st && l->syntax->codec == SU_CODEC_JPEG_LS && l->samples == 1) {
        st = su_jls_grey_decode(data, length, l->rows, l->columns, bytes, su_dicom_path(file), out, err);
        if (st != SU_EUNSUPPORTED) return st;
        st = SU_OK;
    }
    const su_codec_job job = {.codec = l->syntax->codec,
                              .rows = l->rows,
                              .columns = l->columns,
                              .samples = l->samples,
                              .bytes = bytes,
                              .precision = c.precision,
                              .is_signed = l->is_signed,
                              .length = c.length,
                              .frame_bytes = (uint64_t)l->frame_bytes};
    return st ? st : su_worker_decode(&job, data + c.begin, out, su_dicom_path(file), err);
}

static su_status decode_fragments(su_dicom_file *file, const su_dicom_layout *l, int frame, uint8_t *out,
                                  su_error *err)
{
    const su_fragments *f = *su_dicom_fragments(file);
    const uint64_t length = su_fragments_length(f, frame);
    uint8_t *data = su_alloc((size_t)length + 1, 1);
    if (!data) return no_memory(file, err);
    su_status st = su_fragments_copy(f, frame, su_dicom_source(file), data, err);
    if (!st && l->syntax->codec >= SU_CODEC_JPEG)
        st = decode_codestream(file, l, data, (size_t)length, out, err);
    else if (!st)
        st = unpack(file, l, data, (size_t)length, out, err);
    su_free(data);
    return st;
}

/* ---- frames ---- */

su_status su_dicom_decode(su_dicom_file *file, int frame, su_dicom_pixels *pixels, su_error *err)
{
    su_dicom_layout l;
    *pixels = (su_dicom_pixels){0};
    su_status st = su_dicom_layout_read(file, &l, err);
    if (st) return st;
    if (frame < 0 || frame >= l.frames)
        return su_fail(err, SU_ENOTFOUND, "%s: there is no frame %d; it has %d", su_dicom_path(file),
                       frame + 1, l.frames);
    if (l.fragments && (st = check_plausible(file, &l, frame, err))) return st;
    uint8_t *values = su_alloc((size_t)l.frame_bytes, 1);
    if (!values) return no_memory(file, err);
    st = l.fragments ? decode_fragments(file, &l, frame, values, err)
                     : su_native_read(file, &l, frame, values, err);
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

int su_dicom_overlays(su_dicom_file *file)
{
    su_dicom_item *ds = su_dicom_dataset(file);
    int count = 0;
    for (uint32_t group = 0x6000; group <= 0x601e; group += 2) count += su_dicom_has(ds, SU_TAG(group, 0x10));
    return count;
}
