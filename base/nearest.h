/* The nearest known name: what an error about a mistyped option or key suggests. */
#ifndef SU_BASE_NEAREST_H
#define SU_BASE_NEAREST_H

/* The name of the NULL-terminated list that takes the fewest insertions, deletions, substitutions and swaps
 * of neighbours to reach; NULL when even the best needs more than a third of the letters changed. */
const char *su_nearest(const char *name, const char *const *known);

#endif
