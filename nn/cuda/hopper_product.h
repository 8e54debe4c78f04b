/* C = A B^T in bf16 on a Hopper GPU, with something of our own done to C before it is written, or instead of writing it.
 *
 *     A [m, k], B [n, k], rows of k elements that are 16-byte aligned; C [m, n]
 *
 * One block a multiprocessor goes from tile to tile, 128 rows x 256 columns of C. Its groups of 128 threads:
 *
 *   the first   one thread brings slices of A and B, 64 columns at a time, to one of some places in shared memory; blocks of a
 *               cluster have the same columns of C, and each brings a part of B's slice for all.
 *               (Finish::STAGED) Its three other warps finish a tile while the next is multiplied
 *   two         multiply: 64 rows x 256 columns of C each, in registers. Where it is staged they leave them in shared memory,
 *               rounded to bf16, and go on; else the second begins two slices behind the first, so that one uses its numbers
 *               while the other has the tensor cores for itself
 *
 * Finish, a structure of what the work needs, has the numbers. Staged is for work that takes longer than a few hundred cycles, and
 * was the faster of both for GELU on an H200 (bench/LOG.md).
 *
 *   STAGED = false   Each thread of a multiplying group has its own, which may keep numbers from tile to tile. All of them call
 *                    void prepare(int64_t row, int64_t column): before a tile's products; time to fetch what take needs
 *                    void take(float (&d)[GROUP_NUMBERS], int64_t row, int64_t column, const outlet &out): numbers of C, as
 *                    hopper.h says, of 64 rows from `row` on and 256 columns from `column` on. Rows from m and columns from n on
 *                    are there too, made of zeros. d may be changed
 *                    void end(): behind their last tile
 *   STAGED = true    const bf16 *bias: [n], added before C is rounded, or NULL; BIASED = false: there is none
 *                    By a thread that has the packs e = 0 .. 3 of eight numbers, 64 columns apart, of some rows of a tile:
 *                    void begin(): a tile begins
 *                    fetched fetch(at, there) const: what finish will need, long before; nothing is read unless it is there
 *                    void finish(uint4 c, const fetched &f, int64_t at, bool there, int e): eight numbers of C, from element
 *                    `at` of a matrix [m, n] on; zeros without a meaning where they are not there
 *                    void end(share, column, columns): the rows of the thread's warp are finished, that is a share of a tile,
 *                    numbered through; the warp's lanes l, l + 8, l + 16, l + 24 have the same packs; pack e of lane l begins
 *                    at `column` + 64 e, `columns` of C are there. Whole warps
 *
 * A thread of a warp has two rows of the warp's WARP_ROWS, g and g + 8 with g = lane / 4, and with t = lane % 4 the columns
 * 8 j + 2 t + e, j = 0 .. 31, e = 0, 1: d[4 j + 2 r + e].
 *
 * The order of sums is one, whatever the grid: a product has the same bits each time. */
#ifndef SU_NN_CUDA_HOPPER_PRODUCT_H
#define SU_NN_CUDA_HOPPER_PRODUCT_H

#include "nn/cuda/hopper.h"
#include "nn/cuda/launch.h"

enum {
    TILE_ROWS = 2 * GROUP_ROWS,
    TILE_COLUMNS = GROUP_COLUMNS,
    A_BYTES = TILE_ROWS * SLICE_BYTES,
    B_BYTES = TILE_COLUMNS * SLICE_BYTES,
    SLICES_BYTES = A_BYTES + B_BYTES,
    WARP_ROWS = 16,
    BOX_PACKS = SLICE / 8, /* of eight columns */
    BOX_BYTES = WARP_ROWS * SLICE_BYTES,
    BOXES = 2, /* of a warp */
    BEHIND = 2,  /* slices */
    SHARES = 3,  /* warps that finish staged tiles */
    QUADS = GROUP_ROWS / 4,
    THREAD_PACKS = 4,
};

/* Shared memory: slices, 1,024-byte aligned; then boxes, or a staged tile and the biases of two in turn; barriers. */
template <class Finish> struct hopper_plan {
    static constexpr bool STAGED = Finish::STAGED;
    static constexpr int PLACES = STAGED ? 3 : 4;
    static constexpr int REST_AT = PLACES * SLICES_BYTES, BIAS_AT = REST_AT + TILE_ROWS * TILE_COLUMNS * 2;
    static constexpr int BARRIERS_AT = STAGED ? BIAS_AT + 2 * TILE_COLUMNS * 2 : REST_AT + 2 * GROUP / WARP * BOXES * BOX_BYTES;
    static constexpr size_t SHARED_BYTES = 1024 + BARRIERS_AT + 128;
};

struct hopper_shape {
    int64_t m, n;
    int slices;           /* of k */
    int tiles_m, tiles_n; /* tiles_m: a multiple of the cluster */
    bool down;            /* tiles follow each other down the columns of C, not along its rows */
};

/* Where a block's part of the n-th round of tiles lies. In 32 bits: a division in 64 takes as long as some products. */
template <int CLUSTER> DEVICE void tile_of(int64_t &row, int64_t &column, int round, int place, const hopper_shape &p)
{
    const uint32_t groups = (uint32_t)p.tiles_m / CLUSTER, across = (uint32_t)p.tiles_n;
    const uint32_t g = (uint32_t)round * (gridDim.x / CLUSTER) + blockIdx.x / CLUSTER, by = p.down ? groups : across;
    const uint32_t line = g / by, along = g - line * by;
    row = (int64_t)((p.down ? along : line) * CLUSTER + (uint32_t)place) * TILE_ROWS;
    column = (int64_t)(p.down ? line : along) * TILE_COLUMNS;
}
template <int CLUSTER> DEVICE int rounds_of(const hopper_shape &p)
{
    const uint32_t all = (uint32_t)p.tiles_m / CLUSTER * (uint32_t)p.tiles_n, step = gridDim.x / CLUSTER, first = blockIdx.x / CLUSTER;
    return first < all ? (int)((all - first + step - 1) / step) : 0;
}

/* A place among PLACES, and how often all have been gone through. */
template <int PLACES> struct turn {
    int at = 0;
    uint32_t parity = 0;
    DEVICE_MEMBER void next()
    {
        if (++at == PLACES) at = 0, parity ^= 1;
    }
};

/* The first of a warp's rows, where its group's begin at `row`; the compiler is to see that it is the warp's. */
DEVICE int64_t warp_row(int64_t row)
{
    return row + __shfl_sync(ALL_LANES, (int)threadIdx.x % GROUP / WARP, 0) * WARP_ROWS;
}

/* A matrix [m, n] of bf16 that a product writes through its outlets, or NULL. Rows are `stride` elements apart. */
struct hopper_output {
    void *at;
    int64_t stride;
};

/* A warp's way out: 64 columns of its rows are put together in one of its boxes, in turns, and the copy engine writes them to an
 * output while the warp goes on. Whole warps; what lies outside the matrix is not written. */
struct outlet {
    char *boxes;
    const su_cuda_map *output;

    /* Words of a thread's two rows, w[r][j] of pack j, to the output from this row and column on. */
    DEVICE_MEMBER void write(int box, int64_t row, int64_t column, const uint32_t (&w)[2][BOX_PACKS]) const
    {
        const int g = lane_id() / 4, at = g * SLICE_BYTES + lane_id() % 4 * 4 + (g << 4);
        char *to = boxes + box * BOX_BYTES;
        if (lane_id() == 0) tensor_store_wait<BOXES - 1>();
        __syncwarp();
        UNROLL for (int r = 0; r < 2; r++)
        {
            UNROLL for (int j = 0; j < BOX_PACKS; j++) *(uint32_t *)(void *)(to + r * 8 * SLICE_BYTES + (at ^ j << 4)) = w[r][j];
        }
        tensor_store_ready();
        __syncwarp();
        if (lane_id() == 0) tensor_store(output, (int)column, (int)row, to);
    }
    DEVICE_MEMBER void end() const
    {
        if (lane_id() == 0) tensor_store_wait<0>();
    }
};

/* A thread's columns are added up over the warp a part at a time, so that registers suffice. */
enum { PARTS = 2, PART_PACKS = TILE_COLUMNS / 8 / PARTS, PART_COLUMNS = 2 * PART_PACKS, FOLDED = PART_COLUMNS / 8 };

/* Lanes LANES apart share what both have: each is left with the sums of half of it. */
template <int HALF, int LANES> DEVICE void fold(float (&v)[PART_COLUMNS])
{
    const bool high = lane_id() & LANES;
    UNROLL for (int i = 0; i < HALF; i++)
    {
        const float keep = high ? v[HALF + i] : v[i], give = high ? v[i] : v[HALF + i];
        v[i] = keep + __shfl_xor_sync(ALL_LANES, give, LANES);
    }
}
/* A number of each column of a part, v[2 j + e], is added up over the warp; a lane is left with FOLDED of them, the k-th for the column
 * folded_column(part, k) of the tile. */
DEVICE void fold_columns(float (&v)[PART_COLUMNS])
{
    fold<PART_COLUMNS / 2, 16>(v);
    fold<PART_COLUMNS / 4, 8>(v);
    fold<PART_COLUMNS / 8, 4>(v);
}
DEVICE int folded_column(int part, int k)
{
    const int lane = lane_id(), first = lane / 16 * (PART_PACKS / 2) + lane / 8 % 2 * (PART_PACKS / 4) + lane / 4 % 2 * (PART_PACKS / 8);
    return (part * PART_PACKS + first + k / 2) * 8 + lane % 4 * 2 + k % 2;
}

/* Pack p of row r of a staged tile [128][256]: four tiles of 64 columns. */
DEVICE char *staged_at(char *staged, int row, int pack)
{
    return staged + pack / 8 * (TILE_ROWS * SLICE_BYTES) + row * SLICE_BYTES + ((pack % 8 ^ row % 8) << 4);
}

/* For Finish::finish. */
DEVICE void unpack(float (&v)[8], uint4 packs)
{
    const uint32_t words[4] = {packs.x, packs.y, packs.z, packs.w};
    UNROLL for (int e = 0; e < 8; e++) v[e] = e % 2 ? high_of(words[e / 2]) : low_of(words[e / 2]);
}

/* The tile whose first number is C[row][column], by a warp: every third four rows. WHOLE: all of it is within C. */
template <bool WHOLE, class Finish>
DEVICE void finish_tile(const Finish &given, const hopper_shape &p, char *staged, arrivals *written, arrivals *taken, uint32_t parity,
                        int64_t row, int64_t column, int share)
{
    const int lane = lane_id(), own_row = lane / 8, pack = lane % 8;
    const int64_t rows = p.m - row, columns = p.n - column < TILE_COLUMNS ? p.n - column : (int64_t)TILE_COLUMNS; /* rows <= 0: none */
    const int64_t first = (row + own_row) * p.n + column + pack * 8;
    Finish own = given;
    typename Finish::fetched now[THREAD_PACKS], later[THREAD_PACKS];
    auto there = [&](int quad, int e) { return WHOLE || (quad * 4 + own_row < rows && (pack + 8 * e) * 8 < columns); };
    auto fetch = [&](int quad) { /* behind the last: the last again */
        const int q = quad < 2 * QUADS ? quad : quad - SHARES;
        UNROLL for (int e = 0; e < THREAD_PACKS; e++) later[e] = given.fetch(first + q * 4 * p.n + e * SLICE, there(q, e));
    };
    int quad = share;
    own.begin();
    fetch(quad);
    for (int half = 0; half < 2; half++) {
        await(written + half, parity);
        UNROLL_BY(1) for (; quad < (half + 1) * QUADS; quad += SHARES)
        {
            uint4 c[THREAD_PACKS];
            UNROLL for (int e = 0; e < THREAD_PACKS; e++)
            {
                now[e] = later[e];
                c[e] = *reinterpret_cast<const uint4 *>(staged_at(staged, quad * 4 + own_row, pack + 8 * e));
            }
            fetch(quad + SHARES);
            UNROLL for (int e = 0; e < THREAD_PACKS; e++)
                own.finish(c[e], now[e], first + quad * 4 * p.n + e * SLICE, there(quad, e), e);
        }
        __syncwarp();
        if (lane == 0) arrive(taken + half);
    }
    own.end(row / TILE_ROWS * SHARES + share, column + pack * 8, rows > 0 ? (int)columns - pack * 8 : 0);
}

/* What a finishing warp does, one of three. The rows of a half of a tile are taken as soon as their group has written them; `taken`
 * tells that group that it may write the next tile's, whose bias has its place by then. */
template <int CLUSTER, class Finish>
DEVICE void finish_tiles(const Finish &given, const hopper_shape &p, char *staged, uint32_t *bias, arrivals *written, arrivals *taken,
                         int rounds, int place, int share)
{
    constexpr int WORDS = TILE_COLUMNS / 2;
    int64_t row, column, next_row, next_column;
    auto put_bias = [&](int i, int64_t from) {
        if constexpr (Finish::BIASED) {
            UNROLL_BY(1) for (int w = share * WARP + lane_id(); w < WORDS; w += SHARES * WARP)
            {
                const int64_t c = from + 2 * w;
                bias[(i & 1) * WORDS + w] = given.bias && c < p.n ? *reinterpret_cast<const uint32_t *>(given.bias + c) : 0u;
            }
        }
    };
    if (rounds == 0) return;
    tile_of<CLUSTER>(row, column, 0, place, p);
    put_bias(0, column);
    __syncwarp();
    if (lane_id() < 2) arrive(taken + lane_id());
    for (int i = 0; i < rounds; i++, row = next_row, column = next_column) {
        tile_of<CLUSTER>(next_row, next_column, i + 1, place, p); /* behind the last: nobody reads its bias */
        put_bias(i + 1, next_column);
        if (row + TILE_ROWS <= p.m && column + TILE_COLUMNS <= p.n)
            finish_tile<true>(given, p, staged, written, taken, (uint32_t)(i & 1), row, column, share);
        else
            finish_tile<false>(given, p, staged, written, taken, (uint32_t)(i & 1), row, column, share);
    }
}

template <int CLUSTER, class Finish>
__global__ void CLUSTER_OF(CLUSTER) __launch_bounds__(3 * GROUP, 1)
    hopper_product(const GRID_CONSTANT su_cuda_map a, const GRID_CONSTANT su_cuda_map b, const GRID_CONSTANT su_cuda_map output, hopper_shape p,
                   Finish finish)
{
#if !defined(__CUDA_ARCH__) || defined(HOPPER_CODE)
    using plan = hopper_plan<Finish>;
    constexpr int PLACES = plan::PLACES;
    DYNAMIC_SHARED(char, raw);
#ifdef __CUDACC__
    char *room = raw + (1024 - shared_address(raw) % 1024) % 1024;
#else
    char *room = raw;
#endif
    char *rest = room + plan::REST_AT;                           /* boxes, or the staged tile */
    uint32_t *bias = (uint32_t *)(void *)(room + plan::BIAS_AT); /* [2][TILE_COLUMNS], two of bf16 in a word */
    arrivals *full = (arrivals *)(void *)(room + plan::BARRIERS_AT), *empty = full + PLACES;
    arrivals *begun = empty + PLACES, *written = begun + 1, *taken = written + 2; /* the last two: of the halves of a staged tile */
    const int group = (int)threadIdx.x / GROUP;
    if (threadIdx.x == 0) {
        for (int s = 0; s < PLACES; s++) {
            arrivals_begin(full + s, 1);
            arrivals_begin(empty + s, 2 * CLUSTER);
        }
        arrivals_begin(begun, 1);
        for (int half = 0; half < 2; half++) {
            arrivals_begin(written + half, GROUP);
            arrivals_begin(taken + half, SHARES);
        }
        arrivals_ready();
    }
    __syncthreads();
    meet_cluster<CLUSTER>();
    const int rounds = rounds_of<CLUSTER>(p), place = place_in_cluster();
    int64_t row, column;
    if (group == 0) {
        if constexpr (plan::STAGED)
            fewer_registers<136>();
        else
            fewer_registers<40>();
        if (threadIdx.x == 0) {
            constexpr int PART = TILE_COLUMNS / CLUSTER;
            const int part = place * PART;
            turn<PLACES> s;
            for (int i = 0; i < rounds; i++) {
                tile_of<CLUSTER>(row, column, i, place, p);
                for (int slice = 0; slice < p.slices; slice++, s.next()) {
                    char *to = room + s.at * SLICES_BYTES;
                    await(empty + s.at, s.parity ^ 1);
                    arrive_for(full + s.at, SLICES_BYTES);
                    tensor_load(to, &a, slice * SLICE, (int)row, full + s.at);
                    to += A_BYTES + part * SLICE_BYTES;
                    if (CLUSTER == 1)
                        tensor_load(to, &b, slice * SLICE, (int)column, full + s.at);
                    else
                        tensor_load_for(to, &b, slice * SLICE, (int)column + part, full + s.at, (1 << CLUSTER) - 1);
                }
            }
        }
        if constexpr (plan::STAGED) {
            if (warp_id() > 0) finish_tiles<CLUSTER>(finish, p, rest, bias, written, taken, rounds, place, warp_id() - 1);
        }
    } else {
        if constexpr (plan::STAGED)
            more_registers<184>();
        else
            more_registers<232>();
        const int half = group - 1, thread = (int)threadIdx.x % GROUP;
        float d[GROUP_NUMBERS];
        [[maybe_unused]] Finish own = finish;
        turn<PLACES> s;
        auto leave = [&](int stage) {
            if (thread < CLUSTER) arrive_at(empty + stage, thread);
        };
        [[maybe_unused]] const outlet out = {rest + (warp_id() - GROUP / WARP) * (BOXES * BOX_BYTES), &output};
        const int ahead = BEHIND < p.slices ? BEHIND - 1 : p.slices - 1;
        if (!plan::STAGED && half == 1 && rounds > 0) await(begun, 0);
        tile_of<CLUSTER>(row, column, 0, place, p);
        for (int i = 0; i < rounds; i++) {
            int64_t next_row, next_column;
            int before = 0;
            if constexpr (!plan::STAGED) own.prepare(row + half * GROUP_ROWS, column);
            for (int slice = 0; slice < p.slices; slice++, s.next()) {
                const char *from = room + s.at * SLICES_BYTES;
                const matrix_place rows = matrix_at(from + half * (GROUP_ROWS * SLICE_BYTES)), columns = matrix_at(from + A_BYTES);
                await(full + s.at, s.parity);
                group_fence();
                UNROLL for (int k = 0; k < SLICE; k += 16)
                    group_multiply_add(d, columns_on(rows, k), columns_on(columns, k), slice + k > 0);
                group_commit();
                group_wait<1>();
                if (slice > 0) leave(before);
                before = s.at;
                if (!plan::STAGED && half == 0 && thread == 0 && i == 0 && slice == ahead) arrive(begun);
            }
            tile_of<CLUSTER>(next_row, next_column, i + 1, place, p); /* beside the last products */
            group_wait<0>();
            leave(before);
            if constexpr (!plan::STAGED) {
                own.take(d, row + half * GROUP_ROWS, column, out);
            } else {
                await(taken + half, (uint32_t)(i & 1));
                const int lane = thread % WARP, at = half * GROUP_ROWS + thread / WARP * WARP_ROWS + lane / 4;
                UNROLL for (int j = 0; j < TILE_COLUMNS / 8; j++)
                {
                    if constexpr (Finish::BIASED) {
                        const uint32_t add = bias[(i & 1) * (TILE_COLUMNS / 2) + j * 4 + lane % 4];
                        d[4 * j] += low_of(add), d[4 * j + 1] += high_of(add), d[4 * j + 2] += low_of(add), d[4 * j + 3] += high_of(add);
                    }
                    *(uint32_t *)(void *)(staged_at(rest, at, j) + lane % 4 * 4) = pack_bf16(d[4 * j], d[4 * j + 1]);
                    *(uint32_t *)(void *)(staged_at(rest, at + 8, j) + lane % 4 * 4) = pack_bf16(d[4 * j + 2], d[4 * j + 3]);
                }
                arrive(written + half);
            }
            row = next_row, column = next_column;
        }
        if constexpr (!plan::STAGED) own.end(), out.end();
    }
    __syncwarp();
    meet_cluster<CLUSTER>(); /* what goes to another block's memory has arrived there */
#endif
}

/* Whether SUTURE_PRODUCT=own in the environment asks for it wherever it takes the shape, not only where it should be faster. */
bool su_cuda_hopper_asked(const su_cuda *c);

/* Rows of a and b: lda, ldb elements apart; an output is 16-byte aligned, and so are its rows. False: not for this shape, nothing was
 * done; a failure is recorded and true. */
template <class Finish>
static bool hopper_multiply(su_cuda *c, const char *what, const void *a, int64_t lda, const void *b, int64_t ldb, int64_t m, int64_t n,
                            int64_t k, bool down, const Finish &finish, hopper_output to = {})
{
#ifdef __CUDACC__
    constexpr int CLUSTER = 2;
#else
    constexpr int CLUSTER = 1;
#endif
    if (!su_cuda_hopper(c) || lda % 8 || ldb % 8 || (((uintptr_t)a | (uintptr_t)b) & 15) || m >= INT32_MAX || n >= INT32_MAX ||
        m / TILE_ROWS * (n / TILE_COLUMNS) >= INT32_MAX / 4)
        return false;
    if (c->failed) return true;
    su_cuda_map maps[3] = {};
    su_cuda_here(c);
    if (!su_cuda_check(c, c->rt->map(&maps[0], a, m, k, lda * 2, TILE_ROWS), what) ||
        !su_cuda_check(c, c->rt->map(&maps[1], b, n, k, ldb * 2, TILE_COLUMNS / CLUSTER), what))
        return true;
    if (to.at && !su_cuda_check(c, c->rt->map(&maps[2], to.at, m, n, to.stride * 2, WARP_ROWS), what)) return true;
    const hopper_shape p = {m,
                            n,
                            (int)su_cuda_parts(k, SLICE),
                            (int)su_cuda_parts(m, TILE_ROWS * CLUSTER) * CLUSTER,
                            (int)su_cuda_parts(n, TILE_COLUMNS),
                            down};
    const int64_t all = (int64_t)p.tiles_m * p.tiles_n, blocks = su_cuda_least(all, c->properties.processors / CLUSTER * CLUSTER);
    launch(c, what, blocks, 3 * GROUP, hopper_plan<Finish>::SHARED_BYTES, hopper_product<CLUSTER, Finish>)(maps[0], maps[1], maps[2], p, finish);
    return true;
}

#endif
