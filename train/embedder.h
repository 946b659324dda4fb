/* Plain pooled embeddings of a whole dataset by the serving encoder in fp32: what frozen training
 * and evaluation need, computed once. */
#ifndef ORTHRUS_TRAIN_EMBEDDER_H
#define ORTHRUS_TRAIN_EMBEDDER_H

#include "base/err.h"
#include "model/encoder/encoder.h"
#include "train/dataset.h"

/* Told how many examples are done; called by one thread at a time. */
struct embedder_progress {
    void (*on_done)(void *context, size_t done, size_t total);
    void *context;
};

/* Fills out [n,H]. Texts are sorted by length and packed; each thread takes whole batches. Errors:
 * ERR_NOMEM, ERR_IO. */
CHECK_RESULT enum err_code embedder_run(const struct encoder *encoder,
                                        const struct dataset *dataset, enum pooling pooling,
                                        unsigned threads, const struct embedder_progress *progress,
                                        float *out, struct err *err);

#endif
