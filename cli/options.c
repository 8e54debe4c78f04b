/* Parsing, checking and --help from a subcommand's one table. */
#include "cli/options.h"
#include "base/memory.h"
#include "base/nearest.h"
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HELP_COLUMN = 26 };

static const char *json_path;
static bool quiet;

static const su_option common[] = {
    SU_STRING("json", &json_path, "PATH|-", "write the result as JSON to a file, or to stdout (-)"),
    SU_FLAG("quiet", &quiet, "no progress on stderr, only warnings"),
    SU_FLAG("help", NULL, "show this help"),
    {0},
};

const char *su_option_json(void)
{
    return json_path;
}

bool su_option_quiet(void)
{
    return quiet;
}

/* --- help --------------------------------------------------------------------------------------------- */

static const char *dashes(const char *name)
{
    return name[1] ? "--" : "-";
}

static bool ranged(const su_option *o)
{
    return o->low != 0.0 || o->high != 0.0;
}

static bool in_range(const su_option *o, double x)
{
    return !ranged(o) || (x >= o->low && x <= o->high);
}

/* What the option is when it is not given. A number outside the option's own range means "chosen by the
 * program", and is left to the help text; so is an option with `given`, which overrides what stands
 * elsewhere. */
static void print_default(const su_option *o)
{
    if (o->given) return;
    if (o->kind == SU_OPT_INT && in_range(o, (double)*(int64_t *)o->value))
        printf(" (default %lld)", (long long)*(int64_t *)o->value);
    if (o->kind == SU_OPT_NUMBER && in_range(o, *(double *)o->value))
        printf(" (default %g)", *(double *)o->value);
    if (o->kind == SU_OPT_STRING && *(const char **)o->value)
        printf(" (default %s)", *(const char **)o->value);
}

static void print_option(const su_option *o)
{
    char head[128];
    snprintf(head, sizeof head, "  %s%s%s%s%s", dashes(o->name), o->name, o->argument ? " " : "",
             o->argument ? o->argument : "", o->kind == SU_OPT_LIST ? "..." : "");
    if (strlen(head) < HELP_COLUMN)
        printf("%-*s", HELP_COLUMN, head);
    else
        printf("%s\n%*s", head, HELP_COLUMN, "");
    for (const char *line = o->help ? o->help : "";;) {
        size_t length = strcspn(line, "\n");
        printf("%.*s", (int)length, line);
        if (!line[length]) break;
        line += length + 1;
        printf("\n%*s", HELP_COLUMN, "");
    }
    print_default(o);
    printf("\n");
}

static void print_help(const su_command *c)
{
    printf("usage: suture %s %s\n\n%s\n\noptions:\n", c->name, c->synopsis, c->summary);
    for (const su_option *o = c->options; o && o->name; o++) print_option(o);
    for (const su_option *o = common; o->name; o++) print_option(o);
    if (!c->examples) return;
    printf("\nexamples:\n");
    for (const char *line = c->examples; *line;) {
        size_t length = strcspn(line, "\n");
        printf("  %.*s\n", (int)length, line);
        line += length + (line[length] != '\0');
    }
}

/* --- complaints --------------------------------------------------------------------------------------- */

static int complain(const su_command *c, const char *format, ...) __attribute__((format(printf, 2, 3)));

static int complain(const su_command *c, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "suture %s: ", c->name);
    vfprintf(stderr, format, args);
    fprintf(stderr, "\nusage: suture %s %s\n'suture %s --help' shows the options and examples.\n", c->name,
            c->synopsis, c->name);
    va_end(args);
    return SU_EXIT_USAGE;
}

static int no_memory(const su_command *c)
{
    fprintf(stderr, "suture %s: no memory for the command line\n", c->name);
    return SU_EXIT_FAILED;
}

int su_cli_fail(const su_command *command, const su_error *err)
{
    fprintf(stderr, "suture %s: %s\n", command->name, err->message);
    return err->code == SU_EINVAL ? SU_EXIT_USAGE : SU_EXIT_FAILED;
}

static int unknown_option(const su_command *c, const char *argument, const char *name, size_t length)
{
    const char *known[128], *near = NULL;
    size_t n = 0;
    for (const su_option *o = c->options; o && o->name && n < 120; o++) known[n++] = o->name;
    for (const su_option *o = common; o->name; o++) known[n++] = o->name;
    known[n] = NULL;
    char *wanted = su_strndup(name, length);
    if (wanted) near = su_nearest(wanted, known);
    su_free(wanted);
    int shown = (int)(name + length - argument);
    if (near)
        return complain(c, "no option '%.*s'; did you mean '%s%s'?", shown, argument, dashes(near), near);
    return complain(c, "no option '%.*s'", shown, argument);
}

static int out_of_range(const su_command *c, const su_option *o, const char *text)
{
    if (isinf(o->high) || o->high >= 9e18)
        return complain(c, "%s%s %s is out of range: at least %.15g", dashes(o->name), o->name, text, o->low);
    if (isinf(o->low) || o->low <= -9e18)
        return complain(c, "%s%s %s is out of range: at most %.15g", dashes(o->name), o->name, text, o->high);
    return complain(c, "%s%s %s is out of range: %.15g to %.15g", dashes(o->name), o->name, text, o->low,
                    o->high);
}

/* --- values ------------------------------------------------------------------------------------------- */

/* "--name", "-n" and "--" begin an option; "-" (standard input) and "-0.5" are values. */
static bool looks_like_option(const char *s)
{
    return s[0] == '-' && (s[1] == '-' || isalpha((unsigned char)s[1]));
}

static bool append(su_option_list *list, const char *item)
{
    const char **items = su_realloc(list->items, (size_t)list->count + 1, sizeof *items);
    if (!items) return false;
    items[list->count++] = item;
    list->items = items;
    return true;
}

static int set_int(const su_command *c, const su_option *o, const char *text)
{
    char *end;
    errno = 0;
    long long n = strtoll(text, &end, 10);
    if (end == text || *end)
        return complain(c, "%s%s needs a whole number, not '%s'", dashes(o->name), o->name, text);
    if (errno == ERANGE && !ranged(o))
        return complain(c, "%s%s %s is too large", dashes(o->name), o->name, text);
    if (errno == ERANGE || !in_range(o, (double)n)) return out_of_range(c, o, text);
    *(int64_t *)o->value = n;
    return -1;
}

static int set_number(const su_command *c, const su_option *o, const char *text)
{
    char *end;
    double x = strtod(text, &end);
    if (end == text || *end || !isfinite(x))
        return complain(c, "%s%s needs a number, not '%s'", dashes(o->name), o->name, text);
    if (!in_range(o, x)) return out_of_range(c, o, text);
    *(double *)o->value = x;
    return -1;
}

static int set_value(const su_command *c, const su_option *o, const char *text)
{
    switch (o->kind) {
    case SU_OPT_INT:
        return set_int(c, o, text);
    case SU_OPT_NUMBER:
        return set_number(c, o, text);
    case SU_OPT_LIST:
        return append(o->value, text) ? -1 : no_memory(c);
    case SU_OPT_STRING:
        *(const char **)o->value = text;
        return -1;
    case SU_OPT_FLAG:
        break;
    }
    return -1;
}

/* --- parsing ------------------------------------------------------------------------------------------ */

static const su_option *find(const su_option *options, const char *name, size_t length)
{
    for (const su_option *o = options; o && o->name; o++)
        if (strlen(o->name) == length && !memcmp(o->name, name, length)) return o;
    return NULL;
}

/* Takes the option at argv[*i] and its values, leaving *i at the last word used. */
static int take_option(const su_command *c, int argc, char **argv, int *i)
{
    const char *argument = argv[*i], *name = argument + (argument[1] == '-' ? 2 : 1);
    const char *value = NULL;
    size_t length = strcspn(name, "=");
    if (name[length] == '=') value = name + length + 1;
    const su_option *o = find(c->options, name, length);
    if (!o) o = find(common, name, length);
    if (!o || (length > 1 && argument[1] != '-')) return unknown_option(c, argument, name, length);
    if (o->given) *o->given = true;
    if (o->kind == SU_OPT_FLAG) {
        if (value) return complain(c, "%s%s takes no value", dashes(o->name), o->name);
        *(bool *)o->value = true;
        return -1;
    }
    if (value) return set_value(c, o, value);
    int first = *i + 1;
    if (first >= argc || looks_like_option(argv[first]))
        return complain(c, "%s%s needs a value (%s)", dashes(o->name), o->name,
                        o->argument ? o->argument : "VALUE");
    if (o->kind != SU_OPT_LIST) {
        *i = first;
        return set_value(c, o, argv[first]);
    }
    while (*i + 1 < argc && !looks_like_option(argv[*i + 1])) {
        int rc = set_value(c, o, argv[++*i]);
        if (rc >= 0) return rc;
    }
    return -1;
}

static int parse(const su_command *c, int argc, char **argv, su_option_list *positional)
{
    bool options = true; /* until "--" */
    for (int i = 1; i < argc; i++) {
        if (options && !strcmp(argv[i], "--")) {
            options = false;
        } else if (options && looks_like_option(argv[i])) {
            int rc = take_option(c, argc, argv, &i);
            if (rc >= 0) return rc;
        } else if (c->max_positional >= 0 && positional->count >= c->max_positional) {
            return complain(c, "'%s' is one argument too many", argv[i]);
        } else if (!append(positional, argv[i])) {
            return no_memory(c);
        }
    }
    if (positional->count < c->min_positional)
        return complain(c, "%d argument%s missing", c->min_positional - positional->count,
                        c->min_positional - positional->count == 1 ? " is" : "s are");
    return -1;
}

int su_options_parse(const su_command *c, int argc, char **argv, su_option_list *positional)
{
    su_option_list none = {0};
    if (!positional) positional = &none;
    *positional = (su_option_list){0};
    json_path = NULL;
    quiet = false;
    /* Help comes first, while the table still holds the defaults. */
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--help") != 0 && strcmp(argv[i], "-h") != 0) continue;
        print_help(c);
        return SU_EXIT_OK;
    }
    int rc = parse(c, argc, argv, positional);
    if (rc >= 0) su_options_free(positional, c);
    return rc;
}

void su_options_free(su_option_list *positional, const su_command *c)
{
    for (const su_option *o = c->options; o && o->name; o++) {
        if (o->kind != SU_OPT_LIST) continue;
        su_option_list *list = o->value;
        su_free(list->items);
        *list = (su_option_list){0};
    }
    if (!positional) return;
    su_free(positional->items);
    *positional = (su_option_list){0};
}
