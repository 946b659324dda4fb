/* Command-line flags by table: one entry gives name, environment name, type, bounds, default and
 * help, so that --help can never disagree with what is parsed. Flag beats environment beats
 * default. */
#ifndef ORTHRUS_CLI_FLAGS_H
#define ORTHRUS_CLI_FLAGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum flag_type {
    FLAG_BOOL,    /* bool: present or not; in the environment 1, 0, true, false */
    FLAG_SWITCH,  /* signed char: 0 not given, 1 or true 1, 0 or false -1 */
    FLAG_STRING,  /* const char *, not empty */
    FLAG_TEXT,    /* const char *, perhaps empty */
    FLAG_STRINGS, /* struct flag_strings: repeatable */
    FLAG_UINT,    /* unsigned */
    FLAG_SIZE,    /* size_t; K, M, G (or KiB, MiB, GiB) multiply by powers of 1024 */
    FLAG_AUTO,    /* the same, or the word auto: 0 */
    FLAG_U64,     /* uint64_t */
    FLAG_DOUBLE,  /* double */
};

enum { FLAG_STRINGS_MAX = 64 };

struct flag_strings {
    const char *at[FLAG_STRINGS_MAX];
    size_t n;
};

struct flag {
    const char *name; /* "max-length"; NULL ends a table */
    char letter;      /* 'i' for -i, or 0 */
    enum flag_type type;
    void *target;        /* written by flags_parse; holds the default before */
    const char *value;   /* what stands for the value in help: "DIR"; NULL for BOOL and SWITCH */
    const char *initial; /* the default in words or digits for help: "128", "none" */
    const char *help;    /* one sentence */
    double min, max;     /* bounds of numbers; both 0: none */
    bool environment;    /* read ORTHRUS_<NAME> too */
};

struct command {
    const char *name;      /* "embed" */
    const char *arguments; /* "PATH", or "" */
    const char *summary;   /* one sentence */
    const char *details;   /* paragraphs behind the flags in --help, or NULL */
    const struct flag *flags;
    size_t min_arguments, max_arguments; /* positional ones */
};

/* Reads environment and argv[1 …] into the flags' targets; *ret_arguments points at the positional
 * arguments (reordered to the end of argv). "--" ends flags; --name=value and --name value both
 * work. --help prints the command's help to stdout and sets *ret_help. Errors: ERR_USAGE, naming
 * flag or variable and what is allowed. */
CHECK_RESULT enum err_code flags_parse(const struct command *command, int argc, char **argv,
                                       char ***ret_arguments, size_t *ret_n_arguments,
                                       bool *ret_help, struct err *err);

/* The environment's name of a flag: "max-length" → "ORTHRUS_MAX_LENGTH". */
void flags_environment_name(const char *flag, char *out, size_t size);

#endif
