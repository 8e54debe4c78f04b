/* The order of work: rows are checked and their factors found, means give gap, angles and RMG in O(n width),
 * then each pair's ranks, then one bootstrap for all pairs, then the clusters over all streams. */
#include "eval/alignment.h"
#include "base/checksum.h"
#include "base/memory.h"
#include "eval/bootstrap.h"
#include "eval/clustering.h"
#include "eval/retrieval.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH_MAX = 65536, DRAWS_MAX = 100000, KMEANS_RESTARTS = 10, NEIGHBOURS = 5, BLOCK = 256 };
enum { PAIRS_MAX = SU_EVAL_STREAMS * (SU_EVAL_STREAMS - 1) / 2 };

typedef struct {
    const float *const *z;
    int streams;
    int64_t n;
    int32_t width;
    const su_alignment_options *options;
    const float **row;      /* [streams][n] */
    double *scale, *square; /* [streams][n]: factor, and squared norm after it */
    double *mean;           /* [streams][width] */
    su_rows rows[SU_EVAL_STREAMS];
    int32_t *text;              /* [n] text class, or NULL */
    double *cosines[PAIRS_MAX]; /* [n] */
    su_ranks forward[PAIRS_MAX], backward[PAIRS_MAX];
    int first, second; /* the pair that `cosine_block` works on */
    double *cosine;
} alignment;

void su_alignment_defaults(su_alignment_options *o)
{
    *o = (su_alignment_options){.draws = 1000};
}

static su_status check(const alignment *s, su_error *err)
{
    if (s->streams < 2 || s->streams > SU_EVAL_STREAMS)
        return su_fail(err, SU_EINVAL, "%d streams: 2 to %d can be compared", s->streams,
                       (int)SU_EVAL_STREAMS);
    if (s->n < 2 || s->n > INT32_MAX)
        return su_fail(err, SU_EINVAL, "a pool of %lld: at least 2 samples are needed", (long long)s->n);
    if (s->width < 1 || s->width > WIDTH_MAX)
        return su_fail(err, SU_EINVAL, "embeddings of width %d: 1 to %d", (int)s->width, (int)WIDTH_MAX);
    if (s->options->draws < 0 || s->options->draws > DRAWS_MAX)
        return su_fail(err, SU_EINVAL, "%d bootstrap draws: 0 to %d", (int)s->options->draws, (int)DRAWS_MAX);
    return SU_OK;
}

/* Squared norms in double; float32 cannot overflow them. */
static void square_block(void *context, int64_t task, int worker)
{
    (void)worker;
    alignment *s = context;
    int64_t all = s->n * s->streams, end = (task + 1) * BLOCK < all ? (task + 1) * BLOCK : all;
    for (int64_t i = task * BLOCK; i < end; i++) {
        s->row[i] = s->z[i / s->n] + i % s->n * s->width;
        double square = su_row_dot(s->row[i], s->row[i], s->width), norm = sqrt(square);
        s->scale[i] = fabs(norm - 1) <= 1e-6 ? 1 : 1 / norm;
        s->square[i] = square * s->scale[i] * s->scale[i];
    }
}

static su_status prepare_rows(alignment *s, su_error *err)
{
    int64_t all = s->n * s->streams;
    su_pool_run(s->options->pool, (all + BLOCK - 1) / BLOCK, square_block, s);
    for (int64_t i = 0; i < all; i++) {
        if (isfinite(s->square[i]) && s->scale[i] > 0) continue;
        double norm = su_row_dot(s->row[i], s->row[i], s->width);
        const char *what = isfinite(norm) ? "is zero: it has no direction" : "holds a NaN or an infinity";
        long long item = i % s->n;
        if (s->options->names)
            return su_fail_at(err, SU_ENUMERIC, item, "stream '%s', row %lld (from 0) %s",
                              s->options->names[i / s->n], item, what);
        return su_fail_at(err, SU_ENUMERIC, item, "stream %lld, row %lld (from 0) %s", (long long)(i / s->n),
                          item, what);
    }
    for (int m = 0; m < s->streams; m++) s->rows[m] = (su_rows){s->row + m * s->n, s->scale + m * s->n};
    return SU_OK;
}

static void mean_of_stream(void *context, int64_t task, int worker)
{
    (void)worker;
    alignment *s = context;
    double *mean = s->mean + task * s->width;
    memset(mean, 0, (size_t)s->width * sizeof *mean);
    for (int64_t i = 0; i < s->n; i++) {
        const float *row = s->rows[task].row[i];
        double scale = s->rows[task].scale[i];
        for (int32_t k = 0; k < s->width; k++) mean[k] += scale * (double)row[k];
    }
    for (int32_t k = 0; k < s->width; k++) mean[k] /= (double)s->n;
}

static void cosine_block(void *context, int64_t task, int worker)
{
    (void)worker;
    alignment *s = context;
    const su_rows *x = &s->rows[s->first], *y = &s->rows[s->second];
    int64_t end = (task + 1) * BLOCK < s->n ? (task + 1) * BLOCK : s->n;
    for (int64_t i = task * BLOCK; i < end; i++)
        s->cosine[i] = su_row_dot(x->row[i], y->row[i], s->width) * x->scale[i] * y->scale[i];
}

/* mean_{i != j} <z_i, z_j> = (|sum_i z_i|^2 - sum_i |z_i|^2) / (n (n - 1)) */
static double angular_value(const alignment *s, int m)
{
    double n = (double)s->n, squares = 0, of_mean = 0;
    for (int64_t i = 0; i < s->n; i++) squares += s->square[m * s->n + i];
    for (int32_t k = 0; k < s->width; k++) of_mean += s->mean[m * s->width + k] * s->mean[m * s->width + k];
    return (n * n * of_mean - squares) / (n * (n - 1));
}

static void score_means(const alignment *s, int a, int b, const double *cosines,
                        const su_alignment_score *all, su_pair_score *score)
{
    double n = (double)s->n, gap2 = 0, cosine = 0, apart = 0;
    for (int32_t k = 0; k < s->width; k++) {
        double difference = s->mean[a * s->width + k] - s->mean[b * s->width + k];
        gap2 += difference * difference;
    }
    for (int64_t i = 0; i < s->n; i++) {
        cosine += cosines[i];
        apart += s->square[a * s->n + i] + s->square[b * s->n + i] - 2 * cosines[i];
    }
    score->gap = sqrt(gap2);
    /* trace(Cov(x - y)) = (mean |x - y|^2 - |mean(x - y)|^2) n/(n-1) */
    score->gap_floor = sqrt(fmax(0, apart / n - gap2) / (n - 1));
    score->cos_true_pairs = cosine / n;
    double p = 1 - score->cos_true_pairs;
    double i = 0.5 * ((1 - all->angular_value[a]) + (1 - all->angular_value[b]));
    score->rmg = p + i > SU_SCORE_TIE ? p / (p + i) : NAN;
    for (int end = 0; end < 2; end++) score->gap_ci95[end] = score->cos_ci95[end] = NAN;
}

static su_status ranks_new(const alignment *s, su_ranks *ranks, su_error *err)
{
    ranks->strict = su_alloc((size_t)s->n, sizeof *ranks->strict);
    if (s->text) ranks->duplicates = su_alloc((size_t)s->n, sizeof *ranks->duplicates);
    if (!ranks->strict || (s->text && !ranks->duplicates))
        return su_fail(err, SU_ENOMEM, "no memory for the ranks of %lld samples", (long long)s->n);
    return SU_OK;
}

static su_status score_pair(alignment *s, int p, int a, int b, su_alignment_score *score, su_error *err)
{
    su_pair_score *pair = &score->pair[a][b];
    su_pool *pool = s->options->pool;
    s->cosines[p] = su_alloc((size_t)s->n, sizeof(double));
    if (!s->cosines[p]) return su_fail(err, SU_ENOMEM, "no memory for %lld pairs", (long long)s->n);
    s->first = a;
    s->second = b;
    s->cosine = s->cosines[p];
    su_pool_run(pool, (s->n + BLOCK - 1) / BLOCK, cosine_block, s);
    score_means(s, a, b, s->cosines[p], score, pair);
    su_status status = ranks_new(s, &s->forward[p], err);
    if (!status) status = ranks_new(s, &s->backward[p], err);
    if (!status)
        status = su_retrieval_ranks(&s->rows[a], &s->rows[b], s->n, s->width, s->text, pool, &s->forward[p],
                                    &s->backward[p], err);
    if (!status) status = su_retrieval_summary(&s->forward[p], s->n, &pair->forward, err);
    if (!status) status = su_retrieval_summary(&s->backward[p], s->n, &pair->backward, err);
    return status;
}

static su_status score_pairs(alignment *s, su_alignment_score *score, su_error *err)
{
    su_bootstrap_pair resampled[PAIRS_MAX];
    int pairs = 0;
    for (int a = 0; a < s->streams; a++)
        for (int b = a + 1; b < s->streams; b++, pairs++) {
            su_status status = score_pair(s, pairs, a, b, score, err);
            if (status) return status;
            resampled[pairs] = (su_bootstrap_pair){a,
                                                   b,
                                                   s->cosines[pairs],
                                                   s->forward[pairs].strict,
                                                   s->backward[pairs].strict,
                                                   &score->pair[a][b]};
        }
    if (!s->options->draws) return SU_OK;
    return su_bootstrap(s->rows, s->streams, s->n, s->width, resampled, pairs, s->options->draws,
                        s->options->seed, s->options->pool, err);
}

static bool is_tested(const alignment *s, int64_t i)
{
    char name[24];
    const char *group = name;
    if (s->options->groups)
        group = s->options->groups[i];
    else
        snprintf(name, sizeof name, "%lld", (long long)i);
    return su_hash64(group, strlen(group)) % 5 == 0;
}

static int by_label(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* Classes 0, 1, ... in ascending order of the labels in use; -1 where there is none. */
static su_status number_classes(const int32_t *labels, int64_t n, int32_t *class_of, int32_t *classes,
                                su_error *err)
{
    int32_t *used = su_alloc((size_t)n, sizeof *used);
    if (!used) return su_fail(err, SU_ENOMEM, "no memory for %lld labels", (long long)n);
    int64_t count = 0, kept = 0;
    for (int64_t i = 0; i < n; i++)
        if (labels[i] >= 0) used[count++] = labels[i];
    qsort(used, (size_t)count, sizeof *used, by_label);
    for (int64_t i = 0; i < count; i++)
        if (!i || used[i] != used[kept - 1]) used[kept++] = used[i];
    for (int64_t i = 0; i < n; i++) {
        const int32_t *found = bsearch(&labels[i], used, (size_t)kept, sizeof *used, by_label);
        class_of[i] = found ? (int32_t)(found - used) : -1;
    }
    *classes = (int32_t)kept;
    su_free(used);
    return SU_OK;
}

/* The labelled samples of all streams, stacked stream by stream. */
typedef struct {
    const float **row;
    double *scale;
    int32_t *class_of, *cluster;
    bool *tested;
    int64_t count;
} stacked_rows;

static bool stack_new(stacked_rows *t, int64_t count)
{
    t->row = su_alloc((size_t)count, sizeof *t->row);
    t->scale = su_alloc((size_t)count, sizeof *t->scale);
    t->class_of = su_alloc((size_t)count, sizeof *t->class_of);
    t->cluster = su_alloc((size_t)count, sizeof *t->cluster);
    t->tested = su_alloc((size_t)count, sizeof *t->tested);
    return t->row && t->scale && t->class_of && t->cluster && t->tested;
}

static void stack_free(stacked_rows *t)
{
    su_free(t->row);
    su_free(t->scale);
    su_free(t->class_of);
    su_free(t->cluster);
    su_free(t->tested);
}

static void stack(const alignment *s, const int32_t *class_of, stacked_rows *t)
{
    for (int m = 0; m < s->streams; m++)
        for (int64_t i = 0; i < s->n; i++) {
            if (class_of[i] < 0) continue;
            t->row[t->count] = s->row[m * s->n + i];
            t->scale[t->count] = s->scale[m * s->n + i];
            t->class_of[t->count] = class_of[i];
            t->tested[t->count++] = is_tested(s, i);
        }
}

static su_status score_clusters(const alignment *s, su_alignment_score *score, su_error *err)
{
    stacked_rows t = {0};
    su_pool *pool = s->options->pool;
    int32_t *class_of = su_alloc((size_t)s->n, sizeof *class_of);
    su_status status = SU_ENOMEM;
    if (!class_of || !stack_new(&t, s->n * s->streams)) {
        su_fail(err, SU_ENOMEM, "no memory for the clusters of %lld samples", (long long)s->n);
        goto done;
    }
    status = number_classes(s->options->labels, s->n, class_of, &score->classes, err);
    if (status || score->classes < 2) goto done;
    stack(s, class_of, &t);
    su_rows rows = {t.row, t.scale};
    su_kmeans_result result = {.cluster = t.cluster};
    int32_t k = score->classes;
    status = su_kmeans(&rows, t.count, s->width, k, KMEANS_RESTARTS, s->options->seed, pool, &result, err);
    if (!status) status = su_v_measure(t.class_of, k, t.cluster, k, t.count, &score->v_measure, err);
    if (!status)
        status = su_knn_accuracy(&rows, t.count, s->width, t.class_of, t.tested, NEIGHBOURS, pool,
                                 &score->knn_accuracy, err);
    score->clustered = !status;
done:
    su_free(class_of);
    stack_free(&t);
    return status;
}

static su_status prepare(alignment *s, su_error *err)
{
    size_t all = (size_t)s->n * (size_t)s->streams;
    s->row = su_alloc(all, sizeof *s->row);
    s->scale = su_alloc(all, sizeof *s->scale);
    s->square = su_alloc(all, sizeof *s->square);
    s->mean = su_alloc((size_t)s->streams, (size_t)s->width * sizeof *s->mean);
    if (!s->row || !s->scale || !s->square || !s->mean)
        return su_fail(err, SU_ENOMEM, "no memory for %d streams of %lld rows", s->streams, (long long)s->n);
    su_status status = prepare_rows(s, err);
    if (!status && s->options->texts) status = su_text_classes(s->options->texts, s->n, &s->text, err);
    return status;
}

static void release(alignment *s)
{
    su_free(s->row);
    su_free(s->scale);
    su_free(s->square);
    su_free(s->mean);
    su_free(s->text);
    for (int p = 0; p < PAIRS_MAX; p++) {
        su_free(s->cosines[p]);
        su_free(s->forward[p].strict);
        su_free(s->forward[p].duplicates);
        su_free(s->backward[p].strict);
        su_free(s->backward[p].duplicates);
    }
}

su_status su_alignment_score_compute(const float *const *z, int streams, int64_t n, int32_t width,
                                     const su_alignment_options *options, su_alignment_score *score,
                                     su_error *err)
{
    alignment s = {.z = z, .streams = streams, .n = n, .width = width, .options = options};
    su_status status = check(&s, err);
    if (status) return status;
    *score = (su_alignment_score){.streams = streams, .pool = n, .v_measure = NAN, .knn_accuracy = NAN};
    status = prepare(&s, err);
    if (!status) {
        su_pool_run(options->pool, streams, mean_of_stream, &s);
        for (int m = 0; m < streams; m++) score->angular_value[m] = angular_value(&s, m);
        status = score_pairs(&s, score, err);
    }
    if (!status && options->labels) status = score_clusters(&s, score, err);
    release(&s);
    return status;
}
