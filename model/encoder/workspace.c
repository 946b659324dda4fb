/* The scratch of one forward pass. */
#include <stdlib.h>

#include "base/size.h"
#include "model/encoder/attention.h"
#include "model/encoder/encoder_private.h"

/* The largest scratch that any phase asks of one thread. */
static size_t scratch_bytes(const struct encoder *encoder, size_t max_tokens)
{
    const struct config *config = &encoder->config;
    const struct layer *layer = &encoder->layers[0];
    size_t longest = size_min(max_tokens, config->positions);
    size_t bytes = attention_scratch_bytes(encoder->attention, longest,
                                           config->hidden / config->heads);
    for (enum matrix m = 0; m < MATRIX_COUNT; m++) {
        const struct linear *next = m == MATRIX_FFN_IN ? &layer->linear[MATRIX_FFN_OUT] : NULL;
        bytes = size_max(bytes, linear_scratch_bytes(&layer->linear[m], next));
    }
    return size_round_up(bytes, PAGES_ALIGN);
}

static void workspace_layout(const struct encoder *encoder, struct workspace *workspace,
                             struct region *region)
{
    const struct linear *linear = encoder->layers[0].linear;
    size_t tokens = workspace->max_tokens;
    size_t hidden = encoder->config.hidden;
    workspace->hidden = region_take(region, tokens * hidden, sizeof(float));
    size_t qkv = size_round_up(tokens * 3 * hidden, PAGES_ALIGN / sizeof(float));
    size_t both = size_max(qkv + tokens * hidden, tokens * encoder->config.intermediate);
    workspace->qkv = region_take(region, both, sizeof(float));
    workspace->context = region->base ? workspace->qkv + qkv : NULL;
    workspace->inner = workspace->qkv;
    workspace->hidden_packed = region_take(region,
                                           size_max(operand_bytes(&linear[MATRIX_QKV], tokens),
                                                    operand_bytes(&linear[MATRIX_FFN_IN], tokens)),
                                           1);
    workspace->context_packed = region_take(
        region, operand_bytes(&linear[MATRIX_ATTENTION_OUT], tokens), 1);
    workspace->inner_packed = region_take(region, operand_bytes(&linear[MATRIX_FFN_OUT], tokens),
                                          1);
    size_t spans = size_max(encoder->config.heads, linear[MATRIX_FFN_OUT].groups);
    workspace->done = region_take(region, operand_blocks(&linear[MATRIX_QKV], tokens) * spans,
                                  sizeof *workspace->done);
}

enum err_code scratch_create(const struct encoder *encoder, size_t max_tokens,
                             struct scratch **ret_scratch, struct err *err)
{
    struct scratch *scratch = calloc(1, sizeof *scratch);
    if (!scratch) {
        return err_nomem(err, sizeof *scratch);
    }
    scratch->max_tokens = max_tokens;
    scratch->bytes = scratch_bytes(encoder, max_tokens);
    scratch->memory = pages_alloc(scratch->bytes);
    if (!scratch->memory) {
        enum err_code code = err_nomem(err, scratch->bytes);
        scratch_destroy(scratch);
        return code;
    }
    *ret_scratch = scratch;
    return ERR_OK;
}

void scratch_destroy(struct scratch *scratch)
{
    if (!scratch) {
        return;
    }
    pages_free(scratch->memory, scratch->bytes);
    free(scratch);
}

enum err_code workspace_create(const struct encoder *encoder, size_t max_texts, size_t max_tokens,
                               struct workspace **ret_workspace, struct err *err)
{
    if (max_texts == 0 || max_tokens == 0 || max_tokens > WORKSPACE_TOKENS_MAX) {
        return err_set(err, ERR_LIMIT, "a workspace holds 1 to %d tokens", WORKSPACE_TOKENS_MAX);
    }
    struct workspace *workspace = calloc(1, sizeof *workspace);
    if (!workspace) {
        return err_nomem(err, sizeof *workspace);
    }
    workspace->max_texts = max_texts;
    workspace->max_tokens = max_tokens;
    struct region region = {.base = NULL};
    workspace_layout(encoder, workspace, &region);
    workspace->memory_bytes = region.used;
    workspace->memory = pages_alloc(workspace->memory_bytes);
    if (!workspace->memory) {
        enum err_code code = err_nomem(err, workspace->memory_bytes);
        workspace_destroy(workspace);
        return code;
    }
    region = (struct region){.base = workspace->memory};
    workspace_layout(encoder, workspace, &region);
    enum err_code code = scratch_create(encoder, max_tokens, &workspace->scratch, err);
    if (code != ERR_OK) {
        workspace_destroy(workspace);
        return code;
    }
    *ret_workspace = workspace;
    return ERR_OK;
}

void workspace_destroy(struct workspace *workspace)
{
    if (!workspace) {
        return;
    }
    scratch_destroy(workspace->scratch);
    pages_free(workspace->memory, workspace->memory_bytes);
    free(workspace);
}

struct scratch *workspace_scratch(struct workspace *workspace)
{
    return workspace->scratch;
}

const float *workspace_hidden(const struct workspace *workspace)
{
    return workspace->hidden;
}

void workspace_observe(struct workspace *workspace, struct observer *observer)
{
    workspace->observer = observer;
}
