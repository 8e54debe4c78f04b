/* cuDNN plans attention, forward and backward, for every shape of the models, on an H200 that is not here: it is
 * described to it. */
#include "tests/nn/check.h"
#include "nn/cuda/dnn_plan.h"

static const char h200[] =
    "{\"deviceVer\":900,\"driverVer\":13000,\"cudaDeviceId\":0,\"deviceName\":\"NVIDIA "
    "H200\",\"maxGridSize\":[2147483647,65535,"
    "65535],\"maxBlockSize\":[1024,1024,64],\"regsPerBlock\":65536,\"multiProcessorCount\":132,\"warpSize\":"
    "32,"
    "\"maxSharedMemoryPerBlock\":49152,\"maxSharedMemoryPerBlockOptin\":232448,"
    "\"reservedSharedMemoryPerBlock\":1024,"
    "\"maxRegistersPerSM\":65536,\"maxCtasPerSM\":32,\"maxThreadsPerBlock\":1024,\"maxThreadsPerSM\":2048,"
    "\"pciDeviceId\":0,"
    "\"isTccDriver\":0,\"supportCoopLaunch\":1,\"totalGlobalMem\":150754820096,\"smClockRateKHz\":1980000,"
    "\"memClockRateKHz\":3201000,\"l2CacheSize\":62914560}";

static su_dnn dnn;

static su_attention attention(int32_t batch, int32_t heads, int32_t dim, int32_t tokens, bool causal)
{
    const int64_t width = (int64_t)heads * dim;
    return (su_attention){.batch = batch,
                          .heads = heads,
                          .dim = dim,
                          .tq = tokens,
                          .tk = tokens,
                          .q_stride = 3 * width,
                          .kv_stride = 3 * width,
                          .o_stride = width,
                          .causal = causal,
                          .scale = 1 / sqrt(dim)};
}

static void every_shape_of_the_models_has_a_plan(void **state)
{
    static const struct {
        int32_t dim, tokens;
        bool causal;
    } shapes[] = {{64, 40, true},   {64, 77, false},  {64, 77, true},   {64, 128, false}, {64, 197, false},
                  {64, 256, false}, {64, 257, false}, {88, 256, false}, {88, 257, false}};
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int backward = 0; backward < 2; backward++) {
            const int32_t dim = shapes[i].dim, tokens = shapes[i].tokens;
            const su_attention a = attention(256, dim == 88 ? 16 : 12, dim, tokens, shapes[i].causal);
            const char *way = backward ? "backward" : "forward";
            su_dnn_plan plan;
            su_error err = {0};
            if (su_dnn_plan_new(&dnn, NULL, h200, &a, backward, &plan, &err))
                fail_msg("heads of %d, %d tokens, %s: %s", dim, tokens, way, err.message);
            print_message("heads of %d, %d tokens, %s%s: %.0f MB of workspace\n", dim, tokens,
                          a.causal ? "causal, " : "", way, (double)plan.workspace / 1e6);
            assert_non_null(plan.plan);
            assert_true(plan.workspace >= 0 && plan.workspace < (int64_t)4 << 30);
            su_dnn_plan_free(&dnn, &plan);
        }
}

static void what_it_has_nothing_for_is_refused_and_leaves_nothing(void **state)
{
    (void)state;
    su_attention odd[] = {attention(2, 2, 20, 33, false), attention(2, 2, 64, 64, true),
                          attention(2, 2, 64, 64, false)};
    odd[1].tk = 80; /* causal over other lengths */
    odd[2].dropout = 0.1;
    for (int i = 0; i < 3; i++) {
        su_dnn_plan plan;
        su_error err = {0};
        assert_int_equal(su_dnn_plan_new(&dnn, NULL, h200, &odd[i], false, &plan, &err), SU_EUNSUPPORTED);
        assert_int_equal(plan.count, 0);
        assert_true(err.message[0] != '\0');
    }
}

static void a_description_that_is_none_is_refused(void **state)
{
    (void)state;
    const su_attention a = attention(2, 2, 64, 77, false);
    su_dnn_plan plan;
    su_error err = {0};
    assert_int_equal(su_dnn_plan_new(&dnn, NULL, "{}", &a, false, &plan, &err), SU_EUNSUPPORTED);
    assert_non_null(strstr(err.message, "description"));
}

int main(void)
{
    su_error err = {0};
    if (su_dnn_load(&dnn, &err)) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_shape_of_the_models_has_a_plan),
        cmocka_unit_test(what_it_has_nothing_for_is_refused_and_leaves_nothing),
        cmocka_unit_test(a_description_that_is_none_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
