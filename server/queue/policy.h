/* The rule of the queue: who may wait, whose text is computed next, by how many threads, who is
 * told to come back when. A pure function of state, event and time: no thread, no clock, no lock
 * and no memory but what it was given. scheduler.c is the shell of threads and clocks around it,
 * and tests/simulation drives the same code with seeds and virtual time.
 *
 * Admission. A newcomer has to wait for its own tokens and, of each request before it, for at most
 * as many (or that one's next text, if longer): that is what taking turns gives. It may wait if
 * this fits into what is surely computed in 5 s (or into --max-queue-tokens), if fewer than
 * --max-queue-requests wait, or if nothing waits at all. A request that would miss its deadline
 * even at 1.33 times the known speed ends at once. A refused one is told how long the queue takes
 * to have room for it.
 *
 * Turns. A request that has had no turn yet goes before all that had one (as FQ-CoDel's new flows,
 * RFC 8290), so whoever comes with one text is in the next batch. A turn is 16 tokens; a text may
 * overdraw it and is paid for by turns without one (surplus round robin: Adiseshu, Parulkar and
 * Varghese, SIGCOMM 1996). The oldest request, once it has waited for a second, has half of each
 * batch. A request whose client has closed its sending side is computed while nothing else waits,
 * in batches of their own and of half the size: a newcomer waits for one of them at most.
 *
 * Batches end at the budget, and at half of it where they hold texts of larger requests while such
 * with one text come (within the last second): what is in work is over sooner when the next one
 * comes. A longer text goes alone. A worker never idles while work waits, but
 * for --max-wait-us. Nothing is cut after its deadline.
 *
 * Teams. Idle workers that what waits does not need join a batch, as many as have been fastest: a
 * neighbour that slows a team down, or a team too wide for its barriers, shows in the time of its
 * passes against that of one worker, and every sixteenth team tries the width beside.
 *
 * Callers serialize the calls. Process lifetime. */
#ifndef ORTHRUS_SERVER_POLICY_H
#define ORTHRUS_SERVER_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/queue/entries.h"

/* Where no number of tokens was given, what fills the queue is answered within these seconds. */
#define POLICY_QUEUE_S 5

struct policy_text {
    struct queue_entry *entry;
    size_t index; /* among the entry's texts */
};

/* What one worker leads. */
struct policy_batch {
    struct policy_text *texts; /* [batch_texts], given */
    size_t n, tokens;
    unsigned width; /* workers of its team */
    uint64_t cut_ns;
};

struct policy_options {
    unsigned workers;    /* ≥ 1 */
    size_t batch_tokens; /* budget of one batch */
    size_t batch_texts;
    uint64_t max_wait_ns;  /* how long an idle worker may wait for a batch to fill */
    double member_tokens;  /* the least share of a batch that is worth a team member */
    size_t queue_tokens;   /* admission's bound; 0: by throughput */
    size_t queue_requests; /* ≥ 1 */
    double tokens_per_s;   /* of all workers, each with its own batches; measured at the start */
    double pass_tokens;    /* what a pass costs whatever its size, in tokens of full batches */
};

enum { POLICY_WIDTHS = 12, POLICY_TOLD = 16 };

/* What a newcomer with so many tokens was told; tokens 0: nobody. */
struct policy_told {
    size_t tokens;
    unsigned retry_after_s;
};

struct policy {
    struct policy_options options;
    struct policy_batch *batches; /* [workers], given */
    unsigned *idle; /* [workers], given; a stack: the last to go idle is the first to work */
    unsigned n_idle;
    bool stopping;
    uint64_t singles_until_ns; /* requests of one text are expected */
    bool crowded;              /* beside the oldest nothing else found room in the last batch */
    struct entries entries;
    double tokens_per_s;                  /* as learnt */
    unsigned retry_after_s;               /* of a newcomer with one token, as of the last tick */
    struct policy_told told[POLICY_TOLD]; /* since the last change, by tokens */
    double pace[POLICY_WIDTHS];           /* time of a team of up to 2^i, of one worker's; learnt */
    unsigned teams;                       /* formed where a choice was */
};

enum policy_kind {
    POLICY_ARRIVE,   /* entry wants to wait: actions.admitted */
    POLICY_ENTER,    /* an admitted entry may be computed from now on */
    POLICY_RELEASE,  /* an admitted entry needs nothing computed: its room is free again */
    POLICY_IDLE,     /* worker has nothing to do (again): actions.cut, .leave or wait */
    POLICY_COMPLETE, /* worker's batch is computed */
    POLICY_CLIENT,   /* what entry's client did; at any stage */
    POLICY_TICK,     /* every POLICY_TICK_MS while something waits */
    POLICY_STOP,     /* refuse newcomers, end what waits */
};

enum { POLICY_TICK_MS = 20 };

struct policy_event {
    enum policy_kind kind;
    unsigned worker;
    struct queue_entry *entry;
    enum policy_client client;
};

enum policy_wake { WAKE_NONE, WAKE_ONE, WAKE_ALL };

struct policy_actions {
    bool admitted; /* else why and retry_after_s say more */
    enum policy_why why;
    unsigned retry_after_s;    /* with POLICY_FULL */
    struct queue_entry *ended; /* by next, in order */
    struct queue_entry *last_ended;
    struct policy_batch *cut; /* the asking worker's: compute it, then POLICY_COMPLETE */
    const unsigned *members;  /* [cut->width-1] idle workers that join; valid until the next step */
    bool leave;               /* the asking worker ends */
    uint64_t wait_until_ns;   /* the asking worker asks again then, unless woken; 0: only woken */
    enum policy_wake wake;    /* who is to ask again */
    unsigned who;             /* with WAKE_ONE */
};

/* batches, with their texts, and idle belong to the caller and outlive the policy. */
void policy_init(struct policy *policy, const struct policy_options *options,
                 struct policy_batch *batches, unsigned *idle);

/* now_ns never goes back. What *ret_actions names is the shell's to do before the next step. */
void policy_step(struct policy *policy, const struct policy_event *event, uint64_t now_ns,
                 struct policy_actions *ret_actions);

/* How many tokens may wait now. */
size_t policy_bound(const struct policy *policy);
/* True if a newcomer with one token would be refused as POLICY_FULL. */
bool policy_full(const struct policy *policy);
/* True if a newcomer with a text as long as those that wait are on average would be refused.
 * Clients that don't wait as they were told are refused by it unread. */
bool policy_crowded(const struct policy *policy);

/* The memory of one connection for refusals; zeroed at its birth. */
struct policy_patience {
    unsigned refused;  /* in a row, each before the last one's Retry-After was over */
    uint64_t until_ns; /* when that is */
};

/* A request that came at asked_ns gets a 429 with that Retry-After: returns how many ns later. It
 * may be decided as late, too. Clients that wait, and the first eight that don't, get it at once;
 * then it comes 64, 128 and 250 ms late. */
uint64_t policy_refused(struct policy_patience *patience, unsigned retry_after_s,
                        uint64_t asked_ns);
/* How late the next one in the row comes. */
uint64_t policy_lateness_ns(const struct policy_patience *patience);
/* True if this client's next refusal comes late. */
bool policy_impatient(const struct policy_patience *patience, uint64_t now_ns);
/* Any other answer went out. */
void policy_answered(struct policy_patience *patience);

#endif
