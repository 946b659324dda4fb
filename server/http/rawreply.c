#include "server/http/rawreply.h"

#include <sys/socket.h>
#include <time.h>

#include "api/problem.h"
#include "base/buf.h"

enum { RAW_MAX = 64 * 1024, REFUSAL_MAX = 8 * 1024 };

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

/* first: a header. */
static void begin_raw(struct buf *out, int status, const char *first, const struct buf *body)
{
    buf_printf(out,
               "HTTP/1.1 %d %s\r\n%s\r\nContent-Length: %zu\r\n"
               "Content-Type: application/json\r\n",
               status, reason(status), first, body->size);
}

/* Headers are those of the reply so far. */
static bool send_raw(const struct exchange *x, struct buf *out, const struct reply *reply,
                     const struct buf *body)
{
    for (size_t i = 0; reply && i < reply->n_headers; i++) {
        buf_append_str(out, reply->headers[i].name);
        buf_append_str(out, ": ");
        buf_append_str(out, reply->headers[i].value);
        buf_append_str(out, "\r\n");
    }
    buf_append_str(out, "\r\n");
    if (x->method != HTTP_HEAD) {
        buf_append(out, body->data, body->size);
    }
    return !buf_failed(out) &&
           send(x->fd, out->data, out->size, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)out->size;
}

static void send_last(const struct exchange *x, int status, const struct reply *reply,
                      const struct buf *body)
{
    struct buf out;
    buf_init(&out, RAW_MAX);
    begin_raw(&out, status, "Connection: close", body);
    buf_printf(&out, "X-Request-Id: %s\r\n", x->request_id);
    (void)send_raw(x, &out, reply, body);
    buf_done(&out);
}

void rawreply_send(struct exchange *x)
{
    x->raw_status = x->reply.status;
    send_last(x, x->reply.status, &x->reply, &x->reply.body);
}

/* The header Date, made once a second. */
static const char *date_header(void)
{
    static _Thread_local char text[40];
    static _Thread_local time_t made;
    time_t now = time(NULL);
    if (now != made) {
        struct tm tm = {0};
        (void)gmtime_r(&now, &tm);
        (void)strftime(text, sizeof text, "Date: %a, %d %b %Y %H:%M:%S GMT", &tm);
        made = now;
    }
    return text;
}

bool rawreply_refusal(const struct exchange *x)
{
    char storage[REFUSAL_MAX];
    struct buf out;
    buf_over(&out, storage, sizeof storage);
    begin_raw(&out, x->reply.status, date_header(), &x->reply.body);
    bool sent = send_raw(x, &out, &x->reply, &x->reply.body);
    if (!sent) {
        (void)shutdown(x->fd, SHUT_RDWR); /* half an answer would be the next one's beginning */
    }
    return sent;
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
    send_last(x, x->raw_status, NULL, &text);
    buf_done(&text);
}
