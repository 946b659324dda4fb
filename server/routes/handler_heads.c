#include "server/routes/handler_heads.h"

#include <inttypes.h>
#include <string.h>

#include "base/jval.h"
#include "server/heads/headstore.h"
#include "server/queue/engine.h"

void append_labels(struct buf *out, const struct head *head)
{
    for (size_t k = 0; k < head->classes; k++) {
        buf_append_char(out, k ? ',' : '[');
        jval_append_string(out, head->labels[k], strlen(head->labels[k]));
    }
    buf_append_char(out, ']');
}

static void begin(struct exchange *x)
{
    if (!server_engine(x->server)) {
        exchange_fail(x, PROBLEM_NOT_READY, NULL, "the model is being loaded");
    }
}

static bool run(struct exchange *x)
{
    struct buf *out = &x->reply.body;
    struct heads_version now;
    headstore_acquire(server_engine(x->server)->headstore, &now);
    buf_append_char(out, '[');
    for (size_t i = 0; now.heads && i < now.heads->n; i++) {
        const struct head *head = &now.heads->list[i];
        buf_printf(out,
                   "%s{\"name\":\"%s\",\"kind\":\"%s\",\"input\":\"%s\",\"labels\":", i ? "," : "",
                   head->name, head_type_name(head->type), head_input_name(head->input));
        append_labels(out, head);
        buf_printf(out, ",\"version\":%" PRIu64 "}", now.version);
    }
    buf_append_char(out, ']');
    if (now.heads) {
        exchange_header(x, "X-Heads", "%s", now.id);
    }
    heads_version_release(&now);
    exchange_reply(x, 200, "application/json");
    return false;
}

const struct handler handler_heads = {.begin = begin, .run = run};
