/* The same request again, of a client that does not wait as it was told: it is read late, and
 * refused without libmicrohttpd. A thousand such clients are refused four thousand times a second;
 * most of that was the way of each request to the library and of its answer back.
 *
 * A connection whose last request was refused late, before its body, sleeps: its socket's low-water
 * mark is raised, so that its next request wakes nobody. When that one's refusal would be due, the
 * reaper looks what has come, and refuses it on the spot where nothing is left to decide: it has
 * come alone and whole, has the same head to the byte but for Content-Length's number; no keys were
 * reloaded; and the route's begin refuses it again, in its own words. Then the connection sleeps
 * on. Whatever else there is (nothing, another request, room for it) is left to the library: the
 * mark is set back, and the connection is awake. So it is at the end of the stream, which wakes the
 * I/O thread whatever the mark, and after so many refusals in a row.
 *
 * When a request came that lay unread is not known: its time counts from the refusal before it, and
 * how late it is refused, too, where the library does it.
 *
 * In a connection's record: its I/O thread's, and the reaper's, under its lock, while it sleeps;
 * zeroed at its birth. */
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
    bool sleeps;  /* it was put to sleep; the I/O thread's */
    unsigned row; /* refused so in a row */
    /* It was woken for what lay unread, since this at the earliest; 0: not, or refused by now. */
    uint64_t unread_since_ns;
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

/* What the reaper found when it looked at a sleeping connection. */
enum repeat_look {
    REPEAT_REFUSED, /* a request, now refused: it sleeps on */
    REPEAT_ROOM,    /* a request that would not be refused */
    REPEAT_OTHER,
};

/* Before the library reads from the connection. False: it sleeps, and nothing has come that could
 * wake it. */
bool repeat_may_read(struct conn *conn);
/* These bytes go to the library, and the framing was told; `fresh`: it was between requests before.
 */
void repeat_see(struct conn *conn, bool fresh, const char *bytes, size_t size);
/* x is over. True where it is kept, and belongs to the connection from now on, which sleeps. */
bool repeat_keep(struct conn *conn, struct reaper *reaper, struct exchange *x);
/* The connection ends: what is kept is freed. */
void repeat_done(struct conn *conn);

/* The reaper's, under its lock, of a sleeping connection. Looks what has come; *ret_next_ns, where
 * it was refused: when to look again. */
enum repeat_look repeat_look(struct conn *conn, uint64_t *ret_next_ns);
/* It sleeps no longer: what has come, or comes, wakes its I/O thread. */
void repeat_wake(const struct conn *conn);

#endif
