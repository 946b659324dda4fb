/* Every parameter of the model by name: its value, what trains it, its gradient and moments.
 *
 * Values lie in one block, gradients and moments in blocks that hold trainable parameters alone.
 * Within a layer the three projections' weights follow each other, and so do their biases, so
 * that [3H,H] is one matrix. Lifetime: one training run; written by the optimizer only. */
#ifndef ORTHRUS_TRAIN_PARAMS_H
#define ORTHRUS_TRAIN_PARAMS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "model/files/checkpoint.h"
#include "train/data/tasks.h"
#include "train/network/plan.h"

struct param {
    char name[96]; /* PyTorch's, unprefixed */
    unsigned rank;
    size_t shape[2];
    size_t count;
    enum plan_group group;
    size_t layer; /* of PLAN_LAYER; of PLAN_HEAD its place among the tasks */
    bool trainable;
    bool by_rows;    /* the word embeddings: most rows have no gradient in a step */
    double lr_scale; /* times the step's learning rate */
    bool head;       /* follows --head-lr */
    float *value;
    float *grad; /* NULL unless trainable; likewise m and v */
    float *m, *v;
};

/* One layer's tensors, as values or as gradients (then NULL where frozen). */
struct layer_views {
    float *qkv_w, *qkv_b;                     /* [3H,H] [3H] */
    float *attention_out_w, *attention_out_b; /* [H,H] [H] */
    float *attention_ln_w, *attention_ln_b;   /* [H] [H] */
    float *ffn_in_w, *ffn_in_b;               /* [I,H] [I] */
    float *ffn_out_w, *ffn_out_b;             /* [H,I] [H] */
    float *ffn_ln_w, *ffn_ln_b;               /* [H] [H] */
};

struct head_views {
    float *w, *b;             /* [K,M] or [K,H], [K]; NULL where the head is absent or frozen */
    float *dense_w, *dense_b; /* [M,H] [M]; NULL without a dense layer */
};

struct param_views {
    float *word, *position, *type; /* [V,H] [positions,H] [types,H] */
    float *ln_w, *ln_b;            /* [H] [H] */
    struct layer_views *layers;    /* [L]; NULL without an encoder */
    struct head_views head[TASKS_MAX];
};

struct params {
    struct config config;
    struct tasks tasks; /* classes 0: absent */
    size_t n_encoder;   /* the first n_encoder params are the encoder's; 0 without one */
    size_t n;
    struct param *at;         /* owned */
    struct param_views value; /* views of the blocks below */
    struct param_views grad;
    /* Owned blocks; what trains by rows has its own. */
    float *values, *grads, *m, *v;
    size_t n_values, n_grads; /* floats */
    /* Rows of the word embeddings that ever had a gradient: the moments of the others are zero, so
     * that without weight decay a step leaves them as they are. [V] or NULL. */
    unsigned char *touched;
};

/* Makes the parameters: encoder values from the checkpoint (NULL: heads alone, the embeddings come
 * from a cache), head values all zero. plan says what trains. Errors: ERR_NOMEM. */
CHECK_RESULT enum err_code params_create(const struct config *config,
                                         const struct checkpoint *checkpoint,
                                         const struct tasks *tasks, const struct plan *plan,
                                         struct params **ret_params, struct err *err);
/* NULL is fine. */
void params_destroy(struct params *params);

/* True if any parameter of the encoder trains. */
bool params_encoder_trains(const struct params *params);

/* The heads' first values: those of their --init-heads, else as nn.Linear starts them, weight and
 * bias uniform in ±1/√(width of the input). */
void params_init_heads(struct params *params, uint64_t seed);

#endif
