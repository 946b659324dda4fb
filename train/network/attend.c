#include "train/network/attend.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "model/encoder/blas.h"
#include "train/network/kernels/kernels.h"

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

/* c [m,n] = op(a) · op(b), see struct blas_call. */
static void multiply(bool transpose_a, bool transpose_b, size_t m, size_t n, size_t k,
                     const float *a, size_t a_ld, const float *b, size_t b_ld, float *c,
                     size_t c_ld)
{
    const struct blas_call call = {
        .transpose_a = transpose_a,
        .transpose_b = transpose_b,
        .m = m,
        .n = n,
        .k = k,
        .a = a,
        .a_ld = a_ld,
        .b = b,
        .b_ld = b_ld,
        .c = c,
        .c_ld = c_ld,
    };
    blas_multiply(&call);
}

void attend_forward(struct part part, const struct attend_shape *shape, const struct batch *batch,
                    const float *qkv, const struct dropout *dropout, float *probs, float *context,
                    float *scratch)
{
    const struct train_kernels *kernels = train_kernels_get();
    size_t h = shape->hidden;
    size_t d = shape->hidden / shape->heads;
    float scale = 1.0f / sqrtf((float)d);
    struct walk walk = walk_start(part, shape, batch);
    struct pair pair;
    while (walk_next(&walk, &pair)) {
        size_t n = pair.n;
        const float *q = qkv + pair.token * 3 * shape->hidden + pair.column;
        const float *k = q + shape->hidden;
        const float *v = k + shape->hidden;
        float *p = probs + pair.probs;
        multiply(false, true, n, n, d, q, 3 * h, k, 3 * h, p, n);
        for (size_t i = 0; i < pair.n; i++) {
            kernels->softmax(p + i * pair.n, pair.n, scale);
        }
        multiply(false, false, n, d, n, dropped(dropout, &pair, p, scratch), n, v, 3 * h,
                 context + pair.token * shape->hidden + pair.column, h);
    }
}

void attend_backward(struct part part, const struct attend_shape *shape, const struct batch *batch,
                     const float *qkv, const float *probs, const struct dropout *dropout,
                     const float *dcontext, float *dqkv, float *scratch)
{
    const struct train_kernels *kernels = train_kernels_get();
    size_t h = shape->hidden;
    size_t d = shape->hidden / shape->heads;
    float scale = 1.0f / sqrtf((float)d);
    struct walk walk = walk_start(part, shape, batch);
    struct pair pair;
    while (walk_next(&walk, &pair)) {
        size_t n = pair.n;
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

        multiply(true, false, n, d, n, dropped(dropout, &pair, p, scratch), n, dc, h, dv, 3 * h);
        multiply(false, true, n, n, d, dc, h, v, 3 * h, dp, n);
        for (size_t i = 0; i < pair.n; i++) {
            dropout_row(dropout, pair.index + i, dp + i * pair.n, pair.n);
            kernels->softmax_backward(p + i * pair.n, pair.n, scale, dp + i * pair.n);
        }
        multiply(false, false, n, d, n, dp, n, k, 3 * h, dq, 3 * h);
        multiply(true, false, n, d, n, dp, n, q, 3 * h, dk, 3 * h);
    }
}
