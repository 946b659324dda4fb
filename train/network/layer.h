/* One transformer layer of train/network/network.h, forward beside backward. Every member of the
 * team calls; the result is complete for all when it returns. */
#ifndef ORTHRUS_TRAIN_LAYER_H
#define ORTHRUS_TRAIN_LAYER_H

#include "train/network/network.h"

/* The places of dropout: three a layer behind the embeddings' one. */
enum { PLACE_EMBEDDINGS, PLACE_LAYERS, PLACES_PER_LAYER = 3 };

/* From input [T,H] to the layer's tape. */
void layer_forward(struct part part, const struct network_pass *pass, size_t layer,
                   const float *input);

/* From tape->dout, the gradient of the layer's output, to that of its input in its place (left
 * unfinished where no part below trains), and to the layer's gradients where it trains. */
void layer_backward(struct part part, const struct network_pass *pass, size_t layer,
                    const float *input);

/* One member's columns of a LayerNorm's weight gradients over all rows. */
void layer_norm_backward_weights(struct part part, const float *dy, const float *x,
                                 const float *mean, const float *rstd, size_t rows, size_t width,
                                 float *dw, float *db);

#endif
