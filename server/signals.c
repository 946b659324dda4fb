#include "server/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

#include "base/clock.h"

/* Process lifetime: a signal handler has no other way to find them. */
static int pipe_fds[2] = {-1, -1};
static atomic_int stops;

void signals_post(enum event event)
{
    unsigned char byte = (unsigned char)event;
    (void)!write(pipe_fds[1], &byte, 1);
}

static void on_signal(int number)
{
    int saved = errno;
    if (number == SIGHUP) {
        signals_post(EVENT_RELOAD);
    } else if (atomic_fetch_add(&stops, 1) > 0) {
        _exit(1);
    } else {
        signals_post(EVENT_STOP);
    }
    errno = saved;
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

enum event signals_wait(uint64_t end_ns)
{
    for (;;) {
        unsigned char byte;
        if (read(pipe_fds[0], &byte, 1) == 1) {
            return (enum event)byte;
        }
        uint64_t now_ns = clock_now_ns();
        if (now_ns >= end_ns) {
            return EVENT_NONE;
        }
        uint64_t left_ns = end_ns - now_ns;
        struct timespec left = {.tv_sec = (time_t)(left_ns / NS_PER_S),
                                .tv_nsec = (long)(left_ns % NS_PER_S)};
        struct pollfd one = {.fd = pipe_fds[0], .events = POLLIN};
        (void)ppoll(&one, 1, end_ns == UINT64_MAX ? NULL : &left, NULL);
    }
}
