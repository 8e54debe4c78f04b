/* Losses over all pairs on a Hopper GPU: what a tile is for is formed from its products in the registers that have them, and scores
 * are never written. A warp of a product has a piece, WARP_ROWS x TILE_COLUMNS; a thread of it, with g = lane / 4 and t = lane % 4,
 *
 *     rows g and g + 8 of the piece, columns 8 j + 2 t and 8 j + 2 t + 1, j = 0 .. 31:   d[4 j + 2 r + e], r and e = 0, 1 */
#ifndef SU_NN_CUDA_PAIRS_HOPPER_H
#define SU_NN_CUDA_PAIRS_HOPPER_H

#include "nn/cuda/hopper_product.h"
#include "nn/cuda/pairs.h"

/* A thread's columns are added up over the warp a part at a time, so that registers suffice. */
enum { PARTS = 2, PART_PACKS = TILE_COLUMNS / 8 / PARTS, PART_COLUMNS = 2 * PART_PACKS, FOLDED = PART_COLUMNS / 8 };

/* Where a thread's numbers lie in tile t, whose group's numbers begin at (row, column) of it. */
struct piece_place {
    int64_t row, column; /* of d[0] */
    int64_t first, left; /* row and column of the piece */
    int own[2], limit[2]; /* of row r: the number that a sample forms with itself, or -1; columns to the right that are there */
    bool there, plain;   /* some of the piece is within the tile; all of it, and nobody meets himself */
    DEVICE_MEMBER piece_place(const pair_tile &t, int64_t group_row, int64_t group_column)
    {
        /* The first lane's, so that the compiler sees that it is the warp's. */
        first = group_row + __shfl_sync(ALL_LANES, (int)threadIdx.x % GROUP / WARP, 0) * WARP_ROWS;
        left = group_column;
        row = first + lane_id() / 4;
        column = left + lane_id() % 4 * 2;
        const int64_t apart = t.row + first - t.column - left;
        there = first < t.rows;
        plain = first + WARP_ROWS <= t.rows && left + TILE_COLUMNS <= t.columns && (apart <= -WARP_ROWS || apart >= TILE_COLUMNS);
        UNROLL for (int r = 0; r < 2; r++)
        {
            const int64_t c = t.row + row + 8 * r - t.column - left;
            const bool here = c >= 0 && c < TILE_COLUMNS && c / 2 % 4 == lane_id() % 4;
            own[r] = here ? (int)(c / 8 * 4 + 2 * r + c % 2) : -1;
            limit[r] = row + 8 * r < t.rows ? (int)(t.columns - column) : 0;
        }
    }
    DEVICE_MEMBER bool real(int i) const
    {
        return i / 4 * 8 + i % 2 < limit[i / 2 % 2];
    }
    DEVICE_MEMBER bool pair(int i) const
    {
        return i != own[i / 2 % 2] && real(i);
    }
};

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
 * folded_column(part, k) of the piece. */
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

/* sums + those of the lanes that share the row */
DEVICE float row_sum(float x)
{
    x += __shfl_xor_sync(ALL_LANES, x, 1);
    return x + __shfl_xor_sync(ALL_LANES, x, 2);
}
DEVICE float row_most(float x)
{
    x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 1));
    return fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 2));
}

/* Words of the columns 8 j + 2 t, j from j0 on, of both of a thread's rows, to a tile of bf16. Whole warps. What lies behind the last
 * column, but within a pack of eight, is written too. */
template <bool PLAIN> DEVICE void store_words(bf16 *to, const pair_tile &t, const piece_place &p, int j0, const uint32_t (&w)[2][4])
{
    UNROLL for (int r = 0; r < 2; r++)
    {
        const uint4 v = gathered(w[r]);
        const int64_t row = p.row + 8 * r, column = p.left + (j0 + lane_id() % 4) * 8;
        if (PLAIN || (row < t.rows && column < t.columns)) *reinterpret_cast<uint4 *>(to + row * t.stride + column) = v;
    }
}

/* Whether pairs are formed so. */
static inline bool pairs_in_registers(const su_cuda *c)
{
    return c->device.act == SU_DTYPE_BF16 && su_cuda_hopper_asked(c);
}

template <class Finish>
static void pair_product_for(su_cuda *c, const pair_tile *t, pair_rows x, pair_rows y, int64_t w, const Finish &finish)
{
    if (!hopper_multiply(c, "pairs", (const bf16 *)x.at + t->row * x.stride, x.stride, (const bf16 *)y.at + t->column * y.stride, y.stride,
                         t->rows, t->columns, w, false, finish))
        su_cuda_fail(c, SU_EINVAL, "pairs that their kernel is not for");
}

#endif
