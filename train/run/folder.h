/* The output folder of a run before anything is written: there, writable, ours alone, large enough,
 * and not another run's. Private to train/. */
#ifndef ORTHRUS_TRAIN_FOLDER_H
#define ORTHRUS_TRAIN_FOLDER_H

#include "train/run/run.h"

/* Makes and locks the folder until run_close; fills run's paths. Errors: ERR_USAGE where it is the
 * model's own, ERR_CONFLICT where another run trains or has trained into it, ERR_NOT_FOUND where
 * there is nothing to resume, ERR_IO. */
CHECK_RESULT enum err_code folder_open(struct run *run, struct err *err);
/* What the output takes at most, against what the disk has. Errors: ERR_IO, naming both. */
CHECK_RESULT enum err_code folder_check_space(const struct run *run, struct err *err);

#endif
