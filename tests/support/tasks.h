/* The project's two heads as tasks, for tests that drive the trainer's parts themselves. */
#ifndef ORTHRUS_TESTS_TASKS_H
#define ORTHRUS_TESTS_TASKS_H

#include <stdio.h>

#include "train/data/tasks.h"

enum { CLASSIFIER, SENTIMENT, TWO_TASKS };

/* classifier of 6 and sentiment of 3 classes; heads, where not NULL, gives their first values. */
static inline struct tasks two_tasks(double classifier_weight, double sentiment_weight,
                                     const struct heads *heads)
{
    struct tasks tasks = {.n = TWO_TASKS};
    static const char *const names[] = {"classifier", "sentiment"};
    const double weights[] = {classifier_weight, sentiment_weight};
    for (size_t i = 0; i < TWO_TASKS; i++) {
        struct task *task = &tasks.at[i];
        (void)snprintf(task->name, sizeof task->name, "%s", names[i]);
        task->classes = i == CLASSIFIER ? 6 : 3;
        task->weight = weights[i];
        task->init = heads_find(heads, names[i]);
    }
    return tasks;
}

#endif
