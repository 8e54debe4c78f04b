/* An import that is killed at any step and run again ends with the bytes of one that was not.
 *
 * Everything that an import does to the disk becomes visible by rename() or goes away by unlinkat(); both are
 * wrapped here, and a child process dies by SIGKILL at the n-th of them: before it, and, in a second round,
 * after it. n runs over all of them, so every state that a kill can leave behind is tried (a temporary file
 * cut short is one more, and is put there by hand). */
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "datasets/import.h"
#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

enum { ROWS = 13 };

static int64_t steps_left; /* until the kill; 0: none */
static bool kill_before;

int __real_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to);
int __real_unlinkat(int folder, const char *name, int flags);
int __wrap_unlinkat(int folder, const char *name, int flags);

static void step(bool before)
{
    if (steps_left > 0 && before == kill_before && --steps_left == 0) raise(SIGKILL);
}

int __wrap_rename(const char *from, const char *to)
{
    step(true);
    int result = __real_rename(from, to);
    step(false);
    return result;
}

int __wrap_unlinkat(int folder, const char *name, int flags)
{
    step(true);
    int result = __real_unlinkat(folder, name, flags);
    step(false);
    return result;
}

static char base[512], csv[600], reference[600], out[600];

static su_status import_to(const char *folder, int threads, su_error *err)
{
    su_import_options options;
    su_csv_columns columns = {0};
    su_import_defaults(&options);
    options.recipe.size = 32;
    options.shard_samples = 5;
    options.threads = threads;
    return su_import_csv(csv, &columns, folder, &options, err);
}

/* The bundled sample's first figures, with some that are not there or said twice. */
static void write_csv(void)
{
    char *text = NULL, *line = NULL, *save = NULL;
    su_buffer b;
    size_t length = 0;
    int row = 0;
    su_buffer_init(&b, 1 << 20);
    assert_int_equal(su_file_read(SU_SOURCE_DIR "/datasets/sample/pairs.csv", 1 << 24, &text, &length, NULL),
                     SU_OK);
    su_buffer_printf(&b, NULL, "image,text,group\n");
    for (line = strtok_r(text, "\n", &save); line && row < ROWS; line = strtok_r(NULL, "\n", &save)) {
        if (strncmp(line, "images/", 7) != 0) continue;
        *strchr(line, ',') = '\0';
        su_buffer_printf(&b, NULL, "%s/datasets/sample/%s,text %d,g%d\n",
                         row % 6 == 2 ? "/none" : SU_SOURCE_DIR, line, row, row / 2);
        row++;
    }
    assert_int_equal(row, ROWS);
    assert_int_equal(su_file_write(csv, b.data, b.length, NULL), SU_OK);
    su_buffer_free(&b);
    su_free(text);
}

static void remove_folder(const char *folder)
{
    DIR *dir = opendir(folder);
    if (!dir) return;
    for (struct dirent *e = NULL; (e = readdir(dir));)
        if (e->d_name[0] != '.') __real_unlinkat(dirfd(dir), e->d_name, 0);
    closedir(dir);
    rmdir(folder);
}

static void remove_out(void)
{
    char partial[640];
    snprintf(partial, sizeof partial, "%s.partial", out);
    remove_folder(out);
    remove_folder(partial);
}

static int count_files(const char *folder)
{
    int n = 0;
    DIR *dir = opendir(folder);
    if (!dir) return -1;
    for (struct dirent *e = NULL; (e = readdir(dir));) n += e->d_name[0] != '.';
    closedir(dir);
    return n;
}

static void assert_same_folder(const char *a, const char *b)
{
    DIR *dir = opendir(a);
    assert_non_null(dir);
    assert_int_equal(count_files(a), count_files(b));
    for (struct dirent *e = NULL; (e = readdir(dir));) {
        if (e->d_name[0] == '.') continue;
        char *pa = su_path_join(a, e->d_name), *pb = su_path_join(b, e->d_name), *da = NULL, *db = NULL;
        size_t na = 0, nb = 0;
        assert_int_equal(su_file_read(pa, 1 << 28, &da, &na, NULL), SU_OK);
        if (su_file_read(pb, 1 << 28, &db, &nb, NULL)) fail_msg("%s is missing", pb);
        if (na != nb || memcmp(da, db, na) != 0) fail_msg("%s differs", e->d_name);
        su_free(pa);
        su_free(pb);
        su_free(da);
        su_free(db);
    }
    closedir(dir);
}

/* Imports in a child that dies at the n-th step; true when it died. */
static bool import_and_die(int64_t n, bool before)
{
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        steps_left = n;
        kill_before = before;
        su_error err = {0};
        _exit(import_to(out, 1, &err) ? 1 : 0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFSIGNALED(status)) {
        assert_int_equal(WTERMSIG(status), SIGKILL);
        return true;
    }
    assert_int_equal(WEXITSTATUS(status), 0);
    return false;
}

static void finish(void)
{
    su_error err = {0};
    if (count_files(out) >= 0) return; /* the kill came after the last rename */
    if (import_to(out, 1, &err)) fail_msg("%s", err.message);
}

static int set_up(void **state)
{
    (void)state;
    const char *temporary = getenv("TMPDIR");
    su_error err = {0};
    snprintf(base, sizeof base, "%s/suture-resume-XXXXXX", temporary ? temporary : "/tmp");
    if (!mkdtemp(base)) return 1;
    snprintf(csv, sizeof csv, "%s/pairs.csv", base);
    snprintf(reference, sizeof reference, "%s/reference", base);
    snprintf(out, sizeof out, "%s/out", base);
    write_csv();
    if (import_to(reference, 1, &err)) fail_msg("%s", err.message);
    su_dataset *ds = NULL;
    if (su_dataset_open(reference, &ds, &err)) fail_msg("%s", err.message);
    for (int64_t i = 0, row = 0; i < su_dataset_count(ds); i++, row++) {
        char text[32];
        row += row % 6 == 2; /* not there */
        snprintf(text, sizeof text, "text %d", (int)row);
        assert_string_equal(su_dataset_record(ds, i)->text, text);
    }
    assert_int_equal(su_dataset_count(ds), ROWS - 2);
    su_dataset_close(ds);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    remove_out();
    remove_folder(reference);
    unlink(csv);
    return rmdir(base);
}

static void killed_at_any_step(bool before)
{
    int64_t n = 1;
    for (;; n++) {
        remove_out();
        if (!import_and_die(n, before)) break;
        finish();
        assert_same_folder(reference, out);
    }
    assert_true(n > 20); /* three parts of four files, the joining, the sweeping */
}

static void killed_before_any_step_it_ends_the_same(void **state)
{
    (void)state;
    killed_at_any_step(true);
}

static void killed_after_any_step_it_ends_the_same(void **state)
{
    (void)state;
    killed_at_any_step(false);
}

static void killed_again_and_again_it_ends_the_same(void **state)
{
    (void)state;
    remove_out();
    /* Six steps: a part is five files at most with import.json, so every life finishes one more thing. */
    while (import_and_die(6, false)) continue;
    assert_same_folder(reference, out);
}

static void a_torn_temporary_file_is_swept_away(void **state)
{
    (void)state;
    char path[700];
    remove_out();
    assert_true(import_and_die(7, true));
    snprintf(path, sizeof path, "%s.partial/image-00000.safetensors.tmp-12345", out);
    assert_int_equal(su_file_write(path, "torn", 4, NULL), SU_OK);
    finish();
    assert_same_folder(reference, out);
}

static void any_number_of_threads_gives_the_same_bytes(void **state)
{
    (void)state;
    for (int threads = 2; threads <= 7; threads += 5) {
        su_error err = {0};
        remove_out();
        if (import_to(out, threads, &err)) fail_msg("%s", err.message);
        assert_same_folder(reference, out);
    }
}

static void what_is_there_is_left_alone(void **state)
{
    (void)state;
    su_error err = {0};
    char path[700];
    assert_int_equal(import_to(reference, 1, &err), SU_OK); /* done before: nothing to do */
    su_import_options options;
    su_csv_columns columns = {0};
    su_import_defaults(&options);
    options.recipe.size = 48;
    assert_int_equal(su_import_csv(csv, &columns, reference, &options, &err), SU_EINVAL);
    assert_non_null(strstr(err.message, "is there already"));
    /* Another import's unfinished folder. */
    remove_out();
    assert_true(import_and_die(7, true));
    assert_int_equal(su_import_csv(csv, &columns, out, &options, &err), SU_EINVAL);
    assert_non_null(strstr(err.message, "unfinished import of another source"));
    /* A folder that is nobody's import. */
    remove_out();
    snprintf(path, sizeof path, "%s.partial", out);
    assert_int_equal(su_mkdirs(path, NULL), SU_OK);
    snprintf(path, sizeof path, "%s.partial/thesis.txt", out);
    assert_int_equal(su_file_write(path, "mine", 4, NULL), SU_OK);
    assert_int_equal(import_to(out, 1, &err), SU_EINVAL);
    assert_true(su_file_exists(path));
}

static void every_failed_allocation_fails_the_import_and_nothing_else(void **state)
{
    (void)state;
    int64_t failures = 0;
    for (int64_t n = 1;; n += 1 + n / 15) {
        su_error err = {0};
        remove_out();
        su_alloc_fail_after(n);
        su_status s = import_to(out, 1, &err);
        su_alloc_fail_after(0);
        if (s == SU_OK) break;
        if (s != SU_ENOMEM) fail_msg("allocation %lld: %s", (long long)n, err.message);
        finish(); /* what it left behind can be gone on with */
        assert_same_folder(reference, out);
        failures++;
    }
    assert_same_folder(reference, out);
    assert_true(failures > 30);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed_before_any_step_it_ends_the_same),
        cmocka_unit_test(killed_after_any_step_it_ends_the_same),
        cmocka_unit_test(killed_again_and_again_it_ends_the_same),
        cmocka_unit_test(a_torn_temporary_file_is_swept_away),
        cmocka_unit_test(any_number_of_threads_gives_the_same_bytes),
        cmocka_unit_test(what_is_there_is_left_alone),
        cmocka_unit_test(every_failed_allocation_fails_the_import_and_nothing_else),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
