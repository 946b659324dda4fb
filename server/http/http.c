#include "server/http/http.h"

#include <arpa/inet.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/rate.h"
#include "base/size.h"
#include "server/http/accesslog.h"
#include "server/http/intake.h"
#include "server/http/rawreply.h"
#include "server/http/tap.h"
#include "server/routes/routes.h"

enum {
    IO_THREADS = 2,                       /* of the main listener; the admin listener has one */
    CONNECTION_MEMORY_BYTES = 32 * 1024,  /* request line and headers */
    DISCARD_MAX_BYTES = 64 * 1024 * 1024, /* of a refused body */
    STATUS_BAD_REQUEST = 400,
    STATUS_INTERNAL = 500,
    WATCHED_MAX = 1 << 20, /* descriptors that the tap has room for */
};

/* One I/O thread. */
struct io {
    struct http *http;
    enum listener listener;
    size_t limit; /* connections of the listener */
    struct MHD_Daemon *daemon;
    /* Of those over the limit, together: each comes on a connection of its own, which is closed, so
     * who comes back at once has no other memory. The thread's. */
    struct policy_patience over_limit;
};

struct http {
    struct server *server;
    struct reaper *reaper;
    size_t spare; /* connections of a listener beyond its limit */
    struct io main[IO_THREADS];
    struct io admin;
    atomic_uint next; /* whose turn it is to get a connection */
};

/* Paths and queries are compared as they were sent. */
static size_t unescape_nothing(void *context, struct MHD_Connection *connection, char *text)
{
    (void)context;
    (void)connection;
    return strlen(text);
}

static void describe_remote(struct MHD_Connection *connection, char out[REMOTE_MAX])
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(
        connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    char host[INET6_ADDRSTRLEN] = "";
    (void)snprintf(out, REMOTE_MAX, "unix");
    if (!info || !info->client_addr) {
        return;
    }
    if (info->client_addr->sa_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, info->client_addr, sizeof v4);
        (void)inet_ntop(AF_INET, &v4.sin_addr, host, sizeof host);
        (void)snprintf(out, REMOTE_MAX, "%s:%u", host, ntohs(v4.sin_port));
    } else if (info->client_addr->sa_family == AF_INET6) {
        struct sockaddr_in6 v6;
        memcpy(&v6, info->client_addr, sizeof v6);
        (void)inet_ntop(AF_INET6, &v6.sin6_addr, host, sizeof host);
        (void)snprintf(out, REMOTE_MAX, "[%s]:%u", host, ntohs(v6.sin6_port));
    }
}

static enum metrics_gauge gauge_of(enum listener listener)
{
    return listener == LISTENER_ADMIN ? METRICS_ADMIN_CONNECTIONS : METRICS_CONNECTIONS;
}

/* A client or balancer that is set up for https would else see nothing but a closed connection. */
static void warn_of_tls(struct MHD_Connection *connection, const struct conn *conn)
{
    static struct rate warnings = RATE_INIT(1, 0.1);
    uint64_t unlogged;
    if (conn->framing.tls && rate_take(&warnings, &unlogged)) {
        char remote[REMOTE_MAX];
        describe_remote(connection, remote);
        LOG(LOG_WARN, "TLS on the plain port; TLS ends at the balancer, here it is http://",
            LOG_S("remote", remote), LOG_U("not_logged_before", unlogged));
    }
}

static void on_connection(void *context, struct MHD_Connection *connection, void **slot,
                          enum MHD_ConnectionNotificationCode code)
{
    struct io *io = context;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(
            connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        struct conn *conn = reaper_open(io->http->reaper, info->connect_fd, io->listener,
                                        io->limit);
        if (conn) {
            tap_watch(conn->fd, conn);
            metrics_gauge_add(io->http->server->metrics, gauge_of(io->listener), 1);
        }
        *slot = conn;
    } else if (*slot) {
        warn_of_tls(connection, *slot);
        tap_watch(((struct conn *)*slot)->fd, NULL);
        repeat_done(*slot);
        metrics_gauge_add(io->http->server->metrics, gauge_of(io->listener), -1);
        reaper_close(io->http->reaper, *slot);
        *slot = NULL;
    }
}

static size_t count_args(const char *target)
{
    const char *at = strchr(target, '?');
    size_t n = at != NULL;
    while (at && (at = strchr(at + 1, '&'))) {
        n++;
    }
    return n;
}

static void resume(struct exchange *x)
{
    MHD_resume_connection(x->wire);
}

/* The request line is complete: an exchange begins. */
static void *on_request_line(void *context, const char *target, struct MHD_Connection *connection)
{
    struct io *io = context;
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(
        connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct conn *conn = info ? info->socket_context : NULL;
    if (!conn) {
        return NULL; /* memory was out; the handler closes */
    }
    if (!target || count_args(target) > QUERY_ARGS_MAX) {
        (void)shutdown(conn->fd, SHUT_RDWR);
        return NULL;
    }
    struct exchange *x = exchange_create(io->http->server, target);
    if (!x) {
        return NULL;
    }
    x->listener = io->listener;
    x->conn = conn;
    x->fd = conn->fd;
    x->wire = connection;
    x->path = target; /* the library cuts the query off in a moment */
    x->resume = resume;
    x->account.budget = &io->http->server->client_bytes;
    describe_remote(connection, x->remote);
    conn->requests++;
    (void)reaper_enter(io->http->reaper, conn, CONN_HEADERS, x);
    return x;
}

static enum MHD_Result on_header(void *context, enum MHD_ValueKind kind, const char *name,
                                 const char *value)
{
    (void)kind;
    exchange_take_header(context, name, value ? value : "");
    return MHD_YES;
}

static enum http_method parse_method(const char *name)
{
    static const char *const names[] = {"GET", "HEAD", "POST", "PUT", "OPTIONS", "DELETE"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(name, names[i]) == 0) {
            return (enum http_method)i;
        }
    }
    return HTTP_OTHER;
}

static struct MHD_Response *make_response(struct exchange *x)
{
    struct reply *reply = &x->reply;
    if (reply->fixed) {
        /* The library never writes to a persistent buffer; its parameter lacks the const. */
        return MHD_create_response_from_buffer(reply->fixed_size, (void *)(uintptr_t)reply->fixed,
                                               MHD_RESPMEM_PERSISTENT);
    }
    if (reply->body.size == 0) {
        return MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
    }
    size_t size;
    char *data = buf_steal(&reply->body, &size);
    struct MHD_Response *response = data ? MHD_create_response_from_buffer(size, data,
                                                                           MHD_RESPMEM_MUST_FREE)
                                         : NULL;
    if (!response) {
        free(data);
    }
    return response;
}

/* --max-connection-requests: keep-alive clients begin anew and so spread over replicas. */
static bool used_up(const struct exchange *x)
{
    unsigned most = x->server->settings->max_connection_requests;
    return most && x->listener == LISTENER_MAIN && x->conn->requests >= most;
}

static struct MHD_Response *complete_reply(struct exchange *x)
{
    intake_common_headers(x);
    if (x->doubtful || x->distrusted || x->reply.close || used_up(x) ||
        server_phase(x->server) >= SERVER_DRAINING) {
        exchange_header(x, "Connection", "close");
    }
    if (x->reply.content_type) {
        exchange_header(x, "Content-Type", "%s", x->reply.content_type);
    }
    struct MHD_Response *response = make_response(x);
    bool ok = response != NULL;
    for (size_t i = 0; ok && i < x->reply.n_headers; i++) {
        ok = MHD_add_response_header(response, x->reply.headers[i].name,
                                     x->reply.headers[i].value) == MHD_YES;
    }
    if (response && !ok) {
        MHD_destroy_response(response);
        response = NULL;
    }
    return response;
}

static void count_request(const struct exchange *x, int status)
{
    metrics_request(x->server->metrics, x->label, status, x->replied_ns - x->arrived_ns);
}

/* Sends what x holds. The phase comes first: until it is entered the reaper may be reading the
 * reply. */
static enum MHD_Result send_reply(struct io *io, struct exchange *x)
{
    struct reaper *reaper = io->http->reaper;
    x->replied_ns = clock_now_ns();
    if (x->job) {
        job_drop_work(x->job);
    }
    buf_done(&x->body);
    x->reply_size = x->reply.fixed ? x->reply.fixed_size : x->reply.body.size;
    if (!reaper_enter(reaper, x->conn, CONN_SENDING, x)) {
        return MHD_NO;
    }
    /* From here on the answer is all that is held, however slowly it is read. */
    account_shrink(&x->account, size_min(x->account.bytes, x->reply.body.room));
    struct MHD_Response *response = complete_reply(x);
    if (!response) {
        return MHD_NO;
    }
    /* Counted before it goes out: who reads an answer finds it in the next scrape. Whether one that
     * has closed its side will read it is known only afterwards. */
    x->counted = reaper_client(reaper, x->conn) == CLIENT_WAITS;
    if (x->counted) {
        count_request(x, x->reply.status);
    }
    x->queued = true;
    enum MHD_Result ok = MHD_queue_response(x->wire, (unsigned)x->reply.status, response);
    MHD_destroy_response(response);
    return ok;
}

/* x has its answer later; its request is whole. */
static void suspend(struct exchange *x)
{
    x->conn->answering = true;
    MHD_suspend_connection(x->wire);
}

/* For how long the reply is kept back: clients that don't wait as they were told get their refusals
 * late. Probes are no part of this. */
static uint64_t lateness_ns(struct io *io, struct exchange *x)
{
    struct conn *conn = x->conn;
    bool counts = x->listener == LISTENER_MAIN && x->route && !(x->route->flags & ROUTE_PROBE);
    uint64_t now_ns = clock_now_ns();
    uint64_t asked_ns = conn->repeat.unread_since_ns ? conn->repeat.unread_since_ns : now_ns;
    conn->repeat.unread_since_ns = 0;
    if (!counts) {
        return 0;
    }
    if (x->problem != PROBLEM_OVERLOADED) {
        policy_answered(&conn->patience);
        conn->repeat.armed = false;
        return 0;
    }
    struct policy_patience *patience = conn->over_limit ? &io->over_limit : &conn->patience;
    uint64_t due_ns = asked_ns + policy_refused(patience, x->retry_after_s, asked_ns);
    conn->repeat.armed = policy_impatient(&conn->patience, now_ns);
    return server_phase(x->server) >= SERVER_DRAINING || due_ns < now_ns ? 0 : due_ns - now_ns;
}

/* Sends what x holds, now or later. */
static enum MHD_Result reply(struct io *io, struct exchange *x)
{
    struct reaper *reaper = io->http->reaper;
    uint64_t late_ns = lateness_ns(io, x);
    if (!late_ns) {
        return send_reply(io, x);
    }
    if (!reaper_enter(reaper, x->conn, CONN_DELAYED, x)) {
        return MHD_NO;
    }
    suspend(x);
    reaper_release_at(reaper, x->conn, clock_now_ns() + late_ns);
    return MHD_YES;
}

static enum MHD_Result first_call(struct io *io, struct exchange *x, const char *path,
                                  const char *method, const char *version)
{
    x->path = path;
    x->method_name = method;
    x->method = parse_method(method);
    x->http_1_0 = strcmp(version, "HTTP/1.0") == 0;
    x->doubtful = !framing_plain(&x->conn->framing, x->conn->requests);
    x->nul = framing_nul(&x->conn->framing, x->conn->requests);
    (void)MHD_get_connection_values(x->wire, MHD_HEADER_KIND, on_header, x);
    x->impatient = policy_impatient(&x->conn->patience, clock_now_ns());
    intake_check(x, x->conn->over_limit);
    bool refused = exchange_replied(x);
    bool waiting = x->headers.expect && strcasecmp(x->headers.expect, "100-continue") == 0;
    if (refused && (x->distrusted || (waiting && (x->chunked || x->content_length)))) {
        return send_reply(io, x);
    }
    return reaper_enter(io->http->reaper, x->conn, refused ? CONN_DISCARD : CONN_BODY, x) ? MHD_YES
                                                                                          : MHD_NO;
}

/* Counted before it is held: a body's buffer at most doubles when it grows. False with the reply
 * made. */
static bool keep_body(struct exchange *x, const char *data, size_t size)
{
    enum account_verdict verdict = ACCOUNT_OK;
    if (x->received > x->body_max) {
        verdict = ACCOUNT_NEVER;
    } else if (x->body.size + size + 1 > x->body.room) {
        verdict = account_hold(&x->account,
                               size_max(2 * x->body.room, x->body.size + size + BUF_FIRST_ROOM));
    }
    if (verdict == ACCOUNT_FULL) {
        exchange_fail(x, PROBLEM_OVERLOADED, NULL, PROBLEM_FULL_TEXT);
    } else if (verdict == ACCOUNT_NEVER) {
        exchange_fail(x, PROBLEM_BODY_LARGE, NULL, "a body of at most %zu bytes is allowed",
                      x->body_max);
    } else if (!buf_append(&x->body, data, size)) {
        exchange_fail(x, PROBLEM_INTERNAL, NULL, "no memory for the body");
    }
    return !exchange_replied(x);
}

/* A piece of the body: kept, or read and forgotten where the request is refused. */
static enum MHD_Result body_call(struct io *io, struct exchange *x, enum conn_phase phase,
                                 const char *data, size_t size)
{
    struct reaper *reaper = io->http->reaper;
    x->received += size;
    if (x->chunked && phase == CONN_BODY) {
        reaper_chunk(reaper, x->conn, size);
    }
    /* A GET with a body is answered as if it had none. */
    bool wanted = phase == CONN_BODY && x->route->flags & ROUTE_BODY;
    if (wanted && !keep_body(x, data, size)) {
        buf_done(&x->body);
        account_shrink(&x->account, 0);
        if (!reaper_enter(reaper, x->conn, CONN_DISCARD, x)) {
            return MHD_NO;
        }
    }
    if (x->received > (uint64_t)x->body_max + DISCARD_MAX_BYTES) {
        if (phase == CONN_DISCARD && reaper_enter(reaper, x->conn, CONN_SENDING, x)) {
            rawreply_send(x);
        }
        return MHD_NO;
    }
    return MHD_YES;
}

static enum MHD_Result last_call(struct io *io, struct exchange *x)
{
    struct reaper *reaper = io->http->reaper;
    if (!reaper_enter(reaper, x->conn, CONN_HANDLING, x)) {
        return MHD_NO;
    }
    const struct handler *handler = x->route->handler;
    if (!handler->run(x)) {
        return reply(io, x);
    }
    bool working = reaper_enter(reaper, x->conn, CONN_WORKING, x);
    CHECK(working); /* the reaper ends no connection whose handler runs */
    suspend(x);
    /* From here on x may be resumed, even before submit returns: it is not ours. */
    handler->submit(x);
    return MHD_YES;
}

/* The work is done, or was dropped because nobody waits for it. */
static enum MHD_Result resumed_call(struct io *io, struct exchange *x)
{
    enum policy_client client = reaper_client(io->http->reaper, x->conn);
    if (client == CLIENT_GONE) {
        return MHD_NO;
    }
    x->route->handler->finish(x);
    if (client == CLIENT_HALF_CLOSED && x->problem == PROBLEM_DEADLINE) {
        x->problem = PROBLEM_NONE; /* it was put off for those who wait, and is not awaited */
        return MHD_NO;
    }
    return reply(io, x);
}

static enum MHD_Result on_request(void *context, struct MHD_Connection *connection,
                                  const char *path, const char *method, const char *version,
                                  const char *data, size_t *size, void **slot)
{
    struct io *io = context;
    struct exchange *x = *slot;
    (void)connection;
    if (!x) {
        return MHD_NO;
    }
    enum conn_phase phase = reaper_phase(io->http->reaper, x->conn);
    size_t got = *size;
    switch (phase) {
    case CONN_HEADERS:
        return first_call(io, x, path, method, version);
    case CONN_BODY:
    case CONN_DISCARD:
        if (got) {
            *size = 0;
            return body_call(io, x, phase, data, got);
        }
        return phase == CONN_BODY ? last_call(io, x) : reply(io, x);
    case CONN_WORKING:
        return resumed_call(io, x);
    case CONN_DELAYED:
        return send_reply(io, x);
    case CONN_IDLE:
    case CONN_ASLEEP:
    case CONN_HANDLING:
    case CONN_SENDING:
    case CONN_ENDED:
    case CONN_PHASES:
        break;
    }
    return MHD_NO;
}

/* What was answered where nothing of ours was queued. The library says 500 of what it could not
 * read, a chunk's header that never ends: no failure of the server. */
static int status_unqueued(const struct exchange *x, struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection,
                                                                   MHD_CONNECTION_INFO_HTTP_STATUS);
    int status = x->raw_status ? x->raw_status : info ? (int)info->http_status : 0;
    return status == 0                                     ? STATUS_CLIENT_GONE
           : status == STATUS_INTERNAL && !x->reply.status ? STATUS_BAD_REQUEST
                                                           : status;
}

static void on_completed(void *context, struct MHD_Connection *connection, void **slot,
                         enum MHD_RequestTerminationCode code)
{
    struct io *io = context;
    struct exchange *x = *slot;
    if (!x) {
        return;
    }
    *slot = NULL;
    x->conn->answering = false;
    (void)reaper_enter(io->http->reaper, x->conn, CONN_IDLE, NULL);
    bool complete = code == MHD_REQUEST_TERMINATED_COMPLETED_OK;
    int status = x->reply.status;
    if (!x->counted) {
        /* Answered on the socket, by the library itself, or not at all. */
        status = !x->queued      ? status_unqueued(x, connection)
                 : complete      ? x->reply.status
                 : x->raw_status ? x->raw_status
                                 : STATUS_CLIENT_GONE;
        x->replied_ns = clock_now_ns();
        count_request(x, status);
    }
    accesslog_write(x, status, complete);
    if (!complete || !repeat_keep(x->conn, io->http->reaper, x)) {
        exchange_destroy(x);
    }
}

static bool start_io(struct io *io)
{
    metrics_gauge_limit(io->http->server->metrics, gauge_of(io->listener), io->limit);
    /* The library's own limit is never reached: the acceptor stops before. */
    unsigned limit = (unsigned)(io->limit + 2 * io->http->spare);
    io->daemon = MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_NO_LISTEN_SOCKET, 0,
        NULL, NULL, on_request, io, MHD_OPTION_CONNECTION_LIMIT, limit,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY_BYTES,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, io, MHD_OPTION_URI_LOG_CALLBACK,
        on_request_line, io, MHD_OPTION_NOTIFY_COMPLETED, on_completed, io,
        MHD_OPTION_UNESCAPE_CALLBACK, unescape_nothing, NULL, MHD_OPTION_END);
    return io->daemon != NULL;
}

enum err_code http_create(struct server *server, struct reaper *reaper,
                          const struct connection_limits *limits, struct http **ret_http,
                          struct err *err)
{
    struct http *http = calloc(1, sizeof *http);
    if (!http) {
        return err_nomem(err, sizeof *http);
    }
    server->library_version = MHD_get_version();
    server->max_connections = limits->main;
    http->server = server;
    http->reaper = reaper;
    http->spare = limits->spare;
    struct rlimit descriptors;
    bool ok = getrlimit(RLIMIT_NOFILE, &descriptors) == 0;
    if (ok && tap_init(size_min(descriptors.rlim_cur, WATCHED_MAX), err) != ERR_OK) {
        http_destroy(http);
        return err->code;
    }
    for (size_t i = 0; i < IO_THREADS && ok; i++) {
        http->main[i] = (struct io){.http = http, .listener = LISTENER_MAIN, .limit = limits->main};
        ok = start_io(&http->main[i]);
    }
    http->admin = (struct io){.http = http, .listener = LISTENER_ADMIN, .limit = limits->admin};
    if (!ok || !start_io(&http->admin)) {
        http_destroy(http);
        return err_set(err, ERR_IO, "libmicrohttpd does not start");
    }
    *ret_http = http;
    return ERR_OK;
}

void http_destroy(struct http *http)
{
    if (!http) {
        return;
    }
    for (size_t i = 0; i < IO_THREADS; i++) {
        MHD_stop_daemon(http->main[i].daemon);
    }
    MHD_stop_daemon(http->admin.daemon);
    tap_done();
    free(http);
}

bool http_ready(struct http *http, enum listener listener)
{
    const struct io *io = listener == LISTENER_MAIN ? &http->main[0] : &http->admin;
    return !reaper_making_room(http->reaper, listener, io->limit + http->spare);
}

void http_accept(struct http *http, enum listener listener, int fd, const struct sockaddr *address,
                 socklen_t address_size)
{
    struct io *io = &http->admin;
    if (listener == LISTENER_MAIN) {
        io = &http->main[atomic_fetch_add(&http->next, 1) % IO_THREADS];
    }
    if (!reaper_announce(http->reaper, fd, listener, io->limit + http->spare)) {
        (void)close(fd);
        return;
    }
    int one = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (MHD_add_connection(io->daemon, fd, address, address_size) != MHD_YES) {
        reaper_withdraw(http->reaper, fd);
    }
}
