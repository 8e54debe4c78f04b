#include "eval/lines.h"
#include "base/file.h"
#include "base/memory.h"
#include "eval/npy.h"
#include <stdlib.h>
#include <string.h>

enum { FILE_MAX = 1 << 30 };

static int64_t count_lines(const char *text, size_t length)
{
    int64_t count = length && text[length - 1] != '\n';
    for (size_t i = 0; i < length; i++) count += text[i] == '\n';
    return count;
}

su_status su_lines_read(const char *path, su_lines *lines, su_error *err)
{
    *lines = (su_lines){0};
    size_t length;
    su_status status = su_file_read(path, FILE_MAX, &lines->text, &length, err);
    if (status) return status;
    char *at = lines->text, *end = at + length;
    lines->count = count_lines(at, length);
    lines->line = su_alloc((size_t)lines->count + 1, sizeof *lines->line);
    if (!lines->line) {
        su_lines_free(lines);
        return su_fail(err, SU_ENOMEM, "%s: no memory for its lines", path);
    }
    for (int64_t i = 0; at < end; i++) {
        char *stop = memchr(at, '\n', (size_t)(end - at));
        if (!stop) stop = end;
        if (memchr(at, 0, (size_t)(stop - at))) {
            su_lines_free(lines);
            return su_fail_at(err, SU_EFORMAT, i + 1, "%s: line %lld holds a NUL byte; it is no text file",
                              path, (long long)i + 1);
        }
        lines->line[i] = at;
        at = stop + 1;
        if (stop < end && stop > lines->line[i] && stop[-1] == '\r') stop[-1] = 0;
        *stop = 0;
    }
    return SU_OK;
}

void su_lines_free(su_lines *lines)
{
    su_free(lines->text);
    su_free(lines->line);
    *lines = (su_lines){0};
}

/* A label's place in the file, sorted by what it is. */
typedef struct {
    const char *text; /* NULL for a number */
    int64_t number, item;
} label;

static int by_content(const void *a, const void *b)
{
    const label *x = a, *y = b;
    if (x->text && y->text) return strcmp(x->text, y->text);
    return (x->number > y->number) - (x->number < y->number);
}

/* Sorts `found` and numbers equal neighbours alike. */
static void number_labels(label *found, int64_t count, int32_t *labels)
{
    qsort(found, (size_t)count, sizeof *found, by_content);
    int32_t next = 0;
    for (int64_t i = 0; i < count; i++) {
        if (i && by_content(&found[i - 1], &found[i]) != 0) next++;
        labels[found[i].item] = next;
    }
}

static char *strip(char *text)
{
    while (*text == ' ' || *text == '\t') text++;
    size_t length = strlen(text);
    while (length && (text[length - 1] == ' ' || text[length - 1] == '\t')) text[--length] = 0;
    return text;
}

static su_status collect_text(const char *path, su_lines *lines, label **found, int64_t *used, int64_t *count,
                              su_error *err)
{
    su_status status = su_lines_read(path, lines, err);
    if (status) return status;
    *count = lines->count;
    *found = su_alloc((size_t)*count + 1, sizeof **found);
    if (!*found) return su_fail(err, SU_ENOMEM, "%s: no memory for its labels", path);
    for (int64_t i = 0; i < *count; i++) {
        const char *text = strip(lines->text + (lines->line[i] - lines->text));
        if (*text) (*found)[(*used)++] = (label){text, 0, i};
    }
    return SU_OK;
}

static su_status collect_npy(const char *path, const su_map *map, label **found, int64_t *used,
                             int64_t *count, su_error *err)
{
    su_npy npy;
    su_status status = su_npy_parse(map->data, map->length, path, &npy, err);
    if (status) return status;
    if (npy.kind == 'f' || npy.rank != 1)
        return su_fail(err, SU_EMISMATCH, "%s: labels are whole numbers in one dimension", path);
    *count = npy.count;
    *found = su_alloc((size_t)npy.count + 1, sizeof **found);
    if (!*found) return su_fail(err, SU_ENOMEM, "%s: no memory for its labels", path);
    for (int64_t i = 0; i < npy.count; i++) {
        int64_t number = su_npy_int(&npy, i);
        if (number >= 0) (*found)[(*used)++] = (label){NULL, number, i};
    }
    return SU_OK;
}

su_status su_labels_read(const char *path, int32_t **labels, int64_t *count, su_error *err)
{
    su_map map;
    su_lines lines = {0};
    label *found = NULL;
    int64_t used = 0;
    *labels = NULL;
    su_status status = su_map_open(path, &map, err);
    if (status) return status;
    status = su_npy_is(map.data, map.length) ? collect_npy(path, &map, &found, &used, count, err)
                                             : collect_text(path, &lines, &found, &used, count, err);
    su_map_close(&map);
    if (!status && *count > INT32_MAX) status = su_fail(err, SU_ELIMIT, "%s: more than 2^31 labels", path);
    if (!status) {
        *labels = su_alloc((size_t)*count + 1, sizeof **labels);
        if (!*labels) status = su_fail(err, SU_ENOMEM, "%s: no memory for its labels", path);
    }
    if (!status) {
        for (int64_t i = 0; i < *count; i++) (*labels)[i] = -1;
        number_labels(found, used, *labels);
    }
    su_free(found);
    su_lines_free(&lines);
    return status;
}
