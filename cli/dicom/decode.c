/* suture dicom decode: a DICOM file's stored values as a NumPy array. */
#include "base/log.h"
#include "base/npy.h"
#include "cli/commands.h"
#include "cli/common.h"
#include "cli/options.h"
#include "dicom/decode.h"
#include "dicom/display.h"
#include <stdio.h>

typedef struct {
    int first, count; /* frames */
    int rank;
    int64_t shape[4];
    const char *type; /* NumPy's name of it */
    int overlays;
} array;

static void describe_array(su_dicom_file *file, const su_dicom_layout *l, int frame, array *a)
{
    static const char *const types[] = {"|u1", "|i1", "<u2", "<i2", "<u4", "<i4", "<f4", "<f8"};
    *a = (array){.first = frame < 0 ? 0 : frame,
                 .count = frame < 0 ? l->frames : 1,
                 .type = types[l->type],
                 .overlays = su_dicom_overlays(file)};
    if (a->count > 1) a->shape[a->rank++] = a->count;
    a->shape[a->rank++] = l->rows;
    a->shape[a->rank++] = l->columns;
    if (l->samples > 1) a->shape[a->rank++] = l->samples;
}

static su_status write_frames(su_dicom_file *file, const su_dicom_layout *l, const array *a, const char *out,
                              su_error *err)
{
    su_npy_writer *w = NULL;
    su_dicom_pixels pixels = {0};
    /* The first frame before the file: what cannot be decoded leaves none. */
    su_status st = su_dicom_decode(file, a->first, &pixels, err);
    if (!st) st = su_npy_open(out, a->type, a->rank, a->shape, &w, err);
    for (int i = 0; !st && i < a->count; i++) {
        if (i > 0) st = su_dicom_decode(file, a->first + i, &pixels, err);
        if (!st) {
            su_dicom_pixels_mask(&pixels);
            st = su_npy_add(w, pixels.memory, (size_t)l->frame_bytes, err);
        }
        su_dicom_pixels_free(&pixels);
    }
    su_dicom_pixels_free(&pixels);
    if (!st) return su_npy_commit(w, err);
    su_npy_abort(w);
    return st;
}

static json_t *describe(const char *path, const char *out, const su_dicom_layout *l, const array *a)
{
    json_t *shape = json_array();
    for (int i = 0; i < a->rank; i++) json_array_append_new(shape, json_integer(a->shape[i]));
    return json_pack("{s:s,s:s,s:s,s:o,s:s,s:i,s:i,s:i,s:s,s:s,s:s,s:i}", "schema", "suture.dicom.decode/1",
                     "file", path, "out", out, "shape", shape, "dtype", a->type, "frames", l->frames,
                     "first_frame", a->first + 1, "bits_stored", l->stored, "photometric", l->photometric,
                     "transfer_syntax", l->syntax->uid, "transfer_syntax_name", l->syntax->name, "overlays",
                     a->overlays);
}

static void print_array(const char *out, const su_dicom_layout *l, const array *a)
{
    printf("%s: ", out);
    for (int i = 0; i < a->rank; i++) printf("%s%lld", i ? " x " : "", (long long)a->shape[i]);
    printf(" %s, %s, %s\n", a->type, l->photometric[0] ? l->photometric : "no photometric interpretation",
           l->syntax->name);
    if (a->count < l->frames) printf("  frame %d of %d\n", a->first + 1, l->frames);
    if (a->overlays) printf("  %d overlay%s left out\n", a->overlays, a->overlays == 1 ? " is" : "s are");
}

int su_cmd_dicom_decode(int argc, char **argv)
{
    const char *out = NULL;
    int64_t frame = 0;
    const su_option options[] = {
        SU_STRING("out", &out, "X.npy", "the array to write; needed"),
        SU_INT("frame", &frame, 1, 2147483647, "N", "only this frame, from 1 (default: all)"),
        {0},
    };
    const su_command command = {
        .name = "dicom decode",
        .synopsis = "FILE --out X.npy [--frame N]",
        .summary =
            "Writes a DICOM file's stored values as a NumPy array [frames,] rows, columns [, samples]: "
            "before\nany table, window or colour conversion, bits beyond Bits Stored cut off. "
            "See docs/dicom.md.",
        .examples = "suture dicom decode slice.dcm --out slice.npy\n"
                    "suture dicom decode cine.dcm --frame 12 --out twelve.npy\n",
        .options = options,
        .min_positional = 1,
        .max_positional = 1,
    };
    su_option_list files = {0};
    su_error err = {0};
    su_dicom_file *file = NULL;
    su_dicom_layout layout;
    array a;
    int code = su_options_parse(&command, argc, argv, &files);
    if (code >= 0) return code;
    su_log_to_stderr(su_option_quiet());
    su_status st = out ? SU_OK : su_fail(&err, SU_EINVAL, "--out X.npy is needed: the array to write");
    if (!st) st = su_dicom_open(files.items[0], &file, &err);
    if (!st) st = su_dicom_layout_read(file, &layout, &err);
    if (!st) {
        describe_array(file, &layout, (int)frame - 1, &a);
        st = write_frames(file, &layout, &a, out, &err);
    }
    json_t *document = st ? NULL : describe(files.items[0], out, &layout, &a);
    if (su_cli_report(document, &st, &err)) print_array(out, &layout, &a);
    json_decref(document);
    su_dicom_close(file);
    su_options_free(&files, &command);
    return st ? su_cli_fail(&command, &err) : SU_EXIT_OK;
}
