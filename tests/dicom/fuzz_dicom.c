/* The parsers that meet a DICOM file's bytes in this process, or those of a report beside it, on any bytes
 * whatever. Seeds are DICOM and XML files.
 *
 *   gcc     fuzz_dicom COUNT [FIRST] FILE...      COUNT damaged copies of the seeds, numbered from FIRST
 *           fuzz_dicom --inputs FOLDER FILE...    the seeds as inputs, for libFuzzer
 *   clang   -fsanitize=fuzzer,address,undefined -DSU_LIBFUZZER: see docs/testing.md
 *
 * The first byte of an input says which parser the rest is for. */
#include "base/file.h"
#include "base/memory.h"
#include "base/rng.h"
#include "datasets/dicom/report.h"
#include "dicom/codestream.h"
#include "dicom/decode.h"
#include "dicom/decoder/j2k_reversible.h"
#include "dicom/display.h"
#include "dicom/fragments.h"
#include "dicom/jls_grey.h"
#include "dicom/rle.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SCAN, OPEN, RLE, GREY, CODESTREAM, UNFOLD, XML, J2K, TARGETS };
enum {
    FRAMES_BEFORE_FILE = 2,
    SIZES_BEFORE_FRAME = 4,
    SIZES_BEFORE_PALETTE = 3
}; /* bytes between the first and the parser's */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds, const char *what)
{
    if (holds) return;
    fprintf(stderr, "fuzz_dicom: does not hold: %s\n", what);
    abort();
}

static uint8_t *copy(const uint8_t *data, size_t size) /* exactly as long, for AddressSanitizer */
{
    uint8_t *p = su_alloc(size ? size : 1, 1);
    must(p, "there is memory");
    memcpy(p, data, size);
    return p;
}

static void check_fragments(su_source *source, const su_scan *scan, int frames)
{
    su_fragments *f = NULL;
    if (su_fragments_read(source, scan, frames, &f, NULL)) return;
    uint64_t sum = 0;
    for (int i = 0; i < frames; i++) {
        must(f->first[i] < f->first[i + 1], "a frame has a fragment");
        const uint64_t length = su_fragments_length(f, i);
        sum += length;
        must(sum <= su_source_length(source), "frames lie in the file, and none twice");
        uint8_t *bytes = su_alloc((size_t)length + 1, 1);
        must(bytes, "there is memory");
        must(!su_fragments_copy(f, i, source, bytes, NULL), "fragments can be read");
        su_free(bytes);
    }
    su_fragments_free(f);
}

static void scan_file(const uint8_t *data, size_t size)
{
    if (size < FRAMES_BEFORE_FILE) return;
    const int frames = 1 + (data[0] | data[1] << 8);
    su_source *source = NULL;
    su_scan scan;
    su_error err = {0};
    must(!su_source_memory("x", copy(data + 2, size - 2), size - 2, &source, NULL), "there is memory");
    const su_status st = su_scan_file(&source, &scan, &err);
    const uint64_t length = su_source_length(source);
    must(!st || strncmp(err.message, "x: ", 3) == 0, "an error names the file");
    if (!st) {
        must(scan.begin <= scan.end && scan.end <= length, "the data set lies in the file");
        must(!scan.kind == !scan.pixels.at, "pixel data are where they are said to be");
        must(scan.pixels.at >= scan.end || !scan.kind, "pixel data lie behind the data set");
        must(scan.pixels.offset <= length, "pixel data begin in the file");
        if (scan.kind && scan.pixels.undefined) check_fragments(source, &scan, frames);
    }
    su_source_close(source);
}

/* By the recipe whose turn it is. */
static void render(su_dicom_file *file, int frame, const su_dicom_frame *decoded, size_t turn)
{
    su_dicom_display_file display;
    su_image image = {0};
    int count = 0;
    double spacing[2];
    const su_dicom_recipe *recipes = su_dicom_recipes(&count);
    if (!su_dicom_display_open(file, frame, &display, NULL) &&
        !su_dicom_render(decoded, &display.show, &recipes[turn % (size_t)count], &image, NULL))
        must(image.width == decoded->columns && image.height == decoded->rows,
             "a picture is of its frame's size");
    su_image_free(&image);
    su_dicom_display_close(&display);
    if (su_dicom_spacing(file, frame, spacing, NULL))
        must(spacing[0] > 0 && spacing[1] > 0, "a spacing is positive");
}

/* All of it: what the scanner calls plain is DCMTK's to read, in this process. */
static void open_file(const uint8_t *data, size_t size)
{
    char path[64];
    const int fd = memfd_create("fuzz", MFD_CLOEXEC);
    su_dicom_file *file = NULL;
    su_dicom_layout layout;
    must(fd >= 0 && write(fd, data, size) == (ssize_t)size, "there is memory");
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (!su_dicom_open(path, &file, NULL) && !su_dicom_layout_read(file, &layout, NULL) &&
        layout.frame_bytes < 1 << 18) {
        su_dicom_pixels first, last, none;
        if (!su_dicom_decode(file, 0, &first, NULL)) {
            su_dicom_pixels_mask(&first);
            render(file, 0, &first.frame, size);
        }
        if (!su_dicom_decode(file, layout.frames - 1, &last, NULL)) su_dicom_pixels_mask(&last);
        must(su_dicom_decode(file, layout.frames, &none, NULL) == SU_ENOTFOUND, "there is no frame more");
        su_dicom_pixels_free(&first);
        su_dicom_pixels_free(&last);
        su_dicom_overlays(file);
    }
    if (file) {
        char *text = NULL;
        if (!su_report_of_sr(su_dicom_dataset(file), &text, NULL))
            must(strlen(text) < SU_REPORT_MAX, "a report has an end");
        su_free(text);
    }
    su_dicom_close(file);
    close(fd);
}

/* What is decoded to the end, and what is given up on the way, is the same each time. */
static void decode_j2k(const uint8_t *frame, size_t length, int32_t rows, int32_t columns, int samples)
{
    const size_t values = (size_t)samples * (size_t)(rows * columns);
    int32_t *planes[2];
    su_status st[2];
    for (int k = 0; k < 2; k++) {
        su_j2k_component component[SU_J2K_COMPONENTS_MAX];
        planes[k] = su_calloc(values, sizeof(int32_t));
        must(planes[k], "there is memory");
        st[k] = su_j2k_reversible_decode(frame, length, rows, columns, samples, planes[k], component);
        for (int i = 0; i < samples && !st[k]; i++)
            must(component[i].precision >= 1 && component[i].precision <= 24, "a component has its bits");
    }
    must(st[0] == st[1] && memcmp(planes[0], planes[1], values * sizeof(int32_t)) == 0,
         "the same bytes give the same pixels");
    su_free(planes[0]);
    su_free(planes[1]);
}

/* Rows, columns, samples and bytes, then a compressed frame. */
static void decode_frame(int target, const uint8_t *data, size_t size)
{
    if (size < SIZES_BEFORE_FRAME) return;
    const int32_t rows = data[0] + 1, columns = data[1] + 1;
    const int samples = data[2] % 3 + 1, bytes = 1 << data[3] % 3;
    const size_t length = size - SIZES_BEFORE_FRAME, pixels = (size_t)(rows * columns);
    uint8_t *frame = copy(data + SIZES_BEFORE_FRAME, length);
    if (target == CODESTREAM) {
        su_codestream c;
        const su_codec codec = SU_CODEC_JPEG + samples - 1;
        if (!su_codestream_read(codec, frame, length, "x", &c, NULL))
            must(c.begin <= length && c.length <= length - c.begin && c.rows && c.columns &&
                     c.precision <= 255,
                 "a codestream lies in its frame, and has a size");
    } else if (target == J2K) {
        decode_j2k(frame, length, rows, columns, samples);
    } else {
        const size_t values = pixels * (size_t)(target == RLE ? samples : 1);
        uint8_t *out = su_calloc(values, (size_t)bytes), *again = su_calloc(values, (size_t)bytes);
        must(out && again, "there is memory");
        for (int k = 0; k < 2; k++) {
            uint8_t *to = k ? again : out;
            if (target == RLE)
                su_rle_decode(frame, length, pixels, samples, bytes, "x", to, NULL);
            else
                su_jls_grey_decode(frame, length, rows, columns, bytes, "x", to, NULL);
        }
        must(memcmp(out, again, values * (size_t)bytes) == 0, "the same bytes give the same pixels");
        su_free(out);
        su_free(again);
    }
    su_free(frame);
}

/* Bits, entries wanted, then a segmented palette. */
static void unfold(const uint8_t *data, size_t size)
{
    if (size < SIZES_BEFORE_PALETTE) return;
    const int64_t count = (int64_t)(size - SIZES_BEFORE_PALETTE) / 2;
    const int32_t wanted = 1 + (data[1] | data[2] << 8);
    uint16_t *words = (uint16_t *)(void *)copy(data + SIZES_BEFORE_PALETTE, (size_t)count * 2),
             *entries = NULL;
    if (!su_dicom_unfold(words, count, data[0] & 1 ? 8 : 16, wanted, &entries, NULL)) {
        must(entries, "what was unfolded is there");
        for (int32_t i = 0; i < wanted; i++)
            must(entries[i] <= (data[0] & 1 ? 0xff : 0xffff), "an entry has its bits");
    }
    su_free(entries);
    su_free(words);
}

static void read_report(const uint8_t *data, size_t size)
{
    char *bytes = (char *)copy(data, size), *text = NULL;
    su_error err = {0};
    if (su_report_of_xml(bytes, size, "x", &text, &err))
        must(strncmp(err.message, "x: ", 3) == 0, "an error names the file");
    else
        must(strlen(text) <= SU_REPORT_MAX, "a report has an end");
    su_free(text);
    su_free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || data[0] >= TARGETS) return 0;
    if (data[0] == SCAN)
        scan_file(data + 1, size - 1);
    else if (data[0] == OPEN)
        open_file(data + 1, size - 1);
    else if (data[0] == UNFOLD)
        unfold(data + 1, size - 1);
    else if (data[0] == XML)
        read_report(data + 1, size - 1);
    else
        decode_frame(data[0], data + 1, size - 1);
    return 0;
}

#ifndef SU_LIBFUZZER

enum { INPUTS_MAX = 4096, INPUT_BYTES_MAX = 1 << 20 };

typedef struct {
    uint8_t *bytes;
    size_t size;
} input;

static input inputs[INPUTS_MAX];
static int count;

static void add(int target, const uint8_t *head, size_t head_size, const uint8_t *data, size_t size)
{
    if (count == INPUTS_MAX || size > INPUT_BYTES_MAX) return;
    input made = {su_alloc(1 + head_size + size, 1), 1 + head_size + size};
    must(made.bytes, "there is memory");
    made.bytes[0] = (uint8_t)target;
    if (head_size) memcpy(made.bytes + 1, head, head_size);
    memcpy(made.bytes + 1 + head_size, data, size);
    inputs[count++] = made;
}

/* The first frame of a file, for its codec's parser. */
static void add_frame(su_source *source, const su_scan *scan, const su_dicom_layout *l)
{
    static const uint8_t logarithm[] = {0, 0, 1, 0, 2};
    su_fragments *f = NULL;
    if (su_fragments_read(source, scan, l->frames, &f, NULL)) return;
    const uint64_t length = su_fragments_length(f, 0);
    uint8_t *frame = su_alloc((size_t)length + 1, 1);
    const int bytes = l->allocated < 8 ? 1 : l->allocated / 8;
    uint8_t head[SIZES_BEFORE_FRAME] = {(uint8_t)(l->rows - 1), (uint8_t)(l->columns - 1),
                                        (uint8_t)(l->samples - 1), bytes <= 4 ? logarithm[bytes] : 0};
    must(frame && !su_fragments_copy(f, 0, source, frame, NULL), "a seed's frame can be read");
    const su_codec codec = l->syntax->codec;
    if (codec == SU_CODEC_RLE) add(RLE, head, sizeof head, frame, (size_t)length);
    if (codec == SU_CODEC_JPEG_LS && l->samples == 1) add(GREY, head, sizeof head, frame, (size_t)length);
    if (codec == SU_CODEC_JPEG_2000) add(J2K, head, sizeof head, frame, (size_t)length);
    if (codec >= SU_CODEC_JPEG) {
        head[2] = (uint8_t)(codec - SU_CODEC_JPEG);
        add(CODESTREAM, head, sizeof head, frame, length < 512 ? (size_t)length : 512);
    }
    su_free(frame);
    su_fragments_free(f);
}

/* The segmented palettes of a file. */
static void add_palettes(su_dicom_file *file)
{
    static const uint32_t segmented[] = {0x00281221, 0x00281222, 0x00281223};
    for (size_t i = 0; i < sizeof segmented / sizeof *segmented; i++) {
        int64_t n = 0, wanted = 0, bits = 16;
        su_dicom_item *ds = su_dicom_dataset(file);
        const uint16_t *words = su_dicom_words(ds, segmented[i], &n);
        if (!words || !su_dicom_integer(ds, 0x00281101, 0, &wanted)) continue;
        (void)su_dicom_integer(ds, 0x00281101, 2, &bits);
        const uint8_t head[SIZES_BEFORE_PALETTE] = {bits == 8, (uint8_t)(wanted - 1),
                                                    (uint8_t)((wanted - 1) >> 8)};
        add(UNFOLD, head, sizeof head, (const uint8_t *)words, (size_t)n * 2);
    }
}

static void add_file(const char *path)
{
    su_error err = {0};
    char *bytes = NULL;
    size_t size = 0;
    su_source *source = NULL;
    su_scan scan;
    su_dicom_file *file = NULL;
    su_dicom_layout layout = {0};
    if (su_file_read(path, INPUT_BYTES_MAX, &bytes, &size, &err)) {
        fprintf(stderr, "fuzz_dicom: %s\n", err.message);
        exit(1);
    }
    if (size > 4 && strcmp(path + strlen(path) - 4, ".xml") == 0) {
        add(XML, NULL, 0, (const uint8_t *)bytes, size);
        su_free(bytes);
        return;
    }
    if (!su_dicom_open(path, &file, NULL)) {
        su_dicom_layout_read(file, &layout, NULL);
        add_palettes(file);
    }
    const int frames = layout.frames > 0 ? layout.frames - 1 : 0;
    add(SCAN, (const uint8_t[]){(uint8_t)frames, (uint8_t)(frames >> 8)}, FRAMES_BEFORE_FILE,
        (const uint8_t *)bytes, size);
    add(OPEN, NULL, 0, (const uint8_t *)bytes, size);
    if (layout.syntax && layout.fragments && !su_source_open(path, &source, NULL)) {
        if (!su_scan_file(&source, &scan, NULL)) add_frame(source, &scan, &layout);
        su_source_close(source);
    }
    su_dicom_close(file);
    su_free(bytes);
}

/* Damage as it happens and as it is made: bytes and bits changed, numbers made extreme, cut, doubled, moved.
 */
static size_t damage(uint64_t number, const input *seed, uint8_t *out)
{
    static const uint8_t extreme[] = {0, 1, 0x7f, 0x80, 0xfe, 0xff};
    const su_rng_key key = {.seed = number, .layer = 1};
    uint64_t draw = 0;
    size_t n = seed->size;
    memcpy(out, seed->bytes, n);
    for (uint64_t times = 1 + su_rng_below(key, draw++, 6); times > 0; times--) {
        const size_t body = n - 1, at = 1 + (size_t)su_rng_below(key, draw++, body ? body : 1);
        const uint64_t kind = su_rng_below(key, draw++, 6);
        if (at >= n) continue;
        if (kind == 0) {
            out[at] = (uint8_t)su_rng_below(key, draw++, 256);
        } else if (kind == 1) {
            out[at] ^= (uint8_t)(1 << su_rng_below(key, draw++, 8));
        } else if (kind == 2) {
            const uint8_t value = extreme[su_rng_below(key, draw++, sizeof extreme)];
            const size_t most = n - at < 4 ? n - at : 4;
            memset(out + at, value, 1 + su_rng_below(key, draw++, most));
        } else if (kind == 3) {
            n = su_rng_below(key, draw++, 4) ? n : at;
        } else { /* a piece over another, or (5) out of the middle */
            const size_t from = 1 + (size_t)su_rng_below(key, draw++, n - 1);
            const size_t most = n - (from > at ? from : at);
            const size_t length = 1 + (size_t)su_rng_below(key, draw++, most < 64 ? most : 64);
            if (kind == 4) {
                memmove(out + at, out + from, length);
            } else {
                memmove(out + at, out + at + length, n - at - length);
                n -= length;
            }
        }
    }
    return n;
}

static int write_inputs(const char *folder)
{
    char path[4096];
    for (int i = 0; i < count; i++) {
        snprintf(path, sizeof path, "%s/%04d", folder, i);
        FILE *f = fopen(path, "wb");
        if (!f || fwrite(inputs[i].bytes, 1, inputs[i].size, f) != inputs[i].size || fclose(f))
            return fprintf(stderr, "fuzz_dicom: %s cannot be written\n", path), 1;
    }
    printf("%d inputs\n", count);
    return 0;
}

int main(int argc, char **argv)
{
    const bool only_inputs = argc > 2 && strcmp(argv[1], "--inputs") == 0;
    if (argc < 3) return fprintf(stderr, "usage: fuzz_dicom COUNT|--inputs FOLDER [FIRST] FILE...\n"), 2;
    char *end = NULL;
    uint64_t first = only_inputs ? 0 : strtoull(argv[2], &end, 10);
    const bool numbered = end && !*end;
    for (int i = only_inputs || numbered ? 3 : 2; i < argc; i++) add_file(argv[i]);
    if (only_inputs) return write_inputs(argv[2]);
    const uint64_t rounds = strtoull(argv[1], NULL, 10);
    static uint8_t made[INPUT_BYTES_MAX + 8];
    for (int i = 0; i < count; i++) LLVMFuzzerTestOneInput(inputs[i].bytes, inputs[i].size);
    if (!numbered) first = 0;
    for (uint64_t i = first; i < first + rounds && count; i++) {
        const size_t n = damage(i, &inputs[i % (uint64_t)count], made);
        uint8_t *exact = copy(made, n);
        LLVMFuzzerTestOneInput(exact, n);
        su_free(exact);
    }
    for (int i = 0; i < count; i++) su_free(inputs[i].bytes);
    printf("%d seeds, %llu damaged\n", count, (unsigned long long)rounds);
    return 0;
}
#endif
