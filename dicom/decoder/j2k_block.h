/* Code-blocks of JPEG 2000 [ITU-T T.800, Annexes C and D]: the arithmetic decoder and the three coding passes. Blocks of
 * up to 64 x 64 without code-block styles (bypass, resets, causal contexts, terminations, segmentation symbols). */
#ifndef SU_DICOM_DECODER_J2K_BLOCK_H
#define SU_DICOM_DECODER_J2K_BLOCK_H

#include <stddef.h>
#include <stdint.h>

enum { SU_J2K_SIDE_MAX = 64, SU_J2K_PLANES_MAX = 30 };

typedef struct su_j2k_block_decoder su_j2k_block_decoder; /* its memory, used for one block after the other */

su_j2k_block_decoder *su_j2k_block_decoder_new(void); /* su_free; NULL: no memory */

/* width, height: 1 .. 64. orientation: 0 LL, 1 HL, 2 LH, 3 HH. planes: 1 .. 30 bit planes, of which the first
 * passes are there: 1 .. 3 * planes - 2. code: [length], and two bytes of 0xff behind it. Any bytes decode to
 * something. out: [height] rows of width, stride apart; what is not known of a value is set to half. */
void su_j2k_block_decode(su_j2k_block_decoder *d, int width, int height, int orientation, int planes,
                         int passes, const uint8_t *code, size_t length, int32_t *out, size_t stride);

#endif
