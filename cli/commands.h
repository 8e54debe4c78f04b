/* The subcommands' entry points: argv[0] is the command's last word; returns the process's exit code. */
#ifndef SU_CLI_COMMANDS_H
#define SU_CLI_COMMANDS_H

#define SU_COMMAND(function, summary, ...) int function(int argc, char **argv);
#include "cli/commands.def"
#undef SU_COMMAND

#endif
