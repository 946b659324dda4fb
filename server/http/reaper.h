/* Absolute deadlines of connections. libmicrohttpd knows idle timeouts alone, which a client that
 * sends one byte now and then never meets; here each phase of a connection ends at a fixed time:
 *
 *   idle      a new connection's first headers: header_timeout; between requests: idle_timeout
 *   headers   header_timeout
 *   body      body_timeout
 *   discard   a refused request's body: DISCARD_TIMEOUT_MS
 *   working   none: the request's own deadline, kept by the scheduler
 *   sending   body_timeout plus a second for each SEND_BYTES_PER_S of the answer
 *
 * A connection over its time is shut down; in the middle of a body the client gets the answer
 * first (408, or the refusal that waited for the rest).
 *
 * It also looks for clients that have gone: libmicrohttpd polls edge-triggered and misses an end of
 * stream that comes together with the last bytes before it. Process lifetime; thread-safe. */
#ifndef ORTHRUS_SERVER_REAPER_H
#define ORTHRUS_SERVER_REAPER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "server/exchange/exchange.h"
#include "server/http/framing.h"

enum { DISCARD_TIMEOUT_MS = 10000, SEND_BYTES_PER_S = 64 * 1024 };

struct reaper;

enum conn_phase { CONN_IDLE, CONN_HEADERS, CONN_BODY, CONN_DISCARD, CONN_WORKING, CONN_SENDING };

/* A connection. Lifetime: from reaper_open to reaper_close. */
struct conn {
    int fd;
    enum listener listener;
    bool over_limit;        /* one too many: refused politely */
    struct framing framing; /* the I/O thread's, by tap.c */
    /* The reaper's, under its lock. */
    struct conn *next, *prev;
    struct exchange *exchange; /* under way, or NULL */
    enum conn_phase phase;
    uint64_t deadline_ns;
    uint64_t requests;
    bool ended;  /* the client's side was closed when last looked at, in the same phase */
    bool reaped; /* its time was over; nothing more goes out */
};

CHECK_RESULT enum err_code reaper_create(const struct settings *settings,
                                         struct reaper **ret_reaper, struct err *err);
/* After the last connection. NULL is fine. */
void reaper_destroy(struct reaper *reaper);

/* Announces a connection that reaper_open will follow for, or reaper_withdraw; false when most are
 * open or announced. */
bool reaper_announce(struct reaper *reaper, enum listener listener, size_t most);
void reaper_withdraw(struct reaper *reaper, enum listener listener);
/* Counts and watches an announced connection; over_limit is set beyond limit. NULL when memory is
 * out. */
struct conn *reaper_open(struct reaper *reaper, int fd, enum listener listener, size_t limit);
/* Before the descriptor is closed. */
void reaper_close(struct reaper *reaper, struct conn *conn);
/* Connections open or announced now. */
size_t reaper_count(struct reaper *reaper, enum listener listener);

/* Moves a connection to its next phase, with the exchange that is under way (NULL when idle). What
 * the exchange says as the reply must be complete for CONN_DISCARD and stay so. False when the
 * connection's time was over: nothing may be sent then. */
bool reaper_enter(struct reaper *reaper, struct conn *conn, enum conn_phase phase,
                  struct exchange *x);

/* From now on idle connections end at deadline_ns at the latest. */
void reaper_drain(struct reaper *reaper, uint64_t deadline_ns);
/* Tells the working thread of every suspended exchange that nobody waits for it. */
void reaper_cancel(struct reaper *reaper);
/* Exchanges under way; with suspended_only, those that another thread works on. */
size_t reaper_busy(struct reaper *reaper, bool suspended_only);

#endif
