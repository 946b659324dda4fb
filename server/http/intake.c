#include "server/http/intake.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/size.h"
#include "server/exchange/auth.h"
#include "server/routes/routes.h"

/* Of Access-Control-Request-Headers; a reply's headers have REPLY_HEADER_TEXT_MAX together. */
enum { PREFLIGHT_HEADERS_MAX = 1024 };

#define CURL_HINT                                                              \
    "send the header Content-Type: application/json (curl: -H 'Content-Type: " \
    "application/json')"

/* Anything that another party on the way could read differently ends the connection: what follows
 * on it may be smuggled. */
static void check_framing(struct exchange *x)
{
    const struct request_headers *headers = &x->headers;
    const char *text = NULL;
    if (x->nul) {
        text = "the request line or a header holds a NUL byte";
    } else if (headers->malformed) {
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

/* RFC 9112 section 3.2.2: a target may stand with scheme and authority, as to a proxy. */
static void take_path(struct exchange *x)
{
    static const char *const schemes[] = {"http://", "https://"};
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
        size_t size = strlen(schemes[i]);
        if (strncasecmp(x->path, schemes[i], size) == 0) {
            const char *path = strchr(x->path + size, '/');
            x->path = path ? path : x->method == HTTP_OPTIONS ? "*" : "/";
            return;
        }
    }
}

/* Allows a preflight's headers: those it asks for, so that no client's library has to be known
 * here, or the usual ones. */
static void allow_headers(struct exchange *x)
{
    static const char list[] = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
                               "ABCDEFGHIJKLMNOPQRSTUVWXYZ, \t";
    const char *asked = x->headers.request_headers;
    bool reflect = asked && *asked && strlen(asked) <= PREFLIGHT_HEADERS_MAX &&
                   strspn(asked, list) == strlen(asked);
    exchange_header(x, "Access-Control-Allow-Headers", "%s",
                    reflect
                        ? asked
                        : "Accept, Authorization, Content-Type, If-Embedding-Space, X-Request-Id, "
                          "X-Request-Timeout-Ms, traceparent");
}

/* The contract, which anyone may read, says as much; its address is nobody's business here. */
static bool belongs_to_admin(const struct exchange *x)
{
    const struct route *any;
    return strcmp(x->server->settings->admin_listen, "off") != 0 &&
           (routes_find(LISTENER_ADMIN, x->path, x->method, &any) || any);
}

static void find_route(struct exchange *x)
{
    char allow[64];
    bool preflights = x->server->settings->cors_origin && x->listener == LISTENER_MAIN;
    take_path(x);
    if (x->method == HTTP_OPTIONS && strcmp(x->path, "*") == 0) {
        exchange_header(x, "Allow", "GET, HEAD, POST, %s",
                        x->listener == LISTENER_ADMIN ? "PUT, OPTIONS" : "OPTIONS");
        exchange_reply(x, 204, NULL);
        return;
    }
    x->route = routes_find(x->listener, x->path, x->method, &x->path_route);
    const struct route *route = x->route ? x->route : x->path_route;
    if (route) {
        x->label = route->label;
        x->openai = x->path_route->flags & ROUTE_OPENAI_SHAPE;
    }
    if (x->route) {
        return;
    }
    if (!x->path_route) {
        exchange_fail(x, PROBLEM_ROUTE_UNKNOWN, NULL, "%s",
                      x->listener == LISTENER_ADMIN ? "no such route on the admin listener"
                      : belongs_to_admin(x) ? "this route is on the admin listener (--admin-listen)"
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
        allow_headers(x);
        exchange_header(x, "Access-Control-Max-Age", "600");
    }
    exchange_reply(x, 204, NULL);
}

static void check_key(struct exchange *x)
{
    bool admin = x->route->flags & ROUTE_ADMIN_TOKEN;
    struct keyring *ring = admin ? x->server->admin_tokens : x->server->api_keys;
    x->keys_version = keyring_version(x->server->api_keys);
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

/* "application/json" or another type with JSON's syntax, "application/ld+json"; its end, or NULL.
 */
static const char *json_type_end(const char *type)
{
    static const char prefix[] = "application/";
    static const char suffix[] = "+json";
    size_t size = strcspn(type, "; \t");
    if (strncasecmp(type, prefix, sizeof prefix - 1) != 0) {
        return NULL;
    }
    const char *rest = type + sizeof prefix - 1;
    size_t rest_size = size - (sizeof prefix - 1);
    bool json = (rest_size == 4 && strncasecmp(rest, "json", 4) == 0) ||
                (rest_size > sizeof suffix - 1 &&
                 strncasecmp(type + size - (sizeof suffix - 1), suffix, sizeof suffix - 1) == 0);
    return json ? type + size : NULL;
}

static bool utf8_name(const char *name, size_t size)
{
    if (size >= 2 && name[0] == '"' && name[size - 1] == '"') {
        name++;
        size -= 2;
    }
    return (size == 5 && strncasecmp(name, "utf-8", 5) == 0) ||
           (size == 4 && strncasecmp(name, "utf8", 4) == 0);
}

/* "application/json", "application/json; charset=utf-8"; any case, quotes allowed. */
static bool json_type(const char *type)
{
    static const char charset[] = "charset=";
    const char *at = json_type_end(type);
    if (!at) {
        return false;
    }
    at += strspn(at, " \t");
    while (*at == ';') {
        at += 1 + strspn(at + 1, " \t");
        size_t size = strcspn(at, ";");
        while (size && (at[size - 1] == ' ' || at[size - 1] == '\t')) {
            size--;
        }
        if (strncasecmp(at, "charset", sizeof charset - 2) == 0 &&
            (strncasecmp(at, charset, sizeof charset - 1) != 0 ||
             !utf8_name(at + sizeof charset - 1, size - (sizeof charset - 1)))) {
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
    x->body_max = size_min(x->body_max, account_limit(&x->account));
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
        exchange_fail(x, PROBLEM_OVERLOADED, NULL, PROBLEM_FULL_TEXT);
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
        exchange_header(
            x, "Access-Control-Expose-Headers",
            "Retry-After, Server-Timing, X-Compute-Tokens, X-Embedding-Space, X-Encoder, X-Heads, "
            "X-Request-Id, X-Shape, X-Truncated, X-Windows");
    }
    if (x->server->settings->cors_origin && strcmp(x->server->settings->cors_origin, "*") != 0) {
        exchange_header(x, "Vary", "Origin");
    }
}
