/* Status codes and error reports: how every fallible function of Suture says what went wrong.
 *
 * A fallible function returns su_status, SU_OK (0) on success, and fills the caller's su_error when one is
 * given (NULL is allowed everywhere). The message names the file, tag or line and the remedy, so that the
 * command can print it as it is. The library itself never prints, exits or aborts.
 *
 *     su_error err = {0};
 *     if (su_x_open(path, &x, &err)) { fprintf(stderr, "suture: %s\n", err.message); ... }
 */
#ifndef SU_BASE_ERROR_H
#define SU_BASE_ERROR_H

#include <stdint.h>

typedef enum {
    SU_OK = 0,
    SU_EINVAL,       /* a caller's argument or an option is out of its stated range */
    SU_ENOMEM,       /* the host or the device has no memory left */
    SU_EIO,          /* the operating system refused to open, read, write, sync or rename */
    SU_EFORMAT,      /* the content of a file is not what its format says */
    SU_ELIMIT,       /* a stated limit was exceeded (size, count, depth) */
    SU_ENOTFOUND,    /* a file, key, parameter or item is not there */
    SU_EMISMATCH,    /* two things that must agree do not (recipe, shape, hash, vocabulary) */
    SU_EUNSUPPORTED, /* valid, but not handled by this build or this device */
    SU_ENUMERIC,     /* a NaN or an infinity appeared */
    SU_EINTERRUPTED, /* the caller asked to stop */
} su_status;

enum { SU_ERROR_MESSAGE_MAX = 1024 };

typedef struct {
    su_status code;
    int64_t position; /* byte offset, line (1-based) or item index, as the message says; -1 when none */
    char message[SU_ERROR_MESSAGE_MAX];
} su_error;

/* Fills err (when not NULL) from a printf format and returns code, so that `return su_fail(...)` reads well.
 * A message that is too long is cut, never overrun. */
su_status su_fail(su_error *err, su_status code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Like su_fail, with a position. */
su_status su_fail_at(su_error *err, su_status code, int64_t position, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Puts "<format>: " in front of the message already in err, and returns err's code (code when err is NULL):
 * a caller adds what it was doing to what a callee found. */
su_status su_fail_context(su_error *err, su_status code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* A code's name in lower case, as used in --json output: "format", "limit", ... Never NULL. */
const char *su_status_name(su_status code);

#endif
