/* The heads' way forward and back, and their loss: Σ weight · mean cross-entropy over the texts
 * that have a label for that head (torch.nn.CrossEntropyLoss with ignore_index). */
#ifndef ORTHRUS_TRAIN_LOSS_H
#define ORTHRUS_TRAIN_LOSS_H

#include <stdint.h>

#include "train/params.h"

enum { LABEL_NONE = -1 };

/* What a batch gave. */
struct losses {
    double sum[HEAD_COUNT];      /* of the cross-entropies of the labelled texts */
    size_t labelled[HEAD_COUNT]; /* how many */
};

/* 0 where no text has a label. */
double losses_mean(const struct losses *losses, enum head_kind kind);
/* Σ weight · mean. */
double losses_total(const struct losses *losses, const double weights[HEAD_COUNT]);

/* One batch at the heads; one thread. */
struct loss_pass {
    const struct params *params;
    size_t n;                          /* N */
    const float *pooled;               /* [N,H] */
    const int32_t *labels[HEAD_COUNT]; /* [N], LABEL_NONE where missing */
    double weights[HEAD_COUNT];
    float *logits[HEAD_COUNT];      /* [N,K] scratch: logits, then their gradient */
    int32_t *predicted[HEAD_COUNT]; /* [N] filled */
};

/* Logits, predictions and loss; the logits are then the loss's gradient. */
void loss_forward(struct loss_pass *pass, struct losses *ret_losses);
/* To the gradients of the heads that train, and to dpooled [N,H] where it isn't NULL. */
void loss_backward(const struct loss_pass *pass, float *dpooled);

/* Cross-entropy of one row and, in its place, weight · (softmax - onehot). */
double loss_cross_entropy(float *logits, size_t classes, size_t label, double weight);

#endif
