#include "server/http/rawreply.h"

#include <sys/socket.h>

#include "api/problem.h"
#include "base/buf.h"

enum { RAW_MAX = 64 * 1024 };

static const char *reason(int status)
{
    switch (status) {
    case 400:
        return "Bad Request";
    case 401:
        return "Unauthorized";
    case 403:
        return "Forbidden";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 408:
        return "Request Timeout";
    case 413:
        return "Content Too Large";
    case 415:
        return "Unsupported Media Type";
    case 429:
        return "Too Many Requests";
    case 503:
        return "Service Unavailable";
    default:
        return "Error";
    }
}

static void send_raw(const struct exchange *x, int status, const struct reply *reply,
                     const struct buf *body)
{
    struct buf out;
    buf_init(&out, RAW_MAX);
    buf_printf(&out, "HTTP/1.1 %d %s\r\nConnection: close\r\nContent-Length: %zu\r\n", status,
               reason(status), body->size);
    buf_printf(&out, "Content-Type: application/json\r\nX-Request-Id: %s\r\n", x->request_id);
    for (size_t i = 0; reply && i < reply->n_headers; i++) {
        buf_printf(&out, "%s: %s\r\n", reply->headers[i].name, reply->headers[i].value);
    }
    buf_append_str(&out, "\r\n");
    if (x->method != HTTP_HEAD) {
        buf_append(&out, body->data, body->size);
    }
    if (!buf_failed(&out)) {
        (void)send(x->fd, out.data, out.size, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    buf_done(&out);
}

void rawreply_send(struct exchange *x)
{
    x->raw_status = x->reply.status;
    send_raw(x, x->reply.status, &x->reply, &x->reply.body);
}

void rawreply_timeout(struct exchange *x)
{
    struct problem problem = {0};
    struct buf text;
    x->raw_status = problem_row(PROBLEM_BODY_SLOW)->status;
    (void)problem_set(&problem, PROBLEM_BODY_SLOW, NULL, "the request's body took too long");
    buf_init(&text, RAW_MAX / 2);
    if (x->openai) {
        problem_write_openai(&problem, &text);
    } else {
        problem_write(&problem, x->request_id, &text);
    }
    send_raw(x, x->raw_status, NULL, &text);
    buf_done(&text);
}
