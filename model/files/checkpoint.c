#include "model/files/checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "model/files/checkpoint_digest.h"
#include "model/files/checkpoint_private.h"

enum { PARTS = 2 /* weight and bias */, LAYER_PARAMS = PARTS * LAYER_COUNT, PREFIXES_MAX = 9 };

/* Where a parameter's view goes. */
static const size_t layer_offsets[LAYER_PARAMS] = {
#define PLACE(param, field)                                        \
    [PARTS * (param)] = offsetof(struct layer_tensors, field##_w), \
             [PARTS * (param) + 1] = offsetof(struct layer_tensors, field##_b)
    PLACE(LAYER_QUERY, query),
    PLACE(LAYER_KEY, key),
    PLACE(LAYER_VALUE, value),
    PLACE(LAYER_ATTENTION_OUT, attention_out),
    PLACE(LAYER_ATTENTION_NORM, attention_ln),
    PLACE(LAYER_FFN_IN, ffn_in),
    PLACE(LAYER_FFN_OUT, ffn_out),
    PLACE(LAYER_FFN_NORM, ffn_ln),
#undef PLACE
};

static size_t embedding_params(const struct config *config)
{
    return config->architecture->has_types ? 5 : 4;
}

size_t checkpoint_param_count(const struct config *config)
{
    return embedding_params(config) + LAYER_PARAMS * config->layers;
}

/* Shape and place of an embedding parameter, its name in param->name. */
static size_t embedding_row(const struct config *config, size_t index,
                            struct checkpoint_param *param)
{
    const struct architecture *row = config->architecture;
    size_t norm = embedding_params(config) - PARTS; /* where the norm's two begin */
    if (index < norm) {
        const size_t rows[] = {config->vocab, config->position_rows, config->types};
        const size_t offsets[] = {offsetof(struct checkpoint, word),
                                  offsetof(struct checkpoint, position),
                                  offsetof(struct checkpoint, type)};
        param->rank = 2;
        param->shape[0] = rows[index];
        param->shape[1] = config->hidden;
        (void)snprintf(param->name, sizeof param->name, "%s", row->embedding[index]);
        return offsets[index];
    }
    bool bias = index > norm;
    param->rank = 1;
    param->shape[0] = config->hidden;
    (void)snprintf(param->name, sizeof param->name, "%s.%s", row->embedding[EMBEDDING_NORM],
                   bias ? "bias" : "weight");
    return bias ? offsetof(struct checkpoint, embeddings_ln_b)
                : offsetof(struct checkpoint, embeddings_ln_w);
}

static size_t layer_row(const struct config *config, size_t layer, size_t index,
                        struct checkpoint_param *param)
{
    enum layer_param at = (enum layer_param)(index / PARTS);
    bool bias = index % PARTS;
    bool norm = at == LAYER_ATTENTION_NORM || at == LAYER_FFN_NORM;
    size_t rows = at == LAYER_FFN_IN ? config->intermediate : config->hidden;
    param->rank = bias || norm ? 1 : 2;
    param->shape[0] = rows;
    param->shape[1] = param->rank == 1      ? 0
                      : at == LAYER_FFN_OUT ? config->intermediate
                                            : config->hidden;
    char path[CHECKPOINT_NAME_SIZE];
    /* The format is the table's own: one %zu. */
    const char *format = config->architecture->layer_path;
    const char *hole = strstr(format, "%zu");
    (void)snprintf(path, sizeof path, "%.*s%zu%s", (int)(hole - format), format, layer, hole + 3);
    int length = snprintf(param->name, sizeof param->name, "%s%s.%s", path,
                          config->architecture->layer[at], bias ? "bias" : "weight");
    CHECK(length > 0 && (size_t)length < sizeof param->name);
    return layer_offsets[index];
}

/* Fills all of param but the tensor; returns where its view stands, in the checkpoint or in
 * *ret_layer's tensors (SIZE_MAX: the embeddings). */
static size_t param_row(const struct config *config, size_t index, struct checkpoint_param *param,
                        size_t *ret_layer)
{
    size_t embeddings = embedding_params(config);
    *param = (struct checkpoint_param){.tensor = NULL};
    if (index < embeddings) {
        *ret_layer = SIZE_MAX;
        return embedding_row(config, index, param);
    }
    *ret_layer = (index - embeddings) / LAYER_PARAMS;
    return layer_row(config, *ret_layer, (index - embeddings) % LAYER_PARAMS, param);
}

void checkpoint_param(const struct config *config, const struct checkpoint *checkpoint,
                      size_t index, struct checkpoint_param *ret_param)
{
    CHECK(index < checkpoint_param_count(config));
    size_t layer;
    size_t offset = param_row(config, index, ret_param, &layer);
    if (checkpoint) {
        const char *holder = layer == SIZE_MAX ? (const char *)checkpoint
                                               : (const char *)&checkpoint->layers[layer];
        memcpy(&ret_param->tensor, holder + offset, sizeof(struct tensor *));
    }
}

/* prefix + name, with old_suffix (LayerNorm's gamma and beta) in place of suffix where given. */
static const struct tensor *find_named(const struct checkpoint *checkpoint, const char *prefix,
                                       const char *name, const char *suffix, const char *old_suffix)
{
    char full[CHECKPOINT_FULL_NAME_SIZE];
    int kept = (int)(strlen(name) - strlen(suffix));
    int length = snprintf(full, sizeof full, "%s%.*s%s", prefix, kept, name, old_suffix);
    CHECK(length > 0 && (size_t)length < sizeof full);
    return weights_find(checkpoint->weights, full);
}

const struct tensor *checkpoint_find(const struct checkpoint *checkpoint, const char *prefix,
                                     const char *name)
{
    const struct tensor *tensor = find_named(checkpoint, prefix, name, "", "");
    if (tensor || !strstr(name, "LayerNorm.")) {
        return tensor;
    }
    const char *dot = strrchr(name, '.');
    return find_named(checkpoint, prefix, name, dot,
                      strcmp(dot, ".weight") == 0 ? ".gamma" : ".beta");
}

/* What may stand before the encoder's names: nothing, or the architecture's own prefix, both
 * perhaps under one that sentence-transformers' or a trainer's wrapper adds; the project's own for
 * its multi-task BERT. Another architecture's prefix is another computation. */
static size_t list_prefixes(const struct architecture *row,
                            char out[PREFIXES_MAX][CHECKPOINT_PREFIX_SIZE])
{
    static const char *const wrappers[] = {"", "model.", "auto_model.", "0.auto_model."};
    size_t n = 0;
    for (size_t i = 0; i < sizeof wrappers / sizeof *wrappers; i++) {
        (void)snprintf(out[n++], CHECKPOINT_PREFIX_SIZE, "%s", wrappers[i]);
        (void)snprintf(out[n++], CHECKPOINT_PREFIX_SIZE, "%s%s", wrappers[i], row->prefix);
    }
    if (strcmp(row->model_type, "bert") == 0) {
        (void)snprintf(out[n++], CHECKPOINT_PREFIX_SIZE, "%s", CHECKPOINT_OWN_PREFIX);
    }
    return n;
}

/* Which prefix this file's names have: by the word embeddings, of which there must be one. */
static enum err_code find_prefix(struct checkpoint *checkpoint, struct err *err)
{
    const char *label = weights_label(checkpoint->weights);
    const char *name = checkpoint->config.architecture->embedding[EMBEDDING_WORD];
    char prefixes[PREFIXES_MAX][CHECKPOINT_PREFIX_SIZE];
    size_t n = list_prefixes(checkpoint->config.architecture, prefixes);
    const char *prefix = NULL;
    for (size_t i = 0; i < n; i++) {
        if (!checkpoint_find(checkpoint, prefixes[i], name)) {
            continue;
        }
        if (prefix) {
            return err_set(err, ERR_INVALID, "%s: holds both %s%s and %s%s: which one is meant?",
                           label, prefix, name, prefixes[i], name);
        }
        prefix = prefixes[i];
    }
    if (!prefix) {
        return err_set(err, ERR_NOT_FOUND,
                       "%s: tensor %s is missing, with and without the prefix %s", label, name,
                       checkpoint->config.architecture->prefix);
    }
    memcpy(checkpoint->prefix, prefix, sizeof checkpoint->prefix);
    return ERR_OK;
}

static enum err_code bind_param(struct checkpoint *checkpoint, size_t index, struct err *err)
{
    struct checkpoint_param param;
    size_t layer;
    size_t offset = param_row(&checkpoint->config, index, &param, &layer);
    const struct tensor *tensor = checkpoint_find(checkpoint, checkpoint->prefix, param.name);
    if (!tensor) {
        char expected[TENSOR_SHAPE_TEXT_SIZE];
        shape_text(param.shape, param.rank, expected);
        return err_set(err, ERR_NOT_FOUND, "%s: tensor %s%s %s is missing",
                       weights_label(checkpoint->weights), checkpoint->prefix, param.name,
                       expected);
    }
    enum err_code code = tensor_check(tensor, weights_label(checkpoint->weights), param.rank,
                                      param.shape, err);
    if (code == ERR_OK) {
        char *holder = layer == SIZE_MAX ? (char *)checkpoint : (char *)&checkpoint->layers[layer];
        memcpy(holder + offset, &tensor, sizeof(struct tensor *));
    }
    return code;
}

/* A config that says fewer layers than there are would give wrong vectors without a word. */
static enum err_code check_no_more_layers(const struct checkpoint *checkpoint, struct err *err)
{
    struct checkpoint_param param;
    (void)layer_row(&checkpoint->config, checkpoint->config.layers, 0, &param);
    if (checkpoint_find(checkpoint, checkpoint->prefix, param.name)) {
        return err_set(err, ERR_MISMATCH, "%s: holds tensor %s%s, but %s in config.json is %zu",
                       weights_label(checkpoint->weights), checkpoint->prefix, param.name,
                       checkpoint->config.architecture->layers, checkpoint->config.layers);
    }
    return ERR_OK;
}

static enum err_code bind_all(struct checkpoint *checkpoint, struct err *err)
{
    enum err_code code = find_prefix(checkpoint, err);
    size_t n = checkpoint_param_count(&checkpoint->config);
    for (size_t i = 0; code == ERR_OK && i < n; i++) {
        code = bind_param(checkpoint, i, err);
    }
    if (code == ERR_OK) {
        code = check_no_more_layers(checkpoint, err);
    }
    if (code == ERR_OK) {
        code = checkpoint_bind_head(checkpoint, err);
    }
    return code == ERR_OK ? checkpoint_check_rest(checkpoint, err) : code;
}

static enum err_code open_files(const char *dir, struct checkpoint *checkpoint, struct err *err)
{
    enum err_code code = config_load(dir, &checkpoint->config, err);
    if (code != ERR_OK) {
        return code;
    }
    checkpoint->layers = calloc(checkpoint->config.layers, sizeof *checkpoint->layers);
    char *inside = config_transformer_dir(dir, &checkpoint->config);
    if (!checkpoint->layers || !inside) {
        free(inside);
        return err_nomem(err, checkpoint->config.layers * sizeof *checkpoint->layers);
    }
    code = weights_open(inside, &checkpoint->weights, err);
    free(inside);
    if (code == ERR_OK) {
        code = bind_all(checkpoint, err);
    }
    if (code == ERR_OK) {
        config_settle_length(&checkpoint->config);
    }
    return code;
}

enum err_code checkpoint_bind(const char *dir, struct checkpoint **ret_checkpoint, struct err *err)
{
    struct checkpoint *checkpoint = calloc(1, sizeof *checkpoint);
    if (!checkpoint) {
        return err_nomem(err, sizeof *checkpoint);
    }
    enum err_code code = open_files(dir, checkpoint, err);
    if (code != ERR_OK) {
        checkpoint_close(checkpoint);
        return code;
    }
    *ret_checkpoint = checkpoint;
    return ERR_OK;
}

enum err_code checkpoint_verify(struct checkpoint *checkpoint, unsigned threads, struct err *err)
{
    return checkpoint_digest(checkpoint, threads, checkpoint->encoder_sha256, err);
}

enum err_code checkpoint_open(const char *dir, unsigned threads, struct checkpoint **ret_checkpoint,
                              struct err *err)
{
    struct checkpoint *checkpoint = NULL;
    enum err_code code = checkpoint_bind(dir, &checkpoint, err);
    if (code != ERR_OK) {
        return code;
    }
    code = checkpoint_verify(checkpoint, threads, err);
    if (code != ERR_OK) {
        checkpoint_close(checkpoint);
        return code;
    }
    *ret_checkpoint = checkpoint;
    return ERR_OK;
}

void checkpoint_close(struct checkpoint *checkpoint)
{
    if (checkpoint) {
        config_done(&checkpoint->config);
        weights_close(checkpoint->weights);
        free(checkpoint->layers);
        free(checkpoint);
    }
}
