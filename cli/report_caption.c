#include "cli/report_caption.h"
#include "base/file.h"
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* The figures that are one number, by name; cider_d is cider once more. */
static const struct {
    const char *key, *title;
    size_t offset;
} single[] = {
    {"meteor", "METEOR", offsetof(su_caption_figures, meteor)},
    {"rouge_l", "ROUGE-L", offsetof(su_caption_figures, rouge_l)},
    {"cider", "CIDEr", offsetof(su_caption_figures, cider)},
    {"cider_d", NULL, offsetof(su_caption_figures, cider)},
    {"cider_original", NULL, offsetof(su_caption_figures, cider_original)},
};
enum { SINGLE = sizeof single / sizeof *single };

static double figure(const su_caption_figures *f, int k)
{
    return *(const double *)((const char *)f + single[k].offset);
}

static json_t *number_json(double x)
{
    return isnan(x) ? json_null() : json_real(x);
}

static bool add_figures(json_t *o, const su_caption_figures *f)
{
    bool ok = !json_object_set_new(o, "bleu",
                                   json_pack("[f,f,f,f]", f->bleu[0], f->bleu[1], f->bleu[2], f->bleu[3]));
    for (int k = 0; ok && k < SINGLE; k++)
        ok = !json_object_set_new(o, single[k].key, number_json(figure(f, k)));
    return ok;
}

static json_t *figures_json(const su_caption_figures *f)
{
    json_t *o = json_object();
    if (o && add_figures(o, f)) return o;
    json_decref(o);
    return NULL;
}

json_t *su_report_caption_json(const su_caption_figures *f, int64_t n)
{
    json_t *o = json_pack("{s:s, s:I, s:[]}", "schema", "suture.eval.caption/1", "n", (json_int_t)n, "flaws");
    if (o && add_figures(o, f)) return o;
    json_decref(o);
    return NULL;
}

static json_t *interval_json(double low, double high)
{
    return isnan(low) ? json_null() : json_pack("[f,f]", low, high);
}

bool su_report_caption_intervals(json_t *document, const su_caption_interval *i)
{
    json_t *bleu = json_array();
    bool ok = !json_object_set_new(document, "bleu_ci95", bleu);
    for (int k = 0; ok && k < SU_NGRAMS; k++)
        ok = !json_array_append_new(bleu, interval_json(i->low.bleu[k], i->high.bleu[k]));
    for (int k = 0; ok && k < SINGLE; k++) {
        char key[64];
        snprintf(key, sizeof key, "%s_ci95", single[k].key);
        ok = !json_object_set_new(document, key, interval_json(figure(&i->low, k), figure(&i->high, k)));
    }
    return ok;
}

bool su_report_caption_against(json_t *document, const su_caption_figures *other,
                               const su_caption_interval *interval, const su_caption_comparison *comparison)
{
    json_t *against = figures_json(other);
    if (!against || json_object_set_new(document, "against", against)) return false;
    if (!interval) return true;
    json_t *range = json_object();
    return su_report_caption_intervals(against, interval) &&
           !json_object_set_new(against, "difference", figures_json(&comparison->difference)) &&
           !json_object_set_new(against, "difference_ci95", range) &&
           su_report_caption_intervals(range, &comparison->interval) &&
           !json_object_set_new(against, "p", figures_json(&comparison->p));
}

bool su_report_caption_flaws(json_t *document, const char *role, const su_captions *c)
{
    json_t *flaws = json_object_get(document, "flaws");
    for (int64_t i = 0; i < c->flaw_count; i++) {
        const su_caption_flaw *f = &c->flaws[i];
        json_t *place = f->place ? json_integer(f->place) : json_null();
        json_t *o =
            json_pack("{s:s, s:o, s:s?, s:s, s:b}", "file", role, strcmp(c->form, "COCO") ? "line" : "entry",
                      place, "id", f->id, "reason", f->reason, "scored", f->used);
        if (!o || json_array_append_new(flaws, o)) return false;
    }
    return true;
}

su_status su_report_caption_items(const char *path, const su_caption_match *match,
                                  const su_caption_figures *items, su_error *err)
{
    su_writer *file;
    su_status status = su_writer_open(path, &file, err);
    if (status) return status;
    for (int64_t i = 0; !status && i < match->pairs; i++) {
        json_t *o = figures_json(&items[i]);
        if (o) json_object_set_new(o, "id", json_string(match->id[i]));
        char *line = o ? json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
        json_decref(o);
        if (!line) status = su_fail(err, SU_ENOMEM, "%s: no memory for a line", path);
        if (!status) status = su_writer_printf(file, err, "%s\n", line);
        free(line);
    }
    if (!status) return su_writer_commit(file, err);
    su_writer_abort(file);
    return status;
}

/* ---- the table ----------------------------------------------------------------------------------------- */

/* A member that may be an array over n-gram orders; k < 0: it is not. */
static const json_t *member(const json_t *o, const char *key, int k)
{
    const json_t *value = json_object_get(o, key);
    return k < 0 ? value : json_array_get(value, (size_t)k);
}

static void add_cell(char *line, size_t size, const json_t *o, const json_t *ranges, const char *key, int k)
{
    char name[64], cell[64];
    snprintf(name, sizeof name, "%s_ci95", key);
    const json_t *range = member(ranges, name, k);
    int n = snprintf(cell, sizeof cell, "%.4f", json_number_value(member(o, key, k)));
    if (range)
        snprintf(cell + n, sizeof cell - (size_t)n, " [%.4f, %.4f]",
                 json_number_value(json_array_get(range, 0)), json_number_value(json_array_get(range, 1)));
    size_t used = strlen(line);
    snprintf(line + used, size - used, "  %-26s", cell);
}

static void print_row(FILE *to, const json_t *document, const char *title, const char *key, int k)
{
    const json_t *against = json_object_get(document, "against"),
                 *difference = json_object_get(against, "difference");
    char line[256];
    if (!json_is_number(member(document, key, k))) return;
    snprintf(line, sizeof line, "%-8s", title);
    add_cell(line, sizeof line, document, document, key, k);
    if (against) add_cell(line, sizeof line, against, against, key, k);
    if (difference) {
        add_cell(line, sizeof line, difference, json_object_get(against, "difference_ci95"), key, k);
        size_t used = strlen(line);
        snprintf(line + used, sizeof line - used, "  %.4f",
                 json_number_value(member(json_object_get(against, "p"), key, k)));
    }
    size_t end = strlen(line);
    while (end && line[end - 1] == ' ') end--;
    fprintf(to, "%.*s\n", (int)end, line);
}

/* Which of METEOR's stages ran, and which did not. */
static void print_stages(FILE *to, const json_t *ran)
{
    static const char *const all[] = {"exact", "stem", "synonym", "paraphrase"};
    const size_t count = json_array_size(ran), stages = sizeof all / sizeof *all;
    if (!count) return;
    fprintf(to, "\nMETEOR 1.5, stages:");
    for (size_t k = 0; k < count; k++)
        fprintf(to, "%s %s", k ? "," : "", json_string_value(json_array_get(ran, k)));
    for (size_t k = 0, left = stages - count; k < stages && left; k++) {
        bool found = false;
        for (size_t i = 0; i < count; i++)
            found |= !strcmp(all[k], json_string_value(json_array_get(ran, i)));
        if (!found) fprintf(to, "%s %s", left == stages - count ? "; not run:" : ",", all[k]);
        left -= !found;
    }
    fprintf(to, "\n");
}

void su_report_caption_print(FILE *to, const json_t *document)
{
    const json_t *receipt = json_object_get(document, "receipt"),
                 *against = json_object_get(document, "against"),
                 *times = json_object_get(json_object_get(receipt, "interval"), "draws");
    fprintf(to, "%lld captions, tokenizer %s", (long long)json_integer_value(json_object_get(document, "n")),
            json_string_value(json_object_get(receipt, "tokenizer")));
    if (times)
        fprintf(to, "; 95 %% intervals from %lld bootstrap draws", (long long)json_integer_value(times));
    fprintf(to, "\n\n");
    if (against)
        fprintf(to, times ? "%-8s  %-26s  %-26s  %-26s  %s\n" : "%-8s  %-26s  %s\n", "", "hypotheses",
                "against", "difference", "p");
    for (int k = 0; k < SU_NGRAMS; k++) {
        char name[] = "BLEU-?";
        name[5] = (char)('1' + k);
        print_row(to, document, name, "bleu", k);
    }
    for (int k = 0; k < SINGLE; k++)
        if (single[k].title) print_row(to, document, single[k].title, single[k].key, -1);
    print_stages(to, json_object_get(document, "meteor_stages"));
    if (against && times)
        fprintf(to,
                "\np: approximate randomisation, two-sided, not corrected for looking at several figures\n");
}
