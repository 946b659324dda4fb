/* What every part of the daemon shares. Made by server_run, process lifetime. The plain members are
 * constant once threads run. */
#ifndef ORTHRUS_SERVER_STATE_H
#define ORTHRUS_SERVER_STATE_H

#include <stdatomic.h>

#include "server/metrics/metrics.h"
#include "server/queue/client_bytes.h"
#include "server/queue/engine.h"
#include "server/settings.h"

struct keyring;
struct proxies;
struct swapper;

enum server_phase {
    SERVER_STARTING, /* listening; the engine is being made */
    SERVER_READY,
    SERVER_DRAINING, /* a signal came: /readyz fails, requests are still answered */
    SERVER_STOPPING, /* the drain's time is over: requests are answered 503 */
};

struct server {
    const struct settings *settings;
    struct metrics *metrics;
    struct client_bytes client_bytes; /* of the main listener's clients */
    struct keyring *api_keys;         /* NULL: no key needed */
    struct keyring *admin_tokens;     /* NULL: /admin answers 403 */
    const struct proxies *proxies;    /* of --trusted-proxies */
    struct swapper *swapper;          /* runs what admin routes change */
    /* NULL until the model is loaded, then constant until http has stopped. */
    _Atomic(struct engine *) engine;
    atomic_int phase;            /* enum server_phase */
    const char *library_version; /* of libmicrohttpd */
    size_t max_connections; /* of the main listener; fewer than asked for where descriptors are */
};

static inline enum server_phase server_phase(struct server *server)
{
    return (enum server_phase)atomic_load_explicit(&server->phase, memory_order_acquire);
}

static inline struct engine *server_engine(struct server *server)
{
    return atomic_load_explicit(&server->engine, memory_order_acquire);
}

#endif
