/* Checks of a run's options. Private to train/. */
#ifndef ORTHRUS_TRAIN_OPTIONS_H
#define ORTHRUS_TRAIN_OPTIONS_H

#include "train/run/run.h"

enum { BATCH_SIZE_MAX = 65536, PARTS_MAX = 4096 };

/* Bounds of every number and what goes with what. Errors: ERR_USAGE, naming flag and bounds. */
CHECK_RESULT enum err_code options_check(const struct train_options *options, struct err *err);

#endif
