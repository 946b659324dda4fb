/* The learning rate over the steps, as transformers' get_linear_schedule_with_warmup and
 * get_constant_schedule_with_warmup compute it. */
#ifndef ORTHRUS_TRAIN_SCHEDULE_H
#define ORTHRUS_TRAIN_SCHEDULE_H

#include <stdint.h>

#include "base/err.h"

enum schedule_kind { SCHEDULE_CONSTANT, SCHEDULE_LINEAR };

struct schedule {
    enum schedule_kind kind;
    uint64_t warmup; /* steps */
    uint64_t total;  /* steps of the whole run */
};

/* What the learning rate is multiplied by at a step, counted from 0. */
double schedule_factor(const struct schedule *schedule, uint64_t step);

const char *schedule_name(enum schedule_kind kind);
CHECK_RESULT enum err_code schedule_parse(const char *word, enum schedule_kind *ret_kind,
                                          struct err *err);

#endif
