/* JPEG 2000 Part 1 with the reversible transform, as nearly all lossless JPEG 2000 of radiology is: our own decoder, because
 * OpenJPEG takes nine tenths of the time of reading such files. What is not of that kind, and what is damaged,
 * is left to OpenJPEG, which gives the same values, or the reason. [ITU-T T.800]
 *
 *     main header -> tile-parts, by tile -> packets -> code-blocks -> inverse 5/3 -> colour, level -> planes
 *                                           (j2k_packets.h) (j2k_block.h)
 *
 * Left out: the irreversible transform, code-block styles and blocks wider or higher than 64, quantization,
 * regions of interest, coding styles that change by component, tile or layer (COC, QCC, POC, headers of
 * tile-parts), packed headers (PPM, PPT), HTJ2K. */
#ifndef SU_DICOM_DECODER_J2K_REVERSIBLE_H
#define SU_DICOM_DECODER_J2K_REVERSIBLE_H

#include "base/error.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SU_J2K_COMPONENTS_MAX = 3 };

typedef struct {
    int precision; /* 1 .. 24 bits */
    bool is_signed;
} su_j2k_component;

/* data [length]: a codestream. planes: zeros, [components][rows][columns]; the values of each, also where it
 * fails. SU_EUNSUPPORTED (for whatever reason), SU_ENOMEM. */
su_status su_j2k_reversible_decode(const uint8_t *data, size_t length, int32_t rows, int32_t columns,
                                   int32_t components, int32_t *planes,
                                   su_j2k_component component[SU_J2K_COMPONENTS_MAX]);

#endif
