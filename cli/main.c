/* The table of commands. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/jval.h"
#include "cli/command.h"
#include "model/encoder/blas.h"

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
} commands[] = {
    {"serve", command_serve, "the daemon: /embed, /classify, /sentiment and more over HTTP"},
    {"embed", command_embed, "embed a file of lines"},
    {"predict", command_predict, "classify a file of lines with both heads"},
    {"tokenize", command_tokenize, "ids, tokens and offsets of a file of lines"},
    {"train", command_train, "train the heads, and the encoder where asked"},
    {"eval", command_eval, "measure heads on labelled data"},
    {"inspect", command_inspect, "what a model folder or a heads file holds"},
    {"health", command_health, "ask a daemon whether it is ready"},
    {"bench", command_bench, "measure the encoder's throughput"},
};
enum { N_COMMANDS = sizeof commands / sizeof *commands };

static void print_usage(FILE *to)
{
    (void)fprintf(to, "orthrus: sentence embeddings and predictions from one BERT, two heads.\n\n"
                      "Usage: orthrus COMMAND [flags]\n\nCommands:\n");
    for (size_t i = 0; i < N_COMMANDS; i++) {
        (void)fprintf(to, "  %-10s%s\n", commands[i].name, commands[i].summary);
    }
    (void)fprintf(to,
                  "\northrus COMMAND --help shows a command's flags. orthrus --version shows the "
                  "version.\n");
}

/* Where one of the standard streams is closed, the next descriptor opened would take its place, and
 * what is printed would go into a model, a state file or a client's connection. */
static void occupy_standard_streams(void)
{
    int fd;
    do {
        fd = open("/dev/null", O_RDWR);
    } while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd > STDERR_FILENO) {
        (void)close(fd);
    }
}

int main(int argc, char **argv)
{
    occupy_standard_streams();
    jval_global_init();
    blas_setup();
    /* A reader that went away is an error of write(2), not a death. */
    (void)signal(SIGPIPE, SIG_IGN);
    if (argc < 2) {
        print_usage(stderr);
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        print_usage(stdout);
        return EXIT_DONE;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("orthrus %s\n", ORTHRUS_VERSION);
        return EXIT_DONE;
    }
    for (size_t i = 0; i < N_COMMANDS; i++) {
        if (strcmp(argv[1], commands[i].name) == 0) {
            int status = commands[i].run(argc - 1, argv + 1);
            if (fflush(stdout) != 0 && status == EXIT_DONE) {
                (void)fprintf(stderr, "orthrus %s: standard output: write failed\n", argv[1]);
                status = EXIT_FAILED;
            }
            return status;
        }
    }
    (void)fprintf(stderr, "orthrus: no such command; see orthrus --help\n");
    return EXIT_USAGE;
}
