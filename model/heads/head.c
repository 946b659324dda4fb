/* One head's arithmetic; model/heads/heads.c makes the sets. */
#include <math.h>

#include "model/heads/heads.h"

/* Partial sums kept side by side: a block of a constant length becomes vector code, and the order
 * of the additions is the same for every row. */
enum { LANES = 16 };

static float dot(const float *a, const float *b, size_t n)
{
    float lanes[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (size_t lane = 0; lane < LANES; lane++) {
            lanes[lane] += a[i + lane] * b[i + lane];
        }
    }
    for (size_t lane = 0; i < n; i++, lane++) {
        lanes[lane] += a[i] * b[i];
    }
    for (size_t width = LANES / 2; width; width /= 2) {
        for (size_t lane = 0; lane < width; lane++) {
            lanes[lane] += lanes[lane + width];
        }
    }
    return lanes[0];
}

static float activate(enum head_activation activation, float x)
{
    switch (activation) {
    case HEAD_TANH:
        return tanhf(x);
    case HEAD_RELU:
        return x > 0 ? x : 0;
    case HEAD_GELU:
        return 0.5f * x * (1 + erff(x * 0.70710678118654752f));
    case HEAD_ACTIVATIONS:
        break;
    }
    return x;
}

/* The activation's derivative at x. */
static double slope(enum head_activation activation, double x)
{
    switch (activation) {
    case HEAD_TANH:
        return 1 - tanh(x) * tanh(x);
    case HEAD_RELU:
        return x > 0 ? 1 : 0;
    case HEAD_GELU:
        return 0.5 * (1 + erf(x * 0.70710678118654752)) +
               x * exp(-0.5 * x * x) * 0.39894228040143268;
    case HEAD_ACTIVATIONS:
        break;
    }
    return 1;
}

void head_logits(const struct head *head, const float *rows, size_t n, float *logits)
{
    float inner[HEADS_INNER_MAX];
    for (size_t i = 0; i < n; i++) {
        const float *x = rows + i * head->width;
        size_t width = head->width;
        if (head->inner) {
            for (size_t m = 0; m < head->inner; m++) {
                float sum = dot(head->dense_weight + m * width, x, width) + head->dense_bias[m];
                inner[m] = activate(head->activation, sum);
            }
            x = inner;
            width = head->inner;
        }
        for (size_t k = 0; k < head->classes; k++) {
            logits[i * head->classes + k] = dot(head->weight + k * width, x, width) + head->bias[k];
        }
    }
}

void head_softmax(float *logits, size_t classes)
{
    float max = logits[0];
    for (size_t k = 1; k < classes; k++) {
        max = logits[k] > max ? logits[k] : max;
    }
    float sum = 0;
    for (size_t k = 0; k < classes; k++) {
        logits[k] = expf(logits[k] - max);
        sum += logits[k];
    }
    for (size_t k = 0; k < classes; k++) {
        logits[k] /= sum;
    }
}

/* Without overflow on either side. */
static float sigmoid(float x)
{
    float small = expf(-fabsf(x));
    return (x < 0 ? small : 1) / (1 + small);
}

void head_scores(const struct head *head, const float *logits, float *scores)
{
    for (size_t k = 0; k < head->classes; k++) {
        scores[k] = logits[k] / head->temperature;
    }
    if (head->type == HEAD_SOFTMAX || head->type == HEAD_TOKENS) {
        head_softmax(scores, head->classes);
    } else if (!head->identity) {
        for (size_t k = 0; k < head->classes; k++) {
            scores[k] = sigmoid(scores[k]);
        }
    }
}

size_t head_best(const float *scores, size_t classes)
{
    size_t best = 0;
    for (size_t k = 1; k < classes; k++) {
        if (scores[k] > scores[best] || (isnan(scores[best]) && !isnan(scores[k]))) {
            best = k;
        }
    }
    return best;
}

/* The gradient of logit k by the pooled vector [W], at pooled; what is no number of the model's
 * size is added up in double. */
static void gradient(const struct head *head, const float *pooled, size_t k, float *out)
{
    const float *w = head->weight + k * (head->inner ? head->inner : head->width);
    if (!head->inner) {
        for (size_t i = 0; i < head->width; i++) {
            out[i] = w[i];
        }
        return;
    }
    for (size_t i = 0; i < head->width; i++) {
        out[i] = 0;
    }
    for (size_t m = 0; m < head->inner; m++) {
        const float *row = head->dense_weight + m * head->width;
        float x = dot(row, pooled, head->width) + head->dense_bias[m];
        float factor = (float)(slope(head->activation, (double)x) * (double)w[m]);
        for (size_t i = 0; i < head->width; i++) {
            out[i] += factor * row[i];
        }
    }
}

void head_explain(const struct head *head, const float *hidden, size_t n, const float *pooled,
                  size_t k, float logit, float *scratch, float *shares, float *ret_bias)
{
    gradient(head, pooled, k, scratch);
    double sum = 0;
    for (size_t t = 0; t < n; t++) {
        const float *row = hidden + t * head->width;
        double share = 0;
        for (size_t i = 0; i < head->width; i++) {
            share += (double)scratch[i] * (double)row[i];
        }
        shares[t] = (float)(share / (double)n);
        sum += (double)shares[t];
    }
    if (head->inner) {
        *ret_bias = (float)((double)logit - sum);
        return;
    }
    *ret_bias = head->bias[k];
    /* The logit is a sum of floats whose terms may cancel: its rounding belongs to all tokens. */
    float rounding = (float)(((double)logit - (double)*ret_bias - sum) / (double)n);
    for (size_t t = 0; t < n; t++) {
        shares[t] += rounding;
    }
}

const char *head_type_name(enum head_type type)
{
    static const char *const names[HEAD_TYPES] = {
        [HEAD_SOFTMAX] = "softmax",
        [HEAD_SIGMOID] = "sigmoid",
        [HEAD_SCORE] = "score",
        [HEAD_TOKENS] = "tokens",
    };
    return names[type];
}

const char *head_input_name(enum head_input input)
{
    static const char *const names[HEAD_INPUTS] = {
        [HEAD_INPUT_POOLED] = "pooled",
        [HEAD_INPUT_CLS] = "cls",
        [HEAD_INPUT_TOKENS] = "tokens",
    };
    return names[input];
}

const char *head_activation_name(enum head_activation activation)
{
    static const char *const names[HEAD_ACTIVATIONS] = {
        [HEAD_TANH] = "tanh",
        [HEAD_RELU] = "relu",
        [HEAD_GELU] = "gelu",
    };
    return names[activation];
}
