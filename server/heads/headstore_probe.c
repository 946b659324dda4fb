/* Heads tried on probe texts before they serve. */
#include <math.h>

#include "base/size.h"
#include "server/heads/headstore_parts.h"

static const char *const probe_texts[] = {
    "",
    "The quick brown fox jumps over the lazy dog.",
    "I have never been so disappointed by a film.",
    "What has keys but can't open locks?",
};
enum { PROBE_TEXTS = sizeof probe_texts / sizeof probe_texts[0], PROBE_TOKENS = 16 };

static enum err_code fill(const struct model *model, struct batch *batch, struct err *err)
{
    const struct encode_options options = {
        .max_length = size_min(PROBE_TOKENS, model->config.positions),
        .add_special_tokens = true,
    };
    struct tokens tokens = {0};
    enum err_code code = ERR_OK;
    for (size_t i = 0; i < PROBE_TEXTS && code == ERR_OK; i++) {
        code = tokenizer_encode(model->tokenizer, probe_texts[i], strlen(probe_texts[i]), &options,
                                &tokens, err);
        if (code == ERR_OK && !batch_add(batch, tokens.ids, tokens.n)) {
            code = err_set(err, ERR_LIMIT, "the probe texts do not fit their batch");
        }
    }
    tokens_done(&tokens);
    return code;
}

enum err_code probes_init(const struct model *model, enum pooling pooling, unsigned threads,
                          struct probes *ret_probes, struct err *err)
{
    struct batch batch = {0};
    struct workspace *workspace = NULL;
    size_t hidden = model->config.hidden;
    struct probes probes = {
        .pooled = calloc(PROBE_TEXTS * vector_in(model->vector), sizeof *probes.pooled),
        .cls = calloc(PROBE_TEXTS * hidden, sizeof *probes.cls),
        .tokens = calloc(PROBE_TEXTS * PROBE_TOKENS * hidden, sizeof *probes.tokens),
        .n = PROBE_TEXTS,
    };
    enum err_code code = ERR_OK;
    if (!probes.pooled || !probes.cls || !probes.tokens ||
        !batch_init(&batch, PROBE_TEXTS, PROBE_TEXTS * PROBE_TOKENS)) {
        code = err_nomem(err, PROBE_TEXTS * PROBE_TOKENS * hidden * sizeof *probes.tokens);
    }
    if (code == ERR_OK) {
        code = fill(model, &batch, err);
    }
    if (code == ERR_OK) {
        code = workspace_create(model->encoder, PROBE_TEXTS, PROBE_TEXTS * PROBE_TOKENS, &workspace,
                                err);
    }
    if (code == ERR_OK) {
        encoder_forward_together(
            model->encoder, workspace, &batch, pooling, threads,
            &(struct outputs){.pooled = probes.pooled, .cls = probes.cls, .tokens = probes.tokens});
        probes.n_tokens = batch.total;
        *ret_probes = probes;
    } else {
        probes_done(&probes);
    }
    workspace_destroy(workspace);
    batch_done(&batch);
    return code;
}

void probes_done(struct probes *probes)
{
    free(probes->pooled);
    free(probes->cls);
    free(probes->tokens);
    *probes = (struct probes){.n = 0};
}

/* The rows that a head reads of the probes, and how many. */
static const float *rows_of(const struct probes *probes, const struct head *head, size_t *ret_n)
{
    *ret_n = head->input == HEAD_INPUT_TOKENS ? probes->n_tokens : probes->n;
    return head->input == HEAD_INPUT_POOLED ? probes->pooled
           : head->input == HEAD_INPUT_CLS  ? probes->cls
                                            : probes->tokens;
}

static enum err_code try_head(const struct probes *probes, const struct head *head, struct err *err)
{
    float scores[HEADS_CLASSES_MAX];
    size_t n;
    const float *rows = rows_of(probes, head, &n);
    for (size_t i = 0; i < n; i++) {
        bool finite = true;
        head_logits(head, rows + i * head->width, 1, scores);
        for (size_t k = 0; k < head->classes; k++) {
            finite = finite && isfinite(scores[k]);
        }
        head_scores(head, scores, scores);
        for (size_t k = 0; k < head->classes; k++) {
            finite = finite && isfinite(scores[k]);
        }
        if (!finite) {
            return err_set(err, ERR_INVALID, "%s: a probe text gets a score that is not finite",
                           head->name);
        }
    }
    return ERR_OK;
}

enum err_code probes_try(const struct probes *probes, const struct heads *heads, struct err *err)
{
    enum err_code code = ERR_OK;
    for (size_t i = 0; code == ERR_OK && i < heads->n; i++) {
        code = try_head(probes, &heads->list[i], err);
    }
    return code;
}
