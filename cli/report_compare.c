#include "cli/report_compare.h"
#include <math.h>
#include <string.h>

static const char *show(char *text, size_t size, su_estimate e, bool percent)
{
    double scale = percent ? 100 : 1;
    int digits = percent ? 1 : 3;
    if (!isfinite(e.mean))
        snprintf(text, size, "-");
    else if (isfinite(e.ci95[0]) && isfinite(e.ci95[1]))
        snprintf(text, size, "%.*f [%.*f, %.*f]", digits, scale * e.mean, digits, scale * e.ci95[0], digits,
                 scale * e.ci95[1]);
    else
        snprintf(text, size, "%.*f", digits, scale * e.mean);
    return text;
}

static int label_width(const su_comparison *c)
{
    size_t width = 16;
    for (int g = 0; g < c->groups; g++)
        if (strlen(c->group[g].label) > width) width = strlen(c->group[g].label);
    return (int)(width < 60 ? width : 60);
}

/* One row a group, one column a score. */
static void print_rows(FILE *to, const su_comparison *c, const char *title, const char *const *heads,
                       char (*paths)[SU_COMPARE_PATH], int columns, bool percent)
{
    int width = label_width(c);
    fprintf(to, "%-*.*s", width, width, title);
    for (int i = 0; i < columns; i++) fprintf(to, "  %-23s", heads[i]);
    fprintf(to, "  %5s\n", "seeds");
    for (int g = 0; g < c->groups; g++) {
        char text[64];
        fprintf(to, "%-*.*s", width, width, c->group[g].label);
        for (int i = 0; i < columns; i++)
            fprintf(to, "  %-23s", show(text, sizeof text, su_comparison_get(c, g, paths[i]), percent));
        fprintf(to, "  %5d\n", c->group[g].runs);
    }
    fprintf(to, "\n");
}

static void print_direction(FILE *to, const su_comparison *c, int a, int b)
{
    static const char *const heads[] = {"R@1 %", "R@5 %", "R@10 %"}, *const scores[] = {"r1", "r5", "r10"};
    char paths[3][SU_COMPARE_PATH], title[128];
    for (int i = 0; i < 3; i++) su_comparison_direction(c, a, b, scores[i], paths[i]);
    snprintf(title, sizeof title, "%s to %s", su_comparison_stream(c, a), su_comparison_stream(c, b));
    print_rows(to, c, title, heads, paths, 3, true);
}

static void print_pair(FILE *to, const su_comparison *c, int a, int b)
{
    static const char *const heads[] = {"gap", "floor of the gap", "cosine of true pairs", "RMG"};
    static const char *const scores[] = {"gap", "gap_floor", "cos_true_pairs", "rmg"};
    char paths[4][SU_COMPARE_PATH], title[128];
    for (int i = 0; i < 4; i++) su_comparison_pair(c, scores[i], a, b, paths[i]);
    snprintf(title, sizeof title, "%s-%s", su_comparison_stream(c, a), su_comparison_stream(c, b));
    print_rows(to, c, title, heads, paths, 4, false);
    print_direction(to, c, a, b);
    print_direction(to, c, b, a);
}

static void print_angles(FILE *to, const su_comparison *c)
{
    int streams = (int)json_array_size(c->streams);
    enum { COLUMNS = 8 };
    const char *heads[COLUMNS];
    char paths[COLUMNS][SU_COMPARE_PATH];
    int columns = streams < COLUMNS ? streams : COLUMNS;
    for (int m = 0; m < columns; m++) {
        heads[m] = su_comparison_stream(c, m);
        snprintf(paths[m], SU_COMPARE_PATH, "angular_value/%s", heads[m]);
    }
    print_rows(to, c, "angular value", heads, paths, columns, false);
}

bool su_report_verdict(const su_comparison *c, int group, const char *score, const char *what, bool percent,
                       char *text, size_t size)
{
    su_estimate base = su_comparison_get(c, 0, score), other = su_comparison_get(c, group, score);
    if (!isfinite(base.ci95[0]) || !isfinite(other.ci95[0])) return false;
    int apart = su_comparison_apart(c, group, score), digits = percent ? 1 : 3;
    double scale = percent ? 100 : 1;
    const char *unit = percent ? " %" : "";
    snprintf(text, size, "%s %s (%.*f%s against %.*f%s)", what,
             apart < 0   ? "is smaller beyond both intervals"
             : apart > 0 ? "is larger beyond both intervals"
                         : "cannot be told apart",
             digits, scale * other.mean, unit, digits, scale * base.mean, unit);
    return true;
}

static void print_verdicts(FILE *to, const su_comparison *c)
{
    char path[SU_COMPARE_PATH], text[256], what[128];
    for (int g = 1; g < c->groups; g++) {
        fprintf(to, "%s against %s:\n", c->group[g].label, c->group[0].label);
        for (int a = 0; a < (int)json_array_size(c->streams); a++)
            for (int b = 0; b < (int)json_array_size(c->streams); b++) {
                if (a == b) continue;
                su_comparison_pair(c, "gap", a, b, path);
                snprintf(what, sizeof what, "gap %s-%s", su_comparison_stream(c, a),
                         su_comparison_stream(c, b));
                if (a < b && su_report_verdict(c, g, path, what, false, text, sizeof text))
                    fprintf(to, "  %s\n", text);
            }
        for (int a = 0; a < (int)json_array_size(c->streams); a++)
            for (int b = 0; b < (int)json_array_size(c->streams); b++) {
                if (a == b) continue;
                su_comparison_direction(c, a, b, "r10", path);
                snprintf(what, sizeof what, "R@10 %s to %s", su_comparison_stream(c, a),
                         su_comparison_stream(c, b));
                if (su_report_verdict(c, g, path, what, true, text, sizeof text)) fprintf(to, "  %s\n", text);
            }
    }
}

void su_report_compare_print(FILE *to, const su_comparison *c)
{
    const json_t *eval = c->run[0].eval;
    const char *split = json_string_value(json_object_get(json_object_get(eval, "receipt"), "split"));
    int streams = (int)json_array_size(c->streams), single = 0, several = 0;
    for (int g = 0; g < c->groups; g++) {
        single += c->group[g].runs == 1;
        several += c->group[g].runs > 1;
    }
    fprintf(to, "pool of %lld samples%s%s; 95 %% intervals: %s%s%s\n\n",
            (long long)json_integer_value(json_object_get(eval, "pool")), split ? ", split " : "",
            split ? split : "", several ? "t over seeds" : "", several && single ? ", for one seed " : "",
            single ? "bootstrap over samples" : "");
    for (int a = 0; a < streams; a++)
        for (int b = a + 1; b < streams; b++) print_pair(to, c, a, b);
    print_angles(to, c);
    print_verdicts(to, c);
}
