/* Batches that are sent to the device ahead: the loader's own, and trainings with and without them the same
 * bits. On the CPU device nothing is sent; tests/cuda runs this on the emulated GPU, where it is. */
#include "tests/align/runs.h"
#include "align/embed.h"
#include "align/feed.h"

enum { SAMPLES = 21, BATCH = 4, TEST_BATCHES = 13 };

static char *data_folder;

/* The model, dataset and options of one feed over samples 0 .. SAMPLES - 1. */
typedef struct {
    su_device *d;
    su_model *m;
    su_dataset *ds;
    int64_t items[SAMPLES];
    su_loader_options o;
    size_t host, device, image;
} fixture;

static fixture open_fixture(int threads, bool trained)
{
    su_error err = {0};
    fixture f = {.d = check_device(SU_DTYPE_F32, threads)};
    su_model_config c = golden_config(2);
    const su_tower_config *t = &c.stream[0].tower;
    ok(su_dataset_open(data_folder, &f.ds, &err), &err);
    f.image = (size_t)t->image_size * (size_t)t->image_size * (size_t)t->channels;
    f.m = new_model(&c, f.d, true, 1);
    for (int i = 0; i < SAMPLES; i++) f.items[i] = i;
    f.o = (su_loader_options){.batch = BATCH, .train = trained, .seed = 3};
    su_augment_defaults(&f.o.augment);
    ok(su_feed_plan(f.m, f.ds, &f.o, &f.host, &f.device, &err), &err);
    assert_int_equal(f.o.threads, threads);
    return f;
}

static void close_fixture(fixture *f)
{
    su_model_free(f->m);
    su_dataset_close(f->ds);
    su_device_close(f->d);
}

/* The images of a batch, wherever they lie. */
static void fetch(const fixture *f, const su_fed *fed, uint8_t *out)
{
    const size_t bytes = (size_t)fed->batch->count * f->image;
    if (fed->on_device)
        f->d->ops->download(f->d, out, fed->images[0], bytes);
    else
        memcpy(out, fed->images[0], bytes);
}

static void compare(int threads, bool trained, int64_t first)
{
    su_error err = {0};
    fixture f = open_fixture(threads, trained);
    f.o.first_batch = first;
    su_feed *feed = NULL;
    su_loader *plain = NULL;
    su_loader_options o = {.batch = BATCH,
                           .image_size = f.o.image_size,
                           .max_tokens = f.o.max_tokens,
                           .train = trained,
                           .seed = f.o.seed,
                           .augment = f.o.augment,
                           .first_batch = first};
    ok(su_feed_new(f.m, f.ds, f.items, SAMPLES, &f.o, &feed, &err), &err);
    ok(su_loader_new(f.ds, f.items, SAMPLES, f.m->tokenizer, &o, &plain, &err), &err);
    uint8_t *images = check_alloc(BATCH * (int64_t)f.image, 1);
    for (int i = 0; i < TEST_BATCHES; i++) {
        su_fed fed;
        const su_batch *b = NULL;
        ok(su_feed_next(feed, &fed, &err), &err);
        ok(su_loader_next(plain, &b, &err), &err);
        assert_int_equal(fed.on_device, f.d->ops->send != NULL);
        if (!b) {
            assert_false(trained);
            assert_null(fed.batch);
            assert_int_equal(i, 6); /* five of four samples, one of one */
            break;
        }
        assert_int_equal(fed.batch->number, first + i);
        assert_int_equal(fed.batch->count, b->count);
        assert_memory_equal(fed.batch->items, b->items, (size_t)b->count * sizeof *b->items);
        assert_memory_equal(fed.batch->ids, b->ids, (size_t)(b->count * o.max_tokens) * sizeof *b->ids);
        fetch(&f, &fed, images);
        assert_memory_equal(images, b->images[0], (size_t)b->count * f.image);
        su_loader_release(plain, b);
    }
    su_loader_free(plain);
    su_feed_free(feed); /* with a batch on its way */
    close_fixture(&f);
    check_free_all();
}

static void a_feeds_batches_are_the_loaders(void **state)
{
    (void)state;
    for (int threads = 1; threads <= 3; threads++) {
        compare(threads, true, 0);
        compare(threads, true, 7);
        compare(threads, false, 0);
    }
}

static void what_it_takes_is_what_it_said(void **state)
{
    (void)state;
    fixture f = open_fixture(2, true);
    const size_t slots = f.d->ops->send ? 4 : 3;
    assert_int_equal(f.device, f.d->ops->send ? 2 * BATCH * f.image : 0);
    assert_in_range(f.host, slots * BATCH * f.image,
                    slots * BATCH * (f.image + 4 * (size_t)f.o.max_tokens + 64));
    close_fixture(&f);
}

/* The device, but for what it would send: as if it were the CPU's. */
static su_device *silent(su_device *d, su_device_ops *table)
{
    *table = *d->ops;
    table->send = NULL;
    d->ops = table;
    return d;
}

static su_status train(const char *out, const su_train_config *c, int threads, bool sends, bool resume,
                       const volatile sig_atomic_t *stop, su_error *err)
{
    su_device_ops table;
    su_device *d = check_device(SU_DTYPE_F32, threads);
    const su_device_ops *own = d->ops;
    su_train_options o = {.data = data_folder,
                          .out = out,
                          .vocabulary = at("vocab.txt"),
                          .config = *c,
                          .resume = resume,
                          .device = sends ? d : silent(d, &table),
                          .stop = stop};
    const su_status st = su_train(&o, NULL, err);
    d->ops = own;
    su_device_close(d);
    return st;
}

static void sending_ahead_changes_no_bit_of_a_training(void **state)
{
    (void)state;
    static const char *const names[] = {"one", "two", "three"};
    const su_train_config c = run_config(2);
    const volatile sig_atomic_t stop = 1;
    su_error err = {0};
    ok(train(at("silent"), &c, 1, false, false, NULL, &err), &err);
    for (int threads = 1; threads <= 3; threads++) {
        ok(train(at(names[threads - 1]), &c, threads, true, false, NULL, &err), &err);
        assert_same_run(at(names[threads - 1]), at("silent"));
    }
    /* Stopped after every step, and gone on from there. */
    int pieces = 1;
    su_status st = train(at("pieces"), &c, 2, true, false, &stop, &err);
    for (; st == SU_EINTERRUPTED; pieces++)
        st = train(at("pieces"), &c, 1 + pieces % 3, true, true, &stop, &err);
    ok(st, &err);
    assert_true(pieces >= 4);
    assert_same_run(at("pieces"), at("silent"));
    check_free_all();
}

static int begin(void **state)
{
    if (scratch_setup(state)) return -1;
    run_vocabulary();
    data_folder = run_dataset(RUN_SAMPLES);
    return 0;
}

static int end(void **state)
{
    packed_remove(data_folder);
    return scratch_teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_feeds_batches_are_the_loaders),
        cmocka_unit_test(what_it_takes_is_what_it_said),
        cmocka_unit_test(sending_ahead_changes_no_bit_of_a_training),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
