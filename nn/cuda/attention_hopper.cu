/* Attention in bf16 on a Hopper GPU for sequences of up to 272 tokens and heads of 64, without dropout or causal masks.
 *
 * Forward, a block has a head: scores are formed 64 queries x 64 keys at a time, in registers, and their softmax is kept up to
 * date with each.
 *
 * Backward, two blocks have a head. Both form scores and their gradients tile by tile, 64 rows of their own x some columns of
 * the whole head, and need no others' sums:
 *
 *                 own rows             whole       formed                                              in the end
 *   the first     keys      k, v       q, do       p^T [keys][queries], ds^T                           dv += p^T do, dk += ds^T q
 *   the second    queries   q, do      k, v        p [queries][keys], ds                               dq += ds k
 *
 * That is seven products where five would do, but nothing of size T x T leaves registers and no thread waits for another's
 * tile; an exchange of ds and barriers for it in every step are held to cost more (bench/LOG.md).
 *
 * Tiles are whole pieces; rows behind a sequence arrive as the next one's. They are set to zero, so that nothing there that is not
 * finite reaches this one.
 *
 * A block has two groups of 128 threads, which take 64 rows in turn. Where their number is odd the groups share the last:
 * each has half of the columns, and the first puts both together. */
#include "nn/cuda/attention.h"
#include "nn/cuda/hopper.h"

enum {
    HEAD = 64,                           /* dim */
    MOST_ROWS = 272,                     /* of a sequence, in pieces of 16: what leaves room for two blocks a processor */
    GROUPS = 2,
    THREADS = GROUPS * GROUP,
    PIECE = 64,                          /* keys at once, forward */
    STEP = 32,                           /* columns at once, backward */
    OWN_BYTES = GROUP_ROWS * SLICE_BYTES /* of one tile of own rows */
};

static int whole_rows(const attention_shape &a)
{
    return (a.tq + 15) / 16 * 16;
}

/* Of each matrix: boxes of 64 rows, and of half of a sequence's. */
struct attention_maps {
    su_cuda_map own[4], half[4];
};
enum { Q, K, V, DO };

enum { BARRIERS = 1 + 2 * GROUPS };

/* Shared memory: the two tiles of the whole head, rows x 64 each; tiles of own rows; numbers; barriers. */
struct hopper_rooms {
    int rows, own, numbers, barriers, bytes;
};
static hopper_rooms rooms_of(int rows, int own_tiles, int numbers)
{
    hopper_rooms r = {};
    r.rows = rows;
    r.own = 2 * rows * SLICE_BYTES;
    r.numbers = r.own + GROUPS * own_tiles * OWN_BYTES;
    r.barriers = r.numbers + numbers * (int)sizeof(float);
    r.bytes = 1024 + r.barriers + BARRIERS * (int)sizeof(arrivals);
    return r;
}

#if !defined(__CUDA_ARCH__) || defined(HOPPER_CODE)
/* A block's tiles begin at a multiple of 1,024 bytes. */
DEVICE char *tiles_in(char *raw)
{
#ifdef __CUDACC__
    return raw + (1024 - shared_address(raw) % 1024) % 1024;
#else
    return raw;
#endif
}

/* The compiler is to see that it is the warp's. */
DEVICE int group_id()
{
    return __shfl_sync(ALL_LANES, (int)threadIdx.x / GROUP, 0);
}

/* Barriers: what all have has come; own tiles of each group have; have been read. All threads; they may be used behind it. */
DEVICE void barriers_begin(arrivals *full)
{
    if (threadIdx.x == 0) {
        arrivals_begin(full, 1);
        for (int i = 0; i < GROUPS; i++) {
            arrivals_begin(full + 1 + i, 1);
            arrivals_begin(full + 1 + GROUPS + i, GROUP);
        }
        arrivals_ready();
    }
    __syncthreads();
}

/* A head of two matrices, from this column and row on, to tiles that follow each other. One thread. */
DEVICE void fetch_whole(char *to, int rows, const su_cuda_map &x, const su_cuda_map &y, int column, int row, arrivals *full)
{
    const int half = rows / 2;
    arrive_for(full, 2 * rows * SLICE_BYTES);
    for (int i = 0; i < 2; i++) {
        tensor_load(to + i * half * SLICE_BYTES, &x, column, row + i * half, full);
        tensor_load(to + (rows + i * half) * SLICE_BYTES, &y, column, row + i * half, full);
    }
}

/* Rows from .. to - 1 of both tiles become zeros. All threads, which have seen them arrive. */
DEVICE void clear_rows(char *tiles, int rows, int from, int to)
{
    if (from >= to) return;
    const uint4 zeros = {};
    for (int e = (int)threadIdx.x * 16; e < (to - from) * SLICE_BYTES; e += THREADS * 16) {
        *reinterpret_cast<uint4 *>(tiles + from * SLICE_BYTES + e) = zeros;
        *reinterpret_cast<uint4 *>(tiles + (rows + from) * SLICE_BYTES + e) = zeros;
    }
    tensor_store_ready(); /* products read what was written */
    __syncthreads();
}

/* A [16][16] at row `row`, column `column` of a tile of hopper.h. */
DEVICE words4 piece_of_tile(const char *tile, int row, int column)
{
    const int l = lane_id();
    int r = row + l % 16;
#ifdef __CUDACC__
    asm volatile("" : "+r"(r)); /* not sooner than it is needed: registers are scarce */
#endif
    return load_matrices<false>((const bf16 *)(const void *)(tile + r * SLICE_BYTES + (((column / 8 + l / 16) ^ r % 8) << 4)));
}

/* Powers of two that a row's scores may have above what is taken off them before it is raised, and its numbers scaled. */
static constexpr float SLACK = 8.0f;

#endif

/* --- forward: of own rows the queries, where the second group later leaves its numbers for the first; maxima and sums of its rows --- */

__global__ void __launch_bounds__(THREADS, 2)
    attention_hopper_forward(attention_shape a, const GRID_CONSTANT attention_maps maps, hopper_rooms at, bf16 *o, float *lse)
{
#if !defined(__CUDA_ARCH__) || defined(HOPPER_CODE)
    DYNAMIC_SHARED(char, raw);
    const int rows = at.rows;
    char *const room = tiles_in(raw), *const own = room + at.own;
    const int head = (int)blockIdx.x, b = head / a.heads, h = head % a.heads, tokens = a.tq, length = a.lengths ? a.lengths[b] : tokens;
    const int group = group_id(), thread = (int)threadIdx.x % GROUP, g = lane_id() / 4, t = lane_id() % 4;
    const int columns = (length + 15) / 16 * 16, units = (tokens + GROUP_ROWS - 1) / GROUP_ROWS, turns = units / GROUPS + units % GROUPS;
    const int64_t first = (int64_t)b * tokens;
    arrivals *full = (arrivals *)(void *)(room + at.barriers), *own_full = full + 1 + group, *own_taken = own_full + GROUPS;
    auto unit_of = [&](int n) { return n < units / GROUPS ? n * GROUPS + group : units - 1; };
    auto fetch_own = [&](int n) {
        arrive_for(own_full, OWN_BYTES);
        tensor_load(own + group * OWN_BYTES, &maps.own[Q], h * HEAD, (int)first + unit_of(n) * GROUP_ROWS, own_full);
    };
    barriers_begin(full);
    if (threadIdx.x == 0) fetch_whole(room, rows, maps.half[K], maps.half[V], h * HEAD, (int)first, full);
    if (thread == 0) fetch_own(0);

    const float scale = a.scale * LOG2_E;
    const matrix_place keys = matrix_at(room), values = matrix_at(room + rows * SLICE_BYTES);
    await(full, 0);
    clear_rows(room, rows, length, columns);
    for (int n = 0; n < turns; n++) {
        const bool shared = n >= units / GROUPS;
        const int half = (columns / 2 + 15) / 16 * 16, row = unit_of(n) * GROUP_ROWS + thread / WARP * 16;
        const int from = shared && group > 0 ? half : 0, to = shared && group == 0 ? half : columns;
        float out[HEAD / 8][4] = {}, most[2] = {-INFINITY, -INFINITY}, total[2] = {}; /* of a row: the lane's own, joined at the end */
        words4 queries[HEAD / 16];
        await(own_full, (uint32_t)(n & 1));
        UNROLL for (int k = 0; k < HEAD / 16; k++) queries[k] = piece_of_tile(own + group * OWN_BYTES, thread / WARP * 16, 16 * k);
        float shrink[2];
        /* Scores of keys c .. c + 8 N - 1; p in their place, and what out is to be scaled by: whether it is. */
        auto begin = [&](auto &s, int c) {
            group_fence();
            UNROLL for (int k = 0; k < HEAD / 16; k++) group_product(s, queries[k], columns_on(rows_on(keys, c), 16 * k), k > 0);
            group_commit();
        };
        auto softmax = [&](auto &s, int c) {
            constexpr int N = sizeof s / sizeof *s;
            group_done(s);
            if (c + 8 * N > length) {
                const int limit = length - c - 2 * t;
                UNROLL for (int j = 0; j < N; j++)
                {
                    UNROLL for (int e = 0; e < 4; e++) s[j][e] = 8 * j + e % 2 < limit ? s[j][e] : -INFINITY;
                }
            }
            float now[2];
            UNROLL for (int r = 0; r < 2; r++)
            {
                now[r] = -INFINITY;
                UNROLL for (int j = 0; j < N; j++) now[r] = fmaxf(now[r], fmaxf(s[j][2 * r], s[j][2 * r + 1]));
                now[r] = fmaxf(now[r], __shfl_xor_sync(ALL_LANES, now[r], 1));
                now[r] = fmaxf(now[r], __shfl_xor_sync(ALL_LANES, now[r], 2));
                now[r] *= scale;
            }
            const bool grown = __ballot_sync(ALL_LANES, now[0] > most[0] + SLACK || now[1] > most[1] + SLACK) != 0;
            UNROLL for (int r = 0; r < 2; r++)
            {
                now[r] = grown ? fmaxf(most[r], now[r]) : most[r];
                const float shift = now[r] == -INFINITY ? 0.0f : now[r];
                shrink[r] = power_of_two(most[r] - shift);
                most[r] = now[r];
                float sums[2] = {}; /* two, so that one is not waited for */
                UNROLL for (int j = 0; j < N; j++)
                {
                    UNROLL for (int e = 0; e < 2; e++)
                    {
                        float &x = s[j][2 * r + e];
                        x = power_of_two(x * scale - shift);
                        sums[e] += x;
                    }
                }
                total[r] = total[r] * shrink[r] + (sums[0] + sums[1]);
            }
            return grown;
        };
        auto rescale = [&](bool grown) {
            group_done(out);
            if (!grown) return;
            UNROLL for (int d = 0; d < HEAD / 8; d++)
            {
                UNROLL for (int e = 0; e < 4; e++) out[d][e] *= shrink[e / 2];
            }
        };
        auto gather = [&](auto &p, int c) {
            group_fence();
            UNROLL for (int j = 0; j < (int)(sizeof p / sizeof *p); j++) group_gather(out, p[j], rows_on(values, c + 16 * j));
            group_commit();
        };
        /* Of every piece p v is formed while the next piece's scores become p. */
        int c = from;
        if (from + PIECE <= to) {
            float s[PIECE / 8][4];
            words4 p[PIECE / 16];
            begin(s, c);
            group_wait<0>();
            softmax(s, c);
            UNROLL for (int j = 0; j < PIECE / 16; j++) p[j] = piece_of(s[2 * j], s[2 * j + 1]);
            UNROLL_BY(1) for (c += PIECE; c + PIECE <= to; c += PIECE)
            {
                begin(s, c);
                gather(p, c - PIECE);
                group_wait<1>();
                const bool grown = softmax(s, c);
                group_done(s); /* before the wait */
                group_wait<0>();
                rescale(grown);
                UNROLL for (int j = 0; j < PIECE / 16; j++) p[j] = piece_of(s[2 * j], s[2 * j + 1]);
            }
            gather(p, c - PIECE);
        }
        UNROLL_BY(1) for (; c < to; c += 16)
        {
            float s[2][4];
            begin(s, c);
            group_wait<0>();
            rescale(softmax(s, c));
            const words4 p[1] = {piece_of(s[0], s[1])};
            gather(p, c);
        }
        group_wait<0>();
        group_done(out);
        if (n + 1 < turns) { /* the group's own tile has been read: what has come of it was waited for */
            arrive(own_taken);
            if (thread == 0) {
                await(own_taken, (uint32_t)(n & 1));
                fetch_own(n + 1);
            }
        }
        UNROLL for (int r = 0; r < 2; r++)
        {
            total[r] += __shfl_xor_sync(ALL_LANES, total[r], 1);
            total[r] += __shfl_xor_sync(ALL_LANES, total[r], 2);
        }
        if (shared) {
            float *theirs = (float *)(void *)own + thread, *numbers = (float *)(void *)(room + at.numbers) + thread;
            __syncthreads();
            if (group == 1) {
                UNROLL for (int e = 0; e < HEAD / 2; e++) theirs[e * GROUP] = out[e / 4][e % 4];
                UNROLL for (int r = 0; r < 2; r++) numbers[2 * r * GROUP] = most[r], numbers[(2 * r + 1) * GROUP] = total[r];
            }
            __syncthreads();
            if (group == 1) return;
            UNROLL for (int r = 0; r < 2; r++)
            {
                const float there = numbers[2 * r * GROUP], now = fmaxf(most[r], there), shift = now == -INFINITY ? 0.0f : now;
                const float keep = power_of_two(most[r] - shift), take = power_of_two(there - shift);
                UNROLL for (int e = 0; e < HEAD / 4; e++)
                {
                    float &to_join = out[e / 2][2 * r + e % 2];
                    to_join = to_join * keep + theirs[(e / 2 * 4 + 2 * r + e % 2) * GROUP] * take;
                }
                total[r] = total[r] * keep + numbers[(2 * r + 1) * GROUP] * take;
                most[r] = now;
            }
        }
        float inverse[2];
        UNROLL for (int r = 0; r < 2; r++)
        {
            const int i = row + g + 8 * r;
            inverse[r] = length > 0 ? 1.0f / total[r] : 0.0f;
            if (lse && t == 0 && i < tokens) lse[(int64_t)head * tokens + i] = length > 0 ? most[r] * LN_2 + logf(total[r]) : -INFINITY;
        }
        store_piece<HEAD>(o + first * a.o_stride + h * HEAD, a.o_stride, row, tokens, HEAD, out, inverse[0], inverse[1]);
    }
#endif
}

/* --- backward: of own rows two tiles; shifts and D of all queries, and column sums of each warp --- */

#if !defined(__CUDA_ARCH__) || defined(HOPPER_CODE)
/* Of every query its log-sum-exp in powers of two, infinite where p is 0, and D: eight lanes have one. sums [warp][64]: with KEYS column
 * sums of dv, which are do's, since p of a query adds up to one; else zeros. */
template <bool KEYS>
DEVICE void query_numbers(const attention_shape &a, float *shifts, float *deltas, float *sums, int rows, int head, int length,
                          const bf16 *d_o, const bf16 *o, const float *lse)
{
    constexpr int TOGETHER = 3;
    const int tokens = a.tq, h = head % a.heads;
    const int64_t first = (int64_t)(head / a.heads) * tokens;
    [[maybe_unused]] float sum[8] = {};
    for (int i = (int)threadIdx.x; i < rows; i += THREADS)
        shifts[i] = i < tokens && length > 0 ? lse[(int64_t)head * tokens + i] * LOG2_E : INFINITY;
    UNROLL_BY(1) for (int i0 = (int)threadIdx.x / 8; i0 < rows; i0 += TOGETHER * THREADS / 8)
    {
        uint4 grads[TOGETHER], outs[TOGETHER];
        UNROLL for (int n = 0; n < TOGETHER; n++) /* all are on their way before the first is used */
        {
            const int i = i0 + n * THREADS / 8;
            grads[n] = outs[n] = uint4{};
            if (i >= tokens) continue;
            const int64_t from = (first + i) * a.o_stride + h * HEAD + threadIdx.x % 8 * 8;
            grads[n] = *reinterpret_cast<const uint4 *>(d_o + from);
            outs[n] = *reinterpret_cast<const uint4 *>(o + from);
        }
        UNROLL for (int n = 0; n < TOGETHER; n++)
        {
            const int i = i0 + n * THREADS / 8;
            const uint32_t u[4] = {grads[n].x, grads[n].y, grads[n].z, grads[n].w}, w[4] = {outs[n].x, outs[n].y, outs[n].z, outs[n].w};
            float d = 0;
            UNROLL for (int k = 0; k < 4; k++)
            {
                d += low_of(u[k]) * low_of(w[k]) + high_of(u[k]) * high_of(w[k]);
                if (KEYS) sum[2 * k] += low_of(u[k]), sum[2 * k + 1] += high_of(u[k]);
            }
            UNROLL for (int step = 1; step < 8; step *= 2) d += __shfl_xor_sync(ALL_LANES, d, step);
            if (threadIdx.x % 8 == 0 && i < rows) deltas[i] = d;
        }
    }
    if (!KEYS) {
        for (int e = (int)threadIdx.x; e < THREADS / WARP * HEAD; e += THREADS) sums[e] = 0;
    } else {
        UNROLL for (int k = 0; k < 8; k++)
        {
            UNROLL for (int step = 8; step < WARP; step *= 2) sum[k] += __shfl_xor_sync(ALL_LANES, sum[k], step);
        }
        if (lane_id() < 8) {
            UNROLL for (int k = 0; k < 8; k++) sums[warp_id() * HEAD + lane_id() * 8 + k] = length > 0 ? sum[k] : 0;
        }
    }
}

/* One of the two blocks of a head: KEYS, the first. */
template <bool KEYS>
DEVICE void attention_side(const attention_shape &a, const attention_maps &maps, char *room, const hopper_rooms &at, int head,
                           bf16 *dq, bf16 *dk, bf16 *dv, float *parts, const bf16 *d_o, const bf16 *o, const float *lse)
{
    const int b = head / a.heads, h = head % a.heads, tokens = a.tq, length = a.lengths ? a.lengths[b] : tokens, rows = at.rows;
    const int group = group_id(), thread = (int)threadIdx.x % GROUP, g = lane_id() / 4, t = lane_id() % 4;
    const int64_t first = (int64_t)b * tokens; /* row of the matrices */
    float *shifts = (float *)(void *)(room + at.numbers), *deltas = shifts + rows, *sums = deltas + rows;
    arrivals *full = (arrivals *)(void *)(room + at.barriers), *own_full = full + 1 + group, *own_taken = full + 1 + GROUPS + group;
    char *const own_x = room + at.own + group * 2 * OWN_BYTES, *const own_y = own_x + OWN_BYTES;
    constexpr int X = KEYS ? K : Q, Y = KEYS ? V : DO, WHOLE_X = KEYS ? Q : K, WHOLE_Y = KEYS ? DO : V;

    const int mine = KEYS ? length : tokens, columns = KEYS ? rows : (length + 15) / 16 * 16;
    const int units = columns > 0 ? (mine + GROUP_ROWS - 1) / GROUP_ROWS : 0, turns = units / GROUPS + units % GROUPS;
    auto unit_of = [&](int n) { return n < units / GROUPS ? n * GROUPS + group : units - 1; };
    auto fetch_own = [&](int n) {
        const int row = (int)first + unit_of(n) * GROUP_ROWS;
        arrive_for(own_full, 2 * OWN_BYTES);
        tensor_load(own_x, &maps.own[X], h * HEAD, row, own_full);
        tensor_load(own_y, &maps.own[Y], h * HEAD, row, own_full);
    };
    barriers_begin(full);
    if (units > 0 && threadIdx.x == 0) fetch_whole(room, rows, maps.half[WHOLE_X], maps.half[WHOLE_Y], h * HEAD, (int)first, full);
    if (turns > 0 && thread == 0) fetch_own(0);

    query_numbers<KEYS>(a, shifts, deltas, sums, rows, head, length, d_o, o, lse);
    __syncthreads();
    if (units > 0) {
        await(full, 0);
        clear_rows(room, rows, KEYS ? tokens : length, columns);
    }

    const float scale = a.scale * LOG2_E;
    [[maybe_unused]] const matrix_place x = matrix_at(own_x), y = matrix_at(own_y);
    const matrix_place all_x = matrix_at(room), all_y = matrix_at(room + rows * SLICE_BYTES);
    const int warp = thread / WARP;
    for (int n = 0; n < turns; n++) {
        const bool shared = n >= units / GROUPS;
        const int half = (columns / 2 + 15) / 16 * 16, unit = unit_of(n), row = unit * GROUP_ROWS + warp * 16;
        const int from = shared && group > 0 ? half : 0, to = shared && group == 0 && half < columns ? half : columns;
        float out_x[HEAD / 8][4] = {}, out_y[HEAD / 8][4] = {};
        [[maybe_unused]] float own_shift[2], own_delta[2];
        if constexpr (!KEYS) {
            UNROLL for (int r = 0; r < 2; r++)
            {
                const int i = row + g + 8 * r < rows ? row + g + 8 * r : rows - 1;
                own_shift[r] = shifts[i], own_delta[r] = deltas[i];
            }
        }
        await(own_full, (uint32_t)(n & 1));
        [[maybe_unused]] words4 held_x[HEAD / 16], held_y[HEAD / 16]; /* there are registers for the second's own rows */
        if constexpr (!KEYS) {
            UNROLL for (int k = 0; k < HEAD / 16; k++)
            {
                held_x[k] = piece_of_tile(own_x, warp * 16, 16 * k);
                held_y[k] = piece_of_tile(own_y, warp * 16, 16 * k);
            }
        }
        auto form = [&](auto &to, matrix_place own, const words4(&held)[HEAD / 16], matrix_place whole) {
            UNROLL for (int k = 0; k < HEAD; k += 16)
            {
                if constexpr (KEYS)
                    group_product(to, columns_on(own, k), columns_on(whole, k), k > 0);
                else
                    group_product(to, held[k / 16], columns_on(whole, k), k > 0);
            }
            group_commit();
        };
        /* Columns c .. c + 8 N - 1 of scores; where N = 2 there may be keys behind the length. */
        auto step = [&](auto count, int c) {
            constexpr int N = decltype(count)::value;
            float s[N][4], d[N][4];
            const matrix_place part_x = rows_on(all_x, c), part_y = rows_on(all_y, c);
            group_wait<0>(); /* registers do not suffice for what goes on and this */
            group_fence();
            form(s, x, held_x, part_x);
            form(d, y, held_y, part_y);
            [[maybe_unused]] float of_query[N][2];
            if constexpr (KEYS) {
                UNROLL for (int j = 0; j < N; j++) load<2>(of_query[j], shifts + c + 8 * j + 2 * t);
            }
            group_wait<1>();
            group_done(s);
            UNROLL for (int j = 0; j < N; j++)
            {
                UNROLL for (int e = 0; e < 4; e++)
                {
                    s[j][e] = power_of_two(s[j][e] * scale - (KEYS ? of_query[j][e % 2] : own_shift[e / 2]));
                    if (!KEYS && N == 2 && c + 8 * j + 2 * t + e % 2 >= length) s[j][e] = 0;
                }
            }
            if constexpr (KEYS) {
                UNROLL for (int j = 0; j < N; j++) load<2>(of_query[j], deltas + c + 8 * j + 2 * t);
            }
            group_done(s); /* before the wait */
            group_wait<0>();
            group_done(d);
            UNROLL for (int j = 0; j < N; j++)
            {
                UNROLL for (int e = 0; e < 4; e++) d[j][e] = s[j][e] * (d[j][e] - (KEYS ? of_query[j][e % 2] : own_delta[e / 2]));
            }
            words4 p[N / 2], ds[N / 2];
            UNROLL for (int j = 0; j < N / 2; j++)
            {
                ds[j] = piece_of(d[2 * j], d[2 * j + 1]);
                if (KEYS) p[j] = piece_of(s[2 * j], s[2 * j + 1]);
            }
            group_fence();
            UNROLL for (int j = 0; j < N / 2; j++)
            {
                if (KEYS) group_gather(out_y, p[j], rows_on(part_y, 16 * j));
                group_gather(out_x, ds[j], rows_on(part_x, 16 * j));
            }
            group_commit();
        };
        int c = from;
        const int whole = KEYS || to < length ? to : length;
        UNROLL_BY(1) for (; c + STEP <= whole; c += STEP) step(std::integral_constant<int, STEP / 8>(), c);
        UNROLL_BY(1) for (; c < to; c += 16) step(std::integral_constant<int, 2>(), c);
        group_wait<0>();
        group_done(out_x);
        group_done(out_y);
        if (n + 1 < turns) { /* the group's own tiles have been read */
            arrive(own_taken);
            if (thread == 0) {
                await(own_taken, (uint32_t)(n & 1));
                fetch_own(n + 1);
            }
        }
        if (shared) {
            float *other = (float *)(void *)(room + at.own) + thread; /* own tiles: both groups have read them */
            __syncthreads();
            UNROLL for (int e = 0; e < HEAD / 2 && group == 1; e++)
            {
                other[e * GROUP] = out_x[e / 4][e % 4];
                if (KEYS) other[(HEAD / 2 + e) * GROUP] = out_y[e / 4][e % 4];
            }
            __syncthreads();
            if (group == 1) break;
            UNROLL for (int e = 0; e < HEAD / 2; e++)
            {
                out_x[e / 4][e % 4] += other[e * GROUP];
                if (KEYS) out_y[e / 4][e % 4] += other[(HEAD / 2 + e) * GROUP];
            }
        }
        if (row + 16 > mine) { /* rows behind the last have numbers without a meaning */
            UNROLL for (int e = 0; e < HEAD / 2; e++)
            {
                const bool real = row + g + e % 4 / 2 * 8 < mine;
                out_x[e / 4][e % 4] = real ? out_x[e / 4][e % 4] : 0;
                if (KEYS) out_y[e / 4][e % 4] = real ? out_y[e / 4][e % 4] : 0;
            }
        }
        if constexpr (KEYS) {
            const int64_t to_row = first * a.kv_stride + h * HEAD;
            store_piece<HEAD>(dk + to_row, a.kv_stride, row, tokens, HEAD, out_x, a.scale, a.scale);
            store_piece<HEAD>(dv + to_row, a.kv_stride, row, tokens, HEAD, out_y, 1.0f, 1.0f);
        } else {
            store_piece<HEAD>(dq + first * a.q_stride + h * HEAD, a.q_stride, row, tokens, HEAD, out_x, a.scale, a.scale);
            if (parts) {
                UNROLL for (int e = 0; e < HEAD / 4; e++)
                {
                    float x = out_x[e / 2][e % 2] + out_x[e / 2][e % 2 + 2];
                    UNROLL for (int step = 4; step < WARP; step *= 2) x += __shfl_xor_sync(ALL_LANES, x, step);
                    if (lane_id() < 4) sums[warp_id() * HEAD + e / 2 * 8 + lane_id() * 2 + e % 2] += x * a.scale;
                }
            }
        }
    }
    /* Rows that have no unit. */
    const uint4 zeros = {};
    for (int e = units * GROUP_ROWS * 8 + (int)threadIdx.x; e < tokens * 8; e += THREADS) {
        const int64_t column = h * HEAD + e % 8 * 8, r = first + e / 8;
        if constexpr (KEYS) {
            *reinterpret_cast<uint4 *>(dk + r * a.kv_stride + column) = zeros;
            *reinterpret_cast<uint4 *>(dv + r * a.kv_stride + column) = zeros;
        } else {
            *reinterpret_cast<uint4 *>(dq + r * a.q_stride + column) = zeros;
        }
    }
    __syncthreads();
    if (!parts || threadIdx.x >= HEAD) return;
    float all = 0;
    for (int w = 0; w < THREADS / WARP; w++) all += sums[w * HEAD + threadIdx.x];
    parts[((int64_t)b * 2 + KEYS) * a.heads * HEAD + h * HEAD + threadIdx.x] = all;
}

#endif

/* parts [sequence][2][heads * dim], unless NULL: column sums of a sequence's dq and its dv. */
__global__ void __launch_bounds__(THREADS, 2)
    attention_hopper_backward(attention_shape a, const GRID_CONSTANT attention_maps maps, hopper_rooms at, bf16 *dq, bf16 *dk,
                              bf16 *dv, float *parts, const bf16 *d_o, const bf16 *o, const float *lse)
{
#if !defined(__CUDA_ARCH__) || defined(HOPPER_CODE)
    DYNAMIC_SHARED(char, raw);
    char *const room = tiles_in(raw);
    const int head = (int)blockIdx.x / 2;
    if (blockIdx.x % 2 == 0)
        attention_side<true>(a, maps, room, at, head, dq, dk, dv, parts, d_o, o, lse);
    else
        attention_side<false>(a, maps, room, at, head, dq, dk, dv, parts, d_o, o, lse);
#endif
}

/* Whether the shape is one of theirs; then the maps of q, k, v and d_o (NULL: none). A failure is recorded. */
static bool take(su_cuda *c, const attention_shape &a, attention_maps &maps, const bf16 *q, const bf16 *k, const bf16 *v, const bf16 *d_o)
{
    const int64_t all = (int64_t)a.batch * a.tq, width = (int64_t)a.heads * HEAD;
    if (!su_cuda_hopper(c) || !a.packs || a.dim != HEAD || a.tq != a.tk || whole_rows(a) > MOST_ROWS || a.causal || a.drop.below ||
        all > INT32_MAX)
        return false;
    const struct {
        const bf16 *at;
        int64_t stride;
    } of[4] = {{q, a.q_stride}, {k, a.kv_stride}, {v, a.kv_stride}, {d_o, a.o_stride}};
    maps = {};
    if (c->failed) return true;
    su_cuda_here(c);
    for (int i = 0; i < 4; i++)
        if (of[i].at && (!su_cuda_check(c, c->rt->map(&maps.own[i], of[i].at, all, width, of[i].stride * 2, GROUP_ROWS), "attention") ||
                         !su_cuda_check(c, c->rt->map(&maps.half[i], of[i].at, all, width, of[i].stride * 2, whole_rows(a) / 2), "attention")))
            break;
    return true;
}

bool su_cuda_attention_hopper(su_cuda *c, const attention_shape &a, bf16 *o, float *lse, const bf16 *q, const bf16 *k, const bf16 *v)
{
    attention_maps maps;
    if (!take(c, a, maps, q, k, v, NULL)) return false;
    const hopper_rooms at = rooms_of(whole_rows(a), 1, 4 * GROUP);
    launch(c, "attention", (int64_t)a.batch * a.heads, THREADS, (size_t)at.bytes, attention_hopper_forward)(a, maps, at, o, lse);
    return true;
}

bool su_cuda_attention_hopper_backward(su_cuda *c, const attention_shape &a, bf16 *dq, bf16 *dk, bf16 *dv, float *dbq,
                                       float *dbv, const bf16 *d_o, const bf16 *o, const float *lse, const bf16 *q, const bf16 *k, const bf16 *v)
{
    attention_maps maps;
    if (!take(c, a, maps, q, k, v, d_o)) return false;
    const int64_t width = (int64_t)a.heads * HEAD;
    float *parts = NULL;
    if (dbq || dbv) {
        parts = (float *)su_cuda_scratch(c, (size_t)((int64_t)a.batch * 2 * width) * sizeof(float));
        if (!parts) return true;
    }
    const hopper_rooms at = rooms_of(whole_rows(a), 2, 2 * whole_rows(a) + THREADS / WARP * HEAD);
    launch(c, "attention_backward", (int64_t)a.batch * a.heads * 2, THREADS, (size_t)at.bytes,
           attention_hopper_backward)(a, maps, at, dq, dk, dv, parts, d_o, o, lse);
    float *const sums[2] = {dbq, dbv};
    if (parts) su_cuda_join(c, sums, 2, parts, a.batch, (int32_t)width);
    return true;
}
