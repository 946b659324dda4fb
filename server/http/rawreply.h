/* A reply written straight to the socket, where libmicrohttpd has no way to answer: in the middle
 * of a request that is given up. One non-blocking send; the connection ends afterwards.
 * Of x, which another thread may be working on, only what the headers said is read, and raw_status
 * is written. */
#ifndef ORTHRUS_SERVER_RAWREPLY_H
#define ORTHRUS_SERVER_RAWREPLY_H

#include "server/exchange/exchange.h"

/* Sends the reply that x holds. */
void rawreply_send(struct exchange *x);
/* Sends 408: the body took too long. */
void rawreply_timeout(struct exchange *x);

#endif
