#include "train/measure/temperature.h"

#include <math.h>
#include <stdlib.h>

#include "train/measure/loss.h"

/* log Σ exp(logits / T) of a row. */
static double log_sum(const float *logits, size_t classes, double temperature)
{
    double max = (double)logits[0];
    double sum = 0;
    for (size_t k = 1; k < classes; k++) {
        max = fmax(max, (double)logits[k]);
    }
    for (size_t k = 0; k < classes; k++) {
        sum += exp(((double)logits[k] - max) / temperature);
    }
    return max / temperature + log(sum);
}

/* Mean negative log-likelihood. */
static double nll(const struct judged *judged, double temperature)
{
    double sum = 0;
    size_t n = 0;
    for (size_t i = 0; i < judged->n; i++) {
        const float *row = judged->logits + i * judged->classes;
        if (judged->labels[i] < 0) {
            continue;
        }
        n++;
        if (judged->type == HEAD_SOFTMAX) {
            sum += log_sum(row, judged->classes, temperature) -
                   (double)row[judged->labels[i]] / temperature;
            continue;
        }
        for (size_t k = 0; k < judged->classes; k++) {
            double gradient;
            sum += loss_binary((double)row[k] / temperature,
                               (double)judged->targets[i * judged->classes + k], 1, &gradient) /
                   (double)judged->classes;
        }
    }
    return n > 0 ? sum / (double)n : 0;
}

double temperature_fit(const struct judged *judged)
{
    /* Golden-section search over log T: the loss has one minimum in 1/T. */
    const double ratio = 0.6180339887498949;
    double low = log(0.05);
    double high = log(20);
    double a = high - ratio * (high - low);
    double b = low + ratio * (high - low);
    double at_a = nll(judged, exp(a));
    double at_b = nll(judged, exp(b));
    bool labelled = false;
    for (size_t i = 0; i < judged->n; i++) {
        labelled = labelled || judged->labels[i] >= 0;
    }
    for (int i = 0; labelled && i < 40; i++) {
        if (at_a <= at_b) {
            high = b;
            b = a;
            at_b = at_a;
            a = high - ratio * (high - low);
            at_a = nll(judged, exp(a));
        } else {
            low = a;
            a = b;
            at_a = at_b;
            b = low + ratio * (high - low);
            at_b = nll(judged, exp(b));
        }
    }
    return labelled ? exp((low + high) / 2) : 1;
}

/* One score and whether it was right. */
struct claim {
    double confidence;
    bool right;
};

static int by_confidence(const void *a, const void *b)
{
    const struct claim *x = a;
    const struct claim *y = b;
    return (x->confidence > y->confidence) - (x->confidence < y->confidence);
}

static double sigmoid(double x)
{
    return x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x));
}

/* Fills claims and the Brier sum; returns how many. */
static size_t collect(const struct judged *judged, double temperature, struct claim *claims,
                      double *ret_brier)
{
    size_t n = 0;
    size_t classes = judged->classes;
    double brier = 0;
    for (size_t i = 0; i < judged->n; i++) {
        const float *row = judged->logits + i * classes;
        if (judged->labels[i] < 0) {
            continue;
        }
        double total = judged->type == HEAD_SOFTMAX ? log_sum(row, classes, temperature) : 0;
        for (size_t k = 0; k < classes; k++) {
            double logit = (double)row[k] / temperature;
            double score = judged->type == HEAD_SOFTMAX ? exp(logit - total) : sigmoid(logit);
            bool truth = judged->type == HEAD_SOFTMAX ? (size_t)judged->labels[i] == k
                                                      : judged->targets[i * classes + k] > 0.5f;
            brier += (score - truth) * (score - truth);
            if (judged->type == HEAD_SIGMOID || k == head_best(row, classes)) {
                claims[n++] = (struct claim){score, truth};
            }
        }
    }
    *ret_brier = brier;
    return n;
}

enum err_code reliability_measure(const struct judged *judged, double temperature,
                                  struct reliability *ret_reliability, struct err *err)
{
    size_t room = judged->n * (judged->type == HEAD_SIGMOID ? judged->classes : 1);
    struct claim *claims = calloc(room + 1, sizeof *claims);
    if (!claims) {
        return err_nomem(err, room * sizeof *claims);
    }
    struct reliability result = {.nll = nll(judged, temperature)};
    double brier;
    result.n = collect(judged, temperature, claims, &brier);
    qsort(claims, result.n, sizeof *claims, by_confidence);
    for (size_t bin = 0; result.n > 0 && bin < TEMPERATURE_BINS; bin++) {
        struct reliability_bin *out = &result.bins[bin];
        size_t from = bin * result.n / TEMPERATURE_BINS;
        size_t to = (bin + 1) * result.n / TEMPERATURE_BINS;
        for (size_t i = from; i < to; i++) {
            out->confidence += claims[i].confidence;
            out->accuracy += claims[i].right;
        }
        out->n = to - from;
        if (out->n > 0) {
            out->confidence /= (double)out->n;
            out->accuracy /= (double)out->n;
        }
        result.ece += (double)out->n / (double)result.n * fabs(out->confidence - out->accuracy);
    }
    result.brier = result.n > 0 ? brier / (double)result.n : 0;
    free(claims);
    *ret_reliability = result;
    return ERR_OK;
}
