/* Makes small packed datasets, sample by sample, without an importer: the tests say what is in them. */
#ifndef SU_TESTS_PACKED_H
#define SU_TESTS_PACKED_H

#include "base/checksum.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/rng.h"
#include "base/safetensors.h"
#include "datasets/dataset.h"
#include "datasets/phash.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PACKED_SIZE = 32, PACKED_MAX = 16, PACKED_BYTES = PACKED_SIZE * PACKED_SIZE };

typedef struct {
    const char *id, *group, *split, *text;
    uint64_t picture; /* which picture; 0: one grey level */
    double gain;      /* brightness, 1: as it is */
} packed_sample;

/* Soft blobs at places that the picture's number decides: structure at every scale that the hash looks at. */
static inline void packed_picture(uint64_t number, double gain, uint8_t pixels[PACKED_BYTES])
{
    enum { BLOBS = 24 };
    su_rng_key key = {.seed = number};
    for (int y = 0; y < PACKED_SIZE; y++)
        for (int x = 0; x < PACKED_SIZE; x++) {
            double v = 90;
            for (uint64_t b = 0; number && b < BLOBS; b++) {
                double dx = x - PACKED_SIZE * su_rng_uniform(key, 4 * b);
                double dy = y - PACKED_SIZE * su_rng_uniform(key, 4 * b + 1);
                double width = 1 + 5 * su_rng_uniform(key, 4 * b + 2);
                v += 90 * (su_rng_uniform(key, 4 * b + 3) - 0.4) *
                     exp(-(dx * dx + dy * dy) / (2 * width * width));
            }
            v *= gain;
            pixels[y * PACKED_SIZE + x] = (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
        }
}

static inline char *packed_path(const char *folder, const char *name)
{
    char *path = su_path_join(folder, name);
    if (!path) abort();
    return path;
}

static inline void packed_write(const char *folder, const char *name, const char *content)
{
    char *path = packed_path(folder, name);
    if (su_file_write(path, content, strlen(content), NULL)) abort();
    su_free(path);
}

static inline json_t *packed_entry(const char *folder, const char *name)
{
    char hex[SU_SHA256_HEX], *path = packed_path(folder, name);
    if (su_sha256_file(path, hex, NULL)) abort();
    su_free(path);
    return json_pack("{s:s,s:s}", "file", name, "sha256", hex);
}

/* Two shards when there are two samples or more, so that looking one up is tested too. */
static inline json_t *packed_shard(const char *folder, int number, const packed_sample *samples, int count)
{
    static uint8_t pixels[PACKED_MAX * PACKED_BYTES];
    char name[64];
    snprintf(name, sizeof name, "image-%05d.safetensors", number);
    for (int i = 0; i < count; i++)
        packed_picture(samples[i].picture, samples[i].gain, pixels + (size_t)i * PACKED_BYTES);
    su_tensor_view view = {.name = "pixels",
                           .dtype = SU_DTYPE_U8,
                           .rank = 4,
                           .shape = {count, PACKED_SIZE, PACKED_SIZE, 1},
                           .data = pixels,
                           .bytes = (size_t)count * PACKED_BYTES};
    char *path = packed_path(folder, name);
    if (su_safetensors_write(path, &view, 1, NULL, NULL)) abort();
    su_free(path);
    json_t *entry = packed_entry(folder, name);
    json_object_set_new(entry, "stream", json_string("image"));
    json_object_set_new(entry, "samples", json_integer(count));
    return entry;
}

static inline char *packed_record(const packed_sample *s)
{
    uint8_t pixels[PACKED_BYTES];
    char hex[SU_SHA256_HEX], phash[17];
    uint64_t hash = 0;
    packed_picture(s->picture, s->gain, pixels);
    su_sha256_hex(pixels, sizeof pixels, hex);
    bool good = su_phash(&(su_patch){pixels, PACKED_SIZE, PACKED_SIZE, 1, PACKED_SIZE}, &hash);
    snprintf(phash, sizeof phash, "%016" PRIx64, hash);
    json_t *o =
        json_pack("{s:s,s:s,s:s,s:s,s:{s:{s:i,s:i,s:i,s:s,s:s?}}}", "id", s->id, "group", s->group, "split",
                  s->split, "text", s->text, "images", "image", "width", (int)PACKED_SIZE, "height",
                  (int)PACKED_SIZE, "channels", 1, "sha256", hex, "phash", good ? phash : NULL);
    char *line = json_dumps(o, JSON_COMPACT);
    json_decref(o);
    return line;
}

/* A new folder under the temporary one with the dataset in it; the manifest is returned too when asked for. */
static inline char *packed_make(const packed_sample *samples, int count, json_t **manifest_out)
{
    const char *base = getenv("TMPDIR");
    char pattern[512];
    snprintf(pattern, sizeof pattern, "%s/suture-packed-XXXXXX", base ? base : "/tmp");
    char *folder = su_strdup(mkdtemp(pattern));
    int half = count > 1 ? count / 2 : count;
    json_t *shards = json_array(), *splits = json_object();
    json_array_append_new(shards, packed_shard(folder, 0, samples, half));
    if (half < count) json_array_append_new(shards, packed_shard(folder, 1, samples + half, count - half));
    su_buffer records;
    su_buffer_init(&records, 1 << 20);
    for (int i = 0; i < count; i++) {
        char *line = packed_record(&samples[i]);
        su_buffer_printf(&records, NULL, "%s\n", line);
        free(line);
        json_int_t n = json_integer_value(json_object_get(splits, samples[i].split));
        json_object_set_new(splits, samples[i].split, json_integer(n + 1));
    }
    packed_write(folder, "records.jsonl", records.data);
    packed_write(folder, "skipped.jsonl", "");
    su_buffer_free(&records);
    json_t *manifest = json_pack(
        "{s:s,s:[s,s],s:{s:i,s:i,s:s,s:s},s:i,s:o,s:o,s:o,s:o}", "schema", "suture.dataset/1", "streams",
        "image", "text", "recipe", "size", (int)PACKED_SIZE, "channels", 1, "fit", "pad", "resample",
        "bicubic-antialias/1", "samples", count, "splits", splits, "shards", shards, "records",
        packed_entry(folder, "records.jsonl"), "skipped", packed_entry(folder, "skipped.jsonl"));
    char *path = packed_path(folder, "manifest.json");
    if (!manifest || su_json_write(path, manifest, NULL)) abort();
    su_free(path);
    if (manifest_out)
        *manifest_out = manifest;
    else
        json_decref(manifest);
    return folder;
}

static inline void packed_remove(char *folder)
{
    static const char *const names[] = {"manifest.json", "records.jsonl", "skipped.jsonl",
                                        "image-00000.safetensors", "image-00001.safetensors"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *path = packed_path(folder, names[i]);
        unlink(path);
        su_free(path);
    }
    rmdir(folder);
    su_free(folder);
}

#endif
