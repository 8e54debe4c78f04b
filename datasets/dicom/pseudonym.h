/* Identifiers replaced by keyed hashes, and what a file's header says of a patient taken out of a report.
 *
 * A pseudonym is HMAC-SHA256(key, kind NUL value), 16 hex digits: the same person gets the same name as long
 * as the key stays, and without the key nobody can make names again to compare. The key is a file of 64 hex
 * digits, made from the system's random numbers, readable for its owner alone; it must not travel with the
 * dataset. */
#ifndef SU_DATASETS_DICOM_PSEUDONYM_H
#define SU_DATASETS_DICOM_PSEUDONYM_H

#include "base/error.h"
#include "dicom/file.h"
#include <stdbool.h>
#include <stdint.h>

enum { SU_PSEUDONYM_MAX = 17 }; /* 16 hex digits and a NUL */

typedef struct {
    uint8_t key[32];
    char id[9]; /* tells keys apart, and says nothing of them */
} su_pseudonyms;

/* Reads the key, or makes one where there is no such file (*made). SU_EFORMAT: not 64 hex digits. SU_EIO. */
su_status su_pseudonyms_open(const char *path, su_pseudonyms *p, bool *made, su_error *err);

/* kind: "patient", "study", "image". "" has the name "". */
void su_pseudonym(const su_pseudonyms *p, const char *kind, const char *value, char name[SU_PSEUDONYM_MAX]);

/* What the header says of people: names, numbers, dates, addresses, one a line; freed with su_free, NULL
 * without memory. */
char *su_identifiers_of(su_dicom_item *dataset);

/* The text with each of these words (whole words of three letters or more, whatever their case; dates in
 * their usual forms) as "___". That is no de-identification: what the header does not know stays. *out is
 * freed with su_free. */
su_status su_identifiers_remove(const char *text, const char *identifiers, char **out, su_error *err);

#endif
