#include "server/http/arrivals.h"

#include <stdlib.h>
#include <sys/stat.h>

#include "base/clock.h"

/* Nobody waits so long for a thread that only has to take it from a list. */
enum { LOOK_AFTER_MS = 1000 };

struct arrival {
    struct arrival *next;
    int fd;
    ino_t socket; /* each socket has a number of its own */
    enum listener listener;
    uint64_t at_ns;
};

/* The number of the socket behind a descriptor; 0: there is none. */
static ino_t socket_of(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode) ? st.st_ino : 0;
}

static size_t *tally_of(struct arrivals *arrivals, enum listener listener)
{
    return listener == LISTENER_ADMIN ? &arrivals->admin : &arrivals->main;
}

static void remove_at(struct arrivals *arrivals, struct arrival **link)
{
    struct arrival *arrival = *link;
    *link = arrival->next;
    *tally_of(arrivals, arrival->listener) -= 1;
    free(arrival);
}

void arrivals_done(struct arrivals *arrivals)
{
    while (arrivals->first) {
        remove_at(arrivals, &arrivals->first);
    }
}

bool arrivals_add(struct arrivals *arrivals, int fd, enum listener listener, uint64_t now_ns)
{
    arrivals_remove(arrivals, fd);
    struct arrival *arrival = malloc(sizeof *arrival);
    if (!arrival) {
        return false;
    }
    *arrival = (struct arrival){arrivals->first, fd, socket_of(fd), listener, now_ns};
    arrivals->first = arrival;
    *tally_of(arrivals, listener) += 1;
    return true;
}

void arrivals_remove(struct arrivals *arrivals, int fd)
{
    for (struct arrival **link = &arrivals->first; *link; link = &(*link)->next) {
        if ((*link)->fd == fd) {
            remove_at(arrivals, link);
            return;
        }
    }
}

void arrivals_forget_lost(struct arrivals *arrivals, uint64_t now_ns)
{
    struct arrival **link = &arrivals->first;
    while (*link) {
        const struct arrival *arrival = *link;
        if (now_ns - arrival->at_ns > LOOK_AFTER_MS * NS_PER_MS &&
            socket_of(arrival->fd) != arrival->socket) {
            remove_at(arrivals, link);
        } else {
            link = &(*link)->next;
        }
    }
}

size_t arrivals_count(const struct arrivals *arrivals, enum listener listener)
{
    return listener == LISTENER_ADMIN ? arrivals->admin : arrivals->main;
}
