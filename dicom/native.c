#include "dicom/native.h"
#include "base/memory.h"
#include <string.h>

void su_native_bits(const uint8_t *in, uint64_t first, uint8_t *out, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) out[i] = in[(first + i) / 8] >> ((first + i) % 8) & 1;
}

void su_native_by_pixel(const uint8_t *planes, size_t pixels, int size, uint8_t *out)
{
    const size_t n = (size_t)size;
    if (n == 1) {
        for (size_t i = 0; i < pixels; i++)
            for (size_t k = 0; k < 3; k++) out[3 * i + k] = planes[k * pixels + i];
        return;
    }
    for (size_t i = 0; i < pixels; i++)
        for (size_t k = 0; k < 3; k++) memcpy(out + (3 * i + k) * n, planes + (k * pixels + i) * n, n);
}

/* Y1 Y2 Cb Cr a pair of pixels. */
static void spread_halved(const uint8_t *in, uint8_t *out, uint64_t pairs)
{
    for (uint64_t i = 0; i < pairs; i++, in += 4, out += 6) {
        const uint8_t pair[6] = {in[0], in[2], in[3], in[1], in[2], in[3]};
        memcpy(out, pair, sizeof pair);
    }
}

/* Words of `size` bytes to the other byte order. */
static void swap_words(uint8_t *p, uint64_t bytes, int size)
{
    for (uint64_t i = 0; i + (uint64_t)size <= bytes; i += (uint64_t)size)
        for (int k = 0; k < size / 2; k++) {
            const uint8_t low = p[i + (uint64_t)k];
            p[i + (uint64_t)k] = p[i + (uint64_t)(size - 1 - k)];
            p[i + (uint64_t)(size - 1 - k)] = low;
        }
}

/* Bytes of a little endian machine. Big endian pixels of at most 8 bits lie in words where the VR is OW, the
 * first of two in the low half [PS3.5 D, figure D.3]; OB has no order. */
static su_status read_bytes(su_dicom_file *file, const su_dicom_layout *l, uint64_t offset, uint64_t bytes,
                            uint8_t *out, su_error *err)
{
    const su_scan *scan = su_dicom_scan(file);
    su_source *source = su_dicom_source(file);
    const uint64_t begin = scan->pixels.offset;
    if (!scan->big || strcmp(scan->pixels.vr, "OB") == 0)
        return su_source_read(source, begin + offset, out, (size_t)bytes, err);
    if (l->allocated > 8) {
        su_status st = su_source_read(source, begin + offset, out, (size_t)bytes, err);
        if (!st) swap_words(out, bytes, l->allocated / 8);
        return st;
    }
    const uint64_t before = offset % 2, length = (before + bytes + 1) / 2 * 2;
    uint8_t *words = su_alloc((size_t)length, 1);
    if (!words) return su_fail(err, SU_ENOMEM, "%s: no memory to decode it", su_dicom_path(file));
    su_status st = su_source_read(source, begin + offset - before, words, (size_t)length, err);
    if (!st) {
        swap_words(words, length, 2);
        memcpy(out, words + before, (size_t)bytes);
    }
    su_free(words);
    return st;
}

su_status su_native_read(su_dicom_file *file, const su_dicom_layout *l, int frame, uint8_t *out,
                         su_error *err)
{
    const uint64_t pixels = (uint64_t)l->rows * (uint64_t)l->columns, values = pixels * (uint64_t)l->samples;
    uint64_t bytes = (uint64_t)l->frame_bytes, offset = bytes * (uint64_t)frame, bit = 0;
    if (l->allocated == 1) {
        bit = values * (uint64_t)frame;
        offset = bit / 8;
        bytes = (bit + values + 7) / 8 - offset;
        bit %= 8;
    } else if (l->halved) {
        bytes = bytes / 3 * 2;
        offset = bytes * (uint64_t)frame;
    }
    const bool planar = l->planar && !l->halved;
    if (l->allocated != 1 && !l->halved && !planar) return read_bytes(file, l, offset, bytes, out, err);
    uint8_t *packed = su_alloc((size_t)bytes, 1);
    if (!packed) return su_fail(err, SU_ENOMEM, "%s: no memory to decode it", su_dicom_path(file));
    su_status st = read_bytes(file, l, offset, bytes, packed, err);
    if (!st && l->allocated == 1)
        su_native_bits(packed, bit, out, values);
    else if (!st && l->halved)
        spread_halved(packed, out, values / 6);
    else if (!st)
        su_native_by_pixel(packed, (size_t)pixels, l->allocated / 8, out);
    su_free(packed);
    return st;
}
