/* Preparing threads: bodies too big for an I/O thread are parsed and tokenized here, so that probes
 * never wait behind them.
 *
 * They share the threads fairly by bytes: each body is served as if its bytes had been taken in
 * turns with those of the others (self-clocked fair queueing: Golestani, INFOCOM 1994, a flow for
 * each job), so a small one passes large ones that came before it, and a large one waits for no
 * more bytes of newcomers than its own. A body can't be put down half way, so one thread takes none
 * of those above PREPARE_SMALL_MAX. Process lifetime; thread-safe. */
#ifndef ORTHRUS_SERVER_PREPARE_H
#define ORTHRUS_SERVER_PREPARE_H

#include "base/err.h"
#include "server/queue/job.h"

enum { PREPARE_SMALL_MAX = 256 * 1024 };

struct prepare_pool;

/* Threads (at least 2) that call `prepare` for each job, which ends or enqueues it. A job whose
 * client has gone, or that is expired before its turn, or refused, is ended here. */
CHECK_RESULT enum err_code prepare_create(unsigned threads, size_t max_jobs,
                                          void (*prepare)(struct job *job, void *context),
                                          void *context, struct prepare_pool **ret_pool,
                                          struct err *err);
/* Ends what waits with PROBLEM_DRAINING and joins the threads. NULL is fine. */
void prepare_destroy(struct prepare_pool *pool);

/* Hands a job over; with max_jobs waiting it ends with PROBLEM_OVERLOADED, on this thread. */
void prepare_submit(struct prepare_pool *pool, struct job *job);

#endif
