#include "train/data/tasks.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/jval.h"
#include "model/heads/labels.h"

enum { WORDS_MAX = 1024 * 1024 };

static const char head_form[] =
    "--head: must be NAME[:softmax|sigmoid|score][:dense=M[,tanh|gelu|relu]], with M from 1 to "
    "8192";

struct task *tasks_find(struct tasks *tasks, const char *name, size_t size)
{
    for (size_t i = 0; i < tasks->n; i++) {
        if (strlen(tasks->at[i].name) == size && memcmp(tasks->at[i].name, name, size) == 0) {
            return &tasks->at[i];
        }
    }
    return NULL;
}

/* ---- --head ---- */

static bool is_word(const char *at, size_t size, const char *word)
{
    return strlen(word) == size && memcmp(at, word, size) == 0;
}

/* "dense=64,gelu" into the task. */
static bool read_dense(const char *at, size_t size, struct task *task)
{
    static const char key[] = "dense=";
    char *end;
    if (size < sizeof key || strncmp(at, key, sizeof key - 1) != 0 || at[sizeof key - 1] < '0' ||
        at[sizeof key - 1] > '9') {
        return false;
    }
    errno = 0;
    unsigned long inner = strtoul(at + sizeof key - 1, &end, 10);
    size_t left = size - (size_t)(end - at);
    if (errno != 0 || inner < 1 || inner > HEADS_INNER_MAX) {
        return false;
    }
    task->inner = inner;
    task->activation = HEAD_TANH;
    if (left == 0) {
        return true;
    }
    for (enum head_activation a = 0; *end == ',' && a < HEAD_ACTIVATIONS; a++) {
        if (is_word(end + 1, left - 1, head_activation_name(a))) {
            task->activation = a;
            return true;
        }
    }
    return false;
}

static enum err_code read_head(const char *word, struct tasks *tasks, struct err *err)
{
    struct task task = {.weight = 1};
    size_t size = strcspn(word, ":");
    if (size == 0 || size > HEADS_NAME_MAX) {
        return err_set(err, ERR_USAGE, "%s", head_form);
    }
    memcpy(task.name, word, size);
    if (!head_name_ok(task.name)) {
        return err_set(err, ERR_USAGE,
                       "--head: a name is a small letter and up to 63 of a-z, 0-9, _ and -, and "
                       "none of the reserved words");
    }
    bool typed = false;
    for (const char *at = word + size; *at == ':'; at += size) {
        at++;
        size = strcspn(at, ":");
        bool known = false;
        for (enum head_type type = 0; !typed && type < HEAD_TOKENS; type++) {
            if (is_word(at, size, head_type_name(type))) {
                task.type = type;
                known = typed = true;
            }
        }
        if (!known && (task.inner > 0 || !read_dense(at, size, &task))) {
            return err_set(err, ERR_USAGE, "%s", head_form);
        }
    }
    if (tasks_find(tasks, task.name, strlen(task.name))) {
        return err_set(err, ERR_USAGE, "--head: %s is given twice", task.name);
    }
    if (tasks->n == TASKS_MAX) {
        return err_set(err, ERR_USAGE, "--head: at most %d heads", TASKS_MAX);
    }
    tasks->at[tasks->n++] = task;
    return ERR_OK;
}

/* ---- what a heads file gives ---- */

static void take_head(const struct head *head, struct task *task)
{
    *task = (struct task){
        .type = head->type,
        .inner = head->inner,
        .activation = head->activation,
        .identity = head->identity,
        .labels = {head->classes, head->labels},
        .weight = 1,
        .init = head,
        .classes = head->classes,
    };
    (void)snprintf(task->name, sizeof task->name, "%s", head->name);
}

static enum err_code check_head(const struct head *head, struct err *err)
{
    if (head->type == HEAD_TOKENS || head->input != HEAD_INPUT_POOLED) {
        return err_set(err, ERR_UNSUPPORTED,
                       "--init-heads: %s reads %s; heads on the pooled vector can be trained",
                       head->name, head_input_name(head->input));
    }
    return ERR_OK;
}

static enum err_code merge_init(struct tasks *tasks, const struct heads *init, bool named,
                                struct err *err)
{
    for (size_t i = 0; init && i < init->n; i++) {
        const struct head *head = &init->list[i];
        struct task *task = tasks_find(tasks, head->name, strlen(head->name));
        if (!task && named) {
            continue;
        }
        enum err_code code = check_head(head, err);
        if (code != ERR_OK) {
            return code;
        }
        if (task && named &&
            (task->type != head->type || (task->inner > 0 && task->inner != head->inner))) {
            return err_set(err, ERR_MISMATCH, "--head: %s is another kind in --init-heads",
                           head->name);
        }
        take_head(head, task ? task : &tasks->at[tasks->n++]);
    }
    return ERR_OK;
}

void tasks_of_heads(const struct heads *heads, struct tasks *ret_tasks)
{
    *ret_tasks = (struct tasks){0};
    for (size_t i = 0; i < heads->n; i++) {
        if (heads->list[i].input == HEAD_INPUT_POOLED && heads->list[i].type != HEAD_TOKENS) {
            take_head(&heads->list[i], &ret_tasks->at[ret_tasks->n++]);
        }
    }
}

/* ---- labels ---- */

/* "A,B,C" → the set, checked as a heads file's labels are. */
static enum err_code parse_labels(const char *words, const struct task *task, struct arena *arena,
                                  struct label_set *ret_set, struct err *err)
{
    struct buf json;
    buf_init(&json, WORDS_MAX);
    buf_append_char(&json, '[');
    size_t n = 0;
    for (const char *at = words;; n++) {
        size_t length = strcspn(at, ",");
        buf_append_str(&json, n == 0 ? "" : ",");
        jval_append_string(&json, at, length);
        if (at[length] == '\0') {
            n++;
            break;
        }
        at += length + 1;
    }
    buf_append_char(&json, ']');
    size_t least = task->type == HEAD_SOFTMAX ? 2 : 1;
    enum err_code code;
    if (buf_failed(&json)) {
        code = err_set(err, ERR_LIMIT, "--labels: more than %d bytes", WORDS_MAX);
    } else if (task->type == HEAD_SCORE) {
        code = err_set(err, ERR_USAGE, "--labels: %s is a score head, which has none", task->name);
    } else if (n < least || n > HEADS_CLASSES_MAX) {
        code = err_set(err, ERR_USAGE, "--labels: %s needs %zu to %d labels", task->name, least,
                       HEADS_CLASSES_MAX);
    } else {
        const struct head head = {.name = task->name, .type = task->type, .classes = n};
        code = labels_read(json.data, &head, "--labels", arena, &ret_set->at, err);
        ret_set->n = code == ERR_OK ? n : 0;
    }
    buf_done(&json);
    return code;
}

static enum err_code read_labels(const char *flag, struct tasks *tasks, struct arena *arena,
                                 struct err *err)
{
    size_t size = strcspn(flag, "=");
    struct task *task = flag[size] == '=' ? tasks_find(tasks, flag, size) : NULL;
    if (!task) {
        return err_set(err, ERR_USAGE,
                       "--labels: must be like NAME=A,B,C, with the name of a head of this run");
    }
    struct label_set set = {0};
    enum err_code code = parse_labels(flag + size + 1, task, arena, &set, err);
    if (code != ERR_OK) {
        return code;
    }
    if (task->init && task->init->classes != set.n) {
        return err_set(err, ERR_MISMATCH, "--labels: %s has %zu labels, but --init-heads has %zu",
                       task->name, set.n, task->init->classes);
    }
    task->labels = set;
    task->labels_known = false;
    return ERR_OK;
}

/* The six and three that the project knows, where nothing else says more; a score head's one. */
static enum err_code default_labels(struct task *task, struct arena *arena, struct err *err)
{
    struct head head = {.name = task->name, .type = task->type};
    if (task->labels.n > 0) {
        return ERR_OK;
    }
    if (task->type == HEAD_SCORE) {
        const char *const own[] = {task->name};
        task->labels.n = 1;
        return labels_copy(own, 1, arena, &task->labels.at, err);
    }
    bool classifier = strcmp(task->name, "classifier") == 0;
    if (task->type != HEAD_SOFTMAX || (!classifier && strcmp(task->name, "sentiment") != 0)) {
        return ERR_OK;
    }
    head.classes = classifier ? 6 : 3;
    enum err_code code = labels_read(NULL, &head, "", arena, &task->labels.at, err);
    task->labels.n = code == ERR_OK ? head.classes : 0;
    task->labels_known = code == ERR_OK;
    return code;
}

/* ---- weights ---- */

static enum err_code read_loss_weights(const char *words, struct tasks *tasks, struct err *err)
{
    for (const char *at = words; *at != '\0';) {
        size_t size = strcspn(at, "=,");
        struct task *task = tasks_find(tasks, at, size);
        char *end = NULL;
        double value = -1;
        if (task && at[size] == '=') {
            value = strtod(at + size + 1, &end);
        }
        if (!end || end == at + size + 1 || (*end != ',' && *end != '\0') || !isfinite(value) ||
            value < 0) {
            return err_set(err, ERR_USAGE,
                           "--loss-weights: must be like classifier=1,sentiment=0.5, with heads of "
                           "this run and weights of 0 or more");
        }
        task->weight = value;
        at = *end == ',' ? end + 1 : end;
    }
    return ERR_OK;
}

static enum err_code read_class_weights(const char *flag, struct tasks *tasks, struct err *err)
{
    size_t size = strcspn(flag, "=");
    struct task *task = flag[size] == '=' ? tasks_find(tasks, flag, size) : NULL;
    if (!task || task->type == HEAD_SCORE || flag[size + 1] == '\0') {
        return err_set(err, ERR_USAGE,
                       "--class-weights: must be NAME=balanced or NAME=w,w,…, with the name of a "
                       "softmax or sigmoid head of this run");
    }
    task->balance = flag + size + 1;
    return ERR_OK;
}

static enum err_code parse_class_weights(struct task *task, struct err *err)
{
    const char *at = task->balance;
    double total = 0;
    for (size_t k = 0; k < task->labels.n; k++) {
        char *end;
        double value = strtod(at, &end);
        bool last = k + 1 == task->labels.n;
        if (end == at || !isfinite(value) || value < 0 || *end != (last ? '\0' : ',')) {
            return err_set(err, ERR_USAGE,
                           "--class-weights: %s needs balanced or %zu weights of 0 or more",
                           task->name, task->labels.n);
        }
        task->class_weights[k] = (float)value;
        total += value;
        at = end + 1;
    }
    return total > 0 ? ERR_OK
                     : err_set(err, ERR_USAGE, "--class-weights: %s: all 0 would teach nothing",
                               task->name);
}

enum err_code task_weigh(struct task *task, const size_t *counts, size_t labelled,
                         struct arena *arena, struct err *err)
{
    if (!task->balance || task->labels.n == 0) {
        return ERR_OK;
    }
    task->class_weights = arena_alloc(arena, task->labels.n * sizeof *task->class_weights);
    if (!task->class_weights) {
        return err_nomem(err, task->labels.n * sizeof *task->class_weights);
    }
    if (strcmp(task->balance, "balanced") != 0) {
        return parse_class_weights(task, err);
    }
    for (size_t k = 0; k < task->labels.n; k++) {
        double count = (double)counts[k];
        double others = task->type == HEAD_SIGMOID ? (double)labelled - count
                                                   : (double)labelled / (double)task->labels.n;
        task->class_weights[k] = count > 0 && others > 0 ? (float)(others / count) : 1.0f;
    }
    return ERR_OK;
}

/* ---- all of it ---- */

static const char *const default_heads[] = {"classifier", "sentiment"};

enum err_code tasks_make(const struct task_words *words, const struct heads *init,
                         struct arena *arena, struct tasks *ret_tasks, struct err *err)
{
    struct tasks tasks = {0};
    enum err_code code = ERR_OK;
    bool named = words->n_heads > 0;
    for (size_t i = 0; code == ERR_OK && i < words->n_heads; i++) {
        code = read_head(words->heads[i], &tasks, err);
    }
    for (size_t i = 0; code == ERR_OK && !named && i < 2; i++) {
        code = read_head(default_heads[i], &tasks, err);
    }
    if (code == ERR_OK) {
        code = merge_init(&tasks, init, named, err);
    }
    for (size_t i = 0; code == ERR_OK && i < tasks.n; i++) {
        code = default_labels(&tasks.at[i], arena, err);
    }
    for (size_t i = 0; code == ERR_OK && i < words->n_labels; i++) {
        code = read_labels(words->labels[i], &tasks, arena, err);
    }
    if (code == ERR_OK && words->loss_weights) {
        code = read_loss_weights(words->loss_weights, &tasks, err);
    }
    for (size_t i = 0; code == ERR_OK && i < words->n_class_weights; i++) {
        code = read_class_weights(words->class_weights[i], &tasks, err);
    }
    if (code == ERR_OK) {
        *ret_tasks = tasks;
    }
    return code;
}

int32_t label_set_find(const struct label_set *set, const char *text, size_t size)
{
    for (size_t i = 0; i < set->n; i++) {
        if (strlen(set->at[i]) == size && memcmp(set->at[i], text, size) == 0) {
            return (int32_t)i;
        }
    }
    return -1;
}

void label_set_text(const struct label_set *set, char *out, size_t size)
{
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < set->n; i++) {
        int n = snprintf(out + used, size - used, "%s%s", i == 0 ? "" : ", ", set->at[i]);
        if (n < 0 || (size_t)n >= size - used) {
            snprintf(out + used, size - used, "…");
            return;
        }
        used += (size_t)n;
    }
}
