#include "server/routes/handler_ops.h"

#include "server/metrics/metrics.h"
#include "server/queue/engine.h"

static const char text_plain[] = "text/plain; charset=utf-8";

static bool health(struct exchange *x)
{
    if (!server_engine(x->server)) {
        exchange_fail(x, PROBLEM_NOT_READY, NULL, "the model is being loaded");
    } else {
        exchange_reply(x, 200, NULL);
    }
    return false;
}

static bool livez(struct exchange *x)
{
    struct engine *engine = server_engine(x->server);
    if (engine && !engine_alive(engine)) {
        exchange_fail(x, PROBLEM_NOT_READY, NULL,
                      "a compute thread with work has made no progress for 30 s");
    } else {
        buf_append_str(&x->reply.body, "ok\n");
        exchange_reply(x, 200, text_plain);
    }
    return false;
}

static bool readyz(struct exchange *x)
{
    switch (server_phase(x->server)) {
    case SERVER_STARTING:
        exchange_fail(x, PROBLEM_NOT_READY, NULL, "the model is being loaded");
        break;
    case SERVER_READY:
        buf_append_str(&x->reply.body, "ok\n");
        exchange_reply(x, 200, text_plain);
        break;
    case SERVER_DRAINING:
    case SERVER_STOPPING:
        exchange_fail(x, PROBLEM_DRAINING, NULL, "the server is shutting down");
        break;
    }
    return false;
}

static bool metrics(struct exchange *x)
{
    metrics_write(x->server->metrics, server_engine(x->server), &x->reply.body);
    exchange_reply(x, 200, "text/plain; version=0.0.4; charset=utf-8");
    return false;
}

const struct handler handler_health = {.run = health};
const struct handler handler_livez = {.run = livez};
const struct handler handler_readyz = {.run = readyz};
const struct handler handler_metrics = {.run = metrics};
