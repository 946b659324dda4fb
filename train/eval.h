/* Heads measured on labelled data, by the serving encoder in fp32. */
#ifndef ORTHRUS_TRAIN_EVAL_H
#define ORTHRUS_TRAIN_EVAL_H

#include "model/model.h"
#include "train/frozen.h"
#include "train/metrics.h"

struct eval_result {
    size_t n; /* examples */
    struct tally head[HEAD_COUNT];
};

/* Embeds the file's texts and counts what each head of the set makes of them. Labels are the
 * set's. The caller frees with eval_result_done. Errors: those of dataset_load; ERR_INVALID where
 * no line has a label for any head. */
CHECK_RESULT enum err_code eval_run(const struct model *model, const struct heads *heads,
                                    enum pooling pooling, const char *data, size_t max_length,
                                    unsigned threads, const struct frozen_progress *progress,
                                    struct eval_result *ret_result, struct err *err);
/* NULL and zeroed structs are fine. */
void eval_result_done(struct eval_result *result);

#endif
