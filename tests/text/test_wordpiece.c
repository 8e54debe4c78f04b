/* WordPiece against golden files made by Hugging Face's tokenizers (tests/golden/make_wordpiece.py). */
#include "base/checksum.h"
#include "base/file.h"
#include "base/memory.h"
#include "text/wordpiece.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <pthread.h>
#include <cmocka.h>

#define GOLDEN SU_SOURCE_DIR "/tests/golden/"
#define BERT SU_SOURCE_DIR "/datasets/sample/bert-base-uncased-vocab.txt"
#define SPECIAL "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n"

enum { IDS_MAX = 8192 };

static su_wordpiece *bert, *every_code_point;

/* Surrogates too: then the three bytes are invalid. */
static size_t put_utf8(char *out, uint32_t cp)
{
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    size_t n = cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, cp >>= 6) out[i] = (char)(0x80 | (cp & 0x3F));
    static const uint8_t lead[] = {0, 0, 0xC0, 0xE0, 0xF0};
    out[0] = (char)(lead[n] | cp);
    return n;
}

/* The vocabulary "all" of make_wordpiece.py. */
static su_wordpiece *make_every_code_point(void)
{
    char *text = su_alloc(16 << 20, 1), *p = text;
    assert_non_null(text);
    p += sprintf(p, SPECIAL);
    for (uint32_t cp = 1; cp < 0x110000; cp++) {
        if (cp == '\n' || cp == '\r' || (cp >= 0xD800 && cp < 0xE000)) continue;
        p += put_utf8(p, cp);
        *p++ = '\n', *p++ = '#', *p++ = '#';
        p += put_utf8(p, cp);
        *p++ = '\n';
    }
    su_wordpiece *wp;
    su_error err = {0};
    assert_int_equal(su_wordpiece_parse(text, (size_t)(p - text), "every code point", &wp, &err), SU_OK);
    su_free(text);
    return wp;
}

static int set_up(void **state)
{
    (void)state;
    su_error err = {0};
    if (su_wordpiece_open(BERT, &bert, &err)) return print_error("%s\n", err.message), -1;
    every_code_point = make_every_code_point();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    su_wordpiece_free(bert);
    su_wordpiece_free(every_code_point);
    return 0;
}

static char *read_golden(const char *path)
{
    char *text;
    size_t length;
    su_error err = {0};
    if (su_file_read(path, 16 << 20, &text, &length, &err)) fail_msg("%s", err.message);
    return text;
}

static void hostile_texts_give_the_reference_ids(void **state)
{
    (void)state;
    char *golden = read_golden(GOLDEN "wordpiece_hostile.txt"), *save, *field;
    static int32_t ids[IDS_MAX];
    int texts = 0;
    for (char *line = strtok_r(golden, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        if (line[0] == '#') continue;
        char *rest, bytes[8192];
        const su_wordpiece *wp = strcmp(strtok_r(line, " ", &rest), "bert") ? every_code_point : bert;
        const char *hex = strtok_r(NULL, " ", &rest);
        size_t length = 0;
        for (const char *h = hex; h[0] != '-' && h[0]; h += 2)
            bytes[length++] = (char)strtol((char[]){h[0], h[1], '\0'}, NULL, 16);
        /* Exactly as long as the text, so that AddressSanitizer sees a read beyond it. */
        char *text = su_alloc(length, 1);
        memcpy(text, bytes, length);
        int64_t count;
        assert_int_equal(su_wordpiece_encode(wp, text, length, ids, IDS_MAX, &count, NULL), SU_OK);
        su_free(text);
        int64_t at = 0;
        for (; (field = strtok_r(NULL, " ", &rest)); at++)
            if (at >= count || ids[at] != atoi(field))
                fail_msg("token %d of %s: want %s", (int)at, hex, field);
        if (at != count) fail_msg("%d tokens of %s: want %d", (int)count, hex, (int)at);
        texts++;
    }
    assert_int_equal(texts, 2000);
    su_free(golden);
}

static void every_code_point_gives_the_reference_ids(void **state)
{
    (void)state;
    char *golden = read_golden(GOLDEN "wordpiece_codepoints.txt"), *save;
    uint32_t next = 0;
    for (char *line = strtok_r(golden, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        unsigned first, want;
        if (sscanf(line, "%x %x", &first, &want) != 2) continue;
        assert_int_equal(first, next);
        uint32_t crc = 0;
        for (; next < first + 256; next++) {
            char text[8];
            int32_t ids[17];
            int64_t count;
            text[0] = 'a';
            size_t n = 1 + put_utf8(text + 1, next);
            text[n++] = 'b';
            assert_int_equal(su_wordpiece_encode(every_code_point, text, n, ids + 1, 16, &count, NULL),
                             SU_OK);
            ids[0] = (int32_t)count;
            crc = su_crc32(crc, ids, ((size_t)count + 1) * sizeof *ids);
        }
        if (crc != want) fail_msg("a code point of U+%06X..U+%06X differs", first, first + 255);
    }
    assert_int_equal(next, 0x110000);
    su_free(golden);
}

static void a_text_never_becomes_a_control_token(void **state)
{
    (void)state;
    const char *text = "[CLS] [SEP][PAD] [MASK] [UNK] [cls]";
    int32_t ids[64];
    int64_t count;
    su_wordpiece_encode(bert, text, strlen(text), ids, 64, &count, NULL);
    assert_true(count > 18 && count <= 64);
    for (int64_t i = 0; i < count; i++) {
        assert_int_not_equal(ids[i], su_wordpiece_cls(bert));
        assert_int_not_equal(ids[i], su_wordpiece_sep(bert));
        assert_int_not_equal(ids[i], su_wordpiece_pad(bert));
        assert_int_not_equal(ids[i], su_wordpiece_mask(bert));
        assert_int_not_equal(ids[i], su_wordpiece_unk(bert));
    }
}

static void the_count_tells_that_a_text_was_truncated(void **state)
{
    (void)state;
    const char *text = "No pneumothorax.";
    int32_t all[16], some[4] = {-1, -1, -1, -1};
    int64_t count, cut;
    su_wordpiece_encode(bert, text, strlen(text), all, 16, &count, NULL);
    assert_int_equal(count, 8);
    su_wordpiece_encode(bert, text, strlen(text), some, 3, &cut, NULL);
    assert_int_equal(cut, count);
    assert_memory_equal(some, all, 3 * sizeof *all);
    assert_int_equal(some[3], -1);
    su_wordpiece_encode(bert, text, strlen(text), NULL, 0, &cut, NULL);
    assert_int_equal(cut, count);
}

static void a_row_keeps_its_sep_and_is_padded(void **state)
{
    (void)state;
    const char *text = "No pneumothorax.";
    int32_t row[16], all[16], length;
    int64_t count;
    su_wordpiece_encode(bert, text, strlen(text), all, 16, &count, NULL);
    for (int32_t max = 3; max <= 16; max++) {
        assert_int_equal(su_wordpiece_row(bert, text, strlen(text), row, max, &length, NULL), SU_OK);
        assert_int_equal(length, max < count + 2 ? max : count + 2);
        assert_int_equal(row[0], 101);
        assert_memory_equal(row + 1, all, (size_t)(length - 2) * sizeof *all);
        assert_int_equal(row[length - 1], 102);
        for (int32_t i = length; i < max; i++) assert_int_equal(row[i], 0);
    }
    assert_int_equal(su_wordpiece_row(bert, "", 0, row, 3, &length, NULL), SU_OK);
    assert_int_equal(length, 2);
    su_error err = {0};
    assert_int_equal(su_wordpiece_row(bert, text, strlen(text), row, 2, &length, &err), SU_EINVAL);
}

static void check_decode(const int32_t *ids, int64_t count, const char *want)
{
    char *text = su_wordpiece_decode(bert, ids, count);
    assert_string_equal(text, want);
    su_free(text);
}

/* Wanted: what BertTokenizerFast.decode(ids, skip_special_tokens=True) gives. */
static void decode_joins_pieces_and_leaves_special_tokens_out(void **state)
{
    (void)state;
    int32_t row[] = {101,  4003,  18994, 29107, 2135, 1010, 2302, 1052, 2638,
                     2819, 29288, 2527,  2595,  1012, 102,  0,    0};
    check_decode(row, 17, "cardiomegaly, without pneumothorax.");
    check_decode((int32_t[]){2075, 1010, 2075, 100}, 4, "##ing,ing");
    check_decode((int32_t[]){-1, 30522, INT32_MAX, INT32_MIN, 2053}, 5, "no");
    check_decode(NULL, 0, "");
}

static void the_vocabulary_names_itself(void **state)
{
    (void)state;
    assert_int_equal(su_wordpiece_size(bert), 30522);
    assert_int_equal(su_wordpiece_pad(bert), 0);
    assert_int_equal(su_wordpiece_unk(bert), 100);
    assert_int_equal(su_wordpiece_mask(bert), 103);
    for (int32_t id = 0; id < 30522; id++)
        assert_int_equal(su_wordpiece_id(bert, su_wordpiece_token(bert, id)), id);
    assert_null(su_wordpiece_token(bert, -1));
    assert_null(su_wordpiece_token(bert, 30522));
    assert_int_equal(su_wordpiece_id(bert, "pneumothoraxes"), -1);
    assert_int_equal(su_wordpiece_id(bert, ""), -1);
    /* sha256 of the file without its last newline, by sha256sum */
    assert_string_equal(su_wordpiece_sha256(bert),
                        "0f052197aac305fe42f378b5c61554b7bacb34b8be4af83fec2cfdcdffbc9973");
}

static void parse_reads_what_text_wrote(void **state)
{
    (void)state;
    const char *windows =
        "[PAD]\r\n[UNK]\r\n[CLS]\r\n[SEP]\r\n[MASK]\r\n\r\nno\r\n##x\r\r"; /* no newline at the end */
    su_wordpiece *a, *b;
    size_t length;
    assert_int_equal(su_wordpiece_parse(windows, strlen(windows), "windows", &a, NULL), SU_OK);
    const char *text = su_wordpiece_text(a, &length);
    assert_int_equal(length, strlen(SPECIAL "\nno\n##x\n"));
    assert_memory_equal(text, SPECIAL "\nno\n##x\n", length);
    assert_int_equal(su_wordpiece_size(a), 8);
    assert_int_equal(su_wordpiece_parse(text, length, "unix", &b, NULL), SU_OK);
    assert_string_equal(su_wordpiece_sha256(a), su_wordpiece_sha256(b));
    assert_string_equal(su_wordpiece_token(b, 7), "##x");
    su_wordpiece_free(a);
    su_wordpiece_free(b);
}

static void of_two_equal_tokens_the_last_counts(void **state)
{
    (void)state;
    const char *text = SPECIAL "no\nyes\nno\n";
    su_wordpiece *wp;
    int32_t id;
    int64_t count;
    assert_int_equal(su_wordpiece_parse(text, strlen(text), "twice", &wp, NULL), SU_OK);
    su_wordpiece_encode(wp, "no", 2, &id, 1, &count, NULL);
    assert_int_equal(id, 7);
    su_wordpiece_free(wp);
}

static void refuses(const char *text, size_t length, su_status status, const char *says)
{
    su_wordpiece *wp = (su_wordpiece *)1;
    su_error err = {0};
    assert_int_equal(su_wordpiece_parse(text, length, "v.txt", &wp, &err), status);
    assert_null(wp);
    if (!strstr(err.message, says) || strncmp(err.message, "v.txt", 5) != 0) fail_msg("%s", err.message);
}

static void a_file_that_is_no_vocabulary_is_refused(void **state)
{
    (void)state;
    refuses("", 0, SU_EFORMAT, "[PAD]");
    refuses("[PAD]\n[UNK]\n[CLS]\n[MASK]\n", 25, SU_EFORMAT, "[SEP]");
    refuses(SPECIAL "a\xFFz\n", strlen(SPECIAL) + 4, SU_EFORMAT, "line 6");
    refuses(SPECIAL "\xE2\x82", strlen(SPECIAL) + 2, SU_EFORMAT, "line 6");
    refuses(SPECIAL "a\0b\n", strlen(SPECIAL) + 4, SU_EFORMAT, "line 6");
    refuses(SPECIAL "\xED\xA0\x80\n", strlen(SPECIAL) + 4, SU_EFORMAT, "line 6");
    refuses("", (16 << 20) + 1, SU_ELIMIT, "16777216");
    su_wordpiece *wp;
    su_error err = {0};
    assert_int_equal(su_wordpiece_open("/no/such/vocab.txt", &wp, &err), SU_ENOTFOUND);
    assert_non_null(strstr(err.message, "/no/such/vocab.txt"));
}

static void any_allocation_may_fail(void **state)
{
    (void)state;
    su_wordpiece *wp = NULL;
    su_status s = SU_ENOMEM;
    int64_t n = 1;
    for (; s == SU_ENOMEM && n < 100; n++) {
        su_error err = {0};
        su_alloc_fail_after(n);
        s = su_wordpiece_open(BERT, &wp, &err);
        su_alloc_fail_after(0);
        if (s) {
            assert_null(wp);
            assert_true(err.message[0] != '\0');
        }
    }
    assert_int_equal(s, SU_OK);
    assert_true(n > 8);
    su_alloc_fail_after(1);
    char *none = su_wordpiece_decode(wp, (int32_t[]){2053}, 1);
    su_alloc_fail_after(0);
    assert_null(none);
    su_wordpiece_free(wp);
}

typedef struct {
    pthread_t thread;
    uint32_t crc;
} worker;

static void *encode_often(void *context)
{
    worker *w = context;
    for (int i = 0; i < 2000; i++) {
        char text[128];
        int32_t ids[64];
        int64_t count;
        int n =
            snprintf(text, sizeof text, "Caf\xC3\xA9 %d: pneumo%dthorax \xE4\xB8\xAD\xEF\xBF\xBD", i, i % 7);
        su_wordpiece_encode(bert, text, (size_t)n, ids, 64, &count, NULL);
        w->crc = su_crc32(w->crc, ids, (size_t)count * sizeof *ids);
    }
    return NULL;
}

static void eight_threads_give_the_same_ids(void **state)
{
    (void)state;
    worker workers[8] = {0}, alone = {0};
    encode_often(&alone);
    for (int i = 0; i < 8; i++)
        assert_int_equal(pthread_create(&workers[i].thread, NULL, encode_often, &workers[i]), 0);
    for (int i = 0; i < 8; i++) {
        pthread_join(workers[i].thread, NULL);
        assert_int_equal(workers[i].crc, alone.crc);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hostile_texts_give_the_reference_ids),
        cmocka_unit_test(every_code_point_gives_the_reference_ids),
        cmocka_unit_test(a_text_never_becomes_a_control_token),
        cmocka_unit_test(the_count_tells_that_a_text_was_truncated),
        cmocka_unit_test(a_row_keeps_its_sep_and_is_padded),
        cmocka_unit_test(decode_joins_pieces_and_leaves_special_tokens_out),
        cmocka_unit_test(the_vocabulary_names_itself),
        cmocka_unit_test(parse_reads_what_text_wrote),
        cmocka_unit_test(of_two_equal_tokens_the_last_counts),
        cmocka_unit_test(a_file_that_is_no_vocabulary_is_refused),
        cmocka_unit_test(any_allocation_may_fail),
        cmocka_unit_test(eight_threads_give_the_same_ids),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
