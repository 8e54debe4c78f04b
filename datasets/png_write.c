/* Pictures as PNG files: 8-bit grey or RGB, the same bytes for the same pixels. */
#include "base/file.h"
#include "base/memory.h"
#include "datasets/image.h"
#include <png.h>
#include <setjmp.h>
#include <string.h>

enum { PNG_MAX = 1 << 30 };

typedef struct {
    su_buffer bytes;
    su_status status;
    su_error *err;
} encoder;

static void on_write(png_structp png, png_bytep data, size_t length)
{
    encoder *e = png_get_io_ptr(png);
    if (!e->status) e->status = su_buffer_add(&e->bytes, data, length, e->err);
    if (e->status) png_error(png, "");
}

static void on_flush(png_structp png)
{
    (void)png;
}

static void on_error(png_structp png, png_const_charp text)
{
    encoder *e = png_get_error_ptr(png);
    if (!e->status) e->status = su_fail(e->err, SU_ENOMEM, "PNG: %s", text);
    png_longjmp(png, 1);
}

static su_status encode(encoder *e, const su_image *image)
{
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, e, on_error, NULL);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    if (!info) {
        png_destroy_write_struct(&png, NULL);
        return su_fail(e->err, SU_ENOMEM, "no memory to write a PNG file");
    }
    if (setjmp(png_jmpbuf(png)) == 0) {
        const size_t stride = (size_t)image->width * (size_t)image->channels;
        png_set_write_fn(png, e, on_write, on_flush);
        png_set_IHDR(png, info, (png_uint_32)image->width, (png_uint_32)image->height, 8,
                     image->channels == 1 ? PNG_COLOR_TYPE_GRAY : PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
                     PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
        if (image->spacing[0] > 0 && image->spacing[1] > 0 && image->spacing[0] < 1e3 &&
            image->spacing[1] < 1e3)
            png_set_pHYs(png, info, (png_uint_32)(1000 / image->spacing[1] + 0.5),
                         (png_uint_32)(1000 / image->spacing[0] + 0.5), PNG_RESOLUTION_METER);
        png_write_info(png, info);
        for (int32_t y = 0; y < image->height; y++) png_write_row(png, image->pixels + (size_t)y * stride);
        png_write_end(png, info);
    }
    png_destroy_write_struct(&png, &info);
    return e->status;
}

su_status su_image_write_png(const char *path, const su_image *image, su_error *err)
{
    encoder e = {.err = err};
    su_buffer_init(&e.bytes, PNG_MAX);
    su_status st = encode(&e, image);
    if (!st) st = su_file_write(path, e.bytes.data, e.bytes.length, err);
    su_buffer_free(&e.bytes);
    return st;
}
