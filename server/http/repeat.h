/* The same request again, of a client that does not wait as it was told: refused without
 * libmicrohttpd. A thousand such clients are refused four thousand times a second, and most of that
 * was the library's way of keeping an answer back: parse, suspend, resume, clear its memory.
 *
 * It is a short way to the same answer, and is taken only where nothing is left to decide: the
 * connection's last request went the long way and was refused late, before its body; this one has
 * come alone and whole, is plain (framing.h), has the same head to the byte but for
 * Content-Length's number; no keys were reloaded; and the route's begin refuses it again, in its
 * own words. tap.c then keeps its bytes from the library. Whatever differs, and every so many of
 * them, goes the long way.
 *
 * While a refusal is kept back nothing should come. What comes all the same (a second request, the
 * end) sends it off at once, so that answers keep their order, and the connection goes the long way
 * from then on.
 *
 * In a connection's record, its I/O thread's; zeroed at its birth. */
#ifndef ORTHRUS_SERVER_REPEAT_H
#define ORTHRUS_SERVER_REPEAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct conn;
struct exchange;
struct reaper;

struct repeat {
    bool armed;   /* the next refusal comes late: heads are kept */
    bool waiting; /* a refusal was handed to the reaper */
    bool off;     /* something came while one was kept back */
    unsigned row; /* refused so in a row */
    /* Of the request with this number on the connection. */
    uint64_t number;
    char *head; /* [head_size]; NULL: none */
    size_t head_size;
    size_t number_at, number_size; /* Content-Length's in it */
    /* That request, once it was refused late; owned, and used again for each that repeats it. NULL:
     * none. */
    struct exchange *last;
    char *path; /* what last's path points to */
    struct reaper *reaper;
};

/* Before more is read of the connection: a refusal that is still kept back goes out. */
void repeat_make_way(struct conn *conn);
/* These bytes have come, and the framing was told; `fresh`: it was between requests before. True
 * where they are a request that is refused here: the library shall not see them. */
bool repeat_take(struct conn *conn, bool fresh, const char *bytes, size_t size);
/* x is over. True where it is kept, and belongs to the connection from now on. */
bool repeat_keep(struct conn *conn, struct reaper *reaper, struct exchange *x);
/* The connection ends: what is kept back goes out, what is kept is freed. */
void repeat_done(struct conn *conn);

#endif
