/* The trainer as commands and tests use it: labelled lines in, a folder with heads (and the
 * encoder, where it was trained) out. INTERFACE section 7 says what each option means.
 *
 * Nothing is printed: progress and results go through callbacks, from the calling thread or one of
 * the run's own, one at a time. */
#ifndef ORTHRUS_TRAIN_TRAIN_H
#define ORTHRUS_TRAIN_TRAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "train/data/rows.h"
#include "train/measure/metrics.h"
#include "train/optimize/optimizer.h"
#include "train/optimize/schedule.h"

enum { TRAIN_FREEZE_MAX = 64, TRAIN_THREADS_MAX = 256 };

enum train_keep { KEEP_AUTO, KEEP_LAST, KEEP_BEST }; /* auto: best with patience, else last */

/* Strings are borrowed for the call. */
struct train_options {
    const char *model_dir;
    const char *data;
    const char *output;     /* folder, made where missing */
    const char *init_heads; /* NULL: heads as nn.Linear starts them */
    const char *eval_data;  /* NULL: none */
    enum rows_format format;
    const char *text_column;          /* "text" */
    const char *const *label_columns; /* words of --label-column, HEAD=COLUMN */
    size_t n_label_columns;
    double eval_split;    /* share of the data held back, 0: none */
    const char *split_by; /* column whose values are never divided, or NULL */
    const char *stratify; /* head whose classes are divided alike, or NULL */
    struct task_words tasks;
    size_t epochs, batch_size;
    size_t parts;       /* batches in a step (--grad-accumulation) */
    double lr, head_lr; /* head_lr < 0: lr */
    struct optimizer_options optimizer;
    enum schedule_kind schedule;
    uint64_t warmup_steps;
    double warmup_ratio;       /* of all steps; 0: warmup_steps */
    const char *const *freeze; /* words of --freeze */
    size_t n_freeze;
    double layer_decay;
    double dropout; /* < 0: the config's */
    bool shuffle;
    uint64_t seed;
    size_t patience; /* epochs without a better metric before the end; 0: none */
    enum train_keep keep;
    const char *metric; /* loss, accuracy, macro_f1, or HEAD.loss and so on; NULL: loss */
    size_t max_length;  /* tokens a text; 0: as config.h settles it */
    unsigned threads;
    const char *embedding_cache; /* folder, or NULL: none */
    const char *version;         /* of the program, for the lineage; NULL: none */
    bool resume, overwrite, no_checkpoint;
};

/* The defaults of INTERFACE.md; the three paths still empty, one thread. */
void train_options_default(struct train_options *ret_options);

/* One split after one epoch. */
struct split_result {
    size_t n;    /* examples */
    double loss; /* the weighted sum */
    struct tally_score head[TASKS_MAX];
};

struct epoch_result {
    size_t epoch;              /* from 1 */
    struct split_result train; /* as the batches were learned, before each update */
    struct split_result eval;  /* n 0: none */
    double seconds;
};

/* What a run is doing, for a progress bar. */
enum train_stage { TRAIN_EMBEDDING, TRAIN_STEPS, TRAIN_EVALUATING };

struct train_callbacks {
    void *context;
    /* done of total examples in this stage; epoch counts from 1, 0 outside. Members may be NULL. */
    void (*on_progress)(void *context, enum train_stage stage, size_t epoch, uint64_t done,
                        uint64_t total);
    void (*on_epoch)(void *context, const struct tasks *tasks, const struct epoch_result *result);
    void (*on_note)(void *context, const char *text); /* one line worth telling */
    bool (*stopped)(void *context); /* asked between steps: true saves a checkpoint and ends */
};

/* Trains; on return the folder is complete. What is not usable (train/output/usable.h) replaces
 * nothing. Errors: ERR_USAGE for an option, ERR_INVALID for data
 * ("file:line: …") and for a run that diverged, ERR_CONFLICT where it was stopped or another run
 * has the folder, whatever loading and writing give. */
CHECK_RESULT enum err_code train_run(const struct train_options *options,
                                     const struct train_callbacks *callbacks, struct err *err);

#endif
