/* The score matrix S = X Y^T is never stored. A task owns 192 queries and walks the candidates in tiles of
 * 64:
 *
 *              candidates j ->
 *   queries    +------+------+--        forward[i]  += S_ij >= S_ii     (the task's own)
 *   i of one   | 192 x 64    |          backward[j] += S_ij >= S_jj     (shared: whole numbers, added
 * atomically) task       +------+------+--
 *
 * so both directions come from the same products, and counts do not depend on the order of tasks. With texts,
 * a second pair of counters compares with the best score among the candidates of the query's own text. */
#include "eval/retrieval.h"
#include "base/memory.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const su_rows *x, *y;
    int64_t n;
    int32_t width;
    const int32_t *text;
    /* Thresholds: the true score (or the best one of the query's own text) less the tie margin. */
    double *forward, *backward, *forward_text, *backward_text;
    const su_ranks *to_y, *to_x;
    double **scratch; /* one block a worker */
    /* By text class: the samples of class c are order[start[c] .. start[c+1]-1]. */
    int64_t *order, *start;
    /* Rows in that order, of the stream that asks and of the one that answers; where the best scores go, by
     * sample. */
    su_rows asked, known;
    double *best;
} ranking;

static size_t scratch_size(int32_t width)
{
    return (size_t)(SU_TILE_ROWS * su_tile_stride(width)) + (size_t)SU_TILE_COLUMNS * (size_t)width +
           (size_t)SU_TILE_ROWS * SU_TILE_COLUMNS;
}

static void true_scores(void *context, int64_t task, int worker)
{
    (void)worker;
    ranking *s = context;
    int64_t end = (task + 1) * SU_TILE_ROWS < s->n ? (task + 1) * SU_TILE_ROWS : s->n;
    for (int64_t i = task * SU_TILE_ROWS; i < end; i++) {
        double own = su_row_dot(s->x->row[i], s->y->row[i], s->width) * s->x->scale[i] * s->y->scale[i];
        s->forward[i] = s->backward[i] = own - SU_SCORE_TIE;
    }
}

/* Best score of each query among the candidates of its own text. In text order these lie side by side, so a
 * block of queries needs the candidates from its first query's class to its last one's, and no others. */
static void best_of_text(void *context, int64_t task, int worker)
{
    ranking *s = context;
    int64_t stride = su_tile_stride(s->width), i0 = task * SU_TILE_ROWS;
    int64_t rows = s->n - i0 < SU_TILE_ROWS ? s->n - i0 : SU_TILE_ROWS;
    int64_t first = s->start[s->text[s->order[i0]]], end = s->start[s->text[s->order[i0 + rows - 1]] + 1];
    double *x = s->scratch[worker], *y = x + SU_TILE_ROWS * stride,
           *dots = y + (int64_t)SU_TILE_COLUMNS * s->width;
    su_tile_rows(x, &s->asked, i0, rows, s->width);
    for (int64_t r = 0; r < rows; r++) s->best[s->order[i0 + r]] = -INFINITY;
    for (int64_t j0 = first; j0 < end; j0 += SU_TILE_COLUMNS) {
        int64_t columns = end - j0 < SU_TILE_COLUMNS ? end - j0 : SU_TILE_COLUMNS;
        su_tile_columns(y, &s->known, j0, columns, s->width);
        su_tile_dots(dots, false, x, rows, stride, y, columns, s->width);
        for (int64_t r = 0; r < rows; r++) {
            int64_t i = s->order[i0 + r];
            for (int64_t j = 0; j < columns; j++)
                if (s->text[s->order[j0 + j]] == s->text[i])
                    s->best[i] = fmax(s->best[i], dots[r * SU_TILE_COLUMNS + j] - SU_SCORE_TIE);
        }
    }
}

/* Counting sort of the samples by text class. */
static void order_by_text(ranking *s)
{
    for (int64_t i = 0; i < s->n; i++) s->start[s->text[i] + 1]++;
    for (int64_t c = 0; c < s->n; c++) s->start[c + 1] += s->start[c];
    for (int64_t i = 0; i < s->n; i++) s->order[s->start[s->text[i]]++] = i;
    memmove(s->start + 1, s->start, (size_t)s->n * sizeof *s->start);
    s->start[0] = 0;
}

static void text_scores(ranking *s, const float **row, double *scale, const su_rows *asked,
                        const su_rows *known, double *best, su_pool *pool)
{
    for (int64_t i = 0; i < s->n; i++) {
        row[i] = asked->row[s->order[i]];
        scale[i] = asked->scale[s->order[i]];
        row[s->n + i] = known->row[s->order[i]];
        scale[s->n + i] = known->scale[s->order[i]];
    }
    s->asked = (su_rows){row, scale};
    s->known = (su_rows){row + s->n, scale + s->n};
    s->best = best;
    su_pool_run(pool, (s->n + SU_TILE_ROWS - 1) / SU_TILE_ROWS, best_of_text, s);
}

/* Thresholds of the duplicates policy, both directions. */
static bool find_text_scores(ranking *s, su_pool *pool)
{
    const float **row = su_alloc((size_t)s->n, 2 * sizeof *row);
    double *scale = su_alloc((size_t)s->n, 2 * sizeof *scale);
    s->order = su_alloc((size_t)s->n, sizeof *s->order);
    s->start = su_calloc((size_t)s->n + 1, sizeof *s->start);
    bool ok = row && scale && s->order && s->start;
    if (ok) {
        order_by_text(s);
        text_scores(s, row, scale, s->x, s->y, s->forward_text, pool);
        text_scores(s, row, scale, s->y, s->x, s->backward_text, pool);
    }
    su_free(row);
    su_free(scale);
    su_free(s->order);
    su_free(s->start);
    return ok;
}

static void add_shared(int32_t *to, const int32_t *counts, int64_t count)
{
    for (int64_t j = 0; j < count; j++)
        if (counts[j]) __atomic_fetch_add(to + j, counts[j], __ATOMIC_RELAXED);
}

/* One tile of strict counts. The tie margin lets the diagonal count itself, whatever the rounding. */
static void count_strict(const ranking *s, const double *dots, int64_t i0, int64_t rows, int64_t j0,
                         int64_t columns)
{
    int32_t seen[SU_TILE_COLUMNS] = {0};
    for (int64_t r = 0; r < rows; r++) {
        const double *line = dots + r * SU_TILE_COLUMNS;
        double own = s->forward[i0 + r];
        int32_t count = 0;
        for (int64_t j = 0; j < columns; j++) {
            count += line[j] >= own;
            seen[j] += line[j] >= s->backward[j0 + j];
        }
        s->to_y->strict[i0 + r] += count;
    }
    add_shared(s->to_x->strict + j0, seen, columns);
}

static void count_texts(const ranking *s, const double *dots, int64_t i0, int64_t rows, int64_t j0,
                        int64_t columns)
{
    int32_t seen[SU_TILE_COLUMNS] = {0};
    for (int64_t r = 0; r < rows; r++) {
        const double *line = dots + r * SU_TILE_COLUMNS;
        double own = s->forward_text[i0 + r];
        int32_t text = s->text[i0 + r], count = 0;
        for (int64_t j = 0; j < columns; j++) {
            int32_t other = s->text[j0 + j] != text;
            count += other & (line[j] >= own);
            seen[j] += other & (line[j] >= s->backward_text[j0 + j]);
        }
        s->to_y->duplicates[i0 + r] += count;
    }
    add_shared(s->to_x->duplicates + j0, seen, columns);
}

static void count_block(void *context, int64_t task, int worker)
{
    ranking *s = context;
    int64_t stride = su_tile_stride(s->width), i0 = task * SU_TILE_ROWS;
    int64_t rows = s->n - i0 < SU_TILE_ROWS ? s->n - i0 : SU_TILE_ROWS;
    double *x = s->scratch[worker], *y = x + SU_TILE_ROWS * stride,
           *dots = y + (int64_t)SU_TILE_COLUMNS * s->width;
    su_tile_rows(x, s->x, i0, rows, s->width);
    for (int64_t j0 = 0; j0 < s->n; j0 += SU_TILE_COLUMNS) {
        int64_t columns = s->n - j0 < SU_TILE_COLUMNS ? s->n - j0 : SU_TILE_COLUMNS;
        su_tile_columns(y, s->y, j0, columns, s->width);
        su_tile_dots(dots, false, x, rows, stride, y, columns, s->width);
        count_strict(s, dots, i0, rows, j0, columns);
        if (s->text) count_texts(s, dots, i0, rows, j0, columns);
    }
}

su_status su_retrieval_ranks(const su_rows *x, const su_rows *y, int64_t n, int32_t width,
                             const int32_t *text, su_pool *pool, const su_ranks *forward,
                             const su_ranks *backward, su_error *err)
{
    ranking s = {.x = x, .y = y, .n = n, .width = width, .text = text, .to_y = forward, .to_x = backward};
    int workers = su_pool_workers(pool);
    su_status status = SU_ENOMEM;
    s.forward = su_alloc((size_t)n * 4, sizeof(double));
    s.scratch = su_calloc((size_t)workers, sizeof *s.scratch);
    if (!s.forward || !s.scratch) goto done;
    for (int w = 0; w < workers; w++)
        if (!(s.scratch[w] = su_alloc_aligned(scratch_size(width), sizeof(double)))) goto done;
    s.backward = s.forward + n;
    s.forward_text = s.backward + n;
    s.backward_text = s.forward_text + n;
    memset(forward->strict, 0, (size_t)n * sizeof *forward->strict);
    memset(backward->strict, 0, (size_t)n * sizeof *backward->strict);
    if (text) {
        for (int64_t i = 0; i < n; i++) forward->duplicates[i] = backward->duplicates[i] = 1;
        if (!find_text_scores(&s, pool)) goto done;
    }
    int64_t tasks = (n + SU_TILE_ROWS - 1) / SU_TILE_ROWS;
    su_pool_run(pool, tasks, true_scores, &s);
    su_pool_run(pool, tasks, count_block, &s);
    status = SU_OK;
done:
    for (int w = 0; s.scratch && w < workers; w++) su_free(s.scratch[w]);
    su_free(s.scratch);
    su_free(s.forward);
    return status ? su_fail(err, status, "no memory for the ranks of %lld samples", (long long)n) : SU_OK;
}

static int by_value(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

static double share_within(const int32_t *rank, int64_t n, int32_t k)
{
    int64_t hits = 0;
    for (int64_t i = 0; i < n; i++) hits += rank[i] <= k;
    return (double)hits / (double)n;
}

su_status su_retrieval_summary(const su_ranks *ranks, int64_t n, su_retrieval_score *score_, su_error *err)
{
    int32_t *sorted = su_alloc((size_t)n, sizeof *sorted);
    if (!sorted) return su_fail(err, SU_ENOMEM, "no memory for %lld ranks", (long long)n);
    memcpy(sorted, ranks->strict, (size_t)n * sizeof *sorted);
    qsort(sorted, (size_t)n, sizeof *sorted, by_value);
    double reciprocal = 0;
    for (int64_t i = 0; i < n; i++) reciprocal += 1.0 / ranks->strict[i];
    *score_ = (su_retrieval_score){
        .r1 = share_within(ranks->strict, n, 1),
        .r5 = share_within(ranks->strict, n, 5),
        .r10 = share_within(ranks->strict, n, 10),
        .median_rank = 0.5 * ((double)sorted[(n - 1) / 2] + (double)sorted[n / 2]),
        .mrr = reciprocal / (double)n,
        .r1_ci95 = {NAN, NAN},
        .r5_ci95 = {NAN, NAN},
        .r10_ci95 = {NAN, NAN},
        .r1_dup = ranks->duplicates ? share_within(ranks->duplicates, n, 1) : NAN,
        .r5_dup = ranks->duplicates ? share_within(ranks->duplicates, n, 5) : NAN,
        .r10_dup = ranks->duplicates ? share_within(ranks->duplicates, n, 10) : NAN,
    };
    su_free(sorted);
    return SU_OK;
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static char *fold(const char *text)
{
    char *folded = su_alloc(strlen(text) + 1, 1), *to = folded;
    if (!folded) return NULL;
    for (const char *from = text; *from; from++) {
        if (!is_space(*from))
            *to++ = *from >= 'A' && *from <= 'Z' ? (char)(*from - 'A' + 'a') : *from;
        else if (to > folded && to[-1] != ' ')
            *to++ = ' ';
    }
    if (to > folded && to[-1] == ' ') to--;
    *to = 0;
    return folded;
}

typedef struct {
    char *text;
    int64_t item;
} folded_text;

/* Empty texts differ from each other, hence the index as second key. */
static int by_text(const void *a, const void *b)
{
    const folded_text *x = a, *y = b;
    int order = strcmp(x->text, y->text);
    return order ? order : (x->item > y->item) - (x->item < y->item);
}

su_status su_text_classes(const char *const *texts, int64_t n, int32_t **classes, su_error *err)
{
    folded_text *sorted = su_calloc((size_t)n, sizeof *sorted);
    int32_t *class_of = su_alloc((size_t)n, sizeof *class_of);
    bool ok = sorted && class_of;
    for (int64_t i = 0; ok && i < n; i++) {
        sorted[i] = (folded_text){fold(texts[i]), i};
        ok = sorted[i].text != NULL;
    }
    if (ok) {
        qsort(sorted, (size_t)n, sizeof *sorted, by_text);
        int32_t next = 0;
        for (int64_t i = 0; i < n; i++) {
            if (i && (!sorted[i].text[0] || strcmp(sorted[i].text, sorted[i - 1].text) != 0)) next++;
            class_of[sorted[i].item] = next;
        }
    }
    for (int64_t i = 0; sorted && i < n; i++) su_free(sorted[i].text);
    su_free(sorted);
    if (!ok) {
        su_free(class_of);
        return su_fail(err, SU_ENOMEM, "no memory for %lld texts", (long long)n);
    }
    *classes = class_of;
    return SU_OK;
}
