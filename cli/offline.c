#include "cli/offline.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cli/command.h"

enum err_code offline_model_dir(const char *flag, char **ret_dir, struct err *err)
{
    char *dir = flag ? strdup(flag) : command_default_model();
    if (!dir) {
        return flag ? err_nomem(err, strlen(flag))
                    : err_set(err, ERR_USAGE, "--model: no folder given and no home folder known");
    }
    *ret_dir = dir;
    return ERR_OK;
}

enum err_code offline_heads(const struct model *model, const char *flag, struct heads **ret_heads,
                            struct err *err)
{
    if (flag) {
        struct heads_fit fit = model_heads_fit(model, model->config.pooling);
        struct err why = ERR_INIT;
        enum err_code loaded = heads_load(flag, &fit, true, ret_heads, &why);
        /* A whole multi-task checkpoint has heads too, beside much else. */
        if (loaded != ERR_OK && heads_load(flag, &fit, false, ret_heads, NULL) == ERR_OK) {
            return ERR_OK;
        }
        return loaded == ERR_OK ? ERR_OK : err_set(err, loaded, "%s", why.text);
    }
    char *shipped = command_shipped_heads();
    char *source = NULL;
    struct err warning = ERR_INIT;
    struct heads *heads = NULL;
    enum err_code code = model_default_heads(model, model->config.pooling, shipped, &heads, &source,
                                             &warning, err);
    free(shipped);
    free(source);
    if (code == ERR_OK && !heads) {
        return err_set(err, ERR_NOT_FOUND, "no heads fit this model%s%s; name a file with --heads",
                       warning.text[0] ? ": " : "", warning.text);
    }
    if (code == ERR_OK) {
        *ret_heads = heads;
    }
    return code;
}

enum err_code offline_tell_left_out(const char *command, const struct heads *heads,
                                    bool first_token, struct err *err)
{
    static const char *const what[] = {"labels tokens", "reads the first token's state"};
    size_t left = heads->n;
    for (size_t i = 0; i < heads->n; i++) {
        const struct head *head = &heads->list[i];
        bool tokens = head->type == HEAD_TOKENS;
        if (tokens || (head->input != HEAD_INPUT_POOLED && !first_token)) {
            left--;
            if (left == 0) {
                return err_set(err, ERR_UNSUPPORTED,
                               "%s %s, which the server alone can do: POST /heads/%s", head->name,
                               what[!tokens], head->name);
            }
            (void)fprintf(stderr, "orthrus %s: %s %s and is left out\n", command, head->name,
                          what[!tokens]);
        }
    }
    return ERR_OK;
}

static enum err_code load(const struct offline_flags *flags, struct offline *offline,
                          struct err *err)
{
    struct encoder_options options;
    unsigned threads = flags->threads ? flags->threads : command_default_threads();
    enum err_code code = command_choose(flags->isa, flags->precision, threads, &options, err);
    char *dir = NULL;
    if (code == ERR_OK) {
        code = offline_model_dir(flags->model_dir, &dir, err);
    }
    if (code == ERR_OK) {
        code = command_load(dir, &options, &offline->model, err);
    }
    free(dir);
    if (code != ERR_OK) {
        return code;
    }
    const struct config *config = &offline->model->config;
    offline->threads = options.threads;
    offline->max_length = flags->max_length ? flags->max_length : config->max_length;
    if (offline->max_length > config->positions) {
        return err_set(err, ERR_USAGE, "--max-length: at most the model's %zu positions",
                       config->positions);
    }
    offline->batch_tokens = flags->batch_tokens ? flags->batch_tokens : BULK_BATCH_TOKENS;
    const struct bulk_options bulk = {
        .encoder = offline->model->encoder,
        .pooling = config->pooling,
        .first = flags->first_token,
        .row_floats = vector_room(offline->model->vector),
        .threads = offline->threads,
        .max_length = offline->max_length,
        .batch_tokens = offline->batch_tokens,
        .now_ns = clock_now_ns,
    };
    return bulk_create(&bulk, &offline->bulk, err);
}

enum err_code offline_open(const struct offline_flags *flags, struct offline *ret_offline,
                           struct err *err)
{
    struct offline offline = {0};
    enum err_code code = load(flags, &offline, err);
    if (code != ERR_OK) {
        offline_close(&offline);
        return code;
    }
    *ret_offline = offline;
    return ERR_OK;
}

void offline_close(struct offline *offline)
{
    bulk_destroy(offline->bulk);
    model_destroy(offline->model);
    *offline = (struct offline){0};
}
