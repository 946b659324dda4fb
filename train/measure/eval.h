/* Heads measured on labelled data, by the serving encoder in fp32. */
#ifndef ORTHRUS_TRAIN_EVAL_H
#define ORTHRUS_TRAIN_EVAL_H

#include "model/model.h"
#include "train/data/frozen.h"
#include "train/measure/metrics.h"
#include "train/measure/temperature.h"

/* Strings are borrowed. */
struct eval_options {
    const char *data;
    enum rows_format format;
    const char *text_column;          /* NULL: "text" */
    const char *const *label_columns; /* HEAD=COLUMN */
    size_t n_label_columns;
    enum pooling pooling;
    size_t max_length;
    unsigned threads;
    const struct frozen_progress *progress;
};

/* Heads that read tokens or the first token are left out. */
struct eval_result {
    struct tasks tasks; /* of the set's heads, whose labels they borrow */
    struct dataset data;
    float *logits[TASKS_MAX]; /* [n,K] before temperature, owned */
    struct tally head[TASKS_MAX];
    struct arena arena;
};

/* Embeds the file's texts and counts what each head of the set makes of them. Labels are the
 * set's; heads must outlive the result. The caller frees with eval_result_done. Errors: those of
 * dataset_load; ERR_INVALID where no line has a label for any head. */
CHECK_RESULT enum err_code eval_run(const struct model *model, const struct heads *heads,
                                    const struct eval_options *options,
                                    struct eval_result *ret_result, struct err *err);
/* NULL and zeroed structs are fine. */
void eval_result_done(struct eval_result *result);

/* One head's held-out answers, borrowed from the result. */
struct judged eval_judged(const struct eval_result *result, size_t task);

#endif
