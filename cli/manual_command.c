/* orthrus man and orthrus completion: pages and scripts out of the tables of flags. */
#include <stdio.h>
#include <string.h>

#include "cli/command.h"
#include "cli/manual.h"

int command_man(int argc, char **argv)
{
    static const struct flag flags[] = {{0}};
    const struct command command = {
        .name = "man",
        .arguments = "[COMMAND]",
        .summary = "Prints the manual page of a command, or the overview, in man(7).",
        .flags = flags,
        .max_arguments = 1,
    };
    char **arguments;
    size_t n;
    int status;
    if (!command_begin(&command, argc, argv, &arguments, &n, &status)) {
        return status;
    }
    if (n == 0) {
        command_list(MANUAL_MAN);
        return EXIT_DONE;
    }
    return command_manual(arguments[0], MANUAL_MAN);
}

int command_completion(int argc, char **argv)
{
    static const struct flag flags[] = {{0}};
    const struct command command = {
        .name = "completion",
        .arguments = "bash|zsh|fish",
        .summary = "Prints a completion script for a shell.",
        .flags = flags,
        .min_arguments = 1,
        .max_arguments = 1,
    };
    struct err err = ERR_INIT;
    enum manual_style style;
    char **arguments;
    size_t n;
    int status;
    if (!command_begin(&command, argc, argv, &arguments, &n, &status)) {
        return status;
    }
    if (!manual_style_parse(arguments[0], &style) || style == MANUAL_MAN) {
        err_set(&err, ERR_USAGE, "the shell must be bash, zsh or fish");
        return command_fail("completion", &err);
    }
    command_list(style);
    return EXIT_DONE;
}
