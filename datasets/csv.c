/* CSV rows; see csv.h.
 *
 * libcsv is fed one line at a time: a row ends only at a line's end, so at most one row comes out of a feed,
 * and the line number of its start is known. */
#include "datasets/csv.h"
#include "base/checksum.h"
#include "base/file.h"
#include "base/memory.h"
#include <csv.h>
#include <string.h>

enum { BLOCK = 1 << 20, PIECE = 1 << 20, BROKEN_MAX = 100 };

struct su_csv {
    char *path;
    su_map map;
    struct csv_parser parser;
    char delimiter;
    size_t at;        /* next byte to feed */
    int64_t line;     /* its line */
    int64_t row_line; /* where the row being read starts; 0: between rows */
    size_t row_at;    /* the same in bytes */
    int broken;       /* rows so far */
    bool ended, ready, too_long, no_memory;
    su_buffer bytes; /* the row's fields, each with a NUL */
    size_t *offsets, *lengths;
    const char **fields;
    int count, room;
    su_csv_row row;
};

/* ---- libcsv's side ---- */

static bool make_room(su_csv *csv)
{
    if (csv->count < csv->room) return true;
    int room = csv->room ? csv->room * 2 : 32;
    size_t *offsets = su_realloc(csv->offsets, (size_t)room, sizeof *offsets);
    if (offsets) csv->offsets = offsets;
    size_t *lengths = su_realloc(csv->lengths, (size_t)room, sizeof *lengths);
    if (lengths) csv->lengths = lengths;
    const char **fields = su_realloc(csv->fields, (size_t)room, sizeof *fields);
    if (fields) csv->fields = fields;
    if (!offsets || !lengths || !fields) return false;
    csv->room = room;
    return true;
}

static void take_field(void *field, size_t length, void *context)
{
    su_csv *csv = context;
    if (csv->too_long || csv->no_memory) return;
    if (!make_room(csv)) {
        csv->no_memory = true;
        return;
    }
    csv->offsets[csv->count] = csv->bytes.length;
    csv->lengths[csv->count] = length;
    su_status s = su_buffer_add(&csv->bytes, field ? field : "", length, NULL);
    if (!s) s = su_buffer_add(&csv->bytes, "", 1, NULL);
    if (s == SU_ELIMIT) csv->too_long = true;
    if (s == SU_ENOMEM) csv->no_memory = true;
    if (!s) csv->count++;
}

static void take_row(int terminator, void *context)
{
    (void)terminator;
    ((su_csv *)context)->ready = true;
}

/* ---- ours ---- */

static size_t line_length(const uint8_t *data, size_t length)
{
    size_t n = 0;
    while (n < length && data[n] != '\n' && data[n] != '\r') n++;
    if (n < length && data[n] == '\r' && n + 1 < length && data[n + 1] == '\n') n++;
    return n < length ? n + 1 : n;
}

static bool is_blank(const uint8_t *data, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (!strchr(" \t\r\n", data[i]) || !data[i]) return false;
    return true;
}

static char find_delimiter(const uint8_t *data, size_t length)
{
    static const char candidates[] = ",;\t";
    size_t best = 0, counts[3] = {0};
    length = line_length(data, length);
    for (size_t i = 0; i < length; i++)
        for (size_t k = 0; k < 3; k++) counts[k] += data[i] == (uint8_t)candidates[k];
    for (size_t k = 1; k < 3; k++)
        if (counts[k] > counts[best]) best = k;
    return candidates[best];
}

/* Reads on from here, between rows. */
static void start(su_csv *csv, size_t at, int64_t line)
{
    csv_free(&csv->parser);
    csv_init(&csv->parser, CSV_APPEND_NULL);
    csv_set_blk_size(&csv->parser, BLOCK); /* it grows by so much at a time, copying what it has */
    csv_set_delim(&csv->parser, (unsigned char)csv->delimiter);
    csv->at = at;
    csv->line = line;
    csv->row_line = 0;
    csv->ended = false;
}

void su_csv_rewind(su_csv *csv)
{
    start(csv, csv->map.length >= 3 && !memcmp(csv->map.data, "\xef\xbb\xbf", 3) ? 3 : 0, 1);
    csv->broken = 0;
}

su_status su_csv_open(const char *path, su_csv **out, su_error *err)
{
    *out = NULL;
    su_csv *csv = su_calloc(1, sizeof *csv);
    if (csv) csv->path = su_strdup(path);
    if (!csv || !csv->path) {
        su_free(csv);
        return su_fail(err, SU_ENOMEM, "%s: no memory to read it", path);
    }
    su_buffer_init(&csv->bytes, SU_CSV_ROW_MAX);
    su_status s = su_map_open(path, &csv->map, err);
    const uint8_t *d = csv->map.data;
    if (!s && csv->map.length >= 2 && ((d[0] == 0xff && d[1] == 0xfe) || (d[0] == 0xfe && d[1] == 0xff)))
        s = su_fail(err, SU_EFORMAT, "%s: is UTF-16; save it as UTF-8", path);
    if (s) {
        su_csv_close(csv);
        return s;
    }
    csv_init(&csv->parser, 0);
    csv->delimiter = find_delimiter(d, csv->map.length);
    su_csv_rewind(csv);
    *out = csv;
    return SU_OK;
}

void su_csv_close(su_csv *csv)
{
    if (!csv) return;
    csv_free(&csv->parser);
    su_map_close(&csv->map);
    su_buffer_free(&csv->bytes);
    su_free(csv->offsets);
    su_free(csv->lengths);
    su_free(csv->fields);
    su_free(csv->path);
    su_free(csv);
}

void su_csv_sha256(const su_csv *csv, char hex[65])
{
    su_sha256_hex(csv->map.data, csv->map.length, hex);
}

/* Feeds the next line, or the next piece of a long one. */
static void feed(su_csv *csv)
{
    const uint8_t *data = csv->map.data + csv->at;
    size_t left = csv->map.length - csv->at, length = line_length(data, left < PIECE ? left : PIECE);
    bool ends = data[length - 1] == '\n' || data[length - 1] == '\r';
    if (data[length - 1] == '\r' && length < left && data[length] == '\n') length++;
    if (!csv->row_line && !is_blank(data, length)) {
        csv->row_line = csv->line;
        csv->row_at = csv->at;
    }
    csv_parse(&csv->parser, data, length, take_field, take_row, csv);
    if (csv_error(&csv->parser) == CSV_ENOMEM) csv->no_memory = true;
    csv->at += length;
    csv->line += ends;
}

/* A row without an end costs its first line only: reading goes on behind it. Each costs up to 32 MiB of
 * reading twice, so their number is bounded. */
static su_status give_broken(su_csv *csv, const char *why, const su_csv_row **row, su_error *err)
{
    int64_t line = csv->row_line;
    if (++csv->broken > BROKEN_MAX)
        return su_fail_at(
            err, SU_ELIMIT, line,
            "%s: more than %d rows, the last one on line %lld, are longer than 16 MiB or open a quote "
            "that is never closed: is it a CSV file?",
            csv->path, (int)BROKEN_MAX, (long long)line);
    start(csv, csv->row_at + line_length(csv->map.data + csv->row_at, csv->map.length - csv->row_at),
          line + 1);
    csv->row = (su_csv_row){.line = line, .broken = why};
    *row = &csv->row;
    return SU_OK;
}

su_status su_csv_next(su_csv *csv, const su_csv_row **row, su_error *err)
{
    *row = NULL;
    csv->count = 0;
    csv->ready = csv->too_long = csv->no_memory = false;
    su_buffer_clear(&csv->bytes);
    bool unclosed = false;
    while (!csv->ready && !csv->ended && !csv->too_long && !csv->no_memory) {
        if (csv->at < csv->map.length)
            feed(csv);
        else {
            csv->ended = true;
            /* libcsv notices an open quote only when it is strict, which earlier rows need not bear. */
            csv_set_opts(&csv->parser, CSV_STRICT | CSV_STRICT_FINI | CSV_APPEND_NULL);
            unclosed = csv_fini(&csv->parser, take_field, take_row, csv) != 0;
        }
        if (csv_get_buffer_size(&csv->parser) > 2 * (size_t)SU_CSV_ROW_MAX) csv->too_long = true;
    }
    if (csv->no_memory)
        return su_fail(err, SU_ENOMEM, "%s: no memory for line %lld", csv->path, (long long)csv->line);
    if (csv->too_long)
        return give_broken(csv, "longer than 16 MiB; does it open a quote that is never closed?", row, err);
    if (unclosed) return give_broken(csv, "a quote that is never closed", row, err);
    if (!csv->ready) return SU_OK;
    for (int i = 0; i < csv->count; i++) csv->fields[i] = csv->bytes.data + csv->offsets[i];
    csv->row = (su_csv_row){csv->row_line, csv->count, csv->fields, csv->lengths, NULL};
    csv->row_line = 0;
    *row = &csv->row;
    return SU_OK;
}
