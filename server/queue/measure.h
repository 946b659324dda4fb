/* How fast this machine encodes: a short measurement at the start, from which the batch's and the
 * queue's size follow. */
#ifndef ORTHRUS_SERVER_MEASURE_H
#define ORTHRUS_SERVER_MEASURE_H

#include "base/err.h"
#include "model/model.h"

/* Of all threads at once, each with its own batches, as under full load. */
struct measured {
    double tokens_per_s; /* in batches of batch_tokens, all threads together */
    size_t batch_tokens; /* the smallest batch that is about as fast per token as any */
    double pass_tokens;  /* what a pass costs whatever its size, in tokens of a full batch */
};

/* Takes at most about 80 ms, but at least a layer of each of the two smallest sizes. */
CHECK_RESULT enum err_code measure_speed(const struct model *model, unsigned threads,
                                         struct measured *ret_measured, struct err *err);

/* The measurement's arithmetic: pass_s[MEASURE_SIZES] are the best times of passes of
 * measure_sizes tokens, 0 where a size was not tried (the first two always are); the first is too
 * small to be a batch. */
enum { MEASURE_SIZES = 6 };
extern const size_t measure_sizes[MEASURE_SIZES];
struct measured measure_result(const double pass_s[MEASURE_SIZES], unsigned threads);

#endif
