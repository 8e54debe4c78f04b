#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/memory.h"
#include "cli/options.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* One command with an option of every kind. */
static bool flag, given;
static const char *text, *preset;
static int64_t count, k;
static double rate, open_ended;
static su_option_list files, positional;
static const su_option options[] = {
    {"resume", SU_OPT_FLAG, &flag, 0, 0, NULL, "go on", NULL},
    {"out", SU_OPT_STRING, &text, 0, 0, "DIR", "where to write\n(made when missing)", &given},
    {"preset", SU_OPT_STRING, &preset, 0, 0, "NAME", "a size", NULL},
    {"epochs", SU_OPT_INT, &count, 1, 1000, "N", "passes over the data", NULL},
    {"k", SU_OPT_INT, &k, 0, 0, "N", "hits", NULL},
    {"lambda-atp", SU_OPT_NUMBER, &rate, -1, 1, "X", "weight", NULL},
    {"lr", SU_OPT_NUMBER, &open_ended, 0, INFINITY, "X", "rate", NULL},
    {"images", SU_OPT_LIST, &files, 0, 0, "FILE", "pictures", NULL},
    {0},
};
static su_command command = {
    .name = "try out",
    .synopsis = "SOURCE [options]",
    .summary = "Tries options out.",
    .examples = "suture try out a\nsuture try out b",
    .options = options,
    .min_positional = 1,
    .max_positional = 2,
};

static char said[16384]; /* what the parser wrote on stdout and stderr */

/* Parses a command line given as words that end with NULL, with both streams caught. */
static int parse(const char *first, ...)
{
    char *argv[32] = {(char *)(uintptr_t) "out"};
    int argc = 1;
    va_list words;
    va_start(words, first);
    for (const char *w = first; w; w = va_arg(words, const char *)) argv[argc++] = (char *)(uintptr_t)w;
    va_end(words);
    flag = given = false;
    text = NULL;
    preset = "small";
    count = 20;
    k = 10;
    rate = 0.5;
    open_ended = 1e-4;
    fflush(NULL);
    FILE *caught = tmpfile();
    int out = dup(STDOUT_FILENO), err = dup(STDERR_FILENO);
    dup2(fileno(caught), STDOUT_FILENO);
    dup2(fileno(caught), STDERR_FILENO);
    int rc = su_options_parse(&command, argc, argv, &positional);
    fflush(NULL);
    dup2(out, STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
    close(out);
    close(err);
    rewind(caught);
    said[fread(said, 1, sizeof said - 1, caught)] = '\0';
    fclose(caught);
    return rc;
}

static void release(void)
{
    su_options_free(&positional, &command);
}

static void assert_said(const char *part)
{
    if (!strstr(said, part)) fail_msg("\"%s\" does not contain \"%s\"", said, part);
}

static void every_kind_of_option_is_read(void **state)
{
    (void)state;
    assert_int_equal(parse("in", "--resume", "--out", "dir", "--epochs", "3", "-k", "5", "--lambda-atp",
                           "-0.25", "--json", "-", "--quiet", NULL),
                     -1);
    assert_true(flag);
    assert_true(given);
    assert_string_equal(text, "dir");
    assert_string_equal(preset, "small");
    assert_int_equal(count, 3);
    assert_int_equal(k, 5);
    assert_true(rate == -0.25);
    assert_string_equal(su_option_json(), "-");
    assert_true(su_option_quiet());
    assert_int_equal(positional.count, 1);
    assert_string_equal(positional.items[0], "in");
    assert_string_equal(said, "");
    release();
    assert_int_equal(parse("in", NULL), -1);
    assert_null(su_option_json()); /* nothing is left from the parse before */
    assert_false(su_option_quiet());
    assert_false(given);
    release();
}

static void a_value_may_follow_an_equals_sign(void **state)
{
    (void)state;
    assert_int_equal(parse("--out=--odd=name", "in", "--epochs=7", "--lr=2e-3", "-k=4", "--images=a", NULL),
                     -1);
    assert_string_equal(text, "--odd=name");
    assert_int_equal(count, 7);
    assert_int_equal(k, 4);
    assert_true(open_ended == 2e-3);
    assert_int_equal(files.count, 1);
    release();
    assert_int_equal(parse("in", "--out=", NULL), -1);
    assert_string_equal(text, "");
    release();
    assert_int_equal(parse("in", "--resume=yes", NULL), SU_EXIT_USAGE);
    assert_said("--resume takes no value");
}

static void a_list_takes_values_until_the_next_option(void **state)
{
    (void)state;
    assert_int_equal(parse("in", "--images", "a", "-", "-1", "--epochs", "2", "--images", "b", NULL), -1);
    assert_int_equal(files.count, 4);
    assert_string_equal(files.items[0], "a");
    assert_string_equal(files.items[1], "-");
    assert_string_equal(files.items[2], "-1");
    assert_string_equal(files.items[3], "b");
    release();
    assert_int_equal(files.count, 0);
    assert_int_equal(parse("in", "--images", "--resume", NULL), SU_EXIT_USAGE);
    assert_said("--images needs a value (FILE)");
}

static void a_double_dash_ends_the_options(void **state)
{
    (void)state;
    assert_int_equal(parse("--images", "a", "--", "--odd", "--help", NULL), -1);
    assert_int_equal(files.count, 1);
    assert_int_equal(positional.count, 2);
    assert_string_equal(positional.items[0], "--odd");
    assert_string_equal(positional.items[1], "--help");
    release();
    assert_int_equal(parse("-", NULL), -1); /* a lone dash is a value: standard input */
    assert_string_equal(positional.items[0], "-");
    release();
}

static void an_unknown_option_gets_a_suggestion(void **state)
{
    (void)state;
    assert_int_equal(parse("in", "--epoch", "3", NULL), SU_EXIT_USAGE);
    assert_said("suture try out: no option '--epoch'; did you mean '--epochs'?\n");
    assert_said("usage: suture try out SOURCE [options]\n");
    assert_int_equal(parse("in", "--lamda-atp=3", NULL), SU_EXIT_USAGE);
    assert_said("no option '--lamda-atp'; did you mean '--lambda-atp'?");
    assert_int_equal(parse("in", "--jsn", "-", NULL), SU_EXIT_USAGE);
    assert_said("did you mean '--json'?");
    assert_int_equal(parse("in", "-epochs", "3", NULL), SU_EXIT_USAGE);
    assert_said("no option '-epochs'; did you mean '--epochs'?");
    assert_int_equal(parse("in", "--zebra", NULL), SU_EXIT_USAGE);
    assert_said("no option '--zebra'\n");
}

static void a_bad_number_names_its_option_and_range(void **state)
{
    (void)state;
    assert_int_equal(parse("in", "--epochs", "0", NULL), SU_EXIT_USAGE);
    assert_said("--epochs 0 is out of range: 1 to 1000\n");
    assert_int_equal(parse("in", "--epochs", "99999999999999999999", NULL), SU_EXIT_USAGE);
    assert_said("out of range: 1 to 1000");
    assert_int_equal(parse("in", "-k", "99999999999999999999", NULL), SU_EXIT_USAGE);
    assert_said("-k 99999999999999999999 is too large\n");
    assert_int_equal(parse("in", "--epochs", "3.5", NULL), SU_EXIT_USAGE);
    assert_said("--epochs needs a whole number, not '3.5'");
    assert_int_equal(parse("in", "--epochs", "", NULL), SU_EXIT_USAGE);
    assert_int_equal(parse("in", "--lambda-atp", "1.01", NULL), SU_EXIT_USAGE);
    assert_said("--lambda-atp 1.01 is out of range: -1 to 1\n");
    assert_int_equal(parse("in", "--lr", "-1", NULL), SU_EXIT_USAGE);
    assert_said("--lr -1 is out of range: at least 0\n");
    assert_int_equal(parse("in", "--lr", "nan", NULL), SU_EXIT_USAGE);
    assert_said("--lr needs a number, not 'nan'");
    assert_int_equal(parse("in", "--lr", "1e999", NULL), SU_EXIT_USAGE);
    assert_int_equal(parse("in", "--lr", "1x", NULL), SU_EXIT_USAGE);
}

static void a_missing_value_names_its_option(void **state)
{
    (void)state;
    assert_int_equal(parse("in", "--out", NULL), SU_EXIT_USAGE);
    assert_said("--out needs a value (DIR)");
    assert_int_equal(parse("in", "--out", "--resume", NULL), SU_EXIT_USAGE);
    assert_said("--out needs a value (DIR)");
}

static void too_few_and_too_many_arguments_are_usage_errors(void **state)
{
    (void)state;
    assert_int_equal(parse(NULL, NULL), SU_EXIT_USAGE);
    assert_said("1 argument is missing");
    assert_said("usage: suture try out SOURCE [options]");
    assert_int_equal(parse("a", "b", "c", NULL), SU_EXIT_USAGE);
    assert_said("'c' is one argument too many");
    command.max_positional = -1;
    assert_int_equal(parse("a", "b", "c", NULL), -1);
    assert_int_equal(positional.count, 3);
    release();
    command.max_positional = 2;
}

static void help_shows_options_defaults_and_examples(void **state)
{
    (void)state;
    /* Defaults are those of the table, whatever stands before --help; a faulty line still gets its help. */
    assert_int_equal(parse("--epochs", "3", "--zebra", "--help", NULL), SU_EXIT_OK);
    assert_said("usage: suture try out SOURCE [options]\n\nTries options out.\n");
    assert_said("  --out DIR               where to write\n                          (made when missing)\n");
    assert_said("  --epochs N              passes over the data (default 20)\n");
    assert_said("  -k N                    hits (default 10)\n");
    assert_said("  --preset NAME           a size (default small)\n");
    assert_said("  --images FILE...        pictures\n");
    assert_said("  --json PATH|-");
    assert_said("  --quiet");
    assert_said("examples:\n  suture try out a\n  suture try out b\n");
    assert_int_equal(parse("-h", NULL), SU_EXIT_OK);
    assert_said("usage: ");
}

static void an_error_chooses_the_exit_code(void **state)
{
    (void)state;
    su_error err = {0};
    int kept = dup(STDERR_FILENO);
    assert_non_null(freopen("/dev/null", "w", stderr));
    su_fail(&err, SU_EINVAL, "x");
    int usage = su_cli_fail(&command, &err);
    su_fail(&err, SU_EIO, "x");
    int failed = su_cli_fail(&command, &err);
    fflush(stderr);
    dup2(kept, STDERR_FILENO);
    close(kept);
    assert_int_equal(usage, SU_EXIT_USAGE);
    assert_int_equal(failed, SU_EXIT_FAILED);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    int n = 1;
    for (;; n++) {
        su_alloc_fail_after(n);
        int rc = parse("a", "b", "--images", "c", "d", NULL);
        su_alloc_fail_after(0);
        if (rc == -1) break;
        assert_int_equal(rc, SU_EXIT_FAILED);
        assert_said("no memory");
    }
    assert_int_equal(n, 5);
    release();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_option_is_read),
        cmocka_unit_test(a_value_may_follow_an_equals_sign),
        cmocka_unit_test(a_list_takes_values_until_the_next_option),
        cmocka_unit_test(a_double_dash_ends_the_options),
        cmocka_unit_test(an_unknown_option_gets_a_suggestion),
        cmocka_unit_test(a_bad_number_names_its_option_and_range),
        cmocka_unit_test(a_missing_value_names_its_option),
        cmocka_unit_test(too_few_and_too_many_arguments_are_usage_errors),
        cmocka_unit_test(help_shows_options_defaults_and_examples),
        cmocka_unit_test(an_error_chooses_the_exit_code),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
