/* Near pairs of hashes by multi-index hashing; see near.h. */
#include "datasets/near.h"
#include "base/memory.h"
#include <stdbool.h>

enum { BANDS = 4, VALUES = 1 << 16, RADIUS_MAX = 2, MASKS_MAX = 1 + 16 + 120 };

typedef struct {
    int64_t count;
    uint32_t *items[BANDS]; /* ordered by the band's value, then by index */
    uint32_t *first[BANDS]; /* [VALUES + 1] */
} buckets;

static unsigned band_of(uint64_t hash, int band)
{
    return (unsigned)(hash >> (16 * band)) & (VALUES - 1);
}

static void buckets_free(buckets *b)
{
    for (int k = 0; k < BANDS; k++) {
        su_free(b->items[k]);
        su_free(b->first[k]);
    }
}

static bool buckets_make(buckets *b, const uint64_t *hashes, int64_t count)
{
    *b = (buckets){.count = count};
    for (int k = 0; k < BANDS; k++) {
        b->items[k] = su_alloc((size_t)count + 1, sizeof **b->items);
        b->first[k] = su_calloc(VALUES + 1, sizeof **b->first);
        if (!b->items[k] || !b->first[k]) return false;
        /* A counting sort: sizes, then ends, then filled from the back. */
        for (int64_t i = 0; i < count; i++) b->first[k][band_of(hashes[i], k)]++;
        for (int v = 1; v <= VALUES; v++) b->first[k][v] += b->first[k][v - 1];
        for (int64_t i = count - 1; i >= 0; i--)
            b->items[k][--b->first[k][band_of(hashes[i], k)]] = (uint32_t)i;
    }
    return true;
}

/* A pair that an earlier band brings together has been reported there. */
static bool seen_before(uint64_t difference, int band, int radius)
{
    for (int k = 0; k < band; k++)
        if (__builtin_popcount(band_of(difference, k)) <= radius) return true;
    return false;
}

static int masks_make(int radius, uint16_t masks[MASKS_MAX])
{
    int n = 0;
    for (unsigned m = 0; m < VALUES; m++)
        if (__builtin_popcount(m) <= radius) masks[n++] = (uint16_t)m;
    return n;
}

su_status su_near_pairs(const uint64_t *hashes, int64_t count, int max_distance, su_near_found *found,
                        void *context, su_error *err)
{
    if (max_distance < 0 || max_distance >= BANDS * (RADIUS_MAX + 1))
        return su_fail(err, SU_EINVAL, "a hash distance of %d is not in 0..%d", max_distance,
                       BANDS * (RADIUS_MAX + 1) - 1);
    if (count >= UINT32_MAX) return su_fail(err, SU_ELIMIT, "more than 2^32 hashes to compare");
    uint16_t masks[MASKS_MAX];
    int radius = max_distance / BANDS, mask_count = masks_make(radius, masks);
    buckets b;
    if (!buckets_make(&b, hashes, count)) {
        buckets_free(&b);
        return su_fail(err, SU_ENOMEM, "no memory to compare %lld hashes", (long long)count);
    }
    for (int64_t a = 0; a < count; a++)
        for (int k = 0; k < BANDS; k++)
            for (int m = 0; m < mask_count; m++) {
                unsigned value = band_of(hashes[a], k) ^ masks[m];
                for (uint32_t i = b.first[k][value]; i < b.first[k][value + 1]; i++) {
                    int64_t other = b.items[k][i];
                    if (other <= a) continue;
                    uint64_t difference = hashes[a] ^ hashes[other];
                    int distance = __builtin_popcountll(difference);
                    if (distance <= max_distance && !seen_before(difference, k, radius))
                        found(context, a, other, distance);
                }
            }
    buckets_free(&b);
    return SU_OK;
}
