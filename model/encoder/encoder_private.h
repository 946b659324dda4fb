/* Inside the encoder: what encoder.c makes, workspace.c sizes and forward.c runs. */
#ifndef ORTHRUS_MODEL_ENCODER_PRIVATE_H
#define ORTHRUS_MODEL_ENCODER_PRIVATE_H

#include "model/encoder/encoder.h"
#include "model/encoder/kernels/kernels.h"
#include "model/encoder/linear.h"
#include "model/encoder/operand.h"

struct norm {
    float *gamma; /* [H] */
    float *beta;  /* [H] */
};

/* The matrices of a layer. */
enum matrix {
    MATRIX_QKV,           /* [3H,H]: queries, keys, values */
    MATRIX_ATTENTION_OUT, /* [H,H] */
    MATRIX_FFN_IN,        /* [I,H] */
    MATRIX_FFN_OUT,       /* [H,I] */
    MATRIX_COUNT,
};

struct layer {
    struct linear linear[MATRIX_COUNT];
    struct norm attention_norm;
    struct norm ffn_norm;
};

/* Process lifetime, immutable once made. */
struct encoder {
    struct config config;
    enum precision precision;
    enum isa isa;
    size_t l2; /* see struct linear_shape */
    const struct kernels *ops;
    const struct tile_kernel *attention; /* multiplies in attention */
    void *memory;                        /* everything below points into it; owned */
    size_t memory_bytes;
    float *word;     /* [V,H] */
    float *position; /* [position_rows,H], the vector of token type 0 added */
    float *type;     /* [types,H], what a token type has more than type 0 */
    struct norm embeddings_norm;
    struct layer *layers; /* [L], owned */
};

struct scratch {
    size_t max_tokens;
    size_t bytes;
    void *memory; /* owned; aligned to PAGES_ALIGN */
};

/* Thread lifetime: one pass at a time, shared by the members of its team. */
struct workspace {
    size_t max_texts;
    size_t max_tokens;
    void *memory; /* everything below points into it; owned */
    size_t memory_bytes;
    float *hidden;             /* [T,H]: the residual stream, and a LayerNorm's sums */
    float *qkv;                /* [T,3H] */
    float *context;            /* [T,H]: what attention gives, and in a wide team those sums */
    float *inner;              /* [T,I]: what is between the two FFN matrices, where a team packs it
                                * from there; the same memory as qkv and context */
    void *hidden_packed;       /* operands: the hidden states, for QKV or the first FFN matrix, */
    void *context_packed;      /* the context, */
    void *inner_packed;        /* what is between the two FFN matrices */
    atomic_uint *done;         /* [blocks][spans] see struct completion */
    struct scratch *scratch;   /* the leader's; owned */
    struct observer *observer; /* borrowed, may be NULL */
    /* While calibrating, the largest magnitude that each member has seen of each input of each
     * matrix: [members][L][MATRIX_COUNT][max(H,I)]; else NULL. */
    float *largest;
};

/* Finds the inputs of every matrix whose magnitudes stand out and makes them its wide ones, from a
 * pass over a few built-in sentences: no data is needed, because which few stand out is the
 * model's property, not the text's. The encoder is packed with any choice; afterwards pack its
 * matrices anew. Errors: ERR_NOMEM. */
CHECK_RESULT enum err_code encoder_calibrate(struct encoder *encoder, unsigned threads,
                                             struct err *err);

#endif
