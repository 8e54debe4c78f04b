/* suture compare: the paper's table over runs, with intervals, as text, JSON and a page. */
#include "base/log.h"
#include "cli/commands.h"
#include "cli/compare_runs.h"
#include "cli/options.h"
#include "cli/report_align.h"
#include "cli/report_compare.h"
#include <string.h>

static const char *html_path, *eval_name = "eval.json";
static bool force;

static const su_option options_table[] = {
    SU_STRING("html", &html_path, "FILE",
              "write a page with charts and training curves; it needs nothing but itself"),
    SU_STRING("eval", &eval_name, "NAME", "which scores of each run to compare"),
    SU_FLAG("force", &force, "compare even when pools, datasets or splits differ"),
    {0},
};

static const su_command command = {
    .name = "compare",
    .synopsis = "RUN... [options]",
    .summary =
        "The table over several runs: gap, true pairs, angles and recalls. Runs that differ in their seed\n"
        "only are one row: mean and 95 % t-interval; a single run shows its bootstrap interval. The first\n"
        "row is what the others are held against. A RUN may also be a document of suture eval.",
    .examples = "  suture compare runs/clip-lt runs/clip-ft runs/closegap\n"
                "  suture compare runs/* --html report.html\n"
                "  suture compare runs/* --eval eval-test.json --json -\n",
    .options = options_table,
    .min_positional = 1,
    .max_positional = -1,
};

/* Prints why the scores are not comparable; true when that ends the command. */
static bool refuses(const su_comparison *c)
{
    size_t i;
    json_t *sentence;
    json_array_foreach(c->mismatches, i, sentence)
    {
        fprintf(stderr, "suture compare: %s\n", json_string_value(sentence));
    }
    if (!json_array_size(c->mismatches) || force) return false;
    fprintf(stderr, "suture compare: these scores are not of one pool; evaluate all runs on the same data, "
                    "or add --force\n");
    return true;
}

static su_status report(const su_comparison *c, su_error *err)
{
    su_status status = SU_OK;
    const char *path = su_option_json();
    if (path) {
        json_t *document = su_comparison_json(c);
        status = su_report_write(document, path, err);
        json_decref(document);
    }
    if (!status && html_path) status = su_report_compare_html(c, html_path, err);
    if (!status && !(path && !strcmp(path, "-"))) su_report_compare_print(stdout, c);
    return status;
}

int su_cmd_compare(int argc, char **argv)
{
    su_option_list runs = {0};
    int code = su_options_parse(&command, argc, argv, &runs);
    if (code >= 0) return code;
    su_log_to_stderr(su_option_quiet());
    su_comparison *c = NULL;
    su_error err = {0};
    su_status status = su_comparison_new(runs.items, runs.count, eval_name, &c, &err);
    code = SU_EXIT_OK;
    if (!status && refuses(c))
        code = SU_EXIT_FOUND;
    else if (!status)
        status = report(c, &err);
    su_comparison_free(c);
    su_options_free(&runs, &command);
    return status ? su_cli_fail(&command, &err) : code;
}
