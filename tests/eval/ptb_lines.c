/* ptb_lines FILE: the tokens of every line, as Stanford's program prints them. For check_ptb.py. */
#include "base/file.h"
#include "eval/ptb.h"
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    char *text = NULL;
    size_t length = 0;
    su_error err = {0};
    su_buffer out;
    su_buffer_init(&out, (size_t)1 << 30);
    su_ptb *ptb = su_ptb_new();
    su_status status = argc != 2 ? su_fail(&err, SU_EINVAL, "usage: ptb_lines FILE")
                                 : su_file_read(argv[1], (size_t)1 << 30, &text, &length, &err);
    const char *at = text, *end = text + length, *line;
    while (!status && at) {
        line = at;
        const char *stop = memchr(line, '\n', (size_t)(end - line));
        at = stop ? stop + 1 : NULL;
        status = su_ptb_line(ptb, line, (size_t)((stop ? stop : end) - line), at, at ? (size_t)(end - at) : 0,
                             SU_PTB_ALL, &out, &err);
        if (!status) status = su_buffer_add(&out, "\n", 1, &err);
    }
    if (status)
        fprintf(stderr, "%s\n", err.message);
    else
        fwrite(out.data, 1, out.length, stdout);
    su_ptb_free(ptb);
    su_buffer_free(&out);
    su_free(text);
    return status ? 1 : 0;
}
