#include "dicom/codestream.h"
#include <string.h>

static uint32_t be16(const uint8_t *p)
{
    return (uint32_t)(p[0] << 8 | p[1]);
}

static uint32_t be32(const uint8_t *p)
{
    return be16(p) << 16 | be16(p + 2);
}

/* What begins like another format gets its name. */
static su_status no_such(su_codec codec, const uint8_t *data, size_t length, const char *name, su_error *err)
{
    const char *what = length < 4                           ? "hardly anything"
                       : data[0] == 0xff && data[1] == 0xd8 ? "JPEG"
                       : data[0] == 0xff && data[1] == 0x4f ? "JPEG 2000"
                       : memcmp(data, "\0\0\0\x0c", 4) == 0 ? "a JP2 or JXL file"
                       : memcmp(data, "\0\0\1", 3) == 0     ? "an MPEG stream"
                                                            : "something else";
    return su_fail(err, SU_EFORMAT, "%s: its transfer syntax says %s, its pixel data are %s", name,
                   su_codec_name(codec), what);
}

/* ---- JPEG and JPEG-LS: the first SOF ---- */

static su_status read_jpeg(su_codec codec, const uint8_t *data, size_t length, const char *name,
                           su_codestream *c, su_error *err)
{
    size_t at = 2;
    if (length < 4 || data[0] != 0xff || data[1] != 0xd8 || data[2] != 0xff)
        return no_such(codec, data, length, name, err);
    for (;;) {
        while (at + 1 < length && data[at] == 0xff && data[at + 1] == 0xff) at++; /* fill bytes */
        if (length - at < 4 || data[at] != 0xff) break;
        const uint8_t marker = data[at + 1];
        const size_t size = be16(data + at + 2);
        if (size < 2 || size > length - at - 2 || marker < 0xc0 || marker == 0xd9 || marker == 0xda) break;
        const bool sof =
            marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc;
        const bool ls = marker == 0xf7;
        if (sof || ls) {
            if ((codec == SU_CODEC_JPEG_LS) != ls)
                return su_fail(err, SU_EFORMAT, "%s: its transfer syntax says %s, its pixel data are %s",
                               name, su_codec_name(codec), ls ? "JPEG-LS" : "JPEG");
            if (size < 8) break;
            if (marker >= 0xc9)
                if (!ls)
                    return su_fail(err, SU_EUNSUPPORTED,
                                   "%s: JPEG with arithmetic coding, which no decoder here knows", name);
            if ((marker >= 0xc5 && marker <= 0xc7))
                return su_fail(err, SU_EUNSUPPORTED, "%s: hierarchical JPEG, which no decoder here knows",
                               name);
            const uint8_t *p = data + at + 4;
            c->precision = p[0];
            c->rows = be16(p + 1);
            c->columns = be16(p + 3);
            c->samples = p[5];
            if (c->rows == 0 || c->columns == 0) break;
            return SU_OK;
        }
        at += 2 + size;
    }
    return su_fail(err, SU_EFORMAT, "%s: %s: damaged header", name, su_codec_name(codec));
}

/* ---- JPEG 2000: SIZ, which follows SOC ---- */

/* The contiguous codestream box of a JP2 file. */
static bool find_codestream(const uint8_t *data, size_t length, su_codestream *c)
{
    static const uint8_t signature[12] = {0, 0, 0, 12, 'j', 'P', ' ', ' ', '\r', '\n', 0x87, '\n'};
    if (length < sizeof signature || memcmp(data, signature, sizeof signature) != 0) return true;
    for (size_t at = sizeof signature; length - at >= 8;) {
        uint64_t size = be32(data + at), head = 8;
        const bool found = memcmp(data + at + 4, "jp2c", 4) == 0;
        if (size == 1 && length - at >= 16) {
            size = (uint64_t)be32(data + at + 8) << 32 | be32(data + at + 12);
            head = 16;
        }
        if (size == 0) size = length - at; /* to the end */
        if (size < head || size > length - at) {
            if (!found || size < head) return false;
            size = length - at; /* writers that pad or cut a fragment do not correct the box */
        }
        if (found) {
            c->begin = at + (size_t)head;
            c->length = (size_t)(size - head);
            return true;
        }
        at += (size_t)size;
    }
    return false;
}

static su_status read_jpeg2000(const uint8_t *data, size_t length, const char *name, su_codestream *c,
                               su_error *err)
{
    if (!find_codestream(data, length, c))
        return su_fail(err, SU_EFORMAT, "%s: JPEG 2000: a JP2 file without a codestream", name);
    const uint8_t *p = data + c->begin;
    if (c->length < 4 || p[0] != 0xff || p[1] != 0x4f || p[2] != 0xff || p[3] != 0x51)
        return no_such(SU_CODEC_JPEG_2000, data, length, name, err);
    const size_t size = c->length >= 6 ? be16(p + 4) : 0;
    if (size < 41 || c->length < 4 + size)
        return su_fail(err, SU_EFORMAT, "%s: JPEG 2000: damaged header", name);
    const uint64_t right = be32(p + 8), bottom = be32(p + 12), left = be32(p + 16), top = be32(p + 20);
    const uint32_t components = be16(p + 40);
    if (right <= left || bottom <= top || components < 1 || components > 16384 ||
        size != 38 + 3 * (size_t)components)
        return su_fail(err, SU_EFORMAT, "%s: JPEG 2000: damaged header", name);
    c->columns = (uint32_t)(right - left);
    c->rows = (uint32_t)(bottom - top);
    c->samples = (int32_t)components;
    c->is_signed = p[42] >> 7;
    for (uint32_t k = 0; k < components; k++) {
        const uint8_t *component = p + 42 + 3 * (size_t)k;
        const int32_t precision = (component[0] & 0x7f) + 1;
        if (precision > c->precision) c->precision = precision;
        if (component[1] != 1 || component[2] != 1)
            return su_fail(err, SU_EUNSUPPORTED, "%s: JPEG 2000 with subsampled components", name);
    }
    return SU_OK;
}

su_status su_codestream_read(su_codec codec, const uint8_t *data, size_t length, const char *name,
                             su_codestream *c, su_error *err)
{
    *c = (su_codestream){.length = length};
    if (codec == SU_CODEC_JPEG_2000) return read_jpeg2000(data, length, name, c, err);
    return read_jpeg(codec, data, length, name, c, err);
}
