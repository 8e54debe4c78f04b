/* How sure caption figures are: bootstrap intervals, and a paired test between two systems.
 *
 * An item is a row of numbers whose sums over items give the figures (su_caption_counts); a row comes whole,
 * so corpus figures such as BLEU are recomputed from resampled sums, not averaged. CIDEr's document
 * frequencies stay those of the whole set.
 *
 * Interval     percentile bootstrap [Efron 1979; Koehn 2004 for BLEU]: n items drawn with replacement,
 * `draws` times; the 2.5th and 97.5th percentile. For two systems the same items are drawn for both, and the
 * interval is that of the difference. Paired test  approximate randomisation [Noreen 1989; Riezler & Maxwell
 * 2005]: in each of `draws` trials every item's two rows are swapped with probability 1/2; p = (1 + trials
 * whose difference is at least as large as the observed one, either way) / (1 + draws). Not corrected for
 * looking at several figures.
 *
 * Random numbers: Philox blocks with key (seed, draw, su_rng_name("caption bootstrap" | "caption swap")).
 * Word w of block b draws item floor(word * n / 2^32) as draw 4b + w; bit k of word w decides for item 128b +
 * 32w + k. */
#ifndef SU_EVAL_CAPTION_RESAMPLE_H
#define SU_EVAL_CAPTION_RESAMPLE_H

#include "eval/caption_score.h"

typedef struct {
    su_caption_figures low, high;
} su_caption_interval;

/* draws: 1 .. 100,000. counts: [n]. The same bits for any number of threads. SU_EINVAL, SU_ENOMEM. */
su_status su_caption_bootstrap(const su_caption_counts *counts, int64_t n, int32_t draws, uint64_t seed,
                               su_pool *pool, su_caption_interval *interval, su_error *err);

typedef struct {
    su_caption_figures difference; /* a - b, over all items */
    su_caption_interval interval;  /* of the difference */
    su_caption_figures p;          /* in (0, 1] */
} su_caption_comparison;

su_status su_caption_compare(const su_caption_counts *a, const su_caption_counts *b, int64_t n, int32_t draws,
                             uint64_t seed, su_pool *pool, su_caption_comparison *comparison, su_error *err);

#endif
