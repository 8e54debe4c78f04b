/* suture: the command. One file per subcommand, found in the table below; no logic of its own. */
#include "base/nearest.h"
#include "cli/commands.h"
#include "cli/options.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

typedef struct {
    const char *words[3];              /* "data", "import", "csv" */
    int (*run)(int argc, char **argv); /* argv[0] is the last word */
    const char *summary;
} su_subcommand;

static const su_subcommand commands[] = {
#define SU_COMMAND(function, summary, ...) {{__VA_ARGS__}, function, summary},
#include "cli/commands.def"
#undef SU_COMMAND
};

enum { COMMANDS = sizeof commands / sizeof *commands, NAME_SIZE = 64 };

static void join(char *name, const char *const *words, int count)
{
    name[0] = 0;
    for (int i = 0; i < count && words[i]; i++)
        snprintf(name + strlen(name), NAME_SIZE - strlen(name), "%s%.20s", i ? " " : "", words[i]);
}

/* The command whose words are nearest to the first three, two or one that were typed; false: none is near. */
static bool guess(int argc, char **argv, char near[NAME_SIZE])
{
    for (int count = argc - 1 < 3 ? argc - 1 : 3; count > 0; count--) {
        static char names[COMMANDS][NAME_SIZE];
        const char *known[COMMANDS + 1];
        char typed[NAME_SIZE];
        int n = 0;
        for (size_t i = 0; i < COMMANDS; i++) {
            int words = 0;
            while (words < 3 && commands[i].words[words]) words++;
            if (words != count) continue;
            join(names[n], commands[i].words, 3);
            known[n] = names[n];
            n++;
        }
        known[n] = NULL;
        join(typed, (const char *const *)argv + 1, count);
        const char *found = su_nearest(typed, known);
        if (found) {
            snprintf(near, NAME_SIZE, "%s", found);
            return true;
        }
    }
    return false;
}

static int usage(FILE *to, const char *prefix)
{
    fprintf(to, "usage: suture %s%sCOMMAND [options]\n\n", prefix ? prefix : "", prefix ? " " : "");
    for (size_t i = 0; i < COMMANDS; i++) {
        char name[NAME_SIZE];
        join(name, commands[i].words, 3);
        if (prefix && strncmp(name, prefix, strlen(prefix)) != 0) continue;
        fprintf(to, "  %-20s %s\n", name, commands[i].summary);
    }
    fprintf(to, "\n'suture COMMAND --help' shows a command's options and examples.\n");
    return to == stdout ? SU_EXIT_OK : SU_EXIT_USAGE;
}

static int run(int argc, char **argv)
{
    if (argc < 2) return usage(stderr, NULL);
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help"))
        return usage(stdout, NULL);
    if (!strcmp(argv[1], "--version")) {
        printf("suture %s\n", SUTURE_VERSION);
        return SU_EXIT_OK;
    }
    bool family = false;
    char near[NAME_SIZE];
    for (size_t i = 0; i < COMMANDS; i++) {
        int words = 0;
        while (words < 3 && commands[i].words[words] && words + 1 < argc &&
               !strcmp(commands[i].words[words], argv[words + 1]))
            words++;
        if (words == 3 || !commands[i].words[words]) return commands[i].run(argc - words, argv + words);
        if (words > 0) family = true;
    }
    if (family) {
        bool help = argc > 2 && (!strcmp(argv[2], "--help") || !strcmp(argv[2], "-h"));
        if (argc > 2 && !help) {
            bool meant = guess(argc, argv, near);
            fprintf(stderr, "suture: '%s' has no command '%s'%s%s%s\n", argv[1], argv[2],
                    meant ? "; did you mean 'suture " : "", meant ? near : "", meant ? "'?" : "");
        }
        return usage(help ? stdout : stderr, argv[1]);
    }
    bool meant = guess(argc, argv, near);
    fprintf(stderr, "suture: no command '%s'%s%s%s\n", argv[1], meant ? "; did you mean 'suture " : "",
            meant ? near : "", meant ? "'?" : "");
    return usage(stderr, NULL);
}

/* A table that was cut short by a full disk is no result. */
int main(int argc, char **argv)
{
    signal(SIGXFSZ, SIG_IGN); /* 'ulimit -f' is then an error with a message, not a death */
    int code = run(argc, argv);
    bool lost = ferror(stdout) != 0;
    const char *why = fflush(stdout) == 0 ? NULL : strerror(errno);
    if (code == SU_EXIT_FAILED || (!lost && !why)) return code;
    fprintf(stderr, "suture: standard output could not be written%s%s\n", why ? ": " : "", why ? why : "");
    return SU_EXIT_FAILED;
}
