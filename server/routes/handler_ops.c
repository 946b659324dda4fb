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
    struct metrics *metrics = x->server->metrics;
    struct engine *engine = server_engine(x->server);
    struct metrics_now now = {.encoder = NULL};
    struct heads_version heads = {.heads = NULL};
    metrics_gauge_limit(metrics, METRICS_QUEUE_REQUESTS, x->server->settings->max_queue_requests);
    if (engine) {
        struct queue_state queue = engine_queue(engine);
        metrics_gauge_set(metrics, METRICS_QUEUE_TOKENS, queue.tokens);
        metrics_gauge_set(metrics, METRICS_QUEUE_REQUESTS, queue.requests);
        metrics_gauge_limit(metrics, METRICS_QUEUE_TOKENS, queue.bound);
        headstore_acquire(engine->headstore, &heads);
        now = (struct metrics_now){
            .encoder = engine->encoder_id,
            .precision = precision_name(encoder_precision(engine->model->encoder)),
            .isa = isa_name(encoder_isa(engine->model->encoder)),
            .heads_version = heads.version,
            .heads_sha256 = heads.heads ? heads.heads->sha256 : NULL,
        };
    }
    metrics_write(metrics, &now, &x->reply.body);
    heads_version_release(&heads);
    exchange_reply(x, 200, "text/plain; version=0.0.4; charset=utf-8");
    return false;
}

const struct handler handler_health = {.run = health};
const struct handler handler_livez = {.run = livez};
const struct handler handler_readyz = {.run = readyz};
const struct handler handler_metrics = {.run = metrics};
