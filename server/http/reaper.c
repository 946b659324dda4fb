#include "server/http/reaper.h"

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <time.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/size.h"
#include "server/http/arrivals.h"
#include "server/http/rawreply.h"

enum { TICK_MS = 50, TICKS_PER_END = 5 };

struct tally {
    size_t open;
    size_t placed;  /* of the open ones: within the limit and not ended for a newcomer */
    size_t ending;  /* of the open ones: ended for a newcomer, soon closed */
    size_t refused; /* of the open ones: over the limit, refused late and then closed */
    /* Those that have no whole header section yet; all have as long, so the first waits longest. */
    struct conns headless;
};

struct reaper {
    const struct settings *settings;
    pthread_t thread;
    bool started;
    struct pollfd *polled; /* [polled_room], the thread's */
    size_t polled_room;
    pthread_mutex_t lock; /* of everything below */
    pthread_cond_t wake;
    bool stopping;
    uint64_t idle_end_ns; /* while draining; UINT64_MAX otherwise */
    struct conns conns;
    struct conns working;
    struct conns delayed; /* by their deadlines, the next one first */
    struct conns asleep;  /* the same */
    uint64_t next_end_ns; /* no phase ends before, but of those two lists */
    struct tally main, admin;
    struct arrivals arrivals; /* announced, not yet open */
};

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

static struct tally *tally_of(struct reaper *reaper, enum listener listener)
{
    return listener == LISTENER_ADMIN ? &reaper->admin : &reaper->main;
}

static bool headless(const struct conn *conn)
{
    return conn->phase == CONN_HEADERS || (conn->phase == CONN_IDLE && !conn->had_headers);
}

/* Lock held. */
static void list_until(struct conns *list, struct conn *conn, uint64_t until_ns)
{
    struct conn *before = TAILQ_LAST(list, conns);
    while (before && before->deadline_ns > until_ns) {
        before = TAILQ_PREV(before, conns, in_suspended);
    }
    conn->deadline_ns = until_ns;
    conn->suspended = list;
    if (before) {
        TAILQ_INSERT_AFTER(list, before, conn, in_suspended);
    } else {
        TAILQ_INSERT_HEAD(list, conn, in_suspended);
    }
}

/* Lock held. */
static void unlist(struct conn *conn)
{
    if (conn->suspended) {
        TAILQ_REMOVE(conn->suspended, conn, in_suspended);
        conn->suspended = NULL;
    }
}

/* Lock held. */
static void set_phase(struct reaper *reaper, struct conn *conn, enum conn_phase phase)
{
    struct tally *tally = tally_of(reaper, conn->listener);
    bool before = headless(conn);
    conn->phase = phase;
    conn->had_headers |= phase != CONN_IDLE && phase != CONN_HEADERS && phase != CONN_ENDED;
    if (before && !headless(conn)) {
        TAILQ_REMOVE(&tally->headless, conn, in_headless);
    } else if (!before && headless(conn)) {
        TAILQ_INSERT_TAIL(&tally->headless, conn, in_headless);
    }
    unlist(conn);
    if (phase == CONN_WORKING) {
        conn->suspended = &reaper->working;
        conn->poll_slot = SIZE_MAX;
        TAILQ_INSERT_TAIL(&reaper->working, conn, in_suspended);
    }
}

/* Nothing more goes out; the library closes what is shut down. Lock held. */
static void end(struct reaper *reaper, struct conn *conn)
{
    set_phase(reaper, conn, CONN_ENDED);
    (void)shutdown(conn->fd, SHUT_RDWR);
}

/* Its time is over. Lock held. */
static void reap(struct reaper *reaper, struct conn *conn)
{
    int unread = 0;
    if (conn->phase == CONN_IDLE && reaper->idle_end_ns != UINT64_MAX &&
        ioctl(conn->fd, FIONREAD, &unread) == 0 && unread > 0) {
        return; /* a request has just come in: it is answered before the drain ends */
    }
    if (conn->phase == CONN_BODY) {
        rawreply_timeout(conn->exchange);
    } else if (conn->phase == CONN_DISCARD) {
        rawreply_send(conn->exchange);
    }
    end(reaper, conn);
}

/* What poll saw of a connection. Lock held. */
static void see(struct reaper *reaper, struct conn *conn, short seen, bool look_for_ends)
{
    if (seen & (POLLERR | POLLHUP | POLLNVAL)) {
        conn->client = CLIENT_GONE;
    } else if (seen & POLLRDHUP && conn->client == CLIENT_WAITS) {
        conn->client = CLIENT_HALF_CLOSED;
    }
    if (conn->phase == CONN_WORKING) {
        struct exchange *x = conn->exchange;
        if (conn->told != conn->client && x->client_changed) {
            x->client_changed(x, conn->client);
        }
        conn->told = conn->client;
        return;
    }
    /* Its side is closed and nothing is left to read: there will be no more. Once this is seen
     * twice: the first time its last bytes may just be on the way to a handler. */
    if (look_for_ends && conn->phase != CONN_SENDING && conn->phase != CONN_HANDLING &&
        conn->phase != CONN_DELAYED) {
        int unread = 0;
        bool at_end = seen != 0 && ioctl(conn->fd, FIONREAD, &unread) == 0 && unread == 0;
        if (at_end && conn->at_end) {
            end(reaper, conn);
        }
        conn->at_end = at_end;
    }
}

static struct conn *after(const struct conn *conn, bool of_all)
{
    return of_all ? TAILQ_NEXT(conn, in_conns) : TAILQ_NEXT(conn, in_suspended);
}

/* Looks after every client. The lock is held at entry and exit, but not while polling. */
static void look(struct reaper *reaper, bool look_for_ends)
{
    struct conn *conn;
    size_t n = 0;
    size_t room = reaper->main.open + reaper->admin.open;
    if (room > reaper->polled_room) {
        struct pollfd *grown = realloc(reaper->polled, room * sizeof *grown);
        if (!grown) {
            return;
        }
        reaper->polled = grown;
        reaper->polled_room = room;
    }
    /* Who has work that is to be dropped is asked each time, the others with the ends. */
    struct conn *first = TAILQ_FIRST(look_for_ends ? &reaper->conns : &reaper->working);
    for (conn = first; conn; conn = after(conn, look_for_ends)) {
        conn->poll_slot = SIZE_MAX;
        /* An end wakes a sleeping one without this. */
        if (conn->phase != CONN_ENDED && conn->phase != CONN_ASLEEP) {
            conn->poll_slot = n;
            reaper->polled[n++] = (struct pollfd){.fd = conn->fd, .events = POLLRDHUP};
        }
    }
    (void)pthread_mutex_unlock(&reaper->lock);
    int ready = n ? poll(reaper->polled, n, 0) : 0;
    (void)pthread_mutex_lock(&reaper->lock);
    if (ready < 0) {
        return;
    }
    first = TAILQ_FIRST(look_for_ends ? &reaper->conns : &reaper->working);
    for (conn = first; conn; conn = after(conn, look_for_ends)) {
        /* One that came meanwhile has no slot, one that was closed is not here. */
        if (conn->poll_slot != SIZE_MAX && conn->phase != CONN_ENDED) {
            see(reaper, conn, reaper->polled[conn->poll_slot].revents, look_for_ends);
        }
    }
}

/* When the phase that begins now must be over. Lock held. */
static uint64_t phase_end_ns(const struct reaper *reaper, const struct conn *conn,
                             enum conn_phase phase, const struct exchange *x)
{
    const struct settings *settings = reaper->settings;
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

/* Lock held. */
static void expect_end(struct reaper *reaper, uint64_t end_ns)
{
    if (end_ns < reaper->next_end_ns) {
        reaper->next_end_ns = end_ns;
    }
}

/* Lock held. */
static void enter(struct reaper *reaper, struct conn *conn, enum conn_phase phase,
                  struct exchange *x)
{
    CHECK(followers[conn->phase] & 1u << phase);
    conn->exchange = x;
    if (phase == CONN_DELAYED && conn->over_limit && !conn->refused) {
        conn->refused = true;
        tally_of(reaper, conn->listener)->refused++;
    }
    conn->deadline_ns = phase_end_ns(reaper, conn, phase, x);
    expect_end(reaper, conn->deadline_ns);
    expect_end(reaper, phase == CONN_IDLE ? reaper->idle_end_ns : UINT64_MAX);
    set_phase(reaper, conn, phase);
    conn->told = CLIENT_WAITS;
    conn->at_end = false;
}

/* The first of those whose time comes before the next tick, NULL: none; all of them in a drain.
 * Each has the lock for itself: a thousand at once would keep others waiting. */
static struct conn *next_due(struct reaper *reaper, const struct conns *list, uint64_t tick_ns)
{
    (void)pthread_mutex_unlock(&reaper->lock);
    (void)pthread_mutex_lock(&reaper->lock);
    struct conn *conn = TAILQ_FIRST(list);
    bool due = conn && (conn->deadline_ns <= tick_ns + TICK_MS * NS_PER_MS ||
                        reaper->idle_end_ns != UINT64_MAX);
    return due ? conn : NULL;
}

static void release_delayed(struct reaper *reaper, uint64_t tick_ns)
{
    struct conn *conn;
    while ((conn = next_due(reaper, &reaper->delayed, tick_ns))) {
        unlist(conn);
        conn->deadline_ns = UINT64_MAX;
        exchange_resume(conn->exchange);
    }
}

/* Lock held. */
static void wake(struct reaper *reaper, struct conn *conn)
{
    if (conn->phase == CONN_ASLEEP) {
        enter(reaper, conn, CONN_IDLE, NULL);
        repeat_wake(conn);
    }
}

static void pause_until(struct reaper *reaper, uint64_t until_ns)
{
    struct timespec until;
    until.tv_sec = (time_t)(until_ns / NS_PER_S);
    until.tv_nsec = (long)(until_ns % NS_PER_S);
    (void)pthread_cond_timedwait(&reaper->wake, &reaper->lock, &until);
}

/* Where there is room for one, there seems to be for all behind it until the queue has taken it: so
 * one goes, then two, four and so on, each time a moment later. */
static void look_at_sleeping(struct reaper *reaper, uint64_t tick_ns)
{
    struct conn *conn;
    size_t go = 1;
    size_t gone = 0;
    while ((conn = next_due(reaper, &reaper->asleep, tick_ns))) {
        uint64_t next_ns;
        enum repeat_look found = repeat_look(conn, &next_ns);
        if (found == REPEAT_REFUSED) {
            unlist(conn);
            list_until(&reaper->asleep, conn, next_ns);
            go = 1;
            gone = 0;
            continue;
        }
        wake(reaper, conn);
        gone += found == REPEAT_ROOM;
        if (gone == go) {
            pause_until(reaper, clock_now_ns() + NS_PER_MS);
            go *= 2;
            gone = 0;
        }
    }
}

/* Lock held. */
static void end_phases(struct reaper *reaper, uint64_t now_ns)
{
    struct conn *conn;
    reaper->next_end_ns = UINT64_MAX;
    TAILQ_FOREACH (conn, &reaper->conns, in_conns) {
        uint64_t end_ns = conn->deadline_ns;
        if (conn->phase == CONN_IDLE && reaper->idle_end_ns < end_ns) {
            end_ns = reaper->idle_end_ns;
        }
        if (conn->phase == CONN_ASLEEP || conn->phase == CONN_DELAYED ||
            conn->phase == CONN_ENDED) {
            continue;
        }
        if (now_ns >= end_ns) {
            reap(reaper, conn);
        }
        if (conn->phase != CONN_ENDED) {
            expect_end(reaper, end_ns);
        }
    }
}

static void *run(void *argument)
{
    struct reaper *reaper = argument;
    unsigned ticks = 0;
    uint64_t tick_ns = clock_now_ns();
    (void)pthread_setname_np(pthread_self(), "reaper");
    (void)pthread_mutex_lock(&reaper->lock);
    while (!reaper->stopping) {
        /* Ticks keep their distance: what is due at one is early by no more. */
        uint64_t now_ns = clock_now_ns();
        tick_ns += (now_ns - tick_ns) / (TICK_MS * NS_PER_MS) * TICK_MS * NS_PER_MS;
        release_delayed(reaper, tick_ns);
        look_at_sleeping(reaper, tick_ns);
        look(reaper, ++ticks % TICKS_PER_END == 0);
        now_ns = clock_now_ns();
        arrivals_forget_lost(&reaper->arrivals, now_ns);
        if (now_ns >= reaper->next_end_ns) {
            end_phases(reaper, now_ns);
        }
        pause_until(reaper, tick_ns + TICK_MS * NS_PER_MS);
    }
    (void)pthread_mutex_unlock(&reaper->lock);
    return NULL;
}

enum err_code reaper_create(const struct settings *settings, struct reaper **ret_reaper,
                            struct err *err)
{
    struct reaper *reaper = calloc(1, sizeof *reaper);
    if (!reaper) {
        return err_nomem(err, sizeof *reaper);
    }
    pthread_condattr_t monotonic;
    reaper->settings = settings;
    reaper->idle_end_ns = reaper->next_end_ns = UINT64_MAX;
    TAILQ_INIT(&reaper->conns);
    TAILQ_INIT(&reaper->working);
    TAILQ_INIT(&reaper->delayed);
    TAILQ_INIT(&reaper->asleep);
    TAILQ_INIT(&reaper->main.headless);
    TAILQ_INIT(&reaper->admin.headless);
    (void)pthread_mutex_init(&reaper->lock, NULL);
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&reaper->wake, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
    int failed = pthread_create(&reaper->thread, NULL, run, reaper);
    if (failed) {
        reaper_destroy(reaper);
        return err_set_errno(err, ERR_IO, failed, "thread");
    }
    reaper->started = true;
    *ret_reaper = reaper;
    return ERR_OK;
}

void reaper_destroy(struct reaper *reaper)
{
    if (!reaper) {
        return;
    }
    if (reaper->started) {
        (void)pthread_mutex_lock(&reaper->lock);
        reaper->stopping = true;
        (void)pthread_cond_signal(&reaper->wake);
        (void)pthread_mutex_unlock(&reaper->lock);
        (void)pthread_join(reaper->thread, NULL);
    }
    (void)pthread_cond_destroy(&reaper->wake);
    (void)pthread_mutex_destroy(&reaper->lock);
    arrivals_done(&reaper->arrivals);
    free(reaper->polled);
    free(reaper);
}

/* Makes room: ends the connection that waits longest for a whole header section (a kept one that
 * begins its next request is not old); with_place: one that holds a place. Lock held. */
static void evict(struct reaper *reaper, enum listener listener, bool with_place)
{
    struct tally *tally = tally_of(reaper, listener);
    struct conn *conn = TAILQ_FIRST(&tally->headless);
    while (conn && with_place && conn->over_limit) {
        conn = TAILQ_NEXT(conn, in_headless);
    }
    if (conn) {
        end(reaper, conn);
        conn->evicted = true;
        tally->ending++;
        tally->placed -= !conn->over_limit;
    }
}

bool reaper_announce(struct reaper *reaper, int fd, enum listener listener, size_t most)
{
    (void)pthread_mutex_lock(&reaper->lock);
    struct tally *tally = tally_of(reaper, listener);
    bool ok = tally->open + arrivals_count(&reaper->arrivals, listener) < most &&
              arrivals_add(&reaper->arrivals, fd, listener, clock_now_ns());
    (void)pthread_mutex_unlock(&reaper->lock);
    return ok;
}

bool reaper_making_room(struct reaper *reaper, enum listener listener, size_t most)
{
    (void)pthread_mutex_lock(&reaper->lock);
    struct tally *tally = tally_of(reaper, listener);
    bool full = tally->open + arrivals_count(&reaper->arrivals, listener) >= most;
    if (full && tally->ending + tally->refused == 0) {
        evict(reaper, listener, false);
    }
    bool making = full && tally->ending + tally->refused > 0;
    (void)pthread_mutex_unlock(&reaper->lock);
    return making;
}

void reaper_withdraw(struct reaper *reaper, int fd)
{
    (void)pthread_mutex_lock(&reaper->lock);
    arrivals_remove(&reaper->arrivals, fd);
    (void)pthread_mutex_unlock(&reaper->lock);
}

struct conn *reaper_open(struct reaper *reaper, int fd, enum listener listener, size_t limit)
{
    struct conn *conn = calloc(1, sizeof *conn);
    if (!conn) {
        reaper_withdraw(reaper, fd);
        return NULL;
    }
    conn->fd = fd;
    conn->listener = listener;
    conn->phase = CONN_IDLE;
    conn->client = CLIENT_WAITS;
    conn->poll_slot = SIZE_MAX;
    conn->deadline_ns = clock_now_ns() + reaper->settings->header_timeout_ms * NS_PER_MS;
    (void)pthread_mutex_lock(&reaper->lock);
    struct tally *tally = tally_of(reaper, listener);
    arrivals_remove(&reaper->arrivals, fd);
    tally->open++;
    if (tally->placed >= limit) {
        evict(reaper, listener, true);
    }
    expect_end(reaper, conn->deadline_ns);
    conn->over_limit = tally->placed >= limit;
    tally->placed += !conn->over_limit;
    TAILQ_INSERT_TAIL(&reaper->conns, conn, in_conns);
    TAILQ_INSERT_TAIL(&tally->headless, conn, in_headless);
    (void)pthread_mutex_unlock(&reaper->lock);
    return conn;
}

void reaper_close(struct reaper *reaper, struct conn *conn)
{
    (void)pthread_mutex_lock(&reaper->lock);
    struct tally *tally = tally_of(reaper, conn->listener);
    tally->open--;
    tally->ending -= conn->evicted;
    tally->refused -= conn->refused;
    tally->placed -= !conn->over_limit && !conn->evicted;
    TAILQ_REMOVE(&reaper->conns, conn, in_conns);
    unlist(conn);
    if (headless(conn)) {
        TAILQ_REMOVE(&tally->headless, conn, in_headless);
    }
    (void)pthread_mutex_unlock(&reaper->lock);
    free(conn);
}

size_t reaper_count(struct reaper *reaper, enum listener listener)
{
    (void)pthread_mutex_lock(&reaper->lock);
    struct tally *tally = tally_of(reaper, listener);
    size_t count = tally->open + arrivals_count(&reaper->arrivals, listener);
    (void)pthread_mutex_unlock(&reaper->lock);
    return count;
}

bool reaper_enter(struct reaper *reaper, struct conn *conn, enum conn_phase phase,
                  struct exchange *x)
{
    (void)pthread_mutex_lock(&reaper->lock);
    bool alive = conn->phase != CONN_ENDED;
    conn->exchange = x;
    if (alive) {
        enter(reaper, conn, phase, x);
    }
    (void)pthread_mutex_unlock(&reaper->lock);
    return alive;
}

void reaper_release_at(struct reaper *reaper, struct conn *conn, uint64_t release_ns)
{
    (void)pthread_mutex_lock(&reaper->lock);
    CHECK(conn->phase == CONN_DELAYED);
    list_until(&reaper->delayed, conn, release_ns);
    (void)pthread_mutex_unlock(&reaper->lock);
}

bool reaper_sleep(struct reaper *reaper, struct conn *conn, uint64_t look_ns)
{
    (void)pthread_mutex_lock(&reaper->lock);
    bool idle = conn->phase == CONN_IDLE;
    if (idle) {
        enter(reaper, conn, CONN_ASLEEP, NULL);
        list_until(&reaper->asleep, conn, look_ns);
    }
    (void)pthread_mutex_unlock(&reaper->lock);
    return idle;
}

void reaper_wake(struct reaper *reaper, struct conn *conn)
{
    (void)pthread_mutex_lock(&reaper->lock);
    wake(reaper, conn);
    (void)pthread_mutex_unlock(&reaper->lock);
}

enum conn_phase reaper_phase(struct reaper *reaper, const struct conn *conn)
{
    (void)pthread_mutex_lock(&reaper->lock);
    enum conn_phase phase = conn->phase;
    (void)pthread_mutex_unlock(&reaper->lock);
    return phase;
}

enum policy_client reaper_client(struct reaper *reaper, const struct conn *conn)
{
    (void)pthread_mutex_lock(&reaper->lock);
    enum policy_client client = conn->client;
    (void)pthread_mutex_unlock(&reaper->lock);
    return client;
}

void reaper_chunk(struct reaper *reaper, struct conn *conn, size_t size)
{
    (void)pthread_mutex_lock(&reaper->lock);
    if (conn->phase == CONN_BODY) {
        conn->deadline_ns += size * NS_PER_S / PEER_BYTES_PER_S;
    }
    (void)pthread_mutex_unlock(&reaper->lock);
}

void reaper_drain(struct reaper *reaper, uint64_t deadline_ns)
{
    (void)pthread_mutex_lock(&reaper->lock);
    reaper->idle_end_ns = deadline_ns;
    expect_end(reaper, deadline_ns);
    (void)pthread_cond_signal(&reaper->wake);
    (void)pthread_mutex_unlock(&reaper->lock);
}

void reaper_cancel(struct reaper *reaper)
{
    struct conn *conn;
    (void)pthread_mutex_lock(&reaper->lock);
    TAILQ_FOREACH (conn, &reaper->conns, in_conns) {
        if (conn->phase == CONN_WORKING && conn->exchange->client_changed) {
            conn->exchange->client_changed(conn->exchange, CLIENT_GONE);
        }
    }
    (void)pthread_mutex_unlock(&reaper->lock);
}

size_t reaper_busy(struct reaper *reaper, bool suspended_only)
{
    struct conn *conn;
    size_t busy = 0;
    (void)pthread_mutex_lock(&reaper->lock);
    TAILQ_FOREACH (conn, &reaper->conns, in_conns) {
        busy += conn->exchange &&
                (!suspended_only || conn->phase == CONN_WORKING || conn->phase == CONN_DELAYED);
    }
    (void)pthread_mutex_unlock(&reaper->lock);
    return busy;
}
