/* Every numeric tolerance of the tests, in one table. A row says what is compared; the value is relative to
 * the largest reference value unless the row says otherwise. */
#ifndef SU_TESTS_TOLERANCE_H
#define SU_TESTS_TOLERANCE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Not inlined: unrolled over a constant name, gcc 12 warns of every row whose name has another length. */
static __attribute__((noinline, unused)) double su_tolerance(const char *what)
{
    static const struct {
        const char *what;
        double value;
    } table[] = {
        {"base.rng.moment", 6e-3}, /* absolute: moments of 200,000 random numbers, more than four standard errors */
        {"image.jpeg", 1},         /* absolute, levels: another libjpeg-turbo may round otherwise */
        {"image.png", 0},          /* absolute, levels */
        {"image.resize", 0},       /* absolute, levels: bit for bit Pillow's */
        {"dicom.render", 0.5 + 1e-9}, /* absolute, levels: the formula's value, rounded once */
        {"dicom.render.colour", 0.5 + 1e-4}, /* the same where the matrix is applied in float */
        {"nn.f64", 1e-12},       /* float64 device against plain loops in double */
        {"nn.f32", 2e-6},        /* float32 device against the same loops: some rounding steps of 6e-8 */
        {"nn.f32.one", 1e-6},    /* one float32 value against its own size */
        {"nn.f32.sum", 1e-5},    /* the same where long sums cancel: weight gradients, attention backward */
        {"nn.f32.pairs", 1e-5},  /* float32 losses over all pairs: scores up to 100, to 6e-8 each */
        {"nn.f64.pairs", 1e-11}, /* the same in float64, where both sides add up to four million terms */
        {"nn.difference", 1e-7}, /* backward against central differences, both float64, h = 1e-5 */
        {"nn.block.f32", 3e-5},  /* two blocks in float32 against float64, values and gradients */
        {"nn.block.difference", 5e-6}, /* gradients through two blocks against central differences, float64 */
        {"cuda.f32", 3e-6},      /* norm of the error over the norm: the CUDA device in float32 against float64 */
        {"cuda.f32.pairs", 2e-5}, /* nn.f32.pairs where products are added before they are rounded, and e^x is 2 ulp off:
                                     two centroids of one coordinate, where terms of 11 cancel to 0, end at 5e-6 (of 0.5) */
        {"cuda.bf16", 8e-3},     /* the same where results are rounded to bf16: 2^-9 each; p and ds in attention, too */
        {"cuda.bf16.pairs", 2e-2}, /* the same for gradients over all pairs: weights and centroids rounded to bf16 */
        {"cuda.f32.losses", 1e-5},     /* the golden files' losses on the CUDA device in float32 */
        {"cuda.f32.gradients", 1e-5},  /* norm over norm, all tensors together; of a single one, four times as much */
        {"cuda.f32.train.losses", 1e-4}, /* 20 AdamW steps, losses and norms of gradients */
        {"cuda.f32.train.weights", 1e-5}, /* after them, norm over norm */
        {"cuda.bf16.losses", 1e-2},    /* the same four in bf16: an error of 2^-8 in a cosine is one of 14 times that in a score */
        {"cuda.bf16.gradients", 6e-2},
        {"cuda.bf16.train.losses", 2e-2},
        {"cuda.bf16.train.weights", 5e-3},
        {"cuda.f32.run", 1e-5},  /* a whole run's losses and weights on the CUDA device against the CPU's */
        {"cuda.bf16.run", 5e-2}, /* the same in bf16, where ten steps of AdamW follow roundings */
        {"align.f32", 1e-4},     /* float32 towers and objective, values and gradients, against PyTorch in double */
        {"align.f64", 1e-9},     /* the same in float64 */
        {"align.f32.train", 1e-3}, /* after 20 AdamW steps in float32 */
        {"align.f64.train", 1e-8}, /* the same in float64: nearly zero gradients divided by their own root */
        {"align.f32.pieces", 1e-5},  /* one batch against its pieces in float32 */
        {"align.f64.pieces", 1e-12}, /* the same in float64 */
        {"align.difference", 1e-6}, /* gradients through whole towers against central differences, float64 */
        {"caption.f32.log_prob", 5e-4}, /* absolute: of a token, of logits up to 50, in float32 against PyTorch in double */
        {"caption.f64.log_prob", 1e-5}, /* the same in float64: log-probabilities themselves are float32 */
        {"eval.f64", 1e-12},     /* absolute: sums of unit vectors in double, in another order */
        {"eval.student", 1e-6},  /* absolute: against printed tables of t, six decimals */
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strcmp(table[i].what, what) == 0) return table[i].value;
    fprintf(stderr, "tests/tolerance.h has no row \"%s\"\n", what);
    abort();
}

#endif
