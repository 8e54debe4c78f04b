/* The pictures that tests/golden/make_images.py makes, and pixels compared with its golden ones. */
#ifndef SU_TESTS_DATASETS_PICTURE_H
#define SU_TESTS_DATASETS_PICTURE_H

#include "base/memory.h"
#include "base/safetensors.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define GOLDEN_IMAGES SU_SOURCE_DIR "/tests/golden/images"

/* make_images.py's noise(): [height, width, channels], freed with su_free. */
__attribute__((unused)) static uint8_t *noise(int32_t width, int32_t height, int32_t channels)
{
    uint8_t *out = su_alloc((size_t)width * (size_t)height, (size_t)channels), *p = out;
    assert_non_null(out);
    for (uint32_t y = 0; y < (uint32_t)height; y++)
        for (uint32_t x = 0; x < (uint32_t)width; x++)
            for (uint32_t c = 0; c < (uint32_t)channels; c++) {
                uint32_t h = (x * 73856093u) ^ (y * 19349663u) ^ (c * 83492791u);
                h = (h ^ (h >> 13)) * 1274126177u;
                *p++ = (uint8_t)((x / 5 + y / 3) % 3 == 0 ? 255 * (h >> 31) : h >> 24);
            }
    return out;
}

/* Largest difference of n bytes. */
__attribute__((unused)) static int farthest(const uint8_t *a, const uint8_t *b, size_t n)
{
    int most = 0;
    for (size_t i = 0; i < n; i++)
        if (abs(a[i] - b[i]) > most) most = abs(a[i] - b[i]);
    return most;
}

/* A repeatable random number, 0 .. n-1. */
__attribute__((unused)) static uint32_t dice(uint32_t n)
{
    static uint64_t state = 88172645463325252ull;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)((state >> 11) % n);
}

#endif
