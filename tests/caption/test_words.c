/* Words: detokenisation, phrases, rows, the captions' own vocabulary. */
#include "tests/align/golden.h"
#include "base/memory.h"
#include "caption/rows.h"
#include "caption/words.h"

#define VOCABULARY SU_SOURCE_DIR "/datasets/sample/bert-base-uncased-vocab.txt"

static su_wordpiece *whole;

static int begin(void **state)
{
    (void)state;
    return su_wordpiece_open(VOCABULARY, &whole, NULL) ? -1 : 0;
}

static int end(void **state)
{
    (void)state;
    su_wordpiece_free(whole);
    return 0;
}

static void captions_come_back_as_people_write_them(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "chest x-ray showing a left-sided pleural effusion.",
        "axial ct scan (with contrast) of the abdomen, showing a mass [arrow].",
        "a 3.5 cm mass; t2-weighted image: hyperintense!",
        "the patient's chest x-ray, day 2",
        "c1/c2 fracture, 50% displaced?",
        "10.25 mm by 1,000 mm",
        "pneumoperitoneum and hydropneumothorax",
        "",
        "na\xc3\xafve \xce\xb1-fetoprotein", /* accents are lost to the vocabulary; the letters stay */
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        int32_t ids[128];
        int64_t n = 0;
        ok(su_wordpiece_encode(whole, texts[i], strlen(texts[i]), ids, 128, &n, NULL), NULL);
        char *text = su_caption_text(whole, ids, (int32_t)n);
        assert_string_equal(text, i == 8 ? "naive \xce\xb1-fetoprotein" : texts[i]);
        su_free(text);
    }
    /* Control tokens leave nothing; a dash between spaces and a lone bracket stay readable. */
    int32_t control[] = {su_wordpiece_cls(whole), su_wordpiece_id(whole, "lung"), su_wordpiece_sep(whole), -1,
                         1 << 29};
    char *text = su_caption_text(whole, control, 5);
    assert_string_equal(text, "lung");
    su_free(text);
}

static void phrases_become_tokens_and_unknown_ones_are_refused(void **state)
{
    (void)state;
    static const char *const words[] = {"pleural effusion", "Arrow"};
    su_phrases p;
    su_error err = {0};
    ok(su_phrases_new(whole, words, 2, true, &p, &err), &err);
    assert_int_equal(p.count, 6);
    assert_int_equal(p.tokens[p.start[0]], su_wordpiece_pad(whole));
    assert_true(p.start[5] - p.start[4] >= 3); /* "pleural" and "effusion" are several pieces each */
    assert_int_equal(p.start[6] - p.start[5], 1);
    assert_int_equal(p.tokens[p.start[5]], su_wordpiece_id(whole, "arrow"));
    su_phrases_free(&p);
    static const char *const bad[] = {"  ", "\xe2\x98\x83\xf0\x9f\xa9\xbb"};
    for (int i = 0; i < 2; i++)
        assert_int_equal(su_phrases_new(whole, &bad[i], 1, false, &p, &err), SU_EINVAL);
}

/* On the texts that made it the small vocabulary gives the whole one's tokens; on others it still finds
 * letters. */
static void the_captions_own_vocabulary_gives_the_same_tokens(void **state)
{
    (void)state;
    static const char *const lines[] = {"Chest X-ray showing hydropneumothorax.",
                                        "Axial T2-weighted image, 3.5 cm mass", "chest radiograph"};
    enum { LINES = 3, MAX = 24 };
    su_texts texts;
    su_wordpiece *used = NULL;
    su_error err = {0};
    ok(su_texts_new(LINES, MAX, &texts, &err), &err);
    for (int i = 0; i < LINES; i++) ok(su_texts_set(&texts, i, whole, lines[i], &err), &err);
    ok(su_vocabulary_used(whole, &texts, &used, &err), &err);
    assert_true(su_wordpiece_size(used) < 400);
    for (int i = 0; i < LINES; i++) {
        int32_t ids[MAX];
        int64_t n = 0;
        ok(su_wordpiece_encode(used, lines[i], strlen(lines[i]), ids, MAX, &n, &err), &err);
        assert_int_equal(n, texts.lengths[i]);
        for (int64_t t = 0; t < n; t++)
            assert_string_equal(su_wordpiece_token(used, ids[t]),
                                su_wordpiece_token(whole, texts.tokens[i * MAX + t]));
    }
    int32_t ids[MAX];
    int64_t n = 0;
    ok(su_wordpiece_encode(used, "zebra", 5, ids, MAX, &n, &err), &err);
    assert_true(n > 1);
    for (int64_t t = 0; t < n; t++) assert_int_not_equal(ids[t], su_wordpiece_unk(used));
    su_texts_free(&texts);
    su_wordpiece_free(used);
}

static void rows_ask_for_the_caption_and_not_for_evidence(void **state)
{
    (void)state;
    enum { CLS = 2, SEP = 3 };
    const int32_t caption[] = {10, 11, 12, 13}, other[] = {20, 21, 22};
    su_evidence_row e;
    su_rows *rows = NULL;
    su_error err = {0};
    ok(su_evidence_row_new(2, 2, &e, &err), &err);
    su_evidence_row_add(&e, other, 3, SEP); /* cut to two */
    su_evidence_row_add(&e, other, 1, SEP);
    assert_int_equal(e.prefix.length, 5);
    ok(su_rows_new(2, e.room, 4, &rows, &err), &err);
    su_rows_add(rows, &e.prefix, caption, 2, CLS, SEP);
    su_rows_add(rows, NULL, caption, 4, CLS, SEP); /* as long as can be: does not learn to end */
    su_decoder_input in = su_rows_input(rows, 0);
    static const int32_t ids[2][8] = {{20, 21, SEP, 20, SEP, CLS, 10, 11}, {CLS, 10, 11, 12, 0, 0, 0, 0}};
    static const int32_t position[2][8] = {{0, 1, 2, 0, 1, 0, 1, 2}, {0, 1, 2, 3, 0, 0, 0, 0}};
    static const int32_t type[2][8] = {{1, 1, 1, 2, 2, 0, 0, 0}, {0}};
    static const int32_t targets[2][8] = {{-1, -1, -1, -1, -1, 10, 11, SEP},
                                          {10, 11, 12, 13, -1, -1, -1, -1}};
    assert_int_equal(in.batch, 2);
    assert_int_equal(in.tokens, 8);
    assert_int_equal(in.lengths[0], 8);
    assert_int_equal(in.lengths[1], 4);
    assert_memory_equal(in.ids, ids, sizeof ids);
    assert_memory_equal(in.position, position, sizeof position);
    assert_memory_equal(in.type, type, sizeof type);
    assert_memory_equal(in.targets, targets, sizeof targets);
    su_rows_free(rows);
    su_evidence_row_free(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(captions_come_back_as_people_write_them),
        cmocka_unit_test(phrases_become_tokens_and_unknown_ones_are_refused),
        cmocka_unit_test(the_captions_own_vocabulary_gives_the_same_tokens),
        cmocka_unit_test(rows_ask_for_the_caption_and_not_for_evidence),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
