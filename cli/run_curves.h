/* A run's log as curves: one point a step or an epoch, thinned to what a chart can show. */
#ifndef SU_CLI_RUN_CURVES_H
#define SU_CLI_RUN_CURVES_H

#include "base/error.h"
#include <stdint.h>

typedef enum {
    SU_CURVE_INFONCE,
    SU_CURVE_ATP,
    SU_CURVE_CU,
    SU_CURVE_TAU,
    SU_CURVE_VAL_GAP, /* on the holdout, a point an epoch */
    SU_CURVE_VAL_R10,
    SU_CURVES,
} su_curve_kind;

typedef struct {
    double *x, *y; /* step, value; owned */
    int64_t points;
} su_curve;

typedef struct {
    su_curve curve[SU_CURVES];
} su_run_curves;

/* Reads RUN/log.jsonl. A curve has at most 200 points: the means of equal stretches. What is null or missing
 * in a line is no point. SU_ENOTFOUND when there is no log. */
su_status su_run_curves_read(const char *run, su_run_curves *curves, su_error *err);
void su_run_curves_free(su_run_curves *curves);

#endif
