/* What `eval caption` prints: the document "suture.eval.caption/1", and the table for people. */
#ifndef SU_CLI_REPORT_CAPTION_H
#define SU_CLI_REPORT_CAPTION_H

#include "base/error.h"
#include "eval/caption_match.h"
#include "eval/caption_score.h"
#include <jansson.h>
#include <stdio.h>

/* The document without receipt: n and the figures. New reference; NULL without memory. */
json_t *su_report_caption_json(const su_caption_figures *figures, int64_t n);

/* Adds the flaws of a file to the document's "flaws":
 * {"file":role,"line":...,"id":...,"reason":...,"scored":...} False without memory. */
bool su_report_caption_flaws(json_t *document, const char *role, const su_captions *captions);

/* One JSON line an item. */
su_status su_report_caption_items(const char *path, const su_caption_match *match,
                                  const su_caption_figures *items, su_error *err);

void su_report_caption_print(FILE *to, const json_t *document);

#endif
