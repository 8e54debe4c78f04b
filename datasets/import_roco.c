/* The importer of ROCO's official layout; see import.h.
 *
 *   SPLIT/radiology/captions.txt   ROCO_00020 <tab> caption
 *   SPLIT/radiology/licences.txt   ROCO_00020,PMC3970251_figure-file.jpg,CC BY      (a first line names the
 * columns) SPLIT/radiology/dlinks.txt     ROCO_00020 <tab> wget ... PMC3970251.tar.gz ... <tab>
 * figure-file.jpg SPLIT/radiology/images/        ROCO_00020.jpg, or PMC3970251_figure-file.jpg as older
 * downloads named them
 *
 * The group is the article: the PMC number in licences.txt, or in dlinks.txt for an item that is not there. */
#include "base/checksum.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "datasets/import.h"
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FOLDERS_MAX = 3, NAME_MAX_BYTES = 512 };
static const size_t LIST_MAX = (size_t)1 << 30; /* bytes of a captions.txt and its like */

typedef struct {
    const char *id, *article, *file,
        *licence; /* into the lists' text; article: not terminated, article_length */
    int article_length;
} origin;

typedef struct {
    char relative[64];                  /* "train/radiology", below the source's folder; "" for itself */
    char split[64];                     /* the SPLIT folder's name; "" when unknown */
    char *captions, *licences, *dlinks; /* whole files, cut into lines and fields; NULL: not there */
    size_t captions_length;
    origin *origins; /* ascending by id */
    int64_t origin_count;
} roco_folder;

typedef struct {
    const char *root;
    roco_folder folders[FOLDERS_MAX];
    int count, current;
    char *at; /* the next line of the current captions; NULL before the first */
    int64_t line, items;
    su_import_item item;
    const char *files[1];
    char path[PATH_MAX], article[32], source[NAME_MAX_BYTES];
} roco_source;

/* ---- finding the folders ---- */

static bool has_captions(const char *root, const char *relative)
{
    char path[PATH_MAX];
    return snprintf(path, sizeof path, "%s/%s/captions.txt", root, relative) < PATH_MAX &&
           su_file_exists(path);
}

static void add_folder(roco_source *r, const char *relative, const char *split)
{
    roco_folder *f = &r->folders[r->count++];
    snprintf(f->relative, sizeof f->relative, "%s", relative);
    const char *name = su_split_name(split);
    bool known = !strcmp(name, "train") || !strcmp(name, "val") || !strcmp(name, "test");
    snprintf(f->split, sizeof f->split, "%s", known ? name : "");
}

/* The name of the folder `up` levels above path. */
static void ancestor(const char *path, int up, char name[64])
{
    char full[PATH_MAX];
    name[0] = '\0';
    if (!realpath(path, full)) return;
    for (; up > 0; up--) {
        char *slash = strrchr(full, '/');
        if (!slash) return;
        *slash = '\0';
    }
    snprintf(name, 64, "%.63s", su_path_name(full));
}

static su_status find_folders(roco_source *r, su_error *err)
{
    static const char *const splits[] = {"train", "validation", "test"}, *const above[] = {"", "data/"};
    char name[64], relative[64];
    if (!su_is_folder(r->root)) return su_fail(err, SU_ENOTFOUND, "%s: there is no such folder", r->root);
    if (has_captions(r->root, ".")) {
        ancestor(r->root, 1, name);
        add_folder(r, "", name);
    } else if (has_captions(r->root, "radiology")) {
        ancestor(r->root, 0, name);
        add_folder(r, "radiology", name);
    }
    for (int a = 0; a < 2 && r->count == 0; a++)
        for (int k = 0; k < FOLDERS_MAX; k++) {
            snprintf(relative, sizeof relative, "%s%s/radiology", above[a], splits[k]);
            if (has_captions(r->root, relative)) add_folder(r, relative, splits[k]);
        }
    if (r->count) return SU_OK;
    return su_fail(
        err, SU_ENOTFOUND,
        "%s: no captions.txt in it, in radiology/, nor in {train,validation,test}/radiology/; give the "
        "data folder of the ROCO repository",
        r->root);
}

/* ---- reading the lists ---- */

/* Ends the line at *at, and returns it; moves *at to the next, or to the text's end. */
static char *cut_line(char **at)
{
    char *line = *at, *end = line + strcspn(line, "\r\n"), stop = *end;
    *end = '\0';
    *at = !stop ? end : end + 1 + (stop == '\r' && end[1] == '\n');
    return line;
}

static int64_t count_lines(const char *text)
{
    int64_t n = 0;
    for (; text && *text; text++) n += *text == '\n' || *text == '\r';
    return n + 1;
}

static su_status read_list(const roco_source *r, roco_folder *f, const char *name, bool needed, char **text,
                           size_t *length, json_t *description, su_error *err)
{
    char relative[PATH_MAX], path[PATH_MAX], hex[SU_SHA256_HEX];
    snprintf(relative, sizeof relative, "%s%s%s", f->relative, f->relative[0] ? "/" : "", name);
    if (snprintf(path, sizeof path, "%s/%s", r->root, relative) >= PATH_MAX)
        return su_fail(err, SU_ELIMIT, "%s: the path is too long", r->root);
    if (!needed && !su_file_exists(path)) return SU_OK;
    su_status s = su_file_read(path, LIST_MAX, text, length, err);
    if (s) return s;
    su_sha256_hex(*text, *length, hex);
    if (strlen(*text) != *length) return su_fail(err, SU_EFORMAT, "%s: has a NUL byte", path);
    return json_object_set_new(description, relative, json_string(hex))
               ? su_fail(err, SU_ENOMEM, "%s: no memory to describe it", path)
               : SU_OK;
}

static int by_id(const void *a, const void *b)
{
    return strcmp(((const origin *)a)->id, ((const origin *)b)->id);
}

static void set_article(origin *o, const char *text)
{
    const char *pmc = strstr(text, "PMC");
    o->article = pmc ? pmc : "";
    o->article_length = pmc ? 3 + (int)strspn(pmc + 3, "0123456789") : 0;
}

/* "ID,FILE,LICENCE" or the same with tabs: the file's name may hold commas, so the outer two cut. */
static bool parse_licence(char *line, origin *o)
{
    char mark = strchr(line, '\t') ? '\t' : ',';
    char *first = strchr(line, mark), *last = strrchr(line, mark);
    if (!first || first == last) return false;
    *first = *last = '\0';
    *o = (origin){.id = line, .file = first + 1, .licence = last + 1};
    set_article(o, o->file);
    return o->article_length > 3;
}

static bool parse_dlink(char *line, origin *o)
{
    char *first = strchr(line, '\t'), *last = strrchr(line, '\t');
    if (!first || first == last) return false;
    *first = *last = '\0';
    *o = (origin){.id = line, .file = last + 1, .licence = ""};
    set_article(o, first + 1);
    return o->article_length > 3;
}

/* By id, each id once: the line that knows the licence rather than the one that does not. */
static void sort_origins(roco_folder *f)
{
    int64_t kept = 0;
    qsort(f->origins, (size_t)f->origin_count, sizeof *f->origins, by_id);
    for (int64_t i = 0; i < f->origin_count; i++) {
        if (kept && !strcmp(f->origins[kept - 1].id, f->origins[i].id)) {
            if (!f->origins[kept - 1].licence[0]) f->origins[kept - 1] = f->origins[i];
            continue;
        }
        f->origins[kept++] = f->origins[i];
    }
    f->origin_count = kept;
}

static su_status load_folder(roco_source *r, roco_folder *f, json_t *description, su_error *err)
{
    su_status s = read_list(r, f, "captions.txt", true, &f->captions, &f->captions_length, description, err);
    size_t length = 0;
    if (!s) s = read_list(r, f, "licences.txt", false, &f->licences, &length, description, err);
    if (!s) s = read_list(r, f, "dlinks.txt", false, &f->dlinks, &length, description, err);
    if (s) return s;
    f->origins = su_alloc((size_t)(count_lines(f->licences) + count_lines(f->dlinks)), sizeof *f->origins);
    if (!f->origins) return su_fail(err, SU_ENOMEM, "%s: no memory for the list of articles", r->root);
    for (char *at = f->licences; at && *at;)
        f->origin_count += parse_licence(cut_line(&at), &f->origins[f->origin_count]);
    for (char *at = f->dlinks; at && *at;)
        f->origin_count += parse_dlink(cut_line(&at), &f->origins[f->origin_count]);
    sort_origins(f);
    if (f->origin_count == 0)
        su_log(SU_LOG_WARN,
               "%s/%s: no licences.txt or dlinks.txt names the articles: each figure is a group of its own",
               r->root, f->relative);
    for (const char *p = f->captions; *p; p += strcspn(p, "\r\n"), p += strspn(p, "\r\n")) r->items++;
    return SU_OK;
}

/* ---- items ---- */

static const origin *find_origin(const roco_folder *f, const char *id)
{
    return bsearch(&(origin){.id = id}, f->origins, (size_t)f->origin_count, sizeof *f->origins, by_id);
}

/* images/ID.jpg; where that is not there, the article's own file name. */
static void name_image(roco_source *r, const roco_folder *f, const char *id)
{
    char full[PATH_MAX];
    const char *slash = f->relative[0] ? "/" : "";
    int n = snprintf(r->path, sizeof r->path, "%s%simages/%s.jpg", f->relative, slash, id);
    if (n < PATH_MAX && snprintf(full, sizeof full, "%s/%s", r->root, r->path) < PATH_MAX &&
        !su_file_exists(full) && r->source[0]) {
        char older[PATH_MAX];
        if (snprintf(older, sizeof older, "%s%simages/%s", f->relative, slash, r->source) < PATH_MAX &&
            snprintf(full, sizeof full, "%s/%s", r->root, older) < PATH_MAX && su_file_exists(full))
            memcpy(r->path, older, sizeof older);
    }
}

static void take_caption(roco_source *r, const roco_folder *f, char *line)
{
    r->item = (su_import_item){.id = "",
                               .text = "",
                               .group = "",
                               .split = f->split,
                               .licence = "",
                               .source = "",
                               .files = r->files,
                               .line = r->line};
    r->files[0] = "";
    char *tab = strchr(line, '\t');
    if (!tab || tab == line) {
        r->item.reason = "bad-row";
        r->item.detail = "the line is not 'ID <tab> caption'";
        return;
    }
    *tab = '\0';
    r->item.id = line;
    r->item.text = tab + 1;
    const origin *o = find_origin(f, line);
    r->article[0] = r->source[0] = '\0';
    if (o) {
        snprintf(r->article, sizeof r->article, "%.*s", o->article_length, o->article);
        bool whole = !strncmp(o->file, r->article, strlen(r->article));
        snprintf(r->source, sizeof r->source, "%s%s%.400s", whole ? "" : r->article, whole ? "" : "_",
                 o->file);
        r->item.licence = o->licence;
    }
    r->item.group = r->article;
    r->item.source = r->source;
    name_image(r, f, line);
    r->files[0] = r->path;
}

static su_status next_figure(void *self, const su_import_item **item, su_error *err)
{
    roco_source *r = self;
    (void)err;
    *item = NULL;
    while (r->current < r->count) {
        roco_folder *f = &r->folders[r->current];
        if (!r->at) r->at = f->captions;
        while (*r->at) {
            char *line = cut_line(&r->at);
            r->line++;
            if (!line[0]) continue;
            take_caption(r, f, line);
            *item = &r->item;
            return SU_OK;
        }
        r->current++;
        r->at = NULL;
        r->line = 0;
    }
    return SU_OK;
}

su_status su_import_roco(const char *folder, const char *out, const su_import_options *options, su_error *err)
{
    static const char *const streams[] = {"image"};
    roco_source *r = su_calloc(1, sizeof *r);
    json_t *description = json_object();
    su_status s = r && description ? SU_OK : su_fail(err, SU_ENOMEM, "%s: no memory to import it", folder);
    if (!s) {
        r->root = folder;
        s = find_folders(r, err);
    }
    for (int i = 0; !s && i < r->count; i++) {
        s = load_folder(r, &r->folders[i], description, err);
        if (!s && !options->split_by_group && !r->folders[i].split[0])
            s = su_fail(
                err, SU_EINVAL,
                "%s: its name is not train, validation or test, so it has no official split; use the split "
                "by article",
                folder);
    }
    if (!s) {
        su_import_source source = {.kind = "roco",
                                   .description = description,
                                   .folder = folder,
                                   .streams = streams,
                                   .image_streams = 1,
                                   .total = r->items,
                                   .next = next_figure,
                                   .self = r};
        s = su_import_run(&source, out, options, err);
    }
    for (int i = 0; r && i < r->count; i++) {
        su_free(r->folders[i].captions);
        su_free(r->folders[i].licences);
        su_free(r->folders[i].dlinks);
        su_free(r->folders[i].origins);
    }
    su_free(r);
    json_decref(description);
    return s;
}
