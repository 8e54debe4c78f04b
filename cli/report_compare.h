/* A comparison for people: the table on a terminal, and a page that needs nothing but itself. */
#ifndef SU_CLI_REPORT_COMPARE_H
#define SU_CLI_REPORT_COMPARE_H

#include "cli/compare_runs.h"

void su_report_compare_print(FILE *to, const su_comparison *c);

/* One HTML file, no scripts and nothing loaded from elsewhere: verdicts, tables, intervals of gap and R@10,
 * training curves from RUN/log.jsonl, receipts. Atomic. A log that cannot be read is left out with a warning. */
su_status su_report_compare_html(const su_comparison *c, const char *path, su_error *err);

/* "gap is smaller beyond both intervals (0.120 against 0.390)": how a group stands against the first one;
 * false when one of the two has no interval. */
bool su_report_verdict(const su_comparison *c, int group, const char *score, const char *what, bool percent,
                       char *text, size_t size);

#endif
