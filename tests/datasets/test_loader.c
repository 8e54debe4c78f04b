/* The loader over a dataset that the CSV importer packed: two image streams, 37 samples. */
#include "datasets/image.h"
#include "datasets/import.h"
#include "datasets/loader.h"
#include "tests/base/scratch.h"
#include "tests/datasets/picture.h"
#include <png.h>
#include <time.h>

enum { SAMPLES = 37, SIZE = 32, TOKENS = 8, BATCH = 5, BYTES = BATCH * SIZE * SIZE * 3 };

static su_dataset *ds;
static su_wordpiece *wp;
static int64_t everything[SAMPLES];

static su_loader_options options(bool train)
{
    su_loader_options o = {
        .batch = BATCH, .image_size = SIZE, .max_tokens = TOKENS, .train = train, .seed = 42};
    su_augment_defaults(&o.augment);
    return o;
}

static su_loader *loader_of(const su_loader_options *o)
{
    su_loader *l;
    su_error err = {0};
    if (su_loader_new(ds, everything, SAMPLES, wp, o, &l, &err)) fail_msg("%s", err.message);
    return l;
}

static const su_batch *next_of(su_loader *l)
{
    const su_batch *b;
    su_error err = {0};
    if (su_loader_next(l, &b, &err)) fail_msg("%s", err.message);
    return b;
}

/* All that a batch holds, as one hash. */
static uint64_t digest(const su_batch *b)
{
    uint64_t h = 14695981039346656037ull;
    const struct {
        const void *data;
        size_t bytes;
    } parts[] = {{&b->number, 8},
                 {&b->epoch, 8},
                 {&b->in_epoch, 8},
                 {b->items, (size_t)b->count * 8},
                 {b->ids, (size_t)b->count * TOKENS * 4},
                 {b->lengths, (size_t)b->count * 4},
                 {b->images[0], (size_t)b->count * BYTES / BATCH},
                 {b->images[1], (size_t)b->count * BYTES / BATCH}};
    for (size_t p = 0; p < sizeof parts / sizeof *parts; p++)
        for (size_t i = 0; i < parts[p].bytes; i++)
            h = (h ^ ((const uint8_t *)parts[p].data)[i]) * 1099511628211ull;
    return h;
}

static void digests(const su_loader_options *o, uint64_t *out, int count)
{
    su_loader *l = loader_of(o);
    for (int i = 0; i < count; i++) {
        const su_batch *b = next_of(l);
        assert_int_equal(b->number, o->first_batch + i);
        out[i] = digest(b);
        su_loader_release(l, b);
    }
    su_loader_free(l);
}

static void any_number_of_threads_gives_the_same_batches(void **state)
{
    (void)state;
    enum { COUNT = 30 };
    const int threads[] = {1, 2, 5, 16}, ahead[] = {2, 1, 7, 3};
    uint64_t want[COUNT], got[COUNT];
    su_loader_options o = options(true);
    digests(&o, want, COUNT);
    for (int i = 1; i < COUNT; i++) assert_true(want[i] != want[i - 1]);
    for (int k = 0; k < 4; k++) {
        o.threads = threads[k];
        o.ahead = ahead[k];
        digests(&o, got, COUNT);
        assert_memory_equal(got, want, sizeof want);
    }
    o.seed++;
    digests(&o, got, COUNT);
    assert_true(got[0] != want[0]);
}

static void a_resumed_run_gets_the_batches_that_it_would_have_had(void **state)
{
    (void)state;
    enum { COUNT = 30 };
    uint64_t want[COUNT], got[COUNT];
    su_loader_options o = options(true);
    digests(&o, want, COUNT);
    o.threads = 3;
    for (int first = 1; first < COUNT; first += 4) {
        o.first_batch = first;
        digests(&o, got, COUNT - first);
        assert_memory_equal(got, want + first, (size_t)(COUNT - first) * sizeof *want);
    }
}

static void an_epoch_has_every_sample_once_but_for_the_last_short_batch(void **state)
{
    (void)state;
    su_loader_options o = options(true);
    o.threads = 2;
    su_loader *l = loader_of(&o);
    assert_int_equal(su_loader_batches(l), SAMPLES / BATCH);
    int left_out[SAMPLES] = {0};
    int64_t first[2] = {-1, -1};
    for (int epoch = 0; epoch < 40; epoch++) {
        int seen[SAMPLES] = {0}, distinct = 0;
        for (int i = 0; i < SAMPLES / BATCH; i++) {
            const su_batch *b = next_of(l);
            assert_int_equal(b->epoch, epoch);
            assert_int_equal(b->in_epoch, i);
            assert_int_equal(b->count, BATCH);
            for (int k = 0; k < BATCH; k++) distinct += seen[b->items[k]]++ == 0;
            if (i == 0 && epoch < 2) first[epoch] = b->items[0] * SAMPLES + b->items[1];
            su_loader_release(l, b);
        }
        assert_int_equal(distinct, SAMPLES / BATCH * BATCH);
        for (int i = 0; i < SAMPLES; i++) left_out[i] += !seen[i];
    }
    assert_true(first[0] != first[1]);
    for (int i = 0; i < SAMPLES; i++) assert_true(left_out[i] < 12); /* nobody is left out for ever */
    su_loader_free(l);
}

static void evaluation_goes_through_the_samples_in_order_and_ends(void **state)
{
    (void)state;
    su_loader_options o = options(false);
    o.threads = 4;
    su_loader *l = loader_of(&o);
    int64_t at_sample = 0;
    const su_batch *b;
    while ((b = next_of(l))) {
        assert_int_equal(b->count, at_sample + BATCH > SAMPLES ? SAMPLES % BATCH : BATCH);
        for (int32_t i = 0; i < b->count; i++, at_sample++) {
            assert_int_equal(b->items[i], at_sample);
            for (int s = 0; s < 2; s++) /* stored size: the stored bytes */
                assert_memory_equal(b->images[s] + i * (BYTES / BATCH), su_dataset_pixels(ds, s, at_sample),
                                    BYTES / BATCH);
            int32_t row[TOKENS], length;
            const char *text = su_dataset_record(ds, at_sample)->text;
            assert_int_equal(su_wordpiece_row(wp, text, strlen(text), row, TOKENS, &length, NULL), SU_OK);
            assert_memory_equal(b->ids + i * TOKENS, row, sizeof row);
            assert_int_equal(b->lengths[i], length);
        }
        su_loader_release(l, b);
    }
    assert_int_equal(at_sample, SAMPLES);
    assert_null(next_of(l));
    su_loader_free(l);
    o.first_batch = 8;
    l = loader_of(&o);
    assert_null(next_of(l));
    su_loader_free(l);
}

static void evaluation_presents_an_image_as_su_image_prepare_does(void **state)
{
    (void)state;
    enum { SMALL = 20 };
    su_loader_options o = options(false);
    o.image_size = SMALL;
    su_loader *l = loader_of(&o);
    const su_batch *b = next_of(l);
    for (int i = 0; i < BATCH; i++) {
        char file[64];
        uint8_t out[SMALL * SMALL * 3];
        snprintf(file, sizeof file, "front%d.png", i);
        su_picture_facts facts;
        assert_int_equal(su_image_prepare(at(file), su_dataset_recipe(ds), SMALL, out, &facts, NULL), SU_OK);
        assert_memory_equal(out, b->images[0] + i * SMALL * SMALL * 3, sizeof out);
        const json_t *stored = json_object_get(
            json_object_get(su_dataset_record(ds, b->items[i])->json, "images"), su_dataset_stream(ds, 0));
        const char *phash = json_string_value(json_object_get(stored, "phash"));
        assert_string_equal(facts.sha256, json_string_value(json_object_get(stored, "sha256")));
        assert_int_equal(facts.hashed, phash != NULL);
        if (phash) assert_true(facts.phash == strtoull(phash, NULL, 16));
    }
    su_error err = {0};
    assert_int_equal(su_image_prepare(at("none.png"), su_dataset_recipe(ds), SMALL, NULL, NULL, &err),
                     SU_ENOTFOUND);
    su_loader_free(l); /* with a batch still held */
}

/* Every front picture is bright on its left, every side picture on its right. */
static void training_augments_and_never_mirrors(void **state)
{
    (void)state;
    su_loader_options o = options(true);
    su_loader *l = loader_of(&o);
    for (int n = 0; n < 70; n++) {
        const su_batch *b = next_of(l);
        for (int i = 0; i < BATCH; i++) {
            int64_t sums[2][2] = {{0}};
            for (int s = 0; s < 2; s++)
                for (int p = 0; p < SIZE * SIZE; p++)
                    sums[s][p % SIZE >= SIZE / 2] += b->images[s][i * (BYTES / BATCH) + 3 * p];
            assert_true(sums[0][0] > sums[0][1]);
            assert_true(sums[1][0] < sums[1][1]);
            assert_memory_not_equal(b->images[0] + i * (BYTES / BATCH), su_dataset_pixels(ds, 0, b->items[i]),
                                    BYTES / BATCH);
        }
        su_loader_release(l, b);
    }
    su_loader_free(l);
}

static void a_sample_looks_the_same_wherever_it_stands_in_an_epoch_and_new_in_the_next(void **state)
{
    (void)state;
    enum { PICTURE = BYTES / BATCH };
    static uint8_t pictures[2][SAMPLES][PICTURE];
    su_loader_options o = options(true);
    o.batch = SAMPLES;
    su_loader *l = loader_of(&o);
    for (int epoch = 0; epoch < 2; epoch++) {
        const su_batch *b = next_of(l);
        for (int i = 0; i < SAMPLES; i++)
            memcpy(pictures[epoch][b->items[i]], b->images[0] + i * PICTURE, PICTURE);
        su_loader_release(l, b);
    }
    su_loader_free(l);
    for (int i = 0; i < SAMPLES; i++) assert_memory_not_equal(pictures[0][i], pictures[1][i], PICTURE);

    su_error err = {0};
    o.batch = BATCH; /* other samples, so that those of this half stand elsewhere */
    assert_int_equal(su_loader_new(ds, everything + SAMPLES / 2, SAMPLES / 2, wp, &o, &l, &err), SU_OK);
    for (int n = 0; n < SAMPLES / 2 / BATCH; n++) {
        const su_batch *b = next_of(l);
        for (int i = 0; i < BATCH; i++)
            assert_memory_equal(b->images[0] + i * PICTURE, pictures[0][b->items[i]], PICTURE);
        su_loader_release(l, b);
    }
    su_loader_free(l);
}

/* Blue is the same ramp from top to bottom in both streams; one geometry for both would leave it so. */
static void every_stream_has_a_geometry_of_its_own(void **state)
{
    (void)state;
    su_loader_options o = options(true);
    o.augment.brightness = o.augment.contrast = 0;
    su_loader *l = loader_of(&o);
    const su_batch *b = next_of(l);
    for (int i = 0; i < BATCH; i++) {
        int apart = 0;
        for (int p = 2; p < BYTES / BATCH; p += 3)
            apart += b->images[0][i * (BYTES / BATCH) + p] != b->images[1][i * (BYTES / BATCH) + p];
        assert_true(apart > SIZE * SIZE / 4);
    }
    su_loader_free(l);
}

static void several_batches_may_be_held_and_too_many_are_refused(void **state)
{
    (void)state;
    su_loader_options o = options(true);
    o.ahead = 3;
    o.threads = 2;
    su_loader *l = loader_of(&o);
    const su_batch *held[4], *more;
    uint64_t before[4];
    for (int i = 0; i < 4; i++) {
        held[i] = next_of(l);
        before[i] = digest(held[i]);
    }
    su_error err = {0};
    assert_int_equal(su_loader_next(l, &more, &err), SU_EINVAL);
    assert_null(more);
    for (int i = 0; i < 4; i++) assert_true(digest(held[i]) == before[i]);
    su_loader_release(l, held[2]); /* out of order: batch 4 waits for batch 0's place */
    assert_int_equal(su_loader_next(l, &more, &err), SU_EINVAL);
    su_loader_release(l, held[0]);
    assert_int_equal(next_of(l)->number, 4);
    su_loader_release(l, NULL);
    su_loader_free(l);
}

static void a_loader_may_be_freed_at_any_moment(void **state)
{
    (void)state;
    su_loader_options o = options(true);
    for (int round = 0; round < 200; round++) {
        o.threads = 1 + (int)dice(6);
        o.ahead = 1 + (int)dice(4);
        su_loader *l = loader_of(&o);
        for (uint32_t n = dice(4); n > 0; n--) {
            const su_batch *b = next_of(l);
            if (dice(3))
                su_loader_release(l, b);
            else
                break;
        }
        if (dice(2)) nanosleep(&(struct timespec){0, (long)dice(300000)}, NULL);
        su_loader_free(l);
    }
    su_loader_free(NULL);
}

static void what_fails_in_a_thread_is_returned_by_next(void **state)
{
    (void)state;
    su_loader_options o = options(true);
    o.threads = 3;
    su_loader *l = loader_of(&o);
    su_error err = {0};
    const su_batch *b;
    su_alloc_fail_after(1);
    su_status status = SU_OK;
    for (int n = 0; n < 10 && !status; n++) {
        status = su_loader_next(l, &b, &err);
        su_loader_release(l, b);
    }
    su_alloc_fail_after(0);
    assert_int_equal(status, SU_ENOMEM);
    assert_contains(err.message, "sample ");
    assert_int_equal(su_loader_next(l, &b, &err), SU_ENOMEM); /* and stays */
    su_loader_free(l);
}

static su_loader *made;

static su_status make_loader(su_error *err)
{
    const su_loader_options o = options(false);
    return su_loader_new(ds, everything, SAMPLES, wp, &o, &made, err);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    assert_true(fail_every_allocation(make_loader) > 10);
    su_loader_free(made);
}

static void assert_bad(const su_loader_options *o, int64_t count, const char *reason)
{
    su_loader *l;
    su_error err = {0};
    assert_int_equal(su_loader_new(ds, everything, count, wp, o, &l, &err), SU_EINVAL);
    assert_null(l);
    assert_contains(err.message, reason);
}

static void options_out_of_range_are_refused(void **state)
{
    (void)state;
    su_loader_options o = options(true);
    assert_bad(&o, BATCH - 1, "no whole batch of 5");
    assert_bad(&o, 0, "no samples");
    o.augment.contrast = 3;
    assert_bad(&o, SAMPLES, "contrast");
    o = options(true);
    o.max_tokens = 2;
    assert_bad(&o, SAMPLES, "tokens 2");
    o = options(true);
    o.first_batch = -1;
    assert_bad(&o, SAMPLES, "first batch -1");
    o = options(false);
    everything[3] = SAMPLES;
    assert_bad(&o, SAMPLES, "no sample 37");
    everything[3] = 3;
}

/* ---- the dataset ---- */

static void write_png(const char *path, int number, bool bright_left)
{
    enum { W = 40, H = 40 };
    uint8_t pixels[W * H * 3];
    for (int i = 0; i < W * H; i++) {
        const bool bright = bright_left ? i % W < W * 2 / 5 : i % W >= W * 3 / 5;
        const uint8_t rgb[3] = {bright ? 230 : 20, (uint8_t)(6 * number), (uint8_t)(i / W * 5)};
        memcpy(pixels + 3 * i, rgb, 3);
    }
    png_image image = {.version = PNG_IMAGE_VERSION, .width = W, .height = H, .format = PNG_FORMAT_RGB};
    assert_true(png_image_write_to_file(&image, path, 0, pixels, 0, NULL));
}

static int open_dataset(void **state)
{
    if (scratch_setup(state)) return -1;
    FILE *csv = fopen(at("pairs.csv"), "w");
    if (!csv) return -1;
    fprintf(csv, "front,side,text\n");
    for (int i = 0; i < SAMPLES; i++) {
        char name[64];
        snprintf(name, sizeof name, "front%d.png", i);
        write_png(at(name), i, true);
        snprintf(name, sizeof name, "side%d.png", i);
        write_png(at(name), i, false);
        fprintf(csv, "front%d.png,side%d.png,\"%s, number %d, of a chest\"\n", i, i,
                i % 3 ? "A view" : "Front and side", i);
        everything[i] = i;
    }
    fclose(csv);
    su_error err = {0};
    su_import_options o;
    su_import_defaults(&o);
    o.recipe.size = SIZE;
    const su_csv_columns columns = {.image = "front,side", .text = "text"};
    if (su_import_csv(at("pairs.csv"), &columns, at("ds"), &o, &err) ||
        su_dataset_open(at("ds"), &ds, &err) ||
        su_wordpiece_open(SU_SOURCE_DIR "/datasets/sample/bert-base-uncased-vocab.txt", &wp, &err)) {
        fprintf(stderr, "%s\n", err.message);
        return -1;
    }
    return su_dataset_count(ds) == SAMPLES && su_dataset_streams(ds) == 3 ? 0 : -1;
}

static int close_dataset(void **state)
{
    su_dataset_close(ds);
    su_wordpiece_free(wp);
    return scratch_teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_number_of_threads_gives_the_same_batches),
        cmocka_unit_test(a_resumed_run_gets_the_batches_that_it_would_have_had),
        cmocka_unit_test(an_epoch_has_every_sample_once_but_for_the_last_short_batch),
        cmocka_unit_test(evaluation_goes_through_the_samples_in_order_and_ends),
        cmocka_unit_test(evaluation_presents_an_image_as_su_image_prepare_does),
        cmocka_unit_test(training_augments_and_never_mirrors),
        cmocka_unit_test(a_sample_looks_the_same_wherever_it_stands_in_an_epoch_and_new_in_the_next),
        cmocka_unit_test(every_stream_has_a_geometry_of_its_own),
        cmocka_unit_test(several_batches_may_be_held_and_too_many_are_refused),
        cmocka_unit_test(a_loader_may_be_freed_at_any_moment),
        cmocka_unit_test(what_fails_in_a_thread_is_returned_by_next),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(options_out_of_range_are_refused),
    };
    return cmocka_run_group_tests(tests, open_dataset, close_dataset);
}
