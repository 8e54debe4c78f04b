#include "dicom/info.h"
#include "dicom/decode.h"
#include "dicom/display.h"
#include "dicom/fragments.h"
#include "dicom/series.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
    CHARACTER_SET = 0x00080005,
    SOP_CLASS = 0x00080016,
    FRAME_VOI = 0x00289132,
    PIXEL_VALUES = 0x00289145,
    WIDTH = 0x00281051,
    CENTRE = 0x00281050,
    RESCALE_TYPE = 0x00281054,
    VOI_FUNCTION = 0x00281056,
    VOI_LUT = 0x00283010,
    WINDOWS_MAX = 64,
};

/* A file that is looked at; display and pixels only where there are any. */
typedef struct {
    su_dicom_file *file;
    su_dicom_item *ds;
    const char *name; /* of the file, in UTF-8 */
    bool phi;
    int frame; /* from 0: the one that is looked at */
    bool has_layout, decoded, has_display;
    su_dicom_layout layout;
    su_dicom_pixels pixels;
    su_dicom_display_file display;
    char reason[sizeof((su_error *)0)->message], /* why it does not decode */
        undisplayed[sizeof((su_error *)0)->message];
} subject;

static json_t *text_or_null(const char *text)
{
    return text && text[0] ? json_string(text) : json_null();
}

/* What a message says of the file whose name it begins with. */
static void keep_reason(const subject *s, const su_error *err, char *reason)
{
    const char *path = su_dicom_path(s->file), *text = err->message;
    const size_t n = strlen(path);
    if (strncmp(text, path, n) == 0 && strncmp(text + n, ": ", 2) == 0) text += n + 2;
    snprintf(reason, sizeof err->message, "%s", text);
}

/* A value of a code string [PS3.5 6.2], by which nobody can be named. */
static json_t *code(const subject *s, su_dicom_item *item, uint32_t tag)
{
    char text[128];
    su_dicom_text(item, tag, text, sizeof text);
    const size_t codes = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_ \\");
    return s->phi || !text[codes] ? text_or_null(text) : json_null();
}

/* ---- parts ---- */

static json_t *pixels(const subject *s)
{
    static const char *const types[] = {"uint8",  "int8",  "uint16",  "int16",
                                        "uint32", "int32", "float32", "float64"};
    const su_dicom_layout *l = &s->layout;
    if (l->rows < 1) return json_null();
    return json_pack("{s:i,s:i,s:i,s:i,s:s,s:s,s:i,s:i,s:i,s:b}", "rows", l->rows, "columns", l->columns,
                     "frames", l->frames, "samples", l->samples, "photometric", l->photometric, "type",
                     types[l->type], "bits_allocated", l->allocated, "bits_stored", l->stored, "high_bit",
                     l->high, "signed", (int)l->is_signed);
}

static json_t *fragments(const subject *s)
{
    su_fragments *const *f = su_dicom_fragments(s->file);
    return *f ? json_string(su_frames_by_name((*f)->by)) : json_null();
}

static json_t *modality_lut(const subject *s)
{
    const su_dicom_display *d = &s->display.show;
    if (!s->has_display || d->colour != SU_DICOM_GREY) return json_null();
    if (d->modality.count)
        return json_pack("{s:i,s:i}", "entries", d->modality.count, "bits", d->modality.bits);
    su_dicom_item *item = su_dicom_frame_item(s->file, s->frame, PIXEL_VALUES);
    return json_pack("{s:f,s:f,s:o}", "slope", d->slope, "intercept", d->intercept, "unit",
                     code(s, su_dicom_has(item, RESCALE_TYPE) ? item : s->ds, RESCALE_TYPE));
}

static void add_windows(const subject *s, json_t *o)
{
    su_dicom_item *item = su_dicom_frame_item(s->file, s->frame, FRAME_VOI);
    if (!su_dicom_has(item, WIDTH) && !su_dicom_sequence(item, VOI_LUT, 0)) item = s->ds;
    json_t *windows = json_array();
    int tables = 0;
    const int count = su_dicom_values(item, WIDTH);
    for (int i = 0; i < count && i < WINDOWS_MAX; i++) {
        double centre, width;
        if (su_dicom_number(item, CENTRE, i, &centre) && su_dicom_number(item, WIDTH, i, &width) &&
            isfinite(centre) && isfinite(width))
            json_array_append_new(windows, json_pack("{s:f,s:f}", "centre", centre, "width", width));
    }
    while (tables < WINDOWS_MAX && su_dicom_sequence(item, VOI_LUT, tables)) tables++;
    json_object_set_new(o, "windows", windows);
    json_object_set_new(o, "voi_function", code(s, item, VOI_FUNCTION));
    json_object_set_new(o, "voi_tables", json_integer(tables));
}

static json_t *spacing(const subject *s)
{
    double mm[2];
    const char *from = NULL;
    if (!su_dicom_spacing(s->file, s->frame, mm, &from)) return json_null();
    return json_pack("{s:f,s:f,s:s}", "row", mm[0], "column", mm[1], "from", from);
}

static json_t *numbers(const double *v, int count)
{
    json_t *list = json_array();
    for (int i = 0; i < count; i++) json_array_append_new(list, json_real(v[i]));
    return list;
}

static json_t *slice(const subject *s)
{
    su_slice g;
    if (su_slice_read(s->file, s->frame, &g)) return json_null();
    return json_pack("{s:o,s:o,s:o}", "position", numbers(g.position, 3), "orientation",
                     numbers(g.orientation, 6), "thickness",
                     g.thickness > 0 && isfinite(g.thickness) ? json_real(g.thickness) : json_null());
}

static json_t *people(const subject *s)
{
    static const struct {
        const char *name;
        uint32_t tag;
    } said[] = {
        {"patient_name", 0x00100010},        {"patient_id", 0x00100020},
        {"patient_birth_date", 0x00100030},  {"patient_sex", 0x00100040},
        {"patient_age", 0x00101010},         {"accession_number", 0x00080050},
        {"study_date", 0x00080020},          {"study_description", 0x00081030},
        {"series_description", 0x0008103e},  {"institution", 0x00080080},
        {"referring_physician", 0x00080090}, {"study_uid", 0x0020000d},
        {"series_uid", 0x0020000e},          {"sop_uid", 0x00080018},
    };
    json_t *o = json_object();
    for (size_t i = 0; i < sizeof said / sizeof *said; i++) {
        char text[512];
        su_dicom_text(s->ds, said[i].tag, text, sizeof text);
        json_object_set_new(o, said[i].name, text_or_null(text[0] && !s->phi ? "masked" : text));
    }
    return o;
}

/* ---- recipes ---- */

static void say_range(const subject *s, bool raw, char *out, size_t size)
{
    double r[2];
    if (s->decoded && su_dicom_range(&s->pixels.frame, &s->display.show, raw, r))
        snprintf(out, size, ", %.10g to %.10g", r[0], r[1]);
    else
        out[0] = '\0';
}

static void say_standard(const subject *s, char *out, size_t size)
{
    static const char *const functions[] = {
        [SU_VOI_LINEAR] = "", [SU_VOI_LINEAR_EXACT] = ", LINEAR_EXACT", [SU_VOI_SIGMOID] = ", SIGMOID"};
    const su_dicom_voi *v = &s->display.show.voi;
    char range[80];
    switch (v->kind) {
    case SU_VOI_TABLE:
        snprintf(out, size, "the VOI LUT table of %d entries", v->table.count);
        break;
    case SU_VOI_SPAN:
        snprintf(out, size, "all that can be stored, %.10g to %.10g", v->low, v->high);
        break;
    case SU_VOI_RANGE:
        say_range(s, false, range, sizeof range);
        snprintf(out, size, "no window in the file: least to greatest value%s", range);
        break;
    default:
        snprintf(out, size, "the file's window, centre %.10g, width %.10g%s", v->centre, v->width,
                 functions[v->kind]);
    }
}

static void say_recipe(const subject *s, const su_dicom_recipe *r, char *out, size_t size)
{
    const su_dicom_display *d = &s->display.show;
    char range[80];
    bool inverted = d->inverse;
    if (d->colour != SU_DICOM_GREY) {
        snprintf(out, size, "the colours as they are");
        return;
    }
    switch (r->kind) {
    case SU_RECIPE_RANGE:
        say_range(s, false, range, sizeof range);
        snprintf(out, size, "least to greatest value%s", range);
        break;
    case SU_RECIPE_WINDOW:
        snprintf(out, size, "centre %g, width %g", r->centre, r->width);
        break;
    case SU_RECIPE_MIMIC:
        say_range(s, true, range, sizeof range);
        snprintf(out, size, "range of the stored values%s, histogram equalised", range);
        inverted = d->monochrome1;
        break;
    default:
        say_standard(s, out, size);
    }
    const size_t used = strlen(out);
    if (inverted) snprintf(out + used, size - used, ", inverted");
}

static json_t *recipes(const subject *s)
{
    json_t *list = json_array();
    int count = 0;
    const su_dicom_recipe *all = su_dicom_recipes(&count);
    for (int i = 0; i < count; i++) {
        char name[SU_RECIPE_NAME_MAX], text[sizeof s->reason] = "";
        su_error err = {0};
        snprintf(name, sizeof name, "%s/%d", all[i].name, all[i].version);
        if (!s->decoded)
            snprintf(text, sizeof text, "%s", s->reason);
        else if (!s->has_display)
            snprintf(text, sizeof text, "%s", s->undisplayed);
        else if (su_dicom_recipe_check(&all[i], s->file, &err))
            keep_reason(s, &err, text);
        const bool refused = text[0];
        if (!refused) say_recipe(s, &all[i], text, sizeof text);
        json_array_append_new(list,
                              json_pack("{s:s,s:s}", "recipe", name, refused ? "refused" : "shows", text));
    }
    return list;
}

/* ---- the whole ---- */

static void look(subject *s)
{
    su_error err = {0};
    if (su_dicom_layout_read(s->file, &s->layout, &err)) {
        keep_reason(s, &err, s->reason);
        return;
    }
    s->has_layout = true;
    s->frame = s->layout.frames / 2;
    if (su_dicom_display_open(s->file, s->frame, &s->display, &err))
        keep_reason(s, &err, s->undisplayed);
    else
        s->has_display = true;
    if (su_dicom_decode(s->file, s->frame, &s->pixels, &err)) {
        keep_reason(s, &err, s->reason);
        return;
    }
    su_dicom_pixels_mask(&s->pixels);
    s->decoded = true;
}

static json_t *values(const subject *s)
{
    double r[2];
    const bool grey = s->decoded && s->has_display && s->display.show.colour == SU_DICOM_GREY;
    return grey && su_dicom_range(&s->pixels.frame, &s->display.show, false, r) ? numbers(r, 2) : json_null();
}

static json_t *padding(const subject *s)
{
    const su_dicom_display *d = &s->display.show;
    return d->padded ? json_pack("[f,f]", d->padding_low, d->padding_high) : json_null();
}

static json_t *describe(const subject *s)
{
    const char *uid = su_dicom_transfer_syntax(s->file);
    const su_syntax *syntax = su_dicom_scan(s->file)->known;
    char sop_class[80], notes[SU_DICOM_NOTE_MAX + 80] = "";
    su_dicom_text(s->ds, SOP_CLASS, sop_class, sizeof sop_class);
    if (!su_dicom_scan(s->file)->syntax[0])
        snprintf(notes, sizeof notes, "it does not say its transfer syntax, which was found by reading%s",
                 s->display.note[0] ? "; " : "");
    strcat(notes, s->display.note);
    const char *name = syntax ? syntax->name : su_dicom_uid_name(uid);
    json_t *o = json_pack(
        "{s:s,s:s,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:b,s:o}", "schema", "suture.dicom.info/1",
        "file", s->name, "transfer_syntax", text_or_null(uid), "transfer_syntax_name", text_or_null(name),
        "character_set", code(s, s->ds, CHARACTER_SET), "sop_class", text_or_null(sop_class),
        "sop_class_name", text_or_null(su_dicom_uid_name(sop_class)), "modality",
        code(s, s->ds, SU_TAG(0x08, 0x60)), "body_part", code(s, s->ds, SU_TAG(0x18, 0x15)), "view",
        code(s, s->ds, SU_TAG(0x18, 0x5101)), "laterality", code(s, s->ds, SU_TAG(0x20, 0x62)),
        "burned_in_annotation", code(s, s->ds, SU_TAG(0x28, 0x301)), "pixels", pixels(s), "decodes",
        (int)s->decoded, "reason", text_or_null(s->reason));
    if (!o) return NULL;
    json_object_set_new(o, "frame", s->has_layout ? json_integer(s->frame + 1) : json_null());
    json_object_set_new(o, "values", values(s));
    json_object_set_new(o, "fragments", fragments(s));
    json_object_set_new(o, "modality_lut", modality_lut(s));
    add_windows(s, o);
    json_object_set_new(o, "padding", padding(s));
    json_object_set_new(o, "inverted", s->has_display ? json_boolean(s->display.show.inverse) : json_null());
    json_object_set_new(o, "spacing", spacing(s));
    json_object_set_new(o, "slice", slice(s));
    json_object_set_new(o, "overlays", json_integer(su_dicom_overlays(s->file)));
    json_object_set_new(o, "notes", text_or_null(notes));
    json_object_set_new(o, "recipes", s->has_layout ? recipes(s) : json_array());
    json_object_set_new(o, "people", people(s));
    return o;
}

su_status su_dicom_info(const char *path, const char *name, bool phi, json_t **info, su_error *err)
{
    subject s = {.name = name, .phi = phi};
    *info = NULL;
    su_status st = su_dicom_open(path, &s.file, err);
    if (st) return st;
    s.ds = su_dicom_dataset(s.file);
    look(&s);
    *info = describe(&s);
    su_dicom_pixels_free(&s.pixels);
    su_dicom_display_close(&s.display);
    su_dicom_close(s.file);
    return *info ? SU_OK : su_fail(err, SU_ENOMEM, "%s: no memory to describe it", path);
}
