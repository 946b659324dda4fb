/* Connections that were accepted and that libmicrohttpd has not begun yet. It has no way to say
 * that it gave one up (its I/O thread has no memory for it and closes the socket), so that such a
 * one would count for ever: the socket behind the descriptor tells. Guarded by its owner's lock,
 * the reaper's. */
#ifndef ORTHRUS_SERVER_ARRIVALS_H
#define ORTHRUS_SERVER_ARRIVALS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/exchange/exchange.h"

struct arrival;

/* Zeroed: none. */
struct arrivals {
    struct arrival *first; /* owned */
    size_t main, admin;    /* how many by listener */
};

void arrivals_done(struct arrivals *arrivals);
/* Notes a connection. One of the same descriptor must have been given up. False when memory is
 * out. */
bool arrivals_add(struct arrivals *arrivals, int fd, enum listener listener, uint64_t now_ns);
/* The connection has begun, or was taken back. */
void arrivals_remove(struct arrivals *arrivals, int fd);
/* Forgets those whose socket is gone. */
void arrivals_forget_lost(struct arrivals *arrivals, uint64_t now_ns);
size_t arrivals_count(const struct arrivals *arrivals, enum listener listener);

#endif
