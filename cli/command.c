#include "cli/command.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "model/encoder/choice.h"
#include "model/model.h"
#include "server/queue/cpuset.h"

bool command_begin(const struct command *command, int argc, char **argv, char ***ret_arguments,
                   size_t *ret_n_arguments, int *ret_status)
{
    struct err err = ERR_INIT;
    bool help;
    enum err_code code = flags_parse(command, argc, argv, ret_arguments, ret_n_arguments, &help,
                                     &err);
    if (code != ERR_OK) {
        *ret_status = command_fail(command->name, &err);
        return false;
    }
    *ret_status = EXIT_DONE;
    return !help;
}

int command_fail(const char *command, const struct err *err)
{
    (void)fprintf(stderr, "orthrus %s: %s\n", command, err->text);
    return err->code == ERR_USAGE ? EXIT_USAGE : EXIT_FAILED;
}

char *command_cache(const char *name)
{
    const char *base = getenv("ORTHRUS_CACHE");
    const char *under = "";
    if (!base || !*base) {
        base = getenv("XDG_CACHE_HOME");
        under = "orthrus";
    }
    if (!base || !*base) {
        base = getenv("HOME");
        under = ".cache/orthrus";
    }
    char *folder = base && *base ? file_join(base, under) : NULL;
    char *path = folder ? file_join(folder, name) : NULL;
    free(folder);
    return path;
}

char *command_default_model(void)
{
    return command_cache("bert-base-uncased");
}

char *command_shipped_heads(void)
{
    const char *share = getenv("ORTHRUS_SHARE");
    if (share && *share) {
        return file_join(share, "heads/default.safetensors");
    }
    char binary[PATH_MAX];
    ssize_t size = readlink("/proc/self/exe", binary, sizeof binary - 1);
    char *slash = size > 0 ? (binary[size] = '\0', strrchr(binary, '/')) : NULL;
    if (!slash) {
        return NULL;
    }
    *slash = '\0';
    /* Beside the binary's folder; "" is the root. The kernel's path has no links and no "..". */
    slash = strrchr(binary, '/');
    if (slash) {
        *slash = '\0';
    }
    static const char *const places[] = {"share/orthrus/heads/default.safetensors",
                                         "heads/default.safetensors"};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        char *path = file_join(binary, places[i]);
        if (path && file_exists(path)) {
            return path;
        }
        free(path);
    }
    return NULL;
}

unsigned command_default_threads(void)
{
    struct cpuset set;
    cpuset_read("", &set);
    return cpuset_threads(&set);
}

enum err_code command_choose(const char *isa, const char *precision, unsigned threads,
                             struct encoder_options *ret_options, struct err *err)
{
    const struct machine machine = machine_here(clock_now_ns);
    struct choice choice;
    enum err_code code = choice_make(&machine, isa ? isa : "auto", precision ? precision : "auto",
                                     &choice, err);
    if (code != ERR_OK) {
        return code;
    }
    if (choice.warning.code != ERR_OK) {
        (void)fprintf(stderr, "orthrus: %s\n", choice.warning.text);
    }
    *ret_options = (struct encoder_options){
        .isa = choice.isa,
        .precision = choice.precision,
        .attention = choice.attention,
        .threads = threads,
    };
    return ERR_OK;
}

enum err_code command_load(const char *dir, const struct encoder_options *options,
                           struct model **ret_model, struct err *err)
{
    enum err_code code = model_load(dir, options, ret_model, err);
    if (code == ERR_OK) {
        command_tell_warnings(&(*ret_model)->config);
    }
    return code;
}

void command_tell_warnings(const struct config *config)
{
    for (size_t i = 0; i < config->lists->n_warnings; i++) {
        (void)fprintf(stderr, "orthrus: warning: %s\n", config->lists->warnings[i]);
    }
}
