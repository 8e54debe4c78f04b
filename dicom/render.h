/* Rendering: stored values of one frame become the 8-bit picture that the standard says a display shows.
 *
 *   stored value -> Modality LUT -> VOI LUT -> Presentation LUT -> 0 .. 255        [PS3.3 C.11.1, C.11.2,
 * C.11.6; PS3.4 N.2]
 *         \-> padding? then 0, whatever comes after                                [PS3.3 C.7.5.1.1.2]
 *
 *   Modality LUT   table, or x = slope * stored + intercept
 *   VOI LUT        y of x, in 0 .. 255, real numbers until the last step; c: centre, w: width
 *     LINEAR         x <= c - 0.5 - (w - 1)/2: 0     x > c - 0.5 + (w - 1)/2: 255     else ((x - (c -
 * 0.5))/(w - 1) + 0.5) 255 LINEAR_EXACT   x <= c - w/2: 0                 x > c + w/2: 255 else ((x - c)/w +
 * 0.5) 255 SIGMOID        255 / (1 + exp(-4 (x - c)/w)) TABLE          entry / (2^bits - 1) * 255, x rounded
 * to the nearest integer SPAN           x from low to high becomes 0 to 255 (what "identity" means for a
 * range of values) RANGE          SPAN from the least to the greatest x of this frame, padding left out
 *   Presentation   y, or 255 - y where the display says inverse
 *   The result is rounded once, to the nearest level.
 *
 * Tables clamp: inputs below the first mapped value take the first entry, above the last one the last.
 * Everything here is pure: arrays and a description in, pixels out. display.h fills the description from a
 * file. */
#ifndef SU_DICOM_RENDER_H
#define SU_DICOM_RENDER_H

#include "base/error.h"
#include "base/image.h"
#include "dicom/recipe.h"
#include <stdbool.h>
#include <stdint.h>

/* A lookup table as DICOM stores it [PS3.3 C.11.1.1.1, C.11.2.1.1, C.7.6.3.1.5]. */
typedef struct {
    int32_t first;           /* input value of the first entry */
    int32_t count;           /* 1 .. 65536; 0: there is no table */
    int32_t bits;            /* output range 0 .. 2^bits - 1; 1 .. 16 */
    const uint16_t *entries; /* [count] */
} su_dicom_lut;

typedef enum {
    SU_VOI_RANGE,
    SU_VOI_SPAN,
    SU_VOI_LINEAR,
    SU_VOI_LINEAR_EXACT,
    SU_VOI_SIGMOID,
    SU_VOI_TABLE
} su_dicom_voi_kind;

typedef struct {
    su_dicom_voi_kind kind;
    double centre, width; /* LINEAR: width >= 1; LINEAR_EXACT, SIGMOID: width > 0 */
    double low, high;     /* SPAN */
    su_dicom_lut table;   /* TABLE */
} su_dicom_voi;

typedef enum {
    SU_DICOM_GREY,
    SU_DICOM_PALETTE,
    SU_DICOM_RGB,
    SU_DICOM_YBR_FULL,
    SU_DICOM_YBR_PARTIAL
} su_dicom_colour;

typedef enum {
    SU_DICOM_U8,
    SU_DICOM_S8,
    SU_DICOM_U16,
    SU_DICOM_S16,
    SU_DICOM_U32,
    SU_DICOM_S32,
    SU_DICOM_F32,
    SU_DICOM_F64
} su_dicom_type;

/* One decoded frame: values [rows, columns, samples], samples 1 or 3; masked and sign-extended. Not owned. */
typedef struct {
    const void *values;
    su_dicom_type type;
    int32_t rows, columns, samples;
} su_dicom_frame;

/* How a frame is to be shown. */
typedef struct {
    su_dicom_colour colour;
    int32_t bits; /* of a stored value (Bits Stored); colour samples are scaled from 0 .. 2^bits - 1 */
    su_dicom_lut modality;
    double slope, intercept; /* used where there is no modality table; 1 and 0 change nothing */
    bool padded;             /* stored values padding_low .. padding_high, both included, are padding */
    double padding_low, padding_high;
    su_dicom_voi voi;
    bool inverse;     /* Presentation LUT Shape INVERSE, or without a shape MONOCHROME1 */
    bool monochrome1; /* what MIMIC-CXR-JPG goes by */
    su_dicom_lut palette[3];
} su_dicom_display;

/* The picture of one frame by a recipe (recipe.h): a grey one has 1 channel, a colour one 3, in the frame's
 * own size. Colour and palette frames are shown as they are, whatever the recipe's window.
 *
 * SU_EINVAL: display or frame are out of their ranges (a bug of the caller's or a damaged file's: the message
 * says which). SU_ENUMERIC: float values without a finite one. SU_ENOMEM. On failure *out is empty. */
su_status su_dicom_render(const su_dicom_frame *frame, const su_dicom_display *display,
                          const su_dicom_recipe *recipe, su_image *out, su_error *err);

/* Stored values through the Modality LUT, padding like the rest: out [rows, columns]. For frames of 1 sample.
 */
void su_dicom_modality_values(const su_dicom_frame *frame, const su_dicom_display *display, float *out);

/* Least and greatest value of a frame of 1 sample after the Modality LUT, padding left out; raw: as stored,
 * padding too. False when there is none. */
bool su_dicom_range(const su_dicom_frame *frame, const su_dicom_display *display, bool raw, double range[2]);

/* x through a table. */
double su_dicom_lut_value(const su_dicom_lut *lut, double x);

/* A picture's pixels made `size` millimetres wide and high: spacing is the distance of rows and of columns.
 * Antialiased bicubic. SU_EINVAL when a spacing is not positive, SU_ELIMIT when the result is empty or above
 * 64 million pixels. */
su_status su_dicom_respace(su_image *image, const double spacing[2], double size, su_error *err);

#endif
