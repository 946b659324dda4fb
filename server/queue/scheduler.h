/* Jobs → batches: who may queue, whose texts go next, and which threads compute them.
 *
 * Workers call scheduler_take in a loop. It gives them a batch cut from the queued jobs, or a place
 * in the team of another worker's batch, and never lets a worker idle while work is queued (but
 * for max_wait_ns). Cutting is surplus round robin by tokens (Adiseshu, Parulkar and Varghese,
 * SIGCOMM 1996): each job in turn gets a small credit, so a big request takes part of every batch
 * and whoever comes late with one sentence is in the next one. A job with credit may overdraw it by
 * a text, so requests of one text, long or short, are served as they came. A job older than the age
 * cap has half of each batch for itself, so that a stream of newcomers can't starve it.
 *
 * A sweeper thread ends jobs whose deadline passes, or whose client goes, while they wait; a batch
 * is cut without them. A job ends once no text of it is in a batch any more: `finish` is called
 * when all its texts are computed, then `done`, always outside the lock.
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

struct scheduler;

struct scheduler_options {
    unsigned workers;    /* threads that will call scheduler_take, each with its own index */
    size_t hidden;       /* H, for the jobs' embeddings */
    size_t batch_tokens; /* budget of one batch; ≥ text_tokens */
    size_t batch_texts;
    size_t text_tokens;   /* the longest text */
    uint64_t max_wait_ns; /* how long an idle worker may wait for a batch to fill */
    double member_tokens; /* the least share of a batch that is worth a team member */
    size_t queue_tokens;  /* admission's bound; 0: by throughput */
    size_t queue_requests;
    double tokens_per_s; /* of all workers, first guess */
    /* Makes a computed job's answer. Called on a worker, or on the sweeper. */
    void (*finish)(struct job *job, void *context);
    void *context;
};

CHECK_RESULT enum err_code scheduler_create(const struct scheduler_options *options,
                                            struct scheduler **ret_scheduler, struct err *err);
/* After scheduler_stop and after every worker has seen TAKE_STOP. NULL is fine. */
void scheduler_destroy(struct scheduler *scheduler);

/* See engine.h. */
CHECK_RESULT bool scheduler_admit(struct scheduler *scheduler, struct job *job);
void scheduler_enqueue(struct scheduler *scheduler, struct job *job);
bool scheduler_full(const struct scheduler *scheduler);
unsigned scheduler_retry_after_s(const struct scheduler *scheduler);

/* Tokens and requests that wait (not those in batches). */
void scheduler_queue(const struct scheduler *scheduler, size_t *ret_tokens, size_t *ret_requests);
/* How many tokens may wait now. */
size_t scheduler_bound(const struct scheduler *scheduler);
/* The throughput that admission reckons with. */
double scheduler_tokens_per_s(struct scheduler *scheduler);

/* Refuses newcomers and ends what waits with PROBLEM_DRAINING; batches that are being computed
 * still complete. */
void scheduler_stop(struct scheduler *scheduler);

/* One text of a batch. */
struct work_text {
    struct job *job;
    size_t index; /* among the job's texts */
};

/* A batch as it is cut. Worker lifetime; the arrays are sized once. */
struct work {
    struct work_text *texts; /* [n] */
    size_t n;
    size_t tokens;
    struct job **glances; /* [n_glances] jobs whose clients are to be asked for */
    size_t n_glances;
    uint64_t cut_ns;
};

CHECK_RESULT enum err_code work_init(struct work *work, size_t max_texts, struct err *err);
/* NULL and zeroed structs are fine. */
void work_done(struct work *work);

/* What the members of one batch's team share. Lives in the leader, whose next batch waits until
 * crew_left. */
struct crew {
    struct team team;
    void *task;           /* the leader's */
    atomic_uint returned; /* members (without the leader) that have left */
};

enum take {
    TAKE_BATCH,  /* *work holds a batch: compute it, then scheduler_complete */
    TAKE_MEMBER, /* join *ret_crew as *ret_member, then crew_leave */
    TAKE_STOP,
};

/* Waits for something to do. worker: 0 … workers-1. */
enum take scheduler_take(struct scheduler *scheduler, unsigned worker, struct work *work,
                         struct crew **ret_crew, unsigned *ret_member);

/* Makes a team for a batch of that many tokens out of the caller and whoever is idle and not needed
 * for what still waits; initializes crew->team. The task must be complete: members start at
 * once. */
void scheduler_recruit(struct scheduler *scheduler, size_t tokens, struct crew *crew, void *task);
/* A member's last touch of the crew. */
void crew_leave(struct crew *crew);
/* The leader waits until all members have left. */
void crew_wait(struct crew *crew);

/* The batch's embeddings are in their jobs: ends those jobs that are complete. width: of the
 * team. */
void scheduler_complete(struct scheduler *scheduler, struct work *work, unsigned width);

#endif
