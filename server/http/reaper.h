/* The thread that ends what takes too long and looks after clients, and the lock around the
 * connections (connections.h), which it and the I/O threads change.
 *
 * It asks, every TICK_MS (where no work waits for them every fifth time) and nowhere else, whether
 * clients are still there: libmicrohttpd does not look at suspended connections and,
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

#include "base/err.h"
#include "server/http/connections.h"

struct reaper;

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
