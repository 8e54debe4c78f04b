#include "dicom/decoder/j2k.h"
#include "base/memory.h"
#include "dicom/decoder/j2k_reversible.h"
#include <openjpeg.h>
#include <string.h>

typedef struct {
    const uint8_t *data;
    size_t length, at;
} source;

static OPJ_SIZE_T read_source(void *buffer, OPJ_SIZE_T wanted, void *self)
{
    source *s = self;
    size_t n = s->length - s->at;
    if (n == 0) return (OPJ_SIZE_T)-1;
    if (n > wanted) n = wanted;
    memcpy(buffer, s->data + s->at, n);
    s->at += n;
    return n;
}

static OPJ_OFF_T skip_source(OPJ_OFF_T n, void *self)
{
    source *s = self;
    if (n < 0) return -1;
    const size_t left = s->length - s->at;
    const size_t step = (uint64_t)n > left ? left : (size_t)n;
    s->at += step;
    return (OPJ_OFF_T)step;
}

static OPJ_BOOL seek_source(OPJ_OFF_T at, void *self)
{
    source *s = self;
    if (at < 0 || (uint64_t)at > s->length) return OPJ_FALSE;
    s->at = (size_t)at;
    return OPJ_TRUE;
}

static void first_message(const char *text, void *self)
{
    char *kept = self;
    if (!kept[0]) {
        strncpy(kept, text, 119);
        kept[strcspn(kept, "\n")] = '\0';
    }
}

static void no_message(const char *text, void *self)
{
    (void)text;
    (void)self;
}

/* Values of a component to their places, by pixel. The codestream's sign and the data set's may differ: the
 * data set's counts. */
static void place(const int32_t *values, int64_t n, int32_t samples, int32_t component, su_j2k_component said,
                  int bytes, bool is_signed, void *out)
{
    const int shift = is_signed && !said.is_signed ? 32 - said.precision : 0;
    for (int64_t i = 0; i < n; i++) {
        const int32_t v = (int32_t)((uint32_t)values[i] << shift) >> shift;
        const int64_t at = i * samples + component;
        if (bytes == 1)
            ((uint8_t *)out)[at] = (uint8_t)v;
        else if (bytes == 2)
            ((uint16_t *)out)[at] = (uint16_t)v;
        else
            ((uint32_t *)out)[at] = (uint32_t)v;
    }
}

static su_status check_image(const opj_image_t *image, int32_t rows, int32_t columns, int32_t samples,
                             su_error *err)
{
    bool same = image->numcomps == (OPJ_UINT32)samples;
    for (OPJ_UINT32 k = 0; same && k < image->numcomps; k++)
        same = image->comps[k].w == (OPJ_UINT32)columns && image->comps[k].h == (OPJ_UINT32)rows;
    if (same) return SU_OK;
    return su_fail(err, SU_EFORMAT, "its JPEG 2000 picture is not of %d x %d pixels of %d samples", columns,
                   rows, samples);
}

static bool all_there(const opj_image_t *image)
{
    for (OPJ_UINT32 k = 0; k < image->numcomps; k++)
        if (!image->comps[k].data) return false;
    return true;
}

static su_status run(opj_codec_t *codec, opj_stream_t *stream, int32_t rows, int32_t columns, int32_t samples,
                     int bytes, bool is_signed, void *out, su_error *err)
{
    opj_dparameters_t parameters;
    opj_image_t *image = NULL;
    char message[120] = "";
    opj_set_default_decoder_parameters(&parameters);
    opj_set_error_handler(codec, first_message, message);
    opj_set_warning_handler(codec, no_message, NULL);
    opj_set_info_handler(codec, no_message, NULL);
    su_status st = SU_OK;
    if (!opj_setup_decoder(codec, &parameters) || !opj_decoder_set_strict_mode(codec, OPJ_TRUE) ||
        !opj_read_header(stream, codec, &image))
        st = SU_EFORMAT;
    else
        st = check_image(image, rows, columns, samples, err);
    if (!st && (!opj_decode(codec, stream, image) || !all_there(image))) st = SU_EFORMAT;
    if (st == SU_EFORMAT && (!err || !err->message[0] || message[0]))
        su_fail(err, SU_EFORMAT, "JPEG 2000: %s", message[0] ? message : "damaged");
    for (int32_t k = 0; k < samples && !st; k++) {
        const opj_image_comp_t *c = &image->comps[k];
        place(c->data, (int64_t)rows * columns, samples, k,
              (su_j2k_component){(int)c->prec <= 32 ? (int)c->prec : 32, c->sgnd}, bytes, is_signed, out);
    }
    opj_image_destroy(image);
    return st;
}

/* With our own decoder; false: not of its kind. */
static bool run_own(const uint8_t *data, size_t length, int32_t rows, int32_t columns, int32_t samples,
                    int bytes, bool is_signed, void *out)
{
    su_j2k_component component[SU_J2K_COMPONENTS_MAX];
    const size_t n = (size_t)rows * (size_t)columns;
    int32_t *planes = su_calloc(n, (size_t)samples * sizeof *planes);
    const bool done =
        planes && !su_j2k_reversible_decode(data, length, rows, columns, samples, planes, component);
    for (int32_t k = 0; done && k < samples; k++)
        place(planes + (size_t)k * n, (int64_t)n, samples, k, component[k], bytes, is_signed, out);
    su_free(planes);
    return done;
}

su_status su_j2k_decode(const uint8_t *data, size_t length, int32_t rows, int32_t columns, int32_t samples,
                        int bytes, bool is_signed, void *out, su_error *err)
{
    if (run_own(data, length, rows, columns, samples, bytes, is_signed, out)) return SU_OK;
    source s = {data, length, 0};
    opj_codec_t *codec = opj_create_decompress(OPJ_CODEC_J2K);
    opj_stream_t *stream = opj_stream_create(1 << 20, OPJ_TRUE);
    su_status st;
    if (codec && stream) {
        opj_stream_set_user_data(stream, &s, NULL);
        opj_stream_set_user_data_length(stream, length);
        opj_stream_set_read_function(stream, read_source);
        opj_stream_set_skip_function(stream, skip_source);
        opj_stream_set_seek_function(stream, seek_source);
        st = run(codec, stream, rows, columns, samples, bytes, is_signed, out, err);
    } else {
        st = su_fail(err, SU_ENOMEM, "no memory");
    }
    opj_stream_destroy(stream);
    opj_destroy_codec(codec);
    return st;
}
