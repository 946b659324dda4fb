/* What a frozen encoder makes of a dataset: plain pooled embeddings of all its texts, by the bulk
 * engine in fp32. Frozen training and evaluation need them, computed once. */
#ifndef ORTHRUS_TRAIN_FROZEN_H
#define ORTHRUS_TRAIN_FROZEN_H

#include "base/err.h"
#include "model/encoder/encoder.h"
#include "train/data/dataset.h"

/* Told how many examples are done, by the calling thread. False: stop. */
struct frozen_progress {
    bool (*on_done)(void *context, size_t done, size_t total);
    void *context;
};

/* Fills out [n,H]. Errors: ERR_NOMEM, ERR_IO, ERR_INVALID (a vector that is not finite),
 * ERR_CONFLICT (stopped). */
CHECK_RESULT enum err_code frozen_embed(const struct encoder *encoder,
                                        const struct dataset *dataset, enum pooling pooling,
                                        unsigned threads, const struct frozen_progress *progress,
                                        float *out, struct err *err);

#endif
