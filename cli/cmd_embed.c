/* suture embed: embeddings of a split, of image files or of a text file's lines, as safetensors. */
#include "align/embed.h"
#include "base/file.h"
#include "base/log.h"
#include "cli/commands.h"
#include "cli/common.h"
#include "cli/inputs.h"
#include "cli/options.h"
#include "eval/lines.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    char *name;
    float *z;
    int64_t rows;
} result;

/* --- image files ----------------------------------------------------------------------------------- */

enum { IMAGES_AT_ONCE = 64 };

typedef struct {
    const su_model *model;
    int32_t size; /* side of the tower's picture */
    char *const *paths;
    uint8_t *pixels; /* [IMAGES_AT_ONCE] pictures of `bytes` */
    size_t bytes;
    su_error errors[IMAGES_AT_ONCE];
} preparation;

static void prepare_one(void *context, int64_t task, int worker)
{
    (void)worker;
    preparation *p = context;
    p->errors[task] = (su_error){0};
    su_image_prepare(p->paths[task], &p->model->config.recipe, p->size, p->pixels + (size_t)task * p->bytes,
                     NULL, &p->errors[task]);
}

/* A row for every file that is an image, in order; the others are skipped with their reason. */
static su_status embed_images(su_model *m, const su_inputs *files, result *out, json_t *rows, json_t *skipped,
                              su_error *err)
{
    int stream = su_model_stream_of(m, SU_TOWER_VIT);
    if (stream < 0) return su_fail(err, SU_EINVAL, "this model has no image tower");
    const su_tower_config *t = &m->config.stream[stream].tower;
    size_t width = (size_t)su_model_width(m);
    preparation p = {.model = m,
                     .size = t->image_size,
                     .bytes = (size_t)t->image_size * (size_t)t->image_size * (size_t)t->channels};
    p.pixels = su_alloc(IMAGES_AT_ONCE, p.bytes);
    out->z = su_alloc((size_t)files->count, width * sizeof *out->z);
    su_status st = p.pixels && out->z
                       ? SU_OK
                       : su_fail(err, SU_ENOMEM, "no memory for %lld images", (long long)files->count);
    su_progress *progress = su_progress_new("embed", "images", files->count);
    for (int64_t first = 0; first < files->count && !st; first += IMAGES_AT_ONCE) {
        int32_t n = (int32_t)(files->count - first < IMAGES_AT_ONCE ? files->count - first : IMAGES_AT_ONCE),
                good = 0;
        p.paths = files->paths + first;
        su_pool_run(m->device->pool, n, prepare_one, &p);
        for (int32_t i = 0; i < n; i++) {
            const char *name = files->names[first + i];
            if (p.errors[i].code) {
                su_log(SU_LOG_WARN, "skipped: %s", p.errors[i].message);
                json_array_append_new(skipped,
                                      json_pack("{s:s,s:s}", "file", name, "error", p.errors[i].message));
                continue;
            }
            memmove(p.pixels + (size_t)good++ * p.bytes, p.pixels + (size_t)i * p.bytes, p.bytes);
            json_array_append_new(rows, json_pack("{s:s}", "file", name));
        }
        if (good)
            st = su_model_encode_images(m, stream, p.pixels, good, out->z + (size_t)out->rows * width, err);
        if (!st) out->rows += good;
        su_progress_step(progress, first + n, NULL);
    }
    su_progress_free(progress);
    su_free(p.pixels);
    if (!st && out->rows == 0)
        st = su_fail(err, SU_EFORMAT, "none of the %lld files could be read as an image",
                     (long long)files->count);
    out->name = su_strdup(m->config.stream[stream].name);
    return st;
}

/* --- texts, datasets ------------------------------------------------------------------------------- */

static su_status embed_text(su_model *m, const char *path, result *out, su_error *err)
{
    int stream = su_model_stream_of(m, SU_TOWER_BERT);
    if (stream < 0) return su_fail(err, SU_EINVAL, "this model has no text tower");
    su_lines lines = {0};
    su_status st = su_lines_read(path, &lines, err);
    if (st) return st;
    enum { AT_ONCE = 1024 };
    size_t width = (size_t)su_model_width(m);
    out->z = su_alloc((size_t)lines.count + 1, width * sizeof *out->z);
    if (!out->z)
        st = su_fail(err, SU_ENOMEM, "no memory for %lld texts", (long long)lines.count);
    else if (!lines.count)
        st = su_fail(err, SU_EINVAL, "%s has no line to embed", path);
    su_progress *progress = su_progress_new("embed", "texts", lines.count);
    for (int64_t first = 0; first < lines.count && !st; first += AT_ONCE) {
        int32_t n = (int32_t)(lines.count - first < AT_ONCE ? lines.count - first : AT_ONCE);
        st = su_model_encode_texts(m, stream, (const char *const *)lines.line + first, n,
                                   out->z + (size_t)first * width, err);
        su_progress_step(progress, first + n, NULL);
    }
    su_progress_free(progress);
    out->rows = lines.count;
    out->name = su_strdup(m->config.stream[stream].name);
    su_lines_free(&lines);
    return st;
}

/* X.rows.jsonl beside X.safetensors: an object a row says what the row is of. */
static su_status write_rows(const char *out, const json_t *rows, su_error *err)
{
    static const char end[] = ".safetensors";
    size_t length = strlen(out), cut = sizeof end - 1;
    if (length > cut && !strcmp(out + length - cut, end)) length -= cut;
    char *path = su_alloc(length + sizeof ".rows.jsonl", 1);
    if (!path) return su_fail(err, SU_ENOMEM, "no memory for a file's name");
    snprintf(path, length + sizeof ".rows.jsonl", "%.*s.rows.jsonl", (int)length, out);
    su_writer *w = NULL;
    su_status st = su_writer_open(path, &w, err);
    for (size_t i = 0; i < json_array_size(rows) && !st; i++) {
        char *line = json_dumps(json_array_get(rows, i), JSON_COMPACT | JSON_PRESERVE_ORDER);
        st = line ? su_writer_printf(w, err, "%s\n", line) : su_fail(err, SU_ENOMEM, "no memory for a line");
        free(line);
    }
    if (st)
        su_writer_abort(w);
    else
        st = su_writer_commit(w, err);
    su_free(path);
    return st;
}

int su_cmd_embed(int argc, char **argv)
{
    const char *run = NULL, *data = NULL, *split = "val", *text = NULL, *out = NULL, *device_name = "cpu";
    su_option_list images = {0};
    int64_t threads = 0;
    bool any_recipe = false;
    const su_option options[] = {
        SU_STRING("model", &run, "RUN", "trained run or imported model (required)"),
        SU_STRING("data", &data, "DS", "packed dataset: every stream of a split"),
        SU_STRING("split", &split, "S", "which split of it, or all"),
        SU_LIST("images", &images, "FILE|DIR...", "image files, or folders of them"),
        SU_STRING("text", &text, "FILE", "text file, one text a line"),
        SU_STRING("out", &out, "EMB.safetensors",
                  "where to write (required): a [rows, width] F32 tensor a stream;\nEMB.rows.jsonl beside it "
                  "names the rows"),
        SU_FLAG("force-recipe", &any_recipe, "take a dataset whose pictures were made by another recipe"),
        SU_DEVICE_OPTION(&device_name),
        SU_THREADS_OPTION(&threads),
        {0}};
    const su_command command = {
        .name = "embed",
        .synopsis =
            "--model RUN (--data DS --split S | --images FILE|DIR... | --text FILE) --out EMB.safetensors",
        .summary = "Embeddings (unit rows) of a split, of image files or of a text file's lines.",
        .examples = "  suture embed --model runs/closegap --data roco --split val --out val.safetensors\n"
                    "  suture embed --model runs/closegap --images a.jpg b.png --out images.safetensors\n"
                    "  suture eval embeddings --streams image=val.safetensors,text=val.safetensors\n",
        .options = options,
        .min_positional = 0,
        .max_positional = 0};
    su_option_list args = {0};
    su_error err = {0};
    int code = su_options_parse(&command, argc, argv, &args);
    if (code >= 0) return code;
    su_log_to_stderr(su_option_quiet());
    su_device *device = NULL;
    su_model *m = NULL;
    su_dataset *ds = NULL;
    result results[SU_MAX_STREAMS] = {0};
    int count = 0;
    su_inputs files = {0};
    json_t *skipped = json_array(), *rows = json_array();
    su_status st =
        run && out ? SU_OK
                   : su_fail(&err, SU_EINVAL, "%s is missing", run ? "--out EMB.safetensors" : "--model RUN");
    if (!st && (data != NULL) + (images.count > 0) + (text != NULL) != 1)
        st = su_fail(&err, SU_EINVAL, "give one of --data DS, --images FILE|DIR... and --text FILE");
    if (!st) st = su_cli_open_model(run, device_name, (int)threads, &device, &m, &err);
    if (!st) m->any_recipe = any_recipe;
    if (!st && data) {
        int64_t *items = NULL, n = 0;
        float *z[SU_MAX_STREAMS] = {NULL};
        st = su_dataset_open(data, &ds, &err);
        if (!st) st = su_dataset_split(ds, split, &items, &n, &err);
        if (!st) st = su_embed_items(m, ds, items, n, NULL, "embed", z, &err);
        for (; !st && count < m->config.streams; count++)
            results[count] =
                (result){.name = su_strdup(m->config.stream[count].name), .z = z[count], .rows = n};
        for (int64_t i = 0; i < n && !st; i++) {
            const su_record *r = su_dataset_record(ds, items[i]);
            json_array_append_new(
                rows, json_pack("{s:s,s:s,s:s}", "id", r->id, "split", r->split, "group", r->group));
        }
        su_free(items);
    } else if (!st) {
        if (!text) st = su_inputs_list(images.items, images.count, out, &files, &err);
        if (!st)
            st = text ? embed_text(m, text, &results[0], &err)
                      : embed_images(m, &files, &results[0], rows, skipped, &err);
        for (int64_t i = 0; i < results[0].rows && text && !st; i++)
            json_array_append_new(rows, json_pack("{s:I}", "line", (json_int_t)i + 1));
        count = 1;
    }
    if (!st) st = write_rows(out, rows, &err);
    if (!st) {
        su_tensor_view views[SU_MAX_STREAMS];
        for (int i = 0; i < count; i++)
            views[i] = (su_tensor_view){.name = results[i].name,
                                        .dtype = SU_DTYPE_F32,
                                        .rank = 2,
                                        .shape = {results[i].rows, su_model_width(m)},
                                        .data = results[i].z,
                                        .bytes = (size_t)results[i].rows * (size_t)su_model_width(m) *
                                                 sizeof(float)};
        st = su_safetensors_write(out, views, count,
                                  (const char *const[]){"format", "suture.embeddings/1", "model_sha256",
                                                        m->sha256, "data_sha256",
                                                        ds ? su_dataset_sha256(ds) : "", NULL},
                                  &err);
    }
    json_t *streams = json_object(), *doc = NULL;
    for (int i = 0; i < count && !st; i++)
        json_object_set_new(streams, results[i].name, json_integer(results[i].rows));
    if (!st)
        doc = json_pack("{s:s,s:s,s:i,s:O,s:O}", "schema", "suture.embed/1", "out", out, "width",
                        (int)su_model_width(m), "rows", streams, "skipped", skipped);
    if (su_cli_report(doc, &st, &err)) {
        for (int i = 0; i < count; i++)
            printf("%s: %s [%lld, %d]\n", out, results[i].name, (long long)results[i].rows,
                   su_model_width(m));
        if (json_array_size(skipped)) printf("skipped %zu file(s), listed above\n", json_array_size(skipped));
    }
    for (int i = 0; i < SU_MAX_STREAMS; i++) {
        su_free(results[i].name);
        su_free(results[i].z);
    }
    json_decref(doc);
    json_decref(streams);
    json_decref(skipped);
    json_decref(rows);
    su_inputs_free(&files);
    su_model_free(m);
    su_device_close(device);
    su_dataset_close(ds);
    su_options_free(&args, &command);
    return st ? su_cli_fail(&command, &err) : SU_EXIT_OK;
}
