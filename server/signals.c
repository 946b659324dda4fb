#include "server/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

#include "base/clock.h"

/* Process lifetime: a signal handler has no other way to find them. What has happened stands in
 * pending, a bit an event; the pipe only wakes, so that it does not matter when it is full. */
static int pipe_fds[2] = {-1, -1};
static atomic_uint pending;
static atomic_int stops;

void signals_post(enum event event)
{
    int saved = errno;
    (void)atomic_fetch_or(&pending, 1u << event);
    (void)!write(pipe_fds[1], "", 1);
    errno = saved;
}

static void on_signal(int number)
{
    if (number == SIGHUP) {
        signals_post(EVENT_RELOAD);
    } else if (atomic_fetch_add(&stops, 1) > 0) {
        _exit(1);
    } else {
        signals_post(EVENT_STOP);
    }
}

static void set_handlers(void (*handler)(int))
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        (void)sigaction(numbers[i], &action, NULL);
    }
}

enum err_code signals_init(struct err *err)
{
    if (pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK) != 0) {
        return err_set_errno(err, ERR_IO, errno, "pipe");
    }
    atomic_store(&stops, 0);
    atomic_store(&pending, 0);
    (void)signal(SIGPIPE, SIG_IGN);
    set_handlers(on_signal);
    return ERR_OK;
}

void signals_done(void)
{
    if (pipe_fds[0] < 0) {
        return;
    }
    set_handlers(SIG_DFL);
    (void)close(pipe_fds[0]);
    (void)close(pipe_fds[1]);
    pipe_fds[0] = pipe_fds[1] = -1;
}

/* One event that is pending, or EVENT_NONE. */
static enum event take_pending(void)
{
    static const enum event events[] = {EVENT_STOP, EVENT_LOADED, EVENT_RELOAD};
    for (size_t i = 0; i < sizeof events / sizeof *events; i++) {
        unsigned bit = 1u << events[i];
        if (atomic_fetch_and(&pending, ~bit) & bit) {
            return events[i];
        }
    }
    return EVENT_NONE;
}

enum event signals_wait(uint64_t end_ns)
{
    for (;;) {
        char bytes[64];
        while (read(pipe_fds[0], bytes, sizeof bytes) > 0) {
        }
        enum event event = take_pending();
        uint64_t now_ns = clock_now_ns();
        if (event != EVENT_NONE || now_ns >= end_ns) {
            return event;
        }
        uint64_t left_ns = end_ns - now_ns;
        struct timespec left = {.tv_sec = (time_t)(left_ns / NS_PER_S),
                                .tv_nsec = (long)(left_ns % NS_PER_S)};
        struct pollfd one = {.fd = pipe_fds[0], .events = POLLIN};
        (void)ppoll(&one, 1, end_ns == UINT64_MAX ? NULL : &left, NULL);
    }
}
