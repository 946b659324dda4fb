#include "cli/heads_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"

enum { ARENA_MAX = 1024 * 1024 * 1024 };

/* What the new file is made of. */
struct parts {
    struct arena arena;
    struct tensor_source *tensors;
    struct metadata_source *metadata;
    size_t n_tensors, n_metadata;
};

static enum err_code copy_tensors(const struct safetensors *file, struct parts *parts,
                                  struct err *err)
{
    size_t n = safetensors_count(file);
    parts->tensors = arena_calloc(&parts->arena, n, sizeof *parts->tensors);
    if (!parts->tensors) {
        return err_nomem(err, n * sizeof *parts->tensors);
    }
    for (size_t i = 0; i < n; i++) {
        const struct tensor *tensor = safetensors_at(file, i);
        float *data = arena_calloc(&parts->arena, tensor->count, sizeof *data);
        if (!data) {
            return err_nomem(err, tensor->count * sizeof *data);
        }
        tensor_to_f32(tensor, 0, tensor->count, data);
        struct tensor_source *source = &parts->tensors[parts->n_tensors++];
        *source = (struct tensor_source){.name = tensor->name, .rank = tensor->rank, .data = data};
        memcpy(source->shape, tensor->shape, tensor->rank * sizeof *tensor->shape);
    }
    return ERR_OK;
}

static bool is_temperature(const struct heads *heads, const char *key)
{
    const char *dot = strrchr(key, '.');
    char name[HEADS_NAME_MAX + 1];
    if (!dot || strcmp(dot, ".temperature") != 0 || (size_t)(dot - key) > HEADS_NAME_MAX) {
        return false;
    }
    memcpy(name, key, (size_t)(dot - key));
    name[dot - key] = '\0';
    return heads_find(heads, name) != NULL;
}

static enum err_code copy_metadata(const struct safetensors *file, const struct heads *heads,
                                   const double *temperatures, struct parts *parts, struct err *err)
{
    const struct jval *metadata = safetensors_metadata(file);
    size_t room = jval_object_size(metadata) + heads->n;
    const char *key;
    const struct jval *value;
    void *iter = NULL;
    parts->metadata = arena_calloc(&parts->arena, room, sizeof *parts->metadata);
    if (!parts->metadata) {
        return err_nomem(err, room * sizeof *parts->metadata);
    }
    while (metadata && (iter = jval_object_next(metadata, iter, &key, &value))) {
        const char *text;
        size_t size;
        if (jval_string(value, &text, &size) && !is_temperature(heads, key)) {
            parts->metadata[parts->n_metadata++] = (struct metadata_source){key, text};
        }
    }
    for (size_t i = 0; i < heads->n; i++) {
        char *name = arena_alloc(&parts->arena, HEADS_NAME_MAX + 16);
        char *text = arena_alloc(&parts->arena, 32);
        if (!name || !text) {
            return err_nomem(err, HEADS_NAME_MAX);
        }
        (void)snprintf(name, HEADS_NAME_MAX + 16, "%s.temperature", heads->list[i].name);
        (void)snprintf(text, 32, "%.6g", temperatures[i]);
        if (strcmp(text, "1") != 0) {
            parts->metadata[parts->n_metadata++] = (struct metadata_source){name, text};
        }
    }
    return ERR_OK;
}

enum err_code heads_file_write(const struct heads *heads, const double *temperatures,
                               const char *path, struct err *err)
{
    struct safetensors *file;
    struct parts parts = {.n_tensors = 0};
    enum err_code code = safetensors_parse(heads->file, heads->file_size, path, &file, err);
    if (code != ERR_OK) {
        return code;
    }
    arena_init(&parts.arena, ARENA_MAX);
    code = copy_tensors(file, &parts, err);
    if (code == ERR_OK) {
        code = copy_metadata(file, heads, temperatures, &parts, err);
    }
    if (code == ERR_OK) {
        code = safetensors_write_file(path, parts.tensors, parts.n_tensors, parts.metadata,
                                      parts.n_metadata, err);
    }
    arena_done(&parts.arena);
    safetensors_close(file);
    return code;
}
