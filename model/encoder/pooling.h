/* Hidden states become one vector a text. */
#ifndef ORTHRUS_MODEL_POOLING_H
#define ORTHRUS_MODEL_POOLING_H

#include <stddef.h>

#include "model/encoder/batch.h"
#include "model/files/config.h"

/* Columns [from,to) of one text. */
struct pool_part {
    size_t text;
    size_t from;
    size_t to;
};

/* hidden [T,H] → out [N,n·H], one part of it: pooling's modes over a text's own tokens, in their
 * order, side by side. A text's first `skip` tokens are left out (the weights of weightedmean stay
 * those of their places). Not normalized.
 * Source: Reimers & Gurevych 2019 (Sentence-BERT), section 3; Muennighoff 2022 (SGPT), eq. 1-2, for
 * weightedmean; reference: sentence-transformers' Pooling. */
void pool_text(const float *hidden, const struct batch *batch, size_t width, enum pooling pooling,
               const struct pool_part *part, float *out);

#endif
