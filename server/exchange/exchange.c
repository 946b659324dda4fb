#include "server/exchange/exchange.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

#include "base/check.h"
#include "base/clock.h"

enum { REPLY_BODY_MAX = 1 << 30 };

/* Ids are unique, not secret: a random start and a counter, mixed by splitmix64's finalizer. */
static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static void write_hex(char *out, uint64_t value)
{
    for (int shift = 60; shift >= 0; shift -= 4) {
        *out++ = "0123456789abcdef"[value >> shift & 15];
    }
}

static void make_request_id(char out[REQUEST_ID_MAX + 1])
{
    static atomic_uint_fast64_t next;
    uint64_t n = atomic_fetch_add_explicit(&next, 1, memory_order_relaxed);
    static atomic_uint_fast64_t seed;
    uint64_t start = atomic_load_explicit(&seed, memory_order_relaxed);
    if (start == 0) {
        uint64_t random;
        if (getrandom(&random, sizeof random, GRND_NONBLOCK) != sizeof random) {
            random = clock_wall_ns();
        }
        uint64_t unset = 0;
        start = atomic_compare_exchange_strong(&seed, &unset, random | 1) ? random | 1 : unset;
    }
    write_hex(out, mix(start));
    write_hex(out + 16, mix(start + n * 0x9e3779b97f4a7c15u));
    out[32] = '\0';
}

struct exchange *exchange_create(struct server *server, const char *target)
{
    struct exchange *x = calloc(1, sizeof *x);
    if (!x) {
        return NULL;
    }
    x->server = server;
    x->arrived_ns = clock_now_ns();
    x->method_name = "";
    x->label = ROUTE_OTHER;
    x->path = "";
    x->timeout_ms = server->settings->request_timeout_ms;
    buf_init(&x->body, 0);
    buf_init(&x->reply.body, REPLY_BODY_MAX);
    make_request_id(x->request_id);
    const char *query = strchr(target, '?');
    if (query) {
        x->query_long = strlen(query + 1) > QUERY_MAX;
        (void)snprintf(x->query, sizeof x->query, "%s", x->query_long ? "" : query + 1);
    }
    return x;
}

void exchange_destroy(struct exchange *x)
{
    if (!x) {
        return;
    }
    if (x->state_free) {
        x->state_free(x->state);
    }
    job_destroy(x->job);
    buf_done(&x->body);
    buf_done(&x->reply.body);
    account_shrink(&x->account, 0);
    free(x);
}

void exchange_again(struct exchange *x)
{
    struct reply *reply = &x->reply;
    x->arrived_ns = clock_now_ns();
    make_request_id(x->request_id);
    buf_clear(&reply->body);
    reply->status = 0;
    reply->fixed = NULL;
    reply->n_headers = 0;
    reply->text_size = 0;
    x->problem = PROBLEM_NONE;
    x->queued = false;
}

/* RFC 9110: a field name is a token, a value has no controls but tabs. */
static bool header_ok(const char *name, const char *value)
{
    static const char token[] = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
                                "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    if (!*name || strspn(name, token) != strlen(name)) {
        return false;
    }
    for (const unsigned char *at = (const unsigned char *)value; *at; at++) {
        if ((*at < ' ' && *at != '\t') || *at == 0x7f) {
            return false;
        }
    }
    return true;
}

static void take_forwarded(struct request_headers *headers, const char *value)
{
    if (headers->n_forwarded == FORWARDED_LINES_MAX) {
        memmove(&headers->forwarded_for[0], &headers->forwarded_for[1],
                (FORWARDED_LINES_MAX - 1) * sizeof headers->forwarded_for[0]);
        headers->n_forwarded--;
    }
    headers->forwarded_for[headers->n_forwarded++] = value;
}

/* RFC 9110 section 5.5: white space behind a value is no part of it, but libmicrohttpd leaves it
 * there. What finds no room stays as it is. */
static const char *without_space(struct request_headers *headers, const char *value)
{
    size_t size = strlen(value);
    size_t kept = size;
    while (kept && (value[kept - 1] == ' ' || value[kept - 1] == '\t')) {
        kept--;
    }
    if (kept == size || kept >= sizeof headers->trimmed - headers->trimmed_size) {
        return value;
    }
    char *copy = headers->trimmed + headers->trimmed_size;
    memcpy(copy, value, kept);
    copy[kept] = '\0';
    headers->trimmed_size += kept + 1;
    return copy;
}

void exchange_take_header(struct exchange *x, const char *name, const char *value)
{
    struct request_headers *headers = &x->headers;
    const struct {
        const char *name;
        const char **slot;
        bool once;  /* two of them make framing, identity or what is asked ambiguous */
        bool exact; /* framing: what isn't plain is refused, not understood */
    } known[] = {
        {"Host", &headers->host, true, true},
        {"Content-Length", &headers->content_length, true, true},
        {"Transfer-Encoding", &headers->transfer_encoding, true, true},
        {"Authorization", &headers->authorization, true, false},
        {"Content-Type", &headers->content_type, true, false},
        {"Content-Encoding", &headers->content_encoding, true, false},
        {"Expect", &headers->expect, false, false},
        {"Origin", &headers->origin, false, false},
        {"Access-Control-Request-Headers", &headers->request_headers, false, false},
        {"X-Request-Id", &headers->request_id, false, false},
        {"X-Request-Timeout-Ms", &headers->timeout_ms, true, false},
        {"If-Match", &headers->if_match, true, false},
        {"If-Embedding-Space", &headers->if_space, true, false},
        {"If-None-Match", &headers->if_none_match, false, false},
        {"traceparent", &headers->traceparent, false, false},
    };
    if (!header_ok(name, value)) {
        headers->malformed = true;
    }
    if (strcasecmp(name, "Accept") == 0) {
        accept_take(&headers->accept, value);
    } else if (strcasecmp(name, "Accept-Encoding") == 0) {
        accept_take_codings(&headers->accept, value);
    } else if (strcasecmp(name, "X-Forwarded-For") == 0) {
        take_forwarded(headers, value);
    }
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcasecmp(name, known[i].name) != 0) {
            continue;
        }
        if (!*known[i].slot) {
            *known[i].slot = known[i].exact ? value : without_space(headers, value);
        } else if (known[i].once) {
            headers->repeated = known[i].name;
        }
        return;
    }
}

size_t exchange_query(const struct exchange *x, const char *name, char *out, size_t out_size)
{
    size_t name_size = strlen(name);
    size_t found = 0;
    *out = '\0';
    for (const char *at = x->query; *at;) {
        size_t size = strcspn(at, "&");
        if (size >= name_size && strncmp(at, name, name_size) == 0 &&
            (size == name_size || at[name_size] == '=')) {
            size_t skip = size == name_size ? name_size : name_size + 1;
            (void)snprintf(out, out_size, "%.*s", (int)(size - skip), at + skip);
            found++;
        }
        at += size + (at[size] == '&');
    }
    return found;
}

void exchange_header(struct exchange *x, const char *name, const char *fmt, ...)
{
    struct reply *reply = &x->reply;
    CHECK(reply->n_headers < REPLY_HEADERS_MAX);
    char *value = reply->text + reply->text_size;
    size_t room = sizeof reply->text - reply->text_size;
    va_list args;
    va_start(args, fmt);
    int size = vsnprintf(value, room, fmt, args);
    va_end(args);
    CHECK(size >= 0 && (size_t)size < room);
    reply->text_size += (size_t)size + 1;
    reply->headers[reply->n_headers++] = (struct reply_header){name, value};
}

void exchange_reply(struct exchange *x, int status, const char *content_type)
{
    CHECK(!exchange_replied(x));
    x->reply.content_type = content_type;
    x->reply.status = status;
    if (buf_failed(&x->reply.body)) {
        x->reply.status = 0;
        buf_clear(&x->reply.body);
        exchange_fail(x, PROBLEM_INTERNAL, NULL, "no memory for the answer");
    }
}

void exchange_reply_fixed(struct exchange *x, int status, const char *content_type,
                          const void *data, size_t size)
{
    CHECK(!exchange_replied(x));
    x->reply.content_type = content_type;
    x->reply.status = status;
    x->reply.fixed = data;
    x->reply.fixed_size = size;
}

void exchange_problem(struct exchange *x, const struct problem *problem, unsigned retry_after_s)
{
    CHECK(!exchange_replied(x) && problem->kind != PROBLEM_NONE);
    int status = x->openai ? problem_openai_status(problem->kind)
                           : problem_row(problem->kind)->status;
    x->problem = problem->kind;
    buf_clear(&x->reply.body);
    if (x->openai) {
        problem_write_openai(problem, &x->reply.body);
    } else {
        problem_write(problem, x->request_id, &x->reply.body);
    }
    if (retry_after_s) {
        exchange_header(x, "Retry-After", "%u", retry_after_s);
        x->retry_after_s = retry_after_s;
    }
    if (status == 401) {
        exchange_header(x, "WWW-Authenticate", "Bearer");
    }
    x->reply.content_type = "application/json";
    x->reply.status = status;
    if (buf_failed(&x->reply.body)) {
        /* Words that need no memory. */
        static const char plain[] = "{\"error\":\"out of memory\",\"error_type\":\"Backend\","
                                    "\"code\":\"internal\",\"param\":null}";
        static const char openai[] = "{\"error\":{\"message\":\"out of memory\","
                                     "\"type\":\"server_error\",\"param\":null,"
                                     "\"code\":\"internal\"}}";
        buf_done(&x->reply.body);
        x->problem = PROBLEM_INTERNAL;
        x->reply.status = 0;
        exchange_reply_fixed(x, 500, "application/json", x->openai ? openai : plain,
                             (x->openai ? sizeof openai : sizeof plain) - 1);
    }
}

void exchange_fail(struct exchange *x, enum problem_kind kind, const char *param, const char *fmt,
                   ...)
{
    struct problem problem = {0};
    char text[sizeof problem.text];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    (void)problem_set(&problem, kind, param, "%s", text);
    bool later = kind == PROBLEM_NOT_READY || kind == PROBLEM_DRAINING ||
                 kind == PROBLEM_OVERLOADED;
    exchange_problem(x, &problem, later ? 1 : 0);
}

void exchange_resume(struct exchange *x)
{
    x->resume(x);
}
