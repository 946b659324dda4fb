#include "train/measure/loss.h"

#include <math.h>
#include <string.h>

#include "train/network/dense.h"

double losses_mean(const struct losses *losses, size_t task)
{
    return losses->divisor[task] > 0 ? losses->sum[task] / losses->divisor[task] : 0;
}

double losses_total(const struct losses *losses, const struct tasks *tasks)
{
    double total = 0;
    for (size_t i = 0; i < tasks->n; i++) {
        total += tasks->at[i].weight * losses_mean(losses, i);
    }
    return total;
}

void losses_add(struct losses *losses, const struct losses *more)
{
    for (size_t i = 0; i < TASKS_MAX; i++) {
        losses->sum[i] += more->sum[i];
        losses->divisor[i] += more->divisor[i];
        losses->labelled[i] += more->labelled[i];
    }
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

double loss_binary(double logit, double target, double positive, double *ret_gradient)
{
    /* -log σ(x) = log(1 + e^-x), without overflow on either side. */
    double rest = log1p(exp(-fabs(logit)));
    double minus_log_p = fmax(-logit, 0) + rest;
    double minus_log_q = fmax(logit, 0) + rest;
    double p = logit >= 0 ? 1 / (1 + exp(-logit)) : exp(logit) / (1 + exp(logit));
    *ret_gradient = (1 - target) * p - positive * target * (1 - p);
    return positive * target * minus_log_p + (1 - target) * minus_log_q;
}

/* The heads are small: one thread, as a team of one. */
static struct part solo(struct team *team)
{
    team_init(team, 1);
    return (struct part){team, 0};
}

/* ---- the dense layer's activation; reference: torch's tanh, relu, gelu (erf) ---- */

static void activate(enum head_activation activation, float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double v = (double)x[i];
        x[i] = activation == HEAD_TANH   ? (float)tanh(v)
               : activation == HEAD_RELU ? (x[i] > 0 ? x[i] : 0)
                                         : (float)(0.5 * v * (1 + erf(v * 0.70710678118654752)));
    }
}

/* dx = dy · f'(x); x is the sum before the activation. */
static void activate_backward(enum head_activation activation, const float *x, float *dy, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double v = (double)x[i];
        double slope;
        if (activation == HEAD_TANH) {
            slope = 1 - tanh(v) * tanh(v);
        } else if (activation == HEAD_RELU) {
            slope = v > 0;
        } else {
            slope = 0.5 * (1 + erf(v * 0.70710678118654752)) +
                    v * exp(-0.5 * v * v) * 0.3989422804014327;
        }
        dy[i] = (float)((double)dy[i] * slope);
    }
}

/* ---- forward ---- */

static double text_weight(const struct task *task, const struct lesson_labels *labels, size_t t,
                          size_t i)
{
    double weight = labels->weights ? (double)labels->weights[i] : 1;
    if (task->type == HEAD_SOFTMAX && task->class_weights) {
        weight *= (double)task->class_weights[labels->labels[t][i]];
    }
    return weight;
}

void loss_divisors(const struct tasks *tasks, const struct lesson_labels *labels, size_t n,
                   double *ret_divisors)
{
    for (size_t t = 0; t < tasks->n; t++) {
        ret_divisors[t] = 0;
        for (size_t i = 0; tasks->at[t].classes > 0 && i < n; i++) {
            if (labels->labels[t][i] != LABEL_NONE) {
                ret_divisors[t] += text_weight(&tasks->at[t], labels, t, i);
            }
        }
    }
}

/* One text's loss; its logits become the gradient, times scale. */
static double text_loss(const struct task *task, float *logits, int32_t label, const float *targets,
                        double scale)
{
    if (task->type == HEAD_SOFTMAX) {
        return loss_cross_entropy(logits, task->classes, (size_t)label, scale);
    }
    if (task->type == HEAD_SCORE && task->identity) {
        double off = (double)logits[0] - (double)targets[0];
        logits[0] = (float)(scale * 2 * off);
        return off * off;
    }
    double loss = 0;
    for (size_t k = 0; k < task->classes; k++) {
        double gradient;
        double positive = task->class_weights ? (double)task->class_weights[k] : 1;
        loss += loss_binary((double)logits[k], (double)targets[k], positive, &gradient);
        logits[k] = (float)(scale * gradient / (double)task->classes);
    }
    return loss / (double)task->classes;
}

/* inner [N,M]: the sums before the activation stay, for the way back; dinner is behind it. */
static void head_forward(const struct loss_pass *pass, size_t t)
{
    const struct task *task = &pass->params->tasks.at[t];
    const struct head_views *head = &pass->params->value.head[t];
    size_t hidden = config_pooled_width(&pass->params->config);
    struct team team;
    size_t from, to;
    const float *x = pass->pooled;
    size_t in = hidden;
    if (task->inner > 0) {
        dense_forward(solo(&team), x, head->dense_w, head->dense_b, pass->n, hidden, task->inner,
                      pass->inner[t], &from, &to);
        memcpy(pass->dinner, pass->inner[t], pass->n * task->inner * sizeof(float));
        activate(task->activation, pass->dinner, pass->n * task->inner);
        x = pass->dinner;
        in = task->inner;
    }
    dense_forward(solo(&team), x, head->w, head->b, pass->n, in, task->classes, pass->logits[t],
                  &from, &to);
}

static void task_forward(struct loss_pass *pass, size_t t, double divisor, struct losses *losses)
{
    const struct task *task = &pass->params->tasks.at[t];
    size_t classes = task->classes;
    head_forward(pass, t);
    if (pass->keep) {
        memcpy(pass->keep[t], pass->logits[t], pass->n * classes * sizeof(float));
    }
    for (size_t i = 0; i < pass->n; i++) {
        float *logits = pass->logits[t] + i * classes;
        int32_t label = pass->labels.labels[t][i];
        const float *targets = task->type == HEAD_SOFTMAX ? NULL
                                                          : pass->labels.targets[t] + i * classes;
        pass->predicted[t][i] = (int32_t)head_best(logits, classes);
        if (label == LABEL_NONE) {
            memset(logits, 0, classes * sizeof *logits);
            continue;
        }
        float raw[HEADS_CLASSES_MAX];
        memcpy(raw, logits, classes * sizeof *raw);
        double weight = text_weight(task, &pass->labels, t, i);
        double scale = divisor > 0 ? task->weight * weight / divisor : 0;
        double loss = text_loss(task, logits, label, targets, scale);
        losses->sum[t] += weight * loss;
        losses->divisor[t] += weight;
        losses->labelled[t]++;
        if (pass->tallies) {
            tally_text(&pass->tallies[t], raw, label, targets, task->identity, loss);
        }
    }
}

void loss_forward(struct loss_pass *pass, struct losses *ret_losses)
{
    const struct tasks *tasks = &pass->params->tasks;
    struct losses losses = {0};
    double own[TASKS_MAX];
    const double *divisors = pass->divisors;
    if (!divisors) {
        loss_divisors(tasks, &pass->labels, pass->n, own);
        divisors = own;
    }
    for (size_t t = 0; t < tasks->n; t++) {
        if (tasks->at[t].classes > 0) {
            task_forward(pass, t, divisors[t], &losses);
        }
    }
    *ret_losses = losses;
}

/* ---- back ---- */

static void head_backward(const struct loss_pass *pass, size_t t, float *dpooled)
{
    const struct task *task = &pass->params->tasks.at[t];
    const struct head_views *grad = &pass->params->grad.head[t];
    const struct head_views *value = &pass->params->value.head[t];
    size_t hidden = config_pooled_width(&pass->params->config);
    size_t classes = task->classes;
    struct team team;
    size_t from, to;
    if (task->inner == 0) {
        if (grad->w) {
            dense_backward_weights(solo(&team), pass->logits[t], pass->pooled, pass->n, hidden,
                                   classes, grad->w, grad->b);
        }
        if (dpooled) {
            dense_backward_input(solo(&team), pass->logits[t], value->w, pass->n, hidden, classes,
                                 1, dpooled, &from, &to);
        }
        return;
    }
    size_t inner = task->inner;
    if (grad->w) {
        memcpy(pass->dinner, pass->inner[t], pass->n * inner * sizeof(float));
        activate(task->activation, pass->dinner, pass->n * inner);
        dense_backward_weights(solo(&team), pass->logits[t], pass->dinner, pass->n, inner, classes,
                               grad->w, grad->b);
    }
    dense_backward_input(solo(&team), pass->logits[t], value->w, pass->n, inner, classes, 0,
                         pass->dinner, &from, &to);
    activate_backward(task->activation, pass->inner[t], pass->dinner, pass->n * inner);
    if (grad->dense_w) {
        dense_backward_weights(solo(&team), pass->dinner, pass->pooled, pass->n, hidden, inner,
                               grad->dense_w, grad->dense_b);
    }
    if (dpooled) {
        dense_backward_input(solo(&team), pass->dinner, value->dense_w, pass->n, hidden, inner, 1,
                             dpooled, &from, &to);
    }
}

void loss_backward(const struct loss_pass *pass, float *dpooled)
{
    const struct tasks *tasks = &pass->params->tasks;
    if (dpooled) {
        memset(dpooled, 0, pass->n * config_pooled_width(&pass->params->config) * sizeof *dpooled);
    }
    for (size_t t = 0; t < tasks->n; t++) {
        if (tasks->at[t].classes > 0) {
            head_backward(pass, t, dpooled);
        }
    }
}
