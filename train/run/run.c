#include "train/run/run.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/file.h"
#include "base/size.h"
#include "model/encoder/choice.h"
#include "model/model.h"
#include "train/data/embedding_cache.h"
#include "train/data/frozen.h"
#include "train/run/course.h"
#include "train/run/folder.h"
#include "train/run/options.h"

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

static void note_warnings(struct run *run, const struct config_lists *lists, size_t from)
{
    for (size_t i = from; i < lists->n_warnings; i++) {
        run_note(run, "warning: %s", lists->warnings[i]);
    }
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
    note_warnings(run, run->checkpoint->config.lists, 0);
    size_t noted = run->config.lists->n_warnings; /* the checkpoint read the same files */
    memcpy(run->encoder_sha256, run->checkpoint->encoder_sha256, sizeof run->encoder_sha256);
    code = model_open_tokenizer(options->model_dir, &run->config, &run->tokenizer, err);
    note_warnings(run, run->config.lists, noted);
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

/* Everything that can be known before the first sentence is embedded. */
static enum err_code check_early(struct run *run, struct err *err)
{
    enum err_code code = run_facts(run, err);
    if (code == ERR_OK && run->options->resume) {
        code = state_check(run->checkpoint_path, run->facts.data, err);
    }
    return code == ERR_OK ? folder_check_space(run, err) : code;
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
                           const struct embedding_cache *cache, const struct dataset *data,
                           size_t before, float *rows, struct err *err)
{
    struct embed_step step = {run, before, run->data.n + run->eval_data.n};
    struct frozen_progress progress = {on_embedded, &step};
    enum err_code code = frozen_embed(encoder, data, run->config.pooling, run->options->threads,
                                      &progress, rows, err);
    struct err why = ERR_INIT;
    if (code == ERR_OK && embedding_cache_put(cache, data, rows, &why) != ERR_OK) {
        run_note(run, "--embedding-cache: nothing is kept: %s", why.text);
    }
    return code;
}

/* A frozen encoder is run once, by the serving code, without dropout; and not at all where the
 * cache has its vectors. */
static enum err_code embed_all(struct run *run, struct err *err)
{
    const struct machine machine = machine_here(NULL);
    struct choice choice;
    char pooling[POOLING_TEXT_SIZE];
    const struct dataset *const sets[2] = {&run->data, &run->eval_data};
    float **const rows[2] = {&run->embeddings, &run->eval_embeddings};
    bool found[2] = {false, run->eval_data.n == 0};
    enum err_code code = choice_make(&machine, "auto", "fp32", &choice, err);
    struct embedding_cache cache = {.dir = run->options->embedding_cache,
                                    .encoder_sha256 = run->encoder_sha256,
                                    .pooling = pooling_name(run->config.pooling, pooling),
                                    .isa = code == ERR_OK ? isa_name(choice.isa) : "",
                                    .hidden = config_pooled_width(&run->config)};
    for (size_t i = 0; code == ERR_OK && i < 2; i++) {
        if (sets[i]->n > 0) {
            code = make_rows(run, sets[i], rows[i], err);
            found[i] = code == ERR_OK && embedding_cache_get(&cache, sets[i], *rows[i]);
        }
    }
    if (code == ERR_OK && !(found[0] && found[1])) {
        struct encoder_options options = {
            .precision = choice.precision, .isa = choice.isa, .threads = run->options->threads};
        struct encoder *encoder = NULL;
        code = encoder_create(run->checkpoint, &options, &encoder, err);
        if (code == ERR_OK) {
            code = weights_unchanged(run->checkpoint->weights, err); /* the encoder has its own */
        }
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
    if (code == ERR_OK && run->deep) {
        code = weights_unchanged(run->checkpoint->weights, err); /* the learner has its own now */
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

/* The folder that a deep run writes has a limit of its own: a fine-tuned folder's head goes, and
 * what is left counts as a bare encoder (docs/MODELS.md). */
static void note_limit(const struct run *run)
{
    const struct config *config = &run->config;
    bool bare = config->folder == FOLDER_SEQUENCE || config->folder == FOLDER_TOKENS;
    size_t limit = bare ? size_min(CONFIG_LENGTH_DEFAULT, config->positions) : config->max_length;
    if (run->deep && limit != run->max_length) {
        run_note(run,
                 "texts are read up to %zu tokens, the folder that is written says %zu: "
                 "--max-length %zu serves it as it was trained",
                 run->max_length, limit, run->max_length);
    }
}

enum err_code run_open(struct run *run, const struct train_options *options,
                       const struct train_callbacks *callbacks, struct err *err)
{
    *run = (struct run){.options = options, .callbacks = callbacks, .lock = -1};
    arena_init(&run->arena, LABELS_BYTES_MAX);
    buf_init(&run->facts, FACTS_BYTES_MAX);
    enum err_code (*const steps[])(struct run * run, struct err * err) = {
        open_model, course_tasks, folder_open, course_data, check_early};
    enum err_code code = options_check(options, err);
    for (size_t i = 0; code == ERR_OK && i < sizeof steps / sizeof *steps; i++) {
        code = steps[i](run, err);
    }
    if (code == ERR_OK && !run->deep) {
        code = embed_all(run, err);
    }
    if (code == ERR_OK) {
        note_limit(run);
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
