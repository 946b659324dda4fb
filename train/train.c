#include "train/train.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/size.h"
#include "train/dropout.h"
#include "train/output.h"
#include "train/report.h"
#include "train/run.h"

/* The lines of steps that a checkpoint knows stay; those behind it are done again. */
static enum err_code cut_log(const struct run *run, struct err *err)
{
    struct file_map map;
    struct err missing = ERR_INIT;
    enum err_code code = file_map_open(run->log_path, SIZE_MAX, &map, &missing);
    if (code == ERR_NOT_FOUND) {
        return ERR_OK;
    }
    if (code != ERR_OK) {
        return err_set(err, code, "%s", missing.text);
    }
    size_t keep = 0;
    for (uint64_t line = 0; line < run->state.steps && keep < map.size; line++) {
        const unsigned char *newline = memchr(map.data + keep, '\n', map.size - keep);
        if (!newline) {
            break;
        }
        keep = (size_t)(newline - map.data) + 1;
    }
    file_map_close(&map);
    if (truncate(run->log_path, (off_t)keep) != 0) {
        return err_set_errno(err, ERR_IO, errno, "%s", run->log_path);
    }
    return ERR_OK;
}

static enum err_code open_log(struct run *run, struct err *err)
{
    const struct train_options *options = run->options;
    if (options->resume) {
        enum err_code code = state_load(&run->state, run->learner, run->facts.data,
                                        run->checkpoint_path, options->epochs, err);
        if (code == ERR_OK) {
            code = cut_log(run, err);
        }
        if (code != ERR_OK) {
            return code;
        }
    }
    run->log = fopen(run->log_path, options->resume ? "ae" : "we");
    return run->log ? ERR_OK : err_set_errno(err, ERR_IO, errno, "%s", run->log_path);
}

/* One line of train.jsonl. */
static enum err_code log_step(struct run *run, size_t epoch, const struct losses *losses, double lr,
                              double norm, struct err *err)
{
    double loss = losses_total(losses, run->loss_weights);
    int n = fprintf(run->log,
                    "{\"step\": %llu, \"epoch\": %zu, \"loss\": %.9g, \"loss_classifier\": %.9g, "
                    "\"loss_sentiment\": %.9g, \"lr\": %.9g, \"grad_norm\": %.9g}\n",
                    (unsigned long long)run->state.steps, epoch, loss,
                    losses_mean(losses, HEAD_CLASSIFIER), losses_mean(losses, HEAD_SENTIMENT), lr,
                    norm);
    return n > 0 ? ERR_OK : err_set_errno(err, ERR_IO, errno, "%s", run->log_path);
}

static void count_up(struct run *run, struct tally tallies[HEAD_COUNT], const struct lesson *lesson,
                     const struct losses *losses)
{
    for (enum head_kind kind = 0; kind < HEAD_COUNT; kind++) {
        if (run->classes[kind] > 0) {
            tally_add(&tallies[kind], lesson->labels[kind], learner_predicted(run->learner, kind),
                      lesson->n, losses->sum[kind]);
        }
    }
}

static void score_up(const struct run *run, const struct tally tallies[HEAD_COUNT], size_t n,
                     struct split_result *ret_result)
{
    *ret_result = (struct split_result){.n = n};
    for (enum head_kind kind = 0; kind < HEAD_COUNT; kind++) {
        ret_result->head[kind] = tally_score(&tallies[kind]);
        ret_result->loss += run->loss_weights[kind] * ret_result->head[kind].loss;
    }
}

static enum err_code learn(struct run *run, size_t epoch, const struct lesson *lesson,
                           const struct schedule *schedule, double *ret_loss, struct err *err)
{
    const struct train_options *options = run->options;
    struct losses losses;
    double factor = schedule_factor(schedule, run->state.steps);
    double head_lr = options->head_lr < 0 ? options->lr : options->head_lr;
    learner_gradients(run->learner, lesson, &losses);
    double loss = losses_total(&losses, run->loss_weights);
    if (!isfinite(loss)) {
        return err_set(err, ERR_INVALID,
                       "the loss is no number any more at step %llu: try a lower --lr or "
                       "--clip-norm 1",
                       (unsigned long long)run->state.steps + 1);
    }
    count_up(run, run->train_tally, lesson, &losses);
    double norm = learner_update(run->learner, options->lr * factor, head_lr * factor);
    run->state.steps++;
    *ret_loss = loss;
    return log_step(run, epoch, &losses, options->lr * factor, norm, err);
}

static enum err_code train_epoch(struct run *run, size_t epoch, const struct schedule *schedule,
                                 struct split_result *ret_result, struct err *err)
{
    const struct train_options *options = run->options;
    const struct split *split = &run->train;
    double loss_sum = 0;
    for (enum head_kind kind = 0; kind < HEAD_COUNT; kind++) {
        tally_clear(&run->train_tally[kind]);
    }
    random_order(options->seed, (uint32_t)(STREAM_EPOCH + epoch), split->n, run->order);
    for (size_t i = 0; i < split->n; i++) {
        run->order[i] = split->index[options->shuffle ? run->order[i] : i];
    }
    for (size_t at = 0; at < split->n;) {
        struct lesson lesson;
        double loss = 0;
        size_t n = size_min(options->batch_size, split->n - at);
        run_lesson(run, split, run->order, at, n, &lesson);
        enum err_code code = learn(run, epoch, &lesson, schedule, &loss, err);
        if (code != ERR_OK) {
            return code;
        }
        loss_sum += loss * (double)n;
        at += n;
        run_progress(run, TRAIN_STEPS, epoch, at, split->n);
    }
    score_up(run, run->train_tally, split->n, ret_result);
    /* What was descended: the mean over examples of their batch's loss. */
    ret_result->loss = loss_sum / (double)split->n;
    return ERR_OK;
}

static void evaluate(struct run *run, size_t epoch, struct split_result *ret_result)
{
    const struct split *split = &run->eval;
    for (enum head_kind kind = 0; kind < HEAD_COUNT; kind++) {
        tally_clear(&run->eval_tally[kind]);
    }
    for (size_t at = 0; at < split->n;) {
        struct lesson lesson;
        struct losses losses;
        size_t n = size_min(run_batch_texts(run), split->n - at);
        run_lesson(run, split, split->index, at, n, &lesson);
        learner_evaluate(run->learner, &lesson, &losses);
        count_up(run, run->eval_tally, &lesson, &losses);
        at += n;
        run_progress(run, TRAIN_EVALUATING, epoch, at, split->n);
    }
    score_up(run, run->eval_tally, split->n, ret_result);
}

static void copy_tally(struct tally *to, const struct tally *from)
{
    memcpy(to->confusion, from->confusion, from->classes * from->classes * sizeof *to->confusion);
    to->loss_sum = from->loss_sum;
    to->labelled = from->labelled;
}

/* Notes whether this epoch is the best so far; its numbers become the output's where it is, or
 * where the last one wins. Returns true if the output is to be written now. */
static bool judge(struct run *run, const struct epoch_result *result)
{
    struct state *state = &run->state;
    bool better = result->eval.n > 0 && result->eval.loss < state->best_loss;
    state->stale = better ? 0 : state->stale + 1;
    if (better) {
        state->best_loss = result->eval.loss;
        state->best_epoch = result->epoch;
    }
    bool keep = run->options->patience == 0 || better;
    for (enum head_kind kind = 0; keep && kind < HEAD_COUNT; kind++) {
        copy_tally(&state->train[kind], &run->train_tally[kind]);
        copy_tally(&state->eval[kind], &run->eval_tally[kind]);
    }
    return keep && run->options->patience > 0;
}

static enum err_code one_epoch(struct run *run, const struct schedule *schedule, struct err *err)
{
    struct state *state = &run->state;
    struct epoch_result result = {.epoch = state->epochs_done + 1};
    uint64_t start_ns = clock_now_ns();
    enum err_code code = train_epoch(run, result.epoch, schedule, &result.train, err);
    if (code != ERR_OK) {
        return code;
    }
    if (run->eval.n > 0) {
        evaluate(run, result.epoch, &result.eval);
    }
    result.seconds = (double)(clock_now_ns() - start_ns) / (double)NS_PER_S;
    if (judge(run, &result)) {
        code = output_write(run, err);
    }
    state->history[state->epochs_done++] = result;
    if (code == ERR_OK && fflush(run->log) != 0) {
        code = err_set_errno(err, ERR_IO, errno, "%s", run->log_path);
    }
    if (code == ERR_OK) {
        code = state_save(state, run->learner, run->facts.data, run->checkpoint_path, err);
    }
    if (code == ERR_OK && run->callbacks->on_epoch) {
        run->callbacks->on_epoch(run->callbacks->context, &result);
    }
    return code;
}

static enum err_code epochs(struct run *run, struct err *err)
{
    const struct train_options *options = run->options;
    struct state *state = &run->state;
    uint64_t per_epoch = size_div_up(run->train.n, options->batch_size);
    struct schedule schedule = {
        .kind = options->schedule,
        .warmup = options->warmup_steps,
        .total = per_epoch * options->epochs,
    };
    enum err_code code = open_log(run, err);
    while (code == ERR_OK && state->epochs_done < options->epochs) {
        if (options->patience > 0 && state->stale >= options->patience) {
            run_note(run, "no lower evaluation loss for %zu epochs: stopping; epoch %zu is kept",
                     state->stale, state->best_epoch);
            break;
        }
        code = one_epoch(run, &schedule, err);
    }
    /* With --patience the best epoch has been written already. */
    if (code == ERR_OK && options->patience == 0) {
        code = output_write(run, err);
    }
    return code == ERR_OK ? report_write(run, err) : code;
}

enum err_code train_run(const struct train_options *options,
                        const struct train_callbacks *callbacks, struct err *err)
{
    static const struct train_callbacks none;
    struct run run;
    enum err_code code = run_open(&run, options, callbacks ? callbacks : &none, err);
    if (code == ERR_OK) {
        code = epochs(&run, err);
    }
    run_close(&run);
    return code;
}
