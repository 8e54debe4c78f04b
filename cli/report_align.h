/* What `eval align` and `eval embeddings` print: the document "suture.eval.align/1", and the table for
 * people.
 *
 *   json_t *receipt = su_receipt_json(&(su_receipt){.command = ..., ...}, &score, &options);
 *   json_t *document = su_report_align_json(&score, names, receipt);
 *   su_json_write(path, document, err) | su_report_align_print(stdout, document)
 */
#ifndef SU_CLI_REPORT_ALIGN_H
#define SU_CLI_REPORT_ALIGN_H

#include "base/error.h"
#include "eval/alignment.h"
#include <jansson.h>
#include <stdio.h>

/* Where the numbers come from; what does not apply is NULL and becomes null. */
typedef struct {
    const char *dataset_sha256, *split, *tokenizer_sha256, *model_sha256;
    json_t *files; /* {"image":{"file":...,"sha256":...,...},...} when there is no dataset; stolen; or NULL */
    const char *command; /* as typed, see su_command_line */
} su_receipt;

/* The receipt of a score computed with these options. New reference; NULL without memory. */
json_t *su_receipt_json(const su_receipt *receipt, const su_alignment_score *score,
                        const su_alignment_options *options);

/* names: [score->streams]. Steals receipt (NULL: none). A number that is not finite becomes null. With two
 * streams gap, cos_true_pairs and rmg are numbers, with more they are objects keyed "image-text". New
 * reference; NULL without memory. */
json_t *su_report_align_json(const su_alignment_score *score, const char *const *names, json_t *receipt);

/* The table of such a document, read from a file or just made; unknown members are ignored. */
void su_report_align_print(FILE *to, const json_t *document);

/* "suture WORDS ARG ARG ...", arguments with spaces in single quotes; words are the command's, argv[0] is
 * skipped. Freed with su_free; NULL without memory. */
char *su_command_line(const char *words, int argc, char **argv);

/* Writes one document to a path (atomically), or with path "-" to standard output. */
su_status su_report_write(const json_t *document, const char *path, su_error *err);

#endif
