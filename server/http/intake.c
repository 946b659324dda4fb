#include "server/http/intake.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "server/exchange/auth.h"
#include "server/routes/routes.h"

#define CURL_HINT                                                              \
    "send the header Content-Type: application/json (curl: -H 'Content-Type: " \
    "application/json')"

/* Anything that another party on the way could read differently ends the connection: what follows
 * on it may be smuggled. */
static void check_framing(struct exchange *x)
{
    const struct request_headers *headers = &x->headers;
    const char *text = NULL;
    if (headers->malformed) {
        text = "a header name or value holds bytes that are not allowed there";
    } else if (!headers->host && !x->http_1_0) {
        text = "HTTP/1.1 needs a Host header";
    } else if (headers->transfer_encoding && headers->content_length) {
        text = "Content-Length and Transfer-Encoding exclude each other";
    } else if (headers->transfer_encoding && x->http_1_0) {
        text = "HTTP/1.0 has no Transfer-Encoding";
    } else if (headers->transfer_encoding &&
               strcasecmp(headers->transfer_encoding, "chunked") != 0) {
        text = "chunked is the only Transfer-Encoding allowed";
    }
    if (headers->repeated) {
        exchange_fail(x, PROBLEM_BAD_FRAMING, NULL, "the header %s may stand only once",
                      headers->repeated);
    } else if (text) {
        exchange_fail(x, PROBLEM_BAD_FRAMING, NULL, "%s", text);
    } else if (x->query_long) {
        exchange_fail(x, PROBLEM_BAD_FRAMING, NULL, "a query of at most %d bytes is allowed",
                      QUERY_MAX);
    }
    x->distrusted = exchange_replied(x);
}

static bool origin_allowed(const struct exchange *x)
{
    const char *allowed = x->server->settings->cors_origin;
    return allowed && x->listener == LISTENER_MAIN && x->headers.origin &&
           (strcmp(allowed, "*") == 0 || strcmp(allowed, x->headers.origin) == 0);
}

static void find_route(struct exchange *x)
{
    char allow[64];
    bool preflights = x->server->settings->cors_origin && x->listener == LISTENER_MAIN;
    x->route = routes_find(x->listener, x->path, x->method, &x->path_route);
    if (x->route) {
        return;
    }
    if (!x->path_route) {
        exchange_fail(x, PROBLEM_ROUTE_UNKNOWN, NULL,
                      x->listener == LISTENER_ADMIN ? "no such route on the admin listener"
                                                    : "no such route; GET /docs lists them");
        return;
    }
    routes_allow(x->listener, x->path, preflights, allow, sizeof allow);
    exchange_header(x, "Allow", "%s", allow);
    if (x->method != HTTP_OPTIONS || !preflights) {
        exchange_fail(x, PROBLEM_METHOD, NULL, "this route allows %s", allow);
        return;
    }
    if (origin_allowed(x)) {
        exchange_header(x, "Access-Control-Allow-Methods", "%s", allow);
        exchange_header(x, "Access-Control-Allow-Headers",
                        "Accept, Authorization, Content-Type, X-Request-Id, X-Request-Timeout-Ms, "
                        "traceparent");
        exchange_header(x, "Access-Control-Max-Age", "600");
    }
    exchange_reply(x, 204, NULL);
}

static void check_key(struct exchange *x)
{
    bool admin = x->route->flags & ROUTE_ADMIN_TOKEN;
    struct keyring *ring = admin ? x->server->admin_tokens : x->server->api_keys;
    if (admin && !ring) {
        exchange_fail(
            x, PROBLEM_ADMIN_DISABLED, NULL,
            "admin routes are off; start with --admin-token-file FILE, a file of id:token "
            "lines with tokens of at least %d bytes",
            AUTH_TOKEN_MIN);
        return;
    }
    if (!ring || !(x->route->flags & (ROUTE_ADMIN_TOKEN | ROUTE_API_KEY))) {
        return;
    }
    switch (keyring_check(ring, x->headers.authorization, x->remote, x->key_id)) {
    case AUTH_OK:
        break;
    case AUTH_MISSING:
        exchange_fail(x, PROBLEM_KEY_MISSING, NULL, "the header Authorization: Bearer %s is needed",
                      admin ? "TOKEN" : "KEY");
        break;
    case AUTH_WRONG:
        exchange_fail(x, PROBLEM_KEY_WRONG, NULL, "the bearer token is not one of those in force");
        break;
    }
}

/* "application/json", "application/json; charset=utf-8"; any case, quotes allowed. */
static bool json_type(const char *type)
{
    static const char json[] = "application/json";
    if (strncasecmp(type, json, sizeof json - 1) != 0) {
        return false;
    }
    const char *at = type + sizeof json - 1;
    at += strspn(at, " \t");
    while (*at == ';') {
        at += 1 + strspn(at + 1, " \t");
        size_t size = strcspn(at, ";");
        while (size && (at[size - 1] == ' ' || at[size - 1] == '\t')) {
            size--;
        }
        bool utf8 = (size == 13 && strncasecmp(at, "charset=utf-8", 13) == 0) ||
                    (size == 15 && strncasecmp(at, "charset=\"utf-8\"", 15) == 0);
        if (strncasecmp(at, "charset", 7) == 0 && !utf8) {
            return false;
        }
        at += strcspn(at, ";");
    }
    return *at == '\0';
}

static void check_body(struct exchange *x)
{
    const struct settings *settings = x->server->settings;
    const char *encoding = x->headers.content_encoding;
    const char *type = x->headers.content_type;
    x->body_max = 0;
    if (!(x->route->flags & ROUTE_BODY)) {
        return;
    }
    x->body_max = x->listener == LISTENER_ADMIN ? settings->admin_max_body_bytes
                                                : settings->max_body_bytes;
    buf_init(&x->body, x->body_max);
    if (encoding && strcasecmp(encoding, "identity") != 0) {
        exchange_fail(x, PROBLEM_ENCODING, NULL,
                      "Content-Encoding is not taken; send the body as it is");
    } else if (x->route->flags & ROUTE_JSON && (!type || !json_type(type))) {
        exchange_fail(x, PROBLEM_NOT_JSON_TYPE, NULL, "the body must be JSON in UTF-8: " CURL_HINT);
    } else if (x->content_length > x->body_max) {
        exchange_fail(x, PROBLEM_BODY_LARGE, NULL, "a body of at most %zu bytes is allowed",
                      x->body_max);
    }
}

static void check_limit(struct exchange *x)
{
    if (!(x->route->flags & ROUTE_PROBE)) {
        exchange_fail(x, PROBLEM_OVERLOADED, NULL,
                      "too many open connections; probes alone are answered on this one");
        x->reply.close = true;
    }
}

/* Echoed if at most REQUEST_ID_MAX printable ASCII characters. */
static void take_request_id(struct exchange *x)
{
    const char *id = x->headers.request_id;
    size_t size = id ? strlen(id) : 0;
    if (size == 0 || size > REQUEST_ID_MAX) {
        return;
    }
    for (size_t i = 0; i < size; i++) {
        if (id[i] < ' ' || id[i] > '~') {
            return;
        }
    }
    memcpy(x->request_id, id, size + 1);
}

void intake_check(struct exchange *x, bool over_limit)
{
    void (*const checks[])(struct exchange *) = {check_framing, find_route, check_key, check_body};
    take_request_id(x);
    x->chunked = x->headers.transfer_encoding != NULL;
    if (x->headers.content_length && !x->chunked) {
        x->content_length = strtoull(x->headers.content_length, NULL, 10);
    }
    for (size_t i = 0; i < sizeof checks / sizeof *checks && !exchange_replied(x); i++) {
        checks[i](x);
        if (checks[i] == find_route && over_limit && !exchange_replied(x)) {
            check_limit(x);
        }
    }
    if (!exchange_replied(x) && x->route->handler->begin) {
        x->route->handler->begin(x);
    }
}

void intake_common_headers(struct exchange *x)
{
    exchange_header(x, "X-Request-Id", "%s", x->request_id);
    if (x->route && x->route->flags & ROUTE_NO_STORE) {
        exchange_header(x, "Cache-Control", "no-store");
    }
    if (origin_allowed(x)) {
        const char *allowed = x->server->settings->cors_origin;
        exchange_header(x, "Access-Control-Allow-Origin", "%s", allowed);
        exchange_header(x, "Access-Control-Expose-Headers",
                        "Retry-After, Server-Timing, X-Compute-Tokens, X-Encoder, X-Heads, "
                        "X-Request-Id, X-Shape, X-Truncated");
    }
    if (x->server->settings->cors_origin && strcmp(x->server->settings->cors_origin, "*") != 0) {
        exchange_header(x, "Vary", "Origin");
    }
}
