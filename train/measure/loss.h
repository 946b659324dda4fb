/* The heads' way forward and back, and their loss: Σ weight · mean over the texts that have a label
 * for that head. Softmax: cross-entropy (torch.nn.CrossEntropyLoss with ignore_index and weight);
 * sigmoid: binary cross-entropy, the mean over labels (BCEWithLogitsLoss with pos_weight); score:
 * the same against a target of 0 to 1, or the squared error where the score is the logit. */
#ifndef ORTHRUS_TRAIN_LOSS_H
#define ORTHRUS_TRAIN_LOSS_H

#include <stdint.h>

#include "train/data/dataset.h"
#include "train/measure/metrics.h"
#include "train/network/params.h"

/* What a batch gave, by task. */
struct losses {
    double sum[TASKS_MAX];      /* of the weighted losses of the labelled texts */
    double divisor[TASKS_MAX];  /* the sum of their weights: sum / divisor is the mean */
    size_t labelled[TASKS_MAX]; /* how many */
};

/* 0 where no text has a label. */
double losses_mean(const struct losses *losses, size_t task);
/* Σ weight · mean. */
double losses_total(const struct losses *losses, const struct tasks *tasks);
/* Adds a part of a step to what is there. */
void losses_add(struct losses *losses, const struct losses *more);

/* A batch's answers. */
struct lesson_labels {
    const int32_t *labels[TASKS_MAX]; /* [N], LABEL_NONE where missing */
    const float *targets[TASKS_MAX];  /* [N,K] for sigmoid and score heads */
    const float *weights;             /* [N], NULL: all 1 */
};

/* One batch at the heads; one thread. */
struct loss_pass {
    const struct params *params;
    size_t n;            /* N */
    const float *pooled; /* [N,H] */
    struct lesson_labels labels;
    const double *divisors;        /* [tasks] by which the mean is taken; NULL: the batch's own */
    float *inner[TASKS_MAX];       /* [N,M] behind the activation; then its gradient's scratch */
    float *dinner;                 /* [N, largest M] scratch */
    float *logits[TASKS_MAX];      /* [N,K] scratch: logits, then their gradient */
    int32_t *predicted[TASKS_MAX]; /* [N] filled for softmax heads */
    struct tally *tallies;         /* [tasks], counted up; NULL: none */
    float *const *keep;            /* [tasks] [N,K] copies of the logits; NULL: none */
};

/* The divisors of a batch, [tasks]. */
void loss_divisors(const struct tasks *tasks, const struct lesson_labels *labels, size_t n,
                   double *ret_divisors);
/* Logits, predictions and loss; the logits are then the loss's gradient. */
void loss_forward(struct loss_pass *pass, struct losses *ret_losses);
/* To the gradients of the heads that train, and to dpooled [N,H] where it isn't NULL. */
void loss_backward(const struct loss_pass *pass, float *dpooled);

/* Cross-entropy of one row and, in its place, weight · (softmax - onehot). */
double loss_cross_entropy(float *logits, size_t classes, size_t label, double weight);
/* Binary cross-entropy of one logit against a target of 0 to 1, positives counted `positive` times;
 * *ret_gradient is its derivative. */
double loss_binary(double logit, double target, double positive, double *ret_gradient);

#endif
