/* One request and its reply, as everything but http.c sees them: no library type in sight.
 *
 * The way of an exchange: headers → intake_check (may refuse) → body → handler->run (replies, or
 * waits for another thread) → handler->finish → reply. Where on it an exchange is, its connection
 * knows (http/connections.h). Request lifetime; made and freed by http.c. One thread at a time: an
 * I/O thread, but between handler->submit and exchange_resume the thread that works on it. */
#ifndef ORTHRUS_SERVER_EXCHANGE_H
#define ORTHRUS_SERVER_EXCHANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api/problem.h"
#include "base/buf.h"
#include "server/exchange/accept.h"
#include "server/exchange/auth.h"
#include "server/queue/client_bytes.h"
#include "server/queue/job.h"
#include "server/state.h"

struct conn;
struct exchange;
struct job;
struct route;

enum http_method {
    HTTP_GET,
    HTTP_HEAD,
    HTTP_POST,
    HTTP_PUT,
    HTTP_OPTIONS,
    HTTP_DELETE,
    HTTP_OTHER
};

/* Which listener a connection came in by; bits, because a route may be on both. */
enum listener { LISTENER_MAIN = 1, LISTENER_ADMIN = 2 };

/* Each proxy may add a line of its own; the nearest proxy's is the last. */
enum { FORWARDED_LINES_MAX = 4 };
/* Room for one token and some short values. */
enum { HEADER_TRIMMED_MAX = 640 };

/* Request headers that mean something here; NULL where absent. Borrowed from the connection for the
 * whole exchange. */
struct request_headers {
    const char *host, *content_length, *transfer_encoding, *authorization;
    const char *content_type, *content_encoding, *expect, *origin;
    const char *request_id, *timeout_ms, *if_match, *if_none_match, *traceparent;
    const char *if_space;        /* If-Embedding-Space */
    const char *request_headers; /* Access-Control-Request-Headers */
    struct accept accept;
    const char *forwarded_for[FORWARDED_LINES_MAX]; /* the last lines, in order */
    size_t n_forwarded;
    const char *repeated;             /* name of a header that may stand once and stood twice */
    bool malformed;                   /* a name or value with bytes that have no place there */
    char trimmed[HEADER_TRIMMED_MAX]; /* values that had white space behind them */
    size_t trimmed_size;
};

enum {
    QUERY_MAX = 512,
    QUERY_ARGS_MAX = 32,
    REQUEST_ID_MAX = 128,
    REMOTE_MAX = 64,
    REPLY_HEADERS_MAX = 16,
    REPLY_HEADER_TEXT_MAX = 2048,
};

struct reply_header {
    const char *name; /* constant */
    const char *value;
};

struct reply {
    int status; /* 0: none yet */
    const char *content_type;
    struct buf body;   /* owned; used where fixed is NULL */
    const char *fixed; /* a body that outlives the exchange or is kept by its state */
    size_t fixed_size;
    struct reply_header headers[REPLY_HEADERS_MAX];
    size_t n_headers;
    char text[REPLY_HEADER_TEXT_MAX]; /* what header values point to */
    size_t text_size;
    bool close; /* end the connection afterwards */
};

struct exchange {
    struct server *server;
    enum listener listener;
    struct conn *conn; /* http/connections.h */
    void *wire;        /* http.c's */
    void (*resume)(struct exchange *x);
    int fd;
    char remote[REMOTE_MAX]; /* "192.0.2.1:4711", "unix" */

    /* Request. */
    enum http_method method;
    const char *method_name; /* as sent; borrowed */
    const char *path;        /* as sent, not unescaped; borrowed */
    char query[QUERY_MAX + 1];
    bool query_long;
    bool http_1_0;
    struct request_headers headers;
    const struct route *route;      /* NULL: none */
    const struct route *path_route; /* of the same path, with whatever method; NULL: none */
    enum metrics_route label;       /* of either */
    bool openai;                    /* problems in OpenAI's form */
    char request_id[REQUEST_ID_MAX + 2];
    char key_id[AUTH_ID_MAX + 1]; /* whose token it was, "" for none */
    unsigned keys_version;        /* of the API keys, when it was checked */
    uint64_t arrived_ns;
    uint64_t timeout_ms;
    bool chunked;
    bool impatient;          /* the client doesn't wait as it was told: its next refusal is late */
    bool distrusted;         /* framing is ambiguous: reply and close at once */
    bool doubtful;           /* framing can't be proved plain: close after the reply */
    bool nul;                /* the header section holds NUL */
    uint64_t content_length; /* of the header; 0 when chunked */
    size_t body_max;         /* ceiling of the body for this route */
    struct buf body;
    struct account account; /* what is held for this request, its answer too */
    uint64_t received;      /* body bytes seen, discarded ones too */

    struct reply reply;
    unsigned retry_after_s;    /* that the reply tells, 0: none */
    enum problem_kind problem; /* what the reply says went wrong, for the log */
    uint64_t replied_ns;
    size_t reply_size;
    bool queued;    /* the reply is on its way */
    bool counted;   /* and in the metrics */
    int raw_status; /* what was answered straight on the socket instead, 0: nothing */

    /* The handler's. */
    struct job *job; /* of a prediction, owned */
    /* Told what has become of the client of a suspended exchange; NULL: does not matter. Any
     * thread; must not block. */
    void (*client_changed)(struct exchange *x, enum policy_client client);
    void *state; /* owned through state_free */
    void (*state_free)(void *state);
};

/* NULL when memory is out. target: the request line's target, as sent. */
struct exchange *exchange_create(struct server *server, const char *target);
void exchange_destroy(struct exchange *x);

/* A request like that of x, whose reply is over, has come: a new id, and no reply. */
void exchange_again(struct exchange *x);

/* Takes one request header; name and value live as long as the exchange. */
void exchange_take_header(struct exchange *x, const char *name, const char *value);

/* How often a query argument stands there. *out gets the last one's value, cut to out_size - 1
 * bytes; "" when absent. */
size_t exchange_query(const struct exchange *x, const char *name, char *out, size_t out_size);

/* Adds a reply header. Values are ours: formatted, short, without control bytes. */
void exchange_header(struct exchange *x, const char *name, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* The reply is x->reply.body with this status and type (NULL for an empty body). */
void exchange_reply(struct exchange *x, int status, const char *content_type);
/* The same for bytes that stay where they are until the exchange ends. */
void exchange_reply_fixed(struct exchange *x, int status, const char *content_type,
                          const void *data, size_t size);
/* A problem in the form of the route: native, or OpenAI's. retry_after_s 0: no such header. */
void exchange_problem(struct exchange *x, const struct problem *problem, unsigned retry_after_s);
void exchange_fail(struct exchange *x, enum problem_kind kind, const char *param, const char *fmt,
                   ...) PRINTF_LIKE(4, 5);

static inline bool exchange_replied(const struct exchange *x)
{
    return x->reply.status != 0;
}

/* Lets the suspended exchange go on: its handler's finish runs on an I/O thread. Any thread, once;
 * touch nothing of x afterwards. */
void exchange_resume(struct exchange *x);

#endif
