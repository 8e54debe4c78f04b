/* Launching a kernel from a .cu file, in the device's stream:
 *
 *     launch(c, "norm", blocks, threads, shared, norm_rows<float, 4>)(y, x, rows, width);
 *
 * A grid of no blocks launches nothing. A failure is recorded under the name; until it is told, nothing more is
 * launched, because a kernel could take what was not computed for an index. */
#ifndef SU_NN_CUDA_LAUNCH_H
#define SU_NN_CUDA_LAUNCH_H

#include "nn/cuda/internal.h"
#include <type_traits>
#include <utility>

template <class... P> struct launcher {
    su_cuda *c;
    const char *what;
    su_cuda_size grid, block;
    size_t shared;
    void (*kernel)(P...);

#ifndef __CUDACC__
    template <size_t... I> static void spread(void (*k)(P...), void **args, std::index_sequence<I...>)
    {
        k(*static_cast<std::remove_cv_t<P> *>(args[I])...);
    }
    static void call(const void *k, void **args)
    {
        spread(reinterpret_cast<void (*)(P...)>(reinterpret_cast<uintptr_t>(k)), args,
               std::index_sequence_for<P...>{});
    }
    static constexpr size_t sizes[] = {sizeof(P)...};
    static constexpr su_cuda_invoke entrance = {call, sizes, (int)sizeof...(P)};
    static constexpr const su_cuda_invoke *invoke = &entrance;
#else
    static constexpr const su_cuda_invoke *invoke = nullptr;
#endif

    void operator()(P... p) const
    {
        if (c->failed || grid.x < 1 || grid.y < 1 || grid.z < 1) return;
        const void *k = reinterpret_cast<const void *>(reinterpret_cast<uintptr_t>(kernel));
        su_cuda_here(c);
#ifndef __CUDACC__
        (emulate_argument(what, p), ...);
#endif
        void *args[] = {const_cast<void *>(static_cast<const void *>(&p))...};
        if (shared > 48 << 10 && !su_cuda_check(c, c->rt->allow_shared(k, shared), what)) return;
        su_cuda_check(c, c->rt->launch(k, invoke, grid, block, args, shared, c->stream), what);
    }
};

template <class... P>
static inline launcher<P...> launch(su_cuda *c, const char *what, su_cuda_size grid, int threads, size_t shared,
                                    void (*kernel)(P...))
{
    return launcher<P...>{c, what, grid, su_cuda_size{threads, 1, 1}, shared, kernel};
}
template <class... P>
static inline launcher<P...> launch(su_cuda *c, const char *what, int64_t blocks, int threads, size_t shared,
                                    void (*kernel)(P...))
{
    if (blocks > INT32_MAX) { /* no shape of a model reaches this */
        su_cuda_fail(c, SU_ELIMIT, "an operation is too large for one launch on the GPU; use a smaller batch");
        blocks = 0;
    }
    return launcher<P...>{c, what, su_cuda_size{(int)blocks, 1, 1}, su_cuda_size{threads, 1, 1}, shared, kernel};
}

/* Calls f with a value of the type that the device computes in: f(float()) or f(bf16()). */
template <class F> static inline void by_type(const su_cuda *c, F f)
{
    if (c->device.act == SU_DTYPE_BF16)
        f(bf16());
    else
        f(float());
}

/* Threads of a block that handles a row of `items` together: whole warps, at most `most`. */
static inline int row_threads(int64_t items, int most)
{
    const int64_t n = (items + WARP - 1) / WARP * WARP;
    return n < WARP ? (int)WARP : n > most ? most : (int)n;
}

#endif
