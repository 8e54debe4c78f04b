/* Every call of the CUDA runtime, and of cuBLASLt, fails in turn, once or from then on, on the emulated
 * device: an operation of every kind, from opening to closing. A failure is told by the call itself or by the
 * next sync, in words; where none is told, the results are those of a run without one. Leaks are
 * AddressSanitizer's to find. And what the emulated device does not let pass, because a GPU would not. */
#include "tests/nn/check.h"
#include <signal.h>
#include <sys/wait.h>

enum { ROWS = 6, WIDTH = 16, NUMBERS = ROWS * WIDTH };

typedef struct {
    su_status status; /* the first failure that was told */
    char message[sizeof((su_error){0}).message];
    float results[4 * NUMBERS];
} outcome;

static void note(outcome *o, su_status status, const su_error *err)
{
    if (!status || o->status) return;
    o->status = status;
    snprintf(o->message, sizeof o->message, "%s", err->message);
}

typedef struct {
    su_device *d;
    void **m;
    const int32_t *index;
} sequence;

static void repeated(void *context)
{
    const sequence *s = context;
    s->d->ops->linear(s->d, s->m[9], NULL, s->m[0], s->m[3], s->m[3], SU_ACT_GELU, ROWS, WIDTH, WIDTH);
    s->d->ops->gather(s->d, s->m[15], false, s->m[9], s->index, ROWS, WIDTH);
}

static void operate(su_device *d, void **m, int32_t *index, outcome *o)
{
    const su_attention a = {.batch = 1,
                            .heads = 1,
                            .dim = WIDTH,
                            .tq = ROWS,
                            .tk = ROWS,
                            .q_stride = WIDTH,
                            .kv_stride = WIDTH,
                            .o_stride = WIDTH,
                            .scale = 0.5};
    const su_adamw_run run = {NUMBERS, 1e-3, 0};
    const su_adamw adamw = {.beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8, .step = 1, .grad_scale = 1};
    su_error err = {0};
    double squares = 0;
    int64_t best[2];
    float scores[2];
    d->ops->linear(d, m[1], m[2], m[0], m[3], m[3], SU_ACT_GELU, ROWS, WIDTH, WIDTH);
    d->ops->act_backward(d, m[2], NULL, NULL, m[1], m[2], SU_ACT_GELU, 1, NUMBERS);
    d->ops->linear_backward(d, m[4], false, m[5], m[6], m[2], m[0], m[3], ROWS, WIDTH, WIDTH);
    d->ops->attention(d, &a, m[7], m[8], m[0], m[1], m[3]);
    d->ops->attention_backward(d, &a, m[9], m[10], m[11], m[5], m[6], m[4], m[7], m[8], m[0], m[1], m[3]);
    d->ops->norm(d, m[7], NULL, m[8], m[12], m[9], NULL, m[3], m[3], 1e-5, ROWS, WIDTH);
    d->ops->norm_backward(d, m[10], false, m[6], m[5], m[6], m[7], m[9], m[8], m[12], m[3], ROWS, WIDTH);
    d->ops->scatter_add(d, m[5], WIDTH, true, m[10], index, ROWS, WIDTH);
    d->ops->cross_entropy(d, m[13], NULL, m[7], m[7], index, 0.1, 1, ROWS, WIDTH);
    d->ops->normalise(d, m[14], m[8], m[0], ROWS, WIDTH);
    note(o, d->ops->infonce(d, m[13], m[15], m[15], m[13], m[14], m[14], m[13], 1, ROWS, WIDTH, &err), &err);
    void *dz[] = {m[15]};
    const void *z[] = {m[14]};
    note(o, d->ops->cu(d, m[13], dz, z, 1, SU_CENTROIDS_RAW, 1, ROWS, WIDTH, &err), &err);
    d->ops->sum_squares(d, &squares, m[5], NUMBERS);
    d->ops->adamw(d, m[5], NULL, m[15], m[16], m[15], &adamw, &run, 1);
    note(o, d->ops->top_k(d, best, scores, m[14], m[14], d->acc, 0, 2, ROWS, WIDTH, 1, &err), &err);
    if (d->act == SU_DTYPE_BF16)
        note(o, d->ops->top_k(d, best, scores, m[14], m[0], d->act, 0, 2, ROWS, WIDTH, 1, &err), &err);
    d->ops->largest(d, m[7], m[8], m[12], m[0], ROWS, WIDTH, 1);
    sequence s = {d, m, index};
    su_recorded *recorded = NULL;
    d->ops->zero(d, m[15], NUMBERS * sizeof(float));
    for (int i = 0; i < 3; i++) d->ops->repeat(d, &recorded, repeated, &s);
    d->ops->forget(d, recorded);
}

static outcome attempt(const char *fail, const char *type)
{
    enum { ARRAYS = 17 };
    outcome o = {0};
    su_device *d = NULL;
    su_error err = {0};
    float numbers[NUMBERS];
    int32_t index[ROWS] = {1, 0, 1, 3, 1, 2};
    void *m[ARRAYS] = {NULL}, *on_device = NULL, *locked = NULL;
    if (fail)
        setenv("SUTURE_EMULATE_FAIL", fail, 1);
    else
        unsetenv("SUTURE_EMULATE_FAIL");
    note(&o, su_device_open(type, 1, &d, &err), &err);
    if (o.status) {
        assert_null(d);
        return o;
    }
    const size_t bytes = (size_t)WIDTH * WIDTH * sizeof(float); /* at least NUMBERS */
    for (int i = 0; i < ARRAYS; i++) note(&o, d->ops->alloc(d, bytes, &m[i], &err), &err);
    note(&o, d->ops->alloc(d, sizeof index, &on_device, &err), &err);
    note(&o, d->ops->host_alloc(d, sizeof index, &locked, &err), &err);
    if (!o.status) {
        for (int i = 0; i < NUMBERS; i++)
            numbers[i] = (float)su_rng_normal((su_rng_key){.seed = 5}, (uint64_t)i);
        for (int i = 0; i < ARRAYS; i++) {
            d->ops->zero(d, m[i], bytes);
            if (i == 0 || i == 3) d->ops->upload(d, m[15], numbers, sizeof numbers);
            if (i == 0 || i == 3) d->ops->convert(d, m[i], d->act, m[15], SU_DTYPE_F32, NUMBERS);
        }
        d->ops->zero(d, m[15], bytes);
        memcpy(locked, index, sizeof index);
        d->ops->send(d, on_device, locked, sizeof index);
        note(&o, d->ops->sync(d, &err), &err);
        if (o.status) d->ops->upload(d, on_device, index, sizeof index); /* rows that there are, for what follows */
        operate(d, m, on_device, &o);
        d->ops->download(d, o.results, m[5], NUMBERS * sizeof(float));
        d->ops->download(d, o.results + NUMBERS, m[15], NUMBERS * sizeof(float));
        d->ops->download(d, o.results + 2 * NUMBERS, m[14], NUMBERS * sizeof(float));
        d->ops->download(d, o.results + 3 * NUMBERS, m[13], sizeof(float));
        note(&o, d->ops->sync(d, &err), &err);
    }
    for (int i = 0; i < ARRAYS; i++) d->ops->release(d, m[i]);
    d->ops->release(d, on_device);
    d->ops->host_release(d, locked);
    note(&o, d->ops->sync(d, &err), &err);
    su_device_close(d);
    return o;
}

static void all_calls(const char *type, const char *from_then_on)
{
    char fail[32];
    const outcome whole = attempt(NULL, type);
    assert_int_equal(whole.status, SU_OK);
    int told = 0, silent = 0, n = 1;
    for (; silent < 12; n++) { /* beyond the last call of a run nothing fails any more */
        snprintf(fail, sizeof fail, "%d%s", n, from_then_on);
        const outcome o = attempt(fail, type);
        if (o.status) {
            told++, silent = 0;
            assert_true(o.status == SU_ENOMEM || o.status == SU_EIO || o.status == SU_EUNSUPPORTED);
            assert_non_null(strstr(o.message, "cuda:0"));
        } else {
            silent++;
            assert_memory_equal(o.results, whole.results, sizeof o.results);
        }
    }
    print_message("%s%s: %d of %d calls were told\n", type, from_then_on, told, n - 1 - silent);
    assert_true(told > 100);
}

static void a_failure_of_any_call_is_told(void **state)
{
    (void)state;
    all_calls("cuda,bf16", "");
}

static void a_failure_that_stays_is_told(void **state)
{
    (void)state;
    all_calls("cuda,bf16", "+");
}

static void memory_that_is_not_there_is_named(void **state)
{
    su_device *d = NULL;
    su_error err = {0};
    void *most = NULL, *more = NULL;
    (void)state;
    unsetenv("SUTURE_EMULATE_FAIL");
    setenv("SUTURE_EMULATE_MEMORY", "100000000", 1);
    assert_int_equal(su_device_open("cuda", 1, &d, &err), SU_OK);
    assert_int_equal(d->ops->alloc(d, 60 << 20, &most, &err), SU_OK);
    assert_int_equal(d->ops->alloc(d, 60 << 20, &more, &err), SU_ENOMEM);
    assert_null(more);
    print_message("%s\n", err.message);
    assert_non_null(strstr(err.message, "no 62.9 MB left"));
    assert_non_null(strstr(err.message, "of 100.0 MB are free"));
    d->ops->release(d, most);
    assert_int_equal(d->ops->alloc(d, 60 << 20, &more, &err), SU_OK);
    d->ops->release(d, more);
    assert_int_equal(d->ops->sync(d, &err), SU_OK);
    su_device_close(d);
    unsetenv("SUTURE_EMULATE_MEMORY");
}

/* A loss needs working memory: what it says without it names the loss and the number of samples. Three megabytes are
 * left: enough for a few samples. */
static void an_operation_without_memory_says_so_and_leaves_a_device_that_works(void **state)
{
    enum { N = 262144, W = 1, MOST = 64, LEFT = 3 };
    su_device *d = NULL;
    su_error err = {0};
    void *z = NULL, *loss = NULL, *filled[MOST];
    int count = 0;
    float zero = 0;
    (void)state;
    setenv("SUTURE_EMULATE_MEMORY", "40000000", 1);
    assert_int_equal(su_device_open("cuda,f32", 1, &d, &err), SU_OK);
    assert_int_equal(d->ops->alloc(d, N * W * sizeof(float), &z, &err), SU_OK);
    assert_int_equal(d->ops->alloc(d, sizeof(float), &loss, &err), SU_OK);
    d->ops->zero(d, z, N * W * sizeof(float));
    d->ops->upload(d, loss, &zero, sizeof zero);
    while (count < MOST && !d->ops->alloc(d, 1 << 20, &filled[count], &err)) count++;
    assert_true(count > LEFT && count < MOST);
    for (int i = 0; i < LEFT; i++) d->ops->release(d, filled[--count]);
    assert_int_equal(d->ops->infonce(d, loss, NULL, NULL, NULL, z, z, loss, 1, N, W, &err), SU_ENOMEM);
    print_message("%s\n", err.message);
    assert_non_null(strstr(err.message, "InfoNCE over 262144 samples"));
    assert_int_equal(d->ops->sync(d, &err), SU_OK); /* told once */
    assert_int_equal(d->ops->infonce(d, loss, NULL, NULL, NULL, z, z, loss, 1, 64, W, &err), SU_OK);
    while (count) d->ops->release(d, filled[--count]);
    d->ops->release(d, z);
    d->ops->release(d, loss);
    assert_int_equal(d->ops->sync(d, &err), SU_OK);
    su_device_close(d);
    unsetenv("SUTURE_EMULATE_MEMORY");
}

typedef void mistake(su_device *d, float *on_device, float *on_host);

static void read_directly(su_device *d, float *on_device, float *on_host)
{
    (void)d;
    *on_host = *(volatile float *)on_device;
}

static void write_directly(su_device *d, float *on_device, float *on_host)
{
    (void)d, (void)on_host;
    *(volatile float *)on_device = 0;
}

static void compute_on_the_host(su_device *d, float *on_device, float *on_host)
{
    d->ops->add(d, on_device, on_device, on_host, NUMBERS);
}

static void upload_to_the_host(su_device *d, float *on_device, float *on_host)
{
    (void)on_device;
    d->ops->upload(d, on_host + NUMBERS, on_host, NUMBERS * sizeof *on_host);
}

static void copy_past_the_end(su_device *d, float *on_device, float *on_host)
{
    d->ops->download(d, on_host, on_device, (NUMBERS + 1) * sizeof *on_host);
}

static void release_twice(su_device *d, float *on_device, float *on_host)
{
    (void)on_host;
    d->ops->release(d, on_device);
    d->ops->release(d, on_device);
}

static void no_mistake(su_device *d, float *on_device, float *on_host)
{
    d->ops->download(d, on_host, on_device, NUMBERS * sizeof *on_host);
}

/* The signal that ends a process which does this; 0: none. */
static int signal_of(mistake *make)
{
    int status = 0;
    fflush(NULL);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        su_device *d = NULL;
        su_error err = {0};
        void *on_device = NULL;
        static float on_host[2 * NUMBERS];
        signal(SIGSEGV, SIG_DFL);
        unsetenv("SUTURE_EMULATE_FAIL");
        if (su_device_open("cuda,f32", 1, &d, &err) ||
            d->ops->alloc(d, NUMBERS * sizeof *on_host, &on_device, &err))
            _exit(2);
        make(d, on_device, on_host);
        _exit(d->ops->sync(d, &err) ? 3 : 0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void memory_of_the_device_is_not_the_hosts(void **state)
{
    (void)state;
    assert_int_equal(signal_of(no_mistake), 0);
    assert_int_equal(signal_of(read_directly), SIGSEGV);
    assert_int_equal(signal_of(write_directly), SIGSEGV);
    assert_int_equal(signal_of(compute_on_the_host), SIGABRT);
    assert_int_equal(signal_of(upload_to_the_host), SIGABRT);
    assert_int_equal(signal_of(copy_past_the_end), SIGABRT);
    assert_int_equal(signal_of(release_twice), SIGABRT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failure_of_any_call_is_told),
        cmocka_unit_test(a_failure_that_stays_is_told),
        cmocka_unit_test(memory_that_is_not_there_is_named),
        cmocka_unit_test(an_operation_without_memory_says_so_and_leaves_a_device_that_works),
        cmocka_unit_test(memory_of_the_device_is_not_the_hosts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
