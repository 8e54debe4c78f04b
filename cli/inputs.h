/* Files named on the command line, and those of folders named there. */
#ifndef SU_CLI_INPUTS_H
#define SU_CLI_INPUTS_H

#include "base/error.h"
#include <stdint.h>

typedef struct {
    char **paths; /* as given; a folder's as FOLDER/below, sorted by name, each once */
    char **names; /* the same for output: bytes that are no UTF-8 as %XX */
    int64_t count;
    int64_t room; /* private */
} su_inputs;

/* A folder gives everything in and below it that is no folder (links to folders are not followed), but for
 * hidden names and for `but` and files that begin with its name (the output). A file that is not there is an
 * input like any other: whoever opens it says so. SU_EIO, SU_ENOMEM. */
su_status su_inputs_list(const char *const *given, int count, const char *but, su_inputs *inputs,
                         su_error *err);
void su_inputs_free(su_inputs *inputs);

/* A new string for output: the same where the bytes are UTF-8, else every byte above ASCII as %XX. NULL
 * without memory. */
char *su_inputs_text(const char *bytes);

#endif
