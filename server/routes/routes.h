/* The one table of routes: path and method → handler and what a request must bring. Constant. */
#ifndef ORTHRUS_SERVER_ROUTES_H
#define ORTHRUS_SERVER_ROUTES_H

#include <stdbool.h>
#include <stddef.h>

#include "api/request.h"
#include "server/exchange/exchange.h"

struct handler {
    /* After the headers and before any byte of the body: may refuse by replying. NULL: no check. */
    void (*begin)(struct exchange *x);
    /* The whole request is there. Replies and returns false, or returns true: the exchange is then
     * suspended and handed to submit. */
    bool (*run)(struct exchange *x);
    /* Gives the suspended exchange to another thread, which calls exchange_resume in the end. Must
     * not touch x after handing it over. */
    void (*submit)(struct exchange *x);
    /* Replies after the resume. */
    void (*finish)(struct exchange *x);
};

enum route_flags {
    ROUTE_PREFIX = 1,       /* the path goes on behind what the table says */
    ROUTE_OPENAI_SHAPE = 2, /* problems in OpenAI's form */
    ROUTE_PROBE = 4,        /* logged at debug level only */
    ROUTE_JSON = 8,         /* the body must say that it is JSON */
    ROUTE_API_KEY = 16,     /* needs a key where --api-key-file is set */
    ROUTE_ADMIN_TOKEN = 32, /* needs an admin token */
    ROUTE_BODY = 64,        /* takes a body */
    ROUTE_NO_STORE = 128,   /* true for this moment alone: no cache may keep the answer */
};

struct route {
    const char *path;
    enum http_method method; /* a GET row answers HEAD too */
    unsigned listeners;      /* enum listener bits */
    unsigned flags;          /* enum route_flags bits */
    enum metrics_route label;
    const struct handler *handler;
    enum api_kind kind; /* of a prediction */
};

/* The row for a path and method, or NULL; *ret_any is a row of that path with whatever method, NULL
 * when there is no such path. */
const struct route *routes_find(enum listener listener, const char *path, enum http_method method,
                                const struct route **ret_any);
/* What follows a ROUTE_PREFIX row's path. */
const char *routes_rest(const struct route *route, const char *path);
/* The methods a path allows, "GET, HEAD, POST", for Allow. */
void routes_allow(enum listener listener, const char *path, bool options, char *out, size_t size);

#endif
