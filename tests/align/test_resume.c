/* Stopped, killed, continued: the run ends with the bytes of one that was never disturbed. */
#include "tests/align/runs.h"
#include "align/run.h"
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

static char *data;

/* Stopped after every step, on 1 to 3 threads. */
static void resumed_at_every_step(const su_train_config *config, const char *name)
{
    su_train_config c = *config;
    char whole_name[64], steps_name[64], done_name[64];
    snprintf(whole_name, sizeof whole_name, "%s-whole", name);
    snprintf(steps_name, sizeof steps_name, "%s-steps", name);
    snprintf(done_name, sizeof done_name, "%s-steps/run.json", name);
    su_error err = {0};
    su_train_result whole, part;
    volatile sig_atomic_t stop = 1;
    ok(run_train(data, at(whole_name), &c, 2, false, NULL, &whole, &err), &err);
    su_status st = run_train(data, at(steps_name), &c, 1, false, &stop, &part, &err);
    for (int64_t done = 1; done < whole.steps; done++) {
        assert_int_equal(st, SU_EINTERRUPTED);
        assert_contains(err.message, "--resume");
        assert_int_equal(part.steps, done);
        assert_false(su_file_exists(at(done_name)));
        st = run_train(data, at(steps_name), &c, 1 + (int)(done % 3), true, &stop, &part, &err);
    }
    ok(st, &err);
    assert_int_equal(part.steps, whole.steps);
    assert_true(part.best_mrr == whole.best_mrr && part.best_epoch == whole.best_epoch);
    assert_same_run(at(steps_name), at(whole_name));
    /* A finished run goes on with nothing, and stays as it is. */
    ok(run_train(data, at(steps_name), &c, 1, true, NULL, &part, &err), &err);
    assert_int_equal(part.steps, whole.steps);
    assert_same_run(at(steps_name), at(whole_name));
    check_free_all();
}

static void resume_after_every_step_equals_an_uninterrupted_run(void **state)
{
    (void)state;
    su_train_config c = run_config(4);
    resumed_at_every_step(&c, "all");
}

static void what_a_frozen_tower_gave_is_the_same_after_a_resume(void **state)
{
    (void)state;
    su_train_config c = run_config(3);
    c.model.stream[1].lr_factor = 0;
    resumed_at_every_step(&c, "text");
    c.model.stream[0].lr_factor = 0;
    c.augment.on = false;
    resumed_at_every_step(&c, "both");
}

static void nap(long milliseconds)
{
    nanosleep(&(struct timespec){milliseconds / 1000, milliseconds % 1000 * 1000000}, NULL);
}

/* A checkpoint at every step, kills at moments all over the run, each followed by --resume. */
static void killed_at_any_moment_the_run_goes_on_to_the_same_bytes(void **state)
{
    (void)state;
    check_cpu_only(); /* CUDA does not work behind a fork; tests/cuda/test_train.py has processes of its own */
    su_train_config c = run_config(3);
    su_error err = {0};
    int kills = 0, status = 0;
    c.checkpoint_steps = 1;
    ok(run_train(data, at("quiet"), &c, 2, false, NULL, NULL, &err), &err);
    for (long wait = 5;; wait += 7) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) { /* --resume in an empty folder begins */
            su_status st = run_train(data, at("killed"), &c, 2, true, NULL, NULL, &err);
            if (st) fprintf(stderr, "%s\n", err.message);
            _exit(st);
        }
        nap(wait);
        kill(child, SIGKILL);
        assert_int_equal(waitpid(child, &status, 0), child);
        if (WIFEXITED(status)) break;
        kills++;
        assert_true(kills < 2000);
    }
    assert_int_equal(WEXITSTATUS(status), SU_OK);
    assert_true(kills >= 3);
    assert_same_run(at("killed"), at("quiet"));
    check_free_all();
}

static void a_torn_log_line_is_written_again(void **state)
{
    (void)state;
    su_train_config c = run_config(2);
    su_error err = {0};
    volatile sig_atomic_t stop = 1;
    size_t length = 0;
    ok(run_train(data, at("log"), &c, 1, false, NULL, NULL, &err), &err);
    assert_int_equal(run_train(data, at("torn"), &c, 1, false, &stop, NULL, &err), SU_EINTERRUPTED);
    assert_int_equal(run_train(data, at("torn"), &c, 1, true, &stop, NULL, &err), SU_EINTERRUPTED);
    /* As if killed while step 4 was written, after a step 3 that no checkpoint knows. */
    char text[8192];
    snprintf(text, sizeof text, "%s{\"step\":3,\"loss\":7}\n{\"step\":4,\"lo",
             run_file(at("torn"), "log.jsonl", &length));
    put_text(at("torn/log.jsonl"), text);
    ok(run_train(data, at("torn"), &c, 1, true, NULL, NULL, &err), &err);
    assert_same_run(at("torn"), at("log"));
    check_free_all();
}

static void a_run_goes_on_only_as_it_began(void **state)
{
    (void)state;
    su_train_config c = run_config(2), other = c;
    su_error err = {0};
    volatile sig_atomic_t stop = 1;
    assert_int_equal(run_train(data, at("began"), &c, 1, false, &stop, NULL, &err), SU_EINTERRUPTED);
    assert_int_equal(run_train(data, at("began"), &c, 1, false, &stop, NULL, &err), SU_EINVAL);
    assert_contains(err.message, "--resume");
    other.lr = 1e-4;
    assert_int_equal(run_train(data, at("began"), &other, 1, true, &stop, NULL, &err), SU_EMISMATCH);
    assert_contains(err.message, "\"lr\"");
    char *fewer = run_dataset(RUN_SAMPLES - 1);
    assert_int_equal(run_train(fewer, at("began"), &c, 1, true, &stop, NULL, &err), SU_EMISMATCH);
    packed_remove(fewer);
    size_t length = 0;
    char *bytes = run_file(at("began"), "checkpoint.safetensors", &length);
    bytes[length - 9] ^= 1;
    put_bytes(at("began/checkpoint.safetensors"), bytes, length);
    assert_int_not_equal(run_train(data, at("began"), &c, 1, true, NULL, NULL, &err), SU_OK);
    assert_contains(err.message, "checkpoint.safetensors");
    check_free_all();
}

/* A training that does nothing: it looks when checkpoints are written, and naps, where asked to, as many times as
 * long as the last one can have taken. */
typedef struct {
    const char *checkpoint;
    long naps;
    double ended; /* the last epoch, on the monotonic clock */
    ino_t file;   /* the checkpoint that was there at the last look */
    int written;
} onlooker;

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void look(onlooker *o)
{
    struct stat s;
    if (stat(o->checkpoint, &s) || s.st_ino == o->file) return;
    o->file = s.st_ino; /* the file that it replaces was still there when it was made */
    o->written++;
}

static su_status idle_step(void *context, int64_t epoch, int64_t in_epoch, double *loss, su_error *err)
{
    (void)epoch, (void)in_epoch, (void)err;
    onlooker *o = context;
    double since = seconds() - o->ended;
    look(o);
    *loss = 0.0;
    if (o->naps && o->ended > 0.0) nap(1 + (long)(1e3 * (double)o->naps * since));
    return SU_OK;
}

static su_status idle_epoch(void *context, int64_t epoch, su_error *err)
{
    (void)epoch, (void)err;
    ((onlooker *)context)->ended = seconds();
    return SU_OK;
}

/* Checkpoints that a run of so many epochs, of one step each, writes. */
static int checkpoints_of(const char *name, int64_t epochs, int64_t checkpoint_steps, long naps)
{
    su_error err = {0};
    su_device *d = check_device(SU_DTYPE_F32, 1);
    su_params p;
    su_dataset *ds = NULL;
    su_run run;
    json_t *config = json_object();
    su_params_init(&p, d);
    su_params_add(&p, "weight", 1, (int64_t[]){1000}, true, 0, SU_INIT_ONE, 0, false);
    ok(su_params_commit(&p, true, &err), &err);
    ok(su_dataset_open(data, &ds, &err), &err);
    su_run_options o = {.folder = at(name),
                        .data = ds,
                        .config = config,
                        .params = &p,
                        .score = "mrr",
                        .epochs = epochs,
                        .batches = 1,
                        .batch = 1,
                        .unit = "pairs",
                        .checkpoint_steps = checkpoint_steps};
    ok(su_run_open(&o, &run, &err), &err);
    onlooker looking = {.checkpoint = run.checkpoint_path, .naps = naps};
    ok(su_run_train(&run, &(su_run_work){idle_step, idle_epoch, &looking}, &err), &err);
    look(&looking);
    su_safetensors *last = NULL;
    ok(su_safetensors_open(run.checkpoint_path, &last, &err), &err);
    assert_int_equal(strtoll(su_safetensors_metadata(last, "step"), NULL, 10), epochs);
    su_safetensors_close(last);
    su_run_close(&run);
    su_params_free(&p);
    su_dataset_close(ds);
    su_device_close(d);
    json_decref(config);
    return looking.written;
}

static void checkpoints_take_a_fiftieth_of_the_time(void **state)
{
    (void)state;
    int short_epochs = checkpoints_of("short", 500, 0, 0);
    assert_true(short_epochs >= 1 && short_epochs <= 50);
    assert_int_equal(checkpoints_of("long", 4, 0, 50), 4);
    assert_in_range(checkpoints_of("asked", 20, 2, 0), 11, 20); /* the first epoch, and every other step */
}

static int begin(void **state)
{
    if (scratch_setup(state)) return -1;
    run_vocabulary();
    data = run_dataset(RUN_SAMPLES);
    return 0;
}

static int end(void **state)
{
    packed_remove(data);
    return scratch_teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed_at_any_moment_the_run_goes_on_to_the_same_bytes),
        cmocka_unit_test(resume_after_every_step_equals_an_uninterrupted_run),
        cmocka_unit_test(what_a_frozen_tower_gave_is_the_same_after_a_resume),
        cmocka_unit_test(checkpoints_take_a_fiftieth_of_the_time),
        cmocka_unit_test(a_torn_log_line_is_written_again),
        cmocka_unit_test(a_run_goes_on_only_as_it_began),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
