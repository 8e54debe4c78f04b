/* Losses over all pairs on a Hopper GPU: what a tile is for is formed from its products in the registers that have them, and scores
 * are never written. A warp of a product has a piece, WARP_ROWS x TILE_COLUMNS. */
#ifndef SU_NN_CUDA_PAIRS_HOPPER_H
#define SU_NN_CUDA_PAIRS_HOPPER_H

#include "nn/cuda/hopper_product.h"
#include "nn/cuda/pairs.h"

/* Where a thread's numbers lie in tile t, whose group's numbers begin at (row, column) of it. */
struct piece_place {
    int64_t row, column; /* of d[0] */
    int64_t first, left; /* row and column of the piece */
    int own[2], limit[2]; /* of row r: the number that a sample forms with itself, or -1; columns to the right that are there */
    bool there, plain;   /* some of the piece is within the tile; all of it, and nobody meets himself */
    DEVICE_MEMBER piece_place(const pair_tile &t, int64_t group_row, int64_t group_column)
    {
        first = warp_row(group_row);
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

/* Whether pairs are formed so. */
static inline bool pairs_in_registers(const su_cuda *c)
{
    return c->device.act == SU_DTYPE_BF16 && su_cuda_hopper(c);
}

template <class Finish>
static void pair_product_for(su_cuda *c, const pair_tile *t, pair_rows x, pair_rows y, int64_t w, const Finish &finish, hopper_output to = {})
{
    if (!hopper_multiply(c, "pairs", (const bf16 *)x.at + t->row * x.stride, x.stride, (const bf16 *)y.at + t->column * y.stride, y.stride,
                         t->rows, t->columns, w, false, finish, to))
        su_cuda_fail(c, SU_EINVAL, "pairs that their kernel is not for");
}

#endif
