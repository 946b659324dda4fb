/* One training run's parts, opened together. Private to train/. */
#ifndef ORTHRUS_TRAIN_RUN_H
#define ORTHRUS_TRAIN_RUN_H

#include <stdio.h>

#include "base/arena.h"
#include "train/data/dataset.h"
#include "train/network/plan.h"
#include "train/optimize/learner.h"
#include "train/run/state.h"
#include "train/train.h"

/* Examples of a dataset, with their embeddings where the encoder is frozen. */
struct split {
    const struct dataset *data;
    const float *embeddings; /* [data->n,H] or NULL */
    size_t *index;           /* [n], owned */
    size_t n;
};

/* What --metric names. */
struct metric {
    int task; /* -1: the whole loss, or the mean over heads */
    enum { METRIC_LOSS, METRIC_ACCURACY, METRIC_MACRO_F1 } kind;
};

struct run {
    const struct train_options *options;
    const struct train_callbacks *callbacks;
    struct config config;
    struct plan plan;
    size_t max_length;
    bool deep; /* the encoder is trained, in whole or part */
    bool keep_best;
    struct metric metric;
    struct tasks tasks;
    struct rows_columns columns;
    char encoder_sha256[SHA256_HEX_SIZE + 1]; /* of the model folder's */
    struct arena arena;                       /* labels and class weights */
    double spread[TASKS_MAX];                 /* score heads: variance of the targets */
    /* Owned, as all below. */
    int lock; /* the folder's, -1: not held */
    struct heads *init;
    struct tokenizer *tokenizer;
    struct checkpoint *checkpoint; /* until the learner has copied it */
    struct dataset data, eval_data;
    float *embeddings, *eval_embeddings;
    struct split train, eval;
    struct learner *learner;
    struct batch batch;
    float *pooled; /* [max texts,H], gathered */
    int32_t *labels[TASKS_MAX];
    float *targets[TASKS_MAX];
    float *weights;                /* [max texts]; NULL: all 1 */
    size_t *order;                 /* [train.n] of the epoch */
    float *eval_logits[TASKS_MAX]; /* [eval.n,K] of the last evaluation */
    bool evaluated;
    struct state state;
    struct tally eval_tally[TASKS_MAX];
    struct buf facts;
    char *checkpoint_path, *log_path;
    FILE *log; /* train.jsonl */
};

/* Checks the options, loads model, data and heads, embeds where the encoder is frozen, and builds
 * the learner. On failure too run_close must be called. */
CHECK_RESULT enum err_code run_open(struct run *run, const struct train_options *options,
                                    const struct train_callbacks *callbacks, struct err *err);
void run_close(struct run *run);

/* Everything the bits depend on as a JSON object of strings, into run->facts. */
CHECK_RESULT enum err_code run_facts(struct run *run, struct err *err);

/* The largest batch of this run, and what evaluation takes at a time. */
size_t run_batch_texts(const struct run *run);

/* n examples of a split, from its at-th on in the order given, as a lesson in run's buffers. */
void run_lesson(struct run *run, const struct split *split, const size_t *order, size_t at,
                size_t n, struct lesson *ret_lesson);

/* The labels alone of n examples, for the divisors of a step of several batches. */
void run_labels(struct run *run, const struct split *split, const size_t *order, size_t at,
                size_t n, struct lesson_labels *ret_labels);

/* True once the caller wants the run to end. */
bool run_stopped(const struct run *run);

void run_note(const struct run *run, const char *fmt, ...) PRINTF_LIKE(2, 3);
void run_progress(const struct run *run, enum train_stage stage, size_t epoch, uint64_t done,
                  uint64_t total);

#endif
