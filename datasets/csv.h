/* Rows of a CSV file (RFC 4180 and what spreadsheets make of it), by libcsv, with the line each row starts
 * on.
 *
 * Fields may be quoted, with commas, line ends and doubled quotes inside; LF, CRLF or CR; a UTF-8 byte-order
 * mark is passed over. The delimiter is the one of comma, semicolon and tab that the first line has most of.
 * Empty lines are no rows. Fields are bytes: whether they are UTF-8 is the caller's to check. */
#ifndef SU_DATASETS_CSV_H
#define SU_DATASETS_CSV_H

#include "base/error.h"
#include <stddef.h>
#include <stdint.h>

enum { SU_CSV_ROW_MAX = 16 << 20 }; /* bytes of a row's fields */

typedef struct {
    int64_t line; /* where the row starts, 1-based */
    int count;
    const char *const *fields; /* NUL-terminated; a NUL within a field makes strlen shorter than its length */
    const size_t *lengths;
    const char *broken; /* not NULL: why this row has no fields; the lines after its first are read as rows */
} su_csv_row;

typedef struct su_csv su_csv;

su_status su_csv_open(const char *path, su_csv **csv, su_error *err); /* SU_EFORMAT: UTF-16 */
void su_csv_close(su_csv *csv);
/* *row: valid until the next call; NULL after the last. A row above SU_CSV_ROW_MAX, and one that opens a
 * quote that the file never closes, is broken; SU_ELIMIT after a hundred of them. */
su_status su_csv_next(su_csv *csv, const su_csv_row **row, su_error *err);
void su_csv_rewind(su_csv *csv);                     /* to the first row */
void su_csv_sha256(const su_csv *csv, char hex[65]); /* of the file */

#endif
