#include "train/train.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/size.h"
#include "train/network/dropout.h"
#include "train/output/output.h"
#include "train/output/report.h"
#include "train/output/usable.h"
#include "train/run/run.h"

enum { LOG_LINE_MAX = 65536 };

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
    if (!options->resume) {
        (void)unlink(run->checkpoint_path); /* --overwrite: of another run */
    }
    run->log = fopen(run->log_path, options->resume ? "ae" : "we");
    return run->log ? ERR_OK : err_set_errno(err, ERR_IO, errno, "%s", run->log_path);
}

/* A number of JSON, which has no nan and no inf. */
static void append_number(struct buf *out, double value)
{
    if (isfinite(value)) {
        buf_printf(out, "%.9g", value);
    } else {
        buf_append_str(out, "null");
    }
}

/* One line of train.jsonl. */
static enum err_code log_step(struct run *run, size_t epoch, const struct losses *losses, double lr,
                              double norm, struct err *err)
{
    struct buf line;
    buf_init(&line, LOG_LINE_MAX);
    buf_printf(&line,
               "{\"step\": %llu, \"epoch\": %zu, \"loss\": ", (unsigned long long)run->state.steps,
               epoch);
    append_number(&line, losses_total(losses, &run->tasks));
    for (size_t t = 0; t < run->tasks.n; t++) {
        buf_printf(&line, ", \"loss_%s\": ", run->tasks.at[t].name);
        append_number(&line, losses_mean(losses, t));
    }
    buf_append_str(&line, ", \"lr\": ");
    append_number(&line, lr);
    buf_append_str(&line, ", \"grad_norm\": ");
    append_number(&line, norm);
    buf_append_str(&line, "}\n");
    bool good = !buf_failed(&line) && fwrite(line.data, line.size, 1, run->log) == 1;
    enum err_code code = good ? ERR_OK : err_set_errno(err, ERR_IO, errno, "%s", run->log_path);
    buf_done(&line);
    return code;
}

static void score_up(const struct run *run, const struct tally tallies[TASKS_MAX], size_t n,
                     struct split_result *ret_result)
{
    *ret_result = (struct split_result){.n = n};
    for (size_t t = 0; t < run->tasks.n; t++) {
        if (run->tasks.at[t].classes > 0) {
            ret_result->head[t] = tally_score(&tallies[t]);
            ret_result->loss += run->tasks.at[t].weight * ret_result->head[t].loss;
        }
    }
}

/* One step: a batch, or several whose gradients add up to that of one large batch. */
static enum err_code learn(struct run *run, size_t epoch, size_t n, const struct schedule *schedule,
                           double *ret_loss, struct err *err)
{
    const struct train_options *options = run->options;
    struct state *state = &run->state;
    struct losses losses = {0};
    double divisors[TASKS_MAX] = {0};
    double factor = schedule_factor(schedule, state->steps);
    double head_lr = options->head_lr < 0 ? options->lr : options->head_lr;
    for (size_t done = 0; done < n; done += options->batch_size) {
        struct lesson_labels labels;
        double part[TASKS_MAX];
        size_t texts = size_min(options->batch_size, n - done);
        run_labels(run, &run->train, run->order, state->at + done, texts, &labels);
        loss_divisors(&run->tasks, &labels, texts, part);
        for (size_t t = 0; t < run->tasks.n; t++) {
            divisors[t] += part[t];
        }
    }
    for (size_t done = 0; done < n; done += options->batch_size) {
        struct lesson lesson;
        struct losses part;
        size_t texts = size_min(options->batch_size, n - done);
        run_lesson(run, &run->train, run->order, state->at + done, texts, &lesson);
        lesson.part = done / options->batch_size;
        lesson.divisors = divisors;
        lesson.tallies = state->current;
        learner_gradients(run->learner, &lesson, &part);
        losses_add(&losses, &part);
    }
    *ret_loss = losses_total(&losses, &run->tasks);
    if (!isfinite(*ret_loss)) {
        return err_set(err, ERR_INVALID,
                       "epoch %zu has diverged: the loss is no number any more at step %llu; try a "
                       "lower --lr or --clip-norm 1%s",
                       epoch, (unsigned long long)state->steps + 1,
                       state->epochs_done > 0 ? "; the last good epoch's files stay" : "");
    }
    double norm = learner_update(run->learner, options->lr * factor, head_lr * factor);
    state->steps++;
    return log_step(run, epoch, &losses, options->lr * factor, norm, err);
}

static enum err_code save(struct run *run, struct err *err)
{
    if (fflush(run->log) != 0) {
        return err_set_errno(err, ERR_IO, errno, "%s", run->log_path);
    }
    return run->options->no_checkpoint
               ? ERR_OK
               : state_save(&run->state, run->learner, run->facts.data, run->checkpoint_path, err);
}

/* The caller wants the end: a checkpoint of this step, and how to go on. */
static enum err_code stop(struct run *run, struct err *err)
{
    if (run->options->no_checkpoint) {
        return err_set(err, ERR_CONFLICT,
                       "stopped at step %llu; nothing of this epoch is kept "
                       "(--no-checkpoint)",
                       (unsigned long long)run->state.steps);
    }
    enum err_code code = save(run, err);
    return code == ERR_OK ? err_set(err, ERR_CONFLICT,
                                    "stopped at step %llu; the same command with --resume goes on",
                                    (unsigned long long)run->state.steps)
                          : code;
}

static enum err_code train_epoch(struct run *run, size_t epoch, const struct schedule *schedule,
                                 struct split_result *ret_result, struct err *err)
{
    const struct train_options *options = run->options;
    const struct split *split = &run->train;
    struct state *state = &run->state;
    for (size_t t = 0; state->at == 0 && t < run->tasks.n; t++) {
        tally_clear(&state->current[t]);
        state->loss_sum = 0;
    }
    random_order(options->seed, (uint32_t)(STREAM_EPOCH + epoch), split->n, run->order);
    for (size_t i = 0; i < split->n; i++) {
        run->order[i] = split->index[options->shuffle ? run->order[i] : i];
    }
    while (state->at < split->n) {
        double loss = 0;
        size_t n = size_min(options->batch_size * options->parts, split->n - state->at);
        enum err_code code = learn(run, epoch, n, schedule, &loss, err);
        if (code != ERR_OK) {
            return code;
        }
        state->loss_sum += loss * (double)n;
        state->at += n;
        run_progress(run, TRAIN_STEPS, epoch, state->at, split->n);
        if (state->at < split->n && run_stopped(run)) {
            return stop(run, err);
        }
    }
    score_up(run, state->current, split->n, ret_result);
    /* What was descended: the mean over examples of their step's loss. */
    ret_result->loss = state->loss_sum / (double)split->n;
    return ERR_OK;
}

static void evaluate(struct run *run, size_t epoch, struct split_result *ret_result)
{
    const struct split *split = &run->eval;
    for (size_t t = 0; t < run->tasks.n; t++) {
        tally_clear(&run->eval_tally[t]);
    }
    for (size_t at = 0; at < split->n;) {
        struct lesson lesson;
        struct losses losses;
        float *keep[TASKS_MAX];
        size_t n = size_min(run_batch_texts(run), split->n - at);
        run_lesson(run, split, split->index, at, n, &lesson);
        for (size_t t = 0; t < run->tasks.n; t++) {
            keep[t] = run->eval_logits[t] + at * run->tasks.at[t].classes;
        }
        lesson.tallies = run->eval_tally;
        lesson.keep = keep;
        learner_evaluate(run->learner, &lesson, &losses);
        at += n;
        run_progress(run, TRAIN_EVALUATING, epoch, at, split->n);
    }
    run->evaluated = split->n > 0;
    score_up(run, run->eval_tally, split->n, ret_result);
}

/* What --metric says about an epoch; lower is better. */
static double metric_value(const struct run *run, const struct split_result *result)
{
    const struct metric *metric = &run->metric;
    if (metric->kind == METRIC_LOSS) {
        return metric->task < 0 ? result->loss : result->head[metric->task].loss;
    }
    double sum = 0;
    size_t heads = 0;
    for (size_t t = 0; t < run->tasks.n; t++) {
        const struct tally_score *score = &result->head[t];
        if (score->labelled > 0 && run->tasks.at[t].type != HEAD_SCORE &&
            (metric->task < 0 || metric->task == (int)t)) {
            sum += metric->kind == METRIC_ACCURACY ? score->accuracy : score->macro_f1;
            heads++;
        }
    }
    return heads > 0 ? -sum / (double)heads : 0;
}

/* Notes whether this epoch is the best so far; its numbers become the output's where it is, or
 * where the last one wins. Returns true if the output is to be written now. */
static bool judge(struct run *run, const struct epoch_result *result)
{
    struct state *state = &run->state;
    double value = metric_value(run, &result->eval);
    bool better = result->eval.n > 0 && value < state->best_value;
    state->stale = better ? 0 : state->stale + 1;
    if (better) {
        state->best_value = value;
        state->best_epoch = result->epoch;
    }
    bool keep = !run->keep_best || better;
    for (size_t t = 0; keep && t < run->tasks.n; t++) {
        tally_copy(&state->train[t], &state->current[t]);
        tally_copy(&state->eval[t], &run->eval_tally[t]);
    }
    return keep && run->keep_best;
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
    code = usable_check(run, &result, err);
    if (code != ERR_OK) {
        return code;
    }
    bool write_now = judge(run, &result);
    state->history[state->epochs_done++] = result;
    state->at = 0;
    if (write_now) {
        code = output_write(run, err);
    }
    if (code == ERR_OK) {
        code = save(run, err);
    }
    if (code == ERR_OK && run->callbacks->on_epoch) {
        run->callbacks->on_epoch(run->callbacks->context, &run->tasks, &result);
    }
    if (code == ERR_OK && state->epochs_done < run->options->epochs && run_stopped(run)) {
        code = stop(run, err);
    }
    return code;
}

static uint64_t total_steps(const struct run *run)
{
    const struct train_options *options = run->options;
    return size_div_up(run->train.n, options->batch_size * options->parts) * options->epochs;
}

static enum err_code epochs(struct run *run, struct err *err)
{
    const struct train_options *options = run->options;
    struct state *state = &run->state;
    uint64_t total = total_steps(run);
    struct schedule schedule = {
        .kind = options->schedule,
        .warmup = options->warmup_ratio > 0
                      ? (uint64_t)llround(options->warmup_ratio * (double)total)
                      : options->warmup_steps,
        .total = total,
    };
    enum err_code code = open_log(run, err);
    while (code == ERR_OK && state->epochs_done < options->epochs) {
        if (options->patience > 0 && state->stale >= options->patience) {
            run_note(run, "no better evaluation for %zu epochs: stopping; epoch %zu is %s",
                     state->stale, state->best_epoch, run->keep_best ? "kept" : "the best");
            break;
        }
        code = one_epoch(run, &schedule, err);
    }
    /* With --keep best that epoch has been written already. */
    if (code == ERR_OK && !run->keep_best) {
        struct split_result again;
        if (run->eval.n > 0 && !run->evaluated) {
            evaluate(run, state->epochs_done, &again);
        }
        code = output_write(run, err);
    }
    if (code == ERR_OK && report_write(run, err) != ERR_OK) {
        code = err_prefix(err, "the heads are written, their report is not");
    }
    return code;
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
