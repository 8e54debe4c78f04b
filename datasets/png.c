/* PNG through libpng: every kind comes out as 8-bit grey or RGB.
 *
 * libpng makes 8-bit grey, grey + alpha, RGB or RGBA of it; alpha is then composited on black in place. A
 * chunk with a wrong CRC is refused, ancillary ones too. Chunks that say nothing about stored pixels (text,
 * profiles, gamma) are skipped unread, so they can neither fail nor cost memory. */
#include "datasets/codec.h"
#include "base/memory.h"
#include <png.h>
#include <setjmp.h>
#include <string.h>

enum { CHUNK_BYTES = 1 << 20, CHUNKS_KEPT = 16 };

typedef struct {
    const uint8_t *data;
    size_t length, at;
    const char *name;
    su_error *err;
    su_status status;
    su_image image; /* channels 1..4 until flattened */
    png_structp png;
    png_infop info;
} decoder;

static su_status no_memory(decoder *d)
{
    return d->status = su_fail(d->err, SU_ENOMEM, "%s: no memory to decode the PNG", d->name);
}

static void on_error(png_structp png, png_const_charp text)
{
    decoder *d = png_get_error_ptr(png);
    if (!d->status) d->status = su_fail(d->err, SU_EFORMAT, "%s: damaged PNG: %s", d->name, text);
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp text)
{
    (void)png;
    (void)text;
}

static void on_read(png_structp png, png_bytep out, size_t n)
{
    decoder *d = png_get_io_ptr(png);
    if (n > d->length - d->at) {
        d->status =
            su_fail(d->err, SU_EFORMAT, "%s: truncated PNG: the file ends before the picture does", d->name);
        png_error(png, "");
    }
    memcpy(out, d->data + d->at, n);
    d->at += n;
}

static png_voidp on_alloc(png_structp png, png_alloc_size_t size)
{
    decoder *d = png_get_mem_ptr(png);
    void *p = su_alloc(size, 1);
    if (!p) no_memory(d);
    return p;
}

static void on_free(png_structp png, png_voidp p)
{
    (void)png;
    su_free(p);
}

/* Rows of the whole picture, interlaced or not: libpng fills in pixels pass by pass. */
static su_status decode(decoder *d)
{
    png_structp png = d->png;
    if (setjmp(png_jmpbuf(png))) return d->status;

    png_set_read_fn(png, d, on_read);
    png_set_user_limits(png, SU_IMAGE_MAX_PIXELS, SU_IMAGE_MAX_PIXELS);
    png_set_chunk_malloc_max(png, CHUNK_BYTES);
    png_set_chunk_cache_max(png, CHUNKS_KEPT);
    png_set_crc_action(png, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, NULL, -1);
    png_read_info(png, d->info);

    png_set_expand(png);   /* palettes, 1, 2 and 4 bits to 8; transparent colours to alpha */
    png_set_scale_16(png); /* 16 bits to 8, rounded */
    const int passes = png_set_interlace_handling(png);
    png_read_update_info(png, d->info);

    su_image *image = &d->image;
    image->width = (int32_t)png_get_image_width(png, d->info);
    image->height = (int32_t)png_get_image_height(png, d->info);
    image->channels = png_get_channels(png, d->info);
    const size_t stride = (size_t)image->width * (size_t)image->channels;
    if (png_get_bit_depth(png, d->info) != 8 || png_get_rowbytes(png, d->info) != stride)
        png_error(png, "rows of an unexpected length");
    image->pixels = su_alloc((size_t)image->height, stride);
    if (!image->pixels) return no_memory(d);
    for (int pass = 0; pass < passes; pass++)
        for (int32_t y = 0; y < image->height; y++)
            png_read_row(png, image->pixels + (size_t)y * stride, NULL);
    png_read_end(png, NULL);
    return SU_OK;
}

/* [n][colours + alpha] to [n][colours] in place: out = colour * alpha / 255, rounded. */
static void flatten(su_image *image)
{
    const int colours = image->channels - 1;
    const size_t n = (size_t)image->width * (size_t)image->height;
    const uint8_t *p = image->pixels;
    uint8_t *q = image->pixels;
    for (size_t i = 0; i < n; i++, p += colours + 1)
        for (int c = 0; c < colours; c++) {
            const int t = p[c] * p[colours] + 128;
            *q++ = (uint8_t)(((t >> 8) + t) >> 8);
        }
    image->channels = colours;
}

static uint32_t big_endian(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

su_status su_png_decode(const uint8_t *data, size_t length, const char *name, su_image *image, su_error *err)
{
    /* signature 8, length 4, "IHDR", width, height: looked at before libpng sees the file */
    *image = (su_image){0};
    if (length >= 24 && memcmp(data + 12, "IHDR", 4) == 0) {
        const su_status status = su_image_check_size(big_endian(data + 16), big_endian(data + 20), name, err);
        if (status) return status;
    }
    decoder d = {.data = data, .length = length, .name = name, .err = err};
    d.png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, &d, on_error, on_warning, &d, on_alloc, on_free);
    if (d.png) d.info = png_create_info_struct(d.png);
    const su_status status = d.info ? decode(&d) : no_memory(&d);
    png_destroy_read_struct(&d.png, &d.info, NULL);
    if (status) {
        su_image_free(&d.image);
        return status;
    }
    if (d.image.channels == 2 || d.image.channels == 4) flatten(&d.image);
    *image = d.image;
    return SU_OK;
}
