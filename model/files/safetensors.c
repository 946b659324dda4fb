#include "model/files/safetensors.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/size.h"

enum { LENGTH_SIZE = 8 };

static const char metadata_key[] = "__metadata__";

struct safetensors {
    char *label;                   /* owned */
    struct file_map map;           /* owned; zeroed when the bytes are the caller's */
    const unsigned char *bytes;    /* [size], the whole file */
    size_t size;                   /* of the file */
    const unsigned char *data;     /* behind the header */
    size_t data_size;              /* bytes */
    struct jval *header;           /* owned; keeps the names */
    const struct jval *metadata;   /* inside header, or NULL */
    struct tensor *tensors;        /* [count] by place in the data, owned */
    const struct tensor **by_name; /* [count] sorted for bsearch, owned */
    size_t count;
};

/* Looks at what stands outside strings before the JSON parser builds its tree: the number of
 * values bounds the tree's memory, and no negative number has a meaning here ("-0" too, which a
 * parser would give as 0). */
static enum err_code scan_header(const struct safetensors *file, const char *text, size_t size,
                                 struct err *err)
{
    size_t commas = 0;
    bool in_string = false;
    for (size_t i = 0; i < size; i++) {
        char c = text[i];
        if (in_string) {
            i += c == '\\';
            in_string = c != '"';
        } else if (c == '"') {
            in_string = true;
        } else if (c == '-') {
            return err_set(err, ERR_INVALID, "%s: a negative number in the header", file->label);
        } else if (c == ',' && ++commas > SAFETENSORS_VALUES_MAX) {
            return err_set(err, ERR_LIMIT, "%s: header of more than %d values", file->label,
                           SAFETENSORS_VALUES_MAX);
        }
    }
    return ERR_OK;
}

/* What `git clone` leaves in the place of a large file where Git LFS is not installed. */
static bool is_lfs_pointer(const struct safetensors *file)
{
    static const char begin[] = "version https://git-lfs.github.com/spec/";
    size_t size = sizeof begin - 1;
    return file->size >= size && memcmp(file->bytes, begin, size) == 0;
}

/* Checks the length, parses the JSON, finds where the data begins. */
static enum err_code read_header(struct safetensors *file, struct err *err)
{
    if (file->size < LENGTH_SIZE) {
        return err_set(err, ERR_INVALID, "%s: %zu bytes are too few for a safetensors file",
                       file->label, file->size);
    }
    if (is_lfs_pointer(file)) {
        return err_set(err, ERR_INVALID,
                       "%s: a Git LFS pointer, not the file that it stands for: git lfs pull "
                       "fetches it",
                       file->label);
    }
    uint64_t length;
    memcpy(&length, file->bytes, sizeof length);
    if (length > SAFETENSORS_HEADER_MAX) {
        return err_set(err, ERR_LIMIT,
                       "%s: header of %llu bytes, at most %d are allowed (is it safetensors?)",
                       file->label, (unsigned long long)length, SAFETENSORS_HEADER_MAX);
    }
    if (length > file->size - LENGTH_SIZE) {
        return err_set(err, ERR_INVALID,
                       "%s: header of %llu bytes in a file of %zu: the file is truncated",
                       file->label, (unsigned long long)length, file->size);
    }
    const char *text = (const char *)file->bytes + LENGTH_SIZE;
    size_t size = (size_t)length;
    if (size == 0 || text[0] != '{') {
        return err_set(err, ERR_INVALID, "%s: header does not start with '{'", file->label);
    }
    enum err_code code = scan_header(file, text, size, err);
    if (code != ERR_OK) {
        return code;
    }
    code = jval_parse(text, size, &file->header, err);
    if (code != ERR_OK) {
        err_prefix(err, "%s: header", file->label);
        return code;
    }
    file->data = file->bytes + LENGTH_SIZE + size;
    file->data_size = file->size - LENGTH_SIZE - size;
    return ERR_OK;
}

static enum err_code check_metadata(const struct safetensors *file, struct err *err)
{
    if (!jval_is_object(file->metadata)) {
        return err_set(err, ERR_INVALID, "%s: %s is not an object", file->label, metadata_key);
    }
    const char *key;
    const struct jval *value;
    void *iter = NULL;
    while ((iter = jval_object_next(file->metadata, iter, &key, &value))) {
        const char *text;
        size_t size;
        if (!jval_string(value, &text, &size)) {
            return err_set(err, ERR_INVALID, "%s: %s: %s is not a string", file->label,
                           metadata_key, tensor_shown_name(key));
        }
        if (strlen(text) != size) {
            return err_set(err, ERR_INVALID, "%s: %s: %s holds a NUL", file->label, metadata_key,
                           tensor_shown_name(key));
        }
    }
    return ERR_OK;
}

static bool read_size(const struct jval *value, size_t *ret)
{
    int64_t number;
    if (!jval_int(value, &number) || number < 0) {
        return false;
    }
    *ret = (size_t)number;
    return true;
}

/* The place of a tensor's bytes: inside the data and as long as dtype and shape say. */
static enum err_code read_extent(const struct safetensors *file, const struct jval *offsets,
                                 struct tensor *tensor, struct err *err)
{
    const char *name = tensor_shown_name(tensor->name);
    size_t begin;
    size_t end;
    if (jval_array_size(offsets) != 2 || !read_size(jval_at(offsets, 0), &begin) ||
        !read_size(jval_at(offsets, 1), &end) || begin > end) {
        return err_set(err, ERR_INVALID, "%s: tensor %s: data_offsets must be [begin, end]",
                       file->label, name);
    }
    if (end > file->data_size) {
        return err_set(err, ERR_INVALID,
                       "%s: tensor %s ends at byte %zu of the data, which has %zu: the file is "
                       "truncated",
                       file->label, name, end, file->data_size);
    }
    size_t size;
    if (!size_mul(tensor->count, dtype_size(tensor->dtype), &size) || size != end - begin) {
        char shape[TENSOR_SHAPE_TEXT_SIZE];
        tensor_shape_text(tensor, shape);
        return err_set(err, ERR_INVALID, "%s: tensor %s: %s %s does not take the %zu bytes given",
                       file->label, name, dtype_name(tensor->dtype), shape, end - begin);
    }
    tensor->data = file->data + begin;
    tensor->size = size;
    return ERR_OK;
}

static enum err_code read_shape(const struct safetensors *file, const struct jval *shape,
                                struct tensor *tensor, struct err *err)
{
    const char *name = tensor_shown_name(tensor->name);
    if (!jval_is_array(shape)) {
        return err_set(err, ERR_INVALID, "%s: tensor %s: shape must be an array", file->label,
                       name);
    }
    if (jval_array_size(shape) > TENSOR_RANK_MAX) {
        return err_set(err, ERR_LIMIT, "%s: tensor %s: %zu dimensions, at most %d are allowed",
                       file->label, name, jval_array_size(shape), TENSOR_RANK_MAX);
    }
    tensor->rank = (unsigned)jval_array_size(shape);
    tensor->count = 1;
    for (unsigned i = 0; i < tensor->rank; i++) {
        if (!read_size(jval_at(shape, i), &tensor->shape[i])) {
            return err_set(err, ERR_INVALID, "%s: tensor %s: shape must hold integers from 0",
                           file->label, name);
        }
        if (!size_mul(tensor->count, tensor->shape[i], &tensor->count)) {
            return err_set(err, ERR_INVALID, "%s: tensor %s: shape overflows", file->label, name);
        }
    }
    return ERR_OK;
}

static enum err_code read_tensor(const struct safetensors *file, const char *name,
                                 const struct jval *info, struct tensor *tensor, struct err *err)
{
    if (!*name) {
        return err_set(err, ERR_INVALID, "%s: a tensor has an empty name", file->label);
    }
    *tensor = (struct tensor){.name = name};
    name = tensor_shown_name(name);
    const struct jval *dtype = jval_get(info, "dtype");
    const struct jval *shape = jval_get(info, "shape");
    const struct jval *offsets = jval_get(info, "data_offsets");
    if (!dtype || !shape || !offsets || jval_object_size(info) != 3) {
        return err_set(err, ERR_INVALID,
                       "%s: tensor %s: must have dtype, shape and data_offsets and nothing else",
                       file->label, name);
    }
    const char *word;
    size_t word_size;
    if (!jval_string(dtype, &word, &word_size) || strlen(word) != word_size ||
        !dtype_parse(word, &tensor->dtype)) {
        return err_set(err, ERR_INVALID, "%s: tensor %s: unknown dtype", file->label, name);
    }
    enum err_code code = read_shape(file, shape, tensor, err);
    return code == ERR_OK ? read_extent(file, offsets, tensor, err) : code;
}

/* By begin, then by end, so that an empty tensor stands before the one that begins there too. */
static int compare_place(const void *a, const void *b)
{
    const struct tensor *left = a;
    const struct tensor *right = b;
    if (left->data != right->data) {
        return left->data < right->data ? -1 : 1;
    }
    if (left->size != right->size) {
        return left->size < right->size ? -1 : 1;
    }
    return strcmp(left->name, right->name);
}

static int compare_name(const void *a, const void *b)
{
    const struct tensor *const *left = a;
    const struct tensor *const *right = b;
    return strcmp((*left)->name, (*right)->name);
}

/* Together the tensors must cover the data exactly once. */
static enum err_code check_cover(const struct safetensors *file, struct err *err)
{
    size_t at = 0;
    for (size_t i = 0; i < file->count; i++) {
        const struct tensor *tensor = &file->tensors[i];
        size_t begin = (size_t)(tensor->data - file->data);
        if (begin != at) {
            return err_set(err, ERR_INVALID, "%s: tensor %s begins at byte %zu: %s", file->label,
                           tensor_shown_name(tensor->name), begin,
                           begin < at ? "it overlaps the tensor before it"
                                      : "there is a hole before it");
        }
        at = begin + tensor->size;
    }
    if (at != file->data_size) {
        return err_set(err, ERR_INVALID, "%s: %zu bytes behind the last tensor", file->label,
                       file->data_size - at);
    }
    return ERR_OK;
}

static enum err_code read_tensors(struct safetensors *file, struct err *err)
{
    size_t room = jval_object_size(file->header) - (file->metadata ? 1 : 0);
    if (room > SAFETENSORS_TENSORS_MAX) {
        return err_set(err, ERR_LIMIT, "%s: %zu tensors, at most %d are allowed", file->label, room,
                       SAFETENSORS_TENSORS_MAX);
    }
    file->tensors = calloc(size_max(room, 1), sizeof *file->tensors);
    file->by_name = calloc(size_max(room, 1), sizeof(struct tensor *));
    if (!file->tensors || !file->by_name) {
        return err_nomem(err, room * sizeof *file->tensors);
    }
    const char *name;
    const struct jval *info;
    void *iter = NULL;
    while ((iter = jval_object_next(file->header, iter, &name, &info))) {
        if (info == file->metadata) {
            continue;
        }
        enum err_code code = read_tensor(file, name, info, &file->tensors[file->count], err);
        if (code != ERR_OK) {
            return code;
        }
        file->count++;
    }
    qsort(file->tensors, file->count, sizeof *file->tensors, compare_place);
    for (size_t i = 0; i < file->count; i++) {
        file->by_name[i] = &file->tensors[i];
    }
    qsort(file->by_name, file->count, sizeof(struct tensor *), compare_name);
    return check_cover(file, err);
}

static enum err_code read_file(struct safetensors *file, struct err *err)
{
    enum err_code code = read_header(file, err);
    if (code != ERR_OK) {
        return code;
    }
    file->metadata = jval_get(file->header, metadata_key);
    if (file->metadata) {
        code = check_metadata(file, err);
    }
    return code == ERR_OK ? read_tensors(file, err) : code;
}

/* Takes the map over, closes it on failure. */
static enum err_code create(struct file_map map, const void *data, size_t size, const char *label,
                            struct safetensors **ret_file, struct err *err)
{
    struct safetensors *file = calloc(1, sizeof *file);
    if (!file) {
        file_map_close(&map);
        return err_nomem(err, sizeof *file);
    }
    file->map = map;
    file->bytes = data;
    file->size = size;
    file->label = strdup(label);
    enum err_code code = file->label ? read_file(file, err) : err_nomem(err, strlen(label) + 1);
    if (code != ERR_OK) {
        safetensors_close(file);
        return code;
    }
    *ret_file = file;
    return ERR_OK;
}

enum err_code safetensors_open(const char *path, struct safetensors **ret_file, struct err *err)
{
    struct file_map map;
    enum err_code code = file_map_open(path, SAFETENSORS_FILE_MAX, &map, err);
    return code == ERR_OK ? create(map, map.data, map.size, path, ret_file, err) : code;
}

enum err_code safetensors_parse(const void *data, size_t size, const char *label,
                                struct safetensors **ret_file, struct err *err)
{
    return create((struct file_map){0}, data, size, label, ret_file, err);
}

enum err_code safetensors_unchanged(const struct safetensors *file, struct err *err)
{
    return file->map.data ? file_map_unchanged(&file->map, file->label, err) : ERR_OK;
}

void safetensors_close(struct safetensors *file)
{
    if (file) {
        free(file->by_name);
        free(file->tensors);
        jval_free(file->header);
        file_map_close(&file->map);
        free(file->label);
        free(file);
    }
}

const char *safetensors_label(const struct safetensors *file)
{
    return file->label;
}

const unsigned char *safetensors_bytes(const struct safetensors *file, size_t *ret_size)
{
    *ret_size = file->size;
    return file->bytes;
}

size_t safetensors_count(const struct safetensors *file)
{
    return file->count;
}

const struct tensor *safetensors_at(const struct safetensors *file, size_t index)
{
    return index < file->count ? &file->tensors[index] : NULL;
}

const struct tensor *safetensors_find(const struct safetensors *file, const char *name)
{
    const struct tensor key = {.name = name};
    const struct tensor *wanted = &key;
    const struct tensor **found = bsearch(&wanted, file->by_name, file->count,
                                          sizeof(struct tensor *), compare_name);
    return found ? *found : NULL;
}

const struct jval *safetensors_metadata(const struct safetensors *file)
{
    return file->metadata;
}
