/* suture: the command. One file per subcommand, found in the table below; no logic of its own. */
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

static int usage(FILE *to, const char *prefix)
{
    fprintf(to, "usage: suture %s%sCOMMAND [options]\n\n", prefix ? prefix : "", prefix ? " " : "");
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s%s%s%s%s", commands[i].words[0], commands[i].words[1] ? " " : "",
                 commands[i].words[1] ? commands[i].words[1] : "", commands[i].words[2] ? " " : "",
                 commands[i].words[2] ? commands[i].words[2] : "");
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
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        int words = 0;
        while (words < 3 && commands[i].words[words] && words + 1 < argc &&
               !strcmp(commands[i].words[words], argv[words + 1]))
            words++;
        if (words == 3 || !commands[i].words[words]) return commands[i].run(argc - words, argv + words);
        if (words > 0) family = true;
    }
    if (family) {
        bool help = argc > 2 && (!strcmp(argv[2], "--help") || !strcmp(argv[2], "-h"));
        if (argc > 2 && !help) fprintf(stderr, "suture: '%s' has no command '%s'\n", argv[1], argv[2]);
        return usage(help ? stdout : stderr, argv[1]);
    }
    fprintf(stderr, "suture: no command '%s'\n", argv[1]);
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
