/* Building the trie: both arrays double when they fill up. */
#include "text/trie.h"
#include "base/memory.h"

enum { FIRST_EDGES_LOG2 = 12, FIRST_NODES = 2048 };

su_status su_trie_init(su_trie *t, su_error *err)
{
    *t = (su_trie){.shift = 64 - FIRST_EDGES_LOG2, .capacity = FIRST_NODES, .nodes = 1};
    t->edges = su_calloc((size_t)1 << FIRST_EDGES_LOG2, sizeof *t->edges);
    t->ids = su_alloc(FIRST_NODES, sizeof *t->ids);
    if (!t->edges || !t->ids) {
        su_trie_free(t);
        return su_fail(err, SU_ENOMEM, "no memory for the vocabulary");
    }
    t->ids[0] = -1;
    return SU_OK;
}

void su_trie_free(su_trie *t)
{
    su_free(t->edges);
    su_free(t->ids);
    *t = (su_trie){0};
}

/* The slot of the edge from node under byte, or the empty one where it belongs. */
static uint64_t *slot(const su_trie *t, uint32_t key)
{
    size_t mask = ((size_t)1 << (64 - t->shift)) - 1;
    size_t at = (size_t)(key * 0x9E3779B97F4A7C15u >> t->shift);
    while (t->edges[at] && (uint32_t)t->edges[at] != key) at = (at + 1) & mask;
    return &t->edges[at];
}

/* Room for one more node and its edge. */
static su_status grow(su_trie *t, su_error *err)
{
    if (t->nodes == SU_TRIE_NODES)
        return su_fail(err, SU_ELIMIT, "the vocabulary has too many different tokens");
    if (t->nodes == t->capacity) {
        int32_t *ids = su_realloc(t->ids, (size_t)t->capacity * 2, sizeof *ids);
        if (!ids) return su_fail(err, SU_ENOMEM, "no memory for the vocabulary");
        t->ids = ids;
        t->capacity *= 2;
    }
    size_t slots = (size_t)1 << (64 - t->shift);
    if ((size_t)t->nodes * 2 < slots) return SU_OK;
    su_trie larger = *t;
    larger.shift--;
    larger.edges = su_calloc(slots * 2, sizeof *larger.edges);
    if (!larger.edges) return su_fail(err, SU_ENOMEM, "no memory for the vocabulary");
    for (size_t i = 0; i < slots; i++)
        if (t->edges[i]) *slot(&larger, (uint32_t)t->edges[i]) = t->edges[i];
    su_free(t->edges);
    *t = larger;
    return SU_OK;
}

su_status su_trie_add(su_trie *t, const char *string, size_t length, int32_t id, uint32_t *node,
                      su_error *err)
{
    uint32_t at = 0;
    uint64_t *edge = NULL;
    for (size_t i = 0; i < length; i++) {
        su_status s = grow(t, err); /* first, as it moves the slots */
        if (s) return s;
        uint32_t key = at << 8 | (uint8_t)string[i];
        edge = slot(t, key);
        if (!*edge) {
            t->ids[t->nodes] = -1;
            *edge = (uint64_t)t->nodes++ << 32 | key;
        }
        at = su_trie_child(*edge);
    }
    if (id >= 0) {
        t->ids[at] = id;
        if (edge) *edge |= (uint64_t)1 << 56;
    }
    if (node) *node = at;
    return SU_OK;
}
