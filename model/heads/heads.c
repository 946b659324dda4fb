#include "model/heads/heads.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/check.h"
#include "base/file.h"
#include "model/heads/labels.h"

enum { PART_WEIGHT, PART_BIAS, PART_COUNT };

/* Weights and labels in fp32 take at most twice the file's 16-bit floats. */
static const size_t arena_max = (size_t)4 * HEADS_FILE_MAX;

static const char *const tensor_names[HEAD_COUNT][PART_COUNT] = {
    [HEAD_CLASSIFIER] = {"classifier.weight", "classifier.bias"},
    [HEAD_SENTIMENT] = {"sentiment.weight", "sentiment.bias"},
};
static const char encoder_key[] = "encoder.sha256";
static const char pooling_key[] = "pooling";

struct heads_private {
    atomic_size_t references;
    struct arena arena; /* weights and labels */
    bool names_encoder; /* the file's metadata says encoder.sha256 */
    bool names_pooling;
};

/* A file while a set is made of it. */
struct source {
    const char *label;
    struct safetensors *file;
    const struct heads_fit *fit;
    const struct tensor *tensors[HEAD_COUNT][PART_COUNT]; /* NULL for an absent head */
    bool only_heads;                                      /* the file holds nothing else */
    struct err *err;
};

static const char *metadata_text(const struct source *source, const char *key)
{
    const char *text = NULL;
    size_t size;
    (void)jval_string(jval_get(safetensors_metadata(source->file), key), &text, &size);
    return text;
}

static bool is_head_tensor(const char *name)
{
    for (unsigned kind = 0; kind < HEAD_COUNT; kind++) {
        for (unsigned part = 0; part < PART_COUNT; part++) {
            if (strcmp(name, tensor_names[kind][part]) == 0) {
                return true;
            }
        }
    }
    return false;
}

static enum err_code find_tensors(struct source *source, bool strict)
{
    source->only_heads = true;
    for (size_t i = 0; i < safetensors_count(source->file); i++) {
        const char *name = safetensors_at(source->file, i)->name;
        if (is_head_tensor(name)) {
            continue;
        }
        source->only_heads = false;
        if (strict) {
            return err_set(source->err, ERR_INVALID,
                           "%s: tensor %s does not belong into a heads file: classifier.weight, "
                           "classifier.bias, sentiment.weight and sentiment.bias do",
                           source->label, tensor_shown_name(name));
        }
    }
    bool any = false;
    for (unsigned kind = 0; kind < HEAD_COUNT; kind++) {
        for (unsigned part = 0; part < PART_COUNT; part++) {
            source->tensors[kind][part] = safetensors_find(source->file, tensor_names[kind][part]);
        }
        bool weight = source->tensors[kind][PART_WEIGHT];
        bool bias = source->tensors[kind][PART_BIAS];
        if (weight != bias) {
            return err_set(source->err, ERR_INVALID, "%s: tensor %s is missing beside %s",
                           source->label, tensor_names[kind][weight ? PART_BIAS : PART_WEIGHT],
                           tensor_names[kind][weight ? PART_WEIGHT : PART_BIAS]);
        }
        any = any || weight;
    }
    return any ? ERR_OK
               : err_set(source->err, ERR_NOT_FOUND,
                         "%s: holds no head: neither classifier.weight nor sentiment.weight",
                         source->label);
}

static char lower_hex(char c)
{
    return c >= 'A' && c <= 'F' ? (char)(c - 'A' + 'a') : c;
}

static enum err_code check_encoder(const struct source *source, const char *named)
{
    const char *expected = source->fit->encoder_sha256;
    bool same = true;
    size_t n = 0;
    for (; named[n] && n < SHA256_HEX_SIZE; n++) {
        char c = lower_hex(named[n]);
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) {
            break;
        }
        same = same && c == expected[n];
    }
    if (n != SHA256_HEX_SIZE || named[n]) {
        return err_set(source->err, ERR_INVALID, "%s: %s must be %d hexadecimal digits",
                       source->label, encoder_key, SHA256_HEX_SIZE);
    }
    if (!same) {
        return err_set(source->err, ERR_CONFLICT,
                       "%s: %s: these heads are for encoder %.12s, this is encoder %.12s",
                       source->label, encoder_key, named, expected);
    }
    return ERR_OK;
}

static enum err_code check_pooling(const struct source *source, const char *named)
{
    enum pooling pooling;
    if (pooling_parse(named, &pooling, NULL) != ERR_OK) {
        return err_set(source->err, ERR_INVALID, "%s: %s must be mean or cls", source->label,
                       pooling_key);
    }
    if (pooling != source->fit->pooling) {
        return err_set(source->err, ERR_CONFLICT,
                       "%s: these heads are for %s pooling, this model runs with %s", source->label,
                       named, pooling_name(source->fit->pooling));
    }
    return ERR_OK;
}

/* Does the file say that it is meant for another encoder or pooling? */
static enum err_code check_meant_for(const struct source *source, struct heads_private *private_)
{
    const char *encoder = metadata_text(source, encoder_key);
    const char *pooling = metadata_text(source, pooling_key);
    bool any = source->fit->encoder_sha256 == NULL;
    enum err_code code = encoder && !any ? check_encoder(source, encoder) : ERR_OK;
    if (code == ERR_OK && pooling && !any) {
        code = check_pooling(source, pooling);
    }
    private_->names_encoder = encoder;
    private_->names_pooling = pooling;
    return code;
}

static enum err_code check_shapes(const struct source *source, enum head_kind kind)
{
    const struct tensor *weight = source->tensors[kind][PART_WEIGHT];
    const struct tensor *bias = source->tensors[kind][PART_BIAS];
    size_t classes = weight->rank == 2 ? weight->shape[0] : 0;
    const struct {
        const struct tensor *tensor;
        unsigned rank;
        size_t shape[2];
    } expected[] = {{weight, 2, {classes, source->fit->hidden}}, {bias, 1, {classes}}};
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        const struct tensor *tensor = expected[i].tensor;
        if (!dtype_is_float(tensor->dtype)) {
            return err_set(source->err, ERR_UNSUPPORTED,
                           "%s: tensor %s is %s, F32, F16 or BF16 can be read", source->label,
                           tensor->name, dtype_name(tensor->dtype));
        }
        if (tensor->rank != expected[i].rank ||
            memcmp(tensor->shape, expected[i].shape, tensor->rank * sizeof *tensor->shape) != 0) {
            char found[TENSOR_SHAPE_TEXT_SIZE];
            char wanted[TENSOR_SHAPE_TEXT_SIZE];
            tensor_shape_text(tensor, found);
            shape_text(expected[i].shape, expected[i].rank, wanted);
            return err_set(source->err, ERR_MISMATCH, "%s: tensor %s is %s, expected is %s%s",
                           source->label, tensor->name, found,
                           weight->rank == 2 ? wanted : "[classes, hidden]",
                           tensor == weight ? " (the second is the encoder's width)" : "");
        }
    }
    if (classes < 2) {
        return err_set(source->err, ERR_INVALID, "%s: %s has %zu classes, at least 2 are needed",
                       source->label, head_name(kind), classes);
    }
    if (classes > HEADS_CLASSES_MAX) {
        return err_set(source->err, ERR_LIMIT, "%s: %s has %zu classes, at most %d are allowed",
                       source->label, head_name(kind), classes, HEADS_CLASSES_MAX);
    }
    return ERR_OK;
}

static enum err_code read_values(const struct source *source, const struct tensor *tensor,
                                 struct arena *arena, const float **ret_values)
{
    float *values = arena_calloc(arena, tensor->count, sizeof *values);
    if (!values) {
        return err_nomem(source->err, tensor->count * sizeof *values);
    }
    tensor_to_f32(tensor, 0, tensor->count, values);
    size_t bad = floats_first_nonfinite(values, tensor->count);
    if (bad < tensor->count) {
        size_t last = tensor->shape[tensor->rank - 1];
        size_t index[] = {bad / last, bad % last};
        char text[TENSOR_SHAPE_TEXT_SIZE];
        shape_text(index + 2 - tensor->rank, tensor->rank, text);
        return err_set(source->err, ERR_INVALID, "%s: tensor %s: value %s is not finite",
                       source->label, tensor->name, text);
    }
    *ret_values = values;
    return ERR_OK;
}

static enum err_code read_head(const struct source *source, enum head_kind kind,
                               struct arena *arena, struct head *ret_head)
{
    enum err_code code = check_shapes(source, kind);
    if (code != ERR_OK) {
        return code;
    }
    const struct tensor *weight = source->tensors[kind][PART_WEIGHT];
    struct head head = {.classes = weight->shape[0]};
    code = read_values(source, weight, arena, &head.weight);
    if (code == ERR_OK) {
        code = read_values(source, source->tensors[kind][PART_BIAS], arena, &head.bias);
    }
    if (code == ERR_OK) {
        code = labels_read(metadata_text(source, labels_key(kind)), kind, head.classes,
                           source->label, arena, &head.labels, source->err);
    }
    if (code == ERR_OK) {
        *ret_head = head;
    }
    return code;
}

/* A copy of another set's head: sets live independently. */
static enum err_code copy_head(const struct head *from, size_t hidden, struct arena *arena,
                               struct head *ret_head, struct err *err)
{
    struct head head = {.classes = from->classes};
    size_t weight_bytes = from->classes * hidden * sizeof *from->weight;
    size_t bias_bytes = from->classes * sizeof *from->bias;
    float *weight = arena_alloc(arena, weight_bytes);
    float *bias = arena_alloc(arena, bias_bytes);
    if (!weight || !bias) {
        return err_nomem(err, weight_bytes + bias_bytes);
    }
    memcpy(weight, from->weight, weight_bytes);
    memcpy(bias, from->bias, bias_bytes);
    enum err_code code = labels_copy((const char *const *)from->labels, from->classes, arena,
                                     &head.labels, err);
    if (code != ERR_OK) {
        return code;
    }
    head.weight = weight;
    head.bias = bias;
    *ret_head = head;
    return ERR_OK;
}

/* The metadata of a file written anew: labels of both heads, what they are meant for, then what
 * else the source says, in its order. */
static size_t collect_metadata(const struct source *source, const struct heads *heads,
                               const struct buf labels[HEAD_COUNT], struct metadata_source *entries)
{
    size_t n = 0;
    for (unsigned kind = 0; kind < HEAD_COUNT; kind++) {
        if (heads->head[kind].classes) {
            entries[n++] = (struct metadata_source){labels_key(kind), labels[kind].data};
        }
    }
    if (heads->private_->names_encoder) {
        entries[n++] = (struct metadata_source){encoder_key, source->fit->encoder_sha256};
    }
    if (heads->private_->names_pooling) {
        entries[n++] = (struct metadata_source){pooling_key, pooling_name(source->fit->pooling)};
    }
    const char *key;
    const struct jval *value;
    void *iter = NULL;
    while ((iter = jval_object_next(safetensors_metadata(source->file), iter, &key, &value))) {
        const char *text = "";
        size_t size;
        if (strcmp(key, labels_key(HEAD_CLASSIFIER)) != 0 &&
            strcmp(key, labels_key(HEAD_SENTIMENT)) != 0 && strcmp(key, encoder_key) != 0 &&
            strcmp(key, pooling_key) != 0 && jval_string(value, &text, &size)) {
            entries[n++] = (struct metadata_source){key, text};
        }
    }
    return n;
}

static enum err_code write_file(const struct source *source, struct heads *heads)
{
    struct tensor_source tensors[HEAD_COUNT * PART_COUNT];
    struct buf labels[HEAD_COUNT] = {{0}};
    size_t n = 0;
    bool whole = true;
    for (unsigned kind = 0; kind < HEAD_COUNT; kind++) {
        const struct head *head = &heads->head[kind];
        if (head->classes) {
            tensors[n++] = (struct tensor_source){
                tensor_names[kind][PART_WEIGHT], 2, {head->classes, heads->hidden}, head->weight};
            tensors[n++] = (struct tensor_source){
                tensor_names[kind][PART_BIAS], 1, {head->classes}, head->bias};
            buf_init(&labels[kind], HEADS_FILE_MAX);
            whole = labels_append(head->labels, head->classes, &labels[kind]) && whole;
        }
    }
    size_t room = jval_object_size(safetensors_metadata(source->file)) + 2 * HEAD_COUNT;
    struct metadata_source *entries = calloc(room, sizeof *entries);
    enum err_code code = ERR_OK;
    struct buf out;
    buf_init(&out, HEADS_FILE_MAX);
    if (whole && entries) {
        size_t n_entries = collect_metadata(source, heads, labels, entries);
        code = safetensors_write(tensors, n, entries, n_entries, &out, source->err);
    } else {
        code = err_nomem(source->err, room * sizeof *entries);
    }
    if (code == ERR_OK) {
        heads->file = buf_steal(&out, &heads->file_size);
    }
    buf_done(&out);
    free(entries);
    for (unsigned kind = 0; kind < HEAD_COUNT; kind++) {
        buf_done(&labels[kind]);
    }
    return code;
}

static enum err_code keep_file(const struct source *source, const void *data, size_t size,
                               struct heads *heads)
{
    heads->file = malloc(size);
    if (!heads->file) {
        return err_nomem(source->err, size);
    }
    memcpy(heads->file, data, size);
    heads->file_size = size;
    return ERR_OK;
}

static enum err_code fill(struct source *source, bool strict, const struct heads *base,
                          struct heads *heads)
{
    enum err_code code = find_tensors(source, strict);
    if (code == ERR_OK) {
        code = check_meant_for(source, heads->private_);
    }
    bool merged = false;
    for (unsigned kind = 0; code == ERR_OK && kind < HEAD_COUNT; kind++) {
        struct arena *arena = &heads->private_->arena;
        if (source->tensors[kind][PART_WEIGHT]) {
            code = read_head(source, kind, arena, &heads->head[kind]);
        } else if (heads_has(base, kind)) {
            code = copy_head(&base->head[kind], heads->hidden, arena, &heads->head[kind],
                             source->err);
            heads->private_->names_encoder |= base->private_->names_encoder;
            heads->private_->names_pooling |= base->private_->names_pooling;
            merged = true;
        }
    }
    if (code != ERR_OK) {
        return code;
    }
    size_t size;
    const unsigned char *data = safetensors_bytes(source->file, &size);
    code = merged || !source->only_heads ? write_file(source, heads)
                                         : keep_file(source, data, size, heads);
    if (code == ERR_OK) {
        sha256_of(heads->file, heads->file_size, heads->sha256);
    }
    return code;
}

static void destroy(struct heads *heads)
{
    arena_done(&heads->private_->arena);
    free(heads->private_);
    free(heads->file);
    free(heads);
}

static struct heads *allocate(size_t hidden)
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
    heads->hidden = hidden;
    return heads;
}

enum err_code heads_create(const void *data, size_t size, const char *label,
                           const struct heads_fit *fit, bool strict, const struct heads *base,
                           struct heads **ret_heads, struct err *err)
{
    CHECK(!base || base->hidden == fit->hidden);
    if (strict && size > HEADS_FILE_MAX) {
        return err_set(err, ERR_LIMIT, "%s: %zu bytes, a heads file has at most %d", label, size,
                       HEADS_FILE_MAX);
    }
    struct source source = {.label = label, .fit = fit, .err = err};
    enum err_code code = safetensors_parse(data, size, label, &source.file, err);
    if (code != ERR_OK) {
        return code;
    }
    struct heads *heads = allocate(fit->hidden);
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
        enum err_code code = file_read(path, HEADS_FILE_MAX, &data, &size, err);
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
