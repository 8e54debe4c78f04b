/* Open addressing with linear probing, at most half full; see idset.h. */
#include "datasets/idset.h"
#include "base/checksum.h"
#include "base/memory.h"
#include <string.h>

struct su_idset {
    uint64_t *slots; /* 0: free */
    size_t size, used;
};

enum { FIRST_SIZE = 1024 };

su_idset *su_idset_new(void)
{
    su_idset *set = su_calloc(1, sizeof *set);
    if (set) set->slots = su_calloc(FIRST_SIZE, sizeof *set->slots);
    if (set && !set->slots) {
        su_free(set);
        return NULL;
    }
    if (set) set->size = FIRST_SIZE;
    return set;
}

void su_idset_free(su_idset *set)
{
    if (set) su_free(set->slots);
    su_free(set);
}

/* Where hash is, or the free slot where it belongs. */
static size_t find(const uint64_t *slots, size_t size, uint64_t hash)
{
    size_t i = hash & (size - 1);
    while (slots[i] && slots[i] != hash) i = (i + 1) & (size - 1);
    return i;
}

static bool grow(su_idset *set)
{
    uint64_t *slots = su_calloc(set->size * 2, sizeof *slots);
    if (!slots) return false;
    for (size_t i = 0; i < set->size; i++)
        if (set->slots[i]) slots[find(slots, set->size * 2, set->slots[i])] = set->slots[i];
    su_free(set->slots);
    set->slots = slots;
    set->size *= 2;
    return true;
}

su_status su_idset_add(su_idset *set, const char *id, bool *seen, su_error *err)
{
    uint64_t hash = su_hash64(id, strlen(id));
    if (hash == 0) hash = 1;
    if (set->used * 2 >= set->size && !grow(set))
        return su_fail(err, SU_ENOMEM, "no memory left for the set of ids");
    size_t i = find(set->slots, set->size, hash);
    *seen = set->slots[i] != 0;
    if (!*seen) {
        set->slots[i] = hash;
        set->used++;
    }
    return SU_OK;
}
