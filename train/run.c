#include "train/run.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/check.h"
#include "base/file.h"
#include "base/size.h"
#include "model/encoder/choice.h"
#include "train/dropout.h"
#include "train/frozen.h"
#include "train/options.h"

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

static enum err_code make_folder(const char *path, struct err *err)
{
    char *copy = strdup(path);
    if (!copy) {
        return err_nomem(err, strlen(path));
    }
    for (char *at = copy + 1; *at != '\0'; at++) {
        if (*at == '/') {
            *at = '\0';
            (void)mkdir(copy, 0777);
            *at = '/';
        }
    }
    free(copy);
    struct stat info;
    if (mkdir(path, 0777) != 0 && (errno != EEXIST || stat(path, &info) != 0)) {
        return err_set_errno(err, ERR_IO, errno, "--output: %s", path);
    }
    if (stat(path, &info) != 0 || !S_ISDIR(info.st_mode)) {
        return err_set(err, ERR_IO, "--output: %s is no folder", path);
    }
    return ERR_OK;
}

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

static enum err_code open_plan(struct run *run, struct err *err)
{
    const struct train_options *options = run->options;
    enum err_code code = config_load(options->model_dir, &run->config, err);
    run->plan.layer_decay = options->layer_decay;
    for (size_t i = 0; code == ERR_OK && i < options->n_freeze; i++) {
        code = plan_freeze(&run->plan, options->freeze[i], run->config.layers, err);
    }
    run->loss_weights[HEAD_CLASSIFIER] = 1;
    run->loss_weights[HEAD_SENTIMENT] = 1;
    if (code == ERR_OK) {
        code = plan_loss_weights(options->loss_weights, run->loss_weights, err);
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
    run->max_length = options->max_length;
    if (run->max_length == 0) {
        run->max_length = size_min(MAX_LENGTH_DEFAULT, run->config.positions);
    }
    if (run->max_length < 2 || run->max_length > run->config.positions) {
        return err_set(err, ERR_USAGE, "--max-length: must be 2 to %zu, the model's positions",
                       run->config.positions);
    }
    return ERR_OK;
}

static enum err_code open_model(struct run *run, struct err *err)
{
    const struct train_options *options = run->options;
    enum err_code code = checkpoint_open(options->model_dir, options->threads, &run->checkpoint,
                                         err);
    if (code != ERR_OK) {
        return code;
    }
    memcpy(run->encoder_sha256, run->checkpoint->encoder_sha256, sizeof run->encoder_sha256);
    if (options->init_heads) {
        struct heads_fit fit = {
            .hidden = run->config.hidden,
            .encoder_sha256 = run->encoder_sha256,
            .pooling = run->config.pooling,
        };
        code = heads_load(options->init_heads, &fit, false, &run->init, err);
        if (code == ERR_OK) {
            code = kinds_check(run->init, options->init_heads, err);
        }
    }
    if (code == ERR_OK) {
        code = label_sets_make(options->labels, options->n_labels, run->init, &run->arena,
                               run->sets, err);
    }
    if (code != ERR_OK) {
        return code;
    }
    code = tokenizer_open(options->model_dir, &run->config.tokenizer, &run->tokenizer, err);
    if (code == ERR_OK && tokenizer_vocab_size(run->tokenizer) > run->config.vocab) {
        code = err_set(err, ERR_MISMATCH, "%s: more words than config.json says",
                       tokenizer_source(run->tokenizer));
    }
    return code;
}

/* The first round(n · share) of a seeded permutation are held back, both parts in file order. */
static enum err_code split_data(struct run *run, struct err *err)
{
    size_t n = run->data.n;
    size_t held = (size_t)llround((double)n * run->options->eval_split);
    if (run->options->eval_split > 0) {
        held = size_max(held, 1);
    }
    if (held >= n) {
        return err_set(err, ERR_INVALID, "%s: %zu examples are too few to split off %g",
                       run->options->data, n, run->options->eval_split);
    }
    unsigned char *is_held = calloc(n, 1);
    size_t *order = calloc(n, sizeof *order);
    run->train.index = calloc(n, sizeof(size_t));
    run->eval.index = calloc(size_max(n, run->eval_data.n), sizeof(size_t));
    bool good = is_held && order && run->train.index && run->eval.index;
    if (good) {
        random_order(run->options->seed, STREAM_SPLIT, n, order);
        for (size_t i = 0; i < held; i++) {
            is_held[order[i]] = 1;
        }
        for (size_t i = 0; i < n; i++) {
            struct split *split = is_held[i] ? &run->eval : &run->train;
            split->index[split->n++] = i;
        }
        for (size_t i = 0; i < run->eval_data.n; i++) {
            run->eval.index[run->eval.n++] = i;
        }
        run->train.data = &run->data;
        run->eval.data = run->options->eval_data ? &run->eval_data : &run->data;
    }
    free(is_held);
    free(order);
    return good ? ERR_OK : err_nomem(err, n * sizeof(size_t));
}

/* A head that nothing teaches and nothing gives is left out. */
static enum err_code choose_heads(struct run *run, struct err *err)
{
    size_t labelled = 0;
    for (enum head_kind kind = 0; kind < HEAD_COUNT; kind++) {
        size_t here = 0;
        for (size_t i = 0; i < run->train.n; i++) {
            here += run->data.labels[kind][run->train.index[i]] != LABEL_NONE;
        }
        run->classes[kind] = here > 0 || heads_has(run->init, kind) ? run->sets[kind].n : 0;
        if (run->classes[kind] == 0) {
            run_note(run, "no line has a label for %s: the output holds no such head",
                     head_name(kind));
        }
        labelled += here;
    }
    if (labelled == 0) {
        return err_set(err, ERR_INVALID, "%s: no line to train on has a label", run->options->data);
    }
    return ERR_OK;
}

static enum err_code open_data(struct run *run, struct err *err)
{
    const struct train_options *options = run->options;
    enum err_code code = dataset_load(options->data, run->tokenizer, run->max_length, run->sets,
                                      &run->data, err);
    if (code == ERR_OK && options->eval_data) {
        code = dataset_load(options->eval_data, run->tokenizer, run->max_length, run->sets,
                            &run->eval_data, err);
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

struct embed_step {
    const struct run *run;
    size_t before, total;
};

static bool on_embedded(void *context, size_t done, size_t total)
{
    const struct embed_step *step = context;
    (void)total;
    run_progress(step->run, TRAIN_EMBEDDING, 0, step->before + done, step->total);
    return true;
}

static enum err_code embed(struct run *run, const struct encoder *encoder,
                           const struct dataset *data, size_t before, float **ret_rows,
                           struct err *err)
{
    size_t count;
    if (!size_mul(data->n, run->config.hidden, &count)) {
        return err_nomem(err, SIZE_MAX);
    }
    float *rows = calloc(count, sizeof *rows);
    if (!rows) {
        return err_nomem(err, count * sizeof *rows);
    }
    struct embed_step step = {run, before, run->data.n + run->eval_data.n};
    struct frozen_progress progress = {on_embedded, &step};
    enum err_code code = frozen_embed(encoder, data, run->config.pooling, run->options->threads,
                                      &progress, rows, err);
    if (code != ERR_OK) {
        free(rows);
        return code;
    }
    *ret_rows = rows;
    return ERR_OK;
}

/* A frozen encoder is run once, by the serving code, without dropout. */
static enum err_code embed_all(struct run *run, struct err *err)
{
    struct choice choice;
    enum err_code code = choice_make(&this_machine, "auto", "fp32", &choice, err);
    if (code != ERR_OK) {
        return code;
    }
    struct encoder_options options = {
        .precision = choice.precision, .isa = choice.isa, .threads = run->options->threads};
    struct encoder *encoder;
    code = encoder_create(run->checkpoint, &options, &encoder, err);
    if (code != ERR_OK) {
        return code;
    }
    checkpoint_close(run->checkpoint);
    run->checkpoint = NULL;
    code = embed(run, encoder, &run->data, 0, &run->embeddings, err);
    if (code == ERR_OK && run->eval_data.n > 0) {
        code = embed(run, encoder, &run->eval_data, run->data.n, &run->eval_embeddings, err);
    }
    encoder_destroy(encoder);
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
        .max_texts = run_batch_texts(run),
        .longest = size_max(run->data.longest, run->eval_data.longest),
        .threads = run->deep ? options->threads : 1,
    };
    memcpy(learner_options.loss_weights, run->loss_weights, sizeof run->loss_weights);
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
        code = learner_create(&run->config, run->deep ? run->checkpoint : NULL, run->classes,
                              &learner_options, &run->learner, err);
    }
    checkpoint_close(run->checkpoint);
    run->checkpoint = NULL;
    if (code != ERR_OK) {
        return code;
    }
    for (enum head_kind kind = 0; kind < HEAD_COUNT; kind++) {
        if (heads_has(run->init, kind)) {
            params_load_head(learner_params(run->learner), kind, kinds_head(run->init, kind));
        } else if (run->classes[kind] > 0) {
            params_init_head(learner_params(run->learner), kind, options->seed);
        }
    }
    bool good = !run->deep ||
                batch_init(&run->batch, learner_options.max_texts, learner_options.max_tokens);
    return good ? ERR_OK : err_nomem(err, learner_options.max_tokens * sizeof(int32_t));
}

static enum err_code open_buffers(struct run *run, struct err *err)
{
    size_t texts = run_batch_texts(run);
    run->order = calloc(run->train.n, sizeof *run->order);
    run->pooled = run->deep ? NULL : calloc(texts * run->config.hidden, sizeof *run->pooled);
    run->checkpoint_path = file_join(run->options->output, "checkpoint.safetensors");
    run->log_path = file_join(run->options->output, "train.jsonl");
    if (!run->order || (!run->deep && !run->pooled) || !run->checkpoint_path || !run->log_path) {
        return err_nomem(err, run->train.n * sizeof *run->order);
    }
    for (enum head_kind kind = 0; kind < HEAD_COUNT; kind++) {
        run->labels[kind] = calloc(texts, sizeof(int32_t));
        if (!run->labels[kind]) {
            return err_nomem(err, texts * sizeof(int32_t));
        }
        enum err_code code = tally_init(&run->train_tally[kind], run->classes[kind], err);
        if (code == ERR_OK) {
            code = tally_init(&run->eval_tally[kind], run->classes[kind], err);
        }
        if (code != ERR_OK) {
            return code;
        }
    }
    return state_init(&run->state, run->classes, run->options->epochs, err);
}

enum err_code run_open(struct run *run, const struct train_options *options,
                       const struct train_callbacks *callbacks, struct err *err)
{
    *run = (struct run){.options = options, .callbacks = callbacks};
    arena_init(&run->arena, LABELS_BYTES_MAX);
    buf_init(&run->facts, FACTS_BYTES_MAX);
    enum err_code (*const steps[])(struct run * run, struct err * err) = {open_plan, open_model,
                                                                          open_data};
    enum err_code code = options_check(options, err);
    for (size_t i = 0; code == ERR_OK && i < sizeof steps / sizeof *steps; i++) {
        code = steps[i](run, err);
    }
    if (code == ERR_OK) {
        code = make_folder(options->output, err);
    }
    if (code == ERR_OK) {
        code = check_folders(options, err);
    }
    if (code == ERR_OK && !run->deep) {
        code = embed_all(run, err);
    }
    if (code == ERR_OK) {
        code = open_learner(run, err);
    }
    if (code == ERR_OK) {
        code = open_buffers(run, err);
    }
    return code == ERR_OK ? run_facts(run, err) : code;
}

void run_close(struct run *run)
{
    if (run->log) {
        (void)fclose(run->log);
    }
    for (enum head_kind kind = 0; kind < HEAD_COUNT; kind++) {
        tally_done(&run->train_tally[kind]);
        tally_done(&run->eval_tally[kind]);
        free(run->labels[kind]);
    }
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

void run_lesson(struct run *run, const struct split *split, const size_t *order, size_t at,
                size_t n, struct lesson *ret_lesson)
{
    const struct dataset *data = split->data;
    size_t h = run->config.hidden;
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
        for (enum head_kind kind = 0; kind < HEAD_COUNT; kind++) {
            run->labels[kind][i] = data->labels[kind][example];
        }
    }
    lesson.batch = split->embeddings ? NULL : &run->batch;
    lesson.pooled = run->pooled;
    for (enum head_kind kind = 0; kind < HEAD_COUNT; kind++) {
        lesson.labels[kind] = run->labels[kind];
    }
    *ret_lesson = lesson;
}
