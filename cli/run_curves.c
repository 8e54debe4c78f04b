#include "cli/run_curves.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include <math.h>

enum { SHOWN = 200 };

typedef struct {
    su_run_curves *curves;
    int64_t capacity[SU_CURVES];
} reading;

static const struct {
    const char *outer, *key;
} members[SU_CURVES] = {
    [SU_CURVE_INFONCE] = {NULL, "infonce"}, [SU_CURVE_ATP] = {NULL, "atp"},
    [SU_CURVE_CU] = {NULL, "cu"},           [SU_CURVE_TAU] = {NULL, "tau"},
    [SU_CURVE_VAL_GAP] = {"val", "gap"},    [SU_CURVE_VAL_R10] = {"val", "r10"},
};

static su_status add_point(reading *r, int kind, double x, double y, su_error *err)
{
    su_curve *c = &r->curves->curve[kind];
    if (c->points == r->capacity[kind]) {
        int64_t wanted = c->points ? 2 * c->points : 256;
        double *xs = su_realloc(c->x, (size_t)wanted, sizeof *xs);
        if (xs) c->x = xs;
        double *ys = su_realloc(c->y, (size_t)wanted, sizeof *ys);
        if (ys) c->y = ys;
        if (!xs || !ys) return su_fail(err, SU_ENOMEM, "no memory for a curve");
        r->capacity[kind] = wanted;
    }
    c->x[c->points] = x;
    c->y[c->points++] = y;
    return SU_OK;
}

static su_status add_line(void *context, int64_t number, json_t *line, su_error *err)
{
    (void)number;
    reading *r = context;
    const json_t *step = json_object_get(line, "step");
    su_status status = SU_OK;
    for (int kind = 0; !status && json_is_number(step) && kind < SU_CURVES; kind++) {
        const json_t *from = members[kind].outer ? json_object_get(line, members[kind].outer) : line;
        const json_t *value = json_object_get(from, members[kind].key);
        if (json_is_number(value))
            status = add_point(r, kind, json_number_value(step), json_number_value(value), err);
    }
    return status;
}

static void thin(su_curve *c)
{
    if (c->points <= SHOWN) return;
    for (int64_t s = 0; s < SHOWN; s++) {
        int64_t from = s * c->points / SHOWN, to = (s + 1) * c->points / SHOWN;
        double x = 0, y = 0;
        for (int64_t i = from; i < to; i++) {
            x += c->x[i];
            y += c->y[i];
        }
        c->x[s] = x / (double)(to - from); /* s <= from: nothing is overwritten before it is read */
        c->y[s] = y / (double)(to - from);
    }
    c->points = SHOWN;
}

su_status su_run_curves_read(const char *run, su_run_curves *curves, su_error *err)
{
    *curves = (su_run_curves){0};
    reading r = {.curves = curves};
    char *path = su_path_join(run, "log.jsonl");
    su_status status =
        path ? su_jsonl_read(path, add_line, &r, err) : su_fail(err, SU_ENOMEM, "no memory for a path");
    su_free(path);
    if (status) su_run_curves_free(curves);
    for (int kind = 0; kind < SU_CURVES; kind++) thin(&curves->curve[kind]);
    return status;
}

void su_run_curves_free(su_run_curves *curves)
{
    for (int kind = 0; kind < SU_CURVES; kind++) {
        su_free(curves->curve[kind].x);
        su_free(curves->curve[kind].y);
    }
    *curves = (su_run_curves){0};
}
