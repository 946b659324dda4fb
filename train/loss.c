#include "train/loss.h"

#include <math.h>
#include <string.h>

#include "train/dense.h"

double losses_mean(const struct losses *losses, enum head_kind kind)
{
    return losses->labelled[kind] == 0 ? 0 : losses->sum[kind] / (double)losses->labelled[kind];
}

double losses_total(const struct losses *losses, const double weights[HEAD_COUNT])
{
    double total = 0;
    for (enum head_kind kind = 0; kind < HEAD_COUNT; kind++) {
        total += weights[kind] * losses_mean(losses, kind);
    }
    return total;
}

double loss_cross_entropy(float *logits, size_t classes, size_t label, double weight)
{
    double max = (double)logits[0];
    for (size_t k = 1; k < classes; k++) {
        max = fmax(max, (double)logits[k]);
    }
    double sum = 0;
    for (size_t k = 0; k < classes; k++) {
        sum += exp((double)logits[k] - max);
    }
    double loss = max + log(sum) - (double)logits[label];
    for (size_t k = 0; k < classes; k++) {
        double p = exp((double)logits[k] - max) / sum;
        logits[k] = (float)(weight * (p - (k == label ? 1.0 : 0.0)));
    }
    return loss;
}

static int32_t best_class(const float *logits, size_t classes)
{
    size_t best = 0;
    for (size_t k = 1; k < classes; k++) {
        if (logits[k] > logits[best]) {
            best = k;
        }
    }
    return (int32_t)best;
}

/* The heads are small: one thread, as a team of one. */
static struct part solo(struct team *team)
{
    team_init(team, 1);
    return (struct part){team, 0};
}

void loss_forward(struct loss_pass *pass, struct losses *ret_losses)
{
    size_t hidden = pass->params->config.hidden;
    struct losses losses = {0};
    struct team team;
    for (enum head_kind kind = 0; kind < HEAD_COUNT; kind++) {
        size_t classes = pass->params->classes[kind];
        if (classes == 0) {
            continue;
        }
        const struct head_views *head = &pass->params->value.head[kind];
        size_t from, to;
        dense_forward(solo(&team), pass->pooled, head->w, head->b, pass->n, hidden, classes,
                      pass->logits[kind], &from, &to);
        for (size_t i = 0; i < pass->n; i++) {
            losses.labelled[kind] += pass->labels[kind][i] != LABEL_NONE;
        }
        for (size_t i = 0; i < pass->n; i++) {
            float *logits = pass->logits[kind] + i * classes;
            pass->predicted[kind][i] = best_class(logits, classes);
            if (pass->labels[kind][i] == LABEL_NONE) {
                memset(logits, 0, classes * sizeof *logits);
                continue;
            }
            losses.sum[kind] += loss_cross_entropy(logits, classes, (size_t)pass->labels[kind][i],
                                                   pass->weights[kind] /
                                                       (double)losses.labelled[kind]);
        }
    }
    *ret_losses = losses;
}

void loss_backward(const struct loss_pass *pass, float *dpooled)
{
    size_t hidden = pass->params->config.hidden;
    struct team team;
    if (dpooled) {
        memset(dpooled, 0, pass->n * hidden * sizeof *dpooled);
    }
    for (enum head_kind kind = 0; kind < HEAD_COUNT; kind++) {
        size_t classes = pass->params->classes[kind];
        if (classes == 0) {
            continue;
        }
        const struct head_views *grad = &pass->params->grad.head[kind];
        if (grad->w) {
            dense_backward_weights(solo(&team), pass->logits[kind], pass->pooled, pass->n, hidden,
                                   classes, grad->w, grad->b);
        }
        if (dpooled) {
            size_t from, to;
            dense_backward_input(solo(&team), pass->logits[kind], pass->params->value.head[kind].w,
                                 pass->n, hidden, classes, 1, dpooled, &from, &to);
        }
    }
}
