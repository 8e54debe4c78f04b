/* The decoder a token at a time: keys and values of what was read are kept.
 *
 *   of text     per layer, [slots * places][2 width]. A row is written once, at a place of the caller's
 *               choice, and never moves: a beam that branches shares its past by naming the same places,
 *               so that nothing is copied when beams change places.
 *   of images   per layer, [slots][2][heads][memory_tokens][dim]: computed once an image, shared by its
 * beams.
 *
 * On a device that can repeat a sequence of operations (nn/device.h), calls that ask for every row are filled up to a
 * multiple of 16 rows, and every such number of rows is recorded once: steps differ in what stands in device memory
 * alone. A row that fills up sees nothing, and has a place of its own behind the slots'.
 *
 * A row's logits depend on its own token, places and image alone, to the bit, on the CPU with its own matrix
 * products: it does not matter what else is in the call. */
#ifndef SU_CAPTION_CACHE_H
#define SU_CAPTION_CACHE_H

#include "caption/decoder.h"

typedef struct su_cache su_cache;

typedef struct {
    int32_t slots, places, memory_tokens;
    int32_t max_rows; /* of one call */
    int32_t max_keys; /* of one row */
    int32_t k;        /* largest logits of a row, 1 .. vocabulary: see su_cache_answer */
} su_cache_size;

/* The decoder is borrowed; size is copied. */
su_status su_cache_new(const su_decoder *decoder, const su_cache_size *size, su_cache **cache, su_error *err);
void su_cache_free(su_cache *c);
size_t su_cache_bytes(const su_cache *c); /* device memory */

/* A new image in a slot. memory: act [memory_tokens, memory_width] on the device; copied. Its keys and values are
 * computed by the next run, together with those of its neighbours. */
void su_cache_set_image(su_cache *c, int32_t slot, const void *memory);

/* Rows of one call, host memory, [rows] each. A row's place may be among the keys of rows of the same call. */
typedef struct {
    int32_t rows;
    const int32_t *ids, *position, *type;
    const int32_t *slot;    /* whose image it looks at */
    const int32_t *place;   /* where its key and value go: 0 .. slots*places - 1, no place twice */
    const int32_t *keys;    /* [rows][max_keys]: places of what it sees, its own included */
    const int32_t *lengths; /* how many */
    const int32_t *wanted;  /* [asked] rows whose logits are asked for */
    int32_t asked;
} su_cache_call;

/* What is wanted of every row asked for, host memory: its size.k largest logits, sorted, ties to the smaller token, with
 * their tokens, [asked, k] each; the log-sum-exp of all, [asked]; and, unless NULL, all logits, [asked, vocabulary]. */
typedef struct {
    int32_t *tokens;
    float *values, *log_sums, *logits;
} su_cache_answer;

su_status su_cache_run(su_cache *c, const su_cache_call *call, const su_cache_answer *answer, su_error *err);

#endif
