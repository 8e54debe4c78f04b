/* C = A B^T in bf16 on a Hopper GPU, whose numbers are used where the product has them, in registers.
 *
 *     A [m, k], B [n, k], rows of k elements that are 16-byte aligned; C [m, n]
 *
 * One block a multiprocessor goes from tile to tile, 128 rows x 256 columns of C. Its groups of 128 threads:
 *
 *   the first   one thread brings slices of A and B, 64 columns at a time, to one of PLACES places in shared memory; blocks of a
 *               cluster have the same columns of C, and each brings a part of B's slice for all
 *   two         multiply: 64 rows x 256 columns of C each. The second begins two slices behind the first, so that one uses its
 *               numbers while the other has the tensor cores for itself
 *
 * Finish, a structure of what the work needs, has them. Each thread of a multiplying group has its own, which may keep numbers
 * from tile to tile; all of them call
 *
 *   void prepare(int64_t row)
 *       while the last products of a tile run: time to fetch what take needs
 *   void take(const float (&d)[GROUP_NUMBERS], int64_t row, int64_t column)
 *       numbers of C, as hopper.h says, of 64 rows from `row` on and 256 columns from `column` on. Rows from m and columns from
 *       n on are there too, made of zeros
 *   void end()
 *       behind their last tile
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
    PLACES = 4,
    PRODUCT_SHARED = 1024 + PLACES * SLICES_BYTES + 128, /* the tiles are 1,024-byte aligned; barriers */
    BEHIND = 2, /* slices */
};

struct hopper_shape {
    int64_t m, n;
    int slices;           /* of k */
    int tiles_m, tiles_n; /* tiles_m: a multiple of the cluster */
    bool down;            /* tiles follow each other down the columns of C, not along its rows */
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

/* A place among PLACES, and how often all have been gone through. */
struct turn {
    int at = 0;
    uint32_t parity = 0;
    DEVICE_MEMBER void next()
    {
        if (++at == PLACES) at = 0, parity ^= 1;
    }
};

template <int CLUSTER, class Finish>
__global__ void CLUSTER_OF(CLUSTER) __launch_bounds__(3 * GROUP, 1)
    hopper_product(const GRID_CONSTANT su_cuda_map a, const GRID_CONSTANT su_cuda_map b, hopper_shape p, Finish finish)
{
#if !defined(__CUDA_ARCH__) || defined(HOPPER_CODE)
    DYNAMIC_SHARED(char, raw);
#ifdef __CUDACC__
    char *room = raw + (1024 - shared_address(raw) % 1024) % 1024;
#else
    char *room = raw;
#endif
    arrivals *full = (arrivals *)(void *)(room + PLACES * SLICES_BYTES), *empty = full + PLACES, *begun = empty + PLACES;
    const int group = (int)threadIdx.x / GROUP;
    if (threadIdx.x == 0) {
        for (int s = 0; s < PLACES; s++) {
            arrivals_begin(full + s, 1);
            arrivals_begin(empty + s, 2 * CLUSTER);
        }
        arrivals_begin(begun, 1);
        arrivals_ready();
    }
    __syncthreads();
    meet_cluster<CLUSTER>();
    const int64_t rounds = rounds_of<CLUSTER>(p);
    int64_t row, column;
    if (group == 0) {
        fewer_registers<40>();
        if (threadIdx.x == 0) {
            constexpr int PART = TILE_COLUMNS / CLUSTER;
            const int part = place_in_cluster() * PART;
            turn s;
            for (int64_t i = 0; i < rounds; i++) {
                tile_of<CLUSTER>(row, column, i, p);
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
    } else {
        more_registers<232>();
        const int half = group - 1, thread = (int)threadIdx.x % GROUP;
        float d[GROUP_NUMBERS];
        Finish own = finish;
        turn s;
        auto leave = [&](int stage) {
            if (thread < CLUSTER) arrive_at(empty + stage, thread);
        };
        const int ahead = BEHIND < p.slices ? BEHIND - 1 : p.slices - 1;
        if (half == 1 && rounds > 0) await(begun, 0);
        for (int64_t i = 0; i < rounds; i++) {
            int before = 0;
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
                if (half == 0 && thread == 0 && i == 0 && slice == ahead) arrive(begun);
            }
            tile_of<CLUSTER>(row, column, i, p); /* beside the last products: divisions take long */
            own.prepare(row + half * GROUP_ROWS);
            group_wait<0>();
            leave(before);
            own.take(d, row + half * GROUP_ROWS, column);
        }
        own.end();
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
    launch(c, what, blocks, 3 * GROUP, PRODUCT_SHARED, hopper_product<CLUSTER, Finish>)(maps[0], maps[1], p, finish);
    return true;
}

#endif
