#include "train/run/course.h"

#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "train/run/split.h"

/* --label-column HEAD=COLUMN */
static enum err_code read_columns(struct run *run, struct err *err)
{
    const struct train_options *options = run->options;
    run->columns = (struct rows_columns){
        .text = options->text_column, .n = run->tasks.n, .group = options->split_by};
    for (size_t i = 0; i < run->tasks.n; i++) {
        run->columns.labels[i] = run->tasks.at[i].name;
    }
    for (size_t i = 0; i < options->n_label_columns; i++) {
        const char *word = options->label_columns[i];
        size_t size = strcspn(word, "=");
        const struct task *task = word[size] == '=' && word[size + 1] != '\0'
                                      ? tasks_find(&run->tasks, word, size)
                                      : NULL;
        if (!task) {
            return err_set(err, ERR_USAGE,
                           "--label-column: must be HEAD=COLUMN, with the name of a head of this "
                           "run");
        }
        run->columns.labels[task - run->tasks.at] = word + size + 1;
    }
    return ERR_OK;
}

/* loss, accuracy, macro_f1, or one of them behind "HEAD." */
static enum err_code read_metric(struct run *run, struct err *err)
{
    static const char *const names[] = {"loss", "accuracy", "macro_f1"};
    const char *word = run->options->metric ? run->options->metric : "loss";
    const char *dot = strchr(word, '.');
    const char *kind = dot ? dot + 1 : word;
    const struct task *task = dot ? tasks_find(&run->tasks, word, (size_t)(dot - word)) : NULL;
    run->metric.task = task ? (int)(task - run->tasks.at) : -1;
    for (size_t i = 0; (!dot || task) && i < sizeof names / sizeof *names; i++) {
        bool scored = i == 0 || !task || task->type != HEAD_SCORE;
        if (strcmp(kind, names[i]) == 0 && scored) {
            run->metric.kind = i;
            return ERR_OK;
        }
    }
    return err_set(err, ERR_USAGE,
                   "--metric: must be loss, accuracy or macro_f1, or HEAD.loss and so on with the "
                   "name of a head of this run");
}

enum err_code course_tasks(struct run *run, struct err *err)
{
    const struct train_options *options = run->options;
    enum err_code code = tasks_make(&options->tasks, run->init, &run->arena, &run->tasks, err);
    run->plan.layer_decay = options->layer_decay;
    for (size_t i = 0; code == ERR_OK && i < options->n_freeze; i++) {
        code = plan_freeze(&run->plan, options->freeze[i], run->config.layers, &run->tasks, err);
    }
    if (code == ERR_OK) {
        code = read_columns(run, err);
    }
    if (code == ERR_OK) {
        code = read_metric(run, err);
    }
    if (code != ERR_OK) {
        return code;
    }
    run->deep = plan_lowest(&run->plan, run->config.layers) <= run->config.layers;
    const struct config *config = &run->config;
    if (run->deep && (strcmp(config->architecture->model_type, "bert") != 0 ||
                      config->activation != ACTIVATION_GELU ||
                      (config->pooling != POOLING_MEAN && config->pooling != POOLING_CLS))) {
        return err_set(err, ERR_UNSUPPORTED,
                       "%s: the encoder's own layers train for model_type bert with gelu and mean "
                       "or cls pooling alone; heads on any: --freeze backbone",
                       options->model_dir);
    }
    run->keep_best = options->keep == KEEP_BEST ||
                     (options->keep == KEEP_AUTO && options->patience > 0);
    bool trains = run->deep;
    for (size_t i = 0; i < run->tasks.n; i++) {
        run->tasks.at[i].frozen = run->plan.freeze_head[i];
        trains = trains || !run->tasks.at[i].frozen;
    }
    return trains ? ERR_OK
                  : err_set(err, ERR_USAGE, "--freeze: everything is frozen, nothing would train");
}

static enum err_code stratify_task(const struct run *run, int *ret_task, struct err *err)
{
    const char *name = run->options->stratify;
    *ret_task = -1;
    for (size_t i = 0; name && i < run->tasks.n; i++) {
        if (strcmp(run->tasks.at[i].name, name) == 0 && run->tasks.at[i].type == HEAD_SOFTMAX) {
            *ret_task = (int)i;
        }
    }
    return name && *ret_task < 0
               ? err_set(err, ERR_USAGE, "--stratify: must be a softmax head of this run")
               : ERR_OK;
}

static enum err_code split_data(struct run *run, struct err *err)
{
    const struct train_options *options = run->options;
    size_t n = run->data.n;
    struct split_options split = {
        .share = options->eval_split, .seed = options->seed, .grouped = options->split_by != NULL};
    enum err_code code = stratify_task(run, &split.stratify, err);
    unsigned char *is_held = calloc(n, 1);
    run->train.index = calloc(n, sizeof(size_t));
    run->eval.index = calloc(size_max(n, run->eval_data.n), sizeof(size_t));
    if (code == ERR_OK && (!is_held || !run->train.index || !run->eval.index)) {
        code = err_nomem(err, n * sizeof(size_t));
    }
    if (code == ERR_OK) {
        code = split_choose(&run->data, &split, options->data, is_held, err);
    }
    for (size_t i = 0; code == ERR_OK && i < n; i++) {
        struct split *side = is_held[i] ? &run->eval : &run->train;
        side->index[side->n++] = i;
    }
    for (size_t i = 0; code == ERR_OK && i < run->eval_data.n; i++) {
        run->eval.index[run->eval.n++] = i;
    }
    free(is_held);
    run->train.data = &run->data;
    run->eval.data = options->eval_data ? &run->eval_data : &run->data;
    size_t twice = 0;
    if (code == ERR_OK) {
        code = split_duplicates(&run->data, run->train.index, run->train.n, run->eval.data,
                                run->eval.index, run->eval.n, &twice, err);
    }
    if (code == ERR_OK && twice > 0) {
        run_note(run, "%zu of %zu evaluation texts are in the training data too", twice,
                 run->eval.n);
    }
    return code;
}

static size_t count_labelled(const struct split *split, size_t task)
{
    size_t n = 0;
    for (size_t i = 0; i < split->n; i++) {
        n += split->data->labels[task][split->index[i]] != LABEL_NONE;
    }
    return n;
}

/* Those of them that count in the loss. */
static size_t count_teaching(const struct split *split, size_t task)
{
    const struct dataset *data = split->data;
    size_t n = 0;
    for (size_t i = 0; i < split->n; i++) {
        size_t example = split->index[i];
        n += data->labels[task][example] != LABEL_NONE &&
             (!data->weights || data->weights[example] > 0);
    }
    return n;
}

/* Variance of a score head's targets. */
static double spread_of(const struct split *split, size_t task)
{
    double n = 0;
    double sum = 0;
    double squares = 0;
    for (size_t i = 0; i < split->n; i++) {
        size_t example = split->index[i];
        if (split->data->labels[task][example] != LABEL_NONE) {
            double x = (double)split->data->targets[task][example];
            n++;
            sum += x;
            squares += x * x;
        }
    }
    return n > 0 ? squares / n - sum / n * (sum / n) + 1 : 1;
}

static enum err_code weigh_classes(struct run *run, size_t t, struct err *err)
{
    struct task *task = &run->tasks.at[t];
    const struct dataset *data = &run->data;
    size_t counts[HEADS_CLASSES_MAX] = {0};
    size_t labelled = 0;
    for (size_t i = 0; i < run->train.n; i++) {
        size_t example = run->train.index[i];
        if (data->labels[t][example] == LABEL_NONE) {
            continue;
        }
        labelled++;
        if (task->type == HEAD_SOFTMAX) {
            counts[data->labels[t][example]]++;
        }
        for (size_t k = 0; task->type == HEAD_SIGMOID && k < task->labels.n; k++) {
            counts[k] += data->targets[t][example * task->labels.n + k] > 0.5f;
        }
    }
    return task_weigh(task, counts, labelled, &run->arena, err);
}

/* Which heads take part. One that nothing taught, or that is frozen on random numbers, is left out:
 * a PUT would put it in service. */
static enum err_code choose_heads(struct run *run, struct err *err)
{
    size_t taught = 0;
    size_t measured = 0;
    for (size_t t = 0; t < run->tasks.n; t++) {
        struct task *task = &run->tasks.at[t];
        size_t here = task->weight > 0 ? count_teaching(&run->train, t) : 0;
        bool out = (here == 0 || task->frozen) && !task->init;
        if (out && task->frozen) {
            run_note(run,
                     "%s is frozen and has no --init-heads: the output holds no such head (a PUT "
                     "keeps the one in service)",
                     task->name);
        } else if (out) {
            run_note(run, "%s for %s: the output holds no such head",
                     task->weight > 0 ? "no line has a label (with a weight above 0)"
                                      : "--loss-weights has 0",
                     task->name);
        }
        task->classes = out ? 0 : task->labels.n;
        if (task->classes == 0) {
            continue;
        }
        bool teaches = here > 0 && (!task->frozen || run->deep);
        taught += teaches ? here : 0;
        measured += teaches && (run->metric.task < 0 || run->metric.task == (int)t)
                        ? count_labelled(&run->eval, t)
                        : 0;
        run->spread[t] = task->type == HEAD_SCORE ? spread_of(&run->train, t) : 0;
        enum err_code code = weigh_classes(run, t, err);
        if (code != ERR_OK) {
            return code;
        }
    }
    if (taught == 0) {
        return err_set(err, ERR_INVALID,
                       "%s: no line to train on has a label of a head that trains",
                       run->options->data);
    }
    if (run->keep_best && measured == 0) {
        return err_set(err, ERR_INVALID,
                       "%s: no evaluation text has a label of a head that trains and that --metric "
                       "asks for; %s can't choose an epoch",
                       run->options->eval_data ? run->options->eval_data : run->options->data,
                       run->options->patience > 0 ? "--patience" : "--keep best");
    }
    return ERR_OK;
}

enum err_code course_data(struct run *run, struct err *err)
{
    const struct train_options *options = run->options;
    struct dataset_options load = {
        .path = options->data,
        .format = options->format,
        .columns = &run->columns,
        .tokenizer = run->tokenizer,
        .max_length = run->max_length,
    };
    enum err_code code = dataset_load(&load, &run->tasks, &run->arena, &run->data, err);
    if (code == ERR_OK && options->eval_data) {
        struct rows_columns columns = run->columns;
        columns.group = NULL;
        load.path = options->eval_data;
        load.columns = &columns;
        code = dataset_load(&load, &run->tasks, &run->arena, &run->eval_data, err);
    }
    if (code == ERR_OK) {
        code = split_data(run, err);
    }
    if (code == ERR_OK) {
        code = choose_heads(run, err);
    }
    if (code == ERR_OK && run->data.truncated > 0) {
        run_note(run, "%zu of %zu texts are cut at %zu tokens (--max-length)", run->data.truncated,
                 run->data.n, run->max_length);
    }
    return code;
}
