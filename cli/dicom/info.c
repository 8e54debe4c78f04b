/* suture dicom info: what DICOM files say of their pictures, one in detail or many as a table. */
#include "dicom/info.h"
#include "base/file.h"
#include "base/log.h"
#include "cli/commands.h"
#include "cli/common.h"
#include "cli/inputs.h"
#include "cli/options.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- a document's members ---- */

static const json_t *get(const json_t *o, const char *key)
{
    return json_object_get(o, key);
}

static const char *text(const json_t *o, const char *key)
{
    const char *s = json_string_value(get(o, key));
    return s ? s : "";
}

static int integer(const json_t *o, const char *key)
{
    return (int)json_integer_value(get(o, key));
}

static double number(const json_t *o, const char *key)
{
    return json_number_value(get(o, key));
}

static double element(const json_t *list, size_t i)
{
    return json_number_value(json_array_get(list, i));
}

/* ---- one file ---- */

static void row(const char *name, const char *value)
{
    if (value[0]) printf("  %-14s %s\n", name, value);
}

static void print_pixels(const json_t *info)
{
    const json_t *p = get(info, "pixels"), *v = get(info, "values");
    const int frames = integer(p, "frames");
    const char *unit = text(get(info, "modality_lut"), "unit");
    if (strcmp(unit, "US") == 0) unit = ""; /* unspecified */
    if (json_is_object(p))
        printf("  %-14s %d x %d, %d frame%s, %s, %d bits of %d, %s\n", "pixels", integer(p, "columns"),
               integer(p, "rows"), frames, frames == 1 ? "" : "s",
               text(p, "photometric")[0] ? text(p, "photometric") : "no photometric interpretation",
               integer(p, "bits_stored"), integer(p, "bits_allocated"), text(p, "type"));
    row("stored as", text(info, "transfer_syntax_name")[0] ? text(info, "transfer_syntax_name")
                                                           : text(info, "transfer_syntax"));
    row("frames by", frames > 1 ? text(info, "fragments") : "");
    if (!json_is_true(get(info, "decodes")))
        printf("  %-14s no: %s\n", "decodes", text(info, "reason"));
    else if (frames > 1)
        printf("  %-14s yes (frame %d was tried)\n", "decodes", integer(info, "frame"));
    else
        row("decodes", "yes");
    if (json_is_array(v))
        printf("  %-14s %.10g to %.10g%s%s\n", "values", element(v, 0), element(v, 1), unit[0] ? " " : "",
               unit);
    if (integer(info, "overlays")) printf("  %-14s %d, left out\n", "overlays", integer(info, "overlays"));
}

static void print_display(const json_t *info)
{
    const json_t *m = get(info, "modality_lut"), *windows = get(info, "windows"), *w = NULL,
                 *p = get(info, "padding");
    size_t i = 0;
    if (get(m, "entries"))
        printf("  %-14s table of %d entries of %d bits\n", "modality LUT", integer(m, "entries"),
               integer(m, "bits"));
    else if (json_is_object(m))
        printf("  %-14s slope %.10g, intercept %.10g\n", "modality LUT", number(m, "slope"),
               number(m, "intercept"));
    if (json_array_size(windows)) {
        printf("  %-14s", "windows");
        json_array_foreach((json_t *)(uintptr_t)windows, i, w)
            printf("%s centre %.10g, width %.10g", i ? ";" : "", number(w, "centre"), number(w, "width"));
        printf("%s%s\n", text(info, "voi_function")[0] ? "; " : "", text(info, "voi_function"));
    }
    if (integer(info, "voi_tables")) printf("  %-14s %d\n", "VOI tables", integer(info, "voi_tables"));
    if (json_is_array(p)) printf("  %-14s %.10g to %.10g\n", "padding", element(p, 0), element(p, 1));
    if (json_is_true(get(info, "inverted"))) row("inverted", "low values are bright");
}

static void print_geometry(const json_t *info)
{
    const json_t *s = get(info, "spacing"), *slice = get(info, "slice"), *position = get(slice, "position");
    if (json_is_object(s))
        printf("  %-14s %.6g mm between rows, %.6g mm between columns (%s)\n", "spacing", number(s, "row"),
               number(s, "column"), text(s, "from"));
    else
        row("spacing", "not said: --spacing refuses this file");
    if (!json_is_object(slice)) return;
    printf("  %-14s at %.6g, %.6g, %.6g mm", "slice", element(position, 0), element(position, 1),
           element(position, 2));
    if (json_is_number(get(slice, "thickness"))) printf(", %.6g mm thick", number(slice, "thickness"));
    printf("\n");
}

/* Those that refuse the file in one line, with the first one's reason. */
static void print_recipes(const json_t *info)
{
    json_t *list = (json_t *)(uintptr_t)get(info, "recipes"), *r = NULL;
    const char *why = NULL;
    size_t i = 0;
    if (!json_is_true(get(info, "decodes"))) return;
    printf("\n  recipe\n");
    json_array_foreach(list, i, r) if (get(r, "shows"))
        printf("  %-20s %s\n", text(r, "recipe"), text(r, "shows"));
    json_array_foreach(list, i, r)
    {
        if (!get(r, "refused")) continue;
        printf("%s%s", why ? ", " : "  refused              ", text(r, "recipe"));
        if (!why) why = text(r, "refused");
    }
    if (why) printf(": %s\n", why);
}

/* "patient_name" as "patient name". */
static const char *spoken(const char *key, char *out, size_t size)
{
    snprintf(out, size, "%s", key);
    for (char *c = out; *c; c++)
        if (*c == '_') *c = ' ';
    return out;
}

static void print_people(const json_t *info, bool phi)
{
    const char *name = NULL, *comma = "";
    json_t *people = (json_t *)(uintptr_t)get(info, "people"), *value = NULL;
    char words[40];
    printf(phi ? "\n" : "\n  %-14s", "masked");
    json_object_foreach(people, name, value)
    {
        if (json_is_null(value)) continue;
        if (phi)
            printf("  %-20s %s\n", spoken(name, words, sizeof words), json_string_value(value));
        else
            printf("%s %s", comma, spoken(name, words, sizeof words));
        comma = ",";
    }
    if (!phi) printf("%s\n", comma[0] ? "; --phi shows them" : " nothing");
}

static void print_file(const json_t *info, bool phi)
{
    char kind[400];
    snprintf(kind, sizeof kind, "%s%s%s%s%s", text(info, "modality"), text(info, "modality")[0] ? ", " : "",
             text(info, "sop_class_name")[0] ? text(info, "sop_class_name") : text(info, "sop_class"),
             text(info, "body_part")[0] ? ", " : "", text(info, "body_part"));
    printf("%s\n", text(info, "file"));
    row("is", kind);
    row("view", text(info, "view"));
    print_pixels(info);
    print_display(info);
    if (json_is_object(get(info, "pixels"))) print_geometry(info);
    row("characters", text(info, "character_set")[0] ? text(info, "character_set") : "ASCII");
    row("burned in", text(info, "burned_in_annotation"));
    row("note", text(info, "notes"));
    print_recipes(info);
    print_people(info, phi);
}

/* ---- many files ---- */

static bool without_pixels(const json_t *info)
{
    return strcmp(text(info, "reason"), "it has no pixel data") == 0;
}

static const char *or_dash(const char *s)
{
    return s[0] ? s : "-";
}

static void print_head(void)
{
    printf("%-8s  %-13s  %6s  %-15s  %-6s  %-7s  %s\n", "modality", "pixels", "frames", "kind", "bits",
           "decodes", "file");
}

/* The last column says how it is stored, why it does not decode, or what it is that holds no picture. */
static void print_line(const json_t *info)
{
    const json_t *p = get(info, "pixels");
    const bool whole = json_is_true(get(info, "decodes")), bare = without_pixels(info);
    char pixels[24] = "", frames[12] = "-", bits[16] = "";
    if (json_is_object(p)) {
        snprintf(pixels, sizeof pixels, "%d x %d", integer(p, "columns"), integer(p, "rows"));
        snprintf(frames, sizeof frames, "%d", integer(p, "frames"));
        snprintf(bits, sizeof bits, "%d/%d", integer(p, "bits_stored"), integer(p, "bits_allocated"));
    }
    const char *is = text(info, "sop_class_name"), *last = text(info, "reason");
    if (whole) last = text(info, "transfer_syntax_name");
    printf("%-8s  %-13s  %6s  %-15s  %-6s  %-7s  %s: %s%s%s\n", or_dash(text(info, "modality")),
           or_dash(pixels), frames, or_dash(text(p, "photometric")), or_dash(bits),
           whole  ? "yes"
           : bare ? "-"
                  : "no",
           text(info, "file"), bare ? is : "", bare && is[0] ? ": " : "", last);
}

/* ---- the command ---- */

typedef struct {
    bool phi, one;
    su_inputs files;
    su_writer *out;                           /* of --json FILE */
    bool lines;                               /* --json -: on standard output, and nothing else there */
    int64_t whole, refused, bare, unreadable; /* decode; do not; have no pixels; no DICOM or damaged */
} job;

static su_status write_line(job *j, const json_t *info, su_error *err)
{
    char *line = json_dumps(info, JSON_COMPACT);
    if (!line) return su_fail(err, SU_ENOMEM, "no memory for a line");
    su_status st = j->out ? su_writer_printf(j->out, err, "%s\n", line) : SU_OK;
    if (j->lines) printf("%s\n", line);
    free(line);
    return st;
}

static void count(job *j, const json_t *info)
{
    if (json_is_true(get(info, "decodes")))
        j->whole++;
    else if (without_pixels(info))
        j->bare++;
    else
        j->refused++;
}

/* What is no DICOM file, or a damaged one, is an error where it is the only one that was asked for, else a
 * line. */
static su_status take(job *j, int64_t i, su_error *err)
{
    const char *name = j->files.names[i];
    json_t *info = NULL;
    su_error bad = {0};
    su_status st = su_dicom_info(j->files.paths[i], name, j->phi, &info, j->one ? err : &bad);
    if (st && (j->one || st == SU_ENOMEM)) return st;
    if (st) {
        j->unreadable++;
        info =
            json_pack("{s:s,s:s,s:s}", "schema", "suture.dicom.info/1", "file", name, "error", bad.message);
        if (!j->lines) printf("%-65s  %s\n", "unreadable", bad.message);
    } else {
        count(j, info);
        if (!j->lines && j->one) print_file(info, j->phi);
        if (!j->lines && !j->one) print_line(info);
    }
    st = write_line(j, info, err);
    json_decref(info);
    return st;
}

static su_status take_all(job *j, su_error *err)
{
    su_progress *progress = j->one ? NULL : su_progress_new("dicom info", "files", j->files.count);
    su_status st = SU_OK;
    if (!j->lines && !j->one && j->files.count) print_head();
    for (int64_t i = 0; !st && i < j->files.count; i++) {
        st = take(j, i, err);
        if (progress) su_progress_step(progress, i + 1, NULL);
    }
    if (progress) su_progress_free(progress);
    if (st) return st;
    if (j->unreadable == j->files.count)
        return su_fail(err, SU_EFORMAT, "none of the %lld files could be read as DICOM",
                       (long long)j->files.count);
    if (j->lines || j->one) return SU_OK;
    printf("\n%lld files: %lld decode", (long long)j->files.count, (long long)j->whole);
    if (j->refused) printf(", %lld do not", (long long)j->refused);
    if (j->bare) printf(", %lld without pixels", (long long)j->bare);
    if (j->unreadable) printf(", %lld unreadable", (long long)j->unreadable);
    printf("\n");
    return SU_OK;
}

int su_cmd_dicom_info(int argc, char **argv)
{
    job j = {0};
    const su_option options[] = {
        {"phi", SU_OPT_FLAG, &j.phi, 0, 0, NULL,
         "show names, numbers, dates, descriptions and UIDs, which are masked otherwise", NULL},
        {0},
    };
    const su_command command = {
        .name = "dicom info",
        .synopsis = "FILE|DIR... [--phi]",
        .summary =
            "Says what DICOM files hold: size, frames, values, transfer syntax, windows, spacing, whether "
            "they\ndecode (one frame is decoded to know), and what each recipe would show. One file in "
            "detail, "
            "several or\nfolders as a table. Names, numbers, dates and UIDs are masked unless --phi. --json "
            "- "
            "gives a line a file.\nSee docs/dicom.md.",
        .examples = "suture dicom info slice.dcm\n"
                    "suture dicom info studies/ --json - | jq -r 'select(.decodes == false) | .file'\n",
        .options = options,
        .min_positional = 1,
        .max_positional = -1,
    };
    su_option_list given = {0};
    su_error err = {0};
    int code = su_options_parse(&command, argc, argv, &given);
    if (code >= 0) return code;
    su_log_to_stderr(su_option_quiet());
    const char *json = su_option_json();
    j.lines = json && strcmp(json, "-") == 0;
    j.one = given.count == 1 && !su_is_folder(given.items[0]);
    su_status st = su_inputs_list(given.items, given.count, json, &j.files, &err);
    if (!st && !j.files.count)
        st = su_fail(&err, SU_ENOTFOUND, "%s: there are no files in it", given.items[0]);
    if (!st && json && !j.lines) st = su_writer_open(json, &j.out, &err);
    if (!st) st = take_all(&j, &err);
    if (j.out && !st)
        st = su_writer_commit(j.out, &err);
    else if (j.out)
        su_writer_abort(j.out);
    su_inputs_free(&j.files);
    su_options_free(&given, &command);
    return st ? su_cli_fail(&command, &err) : SU_EXIT_OK;
}
