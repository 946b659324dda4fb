/* Adam and AdamW as torch.optim computes them, with the gradient's norm and clipping of
 * torch.nn.utils.clip_grad_norm_. Kingma & Ba 2015; Loshchilov & Hutter 2019.
 *
 *   Adam:  g ← g + wd · p          AdamW: p ← p · (1 - lr · wd)
 *   m ← m + (1 - β₁)(g - m);  v ← β₂ v + (1 - β₂) g²
 *   p ← p - lr / (1 - β₁ᵗ) · m / (√v / √(1 - β₂ᵗ) + ε),  β₁ 0.9, β₂ 0.999, ε 1e-8
 *
 * Every sum has a fixed order, whatever the number of threads. */
#ifndef ORTHRUS_TRAIN_OPTIMIZER_H
#define ORTHRUS_TRAIN_OPTIMIZER_H

#include <stdint.h>

#include "train/network/crew.h"
#include "train/network/params.h"

enum optimizer_kind { OPTIMIZER_ADAM, OPTIMIZER_ADAMW };

struct optimizer_options {
    enum optimizer_kind kind;
    double weight_decay;
    double clip_norm; /* 0: none */
};

struct optimizer;

CHECK_RESULT enum err_code optimizer_create(struct params *params,
                                            const struct optimizer_options *options,
                                            struct optimizer **ret_optimizer, struct err *err);
/* NULL is fine. */
void optimizer_destroy(struct optimizer *optimizer);

/* Steps taken so far; set by a resumed run. */
uint64_t optimizer_steps(const struct optimizer *optimizer);
void optimizer_set_steps(struct optimizer *optimizer, uint64_t steps);

const char *optimizer_name(enum optimizer_kind kind);
CHECK_RESULT enum err_code optimizer_parse(const char *word, enum optimizer_kind *ret_kind,
                                           struct err *err);

/* Rows of the word embeddings that have a gradient in this step: distinct, ascending or not. */
struct optimizer_rows {
    const int32_t *at;
    size_t n;
};

/* One step over every parameter that trains: its learning rate is head_lr for heads, else lr times
 * its own scale. Returns the norm of the whole gradient before clipping. */
double optimizer_step(struct optimizer *optimizer, struct crew *crew, double lr, double head_lr,
                      const struct optimizer_rows *rows);

/* The norm of one parameter's gradient, for tests and curiosity; one thread. */
double optimizer_param_norm(const struct param *param);

#endif
