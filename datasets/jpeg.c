/* JPEG through libjpeg-turbo's classic interface.
 *
 * libjpeg reports damage as warnings and goes on with invented pixels; here every warning about the data ends
 * the decoding. Its settings are left at "right pixels": integer slow DCT, smooth chroma upsampling. */
#include "datasets/codec.h"
#include "base/memory.h"
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include <jpeglib.h>
#include <jerror.h>

enum {
    MAX_SCANS = 200, /* encoders write about ten */
    ROWS = 16,       /* asked of libjpeg at a time */
};
static const int64_t max_scanned =
    16LL * SU_IMAGE_MAX_PIXELS; /* pixels times scans: bounds the time of a small bomb */

typedef struct {
    struct jpeg_decompress_struct jpeg; /* first three: libjpeg hands us their addresses back */
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf out;
    const char *name;
    su_error *err;
    su_status status;
    su_image image;
    uint8_t *cmyk; /* one row */
} decoder;

static void leave(decoder *d, su_status status)
{
    d->status = status;
    longjmp(d->out, 1);
}

/* Turns libjpeg's message into ours and leaves the decoder. */
static void refuse(j_common_ptr c)
{
    decoder *d = c->client_data;
    char text[JMSG_LENGTH_MAX];
    c->err->format_message(c, text);
    switch (c->err->msg_code) {
    case JWRN_JPEG_EOF:
    case JERR_INPUT_EOF:
    case JERR_INPUT_EMPTY:
        leave(d, su_fail(d->err, SU_EFORMAT, "%s: truncated JPEG: the file ends before the picture does",
                         d->name));
        break;
    case JERR_BAD_PRECISION:
        leave(d, su_fail(d->err, SU_EUNSUPPORTED, "%s: JPEG of %d bits a sample; only 8 are read", d->name,
                         c->err->msg_parm.i[0]));
        break;
    case JERR_SOF_UNSUPPORTED:
        leave(d, su_fail(d->err, SU_EUNSUPPORTED, "%s: lossless or hierarchical JPEG is not read", d->name));
        break;
    case JERR_OUT_OF_MEMORY:
        leave(d, su_fail(d->err, SU_ENOMEM, "%s: no memory to decode the JPEG", d->name));
        break;
    default: {
        static const char prefix[] = "Corrupt JPEG data: ";
        const size_t skip = strncmp(text, prefix, sizeof prefix - 1) ? 0 : sizeof prefix - 1;
        leave(d, su_fail(d->err, SU_EFORMAT, "%s: damaged JPEG: %s", d->name, text + skip));
    }
    }
}

static void on_message(j_common_ptr c, int level)
{
    /* Two warnings are about a marker's version number, not about pixels. */
    if (level < 0 && c->err->msg_code != JWRN_JFIF_MAJOR && c->err->msg_code != JWRN_ADOBE_XFORM) refuse(c);
}

static void on_output(j_common_ptr c)
{
    (void)c;
}

static void on_progress(j_common_ptr c)
{
    decoder *d = c->client_data;
    const int scans = d->jpeg.input_scan_number;
    const int64_t pixels = (int64_t)d->jpeg.image_width * d->jpeg.image_height;
    if (scans > MAX_SCANS || scans * pixels > max_scanned)
        leave(d, su_fail(d->err, SU_ELIMIT, "%s: JPEG with more than %d scans of %ux%u pixels", d->name,
                         scans - 1, d->jpeg.image_width, d->jpeg.image_height));
}

/* Inverted CMYK [width][4] to RGB [width][3]: R = K - (255 - C) K / 255, rounded, with stored (inverted) C
 * and K. */
static void rgb_from_cmyk(const uint8_t *in, uint8_t *out, int32_t width)
{
    for (int32_t x = 0; x < width; x++)
        for (int i = 0; i < 3; i++) {
            const int k = in[4 * x + 3], t = (255 - in[4 * x + i]) * k + 128;
            out[3 * x + i] = (uint8_t)(k - (((t >> 8) + t) >> 8));
        }
}

/* Runs the decoder; anything that goes wrong inside libjpeg comes back to the setjmp here. */
static su_status decode(decoder *d, const uint8_t *data, size_t length)
{
    struct jpeg_decompress_struct *j = &d->jpeg;
    if (setjmp(d->out)) return d->status;

    jpeg_create_decompress(j);
    j->progress = &d->progress;
    jpeg_mem_src(j, data, length);
    jpeg_read_header(j, TRUE);
    if (su_image_check_size(j->image_width, j->image_height, d->name, d->err)) leave(d, SU_ELIMIT);
    switch (j->num_components) {
    case 1:
        j->out_color_space = JCS_GRAYSCALE;
        break;
    case 3:
        j->out_color_space = JCS_RGB;
        break;
    case 4:
        j->out_color_space = JCS_CMYK;
        break;
    default:
        leave(d, su_fail(d->err, SU_EUNSUPPORTED, "%s: JPEG of %d components; 1, 3 or 4 are read", d->name,
                         j->num_components));
    }
    jpeg_start_decompress(j);

    su_image *image = &d->image;
    image->width = (int32_t)j->output_width;
    image->height = (int32_t)j->output_height;
    image->channels = j->num_components == 1 ? 1 : 3;
    const size_t stride = (size_t)image->width * (size_t)image->channels;
    image->pixels = su_alloc((size_t)image->height, stride);
    if (j->num_components == 4) d->cmyk = su_alloc((size_t)image->width, 4);
    if (!image->pixels || (j->num_components == 4 && !d->cmyk))
        leave(d, su_fail(d->err, SU_ENOMEM, "%s: no memory for %dx%d pixels", d->name, image->width,
                         image->height));

    while (j->output_scanline < j->output_height) {
        uint8_t *row = image->pixels + j->output_scanline * stride;
        if (d->cmyk) {
            jpeg_read_scanlines(j, &d->cmyk, 1);
            rgb_from_cmyk(d->cmyk, row, image->width);
        } else {
            JSAMPROW rows[ROWS];
            const JDIMENSION left = j->output_height - j->output_scanline, n = left < ROWS ? left : ROWS;
            for (JDIMENSION i = 0; i < n; i++) rows[i] = row + i * stride;
            jpeg_read_scanlines(j, rows, n);
        }
    }
    jpeg_finish_decompress(j); /* reads on to the end-of-image marker, so that a missing tail is seen */
    return SU_OK;
}

su_status su_jpeg_decode(const uint8_t *data, size_t length, const char *name, su_image *image, su_error *err)
{
    decoder d = {.name = name, .err = err};
    d.jpeg.err = jpeg_std_error(&d.errors);
    d.jpeg.client_data = &d;
    d.errors.error_exit = refuse;
    d.errors.emit_message = on_message;
    d.errors.output_message = on_output;
    d.progress.progress_monitor = on_progress;

    const su_status status = decode(&d, data, length);
    jpeg_destroy_decompress(&d.jpeg);
    su_free(d.cmyk);
    if (status) {
        su_image_free(&d.image);
        *image = (su_image){0};
        return status;
    }
    *image = d.image;
    return SU_OK;
}
