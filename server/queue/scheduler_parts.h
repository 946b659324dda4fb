/* The scheduler's inside, shared by scheduler.c (queue, admission, sweeper) and scheduler_batch.c
 * (cutting, teams, completion). Every function here is called with the lock held. */
#ifndef ORTHRUS_SERVER_SCHEDULER_PARTS_H
#define ORTHRUS_SERVER_SCHEDULER_PARTS_H

#include <pthread.h>

#include "server/queue/admission.h"
#include "server/queue/scheduler.h"

/* One worker as the scheduler sees it. */
struct slot {
    pthread_cond_t wake;
    struct crew *crew; /* set: join it as `member` */
    unsigned member;
};

struct scheduler {
    struct scheduler_options options;
    pthread_mutex_t lock;
    struct admission admission;
    struct job *ring;            /* next to be served; circular, doubly linked; NULL: empty */
    struct job *oldest, *newest; /* the same jobs by time */
    size_t waiting_tokens;       /* of queued and admitted jobs */
    size_t waiting_requests;
    size_t reserved_tokens; /* part of waiting_tokens: admitted, not yet enqueued */
    size_t backlog;         /* sum of charges */
    struct slot *slots;     /* [workers] */
    unsigned *idle;         /* [n_idle] a stack: the last to go idle is the first to work */
    unsigned n_idle;
    bool stopping;
    pthread_t sweeper;
    pthread_cond_t sweep; /* something was queued, or stopping */
    /* Copies for readers without the lock. */
    atomic_size_t seen_tokens, seen_requests, seen_backlog, seen_bound, seen_rate;
};

/* Jobs to end once the lock is released, in order. */
struct ended {
    struct job *first;
    struct job **end;
};

void scheduler_ended_init(struct ended *ended);
/* Without the lock: finishes those that were computed and calls every `done`. */
void scheduler_end_jobs(const struct scheduler *scheduler, struct ended *ended);

/* Publishes the counts to the readers without the lock. */
void scheduler_publish(struct scheduler *scheduler, uint64_t now_ns);
/* Changes what a job has waiting. */
void scheduler_set_waiting(struct scheduler *scheduler, struct job *job, size_t tokens);
void scheduler_unlink(struct scheduler *scheduler, struct job *job);
/* Takes the job out of the queue with a problem; it ends with its last reference. */
void scheduler_kill(struct scheduler *scheduler, struct job *job, enum problem_kind kind,
                    const char *text, struct ended *ended);
/* Gives back one reference. */
void scheduler_unref(struct job *job, struct ended *ended);
/* True (and the job killed) when it should not be computed any more. */
bool scheduler_expire(struct scheduler *scheduler, struct job *job, uint64_t now_ns,
                      struct ended *ended);
/* Without the lock: asks whether the client has gone. The caller holds a reference. */
bool scheduler_gone(struct job *job);
void scheduler_kill_gone(struct scheduler *scheduler, struct job *job, struct ended *ended);

#endif
