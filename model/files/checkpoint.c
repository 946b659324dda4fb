#include "model/files/checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/file.h"
#include "model/files/checkpoint_digest.h"

enum dimension { NONE, HIDDEN, INTERMEDIATE, VOCAB, POSITIONS, TYPES };

/* Tensor name ↔ field ↔ expected shape; offset is into struct checkpoint or layer_tensors. */
struct param_row {
    const char *name;
    enum dimension rows;
    enum dimension columns; /* NONE for a vector */
    size_t offset;
};

#define EMBEDDING(name_, rows_, columns_, field_)                                 \
    {                                                                             \
        "embeddings." name_, rows_, columns_, offsetof(struct checkpoint, field_) \
    }
#define LAYER(name_, rows_, columns_, field_)                          \
    {                                                                  \
        name_, rows_, columns_, offsetof(struct layer_tensors, field_) \
    }
/* weight and bias of one nn.Linear. */
#define LINEAR(name_, rows_, columns_, field_)           \
    LAYER(name_ ".weight", rows_, columns_, field_##_w), \
        LAYER(name_ ".bias", rows_, NONE, field_##_b)

static const struct param_row embedding_rows[] = {
    EMBEDDING("word_embeddings.weight", VOCAB, HIDDEN, word),
    EMBEDDING("position_embeddings.weight", POSITIONS, HIDDEN, position),
    EMBEDDING("token_type_embeddings.weight", TYPES, HIDDEN, type),
    EMBEDDING("LayerNorm.weight", HIDDEN, NONE, embeddings_ln_w),
    EMBEDDING("LayerNorm.bias", HIDDEN, NONE, embeddings_ln_b),
};

static const struct param_row layer_rows[] = {
    LINEAR("attention.self.query", HIDDEN, HIDDEN, query),
    LINEAR("attention.self.key", HIDDEN, HIDDEN, key),
    LINEAR("attention.self.value", HIDDEN, HIDDEN, value),
    LINEAR("attention.output.dense", HIDDEN, HIDDEN, attention_out),
    LINEAR("attention.output.LayerNorm", HIDDEN, NONE, attention_ln),
    LINEAR("intermediate.dense", INTERMEDIATE, HIDDEN, ffn_in),
    LINEAR("output.dense", HIDDEN, INTERMEDIATE, ffn_out),
    LINEAR("output.LayerNorm", HIDDEN, NONE, ffn_ln),
};

enum {
    EMBEDDING_ROWS = sizeof embedding_rows / sizeof *embedding_rows,
    LAYER_ROWS = sizeof layer_rows / sizeof *layer_rows,
};

static const char *const prefixes[] = {"", "bert.", "transformer."};

static size_t dimension_size(const struct config *config, enum dimension dimension)
{
    switch (dimension) {
    case HIDDEN:
        return config->hidden;
    case INTERMEDIATE:
        return config->intermediate;
    case VOCAB:
        return config->vocab;
    case POSITIONS:
        return config->positions;
    case TYPES:
        return config->types;
    case NONE:
        break;
    }
    return 0;
}

size_t checkpoint_param_count(const struct config *config)
{
    return EMBEDDING_ROWS + LAYER_ROWS * config->layers;
}

/* The row of a parameter; its layer, 0 for the embeddings. */
static const struct param_row *find_row(size_t index, size_t *ret_layer)
{
    if (index < EMBEDDING_ROWS) {
        *ret_layer = 0;
        return &embedding_rows[index];
    }
    *ret_layer = (index - EMBEDDING_ROWS) / LAYER_ROWS;
    return &layer_rows[(index - EMBEDDING_ROWS) % LAYER_ROWS];
}

void checkpoint_param(const struct config *config, const struct checkpoint *checkpoint,
                      size_t index, struct checkpoint_param *ret_param)
{
    CHECK(index < checkpoint_param_count(config));
    size_t layer;
    const struct param_row *row = find_row(index, &layer);
    struct checkpoint_param param = {.rank = row->columns == NONE ? 1 : 2};
    param.shape[0] = dimension_size(config, row->rows);
    param.shape[1] = dimension_size(config, row->columns);
    int length;
    if (index < EMBEDDING_ROWS) {
        length = snprintf(param.name, sizeof param.name, "%s", row->name);
    } else {
        length = snprintf(param.name, sizeof param.name, "encoder.layer.%zu.%s", layer, row->name);
    }
    CHECK(length > 0 && (size_t)length < sizeof param.name);
    if (checkpoint) {
        const char *holder = index < EMBEDDING_ROWS ? (const char *)checkpoint
                                                    : (const char *)&checkpoint->layers[layer];
        memcpy(&param.tensor, holder + row->offset, sizeof(struct tensor *));
    }
    *ret_param = param;
}

/* prefix + name, with old_suffix (LayerNorm's gamma and beta) in place of suffix where given. */
static const struct tensor *find_named(const struct safetensors *file, const char *prefix,
                                       const char *name, const char *suffix, const char *old_suffix)
{
    char full[CHECKPOINT_NAME_SIZE + 32];
    int kept = (int)(strlen(name) - strlen(suffix));
    int length = snprintf(full, sizeof full, "%s%.*s%s", prefix, kept, name, old_suffix);
    CHECK(length > 0 && (size_t)length < sizeof full);
    return safetensors_find(file, full);
}

static const struct tensor *find_tensor(const struct safetensors *file, const char *prefix,
                                        const char *name)
{
    const struct tensor *tensor = find_named(file, prefix, name, "", "");
    if (tensor || !strstr(name, "LayerNorm.")) {
        return tensor;
    }
    const char *dot = strrchr(name, '.');
    return find_named(file, prefix, name, dot, strcmp(dot, ".weight") == 0 ? ".gamma" : ".beta");
}

/* Which prefix this file's names have: by the word embeddings, of which there must be one. */
static enum err_code find_prefix(const struct safetensors *file, const char **ret_prefix,
                                 struct err *err)
{
    const char *name = embedding_rows[0].name;
    const char *prefix = NULL;
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        if (!find_tensor(file, prefixes[i], name)) {
            continue;
        }
        if (prefix) {
            return err_set(err, ERR_INVALID, "%s: holds both %s%s and %s%s: which one is meant?",
                           safetensors_label(file), prefix, name, prefixes[i], name);
        }
        prefix = prefixes[i];
    }
    if (!prefix) {
        return err_set(err, ERR_NOT_FOUND,
                       "%s: tensor %s is missing, with and without the prefix bert. or "
                       "transformer.",
                       safetensors_label(file), name);
    }
    *ret_prefix = prefix;
    return ERR_OK;
}

static enum err_code bind_param(struct checkpoint *checkpoint, const char *prefix, size_t index,
                                struct err *err)
{
    const struct safetensors *file = checkpoint->file;
    struct checkpoint_param param;
    checkpoint_param(&checkpoint->config, NULL, index, &param);
    const struct tensor *tensor = find_tensor(file, prefix, param.name);
    char expected[TENSOR_SHAPE_TEXT_SIZE];
    shape_text(param.shape, param.rank, expected);
    if (!tensor) {
        return err_set(err, ERR_NOT_FOUND, "%s: tensor %s%s %s is missing", safetensors_label(file),
                       prefix, param.name, expected);
    }
    if (tensor->rank != param.rank ||
        memcmp(tensor->shape, param.shape, param.rank * sizeof *param.shape) != 0) {
        char found[TENSOR_SHAPE_TEXT_SIZE];
        tensor_shape_text(tensor, found);
        return err_set(err, ERR_MISMATCH, "%s: tensor %s is %s, by config.json it must be %s",
                       safetensors_label(file), tensor->name, found, expected);
    }
    if (!dtype_is_float(tensor->dtype)) {
        return err_set(err, ERR_UNSUPPORTED, "%s: tensor %s is %s, F32, F16 or BF16 can be read",
                       safetensors_label(file), tensor->name, dtype_name(tensor->dtype));
    }
    size_t layer;
    const struct param_row *row = find_row(index, &layer);
    char *holder = index < EMBEDDING_ROWS ? (char *)checkpoint : (char *)&checkpoint->layers[layer];
    memcpy(holder + row->offset, &tensor, sizeof(struct tensor *));
    return ERR_OK;
}

/* A config that says fewer layers than there are would give wrong vectors without a word. */
static enum err_code check_no_more_layers(const struct checkpoint *checkpoint, const char *prefix,
                                          struct err *err)
{
    char name[CHECKPOINT_NAME_SIZE];
    (void)snprintf(name, sizeof name, "encoder.layer.%zu.%s", checkpoint->config.layers,
                   layer_rows[0].name);
    if (find_tensor(checkpoint->file, prefix, name)) {
        return err_set(
            err, ERR_MISMATCH, "%s: holds tensor %s%s, but num_hidden_layers in config.json is %zu",
            safetensors_label(checkpoint->file), prefix, name, checkpoint->config.layers);
    }
    return ERR_OK;
}

static enum err_code bind_all(struct checkpoint *checkpoint, struct err *err)
{
    const char *prefix = "";
    enum err_code code = find_prefix(checkpoint->file, &prefix, err);
    size_t n = checkpoint_param_count(&checkpoint->config);
    for (size_t i = 0; code == ERR_OK && i < n; i++) {
        code = bind_param(checkpoint, prefix, i, err);
    }
    return code == ERR_OK ? check_no_more_layers(checkpoint, prefix, err) : code;
}

static enum err_code open_files(const char *dir, unsigned threads, struct checkpoint *checkpoint,
                                struct err *err)
{
    enum err_code code = config_load(dir, &checkpoint->config, err);
    if (code != ERR_OK) {
        return code;
    }
    checkpoint->layers = calloc(checkpoint->config.layers, sizeof *checkpoint->layers);
    char *path = file_join(dir, CHECKPOINT_FILE);
    if (!checkpoint->layers || !path) {
        free(path);
        return err_nomem(err, checkpoint->config.layers * sizeof *checkpoint->layers);
    }
    code = safetensors_open(path, &checkpoint->file, err);
    free(path);
    if (code == ERR_OK) {
        code = bind_all(checkpoint, err);
    }
    if (code == ERR_OK) {
        code = checkpoint_digest(checkpoint, threads, checkpoint->encoder_sha256, err);
    }
    return code;
}

enum err_code checkpoint_open(const char *dir, unsigned threads, struct checkpoint **ret_checkpoint,
                              struct err *err)
{
    struct checkpoint *checkpoint = calloc(1, sizeof *checkpoint);
    if (!checkpoint) {
        return err_nomem(err, sizeof *checkpoint);
    }
    enum err_code code = open_files(dir, threads, checkpoint, err);
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
        safetensors_close(checkpoint->file);
        free(checkpoint->layers);
        free(checkpoint);
    }
}
