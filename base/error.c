/* Error reports. Everything is formatted on the stack first, because an argument may point into the message
 * that is being replaced (a caller that wraps err->message). */
#include "base/error.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* A message that was cut must not end in half a UTF-8 character. */
static void trim_utf8(char *s)
{
    size_t n = strlen(s), back = 0;
    while (back < 3 && back < n && ((unsigned char)s[n - 1 - back] & 0xC0) == 0x80) back++;
    if (back == n) return;
    unsigned char lead = (unsigned char)s[n - 1 - back];
    size_t need = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : lead >= 0xC0 ? 1 : 0;
    if (need > back) s[n - 1 - back] = '\0';
}

static void format_message(char message[SU_ERROR_MESSAGE_MAX], const char *format, va_list args)
{
    int n = vsnprintf(message, SU_ERROR_MESSAGE_MAX, format, args);
    if (n < 0) message[0] = '\0';
    if (n >= SU_ERROR_MESSAGE_MAX) trim_utf8(message);
}

static su_status fill(su_error *err, su_status code, int64_t position, const char *message)
{
    err->code = code;
    err->position = position;
    memcpy(err->message, message, SU_ERROR_MESSAGE_MAX);
    return code;
}

su_status su_fail(su_error *err, su_status code, const char *format, ...)
{
    if (!err) return code;
    char message[SU_ERROR_MESSAGE_MAX] = {0};
    va_list args;
    va_start(args, format);
    format_message(message, format, args);
    va_end(args);
    return fill(err, code, -1, message);
}

su_status su_fail_at(su_error *err, su_status code, int64_t position, const char *format, ...)
{
    if (!err) return code;
    char message[SU_ERROR_MESSAGE_MAX] = {0};
    va_list args;
    va_start(args, format);
    format_message(message, format, args);
    va_end(args);
    return fill(err, code, position, message);
}

su_status su_fail_context(su_error *err, su_status code, const char *format, ...)
{
    if (!err) return code;
    char message[SU_ERROR_MESSAGE_MAX] = {0};
    va_list args;
    va_start(args, format);
    format_message(message, format, args);
    va_end(args);
    size_t used = strlen(message);
    int n = snprintf(message + used, sizeof message - used, ": %s", err->message);
    if (n >= 0 && (size_t)n >= sizeof message - used) trim_utf8(message);
    return fill(err, err->code ? err->code : code, err->position, message);
}

const char *su_status_name(su_status code)
{
    switch (code) {
    case SU_OK:
        return "ok";
    case SU_EINVAL:
        return "invalid";
    case SU_ENOMEM:
        return "memory";
    case SU_EIO:
        return "io";
    case SU_EFORMAT:
        return "format";
    case SU_ELIMIT:
        return "limit";
    case SU_ENOTFOUND:
        return "notfound";
    case SU_EMISMATCH:
        return "mismatch";
    case SU_EUNSUPPORTED:
        return "unsupported";
    case SU_ENUMERIC:
        return "numeric";
    case SU_EINTERRUPTED:
        return "interrupted";
    }
    return "unknown";
}
