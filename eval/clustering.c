/* Both methods are tiles of dot products between blocks of 192 rows and 64 columns (centroids, or
 * neighbours). Blocks write to their own rows only; sums over rows are made by one task in ascending order:
 * no thread count shows. */
#include "eval/clustering.h"
#include "base/memory.h"
#include "base/rng.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ITERATIONS = 300, NEIGHBOURS = 64 };
#define LEAST_GAIN 1e-5 /* of the inertia, in one iteration */

static int64_t blocks_of(int64_t n)
{
    return (n + SU_TILE_ROWS - 1) / SU_TILE_ROWS;
}

static int64_t block_end(int64_t task, int64_t n)
{
    return (task + 1) * SU_TILE_ROWS < n ? (task + 1) * SU_TILE_ROWS : n;
}

/* A worker's tiles: rows, columns and their products. */
static double *tiles_new(int32_t width)
{
    size_t doubles = (size_t)SU_TILE_ROWS * (size_t)su_tile_stride(width) +
                     (size_t)SU_TILE_COLUMNS * (size_t)width + (size_t)SU_TILE_ROWS * SU_TILE_COLUMNS;
    return su_alloc_aligned(doubles, sizeof(double));
}

static double *tile_columns(double *tiles, int32_t width)
{
    return tiles + SU_TILE_ROWS * su_tile_stride(width);
}

static double *tile_dots(double *tiles, int32_t width)
{
    return tile_columns(tiles, width) + (int64_t)SU_TILE_COLUMNS * width;
}

static void tiles_free(double **tiles, int workers)
{
    for (int w = 0; tiles && w < workers; w++) su_free(tiles[w]);
    su_free(tiles);
}

static double **tiles_new_all(int32_t width, int workers)
{
    double **tiles = su_calloc((size_t)workers, sizeof *tiles);
    for (int w = 0; tiles && w < workers; w++) {
        if (!(tiles[w] = tiles_new(width))) {
            tiles_free(tiles, workers);
            return NULL;
        }
    }
    return tiles;
}

/* --- k-means -------------------------------------------------------------------------------------------- */

typedef struct {
    const su_rows *x;
    int64_t n;
    int32_t width, k;
    double *square;   /* [n] |x_i|^2 */
    double *distance; /* [n] squared distance to the nearest centroid */
    int32_t *cluster; /* [n] */
    double *centroid; /* [k][width] */
    double *columns;  /* the centroids as column tiles: [k / 64][64 * width] */
    double *c_square; /* [k] */
    int64_t *start;   /* [k + 1] members of cluster c: order[start[c] .. start[c+1]-1], ascending */
    int64_t *order;   /* [n] */
    int64_t centre;   /* the start that was chosen last */
    int64_t changed;  /* points that changed their cluster */
    double **tiles;   /* [workers] */
} kmeans;

static void square_rows(void *context, int64_t task, int worker)
{
    (void)worker;
    kmeans *s = context;
    for (int64_t i = task * SU_TILE_ROWS; i < block_end(task, s->n); i++)
        s->square[i] = su_row_dot(s->x->row[i], s->x->row[i], s->width) * s->x->scale[i] * s->x->scale[i];
}

/* Lowers every point's distance to the start chosen last. Rounding is no distance. */
static void near_start(void *context, int64_t task, int worker)
{
    (void)worker;
    kmeans *s = context;
    int64_t c = s->centre;
    for (int64_t i = task * SU_TILE_ROWS; i < block_end(task, s->n); i++) {
        double dot = su_row_dot(s->x->row[i], s->x->row[c], s->width) * s->x->scale[i] * s->x->scale[c];
        double distance = s->square[i] + s->square[c] - 2 * dot;
        if (distance < SU_SCORE_TIE) distance = 0;
        if (distance < s->distance[i]) s->distance[i] = distance;
    }
}

/* The first point at which the running sum of squared distances passes the random share of their total; any
 * point when all points are starts already. */
static int64_t choose_start(const kmeans *s, su_rng_key key, int32_t c)
{
    double total = 0;
    for (int64_t i = 0; c && i < s->n; i++) total += s->distance[i];
    if (total <= 0) return (int64_t)su_rng_below(key, (uint64_t)c, (uint64_t)s->n);
    double share = su_rng_uniform(key, (uint64_t)c) * total, sum = 0;
    int64_t last = 0;
    for (int64_t i = 0; i < s->n; i++) {
        if (s->distance[i] <= 0) continue;
        sum += s->distance[i];
        last = i;
        if (sum > share) break;
    }
    return last;
}

static void choose_starts(kmeans *s, su_rng_key key, su_pool *pool)
{
    for (int64_t i = 0; i < s->n; i++) s->distance[i] = INFINITY;
    for (int32_t c = 0; c < s->k; c++) {
        s->centre = choose_start(s, key, c);
        const float *row = s->x->row[s->centre];
        for (int32_t d = 0; d < s->width; d++)
            s->centroid[(int64_t)c * s->width + d] = s->x->scale[s->centre] * (double)row[d];
        if (c + 1 < s->k) su_pool_run(pool, blocks_of(s->n), near_start, s);
    }
}

static void pack_centroids(kmeans *s)
{
    for (int32_t c = 0; c < s->k; c++) {
        const double *from = s->centroid + (int64_t)c * s->width;
        double *tile = s->columns + (int64_t)(c / SU_TILE_COLUMNS) * SU_TILE_COLUMNS * s->width;
        double *lane = tile + (int64_t)(c % SU_TILE_COLUMNS / SU_TILE_LANES) * SU_TILE_LANES * s->width +
                       c % SU_TILE_LANES;
        double square = 0;
        for (int32_t d = 0; d < s->width; d++) {
            lane[(int64_t)d * SU_TILE_LANES] = from[d];
            square += from[d] * from[d];
        }
        s->c_square[c] = square;
    }
}

static void assign(void *context, int64_t task, int worker)
{
    kmeans *s = context;
    double *rows = s->tiles[worker], *dots = tile_dots(rows, s->width), best[SU_TILE_ROWS];
    int32_t nearest[SU_TILE_ROWS] = {0};
    int64_t stride = su_tile_stride(s->width), i0 = task * SU_TILE_ROWS, count = block_end(task, s->n) - i0;
    su_tile_rows(rows, s->x, i0, count, s->width);
    for (int64_t r = 0; r < count; r++) best[r] = INFINITY;
    for (int32_t c0 = 0; c0 < s->k; c0 += SU_TILE_COLUMNS) {
        int32_t columns = s->k - c0 < SU_TILE_COLUMNS ? s->k - c0 : SU_TILE_COLUMNS;
        su_tile_dots(dots, false, rows, count, stride, s->columns + (int64_t)c0 * s->width, columns,
                     s->width);
        for (int64_t r = 0; r < count; r++)
            for (int32_t c = 0; c < columns; c++) {
                double distance = s->c_square[c0 + c] - 2 * dots[r * SU_TILE_COLUMNS + c];
                if (distance >= best[r]) continue;
                best[r] = distance;
                nearest[r] = c0 + c;
            }
    }
    int64_t changed = 0;
    for (int64_t r = 0; r < count; r++) {
        changed += s->cluster[i0 + r] != nearest[r];
        s->cluster[i0 + r] = nearest[r];
        s->distance[i0 + r] = fmax(0, s->square[i0 + r] + best[r]);
    }
    __atomic_fetch_add(&s->changed, changed, __ATOMIC_RELAXED);
}

/* Gives each empty cluster the farthest point of a cluster that can spare one. */
static void fill_empty(kmeans *s, int64_t *members)
{
    for (int32_t c = 0; c < s->k; c++) {
        if (members[c]) continue;
        int64_t far = -1;
        for (int64_t i = 0; i < s->n; i++)
            if (members[s->cluster[i]] > 1 && (far < 0 || s->distance[i] > s->distance[far])) far = i;
        members[s->cluster[far]]--;
        members[c]++;
        s->cluster[far] = c;
        s->distance[far] = 0;
        s->changed++;
    }
}

/* Sorts the points by cluster, so that one task can sum one cluster in ascending order. */
static void order_members(kmeans *s)
{
    int64_t *members = s->start + 1;
    memset(s->start, 0, ((size_t)s->k + 1) * sizeof *s->start);
    for (int64_t i = 0; i < s->n; i++) members[s->cluster[i]]++;
    fill_empty(s, members);
    for (int32_t c = 0; c < s->k; c++) s->start[c + 1] += s->start[c];
    for (int64_t i = 0; i < s->n; i++) s->order[s->start[s->cluster[i]]++] = i;
    memmove(s->start + 1, s->start, (size_t)s->k * sizeof *s->start);
    s->start[0] = 0;
}

static void move_centroid(void *context, int64_t task, int worker)
{
    (void)worker;
    kmeans *s = context;
    double *centroid = s->centroid + task * s->width;
    memset(centroid, 0, (size_t)s->width * sizeof *centroid);
    for (int64_t at = s->start[task]; at < s->start[task + 1]; at++) {
        const float *row = s->x->row[s->order[at]];
        double scale = s->x->scale[s->order[at]];
        for (int32_t d = 0; d < s->width; d++) centroid[d] += scale * (double)row[d];
    }
    double count = (double)(s->start[task + 1] - s->start[task]);
    for (int32_t d = 0; d < s->width; d++) centroid[d] /= count;
}

/* Runs one restart and returns its inertia. */
static double run(kmeans *s, su_rng_key key, su_pool *pool, int32_t *iterations)
{
    choose_starts(s, key, pool);
    for (int64_t i = 0; i < s->n; i++) s->cluster[i] = -1;
    double inertia = INFINITY;
    for (*iterations = 0; *iterations < ITERATIONS; ++*iterations) {
        pack_centroids(s);
        s->changed = 0;
        su_pool_run(pool, blocks_of(s->n), assign, s);
        double before = inertia;
        inertia = 0;
        for (int64_t i = 0; i < s->n; i++) inertia += s->distance[i];
        if (!s->changed || (*iterations && before - inertia <= LEAST_GAIN * before)) break;
        order_members(s);
        su_pool_run(pool, s->k, move_centroid, s);
    }
    return inertia;
}

su_status su_kmeans(const su_rows *x, int64_t n, int32_t width, int32_t k, int32_t restarts, uint64_t seed,
                    su_pool *pool, su_kmeans_result *result, su_error *err)
{
    if (k < 1 || k > n)
        return su_fail(err, SU_EINVAL, "k-means with %d clusters needs at least as many points, not %lld",
                       (int)k, (long long)n);
    int workers = su_pool_workers(pool);
    size_t tiled = ((size_t)k + SU_TILE_COLUMNS - 1) / SU_TILE_COLUMNS * SU_TILE_COLUMNS;
    kmeans s = {.x = x, .n = n, .width = width, .k = k};
    s.square = su_alloc((size_t)n * 2, sizeof(double));
    s.cluster = su_alloc((size_t)n, sizeof *s.cluster);
    s.centroid = su_alloc((size_t)k, (size_t)width * sizeof(double));
    s.columns = su_calloc(tiled, (size_t)width * sizeof(double));
    s.c_square = su_alloc((size_t)k, sizeof(double));
    s.start = su_alloc((size_t)k + 1, sizeof *s.start);
    s.order = su_alloc((size_t)n, sizeof *s.order);
    s.tiles = tiles_new_all(width, workers);
    bool ok = s.square && s.cluster && s.centroid && s.columns && s.c_square && s.start && s.order && s.tiles;
    if (ok) {
        s.distance = s.square + n;
        su_pool_run(pool, blocks_of(n), square_rows, &s);
        result->inertia = INFINITY;
        for (int32_t r = 0; r < restarts; r++) {
            su_rng_key key = {.seed = seed, .step = (uint32_t)r, .layer = su_rng_name("kmeans")};
            int32_t iterations;
            double inertia = run(&s, key, pool, &iterations);
            if (inertia >= result->inertia) continue;
            result->inertia = inertia;
            result->iterations = iterations;
            memcpy(result->cluster, s.cluster, (size_t)n * sizeof *s.cluster);
        }
    }
    su_free(s.square);
    su_free(s.cluster);
    su_free(s.centroid);
    su_free(s.columns);
    su_free(s.c_square);
    su_free(s.start);
    su_free(s.order);
    tiles_free(s.tiles, workers);
    return ok ? SU_OK
              : su_fail(err, SU_ENOMEM, "no memory for %d clusters of %lld points", (int)k, (long long)n);
}

/* --- V-measure ------------------------------------------------------------------------------------------ */

/* -sum c log(c/n) over counts, which is n times the entropy. */
static double entropy(const int64_t *counts, int64_t length, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < length; i++)
        if (counts[i]) sum -= (double)counts[i] * log((double)counts[i] / (double)n);
    return sum;
}

su_status su_v_measure(const int32_t *class_of, int32_t class_count, const int32_t *cluster,
                       int32_t cluster_count, int64_t n, double *v, su_error *err)
{
    size_t cells = (size_t)class_count * (size_t)cluster_count;
    int64_t *joint = su_calloc((size_t)class_count, (size_t)cluster_count * sizeof *joint);
    int64_t *of_class = su_calloc((size_t)class_count + (size_t)cluster_count, sizeof *of_class);
    if (!joint || !of_class) {
        su_free(joint);
        su_free(of_class);
        return su_fail(err, SU_ENOMEM, "no memory for a table of %d x %d", (int)class_count,
                       (int)cluster_count);
    }
    int64_t *of_cluster = of_class + class_count;
    for (int64_t i = 0; i < n; i++) {
        joint[(int64_t)class_of[i] * cluster_count + cluster[i]]++;
        of_class[class_of[i]]++;
        of_cluster[cluster[i]]++;
    }
    /* H(class | cluster) = H(class, cluster) - H(cluster), and the other way round. */
    double both = entropy(joint, (int64_t)cells, n), classes = entropy(of_class, class_count, n),
           clusters = entropy(of_cluster, cluster_count, n);
    double homogeneity = classes > 0 ? fmax(0, 1 - (both - clusters) / classes) : 1;
    double completeness = clusters > 0 ? fmax(0, 1 - (both - classes) / clusters) : 1;
    *v = homogeneity + completeness > 0 ? 2 * homogeneity * completeness / (homogeneity + completeness) : 0;
    su_free(joint);
    su_free(of_class);
    return SU_OK;
}

/* --- nearest neighbours --------------------------------------------------------------------------------- */

typedef struct {
    su_rows asked, known; /* tested rows, and those that may be neighbours */
    int32_t *asked_class, *known_class;
    int64_t asked_count, known_count;
    int32_t width, k;
    int64_t correct;
    double **tiles;
} neighbours;

typedef struct {
    double score[NEIGHBOURS];
    int64_t row[NEIGHBOURS];
    int32_t count;
} nearest_list;

/* Rows come in ascending order, so an equal score stays behind the earlier row. */
static void insert(nearest_list *list, int32_t k, double score, int64_t row)
{
    if (list->count == k && score <= list->score[k - 1]) return;
    int32_t at = list->count < k ? list->count++ : k - 1;
    for (; at > 0 && list->score[at - 1] < score; at--) {
        list->score[at] = list->score[at - 1];
        list->row[at] = list->row[at - 1];
    }
    list->score[at] = score;
    list->row[at] = row;
}

static int32_t vote(const neighbours *s, const nearest_list *list)
{
    int32_t winner = -1, most = 0;
    for (int32_t i = 0; i < list->count; i++) {
        int32_t class_i = s->known_class[list->row[i]], votes = 0;
        for (int32_t j = 0; j < list->count; j++) votes += s->known_class[list->row[j]] == class_i;
        if (votes <= most) continue; /* an equal class that is nearer came first */
        most = votes;
        winner = class_i;
    }
    return winner;
}

static void classify(void *context, int64_t task, int worker)
{
    neighbours *s = context;
    double *rows = s->tiles[worker], *columns = tile_columns(rows, s->width),
           *dots = tile_dots(rows, s->width);
    int64_t stride = su_tile_stride(s->width), i0 = task * SU_TILE_ROWS;
    int64_t count = block_end(task, s->asked_count) - i0;
    nearest_list lists[SU_TILE_ROWS];
    for (int64_t r = 0; r < count; r++) lists[r].count = 0;
    su_tile_rows(rows, &s->asked, i0, count, s->width);
    for (int64_t j0 = 0; j0 < s->known_count; j0 += SU_TILE_COLUMNS) {
        int64_t width = s->known_count - j0 < SU_TILE_COLUMNS ? s->known_count - j0 : SU_TILE_COLUMNS;
        su_tile_columns(columns, &s->known, j0, width, s->width);
        su_tile_dots(dots, false, rows, count, stride, columns, width, s->width);
        for (int64_t r = 0; r < count; r++)
            for (int64_t j = 0; j < width; j++)
                insert(&lists[r], s->k, dots[r * SU_TILE_COLUMNS + j], j0 + j);
    }
    int64_t correct = 0;
    for (int64_t r = 0; r < count; r++) correct += vote(s, &lists[r]) == s->asked_class[i0 + r];
    __atomic_fetch_add(&s->correct, correct, __ATOMIC_RELAXED);
}

su_status su_knn_accuracy(const su_rows *x, int64_t n, int32_t width, const int32_t *class_of,
                          const bool *tested, int32_t k, su_pool *pool, double *accuracy, su_error *err)
{
    if (k < 1 || k > NEIGHBOURS)
        return su_fail(err, SU_EINVAL, "%d neighbours: 1 to %d", (int)k, (int)NEIGHBOURS);
    int workers = su_pool_workers(pool);
    neighbours s = {.width = width};
    /* Tested rows fill the arrays from the front, neighbours from behind the last tested one. */
    const float **row = su_alloc((size_t)n, sizeof *row);
    double *scale = su_alloc((size_t)n, sizeof *scale);
    int32_t *label = su_alloc((size_t)n, sizeof *label);
    s.tiles = tiles_new_all(width, workers);
    bool ok = row && scale && label && s.tiles;
    if (ok) {
        int64_t at = 0;
        for (int side = 1; side >= 0; side--) {
            for (int64_t i = 0; i < n; i++) {
                if (tested[i] != (bool)side) continue;
                row[at] = x->row[i];
                scale[at] = x->scale[i];
                label[at++] = class_of[i];
            }
            if (side) s.asked_count = at;
        }
        s.known_count = n - s.asked_count;
        s.asked = (su_rows){row, scale};
        s.known = (su_rows){row + s.asked_count, scale + s.asked_count};
        s.asked_class = label;
        s.known_class = label + s.asked_count;
        s.k = k < s.known_count ? k : (int32_t)s.known_count;
        *accuracy = NAN;
        if (s.asked_count && s.known_count) {
            su_pool_run(pool, blocks_of(s.asked_count), classify, &s);
            *accuracy = (double)s.correct / (double)s.asked_count;
        }
    }
    su_free(row);
    su_free(scale);
    su_free(label);
    tiles_free(s.tiles, workers);
    return ok ? SU_OK : su_fail(err, SU_ENOMEM, "no memory for the neighbours of %lld rows", (long long)n);
}
