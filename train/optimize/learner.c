#include "train/optimize/learner.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/size.h"
#include "model/encoder/blas.h"
#include "model/encoder/pages.h"

enum { ROW_EVER = 1, ROW_NOW = 2 };

struct learner {
    struct config config;
    struct learner_options options;
    size_t lowest;
    struct params *params; /* owned, as all below */
    struct optimizer *optimizer;
    struct crew *crew;
    struct tape *tape;        /* NULL without an encoder */
    float *logits[TASKS_MAX]; /* [max_texts,K] */
    float *inner[TASKS_MAX];  /* [max_texts,M] of heads with a dense layer */
    float *dinner;            /* [max_texts, largest M] */
    int32_t *predicted[TASKS_MAX];
    float *sum;    /* gradients of a step's earlier parts; NULL where a step is one batch */
    int32_t *rows; /* of the word embeddings with a gradient, distinct */
    size_t n_rows;
};

static enum err_code create_tape(struct learner *learner, struct err *err)
{
    const struct learner_options *options = &learner->options;
    struct tape_size size = {
        .texts = options->max_texts,
        .tokens = options->max_tokens,
        .longest = options->longest,
        .width = options->threads,
    };
    /* Σ n² is largest where all tokens are in texts of the longest kind. */
    size_t per_token;
    if (!size_mul(options->longest, learner->config.heads, &per_token) ||
        !size_mul(per_token, options->max_tokens, &size.probs)) {
        return err_set(err, ERR_LIMIT, "a batch of %zu tokens is too large to train on",
                       options->max_tokens);
    }
    size_t keep_from = learner->lowest > 0 ? learner->lowest - 1 : 0;
    return tape_create(&learner->config, &size, keep_from, &learner->tape, err);
}

static enum err_code create_buffers(struct learner *learner, struct err *err)
{
    size_t texts = learner->options.max_texts;
    const struct tasks *tasks = &learner->params->tasks;
    size_t widest = 0;
    for (size_t i = 0; i < tasks->n; i++) {
        size_t inner = tasks->at[i].inner;
        learner->logits[i] = calloc(texts * (tasks->at[i].classes + 1), sizeof(float));
        learner->predicted[i] = calloc(texts, sizeof(int32_t));
        learner->inner[i] = inner > 0 ? calloc(texts * inner, sizeof(float)) : NULL;
        widest = size_max(widest, inner);
        if (!learner->logits[i] || !learner->predicted[i] || (inner > 0 && !learner->inner[i])) {
            return err_nomem(err, texts * (tasks->at[i].classes + inner + 1) * sizeof(float));
        }
    }
    learner->dinner = calloc(texts * widest + 1, sizeof(float));
    if (learner->options.parts > 1) {
        learner->sum = pages_alloc(learner->params->n_grads * sizeof(float));
    }
    if (!learner->dinner || (learner->options.parts > 1 && !learner->sum)) {
        return err_nomem(err, learner->params->n_grads * sizeof(float));
    }
    size_t rows = learner->params->n_encoder > 0
                      ? learner->options.max_tokens * size_max(learner->options.parts, 1)
                      : 1;
    learner->rows = calloc(rows, sizeof *learner->rows);
    return learner->rows ? ERR_OK : err_nomem(err, rows * sizeof *learner->rows);
}

enum err_code learner_create(const struct config *config, const struct checkpoint *checkpoint,
                             const struct tasks *tasks, const struct learner_options *options,
                             struct learner **ret_learner, struct err *err)
{
    enum err_code code = blas_open(err);
    if (code != ERR_OK) {
        return code;
    }
    struct learner *learner = calloc(1, sizeof *learner);
    if (!learner) {
        return err_nomem(err, sizeof *learner);
    }
    learner->config = *config;
    learner->options = *options;
    learner->lowest = plan_lowest(options->plan, config->layers);
    code = params_create(config, checkpoint, tasks, options->plan, &learner->params, err);
    if (code == ERR_OK) {
        code = optimizer_create(learner->params, &options->optimizer, &learner->optimizer, err);
    }
    if (code == ERR_OK) {
        code = crew_create(options->threads, &learner->crew, err);
    }
    if (code == ERR_OK) {
        code = create_buffers(learner, err);
    }
    if (code == ERR_OK && checkpoint) {
        code = create_tape(learner, err);
    }
    learner->options.plan = NULL;
    if (code != ERR_OK) {
        learner_destroy(learner);
        return code;
    }
    *ret_learner = learner;
    return ERR_OK;
}

void learner_destroy(struct learner *learner)
{
    if (!learner) {
        return;
    }
    for (size_t i = 0; i < TASKS_MAX; i++) {
        free(learner->logits[i]);
        free(learner->inner[i]);
        free(learner->predicted[i]);
    }
    free(learner->dinner);
    if (learner->sum) {
        pages_free(learner->sum, learner->params->n_grads * sizeof(float));
    }
    free(learner->rows);
    tape_destroy(learner->tape);
    crew_destroy(learner->crew);
    optimizer_destroy(learner->optimizer);
    params_destroy(learner->params);
    free(learner);
}

struct params *learner_params(struct learner *learner)
{
    return learner->params;
}

struct optimizer *learner_optimizer(struct learner *learner)
{
    return learner->optimizer;
}

struct crew *learner_crew(struct learner *learner)
{
    return learner->crew;
}

const int32_t *learner_predicted(const struct learner *learner, size_t task)
{
    return learner->predicted[task];
}

const float *learner_pooled(const struct learner *learner)
{
    return learner->tape->pooled;
}

/* One run of the crew over a lesson. */
struct lesson_run {
    struct learner *learner;
    struct network_pass network;
    struct loss_pass loss;
    struct losses losses;
    bool backward;
    bool first; /* of a step's parts */
};

static void lesson_start(struct learner *learner, const struct lesson *lesson, bool train,
                         struct lesson_run *ret_run)
{
    const struct learner_options *options = &learner->options;
    CHECK(lesson->n >= 1 && lesson->n <= options->max_texts);
    CHECK((lesson->batch != NULL) == (learner->tape != NULL));
    struct lesson_run run = {.learner = learner, .backward = train, .first = lesson->part == 0};
    run.loss = (struct loss_pass){
        .params = learner->params,
        .n = lesson->n,
        .pooled = lesson->batch ? learner->tape->pooled : lesson->pooled,
        .labels = lesson->labels,
        .divisors = lesson->divisors,
        .dinner = learner->dinner,
        .tallies = lesson->tallies,
        .keep = lesson->keep,
    };
    memcpy(run.loss.logits, learner->logits, sizeof run.loss.logits);
    memcpy(run.loss.inner, learner->inner, sizeof run.loss.inner);
    memcpy(run.loss.predicted, learner->predicted, sizeof run.loss.predicted);
    uint64_t steps = optimizer_steps(learner->optimizer);
    run.network = (struct network_pass){
        .params = learner->params,
        .batch = lesson->batch,
        .tape = learner->tape,
        .pooling = options->pooling,
        .lowest = learner->lowest,
        .hidden_dropout = train ? options->hidden_dropout : 0.0f,
        .attention_dropout = train ? options->attention_dropout : 0.0f,
        .seed = options->seed,
        .step = (uint32_t)(steps * size_max(options->parts, 1) + lesson->part),
    };
    *ret_run = run;
}

/* The last step's rows of the word embeddings' gradient back to zero, and this batch's noted. */
static void turn_rows(struct learner *learner, const struct batch *batch, bool first)
{
    struct params *params = learner->params;
    size_t h = learner->config.hidden;
    for (size_t i = 0; first && i < learner->n_rows; i++) {
        size_t row = (size_t)learner->rows[i];
        memset(params->grad.word + row * h, 0, h * sizeof(float));
        params->touched[row] = ROW_EVER;
    }
    learner->n_rows = first ? 0 : learner->n_rows;
    for (size_t t = 0; t < batch->total; t++) {
        int32_t row = batch->ids[t];
        if (!(params->touched[row] & ROW_NOW)) {
            params->touched[row] = ROW_EVER | ROW_NOW;
            learner->rows[learner->n_rows++] = row;
        }
    }
}

static void lesson_main(void *context, struct part part)
{
    struct lesson_run *run = context;
    struct learner *learner = run->learner;
    network_forward(part, &run->network);
    bool deep = run->backward && learner->lowest <= learner->config.layers;
    if (part.member == 0) {
        loss_forward(&run->loss, &run->losses);
        if (run->backward) {
            loss_backward(&run->loss, deep ? learner->tape->dpooled : NULL);
        }
        if (deep && learner->lowest == 0) {
            turn_rows(learner, run->network.batch, run->first);
        }
    }
    team_barrier(part.team);
    if (deep) {
        network_backward(part, &run->network);
    }
}

static void lesson_run(struct learner *learner, const struct lesson *lesson, bool train,
                       struct losses *ret_losses)
{
    struct lesson_run run;
    lesson_start(learner, lesson, train, &run);
    if (lesson->batch) {
        crew_run(learner->crew, lesson_main, &run);
    } else {
        loss_forward(&run.loss, &run.losses);
        if (train) {
            loss_backward(&run.loss, NULL);
        }
    }
    *ret_losses = run.losses;
}

void learner_gradients(struct learner *learner, const struct lesson *lesson,
                       struct losses *ret_losses)
{
    struct params *params = learner->params;
    CHECK(lesson->part == 0 || lesson->part < learner->options.parts);
    /* A pass overwrites the gradients (but the word embeddings' rows, which it adds to). */
    if (lesson->part > 0) {
        memcpy(learner->sum, params->grads, params->n_grads * sizeof(float));
    }
    lesson_run(learner, lesson, true, ret_losses);
    for (size_t i = 0; lesson->part > 0 && i < params->n_grads; i++) {
        params->grads[i] += learner->sum[i];
    }
}

void learner_evaluate(struct learner *learner, const struct lesson *lesson,
                      struct losses *ret_losses)
{
    lesson_run(learner, lesson, false, ret_losses);
}

double learner_update(struct learner *learner, double lr, double head_lr)
{
    struct optimizer_rows rows = {learner->rows, learner->n_rows};
    return optimizer_step(learner->optimizer, learner->crew, lr, head_lr, &rows);
}
