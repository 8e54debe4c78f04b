#include "eval/caption_resample.h"
#include "base/rng.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    DRAWS = 4 /* of a task */,
    SUMS = sizeof(su_caption_sums) / sizeof(double),
    FIGURES = sizeof(su_caption_figures) / sizeof(double)
};

typedef struct {
    const double *a, *b; /* [n][SUMS]; b: NULL without a second system */
    double all_a[SUMS], all_b[SUMS];
    int64_t n;
    int32_t sums; /* those of the SUMS that are not all zero: METEOR's come last */
    int32_t draws;
    uint64_t seed;
    double *drawn;    /* [draws][FIGURES]: figures of a, or a - b */
    double *swapped;  /* [draws][FIGURES] */
    uint32_t **times; /* [workers][n]: how often an item was drawn */
} resampling;

/* Sums and figures are read as plain arrays of their doubles. */
static void figures_of(const double *sums, double n, double *out)
{
    su_caption_sums s;
    su_caption_figures f;
    memcpy(&s, sums, sizeof s);
    su_caption_whole(&s, n, &f);
    memcpy(out, &f, sizeof f);
}

static void difference_of(const double *a, const double *b, double n, double *out)
{
    double minus[FIGURES];
    figures_of(a, n, out);
    figures_of(b, n, minus);
    for (int k = 0; k < FIGURES; k++) out[k] -= minus[k];
}

static void draw_items(const resampling *s, int32_t draw, uint32_t *times)
{
    su_rng_key key = {
        .seed = s->seed, .step = (uint32_t)draw, .layer = su_rng_name("caption bootstrap")};
    uint32_t word[4];
    memset(times, 0, (size_t)s->n * sizeof *times);
    for (int64_t i = 0; i < s->n; i += 4) {
        su_rng_block(key, (uint64_t)i / 4, word);
        for (int64_t w = 0; w < 4 && i + w < s->n; w++) times[(uint64_t)word[w] * (uint64_t)s->n >> 32]++;
    }
}

static void sum_drawn(const resampling *s, const double *rows, const uint32_t *times, double *sums)
{
    memset(sums, 0, SUMS * sizeof *sums);
    for (int64_t i = 0; i < s->n; i++, rows += SUMS) {
        double t = times[i];
        for (int k = 0; k < s->sums; k++) sums[k] += t * rows[k];
    }
}

static void bootstrap_task(void *context, int64_t task, int worker)
{
    resampling *s = context;
    uint32_t *times = s->times[worker];
    double a[SUMS], b[SUMS];
    for (int32_t d = (int32_t)task * DRAWS; d < s->draws && d < ((int32_t)task + 1) * DRAWS; d++) {
        draw_items(s, d, times);
        sum_drawn(s, s->a, times, a);
        if (s->b) {
            sum_drawn(s, s->b, times, b);
            difference_of(a, b, (double)s->n, s->drawn + (size_t)d * FIGURES);
        } else {
            figures_of(a, (double)s->n, s->drawn + (size_t)d * FIGURES);
        }
    }
}

static void swap_task(void *context, int64_t task, int worker)
{
    (void)worker;
    resampling *s = context;
    for (int32_t d = (int32_t)task * DRAWS; d < s->draws && d < ((int32_t)task + 1) * DRAWS; d++) {
        su_rng_key key = {
            .seed = s->seed, .step = (uint32_t)d, .layer = su_rng_name("caption swap")};
        double first[SUMS] = {0}, second[SUMS];
        uint32_t word[4];
        for (int64_t i = 0; i < s->n; i++) {
            if (i % 128 == 0) su_rng_block(key, (uint64_t)i / 128, word);
            bool swap = word[i % 128 / 32] >> (i % 32) & 1;
            const double *row = (swap ? s->b : s->a) + i * SUMS;
            for (int k = 0; k < s->sums; k++) first[k] += row[k];
        }
        for (int k = 0; k < SUMS; k++) second[k] = s->all_a[k] + s->all_b[k] - first[k];
        difference_of(first, second, (double)s->n, s->swapped + (size_t)d * FIGURES);
    }
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Between neighbours, linear. */
static double percentile(const double *sorted, int32_t n, double share)
{
    double at = share * (n - 1);
    int32_t below = (int32_t)at;
    if (below + 1 >= n) return sorted[n - 1];
    return sorted[below] + (at - below) * (sorted[below + 1] - sorted[below]);
}

static void interval_of(const resampling *s, double *column, su_caption_interval *interval)
{
    double low[FIGURES], high[FIGURES];
    for (int k = 0; k < FIGURES; k++) {
        for (int32_t d = 0; d < s->draws; d++) column[d] = s->drawn[(size_t)d * FIGURES + k];
        qsort(column, (size_t)s->draws, sizeof *column, ascending);
        low[k] = percentile(column, s->draws, 0.025);
        high[k] = percentile(column, s->draws, 0.975);
    }
    memcpy(&interval->low, low, sizeof low);
    memcpy(&interval->high, high, sizeof high);
}

static void p_of(const resampling *s, const double *observed, su_caption_figures *p)
{
    double out[FIGURES];
    for (int k = 0; k < FIGURES; k++) {
        int32_t extreme = 0;
        double limit = fabs(observed[k]) * (1 - 1e-9) - 1e-15; /* sums are taken in another order */
        for (int32_t d = 0; d < s->draws; d++) extreme += fabs(s->swapped[(size_t)d * FIGURES + k]) >= limit;
        out[k] = isnan(observed[k]) ? NAN : (1.0 + extreme) / (1.0 + s->draws);
    }
    memcpy(p, out, sizeof out);
}

static double *rows_of(const su_caption_counts *counts, int64_t n, double *all)
{
    double *rows = su_alloc((size_t)n, SUMS * sizeof *rows);
    for (int64_t i = 0; rows && i < n; i++) {
        su_caption_sums s = {0};
        su_caption_add(&s, &counts[i]);
        memcpy(rows + i * SUMS, &s, sizeof s);
        for (int k = 0; k < SUMS; k++) all[k] += rows[i * SUMS + k];
    }
    return rows;
}

static su_status resample(const su_caption_counts *a, const su_caption_counts *b, int64_t n, int32_t draws,
                          uint64_t seed, su_pool *pool, su_caption_interval *interval,
                          su_caption_comparison *comparison, su_error *err)
{
    if (n < 1 || n > INT32_MAX || draws < 1 || draws > 100000)
        return su_fail(err, SU_EINVAL, "%d draws from %lld items", (int)draws, (long long)n);
    int workers = su_pool_workers(pool);
    resampling s = {.n = n, .draws = draws, .seed = seed};
    double *rows_a = rows_of(a, n, s.all_a), *rows_b = b ? rows_of(b, n, s.all_b) : NULL;
    double *column = su_alloc((size_t)draws, sizeof *column);
    enum { WITHOUT_METEOR = offsetof(su_caption_sums, meteor_items) / sizeof(double) };
    s.sums = s.all_a[WITHOUT_METEOR] > 0 ? SUMS : WITHOUT_METEOR;
    s.a = rows_a;
    s.b = rows_b;
    s.drawn = su_alloc((size_t)draws, FIGURES * sizeof *s.drawn);
    s.swapped = su_alloc((size_t)draws, FIGURES * sizeof *s.swapped);
    s.times = su_calloc((size_t)workers, sizeof *s.times);
    bool ok = rows_a && (!b || rows_b) && column && s.drawn && s.swapped && s.times;
    for (int i = 0; ok && i < workers; i++) ok = (s.times[i] = su_alloc((size_t)n, sizeof **s.times)) != NULL;
    if (ok) {
        int64_t tasks = (draws + DRAWS - 1) / DRAWS;
        su_pool_run(pool, tasks, bootstrap_task, &s);
        interval_of(&s, column, interval);
        if (b) {
            double observed[FIGURES];
            su_pool_run(pool, tasks, swap_task, &s);
            difference_of(s.all_a, s.all_b, (double)n, observed);
            memcpy(&comparison->difference, observed, sizeof observed);
            p_of(&s, observed, &comparison->p);
        }
    }
    for (int i = 0; s.times && i < workers; i++) su_free(s.times[i]);
    su_free(s.times);
    su_free(s.swapped);
    su_free(s.drawn);
    su_free(column);
    su_free(rows_b);
    su_free(rows_a);
    return ok ? SU_OK
              : su_fail(err, SU_ENOMEM, "no memory for %d draws from %lld items", (int)draws, (long long)n);
}

su_status su_caption_bootstrap(const su_caption_counts *counts, int64_t n, int32_t draws, uint64_t seed,
                               su_pool *pool, su_caption_interval *interval, su_error *err)
{
    return resample(counts, NULL, n, draws, seed, pool, interval, NULL, err);
}

su_status su_caption_compare(const su_caption_counts *a, const su_caption_counts *b, int64_t n, int32_t draws,
                             uint64_t seed, su_pool *pool, su_caption_comparison *comparison, su_error *err)
{
    return resample(a, b, n, draws, seed, pool, &comparison->interval, comparison, err);
}
