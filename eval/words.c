#include "eval/words.h"
#include <string.h>

enum { FIRST_SLOTS = 1024, COUNT_MAX = INT32_MAX - 2 };

static uint64_t mix(uint64_t x)
{
    x ^= x >> 32;
    x *= 0xD6E8FEB86659FD93u;
    x ^= x >> 32;
    x *= 0xD6E8FEB86659FD93u;
    return x ^ x >> 32;
}

static uint32_t hash_bytes(const char *text, size_t length)
{
    uint64_t h = length, piece;
    for (; length >= 8; text += 8, length -= 8) {
        memcpy(&piece, text, 8);
        h = mix(h ^ piece);
    }
    piece = 0;
    memcpy(&piece, text, length);
    return (uint32_t)mix(h ^ piece);
}

/* ---- byte strings -------------------------------------------------------------------------------------- */

void su_words_init(su_words *w)
{
    *w = (su_words){0};
    su_buffer_init(&w->bytes, (size_t)1 << 39);
}

void su_words_free(su_words *w)
{
    su_buffer_free(&w->bytes);
    su_free(w->entry);
    su_free(w->slot);
    su_free(w->hash);
    su_words_init(w);
}

const char *su_words_text(const su_words *w, int32_t number, size_t *length)
{
    *length = w->entry[number] & SU_WORDS_LENGTH_MAX;
    return w->bytes.data + (w->entry[number] >> 24);
}

/* The slot of the string, or the free one where it belongs. */
static uint32_t find_slot(const su_words *w, const char *text, size_t length, uint32_t hash)
{
    for (uint32_t at = hash & (w->slots - 1);; at = (at + 1) & (w->slots - 1)) {
        int32_t number = w->slot[at] - 1;
        if (number < 0) return at;
        if (w->hash[number] != hash) continue;
        size_t other;
        const char *there = su_words_text(w, number, &other);
        if (other == length && !memcmp(there, text, length)) return at;
    }
}

static su_status grow_words(su_words *w, su_error *err)
{
    if (w->slots && w->count < w->room) return SU_OK;
    if (w->slots > UINT32_MAX / 2) return su_fail(err, SU_ELIMIT, "too many different words");
    uint32_t slots = w->slots ? w->slots * 2 : FIRST_SLOTS;
    int32_t room = (int32_t)(slots / 2);
    int32_t *slot = su_calloc(slots, sizeof *slot);
    uint64_t *entry = slot ? su_realloc(w->entry, (size_t)room, sizeof *entry) : NULL;
    if (entry) w->entry = entry;
    uint32_t *hash = entry ? su_realloc(w->hash, (size_t)room, sizeof *hash) : NULL;
    if (hash) w->hash = hash;
    if (!hash) {
        su_free(slot);
        return su_fail(err, SU_ENOMEM, "no memory for %d words", (int)room);
    }
    for (int32_t i = 0; i < w->count; i++) {
        uint32_t at = hash[i] & (slots - 1);
        while (slot[at]) at = (at + 1) & (slots - 1);
        slot[at] = i + 1;
    }
    su_free(w->slot);
    w->slot = slot;
    w->slots = slots;
    w->room = room;
    return SU_OK;
}

su_status su_words_add(su_words *w, const char *text, size_t length, int32_t *number, su_error *err)
{
    if (length > SU_WORDS_LENGTH_MAX)
        return su_fail(err, SU_ELIMIT, "a word of %zu bytes is too long", length);
    su_status status = grow_words(w, err);
    if (status) return status;
    uint32_t hash = hash_bytes(text, length), at = find_slot(w, text, length, hash);
    if (!w->slot[at]) {
        size_t offset = w->bytes.length;
        status = su_buffer_add(&w->bytes, text, length, err);
        if (status) return status;
        w->entry[w->count] = (uint64_t)offset << 24 | length;
        w->hash[w->count] = hash;
        w->slot[at] = ++w->count;
    }
    *number = w->slot[at] - 1;
    return SU_OK;
}

int32_t su_words_find(const su_words *w, const char *text, size_t length)
{
    if (!w->slots || length > SU_WORDS_LENGTH_MAX) return -1;
    return w->slot[find_slot(w, text, length, hash_bytes(text, length))] - 1;
}

/* ---- pairs --------------------------------------------------------------------------------------------- */

void su_pairs_init(su_pairs *p)
{
    *p = (su_pairs){0};
}

void su_pairs_free(su_pairs *p)
{
    su_free(p->slot);
    su_pairs_init(p);
}

static uint64_t pair_key(int32_t first, int32_t second)
{
    return (uint64_t)(uint32_t)first << 32 | (uint32_t)second;
}

/* The slot of the key, or the free one where it belongs. */
static su_pair_slot *find_pair(su_pair_slot *slot, uint64_t slots, uint64_t key)
{
    uint64_t at = mix(key) & (slots - 1);
    while (slot[at].number && slot[at].key != key) at = (at + 1) & (slots - 1);
    return &slot[at];
}

static su_status grow_pairs(su_pairs *p, su_error *err)
{
    if ((uint64_t)p->count * 2 < p->slots) return SU_OK;
    if (p->count >= COUNT_MAX / 2) return su_fail(err, SU_ELIMIT, "too many different n-grams");
    uint64_t slots = p->slots ? p->slots * 4 : FIRST_SLOTS;
    su_pair_slot *slot = su_calloc(slots, sizeof *slot);
    if (!slot) return su_fail(err, SU_ENOMEM, "no memory for %llu n-grams", (unsigned long long)slots / 2);
    for (uint64_t i = 0; i < p->slots; i++)
        if (p->slot[i].number) *find_pair(slot, slots, p->slot[i].key) = p->slot[i];
    su_free(p->slot);
    p->slot = slot;
    p->slots = slots;
    return SU_OK;
}

void su_pairs_prefetch(const su_pairs *p, int32_t first, int32_t second)
{
    if (p->slots) __builtin_prefetch(&p->slot[mix(pair_key(first, second)) & (p->slots - 1)], 1);
}

su_status su_pairs_add(su_pairs *p, int32_t first, int32_t second, int32_t *number, su_error *err)
{
    su_status status = grow_pairs(p, err);
    if (status) return status;
    uint64_t key = pair_key(first, second);
    su_pair_slot *slot = find_pair(p->slot, p->slots, key);
    if (!slot->number) *slot = (su_pair_slot){key, ++p->count};
    *number = slot->number - 1;
    return SU_OK;
}

int32_t su_pairs_find(const su_pairs *p, int32_t first, int32_t second)
{
    return p->slots ? find_pair(p->slot, p->slots, pair_key(first, second))->number - 1 : -1;
}

/* ---- lists --------------------------------------------------------------------------------------------- */

su_status su_numbers_add(su_numbers *n, int32_t item, su_error *err)
{
    if (n->count == n->room) {
        int32_t room = n->room ? n->room * 2 : 2;
        int32_t *larger = n->room > INT32_MAX / 2 ? NULL : su_realloc(n->item, (size_t)room, sizeof *larger);
        if (!larger) return su_fail(err, SU_ENOMEM, "no memory for a list of %d numbers", (int)n->count);
        n->item = larger;
        n->room = room;
    }
    n->item[n->count++] = item;
    return SU_OK;
}

void su_numbers_free(su_numbers *n)
{
    su_free(n->item);
    *n = (su_numbers){0};
}
