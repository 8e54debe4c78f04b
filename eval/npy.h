/* NumPy's .npy, versions 1 to 3: the header, and numbers out of the data whatever their order.
 *
 *   "\x93NUMPY" | major | minor | header length (u16, from version 2 u32, little endian) | header | data
 *   header: a Python literal, {'descr': '<f4', 'fortran_order': False, 'shape': (487, 512), } and spaces
 *
 * Objects, structures, strings and complex numbers are SU_EUNSUPPORTED; nothing in a file is ever evaluated. */
#ifndef SU_EVAL_NPY_H
#define SU_EVAL_NPY_H

#include "base/error.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SU_NPY_RANK = 8, SU_NPY_HEADER_MAX = 1 << 20 };

typedef struct {
    char kind; /* 'f' float, 'i' signed, 'u' unsigned, 'b' bool */
    int size;  /* bytes of an element: f 2, 4, 8; i and u 1, 2, 4, 8; b 1 */
    bool big_endian;
    bool fortran; /* the first axis runs fastest */
    int rank;     /* 0 .. SU_NPY_RANK */
    int64_t shape[SU_NPY_RANK];
    int64_t count;       /* elements */
    const uint8_t *data; /* count * size bytes, inside the bytes that were parsed */
} su_npy;

/* name is used in messages. SU_EFORMAT (also when bytes are missing or left over), SU_EUNSUPPORTED,
 * SU_ELIMIT. */
su_status su_npy_parse(const uint8_t *bytes, size_t length, const char *name, su_npy *npy, su_error *err);

bool su_npy_is(const uint8_t *bytes, size_t length); /* begins as an .npy file does */

/* Element i in file order as a double ('f'; exact) or as an int64 ('i', 'u' up to 2^63 - 1, 'b'). */
double su_npy_double(const su_npy *npy, int64_t i);
int64_t su_npy_int(const su_npy *npy, int64_t i);

float su_half_to_float(uint16_t half);

#endif
