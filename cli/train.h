/* What the training commands share. */
#ifndef SU_CLI_TRAIN_H
#define SU_CLI_TRAIN_H

#include <signal.h>

/* The flag that SIGINT and SIGTERM set from now on; a second one ends the process at once, with 130. */
const volatile sig_atomic_t *su_stop_on_signals(void);

int su_cmd_train_caption(int argc, char **argv); /* train with --caption among its options */

#endif
