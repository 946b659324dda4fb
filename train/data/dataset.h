/* Training data in memory: tokenized texts and what each head is to answer for them.
 *
 * A label is a name or an index; one that is missing, null or (in CSV) empty takes no part in its
 * head's loss. Softmax heads have one label a text, sigmoid heads a list, score heads a number.
 * Where the labels of a head are not given they are inferred: the names of the data in order. */
#ifndef ORTHRUS_TRAIN_DATASET_H
#define ORTHRUS_TRAIN_DATASET_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/sha256.h"
#include "model/encoder/batch.h"
#include "model/text/tokenizer.h"
#include "train/data/rows.h"
#include "train/data/tasks.h"

enum { DATASET_LINES_MAX = 50 * 1000 * 1000, LABEL_NONE = -1 };

/* Lifetime of a run. */
struct dataset {
    size_t n;
    size_t tasks;
    int32_t *ids;               /* all tokens, owned as all below */
    size_t *starts;             /* [n+1] */
    int32_t *labels[TASKS_MAX]; /* [n] class, or 0 for sigmoid and score; LABEL_NONE */
    float *targets[TASKS_MAX];  /* [n,K] of sigmoid (0, 1) and score heads; NULL for softmax */
    float *weights;             /* [n]; NULL: all are 1 */
    uint64_t *texts;            /* [n] a hash of each text */
    uint64_t *groups;           /* [n] a hash of --split-by's value, NULL without */
    size_t labelled[TASKS_MAX]; /* texts */
    size_t longest;             /* tokens */
    size_t truncated;           /* texts that were cut at the length limit */
    char sha256[SHA256_HEX_SIZE + 1]; /* of the file */
};

struct dataset_options {
    const char *path;
    enum rows_format format;
    const struct rows_columns *columns; /* n is that of the tasks */
    const struct tokenizer *tokenizer;
    size_t max_length;
};

/* Reads, checks and tokenizes a file. Labels that a task lacks, or only knows by default, are
 * settled by this data and put into the task, in arena. Errors: ERR_INVALID "file:line: what was
 * expected", for the first bad row; ERR_NOT_FOUND, ERR_IO, ERR_LIMIT, ERR_NOMEM. */
CHECK_RESULT enum err_code dataset_load(const struct dataset_options *options, struct tasks *tasks,
                                        struct arena *arena, struct dataset *ret_dataset,
                                        struct err *err);
/* NULL and zeroed structs are fine. */
void dataset_done(struct dataset *dataset);

static inline size_t dataset_length(const struct dataset *dataset, size_t i)
{
    return dataset->starts[i + 1] - dataset->starts[i];
}

/* Tokens of the `texts` longest examples: what a batch can hold at most. */
CHECK_RESULT enum err_code dataset_batch_tokens(const struct dataset *dataset, size_t texts,
                                                size_t *ret_tokens, struct err *err);

#endif
