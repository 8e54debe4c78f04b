/* A stack of blocks of one shape, forward and backward, and what is kept between the two: activation
 * checkpointing.
 *
 * Gradients are the same bits at every level, because what is formed again is what forward had: dropout is a
 * function of (seed, step, layer, element). The levels, with what each keeps of a block of width w and MLP
 * width m, in `act` elements a row, cross-attention and the small columns (norms' statistics, log-sum-exps)
 * aside:
 *
 *   NONE        8w + 2m     everything
 *   SELECTIVE   6w + m      all but the outputs of norms and of the activation: backward forms them again, which
 *                           costs no matrix product
 *   FULL        w           the block's input: backward runs the block again, but for its last product, through
 *                           one block's SELECTIVE buffers
 *
 * The first block's input is the caller's. */
#ifndef SU_NN_STACK_H
#define SU_NN_STACK_H

#include "nn/block.h"

typedef enum {
    SU_CHECKPOINTING_NONE,
    SU_CHECKPOINTING_SELECTIVE,
    SU_CHECKPOINTING_FULL,
    SU_CHECKPOINTING_LEVELS
} su_checkpointing;

extern const char
    *const su_checkpointing_names[SU_CHECKPOINTING_LEVELS + 1]; /* "none", ...; NULL at the end */

typedef struct {
    const su_block *blocks; /* [depth], not owned */
    int32_t depth;
    su_checkpointing level;
    su_block_saved *saved; /* [depth], owned; buffers that are not a block's own are shared */
    su_block_scratch scratch;
} su_block_stack;

/* Plans buffers for calls of at most `rows` = batch*tokens rows, of which `last` are wanted behind the last block (all,
 * or one of each sample), and `memory_rows` memory rows. Without
 * `backward` nothing is kept and the level does not matter. Without host memory for the list, a->overflow is
 * set. */
void su_block_stack_plan(su_block_stack *s, su_arena *a, const su_device *d, const su_block *blocks,
                         int32_t depth, int64_t rows, int64_t last, int64_t memory_rows, bool backward,
                         su_checkpointing level);
void su_block_stack_free(su_block_stack *s); /* what plan took from the host */

/* x -> the stream behind the last block (see su_block_forward), valid until the next backward or forward. x
 * stays in place until backward. call->key.layer: the first block's; each uses 16. call->wanted: behind the last. */
su_stream su_block_stack_forward(su_block_stack *s, const su_params *p, const su_block_call *call, void *x,
                                 const void *memory);
/* After the forward of the same call. dx, d_memory: see su_block_backward. With call->final each block's parameters
 * are ready (see su_params_ready) behind its own backward. */
void su_block_stack_backward(su_block_stack *s, su_params *p, const su_block_call *call, void *dx,
                             const void *memory, void *d_memory);

#endif
