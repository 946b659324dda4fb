/* What a run teaches: a list of heads by name, each with its kind, its labels and its share in the
 * loss. */
#ifndef ORTHRUS_TRAIN_TASKS_H
#define ORTHRUS_TRAIN_TASKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "model/heads/heads.h"

enum { TASKS_MAX = HEADS_MAX };

/* Lifetime of its arena. */
struct label_set {
    size_t n;  /* K */
    char **at; /* [K] */
};

/* One head. Lifetime of a run. */
struct task {
    char name[HEADS_NAME_MAX + 1];
    enum head_type type; /* softmax, sigmoid or score, on the pooled vector */
    size_t inner;        /* M of a dense layer, 0: linear */
    enum head_activation activation;
    bool identity;           /* score: the number itself, by squared error, not its sigmoid */
    bool frozen;             /* --freeze NAME */
    struct label_set labels; /* n 0: to be inferred from the data; score heads have one */
    bool labels_known;       /* labels are only the project's own for that name: data may differ */
    double weight;           /* --loss-weights */
    const char *balance;     /* --class-weights' words, NULL: none */
    float *class_weights;    /* [K] once the data is known, or NULL */
    const struct head *init; /* of --init-heads, borrowed; NULL: random */
    size_t classes;          /* K in this run; 0: the head takes no part */
};

struct tasks {
    size_t n;
    struct task at[TASKS_MAX];
};

/* The words of a command line, borrowed. */
struct task_words {
    const char *const *heads; /* --head NAME[:softmax|sigmoid|score][:dense=M[,tanh|gelu|relu]] */
    size_t n_heads;
    const char *const *labels; /* --labels NAME=A,B,C */
    size_t n_labels;
    const char *const *class_weights; /* --class-weights NAME=balanced|w,… */
    size_t n_class_weights;
    const char *loss_weights; /* NAME=1,… or NULL */
};

/* Without --head: the heads of init, else classifier and sentiment. init, where not NULL, gives
 * kind, labels and values of the heads it has, and must outlive the tasks. Errors: ERR_USAGE,
 * ERR_MISMATCH, ERR_UNSUPPORTED (a head of init that can't be trained), ERR_NOMEM. */
CHECK_RESULT enum err_code tasks_make(const struct task_words *words, const struct heads *init,
                                      struct arena *arena, struct tasks *ret_tasks,
                                      struct err *err);
/* The same list out of a set that is only measured. Token heads are left out. */
void tasks_of_heads(const struct heads *heads, struct tasks *ret_tasks);

/* The task of that name, or NULL. */
struct task *tasks_find(struct tasks *tasks, const char *name, size_t size);

/* The class weights of a task with K labels whose counts [K] (and, for sigmoid, labelled texts) are
 * known: n / (K · count) for "balanced" softmax, negatives per positive for sigmoid. Errors:
 * ERR_USAGE. */
CHECK_RESULT enum err_code task_weigh(struct task *task, const size_t *counts, size_t labelled,
                                      struct arena *arena, struct err *err);

/* The index of a label, or -1. */
int32_t label_set_find(const struct label_set *set, const char *text, size_t size);
/* "Neutral, Positive, Negative" into out, cut where it doesn't fit. */
void label_set_text(const struct label_set *set, char *out, size_t size);

#endif
