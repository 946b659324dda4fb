#include "model/heads/vector.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/sha256.h"
#include "base/size.h"
#include "model/encoder/encoder.h"
#include "model/files/weights.h"

struct step {
    enum module_kind kind;
    size_t in, out;
    enum activation activation;
    float *weight; /* [out,in], owned; NULL for Normalize */
    float *bias;   /* [out], owned; zeros where the module has none */
    char digest[SHA256_HEX_SIZE + 1];
};

struct vector {
    size_t in, out;
    size_t widest; /* row on the way */
    struct step steps[CONFIG_MODULES_MAX];
    size_t n;
};

static enum err_code load_tensor(const struct weights *weights, const char *name, unsigned rank,
                                 const size_t *shape, float **ret_values, struct err *err)
{
    const struct tensor *tensor = weights_find(weights, name);
    const char *label = weights_label(weights);
    if (!tensor) {
        return err_set(err, ERR_NOT_FOUND, "%s: tensor %s is missing", label, name);
    }
    enum err_code code = tensor_check(tensor, label, rank, shape, err);
    if (code != ERR_OK) {
        return code;
    }
    float *values = calloc(tensor->count, sizeof *values);
    if (!values) {
        return err_nomem(err, tensor->count * sizeof *values);
    }
    tensor_to_f32(tensor, 0, tensor->count, values);
    *ret_values = values;
    size_t bad = floats_first_nonfinite(values, tensor->count);
    return bad == tensor->count
               ? ERR_OK
               : err_set(err, ERR_INVALID, "%s: tensor %s: value %zu is not finite", label, name,
                         bad);
}

/* Weights as numbers, so that a lossless change of dtype is none. */
static enum err_code digest_step(struct step *step, struct err *err)
{
    unsigned char bytes[SHA256_SIZE];
    struct sha256 *sha = sha256_create();
    if (!sha) {
        return err_nomem(err, SHA256_SIZE);
    }
    sha256_update(sha, step->weight, step->in * step->out * sizeof *step->weight);
    sha256_update(sha, step->bias, step->out * sizeof *step->bias);
    sha256_finish(sha, bytes);
    sha256_hex(bytes, step->digest);
    return ERR_OK;
}

/* A module holds its linear and nothing else: what else there is would change what it does. */
static enum err_code check_alone(const struct weights *weights, bool bias, struct err *err)
{
    for (size_t f = 0; f < weights_files(weights); f++) {
        const struct safetensors *file = weights_file(weights, f);
        for (size_t i = 0; i < safetensors_count(file); i++) {
            const char *name = safetensors_at(file, i)->name;
            if (strcmp(name, "linear.weight") != 0 && !(bias && strcmp(name, "linear.bias") == 0)) {
                return err_set(err, ERR_UNSUPPORTED,
                               "%s: tensor %s does not belong to a Dense module as its config.json "
                               "says",
                               safetensors_label(file), tensor_shown_name(name));
            }
        }
    }
    return ERR_OK;
}

static enum err_code load_dense(const char *dir, const struct module *module, struct step *step,
                                struct err *err)
{
    const size_t shape[2] = {module->out, module->in};
    struct weights *weights = NULL;
    char *path = file_join(dir, module->path);
    enum err_code code = path ? weights_open(path, &weights, err) : err_nomem(err, strlen(dir));
    free(path);
    if (code == ERR_OK) {
        code = check_alone(weights, module->bias, err);
    }
    if (code == ERR_OK) {
        code = load_tensor(weights, "linear.weight", 2, shape, &step->weight, err);
    }
    if (code == ERR_OK && module->bias) {
        code = load_tensor(weights, "linear.bias", 1, shape, &step->bias, err);
    } else if (code == ERR_OK) {
        step->bias = calloc(module->out, sizeof *step->bias);
        code = step->bias ? ERR_OK : err_nomem(err, module->out * sizeof *step->bias);
    }
    weights_close(weights);
    return code == ERR_OK ? digest_step(step, err) : code;
}

static enum err_code fill(const char *dir, const struct config *config, struct vector *vector,
                          struct err *err)
{
    const struct config_lists *lists = config->lists;
    size_t n = lists->n_modules;
    while (n > 0 && lists->modules[n - 1].kind == MODULE_NORMALIZE) {
        n--;
    }
    vector->in = config_pooled_width(config);
    vector->widest = vector->in;
    size_t width = vector->in;
    for (size_t i = 0; i < n; i++) {
        const struct module *module = &lists->modules[i];
        struct step *step = &vector->steps[vector->n++];
        *step = (struct step){.kind = module->kind,
                              .in = width,
                              .out = module->kind == MODULE_DENSE ? module->out : width,
                              .activation = module->activation};
        if (module->kind == MODULE_DENSE) {
            enum err_code code = load_dense(dir, module, step, err);
            if (code != ERR_OK) {
                return code;
            }
        }
        width = step->out;
        vector->widest = size_max(vector->widest, width);
    }
    vector->out = config->truncate_dim ? size_min(width, config->truncate_dim) : width;
    return ERR_OK;
}

enum err_code vector_open(const char *dir, const struct config *config, struct vector **ret_vector,
                          struct err *err)
{
    struct vector *vector = calloc(1, sizeof *vector);
    if (!vector) {
        return err_nomem(err, sizeof *vector);
    }
    enum err_code code = fill(dir, config, vector, err);
    if (code != ERR_OK) {
        vector_destroy(vector);
        return code;
    }
    *ret_vector = vector;
    return ERR_OK;
}

void vector_destroy(struct vector *vector)
{
    if (vector) {
        for (size_t i = 0; i < vector->n; i++) {
            free(vector->steps[i].weight);
            free(vector->steps[i].bias);
        }
        free(vector);
    }
}

size_t vector_in(const struct vector *vector)
{
    return vector->in;
}

size_t vector_out(const struct vector *vector)
{
    return vector->out;
}

size_t vector_room(const struct vector *vector)
{
    return size_max(vector->in, vector->out);
}

bool vector_is_plain(const struct vector *vector)
{
    return vector->n == 0 && vector->out == vector->in;
}

static float activate(enum activation activation, double x)
{
    switch (activation) {
    case ACTIVATION_GELU:
        return (float)(0.5 * x * erfc(-x / sqrt(2.0)));
    case ACTIVATION_GELU_TANH:
        break; /* no Dense module has it */
    case ACTIVATION_RELU:
        return (float)fmax(x, 0.0);
    case ACTIVATION_SILU:
        return (float)(x / (1.0 + exp(-x)));
    case ACTIVATION_TANH:
        return (float)tanh(x);
    case ACTIVATION_IDENTITY:
        break;
    }
    return (float)x;
}

/* Sums in double: one row a text, and the order of the additions depends on nothing else. */
static void dense_row(const struct step *step, const float *x, float *y)
{
    for (size_t o = 0; o < step->out; o++) {
        const float *w = step->weight + o * step->in;
        double sum = 0.0;
        for (size_t i = 0; i < step->in; i++) {
            sum += (double)w[i] * (double)x[i];
        }
        y[o] = activate(step->activation, sum + (double)step->bias[o]);
    }
}

/* One row of `in` → one of `out`, in `row`; `other` is scratch. */
static void apply_row(const struct vector *vector, float *row, float *other)
{
    for (size_t s = 0; s < vector->n; s++) {
        const struct step *step = &vector->steps[s];
        if (step->kind == MODULE_NORMALIZE) {
            embeddings_normalize(row, 1, step->in);
        } else {
            dense_row(step, row, other);
            memcpy(row, other, step->out * sizeof *row);
        }
    }
}

bool vector_apply(const struct vector *vector, float *rows, size_t n)
{
    if (vector_is_plain(vector)) {
        return true;
    }
    float *scratch = calloc(2 * vector->widest, sizeof *scratch);
    if (!scratch) {
        return false;
    }
    bool wider = vector->out > vector->in; /* then from the end, so that no row is overwritten */
    for (size_t i = 0; i < n; i++) {
        size_t at = wider ? n - 1 - i : i;
        memcpy(scratch, rows + at * vector->in, vector->in * sizeof *rows);
        apply_row(vector, scratch, scratch + vector->widest);
        memcpy(rows + at * vector->out, scratch, vector->out * sizeof *rows);
    }
    free(scratch);
    return true;
}

void vector_describe(const struct vector *vector, struct buf *out)
{
    for (size_t i = 0; i < vector->n; i++) {
        const struct step *step = &vector->steps[i];
        if (step->kind == MODULE_NORMALIZE) {
            buf_printf(out, "normalize\n");
        } else {
            buf_printf(out, "dense %zux%zu %s %s\n", step->out, step->in,
                       activation_name(step->activation), step->digest);
        }
    }
}
