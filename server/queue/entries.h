/* What waits: requests in lists by turn and by age, and the sums that admission asks for. Pure data
 * for policy.c, without a rule of its own. Callers serialize the calls. */
#ifndef ORTHRUS_SERVER_ENTRIES_H
#define ORTHRUS_SERVER_ENTRIES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum policy_client {
    CLIENT_WAITS,
    CLIENT_HALF_CLOSED, /* it will send no more; perhaps it still reads */
    CLIENT_GONE,
};

/* Why a request was refused or ended. */
enum policy_why {
    POLICY_COMPUTED,
    POLICY_FULL,     /* no room: come back later */
    POLICY_HOPELESS, /* its deadline would pass in the queue: refused at once */
    POLICY_EXPIRED,  /* its deadline passed */
    POLICY_LEFT,     /* its client has gone */
    POLICY_STOPPED,  /* the server ends */
};

enum entry_stage {
    ENTRY_NEW,      /* not admitted */
    ENTRY_ADMITTED, /* waits and counts, but may not be computed yet */
    ENTRY_FRESH,    /* waits for its first turn */
    ENTRY_TURNS,    /* has had one */
    ENTRY_LAST,     /* half-closed: after all others */
    ENTRY_CUT,      /* nothing of it waits any more */
};

/* Two lists run through each entry. */
enum entry_order { BY_TURN, BY_AGE, ENTRY_ORDERS };

struct queue_link {
    struct queue_entry *next, *prev;
};

/* A request as the queue sees it. Request lifetime; zeroed at its birth. */
struct queue_entry {
    /* The owner's, set before POLICY_ARRIVE and constant then. */
    const size_t *starts; /* [n+1] where each text begins, in tokens */
    size_t n;             /* texts, ≥ 1; none is empty */
    uint64_t deadline_ns;

    /* The policy's; the owner reads them once the entry has ended. */
    enum policy_why why;
    uint64_t entered_ns; /* when it could be computed for the first time */
    uint64_t started_ns; /* its first text was cut; 0: none was */
    uint64_t ended_ns;
    struct queue_entry *next; /* of those that ended together */

    /* The policy's alone. */
    struct queue_link link[ENTRY_ORDERS];
    enum entry_stage stage;
    enum policy_client client;
    ptrdiff_t credit; /* tokens it may still take in this turn; below 0: owed */
    size_t next_text; /* first text not yet cut */
    size_t waiting;   /* tokens of texts not yet cut */
    size_t in_work;   /* texts in batches */
};

struct queue_list {
    struct queue_entry *first, *last;
};

struct queue_tally {
    size_t requests, tokens;
};

struct entries {
    struct queue_list fresh, turns, last; /* by turn: a stage each */
    struct queue_list ages;               /* all that wait, the oldest first */
    struct queue_tally all;               /* that wait */
    struct queue_tally half_closed;       /* ENTRY_LAST, part of all */
    size_t next_texts;                    /* tokens of the next texts of the others */
};

/* True while texts of it are not yet cut. */
static inline bool entry_waits(const struct queue_entry *entry)
{
    return entry->stage != ENTRY_NEW && entry->stage != ENTRY_CUT;
}

/* True while it waits and may be computed. */
static inline bool entry_ready(const struct queue_entry *entry)
{
    return entry_waits(entry) && entry->stage != ENTRY_ADMITTED;
}

/* Tokens of its next text. */
static inline size_t entry_next_size(const struct queue_entry *entry)
{
    return entry->starts[entry->next_text + 1] - entry->starts[entry->next_text];
}

static inline struct queue_entry *entry_younger(const struct queue_entry *entry)
{
    return entry->link[BY_AGE].next;
}

/* Moves the entry to the end of that stage's list, or out of all. */
void entries_move(struct entries *entries, struct queue_entry *entry, enum entry_stage stage);

/* Its next text waits no more; with the last one the entry moves to ENTRY_CUT. */
void entries_cut_text(struct entries *entries, struct queue_entry *entry);

/* The oldest that may be computed; NULL: none. */
struct queue_entry *entries_oldest(const struct entries *entries);

#endif
