#include "eval/caption_file.h"
#include "base/file.h"
#include "base/json.h"
#include "eval/words.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 1 << 16 };

/* Texts live in blocks that never move; the ids' numbers are the items' places. */
struct su_caption_store {
    su_words ids;
    char **block;
    int64_t blocks, block_room;
    size_t left;
    int64_t item_room, flaw_room;
};

typedef struct {
    su_captions *set;
    const char *name;
    su_caption_kind kind;
    su_pool *pool;
    su_error *err;
} reader;

static void *grow(void *old, int64_t count, int64_t *room, size_t size)
{
    if (count < *room) return old;
    int64_t larger = *room ? *room * 2 : 16;
    void *p = su_realloc(old, (size_t)larger, size);
    if (p) *room = larger;
    return p;
}

static char *keep(struct su_caption_store *s, const char *text, size_t length)
{
    if (length + 1 > s->left) {
        char **block = grow(s->block, s->blocks, &s->block_room, sizeof *block);
        if (!block) return NULL;
        s->block = block;
        size_t size = length + 1 > BLOCK ? length + 1 : BLOCK;
        if (!(block[s->blocks] = su_alloc(size, 1))) return NULL;
        s->blocks++;
        s->left = size;
        memcpy(block[s->blocks - 1], text, length);
        block[s->blocks - 1][length] = 0;
        s->left -= length + 1;
        if (size > BLOCK) s->left = 0;
        return block[s->blocks - 1];
    }
    char *at = s->block[s->blocks - 1] + (BLOCK - s->left);
    memcpy(at, text, length);
    at[length] = 0;
    s->left -= length + 1;
    return at;
}

static su_status no_memory(const reader *r)
{
    return su_fail(r->err, SU_ENOMEM, "%s: no memory for its captions", r->name);
}

static su_status add_flaw(su_captions *c, int64_t place, const char *id, bool used, const char *reason)
{
    su_caption_flaw *flaws = grow(c->flaws, c->flaw_count, &c->store->flaw_room, sizeof *flaws);
    if (!flaws) return SU_ENOMEM;
    c->flaws = flaws;
    su_caption_flaw *f = &flaws[c->flaw_count];
    *f = (su_caption_flaw){.place = place, .used = used};
    if (id && !(f->id = keep(c->store, id, strlen(id)))) return SU_ENOMEM;
    snprintf(f->reason, sizeof f->reason, "%s", reason);
    c->flaw_count++;
    return SU_OK;
}

su_status su_captions_note(su_captions *c, const char *id, const char *reason, su_error *err)
{
    return add_flaw(c, 0, id, false, reason) ? su_fail(err, SU_ENOMEM, "no memory for a list of flaws")
                                             : SU_OK;
}

static su_status flaw(reader *r, int64_t place, const char *id, bool used, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

static su_status flaw(reader *r, int64_t place, const char *id, bool used, const char *format, ...)
{
    char reason[sizeof((su_caption_flaw *)0)->reason];
    va_list args;
    va_start(args, format);
    vsnprintf(reason, sizeof reason, format, args);
    va_end(args);
    return add_flaw(r->set, place, id, used, reason) ? no_memory(r) : SU_OK;
}

/* ---- one caption --------------------------------------------------------------------------------------- */

static su_status add_text(reader *r, su_caption_item *item, const char *text, size_t length)
{
    char *kept = keep(r->set->store, text, length);
    /* Room for 1, 2, 4, ... texts: full whenever the count is a power of two. */
    if (kept && !(item->count & (item->count - 1))) {
        const char **larger =
            su_realloc(item->text, item->count ? (size_t)item->count * 2 : 1, sizeof *larger);
        if (!larger) return no_memory(r);
        item->text = larger;
    }
    if (!kept) return no_memory(r);
    item->text[item->count++] = kept;
    return SU_OK;
}

static su_status find_or_add(reader *r, const char *id, su_caption_item **item, bool *is_new)
{
    su_captions *c = r->set;
    int32_t number;
    su_caption_item *items = grow(c->items, c->count, &c->store->item_room, sizeof *items);
    if (!items) return no_memory(r);
    c->items = items;
    su_status status = su_words_add(&c->store->ids, id, strlen(id), &number, r->err);
    if (status) return status;
    *is_new = number == c->count;
    if (*is_new) {
        items[c->count] = (su_caption_item){.id = keep(c->store, id, strlen(id))};
        if (!items[c->count].id) return no_memory(r);
        c->count++;
    }
    *item = &items[number];
    return SU_OK;
}

static bool is_blank(const char *text)
{
    return text[strspn(text, " \t\r\n\v\f")] == 0;
}

static su_status add_caption(reader *r, int64_t place, const char *id, const json_t *caption)
{
    if (!json_is_string(caption)) return flaw(r, place, id, false, "a caption is no string");
    const char *text = json_string_value(caption);
    size_t length = json_string_length(caption);
    if (length > SU_CAPTION_MAX)
        return flaw(r, place, id, false, "the caption has %zu bytes; the limit is %d", length,
                    (int)SU_CAPTION_MAX);
    su_caption_item *item = NULL;
    bool is_new;
    su_status status = find_or_add(r, id, &item, &is_new);
    if (status) return status;
    if (!is_new && r->kind == SU_CAPTION_HYPOTHESES)
        return flaw(r, place, id, false, "this id has a caption already; the first one counts");
    status = add_text(r, item, text, length);
    if (!status && is_blank(text)) status = flaw(r, place, id, true, "the caption is empty; scored as it is");
    return status;
}

/* The id of a record as text; NULL (and a flaw) when there is none. */
static const char *id_of(reader *r, int64_t place, const json_t *record, char number[32], su_status *status)
{
    static const char *const names[] = {"id", "image_id", "file"};
    const char *id = NULL;
    json_t *value = NULL;
    bool coco = !strcmp(r->set->form, "COCO");
    for (int i = coco ? 1 : 0; i < (coco ? 2 : 3) && !value; i++) value = json_object_get(record, names[i]);
    if (coco && !value) value = json_object_get(record, "id"); /* an array of {"id", "caption"} */
    if (json_is_string(value)) {
        id = json_string_value(value);
    } else if (json_is_integer(value)) {
        snprintf(number, 32, "%lld", (long long)json_integer_value(value));
        id = number;
    }
    if (!value)
        *status = flaw(r, place, NULL, false, "has no \"%s\"", coco ? "image_id" : "id");
    else if (!id)
        *status = flaw(r, place, NULL, false, "its id is no string and no whole number");
    else if (!*id || strlen(id) > SU_CAPTION_ID_MAX)
        *status =
            flaw(r, place, NULL, false, "its id is empty or longer than %d bytes", (int)SU_CAPTION_ID_MAX);
    else
        return id;
    return NULL;
}

static su_status add_record(reader *r, int64_t place, const json_t *record)
{
    su_status status = SU_OK;
    char number[32];
    if (!json_is_object(record)) return flaw(r, place, NULL, false, "is no JSON object {...}");
    const char *id = id_of(r, place, record, number, &status);
    if (!id) return status;
    json_t *one = json_object_get(record, "caption"), *several = json_object_get(record, "captions");
    if (r->kind == SU_CAPTION_REFERENCES && several) {
        if (!json_is_array(several)) return flaw(r, place, id, false, "\"captions\" is no array");
        if (!json_array_size(several)) return flaw(r, place, id, false, "\"captions\" holds no caption");
        bool again = su_captions_find(r->set, id) != NULL;
        for (size_t i = 0; !status && i < json_array_size(several); i++)
            status = add_caption(r, place, id, json_array_get(several, i));
        if (!status && again)
            status = flaw(r, place, id, true, "this id came before; its captions are added");
        return status;
    }
    if (one) return add_caption(r, place, id, one);
    return flaw(r, place, id, false, "has no \"%s\"%s",
                r->kind == SU_CAPTION_REFERENCES ? "captions" : "caption",
                several ? " (one caption an id is a hypothesis)" : "");
}

/* ---- whole files --------------------------------------------------------------------------------------- */

static su_status read_array(reader *r, const json_t *array)
{
    su_status status = SU_OK;
    r->set->form = "COCO";
    for (size_t i = 0; !status && i < json_array_size(array); i++)
        status = add_record(r, (int64_t)i + 1, json_array_get(array, i));
    return status;
}

/* What follows "NAME: line N, column M: " in a parser's message. */
static const char *bare(const su_error *e, const char *name)
{
    const char *text = e->message;
    size_t n = strlen(name);
    if (!strncmp(text, name, n) && text[n] == ':') text += n + 1;
    const char *column = strstr(text, "column ");
    const char *colon = column ? strchr(column, ':') : NULL;
    return colon ? colon + 2 : text;
}

enum { ROUND = 512, TASK = 32 }; /* lines parsed at a time, and by one thread at a time */

typedef struct {
    const char *text;
    size_t length;
    json_t *record; /* NULL: white space alone, or no JSON */
} line;

typedef struct {
    line line[ROUND];
    int64_t count;
} lines;

static bool is_blank_line(const line *l)
{
    size_t skip = 0;
    while (skip < l->length && memchr(" \t\r", l->text[skip], 3)) skip++;
    return skip == l->length;
}

/* The next lines of the text; what is left of it is returned. */
static const char *split(lines *s, const char *text, const char *end)
{
    for (s->count = 0; s->count < ROUND && text < end; s->count++) {
        const char *stop = memchr(text, '\n', (size_t)(end - text));
        if (!stop) stop = end;
        s->line[s->count] = (line){.text = text, .length = (size_t)(stop - text)};
        text = stop + 1;
    }
    return text;
}

static void parse_lines(void *context, int64_t task, int worker)
{
    (void)worker;
    lines *s = context;
    for (int64_t i = task * TASK; i < s->count && i < (task + 1) * TASK; i++) {
        line *l = &s->line[i];
        if (!is_blank_line(l)) su_json_parse(l->text, l->length, "", &l->record, NULL);
    }
}

static su_status add_line(reader *r, int64_t number, line *l)
{
    su_error e = {0};
    if (!l->record && is_blank_line(l)) return SU_OK;
    su_status status = l->record ? SU_OK : su_json_parse(l->text, l->length, r->name, &l->record, &e);
    if (status == SU_ENOMEM) return no_memory(r);
    return status ? flaw(r, number, NULL, false, "is no JSON: %s", bare(&e, r->name))
                  : add_record(r, number, l->record);
}

/* Round by round: lines are parsed by all threads, and added in their order by this one, which also parses broken ones
 * again for the words of their flaw. */
static su_status read_lines(reader *r, const char *text, size_t length)
{
    su_status status = SU_OK;
    const char *end = text + length;
    lines *s = su_alloc(1, sizeof *s);
    if (!s) return no_memory(r);
    r->set->form = "JSON Lines";
    for (int64_t number = 1; !status && text < end; number += s->count) {
        text = split(s, text, end);
        su_pool_run(r->pool, (s->count + TASK - 1) / TASK, parse_lines, s);
        for (int64_t i = 0; i < s->count; i++) {
            if (!status) status = add_line(r, number + i, &s->line[i]);
            json_decref(s->line[i].record);
        }
    }
    su_free(s);
    return status;
}

/* Whether any line is an object with an id and captions of its own: then the file is JSON Lines, however
 * broken its other lines are. */
static bool has_a_record(const char *text, size_t length)
{
    const char *end = text + length;
    bool found = false;
    while (!found && text < end) {
        const char *stop = memchr(text, '\n', (size_t)(end - text));
        if (!stop) stop = end;
        json_t *o = NULL;
        if (!su_json_parse(text, (size_t)(stop - text), "", &o, NULL) && json_is_object(o))
            found = (json_object_get(o, "caption") || json_object_get(o, "captions")) ||
                    (json_object_get(o, "error") && json_object_get(o, "file"));
        json_decref(o);
        text = stop + 1;
    }
    return found;
}

static su_status read_content(reader *r, const char *text, size_t length)
{
    if (length >= 3 && !memcmp(text, "\xEF\xBB\xBF", 3)) { /* a byte order mark */
        text += 3;
        length -= 3;
    }
    size_t first = 0;
    while (first < length && memchr(" \t\r\n", text[first], 4)) first++;
    if (first == length) return su_fail(r->err, SU_EFORMAT, "%s: is empty", r->name);
    if (text[first] == '{' && has_a_record(text, length)) return read_lines(r, text, length);
    json_t *root = NULL;
    su_status status = su_json_parse(text, length, r->name, &root, r->err);
    json_t *annotations = json_object_get(root, "annotations");
    if (!status && json_is_array(root)) {
        status = read_array(r, root);
    } else if (!status && json_is_array(annotations)) {
        status = read_array(r, annotations);
    } else if (status && (text[first] == '[' || text[first] == '{')) {
        su_fail_context(r->err, status, "neither JSON Lines of captions nor a whole COCO document");
    } else if (status != SU_ENOMEM) {
        status =
            su_fail(r->err, SU_EFORMAT,
                    "%s: holds no captions: expected JSON Lines {\"id\":\"7\",\"%s}, or COCO's %s", r->name,
                    r->kind == SU_CAPTION_HYPOTHESES ? "caption\":\"...\"" : "captions\":[\"...\"]",
                    r->kind == SU_CAPTION_HYPOTHESES ? "results [{\"image_id\":7,\"caption\":\"...\"}]"
                                                     : "{\"annotations\":[...]}");
    }
    json_decref(root);
    return status;
}

su_status su_captions_parse(const char *text, size_t length, const char *name, su_caption_kind kind,
                            su_pool *pool, su_captions *captions, su_error *err)
{
    *captions = (su_captions){.form = "", .store = su_calloc(1, sizeof *captions->store)};
    if (!captions->store) return su_fail(err, SU_ENOMEM, "%s: no memory for its captions", name);
    su_words_init(&captions->store->ids);
    su_status status = read_content(
        &(reader){.set = captions, .name = name, .kind = kind, .pool = pool, .err = err}, text, length);
    if (status) su_captions_free(captions);
    return status;
}

su_status su_captions_read(const char *path, su_caption_kind kind, su_pool *pool, su_captions *captions,
                           su_error *err)
{
    *captions = (su_captions){0};
    char *text;
    size_t length;
    su_status status = su_file_read(path, SU_CAPTION_FILE_MAX, &text, &length, err);
    if (status) return status;
    status = su_captions_parse(text, length, path, kind, pool, captions, err);
    su_free(text);
    return status;
}

void su_captions_free(su_captions *c)
{
    for (int64_t i = 0; i < c->count; i++) su_free(c->items[i].text);
    su_free(c->items);
    su_free(c->flaws);
    if (c->store) {
        su_words_free(&c->store->ids);
        for (int64_t i = 0; i < c->store->blocks; i++) su_free(c->store->block[i]);
        su_free(c->store->block);
        su_free(c->store);
    }
    *c = (su_captions){0};
}

const su_caption_item *su_captions_find(const su_captions *c, const char *id)
{
    int32_t number = c->store ? su_words_find(&c->store->ids, id, strlen(id)) : -1;
    return number < 0 || number >= c->count ? NULL : &c->items[number];
}
