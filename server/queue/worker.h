/* Compute threads: each takes batches from the scheduler, encodes them and ends their jobs.
 * Process lifetime. */
#ifndef ORTHRUS_SERVER_WORKER_H
#define ORTHRUS_SERVER_WORKER_H

#include <stdbool.h>

#include "model/model.h"
#include "server/metrics/metrics.h"
#include "server/queue/cpuset.h"
#include "server/queue/scheduler.h"

struct engine;
struct workers;

struct workers_options {
    unsigned n;
    const struct cpuset *pin;    /* NULL: not pinned, but a little less urgent than I/O threads */
    const struct engine *engine; /* for its answers; complete before the first batch is taken */
    const struct model *model;
    enum pooling pooling;
    size_t batch_tokens, batch_texts; /* the most that a batch may hold */
    struct scheduler *scheduler;
    struct metrics *metrics;
};

/* Starts the threads. What options points to outlives them, but for pin. */
CHECK_RESULT enum err_code workers_create(const struct workers_options *options,
                                          struct workers **ret_workers, struct err *err);
/* Joins the threads; scheduler_stop comes first. NULL is fine. */
void workers_destroy(struct workers *workers);

/* False when a thread that has work has made no progress for 30 s. Any thread. */
bool workers_alive(const struct workers *workers);

#endif
