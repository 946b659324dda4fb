/* The commands of orthrus, one file each. Each gets argv with argv[0] = its own name and returns
 * an exit status: 0 done, 1 failed, 2 wrong usage. */
#ifndef ORTHRUS_CLI_COMMAND_H
#define ORTHRUS_CLI_COMMAND_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "cli/flags.h"
#include "cli/manual.h"
#include "model/encoder/encoder.h"

struct model;

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

int command_serve(int argc, char **argv);
int command_embed(int argc, char **argv);
int command_predict(int argc, char **argv);
int command_tokenize(int argc, char **argv);
int command_train(int argc, char **argv);
int command_eval(int argc, char **argv);
int command_health(int argc, char **argv);
int command_inspect(int argc, char **argv);
int command_bench(int argc, char **argv);
int command_calibrate(int argc, char **argv);
int command_merge_heads(int argc, char **argv);
int command_man(int argc, char **argv);
int command_completion(int argc, char **argv);

/* Every command's part in a style, with what stands around them (for MANUAL_MAN the overview
 * alone), and one command's; returns the exit status. */
void command_list(enum manual_style style);
int command_manual(const char *name, enum manual_style style);

/* flags_parse, and what every command does with its outcome. True: go on. False: the command has
 * ended, with its help or a usage error printed, and *ret_status is its exit status. */
CHECK_RESULT bool command_begin(const struct command *command, int argc, char **argv,
                                char ***ret_arguments, size_t *ret_n_arguments, int *ret_status);

/* Prints "orthrus COMMAND: text" to stderr; returns the exit status that fits the code. */
int command_fail(const char *command, const struct err *err);

/* A folder or file of the cache: ORTHRUS_CACHE, else XDG_CACHE_HOME/orthrus, else
 * ~/.cache/orthrus. malloc'ed; NULL when memory is out or no home folder is known. */
char *command_cache(const char *name);
/* The model folder where none was named: the fetched bert-base-uncased under the cache folder.
 * malloc'ed; NULL when memory is out or no home folder is known. */
char *command_default_model(void);
/* The heads that ship with the project: ORTHRUS_SHARE, else beside an installed binary
 * (../share/orthrus), else in the source tree of a build (../heads). malloc'ed; NULL when there
 * are none. */
char *command_shipped_heads(void);
/* Compute threads: CPUs allowed by affinity and by the cgroup's quota. */
unsigned command_default_threads(void);
/* Words of --isa and --precision (NULL: "auto") → *ret_options, by model/encoder/choice; its
 * warning goes to stderr. */
CHECK_RESULT enum err_code command_choose(const char *isa, const char *precision, unsigned threads,
                                          struct encoder_options *ret_options, struct err *err);
/* model_load, and what it warned of to stderr. */
CHECK_RESULT enum err_code command_load(const char *dir, const struct encoder_options *options,
                                        struct model **ret_model, struct err *err);
/* What loading a folder warned of, a line each to stderr. */
void command_tell_warnings(const struct config *config);

#endif
