/* Which hypothesis is scored against which references: the ids that every file has, in the references' order. */
#ifndef SU_EVAL_CAPTION_MATCH_H
#define SU_EVAL_CAPTION_MATCH_H

#include "eval/caption_file.h"
#include "eval/caption_score.h"

typedef struct {
    const char **text; /* for su_sentences_make: the hypotheses, NULL, the references, NULL, the other
                          system's hypotheses and NULL, the corpus; belong to the files */
    int64_t texts;
    const char **id;        /* [pairs] */
    su_caption_pair *pair;  /* numbers of texts */
    su_caption_pair *other; /* the same items with the other system's hypothesis; NULL without one */
    int64_t pairs;
    su_caption_pair *corpus; /* documents; NULL without a corpus */
    int64_t documents;
} su_caption_match;

/* other, corpus: NULL when there is none. Ids that a file lacks are left out and noted as flaws: at the
 * hypotheses that have no references, at the references that have no hypothesis. SU_EMISMATCH when nothing is
 * left to score. */
su_status su_caption_match_make(su_captions *hypotheses, su_captions *references, su_captions *other,
                                const su_captions *corpus, su_caption_match *match, su_error *err);
void su_caption_match_free(su_caption_match *match);

#endif
