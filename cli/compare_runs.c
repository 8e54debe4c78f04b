#include "cli/compare_runs.h"
#include "align/config.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "eval/student.h"
#include <math.h>
#include <string.h>

enum { DOCUMENT_MAX = 16 << 20, SETTINGS_SHOWN = 3 };

/* --- reading -------------------------------------------------------------------------------------------- */

static su_status read_member(const char *folder, const char *name, const char *remedy, json_t **root,
                             su_error *err)
{
    char *path = su_path_join(folder, name);
    if (!path) return su_fail(err, SU_ENOMEM, "no memory");
    su_status status = SU_OK;
    if (su_file_exists(path))
        status = su_json_read_sealed(path, DOCUMENT_MAX, root, err);
    else if (remedy)
        status = su_fail(err, SU_ENOTFOUND, "%s is missing: %s", path, remedy);
    su_free(path);
    return status;
}

static su_status check_schema(const json_t *document, const char *schema, const char *folder,
                              const char *name, su_error *err)
{
    const char *found = json_string_value(json_object_get(document, "schema"));
    if (found && !strcmp(found, schema)) return SU_OK;
    return su_fail(err, SU_EFORMAT, "%s%s%s: the schema is '%s', not '%s'", folder, *name ? "/" : "", name,
                   found ? found : "(none)", schema);
}

static su_status check_scores(const json_t *eval, const char *path, const char *name, su_error *err)
{
    su_status status = check_schema(eval, "suture.eval.align/1", path, name, err);
    if (status) return status;
    const json_t *streams = json_object_get(eval, "streams");
    bool ok = json_array_size(streams) >= 2 && json_is_integer(json_object_get(eval, "pool"));
    for (size_t m = 0; m < json_array_size(streams); m++) ok &= json_is_string(json_array_get(streams, m));
    if (ok) return SU_OK;
    return su_fail(err, SU_EFORMAT, "%s%s%s: \"streams\" and \"pool\" are not what `suture eval` writes",
                   path, *name ? "/" : "", name);
}

static su_status read_run(su_compared_run *run, const char *eval_name, su_error *err)
{
    if (!su_is_folder(run->path)) {
        su_status status = su_json_read_sealed(run->path, DOCUMENT_MAX, &run->eval, err);
        return status ? status : check_scores(run->eval, run->path, "", err);
    }
    su_status status = read_member(
        run->path, "run.json", "the training did not end; go on with suture train --resume", &run->run, err);
    if (!status) status = check_schema(run->run, "suture.run/1", run->path, "run.json", err);
    if (!status)
        status = su_json_int_or(run->run, "seed", run->path, INT64_MIN, INT64_MAX, 0, &run->seed, err);
    if (!status) status = read_member(run->path, "config.json", NULL, &run->config, err);
    if (!status)
        status = read_member(run->path, eval_name,
                             "suture eval align --model RUN --data DS --split S --json FILE makes it",
                             &run->eval, err);
    if (!status) status = check_scores(run->eval, run->path, eval_name, err);
    return status;
}

/* --- are the scores of one kind? ------------------------------------------------------------------------ */

static void add_mismatch(su_comparison *c, const su_compared_run *run, const char *what, const json_t *here,
                         const json_t *there)
{
    char *a = json_dumps(here, JSON_ENCODE_ANY | JSON_COMPACT),
         *b = json_dumps(there, JSON_ENCODE_ANY | JSON_COMPACT);
    json_array_append_new(c->mismatches, json_sprintf("%s: %s is %.80s, that of %s is %.80s", run->path, what,
                                                      a ? a : "?", c->run[0].path, b ? b : "?"));
    free(a);
    free(b);
}

/* Pool, dataset and split must be those of the first run. A document of foreign embeddings names no dataset. */
static su_status check_pools(su_comparison *c, su_error *err)
{
    const json_t *first = c->run[0].eval;
    for (int r = 1; r < c->runs; r++) {
        const json_t *eval = c->run[r].eval;
        if (!json_equal(json_object_get(eval, "streams"), json_object_get(first, "streams")))
            return su_fail(err, SU_EMISMATCH, "%s and %s have different streams: compare them apart",
                           c->run[0].path, c->run[r].path);
        const json_t *a = json_object_get(eval, "pool"), *b = json_object_get(first, "pool");
        if (!json_equal(a, b)) add_mismatch(c, &c->run[r], "the pool", a, b);
        static const char *const keys[][2] = {{"dataset_sha256", "the dataset's hash"},
                                              {"split", "the split"}};
        for (size_t k = 0; k < sizeof keys / sizeof *keys; k++) {
            a = json_object_get(json_object_get(eval, "receipt"), keys[k][0]);
            b = json_object_get(json_object_get(first, "receipt"), keys[k][0]);
            if (json_is_string(a) && json_is_string(b) && !json_equal(a, b))
                add_mismatch(c, &c->run[r], keys[k][1], a, b);
        }
    }
    return SU_OK;
}

/* --- groups --------------------------------------------------------------------------------------------- */

/* A configuration with its preset's values where it is silent, as those of older versions are about settings
 * that came later. As it stands when it is of another kind. */
static json_t *complete(const json_t *config)
{
    json_t *all = json_deep_copy(config), *data = json_object_get(all, "data_sha256");
    const char *preset = json_string_value(json_object_get(all, "preset"));
    su_train_config *c = su_calloc(1, sizeof *c);
    json_incref(data);
    json_object_del(all, "data_sha256");
    json_t *whole = NULL;
    if (c && !su_config_preset(preset ? preset : "", c, NULL) && !su_config_merge(all, "config.json", c, NULL))
        whole = su_config_json(c);
    su_free(c);
    json_t *settings = whole ? whole : all;
    if (whole) json_decref(all);
    if (data) json_object_set_new(settings, "data_sha256", data);
    return settings;
}

/* What was trained, without the seed: the configuration, or what run.json says of it. */
static json_t *settings_of(const su_compared_run *run)
{
    json_t *settings = run->config ? complete(run->config) : json_object();
    static const char *const said[] = {"objective", "preset", "epochs", "data_sha256"};
    for (size_t i = 0; !run->config && i < sizeof said / sizeof *said; i++) {
        json_t *value = json_object_get(run->run, said[i]);
        if (value) json_object_set(settings, said[i], value);
    }
    json_object_del(settings, "seed");
    return settings;
}

static bool same_training(const su_compared_run *a, const su_compared_run *b)
{
    if (!a->run || !b->run) return false;
    json_t *x = settings_of(a), *y = settings_of(b);
    bool same = json_equal(x, y);
    json_decref(x);
    json_decref(y);
    return same;
}

static void name_group(su_comparison *c, su_run_group *group)
{
    const su_compared_run *run = &c->run[group->first];
    const char *objective = json_string_value(json_object_get(run->run, "objective"));
    snprintf(group->objective, sizeof group->objective, "%s", objective ? objective : "");
    snprintf(group->label, sizeof group->label, "%s", objective ? objective : su_path_name(run->path));
}

static su_status group_runs(su_comparison *c, su_error *err)
{
    for (int r = 0; r < c->runs; r++) {
        su_compared_run *run = &c->run[r];
        run->group = -1;
        for (int q = 0; q < r; q++) {
            if (!same_training(&c->run[q], run)) continue;
            run->group = c->run[q].group;
            if (c->run[q].seed == run->seed)
                return su_fail(
                    err, SU_EMISMATCH,
                    "%s and %s are one training twice (seed %lld): leave one out, or the interval over seeds "
                    "would be too narrow",
                    c->run[q].path, run->path, (long long)run->seed);
        }
        if (run->group < 0) {
            run->group = c->groups;
            c->group[c->groups] = (su_run_group){.first = r};
            name_group(c, &c->group[c->groups++]);
        }
        c->group[run->group].runs++;
    }
    return SU_OK;
}

/* Leaves of a configuration as "a.b.0": value, so that two can be compared member by member. */
static void flatten(const json_t *value, const char *path, json_t *leaves)
{
    char inner[SU_COMPARE_PATH];
    const char *key;
    size_t i;
    json_t *member;
    if (json_is_object(value)) {
        json_object_foreach((json_t *)(uintptr_t)value, key, member)
        {
            snprintf(inner, sizeof inner, "%s%s%s", path, *path ? "." : "", key);
            flatten(member, inner, leaves);
        }
    } else if (json_is_array(value)) {
        json_array_foreach(value, i, member)
        {
            snprintf(inner, sizeof inner, "%s.%zu", path, i);
            flatten(member, inner, leaves);
        }
    } else {
        json_object_set(leaves, path, (json_t *)(uintptr_t)value);
    }
}

/* "epochs=5": the last word of the path is enough to recognise a setting. */
static void append_setting(char *label, const char *path, const json_t *value)
{
    size_t length = strlen(label);
    const char *dot = strrchr(path, '.');
    char *text = json_is_real(value) ? NULL : json_dumps(value, JSON_ENCODE_ANY);
    if (json_is_string(value))
        snprintf(label + length, SU_COMPARE_LABEL - length, " %s=%.24s", dot ? dot + 1 : path,
                 json_string_value(value));
    else if (json_is_real(value))
        snprintf(label + length, SU_COMPARE_LABEL - length, " %s=%g", dot ? dot + 1 : path,
                 json_real_value(value));
    else
        snprintf(label + length, SU_COMPARE_LABEL - length, " %s=%.24s", dot ? dot + 1 : path,
                 text ? text : "?");
    free(text);
}

/* A label that was cut inside a character, or comes from a file name that is no UTF-8, loses what is not
 * ASCII. */
static void make_utf8(char *label)
{
    json_t *valid = json_string(label);
    for (char *at = label; !valid && *at; at++)
        if (*at & 0x80) *at = '?';
    json_decref(valid);
}

/* Groups with the same objective get the first settings in which they differ added to their labels. */
static void tell_apart(su_comparison *c)
{
    json_t **leaves = su_calloc((size_t)c->groups, sizeof *leaves);
    for (int g = 0; leaves && g < c->groups; g++) {
        json_t *settings = settings_of(&c->run[c->group[g].first]);
        flatten(settings, "", leaves[g] = json_object());
        json_decref(settings);
    }
    for (int g = 0; leaves && g < c->groups; g++) {
        su_run_group *group = &c->group[g];
        int shown = 0;
        const char *key;
        json_t *value;
        if (!*group->objective) continue;
        json_object_foreach(leaves[g], key, value)
        {
            bool differs = false;
            for (int h = 0; h < c->groups; h++)
                differs |= h != g && !strcmp(c->group[h].objective, group->objective) &&
                           !json_equal(json_object_get(leaves[h], key), value);
            if (differs && shown++ < SETTINGS_SHOWN) append_setting(group->label, key, value);
        }
        if (shown > SETTINGS_SHOWN)
            strncat(group->label, " ...", SU_COMPARE_LABEL - strlen(group->label) - 1);
    }
    for (int g = 0; leaves && g < c->groups; g++) {
        json_decref(leaves[g]);
        make_utf8(c->group[g].label);
    }
    su_free(leaves);
}

su_status su_comparison_new(const char *const *paths, int count, const char *eval_name,
                            su_comparison **comparison, su_error *err)
{
    su_comparison *c = su_calloc(1, sizeof *c);
    su_status status = SU_OK;
    if (c) {
        c->run = su_calloc((size_t)count, sizeof *c->run);
        c->group = su_calloc((size_t)count, sizeof *c->group);
        c->mismatches = json_array();
    }
    if (!c || !c->run || !c->group || !c->mismatches)
        status = su_fail(err, SU_ENOMEM, "no memory for %d runs", count);
    for (int r = 0; !status && r < count; r++) {
        c->run[c->runs++].path = paths[r];
        status = read_run(&c->run[r], eval_name, err);
    }
    if (!status) status = check_pools(c, err);
    if (!status) status = group_runs(c, err);
    if (status) {
        su_comparison_free(c);
        c = NULL;
    } else {
        c->streams = json_object_get(c->run[0].eval, "streams");
        tell_apart(c);
    }
    *comparison = c;
    return status;
}

void su_comparison_free(su_comparison *c)
{
    if (!c) return;
    for (int r = 0; r < c->runs; r++) {
        json_decref(c->run[r].run);
        json_decref(c->run[r].config);
        json_decref(c->run[r].eval);
    }
    su_free(c->run);
    su_free(c->group);
    json_decref(c->mismatches);
    su_free(c);
}

/* --- scores --------------------------------------------------------------------------------------------- */

static const json_t *walk(const json_t *at, const char *path)
{
    while (at && *path) {
        size_t length = strcspn(path, "/");
        char key[SU_COMPARE_PATH];
        snprintf(key, sizeof key, "%.*s", (int)length, path);
        at = json_object_get(at, key);
        path += length + (path[length] == '/');
    }
    return at;
}

/* "gap/a-b" has its interval at "gap_ci95/a-b", "retrieval/a_to_b/r10" at "retrieval/a_to_b/r10_ci95". */
static const json_t *interval_of(const json_t *eval, const char *path)
{
    char interval[SU_COMPARE_PATH + 8];
    size_t head = strncmp(path, "retrieval/", 10) ? strcspn(path, "/") : strlen(path);
    snprintf(interval, sizeof interval, "%.*s_ci95%s", (int)head, path, path + head);
    return walk(eval, interval);
}

su_estimate su_comparison_get(const su_comparison *c, int group, const char *score)
{
    su_estimate e = {(double)NAN, {(double)NAN, (double)NAN}};
    double *values = su_alloc((size_t)c->runs, sizeof *values);
    int64_t n = 0;
    bool complete = values != NULL;
    for (int r = 0; complete && r < c->runs; r++) {
        if (c->run[r].group != group) continue;
        const json_t *value = walk(c->run[r].eval, score);
        complete = json_is_number(value);
        values[n++] = json_number_value(value);
    }
    if (complete) su_student_interval(values, n, &e.mean, e.ci95);
    su_free(values);
    if (!complete || n > 1) return e;
    const json_t *interval = interval_of(c->run[c->group[group].first].eval, score);
    for (size_t end = 0; end < 2 && json_array_size(interval) == 2; end++)
        e.ci95[end] = json_number_value(json_array_get(interval, end));
    return e;
}

const char *su_comparison_stream(const su_comparison *c, int m)
{
    return json_string_value(json_array_get(c->streams, (size_t)m));
}

void su_comparison_pair(const su_comparison *c, const char *score, int a, int b, char path[SU_COMPARE_PATH])
{
    if (json_array_size(c->streams) == 2)
        snprintf(path, SU_COMPARE_PATH, "%s", score);
    else
        snprintf(path, SU_COMPARE_PATH, "%s/%s-%s", score, su_comparison_stream(c, a),
                 su_comparison_stream(c, b));
}

void su_comparison_direction(const su_comparison *c, int a, int b, const char *score,
                             char path[SU_COMPARE_PATH])
{
    snprintf(path, SU_COMPARE_PATH, "retrieval/%s_to_%s/%s", su_comparison_stream(c, a),
             su_comparison_stream(c, b), score);
}

int su_comparison_apart(const su_comparison *c, int group, const char *score)
{
    su_estimate base = su_comparison_get(c, 0, score), other = su_comparison_get(c, group, score);
    if (other.ci95[1] < base.ci95[0]) return -1;
    return other.ci95[0] > base.ci95[1];
}

/* --- the document --------------------------------------------------------------------------------------- */

static json_t *number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static bool is_score(const char *key)
{
    size_t length = strlen(key);
    return length < 5 || strcmp(key + length - 5, "_ci95") != 0;
}

/* The shape of an eval document's scores, each number replaced by its estimate. */
static json_t *estimates(const su_comparison *c, int group, const json_t *value, const char *path)
{
    if (!json_is_object(value)) {
        su_estimate e = su_comparison_get(c, group, path);
        json_t *ci95 = isfinite(e.ci95[0]) && isfinite(e.ci95[1]) ? json_pack("[ff]", e.ci95[0], e.ci95[1])
                                                                  : json_null();
        return json_pack("{s:o, s:o}", "mean", number(e.mean), "ci95", ci95);
    }
    json_t *all = json_object(), *member;
    const char *key;
    json_object_foreach((json_t *)(uintptr_t)value, key, member)
    {
        char inner[SU_COMPARE_PATH];
        if (!is_score(key)) continue;
        snprintf(inner, sizeof inner, "%s/%s", path, key);
        json_object_set_new(all, key, estimates(c, group, member, inner));
    }
    return all;
}

static json_t *group_json(const su_comparison *c, int g)
{
    static const char *const scores[] = {"gap",           "gap_floor", "cos_true_pairs", "rmg",
                                         "angular_value", "retrieval", "clustering"};
    const su_run_group *group = &c->group[g];
    json_t *seeds = json_array(), *runs = json_array();
    for (int r = 0; r < c->runs; r++) {
        if (c->run[r].group != g) continue;
        json_array_append_new(runs, json_string(c->run[r].path));
        if (c->run[r].run) json_array_append_new(seeds, json_integer(c->run[r].seed));
    }
    json_t *o =
        json_pack("{s:s, s:o, s:o, s:o, s:s}", "label", group->label, "objective",
                  *group->objective ? json_string(group->objective) : json_null(), "seeds", seeds, "runs",
                  runs, "interval", group->runs > 1 ? "t over seeds" : "bootstrap over samples");
    for (size_t i = 0; i < sizeof scores / sizeof *scores; i++) {
        const json_t *value = json_object_get(c->run[group->first].eval, scores[i]);
        if (value) json_object_set_new(o, scores[i], estimates(c, g, value, scores[i]));
    }
    return o;
}

json_t *su_comparison_json(const su_comparison *c)
{
    const json_t *eval = c->run[0].eval, *receipt = json_object_get(eval, "receipt");
    json_t *dataset = json_object_get(receipt, "dataset_sha256"), *split = json_object_get(receipt, "split");
    json_t *groups = json_array();
    for (int g = 0; g < c->groups; g++) json_array_append_new(groups, group_json(c, g));
    return json_pack("{s:s, s:O, s:O, s:O, s:O, s:O, s:o, s:s}", "schema", "suture.compare/1", "pool",
                     json_object_get(eval, "pool"), "streams", c->streams, "dataset_sha256",
                     dataset ? dataset : json_null(), "split", split ? split : json_null(), "mismatches",
                     c->mismatches, "groups", groups, "version", SUTURE_VERSION);
}
