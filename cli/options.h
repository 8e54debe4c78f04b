/* Command lines: one table a subcommand, from which parsing, checking and --help come.
 *
 * Long options only ("--name value" or "--name=value"), plus -h and -k. Every subcommand knows --help,
 * --json PATH|-, --quiet. An unknown option is an error (exit 2) with the nearest known name as a suggestion. */
#ifndef SU_CLI_OPTIONS_H
#define SU_CLI_OPTIONS_H

#include "base/error.h"
#include <stdbool.h>
#include <stdint.h>

typedef enum { SU_OPT_FLAG, SU_OPT_STRING, SU_OPT_INT, SU_OPT_NUMBER, SU_OPT_LIST } su_option_kind;

typedef struct {
    const char *name; /* without the dashes */
    su_option_kind kind;
    void *value;          /* bool*, const char**, int64_t*, double*, su_option_list* */
    double low, high;     /* for INT and NUMBER, inclusive; both 0: any */
    const char *argument; /* "FILE", "N", ... in the help */
    const char *help;     /* one or more lines */
    bool *given;          /* set to true when the option was on the command line; may be NULL. Then the help
                             text says what holds otherwise */
} su_option;

/* A line of the table: {SU_STRING("out", &out, "RUN", "folder of the run"), ..., {0}}. Behind the help text
 * may stand .given = &flag. */
#define SU_FLAG(name_, value_, ...)                                              \
    {                                                                            \
        .name = name_, .kind = SU_OPT_FLAG, .value = value_, .help = __VA_ARGS__ \
    }
#define SU_STRING(name_, value_, argument_, ...)                                                          \
    {                                                                                                     \
        .name = name_, .kind = SU_OPT_STRING, .value = value_, .argument = argument_, .help = __VA_ARGS__ \
    }
#define SU_LIST(name_, value_, argument_, ...)                                                          \
    {                                                                                                   \
        .name = name_, .kind = SU_OPT_LIST, .value = value_, .argument = argument_, .help = __VA_ARGS__ \
    }
#define SU_INT(name_, value_, low_, high_, argument_, ...)                              \
    {                                                                                   \
        .name = name_, .kind = SU_OPT_INT, .value = value_, .low = low_, .high = high_, \
        .argument = argument_, .help = __VA_ARGS__                                      \
    }
#define SU_NUMBER(name_, value_, low_, high_, argument_, ...)                              \
    {                                                                                      \
        .name = name_, .kind = SU_OPT_NUMBER, .value = value_, .low = low_, .high = high_, \
        .argument = argument_, .help = __VA_ARGS__                                         \
    }
/* What many have. */
#define SU_DEVICE_OPTION(value_) SU_STRING("device", value_, "D", "cpu, cuda or cuda:N")
/* Of the trainings; limit_: an su_memory_limit (align/memory.h). */
#define SU_CHECKPOINTING_OPTION(limit_)                                                      \
    SU_STRING("checkpointing", &(limit_).checkpointing, "LEVEL",                             \
              "activations formed again instead of kept: none, selective, full (auto: the\n" \
              "first that fits); same bits, less memory, more time")
#define SU_MEMORY_OPTION(limit_)                           \
    SU_NUMBER("memory", &(limit_).gigabytes, 0, 1e6, "GB", \
              "most that weights, gradients, moments and activations may take (what is free)")
#define SU_THREADS_OPTION(value_) SU_INT("threads", value_, 0, 1024, "N", "0: all cores")

typedef struct {
    const char *
        *items; /* LIST: every value until the next option; owned by the parse, freed with su_options_free */
    int count;
} su_option_list;

typedef struct {
    const char *name;                   /* "data import csv" */
    const char *synopsis;               /* "PAIRS.csv --out DS [options]" */
    const char *summary;                /* one line */
    const char *examples;               /* several lines, or NULL */
    const su_option *options;           /* ends with a NULL name */
    int min_positional, max_positional; /* max -1: any number */
} su_command;

enum { SU_EXIT_OK = 0, SU_EXIT_FAILED = 1, SU_EXIT_USAGE = 2, SU_EXIT_FOUND = 3 };

/* Parses argv[1..]. Returns -1 to go on, or the exit code to end with (0 after --help, SU_EXIT_USAGE after a
 * complaint on stderr). Positional arguments are collected in order. */
int su_options_parse(const su_command *command, int argc, char **argv, su_option_list *positional);
void su_options_free(su_option_list *positional, const su_command *command);

/* The three that every subcommand has; valid after su_options_parse. */
const char *su_option_json(void); /* NULL, "-" or a path */
bool su_option_quiet(void);

/* Prints "suture COMMAND: message" on stderr and returns SU_EXIT_FAILED (SU_EXIT_USAGE for SU_EINVAL). */
int su_cli_fail(const su_command *command, const su_error *err);

#endif
