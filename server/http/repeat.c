#include "server/http/repeat.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "server/http/accesslog.h"
#include "server/http/intake.h"
#include "server/http/rawreply.h"
#include "server/http/reaper.h"
#include "server/routes/routes.h"

/* After so many refusals in a row one goes the long way, whatever may have changed meanwhile. */
enum { ROW_MAX = 32 };
enum { HEAD_MAX = 2048 };

static const char length_name[] = "\r\nContent-Length:";

static void forget_last(struct repeat *repeat)
{
    exchange_destroy(repeat->last);
    free(repeat->path);
    repeat->last = NULL;
    repeat->path = NULL;
    repeat->row = 0;
}

/* Keeps the head that these bytes begin with, which the framing found plain. */
static void keep_head(struct repeat *repeat, uint64_t number, const char *bytes, size_t size)
{
    forget_last(repeat);
    free(repeat->head);
    repeat->head = NULL;
    const char *end = memmem(bytes, size, "\r\n\r\n", 4);
    size_t head_size = end ? (size_t)(end - bytes) + 4 : 0;
    char *head = head_size <= HEAD_MAX ? malloc(head_size + 1) : NULL;
    if (!head) {
        return;
    }
    memcpy(head, bytes, head_size);
    head[head_size] = '\0';
    const char *number_at = strcasestr(head, length_name);
    if (!number_at) {
        free(head);
        return;
    }
    number_at += strlen(length_name);
    number_at += strspn(number_at, " \t");
    repeat->head = head;
    repeat->head_size = head_size;
    repeat->number = number;
    repeat->number_at = (size_t)(number_at - head);
    repeat->number_size = strspn(number_at, "0123456789");
}

/* Whether the bytes are one request with the head that is kept, whatever number Content-Length has;
 * that number. */
static bool same_head(const struct repeat *repeat, const char *bytes, size_t size,
                      size_t *ret_length)
{
    size_t at = repeat->number_at;
    size_t behind = repeat->number_at + repeat->number_size;
    size_t rest = repeat->head_size - behind;
    size_t length = 0;
    if (size < repeat->head_size || memcmp(bytes, repeat->head, at) != 0) {
        return false;
    }
    for (; at < size && bytes[at] >= '0' && bytes[at] <= '9' && length < size; at++) {
        length = length * 10 + (size_t)(bytes[at] - '0');
    }
    *ret_length = length;
    return size - at >= rest && memcmp(bytes + at, repeat->head + behind, rest) == 0 &&
           size - at - rest == length;
}

static void count(const struct exchange *x, int status)
{
    metrics_request(x->server->metrics, x->label, status, x->replied_ns - x->arrived_ns);
}

/* Called by the reaper, at its time, under its lock. What http.c does with its replies: those of a
 * drain are the last ones, and who reads an answer finds it in the next scrape. */
static void send_refusal(struct exchange *x)
{
    bool last = server_phase(x->server) >= SERVER_DRAINING;
    if (last) {
        exchange_header(x, "Connection", "close");
    }
    x->replied_ns = clock_now_ns();
    x->reply_size = x->reply.body.size;
    x->queued = true;
    x->counted = x->conn->client == CLIENT_WAITS;
    if (x->counted) {
        count(x, x->reply.status);
    }
    bool sent = rawreply_refusal(x);
    int status = x->counted || sent ? x->reply.status : STATUS_CLIENT_GONE;
    if (!x->counted) {
        count(x, status);
    }
    if (last) {
        (void)shutdown(x->fd, SHUT_WR);
    }
    accesslog_write(x, status, sent);
}

/* Whether the token of x may have been revoked since it was checked. */
static bool keys_changed(const struct exchange *x)
{
    return x->keys_version != keyring_version(x->server->api_keys);
}

/* Asks the route about the request that has come again. True where it is refused, late. */
static bool refuse(struct conn *conn, size_t length)
{
    struct exchange *x = conn->repeat.last;
    uint64_t now_ns = clock_now_ns();
    unsigned most = x->server->settings->max_connection_requests;
    if (conn->repeat.row == ROW_MAX || length > x->body_max ||
        !policy_impatient(&conn->patience, now_ns) || server_phase(x->server) != SERVER_READY ||
        (most && conn->requests + 1 >= most) ||
        reaper_phase(conn->repeat.reaper, conn) != CONN_IDLE) {
        return false;
    }
    exchange_again(x);
    x->content_length = length;
    x->received = length;
    x->route->handler->begin(x);
    if (x->problem != PROBLEM_OVERLOADED) {
        return false;
    }
    intake_common_headers(x);
    uint64_t late_ns = policy_refused(&conn->patience, x->retry_after_s, now_ns);
    if (!reaper_keep_back(conn->repeat.reaper, conn, x, now_ns + late_ns)) {
        return false; /* it has ended meanwhile */
    }
    conn->requests++;
    conn->repeat.waiting = true;
    return true;
}

void repeat_make_way(struct conn *conn)
{
    if (conn->repeat.waiting) {
        conn->repeat.waiting = false;
        conn->repeat.off |= reaper_let_go(conn->repeat.reaper, conn);
    }
}

bool repeat_take(struct conn *conn, bool fresh, const char *bytes, size_t size)
{
    struct repeat *repeat = &conn->repeat;
    const struct framing *framing = &conn->framing;
    size_t length;
    if (!repeat->armed || repeat->off || !fresh || framing->state != FRAMING_BETWEEN ||
        framing->begun != conn->requests + 1) {
        return false;
    }
    if (!repeat->last || keys_changed(repeat->last) || !same_head(repeat, bytes, size, &length)) {
        keep_head(repeat, framing->begun, bytes, size);
        return false;
    }
    bool refused = refuse(conn, length);
    repeat->row = refused ? repeat->row + 1 : 0;
    return refused;
}

/* Whether nothing but the head decided about x, and neither its answer nor its line in the log says
 * more than would be said of the next one. */
static bool keepable(const struct conn *conn, const struct exchange *x)
{
    const struct request_headers *headers = &x->headers;
    return conn->repeat.head && conn->repeat.number == conn->requests && x->impatient &&
           x->problem == PROBLEM_OVERLOADED && !x->job && x->counted && x->method == HTTP_POST &&
           x->listener == LISTENER_MAIN && !conn->over_limit && !x->http_1_0 && !x->doubtful &&
           !x->chunked && !x->reply.close && x->route->handler->begin && !headers->origin &&
           !headers->request_id && !headers->traceparent && headers->n_forwarded == 0 &&
           !headers->timeout_ms && !headers->if_space;
}

bool repeat_keep(struct conn *conn, struct reaper *reaper, struct exchange *x)
{
    struct repeat *repeat = &conn->repeat;
    if (x->problem != PROBLEM_OVERLOADED && x->problem != PROBLEM_NONE) {
        forget_last(repeat); /* another answer than it had */
    }
    char *path = !repeat->last && keepable(conn, x) ? strdup(x->path) : NULL;
    if (!path) {
        return false;
    }
    x->path = repeat->path = path;
    x->method_name = "POST";
    x->headers = (struct request_headers){0};
    x->wire = NULL;
    account_shrink(&x->account, 0);
    x->resume = send_refusal;
    repeat->last = x;
    repeat->reaper = reaper;
    return true;
}

void repeat_done(struct conn *conn)
{
    repeat_make_way(conn);
    forget_last(&conn->repeat);
    free(conn->repeat.head);
    conn->repeat.head = NULL;
}
