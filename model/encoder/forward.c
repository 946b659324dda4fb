/* One forward pass. */
#include <string.h>

#include "base/check.h"
#include "base/size.h"
#include "model/encoder/attention.h"
#include "model/encoder/encoder_private.h"
#include "model/encoder/pooling.h"

enum { WIDE_TEAM = 4 };

/* One member's view of a pass. */
struct pass {
    const struct encoder *encoder;
    struct workspace *workspace;
    const struct batch *batch;
    struct team *team;
    unsigned member;
    void *scratch;
    struct observer *observer; /* NULL for all but member 0 */
    size_t from_layer;         /* the first and behind the last that it runs */
    size_t to_layer;
    uint64_t since_ns; /* when the running phase began */
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

/* The operand of a matrix: what its inputs are packed into. */
static struct operand inputs_of(const struct pass *pass, size_t layer, enum matrix matrix)
{
    struct workspace *workspace = pass->workspace;
    void *const memory[MATRIX_COUNT] = {
        [MATRIX_QKV] = workspace->hidden_packed,
        [MATRIX_ATTENTION_OUT] = workspace->context_packed,
        [MATRIX_FFN_IN] = workspace->hidden_packed,
        [MATRIX_FFN_OUT] = workspace->inner_packed,
    };
    const struct config *config = &pass->encoder->config;
    struct operand operand = operand_of(&pass->encoder->layers[layer].linear[matrix],
                                        pass->batch->total, memory[matrix]);
    if (workspace->largest) {
        size_t row = (pass->member * config->layers + layer) * MATRIX_COUNT + matrix;
        operand.largest = workspace->largest + row * size_max(config->hidden, config->intermediate);
    }
    return operand;
}

/* Rows of sums → LayerNorm → hidden states, and packed for the matrix that multiplies them next. */
struct normalizing {
    const struct pass *pass;
    const struct norm *norm;
    struct operand next; /* rows' blocks, whether it is packed or not */
    bool packs;          /* false behind the last layer */
    unsigned parts;      /* of a block, see struct completion */
};

static void normalize_block(void *context, size_t block)
{
    const struct normalizing *normalizing = context;
    const struct encoder *encoder = normalizing->pass->encoder;
    const struct operand *next = &normalizing->next;
    size_t hidden = encoder->config.hidden;
    size_t from = operand_start(next, block);
    float *rows = normalizing->pass->workspace->hidden + from * hidden;
    encoder->ops->layernorm(rows, operand_start(next, block + 1) - from, hidden,
                            normalizing->norm->gamma, normalizing->norm->beta,
                            encoder->config.layer_norm_eps, rows);
    if (normalizing->packs) {
        operand_pack(next, block, rows, hidden, 0, hidden);
    }
}

static unsigned whole_panels(const void *context, size_t block)
{
    (void)block;
    return ((const struct normalizing *)context)->parts;
}

/* Rows [from,to): word + position + type → hidden. RoBERTa counts positions behind its pad token's
 * id and leaves pad tokens themselves out of the count. */
static void embed_rows(const struct pass *pass, size_t from, size_t to)
{
    const struct encoder *encoder = pass->encoder;
    const struct batch *batch = pass->batch;
    size_t hidden = encoder->config.hidden;
    size_t first = encoder->config.position_first;
    for (size_t text = 0; text < batch->n && batch->starts[text] < to; text++) {
        size_t start = batch->starts[text];
        size_t end = batch->starts[text + 1];
        CHECK(end > start && end - start <= encoder->config.positions);
        size_t position = first;
        for (size_t t = start; t < end && end > from; t++) {
            int32_t id = batch->ids[t];
            bool pad = first && (size_t)id == first - 1;
            if (t >= from && t < to) {
                embed_token(encoder, id, pad ? first - 1 : position, batch->types[t],
                            pass->workspace->hidden + t * hidden);
            }
            position += !pad;
        }
    }
}

/* The row blocks of this member. */
static void embed(struct pass *pass)
{
    struct normalizing normalizing = {
        .pass = pass,
        .norm = &pass->encoder->embeddings_norm,
        .next = inputs_of(pass, pass->from_layer, MATRIX_QKV),
        .packs = true,
    };
    size_t from;
    size_t to;
    team_share(pass->team, pass->member, normalizing.next.blocks, 1, &from, &to);
    for (size_t block = from; block < to; block++) {
        embed_rows(pass, operand_start(&normalizing.next, block),
                   operand_start(&normalizing.next, block + 1));
        normalize_block(&normalizing, block);
    }
    phase_end(pass, PHASE_EMBED);
}

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

/* What this member reads first of the matrix after this one: nobody waits for memory behind a
 * barrier. */
static void fetch_next(const struct pass *pass, size_t layer, enum matrix matrix,
                       struct linear_call *call)
{
    const struct encoder *encoder = pass->encoder;
    bool last = matrix + 1 == MATRIX_COUNT;
    if (last && layer + 1 == encoder->config.layers) {
        return;
    }
    const struct linear *linears = encoder->layers[last ? layer + 1 : layer].linear;
    enum matrix after = last ? MATRIX_QKV : matrix + 1;
    const struct linear *packs = after == MATRIX_FFN_IN ? &linears[MATRIX_FFN_OUT] : NULL;
    call->fetched = linear_first_panels(&linears[after], packs, pass->batch->total, pass->team,
                                        pass->member, &call->fetched_bytes);
}

static void multiply(const struct pass *pass, size_t layer, enum matrix matrix,
                     struct linear_call call)
{
    const struct operand x = inputs_of(pass, layer, matrix);
    call.x = &x;
    fetch_next(pass, layer, matrix, &call);
    linear_run(x.linear, &call, pass->team, pass->member, pass->scratch);
}

/* Row blocks → LayerNorm, shared evenly behind a barrier. */
static void normalize_apart(const struct pass *pass, struct normalizing *normalizing)
{
    size_t from;
    size_t to;
    team_barrier(pass->team);
    team_share(pass->team, pass->member, normalizing->next.blocks, 1, &from, &to);
    for (size_t block = from; block < to; block++) {
        normalize_block(normalizing, block);
    }
}

/* hidden = LayerNorm(hidden + x · W): the matrix's outputs are added to the residual stream, and
 * who writes the last of a block's normalizes it. In a wide team that is the slowest for all
 * blocks, while the others wait, so there it is a step of its own. next_layer, next: what
 * multiplies it, none behind the last layer. */
static void multiply_add(struct pass *pass, size_t layer, enum matrix matrix,
                         const struct norm *norm, size_t next_layer, enum matrix next,
                         enum phase phase)
{
    const struct linear *linear = &pass->encoder->layers[layer].linear[matrix];
    bool packs = next_layer < pass->to_layer;
    bool apart = pass->team->width >= WIDE_TEAM;
    struct normalizing normalizing = {
        .pass = pass,
        .norm = norm,
        .next = inputs_of(pass, packs ? next_layer : layer, next),
        .packs = packs,
        .parts = (unsigned)linear->panels,
    };
    const struct completion completion = {
        .done = pass->workspace->done,
        .whole = whole_panels,
        .complete = normalize_block,
        .context = &normalizing,
    };
    const struct linear_call call = {
        .finish = FINISH_ADD,
        .residual = pass->workspace->hidden,
        .residual_ld = linear->out,
        .out = pass->workspace->hidden,
        .out_ld = linear->out,
        .completion = apart ? NULL : &completion,
    };
    multiply(pass, layer, matrix, call);
    if (apart) {
        normalize_apart(pass, &normalizing);
    }
    phase_end(pass, phase);
}

/* Attention's rows → packed for the matrix behind it. */
struct attending {
    const struct pass *pass;
    struct operand next;
};

static unsigned whole_heads(const void *context, size_t block)
{
    const struct attending *attending = context;
    size_t rows = operand_start(&attending->next, block + 1) -
                  operand_start(&attending->next, block);
    return (unsigned)(rows * attending->pass->encoder->config.heads);
}

static void pack_context(void *context, size_t block)
{
    const struct attending *attending = context;
    size_t hidden = attending->pass->encoder->config.hidden;
    operand_pack(&attending->next, block,
                 attending->pass->workspace->context +
                     operand_start(&attending->next, block) * hidden,
                 hidden, 0, hidden);
}

/* One head of rows [from,to) is there. */
static void head_written(void *context, size_t from, size_t to)
{
    struct attending *attending = context;
    const struct operand *next = &attending->next;
    const struct completion completion = {
        .done = attending->pass->workspace->done,
        .whole = whole_heads,
        .complete = pack_context,
        .context = attending,
    };
    for (size_t block = operand_block_of(next, from);
         block < next->blocks && operand_start(next, block) < to; block++) {
        size_t first = size_max(operand_start(next, block), from);
        size_t end = size_min(operand_start(next, block + 1), to);
        completion_add(&completion, block, (unsigned)(end - first));
    }
}

static void attend(struct pass *pass, size_t layer)
{
    const struct config *config = &pass->encoder->config;
    struct attending attending = {
        .pass = pass,
        .next = inputs_of(pass, layer, MATRIX_ATTENTION_OUT),
    };
    const struct attention_call call = {
        .ops = pass->encoder->ops,
        .qkv = pass->workspace->qkv,
        .batch = pass->batch,
        .heads = config->heads,
        .head_width = config->hidden / config->heads,
        .out = pass->workspace->context,
        .written = head_written,
        .context = &attending,
    };
    attention_run(&call, pass->team, pass->member, pass->scratch);
    phase_end(pass, PHASE_ATTENTION);
}

static void run_layer(struct pass *pass, size_t l)
{
    const struct layer *layer = &pass->encoder->layers[l];
    const struct operand inner = inputs_of(pass, l, MATRIX_FFN_OUT);
    const struct linear_call qkv = {
        .finish = FINISH_BIAS,
        .out = pass->workspace->qkv,
        .out_ld = layer->linear[MATRIX_QKV].out,
    };
    const struct linear_call ffn_in = {
        .finish = activation_finish(pass->encoder->config.activation),
        .next = &inner,
    };
    multiply(pass, l, MATRIX_QKV, qkv);
    phase_end(pass, PHASE_QKV);
    attend(pass, l);
    multiply_add(pass, l, MATRIX_ATTENTION_OUT, &layer->attention_norm, l, MATRIX_FFN_IN,
                 PHASE_ATTENTION_OUT);
    multiply(pass, l, MATRIX_FFN_IN, ffn_in);
    phase_end(pass, PHASE_FFN_IN);
    multiply_add(pass, l, MATRIX_FFN_OUT, &layer->ffn_norm, l + 1, MATRIX_QKV, PHASE_FFN_OUT);
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

static void run_layers(struct pass *pass)
{
    const struct batch *batch = pass->batch;
    CHECK(batch->n <= pass->workspace->max_texts && batch->total <= pass->workspace->max_tokens);
    if (pass->observer && pass->observer->now_ns) {
        pass->since_ns = pass->observer->now_ns();
    }
    embed(pass);
    layer_done(pass, 0);
    for (size_t l = pass->from_layer; l < pass->to_layer; l++) {
        run_layer(pass, l);
        layer_done(pass, l + 1);
    }
}

void encoder_assist(const struct encoder *encoder, struct workspace *workspace,
                    const struct batch *batch, enum pooling pooling, struct team *team,
                    unsigned member, struct scratch *scratch, const struct outputs *out)
{
    CHECK(batch->total <= scratch->max_tokens);
    struct pass pass = {
        .encoder = encoder,
        .workspace = workspace,
        .batch = batch,
        .team = team,
        .member = member,
        .scratch = scratch->memory,
        .observer = member == 0 ? workspace->observer : NULL,
        .to_layer = encoder->config.layers,
    };
    run_layers(&pass);
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

void encoder_forward_layer(const struct encoder *encoder, struct workspace *workspace,
                           const struct batch *batch, size_t layer)
{
    CHECK(layer < encoder->config.layers);
    struct team team;
    team_init(&team, 1);
    struct pass pass = {
        .encoder = encoder,
        .workspace = workspace,
        .batch = batch,
        .team = &team,
        .scratch = workspace->scratch->memory,
        .observer = workspace->observer,
        .from_layer = layer,
        .to_layer = layer + 1,
    };
    run_layers(&pass);
}

const char *phase_name(enum phase phase)
{
    static const char *const names[PHASE_COUNT] = {
        [PHASE_EMBED] = "embed",         [PHASE_QKV] = "qkv",
        [PHASE_ATTENTION] = "attention", [PHASE_ATTENTION_OUT] = "attention_out",
        [PHASE_FFN_IN] = "ffn_in",       [PHASE_FFN_OUT] = "ffn_out",
        [PHASE_POOL] = "pool",
    };
    return names[phase];
}
