/* The encoder as it is trained: packed batch → pooled embeddings, and their gradient back to every
 * parameter that trains. Post-LayerNorm BERT with erf-GELU, dropout where Hugging Face's BertModel
 * has it: on the embeddings, the attention probabilities, and on what the attention's and the
 * feed-forward's output layers give.
 *
 * Source: Devlin et al. 2018; Vaswani et al. 2017; reference: transformers' modeling_bert.py in
 * train mode. Every member of a team calls these functions with the same arguments. */
#ifndef ORTHRUS_TRAIN_NETWORK_H
#define ORTHRUS_TRAIN_NETWORK_H

#include <stdint.h>

#include "model/encoder/batch.h"
#include "train/network/crew.h"
#include "train/network/params.h"
#include "train/network/tape.h"

/* One pass's constants. */
struct network_pass {
    const struct params *params;
    const struct batch *batch; /* fits the tape */
    struct tape *tape;
    enum pooling pooling;
    size_t lowest; /* see plan_lowest */
    /* Dropout: rates 0 in evaluation. */
    float hidden_dropout, attention_dropout;
    uint64_t seed;
    uint32_t step;
};

/* Fills tape->pooled [N,H]; complete for all members when it returns. */
void network_forward(struct part part, const struct network_pass *pass);

/* From tape->dpooled [N,H] to params->grad: written, not added, except for the rows of the word
 * embeddings, which must be zero before and are where a token of the batch names them. Nothing is
 * computed below the lowest part that trains, nor for frozen tensors. Complete for all members
 * when it returns. */
void network_backward(struct part part, const struct network_pass *pass);

#endif
