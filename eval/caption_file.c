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

static su_status read_lines(reader *r, const char *text, size_t length)
{
    su_status status = SU_OK;
    const char *end = text + length;
    r->set->form = "JSON Lines";
    for (int64_t number = 1; !status && text < end; number++) {
        const char *stop = memchr(text, '\n', (size_t)(end - text));
        if (!stop) stop = end;
        size_t skip = 0, n = (size_t)(stop - text);
        while (skip < n && memchr(" \t\r", text[skip], 3)) skip++;
        if (skip < n) {
            json_t *record = NULL;
            su_error e = {0};
            su_status parsed = su_json_parse(text, n, r->name, &record, &e);
            if (parsed == SU_ENOMEM)
                status = no_memory(r);
            else
                status = parsed ? flaw(r, number, NULL, false, "is no JSON: %s", bare(&e, r->name))
                                : add_record(r, number, record);
            json_decref(record);
        }
        text = stop + 1;
    }
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
                            su_captions *captions, su_error *err)
{
    *captions = (su_captions){.form = "", .store = su_calloc(1, sizeof *captions->store)};
    if (!captions->store) return su_fail(err, SU_ENOMEM, "%s: no memory for its captions", name);
    su_words_init(&captions->store->ids);
    su_status status =
        read_content(&(reader){.set = captions, .name = name, .kind = kind, .err = err}, text, length);
    if (status) su_captions_free(captions);
    return status;
}

su_status su_captions_read(const char *path, su_caption_kind kind, su_captions *captions, su_error *err)
{
    *captions = (su_captions){0};
    char *text;
    size_t length;
    su_status status = su_file_read(path, SU_CAPTION_FILE_MAX, &text, &length, err);
    if (status) return status;
    status = su_captions_parse(text, length, path, kind, captions, err);
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
