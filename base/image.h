/* A decoded picture: 8-bit pixels, grey or RGB. */
#ifndef SU_BASE_IMAGE_H
#define SU_BASE_IMAGE_H

#include <stdint.h>

/* pixels [height, width, channels], channels 1 (grey) or 3 (RGB); owned: su_image_free.
 * spacing: millimetres between rows, and between columns; 0 when unknown. */
typedef struct {
    int32_t width, height, channels;
    uint8_t *pixels;
    double spacing[2];
} su_image;

void su_image_free(su_image *image); /* leaves an empty image; NULL accepted */

#endif
