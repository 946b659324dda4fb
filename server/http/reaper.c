#include "server/http/reaper.h"

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/queue.h>
#include <time.h>

#include "base/check.h"
#include "base/clock.h"
#include "server/http/rawreply.h"

enum { TICK_MS = 50, TICKS_PER_END = 5 };

struct reaper {
    pthread_t thread;
    bool started;
    struct pollfd *polled; /* [polled_room], the thread's */
    size_t polled_room;
    pthread_mutex_t lock; /* of everything below */
    pthread_cond_t wake;
    bool stopping;
    struct connections connections;
};

/* Its time is over. Lock held. */
static void reap(struct reaper *reaper, struct conn *conn)
{
    int unread = 0;
    if (conn->phase == CONN_IDLE && reaper->connections.idle_end_ns != UINT64_MAX &&
        ioctl(conn->fd, FIONREAD, &unread) == 0 && unread > 0) {
        return; /* a request has just come in: it is answered before the drain ends */
    }
    if (conn->phase == CONN_BODY) {
        rawreply_timeout(conn->exchange);
    } else if (conn->phase == CONN_DISCARD) {
        rawreply_send(conn->exchange);
    }
    connections_end(&reaper->connections, conn);
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
            connections_end(&reaper->connections, conn);
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
    size_t room = reaper->connections.main.open + reaper->connections.admin.open;
    if (room > reaper->polled_room) {
        struct pollfd *grown = realloc(reaper->polled, room * sizeof *grown);
        if (!grown) {
            return;
        }
        reaper->polled = grown;
        reaper->polled_room = room;
    }
    /* Who has work that is to be dropped is asked each time, the others with the ends. */
    struct conn *first = TAILQ_FIRST(look_for_ends ? &reaper->connections.all
                                                   : &reaper->connections.working);
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
    first = TAILQ_FIRST(look_for_ends ? &reaper->connections.all : &reaper->connections.working);
    for (conn = first; conn; conn = after(conn, look_for_ends)) {
        /* One that came meanwhile has no slot, one that was closed is not here. */
        if (conn->poll_slot != SIZE_MAX && conn->phase != CONN_ENDED) {
            see(reaper, conn, reaper->polled[conn->poll_slot].revents, look_for_ends);
        }
    }
}

/* The first of those whose time comes before the next tick, NULL: none; all of them in a drain.
 * Each has the lock for itself: a thousand at once would keep others waiting. */
static struct conn *next_due(struct reaper *reaper, const struct conns *list, uint64_t tick_ns)
{
    (void)pthread_mutex_unlock(&reaper->lock);
    (void)pthread_mutex_lock(&reaper->lock);
    struct conn *conn = TAILQ_FIRST(list);
    bool due = conn && (conn->deadline_ns <= tick_ns + TICK_MS * NS_PER_MS ||
                        reaper->connections.idle_end_ns != UINT64_MAX);
    return due ? conn : NULL;
}

static void release_delayed(struct reaper *reaper, uint64_t tick_ns)
{
    struct conn *conn;
    while ((conn = next_due(reaper, &reaper->connections.delayed, tick_ns))) {
        connections_unlist(conn);
        conn->deadline_ns = UINT64_MAX;
        exchange_resume(conn->exchange);
    }
}

/* Lock held. */
static void wake(struct reaper *reaper, struct conn *conn)
{
    if (conn->phase == CONN_ASLEEP) {
        connections_enter(&reaper->connections, conn, CONN_IDLE, NULL);
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
    while ((conn = next_due(reaper, &reaper->connections.asleep, tick_ns))) {
        uint64_t next_ns;
        enum repeat_look found = repeat_look(conn, &next_ns);
        if (found == REPEAT_REFUSED) {
            connections_unlist(conn);
            connections_list(&reaper->connections.asleep, conn, next_ns);
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
    reaper->connections.next_end_ns = UINT64_MAX;
    TAILQ_FOREACH (conn, &reaper->connections.all, in_conns) {
        uint64_t end_ns = conn->deadline_ns;
        if (conn->phase == CONN_IDLE && reaper->connections.idle_end_ns < end_ns) {
            end_ns = reaper->connections.idle_end_ns;
        }
        if (conn->phase == CONN_ASLEEP || conn->phase == CONN_DELAYED ||
            conn->phase == CONN_ENDED) {
            continue;
        }
        if (now_ns >= end_ns) {
            reap(reaper, conn);
        }
        if (conn->phase != CONN_ENDED) {
            connections_expect_end(&reaper->connections, end_ns);
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
        arrivals_forget_lost(&reaper->connections.arrivals, now_ns);
        if (now_ns >= reaper->connections.next_end_ns) {
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
    connections_init(&reaper->connections, settings);
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
    connections_done(&reaper->connections);
    free(reaper->polled);
    free(reaper);
}

bool reaper_announce(struct reaper *reaper, int fd, enum listener listener, size_t most)
{
    (void)pthread_mutex_lock(&reaper->lock);
    bool ok = connections_announce(&reaper->connections, fd, listener, most);
    (void)pthread_mutex_unlock(&reaper->lock);
    return ok;
}

bool reaper_making_room(struct reaper *reaper, enum listener listener, size_t most)
{
    (void)pthread_mutex_lock(&reaper->lock);
    bool making = connections_making_room(&reaper->connections, listener, most);
    (void)pthread_mutex_unlock(&reaper->lock);
    return making;
}

void reaper_withdraw(struct reaper *reaper, int fd)
{
    (void)pthread_mutex_lock(&reaper->lock);
    arrivals_remove(&reaper->connections.arrivals, fd);
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
    (void)pthread_mutex_lock(&reaper->lock);
    connections_open(&reaper->connections, conn, limit);
    (void)pthread_mutex_unlock(&reaper->lock);
    return conn;
}

void reaper_close(struct reaper *reaper, struct conn *conn)
{
    (void)pthread_mutex_lock(&reaper->lock);
    connections_close(&reaper->connections, conn);
    (void)pthread_mutex_unlock(&reaper->lock);
    free(conn);
}

size_t reaper_count(struct reaper *reaper, enum listener listener)
{
    (void)pthread_mutex_lock(&reaper->lock);
    size_t count = connections_count(&reaper->connections, listener);
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
        connections_enter(&reaper->connections, conn, phase, x);
    }
    (void)pthread_mutex_unlock(&reaper->lock);
    return alive;
}

void reaper_release_at(struct reaper *reaper, struct conn *conn, uint64_t release_ns)
{
    (void)pthread_mutex_lock(&reaper->lock);
    CHECK(conn->phase == CONN_DELAYED);
    connections_list(&reaper->connections.delayed, conn, release_ns);
    (void)pthread_mutex_unlock(&reaper->lock);
}

bool reaper_sleep(struct reaper *reaper, struct conn *conn, uint64_t look_ns)
{
    (void)pthread_mutex_lock(&reaper->lock);
    bool idle = conn->phase == CONN_IDLE;
    if (idle) {
        connections_enter(&reaper->connections, conn, CONN_ASLEEP, NULL);
        connections_list(&reaper->connections.asleep, conn, look_ns);
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
    reaper->connections.idle_end_ns = deadline_ns;
    connections_expect_end(&reaper->connections, deadline_ns);
    (void)pthread_cond_signal(&reaper->wake);
    (void)pthread_mutex_unlock(&reaper->lock);
}

void reaper_cancel(struct reaper *reaper)
{
    struct conn *conn;
    (void)pthread_mutex_lock(&reaper->lock);
    TAILQ_FOREACH (conn, &reaper->connections.all, in_conns) {
        if (conn->phase == CONN_WORKING && conn->exchange->client_changed) {
            conn->exchange->client_changed(conn->exchange, CLIENT_GONE);
        }
    }
    (void)pthread_mutex_unlock(&reaper->lock);
}

size_t reaper_busy(struct reaper *reaper, bool suspended_only)
{
    (void)pthread_mutex_lock(&reaper->lock);
    size_t busy = connections_busy(&reaper->connections, suspended_only);
    (void)pthread_mutex_unlock(&reaper->lock);
    return busy;
}
