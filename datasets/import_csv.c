/* The importer of CSV files; see import.h. */
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "datasets/csv.h"
#include "datasets/idset.h"
#include "datasets/import.h"
#include <stdio.h>
#include <string.h>

enum { ID_MAX = 4096 };

typedef struct {
    su_csv *csv;
    const char *path;
    char **header; /* owned */
    int width;     /* columns */
    char *stream_names[SU_IMPORT_STREAMS_MAX];
    int images[SU_IMPORT_STREAMS_MAX], streams; /* columns; -1 below: none */
    int text, group, split, licence, id;
    su_idset *seen; /* file names used as ids */
    su_import_item item;
    const char *files[SU_IMPORT_STREAMS_MAX];
    char id_text[ID_MAX], detail[160];
} csv_source;

/* ---- columns ---- */

static int find_column(const csv_source *c, const char *name)
{
    for (int i = 0; i < c->width; i++)
        if (!strcmp(c->header[i], name)) return i;
    return -1;
}

/* In a table without a header the first row may be a patient's: it is repeated only if it can be no one's. */
static bool looks_like_names(const csv_source *c)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_- ()";
    for (int i = 0; i < c->width; i++)
        if (strlen(c->header[i]) > 40 || c->header[i][strspn(c->header[i], allowed)]) return false;
    return true;
}

static su_status need_column(const csv_source *c, const char *name, const char *option, int *column,
                             su_error *err)
{
    *column = find_column(c, name);
    if (*column >= 0) return SU_OK;
    if (!looks_like_names(c))
        return su_fail(err, SU_EINVAL,
                       "%s: there is no column '%s' (--%s): the first row must hold the names of the columns",
                       c->path, name, option);
    char names[512] = "";
    for (int i = 0; i < c->width; i++) {
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", used ? ", " : "", c->header[i]);
    }
    return su_fail(err, SU_EINVAL, "%s: there is no column '%s' (--%s); there are: %s", c->path, name, option,
                   names);
}

/* The column named, or else the first there is of the usual names; -1: none. */
static su_status choose_column(const csv_source *c, const char *name, const char *option,
                               const char *const *usual, int *column, su_error *err)
{
    if (name) return need_column(c, name, option, column, err);
    *column = -1;
    for (; *usual && *column < 0; usual++) *column = find_column(c, *usual);
    return SU_OK;
}

static su_status check_stream_name(const csv_source *c, const char *name, su_error *err)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    if (strlen(name) < SU_STREAM_NAME_MAX && name[0] && !name[strspn(name, allowed)] &&
        strcmp(name, "text") != 0)
        return SU_OK;
    return su_fail(
        err, SU_EINVAL,
        "%s: the image column '%s' names a stream, so it must be letters, digits, '_' and '-' and not "
        "'text'; rename the column",
        c->path, name);
}

/* "image", or several columns by commas. */
static su_status find_images(csv_source *c, const char *list, su_error *err)
{
    bool several = strchr(list, ',') != NULL;
    while (c->streams == 0 || *list) {
        size_t length = strcspn(list, ",");
        if (c->streams == SU_IMPORT_STREAMS_MAX)
            return su_fail(err, SU_EINVAL, "%s: more than %d image columns", c->path,
                           (int)SU_IMPORT_STREAMS_MAX);
        char *name = su_strndup(list, length);
        if (!name) return su_fail(err, SU_ENOMEM, "%s: no memory for its columns", c->path);
        int k = c->streams++;
        c->stream_names[k] = name;
        su_status s = need_column(c, name, "image-column", &c->images[k], err);
        if (!s && several) s = check_stream_name(c, name, err);
        for (int i = 0; !s && i < k; i++)
            if (c->images[i] == c->images[k])
                s = su_fail(err, SU_EINVAL, "%s: image column '%s' is given twice", c->path, name);
        if (s) return s;
        list += length + (list[length] == ',');
    }
    if (several) return SU_OK;
    su_free(c->stream_names[0]);
    c->stream_names[0] = su_strdup("image");
    return c->stream_names[0] ? SU_OK : su_fail(err, SU_ENOMEM, "%s: no memory for its columns", c->path);
}

static su_status read_header(csv_source *c, su_error *err)
{
    const su_csv_row *row = NULL;
    su_status s = su_csv_next(c->csv, &row, err);
    if (s) return s;
    if (!row || row->broken)
        return su_fail(err, SU_EFORMAT, "%s: there is no first row that names columns", c->path);
    c->header = su_calloc((size_t)row->count, sizeof *c->header);
    if (!c->header) return su_fail(err, SU_ENOMEM, "%s: no memory for its columns", c->path);
    for (; c->width < row->count; c->width++)
        if (!(c->header[c->width] = su_strdup(row->fields[c->width])))
            return su_fail(err, SU_ENOMEM, "%s: no memory for its columns", c->path);
    return SU_OK;
}

static su_status find_columns(csv_source *c, const su_csv_columns *columns, su_error *err)
{
    static const char *const groups[] = {"group",      "patient", "patient_id", "subject",
                                         "subject_id", "article", NULL};
    static const char *const licences[] = {"licence", "license", NULL}, *const splits[] = {"split", NULL},
                             *const none[] = {NULL};
    su_status s = SU_OK;
    if ((s = find_images(c, columns->image ? columns->image : "image", err)) ||
        (s = need_column(c, columns->text ? columns->text : "text", "text-column", &c->text, err)) ||
        (s = choose_column(c, columns->group, "group-column", groups, &c->group, err)) ||
        (s = choose_column(c, columns->split, "split-column", splits, &c->split, err)) ||
        (s = choose_column(c, columns->licence, "licence-column", licences, &c->licence, err)) ||
        (s = choose_column(c, columns->id, "id-column", none, &c->id, err)))
        return s;
    return SU_OK;
}

/* ---- rows ---- */

static const char *field(const su_csv_row *row, int column)
{
    return column < 0 ? "" : row->fields[column];
}

static void refuse(csv_source *c, const char *reason)
{
    c->item.reason = reason;
    c->item.detail = c->detail;
}

/* An id from the first image's file name, made unique by the line where it comes again. */
static su_status name_by_file(csv_source *c, const su_csv_row *row, su_error *err)
{
    bool seen = false;
    su_status s = su_idset_add(c->seen, c->files[0], &seen, err);
    if (s || !c->files[0][0]) return s;
    c->item.id = c->files[0];
    if (!seen) return SU_OK;
    if (snprintf(c->id_text, sizeof c->id_text, "%s:%lld", c->files[0], (long long)row->line) >= ID_MAX)
        snprintf(c->id_text, sizeof c->id_text, "line:%lld", (long long)row->line);
    c->item.id = c->id_text;
    return SU_OK;
}

static su_status take_row(csv_source *c, const su_csv_row *row, su_error *err)
{
    snprintf(c->id_text, sizeof c->id_text, "line:%lld", (long long)row->line);
    for (int k = 0; k < c->streams; k++) c->files[k] = "";
    c->item = (su_import_item){.id = c->id_text,
                               .text = "",
                               .group = "",
                               .split = "",
                               .licence = "",
                               .source = "",
                               .files = c->files,
                               .line = row->line};
    if (row->broken) {
        snprintf(c->detail, sizeof c->detail, "%s", row->broken);
        refuse(c, "bad-row");
        return SU_OK;
    }
    if (row->count != c->width) {
        snprintf(c->detail, sizeof c->detail, "%d fields, where the first row has %d", row->count, c->width);
        refuse(c, "bad-row");
        return SU_OK;
    }
    for (int i = 0; i < row->count; i++)
        if (strlen(row->fields[i]) != row->lengths[i]) {
            snprintf(c->detail, sizeof c->detail, "a NUL byte in field %d", i + 1);
            refuse(c, "invalid-utf8");
            return SU_OK;
        }
    for (int k = 0; k < c->streams; k++) c->files[k] = field(row, c->images[k]);
    c->item.text = field(row, c->text);
    c->item.group = field(row, c->group);
    if (!c->item.group[0]) c->item.group = c->files[0];
    c->item.split = field(row, c->split);
    c->item.licence = field(row, c->licence);
    c->item.source = c->files[0];
    if (c->id < 0) return name_by_file(c, row, err);
    if (field(row, c->id)[0]) c->item.id = field(row, c->id);
    return SU_OK;
}

static su_status next_row(void *self, const su_import_item **item, su_error *err)
{
    csv_source *c = self;
    const su_csv_row *row = NULL;
    *item = NULL;
    su_status s = su_csv_next(c->csv, &row, err);
    if (s || !row) return s;
    s = take_row(c, row, err);
    if (!s) *item = &c->item;
    return s;
}

/* ---- the import ---- */

static su_status count_rows(csv_source *c, int64_t *rows, su_error *err)
{
    const su_csv_row *row = NULL;
    su_status s = SU_OK;
    *rows = -1; /* the header */
    do {
        s = su_csv_next(c->csv, &row, err);
        *rows += row != NULL;
    } while (!s && row);
    su_csv_rewind(c->csv);
    return s;
}

static json_t *column_name(const csv_source *c, int column)
{
    return column < 0 ? json_null() : json_string(c->header[column]);
}

static json_t *describe(const csv_source *c)
{
    char hex[65];
    json_t *images = json_array();
    su_csv_sha256(c->csv, hex);
    for (int k = 0; k < c->streams; k++) json_array_append_new(images, json_string(c->header[c->images[k]]));
    return json_pack("{s:s,s:s,s:{s:o,s:o,s:o,s:o,s:o,s:o}}", "file", su_path_name(c->path), "sha256", hex,
                     "columns", "image", images, "text", column_name(c, c->text), "group",
                     column_name(c, c->group), "split", column_name(c, c->split), "licence",
                     column_name(c, c->licence), "id", column_name(c, c->id));
}

static void release(csv_source *c)
{
    for (int i = 0; i < c->width; i++) su_free(c->header[i]);
    su_free(c->header);
    for (int k = 0; k < c->streams; k++) su_free(c->stream_names[k]);
    su_idset_free(c->seen);
    su_csv_close(c->csv);
}

static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash) return su_strdup(".");
    return su_strndup(path, slash == path ? 1 : (size_t)(slash - path));
}

su_status su_import_csv(const char *csv, const su_csv_columns *columns, const char *out,
                        const su_import_options *options, su_error *err)
{
    csv_source c = {.path = csv, .seen = su_idset_new()};
    char *folder = folder_of(csv);
    json_t *description = NULL;
    int64_t rows = 0;
    su_status s = SU_OK;
    if (!c.seen || !folder) s = su_fail(err, SU_ENOMEM, "%s: no memory to import it", csv);
    if (!s) s = su_csv_open(csv, &c.csv, err);
    if (!s) s = count_rows(&c, &rows, err);
    if (!s) s = read_header(&c, err);
    if (!s) s = find_columns(&c, columns, err);
    if (!s && !(description = describe(&c)))
        s = su_fail(err, SU_EFORMAT, "%s: the names of its columns are not UTF-8", csv);
    if (!s) {
        bool by_group = options->split_by_group || c.split < 0;
        if (c.group >= 0 && by_group)
            su_log(SU_LOG_INFO, "samples that share '%s' are kept together", c.header[c.group]);
        if (c.group < 0)
            su_log(SU_LOG_WARN,
                   "%s: no column names a patient or article (--group-column): "
                   "each image is a group of its own",
                   su_path_name(csv));
        su_import_source source = {.kind = "csv",
                                   .description = description,
                                   .folder = folder,
                                   .streams = (const char *const *)c.stream_names,
                                   .image_streams = c.streams,
                                   .total = rows,
                                   .next = next_row,
                                   .self = &c};
        s = su_import_run(&source, out, options, err);
    }
    json_decref(description);
    su_free(folder);
    release(&c);
    return s;
}
