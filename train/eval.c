#include "train/eval.h"

#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "train/loss.h"

static enum err_code count_head(const struct head *head, size_t hidden, const float *embeddings,
                                const struct dataset *data, const int32_t *labels,
                                struct tally *tally, struct err *err)
{
    float *logits = calloc(head->classes, sizeof *logits);
    if (!logits) {
        return err_nomem(err, head->classes * sizeof *logits);
    }
    for (size_t i = 0; i < data->n; i++) {
        if (labels[i] == LABEL_NONE) {
            continue;
        }
        int32_t predicted = 0;
        head_logits(head, embeddings + i * hidden, 1, logits);
        for (size_t k = 1; k < head->classes; k++) {
            predicted = logits[k] > logits[predicted] ? (int32_t)k : predicted;
        }
        double loss = loss_cross_entropy(logits, head->classes, (size_t)labels[i], 1);
        tally_add(tally, &labels[i], &predicted, 1, loss);
    }
    free(logits);
    return ERR_OK;
}

static enum err_code count_all(const struct model *model, const struct heads *heads,
                               const struct dataset *data, const float *embeddings,
                               struct eval_result *result, struct err *err)
{
    enum err_code code = ERR_OK;
    for (enum head_kind kind = 0; code == ERR_OK && kind < HEAD_COUNT; kind++) {
        const struct head *head = kinds_head(heads, kind);
        code = tally_init(&result->head[kind], head->classes, err);
        if (code == ERR_OK && head->classes > 0) {
            code = count_head(head, model->config.hidden, embeddings, data, data->labels[kind],
                              &result->head[kind], err);
        }
    }
    return code;
}

enum err_code eval_run(const struct model *model, const struct heads *heads, enum pooling pooling,
                       const char *data_path, size_t max_length, unsigned threads,
                       const struct frozen_progress *progress, struct eval_result *ret_result,
                       struct err *err)
{
    struct label_set sets[HEAD_COUNT];
    struct dataset data;
    struct eval_result result = {0};
    size_t useful = 0;
    for (enum head_kind kind = 0; kind < HEAD_COUNT; kind++) {
        sets[kind] = (struct label_set){kinds_head(heads, kind)->classes,
                                        kinds_head(heads, kind)->labels};
    }
    enum err_code code = kinds_check(heads, "heads", err);
    if (code == ERR_OK) {
        code = dataset_load(data_path, model->tokenizer, max_length, sets, &data, err);
    }
    if (code != ERR_OK) {
        return code;
    }
    for (enum head_kind kind = 0; kind < HEAD_COUNT; kind++) {
        useful += heads_has(heads, kind) ? data.labelled[kind] : 0;
    }
    size_t count = 0;
    float *embeddings = size_mul(data.n, model->config.hidden, &count)
                            ? calloc(count, sizeof *embeddings)
                            : NULL;
    if (useful == 0) {
        code = err_set(err, ERR_INVALID, "%s: no line has a label for a head of the file",
                       data_path);
    } else if (!embeddings) {
        code = err_nomem(err, count * sizeof *embeddings);
    } else {
        code = frozen_embed(model->encoder, &data, pooling, threads, progress, embeddings, err);
    }
    if (code == ERR_OK) {
        code = count_all(model, heads, &data, embeddings, &result, err);
    }
    result.n = data.n;
    free(embeddings);
    dataset_done(&data);
    if (code != ERR_OK) {
        eval_result_done(&result);
        return code;
    }
    *ret_result = result;
    return ERR_OK;
}

void eval_result_done(struct eval_result *result)
{
    if (result) {
        for (enum head_kind kind = 0; kind < HEAD_COUNT; kind++) {
            tally_done(&result->head[kind]);
        }
        *result = (struct eval_result){0};
    }
}
