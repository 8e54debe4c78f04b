#include "align/evaluate.h"

su_status su_evaluate_split(su_model *m, const su_dataset *ds, const char *split,
                            const su_alignment_options *o, su_alignment_score *score, su_error *err)
{
    int64_t *items = NULL, count = 0;
    float *z[SU_MAX_STREAMS] = {NULL};
    const char **texts = NULL, **groups = NULL;
    su_status st =
        m->config.streams >= 2
            ? su_dataset_split(ds, split, &items, &count, err)
            : su_fail(err, SU_EINVAL, "the model has one stream: alignment is measured between two or more");
    if (!st) {
        texts = su_alloc((size_t)count + 1, sizeof *texts);
        groups = su_alloc((size_t)count + 1, sizeof *groups);
        if (!texts || !groups)
            st = su_fail(err, SU_ENOMEM, "no memory to score %lld samples", (long long)count);
    }
    if (!st) st = su_embed_items(m, ds, items, count, NULL, "embed", z, err);
    if (!st) {
        su_alignment_options options = *o;
        for (int64_t i = 0; i < count; i++) {
            const su_record *r = su_dataset_record(ds, items[i]);
            texts[i] = r->text;
            groups[i] = *r->group ? r->group : r->id;
        }
        options.texts = texts;
        options.groups = groups;
        st = su_alignment_score_compute((const float *const *)z, m->config.streams, count, su_model_width(m),
                                        &options, score, err);
    }
    for (int s = 0; s < m->config.streams; s++) su_free(z[s]);
    su_free(texts);
    su_free(groups);
    su_free(items);
    return st;
}
