#include "base/json.h"
#include "base/file.h"
#include "tests/base/scratch.h"

static json_t *parsed(const char *text)
{
    json_t *root;
    su_error err = {0};
    if (su_json_parse(text, strlen(text), "c.json", &root, &err)) fail_msg("%s", err.message);
    return root;
}

static void assert_refused(const char *text, su_status code, const char *part)
{
    json_t *root;
    su_error err = {0};
    assert_int_equal(su_json_parse(text, strlen(text), "c.json", &root, &err), code);
    assert_null(root);
    assert_contains(err.message, part);
}

static void a_mistake_is_named_by_file_line_and_column(void **state)
{
    (void)state;
    assert_refused("{\n \"a\": 1,\n}", SU_EFORMAT, "c.json: line 3, column 1: ");
    assert_refused("", SU_EFORMAT, "c.json: line 1");
    assert_refused("{} x", SU_EFORMAT, "c.json: line 1");
    assert_refused("{\"a\":\"\xff\"}", SU_EFORMAT, "UTF-8");
    assert_refused("{\"a\":1,\"b\":2,\"a\":3}", SU_EFORMAT, "duplicate");
}

static void the_text_around_a_mistake_is_not_quoted(void **state)
{
    (void)state;
    json_t *root;
    su_error err = {0};
    static const char text[] = "{\"report\": \"Jane Doe has near pneumonia\" \"Roe\"}";
    assert_int_equal(su_json_parse(text, strlen(text), "c.json", &root, &err), SU_EFORMAT);
    assert_null(strstr(err.message, "Roe"));
    assert_null(strstr(err.message, "Doe"));
}

static void a_deep_nest_meets_a_limit(void **state)
{
    (void)state;
    enum { DEEP = 100000 };
    char *text = su_alloc(DEEP + 1, 1);
    memset(text, '[', DEEP);
    text[DEEP] = '\0';
    assert_refused(text, SU_ELIMIT, "c.json");
    su_free(text);
}

static void a_byte_order_mark_is_skipped(void **state)
{
    (void)state;
    json_decref(parsed("\xEF\xBB\xBF{\"a\":1}"));
}

static void members_are_typed_and_ranged(void **state)
{
    (void)state;
    json_t *o = parsed("{\"s\":\"text\",\"i\":7,\"x\":0.5,\"b\":true,\"n\":null}");
    const char *s;
    int64_t i;
    double x;
    bool b;
    su_error err = {0};
    assert_int_equal(su_json_string(o, "s", "c.json", &s, &err), SU_OK);
    assert_string_equal(s, "text");
    assert_int_equal(su_json_int(o, "i", "c.json", 0, 7, &i, &err), SU_OK);
    assert_int_equal(i, 7);
    assert_int_equal(su_json_number(o, "x", "c.json", &x, &err), SU_OK);
    assert_true(x == 0.5);
    assert_int_equal(su_json_number(o, "i", "c.json", &x, &err), SU_OK);
    assert_true(x == 7.0);
    assert_int_equal(su_json_bool(o, "b", "c.json", &b, &err), SU_OK);
    assert_true(b);

    assert_int_equal(su_json_int(o, "i", "c.json", 8, 9, &i, &err), SU_EFORMAT);
    assert_string_equal(err.message, "c.json: \"i\" is 7, outside 8 to 9");
    assert_int_equal(su_json_int(o, "x", "c.json", 0, 9, &i, &err), SU_EFORMAT);
    assert_string_equal(err.message, "c.json: \"x\" is a number, where an integer is needed");
    assert_int_equal(su_json_string(o, "n", "c.json", &s, &err), SU_EFORMAT);
    assert_int_equal(su_json_number(o, "s", "c.json", &x, &err), SU_EFORMAT);
    assert_int_equal(su_json_bool(o, "i", "c.json", &b, &err), SU_EFORMAT);
    assert_int_equal(su_json_string(o, "absent", "c.json", &s, &err), SU_EFORMAT);
    assert_string_equal(err.message, "c.json: \"absent\" is missing (a string)");
    json_decref(o);
}

static void a_fallback_stands_in_for_a_missing_member_only(void **state)
{
    (void)state;
    json_t *o = parsed("{\"wrong\":[]}"), *list = parsed("[]");
    const char *s;
    int64_t i;
    double x;
    bool b;
    su_error err = {0};
    assert_int_equal(su_json_string_or(o, "a", "c", "d", &s, &err), SU_OK);
    assert_string_equal(s, "d");
    assert_int_equal(su_json_int_or(o, "a", "c", 0, 1, 5, &i, &err), SU_OK);
    assert_int_equal(i, 5);
    assert_int_equal(su_json_number_or(o, "a", "c", 1.5, &x, &err), SU_OK);
    assert_true(x == 1.5);
    assert_int_equal(su_json_bool_or(o, "a", "c", true, &b, &err), SU_OK);
    assert_true(b);
    assert_int_equal(su_json_string_or(o, "wrong", "c", "d", &s, &err), SU_EFORMAT);
    assert_int_equal(su_json_int_or(o, "wrong", "c", 0, 1, 5, &i, &err), SU_EFORMAT);
    assert_int_equal(su_json_number_or(o, "wrong", "c", 1.5, &x, &err), SU_EFORMAT);
    assert_int_equal(su_json_bool_or(o, "wrong", "c", true, &b, &err), SU_EFORMAT);
    assert_int_equal(su_json_bool_or(list, "a", "c", true, &b, &err), SU_EFORMAT); /* no object at all */
    json_decref(o);
    json_decref(list);
}

static void a_mistyped_key_is_an_error_with_a_suggestion(void **state)
{
    (void)state;
    static const char *const known[] = {"epochs", "batch", NULL};
    json_t *o = parsed("{\"batch\":1,\"epoch\":2}"), *odd = parsed("{\"zebra\":1}"),
           *good = parsed("{\"batch\":1}");
    su_error err = {0};
    assert_int_equal(su_json_only(o, known, "c.json", &err), SU_EINVAL);
    assert_string_equal(err.message, "c.json: \"epoch\" is not known here; did you mean \"epochs\"?");
    assert_int_equal(su_json_only(odd, known, "c.json", &err), SU_EINVAL);
    assert_string_equal(err.message, "c.json: \"zebra\" is not known here");
    assert_int_equal(su_json_only(good, known, "c.json", &err), SU_OK);
    json_decref(o);
    json_decref(odd);
    json_decref(good);
}

static void what_is_written_is_read_back(void **state)
{
    (void)state;
    json_t *o = parsed("{\"b\":[1,2.5,\"\\u00e9\"],\"a\":{}}"), *back;
    su_error err = {0};
    assert_int_equal(su_json_write(at("o.json"), o, &err), SU_OK);
    const char *text = text_of(at("o.json"));
    assert_true(strstr(text, "\"a\"") < strstr(text, "\"b\""));
    assert_int_equal(text[strlen(text) - 1], '\n');
    assert_int_equal(su_json_read(at("o.json"), 1000, &back, &err), SU_OK);
    assert_true(json_equal(o, back));
    json_decref(back);
    assert_int_equal(su_json_read(at("o.json"), 5, &back, &err), SU_ELIMIT);
    assert_int_equal(su_json_read(at("none.json"), 5, &back, &err), SU_ENOTFOUND);
    json_decref(o);
}

static void a_full_device_is_an_error(void **state)
{
    (void)state;
    su_error err = {0};
    const char *full = full_device();
    json_t *o = parsed("{}");
    assert_int_equal(su_json_write(full, o, &err), SU_EIO);
    json_decref(o);
}

static void the_hash_depends_on_the_content_only(void **state)
{
    (void)state;
    json_t *a = parsed("{\"b\": 1, \"a\": {\"d\": 2, \"c\": 3}}"),
           *b = parsed("{\"a\":{\"c\":3,\"d\":2},\"b\":1}"), *c = parsed("{\"a\":{\"c\":3,\"d\":2},\"b\":2}");
    char x[65], y[65], z[65];
    assert_int_equal(su_json_sha256(a, x, NULL), SU_OK);
    assert_int_equal(su_json_sha256(b, y, NULL), SU_OK);
    assert_int_equal(su_json_sha256(c, z, NULL), SU_OK);
    assert_string_equal(x, y);
    assert_string_not_equal(x, z);
    /* printf '{"a":{"c":3,"d":2},"b":1}' | sha256sum */
    assert_string_equal(x, "78d48859c3252943aab7306f76c80f3f07783582e05ab8f944ce0696f2dbfc67");
    json_decref(a);
    json_decref(b);
    json_decref(c);
}

typedef struct {
    int64_t numbers[8], sum;
    int count, stop_at;
} walk;

static su_status on_line(void *context, int64_t number, json_t *object, su_error *err)
{
    walk *w = context;
    int64_t v;
    su_status st = su_json_int(object, "v", "lines", 0, 100, &v, err);
    if (st) return st;
    w->numbers[w->count++] = number;
    w->sum += v;
    return w->count == w->stop_at ? su_fail(err, SU_EINTERRUPTED, "stop") : SU_OK;
}

static void lines_come_in_order_with_their_numbers(void **state)
{
    (void)state;
    walk w = {0};
    su_error err = {0};
    put_text(at("l"), "\xEF\xBB\xBF{\"v\":1}\r\n\n  \t\n{\"v\":2}\n{\"v\":4}");
    assert_int_equal(su_jsonl_read(at("l"), on_line, &w, &err), SU_OK);
    assert_int_equal(w.count, 3);
    assert_int_equal(w.sum, 7);
    assert_int_equal(w.numbers[0], 1);
    assert_int_equal(w.numbers[1], 4);
    assert_int_equal(w.numbers[2], 5);
    w = (walk){.stop_at = 2};
    assert_int_equal(su_jsonl_read(at("l"), on_line, &w, &err), SU_EINTERRUPTED);
    assert_int_equal(w.count, 2);
    put_text(at("l"), "");
    assert_int_equal(su_jsonl_read(at("l"), on_line, &w, &err), SU_OK);
    assert_int_equal(su_jsonl_read(at("none"), on_line, &w, &err), SU_ENOTFOUND);
    assert_int_equal(su_jsonl_read(scratch, on_line, &w, &err), SU_EIO);
}

static void a_bad_line_is_named(void **state)
{
    (void)state;
    walk w = {0};
    su_error err = {0};
    put_text(at("l"), "{\"v\":1}\n{\"v\":\n");
    assert_int_equal(su_jsonl_read(at("l"), on_line, &w, &err), SU_EFORMAT);
    assert_int_equal(err.position, 2);
    assert_contains(err.message, "line 2");
    put_text(at("l"), "{\"v\":1}\n\n[1]\n");
    assert_int_equal(su_jsonl_read(at("l"), on_line, &w, &err), SU_EFORMAT);
    assert_int_equal(err.position, 3);
    assert_contains(err.message, "line 3: is no JSON object");
}

static su_status count_line(void *context, int64_t number, json_t *object, su_error *err)
{
    (void)number, (void)err;
    *(int64_t *)context += (int64_t)json_string_length(json_object_get(object, "t"));
    return SU_OK;
}

static void lines_longer_than_a_read_block_are_whole(void **state)
{
    (void)state;
    FILE *f = fopen(at("long"), "w");
    int64_t expected = 0, found = 0;
    for (int i = 0; i < 40; i++) {
        int n = i * 7919;
        fprintf(f, "{\"t\":\"");
        for (int k = 0; k < n; k++) fputc('a' + k % 26, f);
        fprintf(f, "\"}\n");
        expected += n;
    }
    fclose(f);
    assert_int_equal(su_jsonl_read(at("long"), count_line, &found, NULL), SU_OK);
    assert_int_equal(found, expected);
}

static su_status work_on_json(su_error *err)
{
    json_t *root;
    char hex[65];
    int64_t length = 0;
    su_status st = su_json_read(at("scarce.json"), 1000, &root, err);
    if (st) return st;
    st = su_json_write(at("scarce-copy.json"), root, err);
    if (!st) st = su_json_sha256(root, hex, err);
    json_decref(root);
    if (!st) st = su_jsonl_read(at("scarce.json"), count_line, &length, err);
    return st;
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    put_text(at("scarce.json"), "{\"t\":\"text\",\"list\":[1,2,3,4,5,6,7,8,9],\"o\":{\"a\":1,\"b\":null}}");
    assert_true(fail_every_allocation(work_on_json) > 30);
}

static void a_sealed_document_is_read_back_without_its_seal(void **state)
{
    (void)state;
    json_t *root = json_pack("{s:f,s:s,s:[i,n,b],s:{s:f}}", "x", 0.1, "name", "n\xc3\xa4me", "list", 7, 1,
                             "deep", "y", -1e-300),
           *back = NULL, *raw = NULL;
    assert_int_equal(su_json_write_sealed(at("sealed"), root, NULL), SU_OK);
    assert_null(json_object_get(root, "crc32"));
    assert_int_equal(su_json_read(at("sealed"), 1 << 20, &raw, NULL), SU_OK);
    assert_int_equal(json_string_length(json_object_get(raw, "crc32")), 8);
    assert_int_equal(su_json_read_sealed(at("sealed"), 1 << 20, &back, NULL), SU_OK);
    assert_true(json_equal(root, back));
    json_decref(back);
    assert_int_equal(su_json_write(at("sealed"), root, NULL), SU_OK); /* one without a seal passes */
    assert_int_equal(su_json_read_sealed(at("sealed"), 1 << 20, &back, NULL), SU_OK);
    json_decref(back);
    json_decref(raw);
    json_decref(root);
}

static void every_flipped_bit_of_a_sealed_document_is_noticed_or_changes_nothing(void **state)
{
    (void)state;
    json_t *root = json_pack("{s:f,s:s,s:[i,n]}", "lr", 0.0012, "name", "tiny", "sizes", 128);
    char *data;
    size_t length;
    int noticed = 0;
    assert_int_equal(su_json_write_sealed(at("flip"), root, NULL), SU_OK);
    assert_int_equal(su_file_read(at("flip"), 1 << 20, &data, &length, NULL), SU_OK);
    for (size_t bit = 0; bit < length * 8; bit++) {
        json_t *back = NULL;
        data[bit / 8] = (char)(data[bit / 8] ^ (1 << bit % 8));
        put_bytes(at("flip"), data, length);
        data[bit / 8] = (char)(data[bit / 8] ^ (1 << bit % 8));
        if (su_json_read_sealed(at("flip"), 1 << 20, &back, NULL)) {
            noticed++;
            assert_null(back);
            continue;
        }
        assert_true(json_object_get(back, "lr") && json_number_value(json_object_get(back, "lr")) == 0.0012);
        assert_string_equal(json_string_value(json_object_get(back, "name")), "tiny");
        assert_true(json_equal(json_object_get(back, "sizes"), json_object_get(root, "sizes")));
        json_decref(back);
    }
    assert_true(noticed > (int)length * 6);
    su_free(data);
    json_decref(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_mistake_is_named_by_file_line_and_column),
        cmocka_unit_test(the_text_around_a_mistake_is_not_quoted),
        cmocka_unit_test(a_deep_nest_meets_a_limit),
        cmocka_unit_test(a_byte_order_mark_is_skipped),
        cmocka_unit_test(members_are_typed_and_ranged),
        cmocka_unit_test(a_fallback_stands_in_for_a_missing_member_only),
        cmocka_unit_test(a_mistyped_key_is_an_error_with_a_suggestion),
        cmocka_unit_test(what_is_written_is_read_back),
        cmocka_unit_test(a_full_device_is_an_error),
        cmocka_unit_test(the_hash_depends_on_the_content_only),
        cmocka_unit_test(a_sealed_document_is_read_back_without_its_seal),
        cmocka_unit_test(every_flipped_bit_of_a_sealed_document_is_noticed_or_changes_nothing),
        cmocka_unit_test(lines_come_in_order_with_their_numbers),
        cmocka_unit_test(a_bad_line_is_named),
        cmocka_unit_test(lines_longer_than_a_read_block_are_whole),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
