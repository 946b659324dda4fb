/* The machine that learns: parameters, network, heads and optimizer, one batch at a time. train.h
 * drives it over epochs. Lifetime: one training run; called by one thread, runs on its crew. */
#ifndef ORTHRUS_TRAIN_LEARNER_H
#define ORTHRUS_TRAIN_LEARNER_H

#include <stdint.h>

#include "train/measure/loss.h"
#include "train/network/network.h"
#include "train/optimize/optimizer.h"

struct learner_options {
    const struct plan *plan; /* borrowed during the call */
    enum pooling pooling;
    float hidden_dropout, attention_dropout;
    uint64_t seed;
    struct optimizer_options optimizer;
    size_t parts;      /* batches in a step at most, ≥ 1: their gradients add up */
    size_t max_texts;  /* in a batch */
    size_t max_tokens; /* in a batch; ignored without an encoder */
    size_t longest;    /* tokens of the longest text */
    unsigned threads;
};

struct learner;

/* checkpoint may be NULL: heads alone, fed with embeddings. tasks say what heads there are; their
 * values start at zero (params_init_heads). Errors:
 * ERR_NOMEM, ERR_LIMIT, ERR_IO. */
CHECK_RESULT enum err_code learner_create(const struct config *config,
                                          const struct checkpoint *checkpoint,
                                          const struct tasks *tasks,
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
    const struct batch *batch; /* NULL: pooled is given */
    const float *pooled;       /* [N,H] */
    struct lesson_labels labels;
    size_t part;            /* of a step of several batches, from 0 */
    const double *divisors; /* [tasks] of the whole step (loss_divisors); NULL: the batch's own */
    struct tally *tallies;  /* [tasks] counted up; NULL: none */
    float *const *keep;     /* [tasks] [N,K] get the logits; NULL: none */
};

/* Forward and back: gradients of everything that trains, added to those of the step's earlier
 * parts. The dropout masks are those of the next step. */
void learner_gradients(struct learner *learner, const struct lesson *lesson,
                       struct losses *ret_losses);
/* The optimizer's step with those gradients; returns their norm. */
double learner_update(struct learner *learner, double lr, double head_lr);
/* Forward alone, without dropout. */
void learner_evaluate(struct learner *learner, const struct lesson *lesson,
                      struct losses *ret_losses);
/* [N] classes of a softmax head in the last call, chosen before the update. */
const int32_t *learner_predicted(const struct learner *learner, size_t task);
/* [N,H] of the last call with tokens. */
const float *learner_pooled(const struct learner *learner);

#endif
