/* orthrus predict: labels and scores for a file of lines. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/float_text.h"
#include "base/jval.h"
#include "base/reader.h"
#include "cli/command.h"
#include "cli/flags.h"
#include "cli/offline.h"
#include "cli/progress.h"

struct predict_flags {
    struct offline_flags offline;
    const char *heads;
    const char *input;
};

enum { LINE_CEILING = 1 << 30 };

static void append_float(struct buf *line, float value)
{
    char text[FLOAT_TEXT_MAX];
    buf_append(line, text, float_text(value, text));
}

static void append_label(struct buf *line, const char *label)
{
    jval_append_string(line, label, strlen(label));
}

/* ,"classifier":{"label":…,"score":…,"scores":{…}} */
static void append_head(struct buf *line, const struct head *head, const float *scores)
{
    size_t best = head_best(scores, head->classes);
    buf_printf(line, ",\"%s\":{\"label\":", head->name);
    append_label(line, head->labels[best]);
    buf_append_str(line, ",\"score\":");
    append_float(line, scores[best]);
    buf_append_str(line, ",\"scores\":{");
    for (size_t k = 0; k < head->classes; k++) {
        buf_append(line, ",", k != 0);
        append_label(line, head->labels[k]);
        buf_append_char(line, ':');
        append_float(line, scores[k]);
    }
    buf_append_str(line, "}}");
}

/* *ret_bad: the head whose scores are no numbers; nothing is printed then. */
static bool print_line(const struct heads *heads, const struct line *text, const float *pooled,
                       const float *first, struct buf *line, const char **ret_bad)
{
    float scores[HEADS_CLASSES_MAX];
    buf_clear(line);
    buf_append_str(line, "{\"text\":");
    jval_append_string(line, text->text, text->size);
    for (size_t i = 0; i < heads->n; i++) {
        const struct head *head = &heads->list[i];
        if (head->type != HEAD_TOKENS) {
            head_logits(head, head->input == HEAD_INPUT_CLS ? first : pooled, 1, scores);
            head_scores(head, scores, scores);
            if (floats_first_nonfinite(scores, head->classes) < head->classes) {
                *ret_bad = head->name;
                return true;
            }
            append_head(line, head, scores);
        }
    }
    buf_append_str(line, "}\n");
    return !buf_failed(line) && fwrite(line->data, line->size, 1, stdout) == 1;
}

/* A window's texts, until its vectors come. */
struct texts {
    struct buf bytes;
    size_t starts[BULK_WINDOW_TEXTS + 1];
};

/* Command lifetime. */
struct predict {
    const struct offline *offline;
    const struct heads *heads;
    struct reader reader;
    struct texts *texts; /* [bulk_slots], owned */
    struct buf line;
    uint64_t done; /* texts */
    struct progress progress;
};

static enum err_code fill(void *context, struct bulk_window *window, bool wait, bool *ret_end,
                          struct err *err)
{
    struct predict *predict = context;
    struct texts *texts = &predict->texts[bulk_window_slot(window)];
    buf_clear(&texts->bytes);
    texts->starts[0] = 0;
    while (bulk_window_room(window) > 0) {
        struct line text;
        enum reader_state state;
        enum err_code code = reader_next(&predict->reader, wait && bulk_window_n(window) == 0,
                                         &state, &text, err);
        *ret_end = state == READER_END;
        if (code != ERR_OK || state != READER_LINE) {
            return code;
        }
        code = bulk_add_text(window, predict->offline->model->tokenizer, text.text, text.size, err);
        if (code != ERR_OK) {
            return code;
        }
        if (!buf_append(&texts->bytes, text.text, text.size)) {
            return err_nomem(err, text.size);
        }
        texts->starts[bulk_window_n(window)] = texts->bytes.size;
    }
    return ERR_OK;
}

static enum err_code take(void *context, const struct bulk_window *window, float *rows,
                          struct err *err)
{
    struct predict *predict = context;
    const struct texts *texts = &predict->texts[bulk_window_slot(window)];
    size_t pooled = vector_in(predict->offline->model->vector);
    size_t width = pooled + predict->offline->model->config.hidden;
    for (size_t i = 0; i < bulk_window_n(window); i++) {
        const struct line text = {texts->bytes.data ? texts->bytes.data + texts->starts[i] : "",
                                  texts->starts[i + 1] - texts->starts[i]};
        const char *bad = NULL;
        predict->done++;
        const float *row = rows + i * width;
        if (!print_line(predict->heads, &text, row, row + pooled, &predict->line, &bad)) {
            return err_set_errno(err, ERR_IO, errno, "standard output");
        }
        if (bad) {
            return err_set(err, ERR_INVALID, "text %llu: the scores of %s are not finite",
                           (unsigned long long)predict->done, bad);
        }
    }
    return fflush(stdout) == 0 ? ERR_OK : err_set_errno(err, ERR_IO, errno, "standard output");
}

static void on_done(void *context, uint64_t done)
{
    struct predict *predict = context;
    progress_update(&predict->progress, done);
}

static enum err_code run(struct predict *predict, struct err *err)
{
    const struct bulk_stream stream = {
        .context = predict, .fill = fill, .take = take, .on_done = on_done};
    progress_start(&predict->progress, "predicting", "sentences", 0);
    enum err_code code = bulk_run(predict->offline->bulk, &stream, err);
    if (code == ERR_OK) {
        progress_end(&predict->progress, predict->reader.line);
    }
    return code;
}

static enum err_code predict(const struct offline *offline, const struct predict_flags *flags,
                             struct err *err)
{
    struct heads *heads = NULL;
    struct predict predict = {.offline = offline};
    size_t slots = bulk_slots(offline->bulk);
    enum err_code code = offline_heads(offline->model, flags->heads, &heads, err);
    if (code == ERR_OK) {
        code = offline_tell_left_out("predict", heads, true, err);
    }
    if (code == ERR_OK) {
        code = reader_open(flags->input, &predict.reader, err);
    }
    if (code == ERR_OK) {
        predict.heads = heads;
        predict.texts = calloc(slots, sizeof *predict.texts);
        buf_init(&predict.line, LINE_CEILING);
        code = predict.texts ? ERR_OK : err_nomem(err, slots * sizeof *predict.texts);
    }
    for (size_t i = 0; predict.texts && i < slots; i++) {
        buf_init(&predict.texts[i].bytes, (size_t)BULK_WINDOW_TEXTS * READER_LINE_MAX);
    }
    if (code == ERR_OK) {
        code = run(&predict, err);
    }
    for (size_t i = 0; predict.texts && i < slots; i++) {
        buf_done(&predict.texts[i].bytes);
    }
    free(predict.texts);
    buf_done(&predict.line);
    reader_close(&predict.reader);
    heads_release(heads);
    return code;
}

int command_predict(int argc, char **argv)
{
    struct predict_flags f = {.offline = {.first_token = true}};
    const struct flag flags[] = {
        OFFLINE_FLAG_MODEL(f.offline.model_dir),
        OFFLINE_FLAG_HEADS(f.heads),
        OFFLINE_FLAG_INPUT(f.input, "standard input"),
        OFFLINE_FLAGS_ENCODER(f.offline),
        {0},
    };
    const struct command command = {
        .name = "predict",
        .arguments = "",
        .summary = "Classifies every line of a file with every head for texts; one JSON object a "
                   "line.",
        .flags = flags,
    };
    struct err err = ERR_INIT;
    char **arguments;
    size_t n_arguments;
    int status;
    if (!command_begin(&command, argc, argv, &arguments, &n_arguments, &status)) {
        return status;
    }
    struct offline offline;
    enum err_code code = offline_open(&f.offline, &offline, &err);
    if (code == ERR_OK) {
        code = predict(&offline, &f, &err);
        offline_close(&offline);
    }
    return code == ERR_OK ? EXIT_DONE : command_fail("predict", &err);
}
