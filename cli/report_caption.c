#include "cli/report_caption.h"
#include "base/file.h"
#include <string.h>

json_t *su_report_caption_json(const su_caption_figures *f, int64_t n)
{
    return json_pack("{s:s, s:I, s:[f,f,f,f], s:f, s:f, s:f, s:f, s:n, s:[]}", "schema",
                     "suture.eval.caption/1", "n", (json_int_t)n, "bleu", f->bleu[0], f->bleu[1], f->bleu[2],
                     f->bleu[3], "rouge_l", f->rouge_l, "cider", f->cider, "cider_d", f->cider,
                     "cider_original", f->cider_original, "meteor", "flaws");
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
        const su_caption_figures *f = &items[i];
        json_t *o = json_pack("{s:s, s:[f,f,f,f], s:f, s:f, s:f, s:f}", "id", match->id[i], "bleu",
                              f->bleu[0], f->bleu[1], f->bleu[2], f->bleu[3], "rouge_l", f->rouge_l, "cider",
                              f->cider, "cider_d", f->cider, "cider_original", f->cider_original);
        char *line = o ? json_dumps(o, JSON_COMPACT) : NULL;
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

static void print_row(FILE *to, const char *name, const json_t *value)
{
    if (json_is_number(value)) fprintf(to, "%-10s  %8.4f\n", name, json_number_value(value));
}

void su_report_caption_print(FILE *to, const json_t *document)
{
    const json_t *receipt = json_object_get(document, "receipt"), *bleu = json_object_get(document, "bleu");
    fprintf(to, "%lld captions, tokenizer %s\n\n",
            (long long)json_integer_value(json_object_get(document, "n")),
            json_string_value(json_object_get(receipt, "tokenizer")));
    for (size_t k = 0; k < json_array_size(bleu); k++) {
        char name[] = "BLEU-?";
        name[5] = (char)('1' + k);
        print_row(to, name, json_array_get(bleu, k));
    }
    print_row(to, "METEOR", json_object_get(document, "meteor"));
    print_row(to, "ROUGE-L", json_object_get(document, "rouge_l"));
    print_row(to, "CIDEr", json_object_get(document, "cider"));
}
