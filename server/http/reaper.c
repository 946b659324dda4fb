#include "server/http/reaper.h"

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>

#include "base/clock.h"
#include "server/http/rawreply.h"

enum { TICK_MS = 50, TICKS_PER_SWEEP = 5 };

struct reaper {
    const struct settings *settings;
    pthread_t thread;
    bool started;
    pthread_mutex_t lock; /* of everything below */
    pthread_cond_t wake;
    bool stopping;
    uint64_t idle_end_ns; /* while draining; UINT64_MAX otherwise */
    struct conn *first;
    struct tally {
        size_t open, announced;
    } main, admin;
    struct pollfd *polled; /* [polled_room], for sweep */
    size_t polled_room;
};

/* Lock held. */
static void reap(struct reaper *reaper, struct conn *conn)
{
    int unread = 0;
    if (conn->phase == CONN_IDLE && reaper->idle_end_ns != UINT64_MAX &&
        ioctl(conn->fd, FIONREAD, &unread) == 0 && unread > 0) {
        return; /* a request has just come in: it is answered before the drain ends */
    }
    conn->reaped = true;
    if (conn->phase == CONN_BODY) {
        rawreply_timeout(conn->exchange);
    } else if (conn->phase == CONN_DISCARD) {
        rawreply_send(conn->exchange);
    }
    (void)shutdown(conn->fd, SHUT_RDWR);
}

/* Whether the client of a connection, whose end was seen, can still get an answer. */
static bool awaited(const struct conn *conn)
{
    return conn->phase == CONN_WORKING || conn->phase == CONN_SENDING;
}

/* Ends connections whose client has closed its side and of which nothing is left to read, once this
 * is seen twice: the first time their last bytes may just be on the way to a handler. Lock held. */
static void sweep(struct reaper *reaper)
{
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
    for (struct conn *conn = reaper->first; conn; conn = conn->next) {
        int fd = awaited(conn) || conn->reaped ? -1 : conn->fd; /* poll skips -1 */
        reaper->polled[n++] = (struct pollfd){.fd = fd, .events = POLLRDHUP};
    }
    if (n == 0 || poll(reaper->polled, n, 0) <= 0) {
        return;
    }
    n = 0;
    for (struct conn *conn = reaper->first; conn; conn = conn->next) {
        int unread = 0;
        bool ended = reaper->polled[n++].revents != 0 && ioctl(conn->fd, FIONREAD, &unread) == 0 &&
                     unread == 0;
        if (ended && conn->ended) {
            (void)shutdown(conn->fd, SHUT_RDWR);
        }
        conn->ended = ended;
    }
}

static void *run(void *argument)
{
    struct reaper *reaper = argument;
    unsigned ticks = 0;
    (void)pthread_setname_np(pthread_self(), "reaper");
    (void)pthread_mutex_lock(&reaper->lock);
    while (!reaper->stopping) {
        if (++ticks % TICKS_PER_SWEEP == 0) {
            sweep(reaper);
        }
        uint64_t now_ns = clock_now_ns();
        for (struct conn *conn = reaper->first; conn; conn = conn->next) {
            uint64_t end_ns = conn->deadline_ns;
            if (conn->phase == CONN_IDLE && reaper->idle_end_ns < end_ns) {
                end_ns = reaper->idle_end_ns;
            }
            if (!conn->reaped && conn->phase != CONN_WORKING && now_ns >= end_ns) {
                reap(reaper, conn);
            }
        }
        struct timespec until;
        now_ns += TICK_MS * NS_PER_MS;
        until.tv_sec = (time_t)(now_ns / NS_PER_S);
        until.tv_nsec = (long)(now_ns % NS_PER_S);
        (void)pthread_cond_timedwait(&reaper->wake, &reaper->lock, &until);
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
    reaper->idle_end_ns = UINT64_MAX;
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
    free(reaper->polled);
    free(reaper);
}

static struct tally *tally_of(struct reaper *reaper, enum listener listener)
{
    return listener == LISTENER_ADMIN ? &reaper->admin : &reaper->main;
}

bool reaper_announce(struct reaper *reaper, enum listener listener, size_t most)
{
    (void)pthread_mutex_lock(&reaper->lock);
    struct tally *tally = tally_of(reaper, listener);
    bool ok = tally->open + tally->announced < most;
    tally->announced += ok;
    (void)pthread_mutex_unlock(&reaper->lock);
    return ok;
}

void reaper_withdraw(struct reaper *reaper, enum listener listener)
{
    (void)pthread_mutex_lock(&reaper->lock);
    tally_of(reaper, listener)->announced--;
    (void)pthread_mutex_unlock(&reaper->lock);
}

struct conn *reaper_open(struct reaper *reaper, int fd, enum listener listener, size_t limit)
{
    struct conn *conn = calloc(1, sizeof *conn);
    if (!conn) {
        reaper_withdraw(reaper, listener);
        return NULL;
    }
    conn->fd = fd;
    conn->listener = listener;
    conn->phase = CONN_IDLE;
    conn->deadline_ns = clock_now_ns() + reaper->settings->header_timeout_ms * NS_PER_MS;
    (void)pthread_mutex_lock(&reaper->lock);
    struct tally *tally = tally_of(reaper, listener);
    tally->announced--;
    conn->over_limit = ++tally->open > limit;
    conn->next = reaper->first;
    if (reaper->first) {
        reaper->first->prev = conn;
    }
    reaper->first = conn;
    (void)pthread_mutex_unlock(&reaper->lock);
    return conn;
}

void reaper_close(struct reaper *reaper, struct conn *conn)
{
    (void)pthread_mutex_lock(&reaper->lock);
    tally_of(reaper, conn->listener)->open--;
    if (conn->prev) {
        conn->prev->next = conn->next;
    } else {
        reaper->first = conn->next;
    }
    if (conn->next) {
        conn->next->prev = conn->prev;
    }
    (void)pthread_mutex_unlock(&reaper->lock);
    free(conn);
}

size_t reaper_count(struct reaper *reaper, enum listener listener)
{
    (void)pthread_mutex_lock(&reaper->lock);
    struct tally *tally = tally_of(reaper, listener);
    size_t count = tally->open + tally->announced;
    (void)pthread_mutex_unlock(&reaper->lock);
    return count;
}

/* When the phase that begins now must be over. */
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
        return conn->requests ? now_ns + settings->header_timeout_ms * NS_PER_MS
                              : conn->deadline_ns;
    case CONN_BODY:
        return now_ns + settings->body_timeout_ms * NS_PER_MS;
    case CONN_DISCARD:
        return now_ns + DISCARD_TIMEOUT_MS * NS_PER_MS;
    case CONN_SENDING:
        return now_ns + settings->body_timeout_ms * NS_PER_MS +
               x->reply_size * NS_PER_S / SEND_BYTES_PER_S;
    case CONN_WORKING:
        break;
    }
    return UINT64_MAX;
}

bool reaper_enter(struct reaper *reaper, struct conn *conn, enum conn_phase phase,
                  struct exchange *x)
{
    (void)pthread_mutex_lock(&reaper->lock);
    bool alive = !conn->reaped;
    conn->deadline_ns = phase_end_ns(reaper, conn, phase, x);
    conn->requests += phase == CONN_HEADERS;
    conn->phase = phase;
    conn->ended = false;
    conn->exchange = x;
    (void)pthread_mutex_unlock(&reaper->lock);
    return alive;
}

void reaper_drain(struct reaper *reaper, uint64_t deadline_ns)
{
    (void)pthread_mutex_lock(&reaper->lock);
    reaper->idle_end_ns = deadline_ns;
    (void)pthread_cond_signal(&reaper->wake);
    (void)pthread_mutex_unlock(&reaper->lock);
}

void reaper_cancel(struct reaper *reaper)
{
    (void)pthread_mutex_lock(&reaper->lock);
    for (struct conn *conn = reaper->first; conn; conn = conn->next) {
        if (conn->phase == CONN_WORKING && conn->exchange->cancelled) {
            atomic_store(conn->exchange->cancelled, true);
        }
    }
    (void)pthread_mutex_unlock(&reaper->lock);
}

size_t reaper_busy(struct reaper *reaper, bool suspended_only)
{
    size_t busy = 0;
    (void)pthread_mutex_lock(&reaper->lock);
    for (struct conn *conn = reaper->first; conn; conn = conn->next) {
        busy += conn->exchange && (!suspended_only || conn->phase == CONN_WORKING);
    }
    (void)pthread_mutex_unlock(&reaper->lock);
    return busy;
}
