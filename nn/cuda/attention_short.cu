/* Attention in bf16 with tensor cores for sequences so short that a head fits into shared memory: a block has a
 * head, and the scores never leave the block.
 *
 * Rows lie in tiles [16 ceil(T/16)][DIM + 8], with zeros behind the length and the head's width. Beside them, in the
 * backward pass,
 *
 *     ds [keys][queries + 8]      the transpose of the formulas' ds (attention.cu), as bf16
 *
 * Backward, a warp owns TILES x 16 keys and walks over the queries, 16 at a time: it forms the transposes of p and
 * ds, adds to its rows of dk and dv in registers, and leaves ds behind. After one barrier it owns TILES x 16 queries,
 * whose dq = scale ds k. Five products in all, nothing is added by two warps, and nothing of size T x T goes to
 * memory.
 *
 * A block may have several heads, one after the other; then the tiles that dq does not read are filled with the next
 * head's rows while dq is formed. */
#include "nn/cuda/attention.h"
#include "nn/cuda/tensor.h"

enum { PAD = 8, PIECE = 16 /* rows and columns of a product's piece */ };

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
static constexpr bool OLD_CODE = true; /* for which the compiler needs more registers */
#else
static constexpr bool OLD_CODE = false;
#endif

/* Warps of the largest block, so that a thread of it has 128 registers, or 168. */
static constexpr int forward_warps(int tiles)
{
    return tiles == 1 ? 16 : 12;
}

static constexpr int whole_pieces(int rows)
{
    return (rows + PIECE - 1) / PIECE * PIECE;
}

DEVICE int pieces(int rows)
{
    return (rows + PIECE - 1) / PIECE * PIECE;
}

/* Starts filling tile [pieces(count)][DIM + PAD] with the rows of x; zeros from row `length` on. */
template <int DIM> DEVICE void fetch(bf16 *tile, const bf16 *x, int64_t stride, int length, int count, int dim)
{
    constexpr int ACROSS = DIM / 8;
    for (int e = (int)threadIdx.x; e < pieces(count) * ACROSS; e += (int)blockDim.x) {
        const int r = e / ACROSS, column = e % ACROSS * 8;
        const bool real = r < length && column < dim;
        copy_pack(tile + r * (DIM + PAD) + column, real ? x + r * stride + column : x, real);
    }
}

template <int DIM> DEVICE void prefetch_rows(const bf16 *x, int64_t stride, int count)
{
    for (int r = (int)threadIdx.x; r < count; r += (int)blockDim.x) prefetch(x + r * stride);
}

/* Bit n says whether element `first` + n is kept. */
DEVICE uint32_t kept_bits(const dropping &drop, uint64_t first)
{
    uint64_t bits = 0;
    UNROLL_BY(1)
    for (int k = 0; k < 9; k++) {
        const philox_words words = philox(drop.key, first / 4 + k);
        UNROLL for (int i = 0; i < 4; i++) bits |= (uint64_t)(words.w[i] >= drop.below) << (4 * k + i);
    }
    return (uint32_t)(bits >> (first % 4));
}

/* --- forward: a warp owns TILES x 16 queries, and walks over the keys --- */

template <int DIM, int TILES, bool DROP>
__global__ void __launch_bounds__(forward_warps(TILES) * WARP)
    attention_short_forward(attention_shape a, bf16 *o, float *lse, const bf16 *q, const bf16 *k, const bf16 *v, int stages)
{
    constexpr int STRIDE = DIM + PAD, OWN = TILES * PIECE,
                  STEP = DIM <= 64             ? 4 - TILES
                         : TILES == 1 && !DROP ? 2
                                               : 1 /* pieces of keys at once */;
    constexpr bool HELD = TILES == 1; /* whether the queries stay in registers */
    const int keys = pieces(a.tk), queries = pieces(a.tq), stage_size = (2 * keys + queries) * STRIDE;
    DYNAMIC_SHARED(bf16, tiles);                                                /* of a stage: keys, values, queries */
    uint32_t *kept = reinterpret_cast<uint32_t *>(tiles + stages * stage_size); /* [ceil(keys/32)][queries] */

    const int g = lane_id() / 4, t = lane_id() % 4, own = warp_id() * OWN, heads = a.batch * a.heads;
    const float scale = a.scale * LOG2_E;
    auto length_of = [&](int head) { return a.lengths ? a.lengths[head / a.heads] : a.tk; };
    /* A piece behind the last one computes the last one's rows, and stores none of them. */
    auto row_of = [&](int m) {
        const int row = own + m * PIECE;
        return row < queries ? row : queries - PIECE;
    };
    auto fetch_head = [&](int head, bf16 *ks) {
        const int64_t b = head / a.heads, h = head % a.heads * a.dim, at = b * a.tk * a.kv_stride + h;
        fetch<DIM>(ks, k + at, a.kv_stride, length_of(head), a.tk, a.dim);
        fetch<DIM>(ks + keys * STRIDE, v + at, a.kv_stride, length_of(head), a.tk, a.dim);
        fetch<DIM>(ks + 2 * keys * STRIDE, q + b * a.tq * a.q_stride + h, a.q_stride, a.tq, a.tq, a.dim);
    };

    int head = (int)blockIdx.x;
    bf16 *ks = tiles;
    fetch_head(head, ks);
    for (;;) {
        const int b = head / a.heads, h = head % a.heads, length = length_of(head), next = head + (int)gridDim.x;
        bf16 *vs = ks + keys * STRIDE, *qs = vs + keys * STRIDE;
        bf16 *other = stages > 1 && ks == tiles ? tiles + stage_size : tiles;
        copy_wait();
        __syncthreads(); /* the head is there, and nobody reads the one before */
        if (stages > 1 && next < heads) fetch_head(next, other);

        const int seen = visible_of(a, length, own + OWN < a.tq ? own + OWN - 1 : a.tq - 1); /* by any of the rows */
        const int by_all = visible_of(a, length, own < a.tq ? own : a.tq - 1);
        if constexpr (DROP) {
            for (int e = lane_id(); e < (seen + 31) / 32 * OWN; e += WARP) {
                const int i = own + e % OWN, word = e / OWN;
                if (i < queries) kept[word * queries + i] = kept_bits(a.drop, element_of(a, b, h, i, word * 32));
            }
            __syncwarp();
        }
        words4 held[TILES][DIM / 16];
        if constexpr (HELD) {
            UNROLL for (int m = 0; m < TILES; m++)
            {
                UNROLL for (int d = 0; d < DIM; d += 16) held[m][d / 16] = piece_a(qs, STRIDE, row_of(m), d);
            }
        }
        float out[TILES][DIM / 8][4] = {}, most[TILES][2], total[TILES][2] = {};
        UNROLL for (int m = 0; m < TILES; m++) most[m][0] = most[m][1] = -INFINITY;

        /* Takes in 16 N keys from j0 on. */
        auto step = [&](auto count, int j0) {
            constexpr int N = decltype(count)::value;
            float s[TILES][2 * N][4] = {};
            UNROLL for (int d = 0; d < DIM; d += 16)
            {
                words4 x[TILES];
                UNROLL for (int m = 0; m < TILES; m++)
                {
                    if constexpr (HELD)
                        x[m] = held[m][d / 16];
                    else
                        x[m] = piece_a(qs, STRIDE, row_of(m), d);
                }
                UNROLL for (int n = 0; n < N; n++)
                {
                    const words4 y = piece_b(ks, STRIDE, j0 + n * PIECE, d);
                    UNROLL for (int m = 0; m < TILES; m++)
                    {
                        multiply_add(s[m][2 * n], x[m], y.w[0], y.w[1]);
                        multiply_add(s[m][2 * n + 1], x[m], y.w[2], y.w[3]);
                    }
                }
            }
            UNROLL for (int m = 0; m < TILES; m++)
            {
                UNROLL for (int r = 0; r < 2; r++)
                {
                    const int i = own + m * PIECE + r * 8 + g;
                    if (j0 + N * PIECE > by_all) {
                        const int limit = visible_of(a, length, i) - j0 - 2 * t;
                        UNROLL for (int e = 0; e < 4 * N; e++)
                        {
                            float &x = s[m][e / 2][2 * r + e % 2];
                            if (e / 2 * 8 + e % 2 >= limit) x = -INFINITY;
                        }
                    }
                    float now = -INFINITY;
                    UNROLL for (int e = 0; e < 4 * N; e++) now = fmaxf(now, s[m][e / 2][2 * r + e % 2]);
                    now = fmaxf(now, __shfl_xor_sync(ALL_LANES, now, 1));
                    now = fmaxf(now, __shfl_xor_sync(ALL_LANES, now, 2));
                    now = fmaxf(most[m][r], now * scale);
                    const float shift = now == -INFINITY ? 0.0f : now, shrink = power_of_two(most[m][r] - shift);
                    float sum = 0;
                    UNROLL for (int e = 0; e < 4 * N; e++)
                    {
                        float &x = s[m][e / 2][2 * r + e % 2];
                        x = power_of_two(x * scale - shift);
                        sum += x;
                    }
                    if constexpr (DROP) {
                        UNROLL for (int n = 0; n < N; n++)
                        {
                            const int j = j0 + n * PIECE;
                            const uint32_t bits = kept[j / 32 * queries + row_of(m) + r * 8 + g] >> (j % 32 + 2 * t);
                            UNROLL for (int e = 0; e < 4; e++)
                            {
                                s[m][2 * n + e / 2][2 * r + e % 2] *= bits >> (e / 2 * 8 + e % 2) & 1 ? a.drop.scale : 0.0f;
                            }
                        }
                    }
                    total[m][r] = total[m][r] * shrink + sum; /* the lane's own; joined at the end */
                    most[m][r] = now;
                    UNROLL for (int n = 0; n < DIM / 8; n++)
                    {
                        out[m][n][2 * r] *= shrink;
                        out[m][n][2 * r + 1] *= shrink;
                    }
                }
            }
            UNROLL for (int n = 0; n < N; n++)
            {
                words4 p[TILES];
                UNROLL for (int m = 0; m < TILES; m++) p[m] = piece_of(s[m][2 * n], s[m][2 * n + 1]);
                UNROLL for (int d = 0; d < DIM; d += 16)
                {
                    const words4 y = piece_b_turned(vs, STRIDE, j0 + n * PIECE, d);
                    UNROLL for (int m = 0; m < TILES; m++)
                    {
                        multiply_add(out[m][d / 8], p[m], y.w[0], y.w[1]);
                        multiply_add(out[m][d / 8 + 1], p[m], y.w[2], y.w[3]);
                    }
                }
            }
        };
        int j0 = 0;
        for (; j0 + STEP * PIECE <= pieces(seen); j0 += STEP * PIECE) step(std::integral_constant<int, STEP>(), j0);
        for (; j0 < seen; j0 += PIECE) step(std::integral_constant<int, 1>(), j0);

        UNROLL for (int m = 0; m < TILES; m++)
        {
            float inverse[2];
            UNROLL for (int r = 0; r < 2; r++)
            {
                total[m][r] += __shfl_xor_sync(ALL_LANES, total[m][r], 1);
                total[m][r] += __shfl_xor_sync(ALL_LANES, total[m][r], 2);
                const int i = own + m * PIECE + r * 8 + g;
                const bool sees = visible_of(a, length, i) > 0;
                inverse[r] = sees ? 1.0f / total[m][r] : 0.0f;
                if (lse && t == 0 && i < a.tq)
                    lse[(int64_t)head * a.tq + i] = sees ? most[m][r] * LN_2 + logf(total[m][r]) : -INFINITY;
            }
            store_piece<DIM>(o + (int64_t)b * a.tq * a.o_stride + h * a.dim, a.o_stride, own + m * PIECE, a.tq, a.dim,
                             out[m], inverse[0], inverse[1]);
        }
        if (next >= heads) return;
        head = next;
        ks = other;
        if (stages == 1) {
            __syncthreads(); /* the head has been read */
            fetch_head(head, ks);
        }
    }
}

/* The same; two such blocks share a processor's registers where TILES = 1 and DIM = 64. */
static constexpr int backward_warps(int dim, int tiles, bool parts)
{
    return dim <= 64 && tiles == 1 && parts ? 6 : 8;
}

/* sums[d]: column sums of a warp's pieces, of which each lane brings its rows' (column n * 8 + 2t + e in sum[n][e]). */
template <int DIM> DEVICE void store_sums(float *sums, int dim, float (&sum)[DIM / 8][2], float scale)
{
    UNROLL for (int e = 0; e < DIM / 4; e++)
    {
        float &x = sum[e / 2][e % 2];
        UNROLL for (int step = 4; step < WARP; step *= 2) x += __shfl_xor_sync(ALL_LANES, x, step);
        x *= scale;
    }
    if (lane_id() >= 4) return;
    UNROLL for (int n = 0; n < DIM / 8; n++)
    {
        const int column = n * 8 + lane_id() * 2;
        if (column < dim) store(sums + column, sum[n]);
    }
}

/* --- backward: a warp owns TILES x 16 keys, then as many queries. In PARTS, where a head does not fit as a whole: of
 * its keys, `block` are there at once (with TILES = 2, all), one block after the other, and for each the queries,
 * `span` at once; a later block adds to what the same threads have stored of dq. Not in PARTS, whose registers do not
 * suffice: parts [sequence][warp][2][heads * dim], unless NULL, each warp's column sums of its dq and its dv --- */

template <int DIM, int TILES, bool DROP, bool PARTS>
__global__ void __launch_bounds__(backward_warps(DIM, TILES, PARTS) * WARP, DIM > 64 ? 1 : 3 - TILES)
    attention_short_backward(attention_shape a, bf16 *dq, bf16 *dk, bf16 *dv, float *parts, const bf16 *d_o, const bf16 *o,
                             const float *lse, const bf16 *q, const bf16 *k, const bf16 *v, int keys_at_once,
                             int queries_at_once)
{
    constexpr int STRIDE = DIM + PAD, OWN = TILES * PIECE, EACH = 2 * TILES /* rows of o of four lanes at once */;
    constexpr bool BLOCKS = PARTS && TILES == 1;
    constexpr int TAKEN = PARTS ? (int)PIECE : OWN; /* queries whose dq a warp forms at once */
    constexpr bool HELD = !PARTS && !(DROP && OLD_CODE); /* whether a warp's values stay in registers */
    const int block = BLOCKS ? keys_at_once : pieces(a.tk);
    const int span = PARTS ? queries_at_once : pieces(a.tq), across = span + PAD;
    DYNAMIC_SHARED(bf16, ks);
    bf16 *vs = ks + block * STRIDE, *qs = vs + block * STRIDE, *gs = qs + span * STRIDE, *dss = gs + span * STRIDE;
    float *shifts = reinterpret_cast<float *>(dss + block * across), *deltas = shifts + span;
    uint32_t *kept = reinterpret_cast<uint32_t *>(deltas + span); /* [ceil(block/32)][span] */

    const int g = lane_id() / 4, t = lane_id() % 4, own = warp_id() * OWN;
    const float scale = a.scale * LOG2_E;
    const int heads = a.batch * a.heads;
    auto q_at = [&](int head) { return (int64_t)(head / a.heads) * a.tq * a.q_stride + head % a.heads * a.dim; };
    auto kv_at = [&](int head) { return (int64_t)(head / a.heads) * a.tk * a.kv_stride + head % a.heads * a.dim; };
    auto o_at = [&](int head) { return (int64_t)(head / a.heads) * a.tq * a.o_stride + head % a.heads * a.dim; };
    auto length_of = [&](int head) { return a.lengths ? a.lengths[head / a.heads] : a.tk; };
    auto fetch_queries = [&](int head, int from) {
        const int left = a.tq - from, count = PARTS && left > span ? span : left;
        fetch<DIM>(qs, q + q_at(head) + from * a.q_stride, a.q_stride, count, count, a.dim);
        fetch<DIM>(gs, d_o + o_at(head) + from * a.o_stride, a.o_stride, count, count, a.dim);
    };
    auto fetch_keys = [&](bf16 *tile, const bf16 *x, int head, int base) {
        const int left = a.tk - base, count = BLOCKS && left > block ? block : left;
        fetch<DIM>(tile, x + kv_at(head) + base * a.kv_stride, a.kv_stride, length_of(head) - base, count, a.dim);
    };
    auto fetch_others = [&](int head, int base) {
        fetch_keys(vs, v, head, base);
        fetch_queries(head, 0);
    };

    int head = (int)blockIdx.x;
    fetch_others(head, 0);
    for (;;) {
        const int whole = length_of(head), next = head + (int)gridDim.x;

        /* Keys base .. base + block - 1. Below, keys count from base on. */
        auto part = [&](int base) {
            const int rest = whole - base, length = !BLOCKS ? whole : rest < 0 ? 0 : rest < block ? rest : block;
            const int keys = BLOCKS && a.tk - base > block ? block : a.tk - base, back = a.tk - a.tq - base;
            fetch_keys(ks, k, head, base);
            float out_k[TILES][DIM / 8][4] = {}, out_v[TILES][DIM / 8][4] = {};

            /* Queries start .. start + span - 1, which are on their way. */
            auto group = [&](int start) {
                const int left = a.tq - start, count = PARTS && left > span ? span : left, queries = pieces(count);
                /* Of every query the log-sum-exp (infinite where p is 0) and D: four lanes have one. The rows of o travel
         * while the others do. */
                for (int first = 0; first < queries * 4; first += EACH * (int)blockDim.x) {
                    uint4 packs[EACH][DIM / 32];
                    float sums[EACH];
                    UNROLL for (int n = 0; n < EACH; n++)
                    {
                        const int i = (first + n * (int)blockDim.x + (int)threadIdx.x) / 4, part = (int)threadIdx.x % 4 * 8;
                        sums[n] = INFINITY;
                        if (i < count && visible_of(a, whole, start + i) > 0)
                            sums[n] = lse[(int64_t)head * a.tq + start + i] * LOG2_E;
                        UNROLL for (int c = 0; c < DIM; c += 32)
                        {
                            uint4 &pack = packs[n][c / 32];
                            pack.x = pack.y = pack.z = pack.w = 0;
                            if (i < count && c + part < a.dim)
                                pack =
                                    *reinterpret_cast<const uint4 *>(o + o_at(head) + (start + i) * a.o_stride + c + part);
                        }
                    }
                    if (first == 0) {
                        copy_wait();
                        __syncthreads();
                    }
                    UNROLL for (int n = 0; n < EACH; n++)
                    {
                        const int i = (first + n * (int)blockDim.x + (int)threadIdx.x) / 4, part = (int)threadIdx.x % 4 * 8;
                        float sum = 0;
                        UNROLL for (int c = 0; c < DIM; c += 32)
                        {
                            float y[8] = {};
                            if (i < queries) load<8>(y, gs + i * STRIDE + c + part);
                            const uint4 &pack = packs[n][c / 32];
                            const uint32_t words[4] = {pack.x, pack.y, pack.z, pack.w};
                            UNROLL for (int w = 0; w < 4; w++)
                            {
                                sum += bits_float(words[w] << 16) * y[2 * w];
                                sum += bits_float(words[w] & 0xffff0000u) * y[2 * w + 1];
                            }
                        }
                        sum += __shfl_xor_sync(ALL_LANES, sum, 1);
                        sum += __shfl_xor_sync(ALL_LANES, sum, 2);
                        if (part == 0 && i < queries) {
                            shifts[i] = sums[n];
                            deltas[i] = sums[n] < INFINITY ? sum : 0.0f;
                        }
                    }
                }
                if constexpr (DROP) {
                    for (int e = (int)threadIdx.x; e < (length + 31) / 32 * span; e += (int)blockDim.x)
                        kept[e] =
                            kept_bits(a.drop, ((uint64_t)head * a.tq + start + e % span) * a.tk + base + e / span * 32);
                }
                words4 values[TILES][DIM / 16];
                UNROLL for (int m = 0; m < TILES && HELD; m++)
                {
                    UNROLL for (int d = 0; d < DIM; d += 16) values[m][d / 16] = piece_a(vs, STRIDE, own + m * PIECE, d);
                }
                __syncthreads();

                /* Queries before this one see none of the warp's keys; dq asks for steps of 32. */
                const int first_seen = own - back - start, from = a.causal && first_seen > 0 ? first_seen / 32 * 32 : 0;
                for (int i0 = own < length ? from : queries; i0 < queries; i0 += PIECE) {
                    float s[TILES][2][4] = {}, dp[TILES][2][4] = {};
                    const shared_place rows_q = shared_at(qs + i0 * STRIDE + place_b(STRIDE));
                    const shared_place rows_g = shared_at(gs + i0 * STRIDE + place_b(STRIDE));
                    UNROLL for (int d = 0; d < DIM; d += 16)
                    {
                        const words4 y = load_matrices<false>(rows_q, d), w = load_matrices<false>(rows_g, d);
                        UNROLL for (int m = 0; m < TILES; m++)
                        {
                            const words4 x = piece_a(ks, STRIDE, own + m * PIECE, d);
                            const words4 z = HELD ? values[m][d / 16] : piece_a(vs, STRIDE, own + m * PIECE, d);
                            multiply_add(s[m][0], x, y.w[0], y.w[1]);
                            multiply_add(s[m][1], x, y.w[2], y.w[3]);
                            multiply_add(dp[m][0], z, w.w[0], w.w[1]);
                            multiply_add(dp[m][1], z, w.w[2], w.w[3]);
                        }
                    }
                    /* Whether all of these keys are seen by all of these queries. */
                    const bool edge = own + OWN > length || (a.causal && own + OWN - 1 > start + i0 + back);
                    UNROLL for (int n = 0; n < 2; n++)
                    {
                        const int column = i0 + n * 8 + 2 * t;
                        float shift[2], delta[2];
                        load<2>(shift, shifts + column);
                        load<2>(delta, deltas + column);
                        uint32_t bits[2] = {};
                        if constexpr (DROP) {
                            const uint32_t *word = kept + own / 32 * span + column;
                            UNROLL for (int e = 0; e < 2; e++) bits[e] = word[e] >> (own % 32 + g);
                        }
                        UNROLL for (int m = 0; m < TILES; m++)
                        {
                            UNROLL for (int e = 0; e < 4; e++) s[m][n][e] = s[m][n][e] * scale - shift[e % 2];
                            if (edge) {
                                UNROLL for (int e = 0; e < 4; e++)
                                {
                                    const int j = own + m * PIECE + e / 2 * 8 + g;
                                    if (j >= length || (a.causal && j > start + column + e % 2 + back))
                                        s[m][n][e] = -INFINITY;
                                }
                            }
                            UNROLL for (int e = 0; e < 4; e++)
                            {
                                const float p = power_of_two(s[m][n][e]);
                                float keep = 1.0f;
                                if constexpr (DROP) keep = bits[e % 2] >> (m * PIECE + e / 2 * 8) & 1 ? a.drop.scale : 0.0f;
                                s[m][n][e] = DROP ? p * keep : p;
                                dp[m][n][e] = p * ((DROP ? dp[m][n][e] * keep : dp[m][n][e]) - delta[e % 2]);
                            }
                        }
                    }
                    words4 p[TILES], ds[TILES];
                    UNROLL for (int m = 0; m < TILES; m++)
                    {
                        p[m] = piece_of(s[m][0], s[m][1]);
                        ds[m] = piece_of(dp[m][0], dp[m][1]);
                        if (own + m * PIECE < block) {
                            uint32_t *to = reinterpret_cast<uint32_t *>(dss + (own + m * PIECE + g) * across + i0 + 2 * t);
                            to[0] = ds[m].w[0], to[4] = ds[m].w[2];
                            to += 4 * across;
                            to[0] = ds[m].w[1], to[4] = ds[m].w[3];
                        }
                    }
                    const shared_place turned_q = shared_at(qs + i0 * STRIDE + place_b_turned(STRIDE));
                    const shared_place turned_g = shared_at(gs + i0 * STRIDE + place_b_turned(STRIDE));
                    UNROLL for (int d = 0; d < DIM; d += 16)
                    {
                        const words4 y = load_matrices<true>(turned_g, d), w = load_matrices<true>(turned_q, d);
                        UNROLL for (int m = 0; m < TILES; m++)
                        {
                            multiply_add(out_v[m][d / 8], p[m], y.w[0], y.w[1]);
                            multiply_add(out_v[m][d / 8 + 1], p[m], y.w[2], y.w[3]);
                            multiply_add(out_k[m][d / 8], ds[m], w.w[0], w.w[1]);
                            multiply_add(out_k[m][d / 8 + 1], ds[m], w.w[2], w.w[3]);
                        }
                    }
                }
                const bool last_group = !PARTS || start + span >= a.tq;
                UNROLL for (int m = 0; m < TILES && last_group; m++)
                {
                    const int row = own + m * PIECE;
                    const int64_t to = kv_at(head) + base * a.kv_stride;
                    store_piece<DIM>(dv + to, a.kv_stride, row, keys, a.dim, out_v[m], 1.0f, 1.0f);
                    store_piece<DIM>(dk + to, a.kv_stride, row, keys, a.dim, out_k[m], a.scale, a.scale);
                }
                const int64_t row_of_parts = (int64_t)(head / a.heads) * ((int)blockDim.x / WARP) + warp_id();
                const int64_t own_parts = (row_of_parts * 2 * a.heads + head % a.heads) * a.dim;
                if (!PARTS && parts) {
                    float sum[DIM / 8][2];
                    UNROLL for (int e = 0; e < DIM / 4; e++)
                    {
                        float &x = sum[e / 2][e % 2] = 0;
                        UNROLL for (int m = 0; m < TILES; m++) x += out_v[m][e / 2][e % 2] + out_v[m][e / 2][e % 2 + 2];
                    }
                    store_sums<DIM>(parts + own_parts + a.heads * a.dim, a.dim, sum, 1.0f);
                }
                __syncthreads(); /* ds is whole; keys are read on */

                if (!last_group) {
                    fetch_queries(head, start + span);
                } else if (BLOCKS && base + block < a.tk) {
                    fetch_others(head, base + block);
                } else if (next < heads) {
                    fetch_others(next, 0);
                    prefetch_rows<DIM>(k + kv_at(next), a.kv_stride, a.tk);
                    prefetch_rows<DIM>(o + o_at(next), a.o_stride, a.tq);
                }
                float sum[DIM / 8][2] = {}; /* of dq */
                for (int i0 = warp_id() * TAKEN; i0 < queries; i0 += (int)blockDim.x / WARP * TAKEN) {
                    const int last = i0 + TAKEN < count ? i0 + TAKEN - 1 : count - 1,
                              seen = visible_of(a, whole, start + last) - base;
                    const int limit = seen < length ? seen : length;
                    float out[TAKEN / PIECE][DIM / 8][4] = {};
                    for (int j0 = 0; j0 < limit; j0 += PIECE) {
                        words4 x[TAKEN / PIECE];
                        UNROLL for (int m = 0; m < TAKEN / PIECE; m++) x[m] =
                            piece_a_turned(dss, across, j0, i0 + m * PIECE);
                        UNROLL for (int d = 0; d < DIM; d += 16)
                        {
                            const words4 y = piece_b_turned(ks, STRIDE, j0, d);
                            UNROLL for (int m = 0; m < TAKEN / PIECE; m++)
                            {
                                multiply_add(out[m][d / 8], x[m], y.w[0], y.w[1]);
                                multiply_add(out[m][d / 8 + 1], x[m], y.w[2], y.w[3]);
                            }
                        }
                    }
                    UNROLL for (int m = 0; m < TAKEN / PIECE; m++)
                    {
                        store_piece<DIM, BLOCKS>(dq + q_at(head), a.q_stride, start + i0 + m * PIECE, a.tq, a.dim, out[m],
                                                 a.scale, a.scale, base > 0);
                        if constexpr (!PARTS) {
                            const bool any = i0 + m * PIECE < queries; /* else these are rows of no query */
                            UNROLL for (int e = 0; e < DIM / 4; e++) sum[e / 2][e % 2] +=
                                any ? out[m][e / 2][e % 2] + out[m][e / 2][e % 2 + 2] : 0.0f;
                        }
                    }
                }
                if (!PARTS && parts) store_sums<DIM>(parts + own_parts, a.dim, sum, a.scale);
            };
            if constexpr (PARTS) {
                for (int start = 0; start < a.tq; start += span) {
                    if (start > 0) __syncthreads(); /* ds has been read */
                    group(start);
                }
            } else {
                group(0);
            }
        };
        if constexpr (BLOCKS) {
            for (int base = 0; base < a.tk; base += block) {
                if (base > 0) __syncthreads(); /* keys have been read */
                part(base);
            }
        } else {
            part(0);
        }
        if (next >= heads) return;
        head = next;
        __syncthreads(); /* keys have been read */
    }
}

bool su_cuda_attention_short(su_cuda *c, const attention_shape &a, bf16 *o, float *lse, const bf16 *q, const bf16 *k,
                             const bf16 *v)
{
    if (!a.packs || a.dim > 96 || !(a.scale > 0)) return false;
    const int keys = whole_pieces(a.tk), queries = whole_pieces(a.tq), dim = a.dim <= 64 ? 64 : 96;
    const int tiles = queries > forward_warps(1) * PIECE ? 2 : 1, warps = (int)su_cuda_parts(queries, tiles * PIECE);
    const size_t stage = (size_t)(2 * keys + queries) * (dim + PAD) * sizeof(bf16);
    const size_t kept = a.drop.below ? (size_t)(keys + 31) / 32 * queries * sizeof(uint32_t) : 0,
                 most = c->properties.shared;
    if (warps > forward_warps(tiles) || stage + kept > most) return false;
    if (dim > 64 && tiles > 1 && a.drop.below) return false; /* registers would not suffice */
    /* Where one block fills a processor, it loads a head while it has another. */
    const int stages = warps > 8 && 2 * stage + kept <= most ? 2 : 1;
    const int64_t heads = (int64_t)a.batch * a.heads, processors = c->properties.processors;
    const int64_t blocks = stages == 1 || heads < processors ? heads : processors;
    auto run = [&](auto kernel) {
        launch(c, "attention", blocks, warps * WARP, stages * stage + kept, kernel)(a, o, lse, q, k, v, stages);
    };
    auto by_drop = [&](auto width, auto rows) {
        constexpr int DIM = decltype(width)::value, TILES = decltype(rows)::value;
        if (!a.drop.below)
            run(attention_short_forward<DIM, TILES, false>);
        else if constexpr (DIM <= 64 || TILES == 1)
            run(attention_short_forward<DIM, TILES, true>);
    };
    auto by_tiles = [&](auto width) {
        tiles == 1 ? by_drop(width, std::integral_constant<int, 1>()) : by_drop(width, std::integral_constant<int, 2>());
    };
    dim == 64 ? by_tiles(std::integral_constant<int, 64>()) : by_tiles(std::integral_constant<int, 96>());
    return true;
}

/* The least number of blocks of at most `most` rows: rows of one, in whole pieces. */
static int block_of(int rows, int most)
{
    const int blocks = (rows + most - 1) / most;
    return whole_pieces((rows + blocks - 1) / blocks);
}

bool su_cuda_attention_short_backward(su_cuda *c, const attention_shape &a, bf16 *dq, bf16 *dk, bf16 *dv, float *dbq,
                                      float *dbv, const bf16 *d_o, const bf16 *o, const float *lse, const bf16 *q, const bf16 *k, const bf16 *v)
{
    if (!a.packs || a.dim > 96 || a.tq > 512 || a.tk > 512) return false;
    const int dim = a.dim <= 64 ? 64 : 96, whole = backward_warps(dim, 1, false) * PIECE;
    auto shared_of = [&](int block, int span) {
        const size_t halves = (size_t)(2 * (block + span) * (dim + PAD) + block * (span + PAD)) * sizeof(bf16);
        return halves + (size_t)(2 + (a.drop.below ? (block + 31) / 32 : 0)) * span * sizeof(float);
    };
    const int tiles = dim == 64 && a.tk > whole && a.tk <= 2 * whole ? 2 : 1;
    int block = whole_pieces(a.tk), span = whole_pieces(a.tq);
    const bool parts = dim > 64 || block > tiles * whole || shared_of(block, span) > c->properties.shared;
    if (parts) block = block_of(a.tk, backward_warps(dim, tiles, true) * tiles * PIECE), span = span < 128 ? span : 128;
    const size_t shared = shared_of(block, span);
    if (shared > c->properties.shared) return false;
    const int warps = (int)su_cuda_parts(block, tiles * PIECE);
    const int64_t heads = (int64_t)a.batch * a.heads, processors = c->properties.processors;
    const int64_t blocks = (tiles == 1 && dim == 64) || heads < processors ? heads : processors;
    const int64_t shares = (int64_t)a.batch * warps, width = (int64_t)a.heads * a.dim;
    float *own = NULL;
    if (!parts && (dbq || dbv)) {
        own = (float *)su_cuda_scratch(c, (size_t)(shares * 2 * width) * sizeof(float));
        if (!own) return true;
    }
    auto run = [&](auto kernel) {
        launch(c, "attention_backward", blocks, warps * WARP, shared, kernel)(a, dq, dk, dv, own, d_o, o, lse, q, k, v,
                                                                              block, span);
        float *const sums[2] = {dbq, dbv};
        if (parts)
            su_cuda_attention_sums(c, a, dq, dv, dbq, dbv);
        else
            su_cuda_join(c, sums, 2, own, shares, (int32_t)width);
    };
    auto by_drop = [&](auto width, auto rows, auto in_parts) {
        constexpr int DIM = decltype(width)::value, TILES = decltype(rows)::value;
        constexpr bool PARTS = decltype(in_parts)::value;
        a.drop.below ? run(attention_short_backward<DIM, TILES, true, PARTS>)
                     : run(attention_short_backward<DIM, TILES, false, PARTS>);
    };
    const std::integral_constant<int, 64> narrow;
    const std::integral_constant<int, 1> one;
    const std::integral_constant<int, 2> two;
    if (dim > 64)
        by_drop(std::integral_constant<int, 96>(), one, std::true_type());
    else if (tiles == 1)
        parts ? by_drop(narrow, one, std::true_type()) : by_drop(narrow, one, std::false_type());
    else
        parts ? by_drop(narrow, two, std::true_type()) : by_drop(narrow, two, std::false_type());
    return true;
}
