#include "server/server.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/heap.h"
#include "base/log.h"
#include "base/log_writer.h"
#include "base/size.h"
#include "server/answer/answer.h"
#include "server/drain.h"
#include "server/exchange/auth.h"
#include "server/exchange/proxies.h"
#include "server/heads/swapper.h"
#include "server/http/acceptor.h"
#include "server/http/http.h"
#include "server/http/listen.h"
#include "server/http/reaper.h"
#include "server/metrics/process_stats.h"
#include "server/notify.h"
#include "server/queue/engine.h"
#include "server/signals.h"
#include "server/state.h"

enum {
    CORS_ORIGIN_MAX = 256,
    LAST_LINES_MS = 500, /* for what the log still holds at the end */
};
/* What the process itself may come to hold open: comfortably, and as it is; and the fewest that are
 * left for connections. */
enum { DESCRIPTORS_SPARE = 128, DESCRIPTORS_OWN = 40, DESCRIPTORS_LEAST = 8 };

/* All parts of the daemon, in the order in which they begin. Process lifetime. */
struct daemon {
    struct server server;
    struct proxies proxies;
    struct listen_socket main, admin;
    struct reaper *reaper;
    struct http *http;
    struct acceptor *acceptor;
    uint64_t start_ns;
    /* The loading thread and what it leaves. */
    pthread_t loader;
    bool loading;
    struct engine *made;
    struct err load_err;
    bool reload_heads; /* a SIGHUP came meanwhile: what was read by then may be old */
};

/* RFC 6454 section 7: scheme://host[:port], or null. Browsers compare no further than bytes, so
 * what could never be equal is a mistake. */
static bool is_origin(const char *text)
{
    if (strcmp(text, "*") == 0 || strcmp(text, "null") == 0) {
        return true;
    }
    const char *host = strstr(text, "://");
    if (!host || host == text ||
        strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789+-.") != (size_t)(host - text)) {
        return false;
    }
    host += 3;
    return *host && strspn(host, "abcdefghijklmnopqrstuvwxyz0123456789-._~[]:") == strlen(host);
}

static enum err_code check_settings(const struct settings *settings, struct proxies *ret_proxies,
                                    struct err *err)
{
    const char *origin = settings->cors_origin;
    if (origin && !is_origin(origin)) {
        return err_set(err, ERR_USAGE,
                       "--cors-origin: one origin as browsers send it, like https://example.org "
                       "(lower case, no path, no / at its end), or * is allowed");
    }
    if (origin && strlen(origin) > CORS_ORIGIN_MAX) {
        return err_set(err, ERR_USAGE, "--cors-origin: at most %d characters are allowed",
                       CORS_ORIGIN_MAX);
    }
    if (settings->max_client_bytes &&
        settings->max_client_bytes / CLIENT_BYTES_BODIES < settings->max_body_bytes) {
        return err_set(err, ERR_USAGE,
                       "--max-client-bytes %zu: at least %d times --max-body-bytes is allowed",
                       settings->max_client_bytes, CLIENT_BYTES_BODIES);
    }
    return proxies_parse(settings->trusted_proxies, ret_proxies, err);
}

/* How many connections are taken. The usual soft limit of 1024 descriptors is just what the default
 * --max-connections needs; where fewer are allowed, they are shared out so that the admin listener
 * can still be reached when the main one is full. */
static struct connection_limits share_descriptors(const struct settings *settings)
{
    struct connection_limits limits = {settings->max_connections, CONNECTIONS_ADMIN,
                                       CONNECTIONS_SPARE};
    struct rlimit limit;
    rlim_t need = limits.main + limits.admin + 2 * limits.spare + DESCRIPTORS_SPARE;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= need) {
        return limits;
    }
    limit.rlim_cur = need <= limit.rlim_max ? need : limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur >= need) {
        return limits;
    }
    size_t left = size_max(limit.rlim_cur, DESCRIPTORS_OWN + DESCRIPTORS_LEAST) - DESCRIPTORS_OWN;
    limits.admin = size_min(limits.admin, size_max(left / 8, 2));
    limits.spare = size_min(limits.spare, size_max(left / 16, 1));
    limits.main = size_min(limits.main, left - limits.admin - 2 * limits.spare);
    LOG(LOG_WARN, "fewer connections than --max-connections: descriptors are limited (ulimit -n)",
        LOG_U("descriptors", limit.rlim_cur), LOG_U("needed", need),
        LOG_U("connections", limits.main), LOG_U("admin_connections", limits.admin));
    return limits;
}

static enum err_code open_keys(struct daemon *daemon, struct err *err)
{
    const struct settings *settings = daemon->server.settings;
    if (settings->admin_token_file && keyring_create(settings->admin_token_file, "admin token",
                                                     &daemon->server.admin_tokens, err) != ERR_OK) {
        return err_prefix(err, "--admin-token-file");
    }
    if (settings->api_key_file && keyring_create(settings->api_key_file, "API key",
                                                 &daemon->server.api_keys, err) != ERR_OK) {
        return err_prefix(err, "--api-key-file");
    }
    return ERR_OK;
}

static enum err_code open_sockets(struct daemon *daemon, struct err *err)
{
    const struct settings *settings = daemon->server.settings;
    if (listen_open(settings->listen, &daemon->main, err) != ERR_OK) {
        return err_prefix(err, "--listen");
    }
    if (strcmp(settings->admin_listen, "off") != 0 &&
        listen_open(settings->admin_listen, &daemon->admin, err) != ERR_OK) {
        return err_prefix(err, "--admin-listen");
    }
    LOG_KEPT(LOG_INFO, "listening", LOG_S("listener", "main"),
             LOG_S("address", daemon->main.address));
    if (daemon->admin.fd >= 0) {
        LOG_KEPT(LOG_INFO, "listening", LOG_S("listener", "admin"),
                 LOG_S("address", daemon->admin.address));
    }
    return ERR_OK;
}

static void *load(void *argument)
{
    struct daemon *daemon = argument;
    if (engine_create(daemon->server.settings, &answers, daemon->server.metrics, &daemon->made,
                      &daemon->load_err) != ERR_OK) {
        daemon->made = NULL;
    }
    signals_post(EVENT_LOADED);
    return NULL;
}

static enum err_code start(struct daemon *daemon, struct err *err)
{
    struct server *server = &daemon->server;
    enum err_code code = check_settings(server->settings, &daemon->proxies, err);
    if (code == ERR_OK) {
        code = signals_init(err);
    }
    const struct connection_limits limits = share_descriptors(server->settings);
    if (code == ERR_OK) {
        code = open_keys(daemon, err);
    }
    if (code == ERR_OK) {
        server->metrics = metrics_create(server->settings->version, server->settings->revision);
        code = server->metrics ? ERR_OK : err_set(err, ERR_NOMEM, "no memory for the metrics");
        client_bytes_init(&server->client_bytes, server->metrics);
    }
    if (code == ERR_OK) {
        code = swapper_create(&server->swapper, err);
    }
    if (code == ERR_OK) {
        code = reaper_create(server->settings, &daemon->reaper, err);
    }
    if (code == ERR_OK) {
        code = http_create(server, daemon->reaper, &limits, &daemon->http, err);
    }
    if (code == ERR_OK) {
        code = open_sockets(daemon, err);
    }
    if (code == ERR_OK) {
        code = acceptor_create(daemon->http, &daemon->main, &daemon->admin, &daemon->acceptor, err);
    }
    if (code != ERR_OK) {
        return code;
    }
    int failed = pthread_create(&daemon->loader, NULL, load, daemon);
    daemon->loading = failed == 0;
    return failed ? err_set_errno(err, ERR_IO, failed, "thread") : ERR_OK;
}

/* The loading thread is through. False when it failed. */
static bool take_engine(struct daemon *daemon)
{
    if (!daemon->loading) {
        return server_engine(&daemon->server) != NULL;
    }
    (void)pthread_join(daemon->loader, NULL);
    daemon->loading = false;
    struct engine *engine = daemon->made;
    if (!engine) {
        return false;
    }
    const struct settings *settings = daemon->server.settings;
    size_t client_bytes = settings->max_client_bytes
                              ? settings->max_client_bytes
                              : client_bytes_default("",
                                                     process_stats_read().resident_bytes +
                                                         (settings->cache_mib << 20),
                                                     settings->max_body_bytes);
    client_bytes_limit(&daemon->server.client_bytes, client_bytes);
    atomic_store(&daemon->server.engine, engine);
    if (daemon->reload_heads) {
        headstore_reload(engine->headstore);
        daemon->reload_heads = false;
    }
    int starting = SERVER_STARTING;
    if (atomic_compare_exchange_strong(&daemon->server.phase, &starting, SERVER_READY)) {
        LOG_KEPT(LOG_INFO, "ready", LOG_S("address", daemon->main.address),
                 LOG_S("encoder", engine->encoder_id), LOG_U("threads", engine->threads),
                 LOG_U("max_length", engine->max_length), LOG_U("max_client_bytes", client_bytes),
                 LOG_D("start_s", (double)(clock_now_ns() - daemon->start_ns) / 1e9));
        notify_send("READY=1");
    }
    return true;
}

static void reload_keys(struct keyring *ring, const char *flag)
{
    struct err err = ERR_INIT;
    size_t n = 0;
    if (ring && keyring_reload(ring, &n, &err) != ERR_OK) {
        LOG_KEPT(LOG_ERROR, "tokens not reloaded; the old ones stay", LOG_S("flag", flag),
                 LOG_S("error", err.text));
    } else if (ring) {
        LOG_KEPT(n ? LOG_INFO : LOG_WARN,
                 n ? "tokens reloaded" : "the file holds no token: all revoked",
                 LOG_S("flag", flag), LOG_U("tokens", n));
    }
}

static void reload(struct daemon *daemon)
{
    struct engine *engine = server_engine(&daemon->server);
    bool ready = server_phase(&daemon->server) == SERVER_READY;
    if (ready) {
        notify_reloading();
    }
    reload_keys(daemon->server.admin_tokens, "--admin-token-file");
    reload_keys(daemon->server.api_keys, "--api-key-file");
    if (engine) {
        headstore_reload(engine->headstore);
    }
    daemon->reload_heads = !engine;
    if (ready) {
        notify_send("READY=1");
    }
}

static void on_event(void *context, int event)
{
    struct daemon *daemon = context;
    if (event == EVENT_RELOAD) {
        reload(daemon);
    } else if (event == EVENT_LOADED) {
        (void)take_engine(daemon);
    }
}

/* From the start to the end of the drain. */
static enum err_code serve(struct daemon *daemon, struct err *err)
{
    for (;;) {
        enum event event = signals_wait(UINT64_MAX);
        if (event == EVENT_STOP) {
            break;
        }
        on_event(daemon, event);
        if (event == EVENT_LOADED && !server_engine(&daemon->server)) {
            return err_set(err, daemon->load_err.code, "%s", daemon->load_err.text);
        }
    }
    notify_send("STOPPING=1");
    uint64_t end_ns;
    bool clean = drain_run(&daemon->server, daemon->reaper, &daemon->acceptor, on_event, daemon,
                           &end_ns);
    while (daemon->loading && signals_wait(end_ns) != EVENT_LOADED && clock_now_ns() < end_ns) {
    }
    if (!clean || (daemon->loading && clock_now_ns() >= end_ns)) {
        /* Threads are still at work, and nothing of theirs can be freed: the process just ends. */
        LOG_KEPT(LOG_WARN, "drain timed out",
                 LOG_U("requests", reaper_busy(daemon->reaper, false)));
        listen_close(&daemon->main);
        listen_close(&daemon->admin);
        log_writer_stop(LAST_LINES_MS);
        _exit(0);
    }
    LOG_KEPT(LOG_INFO, "stopped");
    return ERR_OK;
}

static void stop(struct daemon *daemon)
{
    if (daemon->loading) {
        (void)pthread_join(daemon->loader, NULL);
        engine_destroy(daemon->made);
    }
    acceptor_destroy(daemon->acceptor);
    listen_close(&daemon->main);
    listen_close(&daemon->admin);
    http_destroy(daemon->http);
    reaper_destroy(daemon->reaper);
    swapper_destroy(daemon->server.swapper);
    engine_destroy(server_engine(&daemon->server));
    metrics_destroy(daemon->server.metrics);
    keyring_destroy(daemon->server.api_keys);
    keyring_destroy(daemon->server.admin_tokens);
    signals_done();
}

enum err_code server_run(const struct settings *settings, struct err *err)
{
    struct daemon daemon = {
        .server = {.settings = settings},
        .main = {.fd = -1},
        .admin = {.fd = -1},
        .start_ns = clock_now_ns(),
    };
    daemon.server.proxies = &daemon.proxies;
    atomic_init(&daemon.server.engine, NULL);
    atomic_init(&daemon.server.phase, SERVER_STARTING);
    heap_keep_no_large_blocks();
    enum err_code code = log_writer_start(err);
    if (code == ERR_OK) {
        code = start(&daemon, err);
    }
    if (code == ERR_OK) {
        code = serve(&daemon, err);
    }
    stop(&daemon);
    log_writer_stop(LAST_LINES_MS);
    return code;
}
