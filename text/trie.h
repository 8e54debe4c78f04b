/* A trie over bytes whose edges live in one hash table. Private to text/.
 *
 *   edge, 64 bits, 0 when the slot is empty:
 *     63        57 56 55           32 31            8 7    0
 *    +-----------+---+---------------+---------------+------+
 *    |     0     | E |  child node   |  parent node  | byte |      E: a string ends at the child
 *    +-----------+---+---------------+---------------+------+
 *
 * A step is one multiplication and, nearly always, one load, whatever the fan-out, and building takes time
 * linear in the strings, so a hostile vocabulary costs no more than a good one. Node 0 is the root. At most
 * 2^24 nodes. */
#ifndef SU_TEXT_TRIE_H
#define SU_TEXT_TRIE_H

#include "base/error.h"
#include <stddef.h>
#include <stdint.h>

enum { SU_TRIE_NODES = 1 << 24 };

typedef struct {
    uint64_t *edges; /* 2^(64 - shift) slots, at most half of them used */
    int32_t *ids;    /* by node: the string that ends there, -1 when none */
    uint32_t nodes, capacity;
    int shift;
} su_trie;

su_status su_trie_init(su_trie *t, su_error *err);
void su_trie_free(su_trie *t);

/* Adds a string and gives it an id; a string that is there already gets the new id. *node is where it ends.
 * With id -1 only the path is made. SU_ENOMEM, SU_ELIMIT (too many nodes). */
su_status su_trie_add(su_trie *t, const char *string, size_t length, int32_t id, uint32_t *node,
                      su_error *err);

/* The edge from node under byte, 0 when there is none. */
static inline uint64_t su_trie_step(const su_trie *t, uint32_t node, uint8_t byte)
{
    uint32_t key = node << 8 | byte;
    size_t mask = ((size_t)1 << (64 - t->shift)) - 1;
    for (size_t at = (size_t)(key * 0x9E3779B97F4A7C15u >> t->shift);; at = (at + 1) & mask) {
        uint64_t edge = t->edges[at];
        if (!edge || (uint32_t)edge == key) return edge;
    }
}

static inline uint32_t su_trie_child(uint64_t edge)
{
    return (uint32_t)(edge >> 32) & 0xFFFFFF;
}
static inline int su_trie_ends(uint64_t edge)
{
    return (int)(edge >> 56);
}

#endif
