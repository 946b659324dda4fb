/* Inside the encoder: what encoder.c makes, workspace.c sizes and forward.c runs. */
#ifndef ORTHRUS_MODEL_ENCODER_PRIVATE_H
#define ORTHRUS_MODEL_ENCODER_PRIVATE_H

#include "model/encoder.h"
#include "model/kernels/kernels.h"
#include "model/linear.h"

struct norm {
    float *gamma; /* [H] */
    float *beta;  /* [H] */
};

struct layer {
    struct linear qkv;           /* [3H,H]: queries, keys, values */
    struct linear attention_out; /* [H,H] */
    struct linear ffn_in;        /* [I,H] */
    struct linear ffn_out;       /* [H,I] */
    struct norm attention_norm;
    struct norm ffn_norm;
};

/* Process lifetime, immutable once made. */
struct encoder {
    struct config config;
    enum precision precision;
    enum isa isa;
    const struct kernels *ops;
    void *memory; /* everything below points into it; owned */
    size_t memory_bytes;
    float *word;     /* [V,H] */
    float *position; /* [positions,H], the one token type's vector added */
    struct norm embeddings_norm;
    struct layer *layers; /* [L], owned */
};

/* Worker lifetime: one pass at a time, shared by the members of its team. */
struct workspace {
    size_t max_texts;
    size_t max_tokens;
    unsigned max_width;
    void *memory; /* everything below points into it; owned */
    size_t memory_bytes;
    float *hidden;          /* [T,H]: the residual stream */
    float *sums;            /* [T,H]: before a LayerNorm */
    float *qkv;             /* [T,3H] */
    float *context;         /* [T,H]: what attention gives */
    float *inner;           /* [T,I]: between the two FFN matrices */
    unsigned char *scratch; /* [max_width][scratch_bytes] */
    size_t scratch_bytes;
    struct observer *observer; /* borrowed, may be NULL */
};

#endif
