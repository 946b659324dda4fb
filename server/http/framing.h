/* A second reader of every request: is its framing plain, so that no other party on the way can
 * have seen another end of it?
 *
 * libmicrohttpd 0.9.75 forgives what proxies read differently, and its API does not show all of it:
 * a folded line goes into a header's name, a line ": y" ends the header section, NUL ends a value,
 * a bare LF ends a line or a chunk. So the bytes are looked at before it gets them (tap.h), and
 * whatever is not exactly
 *
 *   method SP target SP HTTP/1.x CRLF *( name ":" OWS value OWS CRLF ) CRLF [Content-Length bytes]
 *
 * makes the request and all behind it doubtful: it is answered as the library read it, and the
 * connection is closed. So does Transfer-Encoding, and a header whose name begins like one of the
 * two that frame. Grammar: RFC 9112 sections 2 to 6, RFC 9110 section 5.
 *
 * NUL is looked for in a doubtful header section, too: the library ends a path and a value there,
 * so what it serves would not be what was asked for (RFC 9110 section 5.5).
 *
 * Pure: no sockets, no memory. Lives in a connection's record, one thread at a time. */
#ifndef ORTHRUS_SERVER_FRAMING_H
#define ORTHRUS_SERVER_FRAMING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { FRAMING_NAME_MAX = 20 };

enum framing_state {
    FRAMING_BETWEEN, /* before a request's first byte */
    FRAMING_METHOD,
    FRAMING_TARGET,
    FRAMING_VERSION,
    FRAMING_NAME_FIRST, /* a header's first byte, or the empty line */
    FRAMING_NAME,
    FRAMING_VALUE,
    FRAMING_LINE_LF,
    FRAMING_LAST_LF,
    FRAMING_BODY,
    FRAMING_HEAD_DOUBT, /* up to an empty line, nothing but NUL is looked for */
    FRAMING_DOUBT,      /* nothing from here on is looked at */
};

/* Zeroed: a connection's beginning. Lifetime: the connection's. */
struct framing {
    enum framing_state state;
    uint64_t begun;              /* requests whose first byte was seen */
    size_t at;                   /* bytes of the method, target, version, name or value so far; in
                                  * doubt, of the line */
    char name[FRAMING_NAME_MAX]; /* of this header, lower case; what is longer is cut */
    bool length_here;            /* this header is Content-Length */
    bool length_seen;            /* this request has one */
    uint64_t body_left;
    bool line_seen; /* in doubt: a line that is not empty is over */
    bool nul;       /* the doubtful header section holds NUL */
    bool tls;       /* the connection began with a TLS handshake */
};

/* Takes the next bytes of the connection, in any pieces. */
void framing_feed(struct framing *framing, const void *bytes, size_t size);

/* Whether a connection's first bytes begin a TLS handshake (RFC 8446 section 5.1). */
bool framing_begins_tls(const void *bytes, size_t size);

/* Whether the connection's request of this number (from 1), whose header section has been fed, is
 * plain. */
bool framing_plain(const struct framing *framing, uint64_t request);

/* Whether its header section holds NUL. */
bool framing_nul(const struct framing *framing, uint64_t request);

#endif
