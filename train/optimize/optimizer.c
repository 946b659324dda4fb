#include "train/optimize/optimizer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "train/network/kernels/kernels.h"

enum { CHUNK = 65536 };

static const double beta1 = 0.9;
static const double beta2 = 0.999;
static const double epsilon = 1e-8;

struct optimizer {
    struct params *params; /* borrowed */
    struct optimizer_options options;
    uint64_t steps;
    double *sums; /* of squares: one a chunk, or one a row of the word embeddings; owned */
};

static size_t param_chunks(const struct param *param)
{
    return param->by_rows ? param->shape[0] : size_div_up(param->count, CHUNK);
}

enum err_code optimizer_create(struct params *params, const struct optimizer_options *options,
                               struct optimizer **ret_optimizer, struct err *err)
{
    struct optimizer *optimizer = calloc(1, sizeof *optimizer);
    if (!optimizer) {
        return err_nomem(err, sizeof *optimizer);
    }
    *optimizer = (struct optimizer){.params = params, .options = *options};
    size_t chunks = 0;
    for (size_t i = 0; i < params->n; i++) {
        chunks += param_chunks(&params->at[i]);
    }
    optimizer->sums = calloc(chunks + 1, sizeof *optimizer->sums);
    if (!optimizer->sums) {
        free(optimizer);
        return err_nomem(err, chunks * sizeof(double));
    }
    *ret_optimizer = optimizer;
    return ERR_OK;
}

void optimizer_destroy(struct optimizer *optimizer)
{
    if (optimizer) {
        free(optimizer->sums);
        free(optimizer);
    }
}

uint64_t optimizer_steps(const struct optimizer *optimizer)
{
    return optimizer->steps;
}

void optimizer_set_steps(struct optimizer *optimizer, uint64_t steps)
{
    optimizer->steps = steps;
}

const char *optimizer_name(enum optimizer_kind kind)
{
    return kind == OPTIMIZER_ADAM ? "adam" : "adamw";
}

enum err_code optimizer_parse(const char *word, enum optimizer_kind *ret_kind, struct err *err)
{
    if (strcmp(word, "adam") == 0) {
        *ret_kind = OPTIMIZER_ADAM;
    } else if (strcmp(word, "adamw") == 0) {
        *ret_kind = OPTIMIZER_ADAMW;
    } else {
        return err_set(err, ERR_USAGE, "--optimizer: must be adam or adamw");
    }
    return ERR_OK;
}

/* One step's constants, shared by the members. */
struct step {
    struct optimizer *optimizer;
    double lr, head_lr;
    double norm;
    struct optimizer_rows rows;
};

/* Chunks are dealt out in turn; each sum has its own place. */
static void sum_part(struct part part, const struct step *step)
{
    const struct train_kernels *kernels = train_kernels_get();
    const struct params *params = step->optimizer->params;
    double *sums = step->optimizer->sums;
    size_t base = 0;
    for (size_t i = 0; i < params->n; i++) {
        const struct param *param = &params->at[i];
        size_t chunks = param->by_rows ? step->rows.n : param_chunks(param);
        for (size_t c = part.member; param->trainable && c < chunks; c += part.team->width) {
            if (param->by_rows) {
                size_t row = (size_t)step->rows.at[c];
                sums[base + c] = kernels->sum_squares(param->grad + row * param->shape[1],
                                                      param->shape[1]);
            } else {
                size_t here = size_min(CHUNK, param->count - c * CHUNK);
                sums[base + c] = kernels->sum_squares(param->grad + c * CHUNK, here);
            }
        }
        base += param_chunks(param);
    }
}

static double sum_all(const struct step *step)
{
    const struct params *params = step->optimizer->params;
    double total = 0;
    size_t base = 0;
    for (size_t i = 0; i < params->n; i++) {
        const struct param *param = &params->at[i];
        size_t chunks = param->by_rows ? step->rows.n : param_chunks(param);
        for (size_t c = 0; param->trainable && c < chunks; c++) {
            total += step->optimizer->sums[base + c];
        }
        base += param_chunks(param);
    }
    return sqrt(total);
}

static struct adam_coefficients coefficients(const struct step *step, double lr)
{
    const struct optimizer *optimizer = step->optimizer;
    const struct optimizer_options *options = &optimizer->options;
    double t = (double)optimizer->steps;
    double clip = 1.0;
    if (options->clip_norm > 0) {
        clip = fmin(1.0, options->clip_norm / (step->norm + 1e-6));
    }
    bool decoupled = options->kind == OPTIMIZER_ADAMW;
    return (struct adam_coefficients){
        .grad_scale = (float)clip,
        .l2 = decoupled ? 0.0f : (float)options->weight_decay,
        .decay = decoupled ? (float)(1.0 - lr * options->weight_decay) : 1.0f,
        .one_minus_beta1 = (float)(1.0 - beta1),
        .beta2 = (float)beta2,
        .one_minus_beta2 = (float)(1.0 - beta2),
        .step_size = (float)(lr / (1.0 - pow(beta1, t))),
        .bias_correction2_rt = (float)sqrt(1.0 - pow(beta2, t)),
        .eps = (float)epsilon,
    };
}

/* Rows without gradient and without moments don't move, unless weights decay. */
static void update_rows(struct part part, const struct step *step, struct param *param,
                        const struct adam_coefficients *c)
{
    const unsigned char *touched = step->optimizer->params->touched;
    bool every = step->optimizer->options.weight_decay > 0;
    size_t width = param->shape[1];
    size_t from, to;
    part_share(part, param->shape[0], 1, &from, &to);
    for (size_t row = from; row < to; row++) {
        if (every || touched[row]) {
            size_t at = row * width;
            train_kernels_get()->adam(c, param->grad + at, width, param->value + at, param->m + at,
                                      param->v + at);
        }
    }
}

static void step_main(void *context, struct part part)
{
    struct step *step = context;
    struct params *params = step->optimizer->params;
    sum_part(part, step);
    team_barrier(part.team);
    if (part.member == 0) {
        step->norm = sum_all(step);
    }
    team_barrier(part.team);
    for (size_t i = 0; i < params->n; i++) {
        struct param *param = &params->at[i];
        if (!param->trainable) {
            continue;
        }
        struct adam_coefficients c = coefficients(step, (param->head ? step->head_lr : step->lr) *
                                                            param->lr_scale);
        if (param->by_rows) {
            update_rows(part, step, param, &c);
            continue;
        }
        size_t from, to;
        part_share(part, param->count, 16, &from, &to);
        train_kernels_get()->adam(&c, param->grad + from, to - from, param->value + from,
                                  param->m + from, param->v + from);
    }
}

double optimizer_step(struct optimizer *optimizer, struct crew *crew, double lr, double head_lr,
                      const struct optimizer_rows *rows)
{
    struct step step = {.optimizer = optimizer, .lr = lr, .head_lr = head_lr, .rows = *rows};
    optimizer->steps++;
    crew_run(crew, step_main, &step);
    return step.norm;
}

double optimizer_param_norm(const struct param *param)
{
    return sqrt(train_kernels_get()->sum_squares(param->grad, param->count));
}
