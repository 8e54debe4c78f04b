/* Captions for many images at a time: every slot holds one image's search, and a slot whose caption is
 * finished takes the next image at once, so that short captions do not wait for long ones (continuous
 * batching).
 *
 *     while there are images or su_generator_active(g):
 *         while su_generator_room(g) and there are images: su_generator_add(...)
 *         su_generator_step(g)
 *         while ((caption = su_generator_take(g))) ...         as they finish, not in order of numbers
 *
 * A caption is the same whatever is captioned beside it, and for any number of slots and threads. */
#ifndef SU_CAPTION_GENERATE_H
#define SU_CAPTION_GENERATE_H

#include "caption/decoder.h"
#include "caption/search.h"

/* What the decoder reads in front of [CLS]: evidence. [length] each, at most max_prefix. */
typedef struct {
    const int32_t *ids, *position, *type;
    int32_t length;
} su_prefix;

/* Valid until the next step. */
typedef struct {
    int64_t number;
    int32_t length; /* tokens, [SEP] included when it ended by itself */
    const int32_t *tokens;
    const float *log_probs; /* of each token, the decoder's own, before any rule */
    double log_prob;        /* their sum */
    double score;           /* what beams were ranked by: over length^length_penalty */
} su_generated;

typedef struct su_generator su_generator;

/* memory_tokens: of every image. The decoder and `rules` are borrowed. SU_EINVAL: see su_generation_check;
 * captions or evidence longer than the decoder's positions. */
su_status su_generator_new(const su_decoder *decoder, const su_generation *rules, int32_t slots,
                           int32_t memory_tokens, int32_t max_prefix, su_generator **generator,
                           su_error *err);
void su_generator_free(su_generator *g);
size_t su_generator_bytes(const su_generator *g); /* device memory */

int32_t su_generator_room(const su_generator *g); /* free slots */
int32_t su_generator_active(
    const su_generator *g); /* captions under way, finished ones that were not taken included */

/* number: the caller's; it keys sampling. memory: act [memory_tokens, memory_width] on the device; not kept.
 * prefix may be NULL. SU_EINVAL without a free slot. */
su_status su_generator_add(su_generator *g, int64_t number, const void *memory, const su_prefix *prefix,
                           su_error *err);
/* One token for every caption under way. */
su_status su_generator_step(su_generator *g, su_error *err);
/* A finished caption, whose slot is free then; NULL: none. */
const su_generated *su_generator_take(su_generator *g);

#endif
