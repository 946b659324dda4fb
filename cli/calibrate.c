/* orthrus calibrate: temperatures fitted on held-out data. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/size.h"
#include "cli/command.h"
#include "cli/flags.h"
#include "cli/heads_file.h"
#include "cli/offline.h"
#include "cli/progress.h"
#include "train/measure/eval.h"
#include "train/output/svg.h"

enum { SVG_MAX = 16 * 1024 * 1024, PLOT = 260, MARGIN = 40 };

struct calibrate_flags {
    const char *model_dir, *heads, *data, *output, *svg;
    const char *format, *text_column;
    struct flag_strings label_columns;
    size_t max_length;
    unsigned threads;
};

static bool on_done(void *context, size_t done, size_t total)
{
    struct progress *progress = context;
    progress->total = total;
    progress_update(progress, done);
    return true;
}

/* One plot: the bins' accuracy over their confidence, and the diagonal where both agree. */
static void append_plot(struct buf *out, const struct reliability *r, const char *title, int left)
{
    buf_printf(out, "<g transform=\"translate(%d,%d)\">", left + MARGIN, MARGIN);
    buf_printf(out, "<rect width=\"%d\" height=\"%d\" fill=\"none\" stroke=\"#999\"/>", PLOT, PLOT);
    buf_printf(out, "<path d=\"M0 %dL%d 0\" stroke=\"#999\" stroke-dasharray=\"4 4\"/>", PLOT,
               PLOT);
    for (size_t i = 0; i < TEMPERATURE_BINS; i++) {
        if (r->bins[i].n > 0) {
            buf_printf(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"5\" fill=\"#c2512f\"/>",
                       r->bins[i].confidence * PLOT, (1 - r->bins[i].accuracy) * PLOT);
        }
    }
    buf_printf(out, "<text x=\"0\" y=\"-12\">");
    svg_append_text(out, title);
    buf_printf(out, ": ECE %.4f, Brier %.4f</text>", r->ece, r->brier);
    buf_printf(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">confidence</text></g>",
               PLOT / 2, PLOT + 24);
}

/* A head's two diagrams side by side, as the row-th of the picture. */
static void append_diagrams(struct buf *out, const char *name,
                            const struct reliability before_after[2], size_t row)
{
    buf_printf(out,
               "<g transform=\"translate(0,%zu)\"><text x=\"%d\" y=\"20\" font-weight=\"bold\">",
               row * (PLOT + 2 * MARGIN + 20), MARGIN);
    svg_append_text(out, name);
    buf_append_str(out, "</text>");
    append_plot(out, &before_after[0], "before", 0);
    append_plot(out, &before_after[1], "after", PLOT + 2 * MARGIN);
    buf_append_str(out, "</g>\n");
}

static void print_head(const char *name, double old, double fitted, const struct reliability r[2])
{
    printf("%s: temperature %.6g, was %.6g\n", name, fitted, old);
    printf("  %-8s  %8s  %8s  %8s\n", "", "ECE", "Brier", "NLL");
    printf("  %-8s  %8.4f  %8.4f  %8.4f\n", "before", r[0].ece, r[0].brier, r[0].nll);
    printf("  %-8s  %8.4f  %8.4f  %8.4f\n", "after", r[1].ece, r[1].brier, r[1].nll);
}

/* Fits every head that the data has labels for; temperatures [heads->n] in the set's order. */
static enum err_code fit_all(const struct heads *heads, const struct eval_result *result,
                             double *temperatures, struct buf *svg, size_t *ret_rows,
                             struct err *err)
{
    for (size_t i = 0; i < heads->n; i++) {
        const struct head *head = &heads->list[i];
        temperatures[i] = (double)head->temperature;
        for (size_t t = 0; t < result->tasks.n; t++) {
            const struct judged judged = eval_judged(result, t);
            struct reliability r[2];
            if (result->tasks.at[t].init != head || result->head[t].labelled == 0 ||
                head->type == HEAD_SCORE) {
                continue;
            }
            double fitted = temperature_fit(&judged);
            enum err_code code = reliability_measure(&judged, temperatures[i], &r[0], err);
            if (code == ERR_OK) {
                code = reliability_measure(&judged, fitted, &r[1], err);
            }
            if (code != ERR_OK) {
                return code;
            }
            print_head(head->name, temperatures[i], fitted, r);
            append_diagrams(svg, head->name, r, (*ret_rows)++);
            temperatures[i] = fitted;
        }
    }
    return *ret_rows > 0 ? ERR_OK
                         : err_set(err, ERR_INVALID,
                                   "no line has a label for a softmax or sigmoid head of the file");
}

/* To path, else beside the output: OUT.svg. */
static enum err_code write_svg(const char *path, const char *output, const struct buf *diagrams,
                               size_t rows, struct err *err)
{
    struct buf out;
    struct buf beside;
    buf_init(&beside, PATH_MAX);
    buf_printf(&beside, "%s%s", path ? path : output, path ? "" : ".svg");
    buf_init(&out, SVG_MAX + 1024);
    buf_printf(&out,
               "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%zu\" "
               "font-family=\"sans-serif\" font-size=\"12\">\n"
               "<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n",
               2 * (PLOT + 2 * MARGIN), rows * (PLOT + 2 * MARGIN + 20));
    buf_append(&out, diagrams->data, diagrams->size);
    buf_append_str(&out, "</svg>\n");
    enum err_code code = buf_failed(&out) || buf_failed(&beside)
                             ? err_nomem(err, out.size)
                             : file_write_atomic(beside.data, out.data, out.size, err);
    buf_done(&beside);
    buf_done(&out);
    return code;
}

static enum err_code fit(const struct model *model, const struct heads *heads,
                         const struct calibrate_flags *flags, struct err *err)
{
    struct progress progress;
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
        .threads = flags->threads ? flags->threads : command_default_threads(),
        .progress = &hook,
    };
    enum err_code code = flags->format ? rows_format_parse(flags->format, &options.format, err)
                                       : ERR_OK;
    progress_start(&progress, "embedding", "sentences", 0);
    if (code == ERR_OK) {
        code = eval_run(model, heads, &options, &result, err);
    }
    progress_clear(&progress);
    if (code != ERR_OK) {
        return code;
    }
    double temperatures[HEADS_MAX];
    struct buf svg;
    size_t rows = 0;
    buf_init(&svg, SVG_MAX);
    code = fit_all(heads, &result, temperatures, &svg, &rows, err);
    if (code == ERR_OK && (flags->svg || flags->output)) {
        code = write_svg(flags->svg, flags->output, &svg, rows, err);
    }
    if (code == ERR_OK && flags->output) {
        code = heads_file_write(heads, temperatures, flags->output, err);
    }
    buf_done(&svg);
    eval_result_done(&result);
    return code;
}

/* What is written must not take the place of what is read, nor one result of the other. The heads
 * may be replaced by themselves with temperatures. */
static enum err_code check_outputs(const struct calibrate_flags *flags, struct err *err)
{
    if (!flags->data) {
        return err_set(err, ERR_USAGE, "--data: must be a file of held-out labelled texts");
    }
    if (flags->output && strcmp(flags->output, "-") == 0) {
        return err_set(err, ERR_USAGE, "--output: must be a file; figures go to standard output");
    }
    if (flags->output && file_same(flags->output, flags->data)) {
        return err_set(err, ERR_USAGE, "--output: is the same file as --data");
    }
    const char *const others[] = {flags->data, flags->output, flags->heads};
    for (size_t i = 0; flags->svg && i < sizeof others / sizeof *others; i++) {
        if (others[i] && file_same(flags->svg, others[i])) {
            return err_set(err, ERR_USAGE,
                           "--svg: is the same file as --data, --output or --heads");
        }
    }
    return ERR_OK;
}

static enum err_code calibrate(const struct calibrate_flags *flags, struct err *err)
{
    char *dir = NULL;
    struct encoder_options options;
    struct model *model = NULL;
    struct heads *heads = NULL;
    unsigned threads = flags->threads ? flags->threads : command_default_threads();
    enum err_code code = command_choose("auto", "fp32", threads, &options, err);
    if (code == ERR_OK) {
        code = offline_model_dir(flags->model_dir, &dir, err);
    }
    if (code == ERR_OK) {
        code = command_load(dir, &options, &model, err);
    }
    if (code == ERR_OK) {
        code = offline_heads(model, flags->heads, &heads, err);
    }
    if (code == ERR_OK) {
        code = offline_tell_left_out("calibrate", heads, false, err);
    }
    if (code == ERR_OK) {
        code = fit(model, heads, flags, err);
    }
    heads_release(heads);
    model_destroy(model);
    free(dir);
    return code;
}

int command_calibrate(int argc, char **argv)
{
    struct calibrate_flags f = {0};
    const struct flag flags[] = {
        OFFLINE_FLAG_MODEL(f.model_dir),
        OFFLINE_FLAG_HEADS(f.heads),
        {"data", 0, FLAG_STRING, &f.data, "FILE", NULL,
         "held-out labelled texts, as train reads them, needed", 0, 0, false},
        {"output", 'o', FLAG_STRING, &f.output, "FILE", "none: figures alone",
         "the heads file with its temperatures", 0, 0, false},
        {"svg", 0, FLAG_STRING, &f.svg, "FILE", "beside --output, as OUTPUT.svg",
         "a reliability diagram before and after, as SVG", 0, 0, false},
        OFFLINE_FLAGS_COLUMNS(f.format, f.text_column, f.label_columns),
        {"max-length", 0, FLAG_SIZE, &f.max_length, "N", "the model's, else 128", "tokens per text",
         2, 65536, true},
        OFFLINE_FLAG_THREADS(f.threads),
        {0},
    };
    const struct command command = {
        .name = "calibrate",
        .arguments = "",
        .summary = "Fits each head's temperature on held-out data, so that its scores are as sure "
                   "as they are right; prints calibration error (10 bins of equal mass), Brier "
                   "score and log-loss before and after.",
        .flags = flags,
    };
    struct err err = ERR_INIT;
    char **arguments;
    size_t n_arguments;
    int status;
    if (!command_begin(&command, argc, argv, &arguments, &n_arguments, &status)) {
        return status;
    }
    bool done = check_outputs(&f, &err) == ERR_OK && calibrate(&f, &err) == ERR_OK;
    return done ? EXIT_DONE : command_fail("calibrate", &err);
}
