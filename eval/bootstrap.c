/* A draw of n samples with replacement is a row of counts, c_i = how often sample i came. Then
 *
 *   mean of stream m   = 1/n sum_i c_i z_i^m      (a matrix product: counts [draws, n] x rows [n, width])
 *   recall at K        = 1/n sum_i c_i [rank_i <= K]
 *   mean cosine        = 1/n sum_i c_i <x_i, y_i>
 *
 * A task owns 24 draws and runs over the samples in pieces of 256, so neither the counts of all draws nor the
 * resampled means exist at once. */
#include "eval/bootstrap.h"
#include "base/memory.h"
#include "base/rng.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    DRAWS = 24,  /* of a task: a multiple of SU_TILE_STEP_ROWS */
    PIECE = 256, /* samples */
    METRICS = 8, /* gap squared, cosine, r1 r5 r10 forward, r1 r5 r10 backward */
};

typedef struct {
    const su_rows *streams;
    int stream_count;
    int64_t n;
    int32_t width;
    const su_bootstrap_pair *pairs;
    int pair_count;
    int32_t draws;
    uint64_t seed;
    double *values; /* [pair][metric][draws] */
    struct scratch {
        uint16_t *counts; /* [DRAWS][n] */
        double *weights;  /* [DRAWS][stride of PIECE]: the piece's counts as doubles */
        double *columns;  /* [PIECE][8] of every group of 8 dimensions of a column tile */
        double *sums;     /* [stream][column tile][DRAWS][SU_TILE_COLUMNS] */
    } * scratch;
} resampling;

static int64_t column_tiles(int32_t width)
{
    return ((int64_t)width + SU_TILE_COLUMNS - 1) / SU_TILE_COLUMNS;
}

static void draw_counts(const resampling *s, int64_t first, int64_t draws, uint16_t *counts)
{
    memset(counts, 0, (size_t)DRAWS * (size_t)s->n * sizeof *counts);
    uint32_t name = su_rng_name("bootstrap");
    for (int64_t d = 0; d < draws; d++) {
        su_rng_key key = {.seed = s->seed, .step = (uint32_t)(first + d), .layer = name};
        uint16_t *row = counts + d * s->n;
        for (int64_t i = 0; i < s->n; i++) row[su_rng_below(key, (uint64_t)i, (uint64_t)s->n)]++;
    }
}

/* Dimensions d0 .. d0+columns-1 of a piece of samples, laid out as su_tile_dots wants columns of depth
 * `count`. */
static void pack_dimensions(double *to, const su_rows *z, int64_t first, int64_t count, int32_t d0,
                            int64_t columns)
{
    for (int64_t j = 0; j < columns; j += SU_TILE_LANES) {
        double *group = to + j * count;
        int64_t lanes = columns - j < SU_TILE_LANES ? columns - j : SU_TILE_LANES;
        for (int64_t i = 0; i < count; i++) {
            const float *row = z->row[first + i] + d0 + j;
            double scale = z->scale[first + i], *lane = group + i * SU_TILE_LANES;
            for (int64_t l = 0; l < lanes; l++) lane[l] = scale * (double)row[l];
            for (int64_t l = lanes; l < SU_TILE_LANES; l++) lane[l] = 0;
        }
    }
}

/* Sums of the resampled rows of every stream, for the draws of one task. */
static void sum_rows(const resampling *s, struct scratch *w)
{
    int64_t stride = su_tile_stride(PIECE), tiles = column_tiles(s->width);
    for (int64_t first = 0; first < s->n; first += PIECE) {
        int64_t count = s->n - first < PIECE ? s->n - first : PIECE;
        for (int64_t d = 0; d < DRAWS; d++)
            for (int64_t i = 0; i < count; i++) w->weights[d * stride + i] = w->counts[d * s->n + first + i];
        for (int m = 0; m < s->stream_count; m++)
            for (int64_t tile = 0; tile < tiles; tile++) {
                int32_t d0 = (int32_t)(tile * SU_TILE_COLUMNS);
                int64_t columns = s->width - d0 < SU_TILE_COLUMNS ? s->width - d0 : SU_TILE_COLUMNS;
                pack_dimensions(w->columns, s->streams + m, first, count, d0, columns);
                su_tile_dots(w->sums + (m * tiles + tile) * DRAWS * SU_TILE_COLUMNS, first > 0, w->weights,
                             DRAWS, stride, w->columns, columns, count);
            }
    }
}

static double squared_gap(const resampling *s, const struct scratch *w, int a, int b, int64_t draw)
{
    int64_t tiles = column_tiles(s->width);
    double sum = 0;
    for (int32_t k = 0; k < s->width; k++) {
        int64_t at = (k / SU_TILE_COLUMNS * DRAWS + draw) * SU_TILE_COLUMNS + k % SU_TILE_COLUMNS;
        double difference = w->sums[a * tiles * DRAWS * SU_TILE_COLUMNS + at] -
                            w->sums[b * tiles * DRAWS * SU_TILE_COLUMNS + at];
        sum += difference * difference;
    }
    return sum / (double)s->n / (double)s->n;
}

static void recalls(const uint16_t *counts, const int32_t *rank, int64_t n, double *r1, double *r5,
                    double *r10)
{
    int64_t one = 0, five = 0, ten = 0;
    for (int64_t i = 0; i < n; i++) {
        one += rank[i] <= 1 ? counts[i] : 0;
        five += rank[i] <= 5 ? counts[i] : 0;
        ten += rank[i] <= 10 ? counts[i] : 0;
    }
    *r1 = (double)one / (double)n;
    *r5 = (double)five / (double)n;
    *r10 = (double)ten / (double)n;
}

static void resample(void *context, int64_t task, int worker)
{
    resampling *s = context;
    struct scratch *w = &s->scratch[worker];
    int64_t first = task * DRAWS, draws = s->draws - first < DRAWS ? s->draws - first : DRAWS;
    draw_counts(s, first, draws, w->counts);
    sum_rows(s, w);
    for (int p = 0; p < s->pair_count; p++) {
        const su_bootstrap_pair *pair = &s->pairs[p];
        double *values = s->values + (int64_t)p * METRICS * s->draws + first;
        for (int64_t d = 0; d < draws; d++, values++) {
            const uint16_t *counts = w->counts + d * s->n;
            double cosine = 0;
            for (int64_t i = 0; i < s->n; i++) cosine += counts[i] * pair->cosines[i];
            int64_t next = s->draws;
            values[0] = squared_gap(s, w, pair->a, pair->b, d);
            values[next] = cosine / (double)s->n;
            recalls(counts, pair->forward, s->n, values + 2 * next, values + 3 * next, values + 4 * next);
            recalls(counts, pair->backward, s->n, values + 5 * next, values + 6 * next, values + 7 * next);
        }
    }
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double between(const double *sorted, int64_t count, double q)
{
    double at = q * (double)(count - 1), low = floor(at);
    int64_t i = (int64_t)low;
    return i + 1 < count ? sorted[i] + (at - low) * (sorted[i + 1] - sorted[i]) : sorted[i];
}

double su_quantile(double *values, int64_t count, double q)
{
    qsort(values, (size_t)count, sizeof *values, by_value);
    return between(values, count, q);
}

static void interval(double *values, int64_t draws, double ci95[2])
{
    ci95[0] = su_quantile(values, draws, 0.025);
    ci95[1] = between(values, draws, 0.975);
}

/* See eval/alignment.h: the draws of the squared gap are shifted by their bias. */
static void gap_interval(double *squared, int64_t draws, double gap, double ci95[2])
{
    double bias = -gap * gap;
    for (int64_t d = 0; d < draws; d++) bias += squared[d] / (double)draws;
    for (int64_t d = 0; d < draws; d++) squared[d] = sqrt(fmax(0, squared[d] - bias));
    interval(squared, draws, ci95);
}

static bool scratch_new(const resampling *s, struct scratch *w)
{
    size_t sums = (size_t)s->stream_count * (size_t)column_tiles(s->width) * DRAWS * SU_TILE_COLUMNS;
    w->counts = su_alloc((size_t)s->n, DRAWS * sizeof *w->counts);
    w->weights = su_alloc_aligned((size_t)DRAWS * (size_t)su_tile_stride(PIECE), sizeof(double));
    w->columns = su_alloc_aligned((size_t)PIECE * SU_TILE_COLUMNS, sizeof(double));
    w->sums = su_alloc_aligned(sums, sizeof(double));
    return w->counts && w->weights && w->columns && w->sums;
}

su_status su_bootstrap(const su_rows *streams, int stream_count, int64_t n, int32_t width,
                       const su_bootstrap_pair *pairs, int pair_count, int32_t draws, uint64_t seed,
                       su_pool *pool, su_error *err)
{
    int workers = su_pool_workers(pool);
    resampling s = {.streams = streams,
                    .stream_count = stream_count,
                    .n = n,
                    .width = width,
                    .pairs = pairs,
                    .pair_count = pair_count,
                    .draws = draws,
                    .seed = seed};
    su_status status = SU_ENOMEM;
    s.values = su_alloc((size_t)pair_count * METRICS, (size_t)draws * sizeof(double));
    s.scratch = su_calloc((size_t)workers, sizeof *s.scratch);
    if (!s.values || !s.scratch) goto done;
    for (int w = 0; w < workers; w++)
        if (!scratch_new(&s, &s.scratch[w])) goto done;
    su_pool_run(pool, ((int64_t)draws + DRAWS - 1) / DRAWS, resample, &s);
    for (int p = 0; p < pair_count; p++) {
        double *values = s.values + (int64_t)p * METRICS * draws;
        su_pair_score *score = pairs[p].score;
        gap_interval(values, draws, score->gap, score->gap_ci95);
        double *ci95[] = {score->cos_ci95,         score->forward.r1_ci95,  score->forward.r5_ci95,
                          score->forward.r10_ci95, score->backward.r1_ci95, score->backward.r5_ci95,
                          score->backward.r10_ci95};
        for (int i = 1; i < METRICS; i++) interval(values + (int64_t)i * draws, draws, ci95[i - 1]);
    }
    status = SU_OK;
done:
    for (int w = 0; s.scratch && w < workers; w++) {
        su_free(s.scratch[w].counts);
        su_free(s.scratch[w].weights);
        su_free(s.scratch[w].columns);
        su_free(s.scratch[w].sums);
    }
    su_free(s.scratch);
    su_free(s.values);
    return status ? su_fail(err, status, "no memory for %d bootstrap draws of %lld samples", (int)draws,
                            (long long)n)
                  : SU_OK;
}
