#include "server/notify.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

/* "/path", or "@name" in the abstract namespace. 0 where it is neither or too long. */
static socklen_t take_address(const char *name, struct sockaddr_un *ret)
{
    size_t size = strlen(name);
    *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
    if ((*name != '/' && *name != '@') || size < 2 || size >= sizeof ret->sun_path) {
        return 0;
    }
    memcpy(ret->sun_path, name, size);
    if (*name == '@') {
        ret->sun_path[0] = '\0';
        return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size);
    }
    return (socklen_t)sizeof *ret;
}

void notify_send(const char *state)
{
    const char *name = getenv("NOTIFY_SOCKET");
    if (!name || !*name) {
        return;
    }
    struct sockaddr_un address;
    socklen_t size = take_address(name, &address);
    if (size == 0) {
        LOG(LOG_WARN, "NOTIFY_SOCKET: a path, or @ and a name, of a datagram socket is allowed");
        return;
    }
    /* A manager that does not read must not hold us up. */
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 ||
        sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&address, size) < 0) {
        LOG(LOG_WARN, "the service manager was not told", LOG_S("state", state),
            LOG_S("error", strerrorname_np(errno)));
    }
    if (fd >= 0) {
        (void)close(fd);
    }
}

void notify_reloading(void)
{
    char state[64];
    (void)snprintf(state, sizeof state, "RELOADING=1\nMONOTONIC_USEC=%llu",
                   (unsigned long long)(clock_now_ns() / NS_PER_US));
    notify_send(state);
}
