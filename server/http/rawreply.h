/* A reply written straight to the socket, where libmicrohttpd has no way to answer: in the middle
 * of a request that is given up, after which the connection ends; or where it has not seen the
 * request (repeat.h). One non-blocking send.
 * Of x, which another thread may be working on, only what the headers said is read, and raw_status
 * is written. */
#ifndef ORTHRUS_SERVER_RAWREPLY_H
#define ORTHRUS_SERVER_RAWREPLY_H

#include "server/exchange/exchange.h"

/* Sends the reply that x holds. */
void rawreply_send(struct exchange *x);
/* Sends the reply that x holds with all its headers, and the connection goes on. False where the
 * socket did not take it whole: no more can come of the connection. */
bool rawreply_refusal(const struct exchange *x);
/* Sends 408: the body took too long. */
void rawreply_timeout(struct exchange *x);

#endif
