/* Listening sockets: HOST:PORT, [v6]:PORT or unix:/path. Made and bound here, so that the daemon
 * decides about address reuse, stale socket files and the moment it stops accepting. */
#ifndef ORTHRUS_SERVER_LISTEN_H
#define ORTHRUS_SERVER_LISTEN_H

#include <sys/stat.h>

#include "base/err.h"

/* Process lifetime. */
struct listen_socket {
    int fd;            /* -1: closed */
    char address[128]; /* as bound: "127.0.0.1:40123", "[::1]:8080", "unix:/path" */
    char path[108];    /* of a unix socket, else "" */
    dev_t device;      /* which file we made, so that we unlink no other */
    ino_t inode;
};

/* Binds and listens, non-blocking. Port 0 picks a free one. A unix socket file that nobody listens
 * on is replaced; its mode is 0660. Errors (ERR_USAGE, ERR_IO, ERR_CONFLICT for an address in use)
 * name the text. */
CHECK_RESULT enum err_code listen_open(const char *text, struct listen_socket *ret_socket,
                                       struct err *err);
/* Stops listening and removes the socket's file. Closed sockets are fine. */
void listen_close(struct listen_socket *socket);

#endif
