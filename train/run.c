#include "train/run.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/check.h"
#include "base/file.h"
#include "base/size.h"
#include "model/encoder/choice.h"
#include "model/model.h"
#include "train/cache.h"
#include "train/frozen.h"
#include "train/options.h"
#include "train/split.h"

enum { LABELS_BYTES_MAX = 16 * 1024 * 1024, FACTS_BYTES_MAX = 1024 * 1024, EVAL_TEXTS = 1024 };

void run_note(const struct run *run, const char *fmt, ...)
{
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (run->callbacks->on_note) {
        run->callbacks->on_note(run->callbacks->context, text);
    }
}

void run_progress(const struct run *run, enum train_stage stage, size_t epoch, uint64_t done,
                  uint64_t total)
{
    if (run->callbacks->on_progress) {
        run->callbacks->on_progress(run->callbacks->context, stage, epoch, done, total);
    }
}

size_t run_batch_texts(const struct run *run)
{
    return run->deep ? run->options->batch_size : size_max(run->options->batch_size, EVAL_TEXTS);
}

/* ---- opening ---- */

/* The trained model must not overwrite the one it comes from. */
static enum err_code check_folders(const struct train_options *options, struct err *err)
{
    struct stat model, output;
    if (stat(options->model_dir, &model) == 0 && stat(options->output, &output) == 0 &&
        model.st_dev == output.st_dev && model.st_ino == output.st_ino) {
        return err_set(err, ERR_USAGE, "--output: must be another folder than --model");
    }
    return ERR_OK;
}

/* What an earlier run has left. */
static const char *const remains[] = {"heads.safetensors", "model.safetensors",
                                      "checkpoint.safetensors", "train.jsonl"};

/* The folder: there, ours alone, writable, and not another run's. */
static enum err_code open_folder(struct run *run, struct err *err)
{
    const struct train_options *options = run->options;
    enum err_code code = file_make_folders(options->output, err);
    if (code == ERR_OK) {
        code = check_folders(options, err);
    }
    if (code != ERR_OK) {
        return err_prefix(err, "--output");
    }
    run->lock = open(options->output, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (run->lock < 0) {
        return err_set_errno(err, ERR_IO, errno, "--output: %s", options->output);
    }
    if (flock(run->lock, LOCK_EX | LOCK_NB) != 0) {
        return err_set(err, ERR_CONFLICT, "--output: another run is training into %s",
                       options->output);
    }
    if (faccessat(run->lock, ".", W_OK | X_OK, 0) != 0) {
        return err_set_errno(err, ERR_IO, errno, "--output: %s", options->output);
    }
    for (size_t i = 0; i < sizeof remains / sizeof *remains; i++) {
        if (!options->resume && !options->overwrite &&
            faccessat(run->lock, remains[i], F_OK, 0) == 0) {
            return err_set(err, ERR_CONFLICT,
                           "--output: %s holds %s of another run: --resume goes on with it, "
                           "--overwrite replaces it",
                           options->output, remains[i]);
        }
    }
    run->checkpoint_path = file_join(options->output, "checkpoint.safetensors");
    run->log_path = file_join(options->output, "train.jsonl");
    if (!run->checkpoint_path || !run->log_path) {
        return err_nomem(err, strlen(options->output));
    }
    if (options->resume && !file_exists(run->checkpoint_path)) {
        return err_set(err, ERR_NOT_FOUND, "--resume: %s is not there", run->checkpoint_path);
    }
    return ERR_OK;
}

static enum err_code open_model(struct run *run, struct err *err)
{
    const struct train_options *options = run->options;
    enum err_code code = config_load(options->model_dir, &run->config, err);
    if (code == ERR_OK) {
        code = checkpoint_open(options->model_dir, options->threads, &run->checkpoint, err);
    }
    if (code != ERR_OK) {
        return code;
    }
    run->max_length = options->max_length;
    if (run->max_length == 0) {
        run->max_length = run->checkpoint->config.max_length;
    }
    if (run->max_length < 2 || run->max_length > run->config.positions) {
        return err_set(err, ERR_USAGE, "--max-length: must be 2 to %zu, the model's positions",
                       run->config.positions);
    }
    memcpy(run->encoder_sha256, run->checkpoint->encoder_sha256, sizeof run->encoder_sha256);
    code = model_open_tokenizer(options->model_dir, &run->config, &run->tokenizer, err);
    if (code == ERR_OK && options->init_heads) {
        struct heads_fit fit = {
            .hidden = run->config.hidden,
            .pooled = config_pooled_width(&run->config),
            .encoder_sha256 = run->encoder_sha256,
            .tokenizer_sha256 = tokenizer_digest(run->tokenizer),
            .pooling = run->config.pooling,
        };
        code = heads_load(options->init_heads, &fit, true, &run->init, err);
    }
    return code;
}

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

static enum err_code open_tasks(struct run *run, struct err *err)
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
        size_t here = count_labelled(&run->train, t);
        bool out = (here == 0 || task->frozen) && !task->init;
        if (out && task->frozen) {
            run_note(run,
                     "%s is frozen and has no --init-heads: the output holds no such head (a PUT "
                     "keeps the one in service)",
                     task->name);
        } else if (out) {
            run_note(run, "no line has a label for %s: the output holds no such head", task->name);
        }
        task->classes = out ? 0 : task->labels.n;
        if (task->classes == 0) {
            continue;
        }
        bool teaches = here > 0 && task->weight > 0 && (!task->frozen || run->deep);
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

static enum err_code open_data(struct run *run, struct err *err)
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

/* What the output takes at most, against what the disk has. */
static enum err_code check_space(const struct run *run, struct err *err)
{
    struct statvfs disk;
    uint64_t floats = 0;
    size_t width = config_pooled_width(&run->config);
    for (size_t t = 0; t < run->tasks.n; t++) {
        const struct task *task = &run->tasks.at[t];
        floats += (uint64_t)(task->classes + 1) * (width + task->inner) +
                  (uint64_t)task->inner * width;
    }
    for (size_t i = 0; run->deep && i < checkpoint_param_count(&run->config); i++) {
        struct checkpoint_param param;
        checkpoint_param(&run->config, NULL, i, &param);
        floats += (uint64_t)param.shape[0] * (param.rank == 2 ? param.shape[1] : 1);
    }
    /* The result, and a checkpoint of values and two moments, each beside the one it replaces. */
    uint64_t copies = run->options->no_checkpoint ? 2 : 8;
    uint64_t bytes = floats * sizeof(float) * copies;
    if (fstatvfs(run->lock, &disk) == 0 && (uint64_t)disk.f_bavail * disk.f_frsize < bytes) {
        return err_set(err, ERR_IO, "--output: %s has %llu MiB free, up to %llu MiB are needed",
                       run->options->output,
                       (unsigned long long)((uint64_t)disk.f_bavail * disk.f_frsize >> 20),
                       (unsigned long long)(bytes >> 20));
    }
    return ERR_OK;
}

/* Everything that can be known before the first sentence is embedded. */
static enum err_code check_early(struct run *run, struct err *err)
{
    enum err_code code = run_facts(run, err);
    if (code == ERR_OK && run->options->resume) {
        code = state_check(run->checkpoint_path, run->facts.data, err);
    }
    return code == ERR_OK ? check_space(run, err) : code;
}

struct embed_step {
    const struct run *run;
    size_t before, total;
};

bool run_stopped(const struct run *run)
{
    return run->callbacks->stopped && run->callbacks->stopped(run->callbacks->context);
}

static bool on_embedded(void *context, size_t done, size_t total)
{
    const struct embed_step *step = context;
    (void)total;
    run_progress(step->run, TRAIN_EMBEDDING, 0, step->before + done, step->total);
    return !run_stopped(step->run);
}

static enum err_code make_rows(const struct run *run, const struct dataset *data, float **ret_rows,
                               struct err *err)
{
    size_t count;
    if (!size_mul(data->n, config_pooled_width(&run->config), &count)) {
        return err_nomem(err, SIZE_MAX);
    }
    *ret_rows = calloc(count, sizeof **ret_rows);
    return *ret_rows ? ERR_OK : err_nomem(err, count * sizeof **ret_rows);
}

static enum err_code embed(struct run *run, const struct encoder *encoder,
                           const struct cache *cache, const struct dataset *data, size_t before,
                           float *rows, struct err *err)
{
    struct embed_step step = {run, before, run->data.n + run->eval_data.n};
    struct frozen_progress progress = {on_embedded, &step};
    enum err_code code = frozen_embed(encoder, data, run->config.pooling, run->options->threads,
                                      &progress, rows, err);
    struct err why = ERR_INIT;
    if (code == ERR_OK && cache_put(cache, data, rows, &why) != ERR_OK) {
        run_note(run, "--embedding-cache: nothing is kept: %s", why.text);
    }
    return code;
}

/* A frozen encoder is run once, by the serving code, without dropout; and not at all where the
 * cache has its vectors. */
static enum err_code embed_all(struct run *run, struct err *err)
{
    struct choice choice;
    char pooling[POOLING_TEXT_SIZE];
    const struct dataset *const sets[2] = {&run->data, &run->eval_data};
    float **const rows[2] = {&run->embeddings, &run->eval_embeddings};
    bool found[2] = {false, run->eval_data.n == 0};
    enum err_code code = choice_make(&this_machine, "auto", "fp32", &choice, err);
    struct cache cache = {.dir = run->options->embedding_cache,
                          .encoder_sha256 = run->encoder_sha256,
                          .pooling = pooling_name(run->config.pooling, pooling),
                          .isa = code == ERR_OK ? isa_name(choice.isa) : "",
                          .hidden = config_pooled_width(&run->config)};
    for (size_t i = 0; code == ERR_OK && i < 2; i++) {
        if (sets[i]->n > 0) {
            code = make_rows(run, sets[i], rows[i], err);
            found[i] = code == ERR_OK && cache_get(&cache, sets[i], *rows[i]);
        }
    }
    if (code == ERR_OK && !(found[0] && found[1])) {
        struct encoder_options options = {
            .precision = choice.precision, .isa = choice.isa, .threads = run->options->threads};
        struct encoder *encoder = NULL;
        code = encoder_create(run->checkpoint, &options, &encoder, err);
        for (size_t i = 0; code == ERR_OK && i < 2; i++) {
            if (!found[i]) {
                code = embed(run, encoder, &cache, sets[i], i * run->data.n, *rows[i], err);
            }
        }
        encoder_destroy(encoder);
    } else if (code == ERR_OK) {
        run_note(run, "embeddings of %zu texts come from the cache (--embedding-cache)",
                 run->data.n + run->eval_data.n);
    }
    run->train.embeddings = run->embeddings;
    run->eval.embeddings = run->options->eval_data ? run->eval_embeddings : run->embeddings;
    return code;
}

static enum err_code open_learner(struct run *run, struct err *err)
{
    const struct train_options *options = run->options;
    double rate = options->dropout;
    struct learner_options learner_options = {
        .plan = &run->plan,
        .pooling = run->config.pooling,
        .hidden_dropout = rate < 0 ? run->config.hidden_dropout : (float)rate,
        .attention_dropout = rate < 0 ? run->config.attention_dropout : (float)rate,
        .seed = options->seed,
        .optimizer = options->optimizer,
        .parts = options->parts,
        .max_texts = run_batch_texts(run),
        .longest = size_max(run->data.longest, run->eval_data.longest),
        .threads = run->deep ? options->threads : 1,
    };
    enum err_code code = ERR_OK;
    if (run->deep) {
        size_t tokens = 0;
        code = dataset_batch_tokens(&run->data, learner_options.max_texts,
                                    &learner_options.max_tokens, err);
        if (code == ERR_OK && run->eval_data.n > 0) {
            code = dataset_batch_tokens(&run->eval_data, learner_options.max_texts, &tokens, err);
        }
        learner_options.max_tokens = size_max(learner_options.max_tokens, tokens);
    }
    if (code == ERR_OK) {
        code = learner_create(&run->config, run->deep ? run->checkpoint : NULL, &run->tasks,
                              &learner_options, &run->learner, err);
    }
    checkpoint_close(run->checkpoint);
    run->checkpoint = NULL;
    if (code != ERR_OK) {
        return code;
    }
    params_init_heads(learner_params(run->learner), options->seed);
    bool good = !run->deep ||
                batch_init(&run->batch, learner_options.max_texts, learner_options.max_tokens);
    return good ? ERR_OK : err_nomem(err, learner_options.max_tokens * sizeof(int32_t));
}

static enum err_code open_buffers(struct run *run, struct err *err)
{
    size_t texts = run_batch_texts(run);
    run->order = calloc(run->train.n, sizeof *run->order);
    run->pooled = run->deep
                      ? NULL
                      : calloc(texts * config_pooled_width(&run->config), sizeof *run->pooled);
    run->weights = run->data.weights || run->eval_data.weights ? calloc(texts, sizeof(float))
                                                               : NULL;
    if (!run->order || (!run->deep && !run->pooled) ||
        ((run->data.weights || run->eval_data.weights) && !run->weights)) {
        return err_nomem(err, run->train.n * sizeof *run->order);
    }
    for (size_t t = 0; t < run->tasks.n; t++) {
        const struct task *task = &run->tasks.at[t];
        size_t width = size_max(task->labels.n, 1);
        run->labels[t] = calloc(texts, sizeof(int32_t));
        run->targets[t] = task->type == HEAD_SOFTMAX ? NULL : calloc(texts * width, sizeof(float));
        run->eval_logits[t] = calloc(run->eval.n * task->classes + 1, sizeof(float));
        if (!run->labels[t] || !run->eval_logits[t] ||
            (task->type != HEAD_SOFTMAX && !run->targets[t])) {
            return err_nomem(err, texts * width * sizeof(float));
        }
        enum err_code code = tally_init(&run->eval_tally[t], task->type, task->classes, err);
        if (code != ERR_OK) {
            return code;
        }
    }
    return state_init(&run->state, &run->tasks, run->options->epochs, err);
}

enum err_code run_open(struct run *run, const struct train_options *options,
                       const struct train_callbacks *callbacks, struct err *err)
{
    *run = (struct run){.options = options, .callbacks = callbacks, .lock = -1};
    arena_init(&run->arena, LABELS_BYTES_MAX);
    buf_init(&run->facts, FACTS_BYTES_MAX);
    enum err_code (*const steps[])(struct run * run, struct err * err) = {
        open_model, open_tasks, open_folder, open_data, check_early};
    enum err_code code = options_check(options, err);
    for (size_t i = 0; code == ERR_OK && i < sizeof steps / sizeof *steps; i++) {
        code = steps[i](run, err);
    }
    if (code == ERR_OK && !run->deep) {
        code = embed_all(run, err);
    }
    if (code == ERR_OK) {
        code = open_learner(run, err);
    }
    return code == ERR_OK ? open_buffers(run, err) : code;
}

void run_close(struct run *run)
{
    if (run->log) {
        (void)fclose(run->log);
    }
    for (size_t t = 0; t < TASKS_MAX; t++) {
        tally_done(&run->eval_tally[t]);
        free(run->labels[t]);
        free(run->targets[t]);
        free(run->eval_logits[t]);
    }
    if (run->lock >= 0) {
        (void)close(run->lock);
    }
    free(run->weights);
    free(run->checkpoint_path);
    free(run->log_path);
    buf_done(&run->facts);
    state_done(&run->state);
    free(run->order);
    free(run->pooled);
    batch_done(&run->batch);
    learner_destroy(run->learner);
    free(run->train.index);
    free(run->eval.index);
    free(run->embeddings);
    free(run->eval_embeddings);
    dataset_done(&run->data);
    dataset_done(&run->eval_data);
    checkpoint_close(run->checkpoint);
    tokenizer_destroy(run->tokenizer);
    config_done(&run->config);
    heads_release(run->init);
    arena_done(&run->arena);
}

void run_labels(struct run *run, const struct split *split, const size_t *order, size_t at,
                size_t n, struct lesson_labels *ret_labels)
{
    const struct dataset *data = split->data;
    struct lesson_labels labels = {.weights = data->weights ? run->weights : NULL};
    for (size_t t = 0; t < run->tasks.n; t++) {
        size_t width = run->tasks.at[t].classes;
        for (size_t i = 0; width > 0 && i < n; i++) {
            size_t example = order[at + i];
            run->labels[t][i] = data->labels[t][example];
            if (run->targets[t]) {
                memcpy(run->targets[t] + i * width, data->targets[t] + example * width,
                       width * sizeof(float));
            }
        }
        labels.labels[t] = run->labels[t];
        labels.targets[t] = run->targets[t];
    }
    for (size_t i = 0; data->weights && i < n; i++) {
        run->weights[i] = data->weights[order[at + i]];
    }
    *ret_labels = labels;
}

void run_lesson(struct run *run, const struct split *split, const size_t *order, size_t at,
                size_t n, struct lesson *ret_lesson)
{
    const struct dataset *data = split->data;
    size_t h = config_pooled_width(&run->config);
    struct lesson lesson = {.n = n};
    batch_clear(&run->batch);
    for (size_t i = 0; i < n; i++) {
        size_t example = order[at + i];
        if (split->embeddings) {
            memcpy(run->pooled + i * h, split->embeddings + example * h, h * sizeof(float));
        } else {
            CHECK(batch_add(&run->batch, data->ids + data->starts[example],
                            dataset_length(data, example)));
        }
    }
    run_labels(run, split, order, at, n, &lesson.labels);
    lesson.batch = split->embeddings ? NULL : &run->batch;
    lesson.pooled = run->pooled;
    *ret_lesson = lesson;
}
