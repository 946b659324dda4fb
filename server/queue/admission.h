/* How much may wait: the arithmetic of admission, without locks and with the caller's clock.
 *
 * The queue is served round robin (scheduler.h), so what a new job waits for is not all that is
 * queued but, of each job before it, at most as much as it brings itself. A job therefore counts
 * in the backlog for at most one longest text, and a bigger newcomer is held against what the
 * others have of its own size. For equal requests that is the plain sum of their tokens.
 *
 * A burst may fill the whole bound, and callers who wait for their answers may keep a queue below
 * it standing: each of them slows itself down. A queue that has filled the bound and is not short
 * again is overload: it adds waiting time and no throughput, so its bound shrinks with time, a
 * little more slowly than the workers drain a burst, down to what keeps them busy; once the queue
 * has been short the whole bound is back. Source of the idea: CoDel (Nichols and Jacobson, ACM
 * Queue 2012).
 *
 * Lives inside the scheduler, under its lock. */
#ifndef ORTHRUS_SERVER_ADMISSION_H
#define ORTHRUS_SERVER_ADMISSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct admission {
    /* Set by the owner, constant. */
    size_t fixed_tokens;   /* --max-queue-tokens; 0: by throughput */
    size_t bound_requests; /* --max-queue-requests */
    size_t busy_tokens;    /* two batches a worker keep all busy: the bound never shrinks below */
    size_t text_tokens;    /* the longest text */

    double tokens_per_s; /* throughput of all workers; measured at the start, then followed */
    uint64_t full_ns;    /* when the bound was first filled since the queue was short; 0: not yet */
};

/* Where no number of tokens was given, what fills the queue is answered within these seconds, even
 * on a machine that turns out to be a fifth slower than it was before; but two batches a worker may
 * always wait. */
#define ADMISSION_QUEUE_S 5.0

/* The whole bound in tokens. */
size_t admission_bound(const struct admission *admission);
/* The bound now, under standing overload less than the whole. */
size_t admission_bound_now(const struct admission *admission, uint64_t now_ns);
/* What a job with tokens left counts for in the backlog. */
size_t admission_charge(const struct admission *admission, size_t tokens);
/* To be told at every change of the backlog: the sum of the jobs' charges. */
void admission_seen(struct admission *admission, size_t backlog, uint64_t now_ns);
/* A batch of that many tokens took busy_ns of share (0 … 1) of the workers. */
void admission_learn(struct admission *admission, size_t tokens, uint64_t busy_ns, double share);

enum admission_verdict {
    ADMISSION_YES,
    ADMISSION_FULL,     /* 429 */
    ADMISSION_HOPELESS, /* it would expire in the queue: 504 now and not later */
};

struct admission_question {
    size_t tokens;        /* the job's */
    size_t backlog;       /* sum of charges of the jobs before it */
    size_t ahead;         /* for a job bigger than the longest text: of each job before it at most
                             `tokens`, summed; else the backlog */
    size_t requests;      /* before it */
    uint64_t now_ns;      /* monotonic */
    uint64_t deadline_ns; /* the job's */
};

/* A job finds room, or an empty queue whatever its size. */
enum admission_verdict admission_ask(const struct admission *admission,
                                     const struct admission_question *question);

#endif
