#include "eval/meteor_align.h"
#include "base/memory.h"
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { BEAM = 40 };

typedef struct {
    int64_t distance;
    int32_t matched;       /* words of both sides, by the search's weights */
    int32_t chunks;        /* that are closed */
    int32_t end;           /* of the last match in the hypothesis; -1: no chunk is open */
    int32_t place;         /* first word of the reference that is not behind it */
    int32_t parent, match; /* the path of the last step that it comes from, the match taken since or -1 */
    int32_t link;          /* its last match, by which the others are found; -1: none yet */
} path;

/* The best of some paths, best first; among equals the first that was added. */
typedef struct {
    path path[BEAM];
    uint64_t key[BEAM];
    int32_t count;
} beam;

/* A path's matches, backwards. */
typedef struct {
    int32_t match, before;
} link;

struct su_meteor_search {
    int32_t words, other_words, word_room;
    int32_t *first, *last;        /* [words] matches that start there */
    int32_t *cover, *cover_other; /* matches that hold a word */
    link *links;
    int32_t link_count, link_room;
    beam live, next;  /* paths of the last step, of this one */
    uint64_t *used;   /* [BEAM][used64] the hypothesis's words that each live path has */
    uint64_t *before; /* the same of the step before */
    int32_t used64, used_room;
};

void su_meteor_aligner_free(su_meteor_aligner *a)
{
    struct su_meteor_search *s = a->search;
    if (s) {
        su_free(s->first);
        su_free(s->last);
        su_free(s->cover);
        su_free(s->cover_other);
        su_free(s->links);
        su_free(s->used);
        su_free(s->before);
    }
    su_free(s);
    su_free(a->match);
    su_free(a->chosen);
    *a = (su_meteor_aligner){0};
}

static su_status no_memory(su_error *err)
{
    return su_fail(err, SU_ENOMEM, "no memory to align captions");
}

/* *array has room for `need` items when it returns true; *room counts them. */
static bool reserve(void *array, size_t size, int32_t need, int32_t *room)
{
    if (need <= *room) return true;
    int32_t larger = need > INT32_MAX / 2 ? INT32_MAX : need * 2;
    void *old, *new;
    memcpy(&old, array, sizeof old);
    new = su_realloc(old, (size_t)larger, size);
    if (!new) return false;
    memcpy(array, &new, sizeof new);
    *room = larger;
    return true;
}

static bool reserve_words(su_meteor_aligner *a, int32_t most)
{
    struct su_meteor_search *s = a->search;
    int32_t **arrays[] = {&s->first, &s->last, &s->cover, &s->cover_other, &a->chosen};
    int32_t room = s->word_room;
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) {
        room = s->word_room;
        if (!reserve(arrays[i], sizeof **arrays[i], most, &room)) return false;
    }
    s->word_room = room;
    int32_t used = BEAM * s->used64;
    room = s->used_room;
    if (!reserve(&s->before, sizeof *s->before, used, &room)) return false;
    return reserve(&s->used, sizeof *s->used, used, &s->used_room);
}

su_status su_meteor_aligner_start(su_meteor_aligner *a, int32_t words, int32_t other_words, su_error *err)
{
    int32_t most = (words > other_words ? words : other_words) + 1;
    if (!a->search) a->search = su_calloc(1, sizeof *a->search);
    struct su_meteor_search *s = a->search;
    if (!s) return no_memory(err);
    s->words = words;
    s->other_words = other_words;
    s->used64 = other_words / 64 + 1;
    if (!reserve_words(a, most)) return no_memory(err);
    a->count = 0;
    for (int32_t i = 0; i < most; i++) {
        s->first[i] = s->last[i] = a->chosen[i] = -1;
        s->cover[i] = s->cover_other[i] = 0;
    }
    return SU_OK;
}

su_status su_meteor_aligner_add(su_meteor_aligner *a, su_meteor_match match, su_error *err)
{
    struct su_meteor_search *s = a->search;
    if (!reserve(&a->match, sizeof *a->match, a->count + 1, &a->room)) return no_memory(err);
    match.next = -1;
    if (s->first[match.start] < 0)
        s->first[match.start] = a->count;
    else
        a->match[s->last[match.start]].next = a->count;
    s->last[match.start] = a->count;
    a->match[a->count++] = match;
    for (int32_t k = 0; k < match.length; k++) s->cover[match.start + k]++;
    for (int32_t k = 0; k < match.others; k++) s->cover_other[match.other + k]++;
    return SU_OK;
}

/* ---- one step ------------------------------------------------------------------------------------------ */

static bool is_certain(const struct su_meteor_search *s, const su_meteor_match *m)
{
    bool alone = true; /* another of the same start would hold its first word too */
    for (int32_t k = 0; k < m->length; k++) alone &= s->cover[m->start + k] == 1;
    for (int32_t k = 0; k < m->others; k++) alone &= s->cover_other[m->other + k] == 1;
    return alone;
}

static bool is_used(const uint64_t *used, const su_meteor_match *m)
{
    for (int32_t k = m->other; k < m->other + m->others; k++)
        if (used[k / 64] >> (k % 64) & 1) return true;
    return false;
}

/* Less is better. */
static uint64_t key_of(const path *p)
{
    uint64_t distance = p->distance < UINT32_MAX ? (uint64_t)p->distance : UINT32_MAX;
    return (uint64_t)(UINT16_MAX - p->matched) << 48 | (uint64_t)p->chunks << 32 | distance;
}

static void add_path(beam *b, const path *p)
{
    uint64_t key = key_of(p);
    if (b->count == BEAM && key >= b->key[BEAM - 1]) return;
    int32_t at = b->count < BEAM ? b->count++ : BEAM - 1;
    for (; at > 0 && b->key[at - 1] > key; at--) {
        b->key[at] = b->key[at - 1];
        b->path[at] = b->path[at - 1];
    }
    b->key[at] = key;
    b->path[at] = *p;
}

static void take(path *p, const su_meteor_match *m, int32_t number)
{
    p->match = number;
    p->matched += m->stage ? m->length / 2 + m->others / 2 : m->length + m->others;
    if (p->end >= 0 && m->other != p->end) p->chunks++;
    p->end = m->other + m->others;
    p->place = m->start + m->length;
}

static int32_t distance_of(const su_meteor_match *m)
{
    return abs(m->start - m->other);
}

static void close_chunk(path *p)
{
    if (p->end >= 0) p->chunks++;
    p->end = -1;
}

/* What becomes of a live path at word j. */
static void extend(const su_meteor_aligner *a, int32_t number, int32_t j)
{
    struct su_meteor_search *s = a->search;
    path from = s->live.path[number];
    from.parent = number;
    from.match = -1;
    if (from.place > j) { /* inside a match */
        add_path(&s->next, &from);
        return;
    }
    int32_t first = s->first[j];
    if (first >= 0 && is_certain(s, &a->match[first])) {
        from.distance += distance_of(&a->match[first]);
        take(&from, &a->match[first], first);
        add_path(&s->next, &from);
        return;
    }
    const uint64_t *used = s->used + (size_t)number * (size_t)s->used64;
    for (int32_t m = first; m >= 0; m = a->match[m].next) {
        if (is_used(used, &a->match[m])) continue;
        path next = from;
        take(&next, &a->match[m], m);
        add_path(&s->next, &next);
        from.distance += distance_of(&a->match[m]);
    }
    close_chunk(&from);
    from.place++;
    add_path(&s->next, &from);
}

/* The best paths of the step live on: their words in use and their matches are written down. */
static void live_on(const su_meteor_aligner *a)
{
    struct su_meteor_search *s = a->search;
    size_t row = (size_t)s->used64;
    uint64_t *swap = s->before;
    s->before = s->used;
    s->used = swap;
    s->live = s->next;
    for (int32_t i = 0; i < s->live.count; i++) {
        path *p = &s->live.path[i];
        uint64_t *used = s->used + (size_t)i * row;
        memcpy(used, s->before + (size_t)p->parent * row, row * sizeof *used);
        if (p->match < 0) continue;
        const su_meteor_match *m = &a->match[p->match];
        for (int32_t k = m->other; k < m->other + m->others; k++) used[k / 64] |= (uint64_t)1 << (k % 64);
        s->links[s->link_count] = (link){.match = p->match, .before = p->link};
        p->link = s->link_count++;
    }
}

su_status su_meteor_align(su_meteor_aligner *a, su_error *err)
{
    struct su_meteor_search *s = a->search;
    a->chunks = 0;
    if (!a->count) return SU_OK;
    if (!reserve(&s->links, sizeof *s->links, BEAM * s->words, &s->link_room)) return no_memory(err);
    s->link_count = 0;
    s->live.count = 1;
    s->live.path[0] = (path){.end = -1, .link = -1};
    memset(s->used, 0, (size_t)s->used64 * sizeof *s->used);
    for (int32_t j = 0; j < s->words; j++) {
        s->next.count = 0;
        for (int32_t i = 0; i < s->live.count; i++) extend(a, i, j);
        live_on(a);
    }
    s->next.count = 0;
    for (int32_t i = 0; i < s->live.count; i++) {
        close_chunk(&s->live.path[i]);
        add_path(&s->next, &s->live.path[i]);
    }
    const path *best = &s->next.path[0];
    a->chunks = best->chunks;
    for (int32_t l = best->link; l >= 0; l = s->links[l].before)
        a->chosen[a->match[s->links[l].match].start] = s->links[l].match;
    return SU_OK;
}
