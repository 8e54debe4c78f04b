/* What a Hopper GPU (compute capability 9.0, machine code for sm_90a) can do beyond tensor.h: four warps, a group, multiply
 * matrices that lie in shared memory, while others bring the next ones there, and barriers count what has arrived.
 *
 *   tensor_load          a box of a matrix in global memory -> shared memory   [cp.async.bulk.tensor, "TMA"]
 *   tensor_store         a box in shared memory -> a box of a matrix           [the same]
 *   arrivals             a barrier in shared memory: of threads, and of bytes  [mbarrier]
 *   group_multiply_add   D [64, 256] += A [64, 16] B [256, 16]^T               [wgmma.m64n256k16]
 *   group_product        D [64, N] += A [64, 16] B [N, 16]^T, N = 16 or 32; A in registers: 64 too
 *   group_gather         D [64, 64] += A [64, 16] B [16, 64], A in registers
 *
 * A tile in shared memory: rows of 64 bf16 (128 bytes), 1,024-byte aligned; 16-byte pack p of row r lies at place p ^ (r % 8) of
 * its row, as the copy writes it and the product reads it ["128-byte swizzle"]. With g = lane / 4, t = lane % 4 and w the warp
 * of its group, a thread holds
 *   d[4j], d[4j+1] = D[16w + g][8j + 2t], D[16w + g][8j + 2t + 1]     d[4j+2], d[4j+3]: the same, 8 rows on
 * and of A what tensor.h says of rows 16w on, so that numbers of D, rounded, are an A as they lie.
 *
 * The emulator runs all of it with clusters of one block. Kernels that use it do nothing where the code is for another GPU
 * than sm_90a; the host asks su_cuda_hopper before it launches one. */
#ifndef SU_NN_CUDA_HOPPER_H
#define SU_NN_CUDA_HOPPER_H

#include "nn/cuda/internal.h"
#include "nn/cuda/tensor.h"

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define HOPPER_CODE
#endif
#if defined(__CUDACC__) && (!defined(__CUDA_ARCH__) || defined(HOPPER_CODE))
#define CLUSTER_OF(n) __cluster_dims__(n, 1, 1)
#else
#define CLUSTER_OF(n)
#endif

enum {
    GROUP = 128,         /* threads */
    GROUP_ROWS = 64,     /* of A and D in one product */
    GROUP_COLUMNS = 256, /* of D, rows of B */
    GROUP_NUMBERS = GROUP_ROWS * GROUP_COLUMNS / GROUP,
    SLICE = 64, /* columns of a tile: four products of 16 */
    SLICE_BYTES = 128,
};

struct arrivals {
    uint64_t word;
};

#ifdef __CUDACC__
DEVICE uint32_t shared_address(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}
#endif

/* expected: arrivals of a phase. Before others see it: arrivals_ready, and a barrier of all blocks. */
DEVICE void arrivals_begin(arrivals *a, int expected)
{
#ifdef HOPPER_CODE
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(a)), "r"(expected) : "memory");
#elif !defined(__CUDACC__)
    emulate_arrivals_begin(&a->word, expected);
#endif
}
DEVICE void arrivals_ready()
{
#ifdef HOPPER_CODE
    asm volatile("fence.mbarrier_init.release.cluster;\nfence.proxy.async;" ::: "memory");
#endif
}

/* Counts one arrival. */
DEVICE void arrive(arrivals *a)
{
#ifdef HOPPER_CODE
    asm volatile("mbarrier.arrive.release.cta.shared::cta.b64 _, [%0];" ::"r"(shared_address(a)) : "memory");
#elif !defined(__CUDACC__)
    emulate_arrive(&a->word, 0);
#endif
}
/* The same at the barrier of a block of the cluster that lies where `a` does here. Products that read shared memory have ended
 * for this thread; writes of its own to global memory are not ordered by it (.release.cluster would be a fence of the GPU). */
DEVICE void arrive_at(arrivals *a, int block)
{
#ifdef HOPPER_CODE
    asm volatile("{\n.reg .b32 there;\nmapa.shared::cluster.u32 there, %0, %1;\n"
                 "mbarrier.arrive.shared::cluster.b64 _, [there];\n}" ::"r"(shared_address(a)),
                 "r"(block)
                 : "memory");
#elif !defined(__CUDACC__)
    (void)block;
    emulate_arrive(&a->word, 0);
#endif
}
/* Counts one arrival, after which so many bytes are due. */
DEVICE void arrive_for(arrivals *a, int bytes)
{
#ifdef HOPPER_CODE
    asm volatile("mbarrier.arrive.expect_tx.release.cta.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(a)), "r"(bytes) : "memory");
#elif !defined(__CUDACC__)
    emulate_arrive(&a->word, bytes);
#endif
}
/* Waits until the phase of this parity has ended: 0, 1, 0, ... from the first on. */
DEVICE void await(arrivals *a, uint32_t parity)
{
#ifdef HOPPER_CODE
    asm volatile("{\n.reg .pred done;\nagain:\n"
                 "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
                 "@!done bra again;\n}" ::"r"(shared_address(a)),
                 "r"(parity)
                 : "memory");
#elif !defined(__CUDACC__)
    emulate_await(&a->word, parity);
#endif
}

/* Columns `column` .. +63 of rows `row` .. of the map's matrix to a tile; what lies outside the matrix arrives as zeros. One thread. */
DEVICE void tensor_load(void *to, const su_cuda_map *map, int column, int row, arrivals *a)
{
#ifdef HOPPER_CODE
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::"r"(
                     shared_address(to)),
                 "l"(map), "r"(column), "r"(row), "r"(shared_address(a))
                 : "memory");
#elif !defined(__CUDACC__)
    emulate_tensor_load(to, map, column, row, &a->word);
#endif
}
/* The same to that place of every block of the cluster whose bit is set, and for its barrier. */
DEVICE void tensor_load_for(void *to, const su_cuda_map *map, int column, int row, arrivals *a, int blocks)
{
#ifdef HOPPER_CODE
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, {%2, "
                 "%3}], [%4], %5;" ::"r"(shared_address(to)),
                 "l"(map), "r"(column), "r"(row), "r"(shared_address(a)), "h"((uint16_t)blocks)
                 : "memory");
#elif !defined(__CUDACC__)
    (void)blocks;
    emulate_tensor_load(to, map, column, row, &a->word);
#endif
}

/* A box in shared memory, a tile of the map's rows x 64 columns, to columns `column` .. +63 of the rows from `row` on of its matrix; what
 * lies outside the matrix goes nowhere. One thread, behind tensor_store_ready by those that wrote the box and a barrier of them. The
 * box may be written again when the same thread has waited until at most N of its later stores have yet to read theirs. */
DEVICE void tensor_store_ready()
{
#ifdef HOPPER_CODE
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}
DEVICE void tensor_store(const su_cuda_map *map, int column, int row, const void *from)
{
#ifdef HOPPER_CODE
    asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%1, %2}], [%3];\ncp.async.bulk.commit_group;" ::"l"(map),
                 "r"(column), "r"(row), "r"(shared_address(from))
                 : "memory");
#elif !defined(__CUDACC__)
    emulate_tensor_store(map, column, row, from);
#endif
}
template <int N> DEVICE void tensor_store_wait()
{
#ifdef HOPPER_CODE
    asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(N) : "memory");
#elif !defined(__CUDACC__)
    emulate_tensor_store_wait(N);
#endif
}

/* A barrier of all threads of the cluster that have not ended. */
template <int CLUSTER> DEVICE void meet_cluster()
{
#ifdef HOPPER_CODE
    if (CLUSTER > 1) asm volatile("barrier.cluster.arrive.release;\nbarrier.cluster.wait.acquire;" ::: "memory");
#endif
}
DEVICE int place_in_cluster()
{
    uint32_t place = 0;
#ifdef HOPPER_CODE
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(place));
#endif
    return (int)place;
}

/* The threads of a group have so many registers from here on; a multiple of 8. */
template <int N> DEVICE void fewer_registers()
{
#ifdef HOPPER_CODE
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
#endif
}
template <int N> DEVICE void more_registers()
{
#ifdef HOPPER_CODE
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
#endif
}

/* A matrix in shared memory as a product reads it: a tile from one of its columns on, a multiple of 16, or from a row on. The
 * lower half of its descriptor: address/16, and 1 from bit 16 on. PLACE makes the whole of it: 1,024 bytes from eight rows to the
 * next eight, 128-byte swizzle. */
struct matrix_place {
    uint32_t at;
};
#define PLACE(name, word) ".reg .b64 " name ";\nmov.b64 " name ", {" word ", 0x40000040};\n"
DEVICE matrix_place matrix_at(const void *tile)
{
#ifdef __CUDACC__
    const uint32_t at = shared_address(tile);
#else
    const uint32_t at = emulate_shared_address(tile);
#endif
    return matrix_place{at >> 4 | 1u << 16};
}
DEVICE matrix_place columns_on(matrix_place m, int columns)
{
    return matrix_place{m.at + (uint32_t)(columns * 2 >> 4)};
}
/* From a row on, a multiple of 8. */
DEVICE matrix_place rows_on(matrix_place m, int rows)
{
    return matrix_place{m.at + (uint32_t)(rows * SLICE_BYTES >> 4)};
}

/* Around products: registers and shared memory are as the thread left them; what was begun is one part; at most N parts go on. */
DEVICE void group_fence()
{
#ifdef HOPPER_CODE
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
}
DEVICE void group_commit()
{
#ifdef HOPPER_CODE
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
}
template <int N> DEVICE void group_wait()
{
#ifdef HOPPER_CODE
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
#endif
}

/* All threads of a group; add: D += instead of D =. */
#define ACCUMULATOR8(i) \
    "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
DEVICE void group_multiply_add(float (&d)[GROUP_NUMBERS], matrix_place a, matrix_place b, bool add)
{
#ifdef HOPPER_CODE
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %130, 0;\n" PLACE("a", "%128") PLACE("b", "%129")
                 "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {"
                 "%0, %1, %2, %3, %4, %5, %6, %7, "
                 "%8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, "
                 "%24, %25, %26, %27, %28, %29, %30, %31, "
                 "%32, %33, %34, %35, %36, %37, %38, %39, "
                 "%40, %41, %42, %43, %44, %45, %46, %47, "
                 "%48, %49, %50, %51, %52, %53, %54, %55, "
                 "%56, %57, %58, %59, %60, %61, %62, %63, "
                 "%64, %65, %66, %67, %68, %69, %70, %71, "
                 "%72, %73, %74, %75, %76, %77, %78, %79, "
                 "%80, %81, %82, %83, %84, %85, %86, %87, "
                 "%88, %89, %90, %91, %92, %93, %94, %95, "
                 "%96, %97, %98, %99, %100, %101, %102, %103, "
                 "%104, %105, %106, %107, %108, %109, %110, %111, "
                 "%112, %113, %114, %115, %116, %117, %118, %119, "
                 "%120, %121, %122, %123, %124, %125, %126, %127}, "
                 "a, b, p, 1, 1, 0, 0;\n}\n"
                 : ACCUMULATOR8(0), ACCUMULATOR8(8), ACCUMULATOR8(16), ACCUMULATOR8(24), ACCUMULATOR8(32),
                    ACCUMULATOR8(40), ACCUMULATOR8(48), ACCUMULATOR8(56), ACCUMULATOR8(64), ACCUMULATOR8(72),
                    ACCUMULATOR8(80), ACCUMULATOR8(88), ACCUMULATOR8(96), ACCUMULATOR8(104), ACCUMULATOR8(112),
                    ACCUMULATOR8(120)
                 : "r"(a.at), "r"(b.at), "r"((int)add));
#elif !defined(__CUDACC__)
    emulate_group_product(d, GROUP_COLUMNS / 8, a.at, b.at, add);
#endif
}
#undef ACCUMULATOR8

/* Numbers of products that have been waited for: what the compiler does with them comes behind the wait. */
template <int N> DEVICE void group_done(float (&d)[N][4])
{
#ifdef HOPPER_CODE
    UNROLL for (int i = 0; i < N; i++) asm volatile("" : "+f"(d[i][0]), "+f"(d[i][1]), "+f"(d[i][2]), "+f"(d[i][3])::"memory");
#else
    (void)d;
#endif
}

#define ACCUMULATOR4(i) "+f"(d[i][0]), "+f"(d[i][1]), "+f"(d[i][2]), "+f"(d[i][3])
DEVICE void group_product(float (&d)[2][4], matrix_place a, matrix_place b, bool add)
{
#ifdef HOPPER_CODE
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %10, 0;\n" PLACE("a", "%8") PLACE("b", "%9")
                 "wgmma.mma_async.sync.aligned.m64n16k16.f32.bf16.bf16 {%0, %1, %2, %3, %4, %5, %6, %7}, "
                 "a, b, p, 1, 1, 0, 0;\n}\n"
                 : ACCUMULATOR4(0), ACCUMULATOR4(1)
                 : "r"(a.at), "r"(b.at), "r"((int)add));
#elif !defined(__CUDACC__)
    emulate_group_product(d[0], 2, a.at, b.at, add);
#endif
}
DEVICE void group_product(float (&d)[4][4], matrix_place a, matrix_place b, bool add)
{
#ifdef HOPPER_CODE
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %18, 0;\n" PLACE("a", "%16") PLACE("b", "%17")
                 "wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 {"
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15}, "
                 "a, b, p, 1, 1, 0, 0;\n}\n"
                 : ACCUMULATOR4(0), ACCUMULATOR4(1), ACCUMULATOR4(2), ACCUMULATOR4(3)
                 : "r"(a.at), "r"(b.at), "r"((int)add));
#elif !defined(__CUDACC__)
    emulate_group_product(d[0], 4, a.at, b.at, add);
#endif
}
/* The same, A in registers. */
DEVICE void group_product(float (&d)[2][4], const words4 &a, matrix_place b, bool add)
{
#ifdef HOPPER_CODE
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %13, 0;\n" PLACE("b", "%12")
                 "wgmma.mma_async.sync.aligned.m64n16k16.f32.bf16.bf16 {%0, %1, %2, %3, %4, %5, %6, %7}, "
                 "{%8, %9, %10, %11}, b, p, 1, 1, 0;\n}\n"
                 : ACCUMULATOR4(0), ACCUMULATOR4(1)
                 : "r"(a.w[0]), "r"(a.w[1]), "r"(a.w[2]), "r"(a.w[3]), "r"(b.at), "r"((int)add));
#elif !defined(__CUDACC__)
    emulate_group_gather(d[0], 2, a.w, b.at, false, add);
#endif
}
DEVICE void group_product(float (&d)[4][4], const words4 &a, matrix_place b, bool add)
{
#ifdef HOPPER_CODE
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %21, 0;\n" PLACE("b", "%20")
                 "wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 {"
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15}, "
                 "{%16, %17, %18, %19}, b, p, 1, 1, 0;\n}\n"
                 : ACCUMULATOR4(0), ACCUMULATOR4(1), ACCUMULATOR4(2), ACCUMULATOR4(3)
                 : "r"(a.w[0]), "r"(a.w[1]), "r"(a.w[2]), "r"(a.w[3]), "r"(b.at), "r"((int)add));
#elif !defined(__CUDACC__)
    emulate_group_gather(d[0], 4, a.w, b.at, false, add);
#endif
}
DEVICE void group_product(float (&d)[8][4], const words4 &a, matrix_place b, bool add)
{
#ifdef HOPPER_CODE
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %37, 0;\n" PLACE("b", "%36")
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {"
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
                 "{%32, %33, %34, %35}, b, p, 1, 1, 0;\n}\n"
                 : ACCUMULATOR4(0), ACCUMULATOR4(1), ACCUMULATOR4(2), ACCUMULATOR4(3), ACCUMULATOR4(4), ACCUMULATOR4(5),
                   ACCUMULATOR4(6), ACCUMULATOR4(7)
                 : "r"(a.w[0]), "r"(a.w[1]), "r"(a.w[2]), "r"(a.w[3]), "r"(b.at), "r"((int)add));
#elif !defined(__CUDACC__)
    emulate_group_gather(d[0], 8, a.w, b.at, false, add);
#endif
}
/* b: sixteen rows of a tile. */
DEVICE void group_gather(float (&d)[8][4], const words4 &a, matrix_place b)
{
#ifdef HOPPER_CODE
    asm volatile("{\n.reg .pred p;\nsetp.eq.b32 p, 0, 0;\n" PLACE("b", "%36")
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {"
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
                 "{%32, %33, %34, %35}, b, p, 1, 1, 1;\n}\n"
                 : ACCUMULATOR4(0), ACCUMULATOR4(1), ACCUMULATOR4(2), ACCUMULATOR4(3), ACCUMULATOR4(4), ACCUMULATOR4(5),
                   ACCUMULATOR4(6), ACCUMULATOR4(7)
                 : "r"(a.w[0]), "r"(a.w[1]), "r"(a.w[2]), "r"(a.w[3]), "r"(b.at));
#elif !defined(__CUDACC__)
    emulate_group_gather(d[0], 8, a.w, b.at, true, true);
#endif
}
#undef ACCUMULATOR4
#undef PLACE

/* Whether this GPU, and this build's code for it, run kernels that use this. */
bool su_cuda_hopper(const su_cuda *c);

#endif
