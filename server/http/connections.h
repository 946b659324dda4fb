/* The connections of both listeners: in which phase each of them is and until when, which of them
 * have a place, and who has to go when all places are taken.
 *
 * A connection is in one phase, changed by connections_enter and connections_end alone:
 *
 *   idle      a new connection's first headers: header_timeout; between requests: idle_timeout
 *   headers   header_timeout
 *   body      body_timeout plus a second for each PEER_BYTES_PER_S of the body
 *   discard   a refused request's body: DISCARD_TIMEOUT_MS
 *   handling  none: its handler runs on the I/O thread
 *   working   none: suspended, with the request's own deadline, kept by the scheduler
 *   asleep    none: the reaper looks, at its time, what has come (repeat.h)
 *   delayed   none: suspended, with a refusal that is kept back until the reaper lets it go
 *   sending   body_timeout plus a second for each PEER_BYTES_PER_S of the answer
 *   ended     nothing more is read or sent; the last one
 *
 * libmicrohttpd knows idle timeouts alone, which a client that sends one byte now and then never
 * meets; here each phase ends at a fixed time, and the connection with it: it is shut down, in the
 * middle of a body after the answer (408, or the refusal that waited for the rest).
 *
 * Who may touch an exchange: its I/O thread, but from the hand-over to the resume of a working one
 * the thread that works on it. In discard its reply is complete and only read, for the reaper may
 * send it; whoever moves the connection on has the reply for himself.
 *
 * A whole header section is what a place is kept for: of those that have brought none yet the one
 * that waits longest is ended for a newcomer.
 *
 * Bookkeeping: no thread and no lock. The reaper (reaper.h) is both, around each call. */
#ifndef ORTHRUS_SERVER_CONNECTIONS_H
#define ORTHRUS_SERVER_CONNECTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "server/exchange/exchange.h"
#include "server/http/arrivals.h"
#include "server/http/framing.h"
#include "server/http/repeat.h"
#include "server/queue/policy.h"

enum { DISCARD_TIMEOUT_MS = 10000, PEER_BYTES_PER_S = 64 * 1024 };

TAILQ_HEAD(conns, conn);

enum conn_phase {
    CONN_IDLE,
    CONN_ASLEEP,
    CONN_HEADERS,
    CONN_BODY,
    CONN_DISCARD,
    CONN_HANDLING,
    CONN_WORKING,
    CONN_DELAYED,
    CONN_SENDING,
    CONN_ENDED,
    CONN_PHASES,
};

/* A connection. Lifetime: from reaper_open to reaper_close. */
struct conn {
    int fd;
    enum listener listener;
    bool over_limit; /* one too many: refused politely */
    /* The I/O thread's; while it is asleep the reaper's, under its lock. */
    struct framing framing; /* told by tap.c */
    uint64_t requests;      /* begun */
    bool answering; /* a request is whole and was suspended, its answer is not over: tap.h */
    struct policy_patience patience;
    struct repeat repeat;
    /* The reaper's, under its lock. */
    TAILQ_ENTRY(conn) in_conns, in_headless, in_suspended;
    enum conn_phase phase;
    bool had_headers;          /* a whole header section has come */
    bool evicted;              /* ended for a newcomer */
    bool refused;              /* over the limit; its refusal is kept back, or was */
    struct conns *suspended;   /* the list of its phase, or NULL */
    struct exchange *exchange; /* under way, or NULL */
    uint64_t deadline_ns;
    enum policy_client client; /* as last seen */
    enum policy_client told;   /* what the exchange that is worked on has been told of it */
    bool at_end;               /* between bytes, at the end of the stream when last looked at */
    size_t poll_slot;          /* of the round that goes on, SIZE_MAX: none */
};

/* Of one listener. */
struct tally {
    size_t open;
    size_t placed;  /* of the open ones: within the limit and not ended for a newcomer */
    size_t ending;  /* of the open ones: ended for a newcomer, soon closed */
    size_t refused; /* of the open ones: over the limit, refused late and then closed */
    /* Those that have no whole header section yet; all have as long, so the first waits longest. */
    struct conns headless;
};

/* Process lifetime. */
struct connections {
    const struct settings *settings;
    uint64_t idle_end_ns; /* of idle ones, while draining; UINT64_MAX otherwise */
    struct conns all;
    struct conns working;
    struct conns delayed, asleep; /* by their deadlines, the next one first */
    uint64_t next_end_ns;         /* no phase ends before, but those of these two lists */
    struct tally main, admin;
    struct arrivals arrivals; /* announced, not yet open */
};

void connections_init(struct connections *connections, const struct settings *settings);
/* After the last connection. */
void connections_done(struct connections *connections);

/* As reaper_announce, reaper_making_room and reaper_count. */
bool connections_announce(struct connections *connections, int fd, enum listener listener,
                          size_t most);
bool connections_making_room(struct connections *connections, enum listener listener, size_t most);
size_t connections_count(struct connections *connections, enum listener listener);
/* An announced connection is open, and in CONN_IDLE; conn is zeroed but for fd and listener. */
void connections_open(struct connections *connections, struct conn *conn, size_t limit);
/* It is no more; the memory is the caller's. */
void connections_close(struct connections *connections, struct conn *conn);

/* Moves a connection that has not ended to its next phase. */
void connections_enter(struct connections *connections, struct conn *conn, enum conn_phase phase,
                       struct exchange *x);
/* Puts it into one of the two lists; when its phase ends. */
void connections_list(struct conns *list, struct conn *conn, uint64_t end_ns);
/* Takes it out of the list that it is in, if any. */
void connections_unlist(struct conn *conn);
/* Nothing more goes out; the library closes what is shut down. */
void connections_end(struct connections *connections, struct conn *conn);
/* A phase ends then, or sooner. */
void connections_expect_end(struct connections *connections, uint64_t end_ns);
/* As reaper_busy. */
size_t connections_busy(const struct connections *connections, bool suspended_only);

#endif
