#include "model/files/weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/jval.h"

enum { INDEX_BYTES_MAX = 64 * 1024 * 1024, SHARD_NAME_MAX = 255 };

struct weights {
    char *label;                /* owned */
    struct safetensors **files; /* [n], owned */
    char **names;               /* [n] of the shards, owned; NULL for a single file */
    size_t n;
};

enum err_code weights_unchanged(const struct weights *weights, struct err *err)
{
    enum err_code code = ERR_OK;
    for (size_t i = 0; i < weights->n && code == ERR_OK; i++) {
        code = safetensors_unchanged(weights->files[i], err);
    }
    return code;
}

void weights_close(struct weights *weights)
{
    if (!weights) {
        return;
    }
    for (size_t i = 0; i < weights->n; i++) {
        safetensors_close(weights->files[i]);
        if (weights->names) {
            free(weights->names[i]);
        }
    }
    free(weights->names);
    free(weights->files);
    free(weights->label);
    free(weights);
}

const char *weights_label(const struct weights *weights)
{
    return weights->label;
}

size_t weights_files(const struct weights *weights)
{
    return weights->n;
}

const struct safetensors *weights_file(const struct weights *weights, size_t i)
{
    return weights->files[i];
}

const struct tensor *weights_find(const struct weights *weights, const char *name)
{
    for (size_t i = 0; i < weights->n; i++) {
        const struct tensor *tensor = safetensors_find(weights->files[i], name);
        if (tensor) {
            return tensor;
        }
    }
    return NULL;
}

/* A file of the folder itself, by its text. */
static bool shard_name_ok(const char *name, size_t size)
{
    return size > 0 && size <= SHARD_NAME_MAX && strlen(name) == size && !strchr(name, '/') &&
           !strchr(name, '\\') && name[0] != '.';
}

static size_t find_shard(const struct weights *weights, const char *name)
{
    size_t i = 0;
    while (i < weights->n && strcmp(weights->names[i], name) != 0) {
        i++;
    }
    return i;
}

static enum err_code add_shard(struct weights *weights, const char *dir, const char *name,
                               struct err *err)
{
    if (weights->n == WEIGHTS_SHARDS_MAX) {
        return err_set(err, ERR_LIMIT, "%s: more than %d shards", weights->label,
                       WEIGHTS_SHARDS_MAX);
    }
    char *copy = strdup(name);
    char *path = file_join(dir, name);
    enum err_code code = copy && path ? safetensors_open(path, &weights->files[weights->n], err)
                                      : err_nomem(err, strlen(name));
    free(path);
    if (code != ERR_OK) {
        free(copy);
        return code == ERR_NOMEM ? code : err_prefix(err, "%s", WEIGHTS_INDEX);
    }
    weights->names[weights->n++] = copy;
    return ERR_OK;
}

/* Opens the shards that the map names; every tensor of the map is where it says. */
static enum err_code open_shards(struct weights *weights, const char *dir, const struct jval *map,
                                 struct err *err)
{
    const char *name;
    const struct jval *value;
    void *iter = NULL;
    while ((iter = jval_object_next(map, iter, &name, &value))) {
        const char *shard;
        size_t size;
        if (!jval_string(value, &shard, &size) || !shard_name_ok(shard, size)) {
            return err_set(err, ERR_INVALID,
                           "%s: weight_map: tensor %s: must name a file of the folder itself",
                           weights->label, tensor_shown_name(name));
        }
        size_t at = find_shard(weights, shard);
        if (at == weights->n) {
            enum err_code code = add_shard(weights, dir, shard, err);
            if (code != ERR_OK) {
                return code;
            }
        }
        if (!safetensors_find(weights->files[at], name)) {
            return err_set(err, ERR_NOT_FOUND, "%s: tensor %s is missing, which %s says is there",
                           safetensors_label(weights->files[at]), tensor_shown_name(name),
                           WEIGHTS_INDEX);
        }
    }
    return ERR_OK;
}

/* No shard holds a tensor that the map puts elsewhere or does not know. */
static enum err_code check_shards(const struct weights *weights, const struct jval *map,
                                  struct err *err)
{
    for (size_t i = 0; i < weights->n; i++) {
        for (size_t t = 0; t < safetensors_count(weights->files[i]); t++) {
            const char *name = safetensors_at(weights->files[i], t)->name;
            const char *shard = NULL;
            size_t size;
            if (!jval_string(jval_get(map, name), &shard, &size) ||
                strcmp(shard, weights->names[i]) != 0) {
                return err_set(err, ERR_INVALID, "%s: holds tensor %s, which %s %s",
                               safetensors_label(weights->files[i]), tensor_shown_name(name),
                               WEIGHTS_INDEX, shard ? "puts into another shard" : "does not name");
            }
        }
    }
    return ERR_OK;
}

static enum err_code open_index(struct weights *weights, const char *dir, struct err *err)
{
    struct jval *root;
    enum err_code code = jval_read_file(weights->label, INDEX_BYTES_MAX, &root, err);
    if (code != ERR_OK) {
        return code;
    }
    const struct jval *map = jval_get(root, "weight_map");
    weights->files = calloc(WEIGHTS_SHARDS_MAX, sizeof(void *));
    weights->names = calloc(WEIGHTS_SHARDS_MAX, sizeof(void *));
    if (!weights->files || !weights->names) {
        code = err_nomem(err, WEIGHTS_SHARDS_MAX * sizeof(void *));
    } else if (!jval_is_object(map) || jval_object_size(map) == 0) {
        code = err_set(err, ERR_INVALID, "%s: weight_map: must be an object of tensors and files",
                       weights->label);
    } else {
        code = open_shards(weights, dir, map, err);
        code = code == ERR_OK ? check_shards(weights, map, err) : code;
    }
    jval_free(root);
    return code;
}

static enum err_code open_single(struct weights *weights, struct err *err)
{
    weights->files = calloc(1, sizeof(void *));
    if (!weights->files) {
        return err_nomem(err, sizeof(void *));
    }
    enum err_code code = safetensors_open(weights->label, &weights->files[0], err);
    weights->n = code == ERR_OK;
    return code;
}

/* True if dir/name is there, its path in *ret_path (owned by the caller either way). */
static bool is_there(const char *dir, const char *name, char **ret_path)
{
    *ret_path = file_join(dir, name);
    return *ret_path && file_exists(*ret_path);
}

static enum err_code neither(const char *dir, const char *single, struct err *err)
{
    static const char *const torch[] = {"pytorch_model.bin", "pytorch_model.bin.index.json"};
    for (size_t i = 0; i < sizeof torch / sizeof *torch; i++) {
        char *path;
        bool there = is_there(dir, torch[i], &path);
        free(path);
        if (there) {
            return err_set(err, ERR_UNSUPPORTED,
                           "%s: not there, only %s: convert it with tools/convert-checkpoint",
                           single, torch[i]);
        }
    }
    return err_set(err, ERR_NOT_FOUND, "%s: not there, and no %s either", single, WEIGHTS_INDEX);
}

/* The single file comes first, as transformers looks for it. */
static enum err_code open_files(const char *dir, struct weights *weights, struct err *err)
{
    char *single;
    char *index = NULL;
    enum err_code code;
    if (is_there(dir, WEIGHTS_FILE, &single)) {
        weights->label = single;
        return open_single(weights, err);
    }
    if (is_there(dir, WEIGHTS_INDEX, &index)) {
        weights->label = index;
        index = NULL;
        code = open_index(weights, dir, err);
    } else {
        code = single && index ? neither(dir, single, err) : err_nomem(err, strlen(dir));
    }
    free(index);
    free(single);
    return code;
}

enum err_code weights_open(const char *dir, struct weights **ret_weights, struct err *err)
{
    struct weights *weights = calloc(1, sizeof *weights);
    if (!weights) {
        return err_nomem(err, sizeof *weights);
    }
    enum err_code code = open_files(dir, weights, err);
    if (code != ERR_OK) {
        weights_close(weights);
        return code;
    }
    *ret_weights = weights;
    return ERR_OK;
}
