#include "train/data/answers.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/heads/labels.h"

enum { WORDS_BYTES_MAX = 4 * 1024 * 1024 };

enum err_code answers_init(struct answers *answers, struct err *err)
{
    *answers = (struct answers){.max_index = -1, .min_index = -1};
    arena_init(&answers->words_arena, WORDS_BYTES_MAX);
    answers->words = calloc(HEADS_CLASSES_MAX, sizeof *answers->words);
    answers->lines = calloc(HEADS_CLASSES_MAX, sizeof *answers->lines);
    return answers->words && answers->lines ? ERR_OK
                                            : err_nomem(err, HEADS_CLASSES_MAX * sizeof(char *));
}

void answers_done(struct answers *answers)
{
    arena_done(&answers->words_arena);
    free(answers->words);
    free(answers->lines);
    free(answers->at);
    *answers = (struct answers){0};
}

/* ---- one row ---- */

static enum err_code note(struct answers *answers, size_t row, int32_t code, struct err *err)
{
    if (answers->n == answers->room) {
        size_t room = answers->room * 2 + 1024;
        struct answer *at = realloc(answers->at, room * sizeof *at);
        if (!at) {
            return err_nomem(err, room * sizeof *at);
        }
        answers->at = at;
        answers->room = room;
    }
    answers->at[answers->n++] = (struct answer){(uint32_t)row, code};
    return ERR_OK;
}

static enum err_code note_word(struct answers *answers, const struct task *task,
                               const struct rows *rows, const char *text, size_t size, size_t row,
                               struct err *err)
{
    const struct label_set known = {answers->n_words, answers->words};
    int32_t word = label_set_find(&known, text, size);
    char sentence[ERR_TEXT_MAX];
    if (word >= 0) {
        return note(answers, row, word, err);
    }
    if (size < 1 || size > HEADS_LABEL_MAX || memchr(text, '\0', size)) {
        snprintf(sentence, sizeof sentence, "a label of \"%s\" must have 1 to %d bytes", task->name,
                 HEADS_LABEL_MAX);
        return rows_bad(rows, err, sentence);
    }
    if (answers->n_words == HEADS_CLASSES_MAX) {
        snprintf(sentence, sizeof sentence, "\"%s\" has more than %d labels", task->name,
                 HEADS_CLASSES_MAX);
        return rows_bad(rows, err, sentence);
    }
    char *copy = arena_alloc(&answers->words_arena, size + 1);
    if (!copy) {
        return err_nomem(err, size + 1);
    }
    memcpy(copy, text, size);
    copy[size] = '\0';
    answers->words[answers->n_words] = copy;
    answers->lines[answers->n_words] = rows->line;
    return note(answers, row, (int32_t)answers->n_words++, err);
}

static enum err_code note_index(struct answers *answers, const struct task *task,
                                const struct rows *rows, int64_t index, size_t row, struct err *err)
{
    if (index < 0 || index >= HEADS_CLASSES_MAX) {
        char sentence[ERR_TEXT_MAX];
        snprintf(sentence, sizeof sentence, "\"%s\" as an index must be 0 to %d", task->name,
                 HEADS_CLASSES_MAX - 1);
        return rows_bad(rows, err, sentence);
    }
    if (index > answers->max_index) {
        answers->max_index = index;
        answers->index_line = rows->line;
    }
    if (answers->min_index < 0 || index < answers->min_index) {
        answers->min_index = index;
    }
    answers->indices++;
    return note(answers, row, (int32_t)(-2 - index), err);
}

static enum err_code add_list(struct answers *answers, const struct task *task,
                              const struct rows *rows, const struct cell *cell, size_t row,
                              struct err *err)
{
    enum err_code code = ERR_OK;
    for (size_t i = 0; code == ERR_OK && i < jval_array_size(cell->array); i++) {
        const char *text;
        size_t size;
        int64_t index;
        if (jval_string(jval_at(cell->array, i), &text, &size)) {
            code = note_word(answers, task, rows, text, size, row, err);
        } else if (jval_int(jval_at(cell->array, i), &index)) {
            code = note_index(answers, task, rows, index, row, err);
        } else {
            code = rows_bad(rows, err, "labels in a list must be names or indices");
        }
    }
    return code;
}

/* "a|b" of a CSV file. */
static enum err_code add_bars(struct answers *answers, const struct task *task,
                              const struct rows *rows, const struct cell *cell, size_t row,
                              struct err *err)
{
    enum err_code code = ERR_OK;
    const char *end = cell->text + cell->size;
    for (const char *at = cell->text; code == ERR_OK && at <= end;) {
        const char *bar = memchr(at, '|', (size_t)(end - at));
        const char *stop = bar ? bar : end;
        code = note_word(answers, task, rows, at, (size_t)(stop - at), row, err);
        at = stop + 1;
    }
    return code;
}

enum err_code answers_add(struct answers *answers, const struct task *task, const struct rows *rows,
                          const struct cell *cell, size_t row, bool *ret_labelled, struct err *err)
{
    *ret_labelled = cell->kind != CELL_NONE;
    if (cell->kind == CELL_NONE) {
        return ERR_OK;
    }
    char sentence[ERR_TEXT_MAX];
    if (task->type == HEAD_SIGMOID) {
        if (cell->kind == CELL_LIST) {
            return add_list(answers, task, rows, cell, row, err);
        }
        if (cell->kind == CELL_WORD && !cell->typed) {
            return add_bars(answers, task, rows, cell, row, err);
        }
        snprintf(sentence, sizeof sentence, "\"%s\" must be a list of labels", task->name);
        return rows_bad(rows, err, sentence);
    }
    if (cell->kind == CELL_WORD) {
        return note_word(answers, task, rows, cell->text, cell->size, row, err);
    }
    if (cell->kind == CELL_INTEGER) {
        return note_index(answers, task, rows, cell->integer, row, err);
    }
    snprintf(sentence, sizeof sentence, "\"%s\" must be a label's name or index", task->name);
    return rows_bad(rows, err, sentence);
}

/* ---- all rows ---- */

static bool is_whole(const char *word)
{
    size_t digits = strspn(word, "0123456789");
    return digits > 0 && digits < 10 && word[digits] == '\0';
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int by_number(const void *a, const void *b)
{
    long x = strtol(*(char *const *)a, NULL, 10);
    long y = strtol(*(char *const *)b, NULL, 10);
    return x != y ? (x > y) - (x < y) : by_name(a, b);
}

static bool all_whole(char *const *words, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!is_whole(words[i])) {
            return false;
        }
    }
    return n > 0;
}

static bool any_whole(const struct label_set *set)
{
    for (size_t i = 0; i < set->n; i++) {
        if (is_whole(set->at[i])) {
            return true;
        }
    }
    return false;
}

/* Names that are their own indices: "0", "1", … */
static bool counts_from_0(const struct label_set *set)
{
    for (size_t i = 0; i < set->n; i++) {
        if (!is_whole(set->at[i]) || strtoul(set->at[i], NULL, 10) != i) {
            return false;
        }
    }
    return true;
}

/* The labels out of the data: its names in order, or 0 … K-1 where it has indices alone. */
static enum err_code infer(const struct answers *answers, struct task *task, const char *path,
                           struct arena *arena, struct err *err)
{
    size_t n = answers->n_words;
    if (answers->indices > 0 && (n > 0 || answers->min_index != 0)) {
        return err_set(err, ERR_INVALID,
                       "%s:%llu: \"%s\" has whole numbers %s: write labels as strings, or give "
                       "--labels %s=… and indices from 0",
                       path, (unsigned long long)answers->index_line, task->name,
                       n > 0 ? "beside names" : "that do not begin with 0", task->name);
    }
    char **words = NULL;
    enum err_code code = ERR_OK;
    if (answers->indices > 0) {
        n = (size_t)answers->max_index + 1;
        words = arena_calloc(arena, n, sizeof *words);
        for (size_t i = 0; words && i < n; i++) {
            char text[24];
            int size = snprintf(text, sizeof text, "%zu", i);
            words[i] = arena_alloc(arena, (size_t)size + 1);
            if (!words[i]) {
                return err_nomem(err, sizeof text);
            }
            memcpy(words[i], text, (size_t)size + 1);
        }
        code = words ? ERR_OK : err_nomem(err, n * sizeof *words);
    } else {
        code = labels_copy((const char *const *)answers->words, n, arena, &words, err);
        if (code == ERR_OK && n > 0) {
            qsort(words, n, sizeof *words, all_whole(words, n) ? by_number : by_name);
        }
    }
    if (code != ERR_OK) {
        return code;
    }
    if (task->type == HEAD_SOFTMAX && n == 1) {
        return err_set(err, ERR_INVALID, "%s: \"%s\" has one label only, a head needs 2", path,
                       task->name);
    }
    task->labels = (struct label_set){n, words};
    return ERR_OK;
}

/* True where the data speaks of the labels that the task has by default. */
static bool fits_known(const struct answers *answers, const struct label_set *known)
{
    bool whole = all_whole(answers->words, answers->n_words);
    for (size_t i = 0; i < answers->n_words; i++) {
        const char *word = answers->words[i];
        if (label_set_find(known, word, strlen(word)) >= 0 ||
            (whole && strtoul(word, NULL, 10) >= known->n)) {
            return !whole;
        }
    }
    return whole || answers->n_words == 0;
}

static enum err_code outside(const struct task *task, const char *path, uint64_t line,
                             struct err *err)
{
    char allowed[256];
    label_set_text(&task->labels, allowed, sizeof allowed);
    return err_set(err, ERR_INVALID, "%s:%llu: \"%s\" must be one of %s, or an index from 0 to %zu",
                   path, (unsigned long long)line, task->name, allowed, task->labels.n - 1);
}

/* Words and indices → classes. */
static enum err_code resolve(struct answers *answers, const struct task *task, const char *path,
                             struct err *err)
{
    const struct label_set *set = &task->labels;
    int32_t classes[HEADS_CLASSES_MAX];
    bool whole = any_whole(set);
    for (size_t i = 0; i < answers->n_words; i++) {
        const char *word = answers->words[i];
        classes[i] = label_set_find(set, word, strlen(word));
        if (classes[i] < 0 && !whole && is_whole(word) && strtoul(word, NULL, 10) < set->n) {
            classes[i] = (int32_t)strtoul(word, NULL, 10);
        }
        if (classes[i] < 0) {
            return outside(task, path, answers->lines[i], err);
        }
    }
    if (answers->indices > 0 && whole && !counts_from_0(set)) {
        return err_set(err, ERR_INVALID,
                       "%s:%llu: \"%s\" is a whole number, and so are the labels' names: write "
                       "names as strings, or give --labels names that are no numbers",
                       path, (unsigned long long)answers->index_line, task->name);
    }
    if (answers->max_index >= (int64_t)set->n) {
        return outside(task, path, answers->index_line, err);
    }
    for (size_t i = 0; i < answers->n; i++) {
        struct answer *answer = &answers->at[i];
        answer->code = answer->code >= 0 ? classes[answer->code] : -2 - answer->code;
    }
    return ERR_OK;
}

enum err_code answers_settle(struct answers *answers, struct task *task, const char *path,
                             struct arena *arena, struct err *err)
{
    bool unknown = task->labels.n == 0 ||
                   (task->labels_known && !fits_known(answers, &task->labels));
    enum err_code code = unknown && answers->n > 0 ? infer(answers, task, path, arena, err)
                                                   : ERR_OK;
    if (code == ERR_OK) {
        code = resolve(answers, task, path, err);
    }
    if (code == ERR_OK && answers->n > 0) {
        task->labels_known = false;
    }
    return code;
}
