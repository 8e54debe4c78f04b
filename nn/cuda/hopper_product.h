/* C = A B^T in bf16 on a Hopper GPU, with something of our own done to C before it is written, or instead of writing it.
 *
 *     A [m, k], B [n, k], rows of k elements that are 16-byte aligned; C [m, n]
 *
 * One block a multiprocessor goes from tile to tile, 128 rows x 256 columns of C. Its groups of 128 threads:
 *
 *   the first    one thread brings slices of A and B, 64 columns at a time, to one of STAGES places in shared memory; blocks of a
 *                cluster have the same columns of C, and each brings a part of B's slice for all
 *                (Finish::STAGED) three other warps finish a tile while the next is multiplied: every third four rows each
 *   two          multiply: 64 rows x 256 columns of C each, in registers; where it is staged they write them to shared memory,
 *                rounded to bf16, and go on
 *
 * Finish, a structure of what the work needs, says what is done:
 *
 *   STAGED = false   void take(const float (&d)[GROUP_NUMBERS], int64_t row, int64_t column) const
 *                    by all threads of a multiplying group: numbers of C, as hopper.h says, of 64 rows from `row` on and 256 columns
 *                    from `column` on. Rows from m and columns from n on are there too, made of zeros
 *   STAGED = true    const bf16 *bias: [n], added before C is rounded; or NULL
 *                    fetched fetch(row, column, there) const: what finish will need, long before; nothing is read unless it is there
 *                    void finish(float (&v)[8], const fetched &f, row, column): eight numbers of a row, within C
 *                    void end_rows(share, column, there): a thread has finished the eight columns from `column` on, for every
 *                    fourth row of its warp's share of a tile. Warps have SHARES shares of a tile, numbered through; with lane % 8
 *                    all columns of a share are the same. Whole warps
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
    STAGE_BYTES_OF_TILE = A_BYTES + B_BYTES,
    STAGED_BYTES = TILE_ROWS * TILE_COLUMNS * 2,
    SHARES = 3,    /* warps that finish */
    FINISHING = 4, /* rows that a thread fetches for together */
};

struct hopper_shape {
    int64_t m, n;
    int slices;           /* of k */
    int tiles_m, tiles_n; /* tiles_m: a multiple of the cluster */
    bool down;            /* tiles follow each other down the columns of C, not along its rows */
};

template <class Finish> struct hopper_plan {
    static constexpr int STAGES = Finish::STAGED ? 3 : 4;
    static constexpr size_t SHARED_BYTES =
        1024 + STAGES * (size_t)STAGE_BYTES_OF_TILE + (Finish::STAGED ? (size_t)STAGED_BYTES + 2 * TILE_COLUMNS : 0) + 128;
};

/* Where a block's part of the n-th round of tiles lies. */
template <int CLUSTER> DEVICE void tile_of(int64_t &row, int64_t &column, int64_t round, const hopper_shape &p)
{
    const int groups = p.tiles_m / CLUSTER;
    const int64_t g = round * (gridDim.x / CLUSTER) + blockIdx.x / CLUSTER;
    const int64_t tm = (p.down ? g % groups : g / p.tiles_n) * CLUSTER + place_in_cluster();
    row = tm * TILE_ROWS;
    column = (p.down ? g / groups : g % p.tiles_n) * TILE_COLUMNS;
}
template <int CLUSTER> DEVICE int64_t rounds_of(const hopper_shape &p)
{
    const int64_t all = (int64_t)p.tiles_m / CLUSTER * p.tiles_n, step = gridDim.x / CLUSTER, first = blockIdx.x / CLUSTER;
    return first < all ? (all - first + step - 1) / step : 0;
}

/* A place among STAGES, and how often all have been gone through. */
template <int STAGES> struct turn {
    int at = 0;
    uint32_t parity = 0;
    DEVICE_MEMBER void next()
    {
        if (++at == STAGES) at = 0, parity ^= 1;
    }
};

/* Pack p of row r of a staged tile [128][256]: four tiles of 64 columns. */
DEVICE char *staged_at(char *staged, int row, int pack)
{
    return staged + pack / 8 * (TILE_ROWS * SLICE_BYTES) + row * SLICE_BYTES + ((pack % 8 ^ row % 8) << 4);
}

/* A warp's share of the staged tile whose first number is C[row][column]: rows 4 share + 12 i + lane / 8, packs lane % 8, + 8, ... */
template <class Finish>
DEVICE void finish_tile(const Finish &given, const hopper_shape &p, char *staged, arrivals *written, arrivals *taken, int64_t row,
                        int64_t column, int share, int lane, uint32_t parity)
{
    constexpr int STEP = 4 * SHARES, LOADS = (TILE_ROWS + STEP * FINISHING - 1) / (STEP * FINISHING);
    const int first = 4 * share + lane / 8, rows = (int)(p.m - row < TILE_ROWS ? p.m - row : (int64_t)TILE_ROWS); /* <= 0: none is there */
    typename Finish::fetched now[FINISHING], later[FINISHING];
    auto fetch = [&](int pack, int load) {
        const int64_t c = column + pack * 8;
        UNROLL for (int e = 0; e < FINISHING; e++)
        {
            const int r = first + STEP * (load * FINISHING + e);
            later[e] = given.fetch(row + r, c, r < rows && c < p.n);
        }
    };
    fetch(lane % 8, 0);
    await(written, parity);
    for (int pack = lane % 8; pack < TILE_COLUMNS / 8; pack += 8) {
        const int64_t c = column + pack * 8;
        Finish own = given;
        for (int l = 0; l < LOADS; l++) {
            UNROLL for (int e = 0; e < FINISHING; e++) now[e] = later[e];
            if (l + 1 < LOADS)
                fetch(pack, l + 1);
            else if (pack + 8 < TILE_COLUMNS / 8)
                fetch(pack + 8, 0);
            UNROLL for (int e = 0; e < FINISHING; e++)
            {
                const int r = first + STEP * (l * FINISHING + e);
                if (r >= rows || c >= p.n) continue;
                float v[8];
                load(v, (const bf16 *)(const void *)staged_at(staged, r, pack));
                own.finish(v, now[e], row + r, c);
            }
        }
        own.end_rows(row / TILE_ROWS * SHARES + share, c, rows > 0 && c < p.n);
    }
    __syncwarp();
    if (lane == 0) arrive(taken);
}

template <int CLUSTER, class Finish>
__global__ void CLUSTER_OF(CLUSTER) __launch_bounds__(3 * GROUP, 1)
    hopper_product(const GRID_CONSTANT su_cuda_map a, const GRID_CONSTANT su_cuda_map b, hopper_shape p, Finish finish)
{
#if !defined(__CUDA_ARCH__) || defined(HOPPER_CODE)
    constexpr int STAGES = hopper_plan<Finish>::STAGES;
    DYNAMIC_SHARED(char, raw);
#ifdef __CUDACC__
    char *room = raw + (1024 - shared_address(raw) % 1024) % 1024;
#else
    char *room = raw;
#endif
    char *staged = room + STAGES * STAGE_BYTES_OF_TILE;
    bf16 *bias = (bf16 *)(void *)(staged + (Finish::STAGED ? STAGED_BYTES : 0));
    arrivals *full = (arrivals *)(void *)((char *)bias + (Finish::STAGED ? 2 * TILE_COLUMNS : 0)), *empty = full + STAGES;
    arrivals *written = empty + STAGES, *taken = written + 1; /* the staged tile */
    const int group = (int)threadIdx.x / GROUP;
    if (threadIdx.x == 0) {
        for (int s = 0; s < STAGES; s++) {
            arrivals_begin(full + s, 1);
            arrivals_begin(empty + s, 2 * CLUSTER);
        }
        arrivals_begin(written, 2 * GROUP);
        arrivals_begin(taken, SHARES);
        arrivals_ready();
    }
    __syncthreads();
    meet_cluster<CLUSTER>();
    const int64_t rounds = rounds_of<CLUSTER>(p);
    int64_t row, column;
    if (group == 0) {
        if constexpr (Finish::STAGED)
            fewer_registers<136>();
        else
            fewer_registers<24>();
        if (threadIdx.x == 0) {
            constexpr int PART = TILE_COLUMNS / CLUSTER;
            const int part = place_in_cluster() * PART;
            turn<STAGES> s;
            for (int64_t i = 0; i < rounds; i++) {
                tile_of<CLUSTER>(row, column, i, p);
                for (int slice = 0; slice < p.slices; slice++, s.next()) {
                    char *to = room + s.at * STAGE_BYTES_OF_TILE;
                    await(empty + s.at, s.parity ^ 1);
                    arrive_for(full + s.at, STAGE_BYTES_OF_TILE);
                    tensor_load(to, &a, slice * SLICE, (int)row, full + s.at);
                    to += A_BYTES + part * SLICE_BYTES;
                    if (CLUSTER == 1)
                        tensor_load(to, &b, slice * SLICE, (int)column, full + s.at);
                    else
                        tensor_load_for(to, &b, slice * SLICE, (int)column + part, full + s.at, (1 << CLUSTER) - 1);
                }
            }
        }
        if constexpr (Finish::STAGED) {
            if (warp_id() > 0) {
                const int lane = lane_id(), share = warp_id() - 1;
                for (int64_t i = 0; i < rounds; i++) {
                    tile_of<CLUSTER>(row, column, i, p);
                    finish_tile(finish, p, staged, written, taken, row, column, share, lane, (uint32_t)(i & 1));
                }
            }
        }
    } else {
        if (Finish::STAGED)
            more_registers<184>();
        else
            more_registers<240>();
        const int half = group - 1, thread = (int)threadIdx.x % GROUP;
        float d[GROUP_NUMBERS];
        turn<STAGES> s;
        auto leave = [&](int stage) {
            if (thread < CLUSTER) arrive_at(empty + stage, thread);
        };
        for (int64_t i = 0; i < rounds; i++) {
            tile_of<CLUSTER>(row, column, i, p);
            bf16 own_bias = {0};
            if constexpr (Finish::STAGED) {
                const int64_t c = column + (int)threadIdx.x - GROUP;
                if (finish.bias && c < p.n) own_bias = finish.bias[c];
            }
            int before = 0;
            for (int slice = 0; slice < p.slices; slice++, s.next()) {
                const char *from = room + s.at * STAGE_BYTES_OF_TILE;
                const matrix_place rows = matrix_at(from + half * (GROUP_ROWS * SLICE_BYTES)), columns = matrix_at(from + A_BYTES);
                await(full + s.at, s.parity);
                group_fence();
                UNROLL for (int k = 0; k < SLICE; k += 16)
                    group_multiply_add(d, columns_on(rows, k), columns_on(columns, k), slice + k > 0);
                group_commit();
                group_wait<1>();
                if (slice > 0) leave(before);
                before = s.at;
            }
            group_wait<0>();
            leave(before);
            if constexpr (!Finish::STAGED) {
                finish.take(d, row + half * GROUP_ROWS, column);
            } else {
                await(taken, (uint32_t)(i & 1) ^ 1);
                bias[threadIdx.x - GROUP] = own_bias;
                meet(1, 2 * GROUP);
                const int lane = thread % WARP, at = half * GROUP_ROWS + thread / WARP * 16 + lane / 4;
                UNROLL for (int j = 0; j < TILE_COLUMNS / 8; j++)
                {
                    const int c = lane % 4 * 2;
                    float add[2];
                    load(add, bias + j * 8 + c);
                    *(uint32_t *)(void *)(staged_at(staged, at, j) + 2 * c) = pack_bf16(d[4 * j] + add[0], d[4 * j + 1] + add[1]);
                    *(uint32_t *)(void *)(staged_at(staged, at + 8, j) + 2 * c) = pack_bf16(d[4 * j + 2] + add[0], d[4 * j + 3] + add[1]);
                }
                arrive(written);
            }
        }
    }
    __syncwarp();
    meet_cluster<CLUSTER>(); /* what goes to another block's memory has arrived there */
#endif
}

/* Whether this GPU, and this build's code for it, run hopper_product. */
bool su_cuda_hopper(const su_cuda *c);

/* Rows of a and b: lda, ldb elements apart. False: not for this shape, nothing was done; a failure is recorded and true. */
template <class Finish>
static bool hopper_multiply(su_cuda *c, const char *what, const void *a, int64_t lda, const void *b, int64_t ldb, int64_t m, int64_t n,
                            int64_t k, bool down, const Finish &finish)
{
#ifdef __CUDACC__
    constexpr int CLUSTER = 2;
#else
    constexpr int CLUSTER = 1;
#endif
    if (!su_cuda_hopper(c) || lda % 8 || ldb % 8 || (((uintptr_t)a | (uintptr_t)b) & 15) || m >= INT32_MAX || n >= INT32_MAX) return false;
    if (c->failed) return true;
    su_cuda_map maps[2];
    su_cuda_here(c);
    if (!su_cuda_check(c, c->rt->map(&maps[0], a, m, k, lda * 2, TILE_ROWS), what) ||
        !su_cuda_check(c, c->rt->map(&maps[1], b, n, k, ldb * 2, TILE_COLUMNS / CLUSTER), what))
        return true;
    const hopper_shape p = {m,
                            n,
                            (int)su_cuda_parts(k, SLICE),
                            (int)su_cuda_parts(m, TILE_ROWS * CLUSTER) * CLUSTER,
                            (int)su_cuda_parts(n, TILE_COLUMNS),
                            down};
    const int64_t all = (int64_t)p.tiles_m * p.tiles_n, blocks = su_cuda_least(all, c->properties.processors / CLUSTER * CLUSTER);
    launch(c, what, blocks, 3 * GROUP, hopper_plan<Finish>::SHARED_BYTES,
           hopper_product<CLUSTER, Finish>)(maps[0], maps[1], p, finish);
    return true;
}

#endif
