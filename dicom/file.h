/* A DICOM file's data set, behind C: tags, sequences, text in UTF-8. Over DCMTK, which reads every transfer
 * syntax's structure, with or without a preamble and a meta header; pixels are decode.h's business.
 *
 * Opening reads the structure and short values; long ones stay on disk until they are asked for. A file is
 * for one thread at a time. Items, strings and arrays belong to the file. Text may name a patient: it never
 * enters a message. */
#ifndef SU_DICOM_FILE_H
#define SU_DICOM_FILE_H

#include "base/error.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct su_dicom_file su_dicom_file;
typedef struct su_dicom_item su_dicom_item; /* the data set, or an item of a sequence */

#define SU_TAG(group, element) ((uint32_t)(group) << 16 | (uint32_t)(element))

/* SU_ENOTFOUND, SU_EIO, SU_EFORMAT (no DICOM file, or one whose structure is broken: the message says where).
 * On failure *file is NULL. */
su_status su_dicom_open(const char *path, su_dicom_file **file, su_error *err);
void su_dicom_close(su_dicom_file *file); /* NULL accepted */

const char *su_dicom_path(const su_dicom_file *file);
su_dicom_item *su_dicom_dataset(su_dicom_file *file);
const char *su_dicom_transfer_syntax(const su_dicom_file *file); /* UID; "" when the file does not say */

/* What the standard calls a UID ("CT Image Storage"); NULL: it knows none such. */
const char *su_dicom_uid_name(const char *uid);

/* Every reader below takes NULL for the item, which has nothing. */

bool su_dicom_has(su_dicom_item *item, uint32_t tag); /* it is there and not empty */
/* Value `index` (0: the first) of a numeric element or a decimal or integer string: false when there is none.
 */
bool su_dicom_number(su_dicom_item *item, uint32_t tag, int index, double *value);
bool su_dicom_integer(su_dicom_item *item, uint32_t tag, int index, int64_t *value);
int su_dicom_values(su_dicom_item *item, uint32_t tag); /* how many values it has; 0: absent or empty */
/* The whole value (backslashes included) in UTF-8, padding cut off, at most size - 1 bytes at a character's
 * end;
 * "" when there is none. Bytes that its character set does not know become '?'. Returns buffer. */
const char *su_dicom_text(su_dicom_item *item, uint32_t tag, char *buffer, size_t size);
/* The same, of any length: freed with su_free; NULL without memory. */
char *su_dicom_text_all(su_dicom_item *item, uint32_t tag);
/* Words of a US, SS or OW element, or bytes two by two of an OB one, in the machine's order: NULL when there
 * are none. */
const uint16_t *su_dicom_words(su_dicom_item *item, uint32_t tag, int64_t *count);
/* Item `index` of a sequence; NULL when there is none. */
su_dicom_item *su_dicom_sequence(su_dicom_item *item, uint32_t tag, int index);

#endif
