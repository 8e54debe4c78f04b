/* Every numeric tolerance of the tests, in one table. A row says what is compared; the value is relative to
 * the largest reference value unless the row says otherwise. */
#ifndef SU_TESTS_TOLERANCE_H
#define SU_TESTS_TOLERANCE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static inline double su_tolerance(const char *what)
{
    static const struct {
        const char *what;
        double value;
    } table[] = {
        {"nn.f64", 1e-12},       /* float64 device against plain loops in double */
        {"nn.f32", 2e-6},        /* float32 device against the same loops: some rounding steps of 6e-8 */
        {"nn.f32.sum", 1e-5},    /* the same where long sums cancel: weight gradients, attention backward */
        {"nn.difference", 1e-7}, /* backward against central differences, both float64, h = 1e-5 */
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strcmp(table[i].what, what) == 0) return table[i].value;
    fprintf(stderr, "tests/tolerance.h has no row \"%s\"\n", what);
    abort();
}

#endif
