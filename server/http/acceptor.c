#include "server/http/acceptor.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"

enum {
    SOCKETS = 2,
    ROUND_MAX = 64,   /* connections of one listener before the other has its turn */
    LAST_MAX = 65536, /* of each, when it is time to stop: more than a backlog holds */
    PAUSE_MS = 100,   /* when no descriptors are left: until one of ours ends */
    MOMENT_MS = 1,    /* while connections end for newcomers */
};

struct acceptor {
    struct http *http;
    struct listen_socket *sockets[SOCKETS]; /* main, admin */
    int stop_fd;                            /* readable when it is time to stop */
    pthread_t thread;
};

/* How it went with the connections of one listener. */
enum accepted { ACCEPTED, ACCEPT_LATER, ACCEPT_EXHAUSTED /* no descriptor or memory is left */ };

static enum accepted accept_some(struct acceptor *acceptor, size_t which, unsigned most)
{
    enum listener listener = which == 0 ? LISTENER_MAIN : LISTENER_ADMIN;
    int listening = acceptor->sockets[which]->fd;
    for (unsigned i = 0; listening >= 0 && i < most; i++) {
        struct sockaddr_storage address;
        socklen_t size = sizeof address;
        if (!http_ready(acceptor->http, listener)) {
            return ACCEPT_LATER;
        }
        int fd = accept4(listening, (struct sockaddr *)&address, &size,
                         SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            http_accept(acceptor->http, listener, fd, (struct sockaddr *)&address, size);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            return ACCEPT_EXHAUSTED;
        } else if (errno != EINTR && errno != ECONNABORTED) {
            break; /* nobody waits, or an error of one connection: poll tells what is left */
        }
    }
    return ACCEPTED;
}

/* Accepts what waits; false when it is time to stop. *ret_pause_ms: how long to leave the rest
 * where it is. */
static bool accept_round(struct acceptor *acceptor, bool *warned, int *ret_pause_ms)
{
    struct pollfd fds[SOCKETS + 1] = {{.fd = acceptor->stop_fd, .events = POLLIN}};
    *ret_pause_ms = 0;
    for (size_t i = 0; i < SOCKETS; i++) {
        fds[i + 1] = (struct pollfd){.fd = acceptor->sockets[i]->fd, .events = POLLIN};
    }
    if (poll(fds, SOCKETS + 1, -1) < 0) {
        return true;
    }
    bool stopping = fds[0].revents != 0;
    for (size_t i = 0; i < SOCKETS; i++) {
        if (!fds[i + 1].revents && !stopping) {
            continue;
        }
        enum accepted how = accept_some(acceptor, i, stopping ? LAST_MAX : ROUND_MAX);
        if (how == ACCEPT_EXHAUSTED && !*warned) {
            *warned = true;
            LOG(LOG_WARN, "no descriptors left for connections; raise the limit (ulimit -n)");
        }
        if (how != ACCEPTED && *ret_pause_ms < PAUSE_MS) {
            *ret_pause_ms = how == ACCEPT_EXHAUSTED ? PAUSE_MS : MOMENT_MS;
        }
    }
    return !stopping;
}

static void *run(void *argument)
{
    struct acceptor *acceptor = argument;
    bool warned = false;
    int pause_ms;
    (void)pthread_setname_np(pthread_self(), "acceptor");
    while (accept_round(acceptor, &warned, &pause_ms)) {
        if (pause_ms) {
            struct pollfd stop = {.fd = acceptor->stop_fd, .events = POLLIN};
            (void)poll(&stop, 1, pause_ms);
        }
    }
    for (size_t i = 0; i < SOCKETS; i++) {
        listen_close(acceptor->sockets[i]);
    }
    return NULL;
}

enum err_code acceptor_create(struct http *http, struct listen_socket *main,
                              struct listen_socket *admin, struct acceptor **ret_acceptor,
                              struct err *err)
{
    struct acceptor *acceptor = calloc(1, sizeof *acceptor);
    if (!acceptor) {
        return err_nomem(err, sizeof *acceptor);
    }
    acceptor->http = http;
    acceptor->sockets[0] = main;
    acceptor->sockets[1] = admin;
    acceptor->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int failed = acceptor->stop_fd < 0 ? errno
                                       : pthread_create(&acceptor->thread, NULL, run, acceptor);
    if (failed) {
        if (acceptor->stop_fd >= 0) {
            (void)close(acceptor->stop_fd);
        }
        free(acceptor);
        return err_set_errno(err, ERR_IO, failed, "acceptor");
    }
    *ret_acceptor = acceptor;
    return ERR_OK;
}

void acceptor_destroy(struct acceptor *acceptor)
{
    if (!acceptor) {
        return;
    }
    uint64_t one = 1;
    (void)!write(acceptor->stop_fd, &one, sizeof one);
    (void)pthread_join(acceptor->thread, NULL);
    (void)close(acceptor->stop_fd);
    free(acceptor);
}
