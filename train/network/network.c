#include "train/network/network.h"

#include <string.h>

#include "base/check.h"
#include "train/network/dropout.h"
#include "train/network/kernels/kernels.h"
#include "train/network/layer.h"

static struct dropout embeddings_dropout(const struct network_pass *pass)
{
    return (struct dropout){.rate = pass->hidden_dropout,
                            .seed = pass->seed,
                            .step = pass->step,
                            .place = PLACE_EMBEDDINGS};
}

/* word + position + type 0, LayerNorm, dropout; this member's texts. */
static void embeddings_forward(struct part part, const struct network_pass *pass)
{
    const struct train_kernels *kernels = train_kernels_get();
    const struct param_views *w = &pass->params->value;
    const struct batch *batch = pass->batch;
    struct tape *tape = pass->tape;
    struct dropout dropout = embeddings_dropout(pass);
    size_t h = pass->params->config.hidden;
    size_t first, last;
    part_share(part, batch->n, 1, &first, &last);
    for (size_t i = first; i < last; i++) {
        for (size_t t = batch->starts[i]; t < batch->starts[i + 1]; t++) {
            float *sum = tape->embeddings_sum + t * h;
            memcpy(sum, w->word + (size_t)batch->ids[t] * h, h * sizeof *sum);
            kernels->add(w->position + (t - batch->starts[i]) * h, h, sum);
            kernels->add(w->type, h, sum);
            kernels->norm(sum, h, pass->params->config.layer_norm_eps, w->ln_w, w->ln_b,
                          tape->embeddings + t * h, &tape->embeddings_mean[t],
                          &tape->embeddings_rstd[t]);
            dropout_row(&dropout, t, tape->embeddings + t * h, h);
        }
    }
}

/* From dout, the gradient of the first layer's input. Rows are shared out for the LayerNorm, then
 * columns for the scatter, so that each sum runs over the tokens in their order. */
static void embeddings_backward(struct part part, const struct network_pass *pass)
{
    const struct train_kernels *kernels = train_kernels_get();
    const struct param_views *w = &pass->params->value;
    const struct param_views *dw = &pass->params->grad;
    const struct config *config = &pass->params->config;
    const struct batch *batch = pass->batch;
    struct tape *tape = pass->tape;
    struct dropout dropout = embeddings_dropout(pass);
    size_t h = config->hidden;
    size_t from, to;
    part_share(part, batch->total, 1, &from, &to);
    for (size_t t = from; t < to; t++) {
        dropout_row(&dropout, t, tape->dout + t * h, h);
    }
    team_barrier(part.team);

    layer_norm_backward_weights(part, tape->dout, tape->embeddings_sum, tape->embeddings_mean,
                                tape->embeddings_rstd, batch->total, h, dw->ln_w, dw->ln_b);
    for (size_t t = from; t < to; t++) {
        kernels->norm_backward(tape->dout + t * h, tape->embeddings_sum + t * h,
                               tape->embeddings_mean[t], tape->embeddings_rstd[t], w->ln_w, h,
                               tape->dsum + t * h);
    }
    team_barrier(part.team);

    part_share(part, h, 16, &from, &to);
    for (size_t p = 0; p < config->positions; p++) {
        memset(dw->position + p * h + from, 0, (to - from) * sizeof(float));
    }
    for (size_t p = 0; p < config->types; p++) {
        memset(dw->type + p * h + from, 0, (to - from) * sizeof(float));
    }
    for (size_t i = 0; i < batch->n; i++) {
        for (size_t t = batch->starts[i]; t < batch->starts[i + 1]; t++) {
            const float *d = tape->dsum + t * h + from;
            size_t position = t - batch->starts[i];
            kernels->add(d, to - from, dw->word + (size_t)batch->ids[t] * h + from);
            kernels->add(d, to - from, dw->position + position * h + from);
            kernels->add(d, to - from, dw->type + from);
        }
    }
    team_barrier(part.team);
}

static void pooling_forward(struct part part, const struct network_pass *pass, const float *hidden)
{
    const struct batch *batch = pass->batch;
    size_t h = pass->params->config.hidden;
    size_t first, last;
    part_share(part, batch->n, 1, &first, &last);
    for (size_t i = first; i < last; i++) {
        float *out = pass->tape->pooled + i * h;
        size_t from = batch->starts[i];
        size_t to = batch->starts[i + 1];
        memcpy(out, hidden + from * h, h * sizeof *out);
        if (pass->pooling == POOLING_CLS) {
            continue;
        }
        for (size_t t = from + 1; t < to; t++) {
            train_kernels_get()->add(hidden + t * h, h, out);
        }
        for (size_t j = 0; j < h; j++) {
            out[j] /= (float)(to - from);
        }
    }
}

static void pooling_backward(struct part part, const struct network_pass *pass)
{
    const struct batch *batch = pass->batch;
    size_t h = pass->params->config.hidden;
    size_t first, last;
    part_share(part, batch->n, 1, &first, &last);
    for (size_t i = first; i < last; i++) {
        const float *d = pass->tape->dpooled + i * h;
        size_t n = batch->starts[i + 1] - batch->starts[i];
        for (size_t t = 0; t < n; t++) {
            float *out = pass->tape->dout + (batch->starts[i] + t) * h;
            float share = pass->pooling == POOLING_MEAN ? 1.0f / (float)n : t == 0 ? 1.0f : 0.0f;
            for (size_t j = 0; j < h; j++) {
                out[j] = d[j] * share;
            }
        }
    }
}

static const float *layer_input(const struct network_pass *pass, size_t layer)
{
    return layer == 0 ? pass->tape->embeddings : pass->tape->layers[layer - 1].out;
}

void network_forward(struct part part, const struct network_pass *pass)
{
    size_t layers = pass->params->config.layers;
    CHECK(pass->batch->total <= pass->tape->size.tokens &&
          pass->batch->n <= pass->tape->size.texts);
    embeddings_forward(part, pass);
    team_barrier(part.team);
    for (size_t i = 0; i < layers; i++) {
        layer_forward(part, pass, i, layer_input(pass, i));
    }
    pooling_forward(part, pass, layer_input(pass, layers));
    team_barrier(part.team);
}

void network_backward(struct part part, const struct network_pass *pass)
{
    size_t layers = pass->params->config.layers;
    pooling_backward(part, pass);
    team_barrier(part.team);
    for (size_t i = layers; i > 0 && i >= pass->lowest; i--) {
        layer_backward(part, pass, i - 1, layer_input(pass, i - 1));
    }
    if (pass->lowest == 0) {
        embeddings_backward(part, pass);
    }
}
