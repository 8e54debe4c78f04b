#include "base/log.h"
#include "tests/base/scratch.h"
#include <fcntl.h>
#include <math.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <time.h>

static void pause_ms(int ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L}, NULL);
}

static su_progress_report reports[64];
static char last_note[64];
static int reported;

static void collect(void *context, const su_progress_report *r)
{
    assert_ptr_equal(context, reports);
    assert_string_equal(r->what, "import");
    assert_string_equal(r->unit, "images");
    if (r->note) snprintf(last_note, sizeof last_note, "%s", r->note);
    reports[reported++ % 64] = *r;
}

static void progress_reports_at_most_ten_times_a_second_and_the_last_item(void **state)
{
    (void)state;
    reported = 0;
    su_progress_set_sink(collect, reports);
    char what[] = "import";
    su_progress *p = su_progress_new(what, "images", 1000);
    what[0] = '?'; /* the name is copied */
    for (int i = 1; i <= 999; i++) su_progress_step(p, i, "loss 2.31");
    assert_int_equal(reported, 1);
    su_progress_step(p, 1000, "loss 2.30");
    assert_int_equal(reported, 2);
    assert_int_equal(reports[1].done, 1000);
    assert_false(reports[1].finished);
    assert_string_equal(last_note, "loss 2.30");
    su_progress_free(p);
    assert_int_equal(reported, 3);
    assert_true(reports[2].finished);
    assert_int_equal(reports[2].done, 1000);
    su_progress_set_sink(NULL, NULL);
}

static void rate_and_time_left_follow_from_what_was_done(void **state)
{
    (void)state;
    reported = 0;
    su_progress_set_sink(collect, reports);
    su_progress *p = su_progress_new("import", "images", 1000);
    for (int i = 1; i <= 4; i++) {
        pause_ms(110);
        su_progress_step(p, i * 10, NULL);
    }
    const su_progress_report *r = &reports[reported - 1];
    assert_int_equal(reported, 4);
    assert_true(fabs(r->rate - 40.0 / r->elapsed) < 1e-6 * r->rate);
    assert_true(fabs(r->seconds_left - 960.0 / r->rate) < 1e-6 * r->seconds_left);
    su_progress_free(p);
    p = su_progress_new("import", "images", 0); /* an unknown total */
    su_progress_step(p, 5, NULL);
    assert_true(reports[reported - 1].seconds_left == -1.0);
    su_progress_free(p);
    su_progress_set_sink(NULL, NULL);
}

static void without_a_sink_or_memory_nothing_happens(void **state)
{
    (void)state;
    su_log_set_sink(NULL, NULL);
    su_log(SU_LOG_WARN, "nobody hears %s", "this");
    for (int n = 1; n <= 3; n++) {
        su_alloc_fail_after(n);
        su_progress *p = su_progress_new("import", "images", 10);
        su_alloc_fail_after(0);
        assert_null(p);
    }
    su_progress_step(NULL, 1, NULL);
    su_progress_free(NULL);
    su_progress *p = su_progress_new("import", "images", 10);
    su_progress_step(p, 10, NULL);
    su_progress_free(p);
}

/* Runs what a program does, in a child whose stderr is fd. */
static void talk(int fd, bool quiet)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(fd, STDERR_FILENO);
        setenv("TERM", "xterm", 1);
        su_log_to_stderr(quiet);
        su_log(SU_LOG_DEBUG, "a detail");
        su_log(SU_LOG_INFO, "reading %d files", 3);
        su_progress *p = su_progress_new("import", "images", 200);
        su_progress_step(p, 50, "loss 2.31");
        su_log(SU_LOG_WARN, "one file is empty");
        su_progress_step(p, 200, NULL);
        su_progress_free(p);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static const char *said_to_file(bool quiet)
{
    int fd = open(at("stderr"), O_RDWR | O_CREAT | O_TRUNC, 0600);
    talk(fd, quiet);
    close(fd);
    return text_of(at("stderr"));
}

static void a_log_file_gets_plain_lines(void **state)
{
    (void)state;
    const char *text = said_to_file(false);
    assert_contains(text, "suture: reading 3 files\n");
    assert_contains(text, "suture: warning: one file is empty\n");
    assert_contains(text, "import: 200 images in 0:00");
    assert_null(strchr(text, '\r'));
    assert_null(strchr(text, '\033'));
    assert_null(strstr(text, "detail"));
    assert_null(strstr(text, "50 of")); /* no line within the first ten seconds */
}

static void quiet_leaves_warnings_only(void **state)
{
    (void)state;
    assert_string_equal(said_to_file(true), "suture: warning: one file is empty\n");
}

static void a_terminal_gets_one_bar_that_makes_way_for_messages(void **state)
{
    (void)state;
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    if (master < 0 || grantpt(master) != 0 || unlockpt(master) != 0) skip();
    int slave = open(ptsname(master), O_RDWR | O_NOCTTY);
    if (slave < 0) skip();
    struct winsize size = {.ws_row = 24, .ws_col = 70};
    assert_int_equal(ioctl(slave, TIOCSWINSZ, &size), 0);
    talk(slave, false);
    char text[4096];
    ssize_t n = read(master, text, sizeof text - 1);
    assert_true(n > 0);
    text[n] = '\0';
    close(slave);
    close(master);
    assert_contains(text, "\rimport [#####---------------] 50 of 200 images, 25 %");
    assert_contains(text, "\r\033[Ksuture: warning: one file is empty\r\n"); /* the bar is wiped first */
    assert_contains(text, "[####################] 200 of 200 images, 100 %");
    assert_contains(text, "\r\033[Kimport: 200 images in 0:00");
    for (const char *line = text; (line = strchr(line, '\r')); line++) {
        assert_true(strcspn(line + 1, "\r\033\n") < 70);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(progress_reports_at_most_ten_times_a_second_and_the_last_item),
        cmocka_unit_test(rate_and_time_left_follow_from_what_was_done),
        cmocka_unit_test(without_a_sink_or_memory_nothing_happens),
        cmocka_unit_test(a_log_file_gets_plain_lines),
        cmocka_unit_test(quiet_leaves_warnings_only),
        cmocka_unit_test(a_terminal_gets_one_bar_that_makes_way_for_messages),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
