/* A command's manual page and shell completions, out of the same table as its --help. */
#ifndef ORTHRUS_CLI_MANUAL_H
#define ORTHRUS_CLI_MANUAL_H

#include <stdbool.h>

#include "cli/flags.h"

enum manual_style { MANUAL_MAN, MANUAL_BASH, MANUAL_ZSH, MANUAL_FISH };

/* "man", "bash", "zsh", "fish". */
bool manual_style_parse(const char *word, enum manual_style *ret_style);

/* Prints the command to stdout: a page in man(7), or its part of a completion script. */
void manual_print(const struct command *command, enum manual_style style);

/* What stands before and behind all commands' parts; names [n] and summaries [n] are theirs. */
void manual_begin(enum manual_style style, const char *const *names, const char *const *summaries,
                  size_t n);
void manual_end(enum manual_style style);

#endif
