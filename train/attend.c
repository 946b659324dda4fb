#include "train/attend.h"

#include <cblas.h>
#include <math.h>
#include <string.h>

#include "train/kernels/kernels.h"

/* One (text, head) pair. */
struct pair {
    size_t n;     /* tokens of the text */
    size_t token; /* its first */
    size_t probs; /* where its n² probabilities begin */
    size_t index; /* of the pair: the dropout's rows */
    size_t column;
};

/* Walks this member's pairs: they are dealt out by work, n² each, in contiguous runs. */
struct walk {
    const struct batch *batch;
    size_t heads, width;
    size_t text, head;
    size_t probs, rows;
    size_t from, to; /* this member's share of all probabilities */
};

size_t attend_probs_count(const struct batch *batch, size_t heads)
{
    size_t count = 0;
    for (size_t i = 0; i < batch->n; i++) {
        size_t n = batch->starts[i + 1] - batch->starts[i];
        count += heads * n * n;
    }
    return count;
}

static struct walk walk_start(struct part part, const struct attend_shape *shape,
                              const struct batch *batch)
{
    struct walk walk = {
        .batch = batch, .heads = shape->heads, .width = shape->hidden / shape->heads};
    part_share(part, attend_probs_count(batch, shape->heads), 1, &walk.from, &walk.to);
    return walk;
}

/* The next pair whose first probability lies in the share; false behind the last. */
static bool walk_next(struct walk *walk, struct pair *ret_pair)
{
    while (walk->text < walk->batch->n) {
        size_t token = walk->batch->starts[walk->text];
        size_t n = walk->batch->starts[walk->text + 1] - token;
        struct pair pair = {n, token, walk->probs, walk->rows, walk->head * walk->width};
        walk->probs += n * n;
        walk->rows += n;
        if (++walk->head == walk->heads) {
            walk->head = 0;
            walk->text++;
        }
        if (pair.probs >= walk->from && pair.probs < walk->to) {
            *ret_pair = pair;
            return true;
        }
    }
    return false;
}

/* The probabilities as they were multiplied: dropped out into scratch, or as they are. */
static const float *dropped(const struct dropout *dropout, const struct pair *pair,
                            const float *probs, float *scratch)
{
    if (dropout->rate <= 0) {
        return probs;
    }
    memcpy(scratch, probs, pair->n * pair->n * sizeof *scratch);
    for (size_t i = 0; i < pair->n; i++) {
        dropout_row(dropout, pair->index + i, scratch + i * pair->n, pair->n);
    }
    return scratch;
}

void attend_forward(struct part part, const struct attend_shape *shape, const struct batch *batch,
                    const float *qkv, const struct dropout *dropout, float *probs, float *context,
                    float *scratch)
{
    const struct train_kernels *kernels = train_kernels_get();
    blasint h = (blasint)shape->hidden;
    blasint d = (blasint)(shape->hidden / shape->heads);
    float scale = 1.0f / sqrtf((float)d);
    struct walk walk = walk_start(part, shape, batch);
    struct pair pair;
    while (walk_next(&walk, &pair)) {
        blasint n = (blasint)pair.n;
        const float *q = qkv + pair.token * 3 * shape->hidden + pair.column;
        const float *k = q + shape->hidden;
        const float *v = k + shape->hidden;
        float *p = probs + pair.probs;
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, n, n, d, 1.0f, q, 3 * h, k, 3 * h,
                    0.0f, p, n);
        for (size_t i = 0; i < pair.n; i++) {
            kernels->softmax(p + i * pair.n, pair.n, scale);
        }
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, n, d, n, 1.0f,
                    dropped(dropout, &pair, p, scratch), n, v, 3 * h, 0.0f,
                    context + pair.token * shape->hidden + pair.column, h);
    }
}

void attend_backward(struct part part, const struct attend_shape *shape, const struct batch *batch,
                     const float *qkv, const float *probs, const struct dropout *dropout,
                     const float *dcontext, float *dqkv, float *scratch)
{
    const struct train_kernels *kernels = train_kernels_get();
    blasint h = (blasint)shape->hidden;
    blasint d = (blasint)(shape->hidden / shape->heads);
    float scale = 1.0f / sqrtf((float)d);
    struct walk walk = walk_start(part, shape, batch);
    struct pair pair;
    while (walk_next(&walk, &pair)) {
        blasint n = (blasint)pair.n;
        size_t at = pair.token * 3 * shape->hidden + pair.column;
        const float *q = qkv + at;
        const float *k = q + shape->hidden;
        const float *v = k + shape->hidden;
        float *dq = dqkv + at;
        float *dk = dq + shape->hidden;
        float *dv = dk + shape->hidden;
        const float *dc = dcontext + pair.token * shape->hidden + pair.column;
        const float *p = probs + pair.probs;
        float *dp = scratch + pair.n * pair.n;

        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, n, d, n, 1.0f,
                    dropped(dropout, &pair, p, scratch), n, dc, h, 0.0f, dv, 3 * h);
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, n, n, d, 1.0f, dc, h, v, 3 * h, 0.0f,
                    dp, n);
        for (size_t i = 0; i < pair.n; i++) {
            dropout_row(dropout, pair.index + i, dp + i * pair.n, pair.n);
            kernels->softmax_backward(p + i * pair.n, pair.n, scale, dp + i * pair.n);
        }
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, n, d, n, 1.0f, dp, n, k, 3 * h, 0.0f,
                    dq, 3 * h);
        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, n, d, n, 1.0f, dp, n, q, 3 * h, 0.0f,
                    dk, 3 * h);
    }
}
