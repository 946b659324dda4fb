#include "train/network/layer.h"

#include <string.h>

#include "train/network/attend.h"
#include "train/network/dense.h"
#include "train/network/dropout.h"
#include "train/network/kernels/kernels.h"

enum place { PLACE_PROBS, PLACE_ATTENTION_OUT, PLACE_FFN_OUT };

static struct dropout dropout_at(const struct network_pass *pass, size_t layer, enum place place)
{
    return (struct dropout){
        .rate = place == PLACE_PROBS ? pass->attention_dropout : pass->hidden_dropout,
        .seed = pass->seed,
        .step = pass->step,
        .place = (uint32_t)(PLACE_LAYERS + layer * PLACES_PER_LAYER + place),
    };
}

/* sum ← residual + dropout(sum); out ← LayerNorm(sum). This member's rows. */
static void residual_norm_forward(struct part part, const struct network_pass *pass,
                                  const struct dropout *dropout, const float *residual,
                                  const float *w, const float *b, float *sum, float *mean,
                                  float *rstd, float *out)
{
    const struct train_kernels *kernels = train_kernels_get();
    size_t h = pass->params->config.hidden;
    size_t from, to;
    part_share(part, pass->batch->total, 1, &from, &to);
    for (size_t t = from; t < to; t++) {
        dropout_row(dropout, t, sum + t * h, h);
        kernels->add(residual + t * h, h, sum + t * h);
        kernels->norm(sum + t * h, h, pass->params->config.layer_norm_eps, w, b, out + t * h,
                      &mean[t], &rstd[t]);
    }
}

/* dsum ← the gradient behind LayerNorm, which the residual takes as it is; dproj ← what goes on
 * through dropout. dsum may be dy. This member's rows. */
static void residual_norm_backward(struct part part, const struct network_pass *pass,
                                   const struct dropout *dropout, const float *dy, const float *sum,
                                   const float *mean, const float *rstd, const float *w,
                                   float *dsum, float *dproj)
{
    const struct train_kernels *kernels = train_kernels_get();
    size_t h = pass->params->config.hidden;
    size_t from, to;
    part_share(part, pass->batch->total, 1, &from, &to);
    for (size_t t = from; t < to; t++) {
        kernels->norm_backward(dy + t * h, sum + t * h, mean[t], rstd[t], w, h, dsum + t * h);
        memcpy(dproj + t * h, dsum + t * h, h * sizeof *dproj);
        dropout_row(dropout, t, dproj + t * h, h);
    }
}

void layer_norm_backward_weights(struct part part, const float *dy, const float *x,
                                 const float *mean, const float *rstd, size_t rows, size_t width,
                                 float *dw, float *db)
{
    const struct train_kernels *kernels = train_kernels_get();
    size_t from, to;
    part_share(part, width, 16, &from, &to);
    if (from == to) {
        return;
    }
    memset(dw + from, 0, (to - from) * sizeof *dw);
    memset(db + from, 0, (to - from) * sizeof *db);
    for (size_t t = 0; t < rows; t++) {
        kernels->norm_backward_weights(dy + t * width + from, x + t * width + from, mean[t],
                                       rstd[t], to - from, dw + from, db + from);
    }
}

void layer_forward(struct part part, const struct network_pass *pass, size_t layer,
                   const float *input)
{
    const struct config *config = &pass->params->config;
    const struct layer_views *w = &pass->params->value.layers[layer];
    const struct layer_tape *tape = &pass->tape->layers[layer];
    const struct attend_shape shape = {config->hidden, config->heads};
    size_t total = pass->batch->total;
    size_t h = config->hidden;
    size_t wide = config->intermediate;
    size_t from, to;

    dense_forward(part, input, w->qkv_w, w->qkv_b, total, h, 3 * h, tape->qkv, &from, &to);
    team_barrier(part.team);

    struct dropout dropout = dropout_at(pass, layer, PLACE_PROBS);
    attend_forward(part, &shape, pass->batch, tape->qkv, &dropout, tape->probs, tape->context,
                   pass->tape->scratch[part.member]);
    team_barrier(part.team);

    dense_forward(part, tape->context, w->attention_out_w, w->attention_out_b, total, h, h,
                  tape->sum1, &from, &to);
    team_barrier(part.team);

    dropout = dropout_at(pass, layer, PLACE_ATTENTION_OUT);
    residual_norm_forward(part, pass, &dropout, input, w->attention_ln_w, w->attention_ln_b,
                          tape->sum1, tape->mean1, tape->rstd1, tape->mid);
    team_barrier(part.team);

    dense_forward(part, tape->mid, w->ffn_in_w, w->ffn_in_b, total, h, wide, tape->ffn, &from, &to);
    for (size_t t = 0; t < total; t++) {
        size_t at = t * wide + from;
        train_kernels_get()->gelu(tape->ffn + at, to - from, tape->act + at);
    }
    team_barrier(part.team);

    dense_forward(part, tape->act, w->ffn_out_w, w->ffn_out_b, total, wide, h, tape->sum2, &from,
                  &to);
    team_barrier(part.team);

    dropout = dropout_at(pass, layer, PLACE_FFN_OUT);
    residual_norm_forward(part, pass, &dropout, tape->mid, w->ffn_ln_w, w->ffn_ln_b, tape->sum2,
                          tape->mean2, tape->rstd2, tape->out);
    team_barrier(part.team);
}

/* From dout to dsum, the gradient of the feed-forward's input. */
static void ffn_backward(struct part part, const struct network_pass *pass, size_t layer)
{
    const struct config *config = &pass->params->config;
    const struct layer_views *w = &pass->params->value.layers[layer];
    const struct layer_views *dw = &pass->params->grad.layers[layer];
    const struct layer_tape *tape = &pass->tape->layers[layer];
    struct tape *back = pass->tape;
    size_t total = pass->batch->total;
    size_t h = config->hidden;
    size_t wide = config->intermediate;
    bool trains = dw->ffn_out_w != NULL;
    size_t from, to;

    if (trains) {
        layer_norm_backward_weights(part, back->dout, tape->sum2, tape->mean2, tape->rstd2, total,
                                    h, dw->ffn_ln_w, dw->ffn_ln_b);
    }
    struct dropout dropout = dropout_at(pass, layer, PLACE_FFN_OUT);
    residual_norm_backward(part, pass, &dropout, back->dout, tape->sum2, tape->mean2, tape->rstd2,
                           w->ffn_ln_w, back->dsum, back->dproj);
    team_barrier(part.team);

    if (trains) {
        dense_backward_weights(part, back->dproj, tape->act, total, wide, h, dw->ffn_out_w,
                               dw->ffn_out_b);
    }
    dense_backward_input(part, back->dproj, w->ffn_out_w, total, wide, h, 0, back->dffn, &from,
                         &to);
    for (size_t t = 0; t < total; t++) {
        size_t at = t * wide + from;
        train_kernels_get()->gelu_backward(tape->ffn + at, to - from, back->dffn + at);
    }
    team_barrier(part.team);

    if (trains) {
        dense_backward_weights(part, back->dffn, tape->mid, total, h, wide, dw->ffn_in_w,
                               dw->ffn_in_b);
    }
    dense_backward_input(part, back->dffn, w->ffn_in_w, total, h, wide, 1, back->dsum, &from, &to);
    team_barrier(part.team);
}

void layer_backward(struct part part, const struct network_pass *pass, size_t layer,
                    const float *input)
{
    const struct config *config = &pass->params->config;
    const struct layer_views *w = &pass->params->value.layers[layer];
    const struct layer_views *dw = &pass->params->grad.layers[layer];
    const struct layer_tape *tape = &pass->tape->layers[layer];
    const struct attend_shape shape = {config->hidden, config->heads};
    struct tape *back = pass->tape;
    size_t total = pass->batch->total;
    size_t h = config->hidden;
    bool trains = dw->qkv_w != NULL;
    size_t from, to;

    ffn_backward(part, pass, layer);

    if (trains) {
        layer_norm_backward_weights(part, back->dsum, tape->sum1, tape->mean1, tape->rstd1, total,
                                    h, dw->attention_ln_w, dw->attention_ln_b);
    }
    struct dropout dropout = dropout_at(pass, layer, PLACE_ATTENTION_OUT);
    residual_norm_backward(part, pass, &dropout, back->dsum, tape->sum1, tape->mean1, tape->rstd1,
                           w->attention_ln_w, back->dout, back->dproj);
    team_barrier(part.team);

    if (trains) {
        dense_backward_weights(part, back->dproj, tape->context, total, h, h, dw->attention_out_w,
                               dw->attention_out_b);
    }
    dense_backward_input(part, back->dproj, w->attention_out_w, total, h, h, 0, back->dctx, &from,
                         &to);
    team_barrier(part.team);

    dropout = dropout_at(pass, layer, PLACE_PROBS);
    attend_backward(part, &shape, pass->batch, tape->qkv, tape->probs, &dropout, back->dctx,
                    back->dqkv, back->scratch[part.member]);
    team_barrier(part.team);

    if (trains) {
        dense_backward_weights(part, back->dqkv, input, total, h, 3 * h, dw->qkv_w, dw->qkv_b);
    }
    if (pass->lowest < layer + 1) {
        dense_backward_input(part, back->dqkv, w->qkv_w, total, h, 3 * h, 1, back->dout, &from,
                             &to);
    }
    team_barrier(part.team);
}
