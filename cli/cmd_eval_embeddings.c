/* suture eval embeddings: the metrics of eval/alignment.h for embeddings that any program wrote. */
#include "base/checksum.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "cli/report_align.h"
#include "eval/alignment.h"
#include "eval/lines.h"
#include "eval/matrix.h"
#include <ctype.h>
#include <string.h>

enum { NAME_MAX_ = 64 };

static const char *streams_text, *labels_path, *texts_path, *groups_path;
static int64_t draws = 1000, seed;

static const su_option options_table[] = {
    SU_STRING("streams", &streams_text, "NAME=FILE,...",
              "two to eight streams of embeddings, row i of each belonging to sample i:\n.npy (float16, "
              "float32, float64) or FILE.safetensors[:TENSOR]"),
    SU_STRING("labels", &labels_path, "FILE",
              "class of each sample, one a line (empty: none) or .npy of whole numbers:\nadds V-measure and "
              "nearest-neighbour accuracy"),
    SU_STRING("texts", &texts_path, "FILE",
              "text of each sample, one a line: adds recalls that count every candidate\nwith the query's "
              "own text"),
    SU_STRING("groups", &groups_path, "FILE",
              "group (patient, article) of each sample, one a line: kept on one side of\nthe "
              "nearest-neighbour split"),
    SU_INT("draws", &draws, 0, 100000, "N", "bootstrap draws for the intervals; 0: none"),
    SU_INT("seed", &seed, 0, 9e15, "N", "of the bootstrap and of k-means"),
    {0},
};

static const su_command command = {
    .name = "eval embeddings",
    .synopsis = "--streams NAME=FILE,NAME=FILE[,...] [options]",
    .summary = "How well embeddings of several streams share one space: modality gap, true pairs,\n"
               "retrieval, clusters. Rows are normalised unless they are unit vectors already.",
    .examples =
        "  suture eval embeddings --streams image=image.npy,text=text.npy\n"
        "  suture eval embeddings --streams image=run.safetensors:image,text=run.safetensors:text --json -\n"
        "  suture eval embeddings --streams image=i.npy,text=t.npy --labels classes.txt --texts "
        "captions.txt\n",
    .options = options_table,
};

typedef struct {
    char name[SU_EVAL_STREAMS][NAME_MAX_];
    const char *names[SU_EVAL_STREAMS];
    char *path[SU_EVAL_STREAMS];
    const char *tensor[SU_EVAL_STREAMS]; /* inside path, or NULL */
    su_matrix matrix[SU_EVAL_STREAMS];
    int count;
    su_lines texts, groups;
    int32_t *labels;
    su_pool *pool;
} inputs;

static bool is_name(const char *name, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (!isalnum((unsigned char)name[i]) && name[i] != '_' && name[i] != '-') return false;
    return length > 0 && length < NAME_MAX_;
}

/* "NAME=FILE[:TENSOR]"; a colon that is part of an existing file's name is no tensor. */
static su_status parse_stream(inputs *in, const char *text, size_t length, su_error *err)
{
    const char *equals = memchr(text, '=', length);
    size_t name = equals ? (size_t)(equals - text) : 0;
    if (!equals || !is_name(text, name) || name + 1 == length)
        return su_fail(err, SU_EINVAL,
                       "--streams: '%.*s' is not NAME=FILE (a name has letters, digits, '_' and '-')",
                       (int)length, text);
    if (in->count == SU_EVAL_STREAMS)
        return su_fail(err, SU_EINVAL, "--streams: more than %d streams", (int)SU_EVAL_STREAMS);
    int m = in->count++;
    memcpy(in->name[m], text, name);
    in->names[m] = in->name[m];
    for (int i = 0; i < m; i++)
        if (!strcmp(in->name[i], in->name[m]))
            return su_fail(err, SU_EINVAL, "--streams: two streams are called '%s'", in->name[m]);
    in->path[m] = su_strndup(equals + 1, length - name - 1);
    if (!in->path[m]) return su_fail(err, SU_ENOMEM, "no memory");
    char *colon = strrchr(in->path[m], ':');
    if (colon && !su_file_exists(in->path[m])) {
        *colon = 0;
        in->tensor[m] = colon + 1;
    }
    return SU_OK;
}

static su_status parse_streams(inputs *in, su_error *err)
{
    if (!streams_text) return su_fail(err, SU_EINVAL, "--streams NAME=FILE,NAME=FILE is needed; see --help");
    for (const char *at = streams_text;;) {
        size_t length = strcspn(at, ",");
        su_status status = parse_stream(in, at, length, err);
        if (status) return status;
        if (!at[length]) break;
        at += length + 1;
    }
    if (in->count < 2) return su_fail(err, SU_EINVAL, "--streams: two streams at least can be compared");
    return SU_OK;
}

static su_status read_streams(inputs *in, su_error *err)
{
    for (int m = 0; m < in->count; m++) {
        su_status status = su_matrix_read(in->path[m], in->tensor[m], in->name[m], &in->matrix[m], err);
        if (status) return status;
        const su_matrix *a = &in->matrix[0], *b = &in->matrix[m];
        if (a->rows != b->rows || a->width != b->width)
            return su_fail(
                err, SU_EMISMATCH,
                "%s is [%lld, %d], %s is [%lld, %d]: streams need the same samples in the same order and "
                "one width",
                in->path[0], (long long)a->rows, (int)a->width, in->path[m], (long long)b->rows,
                (int)b->width);
    }
    return SU_OK;
}

static su_status check_count(const char *path, const char *what, int64_t count, const inputs *in,
                             su_error *err)
{
    if (count == in->matrix[0].rows) return SU_OK;
    return su_fail(err, SU_EMISMATCH, "%s: %lld %s for the %lld samples of %s", path, (long long)count, what,
                   (long long)in->matrix[0].rows, in->path[0]);
}

static su_status read_extras(inputs *in, su_error *err)
{
    su_status status = SU_OK;
    int64_t count;
    if (labels_path) {
        status = su_labels_read(labels_path, &in->labels, &count, err);
        if (!status) status = check_count(labels_path, "labels", count, in, err);
    }
    if (!status && texts_path) {
        status = su_lines_read(texts_path, &in->texts, err);
        if (!status) status = check_count(texts_path, "lines", in->texts.count, in, err);
    }
    if (!status && groups_path) {
        status = su_lines_read(groups_path, &in->groups, err);
        if (!status) status = check_count(groups_path, "lines", in->groups.count, in, err);
    }
    return status;
}

static su_status add_file(json_t *files, const char *key, const char *path, const su_matrix *matrix,
                          su_error *err)
{
    char hex[SU_SHA256_HEX];
    su_status status = su_sha256_file(path, hex, err);
    if (status) return status;
    json_t *file = json_pack("{s:s, s:s}", "file", path, "sha256", hex);
    if (!file) file = json_pack("{s:n, s:s}", "file", "sha256", hex); /* the name is not UTF-8 */
    if (matrix) {
        json_object_set_new(file, "shape",
                            json_pack("[I, I]", (json_int_t)matrix->rows, (json_int_t)matrix->width));
        if (matrix->tensor[0]) json_object_set_new(file, "tensor", json_string(matrix->tensor));
    }
    return json_object_set_new(files, key, file) ? su_fail(err, SU_ENOMEM, "no memory for the receipt")
                                                 : SU_OK;
}

/* Hashes of everything that was read; extras under names that no stream can have. */
static su_status list_files(const inputs *in, json_t *files, su_error *err)
{
    su_status status = SU_OK;
    for (int m = 0; !status && m < in->count; m++)
        status = add_file(files, in->name[m], in->path[m], &in->matrix[m], err);
    if (!status && labels_path) status = add_file(files, "--labels", labels_path, NULL, err);
    if (!status && texts_path) status = add_file(files, "--texts", texts_path, NULL, err);
    if (!status && groups_path) status = add_file(files, "--groups", groups_path, NULL, err);
    return status;
}

static su_status report(const inputs *in, const su_alignment_score *score,
                        const su_alignment_options *options, int argc, char **argv, su_error *err)
{
    json_t *files = json_object();
    su_status status = list_files(in, files, err);
    if (status) {
        json_decref(files);
        return status;
    }
    char *line = su_command_line("eval embeddings", argc, argv);
    json_t *receipt = su_receipt_json(&(su_receipt){.files = files, .command = line}, score, options);
    json_t *document = su_report_align_json(score, in->names, receipt);
    su_free(line);
    const char *path = su_option_json();
    if (!document) status = su_fail(err, SU_ENOMEM, "no memory for the report");
    if (!status && path) status = su_report_write(document, path, err);
    if (!status && !(path && !strcmp(path, "-"))) su_report_align_print(stdout, document);
    json_decref(document);
    return status;
}

static su_status evaluate(inputs *in, int argc, char **argv, su_error *err)
{
    su_status status = parse_streams(in, err);
    if (!status) status = read_streams(in, err);
    if (!status) status = read_extras(in, err);
    if (!status) status = su_pool_new(0, &in->pool, err);
    if (status) return status;

    su_alignment_options options;
    su_alignment_defaults(&options);
    options.names = in->names;
    options.texts = in->texts.line;
    options.groups = in->groups.line;
    options.labels = in->labels;
    options.draws = (int32_t)draws;
    options.seed = (uint64_t)seed;
    options.pool = in->pool;
    const float *z[SU_EVAL_STREAMS];
    for (int m = 0; m < in->count; m++) z[m] = in->matrix[m].data;
    su_alignment_score score;
    status = su_alignment_score_compute(z, in->count, in->matrix[0].rows, in->matrix[0].width, &options,
                                        &score, err);
    if (status == SU_ENUMERIC) return su_fail_context(err, status, "%s", streams_text);
    if (status) return status;
    if (labels_path && !score.clustered)
        su_log(SU_LOG_WARN, "%s names %d classes; clusters need two at least and are left out", labels_path,
               (int)score.classes);
    return report(in, &score, &options, argc, argv, err);
}

int su_cmd_eval_embeddings(int argc, char **argv)
{
    su_option_list positional = {0};
    int code = su_options_parse(&command, argc, argv, &positional);
    if (code >= 0) return code;
    su_log_to_stderr(su_option_quiet());
    inputs in = {0};
    su_error err = {0};
    su_status status = evaluate(&in, argc, argv, &err);
    for (int m = 0; m < in.count; m++) {
        su_free(in.path[m]);
        su_matrix_free(&in.matrix[m]);
    }
    su_lines_free(&in.texts);
    su_lines_free(&in.groups);
    su_free(in.labels);
    su_pool_free(in.pool);
    su_options_free(&positional, &command);
    return status ? su_cli_fail(&command, &err) : SU_EXIT_OK;
}
