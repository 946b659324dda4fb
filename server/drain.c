#include "server/drain.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/size.h"
#include "server/signals.h"

enum { POLL_MS = 10, LEAST_MS = 200 };

struct drain {
    struct server *server;
    struct reaper *reaper;
    void (*on_event)(void *context, int event);
    void *context;
};

static void wait_until(struct drain *drain, uint64_t end_ns)
{
    enum event event;
    while ((event = signals_wait(end_ns)) != EVENT_NONE) {
        if (event != EVENT_STOP) {
            drain->on_event(drain->context, event);
        }
    }
}

static size_t connections(struct drain *drain)
{
    return reaper_count(drain->reaper, LISTENER_MAIN) + reaper_count(drain->reaper, LISTENER_ADMIN);
}

bool drain_run(struct server *server, struct reaper *reaper, struct acceptor **acceptor,
               void (*on_event)(void *context, int event), void *context, uint64_t *ret_end_ns)
{
    const struct settings *settings = server->settings;
    struct drain drain = {server, reaper, on_event, context};
    atomic_store(&server->phase, SERVER_DRAINING);
    LOG_KEPT(LOG_INFO, "draining", LOG_U("connections", connections(&drain)),
             LOG_U("requests", reaper_busy(reaper, false)));
    wait_until(&drain, clock_now_ns() + settings->drain_delay_ms * NS_PER_MS);

    acceptor_destroy(*acceptor);
    *acceptor = NULL;
    uint64_t start_ns = clock_now_ns();
    uint64_t timeout_ms = size_max(settings->drain_timeout_s * 1000ull, LEAST_MS);
    uint64_t end_ns = start_ns + timeout_ms * NS_PER_MS;
    uint64_t last_ns = end_ns - size_min(LAST_ANSWERS_MS, timeout_ms / 4) * NS_PER_MS;
    reaper_drain(reaper, start_ns + size_min(IDLE_GRACE_MS, timeout_ms / 2) * NS_PER_MS);
    while (connections(&drain) && clock_now_ns() < last_ns) {
        wait_until(&drain, clock_now_ns() + POLL_MS * NS_PER_MS);
    }
    atomic_store(&server->phase, SERVER_STOPPING);
    while (reaper_busy(reaper, false) && clock_now_ns() < end_ns) {
        reaper_cancel(reaper);
        wait_until(&drain, clock_now_ns() + POLL_MS * NS_PER_MS);
    }
    *ret_end_ns = end_ns;
    return reaper_busy(reaper, true) == 0;
}
