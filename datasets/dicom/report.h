/* Reports that lie beside the studies: found by Study Instance UID or by accession number.
 *
 *   structured reports   DICOM SR of a study: "HEADING: text" a line, in the document's order
 *   NAME.txt             NAME is the UID or the number; the whole file
 *   NAME.xml             likewise; CDA's sections, Open-i's AbstractText, or else all that is text in it
 *   a CSV file           a column of UIDs or numbers, and one of texts
 *
 * What comes for a study from several sources is joined, in the order in which it was added; the same text is
 * not added twice. */
#ifndef SU_DATASETS_DICOM_REPORT_H
#define SU_DATASETS_DICOM_REPORT_H

#include "base/error.h"
#include "dicom/file.h"
#include <stdbool.h>

typedef struct su_reports su_reports;

enum { SU_REPORT_MAX = 1 << 20 }; /* bytes of one */

su_reports *su_reports_new(void); /* NULL without memory */
void su_reports_free(su_reports *r);

/* name: a UID or an accession number. */
su_status su_reports_add(su_reports *r, const char *name, const char *text, su_error *err);
/* The study's, by either; NULL when there is none, or only an empty one. Belongs to r. */
const char *su_reports_find(su_reports *r, const char *study_uid, const char *accession);
int64_t su_reports_count(const su_reports *r);  /* of names */
int64_t su_reports_unused(const su_reports *r); /* of those, never found so far */

/* A file whose name ends in .txt or .xml; others are passed over (*taken false). SU_ELIMIT, SU_EFORMAT. */
su_status su_reports_add_file(su_reports *r, const char *path, bool *taken, su_error *err);
/* A table: columns study_uid or accession (and their usual other names), and text or report. SU_EINVAL when
 * it has none of these. */
su_status su_reports_add_csv(su_reports *r, const char *path, su_error *err);
/* A structured report's text, freed with su_free; "" when it has none. */
su_status su_report_of_sr(su_dicom_item *dataset, char **text, su_error *err);
/* The text of an XML document, freed with su_free. No entity is expanded, nothing is fetched, a document type
 * declaration is refused. */
su_status su_report_of_xml(const char *data, size_t length, const char *name, char **text, su_error *err);

#endif
