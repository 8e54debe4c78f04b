/* One document, two readers: programs take the JSON, people the table that is printed from it. */
#include "cli/report_align.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include <math.h>
#include <string.h>

static json_t *number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *interval(const double ci95[2])
{
    return isfinite(ci95[0]) && isfinite(ci95[1]) ? json_pack("[ff]", ci95[0], ci95[1]) : json_null();
}

/* A name from the command line need not be UTF-8: what is not becomes '?' byte by byte. */
static json_t *string(const char *text)
{
    if (!text) return json_null();
    json_t *s = json_string(text);
    if (s) return s;
    char *plain = su_strdup(text);
    if (!plain) return NULL;
    for (char *c = plain; *c; c++)
        if (*c & 0x80) *c = '?';
    s = json_string(plain);
    su_free(plain);
    return s;
}

json_t *su_receipt_json(const su_receipt *r, const su_alignment_score *score,
                        const su_alignment_options *options)
{
    json_t *draws =
        options->draws
            ? json_pack("{s:s, s:f, s:i}", "method",
                        "percentile bootstrap over samples; the draws of the gap are shifted by their bias "
                        "on the squared scale",
                        "level", 0.95, "draws", (int)options->draws)
            : json_null();
    return json_pack(
        "{s:o, s:o?, s:o, s:I, s:s, s:o, s:o, s:o, s:s, s:o, s:I}", "dataset_sha256",
        string(r->dataset_sha256), "files", r->files, "split", string(r->split), "pool",
        (json_int_t)score->pool, "duplicates",
        options->texts ? "r1, r5, r10 strict; duplicates_hit counts every candidate with the query's own "
                         "text (ASCII case and white space folded)"
                       : "strict",
        "tokenizer_sha256", string(r->tokenizer_sha256), "model_sha256", string(r->model_sha256), "command",
        string(r->command), "version", SUTURE_VERSION, "interval", draws, "seed", (json_int_t)options->seed);
}

static json_t *retrieval_json(const su_retrieval_score *r)
{
    json_t *duplicates = isfinite(r->r1_dup) ? json_pack("{s:f, s:f, s:f}", "r1", r->r1_dup, "r5", r->r5_dup,
                                                         "r10", r->r10_dup)
                                             : json_null();
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "r1", number(r->r1), "r5",
                     number(r->r5), "r10", number(r->r10), "median_rank", number(r->median_rank), "mrr",
                     number(r->mrr), "r1_ci95", interval(r->r1_ci95), "r5_ci95", interval(r->r5_ci95),
                     "r10_ci95", interval(r->r10_ci95), "duplicates_hit", duplicates);
}

/* Adds a member of one pair: the value itself when there are two streams, else under "a-b" in an object. */
static bool add_pair(json_t *document, const char *key, const char *pair, int streams, json_t *value)
{
    if (streams == 2) return json_object_set_new(document, key, value) == 0;
    json_t *all = json_object_get(document, key);
    if (!all && json_object_set_new(document, key, all = json_object()) != 0) {
        json_decref(value);
        return false;
    }
    return json_object_set_new(all, pair, value) == 0;
}

static bool add_scores(json_t *document, const su_alignment_score *score, const char *const *names, int a,
                       int b)
{
    const su_pair_score *pair = &score->pair[a][b];
    json_t *retrieval = json_object_get(document, "retrieval");
    char name[256], forward[256], backward[256];
    int n = score->streams;
    snprintf(name, sizeof name, "%s-%s", names[a], names[b]);
    snprintf(forward, sizeof forward, "%s_to_%s", names[a], names[b]);
    snprintf(backward, sizeof backward, "%s_to_%s", names[b], names[a]);
    return add_pair(document, "gap", name, n, number(pair->gap)) &&
           add_pair(document, "gap_ci95", name, n, interval(pair->gap_ci95)) &&
           add_pair(document, "gap_floor", name, n, number(pair->gap_floor)) &&
           add_pair(document, "cos_true_pairs", name, n, number(pair->cos_true_pairs)) &&
           add_pair(document, "cos_true_pairs_ci95", name, n, interval(pair->cos_ci95)) &&
           add_pair(document, "rmg", name, n, number(pair->rmg)) &&
           json_object_set_new(retrieval, forward, retrieval_json(&pair->forward)) == 0 &&
           json_object_set_new(retrieval, backward, retrieval_json(&pair->backward)) == 0;
}

json_t *su_report_align_json(const su_alignment_score *score, const char *const *names, json_t *receipt)
{
    json_t *clustering =
        score->clustered ? json_pack("{s:o, s:o, s:i}", "v_measure", number(score->v_measure), "knn_accuracy",
                                     number(score->knn_accuracy), "classes", (int)score->classes)
                         : json_null();
    json_t *document = json_pack("{s:s, s:I, s:[], s:{}, s:{}, s:o, s:o}", "schema", "suture.eval.align/1",
                                 "pool", (json_int_t)score->pool, "streams", "angular_value", "retrieval",
                                 "clustering", clustering, "receipt", receipt ? receipt : json_null());
    if (!document) return NULL;
    bool ok = true;
    for (int m = 0; ok && m < score->streams; m++)
        ok = json_array_append_new(json_object_get(document, "streams"), json_string(names[m])) == 0 &&
             json_object_set_new(json_object_get(document, "angular_value"), names[m],
                                 number(score->angular_value[m])) == 0;
    for (int a = 0; ok && a < score->streams; a++)
        for (int b = a + 1; ok && b < score->streams; b++) ok = add_scores(document, score, names, a, b);
    if (ok) return document;
    json_decref(document);
    return NULL;
}

/* --- the table ------------------------------------------------------------------------------------------ */

/* "0.4120" and "0.4010 .. 0.4230"; "-" for what is not there. percent: as "12.3 %". */
static const char *show(char *text, size_t size, const json_t *value, bool percent)
{
    if (!json_is_number(value))
        snprintf(text, size, "-");
    else if (percent)
        snprintf(text, size, "%.1f %%", 100 * json_number_value(value));
    else
        snprintf(text, size, "%.4f", json_number_value(value));
    return text;
}

static const char *show_with_interval(char *text, size_t size, const json_t *value, const json_t *ci95,
                                      bool percent)
{
    show(text, size, value, percent);
    size_t length = strlen(text);
    double low = json_number_value(json_array_get(ci95, 0)),
           high = json_number_value(json_array_get(ci95, 1));
    if (!json_is_array(ci95)) return text;
    if (percent)
        snprintf(text + length, size - length, " [%.1f, %.1f]", 100 * low, 100 * high);
    else
        snprintf(text + length, size - length, " [%.4f, %.4f]", low, high);
    return text;
}

static const json_t *of_pair(const json_t *document, const char *key, const char *pair, size_t streams)
{
    const json_t *value = json_object_get(document, key);
    return streams == 2 ? value : json_object_get(value, pair);
}

static void print_pairs(FILE *to, const json_t *document, const json_t *streams)
{
    size_t n = json_array_size(streams);
    char gap[64], floor[32], cosine[64], rmg[32], pair[256];
    fprintf(to, "%-20s  %-26s  %8s  %-26s  %8s\n", "pair", "gap", "floor", "cosine of true pairs", "RMG");
    for (size_t a = 0; a < n; a++)
        for (size_t b = a + 1; b < n; b++) {
            snprintf(pair, sizeof pair, "%s-%s", json_string_value(json_array_get(streams, a)),
                     json_string_value(json_array_get(streams, b)));
            show_with_interval(gap, sizeof gap, of_pair(document, "gap", pair, n),
                               of_pair(document, "gap_ci95", pair, n), false);
            show(floor, sizeof floor, of_pair(document, "gap_floor", pair, n), false);
            show_with_interval(cosine, sizeof cosine, of_pair(document, "cos_true_pairs", pair, n),
                               of_pair(document, "cos_true_pairs_ci95", pair, n), false);
            show(rmg, sizeof rmg, of_pair(document, "rmg", pair, n), false);
            fprintf(to, "%-20s  %-26s  %8s  %-26s  %8s\n", pair, gap, floor, cosine, rmg);
        }
}

/* "image_to_text" -> "image to text" */
static void direction(char *text, size_t size, const char *key)
{
    const char *to = strstr(key, "_to_");
    if (to)
        snprintf(text, size, "%.*s to %s", (int)(to - key), key, to + 4);
    else
        snprintf(text, size, "%s", key);
}

static void print_retrieval(FILE *to, const json_t *retrieval)
{
    const char *key;
    json_t *r;
    char name[256], r1[64], r5[64], r10[64], median[32], mrr[32];
    fprintf(to, "%-20s  %-22s  %-22s  %-22s  %11s  %7s\n", "retrieval", "R@1", "R@5", "R@10", "median rank",
            "MRR");
    json_object_foreach((json_t *)(uintptr_t)retrieval, key, r)
    {
        direction(name, sizeof name, key);
        show_with_interval(r1, sizeof r1, json_object_get(r, "r1"), json_object_get(r, "r1_ci95"), true);
        show_with_interval(r5, sizeof r5, json_object_get(r, "r5"), json_object_get(r, "r5_ci95"), true);
        show_with_interval(r10, sizeof r10, json_object_get(r, "r10"), json_object_get(r, "r10_ci95"), true);
        snprintf(median, sizeof median, "%.1f", json_number_value(json_object_get(r, "median_rank")));
        show(mrr, sizeof mrr, json_object_get(r, "mrr"), false);
        fprintf(to, "%-20s  %-22s  %-22s  %-22s  %11s  %7s\n", name, r1, r5, r10, median, mrr);
        const json_t *same = json_object_get(r, "duplicates_hit");
        if (!json_is_object(same)) continue;
        show(r1, sizeof r1, json_object_get(same, "r1"), true);
        show(r5, sizeof r5, json_object_get(same, "r5"), true);
        show(r10, sizeof r10, json_object_get(same, "r10"), true);
        fprintf(to, "%-20s  %-22s  %-22s  %-22s\n", "  same text is a hit", r1, r5, r10);
    }
}

void su_report_align_print(FILE *to, const json_t *document)
{
    const json_t *streams = json_object_get(document, "streams"),
                 *clustering = json_object_get(document, "clustering");
    const json_t *angles = json_object_get(document, "angular_value");
    const json_t *draws =
        json_object_get(json_object_get(json_object_get(document, "receipt"), "interval"), "draws");
    char text[64];
    fprintf(to, "pool of %lld samples", (long long)json_integer_value(json_object_get(document, "pool")));
    if (json_is_integer(draws))
        fprintf(to, "; 95 %% intervals from %lld bootstrap draws", (long long)json_integer_value(draws));
    fprintf(to, "\n\n");
    print_pairs(to, document, streams);
    fprintf(to, "\n");
    print_retrieval(to, json_object_get(document, "retrieval"));
    fprintf(to, "\n%-20s  %s\n", "stream", "angular value (mean cosine of two different samples)");
    for (size_t m = 0; m < json_array_size(streams); m++) {
        const char *name = json_string_value(json_array_get(streams, m));
        fprintf(to, "%-20s  %s\n", name, show(text, sizeof text, json_object_get(angles, name), false));
    }
    if (!json_is_object(clustering)) return;
    fprintf(to, "\nclusters of %lld classes: V-measure %s",
            (long long)json_integer_value(json_object_get(clustering, "classes")),
            show(text, sizeof text, json_object_get(clustering, "v_measure"), false));
    fprintf(to, ", accuracy of 5 nearest neighbours %s\n",
            show(text, sizeof text, json_object_get(clustering, "knn_accuracy"), true));
}

char *su_command_line(const char *words, int argc, char **argv)
{
    su_buffer line;
    su_buffer_init(&line, 1 << 20);
    su_status status = su_buffer_printf(&line, NULL, "suture %s", words);
    for (int i = 1; !status && i < argc; i++) {
        bool plain = argv[i][0] && !strpbrk(argv[i], " \t\n'\"\\$&|;<>()*?[]#~`!");
        status = su_buffer_printf(&line, NULL, plain ? " %s" : " '%s'", argv[i]);
    }
    char *text = status ? NULL : su_strdup(line.data);
    su_buffer_free(&line);
    return text;
}

su_status su_report_write(const json_t *document, const char *path, su_error *err)
{
    if (!document) return su_fail(err, SU_ENOMEM, "no memory for the document");
    if (strcmp(path, "-") != 0) return su_json_write(path, document, err);
    if (json_dumpf(document, stdout, JSON_INDENT(2) | JSON_SORT_KEYS) != 0 || putchar('\n') == EOF ||
        fflush(stdout) != 0)
        return su_fail(err, SU_EIO, "standard output: the document could not be written");
    return SU_OK;
}
