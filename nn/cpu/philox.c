/* Philox4x32-10 over WIDE counters in step: the same words as base/rng.c gives, whose loop runs over rounds
 * for one counter; here the loop inside each round runs over counters, and the compiler turns it into vector
 * code. */
#include "nn/cpu/philox.h"

enum { WIDE = 32 };

void su_cpu_philox(su_rng_key key, uint64_t first, int64_t blocks, uint32_t *words)
{
    for (int64_t b = 0; b < blocks; b += WIDE) {
        uint32_t x[4][WIDE], k0 = (uint32_t)key.seed, k1 = (uint32_t)(key.seed >> 32);
        for (int i = 0; i < WIDE; i++) {
            uint64_t counter = key.first + first + (uint64_t)b + (uint64_t)i;
            x[0][i] = (uint32_t)counter;
            x[1][i] = (uint32_t)(counter >> 32);
            x[2][i] = key.step;
            x[3][i] = key.layer;
        }
        for (int round = 0; round < 10; round++) {
            for (int i = 0; i < WIDE; i++) {
                uint64_t p0 = (uint64_t)0xD2511F53u * x[0][i], p1 = (uint64_t)0xCD9E8D57u * x[2][i];
                x[0][i] = (uint32_t)(p1 >> 32) ^ x[1][i] ^ k0;
                x[1][i] = (uint32_t)p1;
                x[2][i] = (uint32_t)(p0 >> 32) ^ x[3][i] ^ k1;
                x[3][i] = (uint32_t)p0;
            }
            k0 += 0x9E3779B9u;
            k1 += 0xBB67AE85u;
        }
        int64_t n = su_cpu_min(WIDE, blocks - b);
        for (int64_t i = 0; i < n; i++)
            for (int w = 0; w < 4; w++) words[4 * (b + i) + w] = x[w][i];
    }
}
