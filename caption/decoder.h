/* The caption decoder: a BERT that looks back only, with cross-attention over the image tower's tokens.
 *
 *   word + position + type embeddings -> LayerNorm
 *   -> post-norm blocks: causal self-attention, cross-attention over `memory`, MLP
 *   -> dense, activation, LayerNorm -> product with the word embeddings + bias = logits
 *
 * Its parameters are those of Hugging Face's BertLMHeadModel (is_decoder, add_cross_attention) under the
 * names "decoder.embeddings...", "decoder.encoder.layer.N...", "decoder.cls.predictions...". Types tell a
 * caption (0) from pieces of evidence (1, 2, ...: other captions, offered in front of it).
 *
 * This file runs whole rows, for training and scoring; caption/cache.h runs a token at a time. */
#ifndef SU_CAPTION_DECODER_H
#define SU_CAPTION_DECODER_H

#include "nn/stack.h"

typedef struct {
    int32_t width, depth, heads, mlp;
    int32_t memory_width; /* of the image tower's tokens */
    int32_t vocabulary, positions, types;
    su_activation act;
    double eps, dropout, attention_dropout;
} su_decoder_config;

/* Rows of one call, in host memory, [batch, tokens] each. */
typedef struct {
    int32_t batch, tokens;
    const int32_t *ids, *position, *type;
    const int32_t *lengths; /* [batch]: what follows is padding */
    const int32_t *targets; /* the token that should come next; -1: none is asked for */
    bool train;             /* dropout is on */
    bool final;             /* backward: nothing more is added to the decoder's gradients in this step */
    su_rng_key key;         /* seed, step, and a layer id base that is this call's own */
    int64_t first;          /* row 0's number in the whole batch (see su_block_call) */
} su_decoder_input;

typedef struct {
    su_decoder_config config;
    su_params *params;
    su_device *device;
    su_block *blocks;
    int64_t word, position, type, norm_w, norm_b; /* parameter indexes */
    int64_t dense_w, dense_b, head_norm_w, head_norm_b, bias;
    /* buffers, planned; see decoder.c */
    int32_t max_batch, max_tokens, memory_tokens;
    bool backward;
    su_block_stack stack;
    void *tokens, *sum, *mean, *rstd, *d_tokens;
    void *head, *head_pre, *head_act, *head_norm, *head_mean, *head_rstd, *d_head, *logits, *loss;
    int32_t
        *lists; /* device: ids, position, type, wanted rows, their targets: [max_batch * max_tokens] each */
    int32_t *lengths; /* device: [max_batch] */
    int32_t *host;    /* of the two lists that are made here */
} su_decoder;

/* SU_EINVAL when the configuration cannot be. */
su_status su_decoder_new(const su_decoder_config *config, const char *prefix, int group, su_params *params,
                         su_decoder **decoder, su_error *err);
void su_decoder_free(su_decoder *d);

/* Plans buffers for calls of at most this size; level: see nn/stack.h. Measure first, then again on real memory
 * (see su_arena). */
void su_decoder_plan(su_decoder *d, su_arena *arena, int32_t max_batch, int32_t max_tokens,
                     int32_t memory_tokens, bool backward, su_checkpointing level);

/* Next-token cross-entropy [method 6] over all positions with a target:
 *   *loss += weight * sum of losses (label smoothing `smoothing`),   *count: how many
 * memory: act [batch, memory_tokens, memory_width]. With `learn` parameter gradients are added to the table,
 * and d_memory (NULL: not wanted), of memory's shape, is overwritten. */
su_status su_decoder_loss(su_decoder *d, const su_decoder_input *in, const void *memory,
                          int32_t memory_tokens, double smoothing, double weight, bool learn, void *d_memory,
                          double *loss, int64_t *count, su_error *err);

/* The logits of the positions with a target, in order: act [count, vocabulary], the caller's device memory. */
su_status su_decoder_logits(su_decoder *d, const su_decoder_input *in, const void *memory,
                            int32_t memory_tokens, void *logits, int64_t *count, su_error *err);

#endif
