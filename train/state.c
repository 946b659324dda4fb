#include "train/state.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

enum { NAME_MAX_BYTES = 112, JSON_MAX = 256 * 1024 * 1024, KINDS = 3 };

static const char *const splits[2] = {"train", "eval"};

enum err_code state_init(struct state *state, const size_t classes[HEAD_COUNT], size_t epochs,
                         struct err *err)
{
    *state = (struct state){.best_loss = INFINITY};
    state->history = calloc(epochs + 1, sizeof *state->history);
    if (!state->history) {
        return err_nomem(err, epochs * sizeof *state->history);
    }
    for (enum head_kind kind = 0; kind < HEAD_COUNT; kind++) {
        if (tally_init(&state->train[kind], classes[kind], err) != ERR_OK ||
            tally_init(&state->eval[kind], classes[kind], err) != ERR_OK) {
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
    for (enum head_kind kind = 0; kind < HEAD_COUNT; kind++) {
        tally_done(&state->train[kind]);
        tally_done(&state->eval[kind]);
    }
    free(state->history);
    *state = (struct state){0};
}

/* ---- an epoch as JSON ---- */

static void append_split(const struct split_result *split, struct buf *out)
{
    buf_printf(out, "{\"examples\": %zu, \"loss\": %.17g", split->n, split->loss);
    for (enum head_kind kind = 0; kind < HEAD_COUNT; kind++) {
        const struct tally_score *score = &split->head[kind];
        buf_printf(out,
                   ", \"%s\": {\"loss\": %.17g, \"accuracy\": %.17g, \"macro_f1\": %.17g, "
                   "\"labelled\": %zu}",
                   head_name(kind), score->loss, score->accuracy, score->macro_f1, score->labelled);
    }
    buf_append_char(out, '}');
}

bool state_append_epoch(const struct epoch_result *result, struct buf *out)
{
    buf_printf(out, "{\"epoch\": %zu, \"seconds\": %.17g, \"train\": ", result->epoch,
               result->seconds);
    append_split(&result->train, out);
    if (result->eval.n > 0) {
        buf_append_str(out, ", \"eval\": ");
        append_split(&result->eval, out);
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

static bool read_split(const struct jval *object, struct split_result *ret_split)
{
    bool good = read_size(object, "examples", &ret_split->n) &&
                read_number(object, "loss", &ret_split->loss);
    for (enum head_kind kind = 0; good && kind < HEAD_COUNT; kind++) {
        const struct jval *head = jval_get(object, head_name(kind));
        struct tally_score *score = &ret_split->head[kind];
        good = read_number(head, "loss", &score->loss) &&
               read_number(head, "accuracy", &score->accuracy) &&
               read_number(head, "macro_f1", &score->macro_f1) &&
               read_size(head, "labelled", &score->labelled);
    }
    return good;
}

static bool read_epoch(const struct jval *object, struct epoch_result *ret_result)
{
    const struct jval *eval = jval_get(object, splits[1]);
    return read_size(object, "epoch", &ret_result->epoch) &&
           read_number(object, "seconds", &ret_result->seconds) &&
           read_split(jval_get(object, splits[0]), &ret_result->train) &&
           (!eval || read_split(eval, &ret_result->eval));
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

static const struct tally *state_tally(const struct state *state, size_t split, size_t kind)
{
    return split == 0 ? &state->train[kind] : &state->eval[kind];
}

static enum err_code collect(const struct state *state, const struct params *params,
                             struct tensors *ret_tensors, struct err *err)
{
    static const char *const suffixes[KINDS] = {"", "#m", "#v"};
    size_t most = params->n * KINDS + (size_t)HEAD_COUNT * 2;
    size_t cells = 0;
    for (size_t i = 0; i < HEAD_COUNT; i++) {
        cells += 2 * state->train[i].classes * state->train[i].classes;
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
    for (size_t split = 0; split < 2; split++) {
        for (size_t kind = 0; kind < HEAD_COUNT; kind++) {
            const struct tally *tally = state_tally(state, split, kind);
            size_t shape[2] = {tally->classes, tally->classes};
            char name[64];
            snprintf(name, sizeof name, "confusion.%s.%s", splits[split],
                     head_name((enum head_kind)kind));
            for (size_t i = 0; i < shape[0] * shape[1]; i++) {
                counts[i] = (float)tally->confusion[i];
            }
            if (tally->classes > 0) {
                add_tensor(&tensors, name, "", 2, shape, counts);
            }
            counts += shape[0] * shape[1];
        }
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
        buf_printf(out, ", \"best_loss\": %.17g", state->best_loss);
    }
    buf_append_str(out, ", \"loss_sums\": [");
    for (size_t i = 0; i < (size_t)2 * HEAD_COUNT; i++) {
        buf_printf(out, "%s%.17g", i == 0 ? "" : ", ",
                   state_tally(state, i / HEAD_COUNT, i % HEAD_COUNT)->loss_sum);
    }
    buf_append_str(out, "], \"history\": [");
    for (size_t i = 0; i < state->epochs_done; i++) {
        buf_append_str(out, i == 0 ? "" : ", ");
        state_append_epoch(&state->history[i], out);
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

static enum err_code check_facts(const struct jval *then, const char *facts, const char *path,
                                 struct err *err)
{
    struct jval *now = NULL;
    enum err_code code = jval_parse(facts, strlen(facts), &now, err);
    const char *key;
    const struct jval *value;
    void *iter = NULL;
    while (code == ERR_OK && (iter = jval_object_next(now, iter, &key, &value)) != NULL) {
        const char *a = "";
        const char *b = "(nothing)";
        size_t size;
        (void)jval_string(value, &a, &size);
        (void)jval_string(jval_get(then, key), &b, &size);
        if (strcmp(a, b) != 0) {
            code = err_set(err, ERR_MISMATCH, "--resume: %s was made with %s %s, not %s", path, key,
                           b, a);
        }
    }
    jval_free(now);
    return code;
}

static bool read_numbers(struct state *state, const struct jval *object, size_t epochs)
{
    size_t steps;
    const struct jval *history = jval_get(object, "history");
    const struct jval *sums = jval_get(object, "loss_sums");
    bool good = read_size(object, "epochs_done", &state->epochs_done) &&
                read_size(object, "steps", &steps) &&
                read_size(object, "best_epoch", &state->best_epoch) &&
                read_size(object, "stale", &state->stale) &&
                jval_array_size(history) == state->epochs_done && state->epochs_done <= epochs &&
                (state->best_epoch == 0 || read_number(object, "best_loss", &state->best_loss));
    for (size_t i = 0; good && i < state->epochs_done; i++) {
        good = read_epoch(jval_at(history, i), &state->history[i]);
    }
    for (size_t i = 0; good && i < HEAD_COUNT; i++) {
        good = jval_double(jval_at(sums, i), &state->train[i].loss_sum) &&
               jval_double(jval_at(sums, HEAD_COUNT + i), &state->eval[i].loss_sum);
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
    for (size_t split = 0; split < 2; split++) {
        for (size_t kind = 0; kind < HEAD_COUNT; kind++) {
            struct tally *tally = split == 0 ? &state->train[kind] : &state->eval[kind];
            char name[64];
            snprintf(name, sizeof name, "confusion.%s.%s", splits[split],
                     head_name((enum head_kind)kind));
            const struct tensor *found = safetensors_find(file, name);
            size_t cells = tally->classes * tally->classes;
            if (cells > 0) {
                tensor_to_f32(found, 0, cells, scratch);
            }
            tally->labelled = 0;
            for (size_t i = 0; i < cells; i++) {
                tally->confusion[i] = scratch[i] > 0 && scratch[i] < 1e12f ? (size_t)scratch[i] : 0;
                tally->labelled += tally->confusion[i];
            }
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
        code = check_facts(then, facts, path, err);
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
