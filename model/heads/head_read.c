/* One head out of a file: tensors and metadata → struct head, everything checked. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/heads/heads_private.h"
#include "model/heads/labels.h"

static const char *const key_words[HEAD_KEYS] = {
    [HEAD_KEY_LABELS] = "labels",         [HEAD_KEY_KIND] = "kind",
    [HEAD_KEY_INPUT] = "input",           [HEAD_KEY_ACTIVATION] = "activation",
    [HEAD_KEY_FUNCTION] = "function",     [HEAD_KEY_TEMPERATURE] = "temperature",
    [HEAD_KEY_THRESHOLDS] = "thresholds",
};

const char *head_key(const char *name, enum head_key key, char out[HEAD_KEY_SIZE])
{
    (void)snprintf(out, HEAD_KEY_SIZE, "%s.%s", name, key_words[key]);
    return out;
}

bool head_key_of(const char *key, const char *name)
{
    char own[HEAD_KEY_SIZE];
    for (unsigned word = 0; word < HEAD_KEYS; word++) {
        if (strcmp(key, head_key(name, (enum head_key)word, own)) == 0) {
            return true;
        }
    }
    return false;
}

/* One head while it is read. */
struct reading {
    const struct heads_source *source;
    const struct head_parts *parts;
    struct arena *arena;
    struct head head;
};

static const char *text_of(const struct reading *reading, enum head_key key)
{
    char own[HEAD_KEY_SIZE];
    return heads_source_text(reading->source, head_key(reading->parts->name, key, own));
}

static enum err_code refuse(const struct reading *reading, enum head_key key, const char *allowed)
{
    return err_set(reading->source->err, ERR_INVALID, "%s: %s.%s: %s", reading->source->label,
                   reading->parts->name, key_words[key], allowed);
}

static const char *type_name(unsigned index)
{
    return head_type_name((enum head_type)index);
}

static const char *input_name(unsigned index)
{
    return head_input_name((enum head_input)index);
}

static const char *activation_word(unsigned index)
{
    return head_activation_name((enum head_activation)index);
}

static enum err_code read_word(const struct reading *reading, enum head_key key,
                               const char *(*name_of)(unsigned), unsigned count,
                               const char *allowed, unsigned *word)
{
    const char *text = text_of(reading, key);
    for (unsigned i = 0; text && i < count; i++) {
        if (strcmp(text, name_of(i)) == 0) {
            *word = i;
            return ERR_OK;
        }
    }
    return text ? refuse(reading, key, allowed) : ERR_OK;
}

static enum err_code read_words(struct reading *reading)
{
    struct head *head = &reading->head;
    bool dense = reading->parts->part[PART_DENSE_WEIGHT];
    const char *function = text_of(reading, HEAD_KEY_FUNCTION);
    unsigned type = HEAD_SOFTMAX;
    unsigned activation = HEAD_ACTIVATIONS;
    enum err_code code = read_word(reading, HEAD_KEY_KIND, type_name, HEAD_TYPES,
                                   "softmax, sigmoid, score or tokens is allowed", &type);
    unsigned input = type == HEAD_TOKENS ? HEAD_INPUT_TOKENS : HEAD_INPUT_POOLED;
    if (code == ERR_OK) {
        code = read_word(reading, HEAD_KEY_INPUT, input_name, HEAD_INPUTS,
                         "pooled, cls or tokens is allowed", &input);
    }
    if (code == ERR_OK) {
        code = read_word(reading, HEAD_KEY_ACTIVATION, activation_word, HEAD_ACTIVATIONS,
                         "tanh, relu or gelu is allowed", &activation);
    }
    if (code == ERR_OK && (input == HEAD_INPUT_TOKENS) != (type == HEAD_TOKENS)) {
        code = refuse(reading, HEAD_KEY_INPUT, "tokens goes with kind tokens, and no other does");
    }
    if (code == ERR_OK && dense != (activation != HEAD_ACTIVATIONS)) {
        code = refuse(reading, HEAD_KEY_ACTIVATION,
                      dense ? "tanh, relu or gelu is needed with a dense layer"
                            : "there is no dense layer for it");
    }
    if (code == ERR_OK && function && type != HEAD_SCORE) {
        code = refuse(reading, HEAD_KEY_FUNCTION, "kind score alone has it");
    }
    if (code == ERR_OK && function && strcmp(function, "sigmoid") != 0 &&
        strcmp(function, "none") != 0) {
        code = refuse(reading, HEAD_KEY_FUNCTION, "sigmoid or none is allowed");
    }
    head->type = (enum head_type)type;
    head->input = (enum head_input)input;
    head->activation = dense ? (enum head_activation)activation : HEAD_TANH;
    head->identity = function && strcmp(function, "none") == 0;
    return code;
}

/* A number of its whole text, JSON's or C's; false for anything else. */
static bool parse_number(const char *text, float *ret)
{
    char *end;
    errno = 0;
    double value = strtod(text, &end);
    bool plain = *text && strspn(text, "0123456789+-.eE") == strlen(text) && !*end;
    *ret = (float)value;
    return plain && isfinite(*ret);
}

static enum err_code read_temperature(struct reading *reading)
{
    const char *text = text_of(reading, HEAD_KEY_TEMPERATURE);
    reading->head.temperature = 1;
    if (text && (!parse_number(text, &reading->head.temperature) ||
                 reading->head.temperature < 1e-3F || reading->head.temperature > 1e3F)) {
        return refuse(reading, HEAD_KEY_TEMPERATURE, "a number from 0.001 to 1000 is allowed");
    }
    return ERR_OK;
}

static enum err_code read_thresholds(struct reading *reading)
{
    const char *text = text_of(reading, HEAD_KEY_THRESHOLDS);
    struct head *head = &reading->head;
    if (!text) {
        return ERR_OK;
    }
    if (head->type != HEAD_SOFTMAX && head->type != HEAD_SIGMOID) {
        return refuse(reading, HEAD_KEY_THRESHOLDS, "kinds softmax and sigmoid alone have them");
    }
    float *values = arena_calloc(reading->arena, head->classes, sizeof *values);
    if (!values) {
        return err_nomem(reading->source->err, head->classes * sizeof *values);
    }
    struct jval *array = NULL;
    enum err_code code = jval_parse(text, strlen(text), &array, NULL);
    if (code == ERR_NOMEM) {
        return err_nomem(reading->source->err, strlen(text));
    }
    bool good = code == ERR_OK && jval_is_array(array) && jval_array_size(array) == head->classes;
    for (size_t k = 0; good && k < head->classes; k++) {
        double value = -1;
        good = jval_double(jval_at(array, k), &value) && value >= 0 && value <= 1;
        values[k] = (float)value;
    }
    jval_free(array);
    head->thresholds = values;
    return good ? ERR_OK
                : refuse(reading, HEAD_KEY_THRESHOLDS,
                         "a JSON array of numbers from 0 to 1 is allowed, one for each label");
}

/* The tensor's dtype and shape; what stands for its first number in a message. */
static enum err_code check_shape(const struct heads_source *source, const struct tensor *tensor,
                                 unsigned rank, const size_t shape[2], const char *otherwise)
{
    enum err_code code = tensor_check_float(tensor, source->label, source->err);
    if (code != ERR_OK) {
        return code;
    }
    if (tensor->rank == rank && memcmp(tensor->shape, shape, rank * sizeof *shape) == 0) {
        return ERR_OK;
    }
    char found[TENSOR_SHAPE_TEXT_SIZE];
    char wanted[TENSOR_SHAPE_TEXT_SIZE];
    tensor_shape_text(tensor, found);
    shape_text(shape, rank, wanted);
    return err_set(source->err, ERR_MISMATCH, "%s: tensor %s is %s, expected is %s%s",
                   source->label, tensor->name, found, otherwise ? otherwise : wanted,
                   rank == 2 ? " (the second is the width of what it reads)" : "");
}

/* [out,in] and [out]; in 0 takes the file's word. */
static enum err_code check_linear(const struct reading *reading, enum head_part weight_part,
                                  size_t *in, size_t *ret_out)
{
    const struct heads_source *source = reading->source;
    const struct tensor *weight = reading->parts->part[weight_part];
    bool matrix = weight->rank == 2;
    size_t shape[2] = {matrix ? weight->shape[0] : 0, *in};
    if (matrix && !*in) {
        shape[1] = weight->shape[1];
    }
    const char *unknown = weight_part == PART_WEIGHT ? "[classes, hidden]" : "[inner, hidden]";
    enum err_code code = check_shape(source, weight, 2, shape, matrix ? NULL : unknown);
    if (code == ERR_OK) {
        code = check_shape(source, reading->parts->part[weight_part + 1], 1, shape, NULL);
    }
    *in = shape[1];
    *ret_out = shape[0];
    return code;
}

static enum err_code check_counts(const struct reading *reading)
{
    const struct heads_source *source = reading->source;
    const struct head *head = &reading->head;
    const char *name = reading->parts->name;
    if (reading->parts->part[PART_DENSE_WEIGHT] &&
        (head->inner < 1 || head->inner > HEADS_INNER_MAX)) {
        return err_set(source->err, ERR_LIMIT,
                       "%s: %s.dense.weight has %zu rows, 1 to %d are allowed", source->label, name,
                       head->inner, HEADS_INNER_MAX);
    }
    if (head->type == HEAD_SCORE && head->classes != 1) {
        return err_set(source->err, ERR_INVALID, "%s: %s has %zu classes, kind score has 1",
                       source->label, name, head->classes);
    }
    size_t least = head->type == HEAD_SOFTMAX || head->type == HEAD_TOKENS ? 2 : 1;
    if (head->classes < least) {
        return err_set(source->err, ERR_INVALID, "%s: %s has %zu classes, at least %zu are needed",
                       source->label, name, head->classes, least);
    }
    if (head->classes > HEADS_CLASSES_MAX) {
        return err_set(source->err, ERR_LIMIT, "%s: %s has %zu classes, at most %d are allowed",
                       source->label, name, head->classes, HEADS_CLASSES_MAX);
    }
    return ERR_OK;
}

static enum err_code check_shapes(struct reading *reading)
{
    struct head *head = &reading->head;
    const struct heads_fit *fit = reading->source->fit;
    size_t width = head->input == HEAD_INPUT_POOLED && fit->pooled ? fit->pooled : fit->hidden;
    enum err_code code = ERR_OK;
    size_t in = width;
    if (reading->parts->part[PART_DENSE_WEIGHT]) {
        code = check_linear(reading, PART_DENSE_WEIGHT, &in, &head->inner);
        width = in;
        in = head->inner;
    }
    if (code == ERR_OK) {
        code = check_linear(reading, PART_WEIGHT, &in, &head->classes);
    }
    head->width = reading->parts->part[PART_DENSE_WEIGHT] ? width : in;
    return code == ERR_OK ? check_counts(reading) : code;
}

static enum err_code read_values(const struct reading *reading, enum head_part part,
                                 const float **ret_values)
{
    const struct heads_source *source = reading->source;
    const struct tensor *tensor = reading->parts->part[part];
    if (!tensor) {
        return ERR_OK;
    }
    float *values = arena_calloc(reading->arena, tensor->count, sizeof *values);
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

enum err_code head_read(const struct heads_source *source, const struct head_parts *parts,
                        struct arena *arena, struct head *ret_head)
{
    struct reading reading = {.source = source, .parts = parts, .arena = arena};
    struct head *head = &reading.head;
    head->name = arena_memdup(arena, parts->name, strlen(parts->name));
    enum err_code code = head->name ? read_words(&reading)
                                    : err_nomem(source->err, strlen(parts->name));
    if (code == ERR_OK) {
        code = check_shapes(&reading);
    }
    const float **values[PART_COUNT] = {&head->weight, &head->bias, &head->dense_weight,
                                        &head->dense_bias};
    for (unsigned part = 0; code == ERR_OK && part < PART_COUNT; part++) {
        code = read_values(&reading, (enum head_part)part, values[part]);
    }
    if (code == ERR_OK) {
        code = labels_read(text_of(&reading, HEAD_KEY_LABELS), head, source->label, arena,
                           &head->labels, source->err);
    }
    if (code == ERR_OK) {
        code = read_temperature(&reading);
    }
    if (code == ERR_OK) {
        code = read_thresholds(&reading);
    }
    if (code == ERR_OK) {
        *ret_head = *head;
    }
    return code;
}

static bool copy_floats(struct arena *arena, const float **values, size_t n)
{
    float *copy = *values ? arena_calloc(arena, n, sizeof *copy) : NULL;
    if (!copy) {
        return *values == NULL;
    }
    memcpy(copy, *values, n * sizeof *copy);
    *values = copy;
    return true;
}

enum err_code head_copy(const struct head *from, struct arena *arena, struct head *ret_head,
                        struct err *err)
{
    struct head head = *from;
    size_t in = head.inner ? head.inner : head.width;
    head.name = arena_memdup(arena, from->name, strlen(from->name));
    if (!head.name || !copy_floats(arena, &head.dense_weight, head.inner * head.width) ||
        !copy_floats(arena, &head.dense_bias, head.inner) ||
        !copy_floats(arena, &head.weight, head.classes * in) ||
        !copy_floats(arena, &head.bias, head.classes) ||
        !copy_floats(arena, &head.thresholds, head.classes)) {
        return err_nomem(err, head.classes * in * sizeof *head.weight);
    }
    enum err_code code = labels_copy((const char *const *)from->labels, from->classes, arena,
                                     &head.labels, err);
    if (code == ERR_OK) {
        *ret_head = head;
    }
    return code;
}
