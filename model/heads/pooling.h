/* Hidden states → one embedding a text. */
#ifndef ORTHRUS_MODEL_POOLING_H
#define ORTHRUS_MODEL_POOLING_H

#include <stddef.h>

#include "model/encoder/batch.h"
#include "model/files/config.h"

/* hidden [T,H] → out [N,H], texts from … to-1: the mean over a text's own tokens, added in their
 * order, or its first token ([CLS]). Not normalized.
 * Source: Reimers & Gurevych 2019 (Sentence-BERT), section 3. */
void pool_texts(const float *hidden, const struct batch *batch, size_t width, enum pooling pooling,
                size_t from, size_t to, float *out);

#endif
