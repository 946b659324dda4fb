#include "train/network/plan.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static enum err_code freeze_layers(struct plan *plan, const char *range, size_t layers,
                                   struct err *err)
{
    char *end;
    errno = 0;
    unsigned long from = strtoul(range, &end, 10);
    bool good = end != range && range[0] >= '0' && range[0] <= '9';
    unsigned long to = from;
    if (good && *end == '-') {
        const char *second = end + 1;
        to = strtoul(second, &end, 10);
        good = end != second && second[0] >= '0' && second[0] <= '9';
    }
    if (!good || *end != '\0' || errno != 0 || from > to || to >= layers) {
        return err_set(err, ERR_USAGE,
                       "--freeze layers:A-B: A and B must be 0 to %zu, A not above B", layers - 1);
    }
    for (size_t i = from; i <= to; i++) {
        plan->freeze_layer[i] = true;
    }
    return ERR_OK;
}

static void freeze_backbone(struct plan *plan, size_t layers)
{
    plan->freeze_embeddings = true;
    for (size_t i = 0; i < layers; i++) {
        plan->freeze_layer[i] = true;
    }
}

enum err_code plan_freeze(struct plan *plan, const char *what, size_t layers, struct tasks *tasks,
                          struct err *err)
{
    static const char layer_word[] = "layers:";
    if (strcmp(what, "all") == 0) {
        freeze_backbone(plan, layers);
        for (size_t i = 0; i < TASKS_MAX; i++) {
            plan->freeze_head[i] = true;
        }
        return ERR_OK;
    }
    if (strcmp(what, "backbone") == 0) {
        freeze_backbone(plan, layers);
        return ERR_OK;
    }
    if (strcmp(what, "embeddings") == 0) {
        plan->freeze_embeddings = true;
        return ERR_OK;
    }
    struct task *task = tasks_find(tasks, what, strlen(what));
    if (task) {
        plan->freeze_head[task - tasks->at] = true;
        return ERR_OK;
    }
    if (strncmp(what, layer_word, sizeof layer_word - 1) == 0) {
        return freeze_layers(plan, what + sizeof layer_word - 1, layers, err);
    }
    return err_set(err, ERR_USAGE,
                   "--freeze: must be all, backbone, embeddings, layers:A-B or the name of a head "
                   "of this run");
}

bool plan_trains(const struct plan *plan, enum plan_group group, size_t index)
{
    switch (group) {
    case PLAN_EMBEDDINGS:
        return !plan->freeze_embeddings;
    case PLAN_LAYER:
        return !plan->freeze_layer[index];
    case PLAN_HEAD:
        return !plan->freeze_head[index];
    }
    return false;
}

size_t plan_lowest(const struct plan *plan, size_t layers)
{
    if (!plan->freeze_embeddings) {
        return 0;
    }
    size_t layer = 0;
    while (layer < layers && plan->freeze_layer[layer]) {
        layer++;
    }
    return layer + 1;
}

double plan_lr_scale(const struct plan *plan, enum plan_group group, size_t layer, size_t layers)
{
    switch (group) {
    case PLAN_EMBEDDINGS:
        return pow(plan->layer_decay, (double)(layers + 1));
    case PLAN_LAYER:
        return pow(plan->layer_decay, (double)(layers - layer));
    case PLAN_HEAD:
        break;
    }
    return 1.0;
}
