/* Element types, as safetensors files name them. */
#ifndef SU_BASE_DTYPE_H
#define SU_BASE_DTYPE_H

#include <stddef.h>

typedef enum {
    SU_DTYPE_F64,
    SU_DTYPE_F32,
    SU_DTYPE_F16,
    SU_DTYPE_BF16,
    SU_DTYPE_I64,
    SU_DTYPE_I32,
    SU_DTYPE_I16,
    SU_DTYPE_I8,
    SU_DTYPE_U64,
    SU_DTYPE_U32,
    SU_DTYPE_U16,
    SU_DTYPE_U8,
    SU_DTYPE_BOOL,
} su_dtype;

enum { SU_DTYPES = SU_DTYPE_BOOL + 1 };

size_t su_dtype_size(su_dtype dtype);      /* bytes; 0: no such type */
const char *su_dtype_name(su_dtype dtype); /* "F32"; "?": no such type */

#endif
