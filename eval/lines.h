/* Text files with one item a line: labels, texts, groups. */
#ifndef SU_EVAL_LINES_H
#define SU_EVAL_LINES_H

#include "base/error.h"
#include <stdint.h>

typedef struct {
    char *text;        /* the whole file, lines NUL-terminated; owned */
    const char **line; /* [count]; owned */
    int64_t count;
} su_lines;

/* At most 1 GiB, without NUL bytes (SU_EFORMAT names the line). An empty line is an item; the last line's end
 * is no new one. "\r\n" ends a line as "\n" does. */
su_status su_lines_read(const char *path, su_lines *lines, su_error *err);
void su_lines_free(su_lines *lines);

/* One label a sample: a text file with one a line (any string without the spaces around it; an empty line is
 * no label), or an .npy file of whole numbers [n] (below 0: no label). Equal labels become equal numbers from
 * 0 up, no label -1. labels is freed with su_free. */
su_status su_labels_read(const char *path, int32_t **labels, int64_t *count, su_error *err);

#endif
