/* Several runs side by side: read, checked that they were scored on the same pool, grouped by what was
 * trained.
 *
 *   RUN/run.json     "suture.run/1": objective, seed, ...       (written last by `suture train`)
 *   RUN/config.json  what was trained; runs whose configurations differ in the seed only form one group
 *   RUN/eval.json    "suture.eval.align/1": the scores
 *   RUN/log.jsonl    a line a step or an epoch: the curves      (may be missing)
 *
 * A RUN that is a file is a document "suture.eval.align/1" itself (`suture eval embeddings --json FILE`) and
 * a group of its own. Scores are named by their path in that document: "gap", "gap/image-text" with more than
 * two streams, "retrieval/text_to_image/r10". */
#ifndef SU_CLI_COMPARE_RUNS_H
#define SU_CLI_COMPARE_RUNS_H

#include "base/error.h"
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum { SU_COMPARE_LABEL = 160, SU_COMPARE_PATH = 256 };

typedef struct {
    const char *path;            /* as given; not owned */
    json_t *run, *config, *eval; /* run and config are NULL for a single document */
    int64_t seed;
    int group;
} su_compared_run;

typedef struct {
    char label[SU_COMPARE_LABEL]; /* the objective, and what tells it from a group with the same one */
    char objective[64];
    int first, runs; /* the first run's index, and how many there are */
} su_run_group;

typedef struct {
    su_compared_run *run;
    int runs;
    su_run_group *group; /* in the order of their first runs */
    int groups;
    json_t *streams;    /* array of names; belongs to the first run */
    json_t *mismatches; /* array of sentences: why the scores are not comparable; empty when they are */
} su_comparison;

/* Paths are kept by reference. eval_name: "eval.json" unless another file of each run is to be compared.
 * SU_ENOTFOUND (with the command that makes the missing file), SU_EFORMAT, SU_EMISMATCH when two runs are one
 * and the same training (their seeds are equal, too) or have different streams. */
su_status su_comparison_new(const char *const *paths, int count, const char *eval_name,
                            su_comparison **comparison, su_error *err);
void su_comparison_free(su_comparison *c); /* NULL accepted */

/* Mean over a group's runs with its 95 % t-interval; of a single run the value with its bootstrap interval.
 * NAN where there is none. */
typedef struct {
    double mean, ci95[2];
} su_estimate;
su_estimate su_comparison_get(const su_comparison *c, int group, const char *score);

/* Path of a pair's score ("gap", "cos_true_pairs", "rmg", ...), and the name of stream m. */
void su_comparison_pair(const su_comparison *c, const char *score, int a, int b, char path[SU_COMPARE_PATH]);
const char *su_comparison_stream(const su_comparison *c, int m);
/* "retrieval/A_to_B/SCORE" */
void su_comparison_direction(const su_comparison *c, int a, int b, const char *score,
                             char path[SU_COMPARE_PATH]);

/* -1 or 1 when the group's interval lies wholly below or above the first group's; 0 when they meet or one is
 * missing. */
int su_comparison_apart(const su_comparison *c, int group, const char *score);

/* "suture.compare/1"; new reference, NULL without memory. */
json_t *su_comparison_json(const su_comparison *c);

#endif
