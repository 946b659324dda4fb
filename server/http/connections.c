#include "server/http/connections.h"

#include <sys/socket.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/size.h"

/* Phase → bits of those that may follow. A completed request leads back to idle from anywhere. */
static const unsigned followers[CONN_PHASES] = {
    [CONN_IDLE] = 1 << CONN_HEADERS | 1 << CONN_ASLEEP | 1 << CONN_IDLE,
    [CONN_ASLEEP] = 1 << CONN_IDLE,
    [CONN_HEADERS] = 1 << CONN_BODY | 1 << CONN_DISCARD | 1 << CONN_SENDING | 1 << CONN_IDLE,
    [CONN_BODY] = 1 << CONN_DISCARD | 1 << CONN_HANDLING | 1 << CONN_IDLE,
    [CONN_HANDLING] = 1 << CONN_WORKING | 1 << CONN_DELAYED | 1 << CONN_SENDING | 1 << CONN_IDLE,
    [CONN_DISCARD] = 1 << CONN_DELAYED | 1 << CONN_SENDING | 1 << CONN_IDLE,
    [CONN_WORKING] = 1 << CONN_DELAYED | 1 << CONN_SENDING | 1 << CONN_IDLE,
    [CONN_DELAYED] = 1 << CONN_SENDING | 1 << CONN_IDLE,
    [CONN_SENDING] = 1 << CONN_IDLE,
};

static struct tally *tally_of(struct connections *connections, enum listener listener)
{
    return listener == LISTENER_ADMIN ? &connections->admin : &connections->main;
}

static bool headless(const struct conn *conn)
{
    return conn->phase == CONN_HEADERS || (conn->phase == CONN_IDLE && !conn->had_headers);
}

void connections_list(struct conns *list, struct conn *conn, uint64_t end_ns)
{
    struct conn *before = TAILQ_LAST(list, conns);
    while (before && before->deadline_ns > end_ns) {
        before = TAILQ_PREV(before, conns, in_suspended);
    }
    conn->deadline_ns = end_ns;
    conn->suspended = list;
    if (before) {
        TAILQ_INSERT_AFTER(list, before, conn, in_suspended);
    } else {
        TAILQ_INSERT_HEAD(list, conn, in_suspended);
    }
}

void connections_unlist(struct conn *conn)
{
    if (conn->suspended) {
        TAILQ_REMOVE(conn->suspended, conn, in_suspended);
        conn->suspended = NULL;
    }
}

static void set_phase(struct connections *connections, struct conn *conn, enum conn_phase phase)
{
    struct tally *tally = tally_of(connections, conn->listener);
    bool before = headless(conn);
    conn->phase = phase;
    conn->had_headers |= phase != CONN_IDLE && phase != CONN_HEADERS && phase != CONN_ENDED;
    if (before && !headless(conn)) {
        TAILQ_REMOVE(&tally->headless, conn, in_headless);
    } else if (!before && headless(conn)) {
        TAILQ_INSERT_TAIL(&tally->headless, conn, in_headless);
    }
    connections_unlist(conn);
    if (phase == CONN_WORKING) {
        conn->suspended = &connections->working;
        conn->poll_slot = SIZE_MAX;
        TAILQ_INSERT_TAIL(&connections->working, conn, in_suspended);
    }
}

void connections_end(struct connections *connections, struct conn *conn)
{
    set_phase(connections, conn, CONN_ENDED);
    (void)shutdown(conn->fd, SHUT_RDWR);
}

/* When the phase that begins now must be over. */
static uint64_t phase_end_ns(const struct connections *connections, const struct conn *conn,
                             enum conn_phase phase, const struct exchange *x)
{
    const struct settings *settings = connections->settings;
    uint64_t now_ns = clock_now_ns();
    switch (phase) {
    case CONN_IDLE:
        return now_ns + settings->idle_timeout_ms * NS_PER_MS;
    case CONN_HEADERS:
        /* The first request's headers have been due since the connection began. */
        return conn->had_headers ? now_ns + settings->header_timeout_ms * NS_PER_MS
                                 : conn->deadline_ns;
    case CONN_BODY:
        return now_ns + settings->body_timeout_ms * NS_PER_MS +
               size_min(x->content_length, x->body_max) * NS_PER_S / PEER_BYTES_PER_S;
    case CONN_DISCARD:
        return now_ns + DISCARD_TIMEOUT_MS * NS_PER_MS;
    case CONN_SENDING:
        return now_ns + settings->body_timeout_ms * NS_PER_MS +
               x->reply_size * NS_PER_S / PEER_BYTES_PER_S;
    case CONN_HANDLING:
    case CONN_WORKING:
    case CONN_ASLEEP:
    case CONN_DELAYED: /* both until they are listed */
    case CONN_ENDED:
    case CONN_PHASES:
        break;
    }
    return UINT64_MAX;
}

void connections_expect_end(struct connections *connections, uint64_t end_ns)
{
    if (end_ns < connections->next_end_ns) {
        connections->next_end_ns = end_ns;
    }
}

void connections_enter(struct connections *connections, struct conn *conn, enum conn_phase phase,
                       struct exchange *x)
{
    CHECK(followers[conn->phase] & 1u << phase);
    conn->exchange = x;
    if (phase == CONN_DELAYED && conn->over_limit && !conn->refused) {
        conn->refused = true;
        tally_of(connections, conn->listener)->refused++;
    }
    conn->deadline_ns = phase_end_ns(connections, conn, phase, x);
    connections_expect_end(connections, conn->deadline_ns);
    connections_expect_end(connections, phase == CONN_IDLE ? connections->idle_end_ns : UINT64_MAX);
    set_phase(connections, conn, phase);
    conn->told = CLIENT_WAITS;
    conn->at_end = false;
}

/* Makes room: ends the connection that waits longest for a whole header section (a kept one that
 * begins its next request is not old); with_place: one that holds a place. */
static void evict(struct connections *connections, enum listener listener, bool with_place)
{
    struct tally *tally = tally_of(connections, listener);
    struct conn *conn = TAILQ_FIRST(&tally->headless);
    while (conn && with_place && conn->over_limit) {
        conn = TAILQ_NEXT(conn, in_headless);
    }
    if (conn) {
        connections_end(connections, conn);
        conn->evicted = true;
        tally->ending++;
        tally->placed -= !conn->over_limit;
    }
}

void connections_open(struct connections *connections, struct conn *conn, size_t limit)
{
    struct tally *tally = tally_of(connections, conn->listener);
    conn->phase = CONN_IDLE;
    conn->client = CLIENT_WAITS;
    conn->poll_slot = SIZE_MAX;
    conn->deadline_ns = clock_now_ns() + connections->settings->header_timeout_ms * NS_PER_MS;
    arrivals_remove(&connections->arrivals, conn->fd);
    tally->open++;
    if (tally->placed >= limit) {
        evict(connections, conn->listener, true);
    }
    connections_expect_end(connections, conn->deadline_ns);
    conn->over_limit = tally->placed >= limit;
    tally->placed += !conn->over_limit;
    TAILQ_INSERT_TAIL(&connections->all, conn, in_conns);
    TAILQ_INSERT_TAIL(&tally->headless, conn, in_headless);
}

void connections_close(struct connections *connections, struct conn *conn)
{
    struct tally *tally = tally_of(connections, conn->listener);
    tally->open--;
    tally->ending -= conn->evicted;
    tally->refused -= conn->refused;
    tally->placed -= !conn->over_limit && !conn->evicted;
    TAILQ_REMOVE(&connections->all, conn, in_conns);
    connections_unlist(conn);
    if (headless(conn)) {
        TAILQ_REMOVE(&tally->headless, conn, in_headless);
    }
}

bool connections_announce(struct connections *connections, int fd, enum listener listener,
                          size_t most)
{
    struct tally *tally = tally_of(connections, listener);
    return tally->open + arrivals_count(&connections->arrivals, listener) < most &&
           arrivals_add(&connections->arrivals, fd, listener, clock_now_ns());
}

bool connections_making_room(struct connections *connections, enum listener listener, size_t most)
{
    struct tally *tally = tally_of(connections, listener);
    bool full = tally->open + arrivals_count(&connections->arrivals, listener) >= most;
    if (full && tally->ending + tally->refused == 0) {
        evict(connections, listener, false);
    }
    return full && tally->ending + tally->refused > 0;
}

size_t connections_count(struct connections *connections, enum listener listener)
{
    struct tally *tally = tally_of(connections, listener);
    return tally->open + arrivals_count(&connections->arrivals, listener);
}

size_t connections_busy(const struct connections *connections, bool suspended_only)
{
    const struct conn *conn;
    size_t busy = 0;
    TAILQ_FOREACH (conn, &connections->all, in_conns) {
        busy += conn->exchange &&
                (!suspended_only || conn->phase == CONN_WORKING || conn->phase == CONN_DELAYED);
    }
    return busy;
}

void connections_init(struct connections *connections, const struct settings *settings)
{
    connections->settings = settings;
    connections->idle_end_ns = connections->next_end_ns = UINT64_MAX;
    connections->arrivals = (struct arrivals){0};
    TAILQ_INIT(&connections->all);
    TAILQ_INIT(&connections->working);
    TAILQ_INIT(&connections->delayed);
    TAILQ_INIT(&connections->asleep);
    TAILQ_INIT(&connections->main.headless);
    TAILQ_INIT(&connections->admin.headless);
}

void connections_done(struct connections *connections)
{
    arrivals_done(&connections->arrivals);
}
