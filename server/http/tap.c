/* The fortified headers would make an inline function of the name that is defined here. */
#undef _FORTIFY_SOURCE

#include "server/http/tap.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>

/* Process lifetime: recv() is told nothing but the descriptor. */
static _Atomic(struct framing *) *watched; /* [n_watched], by descriptor */
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

void tap_watch(int fd, struct framing *framing)
{
    if (fd >= 0 && (size_t)fd < n_watched) {
        atomic_store_explicit(&watched[fd], framing, memory_order_release);
    }
}

/* The library's, as far as the program is concerned: recvfrom() without an address is the same. */
__attribute__((visibility("default"), used)) ssize_t recv(int fd, void *buffer, size_t size,
                                                          int flags)
{
    ssize_t got = recvfrom(fd, buffer, size, flags, NULL, NULL);
    if (got > 0 && !(flags & MSG_PEEK) && fd >= 0 && (size_t)fd < n_watched) {
        struct framing *framing = atomic_load_explicit(&watched[fd], memory_order_acquire);
        if (framing && framing->begun == 0 && framing_begins_tls(buffer, (size_t)got)) {
            framing->tls = true;
            return 0; /* as if the client had left: no request can come of it */
        }
        if (framing) {
            framing_feed(framing, buffer, (size_t)got);
        }
    }
    return got;
}
