#include "model/model.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "model/files/checkpoint.h"
#include "model/heads/own.h"

/* The last component of the folder as it was given, so that a link keeps its own name; of what it
 * resolves to for ".", ".." and "/". */
static char *last_component(const char *dir)
{
    size_t end = strlen(dir);
    while (end > 1 && dir[end - 1] == '/') {
        end--;
    }
    size_t begin = end;
    while (begin > 0 && dir[begin - 1] != '/') {
        begin--;
    }
    size_t size = end - begin;
    bool dots = size <= 2 && memcmp(dir + begin, "..", size) == 0;
    if (!dots) {
        return strndup(dir + begin, size);
    }
    char *resolved = realpath(dir, NULL);
    char *slash = resolved ? strrchr(resolved, '/') : NULL;
    char *name = strdup(slash && slash[1] ? slash + 1 : "model");
    free(resolved);
    return name;
}

/* What the encoder has rows for. */
static enum err_code check_tokenizer(const struct tokenizer *tokenizer, const struct config *config,
                                     struct err *err)
{
    size_t words = tokenizer_vocab_size(tokenizer);
    size_t types = tokenizer_types(tokenizer, false);
    if (words > config->vocab) {
        return err_set(err, ERR_MISMATCH, "%s: %zu words, but vocab_size in config.json is %zu",
                       tokenizer_source(tokenizer), words, config->vocab);
    }
    if (types > 1 && types > config->types) {
        return err_set(err, ERR_MISMATCH,
                       "%s: %zu token types in the template, but type_vocab_size in config.json "
                       "is %zu",
                       tokenizer_source(tokenizer), types, config->types);
    }
    return ERR_OK;
}

enum err_code model_open_tokenizer(const char *dir, struct config *config,
                                   struct tokenizer **ret_tokenizer, struct err *err)
{
    char *inside = config_transformer_dir(dir, config);
    struct tokenizer *tokenizer = NULL;
    if (!inside) {
        return err_nomem(err, strlen(dir));
    }
    enum err_code code = tokenizer_open(inside, &config->tokenizer, &tokenizer, err);
    free(inside);
    code = code == ERR_OK ? check_tokenizer(tokenizer, config, err) : code;
    if (code != ERR_OK) {
        tokenizer_destroy(tokenizer);
        return code;
    }
    for (size_t i = 0; i < tokenizer_warnings(tokenizer); i++) {
        config_warn(config, "%s", tokenizer_warning(tokenizer, i));
    }
    *ret_tokenizer = tokenizer;
    return ERR_OK;
}

struct heads_fit model_heads_fit(const struct model *model, enum pooling pooling)
{
    return (struct heads_fit){.hidden = model->config.hidden,
                              .pooled = pooling_count(pooling) * model->config.hidden,
                              .encoder_sha256 = model->encoder_sha256,
                              .tokenizer_sha256 = tokenizer_digest(model->tokenizer),
                              .pooling = pooling};
}

/* Takes the heads out of the checkpoint: the folder's own, or a multi-task one's pair. Which
 * pooling will be asked for is not known yet: model_default_heads checks it. */
static enum err_code load_own_heads(const struct checkpoint *checkpoint, struct model *model,
                                    struct err *err)
{
    static const enum pooling poolings[] = {POOLING_MEAN, POOLING_CLS};
    const struct safetensors *file = weights_file(checkpoint->weights, 0);
    if (model->config.folder != FOLDER_PAIR) {
        struct heads_fit fit = model_heads_fit(model, model->config.pooling);
        /* A head that can't be served as it was taught ends the start: nothing is skipped. */
        return heads_of_folder(checkpoint, &fit, &model->own_heads, err);
    }
    size_t size;
    const unsigned char *data = safetensors_bytes(file, &size);
    enum err_code code = ERR_CONFLICT;
    for (size_t i = 0; code == ERR_CONFLICT && i < sizeof poolings / sizeof *poolings; i++) {
        struct heads_fit fit = model_heads_fit(model, poolings[i]);
        model->own_heads_error = ERR_INIT;
        code = heads_create(data, size, safetensors_label(file), &fit, false, NULL,
                            &model->own_heads, &model->own_heads_error);
    }
    return code == ERR_NOMEM ? err_set(err, code, "%s", model->own_heads_error.text) : ERR_OK;
}

/* The weights are hashed and checked beside everything else that is made of them: SHA waits for its
 * own rounds, packing for memory, and reading the tokenizer takes one thread. */
struct verifying {
    struct checkpoint *checkpoint;
    unsigned threads;
    bool started; /* on a thread of its own */
    pthread_t thread;
    enum err_code code;
    struct err err;
};

static void *verify(void *argument)
{
    struct verifying *verifying = argument;
    verifying->code = checkpoint_verify(verifying->checkpoint, verifying->threads, &verifying->err);
    return NULL;
}

static void verify_begin(struct verifying *verifying)
{
    verifying->started = pthread_create(&verifying->thread, NULL, verify, verifying) == 0;
    if (!verifying->started) {
        (void)verify(verifying);
    }
}

/* What it found is said first, whatever else went wrong. */
static enum err_code verify_end(struct verifying *verifying, enum err_code code, struct err *err)
{
    if (verifying->started) {
        (void)pthread_join(verifying->thread, NULL);
    }
    if (verifying->code == ERR_OK) {
        return code;
    }
    *err = ERR_INIT;
    return err_set(err, verifying->code, "%s", verifying->err.text);
}

static enum err_code make_parts(struct model *model, const struct checkpoint *checkpoint,
                                const struct encoder_options *options, struct err *err)
{
    enum err_code code = model_open_tokenizer(model->dir, &model->config, &model->tokenizer, err);
    if (code == ERR_OK) {
        code = vector_open(model->dir, &model->config, &model->vector, err);
    }
    struct encoder_options chosen = *options;
    if (model->config.hidden <= ENCODER_NARROW) {
        chosen.attention = PRECISION_FP32;
    }
    return code == ERR_OK ? encoder_create(checkpoint, &chosen, &model->encoder, err) : code;
}

static enum err_code load_parts(struct model *model, const struct encoder_options *options,
                                struct err *err)
{
    struct checkpoint *checkpoint;
    enum err_code code = checkpoint_bind(model->dir, &checkpoint, err);
    if (code != ERR_OK) {
        return code;
    }
    model->config = checkpoint->config;
    struct verifying verifying = {
        .checkpoint = checkpoint, .threads = options->threads, .err = ERR_INIT};
    verify_begin(&verifying);
    code = make_parts(model, checkpoint, options, err);
    code = verify_end(&verifying, code, err);
    if (code == ERR_OK) {
        memcpy(model->encoder_sha256, checkpoint->encoder_sha256, sizeof model->encoder_sha256);
        code = load_own_heads(checkpoint, model, err);
    }
    if (code == ERR_OK) {
        code = weights_unchanged(checkpoint->weights, err);
    }
    checkpoint->config.lists = NULL; /* the model's, on failure too */
    checkpoint_close(checkpoint);
    return code;
}

enum err_code model_load(const char *dir, const struct encoder_options *options,
                         struct model **ret_model, struct err *err)
{
    struct model *model = calloc(1, sizeof *model);
    if (!model) {
        return err_nomem(err, sizeof *model);
    }
    model->dir = strdup(dir);
    model->name = last_component(dir);
    enum err_code code = model->dir && model->name ? load_parts(model, options, err)
                                                   : err_nomem(err, strlen(dir) + 1);
    if (code != ERR_OK) {
        model_destroy(model);
        return code;
    }
    *ret_model = model;
    return ERR_OK;
}

void model_destroy(struct model *model)
{
    if (model) {
        heads_release(model->own_heads);
        config_done(&model->config);
        vector_destroy(model->vector);
        encoder_destroy(model->encoder);
        tokenizer_destroy(model->tokenizer);
        free(model->name);
        free(model->dir);
        free(model);
    }
}

enum err_code model_prompt_skip(const struct model *model, const char *prompt, size_t max_length,
                                size_t *ret_skip, struct err *err)
{
    size_t skip = 0;
    if (prompt && prompt[0] && !model->config.include_prompt) {
        struct tokens tokens = {0};
        const struct encode_options options = {.max_length = max_length,
                                               .add_special_tokens = true};
        enum err_code code = tokenizer_encode(model->tokenizer, prompt, strlen(prompt), &options,
                                              &tokens, err);
        if (code != ERR_OK) {
            tokens_done(&tokens);
            return code;
        }
        skip = tokens.n;
        if (skip > 0 && tokenizer_is_special(model->tokenizer, tokens.ids[skip - 1])) {
            skip--;
        }
        tokens_done(&tokens);
    }
    *ret_skip = skip;
    return ERR_OK;
}

/* While the candidates are tried; heads stays NULL until one fits. */
struct search {
    struct heads_fit fit;
    struct heads *heads;
    char *source;
    struct err warning;
};

/* A file that cannot be read, and ERR_NOMEM, end the search: nobody knows whether it fits. Any
 * other error is the warning that the next candidate leaves. */
static enum err_code try_file(struct search *search, const char *path, const struct heads *inside,
                              struct err *err)
{
    struct err why = ERR_INIT;
    struct heads *heads = NULL;
    enum err_code code = inside ? heads_create(inside->file, inside->file_size, path, &search->fit,
                                               true, NULL, &heads, &why)
                                : heads_load(path, &search->fit, true, &heads, &why);
    char *source = code == ERR_OK ? strdup(path) : NULL;
    if (code == ERR_NOMEM || (code == ERR_OK && !source)) {
        heads_release(heads);
        return err_nomem(err, strlen(path) + 1);
    }
    if (code == ERR_IO) {
        return err_set(err, code, "%s", why.text);
    }
    if (code == ERR_OK) {
        search->heads = heads;
        search->source = source;
    } else {
        err_set(&search->warning, code, "%s", why.text);
    }
    return ERR_OK;
}

enum err_code model_default_heads(const struct model *model, enum pooling pooling,
                                  const char *shipped_path, struct heads **ret_heads,
                                  char **ret_source, struct err *ret_warning, struct err *err)
{
    struct search search = {.fit = model_heads_fit(model, pooling)};
    char *beside = file_join(model->dir, "heads.safetensors");
    char *weights = file_join(model->dir, WEIGHTS_FILE);
    if (!beside || !weights) {
        free(weights);
        free(beside);
        return err_nomem(err, strlen(model->dir));
    }
    enum err_code code = ERR_OK;
    if (file_exists(beside)) {
        code = try_file(&search, beside, NULL, err);
    }
    if (code == ERR_OK && !search.heads && model->own_heads) {
        code = try_file(&search, weights, model->own_heads, err);
    }
    if (!search.heads && model->own_heads_error.code != ERR_OK) {
        err_set(&search.warning, model->own_heads_error.code, "%s", model->own_heads_error.text);
    }
    if (code == ERR_OK && !search.heads && shipped_path && file_exists(shipped_path)) {
        code = try_file(&search, shipped_path, NULL, err);
    }
    free(weights);
    free(beside);
    if (code == ERR_OK) {
        *ret_heads = search.heads;
        *ret_source = search.source;
        *ret_warning = search.warning;
    }
    return code;
}
