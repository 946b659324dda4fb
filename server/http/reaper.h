/* Connections: the one record of what each is doing, its deadline, and whether its client is there.
 *
 * A connection is in one phase, changed by reaper_enter alone, under one lock:
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
 * It also asks, every TICK_MS (where no work waits for them every fifth time) and nowhere else,
 * whether clients are still there: libmicrohttpd does not look at suspended connections and,
 * polling edge-triggered, misses an end of stream that comes together with the last bytes before
 * it. A reset connection's client is gone; one that has only closed its own side may still read an
 * answer.
 *
 * Process lifetime; thread-safe. */
#ifndef ORTHRUS_SERVER_REAPER_H
#define ORTHRUS_SERVER_REAPER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/err.h"
#include "server/exchange/exchange.h"
#include "server/http/framing.h"
#include "server/http/repeat.h"
#include "server/queue/policy.h"

enum { DISCARD_TIMEOUT_MS = 10000, PEER_BYTES_PER_S = 64 * 1024 };

struct reaper;
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

CHECK_RESULT enum err_code reaper_create(const struct settings *settings,
                                         struct reaper **ret_reaper, struct err *err);
/* After the last connection. NULL is fine. */
void reaper_destroy(struct reaper *reaper);

/* Announces a connection that reaper_open will follow for, or reaper_withdraw (or neither, where
 * the library gives it up); false when most are open or announced, or memory is out. */
bool reaper_announce(struct reaper *reaper, int fd, enum listener listener, size_t most);
void reaper_withdraw(struct reaper *reaper, int fd);
/* True when most are open or announced but some of them are being ended for newcomers, or are over
 * the limit and refused late: a moment later there will be room. */
bool reaper_making_room(struct reaper *reaper, enum listener listener, size_t most);
/* Counts and watches an announced connection. Where `limit` are open already, of those that have
 * not brought a whole header section the one that waits longest is ended for it (one that is idle
 * between requests has brought its own); where there is none, over_limit is set. NULL when memory
 * is out. */
struct conn *reaper_open(struct reaper *reaper, int fd, enum listener listener, size_t limit);
/* Before the descriptor is closed. */
void reaper_close(struct reaper *reaper, struct conn *conn);
/* Connections open or announced now. */
size_t reaper_count(struct reaper *reaper, enum listener listener);

/* Moves a connection to its next phase, with the exchange that is under way (NULL when idle). False
 * when it has ended: it stays so, and nothing may be sent. */
bool reaper_enter(struct reaper *reaper, struct conn *conn, enum conn_phase phase,
                  struct exchange *x);
/* Lets a delayed connection, suspended by now, go on at that time or up to TICK_MS sooner. */
void reaper_release_at(struct reaper *reaper, struct conn *conn, uint64_t release_ns);
/* Puts an idle connection to sleep: looked at then or up to TICK_MS sooner. False where it is not
 * idle. */
bool reaper_sleep(struct reaper *reaper, struct conn *conn, uint64_t look_ns);
/* It is idle again, where it still sleeps. */
void reaper_wake(struct reaper *reaper, struct conn *conn);
enum conn_phase reaper_phase(struct reaper *reaper, const struct conn *conn);
enum policy_client reaper_client(struct reaper *reaper, const struct conn *conn);

/* A piece of a chunked body has come: its deadline grows with it. */
void reaper_chunk(struct reaper *reaper, struct conn *conn, size_t size);

/* From now on idle connections end at deadline_ns at the latest. */
void reaper_drain(struct reaper *reaper, uint64_t deadline_ns);
/* Tells the working thread of every suspended exchange that nobody waits for it. */
void reaper_cancel(struct reaper *reaper);
/* Exchanges under way; with suspended_only, those that another thread works on, or that wait. */
size_t reaper_busy(struct reaper *reaper, bool suspended_only);

#endif
