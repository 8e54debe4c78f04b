/* Philox4x32-10: ten rounds of two 32 x 32 -> 64 bit products over a 128-bit counter, the key bumped by the
 * Weyl constants each round. Word layout, which every device repeats: counter = {counter low, counter high,
 * step, layer},  key = {seed low, seed high}. */
#include "base/rng.h"
#include <math.h>

void su_rng_block(su_rng_key key, uint64_t counter, uint32_t out[4])
{
    counter += key.first;
    uint32_t x0 = (uint32_t)counter, x1 = (uint32_t)(counter >> 32), x2 = key.step, x3 = key.layer;
    uint32_t k0 = (uint32_t)key.seed, k1 = (uint32_t)(key.seed >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * x0, p1 = (uint64_t)0xCD9E8D57u * x2;
        x0 = (uint32_t)(p1 >> 32) ^ x1 ^ k0;
        x1 = (uint32_t)p1;
        x2 = (uint32_t)(p0 >> 32) ^ x3 ^ k1;
        x3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = x0;
    out[1] = x1;
    out[2] = x2;
    out[3] = x3;
}

static double unit(uint32_t high, uint32_t low)
{
    return (double)((((uint64_t)high << 32) | low) >> 11) * 0x1p-53;
}

double su_rng_uniform(su_rng_key key, uint64_t counter)
{
    uint32_t w[4];
    su_rng_block(key, counter, w);
    return unit(w[0], w[1]);
}

double su_rng_normal(su_rng_key key, uint64_t counter)
{
    uint32_t w[4];
    su_rng_block(key, counter, w);
    double u = 1.0 - unit(w[0], w[1]); /* (0, 1]: the logarithm is finite */
    return sqrt(-2.0 * log(u)) * cos(2.0 * M_PI * unit(w[2], w[3]));
}

/* floor(x n / 2^128) of a 128-bit x: a value's probability is off by less than n / 2^128. */
uint64_t su_rng_below(su_rng_key key, uint64_t counter, uint64_t n)
{
    uint32_t w[4];
    su_rng_block(key, counter, w);
    uint64_t high = ((uint64_t)w[0] << 32) | w[1], low = ((uint64_t)w[2] << 32) | w[3];
    unsigned __int128 carry = ((unsigned __int128)low * n) >> 64;
    return (uint64_t)(((unsigned __int128)high * n + carry) >> 64);
}

void su_rng_shuffle(su_rng_key key, int64_t *items, int64_t n)
{
    for (int64_t i = n - 1; i > 0; i--) {
        int64_t j = (int64_t)su_rng_below(key, (uint64_t)i, (uint64_t)i + 1);
        int64_t kept = items[i];
        items[i] = items[j];
        items[j] = kept;
    }
}

/* FNV-1a, 32 bits. */
uint32_t su_rng_name(const char *name)
{
    uint32_t h = 2166136261u;
    for (const unsigned char *p = (const unsigned char *)name; *p; p++) h = (h ^ *p) * 16777619u;
    return h;
}
