/* All 10,570 SQuAD questions of the shared data folder (environment SUTURE_SHARED, else ../shared beside the
 * checkout): ids and tokens as another implementation published them. Skipped (77) when the folder is not
 * there. */
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "text/wordpiece.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { IDS_MAX = 1024, SKIPPED = 77 };

static char vocab[4096], questions[4096];

typedef struct {
    su_wordpiece *wp;
    int64_t texts;
} context;

static su_status check(void *state, int64_t number, json_t *object, su_error *err)
{
    context *c = state;
    json_t *ids = json_object_get(object, "ids"), *tokens = json_object_get(object, "wordpiece");
    const char *text;
    int32_t got[IDS_MAX];
    int64_t count;
    su_status s = su_json_string(object, "original", questions, &text, err);
    if (!s) s = su_wordpiece_encode(c->wp, text, strlen(text), got, IDS_MAX, &count, err);
    if (s) return s;
    if (count != (int64_t)json_array_size(ids) || count != (int64_t)json_array_size(tokens))
        return su_fail(err, SU_EMISMATCH, "line %d: %d tokens", (int)number, (int)count);
    for (int64_t i = 0; i < count; i++) {
        const char *token = json_string_value(json_array_get(tokens, (size_t)i));
        if (got[i] != json_integer_value(json_array_get(ids, (size_t)i)) ||
            strcmp(su_wordpiece_token(c->wp, got[i]), token) != 0)
            return su_fail(err, SU_EMISMATCH, "line %d: token %d is %d", (int)number, (int)i, (int)got[i]);
    }
    c->texts++;
    return SU_OK;
}

static void all_squad_questions_give_the_published_ids_and_tokens(void **state)
{
    (void)state;
    su_error err = {0};
    context c = {0};
    if (su_wordpiece_open(vocab, &c.wp, &err)) fail_msg("%s", err.message);
    if (su_jsonl_read(questions, check, &c, &err)) fail_msg("%s", err.message);
    assert_int_equal(c.texts, 10570);
    su_wordpiece_free(c.wp);
}

int main(void)
{
    const char *shared = getenv("SUTURE_SHARED");
    if (!shared || !*shared) shared = SU_SOURCE_DIR "/../shared";
    snprintf(vocab, sizeof vocab, "%s/data/vocab/bert-base-uncased-vocab.txt", shared);
    snprintf(questions, sizeof questions, "%s/data/vocab/bert_uncased_squad_questions.jsonl", shared);
    if (!su_file_exists(vocab) || !su_file_exists(questions)) {
        printf("skipped: no %s\n", questions);
        return SKIPPED;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_squad_questions_give_the_published_ids_and_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
