/* Tensor cores from a kernel: products of small bf16 matrices whose pieces lie in a warp's registers.
 *
 *     D [16, 8] += A [16, 16] B [16, 8]           mma.m16n8k16 [PTX ISA, "Matrix Fragments for mma.m16n8k16"]
 *
 * With g = lane / 4 and t = lane % 4 a lane holds, two bf16 to a word,
 *   a.w[0] = A[g][2t, 2t+1]     a.w[1] = A[g+8][2t, 2t+1]     a.w[2], a.w[3]: the same, 8 columns on
 *   b.w[0] = B[2t, 2t+1][g]     b.w[1] = B[2t+8, 2t+9][g]
 *   d[0], d[1] = D[g][2t], D[g][2t+1]               d[2], d[3] = D[g+8][2t], D[g+8][2t+1]
 * so that two neighbouring D, rounded, are an A of the next product as they lie.
 *
 * load_matrices reads four 8 x 8 matrices from shared memory [ldmatrix.x4]: matrix i has its rows at the
 * addresses of lanes 8i .. 8i+7 (16 bytes each, aligned), and lane l receives M_i[l/4][2(l%4), +1] in word i, or
 * with TURNED M_i[2(l%4), +1][l/4]. */
#ifndef SU_NN_CUDA_TENSOR_H
#define SU_NN_CUDA_TENSOR_H

#include "nn/cuda/kernel.h"

struct words4 {
    uint32_t w[4];
};

/* An address in shared memory that the compiler does not look behind: what is added to it, a constant, becomes part
 * of the instruction that reads there. */
struct shared_place {
#ifdef __CUDACC__
    uint32_t at;
#else
    const bf16 *at;
#endif
};

DEVICE shared_place shared_at(const bf16 *p)
{
#ifdef __CUDACC__
    uint32_t at = (uint32_t)__cvta_generic_to_shared(p);
    asm("" : "+r"(at));
    return shared_place{at};
#else
    return shared_place{p};
#endif
}

/* `row` of the lane, and a number of elements behind it. */
template <bool TURNED> DEVICE words4 load_matrices(shared_place row, int behind)
{
    words4 r;
#ifdef __CUDACC__
    const uint32_t at = row.at + 2 * behind;
    if (TURNED)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(r.w[0]), "=r"(r.w[1]), "=r"(r.w[2]), "=r"(r.w[3])
                     : "r"(at)
                     : "memory");
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(r.w[0]), "=r"(r.w[1]), "=r"(r.w[2]), "=r"(r.w[3])
                     : "r"(at)
                     : "memory");
#else
    emulate_load_matrices(r.w, row.at + behind, TURNED);
#endif
    return r;
}

template <bool TURNED> DEVICE words4 load_matrices(const bf16 *row)
{
#ifdef __CUDACC__
    return load_matrices<TURNED>(shared_place{(uint32_t)__cvta_generic_to_shared(row)}, 0);
#else
    return load_matrices<TURNED>(shared_place{row}, 0);
#endif
}

DEVICE void multiply_add(float (&d)[4], const words4 &a, uint32_t b0, uint32_t b1)
{
#ifdef __CUDACC__
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a.w[0]), "r"(a.w[1]), "r"(a.w[2]), "r"(a.w[3]), "r"(b0), "r"(b1));
#else
    emulate_multiply_add(d, a.w, b0, b1);
#endif
}

/* --- copies from global to shared memory that go on while the thread does [cp.async]; wait for one's own, then a
 * barrier for those of others --- */

/* 16 bytes, aligned; zeros, and nothing is read, unless `real`. */
DEVICE void copy_pack(bf16 *to, const bf16 *from, bool real)
{
#ifdef __CUDACC__
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"((uint32_t)__cvta_generic_to_shared(to)), "l"(from),
                 "r"(real ? 16 : 0)
                 : "memory");
#else
    emulate_copy(to, from, real);
#endif
}

DEVICE void copy_wait()
{
#ifdef __CUDACC__
    asm volatile("cp.async.wait_all;" ::: "memory");
#else
    emulate_copy_wait();
#endif
}

/* --- pieces of tiles [rows][stride] in shared memory; the tile's rows are 16 bytes apart modulo 128, so that
 * eight of them meet eight different banks --- */

/* A [16][16] at row `row`, column `column` of the tile. */
DEVICE words4 piece_a(const bf16 *tile, int stride, int row, int column)
{
    const int l = lane_id();
    return load_matrices<false>(tile + (row + l % 16) * stride + column + l / 16 * 8);
}

/* The same from a tile that is stored turned: A[m][k] = tile[row + k][column + m]. */
DEVICE words4 piece_a_turned(const bf16 *tile, int stride, int row, int column)
{
    const int l = lane_id();
    return load_matrices<true>(tile + (row + l / 16 * 8 + l % 8) * stride + column + l / 8 % 2 * 8);
}

/* Two B [16][8], side by side: B[k][n] = tile[row + n][column + k]; words 0 and 1 are the first's, 2 and 3 the
 * second's. */
DEVICE int place_b(int stride)
{
    const int l = lane_id();
    return (l / 16 * 8 + l % 8) * stride + l / 8 % 2 * 8;
}
DEVICE words4 piece_b(const bf16 *tile, int stride, int row, int column)
{
    return load_matrices<false>(tile + row * stride + place_b(stride) + column);
}

/* The same from a tile that is stored as B itself: B[k][n] = tile[row + k][column + n]. */
DEVICE int place_b_turned(int stride)
{
    const int l = lane_id();
    return l % 16 * stride + l / 16 * 8;
}
DEVICE words4 piece_b_turned(const bf16 *tile, int stride, int row, int column)
{
    return load_matrices<true>(tile + row * stride + place_b_turned(stride) + column);
}

/* Two neighbouring D as one A. */
DEVICE words4 piece_of(const float (&left)[4], const float (&right)[4])
{
    return words4{{pack_bf16(left[0], left[1]), pack_bf16(left[2], left[3]), pack_bf16(right[0], right[1]),
                   pack_bf16(right[2], right[3])}};
}

#endif
