/* The DCT perceptual hash, and the comparison of fine structure; see phash.h. */
#include "datasets/phash.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SIDE = 32, LOW = 8, EDGE = 3, WIDEST = 1024 };

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

su_patch su_patch_stored(const uint8_t *square, const su_image_recipe *recipe, int32_t width, int32_t height)
{
    const int32_t size = recipe->size;
    su_patch p = {square, size, size, recipe->channels, (int64_t)size * recipe->channels};
    if (recipe->crop || recipe->spacing > 0) return p;
    if (width > height) p.height = (int32_t)fmax(1, rint((double)height / width * size));
    if (height > width) p.width = (int32_t)fmax(1, rint((double)width / height * size));
    p.pixels += (size - p.height) / 2 * p.stride + (size - p.width) / 2 * p.channels;
    return p;
}

/* Means over SIDE x SIDE boxes, in sixteenths of a grey level. A side shorter than SIDE repeats pixels. */
static void shrink(const su_patch *p, int32_t thumb[SIDE][SIDE])
{
    uint32_t column[WIDEST];
    for (int ty = 0; ty < SIDE; ty++) {
        int32_t y0 = ty * p->height / SIDE, y1 = (ty + 1) * p->height / SIDE;
        if (y1 == y0) y1++;
        memset(column, 0, (size_t)p->width * sizeof *column);
        for (int32_t y = y0; y < y1; y++) {
            const uint8_t *row = p->pixels + y * p->stride;
            if (p->channels == 1)
                for (int32_t x = 0; x < p->width; x++) column[x] += 256u * row[x];
            else
                for (int32_t x = 0; x < p->width; x++)
                    column[x] += 77u * row[3 * x] + 150u * row[3 * x + 1] + 29u * row[3 * x + 2];
        }
        for (int tx = 0; tx < SIDE; tx++) {
            int32_t x0 = tx * p->width / SIDE, x1 = (tx + 1) * p->width / SIDE;
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

bool su_phash(const su_patch *patch, uint64_t *hash)
{
    int32_t thumb[SIDE][SIDE], lowest = INT32_MAX, highest = 0;
    int64_t rows[SIDE][LOW] = {0}, low[LOW * LOW] = {0}, sorted[LOW * LOW];
    *hash = 0;
    shrink(patch, thumb);
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

/* Nine times the difference from the mean of the 3 x 3 around. */
static double detail(int32_t thumb[SIDE][SIDE], int y, int x)
{
    int32_t around = 0;
    for (int v = -1; v <= 1; v++)
        for (int u = -1; u <= 1; u++) around += thumb[y + v][x + u];
    return 9 * thumb[y][x] - around;
}

double su_picture_agreement(const su_patch *a, const su_patch *b)
{
    int32_t thumb_a[SIDE][SIDE], thumb_b[SIDE][SIDE];
    double aa = 0, bb = 0, ab = 0;
    shrink(a, thumb_a);
    shrink(b, thumb_b);
    for (int y = EDGE; y < SIDE - EDGE; y++)
        for (int x = EDGE; x < SIDE - EDGE; x++) {
            double da = detail(thumb_a, y, x), db = detail(thumb_b, y, x);
            aa += da * da;
            bb += db * db;
            ab += da * db;
        }
    return aa > 0 && bb > 0 ? ab / sqrt(aa * bb) : 0;
}
