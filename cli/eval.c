/* orthrus eval: how good heads are on labelled lines. */
#include "train/measure/eval.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "base/utf8.h"
#include "cli/command.h"
#include "cli/flags.h"
#include "cli/offline.h"
#include "cli/progress.h"

enum { JSON_CEILING = 64 * 1024 * 1024 };

struct eval_flags {
    const char *model_dir;
    const char *heads;
    const char *data;
    const char *format, *text_column;
    struct flag_strings label_columns;
    size_t max_length;
    unsigned threads;
    bool json;
};

static bool on_done(void *context, size_t done, size_t total)
{
    struct progress *progress = context;
    progress->total = total;
    progress_update(progress, done);
    return true;
}

/* A label padded to width characters, not bytes. */
static void print_padded(const char *label, size_t width)
{
    size_t length = utf8_length(label, strlen(label));
    printf("  %s%*s", label, length < width ? (int)(width - length) : 0, "");
}

static size_t widest(const struct head *head)
{
    size_t width = 5;
    for (size_t k = 0; k < head->classes; k++) {
        width = size_max(width, utf8_length(head->labels[k], strlen(head->labels[k])));
    }
    return width;
}

/* How many texts are answered, and how many of those rightly, where less sure ones are abstained
 * from: what thresholds are chosen by. */
static void print_coverage(const struct eval_result *result, size_t t)
{
    static const double thresholds[] = {0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99};
    const struct task *task = &result->tasks.at[t];
    printf(
        "  threshold  coverage    risk  (texts whose best score is at least that; share of wrong "
        "ones)\n");
    for (size_t i = 0; i < sizeof thresholds / sizeof *thresholds; i++) {
        size_t answered = 0;
        size_t wrong = 0;
        for (size_t n = 0; n < result->data.n; n++) {
            float scores[HEADS_CLASSES_MAX];
            int32_t label = result->data.labels[t][n];
            if (label < 0) {
                continue;
            }
            head_scores(task->init, result->logits[t] + n * task->classes, scores);
            size_t best = head_best(scores, task->classes);
            if ((double)scores[best] >= thresholds[i]) {
                answered++;
                wrong += best != (size_t)label;
            }
        }
        printf("  %9.2f  %8.4f  %6.4f\n", thresholds[i],
               (double)answered / (double)result->head[t].labelled,
               answered ? (double)wrong / (double)answered : 0);
    }
}

static void print_head(const struct eval_result *result, size_t t)
{
    const struct head *head = result->tasks.at[t].init;
    const struct tally *tally = &result->head[t];
    struct tally_score score = tally_score(tally);
    size_t width = widest(head);
    if (head->type == HEAD_SCORE) {
        printf("%s: %zu labelled, loss %.4f, mean absolute error %.4f\n", head->name,
               score.labelled, score.loss, score.error);
        return;
    }
    printf("%s: %zu labelled, loss %.4f, accuracy %.4f, macro-F1 %.4f\n", head->name,
           score.labelled, score.loss, score.accuracy, score.macro_f1);
    print_padded("class", width);
    printf("  precision  recall      F1  support\n");
    for (size_t k = 0; k < head->classes; k++) {
        struct tally_class class = tally_class(tally, k);
        print_padded(head->labels[k], width);
        printf("  %9.4f  %6.4f  %6.4f  %7zu\n", class.precision, class.recall, class.f1,
               class.support);
    }
    if (head->type == HEAD_SIGMOID) {
        return;
    }
    printf("  confusion, rows are labels, columns predictions:\n");
    for (size_t k = 0; k < head->classes; k++) {
        print_padded(head->labels[k], width);
        for (size_t i = 0; i < head->classes; i++) {
            printf(" %7zu", tally->confusion[k * head->classes + i]);
        }
        printf("\n");
    }
    print_coverage(result, t);
}

static enum err_code print_json(const struct eval_result *result, struct err *err)
{
    struct buf out;
    buf_init(&out, JSON_CEILING);
    buf_printf(&out, "{\"examples\": %zu", result->data.n);
    for (size_t t = 0; t < result->tasks.n; t++) {
        if (result->head[t].labelled > 0) {
            buf_printf(&out, ", \"%s\": ", result->tasks.at[t].name);
            tally_append_json(&result->head[t], &result->tasks.at[t].labels, &out);
        }
    }
    buf_append_str(&out, "}\n");
    enum err_code code = buf_failed(&out) ? err_nomem(err, JSON_CEILING) : ERR_OK;
    if (code == ERR_OK) {
        fwrite(out.data, out.size, 1, stdout);
    }
    buf_done(&out);
    return code;
}

static enum err_code measure(const struct model *model, const struct eval_flags *flags,
                             struct err *err)
{
    struct heads *heads = NULL;
    enum err_code code = offline_heads(model, flags->heads, &heads, err);
    if (code == ERR_OK) {
        code = offline_tell_left_out("eval", heads, false, err);
    }
    if (code != ERR_OK || !heads) {
        heads_release(heads);
        return code;
    }
    struct progress progress;
    progress_start(&progress, "embedding", "sentences", 0);
    struct frozen_progress hook = {on_done, &progress};
    struct eval_result result;
    struct eval_options options = {
        .data = flags->data,
        .text_column = flags->text_column,
        .label_columns = flags->label_columns.at,
        .n_label_columns = flags->label_columns.n,
        .pooling = model->config.pooling,
        .max_length = size_min(flags->max_length ? flags->max_length : model->config.max_length,
                               model->config.positions),
        .threads = flags->threads,
        .progress = &hook,
    };
    code = flags->format ? rows_format_parse(flags->format, &options.format, err) : ERR_OK;
    if (code == ERR_OK) {
        code = eval_run(model, heads, &options, &result, err);
    }
    progress_clear(&progress);
    if (code == ERR_OK && flags->json) {
        code = print_json(&result, err);
    }
    for (size_t t = 0; code == ERR_OK && !flags->json && t < result.tasks.n; t++) {
        if (result.head[t].labelled > 0) {
            print_head(&result, t);
        }
    }
    if (code == ERR_OK) {
        eval_result_done(&result);
    }
    heads_release(heads);
    return code;
}

static enum err_code eval(const struct eval_flags *flags, struct err *err)
{
    char *dir = NULL;
    struct eval_flags used = *flags;
    used.threads = flags->threads ? flags->threads : command_default_threads();
    struct encoder_options options;
    struct model *model = NULL;
    enum err_code code = command_choose("auto", "fp32", used.threads, &options, err);
    if (code == ERR_OK && !flags->data) {
        code = err_set(err, ERR_USAGE, "--data: must be a file of labelled texts");
    }
    if (code == ERR_OK) {
        code = offline_model_dir(flags->model_dir, &dir, err);
    }
    if (code == ERR_OK) {
        code = command_load(dir, &options, &model, err);
    }
    if (code == ERR_OK && model) {
        code = measure(model, &used, err);
        model_destroy(model);
    }
    free(dir);
    return code;
}

int command_eval(int argc, char **argv)
{
    struct eval_flags f = {0};
    const struct flag flags[] = {
        OFFLINE_FLAG_MODEL(f.model_dir),
        OFFLINE_FLAG_HEADS(f.heads),
        {"data", 0, FLAG_STRING, &f.data, "FILE", NULL,
         "labelled texts, as train reads them, needed", 0, 0, false},
        OFFLINE_FLAGS_COLUMNS(f.format, f.text_column, f.label_columns),
        {"max-length", 0, FLAG_SIZE, &f.max_length, "N", "the model's, else 128", "tokens per text",
         2, 65536, true},
        OFFLINE_FLAG_THREADS(f.threads),
        {"json", 0, FLAG_BOOL, &f.json, NULL, "off", "one JSON object", 0, 0, false},
        {0},
    };
    const struct command command = {
        .name = "eval",
        .arguments = "",
        .summary = "Measures heads on labelled data, in fp32: loss, accuracy, macro-F1, confusion.",
        .flags = flags,
    };
    struct err err = ERR_INIT;
    char **arguments;
    size_t n_arguments;
    int status;
    if (!command_begin(&command, argc, argv, &arguments, &n_arguments, &status)) {
        return status;
    }
    return eval(&f, &err) == ERR_OK ? EXIT_DONE : command_fail("eval", &err);
}
