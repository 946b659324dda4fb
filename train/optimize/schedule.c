#include "train/optimize/schedule.h"

#include <string.h>

double schedule_factor(const struct schedule *schedule, uint64_t step)
{
    if (step < schedule->warmup) {
        return (double)step / (double)schedule->warmup;
    }
    if (schedule->kind == SCHEDULE_CONSTANT) {
        return 1.0;
    }
    if (step >= schedule->total) {
        return 0.0;
    }
    return (double)(schedule->total - step) / (double)(schedule->total - schedule->warmup);
}

const char *schedule_name(enum schedule_kind kind)
{
    return kind == SCHEDULE_CONSTANT ? "constant" : "linear";
}

enum err_code schedule_parse(const char *word, enum schedule_kind *ret_kind, struct err *err)
{
    if (strcmp(word, "constant") == 0) {
        *ret_kind = SCHEDULE_CONSTANT;
    } else if (strcmp(word, "linear") == 0) {
        *ret_kind = SCHEDULE_LINEAR;
    } else {
        return err_set(err, ERR_USAGE, "--schedule: must be constant or linear");
    }
    return ERR_OK;
}
