#include "align/holdout.h"
#include "base/checksum.h"
#include "base/memory.h"
#include <stdio.h>

static bool held_out(const su_record *r, double share)
{
    char key[512];
    int n = snprintf(key, sizeof key, "holdout\n%s", *r->group ? r->group : r->id);
    size_t length = n < (int)sizeof key ? (size_t)n : sizeof key - 1;
    return (double)su_hash64(key, length) < share * 18446744073709551616.0;
}

su_status su_holdout_choose(const su_dataset *ds, const char *split, double share, int32_t batch,
                            su_holdout *h, su_error *err)
{
    *h = (su_holdout){0};
    int64_t count = 0;
    su_status st = su_dataset_split(ds, split ? split : "train", &h->train, &count, err);
    if (st) return st;
    h->held = su_alloc((size_t)(count > 0 ? count : 1), sizeof *h->held);
    if (!h->held) return su_fail(err, SU_ENOMEM, "no memory for the holdout");
    for (int64_t i = 0; i < count; i++) {
        if (share > 0.0 && held_out(su_dataset_record(ds, h->train[i]), share))
            h->held[h->held_pairs++] = h->train[i];
        else
            h->train[h->pairs++] = h->train[i];
    }
    if (h->pairs < batch)
        return su_fail(err, SU_EINVAL,
                       "%lld training pairs do not fill one batch of %d: use a smaller --batch",
                       (long long)h->pairs, batch);
    if (share > 0.0 && h->held_pairs < 2)
        return su_fail(
            err, SU_EINVAL,
            "a holdout of %g leaves %lld pairs to choose the best epoch on: raise it, or set it to 0", share,
            (long long)h->held_pairs);
    return SU_OK;
}

void su_holdout_free(su_holdout *h)
{
    su_free(h->train);
    su_free(h->held);
    *h = (su_holdout){0};
}
