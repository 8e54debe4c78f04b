/* What several subcommands share. */
#ifndef SU_CLI_COMMON_H
#define SU_CLI_COMMON_H

#include "align/model.h"
#include "base/error.h"
#include <jansson.h>

/* The vocabulary that comes with Suture: $SUTURE_VOCAB, else share/suture/bert-base-uncased-vocab.txt beside
 * or above the program's folder. Freed with su_free; NULL when none is found. */
char *su_cli_vocabulary(void);

/* Opens the device and the model of a run. Either may be closed with its own function; both NULL on failure. */
su_status su_cli_open_model(const char *folder, const char *device_name, int threads, su_device **device,
                            su_model **model, su_error *err);

/* Writes the document where --json says, if anywhere. True: a person wants the table too (--json is not "-",
 * and nothing failed). */
bool su_cli_report(const json_t *document, su_status *status, su_error *err);

/* What can be said of reading DICOM here, a line. False: this build reads it, but cannot decode compressed
 * pixels. */
bool su_cli_dicom_state(char *text, size_t size);

#endif
