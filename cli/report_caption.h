/* What `eval caption` prints: the document "suture.eval.caption/1", and the table for people. */
#ifndef SU_CLI_REPORT_CAPTION_H
#define SU_CLI_REPORT_CAPTION_H

#include "base/error.h"
#include "eval/caption_match.h"
#include "eval/caption_resample.h"
#include "eval/caption_score.h"
#include <jansson.h>
#include <stdio.h>

/* The document without receipt: n and the figures. New reference; NULL without memory. */
json_t *su_report_caption_json(const su_caption_figures *figures, int64_t n);

/* Adds "bleu_ci95", "rouge_l_ci95", ...: [low, high] each. False without memory, here and below. */
bool su_report_caption_intervals(json_t *document, const su_caption_interval *interval);

/* Adds "against": the other system's figures and intervals, "difference", "difference_ci95", "p". interval,
 * comparison: NULL when nothing was resampled. */
bool su_report_caption_against(json_t *document, const su_caption_figures *other,
                               const su_caption_interval *interval, const su_caption_comparison *comparison);

/* Adds the flaws of a file to the document's "flaws":
 * {"file":role,"line":...,"id":...,"reason":...,"scored":...} False without memory. */
bool su_report_caption_flaws(json_t *document, const char *role, const su_captions *captions);

/* One JSON line an item. */
su_status su_report_caption_items(const char *path, const su_caption_match *match,
                                  const su_caption_figures *items, su_error *err);

void su_report_caption_print(FILE *to, const json_t *document);

#endif
