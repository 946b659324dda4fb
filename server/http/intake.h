/* What a request must pass before its body is looked at. */
#ifndef ORTHRUS_SERVER_INTAKE_H
#define ORTHRUS_SERVER_INTAKE_H

#include <stdbool.h>

#include "server/exchange/exchange.h"

/* Checks framing, route, method, connection limit, key, content type, length and what the route's
 * handler asks for, in that order; x->reply is set where one of them refuses. over_limit: the
 * connection is one too many for its listener and may only ask for probes. Never blocks. */
void intake_check(struct exchange *x, bool over_limit);

/* Adds what every reply carries: X-Request-Id and, where allowed, CORS. */
void intake_common_headers(struct exchange *x);

#endif
