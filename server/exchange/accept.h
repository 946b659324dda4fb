/* Which form of an answer a client would rather have: raw bytes or JSON, by the weights of its
 * Accept header, and plain or gzip, by Accept-Encoding (RFC 9110, sections 12.5.1, 12.5.3). No
 * library, no allocation; a struct belongs to one request. */
#ifndef ORTHRUS_SERVER_ACCEPT_H
#define ORTHRUS_SERVER_ACCEPT_H

#include <stdbool.h>

/* What the header's lines said so far of one media type or coding. Zeroed: nothing. */
struct accept_weight {
    int specificity; /* of the range that spoke last: 0 none, 1 for any, 2 type, 3 type and subtype
                      */
    int thousandths; /* 0 … 1000 */
};

struct accept {
    struct accept_weight octets, json, gzip, identity;
};

/* Takes one Accept line; several lines count as one list. Elements that are not well formed are
 * passed over. */
void accept_take(struct accept *accept, const char *line);
/* True where application/octet-stream weighs more than application/json; without a header, and
 * where both weigh the same, it does not. */
bool accept_octets(const struct accept *accept);
/* The same of Accept-Encoding: true where gzip is named or * stands for it, and it weighs at least
 * what identity does. */
void accept_take_codings(struct accept *accept, const char *line);
bool accept_gzip(const struct accept *accept);

#endif
