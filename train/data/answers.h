/* Labels as the rows of a file give them, until all rows are known: names and indices, which
 * become classes when it is settled what a head's labels are. Private to train/. */
#ifndef ORTHRUS_TRAIN_ANSWERS_H
#define ORTHRUS_TRAIN_ANSWERS_H

#include "base/arena.h"
#include "train/data/rows.h"
#include "train/data/tasks.h"

/* One label of one row. */
struct answer {
    uint32_t row;
    int32_t code; /* a word's number, or -2 - index */
};

/* A head's labels in a file. */
struct answers {
    struct arena words_arena;
    char **words;    /* [n_words] distinct, in order of appearance; the array is owned */
    uint64_t *lines; /* [n_words] where each first stands, owned */
    size_t n_words;
    struct answer *at; /* [n], owned */
    size_t n, room;
    int64_t max_index, min_index; /* of JSON integers; -1: none */
    uint64_t index_line;          /* where the largest stands */
    size_t indices;               /* how many */
};

enum err_code answers_init(struct answers *answers, struct err *err);
void answers_done(struct answers *answers);

/* Notes a cell of a softmax or sigmoid head (a list of them for sigmoid). *ret_labelled: the row
 * has an answer. Errors: ERR_INVALID, file:line. */
CHECK_RESULT enum err_code answers_add(struct answers *answers, const struct task *task,
                                       const struct rows *rows, const struct cell *cell, size_t row,
                                       bool *ret_labelled, struct err *err);

/* All rows are known: settles the task's labels, and turns every code into a class. Errors:
 * ERR_INVALID, naming file, line and what is allowed. */
CHECK_RESULT enum err_code answers_settle(struct answers *answers, struct task *task,
                                          const char *path, struct arena *arena, struct err *err);

#endif
