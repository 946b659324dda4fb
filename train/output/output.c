#include "train/output/output.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "model/heads/labels.h"
#include "train/measure/temperature.h"
#include "train/output/companions.h"

enum { LABELS_JSON_MAX = 4 * 1024 * 1024 };
/* Metadata of a file; texts from which on a temperature is worth fitting. */
enum { NOTES_MAX = 8 * TASKS_MAX + 8, FIT_TEXTS_MIN = 20 };

static void source_of(const struct param *param, struct tensor_source *ret_source)
{
    *ret_source = (struct tensor_source){
        .name = param->name,
        .rank = param->rank,
        .shape = {param->shape[0], param->rank == 2 ? param->shape[1] : 0},
        .data = param->value,
    };
}

/* The trained encoder; its new digest goes to sha256. */
static enum err_code write_encoder(const struct run *run, char sha256[SHA256_HEX_SIZE + 1],
                                   struct err *err)
{
    const struct params *params = learner_params(run->learner);
    struct tensor_source *sources = calloc(params->n_encoder, sizeof *sources);
    char *inside = config_transformer_dir(run->options->output, &run->config);
    char *path = inside ? file_join(inside, WEIGHTS_FILE) : NULL;
    free(inside);
    if (!sources || !path) {
        free(sources);
        free(path);
        return err_nomem(err, params->n_encoder * sizeof *sources);
    }
    for (size_t i = 0; i < params->n_encoder; i++) {
        source_of(&params->at[i], &sources[i]);
    }
    const struct metadata_source metadata[] = {{"format", "pt"}};
    enum err_code code = companions_copy(run->options->model_dir, &run->config,
                                         run->options->output, err);
    if (code == ERR_OK) {
        code = safetensors_write_file(path, sources, params->n_encoder, metadata, 1, err);
    }
    free(sources);
    free(path);
    struct checkpoint *written = NULL;
    if (code == ERR_OK) {
        code = checkpoint_open(run->options->output, run->options->threads, &written, err);
    }
    if (code == ERR_OK) {
        memcpy(sha256, written->encoder_sha256, SHA256_HEX_SIZE + 1);
        checkpoint_close(written);
    }
    return code;
}

/* Metadata of a heads file as it grows; strings live in the arena. */
struct notes {
    struct arena arena;
    struct metadata_source at[NOTES_MAX];
    size_t n;
    bool failed;
};

static void note(struct notes *notes, const char *head, const char *key, const char *value)
{
    size_t size = strlen(head) + strlen(key) + 2;
    char *name = arena_alloc(&notes->arena, size);
    char *copy = arena_alloc(&notes->arena, strlen(value) + 1);
    if (!name || !copy || notes->n == NOTES_MAX) {
        notes->failed = true;
        return;
    }
    (void)snprintf(name, size, "%s%s%s", head, *head ? "." : "", key);
    memcpy(copy, value, strlen(value) + 1);
    notes->at[notes->n++] = (struct metadata_source){name, copy};
}

/* "<name>.temperature": fitted on the evaluation split, else what the head began with. */
static void note_temperature(const struct run *run, size_t t, struct notes *notes)
{
    const struct task *task = &run->tasks.at[t];
    const struct dataset *data = run->eval.data;
    double temperature = task->init ? (double)task->init->temperature : 1;
    char text[32];
    float *targets = NULL;
    int32_t *labels = calloc(run->eval.n + 1, sizeof *labels);
    if (task->type == HEAD_SIGMOID) {
        targets = calloc(run->eval.n * task->classes + 1, sizeof *targets);
    }
    if (!labels || (task->type == HEAD_SIGMOID && !targets)) {
        notes->failed = true;
    }
    size_t labelled = 0;
    for (size_t i = 0; !notes->failed && i < run->eval.n; i++) {
        size_t example = run->eval.index[i];
        labels[i] = data->labels[t][example];
        labelled += labels[i] != LABEL_NONE;
        if (targets) {
            memcpy(targets + i * task->classes, data->targets[t] + example * task->classes,
                   task->classes * sizeof *targets);
        }
    }
    if (labelled >= FIT_TEXTS_MIN && task->type != HEAD_SCORE) {
        const struct judged judged = {.type = task->type,
                                      .n = run->eval.n,
                                      .classes = task->classes,
                                      .logits = run->eval_logits[t],
                                      .labels = labels,
                                      .targets = targets};
        temperature = temperature_fit(&judged);
    }
    (void)snprintf(text, sizeof text, "%.6g", temperature);
    if (strcmp(text, "1") != 0) {
        note(notes, task->name, "temperature", text);
    }
    free(labels);
    free(targets);
}

static void note_thresholds(const struct head *head, struct notes *notes)
{
    struct buf json;
    buf_init(&json, LABELS_JSON_MAX);
    for (size_t k = 0; k < head->classes; k++) {
        buf_printf(&json, "%s%.9g", k == 0 ? "[" : ",", (double)head->thresholds[k]);
    }
    buf_append_char(&json, ']');
    notes->failed = notes->failed || buf_failed(&json);
    if (!notes->failed) {
        note(notes, head->name, "thresholds", json.data);
    }
    buf_done(&json);
}

static void note_head(const struct run *run, size_t t, struct notes *notes)
{
    const struct task *task = &run->tasks.at[t];
    struct buf labels;
    buf_init(&labels, LABELS_JSON_MAX);
    if (!labels_append(task->labels.at, task->labels.n, &labels)) {
        notes->failed = true;
    } else {
        note(notes, task->name, "labels", labels.data);
    }
    buf_done(&labels);
    if (task->type != HEAD_SOFTMAX) {
        note(notes, task->name, "kind", head_type_name(task->type));
    }
    if (task->inner > 0) {
        note(notes, task->name, "activation", head_activation_name(task->activation));
    }
    if (task->identity) {
        note(notes, task->name, "function", "none");
    }
    note_temperature(run, t, notes);
    if (task->init && task->init->thresholds) {
        note_thresholds(task->init, notes);
    }
}

/* Where the file comes from: data, settings, epoch, how well it does. No time, no path: the same
 * run writes the same bytes. */
static void note_lineage(const struct run *run, struct notes *notes)
{
    const struct state *state = &run->state;
    bool eval = run->eval.n > 0;
    const struct tally *tallies = eval ? state->eval : state->train;
    struct buf json;
    buf_init(&json, LABELS_JSON_MAX);
    buf_printf(&json, "{\"orthrus\": \"%s\", \"data_sha256\": \"%s\", \"epoch\": %zu, ",
               run->options->version ? run->options->version : "", run->data.sha256,
               run->keep_best ? state->best_epoch : state->epochs_done);
    buf_printf(&json, "\"measured_on\": \"%s\", \"metrics\": {", eval ? "eval" : "train");
    const char *comma = "";
    for (size_t t = 0; t < run->tasks.n; t++) {
        const struct tally_score score = tally_score(&tallies[t]);
        if (run->tasks.at[t].classes == 0 || score.labelled == 0) {
            continue;
        }
        buf_printf(&json, "%s\"%s\": {\"loss\": %.9g, \"labelled\": %zu", comma,
                   run->tasks.at[t].name, score.loss, score.labelled);
        if (run->tasks.at[t].type == HEAD_SCORE) {
            buf_printf(&json, ", \"mean_absolute_error\": %.9g}", score.error);
        } else {
            buf_printf(&json, ", \"accuracy\": %.9g, \"macro_f1\": %.9g}", score.accuracy,
                       score.macro_f1);
        }
        comma = ", ";
    }
    buf_append_str(&json, "}, \"settings\": ");
    buf_append(&json, run->facts.data, run->facts.size);
    buf_append_char(&json, '}');
    notes->failed = notes->failed || buf_failed(&json);
    if (!notes->failed) {
        note(notes, "", "lineage", json.data);
    }
    buf_done(&json);
}

static enum err_code write_heads(const struct run *run, const char *encoder_sha256, struct err *err)
{
    const struct params *params = learner_params(run->learner);
    struct tensor_source sources[4 * TASKS_MAX];
    struct notes notes = {.n = 0};
    char pooling[POOLING_TEXT_SIZE];
    size_t n_sources = 0;
    arena_init(&notes.arena, (size_t)LABELS_JSON_MAX * 4);
    for (size_t i = params->n_encoder; i < params->n; i++) {
        source_of(&params->at[i], &sources[n_sources++]);
    }
    note(&notes, "", "format", "pt");
    note(&notes, "", "encoder.sha256", encoder_sha256);
    note(&notes, "", "encoder.tokenizer", tokenizer_digest(run->tokenizer));
    note(&notes, "", "pooling", pooling_name(run->config.pooling, pooling));
    for (size_t t = 0; t < run->tasks.n; t++) {
        if (run->tasks.at[t].classes > 0) {
            note_head(run, t, &notes);
        }
    }
    note_lineage(run, &notes);
    char *path = file_join(run->options->output, "heads.safetensors");
    enum err_code code = !notes.failed && path ? safetensors_write_file(path, sources, n_sources,
                                                                        notes.at, notes.n, err)
                                               : err_nomem(err, LABELS_JSON_MAX);
    free(path);
    arena_done(&notes.arena);
    return code;
}

enum err_code output_write(struct run *run, struct err *err)
{
    char encoder_sha256[SHA256_HEX_SIZE + 1];
    memcpy(encoder_sha256, run->encoder_sha256, sizeof encoder_sha256);
    if (run->deep) {
        enum err_code code = write_encoder(run, encoder_sha256, err);
        if (code != ERR_OK) {
            return code;
        }
    }
    return write_heads(run, encoder_sha256, err);
}
