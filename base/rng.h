/* Counter-based random numbers: Philox4x32-10 [Salmon et al., SC 2011].
 * A value is a pure function of (seed, stream, counter): no state, so recomputation, resume and any thread
 * count give the same numbers. Streams are named by what they are for and where: seed, step, layer, element. */
#ifndef SU_BASE_RNG_H
#define SU_BASE_RNG_H

#include <stdint.h>

typedef struct {
    uint64_t seed;
    uint32_t step, layer; /* layer: any small id that is unique within a step (use su_rng_name for names) */
    uint64_t first;       /* added to every counter: where a piece begins that is drawn as a part of a whole */
} su_rng_key;

/* Four 32-bit words of block `counter` under `key`. */
void su_rng_block(su_rng_key key, uint64_t counter, uint32_t out[4]);

double su_rng_uniform(su_rng_key key, uint64_t counter);             /* [0, 1), 53 bits */
double su_rng_normal(su_rng_key key, uint64_t counter);              /* mean 0, variance 1 (Box-Muller) */
uint64_t su_rng_below(su_rng_key key, uint64_t counter, uint64_t n); /* 0 .. n-1, unbiased to 2^-64; n >= 1 */
void su_rng_shuffle(su_rng_key key, int64_t *items, int64_t n);      /* Fisher-Yates */
uint32_t su_rng_name(const char *name);                              /* a stable hash, for a key's layer */

#endif
