/* Which peers may say for whom they ask: the networks of --trusted-proxies. What they send as
 * X-Forwarded-For goes into the log; nobody else's does. Constant once the server runs. */
#ifndef ORTHRUS_SERVER_PROXIES_H
#define ORTHRUS_SERVER_PROXIES_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

enum { PROXIES_MAX = 64 };

/* One network. IPv4 is kept as IPv6 that maps it (::ffff:0:0/96). */
struct proxy_network {
    unsigned char address[16];
    unsigned bits; /* of the prefix */
};

struct proxies {
    struct proxy_network network[PROXIES_MAX];
    size_t n;
    bool unix_peers; /* whoever comes over a Unix socket */
};

/* Reads "10.0.0.0/8,192.0.2.7,fd00::/8,unix"; NULL is none. ERR_USAGE says what is allowed. */
CHECK_RESULT enum err_code proxies_parse(const char *list, struct proxies *ret, struct err *err);
/* remote: "192.0.2.1:4711", "[::1]:4711" or "unix", as exchange.h has it. */
bool proxies_trust(const struct proxies *proxies, const char *remote);

#endif
