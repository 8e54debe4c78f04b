/* All pairs of 64-bit hashes within a Hamming distance, without comparing all with all.
 *
 * A hash is cut into four bands of 16 bits. Two hashes at distance d agree to within floor(d / 4) bits in at
 * least one band (pigeonhole), so each hash looks only into the buckets of its bands' neighbours:
 *
 *   max_distance  0..3   4..7   8..11
 *   probes           4     68     548      buckets of n / 65,536 hashes each, when bits are evenly spread */
#ifndef SU_DATASETS_NEAR_H
#define SU_DATASETS_NEAR_H

#include "base/error.h"
#include <stdint.h>

/* a < b; every pair is reported once, a ascending. */
typedef void su_near_found(void *context, int64_t a, int64_t b, int distance);

/* max_distance 0..11. Time O(n * probes * bucket + pairs), memory 16 bytes a hash.
 * SU_EINVAL, SU_ELIMIT, SU_ENOMEM. */
su_status su_near_pairs(const uint64_t *hashes, int64_t count, int max_distance, su_near_found *found,
                        void *context, su_error *err);

#endif
