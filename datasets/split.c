/* Splits by a hash of the group; see split.h. */
#include "datasets/split.h"
#include "base/checksum.h"
#include "base/memory.h"
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

void su_split_defaults(su_split_rule *rule)
{
    *rule = (su_split_rule){0, 0.8, 0.1, 0.1};
}

su_status su_split_parse_fractions(const char *text, su_split_rule *rule, su_error *err)
{
    double f[3];
    int used = 0;
    bool good = sscanf(text, "%lf,%lf,%lf%n", &f[0], &f[1], &f[2], &used) == 3 && text[used] == '\0';
    for (int i = 0; good && i < 3; i++) good = f[i] >= 0 && f[i] <= 1;
    if (!good || fabs(f[0] + f[1] + f[2] - 1) > 1e-9)
        return su_fail(err, SU_EINVAL,
                       "split fractions '%s': give three numbers for train, val and test that add up to 1, "
                       "such as 0.8,0.1,0.1",
                       text);
    rule->train = f[0];
    rule->val = f[1];
    rule->test = f[2];
    return SU_OK;
}

su_status su_split_of_group(const su_split_rule *rule, const char *group, const char **split, su_error *err)
{
    char small[256], *key = small;
    size_t size = strlen(group) + 24;
    if (size > sizeof small && !(key = su_alloc(size, 1)))
        return su_fail(err, SU_ENOMEM, "no memory for the name of a group");
    int length = snprintf(key, size, "%" PRIu64 ":%s", rule->seed, group);
    /* The upper 53 bits: a double holds them exactly, so u < 1 always. */
    double u = (double)(su_hash64(key, (size_t)length) >> 11) * 0x1p-53;
    if (key != small) su_free(key);
    if (u < rule->train)
        *split = "train";
    else if (u < rule->train + rule->val || rule->test <= 0)
        *split =
            rule->val > 0 ? "val" : "train"; /* rounding of the sum must not open a split of fraction 0 */
    else
        *split = "test";
    return SU_OK;
}

const char *su_split_name(const char *name)
{
    static const char *const known[][2] = {
        {"train", "train"}, {"training", "train"}, {"val", "val"},   {"validation", "val"},
        {"valid", "val"},   {"dev", "val"},        {"test", "test"}, {"testing", "test"},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcasecmp(name, known[i][0])) return known[i][1];
    return name;
}
