/* report.html: loss curves and confusion matrices as inline SVG. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/jval.h"
#include "base/size.h"
#include "train/output/report.h"
#include "train/output/svg.h"

/* Lines in a chart by epoch: more heads than fit are left out of it. */
enum { LINES_MAX = 16 };
enum { POINTS_MAX = 600, WIDE = 1000, NARROW = 480 };

static const char style[] =
    ":root{--bg:#fbfaf8;--card:#fff;--ink:#1d2430;--soft:#6b7484;--rule:#e6e3dd;--c1:#c2512f;"
    "--c2:#2f6fb2;--c3:#3b8f5a;--c4:#8a5bb5;--cell:#c2512f;--over:#fff}"
    "@media(prefers-color-scheme:dark){:root{--bg:#14171c;--card:#1c2027;--ink:#e8e6e1;"
    "--soft:#98a1b0;--rule:#2c323c;--c1:#e98463;--c2:#74abe2;--c3:#77c596;--c4:#bd95e2;"
    "--cell:#e98463;--over:#14171c}}"
    "*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--ink);"
    "font:15px/1.5 system-ui,sans-serif}main{max-width:1080px;margin:0 auto;padding:32px 20px 64px}"
    "h1{font-size:26px;margin:0 0 4px}h2{font-size:18px;margin:36px 0 12px}"
    "p{color:var(--soft);margin:0 0 18px}"
    ".cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px}"
    ".card,figure{background:var(--card);border:1px solid var(--rule);border-radius:10px;"
    "padding:14px 16px;margin:0}.card b{display:block;font-size:24px;line-height:1.2}"
    ".card span{color:var(--soft);font-size:13px}"
    ".grid2{display:grid;grid-template-columns:repeat(auto-fit,minmax(420px,1fr));gap:14px}"
    "figcaption{margin-bottom:8px}.key{display:inline-block;margin-left:14px;color:var(--soft);"
    "font-size:13px}"
    ".key::before{content:\"\";display:inline-block;width:14px;height:3px;border-radius:2px;"
    "margin-right:6px;vertical-align:middle;background:currentColor}"
    "svg{width:100%;height:auto;display:block}svg text{font-size:11px;fill:var(--soft)}"
    ".end{text-anchor:end}.mid{text-anchor:middle}.grid{stroke:var(--rule);fill:none}"
    ".line{fill:none;stroke-width:2;stroke-linejoin:round;stroke:currentColor}"
    ".dot{fill:currentColor}.key.raw{color:var(--c1);opacity:.6}.line.raw{color:var(--c1);opacity:."
    "28;stroke-width:1}"
    ".c1{color:var(--c1)}.c2{color:var(--c2)}.c3{color:var(--c3)}.c4{color:var(--c4)}"
    ".matrix text{fill:var(--ink)}.matrix .soft{fill:var(--soft)}.matrix .over{fill:var(--over)}"
    ".cell{fill:var(--cell)}table{border-collapse:collapse;width:100%;font-size:14px}"
    "th,td{padding:5px 8px;text-align:right;border-bottom:1px solid var(--rule);"
    "font-variant-numeric:tabular-nums}th:first-child,td:first-child{text-align:left}"
    "th{color:var(--soft);font-weight:600}td code{overflow-wrap:anywhere}"
    ".wide{overflow-x:auto}.heads{display:grid;gap:14px;"
    "grid-template-columns:repeat(auto-fit,minmax(420px,1fr))}"
    "@media(max-width:520px){.grid2,.heads{grid-template-columns:1fr}}";

static void append_card(struct buf *out, const char *what, const char *format, double value)
{
    char text[32];
    snprintf(text, sizeof text, strcmp(format, "%") == 0 ? "%.1f %%" : "%.4g",
             strcmp(format, "%") == 0 ? 100 * value : value);
    buf_append_str(out, "<div class=\"card\"><b>");
    svg_append_text(out, text);
    buf_append_str(out, "</b><span>");
    svg_append_text(out, what);
    buf_append_str(out, "</span></div>");
}

static void append_summary(const struct report *report, struct buf *out)
{
    const struct run *run = report->run;
    bool eval = run->eval.n > 0;
    const struct tally *tallies = eval ? run->state.eval : run->state.train;
    char what[96];
    buf_append_str(out, "<div class=\"cards\">");
    for (size_t t = 0; t < run->tasks.n; t++) {
        struct tally_score score = tally_score(&tallies[t]);
        const char *name = run->tasks.at[t].name;
        const char *side = eval ? "eval" : "train";
        if (score.labelled == 0) {
            continue;
        }
        if (run->tasks.at[t].type != HEAD_SCORE) {
            snprintf(what, sizeof what, "%s accuracy, %s", name, side);
            append_card(out, what, "%", score.accuracy);
            snprintf(what, sizeof what, "%s macro-F1, %s", name, side);
            append_card(out, what, "%", score.macro_f1);
        } else {
            snprintf(what, sizeof what, "%s mean absolute error, %s", name, side);
            append_card(out, what, "", score.error);
        }
        snprintf(what, sizeof what, "%s loss, %s", name, side);
        append_card(out, what, "", score.loss);
    }
    buf_append_str(out, "</div>\n");
}

/* Means over equal runs of steps, so that a long run stays a small page. */
static size_t thin(const struct report *report, size_t offset, double *x, double *y)
{
    size_t points = size_min(report->n_steps, POINTS_MAX);
    for (size_t i = 0; i < points; i++) {
        size_t from = i * report->n_steps / points;
        size_t to = (i + 1) * report->n_steps / points;
        double sum = 0;
        for (size_t j = from; j < to; j++) {
            double value;
            memcpy(&value, (const char *)&report->steps[j] + offset, sizeof value);
            sum += value;
        }
        x[i] = (double)to;
        y[i] = sum / (double)(to - from);
    }
    return points;
}

/* An exponential mean, so that the trend shows through the noise of small batches. */
static void smooth(const double *y, size_t n, double *out)
{
    double keep = n > 40 ? 0.94 : 0.6;
    for (size_t i = 0; i < n; i++) {
        out[i] = i == 0 ? y[0] : keep * out[i - 1] + (1 - keep) * y[i];
    }
}

static void append_step_charts(const struct report *report, struct buf *out)
{
    static const struct {
        const char *title;
        const char *class;
        size_t offset;
    } small[] = {
        {"Gradient norm", "c4", offsetof(struct report_step, grad_norm)},
        {"Learning rate", "c2", offsetof(struct report_step, lr)},
    };
    double x[POINTS_MAX], y[POINTS_MAX], even[POINTS_MAX];
    size_t n = thin(report, offsetof(struct report_step, loss), x, y);
    smooth(y, n, even);
    const struct svg_line loss[] = {{"each step", "raw", x, y, n, false},
                                    {"smoothed", "c1", x, even, n, false}};
    const struct svg_axes axes = {"Training loss", "step", WIDE, false, false};
    svg_chart(out, &axes, loss, 2);
    buf_append_str(out, "<div class=\"grid2\" style=\"margin-top:14px\">");
    for (size_t i = 0; i < sizeof small / sizeof *small; i++) {
        n = thin(report, small[i].offset, x, y);
        const struct svg_line line = {small[i].title, small[i].class, x, y, n, false};
        const struct svg_axes narrow = {small[i].title, "step", NARROW, true, false};
        svg_chart(out, &narrow, &line, 1);
    }
    buf_append_str(out, "</div>\n");
}

/* One number of every epoch, chosen by split, head and member. */
static double epoch_value(const struct epoch_result *epoch, bool eval, int head, size_t offset)
{
    const struct split_result *split = eval ? &epoch->eval : &epoch->train;
    double value;
    if (head < 0) {
        return split->loss;
    }
    memcpy(&value, (const char *)&split->head[head] + offset, sizeof value);
    return value;
}

static void append_epoch_charts(const struct report *report, struct buf *out)
{
    const struct run *run = report->run;
    const struct state *state = &run->state;
    size_t n = state->epochs_done;
    static const char *const classes[] = {"c1", "c2", "c3", "c4"};
    char names[LINES_MAX][HEADS_NAME_MAX + 16];
    static const struct {
        const char *title;
        int head; /* -1: the whole loss */
        size_t offset;
        bool share;
    } charts[] = {
        {"Loss by epoch", -1, 0, false},
        {"Accuracy by epoch", 0, offsetof(struct tally_score, accuracy), true},
        {"Macro-F1 by epoch", 0, offsetof(struct tally_score, macro_f1), true},
    };
    size_t splits = run->eval.n > 0 ? 2 : 1;
    double *x = calloc(n + 1, sizeof *x);
    double *y = calloc((n + 1) * LINES_MAX, sizeof *y);
    for (size_t c = 0; x && y && c < sizeof charts / sizeof *charts; c++) {
        struct svg_line lines[LINES_MAX];
        size_t used = 0;
        for (size_t split = 0; split < splits; split++) {
            size_t heads = charts[c].head < 0 ? 1 : run->tasks.n;
            for (size_t head = 0; head < heads && used < LINES_MAX; head++) {
                if (charts[c].head >= 0 &&
                    (run->tasks.at[head].classes == 0 || run->tasks.at[head].type == HEAD_SCORE)) {
                    continue;
                }
                double *values = y + used * (n + 1);
                for (size_t i = 0; i < n; i++) {
                    x[i] = (double)(i + 1);
                    values[i] = epoch_value(&state->history[i], split == 1,
                                            charts[c].head < 0 ? -1 : (int)head, charts[c].offset);
                }
                const char *side = split == 0 ? "train" : "eval";
                snprintf(names[used], sizeof names[used], "%s%s%s",
                         charts[c].head >= 0 ? run->tasks.at[head].name : "",
                         charts[c].head >= 0 ? ", " : "", side);
                lines[used] = (struct svg_line){
                    names[used], classes[(2 * split + head) % 4], x, values, n, n <= 60};
                used++;
            }
        }
        const struct svg_axes axes = {charts[c].title, "epoch", NARROW, true, charts[c].share};
        svg_chart(out, &axes, lines, used);
    }
    out->failed = out->failed || !x || !y;
    free(x);
    free(y);
}

static void append_classes(const struct tally *tally, const struct label_set *labels,
                           struct buf *out)
{
    buf_append_str(out, "<div class=\"wide\"><table><tr><th>class<th>precision<th>recall<th>F1"
                        "<th>support</tr>");
    for (size_t k = 0; k < tally->classes; k++) {
        struct tally_class class = tally_class(tally, k);
        buf_append_str(out, "<tr><td>");
        svg_append_text(out, labels->at[k]);
        buf_printf(out, "<td>%.3f<td>%.3f<td>%.3f<td>%zu</tr>", class.precision, class.recall,
                   class.f1, class.support);
    }
    buf_append_str(out, "</table></div>");
}

static void append_matrices(const struct report *report, struct buf *out)
{
    const struct run *run = report->run;
    for (int eval = run->eval.n > 0; eval >= 0; eval--) {
        const struct tally *tallies = eval ? run->state.eval : run->state.train;
        buf_printf(out, "<h2>%s</h2><div class=\"heads\">",
                   eval ? "Held out" : "As it was trained (before each update)");
        for (size_t t = 0; t < run->tasks.n; t++) {
            const struct label_set *labels = &run->tasks.at[t].labels;
            if (tallies[t].labelled > 0 && tallies[t].type != HEAD_SCORE) {
                buf_printf(out, "<figure><figcaption><b>%s</b></figcaption>",
                           run->tasks.at[t].name);
                if (tallies[t].type == HEAD_SOFTMAX) {
                    svg_confusion(out, &tallies[t], labels);
                }
                append_classes(&tallies[t], labels, out);
                buf_append_str(out, "</figure>");
            }
        }
        buf_append_str(out, "</div>\n");
    }
}

static void append_settings(const struct run *run, struct buf *out)
{
    struct jval *facts = NULL;
    if (jval_parse(run->facts.data, run->facts.size, &facts, NULL) != ERR_OK) {
        out->failed = true;
        return;
    }
    const char *key;
    const struct jval *value;
    void *iter = NULL;
    buf_append_str(out, "<h2>Settings</h2><figure class=\"wide\"><table>");
    while ((iter = jval_object_next(facts, iter, &key, &value)) != NULL) {
        const char *text = "";
        size_t size;
        double number;
        char *end = NULL;
        char plain[32];
        (void)jval_string(value, &text, &size);
        number = strtod(text, &end);
        if (end != text && *end == '\0') {
            snprintf(plain, sizeof plain, "%g", number);
            text = plain;
        }
        buf_append_str(out, "<tr><td>");
        svg_append_text(out, key);
        buf_append_str(out, "<td><code>");
        svg_append_text(out, text);
        buf_append_str(out, "</code></tr>");
    }
    buf_append_str(out, "</table></figure>\n");
    jval_free(facts);
}

bool report_html(const struct report *report, struct buf *out)
{
    const struct run *run = report->run;
    double seconds = 0;
    for (size_t i = 0; i < run->state.epochs_done; i++) {
        seconds += run->state.history[i].seconds;
    }
    buf_append_str(out, "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">"
                        "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">"
                        "<title>orthrus train</title><style>");
    buf_append_str(out, style);
    buf_append_str(out, "</style><main><h1>Training report</h1><p>");
    svg_append_text(out, run->options->data);
    buf_append_str(out, " on ");
    svg_append_text(out, run->options->model_dir);
    buf_printf(out, ": %zu examples to train on", run->train.n);
    if (run->eval.n > 0) {
        buf_printf(out, ", %zu held out", run->eval.n);
    }
    buf_printf(out, ", %zu epochs, %llu steps, %.3g s; the encoder was %s.</p>\n",
               run->state.epochs_done, (unsigned long long)run->state.steps, seconds,
               run->deep ? "trained" : "frozen");
    append_summary(report, out);
    buf_append_str(out, "<h2>Curves</h2>");
    append_step_charts(report, out);
    buf_append_str(out, "<div class=\"grid2\" style=\"margin-top:14px\">");
    append_epoch_charts(report, out);
    buf_append_str(out, "</div>\n");
    append_matrices(report, out);
    append_settings(run, out);
    return buf_append_str(out, "</main></html>\n");
}
