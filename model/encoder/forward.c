/* One forward pass. */
#include <string.h>

#include "base/check.h"
#include "base/size.h"
#include "model/encoder/attention.h"
#include "model/encoder/encoder_private.h"
#include "model/encoder/pooling.h"

enum { WIDE_TEAM = 4, SHARED_BLOCKS = 16, COLUMNS_LEAST = 64 };

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
    const float *sums;   /* [T,H]; the hidden states' own memory, but in a wide team */
    struct operand next; /* rows' blocks, whether it is packed or not */
    bool packs;          /* false behind the last layer */
    unsigned parts;      /* of a block, see struct completion */
};

/* Columns [from,to), at multiples of operand_unit or H. */
static void normalize_columns(const struct normalizing *normalizing, size_t block, size_t from,
                              size_t to)
{
    const struct encoder *encoder = normalizing->pass->encoder;
    const struct operand *next = &normalizing->next;
    size_t hidden = encoder->config.hidden;
    size_t first = operand_start(next, block);
    float *out = normalizing->pass->workspace->hidden + first * hidden;
    const struct layernorm_args args = {
        .x = normalizing->sums + first * hidden,
        .rows = operand_start(next, block + 1) - first,
        .width = hidden,
        .from = from,
        .to = to,
        .gamma = normalizing->norm->gamma,
        .beta = normalizing->norm->beta,
        .eps = encoder->config.layer_norm_eps,
        .out = out,
    };
    encoder->ops->layernorm(&args);
    if (normalizing->packs) {
        operand_pack(next, block, out + from, hidden, from, to);
    }
}

static void normalize_block(void *context, size_t block, size_t span)
{
    (void)span;
    const struct normalizing *normalizing = context;
    normalize_columns(normalizing, block, 0, normalizing->pass->encoder->config.hidden);
}

static unsigned whole_panels(const void *context, size_t block, size_t span)
{
    (void)block;
    (void)span;
    return ((const struct normalizing *)context)->parts;
}

/* Rows [from,to) of out [T,H]: word + position + type. RoBERTa counts positions behind its pad
 * token's id and leaves pad tokens themselves out of the count. */
static void embed_rows(const struct pass *pass, size_t from, size_t to, float *out)
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
                            out + t * hidden);
            }
            position += !pad;
        }
    }
}

/* Row blocks → LayerNorm, shared evenly behind a barrier: where there are fewer than members, the
 * columns of each, though everyone needs the rows' statistics. */
static void normalize_apart(const struct pass *pass, const struct normalizing *normalizing)
{
    const struct operand *next = &normalizing->next;
    size_t hidden = pass->encoder->config.hidden;
    size_t unit = size_max(operand_unit(next->linear), COLUMNS_LEAST);
    size_t units = size_div_up(hidden, unit);
    size_t parts = size_min(size_max(pass->team->width / next->blocks, 1), units);
    size_t from;
    size_t to;
    team_barrier(pass->team);
    team_share(pass->team, pass->member, next->blocks * parts, 1, &from, &to);
    for (size_t nth = from; nth < to; nth++) {
        size_t part = nth % parts;
        normalize_columns(normalizing, nth / parts, units * part / parts * unit,
                          size_min(units * (part + 1) / parts * unit, hidden));
    }
}

/* Row blocks → hidden states; in a wide team rows first, then what normalize_apart shares. */
static void embed(struct pass *pass)
{
    bool apart = pass->team->width >= WIDE_TEAM;
    const struct normalizing normalizing = {
        .pass = pass,
        .norm = &pass->encoder->embeddings_norm,
        .sums = apart ? pass->workspace->context : pass->workspace->hidden,
        .next = inputs_of(pass, pass->from_layer, MATRIX_QKV),
        .packs = true,
    };
    size_t from;
    size_t to;
    if (apart) {
        team_share(pass->team, pass->member, pass->batch->total, 1, &from, &to);
        embed_rows(pass, from, to, pass->workspace->context);
        normalize_apart(pass, &normalizing);
    } else {
        team_share(pass->team, pass->member, normalizing.next.blocks, 1, &from, &to);
        for (size_t block = from; block < to; block++) {
            embed_rows(pass, operand_start(&normalizing.next, block),
                       operand_start(&normalizing.next, block + 1), pass->workspace->hidden);
            normalize_columns(&normalizing, block, 0, pass->encoder->config.hidden);
        }
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

/* Whether what the first FFN matrix gives is packed by who writes the last panel of a span, not by
 * a member that has all of the span's: finer shares, where there are few. */
static bool shares_inner(const struct pass *pass, const struct linear *linears)
{
    const struct linear *linear = &linears[MATRIX_FFN_IN];
    return pass->team->width >= WIDE_TEAM &&
           linear_span_panels(linear, &linears[MATRIX_FFN_OUT]) > 1 &&
           operand_blocks(linear, pass->batch->total) <= SHARED_BLOCKS;
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
    const struct linear *packs = after == MATRIX_FFN_IN && !shares_inner(pass, linears)
                                     ? &linears[MATRIX_FFN_OUT]
                                     : NULL;
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
    /* Apart, a row's sums are read while its columns are written. */
    float *sums = apart ? pass->workspace->context : pass->workspace->hidden;
    struct normalizing normalizing = {
        .pass = pass,
        .norm = norm,
        .sums = sums,
        .next = inputs_of(pass, packs ? next_layer : layer, next),
        .packs = packs,
        .parts = (unsigned)linear->panels,
    };
    const struct completion completion = {
        .done = pass->workspace->done,
        .spans = 1,
        .whole = whole_panels,
        .complete = normalize_block,
        .context = &normalizing,
    };
    const struct linear_call call = {
        .finish = FINISH_ADD,
        .residual = pass->workspace->hidden,
        .residual_ld = linear->out,
        .out = sums,
        .out_ld = linear->out,
        .completion = apart ? NULL : &completion,
    };
    multiply(pass, layer, matrix, call);
    if (apart) {
        normalize_apart(pass, &normalizing);
    }
    phase_end(pass, phase);
}

/* Rows [T,K] that members write in parts → packed, a span of columns at a time. */
struct packing {
    const struct pass *pass;
    struct operand next;
    const float *rows; /* [T,K] */
    size_t span;       /* columns, a multiple of `part` */
    size_t part;       /* columns that are written at once: of a head, or of a panel */
    bool by_rows;      /* a part is one row's, else a block's */
    bool by_spans;     /* rows is [block][span][rows][columns of the span] instead */
};

static size_t packing_end(const struct packing *packing, size_t span)
{
    return size_min((span + 1) * packing->span, packing->next.linear->in);
}

static unsigned whole_span(const void *context, size_t block, size_t span)
{
    const struct packing *packing = context;
    size_t columns = packing_end(packing, span) - span * packing->span;
    size_t rows = operand_start(&packing->next, block + 1) - operand_start(&packing->next, block);
    return (unsigned)(size_div_up(columns, packing->part) * (packing->by_rows ? rows : 1));
}

static void pack_span(void *context, size_t block, size_t span)
{
    const struct packing *packing = context;
    const struct operand *next = &packing->next;
    size_t width = next->linear->in;
    size_t from = span * packing->span;
    size_t to = packing_end(packing, span);
    size_t first = operand_start(next, block);
    size_t rows = operand_start(next, block + 1) - first;
    operand_pack(next, block,
                 packing->rows + first * width + (packing->by_spans ? from * rows : from),
                 packing->by_spans ? to - from : width, from, to);
}

/* packing: stays the caller's. */
static struct completion completion_of(struct packing *packing)
{
    return (struct completion){
        .done = packing->pass->workspace->done,
        .spans = size_div_up(packing->next.linear->in, packing->span),
        .whole = whole_span,
        .complete = pack_span,
        .context = packing,
    };
}

/* One head of rows [from,to) is there. */
static void head_written(void *context, size_t head, size_t from, size_t to)
{
    const struct completion *completion = context;
    const struct packing *packing = completion->context;
    const struct operand *next = &packing->next;
    size_t span = head * packing->part / packing->span;
    for (size_t block = operand_block_of(next, from);
         block < next->blocks && operand_start(next, block) < to; block++) {
        size_t first = size_max(operand_start(next, block), from);
        size_t end = size_min(operand_start(next, block + 1), to);
        completion_add(completion, block, span, (unsigned)(end - first));
    }
}

/* Columns of heads that are packed at once: as few as can be. */
static size_t heads_span(const struct linear *linear, size_t head_width)
{
    size_t unit = operand_unit(linear);
    if (head_width % unit == 0) {
        return head_width;
    }
    return unit % head_width == 0 ? unit : linear->in;
}

static void attend(struct pass *pass, size_t layer)
{
    const struct config *config = &pass->encoder->config;
    size_t head_width = config->hidden / config->heads;
    const struct operand next = inputs_of(pass, layer, MATRIX_ATTENTION_OUT);
    struct packing packing = {
        .pass = pass,
        .next = next,
        .rows = pass->workspace->context,
        .span = heads_span(next.linear, head_width),
        .part = head_width,
        .by_rows = true,
    };
    struct completion completion = completion_of(&packing);
    const struct attention_call call = {
        .ops = pass->encoder->ops,
        .tile = pass->encoder->attention,
        .qkv = pass->workspace->qkv,
        .batch = pass->batch,
        .heads = config->heads,
        .head_width = head_width,
        .out = pass->workspace->context,
        .written = head_written,
        .context = &completion,
    };
    attention_run(&call, pass->team, pass->member, pass->scratch);
    phase_end(pass, PHASE_ATTENTION);
}

static void expand(struct pass *pass, size_t layer)
{
    const struct linear *linears = pass->encoder->layers[layer].linear;
    const struct operand inner = inputs_of(pass, layer, MATRIX_FFN_OUT);
    struct linear_call call = {.finish = activation_finish(pass->encoder->config.activation)};
    if (shares_inner(pass, linears)) {
        const struct linear *linear = &linears[MATRIX_FFN_IN];
        size_t panels = linear_span_panels(linear, inner.linear);
        struct packing packing = {
            .pass = pass,
            .next = inner,
            .rows = pass->workspace->inner,
            .span = panels * linear->kernel->columns,
            .part = linear->kernel->columns,
            .by_spans = true,
        };
        const struct completion completion = completion_of(&packing);
        call.out = pass->workspace->inner;
        call.out_ld = linear->out;
        call.completion = &completion;
        call.completion_panels = panels;
        multiply(pass, layer, MATRIX_FFN_IN, call);
    } else {
        call.next = &inner;
        multiply(pass, layer, MATRIX_FFN_IN, call);
    }
    phase_end(pass, PHASE_FFN_IN);
}

static void run_layer(struct pass *pass, size_t l)
{
    const struct layer *layer = &pass->encoder->layers[l];
    const struct linear_call qkv = {
        .finish = FINISH_BIAS,
        .out = pass->workspace->qkv,
        .out_ld = layer->linear[MATRIX_QKV].out,
    };
    multiply(pass, l, MATRIX_QKV, qkv);
    phase_end(pass, PHASE_QKV);
    attend(pass, l);
    multiply_add(pass, l, MATRIX_ATTENTION_OUT, &layer->attention_norm, l, MATRIX_FFN_IN,
                 PHASE_ATTENTION_OUT);
    expand(pass, l);
    multiply_add(pass, l, MATRIX_FFN_OUT, &layer->ffn_norm, l + 1, MATRIX_QKV, PHASE_FFN_OUT);
}

/* One part of the hidden states → what the caller asked for. */
static void leave_part(const struct pass *pass, enum pooling pooling, const struct pool_part *part,
                       const struct outputs *out)
{
    const struct batch *batch = pass->batch;
    const float *hidden = pass->workspace->hidden;
    size_t width = pass->encoder->config.hidden;
    if (out->pooled) {
        pool_text(hidden, batch, width, pooling, part, out->pooled);
    }
    if (out->cls) {
        pool_text(hidden, batch, width, POOLING_CLS, part, out->cls);
    }
    for (size_t t = batch->starts[part->text]; out->tokens && t < batch->starts[part->text + 1];
         t++) {
        memcpy(out->tokens + t * width + part->from, hidden + t * width + part->from,
               (part->to - part->from) * sizeof *hidden);
    }
}

/* This member's share of the texts; of their columns, too, where there are few. */
static void leave(struct pass *pass, enum pooling pooling, const struct outputs *out)
{
    size_t width = pass->encoder->config.hidden;
    size_t units = size_div_up(width, COLUMNS_LEAST);
    size_t parts = size_min(size_max(pass->team->width / pass->batch->n, 1), units);
    size_t from;
    size_t to;
    team_share(pass->team, pass->member, pass->batch->n * parts, 1, &from, &to);
    for (size_t nth = from; nth < to; nth++) {
        const struct pool_part part = {
            .text = nth / parts,
            .from = units * (nth % parts) / parts * COLUMNS_LEAST,
            .to = size_min(units * (nth % parts + 1) / parts * COLUMNS_LEAST, width),
        };
        leave_part(pass, pooling, &part, out);
    }
    phase_end(pass, PHASE_POOL);
}

static void run_layers(struct pass *pass)
{
    const struct batch *batch = pass->batch;
    CHECK(batch->n <= pass->workspace->max_texts && batch->total <= pass->workspace->max_tokens);
    CHECK(batch->total > 0); /* its row blocks are divided among the members */
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
    leave(&pass, pooling, out);
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
