/* The fortified headers would make an inline function of the name that is defined here. */
#undef _FORTIFY_SOURCE

#include "server/http/tap.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "server/http/connections.h"

/* Process lifetime: recv() is told nothing but the descriptor. */
static _Atomic(struct conn *) *watched; /* [n_watched], by descriptor */
static size_t n_watched;

enum err_code tap_init(size_t descriptors, struct err *err)
{
    watched = calloc(descriptors, sizeof *watched);
    if (!watched) {
        return err_nomem(err, descriptors * sizeof *watched);
    }
    n_watched = descriptors;
    return ERR_OK;
}

void tap_done(void)
{
    n_watched = 0;
    free(watched);
    watched = NULL;
}

void tap_watch(int fd, struct conn *conn)
{
    if (fd >= 0 && (size_t)fd < n_watched) {
        atomic_store_explicit(&watched[fd], conn, memory_order_release);
    }
}

/* Tells the connection what has come; what the library is to see of it. */
static ssize_t take(struct conn *conn, const char *bytes, ssize_t got)
{
    struct framing *framing = &conn->framing;
    bool fresh = framing->state == FRAMING_BETWEEN;
    if (framing->begun == 0 && framing_begins_tls(bytes, (size_t)got)) {
        framing->tls = true;
        return 0; /* as if the client had left: no request can come of it */
    }
    framing_feed(framing, bytes, (size_t)got);
    repeat_see(conn, fresh, bytes, (size_t)got);
    return got;
}

/* The library's, as far as the program is concerned: recvfrom() without an address is the same. */
__attribute__((visibility("default"), used)) ssize_t recv(int fd, void *buffer, size_t size,
                                                          int flags)
{
    struct conn *conn = NULL;
    if (!(flags & MSG_PEEK) && fd >= 0 && (size_t)fd < n_watched) {
        conn = atomic_load_explicit(&watched[fd], memory_order_acquire);
    }
    if (conn && (conn->answering || !repeat_may_read(conn))) {
        errno = EAGAIN;
        return -1;
    }
    ssize_t got = recvfrom(fd, buffer, size, flags, NULL, NULL);
    return conn && got > 0 ? take(conn, buffer, got) : got;
}
