/* The DCT perceptual hash; see phash.h. */
#include "datasets/phash.h"
#include <stdlib.h>
#include <string.h>

enum { SIDE = 32, LOW = 8, WIDEST = 1024 };

/* cos(pi k / 64) * 2^14 for k = 0..32; the other quadrants by symmetry. */
static const int16_t quarter[33] = {16384, 16364, 16305, 16207, 16069, 15893, 15679, 15426, 15137,
                                    14811, 14449, 14053, 13623, 13160, 12665, 12140, 11585, 11003,
                                    10394, 9760,  9102,  8423,  7723,  7005,  6270,  5520,  4756,
                                    3981,  3196,  2404,  1606,  804,   0};

static int64_t cosine(int k) /* cos(pi k / 64) * 2^14, k >= 0 */
{
    k %= 128;
    if (k > 64) k = 128 - k;
    return k <= 32 ? quarter[k] : -quarter[64 - k];
}

/* Means over SIDE x SIDE boxes, in sixteenths of a grey level. A side shorter than SIDE repeats pixels. */
static void shrink(const uint8_t *pixels, int32_t width, int32_t height, int32_t channels, int64_t stride,
                   int32_t thumb[SIDE][SIDE])
{
    static _Thread_local uint32_t column[WIDEST];
    for (int ty = 0; ty < SIDE; ty++) {
        int32_t y0 = ty * height / SIDE, y1 = (ty + 1) * height / SIDE;
        if (y1 == y0) y1++;
        memset(column, 0, (size_t)width * sizeof *column);
        for (int32_t y = y0; y < y1; y++) {
            const uint8_t *row = pixels + y * stride;
            if (channels == 1)
                for (int32_t x = 0; x < width; x++) column[x] += 256u * row[x];
            else
                for (int32_t x = 0; x < width; x++)
                    column[x] += 77u * row[3 * x] + 150u * row[3 * x + 1] + 29u * row[3 * x + 2];
        }
        for (int tx = 0; tx < SIDE; tx++) {
            int32_t x0 = tx * width / SIDE, x1 = (tx + 1) * width / SIDE;
            uint64_t sum = 0;
            if (x1 == x0) x1++;
            for (int32_t x = x0; x < x1; x++) sum += column[x];
            thumb[ty][tx] = (int32_t)(sum * 16 / 256 / (uint64_t)((y1 - y0) * (x1 - x0)));
        }
    }
}

static int ascending(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

bool su_phash(const uint8_t *pixels, int32_t width, int32_t height, int32_t channels, int64_t stride,
              uint64_t *hash)
{
    int32_t thumb[SIDE][SIDE], lowest = INT32_MAX, highest = 0;
    int64_t rows[SIDE][LOW] = {0}, low[LOW * LOW] = {0}, sorted[LOW * LOW];
    *hash = 0;
    shrink(pixels, width, height, channels, stride, thumb);
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++) {
            if (thumb[y][x] < lowest) lowest = thumb[y][x];
            if (thumb[y][x] > highest) highest = thumb[y][x];
        }
    if (highest - lowest <= 2 * 16) return false;
    for (int u = 0; u < LOW; u++)
        for (int x = 0; x < SIDE; x++) {
            int64_t c = cosine((2 * x + 1) * (u + 1));
            for (int y = 0; y < SIDE; y++) rows[y][u] += c * thumb[y][x];
        }
    for (int v = 0; v < LOW; v++)
        for (int y = 0; y < SIDE; y++) {
            int64_t c = cosine((2 * y + 1) * (v + 1));
            for (int u = 0; u < LOW; u++) low[v * LOW + u] += c * rows[y][u];
        }
    memcpy(sorted, low, sizeof low);
    qsort(sorted, LOW * LOW, sizeof *sorted, ascending);
    for (int k = 0; k < LOW * LOW; k++)
        if (low[k] > sorted[LOW * LOW / 2 - 1]) *hash |= UINT64_C(1) << k;
    return true;
}
