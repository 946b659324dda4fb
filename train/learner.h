/* The machine that learns: parameters, network, heads and optimizer, one batch at a time. train.h
 * drives it over epochs. Lifetime: one training run; called by one thread, runs on its crew. */
#ifndef ORTHRUS_TRAIN_LEARNER_H
#define ORTHRUS_TRAIN_LEARNER_H

#include <stdint.h>

#include "train/loss.h"
#include "train/network.h"
#include "train/optimizer.h"

struct learner_options {
    const struct plan *plan; /* borrowed during the call */
    enum pooling pooling;
    double loss_weights[HEAD_COUNT];
    float hidden_dropout, attention_dropout;
    uint64_t seed;
    struct optimizer_options optimizer;
    size_t max_texts;  /* in a batch */
    size_t max_tokens; /* in a batch; ignored without an encoder */
    size_t longest;    /* tokens of the longest text */
    unsigned threads;
};

struct learner;

/* checkpoint may be NULL: heads alone, fed with embeddings. Head values start at zero. Errors:
 * ERR_NOMEM, ERR_LIMIT, ERR_IO. */
CHECK_RESULT enum err_code learner_create(const struct config *config,
                                          const struct checkpoint *checkpoint,
                                          const size_t classes[HEAD_COUNT],
                                          const struct learner_options *options,
                                          struct learner **ret_learner, struct err *err);
/* NULL is fine. */
void learner_destroy(struct learner *learner);

/* Borrowed. */
struct params *learner_params(struct learner *learner);
struct optimizer *learner_optimizer(struct learner *learner);
struct crew *learner_crew(struct learner *learner);

/* A batch with its labels: either tokens, or pooled embeddings where there is no encoder. */
struct lesson {
    size_t n;
    const struct batch *batch;         /* NULL: pooled is given */
    const float *pooled;               /* [N,H] */
    const int32_t *labels[HEAD_COUNT]; /* [N], LABEL_NONE where missing */
};

/* Forward and back: gradients of everything that trains. The dropout masks are those of the next
 * step. predicted, borrowed until the next call, holds the classes chosen before the update. */
void learner_gradients(struct learner *learner, const struct lesson *lesson,
                       struct losses *ret_losses);
/* The optimizer's step with those gradients; returns their norm. */
double learner_update(struct learner *learner, double lr, double head_lr);
/* Forward alone, without dropout. */
void learner_evaluate(struct learner *learner, const struct lesson *lesson,
                      struct losses *ret_losses);
/* [N] of the last call. */
const int32_t *learner_predicted(const struct learner *learner, enum head_kind kind);
/* [N,H] of the last call with tokens. */
const float *learner_pooled(const struct learner *learner);

#endif
