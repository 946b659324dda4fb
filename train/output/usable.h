/* Is this result usable? One question, asked before anything replaces a file. */
#ifndef ORTHRUS_TRAIN_USABLE_H
#define ORTHRUS_TRAIN_USABLE_H

#include "train/run/run.h"

/* The loss of an epoch over that of a guess from which on it has diverged. */
enum { USABLE_WORSE_MAX = 10 };

/* Checks what an epoch has left: a finite loss that is not far worse than a guess, a finite
 * evaluation loss, finite weights, and finite answers to some texts of the data. Errors:
 * ERR_INVALID, naming the epoch and what to try. */
CHECK_RESULT enum err_code usable_check(struct run *run, const struct epoch_result *result,
                                        struct err *err);

#endif
