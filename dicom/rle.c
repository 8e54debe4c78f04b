#include "dicom/rle.h"
#include <stdbool.h>
#include <string.h>

enum { HEADER = 64, SEGMENTS_MAX = 15 };

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* One segment to every stride-th byte of out; false when it ends before `count` bytes are made. */
static bool unpack(const uint8_t *in, const uint8_t *end, uint8_t *out, size_t count, size_t stride)
{
    while (count > 0) {
        if (in == end) return false;
        const int code = (int8_t)*in++;
        if (code == -128) continue;
        size_t n = code < 0 ? (size_t)(1 - code) : (size_t)(1 + code);
        if (n > count) n = count;
        if (code < 0) {
            if (in == end) return false;
            const uint8_t value = *in++;
            if (stride == 1)
                memset(out, value, n);
            else
                for (size_t i = 0; i < n; i++) out[i * stride] = value;
        } else {
            if (n > (size_t)(end - in)) return false;
            if (stride == 1)
                memcpy(out, in, n);
            else
                for (size_t i = 0; i < n; i++) out[i * stride] = in[i];
            in += n;
        }
        out += n * stride;
        count -= n;
    }
    return true;
}

su_status su_rle_decode(const uint8_t *data, size_t length, size_t pixels, int samples, int bytes,
                        const char *name, uint8_t *out, su_error *err)
{
    const int wanted = samples * bytes;
    if (length < HEADER)
        return su_fail(err, SU_EFORMAT, "%s: RLE: a frame of %zu bytes has no header", name, length);
    const uint32_t segments = get32(data);
    if (wanted > SEGMENTS_MAX || segments != (uint32_t)wanted)
        return su_fail(err, SU_EFORMAT, "%s: RLE: %u segments, where %d samples of %d bytes need %d", name,
                       segments, samples, bytes, wanted);
    for (int k = 0; k < wanted; k++) {
        const uint32_t from = get32(data + 4 + 4 * k);
        const uint32_t to = k + 1 < wanted ? get32(data + 8 + 4 * k) : (uint32_t)length;
        const int sample = k / bytes, byte = bytes - 1 - k % bytes;
        if (from < HEADER || from > to || to > length)
            return su_fail(err, SU_EFORMAT, "%s: RLE: segment %d points outside of its frame", name, k + 1);
        if (!unpack(data + from, data + to, out + sample * bytes + byte, pixels, (size_t)wanted))
            return su_fail(err, SU_EFORMAT, "%s: RLE: truncated in segment %d of %d", name, k + 1, wanted);
    }
    return SU_OK;
}
