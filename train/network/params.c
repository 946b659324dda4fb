#include "train/network/params.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "model/encoder/pages.h"
#include "train/network/dropout.h"

enum { EMBEDDING_PARAMS = 5, LAYER_PARAMS = 16 };

/* Where the i-th of a layer's parameters lies among them: the three projections' weights first,
 * then their biases, the rest in PyTorch's order. */
static const unsigned char layer_place[LAYER_PARAMS] = {0, 3, 1,  4,  2,  5,  6,  7,
                                                        8, 9, 10, 11, 12, 13, 14, 15};

static void describe_encoder(struct params *params, const struct plan *plan)
{
    for (size_t i = 0; i < params->n_encoder; i++) {
        struct param *param = &params->at[i];
        struct checkpoint_param source;
        checkpoint_param(&params->config, NULL, i, &source);
        memcpy(param->name, source.name, sizeof param->name);
        param->rank = source.rank;
        memcpy(param->shape, source.shape, sizeof param->shape);
        param->by_rows = i == 0;
        param->group = i < EMBEDDING_PARAMS ? PLAN_EMBEDDINGS : PLAN_LAYER;
        param->layer = i < EMBEDDING_PARAMS ? 0 : (i - EMBEDDING_PARAMS) / LAYER_PARAMS;
        param->trainable = plan_trains(plan, param->group, param->layer);
        param->lr_scale = plan_lr_scale(plan, param->group, param->layer, params->config.layers);
    }
}

/* The tensors of a head in the order of its file. */
static size_t head_tensors(const struct task *task, size_t hidden, struct param out[4])
{
    size_t in = task->inner > 0 ? task->inner : hidden;
    const struct {
        const char *suffix;
        unsigned rank;
        size_t rows, columns;
    } tensors[] = {{"weight", 2, task->classes, in},
                   {"bias", 1, task->classes, 0},
                   {"dense.weight", 2, task->inner, hidden},
                   {"dense.bias", 1, task->inner, 0}};
    size_t n = task->inner > 0 ? 4 : 2;
    for (size_t i = 0; i < n; i++) {
        out[i] = (struct param){.rank = tensors[i].rank,
                                .shape = {tensors[i].rows, tensors[i].columns},
                                .group = PLAN_HEAD,
                                .lr_scale = 1.0,
                                .head = true};
        (void)snprintf(out[i].name, sizeof out[i].name, "%s.%s", task->name, tensors[i].suffix);
    }
    return n;
}

static void describe_heads(struct params *params, const struct plan *plan)
{
    size_t at = params->n_encoder;
    for (size_t i = 0; i < params->tasks.n; i++) {
        const struct task *task = &params->tasks.at[i];
        struct param tensors[4];
        size_t n = task->classes > 0
                       ? head_tensors(task, config_pooled_width(&params->config), tensors)
                       : 0;
        for (size_t k = 0; k < n; k++) {
            tensors[k].layer = i;
            tensors[k].trainable = plan_trains(plan, PLAN_HEAD, i);
            params->at[at++] = tensors[k];
        }
    }
    params->n = at;
}

/* The parameter that lies at place i of a block. */
static struct param *param_in_order(struct params *params, size_t i)
{
    if (i < EMBEDDING_PARAMS || i >= params->n_encoder) {
        return &params->at[i];
    }
    size_t first = i - (i - EMBEDDING_PARAMS) % LAYER_PARAMS;
    for (size_t j = 0; j < LAYER_PARAMS; j++) {
        if (layer_place[j] == i - first) {
            return &params->at[first + j];
        }
    }
    CHECK(!"layer_place is a permutation");
    return NULL;
}

static enum err_code allocate(struct params *params, struct err *err)
{
    for (size_t i = 0; i < params->n; i++) {
        struct param *param = &params->at[i];
        param->count = param->shape[0] * (param->rank == 2 ? param->shape[1] : 1);
        params->n_values += param->count;
        params->n_grads += param->trainable && !param->by_rows ? param->count : 0;
    }
    params->values = pages_alloc(params->n_values * sizeof(float));
    if (!params->values) {
        return err_nomem(err, params->n_values * sizeof(float));
    }
    size_t bytes = params->n_grads * sizeof(float);
    params->grads = pages_alloc(bytes);
    params->m = pages_alloc(bytes);
    params->v = pages_alloc(bytes);
    params->touched = calloc(params->config.vocab, 1);
    if (!params->grads || !params->m || !params->v || !params->touched) {
        return err_nomem(err, bytes);
    }
    size_t value = 0;
    size_t grad = 0;
    for (size_t i = 0; i < params->n; i++) {
        struct param *param = param_in_order(params, i);
        param->value = params->values + value;
        value += param->count;
        if (param->trainable && !param->by_rows) {
            param->grad = params->grads + grad;
            param->m = params->m + grad;
            param->v = params->v + grad;
            grad += param->count;
        }
    }
    return ERR_OK;
}

/* Small pages: rows of the word embeddings that never occur then cost no memory. */
static enum err_code allocate_rows(struct params *params, struct err *err)
{
    for (size_t i = 0; i < params->n; i++) {
        struct param *param = &params->at[i];
        if (param->by_rows && param->trainable) {
            param->grad = calloc(param->count, sizeof(float));
            param->m = calloc(param->count, sizeof(float));
            param->v = calloc(param->count, sizeof(float));
            if (!param->grad || !param->m || !param->v) {
                return err_nomem(err, param->count * sizeof(float));
            }
        }
    }
    return ERR_OK;
}

static float *pick(const struct params *params, size_t i, bool grad)
{
    return grad ? params->at[i].grad : params->at[i].value;
}

static void bind(const struct params *params, bool grad, struct param_views *views)
{
    if (params->n_encoder > 0) {
        views->word = pick(params, 0, grad);
        views->position = pick(params, 1, grad);
        views->type = pick(params, 2, grad);
        views->ln_w = pick(params, 3, grad);
        views->ln_b = pick(params, 4, grad);
        for (size_t i = 0; i < params->config.layers; i++) {
            size_t first = EMBEDDING_PARAMS + i * LAYER_PARAMS;
            views->layers[i] = (struct layer_views){
                .qkv_w = pick(params, first, grad),
                .qkv_b = pick(params, first + 1, grad),
                .attention_out_w = pick(params, first + 6, grad),
                .attention_out_b = pick(params, first + 7, grad),
                .attention_ln_w = pick(params, first + 8, grad),
                .attention_ln_b = pick(params, first + 9, grad),
                .ffn_in_w = pick(params, first + 10, grad),
                .ffn_in_b = pick(params, first + 11, grad),
                .ffn_out_w = pick(params, first + 12, grad),
                .ffn_out_b = pick(params, first + 13, grad),
                .ffn_ln_w = pick(params, first + 14, grad),
                .ffn_ln_b = pick(params, first + 15, grad),
            };
        }
    }
    size_t i = params->n_encoder;
    for (size_t t = 0; t < params->tasks.n; t++) {
        const struct task *task = &params->tasks.at[t];
        if (task->classes == 0) {
            continue;
        }
        views->head[t] = (struct head_views){.w = pick(params, i, grad),
                                             .b = pick(params, i + 1, grad)};
        i += 2;
        if (task->inner > 0) {
            views->head[t].dense_w = pick(params, i, grad);
            views->head[t].dense_b = pick(params, i + 1, grad);
            i += 2;
        }
    }
}

enum err_code params_create(const struct config *config, const struct checkpoint *checkpoint,
                            const struct tasks *tasks, const struct plan *plan,
                            struct params **ret_params, struct err *err)
{
    struct params *params = calloc(1, sizeof *params);
    if (!params) {
        return err_nomem(err, sizeof *params);
    }
    params->config = *config;
    params->tasks = *tasks;
    params->n_encoder = checkpoint ? checkpoint_param_count(config) : 0;
    size_t most = params->n_encoder + tasks->n * 4;
    params->at = calloc(most, sizeof *params->at);
    params->value.layers = calloc(config->layers, sizeof *params->value.layers);
    params->grad.layers = calloc(config->layers, sizeof *params->grad.layers);
    if (!params->at || !params->value.layers || !params->grad.layers) {
        params_destroy(params);
        return err_nomem(err, most * sizeof *params->at);
    }
    describe_encoder(params, plan);
    describe_heads(params, plan);
    if (allocate(params, err) != ERR_OK || allocate_rows(params, err) != ERR_OK) {
        params_destroy(params);
        return ERR_NOMEM;
    }
    bind(params, false, &params->value);
    bind(params, true, &params->grad);
    for (size_t i = 0; i < params->n_encoder; i++) {
        struct checkpoint_param source;
        checkpoint_param(config, checkpoint, i, &source);
        tensor_to_f32(source.tensor, 0, params->at[i].count, params->at[i].value);
    }
    *ret_params = params;
    return ERR_OK;
}

void params_destroy(struct params *params)
{
    if (!params) {
        return;
    }
    for (size_t i = 0; params->at && i < params->n; i++) {
        if (params->at[i].by_rows) {
            free(params->at[i].grad);
            free(params->at[i].m);
            free(params->at[i].v);
        }
    }
    pages_free(params->values, params->n_values * sizeof(float));
    pages_free(params->grads, params->n_grads * sizeof(float));
    pages_free(params->m, params->n_grads * sizeof(float));
    pages_free(params->v, params->n_grads * sizeof(float));
    free(params->touched);
    free(params->value.layers);
    free(params->grad.layers);
    free(params->at);
    free(params);
}

bool params_encoder_trains(const struct params *params)
{
    for (size_t i = 0; i < params->n_encoder; i++) {
        if (params->at[i].trainable) {
            return true;
        }
    }
    return false;
}

/* Weight and bias uniform in ±1/√in, the numbers at[…] of a head's stream. */
static void init_linear(float *w, float *b, size_t out, size_t in, uint64_t seed, uint32_t stream,
                        size_t at)
{
    double bound = 1.0 / sqrt((double)in);
    for (size_t i = 0; i < out * in + out; i++) {
        double unit = (double)random_u32(seed, stream, at + i) / 4294967295.0;
        float value = (float)((2.0 * unit - 1.0) * bound);
        if (i < out * in) {
            w[i] = value;
        } else {
            b[i - out * in] = value;
        }
    }
}

void params_init_heads(struct params *params, uint64_t seed)
{
    size_t hidden = config_pooled_width(&params->config);
    for (size_t i = 0; i < params->tasks.n; i++) {
        const struct task *task = &params->tasks.at[i];
        const struct head_views *views = &params->value.head[i];
        const struct head *init = task->init;
        size_t in = task->inner > 0 ? task->inner : hidden;
        size_t count = task->classes * in;
        if (task->classes == 0) {
            continue;
        }
        if (!init) {
            uint32_t stream = (uint32_t)(STREAM_HEADS + i);
            init_linear(views->w, views->b, task->classes, in, seed, stream, 0);
            if (task->inner > 0) {
                init_linear(views->dense_w, views->dense_b, task->inner, hidden, seed, stream,
                            count + task->classes);
            }
            continue;
        }
        CHECK(init->classes == task->classes && init->inner == task->inner);
        memcpy(views->w, init->weight, count * sizeof(float));
        memcpy(views->b, init->bias, task->classes * sizeof(float));
        if (task->inner > 0) {
            memcpy(views->dense_w, init->dense_weight, task->inner * hidden * sizeof(float));
            memcpy(views->dense_b, init->dense_bias, task->inner * sizeof(float));
        }
    }
}
