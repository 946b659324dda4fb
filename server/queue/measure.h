/* How fast this machine encodes: a short measurement at the start, from which the batch's and the
 * queue's size follow. */
#ifndef ORTHRUS_SERVER_MEASURE_H
#define ORTHRUS_SERVER_MEASURE_H

#include "base/err.h"
#include "model/model.h"

/* Tokens per second of that many threads at once, each with its own batches, as under full load.
 * Takes about a quarter of a second, on the slowest machines one batch. It warms the weights up
 * too. */
CHECK_RESULT enum err_code measure_tokens_per_s(const struct model *model, enum pooling pooling,
                                                unsigned threads, double *ret_tokens_per_s,
                                                struct err *err);

/* The packed batch's budget for that throughput of one thread; at least longest tokens. */
size_t measure_batch_tokens(double thread_tokens_per_s, size_t longest);

#endif
