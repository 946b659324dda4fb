/* The queue's rule in a world of virtual time: server/queue/policy.c between made-up workers and
 * clients, one thread, everything from one seed, each event followed by the invariants of checks.c.
 *
 * A seed gives a scenario (scenario.c), a scenario runs in a world (world.c). Every client and the
 * machine draw from random numbers of their own, so that leaving one out changes nothing for the
 * others: that is what shrinking rests on. */
#ifndef ORTHRUS_TESTS_SIMULATION_H
#define ORTHRUS_TESTS_SIMULATION_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/clock.h"
#include "server/queue/policy.h"

enum {
    CLIENTS_MAX = 256,
    WORKERS_MAX = 16,
    GIANT_TEXTS = 2048,
    BATCH_TEXTS_MAX = 1024,
    SWAPS_MAX = 8,
    JITTER_MAX = 32,
};

/* Random numbers */

struct dice {
    uint64_t state;
};

static inline uint64_t dice_next(struct dice *dice)
{
    uint64_t z = dice->state += 0x9e3779b97f4a7c15u; /* splitmix64 */
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* from … to, both included. */
static inline uint64_t dice_range(struct dice *dice, uint64_t from, uint64_t to)
{
    return from + dice_next(dice) % (to - from + 1);
}

static inline double dice_unit(struct dice *dice)
{
    return (double)(dice_next(dice) >> 11) / 9007199254740992.0;
}

static inline bool dice_chance(struct dice *dice, double share)
{
    return dice_unit(dice) < share;
}

/* Scenarios */

enum scenario_kind {
    SCENARIO_MIXED,  /* anything */
    SCENARIO_FAIR,   /* equal closed-loop clients: equal tokens */
    SCENARIO_STORM,  /* far more than fits, from clients that ignore Retry-After: full throughput */
    SCENARIO_GIANTS, /* one-text requests beside giants */
    SCENARIO_RETRY,  /* a refused request comes again until it is taken: was Retry-After true? */
    SCENARIO_TEAMS,  /* one request at a time, with a neighbour or without */
    SCENARIO_KINDS,
};
extern const char *const scenario_names[SCENARIO_KINDS];

enum client_kind { CLIENT_POISSON, CLIENT_BURSTS, CLIENT_CLOSED };

struct client_plan {
    enum client_kind kind;
    uint64_t begin_ns, end_ns; /* sends in between */
    uint64_t pause_ns;         /* mean: between requests, between bursts, before the next */
    unsigned burst;            /* requests at once */
    size_t texts_min, texts_max;
    size_t size_min, size_max; /* tokens of a text */
    uint64_t timeout_ns;       /* the most; below half a minute any time up to it */
    bool obeys;                /* waits for Retry-After */
    double leaves;             /* share of requests whose client goes before the answer */
    double half_closes;
};

/* What --off can leave out of a scenario, to make a failing one smaller. */
enum scenario_off {
    OFF_STALLS = 1,
    OFF_NEIGHBOUR = 2,
    OFF_LEAVING = 4,
    OFF_DEADLINES = 8,
    OFF_FILL_WAIT = 16,
    OFF_SWAPS = 32,
    OFF_FLIGHTS = 64, /* nothing is released or followed */
    OFF_ALL = 127,
};

struct scenario {
    uint64_t seed;
    enum scenario_kind kind;
    unsigned off; /* bits of enum scenario_off */
    uint64_t stop_ns;
    struct policy_options policy;
    /* The machine as it is, not as the policy believes. */
    double speed;       /* tokens a second of one worker */
    double pass_tokens; /* fixed cost of a pass */
    double team_gain;   /* what a member adds, 0 … 1 */
    double barrier_s;   /* what a member costs in each pass */
    /* Passes take so many times as long, each time one of these by chance; none: always 1. */
    double jitter[JITTER_MAX];
    unsigned n_jitter;
    double stall_share;   /* of passes */
    uint64_t stall_ns;    /* the longest */
    bool neighbour;       /* somebody spins on one of the CPUs … */
    double neighbour_pay; /* … which makes a pass there so many times as long … */
    uint64_t neighbour_from_ns, neighbour_to_ns;
    /* Other heads come into service, the first ones are version 0; their check is a neighbour of
     * half a CPU for a while before. */
    unsigned n_swaps;
    uint64_t swap_ns[SWAPS_MAX]; /* in no order */
    uint64_t swap_check_ns;
    /* Of requests: that are answered without the queue once they have room there (POLICY_RELEASE),
     * of those of one text: that ask for what another one is already waiting for. */
    double released, following;
    unsigned n_clients;
    struct client_plan clients[CLIENTS_MAX];
};

struct scenario scenario_of(uint64_t seed);

/* World */

/* STEP_NS_MAX: how long the shell's threads need for a step of theirs. */
enum { REQUESTS_MAX = 2048, SIZES_MAX = GIANT_TEXTS, STEP_NS_MAX = 30000, TOLD_MAX = 4096 };

struct request {
    struct queue_entry entry;
    struct request *next_free;
    bool live; /* admitted and not ended */
    bool entered, half_closed, gone;
    unsigned client;
    uint64_t number; /* among all requests */
    uint64_t order;  /* among all that asked for room */
    /* Single flight: who waits for what it leads; whom it follows itself. */
    struct request *followers, *next_follower, *leader;
    bool follows; /* it waits for another's text, or is about to ask anew */
    size_t texts_cut, texts_done;
    unsigned version;       /* of the heads, taken when it came */
    size_t tokens, waiting; /* by the simulation's own count */
    size_t turns_before;    /* texts of first turns before it when it entered */
    unsigned passed_over;   /* batches cut without it since it entered */
    bool watched;           /* counted by the last two */
};

enum worker_state { WORKER_IDLE, WORKER_LEADS, WORKER_MEMBER, WORKER_LEFT };

struct sim_worker {
    enum worker_state state;
    unsigned leader;  /* whose team it is in */
    unsigned wakes;   /* on their way to it */
    uint64_t ask_ns;  /* it asks again then; 0: only when woken */
    uint64_t busy_ns; /* in passes */
    uint64_t end_ns;  /* of its pass */
};

struct sim_client {
    struct dice dice;
    struct policy_patience patience;
    uint64_t unread_until_ns;     /* what it sends is not looked at before */
    size_t starts[SIZES_MAX + 1]; /* its texts; a request takes a stretch of them */
    size_t n_sizes;
    uint64_t tokens; /* computed for it */
    uint64_t answers;
    /* SCENARIO_RETRY: refusals since it was last taken, and what they said. */
    uint64_t told_ns[TOLD_MAX];
    unsigned told_s[TOLD_MAX];
    size_t n_told;
};

enum sim_event_kind {
    SIM_SEND,    /* client */
    SIM_ENTER,   /* request */
    SIM_RELEASE, /* request: what it was admitted for is done elsewhere */
    SIM_ANEW,    /* request: whom it followed ended without its text */
    SIM_LEAVE,   /* request: its client goes, or closes its side */
    SIM_WAKE,    /* worker */
    SIM_ASK,     /* worker: its wait is over */
    SIM_PASS,    /* worker: its pass is over */
    SIM_TICK,
    SIM_STOP,
    SIM_SWAP,
};

struct sim_event {
    uint64_t at_ns;
    uint64_t order; /* of equal times, the first made comes first */
    enum sim_event_kind kind;
    unsigned who;    /* client, worker, or place of the request */
    uint64_t number; /* the request's, so that a later one in its place is not meant */
    enum policy_client client;
};

struct totals {
    uint64_t requests, admitted, computed, full, hopeless, expired, left, stopped;
    uint64_t released, followed, anew;
    uint64_t events, batches, tokens, virtual_ns;
};

enum { HEAP_MAX = 16384 };

struct world {
    const struct scenario *scenario;
    uint64_t without; /* bits of clients */
    FILE *trace;
    uint64_t now_ns;
    struct dice dice;
    struct policy policy;
    struct policy_batch batches[WORKERS_MAX];
    struct policy_text texts[WORKERS_MAX][BATCH_TEXTS_MAX];
    unsigned idle[WORKERS_MAX];
    struct sim_worker workers[WORKERS_MAX];
    struct sim_client clients[CLIENTS_MAX];
    struct request requests[REQUESTS_MAX];
    struct request *free;
    struct sim_event heap[HEAP_MAX];
    size_t n_heap;
    uint64_t made; /* events */
    bool ticking, stopped;
    struct dice flight_dice;
    uint64_t asked;         /* for room */
    struct request *leader; /* the last one of one text that was admitted */
    bool like;              /* like_answered hears of each answer */
    struct totals totals;
    /* checks.c */
    size_t waiting_tokens, waiting_requests, live;
    unsigned version;              /* of the heads in service */
    size_t holders[SWAPS_MAX + 1]; /* [version] requests that have taken it */
    bool let_go[SWAPS_MAX + 1];    /* [version] out of service, and nobody holds it */
    uint64_t last_single_ns;   /* when the last of the requests of one text that were cut entered */
    uint64_t singles_until_ns; /* a second after the last of them entered */
    struct request *watched;   /* of one text: how often is it passed over? */
    struct request *oldest;    /* before the cut */
    size_t oldest_waiting;
    bool oldest_aged;
    bool alone;               /* the last batch was of one request */
    unsigned lone, lone_slow; /* SCENARIO_TEAMS: passes, and those of a bad width */
    bool at_end;              /* it broke when all was over */
    const char *broken;       /* the invariant that did not hold */
    char text[256];
};

/* A scenario by numbers: what the daemon measured of itself, and which clients. */
enum { LIKE_BULK_TEXTS = 100 };
struct like {
    unsigned workers;
    double pass_tokens;
    size_t budget, tokens; /* of a batch, of each text */
    unsigned singles, bulks;
    double seconds;
    double pass_s[JITTER_MAX]; /* what full batches took, ascending */
    unsigned n_pass_s;
};
/* Prints what the clients saw, as JSON. Returns an exit status. */
int like_run(struct world *world, const struct like *like);
/* For it: a request was answered. */
void like_answered(const struct request *request, uint64_t took_ns);

/* Runs a scenario without the clients whose bit in `without` is set (of the first 64), until
 * until_ns (0: to its end). trace: NULL, or where each event becomes a line. The world is the
 * caller's, only because it is large. Afterwards world->broken names the invariant that did not
 * hold, NULL: all held. */
void simulate(struct world *world, const struct scenario *scenario, uint64_t without,
              uint64_t until_ns, FILE *trace);

/* Invariants: each sets world->broken, the first one stays. */
void broken(struct world *world, const char *name, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* What the policy must say to a newcomer, reckoned from the simulation's own records. */
void check_arrival(struct world *world, const struct request *request,
                   const struct policy_actions *actions);
/* Somebody was admitted or released: what newcomers were told holds no more. */
void check_told_anew(struct world *world);
void check_entered(struct world *world, struct request *request);
void check_before_cut(struct world *world);
void check_cut(struct world *world, unsigned worker, const struct policy_actions *actions);
void check_ended(struct world *world, const struct request *request);
/* One that followed ends, for that reason, without the queue. */
void check_follower(struct world *world, const struct request *request, enum policy_why why);
/* After every event. */
void check_always(struct world *world);
void check_tick(struct world *world);
void check_heads(struct world *world);
void check_end(struct world *world);

static inline struct request *request_of(struct queue_entry *entry)
{
    return (struct request *)(void *)entry; /* its first member */
}

#endif
