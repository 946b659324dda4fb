#include "server/exchange/proxies.h"

#include <arpa/inet.h>
#include <string.h>

enum { ADDRESS_MAX = INET6_ADDRSTRLEN, V4_BITS_BEFORE = 96 };

/* An address of either family as 16 bytes; *ret_v4 tells which it was. */
static bool parse_address(const char *text, unsigned char out[16], bool *ret_v4)
{
    static const unsigned char mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    struct in_addr v4;
    struct in6_addr v6;
    *ret_v4 = inet_pton(AF_INET, text, &v4) == 1;
    if (*ret_v4) {
        memcpy(out, mapped, sizeof mapped);
        memcpy(out + sizeof mapped, &v4, sizeof v4);
        return true;
    }
    if (inet_pton(AF_INET6, text, &v6) != 1) {
        return false;
    }
    memcpy(out, &v6, sizeof v6);
    return true;
}

/* "24" of "192.0.2.0/24", at most `most`. */
static bool parse_bits(const char *text, unsigned most, unsigned *ret)
{
    size_t size = strlen(text);
    if (size < 1 || size > 3 || strspn(text, "0123456789") != size) {
        return false;
    }
    unsigned bits = 0;
    for (const char *at = text; *at; at++) {
        bits = bits * 10 + (unsigned)(*at - '0');
    }
    *ret = bits;
    return bits <= most;
}

static bool parse_network(const char *text, size_t size, struct proxy_network *ret)
{
    char address[ADDRESS_MAX + 4];
    bool v4;
    if (size >= sizeof address) {
        return false;
    }
    memcpy(address, text, size);
    address[size] = '\0';
    char *slash = strchr(address, '/');
    if (slash) {
        *slash = '\0';
    }
    if (!parse_address(address, ret->address, &v4)) {
        return false;
    }
    unsigned most = v4 ? 32 : 128;
    ret->bits = most;
    if (slash && !parse_bits(slash + 1, most, &ret->bits)) {
        return false;
    }
    ret->bits += v4 ? V4_BITS_BEFORE : 0;
    return true;
}

enum err_code proxies_parse(const char *list, struct proxies *ret, struct err *err)
{
    struct proxies proxies = {.n = 0};
    for (const char *at = list; at && *at;) {
        size_t size = strcspn(at, ",");
        if (size == 4 && memcmp(at, "unix", 4) == 0) {
            proxies.unix_peers = true;
        } else if (proxies.n == PROXIES_MAX) {
            return err_set(err, ERR_USAGE, "--trusted-proxies: at most %d networks are allowed",
                           PROXIES_MAX);
        } else if (!parse_network(at, size, &proxies.network[proxies.n++])) {
            return err_set(err, ERR_USAGE,
                           "--trusted-proxies: addresses or networks like 10.0.0.0/8,fd00::/8, or "
                           "unix, are allowed");
        }
        at += size + (at[size] == ',');
    }
    *ret = proxies;
    return ERR_OK;
}

static bool within(const struct proxy_network *network, const unsigned char address[16])
{
    unsigned whole = network->bits / 8;
    unsigned rest = network->bits % 8;
    if (memcmp(network->address, address, whole) != 0) {
        return false;
    }
    return rest == 0 || (network->address[whole] ^ address[whole]) >> (8 - rest) == 0;
}

bool proxies_trust(const struct proxies *proxies, const char *remote)
{
    if (strcmp(remote, "unix") == 0) {
        return proxies->unix_peers;
    }
    char text[ADDRESS_MAX + 1];
    unsigned char address[16];
    bool v4;
    const char *from = remote + (*remote == '[');
    const char *end = *remote == '[' ? strchr(from, ']') : strrchr(from, ':');
    if (proxies->n == 0 || !end || (size_t)(end - from) >= sizeof text) {
        return false;
    }
    memcpy(text, from, (size_t)(end - from));
    text[end - from] = '\0';
    if (!parse_address(text, address, &v4)) {
        return false;
    }
    for (size_t i = 0; i < proxies->n; i++) {
        if (within(&proxies->network[i], address)) {
            return true;
        }
    }
    return false;
}
