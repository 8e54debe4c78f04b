/* The page is written from top to bottom into one buffer: verdicts, the table, intervals as charts, training
 * curves, receipts. Charts are inline SVG in the page's own colours, so they print, and follow a dark screen. */
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "cli/report_compare.h"
#include "cli/run_curves.h"
#include <math.h>
#include <stdarg.h>
#include <string.h>

typedef struct {
    su_buffer text;
    su_status status; /* of the first append that failed; later ones do nothing */
    su_error *err;
} page;

static void put(page *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put(page *p, const char *format, ...)
{
    char *text = NULL;
    va_list arguments;
    if (p->status) return;
    va_start(arguments, format);
    int length = vasprintf(&text, format, arguments);
    va_end(arguments);
    p->status = length < 0 ? su_fail(p->err, SU_ENOMEM, "no memory for the page")
                           : su_buffer_add(&p->text, text, (size_t)length, p->err);
    if (length >= 0) free(text);
}

/* Text from files and command lines, made harmless. */
static void put_text(page *p, const char *text)
{
    for (; text && *text; text++) {
        switch (*text) {
        case '<':
            put(p, "&lt;");
            break;
        case '>':
            put(p, "&gt;");
            break;
        case '&':
            put(p, "&amp;");
            break;
        case '"':
            put(p, "&quot;");
            break;
        default:
            put(p, "%c", *text);
        }
    }
}

/* Okabe and Ito's colours: told apart by most colour-blind eyes. */
static const char *colour(int group)
{
    static const char *const colours[] = {"#d55e00", "#0072b2", "#009e73", "#cc79a7",
                                          "#e69f00", "#56b4e9", "#8c6d5a"};
    return colours[group % (int)(sizeof colours / sizeof *colours)];
}

/* 1, 2 or 5 times a power of ten, so that about five ticks fit. */
static double tick_step(double range)
{
    double power = pow(10, floor(log10(range / 5)));
    double times = range / 5 / power;
    return power * (times < 1.5 ? 1 : times < 3.5 ? 2 : times < 7.5 ? 5 : 10);
}

static int tick_digits(double step)
{
    return step >= 1 ? 0 : (int)ceil(-log10(step) - 1e-9);
}

/* --- intervals ------------------------------------------------------------------------------------------ */

/* A dot and its whiskers for each group; the axis begins at 0. floor_score: drawn as a grey mark, or NULL. */
static void put_intervals(page *p, const su_comparison *c, const char *title, const char *score,
                          const char *floor_score, bool percent)
{
    enum { WIDTH = 520, LEFT = 195, RIGHT = 20, ROW = 30, TOP = 8 };
    double scale = percent ? 100 : 1, low = 0, high = 0;
    for (int g = 0; g < c->groups; g++) {
        su_estimate e = su_comparison_get(c, g, score);
        double ends[] = {e.mean, e.ci95[0], e.ci95[1]};
        for (int i = 0; i < 3; i++) {
            if (!isfinite(ends[i])) continue;
            low = fmin(low, scale * ends[i]);
            high = fmax(high, scale * ends[i]);
        }
    }
    if (high <= low) high = low + 1;
    double step = tick_step(high - low), first = floor(low / step) * step, last = ceil(high / step) * step;
    double unit = (WIDTH - LEFT - RIGHT) / (last - first);
    int height = TOP + c->groups * ROW + 24;
    put(p, "<figure><figcaption>");
    put_text(p, title);
    put(p, "</figcaption><svg viewBox=\"0 0 %d %d\" role=\"img\">\n", WIDTH, height);
    for (double t = first; t <= last + step / 2; t += step) {
        double x = LEFT + unit * (t - first);
        put(p, "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\"/>", x, x, TOP, height - 22);
        put(p, "<text class=\"tick\" x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.*f%s</text>\n", x,
            height - 6, tick_digits(step), fabs(t) < step / 2 ? 0 : t, percent ? " %" : "");
    }
    for (int g = 0; g < c->groups; g++) {
        su_estimate e = su_comparison_get(c, g, score);
        double y = TOP + (g + 0.5) * ROW;
        char label[28];
        snprintf(label, sizeof label, "%.24s%s", c->group[g].label,
                 strlen(c->group[g].label) > 24 ? ".." : "");
        put(p, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">", LEFT - 10, y + 4);
        put_text(p, label);
        put(p, "</text>");
        if (!isfinite(e.mean)) continue;
        double at = LEFT + unit * (scale * e.mean - first);
        if (isfinite(e.ci95[0]) && isfinite(e.ci95[1])) {
            double a = LEFT + unit * (scale * e.ci95[0] - first),
                   b = LEFT + unit * (scale * e.ci95[1] - first);
            put(p, "<path d=\"M%.1f %.1fH%.1fM%.1f %.1fv10M%.1f %.1fv10\" stroke=\"%s\" stroke-width=\"2\"/>",
                a, y, b, a, y - 5, b, y - 5, colour(g));
        }
        su_estimate mark = {(double)NAN, {(double)NAN, (double)NAN}};
        if (floor_score) mark = su_comparison_get(c, g, floor_score);
        if (isfinite(mark.mean)) {
            double x = LEFT + unit * (scale * mark.mean - first);
            put(p, "<line class=\"floor\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>", x, x, y - 9,
                y + 9);
        }
        put(p, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"5\" fill=\"%s\"/>\n", at, y, colour(g));
    }
    put(p, "</svg></figure>\n");
}

static void put_charts(page *p, const su_comparison *c)
{
    int streams = (int)json_array_size(c->streams);
    char score[SU_COMPARE_PATH], floor_score[SU_COMPARE_PATH], title[256];
    put(p, "<h2>Gap and retrieval</h2>\n<p class=\"note\">The grey mark beside a gap is what two streams "
           "with one mean "
           "show in a pool of this size by sampling alone.</p>\n<div class=\"charts\">\n");
    for (int a = 0; a < streams; a++)
        for (int b = a + 1; b < streams; b++) {
            su_comparison_pair(c, "gap", a, b, score);
            snprintf(title, sizeof title, "Gap %s-%s (smaller is closer)", su_comparison_stream(c, a),
                     su_comparison_stream(c, b));
            su_comparison_pair(c, "gap_floor", a, b, floor_score);
            put_intervals(p, c, title, score, floor_score, false);
            su_comparison_pair(c, "cos_true_pairs", a, b, score);
            snprintf(title, sizeof title, "Cosine of true pairs %s-%s", su_comparison_stream(c, a),
                     su_comparison_stream(c, b));
            put_intervals(p, c, title, score, NULL, false);
        }
    for (int a = 0; a < streams; a++)
        for (int b = 0; b < streams; b++) {
            if (a == b) continue;
            su_comparison_direction(c, a, b, "r10", score);
            snprintf(title, sizeof title, "R@10 %s to %s", su_comparison_stream(c, a),
                     su_comparison_stream(c, b));
            put_intervals(p, c, title, score, NULL, true);
        }
    put(p, "</div>\n");
}

/* --- training curves ------------------------------------------------------------------------------------ */

static bool bounds(const su_comparison *c, const su_run_curves *curves, int kind, double box[4])
{
    box[0] = box[2] = INFINITY; /* x low, x high, y low, y high */
    box[1] = box[3] = -INFINITY;
    for (int r = 0; r < c->runs; r++) {
        const su_curve *line = &curves[r].curve[kind];
        for (int64_t i = 0; i < line->points; i++) {
            box[0] = fmin(box[0], line->x[i]);
            box[1] = fmax(box[1], line->x[i]);
            box[2] = fmin(box[2], line->y[i]);
            box[3] = fmax(box[3], line->y[i]);
        }
    }
    if (!isfinite(box[3] - box[2])) return false; /* no points */
    if (box[3] <= box[2]) {                       /* a flat line lies in the middle */
        double around = box[2] != 0 ? 0.1 * fabs(box[2]) : 1;
        box[2] -= around;
        box[3] += around;
    }
    if (box[1] <= box[0]) box[1] = box[0] + 1;
    return true;
}

static void put_curve_chart(page *p, const su_comparison *c, const su_run_curves *curves, int kind,
                            const char *title)
{
    enum { WIDTH = 520, HEIGHT = 240, LEFT = 56, RIGHT = 12, TOP = 10, BOTTOM = 34 };
    double box[4];
    if (!bounds(c, curves, kind, box)) return;
    double step = tick_step(box[3] - box[2]), low = floor(box[2] / step) * step,
           high = ceil(box[3] / step) * step;
    double ux = (WIDTH - LEFT - RIGHT) / (box[1] - box[0]), uy = (HEIGHT - TOP - BOTTOM) / (high - low);
    put(p, "<figure><figcaption>%s</figcaption><svg viewBox=\"0 0 %d %d\" role=\"img\">\n", title, WIDTH,
        HEIGHT);
    for (double t = low; t <= high + step / 2; t += step) {
        double y = HEIGHT - BOTTOM - uy * (t - low);
        put(p, "<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>", LEFT, WIDTH - RIGHT, y,
            y);
        put(p, "<text class=\"tick\" x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.*f</text>\n", LEFT - 6, y + 4,
            tick_digits(step), fabs(t) < step / 2 ? 0 : t);
    }
    double steps = tick_step(box[1] - box[0]);
    for (double t = ceil(box[0] / steps) * steps; t <= box[1]; t += steps)
        put(p, "<text class=\"tick\" x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.0f</text>\n",
            LEFT + ux * (t - box[0]), HEIGHT - BOTTOM + 16, t);
    put(p, "<text class=\"tick\" x=\"%d\" y=\"%d\" text-anchor=\"end\">step</text>\n", WIDTH - RIGHT,
        HEIGHT - 3);
    for (int r = 0; r < c->runs; r++) {
        const su_curve *line = &curves[r].curve[kind];
        if (!line->points) continue;
        put(p,
            "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"1.6\" stroke-linejoin=\"round\" points=\"",
            colour(c->run[r].group));
        for (int64_t i = 0; i < line->points; i++)
            put(p, "%.1f,%.1f ", LEFT + ux * (line->x[i] - box[0]),
                HEIGHT - BOTTOM - uy * (line->y[i] - low));
        put(p, "\"/>\n");
    }
    put(p, "</svg></figure>\n");
}

static void put_legend(page *p, const su_comparison *c)
{
    put(p, "<p class=\"legend\">");
    for (int g = 0; g < c->groups; g++) {
        put(p, "<span><i style=\"background:%s\"></i>", colour(g));
        put_text(p, c->group[g].label);
        put(p, "</span> ");
    }
    put(p, "</p>\n");
}

static void put_curves(page *p, const su_comparison *c)
{
    static const char *const titles[SU_CURVES] = {
        [SU_CURVE_INFONCE] = "InfoNCE (training)",
        [SU_CURVE_ATP] = "L<sub>ATP</sub>: distance of true pairs (training)",
        [SU_CURVE_CU] = "L<sub>CU</sub>: uniformity of centroids (training)",
        [SU_CURVE_TAU] = "Temperature",
        [SU_CURVE_VAL_GAP] = "Gap on the holdout",
        [SU_CURVE_VAL_R10] = "R@10 on the holdout",
    };
    su_run_curves *curves = su_calloc((size_t)c->runs, sizeof *curves);
    bool any = false;
    if (!curves) {
        p->status = su_fail(p->err, SU_ENOMEM, "no memory for the curves");
        return;
    }
    for (int r = 0; r < c->runs; r++) {
        su_error err = {0};
        if (!c->run[r].run) continue;
        if (!su_run_curves_read(c->run[r].path, &curves[r], &err))
            any = true;
        else if (err.code != SU_ENOTFOUND)
            su_log(SU_LOG_WARN, "no training curves: %s", err.message);
    }
    if (any) {
        put(p, "<h2>Training</h2>\n");
        put_legend(p, c);
        put(p, "<div class=\"charts\">\n");
        for (int kind = 0; kind < SU_CURVES; kind++) put_curve_chart(p, c, curves, kind, titles[kind]);
        put(p, "</div>\n");
    }
    for (int r = 0; r < c->runs; r++) su_run_curves_free(&curves[r]);
    su_free(curves);
}

/* --- tables --------------------------------------------------------------------------------------------- */

static void put_estimate(page *p, su_estimate e, bool percent)
{
    double scale = percent ? 100 : 1;
    int digits = percent ? 1 : 3;
    if (!isfinite(e.mean)) {
        put(p, "<td>-</td>");
        return;
    }
    put(p, "<td>%.*f", digits, scale * e.mean);
    if (isfinite(e.ci95[0]) && isfinite(e.ci95[1]))
        put(p, "<small>%.*f .. %.*f</small>", digits, scale * e.ci95[0], digits, scale * e.ci95[1]);
    put(p, "</td>");
}

static void put_pair_table(page *p, const su_comparison *c, int a, int b)
{
    static const char *const space[] = {"gap", "cos_true_pairs", "rmg"}, *const recalls[] = {"r1", "r5",
                                                                                             "r10"};
    const char *x = su_comparison_stream(c, a), *y = su_comparison_stream(c, b);
    char score[SU_COMPARE_PATH];
    put(p, "<div class=\"wide\"><table><thead><tr><th rowspan=\"2\">");
    put_text(p, x);
    put(p, "-");
    put_text(p, y);
    put(p, "</th><th rowspan=\"2\">Gap</th><th rowspan=\"2\">CosTP</th><th rowspan=\"2\">RMG</th><th "
           "colspan=\"2\">Angular "
           "value</th>");
    for (int direction = 0; direction < 2; direction++) {
        put(p, "<th colspan=\"3\">");
        put_text(p, direction ? y : x);
        put(p, " to ");
        put_text(p, direction ? x : y);
        put(p, ", %%</th>");
    }
    put(p, "<th rowspan=\"2\">Seeds</th></tr>\n<tr><th>");
    put_text(p, x);
    put(p, "</th><th>");
    put_text(p, y);
    put(p, "</th><th>R@1</th><th>R@5</th><th>R@10</th><th>R@1</th><th>R@5</th><th>R@10</th></tr></"
           "thead>\n<tbody>\n");
    for (int g = 0; g < c->groups; g++) {
        put(p, "<tr><th><i style=\"background:%s\"></i>", colour(g));
        put_text(p, c->group[g].label);
        put(p, "</th>");
        for (int i = 0; i < 3; i++) {
            su_comparison_pair(c, space[i], a, b, score);
            put_estimate(p, su_comparison_get(c, g, score), false);
        }
        for (int m = 0; m < 2; m++) {
            snprintf(score, sizeof score, "angular_value/%s", m ? y : x);
            put_estimate(p, su_comparison_get(c, g, score), false);
        }
        for (int i = 0; i < 6; i++) {
            su_comparison_direction(c, i < 3 ? a : b, i < 3 ? b : a, recalls[i % 3], score);
            put_estimate(p, su_comparison_get(c, g, score), true);
        }
        put(p, "<td>%d</td></tr>\n", c->group[g].runs);
    }
    put(p, "</tbody></table></div>\n");
}

static void put_verdicts(page *p, const su_comparison *c)
{
    int streams = (int)json_array_size(c->streams);
    char score[SU_COMPARE_PATH], what[256], text[512];
    put(p, "<ul>\n");
    for (int g = 1; g < c->groups; g++)
        for (int a = 0; a < streams; a++)
            for (int b = 0; b < streams; b++) {
                if (a == b) continue;
                for (int gap = a < b; gap >= 0; gap--) {
                    if (gap)
                        su_comparison_pair(c, "gap", a, b, score);
                    else
                        su_comparison_direction(c, a, b, "r10", score);
                    snprintf(what, sizeof what, gap ? "gap %s-%s" : "R@10 %s to %s",
                             su_comparison_stream(c, a), su_comparison_stream(c, b));
                    if (!su_report_verdict(c, g, score, what, !gap, text, sizeof text)) continue;
                    put(p, "<li><b>");
                    put_text(p, c->group[g].label);
                    put(p, "</b> against ");
                    put_text(p, c->group[0].label);
                    put(p, ": ");
                    put_text(p, text);
                    put(p, "</li>\n");
                }
            }
    put(p, "</ul>\n");
}

static void put_member(page *p, const json_t *o, const char *key)
{
    const json_t *value = json_object_get(o, key);
    char short_text[16];
    if (json_is_string(value) && strstr(key, "sha256")) {
        snprintf(short_text, sizeof short_text, "%.12s", json_string_value(value));
        put(p, "<td><code title=\"");
        put_text(p, json_string_value(value));
        put(p, "\">");
        put_text(p, short_text);
        put(p, "</code></td>");
        return;
    }
    put(p, "<td>");
    if (json_is_string(value))
        put_text(p, json_string_value(value));
    else if (json_is_integer(value))
        put(p, "%lld", (long long)json_integer_value(value));
    else if (json_is_real(value))
        put(p, "%.0f", json_real_value(value));
    else
        put(p, "-");
    put(p, "</td>");
}

static void put_receipts(page *p, const su_comparison *c)
{
    static const char *const run_keys[] = {"seed", "epochs", "pairs", "seconds", "device"};
    static const char *const receipt_keys[] = {"dataset_sha256", "split", "model_sha256", "version"};
    put(p, "<h2>Receipts</h2>\n<div "
           "class=\"wide\"><table><thead><tr><th>Run</th><th>Seed</th><th>Epochs</th><th>Pairs</th>"
           "<th>Seconds</th><th>Device</th><th>Dataset</th><th>Split</th><th>Model</th><th>Version</th></"
           "tr></thead>\n<tbody>\n");
    for (int r = 0; r < c->runs; r++) {
        const json_t *receipt = json_object_get(c->run[r].eval, "receipt");
        put(p, "<tr><th><i style=\"background:%s\"></i>", colour(c->run[r].group));
        put_text(p, c->run[r].path);
        put(p, "</th>");
        for (size_t i = 0; i < sizeof run_keys / sizeof *run_keys; i++)
            put_member(p, c->run[r].run, run_keys[i]);
        for (size_t i = 0; i < sizeof receipt_keys / sizeof *receipt_keys; i++)
            put_member(p, receipt, receipt_keys[i]);
        put(p, "</tr>\n");
    }
    put(p, "</tbody></table></div>\n<p class=\"note\">Duplicates: ");
    put_text(p, json_string_value(json_object_get(json_object_get(c->run[0].eval, "receipt"), "duplicates")));
    put(p, ". Intervals: 95 %%; Student's t over seeds where a row has several, else the bootstrap over "
           "samples of its one "
           "run.</p>\n");
}

static const char head[] =
    "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Suture: comparison of "
    "runs</title>\n"
    "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<style>\n"
    ":root{color-scheme:light dark;--line:#8884}\n"
    "body{font:15px/1.5 system-ui,sans-serif;max-width:1240px;margin:2rem auto;padding:0 1rem}\n"
    "h1{font-size:1.5rem;margin:0}h2{font-size:1.15rem;margin:2.2rem 0 .6rem}\n"
    "table{border-collapse:collapse;font-size:.93em;font-variant-numeric:tabular-nums;width:100%}\n"
    "th,td{padding:.35rem .4rem;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}\n"
    "thead th{font-weight:600;text-align:center}tbody th,thead tr:first-child "
    "th:first-child{text-align:left}\n"
    "small{display:block;opacity:.7;font-size:.78em}.wide{overflow-x:auto}\n"
    ".charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(380px,1fr));gap:1.2rem}\n"
    "figure{margin:0}figcaption{font-weight:600;margin-bottom:.2rem}svg{width:100%;height:auto;display:block}"
    "\n"
    "svg text{font-size:13px;fill:currentColor}svg "
    ".tick{font-size:11px;opacity:.75}.grid{stroke:var(--line)}.floor{stroke:#888;stroke-width:2}\n"
    "i{display:inline-block;width:.75em;height:.75em;border-radius:50%;margin-right:.45em}.legend "
    "span{margin-right:1.2em}\n"
    ".note{opacity:.8;font-size:.9em}ul{padding-left:1.2rem}\n"
    "</style></head><body>\n";

su_status su_report_compare_html(const su_comparison *c, const char *path, su_error *err)
{
    enum { PAGE_MAX = 64 << 20 };
    page p = {.err = err};
    const json_t *eval = c->run[0].eval;
    const char *split = json_string_value(json_object_get(json_object_get(eval, "receipt"), "split"));
    int streams = (int)json_array_size(c->streams);
    su_buffer_init(&p.text, PAGE_MAX);
    put(&p, "%s<h1>Comparison of %d run%s</h1>\n<p class=\"note\">pool of %lld samples", head, c->runs,
        c->runs == 1 ? "" : "s", (long long)json_integer_value(json_object_get(eval, "pool")));
    if (split) put(&p, ", split ");
    put_text(&p, split);
    put(&p, "; Suture %s</p>\n", SUTURE_VERSION);
    put_verdicts(&p, c);
    for (size_t i = 0; i < json_array_size(c->mismatches); i++) {
        put(&p, "<p><b>Not of one pool:</b> ");
        put_text(&p, json_string_value(json_array_get(c->mismatches, i)));
        put(&p, "</p>\n");
    }
    for (int a = 0; a < streams; a++)
        for (int b = a + 1; b < streams; b++) put_pair_table(&p, c, a, b);
    put_charts(&p, c);
    put_curves(&p, c);
    put_receipts(&p, c);
    put(&p, "</body></html>\n");
    if (!p.status) p.status = su_file_write(path, p.text.data, p.text.length, err);
    su_buffer_free(&p.text);
    return p.status;
}
