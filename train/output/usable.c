#include "train/output/usable.h"

#include <math.h>

#include "base/size.h"

enum { PROBES = 8 };

/* How much a positive label may count more than a negative one. */
static double positive_max(const struct task *task)
{
    double most = 1;
    for (size_t k = 0; task->class_weights && k < task->classes; k++) {
        most = fmax(most, (double)task->class_weights[k]);
    }
    return most;
}

/* The loss of a head that knows nothing: every label as likely as the next; for squared errors the
 * spread of the targets. */
static double guess_loss(const struct run *run)
{
    double total = 0;
    for (size_t t = 0; t < run->tasks.n; t++) {
        const struct task *task = &run->tasks.at[t];
        double guess = task->type == HEAD_SOFTMAX ? log((double)task->classes) : log(2);
        if (task->type == HEAD_SCORE && task->identity) {
            guess = run->spread[t];
        }
        guess *= task->type == HEAD_SIGMOID ? positive_max(task) : 1;
        total += task->classes > 0 ? task->weight * guess : 0;
    }
    return total;
}

static bool weights_finite(struct run *run, const char **ret_name)
{
    const struct params *params = learner_params(run->learner);
    for (size_t i = 0; i < params->n; i++) {
        const struct param *param = &params->at[i];
        if (param->trainable && floats_first_nonfinite(param->value, param->count) < param->count) {
            *ret_name = param->name;
            return false;
        }
    }
    return true;
}

/* Some texts of the data, through everything that would be written. */
static bool answers_finite(struct run *run)
{
    const struct split *split = run->eval.n > 0 ? &run->eval : &run->train;
    struct lesson lesson;
    struct losses losses;
    size_t n = size_min(size_min(PROBES, split->n), run_batch_texts(run));
    run_lesson(run, split, split->index, 0, n, &lesson);
    learner_evaluate(run->learner, &lesson, &losses);
    size_t hidden = config_pooled_width(&run->config);
    const float *pooled = lesson.batch ? learner_pooled(run->learner) : lesson.pooled;
    return isfinite(losses_total(&losses, &run->tasks)) &&
           floats_first_nonfinite(pooled, n * hidden) == n * hidden;
}

enum err_code usable_check(struct run *run, const struct epoch_result *result, struct err *err)
{
    const char *what = NULL;
    const char *name = "";
    double worst = USABLE_WORSE_MAX * guess_loss(run);
    if (!isfinite(result->train.loss) || (worst > 0 && result->train.loss > worst)) {
        what = "its loss is far worse than a guess";
    } else if (!isfinite(result->eval.loss)) {
        what = "its evaluation loss is no number";
    } else if (!weights_finite(run, &name)) {
        what = "it left weights that are no numbers";
    } else if (!answers_finite(run)) {
        what = "its answers are no numbers";
    }
    if (!what) {
        return ERR_OK;
    }
    return err_set(
        err, ERR_INVALID,
        "epoch %zu has diverged: %s (loss %.4g%s%s); try a lower --lr or --clip-norm 1%s",
        result->epoch, what, result->train.loss, name[0] ? ", " : "", name,
        run->state.epochs_done > 0 ? "; the last good epoch's files stay"
                                   : "; nothing was written");
}
