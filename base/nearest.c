#include "base/nearest.h"
#include <string.h>

enum { LONGEST = 63 };

static int least(int a, int b)
{
    return a < b ? a : b;
}

/* Optimal string alignment distance of two short strings. */
static int distance(const char *a, int la, const char *b, int lb)
{
    int rows[3][LONGEST + 1];
    int *before = rows[0], *above = rows[1], *row = rows[2];
    for (int j = 0; j <= lb; j++) above[j] = j;
    for (int i = 1; i <= la; i++) {
        row[0] = i;
        for (int j = 1; j <= lb; j++) {
            int d = above[j - 1] + (a[i - 1] != b[j - 1]);
            d = least(d, least(above[j], row[j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                d = least(d, before[j - 2] + 1);
            row[j] = d;
        }
        int *spare = before;
        before = above;
        above = row;
        row = spare;
    }
    return above[lb];
}

const char *su_nearest(const char *name, const char *const *known)
{
    const char *best = NULL;
    size_t length = strlen(name);
    int best_distance = 1 + (length < 6 ? 1 : (int)(length / 3)); /* one more than is accepted */
    if (length == 0 || length > LONGEST) return NULL;
    for (; *known; known++) {
        size_t other = strlen(*known);
        if (other > LONGEST) continue;
        int d = distance(name, (int)length, *known, (int)other);
        if (d < best_distance && d < (int)other) {
            best = *known;
            best_distance = d;
        }
    }
    return best;
}
