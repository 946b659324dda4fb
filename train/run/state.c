#include "train/run/state.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/facts.h"

enum { NAME_MAX_BYTES = 128, JSON_MAX = 256 * 1024 * 1024, KINDS = 3 };

/* The tallies of a checkpoint: those of the output, and those of the epoch under way. */
enum { SPLITS = 3 };
static const char *const splits[SPLITS] = {"train", "eval", "current"};

enum err_code state_init(struct state *state, const struct tasks *tasks, size_t epochs,
                         struct err *err)
{
    *state = (struct state){.tasks = tasks, .best_value = INFINITY};
    state->history = calloc(epochs + 1, sizeof *state->history);
    if (!state->history) {
        return err_nomem(err, epochs * sizeof *state->history);
    }
    for (size_t i = 0; i < tasks->n; i++) {
        const struct task *task = &tasks->at[i];
        if (tally_init(&state->train[i], task->type, task->classes, err) != ERR_OK ||
            tally_init(&state->eval[i], task->type, task->classes, err) != ERR_OK ||
            tally_init(&state->current[i], task->type, task->classes, err) != ERR_OK) {
            state_done(state);
            return ERR_NOMEM;
        }
    }
    return ERR_OK;
}

void state_done(struct state *state)
{
    if (!state) {
        return;
    }
    for (size_t i = 0; i < TASKS_MAX; i++) {
        tally_done(&state->train[i]);
        tally_done(&state->eval[i]);
        tally_done(&state->current[i]);
    }
    free(state->history);
    *state = (struct state){0};
}

/* ---- an epoch as JSON ---- */

static void append_split(const struct split_result *split, const struct tasks *tasks,
                         struct buf *out)
{
    buf_printf(out, "{\"examples\": %zu, \"loss\": %.17g", split->n, split->loss);
    for (size_t i = 0; i < tasks->n; i++) {
        const struct tally_score *score = &split->head[i];
        buf_printf(out, ", \"%s\": {\"loss\": %.17g, ", tasks->at[i].name, score->loss);
        if (tasks->at[i].type == HEAD_SCORE) {
            buf_printf(out, "\"mean_absolute_error\": %.17g, ", score->error);
        } else {
            buf_printf(out, "\"accuracy\": %.17g, \"macro_f1\": %.17g, ", score->accuracy,
                       score->macro_f1);
        }
        buf_printf(out, "\"labelled\": %zu}", score->labelled);
    }
    buf_append_char(out, '}');
}

bool state_append_epoch(const struct epoch_result *result, const struct tasks *tasks,
                        struct buf *out)
{
    buf_printf(out, "{\"epoch\": %zu, \"seconds\": %.17g, \"train\": ", result->epoch,
               result->seconds);
    append_split(&result->train, tasks, out);
    if (result->eval.n > 0) {
        buf_append_str(out, ", \"eval\": ");
        append_split(&result->eval, tasks, out);
    }
    return buf_append_char(out, '}');
}

static bool read_size(const struct jval *object, const char *key, size_t *ret)
{
    int64_t value;
    if (!jval_int(jval_get(object, key), &value) || value < 0) {
        return false;
    }
    *ret = (size_t)value;
    return true;
}

static bool read_number(const struct jval *object, const char *key, double *ret)
{
    return jval_double(jval_get(object, key), ret);
}

static bool read_split(const struct jval *object, const struct tasks *tasks,
                       struct split_result *ret_split)
{
    bool good = read_size(object, "examples", &ret_split->n) &&
                read_number(object, "loss", &ret_split->loss);
    for (size_t i = 0; good && i < tasks->n; i++) {
        const struct jval *head = jval_get(object, tasks->at[i].name);
        struct tally_score *score = &ret_split->head[i];
        good = read_number(head, "loss", &score->loss) &&
               read_size(head, "labelled", &score->labelled) &&
               (tasks->at[i].type == HEAD_SCORE
                    ? read_number(head, "mean_absolute_error", &score->error)
                    : read_number(head, "accuracy", &score->accuracy) &&
                          read_number(head, "macro_f1", &score->macro_f1));
    }
    return good;
}

static bool read_epoch(const struct jval *object, const struct tasks *tasks,
                       struct epoch_result *ret_result)
{
    const struct jval *eval = jval_get(object, splits[1]);
    return read_size(object, "epoch", &ret_result->epoch) &&
           read_number(object, "seconds", &ret_result->seconds) &&
           read_split(jval_get(object, splits[0]), tasks, &ret_result->train) &&
           (!eval || read_split(eval, tasks, &ret_result->eval));
}

/* ---- tensors ---- */

/* Every tensor of a checkpoint file, in both directions. */
struct tensors {
    struct tensor_source *at; /* [n] */
    char (*names)[NAME_MAX_BYTES];
    float *counts; /* confusions as fp32, exact below 2^24 */
    size_t n;
};

static void tensors_done(struct tensors *tensors)
{
    free(tensors->at);
    free(tensors->names);
    free(tensors->counts);
}

static void add_tensor(struct tensors *tensors, const char *name, const char *suffix, unsigned rank,
                       const size_t shape[2], const float *data)
{
    size_t i = tensors->n++;
    snprintf(tensors->names[i], NAME_MAX_BYTES, "%s%s", name, suffix);
    tensors->at[i] = (struct tensor_source){.name = tensors->names[i],
                                            .rank = rank,
                                            .shape = {shape[0], rank == 2 ? shape[1] : 0},
                                            .data = data};
}

static const struct tally *state_tally(const struct state *state, size_t split, size_t task)
{
    return split == 0   ? &state->train[task]
           : split == 1 ? &state->eval[task]
                        : &state->current[task];
}

/* One name for each count of a task. */
static void confusion_name(const struct state *state, size_t split, size_t task, char out[128])
{
    snprintf(out, 128, "confusion.%s.%s", splits[split], state->tasks->at[task].name);
}

/* [K,K] of softmax heads, [K,4] of sigmoid heads. */
static void confusion_shape(const struct tally *tally, size_t shape[2])
{
    shape[0] = tally->classes;
    shape[1] = tally->type == HEAD_SOFTMAX ? tally->classes : 4;
}

static enum err_code collect(const struct state *state, const struct params *params,
                             struct tensors *ret_tensors, struct err *err)
{
    static const char *const suffixes[KINDS] = {"", "#m", "#v"};
    size_t n_tasks = state->tasks->n;
    size_t most = params->n * KINDS + n_tasks * SPLITS;
    size_t cells = 0;
    for (size_t i = 0; i < n_tasks; i++) {
        cells += SPLITS * state->train[i].cells;
    }
    struct tensors tensors = {
        .at = calloc(most, sizeof *tensors.at),
        .names = calloc(most, sizeof *tensors.names),
        .counts = calloc(cells + 1, sizeof *tensors.counts),
    };
    if (!tensors.at || !tensors.names || !tensors.counts) {
        tensors_done(&tensors);
        return err_nomem(err, most * sizeof *tensors.names);
    }
    for (size_t i = 0; i < params->n; i++) {
        const struct param *param = &params->at[i];
        const float *const data[KINDS] = {param->value, param->m, param->v};
        for (size_t k = 0; param->trainable && k < KINDS; k++) {
            add_tensor(&tensors, param->name, suffixes[k], param->rank, param->shape, data[k]);
        }
    }
    float *counts = tensors.counts;
    for (size_t i = 0; i < SPLITS * n_tasks; i++) {
        const struct tally *tally = state_tally(state, i / n_tasks, i % n_tasks);
        size_t shape[2];
        char name[NAME_MAX_BYTES];
        confusion_name(state, i / n_tasks, i % n_tasks, name);
        confusion_shape(tally, shape);
        for (size_t k = 0; k < tally->cells; k++) {
            counts[k] = (float)tally->confusion[k];
        }
        if (tally->cells > 0) {
            add_tensor(&tensors, name, "", 2, shape, counts);
        }
        counts += tally->cells;
    }
    *ret_tensors = tensors;
    return ERR_OK;
}

static void append_numbers(const struct state *state, struct buf *out)
{
    buf_printf(out, "{\"epochs_done\": %zu, \"steps\": %llu, \"best_epoch\": %zu, \"stale\": %zu",
               state->epochs_done, (unsigned long long)state->steps, state->best_epoch,
               state->stale);
    if (state->best_epoch > 0) {
        buf_printf(out, ", \"best_value\": %.17g", state->best_value);
    }
    buf_printf(out, ", \"at\": %zu, \"loss_sum\": %.17g, \"tallies\": [", state->at,
               state->loss_sum);
    for (size_t i = 0; i < SPLITS * state->tasks->n; i++) {
        const struct tally *tally = state_tally(state, i / state->tasks->n, i % state->tasks->n);
        buf_printf(out, "%s[%.17g, %.17g, %zu, %zu]", i == 0 ? "" : ", ", tally->loss_sum,
                   tally->error_sum, tally->exact, tally->labelled);
    }
    buf_append_str(out, "], \"history\": [");
    for (size_t i = 0; i < state->epochs_done; i++) {
        buf_append_str(out, i == 0 ? "" : ", ");
        state_append_epoch(&state->history[i], state->tasks, out);
    }
    buf_append_str(out, "]}");
}

enum err_code state_save(const struct state *state, struct learner *learner, const char *facts,
                         const char *path, struct err *err)
{
    struct tensors tensors;
    enum err_code code = collect(state, learner_params(learner), &tensors, err);
    if (code != ERR_OK) {
        return code;
    }
    struct buf numbers;
    buf_init(&numbers, JSON_MAX);
    append_numbers(state, &numbers);
    if (buf_failed(&numbers)) {
        code = err_nomem(err, numbers.size);
    } else {
        const struct metadata_source metadata[] = {{"orthrus.facts", facts},
                                                   {"orthrus.state", numbers.data}};
        code = safetensors_write_file(path, tensors.at, tensors.n, metadata, 2, err);
    }
    buf_done(&numbers);
    tensors_done(&tensors);
    return code;
}

/* ---- and back ---- */

/* Parses one metadata entry; NULL where it isn't there or isn't an object. */
static struct jval *metadata_object(const struct safetensors *file, const char *key)
{
    const char *text;
    size_t size;
    struct jval *object = NULL;
    if (!jval_string(jval_get(safetensors_metadata(file), key), &text, &size) ||
        jval_parse(text, size, &object, NULL) != ERR_OK) {
        return NULL;
    }
    if (!jval_is_object(object)) {
        jval_free(object);
        return NULL;
    }
    return object;
}

static struct tally *mutable_tally(struct state *state, size_t split, size_t task)
{
    return split == 0   ? &state->train[task]
           : split == 1 ? &state->eval[task]
                        : &state->current[task];
}

static bool read_numbers(struct state *state, const struct jval *object, size_t epochs)
{
    size_t steps;
    const struct jval *history = jval_get(object, "history");
    const struct jval *tallies = jval_get(object, "tallies");
    size_t n_tasks = state->tasks->n;
    bool good = read_size(object, "epochs_done", &state->epochs_done) &&
                read_size(object, "steps", &steps) &&
                read_size(object, "best_epoch", &state->best_epoch) &&
                read_size(object, "stale", &state->stale) &&
                jval_array_size(history) == state->epochs_done && state->epochs_done <= epochs &&
                (state->best_epoch == 0 || read_number(object, "best_value", &state->best_value)) &&
                read_size(object, "at", &state->at) &&
                read_number(object, "loss_sum", &state->loss_sum);
    for (size_t i = 0; good && i < state->epochs_done; i++) {
        good = read_epoch(jval_at(history, i), state->tasks, &state->history[i]);
    }
    for (size_t i = 0; good && i < SPLITS * n_tasks; i++) {
        struct tally *tally = mutable_tally(state, i / n_tasks, i % n_tasks);
        const struct jval *numbers = jval_at(tallies, i);
        int64_t exact = -1;
        int64_t labelled = -1;
        good = jval_double(jval_at(numbers, 0), &tally->loss_sum) &&
               jval_double(jval_at(numbers, 1), &tally->error_sum) &&
               jval_int(jval_at(numbers, 2), &exact) && exact >= 0 &&
               jval_int(jval_at(numbers, 3), &labelled) && labelled >= 0;
        tally->exact = good ? (size_t)exact : 0;
        tally->labelled = good ? (size_t)labelled : 0;
    }
    state->steps = good ? steps : 0;
    return good;
}

/* The tensors of the file into the places that collect() named. */
static enum err_code read_tensors(const struct tensors *tensors, const struct safetensors *file,
                                  struct params *params, struct err *err)
{
    const char *path = safetensors_label(file);
    for (size_t i = 0; i < tensors->n; i++) {
        const struct tensor_source *want = &tensors->at[i];
        const struct tensor *found = safetensors_find(file, want->name);
        if (!found || found->dtype != DTYPE_F32 || found->rank != want->rank ||
            memcmp(found->shape, want->shape, want->rank * sizeof *want->shape) != 0) {
            return err_set(err, ERR_MISMATCH, "--resume: %s has no tensor %s that fits", path,
                           want->name);
        }
    }
    size_t next = 0;
    CHECK(tensors->at);
    for (size_t i = 0; i < params->n; i++) {
        struct param *param = &params->at[i];
        float *const data[KINDS] = {param->value, param->m, param->v};
        for (size_t k = 0; param->trainable && k < KINDS; k++) {
            const struct tensor *found = safetensors_find(file, tensors->at[next++].name);
            tensor_to_f32(found, 0, param->count, data[k]);
        }
    }
    return ERR_OK;
}

static void read_confusions(struct state *state, const struct safetensors *file, float *scratch)
{
    CHECK(scratch);
    for (size_t i = 0; i < SPLITS * state->tasks->n; i++) {
        struct tally *tally = mutable_tally(state, i / state->tasks->n, i % state->tasks->n);
        char name[NAME_MAX_BYTES];
        confusion_name(state, i / state->tasks->n, i % state->tasks->n, name);
        if (tally->cells > 0) {
            tensor_to_f32(safetensors_find(file, name), 0, tally->cells, scratch);
        }
        for (size_t k = 0; k < tally->cells; k++) {
            tally->confusion[k] = scratch[k] > 0 && scratch[k] < 1e12f ? (size_t)scratch[k] : 0;
        }
    }
}

/* Rows of the word embeddings with moments are those that ever had a gradient. */
static void mark_touched(struct params *params)
{
    for (size_t i = 0; i < params->n; i++) {
        const struct param *param = &params->at[i];
        size_t width = param->shape[1];
        for (size_t row = 0; param->by_rows && param->trainable && row < param->shape[0]; row++) {
            for (size_t j = row * width; j < (row + 1) * width; j++) {
                if (param->m[j] != 0 || param->v[j] != 0) {
                    params->touched[row] = 1;
                    break;
                }
            }
        }
    }
}

static enum err_code load_from(struct state *state, struct learner *learner, const char *facts,
                               const struct safetensors *file, size_t epochs, struct err *err)
{
    const char *path = safetensors_label(file);
    struct params *params = learner_params(learner);
    struct jval *then = metadata_object(file, "orthrus.facts");
    struct jval *numbers = metadata_object(file, "orthrus.state");
    struct tensors tensors = {0};
    enum err_code code = ERR_OK;
    if (!then || !numbers) {
        code = err_set(err, ERR_INVALID, "--resume: %s is no checkpoint of orthrus train", path);
    } else {
        code = facts_check(then, facts, path, err);
    }
    if (code == ERR_OK) {
        code = collect(state, params, &tensors, err);
    }
    if (code == ERR_OK) {
        code = read_tensors(&tensors, file, params, err);
    }
    if (code == ERR_OK && !read_numbers(state, numbers, epochs)) {
        code = err_set(err, ERR_INVALID,
                       "--resume: %s is damaged, or has more than --epochs %zu behind it", path,
                       epochs);
    }
    if (code == ERR_OK) {
        read_confusions(state, file, tensors.counts);
        mark_touched(params);
        optimizer_set_steps(learner_optimizer(learner), state->steps);
    }
    tensors_done(&tensors);
    jval_free(then);
    jval_free(numbers);
    return code;
}

enum err_code state_load(struct state *state, struct learner *learner, const char *facts,
                         const char *path, size_t epochs, struct err *err)
{
    struct safetensors *file;
    enum err_code code = safetensors_open(path, &file, err);
    if (code != ERR_OK) {
        return code;
    }
    code = load_from(state, learner, facts, file, epochs, err);
    safetensors_close(file);
    return code;
}

enum err_code state_check(const char *path, const char *facts, struct err *err)
{
    struct safetensors *file;
    enum err_code code = safetensors_open(path, &file, err);
    if (code != ERR_OK) {
        return err_prefix(err, "--resume");
    }
    struct jval *then = metadata_object(file, "orthrus.facts");
    code = then ? facts_check(then, facts, path, err)
                : err_set(err, ERR_INVALID, "--resume: %s is no checkpoint of orthrus train", path);
    jval_free(then);
    safetensors_close(file);
    return code;
}
