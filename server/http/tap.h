/* The bytes of a connection on their way from the socket to libmicrohttpd.
 *
 * The library reads with recv() and shows an application only what it made of the bytes. The
 * program therefore has a recv() of its own, which the dynamic linker finds first: it reads, and
 * tells the connection's framing (framing.h) what came. Where a library should read in another
 * way, nothing is told, no request is plain, and every connection closes after its answer. Of a
 * connection that sleeps (repeat.h) it reads nothing: nothing has come yet. Nor before the answer
 * of a request that was suspended is over: the library, resumed, looks first whether more has come,
 * and takes the end of the stream for the client's.
 *
 * Process lifetime. A descriptor is watched and read by one thread at a time. */
#ifndef ORTHRUS_SERVER_TAP_H
#define ORTHRUS_SERVER_TAP_H

#include <stddef.h>

#include "base/err.h"

struct conn;

/* Room for descriptors below `descriptors`; those above are not watched. Once. */
CHECK_RESULT enum err_code tap_init(size_t descriptors, struct err *err);
/* After the last connection. Not initialized is fine. */
void tap_done(void);

/* From now on conn's framing is told what is read from fd; NULL: nothing any more. */
void tap_watch(int fd, struct conn *conn);

#endif
