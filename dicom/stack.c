#include "dicom/stack.h"
#include "base/memory.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double SAME_DIRECTION = 1e-3; /* per cosine */
static const double SAME_SPACING = 1e-3;   /* relative */
static const double SAME_PLACE = 0.02;     /* of a step */

static double dot(const double a[3], const double b[3])
{
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
}

static void normal_of(const double o[6], double n[3])
{
    n[0] = o[1] * o[5] - o[2] * o[4];
    n[1] = o[2] * o[3] - o[0] * o[5];
    n[2] = o[0] * o[4] - o[1] * o[3];
    const double length = sqrt(dot(n, n));
    for (int i = 0; i < 3; i++) n[i] /= length;
}

su_status su_slice_check(const su_slice *s)
{
    bool good = s->rows > 0 && s->columns > 0 && s->spacing[0] > 0 && s->spacing[1] > 0;
    for (int i = 0; i < 6; i++) good = good && isfinite(s->orientation[i]);
    for (int i = 0; i < 3; i++) good = good && fabs(s->position[i]) < 1e7;
    good = good && isfinite(s->spacing[0]) && isfinite(s->spacing[1]);
    const double *x = s->orientation, *y = s->orientation + 3;
    good = good && fabs(dot(x, x) - 1) < 0.02 && fabs(dot(y, y) - 1) < 0.02 && fabs(dot(x, y)) < 0.01;
    return good ? SU_OK : SU_EINVAL;
}

/* ---- which slices belong together ---- */

static bool same_stack(const su_slice *a, const su_slice *b)
{
    if (strcmp(a->series, b->series) != 0 || a->rows != b->rows || a->columns != b->columns) return false;
    for (int i = 0; i < 2; i++)
        if (fabs(a->spacing[i] - b->spacing[i]) > SAME_SPACING * a->spacing[i]) return false;
    for (int i = 0; i < 6; i++)
        if (fabs(a->orientation[i] - b->orientation[i]) > SAME_DIRECTION) return false;
    return true;
}

typedef struct {
    su_slice slice;
    int64_t group, order; /* order: as it came, the last resort that makes the sort the same everywhere */
} entry;

static int by_group(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    if (x->group != y->group) return x->group < y->group ? -1 : 1;
    if (x->slice.height != y->slice.height) return x->slice.height < y->slice.height ? -1 : 1;
    if (x->slice.number != y->slice.number) return x->slice.number < y->slice.number ? -1 : 1;
    return x->order < y->order ? -1 : 1;
}

/* Each group's first slice gives the plane; *groups is their number. Series have few orientations: a list
 * will do. */
static su_status group_slices(entry *e, int64_t count, int64_t *groups, su_error *err)
{
    int64_t *first = su_alloc((size_t)count, sizeof *first);
    if (!first) return su_fail(err, SU_ENOMEM, "no memory to sort %lld slices", (long long)count);
    *groups = 0;
    for (int64_t i = 0; i < count; i++) {
        int64_t g = *groups - 1; /* the latest first: files of a series mostly come together */
        while (g >= 0 && !same_stack(&e[first[g]].slice, &e[i].slice)) g--;
        if (g < 0) first[g = (*groups)++] = i;
        double normal[3];
        normal_of(e[first[g]].slice.orientation, normal);
        e[i].group = g;
        e[i].slice.height = dot(normal, e[i].slice.position);
    }
    su_free(first);
    return SU_OK;
}

/* ---- one stack ---- */

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median_step(const entry *e, int64_t n, double *scratch)
{
    int64_t steps = 0;
    for (int64_t i = 1; i < n; i++) {
        const double d = e[i].slice.height - e[i - 1].slice.height;
        if (d > 1e-3) scratch[steps++] = d;
    }
    if (!steps) return 0;
    qsort(scratch, (size_t)steps, sizeof *scratch, ascending);
    return scratch[(steps - 1) / 2];
}

/* Moves the duplicates of e[0 .. n) behind the others, which keep their order; their number remains. */
static int64_t drop_duplicates(entry *e, int64_t n, double step, entry *scratch)
{
    int64_t kept = 0, dropped = 0;
    for (int64_t i = 0; i < n; i++) {
        if (kept && e[i].slice.height - e[kept - 1].slice.height <= SAME_PLACE * step) {
            /* Heights that differ by rounding come in any order: the lower number stays all the same. */
            if (e[i].slice.number < e[kept - 1].slice.number) {
                scratch[dropped++] = e[kept - 1];
                e[kept - 1] = e[i];
            } else {
                scratch[dropped++] = e[i];
            }
        } else {
            e[kept++] = e[i];
        }
    }
    memcpy(e + kept, scratch, (size_t)dropped * sizeof *scratch);
    return kept;
}

/* The line that the positions follow, and whether it leans. */
static void describe_line(const entry *e, su_stack *s)
{
    const su_slice *a = &e[0].slice, *b = &e[s->count - 1].slice;
    double lean = 0, along = 0;
    for (int i = 0; i < 3; i++) {
        s->shift[i] = (b->position[i] - a->position[i]) / (s->places - 1);
        along += s->shift[i] * s->normal[i];
    }
    for (int i = 0; i < 3; i++) lean += pow(s->shift[i] - along * s->normal[i], 2);
    lean = sqrt(lean);
    /* Positions are rounded in their file: what leans less than a tenth of a pixel over the whole stack is
     * straight. */
    if (lean * (s->places - 1) > 0.1 * fmin(a->spacing[0], a->spacing[1]))
        s->tilt = atan2(lean, along) * 180 / M_PI;
    else
        for (int i = 0; i < 3; i++) s->shift[i] = s->normal[i] * s->step;
}

static void describe(entry *e, int64_t n, entry *scratch, double *steps, su_stack *s)
{
    normal_of(e[0].slice.orientation, s->normal);
    s->step = median_step(e, n, steps);
    s->count = drop_duplicates(e, n, s->step, scratch);
    s->duplicates = n - s->count;
    s->places = 1;
    if (s->count == 1) {
        s->step = e[0].slice.thickness > 0 ? e[0].slice.thickness : 1;
        for (int i = 0; i < 3; i++) s->shift[i] = s->normal[i] * s->step;
        return;
    }
    s->step = median_step(e, s->count, steps);
    const double low = e[0].slice.height, reach = e[s->count - 1].slice.height - low;
    const double intervals = floor(reach / s->step + 0.5);
    s->places = intervals < 65534 ? (int32_t)intervals + 1 : 65535; /* refused when it is assembled */
    s->step = reach / (s->places - 1);
    int32_t taken = 0, last = -1;
    for (int64_t i = 0; i < s->count; i++) {
        const double at = (e[i].slice.height - low) / s->step, off = fabs(at - floor(at + 0.5)) * s->step;
        if (off > s->worst) s->worst = off;
        if ((int32_t)floor(at + 0.5) != last) taken++;
        last = (int32_t)floor(at + 0.5);
    }
    s->gaps = s->places - taken;
    s->irregular = s->worst > SAME_PLACE * s->step;
    describe_line(e, s);
}

static int by_size(const void *a, const void *b)
{
    const su_stack *x = a, *y = b;
    if (x->count != y->count) return x->count > y->count ? -1 : 1;
    return x->first < y->first ? -1 : 1;
}

su_status su_stacks_sort(su_slice *slices, int64_t count, su_stack **stacks, int *stack_count, su_error *err)
{
    *stacks = NULL;
    *stack_count = 0;
    if (count < 1) return su_fail(err, SU_EINVAL, "there is no slice to sort");
    for (int64_t i = 0; i < count; i++) {
        if (su_slice_check(&slices[i]))
            return su_fail_at(err, SU_EINVAL, i,
                              "slice %lld: its position, orientation or spacing describes no plane",
                              (long long)i);
    }
    int64_t groups = 0;
    entry *e = su_alloc((size_t)count, sizeof *e), *scratch = su_alloc((size_t)count, sizeof *scratch);
    double *steps = su_alloc((size_t)count, sizeof *steps);
    su_status st = e && scratch && steps
                       ? SU_OK
                       : su_fail(err, SU_ENOMEM, "no memory to sort %lld slices", (long long)count);
    if (!st) {
        for (int64_t i = 0; i < count; i++) e[i] = (entry){slices[i], 0, i};
        st = group_slices(e, count, &groups, err);
    }
    if (!st && !(*stacks = su_calloc((size_t)groups, sizeof **stacks)))
        st = su_fail(err, SU_ENOMEM, "no memory to sort %lld slices", (long long)count);
    if (!st) {
        qsort(e, (size_t)count, sizeof *e, by_group);
        for (int64_t first = 0, end; first < count; first = end) {
            su_stack *s = &(*stacks)[(*stack_count)++];
            for (end = first; end < count && e[end].group == e[first].group;) end++;
            s->first = first;
            describe(e + first, end - first, scratch, steps, s);
        }
        for (int64_t i = 0; i < count; i++) slices[i] = e[i].slice;
        qsort(*stacks, (size_t)*stack_count, sizeof **stacks, by_size);
    }
    su_free(e);
    su_free(scratch);
    su_free(steps);
    return st;
}

/* ---- the volume ---- */

static void place_volume(const su_slice *s, const su_stack *stack, su_volume *v)
{
    v->size[0] = s->columns;
    v->size[1] = s->rows;
    v->size[2] = stack->places;
    v->spacing[0] = s->spacing[1];
    v->spacing[1] = s->spacing[0];
    v->spacing[2] = sqrt(dot(stack->shift, stack->shift));
    const double across = sqrt(dot(s->orientation, s->orientation)),
                 down = sqrt(dot(s->orientation + 3, s->orientation + 3));
    for (int i = 0; i < 3; i++) {
        v->origin[i] = s->position[i];
        v->direction[3 * i] = s->orientation[i] / across;
        v->direction[3 * i + 1] = s->orientation[3 + i] / down;
        v->direction[3 * i + 2] = stack->shift[i] / v->spacing[2];
    }
}

/* Reads a stack place by place, keeping the two slices around the place. */
static su_status fill(const su_slice *slices, const su_stack *stack, su_slice_reader *read, void *context,
                      float *pair, su_volume *v, su_error *err)
{
    const su_slice *s = slices + stack->first;
    const int64_t plane = (int64_t)v->size[0] * v->size[1];
    int64_t held[2] = {-1, -1}; /* which slices pair holds */
    int64_t below = 0;
    su_status st = SU_OK;
    for (int32_t k = 0; !st && k < stack->places; k++) {
        float *out = v->voxels + k * plane;
        const double height = s[0].height + k * stack->step;
        while (below + 1 < stack->count && s[below + 1].height <= height + SAME_PLACE * stack->step) below++;
        const double off = height - s[below].height;
        if (below + 1 == stack->count || fabs(off) <= SAME_PLACE * stack->step) {
            if (held[below & 1] == below)
                memcpy(out, pair + (below & 1) * plane, (size_t)plane * sizeof *out);
            else
                st = read(context, &s[below], out, err);
            continue;
        }
        for (int64_t i = below; !st && i <= below + 1; i++)
            if (held[i & 1] != i) {
                st = read(context, &s[i], pair + (i & 1) * plane, err);
                held[i & 1] = st ? -1 : i;
            }
        if (st) break;
        const float t = (float)(off / (s[below + 1].height - s[below].height));
        const float *a = pair + (below & 1) * plane, *b = pair + ((below + 1) & 1) * plane;
        for (int64_t i = 0; i < plane; i++) out[i] = a[i] + t * (b[i] - a[i]);
    }
    return st;
}

su_status su_stack_assemble(const su_slice *slices, const su_stack *stack, su_slice_reader *read,
                            void *context, su_volume *v, su_error *err)
{
    const su_slice *s = slices + stack->first;
    *v = (su_volume){0};
    const int64_t plane = (int64_t)s->rows * s->columns;
    if (plane * stack->places > SU_VOLUME_MAX_VOXELS)
        return su_fail(err, SU_ELIMIT, "%d x %d x %d voxels are more than %lld", s->columns, s->rows,
                       stack->places, (long long)SU_VOLUME_MAX_VOXELS);
    place_volume(s, stack, v);
    float *pair = su_alloc((size_t)plane, 2 * sizeof *pair);
    v->voxels = su_alloc((size_t)(plane * stack->places), sizeof *v->voxels);
    su_status st = v->voxels && pair ? fill(slices, stack, read, context, pair, v, err)
                                     : su_fail(err, SU_ENOMEM, "no memory for %d x %d x %d voxels",
                                               s->columns, s->rows, stack->places);
    su_free(pair);
    if (st) su_volume_free(v);
    return st;
}
