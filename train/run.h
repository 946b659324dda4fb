/* One training run's parts, opened together. Private to train/. */
#ifndef ORTHRUS_TRAIN_RUN_H
#define ORTHRUS_TRAIN_RUN_H

#include <stdio.h>

#include "base/arena.h"
#include "train/dataset.h"
#include "train/learner.h"
#include "train/state.h"
#include "train/train.h"

/* Examples of a dataset, with their embeddings where the encoder is frozen. */
struct split {
    const struct dataset *data;
    const float *embeddings; /* [data->n,H] or NULL */
    size_t *index;           /* [n], owned */
    size_t n;
};

struct run {
    const struct train_options *options;
    const struct train_callbacks *callbacks;
    struct config config;
    struct plan plan;
    double loss_weights[HEAD_COUNT];
    size_t max_length;
    bool deep; /* the encoder is trained, in whole or part */
    size_t classes[HEAD_COUNT];
    char encoder_sha256[SHA256_HEX_SIZE + 1]; /* of the model folder's */
    struct arena arena;                       /* labels */
    struct label_set sets[HEAD_COUNT];
    /* Owned, as all below. */
    struct heads *init;
    struct tokenizer *tokenizer;
    struct checkpoint *checkpoint; /* until the learner has copied it */
    struct dataset data, eval_data;
    float *embeddings, *eval_embeddings;
    struct split train, eval;
    struct learner *learner;
    struct batch batch;
    float *pooled; /* [max texts,H], gathered */
    int32_t *labels[HEAD_COUNT];
    size_t *order; /* [train.n] of the epoch */
    struct state state;
    struct tally train_tally[HEAD_COUNT], eval_tally[HEAD_COUNT];
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

void run_note(const struct run *run, const char *fmt, ...) PRINTF_LIKE(2, 3);
void run_progress(const struct run *run, enum train_stage stage, size_t epoch, uint64_t done,
                  uint64_t total);

#endif
