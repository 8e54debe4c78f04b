#include "base/file.h"
#include "tests/base/scratch.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

static int names_in(const char *folder)
{
    int n = 0;
    DIR *d = opendir(folder);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));)
        n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    closedir(d);
    return n;
}

static void a_file_is_read_whole_up_to_the_limit(void **state)
{
    (void)state;
    char *data;
    size_t length;
    su_error err = {0};
    put_bytes(at("abc"), "a\0c", 3);
    assert_int_equal(su_file_read(at("abc"), 3, &data, &length, &err), SU_OK);
    assert_int_equal(length, 3);
    assert_memory_equal(data, "a\0c", 4);
    su_free(data);
    assert_int_equal(su_file_read(at("abc"), 2, &data, &length, &err), SU_ELIMIT);
    assert_null(data);
    assert_contains(err.message, "abc");
    put_text(at("empty"), "");
    assert_int_equal(su_file_read(at("empty"), 0, &data, &length, &err), SU_OK);
    assert_int_equal(length, 0);
    assert_string_equal(data, "");
    su_free(data);
}

static void a_file_without_a_size_is_read_too(void **state)
{
    (void)state;
    char *data;
    size_t length;
    assert_int_equal(su_file_read("/proc/self/status", 1 << 20, &data, &length, NULL), SU_OK);
    assert_int_equal(strncmp(data, "Name:", 5), 0);
    su_free(data);
    assert_int_equal(su_file_read("/dev/zero", 100000, &data, &length, NULL), SU_ELIMIT);
}

static void a_missing_file_and_a_folder_are_errors_that_say_so(void **state)
{
    (void)state;
    char *data;
    size_t length;
    su_map map;
    su_error err = {0};
    assert_int_equal(su_file_read(at("none"), 9, &data, &length, &err), SU_ENOTFOUND);
    assert_contains(err.message, "none: no such file");
    assert_int_equal(su_file_read(scratch, 9, &data, &length, &err), SU_EIO);
    assert_contains(err.message, "is a folder");
    assert_int_equal(su_map_open(at("none"), &map, &err), SU_ENOTFOUND);
    assert_int_equal(su_map_open(scratch, &map, &err), SU_EIO);
    assert_int_equal(su_map_open("/dev/null", &map, &err), SU_EIO);
}

static void a_map_shows_the_file(void **state)
{
    (void)state;
    su_map map;
    put_text(at("mapped"), "hello");
    assert_int_equal(su_map_open(at("mapped"), &map, NULL), SU_OK);
    assert_int_equal(map.length, 5);
    assert_memory_equal(map.data, "hello", 5);
    su_map_close(&map);
    assert_null(map.data);
    put_text(at("mapped"), "");
    assert_int_equal(su_map_open(at("mapped"), &map, NULL), SU_OK);
    assert_int_equal(map.length, 0);
    assert_non_null(map.data);
    su_map_close(&map);
    su_map_close(&map);
}

static void nothing_shows_under_the_name_before_the_commit(void **state)
{
    (void)state;
    su_writer *w;
    su_error err = {0};
    assert_int_equal(su_writer_open(at("out"), &w, &err), SU_OK);
    assert_int_equal(su_writer_add(w, "one ", 4, &err), SU_OK);
    assert_int_equal(su_writer_printf(w, &err, "%s %03d", "two", 7), SU_OK);
    assert_false(su_file_exists(at("out")));
    assert_int_equal(su_writer_commit(w, &err), SU_OK);
    assert_string_equal(text_of(at("out")), "one two 007");
    int before = names_in(scratch);
    assert_int_equal(su_writer_open(at("out"), &w, &err), SU_OK);
    su_writer_printf(w, &err, "new");
    su_writer_abort(w);
    su_writer_abort(NULL);
    assert_string_equal(text_of(at("out")), "one two 007");
    assert_int_equal(names_in(scratch), before);
}

static void pieces_of_any_size_arrive_in_order(void **state)
{
    (void)state;
    enum { N = 400000 };
    char *bytes = su_alloc(N, 1), *back;
    for (int i = 0; i < N; i++) bytes[i] = (char)(i * 31 + i / 251);
    su_writer *w;
    assert_int_equal(su_writer_open(at("pieces"), &w, NULL), SU_OK);
    size_t place = 0;
    for (size_t piece = 1; place < N; piece = piece * 3 + 1) {
        size_t n = piece < N - place ? piece : N - place;
        assert_int_equal(su_writer_add(w, bytes + place, n, NULL), SU_OK);
        place += n;
    }
    assert_int_equal(su_writer_commit(w, NULL), SU_OK);
    size_t length;
    assert_int_equal(su_file_read(at("pieces"), N, &back, &length, NULL), SU_OK);
    assert_int_equal(length, N);
    assert_memory_equal(back, bytes, N);
    su_free(back);
    char *text = su_alloc(100001, 1);
    memset(text, 'q', 100000);
    text[100000] = '\0';
    assert_int_equal(su_writer_open(at("long"), &w, NULL), SU_OK);
    assert_int_equal(su_writer_printf(w, NULL, "<%s>", text), SU_OK); /* longer than any stack buffer */
    assert_int_equal(su_writer_commit(w, NULL), SU_OK);
    struct stat s;
    assert_int_equal(stat(at("long"), &s), 0);
    assert_int_equal(s.st_size, 100002);
    su_free(text);
    su_free(bytes);
}

static void two_writers_of_one_name_do_not_mix(void **state)
{
    (void)state;
    su_writer *a, *b;
    assert_int_equal(su_writer_open(at("twice"), &a, NULL), SU_OK);
    assert_int_equal(su_writer_open(at("twice"), &b, NULL), SU_OK);
    su_writer_printf(a, NULL, "aaa");
    su_writer_printf(b, NULL, "bb");
    assert_int_equal(su_writer_commit(b, NULL), SU_OK);
    assert_string_equal(text_of(at("twice")), "bb");
    assert_int_equal(su_writer_commit(a, NULL), SU_OK);
    assert_string_equal(text_of(at("twice")), "aaa");
}

static void a_symbolic_link_stays_and_its_target_is_replaced(void **state)
{
    (void)state;
    mkdir(at("elsewhere"), 0777);
    put_text(at("elsewhere/target"), "old");
    assert_int_equal(symlink("elsewhere/target", at("link")), 0);
    assert_int_equal(su_file_write(at("link"), "new", 3, NULL), SU_OK);
    struct stat s;
    assert_int_equal(lstat(at("link"), &s), 0);
    assert_true(S_ISLNK(s.st_mode));
    assert_string_equal(text_of(at("elsewhere/target")), "new");
    assert_int_equal(symlink("nowhere/at-all", at("dangling")), 0);
    su_error err = {0};
    assert_int_equal(su_file_write(at("dangling"), "new", 3, &err), SU_EIO);
    assert_contains(err.message, "symbolic link");
}

static void a_pipe_is_written_in_place(void **state)
{
    (void)state;
    int ends[2];
    char path[64], text[8] = "";
    assert_int_equal(pipe(ends), 0);
    snprintf(path, sizeof path, "/dev/fd/%d", ends[1]); /* what a shell passes for >(...) */
    assert_int_equal(su_file_write(path, "piped", 5, NULL), SU_OK);
    assert_int_equal(read(ends[0], text, sizeof text), 5);
    assert_string_equal(text, "piped");
    close(ends[0]);
    close(ends[1]);
    const char *fifo = at("fifo");
    assert_int_equal(mkfifo(fifo, 0600), 0);
    int reader = open(fifo, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    assert_int_equal(su_file_write(fifo, "named", 5, NULL), SU_OK);
    assert_int_equal(read(reader, text, sizeof text), 5);
    assert_string_equal(text, "named");
    close(reader);
    struct stat s;
    assert_int_equal(stat(fifo, &s), 0);
    assert_true(S_ISFIFO(s.st_mode));
}

static void a_full_device_is_named_with_the_remedy_and_stays(void **state)
{
    (void)state;
    const char *full = full_device();
    su_error err = {0};
    assert_int_equal(su_file_write(full, "x", 1, &err), SU_EIO);
    assert_contains(err.message, full);
    assert_contains(err.message, "no space left on the device: free some");
    struct stat s;
    assert_int_equal(stat(full, &s), 0);
    assert_true(S_ISCHR(s.st_mode));
}

static void a_missing_folder_and_a_folder_in_the_way_are_named(void **state)
{
    (void)state;
    su_error err = {0};
    assert_int_equal(su_file_write(at("no/such/file"), "x", 1, &err), SU_ENOTFOUND);
    assert_contains(err.message, "there is no folder");
    assert_int_equal(su_file_write(scratch, "x", 1, &err), SU_EIO);
    assert_contains(err.message, "is a folder");
    char name[400];
    memset(name, 'n', sizeof name);
    name[sizeof name - 1] = '\0';
    assert_int_equal(su_file_write(name, "x", 1, &err), SU_EIO);
    assert_contains(err.message, "too long");
}

static void a_folder_without_permission_is_named(void **state)
{
    (void)state;
    if (geteuid() == 0) skip(); /* root may write everywhere */
    su_error err = {0};
    mkdir(at("locked"), 0555);
    assert_int_equal(su_file_write(at("locked/file"), "x", 1, &err), SU_EIO);
    assert_contains(err.message, "no permission to write in");
}

static void a_write_that_fails_keeps_the_old_file(void **state)
{
    (void)state;
    put_text(at("precious"), "old");
    int before = names_in(scratch);
    struct rlimit kept, small;
    getrlimit(RLIMIT_FSIZE, &kept);
    small = kept;
    small.rlim_cur = 100000;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    su_writer *w;
    su_error err = {0}, later = {0};
    char block[4096] = {0};
    su_status st = su_writer_open(at("precious"), &w, &err);
    for (int i = 0; i < 64 && !st; i++) st = su_writer_add(w, block, sizeof block, &err);
    su_status again = su_writer_add(w, block, 1, &later);
    su_status end = su_writer_commit(w, &later); /* must not make half a file whole */
    setrlimit(RLIMIT_FSIZE, &kept);
    signal(SIGXFSZ, handler);
    assert_int_equal(st, SU_EIO);
    assert_contains(err.message, "ulimit -f");
    assert_int_equal(again, SU_EIO);
    assert_int_equal(end, SU_EIO);
    assert_contains(later.message, "an earlier write failed");
    assert_string_equal(text_of(at("precious")), "old");
    assert_int_equal(names_in(scratch), before);
}

/* A child rewrites a file over and over, 200 kB of one letter each; whenever it is killed, the file is whole. */
static void a_kill_at_any_moment_leaves_a_whole_file(void **state)
{
    (void)state;
    enum { SIZE = 200000, KILLS = 25 };
    char *data = su_alloc(SIZE, 1);
    memset(data, 'a', SIZE);
    mkdir(at("killed"), 0777);
    const char *path = at("killed/file");
    assert_int_equal(su_file_write(path, data, SIZE, NULL), SU_OK);
    for (int k = 0; k < KILLS; k++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            for (int i = 0;; i++) {
                memset(data, 'a' + i % 26, SIZE);
                su_writer *w;
                if (su_writer_open(path, &w, NULL)) _exit(1);
                for (int part = 0; part < 10; part++) su_writer_add(w, data, SIZE / 10, NULL);
                if (su_writer_commit(w, NULL)) _exit(1);
            }
        }
        nanosleep(&(struct timespec){.tv_nsec = 3000000 + 700000L * k}, NULL);
        kill(child, SIGKILL);
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        char *back;
        size_t length;
        assert_int_equal(su_file_read(path, SIZE, &back, &length, NULL), SU_OK);
        assert_int_equal(length, SIZE);
        assert_true(memcmp(back, back + 1, SIZE - 1) == 0); /* one letter all through */
        su_free(back);
    }
    assert_int_equal(su_file_write(path, data, SIZE, NULL), SU_OK);
    assert_int_equal(names_in(at("killed")), 1); /* what the killed ones left is gone */
    su_free(data);
}

static void a_folder_is_locked_against_others_until_its_owner_ends(void **state)
{
    (void)state;
    su_error err = {0};
    int lock, other;
    mkdir(at("locked"), 0777);
    assert_int_equal(su_folder_lock(at("locked"), "training", &lock, &err), SU_OK);
    assert_int_equal(su_folder_lock(at("locked"), "training", &other, &err), SU_EIO);
    assert_contains(err.message, "another process is writing it now (training)");
    su_folder_unlock(other);
    su_folder_unlock(lock);
    pid_t child = fork();
    if (child == 0) _exit(su_folder_lock(at("locked"), "training", &lock, NULL) ? 1 : 0);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(su_folder_lock(at("locked"), "training", &lock, &err), SU_OK);
    su_folder_unlock(lock);
    assert_int_equal(su_folder_lock(at("nowhere"), "training", &lock, &err), SU_EIO);
}

static void a_pipe_is_never_waited_for_by_a_map(void **state)
{
    (void)state;
    su_error err = {0};
    su_map map;
    assert_int_equal(mkfifo(at("silent"), 0600), 0);
    assert_int_equal(su_map_open(at("silent"), &map, &err), SU_EIO);
    assert_contains(err.message, "a device or pipe");
}

static void folders_are_made_all_the_way(void **state)
{
    (void)state;
    su_error err = {0};
    assert_int_equal(su_mkdirs(at("x/y//z/"), &err), SU_OK);
    assert_true(su_is_folder(at("x/y/z")));
    assert_int_equal(su_mkdirs(at("x/y/z"), &err), SU_OK);
    assert_int_equal(su_mkdirs("/", &err), SU_OK);
    assert_int_equal(su_mkdirs(".", &err), SU_OK);
    put_text(at("x/file"), "");
    assert_int_equal(su_mkdirs(at("x/file/deeper"), &err), SU_EIO);
    assert_contains(err.message, "x/file is a file");
    assert_false(su_is_folder(at("x/file")));
    assert_true(su_file_exists(at("x/file")));
}

static void paths_are_joined_and_taken_apart(void **state)
{
    (void)state;
    static const char *const cases[][3] = {
        {"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"a", "/b", "/b"},
        {"", "b", "b"},    {"/", "b", "/b"},   {"a", "", "a/"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *path = su_path_join(cases[i][0], cases[i][1]);
        assert_string_equal(path, cases[i][2]);
        su_free(path);
    }
    assert_string_equal(su_path_name("a/b/c"), "c");
    assert_string_equal(su_path_name("c"), "c");
    assert_string_equal(su_path_name("a/"), "");
}

static su_status write_and_read(su_error *err)
{
    su_writer *w;
    char *data = NULL, text[2000];
    size_t length;
    memset(text, 't', sizeof text);
    su_status st = su_writer_open(at("scarce"), &w, err);
    if (st) return st;
    st = su_writer_printf(w, err, "%.*s", (int)sizeof text, text);
    if (st) {
        su_writer_abort(w);
        return st;
    }
    st = su_writer_commit(w, err);
    if (!st) st = su_mkdirs(at("scarce-folder/deep"), err);
    if (!st) st = su_file_read("/proc/self/status", 1 << 20, &data, &length, err);
    su_free(data);
    return st;
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    assert_true(fail_every_allocation(write_and_read) >= 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_is_read_whole_up_to_the_limit),
        cmocka_unit_test(a_file_without_a_size_is_read_too),
        cmocka_unit_test(a_missing_file_and_a_folder_are_errors_that_say_so),
        cmocka_unit_test(a_map_shows_the_file),
        cmocka_unit_test(nothing_shows_under_the_name_before_the_commit),
        cmocka_unit_test(pieces_of_any_size_arrive_in_order),
        cmocka_unit_test(two_writers_of_one_name_do_not_mix),
        cmocka_unit_test(a_symbolic_link_stays_and_its_target_is_replaced),
        cmocka_unit_test(a_pipe_is_written_in_place),
        cmocka_unit_test(a_full_device_is_named_with_the_remedy_and_stays),
        cmocka_unit_test(a_missing_folder_and_a_folder_in_the_way_are_named),
        cmocka_unit_test(a_folder_without_permission_is_named),
        cmocka_unit_test(a_write_that_fails_keeps_the_old_file),
        cmocka_unit_test(a_kill_at_any_moment_leaves_a_whole_file),
        cmocka_unit_test(a_folder_is_locked_against_others_until_its_owner_ends),
        cmocka_unit_test(a_pipe_is_never_waited_for_by_a_map),
        cmocka_unit_test(folders_are_made_all_the_way),
        cmocka_unit_test(paths_are_joined_and_taken_apart),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
