#include "model/heads/heads.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "model/heads/heads_private.h"

/* Weights and labels in fp32 take at most twice the file's 16-bit floats. */
static const size_t arena_max = (size_t)4 * HEADS_FILE_MAX;

const struct head *heads_find(const struct heads *heads, const char *name)
{
    for (size_t i = 0; heads && i < heads->n; i++) {
        if (strcmp(heads->list[i].name, name) == 0) {
            return &heads->list[i];
        }
    }
    return NULL;
}

static void destroy(struct heads *heads)
{
    arena_done(&heads->private_->arena);
    free(heads->private_);
    free(heads->file);
    free(heads);
}

static struct heads *allocate(void)
{
    struct heads *heads = calloc(1, sizeof *heads);
    struct heads_private *private_ = calloc(1, sizeof *private_);
    if (!heads || !private_) {
        free(private_);
        free(heads);
        return NULL;
    }
    arena_init(&private_->arena, arena_max);
    atomic_init(&private_->references, 1);
    heads->private_ = private_;
    return heads;
}

static enum err_code keep_file(struct heads *heads, const void *data, size_t size, struct err *err)
{
    heads->file = malloc(size);
    if (!heads->file) {
        return err_nomem(err, size);
    }
    memcpy(heads->file, data, size);
    heads->file_size = size;
    return ERR_OK;
}

static enum err_code make_file(struct heads *heads, const struct heads_fit *fit,
                               const struct jval *metadata, const char *dropped, struct err *err)
{
    struct buf out;
    buf_init(&out, HEADS_FILE_MAX);
    enum err_code code = heads_write(heads, fit, metadata, dropped, &out, err);
    if (code == ERR_OK) {
        heads->file = buf_steal(&out, &heads->file_size);
    }
    buf_done(&out);
    return code;
}

/* The heads of the file, and those of base that it lacks, in the order of names. */
static enum err_code join(const struct heads_source *source, const struct heads *base,
                          struct heads *heads, bool *ret_merged)
{
    struct arena *arena = &heads->private_->arena;
    struct head *list = arena_calloc(arena, HEADS_MAX, sizeof *list);
    if (!list) {
        return err_nomem(source->err, HEADS_MAX * sizeof *list);
    }
    heads->list = list;
    size_t theirs = base ? base->n : 0;
    for (size_t i = 0, j = 0; i < source->n || j < theirs;) {
        int order = j == theirs      ? -1
                    : i == source->n ? 1
                                     : strcmp(source->heads[i].name, base->list[j].name);
        if (heads->n == HEADS_MAX) {
            return err_set(source->err, ERR_LIMIT, "%s: more than %d heads with those in service",
                           source->label, HEADS_MAX);
        }
        enum err_code code = order <= 0
                                 ? head_read(source, &source->heads[i], arena, &list[heads->n])
                                 : head_copy(&base->list[j], arena, &list[heads->n], source->err);
        if (code != ERR_OK) {
            return code;
        }
        *ret_merged = *ret_merged || order > 0;
        i += order <= 0;
        j += order >= 0;
        heads->n++;
    }
    return ERR_OK;
}

static enum err_code fill(struct heads_source *source, bool strict, const struct heads *base,
                          struct heads *heads)
{
    bool merged = false;
    enum err_code code = heads_source_find(source, strict);
    if (code == ERR_OK) {
        code = heads_source_meant_for(source, heads->private_);
    }
    if (code == ERR_OK) {
        code = join(source, base, heads, &merged);
    }
    if (code != ERR_OK) {
        return code;
    }
    if (merged) {
        heads->private_->names_encoder |= base->private_->names_encoder;
        heads->private_->names_tokenizer |= base->private_->names_tokenizer;
        heads->private_->names_pooling |= base->private_->names_pooling;
    }
    size_t size;
    const unsigned char *data = safetensors_bytes(source->file, &size);
    code = merged || !source->only_heads
               ? make_file(heads, source->fit, safetensors_metadata(source->file), NULL,
                           source->err)
               : keep_file(heads, data, size, source->err);
    if (code == ERR_OK) {
        sha256_of(heads->file, heads->file_size, heads->sha256);
    }
    return code;
}

enum err_code heads_create(const void *data, size_t size, const char *label,
                           const struct heads_fit *fit, bool strict, const struct heads *base,
                           struct heads **ret_heads, struct err *err)
{
    if (strict && size > HEADS_FILE_MAX) {
        return err_set(err, ERR_LIMIT, "%s: %zu bytes, a heads file has at most %d", label, size,
                       HEADS_FILE_MAX);
    }
    struct heads_source source = {.label = label, .fit = fit, .err = err};
    enum err_code code = safetensors_parse(data, size, label, &source.file, err);
    if (code != ERR_OK) {
        return code;
    }
    struct heads *heads = allocate();
    if (!heads) {
        safetensors_close(source.file);
        return err_nomem(err, sizeof *heads);
    }
    code = fill(&source, strict, base, heads);
    safetensors_close(source.file);
    if (code != ERR_OK) {
        destroy(heads);
        return code;
    }
    *ret_heads = heads;
    return ERR_OK;
}

enum err_code heads_load(const char *path, const struct heads_fit *fit, bool strict,
                         struct heads **ret_heads, struct err *err)
{
    if (strict) {
        /* Read, not mapped: nobody may change the bytes under the checks. */
        char *data;
        size_t size;
        enum err_code code = file_read_regular(path, HEADS_FILE_MAX, &data, &size, err);
        if (code == ERR_OK) {
            code = heads_create(data, size, path, fit, true, NULL, ret_heads, err);
            free(data);
        }
        return code;
    }
    struct file_map map;
    enum err_code code = file_map_open(path, SAFETENSORS_FILE_MAX, &map, err);
    if (code == ERR_OK) {
        code = heads_create(map.data, map.size, path, fit, false, NULL, ret_heads, err);
        file_map_close(&map);
    }
    return code;
}

/* Copies all heads but one and writes the file with what else the old one says. */
static enum err_code fill_without(const struct heads *from, const char *name,
                                  const struct heads_fit *fit, const struct safetensors *file,
                                  struct heads *heads, struct err *err)
{
    struct arena *arena = &heads->private_->arena;
    struct head *list = arena_calloc(arena, HEADS_MAX, sizeof *list);
    if (!list) {
        return err_nomem(err, HEADS_MAX * sizeof *list);
    }
    heads->list = list;
    heads->private_->names_encoder = from->private_->names_encoder;
    heads->private_->names_tokenizer = from->private_->names_tokenizer;
    heads->private_->names_pooling = from->private_->names_pooling;
    for (size_t i = 0; i < from->n; i++) {
        if (strcmp(from->list[i].name, name) != 0) {
            enum err_code code = head_copy(&from->list[i], arena, &list[heads->n], err);
            if (code != ERR_OK) {
                return code;
            }
            heads->n++;
        }
    }
    enum err_code code = make_file(heads, fit, safetensors_metadata(file), name, err);
    if (code == ERR_OK) {
        sha256_of(heads->file, heads->file_size, heads->sha256);
    }
    return code;
}

enum err_code heads_without(const struct heads *heads, const char *name,
                            const struct heads_fit *fit, struct heads **ret_heads, struct err *err)
{
    if (!heads_find(heads, name)) {
        return err_set(err, ERR_NOT_FOUND, "no such head is in service");
    }
    if (heads->n == 1) {
        return err_set(err, ERR_CONFLICT, "%s is the last head; a set has at least one", name);
    }
    struct safetensors *file;
    enum err_code code = safetensors_parse(heads->file, heads->file_size, "the active heads", &file,
                                           err);
    if (code != ERR_OK) {
        return code;
    }
    struct heads *rest = allocate();
    code = rest ? fill_without(heads, name, fit, file, rest, err) : err_nomem(err, sizeof *rest);
    safetensors_close(file);
    if (code != ERR_OK) {
        if (rest) {
            destroy(rest);
        }
        return code;
    }
    *ret_heads = rest;
    return ERR_OK;
}

struct heads *heads_acquire(struct heads *heads)
{
    if (heads) {
        atomic_fetch_add_explicit(&heads->private_->references, 1, memory_order_relaxed);
    }
    return heads;
}

void heads_release(struct heads *heads)
{
    if (heads &&
        atomic_fetch_sub_explicit(&heads->private_->references, 1, memory_order_acq_rel) == 1) {
        destroy(heads);
    }
}
