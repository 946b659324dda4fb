/* libmicrohttpd behind a wall: connections in, exchanges to intake and handlers, replies out. No
 * other file sees the library.
 *
 * Facts of its source (0.9.75) that shape this file:
 * - A reply queued on the handler's first call ends the connection, so replies wait for the last
 *   call unless the connection should end (bad framing) or the client waits for a 100 (Expect).
 * - Nothing can be queued while a body arrives: a refused body is read and discarded, within
 *   bounds, and what is over them is answered straight on the socket (rawreply).
 * - A suspended connection neither times out nor notices a disconnect, and stopping with one
 *   panics: the drain waits for all of them.
 * - MHD_quiesce_daemon races with pool threads at their connection limit: the library never sees
 *   our listening sockets. The acceptor accepts and hands connections over, which balances the
 *   I/O threads too.
 * - It forgives framing that proxies read differently and does not show all of it, so every
 * request's bytes are read a second time (tap, framing): what is not plain is answered and the
 * connection closed.
 * - A malformed Content-Length is answered with a page whose header is sent twice; the connection
 *   is closed behind it.
 * - With more query arguments than its memory pool holds it neither answers nor closes: such a
 *   connection is shut down in the callback that comes before it parses them. */
#ifndef ORTHRUS_SERVER_HTTP_H
#define ORTHRUS_SERVER_HTTP_H

#include <sys/socket.h>

#include "base/err.h"
#include "server/exchange/exchange.h"
#include "server/http/reaper.h"

/* Of the admin listener, and beyond a listener's limit, where descriptors are not scarce. */
enum { CONNECTIONS_ADMIN = 64, CONNECTIONS_SPARE = 64 };

/* Connections at most; `spare` beyond the limit of a listener are still answered (with 429). */
struct connection_limits {
    size_t main, admin, spare;
};

struct http;

/* Starts the I/O threads; nothing listens yet. server and reaper are borrowed. */
CHECK_RESULT enum err_code http_create(struct server *server, struct reaper *reaper,
                                       const struct connection_limits *limits,
                                       struct http **ret_http, struct err *err);
/* Ends every connection and the I/O threads. No exchange may be suspended. NULL is fine. */
void http_destroy(struct http *http);

/* False while connections are being closed for newcomers: these had better wait in the kernel for a
 * moment. Thread-safe. */
bool http_ready(struct http *http, enum listener listener);
/* Takes a connected non-blocking socket over, also when it fails. Thread-safe. */
void http_accept(struct http *http, enum listener listener, int fd, const struct sockaddr *address,
                 socklen_t address_size);

#endif
