#include "train/measure/eval.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "train/measure/loss.h"

enum { ARENA_MAX = 16 * 1024 * 1024 };

/* The loss of a text as it is served: behind the temperature. */
static double text_loss(const struct task *task, const float *logits, int32_t label,
                        const float *targets)
{
    float scaled[HEADS_CLASSES_MAX];
    double loss = 0;
    for (size_t k = 0; k < task->classes; k++) {
        scaled[k] = logits[k] / task->init->temperature;
    }
    if (task->type == HEAD_SOFTMAX) {
        return loss_cross_entropy(scaled, task->classes, (size_t)label, 1);
    }
    if (task->identity) {
        double off = (double)logits[0] - (double)targets[0];
        return off * off;
    }
    for (size_t k = 0; k < task->classes; k++) {
        double gradient;
        loss += loss_binary((double)scaled[k], (double)targets[k], 1, &gradient);
    }
    return loss / (double)task->classes;
}

static enum err_code count_head(struct eval_result *result, size_t t, const float *embeddings,
                                struct err *err)
{
    const struct task *task = &result->tasks.at[t];
    const struct dataset *data = &result->data;
    size_t classes = task->classes;
    enum err_code code = tally_init(&result->head[t], task->type, classes, err);
    result->logits[t] = calloc(data->n * classes, sizeof(float));
    if (code == ERR_OK && !result->logits[t]) {
        code = err_nomem(err, data->n * classes * sizeof(float));
    }
    if (code != ERR_OK) {
        return code;
    }
    head_logits(task->init, embeddings, data->n, result->logits[t]);
    for (size_t i = 0; i < data->n; i++) {
        int32_t label = data->labels[t][i];
        const float *logits = result->logits[t] + i * classes;
        const float *targets = data->targets[t] ? data->targets[t] + i * classes : NULL;
        if (label != LABEL_NONE) {
            tally_text(&result->head[t], logits, label, targets, task->identity,
                       text_loss(task, logits, label, targets));
        }
    }
    return ERR_OK;
}

static enum err_code read_columns(const struct eval_options *options, struct tasks *tasks,
                                  struct rows_columns *ret_columns, struct err *err)
{
    struct rows_columns columns = {.text = options->text_column ? options->text_column : "text",
                                   .n = tasks->n};
    for (size_t i = 0; i < tasks->n; i++) {
        columns.labels[i] = tasks->at[i].name;
    }
    for (size_t i = 0; i < options->n_label_columns; i++) {
        const char *word = options->label_columns[i];
        size_t size = strcspn(word, "=");
        const struct task *task = word[size] == '=' ? tasks_find(tasks, word, size) : NULL;
        if (!task || word[size + 1] == '\0') {
            return err_set(err, ERR_USAGE,
                           "--label-column: must be HEAD=COLUMN, with the name of a head of the "
                           "file");
        }
        columns.labels[task - tasks->at] = word + size + 1;
    }
    *ret_columns = columns;
    return ERR_OK;
}

static enum err_code load(const struct model *model, const struct eval_options *options,
                          struct eval_result *result, struct err *err)
{
    struct rows_columns columns;
    const struct dataset_options load = {
        .path = options->data,
        .format = options->format,
        .columns = &columns,
        .tokenizer = model->tokenizer,
        .max_length = options->max_length,
    };
    enum err_code code = read_columns(options, &result->tasks, &columns, err);
    if (code == ERR_OK) {
        code = dataset_load(&load, &result->tasks, &result->arena, &result->data, err);
    }
    size_t useful = 0;
    for (size_t t = 0; code == ERR_OK && t < result->tasks.n; t++) {
        useful += result->data.labelled[t];
    }
    if (code == ERR_OK && useful == 0) {
        code = err_set(err, ERR_INVALID, "%s: no line has a label for a head of the file",
                       options->data);
    }
    return code;
}

enum err_code eval_run(const struct model *model, const struct heads *heads,
                       const struct eval_options *options, struct eval_result *ret_result,
                       struct err *err)
{
    struct eval_result result = {0};
    arena_init(&result.arena, ARENA_MAX);
    tasks_of_heads(heads, &result.tasks);
    enum err_code code = load(model, options, &result, err);
    size_t count = 0;
    float *embeddings = NULL;
    if (code == ERR_OK) {
        embeddings = size_mul(result.data.n, config_pooled_width(&model->config), &count)
                         ? calloc(count, sizeof *embeddings)
                         : NULL;
        code = embeddings ? frozen_embed(model->encoder, &result.data, options->pooling,
                                         options->threads, options->progress, embeddings, err)
                          : err_nomem(err, count * sizeof *embeddings);
    }
    for (size_t t = 0; code == ERR_OK && t < result.tasks.n; t++) {
        code = count_head(&result, t, embeddings, err);
    }
    free(embeddings);
    if (code != ERR_OK) {
        eval_result_done(&result);
        return code;
    }
    *ret_result = result;
    return ERR_OK;
}

void eval_result_done(struct eval_result *result)
{
    if (result) {
        for (size_t t = 0; t < TASKS_MAX; t++) {
            tally_done(&result->head[t]);
            free(result->logits[t]);
        }
        dataset_done(&result->data);
        arena_done(&result->arena);
        *result = (struct eval_result){0};
    }
}

struct judged eval_judged(const struct eval_result *result, size_t task)
{
    return (struct judged){.type = result->tasks.at[task].type,
                           .n = result->data.n,
                           .classes = result->tasks.at[task].classes,
                           .logits = result->logits[task],
                           .labels = result->data.labels[task],
                           .targets = result->data.targets[task]};
}
