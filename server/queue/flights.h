/* Nothing computed twice: a text whose vector is held (cache.h) is answered from there, and one
 * that is being computed is waited for. A flight is such a text on its way: the job that leads it
 * has it in the queue, others follow.
 *
 * This is a layer between jobs and the queue, and the queue's rule knows nothing of it: a hit never
 * enters the queue, a job enters it with the texts that it leads alone, and whoever follows waits
 * here. Bits are those of any batch, so nobody can see by the answer how it came about.
 *
 * Followers are never lost. Where a leader ends without its text (its client has gone, its deadline
 * has passed, the server stops) those who follow ask anew: one of them finds no flight, leads, and
 * is admitted or refused as any newcomer; a refused one leads nothing. A follower's own deadline
 * and client end it alone. Who asks for less than a flight's leader leads too, as it is computed
 * sooner; so does who finds a leader that is put off because its client has closed its side.
 *
 * Process lifetime; thread-safe. The lock is taken before the scheduler's, never inside it. */
#ifndef ORTHRUS_SERVER_FLIGHTS_H
#define ORTHRUS_SERVER_FLIGHTS_H

#include <stddef.h>

#include "base/err.h"
#include "server/metrics/metrics.h"
#include "server/queue/engine.h"
#include "server/queue/job.h"
#include "server/queue/scheduler.h"

struct flights;
struct follow;

struct flights_options {
    size_t cache_bytes;   /* the cache's ceiling */
    size_t pooled, first; /* floats of a pooled vector, of a first token's */
    size_t row_floats;    /* as the scheduler's */
    struct scheduler *scheduler;
    struct metrics *metrics;
    /* A text's vector is there; then all are. See struct engine_answers. */
    void (*computed)(struct job *job, size_t text, const struct computed_text *vectors,
                     void *context);
    void (*finish)(struct job *job, void *context);
    void *context;
};

/* What a text of a job takes here. */
enum { FLIGHTS_TEXT_BYTES = 256 };

CHECK_RESULT enum err_code flights_create(const struct flights_options *options,
                                          struct flights **ret_flights, struct err *err);
/* After the workers and the scheduler. NULL is fine. */
void flights_destroy(struct flights *flights);

/* As engine_admit. Where there is no memory for it, the job goes to the queue with all its texts.
 */
CHECK_RESULT bool flights_admit(struct flights *flights, struct job *job);
/* As engine_enqueue. */
void flights_enqueue(struct flights *flights, struct job *job);
/* As engine_client. */
void flights_client(struct flights *flights, struct job *job, enum policy_client client);

/* The scheduler's: the entry of a job that is shared has ended; some time has passed. */
void flights_entry_ended(struct flights *flights, struct job *job);
void flights_tick(struct flights *flights);

/* The worker's: a batch is about to be computed; a text of it is: its vectors go to its job and
 * into the cache, and those who follow are put on *follows. flights_deliver gives them theirs; what
 * `vectors` points to must still be there. */
void flights_cut(struct flights *flights, const struct policy_batch *batch);
void flights_computed(struct flights *flights, struct job *job, size_t index,
                      const struct computed_text *vectors, struct follow **follows);
void flights_deliver(struct flights *flights, struct follow *follows);

#endif
