/* Towers: a ViT for images and a BERT for texts, over the one transformer block.
 *
 *   ViT (pre-norm):   patches -> linear, class token in front, + learned positions -> blocks -> LayerNorm ->
 * pool BERT (post-norm): word + position + type embeddings -> LayerNorm -> blocks -> pool
 *
 * pool: the class token ([CLS]), or the mean over patches (class token left out) / over the text's tokens
 * ([CLS] and [SEP] included, padding left out). Parameter names are Hugging Face's ViTModel and BertModel
 * under the stream's prefix. */
#ifndef SU_ALIGN_TOWER_H
#define SU_ALIGN_TOWER_H

#include "nn/stack.h"

typedef enum { SU_TOWER_VIT, SU_TOWER_BERT } su_tower_kind;
typedef enum { SU_POOLING_CLS, SU_POOLING_MEAN } su_pooling;
/* Weights of a tower that starts from nothing. NORMAL: all with deviation 0.02, as BERT and ViT. SCALED: the
 * blocks' with deviation 1/sqrt(inputs), and a ViT's positions as sines of column and row (SU_INIT_GRID). */
typedef enum { SU_START_NORMAL, SU_START_SCALED } su_tower_start;

typedef struct {
    su_tower_kind kind;
    int32_t width, depth, heads, mlp;
    su_pooling pooling;
    su_tower_start start;
    su_activation act;
    double eps;
    double dropout, attention_dropout,
        drop_path; /* drop_path: of the last block; earlier ones grow to it linearly */
    /* ViT */
    int32_t image_size, patch, channels;
    double patch_dropout; /* share of patches left out of each training image, 0 <= x < 1 */
    double mean[4], std[4];
    /* BERT */
    int32_t vocabulary, positions, types;
    int32_t max_tokens; /* what a text is cut to, [CLS] and [SEP] included; at most positions */
} su_tower_config;

/* Input of one call, in host memory but for images that are on_device. */
typedef struct {
    int32_t batch;
    const uint8_t *images;        /* ViT: [batch, image_size, image_size, channels] */
    bool on_device;               /* the images lie in the device's memory */
    const int32_t *ids, *lengths; /* BERT: [batch, max_tokens], [batch] */
    const float *pooled;          /* [batch, width]: what the tower gave for them before; it does not run */
    bool train;                   /* dropout, patch dropout and stochastic depth are on */
    bool final;                   /* backward: nothing more is added to the tower's gradients in this step */
    su_rng_key key; /* seed, step, and a layer id base that is the stream's own (16 * (depth + 1) ids are used) */
    int64_t first;  /* sample 0's number in the whole batch (see su_block_call) */
    int32_t tokens; /* BERT: rows are padded to at least so many; dropout draws by the padded length, so pieces
                       of a batch must share it */
} su_tower_input;

typedef struct su_tower su_tower;

/* Adds the tower's parameters under prefix ("image.") in learning-rate group `group`. */
su_status su_tower_new(const su_tower_config *config, const char *prefix, int group, su_params *params,
                       su_tower **tower, su_error *err);
void su_tower_free(su_tower *t);
const su_tower_config *su_tower_configuration(const su_tower *t);
int32_t su_tower_tokens(const su_tower *t); /* ViT: 1 + all patches; BERT: max_tokens */

/* Plans device buffers for calls of at most max_batch samples; with `backward` what backward needs is kept, as
 * `level` says (nn/stack.h), without it all blocks share one block's buffers. Measure first, then again on real
 * memory (see su_arena). Without `tokens` su_tower_output is not wanted, and where the class token is pooled the
 * last block forms nothing that is not read. */
void su_tower_plan(su_tower *t, su_arena *arena, int32_t max_batch, bool backward, su_checkpointing level, bool tokens);

/* The tower's own buffers, valid until its next call: pooled act [batch, width], and room for its gradient. */
void *su_tower_pooled(const su_tower *t);
void *su_tower_d_pooled(const su_tower *t);
/* The tokens of the last forward, behind the last norm: act [batch, *tokens, width] (ViT: the class token
 * first; with patch dropout fewer than su_tower_tokens). Valid until the next backward or forward. NULL: planned
 * without. */
const void *su_tower_output(const su_tower *t, int32_t *tokens);

/* *pooled: su_tower_pooled(t). */
su_status su_tower_forward(su_tower *t, const su_tower_input *in, void **pooled, su_error *err);
/* After the forward of the same input. d_pooled: act [batch, width]; d_tokens: act, gradient at
 * su_tower_output, if it was planned for, besides what comes through the pooling. Either may be NULL. Parameter
 * gradients are added to the table. */
su_status su_tower_backward(su_tower *t, const su_tower_input *in, const void *d_pooled, const void *d_tokens,
                            su_error *err);

/* Position table of a ViT for another number of patches: bicubic over the grid, the class token's row kept.
 * from [1 + g*g, width] -> to [1 + h*h, width], host doubles. */
void su_vit_interpolate_positions(const double *from, int32_t g, double *to, int32_t h, int32_t width);

#endif
