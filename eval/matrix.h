/* A matrix of embeddings from a file: .npy, or one tensor of a .safetensors file. Told apart by content, not
 * by name. */
#ifndef SU_EVAL_MATRIX_H
#define SU_EVAL_MATRIX_H

#include "base/error.h"
#include <stdint.h>

enum { SU_MATRIX_NAME = 256 };

typedef struct {
    float *data; /* [rows, width], C order */
    int64_t rows;
    int32_t width;
    char tensor[SU_MATRIX_NAME]; /* which tensor of a .safetensors file; "" for .npy */
} su_matrix;

/* .npy of float16, float32 or float64, any byte and axis order; F16, BF16, F32 or F64 of a .safetensors file.
 * float64 is rounded to float32. tensor: which one to take; NULL: the one called `stream` (may be NULL), else
 * the only one. SU_EFORMAT, SU_EUNSUPPORTED, SU_ENOTFOUND (naming the tensors that there are), SU_EMISMATCH
 * when it is no matrix. */
su_status su_matrix_read(const char *path, const char *tensor, const char *stream, su_matrix *matrix,
                         su_error *err);
void su_matrix_free(su_matrix *matrix);

#endif
