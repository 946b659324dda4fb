/* What trains and how fast: --freeze and --layer-decay, read from their words. */
#ifndef ORTHRUS_TRAIN_PLAN_H
#define ORTHRUS_TRAIN_PLAN_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "model/files/config.h"
#include "train/data/tasks.h"

enum plan_group { PLAN_EMBEDDINGS, PLAN_LAYER, PLAN_HEAD };

struct plan {
    bool freeze_embeddings;
    bool freeze_layer[CONFIG_LAYERS_MAX];
    bool freeze_head[TASKS_MAX]; /* by the place in the tasks */
    double layer_decay; /* d: layer i of L learns with lr·d^(L-i), the embeddings with lr·d^(L+1) */
};

/* Adds one WHAT of --freeze: all, backbone, embeddings, layers:A-B (or layers:A; from 0, both
 * ends frozen), or the name of a head. Errors: ERR_USAGE, naming what is allowed. */
CHECK_RESULT enum err_code plan_freeze(struct plan *plan, const char *what, size_t layers,
                                       struct tasks *tasks, struct err *err);

/* index: of the layer, or of the head among the tasks. */
bool plan_trains(const struct plan *plan, enum plan_group group, size_t index);
/* The lowest part of the encoder that trains: 0 the embeddings, 1 … L layer i - 1, L + 1 none. */
size_t plan_lowest(const struct plan *plan, size_t layers);
double plan_lr_scale(const struct plan *plan, enum plan_group group, size_t layer, size_t layers);

#endif
