/* Random crop, turn, brightness and contrast. The geometry is computed in double, then fixed in 1/65536
 * pixel. */
#include "datasets/augment.h"
#include "base/memory.h"
#include <math.h>

enum {
    DRAWS = 8,
    FRACTION_BITS = 16
}; /* random numbers kept for a sample; bits after the point of a position */

void su_augment_defaults(su_augment *a)
{
    *a = (su_augment){.on = true,
                      .min_area = 0.5,
                      .max_aspect = 1.2,
                      .max_rotation = 10.0,
                      .brightness = 0.2,
                      .contrast = 0.2};
}

su_status su_augment_check(const su_augment *a, su_error *err)
{
    const struct {
        const char *name;
        double value, low, high;
    } checks[] = {
        {"min_area", a->min_area, 0.01, 1.0},         {"max_aspect", a->max_aspect, 1.0, 4.0},
        {"max_rotation", a->max_rotation, 0.0, 45.0}, {"brightness", a->brightness, 0.0, 1.0},
        {"contrast", a->contrast, 0.0, 1.0},
    };
    for (size_t i = 0; a->on && i < sizeof checks / sizeof *checks; i++)
        if (!(checks[i].value >= checks[i].low && checks[i].value <= checks[i].high))
            return su_fail(err, SU_EINVAL, "augmentation: %s is %g; it must be %g to %g", checks[i].name,
                           checks[i].value, checks[i].low, checks[i].high);
    return SU_OK;
}

su_augment_draw su_augment_pick(const su_augment *a, int32_t width, int32_t height, su_rng_key key,
                                uint64_t number)
{
    double u[DRAWS];
    for (int i = 0; i < DRAWS; i++) u[i] = su_rng_uniform(key, number * DRAWS + (uint64_t)i);
    const double area = a->min_area + (1.0 - a->min_area) * u[0];
    double aspect =
        exp((2.0 * u[1] - 1.0) * log(a->max_aspect)); /* in shares of the source's width and height */
    aspect = fmin(1.0 / area, fmax(area, aspect));    /* so that neither side leaves the source */
    const double w = width * fmin(1.0, sqrt(area * aspect)), h = height * fmin(1.0, sqrt(area / aspect));
    const double x = (width - w) * u[2], y = (height - h) * u[3];
    const double pi = 3.14159265358979323846;
    return (su_augment_draw){
        .box = {(float)x, (float)y, fminf((float)(x + w), (float)width),
                fminf((float)(y + h), (float)height)},
        .angle = (2.0 * u[4] - 1.0) * a->max_rotation * pi / 180.0,
        .brightness = 1.0 + (2.0 * u[5] - 1.0) * a->brightness,
        .contrast = 1.0 + (2.0 * u[6] - 1.0) * a->contrast,
    };
}

/* Where out column 0, row 0 lies in the reduced source, and the steps to the next column and row. */
typedef struct {
    int64_t x, y, x_column, y_column, x_row, y_row; /* 1/65536 pixel */
} affine;

static int64_t fixed(double v)
{
    return (int64_t)llrint(v * (1 << FRACTION_BITS));
}

/* Weighted sum of the four pixels around a position, those beyond the edge black. */
static void read_bilinear(const su_raster *in, const affine *m, const su_raster *out)
{
    const int channels = in->channels;
    for (int32_t r = 0; r < out->height; r++) {
        uint8_t *q = out->pixels + r * out->stride;
        int64_t x = m->x + r * m->x_row, y = m->y + r * m->y_row;
        for (int32_t c = 0; c < out->width; c++, q += channels, x += m->x_column, y += m->y_column) {
            const int64_t i = x >> FRACTION_BITS, j = y >> FRACTION_BITS; /* floor */
            const int32_t fx = (int32_t)(x >> (FRACTION_BITS - 8)) & 255,
                          fy = (int32_t)(y >> (FRACTION_BITS - 8)) & 255;
            const int32_t weight[4] = {(256 - fx) * (256 - fy), fx * (256 - fy), (256 - fx) * fy, fx * fy};
            const uint8_t *p = in->pixels + j * in->stride + i * channels;
            if (i >= 0 && j >= 0 && i + 1 < in->width && j + 1 < in->height) {
                const uint8_t *below = p + in->stride;
                for (int k = 0; k < channels; k++)
                    q[k] = (uint8_t)((weight[0] * p[k] + weight[1] * p[k + channels] + weight[2] * below[k] +
                                      weight[3] * below[k + channels] + (1 << 15)) >>
                                     16);
            } else {
                for (int k = 0; k < channels; k++) {
                    int32_t sum = 1 << 15;
                    for (int n = 0; n < 4; n++) {
                        const int64_t ii = i + (n & 1), jj = j + (n >> 1);
                        if (ii >= 0 && jj >= 0 && ii < in->width && jj < in->height)
                            sum += weight[n] * in->pixels[jj * in->stride + ii * channels + k];
                    }
                    q[k] = (uint8_t)(sum >> 16);
                }
            }
        }
    }
}

static su_status turn(const su_augment_draw *draw, const su_raster *in, const su_raster *out, su_error *err)
{
    const double box_w = (double)draw->box.x1 - (double)draw->box.x0,
                 box_h = (double)draw->box.y1 - (double)draw->box.y0;
    const double sx = box_w / out->width, sy = box_h / out->height; /* source pixels per pixel of out */
    const double centre_x = 0.5 * ((double)draw->box.x0 + (double)draw->box.x1);
    const double centre_y = 0.5 * ((double)draw->box.y0 + (double)draw->box.y1);
    const double cosine = cos(draw->angle), sine = sin(draw->angle);

    /* The part of the source under the turned rectangle, in whole pixels of the reduced scale so that nothing
     * is stretched; two pixels more for the bilinear reads. */
    const double half_w = 0.5 * (box_w * fabs(cosine) + box_h * fabs(sine)) + 2.0 * sx;
    const double half_h = 0.5 * (box_w * fabs(sine) + box_h * fabs(cosine)) + 2.0 * sy;
    const double left = fmax(0.0, centre_x - half_w), right = fmin(in->width, centre_x + half_w);
    const double top = fmax(0.0, centre_y - half_h), bottom = fmin(in->height, centre_y + half_h);
    const su_box part = {(float)left, (float)top, (float)right, (float)bottom};
    const int32_t width = (int32_t)fmax(1.0, rint((right - left) / sx));
    const int32_t height = (int32_t)fmax(1.0, rint((bottom - top) / sy));
    const int64_t stride = (int64_t)width * in->channels;
    su_raster reduced = {su_alloc((size_t)height, (size_t)stride), width, height, in->channels, stride};
    if (!reduced.pixels)
        return su_fail(err, SU_ENOMEM, "augmentation: no memory for %dx%d pixels", width, height);
    const su_status status = su_resize(in, &part, &reduced, err);
    if (!status) {
        const double rx = width / (right - left),
                     ry = height / (bottom - top); /* reduced pixels per source pixel */
        const double u = 0.5 - 0.5 * out->width,
                     v = 0.5 - 0.5 * out->height; /* centre of the first pixel of out */
        const affine m = {
            .x = fixed((cosine * u * sx - sine * v * sy + centre_x - left) * rx - 0.5),
            .y = fixed((sine * u * sx + cosine * v * sy + centre_y - top) * ry - 0.5),
            .x_column = fixed(cosine * sx * rx),
            .y_column = fixed(sine * sx * ry),
            .x_row = fixed(-sine * sy * rx),
            .y_row = fixed(cosine * sy * ry),
        };
        read_bilinear(&reduced, &m, out);
    }
    su_free(reduced.pixels);
    return status;
}

/* Mean luma, in the weights of su_image_to_recipe. */
static double mean_luma(const su_raster *r)
{
    int64_t sum = 0;
    for (int32_t y = 0; y < r->height; y++) {
        const uint8_t *p = r->pixels + y * r->stride;
        if (r->channels == 1)
            for (int32_t x = 0; x < r->width; x++) sum += p[x] * 65536;
        else
            for (int32_t x = 0; x < r->width; x++)
                sum += p[3 * x] * 19595 + p[3 * x + 1] * 38470 + p[3 * x + 2] * 7471;
    }
    return (double)sum / 65536.0 / ((double)r->width * r->height);
}

static void shade(const su_augment_draw *draw, const su_raster *r)
{
    const double mean = draw->brightness * mean_luma(r);
    uint8_t map[256];
    for (int v = 0; v < 256; v++) {
        const double shaded = (v * draw->brightness - mean) * draw->contrast + mean;
        map[v] = (uint8_t)lrint(fmin(255.0, fmax(0.0, shaded)));
    }
    const int64_t bytes = (int64_t)r->width * r->channels;
    for (int32_t y = 0; y < r->height; y++) {
        uint8_t *p = r->pixels + y * r->stride;
        for (int64_t i = 0; i < bytes; i++) p[i] = map[p[i]];
    }
}

su_status su_augment_apply(const su_augment_draw *draw, const su_raster *in, const su_raster *out,
                           su_error *err)
{
    const su_status status =
        draw->angle != 0.0 ? turn(draw, in, out, err) : su_resize(in, &draw->box, out, err);
    if (status) return status;
    if (draw->brightness != 1.0 || draw->contrast != 1.0) shade(draw, out);
    return SU_OK;
}
