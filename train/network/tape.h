/* What the way forward leaves for the way back: the activations of one batch, no padding anywhere.
 * Layers below the lowest that trains leave nothing: they share two slots. Lifetime: one training
 * run; sized once for the largest batch. Memory never written costs nothing. */
#ifndef ORTHRUS_TRAIN_TAPE_H
#define ORTHRUS_TRAIN_TAPE_H

#include <stddef.h>

#include "base/err.h"
#include "model/files/config.h"

struct layer_tape {
    float *qkv;                           /* [T,3H] */
    float *probs;                         /* Σ A·n², before dropout */
    float *context;                       /* [T,H] */
    float *sum1;                          /* [T,H] what the first LayerNorm reads */
    float *mid;                           /* [T,H] what it gives */
    float *ffn;                           /* [T,I] before GELU */
    float *act;                           /* [T,I] behind it */
    float *sum2;                          /* [T,H] what the second LayerNorm reads */
    float *out;                           /* [T,H] */
    float *mean1, *rstd1, *mean2, *rstd2; /* [T] */
};

struct tape_size {
    size_t texts;   /* most texts in a batch */
    size_t tokens;  /* most tokens in a batch */
    size_t probs;   /* most probabilities in a batch, Σ A·n² */
    size_t longest; /* tokens of the longest text */
    unsigned width; /* members */
};

struct tape {
    struct tape_size size;
    struct layer_tape *layers;                /* [L], owned; the slots of frozen layers repeat */
    float *embeddings_sum;                    /* [T,H] */
    float *embeddings_mean, *embeddings_rstd; /* [T] */
    float *embeddings;                        /* [T,H] the first layer's input */
    float *pooled, *dpooled;                  /* [N,H] */
    /* The way back. */
    float *dout, *dsum, *dproj; /* [T,H] */
    float *dctx;                /* [T,H] */
    float *dqkv;                /* [T,3H] */
    float *dffn;                /* [T,I] */
    float **scratch;            /* [width] of 2·longest² each */
    void *block;                /* owned: all of the above */
    size_t block_bytes;
};

/* keep_from is the first layer whose activations are kept, 0 … L. Errors: ERR_NOMEM, ERR_LIMIT. */
CHECK_RESULT enum err_code tape_create(const struct config *config, const struct tape_size *size,
                                       size_t keep_from, struct tape **ret_tape, struct err *err);
/* NULL is fine. */
void tape_destroy(struct tape *tape);

#endif
