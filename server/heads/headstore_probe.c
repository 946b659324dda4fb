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

enum err_code probes_init(const struct model *model, enum pooling pooling,
                          struct probes *ret_probes, struct err *err)
{
    struct batch batch = {0};
    struct workspace *workspace = NULL;
    float *embeddings = calloc(PROBE_TEXTS * model->config.hidden, sizeof *embeddings);
    enum err_code code = ERR_OK;
    if (!embeddings || !batch_init(&batch, PROBE_TEXTS, PROBE_TEXTS * PROBE_TOKENS)) {
        code = err_nomem(err, PROBE_TEXTS * model->config.hidden * sizeof *embeddings);
    }
    if (code == ERR_OK) {
        code = fill(model, &batch, err);
    }
    if (code == ERR_OK) {
        code = workspace_create(model->encoder, PROBE_TEXTS, PROBE_TEXTS * PROBE_TOKENS, 1,
                                &workspace, err);
    }
    if (code == ERR_OK) {
        struct team team;
        team_init(&team, 1);
        encoder_forward(model->encoder, workspace, &batch, pooling, &team, 0,
                        &(struct outputs){.pooled = embeddings});
        *ret_probes = (struct probes){
            .embeddings = embeddings, .n = PROBE_TEXTS, .hidden = model->config.hidden};
        embeddings = NULL;
    }
    workspace_destroy(workspace);
    batch_done(&batch);
    free(embeddings);
    return code;
}

void probes_done(struct probes *probes)
{
    free(probes->embeddings);
    *probes = (struct probes){.embeddings = NULL};
}

static enum err_code try_head(const struct probes *probes, const struct head *head,
                              const char *name, struct err *err)
{
    size_t count;
    size_t bytes;
    float *scores = NULL;
    if (size_mul(probes->n, head->classes, &count) && size_mul(count, sizeof *scores, &bytes)) {
        scores = malloc(bytes);
    }
    if (!scores) {
        return err_nomem(err, probes->n * head->classes);
    }
    head_logits(head, probes->embeddings, probes->n, probes->hidden, scores);
    enum err_code code = ERR_OK;
    for (size_t i = 0; i < probes->n; i++) {
        float *row = scores + i * head->classes;
        bool finite = true;
        for (size_t k = 0; k < head->classes; k++) {
            finite = finite && isfinite(row[k]);
        }
        head_softmax(row, head->classes);
        for (size_t k = 0; k < head->classes; k++) {
            finite = finite && isfinite(row[k]);
        }
        if (!finite) {
            code = err_set(err, ERR_INVALID, "%s: a probe text gets a score that is not finite",
                           name);
        }
    }
    free(scores);
    return code;
}

enum err_code probes_try(const struct probes *probes, const struct heads *heads, struct err *err)
{
    for (int kind = 0; kind < HEAD_COUNT; kind++) {
        if (heads_has(heads, (enum head_kind)kind)) {
            enum err_code code = try_head(probes, &heads->head[kind],
                                          head_name((enum head_kind)kind), err);
            if (code != ERR_OK) {
                return code;
            }
        }
    }
    return ERR_OK;
}
