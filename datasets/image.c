/* Files by their content, and decoded pixels to the stored square. */
#include "datasets/image.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/resize.h"
#include "datasets/codec.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

su_status su_image_check_size(uint64_t width, uint64_t height, const char *name, su_error *err)
{
    if (width == 0 || height == 0) return su_fail(err, SU_EFORMAT, "%s: a picture of no pixels", name);
    if (width > SU_IMAGE_MAX_PIXELS || height > SU_IMAGE_MAX_PIXELS || width * height > SU_IMAGE_MAX_PIXELS)
        return su_fail(err, SU_ELIMIT, "%s: %llux%llu pixels; at most %d million are read", name,
                       (unsigned long long)width, (unsigned long long)height, SU_IMAGE_MAX_PIXELS / 1000000);
    return SU_OK;
}

/* What a file that is neither JPEG nor PNG is, for the message. */
static const char *other_format(const uint8_t *data, size_t length)
{
    static const struct {
        size_t at, length;
        const char *magic, *format;
    } known[] = {
        {0, 4, "GIF8", "a GIF file"},
        {0, 4, "II*\0", "a TIFF file"},
        {0, 4, "MM\0*", "a TIFF file"},
        {0, 2, "BM", "a BMP file"},
        {8, 4, "WEBP", "a WebP file"},
        {0, 4, "%PDF", "a PDF file"},
        {128, 4, "DICM", "a DICOM file"},
        {4, 4, "jP  ", "a JPEG 2000 file"},
        {0, 3, "\xff\x4f\xff", "a JPEG 2000 file"},
        {0, 4, "\xff\xd8\xff\xf7", "a JPEG-LS file"},
        {0, 2, "PK", "a ZIP archive"},
        {0, 2, "\x1f\x8b", "a gzip archive"},
        {0, 1, "<", "a web page or XML"},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (length >= known[i].at + known[i].length &&
            memcmp(data + known[i].at, known[i].magic, known[i].length) == 0)
            return known[i].format;
    return "no image format that is known here";
}

su_status su_image_decode(const uint8_t *data, size_t length, const char *name, su_image *image,
                          su_error *err)
{
    static const uint8_t jpeg[] = {0xff, 0xd8, 0xff}, png[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
    *image = (su_image){0};
    if (length == 0) return su_fail(err, SU_EFORMAT, "%s: the file is empty", name);
    if (length > SU_IMAGE_MAX_BYTES)
        return su_fail(err, SU_ELIMIT, "%s: a file of %zu bytes; at most %d are read", name, length,
                       SU_IMAGE_MAX_BYTES);
    if (length >= sizeof jpeg && memcmp(data, jpeg, sizeof jpeg) == 0)
        return su_jpeg_decode(data, length, name, image, err);
    if (length >= sizeof png && memcmp(data, png, sizeof png) == 0)
        return su_png_decode(data, length, name, image, err);
    return su_fail(err, SU_EFORMAT, "%s: %s; %s are read", name, other_format(data, length), su_image_formats);
}

/* What a file begins with, enough to tell DICOM's preamble. */
static size_t begins_with(const char *path, uint8_t head[132])
{
    FILE *f = fopen(path, "rb");
    const size_t got = f ? fread(head, 1, 132, f) : 0;
    if (f) (void)fclose(f);
    return got;
}

/* With the preamble and DICM of PS3.10; or without, as some archives leave files: then the first tag is one
 * of group 2 or 8, in either byte order. */
static bool is_dicom(const uint8_t head[132], size_t length)
{
    if (length < 132) return false;
    if (memcmp(head + 128, "DICM", 4) == 0) return true;
    const bool little = (head[0] == 2 || head[0] == 8) && head[1] == 0 && head[3] == 0;
    const bool big = head[0] == 0 && (head[1] == 2 || head[1] == 8) && head[2] == 0;
    return little || big;
}

su_status su_image_load(const char *path, const su_image_recipe *recipe, su_image *image, su_error *err)
{
    char *data;
    size_t length;
    struct stat s;
    uint8_t head[132];
    *image = (su_image){0};
    /* Opening a pipe would wait for its writer, and a terminal for its user. */
    if (stat(path, &s) == 0 && !S_ISREG(s.st_mode) && !S_ISDIR(s.st_mode))
        return su_fail(err, SU_EIO, "%s: is a device, pipe or socket, not a file", path);
    if (is_dicom(head, begins_with(path, head))) return su_image_load_dicom(path, recipe, image, err);
    su_status status = su_file_read(path, SU_IMAGE_MAX_BYTES, &data, &length, err);
    if (status) return status;
    status = su_image_decode((const uint8_t *)data, length, path, image, err);
    su_free(data);
    return status;
}

/* A length of n pixels, `spacing` mm apart, on a square of `size` pixels of `wanted` mm: where it begins
 * there and how many it takes, and which part of it, from..to, that shows. Whole pixels: less than one is cut
 * off for it. */
static void place_length(int32_t n, double spacing, double wanted, int32_t size, float *from, float *to,
                         int32_t *at, int32_t *count)
{
    const double fits = floor(n * spacing / wanted + 1e-6);
    *count = fits > size ? size : fits < 1 ? 1 : (int32_t)fits;
    const double shown = fmin(*count * wanted / spacing, n);
    *from = (float)((n - shown) / 2);
    *to = fminf((float)((n + shown) / 2), (float)n);
    *at = (size - *count) / 2;
}

static void grey_from_rgb(const uint8_t *in, uint8_t *out, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = (uint8_t)((in[3 * i] * 19595 + in[3 * i + 1] * 38470 + in[3 * i + 2] * 7471 + 0x8000) >> 16);
}

/* Where the picture goes in the square, and which part of it: the arithmetic of Pillow's ImageOps.pad and
 * .fit. */
static void place(const su_image *in, const su_image_recipe *recipe, su_box *box, int32_t *x, int32_t *y,
                  int32_t *width, int32_t *height)
{
    const int32_t size = recipe->size, w = in->width, h = in->height;
    *box = (su_box){0.0f, 0.0f, (float)w, (float)h};
    *width = *height = size;
    if (recipe->crop) {
        if (w > h) {
            box->x0 = (float)((w - h) * 0.5);
            box->x1 = box->x0 + (float)h;
        } else {
            box->y0 = (float)((h - w) * 0.5);
            box->y1 = box->y0 + (float)w;
        }
    } else if (w > h) {
        *height = (int32_t)lrint((double)h / w * size); /* ties to even, as Python rounds */
        if (*height < 1) *height = 1;
    } else if (h > w) {
        *width = (int32_t)lrint((double)w / h * size);
        if (*width < 1) *width = 1;
    }
    *x = (int32_t)lrint((size - *width) * 0.5);
    *y = (int32_t)lrint((size - *height) * 0.5);
}

su_status su_image_to_recipe(const su_image *in, const su_image_recipe *recipe, uint8_t *out, su_error *err)
{
    const int32_t size = recipe->size, channels = recipe->channels;
    if (size < 1 || (channels != 1 && channels != 3))
        return su_fail(err, SU_EINVAL, "recipe: size %d with %d channels; 1 or 3 channels are made", size,
                       channels);
    su_box box;
    int32_t x, y, width, height;
    if (recipe->spacing > 0) {
        const double *mm = in->spacing;
        if (!(mm[0] > 0 && mm[1] > 0))
            return su_fail(err, SU_EUNSUPPORTED,
                           "its physical spacing is not known, and the recipe wants %g mm a pixel",
                           recipe->spacing);
        place_length(in->width, mm[1], recipe->spacing, size, &box.x0, &box.x1, &x, &width);
        place_length(in->height, mm[0], recipe->spacing, size, &box.y0, &box.y1, &y, &height);
    } else {
        place(in, recipe, &box, &x, &y, &width, &height);
    }

    /* Grey pictures are resampled as grey, whatever is stored; colour ones become grey before. */
    const int32_t worked = in->channels < channels ? in->channels : channels;
    su_raster from = {in->pixels, in->width, in->height, worked, (int64_t)in->width * worked};
    uint8_t *grey = NULL, *made = NULL;
    if (in->channels > worked) {
        const int64_t n = (int64_t)in->width * in->height;
        grey = su_alloc((size_t)n, 1);
        if (grey) grey_from_rgb(in->pixels, grey, n);
        from.pixels = grey;
    }
    const int64_t stride = (int64_t)size * channels;
    uint8_t *corner = out + y * stride + x * channels;
    su_raster to = {corner, width, height, worked, stride};
    if (worked < channels) {
        made = su_alloc((size_t)width, (size_t)height);
        to = (su_raster){made, width, height, 1, width};
    }
    su_status status = SU_OK;
    if (!from.pixels || !to.pixels) status = su_fail(err, SU_ENOMEM, "recipe: no memory");
    if (!status) {
        memset(out, 0, (size_t)size * (size_t)stride);
        status = su_resize(&from, &box, &to, err);
    }
    if (!status && made)
        for (int32_t r = 0; r < height; r++)
            for (int32_t c = 0; c < width; c++)
                memset(corner + r * stride + 3 * c, made[(int64_t)r * width + c], 3);
    su_free(grey);
    su_free(made);
    return status;
}
