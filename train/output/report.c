#include "train/output/report.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/jval.h"

enum { REPORT_BYTES_MAX = 256 * 1024 * 1024, STEP_LINE_MAX = 65536 };

/* ---- report.json ---- */

static void append_heads(const struct run *run, const struct tally tallies[TASKS_MAX],
                         struct buf *out)
{
    bool first = true;
    buf_append_char(out, '{');
    for (size_t t = 0; t < run->tasks.n; t++) {
        if (run->tasks.at[t].classes > 0) {
            buf_printf(out, "%s\"%s\": ", first ? "" : ", ", run->tasks.at[t].name);
            tally_append_json(&tallies[t], &run->tasks.at[t].labels, out);
            first = false;
        }
    }
    buf_append_char(out, '}');
}

static void append_string(struct buf *out, const char *key, const char *value)
{
    buf_printf(out, "\"%s\": ", key);
    jval_append_string(out, value, strlen(value));
    buf_append_str(out, ", ");
}

static bool report_json(const struct run *run, struct buf *out)
{
    const struct state *state = &run->state;
    double seconds = 0;
    buf_append_char(out, '{');
    append_string(out, "model", run->options->model_dir);
    append_string(out, "data", run->options->data);
    append_string(out, "pooling", pooling_name(run->config.pooling, (char[POOLING_TEXT_SIZE]){0}));
    buf_printf(out, "\"encoder_trained\": %s, \"examples\": {\"train\": %zu, \"eval\": %zu}, ",
               run->deep ? "true" : "false", run->train.n, run->eval.n);
    buf_append_str(out, "\"settings\": ");
    buf_append(out, run->facts.data, run->facts.size);
    buf_printf(out, ", \"steps\": %llu, \"epochs\": [", (unsigned long long)state->steps);
    for (size_t i = 0; i < state->epochs_done; i++) {
        buf_append_str(out, i == 0 ? "" : ", ");
        state_append_epoch(&state->history[i], &run->tasks, out);
        seconds += state->history[i].seconds;
    }
    size_t kept = run->keep_best ? state->best_epoch : state->epochs_done;
    buf_printf(out, "], \"seconds\": %.9g, \"kept_epoch\": %zu, \"train\": ", seconds, kept);
    append_heads(run, state->train, out);
    if (run->eval.n > 0) {
        buf_append_str(out, ", \"eval\": ");
        append_heads(run, state->eval, out);
    }
    return buf_append_str(out, "}\n");
}

/* ---- the steps, from train.jsonl ---- */

static bool read_step(const char *line, size_t size, struct report_step *ret_step)
{
    struct jval *object;
    if (jval_parse(line, size, &object, NULL) != ERR_OK) {
        return false;
    }
    bool good = jval_double(jval_get(object, "loss"), &ret_step->loss) &&
                jval_double(jval_get(object, "lr"), &ret_step->lr) &&
                (jval_double(jval_get(object, "grad_norm"), &ret_step->grad_norm) ||
                 jval_is_null(jval_get(object, "grad_norm")));
    jval_free(object);
    return good;
}

static enum err_code read_steps(struct run *run, struct report_step **ret_steps, size_t *ret_n,
                                struct err *err)
{
    struct report_step *steps = calloc(run->state.steps + 1, sizeof *steps);
    if (!steps) {
        return err_nomem(err, run->state.steps * sizeof *steps);
    }
    struct file_map map = {0};
    enum err_code code = ERR_OK;
    size_t n = 0;
    if (fflush(run->log) != 0) {
        code = err_set(err, ERR_IO, "%s: write failed", run->log_path);
    } else {
        code = file_map_open(run->log_path, SIZE_MAX, &map, err);
    }
    if (code != ERR_OK) {
        free(steps);
        return code;
    }
    size_t at = 0;
    while (at < map.size && n < run->state.steps) {
        const char *line = (const char *)map.data + at;
        const char *newline = memchr(line, '\n', map.size - at);
        size_t size = newline ? (size_t)(newline - line) : map.size - at;
        if (size <= STEP_LINE_MAX && read_step(line, size, &steps[n])) {
            n++;
        }
        at += size + 1;
    }
    file_map_close(&map);
    *ret_steps = steps;
    *ret_n = n;
    return ERR_OK;
}

static enum err_code write_named(const struct run *run, const char *name, const struct buf *text,
                                 struct err *err)
{
    char *path = file_join(run->options->output, name);
    enum err_code code = path ? file_write_atomic(path, text->data, text->size, err)
                              : err_nomem(err, strlen(name));
    free(path);
    return code;
}

enum err_code report_write(struct run *run, struct err *err)
{
    struct report report = {.run = run};
    struct report_step *steps = NULL;
    struct buf json;
    struct buf page;
    buf_init(&json, REPORT_BYTES_MAX);
    buf_init(&page, REPORT_BYTES_MAX);
    enum err_code code = read_steps(run, &steps, &report.n_steps, err);
    report.steps = steps;
    if (code == ERR_OK && (!report_json(run, &json) || !report_html(&report, &page))) {
        code = err_nomem(err, json.size + page.size);
    }
    if (code == ERR_OK) {
        code = write_named(run, "report.json", &json, err);
    }
    if (code == ERR_OK) {
        code = write_named(run, "report.html", &page, err);
    }
    free(steps);
    buf_done(&json);
    buf_done(&page);
    return code;
}
