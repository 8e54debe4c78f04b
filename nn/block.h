/* The transformer block: ONE, for the image tower, the text tower, the matcher and the caption decoder.
 *
 * A block is two or three residual branches: self-attention, cross-attention (when `cross`), MLP.
 *   pre-norm  (ViT):   x <- x + f(LN(x))
 *   post-norm (BERT):  x <- LN(x + f(x))
 * with f = attention: W_o A(W_q x, W_k x, W_v x), or f = MLP: W_2 act(W_1 x).
 *
 * A branch's last product adds the stream to what it gives, unless dropout or stochastic depth stand between. Then, and
 * behind the last block of a pre-norm stack, the addition is left to whoever reads the stream next, and is fused with
 * that reader's norm: a stream is the pair (x, delta) and its value is x + delta. su_stream_norm closes a stack.
 *
 * What forward keeps for backward lives in su_block_saved, planned on an arena once for the largest batch;
 * smaller batches use a prefix. Weight gradients are added to the table's; activation gradients flow through
 * one buffer. Models run blocks through nn/stack.h, which also decides what is kept. */
#ifndef SU_NN_BLOCK_H
#define SU_NN_BLOCK_H

#include "base/memory.h"
#include "nn/params.h"

typedef struct {
    int32_t width, heads, mlp; /* width is a multiple of heads; head size width/heads */
    bool pre_norm, causal;
    bool scaled_start; /* linear weights start with deviation 1/sqrt(inputs), not 0.02 */
    bool cross;        /* with a cross-attention branch over `memory` rows of memory_width */
    int32_t memory_width;
    su_activation act;
    double eps;               /* of the norms */
    double dropout;           /* on each branch's output */
    double attention_dropout; /* on attention probabilities */
    double drop_path;         /* stochastic depth of each branch, a sample at a time */
} su_block_config;

/* Hugging Face's names of the parts, each completed by ".weight" and ".bias". */
typedef struct {
    const char *query, *key, *value, *attention_out, *attention_norm;
    const char *cross_query, *cross_key, *cross_value, *cross_out, *cross_norm;
    const char *mlp_in, *mlp_out, *mlp_norm;
} su_block_names;

extern const su_block_names su_block_names_vit; /* "attention.attention.query", "layernorm_before", ... */
extern const su_block_names
    su_block_names_bert; /* "attention.self.query", "attention.output.LayerNorm", ... */

/* Parameter indexes in the table; *_b is the bias. qkv and cross_kv are packed. */
typedef struct {
    su_block_config config;
    int64_t norm_w[3], norm_b[3]; /* self-attention, cross-attention, MLP */
    int64_t qkv_w, qkv_b, out_w, out_b;
    int64_t cq_w, cq_b, ckv_w, ckv_b, cout_w, cout_b;
    int64_t in_w, in_b, mlp_w, mlp_b;
} su_block;

/* Adds the block's parameters under `prefix` ("image.encoder.layer.0."). SU_EINVAL when the configuration
 * cannot be. Linear weights start normal: with deviation 0.02 as in BERT and ViT, which are 768 wide, or
 * scaled. At 0.02 the branches of a narrow block start almost silent. */
su_status su_block_add(su_params *p, const su_block_config *config, const su_block_names *names,
                       const char *prefix, int group, su_block *block, su_error *err);

/* Per-call shape. lengths and memory_lengths: device int32 [batch] or NULL. wanted: device int32 [batch], ascending:
 * the rows of x, one of each sample, whose values alone are read behind the block; NULL: all. Then queries, the rest
 * of attention's branch and the MLP are formed for those rows, keys and values for all; the block's output and the
 * gradient that comes back have `batch` rows. It is what the whole block gives for them, to rounding. Not with
 * cross-attention nor causal; dropout draws by the rows that there are. */
typedef struct {
    int32_t batch, tokens;
    const int32_t *lengths;
    int32_t memory_tokens;
    const int32_t *memory_lengths;
    const int32_t *wanted;
    bool train;     /* dropout and stochastic depth are on */
    bool final;     /* the step adds nothing more to the parameters' gradients behind this backward */
    su_rng_key key; /* key.layer: this block's first id; a block uses 16 */
    int64_t first;  /* sample 0's number in the whole batch: a piece draws what its samples draw in the whole,
                       exactly so where `first` is a multiple of four */
} su_block_call;

typedef struct {
    void *input[3]; /* act [rows, width]: the stream at each branch (pre-norm; [0] is given by the stack) or
                       the sum before the norm (post-norm) */
    void *mean[3], *rstd[3];
    void *normed[3]; /* act: each branch's input. Post-norm: the previous norm's output; [0] is the caller's x
                      */
    void *qkv, *attended, *lse; /* qkv, where rows are wanted: keys and values of all, then queries */
    void *cq, *ckv, *cattended, *clse;
    void *pre, *hidden; /* act [rows, mlp] */
    void *output;       /* post-norm: the block's result */
    bool lean; /* normed, hidden and output lie in scratch: backward forms what it needs of them again */
} su_block_saved;

/* Scratch that all blocks of a stack share. */
typedef struct {
    void *branch; /* act [rows, width]; pre-norm: also the stream's delta between blocks */
    void *wide;   /* act [rows, max(mlp, 3 width, width + 2 memory width)] */
    void *narrow; /* act [rows, width] */
    void *output; /* act [rows, width]: of lean post-norm blocks, else NULL */
} su_block_scratch;

/* Plans the buffers of one block for at most `rows` = batch*tokens rows, of which `behind` are wanted behind it, and
 * `memory_rows` memory rows. A lean block keeps no output of a norm or of the activation: backward costs one pass more
 * over each, and no product. Without `backward` there is no pre. */
void su_block_plan(su_arena *a, const su_device *d, const su_block_config *c, int64_t rows, int64_t behind,
                   int64_t memory_rows, bool lean, bool backward, const su_block_scratch *scratch,
                   su_block_saved *saved);
void su_block_plan_scratch(su_arena *a, const su_device *d, const su_block_config *c, int64_t rows,
                           int64_t memory_rows, bool lean, su_block_scratch *scratch);

typedef struct {
    void *x, *delta; /* act [rows, width]; delta NULL: the value is x */
} su_stream;

/* next (pre-norm): act [rows, width], where the value of the stream that goes out may stand; NULL: it is a pair.
 * stream in -> stream out (its memory belongs to `saved` and `scratch`: the next block reads it before it
 * writes there). memory: act [batch*memory_tokens, memory_width] or NULL. */
void su_block_forward(const su_block *b, const su_params *p, const su_block_call *call, su_stream *stream,
                      const void *memory, void *next, su_block_saved *saved, const su_block_scratch *scratch);

/* Forms again what forward had saved, from what must still be there: the block's input (pre-norm input[0],
 * post-norm normed[0]) and, post-norm, input, mean and rstd of the last norm. The last product of the MLP is
 * not needed and left out: a third of a block's products. */
void su_block_again(const su_block *b, const su_params *p, const su_block_call *call, const void *memory,
                    su_block_saved *saved, const su_block_scratch *scratch);

/* y = the norm of a post-norm block's last sum: the block's output again, from input, mean and rstd. */
void su_block_output_again(const su_block *b, const su_params *p, int64_t rows, const su_block_saved *saved,
                           void *y);

/* Where the gradient of the MLP's last bias may be formed by whoever forms the block's dx: acc [width] += column sums of
 * it. NULL: nowhere, since dropout or stochastic depth stand between. */
void *su_block_end_bias(const su_block *b, const su_params *p, const su_block_call *call);

/* summed: that has been done. sums (pre-norm, all rows wanted): acc [width] += column sums of the dx that goes out; NULL.
 * dx: act [rows, width], in: gradient at the block's output value (of the wanted rows), out: at its input value.
 * d_memory (cross
 * only): act, gradient is ADDED, may be NULL. */
void su_block_backward(const su_block *b, const su_params *p, const su_block_call *call, void *dx,
                       const void *memory, void *d_memory, bool summed, void *sums, const su_block_saved *saved,
                       const su_block_scratch *scratch);

/* y = LN(x + delta); sum receives x + delta (may alias delta's memory). */
void su_stream_norm(su_device *d, const su_stream *stream, void *y, void *sum, void *mean, void *rstd,
                    const void *gamma, const void *beta, double eps, int64_t rows, int32_t width);

#endif
