/* Scaled dot-product attention over a ragged batch, forward and back: each text attends to itself
 * alone, so there is no mask and no padding. Vaswani et al. 2017, eq. 1; dropout on the
 * probabilities as in Hugging Face's BertSelfAttention.
 *
 * The members of a team share out the (text, head) pairs. No barrier inside. */
#ifndef ORTHRUS_TRAIN_ATTEND_H
#define ORTHRUS_TRAIN_ATTEND_H

#include <stddef.h>

#include "model/encoder/batch.h"
#include "train/network/crew.h"
#include "train/network/dropout.h"

struct attend_shape {
    size_t hidden; /* H */
    size_t heads;  /* A */
};

/* Floats of all probabilities of a batch: A · Σ n². */
size_t attend_probs_count(const struct batch *batch, size_t heads);

/* context [T,H] from qkv [T,3H]; probs keeps the softmax of every (text, head), before dropout.
 * scratch holds n² floats of the longest text, this member's own. */
void attend_forward(struct part part, const struct attend_shape *shape, const struct batch *batch,
                    const float *qkv, const struct dropout *dropout, float *probs, float *context,
                    float *scratch);

/* dqkv [T,3H] from dcontext [T,H]. scratch holds 2·n² floats. */
void attend_backward(struct part part, const struct attend_shape *shape, const struct batch *batch,
                     const float *qkv, const float *probs, const struct dropout *dropout,
                     const float *dcontext, float *dqkv, float *scratch);

#endif
