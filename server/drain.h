/* The end of the daemon's life: no accepted request is lost.
 *
 *   signal      /readyz answers 503; for drain_delay connections are still accepted, so that
 *               balancers can look away
 *   then        what the kernel has accepted is taken in, the sockets close; every answer carries
 *               Connection: close; idle connections may still bring a request for IDLE_GRACE_MS
 *   at last     when all connections are gone, or drain_timeout is nearly over: what is left gets
 *               503 */
#ifndef ORTHRUS_SERVER_DRAIN_H
#define ORTHRUS_SERVER_DRAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "server/http/acceptor.h"
#include "server/http/reaper.h"
#include "server/state.h"

enum {
    IDLE_GRACE_MS = 5000,   /* at most half of drain_timeout */
    LAST_ANSWERS_MS = 1000, /* of drain_timeout, for those 503; at most a quarter */
};

/* Runs the drain and destroys *acceptor. Returns when no exchange is suspended any more; false when
 * one still is at *ret_end_ns, the end of drain_timeout. on_event gets events other than a stop. */
bool drain_run(struct server *server, struct reaper *reaper, struct acceptor **acceptor,
               void (*on_event)(void *context, int event), void *context, uint64_t *ret_end_ns);

#endif
