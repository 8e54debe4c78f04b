/* Configurations: presets, JSON there and back, and what is refused. */
#include "tests/align/golden.h"
#include "align/config.h"
#include "align/model.h"
#include "base/json.h"

static const char *const presets[] = {"tiny", "small", "base", "eva-g"};

static json_t *parse(const char *text)
{
    json_t *o = json_loads(text, JSON_ALLOW_NUL, NULL);
    if (!o) fail_msg("not JSON: %s", text);
    return o;
}

/* Merges a text into the preset tiny. */
static su_status merge(const char *text, su_train_config *c, su_error *err)
{
    json_t *o = parse(text);
    ok(su_config_preset("tiny", c, err), err);
    su_status st = su_config_merge(o, "c.json", c, err);
    json_decref(o);
    return st;
}

static void every_preset_passes_its_checks_and_its_towers_can_be_built(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof presets / sizeof *presets; i++) {
        su_train_config c;
        su_error err = {0};
        ok(su_config_preset(presets[i], &c, &err), &err);
        assert_string_equal(c.preset, presets[i]);
        assert_string_equal(c.objective.name, "closegap");
        ok(su_config_check(&c, &err), &err);
        su_device *d = check_device(SU_DTYPE_F32, 1);
        for (int s = 0; s < c.model.streams; s++) {
            su_params p; /* the table only: eva-g's weights take 4 GB */
            su_tower *t = NULL;
            su_params_init(&p, d);
            ok(su_tower_new(&c.model.stream[s].tower, "x.", 0, &p, &t, &err), &err);
            assert_true(p.elements > 0 && !p.failed);
            su_tower_free(t);
            su_params_free(&p);
        }
        su_device_close(d);
    }
    su_train_config c;
    su_error err = {0};
    assert_int_equal(su_config_preset("huge", &c, &err), SU_EINVAL);
    for (size_t i = 0; i < sizeof presets / sizeof *presets; i++)
        assert_non_null(strstr(err.message, presets[i]));
}

static void the_published_sizes_have_as_many_parameters_as_in_transformers(void **state)
{
    (void)state;
    /* of transformers' ViTModel and BertModel of these shapes, without their pooling layer */
    static const struct {
        const char *preset;
        int stream;
        int64_t count;
    } known[] = {{"base", 0, 85798656}, {"base", 1, 108891648}, {"eva-g", 0, 1011202432}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        su_train_config c;
        su_error err = {0};
        su_params p;
        su_tower *t = NULL;
        su_device *d = check_device(SU_DTYPE_F32, 1);
        ok(su_config_preset(known[i].preset, &c, &err), &err);
        su_params_init(&p, d);
        ok(su_tower_new(&c.model.stream[known[i].stream].tower, "x.", 0, &p, &t, &err), &err);
        int64_t count = 0;
        for (int64_t j = 0; j < p.count; j++) count += p.items[j].count;
        assert_int_equal(count, known[i].count);
        su_tower_free(t);
        su_params_free(&p);
        su_device_close(d);
    }
}

static void a_configuration_comes_back_from_json_as_it_was(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof presets / sizeof *presets; i++) {
        su_train_config c, back;
        su_error err = {0};
        ok(su_config_preset(presets[i], &c, &err), &err);
        ok(su_config_objective(i % 2 ? "clip-lt" : "clip-ft", &c.objective, &err), &err);
        c.objective.centroids = SU_CENTROIDS_RAW;
        c.objective.atp_end = 0.25;
        c.objective.cu_from = 0.75;
        c.lr = 0.1; /* no binary fraction */
        c.seed = 1234567890123;
        c.keep_best = false;
        c.micro_batch = 7;
        c.augment.max_rotation = 3.3;
        c.model.recipe = (su_image_recipe){.size = 240, .channels = 3, .crop = true};
        c.model.anchor = 0;
        c.model.stream[0].tower.mean[1] = 0.3;
        c.model.stream[0].tower.act = SU_ACT_QUICK_GELU;
        c.model.stream[0].tower.pooling = SU_POOLING_MEAN;
        c.model.stream[0].tower.start = SU_START_SCALED;
        c.model.stream[1].lr_factor = 0.005;
        snprintf(c.model.stream[1].init, sizeof c.model.stream[1].init, "runs/warm start");
        json_t *json = su_config_json(&c);
        assert_non_null(json);
        ok(su_config_preset("tiny", &back, &err), &err);
        ok(su_config_merge(json, "back", &back, &err), &err);
        json_t *again = su_config_json(&back);
        if (!json_equal(json, again))
            fail_msg("%s\n%s", json_dumps(json, JSON_SORT_KEYS), json_dumps(again, JSON_SORT_KEYS));
        assert_true(back.lr == c.lr && back.seed == c.seed && back.model.anchor == 0);
        assert_true(back.model.stream[0].tower.mean[1] == 0.3);
        assert_int_equal(back.objective.centroids, SU_CENTROIDS_RAW);
        assert_int_equal(back.model.stream[0].tower.start, SU_START_SCALED);
        assert_int_equal(back.model.stream[1].tower.start, SU_START_NORMAL);
        json_decref(json);
        json_decref(again);
    }
}

static void members_override_and_the_rest_stays(void **state)
{
    (void)state;
    su_train_config c;
    su_error err = {0};
    ok(merge("{\"epochs\": 3, \"objective\": {\"name\": \"clip-lt\", \"temperature\": 0.05},"
             " \"model\": {\"dim\": 64, \"streams\": [{\"width\": 96}, {}]}}",
             &c, &err),
       &err);
    assert_int_equal(c.epochs, 3);
    assert_int_equal(c.batch, 128);
    assert_true(c.objective.learn_temperature && c.objective.temperature == 0.05 &&
                c.objective.lambda_cu == 0);
    assert_int_equal(c.model.dim, 64);
    assert_int_equal(c.model.stream[0].tower.width, 96);
    assert_int_equal(c.model.stream[0].tower.depth, 4);
    assert_int_equal(c.model.stream[1].tower.width, 128);
    assert_string_equal(c.model.stream[1].name, "text");
    ok(merge("{\"preset\": \"small\", \"batch\": 32}", &c, &err), &err);
    assert_int_equal(c.model.stream[0].tower.width, 384);
    assert_int_equal(c.batch, 32);
    ok(merge("{\"model\": {\"anchor\": \"text\", \"streams\": ["
             "{\"name\": \"frontal\"}, {\"name\": \"lateral\", \"kind\": \"vit\"}, {\"name\": \"text\", "
             "\"kind\": \"bert\"}]}}",
             &c, &err),
       &err);
    ok(su_config_check(&c, &err), &err);
    assert_int_equal(c.model.streams, 3);
    assert_int_equal(c.model.anchor, 2);
    assert_int_equal(c.model.stream[1].tower.kind, SU_TOWER_VIT);
    assert_int_equal(c.model.stream[2].tower.kind, SU_TOWER_BERT);
}

static void unknown_members_are_refused_with_a_suggestion(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"{\"epoch\": 3}", "epochs"},
        {"{\"wieght_decay\": 0.1}", "weight_decay"},
        {"{\"objective\": {\"lamda_cu\": 1}}", "lambda_cu"},
        {"{\"augment\": {\"rotation\": 1}}", "rotation"},
        {"{\"model\": {\"dims\": 1}}", "dim"},
        {"{\"model\": {\"streams\": [{\"widht\": 8}, {}]}}", "width"},
        {"{\"model\": {\"streams\": [{}, {\"patch\": 8}]}}", "patch"}, /* a ViT's, in a BERT */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        su_train_config c;
        su_error err = {0};
        assert_int_equal(merge(cases[i][0], &c, &err), SU_EINVAL);
        if (!strstr(err.message, cases[i][1]) || !strstr(err.message, "c.json"))
            fail_msg("%s: %s", cases[i][0], err.message);
    }
}

static void values_out_of_range_are_refused_by_name(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"{\"epochs\": 0}", "epochs"},
        {"{\"epochs\": 1.5}", "epochs"},
        {"{\"batch\": 1}", "batch"},
        {"{\"lr\": -1}", "lr"},
        {"{\"lr\": \"fast\"}", "lr"},
        {"{\"beta2\": 1}", "beta2"},
        {"{\"holdout\": 0.9}", "holdout"},
        {"{\"keep_best\": 1}", "keep_best"},
        {"{\"preset\": \"giant\"}", "giant"},
        {"{\"objective\": {\"name\": \"clip\"}}", "clip"},
        {"{\"objective\": {\"temperature\": 0}}", "temperature"},
        {"{\"objective\": {\"centroids\": \"cooked\"}}", "cooked"},
        {"{\"augment\": {\"min_area\": 0}}", "min_area"},
        {"{\"model\": {\"anchor\": \"sound\"}}", "sound"},
        {"{\"model\": {\"streams\": []}}", "streams"},
        {"{\"model\": {\"streams\": [{\"kind\": \"cnn\"}, {}]}}", "cnn"},
        {"{\"model\": {\"streams\": [{\"pooling\": \"max\"}, {}]}}", "max"},
        {"{\"model\": {\"streams\": [{\"activation\": \"relu\"}, {}]}}", "relu"},
        {"{\"model\": {\"streams\": [{\"mean\": []}, {}]}}", "mean"},
        {"{\"model\": {\"streams\": [{\"std\": [0, 1, 1]}, {}]}}", "std"},
        {"{\"model\": {\"streams\": [3, {}]}}", "stream"},
        {"{\"model\": {\"streams\": [{\"channels\": 4}, {}]}}", "channels"},
        {"[]", "object"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        su_train_config c;
        su_error err = {0};
        if (merge(cases[i][0], &c, &err) == SU_OK) fail_msg("%s was accepted", cases[i][0]);
        if (!strstr(err.message, cases[i][1])) fail_msg("%s: %s", cases[i][0], err.message);
    }
}

static void combinations_that_cannot_be_are_refused(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"{\"model\": {\"streams\": [{\"heads\": 5}, {}]}}", "heads"},
        {"{\"model\": {\"streams\": [{\"name\": \"text\"}, {}]}}", "text"},
        {"{\"model\": {\"streams\": [{\"name\": \"\"}, {}]}}", "name"},
        {"{\"model\": {\"dim\": 0, \"streams\": [{\"width\": 64}, {}]}}", "width"},
        {"{\"model\": {\"streams\": [{\"name\": \"image\"}], \"anchor\": \"image\"}}", "two streams"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        su_train_config c;
        su_error err = {0};
        ok(merge(cases[i][0], &c, &err), &err);
        assert_int_equal(su_config_check(&c, &err), SU_EINVAL);
        if (!strstr(err.message, cases[i][1])) fail_msg("%s: %s", cases[i][0], err.message);
    }
}

static void objectives_are_those_of_the_method(void **state)
{
    (void)state;
    su_objective o;
    su_error err = {0};
    ok(su_config_objective("closegap", &o, &err), &err);
    assert_true(o.lambda_atp == 1 && o.lambda_cu == 1 && o.temperature == 0.07 && !o.learn_temperature);
    ok(su_config_objective("clip-lt", &o, &err), &err);
    assert_true(o.lambda_atp == 0 && o.lambda_cu == 0 && o.temperature == 0.07 && o.learn_temperature);
    ok(su_config_objective("clip-ft", &o, &err), &err);
    assert_true(o.lambda_atp == 0 && o.lambda_cu == 0 && o.temperature == 0.07 && !o.learn_temperature);
    assert_int_equal(su_config_objective("clip", &o, &err), SU_EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_preset_passes_its_checks_and_its_towers_can_be_built),
        cmocka_unit_test(the_published_sizes_have_as_many_parameters_as_in_transformers),
        cmocka_unit_test(a_configuration_comes_back_from_json_as_it_was),
        cmocka_unit_test(members_override_and_the_rest_stays),
        cmocka_unit_test(unknown_members_are_refused_with_a_suggestion),
        cmocka_unit_test(values_out_of_range_are_refused_by_name),
        cmocka_unit_test(combinations_that_cannot_be_are_refused),
        cmocka_unit_test(objectives_are_those_of_the_method),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
