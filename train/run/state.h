/* A run between its epochs: what --resume needs to go on to the same bits, and what the report is
 * made of. On disk: OUTPUT/checkpoint.safetensors, replaced atomically after each epoch, and where
 * a run is stopped within one. Values, both moments and the run's numbers; random numbers need no
 * state, they are a function of seed and step. */
#ifndef ORTHRUS_TRAIN_STATE_H
#define ORTHRUS_TRAIN_STATE_H

#include "base/buf.h"
#include "base/jval.h"
#include "train/optimize/learner.h"
#include "train/train.h"

enum { STATE_EPOCHS_MAX = 100000 };

/* Lifetime of a run. */
struct state {
    const struct tasks *tasks; /* borrowed */
    size_t epochs_done;
    uint64_t steps;
    size_t best_epoch;            /* by --metric; 0: none yet */
    double best_value;            /* its metric, lower is better */
    size_t stale;                 /* epochs since then */
    struct epoch_result *history; /* [epochs_done], owned */
    /* The counts of the epoch whose parameters are the output, by task. */
    struct tally train[TASKS_MAX], eval[TASKS_MAX];
    /* The epoch under way: examples done, Σ loss · examples, counts. */
    size_t at;
    double loss_sum;
    struct tally current[TASKS_MAX];
};

/* tasks have their classes. */
CHECK_RESULT enum err_code state_init(struct state *state, const struct tasks *tasks, size_t epochs,
                                      struct err *err);
/* NULL and zeroed structs are fine. */
void state_done(struct state *state);

/* Writes the checkpoint. facts is a JSON object of everything that the bits depend on. */
CHECK_RESULT enum err_code state_save(const struct state *state, struct learner *learner,
                                      const char *facts, const char *path, struct err *err);
/* Reads it into state (initialised for at least as many epochs) and learner. Errors: ERR_MISMATCH
 * where one of the facts differs, naming it; ERR_INVALID. */
CHECK_RESULT enum err_code state_load(struct state *state, struct learner *learner,
                                      const char *facts, const char *path, size_t epochs,
                                      struct err *err);

/* Checks before any work that path is a checkpoint of a run with these facts. Errors: as above. */
CHECK_RESULT enum err_code state_check(const char *path, const char *facts, struct err *err);

/* Appends one epoch as JSON, numbers with all their digits. False when the buffer is full. */
bool state_append_epoch(const struct epoch_result *result, const struct tasks *tasks,
                        struct buf *out);

#endif
