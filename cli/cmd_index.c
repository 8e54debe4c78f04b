/* suture index, suture search: figures and reports in one index, found by a text or by an image. */
#include "base/log.h"
#include "cli/commands.h"
#include "cli/common.h"
#include "cli/options.h"
#include "datasets/fold.h"
#include "datasets/loader.h"
#include "retrieve/index.h"
#include <stdio.h>
#include <string.h>

int su_cmd_index(int argc, char **argv)
{
    const char *run = NULL, *out = NULL, *split = NULL, *device_name = "cpu";
    su_option_list data = {0};
    int64_t threads = 0, rows = 0;
    bool any_recipe = false;
    const su_option options[] = {
        SU_STRING("model", &run, "RUN", "trained run (required)"),
        SU_LIST("data", &data, "DS...", "packed datasets (required)"),
        SU_STRING("split", &split, "S", "only this split; everything by default"),
        SU_STRING("out", &out, "IDX", "folder of the index (required)"),
        SU_FLAG("force-recipe", &any_recipe, "take a dataset whose pictures were made by another recipe"),
        SU_DEVICE_OPTION(&device_name),
        SU_THREADS_OPTION(&threads),
        {0}};
    const su_command command = {.name = "index",
                                .synopsis = "--model RUN --data DS... --out IDX [options]",
                                .summary = "Puts every image and every text of the datasets into one index.",
                                .examples =
                                    "  suture index --model runs/closegap --data roco --out roco.index\n"
                                    "  suture search --index roco.index --text \"pleural effusion\" -k 5\n",
                                .options = options,
                                .min_positional = 0,
                                .max_positional = 0};
    su_option_list args = {0};
    su_error err = {0};
    int code = su_options_parse(&command, argc, argv, &args);
    if (code >= 0) return code;
    su_log_to_stderr(su_option_quiet());
    su_device *device = NULL;
    su_model *model = NULL;
    su_status st = run && out && data.count ? SU_OK
                                            : su_fail(&err, SU_EINVAL, "%s is missing",
                                                      !run   ? "--model RUN"
                                                      : !out ? "--out IDX"
                                                             : "--data DS");
    if (!st) st = su_cli_open_model(run, device_name, (int)threads, &device, &model, &err);
    if (!st) model->any_recipe = any_recipe;
    if (!st) st = su_index_build(model, run, data.items, data.count, split, out, &rows, &err);
    json_t *doc = st ? NULL
                     : json_pack("{s:s,s:s,s:I,s:i}", "schema", "suture.index.build/1", "index", out, "rows",
                                 (json_int_t)rows, "width", (int)su_model_width(model));
    if (su_cli_report(doc, &st, &err))
        printf("%s: %lld items of %d dimensions\n", out, (long long)rows, su_model_width(model));
    json_decref(doc);
    su_model_free(model);
    su_device_close(device);
    su_options_free(&args, &command);
    return st ? su_cli_fail(&command, &err) : SU_EXIT_OK;
}

/* The query's embedding, by the model that made the index. */
static su_status embed_query(const su_index *index, const char *run, const char *device_name, int threads,
                             const char *text, const char *image, su_device **device, float **query,
                             su_error *err)
{
    su_model *m = NULL;
    su_status st =
        su_cli_open_model(run ? run : su_index_model(index), device_name, threads, device, &m, err);
    if (st)
        return run ? st
                   : su_fail_context(err, st,
                                     "the index's model (if the run was moved, say where with --model RUN)");
    if (strcmp(m->sha256, su_index_model_sha256(index)) != 0)
        st = su_fail(err, SU_EMISMATCH,
                     "%s is not the model that made this index (its weights differ): build the index again",
                     run ? run : su_index_model(index));
    *query = st ? NULL : su_alloc((size_t)su_index_width(index), sizeof **query);
    if (!st && !*query) st = su_fail(err, SU_ENOMEM, "no memory for the query");
    int stream = su_model_stream_of(m, text ? SU_TOWER_BERT : SU_TOWER_VIT);
    if (!st && stream < 0)
        st = su_fail(err, SU_EUNSUPPORTED, "the model has no %s tower", text ? "text" : "image");
    if (!st && text) {
        st = su_model_encode_texts(m, stream, &text, 1, *query, err);
    } else if (!st) {
        const su_tower_config *t = &m->config.stream[stream].tower;
        uint8_t *pixels = su_alloc((size_t)t->image_size * (size_t)t->image_size, (size_t)t->channels);
        st = pixels ? su_image_prepare(image, &m->config.recipe, t->image_size, pixels, NULL, err)
                    : su_fail(err, SU_ENOMEM, "no memory for the query image");
        if (!st) st = su_model_encode_images(m, stream, pixels, 1, *query, err);
        su_free(pixels);
    }
    su_model_free(m);
    return st;
}

static json_t *hits_json(const su_index *index, const char *query, const su_hit *hits, int32_t found)
{
    json_t *list = json_array();
    for (int32_t i = 0; i < found; i++) {
        const su_index_item *x = su_index_at(index, hits[i].row);
        json_array_append_new(list, json_pack("{s:s,s:s,s:f,s:s,s:s,s:s,s:s}", "id", x->id, "kind", x->kind,
                                              "score", hits[i].score, "file", x->file, "text", x->text,
                                              "split", x->split, "licence", x->licence));
    }
    json_t *said = json_string(query); /* NULL: a file's name that is no UTF-8 */
    return json_pack("{s:o,s:o}", "query", said ? said : json_null(), "hits", list);
}

/* Columns of text: a character of UTF-8 is one. */
static int columns_of(const char *s)
{
    int n = 0;
    for (; *s; s++) n += (*s & 0xC0) != 0x80;
    return n;
}

static void print_hits(const su_index *index, const char *query, const su_hit *hits, int32_t found)
{
    enum { MOST_ID = 40, MOST_TEXT = 88 };
    int wide = 2;
    for (int32_t i = 0; i < found; i++) {
        const int n = columns_of(su_index_at(index, hits[i].row)->id);
        if (n > wide) wide = n < MOST_ID ? n : MOST_ID;
    }
    printf("%s\n\n  %4s  %6s  %-5s  %-*s  %s\n", query, "rank", "score", "kind", wide, "id", "text");
    for (int32_t i = 0; i < found; i++) {
        const su_index_item *x = su_index_at(index, hits[i].row);
        size_t n = strcspn(x->text, "\n");
        const bool cut = n > MOST_TEXT;
        if (cut)
            for (n = MOST_TEXT; n > 0 && (x->text[n] & 0xC0) == 0x80;) n--; /* never inside a character */
        const int pad = wide - columns_of(x->id);
        printf("  %4d  %6.3f  %-5s  %s%*s  %.*s%s\n", i + 1, hits[i].score, x->kind, x->id, pad > 0 ? pad : 0,
               "", (int)n, x->text, cut ? "..." : "");
        if (!strcmp(x->kind, "image") && *x->file && strcmp(x->file, x->id) != 0)
            printf("  %21s%s\n", "", x->file);
    }
    if (!found) printf("  nothing passes the filter\n");
}

int su_cmd_search(int argc, char **argv)
{
    const char *folder = NULL, *run = NULL, *text = NULL, *image = NULL, *kind = "any", *where = NULL,
               *device_name = "cpu";
    int64_t k = 10, threads = 0;
    const su_option options[] = {
        SU_STRING("index", &folder, "IDX", "index to search (required)"),
        SU_STRING("text", &text, "T", "find by a text"),
        SU_STRING("image", &image, "FILE", "find by an image file"),
        SU_INT("k", &k, 1, 100000, "N", "how many hits"),
        SU_STRING("kind", &kind, "KIND", "image, text or any"),
        SU_STRING("where", &where, "EXPR",
                  "FIELD=VALUE, FIELD!=VALUE or FIELD~PART, joined by 'and';\nfields: id kind stream split "
                  "group licence file text"),
        SU_STRING("model", &run, "RUN", "where the index's model is now, if it was moved"),
        SU_DEVICE_OPTION(&device_name),
        SU_THREADS_OPTION(&threads),
        {0}};
    const su_command command = {.name = "search",
                                .synopsis = "--index IDX (--text T | --image FILE) [options]",
                                .summary = "The nearest images and texts to a text or to an image, exactly.",
                                .examples =
                                    "  suture search --index roco.index --text \"chest radiograph with "
                                    "pleural effusion\" --kind image\n"
                                    "  suture search --index roco.index --image figure.jpg --kind text -k 5\n"
                                    "  suture search --index roco.index --text fracture --where "
                                    "\"licence='CC BY' and split!=train\" --json -\n",
                                .options = options,
                                .min_positional = 0,
                                .max_positional = 0};
    su_option_list args = {0};
    su_error err = {0};
    int code = su_options_parse(&command, argc, argv, &args);
    if (code >= 0) return code;
    su_log_to_stderr(su_option_quiet());
    su_index *index = NULL;
    su_device *device = NULL;
    float *query = NULL;
    int32_t found = 0;
    su_hit *hits = su_alloc((size_t)k, sizeof *hits);
    su_status st = hits ? SU_OK : su_fail(&err, SU_ENOMEM, "no memory for %lld hits", (long long)k);
    if (!st && !folder) st = su_fail(&err, SU_EINVAL, "--index IDX is missing");
    if (!st && (text != NULL) == (image != NULL))
        st = su_fail(&err, SU_EINVAL, "give either --text T or --image FILE");
    if (!st && text && !su_utf8_valid(text, strlen(text)))
        st = su_fail(&err, SU_EINVAL, "--text is not UTF-8");
    if (!st && text && su_text_blank(text))
        st = su_fail(&err, SU_EINVAL, "--text is empty: say what to search for");
    if (!st) st = su_index_open(folder, &index, &err);
    if (!st) st = embed_query(index, run, device_name, (int)threads, text, image, &device, &query, &err);
    su_index_filter filter = {.kind = kind, .where = where};
    if (!st) st = su_index_search(index, device, query, &filter, (int32_t)k, hits, &found, &err);
    json_t *doc = st ? NULL : hits_json(index, text ? text : image, hits, found);
    if (su_cli_report(doc, &st, &err)) print_hits(index, text ? text : image, hits, found);
    json_decref(doc);
    su_free(query);
    su_free(hits);
    su_device_close(device);
    su_index_close(index);
    su_options_free(&args, &command);
    return st ? su_cli_fail(&command, &err) : SU_EXIT_OK;
}
