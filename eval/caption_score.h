/* BLEU, ROUGE-L and CIDEr of captions, with pycocoevalcap's definitions (docs/metrics.md has the formulas):
 * equal to it to 1e-9 on the same tokens, for the whole and for every item.
 *
 * BLEU     [Papineni 2002] clipped n-gram precisions, geometric mean, brevity penalty against the reference
 *          whose length is closest (the shorter of two); the whole from summed counts, an item from its own.
 * ROUGE-L  [Lin 2004] F of the longest common subsequence, beta 1.2, best precision and best recall over the
 *          references; the whole is the mean over items.
 * CIDEr-D  [Vedantam 2015, eq. 3 and 4, with sigma 6] clipped cosine of tf-idf vectors of 1- to 4-grams, a
 *          Gaussian penalty on the difference of lengths, times 10. pycocoevalcap calls this CIDEr, and so
 * does `cider` here; `cider_d` is the same number. cider_original is eq. 1 and 2: no clipping, no penalty. */
#ifndef SU_EVAL_CAPTION_SCORE_H
#define SU_EVAL_CAPTION_SCORE_H

#include "eval/sentences.h"

enum { SU_NGRAMS = 4, SU_METEOR_COUNTS = 23 };

/* One item: sentence numbers of its hypothesis and of its first reference; references follow one another. */
typedef struct {
    int64_t hypothesis, reference, references;
} su_caption_pair;

/* What corpus figures are made of: sums of these over items. */
typedef struct {
    int32_t correct[SU_NGRAMS], guess[SU_NGRAMS]; /* n-grams that match, n-grams */
    int32_t length, reference_length;             /* words of the hypothesis, of the closest reference */
    double rouge_l, cider, cider_original;
    int32_t meteor_items, meteor[SU_METEOR_COUNTS]; /* eval/meteor.h makes them 1 and its counts; else 0 */
} su_caption_counts;

typedef struct {
    double bleu[SU_NGRAMS], rouge_l, cider, cider_original;
    double meteor; /* NaN: not computed */
} su_caption_figures;

/* counts: [pairs], all but METEOR's. corpus: documents as pairs (hypothesis ignored) from which CIDEr's
 * document frequencies come; NULL: the references of the pairs themselves. SU_EINVAL when an item has no
 * reference; SU_ENOMEM, SU_ELIMIT. The same bits for any number of threads. */
su_status su_caption_score(const su_sentences *sentences, const su_caption_pair *pair, int64_t pairs,
                           const su_caption_pair *corpus, int64_t documents, su_pool *pool,
                           su_caption_counts *counts, su_error *err);

/* The figures of sums over n items; all sums are taken as doubles, exact for whole numbers. */
typedef struct {
    double correct[SU_NGRAMS], guess[SU_NGRAMS], length, reference_length, rouge_l, cider, cider_original;
    double meteor_items, meteor[SU_METEOR_COUNTS]; /* last: su_caption_resample skips them when they are 0 */
} su_caption_sums;
void su_caption_add(su_caption_sums *sums, const su_caption_counts *counts);
void su_caption_whole(const su_caption_sums *sums, double n, su_caption_figures *figures);

/* The figures of every item and of all of them; items may be NULL. */
void su_caption_totals(const su_caption_counts *counts, int64_t n, su_caption_figures *items,
                       su_caption_figures *whole);

#endif
