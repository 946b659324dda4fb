#include "base/log_writer.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"

enum {
    CHUNK_BYTES = 4096, /* a pipe takes so many at once or none: PIPE_BUF */
    POLL_MS = 50,
    STOP_GRACE_MS = 200,
};

/* A kept line that found no room in the ring. */
struct late_line {
    struct late_line *next;
    size_t size;
    char text[];
};

/* Whole lines one behind the other, around the end of the ring; a line's size stands before it. */
struct ring {
    char *bytes; /* [LOG_RING_BYTES], owned */
    size_t head; /* where the oldest line begins */
    size_t used;
};

/* Process lifetime. */
static struct {
    pthread_mutex_t lock; /* of what follows, but for dropped */
    pthread_cond_t wake;
    bool running;
    bool stopping;
    uint64_t end_ns; /* when stopping */
    struct ring ring;
    struct late_line *first, **last;
    size_t late_bytes;
    uint64_t untold; /* dropped since the last line about it */
    pthread_t thread;
    atomic_uint_fast64_t dropped;
} writer = {.lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

uint64_t log_writer_dropped(void)
{
    return atomic_load_explicit(&writer.dropped, memory_order_relaxed);
}

static void copy_in(struct ring *ring, const void *data, size_t size)
{
    size_t at = (ring->head + ring->used) % LOG_RING_BYTES;
    size_t first = size < LOG_RING_BYTES - at ? size : LOG_RING_BYTES - at;
    memcpy(ring->bytes + at, data, first);
    memcpy(ring->bytes, (const char *)data + first, size - first);
    ring->used += size;
}

static void copy_out(const struct ring *ring, size_t offset, void *out, size_t size)
{
    size_t at = (ring->head + offset) % LOG_RING_BYTES;
    size_t first = size < LOG_RING_BYTES - at ? size : LOG_RING_BYTES - at;
    memcpy(out, ring->bytes + at, first);
    memcpy((char *)out + first, ring->bytes, size - first);
}

static bool ring_put(struct ring *ring, const char *line, size_t size, size_t reserve)
{
    uint32_t prefix = (uint32_t)size;
    if (ring->used + sizeof prefix + size > LOG_RING_BYTES - reserve) {
        return false;
    }
    copy_in(ring, &prefix, sizeof prefix);
    copy_in(ring, line, size);
    return true;
}

/* Takes the oldest lines, as many as fit into room bytes and at least one. */
static size_t ring_take(struct ring *ring, char *out, size_t room, uint64_t *ret_lines)
{
    size_t taken = 0;
    uint32_t size;
    *ret_lines = 0;
    while (ring->used) {
        copy_out(ring, 0, &size, sizeof size);
        CHECK(size <= LOG_LINE_MAX + 2);
        if (taken && taken + size > room) {
            break;
        }
        copy_out(ring, sizeof size, out + taken, size);
        ring->head = (ring->head + sizeof size + size) % LOG_RING_BYTES;
        ring->used -= sizeof size + size;
        taken += size;
        *ret_lines += 1;
    }
    return taken;
}

/* Waits until stderr takes more bytes; false when it is time to end. */
static bool wait_writable(void)
{
    struct pollfd one = {.fd = STDERR_FILENO, .events = POLLOUT};
    for (;;) {
        if (poll(&one, 1, POLL_MS) > 0) {
            return true; /* an error too: write(2) tells which */
        }
        (void)pthread_mutex_lock(&writer.lock);
        bool over = writer.stopping && clock_now_ns() >= writer.end_ns;
        (void)pthread_mutex_unlock(&writer.lock);
        if (over) {
            return false;
        }
    }
}

/* Writes for as long as there is a reader, or time. False when not all of it went out. */
static bool write_patiently(const char *data, size_t size)
{
    size_t done = 0;
    while (done < size) {
        if (!wait_writable()) {
            return false;
        }
        size_t piece = size - done < CHUNK_BYTES ? size - done : CHUNK_BYTES;
        ssize_t put = write(STDERR_FILENO, data + done, piece);
        if (put < 0 && errno != EINTR && errno != EAGAIN) {
            return false;
        }
        done += put > 0 ? (size_t)put : 0;
    }
    return true;
}

static void write_now(const char *data, size_t size)
{
    size_t done = 0;
    while (done < size) {
        ssize_t put = write(STDERR_FILENO, data + done, size - done);
        if (put < 0 && errno != EINTR) {
            break; /* nowhere left to complain */
        }
        done += put > 0 ? (size_t)put : 0;
    }
}

static void tell_dropped(uint64_t lines)
{
    LOG_KEPT(LOG_WARN, "log lines dropped: stderr was not read fast enough", LOG_U("lines", lines),
             LOG_U("in_all", log_writer_dropped()));
}

/* The next lines to write, with the lock held: of the ring, else a late one. */
static size_t take_next(char *out, size_t room, uint64_t *ret_lines)
{
    size_t size = ring_take(&writer.ring, out, room, ret_lines);
    struct late_line *late = writer.first;
    if (size || !late) {
        return size;
    }
    writer.first = late->next;
    writer.last = late->next ? writer.last : &writer.first;
    size = late->size;
    writer.late_bytes -= size;
    memcpy(out, late->text, size);
    free(late);
    *ret_lines = 1;
    return size;
}

/* Writes the next lines; the lock is held but for the writing itself. False when none wait. What
 * was dropped is told once something can be written again: a broken stderr is not tried in vain. */
static bool write_next(void)
{
    char chunk[LOG_LINE_MAX + 2];
    uint64_t lines;
    uint64_t untold = writer.untold;
    size_t size = take_next(chunk, CHUNK_BYTES, &lines);
    if (size == 0) {
        return false;
    }
    writer.untold = 0;
    (void)pthread_mutex_unlock(&writer.lock);
    bool written = write_patiently(chunk, size);
    if (!written) {
        (void)atomic_fetch_add_explicit(&writer.dropped, lines, memory_order_relaxed);
    } else if (untold) {
        tell_dropped(untold);
    }
    (void)pthread_mutex_lock(&writer.lock);
    writer.untold += written ? 0 : lines + untold;
    return true;
}

static void *run(void *argument)
{
    (void)argument;
    (void)pthread_setname_np(pthread_self(), "log");
    (void)pthread_mutex_lock(&writer.lock);
    for (;;) {
        bool late = writer.stopping && clock_now_ns() >= writer.end_ns;
        if (late || (!write_next() && writer.stopping)) {
            break;
        }
        if (!writer.ring.used && !writer.first && !writer.stopping) {
            (void)pthread_cond_wait(&writer.wake, &writer.lock);
        }
    }
    (void)pthread_mutex_unlock(&writer.lock);
    return NULL;
}

enum err_code log_writer_start(struct err *err)
{
    CHECK(!writer.running);
    char *bytes = malloc(LOG_RING_BYTES);
    if (!bytes) {
        return err_nomem(err, LOG_RING_BYTES);
    }
    writer.ring = (struct ring){.bytes = bytes};
    writer.first = NULL;
    writer.last = &writer.first;
    writer.stopping = false;
    int failed = pthread_create(&writer.thread, NULL, run, NULL);
    if (failed) {
        free(bytes);
        writer.ring.bytes = NULL;
        return err_set_errno(err, ERR_IO, failed, "thread");
    }
    (void)pthread_mutex_lock(&writer.lock);
    writer.running = true;
    (void)pthread_mutex_unlock(&writer.lock);
    return ERR_OK;
}

void log_writer_stop(unsigned timeout_ms)
{
    (void)pthread_mutex_lock(&writer.lock);
    bool running = writer.running;
    writer.stopping = true;
    writer.end_ns = clock_now_ns() + timeout_ms * NS_PER_MS;
    (void)pthread_cond_signal(&writer.wake);
    (void)pthread_mutex_unlock(&writer.lock);
    if (!running) {
        return;
    }
    uint64_t wall_ns = clock_wall_ns() + (timeout_ms + STOP_GRACE_MS) * NS_PER_MS;
    struct timespec until = {.tv_sec = (time_t)(wall_ns / NS_PER_S),
                             .tv_nsec = (long)(wall_ns % NS_PER_S)};
    bool ended = pthread_timedjoin_np(writer.thread, NULL, &until) == 0;
    (void)pthread_mutex_lock(&writer.lock);
    writer.running = false;
    if (!ended) {
        /* It hangs in write(2) with the ring in its hands; the process ends without it. */
        (void)pthread_mutex_unlock(&writer.lock);
        return;
    }
    while (clock_now_ns() < writer.end_ns && write_next()) {
    }
    uint64_t lines;
    char chunk[LOG_LINE_MAX + 2];
    while (take_next(chunk, CHUNK_BYTES, &lines)) {
        (void)atomic_fetch_add_explicit(&writer.dropped, lines, memory_order_relaxed);
    }
    free(writer.ring.bytes);
    writer.ring.bytes = NULL;
    (void)pthread_mutex_unlock(&writer.lock);
}

static bool put_late(const char *line, size_t size)
{
    struct late_line *late = writer.late_bytes + size <= LOG_KEPT_MAX ? malloc(sizeof *late + size)
                                                                      : NULL;
    if (!late) {
        return false;
    }
    late->next = NULL;
    late->size = size;
    memcpy(late->text, line, size);
    *writer.last = late;
    writer.last = &late->next;
    writer.late_bytes += size;
    return true;
}

void log_writer_put(const char *line, size_t size, bool kept)
{
    CHECK(size <= LOG_LINE_MAX + 2);
    (void)pthread_mutex_lock(&writer.lock);
    if (!writer.running) {
        (void)pthread_mutex_unlock(&writer.lock);
        write_now(line, size);
        return;
    }
    /* Behind a late line there are late lines alone, so that none overtakes another. */
    bool taken = !writer.first && ring_put(&writer.ring, line, size, kept ? 0 : LOG_RESERVE_BYTES);
    if (!taken && kept) {
        taken = put_late(line, size);
    }
    if (!taken) {
        (void)atomic_fetch_add_explicit(&writer.dropped, 1, memory_order_relaxed);
        writer.untold++;
    }
    (void)pthread_cond_signal(&writer.wake);
    (void)pthread_mutex_unlock(&writer.lock);
}
