/* One line per request: probes and scrapes at debug level, the rest at info. */
#ifndef ORTHRUS_SERVER_ACCESSLOG_H
#define ORTHRUS_SERVER_ACCESSLOG_H

#include <stdbool.h>

#include "server/exchange/exchange.h"

/* Of an exchange whose client left before its answer: in logs and metrics, never on the wire. */
enum { STATUS_CLIENT_GONE = 499 };

/* Writes the line of an exchange that is over. complete: the answer went out whole. */
void accesslog_write(const struct exchange *x, int status, bool complete);

#endif
