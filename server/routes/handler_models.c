#include "server/routes/handler_models.h"

#include <string.h>

#include "base/jval.h"
#include "server/queue/engine.h"

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* Model names hold slashes, which some clients send as %2F. */
static bool same_name(const char *escaped, const char *name)
{
    while (*escaped) {
        char c = *escaped++;
        if (c == '%' && hex_digit(escaped[0]) >= 0 && hex_digit(escaped[1]) >= 0) {
            c = (char)(hex_digit(escaped[0]) * 16 + hex_digit(escaped[1]));
            escaped += 2;
        }
        if (c != *name || !c) {
            return false;
        }
        name++;
    }
    return *name == '\0';
}

const char *served_model_name(struct exchange *x)
{
    const char *given = x->server->settings->served_model_name;
    return given ? given : server_engine(x->server)->model->name;
}

static void begin(struct exchange *x)
{
    if (!server_engine(x->server)) {
        exchange_fail(x, PROBLEM_NOT_READY, NULL, "the model is being loaded");
    }
}

static void append_model(struct exchange *x)
{
    struct buf *out = &x->reply.body;
    const char *name = served_model_name(x);
    buf_append_str(out, "{\"id\":");
    jval_append_string(out, name, strlen(name));
    buf_append_str(out, ",\"object\":\"model\",\"created\":0,\"owned_by\":\"orthrus\"}");
}

static bool models(struct exchange *x)
{
    buf_append_str(&x->reply.body, "{\"object\":\"list\",\"data\":[");
    append_model(x);
    buf_append_str(&x->reply.body, "]}");
    exchange_reply(x, 200, "application/json");
    return false;
}

static bool model(struct exchange *x)
{
    if (!same_name(routes_rest(x->route, x->path), served_model_name(x))) {
        exchange_fail(x, PROBLEM_MODEL_UNKNOWN, "model",
                      "no such model; GET /v1/models names the one that is served");
        return false;
    }
    append_model(x);
    exchange_reply(x, 200, "application/json");
    return false;
}

const struct handler handler_models = {.begin = begin, .run = models};
const struct handler handler_model = {.begin = begin, .run = model};
