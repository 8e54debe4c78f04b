/* Every operation of the table on the CUDA device, against the CPU device in float64: widths that packs of 16
 * bytes divide and widths that they do not, lengths around the tiles' edges, and the shapes of the models.
 *
 *     test_cuda_ops [DEVICE]      "cuda,bf16" (default) or "cuda,f32"; exits with 77 without a GPU */
#include "tests/cuda/compare.h"
#include "tests/cuda/open.h"

/* --- linear layers --- */

typedef struct {
    int64_t rows;
    int32_t out, in;
    su_activation f;
    bool add, pre, bias;
} linear_case;

static const linear_case linears[] = {
    {1, 1, 1, SU_ACT_NONE, false, false, true},     {3, 5, 7, SU_ACT_GELU, true, true, true},
    {64, 64, 64, SU_ACT_NONE, false, true, false},  {65, 96, 72, SU_ACT_QUICK_GELU, true, true, true},
    {130, 33, 40, SU_ACT_TANH, false, true, true},  {17, 66, 130, SU_ACT_GELU_TANH, true, true, true},
    {128, 256, 64, SU_ACT_GELU, false, true, true}, {33, 64, 48, SU_ACT_GELU, false, false, true},
    /* products of our own, at Hopper's: tiles and slices cut short, more of them than places, more tiles than blocks */
    {1100, 504, 456, SU_ACT_GELU, false, true, true},  {1025, 760, 256, SU_ACT_GELU, true, false, true},
    {1300, 248, 504, SU_ACT_GELU, false, true, false}, {1030, 504, 248, SU_ACT_NONE, false, false, true},
    {1030, 248, 240, SU_ACT_NONE, false, false, false},
};

static void run_linear(su_device *d, void **m, const void *arguments)
{
    const linear_case *c = arguments;
    d->ops->linear(d, m[0], m[1], m[2], m[3], m[4], c->f, c->rows, c->out, c->in);
}

/* y, what is added (y itself where c->add), x, w, b */
static void run_linear_add(su_device *d, void **m, const void *arguments)
{
    const linear_case *c = arguments;
    d->ops->linear_add(d, m[0], c->add ? m[0] : m[1], m[2], m[3], m[4], c->rows, c->out, c->in);
}

static void run_linear_backward(su_device *d, void **m, const void *arguments)
{
    const linear_case *c = arguments;
    d->ops->linear_backward(d, m[0], c->add, m[1], m[2], m[3], m[4], m[5], c->rows, c->out, c->in);
}

static void run_slope(su_device *d, void **m, const void *arguments)
{
    const linear_case *c = arguments;
    d->ops->act_backward(d, m[0], m[1], m[2], m[3], m[4], c->f, c->rows, c->out);
}

static void run_linear_slope(su_device *d, void **m, const void *arguments)
{
    const linear_case *c = arguments;
    d->ops->linear_act_backward(d, m[0], m[1], m[2], m[3], m[4], m[5], c->f, c->rows, c->out, c->in);
}

static void linear_layers(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof linears / sizeof *linears; i++) {
        const linear_case *c = &linears[i];
        const int64_t outs = c->rows * c->out, ins = c->rows * c->in, weights = (int64_t)c->out * c->in;
        const array forward[] = {{"y", ACT, NULL, outs, OUT},
                                 {"pre", ACT, NULL, c->pre ? outs : 0, c->pre},
                                 {"x", ACT, check_normal(i, ins, 1), ins, IN},
                                 {"w", ACT, check_normal(i + 100, weights, 1 / sqrt(c->in)), weights, IN},
                                 {"b", ACT, check_normal(i + 200, c->out, 1), c->bias ? c->out : 0, IN}};
        compare("linear", forward, 5, run_linear, c);
        const array sum[] = {{"y", ACT, c->add ? check_normal(i + 50, outs, 1) : NULL, outs, OUT},
                             {"residual", ACT, check_normal(i + 51, outs, 1), outs, IN},
                             forward[2],
                             forward[3],
                             forward[4]};
        compare("linear_add", sum, 5, run_linear_add, c);
        const array backward[] = {
            {"dx", ACT, c->add ? check_normal(i + 300, ins, 1) : NULL, ins, OUT},
            {"dw", ACC, check_normal(i + 400, weights, 1), weights, OUT},
            {"db", ACC, check_normal(i + 500, c->out, 1), c->bias ? c->out : 0, c->bias},
            {"dy", ACT, check_normal(i + 600, outs, 1), outs, IN},
            {"x", ACT, check_normal(i, ins, 1), ins, IN},
            {"w", ACT, check_normal(i + 100, weights, 1), weights, IN}};
        compare("linear_backward", backward, 6, run_linear_backward, c);
        const array slopes[] = {{"dpre", ACT, NULL, outs, OUT},
                                {"y", ACT, NULL, c->pre ? outs : 0, c->pre},
                                {"db", ACC, check_normal(i + 500, c->out, 1), c->bias ? c->out : 0, c->bias},
                                {"dy", ACT, check_normal(i + 600, outs, 1), outs, IN},
                                {"pre", ACT, check_normal(i + 700, outs, 2), outs, IN}};
        compare("act_backward", slopes, 5, run_slope, c);
        const array both[] = {{"dpre", ACT, NULL, ins, OUT},
                              {"y", ACT, NULL, c->pre ? ins : 0, c->pre},
                              {"db", ACC, check_normal(i + 800, c->in, 1), c->bias ? c->in : 0, c->bias},
                              {"dy", ACT, check_normal(i + 600, outs, 1), outs, IN},
                              {"w", ACT, check_normal(i + 100, weights, 1 / sqrt(c->out)), weights, IN},
                              {"pre", ACT, check_normal(i + 900, ins, 2), ins, IN}};
        compare("linear_act_backward", both, 6, run_linear_slope, c);
        check_free_all();
    }
}

/* --- attention --- */

typedef struct {
    int32_t batch, heads, dim, tq, tk;
    bool causal, lengths, packed;
    double dropout;
} attention_case;

enum { MOST_BATCH = 67 };

static const attention_case attentions[] = {
    {1, 1, 1, 1, 1, false, false, false, 0},      {2, 1, 5, 3, 3, false, true, false, 0},
    {2, 2, 64, 77, 77, true, true, true, 0},      {1, 1, 64, 197, 197, false, false, true, 0},
    {1, 1, 88, 257, 257, false, false, true, 0},  {1, 1, 64, 256, 256, true, false, true, 0.1},
    {2, 1, 128, 65, 65, false, true, true, 0},    {2, 2, 24, 9, 70, false, true, false, 0},
    {1, 2, 8, 21, 5, true, false, false, 0},      {1, 2, 16, 33, 140, true, true, false, 0.3},
    {1, 1, 192, 40, 40, false, true, false, 0.2}, {1, 1, 96, 64, 128, true, true, false, 0},
    /* aligned rows of short sequences; in the last two, more heads than the GPU has processors */
    {3, 1, 64, 1, 1, false, false, true, 0},      {2, 2, 64, 15, 15, false, true, true, 0},
    {2, 1, 48, 16, 16, true, true, true, 0},      {1, 3, 8, 17, 17, true, false, true, 0.2},
    {2, 1, 64, 128, 128, true, true, true, 0.1},  {2, 1, 64, 197, 197, true, true, true, 0},
    {2, 1, 64, 197, 197, false, true, true, 0.1}, {1, 1, 64, 256, 256, false, true, true, 0},
    {1, 2, 64, 257, 257, false, false, true, 0},  {2, 1, 80, 130, 130, false, true, true, 0},
    {2, 1, 64, 40, 197, false, true, false, 0},   {2, 1, 64, 140, 33, true, true, false, 0},
    {1, 1, 88, 257, 257, false, true, true, 0.1}, {1, 1, 64, 260, 150, true, true, false, 0.1},
    {2, 1, 64, 130, 270, true, true, false, 0.1}, {2, 1, 80, 140, 140, true, true, true, 0},
    {1, 1, 16, 400, 128, true, true, false, 0},   {2, 1, 64, 20, 400, false, true, false, 0},
    {67, 2, 16, 3, 140, false, true, false, 0.1}, {67, 2, 16, 140, 5, true, true, false, 0.1},
    /* Hopper's: an odd number of 64 rows, all rows of a block's room, a sequence of which nothing is seen */
    {4, 1, 64, 130, 130, false, true, true, 0},   {2, 2, 64, 272, 272, false, true, true, 0},
    {1, 1, 64, 65, 65, false, false, false, 0},
};

static su_attention attention_of(const attention_case *c, const int32_t *lengths)
{
    const int64_t width = (int64_t)c->heads * c->dim;
    return (su_attention){.batch = c->batch,
                          .heads = c->heads,
                          .dim = c->dim,
                          .tq = c->tq,
                          .tk = c->tk,
                          .q_stride = c->packed ? 3 * width : width + 8,
                          .kv_stride = c->packed ? 3 * width : 2 * width,
                          .o_stride = width + (c->packed ? 0 : c->dim % 16 ? 3 : 8),
                          .lengths = lengths,
                          .causal = c->causal,
                          .scale = 1 / sqrt(c->dim),
                          .dropout = c->dropout,
                          .key = {.seed = 5, .step = 6, .layer = 7}};
}

/* o, lse, q (and k, v in it), kv, lengths */
static void run_attention(su_device *d, void **m, const void *arguments)
{
    const attention_case *c = arguments;
    const su_attention a = attention_of(c, m[4]);
    const int64_t width = (int64_t)c->heads * c->dim;
    const void *k = c->packed ? su_act_at(d, m[2], width) : m[3],
               *v = su_act_at(d, c->packed ? k : m[3], width);
    d->ops->attention(d, &a, m[0], m[1], m[2], k, v);
}

/* The gradients after a forward of the device's own: dq, dk, dv together, d_o, q, kv, lengths, o, lse, dbq, dbv */
static void run_attention_backward(su_device *d, void **m, const void *arguments)
{
    const attention_case *c = arguments;
    const su_attention a = attention_of(c, m[5]);
    const int64_t width = (int64_t)c->heads * c->dim;
    const void *k = c->packed ? su_act_at(d, m[3], width) : m[4],
               *v = su_act_at(d, c->packed ? k : m[4], width);
    void *dk = c->packed ? su_act_at(d, m[0], width) : m[1], *dv = su_act_at(d, c->packed ? dk : m[1], width);
    d->ops->attention(d, &a, m[6], m[7], m[3], k, v);
    d->ops->attention_backward(d, &a, m[0], dk, dv, m[8], m[9], m[2], m[6], m[7], m[3], k, v);
}

static void attention(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof attentions / sizeof *attentions; i++) {
        const attention_case *c = &attentions[i];
        const su_attention a = attention_of(c, NULL);
        const int64_t qs = (int64_t)c->batch * c->tq * a.q_stride,
                      os = (int64_t)c->batch * c->tq * a.o_stride;
        const int64_t kvs = c->packed ? 0 : (int64_t)c->batch * c->tk * a.kv_stride;
        const int64_t lines = (int64_t)c->batch * c->heads * c->tq, width = (int64_t)c->heads * c->dim;
        int32_t lengths[MOST_BATCH];
        const char *choice = getenv("SUTURE_ATTENTION");
        const int none = choice && strcmp(choice, "cudnn") == 0 ? 1 : 0; /* what cuDNN makes of sequences of nothing has not been seen */
        for (int b = 0; b < MOST_BATCH; b++) lengths[b] = b % 4 == 1 ? 1 + c->tk / 3 : b % 4 == 3 ? none : c->tk;
        const array in_q = {"q", ACT, check_normal(10 * i, qs, 1), qs, IN};
        const array in_kv = {"kv", ACT, check_normal(10 * i + 1, kvs, 1), kvs, IN};
        const array in_lengths = {"lengths", INT, lengths, c->lengths ? c->batch : 0, IN};
        const array forward[] = {{"o", ACT, check_normal(10 * i + 3, os, 1), os, OUT},
                                 {"lse", ACC, NULL, lines, OUT},
                                 in_q,
                                 in_kv,
                                 in_lengths};
        compare("attention", forward, 5, run_attention, c);
        const array backward[] = {{"dq", ACT, check_normal(10 * i + 4, qs, 1), qs, OUT},
                                  {"dkv", ACT, check_normal(10 * i + 5, kvs, 1), kvs, kvs > 0},
                                  {"d_o", ACT, check_normal(10 * i + 2, os, 1), os, IN},
                                  in_q,
                                  in_kv,
                                  in_lengths,
                                  {"o", ACT, check_zeros(os), os, IN},
                                  {"lse", ACC, NULL, lines, IN},
                                  {"dbq", ACC, check_normal(10 * i + 6, width, 1), i % 5 ? width : 0, i % 5 > 0},
                                  {"dbv", ACC, check_normal(10 * i + 7, width, 1), i % 4 ? width : 0, i % 4 > 0}};
        compare("attention_backward", backward, 10, run_attention_backward, c);
        check_free_all();
    }
}

/* What stands behind a sequence in memory is the next one; where that is not finite, this one must not change. */
static void a_sequence_does_not_see_its_neighbour(void **state)
{
    enum { TOKENS = 130, DIM = 64, WIDE = 3 * DIM, ROWS = 2 * TOKENS };
    (void)state;
    unsigned char *got[2][2]; /* of one sequence and of both: o, and the gradients, of the first */
    su_device *d = tested;
    su_error err = {0};
    const size_t size = su_dtype_size(d->act), bytes[2] = {TOKENS * DIM * size, TOKENS * WIDE * size};
    double *qkv = check_normal(31, ROWS * WIDE, 1), *d_o = check_normal(32, ROWS * DIM, 1);
    for (int64_t i = TOKENS * WIDE; i < ROWS * WIDE; i++) qkv[i] = i % 3 ? NAN : INFINITY;
    for (int64_t i = TOKENS * DIM; i < ROWS * DIM; i++) d_o[i] = NAN;
    for (int n = 1; n <= 2; n++) {
        const array in[] = {{"qkv", ACT, qkv, n * TOKENS * WIDE, IN}, {"d_o", ACT, d_o, n * TOKENS * DIM, IN}};
        const array out[] = {{"o", ACT, NULL, n * TOKENS * DIM, OUT}, {"dqkv", ACT, NULL, n * TOKENS * WIDE, OUT}, {"lse", ACC, NULL, n * TOKENS, OUT}};
        void *x = send(d, &in[0]), *g = send(d, &in[1]), *o = send(d, &out[0]), *dx = send(d, &out[1]), *lse = send(d, &out[2]);
        const su_attention a = {.batch = n, .heads = 1, .dim = DIM, .tq = TOKENS, .tk = TOKENS, .q_stride = WIDE, .kv_stride = WIDE,
                                .o_stride = DIM, .scale = 0.125};
        d->ops->attention(d, &a, o, lse, x, su_act_at(d, x, DIM), su_act_at(d, x, 2 * DIM));
        d->ops->attention_backward(d, &a, dx, su_act_at(d, dx, DIM), su_act_at(d, dx, 2 * DIM), NULL, NULL, g, o, lse, x,
                                   su_act_at(d, x, DIM), su_act_at(d, x, 2 * DIM));
        for (int k = 0; k < 2; k++) {
            got[n - 1][k] = check_alloc(bytes[k], 1);
            d->ops->download(d, got[n - 1][k], k ? dx : o, bytes[k]);
        }
        if (d->ops->sync(d, &err)) fail_msg("%s", err.message);
        void *all[] = {x, g, o, dx, lse};
        for (size_t i = 0; i < sizeof all / sizeof *all; i++) d->ops->release(d, all[i]);
    }
    for (int k = 0; k < 2; k++) assert_memory_equal(got[0][k], got[1][k], bytes[k]);
    check_free_all();
}

typedef struct {
    int32_t rows, heads, dim, longest, pool;
    bool listed;
} attend_case;

static const attend_case attends[] = {
    {1, 1, 1, 1, 1, true},       {9, 3, 64, 41, 300, true},  {4, 3, 17, 33, 64, true},
    {6, 2, 48, 197, 600, false}, {3, 1, 88, 140, 300, true}, {5, 2, 32, 197, 600, false},
    {2, 1, 128, 70, 90, true},   {7, 2, 256, 19, 40, false}, {5, 3, 16, 50, 100, true},
};

static void run_attend(su_device *d, void **m, const void *arguments)
{
    const attend_case *c = arguments;
    const int64_t width = (int64_t)c->heads * c->dim;
    const su_attend a = {.rows = c->rows,
                         .heads = c->heads,
                         .dim = c->dim,
                         .q_stride = width,
                         .kv_stride = 2 * width,
                         .kv_head = c->dim,
                         .o_stride = width,
                         .index = c->listed ? m[3] : NULL,
                         .first = m[4],
                         .lengths = m[5],
                         .index_stride = c->longest,
                         .scale = 1 / sqrt(c->dim)};
    d->ops->attend(d, &a, m[0], m[1], m[2], su_act_at(d, m[2], width));
}

static void attention_over_a_cache(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof attends / sizeof *attends; i++) {
        const attend_case *c = &attends[i];
        const int64_t width = (int64_t)c->heads * c->dim;
        int32_t *index = check_alloc(c->rows * c->longest, sizeof *index),
                *first = check_alloc(c->rows, sizeof *first);
        int32_t *lengths = check_alloc(c->rows, sizeof *lengths);
        for (int32_t k = 0; k < c->rows * c->longest; k++) index[k] = (int32_t)((int64_t)k * 7919 % c->pool);
        for (int32_t r = 0; r < c->rows; r++) {
            lengths[r] = r % 5 == 4 ? 0 : c->longest - r * 7 % c->longest;
            first[r] = r * 13 % (c->pool - c->longest + 1);
        }
        const array a[] = {{"o", ACT, NULL, c->rows * width, OUT},
                           {"q", ACT, check_normal(i, c->rows * width, 1), c->rows * width, IN},
                           {"kv", ACT, check_normal(i + 1, c->pool * 2 * width, 1), c->pool * 2 * width, IN},
                           {"index", INT, index, c->rows * c->longest, IN},
                           {"first", INT, first, c->rows, IN},
                           {"lengths", INT, lengths, c->rows, IN}};
        compare("attend", a, 6, run_attend, c);
        check_free_all();
    }
}

/* --- rows --- */

typedef struct {
    int64_t rows;
    int32_t width;
    bool flag;
} rows_case;

static const rows_case row_cases[] = {{1, 1, false},  {5, 7, true},     {9, 64, false},  {33, 66, true},
                                      {4, 768, true}, {3, 1408, false}, {2, 4101, true}, {2, 8200, true}};
enum { ROW_CASES = sizeof row_cases / sizeof *row_cases };

static void run_norm(su_device *d, void **m, const void *arguments)
{
    const rows_case *c = arguments;
    d->ops->norm(d, m[0], m[1], m[2], m[3], m[4], m[5], m[6], m[7], 1e-5, c->rows, c->width);
}

static void run_norm_backward(su_device *d, void **m, const void *arguments)
{
    const rows_case *c = arguments;
    d->ops->norm(d, m[8], NULL, m[6], m[7], m[4], NULL, m[5], m[5], 1e-5, c->rows, c->width);
    d->ops->norm_backward(d, m[0], c->flag, m[9], m[1], m[2], m[3], m[4], m[6], m[7], m[5], c->rows, c->width);
}

static void layer_norm(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROW_CASES; i++) {
        const rows_case *c = &row_cases[i];
        const int64_t n = c->rows * c->width, w = c->width;
        double *x = check_normal(i, n, 2), *gamma = check_normal(i + 2, w, 1);
        if (w == 1) gamma[0] = 1;
        const array forward[] = {{"y", ACT, NULL, n, OUT},
                                 {"sum", ACT, NULL, c->flag ? n : 0, c->flag},
                                 {"mean", ACC, NULL, c->rows, OUT},
                                 {"rstd", ACC, NULL, c->rows, OUT},
                                 {"x", ACT, x, n, IN},
                                 {"residual", ACT, check_normal(i + 1, n, 1), c->flag ? n : 0, IN},
                                 {"gamma", ACT, gamma, w, IN},
                                 {"beta", ACT, check_normal(i + 3, w, 1), w, IN}};
        compare("norm", forward, 8, run_norm, c);
        if (w == 1) continue; /* no variance: nothing comes back */
        const array backward[] = {{"dx", ACT, c->flag ? check_normal(i + 4, n, 1) : NULL, n, OUT},
                                  {"dgamma", ACC, check_normal(i + 5, w, 1), w, OUT},
                                  {"dbeta", ACC, check_normal(i + 6, w, 1), w, OUT},
                                  {"dy", ACT, check_normal(i + 7, n, 1), n, IN},
                                  {"s", ACT, check_normal(i, n, 2), n, IN},
                                  {"gamma", ACT, check_normal(i + 2, w, 1), w, IN},
                                  {"mean", ACC, NULL, c->rows, IN},
                                  {"rstd", ACC, NULL, c->rows, IN},
                                  {"y", ACT, NULL, n, IN},
                                  {"sums", ACC, check_normal(i + 8, w, 1), i > 1 ? w : 0, i > 1}};
        compare("norm_backward", backward, 10, run_norm_backward, c);
        check_free_all();
    }
}

static void run_add(su_device *d, void **m, const void *arguments)
{
    d->ops->add(d, m[0], m[1], m[2], *(const int64_t *)arguments);
}

static void run_dropout(su_device *d, void **m, const void *arguments)
{
    d->ops->dropout(d, m[0], m[1], 0.3, (su_rng_key){.seed = 9, .step = 1, .layer = 2},
                    *(const int64_t *)arguments);
}

static void run_drop_path(su_device *d, void **m, const void *arguments)
{
    const rows_case *c = arguments;
    d->ops->drop_path(d, m[0], m[1], 0.4, (su_rng_key){.seed = 3}, c->rows, c->width);
}

static void elements(void **state)
{
    (void)state;
    static const int64_t counts[] = {1, 7, 64, 1000, 4099};
    for (size_t i = 0; i < 5; i++) {
        const int64_t n = counts[i];
        const array a[] = {{"y", ACT, NULL, n, OUT},
                           {"a", ACT, check_normal(i, n, 1), n, IN},
                           {"b", ACT, check_normal(i + 9, n, 1), n, IN}};
        compare("add", a, 3, run_add, &n);
        const array b[] = {{"y", ACT, NULL, n, OUT}, {"x", ACT, check_normal(i, n, 1), n, IN}};
        compare("dropout", b, 2, run_dropout, &n);
    }
    for (size_t i = 0; i < ROW_CASES; i++) {
        const int64_t n = row_cases[i].rows * row_cases[i].width;
        const array a[] = {{"y", ACT, NULL, n, OUT}, {"x", ACT, check_normal(i, n, 1), n, IN}};
        compare("drop_path", a, 2, run_drop_path, &row_cases[i]);
        check_free_all();
    }
}

enum { TABLE = 20 }; /* numbers of two digits */

static void run_gather(su_device *d, void **m, const void *arguments)
{
    const rows_case *c = arguments;
    d->ops->gather(d, m[0], c->flag, m[1], m[2], c->rows, c->width);
}

static void run_scatter_add(su_device *d, void **m, const void *arguments)
{
    const rows_case *c = arguments;
    d->ops->scatter_add(d, m[0], TABLE, true, m[2], m[3], c->rows, c->width);
    d->ops->scatter_add(d, m[1], TABLE, false, m[2], m[3], c->rows, c->width);
}

static void run_scatter(su_device *d, void **m, const void *arguments)
{
    const rows_case *c = arguments;
    d->ops->scatter(d, m[0], m[1], m[2], c->rows, c->width);
}

static void rows_by_index(void **state)
{
    (void)state;
    static const rows_case cases[] = {{1, 1, false}, {70, 8, true}, {300, 65, false}, {1100, 16, true}};
    for (size_t i = 0; i < 4; i++) {
        const rows_case *c = &cases[i];
        const int64_t n = c->rows * c->width, table = TABLE * c->width;
        int32_t *index = check_alloc(c->rows, sizeof *index), *once = check_alloc(c->rows, sizeof *once);
        for (int64_t r = 0; r < c->rows; r++) {
            index[r] = r % 3 ? 4 : (int32_t)(r * 7 % TABLE); /* most to one destination */
            once[r] = (int32_t)(c->rows - 1 - r);
        }
        const array a[] = {{"y", ACT, c->flag ? check_normal(i, n, 1) : NULL, n, OUT},
                           {"x", ACT, check_normal(i + 1, table, 1), table, IN},
                           {"index", INT, index, c->rows, IN}};
        double *y = check_normal(i + 2, n, 1), *t = check_normal(i + 3, table, 1);
        const array b[] = {{"to acc", ACC, t, table, OUT},
                           {"to act", ACT, t, table, OUT},
                           {"y", ACT, y, n, IN},
                           {"index", INT, index, c->rows, IN}};
        const array s[] = {
            {"table", ACT, NULL, n, OUT}, {"y", ACT, y, n, IN}, {"index", INT, once, c->rows, IN}};
        compare("gather", a, 3, run_gather, c);
        compare("scatter", s, 3, run_scatter, c);
        compare("scatter_add", b, 4, run_scatter_add, c);
        check_free_all();
    }
}

/* --- pooling, patches, embeddings --- */

typedef struct {
    int32_t batch, tokens, first, width;
    bool lengths;
} pool_case;

static void run_mean_pool(su_device *d, void **m, const void *arguments)
{
    const pool_case *c = arguments;
    d->ops->mean_pool(d, m[0], m[1], m[2], c->batch, c->tokens, c->first, c->width);
}

static void run_mean_pool_backward(su_device *d, void **m, const void *arguments)
{
    const pool_case *c = arguments;
    d->ops->mean_pool_backward(d, m[0], m[1], m[2], c->batch, c->tokens, c->first, c->width);
}

static void pooling(void **state)
{
    (void)state;
    static const pool_case cases[] = {
        {1, 1, 0, 1, false}, {3, 9, 1, 65, true}, {2, 50, 1, 768, false}, {4, 17, 0, 24, true}};
    for (size_t i = 0; i < 4; i++) {
        const pool_case *c = &cases[i];
        const int64_t n = (int64_t)c->batch * c->tokens * c->width, pooled = (int64_t)c->batch * c->width;
        int32_t lengths[4] = {c->tokens - c->first, 1, 3, 2};
        const array to = {"lengths", INT, lengths, c->lengths ? c->batch : 0, IN};
        const array a[] = {{"y", ACT, NULL, pooled, OUT}, {"x", ACT, check_normal(i, n, 1), n, IN}, to};
        const array b[] = {
            {"dx", ACT, NULL, n, OUT}, {"dy", ACT, check_normal(i, pooled, 1), pooled, IN}, to};
        compare("mean_pool", a, 3, run_mean_pool, c);
        compare("mean_pool_backward", b, 3, run_mean_pool_backward, c);
        check_free_all();
    }
}

typedef struct {
    su_patches p;
    uint8_t *pixels;
    bool keeps;
} patch_case;

static void run_patches(su_device *d, void **m, const void *arguments)
{
    const patch_case *c = arguments;
    su_patches p = c->p;
    const size_t bytes = (size_t)p.batch * p.height * p.width * p.channels;
    void *images = NULL;
    su_error err = {0};
    if (d->ops->alloc(d, bytes, &images, &err)) fail_msg("%s", err.message);
    d->ops->upload(d, images, c->pixels, bytes);
    p.keep = m[1];
    d->ops->patches(d, m[0], images, &p);
    d->ops->release(d, images);
}

static void patches(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        patch_case c = {.p = {.batch = 3,
                              .channels = i ? 3 : 1,
                              .height = i ? 32 : 24,
                              .width = 16,
                              .patch = i ? 16 : 8,
                              .mean = {0.48f, 0.46f, 0.41f},
                              .std = {0.27f, 0.26f, 0.28f}}};
        const int32_t all = c.p.height / c.p.patch * (c.p.width / c.p.patch);
        const int64_t pixels = (int64_t)3 * c.p.height * c.p.width * c.p.channels;
        int32_t keep[] = {1, 0, 1};
        c.p.kept = i == 2 ? 1 : all;
        c.pixels = check_alloc(pixels, 1);
        for (int64_t k = 0; k < pixels; k++) c.pixels[k] = (uint8_t)(k * k * 31 + k * 7);
        const int64_t n = (int64_t)3 * c.p.kept * c.p.channels * c.p.patch * c.p.patch;
        const array a[] = {{"out", ACT, NULL, n, OUT}, {"keep", INT, keep, i == 2 ? 3 : 0, IN}};
        compare("patches", a, 2, run_patches, &c);
        check_free_all();
    }
}

static void run_normalise(su_device *d, void **m, const void *arguments)
{
    const rows_case *c = arguments;
    d->ops->normalise(d, m[0], m[1], m[3], c->rows, c->width);
    d->ops->normalise_backward(d, m[2], m[4], m[0], m[1], c->rows, c->width);
}

static void unit_embeddings(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROW_CASES; i++) {
        const rows_case *c = &row_cases[i];
        const int64_t n = c->rows * c->width;
        const array a[] = {{"z", ACC, NULL, n, OUT},
                           {"norm", ACC, NULL, c->rows, OUT},
                           {"dx", ACT, NULL, n, c->width > 1},
                           {"x", ACT, check_normal(i, n, 1), n, IN},
                           {"dz", ACC, check_normal(i + 1, n, 1), n, IN}};
        compare("normalise", a, 5, run_normalise, c);
        check_free_all();
    }
}

/* --- losses --- */

typedef struct {
    int64_t n;
    int32_t width;
    int streams; /* 0: InfoNCE and L_ATP of two */
    su_centroids form;
    double log_scale, third;
} pairs_case;

/* Rows of length 1, but for every third, which has another. */
static double *unit_rows(uint64_t seed, int64_t n, int32_t width, double third)
{
    double *x = check_normal(seed, n * width, 1);
    for (int64_t i = 0; i < n; i++) {
        double sum = 0;
        for (int32_t k = 0; k < width; k++) sum += x[i * width + k] * x[i * width + k];
        for (int32_t k = 0; k < width; k++) x[i * width + k] *= (i % 3 == 2 ? third : 1) / sqrt(sum);
    }
    return x;
}

/* loss, d_log_scale, log_scale, dz[streams], z[streams] */
static void run_infonce(su_device *d, void **m, const void *arguments)
{
    const pairs_case *c = arguments;
    su_error err = {0};
    if (d->ops->infonce(d, m[0], m[3], m[4], m[1], m[5], m[6], m[2], 0.75, c->n, c->width, &err))
        fail_msg("%s", err.message);
}

static void run_atp(su_device *d, void **m, const void *arguments)
{
    const pairs_case *c = arguments;
    d->ops->atp(d, m[0], m[3], m[4], m[5], m[6], 0.5, c->n, c->width);
}

static void run_cu(su_device *d, void **m, const void *arguments)
{
    const pairs_case *c = arguments;
    su_error err = {0};
    const void *z[SU_MAX_STREAMS];
    for (int k = 0; k < c->streams; k++) z[k] = m[3 + c->streams + k];
    if (d->ops->cu(d, m[0], m + 3, z, c->streams, c->form, 0.25, c->n, c->width, &err))
        fail_msg("%s", err.message);
}

static void losses_over_pairs(void **state)
{
    (void)state;
    static const pairs_case cases[] = {
        {2, 1, 0, 0, 2.5, 1},
        {33, 8, 0, 0, 2.5, 1},
        {130, 65, 0, 0, 2.5, 1},
        {300, 64, 0, 0, 2.5, 1},
        {700, 40, 0, 0, 2.5, 1},
        {700, 12, 0, 0, 5.5, 0.05}, /* rows whose largest scores lie hundreds apart */
        {2, 3, 1, SU_CENTROIDS_NORMALISED, 2.5, 1},
        {67, 16, 2, SU_CENTROIDS_NORMALISED, 2.5, 1},
        {150, 40, 4, SU_CENTROIDS_RAW, 2.5, 1},
        {700, 40, 2, SU_CENTROIDS_NORMALISED, 2.5, 1},
        {400, 65, 3, SU_CENTROIDS_RAW, 2.5, 1},
    };
    const double limit = su_tolerance(is_bf16() ? "cuda.bf16.pairs" : "cuda.f32");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const pairs_case *c = &cases[i];
        const int streams = c->streams ? c->streams : 2;
        const int64_t n = c->n * c->width;
        double *loss = check_normal(1, 1, 1), *slope = check_normal(2, 1, 1), *scale = check_zeros(1);
        scale[0] = c->log_scale;
        array a[MOST_ARRAYS] = {{"loss", ACC, loss, 1, OUT},
                                {"d_log_scale", ACC, slope, 1, !c->streams},
                                {"log_scale", ACC, scale, 1, IN}};
        for (int m = 0; m < streams; m++) {
            a[3 + m] = (array){"dz", ACC, check_zeros(n), n, OUT};
            a[3 + streams + m] = (array){"z", EXACT, unit_rows(10 * i + (uint64_t)m, c->n, c->width, c->third), n, IN};
        }
        if (c->streams) {
            compare_within("cu", a, 3 + 2 * streams, run_cu, c, limit);
        } else {
            compare_within("infonce", a, 7, run_infonce, c, limit);
            compare("atp", a, 7, run_atp, c);
        }
        check_free_all();
    }
}

typedef struct {
    int64_t rows;
    int32_t classes;
    double smoothing;
} class_case;

static void run_cross_entropy(su_device *d, void **m, const void *arguments)
{
    const class_case *c = arguments;
    d->ops->cross_entropy(d, m[0], m[1], m[2], m[3], m[4], c->smoothing, 0.5, c->rows, c->classes);
}

static void cross_entropy(void **state)
{
    (void)state;
    static const class_case cases[] = {{1, 2, 0}, {7, 33, 0.1}, {12, 64, 0}, {3, 30522, 0.1}, {5, 514, 0.2}};
    for (size_t i = 0; i < 5; i++) {
        const class_case *c = &cases[i];
        const int64_t n = c->rows * c->classes;
        int32_t targets[16];
        for (int64_t r = 0; r < c->rows; r++) targets[r] = r % 5 == 3 ? -1 : (int32_t)(r * 77 % c->classes);
        const array a[] = {{"loss", ACC, check_normal(i, 1, 1), 1, OUT},
                           {"losses", ACC, NULL, c->rows, OUT},
                           {"dlogits", ACT, NULL, n, OUT},
                           {"logits", ACT, check_normal(i, n, 3), n, IN},
                           {"targets", INT, targets, c->rows, IN}};
        compare("cross_entropy", a, 5, run_cross_entropy, c);
        check_free_all();
    }
}

/* --- optimiser, search --- */

static void run_adamw(su_device *d, void **m, const void *arguments)
{
    const su_adamw o = {.beta1 = 0.9,
                        .beta2 = 0.98,
                        .eps = 1e-6,
                        .grad_scale = 0.5,
                        .step = 7};
    /* Runs of many lengths, more of them than a launch takes; of whole packs where there are many elements. */
    const int64_t n = *(const int64_t *)arguments;
    su_adamw_run runs[300];
    int32_t count = 0;
    for (int64_t end = 0; end < n; count++) {
        end += n % 4 ? 1 + count % 7 * (count % 3) : 4 * (1 + count % 5);
        if (end > n || count == 299) end = n;
        runs[count] = (su_adamw_run){end, 1e-2 * (1 + count % 3), count % 2 ? 0.2 : 0};
    }
    d->ops->adamw(d, m[0], d->act != d->acc ? m[4] : NULL, m[1], m[2], m[3], &o, runs, count);
}

/* What adamw leaves in `narrow` are its weights, converted. */
static void the_new_weights_as_activations(const array *a, int64_t n)
{
    su_device *d = tested;
    su_error err = {0};
    void *m[5], *converted = send(d, &a[4]);
    for (int i = 0; i < 5; i++) m[i] = send(d, &a[i]);
    run_adamw(d, m, &n);
    d->ops->convert(d, converted, d->act, m[0], d->acc, n);
    uint16_t *got = check_alloc(n, sizeof *got), *want = check_alloc(n, sizeof *want);
    d->ops->download(d, got, m[4], (size_t)n * sizeof *got);
    d->ops->download(d, want, converted, (size_t)n * sizeof *want);
    if (d->ops->sync(d, &err)) fail_msg("%s", err.message);
    assert_memory_equal(got, want, (size_t)n * sizeof *got);
    for (int i = 0; i < 5; i++) d->ops->release(d, m[i]);
    d->ops->release(d, converted);
}

static void optimiser(void **state)
{
    (void)state;
    static const int64_t counts[] = {1, 63, 4096, 10001};
    for (size_t i = 0; i < 4; i++) {
        const int64_t n = counts[i];
        double *v = check_normal(3, n, 1), *g = check_normal(4, n, 1), sum[2];
        for (int64_t k = 0; k < n; k++) v[k] *= v[k];
        const array a[] = {{"w", ACC, check_normal(1, n, 1), n, OUT},
                           {"m", ACC, check_normal(2, n, 1), n, OUT},
                           {"v", ACC, v, n, OUT},
                           {"g", ACC, g, n, IN}};
        const array narrow = {"narrow", ACT, NULL, n, IN}; /* by a device whose activations are narrower than its weights */
        const array with[] = {a[0], a[1], a[2], a[3], narrow};
        compare_within("adamw", with, 5, run_adamw, &n, su_tolerance("cuda.f32"));
        if (is_bf16()) the_new_weights_as_activations(with, n);
        su_device *devices[] = {tested, cpu};
        for (int k = 0; k < 2; k++) {
            void *x = send(devices[k], &a[3]);
            devices[k]->ops->sum_squares(devices[k], &sum[k], x, n);
            devices[k]->ops->release(devices[k], x);
        }
        check_close("sum_squares", &sum[0], &sum[1], 1, 1e-12);
        check_free_all();
    }
}

/* Rows of x: as they are drawn; each many times; all the same; zeros; some NaN, one infinite; scores rise; scores rise to row 1,500;
 * scores are below zero. */
enum { PLAIN, AGAIN, SAME, ZEROS, GAPS, RISING, RISING_FIRST, BELOW };

typedef struct {
    int64_t queries, n;
    int32_t width, k;
    int rows;
} search_case;

/* Where width % 8 == 0, rows of bf16 take search_spans.cu, more than eight queries on a Hopper GPU search_hopper.cu: spans, tiles and
 * groups of queries cut short, lists that leave little room; a room too small for half of the queries, queues that are emptied on
 * the way, thresholds among NaN and equal scores. Below zero the score of a query or row that is not there would be the best. */
static const search_case searches[] = {
    {5, 20000, 24, 10, PLAIN}, {130, 9000, 16, 10, PLAIN}, {1030, 2100, 8, 3, PLAIN},     {3, 4000, 72, 900, PLAIN},
    {2, 20, 8, 20, PLAIN},     {9, 7000, 21, 10, PLAIN},   {5, 9001, 24, 10, AGAIN},      {5, 9001, 24, 10, GAPS},
    {4, 9001, 24, 10, RISING}, {12, 4000, 72, 900, PLAIN}, {11, 20, 8, 20, PLAIN},        {9, 1, 8, 1, PLAIN},
    {1, 9003, 128, 1, PLAIN},  {8, 5001, 264, 10, PLAIN},  {17, 5001, 264, 1, PLAIN},     {10, 9001, 24, 10, AGAIN},
    {10, 4001, 24, 10, SAME},  {3, 4001, 24, 10, SAME},    {10, 2001, 24, 10, ZEROS},     {3, 2001, 24, 10, ZEROS},
    {10, 9001, 24, 10, GAPS},  {10, 9001, 24, 10, RISING}, {12, 5000, 24, 10, RISING_FIRST}, {7, 5000, 24, 10, RISING_FIRST},
    {1033, 1700, 8, 3, BELOW}, {12, 1700, 8, 3, BELOW},    {7, 1701, 24, 10, BELOW},
};

static double *rows_to_search(const search_case *c)
{
    double *x = check_normal(2, c->n * c->width, 1);
    for (int64_t r = 0; r < c->n; r++)
        for (int32_t e = 0; e < c->width; e++) {
            double *at = x + r * c->width + e;
            if (c->rows == AGAIN) *at = x[r % 131 * c->width + e];
            if (c->rows == GAPS && r % 7 == 3) *at = NAN;
            if (c->rows == GAPS && r == 8000 && e == 0) *at = INFINITY;
            if (c->rows == SAME) *at = x[e];
            if (c->rows == ZEROS) *at = 0;
            if (c->rows == BELOW) *at = -fabs(*at);
            if (c->rows == RISING) *at = *at / 100 + (e == 0 ? (double)r / 500 : 0);
            if (c->rows == RISING_FIRST) *at = *at / 100 + (e == 0 ? (double)(r < 1500 ? r : 0) / 500 : 0);
        }
    return x;
}

/* Among rows of acc, and among rows of bf16, whose longest is told or not. */
static void the_best_k_are_those_of_the_cpu(void **state)
{
    (void)state;
    for (size_t i = 0; i < 3 * (sizeof searches / sizeof *searches); i++) {
        const search_case *c = &searches[i / 3];
        const int way = (int)(i % 3);
        const int64_t found = c->queries * c->k, numbers = c->n * c->width;
        int64_t *rows[2];
        float *scores[2];
        double *drawn = check_normal(1, c->queries * c->width, 1);
        for (int64_t e = 0; e < c->queries * c->width && c->rows == BELOW; e++) drawn[e] = fabs(drawn[e]);
        const array q = {"q", ACC, drawn, c->queries * c->width, IN};
        const array x = {"x", ACC, rows_to_search(c), numbers, IN};
        su_device *devices[] = {tested, cpu};
        uint16_t *halves = check_alloc(numbers, sizeof *halves);
        for (int64_t e = 0; e < numbers; e++) {
            const float f = (float)bf16_of(((const double *)x.values)[e]);
            uint32_t bits;
            memcpy(&bits, &f, sizeof bits);
            halves[e] = (uint16_t)(bits >> 16);
        }
        for (int k = 0; k < 2; k++) {
            su_device *d = devices[k];
            su_error err = {0};
            rows[k] = check_alloc(found, sizeof **rows), scores[k] = check_alloc(found, sizeof **scores);
            void *queries = send(d, &q), *all = send(d, &x);
            if (way) d->ops->upload(d, all, halves, (size_t)numbers * sizeof *halves);
            if (d->ops->top_k(d, rows[k], scores[k], queries, all, way ? SU_DTYPE_BF16 : d->acc,
                              way == 2 ? 40 : 0, c->queries, c->n, c->width, c->k, &err))
                fail_msg("%s", err.message);
            d->ops->release(d, queries);
            d->ops->release(d, all);
        }
        for (int64_t e = 0; e < found; e++)
            if (rows[0][e] != rows[1][e] || memcmp(&scores[0][e], &scores[1][e], sizeof **scores) != 0)
                fail_msg("case %d, way %d, query %d, place %d: row %d, score %.9g, not row %d, score %.9g", (int)i / 3, way,
                         (int)(e / c->k), (int)(e % c->k), (int)rows[0][e], (double)scores[0][e], (int)rows[1][e],
                         (double)scores[1][e]);
        check_free_all();
    }
}

static void the_largest_of_a_row_are_those_of_the_cpu(void **state)
{
    enum { ROWS = 5, MOST = 30522, K = 9 };
    static const int32_t classes[] = {9, 1000, 1002, 1001, MOST};
    (void)state;
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
        int32_t which[2][ROWS * K];
        float values[2][ROWS * K], log_sums[2][ROWS];
        const array x = {"x", ACT, check_normal(3, ROWS * classes[i], 4), ROWS * classes[i], IN};
        su_device *devices[] = {tested, cpu};
        for (int k = 0; k < 2; k++) {
            su_device *d = devices[k];
            su_error err = {0};
            void *rows = send(d, &x), *found[3];
            for (int j = 0; j < 3; j++)
                if (d->ops->alloc(d, sizeof which[0], &found[j], &err)) fail_msg("%s", err.message);
            d->ops->largest(d, found[0], found[1], found[2], rows, ROWS, classes[i], K);
            d->ops->download(d, which[k], found[0], sizeof which[k]);
            d->ops->download(d, values[k], found[1], sizeof values[k]);
            d->ops->download(d, log_sums[k], found[2], sizeof log_sums[k]);
            for (int j = 0; j < 3; j++) d->ops->release(d, found[j]);
            d->ops->release(d, rows);
        }
        assert_memory_equal(which[0], which[1], sizeof which[0]);
        assert_memory_equal(values[0], values[1], sizeof values[0]);
        for (int r = 0; r < ROWS; r++)
            assert_true(fabsf(log_sums[0][r] - log_sums[1][r]) <= 2e-6F * fabsf(log_sums[1][r]));
        check_free_all();
    }
}

/* What a decoder's step is made of: rows by index, a product, a norm, the largest of a row. */
typedef struct {
    su_device *d;
    void *table, *w, *b, *x, *y, *which, *values, *log_sums;
    int32_t *index;
    bool spoils; /* with a copy from the host, which no recording holds */
    int calls;
} sequence;

enum { SEQUENCE_ROWS = 5, SEQUENCE_WIDTH = 24 };

static void carry_out(void *context)
{
    sequence *s = context;
    const su_device_ops *ops = s->d->ops;
    static const int32_t first = 3;
    s->calls++;
    if (s->spoils) ops->upload(s->d, s->index, &first, sizeof first);
    ops->gather(s->d, s->x, false, s->table, s->index, SEQUENCE_ROWS, SEQUENCE_WIDTH);
    ops->linear(s->d, s->y, NULL, s->x, s->w, s->b, SU_ACT_GELU, SEQUENCE_ROWS, SEQUENCE_WIDTH, SEQUENCE_WIDTH);
    ops->zero(s->d, s->which, sizeof first);
    ops->norm(s->d, s->x, s->y, NULL, NULL, s->y, s->x, s->b, s->b, 1e-5, SEQUENCE_ROWS, SEQUENCE_WIDTH);
    ops->copy(s->d, s->y, s->x, (size_t)SEQUENCE_WIDTH * su_dtype_size(s->d->act));
    ops->largest(s->d, s->which, s->values, s->log_sums, s->y, SEQUENCE_ROWS, SEQUENCE_WIDTH, 1);
}

static void one_sequence(bool spoils)
{
    enum { TIMES = 5, NUMBERS = SEQUENCE_WIDTH * SEQUENCE_WIDTH };
    su_device *d = tested;
    su_error err = {0};
    su_recorded *recorded = NULL;
    const array w = {"w", ACT, check_normal(21, NUMBERS, 0.5), NUMBERS, IN};
    const array b = {"b", ACT, check_normal(22, SEQUENCE_WIDTH, 1), SEQUENCE_WIDTH, IN};
    const array table = {"table", ACT, check_normal(23, NUMBERS, 1), NUMBERS, IN};
    const array empty = {"empty", ACT, check_normal(24, NUMBERS, 1), NUMBERS, IN};
    sequence s = {.d = d, .table = send(d, &table), .w = send(d, &w), .b = send(d, &b), .x = send(d, &empty),
                  .y = send(d, &empty), .spoils = spoils};
    void **more[] = {&s.which, &s.values, &s.log_sums, (void **)&s.index};
    for (int i = 0; i < 4; i++)
        if (d->ops->alloc(d, SEQUENCE_ROWS * sizeof(int32_t), more[i], &err)) fail_msg("%s", err.message);
    for (int t = 0; t < TIMES; t++) {
        int32_t index[SEQUENCE_ROWS];
        float got[2][2 * SEQUENCE_ROWS];
        for (int32_t r = 0; r < SEQUENCE_ROWS; r++) index[r] = (7 * r + 3 * t) % SEQUENCE_WIDTH;
        for (int k = 0; k < 2; k++) { /* as it is; then repeated */
            d->ops->upload(d, s.index, index, sizeof index);
            s.calls = 0;
            if (k == 0) carry_out(&s);
            if (k == 1) assert_int_equal(d->ops->repeat(d, &recorded, carry_out, &s), !spoils && t > 0);
            assert_int_equal(s.calls, k == 0 || t == 0 ? 1 : spoils ? 1 + (t == 1) : t == 1);
            d->ops->download(d, got[k], s.values, SEQUENCE_ROWS * sizeof(float));
            d->ops->download(d, got[k] + SEQUENCE_ROWS, s.log_sums, SEQUENCE_ROWS * sizeof(float));
            d->ops->zero(d, s.values, SEQUENCE_ROWS * sizeof(float));
        }
        assert_memory_equal(got[0], got[1], sizeof got[0]);
        assert_true(got[0][0] > 0);
        if (d->ops->sync(d, &err)) fail_msg("%s", err.message);
    }
    d->ops->forget(d, recorded);
    void *all[] = {s.table, s.w, s.b, s.x, s.y, s.which, s.values, s.log_sums, s.index};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) d->ops->release(d, all[i]);
    check_free_all();
}

static void a_sequence_is_recorded_the_second_time_and_has_the_same_bits(void **state)
{
    (void)state;
    one_sequence(false);
}

static void what_cannot_be_recorded_is_carried_out_every_time(void **state)
{
    (void)state;
    one_sequence(true);
}

static void conversion(void **state)
{
    enum { N = 4104 };
    (void)state;
    float *x = check_alloc(N, sizeof *x), *back[2];
    uint16_t *half[2];
    su_device *devices[] = {tested, cpu};
    for (int i = 0; i < N; i++)
        x[i] = (float)su_rng_normal((su_rng_key){.seed = 3}, (uint64_t)i) * ldexpf(1, i % 60 - 30);
    x[0] = INFINITY, x[1] = -0.0f, x[2] = 3.3895314e38f;
    for (su_dtype to = SU_DTYPE_F16; to <= SU_DTYPE_BF16; to++)
        for (int64_t n = N - 1; n <= N; n++) {
            for (int k = 0; k < 2; k++) {
                su_device *d = devices[k];
                su_error err = {0};
                void *a = NULL, *b = NULL;
                half[k] = check_alloc(N, 2), back[k] = check_alloc(N, 4);
                if (d->ops->alloc(d, N * 4, &a, &err) || d->ops->alloc(d, N * 2, &b, &err))
                    fail_msg("%s", err.message);
                d->ops->upload(d, a, x, N * 4);
                d->ops->convert(d, b, to, a, SU_DTYPE_F32, n);
                d->ops->convert(d, a, SU_DTYPE_F32, b, to, n);
                d->ops->download(d, half[k], b, (size_t)n * 2);
                d->ops->download(d, back[k], a, (size_t)n * 4);
                d->ops->release(d, a);
                d->ops->release(d, b);
            }
            assert_memory_equal(half[0], half[1], (size_t)n * 2);
            assert_memory_equal(back[0], back[1], (size_t)n * 4);
        }
    check_free_all();
}

/* test_cuda_ops [DEVICE [TEST ...]]: these tests, or all. */
int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "cuda,bf16";
    su_error err = {0};
    tested = open_cuda(name);
    if (su_device_cpu(1, SU_DTYPE_F64, &cpu, &err)) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    printf("%s\n", tested->description);
    const struct CMUnitTest all[] = {
        cmocka_unit_test(linear_layers),
        cmocka_unit_test(attention),
        cmocka_unit_test(a_sequence_does_not_see_its_neighbour),
        cmocka_unit_test(attention_over_a_cache),
        cmocka_unit_test(layer_norm),
        cmocka_unit_test(elements),
        cmocka_unit_test(rows_by_index),
        cmocka_unit_test(pooling),
        cmocka_unit_test(patches),
        cmocka_unit_test(unit_embeddings),
        cmocka_unit_test(losses_over_pairs),
        cmocka_unit_test(cross_entropy),
        cmocka_unit_test(optimiser),
        cmocka_unit_test(the_best_k_are_those_of_the_cpu),
        cmocka_unit_test(the_largest_of_a_row_are_those_of_the_cpu),
        cmocka_unit_test(a_sequence_is_recorded_the_second_time_and_has_the_same_bits),
        cmocka_unit_test(what_cannot_be_recorded_is_carried_out_every_time),
        cmocka_unit_test(conversion),
    };
    enum { ALL = sizeof all / sizeof *all };
    struct CMUnitTest tests[ALL];
    int count = argc > 2 ? 0 : ALL;
    memcpy(tests, all, sizeof all);
    for (int a = 2; a < argc; a++) {
        int i = 0;
        while (i < ALL && strcmp(all[i].name, argv[a]) != 0) i++;
        if (i == ALL || count == ALL) {
            fprintf(stderr, "no test %s, or it is named too often\n", argv[a]);
            return 1;
        }
        tests[count++] = all[i];
    }
    int failed = _cmocka_run_group_tests("operations", tests, (size_t)count, NULL, NULL);
    su_device_close(tested);
    su_device_close(cpu);
    return failed;
}
