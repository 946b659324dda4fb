/* The table of commands. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/jval.h"
#include "base/mapped.h"
#include "cli/command.h"
#include "cli/suggest.h"
#include "model/encoder/blas.h"

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
} commands[] = {
    {"serve", command_serve, "the daemon: /embed, /classify, /sentiment and more over HTTP"},
    {"embed", command_embed, "embed a file of lines"},
    {"predict", command_predict, "classify a file of lines with every head"},
    {"tokenize", command_tokenize, "ids, tokens and offsets of a file of lines"},
    {"train", command_train, "train the heads, and the encoder where asked"},
    {"eval", command_eval, "measure heads on labelled data"},
    {"calibrate", command_calibrate, "fit the heads' temperatures on held-out data"},
    {"merge-heads", command_merge_heads, "one heads file out of several"},
    {"inspect", command_inspect, "what a model folder or a heads file holds"},
    {"health", command_health, "ask a daemon whether it is ready"},
    {"bench", command_bench, "measure the encoder's throughput"},
    {"man", command_man, "the manual page of a command"},
    {"completion", command_completion, "a completion script for a shell"},
};
enum { N_COMMANDS = sizeof commands / sizeof *commands, NO_COMMAND = -1 };

static void print_usage(FILE *to)
{
    (void)fprintf(to,
                  "orthrus: sentence embeddings and predictions from one BERT and its heads.\n\n"
                  "Usage: orthrus COMMAND [flags]\n\nCommands:\n");
    for (size_t i = 0; i < N_COMMANDS; i++) {
        (void)fprintf(to, "  %-13s%s\n", commands[i].name, commands[i].summary);
    }
    (void)fprintf(to,
                  "\northrus COMMAND --help shows a command's flags. orthrus --version shows the "
                  "version.\n");
}

static int run_command(const char *name, int argc, char **argv, const char **ret_near)
{
    struct suggestion near = {0};
    for (size_t i = 0; i < N_COMMANDS; i++) {
        if (strcmp(name, commands[i].name) == 0) {
            return commands[i].run(argc, argv);
        }
        suggest(&near, name, strlen(name), commands[i].name);
    }
    *ret_near = near.best;
    return NO_COMMAND;
}

static int no_command(const char *name, const char *near)
{
    (void)fprintf(stderr, "orthrus: %.64s: no such %s%s%s; see orthrus --help\n", name,
                  *name == '-' ? "flag" : "command", near ? ", did you mean " : "",
                  near ? near : "");
    return EXIT_USAGE;
}

int command_manual(const char *name, enum manual_style style)
{
    static const char *const words[] = {"--help=man", "--help=bash", "--help=zsh", "--help=fish"};
    char word[16];
    char shown[32];
    char *argv[] = {shown, word, NULL};
    const char *near = NULL;
    (void)snprintf(word, sizeof word, "%s", words[style]);
    (void)snprintf(shown, sizeof shown, "%s", name);
    int status = run_command(name, 2, argv, &near);
    return status == NO_COMMAND ? no_command(name, near) : status;
}

void command_list(enum manual_style style)
{
    const char *names[N_COMMANDS];
    const char *summaries[N_COMMANDS];
    for (size_t i = 0; i < N_COMMANDS; i++) {
        names[i] = commands[i].name;
        summaries[i] = commands[i].summary;
    }
    manual_begin(style, names, summaries, N_COMMANDS);
    for (size_t i = 0; style != MANUAL_MAN && i < N_COMMANDS; i++) {
        (void)command_manual(names[i], style);
    }
    manual_end(style);
}

/* Where one of the standard streams is closed, the next descriptor opened would take its place, and
 * what is printed would go into a model, a state file or a client's connection. What takes it can't
 * be read or written as input and output are, so that a result for nobody is still an error; log
 * lines for nobody are none. */
static void occupy_standard_streams(void)
{
    static const int modes[] = {O_WRONLY, O_RDONLY, O_RDWR};
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) < 0) {
            (void)open("/dev/null", modes[fd]);
        }
    }
}

/* A result that reached nobody is a failure. */
static int printed(const char *command, int status)
{
    if (fflush(stdout) != 0 && status == EXIT_DONE) {
        (void)fprintf(stderr, "orthrus%s%s: standard output: write failed\n", *command ? " " : "",
                      command);
        return EXIT_FAILED;
    }
    return status;
}

int main(int argc, char **argv)
{
    occupy_standard_streams();
    jval_global_init();
    blas_setup();
    /* A reader that went away is an error of write(2), not a death. */
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGXFSZ, SIG_IGN); /* nor is a file that may not grow any more */
    mapped_tell();                  /* nor one that has become shorter, without a word */
    if (argc < 2) {
        print_usage(stderr);
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        print_usage(stdout);
        return printed("", EXIT_DONE);
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("orthrus %s\n", ORTHRUS_VERSION);
        return printed("", EXIT_DONE);
    }
    const char *near = NULL;
    const char *name = argv[1]; /* reading the flags reorders argv */
    int status = run_command(name, argc - 1, argv + 1, &near);
    if (status == NO_COMMAND) {
        return no_command(name, near);
    }
    return printed(name, status);
}
