/* Writing NumPy's .npy, version 1.0: C order, little endian. */
#ifndef SU_BASE_NPY_H
#define SU_BASE_NPY_H

#include "base/error.h"
#include <stddef.h>
#include <stdint.h>

typedef struct su_npy_writer su_npy_writer;

enum { SU_NPY_WRITE_RANK = 8 };

/* type: "<f4", "|u1", "<i2", ...; shape [rank], each 1 or more. Data follow with su_npy_add, in as many
 * pieces as one likes; su_npy_commit wants exactly what the shape says (SU_EINVAL otherwise), and frees w in
 * any case. The file appears whole or not at all (base/file.h). SU_EIO, SU_ENOMEM. */
su_status su_npy_open(const char *path, const char *type, int rank, const int64_t *shape, su_npy_writer **w,
                      su_error *err);
su_status su_npy_add(su_npy_writer *w, const void *data, size_t bytes, su_error *err);
su_status su_npy_commit(su_npy_writer *w, su_error *err);
void su_npy_abort(su_npy_writer *w); /* NULL accepted */

#endif
