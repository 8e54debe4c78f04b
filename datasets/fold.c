/* UTF-8 checks and folding, by utf8proc; see fold.h. */
#include "datasets/fold.h"
#include "base/memory.h"
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

bool su_utf8_valid(const char *text, size_t length)
{
    for (size_t i = 0; i < length;) {
        utf8proc_int32_t point = 0;
        utf8proc_ssize_t n =
            utf8proc_iterate((const utf8proc_uint8_t *)text + i, (utf8proc_ssize_t)(length - i), &point);
        if (n <= 0 || point == 0) return false;
        i += (size_t)n;
    }
    return true;
}

static bool is_space(utf8proc_int32_t point)
{
    if ((point >= 9 && point <= 13) || point == 0x85) return true;
    utf8proc_category_t c = utf8proc_category(point);
    return c == UTF8PROC_CATEGORY_ZS || c == UTF8PROC_CATEGORY_ZL || c == UTF8PROC_CATEGORY_ZP;
}

bool su_text_blank(const char *text)
{
    for (size_t i = 0, length = strlen(text); i < length;) {
        utf8proc_int32_t point = 0;
        i += (size_t)utf8proc_iterate((const utf8proc_uint8_t *)text + i, (utf8proc_ssize_t)(length - i),
                                      &point);
        utf8proc_category_t c = utf8proc_category(point);
        if (!is_space(point) && c != UTF8PROC_CATEGORY_CC && c != UTF8PROC_CATEGORY_CF) return false;
    }
    return true;
}

su_status su_text_fold(const char *text, char **folded, su_error *err)
{
    utf8proc_uint8_t *mapped = NULL;
    *folded = NULL;
    utf8proc_ssize_t length =
        utf8proc_map((const utf8proc_uint8_t *)text, 0, &mapped,
                     UTF8PROC_NULLTERM | UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_CASEFOLD);
    char *out = length < 0 ? NULL : su_alloc((size_t)length + 1, 1);
    if (!out) {
        free(mapped);
        return su_fail(err, SU_ENOMEM, "no memory to fold a text of %zu bytes", strlen(text));
    }
    size_t used = 0;
    bool gap = false;
    for (utf8proc_ssize_t i = 0; i < length;) {
        utf8proc_int32_t point = 0;
        utf8proc_ssize_t n = utf8proc_iterate(mapped + i, length - i, &point);
        if (is_space(point))
            gap = used > 0;
        else {
            if (gap) out[used++] = ' '; /* never longer than what it stands for */
            gap = false;
            memcpy(out + used, mapped + i, (size_t)n);
            used += (size_t)n;
        }
        i += n;
    }
    out[used] = '\0';
    free(mapped);
    *folded = out;
    return SU_OK;
}
