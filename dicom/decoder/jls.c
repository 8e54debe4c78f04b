#include "dicom/decoder/jls.h"
#include "base/memory.h"
#include <charls/charls.h>
#include <string.h>

typedef struct {
    charls_frame_info info;
    charls_interleave_mode mode;
    size_t size; /* of the decoded picture */
} header;

static int32_t read_header(charls_jpegls_decoder *d, const uint8_t *data, size_t length, header *h)
{
    int32_t code = charls_jpegls_decoder_set_source_buffer(d, data, length);
    if (!code) code = charls_jpegls_decoder_read_header(d);
    if (!code) code = charls_jpegls_decoder_get_frame_info(d, &h->info);
    if (!code) code = charls_jpegls_decoder_get_interleave_mode(d, &h->mode);
    if (!code) code = charls_jpegls_decoder_get_destination_size(d, 0, &h->size);
    return code;
}

/* Decoded values of `from` bytes, by plane or by pixel, to values of `to` bytes by pixel. */
static void arrange(const uint8_t *in, int from, bool planes, size_t pixels, int32_t samples, int to,
                    uint8_t *out)
{
    for (size_t i = 0; i < pixels; i++)
        for (size_t k = 0; k < (size_t)samples; k++) {
            const size_t source = planes ? k * pixels + i : i * (size_t)samples + k;
            uint16_t value = in[source * (size_t)from];
            if (from == 2) memcpy(&value, in + 2 * source, 2);
            const uint32_t wide = value;
            memcpy(out + (i * (size_t)samples + k) * (size_t)to, &wide,
                   (size_t)to); /* little endian machines */
        }
}

static su_status decode(charls_jpegls_decoder *d, const header *h, int32_t samples, int bytes, void *out,
                        su_error *err)
{
    const size_t pixels = (size_t)h->info.width * h->info.height;
    const int stored = h->info.bits_per_sample <= 8 ? 1 : 2;
    const bool planes = samples > 1 && h->mode == CHARLS_INTERLEAVE_MODE_NONE,
               direct = !planes && stored == bytes;
    if (h->size != pixels * (size_t)samples * (size_t)stored || (stored > bytes))
        return su_fail(err, SU_EFORMAT, "JPEG-LS: samples of %d bits", h->info.bits_per_sample);
    uint8_t *made = direct ? out : su_alloc(h->size, 1);
    if (!made) return su_fail(err, SU_ENOMEM, "no memory");
    const int32_t code = charls_jpegls_decoder_decode_to_buffer(d, made, h->size, 0);
    if (!code && !direct) arrange(made, stored, planes, pixels, samples, bytes, out);
    if (!direct) su_free(made);
    return code ? su_fail(err, SU_EFORMAT, "JPEG-LS: %s", charls_get_error_message(code)) : SU_OK;
}

su_status su_jls_decode(const uint8_t *data, size_t length, int32_t rows, int32_t columns, int32_t samples,
                        int bytes, void *out, su_error *err)
{
    header h = {0};
    charls_jpegls_decoder *d = charls_jpegls_decoder_create();
    if (!d) return su_fail(err, SU_ENOMEM, "no memory");
    const int32_t code = read_header(d, data, length, &h);
    su_status st = SU_OK;
    if (code)
        st = su_fail(err, SU_EFORMAT, "JPEG-LS: %s", charls_get_error_message(code));
    else if (h.info.width != (uint32_t)columns || h.info.height != (uint32_t)rows ||
             h.info.component_count != samples)
        st = su_fail(err, SU_EFORMAT, "its JPEG-LS picture is not of %d x %d pixels of %d samples", columns,
                     rows, samples);
    else
        st = decode(d, &h, samples, bytes, out, err);
    charls_jpegls_decoder_destroy(d);
    return st;
}
