/* The bytes of a file, or of memory in its place: read at any offset, checked against the end. A file is read
 * and never mapped: one that shrinks meanwhile is an error, not a signal. */
#ifndef SU_DICOM_SOURCE_H
#define SU_DICOM_SOURCE_H

#include "base/error.h"
#include <stddef.h>
#include <stdint.h>

typedef struct su_source su_source;

enum { SU_SOURCE_WINDOW = 16384 };

/* A regular file: SU_ENOTFOUND, SU_EIO, SU_ENOMEM. */
su_status su_source_open(const char *path, su_source **source, su_error *err);
/* Bytes allocated with su_alloc, which become the source's; name is for messages. SU_ENOMEM (bytes freed). */
su_status su_source_memory(const char *name, uint8_t *bytes, uint64_t length, su_source **source,
                           su_error *err);
void su_source_close(su_source *source); /* NULL accepted */

const char *su_source_name(const su_source *source);
uint64_t su_source_length(const su_source *source);

/* At most SU_SOURCE_WINDOW bytes, valid until the next call on this source; NULL when they are not all there
 * or cannot be read. */
const uint8_t *su_source_at(su_source *source, uint64_t offset, size_t length);
/* Copies. SU_EFORMAT beyond the end (truncated), SU_EIO. */
su_status su_source_read(su_source *source, uint64_t offset, void *out, size_t length, su_error *err);

#endif
