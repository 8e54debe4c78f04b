/* Exact search: the ten best of every query among rows of bf16 numbers.
 *
 *     bench_gpu search DEVICE QUERIES ROWS CHECKED ROUNDS
 *
 * The first CHECKED queries are searched on the CPU device too, rows by rows as they are made: row numbers and
 * scores must be the same. A round prints how many of the queries were so, and their number. */
#include "bench/gpu/bench.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 512, K = 10, CHUNK = 65536, PART = 1024 };

typedef struct {
    uint16_t *rows; /* [CHUNK][WIDTH] bf16 */
    int64_t first, count;
    double squares[CHUNK / PART]; /* of the longest row of each part */
} chunk;

/* About unit rows: numbers within the square root of 3/WIDTH, cut to bf16. */
static void make(void *context, int64_t task, int worker)
{
    chunk *c = context;
    const int64_t end = (task + 1) * PART < c->count ? (task + 1) * PART : c->count;
    (void)worker;
    c->squares[task] = 0;
    for (int64_t r = task * PART; r < end; r++) {
        double square = 0;
        for (int64_t i = r * WIDTH; i < (r + 1) * WIDTH; i++) {
            float x = noise((uint64_t)(c->first * WIDTH + i)) * 0.15309311F;
            uint32_t bits;
            memcpy(&bits, &x, sizeof bits);
            bits &= 0xffff0000u;
            memcpy(&x, &bits, sizeof x);
            c->rows[i] = (uint16_t)(bits >> 16);
            square += (double)x * (double)x;
        }
        c->squares[task] = fmax(c->squares[task], square);
    }
}

/* The best K of what is kept and of what a chunk gave, both in order; earlier rows are in front of equals. */
static void join(int64_t *rows, float *scores, const int64_t *more, const float *more_scores, int64_t first,
                 int k)
{
    int64_t r[K];
    float s[K];
    int a = 0, b = 0;
    for (int i = 0; i < K; i++) {
        if (b >= k || (rows[a] >= 0 && scores[a] >= more_scores[b]))
            r[i] = rows[a], s[i] = scores[a], a++;
        else
            r[i] = more[b] + first, s[i] = more_scores[b], b++;
    }
    memcpy(rows, r, sizeof r);
    memcpy(scores, s, sizeof s);
}

int bench_search(int argc, char **argv)
{
    su_device *d = NULL, *cpu = NULL;
    su_error err = {0};
    if (argc != 7 || atoll(argv[4]) < K) return usage("search DEVICE QUERIES ROWS CHECKED ROUNDS");
    const int64_t queries = atoll(argv[3]), n = atoll(argv[4]),
                  checked = atoll(argv[5]) < queries ? atoll(argv[5]) : queries;
    check(su_device_open(argv[2], 0, &d, &err), &err);
    check(su_device_cpu(0, SU_DTYPE_F32, &cpu, &err), &err);
    chunk c = {.rows = malloc((size_t)CHUNK * WIDTH * 2)};
    double longest = 0;
    float *asked = malloc((size_t)(queries * WIDTH) * 4), *scores = malloc((size_t)(queries * K) * 4);
    int64_t *rows = malloc((size_t)(queries * K) * 8), *more = malloc((size_t)(queries * K) * 8);
    float *true_scores = calloc((size_t)(queries * K), 4), *more_scores = malloc((size_t)(queries * K) * 4);
    int64_t *true_rows = malloc((size_t)(queries * K) * 8);
    if (!c.rows || !asked || !rows || !scores || !more || !more_scores || !true_rows || !true_scores)
        return 1;
    for (int64_t i = 0; i < queries * WIDTH; i++)
        asked[i] = noise(((uint64_t)1 << 40) + (uint64_t)i) * 0.15309311F;
    for (int64_t i = 0; i < queries * K; i++) true_rows[i] = -1;
    char *x = take(d, (size_t)(n * WIDTH) * 2);
    void *q = take(d, (size_t)(queries * WIDTH) * 4);
    printf("plan %zu\n", (size_t)(n * WIDTH) * 2 + (size_t)(queries * WIDTH) * 4);
    d->ops->upload(d, q, asked, (size_t)(queries * WIDTH) * 4);
    for (; c.first < n; c.first += CHUNK) {
        c.count = n - c.first < CHUNK ? n - c.first : CHUNK;
        su_pool_run(cpu->pool, (c.count + PART - 1) / PART, make, &c);
        d->ops->upload(d, x + (size_t)(c.first * WIDTH) * 2, c.rows, (size_t)(c.count * WIDTH) * 2);
        for (int64_t i = 0; i < (c.count + PART - 1) / PART; i++) longest = fmax(longest, sqrt(c.squares[i]));
        const int k = c.count < K ? (int)c.count : K;
        check(cpu->ops->top_k(cpu, more, more_scores, asked, c.rows, SU_DTYPE_BF16, 0, checked, c.count,
                              WIDTH, k, &err),
              &err);
        for (int64_t i = 0; i < checked; i++)
            join(true_rows + i * K, true_scores + i * K, more + i * k, more_scores + i * k, c.first, k);
    }
    check(d->ops->sync(d, &err), &err);
    for (int r = 0; r < atoi(argv[6]); r++) {
        const double start = now();
        check(d->ops->top_k(d, rows, scores, q, x, SU_DTYPE_BF16, longest, queries, n, WIDTH, K, &err), &err);
        const double seconds = now() - start;
        int64_t same = 0;
        for (int64_t i = 0; i < checked; i++)
            same += !memcmp(rows + i * K, true_rows + i * K, K * 8) &&
                    !memcmp(scores + i * K, true_scores + i * K, K * 4);
        told(seconds, (double)same, (double)checked);
    }
    return 0;
}
