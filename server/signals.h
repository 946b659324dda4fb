/* Signals, and whatever else wakes the main thread, as events in a pipe.
 *
 * Handlers instead of a blocked mask: libraries start threads before main() (OpenBLAS does), and
 * a signal meant for the process would kill it through one of them. One user per process. */
#ifndef ORTHRUS_SERVER_SIGNALS_H
#define ORTHRUS_SERVER_SIGNALS_H

#include <stdint.h>

#include "base/err.h"

enum event {
    EVENT_NONE,   /* the time is over */
    EVENT_STOP,   /* SIGTERM or SIGINT; a second one ends the process at once, status 1 */
    EVENT_RELOAD, /* SIGHUP */
    EVENT_LOADED, /* posted: the engine is made, or is not */
};

CHECK_RESULT enum err_code signals_init(struct err *err);
/* Puts the default actions back. */
void signals_done(void);

/* Any thread, signal handlers too. Posted twice before it is taken, an event is one. */
void signals_post(enum event event);
/* The next event, or EVENT_NONE at end_ns (monotonic; UINT64_MAX: never). */
enum event signals_wait(uint64_t end_ns);

#endif
