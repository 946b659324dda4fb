/* orthrus predict: labels and scores for a file of lines. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/float_text.h"
#include "base/jval.h"
#include "base/size.h"
#include "cli/bulk.h"
#include "cli/command.h"
#include "cli/flags.h"
#include "cli/progress.h"

struct predict_flags {
    struct bulk_flags bulk;
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

static bool print_line(const struct heads *heads, const struct line *text, const float *embedding,
                       struct buf *line)
{
    float scores[HEADS_CLASSES_MAX];
    buf_clear(line);
    buf_append_str(line, "{\"text\":");
    jval_append_string(line, text->text, text->size);
    for (size_t i = 0; i < heads->n; i++) {
        const struct head *head = &heads->list[i];
        if (head->input == HEAD_INPUT_POOLED) {
            head_logits(head, embedding, 1, scores);
            head_scores(head, scores, scores);
            append_head(line, head, scores);
        }
    }
    buf_append_str(line, "}\n");
    return !buf_failed(line) && fwrite(line->data, line->size, 1, stdout) == 1;
}

static enum err_code predict_lines(struct bulk *bulk, const struct heads *heads,
                                   const struct lines *lines, float *rows, struct buf *line,
                                   struct err *err)
{
    struct progress progress;
    progress_start(&progress, "predicting", "sentences", lines->n);
    for (size_t done = 0; done < lines->n;) {
        size_t n = size_min(lines->n - done, BULK_CHUNK_TEXTS);
        enum err_code code = bulk_embed(bulk, lines->at + done, n, rows, err);
        for (size_t i = 0; i < n && code == ERR_OK; i++) {
            if (!print_line(heads, &lines->at[done + i], rows + i * bulk->model->config.hidden,
                            line)) {
                code = err_set_errno(err, ERR_IO, errno, "standard output");
            }
        }
        if (code != ERR_OK) {
            return code;
        }
        done += n;
        progress_update(&progress, done);
    }
    progress_end(&progress, lines->n);
    return ERR_OK;
}

static enum err_code choose_heads(const struct bulk *bulk, const struct predict_flags *flags,
                                  struct heads **ret_heads, struct err *err)
{
    const struct model *model = bulk->model;
    if (flags->heads) {
        struct heads_fit fit = model_heads_fit(model, model->config.pooling);
        return heads_load(flags->heads, &fit, false, ret_heads, err);
    }
    char *shipped = command_shipped_heads();
    char *source = NULL;
    struct err warning = ERR_INIT;
    struct heads *heads = NULL;
    enum err_code code = model_default_heads(model, model->config.pooling, shipped, &heads, &source,
                                             &warning, err);
    free(shipped);
    free(source);
    if (code == ERR_OK && !heads) {
        return err_set(err, ERR_NOT_FOUND, "no heads fit this model%s%s; name a file with --heads",
                       warning.text[0] ? ": " : "", warning.text);
    }
    if (code == ERR_OK) {
        *ret_heads = heads;
    }
    return code;
}

static enum err_code predict(struct bulk *bulk, const struct predict_flags *flags, struct err *err)
{
    struct heads *heads = NULL;
    struct lines lines;
    enum err_code code = choose_heads(bulk, flags, &heads, err);
    if (code != ERR_OK) {
        return code;
    }
    code = lines_read(flags->input, &lines, err);
    if (code == ERR_OK) {
        float *rows = calloc((size_t)BULK_CHUNK_TEXTS * bulk->model->config.hidden, sizeof *rows);
        struct buf line;
        buf_init(&line, LINE_CEILING);
        code = rows ? predict_lines(bulk, heads, &lines, rows, &line, err)
                    : err_nomem(err, BULK_CHUNK_TEXTS * bulk->model->config.hidden * sizeof *rows);
        buf_done(&line);
        free(rows);
        lines_done(&lines);
    }
    heads_release(heads);
    return code;
}

int command_predict(int argc, char **argv)
{
    struct predict_flags f = {0};
    const struct flag flags[] = {
        BULK_FLAG_MODEL(f.bulk),
        {"heads", 0, FLAG_STRING, &f.heads, "FILE", "the model folder's, else the shipped ones",
         "heads file", 0, 0, true},
        {"input", 'i', FLAG_STRING, &f.input, "FILE", "standard input", "one text a line, UTF-8", 0,
         0, false},
        BULK_FLAGS_ENCODER(f.bulk),
        {0},
    };
    const struct command command = {
        .name = "predict",
        .arguments = "",
        .summary = "Classifies every line of a file with both heads; one JSON object a line.",
        .flags = flags,
    };
    struct err err = ERR_INIT;
    char **arguments;
    size_t n_arguments;
    int status;
    if (!command_begin(&command, argc, argv, &arguments, &n_arguments, &status)) {
        return status;
    }
    struct bulk bulk;
    enum err_code code = bulk_open(&f.bulk, &bulk, &err);
    if (code == ERR_OK) {
        code = predict(&bulk, &f, &err);
        bulk_close(&bulk);
    }
    return code == ERR_OK ? EXIT_DONE : command_fail("predict", &err);
}
