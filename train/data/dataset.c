#include "train/data/dataset.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/size.h"
#include "train/data/answers.h"

enum { SCORE_MAX = 1000000 };

/* What one run over a file needs. */
struct loading {
    const struct dataset_options *options;
    struct tasks *tasks;
    struct arena *arena;
    struct rows rows;
    struct answers *answers; /* [tasks], owned */
    struct tokens tokens;
    size_t room_ids, room;
    bool weighted; /* a row's weight is not 1 */
    bool outside;  /* a score below 0 or above 1 */
    struct dataset data;
};

/* FNV-1a: tells texts apart well enough to count those that occur twice. */
static uint64_t hash_text(const char *text, size_t size)
{
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < size; i++) {
        hash = (hash ^ (unsigned char)text[i]) * 1099511628211u;
    }
    return hash;
}

static bool grow_array(void **array, size_t room, size_t size)
{
    void *more = realloc(*array, room * size);
    *array = more ? more : *array;
    return more != NULL;
}

/* Room for one more example of n tokens. */
static enum err_code grow(struct loading *loading, size_t n, struct err *err)
{
    struct dataset *data = &loading->data;
    size_t used = data->n == 0 ? 0 : data->starts[data->n];
    if (data->n + 1 >= loading->room) {
        size_t room = loading->room * 2 + 1024;
        bool good = grow_array((void **)&data->starts, room, sizeof *data->starts) &&
                    grow_array((void **)&data->weights, room, sizeof *data->weights) &&
                    grow_array((void **)&data->texts, room, sizeof *data->texts) &&
                    (!loading->options->columns->group ||
                     grow_array((void **)&data->groups, room, sizeof *data->groups));
        for (size_t i = 0; good && i < data->tasks; i++) {
            good = grow_array((void **)&data->labels[i], room, sizeof(int32_t)) &&
                   (loading->tasks->at[i].type != HEAD_SCORE ||
                    grow_array((void **)&data->targets[i], room, sizeof(float)));
        }
        if (!good) {
            return err_nomem(err, room * sizeof *data->starts);
        }
        loading->room = room;
    }
    if (n > loading->room_ids - used) {
        size_t room = loading->room_ids * 2 + size_max(n, 65536);
        if (!grow_array((void **)&data->ids, room, sizeof *data->ids)) {
            return err_nomem(err, room * sizeof *data->ids);
        }
        loading->room_ids = room;
    }
    return ERR_OK;
}

static enum err_code read_score(struct loading *loading, size_t i, const struct cell *cell,
                                struct err *err)
{
    struct dataset *data = &loading->data;
    char sentence[ERR_TEXT_MAX];
    bool there = cell->kind != CELL_NONE;
    if (there && (cell->kind == CELL_OTHER || cell->kind == CELL_LIST ||
                  (cell->typed && cell->kind == CELL_WORD) || !(fabs(cell->number) <= SCORE_MAX))) {
        snprintf(sentence, sizeof sentence, "\"%s\" must be a number of at most %d",
                 loading->tasks->at[i].name, SCORE_MAX);
        return rows_bad(&loading->rows, err, sentence);
    }
    data->labels[i][data->n] = there ? 0 : LABEL_NONE;
    data->targets[i][data->n] = there ? (float)cell->number : 0;
    loading->outside = loading->outside || (there && !(cell->number >= 0 && cell->number <= 1));
    return ERR_OK;
}

static enum err_code read_labels(struct loading *loading, struct err *err)
{
    struct dataset *data = &loading->data;
    enum err_code code = ERR_OK;
    for (size_t i = 0; code == ERR_OK && i < data->tasks; i++) {
        const struct task *task = &loading->tasks->at[i];
        const struct cell *cell = &loading->rows.labels[i];
        bool labelled = cell->kind != CELL_NONE;
        if (task->type == HEAD_SCORE) {
            code = read_score(loading, i, cell, err);
        } else {
            code = answers_add(&loading->answers[i], task, &loading->rows, cell, data->n, &labelled,
                               err);
            data->labels[i][data->n] = labelled ? 0 : LABEL_NONE;
        }
        data->labelled[i] += labelled;
    }
    return code;
}

static enum err_code add_example(struct loading *loading, struct err *err)
{
    struct dataset *data = &loading->data;
    struct tokens *tokens = &loading->tokens;
    const struct rows *rows = &loading->rows;
    const struct encode_options options = {.max_length = loading->options->max_length,
                                           .add_special_tokens = true};
    if (data->n == DATASET_LINES_MAX) {
        return err_set(err, ERR_LIMIT, "%s: more than %d examples", loading->options->path,
                       DATASET_LINES_MAX);
    }
    enum err_code code = tokenizer_encode(loading->options->tokenizer, rows->text, rows->text_size,
                                          &options, tokens, err);
    if (code == ERR_OK && tokens->n == 0) {
        code = rows_bad(rows, err, "a text without any token");
    }
    if (code == ERR_OK) {
        code = grow(loading, tokens->n, err);
    }
    if (code == ERR_OK) {
        code = read_labels(loading, err);
    }
    if (code != ERR_OK) {
        return code;
    }
    CHECK(data->starts && data->ids);
    if (data->n == 0) {
        data->starts[0] = 0;
    }
    memcpy(data->ids + data->starts[data->n], tokens->ids, tokens->n * sizeof *data->ids);
    data->starts[data->n + 1] = data->starts[data->n] + tokens->n;
    data->longest = size_max(data->longest, tokens->n);
    data->truncated += tokens->truncated;
    data->weights[data->n] = (float)rows->weight;
    loading->weighted = loading->weighted || rows->weight != 1;
    data->texts[data->n] = hash_text(rows->text, rows->text_size);
    if (data->groups) {
        char number[32];
        const struct cell *group = &rows->group;
        int size = snprintf(number, sizeof number, "%lld", (long long)group->integer);
        data->groups[data->n] = group->kind == CELL_WORD ? hash_text(group->text, group->size)
                                                         : hash_text(number, (size_t)size);
        if (group->kind != CELL_WORD && group->kind != CELL_INTEGER) {
            return rows_bad(rows, err, "the member of --split-by must be there, text or a number");
        }
    }
    data->n++;
    return ERR_OK;
}

/* Codes to classes, and lists to rows of targets. */
static enum err_code settle(struct loading *loading, size_t i, struct err *err)
{
    struct dataset *data = &loading->data;
    struct task *task = &loading->tasks->at[i];
    struct answers *answers = &loading->answers[i];
    if (task->type == HEAD_SCORE) {
        task->identity = task->init ? task->identity : task->identity || loading->outside;
        return ERR_OK;
    }
    enum err_code code = answers_settle(answers, task, loading->options->path, loading->arena, err);
    if (code != ERR_OK) {
        return code;
    }
    if (task->type == HEAD_SIGMOID) {
        size_t classes = size_max(task->labels.n, 1);
        data->targets[i] = calloc(data->n * classes, sizeof(float));
        if (!data->targets[i]) {
            return err_nomem(err, data->n * classes * sizeof(float));
        }
        for (size_t k = 0; k < answers->n; k++) {
            data->targets[i][answers->at[k].row * classes + (size_t)answers->at[k].code] = 1;
        }
        return ERR_OK;
    }
    for (size_t k = 0; k < answers->n; k++) {
        data->labels[i][answers->at[k].row] = answers->at[k].code;
    }
    return ERR_OK;
}

static enum err_code load(struct loading *loading, struct err *err)
{
    const struct dataset_options *options = loading->options;
    size_t tasks = loading->tasks->n;
    enum err_code code = ERR_OK;
    loading->data.tasks = tasks;
    loading->answers = calloc(tasks, sizeof *loading->answers);
    if (!loading->answers) {
        return err_nomem(err, tasks * sizeof *loading->answers);
    }
    for (size_t i = 0; code == ERR_OK && i < tasks; i++) {
        code = answers_init(&loading->answers[i], err);
    }
    if (code == ERR_OK) {
        code = rows_open(options->path, options->format, options->columns, &loading->rows, err);
    }
    bool end = false;
    while (code == ERR_OK && !end) {
        code = rows_next(&loading->rows, &end, err);
        if (code == ERR_OK && !end) {
            code = add_example(loading, err);
        }
    }
    if (code == ERR_OK && loading->data.n == 0) {
        code = err_set(err, ERR_INVALID, "%s: holds no example", options->path);
    }
    for (size_t i = 0; code == ERR_OK && i < tasks; i++) {
        code = settle(loading, i, err);
    }
    if (code == ERR_OK) {
        reader_digest_text(&loading->rows.reader, loading->data.sha256);
    }
    if (!loading->weighted) {
        free(loading->data.weights);
        loading->data.weights = NULL;
    }
    return code;
}

enum err_code dataset_load(const struct dataset_options *options, struct tasks *tasks,
                           struct arena *arena, struct dataset *ret_dataset, struct err *err)
{
    struct loading loading = {.options = options, .tasks = tasks, .arena = arena};
    CHECK(options->columns->n == tasks->n);
    enum err_code code = load(&loading, err);
    for (size_t i = 0; loading.answers && i < tasks->n; i++) {
        answers_done(&loading.answers[i]);
    }
    free(loading.answers);
    rows_close(&loading.rows);
    tokens_done(&loading.tokens);
    if (code != ERR_OK) {
        dataset_done(&loading.data);
        return code;
    }
    *ret_dataset = loading.data;
    return ERR_OK;
}

void dataset_done(struct dataset *dataset)
{
    if (dataset) {
        free(dataset->ids);
        free(dataset->starts);
        free(dataset->weights);
        free(dataset->texts);
        free(dataset->groups);
        for (size_t i = 0; i < TASKS_MAX; i++) {
            free(dataset->labels[i]);
            free(dataset->targets[i]);
        }
        *dataset = (struct dataset){0};
    }
}

static int descending(const void *a, const void *b)
{
    size_t x = *(const size_t *)a;
    size_t y = *(const size_t *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

enum err_code dataset_batch_tokens(const struct dataset *dataset, size_t texts, size_t *ret_tokens,
                                   struct err *err)
{
    size_t *lengths = calloc(dataset->n, sizeof *lengths);
    if (!lengths) {
        return err_nomem(err, dataset->n * sizeof *lengths);
    }
    for (size_t i = 0; i < dataset->n; i++) {
        lengths[i] = dataset_length(dataset, i);
    }
    qsort(lengths, dataset->n, sizeof *lengths, descending);
    size_t tokens = 0;
    for (size_t i = 0; i < dataset->n && i < texts; i++) {
        tokens += lengths[i];
    }
    free(lengths);
    *ret_tokens = tokens;
    return ERR_OK;
}
