#include "datasets/dicom/report.h"
#include "base/file.h"
#include "base/memory.h"
#include "datasets/csv.h"
#include <ctype.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

struct su_reports {
    json_t *texts; /* name -> text */
    json_t *used;
};

enum { SR_DEPTH = 32, SR_ITEMS = 10000 };

su_reports *su_reports_new(void)
{
    su_reports *r = su_calloc(1, sizeof *r);
    if (!r) return NULL;
    r->texts = json_object();
    r->used = json_object();
    if (r->texts && r->used) return r;
    su_reports_free(r);
    return NULL;
}

void su_reports_free(su_reports *r)
{
    if (!r) return;
    json_decref(r->texts);
    json_decref(r->used);
    su_free(r);
}

static su_status no_memory(su_error *err)
{
    return su_fail(err, SU_ENOMEM, "no memory for the reports");
}

su_status su_reports_add(su_reports *r, const char *name, const char *text, su_error *err)
{
    const char *old = json_string_value(json_object_get(r->texts, name));
    if (!name[0] || (old && strstr(old, text))) return SU_OK;
    /* Not checked here: what is no UTF-8 is refused, and listed, with the study's images. */
    json_t *value = NULL;
    if (old && old[0]) {
        char *joined = su_alloc(strlen(old) + strlen(text) + 3, 1);
        if (!joined) return no_memory(err);
        sprintf(joined, "%s\n\n%s", old, text);
        value = json_string_nocheck(joined);
        su_free(joined);
    } else {
        value = json_string_nocheck(text);
    }
    return value && !json_object_set_new_nocheck(r->texts, name, value) ? SU_OK : no_memory(err);
}

static const char *find(su_reports *r, const char *name)
{
    const char *text = name[0] ? json_string_value(json_object_get(r->texts, name)) : NULL;
    if (!text) return NULL;
    json_object_set_new_nocheck(r->used, name, json_true());
    return text[strspn(text, " \t\r\n")] ? text : NULL;
}

const char *su_reports_find(su_reports *r, const char *study_uid, const char *accession)
{
    const char *text = find(r, study_uid);
    return text ? text : find(r, accession);
}

int64_t su_reports_count(const su_reports *r)
{
    return (int64_t)json_object_size(r->texts);
}

int64_t su_reports_unused(const su_reports *r)
{
    return (int64_t)json_object_size(r->texts) - (int64_t)json_object_size(r->used);
}

/* ---- files ---- */

su_status su_reports_add_file(su_reports *r, const char *path, bool *taken, su_error *err)
{
    const char *file = su_path_name(path), *dot = strrchr(file, '.');
    const bool xml = dot && strcasecmp(dot, ".xml") == 0, txt = dot && strcasecmp(dot, ".txt") == 0;
    char *data = NULL, *text = NULL;
    size_t length = 0;
    *taken = xml || txt;
    if (!*taken) return SU_OK;
    char *name = su_strndup(file, (size_t)(dot - file));
    su_status st = name ? su_file_read(path, SU_REPORT_MAX, &data, &length, err) : no_memory(err);
    if (!st && xml) st = su_report_of_xml(data, length, path, &text, err);
    if (!st) st = su_reports_add(r, name, text ? text : data, err);
    su_free(name);
    su_free(data);
    su_free(text);
    return st;
}

static int column(const su_csv_row *row, const char *const *names)
{
    for (; *names; names++)
        for (int i = 0; i < row->count; i++)
            if (strcasecmp(row->fields[i], *names) == 0) return i;
    return -1;
}

su_status su_reports_add_csv(su_reports *r, const char *path, su_error *err)
{
    static const char *const studies[] = {"study_uid", "StudyInstanceUID", "study_instance_uid", "study",
                                          NULL};
    static const char *const numbers[] = {"accession", "accession_number", "AccessionNumber", NULL};
    static const char *const texts[] = {"text", "report", "report_text", NULL};
    su_csv *csv = NULL;
    const su_csv_row *row = NULL;
    su_status st = su_csv_open(path, &csv, err);
    if (!st) st = su_csv_next(csv, &row, err);
    if (st || !row || row->broken) {
        su_csv_close(csv);
        return st ? st : su_fail(err, SU_EFORMAT, "%s: there is no first row that names columns", path);
    }
    const int study = column(row, studies), number = column(row, numbers), text = column(row, texts),
              width = row->count;
    if (text < 0 || (study < 0 && number < 0)) {
        su_csv_close(csv);
        return su_fail(err, SU_EINVAL,
                       "%s: a table of reports has a column study_uid or accession, and a column text", path);
    }
    while (!st && !(st = su_csv_next(csv, &row, err)) && row) {
        if (row->broken || row->count != width) continue;
        if (study >= 0) st = su_reports_add(r, row->fields[study], row->fields[text], err);
        if (!st && number >= 0) st = su_reports_add(r, row->fields[number], row->fields[text], err);
    }
    su_csv_close(csv);
    return st;
}

/* ---- structured reports [PS3.3 C.17.3] ---- */

enum {
    VALUE_TYPE = 0x0040a040,
    CONCEPT_NAME = 0x0040a043,
    CONCEPT_CODE = 0x0040a168,
    TEXT_VALUE = 0x0040a160,
    CONTENT = 0x0040a730,
    CODE_MEANING = 0x00080104,
};

static su_status add_line(su_buffer *out, const char *heading, const char *text, su_error *err)
{
    if (!text[0]) return SU_OK;
    return heading[0] ? su_buffer_printf(out, err, "%s: %s\n", heading, text)
                      : su_buffer_printf(out, err, "%s\n", text);
}

/* Texts and codes, in order; a heading is the item's own name, or its container's. People, dates, references,
 * numbers and images are left out. *items bounds the work on a document that was made to take for ever. */
static su_status walk(su_dicom_item *item, const char *heading, int depth, int *items, su_buffer *out,
                      su_error *err)
{
    su_status st = SU_OK;
    su_dicom_item *child = NULL;
    for (int i = 0;
         !st && depth < SR_DEPTH && (child = su_dicom_sequence(item, CONTENT, i)) && (*items)++ < SR_ITEMS;
         i++) {
        char type[20], name[200];
        su_dicom_text(child, VALUE_TYPE, type, sizeof type);
        su_dicom_text(su_dicom_sequence(child, CONCEPT_NAME, 0), CODE_MEANING, name, sizeof name);
        const char *own = name[0] ? name : heading;
        if (strcmp(type, "TEXT") == 0) {
            char *text = su_dicom_text_all(child, TEXT_VALUE);
            st = text ? add_line(out, own, text, err) : no_memory(err);
            su_free(text);
        } else if (strcmp(type, "CODE") == 0 && depth > 0) {
            char meaning[200];
            st = add_line(out, own,
                          su_dicom_text(su_dicom_sequence(child, CONCEPT_CODE, 0), CODE_MEANING, meaning,
                                        sizeof meaning),
                          err);
        }
        if (!st) st = walk(child, strcmp(type, "CONTAINER") == 0 ? own : heading, depth + 1, items, out, err);
    }
    return st;
}

su_status su_report_of_sr(su_dicom_item *dataset, char **text, su_error *err)
{
    su_buffer out;
    int items = 0;
    *text = NULL;
    su_buffer_init(&out, SU_REPORT_MAX);
    su_status st = walk(dataset, "", 0, &items, &out, err);
    if (!st && !(*text = su_strdup(out.data ? out.data : ""))) st = no_memory(err);
    su_buffer_free(&out);
    return st;
}
