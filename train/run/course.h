/* What a run teaches and on which examples: its heads, their labels and weights, the split. Private
 * to train/. */
#ifndef ORTHRUS_TRAIN_COURSE_H
#define ORTHRUS_TRAIN_COURSE_H

#include "train/run/run.h"

/* The heads, what of the model is frozen, columns and metric, out of the options. Errors:
 * ERR_USAGE, ERR_MISMATCH, ERR_UNSUPPORTED. */
CHECK_RESULT enum err_code course_tasks(struct run *run, struct err *err);
/* Loads the data, splits it, and settles which heads take part: one that nothing taught or that is
 * frozen on random numbers does not. Errors: those of dataset_load and split_choose; ERR_INVALID
 * where nothing would be learned or no epoch could be chosen. */
CHECK_RESULT enum err_code course_data(struct run *run, struct err *err);

#endif
