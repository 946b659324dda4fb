/* One forward pass. */
#include <math.h>
#include <string.h>

#include "base/check.h"
#include "base/size.h"
#include "model/encoder/attention.h"
#include "model/encoder/encoder_private.h"
#include "model/encoder/pooling.h"

/* One member's view of a pass. */
struct pass {
    const struct encoder *encoder;
    struct workspace *workspace;
    const struct batch *batch;
    struct team *team;
    unsigned member;
    void *scratch;
    struct observer *observer; /* NULL for all but member 0 */
    uint64_t since_ns;         /* when the running phase began */
};

/* Every phase ends here: all members' output is there for all. */
static void phase_end(struct pass *pass, enum phase phase)
{
    team_barrier(pass->team);
    if (pass->observer && pass->observer->now_ns) {
        uint64_t now_ns = pass->observer->now_ns();
        pass->observer->phase_ns[phase] += now_ns - pass->since_ns;
        pass->since_ns = now_ns;
    }
}

static void layer_done(const struct pass *pass, size_t layer)
{
    if (pass->observer && pass->observer->on_layer) {
        pass->observer->on_layer(pass->observer->context, layer, pass->workspace->hidden,
                                 pass->batch->total, pass->encoder->config.hidden);
    }
    /* The observer reads the hidden states that the next phase leaves alone: no barrier. */
}

/* out = word + position (type 0 in it) + what another type has more. */
static void embed_token(const struct encoder *encoder, int32_t id, size_t position, uint8_t type,
                        float *out)
{
    const struct config *config = &encoder->config;
    size_t hidden = config->hidden;
    CHECK(id >= 0 && (size_t)id < config->vocab && type < config->types);
    const float *word_row = encoder->word + (size_t)id * hidden;
    const float *position_row = encoder->position + position * hidden;
    for (size_t i = 0; i < hidden; i++) {
        out[i] = word_row[i] + position_row[i];
    }
    if (type) {
        const float *type_row = encoder->type + type * hidden;
        for (size_t i = 0; i < hidden; i++) {
            out[i] += type_row[i];
        }
    }
}

/* The texts of this member: word + position + type → LayerNorm → hidden. RoBERTa counts positions
 * behind its pad token's id and leaves pad tokens themselves out of the count. */
static void embed(struct pass *pass)
{
    const struct encoder *encoder = pass->encoder;
    const struct batch *batch = pass->batch;
    size_t hidden = encoder->config.hidden;
    size_t from;
    size_t to;
    team_share(pass->team, pass->member, batch->n, 1, &from, &to);
    for (size_t text = from; text < to; text++) {
        size_t start = batch->starts[text];
        size_t n = batch->starts[text + 1] - start;
        CHECK(n >= 1 && n <= encoder->config.positions);
        size_t first = encoder->config.position_first;
        size_t position = first;
        for (size_t t = 0; t < n; t++) {
            int32_t id = batch->ids[start + t];
            bool pad = first && (size_t)id == first - 1;
            embed_token(encoder, id, pad ? first - 1 : position, batch->types[start + t],
                        pass->workspace->hidden + (start + t) * hidden);
            position += !pad;
        }
        float *rows = pass->workspace->hidden + start * hidden;
        encoder->ops->layernorm(rows, n, hidden, encoder->embeddings_norm.gamma,
                                encoder->embeddings_norm.beta, encoder->config.layer_norm_eps,
                                rows);
    }
    phase_end(pass, PHASE_EMBED);
}

/* Calibration: raises the matrix's row of largest magnitudes to x [T,K]'s. */
static void note_largest(const struct pass *pass, size_t layer, enum matrix matrix, const float *x,
                         size_t width)
{
    const struct config *config = &pass->encoder->config;
    size_t widest = size_max(config->hidden, config->intermediate);
    float *largest = pass->workspace->largest + (layer * MATRIX_COUNT + matrix) * widest;
    for (size_t t = 0; t < pass->batch->total; t++) {
        for (size_t i = 0; i < width; i++) {
            float magnitude = fabsf(x[t * width + i]);
            largest[i] = magnitude > largest[i] ? magnitude : largest[i];
        }
    }
}

/* How a matrix ends, and the phase that its time counts for. */
static const struct matrix_run {
    enum finish finish;
    enum phase phase;
} matrix_runs[MATRIX_COUNT] = {
    [MATRIX_QKV] = {FINISH_BIAS, PHASE_QKV},
    [MATRIX_ATTENTION_OUT] = {FINISH_ADD, PHASE_ATTENTION_OUT},
    [MATRIX_FFN_IN] = {FINISH_GELU, PHASE_FFN_IN}, /* or what the model's activation is */
    [MATRIX_FFN_OUT] = {FINISH_ADD, PHASE_FFN_OUT},
};

/* activation_parse gives no others. */
static enum finish activation_finish(enum activation activation)
{
    static const enum finish finishes[] = {
        [ACTIVATION_GELU] = FINISH_GELU,
        [ACTIVATION_GELU_TANH] = FINISH_GELU_TANH,
        [ACTIVATION_RELU] = FINISH_RELU,
        [ACTIVATION_SILU] = FINISH_SILU,
    };
    return finishes[activation];
}

/* out = epilogue(x · W); what FINISH_ADD adds is the residual stream. */
static void multiply(struct pass *pass, size_t layer, enum matrix matrix, const float *x,
                     float *out)
{
    const struct linear *linear = &pass->encoder->layers[layer].linear[matrix];
    const struct matrix_run *run = &matrix_runs[matrix];
    enum finish finish = matrix == MATRIX_FFN_IN
                             ? activation_finish(pass->encoder->config.activation)
                             : run->finish;
    const struct linear_call call = {
        .x = x,
        .x_ld = linear->in,
        .rows = pass->batch->total,
        .finish = finish,
        .residual = finish == FINISH_ADD ? pass->workspace->hidden : NULL,
        .residual_ld = linear->out,
        .out = out,
        .out_ld = linear->out,
    };
    if (pass->workspace->largest) {
        note_largest(pass, layer, matrix, x, linear->in);
    }
    linear_run(linear, &call, pass->team, pass->member, pass->scratch);
    phase_end(pass, run->phase);
}

/* LayerNorm of the sums → hidden, by rows. */
static void normalize(struct pass *pass, const struct norm *norm)
{
    size_t hidden = pass->encoder->config.hidden;
    size_t from;
    size_t to;
    team_share(pass->team, pass->member, pass->batch->total, 1, &from, &to);
    pass->encoder->ops->layernorm(pass->workspace->sums + from * hidden, to - from, hidden,
                                  norm->gamma, norm->beta, pass->encoder->config.layer_norm_eps,
                                  pass->workspace->hidden + from * hidden);
    phase_end(pass, PHASE_NORM);
}

static void run_layer(struct pass *pass, size_t l)
{
    const struct config *config = &pass->encoder->config;
    const struct layer *layer = &pass->encoder->layers[l];
    struct workspace *workspace = pass->workspace;
    multiply(pass, l, MATRIX_QKV, workspace->hidden, workspace->qkv);
    attention_run(pass->encoder->ops, workspace->qkv, pass->batch, config->heads,
                  config->hidden / config->heads, workspace->context, pass->team, pass->member,
                  pass->scratch);
    phase_end(pass, PHASE_ATTENTION);
    multiply(pass, l, MATRIX_ATTENTION_OUT, workspace->context, workspace->sums);
    normalize(pass, &layer->attention_norm);
    multiply(pass, l, MATRIX_FFN_IN, workspace->hidden, workspace->inner);
    multiply(pass, l, MATRIX_FFN_OUT, workspace->inner, workspace->sums);
    normalize(pass, &layer->ffn_norm);
}

/* Texts [from,to) of the hidden states → what the caller asked for. */
static void leave(const struct pass *pass, enum pooling pooling, size_t from, size_t to,
                  const struct outputs *out)
{
    const struct batch *batch = pass->batch;
    const float *hidden = pass->workspace->hidden;
    size_t width = pass->encoder->config.hidden;
    if (out->pooled) {
        pool_texts(hidden, batch, width, pooling, from, to, out->pooled);
    }
    if (out->cls) {
        pool_texts(hidden, batch, width, POOLING_CLS, from, to, out->cls);
    }
    if (out->tokens && to > from) {
        size_t first = batch->starts[from] * width;
        memcpy(out->tokens + first, hidden + first,
               (batch->starts[to] * width - first) * sizeof *hidden);
    }
}

void encoder_assist(const struct encoder *encoder, struct workspace *workspace,
                    const struct batch *batch, enum pooling pooling, struct team *team,
                    unsigned member, struct scratch *scratch, const struct outputs *out)
{
    CHECK(batch->n <= workspace->max_texts && batch->total <= workspace->max_tokens &&
          batch->total <= scratch->max_tokens);
    struct pass pass = {
        .encoder = encoder,
        .workspace = workspace,
        .batch = batch,
        .team = team,
        .member = member,
        .scratch = scratch->memory,
        .observer = member == 0 ? workspace->observer : NULL,
    };
    if (pass.observer && pass.observer->now_ns) {
        pass.since_ns = pass.observer->now_ns();
    }
    embed(&pass);
    layer_done(&pass, 0);
    for (size_t l = 0; l < encoder->config.layers; l++) {
        run_layer(&pass, l);
        layer_done(&pass, l + 1);
    }
    size_t from;
    size_t to;
    team_share(team, member, batch->n, 1, &from, &to);
    leave(&pass, pooling, from, to, out);
    phase_end(&pass, PHASE_POOL);
}

void encoder_forward(const struct encoder *encoder, struct workspace *workspace,
                     const struct batch *batch, enum pooling pooling, struct team *team,
                     const struct outputs *out)
{
    encoder_assist(encoder, workspace, batch, pooling, team, 0, workspace->scratch, out);
}

const char *phase_name(enum phase phase)
{
    static const char *const names[PHASE_COUNT] = {
        [PHASE_EMBED] = "embed",         [PHASE_QKV] = "qkv",
        [PHASE_ATTENTION] = "attention", [PHASE_ATTENTION_OUT] = "attention_out",
        [PHASE_FFN_IN] = "ffn_in",       [PHASE_FFN_OUT] = "ffn_out",
        [PHASE_NORM] = "norm",           [PHASE_POOL] = "pool",
    };
    return names[phase];
}
