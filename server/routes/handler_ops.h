/* Probes and metrics: answered on the I/O thread, never behind a queue. */
#ifndef ORTHRUS_SERVER_HANDLER_OPS_H
#define ORTHRUS_SERVER_HANDLER_OPS_H

#include "server/routes/routes.h"

extern const struct handler handler_health;  /* TEI's: 200 with an empty body, or 503 */
extern const struct handler handler_livez;   /* 503 when a compute thread hangs */
extern const struct handler handler_readyz;  /* 503 while starting or draining */
extern const struct handler handler_metrics; /* Prometheus text */

#endif
