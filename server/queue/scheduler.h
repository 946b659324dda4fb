/* The shell around the queue's rule (policy.h): a lock, a clock, the workers' sleep, and jobs.
 *
 * Workers call scheduler_take in a loop. It gives them a batch, or a place in the team of another
 * worker's batch. A ticker thread ends jobs whose deadline passes while they wait. A job ends once
 * no text of it is in a batch any more: `finish` is called when all its texts are computed, then
 * `done`, always outside the lock.
 *
 * The scheduler knows nothing of models: tests drive it with threads that only pretend to compute.
 * Process lifetime; thread-safe. */
#ifndef ORTHRUS_SERVER_SCHEDULER_H
#define ORTHRUS_SERVER_SCHEDULER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "model/encoder/team.h"
#include "server/queue/job.h"
#include "server/queue/policy.h"

struct scheduler;

struct scheduler_options {
    struct policy_options policy;
    size_t row_floats; /* room of one row of a job's embeddings: pooled, or what is made of it */
    /* Makes a computed job's answer. Called on a worker, or on the ticker. */
    void (*finish)(struct job *job, void *context);
    /* The entry of a job that is shared (job->shared) has ended: instead of finish and done. May be
     * called as they are. tick: every POLICY_TICK_MS while something waits. NULL: nothing is
     * shared.
     */
    void (*ended)(struct job *job, void *context);
    void (*tick)(void *context);
    void *context;
};

CHECK_RESULT enum err_code scheduler_create(const struct scheduler_options *options,
                                            struct scheduler **ret_scheduler, struct err *err);
/* After scheduler_stop and after every worker has seen TAKE_STOP. NULL is fine. */
void scheduler_destroy(struct scheduler *scheduler);

/* See engine.h. */
CHECK_RESULT bool scheduler_admit(struct scheduler *scheduler, struct job *job);
CHECK_RESULT bool scheduler_reserve(struct scheduler *scheduler, struct job *job, size_t tokens);
void scheduler_release(struct scheduler *scheduler, struct job *job);
void scheduler_enqueue(struct scheduler *scheduler, struct job *job);
void scheduler_client(struct scheduler *scheduler, struct job *job, enum policy_client client);
/* Sets the job's problem by entry.why, in the words of all. */
void scheduler_tell(struct job *job);
bool scheduler_full(const struct scheduler *scheduler);
/* policy_crowded, as of the last step; without a lock. */
bool scheduler_crowded(const struct scheduler *scheduler);
unsigned scheduler_retry_after_s(const struct scheduler *scheduler);

/* Tokens and requests that wait (not those in batches). */
void scheduler_queue(const struct scheduler *scheduler, size_t *ret_tokens, size_t *ret_requests);
/* How many tokens may wait now. */
size_t scheduler_bound(const struct scheduler *scheduler);

/* Refuses newcomers and ends what waits with PROBLEM_DRAINING; batches that are being computed
 * still complete. */
void scheduler_stop(struct scheduler *scheduler);

/* What the members of one batch's team share. Lives in the leader, whose next batch waits until
 * crew_left. */
struct crew {
    struct team team;
    void *task;           /* the leader's */
    atomic_uint returned; /* members (without the leader) that have left */
};

enum take {
    TAKE_BATCH,  /* *ret_batch: scheduler_muster, compute it, then scheduler_complete */
    TAKE_MEMBER, /* join *ret_crew as *ret_member, then crew_leave */
    TAKE_STOP,
};

/* Waits for something to do. worker: 0 … workers-1. The batch is the worker's until
 * scheduler_complete. */
enum take scheduler_take(struct scheduler *scheduler, unsigned worker,
                         const struct policy_batch **ret_batch, struct crew **ret_crew,
                         unsigned *ret_member);

/* Sends the batch's team in; initializes crew->team. The task must be complete: members start at
 * once. */
void scheduler_muster(struct scheduler *scheduler, unsigned worker, struct crew *crew, void *task);
/* A member's last touch of the crew. */
void crew_leave(struct crew *crew);
/* The leader waits until all members have left. */
void crew_wait(struct crew *crew);

/* The batch's embeddings are in their jobs: ends those jobs that are complete. */
void scheduler_complete(struct scheduler *scheduler, unsigned worker);

#endif
